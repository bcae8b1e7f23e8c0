//! What decoders refuse although nothing in it is cut short: bombs, things said twice, later versions.

use super::check_stand::{NOW, commit, new_repository, noise};
use super::format::{array, bytes, encryption, file_name, list, load, number, repository, text};
use snapkeep::backend::memory::MemoryBackend;
use snapkeep::chunker::ChunkClass;
use snapkeep::compress::{Decompressor, Level, decompress_with_prefix};
use snapkeep::crypto::{ChunkSort, Keyring};
use snapkeep::error::{Error, ErrorKind};
use snapkeep::format::codec::Reader;
use snapkeep::format::config::{Config, Encryption};
use snapkeep::format::entry::{Content, Entry, Flags, Kind, Metadata, Owner, Stat};
use snapkeep::format::frame::{Body, ChunkInfo, Coding, FrameKind, FrameTable};
use snapkeep::format::group::{GroupEncoder, decode_group};
use snapkeep::format::root::{Root, RootItem};
use snapkeep::format::snapshot::SessionInfo;
use snapkeep::format::{FileName, limit};
use snapkeep::id::ChunkId;
use snapkeep::manifest::build::Builder;
use snapkeep::manifest::walk::Groups;
use snapkeep::repository::footer::read_footer;
use snapkeep::repository::writer::{DeltaPolicy, Writer};
use std::sync::Arc;

#[test]
fn a_body_is_exactly_one_zstd_frame() {
    let file = load("bodies");
    let mut decompressor = Decompressor::new().expect("a decompressor");
    let mut expand = |stored: &[u8], v: &serde_json::Value| {
        let (history, len) = (bytes(v, "history"), number(v, "length") as usize);
        let with = decompress_with_prefix(stored, &history, len);
        if history.is_empty() {
            let mut into = Vec::new();
            let plain = decompressor.decompress(stored, len);
            assert_eq!(decompressor.decompress_into(stored, len, &mut into).is_ok(), plain.is_ok());
            assert_eq!(plain.as_ref().ok(), with.as_ref().ok());
        }
        with
    };
    for v in list(&file, "vectors") {
        let d = &v["decoded"];
        assert_eq!(expand(&bytes(v, "bytes"), d).expect("expands"), bytes(d, "plain"), "{}", v["name"]);
    }
    for v in list(&file, "refused") {
        assert!(expand(&bytes(v, "bytes"), v).is_err(), "{}", v["name"]);
    }
}

#[test]
fn a_frame_of_a_later_version_asks_for_a_newer_program() {
    let file = load("frames");
    for v in list(&file, "newer") {
        let ring = Keyring::new(repository(&file), encryption(v), &array(&file, "master"));
        let kind = FrameKind::from_byte(number(v, "kind") as u8).expect("a kind");
        let e = ring.unseal(kind, &bytes(v, "bytes")).expect_err(text(v, "name"));
        assert_eq!(e.kind(), ErrorKind::Unsupported, "{}", v["name"]);
        assert!(e.message().contains("update this program"), "{e}");
    }
}

#[test]
fn a_pack_begins_with_a_frame_of_chunks() {
    let file = load("footer");
    let open = |v: &serde_json::Value, d: &serde_json::Value| {
        let ring = Keyring::new(repository(&file), encryption(d), &array(&file, "master"));
        let (backend, name, stored) = (MemoryBackend::new(), file_name(text(d, "file")), bytes(v, "bytes"));
        let size = stored.len() as u64;
        backend.overwrite(name, stored);
        read_footer(&backend, &ring, name.header_name(), size)
    };
    for v in list(&file, "vectors") {
        assert_eq!(open(v, &v["decoded"]).expect("a pack").1, ChunkSort::Content);
    }
    for v in list(&file, "refused") {
        assert_eq!(open(v, v).expect_err(text(v, "name")).kind(), ErrorKind::Corrupt, "{}", v["name"]);
    }
}

#[test]
fn tables_of_more_than_16_bits_count_are_refused() {
    let chunk = ChunkInfo { id: ChunkId([7; 24]), len: 1, version: 0 };
    let read = |bodies: usize, chunks: usize| {
        let stored_len = chunks as u32;
        let body = Body { coding: Coding::Raw, stored_len, chunks: vec![chunk.clone(); chunks] };
        let mut out = Vec::new();
        FrameTable { bodies: vec![body; bodies] }.encode(&mut out);
        FrameTable::decode(&mut Reader::new(&out, "a table"))
    };
    for (bodies, chunks, good) in
        [(65_535, 1, true), (65_536, 1, false), (1, 65_535, true), (1, 65_536, false)]
    {
        assert_eq!(read(bodies, chunks).is_ok(), good, "{bodies} bodies of {chunks} chunks");
    }
}

/// Both say what sizes a class of chunks may have, on floors that do not know each other.
#[test]
fn config_and_chunker_allow_the_same_sizes() {
    let file = load("config");
    let good: Config = serde_json::from_value(file["vectors"][0]["decoded"].clone()).expect("a config");
    assert_eq!(good.encryption, Encryption::Aes256Gcm);
    let edges = [0u32, 1, 64, 1 << 10, 1 << 20, 4 << 20, 16 << 20, u32::MAX];
    let near =
        |n: &u32| [n.saturating_sub(2), n.saturating_sub(1), *n, n.saturating_add(1), n.saturating_add(2)];
    let mut sizes: Vec<u32> = edges.iter().flat_map(near).chain([512, 2048, 3000, 65_536, 8 << 20]).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let mut allowed = 0;
    for &min in &sizes {
        for &avg in &sizes {
            for &max in &sizes {
                let fits = ChunkClass { min, avg, max }.check().is_ok();
                allowed += u32::from(fits);
                let config = Config { content_chunks: [min, avg, max], ..good.clone() };
                assert_eq!(Config::decode(&config.encode()).is_ok(), fits, "{min} {avg} {max}");
            }
        }
    }
    assert!(allowed > 100, "{allowed}");
}

fn entry(path: Vec<u8>) -> Entry {
    let meta = Metadata { mode: 0o755, owner: Arc::new(Owner::default()), mtime: NOW, xattrs: None };
    let content = Content::default();
    Entry { path, kind: Kind::Directory, meta, flags: Flags::default(), link: 0, content }
}

/// Number `n` of a series of paths that share nearly all of `len` bytes.
fn long_path(len: usize, n: usize) -> Vec<u8> {
    let mut path: Vec<u8> = (0..len).map(|i| if i % 4000 == 3999 { b'/' } else { b'x' }).collect();
    path[len - 5..].copy_from_slice(format!("{n:05}").as_bytes());
    path
}

#[test]
fn paths_of_a_group_are_bounded_when_written_out() {
    let encode = |count: usize| {
        let mut group = GroupEncoder::default();
        (0..count).for_each(|n| group.push(&entry(long_path(1 << 15, n))));
        group.finish()
    };
    let most = limit::GROUP_PATHS_BYTES_MAX >> 15;
    let (good, bad) = (encode(most), encode(most + 1));
    assert!(bad.len() < 1 << 16, "a bomb is small: {} bytes", bad.len());
    assert_eq!(decode_group(&good).expect("a group").len(), most);
    assert!(decode_group(&bad).is_err());
}

#[test]
fn writers_close_groups_of_long_paths_early() {
    let repository = new_repository(&MemoryBackend::new(), None);
    let writer = Writer::open(&repository, Level::AUTO, &SessionInfo::default()).expect("a session");
    let mut builder = Builder::new(&writer, Groups::default()).expect("a builder");
    for n in 0..600 {
        builder.push(entry(long_path(1 << 15, n)), Stat::default()).expect("pushed");
    }
    let built = builder.finish().expect("a root");
    let mut writer = writer;
    writer.flush().expect("flushed");
    let groups = Groups::load(&repository.reader().expect("a reader"), &built.root).expect("groups");
    let counts: Vec<u64> = groups.items.iter().map(|item| item.entries).collect();
    assert_eq!(counts, [256, 256, 88]);
}

/// Stores the roots that `make` builds from groups of a real manifest, and loads the last one.
fn load_roots(
    make: impl Fn(&RootItem, &mut dyn FnMut(&Root) -> ChunkId) -> ChunkId,
) -> Result<Groups, Error> {
    let repository = new_repository(&MemoryBackend::new(), None);
    let listed = commit(&repository, &[("m", noise(1, 100)), ("n", noise(2, 100))], None);
    let reader = repository.reader().expect("a reader");
    let item = Groups::load(&reader, &listed.root).expect("groups").items.remove(0);
    let mut writer = Writer::open(&repository, Level::AUTO, &SessionInfo::default()).expect("a session");
    let mut lane = writer.lane(ChunkSort::Manifest).expect("a lane");
    let top = make(&item, &mut |root| lane.put(&root.encode(), &[], DeltaPolicy::MANIFEST).expect("stored"));
    lane.finish().expect("finished");
    writer.flush().expect("flushed");
    Groups::load(&repository.reader().expect("a reader"), &top)
}

#[test]
fn roots_are_what_the_roots_above_say() {
    let above = |id: ChunkId, item: &RootItem| RootItem { id, stat: None, ..item.clone() };
    let nested = |level: u8, change: fn(&mut RootItem)| {
        load_roots(move |item, put| {
            let below = put(&Root { level: 0, items: vec![item.clone()] });
            let mut changed = above(below, item);
            change(&mut changed);
            put(&Root { level, items: vec![changed] })
        })
    };
    assert_eq!(nested(1, |_| {}).expect("groups").items.len(), 1);
    assert!(nested(2, |_| {}).is_err(), "a level left out");
    assert!(nested(1, |i| i.first = b"l".to_vec()).is_err(), "another first path");
    assert!(nested(1, |i| i.entries += 1).is_err(), "other entries");
    let twice = load_roots(|item, put| {
        let below = put(&Root { level: 0, items: vec![item.clone()] });
        let again = RootItem { first: b"z".to_vec(), ..above(below, item) };
        put(&Root { level: 1, items: vec![above(below, item), again] })
    });
    assert!(twice.is_err(), "one root in two places");
    let empty = load_roots(|item, put| {
        let below = put(&Root::default());
        put(&Root { level: 1, items: vec![above(below, item)] })
    });
    assert!(empty.is_err(), "a root without items below another");
}

#[test]
fn a_group_ends_before_the_next_begins() {
    let repository = new_repository(&MemoryBackend::new(), None);
    let listed = commit(&repository, &[("m", noise(1, 100)), ("n", noise(2, 100))], None);
    let reader = repository.reader().expect("a reader");
    let mut groups = Groups::load(&reader, &listed.root).expect("groups");
    assert_eq!(groups.read(&reader, 0).expect("a group").len(), 2);
    assert!(groups.read(&reader, 1).is_err());
    for (next, good) in [("n", false), ("m/x", false), ("n/x", true), ("o", true)] {
        groups.items.truncate(1);
        groups.items.push(RootItem { first: next.into(), ..groups.items[0].clone() });
        assert_eq!(groups.read(&reader, 0).is_ok(), good, "{next}");
    }
}

#[test]
fn a_pack_of_a_later_version_is_a_finding_of_check() {
    // A flipped version byte must neither stop a check nor be passed over.
    let backend = MemoryBackend::new();
    let repository = new_repository(&backend, None);
    commit(&repository, &[("a", noise(1, 300)), ("b", noise(2, 300))], None);
    for (name, stored) in backend.files() {
        let FileName::Pack(_) = name else { continue };
        let mut bytes = stored.clone();
        bytes[49] = 2;
        backend.overwrite(name, bytes);
        let report = super::check_stand::check(&repository, &super::check_stand::everything());
        assert!(!report.damage.is_empty() && report.unchecked.is_empty(), "{:?}", report.unchecked);
        backend.overwrite(name, stored);
    }
}
