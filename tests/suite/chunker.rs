//! Cuts are the format's: they match the vectors, a plain second implementation, and themselves after an insertion.

use snapkeep::chunker::{CONTENT, ChunkClass, Chunker, DATABASE, Gear, WHOLE_FILE_MAX};
use std::collections::{HashMap, HashSet};

const VECTORS: &str = include_str!("../../format-spec/vectors/chunking.txt");
const SMALL: ChunkClass = ChunkClass { min: 256, avg: 1024, max: 4096 };
const WORDS: &str = "the chunk of a file is cut where its last bytes say so and not at";

/// Chapter 7 of the specification, one byte at a time, sharing nothing with the program.
struct Plain {
    gear: [u32; 256],
    class: ChunkClass,
}

impl Plain {
    fn new(random: &[u8; 768], class: ChunkClass) -> Plain {
        let a = bytes("a8811b65b0332850febd4d18f8316788");
        let b = bytes("dafb523e3ff47902755b0be09e3fe602");
        let value = |i: usize| {
            let low = a[i % 16] ^ b[i / 16];
            u32::from_le_bytes([low, random[3 * i], random[3 * i + 1], random[3 * i + 2]])
        };
        Plain { gear: std::array::from_fn(value), class }
    }

    fn cut(&self, data: &[u8]) -> usize {
        let [min, avg, max] = [self.class.min, self.class.avg, self.class.max].map(|n| n as usize);
        let end = data.len().min(max);
        if end <= min {
            return end;
        }
        let mask = |bits: u32| 0xff | !(u32::MAX >> (bits - 8));
        let (strict, relaxed) = (mask(self.class.avg.ilog2() + 2), mask(self.class.avg.ilog2() - 2));
        let mut hash = 0u32;
        for (at, byte) in data.iter().enumerate().take(end / 2 * 2).skip(min) {
            hash = (hash << 1).wrapping_add(self.gear[usize::from(*byte)]);
            if hash & (if at < avg { strict } else { relaxed }) == 0 {
                return at;
            }
        }
        end
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    snapkeep::id::unhex(hex).expect("lower-case hex")
}

fn xof(context: &str, material: &[u8]) -> [u8; 768] {
    let mut out = [0; 768];
    blake3::Hasher::new_derive_key(context).update(material).finalize_xof().fill(&mut out);
    out
}

fn public() -> [u8; 768] {
    xof("snapkeep 2026-11 public gear table", &[])
}

/// SplitMix64, as the vectors define it.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

fn random(length: usize, seed: u64) -> Vec<u8> {
    let mut numbers = Random(seed);
    let mut out: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| numbers.next().to_le_bytes()).collect();
    out.truncate(length);
    out
}

fn words(length: usize, seed: u64) -> Vec<u8> {
    let words: Vec<&str> = WORDS.split(' ').collect();
    let (mut numbers, mut out) = (Random(seed), Vec::new());
    while out.len() < length {
        let z = numbers.next();
        out.extend(words[(z % 16) as usize].bytes());
        out.push(if (z >> 8).is_multiple_of(8) { b'\n' } else { b' ' });
    }
    out.truncate(length);
    out
}

fn repeat(length: usize, unit: &[u8]) -> Vec<u8> {
    unit.iter().copied().cycle().take(length).collect()
}

/// All chunk lengths of a stream.
fn lengths(data: &[u8], mut cut: impl FnMut(&[u8]) -> usize) -> Vec<usize> {
    let (mut rest, mut out) = (data, Vec::new());
    while !rest.is_empty() {
        let length = cut(rest);
        assert!(length > 0 && length <= rest.len(), "a chunk of {length} of {} bytes", rest.len());
        out.push(length);
        rest = &rest[length..];
    }
    out
}

/// Offsets at which chunks end.
fn ends(lengths: &[usize]) -> Vec<usize> {
    let advance = |at: &mut usize, length: &usize| {
        *at += length;
        Some(*at)
    };
    lengths.iter().scan(0, advance).collect()
}

#[test]
fn cuts_are_those_of_the_vectors() {
    let (mut tables, mut checked) = (HashMap::new(), 0);
    let (mut table, mut class, mut data) = (public(), SMALL, Vec::new());
    for line in VECTORS.lines() {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let number = |i: usize| fields[i].parse::<usize>().expect("a number");
        match fields.first().copied() {
            Some("table") => {
                let random: [u8; 768] = bytes(fields[2]).try_into().expect("768 bytes");
                tables.insert(fields[1].to_owned(), random);
            }
            Some("case") => {
                table = tables[fields[1]];
                class = ChunkClass { min: number(2) as u32, avg: number(3) as u32, max: number(4) as u32 };
                class.check().expect("a class of the format");
                data.clear();
            }
            Some("part") => data.extend(match fields[1] {
                "random" => random(number(2), number(3) as u64),
                "words" => words(number(2), number(3) as u64),
                _ => repeat(number(2), &bytes(fields[3])),
            }),
            Some("cuts") => {
                let expected: Vec<usize> = (1..fields.len()).map(number).collect();
                let chunker = Chunker::new(&Gear::new(&table), class);
                assert_eq!(lengths(&data, |d| chunker.cut(d)), expected, "before `{line}`");
                let plain = Plain::new(&table, class);
                assert_eq!(lengths(&data, |d| plain.cut(d)), expected, "plain, before `{line}`");
                checked += 1;
            }
            _ => assert!(fields.is_empty() || fields[0] == "#", "unknown line `{line}`"),
        }
    }
    assert_eq!(checked, 37);
    assert_eq!(tables["public"], public());
    let key: Vec<u8> = (0..32).collect();
    assert_eq!(tables["keyed"], xof("snapkeep v1 keyed gear table", &key));
}

#[test]
fn cuts_are_those_of_a_plain_second_implementation() {
    let mut numbers = Random(20);
    let classes =
        [SMALL, ChunkClass { min: 64, avg: 1024, max: 1024 }, ChunkClass { min: 1022, avg: 4096, max: 5002 }];
    for round in 0..400u64 {
        let table = xof("chunker test", &(round / 40).to_le_bytes());
        let class = classes[numbers.below(classes.len())];
        let length = numbers.below(12_000);
        let data = match round % 5 {
            0 => random(length, round),
            1 => words(length, round),
            2 => repeat(length, &[numbers.next() as u8]),
            // Short turns: where one passes the filter, it does so at every turn.
            3 => repeat(length, &random(1 + numbers.below(40), round)),
            _ => [random(length / 2, round), vec![0; length / 3], words(length, round)].concat(),
        };
        let (chunker, plain) = (Chunker::new(&Gear::new(&table), class), Plain::new(&table, class));
        assert_eq!(lengths(&data, |d| chunker.cut(d)), lengths(&data, |d| plain.cut(d)), "round {round}");
    }
}

#[test]
fn cuts_need_max_bytes_and_not_one_more() {
    let data = random(300_000, 30);
    let chunker = Chunker::new(&Gear::new(&public()), SMALL);
    let max = SMALL.max as usize;
    let narrow = lengths(&data, |d| chunker.cut(&d[..d.len().min(max)]));
    assert_eq!(narrow, lengths(&data, |d| chunker.cut(d)));
    for length in &narrow[..narrow.len() - 1] {
        assert!((SMALL.min as usize..=max).contains(length), "a chunk of {length} bytes");
    }
}

#[test]
fn cuts_meet_again_after_an_insertion() {
    let chunker = Chunker::new(&Gear::new(&public()), DATABASE);
    let old = [words(4 << 20, 40), random(4 << 20, 41)].concat();
    let before = ends(&lengths(&old, |d| chunker.cut(d)));
    for (at, inserted) in [(1_000_003, 1), (3_000_001, 37), (5_000_001, 300_007)] {
        let new = [&old[..at], &random(inserted, 42), &old[at..]].concat();
        let after = ends(&lengths(&new, |d| chunker.cut(d)));
        let moved: HashSet<usize> = before.iter().map(|end| end + inserted).collect();
        // Chunks wholly before the insertion are untouched; some cuts later all are old ones, moved.
        let touched = before.iter().take_while(|end| **end <= at).count();
        assert_eq!(before[..touched], after[..touched]);
        let met =
            after.iter().position(|end| *end > at + inserted && moved.contains(end)).expect("they meet");
        assert!(
            after[met] - at - inserted < 16 * DATABASE.avg as usize,
            "met after {} bytes",
            after[met] - at
        );
        assert!(after[met..].iter().all(|end| moved.contains(end)));
    }
}

#[test]
fn database_cuts_fall_on_page_edges() {
    let chunker = Chunker::new(&Gear::new(&public()), DATABASE);
    let data = [random(2 << 20, 50), vec![0; 1 << 20], words((1 << 20) + 777, 51)].concat();
    for page in [512, 4096, 65_536] {
        let found = lengths(&data, |d| chunker.cut_at_page(d, page));
        let (last, whole) = found.split_last().expect("chunks");
        assert_eq!(last % page, data.len() % page);
        let (min, max) = (DATABASE.min as usize, DATABASE.max as usize);
        assert!(whole.iter().all(|n| n % page == 0 && (min..=max).contains(n)), "{page}: {found:?}");
    }
}

#[test]
fn means_lie_a_little_above_the_nominal_average() {
    let data = random(48 << 20, 60);
    let mean = |class| {
        let found = lengths(&data, |d| Chunker::new(&Gear::new(&public()), class).cut(d));
        data.len() / found.len()
    };
    let quarter = mean(ChunkClass { min: 16 << 10, avg: 64 << 10, max: 256 << 10 });
    assert!((68 << 10..78 << 10).contains(&quarter), "mean {quarter} bytes");
    // The more of the average the least length takes, the further the mean lies above it.
    let half = mean(DATABASE);
    assert!((140 << 10..190 << 10).contains(&half), "mean {half} bytes");
}

#[test]
fn classes_outside_the_format_are_refused() {
    assert!(CONTENT.check().is_ok() && DATABASE.check().is_ok() && SMALL.check().is_ok());
    assert!(WHOLE_FILE_MAX >= CONTENT.min as usize && WHOLE_FILE_MAX <= CONTENT.max as usize);
    for (min, avg, max) in [
        (0, 1024, 4096),
        (62, 1024, 4096),
        (256, 512, 4096),
        (256, 1024, 512),
        (2048, 1024, 4096),
        (256, 1024, 1022),
        (257, 1024, 4096),
        (256, 1024, 4097),
        (256, 1026, 4096),
        (256, 8 << 20, 16 << 20),
        (2 << 20, 4 << 20, 16 << 20),
        (256, 1024, (16 << 20) + 2),
    ] {
        let class = ChunkClass { min, avg, max };
        assert!(class.check().is_err(), "{class:?}");
    }
}
