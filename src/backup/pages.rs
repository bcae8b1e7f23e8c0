//! The pages of an image to chunks: cut where the parent was cut, stored against what was there, or against what moved.

use super::item::{OldChunks, Trouble, push_chunk};
use super::pipeline::{Run, Shared, store_run};
use super::read::hand_over;
use super::relocate::Relocation;
use crate::chunker::WHOLE_FILE_MAX;
use crate::crypto::ChunkSort;
use crate::crypto::hash::FileHash;
use crate::error::Result;
use crate::format::entry::{Content, Entry, Extent};
use crate::id::ChunkId;
use crate::repository::writer::{DeltaPolicy, Lane};
use crate::sqlite::image::{Bytes, SharedImage};
use std::sync::Arc;

/// Bytes read at a time.
const BUFFER: usize = 2 << 20;
/// New chunks are handed to other workers in runs of about this many bytes.
const RUN_BYTES: usize = 1 << 20;
/// When more pages than this have changed, in per cent, cuts and bases of the parent are no longer of use.
const MOVED_PERCENT: u64 = 40;
/// Chunks looked at to find out.
const SAMPLES: usize = 48;

/// Where to cut: where the parent was cut, as far as that goes, so that a changed page is one changed chunk with one base.
struct Cuts {
    ends: Vec<u64>,
    next: usize,
    len: u64,
}

impl Cuts {
    fn new(old: &OldChunks, old_len: u64, len: u64) -> Self {
        // The end of the old image is a cut only if it is one of the new image, too.
        let ends = old.ends().filter(|end| *end < len && (*end != old_len || old_len == len)).collect();
        Cuts { ends, next: 0, len }
    }

    /// The length of the inherited chunk that begins at `at`.
    fn inherited(&mut self, at: u64, page: u64, max: u64) -> Option<usize> {
        while self.ends.get(self.next).is_some_and(|end| *end <= at) {
            self.next += 1;
        }
        let begins = at == 0 || self.next > 0 && self.ends[self.next - 1] == at;
        let end = *self.ends.get(self.next)?;
        let len = end - at;
        (begins && len.is_multiple_of(page) && len <= max && end <= self.len).then_some(len as usize)
    }
}

/// Stores what is new of an image.
pub fn store(
    shared: &Shared<'_>,
    lane: &mut Lane<'_>,
    image: &SharedImage,
    old: Option<&Entry>,
) -> Tried<Content> {
    let reader = &shared.writer.reader;
    let old_chunks = old.map(|old| OldChunks::each_of(reader, old)).unwrap_or_default();
    let size = image.len();
    let moved = size > WHOLE_FILE_MAX as u64
        && old_chunks.ranges().len() > 1
        && moved_percent(shared, image, &old_chunks).map_err(Trouble::Source)? > MOVED_PERCENT;
    let relocation = match moved {
        true => {
            let scratch = shared.databases.scratch();
            let gathered = Relocation::gather(shared.writer, &old_chunks, scratch, shared.progress);
            Some(Arc::new(gathered.map_err(Trouble::Repository)?))
        }
        false => None,
    };
    let mut store = Store {
        shared,
        lane,
        image,
        old: &old_chunks,
        run: Run { chunks: Vec::new(), policy: DeltaPolicy::DATABASE, relocation },
        run_bytes: 0,
        extents: Vec::new(),
        hash: Hashing { hash: FileHash::new(), at: 0, put_off: true },
        parent_is_whole: shared.writer.parent_is_whole(),
        at: 0,
    };
    let done = match size {
        0 => Ok(()),
        n if n <= WHOLE_FILE_MAX as u64 => store.whole(size as usize),
        _ => store.pieces(size, old.map_or(0, |old| old.content.size)),
    };
    // Claimed chunks must be stored even if reading then fails: others may rely on them by now.
    let rest = store.run.take();
    store_run(store.lane, rest).map_err(Trouble::Repository)?;
    done?;
    let hash = store.hash_of_all(old, size)?;
    Ok(Content { size, extents: store.extents, lists: Vec::new(), hash })
}

/// The hash of the whole image, which is put off as long as every chunk is the parent's: if the last one is, too, the
/// parent's hash is that of this image, since a chunk's name stands for its bytes. Otherwise what was skipped is read again.
struct Hashing {
    hash: FileHash,
    /// Bytes that went into it.
    at: u64,
    put_off: bool,
}

impl Hashing {
    /// Takes all bytes before `end` that are still missing.
    fn catch_up(&mut self, shared: &Shared<'_>, image: &SharedImage, end: u64) -> Stored {
        self.put_off = false;
        let page = u64::from(image.page_size);
        let mut buffer = vec![0; BUFFER.min((end - self.at) as usize)];
        while self.at < end {
            shared.progress.keep_going().map_err(Trouble::Repository)?;
            let len = (end - self.at).min(BUFFER as u64) as usize;
            let first = (self.at / page) as u32 + 1;
            image.read_pages(first, &mut buffer[..len]).map_err(Trouble::Source)?;
            self.hash.update(&buffer[..len]);
            self.at += len as u64;
        }
        Ok(())
    }
}

struct Store<'s, 'w, 'l> {
    shared: &'s Shared<'w>,
    lane: &'s mut Lane<'l>,
    image: &'s SharedImage,
    old: &'s OldChunks,
    run: Run,
    run_bytes: usize,
    extents: Vec<Extent>,
    hash: Hashing,
    /// All that the parent's chunks need is there, so that nothing need be looked up.
    parent_is_whole: bool,
    at: u64,
}

type Tried<T> = std::result::Result<T, Trouble>;
type Stored = Tried<()>;

impl Store<'_, '_, '_> {
    fn whole(&mut self, size: usize) -> Stored {
        let mut bytes = vec![0; size];
        self.image.read_pages(1, &mut bytes).map_err(Trouble::Source)?;
        self.chunk(&bytes, &self.old.all())
    }

    fn pieces(&mut self, size: u64, old_size: u64) -> Stored {
        let image = self.image;
        let page = u64::from(image.page_size);
        let chunker = &self.shared.database_chunker;
        let max = u64::from(chunker.class().max).next_multiple_of(page);
        let room = (BUFFER as u64).max(2 * max).next_multiple_of(page);
        let mut cuts = match self.run.relocation {
            Some(_) => Cuts::new(&OldChunks::default(), 0, size),
            None => Cuts::new(self.old, old_size, size),
        };
        let (mut buffer, mut have, mut fetched) = (vec![0; room as usize], 0usize, 0u64);
        while self.at < size {
            self.shared.progress.keep_going().map_err(Trouble::Repository)?;
            let more = (room - have as u64).min(size - fetched) / page * page;
            let first = (fetched / page) as u32 + 1;
            image.read_pages(first, &mut buffer[have..have + more as usize]).map_err(Trouble::Source)?;
            (have, fetched) = (have + more as usize, fetched + more);
            let mut done = 0;
            while done < have && (fetched == size || (have - done) as u64 >= max) {
                let rest = &buffer[done..have];
                let len = match cuts.inherited(self.at, page, max) {
                    Some(len) => len,
                    None => chunker.cut_at_page(rest, page as usize),
                };
                let parents = self.old.overlapping(self.at, self.at + len as u64);
                self.chunk(&rest[..len], &parents)?;
                done += len;
            }
            buffer.copy_within(done..have, 0);
            have -= done;
        }
        Ok(())
    }

    fn chunk(&mut self, bytes: &[u8], parents: &[ChunkId]) -> Stored {
        let end = self.at + bytes.len() as u64;
        let id = self.shared.writer.reader.keyring().chunk_id(ChunkSort::Content, bytes);
        let as_before = self.old.exactly(self.at, end) == Some(id);
        if !(as_before && self.hash.put_off) {
            self.hash.catch_up(self.shared, self.image, self.at)?;
            self.hash.hash.update(bytes);
            self.hash.at = end;
        }
        let known = as_before && self.parent_is_whole;
        if !known && self.lane.claim(&id).map_err(Trouble::Repository)? {
            self.run_bytes += bytes.len();
            self.run.chunks.push((id, bytes.to_vec(), parents.to_vec()));
        }
        if self.run_bytes >= RUN_BYTES {
            self.run_bytes = 0;
            let run = self.run.take();
            hand_over(self.shared, self.lane, run).map_err(Trouble::Repository)?;
        }
        push_chunk(&mut self.extents, id, bytes.len() as u32);
        self.shared.progress.add_bytes(bytes.len() as u64);
        self.at = end;
        Ok(())
    }

    fn hash_of_all(&mut self, old: Option<&Entry>, size: u64) -> Tried<Option<[u8; 32]>> {
        if matches!(self.extents.as_slice(), [] | [Extent::Chunk { repeat: 1, .. }]) {
            return Ok(None);
        }
        let same = self.hash.put_off && old.is_some_and(|old| old.content.size == size);
        if let (true, Some(hash)) = (same, old.and_then(|old| old.content.hash)) {
            return Ok(Some(hash));
        }
        self.hash.catch_up(self.shared, self.image, size)?;
        Ok(Some(self.hash.hash.finish()))
    }
}

/// How many of the pages have changed where they stand, in per cent, judged by some chunks of the old image.
fn moved_percent(shared: &Shared<'_>, image: &SharedImage, old: &OldChunks) -> Result<u64> {
    let reader = &shared.writer.reader;
    let page = u64::from(image.page_size);
    let all = old.ranges();
    let (mut changed, mut seen) = (0u64, 0u64);
    let step = (all.len() / SAMPLES).max(1);
    for (start, end, id) in all.iter().step_by(step) {
        if *end > image.len() || !start.is_multiple_of(page) || !(end - start).is_multiple_of(page) {
            continue;
        }
        let mut now = vec![0; (end - start) as usize];
        image.read_pages((start / page) as u32 + 1, &mut now)?;
        seen += (end - start) / page;
        if reader.keyring().chunk_id(ChunkSort::Content, &now) == *id {
            continue;
        }
        // What cannot be read is no use as a base either.
        changed += match reader.get(ChunkSort::Content, id) {
            Ok(then) if then.len() == now.len() => {
                let pages = then.chunks_exact(page as usize).zip(now.chunks_exact(page as usize));
                pages.filter(|(a, b)| a != b).count() as u64
            }
            _ => (end - start) / page,
        };
    }
    Ok((changed * 100).checked_div(seen).unwrap_or(100))
}
