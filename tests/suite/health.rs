//! Health: what is judged how, and what the command says, writes and ends with.

use crate::cli::{Home, text};
use serde_json::Value;
use snapkeep::clock::Timestamp;
use snapkeep::codes::Code;
use snapkeep::health::judge::judge;
use snapkeep::health::series::{Point, Series};
use snapkeep::health::{
    Class, DrillFact, Facts, JobFact, Limits, LiveFound, LiveState, Space, Status, Verdict, Wanted,
};
use snapkeep::repository::checks::Checked;
use snapkeep::repository::drills::Drilled;
use std::time::Duration;

const HOUR: i64 = 3600;
const DAY: i64 = 86_400;

fn at(secs: i64) -> Timestamp {
    Timestamp { secs, nanos: 0 }
}

fn now() -> Timestamp {
    at(1_795_000_000)
}

fn point(hours_ago: i64) -> Point {
    Point {
        id: format!("p{hours_ago}"),
        time: Some(at(now().secs - hours_ago * HOUR)),
        files: 100,
        bytes: 1 << 20,
        ..Point::default()
    }
}

/// All is well: one set, one good snapshot of an hour ago, checked and drilled lately.
fn well() -> Facts {
    let series = Series {
        host: "engine".to_owned(),
        paths: vec!["/srv".to_owned()],
        profile: Some("p".to_owned()),
        set: Some("app".to_owned()),
        snapshots: 3,
        points: vec![point(49), point(25), point(1)],
        ..Series::default()
    };
    let wanted =
        Wanted { profile: "p".to_owned(), set: "app".to_owned(), scheduled: true, ..Wanted::default() };
    let time = at(now().secs - DAY).rfc3339();
    let mut check = Checked { time: time.clone(), ..Checked::default() };
    check.done.passed = true;
    let mut drilled = Drilled { time, ..Drilled::default() };
    drilled.done.passed = true;
    let drill = Some(DrillFact { snapshot: "p25".to_owned(), drilled });
    Facts {
        now: now(),
        host: "engine".to_owned(),
        place: "/backup".to_owned(),
        profile: Some("p".to_owned()),
        series: vec![series],
        wanted: vec![wanted],
        snapshots: 3,
        oldest: Some(at(now().secs - 50 * DAY)),
        checks: vec![check],
        drill_last: drill.clone(),
        drill_proven: drill,
        space: Some(Space { free: 50, total: 100 }),
        ..Facts::default()
    }
}

fn judged(change: impl FnOnce(&mut Facts)) -> Vec<(Code, Verdict)> {
    let mut facts = well();
    change(&mut facts);
    let status: Status = judge(&facts, &Limits::default());
    assert_eq!(status.verdict, status.findings.iter().map(|f| f.severity).max().unwrap_or_default());
    assert!(status.findings.iter().all(|f| !f.cause.is_empty() && !f.next.is_empty()));
    status.findings.iter().map(|f| (f.code, f.severity)).collect()
}

const WARNING: Verdict = Verdict::Warning;
const CRITICAL: Verdict = Verdict::Critical;

#[test]
fn what_is_overdue_is_as_bad_as_its_class() {
    assert!(judged(|_| ()).is_empty(), "{:?}", judged(|_| ()));
    let late = |hours, class| {
        judged(|f| {
            f.series[0].points.pop();
            f.series[0].points.push(point(hours));
            f.wanted[0].class = class;
        })
    };
    let overdue = |severity| vec![(Code::BackupOverdue, severity)];
    assert!(late(26, Class::High).is_empty());
    assert_eq!(late(27, Class::High), overdue(WARNING));
    assert_eq!(late(53, Class::High), overdue(CRITICAL));
    assert_eq!(late(4, Class::Critical), overdue(CRITICAL));
    assert_eq!(late(8 * 24 + 1, Class::Medium), overdue(WARNING));
    let said = judged(|f| {
        f.wanted[0].max_age = Some(Duration::from_secs(60));
    });
    assert_eq!(said, overdue(CRITICAL), "an hour is more than twice a minute");
    // Nobody expects what no schedule makes, nor what is in the profile no more.
    assert!(
        judged(|f| {
            f.wanted[0].scheduled = false;
            f.series[0].points = vec![point(1000)];
        })
        .is_empty()
    );
    let gone = judged(|f| f.wanted[0].set = "other".to_owned());
    assert_eq!(gone, [(Code::BackupMissing, CRITICAL)]);
}

#[test]
fn a_repository_alone_tells_what_is_overdue() {
    let alone = |change: &dyn Fn(&mut Facts)| {
        judged(|f| {
            f.wanted.clear();
            f.profile = None;
            change(f);
        })
    };
    assert!(alone(&|_| ()).is_empty());
    let recorded = alone(&|f| {
        f.series[0].max_age = Some(Duration::from_secs(1800));
        f.series[0].class = Some(Class::Critical);
    });
    assert_eq!(recorded, [(Code::BackupOverdue, CRITICAL)], "as its snapshots say");
    let unsaid = alone(&|f| f.series[0].points = vec![point(30)]);
    assert_eq!(unsaid, [(Code::BackupOverdue, WARNING)], "a day, where nobody says anything");
    let empty = alone(&|f| {
        f.series.clear();
        f.snapshots = 0;
        f.oldest = None;
    });
    assert_eq!(empty[0], (Code::BackupMissing, CRITICAL));
}

#[test]
fn a_bad_newest_snapshot_does_not_pass_for_a_good_one() {
    let newest =
        |change: &dyn Fn(&mut Point)| judged(|f| change(f.series[0].points.last_mut().expect("one")));
    assert_eq!(newest(&|p| p.problems = 3), [(Code::NewestIncomplete, WARNING)]);
    assert_eq!(newest(&|p| p.databases_failed.push("/a.db".to_owned())), [(Code::NewestUnsound, CRITICAL)]);
    let long = judged(|f| {
        f.series[0].points[1].problems = 1;
        f.series[0].points[2].problems = 1;
    });
    assert_eq!(
        long,
        [(Code::BackupOverdue, WARNING), (Code::NewestIncomplete, WARNING)],
        "the last good one is two days old"
    );
    let small = judged(|f| {
        f.wanted[0].min_files = Some(101);
        f.wanted[0].min_rows.insert("users".to_owned(), 5);
        f.series[0].points[2].rows.insert("/a.db:users".to_owned(), 4);
    });
    assert_eq!(small, [(Code::TooLittle, CRITICAL), (Code::TooLittle, CRITICAL)]);
}

#[test]
fn checks_drills_room_and_the_rest() {
    let days = |n: i64| at(now().secs - n * DAY).rfc3339();
    assert_eq!(judged(|f| f.checks[0].time = days(36)), [(Code::CheckOverdue, WARNING)]);
    assert_eq!(
        judged(|f| f.checks.clear()),
        [(Code::CheckOverdue, WARNING)],
        "never since the first snapshot"
    );
    let damage = judged(|f| {
        f.checks[0].done.passed = false;
        f.checks[0].done.damage = 1;
    });
    assert_eq!(damage, [(Code::CheckFound, CRITICAL)]);
    let failed = judged(|f| f.drill_last.as_mut().expect("one").drilled.done.passed = false);
    assert_eq!(failed, [(Code::DrillFailed, CRITICAL)]);
    assert_eq!(judged(|f| f.drill_proven = None), [(Code::DrillOverdue, WARNING)]);
    assert_eq!(judged(|f| f.space = Some(Space { free: 14, total: 100 })), [(Code::SpaceLow, WARNING)]);
    assert_eq!(judged(|f| f.space = Some(Space { free: 4, total: 100 })), [(Code::SpaceLow, CRITICAL)]);
    let filling = judged(|f| f.added = (0..9).map(|n| (at(now().secs - n * DAY), 10)).collect());
    assert_eq!(filling, [(Code::SpaceEnding, WARNING)]);
    let live = |state| judged(|f| f.live.push(LiveFound { path: "/a.db".to_owned(), state }));
    assert_eq!(live(LiveState::Damaged("row 1 missing".to_owned())), [(Code::LiveDamaged, CRITICAL)]);
    assert_eq!(live(LiveState::Unseen("locked".to_owned())), [(Code::LiveUnseen, WARNING)]);
    let job = |job: JobFact| judged(|f| f.jobs.push(JobFact { name: "backup:app@usb".to_owned(), ..job }));
    assert_eq!(job(JobFact { consecutive_failures: 1, ..JobFact::default() }), [(Code::JobFailing, WARNING)]);
    assert_eq!(
        job(JobFact { consecutive_failures: 3, ..JobFact::default() }),
        [(Code::JobFailing, CRITICAL)]
    );
    let silent =
        |scheduled| job(JobFact { next: Some(at(now().secs - 4 * HOUR)), scheduled, ..JobFact::default() });
    assert_eq!(silent(true), [(Code::SchedulerSilent, WARNING)]);
    assert!(silent(false).is_empty());
    assert_eq!(judged(|f| f.future.push("p".to_owned())), [(Code::ClockWrong, WARNING)]);
    assert_eq!(
        judged(|f| f.unreadable.push(("p".to_owned(), "why".to_owned()))),
        [(Code::SnapshotUnreadable, CRITICAL)]
    );
    assert_eq!(judged(|f| f.copies_missing = 1), [(Code::CopiesMissing, WARNING)]);
    assert_eq!(judged(|f| f.parity_missing = 1), [(Code::ParityMissing, WARNING)]);
}

fn json(home: &Home, arguments: &[&str]) -> (i32, Value) {
    let told = home.run(&[arguments, &["--json"]].concat());
    let value = serde_json::from_slice(&told.stdout).unwrap_or_else(|_| panic!("{}", text(&told.stderr)));
    (told.status.code().expect("a code"), value)
}

fn codes(status: &Value) -> Vec<&str> {
    status["findings"].as_array().expect("a list").iter().map(|f| f["code"].as_str().expect("text")).collect()
}

fn database(home: &Home) {
    let db = rusqlite::Connection::open(home.path("src/a.db")).expect("opens");
    db.execute_batch("create table t(x); insert into t values(1),(2)").expect("made");
}

#[test]
fn the_command_sees_a_database_break_and_go_and_writes_to_none() {
    let home = Home::new();
    database(&home);
    home.good(&["init"]);
    home.good(&["backup", "src"]);
    let before = std::fs::read(home.path("src/a.db")).expect("there");
    let status = ["health", "--status-file", "status.json", "--alert-log", "alerts"];
    let (code, all) = json(&home, &status);
    assert_eq!((code, &all["verdict"], &all["databases_looked_at"]), (0, &"ok".into(), &1.into()), "{all}");
    assert_eq!(std::fs::read(home.path("src/a.db")).expect("there"), before);
    let mut broken = before.clone();
    let page = broken.len() / 2;
    broken[page..page + 100].fill(0xff);
    std::fs::write(home.path("src/a.db"), &broken).expect("written");
    let (code, all) = json(&home, &status);
    assert_eq!((code, codes(&all)), (22, vec!["live-damaged"]), "{all}");
    assert_eq!(std::fs::read(home.path("src/a.db")).expect("there"), broken);
    let nagios = home.run(&["health", "--format", "nagios"]);
    assert_eq!(nagios.status.code(), Some(2));
    assert!(
        text(&nagios.stdout).starts_with("SNAPKEEP CRITICAL: live-damaged ")
            && text(&nagios.stdout).contains(" | '")
    );
    std::fs::remove_file(home.path("src/a.db")).expect("removed");
    let (code, all) = json(&home, &status);
    assert_eq!((code, codes(&all)), (21, vec!["live-gone"]), "{all}");
    let kept: Value =
        serde_json::from_slice(&std::fs::read(home.path("status.json")).expect("kept")).expect("JSON");
    assert_eq!(kept["verdict"], "warning");
    let log = std::fs::read_to_string(home.path("alerts")).expect("a log");
    let changes: Vec<Value> = log.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    let change =
        |v: &Value| format!("{} {}", v["change"].as_str().expect("text"), v["code"].as_str().expect("text"));
    assert_eq!(
        changes.iter().map(change).collect::<Vec<_>>(),
        ["new live-damaged", "new live-gone", "gone live-damaged"]
    );
    assert_eq!(json(&home, &["health", "--live", "off"]).0, 0, "what is not asked is not told");
}

#[test]
fn what_a_check_found_is_known_on_every_machine_until_a_check_as_deep_finds_it_gone() {
    let home = Home::with_snapshot();
    home.good(&["check", "--read-data"]);
    assert_eq!(json(&home, &["health"]).1["read_age_seconds"], 0);
    let packs = std::fs::read_dir(home.path("repo/packs")).expect("packs").map(|e| e.expect("entry").path());
    let packs =
        packs.flat_map(|shard| std::fs::read_dir(shard).expect("a shard")).map(|e| e.expect("entry").path());
    let pack = packs.max_by_key(|p| p.metadata().expect("there").len()).expect("a pack");
    let good = std::fs::read(&pack).expect("readable");
    std::fs::set_permissions(&pack, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("writable");
    let mut bytes = good.clone();
    bytes[200] ^= 1;
    std::fs::write(&pack, bytes).expect("written");
    assert_eq!(home.run(&["check", "--read-data"]).status.code(), Some(20));
    let elsewhere = |home: &Home| {
        let mut command = home.command(&["health", "--json"]);
        let told = command
            .env("XDG_CACHE_HOME", home.path("other"))
            .env("XDG_STATE_HOME", home.path("other"))
            .output();
        serde_json::from_slice::<Value>(&told.expect("runs").stdout).expect("JSON")
    };
    assert_eq!(codes(&elsewhere(&home)), ["check-found"]);
    std::fs::write(&pack, good).expect("written");
    home.good(&["check"]);
    assert_eq!(codes(&elsewhere(&home)), ["check-found"], "the outline alone says nothing about bytes");
    home.good(&["check", "--read-data"]);
    assert!(codes(&elsewhere(&home)).is_empty());
}

#[test]
fn a_repository_that_is_not_there_is_a_finding() {
    let home = Home::new();
    let (code, all) = json(&home, &["health"]);
    assert_eq!((code, codes(&all), &all["seen"]), (22, vec!["repository-unreachable"], &false.into()));
    home.good(&["init"]);
    let (code, all) = json(&home, &["health"]);
    assert_eq!((code, codes(&all)), (22, vec!["backup-missing"]), "{all}");
    let mut wrong = home.command(&["health", "--json"]);
    let wrong = wrong.env("SNAPKEEP_PASSWORD", "another").output().expect("runs");
    assert_eq!(wrong.status.code(), Some(22), "{}", text(&wrong.stderr));
    let unknown = home
        .command(&["health", "--format", "nagios"])
        .env_remove("SNAPKEEP_REPOSITORY")
        .output()
        .expect("runs");
    assert_eq!(
        (unknown.status.code(), text(&unknown.stdout).starts_with("SNAPKEEP UNKNOWN: ")),
        (Some(3), true)
    );
}

#[test]
fn a_profile_says_what_is_wanted_where() {
    let home = Home::new();
    let config = home.path("config/snapkeep");
    std::fs::create_dir_all(&config).expect("a directory");
    let (repo, usb, src) = (home.path("repo"), home.path("usb"), home.path("src"));
    let profile = format!(
        "[repository]\nrepository = {repo:?}\ninit = true\n[[target]]\nname = \"usb\"\nrepository = {usb:?}\noptional = true\n\
         [backup]\nschedule = \"hourly\"\n[[backup.snapshots]]\nname = \"app\"\nsources = [{src:?}]\nmin-files = 3\n\
         [[backup.snapshots]]\nname = \"other\"\nclass = \"medium\"\nsources = [{src:?}]\ntargets = [\"primary\"]\n"
    );
    std::fs::write(config.join("app.toml"), profile).expect("written");
    let run = |arguments: &[&str]| {
        let mut command = home.command(arguments);
        command
            .env_remove("SNAPKEEP_REPOSITORY")
            .env("XDG_STATE_HOME", home.path("state"))
            .output()
            .expect("runs")
    };
    let told = run(&["-P", "app", "--to", "primary", "backup", "--name", "app"]);
    assert_eq!(told.status.code(), Some(0), "{}", text(&told.stderr));
    let told = run(&["-P", "app", "health", "--json"]);
    let lines: Vec<Value> =
        text(&told.stdout).lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    assert_eq!(lines.len(), 3, "{} {}", text(&told.stdout), text(&told.stderr));
    let of = |v: &Value| (v["target"].as_str().expect("text").to_owned(), codes(v).join(" "));
    assert_eq!(of(&lines[0]), ("primary".to_owned(), "too-little backup-missing".to_owned()));
    assert_eq!(of(&lines[1]), ("usb".to_owned(), String::new()), "it need not be there");
    assert_eq!(
        (&lines[0]["series"][0]["set"], &lines[0]["series"][0]["max_age_seconds"]),
        (&"app".into(), &10_800.into())
    );
    assert_eq!(
        (&lines[2]["verdict"], codes(&lines[2])),
        (&"critical".into(), vec!["too-little", "backup-missing"])
    );
    assert_eq!(told.status.code(), Some(22));
    let by_itself = run(&["-P", "app", "schedule", "run", "health"]);
    assert!(
        text(&by_itself.stderr).contains("1 file, at least")
            || text(&by_itself.stderr).contains("at least 3 are wanted")
    );
    assert!(home.path("state/snapkeep/health/app@primary.json").exists(), "the judgement is kept");
    let all = run(&["health", "--all", "--format", "nagios"]);
    assert_eq!(all.status.code(), Some(2), "{}", text(&all.stdout));
    assert!(text(&all.stdout).contains("'age_app_primary'="), "{}", text(&all.stdout));
    // Somebody who has only the repository knows what was expected.
    let alone = run(&["-r", &repo.to_string_lossy(), "health", "--json"]);
    let alone: Value = serde_json::from_slice(&alone.stdout).expect("JSON");
    assert_eq!(alone["series"][0]["max_age_seconds"], 10_800, "{alone}");
    let report = run(&["-P", "app", "report", "--json"]);
    let report: Value = serde_json::from_slice(&report.stdout).expect("JSON");
    assert_eq!(
        (&report["profile"], &report["jobs"][0]["job"]),
        (&"app".into(), &"backup:app".into()),
        "{report}"
    );
}

/// Not a test but a measurement: `cargo test --test suite -- --ignored --nocapture ten_thousand`.
#[test]
#[ignore = "a measurement"]
fn ten_thousand_snapshots_are_judged_in_how_much_time() {
    use snapkeep::backend::{local, write_new};
    use snapkeep::crypto::password::Password;
    use snapkeep::format::frame::FrameKind;
    use snapkeep::format::snapshot::{DatabaseFacts, Databases, SessionInfo, encode};
    use snapkeep::format::{FileName, encode_header};
    use snapkeep::repository::{locate, random, snapshots::list};
    let home = Home::new();
    database(&home);
    home.good(&["init"]);
    home.good(&["backup", "src"]);
    let located = locate(local::open(&home.path("repo"), false).expect("there")).expect("a repository");
    let password = Password::new(b"secret word".to_vec()).expect("a password");
    let repository = located.open(Some(&password), None).expect("opens");
    let first = list(&repository).expect("listed").snapshots.remove(0);
    let keyring = repository.keyring();
    for n in 0..10_000i64 {
        let id = random::name().expect("a name");
        let mut record = first.record.clone();
        let time = Timestamp { secs: now().secs - 60 * n, nanos: 0 }.rfc3339();
        record.id = id.to_string();
        (record.time, record.backup_start, record.backup_end) = (time.clone(), time.clone(), time);
        record.order_time = (now().secs - 60 * n) * 1_000_000_000;
        record.sequence = 10_001 - n.unsigned_abs();
        let tables = (0..20).map(|t| (format!("table_{t}"), 1000 + t)).collect();
        let facts = DatabaseFacts { path: "/src/a.db".to_owned(), tables, ..DatabaseFacts::default() };
        record.sqlite = Some(Databases { databases: vec![facts; 3], ..Databases::default() });
        let name = FileName::Snapshot(id);
        let mut bytes = encode_header(&name, keyring.repository()).to_vec();
        let salt = random::bytes::<16>().expect("random");
        bytes.extend(
            keyring.seal(FrameKind::Session, &encode(&SessionInfo::default()), &salt).expect("sealed"),
        );
        bytes.extend(keyring.seal(FrameKind::Snapshot, &encode(&record), &salt).expect("sealed"));
        write_new(repository.backend().as_ref(), &name, &bytes).expect("written");
    }
    for live in ["off", "quick"] {
        let line = format!("time \"$0\" health --live {live} --format nagios");
        let mut command = home.command(&["version"]);
        let program = command.get_program().to_owned();
        command = {
            let mut bash = std::process::Command::new("bash");
            bash.arg("-c").arg(line).arg(program).current_dir(home.path("."));
            bash.envs(command.get_envs().filter_map(|(k, v)| Some((k, v?))));
            bash
        };
        let told = command.output().expect("runs");
        println!("{}\n{}", text(&told.stdout), text(&told.stderr));
    }
}

#[test]
fn results_of_checks_do_not_pile_up_and_those_that_count_stay() {
    use snapkeep::format::snapshot::CheckDone;
    use snapkeep::repository::{checks, snapshots::list, trash};
    let (_, repository) = crate::shelf::empty();
    let done = |n: i64| {
        let (packs, packs_read) = if n == 0 { (1, 1) } else { (2, u64::from(n == 1)) };
        CheckDone { passed: n != 1, read_data: n < 2, packs, packs_read, ..CheckDone::default() }
    };
    for n in 0..60 {
        assert!(checks::record(&repository, &done(n), at(n * HOUR)).expect("noted"));
    }
    assert!(
        !checks::record(&repository, &done(59), at(59 * HOUR + 60)).expect("known"),
        "the same a minute later"
    );
    assert!(
        checks::record(&repository, &done(1), at(59 * HOUR + 61)).expect("noted"),
        "something else is no repetition"
    );
    trash::sweep(&repository).expect("swept");
    let left = list(&repository).expect("listed").checks;
    let times: Vec<&str> = left.iter().map(|checked| checked.time.as_str()).collect();
    assert_eq!(left.len(), 51, "the last fifty, and the last that read everything: {times:?}");
    assert_eq!(times[0], "1970-01-01T00:00:00Z");
    assert!(checks::standing_damage(&left).is_some());
    assert_eq!(trash::sweep(&repository).expect("swept"), 0);
}
