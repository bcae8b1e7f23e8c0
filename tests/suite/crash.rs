//! Crashes at every call: whatever a disk may have lost by then, what was promised is there and work goes on.
//!
//! A story is told once on a simulated disk that keeps every call. Then, for every call, images are made of what a
//! crash right after it may leave, and each is opened, read whole, checked and backed up to. Some of these recoveries
//! are crashed again.

use crate::counters::{count, seed, size};
use crate::shelf::{self, Random, Tree, try_repository};
use crate::simulation::{
    Fact, Promised, TRASH, Then, back_up, collect, create, edit, forget, go_on, newest, open, small_tree,
    undelete,
};
use snapkeep::backend::disk::simulated::{Act, Effect, Event, Fate, Features, SimulatedDisk, Step, Volume};
use snapkeep::backend::disk::{Disk, DiskFile};
use snapkeep::backend::local::LocalBackend;
use snapkeep::clock::{FixedClock, Timestamp};
use snapkeep::copy::{self, CopyOptions};
use snapkeep::crypto::password::Password;
use snapkeep::format::key::KdfCost;
use snapkeep::format::snapshot::SessionInfo;
use snapkeep::format::{FileName, Folder};
use snapkeep::gc::PruneReport;
use snapkeep::id::SnapshotId;
use snapkeep::progress::{Progress, Silent};
use snapkeep::repair::packs::{self as repair_packs, PacksOptions};
use snapkeep::repair::parity::{self as repair_parity, ParityOptions};
use snapkeep::repair::snapshots::{self as repair_snapshots, SnapshotsOptions};
use snapkeep::repository::keys::{self, SlotOwner};
use snapkeep::repository::{Repository, snapshots};
use std::collections::{BTreeSet, HashSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Pending effects of which every subset is tried.
const ALL_SUBSETS_UP_TO: usize = 7;
/// Of more effects, so many are lost or kept alone.
const ALONE_MAX: usize = 10;

/// A fact, of which place it is, and how many calls had been made when it was told.
struct Told {
    calls: usize,
    place: usize,
    fact: Fact,
}

struct Story {
    name: &'static str,
    features: Features,
    places: Vec<PathBuf>,
    disk: SimulatedDisk,
    told: Vec<Told>,
    /// Crashes before so many calls are left out.
    from: usize,
    /// Every recovery collects.
    collects: bool,
    /// Nor are crashes at these, and after them every recovery repairs first.
    damaged: Option<std::ops::Range<usize>>,
    random: Random,
    tree: Tree,
    time: i64,
}

impl Story {
    fn begin(name: &'static str, features: Features, seed: u64) -> Story {
        let disk = SimulatedDisk::new(Volume::default(), features);
        disk.record();
        let mut random = Random(seed);
        let tree = small_tree(&mut random);
        Story {
            name,
            features,
            places: Vec::new(),
            disk,
            told: Vec::new(),
            from: 0,
            collects: false,
            damaged: None,
            random,
            tree,
            time: 1000,
        }
    }

    fn tell(&mut self, place: usize, fact: Fact) {
        self.told.push(Told { calls: self.disk.recorded(), place, fact });
    }

    fn create(&mut self, place: &str) -> Arc<Repository> {
        let place = PathBuf::from(place);
        let repository = create(&self.disk, &place).expect("a repository");
        self.places.push(place);
        self.tell(self.places.len() - 1, Fact::Created);
        repository
    }

    fn back_up(&mut self, place: usize, repository: &Arc<Repository>) -> SnapshotId {
        self.time += 10;
        edit(&mut self.random, &mut self.tree, self.time);
        let id = back_up(repository, &self.tree, self.time).expect("a snapshot");
        let tree = Arc::new(self.tree.clone());
        self.tell(place, Fact::Reported(id, tree));
        id
    }

    fn forget(&mut self, repository: &Repository, id: SnapshotId) {
        self.tell(0, Fact::Forgetting(id));
        forget(repository, id, true, self.time).expect("forgotten");
        self.tell(0, Fact::Forgotten(id));
    }

    fn bury(&mut self, repository: &Repository, id: SnapshotId) {
        self.tell(0, Fact::Burying(id));
        forget(repository, id, false, self.time).expect("in the trash");
        self.tell(0, Fact::Buried(id));
    }

    fn undelete(&mut self, repository: &Arc<Repository>, id: SnapshotId) -> SnapshotId {
        self.tell(0, Fact::Returning(id));
        let back = undelete(repository, id, self.time).expect("brought back");
        self.tell(0, Fact::Returned(id, back.new));
        back.new
    }

    fn collect(&mut self, repository: &Arc<Repository>, trash: Duration) -> PruneReport {
        self.time += 10;
        collect(repository, self.time, trash).expect("collected")
    }

    fn tag(&mut self, repository: &Repository, id: SnapshotId) {
        let tags = vec![format!("tag-{}", self.time)];
        self.tell(0, Fact::Tagging(id, tags.clone()));
        let now = Timestamp { secs: self.time, nanos: 0 };
        snapshots::set_tags(repository, id, tags.clone(), now).expect("tags");
        self.tell(0, Fact::Tagged(id, tags));
    }

    /// What a place has promised after so many calls; nothing before it was created.
    fn promised(&self, place: usize, calls: usize) -> Option<Promised> {
        let mut promised = None;
        for told in self.told.iter().filter(|t| t.place == place && t.calls <= calls) {
            promised.get_or_insert_with(Promised::default).learn(&told.fact);
        }
        promised
    }
}

/// Init, three backups and a tag.
fn plain_story(features: Features, seed: u64) -> Story {
    let mut story = Story::begin("backups", features, seed);
    let repository = story.create("/backups/repository");
    let first = story.back_up(0, &repository);
    story.back_up(0, &repository);
    story.tag(&repository, first);
    story.back_up(0, &repository);
    story
}

/// Backups, some of them forgotten, in the trash, brought back, emptied from it, and collections that rewrite packs.
fn collection_story(features: Features, seed: u64) -> Story {
    let mut story = Story::begin("collection", features, seed);
    story.collects = true;
    let repository = story.create("/repository");
    let first = story.back_up(0, &repository);
    // Whatever the seed, some of what only the second or the third has is stored beside what others need.
    let own = story.random.bytes(700);
    story.tree.insert("home/second".to_owned(), shelf::file(own, 7));
    let second = story.back_up(0, &repository);
    story.from = story.disk.recorded();
    story.tree.remove("home/second");
    let own = story.random.bytes(700);
    story.tree.insert("home/third".to_owned(), shelf::file(own, 7));
    let third = story.back_up(0, &repository);
    story.tree.remove("home/third");
    story.bury(&repository, first);
    story.forget(&repository, second);
    let done = story.collect(&repository, TRASH);
    assert!(done.deleted_packs > 0 && done.written_bytes > 0, "packs are rewritten: {done:?}");
    let first = story.undelete(&repository, first);
    story.bury(&repository, third);
    story.tell(0, Fact::Forgetting(third));
    let done = story.collect(&repository, Duration::ZERO);
    assert!(done.deleted_packs > 0 && done.expired == 1, "the trash is emptied: {done:?}");
    story.tell(0, Fact::Forgotten(third));
    story.back_up(0, &repository);
    story.forget(&repository, first);
    assert!(story.collect(&repository, TRASH).deleted_packs > 0);
    story
}

/// On a disk far away: backups of which one merges the index segments of all, and a collection that tidies them up.
fn segment_story(features: Features, seed: u64) -> Story {
    let mut story = Story::begin("segments", features, seed);
    story.collects = true;
    let repository = story.create("/repository");
    let ids: Vec<SnapshotId> = (0..7).map(|_| story.back_up(0, &repository)).collect();
    story.from = story.disk.recorded();
    let segments = |repository: &Repository| repository.backend().list(Folder::Index).expect("listed").len();
    assert_eq!(segments(&repository), 7);
    // When they are merged depends on their sizes, and those on the seed.
    let is_merged = (0..16).any(|_| {
        let before = segments(&repository);
        story.back_up(0, &repository);
        segments(&repository) < before
    });
    assert!(is_merged, "many become one");
    for id in ids {
        story.forget(&repository, id);
    }
    let done = story.collect(&repository, TRASH);
    assert!(done.deleted_packs > 0 && done.segments.removed > 0, "{done:?}");
    story.back_up(0, &repository);
    story
}

/// A collection condemns what a backup relies on, which commits; so that the next one rescues it.
fn rescue_story(features: Features, seed: u64) -> Story {
    let mut story = Story::begin("rescue", features, seed);
    story.collects = true;
    let repository = story.create("/repository");
    let first = story.back_up(0, &repository);
    let parent = newest(&repository).expect("listed");
    let tree = story.tree.clone();
    story.back_up(0, &repository);
    let second = newest(&repository).expect("listed").expect("one").id;
    story.from = story.disk.recorded();
    let session = shelf::session(&repository).expect("a session");
    story.forget(&repository, first);
    story.forget(&repository, second);
    assert!(story.collect(&repository, TRASH).waiting_packs > 0);
    let id = shelf::commit_in(session, &tree, story.time, parent.as_ref(), &|_| {}).expect("committed");
    story.tell(0, Fact::Reported(id, Arc::new(tree)));
    let done = story.collect(&repository, TRASH);
    assert!(done.rescued > 0 && done.deleted_packs > 0, "{done:?}");
    story.back_up(0, &repository);
    story
}

/// Flips a bit in the middle of a file, durably.
fn damage(disk: &SimulatedDisk, path: &Path) {
    let mut file = disk.open(path).expect("there");
    let mut bytes = vec![0; file.size().expect("a size") as usize];
    file.read_exact_at(&mut bytes, 0).expect("read");
    let at = bytes.len() / 2;
    bytes[at] ^= 4;
    file.write_all(&bytes).and_then(|()| file.sync()).expect("written");
}

/// Repairs whatever there is to repair.
fn repair(repository: &Arc<Repository>) -> Result<(), String> {
    let packs = PacksOptions { apply: true, ..PacksOptions::default() };
    let done = repair_packs::run(repository, &packs, &Progress::new(), &Silent).map_err(|e| e.to_string())?;
    if let Some(lost) = done.repairs.iter().find(|r| !r.done()) {
        return Err(format!("repair packs: {lost:?}"));
    }
    let info = SessionInfo::default();
    let snapshots = SnapshotsOptions { apply: true, info, ..SnapshotsOptions::default() };
    let done = repair_snapshots::run(repository, &snapshots, &Progress::new(), &Silent);
    let done = done.map_err(|e| e.to_string())?;
    if done.is_hopeless() || !done.snapshots.is_empty() {
        return Err(format!("repair snapshots: {done:?}"));
    }
    let parity = ParityOptions { apply: true, ..ParityOptions::default() };
    let done = repair_parity::run(repository, &parity, &Progress::new()).map_err(|e| e.to_string())?;
    if done.hurt.is_empty() { Ok(()) } else { Err(format!("repair parity: {:?}", done.hurt)) }
}

/// A repository with parity, of which packs and a record are damaged and repaired.
fn repair_story(features: Features, seed: u64) -> Story {
    let mut story = Story::begin("repair", features, seed);
    story.collects = true;
    let repository = story.create("/repository");
    story.back_up(0, &repository);
    // A crash here leaves a repository as whole as before.
    story.from = story.disk.recorded();
    let percent = ParityOptions { percent: Some(100), apply: true, ..ParityOptions::default() };
    repair_parity::run(&repository, &percent, &Progress::new()).expect("parity");
    let repository = open(&story.disk, Path::new("/repository"), None).expect("a repository");
    let id = story.back_up(0, &repository);
    let packs = repository.backend().list(Folder::Packs).expect("listed");
    let until = story.disk.recorded();
    for pack in packs.iter().take(3) {
        damage(&story.disk, &Path::new("/repository").join(pack.name.path()));
    }
    damage(&story.disk, &Path::new("/repository").join(FileName::Snapshot(id).path()));
    story.damaged = Some(until..story.disk.recorded());
    let repository = open(&story.disk, Path::new("/repository"), None).expect("a repository");
    repair(&repository).expect("repaired");
    let lists = repository.backend().list(Folder::Condemned).expect("listed");
    assert!(!lists.is_empty(), "damaged packs are condemned");
    assert!(story.collect(&repository, TRASH).deleted_packs >= 3);
    story.back_up(0, &repository);
    story
}

/// Two backups here, copied there, one more here, copied too.
fn copy_story(features: Features, seed: u64) -> Story {
    let mut story = Story::begin("copy", features, seed);
    let here = story.create("/here");
    story.back_up(0, &here);
    story.back_up(0, &here);
    story.from = story.disk.recorded();
    let there = story.create("/there");
    for round in 0..2 {
        let chosen = snapshots::list(&here).expect("a list").snapshots;
        let options = CopyOptions { workers: 1, host: String::new(), ..CopyOptions::default() };
        let clock = FixedClock(Timestamp { secs: story.time, nanos: 0 });
        let report = copy::run(&here, &chosen, &there, &options, &clock, &Progress::new(), &Silent);
        for (from, to) in report.expect("a copy").copied {
            let here = story.promised(0, usize::MAX).expect("told");
            story.tell(1, Fact::Reported(to.expect("copied"), Arc::clone(&here.snapshots[&from])));
        }
        if round == 0 {
            story.back_up(0, &here);
        }
    }
    story
}

/// A repository with a password, which is changed between two backups. Its keys are cheap to derive.
fn password_story(features: Features, seed: u64) -> Story {
    let mut story = Story::begin("password", features, seed);
    let place = PathBuf::from("/repository");
    let backend = LocalBackend::create_on(story.disk.clone(), &place, false).expect("folders");
    let repository = Arc::new(try_repository(Arc::new(backend), Some("first")).expect("a repository"));
    story.places.push(place);
    let password = |text: &str| Password::new(text.as_bytes().to_vec()).expect("a password");
    let slots = keys::read_slots(repository.backend().as_ref(), repository.id()).expect("slots").slots;
    let (master, _) = keys::unlock(&slots, repository.id(), &password("first"), None).expect("unlocked");
    let set = |text: &str| {
        let (owner, now) = (SlotOwner::default(), Timestamp::default());
        let cost = KdfCost { m_kib: 8, t: 1, p: 1 };
        let slot = keys::new_slot(repository.id(), &master, &password(text), &owner, now, cost);
        let slot = slot.expect("a slot");
        keys::change_slots(repository.backend().as_ref(), repository.id(), &|slots| {
            slots.slots = vec![slot.clone()];
            Ok(())
        })
    };
    set("old").expect("a password");
    story.tell(0, Fact::Passwords(vec!["old"]));
    story.from = story.disk.recorded();
    story.back_up(0, &repository);
    story.tell(0, Fact::Passwords(vec!["old", "new"]));
    set("new").expect("a password");
    story.tell(0, Fact::Passwords(vec!["new"]));
    story.back_up(0, &repository);
    story
}

/// What crashes at this moment may leave.
fn crashes(pending: &[Effect], random: &mut Random, drawn: usize) -> Vec<Vec<Fate>> {
    let n = pending.len();
    let mut all = HashSet::new();
    if n <= ALL_SUBSETS_UP_TO {
        for subset in 0..1u32 << n {
            all.insert((0..n).map(|i| if subset >> i & 1 == 1 { Fate::Kept } else { Fate::Lost }).collect());
        }
    } else {
        let alone: Vec<usize> = match n {
            0..=ALONE_MAX => (0..n).collect(),
            _ => (0..ALONE_MAX).map(|_| random.below(n)).collect(),
        };
        for (most, one) in [(Fate::Kept, Fate::Lost), (Fate::Lost, Fate::Kept)] {
            all.insert(vec![most; n]);
            for i in &alone {
                let mut fates = vec![most; n];
                fates[*i] = one;
                all.insert(fates);
            }
        }
        for _ in 0..drawn {
            let likely = 1 + random.below(7);
            let draw = |_| if random.below(8) < likely { Fate::Kept } else { Fate::Lost };
            all.insert((0..n).map(draw).collect());
        }
    }
    for (i, effect) in pending.iter().enumerate() {
        let Effect::Bytes { bytes, .. } = effect else { continue };
        for others in [Fate::Kept, Fate::Lost] {
            let cuts = [1, bytes.len() / 2, bytes.len().saturating_sub(1), random.below(bytes.len() + 1)];
            for torn in cuts.map(Fate::Torn).into_iter().chain([Fate::Zeros]) {
                let mut fates = vec![others; n];
                fates[i] = torn;
                all.insert(fates);
            }
        }
    }
    all.into_iter().collect()
}

/// Whether a call with these steps changes what a crash may leave.
fn matters(volume: &Volume, steps: &[Step]) -> bool {
    let pending = |node| {
        volume.pending().iter().any(|effect| match effect {
            Effect::Name { dir, .. } => *dir == node,
            Effect::Bytes { file, .. } => *file == node,
        })
    };
    steps.iter().any(|step| match step {
        Step::Sync(node) | Step::Forsake(node) => pending(*node),
        Step::Make(_) => false,
        Step::Change(_) => true,
    })
}

/// Whether this is one of the 256 folders of packs being made, of which a few stand for all.
fn is_shard(event: &Event) -> bool {
    let shards = event.call.path.parent().is_some_and(|p| p.ends_with(Folder::Packs.dir()));
    event.call.act == Act::MakeDir && shards
}

/// A disk after a crash, and what it must hold.
struct Image {
    volume: Volume,
    calls: usize,
    fates: Vec<Fate>,
    /// Whether the recovery is crashed as well.
    again: bool,
}

#[derive(Default)]
struct Totals {
    images: AtomicU64,
    proved: AtomicU64,
    nested: AtomicU64,
    failures: Mutex<Vec<String>>,
}

/// Opens each place of an image, proves what it promised, backs up once more and proves that, too. Returns what was
/// done in the course of it.
fn prove(story: &Story, volume: Volume, calls: usize, thoroughly: bool) -> Result<Vec<Event>, String> {
    let disk = SimulatedDisk::new(volume, story.features);
    disk.record();
    for (number, place) in story.places.iter().enumerate() {
        let promised = story.promised(number, calls);
        if story.damaged.as_ref().is_some_and(|damaged| calls >= damaged.end) {
            let repository = open(&disk, place, None).map_err(|e| format!("opening for a repair: {e}"))?;
            repair(&repository)?;
        }
        let then = match (thoroughly, story.collects) {
            (true, _) => Then::Settle,
            (false, true) => Then::Collect,
            (false, false) => Then::BackUp,
        };
        let repository = go_on(&disk, place, promised, &story.tree, calls as u64, then)?;
        let open = repository.backend().list(Folder::Sessions).map_err(|e| e.to_string())?;
        if story.features.locks && !open.is_empty() {
            return Err(format!("a dead session stays: {open:?}"));
        }
    }
    Ok(disk.take_events())
}

/// Crashes a recovery at some moments and proves what is left.
fn crash_again(story: &Story, image: &Image, events: &[Event], totals: &Totals) -> Result<(), String> {
    let mut random = Random(image.calls as u64 ^ 0x5eed);
    let mut volume = image.volume.clone();
    let changing: Vec<&Event> = events.iter().filter(|e| !e.steps.is_empty()).collect();
    let mut chosen: BTreeSet<usize> = (0..2).map(|_| random.below(changing.len().max(1))).collect();
    // A rename into another directory may survive by half: more of those.
    let renames =
        changing.iter().enumerate().filter(|(_, e)| matches!(e.call.act, Act::Rename | Act::RenameNew));
    chosen.extend(renames.map(|(i, _)| i).filter(|_| random.below(2) == 0));
    for (i, event) in changing.iter().enumerate() {
        event.steps.iter().for_each(|step| volume.step(step));
        if chosen.contains(&i) {
            let mut fates = crashes(volume.pending(), &mut random, 4);
            let fates = fates.swap_remove(random.below(fates.len()));
            totals.nested.fetch_add(1, Ordering::Relaxed);
            prove(story, volume.crashed(&fates), image.calls, false)
                .map_err(|e| format!("crashed again after change {i} of the recovery ({fates:?}): {e}"))?;
        }
    }
    Ok(())
}

fn try_image(story: &Story, image: &Image, totals: &Totals) {
    let number = totals.proved.fetch_add(1, Ordering::Relaxed);
    let proved = prove(story, image.volume.clone(), image.calls, number.is_multiple_of(8));
    let proved = proved.and_then(|events| match image.again {
        true => crash_again(story, image, &events, totals),
        false => Ok(()),
    });
    if let Err(why) = proved {
        let Image { calls, fates, volume, .. } = image;
        let files = volume.files();
        let what = format!("{}: crash after call {calls}, fates {fates:?}: {why}\n{files:?}", story.name);
        totals.failures.lock().expect("no panic").push(what);
    }
}

/// Makes all images of a story, and tries each that differs from all before it.
fn enumerate(story: &Story, seed: u64, drawn: usize, totals: &Totals) {
    let events = story.disk.take_events();
    let mut random = Random(seed);
    std::thread::scope(|scope| {
        let (send, receive) = sync_channel::<Image>(32);
        let receive = Arc::new(Mutex::new(receive));
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            let receive = Arc::clone(&receive);
            scope.spawn(move || {
                loop {
                    let next = receive.lock().expect("no panic").recv();
                    let Ok(image) = next else { return };
                    try_image(story, &image, totals);
                }
            });
        }
        let (mut volume, mut met) = (Volume::default(), HashSet::new());
        let mut told = 0;
        for calls in 1..=events.len() {
            let steps = &events[calls - 1].steps;
            let changed = matters(&volume, steps);
            steps.iter().for_each(|step| volume.step(step));
            let by_now = story.told.iter().filter(|t| t.calls <= calls).count();
            let repeated = is_shard(&events[calls - 1]) && !random.below(16).is_multiple_of(size(16, 1));
            let damaging = story.damaged.as_ref().is_some_and(|damaged| damaged.contains(&calls));
            if (!changed && by_now == told) || calls < story.from || repeated || damaging {
                continue;
            }
            told = by_now;
            for fates in crashes(volume.pending(), &mut random, drawn) {
                totals.images.fetch_add(1, Ordering::Relaxed);
                let left = volume.crashed(&fates);
                if met.insert((left.digest(), told)) {
                    let again = met.len() % 10 == 0;
                    send.send(Image { volume: left, calls, fates, again }).expect("a worker");
                }
            }
        }
        drop(send);
    });
    let last = events.last().map(|e| &e.call);
    println!("{}: {} calls, the last {last:?}", story.name, events.len());
}

fn finish(what: &str, totals: &Totals) {
    let failures = totals.failures.lock().expect("no panic");
    let outcome = format!("{} lost", failures.len());
    count(&format!("{what} crash images"), totals.images.load(Ordering::Relaxed), &outcome);
    count(&format!("{what} crash images proved one by one"), totals.proved.load(Ordering::Relaxed), &outcome);
    count(&format!("{what} crashes of recoveries"), totals.nested.load(Ordering::Relaxed), &outcome);
    let shown: Vec<&String> = failures.iter().take(3).collect();
    assert!(failures.is_empty(), "{} of the images are wrong: {shown:#?}", failures.len());
}

#[test]
fn a_crash_at_any_call_loses_nothing_that_was_reported() {
    let seed = seed(1);
    println!("seed {seed}");
    let totals = Totals::default();
    let drawn = size(48, 512);
    for round in 0..size(1, 20) {
        for features in [Features::ALL, Features::NONE] {
            enumerate(&plain_story(features, seed + round), seed + round, drawn, &totals);
        }
    }
    finish("T1", &totals);
}

#[test]
fn a_crash_at_any_call_of_a_collection_loses_nothing_and_keeps_nothing_idle() {
    let seed = seed(5);
    println!("seed {seed}");
    let totals = Totals::default();
    for round in 0..size(1, 20) {
        for features in [Features::ALL, Features::LOCKS] {
            enumerate(&collection_story(features, seed + round), seed + round, size(16, 512), &totals);
            enumerate(&rescue_story(features, seed + round), seed + round, size(16, 512), &totals);
        }
    }
    finish("T1 collection", &totals);
}

#[test]
fn a_crash_at_any_call_with_index_segments_loses_nothing_and_leaves_none_wrong() {
    let seed = seed(7);
    println!("seed {seed}");
    let totals = Totals::default();
    for round in 0..size(1, 20) {
        enumerate(&plain_story(Features::REMOTE, seed + round), seed + round, size(16, 512), &totals);
        enumerate(&segment_story(Features::REMOTE, seed + round), seed + round, size(8, 256), &totals);
    }
    finish("T1 segments", &totals);
}

#[test]
fn a_crash_at_any_call_of_a_repair_can_be_repaired() {
    let seed = seed(6);
    println!("seed {seed}");
    let totals = Totals::default();
    for round in 0..size(1, 20) {
        for features in [Features::ALL, Features::NONE] {
            enumerate(&repair_story(features, seed + round), seed + round, size(16, 512), &totals);
        }
    }
    finish("T1 repair", &totals);
}

#[test]
fn a_crash_at_any_call_of_a_change_of_passwords_locks_nobody_out() {
    let seed = seed(3);
    println!("seed {seed}");
    let totals = Totals::default();
    enumerate(&password_story(Features::ALL, seed), seed, size(48, 512), &totals);
    enumerate(&password_story(Features::NONE, seed), seed, size(48, 512), &totals);
    finish("T1 passwords", &totals);
}

#[test]
fn a_crash_at_any_call_of_a_copy_loses_nothing() {
    let seed = seed(2);
    println!("seed {seed}");
    let totals = Totals::default();
    for round in 0..size(1, 20) {
        enumerate(&copy_story(Features::ALL, seed + round), seed + round, size(48, 512), &totals);
    }
    finish("T1 copy", &totals);
}
