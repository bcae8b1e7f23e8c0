//! What happens after a job, whatever came of it: its state and its line in the journal.
//!
//! Nothing of it changes how the job ended: what cannot be written is told.

use super::cycle::{Cycle, JobReport, TargetReport};
use crate::clock::Timestamp;
use crate::job::Outcome;
use crate::job::Trigger;
use crate::journal::states::{End, job_key};
use crate::journal::{Journal, Record};
use crate::os::process;

/// Writes down what came of a job; answers what could not be done.
pub fn write_down(cycle: &Cycle, report: &JobReport, trigger: Trigger, start: Timestamp) -> Vec<String> {
    let Some(journal) = &cycle.journal else { return Vec::new() };
    let end = cycle.clock.now();
    let mut told = Vec::new();
    match states(cycle, journal, report, (start, end)) {
        Ok(warning) => told.extend(warning),
        Err(e) => told.push(format!("the states of jobs could not be written: {e}")),
    }
    if let Err(e) = journal.append(&record(cycle, report, trigger, start)) {
        told.push(format!("the journal could not be written: {e}"));
    } else if let Err(e) = journal.thin(cycle.plan.journal_keep, end) {
        told.push(format!("old months of the journal could not be removed: {e}"));
    }
    told
}

fn states(
    cycle: &Cycle,
    journal: &Journal,
    report: &JobReport,
    (start, end): (Timestamp, Timestamp),
) -> crate::error::Result<Option<String>> {
    let job = report.job.to_string();
    journal.update(&cycle.plan.profile, |states| {
        let best = report.targets.iter().find(|target| target.summary["snapshot_id"].is_string());
        let whole = End {
            start,
            end,
            outcome: report.outcome,
            code: report.code,
            message: why(report),
            ..best.map(of_summary).unwrap_or_default()
        };
        // A run at one of several targets says nothing of the others, and must not put off what they wait for.
        let targets = cycle.plan.job(&report.job).map_or(0, |plan| plan.targets.len());
        if cycle.only.is_none() || targets <= 1 {
            states.entry(job_key(&job, None)).or_default().ended(&whole);
        }
        for target in report.targets.iter().filter(|target| !target.target.is_empty()) {
            let begun = Timestamp {
                secs: end.secs.saturating_sub(target.seconds as i64).max(start.secs),
                nanos: end.nanos,
            };
            let ended = End {
                start: begun,
                end,
                outcome: target.outcome,
                code: target.code,
                message: (target.code != 0).then(|| target.messages.last().cloned()).flatten(),
                ..of_summary(target)
            };
            states.entry(job_key(&job, Some(&target.target))).or_default().ended(&ended);
        }
    })
}

/// The figures of a summary.
fn of_summary(target: &TargetReport) -> End {
    let number = |field: &str| target.summary[field].as_u64();
    End {
        bytes: number("total_bytes_processed"),
        added: number("data_added_packed"),
        snapshot: target.summary["snapshot_id"].as_str().map(str::to_owned),
        ..End::default()
    }
}

/// Why the job failed or was not begun, in one line.
pub fn why(report: &JobReport) -> Option<String> {
    let bad = report.targets.iter().filter(|t| t.code != 0 && t.outcome != Outcome::Skipped);
    let bad = bad.filter_map(|target| {
        let why = target.messages.last()?;
        Some(if target.target.is_empty() { why.clone() } else { format!("{}: {why}", target.target) })
    });
    let all: Vec<String> = report.message.iter().chain(&report.skipped).cloned().chain(bad).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

fn record(cycle: &Cycle, report: &JobReport, trigger: Trigger, start: Timestamp) -> Record {
    let sum = |field: &str| {
        let all: Vec<u64> =
            report.targets.iter().filter_map(|target| target.summary[field].as_u64()).collect();
        (!all.is_empty()).then(|| all.iter().sum())
    };
    Record {
        time: start.rfc3339(),
        command: "job".to_owned(),
        profile: Some(cycle.plan.profile.clone()),
        job: Some(report.job.to_string()),
        target: cycle.only.clone(),
        trigger: Some(trigger.word().to_owned()),
        attempt: report.targets.iter().map(|target| target.attempts).max(),
        outcome: report.outcome,
        code: report.code,
        seconds: report.seconds,
        snapshot: report.targets.iter().find_map(|t| t.summary["snapshot_id"].as_str().map(str::to_owned)),
        files: sum("total_files_processed"),
        bytes: sum("total_bytes_processed"),
        added: sum("data_added_packed"),
        message: why(report),
        hooks: report.hooks.clone(),
        host: process::host_name(),
        ..Record::default()
    }
}
