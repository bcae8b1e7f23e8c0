//! The trash: snapshots with a tombstone. Their records stay where they are, and all they need stays with them, until
//! the tombstone is old enough and a collection deletes the record.
//!
//! A tombstone is never taken back: a collector may be about to act on it. Who wants the snapshot again commits it
//! anew (`undelete`). Clocks decide here how long something can be brought back, and nothing else.

use super::notes::{self, Notes};
use super::snapshots::Listed;
use super::{Repository, checks, removal, sighting};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::format::snapshot::NoteKind;
use crate::format::{FileName, Folder};
use crate::id::{Name, SnapshotId};
use std::collections::HashSet;
use std::time::Duration;

/// How long forgotten snapshots can be brought back, unless the user says otherwise, in days.
pub const DAYS: u32 = 30;
const DAY: i64 = 86_400;

/// A snapshot in the trash.
#[derive(Clone, Debug)]
pub struct Forgotten {
    pub listed: Listed,
    /// When it was forgotten; `None` where that makes no sense, because a clock was wrong.
    pub since: Option<Timestamp>,
}

impl Forgotten {
    /// Of several tombstones the youngest counts. A time that cannot be read, or that lies before the snapshot was
    /// made (by more than clocks of two machines may differ), says nothing.
    pub fn new(listed: Listed, tombstones: &[Option<Timestamp>]) -> Self {
        let since =
            tombstones.iter().copied().collect::<Option<Vec<_>>>().and_then(|all| all.into_iter().max());
        let made = Timestamp::parse(&listed.record.backup_end, Timestamp::default()).ok();
        let since = since.filter(|t| made.is_none_or(|made| t.secs.saturating_add(DAY) >= made.secs));
        Forgotten { listed, since }
    }

    /// When `keep` is over, as far as that can be said.
    pub fn expires(&self, keep: Duration) -> Option<Timestamp> {
        let since = self.since?;
        let secs = since.secs.checked_add(i64::try_from(keep.as_secs()).ok()?)?;
        Some(Timestamp { secs, nanos: since.nanos })
    }

    /// Whether it has been in the trash for `keep`. What was forgotten in the future, or nobody knows when, stays,
    /// unless nothing is to be kept at all.
    pub fn is_expired(&self, now: Timestamp, keep: Duration) -> bool {
        keep.is_zero() || self.expires(keep).is_some_and(|end| end <= now)
    }
}

/// `days` as a span.
pub fn span(days: u32) -> Duration {
    Duration::from_secs(u64::from(days) * DAY as u64)
}

/// Writes a tombstone, durably: from now on the snapshot is in the trash.
pub fn bury(
    repository: &Repository,
    known: &Notes,
    id: SnapshotId,
    host: &str,
    now: Timestamp,
) -> Result<()> {
    notes::write_after(repository, known, id, NoteKind::Forgotten { host: host.to_owned() }, now)
}

/// Snapshots whose records a collection may delete now: in the trash for `keep`, and not pinned. Refuses when a note
/// cannot be read, since it might be the pin of any of them.
pub fn expired(repository: &Repository, now: Timestamp, keep: Duration) -> Result<Vec<SnapshotId>> {
    let notes = Notes::load(repository)?;
    if notes.unread.is_empty() && !notes.iter().any(|n| matches!(n.note.what, NoteKind::Forgotten { .. })) {
        // The usual case costs no record its reading.
        return Ok(Vec::new());
    }
    let listing = super::snapshots::list(repository)?;
    if let Some((name, why)) = listing.unread_notes.first() {
        return Err(Error::new(
            ErrorKind::Refused,
            format!("the trash is not emptied: {name} cannot be read and may be a pin ({why})"),
        ));
    }
    let done = |f: &&Forgotten| {
        let id = f.listed.id;
        f.is_expired(now, keep) && !listing.pins.contains_key(&id) && !listing.unclear.contains(&id)
    };
    Ok(listing.forgotten.iter().filter(done).map(|f| f.listed.id).collect())
}

/// Deletes the records of snapshots, then their notes. From now on nothing keeps their chunks alive.
pub fn delete(repository: &Repository, ids: &[SnapshotId]) -> Result<()> {
    let notes = Notes::load(repository)?;
    let backend = repository.backend().as_ref();
    if let Some(cache) = repository.cache_dir() {
        sighting::lessen(&cache, 0, ids.len() as u64);
    }
    for id in ids {
        removal::snapshot(backend, *id)?;
        for named in notes.of(*id) {
            removal::note(backend, named.name)?;
        }
    }
    Ok(())
}

/// Removes notes about snapshots that are no longer there, which a deletion that was killed has left; returns how
/// many. For collectors; nobody else needs it.
pub fn sweep(repository: &Repository) -> Result<u64> {
    // Notes first: whoever wrote one saw the snapshot's record, so a record missing afterwards has been deleted.
    let notes = Notes::load(repository)?;
    let backend = repository.backend().as_ref();
    // A copy without its record means that the record was lost: it may come back, and its pin with it.
    let mut there: HashSet<Name> = HashSet::new();
    for folder in [Folder::Copies, Folder::Snapshots] {
        for stat in backend.list(folder)? {
            if let FileName::CopyOfSnapshot(id) | FileName::Snapshot(id) = stat.name {
                there.insert(id);
            }
        }
    }
    let mut removed = 0;
    for named in notes.iter() {
        if Name::parse(&named.note.snapshot).is_ok_and(|id| !there.contains(&id)) {
            removal::note(backend, named.name)?;
            removed += 1;
        }
    }
    Ok(removed + checks::sweep(repository, &notes)?)
}

/// Whether the record of a snapshot is still there.
pub fn has_record(repository: &Repository, id: SnapshotId) -> Result<bool> {
    let listed = repository.backend().list(Folder::Snapshots)?;
    Ok(listed.iter().any(|stat| stat.name == FileName::Snapshot(id)))
}
