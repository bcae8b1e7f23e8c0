//! What an earlier backup saw spares the next one its looking up, and never more than that.

use super::backup::{Random, assert_snapshot_is, back_up, new_repository};
use snapkeep::backend::Backend;
use snapkeep::backend::memory::MemoryBackend;
use snapkeep::format::{FileName, Folder};
use snapkeep::repository::witness::holds;
use snapkeep::repository::{Repository, snapshots};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The files of witnesses below a cache.
fn witnesses(cache: &Path) -> Vec<PathBuf> {
    let found = walkdir::WalkDir::new(cache).into_iter().flatten().map(walkdir::DirEntry::into_path);
    found.filter(|p| p.is_file() && p.parent().is_some_and(|p| p.ends_with("witness"))).collect()
}

/// A repository with two snapshots of an unchanging tree; the second made when no timestamp was fresh any more.
fn two_backups(dir: &Path) -> (MemoryBackend, Arc<Repository>, PathBuf) {
    let tree = dir.join("tree");
    fs::create_dir(&tree).expect("mkdir");
    let mut random = Random(31);
    for i in 0..10 {
        fs::write(tree.join(format!("{i}")), random.text(30_000)).expect("write");
    }
    let backend = MemoryBackend::new();
    let mut repository = new_repository(Arc::new(backend.clone()), Some("x"));
    Arc::get_mut(&mut repository).expect("ours alone").set_cache(Some(&dir.join("cache")));
    back_up(&repository, &tree);
    std::thread::sleep(std::time::Duration::from_millis(300));
    let second = back_up(&repository, &tree);
    assert_eq!(second.summary.files_unmodified, 10, "the second backup reads nothing");
    (backend, repository, tree)
}

fn remove_largest_pack(backend: &MemoryBackend) {
    let packs = backend.list(Folder::Packs).expect("lists");
    let largest = packs.iter().max_by_key(|p| p.size).expect("packs").name;
    backend.remove(&largest).expect("removes");
}

#[test]
fn a_series_has_one_witness_and_a_lost_pack_is_healed_in_spite_of_it() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (backend, repository, tree) = two_backups(dir.path());
    assert_eq!(witnesses(&dir.path().join("cache")).len(), 1);
    remove_largest_pack(&backend);
    let healed = back_up(&repository, &tree);
    assert!(healed.summary.data_blobs >= 10, "stored again: {} chunks", healed.summary.data_blobs);
    let healed = healed.snapshot.expect("committed");
    assert_snapshot_is(&repository, healed, &tree);
}

#[test]
fn a_damaged_witness_is_no_witness() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (backend, repository, _) = two_backups(dir.path());
    let witness = witnesses(&dir.path().join("cache")).pop().expect("a witness");
    let good = fs::read(&witness).expect("read");
    let lost: Vec<_> =
        backend.files().into_iter().filter(|(name, _)| matches!(name, FileName::Pack(_))).collect();
    for (name, _) in &lost {
        backend.remove(name).expect("removes");
    }
    // As if the lost pack had never been named, cut at every place, and with every byte changed.
    let mut damaged: Vec<Vec<u8>> = (0..good.len()).map(|len| good[..len].to_vec()).collect();
    damaged.extend((0..good.len()).map(|at| {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        bytes
    }));
    damaged.push([&good[..24], &good[48..]].concat());
    let cache = repository.cache_dir().expect("a cache");
    let index = repository.load_index().expect("an index");
    let listed = snapshots::list(&repository).expect("lists");
    let newest = listed.snapshots.iter().map(|s| s.id).find(|id| witness.ends_with(id.to_string()));
    let newest = newest.expect("the witness is a snapshot's");
    for bytes in damaged {
        fs::write(&witness, bytes).expect("write");
        assert!(!holds(&cache, repository.keyring(), newest, &index));
    }
    // What it says holds only while the packs are there, and only for its snapshot.
    fs::write(&witness, &good).expect("write");
    assert!(!holds(&cache, repository.keyring(), newest, &index));
    for (name, bytes) in lost {
        backend.overwrite(name, bytes);
    }
    let index = repository.load_index().expect("an index");
    assert!(holds(&cache, repository.keyring(), newest, &index));
    let other = listed.snapshots.iter().map(|s| s.id).find(|id| *id != newest).expect("two snapshots");
    fs::copy(&witness, witness.with_file_name(other.to_string())).expect("copy");
    assert!(!holds(&cache, repository.keyring(), other, &index));
}
