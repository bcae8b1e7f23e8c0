//! Room kept free for the day the disk is full: a small file that a collection can delete, so that it can write down
//! what it is about to free.
//!
//! Its bytes are random, since file systems may store others in less room than they seem to take.

use super::{random, removal};
use crate::backend::{Backend, write_new};
use crate::error::Result;
use crate::format::{FileName, Folder, encode_header};
use crate::id::Name;

/// Bytes of the file: room for a list of sixteen thousand packs.
const BYTES: usize = 256 << 10;

/// Makes the reserve unless it is there. That it cannot be made (the disk is full) is for the next time.
pub fn fill(backend: &dyn Backend, repository: &Name) {
    let name = FileName::Reserve(1);
    if backend.read_range(&name, 0, 1).is_ok() {
        return;
    }
    let mut bytes = encode_header(&name, repository).to_vec();
    while bytes.len() < BYTES {
        let Ok(more) = random::bytes::<4096>() else { return };
        bytes.extend_from_slice(&more);
    }
    let _ = write_new(backend, &name, &bytes);
}

/// Does `write`; when the disk is full, gives the reserve away and does it again.
pub fn spending<T>(backend: &dyn Backend, write: impl Fn() -> Result<T>) -> Result<T> {
    match write() {
        Err(e) if e.is_disk_full() => {
            let held = match backend.list(Folder::Reserve) {
                Ok(held) => held,
                Err(_) => return Err(e),
            };
            if held.is_empty() {
                return Err(e);
            }
            for stat in held {
                removal::reserve(backend, &stat.name)?;
            }
            write()
        }
        result => result,
    }
}
