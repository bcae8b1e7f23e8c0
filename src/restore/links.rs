//! Files with several names: which name came first, and where it stands now.

use crate::format::entry::Entry;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// The first name of a file that is there now, and the file's device and inode.
#[derive(Clone)]
pub struct Source {
    /// Below the target.
    pub path: Box<[u8]>,
    pub id: (u64, u64),
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
        if entry.link == 0 || !entry.is_file() {
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
        known.insert(entry.link, Some(Source { path, id }));
    }

    pub fn source(&self, entry: &Entry) -> Option<Source> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&entry.link).cloned().flatten()
    }
}
