//! One file to its content list: read, cut, name, hand over what is new. The hot path.

use crate::chunker::{Chunker, WHOLE_FILE_MAX};
use crate::crypto::hash::FileHash;
use crate::crypto::{ChunkSort, Keyring};
use crate::error::{Context, Error, Result};
use crate::format::entry::{Content, Entry, Extent};
use crate::id::ChunkId;
use crate::manifest::content;
use crate::progress::Progress;
use crate::repository::reader::Reader;
use crate::sqlite;
use std::io::Read;

/// Zeros are looked for in blocks of this many bytes, aligned in the file, and only in sparse files.
const HOLE_BLOCK: usize = 64 << 10;
/// The buffer a large file is read through, unless two of the largest chunks need more.
const BUFFER: usize = 2 << 20;

/// Takes a chunk that may be new: its name, its bytes, the parent's chunks of the same place.
pub type Take<'a> = dyn FnMut(ChunkId, &[u8], &[ChunkId]) -> Result<()> + 'a;

/// Two kinds of failure that must never be mixed up: the first costs one file, the second ends the backup before it
/// commits (a store that cannot be written must not look like a file that cannot be read).
pub enum Trouble {
    Source(Error),
    Repository(Error),
    /// The file is a database, and those are not to be read as files.
    Database,
}

/// What reading gave.
pub struct ReadContent {
    pub content: Content,
    /// The first bytes are those of a SQLite database.
    pub is_sqlite: bool,
}

/// Reads one file (or stream) to its end.
pub struct FileReader<'a> {
    pub keyring: &'a Keyring,
    pub chunker: &'a Chunker,
    pub progress: &'a Progress,
    /// A read that gives less than was asked for has met the end.
    pub short_read_is_end: bool,
    /// Stop at a database before a byte of it is taken.
    pub stop_at_database: bool,
    pub buffer: Vec<u8>,
}

/// Where the parent's chunks of a file lie in it, for choosing histories.
#[derive(Default)]
pub struct OldChunks {
    /// Start and end in the file, in bytes, and the chunk.
    ranges: Vec<(u64, u64, ChunkId)>,
}

impl OldChunks {
    pub fn of(reader: &Reader, old: &Entry) -> Self {
        // A content list that cannot be read costs compression, nothing else.
        let extents = content::extents(reader, &old.content).unwrap_or_default();
        let mut ranges = Vec::new();
        let mut at = 0;
        for extent in extents {
            match extent {
                Extent::Hole { len } => at += len,
                Extent::Chunk { id, len, repeat } => {
                    ranges.push((at, at + u64::from(len), id));
                    at += u64::from(len) * repeat;
                }
            }
        }
        OldChunks { ranges }
    }

    /// The same with each of equal neighbours by itself.
    pub fn each_of(reader: &Reader, old: &Entry) -> Self {
        let extents = content::extents(reader, &old.content).unwrap_or_default();
        let mut ranges = Vec::new();
        let mut at = 0;
        for extent in extents {
            match extent {
                Extent::Hole { len } => at += len,
                Extent::Chunk { id, len, repeat } => {
                    for _ in 0..repeat {
                        ranges.push((at, at + u64::from(len), id));
                        at += u64::from(len);
                    }
                }
            }
        }
        OldChunks { ranges }
    }

    /// The chunks that overlap bytes `start..end`.
    pub fn overlapping(&self, start: u64, end: u64) -> Vec<ChunkId> {
        let first = self.ranges.partition_point(|(_, e, _)| *e <= start);
        self.ranges[first..].iter().take_while(|(s, _, _)| *s < end).map(|(_, _, id)| *id).collect()
    }

    /// The chunk that is exactly bytes `start..end`.
    pub fn exactly(&self, start: u64, end: u64) -> Option<ChunkId> {
        let at = self.ranges.partition_point(|(s, _, _)| *s < start);
        self.ranges.get(at).filter(|(s, e, _)| (*s, *e) == (start, end)).map(|(_, _, id)| *id)
    }

    /// Start, end and chunk, in order.
    pub fn ranges(&self) -> &[(u64, u64, ChunkId)] {
        &self.ranges
    }

    /// Where chunks end, in ascending order.
    pub fn ends(&self) -> impl Iterator<Item = u64> {
        self.ranges.iter().map(|(_, end, _)| *end)
    }

    pub fn all(&self) -> Vec<ChunkId> {
        self.ranges.iter().map(|(_, _, id)| *id).collect()
    }
}

impl FileReader<'_> {
    /// Reads all of `source`. `size` is what the caller expects, a hint only; `sparse` looks for holes.
    pub fn read(
        &mut self,
        source: &mut dyn Read,
        size: u64,
        sparse: bool,
        old: &OldChunks,
        take: &mut Take<'_>,
    ) -> std::result::Result<ReadContent, Trouble> {
        if size <= WHOLE_FILE_MAX as u64 && !sparse {
            self.buffer.clear();
            let ended = self.fill_more(source, size as usize + 1).map_err(Trouble::Source)?;
            // Only the end of the file ends it: files of /proc and some network file systems hold more than they state.
            self.no_database()?;
            if ended && self.buffer.len() <= WHOLE_FILE_MAX {
                return self.whole(old, take);
            }
        } else {
            self.buffer.clear();
        }
        self.large(source, sparse, old, take)
    }

    fn no_database(&self) -> std::result::Result<(), Trouble> {
        match self.stop_at_database && self.buffer.starts_with(sqlite::MAGIC) {
            true => Err(Trouble::Database),
            false => Ok(()),
        }
    }

    /// Reads until the buffer holds `want` bytes or the source ends; `true` at the end.
    fn fill_more(&mut self, source: &mut dyn Read, want: usize) -> Result<bool> {
        let mut have = self.buffer.len();
        self.buffer.resize(want.max(have), 0);
        let mut ended = false;
        while have < want {
            match source.read(&mut self.buffer[have..want]) {
                Ok(0) => {
                    ended = true;
                    break;
                }
                Ok(n) => {
                    let short = n < want - have;
                    have += n;
                    if short && self.short_read_is_end {
                        ended = true;
                        break;
                    }
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => {
                    self.buffer.truncate(have);
                    return Err(e).context(|| "cannot read");
                }
            }
        }
        self.buffer.truncate(have);
        Ok(ended)
    }

    /// A file of one chunk; its bytes are in the buffer.
    fn whole(&mut self, old: &OldChunks, take: &mut Take<'_>) -> std::result::Result<ReadContent, Trouble> {
        let size = self.buffer.len() as u64;
        let mut extents = Vec::new();
        if size > 0 {
            let id = self.keyring.chunk_id(ChunkSort::Content, &self.buffer);
            take(id, &self.buffer, &old.all()).map_err(Trouble::Repository)?;
            extents.push(Extent::Chunk { id, len: size as u32, repeat: 1 });
        }
        let is_sqlite = self.buffer.starts_with(sqlite::MAGIC);
        let content = Content { size, extents, lists: Vec::new(), hash: None };
        Ok(ReadContent { content, is_sqlite })
    }

    fn large(
        &mut self,
        source: &mut dyn Read,
        sparse: bool,
        old: &OldChunks,
        take: &mut Take<'_>,
    ) -> std::result::Result<ReadContent, Trouble> {
        let mut hash = FileHash::new();
        let mut extents: Vec<Extent> = Vec::new();
        let (mut at, mut first, mut ended) = (0u64, true, false);
        let mut is_sqlite = false;
        let max = self.chunker.class().max as usize;
        let buffer_len = BUFFER.max(2 * max);
        while !ended {
            self.progress.keep_going().map_err(Trouble::Repository)?;
            ended = self.fill_more(source, buffer_len).map_err(Trouble::Source)?;
            if first {
                self.no_database()?;
                is_sqlite = self.buffer.starts_with(sqlite::MAGIC);
                first = false;
            }
            // Everything but what may still be part of a longer chunk; all of it at the end.
            let mut done = 0;
            while done < self.buffer.len() && (ended || self.buffer.len() - done >= max.max(HOLE_BLOCK)) {
                let rest = &self.buffer[done..];
                let zeros = if sparse { leading_hole(rest, at) } else { 0 };
                let len = if zeros > 0 {
                    hash.update_zeros(zeros as u64);
                    push_hole(&mut extents, zeros as u64);
                    zeros
                } else {
                    let data = if sparse { until_hole(rest, at) } else { rest.len() };
                    let len = self.chunker.cut(&rest[..data]).min(data);
                    let chunk = &rest[..len];
                    hash.update(chunk);
                    let id = self.keyring.chunk_id(ChunkSort::Content, chunk);
                    let parents = old.overlapping(at, at + len as u64);
                    take(id, chunk, &parents).map_err(Trouble::Repository)?;
                    push_chunk(&mut extents, id, len as u32);
                    len
                };
                self.progress.add_bytes(len as u64);
                done += len;
                at += len as u64;
            }
            self.buffer.drain(..done);
        }
        let single = matches!(extents.as_slice(), [] | [Extent::Chunk { repeat: 1, .. }]);
        let hash = if single { None } else { Some(hash.finish()) };
        let content = Content { size: at, extents, lists: Vec::new(), hash };
        Ok(ReadContent { content, is_sqlite })
    }
}

pub fn push_chunk(extents: &mut Vec<Extent>, id: ChunkId, len: u32) {
    if let Some(Extent::Chunk { id: last, len: last_len, repeat }) = extents.last_mut()
        && *last == id
        && *last_len == len
    {
        *repeat += 1;
        return;
    }
    extents.push(Extent::Chunk { id, len, repeat: 1 });
}

fn push_hole(extents: &mut Vec<Extent>, len: u64) {
    if let Some(Extent::Hole { len: last }) = extents.last_mut() {
        *last += len;
        return;
    }
    extents.push(Extent::Hole { len });
}

fn is_zero(block: &[u8]) -> bool {
    block.iter().fold(0, |all, b| all | b) == 0
}

/// Bytes of whole zero blocks at the start of `rest`, which begins at offset `at` of the file.
fn leading_hole(rest: &[u8], at: u64) -> usize {
    if !at.is_multiple_of(HOLE_BLOCK as u64) {
        return 0;
    }
    rest.chunks_exact(HOLE_BLOCK).take_while(|block| is_zero(block)).count() * HOLE_BLOCK
}

/// Bytes before the next whole zero block, or all of `rest`.
fn until_hole(rest: &[u8], at: u64) -> usize {
    let skip = (at.next_multiple_of(HOLE_BLOCK as u64) - at) as usize;
    let Some(aligned) = rest.get(skip..) else { return rest.len() };
    match aligned.chunks_exact(HOLE_BLOCK).position(is_zero) {
        Some(0) if skip == 0 => rest.len(),
        Some(n) => skip + n * HOLE_BLOCK,
        None => rest.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_whole_aligned_blocks() {
        let mut bytes = vec![0u8; HOLE_BLOCK * 3 + 10];
        assert_eq!(leading_hole(&bytes, 0), HOLE_BLOCK * 3);
        assert_eq!(leading_hole(&bytes, 5), 0);
        bytes[HOLE_BLOCK + 7] = 1;
        assert_eq!(leading_hole(&bytes, 0), HOLE_BLOCK);
        assert_eq!(until_hole(&bytes[HOLE_BLOCK..], HOLE_BLOCK as u64), HOLE_BLOCK);
        assert_eq!(until_hole(&bytes[HOLE_BLOCK + 5..], HOLE_BLOCK as u64 + 5), HOLE_BLOCK - 5);
    }
}
