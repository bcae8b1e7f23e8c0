//! One line of the journal: an operation, from its beginning to its end.

use crate::job::{HookRun, Outcome};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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
