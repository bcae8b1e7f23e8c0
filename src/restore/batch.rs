//! Doing it: one thread follows the manifest and makes directories, the others write what it has found, batch by
//! batch in the manifest's order, in which chunks lie in the packs too.

use super::clear::Clear;
use super::content::LARGE;
use super::course::{Course, Job, Left, Step};
use super::decide::{Rules, Verdict};
use super::links::Links;
use super::place::{Restoring, TempNames};
use super::tally::{Tally, add};
use super::verify::{Marks, verify};
use super::{Plan, Summary};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::manifest::walk::is_below;
use crate::os::apply;
use crate::os::beneath::{self, Beneath};
use crate::os::dir;
use crate::os::owners::Owners;
use crate::os::process::is_root;
use crate::progress::{Progress, Report};
use crate::repository::reader::Reader;
use rayon::prelude::{ParallelIterator, ParallelSlice};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Most entries in a batch.
const BATCH_JOBS: usize = 2048;
/// Most directories in a batch, each of which may be held open.
const BATCH_DIRS: usize = 128;

/// A stretch of the manifest.
#[derive(Default)]
struct Batch {
    jobs: Vec<Job>,
    /// Other names of files with several; they come after all jobs.
    links: Vec<Job>,
    /// They come last, in this order: deepest first.
    left: Vec<Left>,
    dirs: usize,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.jobs.len() + self.links.len() >= BATCH_JOBS || self.dirs >= BATCH_DIRS
    }
}

pub fn execute(reader: &Reader, plan: &Plan, progress: &Progress, report: &dyn Report) -> Result<Summary> {
    set_totals(plan, progress);
    let options = &plan.options;
    let made = make_target(plan)?;
    let cannot = || format!("cannot open {}", plan.target.display());
    let beneath = Beneath::open(&plan.target).context(cannot)?;
    let owners = Owners::load();
    let rules = rules(plan, &owners);
    let tally = Tally::new(progress, report);
    let marks = Marks::new(options.verify);
    let restoring = Restoring {
        reader,
        rules: &rules,
        tally: &tally,
        beneath: &beneath,
        clear: Clear { select: &plan.select, tally: &tally, in_place: options.in_place.as_ref() },
        links: Links::new(&plan.base),
        names: TempNames::new()?,
        sparse: options.sparse,
        salvage: options.salvage,
        deletes: options.delete,
        in_place: options.in_place.as_ref(),
        stage: plan.stage.as_ref(),
    };
    let course = Course::new(plan, &rules, &tally, (reader, Some(&beneath)), (false, made))?;
    let (send, receive) = sync_channel::<Batch>(1);
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| work(plan, &restoring, &marks, receive));
        let walked = lead(reader, plan, course, &restoring, &send);
        drop(send);
        let worked = match worker.join() {
            Ok(worked) => worked,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        // When the worker has ended early, the walk has only failed to hand over.
        worked.and(walked)
    })?;
    if options.verify {
        verify(reader, plan, &beneath, &tally, &marks)?;
    }
    Ok(tally.summary())
}

pub fn set_totals(plan: &Plan, progress: &Progress) {
    progress.files_total.store(plan.entries, Ordering::Relaxed);
    progress.bytes_total.store(plan.bytes, Ordering::Relaxed);
    progress.totals_known.store(plan.select.is_everything(), Ordering::Relaxed);
}

/// What the options mean for this user on this machine.
pub fn rules<'a>(plan: &Plan, owners: &'a Owners) -> Rules<'a> {
    let options = &plan.options;
    let owner = options.owner.unwrap_or_else(is_root);
    let special_bits = options.special_bits.unwrap_or(owner);
    let apply = apply::Options {
        owner,
        names: Some(owners).filter(|_| !options.numeric_ids),
        special_bits,
        xattrs: !options.no_xattrs,
        privileged_xattrs: owner && is_root(),
    };
    Rules { overwrite: options.overwrite, apply }
}

/// Makes the target unless it is there; links on the way to it are the user's own choice.
fn make_target(plan: &Plan) -> Result<bool> {
    let target: &Path = &plan.target;
    if target.is_dir() {
        return Ok(false);
    }
    if target.exists() {
        let what = format!("{} is not a directory", target.display());
        return Err(Error::new(ErrorKind::AlreadyExists, what));
    }
    let cannot = || format!("cannot make {}", target.display());
    if let Some(above) = target.parent().filter(|above| !above.as_os_str().is_empty()) {
        std::fs::create_dir_all(above).context(cannot)?;
    }
    // One that gets recorded metadata stays private until then.
    let mode = if plan.base_meta.is_some() { 0o700 } else { 0o777 };
    std::fs::DirBuilder::new().mode(mode).create(target).context(cannot)?;
    Ok(true)
}

/// Follows the manifest, and hands over full batches.
fn lead(
    reader: &Reader,
    plan: &Plan,
    mut course: Course<'_>,
    restoring: &Restoring<'_>,
    send: &SyncSender<Batch>,
) -> Result<()> {
    let mut batch = Batch::default();
    let mut take = |step: Step| {
        match step {
            Step::Dir(..) => batch.dirs += 1,
            Step::Left(left) => {
                batch.left.push(*left);
                batch.dirs += 1;
            }
            Step::Job(job) if restoring.links.is_other_name(&job.entry) => batch.links.push(*job),
            Step::Job(job) => batch.jobs.push(*job),
        }
        if batch.is_full() { hand_over(send, std::mem::take(&mut batch)) } else { Ok(()) }
    };
    follow(reader, plan, &mut course, restoring.tally, &mut take)?;
    hand_over(send, batch)
}

fn hand_over(send: &SyncSender<Batch>, batch: Batch) -> Result<()> {
    send.send(batch).map_err(|_| Error::invalid("the threads that write have ended"))
}

/// Takes every entry that may be meant through the course; a damaged group costs its own entries.
pub fn follow(
    reader: &Reader,
    plan: &Plan,
    course: &mut Course<'_>,
    tally: &Tally<'_>,
    take: &mut dyn FnMut(Step) -> Result<()>,
) -> Result<()> {
    for number in plan.range.clone() {
        tally.progress.keep_going()?;
        let item = &plan.groups.items[number];
        let entries = match plan.groups.read(reader, number) {
            Ok(entries) => entries,
            Err(e) => {
                course.no_more_deletions();
                let what = format!("{} entries from here on are lost to this restore", item.entries);
                tally.problem(&item.first, "restore", &e.context(what));
                continue;
            }
        };
        for (i, entry) in entries.into_iter().enumerate() {
            if is_below(&entry.path, &plan.options.below) {
                course.step(entry, (number, i), take)?;
            }
        }
    }
    course.finish(take)
}

/// Works off batches until there are no more.
fn work(plan: &Plan, restoring: &Restoring<'_>, marks: &Marks, batches: Receiver<Batch>) -> Result<()> {
    for batch in batches {
        let small = |job: &&Job| job.entry.content.size < LARGE;
        // One thread to a directory: two that make files in the same one spend more time on its lock than on the files.
        batch
            .jobs
            .par_chunk_by(same_directory)
            .try_for_each(|jobs| jobs.iter().filter(small).try_for_each(|job| one(restoring, marks, job)))?;
        // One after another, each with all threads.
        for job in batch.jobs.iter().filter(|job| !small(job)) {
            one(restoring, marks, job)?;
        }
        for job in &batch.links {
            if restoring.linked(job)? {
                marks.set(&job.entry, job.at);
            }
        }
        for left in &batch.left {
            finish_directory(plan, restoring, left)?;
        }
    }
    Ok(())
}

fn same_directory(a: &Job, b: &Job) -> bool {
    match (&a.dir, &b.dir) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        _ => false,
    }
}

fn one(restoring: &Restoring<'_>, marks: &Marks, job: &Job) -> Result<()> {
    // Nobody can say of a database in use what its file should hold; it was compared as what it is.
    if restoring.job(job)? && job.verdict != Verdict::Skip && !job.database {
        marks.set(&job.entry, job.at);
    }
    Ok(())
}

/// Deletions, then metadata: everything in the directory has been done.
fn finish_directory(plan: &Plan, restoring: &Restoring<'_>, left: &Left) -> Result<()> {
    restoring.tally.progress.keep_going()?;
    let problem = |e: &Error| restoring.tally.problem(&left.path, "restore", e);
    let handle = match &left.handle {
        Some(handle) => handle.clone(),
        None => match restoring.beneath.dir(plan.relative(&left.path)) {
            Ok(handle) => handle,
            Err(e) => {
                problem(&Error::io("cannot open the directory to finish it", &e));
                return Ok(());
            }
        },
    };
    for name in &left.extras {
        let path = left.path_of(name);
        if !restoring.clear.means(&handle, name, &path, left.wanted) {
            continue;
        }
        if let Err(e) = restoring.clear.remove(&handle, name, &path, left.wanted) {
            restoring.tally.progress.keep_going()?;
            restoring.tally.problem(&path, "delete", &e);
        }
    }
    if let Some(meta) = &left.meta {
        let status = match dir::status_of(&handle) {
            Ok(status) => status,
            Err(e) => {
                problem(&Error::io("cannot look at the directory", &e));
                return Ok(());
            }
        };
        for e in apply::apply_open(&handle, &status, left.bare, meta, &restoring.rules.apply) {
            problem(&e);
        }
        add(&restoring.tally.dirs_restored, 1);
        restoring.tally.progress.add_file(0);
    } else if let Some(mode) = left.old_mode
        && let Err(e) = beneath::set_mode(&handle, mode)
    {
        problem(&Error::io("cannot put the directory's permissions back", &e));
    }
    Ok(())
}
