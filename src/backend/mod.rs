//! The place: named files, all-or-nothing writes. The contract every backend keeps stands on the traits' methods.

pub mod disk;
pub mod dry;
pub mod local;
pub mod memory;
mod temporary;

use crate::error::{Error, ErrorKind, Result};
use crate::format::{FileName, Folder};
use crate::id::Name;
use std::path::{Path, PathBuf};

/// One line of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStat {
    pub name: FileName,
    pub size: u64,
}

/// A store of named, write-once files, and the one-entry fence that commits snapshots.
pub trait Backend: Send + Sync {
    /// Begins a new file. Nothing is visible under `name` before `publish`.
    fn create(&self, name: &FileName) -> Result<Box<dyn Pending>>;

    /// The whole file. `NotFound` when there is none; an error when it is larger than `max` bytes.
    fn read(&self, name: &FileName, max: u64) -> Result<Vec<u8>>;

    /// Exactly `len` bytes from `offset`; fewer there is `Corrupt`.
    fn read_range(&self, name: &FileName, offset: u64, len: usize) -> Result<Vec<u8>>;

    /// Every file of a folder in no particular order. A listing that may be incomplete is an error, never a short one.
    fn list(&self, folder: Folder) -> Result<Vec<FileStat>>;

    /// Removes a file, durably; removing what is not there is not an error.
    fn remove(&self, name: &FileName) -> Result<()>;

    /// Puts back the bytes that were stored under this name, in place of what damage has made of them or where nothing
    /// is left of them: at once and durably, so that the name never stands for less than before. Only for files whose
    /// right bytes are proved. `Unsupported` where a place cannot do it.
    fn mend(&self, name: &FileName, bytes: &[u8]) -> Result<()> {
        let _ = bytes;
        let what = format!("{name} cannot be put right in {}", self.location());
        Err(Error::new(ErrorKind::Unsupported, what))
    }

    /// Registers a session: creates `sessions/<session>` with these first bytes, durably, and keeps it open.
    fn open_session(&self, session: Name, first: &[u8]) -> Result<Box<dyn SessionFile>>;

    /// Moves an open session out of the way so that it can never commit; `NotFound` when it is not open.
    fn evict(&self, session: Name) -> Result<()>;

    /// Whether somebody on this machine still holds the session open; `None` where that cannot be known.
    fn session_alive(&self, session: Name) -> Option<bool>;

    /// Makes durable whatever listings have shown, of files and of their absence, so that nothing built on it
    /// outlives it.
    fn sync_seen(&self) -> Result<()>;

    /// Files that somebody is writing, or was writing when the machine went down.
    fn unfinished(&self) -> Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }

    /// Removes one of those if it is certain that nobody writes it.
    fn remove_unfinished(&self, path: &Path) -> bool {
        let _ = path;
        false
    }

    /// Whether each request takes long, however little it asks for, so that a few large ones are better than many.
    fn requests_are_slow(&self) -> bool {
        false
    }

    /// Where this is, for people.
    fn location(&self) -> String;
}

/// A file being written.
pub trait Pending: Send {
    fn append(&mut self, bytes: &[u8]) -> Result<()>;

    /// Gives the file its name, durably. `AlreadyExists` when the name is taken: nothing is ever replaced.
    fn publish(self: Box<Self>) -> Result<()>;
}

/// An open session's file.
pub trait SessionFile: Send {
    /// Appends, durably.
    fn append(&mut self, bytes: &[u8]) -> Result<()>;

    /// The fence: renames this one directory entry into `snapshots/`, durably. `NotFound` when the session was
    /// evicted; then nothing was committed.
    fn commit(self: Box<Self>) -> Result<()>;

    /// Removes the session without committing.
    fn abandon(self: Box<Self>) -> Result<()>;
}

/// A whole small file at once.
pub fn write_new(backend: &dyn Backend, name: &FileName, bytes: &[u8]) -> Result<()> {
    let mut pending = backend.create(name)?;
    pending.append(bytes)?;
    pending.publish()
}
