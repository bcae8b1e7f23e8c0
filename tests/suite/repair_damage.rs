//! Every kind of damage to every file, one and two at a time, and what repair makes of it. Beside it every place where
//! a repair can be cut short.

use super::check_stand::{NOW, check, everything, generations, over};
use super::repair::with_parity;
use super::shelf::Random;
use rayon::prelude::*;
use snapkeep::backend::memory::MemoryBackend;
use snapkeep::backend::{Backend, FileStat, Pending, SessionFile};
use snapkeep::check::damage::DamageKind;
use snapkeep::error::{Error, ErrorKind, Result};
use snapkeep::format::entry::Content;
use snapkeep::format::{FileName, Folder};
use snapkeep::id::{Name, SnapshotId};
use snapkeep::manifest::content::for_each_piece;
use snapkeep::manifest::walk::Walk;
use snapkeep::progress::{Progress, Silent};
use snapkeep::repair::parity::{self, ParityOptions};
use snapkeep::repair::snapshots::{self as repair_snapshots, SnapshotsOptions, SnapshotsReport};
use snapkeep::repository::reader::Reader;
use snapkeep::repository::snapshots::{self, Listed};
use snapkeep::repository::{Repository, condemned};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

type Files = BTreeMap<FileName, Vec<u8>>;
/// What each snapshot should restore.
type Model = BTreeMap<SnapshotId, BTreeMap<Vec<u8>, Vec<u8>>>;

fn night() -> bool {
    std::env::var_os("SNAPKEEP_NIGHT").is_some_and(|v| v == "1")
}

pub fn mend_snapshots(repository: &Arc<Repository>, salvage: bool) -> SnapshotsReport {
    let options = SnapshotsOptions { apply: true, salvage, now: NOW, ..SnapshotsOptions::default() };
    repair_snapshots::run(repository, &options, &Progress::new(), &Silent).expect("repaired")
}

/// Everything that repair does.
fn repair_all(repository: &Arc<Repository>) -> Result<()> {
    snapkeep::repair::packs::run(repository, &super::repair::options(), &Progress::new(), &Silent)?;
    let options = SnapshotsOptions { apply: true, now: NOW, ..SnapshotsOptions::default() };
    repair_snapshots::run(repository, &options, &Progress::new(), &Silent)?;
    let options = ParityOptions { apply: true, now: NOW, ..ParityOptions::default() };
    parity::run(repository, &options, &Progress::new()).map(|_| ())
}

fn content(reader: &Reader, content: &Content) -> Result<Vec<u8>> {
    let bytes = std::cell::RefCell::new(Vec::new());
    for_each_piece(
        reader,
        content,
        &mut |data| {
            bytes.borrow_mut().extend_from_slice(data);
            Ok(())
        },
        &mut |hole| {
            bytes.borrow_mut().resize(bytes.borrow().len() + hole as usize, 0);
            Ok(())
        },
    )?;
    Ok(bytes.into_inner())
}

/// Every file of a snapshot that can be had.
fn restorable(reader: &Reader, listed: &Listed) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let Ok(walk) = Walk::new(reader, &listed.root, b"") else { return BTreeMap::new() };
    let entries = walk.map_while(Result::ok);
    entries.filter_map(|e| content(reader, &e.content).ok().map(|bytes| (e.path, bytes))).collect()
}

fn all_restorable(repository: &Repository) -> Model {
    let Ok(reader) = repository.reader() else { return Model::new() };
    let listing = snapshots::list(repository).expect("listed");
    listing.snapshots.iter().map(|listed| (listed.id, restorable(&reader, listed))).collect()
}

struct Stand {
    repository: Arc<Repository>,
    files: Files,
    model: Model,
}

fn stand(percent: u32) -> Stand {
    let (backend, repository) = with_parity(percent);
    let listed = generations(&repository, 3);
    snapshots::set_tags(&repository, listed[1].id, vec!["kept".into()], NOW).expect("noted");
    condemned::publish(&backend, repository.keyring(), 0, &[Name([9; 16])]).expect("published");
    let model = all_restorable(&repository);
    assert_eq!((model.len(), model[&listed[0].id].len()), (3, 3));
    Stand { repository, files: backend.files(), model }
}

/// Repairs everything twice and looks whether all that holds holds.
fn repair_and_judge(stand: &Stand, damaged: &Files, what: &str) -> (Repository, Model) {
    let (backend, repository) = over(&stand.repository, damaged);
    let repository = Arc::new(repository);
    let before = all_restorable(&repository);
    if let Err(e) = repair_all(&repository) {
        // What is about to be deleted cannot be known: nobody may write then.
        let lost = |name| damaged.get(&name) != stand.files.get(&name);
        assert!(lost(FileName::Condemned(1)) && lost(FileName::CopyOfCondemned(1)), "{what}: {e}");
        assert!(damaged.keys().all(|name| backend.files().contains_key(name)), "{what}");
        return (repository.with_backend(Arc::new(backend)), before);
    }
    let repaired = backend.files();
    for name in damaged.keys() {
        let stray_parity =
            matches!(name, FileName::Parity(pack) if !damaged.contains_key(&FileName::Pack(*pack)));
        assert!(repaired.contains_key(name) || stray_parity, "{what}: {name} was deleted");
    }
    let after = all_restorable(&repository);
    for (id, files) in &before {
        for (path, bytes) in files {
            let right = stand.model.get(id).is_none_or(|model| model.get(path) == Some(bytes));
            assert!(right, "{what}: {id} restored something else");
            let still = after.get(id).and_then(|files| files.get(path));
            assert_eq!(still, Some(bytes), "{what}: {id} lost {}", String::from_utf8_lossy(path));
        }
    }
    let listing = snapshots::list(&repository).expect("listed");
    for made in listing.snapshots.iter().filter(|l| l.record.repaired.is_some()) {
        let from = &made.record.repaired.as_ref().expect("repaired").from;
        let from = Name::parse(from).expect("a name");
        for (path, bytes) in &after[&made.id] {
            assert_eq!(stand.model[&from].get(path), Some(bytes), "{what}: the repaired one differs");
        }
        let of_origin: BTreeSet<&Vec<u8>> = before.get(&from).into_iter().flat_map(|f| f.keys()).collect();
        let there: BTreeSet<&Vec<u8>> = after[&made.id].keys().collect();
        assert!(there.is_superset(&of_origin), "{what}: the repaired one lacks an undamaged file");
    }
    repair_all(&repository).expect("repaired again");
    let again = backend.files();
    let news: Vec<_> =
        again.iter().filter(|(name, bytes)| repaired.get(name) != Some(bytes)).map(|(n, _)| n).collect();
    assert!(news.is_empty() && again.len() == repaired.len(), "{what}: the second run changed {news:?}");
    (repository.with_backend(Arc::new(backend)), after)
}

/// What can be undone completely: anything to one file, where there is parity for packs and a copy for records.
fn is_undone(stand: &Stand, repository: &Repository, after: &Model, what: &str, note: bool) {
    assert_eq!(*after, stand.model, "{what}");
    let report = check(repository, &everything());
    let left: Vec<_> = report.damage.iter().filter(|d| !(note && d.kind == DamageKind::Note)).collect();
    assert!(left.is_empty(), "{what}: {left:?}");
}

#[test]
fn every_flipped_byte_is_undone_where_there_is_parity() {
    let stand = stand(3);
    let stride = if night() { 1 } else { 23 };
    let places: Vec<(FileName, usize)> = stand
        .files
        .iter()
        .flat_map(|(name, bytes)| (0..bytes.len()).map(|at| (*name, at)))
        .enumerate()
        .filter(|(number, _)| number % stride == 7 % stride)
        .map(|(_, place)| place)
        .collect();
    println!("{} places", places.len());
    places.par_iter().for_each(|(name, at)| {
        let mut damaged = stand.files.clone();
        damaged.get_mut(name).expect("a file")[*at] ^= 1 << (at % 8);
        let what = format!("{name} byte {at}");
        let (repository, after) = repair_and_judge(&stand, &damaged, &what);
        is_undone(&stand, &repository, &after, &what, name.folder() == Folder::Notes);
    });
}

/// One thing that can happen to a file.
#[derive(Clone, Debug)]
enum Harm {
    Flip(FileName, usize),
    Cut(FileName, usize),
    Grow(FileName, usize),
    Zero(FileName, usize),
    Lose(FileName),
    /// Another file's bytes under this name: exchanged, or an old version come back.
    Other(FileName, FileName),
    Swap(FileName, FileName),
}

impl Harm {
    fn hits(&self) -> Vec<FileName> {
        match self {
            Harm::Flip(n, _) | Harm::Cut(n, _) | Harm::Grow(n, _) | Harm::Zero(n, _) | Harm::Lose(n) => {
                vec![*n]
            }
            Harm::Other(n, _) => vec![*n],
            Harm::Swap(a, b) => vec![*a, *b],
        }
    }

    fn apply(&self, files: &mut Files) {
        match self {
            Harm::Flip(name, at) => {
                if let Some(byte) = files.get_mut(name).and_then(|bytes| bytes.get_mut(*at)) {
                    *byte ^= 0x10;
                }
            }
            Harm::Cut(name, len) => {
                files.entry(*name).and_modify(|bytes| bytes.truncate(*len));
            }
            Harm::Grow(name, more) => {
                files.entry(*name).and_modify(|bytes| bytes.extend(vec![7; *more]));
            }
            Harm::Zero(name, at) => {
                if let Some(bytes) = files.get_mut(name) {
                    bytes.iter_mut().skip(*at).take(512).for_each(|b| *b = 0);
                }
            }
            Harm::Lose(name) => {
                files.remove(name);
            }
            Harm::Other(name, other) => {
                if let Some(bytes) = files.get(other).cloned() {
                    files.insert(*name, bytes);
                }
            }
            Harm::Swap(a, b) => {
                if let (Some(x), Some(y)) = (files.get(a).cloned(), files.get(b).cloned()) {
                    files.insert(*a, y);
                    files.insert(*b, x);
                }
            }
        }
    }
}

fn harms(files: &Files, random: &mut Random) -> Vec<Harm> {
    let names: Vec<FileName> = files.keys().copied().collect();
    let mut out = Vec::new();
    for name in &names {
        let len = files[name].len();
        let mut at = || (random.next() % len as u64) as usize;
        out.extend([Harm::Flip(*name, at()), Harm::Flip(*name, at()), Harm::Zero(*name, at())]);
        out.extend([Harm::Cut(*name, at()), Harm::Cut(*name, len - 1), Harm::Cut(*name, 0)]);
        out.extend([Harm::Grow(*name, 1), Harm::Grow(*name, len), Harm::Lose(*name)]);
        let other = names[(random.next() % names.len() as u64) as usize];
        if files[&other] != files[name] {
            out.extend([Harm::Other(*name, other), Harm::Swap(*name, other)]);
        }
        let kin = names.iter().find(|n| n.folder() == name.folder() && *n != name);
        out.extend(kin.map(|kin| Harm::Other(*name, *kin)));
    }
    out
}

fn seed() -> u64 {
    let given = std::env::var("SNAPKEEP_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given
        .unwrap_or_else(|| u64::from_le_bytes(snapkeep::repository::random::bytes::<8>().expect("random")));
    println!("SNAPKEEP_SEED={seed}");
    seed
}

#[test]
fn one_damage_leaves_everything_restorable_where_there_is_parity() {
    let stand = stand(3);
    let harms = harms(&stand.files, &mut Random(seed()));
    println!("{} damages", harms.len());
    harms.par_iter().for_each(|harm| {
        let mut damaged = stand.files.clone();
        harm.apply(&mut damaged);
        let what = format!("{harm:?}");
        let (repository, after) = repair_and_judge(&stand, &damaged, &what);
        // A note has no second copy, and two files at once may be a pack and its parity.
        let hits = harm.hits();
        if hits.len() == 1 && hits[0].folder() != Folder::Notes {
            is_undone(&stand, &repository, &after, &what, false);
        }
    });
}

#[test]
fn without_parity_nothing_that_is_left_is_lost() {
    let stand = stand(0);
    let harms = harms(&stand.files, &mut Random(seed()));
    println!("{} damages", harms.len());
    harms.par_iter().for_each(|harm| {
        let mut damaged = stand.files.clone();
        harm.apply(&mut damaged);
        repair_and_judge(&stand, &damaged, &format!("{harm:?}"));
    });
}

#[test]
fn two_damages_lose_no_more_than_they_hit() {
    for percent in [0, 3] {
        let stand = stand(percent);
        let mut random = Random(seed());
        let harms = harms(&stand.files, &mut random);
        let count = if night() { 30_000 } else { 150 };
        let pairs: Vec<(usize, usize)> = (0..count)
            .map(|_| {
                let mut one = || (random.next() % harms.len() as u64) as usize;
                (one(), one())
            })
            .collect();
        pairs.par_iter().for_each(|&(a, b)| {
            let mut damaged = stand.files.clone();
            harms[a].apply(&mut damaged);
            harms[b].apply(&mut damaged);
            repair_and_judge(&stand, &damaged, &format!("{:?} and {:?}", harms[a], harms[b]));
        });
    }
}

/// A place that stops writing after so many writes, as a killed process does.
struct Mortal {
    behind: MemoryBackend,
    left: Arc<AtomicI64>,
}

fn spend(left: &AtomicI64) -> Result<()> {
    match left.fetch_sub(1, Ordering::Relaxed) > 0 {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::Io, "killed")),
    }
}

struct MortalFile(Box<dyn Pending>, Arc<AtomicI64>);

impl Pending for MortalFile {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.append(bytes)
    }

    fn publish(self: Box<Self>) -> Result<()> {
        spend(&self.1)?;
        self.0.publish()
    }
}

struct MortalSession(Box<dyn SessionFile>, Arc<AtomicI64>);

impl SessionFile for MortalSession {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        spend(&self.1)?;
        self.0.append(bytes)
    }

    fn commit(self: Box<Self>) -> Result<()> {
        spend(&self.1)?;
        self.0.commit()
    }

    fn abandon(self: Box<Self>) -> Result<()> {
        spend(&self.1)?;
        self.0.abandon()
    }
}

impl Backend for Mortal {
    fn create(&self, name: &FileName) -> Result<Box<dyn Pending>> {
        Ok(Box::new(MortalFile(self.behind.create(name)?, Arc::clone(&self.left))))
    }

    fn read(&self, name: &FileName, max: u64) -> Result<Vec<u8>> {
        self.behind.read(name, max)
    }

    fn read_range(&self, name: &FileName, offset: u64, len: usize) -> Result<Vec<u8>> {
        self.behind.read_range(name, offset, len)
    }

    fn list(&self, folder: Folder) -> Result<Vec<FileStat>> {
        self.behind.list(folder)
    }

    fn remove(&self, name: &FileName) -> Result<()> {
        spend(&self.left)?;
        self.behind.remove(name)
    }

    fn mend(&self, name: &FileName, bytes: &[u8]) -> Result<()> {
        spend(&self.left)?;
        self.behind.mend(name, bytes)
    }

    fn open_session(&self, session: Name, first: &[u8]) -> Result<Box<dyn SessionFile>> {
        spend(&self.left)?;
        let file = self.behind.open_session(session, first)?;
        Ok(Box::new(MortalSession(file, Arc::clone(&self.left))))
    }

    fn evict(&self, session: Name) -> Result<()> {
        spend(&self.left)?;
        self.behind.evict(session)
    }

    fn session_alive(&self, session: Name) -> Option<bool> {
        self.behind.session_alive(session)
    }

    fn sync_seen(&self) -> Result<()> {
        Ok(())
    }

    fn location(&self) -> String {
        "memory".to_owned()
    }
}

#[test]
fn a_repair_cut_short_anywhere_is_finished_by_the_next() {
    for percent in [0, 3] {
        let stand = stand(percent);
        let mut damaged = stand.files.clone();
        // A pack, the record of a snapshot that is lost, another one's copy, and the config.
        let packs: Vec<FileName> = damaged.keys().filter(|n| n.folder() == Folder::Packs).copied().collect();
        for (pack, at) in [(packs[0], 200), (packs[3], 300)] {
            damaged.get_mut(&pack).expect("a pack")[at] ^= 1;
        }
        let ids: Vec<SnapshotId> = stand.model.keys().copied().collect();
        damaged.remove(&FileName::Snapshot(ids[0]));
        damaged.remove(&FileName::CopyOfSnapshot(ids[1]));
        damaged.get_mut(&FileName::Config(1)).expect("a config")[60] ^= 4;
        let mut cuts = 0;
        for left in 0.. {
            let behind = MemoryBackend::new();
            damaged.iter().for_each(|(name, bytes)| behind.overwrite(*name, bytes.clone()));
            let budget = Arc::new(AtomicI64::new(left));
            let mortal = Mortal { behind: behind.clone(), left: Arc::clone(&budget) };
            let cut = Arc::new(stand.repository.with_backend(Arc::new(mortal)));
            let done = repair_all(&cut);
            drop(cut);
            let (repository, after) =
                repair_and_judge(&stand, &behind.files(), &format!("cut after {left} of {percent} %"));
            if percent > 0 {
                is_undone(&stand, &repository, &after, &format!("cut after {left}"), false);
            }
            if done.is_ok() {
                break;
            }
            cuts += 1;
        }
        println!("{cuts} cuts");
        assert!(cuts > 5);
    }
}
