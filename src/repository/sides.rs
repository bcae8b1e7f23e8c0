//! The index as collectors and repairs see it: packs apart that are to go, or that were found damaged.
//!
//! A collector reads the packs' own footers, and remembers what it read, sealed (`sealed`), so that the next one reads only
//! those of new packs. A pack never changes under its name: what its footer said once, it says as long as the pack is there.

use super::index::{EachCopy, Index};
use super::place::{Listed, PackInfo};
use super::sealed;
use super::tier::Tier;
use super::tiers::settle;
use crate::backend::Backend;
use crate::crypto::Keyring;
use crate::error::{Error, Result};
use crate::format::FileName;
use crate::id::PackId;
use std::collections::HashMap;
use std::path::Path;

/// The index of packs of no more bytes is made in memory.
const IN_MEMORY_BYTES_MAX: u64 = 8 << 20;
/// And not remembered, for to read so few footers is faster. What tests try is small, and is to go the way of what is
/// large.
const FORGOTTEN_BYTES_MAX: u64 = if cfg!(debug_assertions) { 0 } else { IN_MEMORY_BYTES_MAX };

/// The packs of one listing as a collector sees them, with their sizes.
#[derive(Clone, Debug, Default)]
pub struct Sides {
    pub kept: Vec<(PackId, u64)>,
    /// Kept, but found damaged by a check on this machine: another copy is to be preferred.
    pub distrusted: Vec<(PackId, u64)>,
    /// Named by a condemned list.
    pub doomed: Vec<(PackId, u64)>,
}

/// Where a collector's index lies.
#[derive(Clone, Copy, Debug, Default)]
pub struct Home<'a> {
    /// A directory of its own, so that memory does not grow with the repository.
    pub scratch: Option<&'a Path>,
    /// What collectors before it have read of the packs that are kept.
    pub remembered: Option<&'a Path>,
}

impl Index {
    /// From the footers of these packs, read now or by a collector before.
    pub fn of_sides(backend: &dyn Backend, keyring: &Keyring, sides: &Sides, home: Home<'_>) -> Result<Self> {
        let mut index = Index::default();
        let bytes: u64 =
            [&sides.kept, &sides.distrusted, &sides.doomed].into_iter().flatten().map(|p| p.1).sum();
        // Every chunk takes its place in a footer, so these cannot be many.
        let dir = home.scratch.filter(|_| bytes > IN_MEMORY_BYTES_MAX);
        let remembered = home.remembered.filter(|_| bytes > FORGOTTEN_BYTES_MAX);
        match remembered.filter(|dir| std::fs::create_dir_all(dir).is_ok()) {
            None => index.add_packs(backend, keyring, &sides.kept, dir)?,
            Some(remembered) => {
                let mut fresh: HashMap<PackId, u64> = sides.kept.iter().copied().collect();
                index.tiers = sealed::open(remembered, keyring, &mut fresh);
                index.recalled = index.tiers.iter().flat_map(Tier::there).map(|pack| pack.id).collect();
                let mut fresh: Vec<(PackId, u64)> = fresh.into_iter().collect();
                fresh.sort_unstable();
                index.add_packs(backend, keyring, &fresh, Some(remembered))?;
                settle(&mut index.tiers, remembered, 0);
                sealed::seal(remembered, keyring, &index.tiers);
            }
        }
        let kept = index.tiers.len();
        index.add_packs(backend, keyring, &sides.distrusted, dir)?;
        let distrusted = index.tiers.len();
        index.add_packs(backend, keyring, &sides.doomed, dir)?;
        index.doomed = index.tiers.len() - distrusted;
        index.untrusted = index.tiers.len() - kept;
        Ok(index)
    }

    /// Whether a pack's footer was read by a collector before this one.
    pub fn is_recalled(&self, pack: &PackId) -> bool {
        self.recalled.contains(pack)
    }

    /// Every copy that goes.
    pub fn for_each_doomed(&self, each: &mut dyn FnMut(&Listed) -> Result<()>) -> Result<()> {
        let doomed = &self.tiers[self.tiers.len() - self.doomed..];
        doomed.iter().try_for_each(|tier| tier.for_each(&mut |_, listed| each(&listed)))
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
            tier.for_each(&mut |_, chunk| {
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

    /// Packs that stay when the doomed ones go.
    pub fn staying_packs(&self) -> impl Iterator<Item = &PackInfo> {
        self.tiers[..self.tiers.len() - self.doomed].iter().flat_map(Tier::there)
    }

    /// Every copy that stays, with its slot and pack.
    pub fn for_each_staying(&self, each: &mut EachCopy<'_>) -> Result<()> {
        for (at, tier) in self.tiers[..self.tiers.len() - self.doomed].iter().enumerate() {
            tier.for_each(&mut |number, listed| match tier.packs.get(listed.place.pack as usize) {
                Some(pack) => each((at, number), &listed, pack),
                None => Err(Error::corrupt("the index names no pack")),
            })?;
        }
        Ok(())
    }
}
