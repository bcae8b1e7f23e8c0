//! The journal and the states of jobs: lines torn by a crash, many writers, files that are broken, locks, and the program's records.

use crate::cli::{Home, text};
use serde_json::Value;
use snapkeep::clock::Timestamp;
use snapkeep::job::Outcome;
use snapkeep::journal::{End, Filter, Journal, Record, job_key};
use std::fs;
use std::io::Write;
use std::time::Duration;

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text, Timestamp::default()).expect("a time")
}

fn record(time: &str, job: &str, code: u8) -> Record {
    Record {
        time: at(time).rfc3339(),
        command: "backup".to_owned(),
        profile: Some("app".to_owned()),
        job: Some(job.to_owned()),
        outcome: Outcome::of_code(code),
        code,
        ..Record::default()
    }
}

#[test]
fn what_a_crash_tore_costs_only_its_own_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = Journal::at(dir.path());
    assert!(journal.read(&Filter::default()).expect("nothing yet").records.is_empty());
    journal.append(&record("2026-10-31T23:00:00Z", "backup:app", 0)).expect("written");
    journal.append(&record("2026-11-01T00:00:00Z", "backup:db", 1)).expect("written");
    let path = dir.path().join("journal/2026-11.jsonl");
    let torn = fs::OpenOptions::new().append(true).open(&path).expect("there");
    (&torn).write_all(b"{\"time\":\"2026-11-02T00").expect("torn");
    journal.append(&record("2026-11-03T00:00:00Z", "backup:app", 130)).expect("written");
    let all = journal.read(&Filter::default()).expect("read");
    assert_eq!((all.records.len(), all.skipped), (3, 1));
    assert!(all.records.is_sorted_by_key(|r| r.time.clone()));
    let count = |filter: Filter| journal.read(&filter).expect("read").records.len();
    let job = |job: &str| Filter { job: Some(job.to_owned()), ..Filter::default() };
    assert_eq!(count(job("backup")), 3);
    assert_eq!(count(job("backup:app")), 2);
    assert_eq!(count(Filter { outcome: Some(Outcome::Failed), ..Filter::default() }), 1);
    assert_eq!(count(Filter { since: Some(at("2026-11-01T00:00:00Z")), ..Filter::default() }), 2);
    assert_eq!(count(Filter { profile: Some("other".to_owned()), ..Filter::default() }), 0);
    let newest = journal.read(&Filter { limit: Some(1), ..Filter::default() }).expect("read");
    assert_eq!(newest.records[0].outcome, Outcome::Interrupted);
    let day = Duration::from_secs(86_400);
    assert_eq!(
        journal.thin(3 * day, at("2026-11-03T12:00:00Z")).expect("thinned"),
        0,
        "October has one that young"
    );
    assert_eq!(journal.thin(2 * day, at("2026-11-04T12:00:00Z")).expect("thinned"), 1);
    assert_eq!(count(Filter::default()), 2);
}

#[test]
fn many_writers_lose_nothing_of_each_other() {
    let dir = tempfile::tempdir().expect("a directory");
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let journal = Journal::at(dir.path());
            scope.spawn(move || {
                for _ in 0..25 {
                    journal
                        .append(&record("2026-11-01T00:00:00Z", &format!("backup:{writer}"), 0))
                        .expect("written");
                    let count = |states: &mut snapkeep::journal::JobStates| {
                        states.entry("all".to_owned()).or_default().consecutive_failures += 1;
                    };
                    journal.update("app", count).expect("updated");
                }
            });
        }
    });
    let journal = Journal::at(dir.path());
    let all = journal.read(&Filter::default()).expect("read");
    assert_eq!((all.records.len(), all.skipped), (200, 0));
    assert_eq!(journal.states("app").expect("states").0["all"].consecutive_failures, 200);
}

#[test]
fn states_remember_runs_and_a_broken_file_is_set_aside() {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = Journal::at(dir.path());
    let end = |start: &str, code: u8| End {
        start: at(start),
        end: at(start),
        outcome: Outcome::of_code(code),
        code,
        message: (code != 0).then(|| "the disk is full".to_owned()),
        ..End::default()
    };
    let key = job_key("backup:app", Some("usb"));
    for (start, code) in
        [("2026-11-01T00:00:00Z", 0), ("2026-11-02T00:00:00Z", 1), ("2026-11-03T00:00:00Z", 11)]
    {
        journal
            .update("app", |s| s.entry(key.clone()).or_default().ended(&end(start, code)))
            .expect("updated");
    }
    let skipped = End { outcome: Outcome::Skipped, message: Some("on battery".to_owned()), ..End::default() };
    journal.update("app", |s| s.entry(key.clone()).or_default().ended(&skipped)).expect("updated");
    let (states, told) = journal.states("app").expect("states");
    let state = &states["backup:app@usb"];
    assert!(told.is_none());
    assert_eq!(state.consecutive_failures, 2);
    assert_eq!(state.last_success.as_deref(), Some("2026-11-01T00:00:00Z"));
    assert_eq!((state.last_code, state.last_skip_reason.as_deref()), (Some(11), Some("on battery")));
    assert_eq!(state.started(), Some(at("2026-11-03T00:00:00Z")));

    let path = dir.path().join("jobs/app.json");
    fs::write(&path, "{ torn").expect("broken");
    let (states, told) = journal.states("app").expect("states");
    assert!(states.is_empty() && told.expect("told").contains("app.json.broken"));
    assert_eq!(fs::read_to_string(dir.path().join("jobs/app.json.broken")).expect("aside"), "{ torn");
    fs::write(&path, "[]").expect("broken");
    let told =
        journal.update("app", |s| s.entry(key.clone()).or_default().ended(&end("2026-11-04T00:00:00Z", 0)));
    assert!(told.expect("updated").is_some());
    assert_eq!(journal.states("app").expect("states").0[&key].last_code, Some(0));
    let meta = fs::metadata(&path).expect("there");
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o777, 0o600);
}

#[test]
fn a_job_runs_once_at_a_time() {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = Journal::at(dir.path());
    let held = journal.lock_job("app", "backup:a").expect("asked").expect("free");
    assert!(Journal::at(dir.path()).lock_job("app", "backup:a").expect("asked").is_none());
    assert!(journal.lock_job("app", "backup:b").expect("asked").is_some(), "another job");
    assert!(journal.lock_job("../app", "backup:a").expect("asked").is_some(), "another profile");
    drop(held);
    assert!(journal.lock_job("app", "backup:a").expect("asked").is_some());
    assert!(
        fs::read_dir(dir.path().join("jobs")).expect("listed").count() >= 3,
        "nothing was written elsewhere"
    );
}

fn journal_of(home: &Home) -> Vec<Value> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(home.path("state/snapkeep/journal")).into_iter().flatten() {
        let text = fs::read_to_string(entry.expect("entry").path()).expect("text");
        lines.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")));
    }
    lines
}

#[test]
fn every_command_that_changes_or_verifies_leaves_a_record() {
    let home = Home::new();
    home.good(&["init"]);
    home.good(&["backup", "src"]);
    home.good(&["snapshots"]);
    home.good(&["forget", "--keep-last", "1", "-n"]);
    home.good(&["backup", "src", "--no-journal"]);
    assert_eq!(home.run(&["backup", "nowhere"]).status.code(), Some(1));
    assert_eq!(home.run(&["backup", "src", "nowhere"]).status.code(), Some(3));
    home.good(&["key", "list"]);
    home.good(&["check"]);
    home.good(&["restore", "latest", "--target", "out"]);
    let told: Vec<_> = journal_of(&home);
    let shown: Vec<String> = told
        .iter()
        .map(|r| {
            format!("{} {} {}", r["command"].as_str().unwrap(), r["outcome"].as_str().unwrap(), r["code"])
        })
        .collect();
    let wanted =
        ["init ok 0", "backup ok 0", "backup failed 1", "backup incomplete 3", "check ok 0", "restore ok 0"];
    assert_eq!(shown, wanted);
    let backup = &told[1];
    assert_eq!(backup["snapshot"].as_str().expect("an id").len(), 32);
    assert_eq!((backup["files"].as_u64(), backup["bytes"].as_u64()), (Some(2), Some(100_006)));
    assert!(backup["added"].as_u64().expect("bytes") > 100_000);
    assert_eq!(backup["repository"], home.path("repo").to_string_lossy().as_ref());
    assert!(told[2]["message"].as_str().expect("why").contains("nowhere"));
    assert!(told.iter().all(|r| !r.to_string().contains("secret word")), "no passwords");

    // A journal that cannot be written costs nothing but a line.
    fs::write(home.path("file"), "").expect("a file");
    let output = home.run(&["backup", "src", "--state-dir", "file"]);
    assert!(output.status.success());
    assert_eq!(text(&output.stderr).matches("the journal could not be written").count(), 1, "{output:?}");
}
