//! Forgetting as its users meet it: exit codes, JSON, tables, settings, and the way back.

use crate::cli::{Home, text};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

/// A repository with a snapshot at noon of each of the first `days` days of October 2026, each with a file of its own.
fn october(days: usize) -> Home {
    let home = Home::new();
    home.good(&["init"]);
    for day in 1..=days {
        std::fs::write(home.path("src/of-the-day"), format!("{day}").repeat(3000)).expect("a file");
        home.good(&["backup", "src", "--as-path", "/data", "--time", &format!("2026-10-{day:02} 12:00")]);
    }
    home
}

fn json(home: &Home, arguments: &[&str]) -> Value {
    let mut all = arguments.to_vec();
    all.push("--json");
    serde_json::from_str(&home.good(&all)).expect("one JSON value")
}

fn days(list: &Value) -> Vec<u32> {
    let day = |s: &Value| s["time"].as_str().expect("a time")[8..10].parse().expect("a day");
    list.as_array().expect("an array").iter().map(day).collect()
}

fn ids(home: &Home) -> Vec<String> {
    let list = json(home, &["snapshots"]);
    list.as_array().expect("an array").iter().map(|s| s["id"].as_str().expect("an id").to_owned()).collect()
}

/// It must end so, saying one line that holds these words, and change nothing.
fn refused(home: &Home, arguments: &[&str], code: i32, words: &[&str]) {
    let before = (ids(home), notes(home));
    let output: Output = home.run(arguments);
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
    assert_eq!(told.lines().filter(|line| line.starts_with("error:")).count(), 1, "{told}");
    for word in words {
        assert!(told.contains(word), "`{word}` is not in: {told}");
    }
    assert_eq!((ids(home), notes(home)), before, "{arguments:?}");
}

fn notes(home: &Home) -> usize {
    std::fs::read_dir(home.path("repo/notes")).expect("a folder").count()
}

#[test]
fn a_policy_in_json_has_restics_shape() {
    let home = october(20);
    let policy = ["forget", "--keep-daily", "3", "-w", "2", "--keep-monthly", "1", "--dry-run"];
    let groups = json(&home, &policy);
    let group = &groups[0];
    assert_eq!(groups.as_array().expect("an array").len(), 1);
    assert_eq!(group["paths"], serde_json::json!(["/data"]));
    assert!(group["tags"].is_null() && group["host"].is_string());
    // The 18th was a Sunday.
    assert_eq!(days(&group["keep"]), [18, 19, 20]);
    assert_eq!(days(&group["remove"]), (1..18).collect::<Vec<_>>());
    let reasons = group["reasons"].as_array().expect("an array");
    assert_eq!(reasons[0]["matches"], serde_json::json!(["daily snapshot", "weekly snapshot"]));
    assert_eq!(
        reasons[2]["matches"],
        serde_json::json!(["daily snapshot", "weekly snapshot", "monthly snapshot"])
    );
    assert_eq!(reasons[0]["snapshot"]["id"], group["keep"][0]["id"]);
    assert!(group["freed_by_all"]["bytes_stored"].as_u64() > Some(0));
    assert_eq!(ids(&home).len(), 20, "a dry run");
    let done = json(&home, &policy[..7]);
    assert_eq!(done[0]["remove"], group["remove"]);
    assert_eq!(days(&json(&home, &["snapshots"])), [18, 19, 20]);
    let trash = json(&home, &["snapshots", "--trash"]);
    assert_eq!(days(&trash), (1..18).collect::<Vec<_>>());
    assert_eq!(trash[0]["trash"]["days_left"], 30);
    assert!(trash[0]["trash"]["forgotten"].is_string() && trash[0]["trash"]["expires"].is_string());
    let shorter = home.command(&["snapshots", "--trash", "--json"]).env("SNAPKEEP_TRASH_DAYS", "3").output();
    let shorter: Value = serde_json::from_slice(&shorter.expect("runs").stdout).expect("JSON");
    assert_eq!(shorter[0]["trash"]["days_left"], 3);
    // Nothing is left to forget, and nothing is needed twice.
    assert_eq!(json(&home, &policy[..7])[0]["remove"], serde_json::json!([]));
    assert!(home.good(&["check"]).contains("no damage found"));
}

#[test]
fn what_was_forgotten_comes_back_whole() {
    let home = october(4);
    let all = ids(&home);
    let told = home.good(&["forget", &all[1], "latest"]);
    assert!(told.contains("moved 2 snapshots to the trash") && told.contains("undelete"), "{told}");
    assert_eq!(ids(&home), [all[0].clone(), all[2].clone()]);
    let gone = home.run(&["restore", &all[1], "--target", "out"]);
    assert_eq!(gone.status.code(), Some(1));
    assert!(text(&gone.stderr).contains("in the trash"), "{}", text(&gone.stderr));
    assert!(home.good(&["undelete", &all[1][..8], "-n"]).contains("would bring back"));
    let back = json(&home, &["undelete", &all[1][..8]]);
    let new = back["snapshot_id"].as_str().expect("an id");
    assert_eq!(ids(&home), [all[0].as_str(), new, all[2].as_str()]);
    home.good(&["restore", &format!("{new}:/data"), "--target", "out"]);
    assert_eq!(std::fs::read(home.path("out/of-the-day")).expect("restored"), "2".repeat(3000).as_bytes());
    assert!(home.good(&["undelete", "latest"]).contains("is back"));
    assert_eq!(home.run(&["undelete", "latest"]).status.code(), Some(1), "the trash is empty");
    assert_eq!(days(&json(&home, &["snapshots"])), [1, 2, 3, 4]);
    // For good is for good.
    let all = ids(&home);
    home.good(&["forget", &all[0], &all[1]]);
    let told = home.good(&["forget", "--no-trash", &all[0], &all[2]]);
    assert!(told.contains("deleted 2 snapshots; `prune` now frees"), "{told}");
    assert_eq!(days(&json(&home, &["snapshots", "--trash"])), [2]);
    assert_eq!(home.run(&["undelete", &all[0]]).status.code(), Some(1));
    assert_eq!(std::fs::read_dir(home.path("repo/snapshots")).expect("a folder").count(), 2);
    assert!(home.good(&["check", "--read-data"]).contains("no damage found"));
}

#[test]
fn refusals_name_the_way_out_and_change_nothing() {
    let home = october(12);
    let all = ids(&home);
    refused(&home, &["forget"], 23, &["no policy"]);
    refused(&home, &["forget", "--host", "h"], 23, &["no policy", "--allow-remove-all"]);
    refused(&home, &["forget", "--allow-remove-all"], 23, &["no policy"]);
    refused(&home, &["forget", "--keep-daily", "0", "--keep-min", "3"], 23, &["no policy"]);
    refused(&home, &["forget", "--keep-tag", "typo"], 1, &["no snapshot has the tags `typo`"]);
    refused(&home, &["forget", "--keep-last", "1", "--host", "typo"], 1, &["host `typo`"]);
    refused(&home, &["forget", "--keep-last", "1", "--path", "/typo"], 1, &["path `/typo`"]);
    refused(&home, &["forget", "--keep-last", "1", "--tag", "typo"], 1, &["tags `typo`"]);
    refused(&home, &["forget", "12345678"], 1, &["no snapshot begins"]);
    refused(&home, &["forget", "--keep-last", "1", "latest"], 2, &["not both"]);
    for wrong in [
        ["--keep-within", "5parsecs"],
        ["--keep-within", "7"],
        ["--keep-daily", "many"],
        ["--keep-daily", "-2"],
        ["--group-by", "colour"],
        ["--time-zone", "Middle/Earth"],
        ["--trash-days", "soon"],
    ] {
        let mut arguments = vec!["forget", "--keep-last", "1"];
        arguments.extend(wrong);
        let code = home.run(&arguments).status.code();
        assert_eq!(code, Some(2), "{wrong:?}");
    }
    home.good(&["tag", &all[0], "--add", "keep"]);
    refused(&home, &["forget", "--keep-tag", "keep"], 23, &["11 of the 12", "--allow-remove-most"]);
    refused(&home, &["forget", "--keep-tag", "keep", "--group-by", "tags"], 23, &["--allow-remove-all"]);
    let dry = home.run(&["forget", "--keep-tag", "keep", "-n"]);
    assert_eq!(dry.status.code(), Some(23), "a dry run says what would be refused");
    assert!(text(&dry.stdout).contains("forget 11 snapshots"), "{}", text(&dry.stdout));
    home.good(&["pin", &all[3], "--label", "the \x1b[2J one"]);
    refused(&home, &["forget", &all[3]], 23, &["pinned", "--pinned"]);
    let everything: Vec<&str> =
        ["forget", "--no-trash", "--pinned"].into_iter().chain(all.iter().map(String::as_str)).collect();
    refused(&home, &everything, 23, &["--allow-remove-all"]);
    // Each way out is one.
    home.good(&["forget", "--keep-tag", "keep", "--allow-remove-most"]);
    assert_eq!(ids(&home), [all[0].clone(), all[3].clone()]);
    home.good(&["forget", "--path", "/data", "--allow-remove-all", "--no-trash"]);
    assert_eq!(ids(&home), [all[3].clone()], "a pin holds");
    home.good(&["pin", "--remove", &all[3]]);
    home.good(&["forget", "--path", "/data", "--allow-remove-all"]);
    refused(&home, &["forget", "--keep-last", "1"], 1, &["no snapshots"]);
}

#[test]
fn a_bad_newest_snapshot_holds_the_good_ones() {
    let home = Home::new();
    home.good(&["init"]);
    std::fs::create_dir(home.path("more")).expect("a directory");
    for _ in 0..4 {
        home.good(&["backup", "src", "more"]);
    }
    home.good(&["forget", "--keep-last", "3"]);
    std::fs::remove_dir(home.path("more")).expect("removed");
    // A source that is missing belongs to the series all the same.
    assert_eq!(home.run(&["backup", "src", "more"]).status.code(), Some(3));
    let good = ids(&home);
    let held = home.run(&["forget", "--keep-last", "2"]);
    let told = text(&held.stderr);
    assert_eq!(held.status.code(), Some(23), "{told}");
    assert!(told.contains("is incomplete (1 problem)") && told.contains("--ignore-anomalies"), "{told}");
    assert!(text(&held.stdout).contains("held: newest incomplete"), "{}", text(&held.stdout));
    assert_eq!(ids(&home), good);
    let last = ["forget", "--keep-last", "1", "--ignore-anomalies"];
    refused(&home, &last, 23, &["last good snapshot", "--allow-remove-all"]);
    home.good(&["forget", "--keep-last", "2", "--ignore-anomalies"]);
    assert_eq!(ids(&home), good[2..]);
    std::fs::create_dir(home.path("more")).expect("a directory");
    home.good(&["backup", "src", "more"]);
    home.good(&["forget", "--keep-last", "1"]);
    assert_eq!(ids(&home).len(), 1, "all is well again");
}

#[test]
fn notes_and_records_that_cannot_be_read_stop_policies() {
    let home = october(5);
    home.good(&["pin", "latest"]);
    let note = std::fs::read_dir(home.path("repo/notes"))
        .expect("a folder")
        .next()
        .expect("one")
        .expect("entry")
        .path();
    std::fs::set_permissions(&note, std::fs::Permissions::from_mode(0o600)).expect("writable");
    let mut bytes = std::fs::read(&note).expect("readable");
    bytes[100] ^= 1;
    std::fs::write(&note, bytes).expect("written");
    let name = note.file_name().expect("a name").to_string_lossy().into_owned();
    refused(
        &home,
        &["forget", "--keep-last", "1"],
        23,
        &[&name, "may be a pin", "--ignore-unreadable-notes"],
    );
    refused(&home, &["forget", "latest"], 23, &[&name]);
    assert!(text(&home.run(&["snapshots"]).stderr).contains(&name));
    home.good(&["forget", "--keep-last", "3", "--ignore-unreadable-notes"]);
    assert_eq!(days(&json(&home, &["snapshots"])), [3, 4, 5]);
    let id = ids(&home)[1].clone();
    std::fs::remove_file(home.path(&format!("repo/copies/snapshot-{id}"))).expect("its second copy");
    let record = home.path(&format!("repo/snapshots/{id}"));
    std::fs::set_permissions(&record, std::fs::Permissions::from_mode(0o600)).expect("writable");
    std::fs::write(&record, "no snapshot").expect("written");
    let output = home.run(&["forget", "--keep-last", "1", "--ignore-unreadable-notes"]);
    assert_eq!(output.status.code(), Some(20), "told, and nothing happens to it");
    assert!(record.exists() && text(&output.stderr).contains("cannot be read and stays"));
}

#[test]
fn settings_zones_and_tables() {
    let home = Home::new();
    home.good(&["init"]);
    // Two moments of one day in Berlin and of two in UTC.
    for time in ["2026-10-04T21:30:00Z", "2026-10-04T23:30:00Z", "2026-10-05T10:00:00Z"] {
        home.good(&["backup", "src", "--as-path", "/data/with/a/long/name/that/goes/on", "--time", time]);
    }
    let kept = |zone: &str| {
        let output = home
            .command(&["forget", "--keep-daily", "2", "-n", "--json"])
            .env("SNAPKEEP_TIME_ZONE", zone)
            .output()
            .expect("runs");
        let groups: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        groups[0]["keep"].as_array().expect("an array").len()
    };
    let at = |zone: &str| json(&home, &["forget", "-d", "1", "-n", "--time-zone", zone])[0]["keep"].clone();
    assert_eq!((kept("UTC"), kept("CET-1CEST,M3.5.0,M10.5.0/3")), (2, 2));
    assert_eq!(
        (at("UTC").as_array().expect("list").len(), at("XYZ12").as_array().expect("list").len()),
        (1, 1)
    );
    let weeks = |zone: &str| {
        let groups = json(&home, &["forget", "--keep-weekly", "2", "-n", "--time-zone", zone]);
        let reasons = groups[0]["reasons"].clone();
        reasons
            .as_array()
            .expect("list")
            .iter()
            .map(|r| r["matches"][0].as_str().expect("one").to_owned())
            .collect::<Vec<_>>()
    };
    // The 4th was a Sunday: in Berlin the second moment belongs to the next week.
    assert_eq!(weeks("UTC").len(), 2);
    assert_eq!(days(&json(&home, &["forget", "-w", "2", "-n", "--time-zone", "UTC"])[0]["remove"]), [4]);
    assert_eq!(
        json(&home, &["forget", "-w", "2", "-n", "--time-zone", "CET-1CEST,M3.5.0,M10.5.0/3"])[0]["keep"][0]
            ["time"],
        "2026-10-04T21:30:00Z"
    );
    std::fs::create_dir_all(home.path("config/snapkeep")).expect("a directory");
    let profile = "[forget]\nkeep-last = 2\nkeep-tag = [\"a\"]\nkeep-min = 1\n";
    std::fs::write(home.path("config/snapkeep/p.toml"), profile).expect("a profile");
    home.good(&["tag", "latest~2", "--add", "a"]);
    let table = home.good(&["-P", "p", "forget", "-n"]);
    assert!(table.contains("keep 3 snapshots") && table.contains("has tags a"), "{table}");
    home.good(&[
        "pin",
        "latest",
        "--label",
        "a label of many words that takes more than its share of a line",
    ]);
    home.good(&["forget", "latest~1"]);
    for arguments in
        [&["forget", "-l", "1", "-y", "3", "-m", "9", "-n"][..], &["snapshots"], &["snapshots", "--trash"]]
    {
        for line in home.good(arguments).lines() {
            assert!(line.chars().count() <= 80, "{arguments:?}: {line}");
        }
    }
    assert!(home.good(&["snapshots"]).contains("pinned"));
    let help = home.good(&["forget", "--help"]);
    assert!(help.contains("Examples:") && help.contains("SNAPKEEP_FORGET_KEEP_DAILY"));
}
