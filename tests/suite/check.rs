//! `check` finds what is done to a repository: every byte flipped, every file lost, cut, grown, exchanged.

use rayon::prelude::*;
use snapkeep::backend::Backend;
use snapkeep::backend::memory::MemoryBackend;
use snapkeep::check::damage::DamageKind;
use snapkeep::check::subset::Subset;
use snapkeep::check::{CheckOptions, CheckReport, run};
use snapkeep::clock::Timestamp;
use snapkeep::compress::Level;
use snapkeep::crypto::password::Password;
use snapkeep::crypto::{ChunkSort, hash};
use snapkeep::format::entry::{Content, Entry, Extent, Flags, Kind, Metadata, Owner, Stat};
use snapkeep::format::group::encode_list;
use snapkeep::format::snapshot::{SessionInfo, Snapshot};
use snapkeep::format::{FileName, Folder};
use snapkeep::id::{ChunkId, hex};
use snapkeep::manifest::build::Builder;
use snapkeep::manifest::walk::{Groups, Walk};
use snapkeep::progress::{Progress, Silent};
use snapkeep::repository::keys::SlotOwner;
use snapkeep::repository::snapshots::{self, Listed};
use snapkeep::repository::writer::{DeltaPolicy, Writer};
use snapkeep::repository::{NewRepository, Repository, create, locate};
use std::collections::BTreeMap;
use std::sync::Arc;

const CUT: usize = 700;
const NOW: Timestamp = Timestamp { secs: 1_800_000_000, nanos: 0 };

fn new_repository(backend: &MemoryBackend, password: Option<&Password>) -> Arc<Repository> {
    let owner = SlotOwner { host: "h".into(), user: "u".into(), label: String::new() };
    let new = NewRepository { password, owner, group_readable: false, like: None, now: NOW };
    Arc::new(create(Arc::new(backend.clone()), &new).expect("a repository"))
}

fn password() -> Password {
    Password::new(b"correct horse".to_vec()).expect("a password")
}

/// Bytes that do not compress, from a seed.
fn noise(seed: u32, len: usize) -> Vec<u8> {
    let blocks = (0u32..).flat_map(|i| hash::plain(&[seed.to_le_bytes(), i.to_le_bytes()].concat()));
    blocks.take(len).collect()
}

type Files<'a> = &'a [(&'a str, Vec<u8>)];

/// The pieces of one file; those of more than two stand in a list of their own.
fn store(
    writer: &Writer,
    bytes: &[u8],
    before: &[Extent],
    lists: &mut snapkeep::repository::writer::Lane<'_>,
    lane: &mut snapkeep::repository::writer::Lane<'_>,
) -> Content {
    let mut extents = Vec::new();
    for (i, chunk) in bytes.chunks(CUT).enumerate() {
        let parents: Vec<ChunkId> = match before.get(i) {
            Some(Extent::Chunk { id, .. }) => vec![*id],
            _ => Vec::new(),
        };
        let id = lane.put(chunk, &parents, DeltaPolicy::CONTENT).expect("stored");
        extents.push(Extent::Chunk { id, len: chunk.len() as u32, repeat: 1 });
    }
    let _ = writer;
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
fn commit(repository: &Arc<Repository>, files: Files<'_>, parent: Option<&Listed>) -> Listed {
    let mut writer = Writer::open(repository, Level::AUTO, &SessionInfo::default()).expect("a session");
    let (mut old, mut groups) = (BTreeMap::new(), Groups::default());
    if let Some(parent) = parent {
        groups = Groups::load(&writer.reader, &parent.root).expect("the parent");
        for entry in Walk::new(&writer.reader, &parent.root, b"").expect("the parent") {
            let entry = entry.expect("an entry");
            let extents = snapkeep::manifest::content::extents(&writer.reader, &entry.content).expect("extents");
            old.insert(entry.path, extents);
        }
    }
    let mut builder = Builder::new(&writer, groups).expect("a builder");
    let mut lane = writer.lane(ChunkSort::Content).expect("a lane");
    let mut lists = writer.lane(ChunkSort::Manifest).expect("a lane");
    for (path, bytes) in files {
        let before = old.get(path.as_bytes()).cloned().unwrap_or_default();
        let content = store(&writer, bytes, &before, &mut lists, &mut lane);
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

fn finish(repository: &Arc<Repository>, mut writer: Writer, root: ChunkId, parent: Option<&Listed>) -> Listed {
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
fn generations(repository: &Arc<Repository>, n: usize) -> Vec<Listed> {
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

fn everything() -> CheckOptions {
    CheckOptions {
        read_data: Some(Subset::All),
        verify_files_percent: 100.0,
        now: NOW,
        ..CheckOptions::default()
    }
}

fn check(repository: &Repository, options: &CheckOptions) -> CheckReport {
    run(repository, options, &Progress::new(), &Silent).expect("checked")
}

fn kinds(report: &CheckReport) -> Vec<DamageKind> {
    report.damage.iter().map(|d| d.kind).collect()
}

/// A repository with three generations and a note, and all its files.
fn sample(encrypted: bool) -> (Arc<Repository>, BTreeMap<FileName, Vec<u8>>, Vec<Listed>) {
    let backend = MemoryBackend::new();
    let password = password();
    let repository = new_repository(&backend, encrypted.then_some(&password));
    let listed = generations(&repository, 3);
    snapshots::set_tags(&repository, listed[1].id, vec!["kept".into()], NOW).expect("noted");
    (repository, backend.files(), listed)
}

/// The same repository over these files alone.
fn over(repository: &Repository, files: &BTreeMap<FileName, Vec<u8>>) -> (MemoryBackend, Repository) {
    let backend = MemoryBackend::new();
    for (name, bytes) in files {
        backend.overwrite(*name, bytes.clone());
    }
    let repository = repository.with_backend(Arc::new(backend.clone()));
    (backend, repository)
}

#[test]
fn a_sound_repository_has_no_findings_and_right_counts() {
    for encrypted in [false, true] {
        let (repository, files, _) = sample(encrypted);
        let report = check(&repository, &everything());
        assert_eq!(report.num_errors(), 0, "{:?} {:?}", report.damage, report.unchecked);
        assert!(report.information.is_empty(), "{:?}", report.information);
        let packs: Vec<&Vec<u8>> =
            files.iter().filter(|(n, _)| n.folder() == Folder::Packs).map(|(_, b)| b).collect();
        assert_eq!(report.packs, packs.len() as u64);
        assert_eq!(report.packs_read, report.packs);
        assert_eq!(report.bytes_read, packs.iter().map(|b| b.len() as u64).sum::<u64>());
        assert_eq!((report.snapshots, report.notes, report.sessions), (3, 1, 0));
        assert_eq!(report.chunks_read, report.chunks);
        assert_eq!(report.entries, 9);
        // The list and its two other versions.
        assert_eq!(report.files_verified, 3);
        // The structure alone reads no pack.
        let report = check(&repository, &CheckOptions::default());
        assert_eq!((report.num_errors(), report.packs_read, report.bytes_read), (0, 0, 0));
    }
}

fn flip_every_byte(encrypted: bool, bits: &[u8]) {
    let (repository, files, _) = sample(encrypted);
    let places: Vec<(FileName, usize)> =
        files.iter().flat_map(|(name, bytes)| (0..bytes.len()).map(|i| (*name, i))).collect();
    let missed: Vec<String> = places
        .par_chunks(places.len().div_ceil(16))
        .flat_map_iter(|places| {
            let (backend, repository) = over(&repository, &files);
            let mut missed = Vec::new();
            for (name, at) in places {
                for bit in bits {
                    let mut bytes = files[name].clone();
                    // A different bit in every byte, unless all are asked for.
                    bytes[*at] ^= 1 << ((usize::from(*bit) + at) % 8);
                    backend.overwrite(*name, bytes);
                    let found = run(&repository, &everything(), &Progress::new(), &Silent);
                    if found.as_ref().map_or(true, |r| r.damage.is_empty()) {
                        missed.push(format!("{name} byte {at}: {:?}", found.map(|r| r.unchecked)));
                    }
                }
                backend.overwrite(*name, files[name].clone());
            }
            let report = check(&repository, &everything());
            assert_eq!(report.num_errors(), 0, "what was put back is sound again");
            missed
        })
        .collect();
    assert!(missed.is_empty(), "{} of {}: {:#?}", missed.len(), places.len(), &missed[..missed.len().min(20)]);
}

#[test]
fn every_flipped_byte_is_found_plain() {
    flip_every_byte(false, &[0]);
}

#[test]
fn every_flipped_byte_is_found_encrypted() {
    flip_every_byte(true, &[0]);
}

#[test]
#[ignore = "slow: every bit"]
fn every_flipped_bit_is_found() {
    flip_every_byte(false, &[0, 1, 2, 3, 4, 5, 6, 7]);
    flip_every_byte(true, &[0, 1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn a_flipped_byte_of_config_or_keys_is_found_when_opening_too() {
    let (_, files, _) = sample(true);
    for (name, bytes) in files.iter().filter(|(n, _)| matches!(n.folder(), Folder::Config | Folder::Keys)) {
        for at in 0..bytes.len() {
            let backend = MemoryBackend::new();
            files.iter().for_each(|(name, bytes)| backend.overwrite(*name, bytes.clone()));
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << (at % 8);
            backend.overwrite(*name, bytes);
            let opened = locate(Arc::new(backend)).and_then(|l| l.open(Some(&password()), None));
            assert!(opened.is_err(), "{name} byte {at}");
        }
    }
}
