//! The one place where stored files are deleted.

use crate::backend::Backend;
use crate::error::Result;
use crate::format::FileName;
use crate::id::{Name, SnapshotId};

/// Removes a snapshot's record, durably: from now on nothing keeps its chunks alive. Gone already is no error.
pub fn snapshot(backend: &dyn Backend, id: SnapshotId) -> Result<()> {
    backend.remove(&FileName::Snapshot(id))
}

/// Removes a note. Notes go after the snapshot they speak of, never before.
pub fn note(backend: &dyn Backend, name: Name) -> Result<()> {
    backend.remove(&FileName::Note(name))
}
