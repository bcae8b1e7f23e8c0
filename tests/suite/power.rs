//! Power cuts on real file systems, right after a command has ended and while one runs: what was reported is there when
//! the disk is mounted again, all of it is whole, and work goes on.

use crate::cli::text;
use crate::counters::{note, size};
use crate::loop_disk::LoopDisk;
use crate::shelf::Random;
use crate::yard::{PASSWORD, Yard, has_command, seed};
use std::collections::HashMap;
use std::process::{Child, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longer than any command takes here; who is not done by then hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is being done when the power goes.
#[derive(Clone, Debug)]
enum Deed {
    Init,
    Backup,
    Tag(String, String),
    AddKey(String),
    Copy,
    Forget(String, bool),
    Prune,
}

struct Field {
    yard: Yard,
    disk: LoopDisk,
    deeds: Vec<&'static str>,
    cuts: u64,
    /// Cuts before which the command had reported success.
    after_success: u64,
    /// The second repository had these when a copy was reported.
    copied: usize,
    /// How long each kind of command takes.
    usual: HashMap<std::mem::Discriminant<Deed>, Duration>,
}

impl Field {
    fn new(kind: &str, random: &mut Random) -> Option<Field> {
        let disk = LoopDisk::new(kind)?;
        let yard = Yard::new(&disk.path().join("deep/repository"), random);
        let mut deeds = vec!["backup", "backup", "backup", "tag", "key", "copy"];
        deeds.extend(["forget", "prune"].into_iter().filter(|name| has_command(name)));
        Some(Field { yard, disk, deeds, cuts: 0, after_success: 0, copied: 0, usual: HashMap::new() })
    }

    fn choose(&mut self, random: &mut Random) -> Deed {
        if !self.disk.path().join("deep/repository/config/00000001").exists() {
            return Deed::Init;
        }
        let ids: Vec<&String> = self.yard.sure.keys().collect();
        let some = |random: &mut Random| ids[random.below(ids.len())].clone();
        match self.deeds[random.below(self.deeds.len())] {
            _ if ids.len() < 2 => {}
            "tag" => return Deed::Tag(some(random), format!("t{}", random.below(1000))),
            "key" if self.yard.passwords.len() < 8 => {
                return Deed::AddKey(format!("word {}", random.next()));
            }
            "copy" => return Deed::Copy,
            "forget" if ids.len() > 5 => return Deed::Forget(some(random), random.below(2) == 0),
            "prune" => return Deed::Prune,
            _ => {}
        }
        self.yard.change(random);
        Deed::Backup
    }

    fn start(&self, deed: &Deed) -> Child {
        let second = self.second();
        let mut command = match deed {
            Deed::Init => self.yard.command(&["init"]),
            Deed::Backup => self.yard.command(&Yard::BACKUP),
            Deed::Tag(id, tag) => self.yard.command(&["tag", "--set", tag, id]),
            Deed::AddKey(word) => {
                let mut command = self.yard.command(&["key", "add"]);
                command.env("SNAPKEEP_NEW_PASSWORD", word);
                command
            }
            Deed::Copy => self.yard.command(&["-r", &second, "copy", "--from-repo", &self.first()]),
            Deed::Forget(id, true) => self.yard.command(&["forget", id]),
            Deed::Forget(id, false) => self.yard.command(&["forget", "--no-trash", id]),
            Deed::Prune => self.yard.command(&["prune", "--max-unused", "0"]),
        };
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs")
    }

    fn first(&self) -> String {
        self.yard.repository.to_string_lossy().into_owned()
    }

    fn second(&self) -> String {
        self.disk.path().join("second").to_string_lossy().into_owned()
    }

    /// Does it, cuts the power while it runs or when it has ended, and brings the power back.
    fn suffer(&mut self, deed: &Deed, meanwhile: bool, random: &mut Random) -> Output {
        let kind = std::mem::discriminant(deed);
        let usual = self.usual.get(&kind).copied().unwrap_or(Duration::from_millis(20));
        let after = meanwhile.then(|| usual.mul_f64(random.below(1000) as f64 / 1000.0));
        let begun = Instant::now();
        let mut child = self.start(deed);
        if let Some(after) = after {
            while begun.elapsed() < after && child.try_wait().expect("waits").is_none() {
                std::thread::sleep(Duration::from_micros(200));
            }
            self.disk.cut();
        }
        let output = finish(child, deed);
        if !meanwhile {
            self.usual.insert(kind, (usual + begun.elapsed()) / 2);
            self.disk.cut();
        }
        self.disk.restart();
        self.cuts += 1;
        self.after_success += u64::from(output.status.success());
        output
    }

    /// What is known now that it has ended like this.
    fn learn(&mut self, deed: &Deed, output: &Output) {
        let good = output.status.success();
        let yard = &mut self.yard;
        match deed {
            Deed::Backup if good => drop(yard.backed_up(output)),
            Deed::Tag(id, tag) => {
                yard.tags.remove(id);
                if good {
                    yard.tags.insert(id.clone(), vec![tag.clone()]);
                }
            }
            Deed::AddKey(word) if good => yard.passwords.push(word.clone()),
            Deed::Copy if good => self.copied = yard.sure.len(),
            Deed::Forget(id, _) => {
                yard.tags.remove(id);
                let tree = yard.sure.remove(id).expect("a known snapshot");
                if good {
                    yard.forgotten.insert(id.clone());
                } else {
                    yard.doubtful.insert(id.clone(), Arc::clone(&tree));
                }
            }
            _ => {}
        }
    }

    fn verify(&mut self, deed: &Deed, good: bool, random: &mut Random) {
        if matches!(deed, Deed::Init) && !good {
            // It was cut short: then it can be made again, unless it had come into being already.
            let again = self.yard.run(&["init"]);
            let there = self.yard.run(&["snapshots"]);
            assert!(there.status.success(), "{} {}", text(&again.stderr), text(&there.stderr));
        }
        self.yard.verify(random, 1);
        let second = self.second();
        if self.copied > 0 {
            let told = self.yard.good(&["-r", &second, "snapshots", "--json"]);
            let all: serde_json::Value = serde_json::from_str(&told).expect("an array");
            let there = all.as_array().expect("an array").len();
            assert!(there >= self.copied, "{there} snapshots of {} that were reported copied", self.copied);
        }
        if self.copied > 0 || matches!(deed, Deed::Copy) {
            self.yard.good(&["-r", &second, "check", "--read-data"]);
        }
    }
}

/// The output of a command that ends by itself, whatever has become of its disk.
fn finish(mut child: Child, deed: &Deed) -> Output {
    let begun = Instant::now();
    while child.try_wait().expect("waits").is_none() {
        if begun.elapsed() > PATIENCE {
            child.kill().expect("killed");
            panic!("{deed:?} hangs");
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    child.wait_with_output().expect("ended")
}

/// Half of the cuts when the command has ended, half while it runs.
fn suffer(kind: &str, cuts: usize, random: &mut Random) -> u64 {
    let Some(mut field) = Field::new(kind, random) else { return 0 };
    field.disk.restart();
    std::fs::create_dir(field.disk.path().join("deep")).expect("a directory");
    field.yard.good(&["init", "-r", &field.second()]);
    for number in 0..cuts {
        let deed = field.choose(random);
        let meanwhile = number % 2 == 1;
        let output = field.suffer(&deed, meanwhile, random);
        if !meanwhile {
            assert!(output.status.success(), "{deed:?}: {}", text(&output.stderr));
        }
        field.learn(&deed, &output);
        field.verify(&deed, output.status.success(), random);
    }
    field.yard.verify_all(random);
    println!("{kind}: {} cuts, {} of them after a success was reported", field.cuts, field.after_success);
    assert!(field.yard.passwords[0] == PASSWORD && field.after_success < field.cuts, "some came in between");
    field.cuts
}

#[test]
fn what_was_reported_survives_power_cuts() {
    let mut random = seed("power cuts", 3);
    let cuts = suffer("ext4", size(80, 5_000), &mut random) + suffer("xfs", size(80, 5_000), &mut random);
    note("T3 power cuts on ext4 and xfs", cuts, 0);
}
