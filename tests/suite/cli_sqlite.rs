//! Databases as users meet them: options, words, JSON, exit codes, the latest sound version.

use crate::cli::{Home, text};
use crate::sqlite_live::create;
use rusqlite::Connection;
use serde_json::Value;
use std::os::unix::fs::FileExt;

fn last(json: &str) -> Value {
    serde_json::from_str(json.lines().last().expect("a line")).expect("JSON")
}

pub fn damage(home: &Home) {
    let path = home.path("src/app.db");
    let db = Connection::open(&path).expect("opens");
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name='by_balance'";
    let root: i64 = db.query_row(sql, [], |r| r.get(0)).expect("a page");
    drop(db);
    let file = std::fs::File::options().write(true).open(&path).expect("opens");
    file.write_all_at(&[0xa5; 64], root as u64 * 4096 - 64).expect("damaged");
}

#[test]
fn databases_are_told_of_in_words_and_json() {
    let home = Home::new();
    home.good(&["init"]);
    create(&home.path("src/app.db"), "wal", 4096);
    let story = home.good(&["backup", "src"]);
    assert!(story.contains("sqlite: 1 database checked"), "{story}");
    let summary = last(&home.good(&["backup", "--json", "src"]));
    let sqlite = &summary["sqlite"];
    assert_eq!((&sqlite["databases"], &sqlite["ok"], &sqlite["failed"]), (&1.into(), &1.into(), &0.into()));
    let file = &sqlite["files"][0];
    assert!(file["path"].as_str().expect("a path").ends_with("/src/app.db"));
    assert_eq!((&file["check"]["depth"], &file["tables"]["account"]), (&"full".into(), &500.into()));
    let all: Value = serde_json::from_str(&home.good(&["snapshots", "--json"])).expect("JSON");
    assert_eq!(all[1]["sqlite"]["databases"][0]["check"]["result"], "ok");
    let table = home.good(&["snapshots", "-v"]);
    assert!(table.contains("1 database checked") && table.contains("sqlite ok (full), 3 tables"), "{table}");
    let long = home.good(&["ls", "-l", "latest"]);
    let line = long.lines().find(|l| l.contains("app.db")).expect("listed");
    assert!(line.ends_with("app.db  [sqlite ok (full), 3 tables, 501 rows]"), "{line}");
    let nodes = home.good(&["ls", "--json", "latest"]);
    let node = nodes.lines().find(|l| l.contains("app.db\"") && l.contains("\"node\"")).expect("a node");
    let node: Value = serde_json::from_str(node).expect("JSON");
    assert_eq!(node["sqlite"]["tables"]["account"], 500);
}

#[test]
fn a_damaged_database_is_exit_3_and_latest_goes_back_to_a_sound_one() {
    let home = Home::new();
    home.good(&["init"]);
    create(&home.path("src/app.db"), "delete", 4096);
    home.good(&["backup", "src"]);
    let sound = std::fs::read(home.path("src/app.db")).expect("read");
    damage(&home);
    let run = home.run(&["backup", "src"]);
    assert_eq!(run.status.code(), Some(3));
    assert!(
        text(&run.stderr).contains("app.db") && text(&run.stderr).contains("damaged in itself"),
        "{run:?}"
    );
    assert!(text(&run.stdout).contains("1 database, 1 DAMAGED"), "{run:?}");
    let path = format!("latest:{}", home.path("src/app.db").display());
    let run = home.run(&["dump", &path]);
    assert!(run.status.success() && run.stdout == sound, "the sound one");
    assert!(text(&run.stderr).contains("taking the newest sound one"), "{}", text(&run.stderr));
    // By its id, or with everything else, it comes as it is.
    let all: Value = serde_json::from_str(&home.good(&["snapshots", "--json"])).expect("JSON");
    let id = all[1]["short_id"].as_str().expect("an id");
    let run = home.run(&["dump", &path.replacen("latest", id, 1)]);
    assert!(run.status.success() && run.stdout != sound);
    assert!(text(&run.stderr).contains("the newest sound one before it"), "{}", text(&run.stderr));
    let run = home.run(&["restore", "latest", "--target", "back"]);
    assert!(run.status.success() && text(&run.stderr).contains("damaged in itself"), "{run:?}");
    let back = home.path("back").join(home.path("src/app.db").strip_prefix("/").expect("absolute"));
    let restored = std::fs::read(back).expect("restored");
    assert!(restored == std::fs::read(home.path("src/app.db")).expect("read"));
}

#[test]
fn options_for_databases_are_checked_and_heeded() {
    let home = Home::new();
    home.good(&["init"]);
    create(&home.path("src/app.db"), "wal", 4096);
    for wrong in [["--sqlite", "on"], ["--sqlite-check", "some"], ["--sqlite-wait", "long"]] {
        let run = home.run(&["backup", wrong[0], wrong[1], "src"]);
        assert_eq!(run.status.code(), Some(2), "{wrong:?}");
    }
    let off = last(&home.good(&["backup", "--json", "--sqlite", "off", "src"]));
    assert_eq!((&off["sqlite"]["databases"], &off["sqlite"]["unverified"]), (&0.into(), &1.into()));
    let plain = last(&home.good(&["backup", "--json", "--sqlite-plain", "*.db", "src"]));
    assert_eq!(plain["sqlite"]["unverified"], 1);
    let quick = last(&home.good(&["backup", "--json", "--sqlite-check", "quick", "--pin-first", "src"]));
    assert_eq!(quick["sqlite"]["files"][0]["check"]["depth"], "quick");
    let none = last(&home.good(&["backup", "--json", "--sqlite-check", "off", "-f", "src"]));
    assert_eq!(none["sqlite"]["unknown"], 1);
    // A variable for every option.
    let run =
        home.command(&["backup", "--json", "src"]).env("SNAPKEEP_SQLITE", "off").output().expect("runs");
    let by_variable = last(&text(&run.stdout));
    let long = home
        .command(&["backup", "--json", "src"])
        .env("SNAPKEEP_BACKUP_SQLITE", "off")
        .output()
        .expect("runs");
    let by_long = last(&text(&long.stdout));
    assert!([by_variable, by_long].iter().any(|v| v["sqlite"]["unverified"] == 1));
}
