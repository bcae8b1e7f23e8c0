//! Random sequences of everything that happens to a repository, beside a model of it in memory.

use crate::counters::{count, seed, size};
use crate::faults::Once;
use crate::shelf::{self, Random, Tree};
use crate::simulation::{
    Fact, Promised, TRASH, back_up, collect, create, edit, forget, indexes_agree, newest, open_cached,
    settle, small_tree, undelete,
};
use rustix::io::Errno;
use snapkeep::backend::disk::simulated::{Call, Conductor, Fate, Fault, Features, SimulatedDisk, Volume};
use snapkeep::clock::Timestamp;
use snapkeep::id::SnapshotId;
use snapkeep::progress::{Progress, Silent};
use snapkeep::repair;
use snapkeep::repository::notes::{Pin, set_pin};
use snapkeep::repository::{Repository, sessions, snapshots};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

const PLACE: &str = "/repository";
const STEPS: usize = 40;

/// Refuses every call from one on: the process is dead.
struct Dead {
    from: u64,
    calls: AtomicU64,
}

impl Conductor for Dead {
    fn before(&self, _: &Call) -> Option<Fault> {
        let number = self.calls.fetch_add(1, Ordering::SeqCst);
        (number >= self.from).then_some(Fault::Refused(Errno::IO))
    }
}

struct World {
    random: Random,
    features: Features,
    disk: SimulatedDisk,
    cache: Option<tempfile::TempDir>,
    repository: Arc<Repository>,
    promised: Promised,
    /// When what is in the trash was put there.
    buried: BTreeMap<SnapshotId, i64>,
    pinned: BTreeSet<SnapshotId>,
    tree: Tree,
    time: i64,
    log: Vec<String>,
}

type Step = Result<(), String>;

impl World {
    fn new(seed: u64) -> World {
        let mut random = Random(seed);
        let features = [Features::ALL, Features::LOCKS, Features::NONE, Features::REMOTE][random.below(4)];
        let disk = SimulatedDisk::new(Volume::default(), features);
        let repository = create(&disk, Path::new(PLACE)).expect("a repository");
        let cache = (random.below(2) == 0).then(|| tempfile::tempdir().expect("a cache"));
        let tree = small_tree(&mut random);
        let (promised, time, log) = (Promised::default(), 1_700_000_000, Vec::new());
        let (buried, pinned) = (BTreeMap::new(), BTreeSet::new());
        let mut world =
            World { random, features, disk, cache, repository, promised, buried, pinned, tree, time, log };
        world.reopen().expect("a new repository opens");
        world
    }

    fn open(&self, disk: &SimulatedDisk) -> Result<Arc<Repository>, String> {
        let cache = self.cache.as_ref().map(tempfile::TempDir::path);
        open_cached(disk, Path::new(PLACE), None, cache).map_err(|e| format!("opening: {e}"))
    }

    fn reopen(&mut self) -> Step {
        self.repository = self.open(&self.disk)?;
        Ok(())
    }

    fn any(&mut self) -> Option<SnapshotId> {
        let ids: Vec<SnapshotId> = self.promised.snapshots.keys().copied().collect();
        (!ids.is_empty()).then(|| ids[self.random.below(ids.len())])
    }

    fn reported(&mut self, id: SnapshotId) {
        self.promised.learn(&Fact::Reported(id, Arc::new(self.tree.clone())));
    }

    fn change(&mut self) {
        for _ in 0..self.random.below(4) {
            edit(&mut self.random, &mut self.tree, self.time);
        }
        self.time += 60;
    }

    fn back_up(&mut self) -> Step {
        self.change();
        let id = back_up(&self.repository, &self.tree, self.time).map_err(|e| format!("backup: {e}"))?;
        self.reported(id);
        Ok(())
    }

    /// The same disk for a process that dies, or that meets one fault, at any call.
    fn bad_disk(&mut self, dies: bool, calls: usize) -> SimulatedDisk {
        let at =
            if self.random.below(2) == 0 { self.random.below(80) } else { self.random.below(calls) } as u64;
        let conductor: Arc<dyn Conductor> = match dies {
            true => Arc::new(Dead { from: at, calls: AtomicU64::new(0) }),
            false => Once::new(at, self.random.below(100)),
        };
        self.disk.conducted(conductor)
    }

    fn broken_back_up(&mut self, dies: bool) -> Step {
        self.change();
        let disk = self.bad_disk(dies, 700);
        if let Ok(repository) = self.open(&disk)
            && let Ok(id) = back_up(&repository, &self.tree, self.time)
        {
            self.reported(id);
        }
        self.reopen()
    }

    fn crash(&mut self) -> Step {
        let volume = self.disk.volume();
        let likely = self.random.below(9);
        let mut fate = || if self.random.below(8) < likely { Fate::Kept } else { Fate::Lost };
        let fates: Vec<Fate> = volume.pending().iter().map(|_| fate()).collect();
        self.disk = SimulatedDisk::new(volume.crashed(&fates), self.features);
        self.reopen()
    }

    /// Two sessions open at once; the first may be evicted meanwhile, and then it must not commit.
    fn two_sessions(&mut self) -> Step {
        self.change();
        let said = |e| format!("two sessions: {e}");
        let session = shelf::session(&self.repository).map_err(said)?;
        let (early, time) = (self.tree.clone(), self.time);
        let parent = newest(&self.repository).map_err(said)?;
        self.back_up()?;
        // What the open session relies on may be forgotten and condemned under it.
        for _ in 0..self.random.below(4) {
            self.forget()?;
            self.collect()?;
        }
        let evicted = self.random.below(2) == 0;
        if evicted {
            self.repository.backend().evict(session.session).map_err(said)?;
            if self.random.below(2) == 0 {
                self.collect()?;
            }
        }
        match shelf::commit_in(session, &early, time, parent.as_ref(), &|_| {}) {
            Ok(_) if evicted => Err("an evicted session committed".to_owned()),
            Err(_) if evicted => Ok(()),
            Ok(id) => {
                self.promised.learn(&Fact::Reported(id, Arc::new(early)));
                Ok(())
            }
            Err(e) => Err(said(e)),
        }
    }

    fn tag(&mut self) -> Step {
        let Some(id) = self.any() else { return Ok(()) };
        let tags = vec![format!("t{}", self.random.below(100))];
        let now = Timestamp { secs: self.time, nanos: 0 };
        snapshots::set_tags(&self.repository, id, tags.clone(), now).map_err(|e| format!("tag: {e}"))?;
        self.promised.learn(&Fact::Tagged(id, tags));
        Ok(())
    }

    fn forget(&mut self) -> Step {
        let Some(id) = self.any() else { return Ok(()) };
        forget(&self.repository, id, true, self.time).map_err(|e| format!("forget: {e}"))?;
        self.promised.learn(&Fact::Forgetting(id));
        self.promised.learn(&Fact::Forgotten(id));
        self.pinned.remove(&id);
        Ok(())
    }

    fn bury(&mut self) -> Step {
        let Some(id) = self.any() else { return Ok(()) };
        forget(&self.repository, id, false, self.time).map_err(|e| format!("into the trash: {e}"))?;
        self.promised.learn(&Fact::Burying(id));
        self.promised.learn(&Fact::Buried(id));
        self.buried.insert(id, self.time);
        Ok(())
    }

    fn pin(&mut self) -> Step {
        let Some(id) = self.any() else { return Ok(()) };
        let said = |e| format!("pin: {e}");
        let listed = snapshots::read(&self.repository, id).map_err(said)?;
        let pin = (!self.pinned.contains(&id)).then(Pin::default);
        let now = Timestamp { secs: self.time, nanos: 0 };
        set_pin(&self.repository, &listed, pin.clone(), now).map_err(said)?;
        if pin.is_none() || !self.pinned.insert(id) {
            self.pinned.remove(&id);
        }
        Ok(())
    }

    fn undelete(&mut self) -> Step {
        let Some(id) = self.buried.keys().next().copied() else { return Ok(()) };
        // A collection that died may be moving what it needs: the next one ends that.
        self.end_sessions()?;
        self.collect()?;
        if !self.buried.contains_key(&id) {
            return Ok(());
        }
        let back = undelete(&self.repository, id, self.time).map_err(|e| format!("undelete: {e}"))?;
        self.promised.learn(&Fact::Returning(id));
        self.promised.learn(&Fact::Returned(id, back.new));
        self.buried.remove(&id);
        if self.pinned.remove(&id) {
            self.pinned.insert(back.new);
        }
        Ok(())
    }

    /// What a collection takes out of the trash: by the model's own reckoning.
    fn expired(&self) -> Vec<SnapshotId> {
        let over = |since: &i64| self.time - since >= TRASH.as_secs() as i64;
        let over = self.buried.iter().filter(|(id, since)| over(since) && !self.pinned.contains(id));
        over.map(|(id, _)| *id).collect()
    }

    fn collect(&mut self) -> Step {
        let expired = self.expired();
        collect(&self.repository, self.time, TRASH).map_err(|e| format!("prune: {e}"))?;
        for id in expired {
            self.promised.learn(&Fact::Forgetting(id));
            self.promised.learn(&Fact::Forgotten(id));
            self.buried.remove(&id);
        }
        Ok(())
    }

    /// A collection that dies, or meets one fault, at any call.
    fn broken_collect(&mut self, dies: bool) -> Step {
        for id in self.expired() {
            self.promised.learn(&Fact::Forgetting(id));
            self.buried.remove(&id);
        }
        let disk = self.bad_disk(dies, 2500);
        if let Ok(repository) = self.open(&disk) {
            let _ = collect(&repository, self.time, TRASH);
        }
        self.reopen()
    }

    /// Where locks tell nothing, somebody has to say that a session is dead.
    fn end_sessions(&mut self) -> Step {
        let said = |e| format!("ending sessions: {e}");
        for session in sessions::open(self.repository.backend().as_ref()).map_err(said)? {
            sessions::evict(&self.repository, session).map_err(said)?;
        }
        Ok(())
    }

    /// Collections until nothing is idle.
    fn settle(&mut self) -> Step {
        self.collect()?;
        self.end_sessions()?;
        settle(&self.repository, self.time, false)
    }

    fn rebuild_index(&mut self) -> Step {
        let report = repair::index::run(&self.repository, &Progress::new(), &Silent);
        let report = report.map_err(|e| format!("rebuilding the index: {e}"))?;
        if report.unindexed.is_empty() { Ok(()) } else { Err(format!("unindexed: {:?}", report.unindexed)) }
    }

    fn lose_cache(&mut self) -> Step {
        if self.cache.is_some() {
            self.cache = Some(tempfile::tempdir().expect("a cache"));
        }
        self.reopen()
    }

    fn step(&mut self) -> Step {
        let n = self.random.below(100);
        let (name, done) = match n {
            0..20 => ("backup", self.back_up()),
            20..26 => ("backup that dies", self.broken_back_up(true)),
            26..32 => ("backup with a fault", self.broken_back_up(false)),
            32..40 => ("crash", self.crash()),
            40..47 => ("two sessions", self.two_sessions()),
            47..51 => ("tag", self.tag()),
            51..57 => ("forget for good", self.forget()),
            57..63 => ("forget", self.bury()),
            63..66 => ("pin", self.pin()),
            66..69 => ("undelete", self.undelete()),
            69..75 => ("prune", self.collect()),
            75..78 => ("prune that dies", self.broken_collect(true)),
            78..81 => ("prune with a fault", self.broken_collect(false)),
            81..83 => ("settle", self.settle()),
            83..85 => ("rebuild index", self.rebuild_index()),
            85..88 => ("lose cache", self.lose_cache()),
            88..91 => ("compare index", indexes_agree(&self.repository)),
            91..95 => {
                let years = self.random.below(101) as i64 - 50;
                self.time = self.time.saturating_add(years * 31_556_952).clamp(-2_000_000_000, 4_000_000_000);
                ("clock jump", Ok(()))
            }
            _ => ("check", self.promised.hold(&self.repository, true)),
        };
        self.log.push(name.to_owned());
        done
    }
}

fn try_sequence(seed: u64) -> Result<(), String> {
    let mut world = World::new(seed);
    for _ in 0..STEPS {
        world.step().map_err(|e| format!("{e}, after {:?}", world.log))?;
    }
    let ended = world
        .promised
        .hold(&world.repository, true)
        .and_then(|()| world.settle())
        .and_then(|()| world.promised.hold(&world.repository, true))
        .and_then(|()| indexes_agree(&world.repository));
    ended.map_err(|e| format!("at the end: {e}, after {:?}", world.log))
}

#[test]
fn random_sequences_agree_with_the_model() {
    let first = seed(50_000);
    println!("first seed {first}");
    let sequences = size(300, 50_000);
    let (next, failures) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= sequences {
                        return;
                    }
                    if let Err(why) = try_sequence(first + number) {
                        failures.lock().expect("no panic").push(format!("seed {}: {why}", first + number));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no panic");
    count("T9 sequences of 40 steps", sequences, &format!("{} wrong", failures.len()));
    let shown: Vec<&String> = failures.iter().take(4).collect();
    assert!(failures.is_empty(), "{} sequences went wrong: {shown:#?}", failures.len());
}
