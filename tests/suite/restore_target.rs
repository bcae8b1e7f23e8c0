//! Restoring to where something stands: nothing outside is touched, and what is inside gives way by rule only.

use super::restore::{
    MTIME, Made, Shelf, Told, assert_same, below, file, see, set_mtime, stored, temp, thing,
};
use snapkeep::error::ErrorKind;
use snapkeep::format::entry::Kind;
use snapkeep::id::ChunkId;
use snapkeep::os::process::is_root;
use snapkeep::progress::Progress;
use snapkeep::restore::{self, Counts, Overwrite, RestoreOptions, What};
use std::fs::{self, File, FileTimes};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

/// A directory that must stay as it is, and a target beside it.
fn canary() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let (keep, root) = temp();
    let (outside, target) = (root.join("outside"), root.join("target"));
    fs::create_dir(&outside).expect("mkdir");
    fs::create_dir(&target).expect("mkdir");
    fs::write(outside.join("canary"), b"alive").expect("write");
    (keep, outside, target)
}

fn link_to(path: &Path) -> Kind {
    Kind::Symlink(path.to_str().expect("utf8").as_bytes().to_vec())
}

fn with(overwrite: Overwrite) -> RestoreOptions {
    RestoreOptions { overwrite, ..RestoreOptions::default() }
}

/// A time later than what manifests made by hand say.
const LATER: u64 = MTIME.secs as u64 + 1000;
const EARLIER: u64 = MTIME.secs as u64 - 1000;

#[test]
fn what_a_manifest_puts_below_a_link_goes_nowhere() {
    let (_keep, outside, target) = canary();
    let before = see(&outside);
    let shelf = Shelf::new();
    let snapshot = shelf.store(vec![
        thing(b"a", link_to(&outside)),
        file(b"a/canary", b"dead"),
        file(b"a/deep/er", b"dead"),
        file(b"b", b"fine"),
        file(b"b/below a file", b"dead"),
        thing(b"c", link_to(&outside)),
    ]);
    for _ in 0..2 {
        let (summary, told) = shelf.restore(&snapshot, &target, &RestoreOptions::default());
        assert_eq!((summary.files_failed, told.lines().len()), (3, 3), "{:?}", told.lines());
        assert!(see(&outside) == before, "the world outside has changed");
        assert!(fs::symlink_metadata(target.join("a")).expect("look").is_symlink());
        assert_eq!(fs::read(target.join("b")).expect("read"), b"fine");
    }
}

#[test]
fn links_in_the_target_are_replaced_and_never_followed() {
    for overwrite in [Overwrite::Always, Overwrite::IfChanged, Overwrite::IfNewer, Overwrite::Never] {
        let (_keep, outside, target) = canary();
        fs::create_dir(outside.join("sub")).expect("mkdir");
        let before = see(&outside);
        symlink(&outside, target.join("dir")).expect("symlink");
        symlink(outside.join("canary"), target.join("file")).expect("symlink");
        symlink(outside.join("new"), target.join("dangling")).expect("symlink");
        let shelf = Shelf::new();
        let snapshot = shelf.store(vec![
            file(b"dangling", b"d"),
            thing(b"dir", Kind::Directory),
            file(b"dir/canary", b"dead"),
            thing(b"dir/sub", Kind::Directory),
            file(b"dir/sub/x", b"dead"),
            file(b"file", b"f"),
        ]);
        let (summary, told) = shelf.restore(&snapshot, &target, &with(overwrite));
        assert!(see(&outside) == before, "{overwrite:?}: the world outside has changed");
        let gives_way = matches!(overwrite, Overwrite::Always | Overwrite::IfChanged);
        if gives_way {
            assert!(told.lines().is_empty(), "{:?}", told.lines());
            assert_eq!(fs::read(target.join("dir/sub/x")).expect("read"), b"dead");
            assert!(fs::symlink_metadata(target.join("file")).expect("look").is_file());
        } else {
            // The links are newer than the snapshot; the directory cannot be had, and that is said once.
            assert_eq!((told.lines().len(), summary.files_failed), (1, 2), "{:?}", told.lines());
            assert!(fs::symlink_metadata(target.join("dir")).expect("look").is_symlink());
            assert!(fs::symlink_metadata(target.join("file")).expect("look").is_symlink());
        }
    }
}

#[test]
fn links_on_the_way_to_the_target_are_the_users_choice() {
    let (_keep, outside, _target) = canary();
    let way = outside.parent().expect("parent").join("way");
    symlink(&outside, &way).expect("symlink");
    let shelf = Shelf::new();
    let snapshot = shelf.store(vec![file(b"a", b"1")]);
    shelf.restore_well(&snapshot, &way.join("inner/most"), &RestoreOptions::default());
    assert_eq!(fs::read(outside.join("inner/most/a")).expect("read"), b"1");
}

#[test]
fn a_file_is_always_a_new_one() {
    let (_keep, outside, target) = canary();
    fs::write(target.join("f"), b"a longer content than the new one").expect("write");
    fs::hard_link(target.join("f"), outside.join("other name")).expect("link");
    let shelf = Shelf::new();
    let snapshot = shelf.store(vec![file(b"f", b"short")]);
    shelf.restore_well(&snapshot, &target, &RestoreOptions::default());
    assert_eq!(fs::read(target.join("f")).expect("read"), b"short");
    assert_eq!(fs::read(outside.join("other name")).expect("read"), b"a longer content than the new one");
}

#[test]
fn each_rule_decides_as_it_says() {
    let kinds = || vec![file(b"equal", b"snap"), file(b"newer", b"snap"), file(b"older", b"snap")];
    for (overwrite, want) in [
        (Overwrite::Always, ["snap", "snap", "snap"]),
        (Overwrite::IfChanged, ["here", "snap", "snap"]),
        (Overwrite::IfNewer, ["here", "here", "snap"]),
        (Overwrite::Never, ["here", "here", "here"]),
    ] {
        let (_keep, _outside, target) = canary();
        for (name, secs) in [("equal", MTIME.secs as u64), ("newer", LATER), ("older", EARLIER)] {
            fs::write(target.join(name), b"here").expect("write");
            fs::set_permissions(target.join(name), PermissionsExt::from_mode(0o644)).expect("chmod");
            let nanos = if name == "equal" { MTIME.nanos } else { 0 };
            File::open(target.join(name))
                .expect("open")
                .set_times(FileTimes::new().set_modified(UNIX_EPOCH + Duration::new(secs, nanos)))
                .expect("times");
        }
        let shelf = Shelf::new();
        let snapshot = shelf.store(kinds());
        let counts = preview(&shelf, &snapshot, &target, &with(overwrite)).0;
        let summary = shelf.restore_well(&snapshot, &target, &with(overwrite));
        let got: Vec<_> = ["equal", "newer", "older"]
            .iter()
            .map(|name| fs::read_to_string(target.join(name)).expect("read"))
            .collect();
        assert_eq!(got, want, "{overwrite:?}");
        let kept = want.iter().filter(|w| **w == "here").count() as u64;
        assert_eq!((summary.files_skipped, summary.files_restored), (kept, 3 - kept));
        assert_eq!((counts.replace, counts.keep + counts.skip), (3 - kept, kept), "{overwrite:?}");
    }
}

#[test]
fn if_changed_mends_permissions_without_touching_other_names() {
    let (_keep, outside, target) = canary();
    let shelf = Shelf::new();
    let snapshot = shelf.store(vec![file(b"alone", b"1"), file(b"shared", b"2")]);
    shelf.restore_well(&snapshot, &target, &RestoreOptions::default());
    fs::hard_link(target.join("shared"), outside.join("other name")).expect("link");
    for path in [target.join("alone"), outside.join("other name")] {
        fs::set_permissions(path, PermissionsExt::from_mode(0o600)).expect("chmod");
    }
    let inode = |path: PathBuf| fs::metadata(path).expect("look").ino();
    let alone = inode(target.join("alone"));
    let summary = shelf.restore_well(&snapshot, &target, &with(Overwrite::IfChanged));
    assert_eq!((summary.files_skipped, summary.files_restored), (1, 1));
    assert_eq!(inode(target.join("alone")), alone);
    for name in ["alone", "shared"] {
        assert_eq!(fs::metadata(target.join(name)).expect("look").mode() & 0o7777, 0o644, "{name}");
    }
    assert_eq!(fs::metadata(outside.join("other name")).expect("look").mode() & 0o7777, 0o600);
}

#[test]
fn directories_and_files_in_each_others_place() {
    let (_keep, _outside, target) = canary();
    fs::create_dir_all(target.join("empty")).expect("mkdir");
    fs::create_dir_all(target.join("full/of")).expect("mkdir");
    fs::write(target.join("full/of/things"), b"x").expect("write");
    fs::write(target.join("file"), b"x").expect("write");
    let shelf = Shelf::new();
    let snapshot = shelf.store(vec![
        file(b"empty", b"1"),
        thing(b"file", Kind::Directory),
        file(b"file/inside", b"2"),
        file(b"full", b"3"),
    ]);
    let (summary, told) = shelf.restore(&snapshot, &target, &RestoreOptions::default());
    assert_eq!((summary.files_restored, summary.files_failed), (2, 1));
    assert!(told.lines()[0].starts_with("full: a directory that is not empty"), "{:?}", told.lines());
    assert!(target.join("full/of/things").exists());
    assert_eq!(fs::read(target.join("file/inside")).expect("read"), b"2");
    assert_eq!(fs::read(target.join("empty")).expect("read"), b"1");
    let options = RestoreOptions { delete: true, ..RestoreOptions::default() };
    let summary = shelf.restore_well(&snapshot, &target, &options);
    assert_eq!((summary.files_restored, summary.files_deleted), (3, 3));
    assert_eq!(fs::read(target.join("full")).expect("read"), b"3");
}

/// A source and a target that holds more.
fn crowded() -> (tempfile::TempDir, PathBuf, PathBuf, Shelf, ChunkId) {
    let (keep, root) = temp();
    let (source, target) = (root.join("source"), root.join("target"));
    fs::create_dir_all(source.join("sub")).expect("mkdir");
    fs::create_dir_all(source.join("cache")).expect("mkdir");
    for file in ["a", "m", "sub/b", "cache/c.tmp", "cache/e"] {
        fs::write(source.join(file), file).expect("write");
    }
    let shelf = Shelf::new();
    let snapshot = shelf.backup(&source);
    shelf.restore_well(&snapshot, &target, &below(&source));
    fs::create_dir_all(target.join("extra/deep/er")).expect("mkdir");
    for file in ["0", "extra/x", "extra/deep/er/y.tmp", "sub/z", "sub/b.more", "cache/d.tmp", "zz"] {
        fs::write(target.join(file), b"extra").expect("write");
    }
    symlink(&source, target.join("extra/link")).expect("symlink");
    (keep, source, target, shelf, snapshot)
}

#[test]
fn delete_leaves_what_the_snapshot_has_and_nothing_else() {
    let (_keep, source, target, shelf, snapshot) = crowded();
    shelf.restore_well(&snapshot, &target, &below(&source));
    assert!(target.join("extra/deep/er/y.tmp").exists(), "nothing is deleted unasked");
    let options = RestoreOptions { delete: true, ..below(&source) };
    let (counts, lines) = preview(&shelf, &snapshot, &target, &options);
    assert_eq!(counts.delete, 6, "{lines:?}");
    let summary = shelf.restore_well(&snapshot, &target, &options);
    assert_same(&source, &target);
    assert_eq!(summary.files_deleted, 11);
}

#[test]
fn delete_spares_what_patterns_leave_out() {
    let (_keep, source, target, shelf, snapshot) = crowded();
    let excludes = vec!["*.tmp".to_owned()];
    shelf.restore_well(&snapshot, &target, &RestoreOptions { delete: true, excludes, ..below(&source) });
    let names: Vec<_> = see(&target).keys().skip(1).map(|p| p.to_string_lossy().into_owned()).collect();
    let want = [
        "a",
        "cache",
        "cache/c.tmp",
        "cache/d.tmp",
        "cache/e",
        "extra",
        "extra/deep",
        "extra/deep/er",
        "extra/deep/er/y.tmp",
        "m",
        "sub",
        "sub/b",
    ];
    assert_eq!(names, want);
    // With patterns for keeping, only what they mean is deleted, and only where something was restored.
    let (_keep, source, target, shelf, snapshot) = crowded();
    let includes = vec!["*.tmp".to_owned()];
    shelf.restore_well(&snapshot, &target, &RestoreOptions { delete: true, includes, ..below(&source) });
    assert!(!target.join("cache/d.tmp").exists());
    for kept in ["0", "zz", "extra/x", "extra/deep/er/y.tmp", "sub/z", "cache/c.tmp"] {
        assert!(target.join(kept).exists(), "{kept}");
    }
}

#[test]
fn delete_stays_below_what_was_asked_for() {
    let (_keep, source, target, shelf, snapshot) = crowded();
    let deep = target.join("deep");
    let inner = deep.join(source.strip_prefix("/").expect("absolute"));
    fs::create_dir_all(inner.join("sub")).expect("mkdir");
    for file in ["sub/extra", "beside"] {
        fs::write(inner.join(file), b"x").expect("write");
    }
    fs::write(deep.join("above"), b"x").expect("write");
    let sub = RestoreOptions { delete: true, strip: false, ..below(&source.join("sub")) };
    shelf.restore_well(&snapshot, &deep, &sub);
    assert!(!inner.join("sub/extra").exists());
    assert!(inner.join("beside").exists() && deep.join("above").exists());
    assert_eq!(fs::read_to_string(inner.join("sub/b")).expect("read"), "sub/b");
}

#[test]
fn delete_is_refused_where_it_could_empty_a_machine() {
    let (_keep, source, target, shelf, snapshot) = crowded();
    let reader = shelf.repository.reader().expect("reader");
    let refused = |target: &Path, options: &RestoreOptions| {
        let plan = restore::plan(&reader, &snapshot, target, options);
        plan.err().map(|e| e.kind()) == Some(ErrorKind::Refused)
    };
    let delete = RestoreOptions { delete: true, ..RestoreOptions::default() };
    let stripped = RestoreOptions { delete: true, ..below(&source) };
    let placed = RestoreOptions { strip: false, ..stripped.clone() };
    let home = PathBuf::from(std::env::var_os("HOME").expect("a home"));
    for vital in [Path::new("/"), Path::new("/../"), &home, home.parent().expect("above")] {
        assert!(refused(vital, &delete), "{}", vital.display());
        assert!(refused(vital, &stripped), "{}", vital.display());
        assert!(!refused(vital, &placed), "{}: a path below is named", vital.display());
        assert!(!refused(vital, &below(&source)), "{}: nothing is deleted", vital.display());
    }
    assert!(!refused(&target, &delete) && !refused(&target, &stripped));
    let nothing = RestoreOptions { includes: vec!["no-such-name".to_owned()], ..stripped.clone() };
    assert!(refused(&target, &nothing));
    let all_out = RestoreOptions { excludes: vec!["*".to_owned()], ..stripped.clone() };
    assert!(refused(&target, &all_out));
    fs::create_dir(source.join("empty")).expect("mkdir");
    let again = shelf.backup(&source);
    let reader = shelf.repository.reader().expect("reader");
    let empty = RestoreOptions { delete: true, ..below(&source.join("empty")) };
    let plan = restore::plan(&reader, &again, &target, &empty);
    assert_eq!(plan.err().map(|e| e.kind()), Some(ErrorKind::Refused));
}

#[test]
fn delete_stops_when_a_part_of_the_manifest_is_lost() {
    let (_keep, root) = temp();
    let (source, target) = (root.join("source"), root.join("target"));
    fs::create_dir(&source).expect("mkdir");
    for i in 0..6000 {
        fs::write(source.join(format!("{i:04}")), b"").expect("write");
    }
    let shelf = Shelf::new();
    let snapshot = shelf.backup(&source);
    fs::create_dir(&target).expect("mkdir");
    fs::write(target.join("zz"), b"extra").expect("write");
    let reader = shelf.repository.reader().expect("reader");
    let groups = snapkeep::manifest::walk::Groups::load(&reader, &snapshot).expect("groups");
    assert!(groups.items.len() > 1);
    let options = RestoreOptions { delete: true, ..below(&source) };
    let plan = restore::plan(&reader, &snapshot, &target, &options).expect("plan");
    // The second group vanishes between plan and execution.
    let found = reader.index().find(&groups.items[1].id).expect("find").expect("found");
    let name = snapkeep::format::FileName::Pack(found.pack.id);
    let mut bytes = shelf.backend.files()[&name].clone();
    let cold = shelf.repository.reader().expect("reader");
    bytes[found.place.offset as usize + 60] ^= 1;
    shelf.backend.overwrite(name, bytes);
    let told = Told::default();
    let outcome = restore::execute(&cold, plan, &Progress::new(), &told);
    assert!(!told.lines().is_empty(), "{outcome:?}");
    assert!(target.join("zz").exists(), "what the lost part holds is not known");
}

#[test]
fn an_interrupted_restore_goes_on_where_it_ended() {
    let (_keep, root) = temp();
    let (source, target) = (root.join("source"), root.join("target"));
    fs::create_dir_all(source.join("d/e")).expect("mkdir");
    for i in 0..100 {
        fs::write(source.join(format!("d/e/{i:03}")), format!("content {i}")).expect("write");
    }
    let shelf = Shelf::new();
    let snapshot = shelf.backup(&source);
    shelf.restore_well(&snapshot, &target, &below(&source));
    // As if the first run had been killed in the middle: half is missing, a temporary file is left.
    for i in 50..100 {
        fs::remove_file(target.join(format!("d/e/{i:03}"))).expect("remove");
    }
    fs::set_permissions(target.join("d/e"), PermissionsExt::from_mode(0o700)).expect("chmod");
    fs::write(target.join("d/e/.snapkeep-0123456789abcdef.tmp"), b"half").expect("write");
    fs::write(target.join("d/e/.snapkeep-notes.tmp"), b"the user's own").expect("write");
    let kept = fs::metadata(target.join("d/e/007")).expect("look").ino();
    let options = RestoreOptions { overwrite: Overwrite::IfChanged, ..below(&source) };
    let summary = shelf.restore_well(&snapshot, &target, &options);
    assert_eq!((summary.files_restored, summary.files_skipped), (50, 50));
    assert_eq!(fs::metadata(target.join("d/e/007")).expect("look").ino(), kept);
    assert_eq!(fs::read(target.join("d/e/.snapkeep-notes.tmp")).expect("kept"), b"the user's own");
    fs::remove_file(target.join("d/e/.snapkeep-notes.tmp")).expect("remove");
    set_mtime(&target.join("d/e"), 0);
    shelf.restore_well(&snapshot, &target, &options);
    assert_same(&source, &target);
}

#[test]
fn hard_links_are_one_file_again_whatever_stands_there() {
    let names = || {
        let link = |path: &'static [u8]| Made { link: 7, ..file(path, b"one file") };
        vec![link(b"a"), thing(b"d", Kind::Directory), link(b"d/b"), link(b"z")]
    };
    let shelf = Shelf::new();
    let snapshot = shelf.store(names());
    let (_keep, _outside, target) = canary();
    let check = || {
        let inode = |name: &str| fs::metadata(target.join(name)).expect("look").ino();
        assert_eq!((inode("a"), inode("a")), (inode("d/b"), inode("z")));
        assert_eq!(fs::read_dir(&target).expect("list").count(), 3, "no temporary names are left");
        assert_eq!(fs::metadata(target.join("a")).expect("look").nlink(), 3);
    };
    shelf.restore_well(&snapshot, &target, &RestoreOptions::default());
    check();
    shelf.restore_well(&snapshot, &target, &RestoreOptions::default());
    check();
    // One name has become a file of its own with the same size and time.
    fs::remove_file(target.join("z")).expect("remove");
    fs::copy(target.join("a"), target.join("z")).expect("copy");
    let recorded = UNIX_EPOCH + Duration::new(MTIME.secs as u64, MTIME.nanos);
    let z = File::open(target.join("z")).expect("open");
    z.set_times(FileTimes::new().set_modified(recorded)).expect("times");
    shelf.restore_well(&snapshot, &target, &with(Overwrite::IfChanged));
    check();
    // The first name is left out: the next one takes its place.
    let (_keep, _outside, other) = canary();
    let options = RestoreOptions { excludes: vec!["/a".to_owned()], ..RestoreOptions::default() };
    shelf.restore_well(&snapshot, &other, &options);
    assert_eq!(fs::metadata(other.join("z")).expect("look").nlink(), 2);
    assert_eq!(fs::read(other.join("d/b")).expect("read"), b"one file");
    // The first name cannot be restored: the others do not depend on it.
    let (_keep, _outside, other) = canary();
    fs::create_dir_all(other.join("a/full")).expect("mkdir");
    let (summary, _) = shelf.restore(&snapshot, &other, &RestoreOptions::default());
    assert_eq!((summary.files_failed, summary.files_restored), (1, 2));
    assert_eq!(fs::metadata(other.join("z")).expect("look").nlink(), 2);
}

#[test]
fn names_of_one_file_that_were_read_differently_stay_as_they_were_read() {
    let shelf = Shelf::new();
    let link = |path: &'static [u8], bytes: &[u8]| Made { link: 7, ..file(path, bytes) };
    let snapshot = shelf.store(vec![link(b"a", b"before"), link(b"b", b"after!"), link(b"c", b"after!")]);
    let (_keep, _outside, target) = canary();
    let options = RestoreOptions { verify: true, ..RestoreOptions::default() };
    shelf.restore_well(&snapshot, &target, &options);
    for (name, bytes) in [("a", "before"), ("b", "after!"), ("c", "after!")] {
        assert_eq!(fs::read_to_string(target.join(name)).expect("read"), bytes);
    }
    assert_eq!(fs::metadata(target.join("c")).expect("look").nlink(), 2);
}

/// The counts and the lines of a dry run.
fn preview(
    shelf: &Shelf,
    snapshot: &ChunkId,
    target: &Path,
    options: &RestoreOptions,
) -> (Counts, Vec<(What, String)>) {
    let reader = shelf.repository.reader().expect("reader");
    let plan = restore::plan(&reader, snapshot, target, options).expect("plan");
    let mut lines = Vec::new();
    let counts = restore::preview(&reader, &plan, &Progress::new(), &Told::default(), &mut |action| {
        lines.push((action.what, String::from_utf8_lossy(action.path).into_owned()));
        Ok(())
    });
    (counts.expect("preview"), lines)
}

#[test]
fn a_dry_run_says_what_would_be_done_and_touches_nothing() {
    let (_keep, source, target, shelf, snapshot) = crowded();
    fs::write(target.join("a"), b"changed").expect("write");
    fs::remove_file(target.join("sub/b")).expect("remove");
    fs::write(target.join(".snapkeep-0123456789abcdef.tmp"), b"half").expect("write");
    set_mtime(&target, 1_234_567);
    let before = see(&target);
    let overwrite = Overwrite::IfChanged;
    let options = RestoreOptions { delete: true, overwrite, ..below(&source) };
    let (counts, lines) = preview(&shelf, &snapshot, &target, &options);
    assert!(see(&target) == before, "a dry run has changed something");
    let path = |name: &str| String::from_utf8(stored(&source.join(name))).expect("utf8");
    for (what, name) in [
        (What::Replace, "a"),
        (What::Keep, "m"),
        (What::Create, "sub/b"),
        (What::Delete, "extra"),
        (What::Delete, "sub/b.more"),
    ] {
        assert!(lines.contains(&(what, path(name))), "{what:?} {name}: {lines:?}");
    }
    let summary = shelf.restore_well(&snapshot, &target, &options);
    // Two directories are in the preview's count of things kept.
    assert_eq!(counts.create + counts.replace, summary.files_restored);
    assert_eq!(counts.keep - 2, summary.files_skipped);
    assert_eq!((counts.total_files, counts.total_bytes), (summary.total_files, summary.total_bytes));
    assert_eq!(counts.bytes, summary.bytes_restored);
    let missing = target.join("not/there");
    let (counts, _) = preview(&shelf, &snapshot, &missing, &below(&source));
    assert_eq!((counts.create, counts.total_files), (7, 5));
    assert!(!target.join("not").exists());
}

#[test]
fn what_only_leads_to_the_wanted_keeps_its_own_metadata() {
    let (_keep, source, target, shelf, snapshot) = crowded();
    set_mtime(&target.join("sub"), 5);
    fs::set_permissions(target.join("sub"), PermissionsExt::from_mode(0o711)).expect("chmod");
    fs::remove_file(target.join("cache/c.tmp")).expect("remove");
    let includes = vec!["/**/sub/b".to_owned()];
    shelf.restore_well(&snapshot, &target, &RestoreOptions { includes, ..below(&source) });
    assert_eq!(fs::metadata(target.join("sub")).expect("look").mode() & 0o7777, 0o711);
    assert!(!target.join("cache/c.tmp").exists());
}

#[test]
fn special_permissions_need_owners() {
    let (_keep, root) = temp();
    let source = root.join("source");
    fs::create_dir(&source).expect("mkdir");
    fs::write(source.join("f"), b"1").expect("write");
    fs::set_permissions(source.join("f"), PermissionsExt::from_mode(0o6755)).expect("chmod");
    let shelf = Shelf::new();
    let snapshot = shelf.backup(&source);
    let mode = |owner, special_bits, name: &str| {
        let options = RestoreOptions { owner, special_bits, ..below(&source) };
        shelf.restore_well(&snapshot, &root.join(name), &options);
        fs::metadata(root.join(name).join("f")).expect("look").mode() & 0o7777
    };
    assert_eq!(mode(Some(false), None, "unowned"), 0o755);
    assert_eq!(mode(Some(false), Some(true), "asked"), 0o6755);
    assert_eq!(mode(None, None, "default"), if is_root() { 0o6755 } else { 0o755 });
}

#[test]
fn a_directory_that_may_not_be_written_to_is_opened_for_the_time() {
    if is_root() {
        // Root may write everywhere; see the same as another user in the command line's tests.
        return;
    }
    let (_keep, _outside, target) = canary();
    fs::create_dir(target.join("d")).expect("mkdir");
    fs::set_permissions(target.join("d"), PermissionsExt::from_mode(0o555)).expect("chmod");
    let shelf = Shelf::new();
    let snapshot = shelf.store(vec![thing(b"d", Kind::Directory), file(b"d/f", b"1")]);
    shelf.restore_well(&snapshot, &target, &RestoreOptions::default());
    assert_eq!(fs::metadata(target.join("d")).expect("look").mode() & 0o7777, 0o755);
}

#[test]
fn an_inherited_acl_does_not_stick_to_what_had_none() {
    let (_keep, _outside, target) = canary();
    // user::rwx, user:1:rwx, group::r-x, mask::rwx, other::r-x
    let acl: Vec<u8> = [2u32.to_le_bytes().to_vec()]
        .into_iter()
        .chain([(1, 7, u32::MAX), (2, 7, 1), (4, 5, u32::MAX), (16, 7, u32::MAX), (32, 5, u32::MAX)].map(
            |(tag, perm, id): (u16, u16, u32)| {
                [tag.to_le_bytes().to_vec(), perm.to_le_bytes().to_vec(), id.to_le_bytes().to_vec()].concat()
            },
        ))
        .flatten()
        .collect();
    let set =
        rustix::fs::setxattr(&target, "system.posix_acl_default", &acl, rustix::fs::XattrFlags::empty());
    if set.is_err() {
        return;
    }
    let shelf = Shelf::new();
    let snapshot = shelf.store(vec![thing(b"d", Kind::Directory), file(b"d/f", b"1"), file(b"f", b"2")]);
    shelf.restore_well(&snapshot, &target, &RestoreOptions::default());
    for name in ["d", "d/f", "f"] {
        let mut names = vec![0; 4096];
        let len = rustix::fs::llistxattr(target.join(name), &mut names).expect("list");
        assert_eq!(String::from_utf8_lossy(&names[..len]), "", "{name}");
    }
    assert_eq!(fs::metadata(target.join("f")).expect("look").mode() & 0o7777, 0o644);
}
