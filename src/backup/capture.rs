//! One database to one row: pin, read, cut, store what is new, check, and make sure that it was one state.

use super::databases::{Claim, Fate};
use super::facts;
use super::item::{OldChunks, Trouble, push_chunk};
use super::perform::{Change, Row, all_present, hand_over};
use super::pipeline::{Run, Shared, store_run};
use crate::chunker::WHOLE_FILE_MAX;
use crate::crypto::ChunkSort;
use crate::crypto::hash::FileHash;
use crate::error::{ErrorKind, Result};
use crate::format::entry::{Content, Entry, Extent, Flags, Stat};
use crate::format::snapshot::DatabaseFacts;
use crate::repository::writer::{DeltaPolicy, Lane};
use crate::source::Found;
use crate::sqlite::check;
use crate::sqlite::image::SharedImage;
use crate::sqlite::pin::{How, Pin, Refusal};

/// Tries at a database whose state does not last as long as reading it takes.
const TRIES: usize = 4;
/// Bytes read at a time.
const BUFFER: usize = 2 << 20;
/// New chunks are handed to other workers in runs of about this many bytes.
const RUN_BYTES: usize = 1 << 20;

/// A database as the walk met it.
pub struct Met {
    pub found: Box<Found>,
    pub old: Option<Box<Entry>>,
    /// `None` when a worker came across it: nothing stands beside it.
    pub claim: Option<Claim>,
}

/// What became of it.
pub enum Captured {
    Row(Box<Row>),
    /// Reported.
    Nothing,
    /// Not a database for SQLite; to be stored as the file it is.
    Plain(Met, String),
}

/// Captures one database.
pub fn capture(shared: &Shared<'_>, lane: &mut Lane<'_>, met: Met) -> Result<Captured> {
    let path = met.found.entry.path.clone();
    shared.progress.set_current(&path);
    let link = shared.databases.link(&met.found);
    let mut linked = link.as_ref().map(|cell| cell.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    for attempt in 0..TRIES {
        let pin = match shared.databases.pin(&met.found, met.claim.as_ref(), attempt > 0) {
            Ok(pin) => pin,
            Err(Refusal::Unreadable(why)) => {
                decide(&met, Fate::Plain);
                return Ok(Captured::Plain(met, why));
            }
            Err(Refusal::Failed(e)) if e.kind() == ErrorKind::Cancelled => return Err(e),
            Err(Refusal::Failed(e)) => {
                shared.problem(&path, e.message());
                return Ok(Captured::Nothing);
            }
        };
        decide(&met, Fate::Database);
        if let Some((content, facts)) = linked.as_deref().and_then(Option::as_ref) {
            let facts = facts::unchanged(facts, &path, &pin);
            return finish(shared, met, &pin, content.clone(), facts);
        }
        match read(shared, lane, &met, &pin) {
            Ok((content, facts)) if pin.holds() => {
                if let Some(cell) = linked.as_deref_mut() {
                    *cell = Some((content.clone(), facts.clone()));
                }
                return finish(shared, met, &pin, content, facts);
            }
            // Somebody wrote meanwhile: whatever was read is worth nothing, nor is what went wrong reading it.
            Ok(_) => {}
            Err(Trouble::Source(_)) if !pin.holds() => {}
            Err(Trouble::Source(e)) => {
                shared.problem(&path, e.message());
                return Ok(Captured::Nothing);
            }
            Err(Trouble::Repository(e)) => return Err(e),
            Err(Trouble::Database) => break,
        }
    }
    shared.problem(
        &path,
        "the database was changed or replaced at each of several tries; it is not in this snapshot",
    );
    Ok(Captured::Nothing)
}

fn decide(met: &Met, fate: Fate) {
    if let Some(claim) = &met.claim {
        claim.decide(fate);
    }
}

/// Content and facts: the old ones if the state is the old one.
fn read(
    shared: &Shared<'_>,
    lane: &mut Lane<'_>,
    met: &Met,
    pin: &Pin,
) -> std::result::Result<(Content, DatabaseFacts), Trouble> {
    let path = &met.found.entry.path;
    let old = met.old.as_deref().filter(|old| old.is_file());
    let before = old.and_then(|_| shared.databases.known(path));
    let depth = shared.databases.depth(crate::sqlite::image::Bytes::len(&pin.image));
    let checked = before.filter(|before| facts::is_checked(before, depth));
    if let (Some(old), Some(before)) = (old, checked)
        && facts::is_same(before, pin)
        && all_present(shared, old).map_err(Trouble::Repository)?
    {
        shared.progress.add_bytes(old.content.size);
        return Ok((old.content.clone(), facts::unchanged(before, path, pin)));
    }
    let content = store(shared, lane, &pin.image, old)?;
    if let (Some(old), Some(before)) = (old, checked)
        && old.content.hash == content.hash
        && old.content.size == content.size
        && (content.hash.is_some() || old.content == content)
    {
        let facts = DatabaseFacts {
            page_size: pin.image.page_size,
            pages: pin.image.pages,
            ..facts::unchanged(before, path, pin)
        };
        return Ok((content, facts));
    }
    let stop = shared.progress.stop_flag();
    let findings = check::check(Box::new(pin.image.clone()), depth, stop).map_err(|e| match e.kind() {
        ErrorKind::Cancelled => Trouble::Repository(e),
        _ => Trouble::Source(e),
    })?;
    Ok((content, facts::captured(path, pin, findings, shared.databases.now())))
}

/// The row, and what the user should hear about it.
fn finish(
    shared: &Shared<'_>,
    met: Met,
    pin: &Pin,
    content: Content,
    facts: DatabaseFacts,
) -> Result<Captured> {
    let Met { found, old, .. } = met;
    let Found { mut entry, opener, .. } = *found;
    let path = entry.path.clone();
    match opener.xattrs() {
        Ok(xattrs) => entry.meta.xattrs = xattrs,
        Err(e) => {
            shared.problem(&path, e.message());
            return Ok(Captured::Nothing);
        }
    }
    entry.meta.mtime = pin.changed();
    entry.meta.mode = pin.main.mode & 0o7777;
    entry.content = content;
    if facts.check.result == "failed" {
        entry.flags.set(Flags::UNVERIFIED);
        let first = facts.check.messages.first().map_or("no reason given", String::as_str);
        shared.problem(
            &path,
            &format!(
                "the database is damaged in itself; stored as it is, marked unverified. SQLite says: {first}"
            ),
        );
    } else if facts.check.result == "unknown" && facts.check.depth != "off" {
        let first = facts.check.messages.first().map_or("no reason given", String::as_str);
        shared.warning(&path, &format!("captured exactly, but SQLite could not check it: {first}"));
    }
    if entry.link != 0 && pin.how != How::Log {
        entry.flags.set(Flags::UNVERIFIED);
        shared.warning(
            &path,
            "this database has several names (hard links); a program that uses it by another name keeps its newest \
             changes beside that name, so it is marked unverified",
        );
    }
    if pin.how == How::Copied {
        shared.warning(
            &path,
            "this build of SQLite cannot pin a log, so the database was copied to a temporary file",
        );
    }
    let stat = Stat { inode: pin.main.inode, ctime: pin.main.ctime, racy: true };
    let change = match &old {
        None => Change::New,
        Some(old) if **old == entry => Change::Same,
        Some(_) => Change::Changed,
    };
    shared.databases.note(facts, pin.at);
    shared.progress.files_done.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let before = old.map(|old| old.content.lists).unwrap_or_default();
    Ok(Captured::Row(Box::new(Row { entry, stat, change, before })))
}

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
fn store(
    shared: &Shared<'_>,
    lane: &mut Lane<'_>,
    image: &SharedImage,
    old: Option<&Entry>,
) -> std::result::Result<Content, Trouble> {
    let reader = &shared.writer.reader;
    let old_chunks = old.map(|old| OldChunks::each_of(reader, old)).unwrap_or_default();
    let size = crate::sqlite::image::Bytes::len(image);
    let mut store = Store {
        shared,
        lane,
        old: &old_chunks,
        run: Run { chunks: Vec::new(), policy: DeltaPolicy::DATABASE },
        run_bytes: 0,
        extents: Vec::new(),
        hash: FileHash::new(),
        at: 0,
    };
    let done = match size {
        0 => Ok(()),
        n if n <= WHOLE_FILE_MAX as u64 => store.whole(image, size as usize),
        _ => store.pieces(image, size, old.map_or(0, |old| old.content.size)),
    };
    // Claimed chunks must be stored even if reading then fails: others may rely on them by now.
    let rest = std::mem::replace(&mut store.run, Run { chunks: Vec::new(), policy: DeltaPolicy::DATABASE });
    store_run(store.lane, rest).map_err(Trouble::Repository)?;
    done?;
    let single = matches!(store.extents.as_slice(), [] | [Extent::Chunk { repeat: 1, .. }]);
    let hash = if single { None } else { Some(store.hash.finish()) };
    Ok(Content { size, extents: store.extents, lists: Vec::new(), hash })
}

struct Store<'s, 'w, 'l> {
    shared: &'s Shared<'w>,
    lane: &'s mut Lane<'l>,
    old: &'s OldChunks,
    run: Run,
    run_bytes: usize,
    extents: Vec<Extent>,
    hash: FileHash,
    at: u64,
}

type Stored = std::result::Result<(), Trouble>;

impl Store<'_, '_, '_> {
    fn whole(&mut self, image: &SharedImage, size: usize) -> Stored {
        let mut bytes = vec![0; size];
        image.read_pages(1, &mut bytes).map_err(Trouble::Source)?;
        self.chunk(&bytes, &self.old.all())
    }

    fn pieces(&mut self, image: &SharedImage, size: u64, old_size: u64) -> Stored {
        let page = u64::from(image.page_size);
        let chunker = &self.shared.database_chunker;
        let max = u64::from(chunker.class().max).next_multiple_of(page);
        let room = (BUFFER as u64).max(2 * max).next_multiple_of(page);
        let mut cuts = Cuts::new(self.old, old_size, size);
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

    fn chunk(&mut self, bytes: &[u8], parents: &[crate::id::ChunkId]) -> Stored {
        self.hash.update(bytes);
        let id = self.shared.writer.reader.keyring().chunk_id(ChunkSort::Content, bytes);
        if self.lane.claim(&id).map_err(Trouble::Repository)? {
            self.run_bytes += bytes.len();
            self.run.chunks.push((id, bytes.to_vec(), parents.to_vec()));
        }
        if self.run_bytes >= RUN_BYTES {
            self.run_bytes = 0;
            let run =
                std::mem::replace(&mut self.run, Run { chunks: Vec::new(), policy: DeltaPolicy::DATABASE });
            hand_over(self.shared, self.lane, run).map_err(Trouble::Repository)?;
        }
        push_chunk(&mut self.extents, id, bytes.len() as u32);
        self.shared.progress.add_bytes(bytes.len() as u64);
        self.at += bytes.len() as u64;
        Ok(())
    }
}

/// What to say of a database that is stored as a plain file, because SQLite cannot read it.
pub fn remark_plain(shared: &Shared<'_>, path: &[u8], why: &str) {
    shared.warning(
        path,
        &format!("stored as a plain file, unverified, since SQLite cannot read it as a database: {why}"),
    );
}
