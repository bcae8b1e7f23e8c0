//! Commands under guard: migrations that fail half way, empty a table, corrupt a database, go well; programs that are not there;
//! signals; and what is left when the guard itself is killed.

use crate::cli::{Home, text};
use crate::guided::{CTRL_C, Terminal};
use crate::in_place::{Tree, code, tree};
use crate::sqlite_live::{Process, create};
use rusqlite::Connection;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The migration: statements from a variable, carried out on a database; code 7 when one fails.
#[test]
fn migration() {
    let Ok(sql) = std::env::var("SNAPKEEP_TEST_MIGRATION") else { return };
    let db = Connection::open(std::env::var_os("SNAPKEEP_TEST_DB").expect("a database")).expect("opens");
    db.busy_timeout(Duration::from_secs(20)).expect("set");
    // As a migration that does not know transactions.
    for statement in sql.split(';').filter(|s| !s.trim().is_empty()) {
        if let Err(e) = db.execute_batch(statement) {
            eprintln!("{statement}: {e}");
            std::process::exit(7);
        }
    }
}

fn yard(mode: &str) -> Home {
    let home = Home::new();
    home.good(&["init"]);
    create(&home.path("src/app.db"), mode, 4096);
    home
}

fn guarded(home: &Home, options: &[&str], sql: &str) -> Command {
    let exe = std::env::current_exe().expect("this program").to_string_lossy().into_owned();
    let words =
        [&["run", "--source", "src"], options, &["--", &exe, "--exact", "guard::migration", "--nocapture"]];
    let mut command = home.command(&words.concat());
    command.env("SNAPKEEP_TEST_MIGRATION", sql).env("SNAPKEEP_TEST_DB", home.path("src/app.db"));
    command
}

fn migrate(home: &Home, options: &[&str], sql: &str) -> Output {
    guarded(home, options, sql).output().expect("runs")
}

fn ask(path: &Path, sql: &str) -> i64 {
    Connection::open(path).expect("opens").query_row(sql, [], |row| row.get(0)).expect("an answer")
}

/// The tree is as it was; the database by what it holds, since its pages may have been exchanged.
fn assert_as(home: &Home, before: &Tree, what: &str) {
    let mut now = tree(&home.path("src"));
    let mut then = before.clone();
    if then.remove("app.db").is_some() && now.remove("app.db").is_some() {
        let db = home.path("src/app.db");
        let verdict = Connection::open(&db)
            .expect("opens")
            .query_row("PRAGMA integrity_check", [], |r| r.get::<_, String>(0));
        assert_eq!(verdict.expect("checked"), "ok", "{what}");
        assert_eq!(ask(&db, "SELECT sum(balance) FROM account"), 500_000, "{what}");
    }
    let names: Vec<&String> = now.keys().chain(then.keys()).filter(|k| now.get(*k) != then.get(*k)).collect();
    assert!(names.is_empty(), "{what}: {names:?} are not as before");
}

fn last(run: &Output) -> Value {
    serde_json::from_str(text(&run.stdout).lines().last().expect("a line")).expect("JSON")
}

fn snapshots(home: &Home) -> Vec<Value> {
    serde_json::from_str(&home.good(&["snapshots", "--json"])).expect("JSON")
}

#[test]
fn a_migration_that_fails_half_way_is_taken_back() {
    for mode in ["wal", "delete"] {
        let home = yard(mode);
        let before = tree(&home.path("src"));
        // A program that has the database open goes on with the old state.
        let mut open = Process::start("shell", &home.path("src/app.db"), 0);
        open.must("SELECT n FROM counter");
        let sql = "CREATE TABLE half(x); DELETE FROM account WHERE id<100; INSERT INTO nowhere VALUES (1)";
        let run = migrate(&home, &[], sql);
        assert_eq!(code(&run), 7, "{run:?}");
        let said = text(&run.stderr);
        assert!(
            said.contains("nowhere") && said.contains("the sources are as they were before it"),
            "{said}"
        );
        assert_eq!(open.must("SELECT count(*) FROM account"), "Integer(500)", "{said}");
        assert!(open.run("SELECT * FROM half").starts_with("error"));
        drop(open);
        assert_eq!(ask(&home.path("src/app.db"), "SELECT count(*) FROM account"), 500);
        let after = tree(&home.path("src"));
        assert_eq!(after.get("a.txt"), before.get("a.txt"));
        // What it left can be had all the same.
        home.good(&["undo", "--yes"]);
        assert_eq!(ask(&home.path("src/app.db"), "SELECT count(*) FROM account"), 401);
    }
}

#[test]
fn files_go_back_too_and_new_ones_go() {
    let home = yard("delete");
    fs::write(home.path("src/.snapkeepignore"), "*.bin\n").expect("written");
    let before = tree(&home.path("src"));
    let script = "echo new > src/new.txt; mkdir src/made; echo x > src/made/y; rm src/sub/b.bin; echo no > src/a.txt; echo out; exit 3";
    let words = ["run", "--source", "src", "--", "sh", "-c", script];
    let run = home.run(&words);
    assert_eq!(code(&run), 3, "{run:?}");
    assert_eq!(text(&run.stdout), "out\n", "standard output is the command's alone");
    assert_as(&home, &before, "what rules leave out elsewhere is stored and put back, too");
    let run = home.run(&["run", "--source", "src", "--keep-new", "--", "sh", "-c", script]);
    assert_eq!(code(&run), 3, "{run:?}");
    assert!(home.path("src/made/y").exists() && home.path("src/sub/b.bin").exists());
    fs::remove_dir_all(home.path("src/made")).expect("removed");
    fs::remove_file(home.path("src/new.txt")).expect("removed");
    // Left alone when asked for, and the line that is printed goes back.
    let run = home.run(&["run", "--source", "src", "--no-rollback", "--", "sh", "-c", script]);
    assert_eq!(code(&run), 3, "{run:?}");
    assert!(!home.path("src/sub/b.bin").exists());
    let said = text(&run.stderr);
    let line = said.lines().find_map(|l| l.split_once("To go back: ")).expect("the way back").1.to_owned();
    let words: Vec<&str> = line.split_whitespace().skip(1).collect();
    home.good(&words);
    assert_as(&home, &before, "the line that was printed");
}

#[test]
fn what_a_command_leaves_is_judged() {
    let cases: &[(&str, &[&str], &str)] = &[
        ("DELETE FROM account", &[], "the table account has 0 of 500 rows left, a loss of 100 %"),
        ("DELETE FROM account WHERE id%3<2", &[], "a loss of 67 %"),
        ("DELETE FROM account WHERE id%10=0", &["--max-row-loss", "5"], "a loss of 10 %"),
        ("DROP TABLE account", &[], "the table account with 500 rows is gone"),
        (
            "PRAGMA user_version=2",
            &["--user-version-step", "1"],
            "user_version is 2 and must be 1; it was 0 before",
        ),
        (
            "PRAGMA user_version=2",
            &["--expect-user-version", "src/app.db=3"],
            "user_version is 2 and must be 3",
        ),
        (
            "PRAGMA foreign_keys=OFF; CREATE TABLE child(id INTEGER PRIMARY KEY, a REFERENCES account(id)); INSERT INTO child VALUES (1, 7777)",
            &[],
            "1 row more than before refer to rows that are not there",
        ),
        (
            "PRAGMA writable_schema=ON; UPDATE sqlite_schema SET rootpage=3 WHERE name='account'",
            &[],
            "the database is damaged",
        ),
    ];
    let home = yard("wal");
    let db = home.path("src/app.db");
    for (sql, options, wanted) in cases {
        let run = migrate(&home, options, sql);
        assert_eq!(code(&run), 24, "{sql}: {run:?}");
        assert!(text(&run.stderr).contains(wanted), "{sql}: {}", text(&run.stderr));
        assert_eq!(ask(&db, "SELECT count(*) FROM account"), 500, "{sql}");
        assert_eq!(ask(&db, "PRAGMA user_version"), 0, "{sql}");
    }
    // No state that was found bad is the latest one.
    for listed in snapshots(&home) {
        let tags = listed["tags"].to_string();
        assert!(tags.contains("before-run") || tags.contains("before-restore"), "{tags}");
    }
    let allowed = ["--may-lose", "account", "--expect-user-version", "5"];
    let run = migrate(&home, &allowed, "DELETE FROM account; PRAGMA user_version=5");
    assert_eq!(code(&run), 0, "{run:?}");
    assert_eq!(ask(&db, "SELECT count(*) FROM account"), 0);
}

#[test]
fn a_corrupted_or_removed_database_is_put_back() {
    for script in [
        "dd if=/dev/zero of=src/app.db bs=4096 seek=3 count=4 conv=notrunc 2>/dev/null",
        "echo nothing > src/app.db",
        "rm src/app.db",
        "rm -r src",
    ] {
        let home = yard("delete");
        let before = tree(&home.path("src"));
        let run = home.run(&["run", "--source", "src", "--", "sh", "-c", script]);
        assert_eq!(code(&run), 24, "{script}: {run:?}");
        assert_as(&home, &before, &format!("{script}: {run:?}"));
    }
}

#[test]
fn what_goes_well_is_stored_with_its_story() {
    let home = yard("wal");
    fs::create_dir(home.path("src/.snapkeep")).expect("made");
    fs::write(home.path("src/.snapkeep/rules.toml"), "[[rule]]\nname = \"notes\"\npaths = \"*.txt\"\n")
        .expect("written");
    let sql = "ALTER TABLE account ADD COLUMN extra; PRAGMA user_version=1";
    let run = migrate(&home, &["--json", "--user-version-step", "1", "--tag", "v1", "--label", "first"], sql);
    assert_eq!(code(&run), 0, "{run:?}");
    assert!(
        text(&run.stdout).lines().all(|line| line.starts_with('{')),
        "only JSON on standard output: {run:?}"
    );
    let end = last(&run);
    assert_eq!(
        (&end["validated"], &end["rolled_back"], &end["command_exit_code"]),
        (&true.into(), &false.into(), &0.into())
    );
    let all = snapshots(&home);
    assert_eq!(all.len(), 2);
    assert_eq!((&all[0]["id"], &all[1]["id"]), (&end["snapshot_before"], &end["snapshot_after"]));
    let guarded = &all[1]["guarded"];
    assert_eq!(guarded["before"], all[0]["id"]);
    let version = &guarded["user_versions"][0];
    assert_eq!((&version["before"], &version["after"]), (&0.into(), &1.into()));
    // Arguments may hold secrets.
    assert!(!all[1].to_string().contains("guard::migration") && !all[1].to_string().contains("--nocapture"));
    assert!(all[1]["tags"].to_string().contains("after-run") && all[1]["tags"].to_string().contains("v1"));
    assert_eq!(all[1]["label"], "first");
    assert_eq!(home.good(&["snapshots", "--tag", "before-run"]).lines().last(), Some("1 snapshot"));
    let told = home.good(&["snapshots", "-v"]);
    assert!(told.contains("user_version of") && told.contains("0 → 1"), "{told}");
    // Rules that do not hold any more.
    let run = home.run(&["run", "--source", "src", "--", "rm", "src/a.txt"]);
    assert_eq!(code(&run), 24, "{run:?}");
    assert!(text(&run.stderr).contains("rule notes") && home.path("src/a.txt").exists(), "{run:?}");
    // Not even by taking the rules away.
    let run = home.run(&["run", "--source", "src", "--", "rm", "-r", "src/a.txt", "src/.snapkeep"]);
    assert_eq!(code(&run), 24, "{run:?}");
    assert!(home.path("src/a.txt").exists() && home.path("src/.snapkeep/rules.toml").exists());
}

#[test]
fn nothing_is_done_for_a_command_that_is_not_there() {
    let home = yard("delete");
    for (program, wanted) in [("no-such-program", 127), ("./nothing", 127), ("./src/a.txt", 126), ("/", 126)]
    {
        let run = home.run(&["run", "--source", "src", "--", program]);
        assert_eq!(code(&run), wanted, "{program}: {run:?}");
    }
    assert_eq!(snapshots(&home).len(), 0);
    assert_eq!(code(&home.run(&["run", "--source", "src"])), 2);
    assert_eq!(code(&home.run(&["run", "--source", "nowhere", "--", "true"])), 1);
    assert_eq!(code(&home.run(&["run", "--source", "src", "--user-version-step", "x", "--", "true"])), 2);
    // A link is stored as a link, so that nothing behind it could be put back.
    std::os::unix::fs::symlink("src", home.path("link")).expect("linked");
    let run = home.run(&["run", "--source", "link", "--", "touch", "src/ran"]);
    assert!(code(&run) == 2 && !home.path("src/ran").exists(), "{run:?}");
    fs::remove_file(home.path("link")).expect("removed");
    // The repository lies in the source: going back would delete it.
    let run = home.run(&["run", "--", "true"]);
    assert!(code(&run) == 23 && text(&run.stderr).contains("--keep-new"), "{run:?}");
    // What cannot be stored whole cannot be put back whole.
    let db = Connection::open(home.path("src/app.db")).expect("opens");
    db.execute_batch("PRAGMA locking_mode=EXCLUSIVE; BEGIN EXCLUSIVE;").expect("locked");
    let run = home.run(&["run", "--source", "src", "--sqlite-wait", "1s", "--", "touch", "src/ran"]);
    assert!(code(&run) == 23 && !home.path("src/ran").exists(), "{run:?}");
}

/// The same command with no signal ignored, even where these tests run under `nohup`.
fn hearing(like: &Command) -> Command {
    let mut command = Command::new("env");
    command.arg("--default-signal=HUP,INT,TERM").arg(like.get_program()).args(like.get_args()).env_clear();
    for (name, value) in like.get_envs() {
        value.map(|value| command.env(name, value));
    }
    like.get_current_dir().map(|dir| command.current_dir(dir));
    command
}

#[test]
fn signals_are_the_commands() {
    let home = yard("delete");
    let before = tree(&home.path("src"));
    for (signal, wanted) in [("TERM", 143), ("INT", 130), ("HUP", 129)] {
        // It tells that it runs, and ends by the signal itself.
        let script = "echo half > src/a.txt; echo ready; exec sleep 600";
        let mut guard = hearing(&home.command(&["run", "--source", "src", "--", "sh", "-c", script]))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("runs");
        let mut line = String::new();
        let mut out = std::io::BufReader::new(guard.stdout.take().expect("piped"));
        std::io::BufRead::read_line(&mut out, &mut line).expect("a line");
        assert_eq!(line, "ready\n");
        let sent = Command::new("kill").args(["-s", signal, &guard.id().to_string()]).status();
        assert!(sent.expect("sent").success());
        let ended = guard.wait_with_output().expect("ends");
        assert_eq!(ended.status.code(), Some(wanted), "{signal}: {ended:?}");
        assert_as(&home, &before, signal);
    }
}

/// On a terminal the key reaches the command and us at the same time: the command hears it once.
#[test]
fn ctrl_c_is_heard_once_and_everything_goes_back() {
    let home = yard("delete");
    let before = tree(&home.path("src"));
    let script = "trap 'echo heard >> heard' INT\necho half > src/a.txt\necho ready\nsleep 600\nexit 9\n";
    fs::write(home.path("work.sh"), script).expect("written");
    let words = ["run", "--source", "src", "--", "sh", "work.sh"];
    let Some(mut terminal) = Terminal::start(&home, &words) else { return };
    terminal.expect("ready");
    terminal.press(CTRL_C);
    terminal.expect("the sources are as they were before it");
    assert_eq!(terminal.end(), 9);
    assert_eq!(fs::read(home.path("heard")).expect("read"), b"heard\n");
    assert_as(&home, &before, "Ctrl-C");
}

/// What was started to outlive its terminal does.
#[test]
fn a_command_under_nohup_hears_no_hangup() {
    let home = yard("delete");
    let exe = env!("CARGO_BIN_EXE_snapkeep");
    let script = "kill -HUP $PPID; sleep 1; kill -HUP $$; echo alive";
    let line = format!("trap '' HUP; exec {exe} run --source src -- sh -c '{script}'");
    let like = home.command(&[""; 0]);
    let mut command = Command::new("sh");
    command.args(["-c", &line]).current_dir(home.path("")).env_clear();
    for (name, value) in like.get_envs() {
        value.map(|value| command.env(name, value));
    }
    let run = command.output().expect("runs");
    assert_eq!((code(&run), text(&run.stdout).as_str()), (0, "alive\n"), "{run:?}");
}

#[test]
fn who_finds_the_guard_killed_knows_the_way_back() {
    let home = yard("wal");
    let before = ask(&home.path("src/app.db"), "SELECT sum(balance) FROM account");
    let script = "echo half > src/a.txt; echo ready; exec sleep 600";
    let mut guard = home
        .command(&["run", "--source", "src", "--", "sh", "-c", script])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("runs");
    let until = Instant::now() + Duration::from_secs(60);
    while fs::read(home.path("src/a.txt")).expect("read") != b"half\n" {
        assert!(Instant::now() < until, "the command never ran");
        std::thread::sleep(Duration::from_millis(20));
    }
    // The command outlives its guard; whoever started it ends it.
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", guard.id())).unwrap_or_default();
    guard.kill().expect("killed");
    let mut said = String::new();
    let pid = children.split_whitespace().next().map(str::to_owned);
    if let Some(pid) = &pid {
        let _ = Command::new("kill").args(["-9", pid]).status();
    }
    std::io::Read::read_to_string(&mut guard.stderr.take().expect("piped"), &mut said).expect("read");
    guard.wait().expect("ended");
    assert!(pid.is_some(), "the kernel tells of children");
    let line = said.lines().find_map(|l| l.split_once("by hand: ")).expect("the way back").1.to_owned();
    home.good(&line.split_whitespace().skip(1).collect::<Vec<_>>());
    assert_eq!(fs::read(home.path("src/a.txt")).expect("read"), b"hello\n");
    assert_eq!(ask(&home.path("src/app.db"), "SELECT sum(balance) FROM account"), before);
}
