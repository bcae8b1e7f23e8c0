//! From what the system says about a file to what a manifest records of it.

use super::dir::Status;
use super::owners::Owners;
use crate::clock::Timestamp;
use crate::format::entry::{Kind, Metadata, Owner, Stat};
use rustix::fs::FileType;
use std::ffi::CStr;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

/// Remembers the last owner seen: neighbours mostly belong to the same user.
pub struct Reader {
    owners: Arc<Owners>,
    last: Arc<Owner>,
}

impl Clone for Reader {
    /// For another thread: with an `Owner` of its own, since threads that count references in one place are slow.
    fn clone(&self) -> Self {
        Reader { owners: self.owners.clone(), last: Arc::new(Owner::clone(&self.last)) }
    }
}

impl Reader {
    pub fn new(owners: impl Into<Arc<Owners>>) -> Self {
        let owners = owners.into();
        let last = owners.get(0, 0);
        Reader { owners, last }
    }

    /// Everything but the extended attributes, which cost calls of their own.
    pub fn metadata(&mut self, status: &Status) -> Metadata {
        if (self.last.uid, self.last.gid) != (status.uid, status.gid) {
            self.last = self.owners.get(status.uid, status.gid);
        }
        Metadata { mode: status.mode & 0o7777, owner: self.last.clone(), mtime: status.mtime, xattrs: None }
    }
}

/// What `name` below `dir` is; reads the target of a link. An error for types no manifest knows.
pub fn kind(status: &Status, dir: impl AsFd, name: &CStr) -> io::Result<Kind> {
    Ok(match status.file_type() {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink(rustix::fs::readlinkat(dir, name, Vec::new())?.into_bytes()),
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        FileType::CharacterDevice => Kind::CharDevice(status.device.0, status.device.1),
        FileType::BlockDevice => Kind::BlockDevice(status.device.0, status.device.1),
        FileType::Unknown => return Err(io::Error::other("a kind of file that is not known")),
    })
}

/// What the next backup compares, for a look taken by an operation that began at `started`.
pub fn stat(status: &Status, started: Timestamp) -> Stat {
    let recent = |t| touched_since(t, started);
    let racy = recent(status.ctime) || recent(status.mtime);
    Stat { inode: status.inode, ctime: status.ctime, racy, sound: false }
}

/// Whether a file stamped `stamp` may have been touched at or after `started`.
///
/// Stamps are coarser than the clock: the kernel stamps with the time of its last tick, at most 10 ms ago, and
/// some filesystems count whole seconds (FAT: every second one). A write after `started` can therefore carry an
/// earlier stamp, and such a file must not be taken for unchanged next time.
pub fn touched_since(stamp: Timestamp, started: Timestamp) -> bool {
    const TICKS: u32 = 100_000_000;
    const COARSE_SECONDS: i64 = 2;
    let earliest = if stamp.nanos == 0 {
        Timestamp { secs: started.secs.saturating_sub(COARSE_SECONDS), nanos: started.nanos }
    } else if started.nanos >= TICKS {
        Timestamp { secs: started.secs, nanos: started.nanos - TICKS }
    } else {
        Timestamp { secs: started.secs.saturating_sub(1), nanos: started.nanos + 1_000_000_000 - TICKS }
    };
    stamp >= earliest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coarse_stamps_get_a_wider_margin() {
        let at = |secs, nanos| Timestamp { secs, nanos };
        let started = at(1000, 50_000_000);
        assert!(touched_since(at(1000, 49_000_000), started), "one tick behind the clock");
        assert!(touched_since(at(999, 990_000_000), started), "across the second");
        assert!(!touched_since(at(999, 900_000_000), started));
        assert!(touched_since(at(999, 0), started), "whole seconds");
        assert!(!touched_since(at(998, 0), started));
        assert!(touched_since(at(2000, 1), started), "the future");
    }
}
