//! What chunks are called here and there.

use crate::error::Result;
use crate::format::entry::{Entry, Extent, path_order};
use crate::format::limit;
use crate::id::ChunkId;
use crate::manifest::content;
use crate::manifest::walk::Walk;
use crate::progress::Progress;
use crate::repository::reader::Reader;
use crate::repository::snapshots::Listed;
use std::cmp::Ordering;
use std::collections::HashMap;

/// Names here to names there. Some 60 bytes for each chunk that was met in this run.
#[derive(Default)]
pub struct Ids {
    /// Of chunks that committed snapshots there use.
    pub settled: HashMap<ChunkId, ChunkId>,
    /// Of chunks that the snapshot being copied has stored.
    pub fresh: HashMap<ChunkId, ChunkId>,
    /// For a chunk that is not there: one that is, and resembles it enough to serve as history in its place.
    pub stand_ins: HashMap<ChunkId, ChunkId>,
}

impl Ids {
    pub fn get(&self, id: &ChunkId) -> Option<ChunkId> {
        self.fresh.get(id).or_else(|| self.settled.get(id)).copied()
    }

    /// Takes the names of a snapshot's chunks from its copy, so that what both have need not be read again. Whatever
    /// stands in the way costs time, not the copy.
    pub fn learn(
        &mut self,
        (here, ours): (&Reader, &Listed),
        (there, theirs): (&Reader, &Listed),
        progress: &Progress,
    ) -> Result<()> {
        let (Ok(mut ours), Ok(mut theirs)) =
            (Walk::new(here, &ours.root, b""), Walk::new(there, &theirs.root, b""))
        else {
            return Ok(());
        };
        let (mut a, mut b) = (ours.next(), theirs.next());
        while let (Some(Ok(x)), Some(Ok(y))) = (&a, &b) {
            progress.keep_going()?;
            let order = path_order(&x.path, &y.path);
            if order == Ordering::Equal
                && let Some(pairs) = pairs(here, x, there, y)
            {
                for (name, copy) in pairs {
                    self.learn_one(here, name, copy);
                }
            }
            if order.is_le() {
                a = ours.next();
            }
            if order.is_ge() {
                b = theirs.next();
            }
        }
        Ok(())
    }

    /// A name, and a stand-in for every older version that the chunk here goes back to.
    fn learn_one(&mut self, reader: &Reader, here: ChunkId, there: ChunkId) {
        if self.settled.insert(here, there).is_some() {
            return;
        }
        let mut todo = vec![here];
        for _ in 0..limit::DEPTH_MAX {
            let Some(id) = todo.pop() else { return };
            for base in bases(reader, &id).unwrap_or_default() {
                self.stand_ins.insert(base, there);
                todo.push(base);
            }
        }
    }
}

/// What the chunk is stored against.
pub fn bases(reader: &Reader, id: &ChunkId) -> Result<Vec<ChunkId>> {
    let index = reader.index();
    index.find(id)?.map_or(Ok(Vec::new()), |found| index.bases(id, &found))
}

/// The chunks of one file here and of its copy there; `None` when they are not surely the same.
fn pairs(here: &Reader, x: &Entry, there: &Reader, y: &Entry) -> Option<Vec<(ChunkId, ChunkId)>> {
    let same = |e: &Entry| (e.content.size, e.content.hash, e.meta.mtime);
    if !x.is_file() || !y.is_file() || same(x) != same(y) {
        return None;
    }
    let (ours, theirs) =
        (content::extents(here, &x.content).ok()?, content::extents(there, &y.content).ok()?);
    let mut pairs = Vec::with_capacity(ours.len());
    for (a, b) in ours.iter().zip(&theirs) {
        match (a, b) {
            (Extent::Hole { len: a }, Extent::Hole { len: b }) if a == b => {}
            (Extent::Chunk { id: a, len, repeat }, Extent::Chunk { id: b, len: l, repeat: r })
                if (len, repeat) == (l, r) =>
            {
                pairs.push((*a, *b));
            }
            _ => return None,
        }
    }
    (ours.len() == theirs.len()).then_some(pairs)
}
