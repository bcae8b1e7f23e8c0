//! One task of a batch to one row of the manifest.

use super::capture::{Captured, Met, capture, remark_plain};
use super::databases::{Claim, Fate, Slot, await_fate};
use super::item::{FileReader, OldChunks, ReadContent, Trouble};
use super::pipeline::{Run, Shared, store_run};
use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::{Entry, Extent, Flags, Kind, Stat, check_entry};
use crate::id::ChunkId;
use crate::os::{dir, xattr};
use crate::repository::writer::{DeltaPolicy, Lane};
use crate::source::Found;
use crossbeam_channel::TrySendError;
use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;

/// Chunks of a large file are handed to other workers in runs of about this many bytes.
const RUN_BYTES: usize = 1 << 20;
/// Files of at least this many bytes are worth handing over.
const SHARED_FILE_BYTES: u64 = 8 << 20;
/// Tries to read a file that keeps changing.
const TRIES: usize = 3;

/// What became of one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    New,
    Changed,
    Same,
}

/// A finished line of the manifest.
pub struct Row {
    pub entry: Entry,
    pub stat: Stat,
    pub change: Change,
    /// The chunks that held the list of pieces of the version before.
    pub before: Vec<ChunkId>,
}

/// Something found that must become a row.
pub enum Task {
    /// The parent's entry serves again, if all its chunks are still there.
    Reuse {
        old: Box<Entry>,
        found: Box<Found>,
    },
    /// Must be read; `sampled` says that it looked unchanged, `encrypted` that only a key tells what it is.
    Read {
        found: Box<Found>,
        old: Option<Box<Entry>>,
        sampled: bool,
        encrypted: bool,
    },
    Database {
        found: Box<Found>,
        old: Option<Box<Entry>>,
        claim: Claim,
    },
    /// Belongs to the database of `slot`; if that becomes a plain file, so does this.
    Companion {
        slot: Arc<Slot>,
        otherwise: Box<Task>,
    },
}

/// One task to one row; nothing when the entry cannot be read, which is reported.
pub fn perform(
    shared: &Shared<'_>,
    lane: &mut Lane<'_>,
    buffer: &mut Vec<u8>,
    task: Task,
) -> Result<Option<Row>> {
    match task {
        Task::Reuse { old, found } => {
            if all_present(shared, &old)? {
                if old.is_file() {
                    shared.progress.add_file(old.content.size);
                }
                let row = Row { entry: *old, stat: found.stat, change: Change::Same, before: Vec::new() };
                return Ok(Some(row));
            }
            // Something it needs is gone from the repository: read it again, which heals.
            read(shared, lane, buffer, found, Some(old), How::default())
        }
        Task::Read { found, old, sampled, encrypted } => {
            read(shared, lane, buffer, found, old, How { sampled, unverified: encrypted, plain: false })
        }
        Task::Database { found, old, claim } => {
            database(shared, lane, buffer, Met { found, old, claim: Some(claim) })
        }
        Task::Companion { slot, otherwise } => {
            let mut help = || match shared.runs.1.try_recv() {
                Ok(run) => store_run(lane, run),
                Err(_) => Ok(()),
            };
            match await_fate(shared, &slot, &mut help)? {
                Fate::Database => Ok(None),
                Fate::Plain => perform(shared, lane, buffer, *otherwise),
            }
        }
    }
}

/// How to read a file.
#[derive(Clone, Copy, Default)]
struct How {
    sampled: bool,
    /// To be marked so, whatever it holds.
    unverified: bool,
    /// As a file, even if it begins like a database.
    plain: bool,
}

fn database(shared: &Shared<'_>, lane: &mut Lane<'_>, buffer: &mut Vec<u8>, met: Met) -> Result<Option<Row>> {
    match capture(shared, lane, met)? {
        Captured::Row(row) => Ok(checked(shared, *row)),
        Captured::Nothing => Ok(None),
        Captured::Plain(met, why, damaged) => {
            let path = met.found.entry.path.clone();
            let how = How { plain: true, ..How::default() };
            let row = read(shared, lane, buffer, met.found, met.old, how)?;
            if row.as_ref().is_some_and(|row| row.entry.flags.has(Flags::UNVERIFIED)) {
                remark_plain(shared, &path, &why, damaged);
            }
            Ok(row)
        }
    }
}

/// Readers enforce limits; what they would refuse must not be written.
fn checked(shared: &Shared<'_>, row: Row) -> Option<Row> {
    match check_entry(&row.entry) {
        Ok(()) => Some(row),
        Err(why) => {
            shared.problem(&row.entry.path, why);
            None
        }
    }
}

fn read(
    shared: &Shared<'_>,
    lane: &mut Lane<'_>,
    buffer: &mut Vec<u8>,
    found: Box<Found>,
    old: Option<Box<Entry>>,
    how: How,
) -> Result<Option<Row>> {
    let (mut entry, stat) = if found.entry.is_file() {
        shared.progress.set_current(&found.entry.path);
        match read_file(shared, lane, buffer, (&found, how), old.as_deref()) {
            Ok(read) => read,
            Err(Trouble::Source(e)) => {
                shared.problem(&found.entry.path, e.message());
                return Ok(None);
            }
            Err(Trouble::Repository(e)) => return Err(e),
            Err(Trouble::Database) => return database(shared, lane, buffer, Met { found, old, claim: None }),
        }
    } else {
        match read_other(*found) {
            Ok(read) => read,
            Err((path, e)) => {
                shared.problem(&path, e.message());
                return Ok(None);
            }
        }
    };
    if how.unverified {
        entry.flags.set(Flags::UNVERIFIED);
    }
    let change = match &old {
        None => Change::New,
        Some(old) if **old == entry => Change::Same,
        Some(_) => Change::Changed,
    };
    let before = old.map(|old| old.content.lists).unwrap_or_default();
    let row = checked(shared, Row { entry, stat, change, before });
    if let Some(row) = &row {
        remark(shared, &row.entry, how, change);
    }
    Ok(row)
}

fn remark(shared: &Shared<'_>, entry: &Entry, how: How, change: Change) {
    if how.sampled && change == Change::Changed {
        shared.warning(
            &entry.path,
            "its content differs from the last backup although size and times do not: a program that sets times \
             back, or a failing disk",
        );
    }
    if entry.flags.has(Flags::CHANGED) {
        shared.problem(
            &entry.path,
            "it kept changing while it was read; stored as last read, marked as changed",
        );
    }
    if how.unverified {
        shared.warning(
            &entry.path,
            "to all appearances an encrypted database, stored as a plain file, unverified: if a program was writing to it, \
             the copy may be broken; back it up while it is closed",
        );
    } else if entry.flags.has(Flags::UNVERIFIED) && !how.plain {
        shared.warning(
            &entry.path,
            "a SQLite database stored as a plain file, unverified: if a program was writing to it, the copy may be \
             broken",
        );
    }
}

/// Whether everything the old entry needs counts as present.
pub fn all_present(shared: &Shared<'_>, old: &Entry) -> Result<bool> {
    let index = shared.writer.index();
    for list in &old.content.lists {
        if !index.present(list)? {
            return Ok(false);
        }
    }
    let listed;
    let extents = match old.content.lists.is_empty() {
        true => &old.content.extents,
        false => {
            let Ok(extents) = crate::manifest::content::extents(&shared.writer.reader, &old.content) else {
                return Ok(false);
            };
            listed = extents;
            &listed
        }
    };
    for extent in extents {
        if let Extent::Chunk { id, .. } = extent
            && !index.present(id)?
        {
            return Ok(false);
        }
    }
    Ok(true)
}

type Failed = (Vec<u8>, Error);

/// Directories, links, special files: only their attributes are still missing.
fn read_other(found: Found) -> std::result::Result<(Entry, Stat), Failed> {
    let Found { mut entry, stat, opener, .. } = found;
    match opener.xattrs() {
        Ok(xattrs) => entry.meta.xattrs = xattrs,
        // Attributes of links and sockets cannot always be asked for; there are hardly ever any.
        Err(_) if !matches!(entry.kind, Kind::Directory) => {}
        Err(e) if e.kind() == ErrorKind::NotFound => return Err((entry.path, e)),
        Err(e) => return Err((entry.path, e)),
    }
    Ok((entry, stat))
}

fn source_io(what: &str) -> impl FnOnce(std::io::Error) -> Trouble + '_ {
    move |e| Trouble::Source(Error::io(what, &e))
}

fn read_file(
    shared: &Shared<'_>,
    lane: &mut Lane<'_>,
    buffer: &mut Vec<u8>,
    (found, how): (&Found, How),
    old: Option<&Entry>,
) -> std::result::Result<(Entry, Stat), Trouble> {
    let stop_at_database = !how.plain && shared.databases.wants(&found.entry.path);
    let old_chunks = old.filter(|o| o.is_file()).map(|o| OldChunks::of(&shared.writer.reader, o));
    let old_chunks = old_chunks.unwrap_or_default();
    let (mut entry, mut stat) = (found.entry.clone(), found.stat);
    for attempt in 1..=TRIES {
        let mut file = found.opener.open_file().map_err(Trouble::Source)?;
        let before = match attempt {
            // The walk looked a moment ago; a change since then shows at the end like any other.
            1 => None,
            _ => Some(dir::status_of(&file).map_err(source_io("cannot look at it"))?),
        };
        let size = before.as_ref().map_or(found.size, |s| s.size);
        let blocks = before.as_ref().map_or(found.blocks, |s| s.blocks);
        let sparse = size > 0 && blocks.saturating_mul(512) < size && size > (128 << 10);
        let read = read_once(
            shared,
            lane,
            (&mut *buffer, stop_at_database),
            &mut file,
            (size, sparse),
            &old_chunks,
        )?;
        let after = dir::status_of(&file).map_err(source_io("cannot look at it again"))?;
        let (size, mtime, ctime) = match &before {
            None => (found.size, found.entry.meta.mtime, found.stat.ctime),
            Some(s) => (s.size, s.mtime, s.ctime),
        };
        let steady =
            (after.size, after.mtime, after.ctime) == (size, mtime, ctime) && after.inode == found.stat.inode;
        // Files of /proc and /sys state a size that is not theirs: what was read is what there is, but it is read
        // again every time.
        let honest = read.content.size == after.size;
        if !steady && attempt < TRIES {
            continue;
        }
        entry.meta.mtime = after.mtime;
        entry.meta.mode = after.mode & 0o7777;
        entry.meta.xattrs = xattr::read(&xattr::Place::Open(file.as_fd()))
            .map_err(source_io("cannot read the extended attributes"))?;
        if read.is_sqlite {
            entry.flags.set(Flags::UNVERIFIED);
        }
        if !steady {
            entry.flags.set(Flags::CHANGED);
        }
        // What was not as the walk saw it may change again within the same tick of the clock.
        stat.racy = stat.racy || !steady || !honest || attempt > 1;
        stat.ctime = after.ctime;
        entry.content = read.content;
        break;
    }
    shared.progress.files_done.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    Ok((entry, stat))
}

fn read_once(
    shared: &Shared<'_>,
    lane: &mut Lane<'_>,
    (buffer, stop_at_database): (&mut Vec<u8>, bool),
    file: &mut File,
    (size, sparse): (u64, bool),
    old: &OldChunks,
) -> std::result::Result<ReadContent, Trouble> {
    let mut reader = FileReader {
        keyring: shared.writer.reader.keyring(),
        chunker: &shared.chunker,
        progress: shared.progress,
        stop_at_database,
        buffer: std::mem::take(buffer),
    };
    let result = if size < SHARED_FILE_BYTES {
        reader.read(file, size, sparse, old, &mut |id, plain, parents| {
            if lane.claim(&id)? { lane.store(id, plain, parents, DeltaPolicy::CONTENT) } else { Ok(()) }
        })
    } else {
        read_shared(shared, lane, &mut reader, file, (size, sparse), old)
    };
    *buffer = reader.buffer;
    if buffer.capacity() > 4 << 20 {
        *buffer = Vec::new();
    }
    result
}

/// Reads and cuts here, and lets whoever is free compress.
fn read_shared(
    shared: &Shared<'_>,
    lane: &mut Lane<'_>,
    reader: &mut FileReader<'_>,
    file: &mut File,
    (size, sparse): (u64, bool),
    old: &OldChunks,
) -> std::result::Result<ReadContent, Trouble> {
    let (mut run, mut run_bytes) = (Run::content(), 0);
    let read = reader.read(file, size, sparse, old, &mut |id: ChunkId, plain, parents| {
        if lane.claim(&id)? {
            run_bytes += plain.len();
            run.chunks.push((id, plain.to_vec(), parents.to_vec()));
        }
        if run_bytes >= RUN_BYTES {
            run_bytes = 0;
            hand_over(shared, lane, std::mem::replace(&mut run, Run::content()))?;
        }
        Ok(())
    });
    // Claimed chunks must be stored even when the file then fails: others may rely on them by now.
    store_run(lane, run).map_err(Trouble::Repository)?;
    read
}

pub fn hand_over(shared: &Shared<'_>, lane: &mut Lane<'_>, run: Run) -> Result<()> {
    match shared.runs.0.try_send(run) {
        Ok(()) => Ok(()),
        // Everybody is busy: this worker compresses, which also keeps memory bounded.
        Err(TrySendError::Full(run) | TrySendError::Disconnected(run)) => store_run(lane, run),
    }
}
