//! What stops being needed when snapshots go: computed from manifests, index and footers, not guessed.
//!
//! A chunk is freed when the snapshots that go need it and none of those that stay does, bases of bases included. The
//! bytes counted are those of stored bodies that hold a freed chunk and no chunk that is still needed: what a
//! collection can drop without storing anything in another form.

use crate::crypto::ChunkSort;
use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::Extent;
use crate::format::root::RootItem;
use crate::id::{ChunkId, ChunkSet, PackId};
use crate::manifest::content::extents;
use crate::manifest::walk::{Groups, read_group};
use crate::progress::Progress;
use crate::repository::Repository;
use crate::repository::footer::read_footer;
use crate::repository::index::Index;
use crate::repository::reader::Reader;
use crate::repository::snapshots::Listed;
use rayon::prelude::{IntoParallelIterator, IntoParallelRefIterator, ParallelIterator};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

/// What nothing needs any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freed {
    pub chunks: u64,
    /// Their plain bytes.
    pub plain: u64,
    /// Bytes of the stored bodies that go with them.
    pub stored: u64,
}

/// A stored body with something in it that may be freed.
struct Body {
    stored: u64,
    chunks: Vec<(ChunkId, u32)>,
}

/// Chunks of manifests by what they are.
#[derive(Default)]
struct Outline {
    /// Roots, groups and stat columns.
    manifest: ChunkSet,
    /// Each group once.
    groups: HashMap<ChunkId, RootItem>,
}

/// Computes it for `leaving` when `staying` stay. `None` when more than `groups_max` different groups of manifests
/// would have to be read for it.
pub fn compute(
    repository: &Repository,
    leaving: &[&Listed],
    staying: &[&Listed],
    groups_max: Option<usize>,
    progress: &Progress,
) -> Result<Option<Freed>> {
    let reader = repository.reader()?;
    let index = reader.index();
    let stays = outline(&reader, staying, progress)?;
    let mut goes = outline(&reader, leaving, progress)?;
    goes.groups.retain(|id, _| !stays.groups.contains_key(id));
    if groups_max.is_some_and(|max| stays.groups.len() + goes.groups.len() > max) {
        return Ok(None);
    }
    let named = Mutex::new(goes.manifest);
    for_each_named(&reader, &goes.groups, progress, &|id| {
        named.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        Ok(())
    })?;
    let named = named.into_inner().unwrap_or_else(PoisonError::into_inner);
    let candidates = with_bases(index, named.into_iter().filter(|id| !stays.manifest.contains(id)))?;
    let bodies = bodies_of(repository, index, &candidates)?;
    // Whether a neighbour in the same body is still needed counts as well.
    let asked: ChunkSet = bodies.iter().flat_map(|b| &b.chunks).map(|(id, _)| *id).collect();
    let needed = Mutex::new(Needed::default());
    let visit = |id: ChunkId| Needed::visit(&needed, index, &asked, id);
    stays.manifest.iter().try_for_each(|id| visit(*id))?;
    for_each_named(&reader, &stays.groups, progress, &visit)?;
    let needed = needed.into_inner().unwrap_or_else(PoisonError::into_inner).found;
    Ok(Some(tally(&bodies, &candidates, &needed)))
}

fn outline(reader: &Reader, snapshots: &[&Listed], progress: &Progress) -> Result<Outline> {
    let mut outline = Outline::default();
    for listed in snapshots {
        progress.keep_going()?;
        let groups = Groups::load(reader, &listed.root)
            .map_err(|e| e.context(format!("snapshot {}", listed.id.short())))?;
        outline.manifest.extend(&groups.roots);
        for item in groups.items {
            outline.manifest.insert(item.id);
            outline.manifest.extend(item.stat);
            outline.groups.insert(item.id, item);
        }
    }
    Ok(outline)
}

/// Every chunk that the entries of some groups name, content and lists; many come more than once.
fn for_each_named(
    reader: &Reader,
    groups: &HashMap<ChunkId, RootItem>,
    progress: &Progress,
    each: &(dyn Fn(ChunkId) -> Result<()> + Sync),
) -> Result<()> {
    // Neighbours in the order of paths share frames.
    let mut items: Vec<&RootItem> = groups.values().collect();
    items.sort_by(|a, b| a.first.cmp(&b.first).then(a.id.cmp(&b.id)));
    items.into_par_iter().try_for_each(|item| {
        progress.keep_going()?;
        for entry in read_group(reader, item)? {
            entry.content.lists.iter().try_for_each(|id| each(*id))?;
            for extent in extents(reader, &entry.content)? {
                if let Extent::Chunk { id, .. } = extent {
                    each(id)?;
                }
            }
        }
        Ok(())
    })
}

/// These chunks and all they build on.
fn with_bases(index: &Index, ids: impl Iterator<Item = ChunkId>) -> Result<ChunkSet> {
    let (mut all, mut todo) = (ChunkSet::default(), ids.collect::<Vec<_>>());
    while let Some(id) = todo.pop() {
        if all.insert(id)
            && let Some(found) = index.find(&id)?
        {
            todo.extend(index.bases(&id, &found)?);
        }
    }
    Ok(all)
}

/// Every stored body, of any copy, that holds one of these chunks.
fn bodies_of(repository: &Repository, index: &Index, chunks: &ChunkSet) -> Result<Vec<Body>> {
    let mut packs: BTreeMap<PackId, u64> = BTreeMap::new();
    for id in chunks {
        for found in index.copies(id)? {
            packs.insert(found.pack.id, found.pack.size);
        }
    }
    let packs: Vec<(PackId, u64)> = packs.into_iter().collect();
    let (backend, keyring) = (repository.backend().as_ref(), repository.keyring().as_ref());
    let found: Vec<Vec<Body>> = packs
        .par_iter()
        .map(|(id, size)| {
            let footer = match read_footer(backend, keyring, *id, *size) {
                Ok((footer, _)) => footer,
                Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
                Err(e) => return Err(e),
            };
            let bodies = footer.frames.into_iter().flat_map(|frame| frame.table.bodies);
            let touched = bodies.filter(|body| body.chunks.iter().any(|c| chunks.contains(&c.id)));
            Ok(touched
                .map(|body| Body {
                    stored: u64::from(body.stored_len),
                    chunks: body.chunks.iter().map(|c| (c.id, c.len)).collect(),
                })
                .collect())
        })
        .collect::<Result<_>>()?;
    Ok(found.into_iter().flatten().collect())
}

/// Which of the chunks that were asked about are needed.
#[derive(Default)]
struct Needed {
    found: ChunkSet,
    /// Chunks whose bases have been followed.
    followed: ChunkSet,
}

impl Needed {
    fn visit(needed: &Mutex<Needed>, index: &Index, asked: &ChunkSet, id: ChunkId) -> Result<()> {
        let mut todo = vec![id];
        while let Some(id) = todo.pop() {
            let place = index.find(&id)?;
            let builds = place.filter(|found| found.place.depth > 0);
            if builds.is_none() && !asked.contains(&id) {
                continue;
            }
            let mut held = needed.lock().unwrap_or_else(PoisonError::into_inner);
            if asked.contains(&id) {
                held.found.insert(id);
            }
            if let Some(found) = builds
                && held.followed.insert(id)
            {
                drop(held);
                todo.extend(index.bases(&id, &found)?);
            }
        }
        Ok(())
    }
}

fn tally(bodies: &[Body], candidates: &ChunkSet, needed: &ChunkSet) -> Freed {
    let (mut freed, mut counted) = (Freed::default(), ChunkSet::default());
    for body in bodies {
        let gone = |id: &ChunkId| candidates.contains(id) && !needed.contains(id);
        for (id, len) in &body.chunks {
            if gone(id) && counted.insert(*id) {
                freed.chunks += 1;
                freed.plain += u64::from(*len);
            }
        }
        if body.chunks.iter().any(|(id, _)| gone(id))
            && !body.chunks.iter().any(|(id, _)| needed.contains(id))
        {
            freed.stored += body.stored;
        }
    }
    freed
}

/// Fails with damage unless every chunk that a snapshot needs is present, bases included. Reads the whole manifest;
/// content is looked up and not read.
pub fn require_whole(reader: &Reader, listed: &Listed, progress: &Progress) -> Result<()> {
    let index = reader.index();
    let present = |id: ChunkId| match index.present(&id)? {
        true => Ok(()),
        false => Err(Error::corrupt(format!("chunk {id} is not in the repository"))),
    };
    present(listed.root)?;
    let outline = outline(reader, &[listed], progress)?;
    for id in &outline.manifest {
        present(*id)?;
        // What the entries say rests on these bytes: they are read, those that only save time included.
        reader.get(ChunkSort::Manifest, id)?;
    }
    for_each_named(reader, &outline.groups, progress, &present)
}
