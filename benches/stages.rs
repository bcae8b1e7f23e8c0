//! Each stage of the pipeline alone, in bytes a second: cut, name, compress, seal, and back; groups, the index.

mod data;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use data::Random;
use snapkeep::chunker::{CONTENT, Chunker, Gear};
use snapkeep::clock::Timestamp;
use snapkeep::compress::{
    self, Compressor, Decompressor, Level, Search, compress_with_prefix, decompress_with_prefix,
};
use snapkeep::crypto::hash::FileHash;
use snapkeep::crypto::{ChunkSort, Keyring};
use snapkeep::format::config::Encryption;
use snapkeep::format::entry::{Content, Entry, Extent, Flags, Kind, Metadata, Owner};
use snapkeep::format::frame::FrameKind;
use snapkeep::format::group::{GroupEncoder, decode_group};
use snapkeep::id::{ChunkId, Name};
use std::hint::black_box;
use std::sync::Arc;

const MIB: usize = 1 << 20;

fn bytes(c: &mut Criterion) {
    let mut random = Random(1);
    let text = random.text(MIB);
    let ring = Keyring::new(Name([1; 16]), Encryption::Aes256Gcm, &[2; 32]);
    let mut group = c.benchmark_group("one MiB");
    group.throughput(Throughput::Bytes(MIB as u64));
    let chunker = Chunker::new(&Gear::new(&ring.gear_bytes()), CONTENT);
    group.bench_function("cut", |b| {
        b.iter(|| {
            let (mut at, mut cuts) = (0, 0);
            while at < text.len() {
                at += chunker.cut(&text[at..]);
                cuts += 1;
            }
            black_box(cuts)
        });
    });
    group.bench_function("name", |b| b.iter(|| ring.chunk_id(ChunkSort::Content, black_box(&text))));
    group.bench_function("whole-file hash", |b| {
        b.iter(|| {
            let mut hash = FileHash::new();
            hash.update(black_box(&text));
            hash.finish()
        });
    });
    let mut compressor = Compressor::new(Level::AUTO).expect("zstd");
    let mut out = Vec::new();
    group.bench_function("compress 3", |b| {
        b.iter(|| {
            out.clear();
            compressor.compress(black_box(&text), compress::Kind::Text, 1, &mut out).expect("zstd")
        });
    });
    let stored = out.clone();
    let mut decompressor = Decompressor::new().expect("zstd");
    group.bench_function("expand", |b| b.iter(|| decompressor.decompress(&stored, MIB).expect("zstd")));
    let noise = random.noise(MIB);
    group.bench_function("give up on noise", |b| {
        b.iter(|| {
            out.clear();
            compressor.compress(black_box(&noise), compress::Kind::Binary, 1, &mut out).expect("zstd")
        });
    });
    group.bench_function("seal", |b| b.iter(|| ring.seal(FrameKind::Data, &noise, &[3; 16]).expect("seals")));
    let frame = ring.seal(FrameKind::Data, &noise, &[3; 16]).expect("seals");
    group.bench_function("unseal", |b| b.iter(|| ring.unseal(FrameKind::Data, &frame).expect("opens")));
    group.finish();
}

fn histories(c: &mut Criterion) {
    let old = Random(2).text(256 << 10);
    let mut new = old.clone();
    for at in (0..new.len()).step_by(40_000) {
        new[at..at + 16].copy_from_slice(b"a change of text");
    }
    let mut group = c.benchmark_group("changed chunk of 256 KiB");
    group.throughput(Throughput::Bytes(new.len() as u64));
    let mut out = Vec::new();
    group.bench_function("compress", |b| {
        b.iter(|| {
            out.clear();
            compress_with_prefix(&new, &old, Search::Close, &mut out).expect("zstd");
        });
    });
    group.bench_function("expand", |b| {
        b.iter(|| decompress_with_prefix(&out, &old, new.len()).expect("zstd"));
    });
    group.finish();
}

fn entries(c: &mut Criterion) {
    let owner = Arc::new(Owner { uid: 1000, gid: 1000, user: "user".into(), group: "group".into() });
    let entries: Vec<Entry> = (0..2000u32)
        .map(|i| {
            let mut id = [0; 24];
            id[..4].copy_from_slice(&i.wrapping_mul(2_654_435_761).to_le_bytes());
            let extents = vec![Extent::Chunk { id: ChunkId(id), len: 1000 + i, repeat: 1 }];
            let mtime = Timestamp { secs: 1_700_000_000 + i64::from(i), nanos: i * 1000 };
            Entry {
                path: format!("home/user/project/src/module-{:02}/file-{i:04}.rs", i / 100).into_bytes(),
                kind: Kind::File,
                meta: Metadata { mode: 0o644, owner: Arc::clone(&owner), mtime, xattrs: None },
                flags: Flags::default(),
                link: 0,
                content: Content { size: u64::from(1000 + i), extents, ..Content::default() },
            }
        })
        .collect();
    let encode = || {
        let mut encoder = GroupEncoder::default();
        for entry in &entries {
            encoder.push(entry);
        }
        encoder.finish()
    };
    let encoded = encode();
    let mut group = c.benchmark_group("group of 2000 entries");
    group.throughput(Throughput::Elements(2000));
    group.bench_function("encode", |b| b.iter(encode));
    group.bench_function("decode", |b| b.iter(|| decode_group(black_box(&encoded)).expect("decodes")));
    group.finish();
}

criterion_group!(stages, bytes, histories, entries);
criterion_main!(stages);
