//! JSON files checked while they are backed up, and workspaces that are stored as one state.

use crate::cli::{Home, text};
use serde_json::{Value, json};
use snapkeep::backup::{Input, JsonOptions, Options, Outcome, SqliteOptions, run};
use snapkeep::clock::{Clock, SystemClock};
use snapkeep::compare::inside;
use snapkeep::json::DEPTH_MAX;
use snapkeep::manifest::walk::{Groups, find, read_stats};
use snapkeep::progress::{Problem, Progress, Report};
use snapkeep::repository::Repository;
use snapkeep::repository::snapshots;
use snapkeep::source::filter::{Filter, FilterOptions};
use snapkeep::source::roots::Root;
use snapkeep::source::{FileSource, WalkOptions};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;

fn last_line(output: &str) -> Value {
    serde_json::from_str(output.lines().last().expect("a line")).expect("JSON")
}

/// A home whose `src` holds sound and faulty files.
fn faulty() -> Home {
    let home = Home::new();
    let deep = "[".repeat(DEPTH_MAX + 1) + &"]".repeat(DEPTH_MAX + 1);
    let long = format!("[{}\n1,]", "\"padding\",\n".repeat(300_000));
    for (name, text) in [
        ("good.json", "{\"a\": [1, 2]}".as_bytes()),
        ("sub/good.JSON", b"null\n"),
        ("lines.jsonl", b"{\"a\":1}\n{\"b\":2}\n"),
        ("broken.json", b"{\n  \"a\": 1,\n}"),
        ("bad-lines.ndjson", b"{\"a\":1}\n{\"b\":\n2}\n"),
        ("bom.json", b"\xef\xbb\xbf{}"),
        ("deep.json", deep.as_bytes()),
        ("empty.json", b""),
        ("long.json", long.as_bytes()),
        ("sub/latin.json", b"[\"\xe4\"]"),
        ("twice.json", b"{\"k\":1,\"k\":2}"),
        ("json.txt", b"{ not looked at"),
    ] {
        fs::write(home.path("src").join(name), text).expect("written");
    }
    home
}

const WRONG: [(&str, u64, u64); 8] = [
    ("bad-lines.ndjson", 2, 6),
    ("bom.json", 1, 1),
    ("broken.json", 3, 1),
    ("deep.json", 1, DEPTH_MAX as u64 + 1),
    ("empty.json", 1, 1),
    ("long.json", 300_002, 3),
    ("sub/latin.json", 1, 3),
    ("twice.json", 1, 8),
];

fn places(facts: &Value, home: &Home) -> Vec<(String, u64, u64)> {
    let top = format!("{}/", home.path("src").to_string_lossy());
    let files = facts["invalid_files"].as_array().expect("a list").iter();
    let name = |f: &Value| f["path"].as_str().and_then(|p| p.strip_prefix(&top)).expect("below").to_owned();
    files
        .map(|f| (name(f), f["line"].as_u64().expect("a line"), f["column"].as_u64().expect("a column")))
        .collect()
}

#[test]
fn faulty_files_are_named_with_their_places_and_the_next_backup_knows_them() {
    let home = faulty();
    home.good(&["init"]);
    let wanted: Vec<_> =
        WRONG.iter().map(|(name, line, column)| ((*name).to_owned(), *line, *column)).collect();
    let first = home.run(&["backup", "src", "--validate-json", "--json"]);
    assert_eq!(first.status.code(), Some(0));
    let facts = last_line(&text(&first.stdout))["json"].clone();
    assert_eq!((&facts["files"], &facts["invalid"]), (&json!(11), &json!(8)), "{facts}");
    assert_eq!(places(&facts, &home), wanted);
    assert!(text(&first.stderr).contains("line 3, column 1: a comma with nothing behind it"));
    // Nothing has changed; nothing is forgotten.
    std::thread::sleep(std::time::Duration::from_millis(20));
    for arguments in [vec!["--reread", "0"], vec!["--reread", "100"], vec!["--force"]] {
        let again =
            home.run(&[vec!["backup", "src", "--validate-json", "--json", "--strict"], arguments].concat());
        assert_eq!(again.status.code(), Some(3));
        let again = last_line(&text(&again.stdout));
        assert_eq!(again["json"], facts);
        assert!(again["snapshot_id"].is_string());
    }
    // Without the option nothing is said; with it again, all is found.
    let none = last_line(&home.good(&["backup", "src", "--json"]));
    assert!(none["json"].is_null());
    let told = home.good(&["backup", "src", "--validate-json"]);
    assert!(told.contains("11 files checked, 8 NOT SOUND"), "{told}");
    let listed = home.good(&["snapshots", "-v"]);
    assert!(listed.contains("broken.json: line 3, column 1: a comma"), "{listed}");
    let listed: Value = serde_json::from_str(&home.good(&["snapshots", "--json"])).expect("JSON");
    assert_eq!(listed[0]["json"], facts);
    // What is mended is sound.
    for (name, _, _) in WRONG {
        fs::write(home.path("src").join(name), "{}").expect("written");
    }
    let mended = last_line(&home.good(&["backup", "src", "--validate-json", "--strict", "--json"]));
    assert_eq!((&mended["json"]["files"], &mended["json"]["invalid"]), (&json!(11), &json!(0)));
}

#[test]
fn a_workspace_is_checked_and_nothing_else_is() {
    let home = faulty();
    home.good(&["init"]);
    fs::create_dir(home.path("ws")).expect("made");
    fs::write(home.path("ws/bad.json"), "[1").expect("written");
    let run = |arguments: &[&str]| {
        let output = home.run(&[&["backup", "--json"], arguments].concat());
        (output.status.code().expect("a code"), text(&output.stdout), text(&output.stderr))
    };
    let (code, out, _) = run(&["src", "--workspace", "ws"]);
    let facts = &last_line(&out)["json"];
    assert_eq!((code, &facts["files"], &facts["invalid"]), (0, &json!(1), &json!(1)), "{facts}");
    assert_eq!(facts["workspaces"][0]["steady"], json!(true));
    assert!(facts["workspaces"][0]["looks"].as_u64() >= Some(1));
    // One below a source, and another twice.
    let (code, out, _) =
        run(&["src", "--workspace", "src/sub", "--workspace", "ws", "--workspace", "ws", "--strict"]);
    let facts = &last_line(&out)["json"];
    assert_eq!(
        (code, &facts["files"], facts["workspaces"].as_array().map(Vec::len)),
        (3, &json!(3), Some(2))
    );
    // Links, files, missing and left out ones: a clear line each.
    symlink("ws", home.path("link")).expect("linked");
    let (code, _, err) = run(&["src", "--workspace", "link"]);
    assert!(code == 2 && err.contains("symbolic link"), "{err}");
    let (code, _, err) = run(&["src", "--workspace", "src/a.txt"]);
    assert!(code == 2 && err.contains("no directory"), "{err}");
    let (code, _, err) = run(&["src", "--workspace", "nowhere"]);
    assert!(code == 3 && err.contains("nowhere"), "{err}");
    let (code, _, err) = run(&["src", "--workspace", "src/sub", "--exclude", "sub"]);
    assert!(code == 3 && err.contains("left out by a rule"), "{err}");
    let (code, _, _) = run(&["--stdin", "--workspace", "ws"]);
    assert_eq!(code, 2);
    let (_, out, _) =
        run(&["--validate-json", "--stdin-filename", "x.json", "--stdin-from-command", "--", "echo", "[1,"]);
    assert_eq!(last_line(&out)["json"]["invalid_files"][0]["line"], json!(2));
}

/// Does something each time the file `m.db` has been read.
struct Meddler<F: FnMut(usize)> {
    meddle: Mutex<(usize, F)>,
    problems: Mutex<Vec<String>>,
}

impl<F: FnMut(usize) + Send> Report for Meddler<F> {
    fn problem(&self, problem: &Problem) {
        self.problems.lock().expect("a lock").push(problem.message.clone());
    }

    fn warning(&self, warning: &Problem) {
        if warning.item.ends_with(b"m.db") {
            let mut meddle = self.meddle.lock().expect("a lock");
            meddle.0 += 1;
            let count = meddle.0;
            (meddle.1)(count);
        }
    }
}

/// A backup of `root` as the workspace `/data`, with `meddle` at work as soon as `m.db` has been read.
fn meddled(
    repository: &Arc<Repository>,
    root: &Path,
    meddle: impl FnMut(usize) + Send,
) -> (Outcome, Vec<String>) {
    let roots = vec![Root::stored_as(root, Path::new("/data")).expect("a root")];
    let filter = Filter::new(&FilterOptions::default()).expect("a filter");
    let walk = WalkOptions { started: SystemClock.now(), ..WalkOptions::default() };
    let input = Input::Files(Box::new(FileSource::new(roots, filter, walk).expect("a source")));
    let json = JsonOptions { all: false, workspaces: vec![root.to_owned()] };
    let sqlite = SqliteOptions { capture: false, ..SqliteOptions::default() };
    let options = Options { host: "h".into(), workers: 1, json, sqlite, ..Options::default() };
    let report = Meddler { meddle: Mutex::new((0, meddle)), problems: Mutex::default() };
    let done = run(repository, &input, &options, &SystemClock, &Progress::new(), &report).expect("a backup");
    (done, report.problems.into_inner().expect("a lock"))
}

fn stored(repository: &Arc<Repository>, done: &Outcome, path: &str) -> Option<String> {
    let listed = snapshots::read(repository, done.snapshot.expect("committed")).expect("the snapshot");
    let reader = repository.reader().expect("a reader");
    let entry = find(&reader, &listed.root, path.as_bytes()).expect("read")?;
    let text = inside::text(&reader, &entry.content).expect("read").expect("small");
    Some(String::from_utf8_lossy(&text).into_owned())
}

fn workspace(root: &Path) {
    fs::create_dir_all(root.join("sub")).expect("made");
    for name in ["a.json", "c.json", "sub/z.json"] {
        fs::write(root.join(name), "{\"state\": 1}").expect("written");
    }
    fs::write(root.join("m.db"), b"SQLite format 3\0, or so").expect("written");
}

#[test]
fn what_moved_while_a_workspace_was_read_is_read_again() {
    let temp = tempfile::tempdir().expect("a directory");
    let root = temp.path().join("ws");
    workspace(&root);
    let (_, repository) = crate::shelf::empty();
    let (done, problems) = meddled(&repository, &root, |count| {
        if count == 1 {
            fs::write(root.join("a.json"), "{\"state\": 2,}").expect("written");
            fs::write(root.join("b.json"), "[]").expect("written");
            fs::remove_file(root.join("c.json")).expect("removed");
            fs::create_dir(root.join("new")).expect("made");
            fs::write(root.join("new/deep.json"), "[1]").expect("written");
        }
    });
    assert_eq!(problems, [""; 0]);
    let facts = done.json.clone().expect("facts");
    assert!(facts.workspaces[0].looks >= 2 && facts.workspaces[0].steady, "{facts:?}");
    assert_eq!(stored(&repository, &done, "data/a.json").as_deref(), Some("{\"state\": 2,}"));
    assert_eq!(stored(&repository, &done, "data/b.json").as_deref(), Some("[]"));
    assert_eq!(stored(&repository, &done, "data/c.json"), None);
    assert_eq!(stored(&repository, &done, "data/new/deep.json").as_deref(), Some("[1]"));
    assert_eq!(stored(&repository, &done, "data/sub/z.json").as_deref(), Some("{\"state\": 1}"));
    // The verdict is that of the text that is stored.
    assert_eq!((facts.files, facts.invalid), (4, 1));
    assert_eq!((facts.invalid_files[0].path.as_str(), facts.invalid_files[0].column), ("/data/a.json", 13));
    assert_eq!((done.summary.files_new, done.summary.total_files_processed), (5, 5));
    // The next one finds everything as it is in the manifest.
    let (next, _) = meddled(&repository, &root, |_| {});
    assert_eq!((next.summary.files_new, next.summary.files_changed), (0, 0));
    assert_eq!(next.json.expect("facts").invalid, 1);
    let listed = snapshots::read(&repository, done.snapshot.expect("committed")).expect("the snapshot");
    let reader = repository.reader().expect("a reader");
    let groups = Groups::load(&reader, &listed.root).expect("groups");
    let entries = groups.read(&reader, 0).expect("entries");
    let stats = read_stats(&reader, &groups.items[0], &entries).expect("stats");
    let sound = entries.iter().zip(&stats).filter(|(_, stat)| stat.sound).map(|(entry, _)| entry.name());
    assert_eq!(sound.collect::<Vec<_>>(), [&b"b.json"[..], b"deep.json", b"z.json"]);
}

#[test]
fn a_workspace_that_never_holds_still_is_stored_and_said_so() {
    let temp = tempfile::tempdir().expect("a directory");
    let root = temp.path().join("ws");
    workspace(&root);
    let (_, repository) = crate::shelf::empty();
    let (done, problems) = meddled(&repository, &root, |count| {
        let text = format!("SQLite format 3\0{}", "x".repeat(100 + count));
        fs::write(root.join("m.db"), text).expect("written");
    });
    let facts = done.json.clone().expect("facts");
    assert!(!facts.workspaces[0].steady);
    assert_eq!(done.summary.problems, 1, "{problems:?}");
    assert!(problems[0].contains("changed while it was read"), "{problems:?}");
    assert!(stored(&repository, &done, "data/a.json").is_some());
}

/// Names of files in `dir` that are opened while `work` runs.
fn opened(dir: &Path, work: impl FnOnce()) -> Vec<String> {
    use rustix::fs::inotify::{CreateFlags, Reader, WatchFlags, add_watch, init};
    let watch = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).expect("a watch");
    add_watch(&watch, dir, WatchFlags::OPEN).expect("watched");
    work();
    let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
    let mut events = Reader::new(watch, &mut buffer);
    let mut names = Vec::new();
    while let Ok(event) = events.next() {
        names.extend(event.file_name().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    names.dedup();
    names
}

#[test]
fn an_unchanged_file_is_not_read_to_know_its_verdict() {
    let home = Home::new();
    let dir = home.path("src/watched");
    fs::create_dir(&dir).expect("made");
    for (name, text) in [("bad.json", "{,}"), ("good.json", "{}"), ("other.txt", "x")] {
        fs::write(dir.join(name), text).expect("written");
    }
    // Time stamps as young as the backup prove nothing.
    std::thread::sleep(std::time::Duration::from_millis(300));
    home.good(&["init"]);
    home.good(&["backup", "src"]);
    let check = || drop(home.good(&["backup", "src", "--validate-json", "--reread", "0"]));
    assert_eq!(opened(&dir, check), ["bad.json", "good.json"], "nobody has looked at them yet");
    assert_eq!(opened(&dir, check), [""; 0]);
    let plain = || drop(home.good(&["backup", "src", "--reread", "0"]));
    assert_eq!(opened(&dir, plain), [""; 0]);
    assert_eq!(opened(&dir, check), ["bad.json"], "the sound one is still known");
}
