//! Databases: what a generation costs in CPU seconds and bytes, a `VACUUM`, capturing when nothing changed, restoring the
//! first and the last generation, and what writers feel of it. A program of its own; CPU is user and system time.
//!
//! `SNAPKEEP_BENCH_MIB` (192) and `SNAPKEEP_BENCH_GENERATIONS` (12) scale it, `SNAPKEEP_BENCH_ONLY_WRITERS` leaves out all but
//! the writers. Checking databases is measured apart.

use rusqlite::Connection;
use snapkeep::backend::Backend;
use snapkeep::backend::local::LocalBackend;
use snapkeep::backup::{self, Input, Options, Outcome};
use snapkeep::clock::{Clock, SystemClock};
use snapkeep::manifest::content::for_each_piece;
use snapkeep::manifest::walk::find;
use snapkeep::progress::{Progress, Silent};
use snapkeep::repository::keys::SlotOwner;
use snapkeep::repository::{self, NewRepository, Repository, snapshots};
use snapkeep::source::filter::{Filter, FilterOptions};
use snapkeep::source::roots::Root;
use snapkeep::source::{FileSource, WalkOptions};
use snapkeep::sqlite::check::{self, Depth};
use snapkeep::sqlite::pin::{Rules, pin};
use snapkeep::sqlite::place::Place;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

mod data;

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// User and system seconds of this process, in hundredths.
fn cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").expect("stat");
    let fields: Vec<&str> = text.rsplit(") ").next().expect("fields").split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().expect("user") + fields[12].parse::<u64>().expect("system");
    ticks as f64 / 100.0
}

fn measured<T>(work: impl FnOnce() -> T) -> (T, f64, f64) {
    let (cpu_before, wall) = (cpu(), Instant::now());
    let done = work();
    (done, cpu() - cpu_before, wall.elapsed().as_secs_f64())
}

fn new_repository(dir: &Path) -> Arc<Repository> {
    let backend: Arc<dyn Backend> = Arc::new(LocalBackend::create(dir, false).expect("a place"));
    let new = NewRepository {
        password: None,
        owner: SlotOwner::default(),
        group_readable: false,
        like: None,
        now: SystemClock.now(),
    };
    Arc::new(repository::create(backend, &new).expect("a repository"))
}

fn back_up(repository: &Arc<Repository>, path: &Path) -> Outcome {
    let filter = Filter::new(&FilterOptions::default()).expect("no patterns");
    let walk = WalkOptions { started: SystemClock.now(), ..WalkOptions::default() };
    let source = FileSource::new(vec![Root::new(path).expect("a path")], filter, walk).expect("a source");
    let input = Input::Files(Box::new(source));
    let mut options = Options::default();
    options.sqlite.check = Some(Depth::Off);
    options.reread_percent = 0.0;
    backup::run(repository, &input, &options, &SystemClock, &Progress::new(), &Silent).expect("a backup")
}

fn insert(db: &Connection, random: &mut data::Random, n: u64) {
    let text =
        |random: &mut data::Random, len: u64| String::from_utf8(random.text(len as usize)).expect("ASCII");
    let (user, at) = ((random.next() % 20_000) as i64, (random.next() >> 20) as i64);
    let len = 40 + random.next() % 300;
    db.prepare("INSERT INTO message VALUES (NULL, ?, ?, ?)")
        .and_then(|mut add| add.execute((user, at, text(random, len))))
        .expect("added");
    if n.is_multiple_of(12) {
        let len = 500 + random.next() % 12_000;
        db.prepare("INSERT INTO doc VALUES (NULL, ?)")
            .and_then(|mut add| add.execute([text(random, len)]))
            .expect("added");
    }
}

fn create(path: &Path, mib: u64) -> u64 {
    let db = Connection::open(path).expect("opens");
    db.execute_batch(
        "PRAGMA journal_mode=wal; PRAGMA synchronous=off; PRAGMA cache_size=-200000;
         CREATE TABLE message(id INTEGER PRIMARY KEY, user INTEGER, at INTEGER, text TEXT);
         CREATE TABLE doc(id INTEGER PRIMARY KEY, json TEXT);
         CREATE INDEX message_user ON message(user, at); CREATE INDEX message_at ON message(at); BEGIN;",
    )
    .expect("created");
    let mut random = data::Random(1);
    let mut n = 0;
    while std::fs::metadata(path).map_or(0, |m| m.len()) < mib << 20 {
        for _ in 0..20_000 {
            insert(&db, &mut random, n);
            n += 1;
        }
        db.execute_batch("COMMIT; PRAGMA wal_checkpoint(TRUNCATE); BEGIN;").expect("committed");
    }
    db.execute_batch("COMMIT; PRAGMA wal_checkpoint(TRUNCATE);").expect("committed");
    n
}

/// Half a per cent of the rows change.
fn edit(path: &Path, rows: u64, seed: u64) {
    let db = Connection::open(path).expect("opens");
    let mut random = data::Random(seed);
    db.execute_batch("PRAGMA synchronous=off; PRAGMA cache_size=-200000; BEGIN").expect("begun");
    for n in 0..rows / 200 {
        let word = String::from_utf8(random.text(9)).expect("ASCII");
        db.prepare("UPDATE message SET text=substr(text, 1, 20) || ? || substr(text, 30) WHERE id=?")
            .and_then(|mut change| change.execute((word, (random.next() % rows) as i64)))
            .expect("changed");
        if n % 20 == 0 {
            insert(&db, &mut random, n);
        }
    }
    db.execute_batch("COMMIT; PRAGMA wal_checkpoint(TRUNCATE);").expect("committed");
}

fn size(dir: &Path) -> u64 {
    let Ok(all) = std::fs::read_dir(dir) else { return 0 };
    all.flatten()
        .map(|e| match e.metadata() {
            Ok(meta) if meta.is_dir() => size(&e.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}

fn restore(repository: &Repository, outcome: &Outcome, path: &Path) -> u64 {
    let reader = repository.reader().expect("a reader").with_cache(64 << 20);
    let root = snapshots::read(repository, outcome.snapshot.expect("a snapshot")).expect("read").root;
    let stored = path.strip_prefix("/").expect("absolute").as_os_str().as_encoded_bytes();
    let entry = find(&reader, &root, stored).expect("read").expect("there");
    let mut total = 0;
    let mut count = |bytes: &[u8]| {
        total += bytes.len() as u64;
        Ok(())
    };
    for_each_piece(&reader, &entry.content, &mut count, &mut |_| Ok(())).expect("content");
    total
}

fn generations(dir: &Path) {
    let (mib, generations) = (number("SNAPKEEP_BENCH_MIB", 192), number("SNAPKEEP_BENCH_GENERATIONS", 12));
    let source = dir.join("source");
    std::fs::create_dir(&source).expect("mkdir");
    let path = source.join("app.db");
    let rows = create(&path, mib);
    let gib = std::fs::metadata(&path).expect("stat").len() as f64 / (1u64 << 30) as f64;
    let place = dir.join("repository");
    let repository = new_repository(&place);
    println!("{:.0} MiB, {rows} rows; CPU seconds, then CPU seconds per GiB of database", gib * 1024.0);
    let mut kept = Vec::new();
    for generation in 0..=generations {
        let what = match generation {
            0 => "first copy".to_owned(),
            n if n == generations => {
                Connection::open(&path).expect("opens").execute_batch("VACUUM").expect("vacuumed");
                "VACUUM".to_owned()
            }
            n => {
                edit(&path, rows, n);
                format!("generation {n}")
            }
        };
        std::thread::sleep(Duration::from_millis(200));
        let before = size(&place);
        let (outcome, cpu, wall) = measured(|| back_up(&repository, &source));
        let added = (size(&place) - before) as f64 / (1 << 20) as f64;
        println!("{what:14} {cpu:6.2} s {:6.2} s/GiB {added:8.2} MiB {wall:6.2} s wall", cpu / gib);
        kept.push(outcome);
    }
    let times =
        std::fs::FileTimes::new().set_modified(std::time::SystemTime::now() - Duration::from_secs(50));
    std::fs::File::options().write(true).open(&path).and_then(|f| f.set_times(times)).expect("touched");
    std::thread::sleep(Duration::from_millis(200));
    let (_, cpu, wall) = measured(|| back_up(&repository, &source));
    println!("{:14} {cpu:6.2} s {:6.2} s/GiB {:15.2} GB/s", "touched only", cpu / gib, gib * 1.0737 / wall);
    let (_, cpu, _) = measured(|| back_up(&repository, &source));
    println!("{:14} {cpu:6.2} s", "unchanged");
    for (name, outcome) in
        [("first", &kept[0]), ("middle", &kept[kept.len() / 2]), ("last", &kept[kept.len() - 1])]
    {
        let (_, cpu, _) = measured(|| restore(&repository, outcome, &path));
        println!("{:14} {cpu:6.2} s {:6.2} s/GiB", format!("restore {name}"), cpu / gib);
    }
    checks(&path, dir, gib);
}

fn checks(path: &Path, scratch: &Path, gib: f64) {
    let rules = Rules {
        wait: Duration::from_secs(10),
        scratch,
        memory: 1 << 20,
        clock: &SystemClock,
        keep_going: &|| Ok(()),
        firmly: false,
        can_pin: true,
    };
    for depth in [Depth::Quick, Depth::Full] {
        let (_, cpu, _) = measured(|| {
            let pinned = pin(&Place::at(path).expect("a place"), &rules).map_err(|_| ()).expect("pinned");
            check::check(Box::new(pinned.image.clone()), depth, Arc::default()).expect("checked")
        });
        println!("{:14} {cpu:6.2} s {:6.2} s/GiB", format!("check {depth:?}"), cpu / gib);
    }
}

/// Commits at a steady pace and prints the slowest ones, until it has done `count`.
fn writer(path: &Path, count: u64) {
    let db = Connection::open(path).expect("opens");
    db.busy_timeout(Duration::from_secs(60)).expect("timeout");
    db.execute_batch("PRAGMA synchronous=off").expect("set");
    let mut change = db.prepare("UPDATE message SET at=at+1 WHERE id=?").expect("prepared");
    let mut times = Vec::new();
    let started = Instant::now();
    println!("ready");
    for n in 0..count {
        let due = started + Duration::from_micros(200 * n);
        while Instant::now() < due {
            std::thread::sleep(Duration::from_micros(20));
        }
        let begun = Instant::now();
        change.execute([(n * 7919 % 10_000) as i64]).expect("changed");
        times.push(begun.elapsed().as_micros() as u64);
    }
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!("p50 {} us, p99 {} us, p99.9 {} us, longest {} us", at(0.5), at(0.99), at(0.999), at(1.0));
}

/// Two writers at once, each with a database of its own: one of them is captured again and again, the other is the control.
fn writers(dir: &Path) {
    for mode in ["wal", "delete"] {
        let paths = ["captured", "control"].map(|name| {
            let source = dir.join(format!("{name}-{mode}"));
            std::fs::create_dir(&source).expect("mkdir");
            let path = source.join("app.db");
            create(&path, number("SNAPKEEP_BENCH_MIB", 192) / 4);
            let db = Connection::open(&path).expect("opens");
            db.query_row(&format!("PRAGMA journal_mode={mode}"), [], |_| Ok(())).expect("set");
            path
        });
        let repository = new_repository(&dir.join(format!("repository-{mode}")));
        let source = paths[0].parent().expect("a directory").to_owned();
        back_up(&repository, &source);
        let mut children = paths.map(|path| {
            let mut child = Command::new(std::env::current_exe().expect("this program"))
                .env("SNAPKEEP_BENCH_WRITER", &path)
                .stdout(Stdio::piped())
                .spawn()
                .expect("a child");
            let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
            lines.next();
            (child, lines)
        });
        let mut captures = 0;
        while children[0].0.try_wait().expect("asked").is_none() {
            back_up(&repository, &source);
            captures += 1;
        }
        for (what, (child, lines)) in ["captured", "control"].iter().zip(&mut children) {
            let line = lines.next().expect("a line").expect("read");
            child.wait().expect("ended");
            println!("{mode}: 5,000 commits a second, {what} ({captures} captures): {line}");
        }
    }
}

fn main() {
    if let Some(path) = std::env::var_os("SNAPKEEP_BENCH_WRITER") {
        return writer(Path::new(&path), number("SNAPKEEP_BENCH_COMMITS", 50_000));
    }
    let dir = tempfile::tempdir().expect("tempdir");
    if std::env::var_os("SNAPKEEP_BENCH_ONLY_WRITERS").is_none() {
        generations(dir.path());
    }
    writers(dir.path());
}
