//! Which packs a snapshot made on this machine was seen to rest on: while every one of them still counts, nothing the
//! snapshot needs has to be looked up.
//!
//! A hint kept beside the local index cache, one file for the newest snapshot of each series. It is believed only if
//! its keyed hash is right, for nobody may think a chunk present because of a damaged file; without it, each chunk is
//! looked up.

use super::index::Index;
use crate::crypto::{ChunkSort, Keyring};
use crate::error::{Context, Result};
use crate::id::{Name, PackId, SnapshotId};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Bytes of the hash in front.
const HASH_LEN: usize = 24;
/// Bytes of a pack's id and size.
const PACK_LEN: usize = 24;

/// `cache` is the repository's index cache; the witnesses stand beside it.
fn place(cache: &Path, snapshot: SnapshotId) -> Option<PathBuf> {
    cache.parent().map(|dir| dir.join("witness").join(snapshot.to_string()))
}

/// What is hashed: the snapshot, then its packs.
fn signed(keyring: &Keyring, snapshot: SnapshotId, packs: &[u8]) -> [u8; HASH_LEN] {
    let text = [b"witness".as_slice(), &snapshot.0, packs].concat();
    keyring.chunk_id(ChunkSort::Manifest, &text).0
}

/// Notes what `snapshot` rests on. What was noted for its parent has served.
pub fn note(
    cache: &Path,
    keyring: &Keyring,
    snapshot: SnapshotId,
    parent: Option<SnapshotId>,
    packs: &[(PackId, u64)],
) -> Result<()> {
    let Some(path) = place(cache, snapshot) else { return Ok(()) };
    let mut body = Vec::with_capacity(packs.len() * PACK_LEN);
    for (id, size) in packs {
        body.extend_from_slice(&id.0);
        body.extend_from_slice(&size.to_le_bytes());
    }
    let failed = || "cannot note what the snapshot rests on";
    path.parent().map_or(Ok(()), std::fs::create_dir_all).context(failed)?;
    let aside = path.with_extension("new");
    std::fs::write(&aside, [signed(keyring, snapshot, &body).as_slice(), &body].concat()).context(failed)?;
    std::fs::rename(&aside, &path).context(failed)?;
    if let Some(served) = parent.and_then(|parent| place(cache, parent)) {
        let _ = std::fs::remove_file(served);
    }
    Ok(())
}

/// Whether every pack that the snapshot was seen to rest on counts in `index`.
pub fn holds(cache: &Path, keyring: &Keyring, snapshot: SnapshotId, index: &Index) -> bool {
    let noted = place(cache, snapshot).and_then(|path| std::fs::read(path).ok()).unwrap_or_default();
    let Some((hash, packs)) = noted.split_at_checked(HASH_LEN) else { return false };
    if hash != signed(keyring, snapshot, packs) {
        return false;
    }
    let counting: HashSet<(PackId, u64)> = index.trusted_packs().map(|pack| (pack.id, pack.size)).collect();
    packs.chunks(PACK_LEN).all(|pack| match pack.split_first_chunk() {
        Some((id, size)) => {
            let size = size.try_into().map(u64::from_le_bytes);
            size.is_ok_and(|size| counting.contains(&(Name(*id), size)))
        }
        None => false,
    })
}
