//! What of a snapshot can still be restored, and what cannot.

use crate::crypto::ChunkSort;
use crate::error::{Error, Result};
use crate::format::entry::{Content, Entry, Extent, path_order};
use crate::format::root::{Root, RootItem};
use crate::id::ChunkId;
use crate::manifest::content::extents_left;
use crate::manifest::walk::{Groups, read_group_before};
use crate::progress::Progress;
use crate::repository::reader::Reader;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Damaged files remembered by name; all are counted.
const FILES_MAX: usize = 10_000;

/// Sees which chunks are there.
pub struct Lens<'a> {
    pub reader: &'a Reader,
    /// Read every chunk, and not only look it up.
    pub read_data: bool,
    known: Mutex<HashMap<ChunkId, bool>>,
}

/// A stretch of a file: offset and length.
pub type Hole = (u64, u64);

/// A file that cannot be restored as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedFile {
    /// Raw bytes, no leading slash.
    pub path: Vec<u8>,
    pub size: u64,
    /// What is lost of it; `None` when nobody can say what else belongs where.
    pub holes: Option<Vec<Hole>>,
}

/// Entries of which even the names are lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostGroup {
    /// The first of them.
    pub first: Vec<u8>,
    pub entries: u64,
}

/// How a snapshot stands.
#[derive(Clone, Debug, Default)]
pub struct Assessment {
    /// Its root is lost: nothing of it can be restored.
    pub lost: bool,
    /// What can be read of its manifest.
    pub groups: Groups,
    /// Numbers of groups among those that cannot be read.
    pub unreadable: Vec<usize>,
    pub lost_groups: Vec<LostGroup>,
    pub files: Vec<DamagedFile>,
    pub files_damaged: u64,
}

impl Assessment {
    pub fn is_whole(&self) -> bool {
        !self.lost && self.lost_groups.is_empty() && self.files_damaged == 0
    }

    pub fn entries_lost(&self) -> u64 {
        self.lost_groups.iter().fold(0, |n, group| n.saturating_add(group.entries))
    }
}

/// What is left of a file's content.
pub struct Rest {
    /// Holes stand for what is lost.
    pub extents: Vec<Extent>,
    pub holes: Vec<Hole>,
}

impl<'a> Lens<'a> {
    pub fn new(reader: &'a Reader, read_data: bool) -> Self {
        Lens { reader, read_data, known: Mutex::default() }
    }

    /// Whether a chunk of content can be had, and is as long as its file says.
    fn has(&self, id: &ChunkId, len: u32) -> Result<bool> {
        let index = self.reader.index();
        let Some(found) = index.find(id)? else { return Ok(false) };
        if found.place.len != len || found.pack.sort != ChunkSort::Content || !index.present(id)? {
            return Ok(false);
        }
        if !self.read_data {
            return Ok(true);
        }
        if let Some(known) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(id) {
            return Ok(*known);
        }
        let good = match self.reader.get(ChunkSort::Content, id) {
            Ok(_) => true,
            Err(e) if e.kind().is_unreadable() => false,
            Err(e) => return Err(e),
        };
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(*id, good);
        Ok(good)
    }

    /// What is left of a file; `None` when that cannot be told.
    pub fn rest(&self, content: &Content) -> Result<Option<Rest>> {
        let Some(left) = extents_left(self.reader, content)? else { return Ok(None) };
        let mut rest = Rest { extents: Vec::with_capacity(left.extents.len()), holes: left.lost };
        let mut at = 0u64;
        for extent in left.extents {
            let len = match &extent {
                Extent::Hole { len } => *len,
                Extent::Chunk { len, repeat, .. } => u64::from(*len).saturating_mul(*repeat),
            };
            match &extent {
                Extent::Chunk { id, len: each, .. } if !self.has(id, *each)? => {
                    rest.holes.push((at, len));
                    rest.extents.push(Extent::Hole { len });
                }
                _ => rest.extents.push(extent),
            }
            at = at.saturating_add(len);
        }
        rest.holes.sort_unstable();
        rest.holes.dedup_by(|next, last| {
            let touches = last.0 + last.1 == next.0;
            last.1 += if touches { next.1 } else { 0 };
            touches
        });
        Ok(Some(rest))
    }

    /// What is wrong with a file, if anything is.
    pub fn file(&self, entry: &Entry) -> Result<Option<DamagedFile>> {
        let holes = match self.rest(&entry.content)? {
            Some(rest) if rest.holes.is_empty() => return Ok(None),
            Some(rest) => Some(rest.holes),
            None => None,
        };
        Ok(Some(DamagedFile { path: entry.path.clone(), size: entry.content.size, holes }))
    }

    /// Goes through all of a snapshot.
    pub fn snapshot(&self, root: &ChunkId, progress: &Progress) -> Result<Assessment> {
        let mut out = Assessment::default();
        self.roots(root, &mut out)?;
        for number in 0..out.groups.items.len() {
            progress.keep_going()?;
            let Some(entries) = self.group(&mut out, number)? else { continue };
            for entry in entries.iter().filter(|entry| entry.is_file()) {
                if let Some(damaged) = self.file(entry)? {
                    out.files_damaged += 1;
                    if out.files.len() < FILES_MAX {
                        out.files.push(damaged);
                    }
                }
            }
        }
        Ok(out)
    }

    fn group(&self, out: &mut Assessment, number: usize) -> Result<Option<Vec<Entry>>> {
        let items = &out.groups.items;
        match read_group_before(self.reader, &items[number], items.get(number + 1)) {
            Ok(entries) => Ok(Some(entries)),
            Err(e) if e.kind().is_unreadable() => {
                let item = &items[number];
                out.lost_groups.push(LostGroup { first: item.first.clone(), entries: item.entries });
                out.unreadable.push(number);
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    /// All groups whose roots can be read, in order.
    fn roots(&self, top: &ChunkId, out: &mut Assessment) -> Result<()> {
        let mut todo: Vec<(ChunkId, Option<(u8, RootItem)>)> = vec![(*top, None)];
        while let Some((id, above)) = todo.pop() {
            let root = self.reader.get(ChunkSort::Manifest, &id).and_then(|bytes| Root::decode(&bytes));
            let root = root.and_then(|root| match &above {
                Some((level, item)) if root.level != *level || root.entries() != item.entries => {
                    Err(Error::corrupt("a manifest's roots are nested wrongly"))
                }
                _ => Ok(root),
            });
            let root = match (root, above) {
                (Ok(root), _) => root,
                (Err(e), _) if !e.kind().is_unreadable() => return Err(e),
                (Err(_), None) => {
                    out.lost = true;
                    return Ok(());
                }
                (Err(_), Some((_, item))) => {
                    out.lost_groups.push(LostGroup { first: item.first, entries: item.entries });
                    continue;
                }
            };
            out.groups.roots.push(id);
            if root.level > 0 {
                let below = root.level - 1;
                todo.extend(root.items.into_iter().rev().map(|item| (item.id, Some((below, item)))));
                continue;
            }
            for item in root.items {
                let last = out.groups.items.last();
                if last.is_some_and(|last| path_order(&last.first, &item.first).is_ge()) {
                    out.lost_groups.push(LostGroup { first: item.first, entries: item.entries });
                } else {
                    out.groups.items.push(item);
                }
            }
        }
        Ok(())
    }
}
