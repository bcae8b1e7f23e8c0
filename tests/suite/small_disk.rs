//! Real disks with too little room: success is never reported for what is not there, and with room made, work goes on.
//! Needs root, to make file systems in memory of any size.

use crate::cli::text;
use crate::counters::{note, size};
use crate::loop_disk::must;
use crate::shelf::Random;
use crate::yard::{Deed, Yard, has_command, seed};
use std::path::{Path, PathBuf};

const PAGE: u64 = 4096;
const AMPLE: u64 = 64 << 20;
/// What a collection may need to begin with: more than the packs of these sources hold.
const LITTLE: u64 = 4 << 20;

/// A file system in memory whose size can be changed.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    pub fn new(name: &str) -> Option<SmallDisk> {
        let mount = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&mount).expect("a directory");
        let size = format!("size={AMPLE}");
        match must("mount", &["-t", "tmpfs", "-o", &size, "none", &mount.to_string_lossy()]) {
            Ok(()) => Some(SmallDisk(mount)),
            Err(why) => {
                println!("NOT TRIED: no file system in memory here ({why})");
                let _ = std::fs::remove_dir(&mount);
                None
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    fn used(&self) -> u64 {
        let room = rustix::fs::statvfs(&self.0).expect("a file system");
        (room.f_blocks - room.f_bfree) * room.f_frsize
    }

    /// Room for so much more than there is.
    pub fn leave(&self, room: u64) {
        self.resize(self.used() + room);
    }

    fn resize(&self, size: u64) {
        let options = format!("remount,size={size}");
        must("mount", &["-o", &options, &self.0.to_string_lossy()]).expect("another size");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = must("umount", &[&self.0.to_string_lossy()]);
        let _ = std::fs::remove_dir(&self.0);
    }
}

fn yard_on(disk: &SmallDisk, random: &mut Random) -> Yard {
    let mut yard = Yard::new(&disk.0.join("repository"), random);
    yard.good(&["init"]);
    for _ in 0..2 {
        yard.back_up();
        yard.change(random);
    }
    yard
}

#[test]
fn a_full_disk_never_looks_like_success() {
    let mut random = seed("small disks", 9);
    let Some(disk) = SmallDisk::new("small-disk") else { return };
    let mut yard = yard_on(&disk, &mut random);
    let (sizes, mut refused) = (size(60, 2_000), 0);
    for _ in 0..sizes {
        if disk.used() > AMPLE / 2 {
            std::fs::remove_dir_all(disk.0.join("repository")).expect("removed");
            yard = yard_on(&disk, &mut random);
        }
        let deed = yard.choose(&["backup", "backup", "backup", "tag", "key"], &mut random);
        // About as much as a backup takes here.
        disk.leave(PAGE * random.below(50) as u64);
        let output = yard.doing(&deed).output().expect("runs");
        yard.learn(&deed, &output);
        let good = output.status.success();
        if !good {
            let told = text(&output.stderr);
            assert!(told.contains("space") || told.contains("full"), "{deed:?}: {told}");
            assert_eq!(output.status.code(), Some(1), "{deed:?}: {told}");
            refused += 1;
        }
        // Reading needs no room.
        yard.verify_after(&deed, good, &mut random);
        disk.resize(AMPLE);
        if !good {
            yard.change(&mut random);
            yard.back_up();
        }
    }
    yard.verify_all(&mut random);
    println!("{sizes} sizes, {refused} of them too small");
    assert!(refused > 0 && refused < sizes, "some are enough and some are not");
    note("T5 sizes of a real disk", sizes as u64, 0);
}

#[test]
fn room_can_be_made_on_a_full_disk() {
    if !has_command("forget") || !has_command("prune") {
        return;
    }
    let mut random = seed("full disks", 10);
    let Some(disk) = SmallDisk::new("full-disk") else { return };
    let (tries, mut at_once) = (size(6, 300), 0);
    for _ in 0..tries {
        let mut yard = yard_on(&disk, &mut random);
        for _ in 0..4 {
            yard.change(&mut random);
            yard.back_up();
        }
        disk.leave(PAGE * random.below(4) as u64);
        let before = disk.used();
        let ids: Vec<String> = yard.sure.keys().cloned().collect();
        for id in &ids[..ids.len() - 1] {
            let deed = Deed::Forget(id.clone(), false);
            let output = yard.doing(&deed).output().expect("runs");
            assert!(output.status.success(), "{deed:?}: {}", text(&output.stderr));
            yard.learn(&deed, &output);
        }
        let output = yard.doing(&Deed::Prune).output().expect("runs");
        yard.verify(&mut random, 1);
        if output.status.success() {
            at_once += 1;
        } else {
            // Packs that are partly needed can only be rewritten into a little room.
            assert!(text(&output.stderr).contains("full"), "prune: {}", text(&output.stderr));
            disk.leave(LITTLE);
            let output = yard.doing(&Deed::Prune).output().expect("runs");
            assert!(output.status.success(), "prune: {}", text(&output.stderr));
            yard.verify(&mut random, 1);
        }
        assert!(disk.used() < before, "nothing was freed: {} then {}", before, disk.used());
        disk.resize(AMPLE);
        yard.back_up();
        yard.good(&["prune", "--max-unused", "0"]);
        yard.verify_all(&mut random);
        std::fs::remove_dir_all(disk.0.join("repository")).expect("removed");
    }
    println!("{at_once} of {tries} without any room at all");
    note("T5 full disks on which room was made", tries as u64, 0);
}
