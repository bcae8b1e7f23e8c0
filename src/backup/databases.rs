//! The databases of one backup: which there are, whose state is already held, what became of each.
//!
//! Databases known from the parent are pinned before the walk begins, so that their states belong to one moment, as nearly as
//! can be. The walk meets them and new ones; what stands beside a database (its log, its journal) waits until it is clear
//! whether the database was captured, and is stored as a file only if it was not.

use super::facts;
use super::pipeline::Shared;
use crate::clock::{Clock, Timestamp};
use crate::error::Result;
use crate::format::entry::{Entry, Flags};
use crate::format::snapshot::{DatabaseFacts, Databases as Recorded};
use crate::progress::Progress;
use crate::repository::snapshots::{decode_path, encode_path};
use crate::source::filter::Patterns;
use crate::source::{FileSource, Found, Step};
use crate::sqlite::check::Depth;
use crate::sqlite::header::JOURNAL_MAGIC;
use crate::sqlite::pin::{self, Pin, Refusal};
use crate::sqlite::place::Place;
use crate::sqlite::{COMPANIONS, MAGIC, wal};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Databases up to this size are checked in full unless the user says otherwise.
const FULL_CHECK_BYTES: u64 = 256 << 20;
/// Databases pinned ahead; each costs three descriptors.
const AHEAD_MAX: usize = 1000;
/// Copies made under a lock stay in memory up to this many bytes: ahead of the walk all of them together wait.
const MEMORY_AHEAD: usize = 256 << 10;
const MEMORY: usize = 16 << 20;

/// What to do about databases.
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    /// Capture them; otherwise they are files like any other, marked unverified.
    pub capture: bool,
    /// How much to check; `None` decides by size.
    pub check: Option<Depth>,
    /// Walk once to find and pin all of them before any byte is read.
    pub pin_first: bool,
    /// How long to wait for a database that somebody else keeps to himself.
    pub wait: Duration,
    /// Databases to store as plain files all the same.
    pub plain: Option<Patterns>,
    /// Where copies go that are too large for memory.
    pub scratch: PathBuf,
    /// Use SQLite's way to pin a log where this build has one.
    pub can_pin: bool,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        SqliteOptions {
            capture: true,
            check: None,
            pin_first: false,
            wait: Duration::from_secs(30),
            plain: None,
            scratch: std::env::temp_dir(),
            can_pin: true,
        }
    }
}

/// What became of a database, for what stands beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Captured, or reported: its companions are nothing by themselves.
    Database,
    /// Stored as a file, and so are they.
    Plain,
}

/// A database that the walk will meet, or has met.
#[derive(Default)]
pub struct Slot {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    ahead: Option<Pin>,
    /// The walk has met the database, so that somebody has the duty to decide its fate.
    met: bool,
    fate: Option<Fate>,
}

impl Slot {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn decide(&self, fate: Fate) {
        self.state().fate.get_or_insert(fate);
        self.changed.notify_all();
    }

    /// The fate, waiting a moment for it.
    pub fn fate(&self) -> Option<Fate> {
        let state = self.state();
        let wait = Duration::from_millis(20);
        let waited = self.changed.wait_timeout_while(state, wait, |state| state.fate.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.fate
    }
}

/// The duty to decide a slot's fate; whoever fails to has failed altogether.
pub struct Claim(Arc<Slot>);

impl Claim {
    fn new(slot: &Arc<Slot>) -> Self {
        slot.state().met = true;
        Claim(Arc::clone(slot))
    }

    pub fn decide(&self, fate: Fate) {
        self.0.decide(fate);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.decide(Fate::Database);
    }
}

/// What a thing met on the walk is.
pub enum Meeting {
    Ordinary,
    /// A database, to all appearances, that only its key opens.
    Encrypted,
    Database(Claim),
    /// Belongs to a database.
    Companion(Arc<Slot>),
}

/// A captured file that has several names.
pub type LinkCell = Arc<Mutex<Option<(crate::format::entry::Content, DatabaseFacts)>>>;

/// All databases of a backup.
pub struct Databases<'a> {
    options: &'a SqliteOptions,
    clock: &'a dyn Clock,
    progress: &'a Progress,
    /// What the parent's record says, by paths as records hold them.
    known: HashMap<String, DatabaseFacts>,
    slots: Mutex<HashMap<Vec<u8>, Arc<Slot>>>,
    links: Mutex<HashMap<(u64, u64), LinkCell>>,
    done: Mutex<Done>,
}

#[derive(Default)]
struct Done {
    facts: Vec<DatabaseFacts>,
    paths: HashSet<String>,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
}

impl<'a> Databases<'a> {
    pub fn new(
        options: &'a SqliteOptions,
        known: Option<&Recorded>,
        clock: &'a dyn Clock,
        progress: &'a Progress,
    ) -> Self {
        let known = known.map(|all| all.databases.as_slice()).unwrap_or_default();
        let known = known.iter().map(|facts| (facts.path.clone(), facts.clone())).collect();
        let (slots, links, done) = Default::default();
        Databases { options, clock, progress, known, slots, links, done }
    }

    /// Pins what is known to be there, or with `pin_first` everything there is.
    pub fn pin_ahead(&self, source: &FileSource) -> Result<()> {
        if !self.options.capture {
            return Ok(());
        }
        let mut known: Vec<Vec<u8>> =
            self.known.keys().map(|path| decode_path(path.trim_start_matches('/'))).collect();
        known.sort();
        for path in known {
            let Ok(real) = source.real_path(&path) else { continue };
            if source.explain(&real).is_ok_and(|why| why.included)
                && let Ok(place) = Place::at(&real)
            {
                self.pin_one_ahead(&path, &place)?;
            }
        }
        if self.options.pin_first {
            source.walk(self.progress, &mut |step| {
                self.progress.keep_going()?;
                match step {
                    Step::Found(found) if found.entry.is_file() && found.size >= 512 => {
                        self.pin_one_ahead(&found.entry.path, &found.opener.place())
                    }
                    _ => Ok(()),
                }
            })?;
        }
        Ok(())
    }

    /// Whatever fails here is tried again, and reported, when the walk comes by.
    fn pin_one_ahead(&self, path: &[u8], place: &Place) -> Result<()> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let known = slots.contains_key(path) || slots.len() >= AHEAD_MAX;
        if known || !self.wants(path) || !matches!(place.header(), Ok(Some(_))) {
            return Ok(());
        }
        match self.pin_now(place, false, Duration::ZERO, MEMORY_AHEAD) {
            Ok(pin) => {
                let state = State { ahead: Some(pin), ..State::default() };
                slots.insert(path.to_vec(), Arc::new(Slot { state: Mutex::new(state), ..Slot::default() }));
                Ok(())
            }
            Err(_) => self.progress.keep_going(),
        }
    }

    fn pin_now(
        &self,
        place: &Place,
        firmly: bool,
        wait: Duration,
        memory: usize,
    ) -> std::result::Result<Pin, Refusal> {
        let rules = pin::Rules {
            wait,
            scratch: &self.options.scratch,
            memory,
            clock: self.clock,
            keep_going: &|| self.progress.keep_going(),
            firmly,
            can_pin: self.options.can_pin,
        };
        pin::pin(place, &rules)
    }

    /// Whether a database at this path is to be captured.
    pub fn wants(&self, path: &[u8]) -> bool {
        let plain = self.options.plain.as_ref().and_then(|patterns| patterns.decide(path, false));
        self.options.capture && plain != Some(true)
    }

    /// Whether the walk must come by with this file, which the parent does not have: it is pinned, or stands beside a
    /// database. Others that turn out to be databases are met by whoever reads them.
    pub fn expects(&self, path: &[u8]) -> bool {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let mut mains = COMPANIONS.iter().filter_map(|suffix| path.strip_suffix(suffix.as_bytes()));
        !slots.is_empty() && (slots.contains_key(path) || mains.any(|main| slots.contains_key(main)))
    }

    /// What stands here; `old` is the parent's entry. Asked in the order of the walk.
    pub fn meet(&self, found: &Found, old: Option<&Entry>) -> Meeting {
        let path = &found.entry.path;
        if !self.options.capture || !found.entry.is_file() {
            return Meeting::Ordinary;
        }
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let mains = COMPANIONS.iter().filter_map(|suffix| path.strip_suffix(suffix.as_bytes()));
        if let Some(slot) = mains.filter_map(|main| slots.get(main)).find(|slot| slot.state().met) {
            return Meeting::Companion(Arc::clone(slot));
        }
        if let Some(slot) = slots.get(path) {
            return Meeting::Database(Claim::new(slot));
        }
        let marked = old.is_some_and(|old| old.flags.has(Flags::UNVERIFIED));
        let hinted = found.companions || marked || self.known(path).is_some();
        if !hinted || !self.wants(path) {
            return Meeting::Ordinary;
        }
        let place = found.opener.place();
        let log = || place.start("-wal", 4).is_ok_and(|start| wal::is_log(&start));
        let journal = || place.start("-journal", 8).is_ok_and(|start| start == JOURNAL_MAGIC);
        let magic = place.start("", MAGIC.len()).is_ok_and(|start| start == MAGIC);
        if magic || (found.size == 0 && log()) {
            let slot = slots.entry(path.clone()).or_default();
            return Meeting::Database(Claim::new(slot));
        }
        if found.size > 0 && found.companions && (log() || journal()) {
            Meeting::Encrypted
        } else {
            Meeting::Ordinary
        }
    }

    /// What the parent's record says of the database at this path.
    pub fn known(&self, path: &[u8]) -> Option<&DatabaseFacts> {
        self.known.get(&format!("/{}", encode_path(path)))
    }

    /// Holds its state, or takes over the one held since the beginning.
    pub fn pin(
        &self,
        found: &Found,
        claim: Option<&Claim>,
        firmly: bool,
    ) -> std::result::Result<Pin, Refusal> {
        let ahead = claim.and_then(|claim| claim.0.state().ahead.take());
        let here = (found.dev, found.stat.inode);
        match ahead.filter(|pin| !firmly && pin.main.id() == here && pin.holds()) {
            Some(pin) => Ok(pin),
            None => self.pin_now(&found.opener.place(), firmly, self.options.wait, MEMORY),
        }
    }

    /// How much to check of an image of so many bytes.
    pub fn depth(&self, len: u64) -> Depth {
        match self.options.check {
            Some(depth) => depth,
            None if len <= FULL_CHECK_BYTES => Depth::Full,
            None => Depth::Quick,
        }
    }

    /// Where temporary copies go.
    pub fn scratch(&self) -> &Path {
        &self.options.scratch
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The place where the names of one file agree on its content.
    pub fn link(&self, found: &Found) -> Option<LinkCell> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        (found.entry.link != 0).then(|| Arc::clone(links.entry((found.dev, found.stat.inode)).or_default()))
    }

    pub fn note(&self, facts: DatabaseFacts, at: Timestamp) {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.first = Some(done.first.map_or(at, |first| first.min(at)));
        done.last = Some(done.last.map_or(at, |last| last.max(at)));
        done.paths.insert(facts.path.clone());
        done.facts.push(facts);
    }

    /// What the parent's record says of the database at this path, if there is one, is said again.
    pub fn carry(&self, path: &[u8]) {
        if let Some(facts) = self.known(path) {
            let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
            done.paths.insert(facts.path.clone());
            done.facts.push(facts.clone());
        }
    }

    /// Whether this is a captured database, or stands beside one as a part of it.
    pub fn accounts_for(&self, path: &[u8]) -> bool {
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        if done.paths.is_empty() {
            return false;
        }
        let mut mains = COMPANIONS.iter().filter_map(|suffix| path.strip_suffix(suffix.as_bytes()));
        let is_captured = |path: &[u8]| done.paths.contains(&format!("/{}", encode_path(path)));
        is_captured(path) || mains.any(is_captured)
    }

    /// What to record.
    pub fn finish(self) -> Option<Recorded> {
        let done = self.done.into_inner().unwrap_or_else(PoisonError::into_inner);
        let (first, last) = (done.first.unwrap_or_default(), done.last.unwrap_or_default());
        let skew = last.nanoseconds().saturating_sub(first.nanoseconds()) / 1_000_000;
        facts::fit(done.facts, skew.unsigned_abs())
    }
}

/// Waits until it is decided what a companion belongs to, and helps the others meanwhile.
pub fn await_fate(shared: &Shared<'_>, slot: &Slot, help: &mut dyn FnMut() -> Result<()>) -> Result<Fate> {
    loop {
        if let Some(fate) = slot.fate() {
            return Ok(fate);
        }
        shared.progress.keep_going()?;
        help()?;
    }
}
