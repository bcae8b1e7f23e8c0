//! The seam below the local backend: the calls it makes on a file system, and nothing more.
//!
//! What is done in which order, and what is made durable when, stands in the backend alone. So a disk that only
//! simulates can lose, refuse or delay each of these calls and try the very code that real disks meet.

pub mod bulk;
pub mod killing;
pub mod real;
pub mod simulated;

use std::ffi::OsString;
use std::io::{Error, ErrorKind, Result, Write};
use std::path::Path;

/// What something is, as far as a repository cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    pub kind: Kind,
    /// Bytes of a file.
    pub size: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    Directory,
    Other,
}

/// One line of a directory: a name and what stood there when it was looked at.
pub type Line = (OsString, Result<Stat>);

/// A file system. Clones are the same one.
pub trait Disk: Clone + Send + Sync + 'static {
    type File: DiskFile;
    type Lines: Iterator<Item = Result<Line>>;

    /// What a path leads to, links followed.
    fn stat(&self, path: &Path) -> Result<Stat>;

    /// Everything in a directory, links not followed. An item that is an error: nothing is known of what remains.
    fn list(&self, dir: &Path) -> Result<Self::Lines>;

    fn make_dir(&self, path: &Path, mode: u32) -> Result<()>;

    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> Result<()>;

    /// A file for reading.
    fn open(&self, path: &Path) -> Result<Self::File>;

    /// A file for writing that has no name and is gone when it is closed, unless `link` has named it.
    fn create_nameless(&self, dir: &Path, mode: u32) -> Result<Self::File>;

    /// A file for writing under a name that nothing has.
    fn create_new(&self, path: &Path, mode: u32) -> Result<Self::File>;

    /// Names a nameless file; `AlreadyExists` when the name is taken.
    fn link(&self, file: &Self::File, to: &Path) -> Result<()>;

    /// A second name for a file; `AlreadyExists` when the name is taken.
    fn link_again(&self, from: &Path, to: &Path) -> Result<()>;

    /// `AlreadyExists` when the new name is taken.
    fn rename_new(&self, from: &Path, to: &Path) -> Result<()>;

    /// Replaces what had the new name. Does nothing when both are names of one file.
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;

    fn remove(&self, path: &Path) -> Result<()>;

    /// Whether what lies here is on another machine: a hint for economy.
    fn is_remote(&self, path: &Path) -> bool {
        let _ = path;
        false
    }
}

/// An open file.
pub trait DiskFile: Write + Send + Sync + 'static {
    fn size(&self) -> Result<u64>;

    /// Much will be appended, and nothing read, sized or synced before a `flush`: a hint for economy.
    fn expect_much(&mut self) {}

    /// Some bytes from `offset`; none at the end.
    fn read_at(&self, out: &mut [u8], offset: u64) -> Result<usize>;

    /// Makes the content durable. What an error leaves unwritten may never be written.
    fn sync(&self) -> Result<()>;

    fn set_mode(&self, mode: u32) -> Result<()>;

    /// An exclusive lock that ends with this handle; `false` when another handle has it.
    fn try_lock(&self) -> Result<bool>;

    fn read_exact_at(&self, mut out: &mut [u8], mut offset: u64) -> Result<()> {
        while !out.is_empty() {
            match self.read_at(out, offset) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    out = out.get_mut(n..).ok_or_else(|| Error::other("more was read than asked for"))?;
                    offset += n as u64;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}
