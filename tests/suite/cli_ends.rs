//! How commands end when something is in their way, and what they say then.

use crate::cli::{Home, text};
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// Runs with nobody at the other end of standard output.
fn unread(mut command: Command) -> Output {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    command.stdout(writer).stderr(Stdio::piped()).output().expect("runs")
}

fn largest_pack(home: &Home) -> PathBuf {
    let shards = std::fs::read_dir(home.path("repo/packs")).expect("packs");
    let packs = shards.flat_map(|shard| std::fs::read_dir(shard.expect("entry").path()).expect("a shard"));
    let packs = packs.map(|pack| pack.expect("entry").path());
    packs.max_by_key(|p| p.metadata().expect("there").len()).expect("a pack")
}

fn damage(home: &Home) {
    let pack = largest_pack(home);
    std::fs::set_permissions(&pack, std::fs::Permissions::from_mode(0o600)).expect("writable");
    let mut bytes = std::fs::read(&pack).expect("readable");
    bytes[200] ^= 1;
    std::fs::write(pack, bytes).expect("written");
}

#[test]
fn a_reader_that_went_away_does_not_hide_how_it_ended() {
    let home = Home::with_snapshot();
    assert_eq!(unread(home.command(&["backup", "src", "nowhere"])).status.code(), Some(3));
    let snapshot = std::fs::read_dir(home.path("repo/snapshots")).expect("snapshots").next();
    let snapshot = snapshot.expect("one").expect("entry").path();
    let full = || File::options().write(true).open("/dev/full").expect("a full disk");
    let told = home.command(&["backup", "src"]).stdout(full()).output().expect("runs");
    assert_eq!(told.status.code(), Some(0), "{}", text(&told.stderr));
    assert!(text(&told.stderr).contains("warning: cannot write the output"));
    let partly = home.command(&["backup", "src", "nowhere"]).stdout(full()).output().expect("runs");
    assert_eq!(partly.status.code(), Some(3));
    let made = home.command(&["init", "-r", "second"]).stdout(full()).output().expect("runs");
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    let begun = unread(home.command(&["backup", "-r", "third", "--init", "src"]));
    assert_eq!(begun.status.code(), Some(0), "{}", text(&begun.stderr));
    assert!(home.good(&["snapshots", "-r", "third"]).contains("src"), "it goes on to back up");
    damage(&home);
    assert_eq!(unread(home.command(&["check", "--read-data"])).status.code(), Some(20));
    std::fs::set_permissions(&snapshot, std::fs::Permissions::from_mode(0o600)).expect("writable");
    std::fs::write(&snapshot, "no snapshot").expect("written");
    let told = home.run(&["snapshots"]);
    assert!(text(&told.stderr).contains("second copy"), "{}", text(&told.stderr));
    assert_eq!(told.status.code(), Some(0));
    let id = snapshot.file_name().expect("a name").to_string_lossy().into_owned();
    std::fs::remove_file(home.path(&format!("repo/copies/snapshot-{id}"))).expect("removed");
    assert_eq!(unread(home.command(&["snapshots"])).status.code(), Some(20));
}

#[test]
fn no_name_can_forge_a_line() {
    let home = Home::with_snapshot();
    let output = home.run(&["--log-file", "log", "backup", "src", "new\nerror: fake line\x1b[2J"]);
    assert_eq!(output.status.code(), Some(3));
    let log = std::fs::read_to_string(home.path("log")).expect("a log");
    for told in [text(&output.stderr), log] {
        assert!(told.contains("new\\nerror: fake line\\u{1b}[2J"), "{told}");
        assert!(!told.lines().any(|line| line.starts_with("error: fake")), "{told}");
        assert!(!told.contains('\x1b'), "{told}");
    }
    let alone = home.run(&["backup", "new\nerror: fake line"]);
    assert_eq!(text(&alone.stderr).lines().count(), 1, "{}", text(&alone.stderr));
}

#[test]
fn every_problem_is_named() {
    let home = Home::with_snapshot();
    let mut arguments = vec!["backup".to_owned(), "src".to_owned()];
    arguments.extend((0..50).map(|n| format!("nowhere-{n}-")));
    let told = text(&home.run(&arguments).stderr);
    assert!((0..50).all(|n| told.contains(&format!("nowhere-{n}-"))), "{told}");
}

#[test]
fn restored_damage_is_exit_code_20() {
    let home = Home::with_snapshot();
    damage(&home);
    // With parity a restore gets round it.
    std::fs::remove_dir_all(home.path("repo/parity")).expect("removed");
    for target in ["one", "two", "three"] {
        let output = home.run(&["restore", "latest", "-t", target]);
        assert_eq!(output.status.code(), Some(20), "{}", text(&output.stderr));
    }
}

#[test]
fn a_restore_that_cannot_be_meant_is_refused_in_one_line() {
    let home = Home::with_snapshot();
    for dry in [&[][..], &["--dry-run"]] {
        let nothing = home.run(&[&["restore", "latest", "-t", "out", "--include", "nosuch"], dry].concat());
        assert_eq!(nothing.status.code(), Some(1));
        assert_eq!(text(&nothing.stderr), "error: nothing in the snapshot matches\n");
    }
    assert!(!home.path("out").exists());
    home.good(&["restore", "latest", "-t", "out", "--include", "a.txt"]);
    let file = home.run(&["restore", "latest", "-t", "src/a.txt"]);
    assert_eq!(file.status.code(), Some(1));
    assert_eq!(text(&file.stderr), "error: src/a.txt is not a directory\n");
}

#[test]
fn what_lies_inside_the_repository_is_no_source() {
    let home = Home::with_snapshot();
    std::os::unix::fs::symlink("repo", home.path("door")).expect("a link");
    for source in ["repo/packs", "repo", "door/packs"] {
        let refused = home.run(&["backup", "src", source]);
        assert_eq!(refused.status.code(), Some(1));
        assert!(text(&refused.stderr).contains("inside the repository"), "{}", text(&refused.stderr));
    }
    home.good(&["backup", "."]);
    home.good(&["backup", "door"]);
}

#[test]
fn a_first_password_names_the_places_it_can_come_from() {
    let home = Home::new();
    let none = home.command(&["init"]).env_remove("SNAPKEEP_PASSWORD").output().expect("runs");
    assert_eq!(none.status.code(), Some(2));
    let told = text(&none.stderr);
    assert!(told.contains("SNAPKEEP_PASSWORD") && told.contains("--password-command"), "{told}");
    assert!(!told.contains("NEW_PASSWORD") && !told.contains("--new"), "{told}");
    let empty = home.command(&["init"]).env("SNAPKEEP_PASSWORD", "").output().expect("runs");
    assert_eq!(empty.status.code(), Some(1));
    assert!(text(&empty.stderr).contains("the password is empty"), "{}", text(&empty.stderr));
}

#[test]
fn a_hangup_ends_a_backup_in_order() {
    let home = Home::with_snapshot();
    let backup = home.command(&["backup", "--stdin-from-command", "--", "sleep", "1"]);
    // These tests may themselves run where hangups are ignored, which is inherited and respected.
    let mut command = Command::new("env");
    command.arg("--default-signal=HUP").arg(backup.get_program()).args(backup.get_args());
    command.env_clear().envs(backup.get_envs().filter_map(|(name, value)| value.map(|value| (name, value))));
    command.current_dir(home.path(".")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("started");
    while std::fs::read_dir(home.path("repo/sessions")).expect("sessions").next().is_none() {
        assert!(child.try_wait().expect("asked").is_none(), "it should still run");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, rustix::process::Signal::HUP).expect("a signal");
    let output = child.wait_with_output().expect("ended");
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(130), "error: interrupted\n"));
    assert!(std::fs::read_dir(home.path("repo/sessions")).expect("sessions").next().is_none());
}
