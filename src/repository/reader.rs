//! From ids to plain bytes: frames are read, unsealed and expanded once while they stay in a bounded cache.

use super::index::{Found, Index, Sources};
use super::parity::{self, Mended};
pub use super::plain::{Chunk, Past};
use crate::backend::Backend;
use crate::compress::{Decompressor, decompress_with_prefix};
use crate::crypto::{ChunkSort, Keyring};
use crate::error::{Error, ErrorKind, Result};
use crate::format::codec::{Reader as Codec, put_varint};
use crate::format::frame::{Coding, FrameTable};
use crate::format::{FileName, limit};
use crate::id::{ChunkId, PackId};
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

/// Plain bytes kept at hand by default, in bytes.
pub const CACHE_BYTES: usize = 40 << 20;

thread_local! {
    static DECOMPRESSOR: RefCell<Option<Decompressor>> = const { RefCell::new(None) };
}

/// Supplies the plain bytes of some bases, so many in all, as one string.
pub type GiveHistory<'a> = dyn FnMut(&[ChunkId], u32) -> Result<Past> + 'a;

/// An unsealed frame; bodies are expanded when first asked for.
pub struct Frame {
    plain: Vec<u8>,
    table: FrameTable,
    /// Where each body's stored bytes lie in `plain`.
    stored: Vec<Range<usize>>,
    expanded: Vec<OnceLock<Arc<Vec<u8>>>>,
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

/// What one request may still decode: hostile repositories nest histories to no end.
struct Budget {
    depth: u8,
    bytes: u64,
    /// Whether bases are checked against their names, too, and whether one was not: the chunk asked for comes out right only
    /// if all its bases are.
    prove_bases: bool,
    unproved: bool,
}

impl Budget {
    fn whole(prove_bases: bool) -> Self {
        Budget { depth: limit::DEPTH_MAX, bytes: limit::CLOSURE_BYTES_MAX, prove_bases, unproved: false }
    }
}

type FrameKey = (PackId, u32);

#[derive(Default)]
struct Cache {
    frames: HashMap<FrameKey, Kept>,
    weight: usize,
    clock: u64,
}

/// A frame at hand.
struct Kept {
    frame: Arc<Frame>,
    used: u64,
    /// Its bytes and those of the bodies expanded so far: a frame of changed chunks stands for many plain bytes, of
    /// which few are ever asked for.
    weight: usize,
}

/// Reads chunks. Shared by threads.
pub struct Reader {
    backend: Arc<dyn Backend>,
    keyring: Arc<Keyring>,
    index: Arc<Index>,
    /// Looked up once a collector has taken away a pack that `index` names: what is needed lies elsewhere now.
    newer: RwLock<Option<Arc<Index>>>,
    /// Set when a pack was not there.
    vanished: AtomicBool,
    cache: Mutex<Cache>,
    cache_bytes: usize,
    /// `None` for readers that take damage for what it is.
    mended: Option<Mutex<MendedPacks>>,
}

/// Packs that were read by way of their parity.
#[derive(Default)]
struct MendedPacks {
    all: BTreeSet<PackId>,
    /// The last one tried, and its bytes where it could be mended: those who come next mostly want the same.
    last: Option<(PackId, Option<Arc<Vec<u8>>>)>,
}

impl Reader {
    pub fn new(backend: Arc<dyn Backend>, keyring: Arc<Keyring>, index: Arc<Index>) -> Self {
        Reader {
            backend,
            keyring,
            index,
            newer: RwLock::default(),
            vanished: AtomicBool::new(false),
            cache: Mutex::default(),
            cache_bytes: CACHE_BYTES,
            mended: None,
        }
    }

    /// With another bound on the plain bytes kept, in bytes.
    #[must_use]
    pub fn with_cache(mut self, bytes: usize) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// One that gets damaged frames by way of parity, where there is enough.
    #[must_use]
    pub fn with_parity(mut self) -> Self {
        self.mended = Some(Mutex::default());
        self
    }

    /// Packs that are damaged and were read by way of their parity.
    pub fn mended(&self) -> Vec<PackId> {
        let packs = self.mended.as_ref().map(|m| m.lock().unwrap_or_else(PoisonError::into_inner));
        packs.map(|packs| packs.all.iter().copied().collect()).unwrap_or_default()
    }

    pub fn index(&self) -> &Index {
        &self.index
    }

    pub fn index_handle(&self) -> Arc<Index> {
        Arc::clone(&self.index)
    }

    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// A chunk's plain bytes, checked against its name.
    pub fn get(&self, sort: ChunkSort, id: &ChunkId) -> Result<Chunk> {
        let mut budget = Budget::whole(false);
        let first = match self.fetch(sort, id, true, &mut budget) {
            Err(e) if e.kind() == ErrorKind::Corrupt => e,
            result => return result,
        };
        let again = self.look_again()?;
        if budget.unproved {
            // A base may have been wrong of which there is a good copy, and what was made of it must not serve again.
            *self.cache.lock().unwrap_or_else(PoisonError::into_inner) = Cache::default();
        } else if !again {
            return Err(first);
        }
        // The first reason says more than what a second look at a damaged repository would.
        self.fetch(sort, id, true, &mut Budget::whole(true)).map_err(|_| first)
    }

    /// Loads the index anew if a pack was not where it should be; whether that was done.
    fn look_again(&self) -> Result<bool> {
        let mut newer = self.newer.write().unwrap_or_else(PoisonError::into_inner);
        if !self.vanished.swap(false, Ordering::Relaxed) {
            return Ok(false);
        }
        let sources = Sources { cache: None, segments: true };
        *newer = Some(Arc::new(Index::load(self.backend.as_ref(), &self.keyring, sources)?));
        Ok(true)
    }

    fn newest(&self) -> Arc<Index> {
        let newer = self.newer.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(newer.as_ref().unwrap_or(&self.index))
    }

    fn fetch(&self, sort: ChunkSort, id: &ChunkId, prove: bool, budget: &mut Budget) -> Result<Chunk> {
        let index = self.newest();
        let missing = || Error::corrupt(format!("chunk {id} is not in the repository"));
        let found = index.find(id)?.ok_or_else(missing)?;
        budget.unproved |= !prove;
        let first = match self.read_named(sort, id, &found, prove, budget) {
            Err(e) if e.kind() == ErrorKind::Corrupt => e,
            other => return other,
        };
        // Writers that ran side by side may have stored it twice; any good copy will do.
        for other in index.copies(id)? {
            if (other.pack.id, other.place) != (found.pack.id, found.place)
                && let Ok(chunk) = self.read_named(sort, id, &other, prove, budget)
            {
                return Ok(chunk);
            }
        }
        Err(first)
    }

    fn read_named(
        &self,
        sort: ChunkSort,
        id: &ChunkId,
        found: &Found,
        prove: bool,
        budget: &mut Budget,
    ) -> Result<Chunk> {
        let chunk = self.read_at(sort, found, budget).map_err(|e| match e.kind() {
            ErrorKind::NotFound => {
                self.vanished.store(true, Ordering::Relaxed);
                Error::corrupt(format!("pack {} is missing", found.pack.id))
            }
            _ => e.context(format!("chunk {id} in pack {}", found.pack.id)),
        })?;
        if prove && self.keyring.chunk_id(sort, &chunk) != *id {
            return Err(Error::corrupt(format!(
                "chunk {id} in pack {} has another content than its name says",
                found.pack.id
            )));
        }
        Ok(chunk)
    }

    fn read_at(&self, sort: ChunkSort, found: &Found, budget: &mut Budget) -> Result<Chunk> {
        let frame = self.frame(sort, found)?;
        let number = usize::from(found.place.body);
        let body = frame.table.bodies.get(number);
        let body = body.ok_or_else(|| Error::corrupt("a frame has fewer bodies than its footer says"))?;
        let fresh = frame.expanded[number].get().is_none();
        if fresh {
            let raw = body.raw_len() as u64;
            budget.bytes = budget.bytes.checked_sub(raw).ok_or_else(|| {
                Error::corrupt("too much to decode for one chunk; this repository is not to be trusted")
            })?;
        }
        let bytes = frame.expand(number, &mut |bases, len| self.history(sort, bases, len, budget))?;
        if fresh {
            self.grow((found.pack.id, found.place.offset), &frame, bytes.len());
        }
        let slot = usize::from(found.place.slot);
        let start = body.chunks.iter().take(slot).map(|c| c.len as usize).sum();
        let len = body.chunks.get(slot).map(|c| c.len as usize);
        let len = len.ok_or_else(|| Error::corrupt("a body has fewer chunks than its footer says"))?;
        Ok(Chunk::new(bytes, start..start + len))
    }

    /// Plain bytes of a body of a frame that somebody else has opened; its history comes from here.
    pub fn expand(&self, sort: ChunkSort, frame: &Frame, number: usize) -> Result<Arc<Vec<u8>>> {
        let mut budget = Budget::whole(true);
        frame.expand(number, &mut |bases, len| self.history(sort, bases, len, &mut budget))
    }

    /// The bases' plain bytes, one after another.
    fn history(&self, sort: ChunkSort, bases: &[ChunkId], len: u32, budget: &mut Budget) -> Result<Past> {
        let deeper = budget.depth.checked_sub(1);
        budget.depth = deeper.ok_or_else(|| Error::corrupt("a history nested too deeply"))?;
        let mut history = Vec::with_capacity((len as usize).min(limit::PREFIX_BYTES_MAX));
        for base in bases {
            let fetched = self.fetch(sort, base, budget.prove_bases, budget);
            // Another copy may be tried after a failure: it must not find the depth used up.
            let chunk = fetched.inspect_err(|_| budget.depth += 1)?;
            if history.len() + chunk.len() > len as usize {
                return Err(Error::corrupt("a history longer than stated"));
            }
            if bases.len() == 1 && chunk.len() == len as usize {
                budget.depth += 1;
                return Ok(Past::One(chunk));
            }
            history.extend_from_slice(&chunk);
        }
        budget.depth += 1;
        if history.len() != len as usize {
            return Err(Error::corrupt("a history shorter than stated"));
        }
        Ok(Past::Joined(history))
    }

    /// Stored and plain bytes of the whole copy that a chunk goes back to: what such bytes compress to by themselves.
    pub fn whole_ratio(&self, sort: ChunkSort, id: &ChunkId) -> Result<(u64, u64)> {
        let mut id = *id;
        for _ in 0..limit::DEPTH_MAX {
            let Some(found) = self.index.find(&id)? else { break };
            let frame = self.frame(sort, &found)?;
            let Some(body) = frame.table.bodies.get(usize::from(found.place.body)) else { break };
            match &body.coding {
                Coding::Prefix(prefix) => id = prefix.bases[0],
                _ => return Ok((u64::from(body.stored_len), body.raw_len() as u64)),
            }
        }
        Ok((1, 3))
    }

    /// Bytes to be decoded to get a chunk and everything it needs, or more.
    pub fn closure(&self, sort: ChunkSort, id: &ChunkId) -> Result<u64> {
        let missing = || Error::corrupt("a body is not where its pack's footer says");
        let Some(found) = self.index.find(id)? else { return Err(missing()) };
        let frame = self.frame(sort, &found)?;
        let body = frame.table.bodies.get(usize::from(found.place.body)).ok_or_else(missing)?;
        Ok(match &body.coding {
            Coding::Prefix(prefix) => prefix.closure,
            Coding::Raw | Coding::Zstd => body.raw_len() as u64,
        })
    }

    fn frame(&self, sort: ChunkSort, found: &Found) -> Result<Arc<Frame>> {
        let key = (found.pack.id, found.place.offset);
        {
            let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            cache.clock += 1;
            let now = cache.clock;
            if let Some(kept) = cache.frames.get_mut(&key) {
                kept.used = now;
                return Ok(Arc::clone(&kept.frame));
            }
        }
        let name = FileName::Pack(found.pack.id);
        let len = found.place.frame_len as usize;
        let sealed = self.backend.read_range(&name, u64::from(found.place.offset), len);
        let opened = sealed.and_then(|sealed| Frame::open(&self.keyring, sort, sealed));
        let frame = Arc::new(opened.or_else(|e| self.by_parity(sort, found, e))?);
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.clock += 1;
        let (used, weight) = (cache.clock, frame.plain.len());
        cache.weight += weight;
        let kept = Kept { frame: Arc::clone(&frame), used, weight };
        if let Some(old) = cache.frames.insert(key, kept) {
            cache.weight -= old.weight;
        }
        evict(&mut cache, self.cache_bytes, key);
        Ok(frame)
    }

    /// A frame that is not as it was written, from its pack's parity; `trouble` where that does not reach.
    fn by_parity(&self, sort: ChunkSort, found: &Found, trouble: Error) -> Result<Frame> {
        let Some(mended) = &self.mended else { return Err(trouble) };
        if !trouble.kind().is_unreadable() && trouble.kind() != ErrorKind::Io {
            return Err(trouble);
        }
        let pack = found.pack.id;
        // Whoever else meets the same damage waits here instead of computing it all once more.
        let mut mended = mended.lock().unwrap_or_else(PoisonError::into_inner);
        if mended.last.as_ref().is_none_or(|(last, _)| *last != pack) {
            let bytes = match parity::mend(self.backend.as_ref(), &self.keyring, pack) {
                Ok(Mended::Whole { bytes, .. }) => Some(Arc::new(bytes)),
                _ => None,
            };
            mended.last = Some((pack, bytes));
        }
        let Some((_, Some(bytes))) = &mended.last else { return Err(trouble) };
        let start = found.place.offset as usize;
        let sealed = bytes.get(start..start + found.place.frame_len as usize).ok_or(trouble)?;
        let frame = Frame::open(&self.keyring, sort, sealed.to_vec())?;
        mended.all.insert(pack);
        Ok(frame)
    }

    /// A body of a frame was expanded and stays with it.
    fn grow(&self, key: FrameKey, frame: &Arc<Frame>, bytes: usize) {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(kept) = cache.frames.get_mut(&key).filter(|kept| Arc::ptr_eq(&kept.frame, frame)) else {
            return;
        };
        kept.weight += bytes;
        let alone = kept.weight > self.cache_bytes;
        cache.weight += bytes;
        evict(&mut cache, self.cache_bytes, key);
        // One frame that outgrows the cache by itself begins anew.
        if alone && let Some(kept) = cache.frames.remove(&key) {
            cache.weight -= kept.weight;
        }
    }
}

/// Drops the frames used least recently, never the one just added.
fn evict(cache: &mut Cache, max: usize, keep: FrameKey) {
    while cache.weight > max && cache.frames.len() > 1 {
        let oldest = cache.frames.iter().filter(|(key, _)| **key != keep).min_by_key(|(_, kept)| kept.used);
        let Some(key) = oldest.map(|(key, _)| *key) else { return };
        if let Some(kept) = cache.frames.remove(&key) {
            cache.weight -= kept.weight;
        }
    }
}
