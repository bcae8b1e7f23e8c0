//! Rules: tried on live directories, on snapshots and after backups; every kind of failure is told.

use crate::cli::{Home, text};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Output;

fn code(output: &Output) -> i32 {
    output.status.code().expect("a code")
}

fn words(output: &Output) -> String {
    text(&output.stdout) + &text(&output.stderr)
}

/// A workspace `ws` of `count` agents.
fn agents(count: usize) -> Home {
    let home = Home::new();
    for n in 0..count {
        let dir = home.path(&format!("ws/agents/{n}"));
        fs::create_dir_all(&dir).expect("made");
        let status = format!("{{\"agent_id\": \"agent-{n}\", \"state\": \"idle\", \"load\": {n}}}");
        fs::write(dir.join("status.json"), status).expect("written");
        let tasks = format!("{{\"tasks\": [{{\"id\": {n}, \"for\": \"agent-0\"}}]}}");
        fs::write(dir.join("tasks.json"), tasks).expect("written");
    }
    home
}

fn rules(home: &Home, text: &str) {
    fs::create_dir_all(home.path("ws/.snapkeep")).expect("made");
    fs::write(home.path("ws/.snapkeep/rules.toml"), text).expect("written");
}

const ALL: &str = r#"
[[rule]]
name = "agents are complete"
directories = "agents/*"
at_least = 3
files = ["status.json", "tasks.json"]

[[rule]]
name = "status"
json = "agents/*/status.json"
keys = ["/agent_id", "/state"]
types = { "/agent_id" = "string", "/load" = "integer|null" }
unique = ["/agent_id"]
schema = "status.schema.json"

[[rule]]
name = "tasks are for agents"
json = "agents/*/tasks.json"
types = { "/tasks/*/id" = "number" }
refers = [{ from = "/tasks/*/for", to = "agents/*/status.json", key = "/agent_id" }]
"#;

fn with_all() -> Home {
    let home = agents(4);
    rules(&home, ALL);
    let schema = r#"{"properties": {"state": {"enum": ["idle", "busy"]}}, "required": ["load"]}"#;
    fs::write(home.path("ws/.snapkeep/status.schema.json"), schema).expect("written");
    home
}

/// Names and results of the rules, and the reasons of those that do not pass.
fn results(output: &str) -> Vec<(String, String, Vec<String>)> {
    let lines = output.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let rules = lines.filter(|line| line["message_type"] == "rule");
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let reason = |r: &Value| format!("{} {}", word(&r["path"]), word(&r["message"])).trim().to_owned();
    let all = rules.map(|r| {
        let reasons = r["reasons"].as_array().expect("a list").iter().map(reason).collect();
        (word(&r["name"]), word(&r["result"]), reasons)
    });
    all.collect()
}

#[test]
fn rules_pass_on_what_keeps_them_and_every_break_is_told() {
    let home = with_all();
    let good = home.good(&["verify", "./ws"]);
    assert!(good.contains("3 rules: 3 passed, 0 failed, 0 in error"), "{good}");
    let write = |path: &str, text: &str| fs::write(home.path("ws/agents").join(path), text).expect("written");
    write("0/status.json", r#"{"agent_id": "agent-0", "state": "lost", "load": 0}"#);
    write("1/status.json", r#"{"agent_id": "agent-0", "load": 1.5}"#);
    write("2/status.json", "{\"agent_id\": \"agent-2\",\n}");
    write("3/tasks.json", r#"{"tasks": [{"id": "x", "for": "agent-77"}, {"id": 2, "for": "agent-3"}]}"#);
    fs::remove_file(home.path("ws/agents/2/tasks.json")).expect("removed");
    let failed = home.run(&["verify", "./ws", "--json"]);
    assert_eq!(code(&failed), 24);
    let told = results(&text(&failed.stdout));
    let wanted = [
        ("agents are complete", "fail", vec!["agents/2 without tasks.json"]),
        (
            "status",
            "fail",
            vec![
                "agents/0/status.json `/state`: \"lost\" is not one of \"idle\" or \"busy\"",
                "agents/1/status.json no `/state`",
                "agents/1/status.json `/load` is of type number, not integer or null",
                "agents/1/status.json the value of `/agent_id` is not unique; agents/0/status.json has it, too",
                "agents/2/status.json line 2, column 1: a comma with nothing behind it",
            ],
        ),
        (
            "tasks are for agents",
            "fail",
            vec![
                "agents/2/status.json line 2, column 1: a comma with nothing behind it",
                "agents/3/tasks.json `/tasks/0/id` is of type string, not number",
                "agents/3/tasks.json `/tasks/0/for` is \"agent-77\", which nothing has",
            ],
        ),
    ];
    for ((name, result, reasons), (told_name, told_result, told_reasons)) in wanted.iter().zip(&told) {
        assert_eq!((name, result), (&told_name.as_str(), &told_result.as_str()));
        assert_eq!(reasons, told_reasons, "{name}");
    }
    assert_eq!(told.len(), 3);
}

#[test]
fn a_rule_that_proves_nothing_is_an_error() {
    let home = agents(2);
    let verdict = |text: &str| {
        rules(&home, text);
        let output = home.run(&["verify", "./ws", "--json"]);
        (code(&output), results(&text_of(&output)).pop().map(|(_, result, reasons)| (result, reasons)))
    };
    fn text_of(output: &Output) -> String {
        text(&output.stdout)
    }
    let (code_, told) = verdict("[[rule]]\nname = \"x\"\njson = \"nothing/*.json\"\nkeys = [\"/a\"]\n");
    let (result, reasons) = told.expect("a rule");
    assert_eq!((code_, result.as_str()), (24, "error"));
    assert!(reasons[0].contains("nothing matches `nothing/*.json`"), "{reasons:?}");
    let (code_, told) = verdict("[[rule]]\nname = \"x\"\npaths = \"nothing\"\nat_least = 0\nat_most = 0\n");
    assert_eq!((code_, told.expect("a rule").0.as_str()), (0, "pass"));
    let (code_, told) = verdict("[[rule]]\nname = \"x\"\ndirectories = \"agents/*\"\nat_least = 8\n");
    let (result, reasons) = told.expect("a rule");
    assert_eq!((code_, result.as_str()), (24, "fail"));
    assert_eq!(reasons, ["2 match `agents/*`, and at least 8 should"]);
    let (code_, told) =
        verdict("[[rule]]\nname = \"x\"\njson = \"agents/*/status.json\"\nschema = \"gone.json\"\n");
    let (result, reasons) = told.expect("a rule");
    assert_eq!((code_, result.as_str()), (24, "error"));
    assert!(reasons[0].contains("gone.json"), "{reasons:?}");
    let remote = r#"{"$ref": "https://example.org/schema.json"}"#;
    fs::write(home.path("ws/.snapkeep/gone.json"), remote).expect("written");
    let (code_, told) =
        verdict("[[rule]]\nname = \"x\"\njson = \"agents/*/status.json\"\nschema = \"gone.json\"\n");
    assert_eq!((code_, told.expect("a rule").0.as_str()), (24, "error"), "nothing is fetched");
    let nobody = "refers = [{ from = \"/agent_id\", to = \"agents/*/none.json\", key = \"/id\" }]";
    let (code_, told) =
        verdict(&format!("[[rule]]\nname = \"x\"\njson = \"agents/*/status.json\"\n{nobody}\n"));
    assert_eq!((code_, told.expect("a rule").0.as_str()), (24, "error"));
    assert_eq!(verdict("").0, 24, "no rules");
    for (wrong, why) in [
        ("[[rule]]\nname = \"x\"\nsql = \"select 1\"\n", "line 3"),
        ("[[rule]]\nname = \"x\"\njson = \"a\"\npaths = \"b\"\n", "exactly one of"),
        ("[[rule]]\nname = \"x\"\npaths = \"a\"\nkeys = [\"/b\"]\n", "are asked of files named with `json`"),
        ("[[rule]]\nname = \"x\"\njson = \"a\"\nkeys = [\"b\"]\n", "no JSON pointer"),
        ("[[rule]]\nname = \"x\"\njson = \"a\"\ntypes = { \"/a\" = \"text\" }\n", "`text` is no type"),
        ("[[rule]]\nname = \"x\"\njson = \"a[\"\n", "is not a pattern"),
        ("[[rule]]\nname = \"x\"\njson = \"a\"\n[[rule]]\nname = \"x\"\njson = \"a\"\n", "a name of its own"),
        ("[[rule]]\nname = \"x\"\ndirectories = \"a\"\nfiles = [\"../b\"]\n", "no plain relative path"),
        ("not toml", "line 1"),
    ] {
        rules(&home, wrong);
        let output = home.run(&["verify", "./ws"]);
        assert!(code(&output) == 24 && words(&output).contains(why), "{wrong}: {}", words(&output));
    }
    fs::remove_dir_all(home.path("ws/.snapkeep")).expect("removed");
    let none = home.run(&["verify", "./ws"]);
    assert!(code(&none) == 24 && words(&none).contains("init-rules"), "{}", words(&none));
}

#[test]
fn snapshots_are_verified_where_they_lie_and_after_a_backup() {
    let home = with_all();
    home.good(&["init"]);
    let done = home.good(&["backup", "--workspace", "ws", "--strict", "--json"]);
    let done: Value = serde_json::from_str(done.lines().last().expect("a line")).expect("JSON");
    assert_eq!(
        (&done["json"]["rules"][0]["passed"], &done["json"]["rules"][0]["failed"]),
        (&json!(3), &json!(0))
    );
    assert!(home.good(&["verify", "latest"]).contains("3 passed"));
    fs::write(home.path("ws/agents/1/status.json"), "{\"state\": \"busy\", \"load\": 1}").expect("written");
    let failed = home.run(&["backup", "--workspace", "ws", "--strict"]);
    assert_eq!(code(&failed), 3);
    assert!(words(&failed).contains("agents/1/status.json: no `/agent_id`"), "{}", words(&failed));
    assert_eq!(code(&home.run(&["backup", "--workspace", "ws"])), 0, "not without --strict");
    assert_eq!(code(&home.run(&["verify", "latest"])), 24);
    assert_eq!(code(&home.run(&["verify", "latest~2"])), 0, "the live files do not matter");
    let listed: Value = serde_json::from_str(&home.good(&["snapshots", "--json"])).expect("JSON");
    assert_eq!((&listed[0]["rules"][0]["failed"], &listed[1]["rules"][0]["failed"]), (&json!(0), &json!(1)));
    let told = home.good(&["snapshots", "-v"]);
    assert!(told.contains("2 passed, 1 FAILED"), "{told}");
    // Rules from elsewhere, for a part of the snapshot.
    fs::write(
        home.path("other.toml"),
        "[[rule]]\nname = \"y\"\njson = \"*/status.json\"\nkeys = [\"/load\"]\n",
    )
    .expect("written");
    let agents = format!("latest:{}", home.path("ws/agents").to_string_lossy());
    assert!(home.good(&["verify", &agents, "--rules", "other.toml"]).contains("PASS  y (4 things)"));
    assert_eq!(code(&home.run(&["verify", &agents])), 24, "there are none below");
    assert_eq!(code(&home.run(&["backup", "src", "--strict"])), 2);
    assert_eq!(code(&home.run(&["backup", "src", "--rules", "other.toml"])), 2);
    rules(&home, "broken");
    let broken = home.run(&["backup", "--workspace", "ws", "--strict"]);
    assert_eq!(code(&broken), 3, "{}", words(&broken));
    assert!(words(&broken).contains("snapshot") && words(&broken).contains("rules.toml"));
}

#[test]
fn first_rules_hold_and_nothing_is_overwritten() {
    let home = agents(3);
    fs::write(home.path("ws/config.json"), "{\"version\": 2, \"name\": \"we\"}").expect("written");
    fs::create_dir(home.path("ws/odd [x]")).expect("made");
    fs::write(home.path("ws/odd [x]/a\"b.json"), "{\"x\": []}").expect("written");
    for n in 0..6 {
        fs::create_dir_all(home.path("ws/records")).expect("made");
        fs::write(home.path(&format!("ws/records/{n}.json")), format!("{{\"id\": {n}, \"v\": null}}"))
            .expect("written");
    }
    home.good(&["init-rules", "ws"]);
    let text = fs::read_to_string(home.path("ws/.snapkeep/rules.toml")).expect("read");
    for wanted in [
        "json = \"agents/*/status.json\"\nat_least = 3\nkeys = [\"/agent_id\", \"/load\", \"/state\"]",
        "unique = [\"/agent_id\"]",
        "directories = \"agents/*\"\nat_least = 3\nfiles = [\"status.json\", \"tasks.json\"]",
        "json = \"records/*.json\"\nat_least = 6",
        "json = \"config.json\"\nkeys = [\"/name\", \"/version\"]",
    ] {
        assert!(text.contains(wanted), "{wanted}\nis missing in\n{text}");
    }
    let good = home.good(&["verify", "./ws"]);
    assert!(good.contains(" 0 failed, 0 in error"), "{good}");
    let again = home.run(&["init-rules", "ws"]);
    assert!(code(&again) == 1 && words(&again).contains("left alone"), "{}", words(&again));
    symlink("ws", home.path("link")).expect("linked");
    assert_eq!(code(&home.run(&["init-rules", "link"])), 2);
    assert_eq!(code(&home.run(&["init-rules", "src"])), 1, "no JSON there");
    fs::remove_file(home.path("ws/agents/1/tasks.json")).expect("removed");
    assert_eq!(code(&home.run(&["verify", "./ws"])), 24);
}

#[test]
fn a_schema_that_leads_in_a_circle_does_no_harm() {
    let home = agents(2);
    rules(&home, "[[rule]]\nname = \"x\"\njson = \"agents/*/status.json\"\nschema = \"s.json\"\n");
    fs::write(home.path("ws/.snapkeep/s.json"), "{\"$ref\": \"#\"}").expect("written");
    let output = home.run(&["verify", "./ws"]);
    assert!(matches!(output.status.code(), Some(0 | 24)), "{:?}: {}", output.status, words(&output));
}
