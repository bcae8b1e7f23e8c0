//! A table and a row over many snapshots; a database in use against its newest snapshot; rows that lost their ends.

use super::cli::{Home, text};
use rusqlite::Connection;
use serde_json::Value as Json;

fn changed(home: &Home, sql: &str) {
    let db = Connection::open(home.path("src/app.db")).expect("opens");
    db.execute_batch(sql).expect("SQL");
    drop(db);
    home.good(&["backup", "src"]);
}

fn json(home: &Home, arguments: &[&str]) -> Json {
    serde_json::from_str(&home.good(arguments)).expect("JSON")
}

fn home() -> Home {
    let home = Home::new();
    home.good(&["init"]);
    home.good(&["backup", "src"]);
    changed(
        &home,
        "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, n); CREATE TABLE k(a TEXT, b INT, v, PRIMARY KEY(a, b)) WITHOUT ROWID;
         WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM i WHERE n<500) INSERT INTO t SELECT n, 'name '||n, n FROM i;
         INSERT INTO k VALUES('x', 1, 'first'), ('x', 2, 'second');",
    );
    changed(&home, "UPDATE k SET v='other' WHERE b=2");
    changed(
        &home,
        "UPDATE t SET name='new' WHERE id=7; DELETE FROM t WHERE id>490; INSERT INTO t VALUES(1000, 'last', 1)",
    );
    home.good(&["backup", "src"]);
    changed(&home, "DELETE FROM t WHERE id=7");
    changed(&home, "DROP TABLE t");
    changed(
        &home,
        "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, n); INSERT INTO t VALUES(7, 'back', x'00')",
    );
    home
}

#[test]
fn the_history_of_a_table_and_of_a_row() {
    let home = home();
    let all = json(&home, &["history", "src/app.db", "--table", "t", "--json"]);
    let line = |v: &Json| {
        let figures = ["rows", "added", "removed", "changed"].map(|name| v[name].as_u64());
        (v["state"].as_str().expect("a state").to_owned(), v["snapshots"].as_u64().expect("a count"), figures)
    };
    let lines: Vec<_> = all.as_array().expect("a list").iter().map(line).collect();
    assert_eq!(
        lines,
        [
            ("present".into(), 2, [Some(500), None, None, None]),
            ("present".into(), 2, [Some(491), Some(1), Some(10), Some(1)]),
            ("present".into(), 1, [Some(490), Some(0), Some(1), Some(0)]),
            ("absent".into(), 1, [None; 4]),
            ("present".into(), 1, [Some(1), None, None, None]),
        ]
    );
    let words = home.good(&["history", "src/app.db", "--table", "t"]);
    assert!(words.contains("not there") && words.lines().all(|line| line.chars().count() <= 80), "{words}");
    let row = json(&home, &["history", "src/app.db", "--table", "t", "--key", "7", "--json"]);
    let names: Vec<_> = row.as_array().expect("a list").iter().map(|v| v["row"]["name"].as_str()).collect();
    assert_eq!(names, [Some("name 7"), Some("new"), None, Some("back")]);
    assert_eq!(
        (&row[0]["snapshots"], &row[2]["state"], &row[2]["snapshots"]),
        (&2.into(), &"absent".into(), &2.into())
    );
    let words = home.good(&["history", "src/app.db", "--table", "k", "--key", "x, 2"]);
    let changed: Vec<&str> = words.lines().filter(|line| line.contains("v=")).collect();
    assert!(changed.len() == 2 && changed[1].contains("v=other"), "{words}");
    for (arguments, code, hint) in [
        (&["--table", "tt"][..], 1, "did you mean `t`?"),
        (&["--table", "k", "--key", "x"], 2, "2 columns"),
        (&["--table", "t", "--key", "12345"], 1, "no snapshot has this row"),
    ] {
        let mut all = vec!["history", "src/app.db"];
        all.extend_from_slice(arguments);
        let run = home.run(&all);
        assert_eq!(run.status.code(), Some(code), "{run:?}");
        assert!(text(&run.stderr).contains(hint), "{}", text(&run.stderr));
    }
}

#[test]
fn a_database_in_use_is_verified_against_its_newest_snapshot() {
    let home = home();
    let same = home.good(&["verify", "src/app.db"]);
    assert!(same.contains("schema and all rows of 2 tables"), "{same}");
    let db = Connection::open(home.path("src/app.db")).expect("opens");
    // Other pages, the same rows.
    db.execute_batch("PRAGMA page_size=8192; VACUUM;").expect("rewritten");
    home.good(&["verify", "src/app.db"]);
    db.execute_batch("UPDATE k SET v='changed' WHERE b=1; CREATE INDEX i ON k(v)").expect("changed");
    let run = home.run(&["verify", "src/app.db"]);
    assert_eq!(run.status.code(), Some(24), "{run:?}");
    let words = text(&run.stdout);
    assert!(
        words.contains("+  index i") && words.contains("table k: 0 added, 0 removed, 1 changed"),
        "{words}"
    );
    let run = home.run(&["verify", "--json", "src/app.db"]);
    let told: Json = serde_json::from_str(&text(&run.stdout)).expect("JSON");
    assert_eq!((&told["same"], &told["sqlite"]["tables"][0]["changed"]), (&false.into(), &1.into()));
    for (path, hint) in [("src/b.db", "there is no file"), ("src/a.txt", "no SQLite database")] {
        let run = home.run(&["verify", path]);
        assert!(run.status.code() == Some(1) && text(&run.stderr).contains(hint), "{run:?}");
    }
    std::fs::write(home.path("src/new.db"), "x").expect("written");
    let run = home.run(&["verify", "src/new.db"]);
    assert!(run.status.code() == Some(1) && text(&run.stderr).contains("no snapshot holds"), "{run:?}");
}

#[test]
fn new_orphans_are_told_at_backup() {
    let home = Home::new();
    home.good(&["init"]);
    changed(
        &home,
        "PRAGMA foreign_keys=OFF; CREATE TABLE p(id INTEGER PRIMARY KEY); CREATE TABLE c(p REFERENCES p(id));
         INSERT INTO p VALUES(1), (2); INSERT INTO c VALUES(1), (2), (77);",
    );
    let run = home.run(&["backup", "src"]);
    assert!(!text(&run.stderr).contains("foreign key"), "none is new: {}", text(&run.stderr));
    let db = Connection::open(home.path("src/app.db")).expect("opens");
    db.execute_batch("PRAGMA foreign_keys=OFF; DELETE FROM p WHERE id=2").expect("deleted");
    let run = home.run(&["backup", "src"]);
    assert_eq!(run.status.code(), Some(0), "{run:?}");
    assert!(
        text(&run.stderr).contains("app.db: 1 row more") && text(&run.stderr).contains("(2 now)"),
        "{}",
        text(&run.stderr)
    );
    assert!(text(&run.stdout).contains("orphans: 1 new row"), "{}", text(&run.stdout));
    let words = home.good(&["diff", "latest~1", "latest", "--orphans"]);
    assert!(
        words.contains("orphan: a row of c (row 2) leads to no row of p") && !words.contains("(row 3)"),
        "{words}"
    );
    db.execute_batch("PRAGMA foreign_keys=OFF; DELETE FROM p").expect("deleted");
    let last = home.good(&["backup", "--json", "src"]);
    let last: Json = serde_json::from_str(last.lines().last().expect("a line")).expect("JSON");
    assert_eq!(last["sqlite"]["new_orphans"], 1);
}
