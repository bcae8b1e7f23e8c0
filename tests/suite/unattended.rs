//! What runs without anybody there, as the program does it: timers and crontabs with stand-ins for the system's tools, the daemon
//! with its signals, watched files, `schedule run`, `log`.

use crate::cli::{Home, text};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// Long enough for a busy machine; nothing waits for it to be over.
const PATIENCE: Duration = Duration::from_secs(120);

const PROFILE: &str = r#"
[repository]
repository = "repo"
password-file = "pass %h $word"
init = true
[jobs]
jitter = "0s"
time-zone = "Europe/Berlin"
[[backup.snapshots]]
name = "app"
sources = ["../../src"]
schedule = ["Mon..Fri *:0/15", "0 4 L * *"]
[[backup.snapshots]]
name = "db"
sources = ["../../src/sub"]
schedule = "every 6h"
[forget]
schedule = "02:30 UTC"
keep-daily = 7
"#;

/// A home with a profile, and stand-ins for the system's tools that write down what they are asked.
fn yard(profile: &str) -> Home {
    let home = Home::new();
    fs::create_dir_all(home.path("config/snapkeep")).expect("a directory");
    fs::write(home.path("config/snapkeep/app.toml"), profile).expect("a profile");
    let secret = home.path("config/snapkeep/pass %h $word");
    fs::write(&secret, "secret word\n").expect("a password");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("private");
    tool(&home, "systemctl", "echo \"$*\" >> \"$0.asked\"");
    let crontab = r#"if [ "$1" = -l ]; then
    if [ -e "$0.broken" ]; then echo "must be privileged to use -u" >&2; exit 1; fi
    if [ -e "$0.table" ]; then cat "$0.table"; else echo "no crontab for me" >&2; exit 1; fi
else cat > "$0.table"; fi"#;
    tool(&home, "crontab", crontab);
    home
}

fn tool(home: &Home, name: &str, script: &str) {
    fs::create_dir_all(home.path("bin")).expect("a directory");
    let path = home.path("bin").join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a script");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("runs");
}

fn command(home: &Home, words: &[&str]) -> Command {
    let mut command = home.command(&[&["-P", "app"], words].concat());
    let path = format!("{}:/usr/bin:/bin", home.path("bin").display());
    command.env("PATH", path).env_remove("SNAPKEEP_REPOSITORY").env_remove("SNAPKEEP_PASSWORD");
    command
}

fn run(home: &Home, words: &[&str]) -> Output {
    command(home, words).output().expect("runs")
}

fn good(home: &Home, words: &[&str]) -> String {
    let output = run(home, words);
    assert!(output.status.success(), "{words:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn json_lines(told: &str) -> Vec<Value> {
    told.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn timers_of_systemd_are_made_verified_replaced_and_taken_away() {
    let home = yard(PROFILE);
    let units = home.path("config/systemd/user");
    fs::create_dir_all(&units).expect("a directory");
    fs::write(units.join("other.timer"), "[Timer]\n").expect("a foreign unit");
    let told = good(&home, &["schedule", "install", "--systemd", "--user"]);
    let wanted = ["backup-app", "backup-db", "forget"];
    let mut names: Vec<String> = wanted
        .iter()
        .flat_map(|job| [format!("snapkeep-app-{job}.service"), format!("snapkeep-app-{job}.timer")])
        .collect();
    names.insert(0, "other.timer".to_owned());
    assert_eq!(names_in(&units), names);
    assert!(told.contains("installed: snapkeep-app-forget.timer"), "{told}");
    let timer = fs::read_to_string(units.join("snapkeep-app-backup-app.timer")).expect("a timer");
    assert!(
        timer.contains("OnCalendar=Mon,Tue,Wed,Thu,Fri *-*-* *:00,15,30,45:00 Europe/Berlin\n"),
        "{timer}"
    );
    assert!(
        timer.contains("OnCalendar=*-*~01 04:00:00 Europe/Berlin\n") && timer.contains("Persistent=true"),
        "{timer}"
    );
    let forget = fs::read_to_string(units.join("snapkeep-app-forget.timer")).expect("a timer");
    assert!(forget.contains("OnCalendar=*-*-* 02:30:00 UTC\n"), "{forget}");
    let db = fs::read_to_string(units.join("snapkeep-app-backup-db.timer")).expect("a timer");
    assert!(db.contains("OnUnitActiveSec=21600s"), "{db}");
    let service = fs::read_to_string(units.join("snapkeep-app-backup-db.service")).expect("a service");
    assert!(
        service.contains("\"schedule\" \"run\" \"backup:db\"") && !service.contains("secret"),
        "{service}"
    );
    let asked = fs::read_to_string(home.path("bin/systemctl.asked")).expect("asked");
    let enabled = "--user enable --now snapkeep-app-backup-app.timer snapkeep-app-backup-db.timer snapkeep-app-forget.timer";
    assert_eq!(asked, format!("--user daemon-reload\n{enabled}\n"));
    verify_units(&units, &names[1..]);

    // A profile with less in it leaves nothing behind.
    let less = PROFILE.replace("schedule = \"every 6h\"", "");
    fs::write(home.path("config/snapkeep/app.toml"), less).expect("a profile");
    good(&home, &["schedule", "install", "--systemd", "--user"]);
    let asked = fs::read_to_string(home.path("bin/systemctl.asked")).expect("asked");
    assert!(asked.contains("--user disable --now snapkeep-app-backup-db.timer\n"), "{asked}");
    assert!(!units.join("snapkeep-app-backup-db.service").exists());
    assert!(good(&home, &["schedule", "remove", "--user"]).contains("removed: snapkeep-app-forget.timer"));
    assert_eq!(names_in(&units), ["other.timer"]);
    assert!(good(&home, &["schedule", "remove", "--user"]).contains("nothing is installed"));

    // What is not ours stays, and what systemd refuses is told.
    fs::write(units.join("snapkeep-app-forget.timer"), "[Timer]\n").expect("a foreign unit");
    let refused = run(&home, &["schedule", "install", "--user"]);
    assert_eq!(refused.status.code(), Some(23), "{}", text(&refused.stderr));
    fs::remove_file(units.join("snapkeep-app-forget.timer")).expect("gone");
    tool(&home, "systemctl", "echo 'Failed to connect to bus' >&2; exit 1");
    let failed = run(&home, &["schedule", "install", "--user"]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(text(&failed.stderr).contains("Failed to connect to bus"));
}

/// By systemd's own judgement, where it is here.
fn verify_units(dir: &Path, names: &[String]) {
    let paths: Vec<_> = names.iter().map(|name| dir.join(name)).collect();
    match Command::new("systemd-analyze").args(["verify", "--man=no"]).args(&paths).output() {
        Ok(output) => {
            let told = text(&output.stderr);
            let ours = told.lines().filter(|line| line.contains("snapkeep-app"));
            assert!(output.status.success() && ours.count() == 0, "{told}");
        }
        Err(e) => println!("NOT TRIED: units verified by systemd-analyze: {e}"),
    }
}

#[test]
fn a_crontab_keeps_every_foreign_byte() {
    let home = yard(PROFILE);
    let table = home.path("bin/crontab.table");
    let foreign: &[u8] = b"MAILTO=\"\"\n# caf\xe9\n5 4 * * * echo 50\\% done";
    fs::write(&table, foreign).expect("a table");
    good(&home, &["schedule", "install", "--cron"]);
    let after = fs::read(&table).expect("a table");
    assert!(after.starts_with(foreign));
    let told = text(&after);
    let line = told.lines().find(|line| line.starts_with("*/5 * * * * ")).expect("a line of ours");
    assert!(line.ends_with("schedule run --due") && !told.contains("secret"), "{line}");
    good(&home, &["schedule", "install", "--cron"]);
    assert_eq!(fs::read(&table).expect("a table"), after, "a second time changes nothing");
    // The line does what it says, by the shell that cron would use.
    let shell = line.trim_start_matches("*/5 * * * * ").replace("\\%", "%");
    let done = Command::new("/bin/sh")
        .args(["-c", &shell])
        .env_clear()
        .env("SNAPKEEP_INSECURE_FAST_KDF", "1")
        .output();
    let done = done.expect("runs");
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert_eq!(good(&home, &["schedule", "remove", "--user"]), "removed: crontab\n");
    assert_eq!(fs::read(&table).expect("a table"), [foreign, b"\n"].concat());
    // A table that cannot be read, or is not as we left it, is never written.
    fs::write(home.path("bin/crontab.broken"), "").expect("broken");
    assert_eq!(run(&home, &["schedule", "install", "--cron"]).status.code(), Some(1));
    assert_eq!(fs::read(&table).expect("a table"), [foreign, b"\n"].concat());
    fs::remove_file(home.path("bin/crontab.broken")).expect("mended");
    let half: Vec<u8> = after
        .split_inclusive(|b| *b == b'\n')
        .filter(|l| !l.starts_with(b"# END"))
        .flatten()
        .copied()
        .collect();
    fs::write(&table, &half).expect("a table");
    assert_eq!(run(&home, &["schedule", "install", "--cron"]).status.code(), Some(23));
    assert_eq!(fs::read(&table).expect("a table"), half);
}

#[test]
fn a_run_at_one_target_puts_nothing_off_for_the_other() {
    let second = "[[target]]\nname = \"usb\"\nrepository = \"second\"\ninit = true\n";
    let home = yard(&format!("{PROFILE}{second}"));
    let overdue = || good(&home, &["schedule", "next"]).contains("backup:db  (overdue)");
    good(&home, &["--to", "usb", "backup", "--name", "db"]);
    assert!(overdue());
    good(&home, &["schedule", "run", "backup:db", "--to", "usb"]);
    assert!(overdue(), "the first repository has none");
    good(&home, &["schedule", "run", "backup:db"]);
    assert!(!overdue());
}

#[test]
fn what_is_overdue_runs_once_and_is_told() {
    let home = yard(PROFILE);
    let next = good(&home, &["schedule", "next"]);
    assert!(next.lines().next().expect("a line").ends_with("backup:db  (overdue)"), "{next}");
    good(&home, &["schedule", "run", "--due"]);
    good(&home, &["schedule", "run", "--due"]);
    let jobs = |words: &[&str]| {
        let all = json_lines(&good(&home, &[&["log", "--json"], words].concat()));
        all.iter()
            .filter(|r| r["command"] == "job")
            .map(|r| r["job"].as_str().expect("a job").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        jobs(&[]),
        ["backup:db"],
        "an interval that never ran is due; the others wait for their moment"
    );
    let list = good(&home, &["schedule", "list"]);
    assert!(list.lines().all(|line| line.chars().count() <= 80), "{list}");
    good(&home, &["schedule", "run", "backup:app"]);
    let failed = run(&home, &["schedule", "run", "backup:nosuch"]);
    assert_eq!(failed.status.code(), Some(2));
    assert!(text(&failed.stderr).contains("backup:app"), "the jobs there are are named");
    assert_eq!(jobs(&["--job", "backup:app"]), ["backup:app"]);
    let all = json_lines(&good(&home, &["log", "--json"]));
    assert!(
        all.iter()
            .any(|r| r["job"] == "backup:app" && r["trigger"] == "schedule" && r["target"] == "primary")
    );
    let table = good(&home, &["log", "--outcome", "ok", "--limit", "3"]);
    assert_eq!(table.lines().count(), 5, "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    assert_eq!(run(&home, &["log", "--outcome", "fine"]).status.code(), Some(2));
    // One that runs is not begun again.
    let lock = fs::File::create(home.path("state/snapkeep/jobs/app.backup:app.lock")).expect("a lock");
    lock.lock().expect("held");
    let skipped = good(&home, &["schedule", "run", "backup:app"]);
    assert!(skipped.contains("SKIPPED") && skipped.contains("running already"), "{skipped}");
}

/// A daemon and the lines that it says.
struct Running {
    child: Child,
    said: Receiver<String>,
}

impl Running {
    fn start(home: &Home, words: &[&str]) -> Self {
        let mut child =
            command(home, words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
        let (send, said) = channel();
        let out = child.stdout.take().expect("piped");
        let err = child.stderr.take().expect("piped");
        for stream in [Box::new(out) as Box<dyn std::io::Read + Send>, Box::new(err)] {
            let send = send.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let _ = send.send(line);
                }
            });
        }
        Running { child, said }
    }

    /// Waits for a line that holds this.
    fn expect(&self, wanted: &str) -> String {
        let mut seen = Vec::new();
        loop {
            let line =
                self.said.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no `{wanted}` in {seen:#?}"));
            if line.contains(wanted) {
                return line;
            }
            seen.push(line);
        }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().expect("runs").success());
    }

    fn end(mut self) -> Option<i32> {
        self.child.wait().expect("ends").code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_daemon_reads_its_profile_again_and_ends_what_runs_when_told() {
    let slow = PROFILE.replace(
        "schedule = \"every 6h\"",
        "schedule = \"every 6h\"\nhooks = { run-before = [\"touch began; sleep 600\"] }",
    );
    let home = yard(&slow);
    let daemon = Running::start(&home, &["daemon", "-v"]);
    daemon.expect("backup:db begins (daemon)");
    fs::write(home.path("config/snapkeep/app.toml"), "[jobs]\njiter = 1\n").expect("a mistake");
    daemon.signal("HUP");
    assert!(daemon.expect("the old one holds on").contains("jitter"));
    fs::write(home.path("config/snapkeep/app.toml"), &slow).expect("mended");
    daemon.signal("HUP");
    daemon.expect("the profile was read again");
    while !home.path("began").exists() {
        std::thread::sleep(Duration::from_millis(20));
    }
    daemon.signal("TERM");
    daemon.expect("backup:db");
    assert_eq!(daemon.end(), Some(0));
    let states = fs::read_to_string(home.path("state/snapkeep/jobs/app.json")).expect("states");
    let states: Value = serde_json::from_str(&states).expect("JSON");
    assert!(states["forget"]["next"].is_string(), "what is planned is written down");
    assert!(states["backup:db"]["last_start"].is_string(), "{states}");
}

#[test]
fn changed_files_become_a_backup_and_directories_may_come_and_go() {
    let profile = r#"
[repository]
repository = "repo"
password-file = "pass %h $word"
init = true
[[backup.snapshots]]
name = "app"
sources = ["../../src", "../../later"]
watch = { debounce = "1s", max-delay = "5s" }
"#;
    let home = yard(profile);
    fs::create_dir_all(home.path("later")).expect("a directory");
    let watch = Running::start(&home, &["watch"]);
    watch.expect("ok: snapshot");
    fs::create_dir_all(home.path("src/new/deep")).expect("directories");
    fs::write(home.path("src/new/deep/file"), "one").expect("a file");
    watch.expect("ok: snapshot");
    fs::remove_dir_all(home.path("later")).expect("gone");
    fs::create_dir_all(home.path("later")).expect("back");
    fs::write(home.path("later/again"), "two").expect("a file");
    watch.expect("snapshot");
    fs::write(home.path("src/new/deep/file"), "three").expect("changed");
    watch.expect("snapshot");
    // A database whose changes stand in its log, while it is open.
    let db = rusqlite::Connection::open(home.path("src/app.db")).expect("a database");
    db.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES (1)").expect("made");
    watch.expect("ok: snapshot");
    db.execute_batch("INSERT INTO t VALUES (2)").expect("changed");
    watch.expect("ok: snapshot");
    watch.signal("TERM");
    assert_eq!(watch.end(), Some(0));
    let listed = good(&home, &["ls", "latest"]);
    assert!(listed.contains("new/deep/file"), "{listed}");
    assert_eq!(run(&yard(PROFILE), &["watch"]).status.code(), Some(2), "nothing to watch");
}
