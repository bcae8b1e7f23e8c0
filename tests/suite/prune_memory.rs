//! What a collection remembers in the local cache: it spares work, and changes nothing about what goes and what stays.

use crate::counters::{is_night, seed, size};
use crate::shelf::{CUT, Random, Tree, commit, dir, edit, file, random_tree, repository, tree};
use snapkeep::backend::Backend;
use snapkeep::backend::memory::MemoryBackend;
use snapkeep::check::{self, CheckOptions};
use snapkeep::clock::Timestamp;
use snapkeep::error::Result;
use snapkeep::format::{FileName, Folder};
use snapkeep::gc::{MaxUnused, PruneOptions, PruneReport, run};
use snapkeep::id::{PackId, SnapshotId};
use snapkeep::manifest::walk::Groups;
use snapkeep::progress::{Progress, Silent};
use snapkeep::repository::notes::Notes;
use snapkeep::repository::snapshots::Listed;
use snapkeep::repository::{Repository, condemned, distrust, removal, trash};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// A repository in memory with a cache on disk.
struct Place {
    backend: MemoryBackend,
    repository: Arc<Repository>,
    cache: TempDir,
}

impl Place {
    fn new(password: Option<&str>) -> Self {
        let backend = MemoryBackend::new();
        let mut repository = repository(&backend, password);
        let cache = tempfile::tempdir().expect("a directory");
        Arc::get_mut(&mut repository).expect("ours alone").set_cache(Some(cache.path()));
        Place { backend, repository, cache }
    }

    /// A file of what is remembered.
    fn file(&self, name: &str) -> PathBuf {
        self.repository.collected_dir().expect("a cache").join(name)
    }

    fn try_prune(&self, options: &PruneOptions) -> Result<PruneReport> {
        run(&self.repository, options, &Progress::new(), &Silent)
    }

    fn prune(&self) -> PruneReport {
        self.try_prune(&options()).expect("pruned")
    }

    /// Until there is nothing to do, which the last one remembers.
    fn settle(&self, options: &PruneOptions) -> PruneReport {
        for _ in 0..5 {
            let done = self.try_prune(options).expect("pruned");
            if done.plan.is_empty() && done.deleted_packs == 0 {
                assert!(self.file("settled").exists());
                return done;
            }
        }
        panic!("there is always something to do");
    }

    fn packs(&self) -> Vec<PackId> {
        self.backend.list(Folder::Packs).expect("listed").iter().map(|stat| stat.name.header_name()).collect()
    }

    /// Packs of the same names and sizes that nobody can read: whoever looks at them fails.
    fn break_packs(&self) -> BTreeMap<FileName, Vec<u8>> {
        let whole = self.backend.files();
        for (name, bytes) in whole.iter().filter(|(name, _)| matches!(name, FileName::Pack(_))) {
            self.backend.overwrite(*name, vec![0; bytes.len()]);
        }
        whole
    }

    fn mend(&self, whole: &BTreeMap<FileName, Vec<u8>>) {
        for (name, bytes) in whole.iter().filter(|(name, _)| matches!(name, FileName::Pack(_))) {
            self.backend.overwrite(*name, bytes.clone());
        }
    }

    /// Whether a prune looks at the packs themselves.
    fn looks(&self, options: &PruneOptions) -> bool {
        let whole = self.break_packs();
        let done = self.try_prune(options);
        self.mend(&whole);
        done.is_err()
    }

    fn assert_holds(&self, model: &BTreeMap<SnapshotId, Tree>, snapshots: &[Listed]) {
        let reader = self.repository.reader_with(self.repository.load_index_uncached().expect("loaded"));
        for listed in snapshots {
            assert!(tree(&reader, &listed.root) == model[&listed.id], "snapshot {} changed", listed.id);
        }
    }
}

fn options() -> PruneOptions {
    PruneOptions { max_unused: MaxUnused::Bytes(0), wait: Duration::ZERO, ..PruneOptions::default() }
}

/// Two snapshots of small trees.
fn two() -> (Place, Listed, Listed) {
    let place = Place::new(Some("remembered"));
    let a = commit(&place.repository, &random_tree(&mut Random(1), 40), 1, None);
    let b = commit(&place.repository, &random_tree(&mut Random(2), 40), 2, None);
    (place, a, b)
}

#[test]
fn nothing_changed_means_nothing_to_do() {
    let (place, ..) = two();
    let first = place.settle(&options());
    assert!(!place.looks(&options()), "the same is listed");
    assert!(!place.looks(&PruneOptions { dry_run: true, ..options() }), "nor does a dry run");
    let whole = place.break_packs();
    let again = place.prune();
    place.mend(&whole);
    assert_eq!(format!("{:?}", again.plan), format!("{:?}", first.plan), "it says what the look said");
    assert!(place.backend.files() == whole);
}

#[test]
fn a_dry_run_remembers_too() {
    let (place, ..) = two();
    let dry = PruneOptions { dry_run: true, ..options() };
    assert!(place.try_prune(&dry).expect("planned").plan.is_empty());
    assert!(!place.looks(&options()));
}

#[test]
fn whatever_changes_is_looked_at() {
    let (place, a, _) = two();
    place.settle(&options());
    // One snapshot more, though not one pack more: all it needs is there.
    let mut snapshots = place.backend.list(Folder::Snapshots).expect("listed").len();
    let packs = place.packs();
    commit(&place.repository, &random_tree(&mut Random(1), 40), 3, Some(&a));
    assert_eq!(place.backend.list(Folder::Snapshots).expect("listed").len(), snapshots + 1);
    assert!(place.looks(&options()), "a new snapshot");
    place.settle(&options());
    // One less.
    removal::snapshot(&place.backend, a.id).expect("forgotten");
    assert!(place.looks(&options()), "a snapshot that is gone");
    place.settle(&options());
    snapshots = place.backend.list(Folder::Snapshots).expect("listed").len();
    assert_eq!(snapshots, 2);
    // A pack that a check found damaged.
    let index = place.repository.cache_dir().expect("a cache");
    distrust::note(&index, &place.packs()[..1], &[]).expect("noted");
    assert!(place.looks(&options()), "a pack not to be trusted");
    distrust::note(&index, &[], &packs).expect("noted");
    // A condemned list, as a repair publishes it.
    place.settle(&options());
    let seen = condemned::lists(&place.backend, place.repository.keyring()).expect("read");
    let highest = seen.last().map_or(0, |(number, _)| *number);
    let garbage = snapkeep::repository::random::name().expect("random");
    condemned::publish(&place.backend, place.repository.keyring(), highest, &[garbage]).expect("published");
    assert!(place.looks(&options()), "another condemned list");
    // A pack of the same name and another size.
    place.settle(&options());
    let whole = place.backend.files();
    let pack = FileName::Pack(place.packs()[0]);
    place.backend.overwrite(pack, [&whole[&pack][..], &[0]].concat());
    assert!(place.try_prune(&options()).is_err(), "a pack that grew");
    place.mend(&whole);
}

#[test]
fn a_record_lost_since_then_is_noticed() {
    let place = Place::new(None);
    let now = random_tree(&mut Random(3), 40);
    let a = commit(&place.repository, &now, 1, None);
    place.settle(&options());
    let before = place.packs();
    let b = commit(&place.repository, &now, 2, Some(&a));
    assert_eq!(place.packs(), before, "all it needs is there");
    // Now the same is listed as before, but for the second copy.
    place.backend.remove(&FileName::Snapshot(b.id)).expect("lost");
    assert!(place.try_prune(&options()).is_err());
}

#[test]
fn other_limits_are_another_question() {
    let place = Place::new(None);
    let mut random = Random(7);
    let mut now = Tree::from([("home".to_owned(), dir(1))]);
    for n in 0..40 {
        now.insert(format!("home/f{n:02}"), file(random.bytes(2000), n));
    }
    let first = commit(&place.repository, &now, 1, None);
    (0..20).for_each(|n| drop(now.remove(&format!("home/f{n:02}"))));
    now.get_mut("home/f30").expect("there").bytes[7] ^= 1;
    let second = commit(&place.repository, &now, 2, Some(&first));
    removal::snapshot(&place.backend, first.id).expect("forgotten");
    let unlimited = PruneOptions { max_unused: MaxUnused::Unlimited, ..options() };
    place.settle(&unlimited);
    assert!(!place.looks(&unlimited));
    for other in [
        PruneOptions { max_repack: Some(5), ..unlimited.clone() },
        PruneOptions { drop_bases: true, ..unlimited.clone() },
        PruneOptions { max_unused: MaxUnused::Percent(90.0), ..unlimited.clone() },
    ] {
        assert!(place.looks(&other), "{other:?}");
    }
    assert!(!place.prune().plan.repack.is_empty(), "half of a pack is unused");
    place.settle(&options());
    // A dry run does not store anything anew, so it cannot know that there is nothing to store anew.
    let bases = PruneOptions { drop_bases: true, ..options() };
    assert!(
        place.try_prune(&PruneOptions { dry_run: true, ..bases.clone() }).expect("planned").plan.is_empty()
    );
    assert!(place.try_prune(&bases).expect("pruned").rebased > 0);
    place.settle(&bases);
    assert!(!place.looks(&bases));
    place.assert_holds(&BTreeMap::from([(second.id, now)]), &[second]);
}

#[test]
fn a_tombstone_comes_of_age_though_nothing_else_changes() {
    let (place, a, _) = two();
    let forgotten = Timestamp { secs: 2_000_000_000, nanos: 0 };
    let notes = Notes::load(&place.repository).expect("notes");
    trash::bury(&place.repository, &notes, a.id, "host", forgotten).expect("in the trash");
    let at = |days: i64, dry_run| PruneOptions {
        now: Timestamp { secs: forgotten.secs + days * 86_400, nanos: 0 },
        dry_run,
        ..options()
    };
    place.settle(&at(1, false));
    assert!(!place.looks(&at(29, false)));
    assert_eq!(place.try_prune(&at(29, true)).expect("planned").expired, 0);
    assert_eq!(place.try_prune(&at(31, true)).expect("planned").expired, 1);
    let done = place.try_prune(&at(31, false)).expect("pruned");
    assert!(done.expired == 1 && done.deleted_packs > 0, "{done:?}");
}

#[test]
fn packs_of_a_session_that_ends_are_not_forgotten() {
    use snapkeep::crypto::ChunkSort;
    use snapkeep::repository::writer::DeltaPolicy;
    let (place, ..) = two();
    let mut writer = crate::shelf::session(&place.repository).expect("a session");
    let mut lane = writer.lane(ChunkSort::Content).expect("a lane");
    lane.put(&[7; 5000], &[], DeltaPolicy::CONTENT).expect("stored");
    lane.finish().expect("finished");
    writer.flush().expect("flushed");
    let done = place.prune();
    assert!(done.plan.is_empty() && done.plan.packs_of_sessions == 1);
    drop(writer);
    // Its file is gone, which nothing that is listed for a plan shows.
    assert_eq!(place.prune().deleted_packs, 1);
}

/// Every file of the cache with any byte flipped, and cut anywhere.
fn spoiled(bytes: &[u8], step: usize) -> impl Iterator<Item = Vec<u8>> + '_ {
    let flips = (0..bytes.len()).step_by(step).map(|at| {
        let mut bad = bytes.to_vec();
        bad[at] ^= 1 << (at % 8);
        bad
    });
    flips.chain((0..bytes.len()).step_by(step).map(|len| bytes[..len].to_vec()))
}

#[test]
fn a_repair_of_the_index_forgets_it_all() {
    let (place, ..) = two();
    place.settle(&options());
    assert!(place.file("settled").exists() && place.file("groups").exists());
    snapkeep::repair::index::run(&place.repository, &Progress::new(), &Silent).expect("rebuilt");
    assert!(!place.file("settled").exists() && !place.file("groups").exists());
}

#[test]
fn a_damaged_note_says_nothing() {
    let (place, ..) = two();
    place.settle(&options());
    let path = place.file("settled");
    let whole = std::fs::read(&path).expect("read");
    for bad in spoiled(&whole, 1) {
        std::fs::write(&path, &bad).expect("written");
        assert!(place.looks(&options()));
    }
    std::fs::write(&path, &whole).expect("written");
    assert!(!place.looks(&options()));
}

/// A plan made with this cache (or none), everything looked at.
fn planned(place: &Place, cache: Option<&Path>) -> String {
    let _ = std::fs::remove_file(place.file("settled"));
    let mut repository = place.repository.with_backend(Arc::new(place.backend.clone()));
    repository.set_cache(cache);
    let dry = PruneOptions { dry_run: true, ..options() };
    let done = run(&Arc::new(repository), &dry, &Progress::new(), &Silent).expect("planned");
    format!("{:?}", done.plan)
}

/// With and without what the cache remembers, the plan is the same.
fn assert_agrees(place: &Place) {
    let truth = planned(place, None);
    for _ in 0..2 {
        assert_eq!(planned(place, Some(place.cache.path())), truth);
    }
}

#[test]
fn with_marks_and_without_the_same_goes_and_stays() {
    let seed = seed(8100);
    for seed in seed..seed + size(4, 400) {
        println!("seed {seed}");
        let mut random = Random(seed);
        let place = Place::new((seed % 2 == 0).then_some("marked"));
        let mut now = random_tree(&mut random, 300);
        let mut model: BTreeMap<SnapshotId, Tree> = BTreeMap::new();
        let mut all: Vec<Listed> = Vec::new();
        for generation in 0..20 {
            let parent = all.last().filter(|_| random.below(5) > 0);
            let listed = commit(&place.repository, &now, generation, parent);
            model.insert(listed.id, now.clone());
            all.push(listed);
            edit(&mut random, &mut now, 12, 1000 + generation);
            if random.below(3) > 0 {
                continue;
            }
            for listed in all.extract_if(.., |_| random.below(3) == 0) {
                removal::snapshot(&place.backend, listed.id).expect("forgotten");
                model.remove(&listed.id);
            }
            assert_agrees(&place);
            if random.below(2) == 0 {
                place.prune();
                place.assert_holds(&model, &all);
            }
            if random.below(8) == 0 {
                std::fs::remove_file(place.file("groups")).expect("lost");
            }
        }
    }
}

/// Snapshots of small files and of a large one whose pieces stand in lists; the pieces are as long as can be told.
fn with_lists() -> (Place, Vec<Listed>, BTreeMap<SnapshotId, Tree>) {
    let place = Place::new(Some("lists"));
    let mut random = Random(41);
    let mut now = random_tree(&mut random, 60);
    now.insert("home/large".to_owned(), file(random.bytes(1010 * CUT), 1));
    let (mut all, mut model) = (Vec::new(), BTreeMap::new());
    for generation in 0..4i64 {
        let listed = commit(&place.repository, &now, generation, all.last());
        model.insert(listed.id, now.clone());
        all.push(listed);
        let large = now.get_mut("home/large").expect("there");
        large.bytes[generation as usize * 7 * CUT] ^= 1;
        large.mtime = generation + 2;
        edit(&mut random, &mut now, 6, 100 + generation);
    }
    (place, all, model)
}

#[test]
fn what_was_read_once_is_not_read_again() {
    let (place, mut all, mut model) = with_lists();
    // Whatever is read for the first time makes both files anew.
    let files = || ["groups", "lists"].map(|name| std::fs::metadata(place.file(name)).expect("there").ino());
    assert_agrees(&place);
    let before = files();
    assert_agrees(&place);
    assert_eq!(files(), before);
    let gone = all.remove(1);
    removal::snapshot(&place.backend, gone.id).expect("forgotten");
    model.remove(&gone.id);
    assert_agrees(&place);
    let done = place.prune();
    assert!(done.deleted_bytes > 0);
    place.assert_holds(&model, &all);
    assert_agrees(&place);
    let before = files();
    let listed = commit(&place.repository, &random_tree(&mut Random(9), 20), 9, None);
    assert_agrees(&place);
    assert!(files()[0] != before[0], "a group that is new");
    removal::snapshot(&place.backend, listed.id).expect("forgotten");
}

#[test]
fn damaged_marks_are_as_if_they_were_not_there() {
    let (place, all, _) = with_lists();
    removal::snapshot(&place.backend, all[0].id).expect("forgotten");
    let cache = Some(place.cache.path());
    let truth = planned(&place, cache);
    for name in ["groups", "lists"] {
        let path = place.file(name);
        let whole = std::fs::read(&path).expect("remembered");
        let step = if is_night() { 1 } else { whole.len() / 60 };
        for bad in spoiled(&whole, step) {
            std::fs::write(&path, &bad).expect("written");
            assert_eq!(planned(&place, cache), truth, "{name}");
        }
        std::fs::write(&path, &whole).expect("written");
    }
    // Written with another key, in the very place.
    let (other, ..) = with_lists();
    planned(&other, Some(other.cache.path()));
    for name in ["groups", "lists"] {
        std::fs::copy(other.file(name), place.file(name)).expect("copied");
    }
    assert_eq!(planned(&place, cache), truth, "another key's marks");
    // One kind in place of the other.
    std::fs::copy(place.file("groups"), place.file("lists")).expect("copied");
    assert_eq!(planned(&place, cache), truth, "the other kind");
}

#[test]
fn collections_at_the_same_time_share_one_cache() {
    let (place, ..) = with_lists();
    let truth = planned(&place, None);
    for _ in 0..3 {
        std::fs::remove_file(place.file("groups")).ok();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| assert_eq!(planned(&place, Some(place.cache.path())), truth));
            }
        });
        assert_eq!(planned(&place, Some(place.cache.path())), truth);
    }
    let index = place.repository.cache_dir().expect("a cache");
    let left = std::fs::read_dir(index).expect("listed").flatten();
    assert_eq!(left.filter(|e| e.path().extension().is_some_and(|e| e == "building")).count(), 0);
}

/// What a collection remembers of a group was true when it was read, and a group cannot change under its name: damage to
/// its bytes is for `check` to tell. Until then it changes nothing about what is needed.
#[test]
fn damage_in_a_remembered_group_costs_nothing_that_is_needed_and_is_told_by_check() {
    for full in [false, true] {
        let place = Place::new(None);
        // Several groups; the snapshot that is damaged shares its first with one that is gone, and with it a frame.
        let mut large = Tree::from([("home".to_owned(), dir(1))]);
        large.extend((0..5000).map(|n| (format!("home/{n:05}"), file(format!("{n}"), 1))));
        let old = commit(&place.repository, &large, 1, None);
        large.insert("home/99999".to_owned(), file("new", 2));
        let a = commit(&place.repository, &large, 2, None);
        let b = commit(&place.repository, &random_tree(&mut Random(2), 40), 3, None);
        let model = BTreeMap::from([(a.id, large)]);
        removal::snapshot(&place.backend, old.id).expect("forgotten");
        let lazy = PruneOptions { max_unused: MaxUnused::Unlimited, ..options() };
        place.settle(&lazy);
        let reader = place.repository.reader().expect("a reader");
        let group = Groups::load(&reader, &a.root).expect("groups").items[0].id;
        let found = reader.index().find(&group).expect("looked up").expect("there");
        let name = FileName::Pack(found.pack.id);
        let sound = place.backend.files().remove(&name).expect("there");
        let mut damaged = sound.clone();
        damaged[found.place.offset as usize + 80] ^= 1;
        place.backend.overwrite(name, damaged);
        removal::snapshot(&place.backend, b.id).expect("forgotten");
        // The most that a prune may rewrite, and the least.
        let max_unused = if full { MaxUnused::Bytes(0) } else { MaxUnused::Unlimited };
        let done =
            place.try_prune(&PruneOptions { max_unused, ..options() }).expect("pruned by what is remembered");
        assert!(done.deleted_packs > 0, "b's content goes: {done:?}");
        assert!(place.packs().contains(&found.pack.id), "nobody can copy what is damaged, so it stays");
        let report = check::run(&place.repository, &CheckOptions::default(), &Progress::new(), &Silent);
        assert!(!report.expect("checked").damage.is_empty(), "check reads every group");
        // Once the bytes are right again, as by parity, nothing at all is missing.
        place.backend.overwrite(name, sound);
        place.assert_holds(&model, &[a]);
        // Without what it remembers a prune reads the group itself, and refuses.
        let mut damaged = place.backend.files().remove(&name).expect("there");
        damaged[found.place.offset as usize + 80] ^= 1;
        place.backend.overwrite(name, damaged);
        for file in ["groups", "lists", "settled"] {
            let _ = std::fs::remove_file(place.file(file));
        }
        assert!(place.try_prune(&options()).is_err());
    }
}
