//! What is written down about a backup: its series, its paths, the state of a git work tree.

use super::{Input, Options, Outcome, PROGRAM, ParentChoice};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::format::snapshot::{GitState, Guarded, Snapshot, UserVersions};
use crate::id::{ChunkId, SnapshotId, hex};
use crate::os::process;
use crate::repository::snapshots::{Listed, Listing, encode_path};
use std::path::PathBuf;
use std::process::{Child, Stdio};

/// The snapshots of the same host and paths, as far as a new one must know them.
pub struct Series {
    pub parent: Option<Listed>,
    sequence: u64,
    order_time: i64,
}

/// The source paths as snapshot records hold them, sorted.
pub fn paths(input: &Input) -> Vec<String> {
    let shown = |stored: &[u8]| format!("/{}", encode_path(stored));
    let mut paths: Vec<String> = match input {
        // A source that is missing today still belongs to the series.
        Input::Files(source) => {
            let missing = source.missing_roots().iter().map(|p| p.item.strip_prefix(b"/").unwrap_or(&p.item));
            source.roots().map(|root| root.stored.as_slice()).chain(missing).map(shown).collect()
        }
        Input::Stream { path, .. } | Input::Amended { path, .. } => vec![shown(path)],
    };
    paths.sort();
    paths
}

/// Later than this no clock counts: snapshots made after it was put right must still find larger numbers.
const CLOCK_MAX: i64 = i64::MAX - (1 << 40);

impl Series {
    pub fn find(listing: &Listing, options: &Options, paths: &[String]) -> Result<Self> {
        let same = |l: &&Listed| l.record.hostname == options.host && l.record.paths == paths;
        let last = listing.snapshots.iter().filter(same).max_by_key(|l| l.record.sequence);
        // What lies in the trash is nobody's parent, but its number is taken and its place in the order, too.
        let ever = || listing.live().filter(same);
        // A time that the user gave says nothing about the clock and must not push later snapshots into the future.
        let clocked = ever().filter(|l| l.is_clocked()).map(|l| l.record.order_time).max();
        let parent = match &options.parent {
            ParentChoice::Nothing => None,
            ParentChoice::Auto => last.cloned(),
            ParentChoice::Given(id) => {
                let given = listing.snapshots.iter().find(|l| l.id == *id).cloned();
                let missing = || Error::new(ErrorKind::NotFound, format!("there is no snapshot {id}"));
                Some(given.ok_or_else(missing)?)
            }
        };
        Ok(Series {
            parent,
            sequence: ever().map(|l| l.record.sequence).max().map_or(1, |n| n.saturating_add(1)),
            order_time: clocked.unwrap_or(i64::MIN),
        })
    }
}

/// What only the finished backup knows.
pub struct Names {
    pub session: SnapshotId,
    pub root: ChunkId,
    pub paths: Vec<String>,
}

pub fn snapshot(
    names: Names,
    options: &Options,
    series: &Series,
    outcome: &Outcome,
    git: Option<GitState>,
) -> Snapshot {
    let time: Timestamp = options.time.unwrap_or(outcome.start);
    let order_time = match options.time {
        Some(time) => time.nanoseconds(),
        // A clock that was set back must not make the newest snapshot look older than its parent.
        None => time.nanoseconds().min(CLOCK_MAX).max(series.order_time.saturating_add(1)),
    };
    Snapshot {
        id: names.session.to_string(),
        root: hex(&names.root.0),
        parent: outcome.parent.map(|p| p.to_string()),
        time: time.rfc3339(),
        order_time,
        sequence: series.sequence,
        hostname: options.host.clone(),
        username: options.user.clone(),
        paths: names.paths,
        tags: options.tags.clone(),
        label: options.label.clone(),
        program_version: PROGRAM.to_owned(),
        excludes: options.excludes.clone(),
        summary: outcome.summary,
        backup_start: outcome.start.rfc3339(),
        backup_end: outcome.end.rfc3339(),
        git,
        origin: None,
        repaired: None,
        sqlite: outcome.databases.clone(),
        json: outcome.json.clone(),
        before_restore: options.before_restore.clone(),
        guarded: options.guarded.clone().map(|guarded| with_versions(guarded, outcome)),
        expected: options.expected.clone(),
    }
}

/// With the versions that the databases have now; those before are known where this is the state after.
fn with_versions(mut guarded: Guarded, outcome: &Outcome) -> Guarded {
    if guarded.before.is_some() {
        for facts in outcome.databases.iter().flat_map(|all| all.databases.iter()) {
            match guarded.user_versions.iter_mut().find(|known| known.path == facts.path) {
                Some(known) => known.after = Some(facts.user_version),
                None => guarded.user_versions.push(UserVersions {
                    path: facts.path.clone(),
                    before: None,
                    after: Some(facts.user_version),
                }),
            }
        }
    }
    guarded
}

/// Asks git, beside the backup, which commit the source is at and whether it has changes.
pub struct GitProbe {
    running: Option<(Child, Child)>,
}

impl GitProbe {
    /// Only for a single source directory that is itself a work tree.
    pub fn start(input: &Input) -> Self {
        let mut roots = match input {
            Input::Files(source) => source.roots().map(|r| r.path.clone()).collect::<Vec<PathBuf>>(),
            Input::Stream { .. } | Input::Amended { .. } => Vec::new(),
        };
        let running = match (roots.pop(), roots.is_empty()) {
            (Some(root), true) if root.join(".git").exists() => {
                let git = |arguments: &[&str]| {
                    process::command("git".as_ref())
                        // Never write into the source, not even git's own index.
                        .env("GIT_OPTIONAL_LOCKS", "0")
                        .arg("-C")
                        .arg(&root)
                        .args(arguments)
                        .stdin(Stdio::null())
                        .stdout(Stdio::piped())
                        .stderr(Stdio::null())
                        .spawn()
                        .ok()
                };
                git(&["rev-parse", "HEAD"]).zip(git(&["status", "--porcelain", "--untracked-files=no"]))
            }
            _ => None,
        };
        GitProbe { running }
    }

    pub fn finish(self) -> Option<GitState> {
        let (commit, status) = self.running?;
        let (commit, status) = (commit.wait_with_output(), status.wait_with_output());
        let (commit, status) = (commit.ok()?, status.ok()?);
        let text = String::from_utf8(commit.stdout).ok()?;
        let is_commit = commit.status.success() && text.trim().bytes().all(|b| b.is_ascii_hexdigit());
        (is_commit && status.status.success() && !text.trim().is_empty())
            .then(|| GitState { commit: text.trim().to_owned(), dirty: !status.stdout.is_empty() })
    }
}
