//! Manifest roots: the first path and id of each group, in levels when there are many.
//!
//! Bytes: `format-spec/5-manifest.md`.

use super::codec::{Reader, put_string, put_varint};
use super::entry::path_order;
use super::limit;
use crate::error::Result;
use crate::id::{CHUNK_ID_LEN, ChunkId};

const TAG_ROOT: u8 = b'R';

/// One group, or one root of the level below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootItem {
    /// The first path it holds.
    pub first: Vec<u8>,
    pub id: ChunkId,
    /// The group's stat column, where one was stored; never on higher levels.
    pub stat: Option<ChunkId>,
    /// Entries below.
    pub entries: u64,
    /// Bytes of the files below, each name of a hard-linked file counted.
    pub bytes: u64,
}

/// A root: level 0 lists groups, level n lists roots of level n - 1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Root {
    pub level: u8,
    pub items: Vec<RootItem>,
}

impl Root {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![TAG_ROOT, self.level];
        put_varint(&mut out, self.items.len() as u64);
        for item in &self.items {
            put_string(&mut out, &item.first);
            put_varint(&mut out, item.entries);
            put_varint(&mut out, item.bytes);
            out.push(u8::from(item.stat.is_some()));
        }
        for item in &self.items {
            out.extend_from_slice(&item.id.0);
            if let Some(stat) = &item.stat {
                out.extend_from_slice(&stat.0);
            }
        }
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut r = Reader::new(bytes, "a manifest root");
        if r.u8()? != TAG_ROOT {
            return Err(r.fail("is something else"));
        }
        let level = r.u8()?;
        if level > limit::LEVELS_MAX {
            return Err(r.fail("too many levels"));
        }
        let count = r.count(4 + CHUNK_ID_LEN)?;
        let mut items: Vec<RootItem> = Vec::with_capacity(count);
        let mut with_stat = Vec::with_capacity(count);
        let mut total = 0u64;
        for _ in 0..count {
            let first = r.string(limit::PATH_BYTES_MAX)?.to_vec();
            if items.last().is_some_and(|last| path_order(&last.first, &first).is_ge()) {
                return Err(r.fail("groups out of order"));
            }
            let (entries, bytes) = (r.varint()?, r.varint()?);
            let stat = r.u8()?;
            if entries == 0 || stat > 1 || (stat == 1 && level > 0) {
                return Err(r.fail("a damaged item"));
            }
            total = total.checked_add(entries).ok_or_else(|| r.fail("too many entries"))?;
            with_stat.push(stat == 1);
            items.push(RootItem { first, id: ChunkId([0; CHUNK_ID_LEN]), stat: None, entries, bytes });
        }
        for (item, stat) in items.iter_mut().zip(with_stat) {
            item.id = r.chunk_id()?;
            item.stat = if stat { Some(r.chunk_id()?) } else { None };
        }
        r.end()?;
        Ok(Root { level, items })
    }

    pub fn entries(&self) -> u64 {
        self.items.iter().fold(0, |n, item| n.saturating_add(item.entries))
    }

    pub fn bytes(&self) -> u64 {
        self.items.iter().fold(0, |n, item| n.saturating_add(item.bytes))
    }
}
