//! Back from the trash: the snapshot is committed anew, under a new id.
//!
//! Its tombstone cannot be taken back, because a collector may be about to act on it. So this does what a backup does:
//! it registers a session, looks at what is there, makes sure that everything the snapshot needs counts as present,
//! and commits. From the commit on the new record keeps all of that alive, whatever happens to the old one.

use super::freed::require_whole;
use crate::clock::{Clock, Timestamp};
use crate::compress::Level;
use crate::error::{Error, ErrorKind, Result};
use crate::format::Folder;
use crate::format::snapshot::{SessionInfo, Snapshot};
use crate::id::SnapshotId;
use crate::progress::Progress;
use crate::repository::notes::{Pin, set_pin};
use crate::repository::snapshots::{Listed, Listing, SnapshotFilter, list};
use crate::repository::trash::{self, Forgotten};
use crate::repository::writer::Writer;
use crate::repository::{Repository, snapshots};
use std::sync::Arc;

/// What came back.
#[derive(Clone, Debug)]
pub struct Undeleted {
    pub old: SnapshotId,
    pub new: SnapshotId,
    /// It had been brought back before, by an attempt that did not come to its end.
    pub before: bool,
    /// The old record could not be removed from the trash; a collection will do it.
    pub left: Option<Error>,
}

/// Brings a snapshot back. Time, tags, label, order and pin stay; the origin names the id it had first.
pub fn run(
    repository: &Arc<Repository>,
    gone: &Forgotten,
    host: &str,
    clock: &dyn Clock,
    progress: &Progress,
) -> Result<Undeleted> {
    let old = &gone.listed;
    let session = SessionInfo {
        host: host.to_owned(),
        pid: std::process::id(),
        boot_id: crate::os::process::boot_id().unwrap_or_default(),
        started: clock.now().rfc3339(),
        program: concat!("snapkeep ", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    // The session first, then the look at what is there: never the other way round.
    let mut writer = Writer::open(repository, Level::FASTEST, &session)?;
    let listing = list(repository)?;
    let first = origin(repository, old);
    // Itself in sight, because its tombstone cannot be read just now, is no second record.
    let same = |l: &&Listed| l.id != old.id && origin(repository, l) == first && l.root == old.root;
    let (new, before) = match listing.snapshots.iter().find(same) {
        Some(there) => (there.id, true),
        None => {
            require_whole(&writer.reader, old, progress).map_err(|e| not_whole(repository, old, e))?;
            let packed = writer.flush()?;
            let id = writer.session.to_string();
            let record = Snapshot { id, origin: Some(first), ..old.record.clone() };
            progress.keep_going()?;
            (writer.commit(&record, packed)?, false)
        }
    };
    if let Some(pin) = listing.pins.get(&old.id) {
        carry_over(repository, new, pin, clock.now())?;
    }
    // All that the old record kept alive the new one keeps alive.
    let left = match listing.unread_notes.first() {
        None => trash::delete(repository, &[old.id]).err(),
        Some((name, why)) => {
            Some(Error::corrupt(format!("{name} cannot be read and may be its pin ({why})")))
        }
    };
    Ok(Undeleted { old: old.id, new, before, left })
}

/// Whether it could be brought back now. Changes nothing.
pub fn look(repository: &Repository, gone: &Forgotten, progress: &Progress) -> Result<()> {
    let reader = repository.reader()?;
    require_whole(&reader, &gone.listed, progress).map_err(|e| not_whole(repository, &gone.listed, e))
}

fn carry_over(repository: &Repository, new: SnapshotId, pin: &Pin, now: Timestamp) -> Result<()> {
    let listed = snapshots::read(repository, new)?;
    set_pin(repository, &listed, Some(pin.clone()), now)
}

/// Repository and id under which a snapshot was made first.
fn origin(repository: &Repository, listed: &Listed) -> String {
    listed.record.origin.clone().unwrap_or_else(|| format!("{}/{}", repository.id(), listed.id))
}

/// Chunks in condemned packs are not lost: the collection that runs copies what a record still needs.
fn not_whole(repository: &Repository, old: &Listed, e: Error) -> Error {
    if !e.kind().is_unreadable() {
        return e;
    }
    let collecting = repository.backend().list(Folder::Condemned).is_ok_and(|lists| !lists.is_empty());
    if collecting {
        let what = format!(
            "snapshot {} cannot be brought back while a collection is moving what it needs; try again when that has \
             ended",
            old.id.short()
        );
        return Error::new(ErrorKind::Locked, what);
    }
    let what = format!("snapshot {} is damaged and stays in the trash: {}", old.id.short(), e.message());
    Error::corrupt(what)
}

/// The snapshot in the trash that is meant by an id prefix (4 or more hex digits) or `latest`, which must be certain:
/// the filter may leave no more than one series.
pub fn resolve<'a>(listing: &'a Listing, text: &str, filter: &SnapshotFilter) -> Result<&'a Forgotten> {
    let nothing = |what: String| Err(Error::new(ErrorKind::NotFound, what));
    if text == "latest" {
        let mut matching = listing.forgotten.iter().filter(|f| filter.matches(&f.listed.record)).rev();
        let Some(newest) = matching.next() else {
            return nothing("there is no such snapshot in the trash".to_owned());
        };
        if let Some(other) = matching.find(|f| !f.listed.is_of_series(&newest.listed)) {
            return Err(Error::invalid(format!(
                "`latest` could be {} or {}: the trash holds snapshots of several hosts or paths; name one by its id, \
                 or say --host and --path",
                newest.listed.id.short(),
                other.listed.id.short()
            )));
        }
        return Ok(newest);
    }
    if text.len() < 4 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(Error::invalid(format!(
            "`{text}` names nothing in the trash; use an id (4 or more hex digits) or latest; `snapshots --trash` lists \
             what there is"
        )));
    }
    let prefix = text.to_ascii_lowercase();
    let mut found = listing.forgotten.iter().filter(|f| f.listed.record.id.starts_with(&prefix));
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (Some(a), Some(b)) => Err(Error::invalid(format!(
            "`{text}` could be {} or {}; use more digits",
            &a.listed.record.id[..12],
            &b.listed.record.id[..12]
        ))),
        (None, _) if listing.snapshots.iter().any(|l| l.record.id.starts_with(&prefix)) => {
            nothing(format!("snapshot {text} is not in the trash"))
        }
        (None, _) => nothing(format!("no snapshot in the trash begins with `{text}`")),
    }
}
