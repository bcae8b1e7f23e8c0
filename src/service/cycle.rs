//! One job over its targets: hooks around it, each command in a process of its own, further attempts, one report.

use super::after;
use super::child::{self, Call, Heard};
use super::steps::{self, Stop};
use super::voices;
use crate::clock::Clock;
use crate::hooks;
use crate::job::{HookRun, Job, Outcome, Trigger};
use crate::journal::Journal;
use crate::settings::plan::{Hook, Hooks, JobPlan, OnFailure, Plan};
use serde::Serialize;
use serde_json::Value;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Codes that may be better the next time: any failure, a place that is not there, somebody else at work.
const AGAIN: [u8; 3] = [1, 10, 11];

/// Between two looks whether to stop.
const PAUSE: Duration = Duration::from_millis(100);

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
    /// Why it was not begun, where that is no failure.
    pub skipped: Option<String>,
    /// Why it failed before any target was asked.
    pub message: Option<String>,
    pub hooks: Vec<HookRun>,
}

impl JobReport {
    /// Of a job that was not begun, for a reason that is no failure.
    pub fn skipped(job: &Job, why: impl Into<String>) -> Self {
        JobReport { skipped: Some(why.into()), ..JobReport::ended(job, Outcome::Skipped, 0) }
    }

    fn ended(job: &Job, outcome: Outcome, code: u8) -> Self {
        JobReport {
            job: job.clone(),
            outcome,
            code,
            targets: Vec::new(),
            seconds: 0.0,
            skipped: None,
            message: None,
            hooks: Vec::new(),
        }
    }
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
    /// The summary that the command wrote, or null; a list of these where it was more than one.
    pub summary: Value,
    /// Its warnings and errors, as text; the last one says why it failed.
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

/// What is told while a job runs.
pub enum Event<'a> {
    /// A target's turn, for the first time or again after a pause.
    Begins {
        target: &'a str,
        attempt: u32,
    },
    Ended(&'a TargetReport),
    /// A hook that failed, and what that means to the job.
    HookFailed(&'a HookRun),
    /// Something about the job could not be written down; the job itself is as it is.
    NotWritten(&'a str),
    /// Somebody could not be told of it.
    NotTold(&'a str),
}

/// Hears what happens while jobs run.
pub type Hear = Box<dyn Fn(&Job, &Event<'_>) + Send + Sync>;

/// Runs the jobs of a profile.
pub struct Cycle {
    pub plan: Arc<Plan>,
    /// Our own program.
    pub program: PathBuf,
    /// The profile's file.
    pub profile: PathBuf,
    /// Options that hold for every command, given to us and passed on.
    pub words: Vec<OsString>,
    /// Options of the job's own command.
    pub own: Vec<OsString>,
    /// Only this target, whatever the profile says.
    pub only: Option<String>,
    /// Commands write for people, to where we write, and not results for us.
    pub aloud: bool,
    /// Nothing is to be changed: no hook runs, and nobody is told.
    pub rehearsal: bool,
    /// Set by whoever wants an end of it: the command that runs is asked to end, and no other is begun.
    pub stop: Arc<AtomicBool>,
    /// Where jobs are written down; `None` for nowhere.
    pub journal: Option<Journal>,
    pub clock: Arc<dyn Clock>,
    pub hear: Hear,
}

impl Runner for Cycle {
    fn run(&self, job: &Job, trigger: Trigger) -> JobReport {
        let (begun, start) = (Instant::now(), self.clock.now());
        let failed_before = self.failures(job);
        if !self.rehearsal {
            for text in voices::before(&self.plan, job) {
                (self.hear)(job, &Event::NotTold(&text));
            }
        }
        let mut report = match self.plan.job_or_error(job) {
            Ok(plan) => Turn { cycle: self, plan, trigger, begun }.run(),
            Err(e) => {
                let ended = JobReport::ended(job, Outcome::Failed, 1);
                JobReport { message: Some(e.message().to_owned()), ..ended }
            }
        };
        report.seconds = begun.elapsed().as_secs_f64();
        if self.rehearsal {
            return report;
        }
        for text in after::write_down(self, &report, trigger, start) {
            (self.hear)(job, &Event::NotWritten(&text));
        }
        let (journal, how) = (self.journal.as_ref(), (trigger, failed_before));
        for text in voices::after(&self.plan, journal, &report, how, self.clock.now()) {
            (self.hear)(job, &Event::NotTold(&text));
        }
        report
    }
}

impl Cycle {
    /// How often the job failed in a row until now.
    fn failures(&self, job: &Job) -> u32 {
        let states = self.journal.as_ref().and_then(|journal| journal.states(&self.plan.profile).ok());
        let state = states.and_then(|(states, _)| states.get(&job.to_string()).cloned());
        state.map_or(0, |state| state.consecutive_failures)
    }
}

/// One run of one job.
struct Turn<'a> {
    cycle: &'a Cycle,
    plan: &'a JobPlan,
    trigger: Trigger,
    begun: Instant,
}

impl Turn<'_> {
    fn run(&self) -> JobReport {
        let mut report = JobReport::ended(&self.plan.job, Outcome::Ok, 0);
        let layers = self.hook_layers();
        let before: Vec<&Hook> = layers.iter().flat_map(|hooks| &hooks.before).collect();
        if let Some(why) = self.hooks("run-before", &before, &mut report) {
            report.outcome = Outcome::Failed;
            report.code = 1;
            report.message = Some(why);
        } else {
            self.targets(&mut report);
        }
        // The innermost first, as they were left.
        let after =
            |pick: fn(&Hooks) -> &Vec<Hook>| layers.iter().rev().flat_map(|h| pick(h)).collect::<Vec<_>>();
        match report.outcome {
            Outcome::Ok | Outcome::Skipped => self.hooks("run-after", &after(|h| &h.after), &mut report),
            // A snapshot was made, and a finding is what was looked for.
            Outcome::Incomplete => self.hooks("run-after", &after(|h| &h.after), &mut report),
            _ => self.hooks("run-failed", &after(|h| &h.failed), &mut report),
        };
        self.hooks("run-finally", &after(|h| &h.finally), &mut report);
        report
    }

    /// The outermost first.
    fn hook_layers(&self) -> Vec<&Hooks> {
        let mut layers = vec![&self.cycle.plan.hooks, &self.plan.hooks];
        if let Job::Backup(set) = &self.plan.job {
            layers.extend(self.cycle.plan.set(set).map(|set| &set.hooks));
        }
        layers
    }

    /// Runs hooks; answers why the job must not begin, if one of them says so.
    fn hooks(&self, when: &str, hooks: &[&Hook], report: &mut JobReport) -> Option<String> {
        for hook in hooks.iter().filter(|_| !self.cycle.rehearsal) {
            let facts = self.facts(when, report);
            // Whoever wants an end of the job wants what cleans up after it all the same.
            let stop = || when == "run-before" && self.stopped();
            let done = hooks::run(hook, when, &facts, &stop);
            let failed = done.code != 0;
            if failed && hook.on_failure != OnFailure::Ignore {
                (self.cycle.hear)(&self.plan.job, &Event::HookFailed(&done));
            }
            let why = format!("the hook `{}` ended with {}", done.command, done.code);
            report.hooks.push(done);
            if failed && hook.on_failure == OnFailure::Fail {
                return Some(why);
            }
        }
        None
    }

    /// What hooks are told, in variables.
    fn facts(&self, when: &str, report: &JobReport) -> Vec<(&'static str, String)> {
        let mut facts = vec![
            ("SNAPKEEP_HOOK", when.to_owned()),
            ("SNAPKEEP_JOB", self.plan.job.to_string()),
            ("SNAPKEEP_PROFILE", self.cycle.plan.profile.clone()),
            ("SNAPKEEP_TARGETS", self.plan.targets.join(",")),
            ("SNAPKEEP_TRIGGER", self.trigger.word().to_owned()),
        ];
        if when == "run-before" {
            return facts;
        }
        facts.push(("SNAPKEEP_OUTCOME", report.outcome.word().to_owned()));
        facts.push(("SNAPKEEP_CODE", report.code.to_string()));
        let snapshots = report.targets.iter().filter_map(|target| target.summary["snapshot_id"].as_str());
        facts.push(("SNAPKEEP_SNAPSHOT", snapshots.collect::<Vec<_>>().join(",")));
        facts.push(("SNAPKEEP_ERROR", after::why(report).unwrap_or_default()));
        facts
    }

    fn targets(&self, report: &mut JobReport) {
        let only = self.cycle.only.as_deref();
        let stops = steps::of(&self.cycle.plan, self.plan, self.trigger, &self.cycle.own);
        for stop in stops.into_iter().filter(|stop| only.is_none_or(|only| only == stop.target)) {
            let done = match self.hindrance(&stop, report) {
                Some(why) => why,
                None => self.attempts(&stop),
            };
            (self.cycle.hear)(&self.plan.job, &Event::Ended(&done));
            report.targets.push(done);
        }
        let counted = report.targets.iter().filter(|target| target.outcome != Outcome::Skipped);
        report.code = worst(counted.clone().map(|target| target.code));
        report.outcome = match counted.count() {
            0 => {
                let whys = report.targets.iter().filter_map(|t| t.messages.last().cloned());
                let why = whys.collect::<Vec<_>>().join("; ");
                report.skipped =
                    Some(if why.is_empty() { "there is no target for it".to_owned() } else { why });
                Outcome::Skipped
            }
            _ => Outcome::of_code(report.code),
        };
    }

    /// A reason not even to begin at this target.
    fn hindrance(&self, stop: &Stop, report: &JobReport) -> Option<TargetReport> {
        let told = |outcome, code, why: String| TargetReport {
            target: stop.target.clone(),
            outcome,
            code,
            attempts: 0,
            seconds: 0.0,
            summary: Value::Null,
            messages: vec![why],
        };
        if self.stopped() {
            return Some(told(Outcome::Interrupted, 130, "stopped before it began".to_owned()));
        }
        if self.deadline().is_some_and(|at| Instant::now() >= at) {
            return Some(told(Outcome::Failed, 1, "not begun: the time for this job is over".to_owned()));
        }
        let source = stop.needs.as_ref()?;
        let there = report.targets.iter().find(|target| target.target == *source);
        let good = there.is_none_or(|target| matches!(target.outcome, Outcome::Ok | Outcome::Incomplete));
        (!good).then(|| {
            told(Outcome::Failed, 1, format!("nothing to copy: the backup to {source} did not go well"))
        })
    }

    /// Tries until it goes well, or trying again is of no use.
    fn attempts(&self, stop: &Stop) -> TargetReport {
        let begun = Instant::now();
        let limits = &self.cycle.plan.run;
        // A person at the terminal tries again without our help.
        let most = if self.trigger == Trigger::Manual { 1 } else { limits.retries.saturating_add(1) };
        let mut delay = limits.retry_delay;
        let mut attempt = 1;
        let heard = loop {
            (self.cycle.hear)(&self.plan.job, &Event::Begins { target: &stop.target, attempt });
            let heard = self.steps(stop, attempt);
            let gone = stop.optional && heard.code == 10;
            let again = AGAIN.contains(&heard.code) && heard.cut.is_none() && !gone;
            let late = self.deadline().is_some_and(|at| Instant::now() + delay >= at);
            if !again || attempt >= most || late || !self.pause(delay) {
                break heard;
            }
            delay = (delay * 2).min(limits.retry_max);
            attempt += 1;
        };
        let gone = stop.optional && heard.code == 10;
        let verdict = heard.results.iter().rev().find_map(voices::verdict);
        TargetReport {
            target: stop.target.clone(),
            outcome: if gone { Outcome::Skipped } else { Outcome::of_code(heard.code) },
            code: heard.code,
            attempts: attempt,
            seconds: begun.elapsed().as_secs_f64(),
            summary: match heard.results.as_slice() {
                [] => Value::Null,
                [one] => one.clone(),
                _ => Value::Array(heard.results),
            },
            messages: heard.messages.into_iter().chain(verdict).collect(),
        }
    }

    /// One attempt: every command, as long as they end in a way that lets the next one be of use.
    fn steps(&self, stop: &Stop, attempt: u32) -> Heard {
        let mut all = Heard::default();
        let mut results = Vec::new();
        let mut codes = Vec::new();
        for step in &stop.steps {
            let heard = child::run(&self.call(stop, step, attempt));
            results.extend(heard.results);
            all.messages.extend(heard.messages);
            codes.push(heard.code);
            all.cut = heard.cut;
            if heard.cut.is_some() || ![0, 3, 20, 23].contains(&heard.code) {
                break;
            }
        }
        all.code = worst(codes);
        all.results = results;
        all
    }

    fn call<'c>(&'c self, stop: &Stop, step: &[OsString], attempt: u32) -> Call<'c> {
        let cycle = self.cycle;
        let mut words: Vec<OsString> = cycle.words.clone();
        words.extend(["--use-profile".into(), cycle.profile.clone().into_os_string()]);
        words.extend((!cycle.aloud).then(|| OsString::from("--json")));
        if !stop.target.is_empty() {
            words.extend(["--to".into(), OsString::from(&stop.target)]);
        }
        words.extend(step.iter().cloned());
        Call {
            program: cycle.program.as_os_str(),
            words,
            variables: vec![
                ("SNAPKEEP_JOB", self.plan.job.to_string()),
                ("SNAPKEEP_TRIGGER", self.trigger.word().to_owned()),
                ("SNAPKEEP_ATTEMPT", attempt.to_string()),
            ],
            limits: &cycle.plan.run,
            trigger: self.trigger,
            deadline: self.deadline(),
            aloud: cycle.aloud,
            stop: &cycle.stop,
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let limit = self.cycle.plan.run.timeout.filter(|_| self.trigger != Trigger::Manual)?;
        self.begun.checked_add(limit)
    }

    fn stopped(&self) -> bool {
        self.cycle.stop.load(Ordering::Relaxed)
    }

    /// Waits; false when somebody wants an end.
    fn pause(&self, span: Duration) -> bool {
        let until = Instant::now() + span;
        while !self.stopped() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(PAUSE));
        }
        false
    }
}
