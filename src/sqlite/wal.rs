//! A write-ahead log: which of its frames hold the newest version of each page.
//!
//! The rules are those by which SQLite itself recovers a log: a frame counts if its salts are the header's and the running
//! checksum over everything before it fits; the state is that of the last frame that closed a transaction.

use super::image::Files;
use crate::error::{Error, Result};
use std::collections::HashMap;

const HEADER: usize = 32;
pub const FRAME_HEADER: usize = 24;
/// Low bit: the checksums were computed over big-endian words.
const MAGIC: u32 = 0x377f_0682;
const VERSION: u32 = 3_007_000;
/// Frames are read in pieces of about this many bytes.
const PIECE: usize = 1 << 20;

/// A state of the log: where it ends, and the proof that nothing before was different.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    pub salts: [u8; 8],
    /// Frames that count.
    pub frames: u32,
    pub checksum: [u32; 2],
    /// Pages of the database.
    pub pages: u32,
    pub page_size: u32,
}

/// Where the newest version of each page lies.
#[derive(Debug, Default)]
pub struct Wal {
    pub mark: Mark,
    frames: HashMap<u32, u32>,
}

impl Wal {
    /// Offset of the page's bytes in the log; `None` when the main file has it.
    pub fn find(&self, page: u32) -> Option<u64> {
        let frame = u64::from(*self.frames.get(&page)?);
        let size = self.mark.page_size as u64 + FRAME_HEADER as u64;
        Some(HEADER as u64 + (frame - 1) * size + FRAME_HEADER as u64)
    }

    /// Whether every page of the database is here, so that nothing of the main file is needed.
    pub fn is_complete(&self) -> bool {
        (1..=self.mark.pages).all(|page| self.frames.contains_key(&page))
    }
}

/// Whether a log begins with these bytes.
pub fn is_log(bytes: &[u8]) -> bool {
    bytes.len() >= 4 && word(bytes, 0) & !1 == MAGIC
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Continues the running checksum over `bytes`, a multiple of 8.
fn sum(big_endian: bool, mut state: [u32; 2], bytes: &[u8]) -> [u32; 2] {
    let read = match big_endian {
        true => u32::from_be_bytes,
        false => u32::from_le_bytes,
    };
    for pair in bytes.as_chunks::<8>().0 {
        let [a, b, c, d, e, f, g, h] = *pair;
        state[0] = state[0].wrapping_add(read([a, b, c, d])).wrapping_add(state[1]);
        state[1] = state[1].wrapping_add(read([e, f, g, h])).wrapping_add(state[0]);
    }
    state
}

/// Reads a log of `len` bytes: up to its last closed transaction, or exactly to the state SQLite holds pinned.
///
/// `None` when the log says nothing: it is empty, or its header is not one. With `pinned` that is an error, as is every
/// other difference between what we read and what SQLite holds.
pub fn read(files: &mut dyn Files, len: u64, pinned: Option<&Mark>) -> Result<Option<Wal>> {
    let strange = || Error::corrupt("the write-ahead log is not what SQLite says it is");
    let nothing = || if pinned.is_some() { Err(strange()) } else { Ok(None) };
    if len < HEADER as u64 {
        return nothing();
    }
    let mut header = [0u8; HEADER];
    files.read_wal(0, &mut header)?;
    let page_size = word(&header, 8);
    let sane = page_size.is_power_of_two() && (512..=65_536).contains(&page_size);
    let big_endian = word(&header, 0) & 1 == 1;
    let checksum = sum(big_endian, [0; 2], &header[..24]);
    if !is_log(&header) || !sane || checksum != [word(&header, 24), word(&header, 28)] {
        return nothing();
    }
    if word(&header, 4) != VERSION {
        return Err(Error::corrupt("the write-ahead log has a version that is not known"));
    }
    let mut salts = [0; 8];
    salts.copy_from_slice(&header[16..24]);
    let mut scan = Scan {
        big_endian,
        salts,
        checksum,
        wal: Wal { mark: Mark { salts, page_size, ..Mark::default() }, frames: HashMap::new() },
        open: Vec::new(),
        frame: 0,
    };
    let frame_len = page_size as usize + FRAME_HEADER;
    let there = ((len - HEADER as u64) / frame_len as u64).min(u64::from(u32::MAX)) as u32;
    let until = pinned.map_or(there, |mark| mark.frames);
    if until > there {
        return Err(strange());
    }
    let per_piece = (PIECE / frame_len).max(1) as u32;
    let mut piece = vec![0; per_piece as usize * frame_len];
    while scan.frame < until {
        let count = per_piece.min(until - scan.frame);
        let piece = &mut piece[..count as usize * frame_len];
        files.read_wal(HEADER as u64 + u64::from(scan.frame) * frame_len as u64, piece)?;
        if !piece.chunks_exact(frame_len).all(|frame| scan.take(frame)) {
            break;
        }
    }
    match pinned {
        Some(mark) if scan.wal.mark != *mark => Err(strange()),
        None if scan.wal.mark.frames == 0 => Ok(None),
        _ => Ok(Some(scan.wal)),
    }
}

struct Scan {
    big_endian: bool,
    salts: [u8; 8],
    checksum: [u32; 2],
    wal: Wal,
    /// Pages and frames of the transaction that is not closed yet.
    open: Vec<(u32, u32)>,
    frame: u32,
}

impl Scan {
    /// The next frame; false when it does not count, and so none after it.
    fn take(&mut self, frame: &[u8]) -> bool {
        let (header, page) = frame.split_at(FRAME_HEADER);
        let number = word(header, 0);
        let checksum = sum(self.big_endian, sum(self.big_endian, self.checksum, &header[..8]), page);
        if header[8..16] != self.salts || number == 0 || checksum != [word(header, 16), word(header, 20)] {
            return false;
        }
        self.checksum = checksum;
        self.frame += 1;
        self.open.push((number, self.frame));
        let pages = word(header, 4);
        if pages > 0 {
            let mark = &mut self.wal.mark;
            (mark.frames, mark.checksum, mark.pages) = (self.frame, checksum, pages);
            self.wal.frames.extend(self.open.drain(..));
        }
        true
    }
}
