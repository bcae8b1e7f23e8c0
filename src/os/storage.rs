//! What lies between a file and the disk: write it out, forget what memory holds of it, ask whether it is far away.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

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

/// File systems that ask another machine, or a program, for everything: NFS, SMB and CIFS in three versions, Ceph, AFS twice,
/// Coda, 9P, Lustre, GPFS, FUSE.
const REMOTE: [u64; 12] = [
    0x6969,
    0x517b,
    0xff53_4d42,
    0xfe53_4d42,
    0x00c3_6400,
    0x5346_414f,
    0x6b41_4653,
    0x7375_7245,
    0x0102_1997,
    0x0bd0_0bd0,
    0x4750_4653,
    0x6573_5546,
];

fn is_listed(stat: &rustix::fs::StatFs) -> bool {
    REMOTE.contains(&(stat.f_type as u64 & 0xffff_ffff))
}

/// Whether the filesystem may be written to by other machines, or by programs that keep times of their own; true where
/// nobody can say.
pub fn is_remote(fd: impl AsFd) -> bool {
    rustix::fs::fstatfs(fd).map_or(true, |stat| is_listed(&stat))
}

/// Whether each request to the filesystem at `path` is slow, as far as its kind tells.
pub fn is_slow(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|stat| is_listed(&stat))
}

/// Bytes that may still be written to the file system of `path` by us.
pub fn free_space(path: &std::path::Path) -> std::io::Result<u64> {
    let about = rustix::fs::statvfs(path)?;
    Ok(about.f_bavail.saturating_mul(about.f_frsize))
}
