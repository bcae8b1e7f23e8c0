//! One path over many snapshots: a line for each time it changed.

use super::diff::same_content;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::format::entry::{Content, Entry, Extent, Kind};
use crate::id::{ChunkId, SnapshotId};
use crate::manifest::content;
use crate::manifest::walk::{Groups, is_below};
use crate::progress::Progress;
use crate::repository::reader::Reader;
use crate::repository::snapshots::{Listed, encode_path};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// What a snapshot says about the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    Present {
        kind: Kind,
        size: u64,
        mtime: Timestamp,
        mode: u32,
    },
    Absent,
    /// The part of the snapshot that would tell is damaged, with the reason.
    Unreadable(String),
}

/// A state of the path and the snapshots in a row that have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The first snapshot with this state.
    pub snapshot: SnapshotId,
    pub time: String,
    pub hostname: String,
    /// The last one, the same where there is only one.
    pub last_snapshot: SnapshotId,
    pub last_time: String,
    /// How many snapshots have this state, one after another.
    pub snapshots: u64,
    pub state: State,
    /// Whether the content is another one than in the last version that could be read; true for the first.
    pub content_changed: bool,
    /// Plain bytes of chunks that no earlier version in this list had.
    pub new_bytes: u64,
    /// What a file holds.
    pub content: Option<Content>,
}

/// The versions of `path` (raw bytes, no leading slash) in `snapshots`, which come oldest first.
///
/// Snapshots that never looked at the path say nothing about it, and it is not absent before it first appears.
pub fn run(reader: &Reader, snapshots: &[Listed], path: &[u8], progress: &Progress) -> Result<Vec<Version>> {
    let mut history = History {
        reader,
        path,
        groups: HashMap::new(),
        seen: HashSet::new(),
        versions: Vec::new(),
        current: None,
        readable: None,
    };
    for listed in snapshots.iter().filter(|l| covers(l, path)) {
        progress.keep_going()?;
        let looked = match history.entry(&listed.root) {
            Ok(entry) => Ok(entry),
            Err(e) if e.kind().is_unreadable() => Err(e.message().to_owned()),
            Err(e) => return Err(e),
        };
        history.add(listed, looked)?;
    }
    Ok(history.versions)
}

/// Whether the snapshot's sources include the path, lie below it, or are not known.
fn covers(listed: &Listed, path: &[u8]) -> bool {
    let path = encode_path(path);
    let related = |source: &String| {
        let source = source.trim_matches('/').as_bytes();
        is_below(path.as_bytes(), source) || is_below(source, path.as_bytes())
    };
    listed.record.paths.is_empty() || listed.record.paths.iter().any(related)
}

/// What cannot be read is not known to be the same, and counts for nothing: the other versions are still worth telling.
fn lenient<T: Default>(result: Result<T>) -> Result<T> {
    match result {
        Err(e) if e.kind().is_unreadable() => Ok(T::default()),
        other => other,
    }
}

struct History<'a> {
    reader: &'a Reader,
    path: &'a [u8],
    /// What each group says about the path; most snapshots share theirs with the one before.
    groups: HashMap<ChunkId, Option<Arc<Entry>>>,
    seen: HashSet<ChunkId>,
    versions: Vec<Version>,
    /// What stands there in the snapshot looked at last; `None` when that could not be read.
    current: Option<Option<Arc<Entry>>>,
    /// The content that was read last.
    readable: Option<Content>,
}

impl History<'_> {
    fn entry(&mut self, root: &ChunkId) -> Result<Option<Arc<Entry>>> {
        let groups = Groups::load(self.reader, root)?;
        let range = groups.covering(self.path);
        let Some(item) = groups.items[range.clone()].first() else { return Ok(None) };
        if let Some(known) = self.groups.get(&item.id) {
            return Ok(known.clone());
        }
        let found =
            groups.read(self.reader, range.start)?.into_iter().find(|e| e.path == self.path).map(Arc::new);
        self.groups.insert(item.id, found.clone());
        Ok(found)
    }

    fn add(
        &mut self,
        listed: &Listed,
        looked: std::result::Result<Option<Arc<Entry>>, String>,
    ) -> Result<()> {
        let same = match (&self.current, &looked) {
            (Some(before), Ok(now)) => match (before, now) {
                (Some(x), Some(y)) => Arc::ptr_eq(x, y) || self.same_entry(x, y)?,
                (None, None) => true,
                _ => false,
            },
            _ => false,
        };
        if same && let Some(last) = self.versions.last_mut() {
            last.last_snapshot = listed.id;
            last.last_time.clone_from(&listed.record.time);
            last.snapshots += 1;
            return Ok(());
        }
        if self.versions.is_empty() && matches!(looked, Ok(None)) {
            return Ok(());
        }
        let (mut content_changed, mut new_bytes) = (false, 0);
        if let Ok(Some(entry)) = &looked {
            content_changed = match &self.readable {
                Some(before) => !lenient(same_content(self.reader, before, &entry.content))?,
                None => true,
            };
            new_bytes = lenient(self.new_bytes(&entry.content))?;
            self.readable = Some(entry.content.clone());
        }
        let state = match &looked {
            Ok(Some(entry)) => State::Present {
                kind: entry.kind.clone(),
                size: entry.content.size,
                mtime: entry.meta.mtime,
                mode: entry.meta.mode,
            },
            Ok(None) => State::Absent,
            Err(why) => State::Unreadable(why.clone()),
        };
        let file = looked.as_ref().ok().and_then(Option::as_ref).filter(|entry| entry.is_file());
        let content = file.map(|entry| entry.content.clone());
        self.current = looked.ok();
        self.versions.push(Version {
            snapshot: listed.id,
            time: listed.record.time.clone(),
            hostname: listed.record.hostname.clone(),
            last_snapshot: listed.id,
            last_time: listed.record.time.clone(),
            snapshots: 1,
            state,
            content_changed,
            new_bytes,
            content,
        });
        Ok(())
    }

    fn same_entry(&self, a: &Entry, b: &Entry) -> Result<bool> {
        let same = a.kind == b.kind && a.meta == b.meta;
        Ok(same && lenient(same_content(self.reader, &a.content, &b.content))?)
    }

    fn new_bytes(&mut self, content: &Content) -> Result<u64> {
        let mut bytes = 0;
        if content.size > 0 {
            for extent in content::extents(self.reader, content)? {
                if let Extent::Chunk { id, len, .. } = extent
                    && self.seen.insert(id)
                {
                    bytes += u64::from(len);
                }
            }
        }
        Ok(bytes)
    }
}
