//! What lies between a file and the disk: write it out, and forget what memory holds of it.

use std::io;
use std::os::fd::AsFd;

/// Writes out everything of the filesystem that `fd` stands on.
pub fn sync_filesystem(fd: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::syncfs(fd)?)
}

/// Asks the kernel to drop what it holds of a file in memory, so that reading it reads the disk. Only a wish.
pub fn forget_cached(fd: impl AsFd) {
    let _ = rustix::fs::fadvise(fd, 0, None, rustix::fs::Advice::DontNeed);
}
