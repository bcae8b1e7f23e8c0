//! The parent's entries in order, beside the walk: one merge pass decides what needs no reading.

use crate::format::entry::{Entry, Kind, Stat, path_order};
use crate::manifest::walk::{Groups, read_stats};
use crate::repository::reader::Reader;
use crate::source::Found;
use std::cmp::Ordering;

/// A cursor over the parent's manifest.
pub struct Parent<'w> {
    reader: &'w Reader,
    groups: Groups,
    next_group: usize,
    entries: std::vec::IntoIter<(Entry, Option<Stat>)>,
    head: Option<(Entry, Option<Stat>)>,
}

/// What the parent knows about a path.
pub enum Match {
    New,
    /// There, and to all appearances the same: the old entry serves again; and whether it is known to be sound JSON.
    Same(Entry, bool),
    /// There, but it must be looked at.
    Changed(Box<Entry>),
}

impl<'w> Parent<'w> {
    pub fn new(reader: &'w Reader, groups: Groups) -> Self {
        Parent { reader, groups, next_group: 0, entries: Vec::new().into_iter(), head: None }
    }

    /// Whether the parent has an entry at `path`; paths must be asked for in ascending order.
    pub fn has(&mut self, path: &[u8]) -> bool {
        loop {
            if self.head.is_none() {
                self.head = self.next();
            }
            let Some((head, _)) = &self.head else { return false };
            match path_order(&head.path, path) {
                Ordering::Less => self.head = None,
                Ordering::Equal => return true,
                Ordering::Greater => return false,
            }
        }
    }

    /// The parent's entry at `path`, once; in ascending order.
    fn take(&mut self, path: &[u8]) -> Option<(Entry, Option<Stat>)> {
        if self.has(path) { self.head.take() } else { None }
    }

    fn next(&mut self) -> Option<(Entry, Option<Stat>)> {
        loop {
            if let Some(next) = self.entries.next() {
                return Some(next);
            }
            let number = self.next_group;
            let item = self.groups.items.get(number)?;
            self.next_group += 1;
            // A damaged group costs reading its files again, which heals it.
            let Ok(entries) = self.groups.read(self.reader, number) else { continue };
            let stats = read_stats(self.reader, item, &entries);
            let stats: Vec<Option<Stat>> = match stats {
                Some(stats) => stats.into_iter().map(Some).collect(),
                None => vec![None; entries.len()],
            };
            self.entries = entries.into_iter().zip(stats).collect::<Vec<_>>().into_iter();
        }
    }

    /// Compares what was found with the parent. For a directory `above` the sources only owner and mode count: its
    /// times move with things that are not backed up, and must not make an unchanged source look changed.
    pub fn compare(&mut self, found: &Found, above: bool) -> Match {
        let Some((old, stat)) = self.take(&found.entry.path) else { return Match::New };
        let new = &found.entry;
        let same_kind = match (&old.kind, &new.kind) {
            (Kind::File, Kind::File) => old.content.size == found.size,
            (a, b) => a == b,
        };
        // Owner, mode and attributes move ctime, so equal ctimes speak for them too.
        let same_stat =
            stat.is_some_and(|s| !s.racy && s.inode == found.stat.inode && s.ctime == found.stat.ctime);
        if same_kind
            && (above || (same_stat && old.meta.mtime == new.meta.mtime))
            && old.meta.mode == new.meta.mode
            && old.meta.owner == new.meta.owner
            && old.link == new.link
        {
            return Match::Same(old, stat.is_some_and(|s| s.sound));
        }
        Match::Changed(Box::new(old))
    }
}
