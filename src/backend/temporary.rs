//! Names that files have while they are written, where they must have one, and what crashes leave of them.
//!
//! Whoever writes under such a name holds an advisory lock on the file, so that a name whose lock is free is nobody's.

use super::disk::{Disk, DiskFile, Kind};
use crate::error::{Context, Result};
use crate::format::Folder;
use rustix::io::Errno;
use std::path::{Path, PathBuf};

/// How names of unfinished files begin.
const PREFIX: &str = "tmp-";
/// Names tried, when somebody takes each of ours for forgotten while it is made.
const ATTEMPTS: u32 = 16;

pub fn is_one_of(e: &std::io::Error, which: &[Errno]) -> bool {
    Errno::from_io_error(e).is_some_and(|errno| which.contains(&errno))
}

/// Whether a name is that of an unfinished file.
pub fn is_temporary(name: &std::ffi::OsStr) -> bool {
    let random = name.as_encoded_bytes().strip_prefix(PREFIX.as_bytes());
    random.is_some_and(|digits| digits.len() == 16 && digits.iter().all(u8::is_ascii_hexdigit))
}

/// The name a file has while it is written; none where it needs none.
pub struct Temporary<D: Disk> {
    pub disk: D,
    pub path: Option<PathBuf>,
}

impl<D: Disk> Temporary<D> {
    /// Gives the file its name, in place of what had it.
    pub fn rename(mut self, to: &Path) -> std::io::Result<()> {
        if let Some(path) = &self.path {
            self.disk.rename(path, to)?;
        }
        self.path = None;
        Ok(())
    }
}

impl<D: Disk> Drop for Temporary<D> {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = self.disk.remove(path);
        }
    }
}

/// A nameless file where the file system has them, else one under a name that no listing takes for ours.
pub fn open<D: Disk>(disk: &D, dir: &Path, mode: u32) -> std::io::Result<(D::File, Temporary<D>)> {
    match disk.create_nameless(dir, mode) {
        Ok(file) => return Ok((file, Temporary { disk: disk.clone(), path: None })),
        Err(e) if is_one_of(&e, &[Errno::OPNOTSUPP, Errno::ISDIR, Errno::INVAL]) => {}
        Err(e) => return Err(e),
    }
    open_named(disk, dir, mode)
}

/// A file under such a name, locked where the file system can lock.
pub fn open_named<D: Disk>(disk: &D, dir: &Path, mode: u32) -> std::io::Result<(D::File, Temporary<D>)> {
    for _ in 0..ATTEMPTS {
        let mut random = [0u8; 8];
        rustix::rand::getrandom(&mut random[..], rustix::rand::GetRandomFlags::empty())?;
        let path = dir.join(format!("{PREFIX}{}", crate::id::hex(&random)));
        let file = disk.create_new(&path, mode | 0o200)?;
        // Between the name and the lock it looked like nobody's: whoever removes it then has, or had, the lock.
        let is_ours = match file.try_lock() {
            Ok(locked) => locked && disk.stat(&path).is_ok(),
            Err(_) => true,
        };
        if is_ours {
            return Ok((file, Temporary { disk: disk.clone(), path: Some(path) }));
        }
    }
    Err(std::io::Error::other("unfinished files are removed as fast as they are made"))
}

/// Paths of all unfinished files of a repository, whoever writes them.
pub fn list<D: Disk>(disk: &D, root: &Path) -> Result<Vec<PathBuf>> {
    let shards = (0..=255u8).map(|shard| root.join(format!("packs/{shard:02x}")));
    let folders = Folder::ALL.into_iter().filter(|f| *f != Folder::Packs).map(|f| root.join(f.dir()));
    let mut found = Vec::new();
    for dir in folders.chain(shards) {
        let lines = match disk.list(&dir) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.context(|| format!("cannot list {}", dir.display()))?,
        };
        for line in lines {
            let (name, stat) = line.context(|| format!("cannot list {}", dir.display()))?;
            if is_temporary(&name) && stat.is_ok_and(|stat| stat.kind == Kind::File) {
                found.push(dir.join(name));
            }
        }
    }
    Ok(found)
}

/// Removes an unfinished file if nobody holds it; false when somebody does, or that cannot be known.
pub fn remove_if_nobodys<D: Disk>(disk: &D, path: &Path) -> bool {
    let Ok(file) = disk.open(path) else { return false };
    matches!(file.try_lock(), Ok(true)) && disk.remove(path).is_ok()
}
