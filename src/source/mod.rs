//! What is backed up: files found on a walk, or one stream; what to leave out, and why.
//!
//! This room knows nothing of repositories. It finds things in manifest order and hands out ways to open them;
//! reading and storing is the business of others.

pub mod explain;
pub mod filter;
pub mod lists;
mod links;
pub mod listed;
pub mod roots;
pub mod stream;
mod walk;

use crate::clock::Timestamp;
use crate::error::{Context, Error, Result};
use crate::format::entry::{Entry, Stat, Xattrs};
use crate::os::dir::{self, Handle};
use crate::os::held::ReadFile;
use crate::os::xattr;
use crate::progress::{Problem, Progress};
use crate::sqlite::place::Place;
use filter::Filter;
use listed::{Each, Looker, Visitor};
use roots::{Placed, Root};
use std::ffi::{CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One thing met on the walk, not yet read.
pub struct Found {
    /// Path in stored form and metadata; content and extended attributes are still missing.
    pub entry: Entry,
    pub stat: Stat,
    /// Bytes in a regular file, otherwise 0.
    pub size: u64,
    /// Space taken, in units of 512 bytes.
    pub blocks: u64,
    pub dev: u64,
    /// For a regular file: something stands beside it that has the name of a database's log or journal.
    pub companions: bool,
    pub opener: Opener,
}

/// How to get at a found thing again, by directory handle, without following links.
///
/// Cheap to clone and to send to another thread. It keeps its directory open: hold a bounded number of them.
#[derive(Clone)]
pub struct Opener {
    dir: Handle,
    name: CString,
}

impl Opener {
    /// Opens the regular file for reading; an error if something else stands there by now.
    pub fn open_file(&self) -> Result<ReadFile> {
        Ok(self.open_and_look()?.0)
    }

    /// As `open_file`, with a look at what was opened.
    pub fn open_and_look(&self) -> Result<(ReadFile, dir::Status)> {
        dir::open_and_look(&self.dir, self.name.as_c_str()).map_err(|e| cannot_open(&e))
    }

    /// The extended attributes, ACLs among them; `None` when there are none.
    pub fn xattrs(&self) -> Result<Option<Arc<Xattrs>>> {
        xattr::read_at(&self.dir, &self.name).context(|| "cannot read the extended attributes")
    }

    /// Where it stands, for whoever takes it for a database.
    pub fn place(&self) -> Place {
        Place::new(self.dir.clone(), &self.name)
    }

    /// Looks at the thing again.
    pub fn status(&self) -> Result<dir::Status> {
        dir::status(&self.dir, &self.name).context(|| "cannot look at it again")
    }
}

fn cannot_open(e: &io::Error) -> Error {
    let what = "cannot open the file";
    match e.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
        true => Error::invalid(format!("{what}: it was replaced by a link while the backup ran")),
        false => Error::io(what, e),
    }
}

/// What the walk hands over, one at a time.
pub enum Step {
    Found(Box<Found>),
    /// Something could not be looked at: that costs this one thing, or the rest of this one directory.
    Problem(Problem),
}

/// How to walk.
#[derive(Clone, Debug, Default)]
pub struct WalkOptions {
    /// When the backup began: what was touched since then must be read again next time.
    pub started: Timestamp,
    /// Enter only directories on the filesystems that the roots stand on.
    pub one_file_system: bool,
    /// Device and inode of directories to pass over without a trace: the repository itself.
    pub skip: Vec<(u64, u64)>,
}

/// What the walk saw and did not hand over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Left out by a pattern, a marker file or the size limit; a directory counts once.
    pub by_rules: u64,
    /// Directories of the repository itself.
    pub repository: u64,
    /// Directories on other filesystems, recorded but not entered.
    pub other_filesystems: u64,
    /// Listed but gone before they could be looked at: as if they had been removed before the backup.
    pub vanished: u64,
}

/// Directories, files and links named by the user, as one stream in manifest order.
pub struct FileSource {
    /// Sorted by stored path, none inside another.
    roots: Vec<Placed>,
    missing: Vec<Problem>,
    /// Of all roots, also those that stand inside another.
    devices: Vec<u64>,
    filter: Filter,
    options: WalkOptions,
}

impl FileSource {
    /// Looks at every root. Roots that are not there are not an error here: see `missing_roots`.
    pub fn new(roots: Vec<Root>, filter: Filter, options: WalkOptions) -> Result<Self> {
        let arranged = roots::arrange(roots)?;
        let roots::Arranged { roots, missing, devices } = arranged;
        Ok(FileSource { roots, missing, devices, filter, options })
    }

    /// The roots that could not be looked at, each with the reason.
    pub fn missing_roots(&self) -> &[Problem] {
        &self.missing
    }

    /// The roots that will be walked, in stored order; those inside another are part of it.
    pub fn roots(&self) -> impl Iterator<Item = &Root> {
        self.roots.iter().map(|placed| &placed.root)
    }

    /// Calls `each` for everything in manifest order, parents first; stops at the first error of `each`.
    ///
    /// Problems are handed over, not counted: whoever reports them counts them.
    pub fn walk(&self, progress: &Progress, each: &mut dyn FnMut(Step) -> Result<()>) -> Result<LeftOut> {
        walk::walk(self, &self.looker(), progress, &mut Each(each))
    }

    /// As `walk`, for a visitor that looks at some of the files itself, with clones of `looker`.
    pub fn walk_with(
        &self,
        looker: &Looker,
        progress: &Progress,
        visitor: &mut dyn Visitor,
    ) -> Result<LeftOut> {
        walk::walk(self, looker, progress, visitor)
    }

    /// As `walk`, but only at and below the stored path `below` and through the directories above it.
    pub fn walk_below(
        &self,
        looker: &Looker,
        below: &[u8],
        progress: &Progress,
        each: &mut dyn FnMut(Step) -> Result<()>,
    ) -> Result<LeftOut> {
        walk::walk_below(self, looker, below, progress, &mut Each(each))
    }

    /// What one walk and its visitors need to make entries; clones belong together.
    pub fn looker(&self) -> Looker {
        Looker::new(self.options.started)
    }

    /// How the thing that stands at `path`, an absolute path, is stored; `None` when it is below no source.
    pub fn stored_path(&self, path: &Path) -> Option<Vec<u8>> {
        self.roots.iter().find_map(|placed| {
            let rest = path.strip_prefix(&placed.root.path).ok()?;
            let mut stored = placed.root.stored.clone();
            for part in rest.components() {
                if !stored.is_empty() {
                    stored.push(b'/');
                }
                stored.extend_from_slice(part.as_os_str().as_bytes());
            }
            Some(stored)
        })
    }

    /// Where the thing stored as `stored` stands on this machine.
    pub fn real_path(&self, stored: &[u8]) -> Result<PathBuf> {
        let inside = |p: &&Placed| roots::below(stored, &p.root.stored).is_some();
        let Some(placed) = self.roots.iter().find(inside) else {
            return Err(Error::invalid(format!(
                "`{}` is not below any source",
                String::from_utf8_lossy(stored)
            )));
        };
        let rest = roots::below(stored, &placed.root.stored).unwrap_or_default();
        let path = &placed.root.path;
        Ok(if rest.is_empty() { path.clone() } else { path.join(OsStr::from_bytes(rest)) })
    }
}
