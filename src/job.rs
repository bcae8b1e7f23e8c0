//! Words about jobs: what is done, why it began, and how it ended. Pure; written into journals and states as they are.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// One thing that a profile asks for; its text is its name everywhere (`backup:app`, `copy:usb`, `forget`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Job {
    /// Of the set with this name.
    Backup(String),
    /// Into the target with this name.
    Copy(String),
    Forget,
    Prune,
    Check,
    Drill,
    Health,
    Report,
}

impl Job {
    /// The first word of its name: the command that does it.
    pub fn word(&self) -> &'static str {
        match self {
            Job::Backup(_) => "backup",
            Job::Copy(_) => "copy",
            Job::Forget => "forget",
            Job::Prune => "prune",
            Job::Check => "check",
            Job::Drill => "drill",
            Job::Health => "health",
            Job::Report => "report",
        }
    }
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Job::Backup(name) | Job::Copy(name) => write!(f, "{}:{name}", self.word()),
            _ => f.write_str(self.word()),
        }
    }
}

impl FromStr for Job {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text.split_once(':') {
            Some(("backup", name)) if !name.is_empty() => Job::Backup(name.to_owned()),
            Some(("copy", name)) if !name.is_empty() => Job::Copy(name.to_owned()),
            None if text == "forget" => Job::Forget,
            None if text == "prune" => Job::Prune,
            None if text == "check" => Job::Check,
            None if text == "drill" => Job::Drill,
            None if text == "health" => Job::Health,
            None if text == "report" => Job::Report,
            _ => {
                return Err(Error::invalid(format!(
                    "`{text}` is no job; jobs are backup:SET, copy:TARGET, forget, prune, check, drill, health, report"
                )));
            }
        })
    }
}

impl TryFrom<String> for Job {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Job> for String {
    fn from(job: Job) -> Self {
        job.to_string()
    }
}

/// Why a job began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trigger {
    /// A person said so.
    Manual,
    /// A timer of the system.
    Schedule,
    Daemon,
    /// A file changed.
    Watch,
    /// It was missed while the machine was off.
    CatchUp,
}

impl Trigger {
    pub fn word(self) -> &'static str {
        match self {
            Trigger::Manual => "manual",
            Trigger::Schedule => "schedule",
            Trigger::Daemon => "daemon",
            Trigger::Watch => "watch",
            Trigger::CatchUp => "catch-up",
        }
    }
}

impl FromStr for Trigger {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let all = [Trigger::Manual, Trigger::Schedule, Trigger::Daemon, Trigger::Watch, Trigger::CatchUp];
        let found = all.into_iter().find(|t| t.word() == text);
        found.ok_or_else(|| Error::invalid(format!("`{text}` is no reason for a job to begin")))
    }
}

/// How a command or a job ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Ok,
    /// Done, but not all of it: sources that could not be read, findings that are warnings.
    Incomplete,
    #[default]
    Failed,
    /// Not begun, for a reason that is no failure.
    Skipped,
    /// By a rule that protects data.
    Refused,
    Interrupted,
}

impl Outcome {
    /// What an exit code means.
    pub fn of_code(code: u8) -> Self {
        match code {
            0 => Outcome::Ok,
            3 | 21 => Outcome::Incomplete,
            23 => Outcome::Refused,
            130 | 143 => Outcome::Interrupted,
            _ => Outcome::Failed,
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Incomplete => "incomplete",
            Outcome::Failed => "failed",
            Outcome::Skipped => "skipped",
            Outcome::Refused => "refused",
            Outcome::Interrupted => "interrupted",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Outcome {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        const ALL: [Outcome; 6] = [
            Outcome::Ok,
            Outcome::Incomplete,
            Outcome::Failed,
            Outcome::Skipped,
            Outcome::Refused,
            Outcome::Interrupted,
        ];
        ALL.into_iter().find(|outcome| outcome.word() == text).ok_or_else(|| {
            let words = ALL.map(Outcome::word).join(", ");
            Error::invalid(format!("`{text}` is no outcome; there are {words}"))
        })
    }
}

/// A command of the user's that was run around a job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HookRun {
    /// `run-before`, `run-after`, `run-failed` or `run-finally`.
    pub when: String,
    pub command: String,
    /// As shells number ends: 127 for one that could not be started, 124 for one that took too long.
    pub code: u8,
    pub seconds: f64,
    /// The last 4 KiB of what it wrote.
    pub output: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_job_leads_back_to_it() {
        for text in
            ["backup:app", "copy:usb", "forget", "prune", "check", "drill", "health", "report", "backup:a:b"]
        {
            let job: Job = text.parse().expect("a job");
            assert_eq!(job.to_string(), text);
            assert_eq!(serde_json::to_string(&job).expect("JSON"), format!("\"{text}\""));
        }
        for text in ["", "backup", "backup:", "copy", "forget:x", "restore"] {
            assert!(text.parse::<Job>().is_err(), "{text}");
        }
    }
}
