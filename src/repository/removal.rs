//! The one place where stored files are deleted.

use crate::backend::Backend;
use crate::error::Result;
use crate::format::FileName;
use crate::id::{Name, PackId, SnapshotId};

/// Removes a snapshot's record, durably: from now on nothing keeps its chunks alive. Gone already is no error.
pub fn snapshot(backend: &dyn Backend, id: SnapshotId) -> Result<()> {
    backend.remove(&FileName::Snapshot(id))
}

/// Removes a note. Notes go after the snapshot they speak of, never before.
pub fn note(backend: &dyn Backend, name: Name) -> Result<()> {
    backend.remove(&FileName::Note(name))
}

/// Removes a pack that a condemned list names, after everything in it that is needed was found elsewhere.
pub fn pack(backend: &dyn Backend, id: PackId) -> Result<()> {
    backend.remove(&FileName::Pack(id))
}

/// Removes a condemned list whose packs are gone, unless it is the highest.
pub fn condemned(backend: &dyn Backend, number: u32) -> Result<()> {
    backend.remove(&FileName::Condemned(number))
}

/// Removes what an evicted session left.
pub fn evicted(backend: &dyn Backend, session: Name) -> Result<()> {
    backend.remove(&FileName::Evicted(session))
}

/// Removes a key record that a higher number has replaced.
pub fn superseded_keys(backend: &dyn Backend, name: &FileName) -> Result<()> {
    backend.remove(name)
}
