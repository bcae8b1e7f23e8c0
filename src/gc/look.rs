//! One look at everything: which packs there are, and what all snapshots need.

use super::live::Live;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{FileName, Folder};
use crate::id::{ChunkId, PackId, SnapshotId};
use crate::progress::Progress;
use crate::repository::index::{Index, Sides};
use crate::repository::{Repository, condemned, distrust, random, snapshots};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A look that others overtake is repeated so often.
const ATTEMPTS: u32 = 5;

/// What was seen.
pub struct Look {
    /// The highest condemned list.
    pub highest: u32,
    /// Packs are there that a list names: its collector has not finished.
    pub unfinished: bool,
    pub packs: BTreeMap<PackId, u64>,
    pub live: Live,
    pub index: Arc<Index>,
    /// Last: the index lies in it.
    _scratch: Scratch,
}

impl Look {
    /// Whether packs that were seen are gone: another collection was faster.
    pub fn has_vanished(&self, repository: &Repository) -> Result<bool> {
        let there = packs_now(repository)?;
        Ok(self.packs.keys().any(|pack| !there.contains(pack)))
    }
}

fn packs_now(repository: &Repository) -> Result<BTreeSet<PackId>> {
    let listed = repository.backend().list(Folder::Packs)?;
    Ok(listed.iter().map(|stat| stat.name.header_name()).collect())
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
        // Collections move chunks to other packs, and backups commit what they have just stored, while we go through
        // the folders: our listing of packs may lack what a listing of snapshots after it asks for.
        if !missed || packs_now(repository)?.iter().eq(packs.keys()) {
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
    let highest = lists.last().map_or(0, |(number, _)| *number);
    let doomed: HashSet<PackId> = lists.into_iter().flat_map(|(_, packs)| packs).collect();
    let snapshots = roots(repository)?;
    let distrusted = repository.cache_dir().map(|dir| distrust::read(&dir)).unwrap_or_default();
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
    let index = Arc::new(Index::of_sides(backend, keyring, &sides, scratch.dir())?);
    let live = Live::mark(repository, &index, &snapshots, progress)?;
    Ok(Look { highest, unfinished, packs, live, index, _scratch: scratch })
}

/// Every snapshot's root. One that cannot be read stops everything: what it needs is not known.
fn roots(repository: &Repository) -> Result<Vec<(SnapshotId, ChunkId)>> {
    let mut roots = Vec::new();
    for stat in repository.backend().list(Folder::Snapshots)? {
        let FileName::Snapshot(id) = stat.name else { continue };
        match snapshots::read(repository, id) {
            Ok(listed) => roots.push((id, listed.root)),
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
    roots.sort_unstable_by_key(|(id, _)| *id);
    Ok(roots)
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
