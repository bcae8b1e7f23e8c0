//! The fence on real file systems: of a commit and an eviction of the same session exactly one succeeds, and once an
//! eviction has returned, no commit lands any more.

use crate::counters::{note, size};
use crate::loop_disk::LoopDisk;
use crate::shelf::Random;
use crate::yard::seed;
use snapkeep::backend::Backend;
use snapkeep::backend::local::LocalBackend;
use snapkeep::error::ErrorKind;
use snapkeep::format::Folder;
use snapkeep::id::Name;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Barrier, Mutex};
use std::time::Instant;

/// What the two sides of one trial saw.
#[derive(Debug, Default)]
struct Seen {
    committed: Option<bool>,
    evicted: Option<bool>,
    /// The snapshot was there when the eviction had returned.
    landed: bool,
}

/// A wait that is not rounded up to a tick of the scheduler.
fn spin(nanos: u64) {
    let begun = Instant::now();
    while (begun.elapsed().as_nanos() as u64) < nanos {
        std::hint::spin_loop();
    }
}

/// How often the commit won, and how often the eviction did.
fn litmus(root: &Path, trials: usize, random: &mut Random) -> (u64, u64) {
    let backend = LocalBackend::create(root, false).expect("a repository's folders");
    let (begin, end) = (Barrier::new(2), Barrier::new(2));
    let seen = Mutex::new(Seen::default());
    let sessions: Vec<(Name, u64)> = (0..trials)
        .map(|n| {
            let mut name = [0; 16];
            name[..8].copy_from_slice(&(n as u64).to_be_bytes());
            name[8..].copy_from_slice(&random.next().to_be_bytes());
            (Name(name), random.next())
        })
        .collect();
    // The commit begins with a sync, which takes from microseconds to milliseconds. How long the eviction waits follows
    // who won, so that the two meet, and is spread around that.
    let wait = AtomicU64::new(20_000);
    let (mut commits, mut evictions) = (0, 0);
    // Told at the end: a side that panics would leave the other waiting.
    let mut wrong = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for (session, dice) in &sessions {
                begin.wait();
                let wait = wait.load(Ordering::Relaxed);
                spin(wait / 2 + dice % wait);
                let evicted = won(backend.evict(*session));
                let landed = has_snapshot(root, session);
                let mut seen = seen.lock().expect("the other side lives");
                (seen.evicted, seen.landed) = (evicted, landed && evicted == Some(true));
                drop(seen);
                end.wait();
            }
        });
        for (session, _) in &sessions {
            let file = backend.open_session(*session, b"a session").expect("a session");
            *seen.lock().expect("the other side lives") = Seen::default();
            begin.wait();
            let committed = won(file.commit());
            seen.lock().expect("the other side lives").committed = committed;
            end.wait();
            let seen = std::mem::take(&mut *seen.lock().expect("the other side lives"));
            let (committed, evicted) = (seen.committed == Some(true), seen.evicted == Some(true));
            if seen.committed.is_none() || seen.evicted.is_none() || committed == evicted || seen.landed {
                wrong.push(format!("{session}: {seen:?}"));
            } else if has_snapshot(root, session) != committed {
                wrong.push(format!("{session}: {seen:?}, and yet the other"));
            }
            commits += u64::from(committed);
            evictions += u64::from(evicted);
            let now = wait.load(Ordering::Relaxed);
            let next = if evicted { now + now / 20 } else { now - now / 20 };
            wait.store(next.clamp(1_000, 50_000_000), Ordering::Relaxed);
            for folder in [Folder::Sessions, Folder::Snapshots, Folder::Evicted] {
                let _ = std::fs::remove_file(root.join(folder.dir()).join(session.to_string()));
            }
        }
    });
    assert!(
        wrong.is_empty(),
        "{} of {trials} trials: {}",
        wrong.len(),
        wrong[..wrong.len().min(5)].join("; ")
    );
    (commits, evictions)
}

/// `None` when it failed for another reason than that the other side had won.
fn won(result: snapkeep::error::Result<()>) -> Option<bool> {
    match result {
        Ok(()) => Some(true),
        Err(e) if e.kind() == ErrorKind::NotFound => Some(false),
        Err(e) => {
            println!("failed: {e}");
            None
        }
    }
}

fn has_snapshot(root: &Path, session: &Name) -> bool {
    root.join(Folder::Snapshots.dir()).join(session.to_string()).exists()
}

fn try_on(place: &str, root: &Path, trials: usize, random: &mut Random) -> u64 {
    let (commits, evictions) = litmus(root, trials, random);
    println!("{place}: {commits} commits and {evictions} evictions won");
    assert!(commits > 0 && evictions > 0, "a race that only one side wins shows nothing");
    commits + evictions
}

#[test]
fn exactly_one_of_commit_and_eviction_wins() {
    let mut random = seed("fence", 4);
    let mut trials = 0;
    if Path::new("/dev/shm").is_dir() {
        let dir = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
        trials += try_on("memory", &dir.path().join("r"), size(20_000, 2_000_000), &mut random);
    } else {
        println!("NOT TRIED: there is no /dev/shm");
    }
    for kind in ["ext4", "xfs"] {
        if let Some(disk) = LoopDisk::new(kind) {
            trials += try_on(kind, &disk.path().join("r"), size(1_000, 100_000), &mut random);
        }
    }
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    trials += try_on("here", &dir.path().join("r"), size(500, 100_000), &mut random);
    note("T10c commits against evictions", trials, 0);
}
