//! Small repositories to damage, with and without a writer's help, and a check that looks at everything.

use snapkeep::backend::memory::MemoryBackend;
use snapkeep::backend::write_new;
use snapkeep::check::damage::DamageKind;
use snapkeep::check::subset::Subset;
use snapkeep::check::{CheckOptions, CheckReport, run};
use snapkeep::clock::Timestamp;
use snapkeep::compress::{Level, Search, compress_with_prefix};
use snapkeep::crypto::password::Password;
use snapkeep::crypto::{ChunkSort, hash};
use snapkeep::format::entry::{Content, Entry, Extent, Flags, Kind, Metadata, Owner, Stat};
use snapkeep::format::extents::encode_list;
use snapkeep::format::frame::{Body, ChunkInfo, Coding, FrameKind, FrameTable, Prefix};
use snapkeep::format::pack::{Footer, FrameEntry, TRAILER_LEN, Trailer};
use snapkeep::format::snapshot::{SessionInfo, Snapshot};
use snapkeep::format::{FileName, HEADER_LEN, encode_header};
use snapkeep::id::{ChunkId, hex};
use snapkeep::manifest::build::Builder;
use snapkeep::manifest::walk::{Groups, Walk};
use snapkeep::progress::{Progress, Silent};
use snapkeep::repository::frames::assemble_frame;
use snapkeep::repository::keys::SlotOwner;
use snapkeep::repository::snapshots::{self, Listed};
use snapkeep::repository::writer::{DeltaPolicy, Lane, Writer};
use snapkeep::repository::{NewRepository, Repository, create};
use std::collections::BTreeMap;
use std::sync::Arc;

pub const CUT: usize = 700;
pub const NOW: Timestamp = Timestamp { secs: 1_800_000_000, nanos: 0 };

pub fn new_repository(backend: &MemoryBackend, password: Option<&Password>) -> Arc<Repository> {
    let owner = SlotOwner { host: "h".into(), user: "u".into(), label: String::new() };
    let new = NewRepository { password, owner, group_readable: false, like: None, now: NOW };
    Arc::new(create(Arc::new(backend.clone()), &new).expect("a repository"))
}

pub fn password() -> Password {
    Password::new(b"correct horse".to_vec()).expect("a password")
}

/// Bytes that do not compress, from a seed.
pub fn noise(seed: u32, len: usize) -> Vec<u8> {
    let blocks = (0u32..).flat_map(|i| hash::plain(&[seed.to_le_bytes(), i.to_le_bytes()].concat()));
    blocks.take(len).collect()
}

pub type Files<'a> = &'a [(&'a str, Vec<u8>)];

/// The pieces of one file; those of more than two stand in a list of their own.
pub fn store(bytes: &[u8], before: &[Extent], lists: &mut Lane<'_>, lane: &mut Lane<'_>) -> Content {
    let mut extents = Vec::new();
    for (i, chunk) in bytes.chunks(CUT).enumerate() {
        let parents: Vec<ChunkId> = match before.get(i) {
            Some(Extent::Chunk { id, .. }) => vec![*id],
            _ => Vec::new(),
        };
        let id = lane.put(chunk, &parents, DeltaPolicy::CONTENT).expect("stored");
        extents.push(Extent::Chunk { id, len: chunk.len() as u32, repeat: 1 });
    }
    let hash = (extents.len() > 1).then(|| hash::plain(bytes));
    let mut content = Content { size: bytes.len() as u64, extents, lists: Vec::new(), hash };
    if content.extents.len() > 2 {
        let id = lists.put(&encode_list(&content.extents), &[], DeltaPolicy::MANIFEST).expect("stored");
        content.lists.push(id);
        content.extents.clear();
    }
    content
}

/// Commits a snapshot of `files`, each changed chunk against the same place of `parent`.
pub fn commit(repository: &Arc<Repository>, files: Files<'_>, parent: Option<&Listed>) -> Listed {
    let writer = Writer::open(repository, Level::AUTO, &SessionInfo::default()).expect("a session");
    let (mut old, mut groups) = (BTreeMap::new(), Groups::default());
    if let Some(parent) = parent {
        groups = Groups::load(&writer.reader, &parent.root).expect("the parent");
        for entry in Walk::new(&writer.reader, &parent.root, b"").expect("the parent") {
            let entry = entry.expect("an entry");
            let extents =
                snapkeep::manifest::content::extents(&writer.reader, &entry.content).expect("extents");
            old.insert(entry.path, extents);
        }
    }
    let mut builder = Builder::new(&writer, groups).expect("a builder");
    let mut lane = writer.lane(ChunkSort::Content).expect("a lane");
    let mut lists = writer.lane(ChunkSort::Manifest).expect("a lane");
    for (path, bytes) in files {
        let before = old.get(path.as_bytes()).cloned().unwrap_or_default();
        let content = store(bytes, &before, &mut lists, &mut lane);
        let mtime = Timestamp { secs: bytes.len() as i64, nanos: 5 };
        let meta = Metadata { mode: 0o644, owner: Arc::new(Owner::default()), mtime, xattrs: None };
        let path = path.as_bytes().to_vec();
        let entry = Entry { path, kind: Kind::File, meta, flags: Flags::default(), link: 0, content };
        builder.push(entry, Stat::default()).expect("pushed");
    }
    lane.finish().expect("finished");
    lists.finish().expect("finished");
    let root = builder.finish().expect("a root").root;
    finish(repository, writer, root, parent)
}

pub fn finish(
    repository: &Arc<Repository>,
    mut writer: Writer,
    root: ChunkId,
    parent: Option<&Listed>,
) -> Listed {
    let packed = writer.flush().expect("flushed");
    let number = parent.map_or(1, |p| p.record.sequence + 1);
    let record = Snapshot {
        id: writer.session.to_string(),
        root: hex(&root.0),
        parent: parent.map(|p| p.id.to_string()),
        time: NOW.rfc3339(),
        order_time: NOW.secs + number as i64,
        sequence: number,
        hostname: "h".into(),
        paths: vec!["/".into()],
        ..Snapshot::default()
    };
    let id = writer.commit(&record, packed).expect("committed");
    snapshots::read(repository, id).expect("the snapshot")
}

/// The same files in `n` generations, one byte more changed in each.
pub fn generations(repository: &Arc<Repository>, n: usize) -> Vec<Listed> {
    let (mut a, mut b) = (noise(1, 600), noise(2, 3 * CUT - 50));
    let mut listed: Vec<Listed> = Vec::new();
    for generation in 0..n {
        a[generation * 7] ^= 1;
        b[generation * 9 + CUT] ^= 1;
        let files = [("a", a.clone()), ("d/b", b.clone()), ("d/text", b"so much text, ".repeat(40))];
        listed.push(commit(repository, &files, listed.last()));
    }
    listed
}

pub fn everything() -> CheckOptions {
    CheckOptions {
        read_data: Some(Subset::All),
        verify_files_percent: 100.0,
        now: NOW,
        ..CheckOptions::default()
    }
}

pub fn check(repository: &Repository, options: &CheckOptions) -> CheckReport {
    run(repository, options, &Progress::new(), &Silent).expect("checked")
}

pub fn kinds(report: &CheckReport) -> Vec<DamageKind> {
    report.damage.iter().map(|d| d.kind).collect()
}

/// A repository with three generations and a note, and all its files.
pub fn sample(encrypted: bool) -> (Arc<Repository>, BTreeMap<FileName, Vec<u8>>, Vec<Listed>) {
    let backend = MemoryBackend::new();
    let password = password();
    let repository = new_repository(&backend, encrypted.then_some(&password));
    let listed = generations(&repository, 3);
    snapshots::set_tags(&repository, listed[1].id, vec!["kept".into()], NOW).expect("noted");
    (repository, backend.files(), listed)
}

/// The same repository over these files alone.
pub fn over(repository: &Repository, files: &BTreeMap<FileName, Vec<u8>>) -> (MemoryBackend, Repository) {
    let backend = MemoryBackend::new();
    for (name, bytes) in files {
        backend.overwrite(*name, bytes.clone());
    }
    let repository = repository.with_backend(Arc::new(backend.clone()));
    (backend, repository)
}

/// Whether a mutation of these files is found.
pub fn is_found(repository: &Repository, files: &BTreeMap<FileName, Vec<u8>>) -> CheckReport {
    check(&over(repository, files).1, &everything())
}

/// A pack made by hand: bodies of content, each with its stored bytes.
pub fn pack_by_hand(repository: &Repository, bodies: Vec<(Body, Vec<u8>)>) -> FileName {
    let name = FileName::Pack(snapkeep::repository::random::name().expect("random"));
    let (tables, stored): (Vec<Body>, Vec<Vec<u8>>) = bodies.into_iter().unzip();
    let table = FrameTable { bodies: tables };
    let frame = assemble_frame(&table, &stored.concat());
    let keyring = repository.keyring();
    let sealed = keyring.seal(FrameKind::Data, &frame, &[1; 16]).expect("sealed");
    let entry = FrameEntry { offset: HEADER_LEN as u32, len: sealed.len() as u32, table };
    let footer =
        keyring.seal(FrameKind::Footer, &Footer { frames: vec![entry] }.encode(), &[2; 16]).expect("sealed");
    let mut bytes = encode_header(&name, repository.id()).to_vec();
    bytes.extend_from_slice(&sealed);
    let footer_offset = bytes.len() as u64;
    bytes.extend_from_slice(&footer);
    let file_len = (bytes.len() + TRAILER_LEN) as u64;
    let trailer = Trailer { footer_offset, file_len, hash: hash::plain(&bytes) };
    bytes.extend_from_slice(&trailer.encode());
    write_new(repository.backend().as_ref(), &name, &bytes).expect("written");
    name
}

pub fn content_id(repository: &Repository, plain: &[u8]) -> ChunkId {
    repository.keyring().chunk_id(ChunkSort::Content, plain)
}

/// `plain` as a changed body on `base`, whose bytes are `history`.
pub fn on_base(repository: &Repository, plain: &[u8], base: ChunkId, history: &[u8]) -> (Body, Vec<u8>) {
    let mut stored = Vec::new();
    compress_with_prefix(plain, history, Search::Close, &mut stored).expect("compressed");
    let prefix = Prefix { bases: vec![base], len: history.len() as u32, depth: 1, closure: 1000 };
    let chunk = ChunkInfo { id: content_id(repository, plain), len: plain.len() as u32, version: 1 };
    (Body { coding: Coding::Prefix(prefix), stored_len: stored.len() as u32, chunks: vec![chunk] }, stored)
}

pub fn raw(repository: &Repository, plain: &[u8]) -> (Body, Vec<u8>) {
    let chunk = ChunkInfo { id: content_id(repository, plain), len: plain.len() as u32, version: 0 };
    (Body { coding: Coding::Raw, stored_len: plain.len() as u32, chunks: vec![chunk] }, plain.to_vec())
}

/// Commits one file that names these chunks.
pub fn commit_naming(
    repository: &Arc<Repository>,
    path: &str,
    extents: Vec<Extent>,
    whole: Option<[u8; 32]>,
) -> Listed {
    let writer = Writer::open(repository, Level::AUTO, &SessionInfo::default()).expect("a session");
    let mut builder = Builder::new(&writer, Groups::default()).expect("a builder");
    let size = snapkeep::format::extents::extents_len(&extents).expect("a length");
    let content = Content { size, extents, lists: Vec::new(), hash: whole };
    let mtime = Timestamp::default();
    let meta = Metadata { mode: 0o644, owner: Arc::new(Owner::default()), mtime, xattrs: None };
    let path = path.as_bytes().to_vec();
    let entry = Entry { path, kind: Kind::File, meta, flags: Flags::default(), link: 0, content };
    builder.push(entry, Stat::default()).expect("pushed");
    let root = builder.finish().expect("a root").root;
    finish(repository, writer, root, None)
}

pub fn one(repository: &Repository, plain: &[u8]) -> Vec<Extent> {
    vec![Extent::Chunk { id: content_id(repository, plain), len: plain.len() as u32, repeat: 1 }]
}

pub fn empty() -> Arc<Repository> {
    new_repository(&MemoryBackend::new(), None)
}
