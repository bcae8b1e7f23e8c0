//! Every byte of the packs: each pack once, from front to back, a mebibyte or so in memory at a time.

use super::Check;
use super::damage::DamageKind;
use super::forest::{Delta, Forest};
use super::packs::PackFacts;
use crate::backend::Backend;
use crate::compress::Decompressor;
use crate::crypto::ChunkSort;
use crate::crypto::hash::FileHash;
use crate::error::{Error, ErrorKind, Result};
use crate::format::frame::{Body, Coding};
use crate::format::pack::{FrameEntry, TRAILER_LEN, Trailer};
use crate::format::{FileName, HEADER_LEN, decode_header};
use crate::id::PackId;
use crate::repository::footer::read_footer;
use crate::repository::frames::Frame;
use rayon::prelude::{IntoParallelRefIterator, ParallelIterator};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Bytes read in one step, where a frame is not longer.
const STEP_BYTES: usize = 1 << 20;
/// Changed chunks waiting for their bases, in bytes: what is gathered from several packs before it is worked off.
const WAITING_BYTES: u64 = 40 << 20;

/// What was read.
#[derive(Default)]
pub struct DataCounts {
    pub bytes: AtomicU64,
    pub raw: AtomicU64,
    pub chunks: AtomicU64,
    /// Packs read to their end, sound or not.
    pub read: Mutex<Vec<PackId>>,
    /// Packs left for another time because the time given was over.
    pub left: AtomicU64,
}

/// Reads these packs, and then what their changed chunks make of their bases.
pub fn look(check: &Check<'_>, packs: &[PackFacts], counts: &DataCounts) -> Result<()> {
    let total = packs.iter().map(|p| p.size).sum();
    check.progress.bytes_total.store(total, Ordering::Relaxed);
    check.progress.totals_known.store(true, Ordering::Relaxed);
    let mut rest = packs;
    while !rest.is_empty() {
        let mut waiting = 0;
        let fits = rest.iter().take_while(|pack| {
            waiting += pack.waiting;
            waiting <= WAITING_BYTES
        });
        let (batch, later) = rest.split_at(fits.count().max(1));
        rest = later;
        let deltas: Mutex<Vec<Delta>> = Mutex::default();
        batch.par_iter().try_for_each(|pack| {
            check.progress.keep_going()?;
            if check.out_of_time() {
                counts.left.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
            let mut found = Vec::new();
            pack_bytes(check, pack, counts, &mut found)?;
            counts.read.lock().unwrap_or_else(PoisonError::into_inner).push(pack.id);
            deltas.lock().unwrap_or_else(PoisonError::into_inner).append(&mut found);
            Ok(())
        })?;
        let deltas = deltas.into_inner().unwrap_or_else(PoisonError::into_inner);
        Forest::plant(check, deltas)?.look(check, counts)?;
    }
    Ok(())
}

/// One pack; its changed chunks are put aside into `waiting`.
fn pack_bytes(
    check: &Check<'_>,
    pack: &PackFacts,
    counts: &DataCounts,
    waiting: &mut Vec<Delta>,
) -> Result<()> {
    let name = FileName::Pack(pack.id);
    let hurt = |e: Error| match e.kind() {
        ErrorKind::Corrupt | ErrorKind::Unsupported => {
            check.findings.add_pack(DamageKind::PackDamaged, pack.id, e.message());
            Ok(())
        }
        // Taken away since it was listed.
        ErrorKind::NotFound => Ok(()),
        ErrorKind::Cancelled => Err(e),
        _ => {
            check.findings.unchecked(&name.path(), &e);
            Ok(())
        }
    };
    let mut reader = PackReader::new(check, pack, counts);
    reader.whole(waiting).or_else(hurt)
}

struct PackReader<'c, 'a> {
    check: &'c Check<'a>,
    pack: &'c PackFacts,
    counts: &'c DataCounts,
    stream: Stream<'c>,
    hash: FileHash,
    decompressor: Option<Decompressor>,
    plain: Vec<u8>,
}

impl<'c, 'a> PackReader<'c, 'a> {
    fn new(check: &'c Check<'a>, pack: &'c PackFacts, counts: &'c DataCounts) -> Self {
        let backend = check.repository.backend().as_ref();
        let stream = Stream {
            backend,
            name: FileName::Pack(pack.id),
            size: pack.size,
            next: 0,
            buffer: Vec::new(),
            at: 0,
        };
        let hash = FileHash::new();
        PackReader { check, pack, counts, stream, hash, decompressor: None, plain: Vec::new() }
    }

    fn take(&mut self, len: usize) -> Result<Vec<u8>> {
        let bytes = self.stream.take(len)?;
        self.counts.bytes.fetch_add(len as u64, Ordering::Relaxed);
        self.check.progress.add_bytes(len as u64);
        Ok(bytes)
    }

    fn whole(&mut self, waiting: &mut Vec<Delta>) -> Result<()> {
        let (backend, keyring) = (self.check.repository.backend().as_ref(), self.check.repository.keyring());
        let (footer, sort) = read_footer(backend, keyring, self.pack.id, self.pack.size)?;
        let header = self.take(HEADER_LEN)?;
        decode_header(&header, &self.stream.name, Some(keyring.repository()))?;
        self.hash.update(&header);
        for entry in &footer.frames {
            self.check.progress.keep_going()?;
            let sealed = self.take(entry.len as usize)?;
            self.hash.update(&sealed);
            if let Err(e) = self.frame(sort, entry, sealed, waiting) {
                let finding = self.check.findings.add_pack(
                    DamageKind::PackDamaged,
                    self.pack.id,
                    format!("the frame at {}: {e}", entry.offset),
                );
                entry.table.bodies.iter().for_each(|b| self.blame(finding, entry, b));
            }
        }
        let rest = (self.pack.size - footer.end()) as usize;
        let tail = self.take(rest)?;
        let (footer, trailer) = tail.split_at(rest.saturating_sub(TRAILER_LEN));
        self.hash.update(footer);
        if Trailer::decode(trailer, self.pack.size)?.hash != self.hash.finish() {
            return Err(Error::corrupt("the pack's checksum does not fit"));
        }
        Ok(())
    }

    /// The chunks of a damaged body, where nothing better than this copy is known.
    fn blame(&self, finding: usize, entry: &FrameEntry, body: &Body) {
        for chunk in &body.chunks {
            let found = self.check.reader.index().find(&chunk.id);
            if found
                .is_ok_and(|f| f.is_some_and(|f| f.pack.id == self.pack.id && f.place.offset == entry.offset))
            {
                self.check.findings.blame(finding, &chunk.id);
            }
        }
    }

    fn frame(
        &mut self,
        sort: ChunkSort,
        entry: &FrameEntry,
        sealed: Vec<u8>,
        waiting: &mut Vec<Delta>,
    ) -> Result<()> {
        let frame = Frame::open(self.check.repository.keyring(), sort, sealed)?;
        if *frame.table() != entry.table {
            return Err(Error::corrupt("it does not hold what the footer says"));
        }
        for (number, body) in entry.table.bodies.iter().enumerate() {
            let Some(stored) = frame.stored(number) else { return Err(Error::corrupt("it lacks a body")) };
            if let Coding::Prefix(prefix) = &body.coding {
                waiting.push(Delta {
                    pack: self.pack.id,
                    sort,
                    offset: entry.offset,
                    body: number as u16,
                    prefix: prefix.clone(),
                    chunks: body.chunks.clone(),
                    stored: stored.into(),
                });
            } else if let Err(e) = self.solid(sort, body, stored) {
                let why = format!("body {number} of the frame at {}: {e}", entry.offset);
                let finding = self.check.findings.add_pack(DamageKind::PackDamaged, self.pack.id, why);
                self.blame(finding, entry, body);
            }
        }
        Ok(())
    }

    fn solid(&mut self, sort: ChunkSort, body: &Body, stored: &[u8]) -> Result<()> {
        let raw_len = body.raw_len();
        let plain = if body.coding == Coding::Raw {
            stored
        } else {
            let decompressor = match &mut self.decompressor {
                Some(decompressor) => decompressor,
                none => none.insert(Decompressor::new()?),
            };
            decompressor.decompress_into(stored, raw_len, &mut self.plain)?;
            &self.plain
        };
        let mut at = 0;
        for chunk in &body.chunks {
            let end = at + chunk.len as usize;
            let bytes = plain.get(at..end).ok_or_else(|| Error::corrupt("a body is too short"))?;
            if self.check.repository.keyring().chunk_id(sort, bytes) != chunk.id {
                return Err(Error::corrupt(format!(
                    "chunk {} has another content than its name says",
                    chunk.id
                )));
            }
            at = end;
        }
        self.counts.chunks.fetch_add(body.chunks.len() as u64, Ordering::Relaxed);
        self.counts.raw.fetch_add(raw_len as u64, Ordering::Relaxed);
        Ok(())
    }
}

/// A file from front to back in large steps.
struct Stream<'c> {
    backend: &'c dyn Backend,
    name: FileName,
    size: u64,
    /// Where the next step begins.
    next: u64,
    buffer: Vec<u8>,
    at: usize,
}

impl Stream<'_> {
    fn take(&mut self, len: usize) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(len);
        while out.len() < len {
            if self.at == self.buffer.len() {
                let step = STEP_BYTES.max(len - out.len()) as u64;
                let step = step.min(self.size - self.next) as usize;
                if step == 0 {
                    return Err(Error::corrupt(format!("{} is cut short", self.name)));
                }
                self.buffer = self.backend.read_range(&self.name, self.next, step)?;
                self.next += step as u64;
                self.at = 0;
            }
            let n = (len - out.len()).min(self.buffer.len() - self.at);
            out.extend_from_slice(&self.buffer[self.at..self.at + n]);
            self.at += n;
        }
        Ok(out)
    }
}
