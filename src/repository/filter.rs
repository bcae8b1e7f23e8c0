//! Which chunks a tier certainly does not list: a blocked Bloom filter, one cache line a question.
//!
//! Ten bits and six probes a chunk: about one in seventy of the chunks that are not there is asked for in vain. (F. Putze,
//! P. Sanders, J. Singler, "Cache-, Hash- and Space-Efficient Bloom Filters", 2007.) Chunk ids are uniform, so their
//! own bytes serve as hashes. The file beside a tier may be deleted at any time.

use crate::crypto::hash;
use crate::id::ChunkId;
use std::path::{Path, PathBuf};

const BLOCK_BYTES: usize = 64;
const BITS_PER_CHUNK: u64 = 10;
const PROBES: usize = 6;

/// Says of a chunk that it may be there, or that it is not.
pub struct Filter {
    blocks: Vec<u8>,
}

/// Where a tier's filter lies.
fn path_of(tier: &Path) -> PathBuf {
    tier.with_extension("filter")
}

/// Block of a chunk and the bits in it.
fn probes(id: &ChunkId, blocks: usize) -> (usize, [u16; PROBES]) {
    let word = |at: usize| u64::from(u16::from_le_bytes([id.0[at], id.0[at + 1]]));
    let hash = word(0) | word(2) << 16 | word(4) << 32 | word(6) << 48;
    let block = ((u128::from(hash) * blocks as u128) >> 64) as usize;
    let bit = |probe: usize| (word(8 + 2 * probe) % (8 * BLOCK_BYTES as u64)) as u16;
    (block, std::array::from_fn(bit))
}

impl Filter {
    /// Room for so many chunks.
    pub fn new(chunks: u64) -> Self {
        let blocks = (chunks * BITS_PER_CHUNK).div_ceil(8 * BLOCK_BYTES as u64).max(1);
        Filter { blocks: vec![0; usize::try_from(blocks).unwrap_or(1) * BLOCK_BYTES] }
    }

    pub fn insert(&mut self, id: &ChunkId) {
        let (block, bits) = probes(id, self.blocks.len() / BLOCK_BYTES);
        for bit in bits {
            self.blocks[block * BLOCK_BYTES + usize::from(bit / 8)] |= 1 << (bit % 8);
        }
    }

    /// False only for chunks that were never inserted.
    pub fn may_hold(&self, id: &ChunkId) -> bool {
        let (block, bits) = probes(id, self.blocks.len() / BLOCK_BYTES);
        let block = &self.blocks[block * BLOCK_BYTES..];
        bits.iter().all(|bit| block[usize::from(bit / 8)] >> (bit % 8) & 1 == 1)
    }

    /// Stores it beside a tier. Without it everything works, only slower.
    pub fn store(&self, tier: &Path) {
        let path = path_of(tier);
        let aside = path.with_extension("filter-building");
        let sum = hash::plain(&self.blocks);
        let written = std::fs::write(&aside, [&self.blocks[..], &sum[..]].concat());
        if written.and_then(|()| std::fs::rename(&aside, &path)).is_err() {
            let _ = std::fs::remove_file(&aside);
        }
    }

    /// The filter of a tier; `None` when there is none or it is damaged.
    pub fn load(tier: &Path) -> Option<Self> {
        let mut blocks = std::fs::read(path_of(tier)).ok()?;
        let sum = blocks.split_off(blocks.len().checked_sub(32)?);
        let whole = blocks.len().is_multiple_of(BLOCK_BYTES) && !blocks.is_empty();
        (whole && hash::plain(&blocks)[..] == sum[..]).then_some(Filter { blocks })
    }
}

/// Removes a tier's file, its filter, and its seal if it has one.
pub fn remove_with_tier(tier: &Path) {
    let _ = std::fs::remove_file(tier.with_extension("seal"));
    let _ = std::fs::remove_file(tier);
    let _ = std::fs::remove_file(path_of(tier));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> ChunkId {
        ChunkId::from_slice(&hash::plain(&number.to_le_bytes())[..24]).expect("24 bytes")
    }

    #[test]
    fn nothing_inserted_is_denied_and_little_else_let_through() {
        let mut filter = Filter::new(10_000);
        (0..10_000).for_each(|n| filter.insert(&id(n)));
        assert!((0..10_000).all(|n| filter.may_hold(&id(n))));
        let wrong = (10_000..110_000).filter(|n| filter.may_hold(&id(*n))).count();
        assert!((1..4000).contains(&wrong), "{wrong} of 100,000");
    }

    #[test]
    fn a_damaged_file_is_no_filter() {
        let dir = std::env::temp_dir().join(format!("filter-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        let tier = dir.join("tier.redb");
        let mut filter = Filter::new(100);
        filter.insert(&id(1));
        filter.store(&tier);
        assert!(Filter::load(&tier).is_some_and(|f| f.may_hold(&id(1))));
        let path = path_of(&tier);
        let mut bytes = std::fs::read(&path).expect("read");
        bytes[3] ^= 1;
        std::fs::write(&path, bytes).expect("written");
        assert!(Filter::load(&tier).is_none());
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
