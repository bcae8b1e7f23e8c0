//! Repositories on simulated disks: making them, and proving that they hold what was promised.

use crate::shelf::{self, Tree, dir, file};
use snapkeep::backend::disk::simulated::SimulatedDisk;
use snapkeep::backend::local::LocalBackend;
use snapkeep::check::subset::Subset;
use snapkeep::check::{self, CheckOptions};
use snapkeep::crypto::password::Password;
use snapkeep::error::{Error, ErrorKind, Result};
use snapkeep::format::entry::Kind;
use snapkeep::id::SnapshotId;
use snapkeep::progress::{Progress, Silent};
use snapkeep::repository::snapshots::{self, Listed, Listing};
use snapkeep::repository::{Repository, locate};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

pub fn create(disk: &SimulatedDisk, place: &Path) -> Result<Arc<Repository>> {
    let backend = LocalBackend::create_on(disk.clone(), place, false)?;
    shelf::try_repository(Arc::new(backend), None).map(Arc::new)
}

pub fn open(disk: &SimulatedDisk, place: &Path, password: Option<&str>) -> Result<Arc<Repository>> {
    open_cached(disk, place, password, None)
}

pub fn open_cached(
    disk: &SimulatedDisk,
    place: &Path,
    password: Option<&str>,
    cache: Option<&Path>,
) -> Result<Arc<Repository>> {
    let backend = LocalBackend::open_on(disk.clone(), place)?;
    let password = password.map(|p| Password::new(p.as_bytes().to_vec()).expect("a password"));
    locate(Arc::new(backend))?.open(password.as_ref(), cache).map(Arc::new)
}

pub fn newest(repository: &Repository) -> Result<Option<Listed>> {
    Ok(snapshots::list(repository)?.snapshots.pop())
}

/// Commits a tree against the newest snapshot.
pub fn back_up(repository: &Arc<Repository>, tree: &Tree, time: i64) -> Result<SnapshotId> {
    let parent = newest(repository)?;
    shelf::try_commit(repository, tree, time, parent.as_ref(), &|_| {})
}

/// A tree of a few files, some of several chunks.
pub fn small_tree(random: &mut shelf::Random) -> Tree {
    let mut tree = Tree::from([("home".to_owned(), dir(1)), ("home/a".to_owned(), dir(2))]);
    for (i, len) in [0, 10, 700, shelf::CUT + 50].into_iter().enumerate() {
        tree.insert(format!("home/a/f{i}"), file(random.bytes(len), 100 + i as i64));
    }
    tree
}

/// Changes a tree a little: one thing added, changed or removed.
pub fn edit(random: &mut shelf::Random, tree: &mut Tree, now: i64) {
    let n = random.next();
    tree.insert(format!("home/a/n{:02}", n % 8), file(random.bytes((n % 900) as usize), now));
    let files: Vec<String> =
        tree.iter().filter(|(_, t)| t.kind == Kind::File).map(|(p, _)| p.clone()).collect();
    let path = &files[random.below(files.len())];
    if n.is_multiple_of(5) && files.len() > 3 {
        tree.remove(path);
    } else if let Some(thing) = tree.get_mut(path) {
        let at = random.below(thing.bytes.len() + 1);
        thing.bytes.insert(at, n as u8);
        thing.mtime = now;
    }
}

/// Nothing, or what is wrong.
pub type Held = std::result::Result<(), String>;

fn said(what: &'static str) -> impl Fn(Error) -> String {
    move |e| format!("{what}: {e}")
}

/// What a repository has told its user.
#[derive(Clone)]
pub enum Fact {
    Created,
    /// These open it; two while a change is under way.
    Passwords(Vec<&'static str>),
    Reported(SnapshotId, Arc<Tree>),
    Tagging(SnapshotId, Vec<String>),
    Tagged(SnapshotId, Vec<String>),
    /// From now on it may be there or not.
    Forgetting(SnapshotId),
    Forgotten(SnapshotId),
}

/// What a repository has promised.
#[derive(Clone, Default)]
pub struct Promised {
    /// Reported as committed and not forgotten since.
    pub snapshots: BTreeMap<SnapshotId, Arc<Tree>>,
    /// Sets of tags of which a snapshot must have one; two while a change is under way.
    pub tags: BTreeMap<SnapshotId, BTreeSet<Vec<String>>>,
    /// Reported as forgotten.
    pub gone: BTreeSet<SnapshotId>,
    /// One of these opens it, and no other; empty where there are none.
    pub passwords: Vec<&'static str>,
}

impl Promised {
    pub fn learn(&mut self, fact: &Fact) {
        match fact {
            Fact::Created => {}
            Fact::Passwords(passwords) => self.passwords.clone_from(passwords),
            Fact::Reported(id, tree) => {
                self.snapshots.insert(*id, Arc::clone(tree));
                self.tags.insert(*id, BTreeSet::from([vec!["nightly".to_owned()]]));
            }
            Fact::Tagging(id, tags) => {
                self.tags.entry(*id).or_default().insert(tags.clone());
            }
            Fact::Tagged(id, tags) => {
                self.tags.insert(*id, BTreeSet::from([tags.clone()]));
            }
            Fact::Forgetting(id) => {
                self.snapshots.remove(id);
                self.tags.remove(id);
            }
            Fact::Forgotten(id) => {
                self.gone.insert(*id);
            }
        }
    }

    /// Whether every snapshot can be restored as it was.
    pub fn restore(&self, repository: &Repository) -> Held {
        let listing = snapshots::list(repository).map_err(said("listing snapshots"))?;
        self.restore_of(repository, &listing)
    }

    fn restore_of(&self, repository: &Repository, listing: &Listing) -> Held {
        if !listing.damaged.is_empty() {
            return Err(format!("damaged snapshots: {:?}", listing.damaged));
        }
        let reader = repository.reader().map_err(said("loading the index"))?;
        for (id, tree) in &self.snapshots {
            let Some(listed) = listing.snapshots.iter().find(|l| l.id == *id) else {
                return Err(format!("snapshot {id} is LOST"));
            };
            let there = shelf::try_tree(&reader, &listed.root).map_err(said("restoring"))?;
            if there != **tree {
                return Err(format!("snapshot {id} has CHANGED"));
            }
        }
        Ok(())
    }

    /// Whether the repository holds it all, and is sound.
    pub fn hold(&self, repository: &Repository, read_data: bool) -> Held {
        let listing = snapshots::list(repository).map_err(said("listing snapshots"))?;
        self.restore_of(repository, &listing)?;
        let found: BTreeMap<SnapshotId, &Listed> = listing.snapshots.iter().map(|l| (l.id, l)).collect();
        for (id, allowed) in &self.tags {
            if found.get(id).is_some_and(|listed| !allowed.contains(&listed.record.tags)) {
                return Err(format!("snapshot {id} has tags that were not set"));
            }
        }
        if let Some(id) = self.gone.iter().find(|id| found.contains_key(id)) {
            return Err(format!("snapshot {id} was forgotten and came back"));
        }
        let read_data = read_data.then_some(Subset::All);
        let options = CheckOptions { read_data, verify_files_percent: 100.0, ..CheckOptions::default() };
        let report = check::run(repository, &options, &Progress::new(), &Silent).map_err(said("checking"))?;
        if report.num_errors() > 0 {
            return Err(format!("check found: {:?} {:?}", report.damage, report.unchecked));
        }
        Ok(())
    }
}

/// Opens a place after trouble; one that was never reported as made may have to be made again.
fn open_or_make(
    disk: &SimulatedDisk,
    place: &Path,
    promised: Option<&Promised>,
) -> std::result::Result<Arc<Repository>, String> {
    let passwords = promised.map_or(&[][..], |p| &p.passwords);
    if passwords.is_empty() {
        return match open(disk, place, None) {
            Err(e) if promised.is_none() && e.kind() == ErrorKind::NotFound => {
                create(disk, place).map_err(|e| format!("init after a broken init: {e}"))
            }
            other => other.map_err(|e| format!("cannot open {}: {e}", place.display())),
        };
    }
    let mut opened = None;
    for password in ["old", "new"] {
        match open(disk, place, Some(password)) {
            Ok(_) if !passwords.contains(&password) => return Err(format!("`{password}` still opens it")),
            Ok(repository) => opened = Some(repository),
            Err(e) if e.kind() == ErrorKind::WrongKey => {}
            Err(e) => return Err(format!("cannot open {}: {e}", place.display())),
        }
    }
    opened.ok_or_else(|| "no password opens it".to_owned())
}

/// Opens a place after trouble, proves what it promised, makes one more backup and proves that, too.
pub fn go_on(
    disk: &SimulatedDisk,
    place: &Path,
    promised: Option<Promised>,
    tree: &Tree,
    seed: u64,
    thoroughly: bool,
) -> std::result::Result<Arc<Repository>, String> {
    let repository = open_or_make(disk, place, promised.as_ref())?;
    let promised = promised.unwrap_or_default();
    promised.hold(&repository, thoroughly)?;
    let mut tree = tree.clone();
    edit(&mut shelf::Random(seed), &mut tree, 5000);
    let id = back_up(&repository, &tree, 5000).map_err(|e| format!("the next backup: {e}"))?;
    let mut after = if thoroughly { promised } else { Promised::default() };
    after.snapshots.insert(id, Arc::new(tree));
    let held = if thoroughly { after.hold(&repository, true) } else { after.restore(&repository) };
    held.map_err(|e| format!("after the next backup: {e}"))?;
    Ok(repository)
}
