//! Room for copies of databases.

use super::image::Files;
use crate::error::{Context, Error, Result};
use crate::os::held::ReadFile;
use crate::os::spool::{Spool, fresh_name, read_or_zeros};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

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
