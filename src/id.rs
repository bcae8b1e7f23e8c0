//! Names: 24-byte chunk ids and 16-byte random names, their hex and unique prefixes. No hashing here.

use crate::error::{Error, Result};
use std::cmp::Ordering;
use std::fmt;

/// Length of a chunk id on disk, in bytes.
pub const CHUNK_ID_LEN: usize = 24;
/// Length of a random name (pack, session, snapshot, note), in bytes.
pub const NAME_LEN: usize = 16;

/// A chunk's name: keyed BLAKE3 of its content, truncated to 24 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChunkId(pub [u8; CHUNK_ID_LEN]);

/// A random 128-bit name, never reused: packs, sessions, snapshots, index segments, notes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(pub [u8; NAME_LEN]);

/// A pack's name.
pub type PackId = Name;
/// A snapshot's name; the name of the session that committed it.
pub type SnapshotId = Name;

/// A hasher for chunk ids, which are uniform already: keyed, so that nobody outside can choose them.
#[derive(Clone, Copy, Debug, Default)]
pub struct IdHasher(u64);

impl std::hash::Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk::<8>() {
            self.0 ^= u64::from_le_bytes(*first);
        }
    }
}

/// A set of chunk ids.
pub type ChunkSet = std::collections::HashSet<ChunkId, std::hash::BuildHasherDefault<IdHasher>>;

/// The order of the bytes; the first eight decide nearly always, and as a number they are compared at once.
impl Ord for ChunkId {
    fn cmp(&self, other: &Self) -> Ordering {
        let first = |id: &ChunkId| id.0.first_chunk::<8>().map(|b| u64::from_be_bytes(*b));
        first(self).cmp(&first(other)).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for ChunkId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl ChunkId {
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        Some(ChunkId(bytes.try_into().ok()?))
    }

    /// The first eight bytes as a number; ids are uniform, so this is a hash already.
    pub fn hash64(&self) -> u64 {
        u64::from_le_bytes([
            self.0[0], self.0[1], self.0[2], self.0[3], self.0[4], self.0[5], self.0[6], self.0[7],
        ])
    }
}

impl Name {
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        Some(Name(bytes.try_into().ok()?))
    }

    /// The first eight hex digits, for people.
    pub fn short(&self) -> String {
        hex(&self.0[..4])
    }

    /// Parses exactly 32 lower-case hex digits.
    pub fn parse(text: &str) -> Result<Self> {
        unhex(text)
            .and_then(|bytes| Name::from_slice(&bytes))
            .ok_or_else(|| Error::invalid(format!("`{text}` is not an id of 32 hex digits")))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = String::with_capacity(bytes.len() * 2);
    for b in bytes {
        out.push(DIGITS[usize::from(b >> 4)] as char);
        out.push(DIGITS[usize::from(b & 15)] as char);
    }
    out
}

/// Bytes from lower-case hex; `None` for anything else.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    if !text.len().is_multiple_of(2) {
        return None;
    }
    text.as_bytes().chunks(2).map(|p| Some(digit(p[0])? << 4 | digit(p[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_ordered_as_their_bytes() {
        let mut state = 3u64;
        let mut ids: Vec<ChunkId> = (0..200)
            .map(|i| {
                let mut bytes = [0; CHUNK_ID_LEN];
                for byte in bytes.iter_mut().skip(if i % 2 == 0 { 8 } else { 0 }) {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    *byte = (state >> 61) as u8 * 36;
                }
                ChunkId(bytes)
            })
            .collect();
        ids.sort();
        assert!(ids.windows(2).all(|pair| pair[0].0 <= pair[1].0));
    }
}
