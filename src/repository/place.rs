//! Where a chunk lies, as the index knows it.

use crate::crypto::ChunkSort;
use crate::format::frame::Coding;
use crate::format::pack::Footer;
use crate::id::{CHUNK_ID_LEN, ChunkId, PackId};

/// Length of an encoded place in the local cache, in bytes.
pub const PLACE_LEN: usize = 22;

/// A chunk's place in a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Number of the pack in its tier.
    pub pack: u32,
    /// The frame's offset and length in the pack, in bytes.
    pub offset: u32,
    pub frame_len: u32,
    /// Number of the body in the frame, and of the chunk in the body.
    pub body: u16,
    pub slot: u16,
    /// Plain bytes.
    pub len: u32,
    /// Versions since the last whole copy, and steps to it.
    pub version: u8,
    pub depth: u8,
}

impl Place {
    pub fn encode(&self) -> [u8; PLACE_LEN] {
        let mut out = [0; PLACE_LEN];
        out[..4].copy_from_slice(&self.pack.to_le_bytes());
        out[4..8].copy_from_slice(&self.offset.to_le_bytes());
        out[8..12].copy_from_slice(&self.frame_len.to_le_bytes());
        out[12..14].copy_from_slice(&self.body.to_le_bytes());
        out[14..16].copy_from_slice(&self.slot.to_le_bytes());
        out[16..20].copy_from_slice(&self.len.to_le_bytes());
        out[20] = self.version;
        out[21] = self.depth;
        out
    }

    pub fn decode(b: &[u8; PLACE_LEN]) -> Self {
        let word = |i: usize| u32::from_le_bytes([b[i], b[i + 1], b[i + 2], b[i + 3]]);
        Place {
            pack: word(0),
            offset: word(4),
            frame_len: word(8),
            body: u16::from_le_bytes([b[12], b[13]]),
            slot: u16::from_le_bytes([b[14], b[15]]),
            len: word(16),
            version: b[20],
            depth: b[21],
        }
    }
}

/// A pack as the index knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackInfo {
    pub id: PackId,
    /// Bytes of the file.
    pub size: u64,
    /// Data and metadata never share a pack.
    pub sort: ChunkSort,
    /// Plain bytes of all its chunks.
    pub raw: u64,
}

/// One chunk with the bases it needs; the raw material of tiers.
#[derive(Clone, Debug)]
pub struct Listed {
    pub id: ChunkId,
    pub place: Place,
    /// Empty for chunks that need no history.
    pub bases: Vec<ChunkId>,
}

/// Everything a footer says about its chunks, as entries of pack number `pack`. Returns their plain bytes.
pub fn list_footer(footer: &Footer, pack: u32, out: &mut Vec<Listed>) -> u64 {
    let mut raw = 0;
    for frame in &footer.frames {
        for (b, body) in frame.table.bodies.iter().enumerate() {
            let bases = match &body.coding {
                Coding::Prefix(prefix) => prefix.bases.as_slice(),
                _ => &[],
            };
            for (slot, chunk) in body.chunks.iter().enumerate() {
                let (Ok(body_no), Ok(slot)) = (u16::try_from(b), u16::try_from(slot)) else { continue };
                let place = Place {
                    pack,
                    offset: frame.offset,
                    frame_len: frame.len,
                    body: body_no,
                    slot,
                    len: chunk.len,
                    version: chunk.version,
                    depth: body.depth(),
                };
                raw += u64::from(chunk.len);
                out.push(Listed { id: chunk.id, place, bases: bases.to_vec() });
            }
        }
    }
    raw
}

/// Sorts by id, copies of one chunk by the length of their history, then by place.
pub fn sort(listed: &mut [Listed]) {
    listed.sort_unstable_by_key(|l| {
        (l.id, l.place.depth, l.place.pack, l.place.offset, l.place.body, l.place.slot)
    });
}

/// Base ids one after another, as the cache stores them.
pub fn encode_bases(bases: &[ChunkId]) -> Vec<u8> {
    bases.iter().flat_map(|b| b.0).collect()
}

pub fn decode_bases(bytes: &[u8]) -> Vec<ChunkId> {
    bytes.chunks_exact(CHUNK_ID_LEN).filter_map(ChunkId::from_slice).collect()
}
