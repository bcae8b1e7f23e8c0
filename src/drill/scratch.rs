//! A place of its own for one drill, gone at the end however the drill ends; what a killed one left goes with the next.

use crate::error::{Context, Error, Result};
use crate::id::hex;
use crate::os::dir::status_at_path;
use crate::os::process::user_id;
use crate::repository::random;
use rustix::fs::{FlockOperation, flock};
use std::fs::{DirBuilder, File, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

const NAME: &str = "snapkeep-drill-";
/// Held locked while the drill runs: by it a later drill knows what was left behind.
const LOCK: &str = "lock";

/// The place.
pub struct Scratch {
    dir: PathBuf,
    /// Keeps others from taking it for a leftover.
    _lock: File,
    gone: bool,
}

impl Scratch {
    /// Makes one in the directory `above`, which must be there.
    pub fn new(above: &Path) -> Result<Self> {
        let cannot = || format!("cannot make a scratch place in {}", above.display());
        let above = above.canonicalize().context(cannot)?;
        let number = hex(&random::bytes::<8>()?);
        let dir = above.join(format!("{NAME}{number}"));
        // Under another name until it is locked, so that nobody takes it for a leftover.
        let first = above.join(format!(".{NAME}{number}"));
        DirBuilder::new().mode(0o700).create(&first).context(cannot)?;
        let made = File::create_new(first.join(LOCK)).and_then(|lock| {
            flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
            std::fs::rename(&first, &dir)?;
            Ok(lock)
        });
        match made {
            Ok(lock) => Ok(Scratch { dir, _lock: lock, gone: false }),
            Err(e) => {
                let _ = std::fs::remove_dir_all(&first);
                Err(Error::io(cannot(), &e))
            }
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Removes it.
    pub fn remove(mut self) -> Result<()> {
        self.gone = true;
        remove_tree(&self.dir).context(|| format!("cannot remove the scratch place {}", self.dir.display()))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.gone {
            // The drill has ended early and has said why; the next one tries again.
            let _ = remove_tree(&self.dir);
        }
    }
}

/// Removes a tree, directories included that nobody may look into.
fn remove_tree(dir: &Path) -> std::io::Result<()> {
    if std::fs::remove_dir_all(dir).is_ok() {
        return Ok(());
    }
    let mut waiting = vec![dir.to_path_buf()];
    while let Some(dir) = waiting.pop() {
        let _ = std::fs::set_permissions(&dir, Permissions::from_mode(0o700));
        let Ok(entries) = std::fs::read_dir(&dir) else { continue };
        let dirs = entries.flatten().filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir()));
        waiting.extend(dirs.map(|e| e.path()));
    }
    match std::fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Removes what drills that were killed have left in `above`, and answers their places.
pub fn remove_leftovers(above: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(above) else { return Vec::new() };
    let ours = |name: &str| {
        name.strip_prefix(NAME)
            .is_some_and(|hex| hex.len() == 16 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    let mut removed = Vec::new();
    for entry in entries.flatten() {
        let path = entry.path();
        if !entry.file_name().to_str().is_some_and(ours) {
            continue;
        }
        // In a directory that everybody writes to, only what is ours counts.
        let is_ours = |path: &Path, dir: bool| {
            status_at_path(path)
                .is_ok_and(|s| s.uid == user_id() && s.is_dir() == dir && (dir || s.is_file()))
        };
        let lock = path.join(LOCK);
        if !is_ours(&path, true) || !is_ours(&lock, false) {
            continue;
        }
        let Ok(lock) = File::open(lock) else { continue };
        // Whoever holds it is alive.
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() && remove_tree(&path).is_ok() {
            removed.push(path);
        }
    }
    removed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_go_and_what_is_in_use_stays() {
        let above = tempfile::tempdir().expect("made");
        let used = Scratch::new(above.path()).expect("made");
        let left = above.path().join(format!("{NAME}0123456789abcdef"));
        std::fs::create_dir_all(left.join("tree/closed")).expect("made");
        std::fs::write(left.join("tree/closed/x"), "x").expect("written");
        std::fs::write(left.join(LOCK), "").expect("written");
        std::fs::set_permissions(left.join("tree/closed"), Permissions::from_mode(0o000)).expect("set");
        let other = above.path().join(format!("{NAME}0123456789abcdeg"));
        let unlocked = above.path().join(format!("{NAME}0123456789abcde0"));
        std::fs::create_dir(&other).expect("made");
        std::fs::create_dir(&unlocked).expect("made");
        assert_eq!(remove_leftovers(above.path()), std::slice::from_ref(&left));
        assert!(used.dir().is_dir() && other.is_dir() && unlocked.is_dir() && !left.exists());
        let dir = used.dir().to_path_buf();
        drop(used);
        assert!(!dir.exists());
    }
}
