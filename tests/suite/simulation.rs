//! Repositories on simulated disks: making them, and proving that they hold what was promised.

use crate::shelf::{self, Tree, dir, file};
use snapkeep::backend::disk::simulated::SimulatedDisk;
use snapkeep::backend::local::LocalBackend;
use snapkeep::check::subset::Subset;
use snapkeep::check::{self, CheckOptions};
use snapkeep::clock::{FixedClock, Timestamp};
use snapkeep::compress::Level;
use snapkeep::crypto::password::Password;
use snapkeep::error::{Error, ErrorKind, Result};
use snapkeep::forget::undelete::{self, Undeleted};
use snapkeep::forget::{self, ForgetOptions};
use snapkeep::format::Folder;
use snapkeep::format::entry::{Extent, Kind};
use snapkeep::format::extents::decode_list;
use snapkeep::gc::{self, MaxUnused, PruneOptions, PruneReport};
use snapkeep::id::{ChunkId, SnapshotId};
use snapkeep::manifest::walk::{Groups, read_group};
use snapkeep::progress::{Progress, Silent};
use snapkeep::repository::index::Index;
use snapkeep::repository::snapshots::{self, Listed, Listing};
use snapkeep::repository::{Repository, locate, sessions};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

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

fn at(time: i64) -> Timestamp {
    Timestamp { secs: time, nanos: 0 }
}

/// Into the trash, or for good.
pub fn forget(repository: &Repository, id: SnapshotId, for_good: bool, time: i64) -> Result<()> {
    let options = ForgetOptions { for_good, pinned: false, host: String::new() };
    let mut done = forget::run(repository, &[id], &options, at(time), &Silent)?;
    match done.failed.pop() {
        Some((_, e)) => Err(e),
        None => Ok(()),
    }
}

pub fn undelete(repository: &Arc<Repository>, id: SnapshotId, time: i64) -> Result<Undeleted> {
    let listing = snapshots::list(repository)?;
    let gone = listing.forgotten.iter().find(|f| f.listed.id == id);
    let gone = gone.ok_or_else(|| Error::new(ErrorKind::NotFound, "it is not in the trash"))?;
    undelete::run(repository, gone, "", &FixedClock(at(time)), &Progress::new())
}

/// Frees all that can be freed, and what has been in the trash for `trash`. Does not wait for sessions.
pub fn collect(repository: &Arc<Repository>, time: i64, trash: Duration) -> Result<PruneReport> {
    let options = PruneOptions {
        max_unused: MaxUnused::Bytes(0),
        level: Level::FASTEST,
        host: String::new(),
        wait: Duration::ZERO,
        now: at(time),
        trash,
        ..PruneOptions::default()
    };
    gc::run(repository, &options, &Progress::new(), &Silent)
}

/// As long as snapshots stay in the trash unless a test says otherwise.
pub const TRASH: Duration = Duration::from_secs(30 * 86_400);

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
    /// From now on it may be in sight or in the trash.
    Burying(SnapshotId),
    Buried(SnapshotId),
    /// From now on it is in the trash, or in sight under another name.
    Returning(SnapshotId),
    /// Under its new name; from now on the old one may be there or not.
    Returned(SnapshotId, SnapshotId),
}

/// Where a snapshot may be that its user has put into the trash, or is about to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whereabouts {
    SightOrTrash,
    Trash,
    TrashOrReturned,
}

/// What a repository has promised.
#[derive(Clone, Default)]
pub struct Promised {
    /// Reported as committed and not forgotten since.
    pub snapshots: BTreeMap<SnapshotId, Arc<Tree>>,
    /// Sets of tags of which a snapshot must have one; two while a change is under way.
    pub tags: BTreeMap<SnapshotId, BTreeSet<Vec<String>>>,
    /// In the trash, on the way there or on the way back.
    trash: BTreeMap<SnapshotId, (Whereabouts, Arc<Tree>)>,
    /// Reported as forgotten for good.
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
                self.trash.remove(id);
                self.tags.remove(id);
            }
            Fact::Forgotten(id) => {
                self.gone.insert(*id);
            }
            Fact::Burying(id) => {
                let tree = self.snapshots.remove(id);
                self.trash.extend(tree.map(|tree| (*id, (Whereabouts::SightOrTrash, tree))));
            }
            Fact::Buried(id) => self.move_in_trash(id, Whereabouts::Trash),
            Fact::Returning(id) => self.move_in_trash(id, Whereabouts::TrashOrReturned),
            Fact::Returned(old, new) => {
                let tree = self.trash.remove(old).map(|(_, tree)| tree);
                self.snapshots.extend(tree.map(|tree| (*new, tree)));
                if let Some(tags) = self.tags.remove(old) {
                    self.tags.insert(*new, tags);
                }
            }
        }
    }

    fn move_in_trash(&mut self, id: &SnapshotId, to: Whereabouts) {
        if let Some((whereabouts, _)) = self.trash.get_mut(id) {
            *whereabouts = to;
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
        for (id, (whereabouts, tree)) in &self.trash {
            let sight = listing.snapshots.iter().filter(|l| match whereabouts {
                Whereabouts::SightOrTrash => l.id == *id,
                Whereabouts::Trash => false,
                Whereabouts::TrashOrReturned => is_of(l, *id),
            });
            let mut found = sight.chain(listing.forgotten.iter().map(|f| &f.listed).filter(|l| l.id == *id));
            let Some(listed) = found.next() else {
                return Err(format!("snapshot {id} is LOST from the trash ({whereabouts:?})"));
            };
            if shelf::try_tree(&reader, &listed.root).map_err(said("restoring from the trash"))? != **tree {
                return Err(format!("snapshot {id} has CHANGED in the trash"));
            }
            if *whereabouts == Whereabouts::Trash && listing.snapshots.iter().any(|l| l.id == *id) {
                return Err(format!("snapshot {id} was put into the trash and is in sight"));
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
        let live: BTreeSet<SnapshotId> = listing.live().map(|l| l.id).collect();
        if let Some(id) = self.gone.iter().find(|id| live.contains(id)) {
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

/// Whether this snapshot is the one that had that name first.
fn is_of(listed: &Listed, id: SnapshotId) -> bool {
    listed.record.origin.as_ref().is_some_and(|origin| origin.ends_with(&id.to_string()))
}

/// Every chunk that some snapshot names, or that is needed to decode one of those. Found without the marks of a
/// collection.
fn needed(repository: &Repository) -> Result<BTreeSet<ChunkId>> {
    let reader = repository.reader()?;
    let mut todo = Vec::new();
    let chunks = |extents: Vec<Extent>, todo: &mut Vec<ChunkId>| {
        for extent in extents {
            if let Extent::Chunk { id, .. } = extent {
                todo.push(id);
            }
        }
    };
    for listed in snapshots::list(repository)?.live() {
        let Groups { items, roots } = Groups::load(&reader, &listed.root)?;
        todo.extend(roots);
        for item in &items {
            todo.push(item.id);
            todo.extend(item.stat);
            for entry in read_group(&reader, item)? {
                chunks(entry.content.extents, &mut todo);
                for list in entry.content.lists {
                    todo.push(list);
                    let plain = reader.get(snapkeep::crypto::ChunkSort::Manifest, &list)?;
                    chunks(decode_list(&plain)?, &mut todo);
                }
            }
        }
    }
    let mut needed = BTreeSet::new();
    while let Some(id) = todo.pop() {
        if needed.insert(id) {
            let found =
                reader.index().find(&id)?.ok_or_else(|| Error::corrupt(format!("{id} is missing")))?;
            todo.extend(reader.index().bases(&id, &found)?);
        }
    }
    Ok(needed)
}

/// An index of all packs, made from their footers alone.
fn index_of_footers(repository: &Repository) -> Result<Index> {
    let backend = repository.backend().as_ref();
    let packs = backend.list(Folder::Packs)?;
    let packs: Vec<_> = packs.iter().map(|stat| (stat.name.header_name(), stat.size)).collect();
    Index::of_packs(backend, repository.keyring(), &packs)
}

fn chunks_of(index: &Index) -> Result<Vec<ChunkId>> {
    let mut found = Vec::new();
    index.for_each(&mut |listed, _| {
        found.push(listed.id);
        Ok(())
    })?;
    found.sort_unstable();
    Ok(found)
}

/// Whether the index as it is used equals one made from the packs alone.
pub fn indexes_agree(repository: &Repository) -> Held {
    let fresh = index_of_footers(repository).and_then(|index| chunks_of(&index));
    let used = repository.load_index().and_then(|index| chunks_of(&index));
    match fresh.map_err(said("reading footers"))? == used.map_err(said("loading the index"))? {
        true => Ok(()),
        false => Err("the index differs from the packs".to_owned()),
    }
}

/// Collects until nothing is left to do; then packs hold what is needed, once, and nothing else.
pub fn settle(repository: &Arc<Repository>, time: i64, can_lock: bool) -> Held {
    for round in 0.. {
        let done = collect(repository, time, TRASH).map_err(said("the next prune"))?;
        let mut evicted = false;
        for open in sessions::open(repository.backend().as_ref()).map_err(said("listing sessions"))? {
            if can_lock {
                return Err(format!("a dead session stays: {open}"));
            }
            // Nobody can know that they are dead, so somebody has to say so.
            evicted |= sessions::evict(repository, open).map_err(said("evicting"))?;
        }
        if !evicted && done.deleted_packs == 0 {
            break;
        }
        if round > 4 {
            return Err(format!("collections go on and on: {done:?}"));
        }
    }
    let unfinished = repository.backend().unfinished().map_err(said("listing unfinished files"))?;
    if can_lock && !unfinished.is_empty() {
        return Err(format!("unfinished files stay: {unfinished:?}"));
    }
    let there = index_of_footers(repository).and_then(|index| chunks_of(&index));
    let there = there.map_err(said("reading footers"))?;
    let needed: Vec<ChunkId> = needed(repository).map_err(said("marking"))?.into_iter().collect();
    if there == needed {
        return Ok(());
    }
    let idle = there.iter().filter(|id| !needed.contains(id)).count();
    Err(format!("{} chunks are stored, {} are needed, {idle} are not", there.len(), needed.len()))
}

/// What follows when a place has been opened after trouble.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// What was promised is proved only before, and the next backup by itself.
    BackUp,
    /// A collection before the next backup or after it, and everything proved after that.
    Collect,
    /// The same with checks, and until nothing is left to do.
    Settle,
}

/// Opens a place after trouble, proves what it promised, makes one more backup and proves that, too.
pub fn go_on(
    disk: &SimulatedDisk,
    place: &Path,
    promised: Option<Promised>,
    tree: &Tree,
    seed: u64,
    then: Then,
) -> std::result::Result<Arc<Repository>, String> {
    let repository = open_or_make(disk, place, promised.as_ref())?;
    let promised = promised.unwrap_or_default();
    let thoroughly = then == Then::Settle;
    let collects = matches!(then, Then::Collect | Then::Settle);
    promised.hold(&repository, thoroughly)?;
    let collect_now = |when| match collects && seed.is_multiple_of(2) == when {
        true => collect(&repository, 5000, TRASH).map(|_| ()).map_err(|e| format!("the next prune: {e}")),
        false => Ok(()),
    };
    collect_now(true)?;
    let mut tree = tree.clone();
    edit(&mut shelf::Random(seed), &mut tree, 5000);
    let id = back_up(&repository, &tree, 5000).map_err(|e| format!("the next backup: {e}"))?;
    collect_now(false)?;
    let mut after = if then == Then::BackUp { Promised::default() } else { promised };
    after.snapshots.insert(id, Arc::new(tree));
    if then == Then::Settle {
        settle(&repository, 5000, disk.features().locks)?;
        indexes_agree(&repository)?;
    }
    let held = if thoroughly { after.hold(&repository, true) } else { after.restore(&repository) };
    held.map_err(|e| format!("after the next backup: {e}"))?;
    Ok(repository)
}
