//! Jobs of a profile from the command line: run one after the other, told as they go, summed up at the end.

use super::context::Context;
use super::failure::{Failure, Outcome};
use super::json::Message;
use super::layers::WITH_SETS;
use super::output::Output;
use super::sets;
use crate::clock::SystemClock;
use crate::codes::Code;
use crate::error::Error;
use crate::job::{Job, Outcome as End, Trigger};
use crate::journal::Journal;
use crate::service::cycle::{Cycle, Event, Hear, JobReport, TargetReport, worst};
use crate::service::gate::Gate;
use crate::units;
use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Command};
use serde_json::{Value, json};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::ffi::OsString;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What we say ourselves, whatever our commands are asked to do.
const OURS: [&str; 7] = ["use_profile", "to", "json", "quiet", "verbose", "no_progress", "name"];

/// Runs the jobs; signals that ask us to end reach the command that runs, and nothing more is begun.
pub fn run(context: &Context, all: &[Job]) -> Outcome {
    run_for(context, all, Trigger::Manual)
}

/// As `run`, for whatever reason the jobs begin.
pub fn run_for(context: &Context, all: &[Job], trigger: Trigger) -> Outcome {
    sets::no_other_repository(context)?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&stop))
            .map_err(|e| Failure::from(Error::io("cannot listen for signals", &e)))?;
    }
    let mut cycle = cycle(context, Arc::clone(&stop))?;
    // What is forgotten is a table, and more than a line can say.
    cycle.aloud = trigger == Trigger::Manual
        && !context.output.json
        && !context.output.quiet
        && all.contains(&Job::Forget);
    if cycle.aloud {
        cycle.hear = aloud(Arc::clone(&context.output));
    }
    context.facts(|facts| facts.by_jobs = true);
    let mut reports = Vec::new();
    for job in all {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let report = alone(&cycle, job, trigger);
        tell(&context.output, &report);
        reports.push(report);
    }
    let code =
        if stop.load(Ordering::Relaxed) { 130 } else { worst(reports.iter().map(|report| report.code)) };
    let told = sum_up(context, &reports, code);
    Ok(context.output.told(told, code))
}

/// Runs the job unless it runs already, in whatever process.
fn alone(cycle: &Cycle, job: &Job, trigger: Trigger) -> JobReport {
    let (journal, profile, clock) =
        (cycle.journal.clone(), cycle.plan.profile.clone(), Arc::clone(&cycle.clock));
    Gate { journal, profile, clock }.run(cycle, job, trigger)
}

/// What runs the jobs of the profile at hand, with the options of this command line.
pub fn cycle(context: &Context, stop: Arc<AtomicBool>) -> Result<Cycle, Failure> {
    let Some(profile) = &context.parsed.profile else {
        return Err(Failure::usage("jobs are those of a profile; choose one by -P"));
    };
    let program = std::env::current_exe().map_err(|e| Error::io("cannot find this program itself", &e))?;
    let matches = &context.parsed.matches;
    let command = super::command();
    // Options of other commands are about when jobs run, not about what they do.
    let own = matches.subcommand().filter(|(word, _)| *word == "copy" || WITH_SETS.contains(word));
    let own = own.and_then(|(word, sub)| Some((sub, command.find_subcommand(word)?)));
    let output = Arc::clone(&context.output);
    Ok(Cycle {
        plan: Arc::new(profile.plan.clone()),
        program,
        profile: profile.plan.files.first().cloned().unwrap_or_default(),
        words: given(matches, &command, true),
        own: own.map(|(sub, command)| given(sub, command, false)).unwrap_or_default(),
        only: context.global.to.clone(),
        aloud: false,
        rehearsal: context.global.dry_run,
        stop,
        journal: journal(context),
        clock: Arc::new(SystemClock),
        hear: Box::new(move |job, event| hear(&output, job, event)),
    })
}

/// Where jobs are written down.
pub fn journal(context: &Context) -> Option<Journal> {
    if context.global.no_journal || context.global.dry_run {
        return None;
    }
    context.state_dir().map(|dir| Journal::at(&dir))
}

/// Options that stand on the command line, as they would be written again.
fn given(matches: &ArgMatches, command: &Command, global: bool) -> Vec<OsString> {
    let mut words = Vec::new();
    let arguments = command.get_arguments().filter(|arg| arg.is_global_set() == global);
    for arg in arguments.filter(|arg| !OURS.contains(&arg.get_id().as_str())) {
        let id = arg.get_id().as_str();
        let Some(long) = arg.get_long() else { continue };
        if matches.try_contains_id(id).is_err() || matches.value_source(id) != Some(ValueSource::CommandLine)
        {
            continue;
        }
        if matches!(arg.get_action(), ArgAction::SetTrue) {
            words.push(format!("--{long}").into());
            continue;
        }
        for value in matches.get_raw(id).into_iter().flatten() {
            let mut word = OsString::from(format!("--{long}="));
            word.push(value);
            words.push(word);
        }
    }
    words
}

/// As `hear`, with a line above what each target's commands write.
fn aloud(output: Arc<Output>) -> Hear {
    Box::new(move |job, event| {
        if let Event::Begins { target, .. } = event {
            let _ = output.say(&format!("{}:", place(job, target)));
        }
        hear(&output, job, event);
    })
}

fn hear(output: &Output, job: &Job, event: &Event<'_>) {
    match event {
        Event::Begins { target, attempt: 1 } => output.detail(&format!("{} begins", place(job, target))),
        Event::Begins { target, attempt } => {
            output.warn(Code::TriedAgain, &format!("{}: attempt {attempt}", place(job, target)));
        }
        Event::Ended(report) => {
            for message in
                report.messages.iter().take(report.messages.len().saturating_sub(usize::from(is_bad(report))))
            {
                let (code, text) = Code::of_text(message);
                output
                    .warn(code.unwrap_or(Code::JobSaid), &format!("{}: {text}", place(job, &report.target)));
            }
        }
        Event::NotWritten(text) => output.warn(Code::JournalUnwritable, &format!("{job}: {text}")),
        Event::NotTold(text) => output.warn(Code::NotTold, &format!("{job}: {text}")),
        Event::HookFailed(run) => {
            let lines = if run.output.is_empty() { String::new() } else { format!(": {}", run.output) };
            let what =
                format!("{job}: the {} hook `{}` ended with {}{lines}", run.when, run.command, run.code);
            output.warn(Code::HookFailed, &what);
        }
    }
}

/// `app → usb`, `forget → usb`, `health`.
fn place(job: &Job, target: &str) -> String {
    let name = match job {
        Job::Backup(set) => set.clone(),
        Job::Copy(_) => "copy".to_owned(),
        _ => job.to_string(),
    };
    if target.is_empty() { name } else { format!("{name} → {target}") }
}

/// Whether its last message says why it failed.
fn is_bad(report: &TargetReport) -> bool {
    !matches!(report.outcome, End::Ok | End::Incomplete)
}

/// What came of a job, target by target.
pub fn tell(output: &Output, report: &JobReport) {
    if output.json {
        for target in &report.targets {
            output.passing(&line(&report.job, target));
        }
        return;
    }
    if let Some(why) =
        report.message.as_ref().or(report.skipped.as_ref().filter(|_| report.targets.is_empty()))
    {
        let _ = output.say(&format!("{}: {}: {why}", report.job, word(report.outcome)));
    }
    for target in &report.targets {
        let took = units::duration(Duration::from_secs_f64(target.seconds));
        let end = match (is_bad(target), target.messages.last()) {
            (true, Some(why)) => why.clone(),
            _ => format!("{}{took}", words(&target.summary)),
        };
        let text = format!("{}: {}: {end}", place(&report.job, &target.target), word(target.outcome));
        match is_bad(target) && target.outcome != End::Skipped {
            true => output.problem("job", place(&report.job, &target.target).as_bytes(), &text),
            false => {
                let _ = output.say(&text);
            }
        }
    }
}

fn word(outcome: End) -> String {
    match outcome {
        End::Ok => "ok".to_owned(),
        other => other.word().to_uppercase(),
    }
}

/// What a summary says in a few words, each with a comma behind it.
fn words(summary: &Value) -> String {
    let mut parts = Vec::new();
    if summary["dry_run"] == true {
        parts.push("dry run, nothing was stored".to_owned());
    }
    if let Some(id) = summary["snapshot_id"].as_str() {
        parts.push(format!("snapshot {}", id.get(..8).unwrap_or(id)));
    } else if summary["unchanged"] == true {
        parts.push("unchanged, no snapshot".to_owned());
    }
    if let Some(files) = summary["total_files_processed"].as_u64() {
        parts.push(units::counted(files, "file", "files"));
    }
    if let Some(copied) = summary["copied"].as_u64() {
        parts.push(format!("{} copied", units::counted(copied, "snapshot", "snapshots")));
    }
    if let Some(added) = summary["data_added_packed"].as_u64() {
        parts.push(format!("{} added", units::bytes(added)));
    }
    parts.iter().map(|part| format!("{part}, ")).collect()
}

fn line(job: &Job, target: &TargetReport) -> Message {
    let message = Message::new("job").with("job", job.to_string()).with("target", target.target.as_str());
    message
        .with("outcome", target.outcome.word())
        .with("code", target.code)
        .with("attempts", target.attempts)
        .with("seconds", target.seconds)
        .with("summary", target.summary.clone())
        .with("messages", target.messages.clone())
}

fn sum_up(context: &Context, reports: &[JobReport], code: u8) -> Result<(), Failure> {
    let output = &context.output;
    let targets = || reports.iter().flat_map(|report| &report.targets);
    let bad =
        reports.iter().filter(|r| !matches!(r.outcome, End::Ok | End::Incomplete | End::Skipped)).count();
    if output.json {
        let sum = |field: &str| targets().filter_map(|target| target.summary[field].as_u64()).sum::<u64>();
        let snapshots: Vec<&str> = targets().filter_map(|t| t.summary["snapshot_id"].as_str()).collect();
        let jobs: Vec<Value> = reports.iter().map(of_job).collect();
        let message = Message::new("summary")
            .with("jobs", jobs)
            .with("jobs_failed", bad)
            .with("code", code)
            .with("outcome", End::of_code(code).word())
            .with("snapshot_ids", snapshots)
            .with("data_added", sum("data_added"))
            .with("data_added_packed", sum("data_added_packed"))
            .with("total_files_processed", sum("total_files_processed"))
            .with("total_bytes_processed", sum("total_bytes_processed"))
            .with("total_duration", reports.iter().map(|report| report.seconds).sum::<f64>());
        return output.result(&message);
    }
    if reports.len() > 1 || bad > 0 {
        let all = units::counted(reports.len() as u64, "job", "jobs");
        return output.say(&match bad {
            0 => format!("{all}, all went well"),
            bad => format!("{all}, {bad} did NOT go well"),
        });
    }
    Ok(())
}

fn of_job(report: &JobReport) -> Value {
    json!({
        "job": report.job,
        "outcome": report.outcome,
        "code": report.code,
        "seconds": report.seconds,
        "skipped": report.skipped,
        "message": report.message,
        "hooks": report.hooks,
    })
}
