//! Two versions of a database by their rows: what comes out is what comparing every row by hand says, whatever was edited,
//! and pages that are the same in both are not read.

use super::backup::{Random, back_up, new_repository};
use super::cli::{Home, text};
use super::sqlite_live::{files, rounds};
use rusqlite::Connection;
use rusqlite::types::{Value, ValueRef};
use serde_json::Value as Json;
use snapkeep::backend::memory::MemoryBackend;
use snapkeep::compare::rows::{Version, pair, scopes, with_live};
use snapkeep::format::entry::Entry;
use snapkeep::progress::Progress;
use snapkeep::repository::Repository;
use snapkeep::sqlite::difference::{Pair, Presence, TableChange, Telling};
use snapkeep::sqlite::dump::Dump;
use snapkeep::sqlite::ffi::open_bytes;
use snapkeep::sqlite::image::Bytes;
use snapkeep::sqlite::query::Reading;
use snapkeep::sqlite::query::Value as Told;
use snapkeep::sqlite::rows::{RowChange, Scope};
use snapkeep::sqlite::scope::Scopes;
use snapkeep::sqlite::tree::PageSet;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;

type Row = Vec<String>;

fn by_hand(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "null".into(),
        ValueRef::Integer(n) => format!("i{n}"),
        ValueRef::Real(n) => format!("r{:x}", n.to_bits()),
        ValueRef::Text(text) => format!("t{text:?}"),
        ValueRef::Blob(blob) => format!("b{blob:?}"),
    }
}

fn as_told(values: &[Told]) -> Row {
    let one = |value: &Told| match value {
        Told::Null => "null".into(),
        Told::Integer(n) => format!("i{n}"),
        Told::Real(n) => format!("r{:x}", n.to_bits()),
        Told::Text(text) => format!("t{text:?}"),
        Told::Blob(blob) => format!("b{blob:?}"),
    };
    values.iter().map(one).collect()
}

/// All rows of a table by their key; hidden numbers are no key, the whole row and its copies are.
fn rows_of(db: &Connection, table: &str, keys: usize, columns: &[&str]) -> BTreeMap<Row, Row> {
    let list = columns.iter().map(|c| format!("\"{c}\"")).collect::<Vec<_>>().join(",");
    let mut statement =
        db.prepare(&format!("SELECT {list} FROM \"{}\"", table.replace('"', "\"\""))).expect("asked");
    let mut rows = statement.query([]).expect("asked");
    let mut all = BTreeMap::new();
    while let Some(row) = rows.next().expect("a row") {
        let row: Row = (0..columns.len()).map(|i| by_hand(row.get_ref(i).expect("a value"))).collect();
        let mut key: Row = if keys == 0 { row.clone() } else { row[..keys].to_vec() };
        if keys == 0 {
            let mut copy = 0;
            key.push(copy.to_string());
            while all.contains_key(&key) {
                copy += 1;
                *key.last_mut().expect("pushed") = copy.to_string();
            }
        }
        assert!(all.insert(key, row).is_none(), "a key is there once");
    }
    all
}

/// What was told of one table: rows that are gone, rows that are new.
#[derive(Default, Debug, PartialEq, Eq)]
struct Heard {
    gone: Vec<Row>,
    new: Vec<Row>,
}

impl Heard {
    fn sorted(mut self) -> Self {
        self.gone.sort();
        self.new.sort();
        self
    }
}

pub struct Compared {
    heard: BTreeMap<String, Heard>,
    tables: Vec<TableChange>,
    read: u64,
}

pub fn compared(
    repository: &Arc<Repository>,
    before: Version<'_>,
    after: Version<'_>,
    by_pages: bool,
) -> Compared {
    let reader = Arc::new(repository.reader().expect("a reader"));
    let progress = Progress::new();
    let pair = pair(&reader, before, after, &progress).expect("opened");
    let scopes = scopes(&reader, before, after, &pair, &progress).expect("looked").filter(|_| by_pages);
    let mut heard: BTreeMap<String, Heard> = BTreeMap::new();
    let mut tables = Vec::new();
    let scope = |x: &_, y: &_| scopes.as_ref().map_or(Ok(Scope::All), |scopes| scopes.of(x, y));
    pair.rows(&scope, true, &mut |telling| {
        match telling {
            Telling::Row { table, change, .. } => {
                let heard = heard.entry(table.to_owned()).or_default();
                match change {
                    RowChange::Added(y) => heard.new.push(as_told(y)),
                    RowChange::Removed(x) => heard.gone.push(as_told(x)),
                    RowChange::Changed(x, y) => {
                        heard.gone.push(as_told(x));
                        heard.new.push(as_told(y));
                    }
                }
            }
            Telling::Table(change) => tables.push(change),
        }
        Ok(())
    })
    .expect("compared");
    Compared { heard, tables, read: pair.before.bytes_read() + pair.after.bytes_read() }
}

const TABLES: &[(&str, usize, &[&str])] = &[
    ("person", 1, &["id", "name", "score", "data"]),
    ("hidden", 0, &["a", "b"]),
    ("keyed", 2, &["k", "n", "v"]),
    ("loud", 1, &["k", "v"]),
    ("long", 1, &["id", "body", "tail"]),
    ("with 'odd\n name\"", 0, &["rowid", "oid"]),
];

fn set_up(path: &Path, prefix: &str) {
    let db = Connection::open(path).expect("opens");
    db.execute_batch(prefix).expect("set up");
    db.execute_batch(
        "CREATE TABLE person(id INTEGER PRIMARY KEY, name TEXT, score REAL, data BLOB); CREATE INDEX by_name ON person(name);
         CREATE TABLE hidden(a TEXT, b);
         CREATE TABLE keyed(k TEXT, n INT, v, PRIMARY KEY(k, n DESC)) WITHOUT ROWID;
         CREATE TABLE loud(k TEXT COLLATE NOCASE PRIMARY KEY, v) WITHOUT ROWID;
         CREATE TABLE long(id INTEGER PRIMARY KEY, body TEXT, tail INT);
         CREATE TABLE \"with 'odd\n name\"\"\"(rowid, oid);
         CREATE TABLE still(id INTEGER PRIMARY KEY, x);
         WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM i WHERE n<400) INSERT INTO still SELECT n, hex(randomblob(20)) FROM i;",
    )
    .expect("created");
}

fn edit(db: &Connection, random: &mut Random, edits: u64) {
    db.execute_batch("BEGIN").expect("begun");
    for _ in 0..edits {
        let id = random.below(1500) as i64;
        let word = ["a", "B", "ä", "é\u{1f600}", "", "z \u{ffee}"][random.below(6) as usize];
        let key = format!("{word}{}", random.below(300));
        let noise = random.noise(20);
        let sql = match random.below(14) {
            0 | 1 => "INSERT OR IGNORE INTO person VALUES(?1, ?2, ?1/7.0, ?3)",
            2 => "UPDATE person SET name=?2 WHERE id=?1",
            3 => {
                "UPDATE person SET score=CASE WHEN typeof(score)='real' THEN NULL ELSE ?1*1.0 END WHERE id BETWEEN ?1 AND ?1+3"
            }
            4 => "DELETE FROM person WHERE id BETWEEN ?1 AND ?1+2",
            5 => "INSERT INTO hidden VALUES(?2, ?3), (?2, NULL)",
            6 => "DELETE FROM hidden WHERE _rowid_=?1%200",
            7 => "INSERT OR REPLACE INTO keyed VALUES(?2, ?1%5, ?3)",
            8 => "DELETE FROM keyed WHERE k=?2",
            9 => "INSERT OR REPLACE INTO loud VALUES(?2, ?1)",
            10 => "INSERT OR REPLACE INTO long VALUES(?1%200, hex(zeroblob(?1*4))||hex(?3), ?1)",
            // Only the last page of a long row changes.
            11 => "UPDATE long SET tail=tail+1 WHERE id BETWEEN ?1%200 AND ?1%200+3",
            12 => "INSERT INTO \"with 'odd\n name\"\"\" VALUES(?1, ?3)",
            _ => "DELETE FROM long WHERE id=?1%200",
        };
        let mut statement = db.prepare(sql).expect("SQL");
        let all = [Value::Integer(id), Value::Text(key), Value::Blob(noise)];
        let count = statement.parameter_count();
        let names: Vec<usize> = (1..=3).filter(|n| sql.contains(&format!("?{n}"))).collect();
        assert!(count <= 3);
        for n in names {
            if n <= count {
                statement.raw_bind_parameter(n, &all[n - 1]).expect("bound");
            }
        }
        statement.raw_execute().expect("done");
    }
    db.execute_batch("COMMIT").expect("done");
}

fn expect(before: &Connection, after: &Connection, compared: &Compared, what: &str) {
    let none = Heard::default();
    for (table, keys, columns) in TABLES {
        let (old, new) = (rows_of(before, table, *keys, columns), rows_of(after, table, *keys, columns));
        let differs = |key: &&Row| old.get(*key) != new.get(*key);
        let changed: BTreeSet<&Row> = old.keys().chain(new.keys()).filter(differs).collect();
        let pick = |from: &BTreeMap<Row, Row>| {
            let mut rows: Vec<Row> = changed.iter().filter_map(|key| from.get(*key).cloned()).collect();
            rows.sort();
            rows
        };
        let wanted = Heard { gone: pick(&old), new: pick(&new) };
        let heard = compared.heard.get(*table).unwrap_or(&none);
        let heard = Heard { gone: heard.gone.clone(), new: heard.new.clone() }.sorted();
        assert!(heard == wanted, "{what}: {table}: told {heard:?}, wanted {wanted:?}");
    }
    assert!(!compared.heard.contains_key("still"), "{what}");
}

fn entry(repository: &Arc<Repository>, dir: &Path) -> Entry {
    let outcome = back_up(repository, dir);
    files(repository, &outcome)["app.db"].0.clone()
}

#[test]
fn random_edits_are_told_exactly() {
    let seed = std::env::var("SNAPKEEP_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(0x5eed_1234_u64);
    println!("SNAPKEEP_SEED={seed}");
    let mut random = Random(seed);
    let kinds = [
        "PRAGMA page_size=512;",
        "PRAGMA page_size=4096; PRAGMA auto_vacuum=1;",
        "PRAGMA page_size=1024; PRAGMA encoding='UTF-16le'; PRAGMA auto_vacuum=2;",
        "PRAGMA page_size=65536;",
    ];
    for (number, prefix) in kinds.iter().enumerate() {
        let (dir, old) = (tempfile::tempdir().expect("tempdir"), tempfile::tempdir().expect("tempdir"));
        let (path, old) = (dir.path().join("app.db"), old.path().join("old.db"));
        set_up(&path, prefix);
        let repository = new_repository(Arc::new(MemoryBackend::new()), None);
        edit(&Connection::open(&path).expect("opens"), &mut random, 3000);
        let mut before = entry(&repository, dir.path());
        for round in 0..rounds(4, 60) {
            let _ = fs::remove_file(&old);
            fs::copy(&path, &old).expect("copied");
            let db = Connection::open(&path).expect("opens");
            let edits = [1, 3, 20, 300][random.below(4) as usize];
            edit(&db, &mut random, edits);
            if random.below(5) == 0 {
                db.execute_batch("VACUUM").expect("vacuumed");
            }
            drop(db);
            let after = entry(&repository, dir.path());
            let (x, y) = (Connection::open(&old).expect("opens"), Connection::open(&path).expect("opens"));
            for by_pages in [true, false] {
                let what = format!("seed {seed}, kind {number}, round {round}, by pages {by_pages}");
                let all = compared(&repository, Version::Stored(&before), Version::Stored(&after), by_pages);
                expect(&x, &y, &all, &what);
                // And the other way round.
                let all = compared(&repository, Version::Stored(&after), Version::Stored(&before), by_pages);
                expect(&y, &x, &all, &what);
            }
            before = after;
        }
    }
}

#[test]
fn a_database_in_use_is_compared_by_its_bytes() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (path, old) = (dir.path().join("app.db"), tempfile::tempdir().expect("tempdir"));
    set_up(&path, "PRAGMA journal_mode=wal;");
    let mut random = Random(77);
    let db = Connection::open(&path).expect("opens");
    edit(&db, &mut random, 2000);
    let repository = new_repository(Arc::new(MemoryBackend::new()), None);
    let before = entry(&repository, dir.path());
    db.execute("VACUUM INTO ?1", [old.path().join("old.db").to_str().expect("text")]).expect("copied");
    edit(&db, &mut random, 40);
    let x = Connection::open(old.path().join("old.db")).expect("opens");
    let clock = snapkeep::clock::SystemClock;
    let progress = Progress::new();
    with_live(&path, old.path(), &clock, &progress, &mut |pin| {
        // A writer goes on meanwhile; the state that is held stays.
        let all = compared(&repository, Version::Stored(&before), Version::Live(pin), true);
        expect(&x, &db, &all, "live");
        let other = Connection::open(&path).expect("opens");
        other.execute_batch("DELETE FROM person").expect("deleted");
        let again = compared(&repository, Version::Stored(&before), Version::Live(pin), true);
        assert_eq!(again.heard["person"], all.heard["person"]);
        Ok(())
    })
    .expect("compared");
}

#[test]
fn what_is_the_same_is_not_read() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("app.db");
    let db = Connection::open(&path).expect("opens");
    db.execute_batch(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, x TEXT, n INT); CREATE INDEX by_x ON t(x); CREATE TABLE u(k PRIMARY KEY, x) WITHOUT ROWID;
         WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM i WHERE n<60000) INSERT INTO t SELECT n, hex(randomblob(60)), n FROM i;
         INSERT INTO u SELECT x, n FROM t;",
    )
    .expect("created");
    let repository = new_repository(Arc::new(MemoryBackend::new()), None);
    let before = entry(&repository, dir.path());
    db.execute_batch("UPDATE t SET n=n+1 WHERE id IN (17, 30000, 59000)").expect("changed");
    let after = entry(&repository, dir.path());
    let all = compared(&repository, Version::Stored(&before), Version::Stored(&after), true);
    assert_eq!(all.heard["t"].gone.len(), 3);
    assert_eq!(all.tables.iter().map(|t| t.counts.changed).sum::<u64>(), 3);
    let size = after.content.size;
    println!("{} of {size} bytes were asked for", all.read);
    assert!(all.read < size / 50, "{} of {size}", all.read);
    let slow = compared(&repository, Version::Stored(&before), Version::Stored(&after), false);
    assert!(slow.read > size && slow.heard["t"] == all.heard["t"]);
}

#[test]
fn tables_come_go_and_get_columns() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("app.db");
    set_up(&path, "");
    let db = Connection::open(&path).expect("opens");
    edit(&db, &mut Random(5), 2000);
    let count = |table: &str| {
        db.query_row(&format!("SELECT count(*) FROM {table}"), [], |r| r.get::<_, i64>(0)).expect("n") as u64
    };
    let (hidden, people) = (count("hidden"), count("person"));
    let repository = new_repository(Arc::new(MemoryBackend::new()), None);
    let before = entry(&repository, dir.path());
    db.execute_batch(
        "ALTER TABLE person ADD COLUMN grade INTEGER DEFAULT '3'; UPDATE person SET grade=4 WHERE id=(SELECT min(id) FROM person);
         ALTER TABLE person ADD COLUMN more; DROP TABLE hidden; CREATE TABLE fresh(a); INSERT INTO fresh VALUES(1), (1), (NULL);
         ALTER TABLE long DROP COLUMN tail; DROP INDEX by_name; CREATE VIEW v AS SELECT 1;
         CREATE TRIGGER tr AFTER INSERT ON fresh BEGIN SELECT 1; END;",
    )
    .expect("changed");
    let after = entry(&repository, dir.path());
    for by_pages in [true, false] {
        let all = compared(&repository, Version::Stored(&before), Version::Stored(&after), by_pages);
        let of = |name: &str| all.tables.iter().find(|t| t.name == name).expect("told");
        assert_eq!(
            (of("person").counts.changed, of("person").counts.added),
            (1, 0),
            "{people}, {:?}",
            of("person")
        );
        assert_eq!((of("hidden").presence, of("hidden").counts.removed), (Presence::Before, hidden));
        assert_eq!((of("fresh").presence, of("fresh").counts.added), (Presence::After, 3));
        assert!(of("long").counts.is_empty() && of("keyed").counts.is_empty());
    }
    let reader = Arc::new(repository.reader().expect("a reader"));
    let progress = Progress::new();
    let pair = pair(&reader, Version::Stored(&before), Version::Stored(&after), &progress).expect("opened");
    let mut schema: Vec<_> = pair
        .schema()
        .iter()
        .map(|c| format!("{} {} {}{}", c.kind, c.name, c.before.is_some(), c.after.is_some()))
        .collect();
    schema.sort();
    let wanted = [
        "index by_name truefalse",
        "table fresh falsetrue",
        "table hidden truefalse",
        "table long truetrue",
        "table person truetrue",
        "trigger tr falsetrue",
        "view v falsetrue",
    ];
    assert_eq!(schema, wanted);
}

#[test]
fn diff_tells_of_databases_in_words_and_json() {
    let home = super::rows_sql::home_with("");
    let path = home.path("src/app.db");
    let db = Connection::open(&path).expect("opens");
    db.execute_batch(
        "UPDATE person SET name='other' WHERE id=7; DELETE FROM person WHERE id=8; INSERT INTO loose VALUES(7, x'00');
         PRAGMA foreign_keys=OFF; INSERT INTO child VALUES(99); CREATE INDEX more ON loose(b);",
    )
    .expect("changed");
    drop(db);
    home.good(&["backup", "src"]);
    let at = |snap: &str| format!("{snap}:{}", path.display());
    let words = home.good(&["diff", &at("latest~1"), &at("latest"), "--rows", "--orphans"]);
    for line in [
        "  +  index more",
        "  -  person  id=8  name=name 8  odd \"name=1.1428571428571428",
        "     now  name=other",
        "  +  loose  a=7  b=x'00'",
        "  table person: 0 added, 1 removed, 1 changed",
        "  table loose: 1 added, 0 removed, 0 changed",
        "  orphan: a row of child (row 3) leads to no row of parent",
    ] {
        assert!(words.lines().any(|l| l.starts_with(line)), "{line} in {words}");
    }
    assert!(!words.contains("keyed"), "{words}");
    // Of a tree only when asked for.
    let tree = home.good(&["diff", "latest~1", "latest"]);
    assert!(tree.contains("app.db") && !tree.contains("table person"), "{tree}");
    let json = home.good(&["diff", "latest~1", "latest", "--rows", "--json"]);
    let lines: Vec<Json> = json.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let kind = |line: &Json, word: &str| line["message_type"] == word;
    let rows: Vec<&Json> = lines.iter().filter(|line| kind(line, "row")).collect();
    let changed = rows.iter().find(|row| row["modifier"] == "M").expect("a changed row");
    assert_eq!((&changed["before"]["name"], &changed["after"]["name"]), (&"name 7".into(), &"other".into()));
    let database = lines.iter().find(|line| kind(line, "database")).expect("a sum");
    assert_eq!(database["sqlite"]["schema"][0]["name"], "more");
    let person = database["sqlite"]["tables"]
        .as_array()
        .expect("tables")
        .iter()
        .find(|t| t["name"] == "person")
        .expect("told");
    assert_eq!((&person["removed"], &person["changed"]), (&1.into(), &1.into()));
    assert!(kind(lines.last().expect("a line"), "statistics"));
    // Against what stands here now.
    let words = home.good(&["diff", "--live", &at("latest~1"), "--rows"]);
    assert!(words.contains("table person: 0 added, 1 removed, 1 changed"), "{words}");
    let words = home.good(&["diff", "--live", &at("latest")]);
    assert!(words.contains("the rows of all tables are the same"), "{words}");
    fs::write(&path, "no database any more").expect("written");
    let run = home.run(&["diff", "--live", &at("latest"), "--rows"]);
    assert_eq!(run.status.code(), Some(1), "{run:?}");
    assert!(text(&run.stderr).contains("app.db"), "{run:?}");
    let _ = Home::new();
}

/// A database as bytes.
struct Bare(Vec<u8>);

impl Bytes for Bare {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&mut self, at: u64, out: &mut [u8]) -> snapkeep::error::Result<()> {
        out.copy_from_slice(&self.0[at as usize..at as usize + out.len()]);
        Ok(())
    }
}

/// Compares two images by their pages; how many tables were told.
fn by_pages(a: &[u8], b: &[u8]) -> snapkeep::error::Result<usize> {
    let open = |bytes: &[u8]| Reading::new(open_bytes(Box::new(Bare(bytes.to_vec())))?, Arc::default());
    let pair = Pair::new(open(a)?, open(b)?)?;
    let all = |size: u32, pages: u32| {
        let mut set = PageSet::new(pages);
        let size = size as usize;
        for page in
            (0..pages as usize).filter(|n| a.get(n * size..(n + 1) * size) != b.get(n * size..(n + 1) * size))
        {
            set.insert(page as u32 + 1);
        }
        Ok(set)
    };
    let objects = (pair.before_objects.as_slice(), pair.after_objects.as_slice());
    let scopes = Scopes::new(Box::new(Bare(a.to_vec())), Box::new(Bare(b.to_vec())), objects, &all)?;
    let mut tables = 0;
    let scope = |x: &_, y: &_| scopes.as_ref().map_or(Ok(Scope::All), |scopes| scopes.of(x, y));
    pair.rows(&scope, true, &mut |telling| {
        tables += usize::from(matches!(telling, Telling::Table(_)));
        Ok(())
    })?;
    Dump::new(&pair.after, &mut std::io::sink())?.run(None)?;
    Ok(tables)
}

#[test]
fn damaged_databases_are_errors_and_nothing_worse() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("app.db");
    set_up(&path, "PRAGMA page_size=512; PRAGMA auto_vacuum=1;");
    let db = Connection::open(&path).expect("opens");
    let seed = std::env::var("SNAPKEEP_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(0xdead_beef_u64);
    println!("SNAPKEEP_SEED={seed}");
    let mut random = Random(seed);
    edit(&db, &mut random, 300);
    let good = fs::read(&path).expect("read");
    edit(&db, &mut random, 10);
    let later = fs::read(&path).expect("read");
    assert_eq!(by_pages(&good, &later).expect("compared"), 7);
    let (mut told, mut refused) = (0, 0);
    for round in 0..rounds(150, 20_000) {
        let mut bad = later.clone();
        for _ in 0..=random.below(4) {
            // Most of it at the beginnings of pages, where what they are is said.
            let page = random.below(bad.len() as u64 / 512) * 512;
            let at = page + if random.below(3) > 0 { random.below(24) } else { random.below(512) };
            bad[at as usize] = random.next() as u8;
        }
        if round % 10 == 9 {
            bad.truncate(random.below(bad.len() as u64) as usize / 512 * 512);
        }
        match by_pages(&good, &bad) {
            Ok(_) => told += 1,
            Err(e) => {
                refused += 1;
                assert!(!e.message().is_empty());
            }
        }
        let _ = by_pages(&bad, &good);
    }
    println!("{told} compared, {refused} refused");
    assert!(told > 0 && refused > 0);
}
