//! What this machine remembers of places: a repository that was encrypted must not silently become a plain one.
//!
//! Whoever can write where the repository lies could put an unencrypted repository in its place, and the next backup
//! would go out in plain bytes. The note lives in the cache folder; deleting it only forgets.

use super::failure::Failure;
use crate::crypto::hash;
use crate::error::{Error, ErrorKind};
use crate::id::hex;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The note about the repository at `place`.
fn note(cache: &Path, place: &Path) -> PathBuf {
    // Also of a place that is not there, at the moment.
    let above = || Some(place.parent()?.canonicalize().ok()?.join(place.file_name()?));
    let place = place.canonicalize().ok().or_else(above).unwrap_or_else(|| place.to_path_buf());
    cache.join("encrypted-places").join(hex(&hash::plain(place.as_os_str().as_bytes())[..16]))
}

/// Whether an encrypted repository was seen at `place` before.
pub fn is_known(cache: Option<&Path>, place: &Path) -> bool {
    cache.is_some_and(|cache| note(cache, place).exists())
}

/// Remembers that the repository at `place` is encrypted; refuses one that no longer is.
pub fn check(cache: Option<&Path>, place: &Path, encrypted: bool) -> Result<(), Failure> {
    let Some(cache) = cache else { return Ok(()) };
    let note = note(cache, place);
    if encrypted {
        if !note.exists()
            && let Some(dir) = note.parent()
            && std::fs::create_dir_all(dir).is_ok()
        {
            let _ = std::fs::write(&note, b"");
        }
        return Ok(());
    }
    if note.exists() {
        let what = format!(
            "the repository at {} used to be encrypted and is not any more; if you replaced it yourself, delete {} \
             and try again",
            place.display(),
            note.display()
        );
        return Err(Failure::from(Error::new(ErrorKind::Refused, what)));
    }
    Ok(())
}
