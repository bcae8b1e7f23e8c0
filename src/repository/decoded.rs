//! Bases that were decoded once and will be asked for again, in a nameless file.
//!
//! A database that was rewritten in another order is stored against chunks that lie scattered over the older image, each of
//! them a base of many. No cache in memory holds them all; decoding each anew for every chunk that needs it took three times
//! as long as all the rest of a restore. What comes from here is proved as all else is: by the name of what is made of it.

use crate::error::Result;
use crate::format::frame::Body;
use crate::id::ChunkId;
use crate::os::spool::Spool;
use std::collections::HashMap;
use std::path::Path;

/// Chunks whose places are kept; some 60 bytes each.
const CHUNKS_MAX: usize = 1 << 18;
/// As long as they are few they stay in memory.
const MEMORY: usize = 4 << 20;

/// Plain bytes of chunks, by name.
pub struct Decoded {
    spool: Spool,
    places: HashMap<ChunkId, (u64, u32)>,
    len: u64,
    room: u64,
}

impl Decoded {
    /// At most `room` bytes, in the directory `dir`.
    pub fn new(dir: &Path, room: u64) -> Self {
        Decoded { spool: Spool::new(dir, MEMORY), places: HashMap::new(), len: 0, room }
    }

    /// Keeps the chunks of a body, unless there is no room.
    pub fn keep(&mut self, body: &Body, plain: &[u8]) {
        if !self.wants(body) {
            return;
        }
        if self.spool.append(plain).is_err() {
            // A full disk: what is there serves on.
            self.room = 0;
            return;
        }
        let mut at = self.len;
        for chunk in &body.chunks {
            self.places.insert(chunk.id, (at, chunk.len));
            at += u64::from(chunk.len);
        }
        self.len += plain.len() as u64;
    }

    /// Whether the body is not kept yet, and there is room for it.
    fn wants(&self, body: &Body) -> bool {
        let has_room = self.len + body.raw_len() as u64 <= self.room
            && self.places.len() + body.chunks.len() <= CHUNKS_MAX;
        has_room && !body.chunks.iter().all(|chunk| self.places.contains_key(&chunk.id))
    }

    /// Appends a chunk's bytes to `out`; whether it is here.
    pub fn get(&self, id: &ChunkId, out: &mut Vec<u8>) -> Result<bool> {
        let Some((at, len)) = self.places.get(id) else { return Ok(false) };
        let start = out.len();
        out.resize(start + *len as usize, 0);
        self.spool.read(*at, &mut out[start..])?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::frame::{ChunkInfo, Coding};
    use crate::id::CHUNK_ID_LEN;

    fn body(numbers: std::ops::Range<u8>, len: u32) -> (Body, Vec<u8>) {
        let chunks: Vec<ChunkInfo> =
            numbers.clone().map(|n| ChunkInfo { id: ChunkId([n; CHUNK_ID_LEN]), len, version: 0 }).collect();
        let plain = numbers.flat_map(|n| vec![n; len as usize]).collect();
        (Body { coding: Coding::Zstd, stored_len: 1, chunks }, plain)
    }

    #[test]
    fn what_is_kept_comes_back_and_room_is_not_exceeded() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut decoded = Decoded::new(dir.path(), 9 << 20);
        for first in [0, 4, 8] {
            let (body, plain) = body(first..first + 4, 1 << 20);
            decoded.keep(&body, &plain);
            decoded.keep(&body, &plain);
        }
        for n in 0..12u8 {
            let mut out = vec![7];
            let there = decoded.get(&ChunkId([n; CHUNK_ID_LEN]), &mut out).expect("read");
            assert_eq!(there, n < 8, "chunk {n}");
            assert!(!there || out.len() == (1 << 20) + 1 && out[1..].iter().all(|b| *b == n), "chunk {n}");
        }
        assert!(std::fs::read_dir(dir.path()).expect("listed").next().is_none(), "nobody sees a file");
    }
}
