//! One walker in order, workers that run a batch to completion, one sink that puts rows in order again.
//!
//! Bounded everywhere: at most `BATCHES` batches are between walker and sink, so memory does not grow with the
//! source. A large file is read and cut by one worker; the chunks it finds are drained by all.

use super::databases::{Databases, Meeting};
use super::documents::Documents;
use super::parent::{Match, Parent};
use super::perform::{Row, Task, perform};
use super::read::Hands;
use super::relocate::Relocation;
use super::sink::{Done, Sink, Stored};
use super::steady::Steady;
use super::{Input, Options, amend, stream};
use crate::chunker::Chunker;
use crate::clock::Timestamp;
use crate::crypto::{ChunkSort, hash};
use crate::error::{Error, ErrorKind, Result};
use crate::id::ChunkId;
use crate::manifest::walk::{Groups, is_below};
use crate::os::dir::Handle;
use crate::progress::{Problem, Progress, Report};
use crate::repository::writer::{DeltaPolicy, Lane, Writer};
use crate::source::listed::{Listed, Looker, Visitor};
use crate::source::{FileSource, Found, LeftOut, Step};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Batches between walker and sink.
const BATCHES: usize = 48;
/// A batch is closed at this many bytes to read, or this many things.
const BATCH_BYTES: u64 = 1 << 20;
const BATCH_READS: usize = 256;
const BATCH_ROWS: usize = 1024;
/// What a file that nobody has looked at counts for at first, and at least; later it is the mean of those read lately.
const UNKNOWN_BYTES: u64 = 64 << 10;
const UNKNOWN_BYTES_MIN: u64 = 4 << 10;

struct Batch {
    number: u64,
    tasks: Vec<Task>,
}

/// New chunks of a large file, claimed but not yet stored.
pub struct Run {
    /// Name, bytes, the parent's chunks of the same place.
    pub chunks: Vec<(ChunkId, Vec<u8>, Vec<ChunkId>)>,
    pub policy: DeltaPolicy,
    /// Where bases are to be found for pages that have moved.
    pub relocation: Option<Arc<Relocation>>,
}

impl Run {
    pub fn content() -> Self {
        Run { chunks: Vec::new(), policy: DeltaPolicy::CONTENT, relocation: None }
    }

    /// What has been gathered; more of the same kind follows.
    pub fn take(&mut self) -> Run {
        let chunks = std::mem::take(&mut self.chunks);
        Run { chunks, policy: self.policy, relocation: self.relocation.clone() }
    }
}

/// What workers share.
pub struct Shared<'a> {
    pub writer: &'a Writer,
    pub chunker: Chunker,
    pub database_chunker: Chunker,
    pub databases: Databases<'a>,
    pub documents: Documents,
    pub progress: &'a Progress,
    report: &'a dyn Report,
    /// Runs of chunks that any worker may store.
    pub runs: (Sender<Run>, Receiver<Run>),
    /// Workers that may still produce runs.
    busy: AtomicUsize,
    problems: AtomicUsize,
    /// Mean size of the files read lately.
    mean_size: AtomicU64,
    /// Files that were listed and gone when they were to be opened.
    pub vanished: AtomicU64,
}

impl Shared<'_> {
    pub fn problem(&self, path: &[u8], message: &str) {
        self.problems.fetch_add(1, Ordering::Relaxed);
        self.progress.errors.fetch_add(1, Ordering::Relaxed);
        self.documents.note_failed(path);
        let problem = Problem { item: path.to_vec(), during: "read", message: message.to_owned() };
        self.report.problem(&problem);
    }

    /// Sizes seen so far tell best what the next ones will be.
    fn learn(&self, rows: &[Row]) {
        let sizes = rows.iter().filter(|row| row.entry.is_file()).map(|row| row.entry.content.size);
        let (files, bytes) = sizes.fold((0, 0u64), |(n, sum), size| (n + 1, sum.saturating_add(size)));
        if let Some(mean) = bytes.checked_div(files) {
            // Workers may overwrite one another's: it is a guess.
            let before = self.mean_size.load(Ordering::Relaxed);
            self.mean_size.store(before / 2 + mean / 2, Ordering::Relaxed);
        }
    }

    pub fn warning(&self, path: &[u8], message: &str) {
        let warning = Problem { item: path.to_vec(), during: "read", message: message.to_owned() };
        self.report.warning(&warning);
    }
}

/// Stores everything `input` has and the manifest that lists it.
pub fn store(
    writer: &Writer,
    input: &Input,
    (parent, databases, documents): (Groups, Databases<'_>, Documents),
    options: &Options,
    started: Timestamp,
    progress: &Progress,
    report: &dyn Report,
) -> Result<Stored> {
    let chunker = writer.repository().content_chunker()?;
    let database_chunker = writer.repository().database_chunker()?;
    let workers = match options.workers {
        0 => std::thread::available_parallelism().map_or(2, std::num::NonZero::get).min(16),
        n => n,
    };
    let shared = Shared {
        writer,
        chunker,
        database_chunker,
        databases,
        documents,
        progress,
        report,
        runs: bounded(workers * 2),
        busy: AtomicUsize::new(workers),
        problems: AtomicUsize::new(0),
        mean_size: AtomicU64::new(UNKNOWN_BYTES),
        vanished: AtomicU64::new(0),
    };
    if let Input::Files(source) = input {
        for missing in source.missing_roots() {
            shared.problem(&missing.item, &missing.message);
        }
        shared.databases.pin_ahead(source)?;
    }
    let mut stored = match input {
        Input::Files(source) => store_files(&shared, source, parent, options, workers)?,
        Input::Stream { source, path } => stream::store(&shared, source, path, parent, options, started)?,
        Input::Amended { source, path } => amend::store(&shared, source, path, parent)?,
    };
    stored.summary.problems = shared.problems.load(Ordering::Relaxed) as u64;
    stored.summary.unverified = stored.unverified.len() as u64;
    stored.databases = shared.databases.finish();
    stored.json = shared.documents.finish(std::mem::take(&mut stored.counted));
    Ok(stored)
}

fn store_files(
    shared: &Shared<'_>,
    source: &FileSource,
    parent: Groups,
    options: &Options,
    workers: usize,
) -> Result<Stored> {
    let (batches_in, batches_out) = bounded::<Batch>(workers * 2);
    let (done_in, done_out) = bounded::<Done>(workers * 2);
    let (tokens_in, tokens_out) = bounded::<()>(BATCHES);
    let looker = source.looker();
    let again = looker.clone();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers)
            .map(|_| {
                let (batches, done, looker) = (batches_out.clone(), done_in.clone(), looker.clone());
                scope.spawn(move || work(shared, looker, &batches, &done))
            })
            .collect();
        drop((batches_out, done_in));
        if options.scan {
            scope.spawn(move || scan(source, shared.progress));
        }
        let groups = parent.clone();
        let walker = scope.spawn(move || {
            let parent = Parent::new(&shared.writer.reader, groups);
            let walking = Walking::new(shared, source, parent, options, Dispatch { batches_in, tokens_in });
            walking.walk(&looker)
        });
        let mut sink = Sink::new(shared.writer, &shared.documents, parent)?;
        if shared.documents.has_workspaces() {
            sink.hold(Steady::new(shared, source, again));
        }
        let sunk = sink.drain(&done_out, &tokens_out);
        // Whoever fails lets go of its channels, and everybody else comes to an end.
        drop((done_out, tokens_out));
        let died = || Error::new(ErrorKind::Io, "a thread of the backup died; this is a bug in snapkeep");
        let walked = walker.join().unwrap_or_else(|_| Err(died()));
        let mut worked = Ok(());
        for thread in threads {
            worked = worked.and(thread.join().unwrap_or_else(|_| Err(died())));
        }
        // The first cause, not its echoes: a worker or the sink fails, then the walker finds its channel closed.
        worked?;
        sunk?;
        let mut left_out = walked?;
        left_out.vanished += shared.vanished.load(Ordering::Relaxed);
        sink.finish(left_out)
    })
}

/// Counts ahead, so that progress knows its end.
fn scan(source: &FileSource, progress: &Progress) {
    let finished = source.walk(progress, &mut |step| {
        if let Step::Found(found) = step
            && found.entry.is_file()
        {
            progress.files_total.fetch_add(1, Ordering::Relaxed);
            progress.bytes_total.fetch_add(found.size, Ordering::Relaxed);
        }
        progress.keep_going()
    });
    progress.totals_known.store(finished.is_ok(), Ordering::Relaxed);
}

struct Dispatch {
    batches_in: Sender<Batch>,
    tokens_in: Sender<()>,
}

impl Dispatch {
    fn send(&self, number: u64, tasks: Vec<Task>) -> Result<()> {
        let stopped = || Error::new(ErrorKind::Cancelled, "the backup stopped");
        self.tokens_in.send(()).map_err(|_| stopped())?;
        self.batches_in.send(Batch { number, tasks }).map_err(|_| stopped())
    }
}

/// The walk beside the parent's manifest: what was found to batches of tasks.
struct Walking<'a> {
    shared: &'a Shared<'a>,
    source: &'a FileSource,
    parent: Parent<'a>,
    /// Unchanged files whose hash is below this are read all the same.
    sample: u64,
    dispatch: Dispatch,
    number: u64,
    tasks: Vec<Task>,
    bytes: u64,
    reads: usize,
}

impl<'a> Walking<'a> {
    fn new(
        shared: &'a Shared<'a>,
        source: &'a FileSource,
        parent: Parent<'a>,
        options: &Options,
        dispatch: Dispatch,
    ) -> Self {
        let sample = (options.reread_percent.clamp(0.0, 100.0) / 100.0 * u64::MAX as f64) as u64;
        let (number, tasks, bytes, reads) = (0, Vec::new(), 0, 0);
        Walking { shared, source, parent, sample, dispatch, number, tasks, bytes, reads }
    }

    fn walk(mut self, looker: &Looker) -> Result<LeftOut> {
        let left_out = self.source.walk_with(looker, self.shared.progress, &mut self)?;
        self.send()?;
        Ok(left_out)
    }

    fn add(&mut self, task: Task, bytes: u64, reads: usize) -> Result<()> {
        self.tasks.push(task);
        self.count(bytes, reads)
    }

    fn count(&mut self, bytes: u64, reads: usize) -> Result<()> {
        self.bytes += bytes;
        self.reads += reads;
        let full = self.bytes >= BATCH_BYTES || self.reads >= BATCH_READS || self.tasks.len() >= BATCH_ROWS;
        if full { self.send() } else { Ok(()) }
    }

    fn send(&mut self) -> Result<()> {
        if self.tasks.is_empty() {
            return Ok(());
        }
        self.shared.progress.keep_going()?;
        self.dispatch.send(self.number, std::mem::take(&mut self.tasks))?;
        (self.number, self.bytes, self.reads) = (self.number + 1, 0, 0);
        Ok(())
    }

    /// What to do about a thing found, given what the parent knows of it.
    fn task(&self, mut found: Box<Found>, matched: Match) -> Task {
        let (old, same) = match matched {
            Match::New => (None, false),
            Match::Same(old, sound) => {
                found.stat.sound = sound;
                (Some(Box::new(old)), true)
            }
            Match::Changed(old) => (Some(old), false),
        };
        let meeting = self.shared.databases.meet(&found, old.as_deref());
        if let Meeting::Database(claim) = meeting {
            return Task::Database { found, old, claim };
        }
        let encrypted = matches!(meeting, Meeting::Encrypted);
        let sampled = same && found.entry.is_file() && self.is_sampled(&found.entry.path);
        let task = match old {
            Some(old) if same && !sampled && !encrypted && !self.is_unchecked(&found) => {
                Task::Reuse { old, found }
            }
            old => Task::Read { found, old, sampled, encrypted },
        };
        match meeting {
            Meeting::Companion(slot) => Task::Companion { slot, otherwise: Box::new(task) },
            _ => task,
        }
    }

    /// Whether it holds JSON that nobody has looked at yet, although it is to be checked.
    fn is_unchecked(&self, found: &Found) -> bool {
        found.entry.is_file() && self.shared.documents.must_read(&found.entry.path, &found.stat)
    }

    fn is_sampled(&self, path: &[u8]) -> bool {
        if self.sample == 0 {
            return false;
        }
        let mut seed = self.shared.writer.session.0.to_vec();
        seed.extend_from_slice(path);
        hash::short(&seed) <= self.sample
    }
}

impl Visitor for Walking<'_> {
    fn needs_look(&mut self, path: &[u8]) -> bool {
        // The parent is asked in any case: it keeps pace with the walk.
        self.parent.has(path) || self.shared.databases.expects(path)
    }

    fn step(&mut self, step: Step) -> Result<()> {
        let found = match step {
            Step::Found(found) => found,
            Step::Problem(problem) => {
                self.shared.problem(&problem.item, &problem.message);
                return Ok(());
            }
        };
        let above = found.entry.is_dir() && above_sources(self.source, &found.entry.path);
        let matched = self.parent.compare(&found, above);
        let task = self.task(found, matched);
        let (bytes, reads) = match &task {
            Task::Read { found, .. } | Task::Database { found, .. } => (found.size, 1),
            _ => (0, 0),
        };
        self.add(task, bytes, reads)
    }

    fn listed(&mut self, dir: &Handle, path: &[u8]) -> Result<()> {
        let guess = self.shared.mean_size.load(Ordering::Relaxed).max(UNKNOWN_BYTES_MIN);
        if let Some(Task::New(listed)) = self.tasks.last_mut()
            && listed.takes(dir, path)
        {
            return self.count(guess, 1);
        }
        self.add(Task::New(Listed::new(dir, path)), guess, 1)
    }
}

/// Tells the sink, whatever becomes of a worker (a panic, too), that its batch will not come: the sink would wait for
/// it for ever.
struct Alarm<'a> {
    done: &'a Sender<Done>,
    busy: &'a AtomicUsize,
    armed: bool,
}

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        self.busy.fetch_sub(1, Ordering::SeqCst);
        if self.armed {
            let _ = self.done.send(Done { number: u64::MAX, rows: Vec::new() });
        }
    }
}

/// Whether a directory only leads to sources: things come and go in it that are not part of the backup.
fn above_sources(source: &FileSource, path: &[u8]) -> bool {
    source.roots().any(|root| root.stored.len() > path.len() && is_below(&root.stored, path))
}

/// A worker's life: batches until there are no more, other workers' runs whenever there are some.
fn work(shared: &Shared<'_>, looker: Looker, batches: &Receiver<Batch>, done: &Sender<Done>) -> Result<()> {
    let mut alarm = Alarm { done, busy: &shared.busy, armed: true };
    let mut lane = work_until_done(shared, looker, batches, done)?;
    alarm.armed = false;
    drop(alarm);
    // Others may still cut large files: help until nobody can produce a run any more.
    loop {
        match shared.runs.1.recv_timeout(Duration::from_millis(2)) {
            Ok(run) => store_run(&mut lane, run)?,
            Err(_) if shared.busy.load(Ordering::SeqCst) == 0 && shared.runs.1.is_empty() => {
                return lane.finish();
            }
            Err(_) => shared.progress.keep_going()?,
        }
    }
}

fn work_until_done<'w>(
    shared: &Shared<'w>,
    looker: Looker,
    batches: &Receiver<Batch>,
    done: &Sender<Done>,
) -> Result<Lane<'w>> {
    let mut hands = Hands::new(shared.writer.lane(ChunkSort::Content)?, looker);
    loop {
        while let Ok(run) = shared.runs.1.try_recv() {
            store_run(&mut hands.lane, run)?;
        }
        crossbeam_channel::select! {
            recv(shared.runs.1) -> run => {
                if let Ok(run) = run {
                    store_run(&mut hands.lane, run)?;
                }
            }
            recv(batches) -> batch => {
                let Ok(batch) = batch else { return Ok(hands.lane) };
                let mut rows: Vec<Row> = Vec::with_capacity(batch.tasks.len());
                for task in batch.tasks {
                    shared.progress.keep_going()?;
                    perform(shared, &mut hands, task, &mut rows)?;
                }
                hands.show(shared.progress, rows.last());
                shared.learn(&rows);
                let done_with = Done { number: batch.number, rows };
                if done.send(done_with).is_err() {
                    return Ok(hands.lane);
                }
            }
        }
    }
}

pub fn store_run(lane: &mut Lane<'_>, run: Run) -> Result<()> {
    for (id, plain, parents) in run.chunks {
        match &run.relocation {
            Some(relocation) => {
                let history = relocation.history(&plain)?;
                lane.store_against(id, &plain, history.as_ref(), DeltaPolicy::RELOCATED)?;
            }
            None => lane.store(id, &plain, &parents, run.policy)?,
        }
    }
    Ok(())
}
