//! One index segment: copies of pack footers in a file of their own. Written once, sealed, and derived from the packs.
//!
//! A segment says where chunks lie, never that a pack is there: who uses one has listed the packs, and whoever decides
//! what to delete reads the packs' own footers. Bytes: `format-spec/3-index.md`, "Segments".

use super::random;
use crate::backend::{Backend, write_new};
use crate::crypto::{ChunkSort, Keyring};
use crate::error::{Error, Result};
use crate::format::frame::FrameKind;
use crate::format::pack::Footer;
use crate::format::segment::{PackFooter, SEGMENT_BASE, Segment};
use crate::format::{FileName, HEADER_LEN, decode_header, encode_header, limit};
use crate::id::{NAME_LEN, Name, PackId};

/// A segment is closed before it would have more bytes than this: memory for reading and merging is bounded by it.
pub const SEGMENT_FULL: usize = 16 << 20;

/// When copies of footers are stored in segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SegmentPolicy {
    /// Where each request takes long.
    #[default]
    Auto,
    Always,
    Never,
}

impl SegmentPolicy {
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(SegmentPolicy::Auto),
            "always" => Ok(SegmentPolicy::Always),
            "never" => Ok(SegmentPolicy::Never),
            _ => Err(Error::invalid(format!("`{text}` must be auto, always or never"))),
        }
    }
}

/// The segment that these bytes are, if they are as they were written.
pub fn judge(bytes: &[u8], name: &FileName, keyring: &Keyring) -> Result<Segment> {
    decode_header(bytes, name, Some(keyring.repository()))?;
    let plain = keyring.unseal(FrameKind::Segment, &bytes[HEADER_LEN..]).map_err(|e| e.context(name))?;
    Segment::decode(&plain).map_err(|e| e.context(name))
}

pub fn read(backend: &dyn Backend, keyring: &Keyring, segment: Name) -> Result<Segment> {
    let name = FileName::Index(segment);
    judge(&backend.read(&name, limit::SEGMENT_BYTES_MAX)?, &name, keyring)
}

/// The sort of the chunks in a pack that a segment lists.
pub fn sort_of(entry: &PackFooter) -> ChunkSort {
    if entry.kind == FrameKind::Meta { ChunkSort::Manifest } else { ChunkSort::Content }
}

/// What a segment says of a pack with this footer.
pub fn entry(pack: PackId, sort: ChunkSort, footer: Footer) -> PackFooter {
    PackFooter { pack, kind: sort.frame_kind(), footer }
}

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filed {
    pub segments: u64,
    pub bytes: u64,
}

/// Footers on their way into segments. Their packs must be durable by now.
pub struct Filing<'a> {
    backend: &'a dyn Backend,
    keyring: &'a Keyring,
    packs: Vec<PackFooter>,
    /// Of the segment that is being filled, at most.
    bytes: usize,
    filed: Filed,
}

impl<'a> Filing<'a> {
    pub fn new(backend: &'a dyn Backend, keyring: &'a Keyring) -> Self {
        Filing { backend, keyring, packs: Vec::new(), bytes: SEGMENT_BASE, filed: Filed::default() }
    }

    /// Takes what is said of one pack; full segments are stored on the way.
    pub fn add(&mut self, entry: PackFooter) -> Result<()> {
        let len = entry.encoded_len();
        if !self.packs.is_empty()
            && (self.bytes + len > SEGMENT_FULL || self.packs.len() >= limit::SEGMENT_COUNT_MAX)
        {
            self.store(Vec::new())?;
        }
        // What no segment can hold is read from its pack.
        if entry.is_listable() && (SEGMENT_BASE + len) as u64 <= limit::SEGMENT_BYTES_MAX {
            self.bytes += len;
            self.packs.push(entry);
        }
        Ok(())
    }

    /// Stores what is left. The last segment names those that all of them replace: who finds it finds the others.
    pub fn finish(mut self, mut supersedes: Vec<Name>) -> Result<Filed> {
        if !self.packs.is_empty() {
            let room = (limit::SEGMENT_BYTES_MAX as usize).saturating_sub(self.bytes) / NAME_LEN;
            supersedes.truncate(room.min(limit::SEGMENT_COUNT_MAX));
            self.store(supersedes)?;
        }
        Ok(self.filed)
    }

    fn store(&mut self, mut supersedes: Vec<Name>) -> Result<()> {
        let mut packs = std::mem::take(&mut self.packs);
        self.bytes = SEGMENT_BASE;
        packs.sort_unstable_by_key(|entry| entry.pack);
        packs.dedup_by_key(|entry| entry.pack);
        supersedes.sort_unstable();
        supersedes.dedup();
        let name = FileName::Index(random::name()?);
        let mut bytes = encode_header(&name, self.keyring.repository()).to_vec();
        let plain = Segment { supersedes, packs }.encode();
        bytes.extend_from_slice(&self.keyring.seal(FrameKind::Segment, &plain, &random::bytes::<16>()?)?);
        write_new(self.backend, &name, &bytes)?;
        self.filed.segments += 1;
        self.filed.bytes += bytes.len() as u64;
        Ok(())
    }
}
