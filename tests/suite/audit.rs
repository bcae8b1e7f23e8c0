//! Databases against their exports: equal pairs are found equal, every single change is found and named, and nothing else.

use crate::counters;
use crate::shelf::Random;
use crate::yard;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rusqlite::{Connection, params};
use serde_json::{Map as Object, Value as Json, json};
use snapkeep::audit::export::{Each, Export};
use snapkeep::audit::form::{As, Form, Nulls, Seen, Writing, exported, stored};
use snapkeep::audit::plan::Plan;
use snapkeep::audit::report::Report;
use snapkeep::audit::run::{Options, run};
use snapkeep::audit::text;
use snapkeep::error::Result;
use snapkeep::json::doc::Doc;
use snapkeep::progress::Progress;
use snapkeep::sqlite::ffi::open_bytes;
use snapkeep::sqlite::image::Bytes;
use snapkeep::sqlite::query::{Reading, Value};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A database in memory.
struct Image(Vec<u8>);

impl Bytes for Image {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&mut self, at: u64, out: &mut [u8]) -> Result<()> {
        out.copy_from_slice(&self.0[at as usize..at as usize + out.len()]);
        Ok(())
    }
}

/// An export in memory.
struct Text(Vec<u8>);

impl Export for Text {
    fn name(&self) -> String {
        "export.json".to_owned()
    }

    fn is_directory(&self) -> bool {
        false
    }

    fn texts(&mut self, _: &dyn Fn(&[u8]) -> bool, each: &mut Each<'_>) -> Result<()> {
        let mut rest = self.0.as_slice();
        each(b"export.json", &mut |out| {
            let count = rest.len().min(out.len()).min(1000);
            out[..count].copy_from_slice(&rest[..count]);
            rest = &rest[count..];
            Ok(count)
        })
    }

    fn holds(&mut self) -> Result<bool> {
        Ok(true)
    }
}

const MAP: &str = r#"
[[table]]
from = "user"
at = "/data/users"
key = ["id"]
ignore_columns = ["secret"]
ignore_fields = ["/etag"]
fields = [
  { column = "id", field = "/id", as = "integer" },
  { column = "name", field = "/name", as = "text" },
  { column = "score", field = "/score", as = "real" },
  { column = "big", field = "/big", as = "integer", exported = "string" },
  { column = "active", field = "/active", as = "boolean" },
  { column = "created", field = "/created_at", as = "time", stored = "epoch_millis", exported = "rfc3339" },
  { column = "note", field = "/note", as = "text", null = "absent" },
  { column = "photo", field = "/photo", as = "base64" },
  { column = "meta", field = "/meta", as = "json" },
  { column = "state", field = "/state", values = { 0 = "open", 1 = "closed" } },
  { column = "any", field = "/address/any" },
  { lookup = { table = "team", by = { id = "team_id" }, column = "name" }, field = "/team" },
]

[[table.children]]
field = "/items"
from = "item"
by = { user_id = "id" }
order = ["position"]
fields = [{ column = "sku", field = "/sku" }, { column = "n", field = "/n", as = "integer" }]

[[table.children]]
field = "/tags"
from = "tag"
by = { user_id = "id" }
may_be_absent = true
fields = [{ column = "tag", field = "" }]

[[table]]
from = "team"
at = "/data/teams"
shape = "members"
key = ["id"]
fields = [
  { column = "id", field = "@name", as = "integer", exported = "string" },
  { column = "name", field = "/name" },
]
"#;

const SCHEMA: &str = "
CREATE TABLE team(id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE user(id INTEGER PRIMARY KEY, name TEXT, score REAL, big INTEGER, active INTEGER, created INTEGER, note TEXT,
  photo BLOB, meta TEXT, state INTEGER, any, team_id INTEGER REFERENCES team(id), secret TEXT);
CREATE TABLE item(user_id INTEGER REFERENCES user(id), position INTEGER, sku TEXT, n INTEGER);
CREATE TABLE tag(user_id INTEGER REFERENCES user(id), tag TEXT);
";

const WORDS: [&str; 8] =
    ["", "plain", "caf\u{e9}", "cafe\u{301}", "a\u{0}b", "日本 \u{1f600}", "\"quoted\" \\ /", "NULL"];

fn word(random: &mut Random) -> String {
    format!("{}{}", WORDS[random.below(WORDS.len())], random.below(4))
}

fn real(random: &mut Random) -> f64 {
    match random.below(6) {
        0 => 0.0,
        1 => 1e300,
        2 => 5e-324,
        3 => random.below(1 << 20) as f64,
        4 => -9_007_199_254_740_993.0,
        _ => f64::from_bits(random.next() >> 2),
    }
}

/// A database and what an exporter makes of it.
fn pair(random: &mut Random, users: usize) -> (Connection, Json) {
    let db = Connection::open_in_memory().expect("opens");
    db.execute_batch(SCHEMA).expect("made");
    let mut teams = Object::new();
    for id in 0..5 {
        let name = format!("team {id}");
        db.execute("INSERT INTO team VALUES(?1, ?2)", params![id, name]).expect("inserted");
        teams.insert(id.to_string(), json!({ "name": name }));
    }
    let mut all = Vec::new();
    for n in 0..users {
        let id = n as i64 * 3 - 20;
        let (name, score, big) = (word(random), real(random), random.next() as i64);
        let (active, created) =
            (random.below(2) == 1, random.below(4_000_000_000_000) as i64 - 1_000_000_000_000);
        let note = (random.below(2) == 1).then(|| word(random));
        let len = random.below(20);
        let photo = random.bytes(len);
        let meta = json!({ "k": [random.below(9), null, { "deep": word(random) }], "x": 1.5 });
        let (state, team) = (random.below(2), (random.below(6) > 0).then(|| random.below(5) as i64));
        let any = match random.below(4) {
            0 => Json::Null,
            1 => json!(random.next() as i64),
            2 => json!(real(random)),
            _ => json!(word(random)),
        };
        let stored_any: rusqlite::types::Value = match &any {
            Json::Null => rusqlite::types::Value::Null,
            Json::String(text) => text.clone().into(),
            number => number.as_i64().map_or_else(|| number.as_f64().expect("a number").into(), Into::into),
        };
        db.execute(
            "INSERT INTO user VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,'x')",
            params![
                id,
                name,
                score,
                big,
                active,
                created,
                note,
                photo,
                meta.to_string(),
                state as i64,
                stored_any,
                team
            ],
        )
        .expect("inserted");
        let (mut items, mut tags) = (Vec::new(), Vec::new());
        for position in 0..random.below(4) {
            let (sku, n) = (format!("sku-{}", random.below(1000)), random.below(9));
            db.execute(
                "INSERT INTO item VALUES(?1,?2,?3,?4)",
                params![id, position as i64 * 10, sku, n as i64],
            )
            .expect("inserted");
            items.push(json!({ "sku": sku, "n": n }));
        }
        for tag in 0..random.below(3) {
            let tag = format!("{} {tag}", word(random));
            db.execute("INSERT INTO tag VALUES(?1,?2)", params![id, tag]).expect("inserted");
            tags.insert(random.below(tags.len() + 1), json!(tag));
        }
        let at = snapkeep::clock::Timestamp {
            secs: created.div_euclid(1000),
            nanos: created.rem_euclid(1000) as u32 * 1_000_000,
        };
        let mut user = json!({
            "id": id, "name": name, "score": score, "big": big.to_string(), "active": active, "created_at": at.rfc3339(),
            "photo": STANDARD.encode(&photo), "meta": meta, "state": if state == 1 { "closed" } else { "open" }, "etag": random.next(),
            "address": { "any": any }, "team": team.map(|t| format!("team {t}")), "items": items,
        });
        if let Some(note) = note {
            user["note"] = json!(note);
        }
        if !tags.is_empty() {
            user["tags"] = json!(tags);
        }
        let place = random.below(all.len() + 1);
        all.insert(place, user);
    }
    (db, json!({ "version": 3, "data": { "users": all, "teams": teams } }))
}

fn image(db: &Connection) -> Vec<u8> {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let path = dir.path().join("copy.db");
    db.execute("VACUUM INTO ?1", [path.to_str().expect("text")]).expect("copied");
    std::fs::read(path).expect("read")
}

/// The image after a change.
fn changed(image: &[u8], sql: &str, id: i64) -> Vec<u8> {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let path = dir.path().join("copy.db");
    std::fs::write(&path, image).expect("written");
    let db = Connection::open(&path).expect("opens");
    db.execute_batch("PRAGMA synchronous=off; PRAGMA journal_mode=off; PRAGMA foreign_keys=off")
        .expect("set");
    db.execute(sql, [id]).expect("changed");
    drop(db);
    std::fs::read(path).expect("read")
}

struct Told {
    report: Report,
    /// Kind, record and fields of each mismatch.
    mismatches: Vec<String>,
}

fn audit_with(
    image: &[u8],
    export: &[u8],
    map: &str,
    sample: Option<(u64, u64)>,
    memory: u64,
) -> std::result::Result<Told, String> {
    let map = text::parse(map.as_bytes()).expect("a map");
    let opened = open_bytes(Box::new(Image(image.to_vec()))).expect("opens");
    let reading = Reading::new(opened, Arc::new(AtomicBool::new(false))).expect("readable");
    let plan = Plan::new(&reading, &map).map_err(|e| e.message().to_owned())?;
    let options = Options { sample, limit: 50, memory, scratch: Path::new(env!("CARGO_TARGET_TMPDIR")) };
    let mut export = Text(export.to_vec());
    let done = run(&reading, &mut export, &map, &plan, &options, &Progress::new());
    let report = done.map_err(|e| e.message().to_owned())??;
    let told = report.mismatches.iter().map(|m| {
        let fields: Vec<String> = match m.kind.word() {
            "differs" => m.differences(&plan.sections[m.section]).into_iter().map(|d| d.field).collect(),
            _ => Vec::new(),
        };
        let table = &plan.sections[m.section].name;
        format!("{} {table} {} {}", m.kind.word(), m.record(&plan), fields.join(",")).trim_end().to_owned()
    });
    let mismatches = told.collect();
    Ok(Told { report, mismatches })
}

fn audit(image: &[u8], export: &Json) -> Told {
    audit_with(image, export.to_string().as_bytes(), MAP, None, 1 << 24).expect("compared")
}

#[test]
fn a_database_and_its_export_are_equal() {
    let mut random = yard::seed("audit of equal pairs", 0xa0d1);
    for round in 0..counters::size(8, 200) {
        let users = random.below(60);
        let (db, export) = pair(&mut random, users);
        let image = image(&db);
        let told = audit(&image, &export);
        assert_eq!(told.mismatches, [""; 0], "round {round}");
        assert!(told.report.is_equal());
        assert_eq!(told.report.tallies[0].database, users as u64);
        for tally in &told.report.tallies {
            assert_eq!((tally.database, tally.equal), (tally.export, tally.compared));
            let (a, b) = tally.hashes.as_ref().expect("hashes");
            assert_eq!(a, b);
        }
        let pretty = serde_json::to_string_pretty(&export).expect("text");
        assert!(
            audit_with(&image, pretty.as_bytes(), MAP, None, 1 << 24).expect("compared").report.is_equal()
        );
    }
}

/// Changes one thing in the export; answers how an audit must call it.
fn mutate(random: &mut Random, export: &mut Json) -> Option<String> {
    let users = export["data"]["users"].as_array_mut().expect("an array");
    let at = random.below(users.len());
    let user = &mut users[at];
    let id = user["id"].as_i64().expect("a number");
    let differs = |field: &str| Some(format!("differs user id {id} {field}"));
    match random.below(22) {
        0 => {
            let old = user["name"].as_str().expect("text");
            let new =
                if old.contains('\u{e9}') { old.replace('\u{e9}', "e\u{301}") } else { format!("{old} ") };
            user["name"] = json!(new);
            differs("/name")
        }
        1 => {
            let old = user["score"].as_f64().expect("a number");
            user["score"] = json!(f64::from_bits(old.to_bits() ^ 1));
            differs("/score")
        }
        2 => {
            let old: i64 = user["big"].as_str().expect("text").parse().expect("a number");
            user["big"] = json!((old ^ 1).to_string());
            differs("/big")
        }
        3 => {
            user["active"] = json!(!user["active"].as_bool().expect("a boolean"));
            differs("/active")
        }
        4 => {
            let old = user["created_at"].as_str().expect("text").to_owned();
            user["created_at"] = json!(old.replace('Z', "+00:01"));
            differs("/created_at")
        }
        5 => {
            match user.get("note") {
                None => user["note"] = Json::Null,
                Some(_) => drop(user.as_object_mut().expect("an object").remove("note")),
            }
            differs("/note")
        }
        6 => {
            let mut photo = STANDARD.decode(user["photo"].as_str().expect("text")).expect("base64");
            photo.push(7);
            user["photo"] = json!(STANDARD.encode(photo));
            differs("/photo")
        }
        7 => {
            user["meta"]["k"][2]["deep"] =
                json!(format!("{}x", user["meta"]["k"][2]["deep"].as_str().expect("text")));
            differs("/meta")
        }
        8 => {
            user["state"] = json!(if user["state"] == "open" { "closed" } else { "open" });
            differs("/state")
        }
        9 => {
            user["address"]["any"] = match &user["address"]["any"] {
                Json::Null => json!(false),
                Json::String(text) if text == "0" => json!(0),
                Json::String(_) => Json::Null,
                number => json!(number.to_string()),
            };
            differs("/address/any")
        }
        10 => {
            user["team"] = if user["team"].is_null() { json!("team 0") } else { Json::Null };
            differs("/team")
        }
        11 => {
            user["new"] = json!([1]);
            Some(format!("differs user id {id}"))
        }
        12 => {
            user.as_object_mut().expect("an object").remove("items");
            let gone = format!("differs user id {id} /items");
            // Its rows are gone with it.
            (export["data"]["users"][at]["items"].is_null()).then_some(gone)
        }
        13 => {
            users.remove(at);
            Some(format!("missing_in_export user id {id}"))
        }
        14 => {
            let mut copy = user.clone();
            copy["id"] = json!(1_000_000_007);
            copy["items"] = json!([]);
            copy.as_object_mut().expect("an object").remove("tags");
            users.insert(at, copy);
            Some("missing_in_database user id 1000000007".to_owned())
        }
        15 => {
            let mut copy = user.clone();
            copy["items"] = json!([]);
            copy.as_object_mut().expect("an object").remove("tags");
            users.push(copy);
            Some(format!("repeated_key user id {id}"))
        }
        16 => {
            let items = user["items"].as_array_mut().expect("an array");
            let n = random.below(items.len() + 1);
            items.insert(n, json!({ "sku": "new", "n": 1 }));
            Some(format!("missing_in_database user/items id {id}, /items/{n}"))
        }
        17 | 18 => {
            let items = user["items"].as_array_mut().expect("an array");
            if items.is_empty() {
                return None;
            }
            let n = random.below(items.len());
            items[n]["n"] = json!(items[n]["n"].as_i64().expect("a number") + 1);
            Some(format!("differs user/items id {id}, /items/{n} /n"))
        }
        19 => {
            let tags = user.get_mut("tags")?.as_array_mut().expect("an array");
            let n = random.below(tags.len());
            tags[n] = json!(format!("{}!", tags[n].as_str().expect("text")));
            Some(format!("differs user/tags id {id}, /tags"))
        }
        20 => {
            let tags = user.get_mut("tags")?.as_array_mut().expect("an array");
            tags.push(tags[0].clone());
            Some(format!("missing_in_database user/tags id {id}, /tags"))
        }
        _ => {
            let n = random.below(5);
            export["data"]["teams"][n.to_string()]["name"] = json!("another");
            Some(format!("differs team id {n} /name"))
        }
    }
}

#[test]
fn every_single_change_of_the_export_is_found_and_named() {
    let mut random = yard::seed("audit of single changes", 0x0dd5);
    let mut tried = 0;
    while tried < counters::size(150, 5000) {
        let users = 2 + random.below(25);
        let (db, export) = pair(&mut random, users);
        let image = image(&db);
        for _ in 0..10 {
            let mut changed = export.clone();
            let Some(expected) = mutate(&mut random, &mut changed) else { continue };
            tried += 1;
            let told = audit(&image, &changed);
            assert!(!told.report.is_equal(), "{expected}");
            // A record that is gone takes its rows along.
            let own = |line: &&String| {
                let gone = expected.starts_with("missing_in_export user ");
                let without = expected.starts_with("differs user id") && expected.ends_with(" /items");
                let of_items = line.starts_with("missing_in_export user/items");
                let of_tags = line.starts_with("missing_in_export user/tags");
                let follows = (gone && (of_items || of_tags)) || (without && of_items);
                !follows
            };
            let lines: Vec<&String> = told.mismatches.iter().filter(own).collect();
            assert_eq!(lines, [&expected], "{changed}");
            assert_eq!(told.report.untold, 0);
            let differing: u64 = told.report.tallies.iter().map(|t| t.mismatches()).sum();
            assert_eq!(differing, told.mismatches.len() as u64);
        }
    }
    counters::count("T40 single changes of exports", tried, "0 missed");
}

#[test]
fn every_single_change_of_the_database_is_found_and_named() {
    let mut random = yard::seed("audit of changed rows", 0xdb0d);
    for round in 0..counters::size(20, 500) {
        let (db, export) = pair(&mut random, 12);
        let whole = image(&db);
        for (sql, expected) in [
            ("UPDATE user SET name=name||'x' WHERE id=?1", "differs user id # /name"),
            (
                "UPDATE user SET score=CASE WHEN score=1.5 THEN 2.5 ELSE 1.5 END WHERE id=?1",
                "differs user id # /score",
            ),
            ("UPDATE user SET active=2 WHERE id=?1", "differs user id # /active"),
            ("UPDATE user SET created=created+1 WHERE id=?1", "differs user id # /created_at"),
            ("UPDATE user SET photo=CAST(photo AS TEXT) WHERE id=?1", "differs user id # /photo"),
            ("UPDATE user SET meta=json_set(meta,'$.x',1.25) WHERE id=?1", "differs user id # /meta"),
            ("UPDATE user SET state=7 WHERE id=?1", "differs user id # /state"),
            ("UPDATE user SET big=CASE big WHEN 5 THEN 6 ELSE 5 END WHERE id=?1", "differs user id # /big"),
            ("UPDATE user SET any=x'00' WHERE id=?1", "differs user id # /address/any"),
            ("UPDATE user SET secret='other' WHERE id=?1", ""),
            ("INSERT INTO tag VALUES(?1,'more')", "missing_in_export user/tags id #, /tags"),
            ("INSERT INTO item VALUES(?1,-1,'first',1)", "missing_in_export user/items id #, /items/0"),
            ("INSERT INTO item VALUES(?1+1,0,'orphan',1)", "missing_in_export user/items id +, /items/0"),
        ] {
            let id = random.below(12) as i64 * 3 - 20;
            let told = audit(&changed(&whole, sql, id), &export);
            let expected = expected.replace('#', &id.to_string()).replace('+', &(id + 1).to_string());
            let expected: Vec<&str> = Some(expected.as_str()).filter(|e| !e.is_empty()).into_iter().collect();
            assert_eq!(told.mismatches, expected, "round {round}: {sql}");
        }
    }
}

#[test]
fn a_sample_is_of_both_sides_and_the_same_for_one_seed() {
    let mut random = yard::seed("audit of samples", 0x5a3e);
    let (db, export) = pair(&mut random, 300);
    let whole = image(&db);
    let text = export.to_string();
    for seed in 0..5 {
        let told = audit_with(&whole, text.as_bytes(), MAP, Some((40, seed)), 1 << 24).expect("compared");
        assert!(told.report.is_equal());
        assert_eq!(told.report.tallies[0].compared, 40);
        assert_eq!(told.report.tallies[0].database, 300);
    }
    // Half of the records differ: a sample must meet some, and only those.
    db.execute_batch(
        "PRAGMA foreign_keys=off; UPDATE user SET name=name||'x' WHERE id%2=0; DELETE FROM user WHERE id=1;",
    )
    .expect("changed");
    let changed = image(&db);
    let one = audit_with(&changed, text.as_bytes(), MAP, Some((40, 7)), 1 << 24).expect("compared");
    let two = audit_with(&changed, text.as_bytes(), MAP, Some((40, 7)), 1 << 20).expect("compared");
    assert_eq!(one.mismatches, two.mismatches);
    assert!((5..36).contains(&one.report.tallies[0].differing), "{}", one.report.tallies[0].differing);
    assert_eq!((one.report.tallies[0].database, one.report.tallies[0].export), (299, 300));
    let all = audit_with(&changed, text.as_bytes(), MAP, Some((1000, 7)), 1 << 24).expect("compared");
    assert_eq!((all.report.tallies[0].differing, all.report.tallies[0].not_in_export), (150, 0));
    assert_eq!(all.report.tallies[0].not_in_database, 1);
}

#[test]
fn what_does_not_fit_into_memory_is_sorted_on_disk() {
    let db = Connection::open_in_memory().expect("opens");
    db.execute_batch(
        "CREATE TABLE t(k TEXT PRIMARY KEY, v); WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM i WHERE n<30000)
         INSERT INTO t SELECT 'key '||n, n*n FROM i;",
    )
    .expect("made");
    let map = "[[table]]\nfrom=\"t\"\nkey=[\"k\"]\nfields=[{column=\"k\",field=\"/k\"},{column=\"v\",field=\"/v\"}]";
    let line = |n: u64| json!({ "v": n * n, "k": format!("key {n}") });
    let mut all: Vec<Json> = (1..=30000).rev().map(line).collect();
    let image = image(&db);
    let told = audit_with(&image, json!(all).to_string().as_bytes(), map, None, 0).expect("compared");
    assert!(told.report.is_equal() && told.report.spilled > 1 << 20, "{}", told.report.spilled);
    all[777]["v"] = json!(1);
    all.remove(20_000);
    let told = audit_with(&image, json!(all).to_string().as_bytes(), map, None, 0).expect("compared");
    let mut lines = told.mismatches;
    lines.sort();
    assert_eq!(lines, ["differs t k \"key 29223\" /v", "missing_in_export t k \"key 10000\""]);
}

#[test]
fn exports_that_are_not_sound_and_maps_that_do_not_fit_are_named() {
    let (db, export) = pair(&mut Random(5), 3);
    let image = image(&db);
    let good = export.to_string();
    let fault = |text: &[u8]| audit_with(&image, text, MAP, None, 1 << 24).err().expect("refused");
    let at = good.find("\"users\"").expect("there");
    for (text, part) in [
        (good.as_bytes()[..good.len() - 5].to_vec(), "it ends"),
        ([b"\xef\xbb\xbf", good.as_bytes()].concat(), "byte order mark"),
        (good.replace("\"id\"", "\"name\":1,\"id\"").into_bytes(), "twice"),
        (good.replace("\"active\":", "\"active\":NaN,\"b\":").into_bytes(), "NaN and Infinity"),
        ([&good.as_bytes()[..at], b"\"u\xff\":1,", &good.as_bytes()[at..]].concat(), "not UTF-8"),
        (
            good.replace("\"users\"", "\"user_list\"").into_bytes(),
            "nothing at `/data/users`; did you mean `/data/user_list`?",
        ),
        (
            good.replace("\"created_at\"", "\"createdAt\"").into_bytes(),
            "no record of the export has `/created_at`; did you mean `/createdAt`?",
        ),
        (
            format!("{{\"data\":{{\"users\":{}", "[".repeat(200_000)).into_bytes(),
            "it ends before it is complete",
        ),
        (b"[]".to_vec(), "has nothing at `/data/users`"),
        (b"{\"data\":{\"users\":{}}}".to_vec(), "`/data/users` is an object"),
    ] {
        let told = fault(&text);
        assert!(told.contains(part) && !told.contains('\n'), "{told}");
    }
    for (from, to, part) in [
        ("from = \"user\"", "from = \"usr\"", "did you mean `user`?"),
        (
            "column = \"name\", field = \"/name\", as",
            "column = \"nam\", field = \"/name\", as",
            "did you mean `name`?",
        ),
        ("\"secret\"", "", "column `secret`, which no rule names"),
        (
            "column = \"sku\"",
            "column = \"skuu\"",
            "children `user/items`: `item` has no column `skuu`; did you mean `sku`?",
        ),
        ("table = \"team\"", "table = \"teams\"", "did you mean `team`?"),
        ("from = \"item\"", "select = \"DELETE FROM item\"", "SQLite says"),
        ("/data/teams", "/data/users/0", "and inside of them"),
    ] {
        assert!(MAP.contains(from), "{from}");
        let map = MAP.replacen(from, to, 1);
        let told = audit_with(&image, good.as_bytes(), &map, None, 1 << 24).err().expect("refused");
        assert!(told.contains(part), "{told}");
    }
}

#[test]
fn an_array_of_any_length_and_records_without_keys_are_compared() {
    let db = Connection::open_in_memory().expect("opens");
    db.execute_batch(
        "CREATE TABLE p(a TEXT, b INTEGER, PRIMARY KEY(a, b)); INSERT INTO p VALUES('x', 1), ('x', 2);
         CREATE TABLE c(a TEXT, b INTEGER, n INTEGER, v);
         WITH RECURSIVE i(n) AS (SELECT 0 UNION ALL SELECT n+1 FROM i WHERE n<149999) INSERT INTO c SELECT 'x', 1, n, n%7 FROM i;",
    )
    .expect("made");
    let map = r#"
        [[table]]
        from = "p"
        key = ["a", "b"]
        fields = [{ column = "a", field = "/a" }, { column = "b", field = "/b" }]
        [[table.children]]
        field = "/c"
        from = "c"
        by = { a = "a", b = "b" }
        order = ["n"]
        fields = [{ column = "v", field = "/v" }]
        ignore_columns = []
    "#;
    let rows: Vec<Json> = (0..150_000).map(|n| json!({ "v": n % 7 })).collect();
    let mut export = json!([{ "b": 2, "a": "x", "c": [] }, { "a": "x", "b": 1, "c": rows }]);
    let image = image(&db);
    let check = |export: &Json| {
        audit_with(&image, export.to_string().as_bytes(), map, None, 1 << 22).expect("compared")
    };
    assert!(check(&export).report.is_equal());
    export[1]["c"][140_000]["v"] = json!("7");
    assert_eq!(check(&export).mismatches, ["differs p/c (a, b) (\"x\", 1), /c/140000 /v"]);
    export[1]["c"][140_000]["v"] = json!(0);
    export[0].as_object_mut().expect("an object").remove("b");
    let told = check(&export);
    assert_eq!((told.report.tallies[0].keyless, told.report.tallies[0].not_in_export), (1, 1));
    assert_eq!(told.report.tallies[0].keyless_at, ["/0 of export.json"]);
}

fn same(form: &Form, value: Value, json: &str) -> bool {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    stored(form, &value, &mut a);
    match json {
        "absent" => exported(form, Seen::Absent, &mut b),
        json => {
            let doc = Doc::parse(json.as_bytes()).expect("sound");
            exported(form, Seen::Node(&doc, 0), &mut b);
        }
    }
    a == b
}

#[test]
fn values_are_equal_exactly_when_they_say_the_same() {
    let f = Form::plain;
    let t = Value::text;
    let time = |stored, exported| Form { stored, exported, ..f(As::Time) };
    let (seconds, millis) = (Writing::Epoch(1_000_000_000), Writing::Epoch(1_000_000));
    let empty = Form { nulls: Nulls::Empty, ..f(As::Text) };
    let absent = Form { nulls: Nulls::Absent, ..f(As::Text) };
    let digits = Form { exported: Writing::Text, ..f(As::Integer) };
    let named = Form { values: Some([("1".into(), "open".into())].into()), ..f(As::Text) };
    let big = i64::MAX;
    for (form, value, json, equal) in [
        (f(As::Integer), Value::Integer(9_007_199_254_740_993), "9007199254740993", true),
        (f(As::Integer), Value::Integer(9_007_199_254_740_993), "9007199254740992", false),
        (f(As::Value), Value::Integer(9_007_199_254_740_993), "9007199254740992.0", false),
        (f(As::Integer), Value::Integer(big), "9223372036854775807", true),
        (f(As::Integer), Value::Integer(big), "9223372036854775808", false),
        (f(As::Integer), Value::Integer(1), "1.0", false),
        (f(As::Integer), Value::Integer(1), "\"1\"", false),
        (f(As::Integer), Value::Real(1.0), "1", false),
        (f(As::Integer), t("x"), "\"x\"", false),
        (digits.clone(), Value::Integer(-5), "\"-5\"", true),
        (digits, Value::Integer(-5), "-5", false),
        (f(As::Value), Value::Integer(1), "1.0", true),
        (f(As::Value), Value::Real(1.0), "1", true),
        (f(As::Value), Value::Real(0.1), "1e-1", true),
        (f(As::Value), Value::Real(0.1), "0.10000000000000002", false),
        (f(As::Value), Value::Integer(1), "\"1\"", false),
        (f(As::Value), Value::Integer(1), "true", false),
        (f(As::Value), Value::Blob(vec![1]), "\"01\"", false),
        (f(As::Real), Value::Real(0.1), "0.1000", true),
        (f(As::Real), Value::Real(0.1), "0.1000000000000000055", true),
        (f(As::Real), Value::Real(0.1), "0.1000000000000001", false),
        (f(As::Real), Value::Real(1e300), "1E+300", true),
        (f(As::Real), Value::Real(f64::INFINITY), "9e999", true),
        (f(As::Real), Value::Real(f64::INFINITY), "null", false),
        (f(As::Real), Value::Real(-0.0), "0", false),
        (f(As::Real), Value::Real(5e-324), "5e-324", true),
        (f(As::Real), Value::Integer(9_007_199_254_740_993), "9007199254740992", false),
        (f(As::Text), t("\u{e9}"), "\"\\u00e9\"", true),
        (f(As::Text), t("\u{e9}"), "\"e\u{301}\"", false),
        (f(As::Text), t("a\u{0}b"), "\"a\\u0000b\"", true),
        (f(As::Text), t("a "), "\"a\"", false),
        (f(As::Text), Value::Text(vec![0xff]), "\"\u{fffd}\"", false),
        (f(As::Text), Value::Null, "null", true),
        (f(As::Text), Value::Null, "absent", false),
        (f(As::Text), Value::Null, "\"\"", false),
        (f(As::Text), t("null"), "null", false),
        (absent.clone(), Value::Null, "absent", true),
        (absent, Value::Null, "null", false),
        (empty.clone(), Value::Null, "\"\"", true),
        (empty, Value::Null, "null", false),
        (named.clone(), Value::Integer(1), "\"open\"", true),
        (named, Value::Integer(2), "\"open\"", false),
        (f(As::Boolean), Value::Integer(1), "true", true),
        (f(As::Boolean), Value::Integer(2), "true", false),
        (f(As::Boolean), Value::Integer(0), "null", false),
        (f(As::Json), t("{\"b\":1.50, \"a\":[null]}"), "{\"a\":[null],\"b\":15e-1}", true),
        (f(As::Json), t("{\"a\":12345678901234567890}"), "{\"a\":12345678901234567891}", false),
        (f(As::Json), t("[1,2]"), "[2,1]", false),
        (f(As::Json), t("{\"a\":1}"), "{\"a\":\"1\"}", false),
        (f(As::Json), t("[1"), "[1]", false),
        (f(As::Json), Value::Null, "null", true),
        (time(seconds, Writing::Rfc3339), Value::Integer(0), "\"1970-01-01T02:00:00+02:00\"", true),
        (time(seconds, Writing::Rfc3339), Value::Integer(0), "\"1970-01-01T00:00:00.001Z\"", false),
        (time(millis, Writing::Rfc3339), Value::Integer(-1), "\"1969-12-31T23:59:59.999Z\"", true),
        (time(Writing::Civil, Writing::Rfc3339), t("2026-11-20 11:30:05"), "\"2026-11-20T11:30:05Z\"", true),
        (time(Writing::Rfc3339, millis), t("1970-01-01T00:00:01Z"), "1000", true),
        (time(seconds, seconds), Value::Real(1.5), "1.500", true),
        (f(As::Hex), Value::Blob(vec![0xab, 1]), "\"AB01\"", true),
        (f(As::Hex), Value::Blob(vec![0xab]), "\"ab0\"", false),
        (f(As::Base64), Value::Blob(vec![0xff, 0xfe]), "\"//4=\"", true),
        (f(As::Base64), Value::Blob(vec![0xff, 0xfe]), "\"//4\"", true),
        (f(As::Base64Url), Value::Blob(vec![0xff, 0xfe]), "\"__4\"", true),
        (f(As::Base64), Value::Blob(vec![0xff, 0xfe]), "\"//5=\"", false),
    ] {
        assert_eq!(same(&form, value.clone(), json), equal, "{form:?} {value:?} {json}");
    }
}
