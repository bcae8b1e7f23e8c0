//! One damaged pack: its bytes, from parity where that reaches, and what of them is still good.

use crate::backend::Backend;
use crate::check::scan::scan_bytes;
use crate::compress::{Decompressor, decompress_with_prefix};
use crate::crypto::{ChunkSort, hash};
use crate::error::{Error, ErrorKind, Result};
use crate::format::frame::{Body, Coding, FrameTable};
use crate::format::pack::{FrameEntry, TRAILER_LEN, Trailer};
use crate::format::{FORMAT_VERSION, FileName, limit};
use crate::id::{ChunkId, PackId};
use crate::repository::Repository;
use crate::repository::encode::SealedFrame;
use crate::repository::frames::{Frame, assemble_frame};
use crate::repository::index::Index;
use crate::repository::parity::{self, Mended};
use crate::repository::random;
use crate::repository::reader::Reader;

/// What a disk refuses at a time, in bytes.
const SECTOR: usize = 4 << 10;

/// By which way a pack's bytes were had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// All of them, bit for bit, with so many shards computed again.
    Parity { shards: u32 },
    /// As they lie there; frames that are intact are taken.
    Salvage,
}

/// The bytes of a damaged pack.
pub struct Found {
    pub bytes: Vec<u8>,
    pub way: Way,
    /// Bytes that the machine would not give.
    pub unreadable: u64,
    /// As they are, the bytes are those of a sound pack; what is wrong was stored like that.
    pub fits: bool,
}

/// Gets the bytes of a pack of `size` bytes; `None` when it is gone.
pub fn find(repository: &Repository, pack: PackId, size: u64) -> Result<Option<Found>> {
    let (backend, keyring) = (repository.backend().as_ref(), repository.keyring());
    match parity::mend(backend, keyring, pack) {
        Ok(Mended::Whole { bytes, damaged }) => {
            let fits = fits(&bytes);
            return Ok(Some(Found { bytes, way: Way::Parity { shards: damaged }, unreadable: 0, fits }));
        }
        Err(e) if e.kind() == ErrorKind::Cancelled => return Err(e),
        // No parity, or not enough of it.
        Ok(Mended::Beyond { .. }) | Err(_) => {}
    }
    match as_it_is(backend, &FileName::Pack(pack), size.min(limit::PACK_BYTES_MAX)) {
        Ok((bytes, unreadable)) => {
            let fits = fits(&bytes);
            Ok(Some(Found { bytes, way: Way::Salvage, unreadable, fits }))
        }
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// The bytes of a pack that is not there at all, from parity alone: as much parity as there was pack.
pub fn find_lost(repository: &Repository, pack: PackId) -> Option<Vec<u8>> {
    let sidecar = parity::read(repository.backend().as_ref(), repository.keyring(), pack).ok()?;
    if sidecar.geometry().parity < sidecar.geometry().data {
        return None;
    }
    match sidecar.mend(&mut |_, _| Err(Error::corrupt("gone"))) {
        Ok(Mended::Whole { bytes, .. }) if fits(&bytes) => Some(bytes),
        _ => None,
    }
}

/// Whether the bytes end as a pack does and their sum is the one stated there.
fn fits(bytes: &[u8]) -> bool {
    let Some(at) = bytes.len().checked_sub(TRAILER_LEN) else { return false };
    let trailer = Trailer::decode(&bytes[at..], bytes.len() as u64);
    trailer.is_ok_and(|trailer| trailer.hash == hash::plain(&bytes[..at]))
}

/// A file with zeros where the machine gives nothing, and how many.
fn as_it_is(backend: &dyn Backend, name: &FileName, size: u64) -> Result<(Vec<u8>, u64)> {
    let trouble = match backend.read_range(name, 0, size as usize) {
        Ok(bytes) => return Ok((bytes, 0)),
        Err(e) if e.kind() == ErrorKind::Io => e,
        Err(e) => return Err(e),
    };
    let mut bytes = vec![0; size as usize];
    let mut lost = 0;
    for (number, part) in bytes.chunks_mut(SECTOR).enumerate() {
        match backend.read_range(name, (number * SECTOR) as u64, part.len()) {
            Ok(found) => part.copy_from_slice(&found),
            Err(_) => lost += part.len() as u64,
        }
    }
    // Nothing at all is no damage of the medium but, for example, a lack of permission.
    if lost == size { Err(trouble) } else { Ok((bytes, lost)) }
}

/// What may be relied on while packs are judged.
pub struct Beside<'a> {
    /// Chunks that count as present in packs proved sound by this run: they need no saving.
    pub sound: &'a Index,
    /// Reads bases from wherever they are intact.
    pub reader: &'a Reader,
}

/// What is good in a pack.
#[derive(Default)]
pub struct Salvage {
    pub frames: Vec<SealedFrame>,
    /// Chunks in those frames.
    pub saved: Vec<ChunkId>,
    /// Chunks that are intact here and in a sound pack, too.
    pub elsewhere: u64,
    /// Chunks whose bytes are not what their name says, and nowhere else either.
    pub lost: Vec<ChunkId>,
    /// Some body is not what its names say, or a frame is not the one that the footer lists.
    pub bad: bool,
    /// No frame or footer of this version proves that this is not a pack of a later one.
    pub may_be_newer: bool,
}

/// Looks for everything good in a pack's bytes. `listed` is what its footer says, where that can be read.
pub fn judge(
    repository: &Repository,
    found: &Found,
    listed: &[FrameEntry],
    beside: &Beside<'_>,
) -> Result<Salvage> {
    let keyring = repository.keyring();
    let scan = scan_bytes(keyring, &found.bytes);
    let mut out = Salvage {
        may_be_newer: found.bytes.get(8).is_some_and(|v| *v > FORMAT_VERSION) && !scan.footer,
        ..Salvage::default()
    };
    for (sort, entry) in &scan.frames {
        let range = entry.offset as usize..entry.offset as usize + entry.len as usize;
        let Some(sealed) = found.bytes.get(range) else { continue };
        let frame = Frame::open(keyring, *sort, sealed.to_vec())?;
        let chunks = || entry.table.bodies.iter().flat_map(|b| &b.chunks);
        let mut wanted = false;
        out.bad |= !listed.is_empty() && !listed.contains(entry);
        for chunk in chunks() {
            wanted |= !beside.sound.present(&chunk.id)?;
        }
        if !wanted {
            out.elsewhere += chunks().count() as u64;
            continue;
        }
        let good = good_bodies(beside, *sort, &frame)?;
        for (body, good) in frame.table().bodies.iter().zip(&good) {
            let ids = body.chunks.iter().map(|c| c.id);
            if *good {
                out.saved.extend(ids)
            } else {
                out.lost.extend(ids)
            }
            out.bad |= !*good;
        }
        out.frames.extend(keep(repository, *sort, &frame, sealed, &good)?);
    }
    let intact: std::collections::HashSet<u32> = scan.frames.iter().map(|(_, e)| e.offset).collect();
    for entry in listed.iter().filter(|e| !intact.contains(&e.offset)) {
        out.bad = true;
        out.lost.extend(entry.table.bodies.iter().flat_map(|b| &b.chunks).map(|c| c.id));
    }
    let mut lost = std::mem::take(&mut out.lost);
    lost.retain(|id| !out.saved.contains(id));
    for id in lost {
        if !beside.sound.present(&id)? {
            out.lost.push(id);
        }
    }
    Ok(out)
}

/// Which bodies are what their names say. One whose bases cannot be had now is kept: they may come back.
fn good_bodies(beside: &Beside<'_>, sort: ChunkSort, frame: &Frame) -> Result<Vec<bool>> {
    let mut good = Vec::with_capacity(frame.table().bodies.len());
    for (number, body) in frame.table().bodies.iter().enumerate() {
        let stored = frame.stored(number).unwrap_or_default();
        let plain = match plain_of(beside, sort, body, stored) {
            Ok(plain) => plain,
            Err(e) if e.kind().is_unreadable() => {
                good.push(false);
                continue;
            }
            Err(e) => return Err(e),
        };
        let Some(plain) = plain else {
            good.push(true);
            continue;
        };
        let mut rest = plain.as_slice();
        good.push(body.chunks.iter().all(|chunk| {
            let Some((bytes, after)) = rest.split_at_checked(chunk.len as usize) else { return false };
            rest = after;
            beside.reader.keyring().chunk_id(sort, bytes) == chunk.id
        }));
    }
    Ok(good)
}

/// A body's plain bytes; `None` when what it builds on cannot be had.
fn plain_of(beside: &Beside<'_>, sort: ChunkSort, body: &Body, stored: &[u8]) -> Result<Option<Vec<u8>>> {
    let Coding::Prefix(prefix) = &body.coding else {
        return match body.coding {
            Coding::Raw => Ok(Some(stored.to_vec())),
            _ => Decompressor::new()?.decompress(stored, body.raw_len()).map(Some),
        };
    };
    let mut history = Vec::new();
    for base in &prefix.bases {
        match beside.reader.get(sort, base) {
            Ok(chunk) => history.extend_from_slice(&chunk),
            Err(e) if e.kind().is_unreadable() => return Ok(None),
            Err(e) => return Err(e),
        }
        if history.len() > prefix.len as usize {
            break;
        }
    }
    if history.len() != prefix.len as usize {
        return Err(Error::corrupt("a history of another length than stated"));
    }
    decompress_with_prefix(stored, &history, body.raw_len()).map(Some)
}

/// The frame as it is when all of it is good, a new one of its good bodies otherwise.
fn keep(
    repository: &Repository,
    sort: ChunkSort,
    frame: &Frame,
    sealed: &[u8],
    good: &[bool],
) -> Result<Option<SealedFrame>> {
    if good.iter().all(|good| *good) {
        return Ok(Some(SealedFrame { sort, bytes: sealed.to_vec(), table: frame.table().clone() }));
    }
    let (mut bodies, mut stored) = (Vec::new(), Vec::new());
    for (number, body) in frame.table().bodies.iter().enumerate().filter(|(number, _)| good[*number]) {
        bodies.push(body.clone());
        stored.extend_from_slice(frame.stored(number).unwrap_or_default());
    }
    if bodies.is_empty() {
        return Ok(None);
    }
    let table = FrameTable { bodies };
    let plain = assemble_frame(&table, &stored);
    let bytes = repository.keyring().seal(sort.frame_kind(), &plain, &random::bytes::<16>()?)?;
    Ok(Some(SealedFrame { sort, bytes, table }))
}
