//! Restores over what is there, killed at every point that matters and at random moments, and on a disk that is full: each file
//! is the old one or the new one, databases have one of two states, and both ways out work.

use crate::cli::{Home, text};
use crate::in_place::{Tree, code, of, tree};
use crate::loop_disk::must;
use crate::small_disk::SmallDisk;
use crate::sqlite_live::{Process, assert_exact, create, rounds};
use crate::yard::seed;
use rusqlite::Connection;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

const POINTS: [&str; 16] = [
    "file-on-stage:2",
    "staged",
    "staged-moved",
    "file-staged",
    "file-staged:3",
    "file-renamed",
    "file-renamed:2",
    "deleted",
    "deleted:2",
    "database-staged",
    "database-closed",
    "companions-gone",
    "database-renamed",
    "page-written:2",
    "pages-written",
    "committed",
];

fn transactions(path: &Path, count: i64) {
    let db = Connection::open(path).expect("opens");
    db.busy_timeout(Duration::from_secs(20)).expect("set");
    for _ in 0..count {
        db.execute_batch(
            "BEGIN IMMEDIATE; UPDATE account SET balance=balance-1 WHERE id=1;
             UPDATE account SET balance=balance+1 WHERE id=7; UPDATE counter SET n=n+1;
             INSERT INTO log SELECT n, hex(randomblob(300)) FROM counter; COMMIT;",
        )
        .expect("a transaction");
    }
}

/// Transactions in the database at `path`, which must be exact; what a crash left is recovered first.
fn state(path: &Path, scratch: &Path) -> i64 {
    let db = Connection::open(path).expect("opens");
    db.busy_timeout(Duration::from_secs(20)).expect("set");
    let image = scratch.join("state.db");
    let _ = fs::remove_file(&image);
    db.execute("VACUUM INTO ?1", [image.to_string_lossy()]).expect("copied");
    assert_exact(&fs::read(&image).expect("read"), scratch, &path.display().to_string())
}

/// The tree without the databases and what stands beside them, nor what a killed restore leaves.
fn files(home: &Home) -> Tree {
    let mut all = tree(&home.path("src"));
    all.retain(|name, (mode, ..)| {
        !name.contains(".db") && !name.contains(".snapkeep-") && *mode & 0o170_000 != 0o040_000
    });
    all
}

fn assert_same(now: &Tree, wanted: &Tree, what: &str) {
    let mut other: Vec<&String> =
        now.keys().chain(wanted.keys()).filter(|k| now.get(*k) != wanted.get(*k)).collect();
    other.dedup();
    let show = |t: &Tree, k: &String| t.get(k).map(|(mode, content, time)| (*mode, content.len(), *time));
    let other: Vec<_> = other.iter().map(|k| (k, show(now, k), show(wanted, k))).collect();
    assert!(other.is_empty(), "{what}: {other:?}");
}

struct Yard {
    home: Home,
    /// The good snapshot.
    id: String,
    good: Tree,
    spoilt: Tree,
}

const OLD: i64 = 40;
const NEW: i64 = 4;

/// Ten files and two databases; spoilt since the backup.
fn yard() -> Yard {
    let home = Home::new();
    home.good(&["init"]);
    let write = |name: &str, text: &str| fs::write(home.path("src").join(name), text).expect("written");
    (0..8).for_each(|i| write(&format!("sub/{i}.txt"), &format!("good {i}")));
    create(&home.path("src/log.db"), "wal", 4096);
    create(&home.path("src/roll.db"), "delete", 4096);
    for name in ["src/log.db", "src/roll.db"] {
        transactions(&home.path(name), NEW);
    }
    let done = home.good(&["backup", "src", "--json"]);
    let done: serde_json::Value = serde_json::from_str(done.lines().last().expect("a line")).expect("JSON");
    let id = done["snapshot_id"].as_str().expect("an id").to_owned();
    let good = files(&home);
    (0..8).step_by(2).for_each(|i| write(&format!("sub/{i}.txt"), &format!("spoilt {i}, and longer")));
    (0..3).for_each(|i| write(&format!("sub/extra-{i}"), "extra"));
    fs::remove_file(home.path("src/sub/1.txt")).expect("removed");
    for name in ["src/log.db", "src/roll.db"] {
        transactions(&home.path(name), OLD - NEW);
    }
    let spoilt = files(&home);
    Yard { home, id, good, spoilt }
}

impl Yard {
    fn words(&self) -> Vec<String> {
        let place = of(&self.home, &self.id, "src");
        ["restore", &place, "--in-place", "--yes", "--delete"].iter().map(ToString::to_string).collect()
    }

    /// After whatever happened: old or new, file by file; then both ways out.
    fn judge(&self, what: &str, forward: bool) {
        let (home, now) = (&self.home, files(&self.home));
        for name in self.good.keys().chain(self.spoilt.keys()).chain(now.keys()) {
            let here = now.get(name);
            let known = here == self.good.get(name) || here == self.spoilt.get(name);
            let here = here.map(|(mode, content, time)| (mode, content.len(), time));
            assert!(known, "{what}: {name} is neither the old nor the new one: {here:?}");
        }
        for name in ["src/log.db", "src/roll.db"] {
            let n = state(&home.path(name), &home.path(""));
            assert!(n == OLD || n == NEW, "{what}: {name} is at {n}");
        }
        let undoable = home.good(&["undo", "--list"]);
        let first = undoable
            .lines()
            .find(|line| line.contains("before restore"))
            .and_then(|line| line.split_whitespace().next())
            .map(str::to_owned);
        assert!(first.is_some() || now == self.spoilt, "{what}: changed without a safety snapshot");
        // A mixture is never stored without a word.
        let ended = !undoable.contains("NOT COMPLETED");
        let stored = home.run(&["backup", "src"]);
        let warned = text(&stored.stderr).contains("may be a mixture");
        assert_eq!(warned, first.is_some() && !ended, "{what}: {undoable} {stored:?}");
        let whole = now == self.good || now == self.spoilt;
        assert!(warned || whole, "{what}: a mixture was stored silently");
        let (tree, n) = match (forward, first) {
            (false, Some(id)) => {
                home.good(&["undo", "--yes", &id]);
                (&self.spoilt, OLD)
            }
            _ => {
                home.good(&self.words());
                (&self.good, NEW)
            }
        };
        let after = home.good(&["undo", "--list"]);
        assert!(!after.contains("NOT COMPLETED"), "{what}: {after}");
        assert_same(&files(home), tree, what);
        for name in ["src/log.db", "src/roll.db"] {
            assert_eq!(state(&home.path(name), &home.path("")), n, "{what}: {name}");
        }
        let left = crate::in_place::tree(&home.path("src"));
        assert!(!left.keys().any(|name| name.contains(".snapkeep-")), "{what}: {:?}", left.keys());
    }
}

#[test]
fn killed_at_each_point_both_ways_out_work() {
    for (number, point) in POINTS.iter().enumerate() {
        for live in [false, true] {
            let by_pages = matches!(*point, "page-written:2" | "pages-written" | "committed");
            let by_file = matches!(*point, "database-closed" | "companions-gone" | "database-renamed");
            if (live && by_file) || (live && !by_pages && number % 3 > 0) {
                continue;
            }
            let yard = yard();
            let mut users = Vec::new();
            if live {
                for name in ["src/log.db", "src/roll.db"] {
                    let mut user = Process::start("shell", &yard.home.path(name), 0);
                    assert_eq!(user.must("SELECT n FROM counter"), format!("Integer({OLD})"));
                    users.push(user);
                }
            }
            let run = yard.home.command(&yard.words()).env("SNAPKEEP_KILL_IN", point).output().expect("runs");
            assert_eq!(run.status.code(), None, "{point}, live {live}: not killed: {run:?}");
            for user in &mut users {
                let n = user.must("SELECT n FROM counter");
                assert!(n == format!("Integer({OLD})") || n == format!("Integer({NEW})"), "{point}: {n}");
                assert_eq!(user.must("SELECT sum(balance) FROM account"), "Integer(500000)", "{point}");
            }
            yard.judge(&format!("{point}, live {live}"), number % 2 == 0);
        }
    }
}

#[test]
fn killed_at_random_moments_both_ways_out_work() {
    let mut random = seed("in-place kills", 22);
    let usual = {
        let yard = yard();
        let begun = Instant::now();
        yard.home.good(&yard.words());
        begun.elapsed()
    };
    for round in 0..rounds(6, 120) {
        let yard = yard();
        let mut child = yard
            .home
            .command(&yard.words())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        let after = usual.mul_f64(0.3 + random.below(800) as f64 / 1000.0);
        std::thread::sleep(after);
        let _ = child.kill();
        child.wait().expect("ended");
        yard.judge(&format!("round {round}, killed after {after:?}"), random.below(2) == 0);
    }
}

#[test]
fn a_full_disk_changes_nothing_that_it_does_not_finish() {
    let Some(disk) = SmallDisk::new("in-place") else { return };
    let home = Home::new();
    home.good(&["init"]);
    let source = disk.path().join("src");
    fs::create_dir(&source).expect("made");
    let db = source.join("app.db");
    create(&db, "wal", 4096);
    transactions(&db, 500);
    fs::write(source.join("big"), vec![7; 3 << 20]).expect("written");
    home.good(&["backup", &source.to_string_lossy()]);
    let place = format!("latest:{}", source.display());
    let words = ["restore", &place, "--in-place", "--yes"];
    Connection::open(&db)
        .expect("opens")
        .execute_batch("DELETE FROM log; UPDATE counter SET n=0; VACUUM;")
        .expect("cut");
    fs::write(source.join("big"), "small").expect("written");
    let mut open = Process::start("shell", &db, 0);
    assert_eq!(open.must("SELECT n FROM counter"), "Integer(0)");
    disk.leave(64 << 10);
    let run = home.run(&words);
    assert!(code(&run) == 23 && text(&run.stderr).contains("nothing was changed"), "{run:?}");
    assert!(home.good(&["undo", "--list"]).contains("nothing to undo"), "no safety snapshot for nothing");
    let run = home.run(&[&words[..], &["--no-stage"]].concat());
    assert_eq!(code(&run), 1, "{run:?}");
    assert!(text(&run.stderr).contains("the disk is full") && text(&run.stderr).contains("undo"), "{run:?}");
    assert_eq!(fs::read(source.join("big")).expect("read"), b"small");
    assert_eq!(open.must("SELECT n FROM counter"), "Integer(0)");
    assert_eq!(open.must("PRAGMA integrity_check"), "Text(\"ok\")");
    // Room to stage the database, none for the log of the transaction.
    disk.leave(db_len(&home, &place) + (128 << 10));
    fs::remove_file(source.join("big")).expect("removed");
    let run = home.run(&["restore", &format!("{place}/app.db"), "--in-place", "--yes"]);
    let n = open.must("SELECT n FROM counter");
    assert!(
        (code(&run) == 0) == (n == "Integer(500)") && (n == "Integer(500)" || n == "Integer(0)"),
        "{n}: {run:?}"
    );
    assert_eq!(open.must("PRAGMA integrity_check"), "Text(\"ok\")");
    disk.leave(32 << 20);
    home.good(&words);
    assert_eq!(open.must("SELECT n FROM counter"), "Integer(500)");
    assert_eq!(fs::metadata(source.join("big")).expect("there").len(), 3 << 20);
}

fn db_len(home: &Home, place: &str) -> u64 {
    home.run(&["dump", &format!("{place}/app.db")]).stdout.len() as u64
}

#[test]
fn a_disk_that_cannot_be_written_to_stays_as_it_is() {
    let Some(disk) = SmallDisk::new("in-place-ro") else { return };
    let home = Home::new();
    home.good(&["init"]);
    let source = disk.path().join("src");
    fs::create_dir(&source).expect("made");
    create(&source.join("app.db"), "wal", 4096);
    fs::write(source.join("a"), "good").expect("written");
    home.good(&["backup", &source.to_string_lossy()]);
    transactions(&source.join("app.db"), 3);
    fs::write(source.join("a"), "spoilt").expect("written");
    let before = tree(&source);
    let place = disk.path().to_string_lossy().into_owned();
    must("mount", &["-o", "remount,ro", &place]).expect("read-only");
    let words = ["restore", &format!("latest:{}", source.display()), "--in-place", "--yes"];
    let staged = home.run(&words);
    let run = home.run(&[&words[..], &["--no-stage"]].concat());
    must("mount", &["-o", "remount,rw", &place]).expect("writable");
    assert_eq!((code(&staged), code(&run)), (1, 1), "{staged:?} {run:?}");
    assert!(text(&staged.stderr).contains("nothing was changed"), "{staged:?}");
    let told = text(&run.stderr);
    assert!(
        told.contains("src/a: ") && told.contains("src/app.db: ") && told.contains("read-only"),
        "{told}"
    );
    assert_eq!(tree(&source), before);
    home.good(&words);
    assert_eq!(fs::read(source.join("a")).expect("read"), b"good");
    assert_eq!(state(&source.join("app.db"), &home.path("")), 0);
}
