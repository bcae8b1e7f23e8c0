//! Repositories made to do harm: manifests with paths, links and orders that no backup writes. Whatever they say,
//! nothing outside the target changes, and what is restored is what was asked for.

use crate::counters::note;
use crate::restore::{MTIME, Shelf, Told, see, temp, user};
use snapkeep::compress::Level;
use snapkeep::crypto::ChunkSort;
use snapkeep::format::entry::{Content, Entry, Extent, Flags, Kind, Metadata, Owner};
use snapkeep::format::group::GroupEncoder;
use snapkeep::format::root::{Root, RootItem};
use snapkeep::format::snapshot::SessionInfo;
use snapkeep::id::ChunkId;
use snapkeep::progress::Progress;
use snapkeep::repository::writer::{DeltaPolicy, Writer};
use snapkeep::restore::{self, Overwrite, RestoreOptions};
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// A manifest of these entries, in this order, with no questions asked.
fn store(shelf: &Shelf, entries: Vec<(Vec<u8>, Kind, u64)>) -> ChunkId {
    let mut writer = Writer::open(&shelf.repository, Level::AUTO, &SessionInfo::default()).expect("open");
    let mut lane = writer.lane(ChunkSort::Content).expect("lane");
    let mut lists = writer.lane(ChunkSort::Manifest).expect("lane");
    let id = lane.put(b"harm", &[], DeltaPolicy::CONTENT).expect("put");
    let owner = Arc::new(Owner { uid: user().0, gid: user().1, ..Owner::default() });
    let mut group = GroupEncoder::default();
    let (first, count) = (entries[0].0.clone(), entries.len() as u64);
    for (path, kind, link) in entries {
        let mut content = Content::default();
        if kind == Kind::File {
            content.size = 4;
            content.extents = vec![Extent::Chunk { id, len: 4, repeat: 1 }];
        }
        let mode = if kind == Kind::Directory { 0o755 } else { 0o644 };
        let meta = Metadata { mode, owner: Arc::clone(&owner), mtime: MTIME, xattrs: None };
        group.push(&Entry { path, kind, meta, flags: Flags::default(), link, content });
    }
    let id = lists.put(&group.finish(), &[], DeltaPolicy::MANIFEST).expect("put");
    let item = RootItem { first, id, stat: None, entries: count, bytes: 4 * count };
    let root = Root { level: 0, items: vec![item] };
    let id = lists.put(&root.encode(), &[], DeltaPolicy::MANIFEST).expect("put");
    lane.finish().expect("finish");
    lists.finish().expect("finish");
    writer.flush().expect("flush");
    id
}

/// Paths that are none, or lead elsewhere.
fn evil_paths(outside: &Path) -> Vec<Vec<u8>> {
    let outside = outside.to_str().expect("text");
    let mut paths: Vec<Vec<u8>> = [
        "",
        ".",
        "..",
        "/",
        "//",
        "/etc/passwd",
        "../outside/new",
        "../../outside/new",
        "a/../../outside/new",
        "a/..",
        "a/../b",
        "./a",
        "a/.",
        "a//b",
        "a/",
        "../target/../outside/new",
        "a/../../../../../../../tmp/snapkeep-harm",
    ]
    .iter()
    .map(|path| path.as_bytes().to_vec())
    .collect();
    paths.push(outside.as_bytes().to_vec());
    paths.push(format!("{outside}/new").into_bytes());
    paths.push(format!("..{outside}/new").into_bytes());
    paths.push(b"a\0b".to_vec());
    paths.push(b"\0".to_vec());
    paths.push([&b"x".repeat(5000)[..], b"/y"].concat());
    paths.push(b"d/".repeat(5000));
    paths
}

fn kinds(outside: &Path) -> Vec<Kind> {
    let link = outside.to_str().expect("text").as_bytes().to_vec();
    vec![Kind::File, Kind::Directory, Kind::Symlink(link), Kind::Fifo, Kind::Socket]
}

/// Everything that is tried, by groups of entries.
fn manifests(outside: &Path) -> Vec<Vec<(Vec<u8>, Kind, u64)>> {
    let mut all = Vec::new();
    let out = Kind::Symlink(outside.to_str().expect("text").as_bytes().to_vec());
    let up = Kind::Symlink(b"../outside".to_vec());
    for path in evil_paths(outside) {
        for kind in kinds(outside) {
            all.push(vec![(path.clone(), kind.clone(), 0)]);
            // Behind something harmless, and behind a door.
            all.push(vec![(b"a".to_vec(), Kind::Directory, 0), (path.clone(), kind.clone(), 0)]);
            all.push(vec![(b"a".to_vec(), out.clone(), 0), ([b"a/", &path[..]].concat(), kind, 0)]);
        }
    }
    for door in [&out, &up] {
        for kind in kinds(outside) {
            for below in ["a/new", "a/canary", "a/deep/er/new"] {
                let below = below.as_bytes().to_vec();
                all.push(vec![(b"a".to_vec(), door.clone(), 0), (below.clone(), kind.clone(), 0)]);
                // The same path as a directory and as a door, in both orders.
                let both = [(b"a".to_vec(), Kind::Directory, 0), (b"a".to_vec(), door.clone(), 0)];
                all.push([&both[..], &[(below.clone(), kind.clone(), 0)]].concat());
                let both = [(b"a".to_vec(), door.clone(), 0), (b"a".to_vec(), Kind::Directory, 0)];
                all.push([&both[..], &[(below, kind.clone(), 0)]].concat());
            }
        }
        // A name of a file that is a door: linking must not lead through it.
        all.push(vec![(b"a".to_vec(), door.clone(), 7), (b"b".to_vec(), Kind::File, 7)]);
        all.push(vec![
            (b"a".to_vec(), Kind::File, 7),
            (b"b".to_vec(), door.clone(), 7),
            (b"b/new".to_vec(), Kind::File, 7),
        ]);
    }
    // Wrong order, and the same again.
    all.push(vec![(b"b".to_vec(), Kind::File, 0), (b"a".to_vec(), Kind::File, 0)]);
    all.push(vec![(b"a".to_vec(), Kind::File, 0), (b"a".to_vec(), Kind::File, 0)]);
    all
}

#[test]
fn no_manifest_reaches_out_of_the_target() {
    let (_keep, root) = temp();
    let outside = root.join("outside");
    fs::create_dir(&outside).expect("mkdir");
    fs::write(outside.join("canary"), b"alive").expect("write");
    let before = see(&outside);
    let shelf = Shelf::new();
    let manifests = manifests(&outside);
    for (number, entries) in manifests.iter().enumerate() {
        let snapshot = store(&shelf, entries.clone());
        for (overwrite, delete) in [(Overwrite::Always, false), (Overwrite::IfChanged, true)] {
            let target = root.join(format!("target-{number}"));
            fs::create_dir_all(&target).expect("mkdir");
            let options = RestoreOptions { overwrite, delete, ..RestoreOptions::default() };
            let (progress, told) = (Progress::new(), Told::default());
            let reader = shelf.repository.reader().expect("a reader");
            // Refused or partly done; what counts is the world outside.
            let plan = restore::plan(&reader, &snapshot, &target, &options);
            let _ = plan.and_then(|plan| restore::execute(&reader, plan, &progress, &told));
            assert!(see(&outside) == before, "{entries:?} changed the world outside");
            fs::remove_dir_all(&target).expect("removed");
        }
        let left: Vec<_> =
            fs::read_dir(&root).expect("listed").map(|e| e.expect("entry").file_name()).collect();
        assert_eq!(left, ["outside"], "{entries:?} left something beside the target");
    }
    assert!(!Path::new("/tmp/snapkeep-harm").exists());
    note("T15 hostile manifests restored twice", manifests.len() as u64, 0);
}
