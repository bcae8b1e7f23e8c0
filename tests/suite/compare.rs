//! Comparing, against the plainest model: two maps.

use crate::shelf::{CUT, Random, Thing, Tree, commit, dir, edit, empty, file, link, random_tree};
use snapkeep::backend::memory::MemoryBackend;
use snapkeep::clock::Timestamp;
use snapkeep::compare::blobs::{self, Blobs};
use snapkeep::compare::diff::{self, DiffOptions, Side};
use snapkeep::compare::find::{self, FindOptions};
use snapkeep::compare::history::{self, State};
use snapkeep::compare::{Change, Modifier, Statistics, Tally};
use snapkeep::compress::Level;
use snapkeep::crypto::ChunkSort;
use snapkeep::error::{ErrorKind, Result};
use snapkeep::format::FileName;
use snapkeep::format::entry::{Kind, path_order};
use snapkeep::format::root::{Root, RootItem};
use snapkeep::format::snapshot::SessionInfo;
use snapkeep::id::{CHUNK_ID_LEN, ChunkId};
use snapkeep::manifest::walk::Groups;
use snapkeep::progress::Progress;
use snapkeep::repository::reader::Reader;
use snapkeep::repository::snapshots::Listed;
use snapkeep::repository::writer::{DeltaPolicy, Writer};
use std::collections::{BTreeMap, HashSet};

type Line = (String, &'static str, Option<u64>, Option<u64>);

fn line(change: &Change) -> Line {
    let path = String::from_utf8(change.path.clone()).expect("utf-8");
    (path, change.modifier.sign(), change.before, change.after)
}

fn diff_at(
    reader: &Reader,
    (a, below_a): (&Listed, &str),
    (b, below_b): (&Listed, &str),
    options: DiffOptions,
) -> Result<(Vec<Change>, Statistics)> {
    let mut changes = Vec::new();
    let before = Side { root: &a.root, below: below_a.as_bytes() };
    let after = Side { root: &b.root, below: below_b.as_bytes() };
    let stats = diff::run(reader, before, after, &options, &Progress::new(), &mut |change| {
        changes.push(change);
        Ok(())
    })?;
    Ok((changes, stats))
}

const WITH_METADATA: DiffOptions = DiffOptions { metadata: true, thorough: false };
const THOROUGH: DiffOptions = DiffOptions { metadata: false, thorough: true };

fn naive_line(path: &str, a: Option<&Thing>, b: Option<&Thing>) -> Option<(Line, bool)> {
    let size = |t: &Thing| t.bytes.len() as u64;
    let same_type = |a: &Thing, b: &Thing| std::mem::discriminant(&a.kind) == std::mem::discriminant(&b.kind);
    let (sign, silent) = match (a, b) {
        (None, Some(_)) => ("+", false),
        (Some(_), None) => ("-", false),
        (Some(a), Some(b)) if !same_type(a, b) => ("T", false),
        (Some(a), Some(b)) if a.kind != b.kind || a.bytes != b.bytes => {
            let silent = (a.mtime, a.mode, a.bytes.len()) == (b.mtime, b.mode, b.bytes.len());
            ("M", silent && a.kind == Kind::File)
        }
        (Some(a), Some(b)) if a != b => ("U", false),
        _ => return None,
    };
    Some(((path.to_owned(), sign, a.map(size), b.map(size)), silent))
}

fn naive(a: &Tree, b: &Tree) -> Vec<(Line, bool)> {
    let paths: HashSet<&String> = a.keys().chain(b.keys()).collect();
    let mut paths: Vec<&String> = paths.into_iter().collect();
    paths.sort_by(|x, y| path_order(x.as_bytes(), y.as_bytes()));
    paths.into_iter().filter_map(|p| naive_line(p, a.get(p), b.get(p))).collect()
}

fn chunks(tree: &Tree) -> HashSet<&[u8]> {
    tree.values().flat_map(|t| t.bytes.chunks(CUT)).collect()
}

/// Files, directories and others that only `a` has; chunks that only `a` has, and their bytes.
fn naive_tally(a: &Tree, b: &Tree) -> Tally {
    let mut tally = Tally::default();
    for (_, thing) in a.iter().filter(|(p, _)| !b.contains_key(*p)) {
        match thing.kind {
            Kind::File => tally.files += 1,
            Kind::Directory => tally.dirs += 1,
            _ => tally.others += 1,
        }
    }
    let elsewhere = chunks(b);
    for chunk in chunks(a).difference(&elsewhere) {
        tally.data_blobs += 1;
        tally.bytes += chunk.len() as u64;
    }
    tally
}

#[test]
fn a_diff_says_what_two_maps_say() {
    let mut signs = HashSet::new();
    for seed in 0..6 {
        let mut random = Random(seed);
        let (_, repository) = empty();
        let mut tree = random_tree(&mut random, 6000);
        let before = tree.clone();
        let a = commit(&repository, &tree, 100, None);
        edit(&mut random, &mut tree, [0, 1, 8, 40, 150, 150][seed as usize], 9000);
        if seed == 5 {
            // A directory vanishes with its contents, and a file takes its name.
            tree.retain(|path, _| !path.starts_with("home/d3"));
            tree.insert("home/d3".into(), file("was a directory", 9000));
        }
        let b = commit(&repository, &tree, 200, Some(&a));
        let reader = repository.reader().expect("a reader");
        let (changes, stats) = diff_at(&reader, (&a, ""), (&b, ""), WITH_METADATA).expect("a diff");
        let told: Vec<(Line, bool)> = changes.iter().map(|c| (line(c), c.silent)).collect();
        let expected = naive(&before, &tree);
        assert_eq!(told, expected, "seed {seed}");
        signs.extend(told.iter().map(|((_, sign, ..), _)| *sign));
        let changed = |((p, sign, ..), _): &&(Line, bool)| *sign == "M" && tree[p].kind == Kind::File;
        assert_eq!(stats.changed_files, expected.iter().filter(changed).count() as u64);
        assert_eq!(stats.groups_read + 2 * stats.groups_skipped, groups(&reader, &a) + groups(&reader, &b));
        assert!(seed > 2 || stats.groups_skipped > 0, "seed {seed}: nothing was skipped");

        let (changes, stats) = diff_at(&reader, (&a, ""), (&b, ""), THOROUGH).expect("a diff");
        assert!(changes.iter().all(|c| c.modifier != Modifier::Metadata));
        let tree_blobs = (stats.removed.tree_blobs, stats.added.tree_blobs);
        assert_eq!(stats.removed, Tally { tree_blobs: tree_blobs.0, ..naive_tally(&before, &tree) });
        assert_eq!(stats.added, Tally { tree_blobs: tree_blobs.1, ..naive_tally(&tree, &before) });
        assert_eq!(tree_blobs.0 + tree_blobs.1, stats.groups_read);
    }
    assert_eq!(signs, HashSet::from(["+", "-", "M", "T", "U"]));
}

fn groups(reader: &Reader, listed: &Listed) -> u64 {
    Groups::load(reader, &listed.root).expect("groups").items.len() as u64
}

#[test]
fn a_copy_of_an_unchanged_file_adds_no_bytes_when_counted_thoroughly() {
    let (_, repository) = empty();
    let mut tree = Tree::from([("a".to_owned(), file(vec![1; 2 * CUT], 1))]);
    let a = commit(&repository, &tree, 100, None);
    tree.insert("b".into(), file(vec![1; 2 * CUT], 2));
    let b = commit(&repository, &tree, 200, Some(&a));
    let reader = repository.reader().expect("a reader");
    let (_, quick) = diff_at(&reader, (&a, ""), (&b, ""), WITH_METADATA).expect("a diff");
    let (_, thorough) = diff_at(&reader, (&a, ""), (&b, ""), THOROUGH).expect("a diff");
    assert_eq!((quick.added.bytes, thorough.added.bytes), (CUT as u64, 0));
    assert_eq!((quick.added.files, thorough.added.files), (1, 1));
}

#[test]
fn groups_of_one_name_are_not_read_and_others_are() {
    let (_, repository) = empty();
    let mut tree = Tree::from([("m".to_owned(), file("one", 1)), ("x".to_owned(), file("x", 1))]);
    let a = commit(&repository, &tree, 100, None);
    tree.insert("m".into(), file("two", 2));
    tree.insert("q".into(), file("new", 2));
    let b = commit(&repository, &tree, 200, Some(&a));
    // A group that stands nowhere: reading it is an error.
    let lost = |first: &str, byte| RootItem {
        first: first.into(),
        id: ChunkId([byte; CHUNK_ID_LEN]),
        stat: None,
        entries: 9,
        bytes: 9,
    };
    let reader = repository.reader().expect("a reader");
    let mut writer = Writer::open(&repository, Level::OFF, &SessionInfo::default()).expect("a session");
    let mut roots = Vec::new();
    {
        let mut lane = writer.lane(ChunkSort::Manifest).expect("a lane");
        for (listed, last) in [(&a, 7), (&b, 7), (&b, 8)] {
            let mut items = Groups::load(&reader, &listed.root).expect("groups").items;
            items.insert(0, lost("a", 6));
            items.push(lost("z", last));
            let root = Root { level: 0, items }.encode();
            roots.push(lane.put(&root, &[], DeltaPolicy::MANIFEST).expect("stored"));
        }
        lane.finish().expect("finished");
    }
    writer.flush().expect("flushed");
    let reader = repository.reader().expect("a reader");
    let mut told = Vec::new();
    let mut compare = |x: usize, y: usize| {
        let side = |root| Side { root, below: b"" };
        let (x, y) = (side(&roots[x]), side(&roots[y]));
        diff::run(&reader, x, y, &WITH_METADATA, &Progress::new(), &mut |change| {
            told.push(line(&change));
            Ok(())
        })
    };
    let stats = compare(0, 1).expect("lost groups are passed over");
    assert_eq!((stats.groups_skipped, stats.groups_read), (2, 2));
    assert_eq!(compare(0, 2).expect_err("the last groups differ").kind(), ErrorKind::Corrupt);
    assert_eq!(told[..2], [("m".into(), "M", Some(3), Some(3)), ("q".into(), "+", None, Some(3))]);

    // A search looks at the groups that are there, and says that it could not look at the others.
    let torn = Listed { root: roots[0], ..a };
    let finds = find::run(&reader, &[torn], &["m".into()], &FindOptions::default(), &Progress::new());
    let finds = finds.expect("searched");
    assert_eq!((finds.snapshots[0].entries.len(), finds.damaged.len()), (1, 1));
}

#[test]
fn subtrees_are_compared_whatever_they_are_called() {
    let (_, repository) = empty();
    let mut random = Random(77);
    let mut inner = Tree::new();
    for i in 0..3000 {
        inner.insert(format!("f{i}"), file(random.bytes(9), i));
    }
    let moved = |prefix: &str, inner: &Tree| {
        let mut tree =
            Tree::from([("aaa".to_owned(), file("before", 1)), ("zzz".to_owned(), file("after", 1))]);
        let mut path = String::new();
        for name in prefix.split('/') {
            path = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
            tree.insert(path.clone(), dir(prefix.len() as i64));
        }
        tree.extend(inner.iter().map(|(p, t)| (format!("{prefix}/{p}"), t.clone())));
        // Neighbours whose names begin the same way.
        tree.insert(format!("{prefix}-not"), file("a neighbour", 3));
        tree.insert(format!("{prefix}.not"), file("a neighbour", 3));
        tree
    };
    let a = commit(&repository, &moved("home/old", &inner), 100, None);
    let mut changed = inner.clone();
    edit(&mut random, &mut changed, 40, 9000);
    let b = commit(&repository, &moved("srv/x/new", &changed), 200, None);
    let reader = repository.reader().expect("a reader");
    let (changes, stats) =
        diff_at(&reader, (&a, "home/old"), (&b, "srv/x/new"), WITH_METADATA).expect("a diff");
    let expected: Vec<Line> = naive(&inner, &changed).into_iter().map(|(l, _)| l).collect();
    assert_eq!(changes.iter().map(line).collect::<Vec<_>>(), expected);
    assert_eq!(stats.groups_skipped, 0);

    // Two subtrees of one snapshot stand in one group and are not the same.
    let (changes, _) = diff_at(&reader, (&b, "srv"), (&b, "srv/x"), WITH_METADATA).expect("a diff");
    assert!(changes.len() > 3000, "{} changes", changes.len());

    // One file against another, and against a directory.
    let (changes, _) = diff_at(&reader, (&a, "aaa"), (&b, "zzz"), WITH_METADATA).expect("a diff");
    assert_eq!(changes.iter().map(line).collect::<Vec<_>>(), [("zzz".into(), "M", Some(6), Some(5))]);
    let (changes, _) = diff_at(&reader, (&a, "aaa"), (&b, "srv/x"), WITH_METADATA).expect("a diff");
    assert_eq!(changes[0].modifier, Modifier::Type);
    assert!(changes[1..].iter().all(|c| c.modifier == Modifier::Added) && changes.len() > 3000);
    let error = diff_at(&reader, (&a, "home/ol"), (&b, ""), WITH_METADATA).expect_err("no such path");
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn the_same_bytes_cut_otherwise_are_the_same() {
    let (_, repository) = empty();
    let bytes = Random(5).bytes(2 * CUT);
    let tree = Tree::from([("a".to_owned(), file(bytes.clone(), 1)), ("b".to_owned(), file(bytes, 1))]);
    let a = commit(&repository, &tree, 100, None);
    let mut writer = Writer::open(&repository, Level::OFF, &SessionInfo::default()).expect("a session");
    let mut lane = writer.lane(ChunkSort::Content).expect("a lane");
    let whole = lane.put(&tree["a"].bytes, &[], DeltaPolicy::CONTENT).expect("stored");
    let other = lane.put(&vec![9; 2 * CUT], &[], DeltaPolicy::CONTENT).expect("stored");
    lane.finish().expect("finished");
    writer.flush().expect("flushed");
    let reader = repository.reader().expect("a reader");
    let entry = snapkeep::manifest::walk::find(&reader, &a.root, b"a").expect("found").expect("there");
    let mut one = entry.content.clone();
    one.hash = None;
    let len = 2 * CUT as u32;
    one.extents = vec![snapkeep::format::entry::Extent::Chunk { id: whole, len, repeat: 1 }];
    assert!(diff::same_content(&reader, &entry.content, &one).expect("compared"));
    assert!(diff::same_content(&reader, &one, &entry.content).expect("compared"));
    one.extents = vec![snapkeep::format::entry::Extent::Chunk { id: other, len, repeat: 1 }];
    assert!(!diff::same_content(&reader, &entry.content, &one).expect("compared"));
}

/// Flips a bit in the frame that holds the chunk.
fn damage(backend: &MemoryBackend, reader: &Reader, id: &ChunkId) {
    let found = reader.index().find(id).expect("index").expect("there");
    let name = FileName::Pack(found.pack.id);
    let mut bytes = backend.files()[&name].clone();
    bytes[found.place.offset as usize + 60] ^= 1;
    backend.overwrite(name, bytes);
}

#[test]
fn history_tells_each_change_once_and_folds_the_rest() {
    let (backend, repository) = empty();
    let at = |things: &[(&str, Thing)]| {
        let mut tree = Tree::from([("home".to_owned(), dir(1)), ("home/x".to_owned(), file("x", 1))]);
        tree.extend(things.iter().map(|(p, t)| ((*p).to_owned(), t.clone())));
        tree
    };
    let big = Random(3).bytes(3 * CUT);
    let mut grown = big.clone();
    grown.extend_from_slice(b"tail");
    let trees = [
        at(&[]),
        at(&[("home/f", file(big.clone(), 10))]),
        at(&[("home/f", file(big.clone(), 10)), ("home/g", file("g", 2))]),
        at(&[("home/f", file(big.clone(), 99))]),
        at(&[("home/f", file(grown.clone(), 100))]),
        at(&[]),
        at(&[]),
        at(&[("home/f", link("g", 100))]),
        at(&[("home/f", file(grown.clone(), 100))]),
    ];
    let mut listed: Vec<Listed> = Vec::new();
    for (i, tree) in trees.iter().enumerate() {
        let next = commit(&repository, tree, 100 * i as i64, listed.last());
        listed.push(next);
    }
    // Of another machine's other paths: says nothing about this one.
    let mut stranger = commit(&repository, &at(&[]), 350, None);
    stranger.record.paths = vec!["/homely".into(), "/srv".into()];
    listed.insert(4, stranger);
    let reader = repository.reader().expect("a reader");
    let tell = |listed: &[Listed], path: &str| {
        let versions = history::run(&reader, listed, path.as_bytes(), &Progress::new()).expect("a history");
        let short = |s: &State| match s {
            State::Present { kind, size, mtime, .. } => {
                format!("{} {size} {}", snapkeep::compare::kind_name(kind), mtime.secs)
            }
            State::Absent => "absent".to_owned(),
            State::Unreadable(_) => "unreadable".to_owned(),
        };
        versions
            .iter()
            .map(|v| (short(&v.state), v.snapshots, v.content_changed, v.new_bytes))
            .collect::<Vec<_>>()
    };
    let n = 3 * CUT as u64;
    let expected = [
        (format!("file {n} 10"), 2, true, n),
        (format!("file {n} 99"), 1, false, 0),
        (format!("file {} 100", n + 4), 1, true, 4),
        ("absent".to_owned(), 2, false, 0),
        ("symlink 0 100".to_owned(), 1, true, 0),
        (format!("file {} 100", n + 4), 1, true, 0),
    ];
    assert_eq!(tell(&listed, "home/f"), expected);
    assert_eq!(tell(&listed, "home/x"), [("file 1 1".to_owned(), 9, true, 1)]);
    assert_eq!(tell(&listed, "home/never"), []);
    let versions = history::run(&reader, &listed, b"home/f", &Progress::new()).expect("a history");
    assert_eq!((versions[0].snapshot, versions[0].last_snapshot), (listed[1].id, listed[2].id));
    assert_eq!(versions[0].last_time, listed[2].record.time);

    // The snapshot with the grown file loses its manifest: the others are told all the same.
    damage(&backend, &reader, &listed[5].root);
    let reader = repository.reader().expect("a reader");
    let versions = history::run(&reader, &listed, b"home/f", &Progress::new()).expect("a history");
    assert!(matches!(versions[2].state, State::Unreadable(_)), "{versions:?}");
    assert_eq!((versions.len(), versions[3].state.clone()), (6, State::Absent));
}

#[test]
fn find_sees_what_a_plain_look_at_every_path_sees() {
    let (backend, repository) = empty();
    let mut random = Random(11);
    let mut tree = random_tree(&mut random, 3000);
    tree.insert("home/d1/Notes.TXT".into(), file("n", 5000));
    tree.insert("home/d1/notes.txt".into(), file("nn", 6000));
    tree.insert("home/notes.txt".into(), link("d1/notes.txt", 6000));
    let first = tree.clone();
    let mut listed = vec![commit(&repository, &tree, 100, None)];
    edit(&mut random, &mut tree, 3, 9000);
    listed.push(commit(&repository, &tree, 200, listed.last()));
    let reader = repository.reader().expect("a reader");
    let look = |patterns: &[&str], options: &FindOptions| {
        let patterns: Vec<String> = patterns.iter().map(|p| (*p).to_owned()).collect();
        let finds = find::run(&reader, &listed, &patterns, options, &Progress::new()).expect("found");
        assert!(finds.damaged.is_empty());
        let mut by_snapshot: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for matches in &finds.snapshots {
            let number = listed.iter().position(|l| l.id == matches.snapshot).expect("asked for");
            let paths = matches.entries.iter().map(|e| String::from_utf8(e.path.clone()).expect("utf-8"));
            by_snapshot.insert(number, paths.collect());
        }
        by_snapshot
    };
    let plain = |tree: &Tree, fits: &dyn Fn(&str, &Thing) -> bool| {
        let mut paths: Vec<String> =
            tree.iter().filter(|(p, t)| fits(p, t)).map(|(p, _)| p.clone()).collect();
        paths.sort_by(|x, y| path_order(x.as_bytes(), y.as_bytes()));
        paths
    };
    let everywhere = |fits: &dyn Fn(&str, &Thing) -> bool| {
        let both = [plain(&first, fits), plain(&tree, fits)];
        both.into_iter().enumerate().filter(|(_, p)| !p.is_empty()).collect::<BTreeMap<_, _>>()
    };
    let name = |p: &str| p.rsplit('/').next().unwrap_or_default().to_owned();
    let all = FindOptions::default();
    assert_eq!(look(&["f001*"], &all), everywhere(&|p, _| name(p).starts_with("f001")));
    assert_eq!(look(&["*.new", "e.3"], &all), everywhere(&|p, _| p.ends_with(".new") || name(p) == "e.3"));
    assert_eq!(look(&["/home/d[12]/*.txt"], &all), everywhere(&|p, _| p == "home/d1/notes.txt"));
    assert_eq!(look(&["d1/notes.txt"], &all), everywhere(&|p, _| p == "home/d1/notes.txt"));
    assert_eq!(look(&["/d1/notes.txt"], &all), BTreeMap::new());
    assert_eq!(look(&["/home/**/f00017"], &all), everywhere(&|p, _| name(p) == "f00017"));
    let any_case = FindOptions { ignore_case: true, ..all.clone() };
    assert_eq!(look(&["NOTES.*"], &any_case), everywhere(&|p, _| name(p).to_lowercase() == "notes.txt"));
    let links = FindOptions { kinds: vec!["symlink".into()], ..all.clone() };
    assert_eq!(look(&["*"], &links), everywhere(&|_, t| matches!(t.kind, Kind::Symlink(_))));
    let time = |secs| Some(Timestamp { secs, nanos: 5 });
    let recent = FindOptions { oldest: time(5000), newest: time(6000), ..all.clone() };
    assert_eq!(look(&["*"], &recent), everywhere(&|_, t| (5000..=6000).contains(&t.mtime)));
    let below = FindOptions { below: b"home/d1".to_vec(), ..all.clone() };
    assert_eq!(look(&["notes.txt"], &below), everywhere(&|p, _| p == "home/d1/notes.txt"));
    let odd = FindOptions { kinds: vec!["pipe".into()], ..all };
    let error = find::run(&reader, &listed, &[], &odd, &Progress::new()).expect_err("no such kind");
    assert_eq!(error.kind(), ErrorKind::Invalid);

    damage(&backend, &reader, &listed[1].root);
    let reader = repository.reader().expect("a reader");
    let finds = find::run(&reader, &listed, &["e.3".to_owned()], &FindOptions::default(), &Progress::new());
    let finds = finds.expect("the others are searched");
    assert_eq!((finds.snapshots.len(), finds.snapshots[0].snapshot), (1, listed[0].id));
    assert_eq!((finds.damaged.len(), finds.damaged[0].0), (1, listed[1].id));
}

#[test]
fn a_chunk_and_a_pack_lead_back_to_their_files() {
    let (_, repository) = empty();
    let bytes = Random(1).bytes(2 * CUT);
    let shared = bytes[CUT..].to_vec();
    let tree = Tree::from([
        ("a".to_owned(), file(bytes, 1)),
        ("b".to_owned(), file(shared.clone(), 1)),
        ("c".to_owned(), file("other", 1)),
    ]);
    let listed = vec![commit(&repository, &tree, 100, None), commit(&repository, &tree, 200, None)];
    let reader = repository.reader().expect("a reader");
    let id = reader.keyring().chunk_id(ChunkSort::Content, &shared);
    let prefix = id.to_string()[..11].to_uppercase();
    let wanted = Blobs::by_prefix(&reader, &[prefix]).expect("one chunk");
    assert_eq!(wanted.len(), 1);
    let uses = |wanted: &Blobs| {
        let found = blobs::run(&reader, &listed, wanted, &Progress::new()).expect("found");
        let mut lines = Vec::new();
        for used in found.uses {
            let path = used.path.map(|p| String::from_utf8(p.to_vec()).expect("utf-8"));
            let number = listed.iter().position(|l| l.id == used.snapshot).expect("asked for");
            lines.push((number, path, used.sort));
        }
        lines
    };
    let content = |n, path: &str| (n, Some(path.to_owned()), ChunkSort::Content);
    assert_eq!(uses(&wanted), [content(0, "a"), content(0, "b"), content(1, "a"), content(1, "b")]);

    let place = reader.index().find(&id).expect("index").expect("there");
    let pack = Blobs::in_packs(&reader, &[place.pack.id.to_string()]).expect("a pack");
    assert_eq!(uses(&pack).len(), 2 * 4, "two chunks of a, one each of b and c, in both snapshots");
    let root = Blobs::by_prefix(&reader, &[listed[0].root.to_string()]).expect("the root");
    assert_eq!(uses(&root), [(0, None, ChunkSort::Manifest), (1, None, ChunkSort::Manifest)]);
    assert_eq!(Blobs::by_prefix(&reader, &["12".into()]).expect_err("too short").kind(), ErrorKind::Invalid);
    let nowhere = Blobs::in_packs(&reader, &["0123456789abcdef".into()]).expect_err("no pack");
    assert_eq!(nowhere.kind(), ErrorKind::NotFound);
}
