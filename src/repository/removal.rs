//! The one place where stored files are deleted.

use crate::backend::Backend;
use crate::error::Result;
use crate::format::{FileName, Folder};
use crate::id::{Name, PackId, SnapshotId};

/// Removes a snapshot's record, durably: from now on nothing keeps its chunks alive. Gone already is no error.
pub fn snapshot(backend: &dyn Backend, id: SnapshotId) -> Result<()> {
    // Its second copy first: a copy without its original means that the original was lost.
    backend.remove(&FileName::CopyOfSnapshot(id))?;
    backend.remove(&FileName::Snapshot(id))?;
    // Again: whoever committed it may have been writing the copy just now.
    backend.remove(&FileName::CopyOfSnapshot(id))
}

/// Removes a note. Notes go after the snapshot they speak of, never before.
pub fn note(backend: &dyn Backend, name: Name) -> Result<()> {
    backend.remove(&FileName::Note(name))
}

/// Removes a condemned list whose packs are gone, unless it is the highest.
pub fn condemned(backend: &dyn Backend, number: u32) -> Result<()> {
    // The other way round somebody could put it back.
    backend.remove(&FileName::CopyOfCondemned(number))?;
    backend.remove(&FileName::Condemned(number))
}

/// Removes files that were being written when the machine went down; returns how many went and how many may still be
/// somebody's.
pub fn unfinished(backend: &dyn Backend) -> Result<(u64, u64)> {
    let (mut removed, mut left) = (0, 0);
    let found = backend.unfinished()?;
    if found.is_empty() {
        return Ok((0, 0));
    }
    // Locks of other machines cannot be seen everywhere. Sessions can: without one nobody writes packs for a backup.
    let busy = !backend.list(Folder::Sessions)?.is_empty();
    for path in found {
        let count = if !busy && backend.remove_unfinished(&path) { &mut removed } else { &mut left };
        *count += 1;
    }
    Ok((removed, left))
}

/// Removes what an evicted session left.
pub fn evicted(backend: &dyn Backend, session: Name) -> Result<()> {
    backend.remove(&FileName::Evicted(session))
}

/// Removes a pack that a condemned list names, after everything in it that is needed was found elsewhere; then what it
/// could have been mended with.
pub fn pack(backend: &dyn Backend, id: PackId) -> Result<()> {
    backend.remove(&FileName::Pack(id))?;
    parity(backend, id)
}

/// Removes the parity of a pack, which only then cannot be mended any more.
pub fn parity(backend: &dyn Backend, pack: PackId) -> Result<()> {
    backend.remove(&FileName::Parity(pack))
}

/// Removes an index segment: what it says stands in the packs.
pub fn segment(backend: &dyn Backend, name: Name) -> Result<()> {
    backend.remove(&FileName::Index(name))
}

/// Removes all key records up to `number`, which a later one has replaced.
pub fn keys(backend: &dyn Backend, number: u32) -> Result<()> {
    for folder in [Folder::Copies, Folder::Keys] {
        for stat in backend.list(folder)? {
            if matches!(stat.name, FileName::Keys(n) | FileName::CopyOfKeys(n) if n <= number) {
                backend.remove(&stat.name)?;
            }
        }
    }
    Ok(())
}

/// Removes all configs up to `number`, which a later one has replaced.
pub fn configs(backend: &dyn Backend, number: u32) -> Result<()> {
    for folder in [Folder::Copies, Folder::Config] {
        for stat in backend.list(folder)? {
            if matches!(stat.name, FileName::Config(n) | FileName::CopyOfConfig(n) if n <= number) {
                backend.remove(&stat.name)?;
            }
        }
    }
    Ok(())
}

/// Removes the second copy of a snapshot whose own file is gone.
pub fn copy_of_snapshot(backend: &dyn Backend, id: SnapshotId) -> Result<()> {
    backend.remove(&FileName::CopyOfSnapshot(id))
}

/// Gives the reserve away.
pub fn reserve(backend: &dyn Backend, name: &FileName) -> Result<()> {
    backend.remove(name)
}
