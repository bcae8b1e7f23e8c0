//! Room for bytes that are needed again soon: in memory as long as they are few, then in files that nobody else sees.

use crate::error::{Context, Result};
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::os::unix::fs::FileExt;
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
            Some(file) => read_or_zeros(file, at, out).context(|| "cannot read a temporary copy"),
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

/// Reads at a place in a file; zeros behind its end.
pub fn read_or_zeros(file: &File, mut at: u64, mut out: &mut [u8]) -> std::io::Result<()> {
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

/// A name that nobody else has.
pub fn fresh_name() -> String {
    static NUMBERS: AtomicU64 = AtomicU64::new(0);
    format!("snapkeep-scratch-{}-{}", std::process::id(), NUMBERS.fetch_add(1, Ordering::Relaxed))
}
