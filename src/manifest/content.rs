//! A file's content: its list of pieces, and its bytes.

use crate::crypto::ChunkSort;
use crate::error::{Error, Result};
use crate::format::entry::{Content, Extent};
use crate::format::extents::{decode_list, extents_len};
use crate::repository::reader::Reader;

/// The pieces of a file, fetched where they stand in chunks of their own, checked against the size.
pub fn extents(reader: &Reader, content: &Content) -> Result<Vec<Extent>> {
    if content.lists.is_empty() {
        return Ok(content.extents.clone());
    }
    let mut all = Vec::new();
    for list in &content.lists {
        all.extend(decode_list(&reader.get(ChunkSort::Manifest, list)?)?);
        if extents_len(&all).is_none_or(|len| len > content.size) {
            return Err(Error::corrupt("a file's content list is longer than the file"));
        }
    }
    if extents_len(&all) != Some(content.size) {
        return Err(Error::corrupt("a file's pieces do not add up to its size"));
    }
    Ok(all)
}

/// Calls `data` for each run of bytes and `hole` for each hole, in order.
pub fn for_each_piece(
    reader: &Reader,
    content: &Content,
    data: &mut dyn FnMut(&[u8]) -> Result<()>,
    hole: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<()> {
    for extent in extents(reader, content)? {
        match extent {
            Extent::Hole { len } => hole(len)?,
            Extent::Chunk { id, len, repeat } => {
                let chunk = reader.get(ChunkSort::Content, &id)?;
                if chunk.len() != len as usize {
                    return Err(Error::corrupt(format!("chunk {id} has another length than its file says")));
                }
                for _ in 0..repeat {
                    data(&chunk)?;
                }
            }
        }
    }
    Ok(())
}
