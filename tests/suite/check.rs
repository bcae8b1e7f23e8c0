//! `check` finds what is done to a repository: every byte flipped, every file lost, cut, grown, exchanged.

use rayon::prelude::*;
use snapkeep::backend::memory::MemoryBackend;
use snapkeep::backend::write_new;
use snapkeep::check::damage::DamageKind;
use snapkeep::check::subset::Subset;
use snapkeep::check::{CheckOptions, CheckReport, run};
use snapkeep::clock::Timestamp;
use snapkeep::compress::{Level, compress_with_prefix};
use snapkeep::crypto::password::Password;
use snapkeep::crypto::{ChunkSort, hash};
use snapkeep::format::entry::{Content, Entry, Extent, Flags, Kind, Metadata, Owner, Stat};
use snapkeep::format::extents::encode_list;
use snapkeep::format::frame::{Body, ChunkInfo, Coding, FrameKind, FrameTable, Prefix};
use snapkeep::format::pack::{Footer, FrameEntry, TRAILER_LEN, Trailer};
use snapkeep::format::snapshot::{SessionInfo, Snapshot};
use snapkeep::format::{FileName, Folder, HEADER_LEN, encode_header};
use snapkeep::id::{ChunkId, hex};
use snapkeep::manifest::build::Builder;
use snapkeep::manifest::walk::{Groups, Walk};
use snapkeep::progress::{Progress, Silent};
use snapkeep::repository::keys::SlotOwner;
use snapkeep::repository::reader::assemble_frame;
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

fn finish(
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
    assert!(
        missed.is_empty(),
        "{} of {}: {:#?}",
        missed.len(),
        places.len(),
        &missed[..missed.len().min(20)]
    );
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

/// Whether a mutation of these files is found.
fn is_found(repository: &Repository, files: &BTreeMap<FileName, Vec<u8>>) -> CheckReport {
    check(&over(repository, files).1, &everything())
}

#[test]
fn every_lost_file_is_found_unless_it_may_go() {
    for encrypted in [false, true] {
        let (repository, files, listed) = sample(encrypted);
        for name in files.keys() {
            let mut left = files.clone();
            left.remove(name);
            let report = is_found(&repository, &left);
            match name {
                // Forgetting does the same: known only by what still speaks of it.
                FileName::Snapshot(id) => {
                    assert!(report.damage.is_empty(), "{:?}", report.damage);
                    let last = *id == listed[2].id;
                    assert_eq!(report.information.is_empty(), last, "{name}: {:?}", report.information);
                }
                FileName::Note(_) => assert!(report.damage.is_empty(), "{:?}", report.damage),
                _ => assert!(!report.damage.is_empty(), "{name}"),
            }
        }
    }
}

#[test]
fn every_cut_and_every_addition_is_found() {
    for encrypted in [false, true] {
        let (repository, files, _) = sample(encrypted);
        for (name, bytes) in &files {
            let len = bytes.len();
            let mut cuts: Vec<usize> = [0, 1, 7, 8, 47, 48, 49, 55, 56, 96, 120, len / 2].into();
            cuts.extend((1..=130).filter_map(|n| len.checked_sub(n)));
            for cut in cuts.into_iter().filter(|cut| *cut < len) {
                let mut files = files.clone();
                files.insert(*name, bytes[..cut].to_vec());
                assert!(!is_found(&repository, &files).damage.is_empty(), "{name} cut to {cut} of {len}");
            }
            for tail in [vec![0], vec![7; 100], vec![0; 5000], bytes[len - 48..].to_vec(), bytes.clone()] {
                let mut files = files.clone();
                files.insert(*name, [bytes.clone(), tail].concat());
                assert!(!is_found(&repository, &files).damage.is_empty(), "{name} grown");
            }
            let mut files = files.clone();
            files.insert(*name, vec![0; len]);
            assert!(!is_found(&repository, &files).damage.is_empty(), "{name} zeroed");
        }
    }
}

#[test]
fn every_exchange_of_two_files_is_found() {
    let (repository, files, _) = sample(true);
    let names: Vec<FileName> = files.keys().copied().collect();
    for (i, a) in names.iter().enumerate() {
        for b in &names[i + 1..] {
            let mut changed = files.clone();
            changed.insert(*a, files[b].clone());
            changed.insert(*b, files[a].clone());
            let report = is_found(&repository, &changed);
            assert!(report.damage.len() >= 2, "{a} and {b}: {:?}", report.damage);
        }
    }
}

#[test]
fn files_of_another_repository_with_the_same_key_and_names_are_found() {
    // The nearest a stranger can come: a plain repository's key is public.
    let (repository, files, _) = sample(false);
    let (_, strangers, _) = sample(false);
    for (name, bytes) in &strangers {
        let mut header = bytes.clone();
        header[32..48].copy_from_slice(&name.header_name().0);
        header[16..32].copy_from_slice(&repository.id().0);
        let mut changed = files.clone();
        changed.insert(*name, header);
        if matches!(name, FileName::Keys(_)) {
            continue;
        }
        assert!(!is_found(&repository, &changed).damage.is_empty(), "{name}");
    }
}

/// A pack made by hand: bodies of content, each with its stored bytes.
fn pack_by_hand(repository: &Repository, bodies: Vec<(Body, Vec<u8>)>) -> FileName {
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

fn content_id(repository: &Repository, plain: &[u8]) -> ChunkId {
    repository.keyring().chunk_id(ChunkSort::Content, plain)
}

/// `plain` as a changed body on `base`, whose bytes are `history`.
fn on_base(repository: &Repository, plain: &[u8], base: ChunkId, history: &[u8]) -> (Body, Vec<u8>) {
    let mut stored = Vec::new();
    compress_with_prefix(plain, history, &mut stored).expect("compressed");
    let prefix = Prefix { bases: vec![base], len: history.len() as u32, depth: 1, closure: 1000 };
    let chunk = ChunkInfo { id: content_id(repository, plain), len: plain.len() as u32, version: 1 };
    (Body { coding: Coding::Prefix(prefix), stored_len: stored.len() as u32, chunks: vec![chunk] }, stored)
}

fn raw(repository: &Repository, plain: &[u8]) -> (Body, Vec<u8>) {
    let chunk = ChunkInfo { id: content_id(repository, plain), len: plain.len() as u32, version: 0 };
    (Body { coding: Coding::Raw, stored_len: plain.len() as u32, chunks: vec![chunk] }, plain.to_vec())
}

/// Commits one file that names these chunks.
fn commit_naming(
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

fn one(repository: &Repository, plain: &[u8]) -> Vec<Extent> {
    vec![Extent::Chunk { id: content_id(repository, plain), len: plain.len() as u32, repeat: 1 }]
}

fn empty() -> Arc<Repository> {
    new_repository(&MemoryBackend::new(), None)
}

#[test]
fn a_missing_base_hurts_what_builds_on_it_and_nothing_else() {
    let repository = empty();
    let (base, changed, other) = (noise(1, 500), noise(2, 500), noise(3, 500));
    pack_by_hand(&repository, vec![raw(&repository, &other)]);
    pack_by_hand(&repository, vec![on_base(&repository, &changed, content_id(&repository, &base), &base)]);
    let sound = commit_naming(&repository, "sound", one(&repository, &other), None);
    // Nobody uses the changed chunk yet: it is litter, not damage.
    let report = check(&repository, &everything());
    assert!(report.damage.is_empty(), "{:?}", report.damage);
    assert_eq!(report.information[0].code, "chunk-stray");
    let hurt = commit_naming(&repository, "hurt", one(&repository, &changed), None);
    for options in [everything(), CheckOptions::default()] {
        let report = check(&repository, &options);
        assert_eq!(kinds(&report), [DamageKind::ChunkMissing], "{:?}", report.damage);
        let damage = &report.damage[0];
        assert_eq!((damage.snapshots.as_slice(), damage.files_total), (&[hurt.id][..], 1));
        assert_eq!(damage.files[0].path, b"hurt");
        assert!(!report.damaged_snapshots().contains(&sound.id));
        assert!(damage.to_string().contains("next: snapkeep "), "{damage}");
    }
}

#[test]
fn chunks_that_build_on_each_other_are_worth_nothing() {
    let repository = empty();
    let (a, b) = (noise(1, 500), noise(2, 500));
    let [id_a, id_b] = [&a, &b].map(|plain| content_id(&repository, plain));
    let bodies = vec![on_base(&repository, &a, id_b, &b), on_base(&repository, &b, id_a, &a)];
    let FileName::Pack(pack) = pack_by_hand(&repository, bodies) else { panic!("a pack") };
    commit_naming(&repository, "a", one(&repository, &a), None);
    for options in [everything(), CheckOptions::default()] {
        let report = check(&repository, &options);
        assert_eq!(kinds(&report), [DamageKind::ChunkUndecodable], "{:?}", report.damage);
        assert_eq!(report.damage[0].packs, [pack]);
        assert_eq!(report.damage[0].files_total, 1);
    }
}

#[test]
fn a_history_of_33_steps_is_too_deep_and_one_of_32_is_not() {
    for (steps, deep) in [(32u32, false), (33, true)] {
        let repository = empty();
        let versions: Vec<Vec<u8>> = (0..=steps).map(|i| noise(i, 300)).collect();
        pack_by_hand(&repository, vec![raw(&repository, &versions[0])]);
        for pair in versions.windows(2) {
            let base = content_id(&repository, &pair[0]);
            pack_by_hand(&repository, vec![on_base(&repository, &pair[1], base, &pair[0])]);
        }
        let last = versions.last().expect("versions");
        commit_naming(&repository, "deep", one(&repository, last), None);
        for options in [everything(), CheckOptions::default()] {
            let report = check(&repository, &options);
            let expected: &[DamageKind] = if deep { &[DamageKind::ChunkUndecodable] } else { &[] };
            assert_eq!(kinds(&report), expected, "{steps}: {:?}", report.damage);
        }
        // What check says is what a reader does.
        let reader = repository.reader().expect("a reader");
        assert_eq!(reader.get(ChunkSort::Content, &content_id(&repository, last)).is_err(), deep);
    }
}

#[test]
fn wrong_lengths_names_orders_and_hashes_are_found() {
    let repository = empty();
    let (a, b) = (noise(1, 500), noise(2, 400));
    let pack = pack_by_hand(&repository, vec![raw(&repository, &a), raw(&repository, &b)]);
    let chunk = |plain: &[u8], len| Extent::Chunk { id: content_id(&repository, plain), len, repeat: 1 };
    let right = [chunk(&a, 500), chunk(&b, 400)];
    let whole = hash::plain(&[a.clone(), b.clone()].concat());
    commit_naming(&repository, "right", right.to_vec(), Some(whole));
    assert!(check(&repository, &everything()).damage.is_empty());
    // Right chunks in the wrong order: only the whole hash can tell.
    let wrong = commit_naming(&repository, "swapped", vec![right[1].clone(), right[0].clone()], Some(whole));
    assert!(check(&repository, &CheckOptions::default()).damage.is_empty());
    let report = check(&repository, &everything());
    assert_eq!(kinds(&report), [DamageKind::FileHash]);
    assert_eq!(report.damage[0].snapshots, [wrong.id]);
    // Another length than the chunk has.
    commit_naming(&repository, "long", vec![chunk(&a, 501), right[1].clone()], Some(whole));
    let report = check(&repository, &CheckOptions::default());
    assert_eq!(kinds(&report), [DamageKind::ChunkMismatch]);
    assert_eq!(report.damage[0].packs, [pack.header_name()]);
    assert_eq!((report.damage[0].files_total, &report.damage[0].files[0].path), (1, &b"long".to_vec()));
}

#[test]
fn a_body_that_is_not_what_it_is_called_is_found() {
    let repository = empty();
    let (a, b) = (noise(1, 500), noise(2, 500));
    // Sealed, summed and listed in good order, but a lie: as a faulty memory would store it.
    let (body, _) = raw(&repository, &a);
    pack_by_hand(&repository, vec![(body, b.clone())]);
    let (body, _) = on_base(&repository, &noise(3, 500), content_id(&repository, &a), &b);
    let mut stored = Vec::new();
    compress_with_prefix(&noise(4, 500), &b, &mut stored).expect("compressed");
    pack_by_hand(&repository, vec![(Body { stored_len: stored.len() as u32, ..body }, stored)]);
    let listed = commit_naming(&repository, "a", one(&repository, &a), None);
    let upper = commit_naming(&repository, "c", one(&repository, &noise(3, 500)), None);
    assert!(check(&repository, &CheckOptions::default()).damage.is_empty());
    let report = check(&repository, &everything());
    assert_eq!(kinds(&report), [DamageKind::PackDamaged], "{:?}", report.damage);
    let mut hurt = vec![listed.id, upper.id];
    hurt.sort();
    assert_eq!(report.damaged_snapshots(), hurt);
}
