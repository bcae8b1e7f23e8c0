//! Collection: what is needed stays, what is not goes, whoever else is at work.

use crate::shelf::{Random, Tree, commit, dir, edit, empty, file, random_tree, repository, tree};
use snapkeep::backend::Backend;
use snapkeep::backend::memory::MemoryBackend;
use snapkeep::check::{self, CheckOptions, subset::Subset};
use snapkeep::compress::Level;
use snapkeep::crypto::ChunkSort;
use snapkeep::error::ErrorKind;
use snapkeep::format::snapshot::{SessionInfo, Snapshot};
use snapkeep::format::{FileName, Folder};
use snapkeep::gc::{MaxUnused, PruneOptions, PruneReport, run};
use snapkeep::id::SnapshotId;
use snapkeep::progress::{Progress, Silent};
use snapkeep::repository::snapshots::{self, Listed};
use snapkeep::repository::writer::{DeltaPolicy, Writer};
use snapkeep::repository::{Repository, condemned, removal};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

fn options() -> PruneOptions {
    PruneOptions { max_unused: MaxUnused::Bytes(0), wait: Duration::ZERO, ..PruneOptions::default() }
}

fn prune(repository: &Arc<Repository>) -> PruneReport {
    run(repository, &options(), &Progress::new(), &Silent).expect("pruned")
}

fn forget(backend: &MemoryBackend, id: SnapshotId) {
    removal::snapshot(backend, id).expect("forgotten");
}

/// No damage, every byte read.
fn assert_sound(repository: &Repository) {
    let options = CheckOptions { read_data: Some(Subset::All), ..CheckOptions::default() };
    let report = check::run(repository, &options, &Progress::new(), &Silent).expect("checked");
    assert!(report.damage.is_empty() && report.unchecked.is_empty(), "{:#?}", report.damage);
}

/// Bytes of all packs.
fn bytes(backend: &MemoryBackend) -> u64 {
    backend.list(Folder::Packs).expect("listed").iter().map(|stat| stat.size).sum()
}

fn assert_holds(repository: &Repository, model: &BTreeMap<SnapshotId, Tree>) {
    let listing = snapshots::list(repository).expect("listed");
    assert_eq!(listing.snapshots.len(), model.len());
    let reader = repository.reader().expect("a reader");
    for listed in &listing.snapshots {
        assert!(tree(&reader, &listed.root) == model[&listed.id], "snapshot {} changed", listed.id);
    }
    assert_sound(repository);
}

/// A backup that has begun and looked, and not committed yet: it stores `fresh` and names `known` besides.
fn begun(repository: &Arc<Repository>) -> Writer {
    Writer::open(repository, Level::FASTEST, &SessionInfo::default()).expect("a session")
}

/// Commits what a session holds as a snapshot whose root is `like`'s.
fn commit_like(writer: Writer, like: &Listed) -> snapkeep::error::Result<SnapshotId> {
    let mut writer = writer;
    let packed = writer.flush().expect("flushed");
    let record = Snapshot { id: writer.session.to_string(), ..like.record.clone() };
    writer.commit(&record, packed)
}

#[test]
fn what_snapshots_need_stays_and_the_rest_goes() {
    for (seed, password) in [(7001, None), (7002, Some("pruned"))] {
        println!("seed {seed}");
        let mut random = Random(seed);
        let backend = MemoryBackend::new();
        let repository = repository(&backend, password);
        let mut now = random_tree(&mut random, 600);
        let mut model: BTreeMap<SnapshotId, Tree> = BTreeMap::new();
        let mut last: Option<Listed> = None;
        for generation in 0..24 {
            let listed = commit(&repository, &now, generation, last.as_ref());
            model.insert(listed.id, now.clone());
            edit(&mut random, &mut now, 30, 1000 + generation);
            last = Some(listed);
            if generation % 5 == 4 {
                let ids: Vec<SnapshotId> = model.keys().copied().collect();
                for id in ids.into_iter().filter(|_| random.below(2) == 0) {
                    forget(&backend, id);
                    model.remove(&id);
                }
                prune(&repository);
                assert_holds(&repository, &model);
                last = last.filter(|l| model.contains_key(&l.id));
            }
        }
        let before = bytes(&backend);
        assert_eq!(prune(&repository).deleted_packs, 0, "a second prune finds nothing");
        assert_eq!(bytes(&backend), before);
        for id in model.keys() {
            forget(&backend, *id);
        }
        prune(&repository);
        assert_eq!(bytes(&backend), 0, "without snapshots nothing is needed");
    }
}

#[test]
fn what_a_changed_chunk_is_stored_against_stays() {
    let (backend, repository) = empty();
    let mut random = Random(31);
    let mut now =
        Tree::from([("home".to_owned(), dir(1)), ("home/db".to_owned(), file(random.bytes(9000), 1))]);
    let mut all: Vec<Listed> = Vec::new();
    for generation in 0..30i64 {
        all.push(commit(&repository, &now, generation, all.last()));
        let thing = now.get_mut("home/db").expect("there");
        thing.bytes[generation as usize * 7] ^= 0x55;
        thing.mtime = generation + 2;
    }
    let keep = all[28].clone();
    let wanted = tree(&repository.reader().expect("a reader"), &keep.root);
    for listed in all.iter().filter(|l| l.id != keep.id) {
        forget(&backend, listed.id);
    }
    let done = prune(&repository);
    assert!(done.deleted_bytes > 0);
    assert_holds(&repository, &BTreeMap::from([(keep.id, wanted)]));
}

#[test]
fn a_backup_under_way_keeps_what_it_relies_on() {
    let (backend, repository) = empty();
    let tree_a = random_tree(&mut Random(5), 80);
    let a = commit(&repository, &tree_a, 1, None);
    // The session looks while everything is still needed; then the only snapshot goes.
    let writer = begun(&repository);
    forget(&backend, a.id);
    let done = prune(&repository);
    assert_eq!((done.deleted_packs, done.waiting_for.len()), (0, 1));
    assert!(done.waiting_packs > 0);
    // It commits, naming nothing but chunks of condemned packs.
    let b = commit_like(writer, &a).expect("committed");
    let done = prune(&repository);
    assert!(done.rescued > 0 && done.deleted_packs > 0, "{done:?}");
    assert_holds(&repository, &BTreeMap::from([(b, tree_a)]));
}

#[test]
fn packs_of_a_running_backup_are_left_alone() {
    let (backend, repository) = empty();
    let mut writer = begun(&repository);
    let mut lane = writer.lane(ChunkSort::Content).expect("a lane");
    let fresh = lane.put(&[7; 5000], &[], DeltaPolicy::CONTENT).expect("stored");
    lane.finish().expect("finished");
    let packed = writer.flush().expect("flushed");
    assert_eq!(packed.packs.len(), 1);
    let done = prune(&repository);
    assert_eq!((done.plan.packs_of_sessions, done.plan.drop.len()), (1, 0));
    assert!(repository.load_index().expect("loaded").present(&fresh).expect("looked up"));
    // Once it has given up, what it stored is ordinary garbage.
    drop(writer);
    assert_eq!(prune(&repository).deleted_packs, 1);
    assert_eq!(bytes(&backend), 0);
}

#[test]
fn an_evicted_backup_commits_nothing() {
    let (backend, repository) = empty();
    let a = commit(&repository, &random_tree(&mut Random(6), 40), 1, None);
    let writer = begun(&repository);
    forget(&backend, a.id);
    let done = prune(&repository);
    assert_eq!(done.waiting_for.len(), 1);
    backend.evict(writer.session).expect("evicted");
    prune(&repository);
    assert_eq!(bytes(&backend), 0);
    let refused = commit_like(writer, &a).expect_err("evicted");
    assert_eq!(refused.kind(), ErrorKind::Locked);
    assert!(backend.list(Folder::Snapshots).expect("listed").is_empty());
}

#[test]
fn a_writer_does_not_rely_on_condemned_packs() {
    let (backend, repository) = empty();
    let tree_a = random_tree(&mut Random(8), 60);
    let a = commit(&repository, &tree_a, 1, None);
    let holding = begun(&repository);
    forget(&backend, a.id);
    assert!(prune(&repository).waiting_packs > 0);
    // The packs are still there, and so are their footers in every cache; a new backup stores everything anew.
    let b = commit(&repository, &tree_a, 2, None);
    drop(holding);
    let done = prune(&repository);
    assert!(done.deleted_packs > 0);
    assert_eq!(done.rescued, 0);
    assert_holds(&repository, &BTreeMap::from([(b.id, tree_a)]));
}

#[test]
fn numbers_of_condemned_lists_never_come_back() {
    let (backend, repository) = empty();
    let mut highest = 0;
    for round in 0..4 {
        let listed = commit(&repository, &random_tree(&mut Random(round), 20), round as i64, None);
        forget(&backend, listed.id);
        prune(&repository);
        let lists = condemned::lists(&backend, repository.keyring()).expect("read");
        assert_eq!(lists.len(), 1, "only the highest stays");
        assert!(lists[0].0 > highest);
        highest = lists[0].0;
    }
}

#[test]
fn a_dry_run_changes_nothing() {
    let (backend, repository) = empty();
    let a = commit(&repository, &random_tree(&mut Random(9), 60), 1, None);
    commit(&repository, &random_tree(&mut Random(10), 60), 2, None);
    forget(&backend, a.id);
    let before = backend.files();
    let dry = PruneOptions { dry_run: true, ..options() };
    let done = run(&repository, &dry, &Progress::new(), &Silent).expect("planned");
    assert!(!done.plan.is_empty());
    assert!(backend.files() == before);
}

#[test]
fn nothing_is_deleted_while_something_is_damaged() {
    let (backend, repository) = empty();
    let a = commit(&repository, &random_tree(&mut Random(11), 60), 1, None);
    let b = commit(&repository, &random_tree(&mut Random(12), 60), 2, None);
    forget(&backend, a.id);
    let whole = backend.files();
    for (name, intact) in &whole {
        if !matches!(name, FileName::Pack(_) | FileName::Snapshot(_)) {
            continue;
        }
        let mut broken = intact.clone();
        let last = broken.len() - 1;
        broken[last] ^= 1;
        backend.overwrite(*name, broken);
        let refused = run(&repository, &options(), &Progress::new(), &Silent);
        if let Err(e) = &refused {
            assert_eq!(e.kind(), ErrorKind::Corrupt);
            assert_eq!(
                backend.list(Folder::Packs).expect("listed").len(),
                whole.keys().filter(|n| n.folder() == Folder::Packs).count()
            );
        }
        // What is lost now is only what was damaged: put back, everything is there.
        for (name, bytes) in &whole {
            if matches!(name, FileName::Pack(_)) || name.folder() == Folder::Snapshots {
                backend.overwrite(*name, bytes.clone());
            }
        }
        for stat in backend.list(Folder::Condemned).expect("listed") {
            backend.remove(&stat.name).expect("removed");
        }
        let reader = repository.reader_with(repository.load_index_uncached().expect("loaded"));
        assert_eq!(tree(&reader, &b.root).len(), b_len(&b, &reader));
    }
    let damaged_pack_of_b = whole.keys().filter(|n| n.folder() == Folder::Packs).count();
    assert!(damaged_pack_of_b >= 4);
}

fn b_len(b: &Listed, reader: &snapkeep::repository::reader::Reader) -> usize {
    tree(reader, &b.root).len()
}

#[test]
fn small_packs_are_gathered() {
    let (backend, repository) = empty();
    let mut now = Tree::from([("home".to_owned(), dir(1))]);
    let mut model = BTreeMap::new();
    let mut last = None;
    for generation in 0..60i64 {
        now.insert(format!("home/f{generation}"), file(vec![generation as u8; 100], generation));
        let listed = commit(&repository, &now, generation, last.as_ref());
        model.insert(listed.id, now.clone());
        last = Some(listed);
    }
    assert_eq!(backend.list(Folder::Packs).expect("listed").len(), 120);
    prune(&repository);
    assert!(backend.list(Folder::Packs).expect("listed").len() <= 2);
    assert_holds(&repository, &model);
    let never = PruneOptions { max_unused: MaxUnused::Unlimited, ..options() };
    let done = run(&repository, &never, &Progress::new(), &Silent).expect("pruned");
    assert!(done.plan.repack.is_empty());
}

#[test]
fn older_versions_can_be_dropped_from_under_a_changed_chunk() {
    let (backend, repository) = empty();
    let mut random = Random(32);
    let mut now =
        Tree::from([("home".to_owned(), dir(1)), ("home/db".to_owned(), file(random.bytes(3000), 1))]);
    let first = commit(&repository, &now, 1, None);
    now.get_mut("home/db").expect("there").bytes[17] ^= 1;
    let second = commit(&repository, &now, 2, Some(&first));
    forget(&backend, first.id);
    prune(&repository);
    let with_bases = repository.load_index_uncached().expect("loaded").len();
    let rebased = PruneOptions { drop_bases: true, ..options() };
    let done = run(&repository, &rebased, &Progress::new(), &Silent).expect("pruned");
    assert!(done.rebased > 0);
    assert!(repository.load_index_uncached().expect("loaded").len() < with_bases);
    assert_holds(&repository, &BTreeMap::from([(second.id, now)]));
}

#[test]
fn a_store_that_suddenly_lists_half_is_not_pruned() {
    let (backend, mut repository) = empty();
    let cache = tempfile::tempdir().expect("a directory");
    Arc::get_mut(&mut repository).expect("ours alone").set_cache(Some(cache.path()));
    let mut last = None;
    let mut all = Vec::new();
    for generation in 0..9i64 {
        let listed = commit(
            &repository,
            &random_tree(&mut Random(50 + generation as u64), 5),
            generation,
            last.as_ref(),
        );
        all.push(listed.id);
        last = Some(listed);
    }
    let whole = backend.files();
    for id in &all[..6] {
        forget(&backend, *id);
    }
    let refused = run(&repository, &options(), &Progress::new(), &Silent).expect_err("refused");
    assert_eq!(refused.kind(), ErrorKind::Refused);
    assert_eq!(backend.files().len(), whole.len() - 12, "nothing else was touched");
    let told = PruneOptions { accept_shrunk: true, ..options() };
    assert!(run(&repository, &told, &Progress::new(), &Silent).expect("pruned").deleted_packs > 0);
}

#[test]
fn a_record_that_is_lost_stops_everything() {
    let (backend, repository) = empty();
    let a = commit(&repository, &random_tree(&mut Random(61), 30), 1, None);
    // Lost, not forgotten: who forgets takes the second copy away first.
    backend.remove(&FileName::Snapshot(a.id)).expect("lost");
    let before = backend.files();
    let refused = run(&repository, &options(), &Progress::new(), &Silent).expect_err("refused");
    assert_eq!(refused.kind(), ErrorKind::Corrupt);
    assert!(refused.message().contains("repair snapshots"), "{refused}");
    assert!(backend.files() == before);
    forget(&backend, a.id);
    prune(&repository);
    assert_eq!(bytes(&backend), 0);
}

#[test]
fn a_full_disk_gets_room_again() {
    use crate::simulation::{create, open};
    use snapkeep::backend::disk::simulated::{Features, SimulatedDisk, Volume};
    use snapkeep::repository::reserve;
    let place = std::path::Path::new("/repository");
    for reserved in [true, false] {
        let disk = SimulatedDisk::new(Volume::default(), Features::ALL);
        let repository = create(&disk, place).expect("a repository");
        if reserved {
            reserve::fill(repository.backend().as_ref(), repository.id());
        }
        let keep = commit(&repository, &random_tree(&mut Random(71), 40), 1, None);
        let goes = commit(&repository, &random_tree(&mut Random(72), 400), 2, None);
        let mixed = commit(&repository, &random_tree(&mut Random(73), 40), 3, Some(&goes));
        let wanted = tree(&repository.reader().expect("a reader"), &keep.root);
        disk.set_blocks_max(Some(disk.blocks()));
        let refused =
            crate::shelf::try_commit(&repository, &random_tree(&mut Random(74), 40), 4, None, &|_| {});
        assert!(refused.expect_err("the disk is full").is_disk_full());
        snapkeep::repository::trash::delete(&repository, &[goes.id, mixed.id]).expect("forgotten");
        // Deleting two records made a little room; take it away again.
        disk.set_blocks_max(Some(disk.blocks()));
        let done = run(&repository, &options(), &Progress::new(), &Silent);
        if !reserved {
            assert!(done.expect_err("no room at all").is_disk_full());
            continue;
        }
        assert!(done.expect("pruned").deleted_packs > 0);
        let repository = open(&disk, place, None).expect("opened");
        assert_holds(&repository, &BTreeMap::from([(keep.id, wanted)]));
    }
}
