//! Looking into JSON from the command line: differences, patches, values over time, one value back.

use crate::cli::{Home, text};
use serde_json::{Value, json};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::Output;

fn code(output: &Output) -> i32 {
    output.status.code().expect("a code")
}

fn words(output: &Output) -> String {
    text(&output.stdout) + &text(&output.stderr)
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

const FIRST: &str = "{\n  \"id\": 7,\n  \"state\": \"idle\",\n  \"big\": 12345678901234567890123,\n  \"tasks\": [\n    \
                     {\"id\": 1, \"title\": \"one\"},\n    {\"id\": 2, \"title\": \"two\"}\n  ],\n  \"old\": true\n}\n";
const SECOND: &str = "{\n  \"id\": 7,\n  \"state\": \"busy\",\n  \"big\": 12345678901234567890124,\n  \"tasks\": [\n    \
                      {\"id\": 2, \"title\": \"two!\"},\n    {\"id\": 3, \"title\": \"three\"}\n  ],\n  \"new\": {\"deep\": [1]}\n}\n";

/// Two snapshots of `src/status.json`, and the path it is stored under.
fn two(home: &Home) -> String {
    home.good(&["init"]);
    std::fs::write(home.path("src/status.json"), FIRST).expect("written");
    home.good(&["backup", "src"]);
    std::fs::write(home.path("src/status.json"), SECOND).expect("written");
    home.good(&["backup", "src"]);
    home.path("src/status.json").to_string_lossy().into_owned()
}

#[test]
fn diff_tells_the_keys_that_changed() {
    let home = Home::new();
    two(&home);
    let told = home.good(&["diff", "latest~1", "latest"]);
    for line in [
        "M /state: \"idle\" -> \"busy\"",
        "M /big: 12345678901234567890123 -> 12345678901234567890124",
        "- /tasks/0: {\"id\":1,\"title\":\"one\"}",
        "M /tasks/0/title: \"two\" -> \"two!\"",
        "+ /tasks/1: {\"id\":3,\"title\":\"three\"}",
        "- /old: true",
        "+ /new: {\"deep\":[1]}",
    ] {
        assert!(told.lines().any(|l| l.trim() == line), "{line} is missing in\n{told}");
    }
    assert!(told.lines().all(|l| l.chars().count() <= 80), "{told}");
    assert!(!home.good(&["diff", "--no-json", "latest~1", "latest"]).contains("busy"));
    let all = home.good(&["diff", "latest~1", "latest", "--json", "--patch"]);
    let change = &lines(&all)[0];
    let inside = &change["json"];
    assert_eq!((&inside["changed"], &inside["added"], &inside["removed"]), (&json!(3), &json!(2), &json!(2)));
    assert!(all.contains("\"new\":12345678901234567890124"), "digits are kept: {all}");
    let patch: json_patch::Patch = serde_json::from_value(inside["patch"].clone()).expect("a patch");
    let mut value: Value = serde_json::from_str(FIRST).expect("JSON");
    json_patch::patch(&mut value, &patch).expect("applies");
    assert_eq!(value, serde_json::from_str::<Value>(SECOND).expect("JSON"));
    // The same between a snapshot and what stands there now.
    std::fs::write(home.path("src/status.json"), SECOND.replace("busy", "done\u{202e}")).expect("written");
    let live = home.good(&["diff", "latest", "--live"]);
    assert!(live.contains("M /state: \"busy\" -> \"done\\u202e\""), "{live}");
    std::fs::write(home.path("src/status.json"), "{\n \"a\": ,}").expect("written");
    let live = home.good(&["diff", "latest", "--live"]);
    assert!(live.contains("the later text: line 2, column 7: a value is missing here"), "{live}");
    let live = home.good(&["diff", "latest", "--live", "--json"]);
    assert!(lines(&live)[0]["json"]["error"].as_str().expect("an error").contains("line 2, column 7"));
}

#[test]
fn a_value_is_followed_dumped_and_found() {
    let home = Home::new();
    let path = two(&home);
    std::fs::write(home.path("src/other.json"), "[]").expect("written");
    home.good(&["backup", "src"]);
    std::fs::remove_file(home.path("src/status.json")).expect("removed");
    home.good(&["backup", "src"]);
    let history: Value =
        serde_json::from_str(&home.good(&["history", &path, "--key", "/state", "--json"])).expect("JSON");
    let states: Vec<_> = history
        .as_array()
        .expect("an array")
        .iter()
        .map(|v| (&v["state"], &v["value"], &v["snapshots"]))
        .collect();
    let (present, absent) = (json!("present"), json!("absent"));
    let wanted = [
        (&present, &json!("idle"), &json!(1)),
        (&present, &json!("busy"), &json!(2)),
        (&absent, &Value::Null, &json!(1)),
    ];
    assert_eq!(states, wanted);
    let shown = home.good(&["history", &path, "--key", "/new/deep/0"]);
    assert!(shown.contains("(no such key)") && shown.contains("(no file)"), "{shown}");
    assert_eq!(code(&home.run(&["history", &path, "--key", "/never"])), 1);
    assert_eq!(code(&home.run(&["history", &path, "--key", "state"])), 2);

    let at = |snap: &str| format!("{snap}:{path}");
    assert_eq!(home.good(&["dump", &at("latest~3"), "--key", "/big"]), "12345678901234567890123\n");
    assert_eq!(
        home.good(&["dump", &at("latest~2"), "--key", "/tasks/1"]),
        "{\"id\": 3, \"title\": \"three\"}\n"
    );
    let none = home.run(&["dump", &at("latest~2"), "--key", "/nothing"]);
    assert!(code(&none) == 1 && words(&none).contains("has no `/nothing`"), "{}", words(&none));

    let found = |key: &str| {
        let found = home.good(&["find", "--json-key", key, "--json"]);
        let found: Value = serde_json::from_str(&found).expect("JSON");
        found.as_array().expect("an array").len()
    };
    assert_eq!(found("/state=busy"), 2);
    assert_eq!(found("/state=\"busy\""), 2);
    assert_eq!(found("/state"), 3);
    assert_eq!(found("/id=7.0"), 3);
    assert_eq!(found("/id=\"7\""), 0);
    assert_eq!(found("/tasks/0/title=one"), 1);
    assert_eq!(code(&home.run(&["find", "x", "--json-key", "state=busy"])), 2);
    assert_eq!(code(&home.run(&["find"])), 2);
}

#[test]
fn one_value_goes_back_and_nothing_else_changes() {
    let home = Home::new();
    let path = two(&home);
    let file = home.path("src/status.json");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).expect("set");
    let from = format!("latest~1:{path}");
    let dry = home.good(&["restore", &from, "--key", "/state", "--dry-run"]);
    assert!(dry.contains(r#"[{"op":"replace","path":"/state","value":"idle"}]"#), "{dry}");
    assert_eq!(std::fs::read_to_string(&file).expect("read"), SECOND);
    home.good(&["restore", &from, "--key", "/state"]);
    assert_eq!(std::fs::read_to_string(&file).expect("read"), SECOND.replace("busy", "idle"));
    assert_eq!(std::fs::metadata(&file).expect("there").mode() & 0o7777, 0o640);
    // A key that is gone comes back behind the others.
    home.good(&["restore", &from, "--key", "/old"]);
    let wanted = SECOND.replace("busy", "idle").replace("[1]}\n}", "[1]},\n  \"old\": true\n}");
    assert_eq!(std::fs::read_to_string(&file).expect("read"), wanted);
    let again = home.good(&["restore", &from, "--key", "/old"]);
    assert!(again.contains("nothing to do"), "{again}");
    // Into another file, and into a directory.
    std::fs::write(home.path("copy.json"), "{\"state\":null}").expect("written");
    let copy = home.path("copy.json").to_string_lossy().into_owned();
    home.good(&["restore", &from, "--key", "/state", "--target", &copy]);
    assert_eq!(std::fs::read_to_string(&copy).expect("read"), "{\"state\":\"idle\"}");
    std::fs::create_dir(home.path("there")).expect("made");
    std::fs::write(home.path("there/status.json"), "{}").expect("written");
    let done = home.good(&["restore", &from, "--key", "/big", "--target", "there", "--json"]);
    assert_eq!(lines(&done)[0]["json"]["action"], json!("add"));
    let there = std::fs::read_to_string(home.path("there/status.json")).expect("read");
    assert_eq!(there, "{\"big\": 12345678901234567890123}");
    let left: Vec<_> = std::fs::read_dir(home.path("there")).expect("listed").collect();
    assert_eq!(left.len(), 1, "nothing is left beside it");
}

#[test]
fn a_live_file_that_cannot_be_trusted_is_left_alone() {
    let home = Home::new();
    let path = two(&home);
    let from = format!("latest:{path}");
    let refused = |wanted: i32, words_wanted: &str, key: &str, target: &str| {
        let output = home.run(&["restore", &from, "--key", key, "--target", target]);
        assert!(code(&output) == wanted && words(&output).contains(words_wanted), "{}", words(&output));
    };
    std::fs::write(home.path("broken.json"), "{\"state\": \"x\",\n}").expect("written");
    refused(24, "line 2, column 1: a comma with nothing behind it", "/state", "broken.json");
    assert_eq!(std::fs::read_to_string(home.path("broken.json")).expect("read"), "{\"state\": \"x\",\n}");
    symlink("broken.json", home.path("link.json")).expect("linked");
    refused(23, "symbolic link", "/state", "link.json");
    refused(1, "cannot open", "/state", "nowhere.json");
    std::fs::write(home.path("flat.json"), "{\"a\": 1}").expect("written");
    refused(1, "has no `/new` to put it into", "/new/deep", "flat.json");
    std::fs::write(home.path("twice.json"), "{\"state\": 1, \"state\": 2}").expect("written");
    refused(23, "twice", "/state", "twice.json");
    refused(1, "has no `/absent`", "/absent", "flat.json");
    let both = home.run(&["restore", &from, "--key", "/state", "--delete"]);
    assert_eq!(code(&both), 2);
}
