//! One task of a batch to one row of the manifest.

use super::item::{FileReader, OldChunks, ReadContent, Trouble};
use super::pipeline::{Run, Shared, store_run};
use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::{Entry, Extent, Flags, Kind, Stat, check_entry};
use crate::id::ChunkId;
use crate::os::dir::{self, Status};
use crate::os::xattr;
use crate::progress::Progress;
use crate::repository::writer::{DeltaPolicy, Lane};
use crate::source::Found;
use crate::source::listed::{Listed, Looker};
use crossbeam_channel::TrySendError;
use std::fs::File;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

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
}

/// Something found that must become a row.
pub enum Task {
    /// The parent's entry serves again, if all its chunks are still there.
    Reuse { old: Box<Entry>, found: Box<Found> },
    /// Must be read; `sampled` says that it looked unchanged.
    Read { found: Box<Found>, old: Option<Box<Entry>>, sampled: bool },
    /// Files that the parent does not have, not yet looked at.
    New(Listed),
}

/// What a worker keeps from one task to the next.
pub struct Hands<'w> {
    pub lane: Lane<'w>,
    pub looker: Looker,
    pub buffer: Vec<u8>,
    /// The device of the last file, and whether short reads end a file there.
    device: Option<(u64, bool)>,
    /// Files done and not yet counted for others to see.
    files: u64,
}

impl<'w> Hands<'w> {
    pub fn new(lane: Lane<'w>, looker: Looker) -> Self {
        Hands { lane, looker, buffer: Vec::new(), device: None, files: 0 }
    }

    /// Lets others see what was done since the last time; seldom, because they all count in one place.
    pub fn show(&mut self, progress: &Progress, last: Option<&Row>) {
        if let Some(row) = last {
            progress.set_current(&row.entry.path);
        }
        progress.files_done.fetch_add(std::mem::take(&mut self.files), Ordering::Relaxed);
    }

    fn short_read_is_end(&mut self, file: &File, status: &Status) -> bool {
        match self.device {
            Some((dev, ends)) if dev == status.dev => ends,
            _ => {
                let ends = dir::short_read_is_end(file);
                self.device = Some((status.dev, ends));
                ends
            }
        }
    }
}

/// One task to its rows; nothing for an entry that cannot be read, which is reported.
pub fn perform(shared: &Shared<'_>, hands: &mut Hands<'_>, task: Task, rows: &mut Vec<Row>) -> Result<()> {
    match task {
        Task::New(listed) => {
            for number in 0..listed.len() {
                shared.progress.keep_going()?;
                rows.extend(perform_new(shared, hands, &listed, number)?);
            }
        }
        task => rows.extend(perform_found(shared, hands, task)?),
    }
    Ok(())
}

fn perform_found(shared: &Shared<'_>, hands: &mut Hands<'_>, task: Task) -> Result<Option<Row>> {
    let (mut found, old, sampled) = match task {
        Task::Reuse { old, found } => {
            if all_present(shared, &old)? {
                if old.is_file() {
                    shared.progress.add_file(old.content.size);
                }
                return Ok(Some(Row { entry: *old, stat: found.stat, change: Change::Same }));
            }
            // Something it needs is gone from the repository: read it again, which heals.
            (found, Some(old), false)
        }
        Task::Read { found, old, sampled } => (found, old, sampled),
        Task::New(_) => return Ok(None),
    };
    if found.entry.is_file() {
        let Found { entry, stat, size, opener, .. } = found.as_mut();
        let read = opener.open_and_look().map_err(Trouble::Source).and_then(|opened| {
            let subject = Subject { entry, stat, size: *size, old: old.as_deref() };
            read_file(shared, hands, subject, opened, &|| opener.open_and_look())
        });
        if !told(shared, &found.entry.path, read)? {
            return Ok(None);
        }
    } else if let Err(e) = read_other(&mut found) {
        shared.problem(&found.entry.path, e.message());
        return Ok(None);
    }
    finished(shared, found.entry, found.stat, old.as_deref(), sampled)
}

/// A file that nobody has looked at: what was opened says what it is.
fn perform_new(
    shared: &Shared<'_>,
    hands: &mut Hands<'_>,
    listed: &Listed,
    number: usize,
) -> Result<Option<Row>> {
    let opened = match listed.open(number) {
        Ok(opened) => opened,
        Err(e) if e.kind() == ErrorKind::NotFound => {
            shared.vanished.fetch_add(1, Ordering::Relaxed);
            return Ok(None);
        }
        Err(e) => {
            shared.problem(&listed.path(number), e.message());
            return Ok(None);
        }
    };
    let (mut entry, mut stat) = hands.looker.seen(listed.path(number), Kind::File, &opened.1);
    let subject = Subject { entry: &mut entry, stat: &mut stat, size: opened.1.size, old: None };
    let read = read_file(shared, hands, subject, opened, &|| listed.open(number));
    if !told(shared, &entry.path, read)? {
        return Ok(None);
    }
    finished(shared, entry, stat, None, false)
}

/// Whether it was read; reports what concerns only this file.
fn told(shared: &Shared<'_>, path: &[u8], read: std::result::Result<(), Trouble>) -> Result<bool> {
    match read {
        Ok(()) => Ok(true),
        Err(Trouble::Source(e)) => {
            shared.problem(path, e.message());
            Ok(false)
        }
        Err(Trouble::Repository(e)) => Err(e),
    }
}

/// What was read to a row, if readers will accept it.
fn finished(
    shared: &Shared<'_>,
    entry: Entry,
    stat: Stat,
    old: Option<&Entry>,
    sampled: bool,
) -> Result<Option<Row>> {
    let change = match old {
        None => Change::New,
        Some(old) if *old == entry => Change::Same,
        Some(_) => Change::Changed,
    };
    if let Err(why) = check_entry(&entry) {
        // Readers enforce limits; what they would refuse must not be written.
        shared.problem(&entry.path, why);
        return Ok(None);
    }
    remark(shared, &entry, sampled && change == Change::Changed);
    Ok(Some(Row { entry, stat, change }))
}

fn remark(shared: &Shared<'_>, entry: &Entry, silently_changed: bool) {
    if silently_changed {
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
    if entry.flags.has(Flags::UNVERIFIED) {
        shared.warning(
            &entry.path,
            "a SQLite database stored as a plain file, unverified: if a program was writing to it, the copy may be \
             broken",
        );
    }
}

/// Whether everything the old entry needs counts as present.
fn all_present(shared: &Shared<'_>, old: &Entry) -> Result<bool> {
    if shared.writer.parent_is_whole() {
        return Ok(true);
    }
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

/// Directories, links, special files: only their attributes are still missing.
fn read_other(found: &mut Found) -> Result<()> {
    match found.opener.xattrs() {
        Ok(xattrs) => found.entry.meta.xattrs = xattrs,
        // Attributes of links and sockets cannot always be asked for; there are hardly ever any.
        Err(_) if !found.entry.is_dir() => {}
        Err(e) => return Err(e),
    }
    Ok(())
}

fn source_io(what: &str) -> impl FnOnce(std::io::Error) -> Trouble + '_ {
    move |e| Trouble::Source(Error::io(what, &e))
}

/// A file being read: what a look at it gave, to be completed, and what the parent has there.
struct Subject<'a> {
    entry: &'a mut Entry,
    stat: &'a mut Stat,
    size: u64,
    old: Option<&'a Entry>,
}

/// Reads the opened file and completes its entry; again from the start if it changes meanwhile.
fn read_file(
    shared: &Shared<'_>,
    hands: &mut Hands<'_>,
    subject: Subject<'_>,
    opened: (File, Status),
    reopen: &dyn Fn() -> Result<(File, Status)>,
) -> std::result::Result<(), Trouble> {
    let Subject { entry, stat, mut size, old } = subject;
    let old_chunks = old.filter(|o| o.is_file()).map(|o| OldChunks::of(&shared.writer.reader, o));
    let old_chunks = old_chunks.unwrap_or_default();
    let (mut file, mut now) = opened;
    if now.size >= SHARED_FILE_BYTES {
        shared.progress.set_current(&entry.path);
    }
    for attempt in 1..=TRIES {
        if attempt > 1 {
            (file, now) = reopen().map_err(Trouble::Source)?;
            size = now.size;
            (*entry, *stat) = hands.looker.seen(std::mem::take(&mut entry.path), Kind::File, &now);
        }
        let read = read_once(shared, hands, &mut file, &now, &old_chunks)?;
        let after = dir::status_of(&file).map_err(source_io("cannot look at it again"))?;
        // Against the walk's look at first, which was a moment ago: a change since then is one like any other.
        let before = (size, entry.meta.mtime, stat.ctime, stat.inode);
        let steady = (after.size, after.mtime, after.ctime, after.inode) == before;
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
    hands.files += 1;
    Ok(())
}

fn read_once(
    shared: &Shared<'_>,
    hands: &mut Hands<'_>,
    file: &mut File,
    status: &Status,
    old: &OldChunks,
) -> std::result::Result<ReadContent, Trouble> {
    let size = status.size;
    let sparse = size > (128 << 10) && status.blocks.saturating_mul(512) < size;
    let mut reader = FileReader {
        keyring: shared.writer.reader.keyring(),
        chunker: &shared.chunker,
        progress: shared.progress,
        short_read_is_end: hands.short_read_is_end(file, status),
        buffer: std::mem::take(&mut hands.buffer),
    };
    let lane = &mut hands.lane;
    let result = if size < SHARED_FILE_BYTES {
        reader.read(file, size, sparse, old, &mut |id, plain, parents| {
            if lane.claim(&id)? { lane.store(id, plain, parents, DeltaPolicy::CONTENT) } else { Ok(()) }
        })
    } else {
        read_shared(shared, lane, &mut reader, file, (size, sparse), old)
    };
    hands.buffer = reader.buffer;
    if hands.buffer.capacity() > 4 << 20 {
        hands.buffer = Vec::new();
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
    let (mut run, mut run_bytes): (Run, usize) = (Vec::new(), 0);
    let read = reader.read(file, size, sparse, old, &mut |id: ChunkId, plain, parents| {
        if lane.claim(&id)? {
            run_bytes += plain.len();
            run.push((id, plain.to_vec(), parents.to_vec()));
        }
        if run_bytes >= RUN_BYTES {
            run_bytes = 0;
            hand_over(shared, lane, std::mem::take(&mut run))?;
        }
        Ok(())
    });
    // Claimed chunks must be stored even when the file then fails: others may rely on them by now.
    store_run(lane, run).map_err(Trouble::Repository)?;
    read
}

fn hand_over(shared: &Shared<'_>, lane: &mut Lane<'_>, run: Run) -> Result<()> {
    match shared.runs.0.try_send(run) {
        Ok(()) => Ok(()),
        // Everybody is busy: this worker compresses, which also keeps memory bounded.
        Err(TrySendError::Full(run) | TrySendError::Disconnected(run)) => store_run(lane, run),
    }
}
