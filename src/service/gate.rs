//! The way into a job: once at a time, in whatever process; and what is planned, as the profile says it.

use super::cycle::{JobReport, Runner};
use super::keeper::Duty;
use crate::clock::{Clock, Timestamp, Zone};
use crate::error::Result;
use crate::job::{Job, Outcome, Trigger};
use crate::journal::{End, JobStates, Journal, Record};
use crate::os::process;
use crate::settings::plan::{JobPlan, Plan};
use std::sync::Arc;

/// Locks jobs of a profile, and writes down those that were not begun.
#[derive(Clone)]
pub struct Gate {
    /// `None`: nothing is locked and nothing written.
    pub journal: Option<Journal>,
    pub profile: String,
    pub clock: Arc<dyn Clock>,
}

impl Gate {
    /// Runs the job, unless it is running already.
    pub fn run(&self, runner: &dyn Runner, job: &Job, trigger: Trigger) -> JobReport {
        let lock = self.journal.as_ref().map(|journal| journal.lock_job(&self.profile, &job.to_string()));
        match lock {
            Some(Ok(None)) => {
                let why = "it is running already";
                self.skipped(job, trigger, why);
                JobReport::skipped(job, why)
            }
            // A lock that cannot be had is no reason to go without a backup; a repository takes several at once.
            _ => runner.run(job, trigger),
        }
    }

    /// Writes down that a job was not begun. That this could not be written changes nothing.
    pub fn skipped(&self, job: &Job, trigger: Trigger, why: &str) {
        let Some(journal) = &self.journal else { return };
        let now = self.clock.now();
        let end = End {
            start: now,
            end: now,
            outcome: Outcome::Skipped,
            message: Some(why.to_owned()),
            ..End::default()
        };
        let note = |states: &mut JobStates| states.entry(job.to_string()).or_default().ended(&end);
        let record = Record {
            time: now.rfc3339(),
            command: job.word().to_owned(),
            profile: Some(self.profile.clone()),
            job: Some(job.to_string()),
            trigger: Some(trigger.word().to_owned()),
            outcome: Outcome::Skipped,
            message: Some(why.to_owned()),
            host: process::host_name(),
            ..Record::default()
        };
        // The journal's own reader sees both missing; there is nobody else to tell.
        let _ = (journal.update(&self.profile, note), journal.append(&record));
    }
}

/// What is told of a job whose thread broke down: a mistake of ours.
pub fn broken(job: &Job) -> JobReport {
    let mut report = JobReport::skipped(job, "");
    report.skipped = None;
    report.outcome = Outcome::Failed;
    report.code = 1;
    report.message = Some("broke down inside this program; please report it".to_owned());
    report
}

/// The zone that schedules are read in unless they name their own.
pub fn zone(plan: &Plan) -> Result<Zone> {
    plan.run.time_zone.as_deref().map_or_else(|| Ok(Zone::system()), Zone::parse)
}

/// Every job of the profile and when it is to run; also those that have no schedule.
pub fn duties(plan: &Plan, host: &str) -> Vec<Duty> {
    let duty = |job: &JobPlan| {
        let watch = match &job.job {
            Job::Backup(set) => plan.set(set).and_then(|set| set.watch),
            _ => None,
        };
        let jitter = Duty::jitter(host, &plan.profile, &job.job, plan.run.jitter);
        Duty {
            job: job.job.clone(),
            schedule: job.schedule.clone(),
            targets: job.targets.clone(),
            watch,
            jitter,
        }
    };
    plan.jobs.iter().map(duty).collect()
}

/// What is overdue by what is known of earlier runs, the longest overdue first, and when it should have run.
pub fn overdue(duties: &[Duty], states: &JobStates, now: Timestamp, zone: &Zone) -> Vec<(Job, Timestamp)> {
    let due = |duty: &Duty| {
        let planned = duty.planned(states, now, zone).filter(|at| *at <= now)?;
        Some((duty.job.clone(), planned))
    };
    let mut all: Vec<_> = duties.iter().filter_map(due).collect();
    all.sort_by_key(|(_, planned)| *planned);
    all
}
