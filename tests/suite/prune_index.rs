//! What collections remember of the packs' footers: it spares reading them, and never stands in for a pack that nobody
//! could read.

use crate::prune_rescue::{Counting, Reads};
use crate::shelf::{Random, Tree, commit, dir, file, random_tree, repository, session, tree};
use snapkeep::backend::Backend;
use snapkeep::backend::memory::MemoryBackend;
use snapkeep::crypto::ChunkSort;
use snapkeep::format::pack::TRAILER_LEN;
use snapkeep::format::{FileName, Folder};
use snapkeep::gc::{MaxUnused, PruneOptions, PruneReport, run};
use snapkeep::id::PackId;
use snapkeep::progress::{Progress, Silent};
use snapkeep::repository::writer::DeltaPolicy;
use snapkeep::repository::{Repository, removal};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// A repository in memory that is counted, with a cache on disk.
struct Place {
    backend: MemoryBackend,
    repository: Arc<Repository>,
    reads: Reads,
    cache: TempDir,
}

fn place() -> Place {
    let backend = MemoryBackend::new();
    let reads = Reads::default();
    let counting = Counting { behind: backend.clone(), reads: Arc::clone(&reads) };
    let mut repository = repository(&backend, Some("kept")).with_backend(Arc::new(counting));
    let cache = tempfile::tempdir().expect("a directory");
    repository.set_cache(Some(cache.path()));
    Place { backend, repository: Arc::new(repository), reads, cache }
}

impl Place {
    fn packs(&self) -> BTreeMap<PackId, u64> {
        let listed = self.backend.list(Folder::Packs).expect("listed");
        listed.iter().map(|stat| (stat.name.header_name(), stat.size)).collect()
    }

    fn prune(&self) -> PruneReport {
        self.prune_to(MaxUnused::Bytes(0))
    }

    fn prune_to(&self, max_unused: MaxUnused) -> PruneReport {
        let options = PruneOptions { max_unused, wait: Duration::ZERO, ..PruneOptions::default() };
        run(&self.repository, &options, &Progress::new(), &Silent).expect("pruned")
    }

    /// Packs whose footers are read meanwhile.
    fn footers_read(&self, act: impl FnOnce()) -> BTreeSet<PackId> {
        self.reads.lock().expect("no panic").clear();
        let packs = self.packs();
        act();
        let reads = self.reads.lock().expect("no panic");
        let read = |(pack, size): (&PackId, &u64)| {
            reads.contains_key(&(*pack, size - TRAILER_LEN as u64)).then_some(*pack)
        };
        packs.iter().filter_map(read).collect()
    }

    /// The files in which it is remembered what footers said.
    fn files(&self, extension: &str) -> Vec<PathBuf> {
        let dir = self.repository.collected_dir().expect("a cache").join("index");
        let entries = std::fs::read_dir(dir).expect("there").map(|entry| entry.expect("an entry").path());
        entries.filter(|path| path.extension().is_some_and(|e| e == extension)).collect()
    }

    fn forget_notes(&self) {
        let _ = std::fs::remove_file(self.repository.collected_dir().expect("a cache").join("settled"));
    }
}

#[test]
fn a_later_prune_reads_the_footers_of_new_packs_only() {
    let place = place();
    let trees: Vec<Tree> = (0..4).map(|n| random_tree(&mut Random(40 + n), 60)).collect();
    let kept: Vec<_> =
        trees.iter().zip(1..).map(|(tree, time)| commit(&place.repository, tree, time, None)).collect();
    let before = place.packs();
    let read = place.footers_read(|| drop(place.prune()));
    assert_eq!(read.len(), before.len(), "the first reads them all");
    assert!(!place.files("seal").is_empty());
    // One goes, one comes. Nothing stands in for what goes, so of the old only that is read again.
    removal::snapshot(&place.backend, kept[3].id).expect("forgotten");
    let fresh = random_tree(&mut Random(50), 60);
    let new = commit(&place.repository, &fresh, 9, None);
    let read = place.footers_read(|| drop(place.prune()));
    let after = place.packs();
    let old: Vec<&PackId> = read.iter().filter(|pack| before.contains_key(pack)).collect();
    assert!(!old.is_empty() && old.iter().all(|pack| !after.contains_key(pack)), "only those that went");
    let reader = place.repository.reader_with(place.repository.load_index_uncached().expect("loaded"));
    for (listed, wanted) in kept.iter().zip(&trees).take(3).chain([(&new, &fresh)]) {
        assert!(tree(&reader, &listed.root) == *wanted);
    }
}

/// What happens to a file.
type Change = dyn Fn(&mut Vec<u8>);

#[test]
fn damaged_or_foreign_files_are_as_if_they_were_not_there() {
    let place = place();
    let wanted = random_tree(&mut Random(61), 60);
    let kept = commit(&place.repository, &wanted, 1, None);
    place.prune();
    let all = place.packs().len();
    let spoil: [(&str, &Change); 4] = [
        ("redb", &|bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }),
        ("redb", &|bytes| bytes.truncate(bytes.len() / 2)),
        ("seal", &|bytes| bytes[0] ^= 1),
        ("seal", &|bytes| bytes.clear()),
    ];
    for (round, (extension, change)) in spoil.iter().enumerate() {
        for path in place.files(extension) {
            let mut bytes = std::fs::read(&path).expect("read");
            change(&mut bytes);
            std::fs::write(&path, bytes).expect("written");
        }
        place.forget_notes();
        let read = place.footers_read(|| assert_eq!(place.prune().deleted_packs, 0));
        assert_eq!(read.len(), all, "round {round}: all are read again");
        place.forget_notes();
        let read = place.footers_read(|| drop(place.prune()));
        assert!(read.is_empty(), "round {round}: and remembered again");
    }
    // Another repository's cache in the place of ours.
    let other = self::place();
    commit(&other.repository, &wanted, 1, None);
    other.prune();
    let home = place.repository.collected_dir().expect("a cache").join("index");
    std::fs::remove_dir_all(&home).expect("removed");
    std::fs::rename(other.repository.collected_dir().expect("a cache").join("index"), &home).expect("moved");
    place.forget_notes();
    assert_eq!(place.footers_read(|| drop(place.prune())).len(), all);
    let reader = place.repository.reader().expect("a reader");
    assert!(tree(&reader, &kept.root) == wanted);
    drop((place.cache, other.cache));
}

/// Two writers side by side store the same; one copy goes, and the pack that holds the other cannot be read any more,
/// which nobody has noticed.
#[test]
fn a_remembered_pack_that_cannot_be_read_stands_in_for_nothing() {
    for (broken, seed) in (0..8).map(|n| (n % 2 == 1, 80 + n)) {
        let place = place();
        let bytes = Random(seed).bytes(2500);
        let wanted =
            Tree::from([("home".to_owned(), dir(1)), ("home/both".to_owned(), file(bytes.clone(), 1))]);
        // The second copy, with something that nobody will need in the same pack.
        let mut beside = session(&place.repository).expect("a session");
        let listed = commit(&place.repository, &wanted, 1, None);
        let first: BTreeSet<PackId> = place.packs().into_keys().collect();
        let mut lane = beside.lane(ChunkSort::Content).expect("a lane");
        lane.put(&bytes, &[], DeltaPolicy::CONTENT).expect("stored");
        lane.put(&Random(72).bytes(2500), &[], DeltaPolicy::CONTENT).expect("stored");
        lane.finish().expect("finished");
        beside.flush().expect("flushed");
        // While it is open nothing of it goes, and everything is remembered.
        place.prune_to(MaxUnused::Unlimited);
        let second: Vec<PackId> = place.packs().into_keys().filter(|id| !first.contains(id)).collect();
        assert_eq!(second.len(), 1);
        drop(beside);
        // Of two copies as good as one another the first is marked; its pack is the one to be damaged.
        let index = place.repository.load_index_uncached().expect("loaded");
        let copies = index.copies(&index_chunk(&place.repository, &bytes)).expect("copies");
        assert_eq!(copies.len(), 2);
        if broken {
            let name = FileName::Pack(copies[0].pack.id);
            let mut spoiled = place.backend.files().remove(&name).expect("there");
            let end = spoiled.len() - TRAILER_LEN - 20;
            spoiled[end] ^= 1;
            place.backend.overwrite(name, spoiled);
        }
        place.forget_notes();
        let _ = run(
            &place.repository,
            &PruneOptions {
                max_unused: MaxUnused::Bytes(0),
                wait: Duration::ZERO,
                ..PruneOptions::default()
            },
            &Progress::new(),
            &Silent,
        );
        let reader = place.repository.reader_with(place.repository.load_index_uncached().expect("loaded"));
        assert!(tree(&reader, &listed.root) == wanted, "broken: {broken}");
    }
}

fn index_chunk(repository: &Repository, bytes: &[u8]) -> snapkeep::id::ChunkId {
    repository.keyring().chunk_id(ChunkSort::Content, bytes)
}
