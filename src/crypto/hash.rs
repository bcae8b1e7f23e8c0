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

/// The part of a file's hash that `bytes` contribute, which stand at offset `at`. All parts but the last have one length, a
/// power of two of at least 1,024 bytes; there are two or more of them.
pub fn part(at: u64, bytes: &[u8]) -> [u8; 32] {
    use blake3::hazmat::HasherExt;
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(at);
    hasher.update(bytes);
    hasher.finalize_non_root()
}

/// The hash of a file of `len` bytes whose parts of `part_len` bytes have these hashes: what [`FileHash`] gives.
pub fn whole(parts: &[[u8; 32]], part_len: u64, len: u64) -> [u8; 32] {
    use blake3::hazmat::{Mode, left_subtree_len, merge_subtrees_root};
    let left = (left_subtree_len(len) / part_len) as usize;
    let (left, right) = parts.split_at(left.min(parts.len()));
    let (left, right) = (subtree(left), subtree(right));
    *merge_subtrees_root(&left, &right, Mode::Hash).as_bytes()
}

fn subtree(parts: &[[u8; 32]]) -> [u8; 32] {
    use blake3::hazmat::{Mode, merge_subtrees_non_root};
    match parts {
        [] => [0; 32],
        [one] => *one,
        _ => {
            // The left side is the largest power of two that leaves something for the right.
            let (left, right) = parts.split_at(parts.len().div_ceil(2).next_power_of_two());
            merge_subtrees_non_root(&subtree(left), &subtree(right), Mode::Hash)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_make_up_the_hash_of_the_whole() {
        let bytes: Vec<u8> = (0..700_001u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
        for part_len in [1024usize, 65_536] {
            for len in [part_len + 1, 2 * part_len, 3 * part_len - 5, 5 * part_len, 7 * part_len + 1, 700_001]
            {
                let Some(bytes) = bytes.get(..len) else { continue };
                let parts: Vec<_> =
                    bytes.chunks(part_len).enumerate().map(|(n, b)| part((n * part_len) as u64, b)).collect();
                assert_eq!(whole(&parts, part_len as u64, len as u64), plain(bytes), "{part_len} {len}");
            }
        }
    }
}
