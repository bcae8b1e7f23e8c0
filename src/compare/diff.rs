//! Two snapshots side by side: a merge of two sorted manifests that passes over what they share unread.

use super::{After, Change, Contents, Modifier, Statistics, same_type, size};
use crate::crypto::{ChunkSort, hash};
use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::{Content, Entry, Extent, path_order};
use crate::format::root::RootItem;
use crate::id::ChunkId;
use crate::manifest::content;
use crate::manifest::walk::{Groups, Walk, is_below, read_group_before};
use crate::progress::Progress;
use crate::repository::reader::Reader;
use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

/// One side of a comparison.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    pub root: &'a ChunkId,
    /// What to compare: raw bytes, no leading slash; empty for everything.
    pub below: &'a [u8],
}

/// What to tell, and how exactly to count.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiffOptions {
    /// Also tell what differs in nothing but metadata.
    pub metadata: bool,
    /// Count a chunk as added or removed only if the other side has it nowhere, which means reading both manifests
    /// whole. Otherwise a copy of an unchanged file counts as added, although none of its bytes had to be stored.
    pub thorough: bool,
}

/// Calls `each` for every difference in manifest order. Groups that both sides share are not read.
///
/// Subtrees are compared whatever they are called; paths are then told below them, and of two directories that are
/// compared only the contents count.
pub fn run(
    reader: &Reader,
    before: Side<'_>,
    after: Side<'_>,
    options: &DiffOptions,
    progress: &Progress,
    each: &mut dyn FnMut(Change) -> Result<()>,
) -> Result<Statistics> {
    let a = Cursor::new(reader, before)?;
    let b = Cursor::new(reader, after)?;
    let mut diff = Diff {
        reader,
        options,
        stats: Statistics::default(),
        chunks: Chunks::default(),
        name: last_name(after.below),
        each,
    };
    let (a_ids, b_ids) = (a.ids(), b.ids());
    diff.stats.removed.tree_blobs = a_ids.difference(&b_ids).count() as u64;
    diff.stats.added.tree_blobs = b_ids.difference(&a_ids).count() as u64;
    diff.merge(a, b, before.below == after.below, progress)?;
    if options.thorough && !diff.chunks.sides.is_empty() {
        for (side, seen) in [(before, BEFORE), (after, AFTER)] {
            diff.chunks.see_all(reader, side, seen, progress)?;
        }
    }
    diff.chunks.count(&mut diff.stats);
    Ok(diff.stats)
}

/// Whether two contents are the same bytes, however they were cut.
pub fn same_content(reader: &Reader, a: &Content, b: &Content) -> Result<bool> {
    if a.size != b.size {
        return Ok(false);
    }
    if (&a.extents, &a.lists) == (&b.extents, &b.lists) {
        return Ok(true);
    }
    Ok(match (whole_hash(a), whole_hash(b)) {
        (Some(x), Some(y)) => x == y,
        (None, None) => false,
        // One chunk on one side, several on the other: the one chunk's bytes tell.
        (Some(known), None) => single_hash(reader, b)? == Some(known),
        (None, Some(known)) => single_hash(reader, a)? == Some(known),
    })
}

fn whole_hash(content: &Content) -> Option<[u8; 32]> {
    content.hash.filter(|h| *h != [0; 32])
}

fn single_hash(reader: &Reader, content: &Content) -> Result<Option<[u8; 32]>> {
    let [Extent::Chunk { id, repeat: 1, .. }] = content.extents.as_slice() else { return Ok(None) };
    Ok(Some(hash::plain(&reader.get(ChunkSort::Content, id)?)))
}

fn last_name(path: &[u8]) -> Vec<u8> {
    path.rsplit(|&b| b == b'/').next().unwrap_or_default().to_vec()
}

/// One side's place in its manifest.
struct Cursor<'r> {
    reader: &'r Reader,
    items: Vec<RootItem>,
    next: usize,
    below: Vec<u8>,
    /// The rest of the group last read, first entry last.
    current: Vec<Entry>,
    groups_read: u64,
}

impl<'r> Cursor<'r> {
    fn new(reader: &'r Reader, side: Side<'_>) -> Result<Self> {
        let below = side.below.to_vec();
        if !below.is_empty() && Walk::new(reader, side.root, &below)?.next().transpose()?.is_none() {
            let shown = String::from_utf8_lossy(&below);
            return Err(Error::new(ErrorKind::NotFound, format!("the snapshot has no `/{shown}`")));
        }
        let mut items = Groups::load(reader, side.root)?;
        let range = items.covering(&below);
        let items = items.items.drain(range).collect();
        Ok(Cursor { reader, items, next: 0, below, current: Vec::new(), groups_read: 0 })
    }

    fn ids(&self) -> HashSet<ChunkId> {
        self.items.iter().map(|item| item.id).collect()
    }

    /// The group that begins here; `None` in the middle of one, and at the end.
    fn group(&self) -> Option<&RootItem> {
        if self.current.is_empty() { self.items.get(self.next) } else { None }
    }

    /// No entry still to come is before this place; `None` at the end.
    fn bound(&self) -> Option<&[u8]> {
        match self.current.last() {
            Some(entry) => Some(relative(&entry.path, &self.below)),
            // A group may begin before the subtree does.
            None => self.items.get(self.next).map(|item| match is_below(&item.first, &self.below) {
                true => relative(&item.first, &self.below),
                false => &[][..],
            }),
        }
    }

    /// Reads the group that begins here; `false` when an entry is at hand already.
    fn load(&mut self) -> Result<bool> {
        if !self.current.is_empty() {
            return Ok(false);
        }
        if let Some(item) = self.items.get(self.next) {
            let next = self.items.get(self.next + 1);
            let mut entries = read_group_before(self.reader, item, next)?;
            entries.retain(|entry| is_below(&entry.path, &self.below));
            entries.reverse();
            self.current = entries;
            self.next += 1;
            self.groups_read += 1;
        }
        Ok(true)
    }
}

/// `path`, which is below `dir`, as seen from there; empty for `dir` itself.
fn relative<'p>(path: &'p [u8], dir: &[u8]) -> &'p [u8] {
    let rest = path.get(dir.len()..).unwrap_or_default();
    rest.strip_prefix(b"/").unwrap_or(rest)
}

struct Diff<'a> {
    reader: &'a Reader,
    options: &'a DiffOptions,
    stats: Statistics,
    chunks: Chunks,
    /// What to call the top itself, if it is a file.
    name: Vec<u8>,
    each: &'a mut dyn FnMut(Change) -> Result<()>,
}

impl Diff<'_> {
    fn merge(
        &mut self,
        mut a: Cursor<'_>,
        mut b: Cursor<'_>,
        same_place: bool,
        progress: &Progress,
    ) -> Result<()> {
        loop {
            // What two groups of one name hold is the same, and everything else in either manifest stands elsewhere.
            if same_place
                && let (Some(x), Some(y)) = (a.group(), b.group())
                && x.id == y.id
            {
                a.next += 1;
                b.next += 1;
                self.stats.groups_skipped += 1;
                continue;
            }
            let order = match (a.bound(), b.bound()) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(x), Some(y)) => path_order(x, y),
            };
            if (order.is_le() && a.load()?) || (order.is_ge() && b.load()?) {
                progress.keep_going()?;
                continue;
            }
            match order {
                Ordering::Less => a.current.pop().map_or(Ok(()), |e| self.one_side(&e, &a.below, BEFORE))?,
                Ordering::Greater => {
                    b.current.pop().map_or(Ok(()), |e| self.one_side(&e, &b.below, AFTER))?
                }
                Ordering::Equal => {
                    if let (Some(before), Some(after)) = (a.current.pop(), b.current.pop()) {
                        self.both(&before, &after, relative(&after.path, &b.below))?;
                    }
                }
            }
        }
        self.stats.groups_read = a.groups_read + b.groups_read;
        Ok(())
    }

    fn path(&self, relative: &[u8]) -> Vec<u8> {
        if relative.is_empty() { self.name.clone() } else { relative.to_vec() }
    }

    fn one_side(&mut self, entry: &Entry, below: &[u8], side: u8) -> Result<()> {
        let path = relative(&entry.path, below);
        if path.is_empty() && entry.is_dir() {
            return Ok(());
        }
        let tally = if side == BEFORE { &mut self.stats.removed } else { &mut self.stats.added };
        tally.count(&entry.kind);
        self.chunks.see_content(self.reader, &entry.content, side)?;
        let here = Some(size(entry));
        let (modifier, before, after) = match side {
            BEFORE => (Modifier::Removed, here, None),
            _ => (Modifier::Added, None, here),
        };
        let path = self.path(path);
        let is_dir = entry.is_dir();
        (self.each)(Change { path, modifier, is_dir, before, after, silent: false, contents: None })
    }

    fn both(&mut self, before: &Entry, after: &Entry, path: &[u8]) -> Result<()> {
        if path.is_empty() && before.is_dir() && after.is_dir() {
            return Ok(());
        }
        let metadata = before.meta != after.meta;
        let modifier = if !same_type(&before.kind, &after.kind) {
            Modifier::Type
        } else if before.kind != after.kind
            || !same_content(self.reader, &before.content, &after.content)
                .map_err(|e| e.context(String::from_utf8_lossy(&after.path)))?
        {
            Modifier::Content
        } else if metadata && self.options.metadata {
            Modifier::Metadata
        } else {
            return Ok(());
        };
        let (mut silent, mut contents) = (false, None);
        match modifier {
            Modifier::Content if after.is_file() => {
                let later = || After::Stored(after.content.clone());
                contents = Contents::of(&after.path, &before.content, later);
                self.stats.changed_files += 1;
                silent = !metadata && size(before) == size(after);
                let old = content::extents(self.reader, &before.content)?;
                let new = content::extents(self.reader, &after.content)?;
                self.chunks.see_differing(&old, &new);
            }
            Modifier::Type => {
                self.chunks.see_content(self.reader, &before.content, BEFORE)?;
                self.chunks.see_content(self.reader, &after.content, AFTER)?;
            }
            _ => {}
        }
        let (before, is_dir, after) = (Some(size(before)), after.is_dir(), Some(size(after)));
        let path = self.path(path);
        (self.each)(Change { path, modifier, is_dir, before, after, silent, contents })
    }
}

const BEFORE: u8 = 1;
const AFTER: u8 = 2;

/// Chunks at places that differ: their lengths and the sides they were seen on. Some 40 bytes each.
#[derive(Default)]
struct Chunks {
    sides: HashMap<ChunkId, (u32, u8)>,
}

impl Chunks {
    fn see(&mut self, extent: &Extent, side: u8) {
        if let Extent::Chunk { id, len, .. } = extent {
            self.sides.entry(*id).or_insert((*len, 0)).1 |= side;
        }
    }

    fn see_content(&mut self, reader: &Reader, content: &Content, side: u8) -> Result<()> {
        if content.size > 0 {
            content::extents(reader, content)?.iter().for_each(|extent| self.see(extent, side));
        }
        Ok(())
    }

    /// Every piece that does not stand at the same place on the other side.
    fn see_differing(&mut self, before: &[Extent], after: &[Extent]) {
        let (mut old, mut new) = (before.iter(), after.iter());
        let (mut old_at, mut new_at) = (0, 0);
        let (mut x, mut y) = (old.next(), new.next());
        while x.is_some() || y.is_some() {
            let same = old_at == new_at && x == y;
            let step_old = y.is_none() || old_at <= new_at;
            let step_new = x.is_none() || new_at <= old_at;
            if let Some(extent) = x.filter(|_| step_old) {
                old_at += extent_len(extent);
                if !same {
                    self.see(extent, BEFORE);
                }
                x = old.next();
            }
            if let Some(extent) = y.filter(|_| step_new) {
                new_at += extent_len(extent);
                if !same {
                    self.see(extent, AFTER);
                }
                y = new.next();
            }
        }
    }

    /// Takes note of everything that `side` has, changed or not.
    fn see_all(&mut self, reader: &Reader, side: Side<'_>, seen: u8, progress: &Progress) -> Result<()> {
        for entry in Walk::new(reader, side.root, side.below)? {
            progress.keep_going()?;
            let content = entry?.content;
            if content.size == 0 {
                continue;
            }
            for extent in content::extents(reader, &content)? {
                if let Extent::Chunk { id, .. } = extent
                    && let Some((_, sides)) = self.sides.get_mut(&id)
                {
                    *sides |= seen;
                }
            }
        }
        Ok(())
    }

    fn count(&self, stats: &mut Statistics) {
        for (len, sides) in self.sides.values() {
            let tally = match *sides {
                BEFORE => &mut stats.removed,
                AFTER => &mut stats.added,
                _ => continue,
            };
            tally.data_blobs += 1;
            tally.bytes += u64::from(*len);
        }
    }
}

fn extent_len(extent: &Extent) -> u64 {
    match extent {
        Extent::Chunk { len, repeat, .. } => u64::from(*len).saturating_mul(*repeat),
        Extent::Hole { len } => *len,
    }
}
