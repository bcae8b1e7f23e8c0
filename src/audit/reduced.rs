//! A record as it is compared: what each field says, the hash of all of it, and who takes it.

use super::canon::{Side, shown};
use crate::crypto::hash;
use crate::error::Result;
use crate::json::quick_hash;

/// Stands for a key. Records of a sample are those whose keys come first.
pub type KeyHash = [u8; 16];
/// Stands for all fields of a record.
pub type RecordHash = [u8; 16];

/// What the fields of one record say.
#[derive(Default)]
pub struct Reduced {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    whole: Vec<u8>,
}

impl Reduced {
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// Adds the next field.
    pub fn add(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub fn field(&self, number: usize) -> &[u8] {
        let start = if number == 0 { 0 } else { self.ends.get(number - 1).copied().unwrap_or(0) };
        let end = self.ends.get(number).copied().unwrap_or(start);
        &self.bytes[start..end]
    }

    pub fn all(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|number| self.field(number))
    }

    /// Of all fields and where each of them ends, so that no two records look alike.
    pub fn hash(&mut self) -> RecordHash {
        self.whole.clear();
        self.whole.extend_from_slice(&self.bytes);
        self.ends.iter().for_each(|end| self.whole.extend_from_slice(&(*end as u64).to_le_bytes()));
        half(&hash::plain(&self.whole))
    }

    /// Tells which fields differ where the hash has said that some do.
    pub fn quick(&self, number: usize) -> u64 {
        quick_hash(self.field(number))
    }
}

/// The hash of a key; with a seed keys are in an order of their own.
pub fn key_hash<'f>(seed: Option<u64>, parts: impl Iterator<Item = &'f [u8]>) -> KeyHash {
    let (mut all, mut ends) = (Vec::with_capacity(64), Vec::with_capacity(16));
    for part in parts {
        all.extend_from_slice(part);
        ends.extend_from_slice(&(all.len() as u64).to_le_bytes());
    }
    all.extend_from_slice(&ends);
    if let Some(seed) = seed {
        all.extend_from_slice(&seed.to_le_bytes());
    }
    half(&hash::plain(&all))
}

fn half(hash: &[u8; 32]) -> [u8; 16] {
    *hash.first_chunk::<16>().unwrap_or(&[0; 16])
}

/// A key for people.
pub fn key_shown<'f>(parts: impl Iterator<Item = &'f [u8]>) -> String {
    parts.map(shown).collect::<Vec<_>>().join(", ")
}

/// One record of one side.
pub struct Item<'a> {
    pub section: usize,
    pub side: Side,
    pub key: KeyHash,
    /// Brings the rows of one array into its order.
    pub order: &'a [u8],
    pub fields: &'a mut Reduced,
    /// The key for people, and as bytes in the order of keys.
    pub shown: &'a dyn Fn() -> (String, Vec<u8>),
}

/// Takes the records of a side.
pub trait Sink {
    /// Counts a record and says whether it is to be looked at.
    fn wants(&mut self, section: usize, key: &KeyHash) -> bool;
    fn take(&mut self, item: Item<'_>) -> Result<()>;
    /// Counts rows of arrays whose record nobody wants.
    fn passed(&mut self, section: usize, count: u64);
    /// A record whose key is not there.
    fn keyless(&mut self, section: usize, place: String);
}
