//! Snapshots from one repository to another: every chunk is decoded and stored again under the other's keys.
//!
//! Cuts stay where they are, and a chunk that is stored against an older one here is stored against the same one
//! there. What was copied before is found again by the origin that its record names.

mod names;

use crate::clock::Clock;
use crate::compress::Level;
use crate::crypto::ChunkSort;
use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::{Entry, Extent, Stat};
use crate::format::snapshot::{SessionInfo, Snapshot};
use crate::id::{ChunkId, SnapshotId, hex};
use crate::manifest::build::{Builder, Built};
use crate::manifest::content;
use crate::manifest::walk::{Groups, read_stats};
use crate::progress::{Problem, Progress, Report};
use crate::repository::Repository;
use crate::repository::reader::Reader;
use crate::repository::snapshots::{self, Listed};
use crate::repository::writer::{DeltaPolicy, Lane, Writer};
use names::Ids;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering as Memory};

/// Pieces of files that are looked up and fetched together.
const PIECES: usize = 16 << 10;
/// Chunks one thread takes at a time: neighbours share frames.
const BATCH: usize = 16;
/// A history is not made deeper than backups make theirs.
const DEPTH_MAX: u8 = 8;

/// How to copy.
#[derive(Clone, Debug)]
pub struct CopyOptions {
    pub level: Level,
    /// Only say what would be copied.
    pub dry_run: bool,
    /// Threads; 0 for as many as there are processors.
    pub workers: usize,
    /// Who copies, for the session's record.
    pub host: String,
}

impl Default for CopyOptions {
    fn default() -> Self {
        let host = crate::os::process::host_name();
        CopyOptions { level: Level::AUTO, dry_run: false, workers: 0, host }
    }
}

/// What became of the snapshots.
#[derive(Clone, Debug, Default)]
pub struct CopyReport {
    /// Name here and name there; `None` in a dry run.
    pub copied: Vec<(SnapshotId, Option<SnapshotId>)>,
    /// There already, under this name.
    pub skipped: Vec<(SnapshotId, SnapshotId)>,
    /// Not copied, for they cannot be read whole.
    pub damaged: Vec<(SnapshotId, String)>,
    /// Chunks of content stored, and the plain bytes of all chunks stored.
    pub data_blobs: u64,
    pub data_added: u64,
    /// Bytes of the packs written.
    pub data_added_packed: u64,
}

impl CopyReport {
    /// An error that names every snapshot that was not copied.
    pub fn outcome(&self) -> Result<()> {
        if self.damaged.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = self.damaged.iter().map(|(id, _)| id.short()).collect();
        Err(Error::corrupt(format!(
            "not copied, because the repository they are in is damaged: {}; `check` tells more",
            names.join(", ")
        )))
    }
}

/// Copies `chosen`, oldest first, except what is there already. A snapshot that cannot be read whole is named in the
/// report and the others go on; trouble with the repository that is written to ends it all.
pub fn run(
    from: &Repository,
    chosen: &[Listed],
    to: &Arc<Repository>,
    options: &CopyOptions,
    clock: &dyn Clock,
    progress: &Progress,
    report: &dyn Report,
) -> Result<CopyReport> {
    if from.id() == to.id() {
        return Err(Error::invalid("both are the same repository; a copy needs another one"));
    }
    let mut copier = Copier {
        from,
        to,
        options,
        progress,
        told: report,
        reader: from.reader()?,
        started: clock.now().rfc3339(),
        there: HashMap::new(),
        here: HashMap::new(),
        ids: Ids::default(),
        learned: HashSet::new(),
        report: CopyReport::default(),
    };
    for listed in snapshots::list(to)?.snapshots {
        copier.there.insert(origin(to, &listed), listed);
    }
    for listed in snapshots::list(from)?.snapshots {
        copier.here.insert(origin(from, &listed), listed);
    }
    let mut chosen: Vec<&Listed> = chosen.iter().collect();
    chosen.sort_by_key(|l| (l.record.order_time, l.record.sequence, l.id));
    for listed in chosen {
        if let Some(there) = copier.there.get(&origin(from, listed)) {
            copier.report.skipped.push((listed.id, there.id));
            continue;
        }
        if options.dry_run {
            copier.report.copied.push((listed.id, None));
            continue;
        }
        match copier.copy(listed) {
            Ok(()) => {}
            Err(Trouble::There(e)) => return Err(e),
            Err(Trouble::Here(e)) => {
                let item = listed.id.to_string().into_bytes();
                report.problem(&Problem { item, during: "copy", message: e.to_string() });
                copier.report.damaged.push((listed.id, e.message().to_owned()));
            }
        }
    }
    Ok(copier.report)
}

/// Where a snapshot was first made: the same for all its copies.
fn origin(repository: &Repository, listed: &Listed) -> String {
    listed.record.origin.clone().unwrap_or_else(|| format!("{}/{}", repository.id(), listed.id))
}

/// What cannot be read here costs one snapshot; what cannot be written there ends the copy.
enum Trouble {
    Here(Error),
    There(Error),
}

type Tried<T> = std::result::Result<T, Trouble>;

struct Copier<'a> {
    from: &'a Repository,
    to: &'a Arc<Repository>,
    options: &'a CopyOptions,
    progress: &'a Progress,
    told: &'a dyn Report,
    reader: Reader,
    started: String,
    /// Snapshots by origin.
    there: HashMap<String, Listed>,
    here: HashMap<String, Listed>,
    ids: Ids,
    /// Snapshots there whose chunks are among `ids`.
    learned: HashSet<SnapshotId>,
    report: CopyReport,
}

impl Copier<'_> {
    fn copy(&mut self, listed: &Listed) -> Tried<()> {
        let session = SessionInfo {
            host: self.options.host.clone(),
            pid: std::process::id(),
            boot_id: crate::os::process::boot_id().unwrap_or_default(),
            started: self.started.clone(),
            program: concat!("snapkeep ", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        let mut writer = Writer::open(self.to, self.options.level, &session).map_err(Trouble::There)?;
        let relative = self.relative(listed);
        if let Some((here, there)) = &relative
            && self.learned.insert(there.id)
        {
            self.ids
                .learn((&self.reader, here), (&writer.reader, there), self.progress)
                .map_err(Trouble::There)?;
        }
        let parent = relative.and_then(|(_, there)| Groups::load(&writer.reader, &there.root).ok());
        self.ids.fresh.clear();
        let built = match self.store(&writer, listed, parent.unwrap_or_default()) {
            Ok(built) => built,
            Err(trouble) => {
                // What was stored is found again by the next run; if not even that works, it is the cause.
                return Err(writer.flush().err().map_or(trouble, Trouble::There));
            }
        };
        let packed = writer.flush().map_err(Trouble::There)?;
        packed.tell(self.told);
        self.report.data_blobs += writer.counters.content_chunks.load(Memory::Relaxed);
        self.report.data_added += writer.counters.raw_bytes.load(Memory::Relaxed);
        self.report.data_added_packed += packed.bytes;
        let record = self.record(listed, writer.session, &built);
        // The last moment to stop: from here on the snapshot may exist.
        self.progress.keep_going().map_err(Trouble::There)?;
        let id = writer.commit(&record, packed).map_err(Trouble::There)?;
        self.ids.settled.extend(self.ids.fresh.drain());
        self.report.copied.push((listed.id, Some(id)));
        self.learned.insert(id);
        let session = listed.session.clone();
        self.there.insert(origin(self.from, listed), Listed { id, root: built.root, record, session });
        Ok(())
    }

    /// Everything the user knows the snapshot by stays; only what names other things here is made to name them there.
    fn record(&self, listed: &Listed, session: SnapshotId, built: &Built) -> Snapshot {
        let parent = self.parent(listed).map(|(_, there)| there.id.to_string());
        Snapshot {
            id: session.to_string(),
            root: hex(&built.root.0),
            parent,
            origin: Some(origin(self.from, listed)),
            ..listed.record.clone()
        }
    }

    /// The snapshot's parent here and there, if it is there.
    fn parent(&self, listed: &Listed) -> Option<(&Listed, &Listed)> {
        let name = listed.record.parent.as_ref()?;
        let (origin, here) = self.here.iter().find(|(_, l)| l.record.id == *name)?;
        Some((here, self.there.get(origin)?))
    }

    /// The snapshot that is there already and resembles this one most: its parent, or the last one before it of the
    /// same host and paths, or the next one after it.
    fn relative(&self, listed: &Listed) -> Option<(Listed, Listed)> {
        let own = |(here, there): (&Listed, &Listed)| (here.clone(), there.clone());
        if let Some(pair) = self.parent(listed) {
            return Some(own(pair));
        }
        let key = |l: &Listed| (l.record.order_time, l.record.sequence, l.id);
        let series =
            |l: &Listed| l.record.hostname == listed.record.hostname && l.record.paths == listed.record.paths;
        let pairs =
            || self.here.iter().filter(|(_, l)| series(l)).filter_map(|(o, l)| Some((l, self.there.get(o)?)));
        let before = pairs().filter(|(l, _)| key(l) < key(listed)).max_by_key(|(l, _)| key(l));
        before.or_else(|| pairs().min_by_key(|(l, _)| key(l))).map(own)
    }

    fn store(&mut self, writer: &Writer, listed: &Listed, parent: Groups) -> Tried<Built> {
        let workers = match self.options.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        let lanes = (0..workers).map(|_| writer.lane(ChunkSort::Content)).collect::<Result<Vec<_>>>();
        let mut sink = Sink {
            writer,
            lanes: lanes.map_err(Trouble::There)?,
            builder: Builder::new(writer, parent).map_err(Trouble::There)?,
            waiting: Vec::new(),
            pieces: 0,
        };
        let stored = self.store_entries(listed, &mut sink);
        // Also after trouble: what has been named must be written, for the next run to find.
        let finished = sink.lanes.into_iter().try_for_each(Lane::finish).map_err(Trouble::There);
        stored.and(finished)?;
        sink.builder.finish().map_err(Trouble::There)
    }

    fn store_entries(&mut self, listed: &Listed, sink: &mut Sink<'_>) -> Tried<()> {
        let groups = Groups::load(&self.reader, &listed.root).map_err(Trouble::Here)?;
        self.progress.files_total.fetch_add(groups.entries(), Memory::Relaxed);
        self.progress.bytes_total.fetch_add(groups.bytes(), Memory::Relaxed);
        for (number, item) in groups.items.iter().enumerate() {
            let entries = groups.read(&self.reader, number).map_err(Trouble::Here)?;
            let stats = read_stats(&self.reader, item, &entries).unwrap_or_default();
            for (i, mut entry) in entries.into_iter().enumerate() {
                let content = &mut entry.content;
                content.extents = content::extents(&self.reader, content).map_err(Trouble::Here)?;
                content.lists.clear();
                sink.pieces += 1 + content.extents.len();
                // Without its stat the next backup reads the file again; nothing else is lost.
                let unknown = Stat { racy: true, ..Stat::default() };
                sink.waiting.push((entry, stats.get(i).copied().unwrap_or(unknown)));
                if sink.pieces >= PIECES {
                    self.settle(sink)?;
                }
            }
        }
        self.settle(sink)
    }

    /// Fetches what the waiting entries need and hands them on.
    fn settle(&mut self, sink: &mut Sink<'_>) -> Tried<()> {
        let (mut wanted, mut seen) = (Vec::new(), HashSet::new());
        for extent in sink.waiting.iter().flat_map(|(entry, _)| &entry.content.extents) {
            if let Extent::Chunk { id, len, .. } = extent
                && seen.insert(*id)
                && !self.is_there(sink.writer, id).map_err(Trouble::There)?
            {
                wanted.push((*id, *len));
            }
        }
        self.fetch(&mut sink.lanes, sink.writer, &wanted)?;
        sink.pieces = 0;
        for (mut entry, stat) in sink.waiting.drain(..) {
            for extent in &mut entry.content.extents {
                if let Extent::Chunk { id, .. } = extent {
                    let lost = || {
                        Trouble::There(Error::corrupt("a chunk was copied but has no name; this is a bug"))
                    };
                    *id = self.ids.get(id).ok_or_else(lost)?;
                }
            }
            self.progress.set_current(&entry.path);
            self.progress.add_file(entry.content.size);
            sink.builder.push(entry, stat).map_err(Trouble::There)?;
        }
        Ok(())
    }

    /// Whether the chunk is there, as far as its name there is known.
    fn is_there(&self, writer: &Writer, id: &ChunkId) -> Result<bool> {
        if self.ids.fresh.contains_key(id) {
            return Ok(true);
        }
        // Copied earlier is not enough: it may have been collected since.
        self.ids.settled.get(id).map_or(Ok(false), |there| writer.known(there))
    }

    /// Reads chunks here and stores them there, on all threads.
    fn fetch(&mut self, lanes: &mut [Lane<'_>], writer: &Writer, wanted: &[(ChunkId, u32)]) -> Tried<()> {
        let next = AtomicUsize::new(0);
        let (shared, next) = (&*self, &next);
        let threads = wanted.len().div_ceil(BATCH);
        let results: Vec<Tried<Vec<Stored>>> = std::thread::scope(|scope| {
            let work = |lane| scope.spawn(move || shared.work(lane, writer, next, wanted));
            let running: Vec<_> = lanes.iter_mut().take(threads).map(work).collect();
            let died = |_| Err(Trouble::There(Error::new(ErrorKind::Io, "a thread of the copy died")));
            running.into_iter().map(|thread| thread.join().unwrap_or_else(died)).collect()
        });
        let (mut stored, mut here) = (Vec::new(), None);
        for result in results {
            match result {
                Ok(some) => stored.extend(some),
                Err(Trouble::There(e)) => return Err(Trouble::There(e)),
                Err(Trouble::Here(e)) => here = Some(e),
            }
        }
        for Stored { here, there, missing } in stored {
            self.ids.fresh.insert(here, there);
            self.ids.stand_ins.extend(missing.into_iter().map(|base| (base, there)));
        }
        here.map_or(Ok(()), |e| Err(Trouble::Here(e)))
    }

    fn work(
        &self,
        lane: &mut Lane<'_>,
        writer: &Writer,
        next: &AtomicUsize,
        wanted: &[(ChunkId, u32)],
    ) -> Tried<Vec<Stored>> {
        let mut stored = Vec::new();
        loop {
            let start = next.fetch_add(BATCH, Memory::Relaxed).min(wanted.len());
            let batch = &wanted[start..wanted.len().min(start + BATCH)];
            if batch.is_empty() {
                return Ok(stored);
            }
            for (id, len) in batch {
                match self.one(lane, writer, id, *len) {
                    Ok(one) => stored.push(one),
                    Err(trouble) => {
                        // The others need not go on.
                        next.store(wanted.len(), Memory::Relaxed);
                        return Err(trouble);
                    }
                }
            }
        }
    }

    fn one(&self, lane: &mut Lane<'_>, writer: &Writer, id: &ChunkId, len: u32) -> Tried<Stored> {
        self.progress.keep_going().map_err(Trouble::There)?;
        let plain = self.reader.get(ChunkSort::Content, id).map_err(Trouble::Here)?;
        if plain.len() != len as usize {
            let what = format!("chunk {id} has another length than its file says");
            return Err(Trouble::Here(Error::corrupt(what)));
        }
        let bases = names::bases(&self.reader, id).map_err(Trouble::Here)?;
        let direct: Option<Vec<ChunkId>> = bases.iter().map(|base| self.ids.get(base)).collect();
        let missing: Vec<ChunkId> = bases.into_iter().filter(|b| self.ids.get(b).is_none()).collect();
        let there = match direct {
            // Counting from a history of its own, version v is stored against v - 1: the very base it has here.
            Some(parents) if shallow(writer, &parents).map_err(Trouble::There)? => {
                lane.put(&plain, &parents, DeltaPolicy::MANIFEST)
            }
            Some(_) => lane.put(&plain, &[], DeltaPolicy::CONTENT),
            None => {
                let parents: Vec<ChunkId> =
                    missing.iter().filter_map(|base| self.ids.stand_ins.get(base).copied()).collect();
                lane.put(&plain, &parents, DeltaPolicy::CONTENT)
            }
        };
        Ok(Stored { here: *id, there: there.map_err(Trouble::There)?, missing })
    }
}

/// Where a snapshot goes.
struct Sink<'w> {
    writer: &'w Writer,
    lanes: Vec<Lane<'w>>,
    builder: Builder<'w>,
    /// Entries whose chunks have not been fetched yet, their lists unrolled.
    waiting: Vec<(Entry, Stat)>,
    pieces: usize,
}

/// A chunk that was stored, and those of its bases here that are not there.
struct Stored {
    here: ChunkId,
    there: ChunkId,
    missing: Vec<ChunkId>,
}

fn shallow(writer: &Writer, parents: &[ChunkId]) -> Result<bool> {
    for parent in parents {
        if writer.index().find(parent)?.is_some_and(|found| found.place.depth >= DEPTH_MAX) {
            return Ok(false);
        }
    }
    Ok(true)
}
