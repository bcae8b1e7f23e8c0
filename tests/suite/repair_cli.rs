//! Damage and repair as users meet them: in a directory, by the program.

use super::cli::{Home, text};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { out.extend(files_below(&path)) } else { out.push(path) }
    }
    out.sort();
    out
}

fn largest(dir: &Path) -> PathBuf {
    files_below(dir).into_iter().max_by_key(|p| p.metadata().expect("there").len()).expect("a file")
}

fn change(path: &Path, how: impl FnOnce(&mut Vec<u8>)) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("writable");
    let mut bytes = std::fs::read(path).expect("readable");
    how(&mut bytes);
    std::fs::write(path, bytes).expect("written");
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

/// The last line of standard output.
fn json(output: &Output) -> Value {
    let text = text(&output.stdout);
    serde_json::from_str(text.lines().last().expect("a line")).expect("JSON")
}

/// Files and their bytes, to see that nothing was touched.
fn state(home: &Home) -> Vec<(PathBuf, Vec<u8>)> {
    let files = files_below(&home.path("repo"));
    files.into_iter().map(|path| (path.clone(), std::fs::read(path).expect("readable"))).collect()
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut random = super::shelf::Random(seed);
    (0..len.div_ceil(8)).flat_map(|_| random.next().to_le_bytes()).take(len).collect()
}

fn home(init: &[&str]) -> Home {
    let home = Home::new();
    std::fs::write(home.path("src/big"), noise(1, 700_000)).expect("a file");
    std::fs::write(home.path("src/sub/other"), noise(2, 300_000)).expect("a file");
    home.good(&[&["init"], init].concat());
    home.good(&["backup", "src"]);
    home
}

#[test]
fn parity_is_on_unless_told_otherwise_and_mends_what_rots() {
    let home = home(&[]);
    assert_eq!(files_below(&home.path("repo/parity")).len(), 2);
    let pack = largest(&home.path("repo/packs"));
    let size = pack.metadata().expect("there").len();
    let parity = largest(&home.path("repo/parity")).metadata().expect("there").len();
    assert!(parity < size / 20, "{parity} for {size}");
    // A sector somewhere, and a cut tail.
    change(&pack, |bytes| bytes[500_000..504_000].fill(0x55));
    let told = home.run(&["check", "--read-data", "--json"]);
    assert_eq!(code(&told), Some(20));
    let report = json(&told);
    assert_eq!(report["damage"][0]["mendable"], true, "{report}");
    assert!(report["damage"][0]["next"].as_str().expect("text").contains("repair packs"));
    let before = state(&home);
    // A restore gets round it, and says so.
    let told = home.run(&["restore", "latest", "--target", "early"]);
    assert_eq!(code(&told), Some(0), "{}", text(&told.stderr));
    assert!(text(&told.stderr).contains("by way of its parity"), "{}", text(&told.stderr));
    let big = home.path("src/big");
    assert!(
        std::fs::read(home.path("early").join(big.strip_prefix("/").expect("absolute"))).expect("restored")
            == noise(1, 700_000)
    );
    let plan = home.run(&["repair", "packs", "--json"]);
    assert_eq!(code(&plan), Some(20));
    assert_eq!(json(&plan)["repairs"][0]["way"], "parity");
    assert_eq!(code(&home.run(&["repair", "packs", "--apply", "--dry-run"])), Some(20));
    assert!(state(&home) == before, "a plan changes nothing");
    let done = home.run(&["repair", "packs", "--apply"]);
    assert_eq!(code(&done), Some(0), "{}", text(&done.stderr));
    assert!(text(&done.stdout).contains("1 damaged pack repaired"), "{}", text(&done.stdout));
    assert_eq!(code(&home.run(&["check", "--read-data"])), Some(0));
    let after = state(&home);
    assert!(before.iter().all(|file| after.contains(file)), "nothing deleted, nothing changed");
    let again = home.run(&["repair", "packs", "--apply"]);
    assert!(text(&again.stdout).contains("nothing to repair"));
    assert!(state(&home) == after);
    home.good(&["restore", "latest:/", "--target", "out"]);
}

#[test]
fn what_is_lost_is_named_left_out_or_kept_with_holes() {
    let home = home(&["--parity", "off"]);
    assert!(files_below(&home.path("repo/parity")).is_empty());
    let pack = largest(&home.path("repo/packs"));
    change(&pack, |bytes| bytes[2000] ^= 1);
    let done = home.run(&["repair", "packs", "--apply", "--json"]);
    assert_eq!(code(&done), Some(20));
    assert!(json(&done)["chunks_lost"].as_u64().expect("a number") > 0);
    // Restoring says so; asked to, it keeps what is left, with a list of the holes.
    assert_eq!(code(&home.run(&["restore", "latest", "--target", "plain"])), Some(20));
    let kept = home.run(&["restore", "latest", "--target", "kept", "--salvage", "--json"]);
    assert_eq!(code(&kept), Some(3), "{}", text(&kept.stderr));
    let salvaged = json(&kept)["files_salvaged"].as_u64().expect("a number");
    let failed = json(&kept)["files_failed"].as_u64().expect("a number");
    assert!(failed >= 1);
    let lists: Vec<PathBuf> = files_below(&home.path("kept"))
        .into_iter()
        .filter(|p| p.to_string_lossy().ends_with(".damaged.holes"))
        .collect();
    assert_eq!(lists.len() as u64, salvaged);
    for list in &lists {
        let kept = list.with_extension("");
        let name = kept.to_string_lossy().trim_end_matches(".damaged").to_owned();
        assert!(!Path::new(&name).exists(), "never under its own name");
        let tail = Path::new(&name).strip_prefix(home.path("kept")).expect("below");
        let original = std::fs::read(Path::new("/").join(tail)).expect("the source");
        let mut expected = original.clone();
        let mut holes = 0;
        for line in std::fs::read_to_string(list).expect("a list").lines().filter(|l| !l.starts_with('#')) {
            let (at, len) = line.split_once(' ').expect("two numbers");
            let (at, len): (usize, usize) = (at.parse().expect("one"), len.parse().expect("two"));
            expected[at..at + len].fill(0);
            holes += 1;
        }
        assert!(holes > 0 && std::fs::read(&kept).expect("kept") == expected);
    }
    // A snapshot of what is left, beside the damaged one.
    let before = state(&home);
    let plan = home.run(&["repair", "snapshots", "--json"]);
    assert_eq!(code(&plan), Some(20));
    assert_eq!(json(&plan)["damaged_snapshots"][0]["files_damaged"].as_u64(), Some(failed));
    assert!(state(&home) == before);
    let made = home.run(&["repair", "snapshots", "--apply"]);
    assert_eq!(code(&made), Some(0), "{}", text(&made.stderr));
    home.good(&["restore", "latest", "--target", "whole"]);
    let after = state(&home);
    let again = home.run(&["repair", "snapshots", "--apply"]);
    assert_eq!(code(&again), Some(0));
    assert!(text(&again.stdout).contains("nothing to repair"), "{}", text(&again.stdout));
    assert!(state(&home) == after);
    let kept = home.run(&["repair", "snapshots", "--salvage", "--apply", "--json"]);
    assert_eq!(code(&kept), Some(0));
    let listed = json(&home.run(&["snapshots", "--json"]));
    assert_eq!(listed.as_array().expect("a list").len(), 3);
    home.good(&["restore", "latest", "--target", "whole2"]);
    // The next backup brings it all back, for the damaged one too.
    home.good(&["backup", "src"]);
    assert_eq!(code(&home.run(&["check", "--read-data"])), Some(0));
}

#[test]
fn records_serve_from_their_second_copies_and_are_put_back() {
    let home = home(&[]);
    for lost in [false, true] {
        for folder in ["config", "keys", "snapshots"] {
            let file = largest(&home.path(&format!("repo/{folder}")));
            let bytes = std::fs::read(&file).expect("readable");
            match lost {
                true => std::fs::remove_file(&file).expect("removed"),
                false => change(&file, |bytes| bytes[60] ^= 1),
            }
            let told = home.run(&["check"]);
            assert_eq!(code(&told), Some(20), "{folder}");
            assert!(text(&told.stdout).contains("repair snapshots --apply"), "{}", text(&told.stdout));
            if folder != "snapshots" {
                assert!(text(&told.stderr).contains("second copy serves"), "{}", text(&told.stderr));
            }
            let plan = home.run(&["repair", "snapshots"]);
            assert_eq!(code(&plan), Some(20));
            let done = home.run(&["repair", "snapshots", "--apply"]);
            assert_eq!(code(&done), Some(0), "{}", text(&done.stderr));
            assert!(std::fs::read(&file).expect("back") == bytes, "{folder}");
            assert_eq!(file.metadata().expect("there").permissions().mode() & 0o777, 0o400);
            assert_eq!(code(&home.run(&["check"])), Some(0), "{folder}");
        }
    }
    let idle = home.run(&["repair", "snapshots", "--apply"]);
    assert!(text(&idle.stdout).contains("nothing to repair"), "{}", text(&idle.stdout));
}

#[test]
fn parity_and_copies_can_be_added_to_an_old_repository_and_taken_away() {
    let home = home(&["--parity", "off"]);
    // As the first version made them.
    std::fs::remove_dir_all(home.path("repo/parity")).expect("removed");
    std::fs::remove_dir_all(home.path("repo/copies")).expect("removed");
    assert_eq!(code(&home.run(&["check", "--read-data"])), Some(0));
    home.good(&["restore", "latest", "--target", "out"]);
    assert_eq!(code(&home.run(&["repair", "parity"])), Some(0));
    let before = state(&home);
    home.good(&["repair", "parity", "--percent", "5"]);
    assert!(state(&home) == before);
    home.good(&["repair", "parity", "--percent", "5", "--apply"]);
    assert_eq!(files_below(&home.path("repo/parity")).len(), 2);
    home.good(&["backup", "src"]);
    std::fs::write(home.path("src/new"), noise(5, 5000)).expect("a file");
    home.good(&["backup", "src"]);
    let packs = files_below(&home.path("repo/packs")).len();
    assert_eq!(files_below(&home.path("repo/parity")).len(), packs, "new packs get it too");
    home.good(&["repair", "snapshots", "--apply"]);
    let records =
        ["config", "keys", "snapshots"].map(|f| files_below(&home.path(&format!("repo/{f}"))).len());
    assert_eq!(files_below(&home.path("repo/copies")).len(), records.iter().sum::<usize>());
    let told = home.run(&["check", "--read-data", "--json"]);
    assert_eq!((code(&told), json(&told)["parity_read"].as_u64()), (Some(0), Some(packs as u64)));
    // A damaged sidecar is found, and made anew.
    change(&largest(&home.path("repo/parity")), |bytes| bytes[3000] ^= 1);
    assert_eq!(code(&home.run(&["check", "--read-data"])), Some(20));
    home.good(&["repair", "parity", "--apply"]);
    assert_eq!(code(&home.run(&["check", "--read-data"])), Some(0));
    // Nobody makes parity of damage.
    let pack = largest(&home.path("repo/packs"));
    change(&pack, |bytes| bytes[900] ^= 1);
    let told = home.run(&["repair", "parity", "--percent", "10", "--apply"]);
    assert_eq!(code(&told), Some(20));
    home.good(&["repair", "packs", "--apply"]);
    home.good(&["repair", "parity", "--percent", "off", "--apply"]);
    assert!(files_below(&home.path("repo/parity")).is_empty());
    assert_eq!(code(&home.run(&["check", "--read-data"])), Some(0));
    assert_eq!(files_below(&home.path("repo/config")).len(), 1);
}
