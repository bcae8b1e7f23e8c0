//! Care of live databases: check, vacuum, orphans, archive; kills between the two halves of an archiving.

use crate::cli::{Home, text};
use crate::cli_sqlite::damage;
use crate::db_recover::Memory;
use crate::in_place::code;
use crate::sqlite_live::{Process, create, rounds};
use crate::yard::seed;
use rusqlite::Connection;
use serde_json::Value;
use snapkeep::error::ErrorKind;
use snapkeep::sqlite::ffi::open_bytes;
use snapkeep::sqlite::live::Live;
use snapkeep::sqlite::query::Reading;
use snapkeep::sqlite::taking::{Archive, archive as archive_rows, delete_orphans};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

fn yard(mode: &str, sql: &str) -> Home {
    let home = Home::new();
    home.good(&["init"]);
    create(&home.path("src/app.db"), mode, 4096);
    Connection::open(home.path("src/app.db")).expect("opens").execute_batch(sql).expect("prepared");
    home
}

fn ask(path: &Path, sql: &str) -> i64 {
    Connection::open(path).expect("opens").query_row(sql, [], |row| row.get(0)).expect("an answer")
}

fn last(told: &str) -> Value {
    serde_json::from_str(told.lines().last().expect("a line")).expect("JSON")
}

const FAMILY: &str = "PRAGMA foreign_keys=OFF;
    CREATE TABLE child(id INTEGER PRIMARY KEY, of INTEGER REFERENCES account(id), text);
    CREATE TABLE grandchild(id INTEGER PRIMARY KEY, of INTEGER REFERENCES child(id));
    CREATE TABLE bare(a TEXT, b INTEGER REFERENCES account, c BLOB, PRIMARY KEY(a, b)) WITHOUT ROWID;
    CREATE TABLE hidden(of INTEGER REFERENCES account(id), x);
    INSERT INTO child VALUES (1, 1, 'good'), (2, 9001, 'lost'), (3, 9002, NULL), (4, NULL, 'free');
    INSERT INTO grandchild VALUES (1, 1), (2, 2), (3, 3), (4, 777);
    INSERT INTO bare VALUES ('x', 1, x'00'), ('x', 9001, x'01'), ('y', 9003, NULL);
    INSERT INTO hidden VALUES (2, 'good'), (9009, 'lost'), (9009, 'lost');";

#[test]
fn check_tells_what_is_well_and_what_is_not() {
    let home = yard("wal", "");
    // In use, and with a log that holds what is new.
    let mut open = Process::start("shell", &home.path("src/app.db"), 0);
    open.must("UPDATE counter SET n=0");
    let told = home.good(&["db", "check", "src/app.db"]);
    assert!(told.contains("src/app.db: ok, 3 tables, 501 rows, user_version 0, wal"), "{told}");
    let json = home.good(&["db", "check", "src/app.db", "--json"]);
    let first: Value = serde_json::from_str(json.lines().next().expect("a line")).expect("JSON");
    assert_eq!((&first["result"], &first["tables"]["account"]), (&"ok".into(), &500.into()));
    assert_eq!(last(&json)["ok"], 1);
    drop(open);
    Connection::open(home.path("src/app.db")).expect("opens").execute_batch(FAMILY).expect("made");
    let run = home.run(&["db", "check", "src/app.db"]);
    assert!(code(&run) == 24 && text(&run.stdout).contains("7 ORPHANS"), "{run:?}");
    let home = yard("delete", "");
    damage(&home);
    fs::write(home.path("src/none.db"), "nothing").expect("written");
    let run = home.run(&["db", "check", "src/app.db", "src/none.db", "--json"]);
    assert_eq!(code(&run), 24, "{run:?}");
    assert_eq!(last(&text(&run.stdout))["bad"], 2);
    assert_eq!(code(&home.run(&["db", "check", "nowhere.db"])), 1);
    assert_eq!(code(&home.run(&["db", "check"])), 2);
}

#[test]
fn vacuum_frees_pages_and_can_be_taken_back() {
    for mode in ["wal", "delete"] {
        let home = yard(mode, "DELETE FROM account WHERE id%2=0; UPDATE account SET note=NULL;");
        let db = home.path("src/app.db");
        let mut open = Process::start("shell", &db, 0);
        open.must("SELECT count(*) FROM account");
        let told = last(&home.good(&["db", "vacuum", "src/app.db", "--json"]));
        let (before, after) = (
            told["bytes_before"].as_u64().expect("a number"),
            told["bytes_after"].as_u64().expect("a number"),
        );
        assert!(after < before && told["sound"] == true, "{mode}: {told}");
        assert_eq!(open.must("SELECT count(*) FROM account"), "Integer(250)");
        let told = home.good(&["undo", "--yes"]);
        assert_eq!(ask(&db, "PRAGMA page_count") as u64 * 4096, before, "{mode}: {told}");
        assert!(home.good(&["undo", "--list"]).contains("before vacuum of"), "the label");
        drop(open);
        let told = home.good(&["db", "vacuum", "src/app.db", "--no-snapshot"]);
        assert!(told.contains("cannot be taken back"), "{told}");
        assert_eq!(ask(&db, "PRAGMA freelist_count"), 0);
    }
    let home = yard("delete", "");
    damage(&home);
    let bytes = fs::read(home.path("src/app.db")).expect("read");
    let run = home.run(&["db", "vacuum", "src/app.db"]);
    assert!(code(&run) == 24 && text(&run.stderr).contains("db recover"), "{run:?}");
    assert!(fs::read(home.path("src/app.db")).expect("read") == bytes);
}

#[test]
fn orphans_are_listed_and_deleted_generation_by_generation() {
    for mode in ["wal", "delete"] {
        let home = yard(mode, FAMILY);
        let db = home.path("src/app.db");
        let told = home.good(&["db", "orphans", "src/app.db"]);
        assert!(
            told.contains("child  row 2  leads to no row of account") && told.ends_with("7 orphans\n"),
            "{told}"
        );
        let run = home.run(&["db", "orphans", "src/app.db", "--delete"]);
        assert!(code(&run) == 23 && ask(&db, "SELECT count(*) FROM child") == 4, "{run:?}");
        // Triggers run; keys are not followed.
        let sql = "CREATE TABLE seen(x); CREATE TRIGGER gone AFTER DELETE ON child BEGIN INSERT INTO seen VALUES (old.id); END";
        Connection::open(&db).expect("opens").execute_batch(sql).expect("made");
        let told = last(&home.good(&["db", "orphans", "src/app.db", "--delete", "--yes", "--json"]));
        let tables = &told["tables"];
        assert_eq!(told["deleted"], 9, "{told}");
        for (table, gone) in [("child", 2), ("grandchild", 3), ("bare", 2), ("hidden", 2)] {
            assert_eq!(tables[table], gone, "{table}");
        }
        assert_eq!(ask(&db, "SELECT count(*) FROM pragma_foreign_key_check"), 0);
        assert_eq!(ask(&db, "SELECT count(*) FROM child") + ask(&db, "SELECT count(*) FROM bare"), 3);
        assert_eq!(ask(&db, "SELECT count(*) FROM seen"), 2);
        assert!(home.good(&["db", "orphans", "src/app.db"]).contains("has no orphans"));
        home.good(&["undo", "--yes"]);
        assert_eq!(ask(&db, "SELECT count(*) FROM pragma_foreign_key_check"), 7);
    }
}

#[test]
fn orphans_of_a_table_that_is_not_there_are_left_alone() {
    let sql =
        "PRAGMA foreign_keys=OFF; CREATE TABLE c(x REFERENCES nowhere(id)); INSERT INTO c VALUES (1), (2);";
    let home = yard("delete", sql);
    let run = home.run(&["db", "orphans", "src/app.db", "--delete", "--yes"]);
    assert!(code(&run) == 23 && text(&run.stderr).contains("`nowhere` that is not there"), "{run:?}");
    assert_eq!(ask(&home.path("src/app.db"), "SELECT count(*) FROM c"), 2);
}

const MOVES: [&str; 7] =
    ["db", "archive", "src/app.db", "--table", "account", "--where", "id <= 200 -- the old ones"];

fn archive(home: &Home, more: &[&str]) -> std::process::Output {
    home.run(&[&MOVES[..], &["--into", "old.db"], more].concat())
}

#[test]
fn archived_rows_are_moved_exactly() {
    for mode in ["wal", "delete"] {
        let home = yard(
            mode,
            "UPDATE account SET note=x'00ff' WHERE id=3; UPDATE account SET note=NULL WHERE id=4;",
        );
        let db = home.path("src/app.db");
        let run = archive(&home, &["--dry-run"]);
        assert!(
            text(&run.stdout).contains("would move 200 rows") && !home.path("old.db").exists(),
            "{run:?}"
        );
        let run = archive(&home, &["--json"]);
        assert_eq!(code(&run), 0, "{run:?}");
        assert_eq!(last(&text(&run.stdout))["rows_moved"], 200);
        assert_eq!(ask(&db, "SELECT count(*) FROM account"), 300);
        let old = home.path("old.db");
        assert_eq!(ask(&old, "SELECT count(*) FROM account"), 200);
        assert_eq!(ask(&old, "SELECT typeof(note)='blob' FROM account WHERE id=3"), 1);
        assert_eq!(ask(&old, "SELECT note IS NULL FROM account WHERE id=4"), 1);
        assert_eq!(
            ask(&db, "SELECT sum(balance) FROM account") + ask(&old, "SELECT sum(balance) FROM account"),
            500_000
        );
        // Nothing is left to move; then more of it.
        let run = archive(&home, &[]);
        assert!(text(&run.stdout).contains("0 rows"), "{run:?}");
        // Undone, the rows are in both; again, they are known by their keys.
        home.good(&["undo", "--yes"]);
        home.good(&["undo", "--yes"]);
        let shown = home.good(&["undo", "--list"]);
        let first = shown.split_whitespace().next().expect("an id").to_owned();
        home.good(&["undo", "--yes", &first]);
        assert_eq!(ask(&db, "SELECT count(*) FROM account"), 500, "{shown}");
        let run = archive(&home, &["--json"]);
        assert_eq!(last(&text(&run.stdout))["rows_already_there"], 200, "{run:?}");
        assert_eq!(ask(&db, "SELECT count(*) FROM account"), 300);
    }
}

#[test]
fn what_cannot_be_archived_safely_is_refused_and_nothing_moves() {
    let home = yard("delete", FAMILY);
    let db = home.path("src/app.db");
    // Rows that others refer to.
    let run = archive(&home, &[]);
    assert!(code(&run) == 23 && text(&run.stderr).contains("rows refer to rows of `account`"), "{run:?}");
    // No key; no such table; no SQL; more than one statement.
    for (table, choice, wanted) in [
        ("hidden", "1", 23),
        ("accounts", "1", 2),
        ("account", "id <", 2),
        ("account", "nothing=1", 2),
        ("account", "1); DELETE FROM account; SELECT (1", 2),
        ("sqlite_schema", "1", 2),
    ] {
        let run = home.run(&[
            "db",
            "archive",
            "src/app.db",
            "--table",
            table,
            "--where",
            choice,
            "--into",
            "old.db",
        ]);
        assert_eq!(code(&run), wanted, "{table} {choice}: {run:?}");
    }
    let words = ["db", "archive", "src/app.db", "--table", "log", "--where", "1", "--into", "src/app.db"];
    let run = home.run(&words);
    assert!(code(&run) == 0 && text(&run.stdout).contains("0 rows"), "nothing is moved into itself: {run:?}");
    // Another row under the same key.
    Connection::open(home.path("old.db"))
        .expect("opens")
        .execute_batch("CREATE TABLE account(id INTEGER PRIMARY KEY, balance INTEGER NOT NULL, note TEXT); INSERT INTO account VALUES (450, 1, 'x');")
        .expect("made");
    let mut words = MOVES.to_vec();
    words[6] = "id > 400";
    let run = home.run(&[&words[..], &["--into", "old.db"]].concat());
    assert!(
        code(&run) == 23 && text(&run.stderr).contains("another row of `account` under the key 450"),
        "{run:?}"
    );
    assert_eq!(ask(&home.path("old.db"), "SELECT count(*) FROM account"), 1);
    assert_eq!(ask(&db, "SELECT count(*) FROM account"), 500);
    // A table there that keeps values in another way.
    let sql = "DROP TABLE account; CREATE TABLE account(id INTEGER PRIMARY KEY, balance TEXT, note TEXT);";
    Connection::open(home.path("old.db")).expect("opens").execute_batch(sql).expect("made");
    let run = home.run(&[&words[..], &["--into", "old.db"]].concat());
    assert!(code(&run) == 23 && text(&run.stderr).contains("does not keep rows as they are"), "{run:?}");
    assert_eq!(ask(&db, "SELECT count(*) FROM account"), 500);
}

/// What was written after the snapshot is not in it: no such row goes.
#[test]
fn rows_that_the_snapshot_does_not_hold_stay() {
    let home = yard("wal", FAMILY);
    let (db, copy) = (home.path("src/app.db"), home.path("then.db"));
    let change = |sql: &str| Connection::open(&db).expect("opens").execute_batch(sql).expect("changed");
    Connection::open(&db)
        .expect("opens")
        .execute("VACUUM INTO ?1", [copy.to_string_lossy()])
        .expect("copied");
    let stop = || Arc::new(AtomicBool::new(false));
    let then = || {
        let bytes = Memory(fs::read(&copy).expect("read"));
        Reading::new(open_bytes(Box::new(bytes)).expect("opens"), stop()).expect("opens")
    };
    let wait = Duration::from_secs(20);
    let live = || Live::open(&db, wait, stop()).expect("opens");
    let into = home.path("old.db");
    let what = |choice: &'static str| Archive { table: "account", choice, into: &into, wait, stop: stop() };
    for sql in [
        "UPDATE account SET note='new' WHERE id=60",
        "PRAGMA foreign_keys=OFF; UPDATE account SET id=10060 WHERE id=60",
        "INSERT INTO account VALUES (-5, 1, NULL)",
        "UPDATE account SET balance=1000.0 WHERE id=61",
    ] {
        change(sql);
        let e = archive_rows(&live(), &then(), &what("id > 9000 OR id BETWEEN 50 AND 70 OR id < 0"))
            .expect_err(sql);
        assert!(e.kind() == ErrorKind::Refused && e.message().contains("Try again"), "{sql}: {e}");
        assert!(!into.exists(), "{sql}");
        change(
            "DELETE FROM account WHERE id > 9000 OR id < 0; INSERT OR IGNORE INTO account VALUES (60, 0, '');",
        );
    }
    assert_eq!(ask(&db, "SELECT count(*) FROM account"), 500);
    // What was not touched may go.
    let done = archive_rows(&live(), &then(), &what("id BETWEEN 100 AND 109")).expect("moved");
    assert_eq!((done.rows, ask(&db, "SELECT count(*) FROM account")), (10, 490));
    // An orphan that is new, or another than it was.
    change("PRAGMA foreign_keys=OFF; UPDATE child SET text='other' WHERE id=2");
    let e = delete_orphans(&live(), &then()).expect_err("changed");
    assert!(e.message().contains("Try again"), "{e}");
    assert_eq!(ask(&db, "SELECT count(*) FROM child"), 4);
    change("ALTER TABLE child ADD COLUMN more");
    assert!(delete_orphans(&live(), &then()).is_err());
}

/// Killed anywhere, every row is in at least one of the two, and the next run ends the work.
#[test]
fn an_archiving_that_is_killed_loses_nothing() {
    let mut random = seed("archive", 5);
    for round in 0..rounds(1, 8) {
        for mode in ["wal", "delete"] {
            for point in ["archive-proved", "archive-copied", "archive-deleted", "archive-committed"] {
                let home = yard(mode, "");
                let (db, old) = (home.path("src/app.db"), home.path("old.db"));
                let border = 100 + random.below(300);
                let choice = format!("id <= {border}");
                let mut words = MOVES.to_vec();
                words[6] = &choice;
                let words = [&words[..], &["--into", "old.db"]].concat();
                let run = home.command(&words).env("SNAPKEEP_KILL_IN", point).output().expect("runs");
                assert_eq!(run.status.code(), None, "{point} was reached: {run:?}");
                let what = format!("round {round}, {mode}, {point}");
                let count = |path: &Path| {
                    let db = Connection::open(path).expect("opens");
                    db.query_row("SELECT count(*) FROM account", [], |row| row.get::<_, i64>(0)).unwrap_or(0)
                };
                if old.exists() {
                    let all = Connection::open(&db).expect("opens");
                    all.execute("ATTACH ?1 AS old", [old.to_string_lossy()]).expect("attached");
                    let there: i64 = all
                        .query_row("SELECT count(*) FROM old.sqlite_schema WHERE name='account'", [], |r| {
                            r.get(0)
                        })
                        .expect("asked");
                    if there > 0 {
                        let sql = "SELECT count(*) FROM (SELECT * FROM main.account UNION SELECT * FROM old.account)";
                        assert_eq!(
                            all.query_row(sql, [], |r| r.get::<_, i64>(0)).expect("counted"),
                            500,
                            "{what}"
                        );
                    }
                } else {
                    assert_eq!(count(&db), 500, "{what}");
                }
                let run = home.run(&words);
                assert_eq!(code(&run), 0, "{what}: {run:?}");
                assert_eq!((count(&db), count(&old)), (500 - border as i64, border as i64), "{what}");
            }
        }
    }
}
