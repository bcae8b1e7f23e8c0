//! Directory handles: open below a handle, list names, look at one entry; links are never followed.

use super::held::ReadFile;
use crate::clock::Timestamp;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, Stat, Statx, StatxFlags};
use rustix::io::Errno;
use rustix::path::Arg;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

/// An open directory, shared by everybody who still has to look below it.
pub type Handle = Arc<OwnedFd>;

/// Room for one reading of directory names; names longer than this do not exist.
const LIST_BUFFER: usize = 64 << 10;

/// How many directories of one descent stay open; deeper trees re-open on the way back.
const OPEN_AT_ONCE: usize = 64;

/// What the system says about one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Type and permission bits together, as in `st_mode`.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub links: u32,
    pub dev: u64,
    pub inode: u64,
    pub size: u64,
    /// Space taken, in units of 512 bytes.
    pub blocks: u64,
    pub mtime: Timestamp,
    pub ctime: Timestamp,
    /// Major and minor number of a device node.
    pub device: (u32, u32),
}

impl Status {
    fn new(s: &Statx) -> Self {
        Status {
            mode: u32::from(s.stx_mode),
            uid: s.stx_uid,
            gid: s.stx_gid,
            links: s.stx_nlink,
            // The same number that `stat` and the standard library give.
            dev: rustix::fs::makedev(s.stx_dev_major, s.stx_dev_minor),
            inode: s.stx_ino,
            size: s.stx_size,
            blocks: s.stx_blocks,
            mtime: Timestamp { secs: s.stx_mtime.tv_sec, nanos: s.stx_mtime.tv_nsec },
            ctime: Timestamp { secs: s.stx_ctime.tv_sec, nanos: s.stx_ctime.tv_nsec },
            device: (s.stx_rdev_major, s.stx_rdev_minor),
        }
    }

    fn of_open(s: &Stat) -> Self {
        // Seconds and nanoseconds have other types on other machines.
        #[allow(clippy::unnecessary_cast)]
        let stamp = |secs, nanos: u64| Timestamp { secs: secs as i64, nanos: nanos as u32 };
        #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
        Status {
            mode: s.st_mode as u32,
            uid: s.st_uid,
            gid: s.st_gid,
            links: s.st_nlink as u32,
            dev: s.st_dev as u64,
            inode: s.st_ino as u64,
            size: s.st_size as u64,
            blocks: s.st_blocks as u64,
            mtime: stamp(s.st_mtime, s.st_mtime_nsec as u64),
            ctime: stamp(s.st_ctime, s.st_ctime_nsec as u64),
            device: (rustix::fs::major(s.st_rdev as u64), rustix::fs::minor(s.st_rdev as u64)),
        }
    }

    pub fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }

    pub fn is_dir(&self) -> bool {
        self.file_type() == FileType::Directory
    }

    pub fn is_file(&self) -> bool {
        self.file_type() == FileType::RegularFile
    }

    pub fn is_symlink(&self) -> bool {
        self.file_type() == FileType::Symlink
    }

    /// Device and inode: the same for two looks at the same thing.
    pub fn id(&self) -> (u64, u64) {
        (self.dev, self.inode)
    }
}

/// Looks at `name` below `dir` itself, not at what a link there points to.
pub fn status(dir: impl AsFd, name: &CStr) -> io::Result<Status> {
    // Looking must not make an automounter mount things; opening a directory later may.
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    Ok(Status::new(&rustix::fs::statx(dir, name, flags, StatxFlags::BASIC_STATS)?))
}

/// Looks at an open file or directory.
pub fn status_of(fd: impl AsFd) -> io::Result<Status> {
    // Cheaper than `statx`, and the fields are the same.
    Ok(Status::of_open(&rustix::fs::fstat(fd)?))
}

/// Looks at `path` as a user means it: links in the middle count, a link at the end is not followed.
pub fn status_at_path(path: &Path) -> io::Result<Status> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    Ok(Status::new(&rustix::fs::statx(rustix::fs::CWD, path, flags, StatxFlags::BASIC_STATS)?))
}

/// Opens a directory by the path a user gave, through links, to look below it; it need not be listable.
pub fn open_path(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Opens the directory `name` below `dir` for listing; fails if a link stands there.
pub fn open_dir(dir: impl AsFd, name: &CStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(dir, name, flags, Mode::empty())?)
}

/// Opens the regular file `name` below `dir` for reading, leaving its access time alone where that is allowed.
pub fn open_file(dir: impl AsFd, name: impl Arg + Copy) -> io::Result<ReadFile> {
    Ok(open_and_look(dir, name)?.0)
}

/// As `open_file`, with what the look at the open file gave.
pub fn open_and_look(dir: impl AsFd, name: impl Arg + Copy) -> io::Result<(ReadFile, Status)> {
    let plain = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = |extra| rustix::fs::openat(&dir, name, plain | extra, Mode::empty());
    let fd = match open(OFlags::NONBLOCK | OFlags::NOATIME) {
        // Only the owner may keep the access time still.
        Err(Errno::PERM) => open(OFlags::NONBLOCK),
        other => other,
    };
    let fd = match fd {
        // Somebody holds a lease and is being asked to give it up. Only regular files have leases, so waiting
        // cannot hang on a pipe.
        Err(Errno::AGAIN) => open(OFlags::empty())?,
        other => other?,
    };
    let status = status_of(&fd)?;
    let file = ReadFile::new(File::from(fd), status.id());
    if !status.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file any more"));
    }
    Ok((file, status))
}

/// Whether a read on this file system that gives less than was asked for has met the end of the file. True for those
/// known to keep to it; network file systems and those of the kernel itself may stop anywhere.
pub fn short_read_is_end(fd: impl AsFd) -> bool {
    // ext2 to ext4, XFS, Btrfs, F2FS, tmpfs.
    const KNOWN: [u64; 5] = [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0x0102_1994];
    rustix::fs::fstatfs(fd).is_ok_and(|s| KNOWN.contains(&(s.f_type as u64 & 0xffff_ffff)))
}

/// The names in one directory, in one piece of memory.
#[derive(Default)]
pub struct Names {
    /// Every name followed by NUL.
    bytes: Vec<u8>,
    at: Vec<At>,
}

/// Where a name lies.
#[derive(Clone, Copy)]
struct At {
    start: u32,
    len: u16,
    /// The listing says that it is a regular file: a hint.
    file: bool,
}

impl Names {
    /// Reads all names of `dir` and sorts them by their bytes. After an error the names read so far are kept.
    pub fn read(&mut self, dir: impl AsFd, buffer: &mut Vec<u8>) -> io::Result<()> {
        self.bytes.clear();
        self.at.clear();
        let outcome = self.collect(dir, buffer);
        let bytes = &self.bytes;
        self.at.sort_unstable_by(|a, b| bytes[span(*a)].cmp(&bytes[span(*b)]));
        // A directory changing under our hands may list a name twice.
        self.at.dedup_by(|a, b| bytes[span(*a)] == bytes[span(*b)]);
        outcome
    }

    fn collect(&mut self, dir: impl AsFd, buffer: &mut Vec<u8>) -> io::Result<()> {
        buffer.clear();
        buffer.reserve(LIST_BUFFER);
        // The handle may have been listed before, to its end.
        rustix::fs::seek(&dir, rustix::fs::SeekFrom::Start(0))?;
        let mut listing = RawDir::new(dir, buffer.spare_capacity_mut());
        while let Some(entry) = listing.next() {
            let entry = match entry {
                Err(Errno::INTR) => continue,
                other => other?,
            };
            let name = entry.file_name().to_bytes_with_nul();
            if name == b".\0" || name == b"..\0" {
                continue;
            }
            let too_many = |_| io::Error::other("more names than fit in memory");
            let start = u32::try_from(self.bytes.len()).map_err(too_many)?;
            let len = u16::try_from(name.len() - 1).map_err(too_many)?;
            self.at.push(At { start, len, file: entry.file_type() == FileType::RegularFile });
            self.bytes.extend_from_slice(name);
        }
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.at.len()
    }

    pub fn is_empty(&self) -> bool {
        self.at.is_empty()
    }

    pub fn get(&self, index: usize) -> Option<&CStr> {
        let span = span(*self.at.get(index)?);
        CStr::from_bytes_with_nul(&self.bytes[span.start..=span.end]).ok()
    }

    /// Whether the listing said that this is a regular file; false when it did not say.
    pub fn is_file(&self, index: usize) -> bool {
        self.at.get(index).is_some_and(|at| at.file)
    }

    pub fn contains(&self, name: &[u8]) -> bool {
        self.find(name).is_ok()
    }

    /// Forgets every name but this one.
    pub fn keep_only(&mut self, name: &[u8]) {
        let kept = self.find(name).ok().map(|i| self.at[i]);
        self.at.clear();
        self.at.extend(kept);
    }

    fn find(&self, name: &[u8]) -> Result<usize, usize> {
        self.at.binary_search_by(|at| self.bytes[span(*at)].cmp(name))
    }
}

fn span(at: At) -> Range<usize> {
    at.start as usize..at.start as usize + usize::from(at.len)
}

/// The open directories from a starting point down to where a descent stands, a bounded number at a time.
///
/// A directory that was closed to stay within the bound is opened again through `..` or, if it has been moved
/// away meanwhile, by name from above, and accepted only if it is the same directory as before.
#[derive(Default)]
pub struct Trail {
    steps: Vec<Step>,
}

struct Step {
    handle: Option<Handle>,
    name: CString,
    id: (u64, u64),
}

impl Trail {
    /// Goes down into `name`, opened as `handle`.
    pub fn push(&mut self, handle: Handle, name: &CStr, id: (u64, u64)) {
        let depth = self.steps.len();
        // The first stays open always: everything else can be found again from there.
        if depth > OPEN_AT_ONCE {
            self.steps[depth - OPEN_AT_ONCE].handle = None;
        }
        self.steps.push(Step { handle: Some(handle), name: name.to_owned(), id });
    }

    /// Goes up one directory; answers the name of the one left.
    pub fn pop(&mut self) -> Option<CString> {
        let left = self.steps.pop()?;
        if let (Some(child), Some(parent)) = (&left.handle, self.steps.last_mut())
            && parent.handle.is_none()
        {
            parent.handle = reopen(child, c"..", parent.id).ok();
        }
        Some(left.name)
    }

    pub fn depth(&self) -> usize {
        self.steps.len()
    }

    /// The directory where the descent stands.
    pub fn top(&mut self) -> io::Result<Handle> {
        let gone = || io::Error::new(io::ErrorKind::NotFound, "the directory was moved or removed");
        let start = self.steps.iter().rposition(|s| s.handle.is_some()).ok_or_else(gone)?;
        let mut handle = self.steps[start].handle.clone().ok_or_else(gone)?;
        if start + 1 == self.steps.len() {
            return Ok(handle);
        }
        for step in &self.steps[start + 1..] {
            handle = reopen(&handle, &step.name, step.id)?;
        }
        if let Some(last) = self.steps.last_mut() {
            last.handle = Some(handle.clone());
        }
        Ok(handle)
    }
}

fn reopen(from: &Handle, name: &CStr, id: (u64, u64)) -> io::Result<Handle> {
    let fd = open_dir(from, name)?;
    if status_of(&fd)?.id() != id {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the directory was moved or replaced"));
    }
    Ok(Arc::new(fd))
}
