//! A source that changes while it is read, in every way that could lead a backup astray: it ends, it stores nothing
//! from elsewhere, all it stored is whole, and when the source is quiet again the next backup has it exactly.

use crate::cli::text;
use crate::counters::{note, size};
use crate::shelf::Random;
use crate::yard::{Yard, place, read_tree, seed};
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What lies outside of the source and must never get into a snapshot.
const SECRET: &[u8] = b"this is nobody's business";
const FILES: usize = 40;

fn calm(path: &Path) {
    let _ = std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755));
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => drop(std::fs::remove_dir_all(path)),
        Ok(_) => drop(std::fs::remove_file(path)),
        Err(_) => {}
    }
}

/// One change; errors are no matter.
fn disturb(src: &Path, outside: &Path, random: &mut Random) {
    let dir = src.join(format!("d{}", random.below(4)));
    let path = dir.join(format!("f{}", random.below(FILES / 4)));
    let bytes = || vec![b'a' + (path.as_os_str().len() % 20) as u8; 50_000];
    // Not to wait for a reader of what is a FIFO by now.
    let nonblock = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = std::fs::OpenOptions::new().write(true).custom_flags(nonblock).open(&path);
    match random.below(12) {
        0 => drop(file.and_then(|file| file.set_len(random.below(40_000) as u64))),
        1 => drop(file.and_then(|mut file| file.write_all(&[bytes(), bytes()].concat()))),
        2 => {
            calm(&path);
            let _ = symlink(outside.join("secret"), &path);
        }
        3 => {
            calm(&path);
            let _ = std::process::Command::new("mkfifo").arg(&path).stderr(Stdio::null()).status();
        }
        4 => {
            calm(&path);
            let _ = std::fs::create_dir(&path);
            let _ = std::fs::write(path.join("inside"), b"a file below what was a file");
        }
        5 => {
            // The directory itself becomes a door to the outside for a moment.
            let aside = src.join("aside");
            let _ = std::fs::rename(&dir, &aside);
            let _ = symlink(outside, &dir);
            std::thread::yield_now();
            let _ = std::fs::remove_file(&dir);
            let _ = std::fs::rename(&aside, &dir);
        }
        6 => {
            let other = src.join(format!("d{}", random.below(4)));
            let _ = std::fs::rename(&path, other.join(format!("f{}", random.below(FILES / 4))));
        }
        7 => {
            let mode = [0o000, 0o600, 0o644][random.below(3)];
            let _ = std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode));
        }
        8 => calm(&path),
        _ => {
            calm(&path);
            let _ = std::fs::write(&path, bytes());
        }
    }
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn ended(yard: &Yard) -> Output {
    let mut child = yard.backing_up().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
    let begun = Instant::now();
    while child.try_wait().expect("waits").is_none() {
        if begun.elapsed() > Duration::from_secs(120) {
            child.kill().expect("killed");
            panic!("a backup of a changing source hangs");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    child.wait_with_output().expect("ended")
}

#[test]
fn a_source_that_changes_leads_nobody_astray() {
    let mut random = seed("races", 12);
    let dir = place("races");
    let mut yard = Yard::new(&dir.path().join("repository"), &mut random);
    yard.good(&["init"]);
    let (src, outside) = (yard.home.join("src"), yard.home.join("outside"));
    std::fs::create_dir_all(&outside).expect("a directory");
    for name in ["secret", "f1", "f2"] {
        std::fs::write(outside.join(name), SECRET).expect("a secret");
    }
    for number in 0..4 {
        std::fs::create_dir_all(src.join(format!("d{number}"))).expect("a directory");
    }
    let (stop, changes) = (AtomicBool::new(false), AtomicU64::new(0));
    let backups = size(15, 1_500);
    let mut codes: BTreeMap<i32, u32> = BTreeMap::new();
    let mut snapshots = Vec::new();
    std::thread::scope(|scope| {
        let mut own = Random(random.next());
        let (src, outside, stop, changes) = (&src, &outside, &stop, &changes);
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                disturb(src, outside, &mut own);
                changes.fetch_add(1, Ordering::Relaxed);
            }
        });
        // A panic here must not leave the other at work for ever.
        let _until = Stop(stop);
        for _ in 0..backups {
            let output = ended(&yard);
            let code = output.status.code().expect("a code");
            *codes.entry(code).or_default() += 1;
            if code != 0 && code != 3 {
                snapshots.push(Err(format!("{code}: {}", text(&output.stderr))));
                break;
            }
            snapshots.push(Ok(yard.backed_up(&output)));
        }
    });
    yard.good(&["check", "--read-data"]);
    for id in snapshots {
        let target = yard.home.join("restored");
        let id = id.unwrap_or_else(|why| panic!("{why}"));
        let output = yard.restoring(&id, &target).output().expect("runs");
        assert!(output.status.success(), "{}", text(&output.stderr));
        no_secret(&target);
        std::fs::remove_dir_all(target).expect("removed");
    }
    // Quiet again.
    mend(&src);
    yard.tree = read_tree(&src);
    let last = yard.back_up();
    yard.restore(&last);
    yard.good(&["check", "--read-data"]);
    let changes = changes.into_inner();
    println!("{changes} changes during {backups} backups, which ended with {codes:?}");
    assert!(changes > backups as u64, "it did change");
    note("T14 changes of a source while it was read", changes, 0);
}

/// Only files and directories that can be read are left.
fn mend(dir: &Path) {
    for entry in std::fs::read_dir(dir).expect("listed") {
        let (path, kind) = entry.map(|e| (e.path(), e.file_type().expect("a kind"))).expect("an entry");
        if !kind.is_symlink() {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("ours");
        }
        match kind {
            kind if kind.is_dir() => mend(&path),
            kind if kind.is_file() => {}
            _ => std::fs::remove_file(&path).expect("removed"),
        }
    }
}

fn no_secret(dir: &Path) {
    for entry in std::fs::read_dir(dir).expect("listed") {
        let (path, kind) = entry.map(|e| (e.path(), e.file_type().expect("a kind"))).expect("an entry");
        if kind.is_dir() {
            no_secret(&path);
        } else if kind.is_file() {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("ours");
            let bytes = std::fs::read(&path).expect("a file");
            assert!(
                !bytes.windows(SECRET.len()).any(|w| w == SECRET),
                "{} holds what it must not",
                path.display()
            );
        }
    }
}
