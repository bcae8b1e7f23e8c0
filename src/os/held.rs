//! Files on which a library of this process holds POSIX locks: closing any other descriptor of such a file would drop them.
//!
//! `fcntl` locks belong to the process and the file, not to the descriptor. A backup that reads a tree and holds a SQLite
//! database of it open must therefore never close a descriptor of that database's file, by whatever name it was opened. What
//! would be closed too early is put aside here and closed when the last lock is gone.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, PoisonError, RwLock};

type FileId = (u64, u64);

#[derive(Default)]
struct Held {
    holders: usize,
    /// Descriptors that nobody needs any more.
    aside: Mutex<Vec<File>>,
}

static HELD: RwLock<BTreeMap<FileId, Held>> = RwLock::new(BTreeMap::new());

/// While one of these lives, no descriptor of the file is closed by [`ReadFile`].
pub struct Hold {
    id: FileId,
}

/// Announces locks on the file with this device and inode. Must come before the file is opened to lock it.
pub fn hold(id: FileId) -> Hold {
    let mut held = HELD.write().unwrap_or_else(PoisonError::into_inner);
    held.entry(id).or_default().holders += 1;
    Hold { id }
}

/// Whether somebody holds locks on the file.
pub fn is_held(id: FileId) -> bool {
    HELD.read().unwrap_or_else(PoisonError::into_inner).contains_key(&id)
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = HELD.write().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = held.get_mut(&self.id) else { return };
        entry.holders -= 1;
        if entry.holders == 0 {
            // The descriptors put aside are closed here, under the lock: nobody can begin to hold the file meanwhile.
            held.remove(&self.id);
        }
    }
}

/// A file open for reading that is closed only when that does no harm.
#[derive(Debug)]
pub struct ReadFile {
    /// `None` only while it is dropped.
    file: Option<File>,
    id: FileId,
}

impl ReadFile {
    /// `id` is the file's device and inode.
    pub fn new(file: File, id: FileId) -> Self {
        ReadFile { file: Some(file), id }
    }
}

impl Deref for ReadFile {
    type Target = File;

    fn deref(&self) -> &File {
        match &self.file {
            Some(file) => file,
            // Taken by `drop` alone, after which nobody can ask.
            None => unreachable!("a dropped file"),
        }
    }
}

impl DerefMut for ReadFile {
    fn deref_mut(&mut self) -> &mut File {
        match &mut self.file {
            Some(file) => file,
            None => unreachable!("a dropped file"),
        }
    }
}

impl AsFd for ReadFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.deref().as_fd()
    }
}

impl Read for ReadFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.deref_mut().read(buffer)
    }
}

impl Drop for ReadFile {
    fn drop(&mut self) {
        let Some(file) = self.file.take() else { return };
        // Looking and closing are one step: `hold` waits for it.
        let held = HELD.read().unwrap_or_else(PoisonError::into_inner);
        match held.get(&self.id) {
            Some(entry) => entry.aside.lock().unwrap_or_else(PoisonError::into_inner).push(file),
            None => drop(file),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn what_is_held_is_closed_with_the_last_holder() {
        let open = || File::open("/proc/self/exe").expect("opens");
        let meta = open().metadata().expect("stat");
        let id = (meta.dev(), meta.ino());
        let descriptors = || {
            let exe = std::fs::read_link("/proc/self/exe").expect("link");
            let all = std::fs::read_dir("/proc/self/fd").expect("list");
            all.filter(|e| e.as_ref().is_ok_and(|e| std::fs::read_link(e.path()).is_ok_and(|l| l == exe)))
                .count()
        };
        let before = descriptors();
        let (first, second) = (hold(id), hold(id));
        drop(ReadFile::new(open(), id));
        drop(first);
        assert!(is_held(id));
        assert_eq!(descriptors(), before + 1);
        drop(second);
        assert!(!is_held(id));
        assert_eq!(descriptors(), before);
        drop(ReadFile::new(open(), id));
        assert_eq!(descriptors(), before);
    }
}
