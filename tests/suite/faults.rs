//! Every call fails in turn, in every way its kind can: an operation then succeeds exactly or fails cleanly.
//!
//! Success means that what was reported survives the loss of everything that was not synced. Failure means that
//! everything promised before is there, and that going on needs no help.

use crate::counters::{count, seed, size};
use crate::shelf::{self, Random, Tree};
use crate::simulation::{Fact, Promised, Then, back_up, create, edit, go_on, newest, open, small_tree};
use rustix::io::Errno;
use snapkeep::backend::disk::simulated::{Act, Call, Conductor, Fault, Features, SimulatedDisk, Volume};
use snapkeep::check::{self, CheckOptions};
use snapkeep::clock::{FixedClock, Timestamp};
use snapkeep::copy::{self, CopyOptions};
use snapkeep::error::Error;
use snapkeep::progress::{Progress, Silent};
use snapkeep::repository::snapshots;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Facts told by an operation that succeeded, and of which place.
type Told = Vec<(usize, Fact)>;

/// How an operation may end badly.
enum Trouble {
    /// It said so.
    Failed(Error),
    /// It did not do what it said it did.
    Lied(String),
}

impl From<Error> for Trouble {
    fn from(e: Error) -> Self {
        Trouble::Failed(e)
    }
}

type Work = dyn Fn(&SimulatedDisk) -> Result<Told, Trouble> + Send + Sync;

/// One operation and where it starts from.
struct Operation {
    name: &'static str,
    volume: Volume,
    features: Features,
    /// What holds when it has failed; nothing where no repository was made yet.
    places: Vec<(PathBuf, Option<Promised>)>,
    tree: Tree,
    work: Box<Work>,
}

/// Lets one call go wrong, and the later ones as well if asked to.
pub struct Once {
    at: u64,
    fault: usize,
    calls: AtomicU64,
    met: Mutex<Option<(Call, Fault)>>,
}

impl Once {
    pub fn new(at: u64, fault: usize) -> Arc<Once> {
        Arc::new(Once { at, fault, calls: AtomicU64::new(0), met: Mutex::new(None) })
    }
}

/// Whether a call changes what is stored.
fn changes(act: Act) -> bool {
    use Act::*;
    !matches!(act, Stat | List | Open | Size | ReadAt | TryLock)
}

/// What can go wrong with a call, and whether it goes on going wrong.
fn faults(act: Act) -> Vec<(Fault, bool)> {
    let mut all = vec![
        (Fault::Refused(Errno::IO), false),
        (Fault::Refused(Errno::ACCESS), false),
        (Fault::Refused(Errno::INTR), false),
        (Fault::Unheard(Errno::IO), false),
        (Fault::Refused(Errno::IO), true),
    ];
    if changes(act) {
        let space = [Errno::NOSPC, Errno::DQUOT, Errno::ROFS];
        all.extend(space.into_iter().flat_map(|e| [(Fault::Refused(e), false), (Fault::Refused(e), true)]));
        all.push((Fault::Unheard(Errno::TIMEDOUT), false));
    }
    match act {
        Act::Write => all.extend([(Fault::Short(1), false), (Fault::Short(40), false)]),
        Act::ReadAt => all.extend([1, 47].map(|n| (Fault::Short(n), false))),
        Act::List => {
            all.extend([0, 1].map(|n| (Fault::Short(n), false)));
            all.extend([0, 1].map(|n| (Fault::Unseen(n), false)));
        }
        Act::Sync | Act::SyncDir => all.push((Fault::Forsaken, false)),
        _ => {}
    }
    if act == Act::ReadAt {
        all.extend([0, 77, 1001, 7003].map(|bit| (Fault::Flipped(bit), false)));
    }
    all
}

impl Conductor for Once {
    fn before(&self, call: &Call) -> Option<Fault> {
        let number = self.calls.fetch_add(1, Ordering::SeqCst);
        let mut met = self.met.lock().expect("no panic");
        if number == self.at {
            let all = faults(call.act);
            let (fault, _) = all[self.fault % all.len()];
            *met = Some((call.clone(), fault));
            return Some(fault);
        }
        let (first, fault) = met.as_ref()?;
        let all = faults(first.act);
        let stays = all[self.fault % all.len()].1;
        (stays && (changes(call.act) || *fault == Fault::Refused(Errno::IO))).then_some(*fault)
    }
}

/// One of the 256 folders of packs: all alike, so that a few stand for all.
fn is_shard(call: &Call) -> bool {
    let inside = call.path.parent().is_some_and(|p| p.ends_with("packs"));
    inside && matches!(call.act, Act::List | Act::SyncDir | Act::MakeDir | Act::Stat)
}

#[derive(Default)]
struct Totals {
    faults: AtomicU64,
    succeeded: AtomicU64,
    failures: Mutex<Vec<String>>,
}

fn learn(places: &mut [(PathBuf, Option<Promised>)], told: &Told) {
    for (place, fact) in told {
        places[*place].1.get_or_insert_with(Promised::default).learn(fact);
    }
}

/// Runs an operation with one fault and proves what it says.
fn try_one(operation: &Operation, at: u64, fault: usize, totals: &Totals) -> Result<(), String> {
    let disk = SimulatedDisk::new(operation.volume.clone(), operation.features);
    let once = Once::new(at, fault);
    let conducted = disk.conducted(Arc::clone(&once) as Arc<dyn Conductor>);
    let done = catch_unwind(AssertUnwindSafe(|| (operation.work)(&conducted)));
    let Some((call, fault)) = once.met.lock().expect("no panic").clone() else { return Ok(()) };
    totals.faults.fetch_add(1, Ordering::Relaxed);
    let mut places = operation.places.clone();
    let outcome = match done {
        Err(_) => return Err(format!("panicked at {fault:?} of {call:?}")),
        Ok(Err(Trouble::Lied(what))) => return Err(format!("{fault:?} of {call:?}: {what}")),
        Ok(Err(Trouble::Failed(e))) => format!("failed ({e})"),
        Ok(Ok(told)) => {
            totals.succeeded.fetch_add(1, Ordering::Relaxed);
            learn(&mut places, &told);
            "succeeded".to_owned()
        }
    };
    // Half of the time the machine crashes right after and loses all it can.
    let crashed = at.is_multiple_of(2);
    let left = if crashed { disk.volume().crashed(&[]) } else { disk.volume() };
    let after = SimulatedDisk::new(left, operation.features);
    for (place, promised) in places {
        let files = || after.volume().files();
        let then = if at.is_multiple_of(16) { Then::Settle } else { Then::BackUp };
        go_on(&after, &place, promised, &operation.tree, at, then).map_err(|e| {
            format!("{fault:?} of {call:?}: {outcome}, crashed {crashed}, then: {e}\n{:?}", files())
        })?;
    }
    Ok(())
}

/// Every fault of every call of an operation, with a few of the many equal ones.
fn try_all(operation: &Operation, seed: u64, totals: &Totals) {
    let disk = SimulatedDisk::new(operation.volume.clone(), operation.features);
    disk.record();
    let told = (operation.work)(&disk);
    assert!(told.is_ok(), "{}: fails without a fault", operation.name);
    let events = disk.take_events();
    let mut random = Random(seed);
    let mut jobs = Vec::new();
    for (at, event) in events.iter().enumerate() {
        if !is_shard(&event.call) || random.below(size(64, 4)) == 0 {
            jobs.extend((0..faults(event.call.act).len()).map(|fault| (at as u64, fault)));
        }
    }
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(&(at, fault)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(why) = try_one(operation, at, fault, totals) {
                        let what = format!("{} at call {at}, fault {fault}: {why}", operation.name);
                        totals.failures.lock().expect("no panic").push(what);
                    }
                }
            });
        }
    });
    println!("{}: {} calls, {} faults", operation.name, events.len(), jobs.len());
}

/// A repository with three snapshots on a disk, its trees by age.
struct Base {
    volume: Volume,
    features: Features,
    promised: Promised,
    trees: Vec<Tree>,
}

const HERE: &str = "/here/repository";
const THERE: &str = "/there";

fn base(features: Features, seed: u64) -> Base {
    let disk = SimulatedDisk::new(Volume::default(), features);
    let repository = create(&disk, HERE.as_ref()).expect("a repository");
    let mut random = Random(seed);
    let (mut tree, mut trees) = (small_tree(&mut random), Vec::new());
    let mut promised = Promised::default();
    for time in [1000, 2000, 3000] {
        let id = back_up(&repository, &tree, time).expect("a snapshot");
        promised.learn(&Fact::Reported(id, Arc::new(tree.clone())));
        trees.push(tree.clone());
        edit(&mut random, &mut tree, time);
    }
    Base { volume: disk.volume(), features, promised, trees }
}

impl Base {
    fn operation(
        &self,
        name: &'static str,
        work: impl Fn(&SimulatedDisk) -> Result<Told, Trouble> + Send + Sync + 'static,
    ) -> Operation {
        let places = vec![(PathBuf::from(HERE), Some(self.promised.clone()))];
        let tree = self.trees[2].clone();
        let (volume, features) = (self.volume.clone(), self.features);
        Operation { name, volume, features, places, tree, work: Box::new(work) }
    }

    fn init(&self) -> Operation {
        let work = |disk: &SimulatedDisk| {
            create(disk, HERE.as_ref())?;
            Ok(vec![(0, Fact::Created)])
        };
        let mut operation = self.operation("init", work);
        operation.places = vec![(PathBuf::from(HERE), None)];
        operation.volume = Volume::default();
        operation
    }

    fn backup(&self) -> Operation {
        let mut tree = self.trees[2].clone();
        edit(&mut Random(5), &mut tree, 4000);
        edit(&mut Random(6), &mut tree, 4000);
        self.operation("backup", move |disk| {
            let id = back_up(&open(disk, HERE.as_ref(), None)?, &tree, 4000)?;
            Ok(vec![(0, Fact::Reported(id, Arc::new(tree.clone())))])
        })
    }

    fn tag(&self) -> Operation {
        let id = *self.promised.snapshots.keys().next().expect("one");
        let tags = vec!["kept".to_owned()];
        let now = Timestamp { secs: 4000, nanos: 0 };
        let told = tags.clone();
        let mut operation = self.operation("tag", move |disk| {
            snapshots::set_tags(&*open(disk, HERE.as_ref(), None)?, id, told.clone(), now)?;
            Ok(vec![(0, Fact::Tagged(id, told.clone()))])
        });
        learn(&mut operation.places, &vec![(0, Fact::Tagging(id, tags))]);
        operation
    }

    fn restore(&self) -> Operation {
        let trees = self.promised.snapshots.clone();
        self.operation("restore", move |disk| {
            let repository = open(disk, HERE.as_ref(), None)?;
            let listing = snapshots::list(&repository)?;
            let reader = repository.reader()?;
            for (id, tree) in &trees {
                // Damage was said: that is a failure of its own.
                if listing.damaged.iter().any(|(damaged, _)| damaged == id) {
                    continue;
                }
                let Some(listed) = listing.snapshots.iter().find(|l| l.id == *id) else {
                    return Err(Trouble::Lied(format!("snapshot {id} is not listed")));
                };
                if shelf::try_tree(&reader, &listed.root)? != **tree {
                    return Err(Trouble::Lied(format!("snapshot {id} came back changed")));
                }
            }
            Ok(Told::new())
        })
    }

    fn check(&self) -> Operation {
        self.operation("check", |disk| {
            let read_data = Some(check::subset::Subset::All);
            let options = CheckOptions { read_data, ..CheckOptions::default() };
            let repository = open(disk, HERE.as_ref(), None)?;
            let report = check::run(&repository, &options, &Progress::new(), &Silent)?;
            if report.num_errors() == 0 && report.snapshots != 3 {
                return Err(Trouble::Lied(format!("clean with {} snapshots", report.snapshots)));
            }
            Ok(Told::new())
        })
    }

    /// Copies the two older snapshots, and the third when they are there already.
    fn copy(&self) -> Operation {
        let disk = SimulatedDisk::new(self.volume.clone(), self.features);
        let there = create(&disk, THERE.as_ref()).expect("a repository");
        let here = open(&disk, HERE.as_ref(), None).expect("a repository");
        let id = back_up(&there, &self.trees[1], 500).expect("a snapshot");
        let trees: BTreeMap<_, _> = self.promised.snapshots.clone();
        drop(here);
        let mut operation = self.operation("copy", move |disk| {
            let here = open(disk, HERE.as_ref(), None)?;
            let there = open(disk, THERE.as_ref(), None)?;
            let chosen: Vec<_> = newest(&here)?.into_iter().collect();
            let options = CopyOptions { workers: 1, host: String::new(), ..CopyOptions::default() };
            let clock = FixedClock(Timestamp { secs: 4000, nanos: 0 });
            let report = copy::run(&here, &chosen, &there, &options, &clock, &Progress::new(), &Silent)?;
            let copied = report.copied.iter().filter_map(|(from, to)| Some((trees.get(from)?, (*to)?)));
            Ok(copied.map(|(tree, to)| (1, Fact::Reported(to, Arc::clone(tree)))).collect())
        });
        operation.volume = disk.volume();
        operation.places.push((PathBuf::from(THERE), None));
        learn(&mut operation.places, &vec![(1, Fact::Reported(id, Arc::new(self.trees[1].clone())))]);
        operation
    }
}

#[test]
fn every_call_that_fails_is_a_clean_failure_or_no_failure() {
    let seed = seed(4);
    println!("seed {seed}");
    let totals = Totals::default();
    for round in 0..size(1, 10) {
        for features in [Features::ALL, Features::NONE, Features::REMOTE] {
            let base = base(features, seed + round);
            let mut operations = vec![base.backup()];
            if features.remote {
                operations.extend([base.restore(), base.check()]);
            } else {
                operations.extend([base.init(), base.tag()]);
            }
            if features.nameless_files && !features.remote {
                operations.extend([base.restore(), base.check(), base.copy()]);
            }
            for operation in &operations {
                try_all(operation, seed + round, &totals);
            }
        }
    }
    let failures = totals.failures.lock().expect("no panic");
    let outcome = format!("{} wrong", failures.len());
    count("T2 injected faults", totals.faults.load(Ordering::Relaxed), &outcome);
    println!("{} operations succeeded all the same", totals.succeeded.load(Ordering::Relaxed));
    let shown: Vec<&String> = failures.iter().take(6).collect();
    assert!(failures.is_empty(), "{} faults went wrong: {shown:#?}", failures.len());
}
