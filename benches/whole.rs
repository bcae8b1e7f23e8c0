//! Whole operations on a tree of 2,000 small files (32 MiB), in memory: first backup, unchanged, everything read back.

mod data;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use snapkeep::backend::memory::MemoryBackend;
use snapkeep::backup::{self, Input, Options};
use snapkeep::clock::{Clock, SystemClock};
use snapkeep::crypto::password::Password;
use snapkeep::manifest::content::for_each_piece;
use snapkeep::manifest::walk::Walk;
use snapkeep::progress::{Progress, Silent};
use snapkeep::repository::keys::SlotOwner;
use snapkeep::repository::{self, NewRepository, Repository, snapshots};
use snapkeep::source::filter::{Filter, FilterOptions};
use snapkeep::source::roots::Root;
use snapkeep::source::{FileSource, WalkOptions};
use std::path::Path;
use std::sync::Arc;

fn new_repository() -> Arc<Repository> {
    let password = Password::new(b"bench".to_vec()).expect("not empty");
    let new = NewRepository {
        password: Some(&password),
        owner: SlotOwner::default(),
        group_readable: false,
        like: None,
        now: SystemClock.now(),
    };
    Arc::new(repository::create(Arc::new(MemoryBackend::new()), &new).expect("a repository"))
}

fn back_up(repository: &Arc<Repository>, path: &Path) -> snapkeep::id::SnapshotId {
    let filter = Filter::new(&FilterOptions::default()).expect("no patterns");
    let walk = WalkOptions { started: SystemClock.now(), ..WalkOptions::default() };
    let source = FileSource::new(vec![Root::new(path).expect("a path")], filter, walk).expect("a source");
    let input = Input::Files(Box::new(source));
    let progress = Progress::new();
    let done = backup::run(repository, &input, &Options::default(), &SystemClock, &progress, &Silent);
    done.expect("a backup").snapshot.expect("a snapshot")
}

fn whole(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let bytes = data::tree(dir.path(), 2000).expect("a tree");
    let mut group = c.benchmark_group("2000 files");
    group.sample_size(10);
    group.throughput(Throughput::Bytes(bytes));
    let repository = new_repository();
    // Times of the tree must lie far enough before a backup for it to trust them.
    std::thread::sleep(std::time::Duration::from_millis(2500));
    let snapshot = back_up(&repository, dir.path());
    group.bench_function("unchanged", |b| b.iter(|| back_up(&repository, dir.path())));
    group.bench_function("read back", |b| {
        b.iter(|| {
            let reader = repository.reader().expect("a reader");
            let root = snapshots::read(&repository, snapshot).expect("a snapshot").root;
            let mut total = 0;
            for entry in Walk::new(&reader, &root, b"").expect("a manifest") {
                let content = entry.expect("an entry").content;
                let mut count = |bytes: &[u8]| {
                    total += bytes.len();
                    Ok(())
                };
                for_each_piece(&reader, &content, &mut count, &mut |_| Ok(())).expect("content");
            }
            total
        });
    });
    group.bench_function("first", |b| b.iter_with_setup(new_repository, |fresh| back_up(&fresh, dir.path())));
    group.finish();
}

criterion_group!(benches, whole);
criterion_main!(benches);
