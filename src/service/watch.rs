//! Files that change: which job's sources they belong to, from the kernel's own messages.
//!
//! What the kernel cannot tell counts as a change: a queue that ran over, a directory it will not watch. A backup that finds
//! nothing new costs little; one that was never begun costs what changed. Databases are watched as the files they are, log and
//! journal included: SQLite writes all of these by calls that the kernel tells about, and a connection of ours, held open to
//! ask for its `data_version`, would keep the last application from tidying up its log.

use crate::error::{Error, Result};
use crate::job::Job;
use notify::event::ModifyKind;
use notify::{Config, ErrorKind, EventKind, EventKindMask, RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What SQLite keeps beside a database and changes by looking at it.
const OF_READERS: &[u8] = b"-shm";
/// Its log and journal: whoever opens a database, our own backup included, may set their owner and rights, which changes
/// nothing in it.
const OF_WRITERS: [&[u8]; 2] = [b"-wal", b"-journal"];

/// A job and what it backs up.
#[derive(Clone, Debug)]
pub struct Site {
    pub job: Job,
    /// Absolute; files or directories.
    pub roots: Vec<PathBuf>,
}

/// Flags of jobs whose files have changed since somebody looked.
#[derive(Debug)]
struct Flags {
    jobs: Vec<(Job, AtomicBool)>,
    /// Where events come from, and which jobs they concern.
    roots: Mutex<Vec<(usize, Place)>>,
    skip: Vec<PathBuf>,
    /// Some directories are not watched: what happens there is looked for now and then.
    blind: AtomicBool,
    told: Mutex<Vec<String>>,
}

/// A root as the kernel names it.
#[derive(Clone, Debug)]
struct Place {
    path: PathBuf,
    /// Only this file, and those that begin with its name.
    file: bool,
}

impl Place {
    fn concerns(&self, changed: &Path) -> bool {
        if !self.file {
            return changed.starts_with(&self.path);
        }
        changed.as_os_str().as_bytes().starts_with(self.path.as_os_str().as_bytes())
    }
}

impl Flags {
    /// Takes in that something is not watched; what vanished while it was being looked at is no trouble.
    fn trouble(&self, e: &notify::Error) -> bool {
        if !matches!(e.kind, ErrorKind::PathNotFound) && !self.blind.swap(true, Ordering::AcqRel) {
            let what = format!("some directories cannot be watched and are looked at again and again: {e}");
            self.told.lock().unwrap_or_else(PoisonError::into_inner).push(what);
        }
        self.mark_all()
    }

    /// Marks a job; whether that is news.
    fn mark(&self, index: usize) -> bool {
        self.jobs.get(index).is_some_and(|(_, flag)| !flag.swap(true, Ordering::AcqRel))
    }

    fn mark_all(&self) -> bool {
        (0..self.jobs.len()).filter(|index| self.mark(*index)).count() > 0
    }

    fn mark_paths(&self, paths: &[PathBuf], kind: EventKind) -> bool {
        let of_metadata = matches!(kind, EventKind::Modify(ModifyKind::Metadata(_)));
        let ours = |path: &&PathBuf| {
            let name = path.as_os_str().as_bytes();
            self.skip.iter().any(|skip| path.starts_with(skip))
                || name.ends_with(OF_READERS)
                || (of_metadata && OF_WRITERS.iter().any(|ending| name.ends_with(ending)))
        };
        let roots = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
        let mut news = false;
        for path in paths.iter().filter(|path| !ours(path)) {
            for (index, _) in roots.iter().filter(|(_, place)| place.concerns(path)) {
                news |= self.mark(*index);
            }
        }
        news
    }
}

/// Watches the sources of jobs. Roots may come and go; `refresh` finds them again.
pub struct Watching {
    watcher: RecommendedWatcher,
    flags: Arc<Flags>,
    sites: Vec<Site>,
    /// Each root's place on its device when it was last found.
    found: BTreeMap<PathBuf, Option<(u64, u64)>>,
    /// Roots that are there and that the kernel will not watch.
    refused: BTreeSet<PathBuf>,
    told: Vec<String>,
}

impl Watching {
    /// Begins to watch. `wake` is called, from another thread, when a job is marked that was not; changes below `skip` are none.
    pub fn start(sites: Vec<Site>, skip: Vec<PathBuf>, wake: impl Fn() + Send + 'static) -> Result<Self> {
        let jobs = sites.iter().map(|site| (site.job.clone(), AtomicBool::new(false))).collect();
        let skip = skip.into_iter().map(|path| path.canonicalize().unwrap_or(path)).collect();
        let (roots, blind, told) = (Mutex::default(), AtomicBool::new(false), Mutex::default());
        let flags = Arc::new(Flags { jobs, roots, skip, blind, told });
        let heard = Arc::clone(&flags);
        let hear = move |event: notify::Result<notify::Event>| {
            let news = match event {
                Ok(event) if event.need_rescan() => heard.mark_all(),
                Ok(event) => heard.mark_paths(&event.paths, event.kind),
                // What could not be watched any more may have changed.
                Err(e) => heard.trouble(&e),
            };
            if news {
                wake();
            }
        };
        let config = Config::default().with_event_kinds(EventKindMask::CORE).with_follow_symlinks(false);
        let watcher = RecommendedWatcher::new(hear, config).map_err(|e| no_watch(&e))?;
        let mut watching = Watching {
            watcher,
            flags,
            sites,
            found: BTreeMap::new(),
            refused: BTreeSet::new(),
            told: Vec::new(),
        };
        watching.refresh(true);
        // Whatever changed before there was anybody to see it is the first thing to back up.
        watching.flags.mark_all();
        Ok(watching)
    }

    /// Jobs whose files have changed since the last time this was asked.
    pub fn changed(&self) -> Vec<Job> {
        let marked = self.flags.jobs.iter().filter(|(_, flag)| flag.swap(false, Ordering::AcqRel));
        marked.map(|(job, _)| job.clone()).collect()
    }

    /// Whether any are marked.
    pub fn has_changes(&self) -> bool {
        self.flags.jobs.iter().any(|(_, flag)| flag.load(Ordering::Acquire))
    }

    /// What could not be watched, told once.
    pub fn problems(&mut self) -> Vec<String> {
        let heard = std::mem::take(&mut *self.flags.told.lock().unwrap_or_else(PoisonError::into_inner));
        std::mem::take(&mut self.told).into_iter().chain(heard).collect()
    }

    /// Finds roots that have appeared, gone, or been replaced by others. To be called now and then.
    /// With `all`, what cannot be watched is tried again, and counts as changed.
    pub fn refresh(&mut self, all: bool) {
        if all && self.flags.blind.load(Ordering::Acquire) {
            self.flags.mark_all();
        }
        for index in 0..self.sites.len() {
            for root in self.sites[index].roots.clone() {
                let status = std::fs::metadata(&root).ok();
                let id = status.as_ref().map(|status| (status.dev(), status.ino()));
                let before = self.found.get(&root).copied();
                if before == Some(id) && id.is_some() {
                    continue;
                }
                if !all && self.refused.contains(&root) && id.is_some() {
                    continue;
                }
                let is_news = before.is_some_and(|before| before != id);
                let watched = match &status {
                    Some(status) => self.watch(index, &root, status.is_file()),
                    None => Ok(()),
                };
                if let Err(e) = watched {
                    // Each look from now on counts as a change, as nobody tells us of any.
                    self.flags.mark(index);
                    if before.is_none() {
                        self.told.push(format!(
                            "{} cannot be watched and is looked at again and again: {e}",
                            root.display()
                        ));
                    }
                    self.refused.insert(root.clone());
                    self.found.insert(root, None);
                    continue;
                }
                self.refused.remove(&root);
                if id.is_none() && before.is_none() {
                    self.told.push(format!("{} is not there; it is watched once it is", root.display()));
                }
                if is_news {
                    self.flags.mark(index);
                }
                self.found.insert(root, id);
            }
        }
    }

    /// A file is watched by way of its directory: programs replace files, and write what belongs to them beside.
    fn watch(&mut self, index: usize, root: &Path, file: bool) -> std::result::Result<(), String> {
        let path = root.canonicalize().map_err(|e| e.to_string())?;
        let (dir, mode) = match path.parent() {
            Some(above) if file => (above.to_owned(), RecursiveMode::NonRecursive),
            _ => (path.clone(), RecursiveMode::Recursive),
        };
        let mut roots = self.flags.roots.lock().unwrap_or_else(PoisonError::into_inner);
        roots.retain(|(other, place)| *other != index || place.path != path);
        roots.push((index, Place { path, file }));
        drop(roots);
        self.watcher.watch(&dir, mode).map_err(|e| e.to_string())
    }
}

fn no_watch(e: &notify::Error) -> Error {
    Error::new(crate::error::ErrorKind::Io, format!("the kernel watches no files for us: {e}"))
}
