//! Which chunks count as present, and where they lie: the effective set of one listing of the packs.
//!
//! Truth is the packs' own footers. A chunk counts when its pack was listed with the size it was written with, is
//! not condemned, and the chunk can be decoded from packs of which the same is true.

use super::footer::read_footer;
use super::place::{Listed, PackInfo, Place, list_footer, sort};
use super::tier::{Copy, Tier};
use super::tiers::{open_tiers, settle};
use super::{condemned, distrust, segment, segments};
use crate::backend::{Backend, FileStat};
use crate::crypto::{ChunkSort, Keyring};
use crate::error::{Error, ErrorKind, Result};
use crate::format::pack::Footer;
use crate::format::{FileName, Folder, limit};
use crate::id::{ChunkId, PackId};
use rayon::prelude::{IntoParallelRefIterator, ParallelIterator};
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// A tier is closed when it lists this many chunks, so that building one takes bounded memory.
const TIER_CHUNKS_MAX: usize = 1 << 18;

/// Most copies looked at to see whether one of them can be decoded.
const STEPS_MAX: u32 = 4096;

/// The effective set and its places.
#[derive(Default)]
pub struct Index {
    pub(super) tiers: Vec<Tier>,
    /// So many tiers at the end list packs that are condemned or that a check found damaged: good for reading what can
    /// be read, but what lies in them does not count as present.
    pub(super) untrusted: usize,
    /// So many of those at the very end are about to be deleted, as a collector sees them.
    pub(super) doomed: usize,
    /// Packs whose footers a collector read at another time.
    pub(super) recalled: HashSet<PackId>,
    /// Packs that were listed but whose footer cannot be read, with the reason.
    pub unreadable: Vec<(PackId, String)>,
    /// Actual depths of chunks that need a history and can be decoded; filled as they are asked for.
    depths: Mutex<HashMap<ChunkId, u8>>,
}

/// A chunk that was found: its place and the pack that holds it.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    pub place: Place,
    pub pack: PackInfo,
    tier: usize,
    /// Number of the chunk in its tier.
    number: u32,
}

impl Found {
    /// Tier and number in it: one bit of a map of all chunks.
    pub fn slot(&self) -> (usize, u32) {
        (self.tier, self.number)
    }
}

/// Takes a copy's slot, the copy, and its pack.
pub type EachCopy<'a> = dyn FnMut((usize, u32), &Listed, &PackInfo) -> Result<()> + 'a;

/// What may say where chunks lie beside the packs: this repository's cache folder, index segments.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sources<'a> {
    pub cache: Option<&'a Path>,
    pub segments: bool,
}

/// A tier in the making.
#[derive(Default)]
struct NewTier {
    packs: Vec<PackInfo>,
    listed: Vec<Listed>,
}

impl NewTier {
    fn add(&mut self, id: PackId, size: u64, sort: ChunkSort, footer: &Footer) {
        let raw = list_footer(footer, self.packs.len() as u32, &mut self.listed);
        self.packs.push(PackInfo { id, size, sort, raw });
    }
}

impl Index {
    /// Reads condemned lists, then lists packs (in this order: rule G1), then loads what the sources know and reads
    /// the footers of all other packs.
    pub fn load(backend: &dyn Backend, keyring: &Keyring, sources: Sources<'_>) -> Result<Self> {
        let condemned = condemned::all(backend, keyring)?;
        let (mut listed, mut apart): (HashMap<PackId, u64>, Vec<(PackId, u64)>) = Default::default();
        for FileStat { name, size } in backend.list(Folder::Packs)? {
            match name {
                // Good for reading as long as it is there, and for nothing else.
                FileName::Pack(id) if condemned.contains(&id) => apart.push((id, size)),
                FileName::Pack(id) => {
                    listed.insert(id, size);
                }
                _ => {}
            }
        }
        let mut index = Index::default();
        let cache = sources.cache.filter(|dir| std::fs::create_dir_all(dir).is_ok());
        if let Some(dir) = cache {
            for id in distrust::read(dir) {
                apart.extend(listed.remove(&id).map(|size| (id, size)));
            }
            index.tiers = open_tiers(dir, &mut listed);
        }
        if sources.segments {
            index.add_segments(backend, keyring, &mut listed, cache);
        }
        let mut fresh: Vec<(PackId, u64)> = listed.into_iter().collect();
        fresh.sort_unstable();
        index.add_packs(backend, keyring, &fresh, cache)?;
        if let Some(dir) = cache {
            settle(&mut index.tiers, dir, 0);
        }
        let trusted = index.tiers.len();
        index.add_packs(backend, keyring, &apart, None)?;
        index.untrusted = index.tiers.len() - trusted;
        index.unreadable.retain(|(id, _)| !condemned.contains(id));
        Ok(index)
    }

    /// From the footers of exactly these packs, whatever condemned lists and caches say: for `check`.
    pub fn of_packs(backend: &dyn Backend, keyring: &Keyring, packs: &[(PackId, u64)]) -> Result<Self> {
        let mut index = Index::default();
        index.add_packs(backend, keyring, packs, None)?;
        Ok(index)
    }

    /// Reads footers and appends tiers for them; packs with unreadable footers are set aside.
    pub(super) fn add_packs(
        &mut self,
        backend: &dyn Backend,
        keyring: &Keyring,
        packs: &[(PackId, u64)],
        cache: Option<&Path>,
    ) -> Result<()> {
        let (from, mut tier) = (self.tiers.len(), NewTier::default());
        for batch in packs.chunks(64) {
            let footers: Vec<_> = batch
                .par_iter()
                .map(|&(id, size)| (id, size, read_footer(backend, keyring, id, size)))
                .collect();
            for (id, size, footer) in footers {
                match footer {
                    Ok((footer, sort)) => tier.add(id, size, sort, &footer),
                    // Gone between listing and reading: as if never listed.
                    Err(e) if e.kind() == ErrorKind::NotFound => {}
                    // One damaged version number must not take every other pack away.
                    Err(e) if e.kind().is_unreadable() => {
                        self.unreadable.push((id, e.message().to_owned()));
                    }
                    Err(e) => return Err(e),
                }
            }
            if tier.listed.len() >= TIER_CHUNKS_MAX {
                self.push_tier(std::mem::take(&mut tier), cache, from);
            }
        }
        self.push_tier(tier, cache, from);
        Ok(())
    }

    /// Appends tiers for packs of which a segment has the footer, and takes these out of `listed`. The segment only
    /// says what is in them: that they are there, in that size, the listing says.
    fn add_segments(
        &mut self,
        backend: &dyn Backend,
        keyring: &Keyring,
        listed: &mut HashMap<PackId, u64>,
        cache: Option<&Path>,
    ) {
        let (from, mut tier) = (self.tiers.len(), NewTier::default());
        segments::consult(backend, keyring, listed.len(), from == 0, &mut |found| {
            for entry in &found.packs {
                let Some(&size) = listed.get(&entry.pack) else { continue };
                if entry.pack_size() == size {
                    listed.remove(&entry.pack);
                    tier.add(entry.pack, size, segment::sort_of(entry), &entry.footer);
                }
            }
            if tier.listed.len() >= TIER_CHUNKS_MAX {
                self.push_tier(std::mem::take(&mut tier), cache, from);
            }
            listed.len()
        });
        self.push_tier(tier, cache, from);
    }

    /// Adds a tier, on disk where that works, and merges those from number `from` on where there are many of one size.
    fn push_tier(&mut self, tier: NewTier, cache: Option<&Path>, from: usize) {
        let NewTier { packs, mut listed } = tier;
        if packs.is_empty() {
            return;
        }
        sort(&mut listed);
        let built = cache.and_then(|dir| {
            Tier::build(dir, &packs, listed.len() as u64, |put| listed.iter().try_for_each(put)).ok()
        });
        self.tiers.push(built.unwrap_or_else(|| Tier::in_memory(packs, listed)));
        if let Some(dir) = cache {
            settle(&mut self.tiers, dir, from);
        }
    }

    /// Remembers the packs of a finished backup, so that the next one need not read their footers.
    pub fn remember(cache: &Path, packs: Vec<PackInfo>, mut listed: Vec<Listed>) -> Result<()> {
        sort(&mut listed);
        Tier::build(cache, &packs, listed.len() as u64, |put| listed.iter().try_for_each(put)).map(|_| ())
    }

    /// Where a chunk lies: the copy with the shortest history.
    pub fn find(&self, id: &ChunkId) -> Result<Option<Found>> {
        self.find_in(id, 0..self.tiers.len())
    }

    fn trusted(&self) -> usize {
        self.tiers.len() - self.untrusted
    }

    /// As `find`, among the copies that count as present: what a writer builds on.
    pub fn find_trusted(&self, id: &ChunkId) -> Result<Option<Found>> {
        self.find_in(id, 0..self.trusted())
    }

    fn find_in(&self, id: &ChunkId, tiers: Range<usize>) -> Result<Option<Found>> {
        let mut best: Option<Found> = None;
        let mut several = false;
        for tier in tiers.clone() {
            let Some((place, number)) = self.tiers[tier].get(id)? else { continue };
            let found = self.found(tier, place, number)?;
            if place.depth == 0 {
                return Ok(Some(found));
            }
            several |= best.is_some();
            if best.is_none_or(|b| place.depth < b.place.depth) {
                best = Some(found);
            }
        }
        let Some(only) = best else { return Ok(None) };
        // What one copy was stored against may be gone while another is as good as ever.
        if several || self.tiers[only.tier].copies(id)?.len() > 1 {
            for (found, bases) in self.copies_in(id, tiers.clone())? {
                if self.is_grounded(&bases, found.place.depth, &tiers, &mut STEPS_MAX.clone())? {
                    return Ok(Some(found));
                }
            }
        }
        Ok(Some(only))
    }

    fn found(&self, tier: usize, place: Place, number: u32) -> Result<Found> {
        let pack = self.tiers[tier].packs.get(place.pack as usize).copied();
        let pack = pack.ok_or_else(|| Error::corrupt("the local index cache names no pack"))?;
        Ok(Found { place, pack, tier, number })
    }

    /// Whether each base has a copy with a shorter history than `depth`, grounded in the same way. Depths that fall
    /// from step to step cannot go in circles and end at whole copies. `steps` bounds what a hostile repository costs.
    fn is_grounded(
        &self,
        bases: &[ChunkId],
        depth: u8,
        tiers: &Range<usize>,
        steps: &mut u32,
    ) -> Result<bool> {
        for base in bases {
            let mut grounded = false;
            for (found, below) in self.copies_in(base, tiers.clone())? {
                *steps = steps.saturating_sub(1);
                if found.place.depth < depth
                    && *steps > 0
                    && self.is_grounded(&below, found.place.depth, tiers, steps)?
                {
                    grounded = true;
                    break;
                }
            }
            if !grounded {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A whole copy in a trusted pack: nearly every lookup ends here.
    pub fn find_whole(&self, id: &ChunkId) -> Result<Option<Found>> {
        for tier in 0..self.trusted() {
            if let Some((place, number)) = self.tiers[tier].get(id)?
                && place.depth == 0
            {
                return self.found(tier, place, number).map(Some);
            }
        }
        Ok(None)
    }

    /// As `is_grounded`, by way of copies that stay.
    pub fn stays_grounded(&self, found: &Found, bases: &[ChunkId]) -> Result<bool> {
        let staying = 0..self.tiers.len() - self.doomed;
        self.is_grounded(bases, found.place.depth, &staying, &mut STEPS_MAX.clone())
    }

    /// Copies with their bases, the one with the shortest history first.
    fn copies_in(&self, id: &ChunkId, tiers: Range<usize>) -> Result<Vec<(Found, Vec<ChunkId>)>> {
        let mut copies = Vec::new();
        for tier in tiers {
            for Copy { place, number, bases } in self.tiers[tier].copies(id)? {
                copies.push((self.found(tier, place, number)?, bases));
            }
        }
        copies.sort_by_key(|(found, _)| found.place.depth);
        Ok(copies)
    }

    /// Every copy, the one with the shortest history first.
    pub fn copies(&self, id: &ChunkId) -> Result<Vec<Found>> {
        Ok(self.copies_in(id, 0..self.tiers.len())?.into_iter().map(|(found, _)| found).collect())
    }

    /// The copies that stay when the doomed packs go, with their bases: trusted ones first, among those the ones with
    /// the shortest history.
    pub fn staying(&self, id: &ChunkId) -> Result<Vec<(Found, Vec<ChunkId>)>> {
        let mut copies = self.copies_in(id, 0..self.trusted())?;
        copies.extend(self.copies_in(id, self.trusted()..self.tiers.len() - self.doomed)?);
        Ok(copies)
    }

    pub fn bases(&self, id: &ChunkId, found: &Found) -> Result<Vec<ChunkId>> {
        if found.place.depth == 0 {
            return Ok(Vec::new());
        }
        let copies = self.tiers[found.tier].copies(id)?;
        Ok(copies.into_iter().find(|c| c.number == found.number).map(|c| c.bases).unwrap_or_default())
    }

    /// Whether the chunk is there and everything needed to decode it, too.
    pub fn present(&self, id: &ChunkId) -> Result<bool> {
        match self.find_trusted(id)? {
            None => Ok(false),
            Some(found) if found.place.depth == 0 => Ok(true),
            Some(_) => Ok(self.actual_depth(id, limit::DEPTH_MAX)?.is_some_and(|d| d <= limit::DEPTH_MAX)),
        }
    }

    /// Steps to whole copies by way of what is kept now, whatever was true when it was written; `None` when something
    /// is missing, or when there are more than `within`.
    fn actual_depth(&self, id: &ChunkId, within: u8) -> Result<Option<u8>> {
        let Some(found) = self.find_trusted(id)? else { return Ok(None) };
        if found.place.depth == 0 {
            return Ok(Some(0));
        }
        if let Some(depth) = self.depths.lock().unwrap_or_else(PoisonError::into_inner).get(id) {
            return Ok(Some(*depth));
        }
        let Some(below) = within.checked_sub(1) else { return Ok(None) };
        let mut depth = 0;
        for base in self.bases(id, &found)? {
            match self.actual_depth(&base, below)? {
                Some(d) => depth = depth.max(d + 1),
                None => return Ok(None),
            }
        }
        // Only successes are remembered: a failure may only mean that the way here was long already.
        self.depths.lock().unwrap_or_else(PoisonError::into_inner).insert(*id, depth);
        Ok(Some(depth))
    }

    /// Packs whose chunks count.
    pub fn trusted_packs(&self) -> impl Iterator<Item = &PackInfo> {
        self.tiers[..self.trusted()].iter().flat_map(Tier::there)
    }

    pub fn packs(&self) -> impl Iterator<Item = &PackInfo> {
        self.tiers.iter().flat_map(Tier::there)
    }

    /// Copies listed in each tier.
    pub fn tier_lens(&self) -> Vec<u64> {
        self.tiers.iter().map(Tier::count).collect()
    }

    /// Chunks listed, copies counted.
    pub fn len(&self) -> u64 {
        self.tiers.iter().map(Tier::count).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.tiers.is_empty()
    }

    /// Every chunk of every tier; a chunk stored twice may come twice.
    pub fn for_each(&self, each: &mut dyn FnMut(&Listed, &PackInfo) -> Result<()>) -> Result<()> {
        for tier in &self.tiers {
            tier.for_each(&mut |_, listed| match tier.packs.get(listed.place.pack as usize) {
                Some(pack) => each(&listed, pack),
                None => Err(Error::corrupt("the local index cache names no pack")),
            })?;
        }
        Ok(())
    }
}
