//! From a command line to the health of one or several repositories, and the files it is kept in.

use super::commands::health::Args;
use super::context::Context;
use super::failure::{Failure, INTERRUPTED, NO_REPOSITORY, USAGE};
use super::health_wanted as wanted;
use super::terminal::Watch;
use crate::codes::Code;
use crate::health::gather::{Options, gather};
use crate::health::judge::judge;
use crate::health::{Facts, Finding, Limits, Status, Verdict, alerts};
use crate::journal::Journal;
use crate::notifications::{self, Message};
use crate::os::process::host_name;
use crate::service::voices;
use crate::settings::plan::{Plan, Target};
use crate::settings::plan_notify::Event;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Looks and judges. A repository that cannot be opened is a finding: who asks for the health of backups wants to hear that
/// as he hears everything else.
pub fn look(context: &Context, args: &Args) -> Result<Vec<Status>, Failure> {
    if args.all {
        return every_profile(context, args);
    }
    let plan = context.parsed.profile.as_ref().map(|p| &p.plan);
    match plan.filter(|plan| plan.targets.len() > 1 && context.global.to.is_none()) {
        Some(plan) => every_target(context, args, plan),
        None => here(context, args, plan).map(|status| vec![status]),
    }
}

/// The target that this process is about, with its name where there are several.
fn target<'p>(context: &Context, plan: Option<&'p Plan>) -> Option<&'p Target> {
    let plan = plan?;
    match &context.global.to {
        Some(name) => plan.target(name),
        None => plan.targets.first(),
    }
}

fn here(context: &Context, args: &Args, plan: Option<&Plan>) -> Result<Status, Failure> {
    let target = target(context, plan);
    let limits = plan.map_or_else(Limits::default, |plan| plan.health.limits());
    let mut status = match facts(context, args, plan, target) {
        Ok(facts) => judge(&facts, &limits),
        Err(failure) if matches!(failure.code, USAGE | INTERRUPTED) => return Err(failure),
        Err(failure) => unreachable(context, &failure, target)?,
    };
    status.profile = plan.map(|plan| plan.profile.clone());
    status.target = target.map(|target| target.name.clone());
    keep(context, args, plan, &status);
    Ok(status)
}

fn facts(
    context: &Context,
    args: &Args,
    plan: Option<&Plan>,
    target: Option<&Target>,
) -> Result<Facts, Failure> {
    let repository = context.open()?;
    let place = context.place()?;
    let scratch = context.cache().unwrap_or_else(std::env::temp_dir);
    let databases = plan.iter().flat_map(|plan| &plan.sets).flat_map(|set| &set.databases).cloned();
    let options = Options {
        place: Some(&place),
        live: args.live.depth(),
        databases: databases.collect(),
        scratch: &scratch,
        clock: &context.clock,
    };
    let mut watch = Watch::beside_results(context);
    let facts = gather(&repository, &options, &watch.progress);
    watch.finish();
    let mut facts = facts?;
    facts.max_age = args.fresh_within;
    if let (Some(plan), Some(target)) = (plan, target) {
        facts.profile = Some(plan.profile.clone());
        facts.wanted = wanted::sets(plan, target);
        if let Some(dir) = context.state_dir().filter(|_| !context.global.no_journal) {
            facts.jobs = wanted::jobs(plan, target, &Journal::at(&dir));
        }
    }
    Ok(facts)
}

/// The judgement of what could not be opened. A target that need not be there is none the worse for it.
fn unreachable(context: &Context, failure: &Failure, target: Option<&Target>) -> Result<Status, Failure> {
    let place = context.place()?;
    let place = std::path::absolute(&place).unwrap_or(place).display().to_string();
    let cause = failure.message.clone().unwrap_or_default();
    let may_be_away = failure.code == NO_REPOSITORY && target.is_some_and(|target| target.optional);
    let (verdict, findings, unknown) = match may_be_away {
        true => {
            (Verdict::Ok, Vec::new(), format!("everything: it is not there, which it need not be ({cause})"))
        }
        false => {
            let finding = Finding::new(Code::RepositoryUnreachable, Verdict::Critical, &place, cause);
            (Verdict::Critical, vec![finding], "everything else about it".to_owned())
        }
    };
    Ok(Status {
        now: context.now(),
        host: host_name(),
        place,
        verdict,
        findings,
        unknown: vec![unknown],
        ..Status::default()
    })
}

/// Each target by a process of its own, as its passwords and options are its own.
fn every_target(context: &Context, args: &Args, plan: &Plan) -> Result<Vec<Status>, Failure> {
    let file = plan.files.first().cloned().unwrap_or_default();
    let mut out = Vec::new();
    for target in &plan.targets {
        out.extend(child(context, args, &file, Some(&target.name))?);
    }
    Ok(out)
}

fn every_profile(context: &Context, args: &Args) -> Result<Vec<Status>, Failure> {
    let mut out = Vec::new();
    for file in wanted::profiles()? {
        out.extend(child(context, args, &file, None)?);
    }
    match out.is_empty() {
        true => Err(Failure::usage("there are no profiles; see `setup`, or name a repository by --repo")),
        false => Ok(out),
    }
}

/// Asks ourselves in another process; what cannot be understood there is a finding here.
fn child(
    context: &Context,
    args: &Args,
    profile: &Path,
    target: Option<&str>,
) -> Result<Vec<Status>, Failure> {
    let program = std::env::current_exe()
        .map_err(|e| crate::error::Error::io("cannot find this program itself", &e))?;
    let mut command = Command::new(program);
    command.arg("--use-profile").arg(profile).args(["--json", "--no-progress"]);
    if let Some(dir) = &context.global.state_dir {
        command.arg("--state-dir").arg(dir);
    }
    if context.global.no_journal {
        command.arg("--no-journal");
    }
    if context.global.dry_run {
        command.arg("--dry-run");
    }
    match target {
        Some(target) => command.args(["--to", target]),
        // What the environment names is the repository of one of them at most.
        None => command.env_remove("SNAPKEEP_REPOSITORY"),
    };
    command.arg("health").arg(format!("--live={}", args.live.word()));
    if let Some(span) = args.fresh_within {
        command.arg(format!("--fresh-within={}s", span.as_secs()));
    }
    for (option, value) in [("--status-file", &args.status_file), ("--alert-log", &args.alert_log)] {
        if let Some(value) = value {
            command.arg(option).arg(value);
        }
    }
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|e| crate::error::Error::io("cannot run this program itself", &e))?;
    pass_on(context, &output.stderr);
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let values = lines.lines().filter_map(|line| serde_json::from_str(line).ok());
    let statuses: Vec<Status> = values.filter_map(|value| alerts::parse(&value)).collect();
    if !statuses.is_empty() {
        return Ok(statuses);
    }
    if output.status.code() == Some(i32::from(INTERRUPTED)) {
        return Err(Failure::new(INTERRUPTED, "interrupted"));
    }
    Ok(vec![wanted::silent(context, profile, target, &output)])
}

/// What our other process warned of.
fn pass_on(context: &Context, stderr: &[u8]) {
    let lines = String::from_utf8_lossy(stderr).into_owned();
    for value in lines.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()) {
        let code = Code::ALL.iter().find(|code| value["code"] == code.word());
        if let (Some(code), Some(message)) = (code, value["message"].as_str()) {
            context.output.warn(*code, message);
        }
    }
}

/// Keeps status file and alert log, and tells those who want to hear of changes. That one of these did not work is told, and is
/// no matter of health.
fn keep(context: &Context, args: &Args, plan: Option<&Plan>, status: &Status) {
    if context.global.dry_run {
        return;
    }
    let journal = context.state_dir().filter(|_| !context.global.no_journal).map(|dir| Journal::at(&dir));
    let Some((file, log)) = places(args, plan, journal.as_ref(), status) else { return };
    let changes = match alerts::keep(status, &file, log.as_deref()) {
        Ok(changes) => changes,
        Err(e) => return context.output.warn(Code::StatusUnwritten, e.message()),
    };
    let line = |a: &alerts::Alert| format!("{}: {} {}: {}", a.change, a.code, a.subject, a.cause);
    let lines: Vec<String> = changes.iter().map(line).collect();
    lines.iter().for_each(|line| context.output.log("alert", line));
    let (Some(plan), Some(journal)) = (plan, journal) else { return };
    let mut told = Vec::new();
    if !changes.is_empty() {
        let state = voices::told_file(&journal, &plan.profile);
        let sent = notifications::send(
            &plan.notify,
            &message(status, &changes, &lines),
            state.as_deref(),
            context.now(),
        );
        told.extend(sent.iter().filter_map(notifications::Delivery::trouble));
    }
    told.extend(voices::figures(plan, &journal, context.now()));
    told.iter().for_each(|text| context.output.warn(Code::NotTold, text));
}

fn message(status: &Status, changes: &[alerts::Alert], lines: &[String]) -> Message {
    let (profile, target) =
        (status.profile.clone().unwrap_or_default(), status.target.clone().unwrap_or_default());
    let worse = changes
        .iter()
        .any(|a| matches!(a.change.as_str(), "new" | "worse") && a.severity == Verdict::Critical);
    let mut text = lines.to_vec();
    for finding in &status.findings {
        text.push(String::new());
        text.push(format!("{} {}: {} [{}]", finding.severity, finding.subject, finding.cause, finding.code));
        text.push(format!("next: {}", finding.next));
    }
    Message {
        event: Event::Health,
        title: format!("health of {profile} ({target}) on {}: {}", status.host, status.verdict),
        text: text.join("\n"),
        high: worse,
        // Another change is another message, however soon it comes.
        key: format!("{profile}@{target} {}", lines.join("|")),
        profile,
        job: "health".to_owned(),
        target,
        host: status.host.clone(),
        outcome: status.verdict.to_string(),
    }
}

/// The files of one judgement: those that were named, else those of its profile. With several targets each has its own.
fn places(
    args: &Args,
    plan: Option<&Plan>,
    journal: Option<&Journal>,
    status: &Status,
) -> Option<(PathBuf, Option<PathBuf>)> {
    let several = plan.is_some_and(|plan| plan.targets.len() > 1);
    let target = status.target.as_deref().filter(|_| several);
    if let Some(file) = &args.status_file {
        let log = args.alert_log.as_ref().map(|log| wanted::with_target(log, target));
        return Some((wanted::with_target(file, target), log));
    }
    let file = voices::health_file(journal?, status.profile.as_deref()?, target)?;
    let log = args.alert_log.as_ref().map(|log| wanted::with_target(log, target));
    Some((file.clone(), Some(log.unwrap_or_else(|| file.with_extension("alerts.jsonl")))))
}
