//! What a profile plans: where backups go, what is backed up, which jobs there are, and how they run.
//!
//! Plain values; `settings::parse` makes them of a profile's files and has checked all of it: names are unique, what is
//! named exists, schedules and sizes can be read.

use super::plan_health::{HealthLimits, MetricsPlan};
use super::plan_notify::Notify;
use crate::calendar::Expression;
use crate::error::{Error, Result};
use crate::job::Job;
use serde::Serialize;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// The name of `[repository]` where it has none of its own.
pub const PRIMARY: &str = "primary";

/// A whole profile.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Its name: that of its file without `.toml`.
    pub profile: String,
    /// The profile's own file first, then those it includes.
    pub files: Vec<PathBuf>,
    /// `[repository]` first. Never empty.
    pub targets: Vec<Target>,
    /// In an order in which each comes after those it names in `after`.
    pub sets: Vec<BackupSet>,
    /// All there are, also those without a schedule, which are run by hand.
    pub jobs: Vec<JobPlan>,
    /// `[forget]` has rules, for all sets without their own.
    pub general_forget: bool,
    /// Run around every job.
    pub hooks: Hooks,
    pub run: RunLimits,
    /// How long the journal keeps what happened.
    pub journal_keep: Duration,
    pub health: HealthLimits,
    pub notify: Notify,
    pub metrics: MetricsPlan,
}

impl Plan {
    pub fn target(&self, name: &str) -> Option<&Target> {
        self.targets.iter().find(|target| target.name == name)
    }

    pub fn set(&self, name: &str) -> Option<&BackupSet> {
        self.sets.iter().find(|set| set.name == name)
    }

    pub fn job(&self, job: &Job) -> Option<&JobPlan> {
        self.jobs.iter().find(|plan| plan.job == *job)
    }

    /// The job, or an error that names the jobs there are.
    pub fn job_or_error(&self, job: &Job) -> Result<&JobPlan> {
        self.job(job).ok_or_else(|| {
            let all: Vec<String> = self.jobs.iter().map(|plan| plan.job.to_string()).collect();
            let what =
                format!("the profile `{}` has no job `{job}`; it has: {}", self.profile, all.join(", "));
            Error::invalid(what)
        })
    }
}

/// A place for backups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    pub name: String,
    /// Empty when the profile names none: then the environment must.
    pub repository: OsString,
    /// Made when there is none.
    pub init: bool,
    /// That it is not there is no failure.
    pub optional: bool,
    /// The target whose snapshots are copied here, instead of backing up once more.
    pub from: Option<String>,
}

/// How much a set matters; health judges by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    Critical,
    #[default]
    High,
    Medium,
}

impl Class {
    pub fn word(self) -> &'static str {
        match self {
            Class::Critical => "critical",
            Class::High => "high",
            Class::Medium => "medium",
        }
    }
}

/// One `[[backup.snapshots]]`: what becomes a snapshot together.
#[derive(Clone, Debug, Default)]
pub struct BackupSet {
    pub name: String,
    pub class: Class,
    /// Absolute.
    pub sources: Vec<PathBuf>,
    /// Those of them that were named as databases.
    pub databases: Vec<PathBuf>,
    /// Backed up when its files change.
    pub watch: Option<Watch>,
    /// Names of sets that are backed up before this one when both are.
    pub after: Vec<String>,
    /// Names of targets.
    pub targets: Vec<String>,
    /// Less than this is a finding of health.
    pub minimum: Minimum,
    /// The newest good snapshot is overdue when it is older than this.
    pub max_age: Option<Duration>,
    pub hooks: Hooks,
    /// It has rules of its own for what `forget` keeps.
    pub own_forget: bool,
}

/// When changes become a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    /// Nothing has changed for this long,
    pub debounce: Duration,
    /// or the first change is this old.
    pub max_delay: Duration,
}

impl Default for Watch {
    fn default() -> Self {
        Watch { debounce: Duration::from_secs(5), max_delay: Duration::from_secs(60) }
    }
}

/// What a good snapshot of a set has at least.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Minimum {
    pub files: Option<u64>,
    pub bytes: Option<u64>,
    /// By table.
    pub rows: BTreeMap<String, u64>,
}

/// One job of the profile.
#[derive(Clone, Debug)]
pub struct JobPlan {
    pub job: Job,
    /// Empty for what is only run by hand.
    pub schedule: Vec<Expression>,
    /// Names of targets; empty for jobs that are about the whole profile.
    pub targets: Vec<String>,
    /// Of its section; run inside those of the profile.
    pub hooks: Hooks,
}

/// Commands around a job, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hooks {
    pub before: Vec<Hook>,
    /// After it went well.
    pub after: Vec<Hook>,
    /// After it did not.
    pub failed: Vec<Hook>,
    /// In any case, last.
    pub finally: Vec<Hook>,
}

/// A command of the user's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    pub command: HookCommand,
    /// It is ended, with all it started, when it takes longer.
    pub timeout: Duration,
    pub on_failure: OnFailure,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookCommand {
    /// For `/bin/sh -c`.
    Shell(String),
    /// A program and its arguments.
    Program(Vec<String>),
}

/// What a hook that fails does to its job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// The job does not begin. Only before it.
    Fail,
    Warn,
    Ignore,
}

/// How jobs that nobody waits for are run.
#[derive(Clone, Debug, PartialEq)]
pub struct RunLimits {
    /// Jobs begin up to this much later than planned, each machine and job by its own share of it.
    pub jitter: Duration,
    /// Further attempts at what may go better the next time.
    pub retries: u32,
    /// Before the first further attempt; doubled before each one after that, up to `retry_max`.
    pub retry_delay: Duration,
    pub retry_max: Duration,
    /// 0 to 19.
    pub nice: u8,
    pub io: IoClass,
    pub battery: Battery,
    /// Per cent; with less left in it, no job is begun on battery power.
    pub min_battery: u8,
    /// Jobs wait up to `load_wait` while the machine's load is higher than this.
    pub max_load: Option<f64>,
    pub load_wait: Duration,
    /// A job that takes longer is ended.
    pub timeout: Option<Duration>,
    /// Whose hours schedules mean that name no zone; `None`: the machine's.
    pub time_zone: Option<String>,
}

impl Default for RunLimits {
    fn default() -> Self {
        RunLimits {
            jitter: Duration::from_secs(300),
            retries: 3,
            retry_delay: Duration::from_secs(30),
            retry_max: Duration::from_secs(900),
            nice: 10,
            io: IoClass::BestEffort,
            battery: Battery::Run,
            min_battery: 30,
            max_load: None,
            load_wait: Duration::from_secs(1800),
            timeout: None,
            time_zone: None,
        }
    }
}

/// Whose turn it is at the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoClass {
    Idle,
    BestEffort,
    None,
}

/// On battery power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Battery {
    Skip,
    /// While there is more of it than `min_battery`.
    Run,
}
