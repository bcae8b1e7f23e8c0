//! Questions to stored databases, and databases as SQL text: what SQLite itself says is what comes out.

use super::cli::{Home, text};
use rusqlite::Connection;
use rusqlite::types::Value;
use serde_json::Value as Json;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Output, Stdio};

/// Databases of every kind that the tests of rows go through; `prefix` comes before the tables are made.
pub fn create_all_kinds(path: &Path, prefix: &str) {
    let db = Connection::open(path).expect("opens");
    db.execute_batch(prefix).expect("set up");
    db.execute_batch(
        r#"
        PRAGMA user_version=7; PRAGMA application_id=-5;
        CREATE TABLE person(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT COLLATE NOCASE, "odd ""name" REAL, data BLOB, x);
        CREATE TABLE "a b'c
d"("rowid" TEXT, v INT);
        CREATE TABLE loose(a, b); -- a remark
        CREATE TABLE keyed(k TEXT, n INT, v, PRIMARY KEY(k, n DESC)) WITHOUT ROWID;
        CREATE TABLE long(id INTEGER PRIMARY KEY, body TEXT);
        CREATE TABLE made(a INT, twice INT GENERATED ALWAYS AS (a*2) STORED, thrice INT AS (a*3), b TEXT);
        CREATE TABLE parent(id INTEGER PRIMARY KEY); CREATE TABLE child(p REFERENCES parent(id));
        CREATE TABLE seen(what);
        CREATE INDEX by_name ON person(name); CREATE UNIQUE INDEX by_a ON loose(a) WHERE a > 0 /* part */;
        CREATE VIEW v AS SELECT id, name FROM person;
        CREATE TRIGGER t AFTER INSERT ON person BEGIN INSERT INTO seen VALUES('inserted'); END;
        CREATE VIRTUAL TABLE words USING fts5(title, body);
        CREATE VIRTUAL TABLE dark USING fts5(body, content='');
        CREATE VIRTUAL TABLE box USING rtree(id, x0, x1);
        WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM i WHERE n<300)
        INSERT INTO person(name, "odd ""name", data, x) SELECT 'name '||n, n/7.0, randomblob(n%40), n FROM i;
        DELETE FROM seen; INSERT INTO seen VALUES ('after');
        UPDATE person SET x=NULL WHERE id=1; UPDATE person SET x='' WHERE id=2; UPDATE person SET x=zeroblob(0) WHERE id=3;
        UPDATE person SET x=9e999 WHERE id=4; UPDATE person SET x=-9223372036854775808 WHERE id=5;
        UPDATE person SET x='it''s'||char(10)||'a'||char(13)||char(10)||'-- line; .quit' WHERE id=6;
        UPDATE person SET x='a'||char(0)||'b' WHERE id=7; UPDATE person SET x=1.0 WHERE id=8;
        UPDATE person SET x=5e-324 WHERE id=9; UPDATE person SET x='NULL' WHERE id=10; UPDATE person SET x='日本 ü' WHERE id=11;
        DELETE FROM person WHERE id > 290;
        INSERT INTO "a b'c
d" VALUES('one', 1), ('two', 2);
        INSERT INTO loose(rowid, a, b) VALUES (5, 1, 'x'), (900, 2, NULL), (-3, -1, x'00ff');
        INSERT INTO keyed SELECT name, id, data FROM person;
        INSERT INTO long SELECT id, hex(randomblob(id*30)) FROM person;
        INSERT INTO made(a, b) SELECT id, name FROM person;
        INSERT INTO parent VALUES(1); PRAGMA foreign_keys=OFF; INSERT INTO child VALUES(1), (2);
        INSERT INTO words SELECT name, 'the body of '||name FROM person; INSERT INTO dark(rowid, body) VALUES(3, 'hidden words');
        INSERT INTO box VALUES(1, 0.0, 2.5), (2, 1.0, 1.5);
        ANALYZE;
        "#,
    )
    .expect("created");
}

/// Every row of every table with the kinds of its values, and the schema.
pub fn everything(path: &Path) -> Vec<String> {
    let db = Connection::open(path).expect("opens");
    let mut out = Vec::new();
    let all = |sql: &str| -> Vec<Vec<Value>> {
        let mut statement = db.prepare(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
        let count = statement.column_count();
        let rows = statement.query_map([], |row| (0..count).map(|i| row.get(i)).collect()).expect("asked");
        rows.map(|row| row.expect("a row")).collect()
    };
    let sql = "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_stat%' ORDER BY 1, 2";
    out.extend(all(sql).iter().map(|row| format!("{row:?}")));
    for row in all(
        "SELECT name, wr, type FROM pragma_table_list WHERE schema='main' AND type IN ('table','shadow','virtual')",
    ) {
        let (Value::Text(name), Value::Integer(wr)) = (&row[0], &row[1]) else { panic!("{row:?}") };
        if ["sqlite_schema", "sqlite_stat4"].contains(&name.as_str()) {
            continue;
        }
        let quoted = format!("\"{}\"", name.replace('"', "\"\""));
        let odd = name.starts_with("a b")
            || *wr == 1
            || name.starts_with("sqlite_")
            || row[2] == Value::Text("virtual".into());
        let rowid = if odd { "" } else { "rowid, " };
        let mut rows: Vec<String> = all(&format!("SELECT {rowid}* FROM {quoted}"))
            .iter()
            .map(|row| format!("{name}: {row:?}"))
            .collect();
        rows.sort();
        out.extend(rows);
    }
    for pragma in ["user_version", "application_id", "encoding"] {
        out.push(format!("{pragma}: {:?}", all(&format!("PRAGMA {pragma}"))));
    }
    out
}

pub fn assert_same(there: &Path, here: &Path) {
    let (there, here) = (everything(there), everything(here));
    let short = |line: Option<&String>| line.map(|line| line.chars().take(300).collect::<String>());
    let differs = |n: &usize| there.get(*n) != here.get(*n);
    if let Some(n) = (0..there.len().max(here.len())).find(differs) {
        panic!("line {n}: {:?} became {:?}", short(there.get(n)), short(here.get(n)));
    }
}

fn name(home: &Home, file: &str) -> String {
    format!("latest:{}", home.path(file).display())
}

fn asked(home: &Home, more: &[&str]) -> Output {
    let target = name(home, "src/app.db");
    let mut all = vec!["sql", target.as_str()];
    all.extend_from_slice(more);
    home.run(&all)
}

fn answer(home: &Home, more: &[&str]) -> String {
    let run = asked(home, more);
    assert!(run.status.success(), "{}", text(&run.stderr));
    text(&run.stdout)
}

pub fn home_with(prefix: &str) -> Home {
    let home = Home::new();
    home.good(&["init"]);
    create_all_kinds(&home.path("src/app.db"), prefix);
    home.good(&["backup", "src"]);
    home
}

#[test]
fn a_stored_database_answers_questions() {
    let home = home_with("PRAGMA journal_mode=wal;");
    let table = answer(&home, &["SELECT id, name, x FROM person WHERE id<4 ORDER BY id"]);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(
        lines,
        ["id  name    x", "--  ------  ----", " 1  name 1  NULL", " 2  name 2", " 3  name 3  x''"],
        "{table}"
    );
    let csv = answer(&home, &["--csv", "SELECT id, x FROM person WHERE id IN (1,2,6) ORDER BY id"]);
    assert_eq!(csv, "id,x\n1,\n2,\"\"\n6,\"it's\na\r\n-- line; .quit\"\n");
    let json = answer(&home, &["--json", "SELECT x, typeof(x) t FROM person WHERE id<=8 ORDER BY id"]);
    let rows: Vec<Json> = json.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(rows[0]["x"], Json::Null);
    assert_eq!(rows[2]["x"]["base64"], "");
    assert_eq!(rows[3]["x"]["real"], "Infinity");
    assert_eq!(
        (&rows[4]["x"], &rows[6]["x"], &rows[7]["x"]),
        (&i64::MIN.into(), &"a\0b".into(), &1.0.into())
    );
    for (sql, wanted) in [
        ("SELECT count(*) n FROM v", "290"),
        ("SELECT count(*) n FROM words WHERE words MATCH 'body'", "290"),
        ("SELECT rowid FROM dark WHERE dark MATCH 'hidden'", "3"),
        ("SELECT id FROM box WHERE x1>2 AND x0<1", "1"),
        ("PRAGMA user_version", "7"),
        (
            "WITH RECURSIVE c(n) AS (VALUES(1) UNION ALL SELECT n+1 FROM c WHERE n<9) SELECT max(n) FROM c;  -- end",
            "9",
        ),
        ("SELECT count(*) FROM pragma_table_info('person')", "5"),
        ("PRAGMA integrity_check", "ok"),
    ] {
        let csv = answer(&home, &["--csv", sql]);
        assert_eq!(csv.lines().last(), Some(wanted), "{sql}: {csv}");
    }
}

#[test]
fn nothing_but_reading_this_one_database_is_possible() {
    let home = home_with("");
    let outside = home.path("outside.db");
    Connection::open(&outside).expect("opens").execute_batch("CREATE TABLE secret(x)").expect("created");
    let attach = format!("ATTACH '{}' AS o", outside.display());
    let vacuum = format!("VACUUM INTO '{}'", home.path("copy.db").display());
    for sql in [
        "INSERT INTO person(name) VALUES('x')",
        "DELETE FROM person",
        "UPDATE person SET name='x' RETURNING id",
        "CREATE TABLE t(x)",
        "CREATE TEMP TABLE t(x)",
        "DROP TABLE person",
        "INSERT INTO words(words) VALUES('optimize')",
        "PRAGMA user_version=8",
        "PRAGMA journal_mode=delete",
        "PRAGMA hard_heap_limit=0",
        "PRAGMA temp_store_directory='/tmp'",
        "SELECT load_extension('/tmp/x.so')",
        "BEGIN",
        "REINDEX",
        attach.as_str(),
        vacuum.as_str(),
    ] {
        let run = asked(&home, &[sql]);
        let code = run.status.code().expect("a code");
        let refused = code == 23 && text(&run.stderr).contains("can only be read");
        assert!(
            refused || (code == 2 && sql.contains("load_extension")),
            "{sql}: {code} {}",
            text(&run.stderr)
        );
        assert_eq!(text(&run.stderr).lines().count(), 1, "{sql}: {}", text(&run.stderr));
    }
    assert!(!home.path("copy.db").exists());
    assert!(std::fs::read_dir(home.path("src")).expect("read").all(|e| {
        let name = e.expect("entry").file_name().into_string().expect("text");
        !name.ends_with("-journal")
    }));
}

#[test]
fn wrong_questions_are_told_in_one_line() {
    let home = home_with("");
    std::fs::write(home.path("src/no.db"), "no database at all, by no means").expect("written");
    std::fs::write(home.path("src/empty.db"), "").expect("written");
    home.good(&["backup", "src"]);
    for (sql, code, words) in [
        ("SELEC 1", 2, "syntax error"),
        ("SELECT * FROM persn", 2, "no such table: persn; did you mean `person`?"),
        ("SELECT nix FROM person", 2, "no such column: nix"),
        ("SELECT 1; SELECT 2", 2, "more than one statement"),
        ("", 2, "no statement"),
        ("  -- only a remark", 2, "no statement"),
        ("SELECT abs(-9223372036854775808)", 2, "integer overflow"),
    ] {
        let run = asked(&home, &[sql]);
        assert_eq!(run.status.code(), Some(code), "{sql}: {run:?}");
        assert!(text(&run.stderr).contains(words), "{sql}: {}", text(&run.stderr));
        assert_eq!(text(&run.stderr).lines().count(), 1, "{sql}");
    }
    for (file, words) in [
        ("src/no.db", "no SQLite database"),
        ("src", "is a directory"),
        ("src/x.db", "is not in the snapshot"),
    ] {
        let run = home.run(&["sql", &name(&home, file), "SELECT 1"]);
        assert_eq!(run.status.code(), Some(1), "{file}: {run:?}");
        assert!(text(&run.stderr).contains(words) && text(&run.stderr).contains(file), "{run:?}");
    }
    assert_eq!(home.good(&["sql", "--csv", &name(&home, "src/empty.db"), "SELECT 1"]), "1\n1\n");
    let run = home.run(&["sql", "latest", "SELECT 1"]);
    assert_eq!(run.status.code(), Some(2));
    let run = asked(&home, &["--memory", "1M", "SELECT hex(randomblob(4000000)) ORDER BY 1"]);
    assert!(run.status.code() == Some(1) && text(&run.stderr).contains("--memory"), "{run:?}");
}

#[test]
fn an_endless_question_ends_at_an_interrupt() {
    let home = home_with("");
    let endless = "WITH RECURSIVE c(n) AS (VALUES(1) UNION ALL SELECT n+1 FROM c) SELECT n FROM c";
    for sql in [endless.to_owned(), format!("{endless} WHERE n<90000 OR n<0")] {
        let target = name(&home, "src/app.db");
        let mut command = home.command(&["sql", "--csv", target.as_str(), sql.as_str()]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("runs");
        let mut out = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        out.read_line(&mut line).expect("a line");
        assert_eq!(line, "n\n");
        let id = rustix::process::Pid::from_raw(child.id() as i32).expect("an id");
        rustix::process::kill_process(id, rustix::process::Signal::INT).expect("sent");
        std::io::copy(&mut out, &mut std::io::sink()).expect("read to its end");
        assert_eq!(child.wait().expect("ended").code(), Some(130));
    }
}

#[test]
fn damage_is_exit_20_and_named() {
    let home = home_with("");
    let sizes = |dir: &Path| -> Vec<(std::path::PathBuf, u64)> {
        let mut all = Vec::new();
        let mut dirs = vec![dir.to_path_buf()];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).expect("read") {
                let entry = entry.expect("entry");
                match entry.file_type().expect("type").is_dir() {
                    true => dirs.push(entry.path()),
                    false => all.push((entry.path(), entry.metadata().expect("metadata").len())),
                }
            }
        }
        all
    };
    // The largest file of the repository is the pack with the content; no parity mends so much.
    let (pack, len) = sizes(&home.path("repo")).into_iter().max_by_key(|(_, len)| *len).expect("a file");
    let mut bytes = std::fs::read(&pack).expect("read");
    bytes[100..len as usize - 2000].fill(0x5a);
    let mode = std::fs::metadata(&pack).expect("metadata").permissions();
    std::fs::remove_file(&pack).expect("removed");
    std::fs::write(&pack, bytes).expect("written");
    std::fs::set_permissions(&pack, mode).expect("set");
    let run = asked(&home, &["SELECT sum(length(body)) FROM long"]);
    assert_eq!(run.status.code(), Some(20), "{run:?}");
    assert!(
        text(&run.stderr).contains("chunk ") && text(&run.stderr).contains("app.db"),
        "{}",
        text(&run.stderr)
    );
}

fn dumped(home: &Home, file: &str, into: &Path) {
    let sql = home.run(&["dump", &name(home, file), "--sql"]);
    assert!(sql.status.success(), "{}", text(&sql.stderr));
    let db = Connection::open(into).expect("opens");
    db.execute_batch(&text(&sql.stdout)).expect("SQL that SQLite takes");
}

#[test]
fn a_dump_makes_the_same_database_again() {
    let kinds = [
        "PRAGMA page_size=512; PRAGMA auto_vacuum=2;",
        "PRAGMA page_size=65536; PRAGMA journal_mode=wal;",
        "PRAGMA encoding='UTF-16le';",
        "PRAGMA encoding='UTF-16be'; PRAGMA page_size=1024;",
    ];
    for (number, prefix) in kinds.iter().enumerate() {
        let home = home_with(prefix);
        let again = home.path("again.db");
        dumped(&home, "src/app.db", &again);
        assert_same(&home.path("src/app.db"), &again);
        let db = Connection::open(&again).expect("opens");
        let hits = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("counted");
        assert_eq!(hits("SELECT rowid FROM dark WHERE dark MATCH 'hidden'"), 3, "{number}");
        assert_eq!(hits("SELECT count(*) FROM words WHERE words MATCH 'body'"), 290, "{number}");
        let check: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("checked");
        assert_eq!(check, "ok", "{number}");
    }
}

#[test]
fn the_shell_of_sqlite_reads_a_dump() {
    let home = home_with("");
    let sql = home.run(&["dump", &name(&home, "src/app.db"), "--sql", "--target", "out.sql"]);
    assert!(sql.status.success(), "{}", text(&sql.stderr));
    let input = std::fs::File::open(home.path("out.sql")).expect("opens");
    let again = home.path("again.db");
    let shell = std::process::Command::new("sqlite3").arg(&again).stdin(input).output();
    let Ok(shell) = shell else {
        eprintln!("NOT TRIED: no sqlite3 here");
        return;
    };
    assert!(shell.status.success() && shell.stderr.is_empty(), "{}", text(&shell.stderr));
    assert_same(&home.path("src/app.db"), &again);
}

#[test]
fn one_table_comes_as_sql_csv_or_json() {
    let home = home_with("");
    let app = name(&home, "src/app.db");
    let csv = home.good(&["dump", &app, "--table", "loose", "--csv"]);
    assert_eq!(csv, "a,b\n-1,00ff\n1,x\n2,\n");
    let json = home.good(&["dump", &app, "--table", "KEYED", "--json"]);
    assert_eq!(json.lines().count(), 290);
    let first: Json = serde_json::from_str(json.lines().next().expect("a line")).expect("JSON");
    assert_eq!((&first["k"], &first["n"]), (&"name 1".into(), &1.into()));
    let words = home.good(&["dump", &app, "--table", "words", "--csv"]);
    assert_eq!(words.lines().nth(1), Some("name 1,the body of name 1"));
    let sql = home.good(&["dump", &app, "--table", "person"]);
    let db = Connection::open_in_memory().expect("opens");
    db.execute_batch("CREATE TABLE seen(what)").expect("made");
    db.execute_batch(&sql).expect("SQL");
    let count = db.query_row("SELECT count(*) FROM person", [], |row| row.get::<_, i64>(0)).expect("counted");
    assert_eq!(count, 290);
    assert!(
        sql.contains("CREATE INDEX by_name") && sql.contains("CREATE TRIGGER t"),
        "what belongs to it comes along"
    );
    let run = home.run(&["dump", &app, "--table", "persons", "--csv"]);
    assert_eq!(run.status.code(), Some(1));
    assert!(text(&run.stderr).contains("did you mean `person`?"), "{}", text(&run.stderr));
    for wrong in [&["--csv"][..], &["--sql", "--json"], &["--table", "person", "--csv", "--json"]] {
        let mut all = vec!["dump", app.as_str()];
        all.extend_from_slice(wrong);
        assert_eq!(home.run(&all).status.code(), Some(2), "{wrong:?}");
    }
}
