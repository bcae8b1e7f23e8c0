//! Single tables out of a snapshot into a database: definition, rows, indexes, triggers, numbers; what would be overwritten or
//! left without its parent is refused.

use crate::cli::{Home, text};
use crate::in_place::{code, of};
use crate::sqlite_live::Process;
use rusqlite::Connection;
use rusqlite::types::Value;
use std::fs;
use std::path::Path;

const SCHEMA: &str = "
    PRAGMA journal_mode=wal; PRAGMA foreign_keys=ON;
    CREATE TABLE owner(id INTEGER PRIMARY KEY, name TEXT UNIQUE);
    CREATE TABLE thing(id INTEGER PRIMARY KEY AUTOINCREMENT, owner REFERENCES owner(id), size INTEGER,
        twice INTEGER GENERATED ALWAYS AS (size*2) STORED, CHECK(size>=0));
    CREATE UNIQUE INDEX \"by size\" ON thing(owner, size);
    CREATE TABLE trail(n INTEGER);
    CREATE TRIGGER seen AFTER INSERT ON thing BEGIN INSERT INTO trail VALUES (new.id); END;
    CREATE TABLE plain(a, b); CREATE TABLE pair(k TEXT PRIMARY KEY, v) WITHOUT ROWID;
    INSERT INTO owner VALUES (1, 'one'), (2, 'two'), (3, 'three');
    INSERT INTO thing(owner, size) VALUES (1, 10), (2, 20), (3, 30); DELETE FROM thing WHERE id=3;
    INSERT INTO plain(rowid, a, b) VALUES (5, x'00ff', 1.5), (9, NULL, 'text'); INSERT INTO pair VALUES ('x', 1), ('y', 2);";

fn rows(path: &Path, sql: &str) -> Vec<Vec<Value>> {
    let db = Connection::open(path).expect("opens");
    let mut statement = db.prepare(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
    let count = statement.column_count();
    let row = |row: &rusqlite::Row<'_>| (0..count).map(|i| row.get(i)).collect();
    statement.query_map([], row).expect("asked").map(|r| r.expect("a row")).collect()
}

fn run(path: &Path, sql: &str) {
    Connection::open(path).expect("opens").execute_batch(sql).expect("run");
}

fn yard() -> (Home, std::path::PathBuf, String) {
    let home = Home::new();
    home.good(&["init"]);
    let db = home.path("src/app.db");
    run(&db, SCHEMA);
    home.good(&["backup", "src"]);
    let place = of(&home, "latest", "src/app.db");
    (home, db, place)
}

#[test]
fn a_dropped_table_comes_back_beside_programs_at_work() {
    let (home, db, place) = yard();
    let before = rows(&db, "SELECT rowid, * FROM thing");
    let mut open = Process::start("shell", &db, 0);
    open.must("SELECT count(*) FROM thing");
    run(
        &db,
        "DROP TABLE thing; INSERT INTO owner VALUES (4, 'four'); DELETE FROM trail; UPDATE plain SET b=0;",
    );
    let refused = home.run(&["restore", &place, "--table", "thing"]);
    assert_eq!(code(&refused), 23, "{refused:?}");
    let story = home.good(&["restore", &place, "--table", "thing", "--yes"]);
    assert!(
        story.contains("table thing restored") && story.contains("2 rows, 1 index, 1 trigger"),
        "{story}"
    );
    assert_eq!(rows(&db, "SELECT rowid, * FROM thing"), before);
    assert_eq!(open.must("SELECT count(*), sum(twice) FROM thing"), "Integer(2),Integer(60)");
    assert!(rows(&db, "SELECT * FROM trail").is_empty(), "triggers do not run for what comes back");
    assert_eq!(
        rows(&db, "SELECT count(*) FROM plain WHERE b=0"),
        [[Value::Integer(2)]],
        "others are left alone"
    );
    // A number once given is not given again, and index and trigger are at work.
    run(&db, "INSERT INTO thing(owner, size) VALUES (4, 1)");
    assert_eq!(rows(&db, "SELECT max(id) FROM thing"), [[Value::Integer(4)]]);
    assert_eq!(rows(&db, "SELECT n FROM trail"), [[Value::Integer(4)]]);
    assert!(
        Connection::open(&db)
            .expect("opens")
            .execute("INSERT INTO thing(owner, size) VALUES (4, 1)", [])
            .is_err()
    );
    home.good(&["undo", "--yes"]);
    assert!(open.run("SELECT count(*) FROM thing").contains("no such table"));
    assert_eq!(rows(&db, "SELECT count(*) FROM owner"), [[Value::Integer(4)]]);
}

#[test]
fn what_stands_there_gives_way_only_when_told() {
    let (home, db, place) = yard();
    run(&db, "DELETE FROM pair; DELETE FROM plain;");
    let words = ["restore", &place, "--table", "pair", "--table", "plain", "--yes"];
    let refused = home.run(&words);
    assert!(code(&refused) == 23 && text(&refused.stderr).contains("--replace"), "{refused:?}");
    assert!(rows(&db, "SELECT * FROM pair").is_empty());
    home.good(&[&words[..], &["--replace"]].concat());
    assert_eq!(rows(&db, "SELECT * FROM pair").len(), 2);
    let (null, blob) = (Value::Null, Value::Blob(vec![0, 255]));
    let wanted = [
        vec![Value::Integer(5), blob, Value::Real(1.5)],
        vec![Value::Integer(9), null, Value::Text("text".into())],
    ];
    assert_eq!(rows(&db, "SELECT rowid, * FROM plain"), wanted);
    // Beside the one that is there, under a name of its own.
    let story = home.good(&["restore", &place, "--table", "thing", "--as", "old thing", "--yes"]);
    assert!(story.contains("1 index, 1 trigger"), "{story}");
    assert_eq!(rows(&db, "SELECT id, twice FROM \"old thing\"").len(), 2);
    let names =
        rows(&db, "SELECT name FROM sqlite_schema WHERE tbl_name='old thing' AND type<>'table' ORDER BY 1");
    assert_eq!(names, [[Value::Text("old thing_by size".into())], [Value::Text("old thing_seen".into())]]);
    assert_eq!(rows(&db, "PRAGMA integrity_check"), [[Value::Text("ok".into())]]);
}

#[test]
fn rows_without_parents_are_refused() {
    let (home, db, place) = yard();
    run(&db, "DROP TABLE thing; DELETE FROM owner WHERE id<>1;");
    let words = ["restore", &place, "--table", "thing", "--yes"];
    let refused = home.run(&words);
    assert!(code(&refused) == 23 && text(&refused.stderr).contains("1 rows would refer"), "{refused:?}");
    assert!(rows(&db, "SELECT 1 FROM sqlite_schema WHERE name='thing'").is_empty());
    home.good(&[&words[..], &["--allow-orphans"]].concat());
    home.good(&["restore", &place, "--table", "thing", "--table", "owner", "--replace", "--yes"]);
    assert!(rows(&db, "PRAGMA foreign_key_check").is_empty());
}

#[test]
fn another_database_takes_tables_too() {
    let (home, db, place) = yard();
    let other = home.path("other.db");
    let into = other.to_string_lossy().into_owned();
    // Nothing is there, so nobody is asked.
    let story = home.good(&["restore", &place, "--table", "pair", "--into", &into]);
    assert!(story.contains("a new one"), "{story}");
    assert_eq!(rows(&other, "SELECT v FROM pair ORDER BY k").len(), 2);
    home.good(&["restore", &place, "--table", "plain", "--into", &into, "--yes"]);
    home.good(&["undo", "--yes"]);
    assert_eq!(
        rows(&other, "SELECT name FROM sqlite_schema WHERE type='table'"),
        [[Value::Text("pair".into())]]
    );
    assert_eq!(rows(&db, "SELECT count(*) FROM plain"), [[Value::Integer(2)]]);
    for (words, told) in [
        (vec!["--table", "none"], "it has: owner, pair, plain, thing, trail"),
        (vec!["--table", "pair", "--table", "plain", "--as", "x"], "--as names one table"),
    ] {
        let run = home.run(&[&["restore", &place, "--into", &into, "--yes"][..], &words].concat());
        assert!(code(&run) == 2 && text(&run.stderr).contains(told), "{run:?}");
    }
    let run = home.run(&["restore", "latest", "--table", "pair", "--yes"]);
    assert!(code(&run) == 2, "{run:?}");
    let fresh = home.path("fresh.db");
    let run = home.run(&["restore", &place, "--table", "thing", "--into", &fresh.to_string_lossy()]);
    assert!(code(&run) == 23 && !fresh.exists(), "{run:?}");
    assert!(
        fs::read_dir(home.path("cache/snapkeep"))
            .expect("listed")
            .flatten()
            .all(|e| !e.file_name().to_string_lossy().contains("scratch"))
    );
}
