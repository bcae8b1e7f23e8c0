//! What the last days brought: what ran, what failed, how much was added, what runs next.

use crate::calendar;
use crate::clock::{Timestamp, Zone};
use crate::job::Outcome;
use crate::journal::{JobStates, Record};
use crate::settings::plan::Plan;
use crate::units::{bytes, counted, duration};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// The report of one profile.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub profile: String,
    pub from: Timestamp,
    pub to: Timestamp,
    /// By name.
    pub jobs: BTreeMap<String, Job>,
    /// Bytes that backups added to repositories.
    pub added: u64,
    pub snapshots: u64,
}

/// One job in the time of a report.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Job {
    pub runs: u64,
    pub ok: u64,
    pub incomplete: u64,
    pub failed: u64,
    /// Not begun, or ended by somebody.
    pub skipped: u64,
    pub seconds: f64,
    pub added: u64,
    /// Why it failed last in this time.
    pub last_failure: Option<(String, String)>,
    /// When it last succeeded, whenever that was.
    pub last_success: Option<String>,
    /// When it is to run next.
    pub next: Option<Timestamp>,
}

impl Report {
    /// From the journal's records of whole jobs since `from`, the states of jobs, and what is planned.
    pub fn of(plan: &Plan, records: &[Record], states: &JobStates, from: Timestamp, to: Timestamp) -> Self {
        let mut report = Report { profile: plan.profile.clone(), from, to, ..Report::default() };
        let zone = plan.run.time_zone.as_deref().and_then(|name| Zone::parse(name).ok());
        let zone = zone.unwrap_or_else(Zone::system);
        for planned in plan.jobs.iter().filter(|job| !job.schedule.is_empty()) {
            let name = planned.job.to_string();
            let state = states.get(&name);
            let noted = state.and_then(|s| s.planned()).filter(|at| *at > to);
            let next = noted.or_else(|| calendar::next(&planned.schedule, to, &zone));
            report.jobs.insert(name, Job { next, ..Job::default() });
        }
        for record in records.iter().filter(|r| r.command == "job") {
            let Some(name) = &record.job else { continue };
            let job = report.jobs.entry(name.clone()).or_default();
            job.take(record);
            report.added += record.added.unwrap_or(0);
            report.snapshots += u64::from(record.snapshot.is_some());
        }
        for (name, job) in &mut report.jobs {
            job.last_success = states.get(name).and_then(|state| state.last_success.clone());
        }
        report
    }

    /// Whether something failed, or ran in no way although it was planned.
    pub fn is_good(&self) -> bool {
        self.jobs.values().all(|job| job.failed == 0 && job.incomplete == 0)
    }

    /// One line.
    pub fn title(&self) -> String {
        let sum = |of: fn(&Job) -> u64| self.jobs.values().map(of).sum::<u64>();
        let runs = counted(sum(|j| j.runs), "run", "runs");
        match sum(|j| j.failed + j.incomplete) {
            0 => format!("{}: {runs}, all well", self.profile),
            bad => format!("{}: {runs}, {bad} NOT well", self.profile),
        }
    }

    /// For people.
    pub fn lines(&self) -> Vec<String> {
        let span = u64::try_from(self.to.secs - self.from.secs).unwrap_or(0);
        let mut out = vec![
            self.title(),
            format!("from {} to {} ({} h)", self.from.local(), self.to.local(), span / 3600),
            format!("{} made, {} added", counted(self.snapshots, "snapshot", "snapshots"), bytes(self.added)),
        ];
        for (name, job) in &self.jobs {
            out.push(String::new());
            out.push(format!("{name}: {}", job.words()));
            if let Some((time, why)) = &job.last_failure {
                out.push(format!("  failed {time}: {why}"));
            }
            if job.ok == 0 {
                let last = job.last_success.as_deref().unwrap_or("never");
                out.push(format!("  last success: {last}"));
            }
            if let Some(next) = job.next {
                out.push(format!("  next: {}", next.local()));
            }
        }
        out
    }

    /// For programs, one object.
    pub fn json(&self) -> Value {
        let job = |(name, job): (&String, &Job)| {
            json!({ "job": name, "runs": job.runs, "ok": job.ok, "incomplete": job.incomplete, "failed": job.failed,
                "skipped": job.skipped, "seconds": job.seconds, "added": job.added,
                "last_failure": job.last_failure.as_ref().map(|(time, why)| json!({ "time": time, "message": why })),
                "last_success": job.last_success, "next": job.next.map(Timestamp::rfc3339) })
        };
        json!({ "message_type": "report", "profile": self.profile, "from": self.from.rfc3339(), "to": self.to.rfc3339(),
            "good": self.is_good(), "snapshots": self.snapshots, "data_added_packed": self.added,
            "jobs": self.jobs.iter().map(job).collect::<Vec<_>>() })
    }
}

impl Job {
    fn take(&mut self, record: &Record) {
        match record.outcome {
            Outcome::Ok => self.ok += 1,
            Outcome::Incomplete => self.incomplete += 1,
            Outcome::Failed | Outcome::Refused => {
                self.failed += 1;
                let why = record.message.clone().unwrap_or_else(|| format!("exit code {}", record.code));
                self.last_failure = Some((record.time.clone(), why));
            }
            Outcome::Skipped | Outcome::Interrupted => {
                self.skipped += 1;
                return;
            }
        }
        self.runs += 1;
        self.seconds += record.seconds;
        self.added += record.added.unwrap_or(0);
    }

    fn words(&self) -> String {
        let mut parts = vec![counted(self.runs, "run", "runs")];
        let mut some = |count: u64, what: &str| {
            if count > 0 {
                parts.push(format!("{count} {what}"));
            }
        };
        some(self.failed, "FAILED");
        some(self.incomplete, "incomplete");
        some(self.skipped, "skipped");
        if self.runs > 0 {
            parts
                .push(format!("{} each", duration(Duration::from_secs_f64(self.seconds / self.runs as f64))));
        }
        if self.added > 0 {
            parts.push(format!("{} added", bytes(self.added)));
        }
        parts.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_counted_and_the_last_failure_is_named() {
        let record = |outcome, time: &str, added| Record {
            time: time.to_owned(),
            command: "job".to_owned(),
            job: Some("backup:app".to_owned()),
            outcome,
            added,
            seconds: 2.0,
            message: (outcome == Outcome::Failed).then(|| "the disk is full".to_owned()),
            ..Record::default()
        };
        let records = [
            record(Outcome::Ok, "a", Some(10)),
            record(Outcome::Failed, "b", None),
            record(Outcome::Ok, "c", Some(5)),
            record(Outcome::Skipped, "d", None),
            Record { command: "backup".to_owned(), ..record(Outcome::Ok, "e", Some(99)) },
        ];
        let plan = Plan { profile: "app".to_owned(), ..Plan::default() };
        let now = Timestamp { secs: 86_400, nanos: 0 };
        let report = Report::of(&plan, &records, &JobStates::new(), Timestamp::default(), now);
        let job = &report.jobs["backup:app"];
        assert_eq!((job.runs, job.ok, job.failed, job.skipped, job.added), (3, 2, 1, 1, 15));
        assert_eq!(job.last_failure, Some(("b".to_owned(), "the disk is full".to_owned())));
        assert_eq!((report.title().as_str(), report.is_good()), ("app: 3 runs, 1 NOT well", false));
    }
}
