//! Staging: what a restore will put over things in use is written beside them first, all of it, read back and judged. Then the
//! restore itself only gives names, and nothing that can fail on the way from the repository fails half way through.

use super::batch::{follow, rules};
use super::content;
use super::course::{Course, Job, Step};
use super::database::judge;
use super::decide::Verdict;
use super::links::Links;
use super::place::PRIVATE_FILE;
use super::tally::{Tally, is_fatal};
use super::verify::compare_open;
use super::{Plan, Summary};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::os::beneath::{self, Beneath};
use crate::os::dir::{Handle, status_at_path};
use crate::os::fault::reach;
use crate::os::owners::Owners;
use crate::os::scratch::{self, Scratch};
use crate::os::storage;
use crate::progress::{Progress, Report};
use crate::repository::random;
use crate::repository::reader::Reader;
use crate::sqlite::replace::Staged;
use rayon::prelude::{IntoParallelIterator, IntoParallelRefIterator, ParallelIterator};
use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// How the directories are named.
const NAME: &str = ".snapkeep-stage-";
/// Files written before they are read back: as many stay open.
const BATCH_FILES: usize = 256;
const BATCH_BYTES: u64 = 256 << 20;

/// A directory beside what will be replaced, and which entries are ready in it.
pub struct Stage {
    place: Scratch,
    dir: Handle,
    ready: Mutex<HashSet<(usize, usize)>>,
}

/// Whether a name is that of a stage.
pub fn is_stage(name: &[u8]) -> bool {
    scratch::is_name(name, NAME)
}

fn name(at: (usize, usize)) -> String {
    format!("{}-{}", at.0, at.1)
}

impl Stage {
    /// Makes one on the filesystem of `place`: in the directory that it stands in, or in itself.
    pub fn beside(place: &Path) -> Result<Self> {
        let mut first = place;
        // What is gone altogether comes back where its directory was.
        while status_at_path(first).is_err() {
            first = first.parent().unwrap_or(Path::new("/"));
        }
        let device = status_at_path(first).map(|status| status.id().0);
        let above = first.parent().filter(|above| {
            let there = above.symlink_metadata().is_ok_and(|look| look.is_dir());
            there && status_at_path(above).ok().map(|status| status.id().0) == device.as_ref().ok().copied()
        });
        let itself = Some(first).filter(|first| first.is_dir());
        let mut trouble =
            Error::new(ErrorKind::NotFound, format!("there is no directory at {}", place.display()));
        for dir in above.into_iter().chain(itself) {
            scratch::remove_leftovers(dir, NAME);
            match Scratch::new(dir, NAME, random::bytes()?) {
                Ok(made) => {
                    let beneath = Beneath::open(made.dir()).context(|| "cannot open the stage")?;
                    return Ok(Stage { place: made, dir: beneath.root(), ready: Mutex::default() });
                }
                Err(e) => trouble = e,
            }
        }
        Err(trouble)
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        self.place.dir().to_path_buf()
    }

    /// The filesystem it is on, and room there.
    pub fn room(&self) -> Result<(u64, u64)> {
        let cannot = || format!("cannot look at {}", self.place.dir().display());
        let device = status_at_path(self.place.dir()).context(cannot)?.id().0;
        Ok((device, storage::free_bytes(self.place.dir()).context(cannot)?))
    }

    /// Writes every file that `plan` would put there now, reads it back, and has SQLite judge databases. What fails is
    /// reported and counted.
    pub fn fill(
        &self,
        reader: &Reader,
        plan: &Plan,
        progress: &Progress,
        report: &dyn Report,
    ) -> Result<Summary> {
        super::batch::set_totals(plan, progress);
        let owners = Owners::load();
        let rules = rules(plan, &owners);
        let tally = Tally::new(progress, report);
        let beneath = match Beneath::open(&plan.target) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            opened => Some(opened.context(|| format!("cannot open {}", plan.target.display()))?),
        };
        let links = Links::new(&plan.base);
        let mut course = Course::new(plan, &rules, &tally, (reader, beneath.as_ref()), (true, false))?;
        let (mut batch, mut bytes) = (Vec::new(), 0u64);
        let mut take = |step: Step| {
            let Step::Job(job) = step else { return Ok(()) };
            // Asked of each, so that it knows which name comes first.
            let other_name = links.is_other_name(&job.entry);
            let comes = matches!(job.verdict, Verdict::Create | Verdict::Replace);
            if !comes || !job.entry.is_file() || other_name {
                tally.progress.add_file(job.entry.content.size);
                return Ok(());
            }
            bytes = bytes.saturating_add(job.entry.content.size);
            batch.push(*job);
            if batch.len() < BATCH_FILES && bytes < BATCH_BYTES {
                return Ok(());
            }
            bytes = 0;
            self.write(reader, plan, &tally, std::mem::take(&mut batch))
        };
        follow(reader, plan, &mut course, &tally, &mut take)?;
        self.write(reader, plan, &tally, batch)?;
        reach("staged");
        Ok(tally.summary())
    }

    fn write(&self, reader: &Reader, plan: &Plan, tally: &Tally<'_>, jobs: Vec<Job>) -> Result<()> {
        let sparse = plan.options.sparse;
        let written = jobs.into_par_iter().map(|job| {
            tally.progress.keep_going()?;
            tally.progress.set_current(&job.entry.path);
            let file = beneath::create_file(&self.dir, name(job.at).as_bytes(), PRIVATE_FILE)
                .context(|| "cannot make a file on the stage");
            let filled = file.and_then(|file| {
                content::fill(reader, &job.entry.content, &file, sparse, tally.progress).map(|()| file)
            });
            reach("file-on-stage");
            self.kept(tally, job, filled)
        });
        let written: Vec<Option<(Job, File)>> = written.collect::<Result<_>>()?;
        // What is only in memory cannot be dropped from there, and would be compared with itself.
        storage::sync_filesystem(&self.dir).context(|| "cannot write out the stage")?;
        let written: Vec<(Job, File)> = written.into_iter().flatten().collect();
        written.par_iter().try_for_each(|(job, file)| {
            storage::forget_cached(file);
            let judged = self.judge(reader, tally, job, file);
            match judged {
                Ok(()) => {
                    self.ready.lock().unwrap_or_else(PoisonError::into_inner).insert(job.at);
                    tally.count_staged(&job.entry);
                    Ok(())
                }
                Err(e) if is_fatal(&e) => Err(e),
                Err(e) => {
                    tally.problem(&job.entry.path, "stage", &e);
                    Ok(())
                }
            }
        })
    }

    fn judge(&self, reader: &Reader, tally: &Tally<'_>, job: &Job, file: &File) -> Result<()> {
        let again = || file.try_clone().context(|| "cannot read it again");
        compare_open(reader, tally.progress, &mut again()?, &job.entry.content)?;
        if job.database {
            judge(&job.entry, Staged(again()?), tally.progress.stop_flag())?;
        }
        Ok(())
    }

    /// An entry that could not be written costs itself; only some troubles end everything.
    fn kept(&self, tally: &Tally<'_>, job: Job, filled: Result<File>) -> Result<Option<(Job, File)>> {
        match filled {
            Ok(file) => Ok(Some((job, file))),
            Err(e) if is_fatal(&e) => Err(e),
            Err(e) => {
                tally.problem(&job.entry.path, "stage", &e);
                Ok(None)
            }
        }
    }

    /// Moves an entry's file to a temporary name in `dir`; `None` when it is not ready here, or `dir` is on another
    /// filesystem: then it is made there.
    pub fn take(&self, at: (usize, usize), dir: &Handle, temporary: &[u8]) -> Option<File> {
        if !self.ready.lock().unwrap_or_else(PoisonError::into_inner).remove(&at) {
            return None;
        }
        let staged = name(at);
        let file = File::options().read(true).write(true).open(self.place.path(&staged)).ok()?;
        beneath::rename(&self.dir, staged.as_bytes(), dir, temporary).ok()?;
        reach("staged-moved");
        Some(file)
    }
}
