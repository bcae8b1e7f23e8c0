//! What databases cost to store: a long series of small changes, a `VACUUM` in the middle of it, every generation restored.

use super::backup::{Random, back_up_with, new_repository, options, source};
use super::sqlite_live::{files, rounds};
use rusqlite::Connection;
use snapkeep::backend::memory::MemoryBackend;
use snapkeep::repository::snapshots;
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// Rows of the largest table.
fn rows() -> u64 {
    rounds(9_000, 150_000) as u64
}

const GENERATIONS: u64 = 64;
const VACUUM: u64 = 40;

fn text(random: &mut Random, len: u64) -> String {
    String::from_utf8(random.text(len as usize)).expect("ASCII").replace('\'', " ")
}

/// Tables that grow side by side, as in real life, with indexes whose keys are scattered.
fn create(db: &Connection, random: &mut Random) {
    db.execute_batch(
        "PRAGMA journal_mode=wal; PRAGMA synchronous=off;
         CREATE TABLE user(id INTEGER PRIMARY KEY, name TEXT, mail TEXT, seen INTEGER);
         CREATE TABLE message(id INTEGER PRIMARY KEY, user INTEGER, at INTEGER, text TEXT);
         CREATE TABLE doc(id INTEGER PRIMARY KEY, json TEXT);
         CREATE INDEX message_user ON message(user, at); CREATE UNIQUE INDEX user_mail ON user(mail);
         CREATE INDEX message_at ON message(at);",
    )
    .expect("created");
    db.execute_batch("BEGIN").expect("begun");
    for n in 0..rows() {
        insert(db, random, n);
    }
    db.execute_batch("COMMIT; PRAGMA wal_checkpoint(TRUNCATE);").expect("committed");
}

fn insert(db: &Connection, random: &mut Random, n: u64) {
    let mut add = db.prepare("INSERT INTO message VALUES (NULL, ?, ?, ?)").expect("prepared");
    let (user, at) = (random.below(500), random.next() >> 20);
    let len = 40 + random.below(300);
    add.execute((user as i64, at as i64, text(random, len))).expect("added");
    if n.is_multiple_of(20) {
        let mut add = db.prepare("INSERT INTO user VALUES (NULL, ?, ?, 0)").expect("prepared");
        add.execute((text(random, 12), format!("{:x}@example.org", random.next()))).expect("added");
    }
    if n.is_multiple_of(15) {
        let mut add = db.prepare("INSERT INTO doc VALUES (NULL, ?)").expect("prepared");
        let len = 500 + random.below(8_000);
        add.execute([text(random, len)]).expect("added");
    }
}

/// Half a per cent of the rows, some new ones, some gone.
fn edit(db: &Connection, random: &mut Random) {
    db.execute_batch("BEGIN").expect("begun");
    for _ in 0..rows() / 200 {
        let id = random.below(rows()) as i64;
        let mut change = db
            .prepare("UPDATE message SET text=substr(text, 1, 30) || ? || substr(text, 40) WHERE id=?")
            .expect("sql");
        change.execute((text(random, 8), id)).expect("changed");
    }
    for n in 0..rows() / 4000 {
        insert(db, random, n);
        db.execute("DELETE FROM message WHERE id=?", [random.below(rows()) as i64]).expect("deleted");
        db.execute("UPDATE user SET seen=seen+1 WHERE id=?", [random.below(500) as i64]).expect("changed");
    }
    db.execute_batch("COMMIT; PRAGMA wal_checkpoint(TRUNCATE);").expect("committed");
}

fn stored(backend: &MemoryBackend) -> u64 {
    backend.files().values().map(|bytes| bytes.len() as u64).sum()
}

#[test]
fn sixty_four_generations_with_a_vacuum_stay_small_and_every_one_comes_back() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("app.db");
    let mut random = Random(64);
    let db = Connection::open(&path).expect("opens");
    create(&db, &mut random);
    let backend = MemoryBackend::new();
    let repository = new_repository(Arc::new(backend.clone()), None);
    let mut kept = Vec::new();
    let (mut base, mut vacuum) = (0, 0);
    for generation in 0..=GENERATIONS {
        match generation {
            0 => {}
            VACUUM => db.execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE);").expect("vacuumed"),
            _ => edit(&db, &mut random),
        }
        let before = stored(&backend);
        let outcome = back_up_with(&repository, &source(dir.path()), &options()).expect("runs");
        let grown = stored(&backend) - before;
        match generation {
            0 => base = grown,
            VACUUM => vacuum = grown,
            _ => {}
        }
        if std::env::var_os("SNAPKEEP_SHOW").is_some() {
            println!("{generation}: {grown}");
        }
        kept.push((outcome, blake3(&path)));
    }
    let size = fs::metadata(&path).expect("stat").len();
    let small = stored(&backend) - base - vacuum;
    println!("database {size}, first copy {base}, 63 generations {small}, VACUUM {vacuum}");
    // Whole chunks would be about half of the first copy, each time.
    assert!(small < base * 2, "63 small generations took {small} bytes, the first copy {base}");
    assert!(vacuum * 10 < base * 2, "a VACUUM took {vacuum} bytes, the first copy {base}");
    drop(db);
    let reader = repository.reader().expect("a reader").with_cache(2 << 20);
    for (number, (outcome, hash)) in kept.iter().enumerate() {
        let root =
            snapshots::read(&repository, outcome.snapshot.expect("committed")).expect("a snapshot").root;
        let entry =
            snapkeep::manifest::walk::find(&reader, &root, stored_path(&path)).expect("read").expect("there");
        let bytes = super::backup::content(&reader, &entry);
        assert!(hash_of(&bytes) == *hash, "generation {number} differs");
    }
    let _ = files;
}

fn stored_path(path: &Path) -> &[u8] {
    path.strip_prefix("/").expect("absolute").as_os_str().as_encoded_bytes()
}

fn hash_of(bytes: &[u8]) -> [u8; 32] {
    let mut hash = snapkeep::crypto::hash::FileHash::new();
    hash.update(bytes);
    hash.finish()
}

fn blake3(path: &Path) -> [u8; 32] {
    hash_of(&fs::read(path).expect("read"))
}
