//! A snapshot against what stands on this machine now, by metadata or by content.

use super::{After, Change, Contents, Modifier, Statistics, same_type, size};
use crate::crypto::{ChunkSort, hash::FileHash};
use crate::error::{Context, Error, Result};
use crate::format::entry::{Content, Entry, Extent, Kind, Metadata, path_order};
use crate::id::ChunkId;
use crate::json::{TEXT_MAX, TOO_LARGE};
use crate::manifest::content;
use crate::manifest::walk::{Walk, is_below};
use crate::progress::{Problem, Progress};
use crate::repository::reader::Reader;
use crate::source::filter::{Filter, FilterOptions};
use crate::source::roots::Root;
use crate::source::{FileSource, Found, Step, WalkOptions};
use std::collections::HashSet;
use std::io::{ErrorKind, Read};
use std::iter::Peekable;
use std::os::unix::ffi::OsStrExt;

/// How to look at live files.
#[derive(Clone, Debug, Default)]
pub struct LiveOptions {
    /// Read every file of unchanged size. Otherwise another size or time of a file counts as another content.
    pub content: bool,
    /// Also tell what differs in nothing but metadata, extended attributes included.
    pub metadata: bool,
    /// Hand over what JSON files hold now whose content changed.
    pub json: bool,
    /// What the snapshot was told to leave out.
    pub filter: FilterOptions,
    pub walk: WalkOptions,
}

/// What a comparison with live files comes upon.
#[derive(Clone, Debug)]
pub enum Finding {
    Change(Change),
    /// Something could not be looked at; nothing is claimed about it.
    Problem(Problem),
}

/// Calls `each` for every difference between a snapshot and `places`, in manifest order.
///
/// Each place says where it stands and under which path the snapshot has it: `Root::new` for one that was backed up
/// from there, `Root::stored_as` for a subtree that now stands elsewhere. Paths are told as the snapshot has them.
pub fn run(
    reader: &Reader,
    root: &ChunkId,
    places: Vec<Root>,
    options: &LiveOptions,
    progress: &Progress,
    each: &mut dyn FnMut(Finding) -> Result<()>,
) -> Result<Statistics> {
    let stored = outermost(&places);
    let mut entries: Vec<Walk<'_>> = Vec::new();
    for below in &stored {
        entries.push(Walk::new(reader, root, below)?);
    }
    let source = FileSource::new(places.clone(), Filter::new(&options.filter)?, options.walk.clone())?;
    let entries: Entries<'_> = Box::new(entries.into_iter().flatten());
    let mut live = Live {
        reader,
        options,
        progress,
        places,
        stored,
        entries: entries.peekable(),
        unknown: HashSet::new(),
        stats: Statistics::default(),
        each,
    };
    for missing in source.missing_roots() {
        // Gone is an answer; anything else means that nothing is known.
        if live.stands(missing) {
            live.problem(missing.clone())?;
        }
    }
    source.walk(progress, &mut |step| live.step(step))?;
    while let Some(entry) = live.entries.next().transpose()? {
        live.removed(&entry)?;
    }
    Ok(live.stats)
}

type Entries<'r> = Box<dyn Iterator<Item = Result<Entry>> + 'r>;

/// Stored paths of the places, sorted, none below another.
fn outermost(places: &[Root]) -> Vec<Vec<u8>> {
    let mut stored: Vec<Vec<u8>> = places.iter().map(|p| p.stored.clone()).collect();
    stored.sort_by(|a, b| path_order(a, b));
    stored.dedup_by(|inner, outer| is_below(inner, outer));
    stored
}

struct Live<'a> {
    reader: &'a Reader,
    options: &'a LiveOptions,
    progress: &'a Progress,
    places: Vec<Root>,
    stored: Vec<Vec<u8>>,
    entries: Peekable<Entries<'a>>,
    /// Stored paths that could not be looked at: what the snapshot has at or below them may still be there.
    unknown: HashSet<Vec<u8>>,
    stats: Statistics,
    each: &'a mut dyn FnMut(Finding) -> Result<()>,
}

impl Live<'_> {
    fn step(&mut self, step: Step) -> Result<()> {
        let found = match step {
            Step::Found(found) => found,
            Step::Problem(problem) => return self.problem(problem),
        };
        let path = &found.entry.path;
        if !self.stored.iter().any(|top| is_below(path, top)) {
            // A directory above a place: asked about by nobody.
            return Ok(());
        }
        while let Some(entry) = self.before(path)? {
            self.removed(&entry)?;
        }
        let same = |next: &Result<Entry>| next.as_ref().is_ok_and(|entry| entry.path == *path);
        match self.entries.next_if(same).transpose()? {
            Some(entry) => self.both(&entry, &found),
            None => self.added(&found),
        }
    }

    /// The next entry of the snapshot if it comes before `path`.
    fn before(&mut self, path: &[u8]) -> Result<Option<Entry>> {
        let earlier = |next: &Result<Entry>| match next {
            Ok(entry) => path_order(&entry.path, path).is_lt(),
            Err(_) => true,
        };
        self.entries.next_if(earlier).transpose()
    }

    /// Whether something is there that merely could not be looked at.
    fn stands(&self, missing: &Problem) -> bool {
        let place = self.places.iter().find(|p| p.path.as_os_str().as_bytes() == missing.item);
        place.is_some_and(|p| match std::fs::symlink_metadata(&p.path) {
            Ok(_) => true,
            Err(e) => !matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
        })
    }

    fn problem(&mut self, problem: Problem) -> Result<()> {
        for place in &self.places {
            let here = place.path.as_os_str().as_bytes();
            let here = here.strip_suffix(b"/").unwrap_or(here);
            if is_below(&problem.item, here) {
                let mut stored = place.stored.clone();
                let rest = &problem.item[here.len()..];
                stored.extend_from_slice(if stored.is_empty() {
                    rest.get(1..).unwrap_or_default()
                } else {
                    rest
                });
                self.unknown.insert(stored);
            }
        }
        self.stats.problems += 1;
        (self.each)(Finding::Problem(problem))
    }

    fn is_unknown(&self, path: &[u8]) -> bool {
        let above = |end: usize| self.unknown.contains(&path[..end]);
        let slashes = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(i, _)| i);
        !self.unknown.is_empty() && slashes.chain([0, path.len()]).any(above)
    }

    fn removed(&mut self, entry: &Entry) -> Result<()> {
        if self.is_unknown(&entry.path) {
            return Ok(());
        }
        self.stats.removed.count(&entry.kind);
        self.stats.removed.bytes += size(entry);
        self.tell(&entry.path, Modifier::Removed, entry.is_dir(), (Some(size(entry)), None))
    }

    fn added(&mut self, found: &Found) -> Result<()> {
        self.stats.added.count(&found.entry.kind);
        self.stats.added.bytes += found.size;
        let sizes = (None, Some(found.size));
        self.tell(&found.entry.path, Modifier::Added, found.entry.is_dir(), sizes)
    }

    fn both(&mut self, entry: &Entry, found: &Found) -> Result<()> {
        let now = &found.entry;
        let metadata = match self.metadata_differs(entry, found) {
            Ok(differs) => differs,
            Err(e) => return self.cannot(entry, &e),
        };
        let modifier = if !same_type(&entry.kind, &now.kind) {
            Some(Modifier::Type)
        } else if now.kind == Kind::File {
            match self.content_differs(entry, found) {
                Ok(true) => Some(Modifier::Content),
                Ok(false) => None,
                Err(e) => return self.cannot(entry, &e),
            }
        } else {
            (entry.kind != now.kind).then_some(Modifier::Content)
        };
        let modifier = modifier.or((metadata && self.options.metadata).then_some(Modifier::Metadata));
        let Some(modifier) = modifier else { return Ok(()) };
        let changed = modifier == Modifier::Content && now.is_file();
        self.stats.changed_files += u64::from(changed);
        let silent = changed && !metadata && size(entry) == found.size;
        let mut contents = None;
        if changed && self.options.json {
            contents = Contents::of(&now.path, &entry.content, || After::Live(read_text(found)));
        }
        let (before, after) = (Some(size(entry)), Some(found.size));
        let (path, is_dir) = (now.path.clone(), now.is_dir());
        let change = Change { path, modifier, is_dir, before, after, silent, contents };
        (self.each)(Finding::Change(change))
    }

    /// Numbers decide about owners: names may be unknown to one side.
    fn metadata_differs(&self, entry: &Entry, found: &Found) -> Result<bool> {
        let (old, now) = (&entry.meta, &found.entry.meta);
        let owner = |m: &Metadata| (m.mode, m.owner.uid, m.owner.gid, m.mtime);
        if owner(old) != owner(now) {
            return Ok(true);
        }
        Ok(self.options.metadata && found.opener.xattrs()? != old.xattrs)
    }

    fn content_differs(&self, entry: &Entry, found: &Found) -> Result<bool> {
        if size(entry) != found.size {
            return Ok(true);
        }
        if !self.options.content {
            return Ok(entry.meta.mtime != found.entry.meta.mtime);
        }
        self.progress.set_current(&entry.path);
        let same = size(entry) == 0 || self.read_and_compare(&entry.content, found)?;
        self.progress.add_file(0);
        Ok(!same)
    }

    fn read_and_compare(&self, stored: &Content, found: &Found) -> Result<bool> {
        let cannot = || "cannot read it";
        let file = found.opener.open_file()?;
        // One byte more tells a file that has grown.
        let mut file = file.take(stored.size.saturating_add(1));
        if let ([Extent::Chunk { id, repeat: 1, .. }], None) = (stored.extents.as_slice(), stored.hash) {
            let mut bytes = Vec::with_capacity(usize::try_from(stored.size).unwrap_or(0));
            file.read_to_end(&mut bytes).context(cannot)?;
            self.progress.add_bytes(bytes.len() as u64);
            return Ok(self.reader.keyring().chunk_id(ChunkSort::Content, &bytes) == *id);
        }
        let (mut hash, mut len, mut buffer) = (FileHash::new(), 0, vec![0; 256 << 10]);
        loop {
            self.progress.keep_going()?;
            let n = file.read(&mut buffer).context(cannot)?;
            if n == 0 {
                break;
            }
            hash.update(&buffer[..n]);
            len += n as u64;
            self.progress.add_bytes(n as u64);
        }
        Ok(len == stored.size && hash.finish() == self.stored_hash(stored)?)
    }

    /// What the snapshot says about the whole content, or, where it says nothing, what its chunks say.
    fn stored_hash(&self, stored: &Content) -> Result<[u8; 32]> {
        if let Some(known) = stored.hash.filter(|h| *h != [0; 32]) {
            return Ok(known);
        }
        let hash = std::cell::RefCell::new(FileHash::new());
        content::for_each_piece(
            self.reader,
            stored,
            &mut |bytes| {
                hash.borrow_mut().update(bytes);
                Ok(())
            },
            &mut |len| {
                hash.borrow_mut().update_zeros(len);
                Ok(())
            },
        )?;
        let hash = hash.into_inner();
        Ok(hash.finish())
    }

    fn cannot(&mut self, entry: &Entry, e: &Error) -> Result<()> {
        self.progress.keep_going()?;
        self.stats.problems += 1;
        let item = entry.path.clone();
        (self.each)(Finding::Problem(Problem { item, during: "read", message: e.to_string() }))
    }

    fn tell(
        &mut self,
        path: &[u8],
        modifier: Modifier,
        is_dir: bool,
        (before, after): (Option<u64>, Option<u64>),
    ) -> Result<()> {
        let (path, silent, contents) = (path.to_vec(), false, None);
        (self.each)(Finding::Change(Change { path, modifier, is_dir, before, after, silent, contents }))
    }
}

/// All of a live file, unless it is too large to look into.
fn read_text(found: &Found) -> std::result::Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let opened = found.opener.open_file().map_err(|e| e.to_string())?;
    opened.take(TEXT_MAX + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    if bytes.len() as u64 > TEXT_MAX { Err(TOO_LARGE.to_owned()) } else { Ok(bytes) }
}
