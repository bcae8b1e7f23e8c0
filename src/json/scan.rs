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

    /// Any number of digits may follow.
    pub fn repeats(self) -> bool {
        matches!(self, Digits::Whole | Digits::Fraction | Digits::Power)
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

const ONES: u64 = 0x0101_0101_0101_0101;
const TOPS: u64 = 0x8080_8080_8080_8080;

/// How many bytes from `at` on are such that `stops`, of eight of them, leaves their top bits clear.
#[inline]
fn run(bytes: &[u8], mut at: usize, stops: impl Fn(u64) -> u64, one: impl Fn(u8) -> bool) -> usize {
    while let Some(Ok(eight)) = bytes.get(at..at + 8).map(<[u8; 8]>::try_from) {
        let stops = stops(u64::from_le_bytes(eight)) & TOPS;
        if stops != 0 {
            return at + stops.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    while bytes.get(at).is_some_and(|byte| one(*byte)) {
        at += 1;
    }
    at
}

/// Where the digits that begin at `at` end.
pub fn behind_digits(bytes: &[u8], at: usize) -> usize {
    // Zero to nine stay below the top bit when 0x76 is added; a carry can only reach bytes behind the first stop.
    let stops = |word: u64| {
        let value = word ^ (ONES * 0x30);
        value.wrapping_add(ONES * 0x76) | value
    };
    run(bytes, at, stops, |byte| byte.is_ascii_digit())
}

/// Where the spaces that begin at `at` end.
pub fn behind_spaces(bytes: &[u8], at: usize) -> usize {
    let stops = |word: u64| {
        let value = word ^ (ONES * 0x20);
        value.wrapping_add(ONES * 0x7f) | value
    };
    run(bytes, at, stops, |byte| byte == b' ')
}

/// Where the plain part of a string ends: at a quote, a backslash or a control character.
#[inline]
pub fn plain_end(bytes: &[u8], at: usize) -> usize {
    let zero = |word: u64| word.wrapping_sub(ONES) & !word;
    let stops = |word: u64| {
        zero(word ^ (ONES * 0x22)) | zero(word ^ (ONES * 0x5c)) | (word.wrapping_sub(ONES * 0x20) & !word)
    };
    run(bytes, at, stops, |byte| !matches!(byte, b'"' | b'\\' | 0..=0x1f))
}

/// A hash that tells keys apart; nothing but remarks depends on it.
pub fn hash(bytes: &[u8]) -> u64 {
    let fold = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        (product as u64) ^ (product >> 64) as u64
    };
    let four = |at: usize| bytes.get(at..at + 4).map_or(0, |b| u64::from(u32_of(b)));
    let eight = |at: usize| {
        bytes.get(at..at + 8).map_or(0, |b| u64::from(u32_of(b)) | u64::from(u32_of(&b[4..])) << 32)
    };
    let len = bytes.len();
    let mut state = 0x9e37_79b9_7f4a_7c15 ^ len as u64;
    // Ends may overlap: together with the length they say all.
    let (a, b) = match len {
        0 => (0, 0),
        1..=3 => (u64::from(bytes[0]) << 16 | u64::from(bytes[len / 2]) << 8 | u64::from(bytes[len - 1]), 0),
        4..=8 => (four(0), four(len - 4)),
        9..=16 => (eight(0), eight(len - 8)),
        _ => {
            for at in (0..len - 16).step_by(16) {
                state = fold(eight(at) ^ state, eight(at + 8) ^ 0xa076_1d64_78bd_642f);
            }
            (eight(len - 16), eight(len - 8))
        }
    };
    fold(fold(a ^ 0xe703_7ed1_a0b4_28db, b ^ state), 0x8ebc_6af0_9c88_c6e3)
}

fn u32_of(bytes: &[u8]) -> u32 {
    bytes.first_chunk::<4>().map_or(0, |four| u32::from_le_bytes(*four))
}
