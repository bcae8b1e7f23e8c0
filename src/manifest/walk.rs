//! Stream a stored manifest in order, or find one path or subtree in it without reading the rest.

use crate::crypto::ChunkSort;
use crate::error::{Error, Result};
use crate::format::entry::{Entry, Stat, path_order};
use crate::format::group::{decode_group, decode_stats};
use crate::format::root::{Root, RootItem};
use crate::id::ChunkId;
use crate::repository::reader::Reader;
use std::cmp::Ordering;

/// All groups of a snapshot, in order: the leaves below its root.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    pub items: Vec<RootItem>,
    /// Every chunk that makes up the roots themselves.
    pub roots: Vec<ChunkId>,
}

impl Groups {
    pub fn load(reader: &Reader, root: &ChunkId) -> Result<Self> {
        let mut groups = Groups::default();
        load_level(reader, root, None, &mut groups)?;
        for pair in groups.items.windows(2) {
            if path_order(&pair[0].first, &pair[1].first) != Ordering::Less {
                return Err(Error::corrupt("a manifest's groups are out of order"));
            }
        }
        Ok(groups)
    }

    /// Entries in all groups.
    pub fn entries(&self) -> u64 {
        self.items.iter().fold(0, |n, item| n.saturating_add(item.entries))
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.items.iter().fold(0, |n, item| n.saturating_add(item.bytes))
    }

    /// Reads one group, which must also end before the next one begins.
    pub fn read(&self, reader: &Reader, number: usize) -> Result<Vec<Entry>> {
        let item = self.items.get(number);
        let item = item.ok_or_else(|| Error::corrupt("a manifest has fewer groups than were counted"))?;
        read_group_before(reader, item, self.items.get(number + 1))
    }

    /// The groups that may hold `path` or anything below it; all of them for the empty path.
    pub fn covering(&self, path: &[u8]) -> std::ops::Range<usize> {
        if path.is_empty() {
            return 0..self.items.len();
        }
        let first = self.items.partition_point(|item| path_order(&item.first, path).is_le());
        let end = self
            .items
            .partition_point(|item| path_order(&item.first, path).is_le() || is_below(&item.first, path));
        first.saturating_sub(1)..end
    }
}

/// Whether `path` lies below the directory `dir` (or is it).
pub fn is_below(path: &[u8], dir: &[u8]) -> bool {
    dir.is_empty() || (path.starts_with(dir) && matches!(path.get(dir.len()), None | Some(b'/')))
}

/// `above` is the level that a root below another must have, and what that one says of it. Since first paths ascend and
/// every item has entries, no root can come twice, and there are no more groups than the top root counts entries.
fn load_level(
    reader: &Reader,
    id: &ChunkId,
    above: Option<(u8, &RootItem)>,
    groups: &mut Groups,
) -> Result<()> {
    let root = Root::decode(&reader.get(ChunkSort::Manifest, id)?)?;
    if let Some((level, item)) = above
        && (root.level != level
            || root.items.first().map(|i| &i.first) != Some(&item.first)
            || root.entries() != item.entries)
    {
        return Err(Error::corrupt("a manifest's roots are nested wrongly"));
    }
    groups.roots.push(*id);
    if root.level == 0 {
        groups.items.extend(root.items);
        return Ok(());
    }
    for item in &root.items {
        load_level(reader, &item.id, Some((root.level - 1, item)), groups)?;
    }
    Ok(())
}

/// Reads one group's entries and checks them against the root's own words about it.
pub fn read_group(reader: &Reader, item: &RootItem) -> Result<Vec<Entry>> {
    let bytes = reader.get(ChunkSort::Manifest, &item.id)?;
    let entries = decode_group(&bytes)?;
    let first = entries.first().map(|e| e.path.as_slice());
    if first != Some(item.first.as_slice()) || entries.len() as u64 != item.entries {
        return Err(Error::corrupt("a manifest group is not the one its root names"));
    }
    Ok(entries)
}

/// As `read_group`; where the group behind it is known, all entries must stand before that.
pub fn read_group_before(reader: &Reader, item: &RootItem, next: Option<&RootItem>) -> Result<Vec<Entry>> {
    let entries = read_group(reader, item)?;
    if let (Some(last), Some(next)) = (entries.last(), next)
        && path_order(&last.path, &next.first).is_ge()
    {
        return Err(Error::corrupt("a manifest group ends behind the beginning of the next"));
    }
    Ok(entries)
}

/// The stat column of a group; `None` when there is none or it cannot be read: it decides nothing but speed.
pub fn read_stats(reader: &Reader, item: &RootItem, entries: &[Entry]) -> Option<Vec<Stat>> {
    let bytes = reader.get(ChunkSort::Manifest, item.stat.as_ref()?).ok()?;
    decode_stats(&bytes, entries).ok()
}

/// Entries in order, one group in memory at a time.
pub struct Walk<'r> {
    reader: &'r Reader,
    groups: Groups,
    next_group: usize,
    end_group: usize,
    below: Vec<u8>,
    current: std::vec::IntoIter<Entry>,
}

impl<'r> Walk<'r> {
    /// Everything at or below `below` (raw bytes, no leading slash; empty for all).
    pub fn new(reader: &'r Reader, root: &ChunkId, below: &[u8]) -> Result<Self> {
        let groups = Groups::load(reader, root)?;
        let range = groups.covering(below);
        Ok(Walk {
            reader,
            groups,
            next_group: range.start,
            end_group: range.end,
            below: below.to_vec(),
            current: Vec::new().into_iter(),
        })
    }

    pub fn groups(&self) -> &Groups {
        &self.groups
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Result<Entry>> {
        loop {
            for entry in self.current.by_ref() {
                if is_below(&entry.path, &self.below) {
                    return Some(Ok(entry));
                }
            }
            if self.next_group >= self.end_group {
                return None;
            }
            let number = self.next_group;
            self.next_group += 1;
            match self.groups.read(self.reader, number) {
                Ok(entries) => self.current = entries.into_iter(),
                Err(e) => {
                    self.next_group = self.end_group;
                    return Some(Err(e));
                }
            }
        }
    }
}

/// The entry at exactly `path`.
pub fn find(reader: &Reader, root: &ChunkId, path: &[u8]) -> Result<Option<Entry>> {
    match Walk::new(reader, root, path)?.next().transpose()? {
        Some(entry) if entry.path == path => Ok(Some(entry)),
        _ => Ok(None),
    }
}
