//! One file to its chunks and the metadata that belongs to them; again from the start if it changes meanwhile.

use super::documents::Tap;
use super::item::{FileReader, OldChunks, ReadContent, Trouble};
use super::perform::{How, Row};
use super::pipeline::{Run, Shared, store_run};
use crate::error::{Error, Result};
use crate::format::entry::{Entry, Flags, Kind, Stat};
use crate::id::ChunkId;
use crate::json::stream::Validator;
use crate::json::{Fault, Form};
use crate::os::dir::{self, Status};
use crate::os::held::ReadFile;
use crate::os::xattr;
use crate::progress::Progress;
use crate::repository::writer::{DeltaPolicy, Lane};
use crate::source::listed::Looker;
use crossbeam_channel::TrySendError;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

/// Chunks of a large file are handed to other workers in runs of about this many bytes.
const RUN_BYTES: usize = 1 << 20;
/// Files of at least this many bytes are worth handing over.
const SHARED_FILE_BYTES: u64 = 8 << 20;
/// Tries to read a file that keeps changing.
const TRIES: usize = 3;

/// What a worker keeps from one task to the next.
pub struct Hands<'w> {
    pub lane: Lane<'w>,
    pub looker: Looker,
    pub buffer: Vec<u8>,
    /// The device of the last file, and whether short reads end a file there.
    device: Option<(u64, bool)>,
    /// Files done and not yet counted for others to see.
    files: u64,
    /// For the next JSON file.
    spare: Option<Validator>,
    /// Whether the file read last was checked as JSON, and what is wrong with it.
    verdict: Option<Option<Fault>>,
}

impl<'w> Hands<'w> {
    pub fn new(lane: Lane<'w>, looker: Looker) -> Self {
        Hands { lane, looker, buffer: Vec::new(), device: None, files: 0, spare: None, verdict: None }
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

fn source_io(what: &str) -> impl FnOnce(std::io::Error) -> Trouble + '_ {
    move |e| Trouble::Source(Error::io(what, &e))
}

/// A file being read: what a look at it gave, to be completed, and what the parent has there.
pub struct Subject<'a> {
    pub entry: &'a mut Entry,
    pub stat: &'a mut Stat,
    pub size: u64,
    pub old: Option<&'a Entry>,
    pub how: How,
}

/// Reads the opened file and completes its entry; again from the start if it changes meanwhile.
pub fn read_file(
    shared: &Shared<'_>,
    hands: &mut Hands<'_>,
    subject: Subject<'_>,
    opened: (ReadFile, Status),
    reopen: &dyn Fn() -> Result<(ReadFile, Status)>,
) -> std::result::Result<(), Trouble> {
    let Subject { entry, stat, mut size, old, how } = subject;
    let form = shared.documents.form(&entry.path);
    let stop_at_database = !how.plain && shared.databases.wants(&entry.path);
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
        let read = read_once(shared, hands, (&mut file, stop_at_database, form), &now, &old_chunks)?;
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
    stat.sound = matches!(hands.verdict, Some(None));
    if let Some(fault) = hands.verdict.take() {
        shared.documents.note(&entry.path, fault);
    }
    hands.files += 1;
    Ok(())
}

fn read_once(
    shared: &Shared<'_>,
    hands: &mut Hands<'_>,
    (file, stop_at_database, form): (&mut File, bool, Option<Form>),
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
        stop_at_database,
        buffer: std::mem::take(&mut hands.buffer),
    };
    let lane = &mut hands.lane;
    let mut file = Tap::new(file, form, hands.spare.take());
    let result = if size < SHARED_FILE_BYTES {
        reader.read(&mut file, size, sparse, old, &mut |id, plain, parents| {
            if lane.claim(&id)? { lane.store(id, plain, parents, DeltaPolicy::CONTENT) } else { Ok(()) }
        })
    } else {
        read_shared(shared, lane, &mut reader, &mut file, (size, sparse), old)
    };
    (hands.verdict, hands.spare) = file.finish();
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
    file: &mut dyn Read,
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
