//! Files that the walk only lists: whoever reads them looks at them, once they are open.
//!
//! A look by name costs about as much as opening the file. A file that must be read anyway is looked at through its
//! open handle, which says more: it cannot be another file than the one read.

use super::links::Links;
use super::{Found, Opener, Step, cannot_open};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::format::entry::{Content, Entry, Flags, Kind};
use crate::os::dir::{self, Handle, Status};
use crate::os::metadata;
use crate::os::owners::Owners;
use std::ffi::CString;
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};

/// Takes what a walk finds.
pub trait Visitor {
    /// Whether the file at this stored path must be looked at during the walk. Those that need not be come as `listed`.
    /// Asked for regular files in the walk's order.
    fn needs_look(&mut self, path: &[u8]) -> bool;
    fn step(&mut self, step: Step) -> Result<()>;
    /// Something that was listed as a regular file.
    fn listed(&mut self, listed: Listed) -> Result<()>;
}

/// A visitor that leaves every look to the walk.
pub(super) struct Each<'a>(pub &'a mut dyn FnMut(Step) -> Result<()>);

impl Visitor for Each<'_> {
    fn needs_look(&mut self, _: &[u8]) -> bool {
        true
    }

    fn step(&mut self, step: Step) -> Result<()> {
        (self.0)(step)
    }

    fn listed(&mut self, _: Listed) -> Result<()> {
        Ok(())
    }
}

/// A file met on the walk and not yet looked at.
pub struct Listed {
    /// In stored form; the last component is the name in `dir`.
    path: Vec<u8>,
    dir: Handle,
}

impl Listed {
    pub(super) fn new(path: Vec<u8>, dir: Handle) -> Self {
        Listed { path, dir }
    }

    pub fn path(&self) -> &[u8] {
        &self.path
    }

    fn name(&self) -> &[u8] {
        let at = self.path.iter().rposition(|&b| b == b'/').map_or(0, |i| i + 1);
        &self.path[at..]
    }

    /// Opens the file for reading, and looks at it; `None` when it is gone: as if it had been removed before the walk.
    pub fn open(&self) -> Result<Option<(File, Status)>> {
        match dir::open_and_look(&self.dir, self.name()) {
            Ok(opened) => Ok(Some(opened)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(cannot_open(&e)),
        }
    }

    /// What a walk that had looked would have found.
    pub fn found(self, status: &Status, looker: &mut Looker) -> Result<Found> {
        let name =
            CString::new(self.name()).map_err(|_| crate::error::Error::invalid("a name with a NUL byte"))?;
        Ok(looker.found(self.path, Kind::File, status, Opener { dir: self.dir, name }))
    }
}

/// Makes entries of one walk. Clones share what the walk's entries must agree on.
#[derive(Clone)]
pub struct Looker {
    reader: metadata::Reader,
    links: Arc<Mutex<Links>>,
    started: Timestamp,
}

impl Looker {
    pub(super) fn new(started: Timestamp) -> Self {
        Looker { reader: metadata::Reader::new(Owners::load()), links: Arc::default(), started }
    }

    /// Gives a device its number; in the walk's order, so that the numbers are the same every time.
    pub(super) fn meet(&self, dev: u64) {
        self.links.lock().unwrap_or_else(PoisonError::into_inner).meet(dev);
    }

    /// Brings what was found up to date with a later look; the path stays.
    pub fn again(&mut self, found: &mut Found, status: &Status) {
        let path = std::mem::take(&mut found.entry.path);
        *found = self.found(path, Kind::File, status, found.opener.clone());
    }

    pub(super) fn found(&mut self, path: Vec<u8>, kind: Kind, status: &Status, opener: Opener) -> Found {
        let shared = status.links > 1 && kind != Kind::Directory;
        let link = match shared {
            true => {
                let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
                links.number(status.dev, status.inode)
            }
            false => 0,
        };
        let size = if kind == Kind::File { status.size } else { 0 };
        let meta = self.reader.metadata(status);
        let entry = Entry { path, kind, meta, flags: Flags::default(), link, content: Content::default() };
        let stat = metadata::stat(status, self.started);
        Found { entry, stat, size, blocks: status.blocks, dev: status.dev, opener }
    }
}
