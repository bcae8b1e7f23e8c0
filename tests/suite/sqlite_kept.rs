//! What is known of databases stays with them: through copies, the trash, repairs, collections; and a snapshot whose
//! database is damaged does not push out sound ones.

use super::backup::{new_repository, options};
use super::check_stand::over;
use super::cli::{Home, text};
use super::cli_sqlite::damage;
use super::sqlite_live::{Process, assert_exact, create, files, told};
use snapkeep::backend::memory::MemoryBackend;
use snapkeep::clock::{FixedClock, SystemClock, Timestamp};
use snapkeep::copy::{self, CopyOptions};
use snapkeep::crypto::ChunkSort;
use snapkeep::forget::{self, ForgetOptions, undelete};
use snapkeep::format::FileName;
use snapkeep::format::snapshot::Databases;
use snapkeep::id::SnapshotId;
use snapkeep::progress::{Progress, Silent};
use snapkeep::repository::Repository;
use snapkeep::repository::snapshots::{self, SnapshotFilter};
use std::fs;
use std::path::Path;
use std::sync::Arc;

const NOW: Timestamp = Timestamp { secs: 4_000_000_000, nanos: 0 };

fn databases(repository: &Repository, id: SnapshotId) -> Databases {
    snapshots::read(repository, id).expect("a snapshot").record.sqlite.expect("databases")
}

/// A tree with two databases, backed up.
fn backed_up(repository: &Arc<Repository>, dir: &Path) -> SnapshotId {
    create(&dir.join("app.db"), "delete", 4096);
    create(&dir.join("log.db"), "wal", 1024);
    fs::write(dir.join("text"), "no database").expect("written");
    let (outcome, problems, _) = told(repository, dir, &options());
    assert_eq!(problems, [""; 0]);
    let id = outcome.snapshot.expect("committed");
    assert_eq!(databases(repository, id).databases.len(), 2);
    id
}

#[test]
fn copies_and_the_trash_carry_the_facts_unchanged() {
    let dir = tempfile::tempdir().expect("tempdir");
    let repository = new_repository(Arc::new(MemoryBackend::new()), None);
    let id = backed_up(&repository, dir.path());
    let facts = databases(&repository, id);
    // To another repository.
    let to = new_repository(Arc::new(MemoryBackend::new()), Some("other"));
    let all = snapshots::list(&repository).expect("listed").snapshots;
    let report =
        copy::run(&repository, &all, &to, &CopyOptions::default(), &SystemClock, &Progress::new(), &Silent)
            .expect("copied");
    let there = report.copied[0].1.expect("made");
    assert_eq!(databases(&to, there), facts);
    // Into the trash and back, which makes a new record.
    let wish = ForgetOptions { for_good: false, pinned: false, host: "here".into() };
    forget::run(&repository, &[id], &wish, NOW, &Silent).expect("forgotten");
    let listing = snapshots::list(&repository).expect("listed");
    assert_eq!((listing.snapshots.len(), listing.forgotten.len()), (0, 1));
    let gone = undelete::resolve(&listing, &id.to_string(), &SnapshotFilter::default()).expect("found");
    let back = undelete::run(&repository, gone, "here", &FixedClock(NOW), &Progress::new()).expect("back");
    assert_ne!(back.new, id);
    assert_eq!(databases(&repository, back.new), facts);
}

#[test]
fn a_repaired_snapshot_says_of_lost_databases_nothing() {
    let dir = tempfile::tempdir().expect("tempdir");
    let backend = MemoryBackend::new();
    let repository = new_repository(Arc::new(backend.clone()), None);
    let id = backed_up(&repository, dir.path());
    let facts = databases(&repository, id);
    // Lost is all the content that only the second backup stored.
    let before = backend.files();
    let other = create_and_back_up(&repository, dir.path());
    let content = repository.load_index().expect("an index");
    let content: Vec<_> = content.packs().filter(|p| p.sort == ChunkSort::Content).map(|p| p.id).collect();
    let mut left = backend.files();
    left.retain(|name, _| match name {
        FileName::Pack(id) => before.contains_key(name) || !content.contains(id),
        _ => true,
    });
    assert!(left.len() < backend.files().len());
    let repository = Arc::new(over(&repository, &left).1);
    let report = super::repair_damage::mend_snapshots(&repository, false);
    assert!(!report.is_idle());
    let listing = snapshots::list(&repository).expect("listed");
    let mended = listing.snapshots.iter().find(|l| l.record.repaired.is_some()).expect("a repaired one");
    assert_eq!(mended.record.repaired.as_ref().expect("repaired").from, other.to_string());
    let left = mended.record.sqlite.as_ref().expect("databases");
    let names: Vec<_> = left.databases.iter().map(|d| d.path.rsplit('/').next().expect("a name")).collect();
    assert_eq!(names, ["app.db", "log.db"], "the lost one is not called sound");
    assert_eq!(databases(&repository, id), facts, "the sound snapshot is as it was");
}

fn create_and_back_up(repository: &Arc<Repository>, dir: &Path) -> SnapshotId {
    create(&dir.join("new.db"), "delete", 8192);
    let (outcome, problems, _) = told(repository, dir, &options());
    assert_eq!(problems, [""; 0]);
    let id = outcome.snapshot.expect("committed");
    assert_eq!(databases(repository, id).databases.len(), 3);
    id
}

#[test]
fn databases_new_to_the_parent_are_recognised_with_and_without_logs() {
    let dir = tempfile::tempdir().expect("tempdir");
    let judge = tempfile::tempdir().expect("tempdir");
    let repository = new_repository(Arc::new(MemoryBackend::new()), None);
    backed_up(&repository, dir.path());
    // Nobody looks at these before they are read, but for the one with a log.
    for n in 0..40 {
        fs::write(dir.path().join(format!("a{n}")), format!("text {n}")).expect("written");
    }
    create(&dir.path().join("new.db"), "delete", 4096);
    create(&dir.path().join("live.db"), "wal", 4096);
    let mut shell = Process::start("shell", &dir.path().join("live.db"), 0);
    shell.must("INSERT INTO log SELECT id, note FROM account WHERE id=1");
    shell.must("UPDATE counter SET n=(SELECT count(*) FROM log)");
    assert!(dir.path().join("live.db-wal").exists() && dir.path().join("live.db-shm").exists());
    // No database, though it is named like what stands beside one.
    fs::write(dir.path().join("letter-wal"), "a letter").expect("written");
    let (outcome, problems, warnings) = told(&repository, dir.path(), &options());
    assert_eq!((problems.len(), warnings.len()), (0, 0), "{problems:?} {warnings:?}");
    let stored = files(&repository, &outcome);
    let mut names: Vec<_> = stored.keys().filter(|name| !name.starts_with('a')).collect();
    names.sort();
    assert_eq!(names, ["letter-wal", "live.db", "log.db", "new.db", "text"]);
    for name in ["new.db", "live.db"] {
        assert_exact(&stored[name].1, judge.path(), name);
    }
    let facts = outcome.databases.expect("databases").databases;
    let names: Vec<_> = facts.iter().map(|d| d.path.rsplit('/').next().expect("a name")).collect();
    assert_eq!(names, ["app.db", "live.db", "log.db", "new.db"]);
    assert_eq!(facts[1].capture, "log");
}

#[test]
fn a_collection_keeps_databases_as_they_are() {
    let home = Home::new();
    home.good(&["init"]);
    create(&home.path("src/app.db"), "delete", 4096);
    home.good(&["backup", "src"]);
    fs::write(home.path("src/noise"), vec![7; 100_000]).expect("written");
    home.good(&["backup", "src"]);
    home.good(&["forget", "--keep-last", "1", "--no-trash"]);
    home.good(&["prune"]);
    let all: serde_json::Value = serde_json::from_str(&home.good(&["snapshots", "--json"])).expect("JSON");
    assert_eq!(all[0]["sqlite"]["databases"][0]["check"]["result"], "ok");
    let run = home.run(&["dump", &format!("latest:{}", home.path("src/app.db").display())]);
    assert!(run.stdout == fs::read(home.path("src/app.db")).expect("read"));
}

#[test]
fn a_snapshot_with_a_damaged_database_does_not_push_out_sound_ones() {
    let home = Home::new();
    home.good(&["init"]);
    create(&home.path("src/app.db"), "delete", 4096);
    home.good(&["backup", "src"]);
    damage(&home);
    assert_eq!(home.run(&["backup", "src"]).status.code(), Some(3));
    let run = home.run(&["forget", "--keep-last", "1"]);
    let all: serde_json::Value = serde_json::from_str(&home.good(&["snapshots", "--json"])).expect("JSON");
    assert_eq!(all.as_array().expect("a list").len(), 2, "{} {}", text(&run.stdout), text(&run.stderr));
}
