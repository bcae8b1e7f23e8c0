//! Repository settings fixed at creation, and the wrapping of plain (readable without a password) records.
//!
//! Bytes: `format-spec/1-repository.md`.

use super::{FileName, HEADER_LEN, decode_header, encode_header, limit};
use crate::error::{Error, ErrorKind, Result};
use crate::id::Name;
use serde::{Deserialize, Serialize};

/// How stored bytes are protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Encryption {
    #[serde(rename = "aes-256-gcm")]
    Aes256Gcm,
    /// Checksums in place of tags; the key stands in the config.
    #[serde(rename = "none")]
    None,
}

/// Minimum, average and maximum length of a class of chunks, in bytes.
pub type ClassSizes = [u32; 3];

/// The config record: JSON, extended only by new optional fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    pub version: u32,
    /// The repository's id, 32 hex digits.
    pub id: String,
    /// RFC 3339.
    pub created: String,
    pub encryption: Encryption,
    /// The master key in hex, exactly when `encryption` is `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
    pub content_chunks: ClassSizes,
    pub database_chunks: ClassSizes,
    /// Packs are closed when they reach this many bytes.
    pub pack_bytes: u64,
    /// Files and folders are readable by the group.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub group_readable: bool,
    /// Parity written with each pack, in per cent of it; 0 for none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub parity: u32,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// header, u32 length, body, 32 bytes of `seal` (a MAC, or zeros), BLAKE3 of all before. The hash is the caller's
/// business, since this room does no hashing.
pub fn encode_plain_record(name: &FileName, repository: &Name, body: &[u8], mac: &[u8; 32]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_LEN + body.len() + 68);
    out.extend_from_slice(&encode_header(name, repository));
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(body);
    out.extend_from_slice(mac);
    out
}

/// The parts of a plain record: repository id, body, MAC, the bytes the closing hash covers, the hash.
pub struct PlainRecord<'a> {
    pub repository: Name,
    pub body: &'a [u8],
    pub mac: [u8; 32],
    pub hashed: &'a [u8],
    pub hash: [u8; 32],
}

pub fn decode_plain_record<'a>(bytes: &'a [u8], name: &FileName) -> Result<PlainRecord<'a>> {
    let repository = decode_header(bytes, name, None)?;
    let bad = || Error::corrupt(format!("{name} is damaged: its length is wrong"));
    let at = HEADER_LEN + 4;
    let len = bytes.get(HEADER_LEN..at).ok_or_else(bad)?;
    let len = u32::from_le_bytes([len[0], len[1], len[2], len[3]]) as usize;
    if len as u64 > limit::RECORD_BYTES_MAX || bytes.len() != at + len + 64 {
        return Err(bad());
    }
    let (hashed, hash) = bytes.split_at(bytes.len() - 32);
    let fixed = |s: &[u8]| <[u8; 32]>::try_from(s).map_err(|_| bad());
    Ok(PlainRecord {
        repository,
        body: &bytes[at..at + len],
        mac: fixed(&bytes[at + len..at + len + 32])?,
        hashed,
        hash: fixed(hash)?,
    })
}

impl Config {
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let config: Config = serde_json::from_slice(bytes)
            .map_err(|e| Error::corrupt(format!("the repository's config is damaged: {e}")))?;
        if config.version > u32::from(super::FORMAT_VERSION) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("the repository has format {}; update this program", config.version),
            ));
        }
        if config.version == 0 {
            return Err(Error::corrupt("the repository's config states no version"));
        }
        if config.public_key.is_some() != (config.encryption == Encryption::None) {
            return Err(Error::corrupt("the repository's config has a key where none belongs, or lacks one"));
        }
        if !sizes_fit(&config.content_chunks)
            || !sizes_fit(&config.database_chunks)
            || config.pack_bytes < 1 << 16
            || config.pack_bytes > limit::PACK_BYTES_MAX - (24 << 20)
            || config.parity > limit::PARITY_PERCENT_MAX
        {
            return Err(Error::corrupt("the repository's config states impossible sizes"));
        }
        Ok(config)
    }
}

/// The limits of chapter 7, which `chunker::ChunkClass::check` holds too; a test keeps the two equal.
fn sizes_fit(&[min, avg, max]: &ClassSizes) -> bool {
    (64..=1 << 20).contains(&min)
        && (1 << 10..=4 << 20).contains(&avg)
        && (1 << 10..=16 << 20).contains(&max)
        && min <= avg
        && avg <= max
        && min.is_multiple_of(2)
        && avg.is_power_of_two()
        && max.is_multiple_of(2)
}
