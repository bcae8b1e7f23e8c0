//! Profiles: what they may say, where their values come from, and what their sets, targets, hooks and rules come to.

use crate::cli::{Home, text};
use serde_json::Value;
use snapkeep::clock::SystemClock;
use snapkeep::job::{Job, Outcome, Trigger};
use snapkeep::service::cycle::{Cycle, JobReport, Runner};
use snapkeep::settings::plan::Plan;
use snapkeep::settings::profile::Profile;
use snapkeep::settings::{Known, Section, Takes};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What a run with this profile says when it must be refused.
fn refused(home: &Home, profile: &str) -> String {
    home.profile("bad", profile);
    let output = home.command(&["-P", "bad", "show-config"]).output().expect("runs");
    assert_eq!(output.status.code(), Some(2), "{profile}\n{}", text(&output.stderr));
    text(&output.stderr)
}

/// A run of `backup` with the profile, in JSON: the lines, and the exit code.
fn back_up(home: &Home, arguments: &[&str]) -> (Vec<Value>, i32) {
    let output = home.command(&[arguments, &["--json"]].concat()).output().expect("runs");
    let lines = text(&output.stdout);
    let parsed = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    (parsed, output.status.code().expect("a code"))
}

fn target<'a>(lines: &'a [Value], name: &str) -> &'a Value {
    lines.iter().find(|line| line["target"] == name).unwrap_or_else(|| panic!("{name} in {lines:?}"))
}

#[test]
fn mistakes_are_refused_before_anything_runs_and_say_where_they_are() {
    let home = Home::new();
    let set = "[[backup.snapshots]]\nname = \"a\"\nsources = \"src\"\n";
    let cases: &[(&str, &str)] = &[
        (
            "[backup]\nexcludes = 1\n",
            "bad.toml:2: unknown key in [backup]: `excludes`; the nearest there is: `exclude`",
        ),
        ("\n\n[backups]\n", "bad.toml:3: unknown section: `backups`; the nearest there is: `backup`"),
        ("[global]\njson = \"yes\"\n", "bad.toml:2: [global] json must be true or false"),
        ("[global]\nuse-profile = \"x\"\n", "unknown key"),
        ("[jobs]\nretries = 1000\n", "bad.toml:2: [jobs] retries must be a whole number from 0 to 100"),
        ("[jobs]\njitter = \"soon\"\n", "bad.toml:2: `soon` is not a duration"),
        ("[jobs]\ntime-zone = \"Mars/Olympus\"\n", "bad.toml:2:"),
        ("[backup]\nschedule = \"now and then\"\n", "bad.toml:2: the schedule `now and then`"),
        (
            "[repository]\nrepo = \"x\"\nrepository = \"y\"\n",
            "bad.toml:3: `repository` and `repo` mean the same",
        ),
        ("[[target]]\nname = \"a\"\n", "the target `a` needs a `repository`"),
        ("[[target]]\nrepository = \"x\"\n", "needs a `name`"),
        ("[[target]]\nname = \"primary\"\nrepository = \"x\"\n", "two targets with the name `primary`"),
        (
            "[[target]]\nname = \"b\"\nrepository = \"x\"\nfrom = \"primar\"\n",
            "bad.toml:4: unknown target: `primar`",
        ),
        ("[[target]]\nname = \"b\"\nrepository = \"x\"\nfrom = \"b\"\n", "copy from one that is"),
        ("[[backup.snapshots]]\nname = \"a\"\n", "the set `a` needs `sources`"),
        ("[[backup.snapshots]]\nname = \"A b\"\nsources = \"x\"\n", "bad.toml:2: `A b` is no name"),
        (&format!("{set}after = \"b\"\n"), "bad.toml:4: unknown set: `b`; the nearest there is: `a`"),
        (&format!("{set}after = \"a\"\n"), "bad.toml:4: the set `a` comes after itself"),
        (&format!("{set}targets = [\"usb\"]\n"), "bad.toml:4: unknown target: `usb`"),
        (
            &format!("{set}watch = {{ debounc = \"5s\" }}\n"),
            "unknown key in [backup.snapshots.watch]: `debounc`",
        ),
        (&format!("{set}class = \"urgent\"\n"), "must be one of \"critical\", \"high\", \"medium\""),
        (&format!("{set}{set}"), "two sets with the name `a`"),
        (&format!("{set}exclud = \"x\"\n"), "the nearest there is: `exclude`"),
        (
            "[[backup.snapshots]]\nname = \"a\"\nsources = \"${NOWHERE}/x\"\n",
            "bad.toml:3: the variable NOWHERE is not set",
        ),
        (
            "[[backup.snapshots]]\nname = \"a\"\nsources = \"${SNAPKEEP_PASSWORD}\"\n",
            "a password has no place in a profile",
        ),
        ("[[backup.snapshots]]\nname = \"a\"\nsources = \"~/x\"\n", "write ${HOME}"),
        ("[[backup.snapshots]]\nname = \"a\"\nsources = \"pg://x\"\n", "`pg://` sources are not supported"),
        ("[[backup.snapshots]]\nname = \"a\"\nsources = \"sqlite://x\"\n", "names no database file"),
        (
            "[backup.hooks]\nrun-after = { command = \"x\", on-failure = \"fail\" }\n",
            "`fail` only in run-before",
        ),
        ("[global.hooks]\nrun-befor = \"x\"\n", "the nearest there is: `run-before`"),
        ("include = \"nowhere.toml\"\n", "bad.toml:1: cannot read"),
        ("include = \"bad.toml\"\n", "include each other in a circle"),
        ("a = = 1\n", "bad.toml:1:"),
    ];
    for (profile, wanted) in cases {
        let told = refused(&home, profile);
        assert!(told.contains(wanted), "{profile}\n{told}");
        assert_eq!(told.lines().count(), 1, "one line: {told}");
    }
    assert!(!home.path("repo").exists());
}

#[test]
fn values_come_from_includes_and_variables_and_show_config_says_from_which_line() {
    let home = Home::new();
    home.profile("deep", "[backup]\ntag = \"deep\"\nlabel = \"deep\"\n[[backup.snapshots]]\nname = \"a\"\nsources = \"x\"\nclass = \"medium\"\n");
    home.profile("common", "include = \"deep.toml\"\n[backup]\nlabel = \"common\"\n");
    home.profile(
        "top",
        "include = [\"common.toml\"]\n[repository]\nrepository = \"${PLACE:-there}\"\n\n[[backup.snapshots]]\nname = \"a\"\nsources = [\"${HOME}/src\", \"$$x\"]\n",
    );
    let config: Value =
        serde_json::from_str(&home.good(&["-P", "top", "show-config", "--json", "--to", "primary"]))
            .expect("JSON");
    let at = |section: &str, key: &str| {
        let found = &config[section][key];
        let file = found["source"].as_str().expect("a file").rsplit('/').next().expect("a name").to_owned();
        (found["value"].clone(), file, found["line"].as_u64())
    };
    assert_eq!(at("backup", "tag"), ("deep".into(), "deep.toml".into(), Some(2)));
    assert_eq!(at("backup", "label"), ("common".into(), "common.toml".into(), Some(3)));
    let repo = home.path("config/snapkeep/there").to_string_lossy().into_owned();
    assert_eq!(
        at("global", "repo"),
        (repo.into(), "top.toml".into(), Some(3)),
        "beside the profile, and --to beats the environment"
    );
    let keys = config["profile"]["keys"].as_array().expect("a list");
    let key =
        |name: &str| keys.iter().find(|k| k["key"] == name).unwrap_or_else(|| panic!("{name} in {keys:?}"));
    assert_eq!(key("backup.snapshots[a].class")["value"], "medium", "sets are laid over each other by name");
    let sources = &key("backup.snapshots[a].sources")["value"];
    assert_eq!(*sources, serde_json::json!([format!("{}/src", home.shown("")).replace("//", "/"), "$x"]));
    assert_eq!(config["profile"]["files"].as_array().map(Vec::len), Some(3));
    let mut elsewhere = home.command(&["-P", "top", "show-config"]);
    assert!(
        text(&elsewhere.env("PLACE", "/some/where").output().expect("runs").stdout).contains("top.toml:3")
    );
}

#[test]
fn a_dead_target_costs_no_other_one() {
    let home = Home::new();
    std::fs::write(home.path("pw"), "another word").expect("a file");
    std::fs::set_permissions(home.path("pw"), std::fs::Permissions::from_mode(0o600)).expect("mode");
    for repo in ["wrong", "good"] {
        home.good(&["-r", repo, "init"]);
    }
    std::fs::create_dir(home.path("mountpoint")).expect("a directory");
    let dir = home.shown("");
    home.profile(
        "many",
        &format!(
            "[repository]\nname = \"first\"\nrepository = \"{dir}/wrong\"\npassword-file = \"{dir}/pw\"\n\
             [[target]]\nname = \"wrong\"\nrepository = \"{dir}/wrong\"\npassword-file = \"{dir}/pw\"\n\
             [[target]]\nname = \"gone\"\nrepository = \"{dir}/mountpoint/backup\"\n\
             [[target]]\nname = \"usb\"\nrepository = \"{dir}/usb/backup\"\noptional = true\n\
             [[target]]\nname = \"new\"\nrepository = \"{dir}/new\"\ninit = true\n\
             [[target]]\nname = \"good\"\nrepository = \"{dir}/good\"\n\
             [[target]]\nname = \"copied\"\nrepository = \"{dir}/copied\"\nfrom = \"good\"\ninit = true\n\
             [backup]\ntargets = [\"copied\", \"good\", \"gone\", \"new\", \"usb\", \"wrong\"]\n\
             [[backup.snapshots]]\nname = \"a\"\nsources = \"{dir}/src\"\n"
        ),
    );
    let (lines, code) = back_up(&home, &["-P", "many", "backup"]);
    assert_eq!(code, 12, "the worst of them: {lines:?}");
    let outcome = |name: &str| {
        (
            target(&lines, name)["outcome"].as_str().expect("a word").to_owned(),
            target(&lines, name)["code"].as_u64(),
        )
    };
    assert_eq!(
        outcome("wrong"),
        ("failed".into(), Some(12)),
        "its own password file goes before the environment"
    );
    assert_eq!(outcome("gone"), ("failed".into(), Some(10)));
    assert_eq!(outcome("usb"), ("skipped".into(), Some(10)));
    for name in ["new", "good", "copied"] {
        assert_eq!(outcome(name), ("ok".into(), Some(0)), "{lines:?}");
        if name == "new" {
            // Nobody opens it after it was made.
            continue;
        }
        let repo = home.path(name);
        let listed =
            home.command(&["snapshots", "--json"]).env("SNAPKEEP_REPOSITORY", &repo).output().expect("runs");
        let listed: Value = serde_json::from_slice(&listed.stdout).expect("JSON");
        assert_eq!(listed.as_array().map(Vec::len), Some(1), "{name}");
        assert_eq!(
            listed[0]["expected"],
            serde_json::json!({"profile": "many", "set": "a", "class": "high"})
        );
    }
    assert!(!home.path("mountpoint/backup").exists(), "nothing is made that was not asked for");
    let last = lines.last().expect("a summary");
    assert_eq!((last["message_type"].as_str(), last["code"].as_u64()), (Some("summary"), Some(12)));
    let (lines, code) = back_up(&home, &["-P", "many", "copy"]);
    assert_eq!((code, lines[0]["job"].as_str(), lines.len()), (0, Some("copy:copied"), 2), "{lines:?}");
    let copied = &lines[0]["summary"];
    assert_eq!((copied["copied"].as_u64(), copied["skipped"].as_u64()), (Some(0), Some(1)));
    // A disk that was there and is not any more is not made anew on the disk below.
    std::fs::rename(home.path("new"), home.path("unplugged")).expect("renamed");
    let (lines, _) = back_up(&home, &["-P", "many", "--to", "new", "backup"]);
    assert_eq!(target(&lines, "new")["code"], 10, "{lines:?}");
    assert!(lines[0]["messages"].to_string().contains("is the disk mounted?") && !home.path("new").exists());
    // What was done is written down, target by target.
    let states = std::fs::read_to_string(home.path("state/snapkeep/jobs/many.json")).expect("states");
    let states: Value = serde_json::from_str(&states).expect("JSON");
    assert_eq!(states["backup:a@good"]["last_outcome"], "ok");
    assert_eq!(states["backup:a@wrong"]["consecutive_failures"], 1);
}

#[test]
fn sets_have_their_order_their_databases_and_their_own_rules_for_forgetting() {
    let home = Home::new();
    let database = rusqlite::Connection::open(home.path("config.db")).expect("opens");
    database.execute_batch("create table t (a); insert into t values (1);").expect("written");
    drop(database);
    std::fs::create_dir_all(home.path("config/snapkeep")).expect("a directory");
    std::fs::rename(home.path("config.db"), home.path("config/snapkeep/data.db")).expect("moved");
    let dir = home.shown("");
    home.profile(
        "sets",
        &format!(
            "[repository]\nrepository = \"{dir}/repo\"\ninit = true\n[backup]\nschedule = \"hourly\"\n\
             [[backup.snapshots]]\nname = \"last\"\nafter = [\"db\"]\nsources = \"{dir}/src\"\nclass = \"critical\"\nmax-age = \"1d\"\nforget = {{ keep-last = 1 }}\n\
             [[backup.snapshots]]\nname = \"db\"\nsources = [\"sqlite:///data.db\"]\ntag = \"base\"\n\
             [forget]\nkeep-last = 2\nprune = true\n"
        ),
    );
    for _ in 0..3 {
        let (lines, code) = back_up(&home, &["-P", "sets", "backup"]);
        assert_eq!(code, 0, "{lines:?}");
        let order: Vec<&str> = lines.iter().filter_map(|line| line["job"].as_str()).collect();
        assert_eq!(order, ["backup:db", "backup:last"]);
        assert_eq!(lines[0]["summary"]["sqlite"]["ok"], 1, "{lines:?}");
    }
    let of = |set: &str| home.json(&["snapshots", "--of-set", set]).as_array().expect("a list").clone();
    assert_eq!(of("last")[0]["expected"]["max_age_seconds"], 86_400);
    assert_eq!(of("sets/db")[0]["expected"]["max_age_seconds"], 3 * 3600, "two runs missed, and an hour");
    assert_eq!(of("db")[0]["tags"], serde_json::json!(["base"]));
    assert_eq!((of("last").len(), of("db").len(), of("other/db").len()), (3, 3, 0));
    assert_eq!(home.code(&["backup", "src"]), 0, "one of no set");
    home.good(&["-P", "sets", "forget"]);
    assert_eq!((of("last").len(), of("db").len()), (1, 2));
    assert_eq!(
        home.json(&["snapshots"]).as_array().map(Vec::len),
        Some(4),
        "what is in no set goes by the general rules"
    );
    let alone = home.run(&["-P", "sets", "--to", "primary", "backup", "--name", "db", "--json"]);
    let summary: Value =
        serde_json::from_str(text(&alone.stdout).lines().last().expect("a line")).expect("JSON");
    assert!(summary["snapshot_id"].is_string(), "one set at one target is a plain backup");
    assert!(text(&home.run(&["-P", "sets", "backup", "--name", "dp"]).stderr).contains("it has: db, last"));
}

#[test]
fn hooks_run_around_a_job_and_are_told_how_it_went() {
    let home = Home::new();
    let dir = home.shown("");
    let log = home.path("log");
    let note = |word: &str| format!("\"echo {word} $SNAPKEEP_OUTCOME $SNAPKEEP_CODE >> {dir}/log\"");
    let profile = |before: &str, sources: &str| {
        format!(
            "[repository]\nrepository = \"{dir}/repo\"\ninit = true\n[global.hooks]\nrun-before = {}\nrun-after = {}\nrun-failed = {}\nrun-finally = [{}, \"env >> {dir}/env\"]\n\
             [[backup.snapshots]]\nname = \"a\"\nsources = \"{sources}\"\n[backup.snapshots.hooks]\nrun-before = [{before}]\nrun-after = {{ command = \"/bin/sh\", args = [\"-c\", \"echo inner-after >> {dir}/log; exit 7\"] }}\n",
            note("outer-before"),
            note("outer-after"),
            note("failed"),
            note("finally"),
        )
    };
    let run = |profile: &str| {
        let _ = std::fs::remove_file(&log);
        home.profile("hooks", profile);
        let output = home.run(&["-P", "hooks", "backup"]);
        (output.status.code(), std::fs::read_to_string(&log).unwrap_or_default(), text(&output.stderr))
    };
    let (code, told, warned) = run(&profile(&note("inner-before"), &format!("{dir}/src")));
    assert_eq!(code, Some(0), "a hook afterwards changes no outcome: {warned}");
    assert_eq!(told, "outer-before\ninner-before\ninner-after\nouter-after ok 0\nfinally ok 0\n");
    assert!(warned.contains("ended with 7") && warned.contains("[hook-failed]"), "{warned}");
    let environment = std::fs::read_to_string(home.path("env")).expect("written");
    assert!(environment.contains("SNAPKEEP_SNAPSHOT=") && environment.contains("SNAPKEEP_JOB=backup:a"));
    assert!(!environment.contains("secret word"), "no hook gets a password");
    let (code, told, _) = run(&profile(&note("inner-before"), "/nowhere/at/all"));
    assert_eq!((code, told.contains("failed failed 1\nfinally failed 1")), (Some(1), true), "{told}");
    let before = home.json(&["snapshots"]);
    let (code, told, _) = run(&profile("\"exit 3\"", &format!("{dir}/src")));
    assert_eq!((code, told.as_str()), (Some(1), "outer-before\nfailed failed 1\nfinally failed 1\n"));
    assert_eq!(home.json(&["snapshots"]), before, "the job did not begin");
    let _ = std::fs::remove_file(&log);
    home.profile("hooks", &profile(&note("inner-before"), &format!("{dir}/src")));
    assert_eq!(home.code(&["-P", "hooks", "backup", "--dry-run"]), 0);
    assert_eq!(
        (log.exists(), home.json(&["snapshots"]) == before),
        (false, true),
        "a rehearsal runs no hook"
    );
    // What takes too long is ended together with all that it started.
    let slow =
        "{ command = \"sleep 600 & echo $! > DIR/pid; sleep 600\", timeout = \"1s\", on-failure = \"warn\" }";
    let (code, _, warned) = run(&profile(&slow.replace("DIR", &dir), &format!("{dir}/src")));
    assert_eq!(code, Some(0), "{warned}");
    assert!(warned.contains("ended with 124"), "{warned}");
    let pid = std::fs::read_to_string(home.path("pid")).expect("written");
    let status = Path::new("/proc").join(pid.trim()).join("status");
    // Whoever inherits it may need a moment to bury it.
    let lives = || std::fs::read_to_string(&status).is_ok_and(|text| !text.contains("State:\tZ"));
    let gone = (0..200).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        !lives()
    });
    assert!(gone, "process {pid} outlived its hook");
}

fn options() -> Vec<Section> {
    let repo = Known {
        name: "repo".to_owned(),
        takes: Takes::One,
        variables: Vec::new(),
        is_path: false,
        about: String::new(),
    };
    vec![Section { name: "global".to_owned(), options: vec![repo] }]
}

/// A cycle over a profile whose commands are carried out by a script of ours.
fn scripted(home: &Home, script: &str, jobs: &str) -> Cycle {
    let dir = home.shown("");
    std::fs::write(home.path("program"), format!("#!/bin/sh\ncd {dir}\n{script}\n")).expect("a script");
    std::fs::set_permissions(home.path("program"), std::fs::Permissions::from_mode(0o700)).expect("mode");
    home.profile("scripted", &format!("[repository]\nrepository = \"{dir}/repo\"\n[[backup.snapshots]]\nname = \"a\"\nsources = \"{dir}/src\"\n[jobs]\n{jobs}\n"));
    let file = home.path("config/snapkeep/scripted.toml");
    let plan: Plan = Profile::load(&file, &options(), &|_| None).expect("a profile").plan;
    Cycle {
        plan: Arc::new(plan),
        program: home.path("program"),
        profile: file,
        words: Vec::new(),
        own: Vec::new(),
        only: None,
        aloud: false,
        rehearsal: false,
        stop: Arc::new(AtomicBool::new(false)),
        journal: None,
        clock: Arc::new(SystemClock),
        hear: Box::new(|_, _| {}),
    }
}

fn runs(home: &Home) -> usize {
    std::fs::read_to_string(home.path("runs")).unwrap_or_default().lines().count()
}

#[test]
fn what_may_go_better_is_tried_again_and_what_will_not_is_not() {
    let backup = Job::Backup("a".to_owned());
    let run = |code: u8, trigger: Trigger| -> (usize, JobReport) {
        let home = Home::new();
        let script = format!(
            "echo $SNAPKEEP_ATTEMPT >> runs; [ $SNAPKEEP_ATTEMPT = 3 ] && {{ echo '{{\"message_type\":\"summary\",\"snapshot_id\":\"ab\"}}'; exit 0; }}\necho '{{\"message_type\":\"exit_error\",\"code\":{code},\"message\":\"why\"}}' >&2; exit {code}"
        );
        let cycle = scripted(&home, &script, "retries = 5\nretry-delay = \"0s\"");
        let report = cycle.run(&backup, trigger);
        (runs(&home), report)
    };
    for code in [1, 10, 11] {
        let (runs, report) = run(code, Trigger::Schedule);
        assert_eq!((runs, report.outcome, report.targets[0].attempts), (3, Outcome::Ok, 3), "{code}");
        assert_eq!(report.targets[0].summary["snapshot_id"], "ab");
    }
    for code in [2, 12, 20, 21, 22, 23, 24, 3] {
        let (runs, report) = run(code, Trigger::Daemon);
        assert_eq!((runs, report.code), (1, code));
        assert_eq!(report.targets[0].messages, ["why"]);
    }
    assert_eq!(run(1, Trigger::Manual).0, 1, "a person tries again by hand");
}

#[test]
fn jobs_that_nobody_waits_for_give_way_to_other_programs() {
    let home = Home::new();
    let cycle = scripted(&home, "nice > rank; ionice > disk 2> /dev/null || true", "nice = 7\nio = \"idle\"");
    let rank = |trigger| {
        cycle.run(&Job::Backup("a".to_owned()), trigger);
        let read =
            |name: &str| std::fs::read_to_string(home.path(name)).unwrap_or_default().trim().to_owned();
        (read("rank"), read("disk"))
    };
    let (usual, _) = rank(Trigger::Manual);
    let (low, disk) = rank(Trigger::Schedule);
    let number = |text: &str| text.parse::<i32>().expect("a number");
    assert_eq!(number(&low), (number(&usual) + 7).min(19));
    assert!(disk.is_empty() || disk == "idle", "{disk}");
}

#[test]
fn a_job_ends_when_it_takes_too_long_or_somebody_wants_an_end() {
    let backup = Job::Backup("a".to_owned());
    let home = Home::new();
    let late = scripted(&home, "echo x >> runs; exec sleep 600", "timeout = \"1s\"\nretries = 3");
    let report = late.run(&backup, Trigger::Schedule);
    assert_eq!((report.outcome, report.code, runs(&home)), (Outcome::Failed, 1, 1));
    assert!(report.targets[0].messages[0].contains("took longer"), "{report:?}");
    let home = Home::new();
    let cycle = scripted(&home, "echo x >> runs; exec sleep 600", "");
    let stop = Arc::clone(&cycle.stop);
    let path = home.path("runs");
    let stopper = std::thread::spawn(move || {
        while !Path::new(&path).exists() {
            std::thread::sleep(Duration::from_millis(10));
        }
        stop.store(true, Ordering::Relaxed);
    });
    let report = cycle.run(&backup, Trigger::Schedule);
    stopper.join().expect("stops");
    assert_eq!(
        (report.outcome, report.code, runs(&home)),
        (Outcome::Interrupted, 130, 1),
        "and no further attempt"
    );
}

#[test]
fn setup_leads_from_nothing_to_a_backup_that_can_be_restored_without_the_machine() {
    let home = Home::new();
    for tree in [".git", "src/.git"] {
        std::fs::create_dir(home.path(tree)).expect("a work tree");
    }
    std::fs::write(home.path(".gitignore"), "/config/*/*.password\n").expect("a file");
    std::fs::write(home.path("src/.gitignore"), "*.o").expect("a file");
    let run = |arguments: &[&str]| {
        let mut command = home.command(arguments);
        command.env_remove("SNAPKEEP_PASSWORD").env_remove("SNAPKEEP_REPOSITORY");
        command.output().expect("runs")
    };
    let needs = run(&["setup", "--source", "src", "--yes"]);
    assert_eq!(needs.status.code(), Some(2));
    assert!(text(&needs.stderr).contains("--repo"), "{}", text(&needs.stderr));
    let words = [
        "setup",
        "my",
        "--source",
        "src",
        "--repo",
        "src/.backup",
        "--second",
        "src/.other",
        "--schedule",
        "hourly",
        "--yes",
    ];
    let wrong = run(&["setup", "my", "--source", "src", "--repo", "r", "--schedule", "sometimes", "--yes"]);
    assert_eq!(
        (wrong.status.code(), home.path("r").exists(), home.path("config").exists()),
        (Some(2), false, false)
    );
    let output = run(&words);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let told = text(&output.stdout);
    let password = home.path("config/snapkeep/my.password");
    assert!(told.contains("A PASSWORD WAS MADE") && told.contains(&*password.to_string_lossy()), "{told}");
    assert!(told.lines().rev().take(4).any(|line| line.starts_with("When something is lost")), "{told}");
    assert_eq!(password.metadata().expect("there").permissions().mode() & 0o777, 0o600);
    let secret = std::fs::read_to_string(&password).expect("text");
    assert!(secret.trim().len() >= 32 && !told.contains(secret.trim()), "it is in its file and nowhere else");
    assert_eq!(
        std::fs::read_to_string(home.path("src/.gitignore")).expect("text"),
        "*.o\n/.backup\n/.other\n"
    );
    let outer = std::fs::read_to_string(home.path(".gitignore")).expect("text");
    assert_eq!(outer, "/config/*/*.password\n", "what git passes over already needs no line");
    // A second run changes nothing, and says so.
    let before = std::fs::read_to_string(home.path("config/snapkeep/my.toml")).expect("text");
    assert_eq!(run(&words).status.code(), Some(23));
    assert_eq!(std::fs::read_to_string(home.path("config/snapkeep/my.toml")).expect("text"), before);
    let forced = run(&[&words[..], &["--force", "--json"]].concat());
    assert_eq!(forced.status.code(), Some(0), "{}", text(&forced.stderr));
    let summary: Value = serde_json::from_slice(&forced.stdout).expect("one line of JSON");
    assert_eq!(
        (summary["password_made"].as_bool(), summary["snapshot_ids"].as_array().map(Vec::len)),
        (Some(false), Some(2))
    );
    assert_eq!(std::fs::read_to_string(home.path("config/snapkeep/my.toml.old")).expect("text"), before);
    // The second place and the password are all that is needed.
    let restored = run(&[
        "-r",
        "src/.other",
        "-p",
        &password.to_string_lossy(),
        "restore",
        "latest",
        "--target",
        "back",
    ]);
    assert_eq!(restored.status.code(), Some(0), "{}", text(&restored.stderr));
    let at = home.path("back").join(home.path("src/a.txt").strip_prefix("/").expect("absolute"));
    assert_eq!(std::fs::read_to_string(at).expect("restored"), "hello\n");
    let elsewhere = run(&["-P", "my", "snapshots", "--json"]);
    let listed: Value = serde_json::from_slice(&elsewhere.stdout).expect("JSON");
    let inside = run(&["-P", "my", "ls", "latest"]);
    assert_eq!(listed.as_array().map(Vec::len), Some(2));
    let inside = text(&inside.stdout);
    assert!(
        !inside.contains(".backup/") && !inside.contains(".other/"),
        "a repository is not backed up into itself"
    );
}

/// Words that a key takes, of the kind that the schema asks for.
fn sample(name: &str, schema: &Value, root: &Value) -> Value {
    use serde_json::json;
    if let Some(reference) = schema["$ref"].as_str() {
        return sample(name, root.pointer(reference.trim_start_matches('#')).expect("defined"), root);
    }
    if let Some(first) = schema["anyOf"].as_array().and_then(|all| all.first()) {
        return sample(name, first, root);
    }
    if let Some(first) = schema["enum"].as_array().and_then(|all| all.first()) {
        return first.clone();
    }
    let is = |kind: &str| {
        schema["type"] == kind || schema["type"].as_array().is_some_and(|all| all.iter().any(|k| k == kind))
    };
    match name {
        "schedule" if is("string") => return json!("daily"),
        "time-zone" => return json!("UTC"),
        "on" => return json!("failure"),
        "file" => return json!("/x/y.prom"),
        _ => {}
    }
    if is("boolean") {
        json!(true)
    } else if is("integer") || is("number") {
        json!(1)
    } else if is("string") {
        if schema["pattern"].is_string() { json!("90s") } else { json!("x") }
    } else if is("array") {
        json!([sample(name, &schema["items"], root)])
    } else {
        let mut all = schema["properties"].as_object().cloned().unwrap_or_default();
        if all.contains_key("repo") {
            // The same thing.
            all.remove("repository");
        }
        let most = schema["maxProperties"].as_u64().unwrap_or(u64::MAX) as usize;
        all.iter()
            .take(most)
            .map(|(key, schema)| (key.clone(), sample(key, schema, root)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }
}

/// As TOML, which takes tables in one line.
fn toml(value: &Value) -> String {
    match value {
        Value::Object(table) => {
            let keys: Vec<String> =
                table.iter().map(|(key, value)| format!("{key} = {}", toml(value))).collect();
            format!("{{ {} }}", keys.join(", "))
        }
        Value::Array(list) => format!("[{}]", list.iter().map(toml).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

#[test]
fn the_schema_and_the_program_know_the_same_keys() {
    let home = Home::new();
    let schema: Value = serde_json::from_str(&home.good(&["show-config", "--schema"])).expect("JSON");
    let published = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/profile.schema.json");
    if std::env::var_os("SNAPKEEP_WRITE_DOCS").is_some() {
        std::fs::write(&published, format!("{}\n", serde_json::to_string_pretty(&schema).expect("JSON")))
            .expect("written");
    }
    let there: Value =
        serde_json::from_str(&std::fs::read_to_string(&published).expect("docs/profile.schema.json"))
            .expect("JSON");
    assert!(
        there == schema,
        "docs/profile.schema.json is old; SNAPKEEP_WRITE_DOCS=1 cargo test --test suite schema writes it"
    );
    let judge = jsonschema::validator_for(&schema).expect("a schema");
    let sections = schema["properties"].as_object().expect("sections");
    for (name, section) in sections.iter().filter(|(name, _)| *name != "include") {
        let value = sample(name, section, &schema);
        assert!(judge.is_valid(&serde_json::json!({ name: value })), "{name}: {value}");
        let mut tables = vec![(vec![name.clone()], value.clone())];
        // Every key that the schema has is known to the program.
        home.profile("keys", &format!("{name} = {}\n", toml(&value)));
        let told = text(&home.run(&["-P", "keys", "show-config"]).stderr);
        let refused = ["unknown key", "unknown section", "must be"].iter().any(|words| told.contains(words));
        assert!(!refused, "{name}: {told}");
        // A key that it does not have is none to the program either, at any depth.
        while let Some((path, table)) = tables.pop() {
            match &table {
                Value::Object(keys) => {
                    let mut wrong = keys.clone();
                    wrong.insert("no-such-key".to_owned(), Value::Bool(true));
                    let mut whole = Value::Object(wrong);
                    for part in path.iter().rev() {
                        whole = if part == "[]" {
                            Value::Array(vec![whole])
                        } else {
                            serde_json::json!({ part.as_str(): whole })
                        };
                    }
                    let open = path.iter().any(|part| part == "min-rows" || part == "headers");
                    if !open {
                        assert!(!judge.is_valid(&whole), "{whole}");
                        home.profile("keys", &format!("{name} = {}\n", toml(&whole[name])));
                        let told = text(&home.run(&["-P", "keys", "show-config"]).stderr);
                        assert!(
                            told.contains("unknown key") || told.contains("must be a table with one of"),
                            "{whole}: {told}"
                        );
                    }
                    tables.extend(
                        keys.iter()
                            .map(|(key, value)| ([path.clone(), vec![key.clone()]].concat(), value.clone())),
                    );
                }
                Value::Array(list) => {
                    tables.extend(
                        list.first().map(|first| ([path, vec!["[]".to_owned()]].concat(), first.clone())),
                    );
                }
                _ => {}
            }
        }
    }
    // Options that the help shows may stand in the section of their command.
    for command in ["backup", "forget", "restore", "check", "copy", "prune", "drill"] {
        let help = home.good(&[command, "--help"]);
        let hidden = ["name", "explain", "stdin", "stdin-from-command", "except-set", "help"];
        let own = help.split("Global options").next().expect("text").lines().map(str::trim_start);
        let options: Vec<String> = own
            .filter(|line| line.starts_with('-') && (line.contains(' ') || !line.ends_with(']')))
            .filter_map(|line| line.split("--").nth(1))
            .map(|word| word.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect())
            .collect();
        assert!(options.len() > 3, "{command}: {options:?}");
        for option in options.iter().filter(|option| !hidden.contains(&option.as_str())) {
            let there = &schema["properties"][command]["properties"][option];
            assert!(there.is_object(), "{command} --{option} is not in the schema");
        }
    }
}

#[test]
fn the_profiles_of_the_document_are_good() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/profiles.md"))
        .expect("docs/profiles.md");
    let home = Home::new();
    let schema: Value = serde_json::from_str(&home.good(&["show-config", "--schema"])).expect("JSON");
    let judge = jsonschema::validator_for(&schema).expect("a schema");
    let examples: Vec<&str> =
        page.split("```toml\n").skip(1).filter_map(|part| part.split("```").next()).collect();
    assert!(examples.len() >= 3);
    for (at, example) in examples.iter().enumerate() {
        home.profile("common", "[backup]\nexclude-caches = true\n");
        home.profile("page", example);
        let output = home.run(&["-P", "page", "show-config"]);
        assert!(output.status.success(), "example {at}: {}", text(&output.stderr));
        let mut value: Value =
            serde_json::to_value(example.parse::<toml::Table>().expect("TOML")).expect("JSON");
        value.as_object_mut().expect("a table").remove("include");
        let wrong: Vec<String> = judge.iter_errors(&value).map(|e| e.to_string()).collect();
        assert!(wrong.is_empty(), "example {at}: {wrong:?}");
    }
}
