//! Databases whose pages are read once and hashed once: what has changed is found wherever it stands, and the page of the lock
//! bytes, at one gibibyte, is no part of any state.

use crate::backup::{back_up, new_repository, source};
use crate::cli::Home;
use crate::counters::is_night;
use crate::in_place::of;
use crate::sqlite_live::{Process, create, files};
use rusqlite::Connection;
use snapkeep::backend::memory::MemoryBackend;
use snapkeep::clock::SystemClock;
use snapkeep::format::entry::Entry;
use snapkeep::manifest::content::for_each_piece;
use snapkeep::manifest::walk::Walk;
use snapkeep::repository::snapshots;
use snapkeep::sqlite::check::{self, Depth, Verdict};
use snapkeep::sqlite::pin::{Rules, pin};
use snapkeep::sqlite::place::Place;
use std::cell::RefCell;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const LOCK_BYTE: i64 = 1 << 30;

/// Rows over so many pages that chunks are many.
fn fill(db: &Connection, from: i64, to: i64) {
    db.execute_batch("BEGIN").expect("begun");
    for n in from..to {
        db.execute("INSERT INTO log VALUES (?1, hex(randomblob(300)))", [n]).expect("inserted");
    }
    db.execute_batch("UPDATE counter SET n=(SELECT max(n) FROM log); COMMIT").expect("committed");
}

#[test]
fn a_change_anywhere_gives_the_hash_of_the_whole() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("app.db");
    create(&path, "wal", 4096);
    Connection::open(&path).expect("opens").execute_batch("PRAGMA auto_vacuum=2; VACUUM").expect("set");
    fill(&Connection::open(&path).expect("opens"), 1, 4000);
    let repository = new_repository(Arc::new(MemoryBackend::new()), None);
    let mut hashes = Vec::new();
    // Stored hashes are compared with the bytes by `files`.
    let stored = |what: &str| {
        let (entry, bytes) =
            files(&repository, &back_up(&repository, dir.path())).remove("app.db").expect(what);
        assert!(bytes == fs::read(&path).expect("read"), "{what}");
        assert!(entry.content.extents.len() > 10, "{what}: {} chunks", entry.content.extents.len());
        entry.content.hash.expect("a hash")
    };
    hashes.push(stored("first"));
    let changes = [
        "UPDATE log SET text=upper(text)||'!' WHERE n=3999",
        "UPDATE log SET text=substr(text, 2)||'?' WHERE n=2000",
        "UPDATE account SET note='first pages' WHERE id=1",
        "INSERT INTO log SELECT n+4000, text FROM log",
        "DELETE FROM log WHERE n>6000; PRAGMA incremental_vacuum",
        "DELETE FROM log WHERE n>3999; PRAGMA incremental_vacuum",
        "PRAGMA user_version=9",
    ];
    for change in changes {
        let db = Connection::open(&path).expect("opens");
        db.execute_batch(change).expect(change);
        db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("folded in");
        drop(db);
        hashes.push(stored(change));
    }
    let times = fs::FileTimes::new().set_modified(std::time::SystemTime::UNIX_EPOCH);
    File::options().write(true).open(&path).and_then(|file| file.set_times(times)).expect("touched");
    assert_eq!(stored("touched"), hashes[hashes.len() - 1]);
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), changes.len() + 1, "each state has a hash of its own");
}

/// A database that reaches beyond its lock page, cheap to make and to store, with rows on both sides.
fn create_large(path: &Path) {
    let db = Connection::open(path).expect("opens");
    db.execute_batch(
        "PRAGMA page_size=65536; PRAGMA journal_mode=wal; PRAGMA synchronous=off; PRAGMA wal_autocheckpoint=0;
         CREATE TABLE low(n INTEGER PRIMARY KEY, text TEXT);
         CREATE TABLE bulk(x BLOB); CREATE TABLE high(n INTEGER PRIMARY KEY, text TEXT);
         WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM i WHERE n<2000)
         INSERT INTO low SELECT n, hex(randomblob(100)) FROM i;
         INSERT INTO bulk VALUES (zeroblob(540000000)); PRAGMA wal_checkpoint(TRUNCATE);
         INSERT INTO bulk VALUES (zeroblob(533000000)); PRAGMA wal_checkpoint(TRUNCATE);
         WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM i WHERE n<2000)
         INSERT INTO high SELECT n, hex(randomblob(400)) FROM i; PRAGMA wal_checkpoint(TRUNCATE);",
    )
    .expect("created");
    let pages: i64 = db.query_row("PRAGMA page_count", [], |row| row.get(0)).expect("asked");
    assert!(pages * 65_536 > LOCK_BYTE + 10 * 65_536, "{pages} pages");
}

/// The state held is the file's from a little below the lock page to the end, that page is zeros whatever stands in it, and SQLite
/// finds rows and pages on both sides.
fn held_and_checked(path: &Path, scratch: &Path) {
    let file = File::options().write(true).read(true).open(path).expect("opens");
    file.write_all_at(b"what a lock leaves is nothing", LOCK_BYTE as u64 + 600).expect("written");
    let rules = Rules {
        wait: Duration::from_secs(10),
        scratch,
        memory: 1 << 20,
        clock: &SystemClock,
        keep_going: &|| Ok(()),
        firmly: false,
        can_pin: true,
    };
    let pinned = pin(&Place::at(path).expect("a place"), &rules).map_err(|_| ()).expect("held");
    let (size, first) = (65_536, LOCK_BYTE as u64 / 65_536 - 8);
    for page in first..u64::from(pinned.image.pages) {
        let (mut held, mut there) = (vec![1; size], vec![0; size]);
        pinned.image.read_pages(page as u32 + 1, &mut held).expect("read");
        file.read_exact_at(&mut there, page * size as u64).expect("read");
        match page * size as u64 == LOCK_BYTE as u64 {
            true => assert!(held.iter().all(|byte| *byte == 0)),
            false => assert!(held == there, "page {page}"),
        }
    }
    let found = check::check(Box::new(pinned.image.clone()), Depth::Quick, Arc::default()).expect("checked");
    assert_eq!(found.verdict, Verdict::Good, "{:?}", found.messages);
    assert_eq!((found.tables["low"], found.tables["high"]), (2000, 2000));
    assert!(pinned.holds());
    file.write_all_at(&[0; 64], LOCK_BYTE as u64 + 600).expect("written");
}

/// Compares what is stored with a file, and never holds all of it.
fn assert_same(reader: &snapkeep::repository::reader::Reader, entry: &Entry, path: &Path) {
    let file = File::open(path).expect("opens");
    assert_eq!(file.metadata().expect("stat").len(), entry.content.size);
    let state = RefCell::new((0u64, Vec::new()));
    let compare = |bytes: &[u8]| {
        let (at, buffer) = &mut *state.borrow_mut();
        buffer.resize(bytes.len(), 0);
        file.read_exact_at(buffer, *at).expect("read");
        assert!(buffer == bytes, "differs at {at}");
        *at += bytes.len() as u64;
        Ok(())
    };
    for_each_piece(reader, &entry.content, &mut |bytes| compare(bytes), &mut |len| {
        compare(&vec![0; len as usize])
    })
    .expect("readable");
    assert_eq!(state.into_inner().0, entry.content.size);
}

#[test]
fn a_database_of_more_than_a_gibibyte_is_exact_on_both_sides_of_its_lock_page() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("large.db");
    create_large(&path);
    held_and_checked(&path, dir.path());
    // Storing all of it takes minutes where the program is not optimised.
    if !is_night() {
        return;
    }
    let repository = new_repository(Arc::new(MemoryBackend::new()), None);
    for round in 0..3 {
        let mut options = crate::backup::options();
        options.reread_percent = 0.0;
        let done =
            crate::backup::back_up_with(&repository, &source(dir.path()), &options).expect("a snapshot");
        assert_eq!(done.summary.problems, 0);
        let facts = &done.databases.as_ref().expect("captured").databases[0];
        assert_eq!((facts.check.result.as_str(), facts.check.depth.as_str()), ("ok", "quick"));
        assert_eq!((facts.tables["low"], facts.tables["high"]), (2000, 2000));
        let reader = repository.reader().expect("a reader");
        let root = snapshots::read(&repository, done.snapshot.expect("made")).expect("read").root;
        let all = Walk::new(&reader, &root, b"").expect("a manifest").map(|e| e.expect("an entry"));
        let entry = all.filter(Entry::is_file).find(|e| e.name() == b"large.db").expect("stored");
        assert_same(&reader, &entry, &path);
        let db = Connection::open(&path).expect("opens");
        let change =
            format!("UPDATE high SET text='{round}' WHERE n=7; UPDATE low SET text='{round}' WHERE n=9;");
        db.execute_batch(&change).expect("changed");
        db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("folded in");
    }
}

#[test]
fn a_database_of_more_than_a_gibibyte_is_exchanged_while_it_is_open() {
    if !is_night() {
        return;
    }
    let home = Home::new();
    home.good(&["init"]);
    let db = home.path("src/large.db");
    fs::create_dir_all(home.path("src")).expect("mkdir");
    create_large(&db);
    home.good(&["backup", "src"]);
    let mut open = Process::start("shell", &db, 0);
    open.must("UPDATE high SET text='late' WHERE n % 3 = 0");
    open.must("DELETE FROM low WHERE n > 1000");
    let before = open.must("SELECT count(*), sum(length(text)) FROM high, (SELECT count(*) FROM low)");
    let story = home.good(&["restore", &of(&home, "latest", "src/large.db"), "--in-place", "--yes"]);
    assert!(story.contains("changed page by page"), "{story}");
    assert_eq!(open.must("SELECT count(*) FROM low"), "Integer(2000)");
    assert_eq!(open.must("SELECT count(*) FROM high WHERE length(text)=800"), "Integer(2000)");
    assert_eq!(open.must("PRAGMA quick_check"), "Text(\"ok\")");
    home.good(&["undo", "--yes"]);
    assert_eq!(open.must("SELECT count(*), sum(length(text)) FROM high, (SELECT count(*) FROM low)"), before);
}
