//! Files, links and special files with several names: which name came first, and where it stands now.

use crate::crypto::hash;
use crate::format::entry::{Entry, Extent, Kind};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// The first name of a file that is there now, and the file's device and inode.
#[derive(Clone)]
pub struct Source {
    /// Below the target.
    pub path: Box<[u8]>,
    pub id: (u64, u64),
    content: u64,
}

/// One line per file with several names; `None` while its first name is on its way, or when that has failed.
#[derive(Default)]
pub struct Links {
    known: Mutex<HashMap<u64, Option<Source>>>,
    /// Bytes of a stored path that the target stands for.
    skip: usize,
}

impl Links {
    pub fn new(base: &[u8]) -> Self {
        let skip = if base.is_empty() { 0 } else { base.len() + 1 };
        Links { known: Mutex::default(), skip }
    }

    /// Whether this is another name of a file that has been seen before.
    pub fn is_other_name(&self, entry: &Entry) -> bool {
        if entry.link == 0 || entry.is_dir() {
            return false;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = known.contains_key(&entry.link);
        known.entry(entry.link).or_default();
        seen
    }

    /// The file stands there now.
    pub fn found(&self, entry: &Entry, id: (u64, u64)) {
        let path = entry.path.get(self.skip..).unwrap_or_default().into();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(entry.link, Some(Source { path, id, content: fingerprint(entry) }));
    }

    /// The name to link to. None either when the manifest says that the two have different contents, as it may when
    /// the file was written to between its names being read: then each gets what was read under it.
    pub fn source(&self, entry: &Entry) -> Option<Source> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&entry.link).cloned().flatten().filter(|source| source.content == fingerprint(entry))
    }
}

/// Tells contents apart that are not listed in the same way.
fn fingerprint(entry: &Entry) -> u64 {
    let content = &entry.content;
    let mut bytes = content.size.to_le_bytes().to_vec();
    match &entry.kind {
        Kind::File => {}
        Kind::Symlink(target) => bytes.extend_from_slice(target),
        other => bytes.extend_from_slice(format!("{other:?}").as_bytes()),
    }
    for extent in &content.extents {
        match extent {
            Extent::Chunk { id, .. } => bytes.extend_from_slice(&id.0),
            Extent::Hole { len } => bytes.extend_from_slice(&len.to_le_bytes()),
        }
    }
    content.lists.iter().for_each(|list| bytes.extend_from_slice(&list.0));
    hash::short(&bytes)
}
