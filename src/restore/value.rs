//! One file whose text gets a small change: read, then replaced whole by a file that keeps its mode and owner.

use crate::error::{Context, Error, ErrorKind, Result};
use crate::format::entry::Metadata;
use crate::json::{TEXT_MAX, TOO_LARGE};
use crate::os::apply::{self, Options};
use crate::os::dir::{self, Status};
use crate::os::metadata::Reader as Looker;
use crate::os::owners::Owners;
use crate::os::{beneath, xattr};
use crate::repository::random;
use std::io::{ErrorKind as Io, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A live file and what it holds.
pub struct Live {
    path: PathBuf,
    dir: OwnedFd,
    name: Vec<u8>,
    status: Status,
    meta: Metadata,
    pub text: Vec<u8>,
}

impl Live {
    /// Reads the file; a link is not followed.
    pub fn open(path: &Path) -> Result<Self> {
        let shown = path.display();
        let name = path.file_name().map(|n| n.as_bytes().to_vec());
        let name = name.ok_or_else(|| Error::invalid(format!("{shown} is no file")))?;
        let above = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let dir = dir::open_path(above).context(|| format!("cannot open {}", above.display()))?;
        let (mut file, status) = match dir::open_and_look(&dir, name.as_slice()) {
            Err(e) if e.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
                let what = format!("{shown} is a symbolic link; name the file it leads to with --target");
                return Err(Error::new(ErrorKind::Refused, what));
            }
            other => other.context(|| format!("cannot open {shown}"))?,
        };
        let mut text = Vec::new();
        Read::by_ref(&mut file)
            .take(TEXT_MAX + 1)
            .read_to_end(&mut text)
            .context(|| format!("cannot read {shown}"))?;
        if text.len() as u64 > TEXT_MAX {
            return Err(Error::invalid(format!("{shown} cannot be changed: {TOO_LARGE}")));
        }
        let mut meta = Looker::new(Owners::load()).metadata(&status);
        meta.xattrs = xattr::read(&xattr::Place::Open(file.as_fd()))
            .context(|| format!("cannot read the attributes of {shown}"))?;
        Ok(Live { path: path.to_owned(), dir, name, status, meta, text })
    }

    /// Other names of the same file, which a replacement leaves as they are.
    pub fn other_names(&self) -> u32 {
        self.status.links.saturating_sub(1)
    }

    /// Puts `text` in the place of what was read. A file with the same mode, owner and attributes is written beside it,
    /// made durable and renamed; when anything fails before, the file is as it was.
    pub fn replace(&self, text: &[u8]) -> Result<()> {
        let shown = self.path.display();
        let temporary = format!(".snapkeep-{}.tmp", crate::id::hex(&random::bytes::<8>()?));
        let outcome = self.write(temporary.as_bytes(), text);
        if outcome.is_err() {
            // Not there when it could not be made.
            let _ = beneath::remove_file(&self.dir, temporary.as_bytes());
        }
        outcome.map_err(|e| e.context(format!("{shown} was not changed")))?;
        let synced = dir::open_dir(&self.dir, c".").and_then(|d| Ok(rustix::fs::fsync(d)?));
        synced.context(|| format!("{shown} was changed, but the change may be lost if the power fails now"))
    }

    fn write(&self, temporary: &[u8], text: &[u8]) -> Result<()> {
        let mut file =
            beneath::create_file(&self.dir, temporary, 0o600).context(|| "cannot make a file beside it")?;
        file.write_all(text).context(|| "cannot write a file beside it")?;
        let status = dir::status_of(&file).context(|| "cannot look at the new file")?;
        let root = rustix::process::geteuid().is_root();
        let options =
            Options { owner: true, names: None, special_bits: true, xattrs: true, privileged_xattrs: root };
        let meta = Metadata { mtime: status.mtime, ..self.meta.clone() };
        if let Some(problem) = apply::apply_open(&file, &status, false, &meta, &options).into_iter().next() {
            return Err(problem.context("its owner, mode and attributes cannot all be kept"));
        }
        file.sync_all().context(|| "cannot make the new file durable")?;
        self.unmoved()?;
        beneath::rename(&self.dir, temporary, &self.dir, &self.name).context(|| "cannot rename the new file")
    }

    /// Somebody else's change must not be lost.
    fn unmoved(&self) -> Result<()> {
        let changed = || Error::new(ErrorKind::Refused, "somebody changed it meanwhile; try again");
        let name = std::ffi::CString::new(self.name.as_slice()).map_err(|_| changed())?;
        let now = match dir::status(&self.dir, &name) {
            Err(e) if e.kind() == Io::NotFound => return Err(changed()),
            other => other.context(|| "cannot look at it again")?,
        };
        let look = |s: &Status| (s.id(), s.size, s.mtime, s.ctime, s.mode, s.uid, s.gid);
        if look(&now) == look(&self.status) { Ok(()) } else { Err(changed()) }
    }
}
