//! Rules about databases: asked in use, where they are stored, after backups; they only read, and they end.

use crate::cli::{Home, text};
use rusqlite::Connection;
use serde_json::Value;
use std::fs;
use std::process::Output;

fn code(output: &Output) -> i32 {
    output.status.code().expect("a code")
}

fn words(output: &Output) -> String {
    text(&output.stdout) + &text(&output.stderr)
}

fn rules(home: &Home, text: &str) {
    fs::create_dir_all(home.path("ws/.snapkeep")).expect("made");
    fs::write(home.path("ws/.snapkeep/rules.toml"), text).expect("written");
}

/// A workspace with one database, in use: the connection that wrote it is still open.
fn shop() -> (Home, Connection) {
    let home = Home::new();
    fs::create_dir_all(home.path("ws/data")).expect("made");
    let db = Connection::open(home.path("ws/data/shop.db")).expect("opens");
    db.execute_batch(
        "PRAGMA journal_mode=wal; CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT, price REAL);
         CREATE TABLE sale(id INTEGER PRIMARY KEY, item INTEGER); CREATE TABLE nobody(x);
         INSERT INTO item VALUES (1, 'tea', 2.5), (2, 'cake', 4.0); INSERT INTO sale VALUES (1, 1), (2, 2), (3, 1);
         PRAGMA user_version=41;",
    )
    .expect("made");
    (home, db)
}

fn rule(select: &str, wanted: &str) -> String {
    format!("[[rule]]\nname = \"x\"\ndatabase = \"data/*.db\"\nselect = '''{select}'''\n{wanted}\n")
}

/// Exit code, result, and reasons of the only rule.
fn verdict(home: &Home, what: &str) -> (i32, String, Vec<String>) {
    let output = home.run(&["verify", what, "--json"]);
    let all: Vec<Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let rule = all.iter().find(|m| m["message_type"] == "rule");
    let rule = rule.unwrap_or_else(|| panic!("no rule: {}", words(&output)));
    let told = rule["reasons"].as_array().expect("a list");
    let told = told.iter().map(|r| r["message"].as_str().expect("text").to_owned()).collect();
    (code(&output), rule["result"].as_str().expect("a word").to_owned(), told)
}

const ORPHANS: &str = "SELECT id, item FROM sale WHERE item NOT IN (SELECT id FROM item)";

#[test]
fn questions_hold_or_fail_in_use_and_in_snapshots() {
    let (home, db) = shop();
    home.good(&["init"]);
    let cases = [
        ("SELECT count(*) FROM item", "equals = 2", "pass", ""),
        ("SELECT sum(price) FROM item", "equals = 6.5", "pass", ""),
        ("SELECT count(*) FROM item", "equals = 2.0", "pass", ""),
        ("SELECT name FROM item WHERE id=1", "equals = \"tea\"", "pass", ""),
        ("SELECT count(*) > 1 FROM item", "equals = true", "pass", ""),
        ("PRAGMA user_version", "equals = 41", "pass", ""),
        ("SELECT 1 FROM sale", "expect = \"some\"", "pass", ""),
        (ORPHANS, "expect = \"none\"", "pass", ""),
        ("SELECT count(*) FROM item", "equals = 3", "fail", "it is 2, and should be 3"),
        ("SELECT name FROM item WHERE id=1", "equals = 1", "fail", "it is 'tea', and should be 1"),
        ("SELECT name FROM item", "equals = \"tea\"", "fail", "finds several rows"),
        ("SELECT name FROM item WHERE id=9", "equals = \"tea\"", "fail", "finds no row"),
        ("SELECT * FROM nobody", "expect = \"some\"", "fail", "finds no row, and there should be some"),
        ("SELECT id, name FROM item", "expect = \"none\"", "fail", "(id=1, name='tea'); (id=2, name='cake')"),
        ("SELECT id, name FROM item", "equals = 1", "fail", "several rows"),
        ("SELECT 1, 2", "equals = 1", "error", "for one value"),
        ("SELECT * FROM gone", "expect = \"none\"", "error", "no such table: gone"),
    ];
    let places = ["./ws", "latest"];
    for (select, wanted, result, why) in cases {
        rules(&home, &rule(select, wanted));
        home.good(&["backup", "ws"]);
        for place in places {
            let (code, told, reasons) = verdict(&home, place);
            assert_eq!(
                (told.as_str(), code),
                (result, if result == "pass" { 0 } else { 24 }),
                "{select} {wanted}"
            );
            assert!(reasons.iter().any(|r| r.contains(why)) || why.is_empty(), "{select}: {reasons:?}");
        }
    }
    // What was written a moment ago counts, and what was stored before does not change.
    rules(&home, &rule(ORPHANS, "expect = \"none\""));
    home.good(&["backup", "ws"]);
    db.execute_batch("INSERT INTO sale SELECT 10 + value, 77 FROM json_each('[0,1,2,3,4,5,6,7]')")
        .expect("written");
    let (code, result, reasons) = verdict(&home, "./ws");
    assert_eq!((code, result.as_str()), (24, "fail"));
    assert_eq!(
        reasons,
        ["there should be no row, but there is (id=10, item=77); (id=11, item=77); (id=12, item=77); \
          (id=13, item=77); (id=14, item=77); and more"]
    );
    assert_eq!(verdict(&home, "latest").1, "pass");
}

#[test]
fn questions_change_nothing_lead_nowhere_and_end() {
    let (home, _db) = shop();
    home.good(&["init"]);
    fs::write(home.path("other.db"), fs::read(home.path("ws/data/shop.db")).expect("read")).expect("written");
    let other = home.path("other.db").display().to_string();
    let endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n) SELECT count(*) FROM n";
    let large = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n LIMIT 900) \
                 SELECT group_concat(hex(randomblob(1000000))) FROM n";
    let attach = format!("ATTACH '{other}' AS o");
    let cases = [
        ("DELETE FROM item RETURNING id", "may only read"),
        ("INSERT INTO item VALUES (7, 'x', 1)", "may only read"),
        ("DROP TABLE item", "may only read"),
        ("PRAGMA user_version=7", "may only read"),
        ("PRAGMA journal_mode=delete", "may only read"),
        (attach.as_str(), "may only read"),
        ("VACUUM", "may only read"),
        ("SELECT load_extension('x')", ""),
        ("SELECT 1; DELETE FROM item", "more than one statement"),
        ("SELECT", "SQLite says"),
        ("-- nothing", "no statement"),
        (endless, "took longer"),
        (large, "memory"),
    ];
    for (select, why) in cases {
        rules(&home, &(rule(select, "expect = \"none\"") + "timeout = \"1s\"\n"));
        home.good(&["backup", "ws"]);
        for place in ["./ws", "latest"] {
            let before = fs::read(home.path("ws/data/shop.db")).expect("read");
            let (code, result, reasons) = verdict(&home, place);
            assert_eq!((code, result.as_str()), (24, "error"), "{select}: {reasons:?}");
            // Which bound a large answer meets first depends on the machine.
            let met =
                reasons.iter().any(|r| r.contains(why)) || (why == "memory" && reasons[0].contains("longer"));
            assert!(met, "{place} {select}: {reasons:?}");
            assert_eq!(fs::read(home.path("ws/data/shop.db")).expect("read"), before, "{select}");
        }
    }
    for (wrong, why) in [
        ("[[rule]]\nname = \"x\"\ndatabase = \"a\"\nexpect = \"some\"\n", "it needs `select`"),
        ("[[rule]]\nname = \"x\"\ndatabase = \"a\"\nselect = \"SELECT 1\"\n", "it needs one of"),
        (&rule("SELECT 1", "expect = \"some\"\nequals = 1"), "it needs one of"),
        (&rule("SELECT 1", "expect = \"all\""), "it needs one of"),
        (&rule("SELECT 1", "equals = [1]"), "is a text, a number"),
        (&rule("SELECT 1", "expect = \"some\"\ntimeout = \"soon\""), "is not a duration"),
        (&rule("SELECT 1", "expect = \"some\"\nkeys = [\"/a\"]"), "exactly one of"),
        (&rule("SELECT 1", "expect = \"some\"\npaths = \"a\""), "exactly one of"),
        ("[[rule]]\nname = \"x\"\npaths = \"a\"\nselect = \"SELECT 1\"\n", "named with `database`"),
    ] {
        rules(&home, wrong);
        let output = home.run(&["verify", "./ws"]);
        assert!(code(&output) == 24 && words(&output).contains(why), "{wrong}: {}", words(&output));
    }
}

#[test]
fn what_is_no_sound_database_fails_and_nothing_to_ask_is_an_error() {
    let (home, db) = shop();
    home.good(&["init"]);
    rules(&home, &rule("SELECT 1", "expect = \"some\""));
    fs::write(
        home.path("ws/data/text.db"),
        "no database at all, but long enough to be looked at\n".repeat(20),
    )
    .expect("written");
    home.good(&["backup", "ws"]);
    for place in ["./ws", "latest"] {
        let (code, result, reasons) = verdict(&home, place);
        assert_eq!((code, result.as_str()), (24, "fail"), "{place}");
        assert_eq!(reasons, ["it is no SQLite database"]);
    }
    fs::remove_file(home.path("ws/data/text.db")).expect("removed");
    assert_eq!(verdict(&home, "./ws").1, "pass");
    drop(db);
    let path = home.path("ws/data/shop.db");
    let mut bytes = fs::read(&path).expect("read");
    bytes[4096..].fill(0xa5);
    fs::write(&path, bytes).expect("written");
    rules(&home, &rule("SELECT count(*) FROM item", "expect = \"some\""));
    let (code, result, reasons) = verdict(&home, "./ws");
    assert_eq!((code, result.as_str()), (24, "fail"), "{reasons:?}");
    fs::remove_file(path).expect("removed");
    let (code, result, reasons) = verdict(&home, "./ws");
    assert_eq!((code, result.as_str()), (24, "error"));
    assert!(reasons[0].contains("nothing matches"), "{reasons:?}");
}

#[test]
fn rules_of_a_source_are_tried_after_its_backup_and_first_ones_are_proposed() {
    let (home, db) = shop();
    home.good(&["init"]);
    home.good(&["init-rules", "ws"]);
    let first = fs::read_to_string(home.path("ws/.snapkeep/rules.toml")).expect("read");
    for wanted in [
        "database = \"data/shop.db\"\nselect = \"PRAGMA quick_check\"\nequals = \"ok\"",
        "select = \"SELECT 1 FROM \\\"item\\\" LIMIT 1\"\nexpect = \"some\"",
        "name = \"data/shop.db: sale is not empty\"",
    ] {
        assert!(first.contains(wanted), "{wanted}\nis missing in\n{first}");
    }
    assert!(!first.contains("nobody"), "an empty table is not proposed:\n{first}");
    assert!(home.good(&["verify", "./ws"]).contains("3 rules: 3 passed"));
    home.good(&["backup", "ws"]);
    assert!(home.good(&["snapshots", "-v"]).contains("3 passed"), "{}", home.good(&["snapshots", "-v"]));
    db.execute_batch("DELETE FROM sale").expect("deleted");
    let done = home.run(&["backup", "ws"]);
    assert_eq!(code(&done), 0, "{}", words(&done));
    let strict = home.run(&["backup", "ws", "--strict", "--json"]);
    assert_eq!(code(&strict), 3, "{}", words(&strict));
    let last: Value =
        serde_json::from_str(text(&strict.stdout).lines().last().expect("a line")).expect("JSON");
    assert_eq!(
        (&last["json"]["rules"][0]["passed"], &last["json"]["rules"][0]["failed"]),
        (&2.into(), &1.into())
    );
    assert!(words(&done).contains("sale is not empty"), "{}", words(&done));
    assert!(home.good(&["snapshots", "-v"]).contains("2 passed, 1 FAILED"));
}
