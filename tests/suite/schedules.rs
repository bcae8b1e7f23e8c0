//! Writers, those who evict them, those who forget and collect, side by side, in thousands of orders of their calls:
//! real code under a scheduler that draws, before each call, who goes on.

use crate::counters::{count, seed, size};
use crate::shelf::{Random, Tree};
use crate::simulation::{
    Fact, Promised, TRASH, Then, back_up, collect, create, edit, forget, go_on, open, small_tree,
};
use rustix::io::Errno;
use snapkeep::backend::disk::simulated::{
    Act, Call, Conductor, Event, Fate, Fault, Features, SimulatedDisk, Volume,
};
use snapkeep::error::{ErrorKind, Result};
use snapkeep::format::Folder;
use snapkeep::id::{Name, SnapshotId};
use snapkeep::repository::{Repository, snapshots};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

const PLACE: &str = "/repository";

/// Whose turn it is, and what the next draw depends on.
struct Turn {
    of: usize,
    waiting: Vec<bool>,
    random: Random,
    /// Of a hundred draws, so many change whose turn it is.
    restless: usize,
    calls: Vec<u64>,
    /// Who is killed, and before which of its calls.
    killed: Option<(usize, u64)>,
    /// Who gets no turn before all others have ended, once it has given so many names that it has not made durable
    /// yet: what the others saw of it then may vanish.
    stall: Option<(usize, u64)>,
    stalled: Option<usize>,
    /// The last call of each, and how many of its names were followed by the sync of their directory.
    last: Vec<Option<Act>>,
    named: Vec<u64>,
}

/// Lets one actor go on at a time. An actor keeps the turn while it computes, so no call waits for an idle one.
struct Turns {
    turn: Mutex<Turn>,
    passed: Condvar,
}

impl Turn {
    fn draw(&mut self) {
        let mut running: Vec<usize> = (0..self.waiting.len()).filter(|i| self.waiting[*i]).collect();
        if running.iter().any(|i| Some(*i) != self.stalled) {
            running.retain(|i| Some(*i) != self.stalled);
        } else {
            self.stalled = None;
        }
        let must = !running.contains(&self.of);
        if !running.is_empty() && (must || self.random.below(100) < self.restless) {
            self.of = running[self.random.below(running.len())];
        }
    }

    /// Notes a call that is about to happen; who is to stall stalls now.
    fn note(&mut self, call: &Call) {
        let named = matches!(self.last[call.actor].replace(call.act), Some(Act::Link | Act::RenameNew));
        if named && call.act == Act::SyncDir {
            if self.stall == Some((call.actor, self.named[call.actor])) {
                self.stalled = Some(call.actor);
            }
            self.named[call.actor] += 1;
        }
    }
}

impl Turns {
    fn new(actors: usize, seed: u64) -> Arc<Turns> {
        let mut random = Random(seed);
        let restless = [2, 8, 30, 90][random.below(4)];
        let killed = (random.below(4) == 0)
            .then(|| (random.below(actors), random.next() % if actors == 3 { 700 } else { 4000 }));
        let of = random.below(actors);
        let stall = (random.below(2) == 0).then(|| (random.below(actors), random.next() % 8));
        let (waiting, calls) = (vec![true; actors], vec![0; actors]);
        let (last, named) = (vec![None; actors], vec![0; actors]);
        let stalled = None;
        let turn = Turn { of, waiting, random, restless, calls, killed, stall, stalled, last, named };
        Arc::new(Turns { turn: Mutex::new(turn), passed: Condvar::new() })
    }

    fn lock(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().expect("no panic")
    }

    /// An actor has ended: nobody waits for it any more.
    fn ended(&self, actor: usize) {
        let mut turn = self.lock();
        turn.waiting[actor] = false;
        turn.draw();
        self.passed.notify_all();
    }
}

impl Conductor for Turns {
    fn before(&self, call: &Call) -> Option<Fault> {
        let mut turn = self.lock();
        turn.note(call);
        if turn.of == call.actor {
            turn.draw();
            self.passed.notify_all();
        }
        while turn.of != call.actor {
            turn = self.passed.wait(turn).expect("no panic");
        }
        turn.calls[call.actor] += 1;
        let dead = |(who, when)| who == call.actor && turn.calls[who] > when;
        turn.killed.is_some_and(dead).then_some(Fault::Refused(Errno::IO))
    }
}

/// What the actors of one schedule have been told, and after how many calls.
#[derive(Default)]
struct Log {
    facts: Mutex<Vec<(usize, Fact)>>,
    evicted: Mutex<BTreeSet<Name>>,
    /// Why collections failed.
    failed: Mutex<Vec<String>>,
    committed: AtomicU64,
    refused: AtomicU64,
    deleted: AtomicU64,
    rescued: AtomicU64,
}

impl Log {
    fn tell(&self, disk: &SimulatedDisk, fact: Fact) {
        self.facts.lock().expect("no panic").push((disk.recorded(), fact));
    }
}

struct Stage {
    volume: Volume,
    promised: Promised,
    tree: Tree,
}

fn stage(seed: u64, generations: i64) -> Stage {
    let disk = SimulatedDisk::new(Volume::default(), Features::ALL);
    let repository = create(&disk, Path::new(PLACE)).expect("a repository");
    let mut random = Random(seed);
    let mut tree = small_tree(&mut random);
    let mut promised = Promised::default();
    for time in 1..=generations {
        edit(&mut random, &mut tree, time * 100);
        let id = back_up(&repository, &tree, time * 100).expect("a snapshot");
        promised.learn(&Fact::Reported(id, Arc::new(tree.clone())));
    }
    Stage { volume: disk.volume(), promised, tree }
}

/// Backs up two changed trees, each again when it is evicted. Both writers change the same things, so that each may
/// find chunks of the other's.
fn write(disk: &SimulatedDisk, log: &Log, tree: &Tree, seed: u64, own: u64) {
    let Ok(repository) = open(disk, Path::new(PLACE), None) else { return };
    let (mut shared, mut random) = (Random(seed), Random(own));
    let mut tree = tree.clone();
    for time in [3000, 4000] {
        edit(&mut shared, &mut tree, time);
        edit(&mut random, &mut tree, time);
        for _ in 0..3 {
            match back_up(&repository, &tree, time) {
                Ok(id) => {
                    log.tell(disk, Fact::Reported(id, Arc::new(tree.clone())));
                    log.committed.fetch_add(1, Ordering::Relaxed);
                    break;
                }
                Err(e) if e.kind() == ErrorKind::Locked => {
                    log.refused.fetch_add(1, Ordering::Relaxed);
                }
                // A collector may take away what the parent needs while we read it: then without one, or later.
                Err(e) if e.kind().is_unreadable() || e.kind() == ErrorKind::NotFound => {}
                Err(_) => return,
            }
        }
    }
}

/// Lets some turns pass.
fn idle(repository: &Repository, random: &mut Random, turns: usize) {
    for _ in 0..random.below(turns) {
        let _ = repository.backend().list(Folder::Notes);
    }
}

/// Evicts the first open session.
fn evict_one(repository: &Repository, log: &Log) -> Result<()> {
    if let Some(stat) = repository.backend().list(Folder::Sessions)?.first() {
        let session = stat.name.header_name();
        if repository.backend().evict(session).is_ok() {
            log.evicted.lock().expect("no panic").insert(session);
        }
    }
    Ok(())
}

/// Evicts whom it sees, now and then.
fn evict(disk: &SimulatedDisk, log: &Log, seed: u64) {
    let Ok(repository) = open(disk, Path::new(PLACE), None) else { return };
    let mut random = Random(seed);
    for _ in 0..8 {
        idle(&repository, &mut random, 40);
        if random.below(3) == 0 && evict_one(&repository, log).is_err() {
            return;
        }
    }
}

/// Forgets, collects, and now and then evicts whom it would wait for.
fn collect_often(disk: &SimulatedDisk, log: &Log, seed: u64) {
    let Ok(repository) = open(disk, Path::new(PLACE), None) else { return };
    let mut random = Random(seed);
    for time in 5000..5004 {
        idle(&repository, &mut random, 60);
        if random.below(3) > 0 && forget_some(disk, &repository, log, &mut random, time).is_err() {
            return;
        }
        match collect(&repository, time, TRASH) {
            Ok(done) => {
                log.deleted.fetch_add(done.deleted_packs, Ordering::Relaxed);
                log.rescued.fetch_add(done.rescued, Ordering::Relaxed);
                if !done.waiting_for.is_empty()
                    && random.below(3) == 0
                    && evict_one(&repository, log).is_err()
                {
                    return;
                }
            }
            // Overtaken too often.
            Err(e) if e.kind() == ErrorKind::Locked => {}
            Err(e) => return log.failed.lock().expect("no panic").push(e.to_string()),
        }
    }
}

/// Forgets all but the newest, as often as not into the trash.
fn forget_some(
    disk: &SimulatedDisk,
    repository: &Repository,
    log: &Log,
    random: &mut Random,
    time: i64,
) -> Result<()> {
    let mut listed = snapshots::list(repository)?.snapshots;
    listed.pop();
    for listed in listed {
        match random.below(6) {
            0..3 => {
                log.tell(disk, Fact::Forgetting(listed.id));
                forget(repository, listed.id, true, time)?;
                log.tell(disk, Fact::Forgotten(listed.id));
            }
            3 => {
                log.tell(disk, Fact::Burying(listed.id));
                forget(repository, listed.id, false, time)?;
                log.tell(disk, Fact::Buried(listed.id));
            }
            _ => {}
        }
    }
    Ok(())
}

/// In every third schedule the disk is far away, so that index segments are written, merged and removed as well.
fn features(seed: u64) -> Features {
    if seed.is_multiple_of(3) { Features::REMOTE } else { Features::ALL }
}

/// Runs one schedule; returns who holds what at which call.
fn run(stage: &Stage, seed: u64, collects: bool, log: &Log) -> Vec<Event> {
    let disk = SimulatedDisk::new(stage.volume.clone(), features(seed));
    disk.record();
    let actors = if collects { 4 } else { 3 };
    let turns = Turns::new(actors, seed);
    std::thread::scope(|scope| {
        for actor in 0..actors {
            let disk = disk.actor(actor).conducted(Arc::clone(&turns) as Arc<dyn Conductor>);
            let turns = &turns;
            scope.spawn(move || {
                // Parallel work of one actor must not wait for threads that another one has taken.
                let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
                pool.install(|| match actor {
                    0 | 1 => write(&disk, log, &stage.tree, seed, seed ^ (100 + actor as u64)),
                    _ if collects => collect_often(&disk, log, seed ^ (200 + actor as u64)),
                    _ => evict(&disk, log, seed ^ 2),
                });
                drop(disk);
                turns.ended(actor);
            });
        }
    });
    disk.take_events()
}

/// Whether somebody in this schedule was killed: what failed may have failed by that.
fn was_killed(seed: u64, actors: usize) -> bool {
    Turns::new(actors, seed).lock().killed.is_some()
}

/// Runs one schedule and proves what came of it, at its end and at crashes somewhere in it.
fn try_schedule(
    stage: &Stage,
    seed: u64,
    collects: bool,
    totals: &Totals,
) -> std::result::Result<(), String> {
    let log = Log::default();
    let events = run(stage, seed, collects, &log);
    totals.add(&log);
    let mut facts = log.facts.into_inner().expect("no panic");
    // Others may forget a snapshot before its writer hears that it is there.
    facts.sort_by_key(|(when, fact)| (!matches!(fact, Fact::Reported(..)), *when));
    let evicted = log.evicted.into_inner().expect("no panic");
    let reported = |(when, fact): &(usize, Fact)| match fact {
        Fact::Reported(id, _) => Some((*when, *id)),
        _ => None,
    };
    let reported: Vec<(usize, SnapshotId)> = facts.iter().filter_map(reported).collect();
    if let Some((_, id)) = reported.iter().find(|(_, id)| evicted.contains(id)) {
        return Err(format!("session {id} was evicted and committed"));
    }
    let failed = log.failed.into_inner().expect("no panic");
    if !was_killed(seed, if collects { 4 } else { 3 })
        && let Some(why) = failed.first()
    {
        return Err(format!("a collection failed: {why}"));
    }
    let mut random = Random(seed ^ 7);
    let told = if reported.is_empty() { events.len() } else { reported[random.below(reported.len())].0 };
    for calls in [events.len(), random.below(events.len() + 1), told] {
        let mut volume = stage.volume.clone();
        events[..calls].iter().flat_map(|e| &e.steps).for_each(|step| volume.step(step));
        let mut promised = stage.promised.clone();
        facts.iter().filter(|(when, _)| *when <= calls).for_each(|(_, fact)| promised.learn(fact));
        // As often as not, all that can be lost is lost.
        let likely = random.below(17).saturating_sub(8);
        let fate = |_| if random.below(8) < likely { Fate::Kept } else { Fate::Lost };
        let fates: Vec<Fate> = (0..volume.pending().len()).map(fate).collect();
        let after = SimulatedDisk::new(volume.crashed(&fates), features(seed));
        let then = match (calls == events.len(), collects) {
            (true, _) => Then::Settle,
            (false, true) => Then::Collect,
            (false, false) => Then::BackUp,
        };
        go_on(&after, Path::new(PLACE), Some(promised), &stage.tree, seed, then)
            .map_err(|e| format!("crash after {calls} of {} calls, {fates:?}: {e}", events.len()))?;
    }
    Ok(())
}

/// How often what happened, over all schedules.
#[derive(Default)]
struct Totals(Mutex<BTreeMap<&'static str, u64>>);

impl Totals {
    fn add(&self, log: &Log) {
        let mut sums = self.0.lock().expect("no panic");
        let evicted = log.evicted.lock().expect("no panic").len() as u64;
        let mut add = |what, n| *sums.entry(what).or_insert(0) += n;
        add("sessions evicted", evicted);
        add("snapshots committed", log.committed.load(Ordering::Relaxed));
        add("commits refused", log.refused.load(Ordering::Relaxed));
        add("packs deleted", log.deleted.load(Ordering::Relaxed));
        add("chunks rescued", log.rescued.load(Ordering::Relaxed));
    }
}

fn try_schedules(what: &str, first: u64, schedules: u64, stage: &Stage, collects: bool) {
    println!("first seed {first}");
    let totals = Totals::default();
    let (next, failures) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= schedules {
                        return;
                    }
                    if let Err(why) = try_schedule(stage, first + number, collects, &totals) {
                        failures.lock().expect("no panic").push(format!("seed {}: {why}", first + number));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no panic");
    println!("{:?}", totals.0.lock().expect("no panic"));
    count(what, schedules, &format!("{} wrong", failures.len()));
    let shown: Vec<&String> = failures.iter().take(4).collect();
    assert!(failures.is_empty(), "{} schedules went wrong: {shown:#?}", failures.len());
}

#[test]
fn writers_and_evictions_in_any_order_lose_nothing() {
    try_schedules("T10b schedules", seed(1000), size(300, 100_000), &stage(9, 2), false);
}

#[test]
fn writers_and_collectors_in_any_order_lose_nothing() {
    try_schedules("T10b schedules with collectors", seed(2000), size(300, 200_000), &stage(9, 5), true);
}
