//! `run`: a source to a committed snapshot.

mod amend;
mod capture;
mod databases;
mod documents;
mod facts;
mod item;
mod pages;
mod parent;
mod perform;
mod read;
mod sink;
mod steady;
mod stream;
mod pipeline;
mod record;
mod relocate;

use crate::backend::dry::DryBackend;
use crate::clock::{Clock, Timestamp};
use crate::compress::Level;
use crate::error::{Error, ErrorKind, Result};
use crate::format::snapshot::{self, BeforeRestore, Expected, Guarded, SessionInfo, Snapshot, Summary};
use crate::id::{ChunkId, SnapshotId};
use crate::manifest::walk::Groups;
use crate::progress::{Progress, Report};
use crate::repository::writer::Writer;
use crate::repository::{Repository, restores, snapshots};
use crate::source::FileSource;
use crate::source::stream::StreamSource;
use crate::units;
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub use databases::SqliteOptions;
pub use documents::JsonOptions;

/// What to back up.
pub enum Input {
    Files(Box<FileSource>),
    /// One stream, stored as the file `path` (raw bytes, no leading slash).
    Stream {
        source: StreamSource,
        path: Vec<u8>,
    },
    /// What the parent has, with the database `path`, the one source, as it is now.
    Amended {
        source: Box<FileSource>,
        path: Vec<u8>,
    },
}

impl Input {
    fn files(&self) -> Option<&FileSource> {
        match self {
            Input::Files(source) => Some(source),
            Input::Stream { .. } | Input::Amended { .. } => None,
        }
    }
}

/// Which earlier snapshot to compare with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParentChoice {
    /// The newest of the same host and paths.
    Auto,
    /// None: read every file.
    Nothing,
    Given(SnapshotId),
}

/// How to back up and what to write down about it.
#[derive(Clone, Debug)]
pub struct Options {
    pub level: Level,
    pub parent: ParentChoice,
    pub host: String,
    pub user: String,
    pub tags: Vec<String>,
    pub label: Option<String>,
    /// Recorded in place of the clock's time.
    pub time: Option<Timestamp>,
    /// Exclude rules, for the record.
    pub excludes: Vec<String>,
    /// Unchanged files that are read all the same, in per cent.
    pub reread_percent: f64,
    /// Commit nothing when nothing that can be restored has changed.
    pub skip_if_unchanged: bool,
    /// Do everything except storing.
    pub dry_run: bool,
    /// Worker threads; 0 for as many as there are processors.
    pub workers: usize,
    /// Count files and bytes ahead of the backup, for a progress bar that knows its end.
    pub scan: bool,
    pub sqlite: SqliteOptions,
    pub json: JsonOptions,
    /// This is a safety snapshot; its paths are those that will be restored, whether or not they are there.
    pub before_restore: Option<BeforeRestore>,
    /// This is the state before or after a command; what is not known before the backup is filled in.
    pub guarded: Option<Guarded>,
    /// The set of a profile that is backed up.
    pub expected: Option<Expected>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            level: Level::AUTO,
            parent: ParentChoice::Auto,
            host: crate::os::process::host_name(),
            user: crate::os::process::user_name(),
            tags: Vec::new(),
            label: None,
            time: None,
            excludes: Vec::new(),
            reread_percent: 1.0,
            skip_if_unchanged: false,
            dry_run: false,
            workers: 0,
            scan: false,
            sqlite: SqliteOptions::default(),
            json: JsonOptions::default(),
            before_restore: None,
            guarded: None,
            expected: None,
        }
    }
}

/// How a backup ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// `None` for a dry run, or when nothing had changed and the caller wanted no snapshot then.
    pub snapshot: Option<SnapshotId>,
    pub parent: Option<SnapshotId>,
    pub unchanged: bool,
    pub dry_run: bool,
    pub summary: Summary,
    /// Bytes of parity stored with the packs.
    pub parity_added: u64,
    /// Files stored that may be inconsistent databases, as stored paths.
    pub unverified: Vec<Vec<u8>>,
    /// The databases captured, as the record has them.
    pub databases: Option<snapshot::Databases>,
    /// What was found out about JSON files; `None` when nobody asked.
    pub json: Option<snapshot::JsonFacts>,
    /// Databases with more rows whose foreign key leads nowhere than the parent's had.
    pub orphans: Vec<facts::NewOrphans>,
    pub start: Timestamp,
    pub end: Timestamp,
    /// Safety snapshots of restores over places of this backup that did not end well or are under way: what was stored may mix two
    /// states.
    pub unsettled: Vec<SnapshotId>,
    /// Entries left out by rules, of the repository itself, on other file systems, gone before they were seen.
    pub left_out: crate::source::LeftOut,
}

/// The name and version written into records.
pub const PROGRAM: &str = concat!("snapkeep ", env!("CARGO_PKG_VERSION"));

/// Backs up `input` and commits a snapshot, unless an error ends it before: then nothing is committed, and what was
/// stored is found again by the next run.
pub fn run(
    repository: &Arc<Repository>,
    input: &Input,
    options: &Options,
    clock: &dyn Clock,
    progress: &Progress,
    report: &dyn Report,
) -> Result<Outcome> {
    run_judged(repository, input, options, clock, (progress, report), &|_, _| Ok(()))
}

/// Whether a state may become a snapshot: what was found out about it, and the root of what was stored, which can be read.
pub type Judge<'a> = dyn Fn(&Outcome, &ChunkId) -> Result<()> + 'a;

/// As `run`, but commits only what `judge` has nothing against. An error of its ends the backup; what was stored is found again.
pub fn run_judged(
    repository: &Arc<Repository>,
    input: &Input,
    options: &Options,
    clock: &dyn Clock,
    (progress, report): (&Progress, &dyn Report),
    judge: &Judge<'_>,
) -> Result<Outcome> {
    let start = clock.now();
    let repository = stored_in(repository, options);
    let mut writer = Writer::open(&repository, options.level, &session_info(start))?;
    let listing = snapshots::list(&repository)?;
    let paths = options.before_restore.as_ref().map_or_else(|| record::paths(input), |b| b.paths.clone());
    let series = record::Series::find(&listing, options, &paths)?;
    let parent = match &series.parent {
        // A parent that cannot be read costs time, not the backup.
        Some(parent) => Groups::load(&writer.reader, &parent.root).unwrap_or_default(),
        None => Groups::default(),
    };
    series.parent.iter().for_each(|parent| writer.follow(parent.id));
    let git = record::GitProbe::start(input);
    let before = series.parent.as_ref().map(|parent| &parent.record);
    let known = before.and_then(|record| record.sqlite.as_ref());
    let databases = databases::Databases::new(&options.sqlite, known, clock, progress);
    let documents = before.and_then(|record| record.json.as_ref());
    let documents = documents::Documents::new(&options.json, input.files(), documents)?;
    let what = (parent, databases, documents);
    let stored = match pipeline::store(&writer, input, what, options, start, progress, report) {
        Ok(stored) => stored,
        // Packs under way are finished, for the next run to find; if that fails, it is the cause of the rest.
        Err(e) => return Err(ended_early(&mut writer, e)),
    };
    let orphans = facts::new_orphans(known, stored.databases.as_ref());
    orphans.iter().for_each(|new| report.warning(&new.problem()));
    let packed = writer.flush()?;
    packed.tell(report);
    let end = clock.now();
    let mut summary = stored.summary;
    summary.data_blobs = writer.counters.content_chunks.load(Ordering::Relaxed);
    summary.tree_blobs = writer.counters.manifest_chunks.load(Ordering::Relaxed);
    summary.data_added = writer.counters.raw_bytes.load(Ordering::Relaxed);
    summary.data_added_packed = packed.bytes;
    let mut outcome = Outcome {
        snapshot: None,
        parent: series.parent.as_ref().map(|p| p.id),
        unchanged: stored.built.unchanged,
        dry_run: options.dry_run,
        summary,
        parity_added: packed.parity_bytes,
        unverified: stored.unverified,
        databases: stored.databases,
        json: stored.json,
        orphans,
        start,
        end,
        left_out: stored.left_out,
        unsettled: unsettled(&listing, options, &paths),
    };
    if options.dry_run || (options.skip_if_unchanged && stored.built.unchanged && summary.problems == 0) {
        return Ok(outcome);
    }
    judge(&outcome, &stored.built.root)?;
    let names = record::Names { session: writer.session, root: stored.built.root, paths };
    let snapshot: Snapshot = record::snapshot(names, options, &series, &outcome, git.finish());
    // The last moment to stop: from here on the snapshot may exist.
    progress.keep_going()?;
    outcome.snapshot = Some(writer.commit(&snapshot, packed)?);
    Ok(outcome)
}

/// Restores that may have left a mixture at the places of this backup. A safety snapshot is of the moment before one.
fn unsettled(listing: &snapshots::Listing, options: &Options, paths: &[String]) -> Vec<SnapshotId> {
    if options.before_restore.is_some() {
        return Vec::new();
    }
    let here = |path: &String| paths.iter().any(|own| restores::overlap(own, path));
    let all = restores::unsettled(listing).into_iter().filter(|(_, before)| before.paths.iter().any(here));
    all.map(|(listed, _)| listed.id).collect()
}

fn session_info(start: Timestamp) -> SessionInfo {
    SessionInfo {
        // This machine's, whatever the snapshot is to say: others on it judge by it whether we still live.
        host: crate::os::process::host_name(),
        pid: std::process::id(),
        boot_id: crate::os::process::boot_id().unwrap_or_default(),
        started: start.rfc3339(),
        program: PROGRAM.to_owned(),
    }
}

/// The repository, or for a dry run one like it that forgets what is written.
fn stored_in(repository: &Arc<Repository>, options: &Options) -> Arc<Repository> {
    if !options.dry_run {
        return Arc::clone(repository);
    }
    let backend = DryBackend::new(Arc::clone(repository.backend()));
    Arc::new(repository.with_backend(Arc::new(backend)))
}

/// Finishes the packs under way, for the next run to find, and says why this one ended: if finishing them fails, that
/// is the cause of the rest.
fn ended_early(writer: &mut Writer, e: Error) -> Error {
    match writer.flush() {
        Err(cause) => cause,
        Ok(packed) if e.kind() == ErrorKind::Cancelled && packed.bytes > 0 => {
            let kept = units::bytes(packed.bytes);
            let what = format!(
                "interrupted; no snapshot was made, and the {kept} stored so far are reused by the next backup"
            );
            Error::new(ErrorKind::Cancelled, what)
        }
        Ok(_) => e,
    }
}
