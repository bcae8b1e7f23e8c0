//! The keyring: names chunks, seals and unseals frames. Chapter 6 of the format defines every step.

pub mod aead;
pub mod hash;
pub mod password;

use crate::error::{Error, Result};
use crate::format::config::Encryption;
use crate::format::frame::{FRAME_HEADER_LEN, FRAME_OVERHEAD, FrameKind};
use crate::format::frame::{decode_frame_header, encode_frame_header};
use crate::id::{ChunkId, Name};
use zeroize::Zeroizing;

/// What a chunk is named for; names of different sorts never meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ChunkSort {
    /// Bytes of a file.
    Content,
    /// Bytes of a manifest: groups, stat columns, roots, content lists.
    Manifest,
}

impl ChunkSort {
    pub fn frame_kind(self) -> FrameKind {
        match self {
            ChunkSort::Content => FrameKind::Data,
            ChunkSort::Manifest => FrameKind::Meta,
        }
    }
}

/// A repository's secrets in memory; wiped when dropped.
pub struct Keyring {
    repository: Name,
    encryption: Encryption,
    content_id: Zeroizing<[u8; 32]>,
    manifest_id: Zeroizing<[u8; 32]>,
    frame: Zeroizing<[u8; 32]>,
    synthetic: Zeroizing<[u8; 32]>,
    config: Zeroizing<[u8; 32]>,
    gear: Zeroizing<[u8; 32]>,
    cache: Zeroizing<[u8; 32]>,
}

const SALT: std::ops::Range<usize> = FRAME_HEADER_LEN..FRAME_HEADER_LEN + 16;
const SYNTHETIC: std::ops::Range<usize> = FRAME_HEADER_LEN + 16..FRAME_HEADER_LEN + 48;
const SEALED: usize = FRAME_HEADER_LEN + 48;

impl Keyring {
    pub fn new(repository: Name, encryption: Encryption, master: &[u8; 32]) -> Self {
        let mut material = Zeroizing::new(master.to_vec());
        material.extend_from_slice(&repository.0);
        let key = |context: &str| Zeroizing::new(hash::derive(context, &material));
        Keyring {
            repository,
            encryption,
            content_id: key("snapkeep v1 content chunk id"),
            manifest_id: key("snapkeep v1 manifest chunk id"),
            frame: key("snapkeep v1 frame key"),
            synthetic: key("snapkeep v1 frame synthetic value"),
            config: key("snapkeep v1 config"),
            gear: key("snapkeep v1 gear table"),
            cache: key("snapkeep local cache"),
        }
    }

    pub fn repository(&self) -> &Name {
        &self.repository
    }

    pub fn chunk_id(&self, sort: ChunkSort, plain: &[u8]) -> ChunkId {
        match sort {
            ChunkSort::Content => hash::chunk_id(&self.content_id, plain),
            ChunkSort::Manifest => hash::chunk_id(&self.manifest_id, plain),
        }
    }

    /// Authenticates the config.
    pub fn config_mac(&self, body: &[u8]) -> [u8; 32] {
        hash::keyed(&self.config, &[body])
    }

    /// Authenticates what a local cache says of this repository. `purpose` keeps one kind of words from passing for
    /// another.
    pub fn cache_mac(&self, purpose: &[u8; 8], parts: &[&[u8]]) -> [u8; 32] {
        let head: [&[u8]; 2] = [purpose, &self.repository.0];
        hash::keyed(&self.cache, &[&head[..], parts].concat())
    }

    /// 768 bytes for the chunker's table: secret in encrypted repositories, public in plain ones.
    pub fn gear_bytes(&self) -> [u8; 768] {
        let mut out = [0; 768];
        match self.encryption {
            Encryption::None => hash::derive_long("snapkeep 2026-11 public gear table", &[], &mut out),
            Encryption::Aes256Gcm => {
                hash::derive_long("snapkeep v1 keyed gear table", self.gear.as_slice(), &mut out);
            }
        }
        out
    }

    /// A whole frame around `plain`. `salt` must be fresh random bytes.
    pub fn seal(&self, kind: FrameKind, plain: &[u8], salt: &[u8; 16]) -> Result<Vec<u8>> {
        self.seal_parts(kind, &[plain], salt)
    }

    /// As `seal`, around several parts, one after another.
    pub fn seal_parts(&self, kind: FrameKind, parts: &[&[u8]], salt: &[u8; 16]) -> Result<Vec<u8>> {
        let len = parts.iter().map(|part| part.len()).sum();
        let header = encode_frame_header(kind, len);
        let mut out = Vec::with_capacity(len + FRAME_OVERHEAD);
        out.extend_from_slice(&header);
        out.extend_from_slice(salt);
        out.resize(SEALED, 0);
        for part in parts {
            out.extend_from_slice(part);
        }
        let synthetic = self.synthetic_value(&header, salt, &out[SEALED..]);
        out[SYNTHETIC].copy_from_slice(&synthetic);
        let tag = match self.encryption {
            Encryption::Aes256Gcm => {
                let key = self.frame_key(salt, &synthetic);
                aead::seal(&key, &self.associated(&header), &mut out[SEALED..])?
            }
            Encryption::None => checksum_tag(&synthetic),
        };
        out.extend_from_slice(&tag);
        Ok(out)
    }

    /// The plain bytes of a frame of the wanted kind, which `frame` holds exactly.
    pub fn unseal(&self, kind: FrameKind, frame: &[u8]) -> Result<Vec<u8>> {
        let mut owned = frame.to_vec();
        let range = self.unseal_in_place(kind, &mut owned)?;
        owned.truncate(range.end);
        owned.drain(..range.start);
        Ok(owned)
    }

    /// As `unseal`, leaving the plain bytes at the returned place of `frame`.
    pub fn unseal_in_place(&self, kind: FrameKind, frame: &mut [u8]) -> Result<std::ops::Range<usize>> {
        let bad = |why: &str| Error::corrupt(format!("a frame {why}"));
        let (stated, len) = decode_frame_header(frame)?;
        if stated != kind {
            return Err(bad("is of another kind than it should be"));
        }
        if len != frame.len() {
            return Err(bad("is cut short"));
        }
        let mut header = [0; FRAME_HEADER_LEN];
        header.copy_from_slice(&frame[..FRAME_HEADER_LEN]);
        let (mut salt, mut synthetic) = ([0; 16], [0; 32]);
        salt.copy_from_slice(&frame[SALT]);
        synthetic.copy_from_slice(&frame[SYNTHETIC]);
        let end = len - aead::TAG_LEN;
        match self.encryption {
            Encryption::Aes256Gcm => {
                let key = self.frame_key(&salt, &synthetic);
                aead::unseal(&key, &self.associated(&header), &mut frame[SEALED..])
                    .ok_or_else(|| bad("is damaged: its seal does not fit"))?;
            }
            Encryption::None => {
                let sum = self.synthetic_value(&header, &salt, &frame[SEALED..end]);
                if sum != synthetic || frame[end..] != checksum_tag(&synthetic) {
                    return Err(bad("is damaged: its checksum does not fit"));
                }
            }
        }
        Ok(SEALED..end)
    }

    /// Bound to repository, kind, version and length; makes equal salts harmless unless the plain bytes are equal too.
    fn synthetic_value(&self, header: &[u8], salt: &[u8; 16], plain: &[u8]) -> [u8; 32] {
        hash::keyed(&self.synthetic, &[&self.repository.0, header, salt, plain])
    }

    fn frame_key(&self, salt: &[u8; 16], synthetic: &[u8; 32]) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(hash::keyed(&self.frame, &[salt, synthetic]))
    }

    fn associated(&self, header: &[u8; FRAME_HEADER_LEN]) -> [u8; 16 + FRAME_HEADER_LEN] {
        let mut aad = [0; 16 + FRAME_HEADER_LEN];
        aad[..16].copy_from_slice(&self.repository.0);
        aad[16..].copy_from_slice(header);
        aad
    }
}

/// Plain repositories repeat half of the checksum where the tag would stand.
fn checksum_tag(synthetic: &[u8; 32]) -> [u8; aead::TAG_LEN] {
    let mut tag = [0; aead::TAG_LEN];
    tag.copy_from_slice(&synthetic[..aead::TAG_LEN]);
    tag
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_byte_of_a_frame_is_found_in_both_modes() {
        for encryption in [Encryption::Aes256Gcm, Encryption::None] {
            let ring = Keyring::new(Name([3; 16]), encryption, &[7; 32]);
            let frame = ring.seal(FrameKind::Data, b"some plain bytes", &[9; 16]).expect("seals");
            assert_eq!(ring.unseal(FrameKind::Data, &frame).expect("opens"), b"some plain bytes");
            assert!(ring.unseal(FrameKind::Meta, &frame).is_err());
            for i in 0..frame.len() {
                let mut bad = frame.clone();
                bad[i] ^= 1 << (i % 8);
                assert!(ring.unseal(FrameKind::Data, &bad).is_err(), "byte {i}");
            }
            let other = Keyring::new(Name([4; 16]), encryption, &[7; 32]);
            assert!(other.unseal(FrameKind::Data, &frame).is_err());
        }
    }
}
