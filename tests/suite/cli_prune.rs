//! `prune` and `session` as their users meet them.

use crate::cli::{Home, text};
use serde_json::Value;
use std::process::{Child, Stdio};

/// A backup that lasts until its standard input is closed.
fn slow_backup(home: &Home) -> Child {
    let arguments = ["backup", "--stdin", "--stdin-filename", "slow", "-q"];
    let mut child =
        home.command(&arguments).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    // It has registered once it is listed.
    for _ in 0..600 {
        if sessions(home).as_array().is_some_and(|all| !all.is_empty()) {
            return child;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    child.kill().expect("killed");
    panic!("the backup never registered: {:?}", child.wait());
}

fn sessions(home: &Home) -> Value {
    serde_json::from_str(&home.good(&["session", "list", "--json"])).expect("JSON")
}

fn forget_all(home: &Home) {
    home.good(&["forget", "latest", "--no-trash", "--allow-remove-all"]);
}

#[test]
fn a_prune_says_what_it_would_do_and_then_does_it() {
    let home = Home::with_snapshot();
    forget_all(&home);
    // Status lines may come before it.
    let summary =
        |text: String| -> Value { serde_json::from_str(text.lines().last().expect("a line")).expect("JSON") };
    let plan = summary(home.good(&["prune", "-n", "--json"]));
    assert_eq!(plan["message_type"], "summary");
    assert_eq!(plan["dry_run"], true);
    assert_eq!(plan["packfiles"]["remove"], 2);
    assert_eq!(plan["packfiles"]["deleted"], 0);
    let promised = plan["bytes"]["remove"].as_u64().expect("a number");
    let done = summary(home.good(&["prune", "--json"]));
    assert_eq!(done["bytes"]["deleted"].as_u64(), Some(promised), "what was promised is what was freed");
    assert_eq!(done["packfiles"]["deleted"], 2);
    assert!(home.good(&["gc"]).contains("nothing to free"));
    assert!(home.good(&["check", "--read-data"]).contains("no damage"));
}

#[test]
fn limits_are_understood_or_refused() {
    let home = Home::with_snapshot();
    for good in ["0", "5%", "0.5%", "100%", "10M", "unlimited"] {
        home.good(&["prune", "-n", "--max-unused", good]);
    }
    for bad in ["101%", "-1%", "some", "", "10 parsecs"] {
        let output = home.run(&["prune", "-n", &format!("--max-unused={bad}")]);
        assert_eq!(output.status.code(), Some(2), "{bad}: {}", text(&output.stderr));
    }
}

#[test]
fn a_prune_waits_for_a_backup_and_an_evicted_one_commits_nothing() {
    let home = Home::with_snapshot();
    forget_all(&home);
    let backup = slow_backup(&home);
    let open = sessions(&home);
    assert_eq!(open[0]["state"], "running");
    let id = open[0]["id"].as_str().expect("an id").to_owned();
    let output = home.run(&["prune", "--wait", "0s"]);
    assert_eq!(output.status.code(), Some(11), "{}", text(&output.stderr));
    let told = text(&output.stdout);
    assert!(told.contains(&id[..8]) && told.contains("run prune again"), "{told}");
    assert!(home.good(&["session", "list"]).contains("running"));
    assert_eq!(home.run(&["session", "evict", "ffffffff"]).status.code(), Some(1));
    assert_eq!(home.run(&["session", "evict", "xyz"]).status.code(), Some(2));
    home.good(&["session", "evict", &id[..8]]);
    let output = home.run(&["prune"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).contains("freed"));
    let ended = backup.wait_with_output().expect("ended");
    assert_eq!(ended.status.code(), Some(11), "{}", text(&ended.stderr));
    assert!(text(&ended.stderr).contains("evicted"));
    assert_eq!(home.good(&["snapshots", "--json"]).trim(), "[]");
    assert!(home.good(&["session", "list"]).contains("no backup is under way"));
}
