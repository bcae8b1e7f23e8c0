//! A pack's footer, read from the end of its file.

use crate::backend::Backend;
use crate::crypto::{ChunkSort, Keyring};
use crate::error::{Error, Result};
use crate::format::frame::{FRAME_HEADER_LEN, FrameKind, decode_frame_header};
use crate::format::pack::{Footer, TRAILER_LEN, Trailer};
use crate::format::{FileName, HEADER_LEN, decode_header, limit};
use crate::id::PackId;

/// A pack's footer and sort, read from its end.
pub fn read_footer(
    backend: &dyn Backend,
    keyring: &Keyring,
    id: PackId,
    size: u64,
) -> Result<(Footer, ChunkSort)> {
    let name = FileName::Pack(id);
    if size < (HEADER_LEN + TRAILER_LEN) as u64 || size > limit::PACK_BYTES_MAX {
        return Err(Error::corrupt(format!("{name} has an impossible size of {size} bytes")));
    }
    let header = backend.read_range(&name, 0, HEADER_LEN + FRAME_HEADER_LEN)?;
    decode_header(&header, &name, Some(keyring.repository()))?;
    let (first, _) = decode_frame_header(&header[HEADER_LEN..]).map_err(|e| e.context(name))?;
    let sort = match first {
        FrameKind::Data => ChunkSort::Content,
        FrameKind::Meta => ChunkSort::Manifest,
        _ => return Err(Error::corrupt(format!("{name} does not begin with a frame of chunks"))),
    };
    let trailer = backend.read_range(&name, size - TRAILER_LEN as u64, TRAILER_LEN)?;
    let trailer = Trailer::decode(&trailer, size).map_err(|e| e.context(name))?;
    let len = (size - TRAILER_LEN as u64 - trailer.footer_offset) as usize;
    let mut frame = backend.read_range(&name, trailer.footer_offset, len)?;
    let plain = keyring.unseal_in_place(FrameKind::Footer, &mut frame).map_err(|e| e.context(name))?;
    let footer = Footer::decode(&frame[plain]).map_err(|e| e.context(name))?;
    if footer.end() != trailer.footer_offset {
        return Err(Error::corrupt(format!("{name}: the footer does not fit the pack")));
    }
    Ok((footer, sort))
}
