//! What is known of each job of a profile: how it ended last, how often it failed in a row, when it is to run next.

use super::{Journal, file_name, files};
use crate::clock::Timestamp;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::job::Outcome;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

const FOLDER: &str = "jobs";

/// One job, or one target of it. Times are RFC 3339.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobState {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_start: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_end: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_outcome: Option<Outcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_code: Option<u8>,
    /// When the last run ended of which nothing was missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_success: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_added: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_snapshot: Option<String>,
    /// Runs since the last one that did not fail.
    pub consecutive_failures: u32,
    /// When it is to run next, jitter included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Why it was not begun when it was due last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_skip_reason: Option<String>,
}

/// How one run ended.
#[derive(Clone, Debug, Default)]
pub struct End {
    pub start: Timestamp,
    pub end: Timestamp,
    pub outcome: Outcome,
    pub code: u8,
    /// Why it failed or was skipped.
    pub message: Option<String>,
    pub bytes: Option<u64>,
    pub added: Option<u64>,
    pub snapshot: Option<String>,
}

impl JobState {
    /// Takes in how a run ended. One that was skipped is no run: only its reason is kept.
    pub fn ended(&mut self, end: &End) {
        if end.outcome == Outcome::Skipped {
            self.last_skip_reason.clone_from(&end.message);
            return;
        }
        let seconds = (end.end.secs - end.start.secs) as f64
            + (f64::from(end.end.nanos) - f64::from(end.start.nanos)) / 1e9;
        self.last_start = Some(end.start.rfc3339());
        self.last_end = Some(end.end.rfc3339());
        self.last_outcome = Some(end.outcome);
        self.last_code = Some(end.code);
        self.last_message.clone_from(&end.message);
        self.last_seconds = Some(seconds.max(0.0));
        self.last_skip_reason = None;
        // What a failed run does not know stays as the last one knew it.
        self.last_bytes = end.bytes.or(self.last_bytes);
        self.last_added = end.added.or(self.last_added);
        self.last_snapshot = end.snapshot.clone().or_else(|| self.last_snapshot.take());
        match end.outcome {
            Outcome::Ok => {
                self.last_success.clone_from(&self.last_end);
                self.consecutive_failures = 0;
            }
            Outcome::Incomplete => self.consecutive_failures = 0,
            Outcome::Failed | Outcome::Refused => self.consecutive_failures += 1,
            Outcome::Interrupted | Outcome::Skipped => {}
        }
    }

    /// When the last run began.
    pub fn started(&self) -> Option<Timestamp> {
        self.last_start.as_deref().and_then(Timestamp::parse_rfc3339)
    }

    /// When the next run is planned.
    pub fn planned(&self) -> Option<Timestamp> {
        self.next.as_deref().and_then(Timestamp::parse_rfc3339)
    }
}

/// The states of a profile's jobs, by `job_key`.
pub type JobStates = BTreeMap<String, JobState>;

/// `backup:app` for the job, `backup:app@usb` for what it did to one target.
pub fn job_key(job: &str, target: Option<&str>) -> String {
    target.map_or_else(|| job.to_owned(), |target| format!("{job}@{target}"))
}

/// Held while a job runs; given back when dropped, or when the process ends in whatever way.
#[derive(Debug)]
pub struct JobLock {
    _file: File,
}

impl Journal {
    fn states_path(&self, profile: &str) -> PathBuf {
        self.dir().join(FOLDER).join(format!("{}.json", file_name(profile)))
    }

    /// What is known of the profile's jobs; the second part says so if the file was broken and had to be set aside.
    /// A profile of which nothing is known has no states.
    pub fn states(&self, profile: &str) -> Result<(JobStates, Option<String>)> {
        let path = self.states_path(profile);
        if let Ok(states) = load(&path)? {
            return Ok((states, None));
        }
        // Whoever holds the lock may have put a good one there meanwhile.
        let _lock = files::lock(&files::sibling(&path, "lock"))?;
        settled(profile, &path)
    }

    /// Changes the states of the profile's jobs, one process at a time; on disk when this returns. Answers as `states`.
    pub fn update(&self, profile: &str, change: impl FnOnce(&mut JobStates)) -> Result<Option<String>> {
        self.folder(FOLDER)?;
        let path = self.states_path(profile);
        let _lock = files::lock(&files::sibling(&path, "lock"))?;
        let (mut states, told) = settled(profile, &path)?;
        let before = states.clone();
        change(&mut states);
        if states != before || told.is_some() {
            let text = serde_json::to_vec_pretty(&states)
                .map_err(|e| Error::new(ErrorKind::Invalid, format!("states cannot be written: {e}")))?;
            files::replace(&path, &text)?;
        }
        Ok(told)
    }

    /// Holds a job for as long as it runs; `None` while it runs already, in whatever process.
    pub fn lock_job(&self, profile: &str, job: &str) -> Result<Option<JobLock>> {
        let dir = self.folder(FOLDER)?;
        let path = dir.join(format!("{}.{}.lock", file_name(profile), file_name(job)));
        Ok(files::try_lock(&path)?.map(|file| JobLock { _file: file }))
    }
}

/// The states in the file, or why it holds none; no file holds none yet.
fn load(path: &Path) -> Result<std::result::Result<JobStates, serde_json::Error>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Ok(JobStates::new())),
        Err(e) => Err(Error::io(format!("cannot read {}", path.display()), &e)),
    }
}

/// The states in the file; a broken one is set aside. Only under the lock.
fn settled(profile: &str, path: &Path) -> Result<(JobStates, Option<String>)> {
    let why = match load(path)? {
        Ok(states) => return Ok((states, None)),
        Err(why) => why,
    };
    let aside = files::sibling(path, "broken");
    std::fs::rename(path, &aside).context(|| format!("cannot set {} aside", path.display()))?;
    let told = format!(
        "the states of the jobs of {profile} could not be read ({why}); they begin anew, and what was there is {}",
        aside.display()
    );
    Ok((JobStates::new(), Some(told)))
}
