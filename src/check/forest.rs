//! Changed chunks against their bases, each decoded once: the chunks that build on one another form trees, and a
//! tree is walked from its root with no more in memory than the way down.
//!
//! Taken one by one in the order of the packs, each would need its whole history decoded again.

use super::Check;
use super::damage::DamageKind;
use super::data::DataCounts;
use crate::compress::decompress_with_prefix;
use crate::crypto::ChunkSort;
use crate::error::{Error, ErrorKind, Result};
use crate::format::frame::{ChunkInfo, Prefix};
use crate::format::limit;
use crate::id::{CHUNK_ID_LEN, ChunkId, PackId};
use rayon::prelude::{IntoParallelIterator, ParallelIterator};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Longer bodies are not kept for what builds on them but fetched again: no writer makes them.
const KEPT_BYTES: usize = 2 << 20;

/// A changed body as it lies in its frame.
pub struct Delta {
    pub pack: PackId,
    pub sort: ChunkSort,
    pub offset: u32,
    pub body: u16,
    pub prefix: Prefix,
    pub chunks: Vec<ChunkInfo>,
    pub stored: Box<[u8]>,
}

/// What a waiting body takes in memory beside its stored bytes, roughly.
pub fn waiting(bases: usize) -> u64 {
    (std::mem::size_of::<Delta>() + 96 + bases * CHUNK_ID_LEN) as u64
}

/// Bodies that wait for their bases, ordered into trees.
pub struct Forest {
    deltas: Vec<Delta>,
    children: Vec<Vec<u32>>,
    /// Bodies whose first base lies elsewhere, those on the same base together.
    roots: Vec<u32>,
    reached: Vec<AtomicBool>,
}

/// Plain bytes of the body in front, shared by all that build on it.
struct Above {
    plain: Arc<Vec<u8>>,
    /// The chunk in it that serves as first base.
    start: usize,
    end: usize,
}

struct Todo {
    number: u32,
    above: Option<Above>,
    /// The base cannot be had; so this one neither.
    lost: bool,
    depth: u8,
}

impl Forest {
    pub fn plant(check: &Check<'_>, deltas: Vec<Delta>) -> Result<Self> {
        let index = check.reader.index();
        let mut by_chunk: HashMap<ChunkId, u32> = HashMap::new();
        for (number, delta) in deltas.iter().enumerate() {
            for chunk in &delta.chunks {
                // Another copy of the same chunk may stand elsewhere: what counts is the one that readers take.
                let best = index.find(&chunk.id)?.is_some_and(|f| {
                    (f.pack.id, f.place.offset, f.place.body) == (delta.pack, delta.offset, delta.body)
                });
                if best {
                    by_chunk.insert(chunk.id, number as u32);
                }
            }
        }
        let mut forest = Forest {
            children: deltas.iter().map(|_| Vec::new()).collect(),
            reached: deltas.iter().map(|_| AtomicBool::new(false)).collect(),
            roots: Vec::new(),
            deltas,
        };
        let mut keyed = Vec::new();
        for (number, delta) in forest.deltas.iter().enumerate() {
            let first = &delta.prefix.bases[0];
            match by_chunk.get(first) {
                Some(&parent) => forest.children[parent as usize].push(number as u32),
                None => {
                    let place =
                        index.find(first)?.map(|f| (f.pack.id, f.place.offset, f.place.body, f.place.slot));
                    keyed.push((place, number as u32));
                }
            }
        }
        keyed.sort_unstable();
        forest.roots = keyed.into_iter().map(|(_, number)| number).collect();
        Ok(forest)
    }

    /// Decodes and proves everything.
    pub fn look(self, check: &Check<'_>, counts: &DataCounts) -> Result<()> {
        // Neighbours in `roots` share whole bodies, and rayon gives each thread a stretch of them.
        self.roots.clone().into_par_iter().try_for_each(|root| {
            check.progress.keep_going()?;
            self.tree(check, counts, root)
        })?;
        for (delta, reached) in self.deltas.iter().zip(&self.reached) {
            if !reached.load(Ordering::Relaxed) {
                let id = &delta.chunks[0].id;
                let why = format!("chunk {id} builds, in the end, on itself");
                let finding = check.findings.add_pack(DamageKind::ChunkUndecodable, delta.pack, why);
                delta.chunks.iter().for_each(|c| check.findings.blame(finding, &c.id));
            }
        }
        Ok(())
    }

    fn tree(&self, check: &Check<'_>, counts: &DataCounts, root: u32) -> Result<()> {
        let mut todo = vec![Todo { number: root, above: None, lost: false, depth: 1 }];
        while let Some(next) = todo.pop() {
            let number = next.number as usize;
            let delta = &self.deltas[number];
            self.reached[number].store(true, Ordering::Relaxed);
            let plain = if next.lost { None } else { self.body(check, delta, &next)? };
            let plain = plain.map(Arc::new);
            if let Some(plain) = &plain {
                counts.chunks.fetch_add(delta.chunks.len() as u64, Ordering::Relaxed);
                counts.raw.fetch_add(plain.len() as u64, Ordering::Relaxed);
            }
            for &child in &self.children[number] {
                let above = plain.as_ref().filter(|p| p.len() <= KEPT_BYTES).and_then(|plain| {
                    let (start, end) = range_of(delta, &self.deltas[child as usize].prefix.bases[0])?;
                    Some(Above { plain: Arc::clone(plain), start, end })
                });
                todo.push(Todo {
                    number: child,
                    above,
                    lost: plain.is_none(),
                    depth: next.depth.saturating_add(1),
                });
            }
        }
        Ok(())
    }

    /// One body; `None` when it, or what it builds on, is damaged. That has become a finding then.
    fn body(&self, check: &Check<'_>, delta: &Delta, todo: &Todo) -> Result<Option<Vec<u8>>> {
        let damaged = |why: String| {
            let finding = check.findings.add_pack(DamageKind::PackDamaged, delta.pack, why);
            delta.chunks.iter().for_each(|c| check.findings.blame(finding, &c.id));
            Ok(None)
        };
        if todo.depth > limit::DEPTH_MAX {
            let why = format!(
                "chunk {} builds on more than {} others in a row",
                delta.chunks[0].id,
                limit::DEPTH_MAX
            );
            let finding = check.findings.add_pack(DamageKind::ChunkUndecodable, delta.pack, why);
            delta.chunks.iter().for_each(|c| check.findings.blame(finding, &c.id));
            return Ok(None);
        }
        let Some(history) = history(check, delta, todo.above.as_ref())? else { return Ok(None) };
        if history.len() != delta.prefix.len as usize {
            return damaged(format!("the history of chunk {} is not as long as stated", delta.chunks[0].id));
        }
        let raw_len: usize = delta.chunks.iter().map(|c| c.len as usize).sum();
        let plain = match decompress_with_prefix(&delta.stored, &history, raw_len) {
            Ok(plain) => plain,
            Err(e) => return damaged(format!("chunk {}: {e}", delta.chunks[0].id)),
        };
        let mut at = 0;
        for chunk in &delta.chunks {
            let end = at + chunk.len as usize;
            if check.repository.keyring().chunk_id(delta.sort, &plain[at..end]) != chunk.id {
                return damaged(format!("chunk {} has another content than its name says", chunk.id));
            }
            at = end;
        }
        Ok(Some(plain))
    }
}

/// Where a chunk lies in a body.
fn range_of(delta: &Delta, id: &ChunkId) -> Option<(usize, usize)> {
    let mut start = 0;
    for chunk in &delta.chunks {
        let end = start + chunk.len as usize;
        if chunk.id == *id {
            return Some((start, end));
        }
        start = end;
    }
    None
}

/// The bases' bytes, one after another: the first from the body above where it is at hand.
fn history(check: &Check<'_>, delta: &Delta, above: Option<&Above>) -> Result<Option<Vec<u8>>> {
    let mut history = Vec::with_capacity(delta.prefix.len as usize);
    for (i, base) in delta.prefix.bases.iter().enumerate() {
        if let Some(above) = above.filter(|_| i == 0) {
            history.extend_from_slice(&above.plain[above.start..above.end]);
            continue;
        }
        if check.findings.cause(base).is_some() {
            return Ok(None);
        }
        match check.reader.get(delta.sort, base) {
            Ok(chunk) if history.len() + chunk.len() > delta.prefix.len as usize => {
                // Too long by at least a byte: the caller compares.
                history.resize(delta.prefix.len as usize + 1, 0);
                return Ok(Some(history));
            }
            Ok(chunk) => history.extend_from_slice(&chunk),
            Err(e) if e.kind().is_unreadable() => {
                lost_base(check, delta, base, &e)?;
                return Ok(None);
            }
            Err(e) if e.kind() == ErrorKind::Cancelled => return Err(e),
            Err(e) => {
                check.findings.unchecked(&format!("chunk {base}"), &e);
                return Ok(None);
            }
        }
    }
    Ok(Some(history))
}

/// A base cannot be read. Where it is simply gone, nothing that counts needs it: the structure would have told.
fn lost_base(check: &Check<'_>, delta: &Delta, base: &ChunkId, error: &Error) -> Result<()> {
    if check.reader.index().present(base)? {
        check.culprit(delta.sort, base, error)?;
    } else if check.findings.cause(&delta.chunks[0].id).is_none() {
        check.strays.fetch_add(delta.chunks.len() as u64, Ordering::Relaxed);
    }
    Ok(())
}
