//! A directory of its own for one piece of work, gone at the end however that ends; what a killed one left goes with the next.

use super::dir::status_at_path;
use super::process::user_id;
use crate::error::{Context, Error, Result};
use crate::id::hex;
use rustix::fs::{FlockOperation, flock};
use std::fs::{DirBuilder, File, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Held locked as long as the work goes on: by it the next one knows what was left behind.
const LOCK: &str = "lock";

/// The place.
pub struct Scratch {
    dir: PathBuf,
    /// Keeps others from taking it for a leftover.
    _lock: File,
    gone: bool,
}

impl Scratch {
    /// Makes one in the directory `above`, which must be there, with a random number after `prefix`.
    pub fn new(above: &Path, prefix: &str, number: [u8; 8]) -> Result<Self> {
        let cannot = || format!("cannot make a scratch place in {}", above.display());
        let above = above.canonicalize().context(cannot)?;
        let name = format!("{prefix}{}", hex(&number));
        let dir = above.join(&name);
        // Under another name until it is locked, so that nobody takes it for a leftover.
        let first = above.join(format!("{name}.new"));
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
            // The work has ended early and has said why; the next one tries again.
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

/// Whether a name is one of such a directory.
pub fn is_name(name: &[u8], prefix: &str) -> bool {
    let number = name.strip_prefix(prefix.as_bytes());
    number.is_some_and(|hex| hex.len() == 16 && hex.iter().all(u8::is_ascii_hexdigit))
}

/// Removes what was left in `above` by those that were killed, and answers their places.
pub fn remove_leftovers(above: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(above) else { return Vec::new() };
    let mut removed = Vec::new();
    for entry in entries.flatten() {
        let path = entry.path();
        if !is_name(entry.file_name().as_encoded_bytes(), prefix) {
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

    const NAME: &str = "test-";

    #[test]
    fn leftovers_go_and_what_is_in_use_stays() {
        let above = tempfile::tempdir().expect("made");
        let used = Scratch::new(above.path(), NAME, [7; 8]).expect("made");
        let left = above.path().join(format!("{NAME}0123456789abcdef"));
        std::fs::create_dir_all(left.join("tree/closed")).expect("made");
        std::fs::write(left.join("tree/closed/x"), "x").expect("written");
        std::fs::write(left.join(LOCK), "").expect("written");
        std::fs::set_permissions(left.join("tree/closed"), Permissions::from_mode(0o000)).expect("set");
        let other = above.path().join(format!("{NAME}0123456789abcdeg"));
        let unlocked = above.path().join(format!("{NAME}0123456789abcde0"));
        std::fs::create_dir(&other).expect("made");
        std::fs::create_dir(&unlocked).expect("made");
        assert_eq!(remove_leftovers(above.path(), NAME), std::slice::from_ref(&left));
        assert!(used.dir().is_dir() && other.is_dir() && unlocked.is_dir() && !left.exists());
        let dir = used.dir().to_path_buf();
        drop(used);
        assert!(!dir.exists());
    }
}
