//! What carries out one job, and what it says about it.

use crate::job::{HookRun, Job, Outcome, Trigger};
use serde::Serialize;
use serde_json::Value;

/// Carries out jobs. Whoever decides when a job is due knows only this.
pub trait Runner {
    /// Runs the job to its end; everything that goes wrong is told in the report.
    fn run(&self, job: &Job, trigger: Trigger) -> JobReport;
}

/// What came of a job.
#[derive(Clone, Debug, Serialize)]
pub struct JobReport {
    pub job: Job,
    pub outcome: Outcome,
    /// The exit code of the job: the worst of its targets, or 1 when a hook stopped it.
    pub code: u8,
    pub targets: Vec<TargetReport>,
    pub seconds: f64,
    /// Why it was not begun.
    pub skipped: Option<String>,
    pub hooks: Vec<HookRun>,
}

/// What came of a job at one target.
#[derive(Clone, Debug, Serialize)]
pub struct TargetReport {
    /// Empty for jobs that are about the whole profile.
    pub target: String,
    pub outcome: Outcome,
    pub code: u8,
    pub attempts: u32,
    pub seconds: f64,
    /// The last line of JSON that the command wrote, or null.
    pub summary: Value,
    /// Its warnings and errors, as text.
    pub messages: Vec<String>,
}

/// Exit codes from the worst to the best; the first one present is the job's.
const WORST_FIRST: [u8; 11] = [12, 20, 10, 11, 1, 24, 23, 22, 3, 21, 0];

/// The exit code of several; codes that are not in the list count as 1, an interruption as the worst.
pub fn worst(codes: impl IntoIterator<Item = u8>) -> u8 {
    let rank = |code: u8| match code {
        130 => 0,
        _ => 1 + WORST_FIRST.iter().position(|c| *c == code).unwrap_or(4),
    };
    codes.into_iter().min_by_key(|code| rank(*code)).unwrap_or(0)
}
