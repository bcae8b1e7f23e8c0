//! Several real processes at one repository, some of them stopped for a while and some killed: every command that is
//! left alone ends well, nothing that was reported is lost, and every restore is right.

use crate::cli::text;
use crate::counters::{note, size};
use crate::shelf::Random;
use crate::yard::{Deed, Yard, has_command, place, read_tree, seed};
use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// Longer than anything here takes; who is not done by then hangs.
const PATIENCE: Duration = Duration::from_secs(300);
const EVICTED: i32 = 11;

/// A process, and what it does in which yard.
struct Running {
    yard: usize,
    task: Task,
    child: Child,
    killed: bool,
    /// When it may go on.
    stopped: Option<Instant>,
}

#[derive(Debug)]
enum Task {
    Deed(Deed),
    Check,
    Restore(String, PathBuf),
}

fn start(yards: &mut [Yard], yard: usize, task: Task) -> Running {
    let mut command = match &task {
        Task::Deed(deed) => yards[yard].doing(deed),
        Task::Check => yards[yard].command(&["check", "--read-data"]),
        Task::Restore(id, target) => yards[yard].restoring(id, target),
    };
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
    Running { yard, task, child, killed: false, stopped: None }
}

/// Everybody at once.
fn crowd(yards: &mut [Yard], round: usize, random: &mut Random) -> Vec<Running> {
    let mut tasks = Vec::new();
    for (number, yard) in yards.iter_mut().enumerate() {
        yard.change(random);
        tasks.push((number, Task::Deed(Deed::Backup)));
    }
    tasks.push((0, Task::Check));
    let own = random.below(yards.len());
    let ids: Vec<String> = yards[own].sure.keys().cloned().collect();
    let target = yards[own].home.join(format!("meanwhile-{round}"));
    // The first is never forgotten.
    tasks.push((own, Task::Restore(ids[0].clone(), target)));
    let tag = format!("t{round}");
    tasks.push((own, Task::Deed(Deed::Tag(ids[random.below(ids.len())].clone(), tag))));
    if has_command("forget") && has_command("prune") {
        let other = (own + 1) % yards.len();
        let ids: Vec<String> = yards[other].sure.keys().skip(1).cloned().collect();
        if ids.len() > 2 {
            let id = ids[random.below(ids.len())].clone();
            tasks.push((other, Task::Deed(Deed::Forget(id, random.below(2) == 0))));
        }
        tasks.push((0, Task::Deed(Deed::Prune)));
        tasks.push((1, Task::Deed(Deed::Prune)));
    }
    let mut running = Vec::new();
    while !tasks.is_empty() {
        let (yard, task) = tasks.swap_remove(random.below(tasks.len()));
        running.push(start(yards, yard, task));
        std::thread::sleep(Duration::from_millis(random.below(60) as u64));
    }
    running
}

fn send(running: &Running, signal: Signal) {
    let pid = Pid::from_child(&running.child);
    kill_process(pid, signal).expect("a signal to our own child");
}

/// Stops some and kills some until all have ended.
fn disturb(running: &mut [Running], random: &mut Random) -> (u64, u64) {
    let (mut stops, mut kills) = (0, 0);
    let begun = Instant::now();
    let longest = size(2_000, 60_000);
    loop {
        let mut left = false;
        for one in running.iter_mut() {
            if one.child.try_wait().expect("waits").is_some() {
                continue;
            }
            left = true;
            match one.stopped {
                Some(until) if Instant::now() < until => continue,
                Some(_) => {
                    send(one, Signal::CONT);
                    one.stopped = None;
                }
                None => match random.below(50) {
                    0 if !one.killed => {
                        send(one, Signal::KILL);
                        one.killed = true;
                        kills += 1;
                    }
                    1 | 2 if begun.elapsed() < Duration::from_secs(20) => {
                        send(one, Signal::STOP);
                        let pause = Duration::from_millis(random.below(longest) as u64);
                        one.stopped = Some(Instant::now() + pause);
                        stops += 1;
                    }
                    _ => {}
                },
            }
        }
        if !left {
            return (stops, kills);
        }
        if begun.elapsed() > PATIENCE {
            let who: Vec<&Task> = running.iter().map(|r| &r.task).collect();
            panic!("some of these do not end: {who:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Takes notice of how it ended; true when it did what it was asked to do.
fn ended(yards: &mut [Yard], running: Running) -> bool {
    let Running { yard, task, child, killed, .. } = running;
    let yard = &mut yards[yard];
    let output = child.wait_with_output().expect("ended");
    let good = output.status.success();
    let overtaken = output.status.code() == Some(EVICTED)
        && matches!(task, Task::Deed(Deed::Backup | Deed::Prune | Deed::Forget(..)));
    let cut = killed && output.status.signal() == Some(9);
    assert!(good || overtaken || cut, "{task:?}: {} {}", output.status, text(&output.stderr));
    match &task {
        Task::Deed(deed) => yard.learn(deed, &output),
        Task::Restore(id, target) => {
            if good {
                assert!(read_tree(target) == *yard.sure[id], "restoring {id}");
            }
            let _ = std::fs::remove_dir_all(target);
        }
        Task::Check => {}
    }
    good
}

#[test]
fn a_crowd_of_processes_loses_nothing() {
    let mut random = seed("crowd", 7);
    let dir = place("crowd");
    let repository = dir.path().join("repository");
    let mut yards: Vec<Yard> = (0..3).map(|_| Yard::new(&repository, &mut random)).collect();
    yards[0].good(&["init"]);
    for (number, yard) in yards.iter_mut().enumerate() {
        yard.host = format!("host-{number}");
        yard.back_up();
    }
    let rounds = size(8, 10_000);
    let (mut stops, mut kills, mut good, mut processes) = (0, 0, 0, 0);
    for round in 0..rounds {
        let mut running = crowd(&mut yards, round, &mut random);
        let (stopped, killed) = disturb(&mut running, &mut random);
        (stops, kills, processes) = (stops + stopped, kills + killed, processes + running.len());
        good += running.into_iter().filter_map(|one| ended(&mut yards, one).then_some(())).count();
        yards.iter_mut().for_each(|yard| yard.verify(&mut random, 1));
    }
    yards.iter_mut().for_each(|yard| yard.verify_all(&mut random));
    println!("{processes} processes, {good} ended well; {stops} were stopped for a while, {kills} killed");
    note("T11 rounds of a crowd of processes", rounds as u64, 0);
}

#[test]
fn the_session_of_a_killed_backup_is_cleared_away_whatever_host_it_was_for() {
    let mut random = seed("killed session", 8);
    let dir = place("crowd");
    let mut yard = Yard::new(&dir.path().join("repository"), &mut random);
    yard.good(&["init"]);
    let sessions = || std::fs::read_dir(dir.path().join("repository/sessions")).expect("a folder").count();
    yard.host = "laptop".to_owned();
    let output = yard.backing_up().env("SNAPKEEP_KILL_AT", "before-rename-snapshots").output();
    assert_eq!(output.expect("runs").status.signal(), Some(9));
    assert_eq!(sessions(), 1);
    yard.host = "server".to_owned();
    yard.back_up();
    assert_eq!(sessions(), 0);
    yard.verify_all(&mut random);
}
