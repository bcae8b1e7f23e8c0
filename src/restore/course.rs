//! The way of the manifest through the target's directories: each entry meets what stands at its place.
//!
//! The course keeps the directories from the target down to the last entry. A directory is entered, or made, when
//! the first thing that is meant turns up in it, and left when the walk has passed all of it; its deletions and its
//! metadata come after that. On a dry run nothing is made.

use super::decide::{Rules, Verdict};
use super::same::Same;
use super::stage::is_stage;
use super::tally::Tally;
use super::{Overwrite, Plan, What, database, place};
use crate::error::{Context, Error, Result};
use crate::format::entry::{Entry, Metadata};
use crate::manifest::walk::is_below;
use crate::os::beneath::{self, Beneath};
use crate::os::dir::{self, Handle, Names, Status};
use crate::os::metadata;
use crate::os::process::{is_root, user_id};
use crate::os::xattr;
use crate::repository::reader::Reader;
use crate::sqlite::place::Place as Spot;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::AsFd;

/// Directories kept open; those further up are opened again when they are needed.
const OPEN_AT_ONCE: usize = 64;

/// One thing to do, in the order of the manifest.
pub struct Job {
    pub entry: Entry,
    /// Group and number within it.
    pub at: (usize, usize),
    /// `None` on a dry run, where the directory is not there.
    pub dir: Option<Handle>,
    /// Whether this run has made the directory, so that nobody else can look into it yet.
    pub private: bool,
    /// Whether new files inherit an ACL here.
    pub inherits: bool,
    pub verdict: Verdict,
    pub old: Option<Status>,
    /// To be restored as a database.
    pub database: bool,
}

/// A directory that is behind us.
pub struct Left {
    pub path: Vec<u8>,
    /// `None` when it has been closed meanwhile, or on a dry run is not there.
    pub handle: Option<Handle>,
    /// What to apply.
    pub meta: Option<Metadata>,
    /// Permissions to put back when nothing is applied.
    pub old_mode: Option<u32>,
    pub bare: bool,
    /// Names that the snapshot does not have.
    pub extras: Vec<CString>,
    /// The patterns' answer for the directory itself.
    pub wanted: bool,
}

impl Left {
    /// The stored path that `name` in this directory would have.
    pub fn path_of(&self, name: &CStr) -> Vec<u8> {
        let mut path = self.path.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name.to_bytes());
        path
    }
}

pub enum Step {
    Job(Box<Job>),
    /// A directory has been entered, or would be.
    Dir(What, Vec<u8>),
    Left(Box<Left>),
}

struct Level {
    path: Vec<u8>,
    wanted: bool,
    meta: Option<Metadata>,
    state: State,
}

enum State {
    /// Nothing that is meant has turned up in it yet.
    Waiting,
    /// It cannot be had; its contents are lost to this restore.
    Blocked,
    Ready(Place),
}

#[derive(Default)]
struct Place {
    handle: Option<Handle>,
    made: bool,
    inherits: bool,
    /// What stood there before, where deletions are asked for.
    children: Option<Children>,
    /// Whether the recorded metadata is to be applied at the end.
    apply: bool,
    old_mode: Option<u32>,
}

#[derive(Default)]
struct Children {
    names: Names,
    next: usize,
    extras: Vec<CString>,
}

impl Children {
    /// The walk has come to `name`: whatever sorts before it and was not met is not in the snapshot.
    fn pass(&mut self, name: Option<&[u8]>) {
        while let Some(here) = self.names.get(self.next) {
            match name.map(|name| here.to_bytes().cmp(name)) {
                Some(std::cmp::Ordering::Greater) => return,
                Some(std::cmp::Ordering::Equal) => {}
                _ if is_stage(here.to_bytes()) => {}
                _ => self.extras.push(here.to_owned()),
            }
            self.next += 1;
        }
    }
}

pub struct Course<'a> {
    plan: &'a Plan,
    rules: &'a Rules<'a>,
    tally: &'a Tally<'a>,
    same: Same<'a>,
    /// `None` on a dry run whose target is not there.
    beneath: Option<&'a Beneath>,
    dry: bool,
    levels: Vec<Level>,
    /// A directory that is left out; nothing below it is looked at.
    pruned: Vec<u8>,
    /// The last entry that was no directory; nothing may stand below it.
    leaf: Vec<u8>,
    deletes: bool,
}

type Out<'o> = &'o mut dyn FnMut(Step) -> Result<()>;

impl<'a> Course<'a> {
    /// `made` says that the target itself was made by this run.
    pub fn new(
        plan: &'a Plan,
        rules: &'a Rules<'a>,
        tally: &'a Tally<'a>,
        (reader, beneath): (&'a Reader, Option<&'a Beneath>),
        (dry, made): (bool, bool),
    ) -> Result<Self> {
        let mut wanted = plan.select.start();
        for end in (0..plan.base.len()).filter(|&i| plan.base[i] == b'/').chain([plan.base.len()]) {
            if end > 0 {
                wanted = plan.select.wanted(&plan.base[..end], true, wanted);
            }
        }
        let deletes = plan.options.delete;
        let mut course = Course {
            plan,
            rules,
            tally,
            same: Same { reader, progress: tally.progress },
            beneath,
            dry,
            levels: Vec::new(),
            pruned: Vec::new(),
            leaf: Vec::new(),
            deletes,
        };
        let mut top = Place { made: made || beneath.is_none(), ..Place::default() };
        if let Some(beneath) = beneath {
            top.handle = Some(beneath.root());
            if !top.made {
                // The target stands for a directory of the snapshot only if it was asked for by name.
                let stands_for = !plan.base.is_empty() && plan.base == plan.options.below;
                course.look_around(&mut top, stands_for).context(|| "cannot list the target")?;
            }
        }
        // A target that stands there is the user's own, unless it is to become what the snapshot holds.
        let meta = plan.base_meta.clone().filter(|_| top.made || plan.options.delete);
        top.apply = meta.is_some();
        course.levels.push(Level { path: plan.base.clone(), wanted, meta, state: State::Ready(top) });
        Ok(course)
    }

    /// From now on nothing is deleted: a part of the manifest is missing, so nobody knows what else it holds.
    pub fn no_more_deletions(&mut self) {
        self.deletes = false;
    }

    /// The next entry of the walk.
    pub fn step(&mut self, entry: Entry, at: (usize, usize), out: Out<'_>) -> Result<()> {
        if !self.pruned.is_empty() && is_below(&entry.path, &self.pruned) {
            return Ok(());
        }
        if entry.path == self.plan.base {
            return Ok(());
        }
        self.climb(&entry.path, out)?;
        if !self.leaf.is_empty() && is_below(&entry.path, &self.leaf) {
            self.tally.meant(&entry);
            self.tally.failed(&entry);
            let e = Error::corrupt("stands below something that is not a directory");
            self.tally.problem(&entry.path, "restore", &e);
            return Ok(());
        }
        if !self.descend(&entry.path) {
            return Ok(());
        }
        let Some(wanted) = self.meet(&entry.path, entry.is_dir()) else { return Ok(()) };
        if entry.is_dir() {
            self.push(entry.path, wanted, Some(entry.meta));
            if wanted {
                self.make_ready(out)?;
            }
            return Ok(());
        }
        self.leaf.clone_from(&entry.path);
        if wanted { self.thing(entry, at, out) } else { Ok(()) }
    }

    /// All directories that are still open are behind us.
    pub fn finish(&mut self, out: Out<'_>) -> Result<()> {
        while !self.levels.is_empty() {
            self.leave(out)?;
        }
        Ok(())
    }

    fn thing(&mut self, entry: Entry, at: (usize, usize), out: Out<'_>) -> Result<()> {
        self.make_ready(out)?;
        self.tally.meant(&entry);
        let top = self.levels.len() - 1;
        pass_child(&mut self.levels[top], &entry.path);
        let State::Ready(place) = &self.levels[top].state else {
            self.tally.failed(&entry);
            return Ok(());
        };
        let (private, inherits) = (place.made, place.inherits);
        let dir = match self.handle(top) {
            Ok(dir) => dir,
            Err(e) => {
                self.tally.problem(&entry.path, "restore", &Error::io("cannot open its directory", &e));
                self.tally.failed(&entry);
                return Ok(());
            }
        };
        let old = match &dir {
            // Nobody else can have put anything there.
            Some(dir) if !private => match look(dir, entry.name()) {
                Ok(old) => old,
                Err(e) => {
                    self.tally.problem(&entry.path, "restore", &Error::io("cannot look at its place", &e));
                    self.tally.failed(&entry);
                    return Ok(());
                }
            },
            _ => None,
        };
        let kind = |status: &Status| match (&dir, CString::new(entry.name())) {
            (Some(dir), Ok(name)) => metadata::kind(status, dir, &name),
            _ => Err(io::ErrorKind::NotFound.into()),
        };
        let place = match (&dir, CString::new(entry.name())) {
            (Some(dir), Ok(name)) if self.plan.options.in_place.is_some() => {
                Some(Spot::new(dir.clone(), &name))
            }
            _ => None,
        };
        let database = place.filter(|place| !private && database::is_one(self.same.reader, &entry, place));
        let same = &mut || match (&database, &self.plan.options.in_place, &dir) {
            (Some(place), Some(how), _) => self.same.database(&entry, place, how),
            (_, _, Some(dir)) => self.same.file(&entry, dir),
            _ => Ok(false),
        };
        let verdict = match database.is_some() {
            true => self.rules.decide_database(&entry, old.as_ref(), same),
            false => self.rules.decide(&entry, old.as_ref(), &kind, same),
        };
        let database = database.is_some();
        out(Step::Job(Box::new(Job { entry, at, dir, private, inherits, verdict, old, database })))
    }

    /// Leaves the directories that `path` does not stand in.
    fn climb(&mut self, path: &[u8], out: Out<'_>) -> Result<()> {
        while self.levels.len() > 1 && self.levels.last().is_some_and(|l| !is_below(path, &l.path)) {
            self.leave(out)?;
        }
        Ok(())
    }

    /// Goes down to the directory that `path` stands in, also where the manifest does not name one on the way;
    /// `false` when it is left out.
    fn descend(&mut self, path: &[u8]) -> bool {
        loop {
            let above = self.levels.last().map_or(0, |l| l.path.len());
            let start = if above == 0 { 0 } else { above + 1 };
            let Some(len) = path[start..].iter().position(|&b| b == b'/') else { return true };
            let implied = &path[..start + len];
            let Some(wanted) = self.meet(implied, true) else { return false };
            let meta = self.plan.above.iter().find(|(p, _)| p == implied).map(|(_, m)| m.clone());
            self.push(implied.to_vec(), wanted, meta);
        }
    }

    /// The patterns' answer for something in the top directory.
    fn meet(&mut self, path: &[u8], is_dir: bool) -> Option<bool> {
        let above = self.levels.last_mut()?;
        pass_child(above, path);
        let answer = self.plan.choose(path, is_dir, above.wanted);
        if answer.is_none() && is_dir {
            self.pruned = path.to_vec();
        }
        answer
    }

    fn push(&mut self, path: Vec<u8>, wanted: bool, meta: Option<Metadata>) {
        self.levels.push(Level { path, wanted, meta, state: State::Waiting });
        if let Some(old) = self.levels.len().checked_sub(OPEN_AT_ONCE + 1).filter(|&i| i > 0)
            && let State::Ready(place) = &mut self.levels[old].state
        {
            place.handle = None;
        }
    }

    /// Enters or makes every directory on the way that is still waiting.
    fn make_ready(&mut self, out: Out<'_>) -> Result<()> {
        let waiting = self.levels.iter().position(|l| matches!(l.state, State::Waiting));
        for i in waiting.unwrap_or(self.levels.len())..self.levels.len() {
            self.tally.progress.keep_going()?;
            let (what, state) = match self.enter(i) {
                Ok((what, place)) => (what, State::Ready(place)),
                Err(e) if super::tally::is_fatal(&e) => return Err(e),
                Err(e) => {
                    let blocked = matches!(self.levels[i - 1].state, State::Blocked);
                    if !blocked {
                        self.tally.problem(&self.levels[i].path, "restore", &e);
                    }
                    (What::Conflict, State::Blocked)
                }
            };
            self.levels[i].state = state;
            let (here, next) = self.levels.split_at_mut(i + 1);
            if let (Some(here), Some(next)) = (here.last_mut(), next.first()) {
                pass_child(here, &next.path);
            }
            out(Step::Dir(what, self.levels[i].path.clone()))?;
        }
        Ok(())
    }

    /// Enters or makes the directory of level `i`, the one above being ready.
    fn enter(&mut self, i: usize) -> Result<(What, Place)> {
        let State::Ready(above) = &self.levels[i - 1].state else {
            return Err(Error::invalid("the directory above is missing"));
        };
        let (fresh, inherits) = (above.made, above.inherits);
        let made = Place { made: true, inherits, apply: true, ..Place::default() };
        let parent = self.handle(i - 1).context(|| "cannot open the directory above")?;
        let Some(parent) = parent else { return Ok((What::Create, made)) };
        let level = &self.levels[i];
        let name = CString::new(last(&level.path)).map_err(|_| Error::invalid("a name with a NUL"))?;
        let old =
            if fresh { None } else { look(&parent, name.to_bytes()).context(|| "cannot look at it")? };
        let what = match old {
            Some(status) if status.is_dir() => return self.enter_old(i, &parent, &name, &status),
            Some(status) => {
                let mtime = level.meta.as_ref().map(|m| m.mtime);
                if !self.rules.gives_way(mtime.unwrap_or_default(), &status) {
                    return Err(Error::invalid(
                        "something that is not a directory stands there and must stay",
                    ));
                }
                if !self.dry {
                    beneath::remove_file(&parent, name.to_bytes())
                        .context(|| "cannot replace what stands there")?;
                }
                What::Replace
            }
            None => What::Create,
        };
        if self.dry {
            return Ok((what, made));
        }
        beneath::create_dir(&parent, name.to_bytes()).context(|| "cannot make the directory")?;
        let fd = dir::open_dir(&parent, &name).context(|| "cannot open the directory")?;
        Ok((what, Place { handle: Some(fd.into()), ..made }))
    }

    fn enter_old(&self, i: usize, parent: &Handle, name: &CStr, old: &Status) -> Result<(What, Place)> {
        let level = &self.levels[i];
        let fd: Handle = dir::open_dir(parent, name).context(|| "cannot open the directory")?.into();
        let mut place = Place { handle: Some(fd.clone()), ..Place::default() };
        // What only leads to the things asked for keeps its own metadata.
        let leads = is_below(&self.plan.options.below, &level.path) && level.path != self.plan.options.below;
        let gives_way = level.meta.as_ref().is_some_and(|m| self.rules.gives_way(m.mtime, old));
        place.apply = level.wanted && !leads && gives_way;
        if !self.dry
            && self.rules.overwrite != Overwrite::Never
            && old.mode & 0o300 != 0o300
            && !is_root()
            && old.uid == user_id()
        {
            let mode = old.mode & 0o7777;
            beneath::set_mode(&fd, mode | 0o700).context(|| "cannot write to the directory")?;
            place.old_mode = Some(mode);
        }
        self.look_around(&mut place, !leads).context(|| "cannot list the directory")?;
        let what = if place.apply { What::Keep } else { What::Skip };
        Ok((what, place))
    }

    /// Learns what a directory that was there before holds; leftovers of an interrupted restore go.
    fn look_around(&self, place: &mut Place, ours: bool) -> io::Result<()> {
        let Some(handle) = &place.handle else { return Ok(()) };
        let attributes = xattr::names(&xattr::Place::Open(handle.as_fd())).unwrap_or_default();
        place.inherits = attributes.iter().any(|name| name == b"system.posix_acl_default");
        let mut children = Children::default();
        children.names.read(handle, &mut Vec::new())?;
        let mut leftovers = 0;
        for i in 0..children.names.len() {
            if let Some(name) = children.names.get(i).filter(|name| place::is_leftover(name.to_bytes()))
                && !self.dry
            {
                leftovers += u64::from(beneath::remove_file(handle, name.to_bytes()).is_ok());
            }
        }
        if leftovers > 0 {
            children.names.read(handle, &mut Vec::new())?;
        }
        if self.plan.options.delete && ours {
            place.children = Some(children);
        }
        Ok(())
    }

    /// An open handle for level `i`; `None` for a directory that a dry run would have made.
    fn handle(&mut self, i: usize) -> io::Result<Option<Handle>> {
        let level = &mut self.levels[i];
        let State::Ready(place) = &mut level.state else { return Ok(None) };
        if let Some(handle) = &place.handle {
            return Ok(Some(handle.clone()));
        }
        match self.beneath {
            Some(beneath) if !(self.dry && place.made) => {
                let handle = beneath.dir(self.plan.relative(&level.path))?;
                place.handle = Some(handle.clone());
                Ok(Some(handle))
            }
            _ => Ok(None),
        }
    }

    fn leave(&mut self, out: Out<'_>) -> Result<()> {
        let Some(level) = self.levels.pop() else { return Ok(()) };
        let State::Ready(place) = level.state else { return Ok(()) };
        let mut extras = Vec::new();
        if let Some(mut children) = place.children.filter(|_| self.deletes) {
            children.pass(None);
            extras = children.extras;
        }
        let meta = level.meta.filter(|_| place.apply);
        let (bare, old_mode) = (place.made && !place.inherits, place.old_mode);
        let (path, wanted, handle) = (level.path, level.wanted, place.handle);
        out(Step::Left(Box::new(Left { path, handle, meta, old_mode, bare, extras, wanted })))
    }
}

/// Notes that the walk has come to `path`, which stands in `level`.
fn pass_child(level: &mut Level, path: &[u8]) {
    let start = if level.path.is_empty() { 0 } else { level.path.len() + 1 };
    if let State::Ready(Place { children: Some(children), .. }) = &mut level.state {
        let name = path.get(start..).unwrap_or_default().split(|&b| b == b'/').next();
        children.pass(name);
    }
}

fn last(path: &[u8]) -> &[u8] {
    path.rsplit(|&b| b == b'/').next().unwrap_or(path)
}

/// What stands at `name`; `None` when nothing does.
fn look(dir: &Handle, name: &[u8]) -> io::Result<Option<Status>> {
    match dir::status(dir, &CString::new(name)?) {
        Ok(status) => Ok(Some(status)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}
