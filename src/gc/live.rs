//! What is needed: every chunk that snapshots name, and every chunk those are stored against.

use super::look::Needed;
use super::marks::{self, Wanted, group_key};
use crate::crypto::ChunkSort;
use crate::error::Result;
use crate::format::limit;
use crate::id::{ChunkId, PackId};
use crate::manifest::walk::Groups;
use crate::progress::Progress;
use crate::repository::Repository;
use crate::repository::index::{Found, Index};
use crate::repository::place::Listed;
use crate::repository::reader::Reader;
use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Plain bytes kept at hand: each group is read once, and only its history may be read again.
const READER_BYTES: usize = 12 << 20;

/// Two bits for every copy of an index: whether it must stay, and whether what it names was marked. 25 MB for 100
/// million copies.
pub struct Live {
    index: Arc<Index>,
    stays: Bits,
    /// Groups, roots and lists whose content was marked. Apart from `stays`: a group that another is stored against
    /// stays, too, but names nothing by that.
    walked: Bits,
    /// Needed, but without a copy that can be decoded from the packs that stay.
    lost: Mutex<BTreeMap<ChunkId, ChunkSort>>,
}

impl Live {
    /// Marks what these snapshots need, oldest first. Each manifest group counts once, however many snapshots share it.
    pub fn mark(
        repository: &Repository,
        index: &Arc<Index>,
        snapshots: &[Needed],
        progress: &Progress,
    ) -> Result<Self> {
        let lens = index.tier_lens();
        let live = Live {
            index: Arc::clone(index),
            stays: Bits::new(&lens),
            walked: Bits::new(&lens),
            lost: Mutex::default(),
        };
        let reader = Reader::new(
            Arc::clone(repository.backend()),
            Arc::clone(repository.keyring()),
            Arc::clone(index),
        )
        .with_cache(READER_BYTES);
        let mut groups = Vec::new();
        for snapshot in snapshots {
            progress.keep_going()?;
            live.roots(&reader, snapshot, &mut groups)?;
        }
        marks::mark(repository, &live, &reader, groups, progress)?;
        Ok(live)
    }

    /// A snapshot's roots, and those of its groups that no snapshot before named.
    fn roots(&self, reader: &Reader, snapshot: &Needed, groups: &mut Vec<Wanted>) -> Result<()> {
        if !self.need(ChunkSort::Manifest, &snapshot.root)? {
            return Ok(());
        }
        let found = Groups::load(reader, &snapshot.root)?;
        for id in &found.roots {
            self.need(ChunkSort::Manifest, id)?;
        }
        for item in found.items {
            if let Some(stat) = &item.stat {
                self.need(ChunkSort::Manifest, stat)?;
            }
            if self.need(ChunkSort::Manifest, &item.id)? {
                let key = group_key(snapshot.series, &item.first);
                groups.push(Wanted { id: item.id, key, group: Some(item) });
            }
        }
        Ok(())
    }

    /// Marks a chunk and all it is stored against. True for the first caller, who marks what it names.
    pub fn need(&self, sort: ChunkSort, id: &ChunkId) -> Result<bool> {
        let Some((found, bases)) = self.choose(id, None)? else { return Ok(self.lose(sort, id)) };
        let mut todo = vec![(found, bases)];
        while let Some((found, bases)) = todo.pop() {
            if !self.stays.set(found.slot()) {
                continue;
            }
            for base in &bases {
                // A grounded copy's bases have one; that is what grounded means.
                match self.choose(base, Some(found.place.depth))? {
                    Some(copy) => todo.push(copy),
                    None => drop(self.lose(sort, base)),
                }
            }
        }
        Ok(self.walked.set(found.slot()))
    }

    /// The copy to keep: trusted before distrusted, a short history before a long one, and only one that leads by
    /// ever shorter histories to whole copies that stay. Since they only get shorter, two copies that lean on each
    /// other never count.
    fn choose(&self, id: &ChunkId, below: Option<u8>) -> Result<Option<(Found, Vec<ChunkId>)>> {
        if let Some(found) = self.index.find_whole(id)? {
            return Ok(Some((found, Vec::new())));
        }
        for (found, bases) in self.index.staying(id)? {
            let shorter = below.is_none_or(|depth| found.place.depth < depth);
            if shorter && (bases.is_empty() || self.index.stays_grounded(&found, &bases)?) {
                return Ok(Some((found, bases)));
            }
        }
        Ok(None)
    }

    fn lose(&self, sort: ChunkSort, id: &ChunkId) -> bool {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).insert(*id, sort).is_none()
    }

    /// Whether the copy at this place must stay.
    pub fn has(&self, slot: (usize, u32)) -> bool {
        self.stays.has(slot)
    }

    /// The copies of a chunk that must stay.
    pub fn kept(&self, id: &ChunkId) -> Result<Vec<Found>> {
        let copies = self.index.staying(id)?.into_iter().map(|(found, _)| found);
        Ok(copies.filter(|found| self.has(found.slot())).collect())
    }

    /// Packs whose footers were read by a collector before, and that hold what stays in place of copies that go.
    pub fn relied_on(&self) -> Result<BTreeMap<PackId, u64>> {
        let (mut packs, mut seen) = (BTreeMap::new(), HashSet::new());
        let mut todo = Vec::new();
        self.index.for_each_doomed(&mut |listed| {
            todo.push(listed.id);
            while let Some(id) = todo.pop() {
                for found in self.kept(&id)? {
                    if self.index.is_recalled(&found.pack.id) {
                        packs.insert(found.pack.id, found.pack.size);
                    }
                    if found.place.depth > 0 && seen.insert(id) {
                        todo.extend(self.index.bases(&id, &found)?);
                    }
                }
            }
            Ok(())
        })?;
        Ok(packs)
    }

    /// Chunks that snapshots name and that are stored, in the end, against chunks that none names.
    pub fn leaning(&self) -> Result<Vec<(ChunkId, ChunkSort)>> {
        let mut leaning = Vec::new();
        self.index.for_each_staying(&mut |slot, listed, pack| {
            if listed.place.depth > 0
                && self.stays.has(slot)
                && self.walked.has(slot)
                && self.leans(listed, 0)?
            {
                leaning.push((listed.id, pack.sort));
            }
            Ok(())
        })?;
        Ok(leaning)
    }

    fn leans(&self, listed: &Listed, steps: u8) -> Result<bool> {
        for base in &listed.bases {
            let Some((found, bases)) = self.choose(base, Some(listed.place.depth))? else { return Ok(true) };
            if !self.walked.has(found.slot()) {
                return Ok(true);
            }
            let below = Listed { id: *base, place: found.place, bases };
            if steps < limit::DEPTH_MAX && self.leans(&below, steps + 1)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Needed chunks without a copy among what stays.
    pub fn lost(&self) -> Vec<(ChunkId, ChunkSort)> {
        self.lost
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .map(|(id, sort)| (*id, *sort))
            .collect()
    }
}

/// A bit for each copy of an index.
struct Bits(Vec<Vec<AtomicU64>>);

impl Bits {
    fn new(lens: &[u64]) -> Self {
        let words = |len: &u64| usize::try_from(len.div_ceil(64)).unwrap_or(usize::MAX);
        Bits(lens.iter().map(|len| (0..words(len)).map(|_| AtomicU64::new(0)).collect()).collect())
    }

    /// False when it was set before.
    fn set(&self, (tier, number): (usize, u32)) -> bool {
        let bit = 1 << (number % 64);
        self.0[tier][number as usize / 64].fetch_or(bit, Ordering::Relaxed) & bit == 0
    }

    fn has(&self, (tier, number): (usize, u32)) -> bool {
        self.0[tier][number as usize / 64].load(Ordering::Relaxed) >> (number % 64) & 1 == 1
    }
}
