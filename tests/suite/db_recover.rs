//! Broken databases: what is saved of them is what was in them, and all of it that can be.

use crate::cli::{Home, text};
use crate::in_place::code;
use crate::sqlite_live::{Process, create, rounds};
use crate::yard::seed;
use rusqlite::Connection;
use rusqlite::types::{Value, ValueRef};
use serde_json::Value as Json;
use snapkeep::sqlite::image::Bytes;
use snapkeep::sqlite::salvage::{Report, salvage};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

pub struct Memory(pub Vec<u8>);

impl Bytes for Memory {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&mut self, at: u64, out: &mut [u8]) -> snapkeep::error::Result<()> {
        let at = at as usize;
        out.copy_from_slice(&self.0[at..at + out.len()]);
        Ok(())
    }
}

/// Rows of each table, as text, by their keys.
type Content = BTreeMap<String, BTreeMap<String, String>>;

const TABLES: [(&str, &str); 5] =
    [("plain", "id"), ("wide", "id"), ("bare", "a,b"), ("hidden", "rowid"), ("old", "id")];

/// A database with every way to keep rows: long ones, computed columns, columns that came later, keys of text.
fn sample(path: &Path, encoding: &str, auto_vacuum: &str) {
    let db = Connection::open(path).expect("opens");
    db.execute_batch(&format!(
        "PRAGMA page_size=1024; PRAGMA encoding='{encoding}'; PRAGMA auto_vacuum={auto_vacuum};
         CREATE TABLE plain(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, n REAL, b BLOB);
         CREATE TABLE wide(id INTEGER PRIMARY KEY, text TEXT, len INT AS (length(text)), kept INT AS (id*2) STORED, last);
         CREATE TABLE bare(a TEXT, b INTEGER, c TEXT, d, PRIMARY KEY(b, a)) WITHOUT ROWID;
         CREATE TABLE hidden(x, y);
         CREATE TABLE old(id INTEGER PRIMARY KEY, first);
         CREATE INDEX by_n ON plain(n); CREATE UNIQUE INDEX by_text ON wide(text, id);
         CREATE VIEW both AS SELECT * FROM plain, hidden; CREATE TABLE seen(id);
         CREATE TRIGGER watch AFTER INSERT ON plain BEGIN INSERT INTO seen VALUES (new.id); END;
         WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM i WHERE n<300)
         INSERT INTO plain SELECT n, 'name ä ' || n, n/7.0, zeroblob(n%40) FROM i;
         WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM i WHERE n<36)
         INSERT INTO wide(id, text, last) SELECT n, hex(randomblob(n*n)), n FROM i;
         WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM i WHERE n<200)
         INSERT INTO bare SELECT 'key' || n, n%7, hex(randomblob(n%50)), NULL FROM i;
         WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM i WHERE n<200)
         INSERT INTO hidden(rowid, x, y) SELECT n*3, -n, 'same' FROM i;
         INSERT INTO old VALUES (1, 'a'), (2, 'b');
         ALTER TABLE old ADD COLUMN later DEFAULT 'usual'; INSERT INTO old VALUES (3, 'c', 'own');
         DELETE FROM hidden WHERE x > -100; DELETE FROM seen WHERE id > 5;
         PRAGMA user_version=42; PRAGMA application_id=77;"
    ))
    .expect("made");
}

fn content(path: &Path) -> Content {
    let db = Connection::open(path).expect("opens");
    let mut all = Content::new();
    for (table, key) in TABLES {
        let rows = all.entry(table.to_owned()).or_default();
        let sql = format!("SELECT {}, * FROM {table}", key.replace(',', "||'/'||"));
        let Ok(mut statement) = db.prepare(&sql) else { continue };
        let width = statement.column_count();
        let row = |row: &rusqlite::Row<'_>| {
            let cell = |at| row.get_ref(at).map(shown);
            Ok((cell(0)?, (1..width).map(cell).collect::<rusqlite::Result<Vec<_>>>()?.join("|")))
        };
        rows.extend(statement.query_map([], row).expect("asked").map(|row| row.expect("a row")));
    }
    all
}

/// A value as text, also where it is none that Rust takes for text.
fn shown(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Text(text) => format!("Text({})", String::from_utf8_lossy(text)),
        other => format!("{other:?}"),
    }
}

/// Rows that nobody can place, each as its values.
fn shelved(path: &Path, report: &Report) -> Vec<Vec<String>> {
    let Some(shelf) = &report.shelf else { return Vec::new() };
    let db = Connection::open(path).expect("opens");
    let mut statement = db.prepare(&format!("SELECT * FROM {shelf}")).expect("asked");
    let width = statement.column_count();
    let row = |row: &rusqlite::Row<'_>| {
        (0..width).map(|at| row.get_ref(at).map(shown)).collect::<rusqlite::Result<_>>()
    };
    statement.query_map([], row).expect("asked").map(|row| row.expect("a row")).collect()
}

fn save(bytes: Vec<u8>, size: u32, into: &Path) -> snapkeep::error::Result<Report> {
    let _ = fs::remove_file(into);
    salvage(Box::new(Memory(bytes)), size, into, &|| Ok(()))
}

fn sound(path: &Path) {
    let db = Connection::open(path).expect("opens");
    let verdict: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("checked");
    assert_eq!(verdict, "ok");
}

#[test]
fn a_sound_database_comes_back_whole() {
    for (encoding, vacuum) in [("UTF-8", "NONE"), ("UTF-16le", "FULL"), ("UTF-16be", "INCREMENTAL")] {
        let dir = tempfile::tempdir().expect("a directory");
        let (from, to) = (dir.path().join("from.db"), dir.path().join("to.db"));
        sample(&from, encoding, vacuum);
        let report = save(fs::read(&from).expect("read"), 1024, &to).expect("saved");
        assert!(report.is_whole(), "{encoding} {vacuum}: {report:?}");
        assert_eq!(content(&from), content(&to), "{encoding} {vacuum}");
        sound(&to);
        let schema = "SELECT group_concat(type||name||sql, char(10)) FROM (SELECT * FROM sqlite_schema ORDER BY type, name)";
        let ask = |path: &Path, sql: &str| {
            Connection::open(path)
                .expect("opens")
                .query_row(sql, [], |row| row.get::<_, Value>(0))
                .expect("an answer")
        };
        for sql in [
            schema,
            "PRAGMA user_version",
            "PRAGMA application_id",
            "PRAGMA encoding",
            "SELECT seq FROM sqlite_sequence",
            "SELECT count(*) FROM seen",
        ] {
            assert_eq!(ask(&from, sql), ask(&to, sql), "{sql}");
        }
        // Nothing is overwritten.
        assert!(salvage(Box::new(Memory(fs::read(&from).expect("read"))), 1024, &to, &|| Ok(())).is_err());
    }
}

/// One page after the other is lost. A row that stands in one page is lost with that page alone, and with no other; all that
/// is saved is what it was.
#[test]
fn every_row_outlives_the_loss_of_every_page_but_its_own() {
    let dir = tempfile::tempdir().expect("a directory");
    let (from, to) = (dir.path().join("from.db"), dir.path().join("to.db"));
    sample(&from, "UTF-8", "NONE");
    let (good, wanted) = (fs::read(&from).expect("read"), content(&from));
    let mut lost: BTreeMap<(String, String), Vec<usize>> = BTreeMap::new();
    let pages = good.len() / 1024;
    assert!(pages > 100);
    for page in 0..pages {
        let mut bytes = good.clone();
        bytes[page * 1024..][..1024].fill(0);
        let what = format!("page {}", page + 1);
        let report = match save(bytes, 1024, &to) {
            Ok(report) => report,
            Err(e) => panic!("{what}: {e}"),
        };
        sound(&to);
        let (found, apart) = (content(&to), shelved(&to, &report));
        for (table, rows) in &wanted {
            let there = found.get(table);
            for (key, row) in there.into_iter().flatten() {
                assert_eq!(rows.get(key), Some(row), "{what}: {table} {key}");
            }
            // A row apart is known by its number and a value; keys of text by both parts.
            let is_apart = |key: &str, row: &str| {
                apart.iter().any(|values| {
                    let cells: Vec<&str> = row.split('|').collect();
                    match table.as_str() {
                        "bare" => values[4] == cells[1] && values[5] == cells[0],
                        "hidden" => values[3] == key && values[4] == cells[0],
                        _ => values[3] == key && values[5] == cells[1],
                    }
                })
            };
            for (key, row) in rows {
                if !there.is_some_and(|rows| rows.contains_key(key)) && !is_apart(key, row) {
                    lost.entry((table.clone(), key.clone())).or_default().push(page + 1);
                }
            }
        }
        // A loss is never silent.
        let missing = lost.values().filter(|pages| pages.last() == Some(&(page + 1))).count();
        assert!(missing == 0 || !report.is_whole(), "{what}: {missing} rows are missing unsaid");
    }
    for (table, rows) in &wanted {
        for key in rows.keys() {
            let with = lost.get(&(table.clone(), key.clone())).cloned().unwrap_or_default();
            match table.as_str() {
                // Long rows go on in other pages.
                "wide" => assert!(!with.is_empty(), "{table} {key}"),
                _ => assert_eq!(with.len(), 1, "{table} {key} is lost with pages {with:?}"),
            }
        }
    }
}

/// Bytes are flipped at random: no panic, what comes is sound in itself, and what stands in pages that were not touched is
/// there, unless what leads there was touched: then it is kept apart.
#[test]
fn flipped_bytes_spoil_nothing_else() {
    let mut random = seed("recover", 9);
    let dir = tempfile::tempdir().expect("a directory");
    let (from, to) = (dir.path().join("from.db"), dir.path().join("to.db"));
    sample(&from, "UTF-8", "FULL");
    let (good, wanted) = (fs::read(&from).expect("read"), content(&from));
    let all: usize = wanted.values().map(BTreeMap::len).sum();
    for round in 0..rounds(150, 20_000) {
        let mut bytes = good.clone();
        let flips = random.below(8) + 1;
        for _ in 0..flips {
            let at = random.below(bytes.len());
            bytes[at] ^= 1 << random.below(8);
        }
        if random.below(10) == 0 {
            bytes.truncate(random.below(bytes.len() - 2048) + 1024);
        }
        let whole = bytes.len() == good.len();
        let Ok(report) = save(bytes, 1024, &to) else {
            continue;
        };
        sound(&to);
        let found = content(&to);
        let same: usize = wanted
            .iter()
            .map(|(table, rows)| {
                rows.iter()
                    .filter(|(key, row)| found.get(table).and_then(|f| f.get(*key)) == Some(row))
                    .count()
            })
            .sum();
        // At most a hundred rows stand in a page of 1 KiB, one table hangs on a row of the schema.
        let apart = report.shelved as usize;
        assert!(
            !whole || same + apart + flips * 310 >= all,
            "round {round}: {same} and {apart} of {all}: {report:?}"
        );
    }
}

/// A definition is one statement, whatever a hostile schema makes of it; virtual tables come with the tables below them.
#[test]
fn only_definitions_are_carried_out_and_full_text_comes_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let (from, to) = (dir.path().join("from.db"), dir.path().join("to.db"));
    let outside = dir.path().join("outside.db");
    let db = Connection::open(&from).expect("opens");
    db.execute_batch(&format!(
        "PRAGMA page_size=1024; CREATE TABLE good(x); INSERT INTO good VALUES (1); CREATE TABLE evil(x); CREATE TABLE other(x);
         CREATE VIRTUAL TABLE words USING fts5(text); INSERT INTO words VALUES ('one two'), ('two three');
         PRAGMA writable_schema=ON;
         UPDATE sqlite_schema SET sql='CREATE TABLE evil(x); ATTACH ''{0}'' AS o; CREATE TABLE o.t(x)' WHERE name='evil';
         UPDATE sqlite_schema SET sql='ATTACH ''{0}'' AS o' WHERE name='other';",
        outside.display()
    ))
    .expect("made");
    drop(db);
    let report = save(fs::read(&from).expect("read"), 1024, &to).expect("saved");
    assert!(!outside.exists() && !report.is_whole(), "{report:?}");
    let db = Connection::open(&to).expect("opens");
    let ask = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("an answer");
    assert_eq!(ask("SELECT count(*) FROM good"), 1);
    assert_eq!(ask("SELECT count(*) FROM words WHERE words MATCH 'two'"), 2);
}

#[test]
fn the_command_saves_what_the_first_page_led_to() {
    let home = Home::new();
    let db = home.path("src/app.db");
    create(&db, "wal", 4096);
    let held = fs::read(&db).expect("read");
    let told = home.good(&["db", "recover", "src/app.db", "--into", "whole.db"]);
    assert!(told.contains("account: 500 rows\n") && told.contains("every row"), "{told}");
    assert!(fs::read(&db).expect("read") == held, "the source is only read");
    let run = home.run(&["db", "recover", "src/app.db", "--into", "whole.db"]);
    assert!(code(&run) == 1 && text(&run.stderr).contains("is there already"), "{run:?}");
    // In use, with a log.
    let mut open = Process::start("shell", &db, 0);
    open.must("UPDATE account SET balance=1 WHERE id=1");
    home.good(&["db", "recover", "src/app.db", "--into", "log.db"]);
    let ask = |path: &Path, sql: &str| {
        Connection::open(path)
            .expect("opens")
            .query_row(sql, [], |row| row.get::<_, i64>(0))
            .expect("an answer")
    };
    assert_eq!(ask(&home.path("log.db"), "SELECT balance FROM account WHERE id=1"), 1);
    drop(open);
    // Without its first page it is no database to SQLite any more.
    let mut bytes = fs::read(&db).expect("read");
    bytes[..4096].fill(0);
    fs::remove_file(&db).expect("removed");
    for beside in ["src/app.db-wal", "src/app.db-shm"] {
        let _ = fs::remove_file(home.path(beside));
    }
    fs::write(&db, &bytes).expect("written");
    let run = home.run(&["db", "recover", "src/app.db", "--into", "rest.db", "--json"]);
    assert_eq!(code(&run), 3, "{run:?}");
    let end: Json = serde_json::from_str(text(&run.stdout).lines().last().expect("a line")).expect("JSON");
    assert_eq!(end["complete"], false);
    assert_eq!(end["page_size"], 4096, "found out by looking: {end}");
    assert_eq!(
        ask(&home.path("rest.db"), "SELECT count(*) FROM lost_and_found WHERE nfield=3 AND c1=1000"),
        500
    );
    assert_eq!(fs::read(&db).expect("read"), bytes);
    // Nothing of it is a database.
    fs::write(&db, vec![0x55; 50_000]).expect("written");
    let run = home.run(&["db", "recover", "src/app.db", "--into", "none.db"]);
    assert!(code(&run) == 20 && !home.path("none.db").exists(), "{run:?}");
    assert_eq!(code(&home.run(&["db", "recover", "nowhere", "--into", "none.db"])), 1);
    let left: Vec<_> =
        fs::read_dir(home.path("")).expect("listed").map(|e| e.expect("an entry").file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("scratch")), "{left:?}");
}
