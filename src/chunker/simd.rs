//! The same cuts with AVX2, several times faster. Wherever this says nothing, `fastcdc` answers.
//!
//! Unsafe code lives here and nowhere else in this room, for two things only: calling a function compiled for AVX2
//! after asking the processor whether it has it, and loading a vector from a reference to that many bytes.
#![allow(unsafe_code)]

use super::Chunker;

/// What [`Chunker::cut`] returns, or `None` where this machine has no vector unit we know.
pub(super) fn cut(chunker: &Chunker, data: &[u8]) -> Option<usize> {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("popcnt") {
        // SAFETY: the processor has AVX2 and POPCNT, the only requirements of this function.
        return Some(unsafe { avx2::cut(chunker, data) });
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (chunker, data);
    None
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::super::{Chunker, LOW_BYTE_A, LOW_BYTE_B};
    use std::arch::x86_64::{
        __m256i, _mm_loadu_si128, _mm256_add_epi8, _mm256_alignr_epi8, _mm256_and_si256,
        _mm256_broadcastsi128_si256, _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_movemask_epi8,
        _mm256_permute2x128_si256, _mm256_set1_epi8, _mm256_setzero_si256, _mm256_shuffle_epi8,
        _mm256_slli_epi16, _mm256_srli_epi16, _mm256_xor_si256,
    };

    /// Positions a vector holds; also how many bytes the 32-bit hash remembers.
    const WIDTH: usize = 32;
    /// Vectors filtered before any candidate is looked at: the processor mispredicts once a stripe, not once a candidate.
    const BLOCKS: usize = 64;
    const STRIPE: usize = WIDTH * BLOCKS;
    /// Candidates in a stripe (8 are usual) from which the plain loop is the faster one. Bounds what hostile data costs.
    const CROWDED: u32 = 64;

    /// The rule of `format-spec/7-chunking.md`, with the hash computed only where its low byte is zero.
    #[target_feature(enable = "avx2,popcnt")]
    pub(super) fn cut(chunker: &Chunker, data: &[u8]) -> usize {
        let (min, avg) = (chunker.class.min as usize, chunker.class.avg as usize);
        let length = data.len().min(chunker.class.max as usize);
        if length <= min {
            return length;
        }
        let (strict, relaxed) = (chunker.strict as u32, chunker.relaxed as u32);
        let gear = &*chunker.gear.once;
        let is_cut = |at: usize, hash: u32| hash & (if at < avg { strict } else { relaxed }) == 0;
        // The last byte of an odd window is not tested.
        let data = &data[..length & !1];

        // The hash starts from zero at min: only after 32 bytes it is a function of the last 32.
        let mut at = data.len().min(min + WIDTH);
        if let Some(i) = plain(gear, 0, &data[min..at], |i, hash| is_cut(min + i, hash)) {
            return min + i;
        }
        let Some(before) = data[..at].last_chunk::<WIDTH>() else { return length };
        let mut filter = Filter::new(before);
        let (stripes, rest) = data[at..].as_chunks::<STRIPE>();
        for stripe in stripes {
            let found = filter.search(stripe);
            let cut = if found.count > CROWDED {
                plain(gear, whole(gear, &data[at - WIDTH..at]), stripe, |i, hash| is_cut(at + i, hash))
            } else {
                found.first(|i| is_cut(at + i, whole(gear, &data[at + i + 1 - WIDTH..=at + i])))
            };
            if let Some(i) = cut {
                return at + i;
            }
            at += STRIPE;
        }
        let hash = whole(gear, &data[at - WIDTH..at]);
        plain(gear, hash, rest, |i, hash| is_cut(at + i, hash)).map_or(length, |i| at + i)
    }

    #[inline]
    fn push(gear: &[u64; 256], hash: u32, byte: u8) -> u32 {
        (hash << 1).wrapping_add(gear[usize::from(byte)] as u32)
    }

    /// The hash after exactly these 32 bytes, whatever came before: four chains that do not wait for each other.
    #[inline]
    fn whole(gear: &[u64; 256], bytes: &[u8]) -> u32 {
        let mut parts = [0u32; 4];
        for (part, eight) in parts.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *part = eight.iter().fold(0, |hash, byte| push(gear, hash, *byte));
        }
        parts.iter().fold(0, |hash, part| (hash << 8).wrapping_add(*part))
    }

    /// The first position of `bytes` that is a cut, one byte at a time from `hash` on.
    #[inline]
    fn plain(
        gear: &[u64; 256],
        mut hash: u32,
        bytes: &[u8],
        is_cut: impl Fn(usize, u32) -> bool,
    ) -> Option<usize> {
        bytes.iter().enumerate().find_map(|(i, byte)| {
            hash = push(gear, hash, *byte);
            is_cut(i, hash).then_some(i)
        })
    }

    /// The candidates of a stripe.
    struct Found {
        /// For each block, one bit for each position: the low byte of the hash is zero.
        zeros: [u32; BLOCKS],
        /// The blocks that have any, in order, as many as `some` says.
        blocks: [u8; BLOCKS],
        some: usize,
        count: u32,
    }

    impl Found {
        /// The first candidate that passes.
        #[inline]
        fn first(&self, passes: impl Fn(usize) -> bool) -> Option<usize> {
            for block in &self.blocks[..self.some] {
                let block = usize::from(*block);
                let mut zeros = self.zeros[block];
                while zeros != 0 {
                    let i = block * WIDTH + zeros.trailing_zeros() as usize;
                    if passes(i) {
                        return Some(i);
                    }
                    zeros &= zeros - 1;
                }
            }
            None
        }
    }

    /// Low bytes of the hash at 32 positions at once. They depend on 8 bytes: the sums over 1, 2, 4 and 8 of them come
    /// by doubling, each from the one before and the same moved; what is moved in belongs to the previous block.
    struct Filter {
        a: __m256i,
        b: __m256i,
        one: __m256i,
        two: __m256i,
        four: __m256i,
    }

    impl Filter {
        #[target_feature(enable = "avx2")]
        fn new(before: &[u8; WIDTH]) -> Filter {
            // SAFETY: both tables are 16 bytes long; the loads need no alignment.
            let (a, b) = unsafe {
                (_mm_loadu_si128(LOW_BYTE_A.as_ptr().cast()), _mm_loadu_si128(LOW_BYTE_B.as_ptr().cast()))
            };
            let zero = _mm256_setzero_si256();
            let (a, b) = (_mm256_broadcastsi128_si256(a), _mm256_broadcastsi128_si256(b));
            let mut filter = Filter { a, b, one: zero, two: zero, four: zero };
            // Only the last positions of `before` are used later, and those are right without a block before it.
            filter.zeros(before);
            filter
        }

        #[target_feature(enable = "avx2,popcnt")]
        fn search(&mut self, stripe: &[u8; STRIPE]) -> Found {
            let mut found = Found { zeros: [0; BLOCKS], blocks: [0; BLOCKS], some: 0, count: 0 };
            for (i, block) in stripe.as_chunks::<WIDTH>().0.iter().enumerate() {
                let zeros = self.zeros(block);
                found.zeros[i] = zeros;
                found.count += zeros.count_ones();
                // Written always, kept only if there is something: no branch, nothing to mispredict.
                found.blocks[found.some] = i as u8;
                found.some += usize::from(zeros != 0);
            }
            found
        }

        /// One bit for each position of `block`: whether the low byte of the hash is zero there.
        #[inline]
        #[target_feature(enable = "avx2")]
        fn zeros(&mut self, block: &[u8; WIDTH]) -> u32 {
            // SAFETY: `block` is 32 bytes long; the load needs no alignment.
            let bytes = unsafe { _mm256_loadu_si256(block.as_ptr().cast()) };
            let nibble = _mm256_set1_epi8(15);
            let low = _mm256_shuffle_epi8(self.a, _mm256_and_si256(bytes, nibble));
            let high = _mm256_shuffle_epi8(self.b, _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), nibble));
            let one = _mm256_xor_si256(low, high);
            let moved = _mm256_alignr_epi8::<15>(one, straddle(self.one, one));
            let two = _mm256_add_epi8(one, _mm256_add_epi8(moved, moved));
            let moved = _mm256_alignr_epi8::<14>(two, straddle(self.two, two));
            let moved = _mm256_add_epi8(moved, moved);
            let four = _mm256_add_epi8(two, _mm256_add_epi8(moved, moved));
            let moved = _mm256_alignr_epi8::<12>(four, straddle(self.four, four));
            // There is no shift of bytes: shift pairs by four and drop what the lower byte pushed up.
            let moved = _mm256_and_si256(_mm256_slli_epi16::<4>(moved), _mm256_set1_epi8(-16));
            let eight = _mm256_add_epi8(four, moved);
            (self.one, self.two, self.four) = (one, two, four);
            _mm256_movemask_epi8(_mm256_cmpeq_epi8(eight, _mm256_setzero_si256())).cast_unsigned()
        }
    }

    /// The upper half of `before` and the lower half of `now`: what lies 16 bytes earlier than `now`.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn straddle(before: __m256i, now: __m256i) -> __m256i {
        _mm256_permute2x128_si256::<0x21>(before, now)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{CONTENT, ChunkClass, Chunker, DATABASE, Gear};

    /// Bytes that differ in how often they pass the filter: never, as usual, at each turn of a pattern.
    fn input(kind: u64, length: usize, random: &mut blake3::OutputReader) -> Vec<u8> {
        let mut data = vec![0; length];
        random.fill(&mut data);
        let turn = 1 + usize::from(data.first().copied().unwrap_or(0)) % 48;
        match kind {
            0 => data.iter_mut().for_each(|byte| *byte = b"etaoin shrdlu,.\n"[usize::from(*byte & 15)]),
            1 => data.iter_mut().for_each(|byte| *byte = b'0' + *byte % 10),
            2 => data.iter_mut().for_each(|byte| *byte &= 1),
            3 => (turn..length).for_each(|i| data[i] = data[i - turn]),
            // A turn now and then disturbed.
            4 => (turn..length).filter(|i| i % 701 != 0).for_each(|i| data[i] = data[i - turn]),
            5 => data[length / 3..].fill(turn as u8),
            _ => {}
        }
        data
    }

    #[test]
    fn vector_and_plain_cuts_are_the_same() {
        let mut random = blake3::Hasher::new().update(b"vector and plain").finalize_xof();
        let classes = [
            ChunkClass { min: 64, avg: 1024, max: 1024 },
            ChunkClass { min: 66, avg: 2048, max: 8190 },
            ChunkClass { min: 1024, avg: 4096, max: 65_536 },
            DATABASE,
            CONTENT,
        ];
        for round in 0..2000u64 {
            let mut dice = [0; 1024];
            random.fill(&mut dice);
            let Some(table) = dice.first_chunk::<768>() else { return };
            let class = classes[usize::from(dice[1000]) % classes.len()];
            let chunker = Chunker::new(&Gear::new(table), class);
            // Small inputs for all the edges, and now and then one that holds several chunks.
            let length = match round % 20 {
                0 => 700_000 + usize::from(dice[1001]),
                _ => usize::from(u16::from_le_bytes([dice[1002], dice[1003]])),
            };
            let data = input(round % 8, length, &mut random);
            let mut rest = &data[..];
            while !rest.is_empty() {
                let plain = chunker.cut_plainly(rest);
                assert_eq!(super::cut(&chunker, rest).unwrap_or(plain), plain, "round {round}, {class:?}");
                rest = &rest[plain..];
            }
        }
    }

    #[test]
    fn every_tail_length_cuts_the_same() {
        let mut random = blake3::Hasher::new().update(b"tails").finalize_xof();
        let class = ChunkClass { min: 64, avg: 1024, max: 16_384 };
        let chunker = Chunker::new(&Gear::new(&[0x3c; 768]), class);
        // Inputs of few cuts: long windows, whose tails end at all distances from the end of a stripe.
        for kind in [2, 3, 5, 6] {
            let data = input(kind, 6000, &mut random);
            for length in (0..data.len()).rev().take(4300).chain(0..200) {
                let plain = chunker.cut_plainly(&data[..length]);
                assert_eq!(super::cut(&chunker, &data[..length]).unwrap_or(plain), plain, "{kind}, {length}");
            }
        }
    }
}
