//! Databases in use: every captured state is one that existed, beside writers in other processes, through kill -9, in every
//! journal mode; nobody's locks are lost, and nothing is left beside a source.
//!
//! Exactness is judged by an invariant that `integrity_check` cannot see: a sum that transfers keep, and a counter that
//! equals the highest and the number of log rows. Writers are processes of their own: POSIX locks belong to a process.

use super::backup::{Heard, Random, back_up_with, content, new_repository, options, source};
use rusqlite::Connection;
use snapkeep::backend::memory::MemoryBackend;
use snapkeep::backup::{Options, Outcome};
use snapkeep::format::entry::Entry;
use snapkeep::manifest::walk::Walk;
use snapkeep::repository::{Repository, snapshots};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

const ACCOUNTS: i64 = 500;
const SUM: i64 = ACCOUNTS * 1000;

/// More rounds at night.
pub fn rounds(usual: usize, night: usize) -> usize {
    if std::env::var_os("SNAPKEEP_NIGHT").is_some() { night } else { usual }
}

/// A database with the invariant, closed.
pub fn create(path: &Path, mode: &str, page_size: u32) {
    let db = Connection::open(path).expect("opens");
    db.execute_batch(&format!(
        "PRAGMA page_size={page_size}; PRAGMA journal_mode={mode};
         CREATE TABLE account(id INTEGER PRIMARY KEY, balance INTEGER NOT NULL, note TEXT);
         CREATE TABLE counter(n INTEGER NOT NULL); INSERT INTO counter VALUES (0);
         CREATE TABLE log(n INTEGER PRIMARY KEY, text TEXT);
         CREATE INDEX by_balance ON account(balance);
         WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM i WHERE n<{ACCOUNTS})
         INSERT INTO account SELECT n, 1000, hex(randomblob(40)) FROM i;"
    ))
    .expect("created");
}

/// What the invariant says of an image; the number of transactions in it.
pub fn assert_exact(image: &[u8], scratch: &Path, what: &str) -> i64 {
    let path = scratch.join("judged.db");
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let _ = fs::remove_file(scratch.join(format!("judged.db{suffix}")));
    }
    fs::write(&path, image).expect("written");
    let db = Connection::open(&path).expect("opens");
    let ask = |sql: &str| {
        db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap_or_else(|e| panic!("{what}: {sql}: {e}"))
    };
    let check: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("checked");
    assert_eq!(check, "ok", "{what}");
    assert_eq!(ask("SELECT sum(balance) FROM account"), SUM, "{what}: the sum of balances");
    let counter = ask("SELECT n FROM counter");
    assert_eq!(ask("SELECT coalesce(max(n), 0) FROM log"), counter, "{what}: the highest log row");
    assert_eq!(ask("SELECT count(*) FROM log"), counter, "{what}: the number of log rows");
    counter
}

/// One program: `writer PATH MODE PAUSE_US`, or statements from standard input, one answer a line.
#[test]
fn child_process() {
    let Some(work) = std::env::var_os("SNAPKEEP_TEST_CHILD") else { return };
    let path = PathBuf::from(std::env::var_os("SNAPKEEP_TEST_DB").expect("a database"));
    match work.to_str() {
        Some("hammer") => hammer(&path),
        Some("scribe") => scribe(&path),
        Some("shell") => shell(&path),
        other => panic!("what is {other:?}"),
    }
}

fn hammer(path: &Path) {
    let pause = std::env::var("SNAPKEEP_TEST_PAUSE").ok().and_then(|p| p.parse().ok()).unwrap_or(0);
    let db = Connection::open(path).expect("opens");
    db.busy_timeout(Duration::from_secs(60)).expect("timeout");
    // Small enough that transactions spill into the file before they commit, and logs are reset all the time.
    db.execute_batch("PRAGMA synchronous=OFF; PRAGMA cache_size=5; PRAGMA wal_autocheckpoint=200;")
        .expect("set");
    let mut random = Random(u64::from(std::process::id()) | 1);
    println!("ready");
    std::io::stdout().flush().expect("flushed");
    loop {
        let (from, to) = (random.below(ACCOUNTS as u64) + 1, random.below(ACCOUNTS as u64) + 1);
        let amount = random.below(100);
        db.execute_batch(&format!(
            "BEGIN IMMEDIATE;
             UPDATE account SET balance=balance-{amount}, note=hex(randomblob(40)) WHERE id={from};
             UPDATE account SET balance=balance+{amount} WHERE id={to};
             UPDATE counter SET n=n+1;
             INSERT INTO log SELECT n, hex(randomblob({})) FROM counter;
             COMMIT;",
            random.below(60)
        ))
        .expect("a transaction");
        if random.below(50) == 0 {
            // A transaction that touches much and comes to nothing.
            db.execute_batch("BEGIN IMMEDIATE; UPDATE account SET balance=balance+1; ROLLBACK;")
                .expect("rolled back");
        }
        if pause > 0 {
            std::thread::sleep(Duration::from_micros(pause));
        }
    }
}

/// Where a `scribe` writes down the number of each transaction once it is committed.
pub fn scribed(path: &Path) -> PathBuf {
    path.parent().and_then(Path::parent).expect("a directory above").join("committed")
}

/// One transaction after another, each written down when SQLite has said that it is committed.
fn scribe(path: &Path) {
    let db = Connection::open(path).expect("opens");
    db.busy_timeout(Duration::from_secs(60)).expect("timeout");
    db.execute_batch("PRAGMA synchronous=OFF; PRAGMA wal_autocheckpoint=100;").expect("set");
    let mut book = fs::File::options().create(true).append(true).open(scribed(path)).expect("a book");
    let mut random = Random(u64::from(std::process::id()) | 1);
    println!("ready");
    std::io::stdout().flush().expect("flushed");
    loop {
        db.execute_batch("BEGIN IMMEDIATE").expect("begun");
        let n: i64 = db.query_row("UPDATE counter SET n=n+1 RETURNING n", [], |row| row.get(0)).expect("n");
        let (from, to) = (random.below(ACCOUNTS as u64) + 1, random.below(ACCOUNTS as u64) + 1);
        db.execute_batch(&format!(
            "UPDATE account SET balance=balance-3 WHERE id={from}; UPDATE account SET balance=balance+3 WHERE id={to};
             INSERT INTO log VALUES ({n}, hex(randomblob(50))); COMMIT;"
        ))
        .expect("committed");
        book.write_all(format!("{n}\n").as_bytes()).expect("written down");
        std::thread::sleep(Duration::from_micros(random.below(800)));
    }
}

fn shell(path: &Path) {
    let db = Connection::open(path).expect("opens");
    println!("ready");
    for line in std::io::stdin().lines() {
        let line = line.expect("a line");
        let result = db.prepare(&line).and_then(|mut statement| {
            let columns = statement.column_count();
            let mut rows = statement.query([])?;
            let mut out = Vec::new();
            while let Some(row) = rows.next()? {
                let cells: rusqlite::Result<Vec<String>> = (0..columns)
                    .map(|i| row.get::<_, rusqlite::types::Value>(i).map(|v| format!("{v:?}")))
                    .collect();
                out.push(cells?.join(","));
            }
            Ok(out.join(";"))
        });
        match result {
            Ok(text) => println!("ok {text}"),
            Err(e) => println!("error {e}"),
        }
        std::io::stdout().flush().expect("flushed");
    }
}

/// A child process, killed when it is dropped.
pub struct Process {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Process {
    pub fn start(work: &str, path: &Path, pause: u64) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "sqlite_live::child_process", "--nocapture"])
            .env("SNAPKEEP_TEST_CHILD", work)
            .env("SNAPKEEP_TEST_DB", path)
            .env("SNAPKEEP_TEST_PAUSE", pause.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a child");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let mut process = Process { child, out };
        process.wait_for("ready");
        process
    }

    fn wait_for(&mut self, word: &str) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert!(self.out.read_line(&mut line).expect("a line") > 0, "the child ended");
            if let Some(at) = line.find(word) {
                return line[at..].trim().to_owned();
            }
        }
    }

    /// Runs one statement in a `shell`.
    pub fn run(&mut self, sql: &str) -> String {
        let stdin = self.child.stdin.as_mut().expect("piped");
        writeln!(stdin, "{}", sql.replace('\n', " ")).expect("written");
        let mut line = String::new();
        loop {
            line.clear();
            assert!(self.out.read_line(&mut line).expect("a line") > 0, "the child ended");
            if line.starts_with("ok") || line.starts_with("error") {
                return line.trim().to_owned();
            }
        }
    }

    pub fn must(&mut self, sql: &str) -> String {
        let answer = self.run(sql);
        assert!(answer.starts_with("ok"), "{sql}: {answer}");
        answer.trim_start_matches("ok").trim().to_owned()
    }

    pub fn lives(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|ended| ended.is_none())
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("ended");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn files(repository: &Arc<Repository>, outcome: &Outcome) -> BTreeMap<String, (Entry, Vec<u8>)> {
    let reader = repository.reader().expect("a reader");
    let root = snapshots::read(repository, outcome.snapshot.expect("committed")).expect("a snapshot").root;
    let all = Walk::new(&reader, &root, b"").expect("a manifest").map(|e| e.expect("an entry"));
    all.filter(Entry::is_file)
        .map(|e| (String::from_utf8_lossy(e.name()).into_owned(), (e.clone(), content(&reader, &e))))
        .collect()
}

fn names(dir: &Path) -> Vec<String> {
    let all = fs::read_dir(dir)
        .expect("list")
        .map(|e| e.expect("entry").file_name().to_string_lossy().into_owned());
    let mut all: Vec<_> = all.collect();
    all.sort();
    all
}

/// A backup and what was said about it: problems, warnings.
pub fn told(
    repository: &Arc<Repository>,
    dir: &Path,
    options: &Options,
) -> (Outcome, Vec<String>, Vec<String>) {
    let heard = Heard::default();
    let progress = snapkeep::progress::Progress::new();
    let clock = &snapkeep::clock::SystemClock;
    let outcome =
        snapkeep::backup::run(repository, &source(dir), options, clock, &progress, &heard).expect("runs");
    (outcome, heard.0.into_inner().expect("heard"), heard.1.into_inner().expect("heard"))
}

fn hammered(mode: &str, rounds: usize) {
    let dir = tempfile::tempdir().expect("tempdir");
    let judge = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("app.db");
    create(&path, mode, 4096);
    let repository = new_repository(Arc::new(MemoryBackend::new()), None);
    let mut writer = Some(Process::start("hammer", &path, 0));
    let (mut last, mut ways) = (-1, BTreeMap::new());
    for round in 0..rounds {
        if round % 5 == 4 {
            // Once after a kill, with nobody there to clean up.
            writer.take().expect("running").kill();
        }
        let (outcome, problems, _) = told(&repository, dir.path(), &options());
        let what = format!("{mode}, round {round}");
        assert_eq!(problems, [""; 0], "{what}");
        let stored = files(&repository, &outcome);
        assert_eq!(stored.keys().collect::<Vec<_>>(), ["app.db"], "{what}: nothing but the database");
        let count = assert_exact(&stored["app.db"].1, judge.path(), &what);
        assert!(count >= last, "{what}: time does not go backwards");
        last = count;
        let facts = &outcome.databases.as_ref().expect("captured").databases[0];
        assert_eq!((facts.check.result.as_str(), facts.check.depth.as_str()), ("ok", "full"), "{what}");
        assert_eq!(
            facts.tables.get("log"),
            Some(&(count as u64)),
            "{what}: rows are counted in the captured state"
        );
        *ways.entry(facts.capture.clone()).or_insert(0) += 1;
        if writer.is_none() {
            writer = Some(Process::start("hammer", &path, 0));
        }
    }
    assert!(last > 0, "the writer got something done");
    // Of the latter, each was found with nobody there to clean up after it.
    crate::counters::count("T18 states of databases beside a writer", rounds as u64, "0 wrong");
    crate::counters::count("T18 writers killed meanwhile", (rounds / 5) as u64, "0 wrong");
    println!("{mode}: {ways:?}, {last} transactions");
}

#[test]
fn every_state_captured_beside_a_writer_with_a_log_existed() {
    hammered("wal", rounds(14, 180));
}

#[test]
fn every_state_captured_beside_a_writer_with_a_journal_existed() {
    hammered("delete", rounds(10, 140));
}

#[test]
fn every_state_captured_beside_writers_with_kept_journals_existed() {
    hammered("persist", rounds(8, 90));
    hammered("truncate", rounds(8, 90));
}

#[test]
fn the_judge_can_tell() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("app.db");
    create(&path, "wal", 4096);
    let writer = Process::start("hammer", &path, 0);
    let mut caught = 0;
    for _ in 0..60 {
        // What a file copy does.
        let main = fs::read(&path).expect("read");
        let wal = fs::read(dir.path().join("app.db-wal")).unwrap_or_default();
        let copy = tempfile::tempdir().expect("tempdir");
        fs::write(copy.path().join("judged.db-wal"), wal).expect("written");
        let judged = std::panic::catch_unwind(|| {
            let path = copy.path().join("judged.db");
            fs::write(&path, &main).expect("written");
            let db = Connection::open(&path).expect("opens");
            let ask = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("asked");
            assert_eq!(ask("SELECT sum(balance) FROM account"), SUM);
            assert_eq!(ask("SELECT count(*) FROM log"), ask("SELECT n FROM counter"));
        });
        caught += usize::from(judged.is_err());
    }
    drop(writer);
    println!("{caught} of 60 plain copies were wrong");
}

fn with(change: impl FnOnce(&mut Options)) -> Options {
    let mut options = options();
    change(&mut options);
    options
}

#[test]
fn nothing_is_left_beside_a_source_and_nothing_is_touched() {
    for mode in ["wal", "delete"] {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("app.db");
        create(&path, mode, 4096);
        let before =
            (fs::read(&path).expect("read"), fs::metadata(&path).expect("stat").modified().expect("mtime"));
        let listed = fs::metadata(dir.path()).expect("stat").modified().expect("mtime");
        let repository = new_repository(Arc::new(MemoryBackend::new()), None);
        for _ in 0..2 {
            let outcome = back_up_with(&repository, &source(dir.path()), &options()).expect("runs");
            assert_eq!(files(&repository, &outcome)["app.db"].1, before.0, "{mode}: the very bytes");
        }
        assert_eq!(names(dir.path()), ["app.db"], "{mode}");
        let after =
            (fs::read(&path).expect("read"), fs::metadata(&path).expect("stat").modified().expect("mtime"));
        assert!(before == after, "{mode}: untouched");
        assert_eq!(
            fs::metadata(dir.path()).expect("stat").modified().expect("mtime"),
            listed,
            "{mode}: the directory, too"
        );
    }
}

#[test]
fn a_log_left_behind_is_read_and_left_as_it_is() {
    let dir = tempfile::tempdir().expect("tempdir");
    let judge = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("app.db");
    create(&path, "wal", 4096);
    let writer = Process::start("hammer", &path, 0);
    std::thread::sleep(Duration::from_millis(200));
    writer.kill();
    // As after a copy, or after the machine went down: the log is there, the shared memory is not.
    fs::remove_file(dir.path().join("app.db-shm")).expect("removed");
    let log = fs::read(dir.path().join("app.db-wal")).expect("a log");
    assert!(!log.is_empty());
    let repository = new_repository(Arc::new(MemoryBackend::new()), None);
    let outcome = back_up_with(&repository, &source(dir.path()), &options()).expect("runs");
    let stored = files(&repository, &outcome);
    assert_eq!(names(dir.path()), ["app.db", "app.db-wal"], "nothing was made");
    assert_eq!(fs::read(dir.path().join("app.db-wal")).expect("a log"), log, "nor changed");
    assert_eq!(outcome.databases.expect("captured").databases[0].capture, "still");
    let count = assert_exact(&stored["app.db"].1, judge.path(), "by our own reading");
    // SQLite's own recovery comes to the same bytes.
    let db = Connection::open(&path).expect("opens");
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("checkpoint");
    assert_eq!(db.query_row("SELECT n FROM counter", [], |row| row.get::<_, i64>(0)).expect("asked"), count);
    drop(db);
    assert!(fs::read(&path).expect("read") == stored["app.db"].1, "byte for byte");
}

#[test]
fn a_hot_journal_is_recovered_in_a_copy_and_left_as_it_is() {
    let judge = tempfile::tempdir().expect("tempdir");
    let mut recovered = 0;
    for attempt in 0..40 {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("app.db");
        create(&path, "delete", 1024);
        let mut shell = Process::start("shell", &path, 0);
        shell.must("PRAGMA cache_size=2");
        shell.must("BEGIN IMMEDIATE");
        // Spilled into the file, not committed.
        shell.must("UPDATE account SET balance=balance+1, note=hex(randomblob(60))");
        shell.kill();
        let main = fs::read(&path).expect("read");
        let journal = fs::read(dir.path().join("app.db-journal")).expect("a journal");
        let repository = new_repository(Arc::new(MemoryBackend::new()), None);
        let (outcome, problems, _) = told(&repository, dir.path(), &options());
        assert_eq!(problems, [""; 0], "attempt {attempt}");
        let stored = files(&repository, &outcome);
        assert_eq!(stored.keys().collect::<Vec<_>>(), ["app.db"], "attempt {attempt}");
        assert_exact(&stored["app.db"].1, judge.path(), "recovered");
        assert!(fs::read(&path).expect("read") == main, "the source was not rolled back by us");
        assert!(fs::read(dir.path().join("app.db-journal")).expect("still there") == journal);
        let how = &outcome.databases.expect("captured").databases[0].capture;
        recovered += usize::from(how == "recovered");
        if recovered >= 3 {
            return;
        }
    }
    panic!("no journal was hot");
}

#[test]
fn a_backup_of_the_tree_does_not_lose_a_pin() {
    // A tree in which the database has a second name that the walk reads like any file, while the database is held.
    let dir = tempfile::tempdir().expect("tempdir");
    let tree = dir.path().join("tree");
    fs::create_dir(&tree).expect("mkdir");
    for mode in ["delete", "wal"] {
        let path = dir.path().join(format!("{mode}.db"));
        create(&path, mode, 4096);
        let mut other = Process::start("shell", &path, 0);
        other.must("INSERT INTO log VALUES (1000000, 'x')");
        for (suffix, name) in [("", "alias"), ("-shm", "alias-of-shm")] {
            let from = dir.path().join(format!("{mode}.db{suffix}"));
            if from.exists() {
                fs::hard_link(from, tree.join(format!("{mode}-{name}"))).expect("linked");
            }
        }
        let place = snapkeep::sqlite::place::Place::at(&path).expect("a place");
        let going = || Ok(());
        let scratch = std::env::temp_dir();
        let rules = snapkeep::sqlite::pin::Rules {
            wait: Duration::from_secs(5),
            scratch: &scratch,
            memory: 1 << 20,
            clock: &snapkeep::clock::SystemClock,
            keep_going: &going,
            firmly: false,
            can_pin: true,
        };
        let held = Held::new(&place, &rules, mode);
        let try_it = |other: &mut Process| match mode {
            "delete" => other.run("INSERT INTO log VALUES (1000001, 'y')"),
            _ => other.run("PRAGMA wal_checkpoint(RESTART)"),
        };
        let refused = |answer: &str| answer.contains("locked") || answer.contains("Integer(1)");
        let before = try_it(&mut other);
        assert!(refused(&before), "{mode}: the lock holds: {before}");
        let repository = new_repository(Arc::new(MemoryBackend::new()), None);
        let plain = with(|o| o.sqlite.capture = false);
        back_up_with(&repository, &source(&tree), &plain).expect("runs");
        back_up_with(&repository, &source(dir.path()), &options()).expect("runs");
        let after = try_it(&mut other);
        assert!(refused(&after), "{mode}: a backup of the tree dropped the lock: {after}");
        drop(held);
    }
}

/// A read transaction held by this process through the same connection that captures use.
struct Held {
    _what: Box<dyn std::any::Any>,
}

impl Held {
    fn new(
        place: &snapkeep::sqlite::place::Place,
        rules: &snapkeep::sqlite::pin::Rules<'_>,
        mode: &str,
    ) -> Self {
        if mode == "wal" {
            let pin = snapkeep::sqlite::pin::pin(place, rules).map_err(|_| "refused").expect("pinned");
            assert_eq!(pin.how, snapkeep::sqlite::pin::How::Log);
            return Held { _what: Box::new(pin) };
        }
        let id = place.status("").expect("stat").expect("there").id();
        let db = snapkeep::sqlite::ffi::Database::open(&place.path().expect("a path"), id).expect("opens");
        db.connection().execute_batch("BEGIN").expect("begun");
        db.connection().query_row("SELECT count(*) FROM account", [], |_| Ok(())).expect("read");
        Held { _what: Box::new(db) }
    }
}

#[test]
fn a_database_kept_locked_is_reported_and_not_stored() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("app.db");
    create(&path, "delete", 4096);
    fs::write(dir.path().join("beside"), "a file").expect("written");
    let mut other = Process::start("shell", &path, 0);
    other.must("PRAGMA locking_mode=EXCLUSIVE");
    other.must("INSERT INTO log VALUES (1, 'x')");
    let repository = new_repository(Arc::new(MemoryBackend::new()), None);
    let short = with(|o| o.sqlite.wait = Duration::from_millis(200));
    let outcome = back_up_with(&repository, &source(dir.path()), &short).expect("runs");
    assert_eq!(outcome.summary.problems, 1);
    assert_eq!(files(&repository, &outcome).into_keys().collect::<Vec<_>>(), ["beside"]);
    drop(other);
    let outcome = back_up_with(&repository, &source(dir.path()), &short).expect("runs");
    assert_eq!(outcome.summary.problems, 0);
    assert!(files(&repository, &outcome).contains_key("app.db"));
}
