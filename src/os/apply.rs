//! Applying recorded metadata to what stands below a directory handle, by handle, never through a link.

use super::dir::{Status, status_of};
use super::owners::Owners;
use super::xattr::{self, Place};
use crate::clock::Timestamp;
use crate::error::Error;
use crate::format::entry::{Kind, Metadata};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What to apply beyond permissions and times.
#[derive(Clone, Copy, Default)]
pub struct Options<'a> {
    /// Change the owner; needs root for anything but the caller's own groups.
    pub owner: bool,
    /// Look the owner up by name here first; numbers hold when a name is unknown.
    pub names: Option<&'a Owners>,
    /// Keep setuid and setgid on what is not a directory.
    pub special_bits: bool,
    /// Set extended attributes and ACLs, and remove those that are not recorded.
    pub xattrs: bool,
    /// Also attributes that only root may set: everything but `user.*` and ACLs.
    pub privileged_xattrs: bool,
}

const SETUID_SETGID: u32 = 0o6000;

/// Applies owner, then permissions, then attributes, then times, and says what could not be done.
///
/// The order matters: changing the owner clears setuid bits and capabilities, and everything before the last
/// step touches the times. Directories are to be done after all that stands in them.
pub fn apply(dir: impl AsFd, name: &[u8], meta: &Metadata, kind: &Kind, options: &Options) -> Vec<Error> {
    let (pin, status, open) = match pin(&dir, name, kind) {
        Ok(pinned) => pinned,
        Err(e) => return vec![Error::io("cannot set metadata", &e)],
    };
    let open = open.as_ref().map(AsFd::as_fd);
    let place = Some((dir.as_fd(), name));
    Target { pin: pin.as_fd(), status: &status, open, place, bare: false }.apply(meta, options)
}

/// As `apply`, to a file or directory the caller holds open; `status` is a fresh look at it. `bare` says that it
/// is known to have no attributes of its own, as new files have none where no default ACL is inherited.
pub fn apply_open(
    fd: impl AsFd,
    status: &Status,
    bare: bool,
    meta: &Metadata,
    options: &Options,
) -> Vec<Error> {
    let fd = fd.as_fd();
    Target { pin: fd, status, open: Some(fd), place: None, bare }.apply(meta, options)
}

/// The numbers of the owner that `options` would give.
pub fn wanted_owner(meta: &Metadata, options: &Options) -> (u32, u32) {
    let owner = &meta.owner;
    let uid = options.names.and_then(|n| n.uid_of(&owner.user)).unwrap_or(owner.uid);
    let gid = options.names.and_then(|n| n.gid_of(&owner.group)).unwrap_or(owner.gid);
    (uid, gid)
}

/// The permission bits that `options` would give, as far as the owner can be set.
pub fn wanted_mode(meta: &Metadata, is_dir: bool, options: &Options) -> u32 {
    let mode = meta.mode & 0o7777;
    if options.special_bits || is_dir { mode } else { mode & !SETUID_SETGID }
}

/// Whether attribute `name` is within what `options` ask for.
fn wanted(name: &[u8], options: &Options) -> bool {
    options.privileged_xattrs || is_ours(name)
}

/// Attributes that any owner may set, and which are removed when they are not recorded.
fn is_ours(name: &[u8]) -> bool {
    name.starts_with(b"user.") || name.starts_with(b"system.posix_acl_")
}

/// Opens `name` in such a way that nothing happens to it, and for real where `/proc` cannot be used.
fn pin(dir: impl AsFd, name: &[u8], kind: &Kind) -> io::Result<(OwnedFd, Status, Option<OwnedFd>)> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let pin = rustix::fs::openat(&dir, name, flags, Mode::empty())?;
    let status = status_of(&pin)?;
    if status.file_type() != type_of(kind) {
        return Err(io::Error::other("something else stands there now"));
    }
    if xattr::proc_is_there() || !(status.is_dir() || status.is_file()) {
        return Ok((pin, status, None));
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(&dir, name, flags, Mode::empty())?;
    let open = Some(fd).filter(|fd| status_of(fd).is_ok_and(|s| s.id() == status.id()));
    Ok((pin, status, open))
}

/// One thing pinned by a handle: whatever happens to its name, the changes reach this thing only.
struct Target<'a> {
    pin: BorrowedFd<'a>,
    status: &'a Status,
    /// A handle that is open for real, where there is one.
    open: Option<BorrowedFd<'a>>,
    /// Where it stands, for kernels that need a name to set times.
    place: Option<(BorrowedFd<'a>, &'a [u8])>,
    /// It has no attributes yet.
    bare: bool,
}

impl Target<'_> {
    fn apply(&self, meta: &Metadata, options: &Options) -> Vec<Error> {
        let mut problems = Vec::new();
        let mut note = |what: &str, outcome: io::Result<()>| match outcome {
            Ok(()) => true,
            Err(e) => {
                problems.push(Error::io(what, &e));
                false
            }
        };
        let mut mode = wanted_mode(meta, self.status.is_dir(), options);
        let owner = wanted_owner(meta, options);
        let chown = options.owner && owner != (self.status.uid, self.status.gid);
        if chown && !note("cannot set the owner", self.chown(owner)) && !self.status.is_dir() {
            // Setuid for the wrong user would be a gift to that user.
            mode &= !SETUID_SETGID;
        }
        if !self.status.is_symlink() && (chown || mode != self.status.mode & 0o7777) {
            note("cannot set the permissions", self.chmod(mode));
        }
        if options.xattrs {
            self.xattrs(meta, options, &mut note);
        }
        note("cannot set the modification time", self.set_mtime(meta.mtime));
        problems
    }

    fn chown(&self, (uid, gid): (u32, u32)) -> io::Result<()> {
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        match self.open {
            Some(fd) => rustix::fs::fchown(fd, uid, gid)?,
            None => rustix::fs::chownat(self.pin, c"", uid, gid, AtFlags::EMPTY_PATH)?,
        }
        Ok(())
    }

    fn chmod(&self, mode: u32) -> io::Result<()> {
        let mode = Mode::from_raw_mode(mode);
        match self.open {
            Some(fd) => rustix::fs::fchmod(fd, mode)?,
            None => rustix::fs::chmod(xattr::proc_path(self.pin, None)?, mode)?,
        }
        Ok(())
    }

    fn xattrs(
        &self,
        meta: &Metadata,
        options: &Options,
        note: &mut impl FnMut(&str, io::Result<()>) -> bool,
    ) {
        let recorded = meta.xattrs.as_deref().map_or(&[][..], Vec::as_slice);
        if self.bare && recorded.is_empty() {
            return;
        }
        let place = match self.open {
            Some(fd) => Place::Open(fd),
            None => match xattr::proc_path(self.pin, None) {
                Ok(path) => Place::Behind(path),
                Err(_) => return,
            },
        };
        // A new file inherits the default ACL of its directory; what is not recorded has to go.
        for name in xattr::names(&place).unwrap_or_default() {
            if is_ours(&name) && recorded.binary_search_by(|(n, _)| n.cmp(&name)).is_err() {
                let what = format!("cannot remove the attribute {}", String::from_utf8_lossy(&name));
                note(&what, place.remove(&name));
            }
        }
        for (name, value) in recorded.iter().filter(|(name, _)| wanted(name, options)) {
            let what = format!("cannot set the attribute {}", String::from_utf8_lossy(name));
            note(&what, place.set(name, value));
        }
    }

    fn set_mtime(&self, mtime: Timestamp) -> io::Result<()> {
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: mtime.secs, tv_nsec: mtime.nanos.into() },
        };
        if let Some(fd) = self.open {
            return Ok(rustix::fs::futimens(fd, &times)?);
        }
        // Kernels before 5.8 cannot set times through a handle that is not open for real.
        match (rustix::fs::utimensat(self.pin, c"", &times, AtFlags::EMPTY_PATH), self.place) {
            (Err(Errno::INVAL | Errno::BADF | Errno::NOENT), Some((dir, name))) => {
                Ok(rustix::fs::utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
            }
            (other, _) => Ok(other?),
        }
    }
}

fn type_of(kind: &Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Directory => FileType::Directory,
        Kind::Symlink(_) => FileType::Symlink,
        Kind::Fifo => FileType::Fifo,
        Kind::Socket => FileType::Socket,
        Kind::CharDevice(..) => FileType::CharacterDevice,
        Kind::BlockDevice(..) => FileType::BlockDevice,
    }
}
