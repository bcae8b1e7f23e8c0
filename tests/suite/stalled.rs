//! Sessions of machines that cannot be seen: who shows no sign of life for days is evicted, and can do no harm by waking.

use crate::shelf::{Random, commit, random_tree, repository, session, tree};
use snapkeep::backend::Backend;
use snapkeep::backend::local::LocalBackend;
use snapkeep::backend::memory::MemoryBackend;
use snapkeep::clock::Timestamp;
use snapkeep::crypto::ChunkSort;
use snapkeep::error::{ErrorKind, Result};
use snapkeep::format::Folder;
use snapkeep::format::snapshot::{SessionInfo, Snapshot};
use snapkeep::gc::{MaxUnused, PruneOptions, PruneReport, run};
use snapkeep::id::SnapshotId;
use snapkeep::progress::{Progress, Silent};
use snapkeep::repository::snapshots::{self, Listed};
use snapkeep::repository::writer::{DeltaPolicy, Writer};
use snapkeep::repository::{Repository, removal, sessions};
use std::sync::Arc;
use std::time::Duration;

const DAY: i64 = 86_400;

/// A repository with one snapshot, which a session has seen before it was forgotten.
struct Stage {
    backend: MemoryBackend,
    repository: Arc<Repository>,
    like: Listed,
    writer: Writer,
    _cache: tempfile::TempDir,
}

fn stage() -> Stage {
    let backend = MemoryBackend::new();
    let mut repository = repository(&backend, None);
    let cache = tempfile::tempdir().expect("a directory");
    Arc::get_mut(&mut repository).expect("ours alone").set_cache(Some(cache.path()));
    let like = commit(&repository, &random_tree(&mut Random(31), 40), 1, None);
    let writer = session(&repository).expect("a session");
    removal::snapshot(&backend, like.id).expect("forgotten");
    Stage { backend, repository, like, writer, _cache: cache }
}

fn visit(stage: &Stage, secs: i64, evict_after: Option<Duration>) -> PruneReport {
    let options = PruneOptions {
        max_unused: MaxUnused::Bytes(0),
        wait: Duration::ZERO,
        now: Timestamp { secs, nanos: 0 },
        evict_after,
        ..PruneOptions::default()
    };
    run(&stage.repository, &options, &Progress::new(), &Silent).expect("pruned")
}

fn week() -> Option<Duration> {
    PruneOptions::default().evict_after
}

/// Stores one pack, as a backup that lives does.
fn store(writer: &mut Writer, byte: u8) -> Result<()> {
    let mut lane = writer.lane(ChunkSort::Content)?;
    lane.put(&[byte; 5000], &[], DeltaPolicy::CONTENT)?;
    lane.finish()?;
    writer.flush().map(|_| ())
}

fn commit_like(mut writer: Writer, like: &Listed) -> Result<SnapshotId> {
    let packed = writer.flush()?;
    let record = Snapshot { id: writer.session.to_string(), ..like.record.clone() };
    writer.commit(&record, packed)
}

#[test]
fn a_session_without_a_sign_of_life_is_evicted_and_wakes_to_commit_nothing() {
    let stage = stage();
    for day in [100, 106] {
        let done = visit(&stage, day * DAY, week());
        assert!(done.waiting_packs > 0 && done.evicted.is_empty() && done.deleted_packs == 0, "day {day}");
    }
    let done = visit(&stage, 107 * DAY, week());
    assert_eq!((done.evicted.len(), done.waiting_packs), (1, 0));
    assert!(done.deleted_packs > 0);
    // It slept for a month, and has no way to know.
    let refused = commit_like(stage.writer, &stage.like).expect_err("evicted");
    assert_eq!(refused.kind(), ErrorKind::Locked);
    assert!(stage.backend.list(Folder::Snapshots).expect("listed").is_empty());
}

#[test]
fn whoever_stores_packs_lives() {
    let mut stage = stage();
    assert!(visit(&stage, 100 * DAY, week()).evicted.is_empty());
    // Each backup flushes once, so the sign comes from a pack under its session's name.
    store(&mut stage.writer, 1).expect("stored");
    assert!(visit(&stage, 108 * DAY, week()).evicted.is_empty(), "a pack has come since");
    assert!(visit(&stage, 114 * DAY, week()).evicted.is_empty(), "six days without");
    assert_eq!(visit(&stage, 116 * DAY, week()).evicted.len(), 1, "eight days without");
}

#[test]
fn clocks_that_jump_back_and_never_wait_longer() {
    let stage = stage();
    assert!(visit(&stage, 100 * DAY, week()).evicted.is_empty());
    assert!(visit(&stage, 50 * DAY, week()).evicted.is_empty(), "back: counted from there");
    assert!(visit(&stage, 56 * DAY, week()).evicted.is_empty());
    assert!(visit(&stage, 500 * DAY, None).evicted.is_empty(), "never");
    assert!(visit(&stage, 57 * DAY, week()).evicted.len() == 1);
}

#[test]
fn a_backup_that_was_evicted_stops_before_it_stores_more() {
    let mut stage = stage();
    stage.backend.evict(stage.writer.session).expect("evicted");
    let packs = stage.backend.list(Folder::Packs).expect("listed").len();
    let refused = store(&mut stage.writer, 2).expect_err("evicted");
    assert_eq!(refused.kind(), ErrorKind::Locked, "{}", refused.message());
    assert_eq!(stage.backend.list(Folder::Packs).expect("listed").len(), packs);
}

#[test]
fn a_session_that_is_seen_to_live_is_never_evicted_by_guess() {
    let dir = tempfile::tempdir().expect("a directory");
    let backend = Arc::new(LocalBackend::create(&dir.path().join("repository"), false).expect("made"));
    let mut repository = crate::shelf::try_repository(backend, None).expect("a repository");
    repository.set_cache(Some(&dir.path().join("cache")));
    let repository = Arc::new(repository);
    let wanted = random_tree(&mut Random(32), 20);
    let like = commit(&repository, &wanted, 1, None);
    let info = SessionInfo { host: "elsewhere".into(), ..SessionInfo::default() };
    let writer = Writer::open(&repository, snapkeep::compress::Level::FASTEST, &info).expect("a session");
    let at = |secs| Timestamp { secs, nanos: 0 };
    let zero = Duration::ZERO;
    assert!(sessions::evict_stalled(&repository, at(0), zero).expect("looked").is_empty());
    assert!(sessions::evict_stalled(&repository, at(1000 * DAY), zero).expect("looked").is_empty());
    let id = commit_like(writer, &like).expect("committed");
    let again = snapshots::read(&repository, id).expect("there");
    assert!(tree(&repository.reader().expect("a reader"), &again.root) == wanted);
}
