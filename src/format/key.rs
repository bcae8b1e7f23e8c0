//! Key slots: one password's way to the master key each.
//!
//! Bytes: `format-spec/6-keys-and-sealing.md`.

use super::limit;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Argon2id parameters of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KdfCost {
    /// Memory, in KiB.
    pub m_kib: u32,
    /// Passes.
    pub t: u32,
    /// Lanes.
    pub p: u32,
}

/// RFC 9106's second recommended choice: 64 MiB, 3 passes, 4 lanes.
pub const KDF_DEFAULT: KdfCost = KdfCost { m_kib: 65_536, t: 3, p: 4 };
/// What a reader is willing to spend on a slot.
pub const KDF_MAX: KdfCost = KdfCost { m_kib: 1 << 20, t: 16, p: 16 };

/// One password's wrapped copy of the master key; byte strings in hex.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySlot {
    /// 32 hex digits, random: the slot's name for people.
    pub id: String,
    pub label: String,
    /// RFC 3339.
    pub created: String,
    pub user: String,
    pub host: String,
    pub kdf: String,
    pub cost: KdfCost,
    /// 16 bytes.
    pub salt: String,
    /// 24 bytes.
    pub nonce: String,
    /// 48 bytes: the master key and the tag.
    pub wrapped: String,
}

/// All slots of a repository, as one record, so that adding, removing and replacing are atomic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySlots {
    pub slots: Vec<KeySlot>,
}

impl KeySlots {
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let slots: KeySlots = serde_json::from_slice(bytes)
            .map_err(|e| Error::corrupt(format!("the repository's key slots are damaged: {e}")))?;
        if slots.slots.is_empty() || slots.slots.len() > limit::KEY_SLOTS_MAX {
            return Err(Error::corrupt("the repository has no key slots, or too many"));
        }
        for slot in &slots.slots {
            let c = slot.cost;
            let within = (8..=KDF_MAX.m_kib).contains(&c.m_kib)
                && (1..=KDF_MAX.t).contains(&c.t)
                && (1..=KDF_MAX.p).contains(&c.p)
                && c.m_kib >= 8 * c.p;
            if slot.kdf != "argon2id" || !within {
                return Err(Error::corrupt(format!(
                    "key slot {} asks for an impossible derivation",
                    slot.id
                )));
            }
        }
        Ok(slots)
    }
}
