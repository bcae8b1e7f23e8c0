//! Copies needed chunks out of packs that are to go. Frames that are needed whole are copied as they are.

use super::{Look, PruneOptions};
use crate::backend::Backend;
use crate::crypto::{ChunkSort, Keyring};
use crate::error::{Error, Result};
use crate::format::FileName;
use crate::format::frame::{Body, FrameTable};
use crate::format::pack::FrameEntry;
use crate::id::{ChunkId, PackId};
use crate::progress::Progress;
use crate::repository::Repository;
use crate::repository::encode::{FrameBuilder, SealedFrame};
use crate::repository::footer::read_footer;
use crate::repository::packer::Packer;
use crate::repository::place::PackInfo;
use crate::repository::reader::{Frame, Reader};
use std::sync::Arc;

/// What was copied.
#[derive(Default)]
pub struct Copied {
    pub bytes: u64,
    /// Packs that cannot be read; they must not go.
    pub unreadable: Vec<(PackId, String)>,
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
    let (backend, keyring) = (repository.backend(), repository.keyring());
    let mut packer = Packer::start(repository, None);
    let mut packs = packs.to_vec();
    packs.sort_by_key(|p| (p.sort == ChunkSort::Manifest, p.id));
    let mut result = Ok(());
    for sort in [ChunkSort::Content, ChunkSort::Manifest] {
        let builder = FrameBuilder::new(sort, options.level, Arc::clone(keyring))?;
        let mut copier = Copier { backend: backend.as_ref(), keyring, look, packer: &packer, builder };
        result = copier.packs(packs.iter().filter(|p| p.sort == sort), progress, &mut copied);
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

/// Stores chunks that have no other copy left whole, durably. `false` when one of them cannot be read any more.
pub fn rescue(
    repository: &Repository,
    reader: &Reader,
    chunks: &[(ChunkId, ChunkSort)],
    options: &PruneOptions,
) -> Result<Option<u64>> {
    let keyring = repository.keyring();
    let mut packer = Packer::start(repository, None);
    for sort in [ChunkSort::Content, ChunkSort::Manifest] {
        let mut builder = FrameBuilder::new(sort, options.level, Arc::clone(keyring))?;
        for (id, _) in chunks.iter().filter(|(_, s)| *s == sort) {
            let plain = match reader.get(sort, id) {
                Ok(plain) => plain,
                Err(e) if e.kind().is_unreadable() => return Ok(None),
                Err(e) => return Err(e),
            };
            if let Some(frame) = builder.add(*id, &plain, usize::MAX)? {
                packer.push(frame)?;
            }
        }
        if let Some(frame) = builder.finish()? {
            packer.push(frame)?;
        }
    }
    Ok(Some(packer.finish()?.bytes))
}

struct Copier<'a> {
    backend: &'a dyn Backend,
    keyring: &'a Keyring,
    look: &'a Look,
    packer: &'a Packer,
    builder: FrameBuilder,
}

impl Copier<'_> {
    fn packs<'p>(
        &mut self,
        packs: impl Iterator<Item = &'p PackInfo>,
        progress: &Progress,
        copied: &mut Copied,
    ) -> Result<()> {
        for pack in packs {
            progress.keep_going()?;
            match self.pack(pack) {
                Ok(()) => {}
                Err(e) if e.kind().is_unreadable() => {
                    copied.unreadable.push((pack.id, e.message().to_owned()));
                }
                Err(e) => return Err(e),
            }
            progress.add_bytes(pack.size);
        }
        match self.builder.finish()? {
            Some(frame) => self.packer.push(frame),
            None => Ok(()),
        }
    }

    fn pack(&mut self, pack: &PackInfo) -> Result<()> {
        let (footer, _) = read_footer(self.backend, self.keyring, pack.id, pack.size)?;
        for entry in &footer.frames {
            self.frame(pack, entry)?;
        }
        Ok(())
    }

    /// Which chunks of each body must stay by way of this very copy.
    fn needed(&self, pack: &PackInfo, entry: &FrameEntry) -> Result<Vec<Vec<bool>>> {
        let mut needed = Vec::with_capacity(entry.table.bodies.len());
        for (number, body) in entry.table.bodies.iter().enumerate() {
            let mut flags = Vec::with_capacity(body.chunks.len());
            for (slot, chunk) in body.chunks.iter().enumerate() {
                let kept = self.look.live.kept(&chunk.id)?;
                flags.push(kept.iter().any(|found| {
                    found.pack.id == pack.id
                        && found.place.offset == entry.offset
                        && usize::from(found.place.body) == number
                        && usize::from(found.place.slot) == slot
                }));
            }
            needed.push(flags);
        }
        Ok(needed)
    }

    fn frame(&mut self, pack: &PackInfo, entry: &FrameEntry) -> Result<()> {
        let needed = self.needed(pack, entry)?;
        if !needed.iter().flatten().any(|n| *n) {
            return Ok(());
        }
        let name = FileName::Pack(pack.id);
        let bytes = self.backend.read_range(&name, u64::from(entry.offset), entry.len as usize)?;
        // Its seal proves every byte of it: damage is never copied as if it were sound.
        let frame = Frame::open(self.keyring, pack.sort, bytes.clone())?;
        if *frame.table() != entry.table {
            return Err(Error::corrupt(format!("{name}: a frame is not the one its footer lists")));
        }
        if needed.iter().flatten().all(|n| *n) {
            let table = FrameTable { bodies: entry.table.bodies.clone() };
            return self.packer.push(SealedFrame { sort: pack.sort, bytes, table });
        }
        for (number, flags) in needed.iter().enumerate() {
            let body = &entry.table.bodies[number];
            if flags.iter().all(|n| *n) {
                self.body(&frame, number, body)?;
            } else if flags.iter().any(|n| *n) {
                self.chunks(pack.sort, &frame, number, flags)?;
            }
        }
        Ok(())
    }

    /// A body that is needed whole, as it is stored.
    fn body(&mut self, frame: &Frame, number: usize, body: &Body) -> Result<()> {
        let stored = frame.stored(number).ok_or_else(|| Error::corrupt("a frame lacks a body"))?;
        match self.builder.add_stored(body.clone(), stored)? {
            Some(sealed) => self.packer.push(sealed),
            None => Ok(()),
        }
    }

    /// The needed chunks of a solid body, compressed anew.
    fn chunks(&mut self, sort: ChunkSort, frame: &Frame, number: usize, needed: &[bool]) -> Result<()> {
        let no_history = || Error::corrupt("a body of several chunks has a history");
        let plain = frame.expand(number, &mut |_, _| Err(no_history()))?;
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
            if let Some(sealed) = self.builder.add(chunk.id, bytes, usize::MAX)? {
                self.packer.push(sealed)?;
            }
        }
        Ok(())
    }
}
