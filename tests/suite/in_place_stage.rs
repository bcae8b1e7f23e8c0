//! Restores over what is there as one step: nothing is touched before everything is ready and the rules would hold.

use crate::cli::{Home, text};
use crate::in_place::{code, of, tree};
use crate::small_disk::SmallDisk;
use rusqlite::Connection;
use serde_json::Value;
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
