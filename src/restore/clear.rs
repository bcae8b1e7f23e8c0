//! Removing what the snapshot does not have: everything below it that the patterns mean, nothing else.

use super::InPlace;
use super::database;
use super::select::Select;
use super::tally::{Tally, add};
use crate::error::{Context, Error, Result};
use crate::os::beneath;
use crate::os::dir::{self, Handle, Names, Status, Trail};
use crate::os::fault::reach;
use std::ffi::{CStr, CString};
use std::sync::Arc;

/// Removes trees without following links and without leaving their filesystem.
pub struct Clear<'a> {
    pub select: &'a Select,
    pub tally: &'a Tally<'a>,
    pub in_place: Option<&'a InPlace>,
}

struct Level {
    names: Names,
    next: usize,
    /// Length of its path.
    path: usize,
    wanted: bool,
    /// Something in it stays.
    kept: bool,
}

impl Clear<'_> {
    /// Whether `name` in `dir` is to be removed: the patterns mean it, and it is no part of a database, which goes with it.
    pub fn means(&self, dir: &Handle, name: &CStr, path: &[u8], above: bool) -> bool {
        self.select.meant(path, above) && !(self.in_place.is_some() && database::is_companion(dir, name))
    }

    /// Removes what is not a directory, by the rules for things in use where it may be one.
    pub fn file(&self, dir: &Handle, name: &CStr, status: &Status) -> Result<()> {
        let cannot = || "cannot remove what the snapshot does not have";
        let mut closed = None;
        if let Some(how) = self.in_place {
            how.unchanged(status)?;
            if status.is_file() {
                closed = database::before_deletion(dir, name)?;
            }
        }
        beneath::remove_file(dir, name.to_bytes()).context(cannot)?;
        drop(closed);
        reach("deleted");
        add(&self.tally.files_deleted, 1);
        Ok(())
    }

    /// Removes `name`, which stands in `dir` and is called `path` in the snapshot's terms; `wanted` is the patterns'
    /// answer for it. Answers whether it is gone.
    pub fn remove(&self, dir: &Handle, name: &CStr, path: &[u8], wanted: bool) -> Result<bool> {
        let cannot = || "cannot remove what the snapshot does not have";
        let top = dir::status_of(dir).context(cannot)?;
        let status = dir::status(dir, name).context(cannot)?;
        if !status.is_dir() {
            self.file(dir, name, &status)?;
            return Ok(true);
        }
        let mut path = path.to_vec();
        let mut trail = Trail::default();
        trail.push(dir.clone(), c".", top.id());
        let mut levels = vec![self.enter(&mut trail, name, &path, wanted, top.dev)?];
        while let Some(level) = levels.last_mut() {
            self.tally.progress.keep_going()?;
            path.truncate(level.path);
            let Some(name) = level.names.get(level.next).map(ToOwned::to_owned) else {
                let gone = self.leave(&mut trail, &path, level.kept)?;
                levels.pop();
                match levels.last_mut() {
                    Some(above) => above.kept |= !gone,
                    None => return Ok(gone),
                }
                continue;
            };
            level.next += 1;
            path.push(b'/');
            path.extend_from_slice(name.to_bytes());
            match self.one(&mut trail, &name, &path, level, top.dev) {
                Ok(None) => {}
                Ok(Some(below)) => levels.push(below),
                Err(e) => {
                    level.kept = true;
                    self.tally.problem(&path, "delete", &e);
                }
            }
        }
        Ok(false)
    }

    /// Removes one thing, or enters it if it is a directory.
    fn one(
        &self,
        trail: &mut Trail,
        name: &CString,
        path: &[u8],
        level: &mut Level,
        dev: u64,
    ) -> Result<Option<Level>> {
        let cannot = || "cannot remove it";
        let dir = trail.top().context(cannot)?;
        let status = match dir::status(&dir, name) {
            // What stood beside a database has gone with it.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && self.in_place.is_some() => return Ok(None),
            other => other.context(cannot)?,
        };
        if self.in_place.is_some() && database::is_companion(&dir, name) {
            level.kept = true;
            return Ok(None);
        }
        let Some(wanted) = self.select.choose(path, status.is_dir(), level.wanted) else {
            level.kept = true;
            return Ok(None);
        };
        if status.is_dir() {
            return self.enter(trail, name, path, wanted, dev).map(Some);
        }
        if !wanted {
            level.kept = true;
            return Ok(None);
        }
        self.file(&dir, name, &status)?;
        Ok(None)
    }

    fn enter(&self, trail: &mut Trail, name: &CStr, path: &[u8], wanted: bool, dev: u64) -> Result<Level> {
        let cannot = || "cannot look into it";
        let fd: Handle = Arc::new(dir::open_dir(trail.top().context(cannot)?, name).context(cannot)?);
        let status = dir::status_of(&fd).context(cannot)?;
        if status.dev != dev {
            return Err(Error::invalid("another filesystem is mounted there; it is left alone"));
        }
        let mut names = Names::default();
        names.read(&fd, &mut Vec::new()).context(cannot)?;
        trail.push(fd, name, status.id());
        Ok(Level { names, next: 0, path: path.len(), wanted, kept: !wanted })
    }

    /// Goes up, and removes the directory left unless something stays in it.
    fn leave(&self, trail: &mut Trail, path: &[u8], kept: bool) -> Result<bool> {
        let cannot = || "cannot remove the directory";
        let Some(name) = trail.pop() else { return Ok(false) };
        if kept {
            return Ok(false);
        }
        let dir = trail.top().context(cannot)?;
        match beneath::remove_dir(&dir, name.to_bytes()) {
            Ok(()) => {
                add(&self.tally.files_deleted, 1);
                Ok(true)
            }
            Err(e) => {
                self.tally.problem(path, "delete", &Error::io(cannot(), &e));
                Ok(false)
            }
        }
    }
}
