//! Snapshots chosen by the schema version of a database in them.

use crate::cli::{Home, text};
use rusqlite::Connection;
use serde_json::Value;
use std::path::Path;

fn version(path: &Path, number: i32) {
    let db = Connection::open(path).expect("opens");
    db.execute_batch(&format!(
        "CREATE TABLE IF NOT EXISTS log(n); INSERT INTO log VALUES ({number}); PRAGMA user_version={number};"
    ))
    .expect("written");
}

fn back_up(home: &Home) -> String {
    let done = home.good(&["backup", "src", "--json"]);
    let done: Value = serde_json::from_str(done.lines().last().expect("a line")).expect("JSON");
    done["snapshot_id"].as_str().expect("an id").to_owned()
}

fn ids(home: &Home, more: &[&str]) -> Vec<String> {
    let all = home.good(&[&["snapshots", "--json"], more].concat());
    let all: Value = serde_json::from_str(&all).expect("JSON");
    all.as_array().expect("a list").iter().map(|s| s["id"].as_str().expect("an id").to_owned()).collect()
}

#[test]
fn the_last_snapshot_before_a_version_is_one_name() {
    let home = Home::new();
    home.good(&["init"]);
    let app = home.path("src/app.db");
    let mut made = Vec::new();
    // Up, back after a migration that failed, and up again.
    for number in [40, 41, 41, 42, 41, 43, -1] {
        version(&app, number);
        made.push(back_up(&home));
    }
    let named = |name: &str| {
        let line = home.good(&["ls", name, "--json"]);
        let first: Value = serde_json::from_str(line.lines().next().expect("a line")).expect("JSON");
        first["id"].as_str().expect("an id").to_owned()
    };
    assert_eq!(ids(&home, &["--schema-version", "41"]), [&*made[1], &made[2], &made[4]]);
    assert_eq!(ids(&home, &["--schema-version", "-1"]), [&*made[6]]);
    assert!(ids(&home, &["--schema-version", "7"]).is_empty());
    assert_eq!(ids(&home, &["--schema-version", "41", "--latest", "1"]), [&*made[4]]);
    assert_eq!(named("before-schema:0"), made[6]);
    home.good(&["forget", &made[6]]);
    assert_eq!(
        named("before-schema:42"),
        made[4],
        "the newest below it, wherever the version has been since"
    );
    assert_eq!(named("before-schema:41"), made[0]);
    assert_eq!(named("before-schema:99"), made[5]);
    let place = format!("before-schema:41:{}", app.display());
    home.good(&["restore", &place, "--target", "out"]);
    let db = Connection::open(home.path("out/app.db")).expect("opens");
    assert_eq!(db.query_row("PRAGMA user_version", [], |row| row.get::<_, i32>(0)), Ok(40));
    assert!(home.good(&["snapshots", "-v"]).contains("user_version 43"));
    for (name, why) in [
        ("before-schema:40", "at a schema version below 40"),
        ("before-schema:x", "names no version"),
        ("before-schema:", "names no version"),
        ("before-schema:9999999999", "names no version"),
    ] {
        let run = home.run(&["ls", name]);
        assert!(!run.status.success() && text(&run.stderr).contains(why), "{name}: {run:?}");
    }
}

#[test]
fn of_several_databases_one_must_be_named() {
    let home = Home::new();
    home.good(&["init"]);
    let run = home.run(&["ls", "before-schema:5"]);
    assert_eq!(run.status.code(), Some(1), "nothing there yet: {run:?}");
    let (app, other) = (home.path("src/app.db"), home.path("src/other.db"));
    version(&home.path("src/plain.db"), 0);
    version(&app, 1);
    let first = back_up(&home);
    assert!(
        home.good(&["ls", "before-schema:2"]).contains("app.db"),
        "one that counts no versions is in nobody's way"
    );
    version(&app, 2);
    version(&other, 9);
    let second = back_up(&home);
    let run = home.run(&["ls", "before-schema:2"]);
    assert!(!run.status.success() && text(&run.stderr).contains("name one: --path DATABASE"), "{run:?}");
    let (app, other) = (app.display().to_string(), other.display().to_string());
    let listed = |more: &[&str]| ids(&home, more);
    assert_eq!(listed(&["--schema-version", "2", "--path", &app]), [second.as_str()]);
    assert!(listed(&["--schema-version", "2", "--path", &other]).is_empty());
    let source = home.path("src").display().to_string();
    assert_eq!(listed(&["--schema-version", "1", "--path", &source]), [first.as_str()]);
    let line = home.good(&["ls", "before-schema:2", "--path", &app, "--json"]);
    assert!(line.lines().next().expect("a line").contains(&first));
    let line = home.good(&["ls", &format!("before-schema:10:{other}"), "--json"]);
    assert!(line.lines().next().expect("a line").contains(&second));
}
