//! The file systems of this machine.

use super::bulk::RealFile;
use super::{Disk, DiskFile, Kind, Line, Stat};
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, RenameFlags};
use std::fs::{DirEntry, File, FileType, Metadata, ReadDir};
use std::io::Result;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

fn kind(file_type: FileType) -> Kind {
    match file_type {
        t if t.is_file() => Kind::File,
        t if t.is_dir() => Kind::Directory,
        _ => Kind::Other,
    }
}

fn stat(meta: &Metadata) -> Stat {
    Stat { kind: kind(meta.file_type()), size: meta.len() }
}

fn line(entry: Result<DirEntry>) -> Result<Line> {
    let entry = entry?;
    Ok((entry.file_name(), entry.metadata().map(|meta| stat(&meta))))
}

impl Disk for RealDisk {
    type File = RealFile;
    type Lines = std::iter::Map<ReadDir, fn(Result<DirEntry>) -> Result<Line>>;

    fn stat(&self, path: &Path) -> Result<Stat> {
        std::fs::metadata(path).map(|meta| stat(&meta))
    }

    fn list(&self, dir: &Path) -> Result<Self::Lines> {
        Ok(std::fs::read_dir(dir)?.map(line as fn(Result<DirEntry>) -> Result<Line>))
    }

    fn make_dir(&self, path: &Path, mode: u32) -> Result<()> {
        std::fs::DirBuilder::new().mode(mode).create(path)
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        File::open(dir)?.sync_all()
    }

    fn open(&self, path: &Path) -> Result<RealFile> {
        Ok(File::open(path)?.into())
    }

    fn create_nameless(&self, dir: &Path, mode: u32) -> Result<RealFile> {
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        Ok(File::from(rustix::fs::open(dir, flags, Mode::from_raw_mode(mode))?).into())
    }

    fn create_new(&self, path: &Path, mode: u32) -> Result<RealFile> {
        Ok(std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?.into())
    }

    fn link(&self, file: &RealFile, to: &Path) -> Result<()> {
        let from = format!("/proc/self/fd/{}", file.file.as_raw_fd());
        Ok(rustix::fs::linkat(CWD, from, CWD, to, AtFlags::SYMLINK_FOLLOW)?)
    }

    fn link_again(&self, from: &Path, to: &Path) -> Result<()> {
        std::fs::hard_link(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> Result<()> {
        Ok(rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> Result<()> {
        std::fs::remove_file(path)
    }

    fn is_remote(&self, path: &Path) -> bool {
        crate::os::storage::is_slow(path)
    }
}

impl DiskFile for RealFile {
    fn size(&self) -> Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn expect_much(&mut self) {
        RealFile::expect_much(self);
    }

    fn read_at(&self, out: &mut [u8], offset: u64) -> Result<usize> {
        FileExt::read_at(&self.file, out, offset)
    }

    fn sync(&self) -> Result<()> {
        self.file.sync_all()
    }

    fn set_mode(&self, mode: u32) -> Result<()> {
        Ok(rustix::fs::fchmod(&self.file, Mode::from_raw_mode(mode))?)
    }

    fn try_lock(&self) -> Result<bool> {
        match rustix::fs::flock(&self.file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }
}
