//! Restores over what is there: the plan, the safety snapshot, the swap, and the way back; files, trees, links.

use crate::cli::{Home, text};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Output;

/// Everything below a directory: kind and permissions, content, time of modification of files.
pub type Tree = BTreeMap<String, (u32, Vec<u8>, i64)>;

pub fn tree(root: &Path) -> Tree {
    let mut all = Tree::new();
    let mut todo = vec![root.to_path_buf()];
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).expect("there");
        let content = match meta.file_type() {
            t if t.is_symlink() => {
                fs::read_link(&path).expect("a link").into_os_string().into_encoded_bytes()
            }
            t if t.is_file() => fs::read(&path).expect("read"),
            _ => Vec::new(),
        };
        if meta.is_dir() {
            todo.extend(fs::read_dir(&path).expect("listed").map(|e| e.expect("an entry").path()));
        }
        let time = if meta.is_file() { meta.mtime_nsec() } else { 0 };
        all.insert(
            path.strip_prefix(root).expect("below").display().to_string(),
            (meta.mode(), content, time),
        );
    }
    all
}

/// `SNAP:/path/to/src`.
pub fn of(home: &Home, snapshot: &str, name: &str) -> String {
    format!("{snapshot}:{}", home.path(name).display())
}

pub fn code(run: &Output) -> i32 {
    run.status.code().expect("a code")
}

/// The safety snapshot named in a story.
pub fn safety(story: &str) -> String {
    let line = story.lines().find(|line| line.starts_with("safety snapshot ")).expect("a safety snapshot");
    line.split_whitespace().nth(2).expect("an id").to_owned()
}

fn spoil(home: &Home) {
    fs::write(home.path("src/a.txt"), "spoilt\n").expect("written");
    fs::remove_file(home.path("src/sub/b.bin")).expect("removed");
    fs::create_dir_all(home.path("src/new/deep")).expect("made");
    fs::write(home.path("src/new/deep/c.txt"), "new").expect("written");
    fs::set_permissions(home.path("src/mode.txt"), fs::Permissions::from_mode(0o600)).expect("set");
    fs::remove_dir_all(home.path("src/was-dir")).expect("removed");
    fs::write(home.path("src/was-dir"), "a file now").expect("written");
    fs::remove_file(home.path("src/link")).expect("removed");
    symlink("elsewhere", home.path("src/link")).expect("linked");
}

fn yard() -> Home {
    let home = Home::new();
    home.good(&["init"]);
    fs::create_dir(home.path("src/was-dir")).expect("made");
    fs::write(home.path("src/was-dir/inside"), "inside").expect("written");
    fs::write(home.path("src/mode.txt"), "mode").expect("written");
    fs::write(home.path("src/kept.txt"), "kept").expect("written");
    symlink("a.txt", home.path("src/link")).expect("linked");
    home.good(&["backup", "src"]);
    home
}

#[test]
fn a_tree_goes_back_and_forth() {
    let home = yard();
    let good = tree(&home.path("src"));
    let inode = |name: &str| fs::metadata(home.path(name)).expect("there").ino();
    let kept = inode("src/kept.txt");
    spoil(&home);
    let spoilt = tree(&home.path("src"));
    let story = home.good(&["restore", &of(&home, "latest", "src"), "--in-place", "--delete", "--yes"]);
    assert_eq!(tree(&home.path("src")), good, "{story}");
    assert_eq!(inode("src/kept.txt"), kept, "what is right stays where it is");
    for line in ["replace ", "delete ", "create ", "mend ", "to take this back: snapkeep undo "] {
        assert!(story.lines().any(|l| l.starts_with(line)), "{line}: {story}");
    }
    // What comes later is not the undo's business.
    fs::write(home.path("src/later.txt"), "later").expect("written");
    let undone = home.good(&["undo", "--yes"]);
    fs::remove_file(home.path("src/later.txt")).expect("it was left");
    assert_eq!(tree(&home.path("src")), spoilt, "{undone}");
    let again = home.good(&["undo", "--yes"]);
    fs::remove_file(home.path("src/later.txt")).expect("it was left");
    assert_eq!(tree(&home.path("src")), good, "{again}");
    let story = home.good(&["undo", "--yes", &safety(&story)]);
    assert_eq!(tree(&home.path("src")), spoilt, "{story}");
    let listed = home.good(&["undo", "--list"]);
    assert_eq!(listed.lines().count(), 4, "{listed}");
    assert!(listed.contains("before restore of") && listed.contains("before undo with"), "{listed}");
    let table = home.good(&["snapshots"]);
    assert!(table.contains("before-restore"), "{table}");
    // No safety snapshot passes for the latest.
    let story = home.good(&["restore", &of(&home, "latest", "src"), "--in-place", "--delete", "--yes"]);
    assert_eq!(tree(&home.path("src")), good, "{story}");
    // No policy forgets one, or counts one in the place of a real snapshot.
    home.good(&["forget", "--keep-last", "1"]);
    assert_eq!(home.good(&["undo", "--list"]).lines().count(), 5);
    home.good(&["dump", &of(&home, "latest", "src/kept.txt")]);
}

#[test]
fn the_whole_snapshot_goes_back_to_its_sources_and_no_further() {
    let home = yard();
    let good = tree(&home.path("src"));
    fs::write(home.path("beside.txt"), "beside").expect("written");
    spoil(&home);
    let story = home.good(&["restore", "latest", "--in-place", "--delete", "--yes"]);
    assert_eq!(tree(&home.path("src")), good, "{story}");
    assert_eq!(fs::read(home.path("beside.txt")).expect("read"), b"beside");
    let story = home.good(&["restore", "latest", "--in-place", "--delete", "--yes"]);
    assert!(story.contains("nothing to do"), "{story}");
    assert_eq!(home.good(&["undo", "--list"]).lines().count(), 1, "nothing to do needs no safety snapshot");
    // Everything is gone: it comes back, and undo takes it away again.
    fs::remove_dir_all(home.path("src")).expect("removed");
    let story = home.good(&["restore", "latest", "--in-place", "--yes"]);
    assert_eq!(tree(&home.path("src")), good, "{story}");
    let story = home.good(&["undo", "--yes"]);
    assert!(!home.path("src").exists(), "{story}");
}

#[test]
fn patterns_bind_the_undo_too() {
    let home = yard();
    spoil(&home);
    let place = of(&home, "latest", "src");
    home.good(&["restore", &place, "--in-place", "--yes", "--include", "a.txt"]);
    assert_eq!(fs::read(home.path("src/a.txt")).expect("read"), b"hello\n");
    assert!(!home.path("src/sub/b.bin").exists());
    fs::write(home.path("src/kept.txt"), "edited since").expect("written");
    home.good(&["undo", "--yes"]);
    assert_eq!(fs::read(home.path("src/a.txt")).expect("read"), b"spoilt\n");
    assert_eq!(fs::read(home.path("src/kept.txt")).expect("read"), b"edited since");
    // One file by its name.
    let story = home.good(&["restore", &of(&home, "latest", "src/a.txt"), "--in-place", "--yes"]);
    assert_eq!(fs::read(home.path("src/a.txt")).expect("read"), b"hello\n", "{story}");
    assert!(!home.path("src/sub/b.bin").exists() && home.path("src/new").exists());
}

#[test]
fn nothing_is_replaced_unasked() {
    let home = yard();
    spoil(&home);
    let spoilt = tree(&home.path("src"));
    let place = of(&home, "latest", "src");
    let run = home.run(&["restore", &place, "--in-place", "--delete"]);
    assert_eq!(code(&run), 23, "{run:?}");
    assert_eq!(text(&run.stderr).lines().count(), 1, "{run:?}");
    assert!(text(&run.stderr).contains("--yes"), "{run:?}");
    let run = home.run(&["undo"]);
    assert_eq!(code(&run), 23, "{run:?}");
    let plan = home.good(&["restore", &place, "--in-place", "--delete", "--dry-run"]);
    assert!(plan.contains("would create 2, replace 3, delete 1"), "{plan}");
    assert_eq!(tree(&home.path("src")), spoilt);
    assert_eq!(home.good(&["snapshots", "--json"]).matches("\"short_id\"").count(), 1);
    for wrong in [&["--target", "there"][..], &["--salvage"]] {
        let run = home.run(&[&["restore", &place, "--in-place", "--yes"], wrong].concat());
        assert_eq!(code(&run), 2, "{run:?}");
    }
    let run = home.run(&["undo", "--yes"]);
    assert!(code(&run) == 2 && text(&run.stderr).contains("nothing to undo"), "{run:?}");
    let run = home.run(&["undo", "--yes", "latest"]);
    assert!(code(&run) == 2 && text(&run.stderr).contains("was not made before a restore"), "{run:?}");
}

#[test]
fn links_are_replaced_and_never_followed() {
    let home = yard();
    fs::create_dir(home.path("outside")).expect("made");
    fs::write(home.path("outside/b.bin"), "outside").expect("written");
    fs::write(home.path("outside/other"), "other").expect("written");
    fs::remove_dir_all(home.path("src/sub")).expect("removed");
    symlink(home.path("outside"), home.path("src/sub")).expect("linked");
    let before = tree(&home.path("outside"));
    home.good(&["restore", &of(&home, "latest", "src"), "--in-place", "--delete", "--yes"]);
    assert!(fs::symlink_metadata(home.path("src/sub")).expect("there").is_dir());
    assert_eq!(fs::metadata(home.path("src/sub/b.bin")).expect("there").len(), 100_000);
    assert_eq!(tree(&home.path("outside")), before);
    home.good(&["undo", "--yes"]);
    assert!(fs::symlink_metadata(home.path("src/sub")).expect("there").is_symlink());
    assert_eq!(tree(&home.path("outside")), before);
    // The source itself is a link now: what is named lies behind it, and is not reached through it.
    fs::rename(home.path("src"), home.path("moved")).expect("moved");
    symlink(home.path("outside"), home.path("src")).expect("linked");
    home.good(&["restore", &of(&home, "latest", "src/sub/b.bin"), "--in-place", "--yes"]);
    assert_eq!(tree(&home.path("outside")), before);
    assert!(fs::symlink_metadata(home.path("src")).expect("there").is_dir());
}

#[test]
fn our_own_directories_and_vital_ones_are_never_emptied() {
    let home = yard();
    // The repository lies in the source, which is why no snapshot holds it.
    home.good(&["backup", &home.path("").to_string_lossy()]);
    let run = home.run(&["restore", &of(&home, "latest", ""), "--in-place", "--delete", "--yes"]);
    assert_eq!(code(&run), 23, "{run:?}");
    let run = home
        .command(&["restore", &of(&home, "latest", ""), "--in-place", "--delete", "--yes"])
        .env("HOME", "/nowhere")
        .output()
        .expect("runs");
    assert!(code(&run) == 23 && text(&run.stderr).contains("belongs to snapkeep itself"), "{run:?}");
    home.good(&["check"]);
}

#[test]
fn what_changed_after_the_safety_snapshot_is_left_alone() {
    let home = yard();
    spoil(&home);
    // A file from the future stands for one written in the very moment between the two.
    let file = fs::File::options().write(true).open(home.path("src/a.txt")).expect("opens");
    file.set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(3600)).expect("set");
    let run = home.run(&["restore", &of(&home, "latest", "src"), "--in-place", "--yes"]);
    assert_eq!(code(&run), 1, "{run:?}");
    assert!(text(&run.stderr).contains("after the safety snapshot"), "{run:?}");
    assert_eq!(fs::read(home.path("src/a.txt")).expect("read"), b"spoilt\n");
}

#[test]
fn an_incomplete_safety_snapshot_stops_everything_unless_told() {
    let home = yard();
    spoil(&home);
    // Only what cannot be read even by root can stand for it: a database that somebody keeps locked.
    let db = rusqlite::Connection::open(home.path("src/locked.db")).expect("opens");
    db.execute_batch("CREATE TABLE t(x); PRAGMA locking_mode=EXCLUSIVE; BEGIN EXCLUSIVE;").expect("locked");
    // Reading it here would end its locks: they belong to this process.
    let place = of(&home, "latest", "src");
    let run = home.run(&["restore", &place, "--in-place", "--yes", "--sqlite-wait", "1s"]);
    assert_eq!(code(&run), 23, "{run:?}");
    assert!(text(&run.stderr).contains("--safety partial"), "{run:?}");
    assert_eq!(fs::read(home.path("src/a.txt")).expect("read"), b"spoilt\n");
    let story = home.good(&["restore", &place, "--in-place", "--yes", "--safety", "off"]);
    assert!(story.contains("cannot be taken back"), "{story}");
    assert_eq!(fs::read(home.path("src/a.txt")).expect("read"), b"hello\n");
}
