//! Snapshots against live files: what was done to the files is what is told.

use snapkeep::backup::{Input, Options, run};
use snapkeep::clock::{Clock, SystemClock};
use snapkeep::compare::live::{self, Finding, LiveOptions};
use snapkeep::compare::{Modifier, Statistics};
use snapkeep::crypto::hash;
use snapkeep::manifest::walk;
use snapkeep::progress::{Progress, Silent};
use snapkeep::repository::Repository;
use snapkeep::repository::reader::Reader;
use snapkeep::repository::snapshots::{self, Listed};
use snapkeep::source::filter::{Filter, FilterOptions};
use snapkeep::source::roots::Root;
use snapkeep::source::{FileSource, WalkOptions};
use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

/// A backup of `root`, stored as `/data`.
fn backup(repository: &Arc<Repository>, root: &Path) -> Listed {
    let roots = vec![Root::stored_as(root, Path::new("/data")).expect("a root")];
    let filter = Filter::new(&FilterOptions::default()).expect("a filter");
    let walk = WalkOptions { started: SystemClock.now(), ..WalkOptions::default() };
    let input = Input::Files(Box::new(FileSource::new(roots, filter, walk).expect("a source")));
    let options = Options { host: "h".into(), ..Options::default() };
    let outcome =
        run(repository, &input, &options, &SystemClock, &Progress::new(), &Silent).expect("a backup");
    snapshots::read(repository, outcome.snapshot.expect("committed")).expect("the snapshot")
}

fn place(root: &Path) -> Vec<Root> {
    vec![Root::stored_as(root, Path::new("/data")).expect("a root")]
}

/// Lines such as `M data/a`, silent changes with a `?`, problems with a `!`.
fn look(
    reader: &Reader,
    listed: &Listed,
    places: Vec<Root>,
    options: &LiveOptions,
) -> (Vec<String>, Statistics) {
    let mut lines = Vec::new();
    let stats = live::run(reader, &listed.root, places, options, &Progress::new(), &mut |finding| {
        lines.push(match finding {
            Finding::Change(c) => {
                let silent = if c.silent { "?" } else { "" };
                format!("{}{silent} {}", c.modifier.sign(), String::from_utf8_lossy(&c.path))
            }
            Finding::Problem(_) => "!".to_owned(),
        });
        Ok(())
    });
    (lines, stats.expect("compared"))
}

fn write_keeping_time(path: &Path, bytes: &[u8]) {
    let time = fs::metadata(path).and_then(|m| m.modified()).expect("a time");
    fs::write(path, bytes).expect("written");
    let file = File::options().write(true).open(path).expect("opened");
    file.set_times(FileTimes::new().set_modified(time)).expect("set back");
}

fn big(seed: u8) -> Vec<u8> {
    let block = |i: u32| hash::plain(&[&[seed][..], &i.to_le_bytes()].concat());
    (0..40_000).flat_map(block).collect()
}

#[test]
fn live_files_differ_by_what_was_done_to_them() {
    let temp = tempfile::tempdir().expect("a directory");
    let root = temp.path().join("src");
    let path = |name: &str| root.join(name);
    fs::create_dir_all(path("d/e")).expect("made");
    for name in ["same", "grown", "touched", "mode", "gone", "rot", "d/e/deep", "type"] {
        fs::write(path(name), format!("content of {name}")).expect("written");
    }
    for (name, seed) in [("big", 1), ("bigrot", 2)] {
        fs::write(path(name), big(seed)).expect("written");
    }
    symlink("same", path("link")).expect("linked");
    let (_, repository) = crate::shelf::empty();
    let listed = backup(&repository, &root);
    let reader = repository.reader().expect("a reader");
    let entry = |name: &[u8]| walk::find(&reader, &listed.root, name).expect("read").expect("there");
    assert!(entry(b"data/bigrot").content.hash.is_some(), "several chunks");
    assert!(entry(b"data/rot").content.hash.is_none(), "one chunk");
    let quick = LiveOptions::default();
    let metadata = LiveOptions { metadata: true, ..LiveOptions::default() };
    let content = LiveOptions { content: true, ..LiveOptions::default() };
    for options in [&quick, &metadata, &content] {
        assert_eq!(look(&reader, &listed, place(&root), options).0, [""; 0]);
    }

    fs::write(path("grown"), "content of grown, and more").expect("written");
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(9);
    let touched = File::options().write(true).open(path("touched")).expect("opened");
    touched.set_times(FileTimes::new().set_modified(later)).expect("touched");
    fs::set_permissions(path("mode"), Permissions::from_mode(0o751)).expect("set");
    fs::remove_file(path("gone")).expect("removed");
    fs::write(path("d/new"), "new").expect("written");
    write_keeping_time(&path("rot"), b"CONTENT OF rot");
    let mut bytes = big(2);
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    write_keeping_time(&path("bigrot"), &bytes);
    fs::remove_file(path("type")).expect("removed");
    fs::create_dir(path("type")).expect("made");
    fs::remove_file(path("link")).expect("removed");
    symlink("elsewhere", path("link")).expect("linked");

    let (lines, stats) = look(&reader, &listed, place(&root), &quick);
    let seen =
        ["+ data/d/new", "- data/gone", "M data/grown", "M data/link", "M data/touched", "T data/type"];
    assert_eq!(lines, seen);
    assert_eq!((stats.changed_files, stats.added.files, stats.removed.files), (2, 1, 1));
    assert_eq!((stats.added.bytes, stats.removed.bytes), (3, "content of gone".len() as u64));
    let (lines, _) = look(&reader, &listed, place(&root), &content);
    let read = [
        "M? data/bigrot",
        "+ data/d/new",
        "- data/gone",
        "M data/grown",
        "M data/link",
        "M? data/rot",
        "T data/type",
    ];
    assert_eq!(lines, read);
    let both = LiveOptions { content: true, metadata: true, ..LiveOptions::default() };
    let (lines, _) = look(&reader, &listed, place(&root), &both);
    let metadata: Vec<&String> = lines.iter().filter(|l| l.starts_with(Modifier::Metadata.sign())).collect();
    assert_eq!(metadata, ["U data", "U data/d", "U data/mode", "U data/touched"]);

    // A subtree that stands elsewhere now, and rules that leave things out.
    let moved = vec![Root::stored_as(&path("d"), Path::new("/data/d")).expect("a root")];
    assert_eq!(look(&reader, &listed, moved, &quick).0, ["+ data/d/new"]);
    let filter = FilterOptions { excludes: vec!["new".into(), "gone".into()], ..FilterOptions::default() };
    let (lines, _) = look(&reader, &listed, place(&root), &LiveOptions { filter, ..quick });
    assert!(!lines.contains(&"+ data/d/new".to_owned()), "{lines:?}");
}

#[test]
fn a_place_that_is_gone_is_told_and_one_that_cannot_be_seen_is_not_called_gone() {
    let temp = tempfile::tempdir().expect("a directory");
    let root = temp.path().join("src");
    fs::create_dir(&root).expect("made");
    fs::write(root.join("a"), "a").expect("written");
    let (_, repository) = crate::shelf::empty();
    let listed = backup(&repository, &root);
    let reader = repository.reader().expect("a reader");
    fs::rename(&root, temp.path().join("away")).expect("moved");
    let (lines, stats) = look(&reader, &listed, place(&root), &LiveOptions::default());
    assert_eq!((lines, stats.problems), (vec!["- data".to_owned(), "- data/a".to_owned()], 0));
    // A name no filesystem looks at.
    let unseen = temp.path().join("n".repeat(300));
    let (lines, stats) = look(&reader, &listed, place(&unseen), &LiveOptions::default());
    assert_eq!((lines, stats.problems), (vec!["!".to_owned()], 1));
}
