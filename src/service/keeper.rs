//! Which job is to begin now: schedules, changed files, and what is under way, put together. Knows no clock and starts nothing.
//!
//! Each job has a **base**, the moment from which its next run is counted: the beginning of its last one. From it everything
//! else follows: after a night without power the next run lies in the past and is due once, not once for each that was
//! missed; a clock that is put back moves the base back with it, so that no job waits for a year that was a mistake.

use crate::calendar::Expression;
use crate::clock::{Timestamp, Zone};
use crate::job::{Job, Outcome, Trigger};
use crate::journal::JobStates;
use crate::settings::plan::Watch;
use std::time::Duration;

/// A run that begins later than this after its time was missed, and is told as caught up.
const LATE_SECONDS: i64 = 120;

/// One job, and when it is to run.
#[derive(Clone, Debug)]
pub struct Duty {
    pub job: Job,
    pub schedule: Vec<Expression>,
    /// Jobs that have one in common do not run side by side.
    pub targets: Vec<String>,
    /// It runs when files change, too.
    pub watch: Option<Watch>,
    /// Every planned run is so much later.
    pub jitter: Duration,
}

impl Duty {
    /// The first run that is planned after `base`.
    pub fn next(&self, base: Timestamp, zone: &Zone) -> Option<Timestamp> {
        let jitter = i64::try_from(self.jitter.as_secs()).unwrap_or(0);
        let one = |expression: &Expression| match expression.interval() {
            // Counted from the last run, which was late already.
            Some(_) => expression.next(base, zone),
            None => {
                let shifted = Timestamp { secs: base.secs.saturating_sub(jitter), nanos: base.nanos };
                let then = expression.next(shifted, zone)?;
                Some(Timestamp { secs: then.secs.saturating_add(jitter), nanos: then.nanos })
            }
        };
        self.schedule.iter().filter_map(one).min()
    }

    /// The run that is planned by what is known of earlier ones; one in the past was missed, or cut off. A job of which nothing is known
    /// waits for its first moment, or, where runs are a span apart, begins.
    pub fn planned(&self, states: &JobStates, now: Timestamp, zone: &Zone) -> Option<Timestamp> {
        let state = states.get(&self.job.to_string());
        let is_cut_off = state.is_some_and(|state| state.last_outcome == Some(Outcome::Interrupted));
        match state.and_then(|state| state.started()) {
            // What was cut off is due again.
            Some(started) if is_cut_off && !self.schedule.is_empty() => Some(started.min(now)),
            Some(started) => self.next(started.min(now), zone),
            None => {
                let has_interval = self.schedule.iter().any(|e| e.interval().is_some());
                let first = if has_interval { Some(now) } else { self.next(now, zone) };
                let promised = state.and_then(|state| state.planned()).filter(|_| !self.schedule.is_empty());
                first.into_iter().chain(promised).min()
            }
        }
    }

    /// How far the job moves away from others that have the same schedule: by its name, the same on each day.
    pub fn jitter(host: &str, profile: &str, job: &Job, most: Duration) -> Duration {
        // FNV-1a: a few bits that differ are all that is asked of it.
        let name = format!("{host}\n{profile}\n{job}");
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Duration::from_secs((hash >> 8) % most.as_secs().saturating_add(1).max(1))
    }
}

/// A job that is to begin.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    pub job: Job,
    pub trigger: Trigger,
    /// When it should have begun.
    pub planned: Timestamp,
}

#[derive(Debug)]
struct Entry {
    duty: Duty,
    base: Timestamp,
    planned: Option<Timestamp>,
    /// It could not begin when it was due; not before this.
    retry: Option<Timestamp>,
    /// The first and the last change that no backup has seen.
    changed: Option<(Timestamp, Timestamp)>,
    /// Runs in a row, because of changes, that found nothing new.
    in_vain: u32,
    running: Option<Timestamp>,
}

impl Entry {
    /// When it is to begin, and whether that is because of changes.
    fn due(&self) -> Option<(Timestamp, bool)> {
        let by_time = self.planned.map(|at| (at.max(self.retry.unwrap_or(at)), false));
        let by_change = self.changed.zip(self.duty.watch).map(|((first, last), watch)| {
            // What a backup itself stirs up must not keep it running: the rest asked for grows, up to the longest delay.
            let rest = watch.debounce.saturating_mul(1 << self.in_vain.min(16));
            // A little early at the latest, so that the delay holds although starting takes a moment.
            let head_start = Duration::from_secs((watch.max_delay.as_secs() / 10).min(3));
            let at = later(last, rest).min(later(first, watch.max_delay - head_start));
            (at.max(self.retry.unwrap_or(at)), true)
        });
        by_time.into_iter().chain(by_change).min()
    }
}

fn later(at: Timestamp, by: Duration) -> Timestamp {
    let by = i64::try_from(by.as_secs()).unwrap_or(i64::MAX);
    Timestamp { secs: at.secs.saturating_add(by), nanos: at.nanos }
}

/// All jobs of a profile, those that wait and those under way.
#[derive(Debug)]
pub struct Keeper {
    zone: Zone,
    entries: Vec<Entry>,
    /// Which entries are to begin, the first one first.
    waiting: Vec<(usize, Start)>,
    now: Timestamp,
}

impl Keeper {
    pub fn new(duties: Vec<Duty>, zone: Zone, states: &JobStates, now: Timestamp) -> Self {
        let mut keeper = Keeper { zone, entries: Vec::new(), waiting: Vec::new(), now };
        keeper.entries = duties.into_iter().map(|duty| keeper.entry(duty, states, now)).collect();
        keeper
    }

    fn entry(&self, duty: Duty, states: &JobStates, now: Timestamp) -> Entry {
        let started = states.get(&duty.job.to_string()).and_then(|state| state.started());
        let planned = duty.planned(states, now, &self.zone);
        let base = started.unwrap_or(now).min(now);
        Entry { duty, base, planned, retry: None, changed: None, in_vain: 0, running: None }
    }

    /// Other duties from now on. What is under way stays so, and changes that were seen are kept.
    pub fn reload(&mut self, duties: Vec<Duty>, zone: Zone, states: &JobStates, now: Timestamp) {
        self.zone = zone;
        self.waiting.clear();
        let before = std::mem::take(&mut self.entries);
        let mut entries: Vec<Entry> = duties.into_iter().map(|duty| self.entry(duty, states, now)).collect();
        for old in before {
            match entries.iter_mut().find(|entry| entry.duty.job == old.duty.job) {
                Some(entry) => {
                    if entry.duty.schedule == old.duty.schedule && entry.duty.jitter == old.duty.jitter {
                        (entry.base, entry.planned, entry.retry) = (old.base, old.planned, old.retry);
                    }
                    entry.running = old.running;
                    entry.in_vain = old.in_vain;
                    entry.changed = old.changed.filter(|_| entry.duty.watch.is_some());
                }
                // It still holds its targets.
                None if old.running.is_some() => {
                    let duty = Duty { schedule: Vec::new(), watch: None, ..old.duty };
                    entries.push(Entry { duty, planned: None, changed: None, ..old });
                }
                None => {}
            }
        }
        self.entries = entries;
    }

    /// Takes note of the time. Answers the jobs that were due while they were still running: these runs are left out.
    pub fn look(&mut self, now: Timestamp) -> Vec<Job> {
        if now < self.now {
            self.put_back(now);
        }
        self.now = now;
        let mut left_out = Vec::new();
        let mut due = Vec::new();
        for (index, entry) in self.entries.iter_mut().enumerate() {
            if entry.running.is_some() {
                if entry.planned.is_some_and(|planned| planned <= now) {
                    left_out.push(entry.duty.job.clone());
                    entry.base = now;
                    entry.planned = entry.duty.next(now, &self.zone);
                }
                continue;
            }
            let is_waiting = self.waiting.iter().any(|(waiting, _)| *waiting == index);
            let Some((at, by_change)) = entry.due().filter(|(at, _)| *at <= now && !is_waiting) else {
                continue;
            };
            let planned = if by_change { at } else { entry.planned.unwrap_or(at) };
            let trigger = match (by_change, now.secs.saturating_sub(planned.secs) > LATE_SECONDS) {
                (true, _) => Trigger::Watch,
                (false, true) => Trigger::CatchUp,
                (false, false) => Trigger::Daemon,
            };
            due.push((index, Start { job: entry.duty.job.clone(), trigger, planned }));
        }
        due.sort_by_key(|(index, start)| (start.planned, *index));
        self.waiting.extend(due);
        left_out
    }

    /// The clock was put back: what was counted from a moment that is not yet is counted from now.
    fn put_back(&mut self, now: Timestamp) {
        for entry in &mut self.entries {
            if entry.base > now {
                entry.base = now;
                entry.planned = entry.duty.next(now, &self.zone);
            }
            entry.retry = entry.retry.map(|at| at.min(now));
            entry.changed = entry.changed.map(|(first, last)| (first.min(now), last.min(now)));
            entry.running = entry.running.map(|since| since.min(now));
        }
    }

    /// The next job that may begin, taken as begun: the first one in line none of whose targets is in use, or is waited for by
    /// one before it.
    pub fn begin(&mut self) -> Option<Start> {
        let running = self.entries.iter().filter(|entry| entry.running.is_some());
        let mut taken: Vec<&str> =
            running.flat_map(|entry| entry.duty.targets.iter().map(String::as_str)).collect();
        let mut free = None;
        for (place, (index, _)) in self.waiting.iter().enumerate() {
            let targets = &self.entries[*index].duty.targets;
            if !targets.iter().any(|target| taken.contains(&target.as_str())) {
                free = Some(place);
                break;
            }
            taken.extend(targets.iter().map(String::as_str));
        }
        let (index, start) = self.waiting.remove(free?);
        let entry = &mut self.entries[index];
        entry.running = Some(self.now);
        entry.base = self.now;
        entry.planned = entry.duty.next(self.now, &self.zone);
        entry.retry = None;
        entry.changed = None;
        Some(start)
    }

    /// A job that was taken as begun could not be, and is due again at `retry`.
    pub fn held(&mut self, start: &Start, retry: Timestamp) {
        let now = self.now;
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.duty.job == start.job) {
            entry.running = None;
            entry.retry = Some(retry);
            match start.trigger {
                Trigger::Watch => {
                    entry.changed = entry.changed.or(Some((start.planned.min(now), start.planned.min(now))))
                }
                _ => entry.planned = Some(start.planned),
            }
        }
    }

    /// A job has ended; `in_vain` if it found nothing that the last one had not.
    pub fn done(&mut self, job: &Job, in_vain: bool) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.duty.job == *job) {
            entry.running = None;
            entry.in_vain = if in_vain { entry.in_vain.saturating_add(1) } else { 0 };
        }
    }

    /// Files of a job that watches have changed, between `since` and now.
    pub fn changed(&mut self, job: &Job, since: Timestamp, now: Timestamp) {
        if let Some(entry) = self.entries.iter_mut().find(|e| e.duty.job == *job && e.duty.watch.is_some()) {
            entry.changed = Some(entry.changed.map_or((since, now), |(first, _)| (first, now)));
        }
    }

    pub fn is_idle(&self) -> bool {
        self.entries.iter().all(|entry| entry.running.is_none())
    }

    pub fn is_running(&self, job: &Job) -> bool {
        self.entries.iter().any(|entry| entry.duty.job == *job && entry.running.is_some())
    }

    /// The next moment at which something becomes due by itself.
    pub fn wake(&self) -> Option<Timestamp> {
        let by_itself = self.entries.iter().enumerate().filter_map(|(index, entry)| {
            let is_waiting = self.waiting.iter().any(|(waiting, _)| *waiting == index);
            match entry.running {
                Some(_) => entry.planned,
                None if is_waiting => None,
                None => entry.due().map(|(at, _)| at),
            }
        });
        by_itself.min()
    }

    /// Every job and when it is planned.
    pub fn plans(&self) -> impl Iterator<Item = (&Job, Option<Timestamp>)> {
        self.entries.iter().map(|entry| (&entry.duty.job, entry.planned))
    }
}
