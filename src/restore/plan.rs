//! What is asked for, checked: it is there, it is not empty where that would be dangerous, the target will do.

use super::select::Select;
use super::{Plan, RestoreOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::check_path;
use crate::format::entry::{Entry, Metadata};
use crate::id::ChunkId;
use crate::manifest::walk::{self, Groups, Walk, is_below};
use crate::repository::reader::Reader;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

pub fn plan(reader: &Reader, root: &ChunkId, target: &Path, options: &RestoreOptions) -> Result<Plan> {
    let below = &options.below;
    let named = || format!("`/{}`", String::from_utf8_lossy(below));
    if !below.is_empty() {
        check_path(below).map_err(|why| Error::invalid(format!("{}: {why}", named())))?;
    }
    let groups = Groups::load(reader, root)?;
    let range = groups.covering(below);
    let (mut base, mut base_meta, mut above) = (Vec::new(), None, Vec::new());
    if let Some(in_place) = &options.in_place {
        base.clone_from(&in_place.base);
        above = parents(reader, root, below)?;
        if !below.is_empty() && Walk::new(reader, root, below)?.next().transpose()?.is_none() {
            return Err(Error::new(ErrorKind::NotFound, format!("the snapshot does not hold {}", named())));
        }
    } else if !below.is_empty() {
        let first = Walk::new(reader, root, below)?.next().transpose()?;
        let first = first.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("the snapshot does not hold {}", named()))
        })?;
        if !options.strip {
            above = parents(reader, root, below)?;
        } else if first.path != *below || first.is_dir() {
            base.clone_from(below);
            base_meta = Some(first.meta).filter(|_| first.path == *below);
        } else {
            let cut = below.iter().rposition(|&b| b == b'/').unwrap_or(0);
            base.extend_from_slice(&below[..cut]);
        }
    }
    let select = Select::new(options)?;
    let (entries, bytes) = totals(reader, &groups, range.clone(), below);
    let plan = Plan {
        groups,
        range,
        target: target.to_path_buf(),
        options: options.clone(),
        select,
        base,
        base_meta,
        above,
        entries,
        bytes,
        stage: None,
    };
    if options.delete {
        may_delete(reader, &plan)?;
    } else if !plan.select.is_everything() && plan.selects_nothing(reader).unwrap_or(false) {
        return Err(Error::new(ErrorKind::NotFound, "nothing in the snapshot matches"));
    }
    Ok(plan)
}

/// The recorded metadata of the directories that lead to `path`.
fn parents(reader: &Reader, root: &ChunkId, path: &[u8]) -> Result<Vec<(Vec<u8>, Metadata)>> {
    let mut found = Vec::new();
    for end in (0..path.len()).filter(|&i| path[i] == b'/') {
        if let Some(entry) = walk::find(reader, root, &path[..end])?
            && entry.is_dir()
        {
            found.push((entry.path, entry.meta));
        }
    }
    Ok(found)
}

/// Entries and bytes at or below `below`: inner groups as their root counts them, the two at the ends exactly.
fn totals(reader: &Reader, groups: &Groups, range: std::ops::Range<usize>, below: &[u8]) -> (u64, u64) {
    let (mut entries, mut bytes) = (0u64, 0u64);
    for (i, item) in groups.items.iter().enumerate().take(range.end).skip(range.start) {
        let edge = !below.is_empty() && (i == range.start || i + 1 == range.end);
        let read = if edge { groups.read(reader, i).ok() } else { None };
        let (n, b) = match read {
            Some(read) => {
                let inside = |e: &&Entry| is_below(&e.path, below);
                let sum = |n: u64, e: &Entry| n.saturating_add(e.content.size);
                (read.iter().filter(inside).count() as u64, read.iter().filter(inside).fold(0, sum))
            }
            None => (item.entries, item.bytes),
        };
        entries = entries.saturating_add(n);
        bytes = bytes.saturating_add(b);
    }
    (entries, bytes)
}

/// `--delete` is refused where a slip would empty a whole machine or home, and when nothing would be restored.
fn may_delete(reader: &Reader, plan: &Plan) -> Result<()> {
    let refused = |what: String| Err(Error::new(ErrorKind::Refused, what));
    // In place only what is asked for is emptied, not the directory it stands in.
    let place = match &plan.options.in_place {
        Some(_) => plan.target.join(OsStr::from_bytes(plan.relative(&plan.options.below))),
        None => plan.target.clone(),
    };
    let straight = plan.options.below.is_empty() || !plan.base.is_empty() || plan.options.in_place.is_some();
    if straight && is_vital(&place) {
        return refused(format!(
            "--delete straight into {} is refused; name a directory below it",
            place.display()
        ));
    }
    if plan.selects_nothing(reader)? {
        return refused("--delete is refused: nothing in the snapshot is selected".to_owned());
    }
    Ok(())
}

/// The root directory, the user's home, and whatever the home stands in.
fn is_vital(target: &Path) -> bool {
    let Ok(target) = std::fs::canonicalize(target) else { return false };
    let home = std::env::var_os("HOME").and_then(|home| std::fs::canonicalize(home).ok());
    target == Path::new("/") || home.is_some_and(|home| home.starts_with(&target))
}

impl Plan {
    /// Whether no entry is meant; an error when that cannot be known.
    fn selects_nothing(&self, reader: &Reader) -> Result<bool> {
        for number in self.range.clone() {
            if self.groups.read(reader, number)?.iter().any(|entry| self.is_meant(entry)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether an entry would be restored below the target, by name and patterns alone.
    pub(super) fn is_meant(&self, entry: &Entry) -> bool {
        if !is_below(&entry.path, &self.options.below) || entry.path == self.base {
            return false;
        }
        let path = &entry.path;
        let mut wanted = self.select.start();
        let ends = (0..path.len()).filter(|&i| path[i] == b'/').chain([path.len()]);
        for end in ends {
            let is_dir = end < path.len() || entry.is_dir();
            match self.choose(&path[..end], is_dir, wanted) {
                Some(yes) => wanted = yes,
                None => return false,
            }
        }
        wanted
    }

    /// What the patterns say about a path; what leads to `below` was asked for by name and is never left out.
    pub(super) fn choose(&self, path: &[u8], is_dir: bool, above: bool) -> Option<bool> {
        if is_below(&self.options.below, path) {
            return Some(self.select.wanted(path, is_dir, above));
        }
        self.select.choose(path, is_dir, above)
    }

    /// The part of a stored path below the target; empty for the target itself.
    pub(super) fn relative<'p>(&self, path: &'p [u8]) -> &'p [u8] {
        let start = if self.base.is_empty() { 0 } else { self.base.len() + 1 };
        path.get(start..).unwrap_or_default()
    }
}
