//! The order of a collection's steps, each tried at the very moment when it matters: others act between two calls.

use crate::shelf::{Random, Tree, commit, dir, file, random_tree, repository, session, tree};
use snapkeep::backend::memory::MemoryBackend;
use snapkeep::backend::{Backend, FileStat, Pending, SessionFile};
use snapkeep::crypto::ChunkSort;
use snapkeep::error::Result;
use snapkeep::format::entry::Extent;
use snapkeep::format::snapshot::Snapshot;
use snapkeep::format::{FileName, Folder};
use snapkeep::gc::{MaxUnused, PruneOptions, PruneReport, run};
use snapkeep::id::{ChunkId, Name, PackId, SnapshotId};
use snapkeep::manifest::walk::Walk;
use snapkeep::progress::{Progress, Silent};
use snapkeep::repository::snapshots::Listed;
use snapkeep::repository::writer::{DeltaPolicy, Writer};
use snapkeep::repository::{Repository, condemned, removal};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A call that matters to the order.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Call {
    Create(Folder),
    List(Folder),
    Remove(Folder),
    SyncSeen,
}

type Meanwhile = Box<dyn FnOnce() + Send>;
type Log = Arc<Mutex<Vec<Call>>>;

/// A place that writes down calls, and where something happens, once, before one of them.
struct Gate {
    behind: MemoryBackend,
    /// It happens when all of these have come, before the last.
    calls: Vec<Call>,
    meanwhile: Mutex<Option<Meanwhile>>,
    log: Log,
}

impl Gate {
    /// The same repository behind a gate.
    fn of(
        repository: &Repository,
        behind: &MemoryBackend,
        calls: &[Call],
        meanwhile: Meanwhile,
    ) -> (Repository, Log) {
        let (behind, calls, log) = (behind.clone(), calls.to_vec(), Log::default());
        let gate = Gate { behind, calls, meanwhile: Mutex::new(Some(meanwhile)), log: Arc::clone(&log) };
        (repository.with_backend(Arc::new(gate)), log)
    }

    fn before(&self, call: Call) {
        let mut log = self.log.lock().expect("no panic");
        log.push(call);
        if self.calls.iter().all(|call| log.contains(call))
            && let Some(meanwhile) = self.meanwhile.lock().expect("no panic").take()
        {
            meanwhile();
        }
    }
}

impl Backend for Gate {
    fn create(&self, name: &FileName) -> Result<Box<dyn Pending>> {
        self.before(Call::Create(name.folder()));
        self.behind.create(name)
    }
    fn read(&self, name: &FileName, max: u64) -> Result<Vec<u8>> {
        self.behind.read(name, max)
    }
    fn read_range(&self, name: &FileName, offset: u64, len: usize) -> Result<Vec<u8>> {
        self.behind.read_range(name, offset, len)
    }
    fn list(&self, folder: Folder) -> Result<Vec<FileStat>> {
        self.before(Call::List(folder));
        self.behind.list(folder)
    }
    fn remove(&self, name: &FileName) -> Result<()> {
        self.before(Call::Remove(name.folder()));
        self.behind.remove(name)
    }
    fn open_session(&self, session: Name, first: &[u8]) -> Result<Box<dyn SessionFile>> {
        self.behind.open_session(session, first)
    }
    fn evict(&self, session: Name) -> Result<()> {
        self.behind.evict(session)
    }
    fn session_alive(&self, session: Name) -> Option<bool> {
        self.behind.session_alive(session)
    }
    fn sync_seen(&self) -> Result<()> {
        self.before(Call::SyncSeen);
        self.behind.sync_seen()
    }
    fn location(&self) -> String {
        self.behind.location()
    }
}

fn prune(repository: &Arc<Repository>) -> Result<PruneReport> {
    let options =
        PruneOptions { max_unused: MaxUnused::Bytes(0), wait: Duration::ZERO, ..PruneOptions::default() };
    run(repository, &options, &Progress::new(), &Silent)
}

fn packs(backend: &MemoryBackend) -> Vec<PackId> {
    backend.list(Folder::Packs).expect("listed").iter().map(|stat| stat.name.header_name()).collect()
}

/// Commits what `like` holds, by way of what a session found.
fn commit_like(mut writer: Writer, like: &Listed) -> Result<SnapshotId> {
    let packed = writer.flush()?;
    let record = Snapshot { id: writer.session.to_string(), ..like.record.clone() };
    writer.commit(&record, packed)
}

#[test]
fn a_backup_that_begins_while_a_list_is_being_written_is_waited_for() {
    let backend = MemoryBackend::new();
    let repository = repository(&backend, None);
    let before = random_tree(&mut Random(81), 60);
    let a = commit(&repository, &before, 1, None);
    removal::snapshot(&backend, a.id).expect("forgotten");
    let begun: Arc<Mutex<Option<Writer>>> = Arc::default();
    let (theirs, place) = (Arc::clone(&repository), Arc::clone(&begun));
    let begins: Meanwhile = Box::new(move || {
        *place.lock().expect("no panic") = Some(session(&theirs).expect("a session"));
    });
    let (gated, _) = Gate::of(&repository, &backend, &[Call::Create(Folder::Condemned)], begins);
    let done = prune(&Arc::new(gated)).expect("pruned");
    let writer = begun.lock().expect("no panic").take().expect("it has begun");
    assert!(done.waiting_packs > 0 && done.deleted_packs == 0, "{done:?}");
    let b = commit_like(writer, &a).expect("committed");
    assert!(prune(&repository).expect("pruned").rescued > 0);
    let reader = repository.reader().expect("a reader");
    let b = snapkeep::repository::snapshots::read(&repository, b).expect("there");
    assert!(tree(&reader, &b.root) == before);
}

/// Nothing that was seen may be undone by a crash that what rests on it survives.
#[test]
fn what_was_seen_is_made_durable_before_anything_rests_on_it() {
    let backend = MemoryBackend::new();
    let repository = repository(&backend, None);
    let a = commit(&repository, &random_tree(&mut Random(84), 60), 1, None);
    removal::snapshot(&backend, a.id).expect("forgotten");
    let (gated, log) = Gate::of(&repository, &backend, &[], Box::new(|| ()));
    assert!(prune(&Arc::new(gated)).expect("pruned").deleted_packs > 0);
    let log = log.lock().expect("no panic");
    let first = |call: Call, from: usize| log[from..].iter().position(|c| *c == call).expect("done") + from;
    let published = first(Call::Create(Folder::Condemned), 0);
    let synced = first(Call::SyncSeen, published);
    assert!(synced < first(Call::List(Folder::Sessions), published), "the list, before it waits: {log:?}");
    let deleted = first(Call::Remove(Folder::Packs), 0);
    let marked = log[..deleted].iter().rposition(|c| *c == Call::List(Folder::Snapshots)).expect("done");
    assert!(marked > published, "it marks again: {log:?}");
    assert!(first(Call::SyncSeen, marked) < deleted, "what it saw then, before it deletes: {log:?}");
}

#[test]
fn a_backup_reads_the_lists_before_it_lists_packs() {
    let backend = MemoryBackend::new();
    let mut repository = repository(&backend, None);
    let cache = tempfile::tempdir().expect("a directory");
    Arc::get_mut(&mut repository).expect("ours alone").set_cache(Some(cache.path()));
    let a = commit(&repository, &random_tree(&mut Random(82), 60), 1, None);
    assert!(repository.load_index().expect("loaded").present(&a.root).expect("looked up"));
    // A collector has published its list; every session that it has to wait for has ended.
    let all = packs(&backend);
    let list = condemned::publish(&backend, repository.keyring(), 0, &all).expect("published");
    let (behind, keyring) = (backend.clone(), Arc::clone(repository.keyring()));
    // A backup begins, and between two of its listings that collector deletes, and another one publishes a list.
    let ends: Meanwhile = Box::new(move || {
        all.iter().for_each(|pack| removal::pack(&behind, *pack).expect("deleted"));
        let garbage = snapkeep::repository::random::name().expect("random");
        condemned::publish(&behind, &keyring, list, &[garbage]).expect("published");
        removal::condemned(&behind, list).expect("removed");
    });
    let calls = [Call::List(Folder::Condemned), Call::List(Folder::Packs)];
    let (mut gated, _) = Gate::of(&repository, &backend, &calls, ends);
    gated.set_cache(Some(cache.path()));
    let index = gated.load_index().expect("loaded");
    assert!(!index.present(&a.root).expect("looked up"), "in a pack that is gone");
}

/// The only chunk of the only file of a snapshot.
fn only_chunk(repository: &Repository, listed: &Listed) -> ChunkId {
    let reader = repository.reader().expect("a reader");
    let entries = Walk::new(&reader, &listed.root, b"").expect("a walk").map(|e| e.expect("an entry"));
    let chunk = |extent: &Extent| if let Extent::Chunk { id, .. } = extent { Some(*id) } else { None };
    entries.flat_map(|e| e.content.extents).find_map(|e| chunk(&e)).expect("a chunk")
}

#[test]
fn two_copies_that_lean_on_each_other_are_not_enough() {
    let backend = MemoryBackend::new();
    let repository = repository(&backend, None);
    let bytes = Random(83).bytes(2500);
    let first = Tree::from([("home".to_owned(), dir(1)), ("home/db".to_owned(), file(bytes.clone(), 1))]);
    let mut second = first.clone();
    second.get_mut("home/db").expect("there").bytes[9] ^= 1;
    let a = commit(&repository, &first, 1, None);
    let whole = packs(&backend);
    let b = commit(&repository, &second, 2, Some(&a));
    let (old, new) = (only_chunk(&repository, &a), only_chunk(&repository, &b));
    // A second copy of the first version, stored against the second, which is stored against the first.
    let mut writer = session(&repository).expect("a session");
    let mut lane = writer.lane(ChunkSort::Content).expect("a lane");
    lane.store(old, &bytes, &[new], DeltaPolicy::MANIFEST).expect("stored");
    lane.finish().expect("finished");
    writer.flush().expect("flushed");
    drop(writer);
    let index = repository.load_index_uncached().expect("loaded");
    let depths: Vec<u8> = index.copies(&old).expect("copies").iter().map(|c| c.place.depth).collect();
    assert_eq!(depths, [0, 2], "one whole, one that leans");
    // The whole copy goes: somebody condemned the packs it lies in.
    condemned::publish(&backend, repository.keyring(), 0, &whole).expect("published");
    let done = prune(&repository).expect("pruned");
    assert!(done.rescued > 0 && done.deleted_packs > 0, "{done:?}");
    let reader = repository.reader().expect("a reader");
    assert!(tree(&reader, &a.root) == first && tree(&reader, &b.root) == second);
}
