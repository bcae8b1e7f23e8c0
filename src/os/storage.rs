//! What lies between a file and the disk: write it out, and forget what memory holds of it.

use std::io;
use std::os::fd::AsFd;

/// Writes out everything of the filesystem that `fd` stands on.
pub fn sync_filesystem(fd: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::syncfs(fd)?)
}

/// Makes the names in an open directory durable.
pub fn sync_directory(fd: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::fsync(fd)?)
}

/// Asks the kernel to drop what it holds of a file in memory, so that reading it reads the disk. Only a wish.
pub fn forget_cached(fd: impl AsFd) {
    let _ = rustix::fs::fadvise(fd, 0, None, rustix::fs::Advice::DontNeed);
}

/// Whether the filesystem may be written to by other machines, or by programs that keep times of their own.
pub fn is_remote(fd: impl AsFd) -> bool {
    const KINDS: [u64; 7] = [
        0x6969,      // NFS
        0xff53_4d42, // CIFS
        0xfe53_4d42, // SMB2
        0x517b,      // SMB
        0x6573_5546, // FUSE
        0x0102_1997, // 9P
        0x00c3_6400, // CEPH
    ];
    match rustix::fs::fstatfs(fd) {
        Ok(stat) => KINDS.contains(&(stat.f_type as u64 & 0xffff_ffff)),
        Err(_) => true,
    }
}
