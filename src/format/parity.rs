//! Parity sidecars: a pack's bytes as shards, the sums of all of them, and further shards that stand in for damaged
//! ones.
//!
//! Bytes: `format-spec/2-packs.md`, "Parity".

use super::codec::Reader;
use super::limit;
use crate::error::Result;
use crate::id::{NAME_LEN, PackId};

/// Length of a shard's sum: the first bytes of its BLAKE3-256.
pub const SUM_LEN: usize = 16;
/// Shards are whole numbers of these.
pub const SHARD_STEP: u32 = 64;
const SHARD_MAX: u32 = 1 << 20;
/// Shards of packs that are larger than this, and of others: what a disk loses at once is mostly one of these.
const LARGE_PACK: u64 = 8 << 20;
const SHARD_LARGE: u32 = 16 << 10;
const SHARD_SMALL: u32 = 4 << 10;
/// Points of the field that the code works in.
const FIELD: u64 = 1 << 16;

/// The sum of a shard.
pub type Sum = [u8; SUM_LEN];

/// How a pack is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes of the pack.
    pub pack_len: u64,
    /// Bytes of a shard; the last one of the pack is filled up with zeros.
    pub shard: u32,
    /// Shards of the pack, and shards of parity.
    pub data: u32,
    pub parity: u32,
}

impl Geometry {
    /// How a writer divides a pack of `pack_len` bytes, with `percent` of parity.
    pub fn choose(pack_len: u64, percent: u32) -> Self {
        let shard = match pack_len {
            len if len > LARGE_PACK => SHARD_LARGE,
            len if len >= u64::from(SHARD_SMALL) => SHARD_SMALL,
            len => (len.max(1) as u32).next_multiple_of(SHARD_STEP),
        };
        let data = pack_len.max(1).div_ceil(u64::from(shard)) as u32;
        let parity = (u64::from(data) * u64::from(percent)).div_ceil(100) as u32;
        Geometry { pack_len, shard, data, parity: parity.clamp(1, data) }
    }

    /// Offset and length of a data shard's bytes in the pack.
    pub fn data_range(&self, number: u32) -> (u64, usize) {
        let start = u64::from(number) * u64::from(self.shard);
        (start, u64::from(self.shard).min(self.pack_len.saturating_sub(start)) as usize)
    }

    fn is_possible(&self) -> bool {
        let (data, parity) = (u64::from(self.data), u64::from(self.parity));
        (1..=limit::PACK_BYTES_MAX).contains(&self.pack_len)
            && (SHARD_STEP..=SHARD_MAX).contains(&self.shard)
            && self.shard.is_multiple_of(SHARD_STEP)
            && data == self.pack_len.div_ceil(u64::from(self.shard))
            && (1..=data).contains(&parity)
            && data + parity.next_power_of_two() <= FIELD
    }
}

/// What the two equal frames of a sidecar say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParityTable {
    pub pack: PackId,
    pub geometry: Geometry,
    /// Of the data shards, then of the parity shards.
    pub sums: Vec<Sum>,
}

impl ParityTable {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(NAME_LEN + 20 + self.sums.len() * SUM_LEN);
        out.extend_from_slice(&self.pack.0);
        out.extend_from_slice(&self.geometry.pack_len.to_le_bytes());
        for number in [self.geometry.shard, self.geometry.data, self.geometry.parity] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        self.sums.iter().for_each(|sum| out.extend_from_slice(sum));
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut r = Reader::new(bytes, "a parity table");
        let pack = r.name()?;
        let (pack_len, shard, data, parity) = (r.u64()?, r.u32()?, r.u32()?, r.u32()?);
        let geometry = Geometry { pack_len, shard, data, parity };
        if !geometry.is_possible() {
            return Err(r.fail("divides its pack in an impossible way"));
        }
        let count = data as usize + parity as usize;
        if r.remaining() != count * SUM_LEN {
            return Err(r.fail("has too few or too many sums"));
        }
        let mut sums = Vec::with_capacity(count);
        for _ in 0..count {
            let mut sum = [0; SUM_LEN];
            sum.copy_from_slice(r.take(SUM_LEN)?);
            sums.push(sum);
        }
        r.end()?;
        Ok(ParityTable { pack, geometry, sums })
    }
}
