//! `repair`: what can be saved is saved, nothing is deleted, a second run changes nothing.

use super::check_stand::{
    NOW, check, commit, everything, generations, kinds, noise, on_base, over, pack_by_hand, raw,
};
use super::repair_damage::mend_snapshots;
use snapkeep::backend::memory::MemoryBackend;
use snapkeep::backend::{Backend, FileStat, Pending, SessionFile};
use snapkeep::check::damage::DamageKind;
use snapkeep::crypto::ChunkSort;
use snapkeep::error::{Error, ErrorKind, Result};
use snapkeep::format::frame::{Body, Coding};
use snapkeep::format::{FileName, Folder, HEADER_LEN};
use snapkeep::id::Name;
use snapkeep::manifest::walk::Walk;
use snapkeep::progress::{Progress, Silent};
use snapkeep::repair::packs::{self, PacksOptions, PacksReport};
use snapkeep::repair::salvage::Way;
use snapkeep::repository::keys::SlotOwner;
use snapkeep::repository::snapshots;
use snapkeep::repository::writer::{DeltaPolicy, Writer};
use snapkeep::repository::{NewRepository, Repository, create_with_parity};
use snapkeep::repository::{condemned, removal};
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
    let first = content_packs(&backend.files())[0];
    // A pack by hand: one chunk of the snapshot's stored twice, another only here.
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
    let files = backend.files();
    let mut bytes = files[&first].clone();
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

#[test]
fn a_backup_that_runs_beside_a_repair_loses_nothing() {
    for percent in [0, 3] {
        let (backend, repository) = with_parity(percent);
        let (a, b) = (noise(1, 600), noise(2, 600));
        let first = commit(&repository, &[("a", a.clone()), ("b", b.clone())], None);
        // A session has looked, and counts everything as present; then a pack rots, and is repaired.
        let info = snapkeep::format::snapshot::SessionInfo::default();
        let level = snapkeep::compress::Level::AUTO;
        let writer =
            snapkeep::repository::writer::Writer::open(&repository, level, &info).expect("a session");
        let stray = pack_by_hand(&repository, vec![raw(&repository, &noise(7, 300))]);
        let pack = content_packs(&backend.files()).into_iter().find(|p| *p != stray).expect("a pack");
        let mut bytes = backend.files()[&pack].clone();
        let trailer = bytes.len() - 10;
        bytes[trailer] ^= 1;
        backend.overwrite(pack, bytes);
        let done = mend(&repository, true);
        assert_eq!((done.repairs.len(), done.lost()), (1, 0));
        // It stores nothing, relies on the pack, and commits.
        let root = first.root;
        let second = super::check_stand::finish(&repository, writer, root, Some(&first));
        assert!(check(&repository, &everything()).damage.is_empty());
        // Even when a collector then takes the condemned pack away.
        backend.remove(&pack).expect("removed");
        let found = check(&repository, &everything());
        assert!(found.damage.is_empty(), "{:?}", found.damage);
        assert_eq!(found.snapshots, 2);
        let reader = repository.reader().expect("a reader");
        let id = super::check_stand::content_id(&repository, &a);
        assert_eq!(&*reader.get(ChunkSort::Content, &id).expect("there"), a.as_slice());
        assert_ne!(second.id, first.id);
    }
}

/// A place whose disk refuses some bytes of one file.
struct BadSector {
    behind: MemoryBackend,
    file: FileName,
    bad: std::ops::Range<u64>,
}

impl Backend for BadSector {
    fn create(&self, name: &FileName) -> Result<Box<dyn Pending>> {
        self.behind.create(name)
    }

    fn read(&self, name: &FileName, max: u64) -> Result<Vec<u8>> {
        self.refuse(name, 0, u64::MAX)?;
        self.behind.read(name, max)
    }

    fn read_range(&self, name: &FileName, offset: u64, len: usize) -> Result<Vec<u8>> {
        self.refuse(name, offset, offset.saturating_add(len as u64))?;
        self.behind.read_range(name, offset, len)
    }

    fn list(&self, folder: Folder) -> Result<Vec<FileStat>> {
        self.behind.list(folder)
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

    fn location(&self) -> String {
        self.behind.location()
    }
}

impl BadSector {
    fn refuse(&self, name: &FileName, start: u64, end: u64) -> Result<()> {
        if *name == self.file && start < self.bad.end && end > self.bad.start {
            return Err(Error::new(ErrorKind::Io, "input/output error"));
        }
        Ok(())
    }
}

#[test]
fn what_a_disk_refuses_to_read_is_damage_like_any_other() {
    for percent in [0, 3] {
        let (backend, repository) = with_parity(percent);
        let files: Vec<(String, Vec<u8>)> = (0..50).map(|i| (format!("f{i:02}"), noise(i, 30_000))).collect();
        let files: Vec<(&str, Vec<u8>)> = files.iter().map(|(n, p)| (n.as_str(), p.clone())).collect();
        commit(&repository, &files, None);
        let file = content_packs(&backend.files())[0];
        let bad = BadSector { behind: backend.clone(), file, bad: 8192..12_288 };
        let bad = Arc::new(repository.with_backend(Arc::new(bad)));
        assert!(check(&bad, &everything()).num_errors() > 0);
        let done = mend(&bad, true);
        assert_eq!(done.repairs.len(), 1, "{done:?}");
        let found = check(&bad, &everything());
        assert!(found.unchecked.is_empty(), "{:?}", found.unchecked);
        let repair = &done.repairs[0];
        if percent == 0 {
            assert!(repair.unreadable_bytes == 4096 && repair.lost > 0 && repair.saved > 0, "{repair:?}");
            assert_eq!(kinds(&found), [DamageKind::ChunkMissing]);
            assert!(found.damage[0].files_total < 50, "what can be read was saved");
        } else {
            assert_eq!((repair.way, repair.lost), (Way::Parity { shards: 1 }, 0));
            assert!(found.damage.is_empty(), "{:?}", found.damage);
        }
    }
}

#[test]
fn a_repaired_snapshot_keeps_damaged_files_with_holes_when_asked() {
    let (backend, repository) = with_parity(0);
    let (whole, long) = (noise(1, 600), noise(2, 4 * super::check_stand::CUT));
    let tree = [
        ("a", whole.clone()),
        ("long", long.clone()),
        ("long-z", whole.clone()),
        ("long.damaged", noise(3, 10)),
    ];
    let listed = commit(&repository, &tree, None);
    // One chunk of the long file is stored nowhere any more.
    let reader = repository.reader().expect("a reader");
    let cut = super::check_stand::CUT;
    let lost = super::check_stand::content_id(&repository, &long[cut..2 * cut]);
    let found = reader.index().find(&lost).expect("looked").expect("there");
    let pack = FileName::Pack(found.pack.id);
    let mut bodies: Vec<_> = [&whole, &noise(3, 10)].iter().map(|p| raw(&repository, p)).collect();
    bodies.extend([0, 2, 3].map(|i| raw(&repository, &long[i * cut..(i + 1) * cut])));
    pack_by_hand(&repository, bodies);
    backend.remove(&pack).expect("removed");
    assert_eq!(kinds(&check(&repository, &everything())), [DamageKind::ChunkMissing]);
    for (salvage, names) in [
        (false, vec!["a", "long-z", "long.damaged"]),
        (true, vec!["a", "long-z", "long.damaged", "long.damaged.damaged"]),
    ] {
        let report = mend_snapshots(&repository, salvage);
        let repair = &report.snapshots[0];
        assert_eq!((repair.files_damaged, repair.entries_lost), (1, 0));
        assert_eq!(repair.files[0].holes.as_deref(), Some(&[(cut as u64, cut as u64)][..]));
        let made = snapshots::read(&repository, repair.made.expect("made")).expect("there");
        let record = made.record.repaired.as_ref().expect("repaired");
        assert_eq!((record.from.clone(), record.files.len()), (listed.id.to_string(), 1));
        assert_eq!(record.files[0].holes, [[cut as u64, cut as u64]]);
        assert_eq!(made.record.order_time, listed.record.order_time + 1);
        let reader = repository.reader().expect("a reader");
        let entries: Vec<_> =
            Walk::new(&reader, &made.root, b"").expect("walk").map(|e| e.expect("entry")).collect();
        let found: Vec<String> =
            entries.iter().map(|e| String::from_utf8_lossy(&e.path).into_owned()).collect();
        assert_eq!(found, names);
        if salvage {
            let kept = entries.iter().find(|e| e.path.ends_with(b".damaged.damaged")).expect("kept");
            assert_eq!(kept.content.size, long.len() as u64);
            let mut expected = long.clone();
            expected[cut..2 * cut].fill(0);
            assert_eq!(kept.content.hash, Some(snapkeep::crypto::hash::plain(&expected)));
        }
        // It is whole itself, so that nothing is left to do.
        let files = backend.files();
        assert!(mend_snapshots(&repository, salvage).is_idle());
        assert!(backend.files() == files);
    }
    // The backup that meets the content heals the damaged one; then no repair is wanted.
    commit(&repository, &tree, Some(&listed));
    assert!(check(&repository, &everything()).damage.is_empty());
    assert!(mend_snapshots(&repository, false).snapshots.is_empty());
}

#[test]
fn a_writer_builds_on_nothing_that_only_condemned_packs_hold() {
    let (backend, repository) = with_parity(0);
    let similar = |change: usize| {
        let mut bytes = noise(1, 2000);
        bytes[change] ^= 1;
        bytes
    };
    let (whole, middle, x, y, gone) = (similar(0), similar(10), similar(20), similar(30), similar(40));
    let id = |plain: &[u8]| super::check_stand::content_id(&repository, plain);
    // The copy that stays is two steps deep, the one that goes builds on what goes with it.
    let deeper = |(mut body, stored): (Body, Vec<u8>)| {
        if let Coding::Prefix(prefix) = &mut body.coding {
            prefix.depth = 2;
        }
        body.chunks[0].version = 3;
        (body, stored)
    };
    pack_by_hand(&repository, vec![raw(&repository, &whole)]);
    pack_by_hand(&repository, vec![on_base(&repository, &middle, id(&whole), &whole)]);
    pack_by_hand(&repository, vec![deeper(on_base(&repository, &x, id(&middle), &middle))]);
    let bodies = vec![raw(&repository, &gone), on_base(&repository, &x, id(&gone), &gone)];
    let doomed = pack_by_hand(&repository, bodies);
    condemned::publish(&backend, repository.keyring(), 0, &[doomed.header_name()]).expect("published");
    // Readers may still use it.
    let reader = repository.reader().expect("a reader");
    assert_eq!(&*reader.get(ChunkSort::Content, &id(&gone)).expect("read"), gone.as_slice());
    assert!(!reader.index().present(&id(&gone)).expect("known"));
    let info = snapkeep::format::snapshot::SessionInfo::default();
    let mut writer = Writer::open(&repository, snapkeep::compress::Level::AUTO, &info).expect("a session");
    let mut lane = writer.lane(ChunkSort::Content).expect("a lane");
    lane.put(&y, &[id(&x)], DeltaPolicy::CONTENT).expect("stored");
    lane.finish().expect("finished");
    writer.flush().expect("flushed");
    backend.remove(&doomed).expect("removed");
    let reader = repository.reader().expect("a reader");
    assert_eq!(&*reader.get(ChunkSort::Content, &id(&y)).expect("read"), y.as_slice());
    assert!(reader.index().find(&id(&y)).expect("known").expect("there").place.depth > 0, "it has a history");
}

#[test]
fn a_forgotten_snapshot_leaves_no_copy_that_could_bring_it_back() {
    let (backend, repository) = with_parity(3);
    let listed = generations(&repository, 2);
    removal::snapshot(&backend, listed[0].id).expect("removed");
    assert!(!backend.files().contains_key(&FileName::CopyOfSnapshot(listed[0].id)));
    let report = mend_snapshots(&repository, false);
    assert!(report.is_idle() && report.checked == 1);
    assert!(check(&repository, &everything()).damage.is_empty());
    // A pack takes its parity with it.
    let pack = content_packs(&backend.files())[0].header_name();
    removal::pack(&backend, pack).expect("removed");
    assert!(!backend.files().contains_key(&FileName::Parity(pack)));
}
