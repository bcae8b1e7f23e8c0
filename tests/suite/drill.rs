//! Drills: what comes back whole passes, everything else fails and says why, and nothing is left behind.

use crate::cli::{Home, text};
use rusqlite::Connection;
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

fn code(output: &Output) -> i32 {
    output.status.code().expect("a code")
}

fn words(output: &Output) -> String {
    text(&output.stdout) + &text(&output.stderr)
}

const RULES: &str = "[[rule]]\nname = \"sales are of items\"\ndatabase = \"shop.db\"\n\
    select = \"SELECT id FROM sale WHERE item NOT IN (SELECT id FROM item)\"\nexpect = \"none\"\n\
    [[rule]]\nname = \"state\"\njson = \"state.json\"\nkeys = [\"/ok\"]\n";

/// A source with files, a database in use, and rules.
fn yard() -> (Home, Connection) {
    let home = Home::new();
    let db = Connection::open(home.path("src/shop.db")).expect("opens");
    db.execute_batch(
        "PRAGMA journal_mode=wal; CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT);
         CREATE TABLE sale(id INTEGER PRIMARY KEY, item INTEGER);
         INSERT INTO item VALUES (1, 'tea'), (2, 'cake'); INSERT INTO sale VALUES (1, 1), (2, 2), (3, 1);",
    )
    .expect("made");
    fs::write(home.path("src/state.json"), "{\"ok\": true}").expect("written");
    std::os::unix::fs::symlink("a.txt", home.path("src/link")).expect("linked");
    fs::create_dir(home.path("src/.snapkeep")).expect("made");
    fs::write(home.path("src/.snapkeep/rules.toml"), RULES).expect("written");
    fs::create_dir(home.path("scratch")).expect("made");
    home.good(&["init"]);
    (home, db)
}

fn drill(home: &Home, more: &[&str]) -> Output {
    let mut all = vec!["drill", "--scratch", "scratch"];
    all.extend(more);
    let output = home.run(&all);
    let left: Vec<_> = fs::read_dir(home.path("scratch")).expect("read").flatten().collect();
    assert!(left.is_empty(), "{more:?} leaves {left:?}: {}", words(&output));
    output
}

/// The message about the only drill.
fn told(home: &Home, more: &[&str]) -> (i32, Value) {
    let output = drill(home, &[more, &["--json"]].concat());
    let all: Vec<Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let one = all.iter().find(|m| m["message_type"] == "drill");
    (code(&output), one.unwrap_or_else(|| panic!("no drill: {}", words(&output))).clone())
}

fn reasons(told: &Value) -> String {
    let all = told["reasons"].as_array().expect("a list").iter();
    all.map(|r| r.as_str().expect("text").to_owned()).collect::<Vec<_>>().join("\n")
}

fn listed(home: &Home) -> Value {
    serde_json::from_str(&home.good(&["snapshots", "--json"])).expect("JSON")
}

fn stored(home: &Home, name: &str) -> String {
    format!("latest:{}", home.path(name).display())
}

#[test]
fn what_comes_back_whole_passes_and_is_recorded() {
    let (home, _db) = yard();
    home.good(&["backup", "src"]);
    assert!(listed(&home)[0].get("drills").is_none());
    let test = "test -f sub/b.bin && test \"$PWD\" = \"$SNAPKEEP_DRILL_DIR\" && test -z \"$SNAPKEEP_PASSWORD\" \
                && test ${#SNAPKEEP_DRILL_SNAPSHOT} = 32 && echo all there";
    let (code, told) = told(&home, &["--command", test]);
    assert_eq!(code, 0, "{told}");
    assert_eq!((&told["passed"], &told["wrong"]), (&Value::from(true), &Value::from(0)));
    // a.txt, b.bin, shop.db, state.json, rules.toml
    assert_eq!(told["files"], 5);
    let database = &told["databases"][0];
    assert_eq!((&database["result"], &database["compared"]), (&Value::from("ok"), &Value::from(true)));
    assert_eq!((&database["tables"], &database["rows"]), (&Value::from(2), &Value::from(5)));
    assert_eq!((&told["rules_passed"], &told["command"]["exit_code"]), (&Value::from(2), &Value::from(0)));
    assert_eq!(told["command"]["output"], "all there\n");
    assert!(told["restore_seconds"].as_f64() > Some(0.0) && told["bytes_per_second"].as_u64() > Some(0));
    assert!(told["total_seconds"].as_f64() >= told["restore_seconds"].as_f64());
    let drills = &listed(&home)[0]["drills"];
    assert_eq!((&drills["last_proven"], &drills["last"]["files"]), (&drills["last"], &Value::from(5)));
    let list = home.good(&["snapshots", "-v"]);
    assert!(list.contains("proven restorable") && list.contains("5 files"), "{list}");
    let page = drill(&home, &["--latest"]);
    let page = text(&page.stdout);
    for wanted in
        ["PASSED: drill", "5 files as stored", "1 opened, 1 sound", "PASS  state", "scratch place is gone"]
    {
        assert!(page.contains(wanted), "{wanted}: {page}");
    }
    // A forget by policy still decides about drilled snapshots.
    home.good(&["backup", "src", "--force"]);
    home.good(&["forget", "--keep-last", "1"]);
    assert_eq!(listed(&home).as_array().map(Vec::len), Some(1));
}

#[test]
fn a_part_a_single_database_and_snapshots_by_chance() {
    let (home, _db) = yard();
    home.good(&["backup", "src"]);
    fs::write(home.path("src/a.txt"), "other").expect("written");
    home.good(&["backup", "src"]);
    let (code, part) = told(&home, &[&stored(&home, "src/sub")]);
    assert_eq!((code, &part["files"], &part["rules_passed"]), (0, &Value::from(1), &Value::from(0)));
    assert_eq!(part["path"], home.path("src/sub").display().to_string());
    let (code, alone) = told(&home, &[&stored(&home, "src/shop.db")]);
    assert_eq!(
        (code, &alone["files"], &alone["databases"][0]["rows"]),
        (0, &Value::from(1), &Value::from(5))
    );
    assert!(home.good(&["snapshots", "-v"]).contains("in part"));
    let both = drill(&home, &["--random", "9"]);
    assert!(code_is(&both, 0) && words(&both).contains("2 drills: 2 passed, 0 failed"), "{}", words(&both));
    assert!(listed(&home)[0]["drills"]["last_proven"]["passed"] == true);
    let dry = drill(&home, &["--dry-run"]);
    assert!(code_is(&dry, 0) && words(&dry).contains("would restore"), "{}", words(&dry));
    let record = home.path("repo/notes");
    let notes = || fs::read_dir(&record).expect("read").count();
    let before = notes();
    drill(&home, &["--dry-run"]);
    assert_eq!(notes(), before, "a dry run records nothing");
    for wrong in [&["--random", "0"][..], &["--latest", "latest"], &["--scratch", "nowhere"]] {
        let all = [&["drill"][..], wrong].concat();
        assert_eq!(code_of(&home, &all), 2, "{wrong:?}");
    }
    // A file system of the kernel's own has no room at all.
    let full = home.run(&["drill", "--scratch", "/proc"]);
    assert!(code_is(&full, 1) && words(&full).contains("has 0 B free"), "{}", words(&full));
}

fn code_is(output: &Output, wanted: i32) -> bool {
    output.status.code() == Some(wanted)
}

fn code_of(home: &Home, words: &[&str]) -> i32 {
    code(&home.run(words))
}

#[test]
fn nothing_to_check_is_no_success() {
    let home = Home::new();
    fs::create_dir_all(home.path("empty/dir")).expect("made");
    fs::create_dir(home.path("scratch")).expect("made");
    home.good(&["init"]);
    home.good(&["backup", "empty"]);
    let (code, told) = told(&home, &[]);
    assert_eq!((code, &told["passed"]), (24, &Value::from(false)));
    assert!(reasons(&told).contains("nothing is proved"), "{told}");
    assert!(home.good(&["snapshots", "-v"]).contains("never proven restorable; drill FAILED"));
    fs::create_dir(home.path("empty/.snapkeep")).expect("made");
    fs::write(home.path("empty/.snapkeep/rules.toml"), "").expect("written");
    home.good(&["backup", "empty"]);
    let (code, told) = self::told(&home, &[]);
    assert_eq!(code, 24, "a file of no rules");
    assert!(reasons(&told).contains("holds no rules"), "{told}");
}

#[test]
fn every_kind_of_failure_is_named() {
    let (home, db) = yard();
    home.good(&["backup", "src"]);
    let failing: [(&[&str], &str); 3] = [
        (&["--command", "echo why; exit 7"], "the command ended with exit code 7"),
        (&["--command", "kill -9 $$"], "ended by signal 9"),
        (&["--command", "sleep 60 & sleep 60", "--command-timeout", "1s"], "was stopped after"),
    ];
    for (more, why) in failing {
        let (code, told) = told(&home, more);
        assert_eq!(code, 24, "{more:?}");
        assert!(reasons(&told).contains(why), "{more:?}: {told}");
    }
    let drills = &listed(&home)[0]["drills"];
    assert!(drills["last_proven"].is_null() && drills["last"]["command"] == -1, "{drills}");
    // What the rules forbid.
    db.execute_batch("INSERT INTO sale VALUES (9, 99)").expect("written");
    home.good(&["backup", "src"]);
    let (code, told) = told(&home, &[]);
    assert_eq!((code, &told["rules_failed"]), (24, &Value::from(1)));
    assert!(
        reasons(&told).contains("rule sales are of items: shop.db") && reasons(&told).contains("id=9"),
        "{told}"
    );
    assert_eq!(self::told(&home, &["--no-rules"]).0, 0);
    // A database that was damaged when it was stored.
    db.execute_batch("DELETE FROM sale WHERE id=9; PRAGMA journal_mode=delete").expect("written");
    drop(db);
    let mut bytes = fs::read(home.path("src/shop.db")).expect("read");
    bytes[4096..].fill(0xa5);
    fs::write(home.path("src/shop.db"), bytes).expect("written");
    home.run(&["backup", "src"]);
    let (code, told) = self::told(&home, &["--no-rules"]);
    assert_eq!((code, &told["databases"][0]["result"]), (24, &Value::from("failed")));
    assert!(reasons(&told).contains("shop.db: SQLite finds it damaged"), "{told}");
}

#[test]
fn damage_in_the_repository_fails_the_drill() {
    let (home, _db) = yard();
    home.good(&["backup", "src"]);
    assert_eq!(told(&home, &[]).0, 0);
    let mut packs = Vec::new();
    let mut waiting = vec![home.path("repo/packs")];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(dir).expect("read").flatten() {
            match entry.file_type().expect("known").is_dir() {
                true => waiting.push(entry.path()),
                false => packs.push(entry.path()),
            }
        }
    }
    let largest: &PathBuf =
        packs.iter().max_by_key(|p| fs::metadata(p).expect("there").len()).expect("packs");
    fs::remove_file(largest).expect("removed");
    let (code, told) = told(&home, &[]);
    assert_eq!((code, &told["passed"]), (24, &Value::from(false)), "{told}");
    assert!(!reasons(&told).is_empty());
    let drills = listed(&home)[0]["drills"].clone();
    assert!(drills["last_proven"]["passed"] == true && drills["last"]["passed"] == false, "{drills}");
    let list = home.good(&["snapshots", "-v"]);
    assert!(list.contains("proven restorable") && list.contains("drill FAILED"), "{list}");
}

fn start(home: &Home) -> Child {
    let mut command =
        home.command(&["drill", "--scratch", "scratch", "--command", "echo $$ > pid; sleep 100"]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts")
}

/// The number of the command, once it runs.
fn shell(home: &Home) -> u32 {
    let until = Instant::now() + Duration::from_secs(60);
    let source = home.path("src");
    let below = source.strip_prefix("/").expect("absolute").join("pid");
    loop {
        let places = fs::read_dir(home.path("scratch")).expect("read").flatten();
        let files = places.map(|e| e.path().join("tree").join(&below));
        let told = files.filter_map(|file| fs::read_to_string(file).ok()).find(|text| text.ends_with('\n'));
        if let Some(text) = told {
            return text.trim().parse().expect("a number");
        }
        assert!(Instant::now() < until, "the command does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn signal(pid: u32, name: &str) {
    let sent = std::process::Command::new("kill").args([name, &pid.to_string()]).status().expect("runs");
    assert!(sent.success());
}

#[test]
fn an_interrupted_drill_cleans_up_and_a_killed_one_is_cleaned_up_after() {
    let (home, _db) = yard();
    home.good(&["backup", "src"]);
    let mut child = start(&home);
    let first = shell(&home);
    signal(child.id(), "-INT");
    assert_eq!(child.wait().expect("ends").code(), Some(130));
    assert_eq!(fs::read_dir(home.path("scratch")).expect("read").count(), 0, "nothing is left");
    assert!(!PathBuf::from(format!("/proc/{first}")).exists(), "the command was stopped");
    let mut child = start(&home);
    let second = shell(&home);
    // A drill that runs is nobody's leftover.
    let beside = home.run(&["drill", "--scratch", "scratch"]);
    assert!(code_is(&beside, 0) && !words(&beside).contains("was killed"), "{}", words(&beside));
    signal(child.id(), "-KILL");
    child.wait().expect("ends");
    let _ = std::process::Command::new("kill").args(["-KILL", "--", &format!("-{second}")]).status();
    assert_eq!(fs::read_dir(home.path("scratch")).expect("read").count(), 1);
    let next = drill(&home, &[]);
    assert!(
        code_is(&next, 0) && words(&next).contains("a drill that was killed had left"),
        "{}",
        words(&next)
    );
    assert!(listed(&home)[0]["drills"]["last"]["passed"] == true);
}
