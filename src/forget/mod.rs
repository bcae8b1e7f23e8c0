//! Taking snapshots out of sight: by name or by policy, into the trash or for good; and back.

pub mod freed;
pub mod plan;
pub mod undelete;

use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::id::SnapshotId;
use crate::progress::{Problem, Report};
use crate::repository::Repository;
use crate::repository::notes::Notes;
use crate::repository::trash;

/// How to forget.
#[derive(Clone, Debug)]
pub struct ForgetOptions {
    /// Delete the records at once: nothing can be brought back.
    pub for_good: bool,
    /// Pins that have come meanwhile do not count either.
    pub pinned: bool,
    /// Who forgets, for the tombstones.
    pub host: String,
}

/// What became of the snapshots.
#[derive(Clone, Debug, Default)]
pub struct ForgetReport {
    pub forgotten: Vec<SnapshotId>,
    /// Pinned by somebody else since they were listed: in the trash, and nothing empties them from it.
    pub pinned: Vec<SnapshotId>,
    /// Could not be forgotten, with the reason. They are where they were.
    pub failed: Vec<(SnapshotId, Error)>,
}

/// Forgets these snapshots, one after the other: each is where it was, in the trash, or gone, and never in between.
/// What goes wrong with one does not stop the others.
pub fn run(
    repository: &Repository,
    chosen: &[SnapshotId],
    options: &ForgetOptions,
    now: Timestamp,
    report: &dyn Report,
) -> Result<ForgetReport> {
    let mut done = ForgetReport::default();
    let known = Notes::load(repository)?;
    let mut failed = |id: SnapshotId, error: Error| {
        let item = id.to_string().into_bytes();
        report.problem(&Problem { item, during: "forget", message: error.to_string() });
        done.failed.push((id, error));
    };
    let mut buried = Vec::new();
    for id in chosen {
        let there = !known.state(*id).tombstones.is_empty();
        let result = if there { Ok(()) } else { trash::bury(repository, &known, *id, &options.host, now) };
        match result {
            Ok(()) => buried.push(*id),
            // On a full disk there is no room for a tombstone, and room is what this is about to make.
            Err(e) if options.for_good && e.is_disk_full() => buried.push(*id),
            Err(e) if e.is_disk_full() => {
                let what = "the disk is full, and the trash needs a little room; --no-trash needs none";
                failed(*id, Error::new(ErrorKind::Io, what));
            }
            Err(e) => failed(*id, e),
        }
    }
    if !options.for_good {
        done.forgotten = buried;
        return Ok(done);
    }
    // Whoever pins looks for a tombstone after: of two at the same time one sees the other.
    let after = Notes::load(repository)?;
    for id in buried {
        if !options.pinned && known.state(id).pin.is_none() && after.state(id).pin.is_some() {
            done.pinned.push(id);
        } else if let Err(e) = trash::delete(repository, &[id]) {
            let item = id.to_string().into_bytes();
            report.problem(&Problem { item, during: "forget", message: e.to_string() });
            done.failed.push((id, e));
        } else {
            done.forgotten.push(id);
        }
    }
    Ok(done)
}
