//! Files of the state directory: appended to in one write, replaced in one step, locked while they change.

use crate::error::{Context, Error, ErrorKind, Result};
use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Makes a folder that only we may enter.
pub(super) fn folder(dir: &Path) -> Result<PathBuf> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.context(|| format!("cannot make {}", dir.display()))?;
    Ok(dir.to_owned())
}

/// Appends a line in one write. What a crash left of the line before is closed off first.
pub(super) fn append(path: &Path, line: &str) -> Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let options = || File::options().read(true).append(true).create(true).mode(0o600).open(path);
    let mut file = options().context(failed)?;
    flock(&file, FlockOperation::LockExclusive).map_err(std::io::Error::from).context(failed)?;
    let mut text = String::with_capacity(line.len() + 2);
    if is_torn(&mut file).context(failed)? {
        text.push('\n');
    }
    text.push_str(line);
    text.push('\n');
    file.write_all(text.as_bytes()).context(failed)
}

/// Whether the file's last line has no end.
fn is_torn(file: &mut File) -> std::io::Result<bool> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

/// Puts these bytes in the place of whatever has the name, durably and in one step.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let beside = sibling(path, &format!("new-{}", std::process::id()));
    let written = || -> std::io::Result<()> {
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        match path.parent() {
            Some(dir) => File::open(dir)?.sync_all(),
            None => Ok(()),
        }
    };
    written().inspect_err(|_| drop(std::fs::remove_file(&beside))).context(failed)
}

/// The file `NAME.ENDING` beside the one called NAME.
pub(super) fn sibling(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}

/// Waits for the lock file and holds it until the answer is dropped.
pub(super) fn lock(path: &Path) -> Result<File> {
    let file = lock_file(path)?;
    flock(&file, FlockOperation::LockExclusive)
        .map_err(std::io::Error::from)
        .context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

/// As `lock`, but answers `None` at once while somebody else holds it.
pub(super) fn try_lock(path: &Path) -> Result<Option<File>> {
    let file = lock_file(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(e) => {
            let e = std::io::Error::from(e);
            Err(Error::new(ErrorKind::Io, format!("cannot lock {}: {e}", path.display())))
        }
    }
}

fn lock_file(path: &Path) -> Result<File> {
    let opened = File::options().write(true).create(true).truncate(false).mode(0o600).open(path);
    opened.context(|| format!("cannot open {}", path.display()))
}
