//! The pages of an image to chunks: cut where the parent was cut, stored against what was there, or against what moved.

use super::item::{OldChunks, Trouble, push_chunk};
use super::pagetable::{Changes, PART_MAX, Table};
use super::perform::hand_over;
use super::pipeline::{Run, Shared, store_run};
use super::relocate::Relocation;
use crate::chunker::WHOLE_FILE_MAX;
use crate::crypto::ChunkSort;
use crate::error::{Error, Result};
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
/// One in so many chunks that have not changed, by their pages' hashes, is compared with its name.
const LOOK_EVERY: usize = 64;

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

/// A stored image.
pub struct Stored {
    pub content: Content,
    /// The hashes of its pages, if they are not kept already.
    pub table: Option<Table>,
}

type Tried<T> = std::result::Result<T, Trouble>;

/// Stores what is new of an image. `before` is what the parent has at its path, and the hashes of its pages.
pub fn store(
    shared: &Shared<'_>,
    lane: &mut Lane<'_>,
    image: &SharedImage,
    old: Option<&Entry>,
    before: Option<Table>,
) -> Tried<Stored> {
    let reader = &shared.writer.reader;
    let old_chunks = old.map(|old| OldChunks::each_of(reader, old)).unwrap_or_default();
    let large = image.len() > WHOLE_FILE_MAX as u64;
    let scanned = match before.filter(|_| large) {
        Some(before) => scan(shared, image, &before)?,
        None => None,
    };
    if let Some(stored) = store_by(shared, lane, image, (old, &old_chunks), scanned)? {
        return Ok(stored);
    }
    // The table was wrong about a chunk that was looked at: nothing it says is believed.
    match store_by(shared, lane, image, (old, &old_chunks), None)? {
        Some(stored) => Ok(stored),
        None => Err(Trouble::Source(Error::corrupt("the database's pages do not stay what they are"))),
    }
}

/// Which pages are not what they were.
struct Scanned {
    table: Table,
    changes: Changes,
}

/// Reads the whole image once.
fn scan(shared: &Shared<'_>, image: &SharedImage, before: &Table) -> Tried<Option<Scanned>> {
    let Some((mut table, mut changes)) = before.successor(image.page_size, image.pages) else {
        return Ok(None);
    };
    let mut buffer = vec![0; BUFFER];
    let mut at = 0;
    while at < image.len() {
        shared.progress.keep_going().map_err(Trouble::Repository)?;
        let piece = &mut buffer[..(image.len() - at).min(BUFFER as u64) as usize];
        image.read_pages((at / u64::from(image.page_size)) as u32 + 1, piece).map_err(Trouble::Source)?;
        table.take(piece, Some((before, &mut changes)));
        at += piece.len() as u64;
    }
    Ok(Some(Scanned { table, changes }))
}

/// `None` when the scan turned out to be wrong.
fn store_by(
    shared: &Shared<'_>,
    lane: &mut Lane<'_>,
    image: &SharedImage,
    (old, old_chunks): (Option<&Entry>, &OldChunks),
    scanned: Option<Scanned>,
) -> Tried<Option<Stored>> {
    let size = image.len();
    let (mut scan, changes) = scanned.map(|s| (s.table, s.changes)).unzip();
    let policy = DeltaPolicy::DATABASE;
    let relocation = relocation(shared, image, old_chunks, changes.as_ref())?;
    let feed = match (&scan, size > WHOLE_FILE_MAX as u64) {
        (None, true) => {
            let table = Table::new(image.page_size, image.pages).map_err(Trouble::Repository)?;
            Some(Feed { table, pending: Vec::new() })
        }
        _ => None,
    };
    let mut store = Store {
        shared,
        lane,
        image,
        old: old_chunks,
        run: Run { chunks: Vec::new(), policy, relocation },
        run_bytes: 0,
        extents: Vec::new(),
        feed,
        window: (Vec::new(), 0),
        at: 0,
    };
    let done = match size {
        0 => Ok(true),
        n if n <= WHOLE_FILE_MAX as u64 => store.whole(size as usize).map(|()| true),
        _ => store.pieces(old.map_or(0, |old| old.content.size), changes.as_ref()),
    };
    // Claimed chunks must be stored even if reading then fails: others may rely on them by now.
    let rest = store.run.take();
    store_run(store.lane, rest).map_err(Trouble::Repository)?;
    if !done? {
        return Ok(None);
    }
    let (extents, feed) = (store.extents, store.feed);
    if let Some(feed) = feed {
        scan = Some(feed.finish());
    }
    let single = matches!(extents.as_slice(), [] | [Extent::Chunk { repeat: 1, .. }]);
    let hash = scan.as_ref().and_then(Table::hash).filter(|_| !single);
    if !single && hash.is_none() {
        return Err(Trouble::Source(Error::corrupt("the database's hash could not be computed")));
    }
    let content = Content { size, extents, lists: Vec::new(), hash };
    let fresh = changes.is_none_or(|changes| changes.changed > 0);
    Ok(Some(Stored { content, table: scan.filter(|_| hash.is_some() && fresh) }))
}

/// Where bases are to be looked for when most pages are not what stood at their place.
fn relocation(
    shared: &Shared<'_>,
    image: &SharedImage,
    old: &OldChunks,
    changes: Option<&Changes>,
) -> Tried<Option<Arc<Relocation>>> {
    if image.len() <= WHOLE_FILE_MAX as u64 || old.ranges().len() < 2 {
        return Ok(None);
    }
    let percent = match changes {
        Some(changes) => changes.percent(image.len()),
        None => moved_percent(shared, image, old).map_err(Trouble::Source)?,
    };
    if percent <= MOVED_PERCENT {
        return Ok(None);
    }
    let gathered = Relocation::gather(shared.writer, old, shared.databases.scratch(), shared.progress);
    Ok(Some(Arc::new(gathered.map_err(Trouble::Repository)?)))
}

/// Gathers the hashes of pages from chunks, which end anywhere.
struct Feed {
    table: Table,
    pending: Vec<u8>,
}

impl Feed {
    fn take(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
        let whole = self.pending.len() / PART_MAX as usize * PART_MAX as usize;
        if whole > 0 {
            self.table.take(&self.pending[..whole], None);
            self.pending.drain(..whole);
        }
    }

    fn finish(mut self) -> Table {
        if !self.pending.is_empty() {
            self.table.take(&self.pending, None);
        }
        self.table
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
    /// `None` where the hashes are known from a scan.
    feed: Option<Feed>,
    /// Bytes of the image at hand, and where they stand in it.
    window: (Vec<u8>, u64),
    at: u64,
}

impl Store<'_, '_, '_> {
    fn whole(&mut self, size: usize) -> Tried<()> {
        let mut bytes = vec![0; size];
        self.image.read_pages(1, &mut bytes).map_err(Trouble::Source)?;
        self.chunk(&bytes, &self.old.all())
    }

    /// False when `changes` called something unchanged that is not.
    fn pieces(&mut self, old_size: u64, changes: Option<&Changes>) -> Tried<bool> {
        let (size, page) = (self.image.len(), u64::from(self.image.page_size));
        let chunker = &self.shared.database_chunker;
        let max = u64::from(chunker.class().max).next_multiple_of(page);
        let mut cuts = match self.run.relocation {
            Some(_) => Cuts::new(&OldChunks::default(), 0, size),
            None => Cuts::new(self.old, old_size, size),
        };
        let mut spared = usize::from(self.shared.writer.session.0[0]);
        while self.at < size {
            self.shared.progress.keep_going().map_err(Trouble::Repository)?;
            let at = self.at;
            let inherited = cuts.inherited(at, page, max);
            let known = inherited.and_then(|len| {
                let spare = changes?.spare(at, at + len as u64);
                self.old.exactly(at, at + len as u64).filter(|_| spare)
            });
            if let (Some(len), Some(id)) = (inherited, known)
                && self.shared.writer.known(&id).map_err(Trouble::Repository)?
            {
                spared += 1;
                if spared.is_multiple_of(LOOK_EVERY) && self.name_of(at, len)? != id {
                    return Ok(false);
                }
                self.add(id, len);
                continue;
            }
            // Ahead where everything is read; only what is needed where little is.
            let ahead = if changes.is_some() && inherited.is_some() { 0 } else { BUFFER as u64 };
            let need = inherited.map_or(max, |len| len as u64).min(size - at);
            self.fetch(at, need, ahead)?;
            let window = std::mem::take(&mut self.window);
            let bytes = &window.0[(at - window.1) as usize..];
            let len = inherited.unwrap_or_else(|| chunker.cut_at_page(bytes, page as usize));
            let parents = self.old.overlapping(at, at + len as u64);
            let done = self.chunk(&bytes[..len], &parents);
            self.window = window;
            done?;
        }
        Ok(true)
    }

    /// Makes `need` bytes from `at` on stand in the window.
    fn fetch(&mut self, at: u64, need: u64, ahead: u64) -> Tried<()> {
        let (bytes, start) = &mut self.window;
        if at >= *start && at + need <= *start + bytes.len() as u64 {
            return Ok(());
        }
        let page = u64::from(self.image.page_size);
        let len = need.max(ahead).min(self.image.len() - at);
        bytes.resize(len as usize, 0);
        *start = at;
        self.image.read_pages((at / page) as u32 + 1, bytes).map_err(Trouble::Source)
    }

    fn name_of(&mut self, at: u64, len: usize) -> Tried<ChunkId> {
        self.fetch(at, len as u64, 0)?;
        let from = (at - self.window.1) as usize;
        let bytes = &self.window.0[from..from + len];
        Ok(self.shared.writer.reader.keyring().chunk_id(ChunkSort::Content, bytes))
    }

    fn chunk(&mut self, bytes: &[u8], parents: &[ChunkId]) -> Tried<()> {
        if let Some(feed) = &mut self.feed {
            feed.take(bytes);
        }
        let id = self.shared.writer.reader.keyring().chunk_id(ChunkSort::Content, bytes);
        if self.lane.claim(&id).map_err(Trouble::Repository)? {
            self.run_bytes += bytes.len();
            self.run.chunks.push((id, bytes.to_vec(), parents.to_vec()));
        }
        if self.run_bytes >= RUN_BYTES {
            self.run_bytes = 0;
            let run = self.run.take();
            hand_over(self.shared, self.lane, run).map_err(Trouble::Repository)?;
        }
        self.add(id, bytes.len());
        Ok(())
    }

    fn add(&mut self, id: ChunkId, len: usize) {
        push_chunk(&mut self.extents, id, len as u32);
        self.shared.progress.add_bytes(len as u64);
        self.at += len as u64;
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
