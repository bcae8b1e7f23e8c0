//! Parity sidecars of packs: made when a pack is stored, and what a damaged pack is mended with.
//!
//! A sidecar adds nothing to what counts as present. It may be missing, and a damaged one costs only itself.

use super::random;
use crate::backend::{Backend, write_new};
use crate::crypto::{Keyring, hash};
use crate::erasure::{Decoder, Encoder};
use crate::error::{Error, ErrorKind, Result};
use crate::format::frame::{FRAME_HEADER_LEN, FrameKind, decode_frame_header};
use crate::format::parity::{Geometry, ParityTable, SUM_LEN, Sum};
use crate::format::{FileName, HEADER_LEN, decode_header, encode_header, limit};
use crate::id::PackId;
use std::ops::Range;

/// What is encoded or decoded at a time of each shard, in bytes: bounds memory, changes nothing in the result.
const STRIP: usize = 4 << 10;
/// What is read at a time when all of a pack is read.
const READ: usize = 1 << 20;
/// Parity of repositories in a directory, in per cent.
pub const PERCENT_DEFAULT: u32 = 3;

fn sum(shard: &[u8]) -> Sum {
    let mut sum = [0; SUM_LEN];
    sum.copy_from_slice(&hash::plain(shard)[..SUM_LEN]);
    sum
}

/// Writes the sidecar of a stored pack, durably; returns its bytes. A pack that is gone, or was never stored by a dry
/// run, gets none.
pub fn write(backend: &dyn Backend, keyring: &Keyring, pack: PackId, size: u64, percent: u32) -> Result<u64> {
    let name = FileName::Pack(pack);
    let mut read = |offset, len| backend.read_range(&name, offset, len);
    let bytes = match build(keyring, pack, Geometry::choose(size, percent), &mut read) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(0),
        Err(e) => return Err(e),
    };
    match write_new(backend, &FileName::Parity(pack), &bytes) {
        Ok(()) => Ok(bytes.len() as u64),
        // Somebody else was faster: a pack has one content.
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(0),
        Err(e) => Err(e),
    }
}

/// The bytes of a sidecar. `read` supplies parts of the pack.
pub fn build(
    keyring: &Keyring,
    pack: PackId,
    geometry: Geometry,
    read: &mut dyn FnMut(u64, usize) -> Result<Vec<u8>>,
) -> Result<Vec<u8>> {
    let (shard, count) = (geometry.shard as usize, geometry.parity as usize);
    let mut sums = Vec::with_capacity(geometry.data as usize + count);
    let mut parity = vec![0; shard * count];
    // One for all strips but a shorter last one: its tables and its memory are the larger part of the work.
    let mut encoder = Encoder::new(geometry.data as usize, count, shard.min(STRIP))?;
    for start in (0..shard).step_by(STRIP) {
        let strip = start..shard.min(start + STRIP);
        if start > 0 && strip.len() < STRIP {
            encoder = Encoder::new(geometry.data as usize, count, strip.len())?;
        }
        if start == 0 {
            first_strip(geometry, read, &mut encoder, strip.len(), &mut sums)?;
        } else {
            for number in 0..geometry.data {
                let (at, len) = geometry.data_range(number);
                let want = strip.len().min(len.saturating_sub(start));
                let mut bytes = if want == 0 { Vec::new() } else { read(at + start as u64, want)? };
                bytes.resize(strip.len(), 0);
                encoder.add(&bytes)?;
            }
        }
        encoder.finish(&mut |number, bytes| {
            parity[number * shard..][strip.clone()].copy_from_slice(bytes);
        })?;
    }
    sums.extend(parity.chunks(shard).map(sum));
    let table = ParityTable { pack, geometry, sums };
    let frame = keyring.seal(FrameKind::Parity, &table.encode(), &random::bytes::<16>()?)?;
    let mut out = Vec::with_capacity(HEADER_LEN + 2 * frame.len() + parity.len());
    out.extend_from_slice(&encode_header(&FileName::Parity(pack), keyring.repository()));
    out.extend_from_slice(&frame);
    out.extend_from_slice(&parity);
    out.extend_from_slice(&frame);
    Ok(out)
}

/// The first strip of every data shard to the encoder, and the sums of whole shards. The pack comes in large pieces: it may
/// have to come from the disk, the rest of which is then at hand.
fn first_strip(
    geometry: Geometry,
    read: &mut dyn FnMut(u64, usize) -> Result<Vec<u8>>,
    encoder: &mut Encoder,
    strip: usize,
    sums: &mut Vec<Sum>,
) -> Result<()> {
    let shard = geometry.shard as usize;
    let at_once = (READ / shard).max(1) as u32;
    for first in (0..geometry.data).step_by(at_once as usize) {
        let count = at_once.min(geometry.data - first);
        let (at, _) = geometry.data_range(first);
        let (last, len) = geometry.data_range(first + count - 1);
        let want = (last - at) as usize + len;
        let mut bytes = if want == 0 { Vec::new() } else { read(at, want)? };
        bytes.resize(count as usize * shard, 0);
        for shard in bytes.chunks(shard) {
            sums.push(sum(shard));
            encoder.add(&shard[..strip])?;
        }
    }
    Ok(())
}

/// A sidecar of which at least one table is intact.
pub struct Sidecar {
    table: ParityTable,
    /// Parity shards that are as they were written, by number.
    intact: Vec<(usize, Vec<u8>)>,
    /// Whether every byte of the sidecar is as it was written.
    pub sound: bool,
}

/// Reads the sidecar of a pack; `NotFound` when there is none.
pub fn read(backend: &dyn Backend, keyring: &Keyring, pack: PackId) -> Result<Sidecar> {
    let name = FileName::Parity(pack);
    let bytes = backend.read(&name, limit::PARITY_BYTES_MAX)?;
    open(keyring, pack, &bytes).map_err(|e| e.context(name))
}

/// Makes what can be made of a sidecar's bytes, however damaged.
pub fn open(keyring: &Keyring, pack: PackId, bytes: &[u8]) -> Result<Sidecar> {
    let (table, frame) = find_table(keyring, pack, bytes)?;
    let (shard, data) = (table.geometry.shard as usize, table.geometry.data as usize);
    let frame_len = frame.len();
    let start = HEADER_LEN + frame_len;
    let mut intact = Vec::new();
    for number in 0..table.geometry.parity as usize {
        let shard = bytes.get(start + number * shard..start + (number + 1) * shard);
        if let Some(shard) = shard.filter(|shard| sum(shard) == table.sums[data + number]) {
            intact.push((number, shard.to_vec()));
        }
    }
    let end = start + shard * table.geometry.parity as usize;
    let name = FileName::Parity(pack);
    let sound = intact.len() == table.geometry.parity as usize
        && bytes.len() == end + frame_len
        && bytes[HEADER_LEN..start] == bytes[frame]
        && bytes[HEADER_LEN..start] == bytes[end..]
        && decode_header(bytes, &name, Some(keyring.repository())).is_ok();
    Ok(Sidecar { table, intact, sound })
}

/// The first intact table, and where its frame lies: behind the header, or, when that one is damaged, at the end.
fn find_table(keyring: &Keyring, pack: PackId, bytes: &[u8]) -> Result<(ParityTable, Range<usize>)> {
    let mut trouble = Error::corrupt("it holds no table");
    let last = bytes.len().saturating_sub(FRAME_HEADER_LEN);
    for at in std::iter::once(HEADER_LEN).chain((HEADER_LEN + 1..last).rev()) {
        let Some(rest) = bytes.get(at..) else { continue };
        let Ok((FrameKind::Parity, len)) = decode_frame_header(rest) else { continue };
        if len > rest.len() || (at != HEADER_LEN && len != rest.len()) {
            continue;
        }
        let opened = keyring.unseal(FrameKind::Parity, &rest[..len]).and_then(|p| ParityTable::decode(&p));
        match opened {
            Ok(table) if table.pack == pack => return Ok((table, at..at + len)),
            Ok(_) => trouble = Error::corrupt("it is the parity of another pack"),
            Err(e) => trouble = e,
        }
    }
    Err(trouble)
}

/// What became of an attempt to mend a pack.
#[derive(Debug)]
pub enum Mended {
    /// The pack's bytes as they were written, and how many shards of it were damaged.
    Whole { bytes: Vec<u8>, damaged: u32 },
    /// More is damaged than the parity that is left can mend.
    Beyond { damaged: u32, parity: u32 },
}

impl Sidecar {
    pub fn geometry(&self) -> &Geometry {
        &self.table.geometry
    }

    /// Computes the pack's bytes. `read` supplies parts of the pack as they are now; what it cannot supply, and what
    /// does not fit its sum, counts as damaged.
    pub fn mend(&self, read: &mut dyn FnMut(u64, usize) -> Result<Vec<u8>>) -> Result<Mended> {
        let geometry = self.geometry();
        let (shard, data) = (geometry.shard as usize, geometry.data as usize);
        let mut bytes = vec![0; data * shard];
        let mut good = vec![false; data];
        for number in 0..geometry.data {
            let (at, len) = geometry.data_range(number);
            let to = &mut bytes[number as usize * shard..][..shard];
            match read(at, len) {
                Ok(found) if found.len() == len => to[..len].copy_from_slice(&found),
                Err(e) if e.kind() == ErrorKind::Cancelled => return Err(e),
                _ => continue,
            }
            good[number as usize] = sum(to) == self.table.sums[number as usize];
        }
        let damaged = good.iter().filter(|good| !**good).count();
        if damaged > self.intact.len() {
            return Ok(Mended::Beyond { damaged: damaged as u32, parity: self.intact.len() as u32 });
        }
        if damaged > 0 {
            self.restore(&mut bytes, &good)?;
        }
        let right = |number: usize| sum(&bytes[number * shard..][..shard]) == self.table.sums[number];
        if !(0..data).filter(|number| !good[*number]).all(right) {
            return Err(Error::corrupt("the parity does not give what its sums say"));
        }
        bytes.truncate(geometry.pack_len as usize);
        Ok(Mended::Whole { bytes, damaged: damaged as u32 })
    }

    fn restore(&self, bytes: &mut [u8], good: &[bool]) -> Result<()> {
        let shard = self.geometry().shard as usize;
        for start in (0..shard).step_by(STRIP) {
            let strip = start..shard.min(start + STRIP);
            let mut decoder = Decoder::new(good.len(), self.geometry().parity as usize, strip.len())?;
            for (number, _) in good.iter().enumerate().filter(|(_, good)| **good) {
                decoder.add_data(number, &bytes[number * shard..][strip.clone()])?;
            }
            for (number, parity) in &self.intact {
                decoder.add_parity(*number, &parity[strip.clone()])?;
            }
            decoder.finish(&mut |number, found| {
                bytes[number * shard..][strip.clone()].copy_from_slice(found);
            })?;
        }
        Ok(())
    }
}

/// Mends a pack in the repository: what was stored under this name, computed from what is left of it.
pub fn mend(backend: &dyn Backend, keyring: &Keyring, pack: PackId) -> Result<Mended> {
    let name = FileName::Pack(pack);
    read(backend, keyring, pack)?.mend(&mut |offset, len| backend.read_range(&name, offset, len))
}
