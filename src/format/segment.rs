//! Index segments: the footers of many packs in one stored file.
//!
//! Bytes: `format-spec/3-index.md`, "Segments".

use super::codec::{Reader, put_string, put_varint};
use super::frame::{FRAME_OVERHEAD, FrameKind};
use super::limit;
use super::pack::{Footer, TRAILER_LEN};
use crate::error::Result;
use crate::id::{NAME_LEN, Name, PackId};

/// What a segment takes beside its packs' entries, superseded segments not counted, in bytes: an upper bound.
pub const SEGMENT_BASE: usize = super::HEADER_LEN + FRAME_OVERHEAD + 10;

/// What the footer of one pack says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackFooter {
    pub pack: PackId,
    /// Of all frames of the pack: `Data` or `Meta`.
    pub kind: FrameKind,
    pub footer: Footer,
}

impl PackFooter {
    /// The size that a pack with this footer has.
    pub fn pack_size(&self) -> u64 {
        // Offset of the footer's frame, the frame, the trailer.
        self.footer.end() + (FRAME_OVERHEAD + self.footer.encode().len() + TRAILER_LEN) as u64
    }

    /// Whether a segment may list it. Frames without bodies, which no writer makes, would take far more memory than
    /// they take room.
    pub fn is_listable(&self) -> bool {
        let frames = &self.footer.frames;
        !frames.is_empty()
            && frames.iter().all(|frame| !frame.table.bodies.is_empty())
            && self.pack_size() <= limit::PACK_BYTES_MAX
    }

    /// Bytes of this entry in a segment, at most.
    pub fn encoded_len(&self) -> usize {
        NAME_LEN + 1 + 5 + self.footer.encode().len()
    }
}

/// Footers of packs, each pack once, and the names of segments that hold nothing else than these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Ascending.
    pub supersedes: Vec<Name>,
    /// In ascending order of the packs' names.
    pub packs: Vec<PackFooter>,
}

impl Segment {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, self.supersedes.len() as u64);
        for name in &self.supersedes {
            out.extend_from_slice(&name.0);
        }
        put_varint(&mut out, self.packs.len() as u64);
        for entry in &self.packs {
            out.extend_from_slice(&entry.pack.0);
            out.push(entry.kind as u8);
            put_string(&mut out, &entry.footer.encode());
        }
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut r = Reader::new(bytes, "an index segment");
        let count = r.count(NAME_LEN)?;
        if count > limit::SEGMENT_COUNT_MAX {
            return Err(r.fail("supersedes too many others"));
        }
        let mut supersedes = Vec::with_capacity(count);
        for _ in 0..count {
            let name = r.name()?;
            if supersedes.last().is_some_and(|last| *last >= name) {
                return Err(r.fail("names others out of order"));
            }
            supersedes.push(name);
        }
        // A name, a kind, and a footer of one byte at least with its length.
        let count = r.count(NAME_LEN + 3)?;
        if count == 0 || count > limit::SEGMENT_COUNT_MAX {
            return Err(r.fail("lists no packs or too many"));
        }
        let mut packs: Vec<PackFooter> = Vec::with_capacity(count.min(4096));
        for _ in 0..count {
            let entry = read_entry(&mut r)?;
            if packs.last().is_some_and(|last| last.pack >= entry.pack) {
                return Err(r.fail("lists packs out of order"));
            }
            packs.push(entry);
        }
        r.end()?;
        Ok(Segment { supersedes, packs })
    }
}

fn read_entry(r: &mut Reader<'_>) -> Result<PackFooter> {
    let pack = r.name()?;
    let kind = match FrameKind::from_byte(r.u8()?) {
        Some(kind @ (FrameKind::Data | FrameKind::Meta)) => kind,
        _ => return Err(r.fail("lists a pack of no known sort")),
    };
    let footer = Footer::decode(r.string(limit::SEGMENT_BYTES_MAX as usize)?)?;
    let entry = PackFooter { pack, kind, footer };
    match entry.is_listable() {
        true => Ok(entry),
        false => Err(r.fail("lists a pack that is empty or too large")),
    }
}
