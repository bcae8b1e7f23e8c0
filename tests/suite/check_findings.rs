//! What `check` says: which finding, whom it hurts, and what counts as none. `repair index` and `stats` beside it.

use super::check_stand::{
    CUT, NOW, check, commit, commit_naming, content_id, empty, everything, finish, generations, is_found,
    kinds, new_repository, noise, on_base, one, over, pack_by_hand, raw,
};
use snapkeep::backend::memory::MemoryBackend;
use snapkeep::backend::write_new;
use snapkeep::check::damage::DamageKind;
use snapkeep::check::scan::scan_pack;
use snapkeep::check::subset::Subset;
use snapkeep::check::{CheckOptions, CheckReport};
use snapkeep::clock::Timestamp;
use snapkeep::compress::{Level, Search, compress_with_prefix};
use snapkeep::crypto::{ChunkSort, hash};
use snapkeep::format::entry::Extent;
use snapkeep::format::frame::{Body, FrameKind, decode_frame_header};
use snapkeep::format::root::{Root, RootItem};
use snapkeep::format::snapshot::SessionInfo;
use snapkeep::format::{FileName, Folder, HEADER_LEN, encode_header};
use snapkeep::id::{ChunkId, Name};
use snapkeep::manifest::walk::Groups;
use snapkeep::progress::{Progress, Silent};
use snapkeep::repository::Repository;
use snapkeep::repository::snapshots::{self, Listed};
use snapkeep::repository::writer::{DeltaPolicy, Writer};
use snapkeep::stats::Mode;
use std::collections::BTreeMap;
use std::sync::Arc;

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
    compress_with_prefix(&noise(4, 500), &b, Search::Close, &mut stored).expect("compressed");
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

#[test]
fn a_base_that_is_not_what_it_is_called_is_found_out_and_another_copy_serves() {
    let (a, b) = (noise(1, 500), noise(2, 500));
    let mut c = a.clone();
    c[77] ^= 1;
    // Which of two copies comes first depends on their packs' names.
    for _ in 0..12 {
        let repository = empty();
        let id = content_id(&repository, &c);
        pack_by_hand(&repository, vec![(raw(&repository, &a).0, b.clone())]);
        pack_by_hand(&repository, vec![on_base(&repository, &c, content_id(&repository, &a), &a)]);
        let lost = repository.reader().expect("a reader").get(ChunkSort::Content, &id);
        assert!(lost.is_err_and(|e| e.to_string().contains("another content")));
        pack_by_hand(&repository, vec![raw(&repository, &a)]);
        let reader = repository.reader().expect("a reader");
        for wanted in [&c, &a, &c] {
            let found = reader.get(ChunkSort::Content, &content_id(&repository, wanted));
            assert_eq!(found.expect("there is a good copy")[..], wanted[..]);
        }
    }
}

#[test]
fn a_damaged_pack_is_traced_to_the_files_and_snapshots_it_hurts() {
    let repository = empty();
    let (shared, old, new) = (noise(1, 600), noise(2, 600), noise(3, 600));
    let first = commit(&repository, &[("changing", old), ("shared", shared.clone())], None);
    let before = packs(&repository);
    // Stored against the first version of the same file, so that it depends on it.
    let mut changed = noise(2, 600);
    changed[5] ^= 1;
    let second =
        commit(&repository, &[("changing", changed), ("other", new), ("shared", shared)], Some(&first));
    let backend = repository.backend();
    // The oldest pack of content: what `changing` and `shared` began with.
    let (name, size) = before[0];
    let bytes = backend.read(&name, size).expect("a pack");
    let mut files = all_files(&repository);
    let mut flipped = bytes.clone();
    flipped[HEADER_LEN + 200] ^= 4;
    files.insert(name, flipped);
    let report = check_found(&repository, &files);
    assert_eq!(kinds(&report), [DamageKind::PackDamaged], "{:?}", report.damage);
    let damage = &report.damage[0];
    assert_eq!(report.broken_packs(), [name.header_name()]);
    let mut both = vec![first.id, second.id];
    both.sort();
    assert_eq!(report.damaged_snapshots(), both);
    // Both files of the first snapshot and the same two of the second, not `other`.
    assert_eq!(damage.files_total, 4, "{:?}", damage.files);
    assert!(report.damaged_files().iter().all(|f| f.path != b"other"));
    assert!(damage.next.starts_with("snapkeep repair packs") && !damage.mendable, "{damage}");
    // Without the data nothing is known of it; without its footer all of it is lost, but known to be there.
    assert!(structure(&repository, &files).damage.is_empty());
    let mut cut = bytes.clone();
    cut.truncate(bytes.len() - 1);
    files.insert(name, cut);
    let report = structure(&repository, &files);
    assert_eq!(kinds(&report), [DamageKind::PackUnreadable], "{:?}", report.damage);
    assert_eq!(report.damage[0].files_total, 4);
    assert!(report.information.iter().any(|i| i.code == "pack-salvage" && i.text.contains("2 chunks")));
    // And lost altogether.
    files.remove(&name);
    let report = structure(&repository, &files);
    assert_eq!(kinds(&report), [DamageKind::ChunkMissing]);
    assert_eq!((report.damage[0].files_total, report.damage[0].packs.len()), (4, 0));
}

/// Packs by age of their making, content before manifest: a backup closes them in this order.
fn packs(repository: &Repository) -> Vec<(FileName, u64)> {
    let mut packs: Vec<(FileName, u64, u8)> = repository
        .backend()
        .list(Folder::Packs)
        .expect("listed")
        .iter()
        .map(|s| {
            let kind = repository.backend().read_range(&s.name, HEADER_LEN as u64, 1).expect("a byte")[0];
            (s.name, s.size, kind)
        })
        .collect();
    packs.sort_by_key(|(_, _, kind)| *kind);
    packs.into_iter().map(|(name, size, _)| (name, size)).collect()
}

fn all_files(repository: &Repository) -> BTreeMap<FileName, Vec<u8>> {
    let mut files = BTreeMap::new();
    for folder in Folder::ALL {
        for stat in repository.backend().list(folder).expect("listed") {
            files.insert(stat.name, repository.backend().read(&stat.name, stat.size).expect("read"));
        }
    }
    files
}

fn check_found(repository: &Repository, files: &BTreeMap<FileName, Vec<u8>>) -> CheckReport {
    is_found(repository, files)
}

fn structure(repository: &Repository, files: &BTreeMap<FileName, Vec<u8>>) -> CheckReport {
    check(&over(repository, files).1, &CheckOptions::default())
}

#[test]
fn a_lost_group_hurts_all_that_stood_in_it() {
    let repository = empty();
    let listed = commit(&repository, &[("a", noise(1, 10)), ("b", noise(2, 10))], None);
    let mut files = all_files(&repository);
    let manifest = packs(&repository).last().expect("packs").0;
    files.remove(&manifest);
    let report = structure(&repository, &files);
    assert_eq!(kinds(&report), [DamageKind::ChunkMissing]);
    assert_eq!(report.damage[0].snapshots, [listed.id]);
    // The group alone: its entries are counted, the first is named.
    let reader = repository.reader().expect("a reader");
    let group = Groups::load(&reader, &listed.root).expect("groups").items[0].clone();
    let root = Root { level: 0, items: vec![RootItem { id: ChunkId([9; 24]), ..group }] };
    commit_root(&repository, &root);
    let report = check(&repository, &CheckOptions::default());
    assert_eq!(kinds(&report), [DamageKind::ChunkMissing]);
    assert_eq!((report.damage[0].files_total, report.damage[0].files[0].path.as_slice()), (2, &b"a"[..]));
}

fn commit_root(repository: &Arc<Repository>, root: &Root) -> Listed {
    let writer = Writer::open(repository, Level::AUTO, &SessionInfo::default()).expect("a session");
    let mut lane = writer.lane(ChunkSort::Manifest).expect("a lane");
    let id = lane.put(&root.encode(), &[], DeltaPolicy::MANIFEST).expect("stored");
    lane.finish().expect("finished");
    finish(repository, writer, id, None)
}

#[test]
fn roots_that_lie_about_their_groups_are_found() {
    let repository = empty();
    let listed = commit(&repository, &[("a", noise(1, 10)), ("b", noise(2, 10))], None);
    let reader = repository.reader().expect("a reader");
    let item = Groups::load(&reader, &listed.root).expect("groups").items[0].clone();
    let lies = [
        Root { level: 0, items: vec![RootItem { entries: 3, ..item.clone() }] },
        Root { level: 0, items: vec![RootItem { bytes: 21, ..item.clone() }] },
        Root { level: 0, items: vec![RootItem { first: b"A".to_vec(), ..item.clone() }] },
        Root { level: 0, items: vec![RootItem { id: listed.root, ..item.clone() }] },
        // The same group twice, and a root that is its own level's.
        Root { level: 0, items: vec![item.clone(), RootItem { first: b"b".to_vec(), ..item.clone() }] },
        Root { level: 1, items: vec![RootItem { stat: None, ..item.clone() }] },
        Root { level: 2, items: vec![RootItem { id: listed.root, stat: None, ..item.clone() }] },
        Root { level: 1, items: vec![RootItem { id: listed.root, stat: None, entries: 1, ..item.clone() }] },
    ];
    for (i, root) in lies.iter().enumerate() {
        let repository = empty();
        commit(&repository, &[("a", noise(1, 10)), ("b", noise(2, 10))], None);
        // Ids are keyed, so the groups are stored under this repository's names first.
        let listing = snapshots::list(&repository).expect("listed");
        let reader = repository.reader().expect("a reader");
        let here = Groups::load(&reader, &listing.snapshots[0].root).expect("groups").items[0].clone();
        let mut root = root.clone();
        for item in &mut root.items {
            item.id = if item.id == listed.root { listing.snapshots[0].root } else { here.id };
            item.stat = item.stat.and(here.stat);
        }
        let bad = commit_root(&repository, &root);
        let report = check(&repository, &CheckOptions::default());
        assert!(kinds(&report).contains(&DamageKind::Manifest), "{i}: {:?}", report.damage);
        assert!(report.damaged_snapshots().contains(&bad.id), "{i}: {:?}", report.damage);
    }
    assert!(check(&repository, &everything()).damage.is_empty());
}

#[test]
fn parts_cover_every_pack_once_and_shares_are_shares() {
    let repository = empty();
    for i in 0..20u32 {
        pack_by_hand(&repository, vec![raw(&repository, &noise(i, 100))]);
    }
    let read = |subset| {
        let options = CheckOptions { read_data: Some(subset), ..CheckOptions::default() };
        let report = check(&repository, &options);
        (report.packs_read, report.bytes_read)
    };
    let parts: Vec<u64> = (1..=3).map(|n| read(Subset::Part { n, t: 3 }).0).collect();
    assert_eq!(parts.iter().sum::<u64>(), 20, "{parts:?}");
    assert!(parts.iter().all(|&n| n < 20));
    assert_eq!(read(Subset::Part { n: 1, t: 3 }).0, parts[0], "the same part is the same packs");
    assert_eq!(read(Subset::Percent(10.0)).0, 2);
    assert_eq!(read(Subset::Percent(0.1)).0, 1);
    let size = read(Subset::All).1 / 20;
    assert_eq!(read(Subset::Bytes(size * 3)).0, 3);
    assert_eq!(read(Subset::Bytes(1)).0, 1);
    assert_eq!(Subset::parse("2/7").expect("valid"), Subset::Part { n: 2, t: 7 });
    assert_eq!(Subset::parse("2.5%").expect("valid"), Subset::Percent(2.5));
    assert_eq!(Subset::parse("1G").expect("valid"), Subset::Bytes(1 << 30));
    for bad in ["0/5", "6/5", "1/0", "0%", "101%", "-1%", "NaN%", "0", "much", ""] {
        assert!(Subset::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn packs_read_lately_are_left_out_only_when_asked_and_only_when_good() {
    let temp = tempfile::tempdir().expect("a directory");
    let backend = MemoryBackend::new();
    let mut repository = new_repository(&backend, None);
    let pack = pack_by_hand(&repository, vec![raw(&repository, &noise(1, 100))]);
    pack_by_hand(&repository, vec![raw(&repository, &noise(2, 100))]);
    Arc::get_mut(&mut repository).expect("alone").set_cache(Some(temp.path()));
    let hour = std::time::Duration::from_secs(3600);
    let read = |age: Option<std::time::Duration>, later: i64| {
        let now = Timestamp { secs: NOW.secs + later, nanos: 0 };
        check(&repository, &CheckOptions { max_age: age, now, ..everything() })
    };
    assert_eq!(read(Some(hour), 0).packs_read, 2);
    let report = read(Some(hour), 3600);
    assert_eq!((report.packs_read, report.packs_fresh), (0, 2));
    assert_eq!(read(Some(hour), 3601).packs_read, 2);
    // A clock set back proves nothing about the future.
    assert_eq!(read(Some(hour), -10).packs_read, 2);
    assert_eq!(read(None, 1).packs_read, 2);
    let mut bytes = backend.files()[&pack].clone();
    bytes[HEADER_LEN + 100] ^= 1;
    backend.overwrite(pack, bytes);
    assert_eq!(read(Some(hour), 5).damage.len(), 0, "left out, as asked");
    assert_eq!(read(None, 6).damage.len(), 1);
    let report = read(Some(hour), 7);
    assert_eq!((report.packs_read, report.damage.len()), (1, 1), "what was found bad is read again");
}

#[test]
fn no_pack_is_begun_when_the_time_is_up() {
    let repository = empty();
    generations(&repository, 2);
    let options = CheckOptions { max_duration: Some(std::time::Duration::ZERO), ..everything() };
    let report = check(&repository, &options);
    assert_eq!((report.packs_read, report.packs_left, report.num_errors()), (0, 4, 0));
    assert!(report.information.iter().any(|i| i.code == "time-up"));
}

#[test]
fn open_sessions_are_told_and_are_no_damage() {
    let repository = empty();
    generations(&repository, 1);
    let info = SessionInfo { host: "laptop".into(), pid: 4711, ..SessionInfo::default() };
    let writer = Writer::open(&repository, Level::AUTO, &info).expect("a session");
    let report = check(&repository, &everything());
    assert_eq!((report.num_errors(), report.sessions), (0, 1));
    let text = &report.information[0].text;
    assert!(text.contains("laptop") && text.contains("4711"), "{text}");
    let torn = repository.backend().open_session(Name([7; 16]), b"snapkee").expect("a torn session");
    let report = check(&repository, &everything());
    assert_eq!((report.num_errors(), report.sessions), (0, 2));
    assert!(report.information.iter().any(|i| i.code == "session-unreadable"));
    drop((writer, torn));
}

#[test]
fn packs_about_to_be_deleted_do_not_make_damage_and_damaged_lists_do() {
    let repository = empty();
    let listed = generations(&repository, 2);
    let condemned: Vec<Name> = packs(&repository).iter().map(|(name, _)| name.header_name()).collect();
    let mut plain = Vec::new();
    snapkeep::format::codec::put_varint(&mut plain, condemned.len() as u64);
    condemned.iter().for_each(|name| plain.extend_from_slice(&name.0));
    let name = FileName::Condemned(1);
    let sealed = repository.keyring().seal(FrameKind::Condemned, &plain, &[3; 16]).expect("sealed");
    let bytes = [encode_header(&name, repository.id()).to_vec(), sealed].concat();
    write_new(repository.backend().as_ref(), &name, &bytes).expect("written");
    let report = check(&repository, &everything());
    assert_eq!((report.num_errors(), report.snapshots), (0, listed.len() as u64));
    assert!(report.information.iter().any(|i| i.code == "collection-unfinished"), "{:?}", report.information);
    let files = all_files(&repository);
    for at in 0..bytes.len() {
        let mut files = files.clone();
        files.get_mut(&name).expect("the list")[at] ^= 1 << (at % 8);
        let report = structure(&repository, &files);
        assert_eq!(kinds(&report), [DamageKind::CondemnedList], "byte {at}: {:?}", report.damage);
    }
}

#[test]
fn the_index_is_built_anew_and_says_what_it_cannot_hold() {
    let temp = tempfile::tempdir().expect("a directory");
    let backend = MemoryBackend::new();
    let mut repository = new_repository(&backend, None);
    generations(&repository, 3);
    Arc::get_mut(&mut repository).expect("alone").set_cache(Some(temp.path()));
    let chunks = check(&repository, &everything()).chunks;
    let rebuild = || snapkeep::repair::index::run(&repository, &Progress::new(), &Silent).expect("rebuilt");
    let report = rebuild();
    assert_eq!((report.removed, report.packs, report.chunks), (false, 6, chunks));
    let cache = repository.cache_dir().expect("a cache");
    std::fs::write(cache.join("junk.redb"), b"junk").expect("written");
    let report = rebuild();
    assert_eq!((report.removed, report.chunks, report.unindexed.len()), (true, chunks, 0));
    assert!(!cache.join("junk.redb").exists());
    // Without its footer a pack is scanned; a damaged frame costs that frame alone.
    let pack = pack_by_hand(&repository, vec![raw(&repository, &noise(1, 100))]);
    let other = backend.files()[&packs(&repository)[0].0].clone();
    let frame = &backend.files()[&pack][HEADER_LEN..];
    let (_, len) = decode_frame_header(frame).expect("a frame");
    let (_, more) = decode_frame_header(&other[HEADER_LEN..]).expect("a frame");
    let mut bytes =
        [&backend.files()[&pack][..HEADER_LEN + len], &other[HEADER_LEN..HEADER_LEN + more]].concat();
    backend.overwrite(pack, bytes.clone());
    let report = rebuild();
    let scan = report.unindexed[0].scan.as_ref().expect("scanned");
    assert_eq!((report.unindexed[0].pack, scan.frames.len()), (pack.header_name(), 2));
    assert!(scan.gaps.is_empty() && !scan.footer, "{:?}", scan.gaps);
    let all = scan.chunks();
    for at in HEADER_LEN..HEADER_LEN + len {
        bytes[at] ^= 0x11;
        backend.overwrite(pack, bytes.clone());
        let scan = scan_pack(&backend, repository.keyring(), pack.header_name(), bytes.len() as u64)
            .expect("scanned");
        assert_eq!((scan.frames.len(), scan.chunks()), (1, all - 1), "byte {at}");
        assert_eq!(scan.gaps, [(HEADER_LEN as u64, len as u64)]);
        bytes[at] ^= 0x11;
    }
}

#[test]
fn figures_count_what_is_there() {
    let repository = empty();
    let listed = generations(&repository, 3);
    let count = |mode| snapkeep::stats::run(&repository, &listed, mode, &Progress::new()).expect("counted");
    let one = 600 + (3 * CUT - 50) as u64 + 14 * 40;
    let stats = count(Mode::RestoreSize);
    assert_eq!((stats.snapshots_count, stats.total_size, stats.total_file_count), (3, 3 * one, 9));
    assert_eq!(stats.total_blob_count, 0);
    let stored: u64 = all_files(&repository).values().map(|b| b.len() as u64).sum();
    assert_eq!((stats.repository_bytes, stats.packs), (stored, 6));
    // Content: `a` three times, `d/b` three pieces of which one changes, `d/text` once.
    let stats = count(Mode::BlobsPerFile);
    assert_eq!((stats.total_blob_count, stats.blob_references), (3 + 5 + 1, 3 * 5));
    assert_eq!(stats.unique_size, 3 * 600 + (3 * CUT - 50 + 2 * CUT) as u64 + 14 * 40);
    let raw = count(Mode::RawData);
    assert_eq!(raw.total_blob_count, check(&repository, &everything()).chunks);
    assert!(raw.unique_size > stats.unique_size && raw.unique_stored < raw.unique_size);
    assert_eq!(raw.unused, 0);
    assert!(raw.compression_ratio.expect("a ratio") > 1.0 && raw.dedup_ratio.expect("a ratio") > 1.0);
    assert_eq!(raw.overhead + raw.unique_stored, raw.repository_bytes);
    // One snapshot needs less than all of them.
    let last =
        snapkeep::stats::run(&repository, &listed[2..], Mode::RawData, &Progress::new()).expect("counted");
    assert!(last.unique_size < raw.unique_size && last.unused > 0);
}
