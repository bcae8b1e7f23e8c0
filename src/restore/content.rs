//! A file's bytes on their way to the disk: every chunk checked by the reader, the whole by its hash.

use crate::crypto::ChunkSort;
use crate::crypto::hash::FileHash;
use crate::error::{Context, Error, Result};
use crate::format::entry::{Content, Extent};
use crate::id::ChunkId;
use crate::manifest::content::extents;
use crate::progress::Progress;
use crate::repository::reader::{Chunk, Reader};
use rayon::prelude::{IntoParallelRefIterator, ParallelIterator};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Files of at least this many bytes are decoded by all threads.
pub const LARGE: u64 = 16 << 20;
/// Plain bytes of a large file decoded ahead.
const WINDOW_BYTES: u64 = 16 << 20;
/// Runs of zeros shorter than this are not worth a hole.
const HOLE_BYTES: usize = 4 << 10;
/// Zeros hashed between two looks at whether the user wants to stop.
const STRIDE: u64 = 256 << 20;

/// Writes a file's content into the empty `file`.
pub fn fill(
    reader: &Reader,
    content: &Content,
    file: &File,
    sparse: bool,
    progress: &Progress,
) -> Result<()> {
    let hash = content.hash.map(|_| FileHash::new());
    let mut sink = Sink { file, at: 0, written: 0, hash, sparse, progress };
    if content.size >= LARGE {
        fill_wide(reader, &extents(reader, content)?, &mut sink)?;
    } else if content.lists.is_empty() {
        fill_narrow(reader, &content.extents, &mut sink)?;
    } else {
        fill_narrow(reader, &extents(reader, content)?, &mut sink)?;
    }
    sink.finish(content)
}

fn fill_narrow(reader: &Reader, extents: &[Extent], sink: &mut Sink<'_>) -> Result<()> {
    for extent in extents {
        match extent {
            Extent::Hole { len } => sink.hole(*len)?,
            Extent::Chunk { id, len, repeat } => sink.chunk(&get(reader, id, *len)?, *repeat)?,
        }
    }
    Ok(())
}

/// In order, one window being written while the next is decoded.
fn fill_wide(reader: &Reader, extents: &[Extent], sink: &mut Sink<'_>) -> Result<()> {
    let decode = |window: &[Extent]| -> Result<Vec<Option<Chunk>>> {
        let one = |extent: &Extent| match extent {
            Extent::Hole { .. } => Ok(None),
            Extent::Chunk { id, len, .. } => get(reader, id, *len).map(Some),
        };
        window.par_iter().map(one).collect()
    };
    let (mut window, mut rest) = next_window(extents);
    let mut ready = decode(window)?;
    while !window.is_empty() {
        sink.progress.keep_going()?;
        let (coming, left) = next_window(rest);
        let (written, decoded) = rayon::join(|| write_window(window, &ready, sink), || decode(coming));
        written?;
        ready = decoded?;
        (window, rest) = (coming, left);
    }
    Ok(())
}

fn write_window(window: &[Extent], chunks: &[Option<Chunk>], sink: &mut Sink<'_>) -> Result<()> {
    for (extent, chunk) in window.iter().zip(chunks) {
        match (extent, chunk) {
            (Extent::Chunk { repeat, .. }, Some(chunk)) => sink.chunk(chunk, *repeat)?,
            (Extent::Hole { len }, _) => sink.hole(*len)?,
            (Extent::Chunk { .. }, None) => return Err(Error::corrupt("a chunk was not decoded")),
        }
    }
    Ok(())
}

/// As many extents as make up a window, at least one; and the others.
fn next_window(extents: &[Extent]) -> (&[Extent], &[Extent]) {
    let (mut bytes, mut count) = (0, 0);
    for extent in extents {
        if let Extent::Chunk { len, .. } = extent {
            bytes += u64::from(*len);
        }
        count += 1;
        if bytes >= WINDOW_BYTES {
            break;
        }
    }
    extents.split_at(count)
}

fn get(reader: &Reader, id: &ChunkId, len: u32) -> Result<Chunk> {
    let chunk = reader.get(ChunkSort::Content, id)?;
    if chunk.len() != len as usize {
        return Err(Error::corrupt(format!("chunk {id} has another length than its file says")));
    }
    Ok(chunk)
}

/// Where a file stands while it is written in order.
struct Sink<'a> {
    file: &'a File,
    at: u64,
    /// End of the last byte written; what follows up to `at` is a hole.
    written: u64,
    hash: Option<FileHash>,
    sparse: bool,
    progress: &'a Progress,
}

impl Sink<'_> {
    fn chunk(&mut self, bytes: &[u8], repeat: u64) -> Result<()> {
        for _ in 0..repeat {
            if let Some(hash) = &mut self.hash {
                hash.update(bytes);
            }
            if self.sparse {
                self.write_sparse(bytes)?;
            } else {
                self.write(bytes)?;
            }
            self.progress.add_bytes(bytes.len() as u64);
            if repeat > 1 {
                self.progress.keep_going()?;
            }
        }
        Ok(())
    }

    fn hole(&mut self, len: u64) -> Result<()> {
        let end = self.at.checked_add(len).ok_or_else(|| Error::corrupt("an impossible hole"))?;
        while self.at < end {
            let stride = (end - self.at).min(STRIDE);
            if let Some(hash) = &mut self.hash {
                hash.update_zeros(stride);
            }
            self.at += stride;
            self.progress.add_bytes(stride);
            self.progress.keep_going()?;
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.file.write_all_at(bytes, self.at).context(|| "cannot write")?;
        self.at += bytes.len() as u64;
        self.written = self.at;
        Ok(())
    }

    /// Steps over blocks of zeros, block by block as they lie in the file.
    fn write_sparse(&mut self, bytes: &[u8]) -> Result<()> {
        let mut rest = bytes;
        let (mut run, mut from) = (0, rest);
        while !rest.is_empty() {
            let at = self.at + run as u64;
            let block = (HOLE_BYTES - (at % HOLE_BYTES as u64) as usize).min(rest.len());
            let (here, after) = rest.split_at(block);
            if here.iter().all(|&b| b == 0) {
                self.write(&from[..run])?;
                self.at += block as u64;
                (run, from) = (0, after);
            } else {
                run += block;
            }
            rest = after;
        }
        self.write(&from[..run])
    }

    fn finish(self, content: &Content) -> Result<()> {
        if self.at != content.size {
            return Err(Error::corrupt("the file's pieces do not add up to its size"));
        }
        if self.written < content.size {
            self.file.set_len(content.size).context(|| "cannot set the size")?;
        }
        if let (Some(hash), Some(wanted)) = (self.hash, content.hash)
            && hash.finish() != wanted
        {
            return Err(Error::corrupt(
                "the content is not the one that was backed up: its hash does not fit",
            ));
        }
        Ok(())
    }
}
