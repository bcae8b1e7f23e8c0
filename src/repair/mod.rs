//! Putting right what can be put right without guessing. Repair adds and sets aside, it never deletes.

mod assess;
pub mod index;
mod journal;
pub mod packs;
pub mod parity;
mod rebuild;
pub mod records;
pub mod salvage;
pub mod snapshots;

pub use assess::{DamagedFile, LostGroup};

use crate::error::Result;
use crate::format::Folder;
use crate::id::PackId;
use crate::repository::index::Index;
use crate::repository::{Repository, condemned};

/// Everything that can be read, also from packs that are about to be deleted.
fn readable(repository: &Repository) -> Result<Index> {
    let (backend, keyring) = (repository.backend().as_ref(), repository.keyring());
    let doomed = condemned::all(backend, keyring)?;
    let listed = backend.list(Folder::Packs)?;
    let named = listed.iter().map(|stat| (stat.name.header_name(), stat.size));
    let (lesser, kept): (Vec<(PackId, u64)>, Vec<_>) = named.partition(|(id, _)| doomed.contains(id));
    let mut index = Index::of_packs(backend, keyring, &kept)?;
    index.add_lesser(backend, keyring, &lesser)?;
    Ok(index)
}
