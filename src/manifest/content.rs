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

/// The pieces of a file that may be damaged.
pub struct Left {
    /// Where a list is lost, a hole stands for all its pieces.
    pub extents: Vec<Extent>,
    /// Those holes: offset and length.
    pub lost: Vec<(u64, u64)>,
}

/// As `extents`, also where one of several lists is lost; `None` when nobody can say where the rest belongs.
pub fn extents_left(reader: &Reader, content: &Content) -> Result<Option<Left>> {
    let mut lists = Vec::new();
    for id in &content.lists {
        match reader.get(ChunkSort::Manifest, id).and_then(|list| decode_list(&list)) {
            Ok(list) => lists.push(Some(list)),
            Err(e) if e.kind().is_unreadable() => lists.push(None),
            Err(e) => return Err(e),
        }
    }
    if content.lists.is_empty() {
        return Ok(Some(Left { extents: content.extents.clone(), lost: Vec::new() }));
    }
    let known = lists.iter().flatten().try_fold(0u64, |n, list| n.checked_add(extents_len(list)?));
    let missing = known.and_then(|known| content.size.checked_sub(known));
    let gaps = lists.iter().filter(|list| list.is_none()).count();
    let Some(missing) = missing.filter(|missing| (gaps == 1) == (*missing > 0) && gaps <= 1) else {
        return Ok(None);
    };
    let mut left = Left { extents: Vec::new(), lost: Vec::new() };
    let mut at = 0;
    for list in lists {
        match list {
            Some(list) => {
                at += extents_len(&list).unwrap_or(0);
                left.extents.extend(list);
            }
            None => {
                left.lost.push((at, missing));
                left.extents.push(Extent::Hole { len: missing });
                at += missing;
            }
        }
    }
    Ok(Some(left))
}
