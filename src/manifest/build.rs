//! Ordered entries to stored groups and a root.

use crate::crypto::{ChunkSort, hash};
use crate::error::{Error, Result};
use crate::format::entry::{Entry, Extent, Stat, path_order};
use crate::format::extents::encode_list;
use crate::format::group::{GroupEncoder, decode_group, encode_stats};
use crate::format::limit;
use crate::format::root::{Root, RootItem};
use crate::id::ChunkId;
use crate::manifest::walk::Groups;
use crate::repository::writer::{DeltaPolicy, Lane, Writer};

/// Entries of a group: at least, on average, at most. The cut depends on the path alone, so that groups stay the
/// same when entries come and go around them.
const GROUP_MIN: u64 = 1024;
const GROUP_MASK: u64 = 1024 - 1;
const GROUP_MAX: u64 = 4096;
/// Encoded bytes that close a group.
const GROUP_BYTES: usize = 256 << 10;
/// Bytes of all paths, written out, that close a group: readers refuse four times as many.
const GROUP_PATHS_BYTES: usize = 8 << 20;
/// Items of one root; more make a further level.
const ROOT_ITEMS: usize = 2048;
/// Bytes of paths that close a root.
const ROOT_BYTES: usize = 4 << 20;
/// Pieces of a file listed in its entry; more stand in chunks of their own, so many in each.
pub const INLINE_EXTENTS_MAX: usize = 1000;
const LIST_EXTENTS: usize = 4096;

/// Builds one manifest.
pub struct Builder<'w> {
    lane: Lane<'w>,
    parent: Groups,
    group: GroupEncoder,
    entries: Vec<Entry>,
    stats: Vec<Stat>,
    bytes: u64,
    /// Bytes of the group's paths.
    paths_len: usize,
    items: Vec<RootItem>,
}

/// A finished manifest.
#[derive(Clone, Copy, Debug)]
pub struct Built {
    pub root: ChunkId,
    pub entries: u64,
    pub bytes: u64,
    /// Every group equals the parent's: nothing that can be restored has changed.
    pub unchanged: bool,
}

impl<'w> Builder<'w> {
    /// `parent` is the manifest whose groups serve as histories; empty for the first of a series.
    pub fn new(writer: &'w Writer, parent: Groups) -> Result<Self> {
        Ok(Builder {
            lane: writer.lane(ChunkSort::Manifest)?,
            parent,
            group: GroupEncoder::default(),
            entries: Vec::new(),
            stats: Vec::new(),
            bytes: 0,
            paths_len: 0,
            items: Vec::new(),
        })
    }

    /// Appends an entry; paths must come in `path_order`.
    pub fn push(&mut self, entry: Entry, stat: Stat) -> Result<()> {
        self.push_after(entry, stat, &[])
    }

    /// The same for a file whose earlier version had these chunks of pieces: the new ones are stored against them.
    pub fn push_after(&mut self, mut entry: Entry, stat: Stat, lists: &[ChunkId]) -> Result<()> {
        if self.entries.last().is_some_and(|last| path_order(&last.path, &entry.path).is_ge()) {
            let path = String::from_utf8_lossy(&entry.path).into_owned();
            return Err(Error::invalid(format!("/{path} came out of order; this is a bug in snapkeep")));
        }
        if entry.content.extents.len() > INLINE_EXTENTS_MAX {
            self.store_lists(&mut entry, lists)?;
        }
        self.group.push(&entry);
        self.bytes = self.bytes.saturating_add(entry.content.size);
        self.paths_len += entry.path.len();
        let boundary = hash::short(&entry.path) & GROUP_MASK == 0;
        self.entries.push(entry);
        self.stats.push(stat);
        let count = self.group.count();
        let large = self.group.len() >= GROUP_BYTES || self.paths_len >= GROUP_PATHS_BYTES;
        if (count >= GROUP_MIN && boundary) || count >= GROUP_MAX || large {
            self.close_group()?;
        }
        Ok(())
    }

    fn store_lists(&mut self, entry: &mut Entry, old: &[ChunkId]) -> Result<()> {
        let extents: Vec<Extent> = std::mem::take(&mut entry.content.extents);
        for (number, part) in extents.chunks(LIST_EXTENTS).enumerate() {
            let base = old.get(number).map_or(&[][..], std::slice::from_ref);
            let id = self.lane.put(&encode_list(part), base, DeltaPolicy::MANIFEST)?;
            entry.content.lists.push(id);
        }
        Ok(())
    }

    fn close_group(&mut self) -> Result<()> {
        if self.entries.is_empty() {
            return Ok(());
        }
        let first = self.entries[0].path.clone();
        let middle = &self.entries[self.entries.len() / 2].path;
        // The parent's group that holds the middle entry overlaps this one most, or nearly.
        let range = self.parent.covering(middle);
        let old = self.parent.items.get(range.start);
        let (group_base, stat_base): (Vec<ChunkId>, Vec<ChunkId>) =
            (old.map(|o| o.id).into_iter().collect(), old.and_then(|o| o.stat).into_iter().collect());
        let group = std::mem::take(&mut self.group).finish();
        // What readers would refuse must never be committed, whatever went wrong here; decoding costs next to nothing.
        let again = decode_group(&group)?;
        if again.len() != self.entries.len() {
            return Err(Error::corrupt("a manifest group lost entries; this is a bug in snapkeep"));
        }
        let id = self.lane.put(&group, &group_base, DeltaPolicy::MANIFEST)?;
        let stats = encode_stats(&self.entries, &self.stats);
        let stat = self.lane.put(&stats, &stat_base, DeltaPolicy::MANIFEST)?;
        let entries = self.entries.len() as u64;
        self.items.push(RootItem { first, id, stat: Some(stat), entries, bytes: self.bytes });
        self.entries.clear();
        self.stats.clear();
        self.bytes = 0;
        self.paths_len = 0;
        Ok(())
    }

    /// Stores the last group and the roots.
    pub fn finish(mut self) -> Result<Built> {
        self.close_group()?;
        let mut level = 0;
        let mut items = std::mem::take(&mut self.items);
        let groups = |items: &[RootItem]| items.iter().map(|i| i.id).collect::<Vec<_>>();
        let unchanged = !items.is_empty() && groups(&items) == groups(&self.parent.items);
        let mut parents = std::mem::take(&mut self.parent.roots);
        let (entries, bytes) =
            items.iter().fold((0, 0u64), |(n, b), item| (n + item.entries, b.saturating_add(item.bytes)));
        loop {
            let last = root_parts(&items).count() <= 1;
            let mut above = Vec::new();
            for part in root_parts(&items) {
                let root = Root { level, items: part.to_vec() };
                // The parent's roots of the same level, in order; on any mismatch it merely compresses worse.
                let base: Vec<ChunkId> =
                    if last { parents.first().copied() } else { parents.pop() }.into_iter().collect();
                let id = self.lane.put(&root.encode(), &base, DeltaPolicy::MANIFEST)?;
                above.push(RootItem {
                    first: part[0].first.clone(),
                    id,
                    stat: None,
                    entries: root.entries(),
                    bytes: root.bytes(),
                });
            }
            if last {
                let root = match above.first() {
                    Some(item) => item.id,
                    None => self.lane.put(&Root::default().encode(), &[], DeltaPolicy::MANIFEST)?,
                };
                self.lane.finish()?;
                return Ok(Built { root, entries, bytes, unchanged });
            }
            items = above;
            level += 1;
            if level > limit::LEVELS_MAX {
                return Err(Error::invalid("too many and too long paths for one snapshot"));
            }
        }
    }
}

/// Items of one root each: not too many, and not too many bytes of paths, but at least two so that levels end.
fn root_parts(items: &[RootItem]) -> impl Iterator<Item = &[RootItem]> {
    let mut rest = items;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (mut count, mut bytes) = (0, 0);
        while count < rest.len() && count < ROOT_ITEMS && (count < 2 || bytes < ROOT_BYTES) {
            bytes += rest[count].first.len() + 64;
            count += 1;
        }
        let (part, after) = rest.split_at(count);
        rest = after;
        Some(part)
    })
}
