//! Databases restored over themselves: closed, left behind by a crash, open and being written to, of another layout; nobody who
//! has one open sees anything but the old state or the new one.

use crate::cli::{Home, text};
use crate::counters::count;
use crate::in_place::{code, of, safety};
use crate::sqlite_live::{Process, assert_exact, create, rounds, scribed};
use rusqlite::Connection;
use snapkeep::sqlite::place::Place;
use snapkeep::sqlite::replace::{Manner, Staged, Way, prepare};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const SUFFIXES: [&str; 3] = ["-wal", "-shm", "-journal"];

/// A repository beside a source with one database.
fn yard(mode: &str, page_size: u32) -> (Home, PathBuf) {
    let home = Home::new();
    home.good(&["init"]);
    let db = home.path("src/app.db");
    create(&db, mode, page_size);
    (home, db)
}

/// As many transactions as the hammer would do.
fn work(path: &Path, count: i64) {
    let db = Connection::open(path).expect("opens");
    db.busy_timeout(Duration::from_secs(20)).expect("set");
    for _ in 0..count {
        db.execute_batch(
            "BEGIN IMMEDIATE; UPDATE account SET balance=balance-1 WHERE id=1;
             UPDATE account SET balance=balance+1 WHERE id=7; UPDATE counter SET n=n+1;
             INSERT INTO log SELECT n, hex(randomblob(600)) FROM counter; COMMIT;",
        )
        .expect("a transaction");
    }
}

/// Transactions in the database, which must be exact.
fn state(path: &Path, scratch: &Path) -> i64 {
    let db = Connection::open(path).expect("opens");
    db.busy_timeout(Duration::from_secs(20)).expect("set");
    let image = scratch.join("state.db");
    let _ = fs::remove_file(&image);
    db.execute("VACUUM INTO ?1", [image.to_string_lossy()]).expect("copied");
    assert_exact(&fs::read(&image).expect("read"), scratch, &path.display().to_string())
}

fn there(path: &Path, suffix: &str) -> bool {
    path.with_file_name(format!("{}{suffix}", path.file_name().expect("a name").display())).exists()
}

fn in_place(home: &Home, snapshot: &str) -> Vec<String> {
    let words = ["restore", &of(home, snapshot, "src/app.db"), "--in-place", "--yes"];
    words.iter().map(ToString::to_string).collect()
}

#[test]
fn a_closed_database_goes_back_and_forth() {
    for (mode, page_size) in [("wal", 4096), ("delete", 1024), ("truncate", 65_536), ("persist", 512)] {
        let (home, db) = yard(mode, page_size);
        work(&db, 5);
        home.good(&["backup", "src"]);
        let bytes = fs::read(&db).expect("read");
        work(&db, 7);
        assert_eq!(state(&db, &home.path("")), 12);
        let story = home.good(&in_place(&home, "latest"));
        assert!(
            !SUFFIXES.iter().any(|suffix| *suffix != "-journal" && there(&db, suffix)),
            "{mode}: {story}"
        );
        assert!(mode != "wal" || fs::read(&db).expect("read") == bytes, "the very file");
        assert_eq!(state(&db, &home.path("")), 5, "{mode}: {story}");
        let again = home.good(&in_place(&home, "latest"));
        assert!(again.contains("nothing to do"), "{mode}: {again}");
        home.good(&["undo", "--yes"]);
        assert_eq!(state(&db, &home.path("")), 12, "{mode}");
        home.good(&["undo", "--yes"]);
        assert_eq!(state(&db, &home.path("")), 5, "{mode}");
    }
}

#[test]
fn what_a_crash_left_beside_a_database_is_not_played_back_into_the_new_one() {
    for mode in ["wal", "delete", "persist"] {
        let (home, db) = yard(mode, 4096);
        work(&db, 3);
        home.good(&["backup", "src"]);
        let writer = Process::start("hammer", &db, 0);
        let seen = Connection::open(&db).expect("opens");
        while seen.query_row("SELECT n FROM counter", [], |r| r.get::<_, i64>(0)).unwrap_or(0) < 50 {
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(seen);
        writer.kill();
        let left: Vec<&&str> = SUFFIXES.iter().filter(|suffix| there(&db, suffix)).collect();
        let story = home.good(&in_place(&home, "latest"));
        assert_eq!(state(&db, &home.path("")), 3, "{mode}, left {left:?}: {story}");
        home.good(&["undo", "--yes"]);
        assert!(state(&db, &home.path("")) >= 50, "{mode}");
        // A log of another database in the way, and no database.
        work(&db, 2);
        fs::remove_file(&db).expect("removed");
        let other = home.path("src/other.db");
        create(&other, "wal", 4096);
        let writer = Process::start("hammer", &other, 0);
        std::thread::sleep(Duration::from_millis(50));
        writer.kill();
        fs::rename(home.path("src/other.db-wal"), home.path("src/app.db-wal")).expect("moved");
        let story = home.good(&in_place(&home, "latest"));
        assert_eq!(state(&db, &home.path("")), 3, "{mode}: {story}");
    }
}

#[test]
fn a_database_that_is_open_changes_in_one_step() {
    for (mode, page_size) in [("wal", 4096), ("delete", 4096), ("wal", 512), ("truncate", 65_536)] {
        let (home, db) = yard(mode, page_size);
        work(&db, 5);
        home.good(&["backup", "src"]);
        // It grows, and its schema is another.
        work(&db, 200);
        let change = "ALTER TABLE account ADD COLUMN extra TEXT DEFAULT 'x'; CREATE TABLE more(a, b);
             INSERT INTO more SELECT id, hex(randomblob(200)) FROM account; DROP INDEX by_balance;";
        Connection::open(&db).expect("opens").execute_batch(change).expect("changed");
        let mut open = Process::start("shell", &db, 0);
        assert_eq!(open.must("SELECT count(*) FROM more"), "Integer(500)");
        let story = home.good(&in_place(&home, "latest"));
        assert!(story.contains("changed page by page"), "{mode}: {story}");
        // Smaller than before: the one that has it open sees the old schema again, and can write.
        assert!(open.run("SELECT count(*) FROM more").contains("no such table"), "{mode}");
        assert_eq!(open.must("SELECT n FROM counter"), "Integer(5)");
        assert_eq!(open.must("PRAGMA integrity_check"), "Text(\"ok\")");
        open.must("BEGIN IMMEDIATE");
        open.must("UPDATE counter SET n=n+1");
        open.must("INSERT INTO log SELECT n, 'late' FROM counter");
        open.must("COMMIT");
        assert_eq!(state(&db, &home.path("")), 6, "{mode}");
        // Larger than before.
        home.good(&["undo", "--yes", &safety(&story)]);
        assert_eq!(open.must("SELECT n FROM counter"), "Integer(205)");
        assert_eq!(
            open.must("SELECT count(*), min(extra) FROM more, account"),
            "Integer(250000),Text(\"x\")"
        );
        assert_eq!(open.must("PRAGMA integrity_check"), "Text(\"ok\")");
        home.good(&["undo", "--yes"]);
        assert_eq!(open.must("SELECT n FROM counter"), "Integer(6)");
        drop(open);
        assert_eq!(state(&db, &home.path("")), 6, "{mode}");
    }
}

#[test]
fn a_reader_keeps_its_state_and_a_writer_goes_on() {
    let (home, db) = yard("wal", 4096);
    work(&db, 20);
    home.good(&["backup", "src"]);
    work(&db, 1000);
    let mut reader = Process::start("shell", &db, 0);
    reader.must("BEGIN");
    assert_eq!(reader.must("SELECT n FROM counter"), "Integer(1020)");
    let mut writer = Process::start("hammer", &db, 2000);
    let run = home.run(&in_place(&home, "latest"));
    assert!(run.status.success(), "{run:?}");
    assert!(text(&run.stderr).contains("holds that, too"), "a second safety snapshot is told of: {run:?}");
    assert_eq!(reader.must("SELECT n FROM counter"), "Integer(1020)");
    assert_eq!(reader.must("SELECT sum(balance) FROM account"), "Integer(500000)");
    reader.must("COMMIT");
    let now = state(&db, &home.path(""));
    assert!((20..1020).contains(&now), "{now}");
    std::thread::sleep(Duration::from_millis(50));
    assert!(state(&db, &home.path("")) > now, "the writer goes on");
    assert!(writer.lives());
    drop(writer);
    drop(reader);
    state(&db, &home.path(""));
}

/// The numbers of transactions that a `scribe` saw committed, in the order in which it did.
fn committed(db: &Path) -> Vec<i64> {
    let book = fs::read_to_string(scribed(db)).unwrap_or_default();
    let whole = book.rfind('\n').map_or("", |end| &book[..end]);
    whole.lines().map(|line| line.parse().expect("a number")).collect()
}

/// Waits until the scribe has got so much done since.
fn goes_on(db: &Path, more: usize) {
    let before = committed(db).len();
    while committed(db).len() < before + more {
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn whatever_is_committed_before_the_exchange_comes_back_with_undo() {
    for round in 0..rounds(2, 40) {
        for mode in ["wal", "delete"] {
            let what = format!("{mode}, round {round}");
            let (home, db) = yard(mode, 4096);
            work(&db, 5);
            home.good(&["backup", "src"]);
            work(&db, 30);
            let mut writer = Process::start("scribe", &db, 0);
            goes_on(&db, 20);
            home.good(&in_place(&home, "latest"));
            goes_on(&db, 20);
            home.good(&["undo", "--yes"]);
            goes_on(&db, 20);
            assert!(writer.lives(), "{what}");
            writer.kill();
            let seen = committed(&db);
            // The restore goes back to 5, the undo to the last transaction before the restore: none is missing.
            let turns: Vec<(i64, i64)> =
                seen.windows(2).map(|pair| (pair[0], pair[1])).filter(|(a, b)| *b != a + 1).collect();
            let [(last, 6), (late, next)] = turns[..] else { panic!("{what}: {turns:?}") };
            assert_eq!(next, last + 1, "{what}: {turns:?}");
            // And the undo of the undo to the last one before that.
            home.good(&["undo", "--yes"]);
            assert_eq!(state(&db, &home.path("")), late, "{what}: {turns:?}");
            home.good(&["check", "--read-data"]);
        }
    }
    count("T18 restores under a writer, and taken back", 4 * rounds(2, 40) as u64, "0 commits lost");
}

#[test]
fn tables_put_back_beside_a_writer_lose_nothing_that_undo_does_not_bring() {
    let (home, db) = yard("wal", 4096);
    work(&db, 5);
    home.good(&["backup", "src"]);
    work(&db, 30);
    let writer = Process::start("scribe", &db, 0);
    goes_on(&db, 20);
    let database = of(&home, "latest", "src/app.db");
    home.good(&["restore", &database, "--table", "counter", "--table", "log", "--replace", "--yes"]);
    goes_on(&db, 20);
    writer.kill();
    let seen = committed(&db);
    let turn = seen.windows(2).find(|pair| pair[1] != pair[0] + 1).expect("the tables went back");
    assert_eq!(turn[1], 6, "{turn:?}");
    home.good(&["undo", "--yes"]);
    assert_eq!(state(&db, &home.path("")), turn[0]);
}

#[test]
fn another_layout_is_refused_while_somebody_has_it_open() {
    for mode in ["wal", "delete"] {
        let (home, db) = yard(mode, 1024);
        work(&db, 4);
        home.good(&["backup", "src"]);
        let all = [db.clone(), home.path("src/app.db-wal"), home.path("src/app.db-shm")];
        all.iter().for_each(|path| drop(fs::remove_file(path)));
        create(&db, mode, 4096);
        work(&db, 9);
        let mut open = Process::start("shell", &db, 0);
        assert_eq!(open.must("SELECT n FROM counter"), "Integer(9)");
        let run = home.run(&in_place(&home, "latest"));
        assert_eq!(code(&run), 1, "{mode}: {run:?}");
        let told = text(&run.stderr);
        assert!(told.contains("app.db: process ") && told.contains("another page size"), "{told}");
        assert!(told.contains("--target"), "{told}");
        assert_eq!(open.must("SELECT n FROM counter"), "Integer(9)");
        drop(open);
        home.good(&in_place(&home, "latest"));
        assert_eq!(state(&db, &home.path("")), 4, "{mode}");
        let size: i64 = Connection::open(&db)
            .expect("opens")
            .query_row("PRAGMA page_size", [], |r| r.get(0))
            .expect("asked");
        assert_eq!(size, 1024);
    }
}

#[test]
fn a_broken_database_makes_way_for_a_sound_one() {
    for mode in ["wal", "delete"] {
        let (home, db) = yard(mode, 4096);
        work(&db, 4);
        home.good(&["backup", "src"]);
        work(&db, 4);
        let mut bytes = fs::read(&db).expect("read");
        // The schema cannot be read.
        bytes[100..4096].fill(0xa5);
        fs::write(&db, &bytes).expect("written");
        let story = home.good(&in_place(&home, "latest"));
        assert_eq!(state(&db, &home.path("")), 4, "{mode}: {story}");
        home.good(&["undo", "--yes"]);
        assert_eq!(fs::read(&db).expect("read")[100..4096], bytes[100..4096]);
        // Not even a header.
        fs::write(&db, "no database at all").expect("written");
        home.good(&in_place(&home, "latest"));
        assert_eq!(state(&db, &home.path("")), 4, "{mode}");
    }
}

#[test]
fn a_database_the_snapshot_does_not_have_goes_only_when_nobody_uses_it() {
    let (home, _) = yard("wal", 4096);
    home.good(&["backup", "src"]);
    let other = home.path("src/sub/more/other.db");
    fs::create_dir(home.path("src/sub/more")).expect("made");
    create(&other, "wal", 4096);
    work(&other, 3);
    let mut open = Process::start("shell", &other, 0);
    open.must("SELECT n FROM counter");
    let words = ["restore", &of(&home, "latest", "src"), "--in-place", "--yes", "--delete"];
    let run = home.run(&words);
    assert!(code(&run) == 1 && text(&run.stderr).contains("in use is not deleted"), "{run:?}");
    assert_eq!(open.must("SELECT n FROM counter"), "Integer(3)");
    work(&other, 1);
    drop(open);
    home.good(&words);
    assert!(!home.path("src/sub/more").exists());
    home.good(&["undo", "--yes"]);
    assert_eq!(state(&other, &home.path("")), 4);
    // The other way: what the restore brought goes again.
    fs::remove_dir_all(home.path("src")).expect("removed");
    home.good(&["restore", "latest", "--in-place", "--yes"]);
    work(&home.path("src/app.db"), 1);
    home.good(&["undo", "--yes"]);
    assert!(!home.path("src").exists());
}

#[test]
fn auto_vacuum_and_reserved_bytes_survive() {
    for vacuum in ["FULL", "INCREMENTAL"] {
        let home = Home::new();
        home.good(&["init"]);
        let db = home.path("src/app.db");
        Connection::open(&db)
            .expect("opens")
            .execute_batch(&format!("PRAGMA auto_vacuum={vacuum}; CREATE TABLE t(x);"))
            .expect("made");
        create_in(&db);
        work(&db, 100);
        home.good(&["backup", "src"]);
        let cut = "DELETE FROM log; UPDATE counter SET n=0; PRAGMA incremental_vacuum;";
        Connection::open(&db).expect("opens").execute_batch(cut).expect("cut");
        let mut open = Process::start("shell", &db, 0);
        assert_eq!(open.must("SELECT n FROM counter"), "Integer(0)");
        let story = home.good(&in_place(&home, "latest"));
        assert_eq!(open.must("SELECT n FROM counter"), "Integer(100)", "{vacuum}: {story}");
        open.must("DELETE FROM log WHERE n<90");
        assert_eq!(open.must("PRAGMA integrity_check"), "Text(\"ok\")");
        home.good(&["undo", "--yes"]);
        assert_eq!(open.must("SELECT n FROM counter"), "Integer(0)", "{vacuum}");
        assert_eq!(open.must("PRAGMA integrity_check"), "Text(\"ok\")");
    }
}

/// The tables of `create` in a database that is there.
fn create_in(path: &Path) {
    let db = Connection::open(path).expect("opens");
    db.execute_batch(
        "CREATE TABLE account(id INTEGER PRIMARY KEY, balance INTEGER NOT NULL, note TEXT);
         CREATE TABLE counter(n INTEGER NOT NULL); INSERT INTO counter VALUES (0);
         CREATE TABLE log(n INTEGER PRIMARY KEY, text TEXT); CREATE INDEX by_balance ON account(balance);
         WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM i WHERE n<500)
         INSERT INTO account SELECT n, 1000, hex(randomblob(40)) FROM i;",
    )
    .expect("created");
}

/// Pages are exchanged between states that have nothing in common but their layout, back and forth, while a program that has
/// read all of the one goes on with the other.
#[test]
fn any_state_can_be_exchanged_for_any_other() {
    let mut random = crate::yard::seed("exchanges", 71);
    for mode in ["wal", "delete"] {
        let (home, db) = yard(mode, 1024);
        let states: Vec<(PathBuf, String)> = (0..6).map(|n| saved(&home, &db, n, &mut random)).collect();
        let mut open = Process::start("shell", &db, 0);
        open.must(EVERYTHING);
        let keep_going = || Ok(());
        let before = || Ok(());
        let manner = Manner { wait: Duration::from_secs(20), keep_going: &keep_going, before: &before };
        for round in 0..crate::sqlite_live::rounds(30, 400) {
            let (file, wanted) = &states[random.below(states.len())];
            let mut staged = Staged(fs::File::open(file).expect("opens"));
            let place = Place::at(&db).expect("a place");
            let way = prepare(&place, &mut staged, &manner).unwrap_or_else(|e| panic!("round {round}: {e}"));
            assert!(matches!(way, Way::Exchanged(_)), "round {round}");
            assert_eq!(open.must("PRAGMA integrity_check"), "Text(\"ok\")", "{mode}, round {round}");
            assert_eq!(&open.must(EVERYTHING), wanted, "{mode}, round {round}");
            if mode == "delete" {
                let len = |path: &Path| fs::metadata(path).expect("there").len();
                assert_eq!(len(&db), len(file), "round {round}: the file has the new length");
            }
            // It uses what it understood of this state, and leaves its mark in it.
            open.must("CREATE TABLE mark(x)");
            open.must("INSERT INTO mark VALUES (hex(randomblob(900)))");
            open.must("DELETE FROM account WHERE id%7=3");
            if random.below(3) == 0 {
                open.must("VACUUM");
            }
        }
    }
}

const EVERYTHING: &str =
    "SELECT (SELECT group_concat(type||name||sql) FROM sqlite_schema), (SELECT count(*) FROM account),
     (SELECT sum(length(note)) FROM account), (SELECT sum(balance) FROM account NOT INDEXED)";

/// Changes the database at random and keeps a copy of what came of it.
fn saved(home: &Home, db: &Path, number: usize, random: &mut crate::shelf::Random) -> (PathBuf, String) {
    let base = Connection::open(db).expect("opens");
    for _ in 0..random.below(12) + 1 {
        let n = random.below(40);
        let sql = match random.below(6) {
            0 => format!(
                "CREATE TABLE IF NOT EXISTS t{n}(a, b, c); INSERT INTO t{n} SELECT id, note, note FROM account;"
            ),
            1 => format!("DROP TABLE IF EXISTS t{n};"),
            2 => format!("CREATE INDEX IF NOT EXISTS i{n} ON account(note, id);"),
            3 => format!("DROP INDEX IF EXISTS i{n};"),
            4 => format!("UPDATE account SET note=hex(randomblob({n}+1)) WHERE id%3=1;"),
            _ => format!("CREATE VIEW IF NOT EXISTS v{n} AS SELECT * FROM account WHERE id>{n};"),
        };
        base.execute_batch(&sql).expect("changed");
    }
    let file = home.path(&format!("state-{number}.db"));
    base.execute("VACUUM INTO ?1", [file.to_string_lossy()]).expect("saved");
    drop(base);
    let mut shell = Process::start("shell", &file, 0);
    let wanted = shell.must(EVERYTHING);
    drop(shell);
    (file, wanted)
}
