//! What lies between a file and the disk: write it out, forget what memory holds of it, ask whether it is far away or
//! slow to turn back.

use rustix::fs::OFlags;
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

/// Bytes that we may still write to the filesystem at `path`.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Bytes that we may still write to the filesystem at `path`, and all that it holds when it is full of what we may write.
pub fn room(path: &Path) -> io::Result<(u64, u64)> {
    let stat = rustix::fs::statvfs(path)?;
    let kept_back = stat.f_bfree.saturating_sub(stat.f_bavail);
    let blocks = stat.f_blocks.saturating_sub(kept_back);
    Ok((stat.f_bavail.saturating_mul(stat.f_frsize), blocks.saturating_mul(stat.f_frsize)))
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

/// Whether what is written to an open file had better go straight to its disk (`O_DIRECT`), and not by way of the
/// machine's memory: it costs a twentieth of the processor's time and drives nothing out of memory that others need. Not
/// on disks that turn, which are faster when they may choose an order, and not where no disk is known: file systems in
/// memory, of other machines, or over several disks.
pub fn had_better_be_direct(fd: impl AsFd) -> bool {
    let Ok(stat) = rustix::fs::fstat(&fd) else { return false };
    let (major, minor) = (rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev));
    if major == 0 || is_remote(&fd) {
        return false;
    }
    let Ok(disk) = std::fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")) else { return false };
    // The queue of a partition is its disk's.
    let turns = [disk.join("queue/rotational"), disk.join("../queue/rotational")]
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok())
        .map(|text| text.trim() != "0");
    // Virtual disks say that they turn when nobody has told them otherwise.
    let is_virtual = disk.components().any(|part| part.as_os_str().as_encoded_bytes().starts_with(b"virtio"));
    turns.is_some_and(|turns| !turns || is_virtual)
}

/// Has what is written from now on go straight to the disk, in whole blocks from aligned memory, or no longer.
pub fn set_direct(fd: impl AsFd, direct: bool) -> io::Result<()> {
    let mut flags = rustix::fs::fcntl_getfl(&fd)?;
    flags.set(OFlags::DIRECT, direct);
    Ok(rustix::fs::fcntl_setfl(&fd, flags)?)
}
