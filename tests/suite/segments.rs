//! Index segments: they save requests, and whatever becomes of them nothing else changes.

use crate::cli::{Home, text};
use crate::counters::{seed, size};
use crate::shelf::{Random, Tree, commit, edit, random_tree, repository, try_commit, try_repository};
use crate::simulation::indexes_agree;
use serde_json::Value;
use snapkeep::backend::local::LocalBackend;
use snapkeep::backend::memory::MemoryBackend;
use snapkeep::backend::{Backend, FileStat, Pending, SessionFile};
use snapkeep::check::damage::DamageKind;
use snapkeep::check::{self, CheckOptions, CheckReport};
use snapkeep::error::{Error, ErrorKind, Result};
use snapkeep::format::frame::FrameKind;
use snapkeep::format::segment::Segment;
use snapkeep::format::{FileName, Folder, HEADER_LEN, encode_header};
use snapkeep::gc::{MaxUnused, PruneOptions, PruneReport, run as prune_with};
use snapkeep::id::{Name, SnapshotId};
use snapkeep::progress::{Problem, Progress, Report, Silent};
use snapkeep::repair::index as repair_index;
use snapkeep::repository::index::Index;
use snapkeep::repository::segment::{self, SegmentPolicy};
use snapkeep::repository::snapshots::{self, Listed};
use snapkeep::repository::{Repository, condemned, removal};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A repository in memory for which segments are written.
fn empty() -> (MemoryBackend, Arc<Repository>) {
    let backend = MemoryBackend::new();
    let repository = with_policy(&backend, SegmentPolicy::Always);
    (backend, repository)
}

fn with_policy(backend: &MemoryBackend, policy: SegmentPolicy) -> Arc<Repository> {
    let mut repository = try_repository(Arc::new(backend.clone()), Some("segments")).expect("a repository");
    repository.set_segments(policy);
    Arc::new(repository)
}

/// The same repository, opened by somebody who writes no segments.
fn unwilling(repository: &Repository) -> Arc<Repository> {
    let mut other = repository.with_backend(Arc::clone(repository.backend()));
    other.set_segments(SegmentPolicy::Never);
    Arc::new(other)
}

fn segments(backend: &dyn Backend) -> BTreeSet<Name> {
    backend.list(Folder::Index).expect("listed").iter().map(|stat| stat.name.header_name()).collect()
}

fn read(repository: &Repository, name: Name) -> Segment {
    segment::read(repository.backend().as_ref(), repository.keyring(), name).expect("a segment")
}

fn prune(repository: &Arc<Repository>) -> PruneReport {
    let options =
        PruneOptions { max_unused: MaxUnused::Bytes(0), wait: Duration::ZERO, ..PruneOptions::default() };
    prune_with(repository, &options, &Progress::new(), &Silent).expect("pruned")
}

fn check(repository: &Repository) -> CheckReport {
    check::run(repository, &CheckOptions::default(), &Progress::new(), &Silent).expect("checked")
}

fn assert_sound(repository: &Repository) {
    let report = check(repository);
    assert!(report.damage.is_empty() && report.unchecked.is_empty(), "{:#?}", report.damage);
}

/// Every snapshot holds what it held, by whatever index an opening without a cache comes to.
fn assert_holds(repository: &Repository, model: &BTreeMap<SnapshotId, Tree>) {
    let listing = snapshots::list(repository).expect("listed");
    assert_eq!(listing.snapshots.len(), model.len());
    let reader = repository.reader().expect("a reader");
    for listed in &listing.snapshots {
        assert!(crate::shelf::tree(&reader, &listed.root) == model[&listed.id], "{} changed", listed.id);
    }
}

/// Some snapshots of a tree that changes.
fn commits(repository: &Arc<Repository>, count: i64, seed: u64) -> BTreeMap<SnapshotId, Tree> {
    let mut random = Random(seed);
    let mut now = random_tree(&mut random, 12);
    let (mut model, mut last): (_, Option<Listed>) = (BTreeMap::new(), None);
    for time in 0..count {
        let listed = commit(repository, &now, time, last.as_ref());
        model.insert(listed.id, now.clone());
        edit(&mut random, &mut now, 6, 100 + time);
        last = Some(listed);
    }
    model
}

/// A place where each request takes long: it counts them.
struct Far {
    behind: MemoryBackend,
    reads: AtomicU64,
    lists: AtomicU64,
    /// Names that are listed although they are gone.
    ghosts: Mutex<Vec<FileStat>>,
    /// Segments cannot be written.
    full: AtomicBool,
}

impl Far {
    fn new(behind: &MemoryBackend) -> Arc<Far> {
        Arc::new(Far {
            behind: behind.clone(),
            reads: AtomicU64::new(0),
            lists: AtomicU64::new(0),
            ghosts: Mutex::default(),
            full: AtomicBool::new(false),
        })
    }

    /// Reads since the last time.
    fn reads(&self) -> u64 {
        self.reads.swap(0, Ordering::Relaxed)
    }
}

impl Backend for Far {
    fn create(&self, name: &FileName) -> Result<Box<dyn Pending>> {
        if name.folder() == Folder::Index && self.full.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Io, "no space left"));
        }
        self.behind.create(name)
    }
    fn read(&self, name: &FileName, max: u64) -> Result<Vec<u8>> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.behind.read(name, max)
    }
    fn read_range(&self, name: &FileName, offset: u64, len: usize) -> Result<Vec<u8>> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.behind.read_range(name, offset, len)
    }
    fn list(&self, folder: Folder) -> Result<Vec<FileStat>> {
        self.lists.fetch_add(1, Ordering::Relaxed);
        let mut listed = self.behind.list(folder)?;
        let ghosts = self.ghosts.lock().expect("no panic");
        listed.extend(ghosts.iter().filter(|stat| stat.name.folder() == folder));
        Ok(listed)
    }
    fn remove(&self, name: &FileName) -> Result<()> {
        self.behind.remove(name)
    }
    fn open_session(&self, session: Name, first: &[u8]) -> Result<Box<dyn SessionFile>> {
        self.behind.open_session(session, first)
    }
    fn evict(&self, session: Name) -> Result<()> {
        self.behind.evict(session)
    }
    fn session_alive(&self, session: Name) -> Option<bool> {
        self.behind.session_alive(session)
    }
    fn sync_seen(&self) -> Result<()> {
        Ok(())
    }
    fn requests_are_slow(&self) -> bool {
        true
    }
    fn location(&self) -> String {
        "far away".into()
    }
}

/// The same repository far away.
fn far(repository: &Repository, behind: &MemoryBackend) -> (Arc<Far>, Arc<Repository>) {
    let far = Far::new(behind);
    let mut there = repository.with_backend(far.clone());
    there.set_segments(SegmentPolicy::Auto);
    (far, Arc::new(there))
}

#[test]
fn a_repository_far_away_opens_in_a_few_requests() {
    let backend = MemoryBackend::new();
    let plain = repository(&backend, None);
    let (far, there) = far(&plain, &backend);
    let model = commits(&there, 40, 1);
    let packs = backend.list(Folder::Packs).expect("listed").len() as u64;
    assert!(packs >= 40, "{packs} packs");
    let written = segments(&backend).len();
    assert!((1..16).contains(&written), "40 backups are merged to {written} segments");
    far.reads();
    let index = there.load_index().expect("loaded");
    let with = far.reads();
    assert_eq!(index.packs().count() as u64, packs);
    indexes_agree(&there).expect("the index is that of the packs");
    for name in segments(&backend) {
        removal::segment(&backend, name).expect("removed");
    }
    far.reads();
    there.load_index().expect("loaded");
    let without = far.reads();
    println!("{packs} packs: {with} reads with {written} segments, {without} without");
    assert_eq!(without, 3 * packs);
    assert!(with <= written as u64, "each segment once, and no footer");
    assert_holds(&there, &model);
}

#[test]
fn nothing_is_written_where_requests_are_fast_unless_it_is_asked_for() {
    for (policy, expected) in
        [(SegmentPolicy::Auto, 0), (SegmentPolicy::Never, 0), (SegmentPolicy::Always, 2)]
    {
        let backend = MemoryBackend::new();
        commits(&with_policy(&backend, policy), 2, 2);
        assert_eq!(segments(&backend).len(), expected, "{policy:?}");
    }
    let backend = MemoryBackend::new();
    let (_, there) = far(&repository(&backend, None), &backend);
    commits(&unwilling(&there), 2, 2);
    assert!(segments(&backend).is_empty(), "never means never");
    assert!(SegmentPolicy::parse("sometimes").is_err());
}

#[test]
fn whoever_knows_all_but_a_few_packs_reads_little() {
    let backend = MemoryBackend::new();
    let plain = repository(&backend, None);
    let (far, there) = far(&plain, &backend);
    commits(&there, 30, 3);
    let cache = tempfile::tempdir().expect("a directory");
    let mut knowing = there.with_backend(there.backend().clone());
    knowing.set_cache(Some(cache.path()));
    let knowing = Arc::new(knowing);
    knowing.load_index().expect("loaded");
    far.reads();
    knowing.load_index().expect("loaded");
    assert_eq!(far.reads(), 0, "the cache knows everything");
    // Three more by somebody else.
    let before = backend.list(Folder::Packs).expect("listed").len();
    let more = commits(&there, 3, 4);
    let new = (backend.list(Folder::Packs).expect("listed").len() - before) as u64;
    far.reads();
    knowing.load_index().expect("loaded");
    let reads = far.reads();
    println!("{new} new packs: {reads} reads");
    assert!(reads < 3 * new, "{reads} reads for {new} packs");
    assert_eq!(more.len(), 3);
    indexes_agree(&knowing).expect("the same index");
}

#[test]
fn whatever_byte_of_a_segment_flips_only_check_notices() {
    let (backend, repository) = empty();
    let model = commits(&repository, 2, 5);
    assert_sound(&repository);
    let names = segments(&backend);
    assert_eq!(names.len(), 2);
    let mut tried = 0;
    for name in &names {
        let file = FileName::Index(*name);
        let whole = backend.read(&file, u64::MAX).expect("read");
        // Every byte, and lengths that a crash or a bad copy may leave.
        let cuts = [0, 1, 47, 48, 56, 119, whole.len() / 2, whole.len() - 1];
        let cut = cuts.iter().map(|len| whole[..*len].to_vec());
        let longer = [whole.as_slice(), &[0]].concat();
        let flipped = (0..whole.len()).map(|at| {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            bytes
        });
        for bytes in flipped.chain(cut).chain([longer]) {
            backend.overwrite(file, bytes);
            indexes_agree(&repository).expect("the index is that of the packs");
            let report = check(&repository);
            let found: Vec<_> = report.damage.iter().map(|d| (d.kind, d.what.clone())).collect();
            assert_eq!(found, [(DamageKind::Segment, file.path())], "{:?}", report.damage);
            if tried % 50 == 0 {
                assert_holds(&repository, &model);
                let by = if tried % 100 == 0 { Arc::clone(&repository) } else { unwilling(&repository) };
                let done = repair_index::run(&by, &Progress::new(), &Silent).expect("repaired");
                assert_eq!(done.segments.damaged.len(), 1);
                assert!(!segments(&backend).contains(name));
                assert_sound(&repository);
                assert_holds(&repository, &model);
            }
            tried += 1;
        }
        backend.overwrite(file, whole);
        indexes_agree(&repository).expect("as before");
    }
    println!("{tried} damaged segments");
}

#[test]
fn a_segment_of_another_name_or_repository_is_refused() {
    let (backend, repository) = empty();
    let model = commits(&repository, 3, 6);
    let name = *segments(&backend).iter().next().expect("one");
    let bytes = backend.read(&FileName::Index(name), u64::MAX).expect("read");
    let strange = FileName::Index(Name([9; 16]));
    backend.overwrite(strange, bytes);
    let (other, of_other) = empty();
    commits(&of_other, 1, 6);
    let foreign = *segments(&other).iter().next().expect("one");
    let foreign = FileName::Index(foreign);
    backend.overwrite(foreign, other.read(&foreign, u64::MAX).expect("read"));
    indexes_agree(&repository).expect("the index is that of the packs");
    assert_eq!(check(&repository).damage.len(), 2);
    prune(&repository);
    assert!(segments(&backend).contains(&strange.header_name()), "a prune leaves what is damaged for check");
    repair_index::run(&repository, &Progress::new(), &Silent).expect("repaired");
    assert_sound(&repository);
    assert_holds(&repository, &model);
}

/// Stores a segment as a faulty program might.
fn plant(backend: &MemoryBackend, repository: &Repository, segment: &Segment) -> Name {
    let name = Name([0xee; 16]);
    let file = FileName::Index(name);
    let mut bytes = encode_header(&file, repository.id()).to_vec();
    let sealed = repository.keyring().seal(FrameKind::Segment, &segment.encode(), &[1; 16]);
    bytes.extend(sealed.expect("sealed"));
    backend.overwrite(file, bytes);
    name
}

#[test]
fn what_contradicts_the_packs_is_found_and_removed() {
    let (backend, repository) = empty();
    let model = commits(&repository, 3, 7);
    let mut all: Vec<_> = segments(&backend).into_iter().flat_map(|n| read(&repository, n).packs).collect();
    all.sort_by_key(|entry| entry.pack);
    for name in segments(&backend) {
        removal::segment(&backend, name).expect("removed");
    }
    let (first, second) = (all[0].clone(), all[1].clone());
    let mut swapped = first.clone();
    swapped.kind = if first.kind == FrameKind::Data { FrameKind::Meta } else { FrameKind::Data };
    let mut other_ids = first.clone();
    other_ids.footer.frames[0].table.bodies[0].chunks[0].id.0[3] ^= 1;
    let mut other_size = first.clone();
    other_size.footer = second.footer.clone();
    for lie in [swapped, other_ids, other_size] {
        let planted = plant(&backend, &repository, &Segment { supersedes: Vec::new(), packs: vec![lie] });
        let report = check(&repository);
        let kinds: Vec<_> = report.damage.iter().map(|d| d.kind).collect();
        assert_eq!(kinds, [DamageKind::Segment], "{:?}", report.damage);
        let done = repair_index::run(&repository, &Progress::new(), &Silent).expect("repaired");
        assert_eq!((done.segments.damaged.len(), done.segments.removed), (1, 1));
        assert!(!segments(&backend).contains(&planted));
        assert_sound(&repository);
        assert_holds(&repository, &model);
        for name in segments(&backend) {
            removal::segment(&backend, name).expect("removed");
        }
    }
}

#[test]
fn a_segment_makes_no_pack_exist_and_hides_none() {
    let (backend, repository) = empty();
    let mut model = commits(&repository, 4, 8);
    let packs = backend.list(Folder::Packs).expect("listed");
    let there = |index: &Index| -> BTreeSet<Name> { index.packs().map(|info| info.id).collect() };
    let all: BTreeSet<Name> = packs.iter().map(|stat| stat.name.header_name()).collect();
    assert!(all.len() >= 6, "so many that segments are asked");
    assert_eq!(there(&repository.load_index().expect("loaded")), all);
    // Of another size, or gone: then it does not count, though a segment speaks of it.
    for stat in &packs {
        let whole = backend.read(&stat.name, u64::MAX).expect("read");
        backend.overwrite(stat.name, whole[..whole.len() - 1].to_vec());
        let mut others = all.clone();
        others.remove(&stat.name.header_name());
        assert_eq!(there(&repository.load_index().expect("loaded")), others);
        backend.remove(&stat.name).expect("removed");
        assert_eq!(there(&repository.load_index().expect("loaded")), others);
        backend.overwrite(stat.name, whole);
    }
    // Nor do condemned ones.
    let name = *all.iter().next().expect("one");
    condemned::publish(&backend, repository.keyring(), 0, &[name]).expect("published");
    let index = repository.load_index().expect("loaded");
    let mut of_it = 0;
    for said in segments(&backend).into_iter().flat_map(|s| read(&repository, s).packs) {
        let ids = said.footer.frames.iter().flat_map(|f| &f.table.bodies).flat_map(|b| &b.chunks);
        for chunk in ids.filter(|_| said.pack == name) {
            of_it += 1;
            assert!(!index.present(&chunk.id).expect("known"), "only a condemned pack has it");
        }
    }
    assert!(of_it > 0);
    // All are gone, and the same tree is stored anew.
    for stat in &packs {
        backend.remove(&stat.name).expect("removed");
    }
    assert_eq!(repository.load_index().expect("loaded").len(), 0);
    let trees: Vec<Tree> = model.values().cloned().collect();
    model.keys().for_each(|id| removal::snapshot(&backend, *id).expect("removed"));
    model.clear();
    for (tree, time) in trees.into_iter().zip(100..) {
        let listed = commit(&repository, &tree, time, None);
        model.insert(listed.id, tree);
    }
    assert_holds(&repository, &model);
}

#[test]
fn a_segment_serves_readers_and_hides_no_damage() {
    let (backend, repository) = empty();
    let model = commits(&repository, 2, 25);
    for stat in backend.list(Folder::Packs).expect("listed") {
        let mut bytes = backend.read(&stat.name, u64::MAX).expect("read");
        let whole = bytes.clone();
        // In the footer's frame, before the trailer.
        let at = bytes.len() - 60;
        bytes[at] ^= 4;
        backend.overwrite(stat.name, bytes);
        // What the pack holds can be had all the same.
        assert_holds(&repository, &model);
        // Whoever looks for damage, or decides what goes, does not take the segment's word.
        let kinds: Vec<_> = check(&repository).damage.iter().map(|d| d.kind).collect();
        assert!(kinds.contains(&DamageKind::PackUnreadable), "{kinds:?}");
        let done = repair_index::run(&repository, &Progress::new(), &Silent).expect("rebuilt");
        assert_eq!(done.unindexed.len(), 1);
        assert!(done.segments.damaged.is_empty(), "the pack is damaged, and not the segment");
        let options = PruneOptions { max_unused: MaxUnused::Bytes(0), ..PruneOptions::default() };
        assert!(prune_with(&repository, &options, &Progress::new(), &Silent).is_err(), "nothing may go now");
        backend.overwrite(stat.name, whole);
    }
    assert_sound(&repository);
    assert_holds(&repository, &model);
}

#[test]
fn eight_are_merged_and_the_old_ones_may_linger() {
    let (backend, repository) = empty();
    let mut model = commits(&repository, 7, 9);
    let before = backend.files();
    let old = segments(&backend);
    assert_eq!(old.len(), 7);
    let parent = snapshots::list(&repository).expect("listed").snapshots.pop();
    let tree = random_tree(&mut Random(10), 20);
    let last = commit(&repository, &tree, 50, parent.as_ref());
    model.insert(last.id, tree);
    let merged = segments(&backend);
    assert_eq!(merged.len(), 1, "eight of one size became one");
    let merged = read(&repository, *merged.iter().next().expect("one"));
    assert!(old.iter().all(|name| merged.supersedes.contains(name)));
    assert_eq!(merged.packs.len(), backend.list(Folder::Packs).expect("listed").len());
    // As after a crash between the merging and the removals.
    for name in &old {
        let file = FileName::Index(*name);
        backend.overwrite(file, before[&file].clone());
    }
    // And three backups by somebody who writes none, so that there is something left to look for.
    let before = backend.list(Folder::Packs).expect("listed").len();
    for (listed, now) in [60, 61, 62].map(|time| {
        let now = random_tree(&mut Random(time as u64), 5);
        (commit(&unwilling(&repository), &now, time, None), now)
    }) {
        model.insert(listed.id, now);
    }
    let new = (backend.list(Folder::Packs).expect("listed").len() - before) as u64;
    let (far, there) = far(&repository, &backend);
    there.load_index().expect("loaded");
    assert_eq!(
        far.reads(),
        4 + 3 * new,
        "superseded ones are not read, but for those read beside the new one"
    );
    indexes_agree(&there).expect("the index is that of the packs");
    assert_sound(&repository);
    assert_holds(&repository, &model);
    let done = prune(&repository);
    assert_eq!((done.segments.removed, segments(&backend).len()), (7, 2));
    assert_holds(&repository, &model);
}

#[test]
fn what_cannot_be_read_is_not_merged_away() {
    let (backend, repository) = empty();
    let mut model = commits(&repository, 7, 21);
    let names: Vec<Name> = segments(&backend).into_iter().collect();
    // One is damaged, one of a later version: the eighth backup leaves both to those who tell, or know better.
    for (name, at) in [(names[0], 100), (names[1], 8)] {
        let file = FileName::Index(name);
        let mut bytes = backend.read(&file, u64::MAX).expect("read");
        bytes[at] ^= 2;
        backend.overwrite(file, bytes);
    }
    let tree = random_tree(&mut Random(22), 5);
    let last = commit(&repository, &tree, 50, None);
    model.insert(last.id, tree);
    let left = segments(&backend);
    assert_eq!(left.len(), 3, "six became one");
    assert!(left.contains(&names[0]) && left.contains(&names[1]));
    indexes_agree(&repository).expect("the index is that of the packs");
    assert_eq!(check(&repository).damage.len(), 2);
    // A collection says anew what they should say, and leaves them, too.
    let done = prune(&repository);
    assert_eq!(done.segments.filed.segments, 1);
    assert!(segments(&backend).contains(&names[0]) && segments(&backend).contains(&names[1]));
    repair_index::run(&repository, &Progress::new(), &Silent).expect("repaired");
    assert_sound(&repository);
    assert_holds(&repository, &model);
}

#[test]
fn the_folder_may_be_lost() {
    let dir = tempfile::tempdir().expect("a directory");
    let place = dir.path().join("repository");
    let backend = LocalBackend::create(&place, false).expect("folders");
    let mut repository = try_repository(Arc::new(backend), None).expect("a repository");
    repository.set_segments(SegmentPolicy::Always);
    let repository = Arc::new(repository);
    let mut model = commits(&repository, 3, 23);
    std::fs::remove_dir_all(place.join("index")).expect("removed");
    assert_holds(&repository, &model);
    assert_sound(&repository);
    let tree = random_tree(&mut Random(24), 5);
    let last = commit(&repository, &tree, 50, None);
    model.insert(last.id, tree);
    assert_eq!(segments(repository.backend().as_ref()).len(), 1);
    prune(&repository);
    assert_holds(&repository, &model);
    indexes_agree(&repository).expect("the index is that of the packs");
}

#[test]
fn segments_of_packs_that_are_gone_are_of_no_harm_and_go() {
    let (backend, repository) = empty();
    let model = commits(&repository, 6, 11);
    let keep = *model.keys().next().expect("one");
    for id in model.keys().filter(|id| **id != keep) {
        removal::snapshot(&backend, *id).expect("forgotten");
    }
    let model = BTreeMap::from([(keep, model[&keep].clone())]);
    // Somebody collects who writes no segments, and tidies none up: as if killed before.
    let stale: Vec<_> = segments(&backend).into_iter().map(FileName::Index).collect();
    let bytes: Vec<_> = stale.iter().map(|name| backend.read(name, u64::MAX).expect("read")).collect();
    let done = prune(&unwilling(&repository));
    assert!(done.deleted_packs > 0 && done.segments.removed > 0 && done.segments.filed.segments == 0);
    for (name, bytes) in stale.iter().zip(bytes) {
        backend.overwrite(*name, bytes);
    }
    assert_holds(&repository, &model);
    indexes_agree(&repository).expect("the index is that of the packs");
    let report = check(&repository);
    assert!(report.damage.is_empty(), "{:?}", report.damage);
    assert!(report.information.iter().any(|i| i.code == "segment-stale"));
    let done = prune(&repository);
    assert!(done.segments.removed > 0);
    let packs: BTreeSet<_> =
        backend.list(Folder::Packs).expect("listed").iter().map(|stat| stat.name.header_name()).collect();
    let said: BTreeSet<_> =
        segments(&backend).into_iter().flat_map(|n| read(&repository, n).packs).map(|e| e.pack).collect();
    assert!(packs.is_subset(&said), "every pack stands in a segment");
    assert!(!check(&repository).information.iter().any(|i| i.code == "segment-stale"));
    assert_eq!(prune(&repository).segments.removed, 0, "and then nothing is left to do");
    assert_holds(&repository, &model);
}

#[test]
fn a_prune_writes_what_is_missing() {
    let backend = MemoryBackend::new();
    let plain = repository(&backend, None);
    let model = commits(&plain, 5, 12);
    assert!(segments(&backend).is_empty());
    assert_eq!(prune(&plain).segments.filed.segments, 0);
    let (far, there) = far(&plain, &backend);
    let done = prune(&there);
    assert_eq!((done.segments.filed.segments, segments(&backend).len()), (1, 1));
    far.reads();
    there.load_index().expect("loaded");
    assert_eq!(far.reads(), 1);
    indexes_agree(&there).expect("the same index");
    assert_holds(&there, &model);
    // So does a repair of the index.
    removal::segment(&backend, *segments(&backend).iter().next().expect("one")).expect("removed");
    let done = repair_index::run(&there, &Progress::new(), &Silent).expect("repaired");
    assert_eq!((done.segments.filed.segments, segments(&backend).len()), (1, 1));
}

#[test]
fn a_segment_that_vanishes_is_as_good_as_none() {
    let (backend, repository) = empty();
    let model = commits(&repository, 5, 13);
    let (far, there) = far(&repository, &backend);
    // Listed, and gone when it is read: somebody merges.
    *far.ghosts.lock().expect("no panic") = backend.list(Folder::Index).expect("listed");
    for name in segments(&backend) {
        removal::segment(&backend, name).expect("removed");
    }
    indexes_agree(&there).expect("the index is that of the packs");
    assert_sound(&there);
    assert_holds(&there, &model);
    prune(&there);
    repair_index::run(&there, &Progress::new(), &Silent).expect("repaired");
    assert_holds(&there, &model);
}

#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Report for Heard {
    fn problem(&self, problem: &Problem) {
        panic!("{}", problem.message);
    }
    fn warning(&self, problem: &Problem) {
        self.0.lock().expect("no panic").push(problem.message.clone());
    }
}

#[test]
fn a_segment_that_cannot_be_written_costs_a_warning() {
    let backend = MemoryBackend::new();
    let plain = repository(&backend, None);
    let (far, there) = far(&plain, &backend);
    far.full.store(true, Ordering::Relaxed);
    let model = commits(&there, 3, 14);
    assert!(segments(&backend).is_empty());
    assert_holds(&there, &model);
    let heard = Heard::default();
    let mut writer = crate::shelf::session(&there).expect("a session");
    let mut lane = writer.lane(snapkeep::crypto::ChunkSort::Content).expect("a lane");
    let policy = snapkeep::repository::writer::DeltaPolicy::CONTENT;
    lane.put(b"something that nobody has stored before", &[], policy).expect("stored");
    lane.finish().expect("finished");
    let packed = writer.flush().expect("flushed all the same");
    packed.tell(&heard);
    let said = heard.0.lock().expect("no panic").clone();
    assert!(matches!(said.as_slice(), [one] if one.contains("no space left")), "{said:?}");
    // A collection goes on, too, and says so.
    drop(writer);
    let heard = Heard::default();
    prune_with(&there, &PruneOptions::default(), &Progress::new(), &heard).expect("pruned");
    assert_eq!(heard.0.lock().expect("no panic").len(), 1);
}

/// Clients that write segments and such that do not, at one repository, and somebody who damages and loses some.
#[test]
fn any_course_of_things_leaves_the_index_of_the_packs() {
    let seed = seed(15);
    println!("seed {seed}");
    for round in 0..size(3, 200) {
        let mut random = Random(seed + round);
        let (backend, willing) = empty();
        let unwilling = unwilling(&willing);
        let mut now = random_tree(&mut random, 10);
        let (mut model, mut last): (BTreeMap<SnapshotId, Tree>, Option<Listed>) = Default::default();
        for step in 0..60 {
            let who = if random.below(3) == 0 { &unwilling } else { &willing };
            let names: Vec<Name> = segments(&backend).into_iter().collect();
            match random.below(12) {
                0 => drop(prune(who)),
                1 => drop(repair_index::run(who, &Progress::new(), &Silent).expect("repaired")),
                2 if !names.is_empty() => {
                    removal::segment(&backend, names[random.below(names.len())]).expect("removed");
                }
                3 if !names.is_empty() => {
                    let file = FileName::Index(names[random.below(names.len())]);
                    let mut bytes = backend.read(&file, u64::MAX).expect("read");
                    let at = random.below(bytes.len());
                    bytes[at] ^= 1 << random.below(8);
                    backend.overwrite(file, bytes);
                }
                4 if model.len() > 1 => {
                    let id = *model.keys().nth(random.below(model.len())).expect("one");
                    removal::snapshot(&backend, id).expect("forgotten");
                    model.remove(&id);
                    last = last.filter(|l| l.id != id);
                }
                _ => {
                    edit(&mut random, &mut now, 3, 100 + step);
                    let id = try_commit(who, &now, step, last.as_ref(), &|_| {}).expect("committed");
                    last = Some(snapshots::read(who, id).expect("the snapshot"));
                    model.insert(id, now.clone());
                }
            }
            indexes_agree(who).unwrap_or_else(|e| panic!("seed {seed}, round {round}, step {step}: {e}"));
        }
        assert_holds(&willing, &model);
        let count = segments(&backend).len();
        prune(&willing);
        repair_index::run(&willing, &Progress::new(), &Silent).expect("repaired");
        assert_sound(&willing);
        assert_holds(&willing, &model);
        println!("round {round}: {count} segments, {} when tidied up", segments(&backend).len());
    }
}

#[test]
fn two_who_merge_at_once_do_no_harm() {
    let (backend, repository) = empty();
    let model = commits(&unwilling(&repository), 4, 16);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let repository = Arc::clone(&repository);
            scope.spawn(move || {
                for _ in 0..size(5, 50) {
                    prune(&repository);
                    repair_index::run(&repository, &Progress::new(), &Silent).expect("repaired");
                }
            });
        }
        for _ in 0..size(20, 200) {
            indexes_agree(&repository).expect("the index is that of the packs");
        }
    });
    prune(&repository);
    assert_sound(&repository);
    assert_holds(&repository, &model);
    assert!(segments(&backend).len() < 8);
    // What a segment holds after all that is still each pack once.
    for name in segments(&backend) {
        let file = FileName::Index(name);
        let bytes = backend.read(&file, u64::MAX).expect("read");
        let plain = repository.keyring().unseal(FrameKind::Segment, &bytes[HEADER_LEN..]).expect("opens");
        assert_eq!(Segment::decode(&plain).expect("a segment").encode(), plain);
    }
}

#[test]
fn only_network_file_systems_are_far_away() {
    use snapkeep::os::storage::is_slow;
    assert!(!is_slow(std::path::Path::new("/proc")));
    assert!(!is_slow(std::path::Path::new("/nowhere/at/all")));
}

#[test]
fn segments_as_their_users_meet_them() {
    let home = Home::with_snapshot();
    let names = || -> Vec<_> {
        let listed = std::fs::read_dir(home.path("repo/index")).expect("a folder");
        listed.map(|entry| entry.expect("a file").path()).collect()
    };
    let said = |args: &[&str]| -> Value {
        serde_json::from_str(home.good(args).lines().last().expect("a line")).expect("JSON")
    };
    home.good(&["prune", "--segments", "never"]);
    assert!(names().is_empty());
    // One for the packs there are, and then there is nothing left to write.
    let done = said(&["prune", "--segments", "always", "--json"]);
    assert_eq!((&done["segments_written"], &done["segments_removed"]), (&1.into(), &0.into()));
    let [segment] = names().try_into().expect("one");
    assert_eq!(said(&["prune", "--segments=always", "--json"])["segments_written"], 0);
    assert_eq!(said(&["stats", "--json"])["segment_bytes"], segment.metadata().expect("there").len());
    assert!(home.good(&["stats"]).contains("index segments:"));
    assert_eq!(said(&["check", "--json"])["segments"], 1);
    home.good(&["ls", "latest", "--no-cache"]);
    // Damage is found, named with what to do, and that does it.
    let mut bytes = std::fs::read(&segment).expect("read");
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    std::fs::remove_file(&segment).expect("removed");
    std::fs::write(&segment, &bytes).expect("written");
    home.good(&["ls", "latest", "--no-cache"]);
    let output = home.run(&["check"]);
    assert_eq!(output.status.code(), Some(20));
    let told = text(&output.stdout) + &text(&output.stderr);
    assert!(told.contains("segment-damaged") && told.contains("next: snapkeep repair index"), "{told}");
    assert_eq!(home.run(&["repair", "index", "--dry-run"]).status.code(), Some(0));
    assert!(segment.exists(), "a dry run removes nothing");
    assert!(home.good(&["repair", "index"]).contains("removed 1 index segment"));
    assert!(names().is_empty());
    assert!(home.good(&["check"]).contains("no damage"));
    let output = home.run(&["repair", "index", "--segments", "sometimes"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    let output = home.command(&["repair", "index"]).env("SNAPKEEP_SEGMENTS", "always").output().expect("run");
    assert!(text(&output.stdout).contains("wrote 1 index segment"), "{}", text(&output.stderr));
    assert_eq!(names().len(), 1);
}
