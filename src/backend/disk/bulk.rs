//! A real file, and the way much is written to one: straight to the disk, in large aligned pieces.
//!
//! Through the machine's memory, each byte of a pack costs more time of the processor than its encryption does, and takes
//! the place of something that the machine still needs. Who reads the file afterwards, to make its parity, then meets what
//! the disk holds.

use crate::os::storage;
use rustix::io::Errno;
use std::fs::File;
use std::io::{Result, Write};

/// Bytes that are gathered before they are written.
const PIECE: usize = 1 << 20;
/// What addresses in memory, places in the file and lengths are multiples of: no smaller than the blocks of common disks.
const ALIGN: usize = 4096;

/// An open file of a real disk.
#[derive(Debug)]
pub struct RealFile {
    pub file: File,
    gathered: Option<Gathered>,
}

/// What still waits for a whole piece.
#[derive(Debug)]
struct Gathered {
    memory: Vec<u8>,
    /// Where in it the first aligned byte is.
    start: usize,
    len: usize,
}

impl From<File> for RealFile {
    fn from(file: File) -> Self {
        RealFile { file, gathered: None }
    }
}

impl Gathered {
    fn new() -> Self {
        let memory = vec![0; PIECE + ALIGN];
        let start = memory.as_ptr().align_offset(ALIGN).min(ALIGN);
        Gathered { memory, start, len: 0 }
    }

    /// Takes what has room; returns how much.
    fn take(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(PIECE - self.len);
        let at = self.start + self.len;
        self.memory[at..at + taken].copy_from_slice(&bytes[..taken]);
        self.len += taken;
        taken
    }

    fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }
}

impl RealFile {
    /// Much will be appended to this new file, and nothing read before `flush`.
    pub fn expect_much(&mut self) {
        if storage::had_better_be_direct(&self.file) && storage::set_direct(&self.file, true).is_ok() {
            self.gathered = Some(Gathered::new());
        }
    }

    /// Writes a whole piece to the disk. False when the file system will not have it that way: then it is written in the
    /// ordinary one, and so will be all that follows.
    fn write_piece(&mut self) -> Result<bool> {
        let Some(gathered) = &self.gathered else { return Ok(false) };
        let mut rest = gathered.bytes();
        let mut direct = true;
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => return Err(std::io::ErrorKind::WriteZero.into()),
                Ok(written) => rest = &rest[written..],
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) if direct && Errno::from_io_error(&e) == Some(Errno::INVAL) => {
                    storage::set_direct(&self.file, false)?;
                    direct = false;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(direct)
    }
}

impl Write for RealFile {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let Some(gathered) = &mut self.gathered else { return self.file.write(bytes) };
        let taken = gathered.take(bytes);
        if gathered.len == PIECE {
            match self.write_piece()? {
                true => self.gathered.iter_mut().for_each(|gathered| gathered.len = 0),
                false => self.gathered = None,
            }
        }
        Ok(taken)
    }

    /// Writes what was still gathered; what is written after this takes the ordinary way.
    fn flush(&mut self) -> Result<()> {
        if let Some(gathered) = self.gathered.take() {
            storage::set_direct(&self.file, false)?;
            self.file.write_all(gathered.bytes())?;
        }
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Any lengths of appends, also on file systems that refuse, give the bytes that were appended.
    #[test]
    fn what_is_gathered_arrives() {
        let dir = tempfile::tempdir().unwrap();
        for (number, step) in
            [1usize, 4095, 4096, 65_537, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE].into_iter().enumerate()
        {
            let total = if step == 1 { PIECE + 3 } else { (step * 3 + 17).max(2 * PIECE + 5) };
            let content: Vec<u8> = (0..total).map(|i| (i / 3 + i / 4096) as u8).collect();
            let path = dir.path().join(format!("{number}"));
            let mut file = RealFile::from(File::create_new(&path).unwrap());
            // Whatever disk this is: most take it, and those that do not must lose nothing either.
            let direct = storage::set_direct(&file.file, true).is_ok();
            file.gathered = Some(Gathered::new());
            for piece in content.chunks(step) {
                file.write_all(piece).unwrap();
            }
            file.flush().unwrap();
            file.write_all(b"tail").unwrap();
            file.file.sync_all().unwrap();
            let stored = std::fs::read(&path).unwrap();
            assert!(
                stored[..total] == content[..] && &stored[total..] == b"tail",
                "step {step}, direct {direct}"
            );
        }
    }

    /// Where a disk takes no direct writes of this kind, the piece is written in the ordinary way, once.
    #[test]
    fn a_refusal_costs_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("refused");
        let mut file = RealFile::from(File::create_new(&path).unwrap());
        if storage::set_direct(&file.file, true).is_err() {
            return;
        }
        // Memory that is not aligned is what a disk with larger blocks would find in ours.
        let mut gathered = Gathered::new();
        gathered.start = (gathered.start + 1) % ALIGN;
        file.gathered = Some(gathered);
        let content: Vec<u8> = (0..2 * PIECE + 9).map(|i| (i / 7) as u8).collect();
        file.write_all(&content).unwrap();
        file.flush().unwrap();
        assert!(std::fs::read(&path).unwrap() == content);
    }
}
