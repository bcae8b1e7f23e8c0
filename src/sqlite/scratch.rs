//! Room for copies: in memory as long as they are small, then in files that nobody else sees.

use super::image::Files;
use crate::error::{Context, Error, Result};
use crate::os::held::ReadFile;
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes written once from front to back, then read.
pub struct Spool {
    memory: Vec<u8>,
    file: Option<File>,
    len: u64,
    dir: PathBuf,
    memory_max: usize,
}

impl Spool {
    /// Copies of more than `memory_max` bytes go into a nameless file in `dir`.
    pub fn new(dir: &Path, memory_max: usize) -> Self {
        Spool { memory: Vec::new(), file: None, len: 0, dir: dir.to_path_buf(), memory_max }
    }

    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let cannot = || format!("cannot write a temporary copy into {}", self.dir.display());
        if self.file.is_none() && self.memory.len() + bytes.len() > self.memory_max {
            let file = nameless(&self.dir).context(cannot)?;
            file.write_all_at(&self.memory, 0).context(cannot)?;
            self.file = Some(file);
            self.memory = Vec::new();
        }
        match &self.file {
            Some(file) => file.write_all_at(bytes, self.len).context(cannot)?,
            None => self.memory.extend_from_slice(bytes),
        }
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Reads what was written; zeros behind the end.
    pub fn read(&self, at: u64, out: &mut [u8]) -> Result<()> {
        match &self.file {
            Some(file) => read_or_zeros(file, at, out).context(|| "cannot read the copy of the database"),
            None => {
                let from = (at as usize).min(self.memory.len());
                let there = (self.memory.len() - from).min(out.len());
                out[..there].copy_from_slice(&self.memory[from..from + there]);
                out[there..].fill(0);
                Ok(())
            }
        }
    }
}

impl Files for Spool {
    fn read_main(&mut self, at: u64, out: &mut [u8]) -> Result<()> {
        self.read(at, out)
    }

    fn read_wal(&mut self, _: u64, _: &mut [u8]) -> Result<()> {
        Err(Error::invalid("a copy has no write-ahead log"))
    }
}

/// Main file and write-ahead log, opened as plain files.
pub struct Plain {
    pub main: ReadFile,
    pub wal: Option<ReadFile>,
}

impl Files for Plain {
    fn read_main(&mut self, at: u64, out: &mut [u8]) -> Result<()> {
        read_or_zeros(&self.main, at, out).context(|| "cannot read the database")
    }

    fn read_wal(&mut self, at: u64, out: &mut [u8]) -> Result<()> {
        let wal = self.wal.as_ref().ok_or_else(|| Error::invalid("there is no write-ahead log"))?;
        read_or_zeros(wal, at, out).context(|| "cannot read the write-ahead log")
    }
}

fn read_or_zeros(file: &File, mut at: u64, mut out: &mut [u8]) -> std::io::Result<()> {
    while !out.is_empty() {
        match file.read_at(out, at) {
            Ok(0) => {
                out.fill(0);
                break;
            }
            Ok(n) => {
                out = &mut out[n..];
                at += n as u64;
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// A file that vanishes when it is closed, whatever happens to this process.
fn nameless(dir: &Path) -> std::io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(dir, flags | OFlags::TMPFILE, Mode::RUSR | Mode::WUSR) {
        Ok(fd) => Ok(File::from(fd)),
        // Not every filesystem has such files.
        Err(_) => {
            let path = dir.join(fresh_name());
            let fd = rustix::fs::open(&path, flags | OFlags::CREATE | OFlags::EXCL, Mode::RUSR | Mode::WUSR)?;
            std::fs::remove_file(&path)?;
            Ok(File::from(fd))
        }
    }
}

fn fresh_name() -> String {
    static NUMBERS: AtomicU64 = AtomicU64::new(0);
    format!("snapkeep-scratch-{}-{}", std::process::id(), NUMBERS.fetch_add(1, Ordering::Relaxed))
}

/// A directory for us alone, removed with everything in it.
pub struct ScratchDir {
    path: PathBuf,
}

impl ScratchDir {
    pub fn new(parent: &Path) -> Result<Self> {
        let cannot = || format!("cannot make a directory in {}", parent.display());
        // A name left by a process of the same number that was killed is in the way; the next one is not.
        for _ in 0..100 {
            let path = parent.join(fresh_name());
            match std::fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(ScratchDir { path }),
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e).context(cannot),
            }
        }
        Err(Error::invalid(cannot()))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
