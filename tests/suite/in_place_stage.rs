//! Restores over what is there as one step: nothing is touched before everything is ready and the rules would hold.

use crate::cli::{Home, text};
use crate::in_place::{code, of, tree};
use crate::restore::{Shelf, Told};
use crate::small_disk::SmallDisk;
use rusqlite::Connection;
use serde_json::Value;
use snapkeep::progress::Progress;
use snapkeep::restore::{self, RestoreOptions};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

fn words_of(output: &Output) -> String {
    text(&output.stdout) + &text(&output.stderr)
}

fn packs(home: &Home) -> Vec<PathBuf> {
    let (mut found, mut waiting) = (Vec::new(), vec![home.path("repo/packs")]);
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(dir).expect("read").flatten() {
            match entry.file_type().expect("known").is_dir() {
                true => waiting.push(entry.path()),
                false => found.push(entry.path()),
            }
        }
    }
    found
}

fn left_overs(dir: &Path) -> Vec<String> {
    let names =
        fs::read_dir(dir).expect("read").flatten().map(|e| e.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.contains(".snapkeep-")).collect()
}

#[test]
fn what_cannot_be_read_comes_out_before_anything_is_changed() {
    let home = Home::new();
    home.good(&["init"]);
    home.good(&["backup", "src"]);
    let before = packs(&home);
    fs::write(
        home.path("src/late.bin"),
        (0..200_000u32).flat_map(|n| (n * 77).to_le_bytes()).collect::<Vec<_>>(),
    )
    .expect("written");
    home.good(&["backup", "src"]);
    fs::write(home.path("src/a.txt"), "spoilt\n").expect("written");
    fs::write(home.path("src/late.bin"), "spoilt\n").expect("written");
    let later = packs(&home).into_iter().filter(|pack| !before.contains(pack));
    let lost = later.max_by_key(|pack| fs::metadata(pack).expect("there").len()).expect("a pack");
    // The manifest is in a pack of its own, or in both: only the content is to be lost.
    let bytes = fs::read(&lost).expect("read");
    let mut broken = bytes.clone();
    let end = broken.len() * 3 / 4;
    broken[200..end].iter_mut().for_each(|byte| *byte ^= 0x55);
    fs::write(&lost, broken).expect("written");
    let now = tree(&home.path("src"));
    let place = of(&home, "latest", "src");
    let run = home.run(&["restore", &place, "--in-place", "--yes", "--no-cache"]);
    assert_eq!(code(&run), 20, "{run:?}");
    assert_eq!(tree(&home.path("src")), now, "nothing was changed");
    assert!(left_overs(&home.path("src")).is_empty() && left_overs(&home.path("")).is_empty());
    assert!(home.good(&["undo", "--list"]).contains("nothing to undo"));
    fs::write(&lost, bytes).expect("written");
    home.good(&["restore", &place, "--in-place", "--yes"]);
    assert_eq!(fs::read(home.path("src/a.txt")).expect("read"), b"hello\n");
}

const RULES: &str = "[[rule]]\nname = \"agents\"\ndirectories = \"agents/*\"\nfiles = [\"status.json\"]\n\
    [[rule]]\nname = \"paid\"\ndatabase = \"shop.db\"\nselect = \"SELECT id FROM sale WHERE paid IS NULL\"\nexpect = \"none\"\n";

/// A tree with rules that hold, stored; spoilt since.
fn ruled() -> Home {
    let home = Home::new();
    home.good(&["init"]);
    for n in 0..3 {
        fs::create_dir_all(home.path(&format!("src/agents/{n}"))).expect("made");
        fs::write(home.path(&format!("src/agents/{n}/status.json")), "{}").expect("written");
    }
    let db = Connection::open(home.path("src/shop.db")).expect("opens");
    db.execute_batch(
        "CREATE TABLE sale(id INTEGER PRIMARY KEY, paid INTEGER); INSERT INTO sale VALUES (1, 1);",
    )
    .expect("made");
    fs::create_dir(home.path("src/.snapkeep")).expect("made");
    fs::write(home.path("src/.snapkeep/rules.toml"), RULES).expect("written");
    home.good(&["backup", "src"]);
    fs::write(home.path("src/agents/1/status.json"), "{\"x\": 1}").expect("written");
    db.execute_batch("INSERT INTO sale VALUES (2, NULL)").expect("written");
    home
}

#[test]
fn rules_are_tried_on_what_will_stand_there() {
    let home = ruled();
    let place = of(&home, "latest", "src");
    let story = home.good(&["restore", &place, "--in-place", "--yes"]);
    assert!(story.contains("rules of") && story.contains("2 rules passed"), "{story}");
    // What is there and stays counts, too.
    fs::create_dir(home.path("src/agents/new")).expect("made");
    fs::write(home.path("src/agents/1/status.json"), "spoilt").expect("written");
    let now = tree(&home.path("src"));
    let restore = |more: &[&str]| home.run(&[&["restore", &place, "--in-place", "--yes"], more].concat());
    for more in [&[][..], &["--dry-run"], &["--json"]] {
        let run = restore(more);
        assert_eq!(code(&run), 24, "{more:?}: {run:?}");
        assert!(
            words_of(&run).contains("agents/new") && words_of(&run).contains("nothing was changed"),
            "{run:?}"
        );
        assert_eq!(tree(&home.path("src")), now, "{more:?}");
    }
    // A part of the tree is judged by the rules around it.
    let part = home.run(&["restore", &of(&home, "latest", "src/agents/1"), "--in-place", "--yes"]);
    assert_eq!(code(&part), 24, "{part:?}");
    let gone = restore(&["--delete"]);
    assert_eq!(code(&gone), 0, "{gone:?}");
    assert!(!home.path("src/agents/new").exists());
    // A snapshot that breaks its rules takes nobody's place, unless told.
    Connection::open(home.path("src/shop.db"))
        .expect("opens")
        .execute_batch("INSERT INTO sale VALUES (9, NULL)")
        .expect("written");
    home.good(&["backup", "src"]);
    Connection::open(home.path("src/shop.db"))
        .expect("opens")
        .execute_batch("DELETE FROM sale WHERE id=9")
        .expect("written");
    let run = restore(&[]);
    assert!(code(&run) == 24 && words_of(&run).contains("id=9"), "{run:?}");
    let story = home.good(&["restore", &place, "--in-place", "--yes", "--no-rules"]);
    assert!(story.contains("to take this back: snapkeep undo"), "{story}");
    // An undo asks no rules.
    home.good(&["undo", "--yes"]);
    let run = home.run(&["undo", "--yes"]);
    assert_eq!(code(&run), 0, "{run:?}");
}

#[test]
fn rules_are_tried_after_a_restore_to_another_place() {
    let home = ruled();
    let place = of(&home, "latest", "src");
    let story = home.good(&["restore", &place, "--target", "one"]);
    assert!(story.contains("2 rules passed"), "{story}");
    home.good(&["backup", "src"]);
    let bad = home.run(&["restore", &place, "--target", "two"]);
    assert!(code(&bad) == 24 && words_of(&bad).contains("FAIL  paid"), "{bad:?}");
    assert!(home.path("two/agents/1/status.json").exists(), "what was asked for is there all the same");
    let whole = home.run(&["restore", "latest", "--target", "three", "--json"]);
    assert_eq!(code(&whole), 24);
    let lines: Vec<Value> =
        text(&whole.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(lines.iter().any(|m| m["message_type"] == "rule" && m["result"] == "fail"), "{lines:?}");
    assert_eq!(lines.last().expect("a line")["message_type"], "summary");
    home.good(&["restore", &place, "--target", "four", "--no-rules"]);
    let chosen = home.good(&["restore", &place, "--target", "five", "--include", "agents"]);
    assert!(!chosen.contains("rules of"), "a choice of it proves nothing: {chosen}");
    for (word, wrong) in
        [("--no-stage", "--target=six"), ("--no-stage", "--table=sale"), ("--no-rules", "--key=/a")]
    {
        let run = home.run(&["restore", &place, word, wrong]);
        assert_eq!(code(&run), 2, "{word} {wrong}: {run:?}");
    }
}

#[test]
fn the_stage_stands_beside_or_inside_and_is_never_restored_over() {
    let Some(disk) = SmallDisk::new("stage") else { return };
    let home = Home::new();
    home.good(&["init"]);
    // The source is a file system of its own: the directory that it stands in is on another one.
    fs::create_dir(disk.path().join("sub")).expect("made");
    for n in 0..20 {
        fs::write(disk.path().join(format!("sub/{n}")), format!("good {n}")).expect("written");
    }
    let source = disk.path().to_string_lossy().into_owned();
    home.good(&["backup", &source]);
    let good = tree(disk.path());
    for n in 0..20 {
        fs::write(disk.path().join(format!("sub/{n}")), "spoilt").expect("written");
    }
    fs::write(disk.path().join("extra"), "extra").expect("written");
    let words = ["restore", &format!("latest:{source}"), "--in-place", "--yes", "--delete"];
    let killed = home.command(&words).env("SNAPKEEP_KILL_IN", "staged-moved:5").output().expect("runs");
    assert_eq!(killed.status.code(), None, "{killed:?}");
    assert_eq!(left_overs(disk.path()).len(), 1, "the stage of the killed one");
    home.good(&words);
    assert_eq!(tree(disk.path()), good);
    // What was left half done can also be found right as it is.
    fs::write(disk.path().join("sub/1"), "spoilt").expect("written");
    let killed = home.command(&words).env("SNAPKEEP_KILL_IN", "file-renamed").output().expect("runs");
    assert_eq!(killed.status.code(), None, "{killed:?}");
    let warned = |run: Output| words_of(&run).contains("may be a mixture");
    assert!(warned(home.run(&["backup", &source])) && !warned(home.run(&["backup", "src"])));
    home.good(&["undo", "--accept"]);
    assert!(!warned(home.run(&["backup", &source])));
}

#[test]
fn a_restored_tree_is_compared_with_the_manifest_whoever_wrote_it() {
    let dir = tempfile::tempdir().expect("made");
    let (source, target) = (dir.path().join("src"), dir.path().join("out"));
    fs::create_dir_all(source.join("sub/deep")).expect("made");
    for name in ["a", "b", "c", "sub/d", "sub/deep/e"] {
        fs::write(source.join(name), format!("content of {name}")).expect("written");
    }
    std::os::unix::fs::symlink("a", source.join("link")).expect("linked");
    Connection::open(source.join("x.db")).expect("opens").execute_batch("CREATE TABLE t(x)").expect("made");
    let shelf = Shelf::new();
    let root = shelf.backup(&source);
    let below = source.to_string_lossy().trim_start_matches('/').as_bytes().to_vec();
    let options = RestoreOptions { below, strip: true, ..RestoreOptions::default() };
    shelf.restore(&root, &target, &options);
    let compare = || {
        let reader = shelf.repository.reader().expect("reader");
        let plan = restore::plan(&reader, &root, &target, &options).expect("plan");
        let (told, mut databases) = (Told::default(), Vec::new());
        let mut each = |path: &[u8]| databases.push(String::from_utf8_lossy(path).into_owned());
        let found = restore::compare(&reader, &plan, &Progress::new(), &told, &mut each).expect("compared");
        assert_eq!(found.verify_failed as usize, told.lines().len());
        let mut lines = told.lines();
        lines.sort();
        (found.files_verified, lines, databases)
    };
    let (right, wrong, databases) = compare();
    assert_eq!((right, wrong.as_slice()), (6, [].as_slice()));
    assert!(databases.len() == 1 && databases[0].ends_with("/x.db"), "{databases:?}");
    fs::write(target.join("a"), "content of b").expect("written");
    fs::write(target.join("b"), "longer than the content of b").expect("written");
    fs::remove_file(target.join("sub/d")).expect("removed");
    fs::remove_dir_all(target.join("sub/deep")).expect("removed");
    fs::remove_file(target.join("link")).expect("removed");
    std::os::unix::fs::symlink("b", target.join("link")).expect("linked");
    let (right, wrong, _) = compare();
    assert_eq!(right, 2, "{wrong:?}");
    let mut at: Vec<&str> =
        wrong.iter().filter_map(|w| w.split(": ").next()?.split("/src/").nth(1)).collect();
    at.sort_unstable();
    assert_eq!(at, ["a", "b", "link", "sub/d", "sub/deep", "sub/deep/e"], "{wrong:?}");
}

#[test]
fn a_way_back_from_a_command_goes_without_a_stage_where_there_is_no_room() {
    let Some(disk) = SmallDisk::new("way-back") else { return };
    let home = Home::new();
    home.good(&["init"]);
    let source = disk.path().join("src");
    fs::create_dir(&source).expect("made");
    for n in 0..5u8 {
        fs::write(source.join(format!("{n}")), vec![n; 1 << 20]).expect("written");
    }
    disk.leave(3 << 20);
    let good = tree(&source);
    let place = source.to_string_lossy().into_owned();
    let spoil = "for n in 0 1 2 3 4; do head -c 1048576 /dev/urandom > \"$0/$n\"; done; exit 7";
    let run = home.run(&["run", "--source", &place, "--", "sh", "-c", spoil, &place]);
    assert_eq!(code(&run), 7, "{run:?}");
    assert!(words_of(&run).contains("going on without a copy beside it"), "{run:?}");
    assert_eq!(tree(&source), good);
    // A restore that somebody asks for is theirs to decide about.
    fs::write(source.join("0"), "spoilt").expect("written");
    for n in 1..5 {
        fs::write(source.join(format!("{n}")), vec![9; 1 << 20]).expect("written");
    }
    let run = home.run(&["restore", &format!("latest:{place}"), "--in-place", "--yes"]);
    assert!(code(&run) == 23 && words_of(&run).contains("no room"), "{run:?}");
}
