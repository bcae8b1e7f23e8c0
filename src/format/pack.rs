//! Pack files: header, frames, sealed footer, trailer.
//!
//! Bytes: `format-spec/2-packs.md`.

use super::codec::{Reader, put_varint};
use super::frame::{FRAME_OVERHEAD, FrameTable};
use super::{HEADER_LEN, limit};
use crate::error::{Error, Result};

/// Length of the trailer: offset of the footer, length of the file, BLAKE3 of all before the trailer.
pub const TRAILER_LEN: usize = 48;

/// One frame as the footer lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameEntry {
    /// From the start of the pack, in bytes.
    pub offset: u32,
    /// The whole frame with header and tag, in bytes.
    pub len: u32,
    pub table: FrameTable,
}

/// All frames of a pack, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Footer {
    pub frames: Vec<FrameEntry>,
}

impl Footer {
    /// Offsets are implied: the first frame follows the header, the others follow one another.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, self.frames.len() as u64);
        for frame in &self.frames {
            put_varint(&mut out, u64::from(frame.len));
            frame.table.encode(&mut out);
        }
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut r = Reader::new(bytes, "a pack's footer");
        let footer = Footer::read(&mut r)?;
        r.end()?;
        Ok(footer)
    }

    fn read(r: &mut Reader<'_>) -> Result<Self> {
        let count = r.count(2)?;
        let mut frames = Vec::with_capacity(count.min(65_536));
        let mut offset = HEADER_LEN as u64;
        for _ in 0..count {
            let len = r.bounded((limit::FRAME_BYTES_MAX + FRAME_OVERHEAD) as u64)?;
            if len < FRAME_OVERHEAD as u64 || offset + len > limit::PACK_BYTES_MAX {
                return Err(r.fail("a frame lies outside its pack"));
            }
            let table = FrameTable::decode(r)?;
            frames.push(FrameEntry { offset: offset as u32, len: len as u32, table });
            offset += len;
        }
        Ok(Footer { frames })
    }

    /// Where the footer's own frame begins.
    pub fn end(&self) -> u64 {
        self.frames.last().map_or(HEADER_LEN as u64, |f| u64::from(f.offset) + u64::from(f.len))
    }
}

/// The last bytes of a pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trailer {
    pub footer_offset: u64,
    pub file_len: u64,
    /// Plain BLAKE3-256 of everything before the trailer.
    pub hash: [u8; 32],
}

impl Trailer {
    pub fn encode(&self) -> [u8; TRAILER_LEN] {
        let mut out = [0; TRAILER_LEN];
        out[..8].copy_from_slice(&self.footer_offset.to_le_bytes());
        out[8..16].copy_from_slice(&self.file_len.to_le_bytes());
        out[16..].copy_from_slice(&self.hash);
        out
    }

    /// Reads the last `TRAILER_LEN` bytes of a pack that is `file_len` bytes long.
    pub fn decode(bytes: &[u8], file_len: u64) -> Result<Self> {
        let mut r = Reader::new(bytes, "a pack's trailer");
        let trailer = Trailer { footer_offset: r.u64()?, file_len: r.u64()?, hash: r.bytes32()? };
        r.end()?;
        if trailer.file_len != file_len {
            return Err(Error::corrupt(format!(
                "a pack of {file_len} bytes that was written with {} bytes",
                trailer.file_len
            )));
        }
        let earliest = HEADER_LEN as u64;
        let latest = file_len.checked_sub((TRAILER_LEN + FRAME_OVERHEAD) as u64);
        if trailer.footer_offset < earliest || latest.is_none_or(|l| trailer.footer_offset > l) {
            return Err(Error::corrupt("a pack's footer lies outside the pack"));
        }
        Ok(trailer)
    }
}
