//! From plain chunks to sealed frames: solid bodies, changed chunks against their history, all decoded again and
//! compared before they leave memory.

use super::frames::frame_head;
use super::reader::Past;
use super::writer::DeltaPolicy;
use crate::compress::{Compressor, Decompressor, Kind, Level, compress_with_prefix, decompress_with_prefix};
use crate::crypto::{ChunkSort, Keyring};
use crate::error::{Error, Result};
use crate::format::frame::{Body, ChunkInfo, Coding, FrameTable, Prefix};
use crate::id::ChunkId;
use std::sync::Arc;

/// A chunk of at least this many bytes has a body to itself.
const OWN_BODY_BYTES: usize = 512 << 10;
/// Stored bytes of changed chunks that close a frame.
const DELTA_FRAME_BYTES: usize = 64 << 10;
/// Plain bytes that close a frame of any kind: together with a last body far below what readers refuse.
const FRAME_PLAIN_BYTES: usize = 16 << 20;
/// Chunks in a body and bodies in a frame are counted with 16 bits in the cache.
const COUNT_MAX: usize = 32_768;

/// A finished frame and what it holds.
pub struct SealedFrame {
    pub sort: ChunkSort,
    pub bytes: Vec<u8>,
    pub table: FrameTable,
}

/// The history a changed chunk is stored against.
pub struct History {
    pub bases: Vec<ChunkId>,
    /// The bases' plain bytes, one after another.
    pub bytes: Past,
    /// The new chunk's own version count.
    pub version: u8,
    pub depth: u8,
    pub closure: u64,
    /// What the chunk would take if stored whole, estimated, in bytes.
    pub whole: usize,
}

/// A body under way.
#[derive(Default)]
struct Solid {
    plain: Vec<u8>,
    chunks: Vec<ChunkInfo>,
}

/// Collects chunks of one sort into frames; one for each thread.
pub struct FrameBuilder {
    sort: ChunkSort,
    level: Level,
    keyring: Arc<Keyring>,
    compressor: Compressor,
    decompressor: Decompressor,
    /// What was decoded again, for comparison; its memory is used over and over.
    again: Vec<u8>,
    /// One body under way for each kind of content, and the plain bytes and chunks of all of them.
    solid: [Solid; Kind::COUNT],
    solid_bytes: usize,
    solid_chunks: usize,
    bodies: Vec<Body>,
    stored: Vec<u8>,
    raw: usize,
    delta: usize,
}

impl FrameBuilder {
    pub fn new(sort: ChunkSort, level: Level, keyring: Arc<Keyring>) -> Result<Self> {
        Ok(FrameBuilder {
            sort,
            level,
            keyring,
            compressor: Compressor::new(level)?,
            decompressor: Decompressor::new()?,
            again: Vec::new(),
            solid: Default::default(),
            solid_bytes: 0,
            solid_chunks: 0,
            bodies: Vec::new(),
            stored: Vec::new(),
            raw: 0,
            delta: 0,
        })
    }

    /// Adds a chunk that stands by itself, in a body of at most `solid` plain bytes if it shares one; returns a frame when
    /// one is full.
    pub fn add(&mut self, id: ChunkId, plain: &[u8], solid: usize) -> Result<Option<SealedFrame>> {
        let chunk = ChunkInfo { id, len: plain.len() as u32, version: 0 };
        let kind = Kind::of(plain);
        if plain.len() >= OWN_BODY_BYTES {
            self.push_body(vec![chunk], kind, plain)?;
        } else {
            let own = self.solid[kind as usize].plain.len() + plain.len();
            if self.solid_bytes + plain.len() > self.level.body_bytes
                || own > solid
                || self.solid_chunks >= COUNT_MAX
            {
                self.finish_solid()?;
            }
            let solid = &mut self.solid[kind as usize];
            solid.plain.extend_from_slice(plain);
            solid.chunks.push(chunk);
            self.solid_bytes += plain.len();
            self.solid_chunks += 1;
        }
        self.close_if_full()
    }

    /// Adds a changed chunk against its history. `false` and nothing added when that takes more of what a whole copy
    /// would than the policy allows.
    pub fn add_changed(
        &mut self,
        id: ChunkId,
        plain: &[u8],
        history: &History,
        policy: DeltaPolicy,
    ) -> Result<(bool, Option<SealedFrame>)> {
        let start = self.stored.len();
        compress_with_prefix(plain, &history.bytes, policy.search, &mut self.stored)?;
        let stored_len = self.stored.len() - start;
        if stored_len * 100 > history.whole.max(64) * usize::from(policy.rebase_percent) {
            self.stored.truncate(start);
            return Ok((false, None));
        }
        let again = decompress_with_prefix(&self.stored[start..], &history.bytes, plain.len())?;
        self.compare(&again, plain)?;
        self.bodies.push(Body {
            coding: Coding::Prefix(Prefix {
                bases: history.bases.clone(),
                len: history.bytes.len() as u32,
                depth: history.depth,
                closure: history.closure,
            }),
            stored_len: stored_len as u32,
            chunks: vec![ChunkInfo { id, len: plain.len() as u32, version: history.version }],
        });
        self.raw += plain.len();
        self.delta += stored_len;
        Ok((true, self.close_if_full()?))
    }

    /// Adds a body as another frame holds it.
    pub fn add_stored(&mut self, body: Body, stored: &[u8]) -> Result<Option<SealedFrame>> {
        if body.stored_len as usize != stored.len() {
            return Err(Error::corrupt("a body has another length than its table says"));
        }
        self.raw += body.raw_len();
        if matches!(body.coding, Coding::Prefix(_)) {
            self.delta += stored.len();
        }
        self.stored.extend_from_slice(stored);
        self.bodies.push(body);
        self.close_if_full()
    }

    /// What is left, as a last frame.
    pub fn finish(&mut self) -> Result<Option<SealedFrame>> {
        self.finish_solid()?;
        if self.bodies.is_empty() { Ok(None) } else { self.close().map(Some) }
    }

    fn close_if_full(&mut self) -> Result<Option<SealedFrame>> {
        let deltas = self.bodies.iter().any(|b| matches!(b.coding, Coding::Prefix(_)));
        let full = match deltas {
            // Frames of changed chunks may hold many plain bytes: what counts is what a reader must fetch.
            true => self.delta >= DELTA_FRAME_BYTES || self.stored.len() >= self.level.body_bytes,
            false => self.raw + OWN_BODY_BYTES > self.level.body_bytes,
        };
        let full = full || self.raw >= FRAME_PLAIN_BYTES || self.bodies.len() >= COUNT_MAX - 1;
        if full { self.close().map(Some) } else { Ok(None) }
    }

    /// Bodies of all kinds, into one frame: what was next to each other in the source stays near.
    fn finish_solid(&mut self) -> Result<()> {
        for kind in Kind::ALL {
            let solid = &mut self.solid[kind as usize];
            if solid.chunks.is_empty() {
                continue;
            }
            let chunks = std::mem::take(&mut solid.chunks);
            let plain = std::mem::take(&mut solid.plain);
            let result = self.push_body(chunks, kind, &plain);
            let solid = &mut self.solid[kind as usize];
            solid.plain = plain;
            solid.plain.clear();
            result?;
        }
        (self.solid_bytes, self.solid_chunks) = (0, 0);
        Ok(())
    }

    fn push_body(&mut self, chunks: Vec<ChunkInfo>, kind: Kind, plain: &[u8]) -> Result<()> {
        let start = self.stored.len();
        let coding = if self.compressor.compress(plain, kind, chunks.len(), &mut self.stored)? {
            let mut again = std::mem::take(&mut self.again);
            self.decompressor.decompress_into(&self.stored[start..], plain.len(), &mut again)?;
            self.compare(&again, plain)?;
            self.again = again;
            Coding::Zstd
        } else {
            self.stored.extend_from_slice(plain);
            Coding::Raw
        };
        let stored_len = (self.stored.len() - start) as u32;
        self.raw += plain.len();
        self.bodies.push(Body { coding, stored_len, chunks });
        Ok(())
    }

    /// Compressors have produced wrong output before, and memory has flipped bits: nothing unproved is stored.
    fn compare(&self, again: &[u8], plain: &[u8]) -> Result<()> {
        if again == plain {
            return Ok(());
        }
        Err(Error::corrupt(
            "a chunk did not survive compression; this machine's memory or processor is not reliable",
        ))
    }

    fn close(&mut self) -> Result<SealedFrame> {
        let table = FrameTable { bodies: std::mem::take(&mut self.bodies) };
        let salt = super::random::bytes::<16>()?;
        let head = frame_head(&table);
        let bytes = self.keyring.seal_parts(self.sort.frame_kind(), &[&head, &self.stored], &salt)?;
        self.stored.clear();
        self.raw = 0;
        self.delta = 0;
        Ok(SealedFrame { sort: self.sort, bytes, table })
    }
}
