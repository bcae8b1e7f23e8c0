//! From ids to plain bytes: frames are read, unsealed and expanded once while they stay in a bounded cache.

use super::at_hand::{Cache, FrameKey, Kept, evict};
use super::decoded::Decoded;
use super::frames::Frame;
use super::index::{Found, Index, Sources};
use super::parity::{self, Mended};
use crate::backend::Backend;
use crate::crypto::{ChunkSort, Keyring};
use crate::error::{Error, ErrorKind, Result};
use crate::format::frame::{Body, Coding};
use crate::format::{FileName, limit};
use crate::id::{ChunkId, PackId};
use std::collections::BTreeSet;
use std::ops::{Deref, Range};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Plain bytes kept at hand by default, in bytes.
pub const CACHE_BYTES: usize = 40 << 20;

/// The plain bytes of bases, one after another; those of a single one are not copied.
pub enum Past {
    One(Chunk),
    Joined(Vec<u8>),
}

impl Deref for Past {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Past::One(chunk) => chunk,
            Past::Joined(bytes) => bytes,
        }
    }
}

/// Plain bytes of one chunk, sharing its body's memory.
#[derive(Clone)]
pub struct Chunk {
    body: Arc<Vec<u8>>,
    range: Range<usize>,
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.body[self.range.clone()]
    }
}

/// What one request may still decode: hostile repositories nest histories to no end.
struct Budget {
    depth: u8,
    bytes: u64,
    /// Whether bases are checked against their names, too, and whether one was not: the chunk asked for comes out right only
    /// if all its bases are.
    prove_bases: bool,
    unproved: bool,
    /// The depth at which bases of a history of many are asked for; chunks like this one need them again.
    scattered: Option<u8>,
}

impl Budget {
    fn whole(prove_bases: bool) -> Self {
        let (depth, bytes) = (limit::DEPTH_MAX, limit::CLOSURE_BYTES_MAX);
        Budget { depth, bytes, prove_bases, unproved: false, scattered: None }
    }
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
    decoded: RwLock<Option<Decoded>>,
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
            decoded: RwLock::default(),
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

    /// From now on keeps what histories of many bases are made of; no longer with `None`.
    pub fn keep_decoded(&self, decoded: Option<Decoded>) {
        *self.decoded.write().unwrap_or_else(PoisonError::into_inner) = decoded;
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
            self.keep_decoded(None);
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
            self.keep_base(body, &bytes, budget);
        }
        let slot = usize::from(found.place.slot);
        let start = body.chunks.iter().take(slot).map(|c| c.len as usize).sum();
        let len = body.chunks.get(slot).map(|c| c.len as usize);
        let len = len.ok_or_else(|| Error::corrupt("a body has fewer chunks than its footer says"))?;
        Ok(Chunk { body: bytes, range: start..start + len })
    }

    /// Plain bytes of a body of a frame that somebody else has opened; its history comes from here.
    pub fn expand(&self, sort: ChunkSort, frame: &Frame, number: usize) -> Result<Arc<Vec<u8>>> {
        let mut budget = Budget::whole(true);
        frame.expand(number, &mut |bases, len| self.history(sort, bases, len, &mut budget))
    }

    /// Bases of many, and whole copies below them; what lies between serves one chunk only.
    fn keep_base(&self, body: &Body, plain: &[u8], budget: &Budget) {
        let Some(depth) = budget.scattered else { return };
        if (depth == budget.depth || !matches!(body.coding, Coding::Prefix(_)))
            && let Some(decoded) = self.decoded.write().unwrap_or_else(PoisonError::into_inner).as_mut()
        {
            decoded.keep(body, plain);
        }
    }

    /// The bases' plain bytes, one after another.
    fn history(&self, sort: ChunkSort, bases: &[ChunkId], len: u32, budget: &mut Budget) -> Result<Past> {
        let (above, scattered) = (budget.depth, budget.scattered);
        let deeper = above.checked_sub(1);
        budget.depth = deeper.ok_or_else(|| Error::corrupt("a history nested too deeply"))?;
        if bases.len() > 1 && scattered.is_none() {
            budget.scattered = Some(budget.depth);
        }
        let past = self.gather(sort, bases, len as usize, budget);
        // Another copy may be tried after a failure: it must not find the depth used up.
        (budget.depth, budget.scattered) = (above, scattered);
        past
    }

    fn gather(&self, sort: ChunkSort, bases: &[ChunkId], len: usize, budget: &mut Budget) -> Result<Past> {
        let mut history = Vec::with_capacity(len.min(limit::PREFIX_BYTES_MAX));
        for base in bases {
            if budget.scattered.is_some() && !budget.prove_bases && self.append_decoded(base, &mut history)? {
                budget.unproved = true;
            } else {
                let chunk = self.fetch(sort, base, budget.prove_bases, budget)?;
                if bases.len() == 1 && chunk.len() == len {
                    return Ok(Past::One(chunk));
                }
                history.extend_from_slice(&chunk);
            }
            if history.len() > len {
                return Err(Error::corrupt("a history longer than stated"));
            }
        }
        if history.len() != len {
            return Err(Error::corrupt("a history shorter than stated"));
        }
        Ok(Past::Joined(history))
    }

    fn append_decoded(&self, id: &ChunkId, out: &mut Vec<u8>) -> Result<bool> {
        let decoded = self.decoded.read().unwrap_or_else(PoisonError::into_inner);
        decoded.as_ref().map_or(Ok(false), |decoded| decoded.get(id, out))
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
