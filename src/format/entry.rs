//! One entry of a manifest: a path, what stands there, its metadata and its content list.
//!
//! Bytes: `format-spec/5-manifest.md`.

use super::limit;
use crate::clock::Timestamp;
use crate::id::ChunkId;
use std::sync::Arc;

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    Directory,
    /// The target's raw bytes.
    Symlink(Vec<u8>),
    Fifo,
    Socket,
    /// Major and minor device numbers.
    CharDevice(u32, u32),
    BlockDevice(u32, u32),
}

/// Numeric owner and, where the machine knew them, names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
    pub user: String,
    pub group: String,
}

/// Extended attributes sorted by name; POSIX ACLs are among them (`system.posix_acl_access`).
pub type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// What is restored beside the content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Permission bits, setuid, setgid and sticky: the low 12 bits of `st_mode`.
    pub mode: u32,
    pub owner: Arc<Owner>,
    pub mtime: Timestamp,
    /// `None` when there are none.
    pub xattrs: Option<Arc<Xattrs>>,
}

/// Needed only to decide "unchanged" at the next backup; kept apart from the entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    pub inode: u64,
    pub ctime: Timestamp,
    /// The entry may have changed while it was read, or too shortly before; it must be read again next time.
    pub racy: bool,
    /// The file was checked as JSON when it was read, and nothing was wrong with it.
    pub sound: bool,
}

/// One piece of a file's content, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extent {
    /// `repeat` times (at least once) the chunk `id` of `len` bytes.
    Chunk { id: ChunkId, len: u32, repeat: u64 },
    /// `len` zero bytes that occupied no disk space.
    Hole { len: u64 },
}

/// A file's bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// The sum of the extents' lengths.
    pub size: u64,
    /// Empty when the list stands in chunks of its own.
    pub extents: Vec<Extent>,
    /// Chunks that hold the list of extents of a file with very many.
    pub lists: Vec<ChunkId>,
    /// Plain BLAKE3-256 of the whole content; present exactly when the content is not a single plain chunk or empty.
    pub hash: Option<[u8; 32]>,
}

/// Remarks on an entry that reach the user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u8);

impl Flags {
    /// The file changed while it was read; its content may mix two states.
    pub const CHANGED: u8 = 1;
    /// A database stored as a plain file: nobody has checked that it is consistent.
    pub const UNVERIFIED: u8 = 2;
    /// Every bit this version knows.
    pub const KNOWN: u8 = 3;

    pub fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }

    pub fn set(&mut self, bit: u8) {
        self.0 |= bit;
    }
}

/// One line of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Absolute path without the leading slash, raw bytes; never empty.
    pub path: Vec<u8>,
    pub kind: Kind,
    pub meta: Metadata,
    pub flags: Flags,
    /// Names that are one file share a number, unique within the snapshot; 0 for files with a single name.
    pub link: u64,
    /// Empty unless `kind` is `File`.
    pub content: Content,
}

impl Entry {
    pub fn is_dir(&self) -> bool {
        self.kind == Kind::Directory
    }

    pub fn is_file(&self) -> bool {
        self.kind == Kind::File
    }

    /// The last component of the path.
    pub fn name(&self) -> &[u8] {
        let at = self.path.iter().rposition(|&b| b == b'/').map_or(0, |i| i + 1);
        &self.path[at..]
    }
}

/// The manifest's order: component by component in raw bytes, so that a directory is followed by its whole subtree.
pub fn path_order(a: &[u8], b: &[u8]) -> std::cmp::Ordering {
    // `/` is smaller than every byte that a component may hold, once NUL is excluded and `/` counts as 0.
    let common = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let rank = |bytes: &[u8]| match bytes.get(common) {
        None => 0u16,
        Some(b'/') => 1,
        Some(&byte) => u16::from(byte) + 1,
    };
    rank(a).cmp(&rank(b))
}

/// Whether a stored path can be restored below a target: relative, no empty, `.` or `..` component, no NUL.
pub fn check_path(path: &[u8]) -> std::result::Result<(), &'static str> {
    if path.len() > limit::PATH_BYTES_MAX {
        return Err("a path is too long");
    }
    let mut depth = 0;
    for name in path.split(|&b| b == b'/') {
        depth += 1;
        if name.is_empty() || name == b"." || name == b".." || name.contains(&0) {
            return Err("a path that could lead outside");
        }
        if name.len() > limit::NAME_BYTES_MAX || depth > limit::PATH_DEPTH_MAX {
            return Err("a path is too deep or a name too long");
        }
    }
    Ok(())
}

/// Whether an entry keeps the limits that readers enforce; what does not must not be written.
pub fn check_entry(entry: &Entry) -> std::result::Result<(), &'static str> {
    check_path(&entry.path)?;
    if let Kind::Symlink(target) = &entry.kind
        && (target.is_empty() || target.len() > limit::TARGET_BYTES_MAX)
    {
        return Err("the link's target is too long to store");
    }
    for (name, value) in entry.meta.xattrs.iter().flat_map(|set| set.iter()) {
        if name.is_empty() || name.len() > limit::NAME_BYTES_MAX || value.len() > limit::XATTR_BYTES_MAX {
            return Err("an extended attribute is too long to store");
        }
    }
    let total: usize =
        entry.meta.xattrs.iter().flat_map(|set| set.iter()).map(|(n, v)| n.len() + v.len()).sum();
    if total > limit::XATTRS_BYTES_MAX {
        return Err("the extended attributes are too long to store");
    }
    let owner = &entry.meta.owner;
    if owner.user.len() > limit::NAME_BYTES_MAX || owner.group.len() > limit::NAME_BYTES_MAX {
        return Err("the owner's name is too long to store");
    }
    Ok(())
}
