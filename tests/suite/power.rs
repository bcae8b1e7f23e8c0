//! Power cuts on real file systems, right after a command has ended and while one runs: what was reported is there when
//! the disk is mounted again, all of it is whole, and work goes on.

use crate::cli::text;
use crate::counters::{note, size};
use crate::loop_disk::LoopDisk;
use crate::shelf::Random;
use crate::yard::{Deed, PASSWORD, Yard, has_command, seed};
use std::collections::HashMap;
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

/// Longer than any command takes here; who is not done by then hangs.
const PATIENCE: Duration = Duration::from_secs(120);

struct Field {
    yard: Yard,
    disk: LoopDisk,
    deeds: Vec<&'static str>,
    cuts: u64,
    /// Cuts before which the command had reported success.
    after_success: u64,
    /// How long each kind of command takes.
    usual: HashMap<std::mem::Discriminant<Deed>, Duration>,
}

impl Field {
    fn new(kind: &str, random: &mut Random) -> Option<Field> {
        let disk = LoopDisk::new(kind)?;
        let yard = Yard::new(&disk.path().join("deep/repository"), random);
        let mut deeds = vec!["backup", "backup", "backup", "tag", "key", "copy"];
        deeds.extend(["forget", "prune"].into_iter().filter(|name| has_command(name)));
        Some(Field { yard, disk, deeds, cuts: 0, after_success: 0, usual: HashMap::new() })
    }

    fn choose(&mut self, random: &mut Random) -> Deed {
        if !self.disk.path().join("deep/repository/config/00000001").exists() {
            return Deed::Init;
        }
        self.yard.choose(&self.deeds, random)
    }

    /// Does it, cuts the power while it runs or when it has ended, and brings the power back.
    fn suffer(&mut self, deed: &Deed, meanwhile: bool, random: &mut Random) -> Output {
        let kind = std::mem::discriminant(deed);
        let usual = self.usual.get(&kind).copied().unwrap_or(Duration::from_millis(20));
        let after = meanwhile.then(|| usual.mul_f64(random.below(1000) as f64 / 1000.0));
        let begun = Instant::now();
        let mut command = self.yard.doing(deed);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
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
    let second = field.yard.second.to_string_lossy().into_owned();
    field.yard.good(&["init", "-r", &second]);
    for number in 0..cuts {
        let deed = field.choose(random);
        let meanwhile = number % 2 == 1;
        let output = field.suffer(&deed, meanwhile, random);
        if !meanwhile {
            assert!(output.status.success(), "{deed:?}: {}", text(&output.stderr));
        }
        field.yard.learn(&deed, &output);
        field.yard.verify_after(&deed, output.status.success(), random);
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
