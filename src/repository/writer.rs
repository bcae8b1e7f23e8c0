//! Storing chunks and committing a snapshot, in the one safe order: session, packs, record, rename.

use super::Repository;
use super::copies;
use super::encode::{FrameBuilder, History, SealedFrame};
use super::index::Index;
use super::packer::{Packed, Packer};
use super::reader::{Past, Reader};
use super::segments;
use super::sighting::Sighting;
use super::witness;
use crate::backend::SessionFile;
use crate::compress::{Level, Search};
use crate::crypto::ChunkSort;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::format::frame::FrameKind;
use crate::format::snapshot::{self, SessionInfo, Snapshot};
use crate::format::{FileName, Folder, encode_header, limit};
use crate::id::{ChunkId, ChunkSet, Name, PackId, SnapshotId};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

const SHARDS: usize = 16;
/// Most bases one chunk is stored against.
pub const BASES_MAX: usize = 24;
/// Most bytes to decode for one chunk, as far as a writer makes it so; readers give up at four times as many.
const WRITTEN_CLOSURE_MAX: u64 = limit::CLOSURE_BYTES_MAX / 4;

/// How deep histories may grow, and how their bases are chosen.
#[derive(Clone, Copy, Debug)]
pub struct DeltaPolicy {
    /// Base of version v: v minus the largest power of this dividing v.
    radix: u8,
    depth_max: u8,
    /// Whole again when the difference takes more than this share of a whole copy, in per cent.
    pub(super) rebase_percent: u8,
    pub(super) search: Search,
    /// Plain bytes that whole copies share a body with, at most.
    solid_bytes: usize,
}

impl DeltaPolicy {
    /// Content: v & (v - 1), at most 8 steps.
    pub const CONTENT: DeltaPolicy = DeltaPolicy {
        radix: 2,
        depth_max: 8,
        rebase_percent: 50,
        search: Search::Close,
        solid_bytes: usize::MAX,
    };
    /// Manifest groups, which change every time and are small.
    pub const MANIFEST: DeltaPolicy = DeltaPolicy { radix: 16, depth_max: 30, ..DeltaPolicy::CONTENT };
    /// Database pages: a single one must be had without decoding much. They change at every backup, so that a difference to
    /// what stood there long ago is many times that to the last version.
    pub const DATABASE: DeltaPolicy = DeltaPolicy {
        radix: 4,
        depth_max: 9,
        search: Search::Quick,
        solid_bytes: 256 << 10,
        ..DeltaPolicy::CONTENT
    };
    /// Database pages that have moved: their bases lie scattered, and whole copies would be all of them.
    pub const RELOCATED: DeltaPolicy =
        DeltaPolicy { rebase_percent: 80, solid_bytes: 256 << 10, ..DeltaPolicy::CONTENT };

    fn base_of(self, version: u8) -> u8 {
        let radix = u32::from(self.radix);
        let v = u32::from(version);
        let mut power = 1;
        while v.is_multiple_of(power * radix) && v > 0 {
            power *= radix;
        }
        (v - power.min(v)) as u8
    }
}

/// Bytes stored by one backup.
#[derive(Default)]
pub struct Counters {
    pub content_chunks: AtomicU64,
    pub manifest_chunks: AtomicU64,
    pub raw_bytes: AtomicU64,
}

/// An open session: stores chunks, then commits or is dropped without a trace but reusable packs.
pub struct Writer {
    repository: Arc<Repository>,
    pub session: Name,
    /// What the session's file began with; with the record behind it, the snapshot's second copy.
    first: Vec<u8>,
    file: Mutex<Option<Box<dyn SessionFile>>>,
    pub reader: Reader,
    packer: Packer,
    level: Level,
    /// The snapshot whose successor is being written, and whether all it needs is known to be present.
    parent: Option<SnapshotId>,
    parent_is_whole: bool,
    /// Chunks stored or being stored by this session.
    claimed: [Mutex<ChunkSet>; SHARDS],
    pub counters: Counters,
}

impl Writer {
    /// Registers a session, then looks at what is there: never the other way round (rule G1).
    pub fn open(repository: &Arc<Repository>, level: Level, info: &SessionInfo) -> Result<Self> {
        let session = super::random::name()?;
        let name = FileName::Session(session);
        let keyring = repository.keyring();
        let mut first = encode_header(&name, keyring.repository()).to_vec();
        let salt = super::random::bytes::<16>()?;
        first.extend_from_slice(&keyring.seal(FrameKind::Session, &snapshot::encode(info), &salt)?);
        let file = repository.backend().open_session(session, &first)?;
        // Only tidying up: nothing here depends on it.
        let _ = super::sessions::evict_dead(repository, &info.host);
        let index = match repository.load_index() {
            Ok(index) => Arc::new(index),
            Err(e) => {
                let _ = file.abandon();
                return Err(e);
            }
        };
        let backend = Arc::clone(repository.backend());
        let reader = Reader::new(backend, Arc::clone(keyring), index);
        let packer = Packer::start(repository, Some(session));
        Ok(Writer {
            repository: Arc::clone(repository),
            session,
            first,
            file: Mutex::new(Some(file)),
            reader,
            packer,
            level,
            parent: None,
            parent_is_whole: false,
            claimed: Default::default(),
            counters: Counters::default(),
        })
    }

    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    pub fn index(&self) -> &Index {
        self.reader.index()
    }

    /// Says which snapshot this session's follows.
    pub fn follow(&mut self, parent: SnapshotId) {
        self.parent = Some(parent);
        self.parent_is_whole = self.repository.cache_dir().is_some_and(|cache| {
            witness::holds(&cache, self.repository.keyring(), parent, self.reader.index())
        });
    }

    /// Whether all that the snapshot named by `follow` needs is present, so that nobody has to look.
    pub fn parent_is_whole(&self) -> bool {
        self.parent_is_whole
    }

    /// A thread's own way to store chunks of one sort.
    pub fn lane(&self, sort: ChunkSort) -> Result<Lane<'_>> {
        let builder = FrameBuilder::new(sort, self.level, Arc::clone(self.repository.keyring()))?;
        Ok(Lane { writer: self, sort, builder, chunks: 0, raw_bytes: 0 })
    }

    /// Whether the chunk need not be stored: it is present, or this session has it.
    pub fn known(&self, id: &ChunkId) -> Result<bool> {
        if self.shard(id).lock().unwrap_or_else(PoisonError::into_inner).contains(id) {
            return Ok(true);
        }
        self.index().present(id)
    }

    /// The chunks that the next version of `chunk` would be stored against by the rules of `policy`, and that version;
    /// `None` where it would be stored whole.
    pub fn bases_of_next(&self, chunk: &ChunkId, policy: DeltaPolicy) -> Result<Option<(Vec<ChunkId>, u8)>> {
        let walked = self.walk_down(std::slice::from_ref(chunk), policy)?;
        Ok(walked.filter(|w| w.depth < policy.depth_max).map(|w| (w.bases, w.version)))
    }

    /// From the newest version of a place down to the one the next is stored against.
    fn walk_down(&self, parents: &[ChunkId], policy: DeltaPolicy) -> Result<Option<Walked>> {
        let index = self.index();
        let mut newest = 0;
        for parent in parents {
            // A parent that is not present (a lost pack) cannot serve; the chunk is stored whole and heals.
            if !index.present(parent)? {
                return Ok(None);
            }
            newest = newest.max(index.find_trusted(parent)?.map_or(0, |f| f.place.version));
        }
        let Some(version) = newest.checked_add(1) else { return Ok(None) };
        let target = policy.base_of(version);
        let (mut bases, mut todo) = (Vec::new(), parents.to_vec());
        todo.reverse();
        let mut depth = 0;
        while let Some(id) = todo.pop() {
            // Never by a copy that may be gone tomorrow: its bases would go with it.
            let Some(found) = index.find_trusted(&id)? else { return Ok(None) };
            if found.place.version > target {
                let older = index.bases(&id, &found)?;
                todo.extend(older.into_iter().rev());
            } else if !bases.contains(&id) {
                depth = depth.max(found.place.depth);
                bases.push(id);
            }
            if bases.len() + todo.len() > BASES_MAX {
                return Ok(None);
            }
        }
        Ok(Some(Walked { bases, version, depth }))
    }

    fn shard(&self, id: &ChunkId) -> &Mutex<ChunkSet> {
        &self.claimed[usize::from(id.0[23]) % SHARDS]
    }

    /// True for exactly one caller per chunk that is neither present nor being stored.
    fn claim(&self, id: &ChunkId) -> Result<bool> {
        // The index first: what is present must not fill the memory for what is new.
        if self.index().present(id)? {
            return Ok(false);
        }
        Ok(self.shard(id).lock().unwrap_or_else(PoisonError::into_inner).insert(*id))
    }

    /// Makes every pack durable. Lanes must be finished before.
    pub fn flush(&mut self) -> Result<Packed> {
        self.packer.finish()
    }

    /// The only function that makes a snapshot exist. Everything it names must have been flushed.
    pub fn commit(mut self, record: &Snapshot, packed: Packed) -> Result<SnapshotId> {
        let keyring = self.repository.keyring();
        let backend = self.repository.backend();
        // Packs of others that this snapshot relies on must not vanish in a crash that the snapshot survives.
        backend.sync_seen()?;
        let body = snapshot::encode(record);
        if body.len() as u64 > limit::RECORD_BYTES_MAX / 2 {
            return Err(Error::invalid("the snapshot's paths and tags are too long to record"));
        }
        let salt = super::random::bytes::<16>()?;
        let sealed = keyring.seal(FrameKind::Snapshot, &body, &salt)?;
        let file = self.file.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let mut file = file.ok_or_else(|| Error::invalid("this session has ended"))?;
        let evicted = |e: Error| match e.kind() {
            ErrorKind::NotFound => super::sessions::evicted(),
            _ => e,
        };
        if let Err(e) = file.append(&sealed) {
            // Nothing was committed; the half-written record must not lie about for others to wonder at.
            let _ = file.abandon();
            return Err(evicted(e));
        }
        file.commit().map_err(evicted)?;
        // The snapshot exists. Without its second copy it is only less safe from damage, which `check` tells.
        let mut whole = std::mem::take(&mut self.first);
        whole.extend_from_slice(&sealed);
        let _ = copies::write_for_snapshot(backend.as_ref(), self.session, &whole);
        if packed.segments.segments > 0 {
            // Tidying up, which the next backup can do as well.
            let _ = segments::merge_crowded(&self.repository);
        }
        if let Some(cache) = self.repository.cache_dir() {
            self.note_locally(&cache, packed);
        }
        Ok(self.session)
    }

    /// Shortcuts for the next run and what prune judges listings by: losing them loses nothing.
    fn note_locally(&self, cache: &Path, packed: Packed) {
        let relied_on = self.index().trusted_packs().chain(&packed.packs).map(|pack| (pack.id, pack.size));
        let relied_on: Vec<(PackId, u64)> = relied_on.collect();
        let _ = witness::note(cache, self.repository.keyring(), self.session, self.parent, &relied_on);
        if let Ok(snapshots) = self.repository.backend().list(Folder::Snapshots) {
            let packs = (self.index().packs().count() + packed.packs.len()) as u64;
            super::sighting::note(cache, Sighting { packs, snapshots: snapshots.len() as u64 });
        }
        if !packed.packs.is_empty() {
            let _ = Index::remember(cache, packed.packs, packed.listed);
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let file = self.file.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(file) = file {
            let _ = file.abandon();
        }
    }
}

/// Where a walk down the versions of a place ended.
struct Walked {
    bases: Vec<ChunkId>,
    /// Of the chunk to be stored.
    version: u8,
    /// The deepest of the bases.
    depth: u8,
}

/// One thread's way to store chunks.
pub struct Lane<'w> {
    writer: &'w Writer,
    sort: ChunkSort,
    builder: FrameBuilder,
    /// Counted here until the end: lanes that count in one place slow each other down.
    chunks: u64,
    raw_bytes: u64,
}

impl Lane<'_> {
    /// Stores a chunk unless it is known, and returns its name. `parents` are chunks of the previous version of the
    /// same place: what the new one is compressed against when it pays.
    pub fn put(&mut self, plain: &[u8], parents: &[ChunkId], policy: DeltaPolicy) -> Result<ChunkId> {
        let id = self.writer.reader.keyring().chunk_id(self.sort, plain);
        if self.claim(&id)? {
            self.store(id, plain, parents, policy)?;
        }
        Ok(id)
    }

    /// True for exactly one caller: it must `store` the chunk. False when the chunk is present or being stored.
    pub fn claim(&self, id: &ChunkId) -> Result<bool> {
        self.writer.claim(id)
    }

    /// Stores a claimed chunk.
    pub fn store(
        &mut self,
        id: ChunkId,
        plain: &[u8],
        parents: &[ChunkId],
        policy: DeltaPolicy,
    ) -> Result<()> {
        self.chunks += 1;
        self.raw_bytes += plain.len() as u64;
        if !parents.is_empty()
            && self.writer.level.zstd.is_some()
            && let Some(history) = self.history(plain, parents, policy)?
        {
            let (stored, frame) = self.builder.add_changed(id, plain, &history, policy)?;
            self.send(frame)?;
            if stored {
                return Ok(());
            }
        }
        let frame = self.builder.add(id, plain, policy.solid_bytes)?;
        self.send(frame)
    }

    /// Stores a claimed chunk against a history that the caller has put together, or whole where that does not pay.
    pub fn store_against(
        &mut self,
        id: ChunkId,
        plain: &[u8],
        history: Option<&History>,
        policy: DeltaPolicy,
    ) -> Result<()> {
        let Some(history) = history.filter(|_| self.writer.level.zstd.is_some()) else {
            return self.store(id, plain, &[], policy);
        };
        let (stored, frame) = self.builder.add_changed(id, plain, history, policy)?;
        self.send(frame)?;
        if !stored {
            return self.store(id, plain, &[], policy);
        }
        self.chunks += 1;
        self.raw_bytes += plain.len() as u64;
        Ok(())
    }

    fn send(&self, frame: Option<SealedFrame>) -> Result<()> {
        frame.map_or(Ok(()), |frame| self.writer.packer.push(frame))
    }

    /// Hands over what is left.
    pub fn finish(mut self) -> Result<()> {
        let counters = &self.writer.counters;
        let chunks = match self.sort {
            ChunkSort::Content => &counters.content_chunks,
            ChunkSort::Manifest => &counters.manifest_chunks,
        };
        chunks.fetch_add(self.chunks, Ordering::Relaxed);
        counters.raw_bytes.fetch_add(self.raw_bytes, Ordering::Relaxed);
        let frame = self.builder.finish()?;
        self.send(frame)
    }

    /// The history for a new version of `parents`; `None` when it should be stored whole.
    fn history(&self, plain: &[u8], parents: &[ChunkId], policy: DeltaPolicy) -> Result<Option<History>> {
        match self.writer.walk_down(parents, policy)? {
            Some(walked) if walked.depth < policy.depth_max => {
                self.fetch_history(plain, walked.bases, walked.version, walked.depth + 1)
            }
            _ => Ok(None),
        }
    }

    fn fetch_history(
        &self,
        plain: &[u8],
        bases: Vec<ChunkId>,
        version: u8,
        depth: u8,
    ) -> Result<Option<History>> {
        let (mut bytes, mut only) = (Vec::new(), None);
        for base in &bases {
            let chunk = match self.writer.reader.get(self.sort, base) {
                Ok(chunk) => chunk,
                // Damage found in passing: store whole, so that this version does not depend on it.
                Err(e) if e.kind().is_unreadable() => return Ok(None),
                Err(e) => return Err(e).context(|| "cannot read the previous version"),
            };
            if bytes.len() + chunk.len() > limit::PREFIX_BYTES_MAX {
                return Ok(None);
            }
            match bases.len() {
                1 => only = Some(chunk),
                _ => bytes.extend_from_slice(&chunk),
            }
        }
        let bytes = only.map_or(Past::Joined(bytes), Past::One);
        if bytes.is_empty() {
            return Ok(None);
        }
        let mut closure = plain.len() as u64;
        for base in &bases {
            closure += match self.writer.reader.closure(self.sort, base) {
                Ok(bytes) => bytes,
                Err(e) if e.kind().is_unreadable() => return Ok(None),
                Err(e) => return Err(e).context(|| "cannot look at the previous version"),
            };
        }
        if closure > WRITTEN_CLOSURE_MAX {
            return Ok(None);
        }
        let (stored, raw) = self.writer.reader.whole_ratio(self.sort, &bases[0])?;
        let whole = (plain.len() as u64 * stored / raw.max(1)) as usize + 32;
        Ok(Some(History { bases, bytes, version, depth, closure, whole }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bases_follow_the_skip_delta_rules() {
        let content = DeltaPolicy::CONTENT;
        for v in 1..=255u8 {
            assert_eq!(content.base_of(v), v & (v - 1));
        }
        let manifest = DeltaPolicy::MANIFEST;
        assert_eq!(manifest.base_of(1), 0);
        assert_eq!(manifest.base_of(17), 16);
        assert_eq!(manifest.base_of(16), 0);
        assert_eq!(manifest.base_of(32), 16);
        assert_eq!(manifest.base_of(255), 254);
    }
}
