//! Opening and creating things below a root directory in such a way that no link can lead outside.
//!
//! Paths are relative raw bytes of any length; a component that is empty, `.` or `..` is refused. Functions
//! that take a directory handle and a name refuse names with a `/`.

use super::dir::{Handle, Names, Trail, open_dir, status, status_of};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Longest piece of a path given to the kernel at once; its own limit is 4,096 with the final NUL.
const PIECE: usize = 4000;

/// Mode of directories while they are being filled; the recorded mode comes last.
const PRIVATE_DIR: u32 = 0o700;

/// A root directory below which everything happens.
pub struct Beneath {
    root: Handle,
    /// Cleared once the kernel has refused `openat2` itself (before 5.6, or in some sandboxes).
    whole_paths: AtomicBool,
}

impl Beneath {
    /// The root is the user's own choice: links on the way to it are followed.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = Arc::new(rustix::fs::open(path, flags, Mode::empty())?);
        Ok(Beneath { root, whole_paths: AtomicBool::new(true) })
    }

    /// The same, always one component at a time as on old kernels.
    #[must_use]
    pub fn stepwise(self) -> Self {
        self.whole_paths.store(false, Ordering::Relaxed);
        self
    }

    pub fn root(&self) -> Handle {
        self.root.clone()
    }

    /// Opens the directory `path`; an empty path is the root itself.
    pub fn dir(&self, path: &[u8]) -> io::Result<Handle> {
        if path.is_empty() {
            return Ok(self.root());
        }
        let mut at = self.root();
        for piece in pieces(path)? {
            at = Arc::new(self.open_piece(&at, piece)?);
        }
        Ok(at)
    }

    /// Opens the directory `path`, making what is missing, private to the caller.
    pub fn dir_or_create(&self, path: &[u8]) -> io::Result<Handle> {
        match self.dir(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let mut at = self.root();
        for name in components(path)? {
            let name = CString::new(name)?;
            match rustix::fs::mkdirat(&at, &name, Mode::from_raw_mode(PRIVATE_DIR)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(e) => return Err(e.into()),
            }
            at = Arc::new(open_dir(&at, &name)?);
        }
        Ok(at)
    }

    /// The directory that `path` stands in, and its name there.
    pub fn parent<'p>(&self, path: &'p [u8], create: bool) -> io::Result<(Handle, &'p [u8])> {
        let cut = path.iter().rposition(|&b| b == b'/');
        let (above, name) = cut.map_or((&path[..0], path), |at| (&path[..at], &path[at + 1..]));
        checked(name)?;
        let dir = if create { self.dir_or_create(above)? } else { self.dir(above)? };
        Ok((dir, name))
    }

    fn open_piece(&self, at: &Handle, piece: &[u8]) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        if self.whole_paths.load(Ordering::Relaxed) {
            match rustix::fs::openat2(at, piece, flags, Mode::empty(), resolve) {
                Err(Errno::NOSYS | Errno::PERM) => self.whole_paths.store(false, Ordering::Relaxed),
                // Something was renamed meanwhile and the kernel could not be sure; step by step it can.
                Err(Errno::AGAIN) => {}
                other => return Ok(other?),
            }
        }
        let mut fd: Option<OwnedFd> = None;
        for name in components(piece)? {
            let name = CString::new(name)?;
            fd = Some(match &fd {
                Some(dir) => open_dir(dir, &name)?,
                None => open_dir(at, &name)?,
            });
        }
        fd.ok_or_else(refused)
    }
}

/// A new file open for reading and writing; fails if anything stands at that name.
pub fn create_file(dir: impl AsFd, name: &[u8], mode: u32) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::openat(dir, checked(name)?, flags, Mode::from_raw_mode(mode))?))
}

/// A new directory, private until its recorded mode is applied.
pub fn create_dir(dir: impl AsFd, name: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::mkdirat(dir, checked(name)?, Mode::from_raw_mode(PRIVATE_DIR))?)
}

pub fn create_symlink(dir: impl AsFd, name: &[u8], target: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::symlinkat(target, dir, checked(name)?)?)
}

pub fn create_fifo(dir: impl AsFd, name: &[u8]) -> io::Result<()> {
    create_node(dir, name, FileType::Fifo, (0, 0))
}

pub fn create_socket(dir: impl AsFd, name: &[u8]) -> io::Result<()> {
    create_node(dir, name, FileType::Socket, (0, 0))
}

/// A device node with major and minor number; needs root.
pub fn create_device(dir: impl AsFd, name: &[u8], block: bool, device: (u32, u32)) -> io::Result<()> {
    let kind = if block { FileType::BlockDevice } else { FileType::CharacterDevice };
    create_node(dir, name, kind, device)
}

fn create_node(dir: impl AsFd, name: &[u8], kind: FileType, device: (u32, u32)) -> io::Result<()> {
    let number = rustix::fs::makedev(device.0, device.1);
    Ok(rustix::fs::mknodat(dir, checked(name)?, kind, Mode::from_raw_mode(0o600), number)?)
}

/// A second name for what stands at `name`; a link there is linked itself.
pub fn link(dir: impl AsFd, name: &[u8], new_dir: impl AsFd, new_name: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::linkat(dir, checked(name)?, new_dir, checked(new_name)?, AtFlags::empty())?)
}

/// Moves `name`, replacing what stands at `new_name`.
pub fn rename(dir: impl AsFd, name: &[u8], new_dir: impl AsFd, new_name: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::renameat(dir, checked(name)?, new_dir, checked(new_name)?)?)
}

/// Moves `name` to a name that is free; `AlreadyExists` when it is not.
pub fn rename_new(dir: impl AsFd, name: &[u8], new_dir: impl AsFd, new_name: &[u8]) -> io::Result<()> {
    let (name, new_name) = (checked(name)?, checked(new_name)?);
    match rustix::fs::renameat_with(&dir, name, &new_dir, new_name, RenameFlags::NOREPLACE) {
        // Not every filesystem can do both at once.
        Err(Errno::INVAL | Errno::NOSYS) => {
            match rustix::fs::statat(&new_dir, new_name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => Ok(rustix::fs::renameat(dir, name, new_dir, new_name)?),
                Err(e) => Err(e.into()),
                Ok(_) => Err(Errno::EXIST.into()),
            }
        }
        other => Ok(other?),
    }
}

/// Sets the permissions of an open directory.
pub fn set_mode(dir: impl AsFd, mode: u32) -> io::Result<()> {
    Ok(rustix::fs::fchmod(dir, Mode::from_raw_mode(mode))?)
}

/// Removes anything but a directory.
pub fn remove_file(dir: impl AsFd, name: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::unlinkat(dir, checked(name)?, AtFlags::empty())?)
}

/// Removes an empty directory.
pub fn remove_dir(dir: impl AsFd, name: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::unlinkat(dir, checked(name)?, AtFlags::REMOVEDIR)?)
}

/// Removes whatever stands at `name`, with all below it, however deep, without following links.
pub fn remove_tree(dir: &Handle, name: &[u8]) -> io::Result<()> {
    let name = CString::new(checked(name)?)?;
    let first = status_of(dir)?.id();
    let mut trail = Trail::default();
    let mut buffer = Vec::new();
    // Per level the names still to remove; the trail's last directory is the one they stand in.
    let mut left: Vec<(Names, usize)> = Vec::new();
    if !remove_or_enter(dir, &name)? {
        return Ok(());
    }
    trail.push(dir.clone(), c".", first);
    enter(&mut trail, &mut left, &name, &mut buffer)?;
    while let Some((names, next)) = left.last_mut() {
        let Some(name) = names.get(*next).map(ToOwned::to_owned) else {
            left.pop();
            let gone = trail.pop().ok_or_else(refused)?;
            rustix::fs::unlinkat(trail.top()?, &gone, AtFlags::REMOVEDIR)?;
            continue;
        };
        *next += 1;
        if remove_or_enter(&trail.top()?, &name)? {
            enter(&mut trail, &mut left, &name, &mut buffer)?;
        }
    }
    Ok(())
}

/// Removes `name` unless it is a directory; answers whether it has to be entered first.
fn remove_or_enter(dir: &Handle, name: &CString) -> io::Result<bool> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) => Ok(false),
        // Linux says EISDIR, POSIX says EPERM; only a look tells a directory from a lack of permission.
        Err(e @ (Errno::ISDIR | Errno::PERM)) => match status(dir, name)?.is_dir() {
            true => Ok(true),
            false => Err(e.into()),
        },
        Err(e) => Err(e.into()),
    }
}

fn enter(
    trail: &mut Trail,
    left: &mut Vec<(Names, usize)>,
    name: &CString,
    buffer: &mut Vec<u8>,
) -> io::Result<()> {
    let fd = open_dir(trail.top()?, name)?;
    let mut names = Names::default();
    names.read(&fd, buffer)?;
    let id = status_of(&fd)?.id();
    trail.push(Arc::new(fd), name, id);
    left.push((names, 0));
    Ok(())
}

fn refused() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a safe relative path")
}

/// A single component that stays where it is.
fn checked(name: &[u8]) -> io::Result<&[u8]> {
    let bad = name.is_empty() || name == b"." || name == b".." || name.iter().any(|b| matches!(b, 0 | b'/'));
    if bad { Err(refused()) } else { Ok(name) }
}

fn components(path: &[u8]) -> io::Result<Vec<&[u8]>> {
    path.split(|&b| b == b'/').map(checked).collect()
}

/// The path cut between components into pieces the kernel accepts.
fn pieces(path: &[u8]) -> io::Result<Vec<&[u8]>> {
    components(path)?;
    let mut out = Vec::new();
    let mut rest = path;
    while rest.len() > PIECE {
        let cut = rest[..PIECE].iter().rposition(|&b| b == b'/').ok_or_else(refused)?;
        out.push(&rest[..cut]);
        rest = &rest[cut + 1..];
    }
    out.push(rest);
    Ok(out)
}
