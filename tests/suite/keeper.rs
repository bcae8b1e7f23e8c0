//! When jobs begin: ten years of nights without power, wrong clocks and long runs, against a plain model; single cases; power and load.

use crate::shelf::Random;
use snapkeep::calendar::Expression;
use snapkeep::clock::{Timestamp, Zone};
use snapkeep::job::{Job, Outcome, Trigger};
use snapkeep::journal::JobStates;
use snapkeep::service::guards::Machine;
use snapkeep::service::keeper::{Duty, Keeper, Start};
use snapkeep::settings::plan::{Battery, RunLimits, Watch};
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text, Timestamp::default()).expect("a time")
}

fn secs(secs: i64) -> Timestamp {
    Timestamp { secs, nanos: 0 }
}

fn duty(job: &str, schedule: &[&str], targets: &[&str]) -> Duty {
    Duty {
        job: job.parse().expect("a job"),
        schedule: schedule.iter().map(|text| Expression::parse(text).expect("a schedule")).collect(),
        targets: targets.iter().map(|&t| t.to_owned()).collect(),
        watch: None,
        jitter: Duration::ZERO,
    }
}

fn zone() -> Zone {
    Zone::parse("CET-1CEST,M3.5.0,M10.5.0/3").expect("a rule")
}

fn job(text: &str) -> Job {
    text.parse().expect("a job")
}

/// Everything that begins now.
fn begun(keeper: &mut Keeper, now: Timestamp) -> Vec<Start> {
    keeper.look(now);
    std::iter::from_fn(|| keeper.begin()).collect()
}

/// The world that the keeper lives in: what runs until when, and what was noted of it.
struct World {
    now: i64,
    keeper: Keeper,
    duties: Vec<Duty>,
    states: JobStates,
    /// Ends of what is running.
    running: BTreeMap<Job, i64>,
    /// The occurrences of each duty, by the calendar alone.
    occurrences: Vec<Vec<i64>>,
    /// From when on occurrences of each duty count: its last beginning, or the last run left out.
    since: Vec<i64>,
    starts: Vec<u64>,
    left_out: u64,
    caught_up: u64,
}

impl World {
    fn new(duties: Vec<Duty>, from: i64, until: i64) -> Self {
        let every = |duty: &Duty| {
            let mut now = secs(from);
            let mut all = Vec::new();
            while let Some(then) = duty.next(now, &zone()).filter(|then| then.secs < until) {
                all.push(then.secs);
                now = then;
            }
            all
        };
        let occurrences = duties.iter().map(every).collect();
        let states = JobStates::new();
        let keeper = Keeper::new(duties.clone(), zone(), &states, secs(from));
        let (since, starts) = (vec![from; duties.len()], vec![0; duties.len()]);
        let (running, left_out, caught_up) = (BTreeMap::new(), 0, 0);
        World { now: from, keeper, duties, states, running, occurrences, since, starts, left_out, caught_up }
    }

    fn place(&self, job: &Job) -> usize {
        self.duties.iter().position(|duty| duty.job == *job).expect("known")
    }

    /// Whether the model says that an occurrence is waiting to be run.
    fn owes(&self, place: usize) -> bool {
        let all = &self.occurrences[place];
        let next = all.partition_point(|at| *at <= self.since[place]);
        all.get(next).is_some_and(|at| *at <= self.now)
    }

    fn look(&mut self, random: &mut Random) {
        let ended: Vec<Job> =
            self.running.iter().filter(|(_, end)| **end <= self.now).map(|(job, _)| job.clone()).collect();
        for job in ended {
            self.running.remove(&job);
            self.keeper.done(&job, false);
        }
        for job in self.keeper.look(secs(self.now)) {
            let place = self.place(&job);
            assert!(self.running.contains_key(&job) && self.owes(place), "{job} left out without need");
            self.since[place] = self.now;
            self.left_out += 1;
        }
        while let Some(start) = self.keeper.begin() {
            let place = self.place(&start.job);
            assert!(self.owes(place), "{} began at {} without need", start.job, self.now);
            for other in self.running.keys() {
                let theirs = &self.duties[self.place(other)].targets;
                let shared = self.duties[place].targets.iter().any(|target| theirs.contains(target));
                assert!(!shared, "{} runs beside {other}", start.job);
            }
            self.since[place] = self.now;
            self.starts[place] += 1;
            self.caught_up += u64::from(start.trigger == Trigger::CatchUp);
            let state = self.states.entry(start.job.to_string()).or_default();
            state.last_start = Some(secs(self.now).rfc3339());
            let most = if random.below(50) == 0 { 9000 } else { 600 };
            let takes = 1 + random.below(most);
            self.running.insert(start.job, self.now + takes as i64);
        }
        // As the program writes it down.
        for (job, next) in self.keeper.plans() {
            self.states.entry(job.to_string()).or_default().next = next.map(Timestamp::rfc3339);
        }
        // What is still owed waits for something that runs, or for something before it in line that does.
        let owed: Vec<usize> = (0..self.duties.len())
            .filter(|place| self.owes(*place) && !self.running.contains_key(&self.duties[*place].job))
            .collect();
        let shares = |a: usize, b: usize| {
            self.duties[a].targets.iter().any(|target| self.duties[b].targets.contains(target))
        };
        let mut busy: Vec<usize> = self.running.keys().map(|job| self.place(job)).collect();
        while let Some(next) =
            owed.iter().find(|place| !busy.contains(place) && busy.iter().any(|b| shares(*b, **place)))
        {
            busy.push(*next);
        }
        let free: Vec<_> = owed.iter().filter(|place| !busy.contains(place)).collect();
        let now = secs(self.now).rfc3339();
        assert!(free.is_empty(), "{free:?} are owed at {now} and nothing is in their way");
    }

    /// The program ends and is started again later; what ran was cut off.
    fn restart(&mut self, down: i64) {
        self.now += down;
        self.running.clear();
        // A run that was left out beside one that may have been cut off now counts again.
        for (place, duty) in self.duties.iter().enumerate() {
            let started = self.states.get(&duty.job.to_string()).and_then(|state| state.started());
            self.since[place] = started.map_or(self.since[place], |started| started.secs);
        }
        self.keeper = Keeper::new(self.duties.clone(), zone(), &self.states, secs(self.now));
    }
}

#[test]
fn ten_years_of_bad_nights_leave_nothing_out_and_run_nothing_twice() {
    let (from, until) = (at("2026-01-01T00:00:00Z").secs, at("2036-01-01T00:00:00Z").secs);
    let duties = vec![
        duty("backup:app", &["hourly"], &["primary", "usb"]),
        duty("backup:db", &["0/6:30", "Mon 12:00"], &["primary"]),
        Duty { jitter: Duration::from_secs(300), ..duty("forget", &["02:30"], &["primary", "usb"]) },
        duty("prune", &["0 4 * * 0"], &["usb"]),
        duty("check", &["*-*~1 05:00"], &["primary"]),
        duty("health", &["30 2 29 2 *"], &[]),
    ];
    let mut random = Random(7);
    let mut world = World::new(duties, from, until);
    let mut last = world.now;
    while world.now < until {
        world.look(&mut random);
        let end = world.running.values().min().copied();
        let wake = world.keeper.wake().map(|at| at.secs);
        let next = end.into_iter().chain(wake).min().expect("there is always something to come");
        assert!(next > world.now, "nothing stands still");
        match random.below(4000) {
            // A night, or a month, without power.
            0..4 => world.restart([20_000, 100_000, 3_000_000, 60][random.below(4)]),
            // Asleep: the program goes on later than it wanted.
            4..20 => world.now = next + random.below(200_000) as i64,
            _ => world.now = next.min(last + 86_400).max(world.now + 1),
        }
        last = world.now;
    }
    assert!(
        world.starts[0] > 40_000 && world.left_out > 20 && world.caught_up > 50,
        "{:?} {} {}",
        world.starts,
        world.left_out,
        world.caught_up
    );
    assert_eq!(world.starts[5], 2, "29 February of 2028 and of 2032");
    assert!((2000..=3652).contains(&world.starts[2]), "{:?}", world.starts);
}

#[test]
fn a_clock_that_was_wrong_stops_nothing() {
    let states = JobStates::new();
    let mut keeper =
        Keeper::new(vec![duty("check", &["daily"], &["a"])], Zone::UTC, &states, at("2026-11-21T10:00:00Z"));
    // Ten years ahead by mistake: what seems missed runs once.
    let starts = begun(&mut keeper, at("2036-11-21T10:00:00Z"));
    assert_eq!(starts.iter().map(|s| s.trigger).collect::<Vec<_>>(), [Trigger::CatchUp]);
    keeper.done(&job("check"), false);
    // Put right again: the next midnight counts.
    assert!(begun(&mut keeper, at("2026-11-21T10:05:00Z")).is_empty());
    assert_eq!(keeper.wake(), Some(at("2026-11-22T00:00:00Z")));
    assert_eq!(begun(&mut keeper, at("2026-11-22T00:00:00Z")).len(), 1);
    keeper.done(&job("check"), false);
    // The same over a restart: a last run that lies in the future.
    let mut states = JobStates::new();
    states.entry("check".to_owned()).or_default().last_start = Some("2036-01-01T00:00:00Z".to_owned());
    let keeper =
        Keeper::new(vec![duty("check", &["daily"], &[])], Zone::UTC, &states, at("2026-11-21T10:00:00Z"));
    assert_eq!(keeper.wake(), Some(at("2026-11-22T00:00:00Z")));
    // Back by an hour: the same midnight does not count twice.
    let mut keeper = Keeper::new(
        vec![duty("check", &["daily"], &[])],
        Zone::UTC,
        &JobStates::new(),
        at("2026-11-21T23:00:00Z"),
    );
    assert_eq!(begun(&mut keeper, at("2026-11-22T00:00:00Z")).len(), 1);
    keeper.done(&job("check"), false);
    assert!(begun(&mut keeper, at("2026-11-22T00:10:00Z")).is_empty());
}

#[test]
fn first_runs_missed_runs_and_intervals() {
    let mut states = JobStates::new();
    let now = at("2026-11-21T10:00:00Z");
    let fresh =
        |states: &JobStates, schedule: &[&str]| duty("check", schedule, &[]).planned(states, now, &Zone::UTC);
    assert_eq!(
        fresh(&states, &["daily"]),
        Some(at("2026-11-22T00:00:00Z")),
        "nothing is known: its first moment"
    );
    assert_eq!(fresh(&states, &["every 6h"]), Some(now), "nothing is known: now");
    assert_eq!(fresh(&states, &[]), None);
    states.entry("check".to_owned()).or_default().next = Some("2026-11-20T00:00:00Z".to_owned());
    assert_eq!(
        fresh(&states, &["daily"]),
        Some(at("2026-11-20T00:00:00Z")),
        "it was promised and never came"
    );
    states.entry("check".to_owned()).or_default().last_start = Some("2026-11-20T09:00:00Z".to_owned());
    assert_eq!(fresh(&states, &["every 6h"]), Some(at("2026-11-20T15:00:00Z")), "missed");
    assert_eq!(fresh(&states, &["weekly"]), Some(at("2026-11-23T00:00:00Z")));
    states.entry("check".to_owned()).or_default().last_outcome = Some(Outcome::Interrupted);
    assert_eq!(fresh(&states, &["weekly"]), Some(at("2026-11-20T09:00:00Z")), "it was cut off");
    assert_eq!(fresh(&states, &[]), None, "by hand is by hand");
    let shares: Vec<u64> = ["backup:a", "backup:b", "forget", "check", "prune", "drill"]
        .iter()
        .map(|name| Duty::jitter("host", "app", &job(name), Duration::from_secs(300)).as_secs())
        .collect();
    assert!(shares.iter().all(|s| *s <= 300) && shares.iter().any(|s| *s != shares[0]), "{shares:?}");
    assert_eq!(Duty::jitter("host", "app", &job("check"), Duration::ZERO).as_secs(), 0);
}

#[test]
fn changes_become_a_backup_when_they_rest_and_at_the_latest_after_a_while() {
    let watch = Watch { debounce: Duration::from_secs(5), max_delay: Duration::from_secs(60) };
    let duty = Duty { watch: Some(watch), ..duty("backup:app", &[], &["primary"]) };
    let from = at("2026-11-21T10:00:00Z").secs;
    let mut keeper = Keeper::new(vec![duty], Zone::UTC, &JobStates::new(), secs(from));
    let app = job("backup:app");
    let mut begins = Vec::new();
    // Changed every second for nearly five minutes; each backup takes two.
    let mut end = None;
    for now in from..from + 285 {
        if end == Some(now) {
            keeper.done(&app, false);
        }
        let starts = begun(&mut keeper, secs(now));
        if let [start] = starts.as_slice() {
            assert_eq!(start.trigger, Trigger::Watch);
            begins.push(now - from);
            end = Some(now + 2);
        }
        keeper.changed(&app, secs(now), secs(now));
    }
    assert_eq!(begins, [57, 114, 171, 228], "a little before the delay is over");
    // And then rests.
    keeper.done(&app, false);
    assert_eq!(keeper.wake(), Some(secs(from + 285)));
    assert_eq!(begun(&mut keeper, secs(from + 285)).len(), 1);
    keeper.done(&app, false);
    keeper.changed(&app, secs(from + 285), secs(from + 285));
    assert_eq!(keeper.wake(), Some(secs(from + 290)), "it rests");
    assert_eq!(begun(&mut keeper, secs(from + 290)).len(), 1);
    keeper.changed(&app, secs(from + 291), secs(from + 291));
    assert!(begun(&mut keeper, secs(from + 400)).is_empty(), "not beside itself");
    keeper.done(&app, false);
    assert_eq!(
        begun(&mut keeper, secs(from + 400)).len(),
        1,
        "what changed during a backup is not forgotten"
    );
    // What finds nothing new asks for more and more rest, up to the longest delay.
    let mut now = from + 400;
    let mut rests = Vec::new();
    for _ in 0..6 {
        keeper.done(&app, true);
        keeper.changed(&app, secs(now), secs(now));
        let at = keeper.wake().expect("due").secs;
        rests.push(at - now);
        now = at;
        assert_eq!(begun(&mut keeper, secs(now)).len(), 1);
    }
    assert_eq!(rests, [10, 20, 40, 57, 57, 57]);
    keeper.done(&app, false);
    keeper.changed(&app, secs(now), secs(now));
    assert_eq!(keeper.wake(), Some(secs(now + 5)));
}

#[test]
fn a_job_for_all_repositories_is_not_passed_for_ever_by_those_for_one() {
    let now = at("2026-11-21T10:00:00Z");
    let duties = vec![
        duty("backup:a", &["every 1h"], &["p"]),
        duty("forget", &["every 1h"], &["p", "u"]),
        duty("backup:b", &["every 1h"], &["u"]),
        duty("health", &["every 1h"], &[]),
    ];
    let mut keeper = Keeper::new(duties, Zone::UTC, &JobStates::new(), now);
    let jobs = |starts: Vec<Start>| starts.into_iter().map(|s| s.job.to_string()).collect::<Vec<_>>();
    assert_eq!(
        jobs(begun(&mut keeper, now)),
        ["backup:a", "health"],
        "b waits for forget, which waits for a"
    );
    keeper.done(&job("backup:a"), false);
    assert_eq!(jobs(begun(&mut keeper, now)), ["forget"]);
    keeper.done(&job("forget"), false);
    assert_eq!(jobs(begun(&mut keeper, now)), ["backup:b"]);
}

#[test]
fn a_job_that_is_held_is_tried_again_and_a_new_profile_keeps_what_runs() {
    let now = at("2026-11-21T10:00:00Z");
    let duties = || vec![duty("backup:a", &["every 1h"], &["p"]), duty("check", &["every 1h"], &["p"])];
    let mut keeper = Keeper::new(duties(), Zone::UTC, &JobStates::new(), now);
    keeper.look(now);
    let start = keeper.begin().expect("due");
    assert!(keeper.begin().is_none(), "the same repository");
    let retry = secs(now.secs + 300);
    keeper.held(&start, retry);
    assert_eq!(keeper.begin().expect("free now").job, job("check"));
    assert!(begun(&mut keeper, secs(now.secs + 299)).is_empty());
    assert_eq!(keeper.wake(), Some(retry));
    keeper.reload(vec![duty("backup:a", &["every 1h"], &["p"])], Zone::UTC, &JobStates::new(), now);
    assert!(begun(&mut keeper, retry).is_empty(), "the check still holds the repository");
    keeper.done(&job("check"), false);
    let starts = begun(&mut keeper, retry);
    assert_eq!((starts.len(), &starts[0].job), (1, &job("backup:a")));
}

#[test]
fn power_and_load_are_what_the_machine_says() {
    let dir = tempfile::tempdir().expect("a directory");
    let write = |path: &str, text: &str| {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().expect("above")).expect("a directory");
        fs::write(path, text).expect("written");
    };
    let machine = Machine::below(dir.path());
    let limits =
        RunLimits { battery: Battery::Run, min_battery: 30, max_load: Some(4.0), ..RunLimits::default() };
    let skip = RunLimits { battery: Battery::Skip, ..limits.clone() };
    assert_eq!(machine.objection(&skip), None, "a machine that tells nothing");
    write("proc/loadavg", "5.25 1.00 0.50 1/100 1\n");
    assert!(machine.objection(&limits).expect("busy").contains("above 4"));
    write("proc/loadavg", "3.99 1.00 0.50 1/100 1\n");
    assert_eq!(machine.objection(&limits), None);
    write("sys/class/power_supply/mouse/type", "Battery\n");
    write("sys/class/power_supply/mouse/scope", "Device\n");
    write("sys/class/power_supply/mouse/status", "Discharging\n");
    assert_eq!(machine.power(&skip), None, "a mouse");
    let battery = "sys/class/power_supply/BAT0";
    write(&format!("{battery}/type"), "Battery\n");
    write(&format!("{battery}/status"), "Discharging\n");
    write(&format!("{battery}/capacity"), "31\n");
    assert!(machine.power(&skip).is_some());
    assert_eq!(machine.power(&limits), None, "enough is left");
    write(&format!("{battery}/capacity"), "29\n");
    assert!(machine.power(&limits).expect("low").contains("30 %"));
    write("sys/class/power_supply/AC/type", "Mains\n");
    write("sys/class/power_supply/AC/online", "1\n");
    assert_eq!(machine.power(&skip), None, "plugged in");
}
