//! Tiers that a collector leaves for the next: files of the index, each with a keyed hash of its bytes beside it.
//!
//! What decides about deletion must not rest on a damaged file or one that another key wrote: a tier whose seal does not
//! fit is as if it were not there, and the packs' footers are read instead.

use super::filter::remove_with_tier;
use super::tier::Tier;
use super::tiers::{is_days_old, merge_tiers};
use crate::crypto::Keyring;
use crate::crypto::hash::FileHash;
use crate::id::PackId;
use rayon::prelude::{IntoParallelIterator, ParallelIterator};
use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};

const PURPOSE: &[u8; 8] = b"tiers-01";
/// A tier is written anew when so many of a hundred of its packs are gone.
const GONE_PER_CENT: usize = 25;

fn seal_of(tier: &Path) -> PathBuf {
    tier.with_extension("seal")
}

/// Keyed hash of a tier's bytes.
fn compute(tier: &Path, keyring: &Keyring) -> Option<[u8; 32]> {
    let mut file = std::fs::File::open(tier).ok()?;
    let (mut hash, mut buffer) = (FileHash::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer).ok()? {
            0 => break,
            n => hash.update(&buffer[..n]),
        }
    }
    Some(keyring.cache_mac(PURPOSE, &[&hash.finish()]))
}

/// A tier whose seal fits.
fn open_one(path: &Path, keyring: &Keyring) -> Option<Tier> {
    let noted = std::fs::read(seal_of(path)).ok()?;
    let fits = compute(path, keyring).is_some_and(|seal| seal[..] == noted[..]);
    fits.then(|| Tier::open(path).ok())?
}

/// The sealed tiers, without the packs that are not listed with the same size; takes those they tell of out of `listed`.
pub fn open(dir: &Path, keyring: &Keyring, listed: &mut HashMap<PackId, u64>) -> Vec<Tier> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    let is = |path: &Path, kind: &str| path.extension().is_some_and(|extension| extension == kind);
    for path in paths.iter().filter(|path| !is(path, "redb")) {
        // Left behind by a run that was killed, or without its tier.
        let forlorn = !path.with_extension("redb").exists();
        if forlorn && is_days_old(path) {
            let _ = std::fs::remove_file(path);
        }
    }
    let opened: Vec<(PathBuf, Option<Tier>)> = paths
        .into_par_iter()
        .filter(|path| is(path, "redb"))
        .map(|path| {
            let tier = open_one(&path, keyring);
            (path, tier)
        })
        .collect();
    let mut tiers = Vec::new();
    for (path, tier) in opened {
        let Some(mut tier) = tier else {
            // One without a seal may be another collector's, who is about to seal it.
            if seal_of(&path).exists() || is_days_old(&path) {
                remove_with_tier(&path);
            }
            continue;
        };
        tier.leave_out(|pack| listed.get(&pack.id) == Some(&pack.size));
        let there: Vec<PackId> = tier.there().map(|pack| pack.id).collect();
        for id in &there {
            listed.remove(id);
        }
        if there.is_empty() {
            remove_with_tier(&path);
        } else {
            tiers.push(renewed(dir, path, tier, there.len()));
        }
    }
    tiers
}

/// Without what is gone, where that is much.
fn renewed(dir: &Path, path: PathBuf, tier: Tier, there: usize) -> Tier {
    if (tier.packs.len() - there) * 100 <= tier.packs.len() * GONE_PER_CENT {
        return tier;
    }
    match merge_tiers(dir, std::slice::from_ref(&tier)) {
        Ok(merged) => {
            remove_with_tier(&path);
            merged
        }
        Err(_) => tier,
    }
}

/// Seals the tiers that have none yet. Only a hint: without it they are made anew.
pub fn seal(dir: &Path, keyring: &Keyring, tiers: &[Tier]) {
    for path in tiers.iter().filter_map(Tier::path).filter(|path| path.parent() == Some(dir)) {
        if seal_of(path).exists() {
            continue;
        }
        let Some(seal) = compute(path, keyring) else { continue };
        let aside = path.with_extension("seal-building");
        let written = std::fs::write(&aside, seal).and_then(|()| std::fs::rename(&aside, seal_of(path)));
        if written.is_err() {
            let _ = std::fs::remove_file(&aside);
        }
    }
}

/// Forgets all of them.
pub fn forget(dir: &Path) {
    let _ = std::fs::remove_dir_all(dir);
}
