//! From a command line to the health of one or several repositories, and the files it is kept in.

use super::commands::health::Args;
use super::context::Context;
use super::failure::{Failure, INTERRUPTED, USAGE};
use super::terminal::Watch;
use crate::codes::Code;
use crate::health::gather::{Options, gather};
use crate::health::judge::judge;
use crate::health::{Facts, Finding, Limits, Status, Verdict, alerts};
use crate::journal::{Journal, file_name};
use crate::os::process::host_name;
use std::path::PathBuf;

/// Looks and judges. A repository that cannot be opened is a finding: who asks for the health of backups wants to hear that
/// as he hears everything else.
pub fn look(context: &Context, args: &Args) -> Result<Vec<Status>, Failure> {
    let limits = Limits::default();
    let facts = match facts(context, args) {
        Ok(facts) => facts,
        Err(failure) if matches!(failure.code, USAGE | INTERRUPTED) => return Err(failure),
        Err(failure) => return Ok(vec![unreachable(context, &failure)?]),
    };
    Ok(vec![judge(&facts, &limits)])
}

fn facts(context: &Context, args: &Args) -> Result<Facts, Failure> {
    let repository = context.open()?;
    let place = context.place()?;
    let scratch = context.cache().unwrap_or_else(std::env::temp_dir);
    let options = Options {
        place: Some(&place),
        live: args.live.unwrap_or_default().depth(),
        databases: Vec::new(),
        scratch: &scratch,
        clock: &context.clock,
    };
    let mut watch = Watch::beside_results(context);
    let facts = gather(&repository, &options, &watch.progress);
    watch.finish();
    let mut facts = facts?;
    facts.profile.clone_from(&context.global.use_profile);
    facts.max_age = args.fresh_within;
    Ok(facts)
}

/// The judgement of what could not be opened.
fn unreachable(context: &Context, failure: &Failure) -> Result<Status, Failure> {
    let place = context.place()?;
    let place = std::path::absolute(&place).unwrap_or(place).display().to_string();
    let cause = failure.message.clone().unwrap_or_default();
    let finding = Finding::new(Code::RepositoryUnreachable, Verdict::Critical, &place, cause);
    Ok(Status {
        now: context.now(),
        host: host_name(),
        place,
        profile: context.global.use_profile.clone(),
        verdict: Verdict::Critical,
        findings: vec![finding],
        unknown: vec!["everything else about it".to_owned()],
        ..Status::default()
    })
}

/// Keeps status file and alert log. That they could not be written is told, and is no matter of health.
pub fn keep(context: &Context, args: &Args, statuses: &[Status]) {
    if context.global.dry_run {
        return;
    }
    for status in statuses {
        let Some((file, log)) = places(context, args, status) else { continue };
        match alerts::keep(status, &file, log.as_deref()) {
            Ok(changes) => {
                for alert in changes {
                    let line = format!("{}: {} {}: {}", alert.change, alert.code, alert.subject, alert.cause);
                    context.output.log("alert", &line);
                }
            }
            Err(e) => context.output.warn(Code::StatusUnwritten, e.message()),
        }
    }
}

/// The files of one judgement: those that were named, else those of its profile.
fn places(context: &Context, args: &Args, status: &Status) -> Option<(PathBuf, Option<PathBuf>)> {
    if let Some(file) = &args.status_file {
        return Some((file.clone(), args.alert_log.clone()));
    }
    let profile = status.profile.as_deref().filter(|_| !context.global.no_journal)?;
    let folder = Journal::at(&context.state_dir()?).folder("health").ok()?;
    let name = file_name(profile);
    let log = args.alert_log.clone().unwrap_or_else(|| folder.join(format!("{name}.alerts.jsonl")));
    Some((folder.join(format!("{name}.json")), Some(log)))
}
