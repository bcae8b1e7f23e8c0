//! Where to cut a stream of bytes into chunks, so that equal content gives equal chunks. Writers only.
//!
//! FastCDC (Xia et al., 2020) as `fastcdc::v2020::cut_gear` computes it, with a gear table and masks of our own
//! whose shape lets a vector unit find the same cuts. `format-spec/7-chunking.md` has the algorithm, the reasons
//! and the figures. This room knows nothing of hashing, keys, files or pages stored anywhere.

mod simd;

use crate::error::{Error, Result};

/// Files up to this many bytes are one chunk and are never shown to a [`Chunker`].
pub const WHOLE_FILE_MAX: usize = 128 << 10;

/// Sizes of a class of chunks, in bytes. Classes of the repository configuration go through [`ChunkClass::check`]
/// before they are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkClass {
    /// No chunk is shorter, except the last of its stream.
    pub min: u32,
    /// Where the rule changes from the strict to the relaxed mask; a power of two. Real means lie a little above.
    pub avg: u32,
    /// No chunk is longer.
    pub max: u32,
}

/// Ordinary file content.
pub const CONTENT: ChunkClass = ChunkClass { min: 64 << 10, avg: 256 << 10, max: 1 << 20 };

/// Database files, whose changes are scattered pages; see [`Chunker::cut_at_page`].
pub const DATABASE: ChunkClass = ChunkClass { min: 64 << 10, avg: 128 << 10, max: 512 << 10 };

/// `fastcdc`'s own limits, except that our masks always hold 8 bits, so averages start at 2^(8 + NORMALISATION).
const MIN_RANGE: std::ops::RangeInclusive<u32> = 64..=1 << 20;
const AVG_RANGE: std::ops::RangeInclusive<u32> = 1 << (FILTER_BITS + NORMALISATION)..=4 << 20;
const MAX_RANGE: std::ops::RangeInclusive<u32> = 1024..=16 << 20;

impl ChunkClass {
    /// `Invalid` unless every limit of the format holds: min 64 bytes to 1 MiB, avg 1 KiB to 4 MiB and a power of
    /// two, max 1 KiB to 16 MiB, min ≤ avg ≤ max, all even.
    pub fn check(&self) -> Result<()> {
        let ChunkClass { min, avg, max } = *self;
        let bad = |what: &str| Err(Error::invalid(format!("chunk sizes {min}/{avg}/{max} bytes: {what}")));
        if !MIN_RANGE.contains(&min) || !AVG_RANGE.contains(&avg) || !MAX_RANGE.contains(&max) {
            return bad("out of the format's limits (64..1 MiB, 1 KiB..4 MiB, 1 KiB..16 MiB)");
        }
        if min > avg || avg > max {
            return bad("they must ascend");
        }
        // The scan goes two bytes at a time; an odd edge would be moved by one.
        if !min.is_multiple_of(2) || !max.is_multiple_of(2) || !avg.is_power_of_two() {
            return bad("minimum and maximum must be even, the average a power of two");
        }
        Ok(())
    }
}

/// Low byte of gear value `i`: `LOW_BYTE_A[i & 15] ^ LOW_BYTE_B[i >> 4]`, so that two shuffles compute it.
///
/// Seed 328449 of `benches/gear_search.rs`, the best of 1 000 000 seeds: a low byte of the hash is zero at 0.938 to
/// 1.074 times 1/256 of the positions in kernel source, an ELF library, Python source, JSON, database pages, base64,
/// hex digits and random bytes. No gear value has a zero low byte, so a run of equal bytes never cuts.
const LOW_BYTE_A: [u8; 16] =
    [0xa8, 0x81, 0x1b, 0x65, 0xb0, 0x33, 0x28, 0x50, 0xfe, 0xbd, 0x4d, 0x18, 0xf8, 0x31, 0x67, 0x88];
const LOW_BYTE_B: [u8; 16] =
    [0xda, 0xfb, 0x52, 0x3e, 0x3f, 0xf4, 0x79, 0x02, 0x75, 0x5b, 0x0b, 0xe0, 0x9e, 0x3f, 0xe6, 0x02];

/// Every mask holds this many low bits: they depend on the last 8 bytes only, which is what a vector scan filters by.
const FILTER_BITS: u32 = 8;

/// The strict mask has this many bits more than log2(avg), the relaxed one as many fewer.
const NORMALISATION: u32 = 2;

/// The mask of `bits` (8 to 32) bits: the low 8 and the topmost others. Each mask contains all smaller ones, so a
/// strict cut is a relaxed cut too.
fn mask(bits: u32) -> u64 {
    let low = (1u64 << FILTER_BITS) - 1;
    let top = bits.clamp(FILTER_BITS, 32) - FILTER_BITS;
    let high = ((1u64 << top) - 1) << (32 - top);
    low | high
}

/// The gear table: 256 values of 32 bits, and the same doubled, as `cut_gear` wants them.
///
/// Without `Debug` on purpose: a keyed table is part of what keeps chunk lengths from telling content.
#[derive(Clone)]
pub struct Gear {
    once: Box<[u64; 256]>,
    doubled: Box<[u64; 256]>,
}

impl Gear {
    /// The table whose value `i` has `random[3 * i..3 * i + 3]`, little-endian, as its upper 24 bits. `random` is the
    /// repository's keyed stream, or the public one of the specification where nothing is encrypted.
    pub fn new(random: &[u8; 768]) -> Gear {
        let mut once = Box::new([0; 256]);
        let mut doubled = Box::new([0; 256]);
        for (i, upper) in random.as_chunks::<3>().0.iter().enumerate() {
            let low = LOW_BYTE_A[i & 15] ^ LOW_BYTE_B[i >> 4];
            let value = u64::from(u32::from_le_bytes([low, upper[0], upper[1], upper[2]]));
            once[i] = value;
            doubled[i] = value << 1;
        }
        Gear { once, doubled }
    }
}

/// Cuts streams of one class. Holds no position: one may serve many streams and threads.
pub struct Chunker {
    gear: Gear,
    class: ChunkClass,
    strict: u64,
    relaxed: u64,
}

impl Chunker {
    /// `class` must have passed [`ChunkClass::check`].
    pub fn new(gear: &Gear, class: ChunkClass) -> Chunker {
        debug_assert!(class.check().is_ok(), "unchecked class {class:?}");
        let bits = class.avg.max(1).ilog2();
        Chunker {
            gear: gear.clone(),
            class,
            strict: mask(bits + NORMALISATION),
            relaxed: mask(bits.saturating_sub(NORMALISATION)),
        }
    }

    /// The sizes this chunker was made for.
    pub fn class(&self) -> ChunkClass {
        self.class
    }

    /// Length of the first chunk of `data`, in bytes: between min and max, or all of `data` where it is shorter than
    /// min. `data` must hold `class.max` bytes or all that is left of the stream, else the cut is not the stream's.
    /// Zero for empty `data` only.
    pub fn cut(&self, data: &[u8]) -> usize {
        simd::cut(self, data).unwrap_or_else(|| self.cut_plainly(data))
    }

    /// The definition of [`Chunker::cut`], on any machine.
    fn cut_plainly(&self, data: &[u8]) -> usize {
        let ChunkClass { min, avg, max } = self.class;
        let (_, length) = fastcdc::v2020::cut_gear(
            data,
            min as usize,
            avg as usize,
            max as usize,
            self.strict,
            self.relaxed,
            self.strict << 1,
            self.relaxed << 1,
            &self.gear.once[..],
            &self.gear.doubled[..],
        );
        length
    }

    /// Like [`Chunker::cut`], rounded up to a multiple of `page` bytes, so that a changed page changes one chunk.
    /// Where `page` divides max, chunks stay within max. The last chunk ends with `data`, whole page or not.
    pub fn cut_at_page(&self, data: &[u8], page: usize) -> usize {
        self.cut(data).next_multiple_of(page.max(1)).min(data.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_bytes_are_those_of_the_seed_and_never_zero() {
        let mut found = [0; 32];
        let mut hasher = blake3::Hasher::new_derive_key("snapkeep 2026-11 gear search");
        hasher.update(&328_449u64.to_le_bytes());
        hasher.finalize_xof().fill(&mut found);
        assert_eq!(found, [LOW_BYTE_A, LOW_BYTE_B].as_flattened());
        let gear = Gear::new(&[0xa5; 768]);
        assert!(gear.once.iter().all(|value| value & 0xff != 0 && value >> 8 == 0xa5_a5a5));
    }

    #[test]
    fn masks_grow_from_the_top_and_keep_the_low_byte() {
        assert_eq!([mask(8), mask(14), mask(16)], [0xff, 0xfc00_00ff, 0xff00_00ff]);
        assert_eq!([mask(18), mask(20), mask(32)], [0xffc0_00ff, 0xfff0_00ff, 0xffff_ffff]);
    }
}
