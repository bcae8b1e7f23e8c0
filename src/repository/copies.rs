//! Second copies of the few small files without which much is lost or stands still: config, key slots, snapshots,
//! condemned lists.
//!
//! Byte for byte the original, written after it and removed before it. A copy never decides what is live: it only
//! says what the original held.

use super::{Repository, removal};
use crate::backend::{Backend, write_new};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{FileName, limit};
use crate::id::SnapshotId;

/// Writes the second copy of a file that has just been stored. One that is there already is no error.
pub fn write(backend: &dyn Backend, original: &FileName, bytes: &[u8]) -> Result<()> {
    let Some(copy) = original.second_copy() else { return Ok(()) };
    match write_new(backend, &copy, bytes) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// As `write`, for a snapshot that was committed a moment ago; one that was forgotten since gets no copy, which would
/// bring it back.
pub fn write_for_snapshot(backend: &dyn Backend, id: SnapshotId, bytes: &[u8]) -> Result<()> {
    let original = FileName::Snapshot(id);
    write(backend, &original, bytes)?;
    match backend.read_range(&original, 0, 1) {
        Err(e) if e.kind() == ErrorKind::NotFound => removal::copy_of_snapshot(backend, id),
        other => other.map(|_| ()),
    }
}

/// What `judge` makes of a file or, where that is damaged or lost, of its second copy. `true` beside it when it was
/// the copy.
pub fn either<T>(
    backend: &dyn Backend,
    original: &FileName,
    judge: &dyn Fn(&[u8], &FileName) -> Result<T>,
) -> Result<(T, bool)> {
    let read = |name: &FileName| judge(&backend.read(name, bytes_max(name))?, name);
    let trouble = match read(original) {
        Ok(value) => return Ok((value, false)),
        Err(e) if e.kind() == ErrorKind::NotFound || e.kind().is_unreadable() => e,
        Err(e) => return Err(e),
    };
    let copy = original.second_copy().ok_or_else(|| trouble.clone())?;
    match read(&copy) {
        Ok(value) => Ok((value, true)),
        // What is wrong with the original is what has to be told.
        Err(e) if e.kind() == ErrorKind::NotFound || e.kind().is_unreadable() => Err(trouble),
        Err(e) => Err(e),
    }
}

/// The most bytes such a file has.
pub fn bytes_max(name: &FileName) -> u64 {
    match name {
        FileName::Condemned(_) | FileName::CopyOfCondemned(_) => limit::SEGMENT_BYTES_MAX,
        _ => limit::RECORD_BYTES_MAX,
    }
}

/// What is said when a copy had to serve.
pub fn remark(original: &FileName) -> String {
    format!(
        "{original} is damaged or lost and its second copy serves; `snapkeep repair snapshots --apply` puts it back"
    )
}

/// Whether the bytes of a record or of its second copy are as they were written.
pub fn judge(repository: &Repository, bytes: &[u8], name: &FileName) -> Result<()> {
    match name {
        FileName::Config(_) | FileName::CopyOfConfig(_) => {
            let judged = super::judge_config(bytes, name)?;
            let right = repository.keyring().config_mac(&judged.body) == judged.mac;
            if judged.id != *repository.id() || !right {
                return Err(Error::corrupt("it was not written with this repository's key"));
            }
            Ok(())
        }
        FileName::Keys(_) | FileName::CopyOfKeys(_) => {
            super::keys::judge(bytes, name, repository.id()).map(|_| ())
        }
        FileName::Condemned(_) | FileName::CopyOfCondemned(_) => {
            super::condemned::judge(bytes, name, repository.keyring()).map(|_| ())
        }
        _ => super::snapshots::judge(repository, bytes, name).map(|_| ()),
    }
}
