//! Backing up: what is stored is what was there, again and again; small changes stay small; many writers at once;
//! nothing half-done is ever visible.

use snapkeep::backend::local::LocalBackend;
use snapkeep::backend::memory::MemoryBackend;
use snapkeep::backend::{Backend, FileStat, Pending, SessionFile};
use snapkeep::backup::{self, Input, Options, Outcome, ParentChoice};
use snapkeep::clock::{Clock, SystemClock};
use snapkeep::crypto::hash::FileHash;
use snapkeep::crypto::password::Password;
use snapkeep::error::{Error, ErrorKind, Result};
use snapkeep::format::entry::{Entry, Flags, Kind};
use snapkeep::format::{FileName, Folder};
use snapkeep::id::{ChunkId, Name};
use snapkeep::manifest::content::for_each_piece;
use snapkeep::manifest::walk::Walk;
use snapkeep::progress::{Problem, Progress, Report, Silent};
use snapkeep::repository::reader::Reader;
use snapkeep::repository::{self, NewRepository, Repository, snapshots};
use snapkeep::source::filter::{Filter, FilterOptions};
use snapkeep::source::roots::Root;
use snapkeep::source::stream::StreamSource;
use snapkeep::source::{FileSource, WalkOptions};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

/// A repeatable stream of numbers.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// Bytes that compress like text.
    pub fn text(&mut self, len: usize) -> Vec<u8> {
        const WORDS: [&str; 8] =
            ["alpha ", "beta ", "gamma\n", "delta ", "status", "task ", "{\"id\":", "},\n"];
        let mut out = Vec::with_capacity(len + 8);
        while out.len() < len {
            out.extend_from_slice(WORDS[self.below(8) as usize].as_bytes());
            if self.below(3) == 0 {
                out.extend_from_slice(self.next().to_string().as_bytes());
            }
        }
        out.truncate(len);
        out
    }

    pub fn noise(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| (self.next() >> 32) as u8).collect()
    }
}

pub fn new_repository(backend: Arc<dyn Backend>, password: Option<&str>) -> Arc<Repository> {
    let password = password.map(|p| Password::new(p.as_bytes().to_vec()).expect("not empty"));
    // Cheap derivation: these tests are not about passwords.
    let new = NewRepository {
        password: password.as_ref(),
        owner: repository::keys::SlotOwner::default(),
        group_readable: false,
        like: None,
        now: SystemClock.now(),
    };
    Arc::new(repository::create(backend, &new).expect("a new repository"))
}

pub fn source(path: &Path) -> Input {
    let roots = vec![Root::new(path).expect("a path")];
    let filter = Filter::new(&FilterOptions::default()).expect("no patterns");
    let options = WalkOptions { started: SystemClock.now(), ..WalkOptions::default() };
    Input::Files(Box::new(FileSource::new(roots, filter, options).expect("a source")))
}

pub fn options() -> Options {
    Options { host: "test".into(), user: "test".into(), ..Options::default() }
}

pub fn back_up(repository: &Arc<Repository>, path: &Path) -> Outcome {
    back_up_with(repository, &source(path), &options()).expect("a snapshot")
}

pub fn back_up_with(repository: &Arc<Repository>, input: &Input, options: &Options) -> Result<Outcome> {
    backup::run(repository, input, options, &SystemClock, &Progress::new(), &Silent)
}

/// A file's bytes as the repository gives them back.
pub fn content(reader: &Reader, entry: &Entry) -> Vec<u8> {
    let out = RefCell::new(Vec::new());
    let add = |bytes: &[u8]| -> Result<()> {
        out.borrow_mut().extend_from_slice(bytes);
        Ok(())
    };
    let mut data = add;
    for_each_piece(reader, &entry.content, &mut data, &mut |zeros| add(&vec![0; zeros as usize]))
        .expect("readable content");
    let bytes = out.into_inner();
    if let Some(hash) = entry.content.hash {
        let mut whole = FileHash::new();
        whole.update(&bytes);
        assert_eq!(whole.finish(), hash, "the whole-file hash fits");
    }
    bytes
}

/// What stands below a directory, by an independent walk: path to (kind, mode, mtime, bytes).
fn on_disk(root: &Path) -> BTreeMap<Vec<u8>, (char, u32, i64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut todo = vec![root.to_path_buf()];
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).expect("there");
        let (kind, bytes) = if meta.is_dir() {
            todo.extend(fs::read_dir(&path).expect("list").map(|e| e.expect("entry").path()));
            ('d', Vec::new())
        } else if meta.is_symlink() {
            ('l', fs::read_link(&path).expect("link").as_os_str().as_bytes().to_vec())
        } else {
            ('f', fs::read(&path).expect("read"))
        };
        let key = path.strip_prefix("/").expect("absolute").as_os_str().as_bytes().to_vec();
        found.insert(key, (kind, meta.mode() & 0o7777, meta.mtime(), bytes));
    }
    found
}

fn in_snapshot(
    reader: &Reader,
    root: &ChunkId,
    below: &Path,
) -> BTreeMap<Vec<u8>, (char, u32, i64, Vec<u8>)> {
    let below = below.strip_prefix("/").expect("absolute").as_os_str().as_bytes();
    let mut found = BTreeMap::new();
    for entry in Walk::new(reader, root, below).expect("a manifest") {
        let entry = entry.expect("an entry");
        let (kind, bytes) = match &entry.kind {
            Kind::Directory => ('d', Vec::new()),
            Kind::Symlink(target) => ('l', target.clone()),
            _ => ('f', content(reader, &entry)),
        };
        found.insert(entry.path.clone(), (kind, entry.meta.mode, entry.meta.mtime.secs, bytes));
    }
    found
}

pub fn assert_snapshot_is(repository: &Repository, id: Name, root: &Path) {
    let reader = repository.reader().expect("a reader").with_cache(2 << 20);
    let snapshot = snapshots::read(repository, id).expect("a snapshot");
    let (stored, real) = (in_snapshot(&reader, &snapshot.root, root), on_disk(root));
    assert_eq!(stored.keys().collect::<Vec<_>>(), real.keys().collect::<Vec<_>>(), "the same paths");
    for (path, want) in &real {
        assert!(stored[path] == *want, "{} differs", String::from_utf8_lossy(path));
    }
}

#[test]
fn a_tree_comes_back_whole_encrypted_and_plain() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut random = Random(11);
    fs::create_dir_all(dir.path().join("a/b/c")).expect("mkdir");
    for (name, len) in
        [("empty", 0), ("one", 1), ("a/small", 5_000), ("a/b/edge", 128 << 10), ("a/b/big", 3 << 20)]
    {
        fs::write(dir.path().join(name), random.text(len)).expect("write");
    }
    fs::write(dir.path().join("a/b/c/noise"), random.noise(700_000)).expect("write");
    fs::write(dir.path().join("zeros"), vec![0u8; 5 << 20]).expect("write");
    let sparse = fs::File::create(dir.path().join("sparse")).expect("create");
    sparse.write_all_at(b"middle", 3 << 20).expect("write");
    sparse.set_len(9 << 20).expect("len");
    std::os::unix::fs::symlink("a/../nowhere", dir.path().join("link")).expect("symlink");
    for password in [None, Some("secret")] {
        let backend = MemoryBackend::new();
        let repository = new_repository(Arc::new(backend.clone()), password);
        let first = back_up(&repository, dir.path());
        assert_snapshot_is(&repository, first.snapshot.expect("committed"), dir.path());
        assert_eq!(first.summary.problems, 0);
        let everything: Vec<u8> = backend.files().into_values().flatten().collect();
        let visible = everything.windows(6).any(|w| w == b"middle");
        assert_eq!(visible, password.is_none(), "plain bytes are visible exactly without a password");
    }
}

#[test]
fn thirty_generations_of_small_edits_stay_small_and_every_one_comes_back() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut random = Random(5);
    for i in 0..40 {
        fs::write(dir.path().join(format!("file-{i}.json")), random.text(20_000)).expect("write");
    }
    fs::write(dir.path().join("large"), random.text(2 << 20)).expect("write");
    let backend = MemoryBackend::new();
    let repository = new_repository(Arc::new(backend.clone()), Some("x"));
    let mut kept = vec![(back_up(&repository, dir.path()).snapshot.expect("committed"), on_disk(dir.path()))];
    let size = |b: &MemoryBackend| b.files().values().map(Vec::len).sum::<usize>();
    let base = size(&backend);
    for generation in 0..30 {
        for _ in 0..4 {
            let path = dir.path().join(format!("file-{}.json", random.below(40)));
            let mut bytes = fs::read(&path).expect("read");
            let at = random.below(bytes.len() as u64 - 20) as usize;
            let new = random.text(20);
            bytes[at..at + 20].copy_from_slice(&new);
            fs::write(&path, bytes).expect("write");
        }
        let large = fs::OpenOptions::new().write(true).open(dir.path().join("large")).expect("open");
        large
            .write_all_at(format!("generation {generation}").as_bytes(), random.below(2 << 20))
            .expect("write");
        kept.push((back_up(&repository, dir.path()).snapshot.expect("committed"), on_disk(dir.path())));
    }
    let grown = size(&backend) - base;
    // 120 files of 20 KB (compressed about 8 KB each) and 30 chunks of about 256 KiB would be far over a megabyte.
    assert!(grown < 400_000, "thirty generations took {grown} bytes");
    let reader = repository.reader().expect("a reader").with_cache(1 << 20);
    for (id, want) in &kept {
        let snapshot = snapshots::read(&repository, *id).expect("a snapshot");
        assert!(in_snapshot(&reader, &snapshot.root, dir.path()) == *want, "{id} differs");
    }
    let mut deepest = 0;
    reader
        .index()
        .for_each(&mut |listed, _| {
            deepest = deepest.max(listed.place.depth);
            Ok(())
        })
        .expect("an index");
    assert!((2..=30).contains(&deepest), "histories are used, and bounded: {deepest}");
}

#[test]
fn an_unchanged_tree_is_not_read_and_not_stored_again() {
    let dir = tempfile::tempdir().expect("tempdir");
    for i in 0..50 {
        fs::write(dir.path().join(format!("{i}")), format!("content {i}")).expect("write");
        let old = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
        fs::File::options()
            .write(true)
            .open(dir.path().join(format!("{i}")))
            .expect("open")
            .set_times(old)
            .expect("times");
    }
    let repository = new_repository(Arc::new(MemoryBackend::new()), None);
    back_up(&repository, dir.path());
    // What was touched in the tick of the first backup must be read once more; after that nothing is.
    std::thread::sleep(std::time::Duration::from_millis(300));
    back_up(&repository, dir.path());
    let mut quiet = options();
    quiet.skip_if_unchanged = true;
    quiet.reread_percent = 0.0;
    let third = back_up_with(&repository, &source(dir.path()), &quiet).expect("runs");
    assert_eq!(
        (third.summary.files_unmodified, third.summary.files_changed, third.summary.files_new),
        (50, 0, 0)
    );
    assert!(third.unchanged && third.snapshot.is_none());
    assert_eq!(snapshots::list(&repository).expect("lists").snapshots.len(), 2);
    fs::write(dir.path().join("7"), "content seven").expect("write");
    let fourth = back_up_with(&repository, &source(dir.path()), &quiet).expect("runs");
    assert_eq!(fourth.summary.files_changed, 1);
    assert!(fourth.snapshot.is_some());
    assert_snapshot_is(&repository, fourth.snapshot.expect("committed"), dir.path());
}

/// Problems and warnings, as they were reported.
#[derive(Default)]
pub struct Heard(pub Mutex<Vec<String>>, pub Mutex<Vec<String>>);

impl Report for Heard {
    fn problem(&self, p: &Problem) {
        self.0.lock().expect("lock").push(format!("{}: {}", String::from_utf8_lossy(&p.item), p.message));
    }

    fn warning(&self, p: &Problem) {
        self.1.lock().expect("lock").push(format!("{}: {}", String::from_utf8_lossy(&p.item), p.message));
    }
}

#[test]
fn a_database_that_is_not_captured_is_called_unverified() {
    let dir = tempfile::tempdir().expect("tempdir");
    let db = rusqlite::Connection::open(dir.path().join("app.data")).expect("sqlite");
    db.execute_batch("create table t(x); insert into t values (1), (2);").expect("sql");
    drop(db);
    fs::write(dir.path().join("liar.db"), "not a database").expect("write");
    let repository = new_repository(Arc::new(MemoryBackend::new()), None);
    let heard = Heard::default();
    let mut off = options();
    off.sqlite.capture = false;
    let outcome = backup::run(&repository, &source(dir.path()), &off, &SystemClock, &Progress::new(), &heard)
        .expect("runs");
    assert_eq!(outcome.summary.unverified, 1);
    assert!(heard.1.lock().expect("lock").iter().any(|w| w.contains("app.data") && w.contains("unverified")));
    let reader = repository.reader().expect("reader");
    let root = snapshots::read(&repository, outcome.snapshot.expect("committed")).expect("snapshot").root;
    let flagged: Vec<_> = Walk::new(&reader, &root, b"")
        .expect("walk")
        .map(|e| e.expect("entry"))
        .filter(|e| e.flags.has(Flags::UNVERIFIED))
        .map(|e| e.name().to_vec())
        .collect();
    assert_eq!(flagged, vec![b"app.data".to_vec()]);
}

#[test]
fn a_command_that_fails_fails_the_backup() {
    let repository = new_repository(Arc::new(MemoryBackend::new()), Some("x"));
    let stream = |script: &str| Input::Stream {
        source: StreamSource::Command(["sh", "-c", script].iter().map(|s| (*s).into()).collect()),
        path: b"dump.sql".to_vec(),
    };
    let good = back_up_with(&repository, &stream("printf hello; printf world"), &options()).expect("runs");
    let reader = repository.reader().expect("reader");
    let root = snapshots::read(&repository, good.snapshot.expect("committed")).expect("snapshot").root;
    let entry = Walk::new(&reader, &root, b"dump.sql").expect("walk").next().expect("one").expect("entry");
    assert_eq!(content(&reader, &entry), b"helloworld");
    let bad = back_up_with(&repository, &stream("printf half; exit 3"), &options()).expect_err("fails");
    assert!(bad.message().contains("status 3"), "{bad}");
    assert_eq!(snapshots::list(&repository).expect("lists").snapshots.len(), 1);
    assert!(
        repository.backend().list(Folder::Sessions).expect("lists").is_empty(),
        "no session is left open"
    );
}

#[test]
fn many_backups_at_once_into_one_directory() {
    let dir = tempfile::tempdir().expect("tempdir");
    let backend = LocalBackend::create(&dir.path().join("repository"), false).expect("a directory");
    let repository = new_repository(Arc::new(backend), Some("x"));
    let mut random = Random(3);
    let shared = random.text(300_000);
    let trees: Vec<_> = (0..4)
        .map(|t| {
            let tree = dir.path().join(format!("tree-{t}"));
            fs::create_dir(&tree).expect("mkdir");
            fs::write(tree.join("shared"), &shared).expect("write");
            for i in 0..20 {
                fs::write(tree.join(format!("{i}")), random.text(10_000 + i)).expect("write");
            }
            tree
        })
        .collect();
    let outcomes: Vec<(Name, &Path)> = std::thread::scope(|scope| {
        let runs: Vec<_> = trees
            .iter()
            .map(|tree| {
                let repository = Arc::clone(&repository);
                (scope.spawn(move || back_up(&repository, tree).snapshot.expect("committed")), tree.as_path())
            })
            .collect();
        runs.into_iter().map(|(run, tree)| (run.join().expect("no panic"), tree)).collect()
    });
    for (id, tree) in outcomes {
        assert_snapshot_is(&repository, id, tree);
    }
}

/// Lets a number of writing calls through, then fails every one.
struct Failing {
    behind: MemoryBackend,
    left: Arc<AtomicI64>,
}

struct FailingFile<T: ?Sized>(Box<T>, Arc<AtomicI64>);

fn spend(left: &AtomicI64) -> Result<()> {
    if left.fetch_sub(1, Ordering::SeqCst) <= 0 {
        return Err(Error::new(ErrorKind::Io, "no more"));
    }
    Ok(())
}

impl Backend for Failing {
    fn create(&self, name: &FileName) -> Result<Box<dyn Pending>> {
        spend(&self.left)?;
        Ok(Box::new(FailingFile(self.behind.create(name)?, Arc::clone(&self.left))))
    }
    fn read(&self, name: &FileName, max: u64) -> Result<Vec<u8>> {
        self.behind.read(name, max)
    }
    fn read_range(&self, name: &FileName, offset: u64, len: usize) -> Result<Vec<u8>> {
        self.behind.read_range(name, offset, len)
    }
    fn list(&self, folder: Folder) -> Result<Vec<FileStat>> {
        self.behind.list(folder)
    }
    fn remove(&self, name: &FileName) -> Result<()> {
        self.behind.remove(name)
    }
    fn open_session(&self, session: Name, first: &[u8]) -> Result<Box<dyn SessionFile>> {
        spend(&self.left)?;
        Ok(Box::new(FailingFile(self.behind.open_session(session, first)?, Arc::clone(&self.left))))
    }
    fn evict(&self, session: Name) -> Result<()> {
        self.behind.evict(session)
    }
    fn session_alive(&self, session: Name) -> Option<bool> {
        self.behind.session_alive(session)
    }
    fn sync_seen(&self) -> Result<()> {
        spend(&self.left)
    }
    fn location(&self) -> String {
        "failing".into()
    }
}

impl Pending for FailingFile<dyn Pending> {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        spend(&self.1)?;
        self.0.append(bytes)
    }
    fn publish(self: Box<Self>) -> Result<()> {
        spend(&self.1)?;
        self.0.publish()
    }
}

impl SessionFile for FailingFile<dyn SessionFile> {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        spend(&self.1)?;
        self.0.append(bytes)
    }
    fn commit(self: Box<Self>) -> Result<()> {
        spend(&self.1)?;
        self.0.commit()
    }
    fn abandon(self: Box<Self>) -> Result<()> {
        self.0.abandon()
    }
}

#[test]
fn every_failing_write_fails_the_backup_cleanly_and_the_next_one_goes_on() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut random = Random(17);
    for i in 0..30 {
        fs::write(dir.path().join(format!("{i}")), random.noise(60_000)).expect("write");
    }
    fs::write(dir.path().join("large"), random.noise(12 << 20)).expect("write");
    let first = MemoryBackend::new();
    let plain = new_repository(Arc::new(first.clone()), Some("x"));
    let good = back_up(&plain, dir.path()).snapshot.expect("committed");
    fs::write(dir.path().join("more"), random.noise(2 << 20)).expect("write");
    let mut tried = 0;
    for budget in 0.. {
        // A fresh copy of the repository with one snapshot, and a backend that gives up after `budget` calls.
        let copy = MemoryBackend::new();
        for (name, bytes) in first.files() {
            copy.overwrite(name, bytes);
        }
        let left = Arc::new(AtomicI64::new(budget));
        let failing = Arc::new(plain.with_backend(Arc::new(Failing { behind: copy.clone(), left })));
        let result = back_up_with(&failing, &source(dir.path()), &options());
        let healthy = Arc::new(plain.with_backend(Arc::new(copy.clone())));
        let listed = snapshots::list(&healthy).expect("lists");
        assert!(listed.damaged.is_empty());
        match result {
            Err(e) => {
                assert_eq!(e.message(), "no more", "the cause is named, not its echo");
                assert_eq!(listed.snapshots.len(), 1, "nothing is committed after {budget} calls");
                let again = back_up(&healthy, dir.path()).snapshot.expect("committed");
                assert_snapshot_is(&healthy, again, dir.path());
            }
            Ok(outcome) => {
                assert_snapshot_is(&healthy, outcome.snapshot.expect("committed"), dir.path());
                break;
            }
        }
        assert!(snapshots::read(&healthy, good).is_ok());
        tried += 1;
    }
    assert!(tried >= 8, "only {tried} calls could fail");
    println!("{tried} failing calls, none lost anything");
}

#[test]
fn a_lost_pack_is_healed_by_the_next_backup() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut random = Random(23);
    for i in 0..10 {
        fs::write(dir.path().join(format!("{i}")), random.text(30_000)).expect("write");
    }
    let backend = MemoryBackend::new();
    let repository = new_repository(Arc::new(backend.clone()), Some("x"));
    back_up(&repository, dir.path());
    std::thread::sleep(std::time::Duration::from_millis(300));
    back_up(&repository, dir.path());
    let packs = backend.list(Folder::Packs).expect("lists");
    let largest = packs.iter().max_by_key(|p| p.size).expect("packs").name;
    backend.remove(&largest).expect("removes");
    let healed = back_up(&repository, dir.path());
    assert_snapshot_is(&repository, healed.snapshot.expect("committed"), dir.path());
}

#[test]
fn a_forced_backup_reads_everything_and_a_dry_run_stores_nothing() {
    let dir = tempfile::tempdir().expect("tempdir");
    fs::write(dir.path().join("a"), "some text").expect("write");
    let backend = MemoryBackend::new();
    let repository = new_repository(Arc::new(backend.clone()), Some("x"));
    let before = backend.files();
    let dry = Options { dry_run: true, ..options() };
    let outcome = back_up_with(&repository, &source(dir.path()), &dry).expect("runs");
    assert!(outcome.snapshot.is_none() && outcome.summary.files_new == 1 && outcome.summary.data_blobs == 1);
    assert!(backend.files() == before, "a dry run leaves the repository as it was");
    back_up(&repository, dir.path());
    let forced = Options { parent: ParentChoice::Nothing, ..options() };
    let outcome = back_up_with(&repository, &source(dir.path()), &forced).expect("runs");
    assert_eq!((outcome.summary.files_new, outcome.summary.data_blobs), (1, 0));
}

#[test]
fn cancelling_leaves_nothing_but_reusable_packs() {
    let dir = tempfile::tempdir().expect("tempdir");
    fs::write(dir.path().join("a"), "some text").expect("write");
    let backend = MemoryBackend::new();
    let repository = new_repository(Arc::new(backend.clone()), Some("x"));
    let progress = Progress::new();
    progress.cancel();
    let result = backup::run(&repository, &source(dir.path()), &options(), &SystemClock, &progress, &Silent);
    assert_eq!(result.expect_err("stops").kind(), ErrorKind::Cancelled);
    for folder in [Folder::Sessions, Folder::Snapshots] {
        assert!(backend.list(folder).expect("lists").is_empty());
    }
}

#[test]
fn a_damaged_newest_key_record_is_replaced_by_a_new_password() {
    let backend = MemoryBackend::new();
    let repository = new_repository(Arc::new(backend.clone()), Some("x"));
    let good = backend.files()[&FileName::Keys(1)].clone();
    backend.overwrite(FileName::Keys(2), vec![7; good.len()]);
    let password = Password::new(b"new".to_vec()).expect("not empty");
    repository
        .change_password(&password, &repository::keys::SlotOwner::default(), SystemClock.now())
        .expect("changes");
    let keys: Vec<_> = backend.list(Folder::Keys).expect("lists").iter().map(|s| s.name).collect();
    assert_eq!(keys, [FileName::Keys(3)], "only the new record is left");
    let open =
        |p: &Password| repository::locate(Arc::new(backend.clone())).expect("there").open(Some(p), None);
    assert!(open(&password).is_ok());
    let old = Password::new(b"x".to_vec()).expect("not empty");
    assert!(open(&old).is_err_and(|e| e.kind() == ErrorKind::WrongKey));
}

#[test]
fn what_readers_would_refuse_costs_that_entry_only() {
    let dir = tempfile::tempdir().expect("tempdir");
    fs::write(dir.path().join("good"), "text").expect("write");
    snapkeep::os::process::raise_open_files();
    // Deeper than any reader goes, made step by step since no single call takes such a path.
    let mut here =
        rustix::fs::open(dir.path(), rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).expect("open");
    for _ in 0..4300 {
        rustix::fs::mkdirat(&here, "d", rustix::fs::Mode::from_raw_mode(0o755)).expect("mkdir");
        here = rustix::fs::openat(&here, "d", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty())
            .expect("open");
    }
    let repository = new_repository(Arc::new(MemoryBackend::new()), None);
    let outcome = back_up(&repository, dir.path());
    assert!(outcome.summary.problems > 0);
    let reader = repository.reader().expect("reader");
    let root = snapshots::read(&repository, outcome.snapshot.expect("committed")).expect("snapshot").root;
    let entries: Result<Vec<Entry>> = Walk::new(&reader, &root, b"").expect("walk").collect();
    let entries = entries.expect("every group can be read");
    assert!(entries.iter().any(|e| e.name() == b"good"));
    assert!(entries.len() > 4100, "{} entries", entries.len());
}

#[test]
fn what_a_check_found_damaged_is_stored_anew() {
    let dir = tempfile::tempdir().expect("tempdir");
    let tree = dir.path().join("tree");
    fs::create_dir(&tree).expect("mkdir");
    fs::write(tree.join("doc"), Random(9).noise(300_000)).expect("write");
    let backend = MemoryBackend::new();
    let mut repository = new_repository(Arc::new(backend.clone()), Some("x"));
    Arc::get_mut(&mut repository).expect("ours alone").set_cache(Some(&dir.path().join("cache")));
    back_up(&repository, &tree);
    let packs = backend.list(Folder::Packs).expect("lists");
    let damaged = packs.iter().max_by_key(|p| p.size).expect("packs").name;
    let mut bytes = backend.files()[&damaged].clone();
    bytes[150_000] ^= 1;
    backend.overwrite(damaged, bytes);
    let options = snapkeep::check::CheckOptions {
        read_data: Some(snapkeep::check::subset::Subset::All),
        ..snapkeep::check::CheckOptions::default()
    };
    let report = snapkeep::check::run(&repository, &options, &Progress::new(), &Silent).expect("checks");
    assert!(!report.damage.is_empty());
    let healed = back_up(&repository, &tree).snapshot.expect("committed");
    assert_snapshot_is(&repository, healed, &tree);
    // Several tiers later, merged or not, the good copy still serves.
    for i in 0..12 {
        fs::write(tree.join("more"), format!("{i}")).expect("write");
        back_up(&repository, &tree);
    }
    let reader = repository.reader().expect("reader");
    let root = snapshots::read(&repository, healed).expect("snapshot").root;
    let entries: Vec<Entry> =
        Walk::new(&reader, &root, b"").expect("walk").map(|e| e.expect("entry")).collect();
    let doc = entries.iter().find(|e| e.name() == b"doc").expect("doc");
    assert_eq!(content(&reader, doc), fs::read(tree.join("doc")).expect("read"));
}

#[test]
fn an_unreadable_snapshot_is_never_passed_over_as_latest() {
    let dir = tempfile::tempdir().expect("tempdir");
    fs::write(dir.path().join("a"), "old").expect("write");
    let backend = MemoryBackend::new();
    let repository = new_repository(Arc::new(backend.clone()), None);
    let old = back_up(&repository, dir.path()).snapshot.expect("committed");
    fs::write(dir.path().join("a"), "new").expect("write");
    let new = back_up(&repository, dir.path()).snapshot.expect("committed");
    let latest = || {
        let listing = snapshots::list(&repository).expect("lists");
        let filter = snapshots::SnapshotFilter::default();
        snapshots::resolve(&listing, "latest", &filter, SystemClock.now()).map(|l| l.id)
    };
    assert_eq!(latest().expect("there"), new);
    backend.overwrite(FileName::Snapshot(new), vec![0; 50]);
    // Its second copy knows what it held; without that nobody does.
    assert_eq!(latest().expect("there"), new);
    backend.overwrite(FileName::CopyOfSnapshot(new), vec![0; 50]);
    assert_eq!(latest().expect_err("refused").kind(), ErrorKind::Corrupt);
    let listing = snapshots::list(&repository).expect("lists");
    let by_id = snapshots::resolve(
        &listing,
        &old.to_string(),
        &snapshots::SnapshotFilter::default(),
        SystemClock.now(),
    );
    assert_eq!(by_id.expect("by id").id, old);
}

#[test]
fn the_newest_is_the_newest_whatever_the_series_and_the_times_given() {
    let (one, two) = (tempfile::tempdir().expect("tempdir"), tempfile::tempdir().expect("tempdir"));
    let repository = new_repository(Arc::new(MemoryBackend::new()), None);
    let future =
        Options { time: Some(snapkeep::clock::Timestamp { secs: 4_000_000_000, nanos: 0 }), ..options() };
    for _ in 0..5 {
        back_up(&repository, one.path());
    }
    let other = back_up(&repository, two.path()).snapshot.expect("committed");
    let newest = || snapshots::list(&repository).expect("lists").snapshots.last().expect("some").id;
    assert_eq!(newest(), other);
    back_up_with(&repository, &source(one.path()), &future).expect("runs");
    back_up(&repository, one.path());
    let last = back_up(&repository, two.path()).snapshot.expect("committed");
    let order: Vec<_> = snapshots::list(&repository).expect("lists").snapshots.iter().map(|l| l.id).collect();
    assert_eq!(order[order.len() - 2], last, "only what was given a future time comes after");
}

#[test]
fn a_change_that_keeps_size_and_mtime_is_seen() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("doc");
    let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    let write = |text: &str| {
        fs::write(&path, text).expect("write");
        let file = fs::File::options().write(true).open(&path).expect("open");
        file.set_times(fs::FileTimes::new().set_modified(old)).expect("times");
    };
    let repository = new_repository(Arc::new(MemoryBackend::new()), None);
    let quick = Options { reread_percent: 0.0, ..options() };
    write("first text");
    for _ in 0..2 {
        // Long enough for the backup to trust what it sees.
        std::thread::sleep(std::time::Duration::from_millis(2500));
        back_up_with(&repository, &source(dir.path()), &quick).expect("runs");
    }
    let unread = back_up_with(&repository, &source(dir.path()), &quick).expect("runs");
    assert_eq!(unread.summary.files_unmodified, 1);
    write("other text");
    let seen = back_up_with(&repository, &source(dir.path()), &quick).expect("runs");
    assert_eq!(seen.summary.files_changed, 1);
    assert_snapshot_is(&repository, seen.snapshot.expect("committed"), dir.path());
}

#[test]
fn an_interrupted_backup_says_what_is_kept_and_the_next_one_uses_it() {
    /// Asks to stop once so many packs have been published.
    struct Stopper(MemoryBackend, Arc<Progress>);
    let dir = tempfile::tempdir().expect("tempdir");
    let mut random = Random(31);
    for i in 0..60 {
        fs::write(dir.path().join(format!("{i:02}")), random.noise(1 << 20)).expect("write");
    }
    let backend = MemoryBackend::new();
    let repository = new_repository(Arc::new(backend.clone()), Some("x"));
    let stopper = Stopper(backend.clone(), Arc::new(Progress::new()));
    let error = std::thread::scope(|scope| {
        scope.spawn(|| {
            while stopper.0.list(Folder::Packs).expect("lists").is_empty() {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            stopper.1.cancel();
        });
        backup::run(&repository, &source(dir.path()), &options(), &SystemClock, &stopper.1, &Silent)
    });
    // On a machine where the rest was faster than the wish to stop there is nothing to see.
    let Err(error) = error else { return println!("too fast to be interrupted") };
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(error.message().contains("reused by the next backup"), "{error}");
    assert!(snapshots::list(&repository).expect("lists").snapshots.is_empty());
    let again = back_up(&repository, dir.path());
    let stored = again.summary.data_added;
    assert!(
        stored < 40 << 20,
        "a whole pack of the interrupted run serves again, yet {stored} bytes were stored"
    );
    assert_snapshot_is(&repository, again.snapshot.expect("committed"), dir.path());
}

#[test]
fn a_file_that_states_less_than_it_holds_is_read_to_its_end() {
    // Files of /proc state a size of 0.
    let path = Path::new("/proc/cpuinfo");
    let held = |bytes: &[u8]| bytes.iter().filter(|b| **b == b'\n').count();
    let lines = held(&fs::read(path).expect("read"));
    assert!(fs::metadata(path).expect("stat").len() == 0 && lines > 5);
    let repository = new_repository(Arc::new(MemoryBackend::new()), None);
    let outcome = back_up(&repository, path);
    let reader = repository.reader().expect("reader");
    let root = snapshots::read(&repository, outcome.snapshot.expect("committed")).expect("snapshot").root;
    let entries: Vec<Entry> =
        Walk::new(&reader, &root, b"").expect("walk").map(|e| e.expect("entry")).collect();
    let entry = entries.iter().find(|e| e.name() == b"cpuinfo").expect("stored");
    assert_eq!(held(&content(&reader, entry)), lines);
}
