//! Which chunks count as present, and where they lie: the effective set of one listing of the packs.
//!
//! Truth is the packs' own footers. A chunk counts when its pack was listed with the size it was written with, is
//! not condemned, and the chunk can be decoded from packs of which the same is true.

use super::place::{Listed, PackInfo, Place, list_footer, sort_unique};
use super::tier::Tier;
use super::{condemned, distrust};
use crate::backend::{Backend, FileStat};
use crate::crypto::{ChunkSort, Keyring};
use crate::error::{Error, ErrorKind, Result};
use crate::format::frame::{FRAME_HEADER_LEN, FrameKind, decode_frame_header};
use crate::format::pack::{Footer, TRAILER_LEN, Trailer};
use crate::format::{FileName, Folder, HEADER_LEN, decode_header, limit};
use crate::id::{ChunkId, PackId};
use rayon::prelude::{IntoParallelRefIterator, ParallelIterator};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// More tiers than this are merged into one.
const TIERS_MAX: usize = 8;
/// A tier is closed when it lists this many chunks, so that building one takes bounded memory.
const TIER_CHUNKS_MAX: usize = 1 << 20;

/// The effective set and its places.
#[derive(Default)]
pub struct Index {
    tiers: Vec<Tier>,
    /// So many tiers at the end list packs that are condemned or that a check found damaged: good for reading what can
    /// be read, but what lies in them does not count as present.
    untrusted: usize,
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
}

impl Index {
    /// Reads condemned lists, then lists packs (in this order: rule G1), then loads what the cache knows and reads
    /// the footers of all other packs. `cache` is this repository's cache folder.
    pub fn load(backend: &dyn Backend, keyring: &Keyring, cache: Option<&Path>) -> Result<Self> {
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
        let cache = cache.filter(|dir| std::fs::create_dir_all(dir).is_ok());
        if let Some(dir) = cache {
            for id in distrust::read(dir) {
                apart.extend(listed.remove(&id).map(|size| (id, size)));
            }
            index.tiers = open_tiers(dir, &mut listed);
        }
        let mut fresh: Vec<(PackId, u64)> = listed.into_iter().collect();
        fresh.sort_unstable();
        index.add_packs(backend, keyring, &fresh, cache)?;
        if let Some(dir) = cache
            && index.tiers.len() > TIERS_MAX
        {
            index.merge(dir);
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

    /// Adds packs that are about to be deleted: those of their chunks that count as present nowhere else and whose
    /// frames are intact.
    pub fn add_lesser(
        &mut self,
        backend: &dyn Backend,
        keyring: &Keyring,
        packs: &[(PackId, u64)],
    ) -> Result<()> {
        let mut wanted = Vec::new();
        for tier in Index::of_packs(backend, keyring, packs)?.tiers {
            let mut listed = Vec::new();
            tier.for_each(&mut |chunk| {
                if !self.present(&chunk.id)? {
                    listed.push(chunk);
                }
                Ok(())
            })?;
            wanted.push((tier.packs, listed));
        }
        for (packs, mut listed) in wanted {
            let mut opened: HashMap<(u32, u32), bool> = HashMap::new();
            for chunk in &listed {
                let place = chunk.place;
                let entry = opened.entry((place.pack, place.offset));
                let Some(pack) = packs.get(place.pack as usize) else { continue };
                entry.or_insert_with(|| {
                    let name = FileName::Pack(pack.id);
                    let sealed = backend.read_range(&name, u64::from(place.offset), place.frame_len as usize);
                    sealed.is_ok_and(|sealed| keyring.unseal(pack.sort.frame_kind(), &sealed).is_ok())
                });
            }
            listed.retain(|l| opened.get(&(l.place.pack, l.place.offset)) == Some(&true));
            self.tiers.push(Tier::in_memory(packs, listed));
        }
        Ok(())
    }

    /// Reads footers and appends tiers for them; packs with unreadable footers are set aside.
    fn add_packs(
        &mut self,
        backend: &dyn Backend,
        keyring: &Keyring,
        packs: &[(PackId, u64)],
        cache: Option<&Path>,
    ) -> Result<()> {
        let (mut infos, mut listed) = (Vec::new(), Vec::new());
        for batch in packs.chunks(64) {
            let footers: Vec<_> = batch
                .par_iter()
                .map(|&(id, size)| (id, size, read_footer(backend, keyring, id, size)))
                .collect();
            for (id, size, footer) in footers {
                match footer {
                    Ok((footer, sort)) => {
                        list_footer(&footer, infos.len() as u32, &mut listed);
                        infos.push(PackInfo { id, size, sort });
                    }
                    // Gone between listing and reading: as if never listed.
                    Err(e) if e.kind() == ErrorKind::NotFound => {}
                    // One damaged version number must not take every other pack away.
                    Err(e) if e.kind().is_unreadable() => {
                        self.unreadable.push((id, e.message().to_owned()));
                    }
                    Err(e) => return Err(e),
                }
            }
            if listed.len() >= TIER_CHUNKS_MAX {
                self.push_tier(std::mem::take(&mut infos), std::mem::take(&mut listed), cache);
            }
        }
        if !infos.is_empty() {
            self.push_tier(infos, listed, cache);
        }
        Ok(())
    }

    /// Adds a tier, on disk where that works.
    fn push_tier(&mut self, packs: Vec<PackInfo>, mut listed: Vec<Listed>, cache: Option<&Path>) {
        sort_unique(&mut listed);
        let built =
            cache.and_then(|dir| Tier::build(dir, &packs, |put| listed.iter().try_for_each(put)).ok());
        self.tiers.push(built.unwrap_or_else(|| Tier::in_memory(packs, listed)));
    }

    /// One tier in place of many; on any trouble the old ones simply stay.
    fn merge(&mut self, dir: &Path) {
        let Ok(merged) = merge_tiers(dir, &self.tiers) else { return };
        for old in self.tiers.drain(..) {
            if let Some(path) = old.path() {
                let _ = std::fs::remove_file(path);
            }
        }
        self.tiers.push(merged);
    }

    /// Remembers the packs of a finished backup, so that the next one need not read their footers.
    pub fn remember(cache: &Path, packs: Vec<PackInfo>, mut listed: Vec<Listed>) -> Result<()> {
        sort_unique(&mut listed);
        Tier::build(cache, &packs, |put| listed.iter().try_for_each(put)).map(|_| ())
    }

    /// Where a chunk lies: the copy with the shortest history.
    pub fn find(&self, id: &ChunkId) -> Result<Option<Found>> {
        self.find_in(id, self.tiers.len())
    }

    /// As `find`, among the copies that count as present: what a writer builds on.
    pub fn find_trusted(&self, id: &ChunkId) -> Result<Option<Found>> {
        self.find_in(id, self.tiers.len() - self.untrusted)
    }

    fn find_in(&self, id: &ChunkId, tiers: usize) -> Result<Option<Found>> {
        let mut best: Option<Found> = None;
        for (tier, part) in self.tiers[..tiers].iter().enumerate() {
            if let Some(place) = part.get(id)?
                && best.is_none_or(|b| place.depth < b.place.depth)
            {
                let pack = part.packs.get(place.pack as usize).copied();
                let pack = pack.ok_or_else(|| Error::corrupt("the local index cache names no pack"))?;
                best = Some(Found { place, pack, tier });
                if place.depth == 0 {
                    break;
                }
            }
        }
        Ok(best)
    }

    /// Every copy the tiers know, the one with the shortest history first.
    pub fn copies(&self, id: &ChunkId) -> Result<Vec<Found>> {
        let mut copies = Vec::new();
        for (tier, part) in self.tiers.iter().enumerate() {
            if let Some(place) = part.get(id)?
                && let Some(pack) = part.packs.get(place.pack as usize)
            {
                copies.push(Found { place, pack: *pack, tier });
            }
        }
        copies.sort_by_key(|found| found.place.depth);
        Ok(copies)
    }

    pub fn bases(&self, id: &ChunkId, found: &Found) -> Result<Vec<ChunkId>> {
        if found.place.depth == 0 { Ok(Vec::new()) } else { self.tiers[found.tier].bases(id) }
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

    pub fn packs(&self) -> impl Iterator<Item = &PackInfo> {
        self.tiers.iter().flat_map(|t| &t.packs)
    }

    /// Chunks listed, copies counted.
    pub fn len(&self) -> Result<u64> {
        self.tiers.iter().try_fold(0, |n, t| Ok(n + t.count()?))
    }

    pub fn is_empty(&self) -> bool {
        self.tiers.is_empty()
    }

    /// Every chunk of every tier; a chunk stored twice may come twice.
    pub fn for_each(&self, each: &mut dyn FnMut(&Listed, &PackInfo) -> Result<()>) -> Result<()> {
        for tier in &self.tiers {
            tier.for_each(&mut |listed| match tier.packs.get(listed.place.pack as usize) {
                Some(pack) => each(&listed, pack),
                None => Err(Error::corrupt("the local index cache names no pack")),
            })?;
        }
        Ok(())
    }
}

fn is_days_old(path: &Path) -> bool {
    let age = std::fs::metadata(path).and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
    age.is_some_and(|age| age.as_secs() > 2 * 86_400)
}

/// Opens the cache's tiers that fit the listing and takes their packs out of it; deletes the others.
fn open_tiers(dir: &Path, listed: &mut HashMap<PackId, u64>) -> Vec<Tier> {
    let mut tiers = Vec::new();
    let Ok(entries) = std::fs::read_dir(dir) else { return tiers };
    for path in entries.flatten().map(|e| e.path()) {
        if path.extension().is_some_and(|e| e == "building") && is_days_old(&path) {
            // Left behind by a run that was killed.
            let _ = std::fs::remove_file(&path);
        }
        if path.extension().is_none_or(|e| e != "redb") {
            continue;
        }
        match Tier::open(&path) {
            Ok(tier) if tier.packs.iter().all(|p| listed.get(&p.id) == Some(&p.size)) => {
                for pack in &tier.packs {
                    listed.remove(&pack.id);
                }
                tiers.push(tier);
            }
            // A pack is gone, condemned or listed twice, or the file is damaged: the footers will tell it anew.
            _ => {
                let _ = std::fs::remove_file(&path);
            }
        }
    }
    tiers
}

/// A pack's footer and sort, read from its end.
pub fn read_footer(
    backend: &dyn Backend,
    keyring: &Keyring,
    id: PackId,
    size: u64,
) -> Result<(Footer, ChunkSort)> {
    let name = FileName::Pack(id);
    if size < (HEADER_LEN + TRAILER_LEN) as u64 || size > limit::PACK_BYTES_MAX {
        return Err(Error::corrupt(format!("{name} has an impossible size of {size} bytes")));
    }
    let header = backend.read_range(&name, 0, HEADER_LEN + FRAME_HEADER_LEN)?;
    decode_header(&header, &name, Some(keyring.repository()))?;
    let (first, _) = decode_frame_header(&header[HEADER_LEN..]).map_err(|e| e.context(name))?;
    let sort = match first {
        FrameKind::Data => ChunkSort::Content,
        FrameKind::Meta => ChunkSort::Manifest,
        _ => return Err(Error::corrupt(format!("{name} does not begin with a frame of chunks"))),
    };
    let trailer = backend.read_range(&name, size - TRAILER_LEN as u64, TRAILER_LEN)?;
    let trailer = Trailer::decode(&trailer, size).map_err(|e| e.context(name))?;
    let len = (size - TRAILER_LEN as u64 - trailer.footer_offset) as usize;
    let mut frame = backend.read_range(&name, trailer.footer_offset, len)?;
    let plain = keyring.unseal_in_place(FrameKind::Footer, &mut frame).map_err(|e| e.context(name))?;
    let footer = Footer::decode(&frame[plain]).map_err(|e| e.context(name))?;
    if footer.end() != trailer.footer_offset {
        return Err(Error::corrupt(format!("{name}: the footer does not fit the pack")));
    }
    Ok((footer, sort))
}

/// Merges sorted tiers into one file, streaming.
fn merge_tiers(dir: &Path, tiers: &[Tier]) -> Result<Tier> {
    let packs: Vec<PackInfo> = tiers.iter().flat_map(|t| t.packs.iter().copied()).collect();
    let mut first = Vec::new();
    let mut offset = 0;
    for tier in tiers {
        first.push(offset);
        offset += tier.packs.len() as u32;
    }
    // The tiers are read side by side on threads of their own, a bounded number of entries ahead.
    std::thread::scope(|scope| {
        let mut heads = Vec::new();
        for (tier, first) in tiers.iter().zip(first) {
            let (send, receive) = crossbeam_channel::bounded::<Result<Listed>>(4096);
            scope.spawn(move || {
                let sent = tier.for_each(&mut |mut listed| {
                    listed.place.pack += first;
                    send.send(Ok(listed)).map_err(|_| Error::corrupt("merge abandoned"))
                });
                if let Err(e) = sent {
                    let _ = send.send(Err(e));
                }
            });
            heads.push((receive.recv().ok().transpose()?, receive));
        }
        // `heads` moves in: should building fail, the readers' channels close and their threads end.
        Tier::build(dir, &packs, move |put| {
            loop {
                let next = heads
                    .iter()
                    .enumerate()
                    .filter_map(|(i, (head, _))| head.as_ref().map(|l| (l.id, l.place.depth, i)))
                    .min();
                let Some((id, _, best)) = next else { return Ok(()) };
                if let Some(listed) = &heads[best].0 {
                    put(listed)?;
                }
                for (head, receive) in &mut heads {
                    if head.as_ref().is_some_and(|l| l.id == id) {
                        *head = receive.recv().ok().transpose()?;
                    }
                }
            }
        })
    })
}
