//! How many packs and snapshots this machine saw last: a store that suddenly lists far fewer may be failing.
//!
//! A listing that is cut short without an error has cost other tools live data. The note is kept beside the local
//! index cache; deleting it only forgets.

use crate::backend::Backend;
use crate::error::{Error, ErrorKind, Result};
use crate::format::Folder;
use std::path::{Path, PathBuf};

/// Fewer than this are too few to judge by.
const JUDGED_MIN: u64 = 8;

/// What was listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    pub packs: u64,
    pub snapshots: u64,
}

/// `cache` is the repository's index cache; the note stands beside it.
fn place(cache: &Path) -> Option<PathBuf> {
    cache.parent().map(|dir| dir.join("seen"))
}

/// What is listed now.
pub fn look(backend: &dyn Backend) -> Result<Sighting> {
    let count = |folder| Ok::<u64, Error>(backend.list(folder)?.len() as u64);
    Ok(Sighting { packs: count(Folder::Packs)?, snapshots: count(Folder::Snapshots)? })
}

/// What was noted last.
pub fn last(cache: &Path) -> Option<Sighting> {
    let text = std::fs::read_to_string(place(cache)?).ok()?;
    let mut numbers = text.split_whitespace().map_while(|n| n.parse().ok());
    Some(Sighting { packs: numbers.next()?, snapshots: numbers.next()? })
}

/// Notes what is listed. Only a hint: failing to note it is no error.
pub fn note(cache: &Path, seen: Sighting) {
    let Some(path) = place(cache) else { return };
    if last(cache) == Some(seen) {
        return;
    }
    let aside = path.with_extension("new");
    let written = std::fs::create_dir_all(path.parent().unwrap_or(cache))
        .and_then(|()| std::fs::write(&aside, format!("{} {}\n", seen.packs, seen.snapshots)));
    if written.is_ok() {
        let _ = std::fs::rename(&aside, &path);
    }
}

/// So many are about to be deleted from here: they are not missed, wherever the deletion ends.
pub fn forget(cache: &Path, deleted: Sighting) {
    if let Some(before) = last(cache) {
        let packs = before.packs.saturating_sub(deleted.packs);
        note(cache, Sighting { packs, snapshots: before.snapshots.saturating_sub(deleted.snapshots) });
    }
}

/// Refuses when less than half of what was seen last is listed.
pub fn refuse_shrunk(cache: &Path, now: Sighting) -> Result<()> {
    let Some(before) = last(cache) else { return Ok(()) };
    let counts = [("packs", before.packs, now.packs), ("snapshots", before.snapshots, now.snapshots)];
    for (what, before, now) in counts {
        if before >= JUDGED_MIN && now * 2 < before {
            return Err(Error::new(
                ErrorKind::Refused,
                format!(
                    "the repository lists {now} {what}; when this machine last looked there were {before}. If they were \
                     removed on purpose, say --accept-shrunk; if not, the place it lies in is failing: nothing was deleted"
                ),
            ));
        }
    }
    Ok(())
}
