//! The trees of a database, by their inner pages only: which pages are leaves, and which row numbers each can hold.
//!
//! A tree has all its leaves at one depth, so that one page of a level tells what the level is, and leaves need not be read to
//! be known. Whatever does not look like a tree ends the walk with `None`: then nobody may rely on it.

use super::header::{Header, LEN, lock_page};
use super::image::Bytes;
use crate::error::Result;

/// Depths that no tree of four thousand million pages has.
const DEPTH_MAX: usize = 40;
const INNER_INDEX: u8 = 2;
const INNER_TABLE: u8 = 5;
const LEAF_INDEX: u8 = 10;
const LEAF_TABLE: u8 = 13;

/// A set of pages.
#[derive(Clone, Debug, Default)]
pub struct PageSet {
    words: Vec<u64>,
}

impl PageSet {
    pub fn new(pages: u32) -> Self {
        PageSet { words: vec![0; pages as usize / 64 + 1] }
    }

    /// Whether it was not in it before; pages beyond the end never are.
    pub fn insert(&mut self, page: u32) -> bool {
        let Some(word) = self.words.get_mut(page as usize / 64) else { return false };
        let bit = 1 << (page % 64);
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    pub fn remove(&mut self, page: u32) {
        if let Some(word) = self.words.get_mut(page as usize / 64) {
            *word &= !(1 << (page % 64));
        }
    }

    pub fn has(&self, page: u32) -> bool {
        self.words.get(page as usize / 64).is_some_and(|word| word & 1 << (page % 64) != 0)
    }

    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        let words = self.words.iter().enumerate().filter(|(_, word)| **word != 0);
        words.flat_map(|(at, word)| {
            (0..64u32).filter(move |bit| word >> bit & 1 == 1).map(move |bit| at as u32 * 64 + bit)
        })
    }
}

/// A leaf and the last row number it can hold; those before the last of its neighbour are the neighbour's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    pub page: u32,
    pub last: i64,
}

/// A tree without the content of its leaves.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    pub inner: Vec<u32>,
    /// In the order of their rows.
    pub leaves: Vec<Leaf>,
}

/// The pages of an image.
pub struct Pages {
    bytes: Box<dyn Bytes>,
    pub size: u32,
    /// Bytes of a page that SQLite uses.
    pub usable: usize,
    pub count: u32,
    page: Vec<u8>,
    header: [u8; LEN],
}

impl Pages {
    /// `None` when the image does not begin as a database.
    pub fn new(mut bytes: Box<dyn Bytes>) -> Result<Option<Self>> {
        let mut header = [0; LEN];
        if bytes.len() < LEN as u64 {
            return Ok(None);
        }
        bytes.read_at(0, &mut header)?;
        let Some(parsed) = Header::parse(&header) else { return Ok(None) };
        let size = parsed.page_size;
        let usable = size as usize - usize::from(header[20]);
        let count = u32::try_from(bytes.len() / u64::from(size)).unwrap_or(u32::MAX);
        Ok(Some(Pages { bytes, size, usable, count, page: vec![0; size as usize], header }))
    }

    fn number(&self, at: usize) -> u32 {
        u32::from_be_bytes([self.header[at], self.header[at + 1], self.header[at + 2], self.header[at + 3]])
    }

    /// Reads one page; pages that are not there are empty.
    pub fn read(&mut self, page: u32) -> Result<&[u8]> {
        if page == 0 || page > self.count {
            self.page.fill(0);
        } else {
            self.bytes.read_at(u64::from(page - 1) * u64::from(self.size), &mut self.page)?;
        }
        Ok(&self.page)
    }

    /// Walks the tree that begins at `root`.
    pub fn tree(&mut self, root: u32) -> Result<Option<Tree>> {
        let mut seen = PageSet::new(self.count);
        let mut tree = Tree::default();
        let mut level = vec![Leaf { page: root, last: i64::MAX }];
        for _ in 0..DEPTH_MAX {
            if level.iter().any(|node| node.page == 0 || node.page > self.count || !seen.insert(node.page)) {
                return Ok(None);
            }
            let Some(first) = level.first() else { return Ok(None) };
            let kind = kind(self.read(first.page)?, first.page);
            match kind {
                LEAF_TABLE | LEAF_INDEX => {
                    tree.leaves = level;
                    return Ok(Some(tree));
                }
                INNER_TABLE | INNER_INDEX => {}
                _ => return Ok(None),
            }
            let mut next = Vec::new();
            for node in level {
                let usable = self.usable;
                if !children(self.read(node.page)?, node, kind, usable, &mut next)
                    || next.len() > self.count as usize
                {
                    return Ok(None);
                }
                tree.inner.push(node.page);
            }
            level = next;
        }
        Ok(None)
    }

    /// Pages on the list of free ones; `None` when it is no list.
    pub fn free(&mut self) -> Result<Option<Vec<u32>>> {
        let mut free = Vec::new();
        let mut seen = PageSet::new(self.count);
        let mut trunk = self.number(32);
        while trunk != 0 {
            if trunk > self.count || !seen.insert(trunk) {
                return Ok(None);
            }
            free.push(trunk);
            let usable = self.usable;
            let page = self.read(trunk)?;
            let word = |at: usize| page.get(at..at + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
            let count = word(4).unwrap_or(0) as usize;
            if count > usable / 4 {
                return Ok(None);
            }
            let (leaves, next) = ((0..count).filter_map(|n| word(8 + 4 * n)).collect::<Vec<_>>(), word(0));
            free.extend(leaves);
            trunk = next.unwrap_or(0);
        }
        Ok(Some(free))
    }

    /// Whether the page holds nothing of any tree by its very place: a map of pages, or the lock bytes.
    pub fn is_set_aside(&self, page: u32) -> bool {
        if page == lock_page(self.size) {
            return true;
        }
        // The largest root is kept only where there are maps.
        if self.number(52) == 0 || page < 2 {
            return false;
        }
        let span = (self.usable / 5 + 1) as u32;
        let map = (page - 2) / span * span + 2;
        page == if map == lock_page(self.size) { map + 1 } else { map }
    }

    /// Row numbers in a leaf of a table whose content goes on in one of `pages`; `None` when this is no such leaf.
    pub fn rows_in(&mut self, leaf: u32, pages: &PageSet) -> Result<Option<Vec<i64>>> {
        let usable = self.usable;
        let page = self.read(leaf)?.to_vec();
        let start = if leaf == 1 { LEN } else { 0 };
        if kind(&page, leaf) != LEAF_TABLE {
            return Ok(None);
        }
        let mut found = Vec::new();
        for at in cells(&page, start, 8) {
            let Some((len, rest)) = page.get(at..).and_then(varint) else { return Ok(None) };
            let Some((number, rest)) = varint(rest) else { return Ok(None) };
            let Some(local) = local_len(len, usable) else { continue };
            let Some(first) = rest.get(local..local + 4) else { return Ok(None) };
            let mut next = u32::from_be_bytes([first[0], first[1], first[2], first[3]]);
            let most = (len as u64).div_ceil(usable as u64 - 4) + 1;
            for _ in 0..most {
                if next == 0 || next > self.count {
                    break;
                }
                if pages.has(next) {
                    found.push(number);
                    break;
                }
                let mut word = [0; 4];
                self.bytes.read_at(u64::from(next - 1) * u64::from(self.size), &mut word)?;
                next = u32::from_be_bytes(word);
            }
        }
        Ok(Some(found))
    }
}

fn kind(page: &[u8], number: u32) -> u8 {
    page.get(if number == 1 { LEN } else { 0 }).copied().unwrap_or(0)
}

/// Where the cells of a page begin.
fn cells(page: &[u8], start: usize, head: usize) -> Vec<usize> {
    let short = |at: usize| page.get(at..at + 2).map(|b| usize::from(u16::from_be_bytes([b[0], b[1]])));
    let count = short(start + 3).unwrap_or(0);
    (0..count).map_while(|n| short(start + head + 2 * n)).collect()
}

/// Appends the children of an inner page; whether it is one of this kind.
fn children(page: &[u8], node: Leaf, wanted: u8, usable: usize, out: &mut Vec<Leaf>) -> bool {
    let start = if node.page == 1 { LEN } else { 0 };
    if kind(page, node.page) != wanted {
        return false;
    }
    let word = |at: usize| page.get(at..at + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
    let all = cells(page, start, 12);
    let short = page.get(start + 3..start + 5).map_or(0, |b| usize::from(u16::from_be_bytes([b[0], b[1]])));
    if all.len() != short {
        return false;
    }
    let mut before = i64::MIN;
    for at in all {
        let Some(child) = word(at).filter(|_| at < usable) else { return false };
        let mut last = i64::MAX;
        if wanted == INNER_TABLE {
            let Some((number, _)) = page.get(at + 4..).and_then(varint) else { return false };
            if number < before || number > node.last {
                return false;
            }
            (before, last) = (number, number);
        }
        out.push(Leaf { page: child, last });
    }
    match word(start + 8) {
        Some(child) => out.push(Leaf { page: child, last: node.last }),
        None => return false,
    }
    true
}

/// A number of one to nine bytes, and what comes after it.
pub(super) fn varint(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let mut value = 0u64;
    for (at, &byte) in bytes.iter().enumerate().take(9) {
        if at == 8 {
            return Some(((value << 8 | u64::from(byte)) as i64, &bytes[9..]));
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((value as i64, &bytes[at + 1..]));
        }
    }
    None
}

/// How much of so long a row stands in its leaf; `None` when all of it does.
fn local_len(len: i64, usable: usize) -> Option<usize> {
    let len = usize::try_from(len).ok()?;
    let most = usable - 35;
    if len <= most {
        return None;
    }
    let least = (usable - 12) * 32 / 255 - 23;
    let local = least + (len - least) % (usable - 4);
    Some(if local <= most { local } else { least })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_sets_of_pages() {
        assert_eq!(varint(&[0x7f, 1]), Some((127, &[1][..])));
        assert_eq!(varint(&[0x81, 0]), Some((128, &[][..])));
        assert_eq!(varint(&[0xff; 9]), Some((-1, &[][..])));
        assert_eq!(varint(&[0xff; 8]), None);
        let mut set = PageSet::new(130);
        assert!(set.insert(1) && set.insert(130) && !set.insert(130) && !set.insert(1000));
        assert_eq!(set.iter().collect::<Vec<_>>(), [1, 130]);
        set.remove(1);
        assert!(!set.has(1) && set.has(130) && !set.is_empty());
    }
}
