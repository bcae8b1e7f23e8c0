//! Sealed frames to packs: one thread appends, another makes finished packs durable.

use super::encode::SealedFrame;
use super::place::{Listed, PackInfo, list_footer};
use super::segment::{Filed, Filing, entry};
use super::sessions::evicted;
use super::{Repository, parity};
use crate::backend::{Backend, Pending};
use crate::crypto::{ChunkSort, Keyring, hash::FileHash};
use crate::error::{Error, ErrorKind, Result};
use crate::format::frame::FrameKind;
use crate::format::pack::{Footer, FrameEntry, TRAILER_LEN, Trailer};
use crate::format::{FileName, Folder, HEADER_LEN, encode_header};
use crate::id::{NAME_LEN, Name, PackId};
use crate::progress::{Problem, Report};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::sync::Arc;
use std::thread::JoinHandle;

/// Frames waiting to be appended; each is a few hundred KiB.
const QUEUE: usize = 8;

/// The packs one backup wrote, with everything the local index wants to know.
#[derive(Default)]
pub struct Packed {
    pub packs: Vec<PackInfo>,
    pub listed: Vec<Listed>,
    /// Bytes of all pack files, and of what they can be mended with.
    pub bytes: u64,
    pub parity_bytes: u64,
    /// Index segments, and why not all were stored: what they would say stands in the packs.
    pub segments: Filed,
    pub segment_trouble: Option<String>,
}

impl Packed {
    /// Tells that something was left out which nobody needs.
    pub fn tell(&self, report: &dyn Report) {
        if let Some(why) = &self.segment_trouble {
            let message = format!("no index segment was stored, so the packs themselves are read: {why}");
            report.warning(&Problem { item: b"index".to_vec(), during: "index", message });
        }
    }
}

/// A running pack writer.
pub struct Packer {
    frames: Option<Sender<SealedFrame>>,
    appender: Option<JoinHandle<Result<()>>>,
    publisher: Option<JoinHandle<Result<Packed>>>,
}

struct OpenPack {
    name: FileName,
    sort: ChunkSort,
    file: Box<dyn Pending>,
    hash: FileHash,
    footer: Footer,
    len: u64,
}

struct FinishedPack {
    info: PackInfo,
    footer: Footer,
    file: Box<dyn Pending>,
}

impl Packer {
    /// `session` is who the packs are for: a collector leaves packs of open sessions alone. As many per cent of each
    /// pack as the config says are stored beside it, for mending, and where segments are wanted, these at the end.
    pub fn start(repository: &Repository, session: Option<Name>) -> Self {
        let config = repository.config();
        let (pack_bytes, parity, segments) = (config.pack_bytes, config.parity, repository.writes_segments());
        let (backend, keyring) = (Arc::clone(repository.backend()), Arc::clone(repository.keyring()));
        let (store, ring) = (Arc::clone(&backend), Arc::clone(&keyring));
        let (frames, incoming) = bounded::<SealedFrame>(QUEUE);
        // One finished pack may wait while another is synced; more would only pile up dirty pages.
        let (finished, to_publish) = bounded::<FinishedPack>(1);
        let appender = std::thread::spawn(move || {
            let mut open: [Option<OpenPack>; 2] = [None, None];
            for frame in incoming {
                let slot = &mut open[usize::from(frame.sort == ChunkSort::Manifest)];
                append(backend.as_ref(), &keyring, session, slot, frame)?;
                if slot.as_ref().is_some_and(|p| p.len >= pack_bytes)
                    && let Some(pack) = slot.take()
                {
                    send(&finished, pack.finish(&keyring)?)?;
                }
            }
            for pack in open.into_iter().flatten() {
                send(&finished, pack.finish(&keyring)?)?;
            }
            Ok(())
        });
        let publisher = std::thread::spawn(move || {
            let filing = segments.then(|| Filing::new(store.as_ref(), &ring));
            publish(store.as_ref(), &ring, parity, session, filing, &to_publish)
        });
        Packer { frames: Some(frames), appender: Some(appender), publisher: Some(publisher) }
    }

    /// Hands over a frame. An error means that the writer has stopped; `finish` says why.
    pub fn push(&self, frame: SealedFrame) -> Result<()> {
        let stopped = || Error::new(ErrorKind::Io, "the pack writer has stopped");
        self.frames.as_ref().ok_or_else(stopped)?.send(frame).map_err(|_| stopped())
    }

    /// Waits until every pack is durable.
    pub fn finish(&mut self) -> Result<Packed> {
        self.frames = None;
        let died = || Error::new(ErrorKind::Io, "the pack writer died");
        let appended = self.appender.take().map(|t| t.join().unwrap_or_else(|_| Err(died())));
        let published = self.publisher.take().map(|t| t.join().unwrap_or_else(|_| Err(died())));
        // The publisher's error is the cause of the appender's, when both have one.
        let packed = published.unwrap_or_else(|| Err(died()))?;
        appended.unwrap_or_else(|| Err(died()))?;
        Ok(packed)
    }
}

impl Drop for Packer {
    fn drop(&mut self) {
        self.frames = None;
        for thread in [self.appender.take()].into_iter().flatten() {
            let _ = thread.join();
        }
        if let Some(thread) = self.publisher.take() {
            let _ = thread.join();
        }
    }
}

fn send(finished: &Sender<FinishedPack>, pack: FinishedPack) -> Result<()> {
    finished.send(pack).map_err(|_| Error::new(ErrorKind::Io, "the pack publisher has stopped"))
}

/// A name for a new pack: random, its last half that of the session it is written for. Never reused: sessions' names
/// are random, too.
fn fresh_name(session: Option<Name>) -> Result<Name> {
    let mut name = super::random::name()?;
    if let Some(session) = session {
        name.0[NAME_LEN / 2..].copy_from_slice(&session.0[NAME_LEN / 2..]);
    }
    Ok(name)
}

/// Whether a pack may have been written by this session: a hint for economy, never for safety.
pub fn may_be_of(pack: &PackId, session: &Name) -> bool {
    pack.0[NAME_LEN / 2..] == session.0[NAME_LEN / 2..]
}

fn append(
    backend: &dyn Backend,
    keyring: &Keyring,
    session: Option<Name>,
    slot: &mut Option<OpenPack>,
    frame: SealedFrame,
) -> Result<()> {
    if slot.is_none() {
        let name = FileName::Pack(fresh_name(session)?);
        let mut pack = OpenPack {
            name,
            sort: frame.sort,
            file: backend.create(&name)?,
            hash: FileHash::new(),
            footer: Footer::default(),
            len: 0,
        };
        pack.write(&encode_header(&name, keyring.repository()))?;
        *slot = Some(pack);
    }
    if let Some(pack) = slot {
        let entry = FrameEntry { offset: pack.len as u32, len: frame.bytes.len() as u32, table: frame.table };
        pack.write(&frame.bytes)?;
        pack.footer.frames.push(entry);
    }
    Ok(())
}

impl OpenPack {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hash.update(bytes);
        self.len += bytes.len() as u64;
        self.file.append(bytes)
    }

    /// Footer and trailer; the file is complete but has no name yet.
    fn finish(mut self, keyring: &Keyring) -> Result<FinishedPack> {
        debug_assert!(self.len >= HEADER_LEN as u64);
        let footer_offset = self.len;
        let salt = super::random::bytes::<16>()?;
        let sealed = keyring.seal(FrameKind::Footer, &self.footer.encode(), &salt)?;
        self.write(&sealed)?;
        let file_len = self.len + TRAILER_LEN as u64;
        let trailer = Trailer { footer_offset, file_len, hash: self.hash.finish() };
        self.file.append(&trailer.encode())?;
        let info = PackInfo { id: self.name.header_name(), size: file_len, sort: self.sort, raw: 0 };
        Ok(FinishedPack { info, footer: self.footer, file: self.file })
    }
}

/// Whether a session is known to be open no more. What it would store now serves nobody: economy, not safety.
fn is_gone(backend: &dyn Backend, session: Name) -> bool {
    let open = backend.list(Folder::Sessions);
    open.is_ok_and(|open| open.iter().all(|stat| stat.name.header_name() != session))
}

fn publish(
    backend: &dyn Backend,
    keyring: &Keyring,
    parity: u32,
    session: Option<Name>,
    mut filing: Option<Filing<'_>>,
    finished: &Receiver<FinishedPack>,
) -> Result<Packed> {
    let mut packed = Packed::default();
    for pack in finished {
        if session.is_some_and(|session| is_gone(backend, session)) {
            return Err(evicted());
        }
        pack.file.publish()?;
        if parity > 0 {
            // From the stored file, not from memory: read while the machine still has it at hand.
            packed.parity_bytes += parity::write(backend, keyring, pack.info.id, pack.info.size, parity)?;
        }
        let raw = list_footer(&pack.footer, packed.packs.len() as u32, &mut packed.listed);
        packed.bytes += pack.info.size;
        packed.packs.push(PackInfo { raw, ..pack.info });
        // Only now that the pack is durable may a segment speak of it.
        let filed = filing
            .as_mut()
            .map_or(Ok(()), |filing| filing.add(entry(pack.info.id, pack.info.sort, pack.footer)));
        if let Err(e) = filed {
            (filing, packed.segment_trouble) = (None, Some(e.message().to_owned()));
        }
    }
    // Without them the next to open the repository has more to read, and that is all.
    match filing.map(|filing| filing.finish(Vec::new())) {
        Some(Ok(filed)) => packed.segments = filed,
        Some(Err(e)) => packed.segment_trouble = Some(e.message().to_owned()),
        None => {}
    }
    Ok(packed)
}
