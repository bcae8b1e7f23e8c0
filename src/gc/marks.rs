//! What manifest groups and content lists name: from the local cache as far as it knows them, from the repository
//! otherwise, so that a collection need not read again what an earlier one has read.
//!
//! Whether a group or list itself is there is never asked here: who wants it marked has found that out from the packs.
//!
//! A group whose bytes were damaged since it was read is not noticed, and need not be. Its name is the keyed hash of what
//! it says, so what was read once under that name is all it can ever have meant; the record of that is authenticated; and
//! by it the same chunks are kept as by the group itself, which a repair from parity or from another copy may need. A pack
//! in which the damage lies is never dropped, for the group is needed, and never rewritten, for a frame whose seal does not
//! fit is not copied. To look for damage is what `check` is for: it reads every group and uses no cache.

use super::cluster::{self, Cluster, Named};
use super::live::Live;
use super::records::{Kind, Sink, Source};
use crate::crypto::{ChunkSort, hash};
use crate::error::Result;
use crate::format::entry::Extent;
use crate::format::extents::decode_list;
use crate::format::root::RootItem;
use crate::id::ChunkId;
use crate::manifest::walk::read_group;
use crate::progress::Progress;
use crate::repository::Repository;
use crate::repository::reader::Reader;
use rayon::prelude::{IntoParallelRefIterator, ParallelIterator, ParallelSlice, ParallelSliceMut};
use std::collections::HashSet;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

const GROUPS: Kind = Kind { purpose: b"marks-g1", file: "groups" };
const LISTS: Kind = Kind { purpose: b"marks-l1", file: "lists" };
/// Clusters made at once, for each thread.
const JOBS: usize = 4;
/// Names marked by one thread at a time.
const NAMES_AT_ONCE: usize = 4096;
/// The cache is written anew when so many of a hundred of its versions are of no more use.
const DEAD_PER_CENT: u64 = 25;

/// A group or list whose names are to be marked.
pub struct Wanted {
    pub id: ChunkId,
    /// The same for all versions of one thing.
    pub key: u64,
    /// A group as its root lists it; `None` for a list.
    pub group: Option<RootItem>,
}

/// The key of a group: versions of it are in the same series and begin with the same path.
pub fn group_key(series: u64, first: &[u8]) -> u64 {
    hash::short(&[&series.to_le_bytes(), first].concat())
}

/// The key of one of a file's lists.
fn list_key(group: u64, path: &[u8], number: usize) -> u64 {
    hash::short(&[&group.to_le_bytes(), &(number as u64).to_le_bytes(), path].concat())
}

/// Marks what groups name. They come oldest first.
pub fn mark(
    repository: &Repository,
    live: &Live,
    reader: &Reader,
    groups: Vec<Wanted>,
    progress: &Progress,
) -> Result<()> {
    let marker = Marker { repository, live, reader, progress, lists: Mutex::default() };
    marker.pass(&GROUPS, groups)?;
    let lists = std::mem::take(&mut *marker.lists.lock().unwrap_or_else(PoisonError::into_inner));
    marker.pass(&LISTS, lists)
}

struct Marker<'a> {
    repository: &'a Repository,
    live: &'a Live,
    reader: &'a Reader,
    progress: &'a Progress,
    /// Lists that were marked, and whose own names are not yet.
    lists: Mutex<Vec<Wanted>>,
}

/// What one pass is to mark, in order of id.
struct All {
    wanted: Vec<Wanted>,
    marked: Vec<AtomicBool>,
}

impl All {
    fn find(&self, id: &ChunkId) -> Option<usize> {
        self.wanted.binary_search_by(|w| w.id.cmp(id)).ok()
    }
}

/// A cluster to be made: of one that is there, and of further versions.
struct Job {
    old: Option<Vec<u8>>,
    fresh: Range<usize>,
}

impl Marker<'_> {
    fn pass(&self, kind: &Kind, wanted: Vec<Wanted>) -> Result<()> {
        // Of the same key, the order in which they came is to stay.
        let mut ordered: Vec<(usize, Wanted)> = wanted.into_iter().enumerate().collect();
        ordered.sort_unstable_by_key(|(_, w)| w.id);
        let (ages, wanted): (Vec<usize>, Vec<Wanted>) = ordered.into_iter().unzip();
        let marked = wanted.iter().map(|_| AtomicBool::new(false)).collect();
        let all = All { wanted, marked };
        let mut source = Source::open(self.repository, kind);
        let (mut versions, mut dead) = (0, 0);
        while let Some(batch) = source.as_mut().map(Source::batch).filter(|batch| !batch.is_empty()) {
            let (n, d) = self.known(kind, &batch, &all)?;
            (versions, dead) = (versions + n, dead + d);
        }
        let mut fresh: Vec<usize> =
            (0..all.wanted.len()).filter(|i| !all.marked[*i].load(Ordering::Relaxed)).collect();
        fresh.sort_unstable_by_key(|i| (all.wanted[*i].key, ages[*i]));
        if fresh.is_empty() && dead * 100 <= versions * DEAD_PER_CENT {
            return Ok(());
        }
        self.read(kind, &all, &fresh, source)
    }

    /// Marks what records of the cache know of this pass. Returns how many versions they hold, and how many of those
    /// nobody wants any more.
    fn known(&self, kind: &Kind, records: &[Vec<u8>], all: &All) -> Result<(u64, u64)> {
        self.progress.keep_going()?;
        let keyring = self.repository.keyring();
        let scan = |record: &Vec<u8>| {
            let body = kind.verified(keyring, record)?;
            cluster::scan(body, &|id| all.find(id).is_some()).ok()
        };
        let scanned: Vec<(Vec<ChunkId>, Vec<Named>)> = records.par_iter().filter_map(scan).collect();
        let mut names: Vec<Named> = Vec::with_capacity(scanned.iter().map(|(_, names)| names.len()).sum());
        let mut versions = Vec::new();
        for (more, named) in scanned {
            versions.extend(more);
            names.extend(named);
        }
        // Neighbours in the index are asked for one after another, which is a third of the work.
        names.par_sort_unstable();
        names.dedup();
        names.par_chunks(NAMES_AT_ONCE).try_for_each(|some| {
            let key = |id: &ChunkId| u64::from_le_bytes(*id.0.first_chunk().unwrap_or(&[0; 8]));
            some.iter().try_for_each(|named| self.name(*named, key(&named.id)))
        })?;
        // Only now: what failed above has not been marked.
        let mut dead = 0;
        for id in &versions {
            match all.find(id) {
                Some(at) => all.marked[at].store(true, Ordering::Relaxed),
                None => dead += 1,
            }
        }
        Ok((versions.len() as u64, dead))
    }

    fn name(&self, named: Named, key: u64) -> Result<()> {
        if !named.is_list {
            self.live.need(ChunkSort::Content, &named.id)?;
        } else if self.live.need(ChunkSort::Manifest, &named.id)? {
            let list = Wanted { id: named.id, key, group: None };
            self.lists.lock().unwrap_or_else(PoisonError::into_inner).push(list);
        }
        Ok(())
    }

    /// Reads those that the cache does not know, `fresh`, in order of key, and writes the cache anew.
    fn read(&self, kind: &Kind, all: &All, fresh: &[usize], source: Option<Source>) -> Result<()> {
        let mut sink = Sink::create(self.repository, kind);
        let key = |i: usize| all.wanted[fresh[i]].key;
        let of_key = |wanted: u64| {
            let start = fresh.partition_point(|i| all.wanted[*i].key < wanted);
            start..start + fresh[start..].partition_point(|i| all.wanted[*i].key == wanted)
        };
        let mut taken = HashSet::new();
        if let Some(mut source) = source.filter(|_| sink.is_some())
            && source.rewind()
        {
            loop {
                let batch = source.batch();
                if batch.is_empty() {
                    break;
                }
                let mut jobs = Vec::with_capacity(batch.len());
                for mut record in batch {
                    let Some(body) = kind.verified(self.repository.keyring(), &record) else { continue };
                    let open = cluster::open_key(body).filter(|key| taken.insert(*key));
                    let len = body.len();
                    record.truncate(len);
                    jobs.push(Job { old: Some(record), fresh: open.map_or(0..0, of_key) });
                }
                self.work(all, fresh, &jobs, &mut sink)?;
            }
        }
        let mut jobs = Vec::new();
        let mut at = 0;
        while at < fresh.len() {
            let range = of_key(key(at));
            at = range.end;
            if !taken.contains(&key(range.start)) {
                jobs.push(Job { old: None, fresh: range });
            }
            if jobs.len() >= JOBS * rayon::current_num_threads() || at == fresh.len() {
                self.work(all, fresh, &jobs, &mut sink)?;
                jobs.clear();
            }
        }
        if let Some(sink) = sink {
            sink.finish();
        }
        Ok(())
    }

    fn work(&self, all: &All, fresh: &[usize], jobs: &[Job], sink: &mut Option<Sink<'_>>) -> Result<()> {
        let keep = sink.is_some();
        let made = jobs.par_iter().map(|job| self.job(all, fresh, job, keep)).collect::<Result<Vec<_>>>()?;
        if let Some(sink) = sink {
            made.iter().flatten().for_each(|body| sink.put(body));
        }
        Ok(())
    }

    /// One thing's versions: those nobody wants go, fresh ones are read, and marked.
    fn job(&self, all: &All, fresh: &[usize], job: &Job, keep: bool) -> Result<Vec<Vec<u8>>> {
        let mut made = Vec::new();
        // One that cannot be decoded is left out; what it knew has been marked if it was ever known.
        let old = job.old.as_ref().and_then(|body| Cluster::decode(body).ok());
        let first = job.fresh.clone().next().map(|i| all.wanted[fresh[i]].key);
        let mut cluster = old.unwrap_or_else(|| Cluster::new(first.unwrap_or(0)));
        cluster.retain(|id| all.find(id).is_some());
        for i in job.fresh.clone() {
            self.progress.keep_going()?;
            let wanted = &all.wanted[fresh[i]];
            let names = self.names(wanted)?;
            for (named, key) in &names {
                self.name(*named, *key)?;
            }
            if !keep {
                continue;
            }
            if cluster.is_full() {
                made.push(cluster.encode());
                cluster = Cluster::new(wanted.key);
            }
            cluster.add(wanted.id, names.iter().map(|(named, _)| *named));
        }
        if keep && !cluster.is_empty() {
            made.push(cluster.encode());
        }
        Ok(made)
    }

    /// What a group or list names, from the repository; lists with their keys.
    fn names(&self, wanted: &Wanted) -> Result<Vec<(Named, u64)>> {
        let mut names = Vec::new();
        let pieces = |names: &mut Vec<(Named, u64)>, extents: &[Extent]| {
            for extent in extents {
                if let Extent::Chunk { id, .. } = extent {
                    names.push((Named { id: *id, is_list: false }, 0));
                }
            }
        };
        let Some(item) = &wanted.group else {
            let list = self.reader.get(ChunkSort::Manifest, &wanted.id)?;
            pieces(&mut names, &decode_list(&list)?);
            return Ok(names);
        };
        for entry in read_group(self.reader, item)? {
            pieces(&mut names, &entry.content.extents);
            for (number, list) in entry.content.lists.iter().enumerate() {
                let key = list_key(wanted.key, &entry.path, number);
                names.push((Named { id: *list, is_list: true }, key));
            }
        }
        Ok(names)
    }
}
