//! `run`: records from their second copies, and a new snapshot beside each that is damaged, of all that can be restored.
//!
//! The damaged one stays until the user forgets it: a later backup may bring its chunks back.

use super::assess::{Assessment, DamagedFile, Lens, LostGroup};
use super::rebuild::{Wish, make};
use super::records::{self, RecordPlan};
use super::{journal, readable};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::format::FileName;
use crate::format::snapshot::SessionInfo;
use crate::id::SnapshotId;
use crate::progress::{Problem, Progress, Report};
use crate::repository::Repository;
use crate::repository::snapshots::{Listed, Listing, list};
use std::sync::Arc;

/// What to repair.
#[derive(Clone, Debug, Default)]
pub struct SnapshotsOptions {
    /// These snapshots; empty for all.
    pub snapshots: Vec<SnapshotId>,
    /// Keep damaged files as `NAME.damaged`, with holes, in place of leaving them out.
    pub salvage: bool,
    /// Read every chunk, and not only look it up.
    pub read_data: bool,
    /// Do it, and not only say what would be done.
    pub apply: bool,
    pub now: Timestamp,
    /// Who repairs, for the session's record.
    pub info: SessionInfo,
}

/// A damaged snapshot.
#[derive(Clone, Debug)]
pub struct SnapshotRepair {
    pub snapshot: SnapshotId,
    /// Nothing of it is left.
    pub lost: bool,
    pub lost_groups: Vec<LostGroup>,
    pub entries_lost: u64,
    /// The first of the damaged files.
    pub files: Vec<DamagedFile>,
    pub files_damaged: u64,
    /// The snapshot of what is left, if there was one before.
    pub already: Option<SnapshotId>,
    /// The one that was made now.
    pub made: Option<SnapshotId>,
}

/// What was found and done.
#[derive(Clone, Debug, Default)]
pub struct SnapshotsReport {
    pub applied: bool,
    pub checked: u64,
    pub records: RecordPlan,
    pub snapshots: Vec<SnapshotRepair>,
}

impl SnapshotsReport {
    /// Whether there is, or was, anything to do.
    pub fn is_idle(&self) -> bool {
        let open = |r: &&SnapshotRepair| !r.lost && r.already.is_none();
        self.records.repairs.is_empty() && !self.snapshots.iter().any(|r| open(&r))
    }

    /// Whether something cannot be put right by any repair.
    pub fn is_hopeless(&self) -> bool {
        !self.records.hopeless.is_empty() || self.snapshots.iter().any(|r| r.lost)
    }
}

pub fn run(
    repository: &Arc<Repository>,
    options: &SnapshotsOptions,
    progress: &Progress,
    report: &dyn Report,
) -> Result<SnapshotsReport> {
    let mut out = SnapshotsReport { applied: options.apply, ..SnapshotsReport::default() };
    out.records = records::plan(repository)?;
    if options.apply && !out.records.repairs.is_empty() {
        journal::write(repository, &records::actions(&out.records), options.now)?;
        records::apply(repository, &out.records, &options.info)?;
    }
    let listing = list(repository)?;
    let reader = repository.reader_with(readable(repository)?);
    let lens = Lens::new(&reader, options.read_data);
    let chosen = |l: &&Listed| options.snapshots.is_empty() || options.snapshots.contains(&l.id);
    for listed in listing.snapshots.iter().filter(chosen) {
        progress.keep_going()?;
        out.checked += 1;
        let assessment = lens.snapshot(&listed.root, progress)?;
        if assessment.is_whole() {
            continue;
        }
        let mut repair = SnapshotRepair {
            snapshot: listed.id,
            lost: assessment.lost,
            entries_lost: assessment.entries_lost(),
            lost_groups: assessment.lost_groups.clone(),
            files: assessment.files.clone(),
            files_damaged: assessment.files_damaged,
            already: already(&listing, listed, options, &lens, progress)?,
            made: None,
        };
        tell(report, &repair);
        if options.apply && !repair.lost && repair.already.is_none() {
            repair.made = Some(one(repository, listed, &assessment, &lens, options, progress)?);
        }
        out.snapshots.push(repair);
    }
    Ok(out)
}

/// A whole snapshot that an earlier repair made of this one.
fn already(
    listing: &Listing,
    listed: &Listed,
    options: &SnapshotsOptions,
    lens: &Lens<'_>,
    progress: &Progress,
) -> Result<Option<SnapshotId>> {
    for other in &listing.snapshots {
        let repaired = other.record.repaired.as_ref();
        if repaired.is_some_and(|r| r.from == listed.record.id && r.salvaged == options.salvage)
            && lens.snapshot(&other.root, progress)?.is_whole()
        {
            return Ok(Some(other.id));
        }
    }
    Ok(None)
}

fn one(
    repository: &Arc<Repository>,
    listed: &Listed,
    assessment: &Assessment,
    lens: &Lens<'_>,
    options: &SnapshotsOptions,
    progress: &Progress,
) -> Result<SnapshotId> {
    let wish = Wish {
        repository,
        listed,
        assessment,
        lens,
        salvage: options.salvage,
        info: &options.info,
        now: options.now.rfc3339(),
    };
    make(&wish, progress, &mut |id| {
        let detail = format!(
            "made of {}, without {} entries and {} damaged files",
            listed.id,
            assessment.entries_lost(),
            assessment.files_damaged
        );
        let action = journal::action("snapshot-made", FileName::Snapshot(id).path(), detail);
        journal::write(repository, &[action], options.now)
    })
}

fn tell(report: &dyn Report, repair: &SnapshotRepair) {
    let name = FileName::Snapshot(repair.snapshot).path();
    let message = match repair.lost {
        true => "nothing is left of it: the root of its manifest is lost".to_owned(),
        false => format!("{} files damaged, {} entries lost", repair.files_damaged, repair.entries_lost),
    };
    report.problem(&Problem { item: name.into_bytes(), during: "repair", message });
}
