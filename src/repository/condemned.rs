//! Condemned lists: which packs are about to be deleted. Numbered, created exclusively, never changed.
//!
//! Bytes and rules: `format-spec/8-sessions-and-removal.md`.

use super::random;
use crate::backend::{Backend, Pending, write_new};
use crate::crypto::Keyring;
use crate::error::{Error, ErrorKind, Result};
use crate::format::codec::{Reader, put_varint};
use crate::format::frame::FrameKind;
use crate::format::{FileName, Folder, HEADER_LEN, decode_header, encode_header, limit};
use crate::id::{NAME_LEN, PackId};
use std::collections::HashSet;

/// Most packs one list names: far below the limit of a list's bytes.
pub const PACKS_MAX: usize = 1 << 20;

/// At least what sealing adds to a list.
const SEALED_MORE: usize = 256;

/// Names of all packs that are about to be deleted.
pub fn all(backend: &dyn Backend, keyring: &Keyring) -> Result<HashSet<PackId>> {
    Ok(lists(backend, keyring)?.into_iter().flat_map(|(_, packs)| packs).collect())
}

/// Every list with its number, in order of number.
pub fn lists(backend: &dyn Backend, keyring: &Keyring) -> Result<Vec<(u32, Vec<PackId>)>> {
    let mut lists = Vec::new();
    for number in numbers(backend)? {
        match read(backend, keyring, &FileName::Condemned(number)) {
            Ok(packs) => lists.push((number, packs)),
            // Removed since the listing: its packs were deleted before it.
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    Ok(lists)
}

fn numbers(backend: &dyn Backend) -> Result<Vec<u32>> {
    let number = |name| if let FileName::Condemned(n) = name { Some(n) } else { None };
    let mut numbers: Vec<u32> =
        backend.list(Folder::Condemned)?.iter().filter_map(|stat| number(stat.name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// The packs one condemned list names.
pub fn read(backend: &dyn Backend, keyring: &Keyring, name: &FileName) -> Result<Vec<PackId>> {
    let bytes = backend.read(name, limit::SEGMENT_BYTES_MAX)?;
    decode_header(&bytes, name, Some(keyring.repository()))?;
    let plain = keyring.unseal(FrameKind::Condemned, &bytes[HEADER_LEN..]).map_err(|e| e.context(name))?;
    let mut r = Reader::new(&plain, "a condemned list");
    let count = r.count(NAME_LEN)?;
    let packs = (0..count).map(|_| r.name()).collect::<Result<Vec<PackId>>>()?;
    r.end()?;
    Ok(packs)
}

/// Takes up the room of a list of so many packs until it is dropped.
pub fn reserve(backend: &dyn Backend, seen: u32, packs: usize) -> Result<Box<dyn Pending>> {
    let mut pending = backend.create(&FileName::Condemned(seen.saturating_add(1)))?;
    pending.append(&vec![0; HEADER_LEN + packs * NAME_LEN + SEALED_MORE])?;
    Ok(pending)
}

/// Publishes a list under a number above `seen`, the highest number of the listing that the plan was made from.
/// `AlreadyExists` when somebody else took it: then the plan is out of date.
pub fn publish(backend: &dyn Backend, keyring: &Keyring, seen: u32, packs: &[PackId]) -> Result<u32> {
    let number = seen.checked_add(1).ok_or_else(|| Error::invalid("condemned lists are used up"))?;
    let mut plain = Vec::with_capacity(packs.len() * NAME_LEN + 5);
    put_varint(&mut plain, packs.len() as u64);
    for pack in packs {
        plain.extend_from_slice(&pack.0);
    }
    let name = FileName::Condemned(number);
    let mut bytes = encode_header(&name, keyring.repository()).to_vec();
    let salt = random::bytes::<16>()?;
    bytes.extend_from_slice(&keyring.seal(FrameKind::Condemned, &plain, &salt)?);
    write_new(backend, &name, &bytes)?;
    Ok(number)
}
