//! Restores over what is there: where each thing came from, and the snapshot of what stands there now, made first.

use crate::backup::{self, Input, Options, ParentChoice, SqliteOptions};
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::compress::Level;
use crate::error::{Error, ErrorKind, Result};
use crate::format::snapshot::{BeforeRestore, Snapshot};
use crate::id::SnapshotId;
use crate::manifest::walk::is_below;
use crate::os::dir::status_at_path;
use crate::os::process::host_name;
use crate::progress::{Progress, Report, Silent};
use crate::repository::Repository;
use crate::repository::notes::{Pin, set_pin};
use crate::repository::snapshots::{Listed, Listing, decode_path, encode_path, list};
use crate::restore::{InPlace, Overwrite, Resave, RestoreOptions};
use crate::source::filter::{Filter, FilterOptions};
use crate::source::roots::Root;
use crate::source::{FileSource, WalkOptions};
use crate::sqlite::check::Depth;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The tag of safety snapshots.
pub const TAG: &str = "before-restore";

/// One thing to put back, with all below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its stored path.
    pub below: Vec<u8>,
    /// Stored path of the directory that its source stood in; links on the way there count, as they did for the backup, but
    /// none after it.
    pub base: Vec<u8>,
}

impl Part {
    /// The directory that `base` stands for.
    pub fn target(&self) -> PathBuf {
        real(&self.base)
    }

    /// Where the thing itself goes.
    pub fn place(&self) -> PathBuf {
        real(&self.below)
    }

    /// The options for this part out of those for all.
    pub fn options(&self, all: &RestoreOptions, saved: Option<&Saved>, wait: Duration) -> RestoreOptions {
        let scratch = std::env::temp_dir();
        let resave = saved.map(Saved::resave);
        let saved = saved.map(|saved| saved.at);
        let in_place = Some(InPlace { base: self.base.clone(), saved, resave, scratch, wait });
        RestoreOptions { below: self.below.clone(), strip: false, in_place, ..all.clone() }
    }
}

fn real(stored: &[u8]) -> PathBuf {
    Path::new("/").join(OsStr::from_bytes(stored))
}

fn parent(stored: &[u8]) -> Vec<u8> {
    stored[..stored.iter().rposition(|&b| b == b'/').unwrap_or(0)].to_vec()
}

/// What of a snapshot goes back where: its sources, or what is asked for of them.
pub fn parts(record: &Snapshot, below: &[u8]) -> Result<Vec<Part>> {
    let mut roots: Vec<Vec<u8>> =
        record.paths.iter().map(|path| decode_path(path.trim_start_matches('/'))).collect();
    roots.sort();
    let outer: Vec<&Vec<u8>> = roots
        .iter()
        .filter(|root| !roots.iter().any(|other| other != *root && is_below(root, other)))
        .collect();
    let inside = outer.iter().filter(|root| is_below(root, below));
    let whole: Vec<Part> = inside.map(|root| Part { below: (*root).clone(), base: parent(root) }).collect();
    if !whole.is_empty() {
        return Ok(whole);
    }
    match outer.iter().find(|root| is_below(below, root)) {
        Some(root) => Ok(vec![Part { below: below.to_vec(), base: parent(root) }]),
        None => {
            let shown = String::from_utf8_lossy(below);
            Err(Error::new(ErrorKind::NotFound, format!("the snapshot does not hold `/{shown}`")))
        }
    }
}

/// How files that are there are treated unless the user says otherwise.
pub const OVERWRITE: Overwrite = Overwrite::IfDifferent;

/// What a safety snapshot needs to know.
pub struct Safety<'a> {
    pub repository: &'a Arc<Repository>,
    pub listing: &'a Listing,
    /// What will be put back; none before a change of another kind.
    pub from: Option<&'a Listed>,
    /// That change, for the label: `vacuum of`.
    pub change: &'a str,
    pub parts: &'a [Part],
    pub options: &'a RestoreOptions,
    /// It takes an earlier restore back.
    pub undo: bool,
    /// The end of the restore will be noted; not for one that is a single step.
    pub end_noted: bool,
    pub level: Level,
    /// Directories of our own.
    pub ours: &'a [PathBuf],
    /// How long to wait for a database that somebody keeps locked.
    pub wait: Duration,
    pub clock: &'a dyn Clock,
}

/// Between the moment that a safety snapshot counts from and the first look at anything, so that no coarse time stamp of a
/// later change can lie before that moment.
const TICK: Duration = Duration::from_millis(15);

/// A safety snapshot.
pub struct Saved {
    /// What could not be read.
    pub problems: u64,
    /// Everything that was touched before is in it.
    pub at: Timestamp,
    keeper: Arc<Keeper>,
}

impl Saved {
    /// The newest of them: it holds everything.
    pub fn id(&self) -> SnapshotId {
        self.ids().last().copied().unwrap_or(self.keeper.first)
    }

    /// All of them, the oldest first: the end of the restore is noted of each.
    pub fn ids(&self) -> Vec<SnapshotId> {
        let later = self.keeper.later.lock().unwrap_or_else(PoisonError::into_inner);
        std::iter::once(self.keeper.first).chain(later.iter().copied()).collect()
    }

    /// How to bring it up to date with a database that was written to since.
    pub fn resave(&self) -> Resave {
        let keeper = Arc::clone(&self.keeper);
        Resave(Arc::new(move |path| keeper.save_again(path)))
    }
}

/// What is needed to make a safety snapshot once more, with a database as it is now.
struct Keeper {
    repository: Arc<Repository>,
    options: Options,
    first: SnapshotId,
    later: Mutex<Vec<SnapshotId>>,
}

impl Keeper {
    /// Called while nobody else can write to the database. `None` when it is as it was saved.
    fn save_again(&self, path: &[u8]) -> Result<Option<SnapshotId>> {
        let mut later = self.later.lock().unwrap_or_else(PoisonError::into_inner);
        let walk = WalkOptions { started: SystemClock.now(), ..WalkOptions::default() };
        let filter = Filter::new(&FilterOptions { no_ignore_files: true, ..FilterOptions::default() })?;
        let source = Box::new(FileSource::new(vec![Root::new(&real(path))?], filter, walk)?);
        // Writers wait for this: what SQLite thinks of the state can be asked later.
        let sqlite = SqliteOptions { check: Some(Depth::Off), ..self.options.sqlite.clone() };
        let parent = ParentChoice::Given(later.last().copied().unwrap_or(self.first));
        let options = Options { parent, sqlite, skip_if_unchanged: true, ..self.options.clone() };
        let input = Input::Amended { source, path: path.to_vec() };
        let done = backup::run(&self.repository, &input, &options, &SystemClock, &Progress::new(), &Silent)?;
        if done.summary.problems > 0 {
            return Err(Error::new(ErrorKind::Refused, "its present state could not be read whole"));
        }
        if let Some(id) = done.snapshot {
            keep(&self.repository, id, self.options.label.clone(), SystemClock.now())?;
            later.push(id);
        }
        Ok(done.snapshot)
    }
}

/// Pins a safety snapshot.
fn keep(repository: &Arc<Repository>, id: SnapshotId, label: Option<String>, now: Timestamp) -> Result<()> {
    let missing = || Error::invalid("no safety snapshot came into being");
    let listing = list(repository)?;
    let made = listing.snapshots.iter().find(|l| l.id == id).ok_or_else(missing)?;
    set_pin(repository, made, Some(Pin { label }), now)
}

impl Safety<'_> {
    /// Stores all that stands at the parts now, left out by no rule, and pins it.
    pub fn save(&self, progress: &Progress, report: &dyn Report) -> Result<Saved> {
        let at = self.clock.now();
        std::thread::sleep(TICK);
        let there = self.parts.iter().filter(|part| status_at_path(&part.place()).is_ok());
        let roots = there.map(|part| Root::new(&part.place())).collect::<Result<Vec<_>>>()?;
        let real = self.ours.iter().filter_map(|place| place.canonicalize().ok());
        let skip = real.filter_map(|place| status_at_path(&place).ok()).map(|s| s.id()).collect();
        let walk = WalkOptions { started: at, one_file_system: false, skip };
        let filter = Filter::new(&FilterOptions { no_ignore_files: true, ..FilterOptions::default() })?;
        let source = FileSource::new(roots, filter, walk)?;
        let label = self.label();
        let options = Options {
            level: self.level,
            parent: self.parent(),
            tags: vec![TAG.to_owned()],
            label: Some(label),
            reread_percent: 0.0,
            before_restore: Some(self.record()),
            sqlite: SqliteOptions { wait: self.wait, ..SqliteOptions::default() },
            ..Options::default()
        };
        let input = Input::Files(Box::new(source));
        let done = backup::run(self.repository, &input, &options, self.clock, progress, report)?;
        let missing = || Error::invalid("no safety snapshot came into being");
        let id = done.snapshot.ok_or_else(missing)?;
        keep(self.repository, id, options.label.clone(), self.clock.now())?;
        // One that is damaged in itself is stored as it is: nothing of it is missing.
        let all = done.databases.iter().flat_map(|all| all.databases.iter());
        let damaged = all.filter(|facts| facts.check.result == "failed").count() as u64;
        let repository = Arc::clone(self.repository);
        let keeper = Arc::new(Keeper { repository, options, first: id, later: Mutex::default() });
        Ok(Saved { problems: done.summary.problems.saturating_sub(damaged), at, keeper })
    }

    fn label(&self) -> String {
        let what = match (self.from, self.undo) {
            (None, _) => self.change.to_owned(),
            (Some(from), true) => format!("undo with {} to", from.id.short()),
            (Some(from), false) => format!("restore of {} to", from.id.short()),
        };
        let place = match self.parts {
            [one] => encode_path(&[b"/", one.below.as_slice()].concat()),
            many => format!("{} places", many.len()),
        };
        format!("before {what} {place}")
    }

    fn record(&self) -> BeforeRestore {
        let options = self.options;
        BeforeRestore {
            from: self.from.map(|from| from.record.id.clone()).unwrap_or_default(),
            paths: self.parts.iter().map(|part| format!("/{}", encode_path(&part.below))).collect(),
            includes: options.includes.clone(),
            iincludes: options.iincludes.clone(),
            excludes: options.excludes.clone(),
            iexcludes: options.iexcludes.clone(),
            delete: options.delete,
            undo: self.undo,
            end_noted: self.end_noted,
        }
    }

    /// The newest snapshot of this host that has seen the first part: most of it will be as it was then.
    fn parent(&self) -> ParentChoice {
        let host = host_name();
        let Some(first) = self.parts.first() else { return ParentChoice::Auto };
        let seen = |l: &&Listed| {
            let covers = |path: &String| is_below(&first.below, &decode_path(path.trim_start_matches('/')));
            l.record.hostname == host && l.record.paths.iter().any(covers)
        };
        self.listing.snapshots.iter().rfind(seen).map_or(ParentChoice::Auto, |l| ParentChoice::Given(l.id))
    }
}

/// Refuses to delete where the repository, or another directory of our own, would be among what goes.
pub fn spare_ours(parts: &[Part], ours: &[PathBuf]) -> Result<()> {
    for part in parts {
        let Ok(place) = part.place().canonicalize() else { continue };
        for own in ours.iter().filter_map(|own| own.canonicalize().ok()) {
            if own.starts_with(&place) {
                let what = format!(
                    "--delete in {} is refused: {} lies in it and belongs to snapkeep itself; name a directory below it",
                    place.display(),
                    own.display()
                );
                return Err(Error::new(ErrorKind::Refused, what));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_the_sources_or_lie_in_one() {
        let paths = |all: &[&str]| Snapshot {
            paths: all.iter().map(|&p| p.to_owned()).collect(),
            ..Snapshot::default()
        };
        let part = |below: &str, base: &str| Part { below: below.into(), base: base.into() };
        let of = |all: &[&str], below: &str| parts(&paths(all), below.as_bytes());
        let two = ["/srv/b", "/srv/a", "/srv/a/inner"];
        assert_eq!(of(&two, "").expect("all"), [part("srv/a", "srv"), part("srv/b", "srv")]);
        assert_eq!(of(&two, "srv").expect("both"), [part("srv/a", "srv"), part("srv/b", "srv")]);
        assert_eq!(of(&two, "srv/a/x/y").expect("inside"), [part("srv/a/x/y", "srv")]);
        assert_eq!(of(&["/"], "etc/x").expect("inside"), [part("etc/x", "")]);
        assert_eq!(of(&["/"], "").expect("all"), [part("", "")]);
        assert!(of(&two, "home").is_err());
        assert_eq!(part("srv/a", "srv").target(), Path::new("/srv"));
    }
}
