//! Content lists: the pieces of a file, in an entry or in chunks of their own.
//!
//! Bytes: `format-spec/5-manifest.md`.

use super::codec::{Reader, put_varint};
use super::entry::Extent;
use super::limit;
use crate::error::Result;

const TAG_LIST: u8 = b'L';

/// Numbers to `out`, names to `ids`.
pub(super) fn put_extents(out: &mut Vec<u8>, ids: &mut Vec<u8>, extents: &[Extent]) {
    put_varint(out, extents.len() as u64);
    for extent in extents {
        match extent {
            Extent::Chunk { id, len, repeat } => {
                put_varint(out, *repeat);
                put_varint(out, u64::from(*len));
                ids.extend_from_slice(&id.0);
            }
            Extent::Hole { len } => {
                put_varint(out, 0);
                put_varint(out, *len);
            }
        }
    }
}

/// The other way.
pub(super) fn take_extents(r: &mut Reader<'_>, ids: &mut Reader<'_>) -> Result<Vec<Extent>> {
    let some = |len: u64, r: &Reader<'_>| match len {
        0 => Err(r.fail("a piece without a length")),
        len => Ok(len),
    };
    let count = r.count(2)?;
    let mut extents = Vec::with_capacity(count);
    for _ in 0..count {
        extents.push(match r.varint()? {
            0 => Extent::Hole { len: some(r.varint()?, r)? },
            repeat => {
                let len = some(r.bounded(limit::CHUNK_BYTES_MAX as u64)?, r)? as u32;
                Extent::Chunk { id: ids.chunk_id()?, len, repeat }
            }
        });
    }
    if extents_len(&extents).is_none() {
        return Err(r.fail("pieces of more bytes than any file"));
    }
    Ok(extents)
}

/// The bytes all extents stand for; `None` when they exceed 2^63.
pub fn extents_len(extents: &[Extent]) -> Option<u64> {
    let mut total = 0u64;
    for extent in extents {
        let len = match extent {
            Extent::Chunk { len, repeat, .. } => u64::from(*len).checked_mul(*repeat)?,
            Extent::Hole { len } => *len,
        };
        total = total.checked_add(len).filter(|t| *t < 1 << 63)?;
    }
    Some(total)
}

/// A content list in a chunk of its own.
pub fn encode_list(extents: &[Extent]) -> Vec<u8> {
    let (mut out, mut ids) = (vec![TAG_LIST], Vec::new());
    put_extents(&mut out, &mut ids, extents);
    out.extend_from_slice(&ids);
    out
}

pub fn decode_list(bytes: &[u8]) -> Result<Vec<Extent>> {
    let mut r = Reader::new(bytes, "a content list");
    if r.u8()? != TAG_LIST {
        return Err(r.fail("is something else"));
    }
    // The ids follow the numbers: find where by reading the numbers once without them.
    let mut probe = Reader::new(&bytes[1..], "a content list");
    let count = probe.count(2)?;
    let mut chunks = 0;
    for _ in 0..count {
        chunks += usize::from(probe.varint()? > 0);
        probe.varint()?;
    }
    let ids_len = chunks * crate::id::CHUNK_ID_LEN;
    if probe.remaining() != ids_len {
        return Err(r.fail("names too few or too many chunks"));
    }
    let mut ids = Reader::new(&bytes[bytes.len() - ids_len..], "a content list");
    take_extents(&mut r, &mut ids)
}
