//! Drills: a snapshot is restored to a scratch place and everything about it tried that can be, then the place is cleaned up.
//! Only what came back whole is called restorable.

mod command;
mod databases;

pub use command::{Ended, Run};

use crate::error::{Context, Error, ErrorKind, Result};
use crate::format::snapshot::{DrillDone, NoteKind};
use crate::os::process::host_name;
use crate::os::scratch::{self, Scratch};
use crate::os::storage;
use crate::progress::{Problem, Progress, Report};
use crate::repository::reader::Reader;
use crate::repository::snapshots::{Listed, decode_path, encode_path};
use crate::repository::{Repository, notes, random};
use crate::restore::{RestoreOptions, compare, execute, plan};
use crate::rules;
use crate::sqlite::check::Depth;
use crate::units;
use crate::verify;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How scratch places begin.
const NAME: &str = "snapkeep-drill-";
/// Reasons kept in the repository, and the length of one.
const NOTED_MAX: usize = 20;
const REASON_LEN: usize = 300;
/// Reasons told.
const REASONS_MAX: usize = 200;
/// What one entry takes on a disk beside its bytes.
const ENTRY_BYTES: u64 = 4096;

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Stored path of what is restored; empty for all.
    pub below: Vec<u8>,
    /// A directory that is there; the place is made in it.
    pub scratch: PathBuf,
    pub rules: bool,
    pub depth: Depth,
    pub command: Option<Run>,
}

/// A database in the restored tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Database {
    /// Its stored path.
    pub path: Vec<u8>,
    pub failed: bool,
    pub unknown: bool,
    /// It was compared with what the snapshot's record says of it.
    pub compared: bool,
    pub tables: u64,
    pub rows: u64,
    pub reasons: Vec<String>,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Drill {
    pub done: DrillDone,
    pub databases: Vec<Database>,
    /// For each directory with rules, by its stored path.
    pub rules: Vec<(Vec<u8>, rules::Report)>,
    pub command: Option<Ended>,
    pub restore: Duration,
    pub total: Duration,
    /// Why it did not pass.
    pub reasons: Vec<String>,
}

impl Drill {
    fn fail(&mut self, why: impl Into<String>) {
        if self.reasons.len() < REASONS_MAX {
            self.reasons.push(why.into());
        }
    }
}

/// Room that restoring takes at most, and room there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    pub needed: u64,
    pub free: u64,
}

/// Asks whether the scratch place has room.
pub fn room(reader: &Reader, snapshot: &Listed, options: &Options) -> Result<Room> {
    let scratch = &options.scratch;
    let plan = plan(reader, &snapshot.root, scratch, &restore_options(options))?;
    let free = storage::free_bytes(scratch).context(|| format!("cannot look at {}", scratch.display()))?;
    Ok(Room { needed: plan.bytes.saturating_add(plan.entries.saturating_mul(ENTRY_BYTES)), free })
}

/// What a drill proves is the content. Owners and attributes are left out: the scratch place may not know them.
fn restore_options(options: &Options) -> RestoreOptions {
    RestoreOptions {
        below: options.below.clone(),
        strip: !options.below.is_empty(),
        owner: Some(false),
        special_bits: Some(false),
        no_xattrs: true,
        ..RestoreOptions::default()
    }
}

/// Restores, tries, cleans up. An error means that the drill could not be carried out; that it did not pass is a result.
pub fn run(
    reader: &Arc<Reader>,
    snapshot: &Listed,
    options: &Options,
    progress: &Progress,
    report: &dyn Report,
) -> Result<Drill> {
    let mut drill = match carry_out(reader, snapshot, options, progress, report) {
        // What cannot even be planned cannot be restored.
        Err(e) if e.kind().is_unreadable() => {
            Drill { reasons: vec![e.message().to_owned()], ..Drill::default() }
        }
        drill => drill?,
    };
    conclude(&mut drill, options);
    Ok(drill)
}

fn carry_out(
    reader: &Arc<Reader>,
    snapshot: &Listed,
    options: &Options,
    progress: &Progress,
    report: &dyn Report,
) -> Result<Drill> {
    let begun = Instant::now();
    let room = room(reader, snapshot, options)?;
    if room.needed > room.free {
        return Err(no_room(room, &options.scratch));
    }
    let place = Scratch::new(&options.scratch, NAME, random::bytes()?)?;
    let tree = place.path("tree");
    let mut drill = Drill::default();
    let collected = Collected { inner: report, reasons: Mutex::default() };
    let planned = || plan(reader, &snapshot.root, &tree, &restore_options(options));
    let restored = execute(reader, planned()?, progress, &collected)?;
    let root = std::fs::File::open(&tree).context(|| format!("cannot open {}", tree.display()))?;
    storage::sync_filesystem(&root).context(|| "cannot write out the scratch place")?;
    drill.restore = begun.elapsed();
    let (mut databases, mut compared) = (Vec::new(), Default::default());
    if restored.total_files > 0 {
        let each = &mut |path: &[u8]| databases.push(path.to_vec());
        compared = compare(reader, &planned()?, progress, &collected, each)?;
    }
    drill.done.files = compared.files_verified;
    drill.done.bytes = compared.total_bytes;
    drill.done.wrong = compared.verify_failed + restored.problems;
    for reason in collected.reasons.into_inner().unwrap_or_else(PoisonError::into_inner) {
        drill.fail(reason);
    }
    if drill.done.files == 0 {
        drill.fail("there is no file to check, so nothing is proved");
    }
    if drill.done.wrong > 0 && drill.reasons.is_empty() {
        drill.fail(format!("{} did not come back", units::counted(drill.done.wrong, "thing", "things")));
    }
    try_databases(&mut drill, snapshot, &databases, (options, &place, &tree), progress)?;
    if options.rules {
        try_rules(&mut drill, reader, snapshot, (options, &place, &tree), progress)?;
    }
    if let Some(what) = &options.command {
        let dir = inside(&tree, snapshot, options);
        let ended = command::run(what, &dir, &snapshot.record.id, &place.path("output"), progress)?;
        if !ended.is_good() {
            drill.fail(command_words(&ended));
        }
        drill.command = Some(ended);
    }
    drill.total = begun.elapsed();
    place.remove()?;
    Ok(drill)
}

fn no_room(room: Room, scratch: &Path) -> Error {
    let what = format!(
        "restoring takes up to {}, and {} has {} free; nothing was done. Name another place with --scratch, or a part of the \
         snapshot",
        units::bytes(room.needed),
        scratch.display(),
        units::bytes(room.free)
    );
    Error::new(ErrorKind::Io, what)
}

/// Where the restored thing stands that has the stored path `path`.
fn place_of(tree: &Path, options: &Options, path: &[u8]) -> PathBuf {
    let below = &options.below;
    let rest = match path.get(below.len()..) {
        // A file that was asked for by its own name stands there by its last part.
        Some([]) if !below.is_empty() => below.rsplit(|b| *b == b'/').next().unwrap_or_default(),
        Some(rest) => rest.strip_prefix(b"/").unwrap_or(rest),
        None => path,
    };
    tree.join(OsStr::from_bytes(rest))
}

/// The restored source, if there is only one; else the directory that all of it stands in.
fn inside(tree: &Path, snapshot: &Listed, options: &Options) -> PathBuf {
    match snapshot.record.paths.as_slice() {
        [one] if options.below.is_empty() => {
            let path = decode_path(one.trim_start_matches('/'));
            Some(place_of(tree, options, &path)).filter(|dir| dir.is_dir())
        }
        _ => None,
    }
    .unwrap_or_else(|| tree.to_path_buf())
}

type Where<'a> = (&'a Options, &'a Scratch, &'a Path);

fn try_databases(
    drill: &mut Drill,
    snapshot: &Listed,
    paths: &[Vec<u8>],
    (options, place, tree): Where<'_>,
    progress: &Progress,
) -> Result<()> {
    let known = snapshot.record.sqlite.iter().flat_map(|all| all.databases.iter());
    let known: std::collections::HashMap<Vec<u8>, _> =
        known.map(|facts| (decode_path(facts.path.trim_start_matches('/')), facts)).collect();
    for path in paths {
        progress.keep_going()?;
        let file = place_of(tree, options, path);
        let facts = known.get(path).copied();
        let database = databases::examine(&file, path, facts, options.depth, (place.dir(), progress))?;
        if database.failed {
            for reason in &database.reasons {
                drill.fail(format!("/{}: {reason}", String::from_utf8_lossy(path)));
            }
        }
        drill.databases.push(database);
    }
    Ok(())
}

fn try_rules(
    drill: &mut Drill,
    reader: &Arc<Reader>,
    snapshot: &Listed,
    (options, place, tree): Where<'_>,
    progress: &Progress,
) -> Result<()> {
    for base in verify::ruled(reader, &snapshot.root, &options.below, progress)? {
        let shown = format!("/{}", String::from_utf8_lossy(&base));
        let rules = match verify::stored_rules(reader, &snapshot.root, &base) {
            Ok(rules) => rules,
            Err(e) if e.kind() == ErrorKind::Cancelled => return Err(e),
            Err(e) => {
                drill.done.rules_errors += 1;
                drill.fail(format!("the rules cannot be used: {}", e.message()));
                continue;
            }
        };
        let report = verify::live(&place_of(tree, options, &base), &rules, place.dir(), progress)?;
        if report.outcomes.is_empty() {
            drill.done.rules_errors += 1;
            drill.fail(format!("{shown}: the rules file holds no rules, so nothing is proved"));
        }
        for outcome in report.outcomes.iter().filter(|o| o.verdict != rules::Verdict::Pass) {
            for reason in &outcome.reasons {
                let path = reason.path.as_deref().map(|p| format!("{}: ", String::from_utf8_lossy(p)));
                drill.fail(format!(
                    "{shown}: rule {}: {}{}",
                    outcome.name,
                    path.unwrap_or_default(),
                    reason.message
                ));
            }
        }
        drill.rules.push((base, report));
    }
    Ok(())
}

fn command_words(ended: &Ended) -> String {
    match (ended.late, ended.code, ended.signal) {
        (true, ..) => format!("the command was stopped after {}", units::duration(ended.seconds)),
        (_, Some(code), _) => format!("the command ended with exit code {code}"),
        (_, None, signal) => format!("the command was ended by signal {}", signal.unwrap_or(0)),
    }
}

/// Sums it up, for the repository.
fn conclude(drill: &mut Drill, options: &Options) {
    let count = |wanted: fn(&Database) -> bool| drill.databases.iter().filter(|d| wanted(d)).count() as u64;
    let (failed, unknown) = (count(|d| d.failed), count(|d| d.unknown && !d.failed));
    let ruled = |verdict| drill.rules.iter().map(|(_, report)| report.count(verdict)).sum::<u64>();
    let (passed, rules_failed, errors) =
        (ruled(rules::Verdict::Pass), ruled(rules::Verdict::Fail), ruled(rules::Verdict::Error));
    let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let reasons = drill.reasons.iter().take(NOTED_MAX);
    let done = &mut drill.done;
    done.path = match options.below.is_empty() {
        true => String::new(),
        false => format!("/{}", encode_path(&options.below)),
    };
    done.host = host_name();
    (done.databases, done.databases_failed, done.databases_unknown) =
        (drill.databases.len() as u64, failed, unknown);
    (done.rules_passed, done.rules_failed) = (passed, rules_failed);
    done.rules_errors += errors;
    done.command = drill.command.as_ref().map(|ended| match ended.late {
        true => -1,
        false => ended.code.unwrap_or(-1),
    });
    (done.restore_ms, done.total_ms) = (millis(drill.restore), millis(drill.total));
    done.reasons = reasons.map(|reason| reason.chars().take(REASON_LEN).collect()).collect();
    done.passed = drill.reasons.is_empty();
}

/// Removes what drills that were killed have left in a directory, and answers their places.
pub fn remove_leftovers(above: &Path) -> Vec<PathBuf> {
    scratch::remove_leftovers(above, NAME)
}

/// Writes down in the repository what came of it.
pub fn record(
    repository: &Repository,
    snapshot: &Listed,
    drill: &Drill,
    now: crate::clock::Timestamp,
) -> Result<()> {
    notes::write(repository, snapshot.id, NoteKind::Drill(drill.done.clone()), now)
}

/// Snapshots out of `all` by chance, at most `count`, each once.
pub fn some_of(mut all: Vec<Listed>, count: usize) -> Result<Vec<Listed>> {
    let mut chosen = Vec::new();
    while chosen.len() < count && !all.is_empty() {
        let number = u64::from_le_bytes(random::bytes()?);
        chosen.push(all.swap_remove((number % all.len() as u64) as usize));
    }
    Ok(chosen)
}

/// Keeps what is reported, as reasons, and hands it on.
struct Collected<'a> {
    inner: &'a dyn Report,
    reasons: Mutex<Vec<String>>,
}

impl Report for Collected<'_> {
    fn problem(&self, problem: &Problem) {
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        if reasons.len() < REASONS_MAX {
            reasons.push(format!("/{}: {}", String::from_utf8_lossy(&problem.item), problem.message));
        }
        drop(reasons);
        self.inner.problem(problem);
    }

    fn warning(&self, problem: &Problem) {
        self.inner.warning(problem);
    }
}
