//! Putting one thing in its place: made under a temporary name, filled, checked, given its metadata, then renamed.
//!
//! What stands at the final name is therefore the old thing or the whole new one, and always a new inode: old names
//! of a replaced file elsewhere keep the old content.

use super::InPlace;
use super::clear::Clear;
use super::content;
use super::course::Job;
use super::database;
use super::decide::{Rules, Verdict};
use super::links::{Links, Source};
use super::stage::Stage;
use super::tally::{Tally, add, is_fatal};
use crate::error::{Context as _, Error, ErrorKind, Result};
use crate::format::entry::{Entry, Flags, Kind};
use crate::os::apply;
use crate::os::beneath::{self, Beneath};
use crate::os::dir::{self, Handle};
use crate::os::fault::reach;
use crate::os::process::is_root;
use crate::repository::random;
use crate::repository::reader::Reader;
use crate::units::counted;
use std::ffi::CString;
use std::fs::File;
use std::sync::atomic::{AtomicU32, Ordering};

/// Permissions of a file while anybody may look into its directory.
pub const PRIVATE_FILE: u32 = 0o600;

/// What all threads of one restore share.
pub struct Restoring<'a> {
    pub reader: &'a Reader,
    pub rules: &'a Rules<'a>,
    pub tally: &'a Tally<'a>,
    pub beneath: &'a Beneath,
    pub clear: Clear<'a>,
    pub links: Links,
    pub names: TempNames,
    pub sparse: bool,
    pub salvage: bool,
    pub deletes: bool,
    pub in_place: Option<&'a InPlace>,
    pub stage: Option<&'a Stage>,
}

/// Temporary names of one run: `.snapkeep-` and 16 hex digits and `.tmp`.
pub struct TempNames {
    run: u32,
    next: AtomicU32,
}

impl TempNames {
    pub fn new() -> Result<Self> {
        let run = u32::from_le_bytes(random::bytes()?);
        Ok(TempNames { run, next: AtomicU32::new(0) })
    }

    fn name(&self) -> String {
        format!(".snapkeep-{:08x}{:08x}.tmp", self.run, self.next.fetch_add(1, Ordering::Relaxed))
    }
}

/// Whether a name is one that an interrupted restore may have left.
pub fn is_leftover(name: &[u8]) -> bool {
    let middle = name.strip_prefix(b".snapkeep-").and_then(|rest| rest.strip_suffix(b".tmp"));
    middle.is_some_and(|hex| hex.len() == 16 && hex.iter().all(u8::is_ascii_hexdigit))
}

/// Something under a temporary name; removed unless it got its own.
pub struct Temp<'a> {
    dir: &'a Handle,
    name: String,
    pub there: bool,
}

impl<'a> Temp<'a> {
    pub fn new(dir: &'a Handle, names: &TempNames) -> Self {
        Temp { dir, name: names.name(), there: false }
    }

    pub fn name(&self) -> &[u8] {
        self.name.as_bytes()
    }
}

impl Drop for Temp<'_> {
    fn drop(&mut self) {
        if self.there {
            // The next restore into this directory removes it otherwise.
            let _ = beneath::remove_file(self.dir, self.name());
        }
    }
}

impl Restoring<'_> {
    /// Does one job and counts it; an error only if nothing more can be done.
    /// Answers whether the right content stands there now.
    pub fn job(&self, job: &Job) -> Result<bool> {
        self.tally.progress.keep_going()?;
        let outcome = self.one(job);
        match outcome {
            Err(e) if is_fatal(&e) => Err(e.context(shown(&job.entry.path))),
            Err(e) => {
                self.tally.problem(&job.entry.path, "restore", &e);
                self.tally.failed(&job.entry);
                Ok(false)
            }
            Ok(right) => Ok(right),
        }
    }

    fn one(&self, job: &Job) -> Result<bool> {
        let dir = job.dir.as_ref().ok_or_else(|| Error::invalid("its directory is not there"))?;
        let entry = &job.entry;
        self.tally.progress.set_current(&entry.path);
        match job.verdict {
            Verdict::Skip => {
                self.tally.skipped(entry);
                return Ok(false);
            }
            Verdict::Keep { mend } => {
                if mend {
                    let problems =
                        apply::apply(dir, entry.name(), &entry.meta, &entry.kind, &self.rules.apply);
                    self.tell(entry, &problems);
                }
                if let (true, Some(old)) = (entry.link != 0, &job.old) {
                    self.links.found(entry, old.id());
                }
                self.tally.skipped(entry);
                return Ok(true);
            }
            Verdict::Create | Verdict::Replace => {}
        }
        if let Some(how) = self.in_place {
            if job.database {
                // Proved and counted where it was done; nobody can say of one in use what its file should hold.
                return self.database(job, dir, how).map(|()| false);
            }
            self.may_go(job, dir, how)?;
        }
        if entry.is_file() {
            self.file(job, dir)?;
        } else if !self.other(job, dir)? {
            return Ok(false);
        }
        Ok(true)
    }

    /// Whether what stands there can be replaced as a file among others.
    fn may_go(&self, job: &Job, dir: &Handle, how: &InPlace) -> Result<()> {
        let Some(old) = &job.old else { return Ok(()) };
        how.unchanged(old)?;
        match CString::new(job.entry.name()) {
            Ok(name) if old.is_file() => database::free_to_take(dir, &name),
            _ => Ok(()),
        }
    }

    fn file(&self, job: &Job, dir: &Handle) -> Result<()> {
        let entry = &job.entry;
        let mut temp = Temp::new(dir, &self.names);
        let file = match self.staged(job, dir, &mut temp) {
            Some(file) => file,
            None => {
                // Nobody can look into a directory that this run has made; elsewhere the final permissions come last.
                let mode = if job.private { entry.meta.mode & 0o777 } else { PRIVATE_FILE };
                let made = beneath::create_file(dir, temp.name(), mode).context(|| "cannot make the file")?;
                temp.there = true;
                let filled =
                    content::fill(self.reader, &entry.content, &made, self.sparse, self.tally.progress);
                if let Err(e) = filled {
                    drop(temp);
                    let saves = self.salvage && e.kind().is_unreadable();
                    return Err(if saves { self.rescue(job, dir, e)? } else { e });
                }
                made
            }
        };
        let id = self.finish_file(job, &file)?;
        if self.in_place.is_some() {
            // What it replaces was durable.
            file.sync_all().context(|| "cannot write it out")?;
            reach("file-staged");
        }
        drop(file);
        self.move_in(job, dir, &mut temp)?;
        reach("file-renamed");
        if entry.link != 0 {
            self.links.found(entry, id);
        }
        self.count_file(entry);
        if entry.flags.has(Flags::CHANGED) {
            self.tally.warning(&entry.path, "changed while it was backed up; it may mix two states");
        }
        Ok(())
    }

    /// The file from the stage, under the temporary name.
    pub fn staged(&self, job: &Job, dir: &Handle, temp: &mut Temp<'_>) -> Option<File> {
        let file = self.stage?.take(job.at, dir, temp.name())?;
        temp.there = true;
        Some(file)
    }

    /// What is left of a damaged file gets another name; the file itself stays one that was not restored.
    fn rescue(&self, job: &Job, dir: &Handle, trouble: Error) -> Result<Error> {
        let kept = self.keep_damaged(job, dir, trouble.clone())?;
        add(&self.tally.files_salvaged, 1);
        let what = format!(
            "{trouble}; kept as {}, with {} lost ({} of {} bytes), listed beside it",
            String::from_utf8_lossy(&kept.name),
            counted(kept.holes.len() as u64, "stretch", "stretches"),
            kept.lost(),
            job.entry.content.size
        );
        Ok(Error::corrupt(what))
    }

    /// Metadata by the open file, so that it is there before the name is.
    pub fn finish_file(&self, job: &Job, file: &File) -> Result<(u64, u64)> {
        let status = dir::status_of(file).context(|| "cannot look at the new file")?;
        // A stage may have handed down what its own directory hands down.
        let bare = !job.inherits && self.stage.is_none();
        let problems = apply::apply_open(file, &status, bare, &job.entry.meta, &self.rules.apply);
        self.tell(&job.entry, &problems);
        Ok(status.id())
    }

    fn count_other(&self) {
        add(&self.tally.others_restored, 1);
        self.tally.progress.add_file(0);
    }

    pub fn count_file(&self, entry: &Entry) {
        add(&self.tally.files_restored, 1);
        add(&self.tally.bytes_restored, entry.content.size);
        self.tally.progress.add_file(0);
    }

    /// Anything that is neither file nor directory; `false` when this machine or user cannot make such a thing.
    fn other(&self, job: &Job, dir: &Handle) -> Result<bool> {
        let entry = &job.entry;
        let mut temp = Temp::new(dir, &self.names);
        let made = match &entry.kind {
            Kind::Symlink(target) => beneath::create_symlink(dir, temp.name(), target),
            Kind::Fifo => beneath::create_fifo(dir, temp.name()),
            Kind::Socket => beneath::create_socket(dir, temp.name()),
            Kind::CharDevice(..) | Kind::BlockDevice(..) if !is_root() => {
                self.tally.warning(&entry.path, "not restored: only root can make devices");
                self.tally.skipped(entry);
                return Ok(false);
            }
            Kind::CharDevice(major, minor) => {
                beneath::create_device(dir, temp.name(), false, (*major, *minor))
            }
            Kind::BlockDevice(major, minor) => {
                beneath::create_device(dir, temp.name(), true, (*major, *minor))
            }
            Kind::File | Kind::Directory => return Err(Error::invalid("not made this way")),
        };
        match (made, &entry.kind) {
            (Err(e), Kind::Socket) => {
                self.tally.warning(&entry.path, format!("the socket is not restored: {e}"));
                self.tally.skipped(entry);
                return Ok(false);
            }
            (made, _) => made.context(|| "cannot make it")?,
        }
        temp.there = true;
        let problems = apply::apply(dir, temp.name(), &entry.meta, &entry.kind, &self.rules.apply);
        self.tell(entry, &problems);
        let id = match entry.link {
            0 => None,
            _ => Some(id_of(dir, temp.name())?),
        };
        self.move_in(job, dir, &mut temp)?;
        if let Some(id) = id {
            self.links.found(entry, id);
        }
        self.count_other();
        Ok(true)
    }

    /// Another name for a file that this run has restored or found right; written like the first where that fails.
    pub fn linked(&self, job: &Job) -> Result<bool> {
        let Some(source) = self.links.source(&job.entry) else {
            // The first name was not restored: this one takes its place.
            return self.job(job);
        };
        self.tally.progress.keep_going()?;
        if job.verdict == Verdict::Skip {
            self.tally.skipped(&job.entry);
            return Ok(false);
        }
        if job.old.as_ref().is_some_and(|old| old.id() == source.id) {
            self.tally.skipped(&job.entry);
            return Ok(true);
        }
        let Err(e) = self.link(job, &source) else { return Ok(true) };
        if is_fatal(&e) {
            return Err(e);
        }
        self.tally.warning(&job.entry.path, format!("not linked but written by itself: {e}"));
        let verdict = if job.old.is_some() { Verdict::Replace } else { Verdict::Create };
        self.job(&Job { verdict, entry: job.entry.clone(), dir: job.dir.clone(), ..*job })
    }

    fn link(&self, job: &Job, source: &Source) -> Result<()> {
        let dir = job.dir.as_ref().ok_or_else(|| Error::invalid("its directory is not there"))?;
        let cannot = || "cannot link it";
        let (from, name) = self.beneath.parent(&source.path, false).context(cannot)?;
        let mut temp = Temp::new(dir, &self.names);
        beneath::link(&from, name, dir, temp.name()).context(cannot)?;
        temp.there = true;
        if id_of(dir, temp.name())? != source.id {
            return Err(Error::invalid("something else stands at its first name now"));
        }
        self.move_in(job, dir, &mut temp)?;
        if job.entry.is_file() {
            self.count_file(&job.entry);
            self.tally.progress.add_bytes(job.entry.content.size);
        } else {
            self.count_other();
        }
        Ok(())
    }

    /// The last step: the final name.
    pub fn move_in(&self, job: &Job, dir: &Handle, temp: &mut Temp<'_>) -> Result<()> {
        let name = job.entry.name();
        let Some(old) = job.old.as_ref().filter(|_| job.verdict != Verdict::Create) else {
            beneath::rename_new(dir, temp.name(), dir, name).context(|| "cannot give it its name")?;
            temp.there = false;
            return Ok(());
        };
        if old.is_dir() {
            self.remove_directory(job, dir)?;
        }
        beneath::rename(dir, temp.name(), dir, name).context(|| "cannot give it its name")?;
        // Two names of one file are left as they are by a rename; then the temporary one is still there.
        temp.there = job.entry.link != 0;
        Ok(())
    }

    /// A directory stands where something else belongs: empty ones go, others only with `--delete`.
    fn remove_directory(&self, job: &Job, dir: &Handle) -> Result<()> {
        let name = job.entry.name();
        match beneath::remove_dir(dir, name) {
            Ok(()) => return Ok(()),
            Err(_) if self.deletes => {}
            Err(_) => {
                let what = "a directory that is not empty stands there; --delete would remove it";
                return Err(Error::new(ErrorKind::AlreadyExists, what));
            }
        }
        let name = CString::new(name).map_err(|_| Error::invalid("a name with a NUL"))?;
        if self.clear.remove(dir, &name, &job.entry.path, true)? {
            return Ok(());
        }
        Err(Error::new(ErrorKind::AlreadyExists, "the directory that stands there could not be removed"))
    }

    pub fn tell(&self, entry: &Entry, problems: &[Error]) {
        for problem in problems {
            self.tally.problem(&entry.path, "restore", problem);
        }
    }
}

/// Device and inode of what stands at `name` itself.
fn id_of(dir: &Handle, name: &[u8]) -> Result<(u64, u64)> {
    let name = CString::new(name).map_err(|_| Error::invalid("a name with a NUL"))?;
    Ok(dir::status(dir, &name).context(|| "cannot look at what was made")?.id())
}

fn shown(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path))
}
