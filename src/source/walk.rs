//! The walk: one descent through all roots, in manifest order, by directory handles.
//!
//! Names of a directory are sorted by their bytes and each directory is descended into where it stands among
//! its siblings; that alone gives the order of `format::entry::path_order`.

use super::filter::{Levels, Place};
use super::listed::{Looker, Visitor};
use super::roots::{Placed, below};
use super::{FileSource, Found, LeftOut, Opener, Step};
use crate::error::{Error, Result};
use crate::format::entry::Kind;
use crate::os::dir::{self, Handle, Names, Status, Trail};
use crate::os::metadata;
use crate::progress::{Problem, Progress};
use crate::sqlite::COMPANIONS;
use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

/// Lists of names kept for the next directory; larger ones are given back.
const SPARE_LISTS: usize = 16;
const SPARE_NAMES: usize = 4096;

pub(super) fn walk(
    source: &FileSource,
    looker: &Looker,
    progress: &Progress,
    visitor: &mut dyn Visitor,
) -> Result<LeftOut> {
    walk_below(source, looker, b"", progress, visitor)
}

/// Only what stands at or below `only`, and the directories above it.
pub(super) fn walk_below(
    source: &FileSource,
    looker: &Looker,
    only: &[u8],
    progress: &Progress,
    visitor: &mut dyn Visitor,
) -> Result<LeftOut> {
    let mut walker = Walker {
        source,
        progress,
        visitor,
        looker: looker.clone(),
        trail: Trail::default(),
        frames: Vec::new(),
        levels: Levels::default(),
        path: Vec::new(),
        root: Path::new("/"),
        base: 0,
        buffer: Vec::new(),
        spare: Vec::new(),
        only,
        left_out: LeftOut::default(),
    };
    let mut before: Option<&[u8]> = None;
    for placed in source.roots.iter().filter(|placed| is_on_way(&placed.root.stored, only)) {
        walker.root(placed, before)?;
        before = Some(&placed.root.stored);
    }
    Ok(walker.left_out)
}

/// Whether `path` is asked for by `only`, or leads there.
fn is_on_way(path: &[u8], only: &[u8]) -> bool {
    below(path, only).is_some() || below(only, path).is_some()
}

struct Walker<'a> {
    source: &'a FileSource,
    progress: &'a Progress,
    visitor: &'a mut dyn Visitor,
    looker: Looker,
    trail: Trail,
    /// One for each directory of the trail.
    frames: Vec<Frame>,
    levels: Levels,
    /// The stored path of what is being looked at.
    path: Vec<u8>,
    /// Where the root stands, and where the part below it begins in `path`.
    root: &'a Path,
    base: usize,
    buffer: Vec<u8>,
    spare: Vec<Names>,
    only: &'a [u8],
    left_out: LeftOut,
}

struct Frame {
    names: Names,
    next: usize,
    path_len: usize,
}

impl Frame {
    /// Whether companions of a database `name`, the one before `next`, are listed.
    fn lists_companions(&self, name: &[u8]) -> bool {
        // Names are sorted: those that begin with this one come right after it.
        (self.next..)
            .map_while(|at| self.names.get(at)?.to_bytes().strip_prefix(name))
            .any(|rest| COMPANIONS.iter().any(|suffix| suffix.as_bytes() == rest))
    }
}

impl<'a> Walker<'a> {
    fn root(&mut self, placed: &'a Placed, before: Option<&[u8]>) -> Result<()> {
        let stored = &placed.root.stored;
        self.root = &placed.root.path;
        self.base = if stored.is_empty() { 0 } else { stored.len() + 1 };
        self.path.clone_from(stored);
        // The top of everything has no name; it is its own entry `.`.
        let (above, name) = match (self.root.parent(), self.root.file_name()) {
            (Some(above), Some(name)) => (above, name),
            _ => (self.root, OsStr::new(".")),
        };
        let Ok(name) = CString::new(name.as_bytes()) else {
            return Err(Error::invalid(format!("{} holds a NUL byte", self.root.display())));
        };
        let look = dir::open_path(above).and_then(|fd| Ok((dir::status(&fd, &name)?, Arc::new(fd))));
        let (status, dir) = match look {
            Ok(look) => look,
            Err(e) => return self.problem("cannot look at it", &e),
        };
        if self.is_skipped(&status) {
            let why = io::Error::other("this is the repository itself");
            return self.problem("not backed up", &why);
        }
        self.parents(placed, before, if status.is_dir() { self.root } else { above })?;
        self.path.clone_from(stored);
        if status.is_dir() {
            self.directory(dir, name, status)?;
            self.descend()
        } else {
            self.found(dir, name, &status)
        }
    }

    /// Records the directories above a root, those that the root before did not have as well.
    fn parents(&mut self, placed: &Placed, before: Option<&[u8]>, instead: &Path) -> Result<()> {
        let stored = &placed.root.stored;
        let in_place = placed.root.in_place();
        for end in (0..stored.len()).filter(|&i| stored[i] == b'/') {
            if before.is_some_and(|b| b.starts_with(&stored[..=end])) {
                continue;
            }
            self.path.clear();
            self.path.extend_from_slice(&stored[..end]);
            // Parents made up by --as-path look like the root itself.
            let real = Path::new("/").join(OsStr::from_bytes(&stored[..end]));
            let real = if in_place { real.as_path() } else { instead };
            // Through links: what the user typed leads through them, and the snapshot needs a directory there.
            match dir::open_path(real).and_then(|fd| Ok((dir::status_of(&fd)?, fd))) {
                Ok((status, fd)) => self.found(Arc::new(fd), c".".to_owned(), &status)?,
                Err(e) => self.problem("cannot look at a directory above", &e)?,
            }
        }
        Ok(())
    }

    /// Goes through the open directories until none is left.
    fn descend(&mut self) -> Result<()> {
        while let Some(frame) = self.frames.last_mut() {
            self.path.truncate(frame.path_len);
            let number = frame.next;
            let Some(name) = frame.names.get(number) else {
                self.leave();
                continue;
            };
            frame.next += 1;
            if !self.path.is_empty() {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name.to_bytes());
            if !is_on_way(&self.path, self.only) {
                continue;
            }
            self.progress.keep_going()?;
            match self.trail.top() {
                Ok(dir) => self.visit(dir, number)?,
                Err(e) => {
                    self.problem("cannot go on in this directory", &e)?;
                    self.leave();
                }
            }
        }
        Ok(())
    }

    fn leave(&mut self) {
        self.trail.pop();
        self.levels.leave(self.frames.len());
        if let Some(frame) = self.frames.pop()
            && self.spare.len() < SPARE_LISTS
            && frame.names.len() <= SPARE_NAMES
        {
            self.spare.push(frame.names);
        }
    }

    /// Entry `number` of the directory being gone through; it stands at the current path.
    fn visit(&mut self, dir: Handle, number: usize) -> Result<()> {
        let Some(frame) = self.frames.last() else { return Ok(()) };
        let judged = frame.names.is_file(number) && self.source.filter.size_limit().is_none();
        // What may be a database with a log is looked at before anybody reads a byte of either.
        let companions =
            judged && frame.names.get(number).is_some_and(|name| frame.lists_companions(name.to_bytes()));
        if judged {
            if self.is_left_out(false) {
                self.left_out.by_rules += 1;
                return Ok(());
            }
            // Asked in any case: the visitor keeps pace with the walk.
            let needs_look = self.visitor.needs_look(&self.path);
            if !needs_look && !companions {
                return self.visitor.listed(&dir, &self.path);
            }
        }
        let frame = self.frames.last().and_then(|frame| frame.names.get(number));
        let Some(name) = frame.map(ToOwned::to_owned) else { return Ok(()) };
        let status = match dir::status(&dir, &name) {
            Ok(status) => status,
            // Left out anyway, whatever it is: no reason to complain.
            Err(_) if self.is_left_out(true) && self.is_left_out(false) => {
                self.left_out.by_rules += 1;
                return Ok(());
            }
            Err(e) => return self.gone_or_problem("cannot look at it", &e),
        };
        let large = status.is_file() && self.source.filter.too_large(status.size);
        if large || (!(judged && status.is_file()) && self.is_left_out(status.is_dir())) {
            self.left_out.by_rules += 1;
            return Ok(());
        }
        if status.is_dir() { self.directory(dir, name, status) } else { self.found(dir, name, &status) }
    }

    fn is_left_out(&self, is_dir: bool) -> bool {
        self.source.filter.decide(&self.levels, &self.path, self.base, is_dir).is_ignore()
    }

    fn is_skipped(&self, status: &Status) -> bool {
        status.is_dir() && self.source.options.skip.contains(&status.id())
    }

    fn is_elsewhere(&self, status: &Status) -> bool {
        self.source.options.one_file_system && !self.source.devices.contains(&status.dev)
    }

    /// Records a directory and, unless a rule forbids it, makes it the one to go through next.
    fn directory(&mut self, dir: Handle, name: CString, status: Status) -> Result<()> {
        // Asked before opening as well as after: a dead network mount is not to be touched more than needed.
        if self.is_elsewhere(&status) && !self.is_skipped(&status) {
            self.left_out.other_filesystems += 1;
            return self.found(dir, name, &status);
        }
        let opened = dir::open_dir(&dir, &name).and_then(|fd| Ok((dir::status_of(&fd)?, fd)));
        let (status, fd) = match opened {
            // What was opened counts: an automounter may just have put another filesystem there.
            Ok((now, fd)) => (now, Some(fd)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.left_out.vanished += 1;
                return Ok(());
            }
            Err(e) => {
                self.found(dir.clone(), name.clone(), &status)?;
                self.problem("cannot list the directory", &e)?;
                (status, None)
            }
        };
        let Some(fd) = fd else { return Ok(()) };
        if self.is_skipped(&status) {
            self.left_out.repository += 1;
            return Ok(());
        }
        self.found(dir, name.clone(), &status)?;
        if self.is_elsewhere(&status) {
            self.left_out.other_filesystems += 1;
            return Ok(());
        }
        self.progress.set_current(&self.path);
        self.looker.meet(status.dev);
        self.enter(Arc::new(fd), &name, status.id())
    }

    fn enter(&mut self, handle: Handle, name: &CStr, id: (u64, u64)) -> Result<()> {
        let mut names = self.spare.pop().unwrap_or_default();
        if let Err(e) = names.read(&handle, &mut self.buffer) {
            self.problem("cannot list all of the directory", &e)?;
        }
        let filter = &self.source.filter;
        let below_root = !self.frames.is_empty();
        if let Some(marker) = filter.marked(&handle, &names).filter(|_| below_root) {
            // The marker itself stays, so that a restored directory is marked as before.
            self.left_out.by_rules += names.len() as u64 - 1;
            names.keep_only(marker.name.to_bytes());
        }
        if filter.has_ignore_file(&names) {
            self.ignore_files(&handle, &names)?;
        }
        self.trail.push(handle, name, id);
        self.frames.push(Frame { names, next: 0, path_len: self.path.len() });
        Ok(())
    }

    /// Puts the ignore files of the directory being entered in force; what is wrong with them is a problem.
    fn ignore_files(&mut self, handle: &Handle, names: &Names) -> Result<()> {
        let base = if self.path.is_empty() { 0 } else { self.path.len() + 1 };
        let here = self.real_path();
        let place = Place { shown: OsStr::from_bytes(&here), depth: self.frames.len() + 1, base };
        for (file, e) in self.source.filter.enter(&mut self.levels, handle, names, place) {
            let item = [&here, &b"/"[..], file.to_bytes()].concat();
            let problem = Problem { item, during: "scan", message: e.to_string() };
            self.visitor.step(Step::Problem(problem))?;
        }
        Ok(())
    }

    /// Hands over what stands at the current path.
    fn found(&mut self, dir: Handle, name: CString, status: &Status) -> Result<()> {
        if self.path.is_empty() {
            return Ok(());
        }
        let kind = match metadata::kind(status, &dir, &name) {
            Ok(kind) => kind,
            Err(e) => return self.gone_or_problem("cannot read the link", &e),
        };
        let size = if kind == Kind::File { status.size } else { 0 };
        let (entry, stat) = self.looker.seen(self.path.clone(), kind, status);
        let opener = Opener { dir, name };
        let companions = entry.is_file() && self.has_companions(&opener);
        let found = Found { entry, stat, size, blocks: status.blocks, dev: status.dev, companions, opener };
        self.visitor.step(Step::Found(Box::new(found)))
    }

    /// Whether a file's name with a database companion's ending stands beside it.
    fn has_companions(&self, opener: &Opener) -> bool {
        let Some(frame) = self.frames.last() else {
            // A root by itself: nobody has listed its directory.
            return COMPANIONS.iter().any(|suffix| matches!(opener.place().status(suffix), Ok(Some(_))));
        };
        frame.lists_companions(opener.name.to_bytes())
    }

    /// What was removed since its directory was listed is no problem.
    fn gone_or_problem(&mut self, what: &str, e: &io::Error) -> Result<()> {
        if e.kind() == io::ErrorKind::NotFound {
            self.left_out.vanished += 1;
            return Ok(());
        }
        self.problem(what, e)
    }

    fn problem(&mut self, what: &str, e: &io::Error) -> Result<()> {
        let item = self.real_path();
        let problem = Problem { item, during: "scan", message: Error::io(what, e).to_string() };
        self.visitor.step(Step::Problem(problem))
    }

    /// Where the current path stands on this machine.
    fn real_path(&self) -> Vec<u8> {
        let mut out = self.root.as_os_str().as_bytes().to_vec();
        if let Some(rest) = self.path.get(self.base..).filter(|rest| !rest.is_empty()) {
            if !out.ends_with(b"/") {
                out.push(b'/');
            }
            out.extend_from_slice(rest);
        }
        out
    }
}
