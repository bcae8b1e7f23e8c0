//! Extended attributes, POSIX ACLs among them: list, read, set, remove, without following links.

use crate::format::entry::Xattrs;
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::{Arc, OnceLock};

/// How the system calls for attributes reach a thing.
pub enum Place<'a> {
    /// By path; a link at its end is meant itself.
    Itself(CString),
    /// By path through the link at its end: `/proc/self/fd/N` stands for an open handle.
    Behind(CString),
    /// By an open file.
    Open(BorrowedFd<'a>),
}

/// Whether open handles can be named as paths; a bare chroot has no `/proc`.
pub fn proc_is_there() -> bool {
    static THERE: OnceLock<bool> = OnceLock::new();
    *THERE.get_or_init(|| rustix::fs::stat(c"/proc/self/fd").is_ok())
}

/// `/proc/self/fd/N` or, with a name, `/proc/self/fd/N/name`.
pub fn proc_path(fd: impl AsFd, name: Option<&[u8]>) -> io::Result<CString> {
    let mut path = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()).into_bytes();
    if let Some(name) = name {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    Ok(CString::new(path)?)
}

/// The attributes of `name` below `dir`, or of a link itself; `None` when there are none.
pub fn read_at(dir: impl AsFd, name: &CStr) -> io::Result<Option<Arc<Xattrs>>> {
    if proc_is_there() {
        return read(&Place::Itself(proc_path(dir, Some(name.to_bytes()))?));
    }
    // Without /proc only what can be opened can be asked.
    match super::dir::open_file(&dir, name) {
        Ok(file) => read(&Place::Open(file.as_fd())),
        Err(_) => match super::dir::open_dir(&dir, name) {
            Ok(fd) => read(&Place::Open(fd.as_fd())),
            Err(_) => Ok(None),
        },
    }
}

/// All attributes of one thing, sorted by name; `None` when there are none.
pub fn read(place: &Place) -> io::Result<Option<Arc<Xattrs>>> {
    let mut out = Xattrs::new();
    for name in names(place)? {
        match place.get(&name) {
            Ok(value) => out.push((name, value)),
            // Removed between the list and this call.
            Err(Errno::NODATA) => {}
            Err(e) => return Err(e.into()),
        }
    }
    out.sort();
    // A list may name one twice when it changes while it is read.
    out.dedup_by(|a, b| a.0 == b.0);
    Ok(if out.is_empty() { None } else { Some(Arc::new(out)) })
}

/// The names of all attributes; none where the filesystem has no such thing.
pub fn names(place: &Place) -> io::Result<Vec<Vec<u8>>> {
    match place.list() {
        Ok(list) => Ok(list.split(|&b| b == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect()),
        Err(Errno::NOTSUP | Errno::NOSYS) => Ok(Vec::new()),
        Err(e) => Err(e.into()),
    }
}

impl Place<'_> {
    fn list(&self) -> Result<Vec<u8>, Errno> {
        growing(|buffer| match self {
            Place::Itself(path) => rustix::fs::llistxattr(path.as_c_str(), buffer),
            Place::Behind(path) => rustix::fs::listxattr(path.as_c_str(), buffer),
            Place::Open(fd) => rustix::fs::flistxattr(fd, buffer),
        })
    }

    fn get(&self, name: &[u8]) -> Result<Vec<u8>, Errno> {
        growing(|buffer| match self {
            Place::Itself(path) => rustix::fs::lgetxattr(path.as_c_str(), name, buffer),
            Place::Behind(path) => rustix::fs::getxattr(path.as_c_str(), name, buffer),
            Place::Open(fd) => rustix::fs::fgetxattr(fd, name, buffer),
        })
    }

    pub fn set(&self, name: &[u8], value: &[u8]) -> io::Result<()> {
        let flags = XattrFlags::empty();
        Ok(match self {
            Place::Itself(path) => rustix::fs::lsetxattr(path.as_c_str(), name, value, flags),
            Place::Behind(path) => rustix::fs::setxattr(path.as_c_str(), name, value, flags),
            Place::Open(fd) => rustix::fs::fsetxattr(fd, name, value, flags),
        }?)
    }

    pub fn remove(&self, name: &[u8]) -> io::Result<()> {
        Ok(match self {
            Place::Itself(path) => rustix::fs::lremovexattr(path.as_c_str(), name),
            Place::Behind(path) => rustix::fs::removexattr(path.as_c_str(), name),
            Place::Open(fd) => rustix::fs::fremovexattr(fd, name),
        }?)
    }
}

/// Calls with a small buffer first and a large one when that was too small; 64 KiB is the kernel's own limit.
fn growing(call: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut small = [0u8; 512];
    match call(&mut small) {
        Ok(len) => return Ok(small[..len].to_vec()),
        Err(Errno::RANGE) => {}
        Err(e) => return Err(e),
    }
    let mut large = vec![0u8; 64 << 10];
    let len = call(&mut large)?;
    large.truncate(len);
    Ok(large)
}
