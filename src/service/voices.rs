//! Who is told of a job, and by what figures: pings around it, notifications and metrics after it.
//!
//! Everything here answers with what could not be told; nothing of it changes how a job ended.

use super::after::why;
use super::cycle::JobReport;
use crate::clock::Timestamp;
use crate::health::{Status, alerts};
use crate::job::{Job, Outcome, Trigger};
use crate::journal::{JobStates, Journal, file_name};
use crate::metrics::{self, JobFigures, Page};
use crate::notifications::{self, Delivery, Message, Signal};
use crate::os::process;
use crate::settings::plan::Plan;
use crate::settings::plan_notify::Event;
use crate::web::Address;
use serde_json::Value;
use std::path::PathBuf;

/// Tells the dead man's switch that a job begins.
pub fn before(plan: &Plan, job: &Job) -> Vec<String> {
    let sent = notifications::ping(&plan.notify, &job.to_string(), Signal::Start, "");
    sent.iter().filter_map(Delivery::trouble).collect()
}

/// Tells how a job ended: the dead man's switch, those who want to hear of such ends, and the figures. `failed_before` is how often
/// the job had failed in a row before this run.
pub fn after(
    plan: &Plan,
    journal: Option<&Journal>,
    report: &JobReport,
    (trigger, failed_before): (Trigger, u32),
    now: Timestamp,
) -> Vec<String> {
    let mut told = ended(plan, report);
    // Whoever started it by hand sees how it ends.
    if trigger != Trigger::Manual
        && let Some(message) = message(plan, report, failed_before)
    {
        let state = journal.and_then(|j| told_file(j, &plan.profile));
        let sent = notifications::send(&plan.notify, &message, state.as_deref(), now);
        told.extend(sent.iter().filter_map(Delivery::trouble));
    }
    if let Some(journal) = journal {
        told.extend(figures(plan, journal, now));
    }
    told
}

fn ended(plan: &Plan, report: &JobReport) -> Vec<String> {
    let signal = match report.outcome {
        Outcome::Ok => Signal::Success,
        // Not begun, or somebody wanted an end of it: the switch finds out by itself if that goes on.
        Outcome::Skipped | Outcome::Interrupted => return Vec::new(),
        Outcome::Incomplete | Outcome::Failed | Outcome::Refused => Signal::Failure,
    };
    let text = why(report).unwrap_or_else(|| format!("{}: ok", report.job));
    let sent = notifications::ping(&plan.notify, &report.job.to_string(), signal, &text);
    sent.iter().filter_map(Delivery::trouble).collect()
}

/// What is to be told of a job's end, if anything.
fn message(plan: &Plan, report: &JobReport, failed_before: u32) -> Option<Message> {
    let (job, profile) = (report.job.to_string(), &plan.profile);
    // What health finds it tells by itself, and only when it changes; a report is told as one.
    if matches!(report.job, Job::Health | Job::Report) && matches!(report.code, 0 | 21 | 22) {
        return None;
    }
    let host = process::host_name();
    let (event, title, high) = match report.outcome {
        Outcome::Ok if failed_before > 0 => {
            (Event::Failure, format!("{job} of {profile} is well again"), false)
        }
        Outcome::Ok => (Event::Success, format!("{job} of {profile} went well"), false),
        Outcome::Incomplete => (Event::Failure, format!("{job} of {profile} is incomplete"), false),
        Outcome::Failed => (Event::Failure, format!("{job} of {profile} FAILED"), true),
        Outcome::Refused => (Event::Failure, format!("{job} of {profile} was refused"), true),
        Outcome::Skipped | Outcome::Interrupted => return None,
    };
    Some(Message {
        event,
        title: format!("{title} on {host}"),
        text: text(report),
        high,
        key: format!("{profile} {job}"),
        profile: profile.clone(),
        job,
        target: report.targets.iter().map(|t| t.target.as_str()).collect::<Vec<_>>().join(", "),
        host,
        outcome: report.outcome.word().to_owned(),
    })
}

fn text(report: &JobReport) -> String {
    let mut lines = Vec::new();
    lines.extend(why(report));
    for target in &report.targets {
        let snapshot = target.summary["snapshot_id"].as_str().and_then(|id| id.get(..8));
        let snapshot = snapshot.map(|id| format!(", snapshot {id}")).unwrap_or_default();
        let name = if target.target.is_empty() { "all" } else { &target.target };
        lines.push(format!("{name}: {} after {:.0} s{snapshot}", target.outcome.word(), target.seconds));
        // A long list of files that could not be read is what the journal is for.
        lines.extend(target.messages.iter().take(5).map(|m| format!("  {m}")));
    }
    lines.join("\n")
}

/// What a judgement of health says in one line, unless all is well: the last word of its job.
pub fn verdict(summary: &Value) -> Option<String> {
    let findings = summary["findings"].as_array().filter(|_| summary["verdict"].is_string())?;
    let text =
        |name: &str| findings.first().map(|f| f[name].as_str().unwrap_or_default()).unwrap_or_default();
    let more = match findings.len() {
        0 => return None,
        1 => String::new(),
        n => format!("; {} more", n - 1),
    };
    Some(format!("{}: {}: {}{more} [{}]", text("severity"), text("subject"), text("cause"), text("code")))
}

/// What remembers which notifications were sent.
pub fn told_file(journal: &Journal, profile: &str) -> Option<PathBuf> {
    Some(journal.folder("notify").ok()?.join(format!("{}.json", file_name(profile))))
}

/// The status file of a profile's health at a target; `None` where there is one target only.
pub fn health_file(journal: &Journal, profile: &str, target: Option<&str>) -> Option<PathBuf> {
    let name = file_name(profile);
    let name = target.map_or_else(|| name.clone(), |target| format!("{name}@{}", file_name(target)));
    Some(journal.folder("health").ok()?.join(format!("{name}.json")))
}

/// Everything that is known in figures, as it is now: what jobs came to, and the last judgements of health.
pub fn page(plan: &Plan, journal: &Journal, now: Timestamp) -> Page {
    let states = journal.states(&plan.profile).map(|(states, _)| states).unwrap_or_default();
    let mut page = metrics::of_jobs(&jobs(plan, &states));
    let several = plan.targets.len() > 1;
    for target in &plan.targets {
        let file = health_file(journal, &plan.profile, several.then_some(target.name.as_str()));
        let status: Option<Status> = file
            .and_then(|file| std::fs::read(file).ok())
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .and_then(|value| alerts::parse(&value));
        if let Some(status) = status {
            page.join(metrics::of_health(&alerts::aged(status, now)));
        }
    }
    page
}

fn jobs(plan: &Plan, states: &JobStates) -> Vec<JobFigures> {
    let time = |text: &Option<String>| text.as_deref().and_then(Timestamp::parse_rfc3339);
    let one = |(key, state): (&String, &crate::journal::JobState)| {
        let (job, target) = key.split_once('@').unwrap_or((key, ""));
        JobFigures {
            profile: plan.profile.clone(),
            job: job.to_owned(),
            target: target.to_owned(),
            last_start: time(&state.last_start),
            last_success: time(&state.last_success),
            last_code: state.last_code,
            last_seconds: state.last_seconds,
            last_bytes: state.last_bytes,
            last_added: state.last_added,
            consecutive_failures: u64::from(state.consecutive_failures),
            next: time(&state.next),
        }
    };
    states.iter().map(one).collect()
}

/// Writes and pushes the figures where the profile wants them.
pub fn figures(plan: &Plan, journal: &Journal, now: Timestamp) -> Vec<String> {
    let mut told = Vec::new();
    if plan.metrics.file.is_none() && plan.metrics.push.is_none() {
        return told;
    }
    let page = page(plan, journal, now);
    if let Some(file) = &plan.metrics.file {
        told.extend(metrics::write(file, &page).err().map(|e| format!("the figures: {e}")));
    }
    if let Some(place) = &plan.metrics.push {
        let pushed = place.read().and_then(|url| Address::parse(&url)).and_then(|url| {
            metrics::push(&url, &format!("{}-{}", process::host_name(), plan.profile), &page)
        });
        told.extend(pushed.err().map(|e| format!("the figures: {e}")));
    }
    told
}
