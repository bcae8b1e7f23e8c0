//! One line of the journal: an operation, from its beginning to its end.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// How an operation or a job ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Ok,
    /// Done, but not of everything: some sources could not be read.
    Incomplete,
    #[default]
    Failed,
    /// Not begun, for a reason that is told.
    Skipped,
    /// A safety rule said no.
    Refused,
    Interrupted,
}

impl Outcome {
    /// What an exit code says.
    pub fn of_code(code: u8) -> Self {
        match code {
            0 => Outcome::Ok,
            3 => Outcome::Incomplete,
            23 => Outcome::Refused,
            130 => Outcome::Interrupted,
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
    type Err = crate::error::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
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
            crate::error::Error::invalid(format!("`{text}` is no outcome; there are {words}"))
        })
    }
}

/// A command that ran before or after a job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HookRun {
    /// `run-before`, `run-after`, `run-failed` or `run-finally`.
    pub when: String,
    pub command: String,
    /// As shells number it; 124 when its time was up.
    pub code: u8,
    pub seconds: f64,
    /// The last 4 KiB of what it wrote.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub output: String,
}

/// An operation. Fields that a later version adds are skipped by this one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// When it began, RFC 3339.
    pub time: String,
    /// The words of the command, `repair packs`; `job` for a whole job.
    pub command: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// `backup:app`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// `manual`, `schedule`, `daemon`, `watch` or `catch-up`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger: Option<String>,
    /// From 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// The place, without secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    pub outcome: Outcome,
    /// The exit code.
    pub code: u8,
    pub seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
    /// Bytes of what was backed up or restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Bytes that the repository grew by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub added: Option<u64>,
    /// Why it failed or was skipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// How often each warning was given, by its code.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub warnings: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<HookRun>,
    pub host: String,
}
