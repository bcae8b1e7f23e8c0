//! All index segments of a repository: read those that save requests, merge small ones, remove those that are of no
//! more use.
//!
//! Nothing here is needed for safety: whatever goes wrong costs reading footers from packs.

use super::footer::read_footer;
use super::segment::{Filed, Filing, SEGMENT_FULL, entry, read};
use super::{Repository, removal};
use crate::backend::{Backend, FileStat};
use crate::crypto::Keyring;
use crate::error::{ErrorKind, Result};
use crate::format::segment::Segment;
use crate::format::{Folder, limit};
use crate::id::{Name, PackId};
use rayon::prelude::{IntoParallelRefIterator, ParallelIterator};
use std::collections::{BTreeMap, HashMap, HashSet};

/// A footer takes so many requests: the pack's beginning, its trailer, the footer itself.
const REQUESTS_PER_FOOTER: u64 = 3;
/// So many bytes take as long as one request more.
const BYTES_PER_REQUEST: u64 = 1 << 20;
/// Footers of fewer packs are simply read.
const PACKS_WORTH_ASKING: usize = 4;
/// Segments read at a time.
const SIDE_BY_SIDE: usize = 4;
/// So many segments of about one size are merged into one.
const MERGED: usize = 8;
/// All segments of fewer bytes count as of one size.
const SMALL: u64 = 4 << 10;

/// Hands segments to `take`, which says how many packs are still unknown, as long as that promises to take less than
/// reading the footers of these. A segment that cannot be read is as good as none. `cold`: hardly any pack is known.
pub fn consult(
    backend: &dyn Backend,
    keyring: &Keyring,
    mut unknown: usize,
    cold: bool,
    take: &mut dyn FnMut(Segment) -> usize,
) {
    if unknown < PACKS_WORTH_ASKING {
        return;
    }
    let Ok(mut listed) = backend.list(Folder::Index) else { return };
    listed.retain(|stat| stat.size <= limit::SEGMENT_BYTES_MAX);
    // The latest are the smallest. To whom everything is new, the largest say most, and which of the others are of no
    // use.
    listed.sort_unstable_by_key(|stat| (stat.size, stat.name));
    if !cold {
        listed.reverse();
    }
    let (mut superseded, mut wasted) = (HashSet::new(), 0);
    while unknown > 0 {
        let (mut batch, mut cost) = (Vec::new(), 0);
        while batch.len() < SIDE_BY_SIDE {
            let Some(stat) = listed.pop() else { break };
            let more = 1 + stat.size / BYTES_PER_REQUEST;
            let affordable = wasted + cost + more <= REQUESTS_PER_FOOTER * unknown as u64;
            if affordable && !superseded.contains(&stat.name.header_name()) {
                cost += more;
                batch.push(stat);
            }
        }
        if batch.is_empty() {
            return;
        }
        let read: Vec<(FileStat, Option<Segment>)> = batch
            .par_iter()
            .map(|stat| (*stat, read(backend, keyring, stat.name.header_name()).ok()))
            .collect();
        for (stat, segment) in read {
            let before = unknown;
            if let Some(segment) = segment {
                superseded.extend(segment.supersedes.iter().copied());
                unknown = take(segment);
            }
            if unknown == before {
                wasted += 1 + stat.size / BYTES_PER_REQUEST;
            }
        }
    }
}

/// What was done to the segments.
#[derive(Clone, Debug, Default)]
pub struct Tended {
    pub filed: Filed,
    pub removed: u64,
    /// Those that are not as they were written, with the reason.
    pub damaged: Vec<(Name, String)>,
}

/// A segment and the packs it lists.
struct Listed {
    name: Name,
    size: u64,
    packs: Vec<PackId>,
}

/// How closely segments are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Care {
    /// Damaged ones stay, for `check` to tell.
    Tidy,
    /// Each is compared with the packs it lists; what is not as it should be is removed.
    Repair,
}

/// Removes segments that say nothing that others do not say, or only of packs that are gone. Where segments are to be
/// written, also merges small ones and adds what none says yet.
pub fn tend(repository: &Repository, care: Care) -> Result<Tended> {
    let backend = repository.backend().as_ref();
    let writes = repository.writes_segments();
    let mut tended = Tended::default();
    let stats = backend.list(Folder::Index)?;
    if stats.is_empty() && !writes {
        return Ok(tended);
    }
    let segments = survey(repository, stats, care, &mut tended.damaged)?;
    // After the segments: a pack that one of them lists and that is not here is gone for good.
    let packs = sizes(backend)?;
    let (mut covered, mut kept) = (HashSet::new(), Vec::new());
    let (mut rewrite, mut useless) = (Vec::new(), Vec::new());
    for Listed { name, size, packs: listed } in segments {
        let alive = listed.iter().filter(|id| packs.contains_key(id) && covered.insert(**id)).count();
        match alive {
            0 => useless.push(name),
            alive if writes && alive * 2 < listed.len() => rewrite.push(name),
            _ => kept.push((name, size)),
        }
    }
    if writes {
        rewrite.extend(crowded(&kept));
        let mut missing: Vec<(PackId, u64)> =
            packs.iter().map(|(id, size)| (*id, *size)).filter(|(id, _)| !covered.contains(id)).collect();
        missing.sort_unstable();
        (tended.filed, rewrite) = file(repository, &rewrite, 1, &missing, &mut |id| packs.contains_key(id))?;
    }
    let damaged = tended.damaged.iter().map(|(name, _)| *name).filter(|_| care == Care::Repair);
    for name in rewrite.into_iter().chain(useless).chain(damaged) {
        removal::segment(backend, name)?;
        tended.removed += 1;
    }
    Ok(tended)
}

fn sizes(backend: &dyn Backend) -> Result<HashMap<PackId, u64>> {
    Ok(backend.list(Folder::Packs)?.iter().map(|stat| (stat.name.header_name(), stat.size)).collect())
}

/// What every segment lists, the largest first.
fn survey(
    repository: &Repository,
    mut stats: Vec<FileStat>,
    care: Care,
    damaged: &mut Vec<(Name, String)>,
) -> Result<Vec<Listed>> {
    let (backend, keyring) = (repository.backend().as_ref(), repository.keyring().as_ref());
    let there = if care == Care::Repair { sizes(backend)? } else { HashMap::new() };
    stats.sort_unstable_by_key(|stat| (std::cmp::Reverse(stat.size), stat.name));
    let mut segments = Vec::new();
    for FileStat { name, size } in stats {
        let name = name.header_name();
        match read(backend, keyring, name) {
            Ok(segment) => match contradicted(backend, keyring, &segment, &there)? {
                Some(pack) => {
                    let why = format!("what it says of pack {pack} is not what the pack says itself");
                    damaged.push((name, why));
                }
                None => {
                    let packs = segment.packs.iter().map(|entry| entry.pack).collect();
                    segments.push(Listed { name, size, packs });
                }
            },
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            // A later version's is none of ours, unless a flipped bit only makes it look so.
            Err(e) if e.kind() == ErrorKind::Unsupported && care == Care::Tidy => {}
            Err(e) if e.kind().is_unreadable() => damaged.push((name, e.message().to_owned())),
            Err(e) => return Err(e),
        }
    }
    Ok(segments)
}

/// One of these packs whose own footer is another than the segment says.
fn contradicted(
    backend: &dyn Backend,
    keyring: &Keyring,
    segment: &Segment,
    packs: &HashMap<PackId, u64>,
) -> Result<Option<PackId>> {
    for batch in segment.packs.chunks(64) {
        let wrong: Vec<Option<PackId>> = batch
            .par_iter()
            .map(|said| {
                let Some(&size) = packs.get(&said.pack) else { return Ok(None) };
                match read_footer(backend, keyring, said.pack, size) {
                    Ok((footer, sort)) => Ok((entry(said.pack, sort, footer) != *said).then_some(said.pack)),
                    // Of a damaged pack nothing can be said.
                    Err(e) if e.kind() == ErrorKind::NotFound || e.kind().is_unreadable() => Ok(None),
                    Err(e) => Err(e),
                }
            })
            .collect::<Result<_>>()?;
        if let Some(pack) = wrong.into_iter().flatten().next() {
            return Ok(Some(pack));
        }
    }
    Ok(None)
}

/// Merges segments where there are many of about one size: for writers, who do not look at anything else.
pub fn merge_crowded(repository: &Repository) -> Result<()> {
    let backend = repository.backend().as_ref();
    let listed = backend.list(Folder::Index)?;
    let sizes: Vec<(Name, u64)> = listed.iter().map(|stat| (stat.name.header_name(), stat.size)).collect();
    let chosen = crowded(&sizes);
    if chosen.is_empty() {
        return Ok(());
    }
    let (_, merged) = file(repository, &chosen, 2, &[], &mut |_| true)?;
    // Only now: what they say stands elsewhere, durably.
    merged.into_iter().try_for_each(|name| removal::segment(backend, name))
}

/// Stores what these segments say of packs that `keep` wants, and what the footers of these packs say. Returns also the
/// segments that could be read, which are now of no more use; nothing is done where these are fewer than `least`.
fn file(
    repository: &Repository,
    segments: &[Name],
    least: usize,
    packs: &[(PackId, u64)],
    keep: &mut dyn FnMut(&PackId) -> bool,
) -> Result<(Filed, Vec<Name>)> {
    let (backend, keyring) = (repository.backend().as_ref(), repository.keyring().as_ref());
    let (mut filing, mut done, mut known) = (Filing::new(backend, keyring), HashSet::new(), Vec::new());
    for name in segments {
        match read(backend, keyring, *name) {
            Ok(segment) => {
                known.push(*name);
                for entry in segment.packs {
                    if keep(&entry.pack) && done.insert(entry.pack) {
                        filing.add(entry)?;
                    }
                }
            }
            // Somebody else has merged it, or it is damaged or of a later version, which is for others to tell.
            Err(e) if e.kind() == ErrorKind::NotFound || e.kind().is_unreadable() => {}
            Err(e) => return Err(e),
        }
    }
    if known.len() < least && packs.is_empty() {
        return Ok((Filed::default(), Vec::new()));
    }
    for batch in packs.chunks(64) {
        let footers: Vec<_> =
            batch.par_iter().map(|&(id, size)| (id, read_footer(backend, keyring, id, size))).collect();
        for (id, footer) in footers {
            match footer {
                Ok((footer, sort)) => filing.add(entry(id, sort, footer))?,
                Err(e) if e.kind() == ErrorKind::NotFound || e.kind().is_unreadable() => {}
                Err(e) => return Err(e),
            }
        }
    }
    Ok((filing.finish(known.clone())?, known))
}

/// Those of which there are too many of one size.
fn crowded(segments: &[(Name, u64)]) -> Vec<Name> {
    let mut classes: BTreeMap<u32, Vec<Name>> = BTreeMap::new();
    for (name, size) in segments {
        // Two of the largest do not fit into one.
        if *size < SEGMENT_FULL as u64 / 2 {
            let class = (size / SMALL).checked_ilog(MERGED as u64).map_or(0, |n| n + 1);
            classes.entry(class).or_default().push(*name);
        }
    }
    classes.into_values().filter(|names| names.len() >= MERGED).flatten().collect()
}
