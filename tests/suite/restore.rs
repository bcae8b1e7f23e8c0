//! Restoring into an empty place: everything comes back as it was, or is named.

use rustix::fs::XattrFlags;
use snapkeep::backend::memory::MemoryBackend;
use snapkeep::backup::{self, Input};
use snapkeep::clock::{FixedClock, Timestamp};
use snapkeep::compress::Level;
use snapkeep::crypto::{ChunkSort, hash};
use snapkeep::error::ErrorKind;
use snapkeep::format::FileName;
use snapkeep::format::entry::{Content, Entry, Extent, Flags, Kind, Metadata, Owner};
use snapkeep::format::snapshot::SessionInfo;
use snapkeep::id::ChunkId;
use snapkeep::manifest::build::Builder;
use snapkeep::manifest::walk::Groups;
use snapkeep::os::process::is_root;
use snapkeep::progress::{Problem, Progress, Report};
use snapkeep::repository::keys::SlotOwner;
use snapkeep::repository::writer::{DeltaPolicy, Writer};
use snapkeep::repository::{NewRepository, Repository, create, snapshots};
use snapkeep::restore::{self, RestoreOptions, Summary};
use snapkeep::source::filter::{Filter, FilterOptions};
use snapkeep::source::roots::Root;
use snapkeep::source::{FileSource, WalkOptions};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, FileTimes};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

/// A repository in memory.
pub struct Shelf {
    pub backend: MemoryBackend,
    pub repository: Arc<Repository>,
}

/// Keeps what is reported.
#[derive(Default)]
pub struct Told {
    pub problems: Mutex<Vec<Problem>>,
    pub warnings: Mutex<Vec<Problem>>,
}

impl Report for Told {
    fn problem(&self, problem: &Problem) {
        self.problems.lock().expect("lock").push(problem.clone());
    }

    fn warning(&self, problem: &Problem) {
        self.warnings.lock().expect("lock").push(problem.clone());
    }
}

impl Told {
    pub fn lines(&self) -> Vec<String> {
        let problems = self.problems.lock().expect("lock");
        problems.iter().map(|p| format!("{}: {}", String::from_utf8_lossy(&p.item), p.message)).collect()
    }
}

/// An entry with its bytes, for manifests made by hand.
pub struct Made {
    pub path: &'static [u8],
    pub kind: Kind,
    pub bytes: Vec<u8>,
    pub link: u64,
    pub hash: Option<[u8; 32]>,
}

pub fn file(path: &'static [u8], bytes: &[u8]) -> Made {
    Made { path, kind: Kind::File, bytes: bytes.to_vec(), link: 0, hash: None }
}

pub fn thing(path: &'static [u8], kind: Kind) -> Made {
    Made { path, kind, bytes: Vec::new(), link: 0, hash: None }
}

pub const MTIME: Timestamp = Timestamp { secs: 1_600_000_000, nanos: 7 };

impl Shelf {
    pub fn new() -> Self {
        let backend = MemoryBackend::new();
        let owner = SlotOwner { label: String::new(), user: String::new(), host: String::new() };
        let now = Timestamp { secs: 1_700_000_000, nanos: 0 };
        let new = NewRepository { password: None, owner, group_readable: false, like: None, now };
        let repository = Arc::new(create(Arc::new(backend.clone()), &new).expect("create"));
        Shelf { backend, repository }
    }

    /// Backs up `root` under its own path.
    pub fn backup(&self, root: &Path) -> ChunkId {
        let filter = Filter::new(&FilterOptions::default()).expect("filter");
        let roots = vec![Root::new(root).expect("root")];
        let source = FileSource::new(roots, filter, WalkOptions::default()).expect("source");
        let clock = FixedClock(Timestamp { secs: 1_900_000_000, nanos: 0 });
        let (progress, told) = (Progress::new(), Told::default());
        let options = backup::Options { workers: 2, ..backup::Options::default() };
        let input = Input::Files(Box::new(source));
        let outcome = backup::run(&self.repository, &input, &options, &clock, &progress, &told).expect("run");
        assert!(told.lines().is_empty(), "{:?}", told.lines());
        snapshots::read(&self.repository, outcome.snapshot.expect("committed")).expect("read").root
    }

    /// Stores a manifest of these entries, whatever it says.
    pub fn store(&self, made: Vec<Made>) -> ChunkId {
        let mut writer = Writer::open(&self.repository, Level::AUTO, &SessionInfo::default()).expect("open");
        let mut lane = writer.lane(ChunkSort::Content).expect("lane");
        let mut builder = Builder::new(&writer, Groups::default()).expect("builder");
        let owner = Owner { uid: user().0, gid: user().1, ..Owner::default() };
        let owner = Arc::new(owner);
        for made in made {
            let mode = if made.kind == Kind::Directory { 0o755 } else { 0o644 };
            let mut content = Content { size: made.bytes.len() as u64, ..Content::default() };
            let pieces = if made.hash.is_some() { made.bytes.len().div_ceil(2).max(1) } else { usize::MAX };
            for piece in made.bytes.chunks(pieces) {
                let id = lane.put(piece, &[], DeltaPolicy::CONTENT).expect("put");
                content.extents.push(Extent::Chunk { id, len: piece.len() as u32, repeat: 1 });
            }
            content.hash = made.hash;
            let meta = Metadata { mode, owner: owner.clone(), mtime: MTIME, xattrs: None };
            let (path, link) = (made.path.to_vec(), made.link);
            let entry = Entry { path, kind: made.kind, meta, flags: Flags::default(), link, content };
            builder.push(entry, Default::default()).expect("push");
        }
        lane.finish().expect("finish");
        let built = builder.finish().expect("built");
        writer.flush().expect("flush");
        built.root
    }

    pub fn restore(&self, root: &ChunkId, target: &Path, options: &RestoreOptions) -> (Summary, Told) {
        let (progress, told) = (Progress::new(), Told::default());
        let reader = self.repository.reader().expect("reader");
        let plan = restore::plan(&reader, root, target, options).expect("plan");
        let summary = restore::execute(&reader, plan, &progress, &told).expect("execute");
        assert_eq!(summary.problems, told.lines().len() as u64);
        (summary, told)
    }

    /// Restores everything, which must go without a word.
    pub fn restore_well(&self, root: &ChunkId, target: &Path, options: &RestoreOptions) -> Summary {
        let (summary, told) = self.restore(root, target, options);
        assert!(told.lines().is_empty(), "{:?}", told.lines());
        summary
    }
}

pub fn user() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

pub fn temp() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("temp dir");
    let path = dir.path().canonicalize().expect("real path");
    (dir, path)
}

pub fn stored(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes()[1..].to_vec()
}

pub fn below(path: &Path) -> RestoreOptions {
    RestoreOptions { below: stored(path), strip: true, ..RestoreOptions::default() }
}

pub fn set_mtime(path: &Path, secs: u64) {
    let file = File::open(path).expect("open");
    file.set_times(FileTimes::new().set_modified(UNIX_EPOCH + Duration::from_secs(secs))).expect("times");
}

/// Everything a restore has to bring back about one thing.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, i64),
    content: Vec<u8>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The first path that is the same file.
    same_as: PathBuf,
    device: u64,
}

/// A tree, looked at by the standard library and not by what is being tested. Paths are relative.
pub fn see(root: &Path) -> BTreeMap<PathBuf, Seen> {
    let (mut out, mut first) = (BTreeMap::new(), BTreeMap::new());
    let mut todo = vec![root.to_path_buf()];
    let mut paths = Vec::new();
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).expect("look");
        if meta.is_dir() {
            todo.extend(fs::read_dir(&path).expect("list").map(|e| e.expect("entry").path()));
        }
        paths.push(path);
    }
    paths.sort();
    for path in paths {
        let meta = fs::symlink_metadata(&path).expect("look");
        let short = path.strip_prefix(root).expect("below").to_path_buf();
        let content = match meta.file_type() {
            t if t.is_symlink() => {
                fs::read_link(&path).expect("link").into_os_string().as_encoded_bytes().to_vec()
            }
            t if t.is_file() => fs::read(&path).expect("read"),
            _ => Vec::new(),
        };
        let same_as = match meta.is_dir() {
            true => short.clone(),
            false => first.entry((meta.dev(), meta.ino())).or_insert_with(|| short.clone()).clone(),
        };
        let seen = Seen {
            mode: meta.mode(),
            owner: (meta.uid(), meta.gid()),
            mtime: (meta.mtime(), meta.mtime_nsec()),
            content,
            xattrs: xattrs(&path),
            same_as,
            device: meta.rdev(),
        };
        out.insert(short, seen);
    }
    out
}

fn xattrs(path: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut names = vec![0u8; 4096];
    let len = rustix::fs::llistxattr(path, &mut names).unwrap_or(0);
    let mut out = Vec::new();
    for name in names[..len].split(|&b| b == 0).filter(|n| !n.is_empty()) {
        let mut value = vec![0u8; 4096];
        let len = rustix::fs::lgetxattr(path, name, &mut value).expect("value");
        out.push((name.to_vec(), value[..len].to_vec()));
    }
    out.sort();
    out
}

pub fn assert_same(a: &Path, b: &Path) {
    let (a, b) = (see(a), see(b));
    let names = |t: &BTreeMap<PathBuf, Seen>| t.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&a), names(&b));
    for (path, seen) in &a {
        assert!(seen == &b[path], "{}\n{seen:?}\n{:?}", path.display(), b[path]);
    }
}

fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let step = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..len).map(step).collect()
}

/// One of everything.
fn zoo(root: &Path) {
    let at = |name: &[u8]| root.join(OsStr::from_bytes(name));
    fs::create_dir_all(at(b"deep/er/est")).expect("mkdir");
    fs::create_dir(at(b"empty")).expect("mkdir");
    fs::write(at(b"plain"), b"hello").expect("write");
    fs::write(at(b"nothing"), b"").expect("write");
    fs::write(at(b"new\nline"), b"n").expect("write");
    fs::write(at(b"not \xff\xfe utf8"), b"raw").expect("write");
    fs::write(at(&[b'x'; 255]), b"long").expect("write");
    fs::write(at(b"deep/er/est/file"), noise(3_000_000, 5)).expect("write");
    fs::write(at(b"zeros"), vec![0; 3_000_000]).expect("write");
    fs::write(at(b"large"), noise(20_000_000, 9)).expect("write");
    fs::write(at(b"setuid"), b"s").expect("write");
    fs::write(at(b"unreadable"), b"u").expect("write");
    let holes = File::create(at(b"holes")).expect("create");
    holes.set_len(5 << 20).expect("size");
    holes.write_all_at(b"middle", 2 << 20).expect("write");
    symlink("nowhere/at/all", at(b"link")).expect("symlink");
    symlink(OsStr::from_bytes(b"\xff"), at(b"deep/odd link")).expect("symlink");
    fs::hard_link(at(b"plain"), at(b"deep/second name")).expect("link");
    fs::hard_link(at(b"plain"), at(b"zz third name")).expect("link");
    rustix::fs::mkfifoat(rustix::fs::CWD, at(b"pipe"), rustix::fs::Mode::from_raw_mode(0o640)).expect("fifo");
    drop(std::os::unix::net::UnixListener::bind(at(b"socket")).expect("socket"));
    let xattr = rustix::fs::setxattr(at(b"plain"), "user.note", b"v\0alue", XattrFlags::empty());
    let on_dir = rustix::fs::setxattr(at(b"empty"), "user.dir", b"d", XattrFlags::empty());
    assert!(xattr.and(on_dir).is_ok(), "the filesystem under test has attributes");
    if is_root() {
        std::os::unix::fs::lchown(at(b"link"), Some(12), Some(34)).expect("chown");
        std::os::unix::fs::chown(at(b"setuid"), Some(4242), Some(4343)).expect("chown");
        let null = rustix::fs::makedev(1, 3);
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(
            rustix::fs::CWD,
            at(b"device"),
            rustix::fs::FileType::CharacterDevice,
            mode,
            null,
        )
        .expect("mknod");
    }
    for (first, second) in
        [(&b"link"[..], &b"zz link"[..]), (b"pipe", b"deep/pipe"), (b"device", b"zz device")]
    {
        if fs::symlink_metadata(at(first)).is_ok() {
            fs::hard_link(at(first), at(second)).expect("a second name");
        }
    }
    let mode =
        |name: &[u8], mode| fs::set_permissions(at(name), PermissionsExt::from_mode(mode)).expect("chmod");
    mode(b"setuid", 0o4755);
    mode(b"unreadable", 0o600);
    mode(b"deep/er", 0o2750);
    let old = UNIX_EPOCH - Duration::new(86_400 * 365, 123_456_789);
    for name in [&b"plain"[..], b"deep/er/est", b"empty"] {
        File::open(at(name)).expect("open").set_times(FileTimes::new().set_modified(old)).expect("times");
    }
    mode(b"deep/er/est", 0o500);
}

#[test]
fn a_tree_with_one_of_everything_comes_back() {
    let (_keep, root) = temp();
    let source = root.join("source");
    fs::create_dir(&source).expect("mkdir");
    zoo(&source);
    let shelf = Shelf::new();
    let snapshot = shelf.backup(&source);
    let target = root.join("a/b/target");
    let options = RestoreOptions { verify: true, special_bits: Some(true), ..below(&source) };
    let summary = shelf.restore_well(&snapshot, &target, &options);
    assert_same(&source, &target);
    let plain = see(&source).iter().filter(|(_, s)| s.mode & 0o170_000 == 0o100_000).count() as u64;
    assert_eq!((summary.files_restored, summary.total_files), (plain, plain));
    assert_eq!(summary.files_verified, plain);
    assert_eq!(summary.bytes_restored, summary.total_bytes);
    let blocks = |p: PathBuf| fs::metadata(p).expect("look").blocks();
    assert!(blocks(target.join("holes")) * 512 < 1 << 20, "holes are holes");
    assert!(blocks(target.join("zeros")) * 512 >= 3_000_000 - 4096, "data stays data");
    let whole = root.join("whole");
    let sparse = RestoreOptions { sparse: true, special_bits: Some(true), ..RestoreOptions::default() };
    shelf.restore_well(&snapshot, &whole, &sparse);
    let there = whole.join(source.strip_prefix("/").expect("absolute"));
    assert_same(&source, &there);
    assert!(blocks(there.join("zeros")) * 512 < 100_000, "--sparse makes holes of zeros");
    let parent = |p: &Path| fs::metadata(p.parent().expect("parent")).expect("look").mode();
    assert_eq!(parent(&source), parent(&there), "directories above have their recorded permissions");
}

#[test]
fn sparse_writing_keeps_every_byte_at_awkward_places() {
    let (_keep, root) = temp();
    let source = root.join("source");
    fs::create_dir(&source).expect("mkdir");
    for (i, (before, zeros, after)) in [
        (1, 5000, 1),
        (4096, 4096, 0),
        (0, 8192, 3),
        (4095, 4097, 4096),
        (10, 4085, 9),
        (0, 1, 0),
        (3, 40_000, 0),
    ]
    .into_iter()
    .enumerate()
    {
        let bytes = [vec![1; before], vec![0; zeros], vec![2; after]].concat();
        fs::write(source.join(format!("f{i}")), bytes).expect("write");
    }
    // More than one chunk, zeros across their border.
    let mut long = noise(6 << 20, 3);
    long[1 << 20..4 << 20].fill(0);
    fs::write(source.join("long"), &long).expect("write");
    let shelf = Shelf::new();
    let snapshot = shelf.backup(&source);
    let target = root.join("target");
    let options = RestoreOptions { sparse: true, verify: true, ..below(&source) };
    shelf.restore_well(&snapshot, &target, &options);
    assert_same(&source, &target);
    assert!(fs::metadata(target.join("long")).expect("look").blocks() * 512 < 5 << 20);
}

#[test]
fn a_single_file_lands_by_its_name_and_a_missing_path_is_an_error() {
    let (_keep, root) = temp();
    let source = root.join("source");
    fs::create_dir_all(source.join("sub")).expect("mkdir");
    fs::write(source.join("sub/one"), b"1").expect("write");
    fs::write(source.join("sub/one.more"), b"2").expect("write");
    let shelf = Shelf::new();
    let snapshot = shelf.backup(&source);
    let target = root.join("target");
    shelf.restore_well(&snapshot, &target, &below(&source.join("sub/one")));
    assert_eq!(see(&target).keys().collect::<Vec<_>>(), [Path::new(""), Path::new("one")]);
    let reader = shelf.repository.reader().expect("reader");
    let missing = restore::plan(&reader, &snapshot, &target, &below(&source.join("sub/on")));
    assert_eq!(missing.err().map(|e| e.kind()), Some(ErrorKind::NotFound));
    let hostile = RestoreOptions { below: b"../etc".to_vec(), ..RestoreOptions::default() };
    let refused = restore::plan(&reader, &snapshot, &target, &hostile);
    assert_eq!(refused.err().map(|e| e.kind()), Some(ErrorKind::Invalid));
    // Without stripping the whole path is made again below the target.
    let full = root.join("full");
    let options = RestoreOptions { strip: false, ..below(&source.join("sub/one")) };
    shelf.restore_well(&snapshot, &full, &options);
    assert_eq!(
        fs::read(full.join(source.strip_prefix("/").expect("absolute")).join("sub/one")).expect("read"),
        b"1"
    );
}

#[test]
fn patterns_choose_what_comes_back_with_what_leads_there() {
    let (_keep, root) = temp();
    let source = root.join("source");
    for dir in ["a/keep", "a/other", "b"] {
        fs::create_dir_all(source.join(dir)).expect("mkdir");
    }
    for file in ["a/keep/x.txt", "a/keep/x.tmp", "a/other/y.txt", "a/z.TXT", "b/w.rs"] {
        fs::write(source.join(file), file).expect("write");
    }
    let shelf = Shelf::new();
    let snapshot = shelf.backup(&source);
    let check = |name: &str, change: &dyn Fn(&mut RestoreOptions), want: &[&str]| {
        let target = root.join(name);
        let mut options = below(&source);
        change(&mut options);
        shelf.restore_well(&snapshot, &target, &options);
        let seen: Vec<String> =
            see(&target).keys().skip(1).map(|p| p.to_string_lossy().into_owned()).collect();
        assert_eq!(seen, want, "{name}");
    };
    let list = |patterns: &[&str]| patterns.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>();
    check(
        "by-name",
        &|o| o.includes = list(&["*.txt"]),
        &["a", "a/keep", "a/keep/x.txt", "a/other", "a/other/y.txt"],
    );
    check("any-case", &|o| o.iincludes = list(&["z.txt"]), &["a", "a/z.TXT"]);
    check("directory", &|o| o.includes = list(&["keep/"]), &["a", "a/keep", "a/keep/x.tmp", "a/keep/x.txt"]);
    check("taken-back", &|o| o.includes = list(&["keep", "!*.tmp"]), &["a", "a/keep", "a/keep/x.txt"]);
    check(
        "left-out",
        &|o| o.excludes = list(&["other", "*.tmp"]),
        &["a", "a/keep", "a/keep/x.txt", "a/z.TXT", "b", "b/w.rs"],
    );
    let both = |o: &mut RestoreOptions| {
        o.includes = list(&["*.txt"]);
        o.iexcludes = list(&["KEEP"]);
    };
    check("both", &both, &["a", "a/other", "a/other/y.txt"]);
    // Anchored at the stored path's beginning; the way there counts, also when it is not restored.
    let anchored = format!("/{}/a/keep", source.strip_prefix("/").expect("absolute").display());
    check("anchored", &|o| o.includes = list(&[&anchored]), &["a", "a/keep", "a/keep/x.tmp", "a/keep/x.txt"]);
    let above = format!("/{}", source.strip_prefix("/").expect("absolute").display());
    check(
        "above",
        &|o| o.includes = list(&[&above]),
        &see(&source).keys().skip(1).map(|p| p.to_str().expect("utf8")).collect::<Vec<_>>(),
    );
    let bad = RestoreOptions { includes: list(&["a[b"]), ..below(&source) };
    let reader = shelf.repository.reader().expect("reader");
    assert!(restore::plan(&reader, &snapshot, &root.join("bad"), &bad).is_err());
}

#[test]
fn many_directories_and_great_depth_stay_within_few_open_files() {
    let (_keep, root) = temp();
    let source = root.join("source");
    for i in 0..700 {
        let dir = source.join(format!("wide/{i:03}"));
        fs::create_dir_all(&dir).expect("mkdir");
        fs::write(dir.join("f"), format!("{i}")).expect("write");
    }
    let mut deep = source.join("deep");
    for i in 0..200 {
        deep.push(format!("level{i}"));
    }
    fs::create_dir_all(&deep).expect("mkdir");
    fs::write(deep.join("bottom"), b"deep").expect("write");
    for dir in deep.ancestors().take(200) {
        fs::write(dir.join("zz after"), b"after").expect("write");
        set_mtime(dir, 1_000_000_000);
    }
    let shelf = Shelf::new();
    let snapshot = shelf.backup(&source);
    let target = root.join("target");
    shelf.restore_well(&snapshot, &target, &below(&source));
    assert_same(&source, &target);
}

#[test]
fn a_damaged_chunk_costs_its_file_only() {
    let (_keep, root) = temp();
    let source = root.join("source");
    fs::create_dir(&source).expect("mkdir");
    fs::write(source.join("a"), noise(700_000, 1)).expect("write");
    fs::write(source.join("b"), noise(700_000, 2)).expect("write");
    fs::write(source.join("c"), noise(700_000, 3)).expect("write");
    let shelf = Shelf::new();
    let snapshot = shelf.backup(&source);
    let reader = shelf.repository.reader().expect("reader");
    let path = stored(&source.join("b"));
    let entry = snapkeep::manifest::walk::find(&reader, &snapshot, &path).expect("find").expect("there");
    let Extent::Chunk { id, .. } = entry.content.extents[0] else { panic!("a chunk") };
    let found = reader.index().find(&id).expect("find").expect("found");
    let name = FileName::Pack(found.pack.id);
    let mut bytes = shelf.backend.files()[&name].clone();
    bytes[found.place.offset as usize + found.place.frame_len as usize / 2] ^= 1;
    shelf.backend.overwrite(name, bytes);
    let target = root.join("target");
    let (summary, told) = shelf.restore(&snapshot, &target, &below(&source));
    assert!(told.lines().iter().all(|l| l.starts_with(&format!("{}/", &source.to_string_lossy()[1..]))));
    assert!(summary.files_failed >= 1 && summary.files_restored + summary.files_failed == 3, "{summary:?}");
    let left: Vec<_> = fs::read_dir(&target).expect("list").map(|e| e.expect("entry").file_name()).collect();
    assert!(!left.contains(&"b".into()) && left.len() as u64 == summary.files_restored, "{left:?}");
    for name in left {
        assert!(fs::read(source.join(&name)).expect("read") == fs::read(target.join(&name)).expect("read"));
    }
}

#[test]
fn a_file_whose_whole_hash_does_not_fit_is_not_given_its_name() {
    let shelf = Shelf::new();
    let bytes = noise(5000, 4);
    let good = Made { hash: Some(hash::plain(&bytes)), ..file(b"good", &bytes) };
    let bad = Made { hash: Some([9; 32]), ..file(b"bad", &bytes) };
    let snapshot = shelf.store(vec![bad, good]);
    let (_keep, root) = temp();
    let (summary, told) = shelf.restore(&snapshot, &root, &RestoreOptions::default());
    assert_eq!((summary.files_restored, summary.files_failed), (1, 1));
    assert!(told.lines()[0].starts_with("bad: ") && told.lines()[0].contains("hash"), "{:?}", told.lines());
    assert_eq!(fs::read(root.join("good")).expect("read"), bytes);
    assert_eq!(fs::read_dir(&root).expect("list").count(), 1);
}

#[test]
fn verify_finds_what_only_looks_right() {
    let shelf = Shelf::new();
    let snapshot = shelf.store(vec![file(b"a", b"first"), file(b"b", b"second")]);
    let (_keep, root) = temp();
    // `a` stands there with the recorded size and time but other bytes, so that if-changed keeps it.
    fs::write(root.join("a"), b"wrong").expect("write");
    let time = UNIX_EPOCH + Duration::new(MTIME.secs as u64, MTIME.nanos);
    let file = File::open(root.join("a")).expect("open");
    file.set_times(FileTimes::new().set_modified(time)).expect("times");
    let overwrite = restore::Overwrite::IfChanged;
    let options = RestoreOptions { overwrite, verify: true, ..RestoreOptions::default() };
    let (summary, told) = shelf.restore(&snapshot, &root, &options);
    assert_eq!((summary.files_skipped, summary.files_verified, summary.verify_failed), (1, 1, 1));
    assert!(told.lines()[0].starts_with("a: differs"), "{:?}", told.lines());
}

#[test]
fn a_full_disk_ends_with_one_error_and_leaves_no_half_files() {
    let (_keep, root) = temp();
    if !is_root() {
        return;
    }
    let shelf = Shelf::new();
    let many: Vec<Vec<u8>> = (0..40).map(|i| noise(100_000, i)).collect();
    let names: Vec<&'static [u8]> = (0..40).map(|i| &*format!("f{i:02}").into_bytes().leak()).collect();
    let snapshot = shelf.store(names.iter().zip(&many).map(|(name, bytes)| file(name, bytes)).collect());
    let small = root.join("small");
    fs::create_dir(&small).expect("mkdir");
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
        .arg(&small)
        .status()
        .is_ok_and(|s| s.success());
    if !mounted {
        return;
    }
    let (progress, told) = (Progress::new(), Told::default());
    let reader = shelf.repository.reader().expect("reader");
    let plan = restore::plan(&reader, &snapshot, &small, &RestoreOptions::default()).expect("plan");
    let outcome = restore::execute(&reader, plan, &progress, &told);
    let left: Vec<_> = fs::read_dir(&small)
        .expect("list")
        .map(|e| e.expect("entry"))
        .map(|e| (e.file_name().to_string_lossy().into_owned(), fs::read(e.path()).expect("read")))
        .collect();
    let unmounted = std::process::Command::new("umount").arg(&small).status();
    assert!(unmounted.is_ok_and(|s| s.success()));
    assert!(outcome.err().is_some_and(|e| e.is_disk_full()));
    assert!(told.lines().is_empty(), "{:?}", told.lines());
    assert!(left.len() > 3 && left.len() < 40);
    for (name, bytes) in left {
        let i: usize = name[1..].parse().expect("a final name");
        assert!(bytes == many[i], "{name}");
    }
}

#[test]
fn a_wish_to_stop_is_heard() {
    let shelf = Shelf::new();
    let snapshot = shelf.store(vec![file(b"a", b"first")]);
    let (_keep, root) = temp();
    let reader = shelf.repository.reader().expect("reader");
    let plan = restore::plan(&reader, &snapshot, &root, &RestoreOptions::default()).expect("plan");
    let progress = Progress::new();
    progress.cancel();
    let outcome = restore::execute(&reader, plan, &progress, &Told::default());
    assert_eq!(outcome.err().map(|e| e.kind()), Some(ErrorKind::Cancelled));
    assert_eq!(fs::read_dir(&root).expect("list").count(), 0);
}

#[test]
fn progress_ends_where_it_said() {
    use std::sync::atomic::Ordering::Relaxed;
    let (_keep, root) = temp();
    let source = root.join("source");
    fs::create_dir(&source).expect("mkdir");
    for i in 0..20 {
        let mut f = File::create(source.join(format!("f{i}"))).expect("create");
        f.write_all(&noise(i * 1000, i as u64)).expect("write");
    }
    let shelf = Shelf::new();
    let snapshot = shelf.backup(&source);
    let reader = shelf.repository.reader().expect("reader");
    let (progress, told) = (Progress::new(), Told::default());
    let plan = restore::plan(&reader, &snapshot, &root.join("t"), &below(&source)).expect("plan");
    restore::execute(&reader, plan, &progress, &told).expect("execute");
    assert!(progress.totals_known.load(Relaxed));
    assert_eq!(progress.files_done.load(Relaxed), progress.files_total.load(Relaxed));
    assert_eq!(progress.bytes_done.load(Relaxed), progress.bytes_total.load(Relaxed));
    assert_eq!(progress.bytes_total.load(Relaxed), 190_000);
}

#[test]
fn a_restore_stopped_anywhere_goes_on_to_the_same_end() {
    use std::sync::atomic::Ordering::Relaxed;
    let (_keep, root) = temp();
    let source = root.join("source");
    for i in 0..3000 {
        let dir = source.join(format!("d{}/e{}", i % 7, i % 30));
        fs::create_dir_all(&dir).expect("mkdir");
        fs::write(dir.join(format!("f{i}")), noise(i % 900, i as u64)).expect("write");
    }
    fs::hard_link(source.join("d0/e0/f0"), source.join("zz")).expect("link");
    let shelf = Shelf::new();
    let snapshot = shelf.backup(&source);
    let reader = shelf.repository.reader().expect("reader");
    let target = root.join("target");
    let mut stopped = 0;
    for after in [1, 500, 1200, 2500, u64::MAX] {
        let overwrite = restore::Overwrite::IfChanged;
        let options = RestoreOptions { overwrite, delete: true, ..below(&source) };
        let (progress, told) = (Progress::new(), Told::default());
        let outcome = std::thread::scope(|scope| {
            let work = scope.spawn(|| {
                let plan = restore::plan(&reader, &snapshot, &target, &options)?;
                restore::execute(&reader, plan, &progress, &told)
            });
            while !work.is_finished() && progress.files_done.load(Relaxed) < after {
                std::thread::yield_now();
            }
            if after != u64::MAX {
                progress.cancel();
            }
            work.join().expect("no panic")
        });
        stopped += u64::from(outcome.is_err_and(|e| e.kind() == ErrorKind::Cancelled));
        assert!(told.lines().is_empty(), "{:?}", told.lines());
        let seen = see(&target);
        let temporary = |p: &&PathBuf| p.to_string_lossy().contains(".snapkeep-");
        assert_eq!(seen.keys().filter(temporary).count(), 0, "temporary names go with their writer");
        for (path, seen) in seen.iter().filter(|(_, s)| s.mode & 0o170_000 == 0o100_000) {
            assert!(seen.content == fs::read(source.join(path)).expect("read"), "{}", path.display());
        }
    }
    assert!(stopped > 0, "at least one run was stopped on its way");
    assert_same(&source, &target);
}
