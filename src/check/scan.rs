//! The forward scan: what is still readable in a pack whose footer cannot be used.

use crate::backend::Backend;
use crate::crypto::{ChunkSort, Keyring};
use crate::error::{Error, Result};
use crate::format::frame::{FRAME_HEADER_LEN, FRAME_OVERHEAD, FrameKind, FrameTable, decode_frame_header};
use crate::format::pack::FrameEntry;
use crate::format::{FileName, HEADER_LEN, limit};
use crate::id::PackId;
use crate::repository::frames::Frame;

/// Sealed bytes tried in vain before the search for the next intact frame is given up: what looks like a frame's
/// header by chance is rare, what looks like one by malice is not.
const WASTE_MAX: u64 = 1 << 30;

/// What a forward scan of a pack found.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    /// Intact frames in order, with the sort of their chunks.
    pub frames: Vec<(ChunkSort, FrameEntry)>,
    /// Stretches between the file's header and its end that are no intact frame: offset and length.
    pub gaps: Vec<(u64, u64)>,
    /// Whether a footer was found behind the frames, intact by itself.
    pub footer: bool,
}

impl Scan {
    pub fn chunks(&self) -> u64 {
        let per_frame = |t: &FrameTable| t.bodies.iter().map(|b| b.chunks.len() as u64).sum::<u64>();
        self.frames.iter().map(|(_, entry)| per_frame(&entry.table)).sum()
    }
}

/// Reads a pack of `size` bytes from its beginning, frame by frame; behind a damaged one, looks for the next.
///
/// Holds the pack in memory, so packs are scanned one at a time.
pub fn scan_pack(backend: &dyn Backend, keyring: &Keyring, id: PackId, size: u64) -> Result<Scan> {
    let name = FileName::Pack(id);
    if size > limit::PACK_BYTES_MAX {
        return Err(Error::corrupt(format!("{name} is larger than any pack")));
    }
    Ok(scan_bytes(keyring, &backend.read(&name, limit::PACK_BYTES_MAX)?))
}

/// As `scan_pack`, for the bytes of a pack.
pub fn scan_bytes(keyring: &Keyring, bytes: &[u8]) -> Scan {
    let mut scan = Scan::default();
    let (mut at, mut gap, mut waste) = (HEADER_LEN, HEADER_LEN, 0u64);
    while let Some(rest) = bytes.get(at..).filter(|rest| rest.len() >= FRAME_OVERHEAD) {
        match frame_at(keyring, rest, &mut waste) {
            Some((found, len)) => {
                if gap < at {
                    scan.gaps.push((gap as u64, (at - gap) as u64));
                }
                match found {
                    Some((sort, table)) => {
                        scan.frames.push((sort, FrameEntry { offset: at as u32, len: len as u32, table }));
                    }
                    None => scan.footer = true,
                }
                at += len;
                gap = at;
            }
            None if waste > WASTE_MAX => break,
            None => at += 1,
        }
    }
    // Behind the footer stands the trailer; anything else there is a gap.
    let trailer = if scan.footer { crate::format::pack::TRAILER_LEN } else { 0 };
    if gap + trailer < bytes.len() {
        scan.gaps.push((gap as u64, (bytes.len() - gap) as u64));
    }
    scan
}

type Found = (Option<(ChunkSort, FrameTable)>, usize);

/// The intact frame that begins here, if one does; `None` inside for a footer.
fn frame_at(keyring: &Keyring, rest: &[u8], waste: &mut u64) -> Option<Found> {
    let (kind, len) = decode_frame_header(rest.get(..FRAME_HEADER_LEN)?).ok()?;
    let sort = match kind {
        FrameKind::Data => Some(ChunkSort::Content),
        FrameKind::Meta => Some(ChunkSort::Manifest),
        FrameKind::Footer => None,
        _ => return None,
    };
    let sealed = rest.get(..len)?;
    let opened = match sort {
        Some(sort) => Frame::open(keyring, sort, sealed.to_vec()).map(|f| Some((sort, f.table().clone()))),
        None => keyring.unseal(FrameKind::Footer, sealed).map(|_| None),
    };
    match opened {
        Ok(found) => Some((found, len)),
        Err(_) => {
            *waste += len as u64;
            None
        }
    }
}
