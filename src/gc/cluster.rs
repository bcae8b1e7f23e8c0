//! Versions of one manifest group, or of one content list, and the chunks that each of them names.
//!
//! Versions differ little, so each chunk is written down once, with the spans of versions that name it: a hundred
//! versions take little more room than one.

use crate::error::Result;
use crate::format::codec::{Reader, put_varint};
use crate::id::{CHUNK_ID_LEN, ChunkId};
use std::collections::HashMap;

/// A cluster of so many chunks or versions takes no more versions: it is to fit in memory.
const NAMED_MAX: usize = 1 << 16;
const VERSIONS_MAX: usize = 1 << 12;

/// A chunk named by a group or list: a piece of a file, or a content list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Named {
    pub id: ChunkId,
    pub is_list: bool,
}

/// Versions, oldest first, and what they name.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    /// What all versions have in common; says nothing but where further versions belong.
    pub key: u64,
    versions: Vec<ChunkId>,
    named: Vec<(Named, Spans)>,
    /// Place of each in `named`; made when first needed.
    places: HashMap<Named, usize>,
}

/// From the number of a version to that behind the last, ascending, apart from one another.
type Spans = Vec<(u32, u32)>;

impl Cluster {
    pub fn new(key: u64) -> Self {
        Cluster { key, ..Cluster::default() }
    }

    pub fn is_empty(&self) -> bool {
        self.versions.is_empty()
    }

    pub fn is_full(&self) -> bool {
        self.versions.len() >= VERSIONS_MAX || self.named.len() >= NAMED_MAX
    }

    /// Adds the next version.
    pub fn add(&mut self, version: ChunkId, names: impl Iterator<Item = Named>) {
        if self.places.is_empty() {
            self.places = self.named.iter().enumerate().map(|(i, (named, _))| (*named, i)).collect();
        }
        let number = self.versions.len() as u32;
        self.versions.push(version);
        for name in names {
            let place = *self.places.entry(name).or_insert_with(|| {
                self.named.push((name, Spans::new()));
                self.named.len() - 1
            });
            match self.named[place].1.last_mut() {
                // Named twice.
                Some((_, end)) if *end > number => {}
                Some((_, end)) if *end == number => *end = number + 1,
                _ => self.named[place].1.push((number, number + 1)),
            }
        }
    }

    /// Drops the versions of which `is_live` is false, and what only they named.
    pub fn retain(&mut self, is_live: impl Fn(&ChunkId) -> bool) {
        let before = counts(&self.versions, &is_live);
        self.versions.retain(|id| is_live(id));
        self.places.clear();
        for (_, spans) in &mut self.named {
            let mut kept = Spans::new();
            for (from, to) in spans.iter().map(|(from, to)| (before[*from as usize], before[*to as usize])) {
                match kept.last_mut() {
                    Some((_, end)) if *end == from => *end = to,
                    _ if from < to => kept.push((from, to)),
                    _ => {}
                }
            }
            *spans = kept;
        }
        self.named.retain(|(_, spans)| !spans.is_empty());
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.key.to_le_bytes().to_vec();
        put_varint(&mut out, self.versions.len() as u64);
        self.versions.iter().for_each(|id| out.extend_from_slice(&id.0));
        put_varint(&mut out, self.named.len() as u64);
        for (named, spans) in &self.named {
            out.extend_from_slice(&named.id.0);
            put_varint(&mut out, (spans.len() as u64) << 1 | u64::from(named.is_list));
            let mut at = 0;
            for (from, to) in spans {
                put_varint(&mut out, u64::from(from - at));
                put_varint(&mut out, u64::from(to - from));
                at = *to;
            }
        }
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut body = Body::open(bytes)?;
        let mut cluster = Cluster { key: body.key, versions: body.versions.clone(), ..Cluster::default() };
        let mut spans = Spans::new();
        while let Some(name) = body.next(&mut spans)? {
            cluster.named.push((name, spans.clone()));
        }
        Ok(cluster)
    }
}

/// How many of the first n are live, for each n up to all.
fn counts(versions: &[ChunkId], is_live: &impl Fn(&ChunkId) -> bool) -> Vec<u32> {
    let mut counts = vec![0];
    let mut count = 0;
    for id in versions {
        count += u32::from(is_live(id));
        counts.push(count);
    }
    counts
}

/// The versions of an encoded cluster, and every chunk, once, that a version names of which `is_live` is true.
pub fn scan(bytes: &[u8], is_live: &impl Fn(&ChunkId) -> bool) -> Result<(Vec<ChunkId>, Vec<Named>)> {
    let mut body = Body::open(bytes)?;
    let before = counts(&body.versions, is_live);
    let (mut spans, mut names) = (Spans::new(), Vec::new());
    while let Some(name) = body.next(&mut spans)? {
        if spans.iter().any(|(from, to)| before[*from as usize] < before[*to as usize]) {
            names.push(name);
        }
    }
    Ok((body.versions, names))
}

/// The key of an encoded cluster that can take further versions.
pub fn open_key(bytes: &[u8]) -> Option<u64> {
    let body = Body::open(bytes).ok()?;
    let is_full = body.versions.len() >= VERSIONS_MAX || body.left >= NAMED_MAX;
    (!is_full).then_some(body.key)
}

/// An encoded cluster, read from its beginning.
struct Body<'b> {
    key: u64,
    versions: Vec<ChunkId>,
    left: usize,
    rest: Reader<'b>,
}

impl<'b> Body<'b> {
    fn open(bytes: &'b [u8]) -> Result<Self> {
        let mut rest = Reader::new(bytes, "cached marks");
        let key = rest.u64()?;
        let count = rest.count(CHUNK_ID_LEN)?;
        let versions = (0..count).map(|_| rest.chunk_id()).collect::<Result<Vec<ChunkId>>>()?;
        let left = rest.count(CHUNK_ID_LEN + 3)?;
        Ok(Body { key, versions, left, rest })
    }

    /// The next chunk, and the versions that name it.
    fn next(&mut self, spans: &mut Spans) -> Result<Option<Named>> {
        if self.left == 0 {
            // Nothing may follow.
            return if self.rest.remaining() == 0 { Ok(None) } else { Err(self.rest.fail("too long")) };
        }
        self.left -= 1;
        let id = self.rest.chunk_id()?;
        let head = self.rest.varint()?;
        let mut at = 0;
        spans.clear();
        for _ in 0..head >> 1 {
            let room = |at: u64| self.versions.len() as u64 - at;
            let from = at + self.rest.bounded(room(at))?;
            at = from + self.rest.bounded(room(from))?;
            spans.push((from as u32, at as u32));
        }
        Ok(Some(Named { id, is_list: head & 1 == 1 }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::hash;
    use std::collections::BTreeSet;

    fn id(number: u64) -> ChunkId {
        ChunkId::from_slice(&hash::plain(&number.to_le_bytes())[..24]).expect("24 bytes")
    }

    fn live(bytes: &[u8], chosen: &BTreeSet<ChunkId>) -> BTreeSet<Named> {
        let (_, names) = scan(bytes, &|id| chosen.contains(id)).expect("whole");
        let found: BTreeSet<Named> = names.iter().copied().collect();
        assert_eq!(found.len(), names.len(), "each once");
        found
    }

    /// Versions come, go, and are written and read in any order; what the live ones name is what a plain list of each
    /// says.
    #[test]
    fn clusters_name_what_their_versions_named() {
        for seed in 0..200u64 {
            let mut state = seed;
            let mut draw = |below: u64| {
                state += 1;
                hash::short(&(state << 20 | seed).to_le_bytes()) % below
            };
            let mut model: Vec<(ChunkId, BTreeSet<Named>)> = Vec::new();
            let mut cluster = Cluster::new(seed);
            let mut now: BTreeSet<Named> = BTreeSet::new();
            for step in 0..40 {
                for _ in 0..draw(6) {
                    let named = Named { id: id(draw(60)), is_list: draw(5) == 0 };
                    if !now.remove(&named) {
                        now.insert(named);
                    }
                }
                let version = id(1000 + step);
                cluster.add(version, now.iter().chain(now.iter().take(2)).copied());
                model.push((version, now.clone()));
                if draw(4) == 0 {
                    let kept: BTreeSet<ChunkId> =
                        model.iter().map(|(v, _)| *v).filter(|_| draw(3) > 0).collect();
                    cluster.retain(|id| kept.contains(id));
                    model.retain(|(v, _)| kept.contains(v));
                }
                if draw(3) == 0 {
                    cluster = Cluster::decode(&cluster.encode()).expect("whole");
                }
                let chosen: BTreeSet<ChunkId> =
                    model.iter().map(|(v, _)| *v).filter(|_| draw(3) == 0).collect();
                let wanted = model.iter().filter(|(v, _)| chosen.contains(v)).flat_map(|(_, n)| n).copied();
                assert_eq!(live(&cluster.encode(), &chosen), wanted.collect(), "seed {seed}");
            }
        }
    }

    #[test]
    fn what_is_cut_short_or_too_long_is_an_error() {
        let mut cluster = Cluster::new(3);
        cluster.add(id(1), (10..20).map(|n| Named { id: id(n), is_list: n == 12 }));
        cluster.add(id(2), (12..25).map(|n| Named { id: id(n), is_list: n == 12 }));
        let whole = cluster.encode();
        for len in 0..whole.len() {
            assert!(Cluster::decode(&whole[..len]).is_err(), "{len}");
        }
        assert!(Cluster::decode(&[&whole[..], &[0]].concat()).is_err());
        assert_eq!(Cluster::decode(&whole).expect("whole").encode(), whole);
    }
}
