//! Writers and those who evict them side by side, in thousands of orders of their calls: real code under a scheduler
//! that draws, before each call, who goes on.

use crate::counters::{count, seed, size};
use crate::shelf::{Random, Tree};
use crate::simulation::{Fact, Promised, Then, back_up, create, edit, go_on, open, small_tree};
use rustix::io::Errno;
use snapkeep::backend::disk::simulated::{
    Act, Call, Conductor, Fate, Fault, Features, SimulatedDisk, Volume,
};
use snapkeep::error::ErrorKind;
use snapkeep::format::Folder;
use snapkeep::id::{Name, SnapshotId};
use std::collections::BTreeSet;
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
        let killed = (random.below(4) == 0).then(|| (random.below(actors), random.next() % 700));
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
    reported: Mutex<Vec<(usize, SnapshotId, Arc<Tree>)>>,
    evicted: Mutex<BTreeSet<Name>>,
    refused: AtomicU64,
}

struct Stage {
    volume: Volume,
    promised: Promised,
    tree: Tree,
}

fn stage(seed: u64) -> Stage {
    let disk = SimulatedDisk::new(Volume::default(), Features::ALL);
    let repository = create(&disk, Path::new(PLACE)).expect("a repository");
    let mut random = Random(seed);
    let mut tree = small_tree(&mut random);
    let mut promised = Promised::default();
    for time in [1000, 2000] {
        edit(&mut random, &mut tree, time);
        let id = back_up(&repository, &tree, time).expect("a snapshot");
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
                    let told = (disk.recorded(), id, Arc::new(tree.clone()));
                    log.reported.lock().expect("no panic").push(told);
                    break;
                }
                Err(e) if e.kind() == ErrorKind::Locked => {
                    log.refused.fetch_add(1, Ordering::Relaxed);
                }
                Err(_) => return,
            }
        }
    }
}

/// Evicts whom it sees, now and then.
fn evict(disk: &SimulatedDisk, log: &Log, seed: u64) {
    let Ok(repository) = open(disk, Path::new(PLACE), None) else { return };
    let mut random = Random(seed);
    for _ in 0..8 {
        for _ in 0..random.below(40) {
            let _ = repository.backend().list(Folder::Notes);
        }
        let Ok(open) = repository.backend().list(Folder::Sessions) else { return };
        if let Some(stat) = open.first()
            && random.below(3) == 0
        {
            let session = stat.name.header_name();
            if repository.backend().evict(session).is_ok() {
                log.evicted.lock().expect("no panic").insert(session);
            }
        }
    }
}

/// Runs one schedule and proves what came of it, at its end and at a crash somewhere in it.
fn try_schedule(stage: &Stage, seed: u64, totals: &Totals) -> Result<(), String> {
    let disk = SimulatedDisk::new(stage.volume.clone(), Features::ALL);
    disk.record();
    let turns = Turns::new(3, seed);
    let log = Log::default();
    std::thread::scope(|scope| {
        for actor in 0..3 {
            let disk = disk.actor(actor).conducted(Arc::clone(&turns) as Arc<dyn Conductor>);
            let (log, turns) = (&log, &turns);
            scope.spawn(move || {
                // Parallel work of one actor must not wait for threads that another one has taken.
                let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
                pool.install(|| match actor {
                    2 => evict(&disk, log, seed ^ 2),
                    _ => write(&disk, log, &stage.tree, seed, seed ^ (100 + actor as u64)),
                });
                drop(disk);
                turns.ended(actor);
            });
        }
    });
    let reported = log.reported.into_inner().expect("no panic");
    let evicted = log.evicted.into_inner().expect("no panic");
    totals.committed.fetch_add(reported.len() as u64, Ordering::Relaxed);
    totals.evicted.fetch_add(evicted.len() as u64, Ordering::Relaxed);
    totals.refused.fetch_add(log.refused.into_inner(), Ordering::Relaxed);
    if let Some((_, id, _)) = reported.iter().find(|(_, id, _)| evicted.contains(id)) {
        return Err(format!("session {id} was evicted and committed"));
    }
    let events = disk.take_events();
    let mut random = Random(seed ^ 7);
    let told = if reported.is_empty() { events.len() } else { reported[random.below(reported.len())].0 };
    for calls in [events.len(), random.below(events.len() + 1), told] {
        let mut volume = stage.volume.clone();
        events[..calls].iter().flat_map(|e| &e.steps).for_each(|step| volume.step(step));
        let mut promised = stage.promised.clone();
        for (_, id, tree) in reported.iter().filter(|(when, _, _)| *when <= calls) {
            promised.learn(&Fact::Reported(*id, Arc::clone(tree)));
        }
        // As often as not, all that can be lost is lost.
        let likely = random.below(17).saturating_sub(8);
        let fate = |_| if random.below(8) < likely { Fate::Kept } else { Fate::Lost };
        let fates: Vec<Fate> = (0..volume.pending().len()).map(fate).collect();
        let after = SimulatedDisk::new(volume.crashed(&fates), Features::ALL);
        let then = if calls == events.len() { Then::Settle } else { Then::BackUp };
        go_on(&after, Path::new(PLACE), Some(promised), &stage.tree, seed, then)
            .map_err(|e| format!("crash after {calls} of {} calls, {fates:?}: {e}", events.len()))?;
    }
    Ok(())
}

#[derive(Default)]
struct Totals {
    committed: AtomicU64,
    evicted: AtomicU64,
    refused: AtomicU64,
}

#[test]
fn writers_and_evictions_in_any_order_lose_nothing() {
    let first = seed(1000);
    println!("first seed {first}");
    let stage = stage(9);
    let totals = Totals::default();
    let (next, failures) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let schedules = size(600, 200_000);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= schedules {
                        return;
                    }
                    if let Err(why) = try_schedule(&stage, first + number, &totals) {
                        failures.lock().expect("no panic").push(format!("seed {}: {why}", first + number));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no panic");
    println!("{:?} committed, {:?} evicted, {:?} refused", totals.committed, totals.evicted, totals.refused);
    count("T10b schedules", schedules, &format!("{} wrong", failures.len()));
    let shown: Vec<&String> = failures.iter().take(4).collect();
    assert!(failures.is_empty(), "{} schedules went wrong: {shown:#?}", failures.len());
}
