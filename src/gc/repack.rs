//! Copies needed chunks out of packs that are to go. Frames that are needed whole are copied as they are, and each
//! frame is read and decoded once, in the order in which it lies there.

use super::{Look, PruneOptions};
use crate::backend::Backend;
use crate::crypto::{ChunkSort, Keyring};
use crate::error::{Error, Result};
use crate::format::FileName;
use crate::format::frame::{Body, Coding, FrameTable};
use crate::format::pack::FrameEntry;
use crate::id::{ChunkId, PackId};
use crate::progress::Progress;
use crate::repository::Repository;
use crate::repository::encode::{FrameBuilder, SealedFrame};
use crate::repository::footer::read_footer;
use crate::repository::frames::Frame;
use crate::repository::index::Found;
use crate::repository::packer::Packer;
use crate::repository::place::PackInfo;
use crate::repository::reader::Reader;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What was copied.
#[derive(Default)]
pub struct Copied {
    pub bytes: u64,
    /// Packs that cannot be read; they must not go.
    pub unreadable: Vec<(PackId, String)>,
}

/// What came of storing chunks anew.
pub enum Rescued {
    /// All of them are durable; so many bytes were written.
    All(u64),
    /// One of them cannot be read any more, for this reason.
    Unreadable(Error),
}

/// Where a chunk lies in a pack.
struct At {
    pack: PackId,
    offset: u32,
    body: usize,
    slot: usize,
}

impl At {
    fn is(&self, found: &Found) -> bool {
        found.pack.id == self.pack
            && found.place.offset == self.offset
            && usize::from(found.place.body) == self.body
            && usize::from(found.place.slot) == self.slot
    }
}

/// Which copies are wanted.
trait Choice {
    /// Whether this very copy of a chunk is.
    fn wants(&self, id: &ChunkId, at: &At) -> Result<bool>;

    /// Whether a chunk that needs a history may be copied with it.
    fn keeps_history(&self, id: &ChunkId, bases: &[ChunkId]) -> Result<bool>;
}

/// The copies that were marked.
struct Marked<'a>(&'a Look);

impl Choice for Marked<'_> {
    fn wants(&self, id: &ChunkId, at: &At) -> Result<bool> {
        Ok(self.0.live.kept(id)?.iter().any(|found| at.is(found)))
    }

    /// What it is stored against was marked with it.
    fn keeps_history(&self, _: &ChunkId, _: &[ChunkId]) -> Result<bool> {
        Ok(true)
    }
}

/// One copy of each of these chunks, which have none among what stays.
struct Lost<'a> {
    look: &'a Look,
    chunks: BTreeMap<ChunkId, ChunkSort>,
    history: History,
}

impl Choice for Lost<'_> {
    fn wants(&self, id: &ChunkId, at: &At) -> Result<bool> {
        Ok(self.chunks.contains_key(id) && self.look.index.find(id)?.is_some_and(|found| at.is(&found)))
    }

    fn keeps_history(&self, id: &ChunkId, bases: &[ChunkId]) -> Result<bool> {
        let Some(found) = self.look.index.find(id)? else { return Ok(false) };
        Ok(self.history == History::Staying && self.look.index.stays_grounded(&found, bases)?)
    }
}

/// What chunks that are stored anew may rest on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum History {
    /// What they rest on now, where that stays.
    Staying,
    Nothing,
}

/// Copies what is needed out of these packs into new ones, durably.
pub fn copy(
    repository: &Repository,
    look: &Look,
    packs: &[PackInfo],
    options: &PruneOptions,
    progress: &Progress,
) -> Result<Copied> {
    let mut copied = Copied::default();
    if packs.is_empty() {
        return Ok(copied);
    }
    let (reader, marked) = (look.reader(repository), Marked(look));
    let mut packer = Packer::start(repository, None);
    let mut result = Ok(());
    for sort in [ChunkSort::Content, ChunkSort::Manifest] {
        let mut packs: Vec<PackInfo> = packs.iter().filter(|p| p.sort == sort).copied().collect();
        packs.sort_by_key(|pack| pack.id);
        let builder = FrameBuilder::new(sort, options.level, Arc::clone(repository.keyring()))?;
        let mut copier = Copier::new(repository, &marked, &reader, &packer, builder);
        result = copier.packs(&packs, progress, &mut copied.unreadable).and_then(|()| copier.finish());
        if result.is_err() {
            break;
        }
    }
    // The packer's own error is the cause of ours, when it has one.
    let packed = packer.finish()?;
    result?;
    copied.bytes = packed.bytes;
    Ok(copied)
}

/// Stores chunks anew that have no copy that may stay, durably, each from its best copy, and from any other where that
/// cannot be read.
pub fn rescue(
    repository: &Repository,
    look: &Look,
    chunks: &[(ChunkId, ChunkSort)],
    history: History,
    options: &PruneOptions,
    progress: &Progress,
) -> Result<Rescued> {
    let reader = look.reader(repository);
    let lost = Lost { look, chunks: chunks.iter().copied().collect(), history };
    let mut packer = Packer::start(repository, None);
    let mut result = Ok(None);
    for sort in [ChunkSort::Content, ChunkSort::Manifest] {
        let builder = FrameBuilder::new(sort, options.level, Arc::clone(repository.keyring()))?;
        let mut copier = Copier::new(repository, &lost, &reader, &packer, builder);
        result = copier.rescue(&lost, sort, progress);
        if !matches!(result, Ok(None)) {
            break;
        }
    }
    let packed = packer.finish()?;
    Ok(match result? {
        None => Rescued::All(packed.bytes),
        Some(why) => Rescued::Unreadable(why),
    })
}

struct Copier<'a> {
    backend: &'a dyn Backend,
    keyring: &'a Keyring,
    choice: &'a dyn Choice,
    /// Reads what histories consist of.
    reader: &'a Reader,
    packer: &'a Packer,
    builder: FrameBuilder,
}

/// What is to be copied of a body.
enum Wanted {
    Nothing,
    AsStored,
    /// These of its chunks, compressed anew.
    Anew(Vec<bool>),
}

impl<'a> Copier<'a> {
    fn new(
        repository: &'a Repository,
        choice: &'a dyn Choice,
        reader: &'a Reader,
        packer: &'a Packer,
        builder: FrameBuilder,
    ) -> Self {
        let (backend, keyring) = (repository.backend().as_ref(), repository.keyring());
        Copier { backend, keyring, choice, reader, packer, builder }
    }

    /// Copies what is wanted of these packs, and says which of them cannot be read.
    fn packs(
        &mut self,
        packs: &[PackInfo],
        progress: &Progress,
        unreadable: &mut Vec<(PackId, String)>,
    ) -> Result<()> {
        for pack in packs {
            progress.keep_going()?;
            match self.pack(pack) {
                Ok(()) => {}
                Err(e) if e.kind().is_unreadable() => unreadable.push((pack.id, e.message().to_owned())),
                Err(e) => return Err(e),
            }
            progress.add_bytes(pack.size);
        }
        Ok(())
    }

    /// Stores lost chunks of one sort, pack by pack; returns why one of them cannot be read.
    fn rescue(&mut self, lost: &Lost<'_>, sort: ChunkSort, progress: &Progress) -> Result<Option<Error>> {
        let mut packs = BTreeMap::new();
        for (id, _) in lost.chunks.iter().filter(|(_, s)| **s == sort) {
            if let Some(found) = lost.look.index.find(id)? {
                packs.insert(found.pack.id, found.pack);
            }
        }
        let packs: Vec<PackInfo> = packs.into_values().collect();
        let mut unreadable = Vec::new();
        self.packs(&packs, progress, &mut unreadable)?;
        // Most of a damaged pack may be intact, and there may be other copies; what was copied of it already is copied
        // twice now, which does no harm.
        let unreadable: BTreeSet<PackId> = unreadable.into_iter().map(|(pack, _)| pack).collect();
        for (id, _) in lost.chunks.iter().filter(|(_, s)| **s == sort) {
            let pack = lost.look.index.find(id)?.map(|found| found.pack.id);
            if pack.is_some_and(|pack| !unreadable.contains(&pack)) {
                continue;
            }
            progress.keep_going()?;
            match self.reader.get(sort, id) {
                Ok(plain) => self.add(id, &plain)?,
                Err(e) if e.kind().is_unreadable() => return Ok(Some(e)),
                Err(e) => return Err(e),
            }
        }
        self.finish().map(|()| None)
    }

    fn finish(&mut self) -> Result<()> {
        let last = self.builder.finish()?;
        self.push(last)
    }

    fn push(&self, frame: Option<SealedFrame>) -> Result<()> {
        frame.map_or(Ok(()), |frame| self.packer.push(frame))
    }

    fn add(&mut self, id: &ChunkId, plain: &[u8]) -> Result<()> {
        let frame = self.builder.add(*id, plain, usize::MAX)?;
        self.push(frame)
    }

    fn pack(&mut self, pack: &PackInfo) -> Result<()> {
        let (footer, _) = read_footer(self.backend, self.keyring, pack.id, pack.size)?;
        footer.frames.iter().try_for_each(|entry| self.frame(pack, entry))
    }

    fn wanted(&self, pack: &PackInfo, entry: &FrameEntry, number: usize, body: &Body) -> Result<Wanted> {
        let mut flags = Vec::with_capacity(body.chunks.len());
        for (slot, chunk) in body.chunks.iter().enumerate() {
            let at = At { pack: pack.id, offset: entry.offset, body: number, slot };
            flags.push(self.choice.wants(&chunk.id, &at)?);
        }
        if !flags.contains(&true) {
            return Ok(Wanted::Nothing);
        }
        let as_stored = match (&body.coding, body.chunks.first()) {
            (Coding::Prefix(prefix), Some(chunk)) => self.choice.keeps_history(&chunk.id, &prefix.bases)?,
            _ => true,
        };
        Ok(if as_stored && !flags.contains(&false) { Wanted::AsStored } else { Wanted::Anew(flags) })
    }

    fn frame(&mut self, pack: &PackInfo, entry: &FrameEntry) -> Result<()> {
        let bodies = &entry.table.bodies;
        let wanted = bodies.iter().enumerate().map(|(number, body)| self.wanted(pack, entry, number, body));
        let wanted = wanted.collect::<Result<Vec<Wanted>>>()?;
        if wanted.iter().all(|wanted| matches!(wanted, Wanted::Nothing)) {
            return Ok(());
        }
        let name = FileName::Pack(pack.id);
        let bytes = self.backend.read_range(&name, u64::from(entry.offset), entry.len as usize)?;
        // Its seal proves every byte of it: damage is never copied as if it were sound.
        let frame = Frame::open(self.keyring, pack.sort, bytes.clone())?;
        if *frame.table() != entry.table {
            return Err(Error::corrupt(format!("{name}: a frame is not the one its footer lists")));
        }
        if wanted.iter().all(|wanted| matches!(wanted, Wanted::AsStored)) {
            let table = FrameTable { bodies: bodies.clone() };
            return self.packer.push(SealedFrame { sort: pack.sort, bytes, table });
        }
        for (number, wanted) in wanted.iter().enumerate() {
            match wanted {
                Wanted::Nothing => {}
                Wanted::AsStored => self.body(&frame, number, &bodies[number])?,
                Wanted::Anew(flags) => self.chunks(pack.sort, &frame, number, flags)?,
            }
        }
        Ok(())
    }

    /// A body that is needed whole, as it is stored.
    fn body(&mut self, frame: &Frame, number: usize, body: &Body) -> Result<()> {
        let stored = frame.stored(number).ok_or_else(|| Error::corrupt("a frame lacks a body"))?;
        let sealed = self.builder.add_stored(body.clone(), stored)?;
        self.push(sealed)
    }

    /// The needed chunks of a body, compressed anew.
    fn chunks(&mut self, sort: ChunkSort, frame: &Frame, number: usize, needed: &[bool]) -> Result<()> {
        let plain = self.reader.expand(sort, frame, number)?;
        let mut at = 0;
        for (chunk, needed) in frame.table().bodies[number].chunks.iter().zip(needed) {
            let bytes = &plain[at..at + chunk.len as usize];
            at += chunk.len as usize;
            if !needed {
                continue;
            }
            if self.keyring.chunk_id(sort, bytes) != chunk.id {
                return Err(Error::corrupt(format!(
                    "chunk {} has another content than its name says",
                    chunk.id
                )));
            }
            self.add(&chunk.id, bytes)?;
        }
        Ok(())
    }
}
