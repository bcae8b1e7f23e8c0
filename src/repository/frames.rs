//! Frames at work: unsealed, their tables read, their bodies expanded when first asked for.

use super::reader::Past;
use crate::compress::{Decompressor, decompress_with_prefix};
use crate::crypto::{ChunkSort, Keyring};
use crate::error::{Error, Result};
use crate::format::codec::{Reader as Codec, put_varint};
use crate::format::frame::{Coding, FrameTable};
use crate::format::limit;
use crate::id::ChunkId;
use std::cell::RefCell;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

thread_local! {
    static DECOMPRESSOR: RefCell<Option<Decompressor>> = const { RefCell::new(None) };
}

/// Supplies the plain bytes of some bases, so many in all, as one string.
pub type GiveHistory<'a> = dyn FnMut(&[ChunkId], u32) -> Result<Past> + 'a;

/// An unsealed frame; bodies are expanded when first asked for.
pub struct Frame {
    pub(super) plain: Vec<u8>,
    pub(super) table: FrameTable,
    /// Where each body's stored bytes lie in `plain`.
    stored: Vec<Range<usize>>,
    pub(super) expanded: Vec<OnceLock<Arc<Vec<u8>>>>,
}

/// The plain bytes in front of a frame's bodies: length of the table, the table.
pub fn frame_head(table: &FrameTable) -> Vec<u8> {
    let mut encoded = Vec::new();
    table.encode(&mut encoded);
    let mut head = Vec::with_capacity(encoded.len() + 5);
    put_varint(&mut head, encoded.len() as u64);
    head.extend_from_slice(&encoded);
    head
}

/// A frame's plain bytes.
pub fn assemble_frame(table: &FrameTable, bodies: &[u8]) -> Vec<u8> {
    let mut plain = frame_head(table);
    plain.extend_from_slice(bodies);
    plain
}

impl Frame {
    /// Unseals a whole frame and reads its table.
    pub fn open(keyring: &Keyring, sort: ChunkSort, mut sealed: Vec<u8>) -> Result<Self> {
        let range = keyring.unseal_in_place(sort.frame_kind(), &mut sealed)?;
        sealed.truncate(range.end);
        sealed.drain(..range.start);
        Frame::parse(sealed)
    }

    /// Reads the table of an unsealed frame.
    pub fn parse(plain: Vec<u8>) -> Result<Self> {
        let mut r = Codec::new(&plain, "a frame");
        let table_len = r.bounded(limit::FRAME_BYTES_MAX as u64)? as usize;
        let mut table_bytes = Codec::new(r.take(table_len)?, "a frame's table");
        let table = FrameTable::decode(&mut table_bytes)?;
        table_bytes.end()?;
        let mut at = plain.len() - r.remaining();
        let mut stored = Vec::with_capacity(table.bodies.len());
        for body in &table.bodies {
            let end = at + body.stored_len as usize;
            if end > plain.len() {
                return Err(r.fail("a body lies outside its frame"));
            }
            stored.push(at..end);
            at = end;
        }
        if at != plain.len() {
            return Err(r.fail("has bytes after its bodies"));
        }
        let expanded = table.bodies.iter().map(|_| OnceLock::new()).collect();
        Ok(Frame { plain, table, stored, expanded })
    }

    pub fn table(&self) -> &FrameTable {
        &self.table
    }

    /// A body's bytes as they are stored.
    pub fn stored(&self, number: usize) -> Option<&[u8]> {
        self.stored.get(number).map(|range| &self.plain[range.clone()])
    }

    /// Expands body `number`; `history` supplies the prefix where one is needed.
    pub fn expand(&self, number: usize, history: &mut GiveHistory<'_>) -> Result<Arc<Vec<u8>>> {
        let (Some(body), Some(range)) = (self.table.bodies.get(number), self.stored.get(number)) else {
            return Err(Error::corrupt("a frame has fewer bodies than its pack's footer says"));
        };
        if let Some(done) = self.expanded[number].get() {
            return Ok(Arc::clone(done));
        }
        let stored = &self.plain[range.clone()];
        let raw_len = body.raw_len();
        let bytes = match &body.coding {
            Coding::Raw => stored.to_vec(),
            Coding::Zstd => expand_zstd(stored, raw_len)?,
            Coding::Prefix(prefix) => {
                let history = history(&prefix.bases, prefix.len)?;
                decompress_with_prefix(stored, &history, raw_len)?
            }
        };
        let bytes = Arc::new(bytes);
        // Another thread may have been faster; either copy is right.
        let _ = self.expanded[number].set(Arc::clone(&bytes));
        Ok(bytes)
    }
}

fn expand_zstd(stored: &[u8], raw_len: usize) -> Result<Vec<u8>> {
    DECOMPRESSOR.with(|cell| {
        let mut slot = cell.borrow_mut();
        if slot.is_none() {
            *slot = Some(Decompressor::new()?);
        }
        match slot.as_mut() {
            Some(decompressor) => decompressor.decompress(stored, raw_len),
            None => Err(Error::corrupt("no decompressor")),
        }
    })
}
