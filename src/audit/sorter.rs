//! Byte strings in order, however many: sorted in memory as far as it goes, then in runs on disk that are merged.

use crate::error::{Error, Result};
use crate::os::spool::Spool;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::{Path, PathBuf};

/// Runs that are merged at once; where there are more, they become one longer run first.
const RUNS_MAX: usize = 64;
/// Bytes of a run that are read at a time.
const PIECE: usize = 128 << 10;

/// Takes byte strings in any order.
pub struct Sorter {
    dir: PathBuf,
    /// Bytes in memory before they go to disk.
    room: usize,
    bytes: Vec<u8>,
    /// The first eight bytes of each, where it begins, and how long it is.
    all: Vec<(u64, usize, usize)>,
    runs: Vec<Run>,
    /// Bytes that went to disk.
    pub spilled: u64,
}

/// Sorted strings on disk: each after its length.
struct Run {
    spool: Spool,
    len: u64,
    at: u64,
    piece: Vec<u8>,
    inside: usize,
}

impl Sorter {
    pub fn new(dir: &Path, room: usize) -> Self {
        let (bytes, all, runs) = (Vec::new(), Vec::new(), Vec::new());
        Sorter { dir: dir.to_path_buf(), room, bytes, all, runs, spilled: 0 }
    }

    pub fn push(&mut self, string: &[u8]) -> Result<()> {
        let used = self.bytes.len() + string.len() + (self.all.len() + 1) * size_of::<(u64, usize, usize)>();
        if used > self.room && !self.all.is_empty() {
            self.spill()?;
        }
        let mut head = [0; 8];
        let count = string.len().min(8);
        head[..count].copy_from_slice(&string[..count]);
        self.all.push((u64::from_be_bytes(head), self.bytes.len(), string.len()));
        self.bytes.extend_from_slice(string);
        Ok(())
    }

    fn sort(&mut self) {
        let bytes = &self.bytes;
        self.all.sort_unstable_by(|a, b| {
            a.0.cmp(&b.0).then_with(|| bytes[a.1..a.1 + a.2].cmp(&bytes[b.1..b.1 + b.2]))
        });
    }

    /// Writes what is in memory as a run.
    fn spill(&mut self) -> Result<()> {
        self.sort();
        let mut run = Writer::new(&self.dir);
        for (_, at, len) in &self.all {
            run.push(&self.bytes[*at..at + len])?;
        }
        self.all.clear();
        self.bytes.clear();
        self.keep(run)?;
        if self.runs.len() == RUNS_MAX {
            let mut merged = Merge::new(std::mem::take(&mut self.runs))?;
            let mut run = Writer::new(&self.dir);
            while let Some(string) = merged.next()? {
                run.push(string)?;
            }
            self.keep(run)?;
        }
        Ok(())
    }

    fn keep(&mut self, run: Writer) -> Result<()> {
        let run = run.finish()?;
        self.spilled += run.len;
        self.runs.push(run);
        Ok(())
    }

    /// All of them, in order.
    pub fn finish(mut self) -> Result<Sorted> {
        if self.runs.is_empty() {
            self.sort();
            return Ok(Sorted::Memory { bytes: self.bytes, all: self.all, next: 0 });
        }
        if !self.all.is_empty() {
            self.spill()?;
        }
        Ok(Sorted::Disk(Merge::new(self.runs)?))
    }
}

/// A run that is being written.
struct Writer {
    spool: Spool,
    piece: Vec<u8>,
    len: u64,
}

impl Writer {
    fn new(dir: &Path) -> Self {
        Writer { spool: Spool::new(dir, 0), piece: Vec::with_capacity(PIECE), len: 0 }
    }

    fn push(&mut self, string: &[u8]) -> Result<()> {
        let len = u32::try_from(string.len()).map_err(|_| Error::invalid("a record's key is too long"))?;
        self.piece.extend_from_slice(&len.to_le_bytes());
        self.piece.extend_from_slice(string);
        if self.piece.len() >= PIECE { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.spool.append(&self.piece)?;
        self.len += self.piece.len() as u64;
        self.piece.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<Run> {
        self.flush()?;
        Ok(Run { spool: self.spool, len: self.len, at: 0, piece: Vec::new(), inside: 0 })
    }
}

impl Run {
    /// Makes sure that `count` bytes are at hand; `false` at the end.
    fn at_hand(&mut self, count: usize) -> Result<bool> {
        if self.piece.len() - self.inside >= count {
            return Ok(true);
        }
        self.piece.drain(..self.inside);
        self.inside = 0;
        let have = self.piece.len();
        let more = (self.len - self.at).min(PIECE.max(count) as u64) as usize;
        self.piece.resize(have + more, 0);
        self.spool.read(self.at, &mut self.piece[have..])?;
        self.at += more as u64;
        Ok(self.piece.len() >= count)
    }

    fn next(&mut self, out: &mut Vec<u8>) -> Result<bool> {
        out.clear();
        if !self.at_hand(4)? {
            return Ok(false);
        }
        let head =
            self.piece[self.inside..].first_chunk::<4>().map_or(0, |b| u32::from_le_bytes(*b)) as usize;
        self.inside += 4;
        if !self.at_hand(head)? {
            return Err(Error::corrupt("a temporary file is shorter than it was written"));
        }
        out.extend_from_slice(&self.piece[self.inside..self.inside + head]);
        self.inside += head;
        Ok(true)
    }
}

/// Several runs as one.
pub struct Merge {
    runs: Vec<Run>,
    /// The first string of each run that has one.
    heads: BinaryHeap<Reverse<(Vec<u8>, usize)>>,
    /// The one handed out last, and whose it is.
    last: Option<(Vec<u8>, usize)>,
}

impl Merge {
    fn new(mut runs: Vec<Run>) -> Result<Self> {
        let mut heads = BinaryHeap::new();
        for (number, run) in runs.iter_mut().enumerate() {
            let mut head = Vec::new();
            if run.next(&mut head)? {
                heads.push(Reverse((head, number)));
            }
        }
        Ok(Merge { runs, heads, last: None })
    }

    fn next(&mut self) -> Result<Option<&[u8]>> {
        if let Some((mut string, number)) = self.last.take()
            && let Some(run) = self.runs.get_mut(number)
            && run.next(&mut string)?
        {
            self.heads.push(Reverse((string, number)));
        }
        self.last = self.heads.pop().map(|Reverse(head)| head);
        Ok(self.last.as_ref().map(|(string, _)| string.as_slice()))
    }
}

/// Byte strings in order.
pub enum Sorted {
    Memory { bytes: Vec<u8>, all: Vec<(u64, usize, usize)>, next: usize },
    Disk(Merge),
}

impl Sorted {
    /// The next one, until there is none.
    pub fn read(&mut self) -> Result<Option<&[u8]>> {
        match self {
            Sorted::Disk(merge) => merge.next(),
            Sorted::Memory { bytes, all, next } => {
                let found = all.get(*next);
                *next += 1;
                Ok(found.map(|(_, at, len)| &bytes[*at..at + len]))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_come_back_in_order_however_little_memory_there_is() {
        let mut state = 7u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state >> 33
        };
        let mut strings: Vec<Vec<u8>> =
            (0..20_000).map(|_| (0..random() % 40).map(|_| random() as u8).collect()).collect();
        strings.push(vec![5; 3 * PIECE]);
        for room in [1 << 30, 1 << 20, 4000] {
            let mut sorter = Sorter::new(&std::env::temp_dir(), room);
            strings.iter().for_each(|string| sorter.push(string).expect("taken"));
            assert_eq!(sorter.spilled > 0, room < 1 << 30);
            let mut sorted = sorter.finish().expect("sorted");
            let mut expected = strings.clone();
            expected.sort();
            for string in &expected {
                assert_eq!(sorted.read().expect("read"), Some(string.as_slice()));
            }
            assert_eq!(sorted.read().expect("read"), None);
        }
    }
}
