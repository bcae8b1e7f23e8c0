//! What a restore added, to take it away again: things that its snapshot has and the state before had not.

use super::clear::Clear;
use super::tally::{Tally, add};
use super::{Plan, Summary};
use crate::error::{Context, Error, Result};
use crate::format::entry::path_order;
use crate::id::ChunkId;
use crate::manifest::walk::Walk;
use crate::os::beneath::{self, Beneath};
use crate::os::dir::{self, Handle, Status};
use crate::progress::{Progress, Report};
use crate::repository::reader::Reader;
use std::cmp::Ordering;
use std::ffi::CString;
use std::io;

/// Stored paths that `plan` means and the snapshot with the root `before` does not hold, in the manifest's order.
pub fn added(reader: &Reader, plan: &Plan, before: &ChunkId) -> Result<Vec<Vec<u8>>> {
    let below = &plan.options.below;
    let mut old = Walk::new(reader, before, below)?;
    let mut next = old.next().transpose()?;
    let mut found = Vec::new();
    for number in plan.range.clone() {
        for entry in plan.groups.read(reader, number)?.into_iter().filter(|entry| plan.is_meant(entry)) {
            while next.as_ref().is_some_and(|n| path_order(&n.path, &entry.path) == Ordering::Less) {
                next = old.next().transpose()?;
            }
            if next.as_ref().is_none_or(|n| n.path != entry.path) {
                found.push(entry.path);
            }
        }
    }
    Ok(found)
}

/// What stands there of `paths`, deepest last: path, and whether it is a directory.
pub fn present(plan: &Plan, paths: &[Vec<u8>]) -> Result<Vec<(Vec<u8>, bool)>> {
    let Some(beneath) = open(plan)? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for path in paths {
        if let Some((_, _, status)) = look(&beneath, plan, path)? {
            found.push((path.clone(), status.is_dir()));
        }
    }
    Ok(found)
}

/// Removes `paths`, which come in the manifest's order; directories only when nothing is left in them.
pub fn remove(plan: &Plan, paths: &[Vec<u8>], progress: &Progress, report: &dyn Report) -> Result<Summary> {
    let tally = Tally::new(progress, report);
    let Some(beneath) = open(plan)? else { return Ok(tally.summary()) };
    let clear = Clear { select: &plan.select, tally: &tally, in_place: plan.options.in_place.as_ref() };
    for path in paths.iter().rev() {
        progress.keep_going()?;
        let done = look(&beneath, plan, path).and_then(|found| match found {
            None => Ok(()),
            Some((dir, name, status)) if status.is_dir() => {
                match beneath::remove_dir(&dir, name.to_bytes()) {
                    Ok(()) => {
                        add(&tally.files_deleted, 1);
                        Ok(())
                    }
                    // Something came into it since: that is not ours to remove.
                    Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
                    Err(e) => Err(Error::io("cannot remove the directory", &e)),
                }
            }
            Some((dir, name, status)) => clear.file(&dir, &name, &status),
        });
        if let Err(e) = done {
            progress.keep_going()?;
            tally.problem(path, "delete", &e);
        }
    }
    Ok(tally.summary())
}

fn open(plan: &Plan) -> Result<Option<Beneath>> {
    match Beneath::open(&plan.target) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.context(|| format!("cannot open {}", plan.target.display())).map(Some),
    }
}

/// What stands at a stored path, without going through links: where one stands now, nothing of ours does.
fn look(beneath: &Beneath, plan: &Plan, path: &[u8]) -> Result<Option<(Handle, CString, Status)>> {
    let cannot = || "cannot look at it";
    let (dir, name) = match beneath.parent(plan.relative(path), false) {
        Err(e) if is_missing(&e) => return Ok(None),
        found => found.context(cannot)?,
    };
    let name = CString::new(name).map_err(|_| Error::invalid("a name with a NUL"))?;
    match dir::status(&dir, &name) {
        Err(e) if is_missing(&e) => Ok(None),
        status => Ok(Some((dir, name, status.context(cannot)?))),
    }
}

fn is_missing(e: &io::Error) -> bool {
    // A link on the way is refused with ELOOP.
    let link = e.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error());
    link || matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
