//! BLAKE3: keyed names, derived keys, plain file hashes. The only home of the blake3 crate.

use crate::id::{CHUNK_ID_LEN, ChunkId};

/// A running plain BLAKE3-256, as `b3sum` computes it.
#[derive(Clone)]
pub struct FileHash(blake3::Hasher);

impl FileHash {
    pub fn new() -> Self {
        FileHash(blake3::Hasher::new())
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// `len` zero bytes, without having them.
    pub fn update_zeros(&mut self, mut len: u64) {
        static ZEROS: [u8; 65_536] = [0; 65_536];
        while len > 0 {
            let n = len.min(ZEROS.len() as u64) as usize;
            self.0.update(&ZEROS[..n]);
            len -= n as u64;
        }
    }

    pub fn finish(&self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }
}

impl Default for FileHash {
    fn default() -> Self {
        FileHash::new()
    }
}

/// Plain BLAKE3-256 of some bytes.
pub fn plain(bytes: &[u8]) -> [u8; 32] {
    *blake3::hash(bytes).as_bytes()
}

/// Keyed BLAKE3-256 of several parts, one after another.
pub fn keyed(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    for part in parts {
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

/// A chunk's name under `key`: the first 24 bytes of the keyed hash.
pub fn chunk_id(key: &[u8; 32], plain: &[u8]) -> ChunkId {
    let hash = blake3::keyed_hash(key, plain);
    let mut id = [0; CHUNK_ID_LEN];
    id.copy_from_slice(&hash.as_bytes()[..CHUNK_ID_LEN]);
    ChunkId(id)
}

/// A key of its own for each purpose; `context` is fixed in the format (chapter 6).
pub fn derive(context: &str, material: &[u8]) -> [u8; 32] {
    blake3::derive_key(context, material)
}

/// Any number of bytes derived for one purpose.
pub fn derive_long(context: &str, material: &[u8], out: &mut [u8]) {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    hasher.update(material);
    hasher.finalize_xof().fill(out);
}

/// Eight bytes for decisions that are nobody's secret and no part of the format: group cuts, sampling.
pub fn short(bytes: &[u8]) -> u64 {
    let hash = blake3::hash(bytes);
    let b = hash.as_bytes();
    u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]])
}
