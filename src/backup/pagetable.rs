//! What the pages of a database were when it was backed up last, by their hashes: kept on this machine, so that the next
//! backup finds what changed by reading once, and computes the whole file's hash from the parts that did not.
//!
//! Only a shortcut: a table that is missing, damaged, or not of the very content that the parent stored is not used. Hashes
//! are seeded at random, and some of what a table calls unchanged is compared with its name all the same (`pages`).

use crate::crypto::hash;
use crate::error::Result;
use crate::id::hex;
use crate::repository::random;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128_with_seed};

const MAGIC: &[u8; 16] = b"snapkeep pages 1";
const HEADER: usize = 16 + 32 + 4 + 4 + 8 + 8 + 8;
/// Hashes of one table: larger databases are hashed in larger blocks.
const BLOCKS_MAX: u64 = 512 << 10;
/// Parts of the file's hash: at least so many bytes each, and at most.
const PART_MIN: u64 = 64 << 10;
pub const PART_MAX: u64 = 1 << 20;

/// The hashes of one image.
pub struct Table {
    page_size: u32,
    pages: u32,
    /// Bytes of a block, a power of two; a part holds whole blocks.
    block: u64,
    part: u64,
    seed: u64,
    blocks: Vec<u128>,
    parts: Vec<[u8; 32]>,
}

/// Which blocks are not what they were.
pub struct Changes {
    block: u64,
    blocks: u64,
    bits: Vec<u64>,
    pub changed: u64,
}

impl Changes {
    /// Whether bytes `start..end` are as they were.
    pub fn spare(&self, start: u64, end: u64) -> bool {
        (start / self.block..end.div_ceil(self.block)).all(|block| block < self.blocks && !self.has(block))
    }

    fn has(&self, block: u64) -> bool {
        self.bits.get((block / 64) as usize).is_none_or(|word| word >> (block % 64) & 1 == 1)
    }

    fn mark(&mut self, block: u64) {
        if let Some(word) = self.bits.get_mut((block / 64) as usize)
            && *word >> (block % 64) & 1 == 0
        {
            *word |= 1 << (block % 64);
            self.changed += 1;
        }
    }

    /// Changed blocks of all, in per cent.
    pub fn percent(&self, len: u64) -> u64 {
        (self.changed * 100).checked_div(len.div_ceil(self.block)).unwrap_or(0)
    }
}

impl Table {
    /// An empty table for an image of this size, to be filled by `take` in order.
    pub fn new(page_size: u32, pages: u32) -> Result<Self> {
        let len = u64::from(page_size) * u64::from(pages);
        let mut block = u64::from(page_size);
        while len.div_ceil(block) > BLOCKS_MAX && block < PART_MAX {
            block *= 2;
        }
        let mut part = PART_MIN.max(block);
        while len.div_ceil(part) > BLOCKS_MAX && part < PART_MAX {
            part *= 2;
        }
        let seed = u64::from_le_bytes(random::bytes()?);
        Ok(Table { page_size, pages, block, part, seed, blocks: Vec::new(), parts: Vec::new() })
    }

    fn len(&self) -> u64 {
        u64::from(self.page_size) * u64::from(self.pages)
    }

    /// The next bytes of the image: a multiple of the largest part, or all that is left. With the table of the image before
    /// (same blocks, same seed) says which blocks have changed, and takes over what has not.
    pub fn take(&mut self, bytes: &[u8], before: Option<(&Table, &mut Changes)>) {
        let first = self.blocks.len();
        let hashes = bytes.chunks(self.block as usize).map(|block| xxh3_128_with_seed(block, self.seed));
        self.blocks.extend(hashes);
        let at = self.parts.len() as u64 * self.part;
        let Some((old, changes)) = before else {
            for (number, part) in bytes.chunks(self.part as usize).enumerate() {
                self.parts.push(hash::part(at + number as u64 * self.part, part));
            }
            return;
        };
        for (number, hash) in self.blocks[first..].iter().enumerate() {
            if old.blocks.get(first + number) != Some(hash) {
                changes.mark((first + number) as u64);
            }
        }
        for (number, part) in bytes.chunks(self.part as usize).enumerate() {
            let start = at + number as u64 * self.part;
            let end = start + part.len() as u64;
            // A part that ended the old image, or ends this one, may have had another length.
            let whole = end - start == self.part && end <= old.len();
            let known = old.parts.get(self.parts.len()).filter(|_| whole && changes.spare(start, end));
            self.parts.push(known.copied().unwrap_or_else(|| hash::part(start, part)));
        }
    }

    /// The hash of the whole image, as `FileHash` gives it, once all of it has been taken. Only for images of more than
    /// one part.
    pub fn hash(&self) -> Option<[u8; 32]> {
        let complete = self.parts.len() as u64 == self.len().div_ceil(self.part);
        (complete && self.parts.len() > 1).then(|| hash::whole(&self.parts, self.part, self.len()))
    }

    /// An empty table for the image after this one, and where its changes will stand; `None` when the two cannot be
    /// compared.
    pub fn successor(&self, page_size: u32, pages: u32) -> Option<(Table, Changes)> {
        let mut next = Table::new(page_size, pages).ok()?;
        if (next.page_size, next.block, next.part) != (self.page_size, self.block, self.part) {
            return None;
        }
        next.seed = self.seed;
        let blocks = next.len().div_ceil(next.block);
        let bits = vec![0; blocks.div_ceil(64) as usize];
        let changes = Changes { block: next.block, blocks, bits, changed: 0 };
        Some((next, changes))
    }

    fn file(dir: &Path, path: &[u8]) -> PathBuf {
        dir.join(hex(&hash::plain(path)[..16]))
    }

    /// The table of the content with this hash, if it is there.
    pub fn load(dir: &Path, path: &[u8], content: &[u8; 32]) -> Option<Table> {
        let bytes = std::fs::read(Table::file(dir, path)).ok()?;
        let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(8)?)?;
        let right = xxh3_64(body).to_le_bytes() == sum;
        if !right || body.len() < HEADER || &body[..16] != MAGIC || &body[16..48] != content {
            return None;
        }
        let number = |at: usize| body[at..at + 4].try_into().map(u32::from_le_bytes);
        let long = |at: usize| body[at..at + 8].try_into().map(u64::from_le_bytes);
        let mut table = Table::new(number(48).ok()?, number(52).ok()?).ok()?;
        table.seed = long(56).ok()?;
        if (table.block, table.part) != (long(64).ok()?, long(72).ok()?) || table.pages == 0 {
            return None;
        }
        let blocks = table.len().div_ceil(table.block) as usize;
        let parts = table.len().div_ceil(table.part) as usize;
        let (hashes, rest) = body[HEADER..].split_at_checked(blocks * 16)?;
        if rest.len() != parts * 32 {
            return None;
        }
        table.blocks = hashes.as_chunks::<16>().0.iter().map(|h| u128::from_le_bytes(*h)).collect();
        table.parts = rest.as_chunks::<32>().0.to_vec();
        Some(table)
    }

    /// Keeps the table for the next backup. Losing it loses nothing.
    pub fn save(&self, dir: &Path, path: &[u8], content: &[u8; 32]) {
        let mut bytes = Vec::with_capacity(HEADER + self.blocks.len() * 16 + self.parts.len() * 32 + 8);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(content);
        bytes.extend_from_slice(&self.page_size.to_le_bytes());
        bytes.extend_from_slice(&self.pages.to_le_bytes());
        for number in [self.seed, self.block, self.part] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        self.blocks.iter().for_each(|hash| bytes.extend_from_slice(&hash.to_le_bytes()));
        self.parts.iter().for_each(|hash| bytes.extend_from_slice(hash));
        let sum = xxh3_64(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        let place = Table::file(dir, path);
        let Ok(unique) = random::bytes::<8>() else { return };
        let aside = place.with_extension(hex(&unique));
        let _ = std::fs::create_dir_all(dir);
        if std::fs::write(&aside, &bytes).and_then(|()| std::fs::rename(&aside, &place)).is_err() {
            let _ = std::fs::remove_file(&aside);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_finds_what_changed_and_hashes_the_whole() {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut bytes: Vec<u8> =
            (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 9) as u8).collect();
        bytes.truncate(700 * 4096);
        let fill = |table: &mut Table, bytes: &[u8], mut before: Option<(&Table, &mut Changes)>| {
            for piece in bytes.chunks(PART_MAX as usize) {
                table.take(piece, before.as_mut().map(|(old, changes)| (*old, &mut **changes)));
            }
        };
        let mut first = Table::new(4096, 700).expect("a table");
        fill(&mut first, &bytes, None);
        let hash = first.hash().expect("complete");
        assert_eq!(hash, crate::crypto::hash::plain(&bytes));
        first.save(dir.path(), b"srv/app.db", &hash);
        let old = Table::load(dir.path(), b"srv/app.db", &hash).expect("kept");
        assert!(Table::load(dir.path(), b"srv/app.db", &[0; 32]).is_none());
        assert!(Table::load(dir.path(), b"srv/other.db", &hash).is_none());
        for page in [3usize, 300, 699] {
            bytes[page * 4096 + 17] ^= 1;
        }
        bytes.extend_from_slice(&[7; 5 * 4096]);
        let (mut second, mut changes) = old.successor(4096, 705).expect("comparable");
        fill(&mut second, &bytes, Some((&old, &mut changes)));
        assert_eq!(second.hash().expect("complete"), crate::crypto::hash::plain(&bytes));
        assert_eq!((changes.changed, changes.percent(705 * 4096)), (8, 1));
        assert!(changes.spare(4 * 4096, 300 * 4096) && !changes.spare(3 * 4096, 5 * 4096));
        assert!(!changes.spare(700 * 4096, 701 * 4096) && !changes.spare(705 * 4096, 706 * 4096));
        assert!(old.successor(8192, 350).is_none());
        let file = std::fs::read_dir(dir.path()).expect("list").next().expect("one").expect("entry").path();
        let mut kept = std::fs::read(&file).expect("read");
        let middle = kept.len() / 2;
        kept[middle] ^= 1;
        std::fs::write(&file, kept).expect("written");
        assert!(Table::load(dir.path(), b"srv/app.db", &hash).is_none(), "a damaged table is not used");
    }
}
