//! zstd with and without a history; the only home of the zstd crate.

mod effort;
mod kind;

pub use kind::Kind;

use crate::error::{Error, Result};
use effort::Effort;
use std::cell::RefCell;
use std::io::Cursor;
use zstd::zstd_safe::{self, CCtx, CParameter, DCtx, DParameter, Strategy, compress_bound, get_error_name};

/// How hard to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// zstd's level; `None` stores everything as it is.
    pub zstd: Option<i32>,
    /// Plain bytes of a solid body, in bytes.
    pub body_bytes: usize,
    /// Bodies of many small chunks may be compressed with less effort where more gains next to nothing.
    pub adaptive: bool,
}

impl Level {
    pub const OFF: Level = Level::fixed(None, 1 << 20);
    pub const FASTEST: Level = Level::fixed(Some(1), 1 << 20);
    pub const AUTO: Level = Level { zstd: Some(3), body_bytes: 1 << 20, adaptive: true };
    pub const BETTER: Level = Level::fixed(Some(6), 2 << 20);
    pub const MAX: Level = Level::fixed(Some(9), 2 << 20);

    const fn fixed(zstd: Option<i32>, body_bytes: usize) -> Self {
        Level { zstd, body_bytes, adaptive: false }
    }

    /// `off`, `fastest`, `auto`, `better`, `max`, or a zstd level from -7 to 19.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(match text {
            "off" => Level::OFF,
            "fastest" => Level::FASTEST,
            "auto" => Level::AUTO,
            "better" => Level::BETTER,
            "max" => Level::MAX,
            _ => match text.parse::<i32>() {
                Ok(n) if (-7..=19).contains(&n) && n != 0 => Level::fixed(Some(n), 1 << 20),
                _ => {
                    return Err(Error::invalid(format!(
                        "`{text}` is no compression; use off, fastest, auto, better, max or a zstd level from -7 to 19"
                    )));
                }
            },
        })
    }
}

fn failed(code: usize) -> Error {
    Error::corrupt(format!("zstd: {}", get_error_name(code)))
}

/// A compressor for one thread; its context is kept between bodies.
pub struct Compressor {
    context: CCtx<'static>,
    probe: CCtx<'static>,
    level: Level,
    effort: Option<Effort>,
}

impl Compressor {
    pub fn new(level: Level) -> Result<Self> {
        let mut context = CCtx::create();
        if let Some(zstd) = level.zstd {
            context.set_parameter(CParameter::CompressionLevel(zstd)).map_err(failed)?;
        }
        // A context of its own: changing the level of the other would throw its tables away each time.
        let mut probe = CCtx::create();
        probe.set_parameter(CParameter::CompressionLevel(-1)).map_err(failed)?;
        let effort = if level.adaptive { Some(Effort::new()?) } else { None };
        Ok(Compressor { context, probe, level, effort })
    }

    /// One zstd frame, appended to `out`; `false` (and nothing appended) when it saves less than 3 %. `plain` is made
    /// of so many `chunks` of one kind.
    pub fn compress(&mut self, plain: &[u8], kind: Kind, chunks: usize, out: &mut Vec<u8>) -> Result<bool> {
        if self.level.zstd.is_none() || plain.len() < 16 || self.looks_random(plain)? {
            return Ok(false);
        }
        let context = match &mut self.effort {
            Some(effort) => effort.choose(&mut self.context, plain, kind, chunks)?,
            None => &mut self.context,
        };
        let start = out.len();
        out.reserve(compress_bound(plain.len()));
        let mut end = Cursor::new(&mut *out);
        end.set_position(start as u64);
        let n = context.compress2(&mut end, plain).map_err(failed)?;
        let saves = n + plain.len() / 32 < plain.len();
        if !saves {
            out.truncate(start);
        }
        Ok(saves)
    }

    /// A sample from the middle that does not shrink stands for the whole, as in zstd's own skipping, only cheaper.
    fn looks_random(&mut self, plain: &[u8]) -> Result<bool> {
        const SAMPLE: usize = 4096;
        const LOOKS: usize = 3;
        if plain.len() < 64 * 1024 {
            return Ok(false);
        }
        let mut buffer = [0u8; SAMPLE + 512];
        let mut random = true;
        for look in 1..=LOOKS {
            let at = (plain.len() - SAMPLE) * look / (LOOKS + 1);
            let n = self.probe.compress2(&mut buffer[..], &plain[at..at + SAMPLE]).map_err(failed)?;
            random &= n + SAMPLE / 64 > SAMPLE;
            if !random {
                break;
            }
        }
        Ok(random)
    }
}

/// How to look for what a history has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search {
    /// Short and long matches, wherever they are.
    Close,
    /// One table for what is mostly the same at the same place: 1.5 % more bytes for 65 % of the time. Where history and
    /// content are too long for its table it is as `Close`.
    Quick,
}

/// History and content together, in bytes, up to which a quick search finds what there is.
const QUICK_BYTES_MAX: usize = 512 << 10;

/// One zstd frame of `plain` with `prefix` as its history, appended to `out`.
///
/// The window holds prefix and content together, and the hash table is large enough to index the prefix: one step
/// less of either costs 13 to 70 times the bytes, silently.
pub fn compress_with_prefix(plain: &[u8], prefix: &[u8], search: Search, out: &mut Vec<u8>) -> Result<()> {
    let total = plain.len() + prefix.len();
    let window = (usize::BITS - total.max(1024).saturating_sub(1).leading_zeros()).clamp(10, 24);
    let hash = if total <= 512 << 10 { 17 } else { 20 };
    let mut context = CCtx::create();
    for parameter in [
        CParameter::CompressionLevel(3),
        CParameter::WindowLog(window),
        CParameter::HashLog(hash),
        CParameter::EnableLongDistanceMatching(false),
    ] {
        context.set_parameter(parameter).map_err(failed)?;
    }
    if search == Search::Quick && total <= QUICK_BYTES_MAX {
        // The second table is not used, but made and cleared all the same.
        for parameter in
            [CParameter::Strategy(Strategy::ZSTD_fast), CParameter::ChainLog(6), CParameter::MinMatch(6)]
        {
            context.set_parameter(parameter).map_err(failed)?;
        }
    }
    context.ref_prefix(prefix).map_err(failed)?;
    let start = out.len();
    out.reserve(compress_bound(plain.len()));
    let mut end = Cursor::new(&mut *out);
    end.set_position(start as u64);
    let n = context.compress2(&mut end, plain).map_err(failed)?;
    debug_assert_eq!(out.len(), start + n);
    Ok(())
}

/// Begins every zstd frame that is not skippable.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// `stored` must be one zstd frame and nothing more: the library itself goes on to any that follow and passes over
/// skippable ones. Reads the headers of the blocks only.
fn one_frame(stored: &[u8]) -> Result<()> {
    let len = zstd_safe::find_frame_compressed_size(stored).map_err(failed)?;
    if len != stored.len() || !stored.starts_with(&ZSTD_MAGIC) {
        return Err(Error::corrupt("a body is not exactly one zstd frame"));
    }
    Ok(())
}

/// A decompressor for one thread.
pub struct Decompressor {
    context: DCtx<'static>,
}

impl Decompressor {
    pub fn new() -> Result<Self> {
        Ok(Decompressor { context: new_expander()? })
    }

    /// Exactly `raw_len` bytes from one zstd frame.
    pub fn decompress(&mut self, stored: &[u8], raw_len: usize) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        self.decompress_into(stored, raw_len, &mut out)?;
        Ok(out)
    }

    /// As `decompress`, into memory used before.
    pub fn decompress_into(&mut self, stored: &[u8], raw_len: usize, out: &mut Vec<u8>) -> Result<()> {
        one_frame(stored)?;
        out.clear();
        out.reserve_exact(raw_len);
        let n = self.context.decompress(out, stored).map_err(failed)?;
        exact(raw_len, n)
    }
}

thread_local! {
    /// Making a context takes longer than expanding most differences.
    static EXPANDER: RefCell<Option<DCtx<'static>>> = const { RefCell::new(None) };
}

/// What begins so is taken for a trained dictionary where zstd is given a dictionary for one call.
const ZSTD_DICTIONARY: [u8; 4] = [0x37, 0xa4, 0x30, 0xec];

/// Exactly `raw_len` bytes from one zstd frame that was made with `prefix`.
pub fn decompress_with_prefix(stored: &[u8], prefix: &[u8], raw_len: usize) -> Result<Vec<u8>> {
    one_frame(stored)?;
    let mut out = Vec::new();
    out.reserve_exact(raw_len);
    if prefix.starts_with(&ZSTD_DICTIONARY) {
        let mut context = new_expander()?;
        context.ref_prefix(prefix).map_err(failed)?;
        let n = context.decompress(&mut out, stored).map_err(failed)?;
        exact(raw_len, n)?;
        return Ok(out);
    }
    EXPANDER.with(|cell| {
        let mut slot = cell.borrow_mut();
        let context = match slot.as_mut() {
            Some(context) => context,
            None => slot.insert(new_expander()?),
        };
        let n = context.decompress_using_dict(&mut out, stored, prefix).map_err(failed)?;
        exact(raw_len, n)
    })?;
    Ok(out)
}

fn new_expander() -> Result<DCtx<'static>> {
    let mut context = DCtx::create();
    context.set_parameter(DParameter::WindowLogMax(24)).map_err(failed)?;
    Ok(context)
}

fn exact(raw_len: usize, n: usize) -> Result<()> {
    match n == raw_len {
        true => Ok(()),
        false => Err(Error::corrupt(format!("a body of {raw_len} bytes expands to {n}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_change_against_a_history_is_a_few_bytes_at_every_size() {
        let mut state = 1u64;
        for size in [100usize, 5_000, 70_000, 300_000, 1_100_000] {
            let old: Vec<u8> = (0..size)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (state >> 56) as u8
                })
                .collect();
            let mut new = old.clone();
            new[size / 2] ^= 0x55;
            for search in [Search::Close, Search::Quick] {
                let mut delta = Vec::new();
                compress_with_prefix(&new, &old, search, &mut delta).expect("compresses");
                assert!(delta.len() < 100 + size / 400, "{size}, {search:?}: {}", delta.len());
                assert_eq!(decompress_with_prefix(&delta, &old, size).expect("expands"), new);
                assert!(decompress_with_prefix(&delta, &old, size + 1).is_err());
                assert!(decompress_with_prefix(&delta, &old, size - 1).is_err());
            }
        }
    }

    #[test]
    fn a_history_that_begins_like_a_dictionary_is_a_history() {
        let old = [&ZSTD_DICTIONARY[..], &[7; 300], b"what stood there before, word for word"].concat();
        let new = [&old[..200], b"!", &old[100..]].concat();
        let mut delta = Vec::new();
        compress_with_prefix(&new, &old, Search::Quick, &mut delta).expect("compresses");
        assert_eq!(decompress_with_prefix(&delta, &old, new.len()).expect("expands"), new);
        // And with none at all.
        let mut plain = Vec::new();
        compress_with_prefix(&new, &[], Search::Close, &mut plain).expect("compresses");
        assert_eq!(decompress_with_prefix(&plain, &[], new.len()).expect("expands"), new);
    }
}
