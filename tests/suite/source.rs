//! The walk: everything is met, in order, once, whatever stands there and whatever happens meanwhile.

use rustix::fs::{Mode, OFlags};
use snapkeep::clock::Timestamp;
use snapkeep::error::ErrorKind;
use snapkeep::format::entry::{Kind, path_order};
use snapkeep::os::{beneath, dir};
use snapkeep::progress::{Problem, Progress};
use snapkeep::source::filter::{Filter, FilterOptions};
use snapkeep::source::listed::{Listed, Visitor};
use snapkeep::source::roots::Root;
use snapkeep::source::stream::StreamSource;
use snapkeep::source::{FileSource, Found, LeftOut, Step, WalkOptions};
use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What one walk gave.
pub struct Walked {
    pub found: Vec<Found>,
    pub problems: Vec<Problem>,
    pub left_out: LeftOut,
}

impl Walked {
    /// Stored paths below `root`, relative to it; the root itself is `""`.
    pub fn below(&self, root: &Path) -> Vec<String> {
        let prefix = stored(root);
        let rest = |f: &Found| {
            let rest = f.entry.path.strip_prefix(prefix.as_slice())?;
            let rest = rest.strip_prefix(b"/").unwrap_or(rest);
            Some(String::from_utf8_lossy(rest).into_owned())
        };
        self.found.iter().filter_map(rest).collect()
    }

    fn get(&self, path: &Path) -> &Found {
        let path = stored(path);
        self.found.iter().find(|f| f.entry.path == path).expect("walked over")
    }
}

pub fn stored(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes()[1..].to_vec()
}

pub fn source(roots: &[&Path], filter: &FilterOptions, options: WalkOptions) -> FileSource {
    let roots = roots.iter().map(|p| Root::new(p).expect("a root")).collect();
    FileSource::new(roots, Filter::new(filter).expect("a filter"), options).expect("a source")
}

/// Walks and checks what holds for every walk: ascending order, no duplicates, parents before children.
pub fn walk(source: &FileSource) -> Walked {
    let (mut found, mut problems) = (Vec::<Found>::new(), Vec::new());
    let left_out = source
        .walk(&Progress::new(), &mut |step| {
            match step {
                Step::Found(f) => found.push(*f),
                Step::Problem(p) => problems.push(p),
            }
            Ok(())
        })
        .expect("walk");
    let mut dirs = std::collections::HashSet::new();
    for (i, f) in found.iter().enumerate() {
        if i > 0 {
            let before = &found[i - 1].entry.path;
            assert_eq!(path_order(before, &f.entry.path), Ordering::Less, "{:?}", f.entry.path);
        }
        if let Some(cut) = f.entry.path.iter().rposition(|&b| b == b'/') {
            assert!(dirs.contains(&f.entry.path[..cut]), "no parent before {:?}", f.entry.path);
        }
        if f.entry.is_dir() {
            dirs.insert(f.entry.path.clone());
        }
    }
    Walked { found, problems, left_out }
}

fn plain(roots: &[&Path]) -> Walked {
    walk(&source(roots, &FilterOptions::default(), WalkOptions::default()))
}

/// A temporary directory whose own path holds no links.
pub fn temp() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("temp dir");
    let path = dir.path().canonicalize().expect("real path");
    (dir, path)
}

/// The other way to walk: recursive, through the standard library, sorted at the end by components.
fn expected(root: &Path) -> Vec<(Vec<u8>, char)> {
    fn visit(path: &Path, out: &mut Vec<(Vec<u8>, char)>) {
        let kind = fs::symlink_metadata(path).expect("lstat").file_type();
        let letter = match () {
            () if kind.is_dir() => 'd',
            () if kind.is_symlink() => 'l',
            () if kind.is_fifo() => 'p',
            () if kind.is_socket() => 's',
            () => 'f',
        };
        out.push((stored(path), letter));
        if kind.is_dir() {
            fs::read_dir(path).expect("list").for_each(|e| visit(&e.expect("entry").path(), out));
        }
    }
    let mut out = Vec::new();
    visit(root, &mut out);
    let above = root.ancestors().skip(1).filter(|p| p.parent().is_some());
    out.extend(above.map(|p| (stored(p), 'd')));
    let parts = |path: &[u8]| path.split(|&b| b == b'/').map(<[u8]>::to_vec).collect::<Vec<_>>();
    out.sort_by_key(|(path, _)| parts(path));
    out
}

fn letter(kind: &Kind) -> char {
    match kind {
        Kind::Directory => 'd',
        Kind::Symlink(_) => 'l',
        Kind::Fifo => 'p',
        Kind::Socket => 's',
        _ => 'f',
    }
}

#[test]
fn everything_is_met_once_in_manifest_order() {
    let (_keep, root) = temp();
    let long = "n".repeat(255);
    for name in ["a", "a-b", "a.b", "A", "ab", "a\nb", " ", "-rf", "ä", "\u{1}", "a!", long.as_str()] {
        let dir = root.join("t").join(name);
        fs::create_dir_all(dir.join("sub")).expect("mkdir");
        for file in ["b", "b.c", "b-c", ".hidden"] {
            fs::write(dir.join(file), file).expect("write");
        }
        symlink("../..", dir.join("loop")).expect("symlink");
    }
    let raw = |bytes: &[u8]| root.join(OsStr::from_bytes(bytes));
    fs::write(raw(b"\xff\xfe not utf-8 \x80"), "x").expect("write");
    fs::create_dir(raw(b"a")).expect("mkdir");
    fs::create_dir(raw(b"a/b")).expect("mkdir");
    fs::write(raw(b"a.b"), "x").expect("write");
    fs::write(raw(b"a-b"), "x").expect("write");
    fs::create_dir(root.join("many")).expect("mkdir");
    for i in 0..5000 {
        fs::write(root.join(format!("many/file {i}")), "").expect("write");
    }
    let walked = plain(&[&root]);
    let got: Vec<_> = walked.found.iter().map(|f| (f.entry.path.clone(), letter(&f.entry.kind))).collect();
    assert!(got == expected(&root), "walked {} entries, not the expected ones", got.len());
    assert!(walked.problems.is_empty());
    // Directories above the root are others' too, and may change meanwhile.
    let ours = |walked: Walked| {
        let below = walked.found.into_iter().filter(|f| f.entry.path.starts_with(&stored(&root)));
        below.map(|f| (f.entry, f.stat)).collect::<Vec<_>>()
    };
    let again = plain(&[&root]);
    assert_eq!(again.found.len(), walked.found.len());
    assert!(ours(again) == ours(walked), "a second walk of the same tree gives something else");
}

#[test]
fn entries_carry_what_the_system_says() {
    let (_keep, root) = temp();
    fs::write(root.join("file"), "12345").expect("write");
    fs::set_permissions(root.join("file"), fs::Permissions::from_mode(0o4751)).expect("chmod");
    fs::hard_link(root.join("file"), root.join("second")).expect("link");
    fs::write(root.join("alone"), "x").expect("write");
    symlink("no/where", root.join("dangling")).expect("symlink");
    rustix::fs::mkfifoat(rustix::fs::CWD, root.join("fifo"), Mode::from_raw_mode(0o600)).expect("fifo");
    let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).expect("socket");
    let walked = plain(&[&root]);

    let file = walked.get(&root.join("file"));
    let real = fs::metadata(root.join("file")).expect("stat");
    assert_eq!((file.size, file.dev, file.stat.inode), (5, real.dev(), real.ino()));
    assert_eq!((file.blocks, file.entry.meta.mode), (real.blocks(), 0o4751));
    let mtime = Timestamp { secs: real.mtime(), nanos: u32::try_from(real.mtime_nsec()).expect("nanos") };
    assert_eq!(file.entry.meta.mtime, mtime);
    assert_eq!((file.entry.meta.owner.uid, file.entry.meta.owner.gid), (real.uid(), real.gid()));
    if real.uid() == 0 {
        assert_eq!(file.entry.meta.owner.user, "root");
    }
    assert_ne!(file.entry.link, 0);
    assert_eq!(file.entry.link, walked.get(&root.join("second")).entry.link);
    assert_eq!(walked.get(&root.join("alone")).entry.link, 0);
    assert_eq!(walked.get(&root).entry.link, 0, "directories have many links and one name");
    let dangling = &walked.get(&root.join("dangling")).entry.kind;
    assert_eq!(*dangling, Kind::Symlink(b"no/where".to_vec()));
    assert_eq!(walked.get(&root.join("fifo")).entry.kind, Kind::Fifo);
    assert_eq!(walked.get(&root.join("socket")).entry.kind, Kind::Socket);

    let mut text = String::new();
    file.opener.open_file().expect("open").read_to_string(&mut text).expect("read");
    assert_eq!(text, "12345");
    for name in ["fifo", "socket", "dangling"] {
        assert!(walked.get(&root.join(name)).opener.open_file().is_err(), "{name} is not to be opened");
    }
    // Replaced by a link after the walk: refused, not followed.
    fs::remove_file(root.join("alone")).expect("remove");
    symlink("file", root.join("alone")).expect("symlink");
    assert!(walked.get(&root.join("alone")).opener.open_file().is_err());
}

#[test]
fn a_tree_4096_deep_is_walked_with_few_open_handles() {
    const DEPTH: usize = 4096;
    let (_keep, root) = temp();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let mut at = rustix::fs::open(&root, flags, Mode::empty()).expect("open");
    for _ in 0..DEPTH {
        beneath::create_file(&at, b"a", 0o600).expect("file");
        // Sorts after the directory, so the walk has to come back for it.
        beneath::create_file(&at, b"z", 0o600).expect("file");
        beneath::create_dir(&at, b"d").expect("mkdir");
        at = dir::open_dir(&at, c"d").expect("open");
    }
    // Other tests of this process open files, too. A link too long to be read leads far down this tree.
    let open_here = || {
        let handles = fs::read_dir("/proc/self/fd").expect("proc").flatten();
        let here = |path: PathBuf| match fs::read_link(path) {
            Ok(to) => to.starts_with(&root),
            Err(e) => e.raw_os_error() == Some(rustix::io::Errno::NAMETOOLONG.raw_os_error()),
        };
        handles.filter(|handle| here(handle.path())).count()
    };
    let (mut count, mut deepest, mut handles) = (0, 0, 0);
    let source = source(&[&root], &FilterOptions::default(), WalkOptions::default());
    source
        .walk(&Progress::new(), &mut |step| {
            let Step::Found(f) = step else { panic!("a problem in a deep tree") };
            count += 1;
            deepest = deepest.max(f.entry.path.iter().filter(|&&b| b == b'/').count());
            if count % 1000 == 0 {
                handles = handles.max(open_here());
            }
            Ok(())
        })
        .expect("walk");
    let above = root.components().count() - 1;
    assert_eq!(count, above + 3 * DEPTH);
    assert_eq!(deepest, above - 1 + DEPTH);
    assert!((1..500).contains(&handles), "{handles} files open during the walk");
    let top = Arc::new(dir::open_path(&root).expect("open"));
    beneath::remove_tree(&top, b"d").expect("removed again");
    assert!(!root.join("d").exists());
}

#[test]
fn an_unreadable_directory_costs_its_contents_only() {
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    let (_keep, root) = temp();
    fs::create_dir_all(root.join("closed/inside")).expect("mkdir");
    fs::write(root.join("after"), "x").expect("write");
    fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).expect("chmod");
    fs::set_permissions(root.join("closed"), fs::Permissions::from_mode(0o000)).expect("chmod");
    let base = root.clone();
    // Root may read anything; a thread without that capability may not.
    let walked = std::thread::spawn(move || {
        let mut sets = capabilities(None).expect("capabilities");
        sets.effective -= CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
        set_capabilities(None, sets).expect("drop capabilities");
        plain(&[&base])
    })
    .join()
    .expect("thread");
    fs::set_permissions(root.join("closed"), fs::Permissions::from_mode(0o700)).expect("chmod");
    assert_eq!(walked.below(&root), ["", "after", "closed"]);
    assert_eq!(walked.problems.len(), 1);
    assert_eq!(walked.problems[0].item, root.join("closed").as_os_str().as_bytes());
    assert_eq!(walked.problems[0].message, "cannot list the directory: permission denied");
}

#[test]
fn a_directory_moved_away_during_the_walk_costs_nothing() {
    let (_keep, root) = temp();
    let mut deep = root.join("tree");
    for _ in 0..200 {
        fs::create_dir(&deep).expect("mkdir");
        fs::write(deep.join("z"), "x").expect("write");
        deep.push("d");
    }
    fs::create_dir(&deep).expect("mkdir");
    let source = source(&[&root], &FilterOptions::default(), WalkOptions::default());
    let bottom = stored(&deep);
    let (mut seen, mut problems) = (0, Vec::new());
    source
        .walk(&Progress::new(), &mut |step| {
            match step {
                Step::Problem(p) => problems.push(p.message),
                Step::Found(f) => {
                    seen += usize::from(f.entry.name() == b"z");
                    if f.entry.path == bottom {
                        let moved = root.join("tree/d/d/d");
                        fs::rename(moved, root.join("moved")).expect("rename");
                    }
                }
            }
            Ok(())
        })
        .expect("walk");
    // Every directory above the moved one was closed by then and had to be found again.
    assert_eq!((seen, problems), (200, vec![]));
}

#[test]
fn a_name_listed_and_then_removed_is_counted_as_vanished() {
    let (_keep, root) = temp();
    for name in ["a", "b", "c"] {
        fs::write(root.join(name), "x").expect("write");
    }
    fs::create_dir(root.join("d")).expect("mkdir");
    let source = source(&[&root], &FilterOptions::default(), WalkOptions::default());
    let mut names = Vec::new();
    let left_out = source
        .walk(&Progress::new(), &mut |step| {
            let Step::Found(f) = step else { panic!("vanishing is no problem") };
            if f.entry.name() == b"a" {
                fs::remove_file(root.join("b")).expect("remove");
                fs::remove_dir(root.join("d")).expect("remove");
            }
            names.push(String::from_utf8_lossy(f.entry.name()).into_owned());
            Ok(())
        })
        .expect("walk");
    assert_eq!(&names[names.len() - 2..], ["a", "c"]);
    assert_eq!(left_out.vanished, 2);
}

#[test]
fn the_repository_itself_is_passed_over() {
    let (_keep, root) = temp();
    fs::create_dir_all(root.join("repo/data")).expect("mkdir");
    fs::create_dir_all(root.join("work")).expect("mkdir");
    let repo = fs::metadata(root.join("repo")).expect("stat");
    let options = WalkOptions { skip: vec![(repo.dev(), repo.ino())], ..WalkOptions::default() };
    let source_of_all = source(&[&root], &FilterOptions::default(), options.clone());
    let walked = walk(&source_of_all);
    assert_eq!(walked.below(&root), ["", "work"]);
    assert_eq!(walked.left_out.repository, 1);
    let why = source_of_all.explain(&root.join("repo/data/x")).expect("explained");
    assert!(!why.included, "{why}");
    // Nothing else to back up: that must be said.
    let walked = walk(&source(&[&root.join("repo")], &FilterOptions::default(), options));
    assert_eq!(walked.problems.len(), 1);
}

#[test]
fn other_filesystems_are_entered_unless_told_otherwise() {
    let Ok(shm) = tempfile::tempdir_in("/dev/shm") else {
        return println!("SKIPPED: /dev/shm cannot be used");
    };
    if fs::metadata("/dev").expect("stat").dev() == fs::metadata("/dev/shm").expect("stat").dev() {
        return println!("SKIPPED: /dev/shm is no filesystem of its own");
    }
    let inside = stored(shm.path());
    let at = Path::new("/dev");
    for one_file_system in [false, true] {
        let options = WalkOptions { one_file_system, ..WalkOptions::default() };
        let source_of_dev = source(&[at], &FilterOptions::default(), options.clone());
        let walked = walk(&source_of_dev);
        let has = |path: &[u8]| walked.found.iter().any(|f| f.entry.path == path);
        assert!(has(b"dev/shm"), "the place itself is always recorded");
        assert_eq!(has(&inside), !one_file_system);
        assert_eq!(walked.left_out.other_filesystems > 0, one_file_system);
        assert_eq!(source_of_dev.explain(shm.path()).expect("explained").included, !one_file_system);
        // Named as a root, it is wanted.
        let both = walk(&source(&[at, Path::new("/dev/shm")], &FilterOptions::default(), options));
        assert!(both.found.iter().any(|f| f.entry.path == inside));
    }
}

#[test]
fn several_roots_become_one_stream() {
    let (_keep, root) = temp();
    for dir in ["a", "a/in", "a-b", "b/c", "b/d"] {
        fs::create_dir_all(root.join(dir)).expect("mkdir");
        fs::write(root.join(dir).join("f"), "x").expect("write");
    }
    symlink("a", root.join("link")).expect("symlink");
    let at = |name: &str| root.join(name);
    let roots = [at("b/d"), at("a-b"), at("link"), at("a/in"), at("a"), at("missing"), at("b/c/f"), at("a")];
    let roots: Vec<&Path> = roots.iter().map(PathBuf::as_path).collect();
    let source_of_all = source(&roots, &FilterOptions::default(), WalkOptions::default());
    assert_eq!(source_of_all.missing_roots().len(), 1);
    assert!(source_of_all.missing_roots()[0].message.contains("missing"));
    let walked = walk(&source_of_all);
    let expected =
        ["", "a", "a/f", "a/in", "a/in/f", "a-b", "a-b/f", "b", "b/c", "b/c/f", "b/d", "b/d/f", "link"];
    assert_eq!(walked.below(&root), expected);
    assert_eq!(walked.get(&at("link")).entry.kind, Kind::Symlink(b"a".to_vec()));
    assert_eq!(walked.get(&at("b")).stat.inode, fs::metadata(at("b")).expect("stat").ino());

    // Through a link: the parents are directories, as the path was typed.
    let through = walk(&source(&[&at("link/in")], &FilterOptions::default(), WalkOptions::default()));
    assert_eq!(through.below(&root), ["", "link", "link/in", "link/in/f"]);
    // A link cannot be recorded as a link and be gone through at once.
    let clash = [Root::new(&root).expect("root"), Root::new(&at("link/in")).expect("root")];
    let none = || Filter::new(&FilterOptions::default()).expect("filter");
    let Err(e) = FileSource::new(clash.to_vec(), none(), WalkOptions::default()) else { panic!("accepted") };
    assert_eq!(e.kind(), ErrorKind::Invalid);
    // `..` after a link is where the system says it is.
    let odd = Root::new(&at("link/../b")).expect("root");
    assert_eq!(odd.path, at("b"));
}

#[test]
fn a_root_may_be_stored_under_another_path() {
    let (_keep, root) = temp();
    fs::create_dir(root.join("dir")).expect("mkdir");
    fs::write(root.join("dir/f"), "x").expect("write");
    fs::set_permissions(root.join("dir"), fs::Permissions::from_mode(0o751)).expect("chmod");
    let stored_as = |typed: &Path, name: &str| {
        let root = Root::stored_as(typed, Path::new(name)).expect("root");
        FileSource::new(
            vec![root],
            Filter::new(&FilterOptions::default()).expect("filter"),
            WalkOptions::default(),
        )
    };
    let source = stored_as(&root.join("dir"), "/srv/app").expect("source");
    let walked = walk(&source);
    let got: Vec<_> = walked.found.iter().map(|f| (f.entry.path.as_slice(), f.entry.meta.mode)).collect();
    let file = fs::metadata(root.join("dir/f")).expect("stat").mode() & 0o7777;
    assert_eq!(got, [(&b"srv"[..], 0o751), (b"srv/app", 0o751), (b"srv/app/f", file)]);
    assert_eq!(source.real_path(b"srv/app/f").expect("inside"), root.join("dir/f"));
    assert!(source.real_path(b"srv").is_err());
    let top = walk(&stored_as(&root.join("dir"), "/").expect("source"));
    assert_eq!(top.found.iter().map(|f| f.entry.path.as_slice()).collect::<Vec<_>>(), [b"f"]);
    assert!(stored_as(&root.join("dir/f"), "/").is_err(), "a file needs a name");
}

#[test]
fn what_was_touched_since_the_start_is_racy() {
    let (_keep, root) = temp();
    fs::write(root.join("f"), "x").expect("write");
    let touched = fs::metadata(root.join("f")).expect("stat").ctime();
    for (started, racy) in [(touched + 10, false), (touched, true), (touched - 10, true)] {
        let options =
            WalkOptions { started: Timestamp { secs: started, nanos: 0 }, ..WalkOptions::default() };
        let walked = walk(&source(&[&root], &FilterOptions::default(), options));
        assert_eq!(walked.get(&root.join("f")).stat.racy, racy);
    }
}

#[test]
fn a_walk_stops_when_asked() {
    let (_keep, root) = temp();
    fs::write(root.join("f"), "x").expect("write");
    let progress = Progress::new();
    progress.cancel();
    let source = source(&[&root], &FilterOptions::default(), WalkOptions::default());
    let outcome = source.walk(&progress, &mut |_| Ok(()));
    assert_eq!(outcome.expect_err("cancelled").kind(), ErrorKind::Cancelled);
}

#[test]
fn a_command_that_fails_is_an_error_even_with_output() {
    let run = |script: &str| {
        let words = ["sh", "-c", script].map(Into::into).to_vec();
        let mut stream = StreamSource::Command(words).open().expect("start");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("read");
        (text, stream.finish().map_err(|e| e.to_string()))
    };
    assert_eq!(run("echo data"), ("data\n".to_owned(), Ok(5)));
    assert_eq!(run("true"), (String::new(), Ok(0)));
    let (text, outcome) = run("echo half; exit 3");
    assert_eq!(text, "half\n");
    assert_eq!(outcome, Err("`sh -c echo half; exit 3` failed with exit status 3".to_owned()));
    assert_eq!(run("kill -9 $$").1, Err("`sh -c kill -9 $$` was killed by signal 9".to_owned()));
    assert!(StreamSource::Command(vec!["/no/such/program".into()]).open().is_err());
}

/// Takes every regular file as listed, in runs of one directory.
struct Lazy {
    listed: Vec<Listed>,
    steps: Vec<Found>,
}

impl Visitor for Lazy {
    fn needs_look(&mut self, path: &[u8]) -> bool {
        path.ends_with(b"looked")
    }

    fn step(&mut self, step: Step) -> snapkeep::error::Result<()> {
        match step {
            Step::Found(found) => self.steps.push(*found),
            Step::Problem(problem) => panic!("{}", problem.message),
        }
        Ok(())
    }

    fn listed(&mut self, dir: &dir::Handle, path: &[u8]) -> snapkeep::error::Result<()> {
        let takes = |last: &mut Listed| last.takes(dir, path);
        if !self.listed.last_mut().is_some_and(takes) {
            self.listed.push(Listed::new(dir, path));
        }
        Ok(())
    }
}

#[test]
fn files_that_were_only_listed_become_the_same_entries_once_open() {
    let (_keep, root) = temp();
    fs::create_dir(root.join("dir")).expect("mkdir");
    for name in ["a", "dir/b", "dir/looked", "gone", "replaced", "z"] {
        fs::write(root.join(name), name).expect("write");
    }
    fs::hard_link(root.join("a"), root.join("dir/again")).expect("link");
    symlink("a", root.join("link")).expect("symlink");
    let source = source(&[&root], &FilterOptions::default(), WalkOptions::default());
    let looked = walk(&source);
    let mut looker = source.looker();
    let mut lazy = Lazy { listed: Vec::new(), steps: Vec::new() };
    source.walk_with(&looker, &Progress::new(), &mut lazy).expect("walk");
    assert!(lazy.steps.iter().all(|f| !f.entry.is_file() || f.entry.path.ends_with(b"looked")));
    let listed: usize = lazy.listed.iter().map(Listed::len).sum();
    assert_eq!(listed + lazy.steps.len(), looked.found.len());
    assert_eq!(lazy.listed.len(), 3, "a; dir/again, dir/b; gone, replaced, z");
    fs::remove_file(root.join("gone")).expect("remove");
    fs::remove_file(root.join("replaced")).expect("remove");
    symlink("a", root.join("replaced")).expect("symlink");
    let mut same = 0;
    for (listed, number) in lazy.listed.iter().flat_map(|l| (0..l.len()).map(move |n| (l, n))) {
        let path = listed.path(number);
        if path.ends_with(b"gone") {
            assert_eq!(listed.open(number).expect_err("gone").kind(), ErrorKind::NotFound);
        } else if path.ends_with(b"replaced") {
            assert_ne!(listed.open(number).expect_err("a link").kind(), ErrorKind::NotFound);
        } else {
            let (mut file, status) = listed.open(number).expect("opens");
            let (entry, stat) = looker.seen(path.clone(), Kind::File, &status);
            let other = looked.found.iter().find(|f| f.entry.path == path).expect("walked over");
            assert_eq!((&entry, stat), (&other.entry, other.stat));
            let mut text = String::new();
            file.read_to_string(&mut text).expect("read");
            assert_eq!(text.len() as u64, other.size);
            same += 1;
        }
    }
    assert_eq!(same, 4);
}
