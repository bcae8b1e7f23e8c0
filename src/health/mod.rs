//! Health: are the backups there, fresh, sound and restorable, and will there be room for the next ones?
//!
//! `gather` looks and judges nothing; `judge` looks at nothing and judges. What nobody could look at is said, never passed over.

pub mod alerts;
pub mod gather;
pub mod judge;
pub mod live;
pub mod series;
mod trend;

use crate::clock::Timestamp;
use crate::codes::Code;
use crate::error::{Error, Result};
use crate::repository::checks::Checked;
use crate::repository::drills::Drilled;
use crate::sqlite::check::Depth;
use serde::{Deserialize, Serialize};
use series::Series;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// How much hangs on a set of backups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    Medium,
    #[default]
    High,
    Critical,
}

impl Class {
    /// `critical`, `high` or `medium`; anything else counts as `high`.
    pub fn named(word: &str) -> Self {
        match word {
            "critical" => Class::Critical,
            "medium" => Class::Medium,
            _ => Class::High,
        }
    }
}

/// How bad something is, and how all of it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    #[default]
    Ok,
    Warning,
    Critical,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Critical => "critical",
        })
    }
}

/// Beyond which something is no longer well. Shares are of 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Age of the newest good snapshot where neither profile nor snapshot says one: of critical, high and medium sets.
    pub age_critical: Duration,
    pub age_high: Duration,
    pub age_medium: Duration,
    pub check_age: Duration,
    pub drill_age: Duration,
    /// Share of the disk that is free.
    pub free_warn: f64,
    pub free_critical: f64,
    /// The disk is going to be full within this.
    pub full_within: Duration,
    /// How much less, and how much more, than the median of the snapshots before.
    pub shrink: f64,
    pub grow: f64,
}

impl Default for Limits {
    fn default() -> Self {
        let days = |n: u64| Duration::from_secs(n * 86_400);
        Limits {
            age_critical: Duration::from_secs(3 * 3600),
            age_high: Duration::from_secs(26 * 3600),
            age_medium: days(8),
            check_age: days(35),
            drill_age: days(35),
            free_warn: 0.15,
            free_critical: 0.05,
            full_within: days(14),
            shrink: 0.3,
            grow: 2.0,
        }
    }
}

impl Limits {
    pub fn age(&self, class: Class) -> Duration {
        match class {
            Class::Critical => self.age_critical,
            Class::High => self.age_high,
            Class::Medium => self.age_medium,
        }
    }
}

/// How databases in use are looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LiveDepth {
    Full,
    #[default]
    Quick,
    Off,
}

impl LiveDepth {
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "full" => Ok(LiveDepth::Full),
            "quick" => Ok(LiveDepth::Quick),
            "off" => Ok(LiveDepth::Off),
            _ => Err(Error::invalid(format!("`{text}` is no depth of a check; use full, quick or off"))),
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            LiveDepth::Full => "full",
            LiveDepth::Quick => "quick",
            LiveDepth::Off => "off",
        }
    }

    pub fn depth(self) -> Option<Depth> {
        match self {
            LiveDepth::Full => Some(Depth::Full),
            LiveDepth::Quick => Some(Depth::Quick),
            LiveDepth::Off => None,
        }
    }
}

/// A set of backups that somebody has asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    pub profile: String,
    pub set: String,
    pub class: Class,
    /// `None`: as the class has it.
    pub max_age: Option<Duration>,
    /// Backed up at all by some schedule; otherwise nobody expects one.
    pub scheduled: bool,
    /// As snapshots record them.
    pub paths: Vec<String>,
    pub min_files: Option<u64>,
    pub min_bytes: Option<u64>,
    /// Rows by table, `TABLE` or `DATABASE:TABLE`.
    pub min_rows: BTreeMap<String, u64>,
}

/// A database in use, and what it was found to be.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveFound {
    /// As people write it.
    pub path: String,
    pub state: LiveState,
}

#[derive(Clone, Debug, PartialEq)]
pub enum LiveState {
    Sound,
    /// Rows whose foreign key leads nowhere.
    Orphans(u64),
    /// What SQLite says.
    Damaged(String),
    /// It was in the newest backup and is not there.
    Gone,
    /// Why nobody could look.
    Unseen(String),
}

/// Bytes of the disk that the repository lies on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Space {
    pub free: u64,
    pub total: u64,
}

/// A drill and the snapshot it was made with.
#[derive(Clone, Debug, PartialEq)]
pub struct DrillFact {
    pub snapshot: String,
    pub drilled: Drilled,
}

/// What this machine remembers of a job.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobFact {
    /// `backup:app@primary`.
    pub name: String,
    pub last_success: Option<Timestamp>,
    pub consecutive_failures: u64,
    pub last_message: String,
    /// When it was to run next.
    pub next: Option<Timestamp>,
    /// Runs by a schedule, and not by hand only.
    pub scheduled: bool,
}

/// All that a judgement needs; nothing in it has been judged.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub now: Timestamp,
    pub host: String,
    /// Where the repository lies, for people.
    pub place: String,
    pub profile: Option<String>,
    pub target: Option<String>,
    pub series: Vec<Series>,
    /// What the profile asks for; empty where there is none.
    pub wanted: Vec<Wanted>,
    /// An age given on the command line for series that nobody has said one for.
    pub max_age: Option<Duration>,
    pub snapshots: u64,
    pub oldest: Option<Timestamp>,
    /// Snapshots from the future, by their own clock.
    pub future: Vec<String>,
    /// Short ids, and why.
    pub unreadable: Vec<(String, String)>,
    pub unread_notes: u64,
    pub from_copies: u64,
    pub checks: Vec<Checked>,
    /// The last drill of all, and the last that proved a whole snapshot.
    pub drill_last: Option<DrillFact>,
    pub drill_proven: Option<DrillFact>,
    /// Short ids of safety snapshots, and the places that may be mixtures.
    pub unsettled: Vec<(String, String)>,
    pub live: Vec<LiveFound>,
    pub space: Option<Space>,
    /// When snapshots were made, and what each added to the disk, in bytes.
    pub added: Vec<(Timestamp, u64)>,
    pub copies_missing: u64,
    /// Packs without the parity that they should have.
    pub parity_missing: u64,
    pub jobs: Vec<JobFact>,
}

/// Something that is not well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub code: Code,
    pub severity: Verdict,
    /// The set, database, snapshot or place it is about.
    pub subject: String,
    /// What was seen, with its figures.
    pub cause: String,
    pub consequence: String,
    pub next: String,
}

impl Finding {
    /// With what the code says of consequence and next step.
    pub fn new(code: Code, severity: Verdict, subject: impl Into<String>, cause: impl Into<String>) -> Self {
        let (subject, cause) = (subject.into(), cause.into());
        let (consequence, next) = (code.consequence().to_owned(), code.next().to_owned());
        Finding { code, severity, subject, cause, consequence, next }
    }

    /// With a next step that names the thing itself.
    #[must_use]
    pub fn then(mut self, next: impl Into<String>) -> Self {
        self.next = next.into();
        self
    }
}

/// A series in figures, for graphs and tables.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    pub name: String,
    pub host: String,
    pub set: Option<String>,
    pub snapshots: u64,
    /// Seconds since the newest snapshot, and since the newest good one.
    pub age_seconds: Option<u64>,
    pub good_age_seconds: Option<u64>,
    pub max_age_seconds: Option<u64>,
    pub files: u64,
    pub bytes: u64,
    pub added: u64,
}

/// The judgement.
#[derive(Clone, Debug, Default)]
pub struct Status {
    pub now: Timestamp,
    pub host: String,
    pub place: String,
    pub profile: Option<String>,
    pub target: Option<String>,
    pub verdict: Verdict,
    /// The repository could be looked at; otherwise nothing else here says anything about it.
    pub seen: bool,
    /// The worst first.
    pub findings: Vec<Finding>,
    pub series: Vec<Figures>,
    pub snapshots: u64,
    pub space: Option<Space>,
    /// Days until the disk is full, if it goes on like this.
    pub days_left: Option<f64>,
    /// Seconds since then; `None`: never.
    pub check_age_seconds: Option<u64>,
    pub read_age_seconds: Option<u64>,
    pub drill_age_seconds: Option<u64>,
    /// Databases in use that were looked at.
    pub live: u64,
    /// What could not be looked at or is not known, for people.
    pub unknown: Vec<String>,
}
