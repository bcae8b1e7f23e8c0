//! Where a database stands: a directory, held open, and a name in it.

use super::header::{self, Header};
use crate::error::{Context, Error, Result};
use crate::os::beneath;
use crate::os::dir::{self, Handle, Status};
use crate::os::held::ReadFile;
use crate::os::xattr::proc_path;
use std::ffi::{CStr, CString, OsString};
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A database's place. Cheap to clone.
#[derive(Clone)]
pub struct Place {
    dir: Handle,
    name: CString,
}

impl Place {
    pub fn new(dir: Handle, name: &CStr) -> Self {
        Place { dir, name: name.to_owned() }
    }

    /// The place a path leads to; links in the middle count, one at the end is not followed.
    pub fn at(path: &Path) -> Result<Self> {
        let cannot = || format!("cannot look at {}", path.display());
        let whole = std::path::absolute(path).context(cannot)?;
        let (Some(above), Some(name)) = (whole.parent(), whole.file_name()) else {
            return Err(Error::invalid(format!("{} is no file", path.display())));
        };
        let dir = dir::open_path(above).context(cannot)?;
        let name =
            CString::new(name.as_encoded_bytes()).map_err(|_| Error::invalid("a name with a NUL byte"))?;
        Ok(Place { dir: Arc::new(dir), name })
    }

    fn companion(&self, suffix: &str) -> CString {
        let bytes = [self.name.as_bytes(), suffix.as_bytes()].concat();
        // Neither part holds a NUL byte.
        CString::new(bytes).unwrap_or_else(|_| self.name.clone())
    }

    /// Looks at the file (`""`) or at one beside it (`"-wal"`); `None` when it is not there.
    pub fn status(&self, suffix: &str) -> io::Result<Option<Status>> {
        match dir::status(&self.dir, &self.companion(suffix)) {
            Ok(status) if status.is_file() => Ok(Some(status)),
            Ok(_) => Ok(None),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Removes one of the files; it may be missing.
    pub fn remove(&self, suffix: &str) -> io::Result<()> {
        match beneath::remove_file(&self.dir, self.companion(suffix).as_bytes()) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    /// Opens one of the files for reading.
    pub fn open(&self, suffix: &str) -> io::Result<ReadFile> {
        dir::open_file(&self.dir, &self.companion(suffix))
    }

    /// The first bytes of one of the files: as many as it has, up to `len`.
    pub fn start(&self, suffix: &str, len: usize) -> io::Result<Vec<u8>> {
        let mut out = Vec::with_capacity(len);
        self.open(suffix)?.take(len as u64).read_to_end(&mut out)?;
        Ok(out)
    }

    /// The file's header, if it begins as a database that SQLite would open.
    pub fn header(&self) -> io::Result<Option<Header>> {
        Ok(Header::parse(&self.start("", header::LEN)?))
    }

    /// Where this is, for SQLite, which opens by path; without links.
    pub fn path(&self) -> Result<PathBuf> {
        let cannot = "cannot tell where the directory is (is /proc mounted?)";
        let link = proc_path(&self.dir, None).context(|| cannot)?;
        let above = rustix::fs::readlink(&link, Vec::new()).map_err(|e| Error::io(cannot, &e.into()))?;
        let name = OsString::from_vec(self.name.as_bytes().to_vec());
        Ok(PathBuf::from(OsString::from_vec(above.into_bytes())).join(name))
    }

    /// Whether the file lies on a filesystem that other machines may write to: their writes show late.
    pub fn is_remote(&self) -> bool {
        crate::os::storage::is_remote(&self.dir)
    }
}
