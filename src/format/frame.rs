//! Frames: sealed containers of bodies, and the table that says which chunks a frame holds.
//!
//! Bytes: `format-spec/2-packs.md`.

use super::codec::{Reader, put_varint};
use super::limit;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{CHUNK_ID_LEN, ChunkId};

/// Length of a frame's plain header, in bytes.
pub const FRAME_HEADER_LEN: usize = 8;
/// Salt, synthetic value and tag: what sealing adds to a frame's plain bytes, header included.
pub const FRAME_OVERHEAD: usize = FRAME_HEADER_LEN + 16 + 32 + 16;

/// What a frame holds; bound to it by the seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum FrameKind {
    /// Bodies of file content.
    Data = 1,
    /// Bodies of manifest groups, stat columns, roots and content lists.
    Meta = 2,
    /// The list of a pack's frames.
    Footer = 3,
    /// Who opened a session.
    Session = 4,
    /// A snapshot record: what commits a session.
    Snapshot = 5,
    /// A record about a snapshot.
    Note = 6,
    /// Footers of many packs.
    Segment = 7,
    /// Names of packs about to be deleted.
    Condemned = 8,
    /// Sums of a pack's shards and of those that mend them.
    Parity = 9,
}

impl FrameKind {
    pub fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => FrameKind::Data,
            2 => FrameKind::Meta,
            3 => FrameKind::Footer,
            4 => FrameKind::Session,
            5 => FrameKind::Snapshot,
            6 => FrameKind::Note,
            7 => FrameKind::Segment,
            8 => FrameKind::Condemned,
            9 => FrameKind::Parity,
            _ => return None,
        })
    }
}

/// The eight plain bytes in front of every frame: kind, version, two zeros, length of the sealed bytes.
pub fn encode_frame_header(kind: FrameKind, sealed_len: usize) -> [u8; FRAME_HEADER_LEN] {
    let mut out = [0; FRAME_HEADER_LEN];
    out[0] = kind as u8;
    out[1] = super::FORMAT_VERSION;
    out[4..].copy_from_slice(&(sealed_len as u32).to_le_bytes());
    out
}

/// The kind of the frame that begins here and the length of the whole frame.
pub fn decode_frame_header(bytes: &[u8]) -> Result<(FrameKind, usize)> {
    let bad = |why: &str| Error::corrupt(format!("a frame's header {why}"));
    let header = bytes.get(..FRAME_HEADER_LEN).ok_or_else(|| bad("is cut short"))?;
    // Before all else: a later version may mean anything by the other bytes.
    if header[1] > super::FORMAT_VERSION {
        let what =
            format!("a frame of format {} was written by a newer snapkeep; update this program", header[1]);
        return Err(Error::new(ErrorKind::Unsupported, what));
    }
    let kind = FrameKind::from_byte(header[0]).ok_or_else(|| bad("names no known kind"))?;
    if header[1] == 0 || header[2..4] != [0, 0] {
        return Err(bad("is damaged"));
    }
    let len = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
    if len > limit::SEGMENT_BYTES_MAX as usize {
        return Err(bad("states an impossible length"));
    }
    Ok((kind, len + FRAME_OVERHEAD))
}

/// One chunk inside a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkInfo {
    pub id: ChunkId,
    /// Plain bytes.
    pub len: u32,
    /// Versions since the last whole copy; 0 for a whole copy.
    pub version: u8,
}

/// The history a body was compressed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Chunks whose plain bytes, in this order, stand before the body's own.
    pub bases: Vec<ChunkId>,
    /// Sum of the bases' lengths, in bytes.
    pub len: u32,
    /// Steps to a whole copy when it was written (1 or more).
    pub depth: u8,
    /// All bytes to decode, this body and every base's body included, when it was written.
    pub closure: u64,
}

/// How a body's bytes are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Coding {
    /// As they are.
    Raw,
    /// One zstd frame.
    Zstd,
    /// One zstd frame that needs a history.
    Prefix(Prefix),
}

/// One body: consecutive chunks in one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    pub coding: Coding,
    /// Bytes in the frame.
    pub stored_len: u32,
    pub chunks: Vec<ChunkInfo>,
}

impl Body {
    /// Plain bytes of all its chunks.
    pub fn raw_len(&self) -> usize {
        self.chunks.iter().map(|c| c.len as usize).sum()
    }

    pub fn depth(&self) -> u8 {
        match &self.coding {
            Coding::Prefix(p) => p.depth,
            _ => 0,
        }
    }
}

/// Which bodies and chunks a frame holds, in order. Stands in the frame and once more in the pack's footer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FrameTable {
    pub bodies: Vec<Body>,
}

impl FrameTable {
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.bodies.len() as u64);
        for body in &self.bodies {
            out.push(match body.coding {
                Coding::Raw => 0,
                Coding::Zstd => 1,
                Coding::Prefix(_) => 2,
            });
            put_varint(out, u64::from(body.stored_len));
            put_varint(out, body.chunks.len() as u64);
            for chunk in &body.chunks {
                put_varint(out, u64::from(chunk.len));
            }
            for chunk in &body.chunks {
                out.extend_from_slice(&chunk.id.0);
            }
            if let Coding::Prefix(prefix) = &body.coding {
                for chunk in &body.chunks {
                    out.push(chunk.version);
                }
                out.push(prefix.depth);
                put_varint(out, prefix.closure);
                put_varint(out, u64::from(prefix.len));
                put_varint(out, prefix.bases.len() as u64);
                for base in &prefix.bases {
                    out.extend_from_slice(&base.0);
                }
            }
        }
    }

    /// Reads a table and checks every limit; the bodies' stored lengths are checked by whoever holds the frame.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let count = r.count(4)?;
        if count > limit::FRAME_COUNT_MAX {
            return Err(r.fail("too many bodies"));
        }
        let mut bodies = Vec::with_capacity(count.min(4096));
        let mut plain = 0;
        for _ in 0..count {
            let body = decode_body(r)?;
            plain += body.raw_len();
            if plain > limit::FRAME_PLAIN_BYTES_MAX {
                return Err(r.fail("a frame is too large"));
            }
            bodies.push(body);
        }
        Ok(FrameTable { bodies })
    }
}

fn decode_body(r: &mut Reader<'_>) -> Result<Body> {
    let coding = r.u8()?;
    let stored_len = r.bounded(limit::FRAME_BYTES_MAX as u64)? as u32;
    let count = r.count(1 + CHUNK_ID_LEN)?;
    if count == 0 || count > limit::FRAME_COUNT_MAX {
        return Err(r.fail("a body without chunks or with too many"));
    }
    let mut raw_len = 0usize;
    let mut lens = Vec::with_capacity(count);
    for _ in 0..count {
        let len = r.bounded(limit::CHUNK_BYTES_MAX as u64)? as u32;
        raw_len = raw_len.saturating_add(len as usize);
        lens.push(len);
    }
    if raw_len > limit::BODY_BYTES_MAX {
        return Err(r.fail("a body is too large"));
    }
    let mut chunks = Vec::with_capacity(count);
    for len in lens {
        chunks.push(ChunkInfo { id: r.chunk_id()?, len, version: 0 });
    }
    let coding = match coding {
        0 if stored_len as usize != raw_len => return Err(r.fail("a raw body with two lengths")),
        0 => Coding::Raw,
        1 => Coding::Zstd,
        2 => Coding::Prefix(decode_prefix(r, &mut chunks)?),
        _ => return Err(r.fail("an unknown coding")),
    };
    Ok(Body { coding, stored_len, chunks })
}

fn decode_prefix(r: &mut Reader<'_>, chunks: &mut [ChunkInfo]) -> Result<Prefix> {
    for chunk in chunks.iter_mut() {
        chunk.version = r.u8()?;
        if chunk.version == 0 {
            return Err(r.fail("a changed chunk counted as whole"));
        }
    }
    let depth = r.u8()?;
    let closure = r.varint()?;
    let len = r.bounded(limit::PREFIX_BYTES_MAX as u64)? as u32;
    let count = r.count(CHUNK_ID_LEN)?;
    if depth == 0 || count == 0 {
        return Err(r.fail("a history without bases"));
    }
    if depth > limit::DEPTH_MAX || closure > limit::CLOSURE_BYTES_MAX {
        return Err(r.fail("a history is too deep or too large"));
    }
    let mut bases = Vec::with_capacity(count);
    for _ in 0..count {
        let base = r.chunk_id()?;
        if chunks.iter().any(|c| c.id == base) {
            return Err(r.fail("a chunk is its own base"));
        }
        bases.push(base);
    }
    Ok(Prefix { bases, len, depth, closure })
}
