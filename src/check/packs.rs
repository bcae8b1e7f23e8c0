//! Every pack from its two ends: header, trailer, footer. And what may count as present because of them.

use super::damage::DamageKind;
use super::findings::{Finding, Findings};
use super::scan::scan_pack;
use crate::backend::Backend;
use crate::crypto::{ChunkSort, Keyring, hash};
use crate::error::{Error, ErrorKind, Result};
use crate::format::codec::put_varint;
use crate::format::frame::{Coding, FRAME_OVERHEAD};
use crate::format::pack::{Footer, FrameEntry};
use crate::format::{FileName, Folder};
use crate::id::{ChunkId, PackId};
use crate::progress::Progress;
use crate::repository::Repository;
use crate::repository::footer::read_footer;
use crate::repository::index::Index;
use crate::units::counted;
use rayon::prelude::{IntoParallelRefIterator, ParallelIterator};
use std::collections::{HashMap, HashSet};

/// A pack whose ends are in order.
#[derive(Clone, Copy, Debug)]
pub struct PackFacts {
    pub id: PackId,
    pub size: u64,
    pub sort: ChunkSort,
    pub chunks: u64,
    /// Plain bytes of its bodies.
    pub raw: u64,
    /// Of the sort and the footer as it is stored: what a segment says of the pack must have the same.
    pub digest: [u8; 32],
    /// What its changed chunks take in memory while they wait for their bases, in bytes.
    pub waiting: u64,
}

/// What the packs' ends say.
#[derive(Default)]
pub struct Packs {
    /// Sorted by name.
    pub sound: Vec<PackFacts>,
    /// Handed to the reader.
    pub index: Index,
    /// Without the packs that are about to be deleted; `None` when there are none of those.
    pub kept: Option<Index>,
    /// The packs that are about to be deleted. They only lend what is nowhere else: damage in them is no finding.
    pub condemned: HashSet<PackId>,
    /// Chunks seen in packs that cannot be used.
    pub unreachable: HashMap<ChunkId, Finding>,
    /// Everything listed, to see later whether somebody took a pack away meanwhile.
    pub listed: Vec<PackId>,
}

/// Reads the ends of all packs.
pub fn look(
    repository: &Repository,
    condemned: &HashSet<PackId>,
    findings: &Findings<'_>,
    progress: &Progress,
) -> Result<Packs> {
    let (backend, keyring) = (repository.backend().as_ref(), repository.keyring().as_ref());
    let mut listed: Vec<(PackId, u64)> =
        backend.list(Folder::Packs)?.iter().map(|stat| (stat.name.header_name(), stat.size)).collect();
    listed.sort_unstable();
    let looked: Vec<(PackId, u64, Result<PackFacts>)> = listed
        .par_iter()
        .map(|&(id, size)| (id, size, progress.keep_going().and_then(|()| facts(backend, keyring, id, size))))
        .collect();
    let mut packs = Packs { listed: listed.iter().map(|(id, _)| *id).collect(), ..Packs::default() };
    for (id, size, result) in looked {
        match result {
            Ok(facts) => packs.sound.push(facts),
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            // Set aside by a repair, or cut short by a collector: what is needed of it lies elsewhere, or is missing.
            Err(e) if e.kind().is_unreadable() && condemned.contains(&id) => {}
            Err(e) => {
                let path = FileName::Pack(id).path();
                if let Some(finding) = findings.sort_out(DamageKind::PackUnreadable, &path, &e)? {
                    findings.concerns(finding, id);
                    salvage(repository, findings, finding, (id, size), &mut packs)?;
                }
            }
        }
    }
    let names = |keep: &dyn Fn(&PackId) -> bool| -> Vec<(PackId, u64)> {
        packs.sound.iter().map(|p| (p.id, p.size)).filter(|(id, _)| keep(id)).collect()
    };
    let kept = names(&|id| !condemned.contains(id));
    packs.index = Index::of_packs(backend, keyring, &kept)?;
    if packs.sound.len() > kept.len() {
        packs.index.add_lesser(backend, keyring, &names(&|id| condemned.contains(id)))?;
        packs.kept = Some(Index::of_packs(backend, keyring, &kept)?);
    }
    packs.condemned.clone_from(condemned);
    Ok(packs)
}

/// Which chunks a pack without a usable footer still holds.
fn salvage(
    repository: &Repository,
    findings: &Findings<'_>,
    finding: Finding,
    (id, size): (PackId, u64),
    packs: &mut Packs,
) -> Result<()> {
    let scan = match scan_pack(repository.backend().as_ref(), repository.keyring(), id, size) {
        Ok(scan) => scan,
        Err(e) if e.kind().is_unreadable() => return Ok(()),
        Err(e) => {
            findings.unchecked(&FileName::Pack(id).path(), &e);
            return Ok(());
        }
    };
    for (_, entry) in &scan.frames {
        for chunk in entry.table.bodies.iter().flat_map(|b| &b.chunks) {
            packs.unreachable.entry(chunk.id).or_insert(finding);
        }
    }
    let pack = FileName::Pack(id);
    let text = match scan.frames.len() as u64 {
        0 => format!("{pack}: nothing in it can still be read"),
        frames => {
            let frames = counted(frames, "intact frame", "intact frames");
            format!("{pack}: {frames} with {} can still be read", counted(scan.chunks(), "chunk", "chunks"))
        }
    };
    findings.inform("pack-salvage", text);
    Ok(())
}

fn facts(backend: &dyn Backend, keyring: &Keyring, id: PackId, size: u64) -> Result<PackFacts> {
    let (footer, sort) = read_footer(backend, keyring, id, size)?;
    let digest = digest(sort, &footer);
    let mut facts = PackFacts { id, size, sort, chunks: 0, raw: 0, digest, waiting: 0 };
    let mut scratch = Vec::new();
    for entry in &footer.frames {
        if frame_len(entry, &mut scratch) != u64::from(entry.len) {
            let at = entry.offset;
            return Err(Error::corrupt(format!(
                "the footer's table of the frame at {at} does not fit the frame"
            )));
        }
        for body in &entry.table.bodies {
            facts.chunks += body.chunks.len() as u64;
            facts.raw += body.raw_len() as u64;
            if let Coding::Prefix(prefix) = &body.coding {
                facts.waiting += u64::from(body.stored_len) + super::forest::waiting(prefix.bases.len());
            }
        }
    }
    check_ids(&footer)?;
    Ok(facts)
}

/// One number for everything a footer says.
pub fn digest(sort: ChunkSort, footer: &Footer) -> [u8; 32] {
    let mut bytes = footer.encode();
    bytes.push(sort.frame_kind() as u8);
    hash::plain(&bytes)
}

/// The length a frame with this table must have.
fn frame_len(entry: &FrameEntry, scratch: &mut Vec<u8>) -> u64 {
    scratch.clear();
    entry.table.encode(scratch);
    let table = scratch.len();
    put_varint(scratch, table as u64);
    let stored: u64 = entry.table.bodies.iter().map(|b| u64::from(b.stored_len)).sum();
    (FRAME_OVERHEAD + scratch.len()) as u64 + stored
}

/// The index counts bodies and chunks with 16 bits; a footer beyond that was not written by this program.
fn check_ids(footer: &Footer) -> Result<()> {
    let max = usize::from(u16::MAX);
    let fits = |entry: &FrameEntry| {
        entry.table.bodies.len() <= max && entry.table.bodies.iter().all(|b| b.chunks.len() <= max)
    };
    if footer.frames.iter().all(fits) { Ok(()) } else { Err(Error::corrupt("a frame holds too many chunks")) }
}

/// How a chunk stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Steps to a whole copy.
    Depth(u8),
    /// It builds, in the end, on a chunk that is nowhere.
    Missing(ChunkId),
    /// It builds on itself, or on more than a reader follows.
    Endless,
}

/// Follows histories, remembering what it learned.
#[derive(Default)]
pub struct Depths {
    known: std::sync::Mutex<HashMap<ChunkId, Standing>>,
}

impl Depths {
    /// How the chunk stands by this index.
    pub fn of(&self, index: &Index, id: &ChunkId) -> Result<Standing> {
        self.follow(index, id, &mut Vec::new())
    }

    fn follow(&self, index: &Index, id: &ChunkId, path: &mut Vec<ChunkId>) -> Result<Standing> {
        let Some(found) = index.find(id)? else { return Ok(Standing::Missing(*id)) };
        if found.place.depth == 0 {
            return Ok(Standing::Depth(0));
        }
        let lock = || self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(known) = lock().get(id) {
            return Ok(known.clone());
        }
        let max = usize::from(crate::format::limit::DEPTH_MAX);
        if path.contains(id) || path.len() > max {
            return Ok(Standing::Endless);
        }
        path.push(*id);
        let mut standing = Standing::Depth(1);
        for base in index.bases(id, &found)? {
            standing = match (self.follow(index, &base, path)?, standing) {
                (Standing::Depth(n), Standing::Depth(m)) => Standing::Depth(m.max(n.saturating_add(1))),
                (bad, _) => bad,
            };
            if !matches!(standing, Standing::Depth(_)) {
                break;
            }
        }
        path.pop();
        if matches!(standing, Standing::Depth(n) if usize::from(n) > max) {
            standing = Standing::Endless;
        }
        // In the middle of a path "endless" may only mean "too far from where we began".
        if standing != Standing::Endless || path.is_empty() {
            lock().insert(*id, standing.clone());
        }
        Ok(standing)
    }
}
