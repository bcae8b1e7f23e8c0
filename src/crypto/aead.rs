//! AES-256-GCM of one byte string under a key used once. The only home of the ring crate.

use crate::error::{Error, ErrorKind, Result};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

pub const TAG_LEN: usize = 16;

fn key(bytes: &[u8; 32]) -> Result<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM, bytes)
        .map(LessSafeKey::new)
        .map_err(|_| Error::new(ErrorKind::Unsupported, "the cipher refused its key"))
}

/// Encrypts `data` in place and returns the tag. `key` must never seal anything else: the nonce is zero.
pub fn seal(key_bytes: &[u8; 32], aad: &[u8], data: &mut [u8]) -> Result<[u8; TAG_LEN]> {
    let nonce = Nonce::assume_unique_for_key([0; 12]);
    let tag = key(key_bytes)?
        .seal_in_place_separate_tag(nonce, Aad::from(aad), data)
        .map_err(|_| Error::new(ErrorKind::Invalid, "too much data for one seal"))?;
    let mut out = [0; TAG_LEN];
    out.copy_from_slice(tag.as_ref());
    Ok(out)
}

/// Decrypts `data` (ciphertext and tag) in place; `None` when it is not authentic.
pub fn unseal<'a>(key_bytes: &[u8; 32], aad: &[u8], data: &'a mut [u8]) -> Option<&'a mut [u8]> {
    let nonce = Nonce::assume_unique_for_key([0; 12]);
    key(key_bytes).ok()?.open_in_place(nonce, Aad::from(aad), data).ok()
}
