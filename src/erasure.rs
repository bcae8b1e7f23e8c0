//! The erasure code: some shards more, so that as many lost ones can be computed again.
//!
//! Which code: `format-spec/2-packs.md`, "Parity". The only home of the reed-solomon-simd crate.

use crate::error::{Error, Result};
use reed_solomon_simd::engine::DefaultEngine;
use reed_solomon_simd::rate::{HighRateDecoder, HighRateEncoder, RateDecoder, RateEncoder};

fn failed(e: reed_solomon_simd::Error) -> Error {
    Error::invalid(format!("the erasure code cannot do this: {e}"))
}

/// Computes parity. With a single parity shard the code is a plain exclusive or, which needs no tables.
pub struct Encoder(Kind);

enum Kind {
    Xor { sum: Vec<u8> },
    Many { encoder: HighRateEncoder<DefaultEngine> },
}

impl Encoder {
    /// For `data` shards of `len` bytes, a multiple of 64.
    pub fn new(data: usize, parity: usize, len: usize) -> Result<Self> {
        if parity == 1 {
            return Ok(Encoder(Kind::Xor { sum: vec![0; len] }));
        }
        let encoder = HighRateEncoder::new(data, parity, len, DefaultEngine::new(), None).map_err(failed)?;
        Ok(Encoder(Kind::Many { encoder }))
    }

    /// The next data shard.
    pub fn add(&mut self, shard: &[u8]) -> Result<()> {
        match &mut self.0 {
            Kind::Xor { sum } => {
                xor(sum, shard);
                Ok(())
            }
            Kind::Many { encoder } => encoder.add_original_shard(shard).map_err(failed),
        }
    }

    /// After all data shards: each parity shard in order. The encoder can then be used again.
    pub fn finish(&mut self, each: &mut dyn FnMut(usize, &[u8])) -> Result<()> {
        match &mut self.0 {
            Kind::Xor { sum } => {
                each(0, sum);
                sum.fill(0);
            }
            Kind::Many { encoder } => {
                let result = encoder.encode().map_err(failed)?;
                result.recovery_iter().enumerate().for_each(|(i, shard)| each(i, shard));
            }
        }
        Ok(())
    }
}

/// Computes lost data shards from what is left.
pub struct Decoder(Kinds);

enum Kinds {
    Xor { sum: Vec<u8>, seen: Vec<bool> },
    Many { decoder: HighRateDecoder<DefaultEngine> },
}

impl Decoder {
    /// For `data` shards of `len` bytes, a multiple of 64.
    pub fn new(data: usize, parity: usize, len: usize) -> Result<Self> {
        if parity == 1 {
            return Ok(Decoder(Kinds::Xor { sum: vec![0; len], seen: vec![false; data] }));
        }
        let decoder = HighRateDecoder::new(data, parity, len, DefaultEngine::new(), None).map_err(failed)?;
        Ok(Decoder(Kinds::Many { decoder }))
    }

    /// A data shard that is there.
    pub fn add_data(&mut self, number: usize, shard: &[u8]) -> Result<()> {
        match &mut self.0 {
            Kinds::Xor { sum, seen } => {
                seen[number] = true;
                xor(sum, shard);
                Ok(())
            }
            Kinds::Many { decoder } => decoder.add_original_shard(number, shard).map_err(failed),
        }
    }

    /// A parity shard that is there.
    pub fn add_parity(&mut self, number: usize, shard: &[u8]) -> Result<()> {
        match &mut self.0 {
            Kinds::Xor { sum, .. } => {
                xor(sum, shard);
                Ok(())
            }
            Kinds::Many { decoder } => decoder.add_recovery_shard(number, shard).map_err(failed),
        }
    }

    /// The data shards that were not given; an error when too few shards were.
    pub fn finish(&mut self, each: &mut dyn FnMut(usize, &[u8])) -> Result<()> {
        match &mut self.0 {
            Kinds::Xor { sum, seen } => {
                let mut lost = seen.iter().enumerate().filter(|(_, seen)| !**seen);
                if let Some((number, _)) = lost.next() {
                    if lost.next().is_some() {
                        return Err(Error::corrupt("more shards are lost than there is parity for"));
                    }
                    each(number, sum);
                }
                sum.fill(0);
                seen.fill(false);
            }
            Kinds::Many { decoder } => {
                let result = decoder.decode().map_err(failed)?;
                result.restored_original_iter().for_each(|(i, shard)| each(i, shard));
            }
        }
        Ok(())
    }
}

fn xor(sum: &mut [u8], shard: &[u8]) {
    sum.iter_mut().zip(shard).for_each(|(a, b)| *a ^= b);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shards(n: usize, len: usize) -> Vec<Vec<u8>> {
        (0..n).map(|i| (0..len).map(|j| (i * 31 + j * 7 + (i * j) % 13) as u8).collect()).collect()
    }

    fn parity(data: &[Vec<u8>], r: usize, range: std::ops::Range<usize>) -> Vec<Vec<u8>> {
        let mut encoder = Encoder::new(data.len(), r, range.len()).expect("an encoder");
        data.iter().for_each(|shard| encoder.add(&shard[range.clone()]).expect("added"));
        let mut out = Vec::new();
        encoder.finish(&mut |_, shard| out.push(shard.to_vec())).expect("encoded");
        out
    }

    #[test]
    fn a_strip_of_the_shards_gives_that_strip_of_the_parity() {
        for r in [1, 2, 3, 8] {
            let data = shards(21, 256);
            let whole = parity(&data, r, 0..256);
            for start in [0, 64, 128, 192] {
                let strip = parity(&data, r, start..start + 64);
                for (whole, strip) in whole.iter().zip(strip) {
                    assert_eq!(whole[start..start + 64], strip);
                }
            }
        }
    }

    #[test]
    fn one_parity_shard_is_the_exclusive_or_of_all() {
        let data = shards(5, 64);
        let mut encoder = HighRateEncoder::new(5, 1, 64, DefaultEngine::new(), None).expect("an encoder");
        data.iter().for_each(|shard| encoder.add_original_shard(shard).expect("added"));
        let result = encoder.encode().expect("encoded");
        assert_eq!(result.recovery(0), Some(parity(&data, 1, 0..64)[0].as_slice()));
    }
}
