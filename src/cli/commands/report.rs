//! `report`: what the last days brought, for people and for those who are told.

use crate::cli::context::Context;
use crate::cli::failure::Outcome;
use crate::cli::notices;
use crate::cli::options::duration;
use crate::clock::Timestamp;
use crate::journal::Filter;
use crate::notifications::Message;
use crate::os::process::host_name;
use crate::service::report::Report;
use crate::settings::plan_notify::Event;
use std::time::Duration;

/// Show what jobs did in the last days: what ran, what failed, how much was added, what runs next
#[derive(clap::Args, Debug)]
pub struct Args {
    /// How far to look back
    #[arg(long, value_name = "DURATION", default_value = "7d", value_parser = duration)]
    pub period: Duration,
    /// Send it, too, to those of the profile who want reports
    #[arg(long)]
    pub send: bool,
}

pub fn run(context: &Context, args: &Args) -> Outcome {
    let (plan, journal) = notices::plan_and_journal(context)?;
    let now = context.now();
    let back = i64::try_from(args.period.as_secs()).unwrap_or(i64::MAX);
    let from = Timestamp { secs: now.secs.saturating_sub(back), nanos: now.nanos };
    let filter = Filter { profile: Some(plan.profile.clone()), since: Some(from), ..Filter::default() };
    let records = journal.read(&filter)?.records;
    let (states, _) = journal.states(&plan.profile)?;
    let report = Report::of(plan, &records, &states, from, now);
    let mut paper = context.output.paper();
    match context.output.json {
        true => paper.json(&report.json())?,
        false => report.lines().iter().try_for_each(|line| paper.line(line))?,
    }
    paper.finish()?;
    if !args.send || context.global.dry_run {
        return Ok(0);
    }
    let message = Message {
        event: Event::Report,
        title: report.title(),
        text: report.lines().join("\n"),
        high: false,
        key: format!("{} report {}", plan.profile, now.rfc3339()),
        profile: plan.profile.clone(),
        job: "report".to_owned(),
        target: String::new(),
        host: host_name(),
        outcome: if report.is_good() { "ok" } else { "failed" }.to_owned(),
    };
    notices::send(context, plan, &journal, &message)
}
