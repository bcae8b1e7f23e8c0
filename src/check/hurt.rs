//! From damaged chunks back to the files and snapshots that need them. Only run when there is damage.

use super::Check;
use super::damage::{DamageKind, FILES_LISTED_MAX};
use super::findings::Finding;
use super::manifests::{Manifests, each_list, read};
use crate::error::Result;
use crate::format::entry::{Entry, Extent};
use crate::format::limit;
use crate::id::ChunkId;
use crate::repository::snapshots::Listed;
use rayon::prelude::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};
use std::collections::{HashMap, HashSet};

type Causes = HashMap<ChunkId, Finding>;

/// Files of one group that one finding hurts.
#[derive(Default)]
struct Hit {
    total: u64,
    paths: Vec<Vec<u8>>,
}

/// Adds to every finding the snapshots and files it hurts.
pub fn look(check: &Check<'_>, manifests: &Manifests, snapshots: &[Listed]) -> Result<()> {
    let causes = dependents(check)?;
    if causes.is_empty() && manifests.groups.iter().all(|g| g.wrong.get().is_none()) {
        return Ok(());
    }
    for snapshot in snapshots {
        if let Some(&finding) = causes.get(&snapshot.root) {
            check.findings.hurts_snapshot(finding, snapshot.id);
        }
    }
    let hits: Vec<(u32, HashMap<Finding, Hit>)> = manifests
        .groups
        .par_iter()
        .enumerate()
        .map(|(number, group)| {
            check.progress.keep_going()?;
            let mut hits: HashMap<Finding, Hit> = HashMap::new();
            if let Some(&finding) = causes.get(&group.item.id).or(group.wrong.get()) {
                // Nobody can say what stood in it, only from where on and how much.
                let paths = vec![group.item.first.clone()];
                hits.insert(finding, Hit { total: group.item.entries, paths });
            } else if let Some(entries) = read(check, group)? {
                for entry in &entries {
                    for finding in of_entry(check, entry, &causes)? {
                        let hit = hits.entry(finding).or_default();
                        hit.total += 1;
                        if hit.paths.len() < FILES_LISTED_MAX {
                            hit.paths.push(entry.path.clone());
                        }
                    }
                }
            }
            Ok((number as u32, hits))
        })
        .filter(|result: &Result<(u32, _)>| !matches!(result, Ok((_, hits)) if HashMap::is_empty(hits)))
        .collect::<Result<_>>()?;
    let hits: HashMap<u32, HashMap<Finding, Hit>> = hits.into_iter().collect();
    for outline in &manifests.outlines {
        for (finding, hit) in outline.groups.iter().filter_map(|number| hits.get(number)).flatten() {
            check.findings.hurts_files(*finding, outline.id, &hit.paths, hit.total);
        }
    }
    Ok(())
}

/// The causes, with all chunks that build on damaged ones.
fn dependents(check: &Check<'_>) -> Result<Causes> {
    let mut causes = check.findings.causes();
    if causes.is_empty() {
        return Ok(causes);
    }
    let index = check.reader.index();
    for _ in 0..=limit::DEPTH_MAX {
        let before = causes.len();
        index.for_each(&mut |listed, pack| {
            if listed.bases.is_empty() || causes.contains_key(&listed.id) {
                return Ok(());
            }
            let cause = listed.bases.iter().find_map(|base| causes.get(base).copied());
            // Where a better copy is known, this one's trouble hurts nobody.
            let taken = index.find(&listed.id)?;
            if let Some(cause) = cause
                && taken.is_some_and(|f| f.pack.id == pack.id && f.place.offset == listed.place.offset)
            {
                causes.insert(listed.id, cause);
            }
            Ok(())
        })?;
        if causes.len() == before {
            break;
        }
    }
    Ok(causes)
}

fn of_entry(check: &Check<'_>, entry: &Entry, causes: &Causes) -> Result<HashSet<Finding>> {
    let mut found = HashSet::new();
    let mut extents = |extents: &[Extent]| -> Result<()> {
        for extent in extents {
            let Extent::Chunk { id, len, .. } = extent else { continue };
            let Some(&finding) = causes.get(id) else { continue };
            // A chunk of the wrong length for one file may be right for another.
            let fits = || Ok(check.reader.index().find(id)?.is_some_and(|f| f.place.len == *len));
            if check.findings.kind(finding) != DamageKind::ChunkMismatch || !fits()? {
                found.insert(finding);
            }
        }
        Ok(())
    };
    extents(&entry.content.extents)?;
    each_list(check, &entry.content, &mut extents)?;
    found.extend(entry.content.lists.iter().filter_map(|id| causes.get(id)));
    Ok(found)
}
