//! Files that the walk only lists: whoever reads them looks at them, once they are open.
//!
//! A look by name costs about as much as opening the file. A file that must be read anyway is looked at through its
//! open handle, which says more: it cannot be another file than the one read.

use super::links::Links;
use super::{Found, Opener, Step, cannot_open};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::format::entry::{Content, Entry, Flags, Kind, Stat};
use crate::os::dir::{self, Handle, Status};
use crate::os::held::ReadFile;
use crate::os::metadata;
use crate::os::owners::Owners;
use std::ffi::CString;
use std::sync::{Arc, Mutex, PoisonError};

/// Takes what a walk finds.
pub trait Visitor {
    /// Whether the file at this stored path must be looked at during the walk. Those that need not be come as `listed`.
    /// Asked for regular files in the walk's order.
    fn needs_look(&mut self, path: &[u8]) -> bool;
    fn step(&mut self, step: Step) -> Result<()>;
    /// Something that was listed as a regular file; the last component of `path` is its name in `dir`.
    fn listed(&mut self, dir: &Handle, path: &[u8]) -> Result<()>;
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

    fn listed(&mut self, _: &Handle, _: &[u8]) -> Result<()> {
        Ok(())
    }
}

/// Files of one directory met on the walk, one after another, and not yet looked at.
pub struct Listed {
    dir: Handle,
    /// The directory's stored path with the slash after it.
    above: Vec<u8>,
    /// The names, and where each ends.
    names: Vec<u8>,
    ends: Vec<u32>,
}

impl Listed {
    /// The file at the stored path `path`, whose last component is its name in `dir`.
    pub fn new(dir: &Handle, path: &[u8]) -> Self {
        let above = path[..name_at(path)].to_vec();
        let mut listed = Listed { dir: dir.clone(), above, names: Vec::new(), ends: Vec::new() };
        listed.push(path);
        listed
    }

    /// Takes a further file if it is of the same directory.
    pub fn takes(&mut self, dir: &Handle, path: &[u8]) -> bool {
        let same = Arc::ptr_eq(dir, &self.dir) && path[..name_at(path)] == self.above;
        if same {
            self.push(path);
        }
        same
    }

    fn push(&mut self, path: &[u8]) {
        self.names.extend_from_slice(&path[name_at(path)..]);
        self.ends.push(self.names.len() as u32);
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    fn name(&self, number: usize) -> &[u8] {
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        &self.names[start..self.ends[number] as usize]
    }

    /// The stored path of file `number`.
    pub fn path(&self, number: usize) -> Vec<u8> {
        let name = self.name(number);
        let mut path = Vec::with_capacity(self.above.len() + name.len());
        path.extend_from_slice(&self.above);
        path.extend_from_slice(name);
        path
    }

    /// Opens file `number` for reading, and looks at it; an error of the kind `NotFound` when it is gone, as if it
    /// had been removed before the walk.
    pub fn open(&self, number: usize) -> Result<(ReadFile, Status)> {
        dir::open_and_look(&self.dir, self.name(number)).map_err(|e| cannot_open(&e))
    }

    /// File `number` as the walk would have found it, had it looked.
    pub fn found(&self, number: usize, (entry, stat): (Entry, Stat), status: &Status) -> Result<Found> {
        let name = CString::new(self.name(number)).map_err(|_| Error::invalid("a name with a NUL byte"))?;
        let opener = Opener { dir: self.dir.clone(), name };
        let Status { size, blocks, dev, .. } = *status;
        // The walk looks at everything that has some.
        Ok(Found { entry, stat, size, blocks, dev, companions: false, opener })
    }
}

/// Where the last component begins.
fn name_at(path: &[u8]) -> usize {
    path.iter().rposition(|&b| b == b'/').map_or(0, |i| i + 1)
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

    /// What a walk finds where the look gave `status`; content and extended attributes are still missing.
    pub fn seen(&mut self, path: Vec<u8>, kind: Kind, status: &Status) -> (Entry, Stat) {
        let shared = status.links > 1 && kind != Kind::Directory;
        let link = match shared {
            true => {
                let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
                links.number(status.dev, status.inode)
            }
            false => 0,
        };
        let meta = self.reader.metadata(status);
        let entry = Entry { path, kind, meta, flags: Flags::default(), link, content: Content::default() };
        (entry, metadata::stat(status, self.started))
    }
}
