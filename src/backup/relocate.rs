//! Bases for pages that have moved: after `VACUUM` the rows are the same, but in other pages at other places, and what stood
//! at the same place before is of no use.
//!
//! **Anchors** find them: a rolling hash over 64 bytes is taken at every position, and one position in 256 is kept, chosen
//! by the hash itself, so that equal bytes have equal anchors wherever they stand. Each new chunk is stored against those
//! old chunks that share most anchors with it. The old chunks are those the skip rule would choose, one step down from the
//! parent's, so that histories stay as shallow as without moving.

use super::item::OldChunks;
use crate::crypto::ChunkSort;
use crate::error::Result;
use crate::id::{ChunkId, ChunkSet};
use crate::os::spool::Spool;
use crate::progress::Progress;
use crate::repository::encode::History;
use crate::repository::reader::Past;
use crate::repository::writer::{BASES_MAX, DeltaPolicy, Writer};
use std::path::Path;

/// Most anchors kept of an image, 8 bytes each; larger images are sampled more thinly.
const ANCHORS_MAX: u64 = 2 << 20;
/// One position in 2 to the power of this is an anchor, at least.
const RATE_BITS: u32 = 8;
/// What many chunks share says nothing about any of them.
const COMMON: usize = 16;
/// Enough of a chunk's anchors found: more bases would bring little, in per cent.
const ENOUGH_PERCENT: usize = 97;
/// Bytes to decode for one relocated chunk.
const CLOSURE_MAX: u64 = 48 << 20;
/// The old chunks in memory; more go to a nameless file.
const MEMORY: usize = 16 << 20;

/// Old chunks and where their bytes turn up.
pub struct Relocation {
    bases: Vec<Base>,
    /// Anchor and number of the base, sorted.
    anchors: Vec<(u32, u32)>,
    rate_bits: u32,
    bytes: Spool,
}

struct Base {
    id: ChunkId,
    at: u64,
    len: u32,
    /// Of a chunk stored against this one.
    version: u8,
    depth: u8,
    closure: u64,
    /// Stored and plain bytes of the whole copy it goes back to.
    ratio: (u64, u64),
}

impl Relocation {
    /// Gathers the old chunks, each decoded once, in order.
    pub fn gather(writer: &Writer, old: &OldChunks, scratch: &Path, progress: &Progress) -> Result<Self> {
        let reader = &writer.reader;
        let (mut seen, mut at, mut anchors) = (ChunkSet::default(), 0, Vec::new());
        let mut gathered = Relocation {
            bases: Vec::new(),
            anchors: Vec::new(),
            rate_bits: RATE_BITS,
            bytes: Spool::new(scratch, MEMORY),
        };
        let total = old.ends().last().unwrap_or(0);
        while total >> gathered.rate_bits > ANCHORS_MAX {
            gathered.rate_bits += 1;
        }
        for chunk in old.all() {
            progress.keep_going()?;
            let Some((ids, version)) = writer.bases_of_next(&chunk, DeltaPolicy::RELOCATED)? else {
                continue;
            };
            for id in ids {
                if !seen.insert(id) {
                    continue;
                }
                // Damage found in passing costs compression only.
                let Ok(plain) = reader.get(ChunkSort::Content, &id) else { continue };
                let Ok(closure) = reader.closure(ChunkSort::Content, &id) else { continue };
                let depth = writer.index().find_trusted(&id)?.map_or(0, |found| found.place.depth);
                let ratio = reader.whole_ratio(ChunkSort::Content, &id)?;
                let number = gathered.bases.len() as u32;
                for_each_anchor(&plain, gathered.rate_bits, |anchor| anchors.push((anchor, number)));
                gathered.bytes.append(&plain)?;
                let len = plain.len() as u32;
                gathered.bases.push(Base { id, at, len, version, depth, closure, ratio });
                at += u64::from(len);
            }
        }
        anchors.sort_unstable();
        anchors.dedup();
        anchors.shrink_to_fit();
        gathered.anchors = anchors;
        Ok(gathered)
    }

    /// The history of a new chunk: the old ones that share most with it, the best one nearest.
    pub fn history(&self, plain: &[u8]) -> Result<Option<History>> {
        let chosen = self.choose(plain);
        let mut closure = plain.len() as u64;
        let (mut bases, mut len) = (Vec::new(), 0u64);
        for number in chosen {
            let base = &self.bases[number];
            if closure + base.closure <= CLOSURE_MAX {
                closure += base.closure;
                len += u64::from(base.len);
                bases.push(base);
            }
        }
        let Some(best) = bases.first().copied() else { return Ok(None) };
        bases.reverse();
        let mut bytes = vec![0; len as usize];
        let mut rest = bytes.as_mut_slice();
        for base in &bases {
            let (part, after) = rest.split_at_mut(base.len as usize);
            self.bytes.read(base.at, part)?;
            rest = after;
        }
        let (stored, raw) = best.ratio;
        Ok(Some(History {
            version: bases.iter().map(|b| b.version).max().unwrap_or(1),
            depth: bases.iter().map(|b| b.depth).max().unwrap_or(0) + 1,
            closure,
            whole: (plain.len() as u64 * stored / raw.max(1)) as usize + 32,
            bases: bases.iter().map(|b| b.id).collect(),
            bytes: Past::Joined(bytes),
        }))
    }

    /// Numbers of the bases that share most anchors with `plain`, best first.
    fn choose(&self, plain: &[u8]) -> Vec<usize> {
        let mut wanted = Vec::new();
        for_each_anchor(plain, self.rate_bits, |anchor| wanted.push(anchor));
        wanted.sort_unstable();
        wanted.dedup();
        // Greedily: the base that explains most of what no base before it explains.
        let mut holders: Vec<Vec<u32>> = Vec::with_capacity(wanted.len());
        for anchor in &wanted {
            let from = self.anchors.partition_point(|(a, _)| a < anchor);
            let same = self.anchors[from..].iter().take_while(|(a, _)| a == anchor).take(COMMON + 1);
            let numbers: Vec<u32> = same.map(|(_, number)| *number).collect();
            if !numbers.is_empty() && numbers.len() <= COMMON {
                holders.push(numbers);
            }
        }
        let all = holders.len();
        let mut chosen = Vec::new();
        while chosen.len() < BASES_MAX && (all - holders.len()) * 100 < all * ENOUGH_PERCENT {
            let mut votes = std::collections::BTreeMap::new();
            for number in holders.iter().flatten() {
                *votes.entry(*number).or_insert(0) += 1;
            }
            let Some((best, _)) = votes.into_iter().max_by_key(|(number, count)| (*count, *number)) else {
                break;
            };
            holders.retain(|numbers| !numbers.contains(&best));
            chosen.push(best as usize);
        }
        chosen
    }
}

/// Calls `each` for every anchor of `bytes`.
fn for_each_anchor(bytes: &[u8], rate_bits: u32, mut each: impl FnMut(u32)) {
    let mask = !(u64::MAX >> rate_bits);
    let mut hash = 0u64;
    for (at, byte) in bytes.iter().enumerate() {
        hash = (hash << 1).wrapping_add(TABLE[usize::from(*byte)]);
        // The top bits depend on all of the last 64 bytes.
        if hash & mask == 0 && at >= 63 {
            each((hash >> (32 - rate_bits)) as u32);
        }
    }
}

/// Any numbers will do: they are never stored.
static TABLE: [u64; 256] = table();

const fn table() -> [u64; 256] {
    let (mut table, mut state, mut i) = ([0; 256], 0x9e37_79b9_7f4a_7c15_u64, 0);
    while i < 256 {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        table[i] = z ^ (z >> 31);
        i += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_bytes_have_equal_anchors_wherever_they_stand() {
        let mut state = 7u64;
        let noise: Vec<u8> = (0..20_000)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        let anchors = |bytes: &[u8]| {
            let mut all = Vec::new();
            for_each_anchor(bytes, 8, |anchor| all.push(anchor));
            all
        };
        let there = anchors(&noise);
        assert!((40..160).contains(&there.len()), "{} anchors in 20,000 bytes", there.len());
        let moved = [&[1u8; 77][..], &noise[5000..9000]].concat();
        let inner: Vec<_> = anchors(&noise[5000..9000]);
        assert!(inner.len() > 4 && inner.iter().all(|a| there.contains(a) && anchors(&moved).contains(a)));
        assert!(anchors(&[0; 5000]).windows(2).all(|pair| pair[0] == pair[1]), "a run is one anchor at most");
    }
}
