//! Parity: every pattern of damage up to the bound is mended bit for bit, and nothing above it is made up.

use super::format::{array, bytes, encryption, file_name, list, load, number, repository, text};
use super::shelf::Random;
use serde_json::Value;
use snapkeep::crypto::Keyring;
use snapkeep::erasure::Encoder;
use snapkeep::error::{Error, Result};
use snapkeep::format::config::Encryption;
use snapkeep::format::frame::FrameKind;
use snapkeep::format::parity::{Geometry, ParityTable};
use snapkeep::format::{FileName, HEADER_LEN};
use snapkeep::id::{Name, unhex};
use snapkeep::repository::parity::{Mended, Sidecar, build, open};

const PACK: Name = Name([7; 16]);

fn keyring(encryption: Encryption) -> Keyring {
    Keyring::new(Name([3; 16]), encryption, &[5; 32])
}

/// How many patterns: a thousand times as many at night.
fn count(ci: u64) -> u64 {
    let night = std::env::var_os("SNAPKEEP_NIGHT").is_some_and(|v| v == "1");
    if night { ci * 100 } else { ci }
}

fn seed() -> u64 {
    let given = std::env::var("SNAPKEEP_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| {
        let random = snapkeep::repository::random::bytes::<8>().expect("random");
        u64::from_le_bytes(random)
    });
    println!("SNAPKEEP_SEED={seed}");
    seed
}

fn noise(random: &mut Random, len: usize) -> Vec<u8> {
    (0..len.div_ceil(8)).flat_map(|_| random.next().to_le_bytes()).take(len).collect()
}

fn below(random: &mut Random, n: usize) -> usize {
    (random.next() % n as u64) as usize
}

fn from(bytes: &[u8]) -> impl FnMut(u64, usize) -> Result<Vec<u8>> + '_ {
    |offset, len| {
        let range = offset as usize..offset as usize + len;
        bytes.get(range).map(<[u8]>::to_vec).ok_or_else(|| Error::corrupt("cut short"))
    }
}

fn sidecar_of(keyring: &Keyring, pack: &[u8], geometry: Geometry) -> Vec<u8> {
    build(keyring, PACK, geometry, &mut from(pack)).expect("built")
}

fn mend(sidecar: &Sidecar, damaged: &[u8]) -> Mended {
    sidecar.mend(&mut from(damaged)).expect("mended or not")
}

fn is_whole(mended: &Mended, pack: &[u8]) -> bool {
    matches!(mended, Mended::Whole { bytes, .. } if bytes == pack)
}

/// Spoils these shards in one of several ways.
fn spoil(random: &mut Random, bytes: &mut [u8], start: usize, shard: usize) {
    let end = bytes.len().min(start + shard);
    let part = &mut bytes[start..end];
    match random.next() % 4 {
        0 => {
            let at = below(random, part.len());
            part[at] ^= 1 << below(random, 8);
        }
        1 => part.iter_mut().for_each(|b| *b ^= 0xff),
        2 if part.iter().any(|b| *b != 0) => part.fill(0),
        _ => part.iter_mut().for_each(|b| *b = b.wrapping_add(1)),
    }
}

/// Numbers chosen at random, all different.
fn choose(random: &mut Random, from: usize, count: usize) -> Vec<usize> {
    let mut numbers: Vec<usize> = (0..from).collect();
    for i in 0..count {
        let j = i + below(random, from - i);
        numbers.swap(i, j);
    }
    numbers.truncate(count);
    numbers
}

#[test]
fn every_pattern_within_the_bound_is_mended_and_none_above() {
    let mut random = Random(seed());
    let ring = keyring(Encryption::None);
    for round in 0..count(400) {
        let shard = 64 * (1 + below(&mut random, 2));
        let data = 1 + below(&mut random, 48);
        let parity = 1 + below(&mut random, data.min(9));
        let pack_len = (data - 1) * shard + 1 + below(&mut random, shard);
        let geometry = Geometry {
            pack_len: pack_len as u64,
            shard: shard as u32,
            data: data as u32,
            parity: parity as u32,
        };
        let pack = noise(&mut random, pack_len);
        let stored = sidecar_of(&ring, &pack, geometry);
        let table_len = (stored.len() - HEADER_LEN - parity * shard) / 2;
        for _ in 0..25 {
            let bad = below(&mut random, (parity + 3).min(data + parity) + 1);
            let (mut damaged, mut sidecar) = (pack.clone(), stored.clone());
            let mut bad_data = 0;
            for number in choose(&mut random, data + parity, bad) {
                if number < data {
                    bad_data += 1;
                    spoil(&mut random, &mut damaged, number * shard, shard);
                } else {
                    let start = HEADER_LEN + table_len + (number - data) * shard;
                    spoil(&mut random, &mut sidecar, start, shard);
                }
            }
            let opened = open(&ring, PACK, &sidecar).expect("its table is intact");
            let mended = mend(&opened, &damaged);
            let within = bad <= parity || bad_data == 0;
            assert_eq!(is_whole(&mended, &pack), within, "round {round}: {bad} of {geometry:?}");
            if !within {
                assert!(matches!(mended, Mended::Beyond { .. }));
            }
        }
    }
}

#[test]
fn bursts_and_missing_tails_are_mended() {
    let mut random = Random(seed());
    let ring = keyring(Encryption::Aes256Gcm);
    for round in 0..count(60) {
        let pack_len = 1 + below(&mut random, 40_000);
        let percent = [3, 10, 30][below(&mut random, 3)];
        let geometry = Geometry::choose(pack_len as u64, percent);
        let (shard, parity) = (geometry.shard as usize, geometry.parity as usize);
        let pack = noise(&mut random, pack_len);
        let sidecar = open(&ring, PACK, &sidecar_of(&ring, &pack, geometry)).expect("a sidecar");
        assert!(sidecar.sound);
        // A burst wherever it begins touches one shard more than it fills.
        let burst = (parity - 1) * shard + 1;
        let start = below(&mut random, pack_len);
        let mut damaged = pack.clone();
        let end = pack_len.min(start + burst);
        damaged[start..end].iter_mut().for_each(|b| *b ^= 0x55);
        assert!(is_whole(&mend(&sidecar, &damaged), &pack), "round {round}: burst in {geometry:?}");
        // A tail: as many shards as there is parity, the last of which is mostly not full.
        let kept = (geometry.data as usize - parity) * shard;
        assert!(is_whole(&mend(&sidecar, &pack[..kept]), &pack), "round {round}: tail of {geometry:?}");
        if kept > 0 {
            assert!(matches!(mend(&sidecar, &pack[..kept - 1]), Mended::Beyond { .. }));
        }
        // Something behind the end costs nothing.
        let longer = [pack.clone(), vec![9; 777]].concat();
        assert!(is_whole(&mend(&sidecar, &longer), &pack));
    }
}

#[test]
fn a_damaged_sidecar_is_known_and_still_serves() {
    for encryption in [Encryption::None, Encryption::Aes256Gcm] {
        let ring = keyring(encryption);
        let mut random = Random(11);
        let pack = noise(&mut random, 700);
        let geometry = Geometry { pack_len: 700, shard: 64, data: 11, parity: 3 };
        let stored = sidecar_of(&ring, &pack, geometry);
        assert!(open(&ring, PACK, &stored).expect("opened").sound);
        for at in 0..stored.len() {
            let mut flipped = stored.clone();
            flipped[at] ^= 1 << (at % 8);
            let opened = open(&ring, PACK, &flipped).expect("one table is left");
            assert!(!opened.sound, "byte {at}");
            // One shard of parity may be the one that is gone; the others do.
            let mut damaged = pack.clone();
            damaged[65] ^= 1;
            damaged[300] ^= 1;
            assert!(is_whole(&mend(&opened, &damaged), &pack), "byte {at}");
        }
        for len in 0..stored.len() {
            if let Ok(opened) = open(&ring, PACK, &stored[..len]) {
                assert!(!opened.sound, "cut to {len}");
                assert!(is_whole(&mend(&opened, &pack), &pack));
            }
        }
        let longer = [stored.clone(), vec![0]].concat();
        assert!(!open(&ring, PACK, &longer).expect("opened").sound);
        assert!(open(&ring, Name([8; 16]), &stored).is_err(), "another pack's");
        let other = Keyring::new(Name([4; 16]), encryption, &[5; 32]);
        assert!(open(&other, PACK, &stored).is_err(), "another repository's");
    }
}

#[test]
fn the_price_is_as_stated() {
    for (pack_len, percent, most) in [
        (32u64 << 20, 3, 3.4),
        (33 << 20, 3, 3.4),
        (80 << 20, 3, 3.4),
        (16 << 20, 3, 3.4),
        (8 << 20, 3, 4.0),
        (1 << 20, 3, 4.2),
        (128 << 10, 3, 5.5),
        (32 << 20, 10, 10.5),
    ] {
        let geometry = Geometry::choose(pack_len, percent);
        let table = ParityTable {
            pack: PACK,
            geometry,
            sums: vec![[0; 16]; (geometry.data + geometry.parity) as usize],
        };
        let tables = 2 * (table.encode().len() + 72);
        let bytes = HEADER_LEN + tables + geometry.parity as usize * geometry.shard as usize;
        let share = 100.0 * bytes as f64 / pack_len as f64;
        assert!(share < most, "{share:.2} % of {pack_len}");
        assert!(f64::from(geometry.parity) * 100.0 >= f64::from(geometry.data * percent));
        assert!(ParityTable::decode(&table.encode()).is_ok(), "{geometry:?}");
    }
}

fn code(data: &[Vec<u8>], parity: usize) -> Vec<Vec<u8>> {
    let mut encoder = Encoder::new(data.len(), parity, data[0].len()).expect("an encoder");
    data.iter().for_each(|shard| encoder.add(shard).expect("added"));
    let mut out = Vec::new();
    encoder.finish(&mut |_, shard| out.push(shard.to_vec())).expect("encoded");
    out
}

#[test]
fn vectors() {
    let file = load("parity");
    let shards = |v: &Value, key| -> Vec<Vec<u8>> {
        list(v, key).map(|s| unhex(s.as_str().expect("text")).expect("hex")).collect()
    };
    for v in list(&file, "codes") {
        let (data, parity) = (shards(v, "data"), shards(v, "parity"));
        assert_eq!(code(&data, parity.len()), parity, "{}", v["name"]);
    }
    for v in list(&file, "vectors") {
        let (d, stored, pack) = (&v["decoded"], bytes(v, "bytes"), bytes(v, "pack_bytes"));
        let FileName::Parity(name) = file_name(text(d, "file")) else { panic!("parity") };
        let ring = Keyring::new(repository(&file), encryption(d), &array(&file, "master"));
        let sidecar = open(&ring, name, &stored).expect("a sidecar");
        assert!(sidecar.sound);
        let geometry = Geometry {
            pack_len: number(d, "pack_len"),
            shard: number(d, "shard") as u32,
            data: number(d, "data") as u32,
            parity: number(d, "parity") as u32,
        };
        assert_eq!(*sidecar.geometry(), geometry);
        let mut hurt = pack.clone();
        hurt[20] ^= 1;
        assert!(is_whole(&mend(&sidecar, &hurt), &pack));
        let sums = list(d, "sums").map(|s| unhex(s.as_str().expect("text")).expect("hex"));
        let sums = sums.map(|s| s.try_into().expect("16 bytes")).collect();
        let table = ParityTable { pack: name, geometry, sums };
        let frame = ring.seal(FrameKind::Parity, &table.encode(), &array(d, "salt")).expect("sealed");
        let end = HEADER_LEN + frame.len();
        assert_eq!(stored[HEADER_LEN..end], frame);
        assert_eq!(stored[stored.len() - frame.len()..], frame);
        // The salt is random; everything else is not.
        let again = build(&ring, name, geometry, &mut from(&pack)).expect("built");
        assert_eq!(again.len(), stored.len());
        assert_eq!(again[end..stored.len() - frame.len()], stored[end..stored.len() - frame.len()]);
    }
    for v in list(&file, "refused") {
        assert!(ParityTable::decode(&bytes(v, "table")).is_err(), "{}", v["name"]);
    }
}
