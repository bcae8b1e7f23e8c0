//! One look at everything: which packs there are, and what all snapshots need.

use super::live::Live;
use super::settled::Seen;
use crate::backend::FileStat;
use crate::crypto::hash;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{FileName, Folder};
use crate::id::{ChunkId, PackId, SnapshotId};
use crate::progress::Progress;
use crate::repository::footer::read_footer;
use crate::repository::index::Index;
use crate::repository::reader::Reader;
use crate::repository::sides::{Home, Sides};
use crate::repository::snapshots::Listed;
use crate::repository::{Repository, condemned, distrust, random, sealed, snapshots};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A look that others overtake is repeated so often.
const ATTEMPTS: u32 = 5;

/// What was seen.
pub struct Look {
    /// The listings that all the rest was made from.
    pub seen: Seen,
    /// Packs are there that a list names: its collector has not finished.
    pub unfinished: bool,
    pub live: Live,
    pub index: Arc<Index>,
    /// Last: the index lies in it.
    _scratch: Scratch,
}

impl Look {
    /// The highest condemned list.
    pub fn highest(&self) -> u32 {
        self.seen.condemned.last().copied().unwrap_or(0)
    }

    /// Reads chunks from what was seen.
    pub fn reader(&self, repository: &Repository) -> Reader {
        let (backend, keyring) = (Arc::clone(repository.backend()), Arc::clone(repository.keyring()));
        Reader::new(backend, keyring, Arc::clone(&self.index))
    }

    /// Whether what goes can go by what is remembered: packs that hold copies in place of those that go, and what these
    /// are stored against, still have footers that can be read. If one has not, everything remembered is forgotten.
    pub fn is_vouched_for(&self, repository: &Repository) -> Result<bool> {
        let (backend, keyring) = (repository.backend().as_ref(), repository.keyring().as_ref());
        for (pack, size) in self.live.relied_on()? {
            match read_footer(backend, keyring, pack, size) {
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::NotFound || e.kind().is_unreadable() => {
                    if let Some(dir) = remembered(repository) {
                        sealed::forget(&dir);
                    }
                    return Ok(false);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }

    /// Whether other packs are there now: then what was missed here may lie in those.
    pub fn is_overtaken(&self, repository: &Repository) -> Result<bool> {
        is_overtaken(repository, &self.seen.packs)
    }
}

/// Collections move chunks to other packs and delete the old ones, and backups commit what they have just stored, while
/// we go through the folders: a listing of packs may lack what a listing of snapshots after it asks for.
fn is_overtaken(repository: &Repository, packs: &BTreeMap<PackId, u64>) -> Result<bool> {
    let listed = repository.backend().list(Folder::Packs)?;
    let there: BTreeSet<PackId> = listed.iter().map(|stat| stat.name.header_name()).collect();
    Ok(!there.iter().eq(packs.keys()))
}

/// Reads the condemned lists, lists the packs, then the snapshots, and marks what they need. What cannot be found
/// because others were at work meanwhile is looked for again.
pub fn look(repository: &Arc<Repository>, progress: &Progress) -> Result<Look> {
    for _ in 0..ATTEMPTS {
        let (backend, keyring) = (repository.backend().as_ref(), repository.keyring().as_ref());
        let lists = condemned::lists(backend, keyring)?;
        let packs: BTreeMap<PackId, u64> =
            backend.list(Folder::Packs)?.iter().map(|stat| (stat.name.header_name(), stat.size)).collect();
        let looked = look_at(repository, lists, packs.clone(), progress);
        let missed = match &looked {
            Ok(look) => !look.live.lost().is_empty(),
            Err(e) => e.kind() == ErrorKind::NotFound || e.kind().is_unreadable(),
        };
        if !missed || !is_overtaken(repository, &packs)? {
            return looked;
        }
    }
    Err(Error::new(
        ErrorKind::Locked,
        "others keep changing what this collection looks at; nothing is lost, run it again later",
    ))
}

fn look_at(
    repository: &Arc<Repository>,
    lists: Vec<(u32, Vec<PackId>)>,
    packs: BTreeMap<PackId, u64>,
    progress: &Progress,
) -> Result<Look> {
    let (backend, keyring) = (repository.backend().as_ref(), repository.keyring().as_ref());
    let condemned = lists.iter().map(|(number, _)| *number).collect();
    let doomed: HashSet<PackId> = lists.into_iter().flat_map(|(_, packs)| packs).collect();
    let snapshots = needed(repository)?;
    let distrusted = distrusted(repository);
    let mut sides = Sides::default();
    for (&id, &size) in &packs {
        let side = match (doomed.contains(&id), distrusted.contains(&id)) {
            (true, _) => &mut sides.doomed,
            (false, true) => &mut sides.distrusted,
            (false, false) => &mut sides.kept,
        };
        side.push((id, size));
    }
    let unfinished = !sides.doomed.is_empty();
    let scratch = Scratch::new(repository);
    let remembered = remembered(repository);
    let home = Home { scratch: scratch.dir(), remembered: remembered.as_deref() };
    let index = Arc::new(Index::of_sides(backend, keyring, &sides, home)?);
    let live = Live::mark(repository, &index, &snapshots, progress).map_err(unmarked)?;
    let mut snapshots: Vec<SnapshotId> = snapshots.iter().map(|needed| needed.id).collect();
    snapshots.sort_unstable();
    let seen = Seen { condemned, packs, snapshots, distrusted };
    Ok(Look { seen, unfinished, live, index, _scratch: scratch })
}

/// What is needed cannot all be known.
fn unmarked(e: Error) -> Error {
    if !e.kind().is_unreadable() {
        return e;
    }
    let message = format!(
        "what snapshots need cannot all be read, so nothing is deleted ({}); run `check`",
        e.message()
    );
    Error::new(e.kind(), message)
}

/// A snapshot whose chunks are needed.
pub struct Needed {
    pub id: SnapshotId,
    pub root: ChunkId,
    /// The same for all snapshots of one series.
    pub series: u64,
}

impl Needed {
    fn new(listed: &Listed) -> Self {
        let record = &listed.record;
        let mut series = record.hostname.clone().into_bytes();
        for path in &record.paths {
            series.push(0);
            series.extend_from_slice(path.as_bytes());
        }
        Needed { id: listed.id, root: listed.root, series: hash::short(&series) }
    }
}

/// Every snapshot, oldest first. One that cannot be read stops everything: what it needs is not known.
fn needed(repository: &Repository) -> Result<Vec<Needed>> {
    let mut needed = Vec::new();
    // Copies are written after their originals and removed before them, so those listed first have theirs.
    let copies = repository.backend().list(Folder::Copies)?;
    for stat in repository.backend().list(Folder::Snapshots)? {
        let FileName::Snapshot(id) = stat.name else { continue };
        match snapshots::read(repository, id) {
            Ok(listed) => {
                needed.push((listed.record.order_time, listed.record.sequence, Needed::new(&listed)))
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) if e.kind().is_unreadable() => {
                return Err(Error::corrupt(format!(
                    "snapshot {} cannot be read, so what it needs is not known and nothing is deleted ({}); \
                     `repair snapshots` may bring it back",
                    id.short(),
                    e.message()
                )));
            }
            Err(e) => return Err(e),
        }
    }
    // Only what is remembered of them profits from the order.
    needed.sort_unstable_by_key(|(time, sequence, needed)| (*time, *sequence, needed.id));
    let needed: Vec<Needed> = needed.into_iter().map(|(_, _, needed)| needed).collect();
    let mut ids: Vec<SnapshotId> = needed.iter().map(|needed| needed.id).collect();
    ids.sort_unstable();
    for id in without_original(&copies, &ids) {
        if repository.backend().read_range(&FileName::CopyOfSnapshot(id), 0, 1).is_ok() {
            return Err(Error::corrupt(format!(
                "the file of snapshot {} is gone though nobody forgot it (its second copy is there), so nothing is \
                 deleted; `repair snapshots` brings it back",
                id.short()
            )));
        }
    }
    Ok(needed)
}

/// Snapshots of which only a second copy is listed. `ids` ascend.
pub fn without_original<'a>(
    copies: &'a [FileStat],
    ids: &'a [SnapshotId],
) -> impl Iterator<Item = SnapshotId> + 'a {
    let copy = |stat: &FileStat| if let FileName::CopyOfSnapshot(id) = stat.name { Some(id) } else { None };
    copies.iter().filter_map(copy).filter(|id| ids.binary_search(id).is_err())
}

/// Where collections remember what the footers of packs said.
pub fn remembered(repository: &Repository) -> Option<PathBuf> {
    repository.collected_dir().map(|dir| dir.join("index"))
}

/// Packs that a check on this machine found damaged.
pub fn distrusted(repository: &Repository) -> BTreeSet<PackId> {
    repository.cache_dir().map(|dir| distrust::read(&dir)).unwrap_or_default()
}

/// A directory for the collector's own index; removed when it is done with it.
struct Scratch(Option<PathBuf>);

impl Scratch {
    fn new(repository: &Repository) -> Self {
        let home = repository.cache_dir().and_then(|dir| dir.parent().map(PathBuf::from));
        let home = home.unwrap_or_else(std::env::temp_dir);
        let dir = random::name().ok().map(|name| home.join(format!("collect-{name}")));
        // Without one the index is kept in memory.
        Scratch(dir.filter(|dir| std::fs::create_dir_all(dir).is_ok()))
    }

    fn dir(&self) -> Option<&Path> {
        self.0.as_deref()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(dir) = &self.0 {
            let _ = std::fs::remove_dir_all(dir);
        }
    }
}
