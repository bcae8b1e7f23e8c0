//! `repair`: what can be saved is saved, nothing is deleted, a second run changes nothing.

use super::check_stand::{
    NOW, check, commit, everything, generations, kinds, noise, over, pack_by_hand, raw,
};
use snapkeep::backend::memory::MemoryBackend;
use snapkeep::check::damage::DamageKind;
use snapkeep::format::{FileName, Folder, HEADER_LEN};
use snapkeep::progress::{Progress, Silent};
use snapkeep::repair::packs::{self, PacksOptions, PacksReport};
use snapkeep::repair::salvage::Way;
use snapkeep::repository::keys::SlotOwner;
use snapkeep::repository::{NewRepository, Repository, create_with_parity};
use std::collections::BTreeMap;
use std::sync::Arc;

type Files = BTreeMap<FileName, Vec<u8>>;

pub fn with_parity(percent: u32) -> (MemoryBackend, Arc<Repository>) {
    let backend = MemoryBackend::new();
    let owner = SlotOwner { host: "h".into(), user: "u".into(), label: String::new() };
    let new = NewRepository { password: None, owner, group_readable: false, like: None, now: NOW };
    let repository = create_with_parity(Arc::new(backend.clone()), &new, percent).expect("a repository");
    (backend, Arc::new(repository))
}

pub fn mend(repository: &Arc<Repository>, apply: bool) -> PacksReport {
    let options = PacksOptions { apply, now: NOW, ..PacksOptions::default() };
    packs::run(repository, &options, &Progress::new(), &Silent).expect("repaired")
}

fn content_packs(files: &Files) -> Vec<FileName> {
    let is_data =
        |(name, bytes): &(&FileName, &Vec<u8>)| name.folder() == Folder::Packs && bytes[HEADER_LEN] == 1;
    files.iter().filter(is_data).map(|(name, _)| *name).collect()
}

#[test]
fn a_healthy_repository_is_left_as_it_is() {
    for percent in [0, 3] {
        let (backend, repository) = with_parity(percent);
        generations(&repository, 3);
        let before = backend.files();
        for apply in [false, true] {
            let report = mend(&repository, apply);
            assert!(report.repairs.is_empty() && report.unchecked.is_empty());
            assert_eq!((report.checked, report.missing, report.condemned), (6, 0, None));
            assert!(backend.files() == before, "apply {apply}");
        }
    }
}

#[test]
fn a_flipped_byte_is_mended_from_parity_and_the_pack_condemned() {
    let (backend, repository) = with_parity(3);
    generations(&repository, 3);
    let before = backend.files();
    let pack = content_packs(&before)[0];
    let mut bytes = before[&pack].clone();
    bytes[HEADER_LEN + 200] ^= 4;
    backend.overwrite(pack, bytes);
    let found = check(&repository, &everything());
    assert_eq!(kinds(&found), [DamageKind::PackDamaged]);
    assert!(found.damage[0].mendable, "{}", found.damage[0]);
    // The plan says it and touches nothing.
    let hurt = backend.files();
    let plan = mend(&repository, false);
    assert_eq!(plan.repairs.len(), 1);
    assert_eq!((plan.repairs[0].way, plan.repairs[0].lost), (Way::Parity { shards: 1 }, 0));
    assert!(backend.files() == hurt);
    let done = mend(&repository, true);
    assert_eq!((done.repairs.len(), done.lost(), done.condemned), (1, 0, Some(1)));
    let after = backend.files();
    assert!(hurt.iter().all(|(name, bytes)| after.get(name) == Some(bytes)), "nothing deleted or changed");
    let found = check(&repository, &everything());
    assert!(found.damage.is_empty(), "{:?}", found.damage);
    let again = mend(&repository, true);
    assert!(again.repairs.is_empty());
    assert!(backend.files() == after, "a second run changes nothing");
}

#[test]
fn without_parity_intact_frames_are_saved_and_the_next_backup_heals() {
    let (backend, repository) = with_parity(0);
    let (a, b) = (noise(1, 600), noise(2, 600));
    let listed = commit(&repository, &[("a", a.clone()), ("b", b.clone())], None);
    let first = *content_packs(&backend.files()).first().expect("the pack of the backup");
    // Two frames in one pack by hand: one chunk of the snapshot's twice stored, another only here.
    let only = noise(3, 500);
    let pack = pack_by_hand(&repository, vec![raw(&repository, &only), raw(&repository, &a)]);
    let mut bytes = backend.files()[&pack].clone();
    let len = bytes.len();
    bytes.truncate(len - 20);
    backend.overwrite(pack, bytes);
    let done = mend(&repository, true);
    assert_eq!(done.repairs.len(), 1, "{done:?}");
    assert_eq!((done.repairs[0].way, done.lost()), (Way::Salvage, 0));
    assert!(check(&repository, &everything()).damage.is_empty());
    let id = super::check_stand::content_id(&repository, &only);
    assert!(repository.load_index_uncached().expect("an index").present(&id).expect("known"));
    // Now a frame itself: its chunks are lost, said to be, and come back with the next backup.
    let mut bytes = backend.files()[&first].clone();
    bytes[HEADER_LEN + 300] ^= 1;
    backend.overwrite(first, bytes);
    let done = mend(&repository, true);
    assert!(done.lost() > 0, "{done:?}");
    let found = check(&repository, &everything());
    assert_eq!(kinds(&found), [DamageKind::ChunkMissing], "{:?}", found.damage);
    assert!(found.damage[0].next.starts_with("snapkeep backup"));
    let again = backend.files();
    assert!(mend(&repository, true).repairs.is_empty());
    assert!(backend.files() == again);
    commit(&repository, &[("a", a), ("b", b)], Some(&listed));
    assert!(check(&repository, &everything()).damage.is_empty());
}

#[test]
fn a_pack_that_is_gone_comes_back_where_there_is_as_much_parity() {
    let (backend, repository) = with_parity(100);
    generations(&repository, 2);
    let files = backend.files();
    for pack in files.keys().filter(|name| name.folder() == Folder::Packs) {
        let mut left = files.clone();
        left.remove(pack);
        let (backend, repository) = over(&repository, &left);
        let repository = Arc::new(repository);
        let done = mend(&repository, true);
        assert_eq!(done.repairs.len(), 1, "{pack}");
        assert!(done.repairs[0].gone && done.condemned.is_none());
        let found = check(&repository, &everything());
        assert!(found.damage.is_empty(), "{pack}: {:?}", found.damage);
        let after = backend.files();
        assert!(mend(&repository, true).repairs.is_empty());
        assert!(backend.files() == after);
        assert!(repository.backend().read(pack, 1 << 20).is_err(), "names are never used again");
    }
}

pub fn options() -> PacksOptions {
    PacksOptions { apply: true, now: NOW, ..PacksOptions::default() }
}
