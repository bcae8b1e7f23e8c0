//! A stored database to ask or to work with: opened in place, page by page out of chunks, or laid out in a temporary file.

use super::content::{extents, for_each_piece};
use crate::crypto::ChunkSort;
use crate::crypto::hash::FileHash;
use crate::error::{Context, Error, Result};
use crate::format::entry::{Entry, Extent};
use crate::id::ChunkId;
use crate::repository::reader::{Chunk, Reader};
use crate::sqlite::ffi::{Opened, open_bytes};
use crate::sqlite::image::Bytes;
use crate::sqlite::scratch::ScratchDir;
use std::cell::RefCell;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Chunks at hand beside those the reader keeps: a B-tree is read in jumps between few of them.
const CHUNKS: usize = 64;

/// The bytes of a stored file, wherever its chunks lie. Only what is asked for is read.
pub struct StoredBytes {
    reader: Arc<Reader>,
    /// Where each piece begins, and the piece.
    pieces: Vec<(u64, Extent)>,
    len: u64,
    /// Used last comes last.
    recent: Vec<(ChunkId, Chunk)>,
}

impl StoredBytes {
    pub fn new(reader: Arc<Reader>, entry: &Entry) -> Result<Self> {
        let mut pieces = Vec::new();
        let mut at = 0;
        for extent in extents(&reader, &entry.content)? {
            let len = match &extent {
                Extent::Hole { len } => *len,
                Extent::Chunk { len, repeat, .. } => u64::from(*len) * repeat,
            };
            pieces.push((at, extent));
            at += len;
        }
        Ok(StoredBytes { reader, pieces, len: at, recent: Vec::new() })
    }

    fn chunk(&mut self, id: &ChunkId) -> Result<Chunk> {
        let found = self.recent.iter().rposition(|(known, _)| known == id);
        let (id, chunk) = match found {
            Some(at) => self.recent.remove(at),
            None => (*id, self.reader.get(ChunkSort::Content, id)?),
        };
        if self.recent.len() >= CHUNKS {
            self.recent.remove(0);
        }
        self.recent.push((id, chunk.clone()));
        Ok(chunk)
    }
}

impl Bytes for StoredBytes {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&mut self, mut at: u64, mut out: &mut [u8]) -> Result<()> {
        while !out.is_empty() {
            let number = self.pieces.partition_point(|(start, _)| *start <= at);
            let piece = number.checked_sub(1).and_then(|n| self.pieces.get(n)).cloned();
            let (start, extent) =
                piece.ok_or_else(|| Error::corrupt("a read behind the end of a stored file"))?;
            let inside = at - start;
            let count = match extent {
                Extent::Hole { len } => {
                    let count = (len - inside.min(len)).min(out.len() as u64) as usize;
                    out[..count].fill(0);
                    count
                }
                Extent::Chunk { id, len, repeat } => {
                    if inside >= u64::from(len) * repeat {
                        return Err(Error::corrupt("a read behind the end of a stored file"));
                    }
                    let chunk = self.chunk(&id)?;
                    let from = (inside % u64::from(len)) as usize;
                    let part = chunk.get(from..len as usize);
                    let part =
                        part.ok_or_else(|| Error::corrupt("a chunk has another length than its file says"))?;
                    let count = part.len().min(out.len());
                    out[..count].copy_from_slice(&part[..count]);
                    count
                }
            };
            if count == 0 {
                return Err(Error::corrupt("a read behind the end of a stored file"));
            }
            at += count as u64;
            out = &mut out[count..];
        }
        Ok(())
    }
}

/// Opens a stored database read-only where it is; only the pages that are asked for are fetched.
pub fn open(reader: Arc<Reader>, entry: &Entry) -> Result<Opened> {
    open_bytes(Box::new(StoredBytes::new(reader, entry)?))
}

/// A database in a file of its own, in a directory that goes with it.
pub struct Materialised {
    pub path: PathBuf,
    _dir: ScratchDir,
}

/// Lays a stored database out in a new directory below `parent`, proved by its hash. It may be opened for writing: it is a
/// copy.
pub fn materialise(reader: &Reader, entry: &Entry, parent: &Path) -> Result<Materialised> {
    let dir = ScratchDir::new(parent)?;
    let path = dir.path().join("database");
    let cannot = || format!("cannot write {}", path.display());
    let file = std::fs::File::create_new(&path).context(cannot)?;
    let state = RefCell::new((BufWriter::with_capacity(1 << 20, file), FileHash::new()));
    let write = |bytes: &[u8]| {
        let (out, hash) = &mut *state.borrow_mut();
        hash.update(bytes);
        out.write_all(bytes).context(cannot)
    };
    let zeros = vec![0; 1 << 16];
    for_each_piece(reader, &entry.content, &mut |bytes| write(bytes), &mut |mut len| {
        while len > 0 {
            let part = len.min(zeros.len() as u64);
            write(&zeros[..part as usize])?;
            len -= part;
        }
        Ok(())
    })?;
    let (mut out, hash) = state.into_inner();
    out.flush().context(cannot)?;
    if entry.content.hash.is_some_and(|stored| stored != hash.finish()) {
        return Err(Error::corrupt("the database's pieces do not make up the file that was stored"));
    }
    Ok(Materialised { path, _dir: dir })
}
