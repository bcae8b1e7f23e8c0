//! Entries of many snapshots by name; groups that snapshots share are read once.

use super::kind_name;
use super::values::{Searcher, Wanted};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::format::entry::{Content, Entry};
use crate::id::{ChunkId, SnapshotId};
use crate::manifest::walk::{Groups, is_below, read_group};
use crate::progress::Progress;
use crate::repository::reader::Reader;
use crate::repository::snapshots::Listed;
use globset::{Candidate, GlobBuilder, GlobSet, GlobSetBuilder};
use std::collections::HashMap;
use std::sync::Arc;

/// What to look for beside the patterns.
#[derive(Clone, Debug, Default)]
pub struct FindOptions {
    pub ignore_case: bool,
    /// Bounds of the modification time, both included.
    pub oldest: Option<Timestamp>,
    pub newest: Option<Timestamp>,
    /// `file`, `dir`, `symlink`, `fifo`, `socket`, `chardev`, `dev`; empty for all.
    pub kinds: Vec<String>,
    /// Only at or below this path: raw bytes, no leading slash; empty for everywhere.
    pub below: Vec<u8>,
    /// Only JSON files with this value.
    pub value: Option<Wanted>,
}

/// What was found in one snapshot; never empty.
#[derive(Clone, Debug)]
pub struct Matches {
    pub snapshot: SnapshotId,
    /// In manifest order, without their content lists; sizes are kept. Shared by the snapshots that share them.
    pub entries: Vec<Arc<Entry>>,
}

/// The answer to a search.
#[derive(Clone, Debug, Default)]
pub struct Finds {
    pub snapshots: Vec<Matches>,
    /// Snapshots that could not be searched whole, with the reason; what could be is among `snapshots`.
    pub damaged: Vec<(SnapshotId, String)>,
    /// Files that could not be looked into for the value; the first of them and why.
    pub unseen: u64,
    pub first_unseen: Option<(Vec<u8>, String)>,
}

/// Everything in `snapshots` that one of the `patterns` fits.
///
/// A pattern with a slash is matched against the whole path, from anywhere in it unless it begins with one; any
/// other against the name. `*` stays within a name, `**` does not.
pub fn run(
    reader: &Reader,
    snapshots: &[Listed],
    patterns: &[String],
    options: &FindOptions,
    progress: &Progress,
) -> Result<Finds> {
    let filter = Filter::new(patterns, options)?;
    let mut searcher = options.value.as_ref().map(|wanted| Searcher::new(reader, wanted));
    let mut groups: HashMap<ChunkId, Arc<Vec<Arc<Entry>>>> = HashMap::new();
    let mut finds = Finds::default();
    for listed in snapshots {
        let mut matches = Matches { snapshot: listed.id, entries: Vec::new() };
        let outcome = each_group(reader, &listed.root, &options.below, &mut |item| {
            progress.keep_going()?;
            if let Some(known) = groups.get(&item.id) {
                matches.entries.extend_from_slice(known);
                return Ok(());
            }
            let mut fitting = read_group(reader, item)?;
            fitting.retain(|entry| filter.fits(entry));
            if let Some(searcher) = &mut searcher {
                fitting = having(searcher, fitting, progress)?;
            }
            let fitting = Arc::new(fitting.into_iter().map(without_lists).map(Arc::new).collect::<Vec<_>>());
            matches.entries.extend_from_slice(&fitting);
            groups.insert(item.id, fitting);
            Ok(())
        });
        if let Err(why) = damage(outcome)? {
            finds.damaged.push((listed.id, why));
        }
        if !matches.entries.is_empty() {
            finds.snapshots.push(matches);
        }
    }
    if let Some(searcher) = searcher {
        (finds.unseen, finds.first_unseen) = (searcher.unseen, searcher.first_unseen);
    }
    Ok(finds)
}

/// Those files that have the value.
fn having(searcher: &mut Searcher<'_>, entries: Vec<Entry>, progress: &Progress) -> Result<Vec<Entry>> {
    let mut having = Vec::new();
    for entry in entries.into_iter().filter(Entry::is_file) {
        progress.keep_going()?;
        if searcher.fits(&entry.path, &entry.content)? {
            having.push(entry);
        }
    }
    Ok(having)
}

/// Calls `each` for the groups that may hold something at or below `below`. A damaged group does not keep the others
/// from being looked at; the first damage is the result in the end.
pub(super) fn each_group(
    reader: &Reader,
    root: &ChunkId,
    below: &[u8],
    each: &mut dyn FnMut(&crate::format::root::RootItem) -> Result<()>,
) -> Result<()> {
    let groups = Groups::load(reader, root)?;
    let mut first = Ok(());
    for item in &groups.items[groups.covering(below)] {
        match each(item) {
            Err(e) if e.kind().is_unreadable() => first = first.and(Err(e)),
            other => other?,
        }
    }
    first
}

/// Damage as a finding; any other error stays one.
pub(super) fn damage(outcome: Result<()>) -> Result<std::result::Result<(), String>> {
    match outcome {
        Ok(()) => Ok(Ok(())),
        Err(e) if e.kind().is_unreadable() => Ok(Err(e.message().to_owned())),
        Err(e) => Err(e),
    }
}

fn without_lists(entry: Entry) -> Entry {
    let content = Content { size: entry.content.size, ..Content::default() };
    Entry { content, ..entry }
}

struct Filter<'a> {
    names: GlobSet,
    paths: GlobSet,
    options: &'a FindOptions,
}

impl<'a> Filter<'a> {
    fn new(patterns: &[String], options: &'a FindOptions) -> Result<Self> {
        const KINDS: [&str; 7] = ["file", "dir", "symlink", "fifo", "socket", "chardev", "dev"];
        if let Some(unknown) = options.kinds.iter().find(|k| !KINDS.contains(&k.as_str())) {
            let known = KINDS.join(", ");
            return Err(Error::invalid(format!("`{unknown}` is no kind of file; use {known}")));
        }
        let (mut names, mut paths) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        for pattern in patterns {
            let whole = match pattern.strip_prefix('/') {
                Some(anchored) => anchored.to_owned(),
                None if pattern.contains('/') => format!("**/{pattern}"),
                None => pattern.clone(),
            };
            let whole = whole.strip_suffix('/').unwrap_or(&whole);
            let set = if pattern.contains('/') { &mut paths } else { &mut names };
            let mut glob = GlobBuilder::new(whole);
            glob.literal_separator(true).case_insensitive(options.ignore_case).backslash_escape(true);
            let bad =
                |e: globset::Error| Error::invalid(format!("`{pattern}` is not a pattern: {}", e.kind()));
            set.add(glob.build().map_err(bad)?);
        }
        let build = |set: GlobSetBuilder| {
            set.build().map_err(|e| Error::invalid(format!("these patterns cannot be used together: {e}")))
        };
        Ok(Filter { names: build(names)?, paths: build(paths)?, options })
    }

    fn fits(&self, entry: &Entry) -> bool {
        let options = self.options;
        let mtime = entry.meta.mtime;
        let old_enough = options.newest.is_none_or(|newest| mtime <= newest);
        let new_enough = options.oldest.is_none_or(|oldest| mtime >= oldest);
        let kind = options.kinds.is_empty() || options.kinds.iter().any(|k| k == kind_name(&entry.kind));
        let named = || self.names.is_match_candidate(&Candidate::from_bytes(entry.name()));
        let placed =
            || !self.paths.is_empty() && self.paths.is_match_candidate(&Candidate::from_bytes(&entry.path));
        old_enough && new_enough && kind && is_below(&entry.path, &options.below) && (named() || placed())
    }
}
