//! Databases of every shape: page sizes, reserved bytes, auto_vacuum, empty ones, encrypted and damaged ones; what is
//! recorded about them, what is left out beside them, and that what has not changed is not read again.

use super::backup::{new_repository, options};
use super::sqlite_live::{Process, assert_exact, create, files, rounds, told};
use rusqlite::Connection;
use snapkeep::backend::memory::MemoryBackend;
use snapkeep::backup::Options;
use snapkeep::format::entry::Flags;
use snapkeep::format::snapshot::DatabaseFacts;
use snapkeep::repository::Repository;
use snapkeep::source::filter::Patterns;
use snapkeep::sqlite::check::Depth;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

fn with(change: impl FnOnce(&mut Options)) -> Options {
    let mut options = options();
    change(&mut options);
    options
}

fn plain_repository() -> Arc<Repository> {
    new_repository(Arc::new(MemoryBackend::new()), None)
}

/// Lets files become old enough that their times say something.
fn settle() {
    std::thread::sleep(Duration::from_millis(250));
}

fn facts(outcome: &snapkeep::backup::Outcome) -> BTreeMap<String, DatabaseFacts> {
    let all = outcome.databases.iter().flat_map(|d| d.databases.iter());
    all.map(|d| (d.path.rsplit('/').next().expect("a name").to_owned(), d.clone())).collect()
}

#[test]
fn sqlite_is_new_enough_and_built_as_it_must_be() {
    // Before 3.51.3 two connections that checkpoint at once may corrupt a database.
    assert!(rusqlite::version_number() >= 3_051_003, "SQLite {}", rusqlite::version());
    assert!(snapkeep::sqlite::ffi::can_pin(), "built with SQLITE_ENABLE_SNAPSHOT");
    assert!(snapkeep::sqlite::ffi::can_write_pages(), "built with SQLITE_ENABLE_DBPAGE_VTAB");
}

#[test]
fn every_page_size_and_mode_comes_back_byte_for_byte() {
    let dir = tempfile::tempdir().expect("tempdir");
    let judge = tempfile::tempdir().expect("tempdir");
    let mut open = Vec::new();
    for page_size in [512u32, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536] {
        for mode in ["wal", "delete", "live"] {
            let path = dir.path().join(format!("{mode}-{page_size}.db"));
            create(&path, if mode == "live" { "wal" } else { mode }, page_size);
            if mode == "live" {
                let mut shell = Process::start("shell", &path, 0);
                shell.must("PRAGMA wal_autocheckpoint=0");
                shell.must("UPDATE account SET note=hex(randomblob(50)) WHERE id % 3 = 0");
                shell.must("INSERT INTO log SELECT id, note FROM account");
                shell.must("UPDATE counter SET n=(SELECT count(*) FROM log)");
                open.push((path, shell));
            }
        }
    }
    settle();
    let repository = plain_repository();
    let (outcome, problems, _) = told(&repository, dir.path(), &options());
    assert_eq!(problems, [""; 0]);
    let (stored, facts) = (files(&repository, &outcome), facts(&outcome));
    assert_eq!(stored.len(), 24, "nothing but databases: {:?}", stored.keys());
    for (path, mut shell) in open {
        // The application's own checkpoint makes the main file what we read under the pin.
        assert!(
            shell.must("PRAGMA wal_checkpoint(TRUNCATE)").starts_with("Integer(0)"),
            "nobody holds it any more"
        );
        drop(shell);
        let _ = path;
    }
    for (name, (entry, bytes)) in &stored {
        assert!(fs::read(dir.path().join(name)).expect("read") == *bytes, "{name}: byte for byte");
        assert_exact(bytes, judge.path(), name);
        let facts = &facts[name];
        let size: u32 = name.split(['-', '.']).nth(1).expect("a size").parse().expect("a number");
        assert_eq!(
            (facts.page_size, u64::from(facts.pages) * u64::from(size)),
            (size, entry.content.size),
            "{name}"
        );
        assert_eq!(facts.capture, if name.starts_with("live") { "log" } else { "still" }, "{name}");
        assert_eq!(facts.journal, if name.starts_with("delete") { "rollback" } else { "wal" }, "{name}");
        assert_eq!(facts.check.result, "ok", "{name}");
    }
}

#[test]
fn unusual_databases_come_back_byte_for_byte() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = |name: &str| dir.path().join(name);
    for (name, pragma) in
        [("full.db", "auto_vacuum=1"), ("steps.db", "auto_vacuum=2"), ("utf16.db", "encoding='UTF-16le'")]
    {
        let db = Connection::open(path(name)).expect("opens");
        db.execute_batch(&format!("PRAGMA {pragma}; CREATE TABLE t(x); CREATE INDEX i ON t(x);"))
            .expect("created");
        for n in 0..300 {
            db.execute("INSERT INTO t VALUES (?)", [format!("{n:0300}")]).expect("inserted");
        }
        db.execute_batch("DELETE FROM t WHERE rowid % 3 = 0").expect("deleted");
    }
    reserved(&path("reserved.db"));
    Connection::open(path("empty.db"))
        .expect("opens")
        .execute_batch("PRAGMA user_version=7")
        .expect("one page");
    fs::write(path("zero.db"), "").expect("written");
    Connection::open(path("without-a-name"))
        .expect("opens")
        .execute_batch("CREATE TABLE t(x)")
        .expect("created");
    fs::write(path("not-one.db"), "SQLite format 2, or so they say").expect("written");
    settle();
    let repository = plain_repository();
    let (outcome, problems, warnings) = told(&repository, dir.path(), &options());
    assert_eq!((problems, warnings), (vec![], vec![]));
    let stored = files(&repository, &outcome);
    assert_eq!(stored.len(), 8);
    for (name, (entry, bytes)) in &stored {
        assert!(fs::read(path(name)).expect("read") == *bytes, "{name}");
        assert!(!entry.flags.has(Flags::UNVERIFIED), "{name}");
    }
    let facts = facts(&outcome);
    let captured: Vec<_> = facts.keys().map(String::as_str).collect();
    assert_eq!(captured, ["empty.db", "full.db", "reserved.db", "steps.db", "utf16.db", "without-a-name"]);
    assert_eq!((facts["empty.db"].user_version, facts["empty.db"].pages), (7, 1));
    assert_eq!(facts["full.db"].tables, BTreeMap::from([("t".to_owned(), 200)]));
    assert!(facts.values().all(|f| f.check.result == "ok" && f.schema.len() == 32));
    assert_eq!(facts["full.db"].schema, facts["steps.db"].schema, "the schema, not the rows");
    assert_ne!(facts["full.db"].schema, facts["empty.db"].schema);
}

/// A database that keeps bytes at the end of each page free, as encryption extensions do.
fn reserved(path: &Path) {
    let db = Connection::open(path).expect("opens");
    db.execute_batch("PRAGMA page_size=4096; PRAGMA user_version=1;").expect("one page");
    drop(db);
    let file = fs::File::options().write(true).open(path).expect("opens");
    file.write_all_at(&[64], 20).expect("written");
    file.write_all_at(&(4096u16 - 64).to_be_bytes(), 105).expect("written");
    drop(file);
    let db = Connection::open(path).expect("opens");
    db.execute_batch(
        "CREATE TABLE t(x); INSERT INTO t SELECT hex(randomblob(900)) FROM (VALUES (1),(2),(3),(4),(5),(6));",
    )
    .expect("created");
    assert_eq!(db.query_row("PRAGMA integrity_check", [], |r| r.get::<_, String>(0)).expect("checked"), "ok");
}

#[test]
fn a_file_that_is_empty_but_for_its_log_is_captured_from_the_log() {
    let dir = tempfile::tempdir().expect("tempdir");
    let judge = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("app.db");
    create(&path, "wal", 4096);
    let mut shell = Process::start("shell", &path, 0);
    shell.must("PRAGMA wal_autocheckpoint=0");
    // Every page goes through the log.
    shell.must("VACUUM");
    shell.kill();
    fs::remove_file(dir.path().join("app.db-shm")).expect("removed");
    fs::write(&path, "").expect("emptied");
    settle();
    let repository = plain_repository();
    let (outcome, problems, _) = told(&repository, dir.path(), &options());
    assert_eq!(problems, [""; 0]);
    let stored = files(&repository, &outcome);
    assert_eq!(stored.keys().collect::<Vec<_>>(), ["app.db"]);
    assert_exact(&stored["app.db"].1, judge.path(), "from the log");
    assert!(dir.path().join("app.db-wal").exists(), "SQLite itself would have deleted it");
}

#[test]
fn what_sqlite_cannot_read_is_stored_as_files_with_everything_beside_it() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = |name: &str| dir.path().join(name);
    // Encrypted: no header, but a log.
    create(&path("model.db"), "wal", 4096);
    let mut shell = Process::start("shell", &path("model.db"), 0);
    shell.must("INSERT INTO log VALUES (1, 'x')");
    let log = fs::read(path("model.db-wal")).expect("a log");
    drop(shell);
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(path(&format!("model.db{suffix}")));
    }
    let noise: Vec<u8> = (0..8192u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    fs::write(path("secret.db"), &noise).expect("written");
    fs::write(path("secret.db-wal"), &log).expect("written");
    // A header that no SQLite accepts, and a file cut short, with journals that belong to them.
    let mut broken = b"SQLite format 3\0".to_vec();
    broken.resize(4096, 0xee);
    fs::write(path("broken.db"), &broken).expect("written");
    fs::write(path("broken.db-journal"), "precious").expect("written");
    create(&path("short.db"), "delete", 4096);
    let whole = fs::read(path("short.db")).expect("read");
    fs::write(path("short.db"), &whole[..whole.len() / 2]).expect("written");
    // Only looks as if it belonged to a database.
    fs::write(path("notes"), "text").expect("written");
    fs::write(path("notes-journal"), "more text").expect("written");
    settle();
    let repository = plain_repository();
    let (outcome, problems, warnings) = told(&repository, dir.path(), &options());
    assert_eq!(problems, [""; 0]);
    let stored = files(&repository, &outcome);
    let names: Vec<_> = stored.keys().map(String::as_str).collect();
    let all = [
        "broken.db",
        "broken.db-journal",
        "notes",
        "notes-journal",
        "secret.db",
        "secret.db-wal",
        "short.db",
    ];
    assert_eq!(names, all);
    for (name, (entry, bytes)) in &stored {
        assert!(fs::read(path(name)).expect("read") == *bytes, "{name}");
        let flagged = ["broken.db", "secret.db", "short.db"].contains(&name.as_str());
        assert_eq!(entry.flags.has(Flags::UNVERIFIED), flagged, "{name}");
        assert_eq!(warnings.iter().any(|w| w.contains(&format!("{name}:"))), flagged, "{name}: {warnings:?}");
    }
    assert_eq!(outcome.summary.unverified, 3);
    // The next backup comes to the same.
    let (outcome, problems, _) = told(&repository, dir.path(), &options());
    assert_eq!((problems.len(), outcome.summary.unverified), (0, 3));
    assert_eq!(files(&repository, &outcome).keys().collect::<Vec<_>>(), all);
}

#[test]
fn a_damaged_database_is_stored_flagged_and_reported() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("app.db");
    create(&path, "delete", 4096);
    let db = Connection::open(&path).expect("opens");
    let root: i64 = db
        .query_row("SELECT rootpage FROM sqlite_schema WHERE name='by_balance'", [], |r| r.get(0))
        .expect("a page");
    drop(db);
    let file = fs::File::options().write(true).open(&path).expect("opens");
    file.write_all_at(&[0xa5; 64], root as u64 * 4096 - 64).expect("damaged");
    drop(file);
    settle();
    let repository = plain_repository();
    for _ in 0..2 {
        let (outcome, problems, _) = told(&repository, dir.path(), &options());
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains("app.db") && problems[0].contains("damaged"), "{problems:?}");
        let stored = files(&repository, &outcome);
        assert!(stored["app.db"].1 == fs::read(&path).expect("read"), "stored as it is");
        assert!(stored["app.db"].0.flags.has(Flags::UNVERIFIED));
        let facts = &facts(&outcome)["app.db"];
        assert_eq!(facts.check.result, "failed");
        assert!(!facts.check.messages.is_empty());
    }
    // What is known to be bad stays so, asked or not, as long as it is the same.
    let off = with(|o| o.sqlite.check = Some(Depth::Off));
    let (outcome, ..) = told(&repository, dir.path(), &off);
    assert_eq!(facts(&outcome)["app.db"].check.result, "failed");
    let (outcome, problems, _) = told(&plain_repository(), dir.path(), &off);
    assert_eq!((facts(&outcome)["app.db"].check.result.as_str(), problems.len()), ("unknown", 0));
}

#[test]
fn a_database_that_needs_what_we_do_not_have_is_captured_and_not_called_good() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("app.db");
    let db = Connection::open(&path).expect("opens");
    db.execute_batch("CREATE TABLE t(x); CREATE INDEX i ON t(x); INSERT INTO t VALUES ('1');")
        .expect("created");
    db.execute_batch(
        "PRAGMA writable_schema=ON;
         UPDATE sqlite_schema SET sql='CREATE INDEX i ON t(x COLLATE their_own)' WHERE name='i';",
    )
    .expect("changed");
    drop(db);
    settle();
    let repository = plain_repository();
    let (outcome, problems, warnings) = told(&repository, dir.path(), &options());
    assert_eq!(problems, [""; 0]);
    assert!(warnings.iter().any(|w| w.contains("their_own")), "{warnings:?}");
    assert_eq!(facts(&outcome)["app.db"].check.result, "unknown");
    assert!(!files(&repository, &outcome)["app.db"].0.flags.has(Flags::UNVERIFIED));
}

#[test]
fn orphans_are_counted() {
    let dir = tempfile::tempdir().expect("tempdir");
    let db = Connection::open(dir.path().join("app.db")).expect("opens");
    db.execute_batch(
        "PRAGMA foreign_keys=OFF; CREATE TABLE a(id INTEGER PRIMARY KEY); CREATE TABLE b(a REFERENCES a);
         INSERT INTO a VALUES (1); INSERT INTO b VALUES (1), (2), (3);",
    )
    .expect("created");
    drop(db);
    let (outcome, problems, _) = told(&plain_repository(), dir.path(), &options());
    assert_eq!(problems, [""; 0]);
    let facts = &facts(&outcome)["app.db"];
    assert_eq!((facts.foreign_key_violations, facts.check.result.as_str()), (Some(2), "ok"));
}

#[test]
fn off_and_plain_store_files_as_they_lie() {
    let dir = tempfile::tempdir().expect("tempdir");
    for name in ["one.db", "two.db"] {
        create(&dir.path().join(name), "wal", 4096);
    }
    let _open: Vec<_> = ["one.db", "two.db"]
        .map(|name| {
            let mut shell = Process::start("shell", &dir.path().join(name), 0);
            shell.must("INSERT INTO log VALUES (1, 'x')");
            shell
        })
        .into();
    let repository = plain_repository();
    let (outcome, _, warnings) = told(&repository, dir.path(), &with(|o| o.sqlite.capture = false));
    let off = files(&repository, &outcome);
    assert_eq!(
        off.keys().collect::<Vec<_>>(),
        ["one.db", "one.db-shm", "one.db-wal", "two.db", "two.db-shm", "two.db-wal"]
    );
    assert_eq!((outcome.summary.unverified, warnings.len(), outcome.databases.is_none()), (2, 2, true));
    let patterns = Patterns::new("sqlite-plain", &["two.db".to_owned()], &[]).expect("a pattern");
    let (outcome, ..) = told(&repository, dir.path(), &with(|o| o.sqlite.plain = Some(patterns)));
    let some = files(&repository, &outcome);
    assert_eq!(some.keys().collect::<Vec<_>>(), ["one.db", "two.db", "two.db-shm", "two.db-wal"]);
    assert!(!some["one.db"].0.flags.has(Flags::UNVERIFIED) && some["two.db"].0.flags.has(Flags::UNVERIFIED));
    // Back to capturing: what was stored as a file serves as the version before.
    let (outcome, problems, _) = told(&repository, dir.path(), &options());
    assert_eq!((problems.len(), files(&repository, &outcome).len()), (0, 2));
}

#[test]
fn what_has_not_changed_is_not_read_again() {
    let dir = tempfile::tempdir().expect("tempdir");
    let paths = ["log.db", "closed.db", "journal.db"].map(|name| dir.path().join(name));
    create(&paths[0], "wal", 4096);
    create(&paths[1], "wal", 4096);
    create(&paths[2], "delete", 4096);
    let mut shell = Process::start("shell", &paths[0], 0);
    shell.must("INSERT INTO log VALUES (1, 'x')");
    settle();
    let repository = plain_repository();
    let (first, ..) = told(&repository, dir.path(), &options());
    settle();
    let (second, problems, _) = told(&repository, dir.path(), &options());
    assert_eq!(problems, [""; 0]);
    let (one, two) = (facts(&first), facts(&second));
    for name in ["log.db", "closed.db", "journal.db"] {
        assert_eq!(one[name].check.time, two[name].check.time, "{name} was not checked again");
        assert_ne!(one[name].pinned, two[name].pinned, "{name} was looked at");
    }
    assert_eq!((second.summary.data_blobs, second.summary.files_unmodified), (0, 3));
    // Copied back into the main file: its times move, its state does not.
    shell.must("PRAGMA wal_checkpoint(PASSIVE)");
    let (third, ..) = told(&repository, dir.path(), &options());
    assert_eq!(facts(&third)["log.db"].check.time, one["log.db"].check.time);
    // One row more, and it is another state.
    shell.must("INSERT INTO log VALUES (2, 'y')");
    let db = Connection::open(&paths[2]).expect("opens");
    db.execute_batch("INSERT INTO log VALUES (2, 'y')").expect("inserted");
    drop(db);
    let (fourth, ..) = told(&repository, dir.path(), &options());
    let four = facts(&fourth);
    assert_eq!((four["log.db"].tables["log"], four["journal.db"].tables["log"]), (2, 1));
    assert_eq!(fourth.summary.files_changed, 2);
    // A check that was not as thorough is made up for.
    let (quick, ..) = told(&plain_repository(), dir.path(), &with(|o| o.sqlite.check = Some(Depth::Quick)));
    assert_eq!(facts(&quick)["closed.db"].check.depth, "quick");
}

#[test]
fn a_change_that_keeps_size_and_second_is_seen() {
    // The state right after a commit may change within the same tick of the clock.
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("app.db");
    create(&path, "delete", 4096);
    let repository = plain_repository();
    let db = Connection::open(&path).expect("opens");
    for n in 0..rounds(6, 60) as i64 {
        db.execute("UPDATE account SET balance=? WHERE id=1", [n]).expect("changed");
        let (outcome, ..) = told(&repository, dir.path(), &options());
        let bytes = files(&repository, &outcome).remove("app.db").expect("stored").1;
        assert!(bytes == fs::read(&path).expect("read"), "round {n}");
    }
}

#[test]
fn hard_links_agree_and_are_not_called_verified() {
    let dir = tempfile::tempdir().expect("tempdir");
    create(&dir.path().join("app.db"), "delete", 4096);
    fs::hard_link(dir.path().join("app.db"), dir.path().join("other.db")).expect("linked");
    settle();
    let repository = plain_repository();
    let (outcome, problems, warnings) = told(&repository, dir.path(), &options());
    assert_eq!((problems.len(), warnings.len()), (0, 2), "{warnings:?}");
    let stored = files(&repository, &outcome);
    assert!(
        stored["app.db"].1 == stored["other.db"].1 && stored["app.db"].0.link == stored["other.db"].0.link
    );
    assert!(stored.values().all(|(entry, _)| entry.flags.has(Flags::UNVERIFIED)));
}

#[test]
fn databases_are_pinned_before_anything_is_read() {
    let dir = tempfile::tempdir().expect("tempdir");
    let names = ["a.db", "m.db", "z.db"];
    let mut shells: Vec<_> = names
        .iter()
        .map(|name| {
            create(&dir.path().join(name), "wal", 4096);
            let mut shell = Process::start("shell", &dir.path().join(name), 0);
            shell.must("INSERT INTO log VALUES (1, 'x')");
            shell
        })
        .collect();
    // Between the pins and the databases stands much to read.
    for n in 0..400 {
        fs::write(dir.path().join(format!("b{n}")), vec![n as u8; 20_000]).expect("written");
    }
    let repository = plain_repository();
    let (first, ..) = told(&repository, dir.path(), &with(|o| o.sqlite.pin_first = true));
    let (second, ..) = told(&repository, dir.path(), &options());
    for outcome in [first, second] {
        let all = outcome.databases.expect("captured");
        let pinned: Vec<_> = all.databases.iter().map(|d| d.pinned.clone()).collect();
        assert_eq!(pinned.len(), 3);
        assert!(pinned.iter().all(|t| *t < outcome.end.rfc3339()));
        assert!(all.skew_ms < 3_000, "{} ms", all.skew_ms);
    }
    for shell in &mut shells {
        assert!(
            shell.must("PRAGMA wal_checkpoint(TRUNCATE)").starts_with("Integer(0)"),
            "every pin was let go"
        );
    }
}

#[test]
fn a_build_that_cannot_pin_copies_and_says_so() {
    let dir = tempfile::tempdir().expect("tempdir");
    let judge = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("app.db");
    create(&path, "wal", 4096);
    let writer = Process::start("hammer", &path, 300);
    let repository = plain_repository();
    for round in 0..4 {
        let (outcome, problems, warnings) =
            told(&repository, dir.path(), &with(|o| o.sqlite.can_pin = false));
        assert_eq!(problems, [""; 0]);
        assert!(warnings.iter().any(|w| w.contains("temporary file")), "{warnings:?}");
        let stored = files(&repository, &outcome);
        assert_exact(&stored["app.db"].1, judge.path(), &format!("round {round}"));
        assert_eq!(facts(&outcome)["app.db"].capture, "copied");
    }
    drop(writer);
}

#[test]
fn an_empty_log_made_for_us_is_taken_away() {
    // The last user left between our look and our opening: then SQLite makes a log for us.
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("app.db");
    create(&path, "wal", 4096);
    let before = fs::read(&path).expect("read");
    let place = snapkeep::sqlite::place::Place::at(&path).expect("a place");
    let id = place.status("").expect("stat").expect("there").id();
    let db = snapkeep::sqlite::ffi::Database::open(&path, id).expect("opens");
    db.connection().query_row("PRAGMA user_version", [], |_| Ok(())).expect("read");
    drop(db);
    assert!(dir.path().join("app.db-wal").exists() && dir.path().join("app.db-shm").exists());
    snapkeep::sqlite::pin::sweep(&place).expect("swept");
    assert!(!dir.path().join("app.db-wal").exists() && !dir.path().join("app.db-shm").exists());
    assert!(fs::read(&path).expect("read") == before);
    // With somebody there, or something in the log, nothing is taken.
    let mut shell = Process::start("shell", &path, 0);
    shell.must("INSERT INTO log VALUES (1, 'x')");
    snapkeep::sqlite::pin::sweep(&place).expect("swept");
    assert!(dir.path().join("app.db-wal").exists());
    assert_eq!(shell.must("SELECT count(*) FROM log"), "Integer(1)");
}

#[test]
fn a_stored_database_can_be_asked_in_place_and_laid_out() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("app.db");
    create(&path, "wal", 4096);
    let db = Connection::open(&path).expect("opens");
    for n in 0..2000 {
        db.execute("INSERT INTO log VALUES (?, hex(randomblob(200)))", [n + 1]).expect("inserted");
    }
    db.execute_batch("UPDATE counter SET n=2000").expect("updated");
    let judge = tempfile::tempdir().expect("tempdir");
    let repository = plain_repository();
    let mut kept = Vec::new();
    for round in 0..5 {
        let (outcome, problems, _) = told(&repository, dir.path(), &options());
        assert_eq!(problems, [""; 0]);
        kept.push(outcome);
        db.execute("UPDATE account SET note=?, balance=balance", [format!("round {round}")])
            .expect("updated");
    }
    let reader = Arc::new(repository.reader().expect("a reader"));
    for (round, outcome) in kept.iter().enumerate() {
        let (entry, bytes) = files(&repository, outcome).remove("app.db").expect("stored");
        let opened = snapkeep::manifest::database::open(Arc::clone(&reader), &entry).expect("opens");
        let ask =
            |sql: &str| opened.connection.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("asked");
        assert_eq!(ask("SELECT count(*) FROM log WHERE length(text)=400"), 2000);
        let expected = if round == 0 { 0 } else { 500 };
        let sql = format!("SELECT count(*) FROM account WHERE note='round {}'", round as i64 - 1);
        assert_eq!(ask(&sql), expected, "round {round}");
        assert!(opened.connection.execute("DELETE FROM log", []).is_err(), "read-only");
        assert!(opened.failure().is_none());
        let laid =
            snapkeep::manifest::database::materialise(&reader, &entry, judge.path()).expect("laid out");
        assert!(fs::read(&laid.path).expect("read") == bytes);
        let parent = laid.path.parent().expect("a directory").to_owned();
        drop(laid);
        assert!(!parent.exists());
    }
}
