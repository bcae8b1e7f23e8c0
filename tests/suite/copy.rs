//! Copies restore byte for byte, stay small, are recognised, and never name what is not there.

use crate::shelf::{
    CUT, Random, Tree, commit, commit_changed, edit, empty, file, random_tree, repository, tree,
};
use snapkeep::backend::memory::MemoryBackend;
use snapkeep::clock::{FixedClock, Timestamp};
use snapkeep::copy::{CopyOptions, CopyReport, run};
use snapkeep::crypto::ChunkSort;
use snapkeep::error::{ErrorKind, Result};
use snapkeep::format::entry::Extent;
use snapkeep::format::{FileName, Folder};
use snapkeep::id::ChunkId;
use snapkeep::manifest::walk::{Groups, find, read_group, read_stats};
use snapkeep::progress::{Progress, Silent};
use snapkeep::repository::Repository;
use snapkeep::repository::reader::Reader;
use snapkeep::repository::snapshots::{self, Listed};
use std::collections::HashSet;
use std::sync::Arc;

fn try_copy(from: &Repository, chosen: &[Listed], to: &Arc<Repository>) -> Result<CopyReport> {
    let clock = FixedClock(Timestamp { secs: 2_000_000, nanos: 0 });
    let options = CopyOptions { workers: 2, ..CopyOptions::default() };
    run(from, chosen, to, &options, &clock, &Progress::new(), &Silent)
}

fn copy(from: &Repository, chosen: &[Listed], to: &Arc<Repository>) -> CopyReport {
    let report = try_copy(from, chosen, to).expect("copied");
    report.outcome().expect("nothing damaged");
    report
}

fn listed(repository: &Repository) -> Vec<Listed> {
    let listing = snapshots::list(repository).expect("a listing");
    assert!(listing.damaged.is_empty());
    listing.snapshots
}

/// Bytes of all packs of one sort.
fn pack_bytes(repository: &Repository, sort: ChunkSort) -> u64 {
    let index = repository.load_index().expect("an index");
    index.packs().filter(|p| p.sort == sort).map(|p| p.size).sum()
}

fn depths(repository: &Repository) -> (u8, usize) {
    let (mut deepest, mut with_history) = (0, 0);
    let index = repository.load_index().expect("an index");
    index
        .for_each(&mut |listed, pack| {
            if pack.sort == ChunkSort::Content && listed.place.depth > 0 {
                deepest = deepest.max(listed.place.depth);
                with_history += 1;
            }
            Ok(())
        })
        .expect("an index");
    (deepest, with_history)
}

/// A tree with a large file that changes a little in each of `count` generations, as trees and as snapshots.
fn generations(from: &Arc<Repository>, seed: u64, count: usize) -> (Vec<Tree>, Vec<Listed>) {
    let mut random = Random(seed);
    let mut now = random_tree(&mut random, 1500);
    now.insert("home/db".into(), file(random.bytes(300 * CUT), 1));
    let (mut trees, mut snapshots) = (Vec::new(), Vec::new());
    for i in 0..count {
        if i > 0 {
            edit(&mut random, &mut now, 6, 1000 + i as i64);
            let db = now.get_mut("home/db").expect("there");
            for _ in 0..30 {
                // The beginning is where the changes are: many versions of few chunks.
                let at = random.below(60 * CUT);
                db.bytes[at] ^= 0x55;
            }
            db.mtime = 1000 + i as i64;
        }
        snapshots.push(commit(from, &now, 100 * i as i64, snapshots.last()));
        trees.push(now.clone());
    }
    (trees, snapshots)
}

fn assert_holds(to: &Repository, expected: &[Tree]) {
    let reader = to.reader().expect("a reader");
    let there = listed(to);
    assert_eq!(there.len(), expected.len());
    for (listed, expected) in there.iter().zip(expected) {
        assert!(tree(&reader, &listed.root) == *expected, "{} differs", listed.record.time);
    }
}

#[test]
fn twenty_four_generations_arrive_whole_and_as_small_as_they_were() {
    let from = repository(&MemoryBackend::new(), Some("one password"));
    let (mut trees, mut snapshots) = generations(&from, 1, 24);
    // A content list in chunks of its own.
    let mut last = trees[23].clone();
    last.insert("home/huge".into(), file(Random(9).bytes(1100 * CUT + 1), 77));
    snapshots.push(commit(&from, &last, 2400, snapshots.last()));
    trees.push(last);
    assert!(depths(&from).0 >= 3, "the source has histories");
    let to = repository(&MemoryBackend::new(), Some("another one"));
    let report = copy(&from, &snapshots, &to);
    assert_eq!((report.copied.len(), report.skipped.len()), (25, 0));
    assert_holds(&to, &trees);
    for sort in [ChunkSort::Content, ChunkSort::Manifest] {
        let (here, there) = (pack_bytes(&from, sort), pack_bytes(&to, sort));
        assert!(there <= here + here / 20, "{sort:?}: {here} bytes became {there}");
    }
    assert_eq!(depths(&to), depths(&from), "the same histories");

    let there = listed(&to);
    let (ours, theirs) = (from.reader().expect("a reader"), to.reader().expect("a reader"));
    for (i, (a, b)) in snapshots.iter().zip(&there).enumerate() {
        assert_eq!(report.copied[i], (a.id, Some(b.id)));
        let mut expected = a.record.clone();
        expected.id = b.id.to_string();
        expected.root = b.root.to_string();
        expected.parent = i.checked_sub(1).map(|p| there[p].id.to_string());
        expected.origin = Some(format!("{}/{}", from.id(), a.id));
        assert_eq!(b.record, expected);
    }
    let huge = |reader: &Reader, root: &ChunkId| {
        find(reader, root, b"home/huge").expect("read").expect("there").content
    };
    let (a, b) = (huge(&ours, &snapshots[24].root), huge(&theirs, &there[24].root));
    assert!(!a.lists.is_empty() && a.lists.len() == b.lists.len() && a.lists != b.lists);
    let (a, b) = (Groups::load(&ours, &snapshots[24].root), Groups::load(&theirs, &there[24].root));
    let (a, b) = (a.expect("groups").items, b.expect("groups").items);
    assert_eq!(a.len(), b.len());
    for (x, y) in a.iter().zip(&b) {
        let stats = |reader: &Reader, item| {
            read_stats(reader, item, &read_group(reader, item).expect("a group")).expect("stats")
        };
        assert_eq!(stats(&ours, x), stats(&theirs, y));
    }
}

#[test]
fn night_by_night_is_as_good_as_all_at_once_and_reads_only_what_is_new() {
    let backend = MemoryBackend::new();
    let from = repository(&backend, None);
    let to = repository(&MemoryBackend::new(), None);
    let (trees, snapshots) = generations(&from, 2, 22);
    for night in 0..22 {
        let report = copy(&from, &snapshots[..=night], &to);
        assert_eq!((report.copied.len(), report.skipped.len()), (1, night));
        // The large file alone has 300 chunks.
        assert!(night == 0 || report.data_blobs < 60, "night {night}: {} chunks", report.data_blobs);
    }
    assert_holds(&to, &trees);
    let (here, there) = (pack_bytes(&from, ChunkSort::Content), pack_bytes(&to, ChunkSort::Content));
    assert!(there <= here + here / 5, "{here} bytes became {there}");
    assert!(depths(&to).0 <= 9, "{:?}", depths(&to));

    // No content written so far is needed for a snapshot that adds one file.
    let old: Vec<FileName> = from
        .load_index()
        .expect("an index")
        .packs()
        .filter(|p| p.sort == ChunkSort::Content)
        .map(|p| FileName::Pack(p.id))
        .collect();
    let mut tree = trees[21].clone();
    tree.insert("home/one-more".into(), file(Random(4).bytes(5000), 5));
    let next = commit(&from, &tree, 9000, snapshots.last());
    for name in old {
        let mut bytes = backend.files()[&name].clone();
        // Every frame: footers, which stand at the end, still say what there was.
        for at in (100..bytes.len() * 9 / 10).step_by(64) {
            bytes[at] ^= 1;
        }
        backend.overwrite(name, bytes);
    }
    let report = copy(&from, std::slice::from_ref(&next), &to);
    assert_eq!((report.copied.len(), report.data_blobs), (1, 2));
    let there = listed(&to);
    let reader = to.reader().expect("a reader");
    assert!(crate::shelf::tree(&reader, &there[22].root) == tree);
}

#[test]
fn generations_whose_bases_stay_behind_are_stored_against_each_other() {
    let (_, from) = empty();
    let (trees, snapshots) = generations(&from, 3, 21);
    let (_, to) = empty();
    copy(&from, &snapshots[5..], &to);
    assert_holds(&to, &trees[5..]);
    let (here, there) = (pack_bytes(&from, ChunkSort::Content), pack_bytes(&to, ChunkSort::Content));
    assert!(there <= here + here / 10, "{here} bytes became {there}");
    assert!(depths(&to).1 > 100);
}

#[test]
fn what_came_from_somewhere_is_not_copied_back_and_an_origin_stays() {
    let plain = repository(&MemoryBackend::new(), None);
    let (trees, snapshots) = generations(&plain, 4, 3);
    let sealed = repository(&MemoryBackend::new(), Some("secret"));
    let again = repository(&MemoryBackend::new(), None);
    copy(&plain, &snapshots[..2], &sealed);
    copy(&sealed, &listed(&sealed), &again);
    assert_holds(&again, &trees[..2]);
    for (i, listed) in listed(&again).iter().enumerate() {
        assert_eq!(listed.record.origin, Some(format!("{}/{}", plain.id(), snapshots[i].id)));
    }
    // Round the circle: home again, and by the short way.
    let back = copy(&again, &listed(&again), &plain);
    assert_eq!((back.copied.len(), back.skipped.len()), (0, 2));
    assert_eq!(back.skipped[1].1, snapshots[1].id);
    let report = copy(&plain, &snapshots, &again);
    assert_eq!((report.copied.len(), report.skipped.len()), (1, 2));
    assert_holds(&again, &trees);
    let parents: Vec<_> = listed(&again).iter().map(|l| l.record.parent.clone()).collect();
    assert_eq!(parents[2], Some(listed(&again)[1].id.to_string()));
}

#[test]
fn what_was_lost_there_is_copied_anew_and_heals_older_copies() {
    let (_, from) = empty();
    let (trees, snapshots) = generations(&from, 6, 3);
    let target = MemoryBackend::new();
    let to = repository(&target, None);
    copy(&from, &snapshots[..2], &to);
    let index = to.load_index().expect("an index");
    for pack in index.packs().filter(|p| p.sort == ChunkSort::Content) {
        to.backend().remove(&FileName::Pack(pack.id)).expect("removed");
    }
    assert_eq!(copy(&from, &snapshots, &to).skipped.len(), 2);
    let reader = to.reader().expect("a reader");
    assert!(tree(&reader, &listed(&to)[2].root) == trees[2]);
    let unchanged = find(&reader, &listed(&to)[0].root, b"home/db").expect("read").expect("there").content;
    let Some(Extent::Chunk { id, .. }) = unchanged.extents.last() else { panic!("chunks") };
    assert_eq!(
        *reader.get(ChunkSort::Content, id).expect("there again"),
        trees[0]["home/db"].bytes[299 * CUT..]
    );
}

#[test]
fn damage_costs_the_snapshots_that_have_it_and_no_others() {
    let backend = MemoryBackend::new();
    let from = repository(&backend, None);
    let big = |seed| Random(seed).bytes(400 * CUT);
    let mut trees = vec![Tree::from([("a".to_owned(), file(big(1), 1))])];
    // `b` comes first and is stored, then `z` cannot be read.
    let mut second = trees[0].clone();
    second.insert("b".into(), file(big(2), 2));
    second.insert("z".into(), file(big(3), 2));
    trees.push(second.clone());
    second.remove("z");
    second.insert("c".into(), file("a little", 3));
    trees.push(second);
    let mut snapshots: Vec<Listed> = Vec::new();
    for (i, tree) in trees.iter().enumerate() {
        snapshots.push(commit(&from, tree, 100 * i as i64, snapshots.last()));
    }
    let reader = from.reader().expect("a reader");
    let id = |bytes: &[u8]| reader.keyring().chunk_id(ChunkSort::Content, bytes);
    let last = trees[1]["z"].bytes.chunks(CUT).next_back().expect("a chunk");
    let first = trees[1]["b"].bytes.chunks(CUT).next().expect("a chunk");
    let place = |bytes| reader.index().find(&id(bytes)).expect("index").expect("there");
    let (bad, good) = (place(last), place(first));
    assert_ne!(bad.place.offset, good.place.offset, "in another frame");
    let name = FileName::Pack(bad.pack.id);
    let mut bytes = backend.files()[&name].clone();
    bytes[bad.place.offset as usize + 1000] ^= 1;
    backend.overwrite(name, bytes);

    let (_, to) = empty();
    let report = try_copy(&from, &snapshots, &to).expect("the others go on");
    let copied: Vec<_> = report.copied.iter().map(|(id, _)| *id).collect();
    assert_eq!(copied, [snapshots[0].id, snapshots[2].id]);
    assert_eq!(report.damaged.len(), 1);
    assert_eq!(report.damaged[0].0, snapshots[1].id);
    let error = report.outcome().expect_err("an error in the end");
    assert!(error.kind() == ErrorKind::Corrupt && error.message().contains(&snapshots[1].id.short()));
    assert_holds(&to, &[trees[0].clone(), trees[2].clone()]);
    assert_eq!(to.backend().list(Folder::Sessions).expect("listed").len(), 0, "no session is left open");
    // A parent that did not arrive is not named.
    assert_eq!(listed(&to)[1].record.parent, None);
}

#[test]
fn a_manifest_at_odds_with_its_chunks_is_not_copied() {
    let (_, from) = empty();
    let plain = Tree::from([("a".to_owned(), file("five.", 1))]);
    let odd = commit_changed(&from, &plain, 100, None, &|entry| {
        entry.content.size += 1;
        let Some(Extent::Chunk { len, .. }) = entry.content.extents.first_mut() else { panic!("a chunk") };
        *len += 1;
    });
    let good = commit(&from, &plain, 200, None);
    let (_, to) = empty();
    let report = try_copy(&from, &[odd.clone(), good], &to).expect("the other goes on");
    assert_eq!((report.copied.len(), report.damaged[0].0), (1, odd.id));
    assert_holds(&to, &[plain]);
}

#[test]
fn a_dry_run_a_stop_and_a_copy_onto_itself_change_nothing() {
    let backend = MemoryBackend::new();
    let from = repository(&backend, None);
    let (_, snapshots) = generations(&from, 5, 2);
    let target = MemoryBackend::new();
    let to = repository(&target, None);
    let before = target.files();
    let clock = FixedClock(Timestamp { secs: 2_000_000, nanos: 0 });
    let dry = CopyOptions { dry_run: true, ..CopyOptions::default() };
    let report = run(&from, &snapshots, &to, &dry, &clock, &Progress::new(), &Silent).expect("looked");
    assert_eq!(report.copied, [(snapshots[0].id, None), (snapshots[1].id, None)]);
    assert_eq!(target.files(), before);
    assert_eq!(try_copy(&from, &snapshots, &from).expect_err("itself").kind(), ErrorKind::Invalid);

    let stopped = Progress::new();
    stopped.cancel();
    let options = CopyOptions::default();
    let error = run(&from, &snapshots, &to, &options, &clock, &stopped, &Silent).expect_err("stopped");
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    let ids: HashSet<Folder> = target.files().keys().map(FileName::folder).collect();
    assert!(!ids.contains(&Folder::Snapshots) && !ids.contains(&Folder::Sessions));
}
