//! How hard to try on bodies of many small chunks, by trying now and then.
//!
//! In such bodies matches are short and the dearer search often gains little; among figures it even does harm. A
//! sample of one body in some dozens goes through every way; the cheapest that is nearly as good as the best serves
//! until the next trial. Nothing depends on the choice but bytes and time.

use super::{Kind, failed};
use crate::error::Result;
use zstd::zstd_safe::{CCtx, CParameter, Strategy, compress_bound};

/// Chunks of at most this many bytes on average make a body one of small chunks.
const SMALL_CHUNK: usize = 8 << 10;
/// Bytes tried; bodies with less than the second do not teach anything.
const SAMPLE: usize = 256 << 10;
const SAMPLE_MIN: usize = 16 << 10;
/// Bodies of a kind from one trial to the next, at first and in the long run.
const FIRST_PAUSE: u32 = 4;
const PAUSE: u32 = 64;
/// What a cheaper way may cost in bytes, in per cent of the smallest result.
const TOLERANCE: usize = 6;

/// The cheaper ways, cheapest first, and what is chosen for each kind.
pub struct Effort {
    contexts: [CCtx<'static>; 2],
    scratch: Vec<u8>,
    choices: [Choice; Kind::COUNT],
}

#[derive(Clone, Copy)]
struct Choice {
    /// Number of the way; as many as there are contexts means the level's own.
    way: usize,
    /// Bodies until the next trial, and how many there were to be.
    left: u32,
    pause: u32,
}

impl Effort {
    pub fn new() -> Result<Self> {
        // The first leaves out short matches altogether; the second takes them where they are met at once.
        let quick = context(&[CParameter::CompressionLevel(1)])?;
        let close = context(&[
            CParameter::CompressionLevel(1),
            CParameter::Strategy(Strategy::ZSTD_fast),
            CParameter::HashLog(15),
            CParameter::MinMatch(5),
        ])?;
        let contexts = [quick, close];
        let first = Choice { way: contexts.len(), left: 0, pause: FIRST_PAUSE };
        Ok(Effort { contexts, scratch: Vec::new(), choices: [first; Kind::COUNT] })
    }

    /// The context for `plain`, of so many chunks: one of ours or `full`, the level's own.
    pub fn choose<'c>(
        &'c mut self,
        full: &'c mut CCtx<'static>,
        plain: &[u8],
        kind: Kind,
        chunks: usize,
    ) -> Result<&'c mut CCtx<'static>> {
        if plain.len() > chunks.saturating_mul(SMALL_CHUNK) || plain.len() < SAMPLE_MIN {
            return Ok(full);
        }
        let choice = &mut self.choices[kind as usize];
        if choice.left == 0 {
            let start = plain.len().saturating_sub(SAMPLE) / 2;
            let sample = &plain[start..plain.len().min(start + SAMPLE)];
            choice.way = cheapest(&mut self.contexts, full, sample, &mut self.scratch)?;
            choice.left = choice.pause;
            choice.pause = (choice.pause * 2).min(PAUSE);
        }
        choice.left -= 1;
        Ok(self.contexts.get_mut(choice.way).unwrap_or(full))
    }
}

fn context(parameters: &[CParameter]) -> Result<CCtx<'static>> {
    let mut context = CCtx::create();
    for parameter in parameters {
        context.set_parameter(*parameter).map_err(failed)?;
    }
    Ok(context)
}

/// The number of the first way whose result is nearly the smallest.
fn cheapest(
    ours: &mut [CCtx<'static>],
    full: &mut CCtx<'static>,
    sample: &[u8],
    scratch: &mut Vec<u8>,
) -> Result<usize> {
    let mut sizes = Vec::with_capacity(ours.len() + 1);
    for context in ours.iter_mut().chain([full]) {
        scratch.clear();
        scratch.reserve(compress_bound(sample.len()));
        sizes.push(context.compress2(scratch, sample).map_err(failed)?);
    }
    let smallest = sizes.iter().copied().min().unwrap_or_default();
    let near = |size: &usize| size.saturating_mul(100) <= smallest.saturating_mul(100 + TOLERANCE);
    Ok(sizes.iter().position(near).unwrap_or(ours.len()))
}

#[cfg(test)]
mod tests {
    use super::super::{Compressor, Decompressor, Level};
    use super::*;

    /// Small chunks of numbers without a pattern, as a body holds them.
    fn figures(len: usize) -> Vec<u8> {
        let mut state = 7u64;
        let mut out = Vec::new();
        while out.len() < len {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            out.extend_from_slice(format!("{},", (state >> 33) % 1_000_000).as_bytes());
        }
        out.truncate(len);
        out
    }

    #[test]
    fn the_dear_search_is_dropped_where_it_does_harm_and_kept_where_it_pays() {
        let body = figures(512 << 10);
        let way = |level, chunks| {
            let mut compressor = Compressor::new(level).expect("zstd");
            let mut out = Vec::new();
            assert!(compressor.compress(&body, Kind::Figures, chunks, &mut out).expect("zstd"));
            let mut again = Vec::new();
            Decompressor::new()
                .expect("zstd")
                .decompress_into(&out, body.len(), &mut again)
                .expect("expands");
            assert_eq!(again, body);
            out.len()
        };
        let fixed = way(Level::parse("3").expect("a level"), 256);
        assert!(way(Level::AUTO, 256) < fixed, "the quick way is smaller as well");
        assert_eq!(way(Level::AUTO, 2), fixed, "bodies of large chunks keep their level");
        // Long repeats at some distance: the own level finds more than a tenth that the others miss.
        let mut long = Vec::new();
        for i in 0..64usize {
            long.extend_from_slice(&figures(40 << 10)[(i % 7) * 997..(i % 7) * 997 + 8000]);
        }
        let mut effort = Effort::new().expect("zstd");
        let mut full = context(&[CParameter::CompressionLevel(3)]).expect("zstd");
        let mut scratch = Vec::with_capacity(1 << 20);
        let sizes: Vec<usize> = [0, 1, 2]
            .map(|i| {
                let context = if i < 2 { &mut effort.contexts[i] } else { &mut full };
                scratch.clear();
                context.compress2(&mut scratch, &long[..SAMPLE]).expect("zstd")
            })
            .to_vec();
        let chosen = cheapest(&mut effort.contexts, &mut full, &long[..SAMPLE], &mut scratch).expect("zstd");
        let smallest = *sizes.iter().min().expect("three");
        assert!(sizes[chosen] * 100 <= smallest * (100 + TOLERANCE), "{sizes:?}, chosen {chosen}");
        assert!(sizes[..chosen].iter().all(|s| s * 100 > smallest * (100 + TOLERANCE)), "{sizes:?}");
    }
}
