//! Disks that fill up, one block larger each time: nothing is reported that is not there, and with room made, work
//! goes on.

use crate::counters::{count, seed, size};
use crate::shelf::{Random, Tree, file};
use crate::simulation::{Fact, Promised, Then, back_up, create, edit, go_on, open, small_tree};
use snapkeep::backend::disk::simulated::{Features, SimulatedDisk, Volume};
use snapkeep::clock::Timestamp;
use snapkeep::error::Result;
use snapkeep::repository::snapshots;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

const PLACE: &str = "/repository";

/// What a run on a disk of some size came to.
struct Run {
    promised: Option<Promised>,
    trees: Vec<Tree>,
    outcome: Result<()>,
}

/// Init, backups that grow, and tags, until something fails.
fn work(disk: &SimulatedDisk, seed: u64) -> Run {
    let mut random = Random(seed);
    let mut tree = small_tree(&mut random);
    let mut run = Run { promised: None, trees: vec![tree.clone()], outcome: Ok(()) };
    run.outcome = (|| {
        let repository = match open(disk, Path::new(PLACE), None) {
            Ok(repository) => repository,
            Err(_) => create(disk, Path::new(PLACE))?,
        };
        let promised = run.promised.insert(Promised::default());
        for time in [1000, 2000, 3000, 4000] {
            edit(&mut random, &mut tree, time);
            let len = 20_000 + random.below(40_000);
            let large = random.bytes(len);
            tree.insert(format!("home/a/large-{time}"), file(large, time));
            let id = back_up(&repository, &tree, time)?;
            promised.learn(&Fact::Reported(id, Arc::new(tree.clone())));
            run.trees.push(tree.clone());
            let tags = vec![format!("at-{time}")];
            promised.learn(&Fact::Tagging(id, tags.clone()));
            snapshots::set_tags(&repository, id, tags.clone(), Timestamp { secs: time, nanos: 0 })?;
            promised.learn(&Fact::Tagged(id, tags));
        }
        Ok(())
    })();
    run
}

fn try_size(start: &Volume, features: Features, blocks: u64, seed: u64) -> std::result::Result<bool, String> {
    let disk = SimulatedDisk::new(start.clone(), features);
    disk.set_blocks_max(Some(blocks));
    let run = work(&disk, seed);
    let enough = match &run.outcome {
        Ok(()) => true,
        Err(e) if e.is_disk_full() => false,
        Err(e) => return Err(format!("it does not say that the disk is full: {e}")),
    };
    // Full as it is, it can be read and checked.
    if let Some(promised) = &run.promised {
        let repository = open(&disk, Path::new(PLACE), None).map_err(|e| format!("while full: {e}"))?;
        promised.hold(&repository, true).map_err(|e| format!("while full: {e}"))?;
    }
    let left = if blocks.is_multiple_of(2) { disk.volume() } else { disk.volume().crashed(&[]) };
    let roomy = SimulatedDisk::new(left, features);
    let tree = run.trees.last().cloned().unwrap_or_default();
    // Where the repository stood from the start, it stands now.
    let was_made = !start.files().is_empty();
    let promised = run.promised.or(was_made.then(Promised::default));
    go_on(&roomy, Path::new(PLACE), promised, &tree, blocks, Then::Settle)
        .map_err(|e| format!("with room again: {e}"))?;
    Ok(enough)
}

#[test]
fn a_full_disk_never_lies_and_goes_on_with_room() {
    let seed = seed(7);
    println!("seed {seed}");
    let (tried, failures) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    for round in 0..size(5, 100) {
        for features in [Features::ALL, Features::NONE, Features::REMOTE] {
            let empty = SimulatedDisk::new(Volume::default(), features);
            create(&empty, Path::new(PLACE)).expect("a repository");
            let made = empty.volume();
            let first = empty.blocks();
            let whole = SimulatedDisk::new(made.clone(), features);
            work(&whole, seed + round).outcome.expect("enough room");
            // Everything takes its room at once while it is written, temporary names included.
            let last = whole.blocks() + 8;
            let jobs: Vec<(u64, bool)> = (first..=last)
                .map(|blocks| (blocks, true))
                .chain((0..=first).filter(|b| b % size(16, 1) == 0).map(|blocks| (blocks, false)))
                .collect();
            let next = AtomicU64::new(0);
            std::thread::scope(|scope| {
                for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
                    scope.spawn(|| {
                        while let Some(&(blocks, is_made)) =
                            jobs.get(next.fetch_add(1, Ordering::Relaxed) as usize)
                        {
                            let start = if is_made { made.clone() } else { Volume::default() };
                            tried.fetch_add(1, Ordering::Relaxed);
                            let enough = try_size(&start, features, blocks, seed + round);
                            let right = enough.and_then(|enough| match blocks == last {
                                true if !enough => Err("not even the largest is enough".to_owned()),
                                _ => Ok(()),
                            });
                            if let Err(why) = right {
                                let what = format!("{blocks} blocks of {last}: {why}");
                                failures.lock().expect("no panic").push(what);
                            }
                        }
                    });
                }
            });
        }
    }
    let failures = failures.into_inner().expect("no panic");
    count("T5 sizes of simulated disks", tried.into_inner(), &format!("{} wrong", failures.len()));
    let shown: Vec<&String> = failures.iter().take(6).collect();
    assert!(failures.is_empty(), "{} sizes went wrong: {shown:#?}", failures.len());
}
