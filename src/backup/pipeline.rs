//! One walker in order, workers that run a batch to completion, one sink that puts rows in order again.
//!
//! Bounded everywhere: at most `BATCHES` batches are between walker and sink, so memory does not grow with the
//! source. A large file is read and cut by one worker; the chunks it finds are drained by all.

use super::databases::{Databases, Meeting};
use super::parent::{Match, Parent};
use super::perform::{Row, Task, perform};
use super::relocate::Relocation;
use super::sink::{Done, Sink, Stored};
use super::{Input, Options, stream};
use crate::chunker::Chunker;
use crate::clock::Timestamp;
use crate::crypto::{ChunkSort, hash};
use crate::error::{Error, ErrorKind, Result};
use crate::id::ChunkId;
use crate::manifest::walk::{Groups, is_below};
use crate::progress::{Problem, Progress, Report};
use crate::repository::writer::{DeltaPolicy, Lane, Writer};
use crate::source::{FileSource, Found, LeftOut, Step};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Batches between walker and sink.
const BATCHES: usize = 48;
/// A batch is closed at this many bytes to read, or this many things.
const BATCH_BYTES: u64 = 1 << 20;
const BATCH_READS: usize = 256;
const BATCH_ROWS: usize = 1024;
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
    pub progress: &'a Progress,
    report: &'a dyn Report,
    /// Runs of chunks that any worker may store.
    pub runs: (Sender<Run>, Receiver<Run>),
    /// Workers that may still produce runs.
    busy: AtomicUsize,
    problems: AtomicUsize,
}

impl Shared<'_> {
    pub fn problem(&self, path: &[u8], message: &str) {
        self.problems.fetch_add(1, Ordering::Relaxed);
        self.progress.errors.fetch_add(1, Ordering::Relaxed);
        let problem = Problem { item: path.to_vec(), during: "read", message: message.to_owned() };
        self.report.problem(&problem);
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
    (parent, databases): (Groups, Databases<'_>),
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
        progress,
        report,
        runs: bounded(workers * 2),
        busy: AtomicUsize::new(workers),
        problems: AtomicUsize::new(0),
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
    };
    stored.summary.problems = shared.problems.load(Ordering::Relaxed) as u64;
    stored.summary.unverified = stored.unverified.len() as u64;
    stored.databases = shared.databases.finish();
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
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers)
            .map(|_| {
                let (batches, done) = (batches_out.clone(), done_in.clone());
                scope.spawn(move || work(shared, &batches, &done))
            })
            .collect();
        drop((batches_out, done_in));
        if options.scan {
            scope.spawn(move || scan(source, shared.progress));
        }
        let groups = parent.clone();
        let walker = scope.spawn(move || {
            let parent = Parent::new(&shared.writer.reader, groups);
            walk(shared, source, parent, options, &Dispatch { batches_in, tokens_in })
        });
        let mut sink = Sink::new(shared.writer, parent)?;
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
        let left_out = walked?;
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

fn walk(
    shared: &Shared<'_>,
    source: &FileSource,
    mut parent: Parent<'_>,
    options: &Options,
    dispatch: &Dispatch,
) -> Result<LeftOut> {
    let (mut number, mut tasks, mut bytes, mut reads) = (0, Vec::new(), 0, 0);
    let sample = (options.reread_percent.clamp(0.0, 100.0) / 100.0 * u64::MAX as f64) as u64;
    let salt = shared.writer.session.0;
    let left_out = source.walk(shared.progress, &mut |step| {
        let found = match step {
            Step::Found(found) => found,
            Step::Problem(problem) => {
                shared.problem(&problem.item, &problem.message);
                return Ok(());
            }
        };
        let above = found.entry.is_dir() && above_sources(source, &found.entry.path);
        let matched = parent.compare(&found, above);
        let task = task(shared, found, matched, (sample, &salt));
        if let Task::Read { found, .. } | Task::Database { found, .. } = &task {
            bytes += found.size;
            reads += 1;
        }
        tasks.push(task);
        if bytes >= BATCH_BYTES || reads >= BATCH_READS || tasks.len() >= BATCH_ROWS {
            shared.progress.keep_going()?;
            dispatch.send(number, std::mem::take(&mut tasks))?;
            (number, bytes, reads) = (number + 1, 0, 0);
        }
        Ok(())
    })?;
    if !tasks.is_empty() {
        dispatch.send(number, tasks)?;
    }
    Ok(left_out)
}

/// What to do about a thing found, given what the parent knows of it.
fn task(shared: &Shared<'_>, found: Box<Found>, matched: Match, (sample, salt): (u64, &[u8])) -> Task {
    let old = match &matched {
        Match::New => None,
        Match::Same(old) => Some(old),
        Match::Changed(old) => Some(old.as_ref()),
    };
    let meeting = shared.databases.meet(&found, old);
    if let Meeting::Database(claim) = meeting {
        let old = match matched {
            Match::New => None,
            Match::Same(old) => Some(Box::new(old)),
            Match::Changed(old) => Some(old),
        };
        return Task::Database { found, old, claim };
    }
    let encrypted = matches!(meeting, Meeting::Encrypted);
    let task = match matched {
        Match::New => Task::Read { found, old: None, sampled: false, encrypted },
        Match::Changed(old) => Task::Read { found, old: Some(old), sampled: false, encrypted },
        Match::Same(old) => {
            let sampled = found.entry.is_file() && sample > 0 && {
                let mut seed = salt.to_vec();
                seed.extend_from_slice(&found.entry.path);
                hash::short(&seed) <= sample
            };
            match sampled || encrypted {
                true => Task::Read { found, old: Some(Box::new(old)), sampled, encrypted },
                false => Task::Reuse { old: Box::new(old), found },
            }
        }
    };
    match meeting {
        Meeting::Companion(slot) => Task::Companion { slot, otherwise: Box::new(task) },
        _ => task,
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
fn work(shared: &Shared<'_>, batches: &Receiver<Batch>, done: &Sender<Done>) -> Result<()> {
    let mut alarm = Alarm { done, busy: &shared.busy, armed: true };
    let mut lane = work_until_done(shared, batches, done)?;
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
    batches: &Receiver<Batch>,
    done: &Sender<Done>,
) -> Result<Lane<'w>> {
    let mut lane = shared.writer.lane(ChunkSort::Content)?;
    let mut buffer = Vec::new();
    loop {
        while let Ok(run) = shared.runs.1.try_recv() {
            store_run(&mut lane, run)?;
        }
        crossbeam_channel::select! {
            recv(shared.runs.1) -> run => {
                if let Ok(run) = run {
                    store_run(&mut lane, run)?;
                }
            }
            recv(batches) -> batch => {
                let Ok(batch) = batch else { return Ok(lane) };
                let mut rows: Vec<Row> = Vec::with_capacity(batch.tasks.len());
                for task in batch.tasks {
                    shared.progress.keep_going()?;
                    rows.extend(perform(shared, &mut lane, &mut buffer, task)?);
                }
                let done_with = Done { number: batch.number, rows };
                if done.send(done_with).is_err() {
                    return Ok(lane);
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
