//! Pieces of JSON text at speed: numbers digit by digit, strings eight bytes at a time, keys as hashes.

/// Where in a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Digits {
    Minus,
    Zero,
    Whole,
    Point,
    Fraction,
    Exponent,
    Sign,
    Power,
}

impl Digits {
    pub fn may_end(self) -> bool {
        matches!(self, Digits::Zero | Digits::Whole | Digits::Fraction | Digits::Power)
    }

    /// The state behind this byte, if the number goes on with it.
    pub fn next(self, byte: u8) -> Option<Digits> {
        use Digits as D;
        Some(match (self, byte) {
            (D::Minus, b'0') => D::Zero,
            (D::Minus, b'1'..=b'9') | (D::Whole, b'0'..=b'9') => D::Whole,
            (D::Zero | D::Whole, b'.') => D::Point,
            (D::Zero | D::Whole | D::Fraction, b'e' | b'E') => D::Exponent,
            (D::Point | D::Fraction, b'0'..=b'9') => D::Fraction,
            (D::Exponent, b'+' | b'-') => D::Sign,
            (D::Exponent | D::Sign | D::Power, b'0'..=b'9') => D::Power,
            _ => return None,
        })
    }
}

/// Where the plain part of a string ends: at a quote, a backslash or a control character; and whether it holds bytes
/// that are not ASCII.
pub fn plain_end(bytes: &[u8], mut at: usize) -> (usize, bool) {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = 0x8080_8080_8080_8080;
    let zero = |word: u64| word.wrapping_sub(ONES) & !word & TOPS;
    let mut high = false;
    loop {
        while let Some(Ok(eight)) = bytes.get(at..at + 8).map(<[u8; 8]>::try_from) {
            let word = u64::from_le_bytes(eight);
            let ends = zero(word ^ (ONES * 0x22))
                | zero(word ^ (ONES * 0x5c))
                | (word.wrapping_sub(ONES * 0x20) & !word & TOPS);
            let upto = if ends == 0 { 8 } else { ends.trailing_zeros() as usize / 8 };
            // Only what stands before the end belongs to the string.
            let before = if upto == 8 { TOPS } else { TOPS & ((1u64 << (8 * upto)) - 1) };
            high |= word & before != 0;
            at += upto;
            if upto < 8 {
                return (at, high);
            }
        }
        match bytes.get(at) {
            None | Some(b'"' | b'\\' | 0..=0x1f) => return (at, high),
            Some(byte) => high |= *byte >= 0x80,
        }
        at += 1;
    }
}

/// A hash that tells keys apart; nothing but remarks depends on it.
pub fn hash(bytes: &[u8]) -> u64 {
    const K: u64 = 0x9e37_79b9_7f4a_7c15;
    let fold = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        (product as u64) ^ (product >> 64) as u64
    };
    let mut state = K ^ bytes.len() as u64;
    let mut chunks = bytes.chunks_exact(8);
    for eight in &mut chunks {
        let word = eight.try_into().map_or(0, u64::from_le_bytes);
        state = fold(state ^ word, 0xa076_1d64_78bd_642f);
    }
    let mut last = [0; 8];
    let rest = chunks.remainder();
    last[..rest.len()].copy_from_slice(rest);
    state = fold(state ^ u64::from_le_bytes(last), 0xe703_7ed1_a0b4_28db);
    fold(state ^ K, 0x8ebc_6af0_9c88_c6e3)
}
