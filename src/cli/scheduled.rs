//! What a profile plans, shown and run: tables of jobs and of coming runs, and single runs as timers ask for them.

use super::context::Context;
use super::failure::{Failure, Outcome};
use super::jobs;
use super::json::Message;
use super::names::escape;
use super::table::{Column, Table};
use crate::clock::{SystemClock, Timestamp};
use crate::codes::Code;
use crate::job::{Job, Trigger};
use crate::journal::{JobStates, Journal};
use crate::os::process;
use crate::service::cycle::JobReport;
use crate::service::gate::{self, Gate};
use crate::service::guards::Machine;
use crate::service::keeper::Duty;
use crate::settings::plan::Plan;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a machine that is too busy is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(15);

/// What is known of the profile's jobs; nothing where nothing is written down.
pub fn states(context: &Context, plan: &Plan) -> Result<JobStates, Failure> {
    // Also with --no-journal: what is known stays known.
    let Some(dir) = context.state_dir() else { return Ok(JobStates::new()) };
    let (states, told) = Journal::at(&dir).states(&plan.profile)?;
    told.iter().for_each(|told| context.output.warn(Code::JobStatesLost, told));
    Ok(states)
}

pub fn list(context: &Context, plan: &Plan) -> Outcome {
    let states = states(context, plan)?;
    let (now, zone) = (context.now(), gate::zone(plan).map_err(super::failure::usage)?);
    let duties = gate::duties(plan, &process::host_name());
    let mut paper = context.output.paper();
    if context.output.json {
        for duty in &duties {
            let state = states.get(&duty.job.to_string()).cloned().unwrap_or_default();
            let schedule: Vec<&str> = duty.schedule.iter().map(|e| e.text()).collect();
            let message = Message::new("job")
                .with("job", duty.job.to_string())
                .with("schedule", schedule)
                .with("watch", duty.watch.is_some())
                .with("targets", duty.targets.clone())
                .with("next", duty.planned(&states, now, &zone).map(Timestamp::rfc3339))
                .with("state", serde_json::to_value(&state).unwrap_or_default());
            paper.json(&message)?;
        }
        paper.finish()?;
        return Ok(0);
    }
    let mut table = Table::new(vec![
        Column::shrinking("Job"),
        Column::shrinking("Schedule"),
        Column::left("Next"),
        Column::left("Last"),
        Column::left("Outcome"),
    ]);
    for duty in &duties {
        table.row(row(duty, &states, now, &zone).into_iter().map(|cell| vec![cell]).collect());
    }
    for line in table.lines(context.output.width(), context.output.colours()) {
        paper.line(&line)?;
    }
    paper.finish()?;
    Ok(0)
}

/// `11-21 03:30`: day and minute, which is what fits five times into a line.
fn short(at: Timestamp) -> String {
    at.local().get(5..16).unwrap_or_default().to_owned()
}

fn row(duty: &Duty, states: &JobStates, now: Timestamp, zone: &crate::clock::Zone) -> [String; 5] {
    let state = states.get(&duty.job.to_string()).cloned().unwrap_or_default();
    let mut schedule: Vec<&str> = duty.schedule.iter().map(|e| e.text()).collect();
    if duty.watch.is_some() {
        schedule.push("on change");
    }
    let next = match duty.planned(states, now, zone) {
        Some(at) if at <= now => "overdue".to_owned(),
        Some(at) => short(at),
        None => "-".to_owned(),
    };
    let outcome = match (state.last_outcome, state.consecutive_failures) {
        (Some(outcome), 2..) => format!("{outcome} ({} times)", state.consecutive_failures),
        (Some(outcome), _) => outcome.to_string(),
        (None, _) => "-".to_owned(),
    };
    let schedule = if schedule.is_empty() { "by hand".to_owned() } else { schedule.join("; ") };
    [
        escape(duty.job.to_string().as_bytes()),
        escape(schedule.as_bytes()),
        next,
        state.started().map_or_else(|| "never".to_owned(), short),
        outcome,
    ]
}

pub fn next(context: &Context, plan: &Plan, limit: usize) -> Outcome {
    let states = states(context, plan)?;
    let (now, zone) = (context.now(), gate::zone(plan).map_err(super::failure::usage)?);
    let mut coming: Vec<(Timestamp, Job)> = Vec::new();
    for duty in gate::duties(plan, &process::host_name()) {
        let mut at = duty.planned(&states, now, &zone);
        for _ in 0..limit {
            let Some(then) = at else { break };
            coming.push((then, duty.job.clone()));
            // What is overdue begins now, and the next is counted from then.
            at = duty.next(then.max(now), &zone);
        }
    }
    coming.sort();
    coming.truncate(limit);
    let mut paper = context.output.paper();
    for (at, job) in &coming {
        if context.output.json {
            let message = Message::new("run").with("time", at.rfc3339()).with("job", job.to_string());
            paper.json(&message.with("overdue", *at <= now))?;
        } else {
            let overdue = if *at <= now { "  (overdue)" } else { "" };
            paper.line(&format!("{}  {}{overdue}", at.local(), escape(job.to_string().as_bytes())))?;
        }
    }
    paper.finish()?;
    if coming.is_empty() {
        context
            .output
            .say(&format!("the profile {} plans nothing: no job has a `schedule`", plan.profile))?;
    }
    Ok(0)
}

/// Runs one job for a timer. Power and load may speak against it; then it is not begun, which is no failure.
pub fn run(context: &Context, plan: &Plan, job: Job) -> Outcome {
    if let Some(why) = objection(plan, &Machine::default()) {
        held(context, plan, &job, &why);
        return Ok(0);
    }
    jobs::run_for(context, &[job], Trigger::Schedule)
}

/// Waits for a machine that is busy, as long as the profile says; answers what speaks against beginning at all.
fn objection(plan: &Plan, machine: &Machine) -> Option<String> {
    let begun = Instant::now();
    while begun.elapsed() < plan.run.load_wait && machine.load(&plan.run).is_some() {
        std::thread::sleep(LOOK_AGAIN.min(plan.run.load_wait));
    }
    machine.power(&plan.run)
}

/// Tells that a job is not begun; written down once for each reason, however often it is tried.
fn held(context: &Context, plan: &Plan, job: &Job, why: &str) {
    jobs::tell(&context.output, &JobReport::skipped(job, why));
    let known = states(context, plan).unwrap_or_default();
    if known.get(&job.to_string()).is_some_and(|state| state.last_skip_reason.as_deref() == Some(why)) {
        return;
    }
    let (journal, profile) = (jobs::journal(context), plan.profile.clone());
    Gate { journal, profile, clock: Arc::new(SystemClock) }.skipped(job, Trigger::Schedule, why);
}

/// Runs everything that is overdue, one after the other, and writes down what is planned next: what a host without a daemon has
/// to ask for now and then.
pub fn run_due(context: &Context, plan: &Plan, journal: Option<Journal>) -> Outcome {
    let Some(journal) = journal else {
        return Err(Failure::usage(
            "what is overdue is known from the journal; it is switched off, or nobody knows its place",
        ));
    };
    // Two of us would see the same jobs overdue.
    let Some(_alone) = journal.lock_job(&plan.profile, "due")? else {
        context.output.detail("another `schedule run --due` is at work");
        return Ok(0);
    };
    let zone = gate::zone(plan).map_err(super::failure::usage)?;
    let duties = gate::duties(plan, &process::host_name());
    let states = states(context, plan)?;
    let now = context.now();
    let overdue = gate::overdue(&duties, &states, now, &zone);
    // A job that never ran is planned from now on, so that its first moment is not moved further and further.
    promise(&journal, plan, &duties, now, &zone)?;
    if overdue.is_empty() {
        context.output.detail("nothing is overdue");
        return Ok(0);
    }
    if let Some(why) = objection(plan, &Machine::default()) {
        overdue.iter().for_each(|(job, _)| held(context, plan, job, &why));
        return Ok(0);
    }
    let all: Vec<Job> = overdue.into_iter().map(|(job, _)| job).collect();
    let code = jobs::run_for(context, &all, Trigger::Schedule)?;
    promise(&journal, plan, &duties, context.now(), &zone)?;
    Ok(code)
}

/// Writes down when each job is planned.
fn promise(
    journal: &Journal,
    plan: &Plan,
    duties: &[Duty],
    now: Timestamp,
    zone: &crate::clock::Zone,
) -> Result<(), Failure> {
    journal.update(&plan.profile, |states| {
        for duty in duties {
            let next = duty.planned(states, now, zone).map(Timestamp::rfc3339);
            if next.is_some() || states.contains_key(&duty.job.to_string()) {
                states.entry(duty.job.to_string()).or_default().next = next;
            }
        }
    })?;
    Ok(())
}
