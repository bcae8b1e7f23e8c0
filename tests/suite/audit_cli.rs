//! `audit` at the door: live files and snapshots on either side, every form of export, exit codes, reports, proposed maps.

use crate::cli::{Home, text};
use rusqlite::Connection;
use serde_json::{Value as Json, json};
use std::fs;
use std::process::Output;

const SCHEMA: &str = "
CREATE TABLE team(id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE user(id INTEGER PRIMARY KEY, full_name TEXT, email TEXT UNIQUE, active INTEGER, created INTEGER, photo BLOB,
  settings TEXT, score REAL, team_id INTEGER REFERENCES team(id), password TEXT);
CREATE TABLE item(id INTEGER PRIMARY KEY, user_id INTEGER REFERENCES user(id), position INTEGER, sku TEXT, n INTEGER);
";

fn user(id: i64) -> Json {
    json!({
        "id": id, "fullName": format!("User {id} \u{e9}"), "email": format!("u{id}@example.org"), "active": id % 2 == 0,
        "created": format!("2026-01-{:02}T00:00:{:02}Z", 1 + id % 28, id % 60), "photo": format!("{:04x}", id * 37),
        "settings": { "dark": id % 3 == 0, "size": id }, "score": id as f64 / 7.0,
        "team": if id % 5 == 0 { Json::Null } else { json!(format!("Team {}", id % 4)) },
        "items": (0..id % 4).map(|n| json!({ "sku": format!("s{id}-{n}"), "n": n })).collect::<Vec<_>>(),
    })
}

/// `src/app.db` with users 1 to 40.
fn home() -> Home {
    let home = Home::new();
    let db = Connection::open(home.path("src/app.db")).expect("opens");
    db.execute_batch(SCHEMA).expect("made");
    for n in 0..4 {
        db.execute("INSERT INTO team VALUES(?1, ?2)", (n, format!("Team {n}"))).expect("inserted");
    }
    for id in 1..=40i64 {
        let user = user(id);
        let created = snapkeep::clock::Timestamp::parse_rfc3339(user["created"].as_str().expect("text"))
            .expect("a time");
        let team = (id % 5 != 0).then_some(id % 4);
        let photo = (id * 37).to_be_bytes()[6..].to_vec();
        let values = (
            id,
            user["fullName"].as_str(),
            user["email"].as_str(),
            i64::from(id % 2 == 0),
            created.secs,
            photo,
            user["settings"].to_string(),
            id as f64 / 7.0,
            team,
        );
        db.execute("INSERT INTO user VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,'secret')", values).expect("inserted");
        for n in 0..id % 4 {
            db.execute(
                "INSERT INTO item(user_id, position, sku, n) VALUES(?1,?2,?3,?4)",
                (id, n, format!("s{id}-{n}"), n),
            )
            .expect("inserted");
        }
    }
    home
}

fn users() -> Vec<Json> {
    (1..=40).map(user).collect()
}

fn write(home: &Home, name: &str, json: &Json) {
    fs::write(home.path(name), serde_json::to_string_pretty(json).expect("text")).expect("written");
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("a code")
}

fn words(output: &Output) -> String {
    text(&output.stdout) + &text(&output.stderr)
}

/// Writes the proposed map and answers it.
fn infer(home: &Home, export: &str) -> String {
    let map = home.good(&["audit", "src/app.db", export, "--infer"]);
    fs::write(home.path("map.toml"), &map).expect("written");
    map
}

#[test]
fn a_proposed_map_holds_and_finds_what_changes() {
    let home = home();
    let mut export = json!({ "exported": "today", "users": users(), "teams": [] });
    for n in 0..4 {
        export["teams"]
            .as_array_mut()
            .expect("an array")
            .push(json!({ "id": n, "name": format!("Team {n}") }));
    }
    write(&home, "export.json", &export);
    let map = infer(&home, "export.json");
    for part in [
        "from = \"user\"",
        "at = \"/users\"",
        "key = [\"id\"]",
        "{ column = \"full_name\", field = \"/fullName\", as = \"text\" }",
        "{ column = \"active\", field = \"/active\", as = \"boolean\" }",
        "{ column = \"created\", field = \"/created\", as = \"time\", stored = \"epoch_seconds\", exported = \"rfc3339\" }",
        "{ column = \"photo\", field = \"/photo\", as = \"hex\" }",
        "{ column = \"settings\", field = \"/settings\", as = \"json\" }",
        "lookup = { table = \"team\", by = { \"id\" = \"team_id\" }, column = \"name\" }, field = \"/team\", as = \"text\"",
        "ignore_columns = [\"password\"]",
        "field = \"/items\"\nfrom = \"item\"\nby = { \"user_id\" = \"id\" }\norder = [\"position\"]",
        "from = \"team\"\nat = \"/teams\"",
    ] {
        assert!(map.contains(part), "{part}\n{map}");
    }
    let all = ["audit", "src/app.db", "export.json", "--map", "map.toml"];
    let equal = home.good(&all);
    assert!(equal.contains("user: 40 records: equal"), "{equal}");
    assert!(equal.ends_with("src/app.db and export.json say the same: 104 records compared\n"), "{equal}");
    let told = home.good(&[
        "audit",
        "src/app.db",
        "export.json",
        "--map",
        "map.toml",
        "--sample",
        "7",
        "--seed",
        "3",
    ]);
    assert!(told.contains("in a sample of 7 records a table (--seed 3)"), "{told}");

    export["users"][4]["settings"]["size"] = json!(6);
    export["users"][6]["items"][1]["n"] = json!(5);
    export["users"].as_array_mut().expect("an array").remove(30);
    write(&home, "export.json", &export);
    let wrong = home.run(&all);
    assert_eq!(code(&wrong), 24, "{}", words(&wrong));
    let told = text(&wrong.stdout);
    for part in [
        "user: 40 records in the database, 39 in the export: 1 missing in the export, 1 not the same",
        "  M id 5\n      /settings: {\"dark\":false,\"size\":5} in the database, {\"dark\":false,\"size\":6} in the export (at /size)",
        "  - id 31: missing in the export",
        "user/items: 60 records in the database, 57 in the export",
        "  M id 7, /items/1\n      /n: 1 in the database, 5 in the export",
        "DO NOT say the same: 6 mismatches",
    ] {
        assert!(told.contains(part), "{part}\n{told}");
    }
    reports(&home, &all);
}

/// One audit in each form.
fn reports(home: &Home, all: &[&str]) {
    let mut json = all.to_vec();
    json.push("--json");
    let told: Json = serde_json::from_slice(&home.run(&json).stdout).expect("one JSON value");
    assert_eq!(
        (&told["message_type"], &told["equal"], &told["num_mismatches"]),
        (&json!("audit"), &json!(false), &json!(6))
    );
    let table = |name: &str| {
        told["tables"].as_array().expect("an array").iter().find(|t| t["name"] == name).expect("told")
    };
    assert_eq!(table("user")["missing_in_export"], json!(1));
    assert_ne!(table("user")["hash"]["database"], table("user")["hash"]["export"]);
    assert_eq!(table("team")["hash"]["database"], table("team")["hash"]["export"]);
    let first = &told["mismatches"][0];
    assert_eq!((&first["kind"], &first["key"]), (&json!("differs"), &json!("5")));
    assert_eq!(first["differences"][0]["at"], json!("/size"));
    let mut marked = all.to_vec();
    marked.extend(["--report", "report.md"]);
    let run = home.run(&marked);
    assert_eq!((code(&run), text(&run.stdout).lines().count()), (24, 1), "{}", words(&run));
    let report = fs::read_to_string(home.path("report.md")).expect("written");
    assert!(report.contains("| id 31 | missing in the export | there | |"), "{report}");
    assert!(report.contains("# Audit of src/app.db against export.json"), "{report}");
    let mut limited = all.to_vec();
    limited.extend(["--limit", "1", "--format", "text"]);
    assert!(
        words(&home.run(&limited)).contains("… and 4 that are not listed"),
        "{}",
        words(&home.run(&limited))
    );
    for other in ["export.json", "map.toml", "src/app.db"] {
        let mut over = all.to_vec();
        over.extend(["--report", other]);
        assert_eq!(code(&home.run(&over)), 2, "{other}");
    }
}

#[test]
fn every_form_of_export_is_read() {
    let home = home();
    // One file a record, named by its key, without the key inside.
    fs::create_dir_all(home.path("files/users")).expect("made");
    fs::create_dir_all(home.path("agents")).expect("made");
    for user in users() {
        let mut own = user.clone();
        own.as_object_mut().expect("an object").remove("id");
        write(&home, &format!("files/users/{}.json", user["id"]), &own);
        fs::create_dir_all(home.path(&format!("agents/{}", user["email"].as_str().expect("text"))))
            .expect("made");
        write(&home, &format!("agents/{}/user.json", user["email"].as_str().expect("text")), &user);
    }
    let lines: String = users().iter().map(|user| format!("{user}\n")).collect();
    fs::write(home.path("users.jsonl"), &lines).expect("written");
    fs::create_dir_all(home.path("lines")).expect("made");
    fs::write(home.path("lines/users.ndjson"), lines).expect("written");
    write(&home, "lines/other.json", &json!({ "unrelated": true }));
    write(&home, "array.json", &json!(users()));
    let members: serde_json::Map<String, Json> =
        users().into_iter().map(|u| (u["id"].to_string(), u)).collect();
    write(&home, "members.json", &json!({ "data": { "users": members } }));
    for (export, part) in [
        ("files", "file = \"users/*.json\""),
        ("agents", "file = \"*/user.json\""),
        ("users.jsonl", "shape = \"lines\""),
        ("lines", "file = \"lines"),
        ("array.json", "key = [\"id\"]"),
        ("members.json", "shape = \"members\""),
    ] {
        let map = infer(&home, export);
        let part = part.replace("file = \"lines", "file = \"users.ndjson\"");
        assert!(map.contains(&part), "{export}: {map}");
        let run = home.run(&["audit", "src/app.db", export, "--map", "map.toml"]);
        assert_eq!(code(&run), 0, "{export}: {}\n{map}", words(&run));
        assert!(words(&run).contains("user: 40 records: equal"), "{export}: {}", words(&run));
    }
    let gone = home.path("agents/u7@example.org/user.json");
    fs::remove_file(gone).expect("removed");
    infer(&home, "agents");
    let run = home.run(&["audit", "src/app.db", "agents", "--map", "map.toml"]);
    assert_eq!(code(&run), 24);
    assert!(words(&run).contains("  - id 7: missing in the export"), "{}", words(&run));
}

#[test]
fn snapshots_and_databases_in_use_are_audited() {
    let home = home();
    write(&home, "src/export.json", &json!(users()));
    infer(&home, "src/export.json");
    home.good(&["init"]);
    home.good(&["backup", "src"]);
    let stored = |name: &str| format!("latest:{}", home.path(&format!("src/{name}")).display());
    let (db, export) = (stored("app.db"), stored("export.json"));
    for (a, b) in [(db.as_str(), export.as_str()), ("src/app.db", &export), (&db, "src/export.json")] {
        let told = home.good(&["audit", a, b, "--map", "map.toml"]);
        assert!(told.contains("say the same"), "{told}");
    }
    // In use, with changes in the log that nobody has put into the file.
    let live = Connection::open(home.path("src/app.db")).expect("opens");
    live.execute_batch(
        "PRAGMA journal_mode=wal; PRAGMA wal_autocheckpoint=0; UPDATE user SET email='new' WHERE id=3;",
    )
    .expect("changed");
    let before = fs::read(home.path("src/app.db")).expect("read");
    let run = home.run(&["audit", "src/app.db", &export, "--map", "map.toml"]);
    assert_eq!(code(&run), 24);
    assert!(
        words(&run).contains("/email: \"new\" in the database, \"u3@example.org\" in the export"),
        "{}",
        words(&run)
    );
    assert!(home.good(&["audit", &db, "src/export.json", "--map", "map.toml"]).contains("say the same"));
    assert_eq!(fs::read(home.path("src/app.db")).expect("read"), before);
    drop(live);
    // Damage of what is stored is damage.
    for entry in walkdir::WalkDir::new(home.path("repo/packs"))
        .into_iter()
        .flatten()
        .filter(|e| e.file_type().is_file())
    {
        let mut bytes = fs::read(entry.path()).expect("read");
        let len = bytes.len();
        bytes[..len - 200].fill(0);
        fs::write(entry.path(), bytes).expect("written");
    }
    let run = home.run(&["audit", &db, "src/export.json", "--map", "map.toml", "--no-cache"]);
    assert_eq!(code(&run), 20, "{}", words(&run));
}

#[test]
fn what_cannot_be_compared_is_one_line_and_the_right_code() {
    let home = home();
    write(&home, "export.json", &json!(users()));
    let good = infer(&home, "export.json");
    let told = |arguments: &[&str], wanted: i32, part: &str| {
        let run = home.run(arguments);
        let error = text(&run.stderr);
        assert_eq!(code(&run), wanted, "{arguments:?}: {}", words(&run));
        assert!(error.contains(part) && error.trim_end().lines().count() == 1, "{arguments:?}: {error}");
    };
    let all = |database, export| ["audit", database, export, "--map", "map.toml"];
    told(&all("none.db", "export.json"), 1, "cannot look at none.db");
    told(&all("src/app.db", "none.json"), 1, "cannot look at none.json");
    told(&all("src/a.txt", "export.json"), 1, "src/a.txt");
    told(&all("latest:/app.db", "export.json"), 10, "no repository");
    told(&["audit", "src/app.db", "export.json", "--map", "none.toml"], 1, "cannot read none.toml");
    let pretty = fs::read_to_string(home.path("export.json")).expect("read");
    for (bytes, part) in [
        (pretty.as_bytes()[..pretty.len() / 2].to_vec(), "export.json is not sound JSON: line "),
        ([b"\xef\xbb\xbf", pretty.as_bytes()].concat(), "byte order mark"),
        ([pretty.as_bytes(), b"]"].concat(), "something stands behind the value"),
        (pretty.replacen("\"active\"", "\"id\": 9, \"active\"", 1).into_bytes(), "has this key twice"),
        (vec![b'['; 1 << 20], "it ends before it is complete"),
        (Vec::new(), "it is empty"),
    ] {
        fs::write(home.path("export.json"), bytes).expect("written");
        told(&all("src/app.db", "export.json"), 24, part);
    }
    write(&home, "export.json", &json!(users()));
    for (from, to, part) in [
        ("column = \"email\"", "column = \"mail\"", "did you mean `email`?"),
        (
            "field = \"/email\"",
            "field = \"/emial\"",
            "no record of the export has `/emial`; did you mean `/email`?",
        ),
        ("from = \"item\"", "form = \"item\"", "line 21: `form` means nothing here; did you mean `from`?"),
        ("ignore_columns = [\"password\"]", "", "column `password`, which no rule names"),
        ("from = \"user\"", "from = \"users\"", "did you mean `user`?"),
        ("key = [\"id\"]", "at = \"/users\"\nkey = [\"id\"]", "has nothing at `/users`"),
    ] {
        fs::write(home.path("map.toml"), good.replacen(from, to, 1)).expect("written");
        told(&all("src/app.db", "export.json"), 2, part);
    }
    fs::write(home.path("map.toml"), &good).expect("written");
    assert_eq!(code(&home.run(&["audit", "src/app.db", "--map", "map.toml"])), 2);
    // Nothing on either side proves nothing.
    Connection::open(home.path("empty.db")).expect("opens").execute_batch(SCHEMA).expect("made");
    write(&home, "empty.json", &json!([]));
    let run = home.run(&all("empty.db", "empty.json"));
    assert_eq!(code(&run), 24);
    assert!(words(&run).contains("nothing is proved"), "{}", words(&run));
}

#[test]
fn a_map_is_written_as_documentation() {
    let home = home();
    write(&home, "export.json", &json!(users()));
    infer(&home, "export.json");
    let page = home.good(&["audit", "--describe", "--map", "map.toml"]);
    for part in [
        "## user",
        "Records come from the table `user` and are the elements of the array at the top of the export.",
        "| `id` (key) | `/id` | integer | null |",
        "| `created` | `/created` | time: epoch seconds in the database, rfc3339 in the export | null |",
        "| `name` of `team` where `id` = `team_id` | `/team` | text | null |",
        "The array `/items` holds the rows of the table `item` with `user_id` = `id`. They stand in the order of `position`.",
        "Not compared: the columns `password`.",
    ] {
        assert!(page.contains(part), "{part}\n{page}");
    }
    assert_eq!(home.good(&["audit", "src/app.db", "export.json", "--describe", "--map", "map.toml"]), page);
}
