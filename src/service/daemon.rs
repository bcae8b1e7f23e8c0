//! The loop that carries out a profile's jobs for as long as the program runs: events in, jobs begun, nothing polled.
//!
//! The loop sleeps until the next moment that something is due, and a minute at most: a machine that was suspended, or a clock
//! that was set, is noticed then. What runs, runs on threads that only wait for processes.

use super::cycle::{JobReport, Runner};
use super::gate::{self, Gate};
use super::guards::Machine;
use super::keeper::{Duty, Keeper, Start};
use super::watch::{Site, Watching};
use crate::clock::{Clock, Timestamp};
use crate::error::Result;
use crate::job::{Job, Trigger};
use crate::journal::{JobStates, Journal};
use crate::settings::plan::Plan;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The longest sleep.
const NAP_MAX: Duration = Duration::from_secs(60);
/// Changed files are asked for no more often.
const GATHER: Duration = Duration::from_secs(1);
/// After a reason not to begin a job, it is tried again.
const HELD_SECONDS: i64 = 300;

/// Everything that can happen to the loop from outside.
#[derive(Debug)]
pub enum Event {
    /// A job has ended.
    Done(Job, Box<JobReport>),
    /// Some files have changed; the watching knows which.
    Changed,
    /// Read the profile again.
    Reload,
    /// End what runs, and then the loop.
    Stop,
}

/// A profile as it is now, and what runs its jobs.
pub struct Loaded {
    pub plan: Arc<Plan>,
    pub runner: Arc<dyn Runner + Send + Sync>,
}

/// What the loop tells whoever looks on.
pub enum Told<'a> {
    Begins(&'a Start),
    Ended(&'a JobReport),
    /// A job is not begun now, and why.
    Held(&'a Job, &'a str),
    /// A source that cannot be watched.
    Problem(&'a str),
    /// What was known of jobs is not known any more.
    Lost(&'a str),
    NotWritten(&'a str),
    NotReloaded(&'a str),
    Note(&'a str),
}

/// The world of a loop.
pub struct Surroundings<'a> {
    pub clock: Arc<dyn Clock>,
    pub machine: Machine,
    pub journal: Option<Journal>,
    pub host: String,
    /// Directories of our own, in which changes mean nothing.
    pub own_places: Vec<PathBuf>,
    /// Set when everything that runs is to end.
    pub stop: Arc<AtomicBool>,
    /// Reads the profile.
    pub load: &'a dyn Fn() -> Result<Loaded>,
    pub tell: &'a dyn Fn(Told<'_>),
    /// Only what changed files ask for; schedules are somebody else's.
    pub only_watch: bool,
}

pub struct Daemon<'a> {
    around: Surroundings<'a>,
    loaded: Loaded,
    keeper: Keeper,
    watching: Option<Watching>,
    sender: Sender<Event>,
    events: Receiver<Event>,
    /// Plans as they were written down last.
    written: BTreeMap<String, Option<String>>,
    /// Why jobs were held, so that each reason is told once.
    held: BTreeMap<Job, (Timestamp, String)>,
    gathered: Option<Instant>,
    refreshed: Instant,
    /// Changes that wait for their second.
    changes: bool,
}

impl<'a> Daemon<'a> {
    /// Reads the profile and looks at everything; nothing begins before `run`.
    pub fn new(around: Surroundings<'a>) -> Result<Self> {
        let loaded = (around.load)()?;
        let (sender, events) = unbounded();
        let states = states(&around, &loaded.plan);
        let zone = gate::zone(&loaded.plan)?;
        let duties = duties(&around, &loaded.plan);
        let keeper = Keeper::new(duties, zone, &states, around.clock.now());
        let mut daemon = Daemon {
            around,
            loaded,
            keeper,
            watching: None,
            sender,
            events,
            written: BTreeMap::new(),
            held: BTreeMap::new(),
            gathered: None,
            refreshed: Instant::now(),
            changes: false,
        };
        daemon.watch()?;
        Ok(daemon)
    }

    /// Where events go in.
    pub fn sender(&self) -> Sender<Event> {
        self.sender.clone()
    }

    /// Goes on until it is stopped, or, with `once`, until nothing is due and nothing runs.
    pub fn run(&mut self, once: bool) -> Result<()> {
        loop {
            let stopping = self.around.stop.load(Ordering::Relaxed);
            let now = self.around.clock.now();
            for job in self.keeper.look(now) {
                self.left_out(&job);
            }
            while let Some(start) = (!stopping).then(|| self.keeper.begin()).flatten() {
                self.begin(start, now);
            }
            self.write_plans();
            let is_over = self.keeper.is_idle() && (stopping || (once && !self.is_due(now)));
            if is_over {
                return Ok(());
            }
            self.sleep(now);
        }
    }

    fn is_due(&self, now: Timestamp) -> bool {
        self.changes || self.keeper.wake().is_some_and(|at| at <= now)
    }

    /// Waits for something to happen, and takes in all that has.
    fn sleep(&mut self, now: Timestamp) {
        let until = self.keeper.wake().map_or(NAP_MAX, |at| span(now, at)).min(NAP_MAX);
        let until = if self.changes { until.min(GATHER) } else { until };
        match self.events.recv_timeout(until) {
            Ok(event) => self.take(event),
            // Our own sender lives as long as we do.
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
        while let Ok(event) = self.events.try_recv() {
            self.take(event);
        }
        self.refresh();
        self.gather();
    }

    /// Looks for sources that have appeared or gone; about once a minute, also at those that cannot be watched.
    fn refresh(&mut self) {
        let Some(watching) = &mut self.watching else { return };
        let all = self.refreshed.elapsed() + GATHER >= NAP_MAX;
        watching.refresh(all);
        if all {
            self.refreshed = Instant::now();
        }
        self.changes |= watching.has_changes();
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Done(job, report) => {
                self.keeper.done(&job, is_unchanged(&report));
                (self.around.tell)(Told::Ended(&report));
            }
            Event::Changed => self.changes = true,
            Event::Reload => self.reload(),
            Event::Stop => self.around.stop.store(true, Ordering::Relaxed),
        }
    }

    /// Asks which files have changed, not more than once a second however many do.
    fn gather(&mut self) {
        let rested = self.gathered.is_none_or(|at| at.elapsed() >= GATHER);
        let (Some(watching), true) = (&mut self.watching, self.changes && rested) else { return };
        watching.problems().iter().for_each(|problem| (self.around.tell)(Told::Problem(problem)));
        let now = self.around.clock.now();
        // They may have waited for us that long, and the longest delay is a promise.
        let since = Timestamp { secs: now.secs.saturating_sub(1), nanos: now.nanos };
        for job in watching.changed() {
            self.keeper.changed(&job, since, now);
        }
        self.gathered = Some(Instant::now());
        self.changes = false;
    }

    fn begin(&mut self, start: Start, now: Timestamp) {
        let limits = &self.loaded.plan.run;
        let (since, told) = self.held.get(&start.job).cloned().unwrap_or((now, String::new()));
        let waited = span(since, now) >= limits.load_wait;
        let objection = self.around.machine.power(limits);
        let objection = objection.or_else(|| self.around.machine.load(limits).filter(|_| !waited));
        let Some(why) = objection else {
            self.held.remove(&start.job);
            (self.around.tell)(Told::Begins(&start));
            self.spawn(&start);
            return;
        };
        if why != told {
            (self.around.tell)(Told::Held(&start.job, &why));
            self.gate().skipped(&start.job, start.trigger, &why);
        }
        self.held.insert(start.job.clone(), (since, why));
        let retry = Timestamp { secs: now.secs.saturating_add(HELD_SECONDS), nanos: 0 };
        self.keeper.held(&start, retry);
    }

    fn gate(&self) -> Gate {
        Gate {
            journal: self.around.journal.clone(),
            profile: self.loaded.plan.profile.clone(),
            clock: Arc::clone(&self.around.clock),
        }
    }

    /// Runs the job on a thread of its own, which says when it is done, in whatever way it ends.
    fn spawn(&mut self, start: &Start) {
        let (job, trigger) = (start.job.clone(), start.trigger);
        let (runner, gate, sender) = (Arc::clone(&self.loaded.runner), self.gate(), self.sender.clone());
        let work = move || {
            let run = std::panic::AssertUnwindSafe(|| gate.run(runner.as_ref(), &job, trigger));
            let report = std::panic::catch_unwind(run).unwrap_or_else(|_| gate::broken(&job));
            // Nobody listens any more only when the program ends.
            let _ = sender.send(Event::Done(job, Box::new(report)));
        };
        if let Err(e) = std::thread::Builder::new().name("job".to_owned()).spawn(work) {
            (self.around.tell)(Told::Held(&start.job, &format!("no thread for it: {e}")));
            let later = Timestamp { secs: self.around.clock.now().secs + HELD_SECONDS, nanos: 0 };
            self.keeper.held(start, later);
        }
    }

    fn left_out(&self, job: &Job) {
        let why = "it was due while it was still running";
        (self.around.tell)(Told::Held(job, why));
        self.gate().skipped(job, Trigger::Daemon, why);
    }

    /// A profile with a mistake in it changes nothing.
    fn reload(&mut self) {
        let tell = self.around.tell;
        let loaded = (self.around.load)().and_then(|loaded| {
            let parts = (gate::zone(&loaded.plan)?, duties(&self.around, &loaded.plan));
            Ok((loaded, parts))
        });
        match loaded {
            Ok((loaded, (zone, duties))) => {
                let states = states(&self.around, &loaded.plan);
                self.keeper.reload(duties, zone, &states, self.around.clock.now());
                self.loaded = loaded;
                self.held.clear();
                match self.watch() {
                    Ok(()) => tell(Told::Note("the profile was read again")),
                    Err(e) => tell(Told::Problem(&format!("changed files are not seen any more: {e}"))),
                }
            }
            Err(e) => {
                tell(Told::NotReloaded(&format!("the profile was not read again, the old one holds on: {e}")))
            }
        }
    }

    fn watch(&mut self) -> Result<()> {
        self.watching = None;
        let sets = self.loaded.plan.sets.iter().filter(|set| set.watch.is_some());
        let sites: Vec<Site> =
            sets.map(|set| Site { job: Job::Backup(set.name.clone()), roots: set.sources.clone() }).collect();
        if sites.is_empty() {
            return Ok(());
        }
        let sender = self.sender.clone();
        let skip = self.around.own_places.clone();
        let mut watching = Watching::start(sites, skip, move || drop(sender.send(Event::Changed)))?;
        watching.problems().iter().for_each(|problem| (self.around.tell)(Told::Problem(problem)));
        self.watching = Some(watching);
        self.changes = true;
        Ok(())
    }

    /// What is planned is kept, so that the next of us knows what was missed.
    fn write_plans(&mut self) {
        if self.around.only_watch {
            return;
        }
        let plans = self.keeper.plans().map(|(job, at)| (job.to_string(), at.map(Timestamp::rfc3339)));
        let plans: BTreeMap<_, _> = plans.collect();
        let Some(journal) = self.around.journal.as_ref().filter(|_| plans != self.written) else { return };
        let change = |states: &mut JobStates| {
            for (job, next) in &plans {
                states.entry(job.clone()).or_default().next.clone_from(next);
            }
        };
        match journal.update(&self.loaded.plan.profile, change) {
            Ok(told) => told.iter().for_each(|told| (self.around.tell)(Told::Lost(told))),
            Err(e) => {
                (self.around.tell)(Told::NotWritten(&format!("what is planned could not be written: {e}")))
            }
        }
        // Told once; the next change is tried again.
        self.written = plans;
    }
}

/// Whether no target got anything new.
fn is_unchanged(report: &JobReport) -> bool {
    !report.targets.is_empty() && report.targets.iter().all(|target| target.summary["unchanged"] == true)
}

/// From one moment to a later one; nothing if it is not later.
fn span(from: Timestamp, to: Timestamp) -> Duration {
    let nanos =
        i128::from(to.secs - from.secs) * 1_000_000_000 + i128::from(to.nanos) - i128::from(from.nanos);
    Duration::from_nanos(u64::try_from(nanos.max(0)).unwrap_or(u64::MAX))
}

fn states(around: &Surroundings<'_>, plan: &Plan) -> JobStates {
    let Some(journal) = &around.journal else { return JobStates::new() };
    match journal.states(&plan.profile) {
        Ok((states, told)) => {
            told.iter().for_each(|told| (around.tell)(Told::Lost(told)));
            states
        }
        Err(e) => {
            (around.tell)(Told::Lost(&format!("what was done before is not known: {e}")));
            JobStates::new()
        }
    }
}

fn duties(around: &Surroundings<'_>, plan: &Plan) -> Vec<Duty> {
    let mut duties = gate::duties(plan, &around.host);
    if around.only_watch {
        duties.iter_mut().for_each(|duty| duty.schedule.clear());
    }
    duties.retain(|duty| !duty.schedule.is_empty() || duty.watch.is_some());
    duties
}
