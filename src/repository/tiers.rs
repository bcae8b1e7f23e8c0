//! The files of tiers in the cache: open those that fit a listing, merge several into one.

use super::filter;
use super::place::{Listed, PackInfo};
use super::tier::Tier;
use crate::error::{Error, Result};
use crate::id::PackId;
use std::collections::HashMap;
use std::path::Path;

/// So many tiers of about one size are merged into one: each chunk is rewritten a few times, however many there are.
const TIERS_MERGED: usize = 8;
/// All tiers of fewer chunks count as of one size.
const TIER_CHUNKS_MIN: u64 = 4096;

/// Whether nobody has written this file for days.
pub fn is_days_old(path: &Path) -> bool {
    let age = std::fs::metadata(path).and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
    age.is_some_and(|age| age.as_secs() > 2 * 86_400)
}

/// Opens the cache's tiers that fit the listing and takes their packs out of it; deletes the others.
pub fn open_tiers(dir: &Path, listed: &mut HashMap<PackId, u64>) -> Vec<Tier> {
    let mut tiers = Vec::new();
    let Ok(entries) = std::fs::read_dir(dir) else { return tiers };
    for path in entries.flatten().map(|e| e.path()) {
        if path.extension().is_some_and(|e| e == "building") && is_days_old(&path) {
            // Left behind by a run that was killed.
            let _ = std::fs::remove_file(&path);
        }
        let forlorn =
            path.extension().is_some_and(|e| e == "filter") && !path.with_extension("redb").exists();
        if forlorn && is_days_old(&path) {
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
            _ => filter::remove_with_tier(&path),
        }
    }
    tiers
}

/// Merges sorted tiers into one file, streaming; what lies in packs that are gone is left behind.
pub fn merge_tiers(dir: &Path, tiers: &[Tier]) -> Result<Tier> {
    let packs: Vec<PackInfo> = tiers.iter().flat_map(Tier::there).copied().collect();
    // New numbers by the old ones, tier by tier.
    let mut next = 0;
    let mut numbers = Vec::new();
    for tier in tiers {
        let there: Vec<PackId> = tier.there().map(|pack| pack.id).collect();
        let mut kept = there.iter().peekable();
        let number = |pack: &PackInfo| {
            let taken = kept.next_if(|id| **id == pack.id).map(|_| next);
            next += u32::from(taken.is_some());
            taken.unwrap_or(u32::MAX)
        };
        numbers.push(tier.packs.iter().map(number).collect::<Vec<u32>>());
    }
    // The tiers are read side by side on threads of their own, a bounded number of entries ahead.
    std::thread::scope(|scope| {
        let mut heads = Vec::new();
        for (tier, numbers) in tiers.iter().zip(&numbers) {
            let (send, receive) = crossbeam_channel::bounded::<Result<Listed>>(4096);
            scope.spawn(move || {
                let sent = tier.for_each(&mut |_, mut listed| {
                    let number = numbers.get(listed.place.pack as usize).copied();
                    listed.place.pack = number.unwrap_or(u32::MAX);
                    send.send(Ok(listed)).map_err(|_| Error::corrupt("merge abandoned"))
                });
                if let Err(e) = sent {
                    let _ = send.send(Err(e));
                }
            });
            heads.push((receive.recv().ok().transpose()?, receive));
        }
        // `heads` moves in: should building fail, the readers' channels close and their threads end.
        let chunks = tiers.iter().map(Tier::count).sum();
        Tier::build(dir, &packs, chunks, move |put| {
            loop {
                let next = heads
                    .iter()
                    .enumerate()
                    .filter_map(|(i, (head, _))| head.as_ref().map(|l| (l.id, l.place.depth, i)))
                    .min();
                let Some((_, _, best)) = next else { return Ok(()) };
                let (head, receive) = &mut heads[best];
                if let Some(listed) = head {
                    put(listed)?;
                }
                *head = receive.recv().ok().transpose()?;
            }
        })
    })
}

/// Merges tiers of about one size until there are few of each, of those from number `from` on; on any trouble they
/// simply stay.
pub fn settle(tiers: &mut Vec<Tier>, dir: &Path, from: usize) {
    let size =
        |tier: &Tier| (tier.count() / TIER_CHUNKS_MIN).checked_ilog(TIERS_MERGED as u64).map_or(0, |n| n + 1);
    loop {
        let mut sizes: Vec<u32> = tiers[from..].iter().map(size).collect();
        sizes.sort_unstable();
        let many = sizes.chunk_by(|a, b| a == b).find(|same| same.len() >= TIERS_MERGED);
        let Some(same) = many.and_then(|same| same.first().copied()) else { return };
        let (mut chosen, rest): (Vec<Tier>, Vec<Tier>) = tiers.drain(from..).partition(|t| size(t) == same);
        tiers.extend(rest);
        // Beside the filter of the new one they would take twice the memory.
        chosen.iter_mut().for_each(Tier::drop_filter);
        let Ok(merged) = merge_tiers(dir, &chosen) else {
            tiers.extend(chosen);
            return;
        };
        for path in chosen.iter().filter_map(Tier::path) {
            filter::remove_with_tier(path);
        }
        tiers.push(merged);
    }
}
