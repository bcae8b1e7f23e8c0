//! The program killed at every call it makes on the repository's disk, and at any time: nothing that was reported is
//! lost, and the next command needs nobody's help.

use crate::cli::text;
use crate::counters::{note, size};
use crate::shelf::Random;
use crate::yard::{Deed, Yard, has_command, place, read_tree, seed};
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const KILLED: i32 = 9;

/// A yard with two snapshots, and a second repository for copies.
fn yard_in(dir: &Path, random: &mut Random) -> Yard {
    let mut yard = Yard::new(&dir.join("repository"), random);
    yard.good(&["init"]);
    let second = yard.second.to_string_lossy().into_owned();
    yard.good(&["init", "-r", &second]);
    for _ in 0..2 {
        yard.back_up();
        yard.change(random);
    }
    yard
}

/// Makes sure that there is something to do, and says what.
fn prepare(yard: &mut Yard, kind: &str, random: &mut Random) -> Deed {
    yard.change(random);
    if !matches!(kind, "init" | "backup" | "key" | "tag") {
        yard.back_up();
    }
    let newest = |yard: &Yard| yard.sure.keys().nth(random.0 as usize % yard.sure.len()).cloned();
    match kind {
        "init" => Deed::Init,
        "backup" => Deed::Backup,
        "tag" => Deed::Tag(newest(yard).expect("a snapshot"), format!("t{}", random.below(1000))),
        "key" => {
            thin_keys(yard);
            Deed::AddKey(format!("word {}", random.next()))
        }
        "copy" => Deed::Copy,
        "forget" => Deed::Forget(newest(yard).expect("a snapshot"), true),
        "forget for good" => Deed::Forget(newest(yard).expect("a snapshot"), false),
        "undelete" => {
            let id = newest(yard).expect("a snapshot");
            done(yard, &Deed::Forget(id.clone(), true));
            Deed::Undelete(id)
        }
        "prune" => {
            let id = newest(yard).expect("a snapshot");
            done(yard, &Deed::Forget(id, false));
            Deed::Prune
        }
        other => panic!("{other}"),
    }
}

/// There can be sixteen; only the first is always there.
fn thin_keys(yard: &mut Yard) {
    let told = yard.good(&["key", "list", "--json"]);
    let keys: serde_json::Value = serde_json::from_str(&told).expect("an array");
    let keys = keys.as_array().expect("an array");
    if keys.len() < 12 {
        return;
    }
    for key in keys.iter().filter(|key| key["current"] == false) {
        yard.good(&["key", "remove", key["id"].as_str().expect("an id")]);
    }
    yard.passwords.truncate(1);
}

/// Something that is not disturbed.
fn done(yard: &mut Yard, deed: &Deed) {
    let output = yard.doing(deed).output().expect("runs");
    assert!(output.status.success(), "{deed:?}: {}", text(&output.stderr));
    yard.learn(deed, &output);
}

/// The points a deed passes, and how often.
fn points(yard: &mut Yard, deed: &Deed) -> BTreeMap<String, u64> {
    let log = yard.home.join("points");
    let _ = std::fs::remove_file(&log);
    let output = yard.doing(deed).env("SNAPKEEP_KILL_AT", format!("log={}", log.display())).output();
    let output = output.expect("runs");
    assert!(output.status.success(), "{deed:?}: {}", text(&output.stderr));
    yard.learn(deed, &output);
    let mut points = BTreeMap::new();
    for line in std::fs::read_to_string(&log).expect("a log").lines() {
        *points.entry(line.to_owned()).or_insert(0) += 1;
    }
    assert!(points.len() >= 6, "{deed:?} passes {points:?}");
    points
}

fn kinds() -> Vec<&'static str> {
    let mut kinds = vec!["backup", "tag", "key", "copy"];
    if has_command("forget") {
        kinds.extend(["forget", "forget for good", "undelete"]);
        kinds.extend(["prune"].into_iter().filter(|name| has_command(name)));
    }
    kinds
}

/// Kills and the names of points.
#[derive(Default)]
struct Tally {
    kills: u64,
    names: u64,
    passed: u64,
}

impl Tally {
    fn add(&mut self, point: &str, deed: &Deed, output: &Output) {
        if output.status.signal() == Some(KILLED) {
            self.kills += 1;
            return;
        }
        // Fewer packs, say, than the time before: the point was not reached so often.
        assert!(output.status.success(), "{deed:?} at {point}: {}", text(&output.stderr));
        self.passed += 1;
    }
}

#[test]
fn a_kill_at_any_call_on_the_disk_loses_nothing() {
    let mut random = seed("kills at calls", 5);
    let mut tally = Tally::default();
    for kind in kinds() {
        let dir = place("kills");
        let mut yard = yard_in(dir.path(), &mut random);
        let first = prepare(&mut yard, kind, &mut random);
        let points = points(&mut yard, &first);
        for (point, times) in &points {
            tally.names += 1;
            for _ in 0..size(1, *times) {
                let deed = prepare(&mut yard, kind, &mut random);
                let at = format!("{point}:{}", 1 + random.below(*times as usize));
                let output = yard.doing(&deed).env("SNAPKEEP_KILL_AT", &at).output().expect("runs");
                tally.add(&at, &deed, &output);
                yard.learn(&deed, &output);
                yard.verify_after(&deed, output.status.success(), &mut random);
            }
        }
        println!("{kind}: {} points", points.len());
        yard.verify_all(&mut random);
    }
    tally.names += kill_init(&mut tally, &mut random);
    let Tally { kills, names, passed } = tally;
    println!("{kills} kills at {names} points; {passed} times a point was not reached");
    assert!(passed * 4 < kills, "points are reached");
    note("T4 kills at a call on the disk", kills, 0);
}

/// A repository that is killed while it is made can be made again.
fn kill_init(tally: &mut Tally, random: &mut Random) -> u64 {
    let dir = place("kills");
    let mut yard = Yard::new(&dir.path().join("deep/first"), random);
    let points = points(&mut yard, &Deed::Init);
    for (number, (point, times)) in points.iter().enumerate() {
        yard.repository = dir.path().join(format!("deep/{number}"));
        let at = format!("{point}:{}", 1 + random.below(*times as usize));
        let output = yard.doing(&Deed::Init).env("SNAPKEEP_KILL_AT", &at).output().expect("runs");
        tally.add(&at, &Deed::Init, &output);
        yard.verify_after(&Deed::Init, output.status.success(), random);
        yard.back_up();
        yard.verify(random, 1);
        yard.sure.clear();
        let _ = std::fs::remove_dir_all(yard.home.join("cache"));
    }
    println!("init: {} points", points.len());
    points.len() as u64
}

/// Runs it and kills it after some of the time it usually takes, unless it has ended.
fn cut_short(mut command: Command, after: Duration) -> Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
    let begun = Instant::now();
    while begun.elapsed() < after && child.try_wait().expect("waits").is_none() {
        std::thread::sleep(Duration::from_micros(100));
    }
    let _ = child.kill();
    child.wait_with_output().expect("ended")
}

#[test]
fn a_kill_at_any_time_loses_nothing() {
    let mut random = seed("kills at any time", 6);
    let dir = place("kills");
    let mut yard = yard_in(dir.path(), &mut random);
    let mut kinds = kinds();
    kinds.retain(|kind| *kind != "key");
    kinds.extend(["backup", "backup", "restore"]);
    let (mut kills, mut ended) = (0, 0);
    let mut usual: BTreeMap<&str, Duration> = BTreeMap::new();
    for _ in 0..size(40, 10_000) {
        let kind = kinds[random.below(kinds.len())];
        let longest = usual.entry(kind).or_insert(Duration::from_millis(200));
        let after = longest.mul_f64(random.below(1000) as f64 / 1000.0);
        let begun = Instant::now();
        let output = if kind == "restore" {
            restore_twice(&yard, after, &mut random)
        } else {
            let deed = prepare(&mut yard, kind, &mut random);
            let output = cut_short(yard.doing(&deed), after);
            yard.learn(&deed, &output);
            yard.verify_after(&deed, output.status.success(), &mut random);
            output
        };
        if output.status.signal() == Some(KILLED) {
            kills += 1;
        } else {
            assert!(output.status.success(), "{kind}: {}", text(&output.stderr));
            ended += 1;
            *longest = (begun.elapsed() + *longest) / 4;
        }
    }
    yard.verify_all(&mut random);
    println!("{kills} kills; {ended} ended before");
    note("T4 kills at a random time", kills, 0);
}

/// A restore that was killed is finished by the next one into the same place.
fn restore_twice(yard: &Yard, after: Duration, random: &mut Random) -> Output {
    let id = yard.sure.keys().nth(random.below(yard.sure.len())).expect("a snapshot").clone();
    let target = yard.home.join("twice");
    let output = cut_short(yard.restoring(&id, &target), after);
    let again = yard.restoring(&id, &target).output().expect("runs");
    assert!(again.status.success(), "{}", text(&again.stderr));
    assert!(read_tree(&target) == *yard.sure[&id], "restoring {id} twice");
    std::fs::remove_dir_all(target).expect("removed");
    output
}
