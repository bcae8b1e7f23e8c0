//! A real disk on which the process kills itself at a chosen call. For tests alone: nothing of it is there unless
//! `SNAPKEEP_KILL_AT` is set.
//!
//! The variable names a point and, after a colon, which of the times it is reached (the first otherwise):
//! `before-rename-new-sessions`, `half-write-snapshots`, `after-link-packs:3`. `log=FILE` kills nothing and appends the
//! name of every point that is reached to the file.

use super::bulk::RealFile;
use super::real::RealDisk;
use super::{Disk, DiskFile, Stat};
use std::fs::{File, OpenOptions};
use std::io::{Result, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

const VARIABLE: &str = "SNAPKEEP_KILL_AT";

#[derive(Clone, Debug)]
pub struct KillingDisk {
    root: PathBuf,
    plan: Arc<Plan>,
}

#[derive(Debug)]
enum Plan {
    /// The point, and how often it will still be passed.
    Kill(String, AtomicU64),
    Log(Mutex<File>),
}

impl KillingDisk {
    /// For the repository in `root`, when the variable asks for it.
    pub fn asked_for(root: &Path) -> Option<Self> {
        let value = std::env::var(VARIABLE).ok()?;
        let plan = match value.strip_prefix("log=") {
            Some(file) => {
                Plan::Log(Mutex::new(OpenOptions::new().append(true).create(true).open(file).ok()?))
            }
            None => {
                let (name, times) = value.split_once(':').unwrap_or((&value, "1"));
                Plan::Kill(name.to_owned(), AtomicU64::new(times.parse().ok()?))
            }
        };
        Some(KillingDisk { root: root.to_path_buf(), plan: Arc::new(plan) })
    }

    /// The repository's folder that a path lies in.
    fn folder(&self, path: &Path) -> String {
        let below = path.strip_prefix(&self.root).ok();
        let first = below.and_then(|below| below.components().next());
        first.map_or_else(|| "root".to_owned(), |first| first.as_os_str().to_string_lossy().into_owned())
    }

    fn around<T>(&self, act: &str, path: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let folder = self.folder(path);
        self.plan.reach("before", act, &folder);
        let done = work()?;
        self.plan.reach("after", act, &folder);
        Ok(done)
    }

    fn file(&self, path: &Path, file: RealFile) -> KillingFile {
        KillingFile { file, folder: self.folder(path), plan: Arc::clone(&self.plan) }
    }
}

impl Plan {
    fn is_at(&self, moment: &str, act: &str, folder: &str) -> bool {
        let name = format!("{moment}-{act}-{folder}");
        match self {
            Plan::Log(file) => {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                let _ = file.write_all(format!("{name}\n").as_bytes());
                false
            }
            Plan::Kill(point, left) => *point == name && left.fetch_sub(1, Ordering::Relaxed) == 1,
        }
    }

    fn reach(&self, moment: &str, act: &str, folder: &str) {
        if self.is_at(moment, act, folder) {
            die();
        }
    }
}

/// As if somebody had sent it: nothing is tidied up, nobody is told.
fn die() {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
}

impl Disk for KillingDisk {
    type File = KillingFile;
    type Lines = <RealDisk as Disk>::Lines;

    fn stat(&self, path: &Path) -> Result<Stat> {
        RealDisk.stat(path)
    }

    fn list(&self, dir: &Path) -> Result<Self::Lines> {
        RealDisk.list(dir)
    }

    fn make_dir(&self, path: &Path, mode: u32) -> Result<()> {
        self.around("make-dir", path, || RealDisk.make_dir(path, mode))
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        self.around("sync-dir", dir, || RealDisk.sync_dir(dir))
    }

    fn open(&self, path: &Path) -> Result<KillingFile> {
        Ok(self.file(path, RealDisk.open(path)?))
    }

    fn create_nameless(&self, dir: &Path, mode: u32) -> Result<KillingFile> {
        let file = self.around("create", dir, || RealDisk.create_nameless(dir, mode))?;
        Ok(self.file(dir, file))
    }

    fn create_new(&self, path: &Path, mode: u32) -> Result<KillingFile> {
        let file = self.around("create", path, || RealDisk.create_new(path, mode))?;
        Ok(self.file(path, file))
    }

    fn link(&self, file: &KillingFile, to: &Path) -> Result<()> {
        self.around("link", to, || RealDisk.link(&file.file, to))
    }

    fn link_again(&self, from: &Path, to: &Path) -> Result<()> {
        self.around("link", to, || RealDisk.link_again(from, to))
    }

    fn rename_new(&self, from: &Path, to: &Path) -> Result<()> {
        self.around("rename", to, || RealDisk.rename_new(from, to))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.around("rename", to, || RealDisk.rename(from, to))
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.around("remove", path, || RealDisk.remove(path))
    }

    fn is_remote(&self, path: &Path) -> bool {
        RealDisk.is_remote(path)
    }
}

#[derive(Debug)]
pub struct KillingFile {
    file: RealFile,
    folder: String,
    plan: Arc<Plan>,
}

impl Write for KillingFile {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        if self.plan.is_at("half", "write", &self.folder) {
            self.file.write_all(&bytes[..bytes.len() / 2])?;
            die();
        }
        let written = self.file.write(bytes)?;
        self.plan.reach("after", "write", &self.folder);
        Ok(written)
    }

    fn flush(&mut self) -> Result<()> {
        self.file.flush()
    }
}

impl DiskFile for KillingFile {
    fn size(&self) -> Result<u64> {
        self.file.size()
    }

    fn expect_much(&mut self) {
        self.file.expect_much();
    }

    fn read_at(&self, out: &mut [u8], offset: u64) -> Result<usize> {
        DiskFile::read_at(&self.file, out, offset)
    }

    fn sync(&self) -> Result<()> {
        self.plan.reach("before", "sync", &self.folder);
        self.file.sync()?;
        self.plan.reach("after", "sync", &self.folder);
        Ok(())
    }

    fn set_mode(&self, mode: u32) -> Result<()> {
        self.plan.reach("before", "set-mode", &self.folder);
        self.file.set_mode(mode)?;
        self.plan.reach("after", "set-mode", &self.folder);
        Ok(())
    }

    fn try_lock(&self) -> Result<bool> {
        DiskFile::try_lock(&self.file)
    }
}
