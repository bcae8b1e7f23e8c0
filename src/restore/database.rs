//! Databases that are restored over themselves: never as mere files, since they may be in use, and since what stands beside
//! them belongs to the old state and would be played back into the new one.

use super::InPlace;
use super::content;
use super::course::Job;
use super::place::{PRIVATE_FILE, Restoring, Temp};
use super::tally::add;
use super::verify::compare_open;
use crate::clock::SystemClock;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::format::entry::{Entry, Extent, Flags};
use crate::manifest::content::{extents, for_each_piece};
use crate::os::dir::{Handle, Status};
use crate::os::fault::reach;
use crate::os::process::holders;
use crate::os::{beneath, storage};
use crate::progress::Progress;
use crate::repository::reader::Reader;
use crate::sqlite::check::{self, Depth, Verdict};
use crate::sqlite::image::Bytes;
use crate::sqlite::layout::same_content;
use crate::sqlite::pin::{Pin, Refusal, Rules, pin};
use crate::sqlite::place::Place;
use crate::sqlite::replace::{self, Closed, Manner, Staged, Use, Way, prepare};
use crate::sqlite::{COMPANIONS, MAGIC, wal};
use std::cell::RefCell;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Up to this size the staged image is checked in full.
const FULL_CHECK_BYTES: u64 = 256 << 20;
/// Copies of at most this many bytes stay in memory while databases are compared.
const MEMORY: usize = 16 << 20;

/// Whether an entry is to be restored as a database: one stands at its place, or the remains of one.
pub fn is_one(reader: &Reader, entry: &Entry, place: &Place) -> bool {
    if !entry.is_file() {
        return false;
    }
    if matches!(place.header(), Ok(Some(_))) {
        return true;
    }
    let there = |suffix: &&str| place.status(suffix).is_ok_and(|status| status.is_some());
    let log = || place.start("-wal", 4).is_ok_and(|start| wal::is_log(&start));
    COMPANIONS.iter().any(there) && (begins_as_one(reader, entry) || log())
}

fn begins_as_one(reader: &Reader, entry: &Entry) -> bool {
    let Ok(pieces) = extents(reader, &entry.content) else { return false };
    match pieces.first() {
        Some(Extent::Chunk { id, .. }) => {
            reader.get(crate::crypto::ChunkSort::Content, id).is_ok_and(|chunk| chunk.starts_with(MAGIC))
        }
        _ => false,
    }
}

/// Whether `name` is the log or journal of a database that stands beside it.
pub fn is_companion(dir: &Handle, name: &CStr) -> bool {
    main_of(dir, name).is_some()
}

/// The database that `name` belongs to, if one stands there.
fn main_of(dir: &Handle, name: &CStr) -> Option<Place> {
    let main = COMPANIONS.iter().find_map(|suffix| name.to_bytes().strip_suffix(suffix.as_bytes()))?;
    let place = Place::new(dir.clone(), &CString::new(main).ok().filter(|main| !main.is_empty())?);
    matches!(place.header(), Ok(Some(_))).then_some(place)
}

/// Fails when something is about to be replaced or deleted under a database that somebody uses.
pub fn free_to_take(dir: &Handle, name: &CStr) -> Result<()> {
    let Some(place) = main_of(dir, name) else { return Ok(()) };
    let status = place.status("").context(|| "cannot look at its database")?;
    let used = status.map(|status| holders(status.id())).and_then(|h| h.processes.into_iter().next());
    match used {
        Some((pid, name)) => Err(Error::new(
            ErrorKind::Refused,
            format!("belongs to a database that process {pid} ({name}) has open; stop it and try again"),
        )),
        None => Ok(()),
    }
}

/// Proves that a database which is about to be deleted is not in use, and takes what stands beside it away; anything else is
/// free to go.
pub fn before_deletion(dir: &Handle, name: &CStr) -> Result<Option<Closed>> {
    let place = Place::new(dir.clone(), name);
    if !matches!(place.header(), Ok(Some(_))) {
        return Ok(None);
    }
    match replace::ask(&place)? {
        Use::Nobody(closed) => {
            replace::remove_companions(&place, &closed)?;
            Ok(Some(closed))
        }
        Use::Somebody(who) => {
            let what = format!("a database that is in use is not deleted: {who}; stop it and try again");
            Err(Error::new(ErrorKind::Refused, what))
        }
    }
}

/// Compares the present state, held still, with what is stored.
pub fn is_as_stored(
    reader: &Reader,
    progress: &Progress,
    entry: &Entry,
    place: &Place,
    how: &InPlace,
) -> Result<bool> {
    let keep_going = || progress.keep_going();
    for firmly in [false, true] {
        let rules = Rules {
            wait: how.wait,
            scratch: &how.scratch,
            memory: MEMORY,
            clock: &SystemClock,
            keep_going: &keep_going,
            firmly,
            can_pin: true,
        };
        let mut held: Pin = match pin(place, &rules) {
            Ok(held) => held,
            Err(Refusal::Unreadable(_)) => return Ok(false),
            Err(Refusal::Failed(e)) => return Err(e),
        };
        let same = compare(reader, progress, entry, &mut held.image)?;
        if held.holds() {
            return Ok(same);
        }
    }
    Ok(false)
}

fn compare(reader: &Reader, progress: &Progress, entry: &Entry, image: &mut dyn Bytes) -> Result<bool> {
    if image.len() != entry.content.size {
        return Ok(false);
    }
    let state = RefCell::new((image, 0u64, true, Vec::new()));
    let take = |wanted: &[u8]| {
        let (image, at, same, buffer) = &mut *state.borrow_mut();
        progress.keep_going()?;
        if *same {
            buffer.resize(wanted.len(), 0);
            image.read_at(*at, buffer)?;
            *same = same_content(*at, buffer, wanted);
        }
        *at += wanted.len() as u64;
        Ok(())
    };
    let zeros = vec![0; 1 << 16];
    for_each_piece(reader, &entry.content, &mut |bytes| take(bytes), &mut |mut len| {
        while len > 0 {
            let part = len.min(zeros.len() as u64);
            take(&zeros[..part as usize])?;
            len -= part;
        }
        Ok(())
    })?;
    Ok(state.into_inner().2)
}

impl Restoring<'_> {
    /// Staged beside its place, proved, checked by SQLite, then put in place by the way that fits who uses it.
    pub fn database(&self, job: &Job, dir: &Handle, how: &InPlace) -> Result<()> {
        let entry = &job.entry;
        let name = CString::new(entry.name()).map_err(|_| Error::invalid("a name with a NUL"))?;
        let place = Place::new(dir.clone(), &name);
        if job.old.as_ref().is_some_and(|old| !old.is_file()) {
            return Err(Error::invalid("a database's remains stand beside something that is not a file"));
        }
        let mut temp = Temp::new(dir, &self.names);
        let mut staged = match self.staged(job, dir, &mut temp) {
            // Compared and judged on the stage.
            Some(file) => Staged(file),
            None => {
                let made = beneath::create_file(dir, temp.name(), PRIVATE_FILE);
                let mut staged = Staged(made.context(|| "cannot make the file")?);
                temp.there = true;
                self.write_out(entry, &mut staged.0)?;
                let again = staged.0.try_clone().context(|| "cannot read it again")?;
                judge(entry, Staged(again), self.tally.progress.stop_flag())?;
                staged
            }
        };
        reach("database-staged");
        let keep_going = || self.tally.progress.keep_going();
        let before = || self.save_again(&entry.path, how);
        let manner = Manner { wait: how.wait, keep_going: &keep_going, before: &before };
        // What was stored as it lay is a state only together with what was stored beside it.
        let way = match entry.flags.has(Flags::UNVERIFIED) {
            true => raw(&place)?,
            false => prepare(&place, &mut staged, &manner)?,
        };
        match way {
            Way::Exchanged(_) => add(&self.tally.databases_exchanged, 1),
            Way::Replace(closed) if written_since(how, &closed.found) => {
                closed.give_back();
                let what =
                    "was written to after the safety snapshot was made, and is left alone; do it again";
                return Err(Error::new(ErrorKind::Refused, what));
            }
            Way::Replace(closed) => {
                let moved = self.swap(job, dir, &place, &mut temp, (&staged.0, &closed));
                if let Err(e) = moved {
                    closed.give_back();
                    return Err(e);
                }
                // The old file's locks end only now, when its name is gone.
                drop(closed);
            }
        }
        if entry.link != 0
            && let Some(now) = place.status("").context(|| "cannot look at it")?
        {
            self.links.found(entry, now.id());
        }
        add(&self.tally.files_verified, 1);
        self.count_file(entry);
        Ok(())
    }

    /// Under the lock that the exchange of pages holds: what was committed after the safety snapshot goes into another one.
    fn save_again(&self, path: &[u8], how: &InPlace) -> Result<()> {
        let Some(resave) = &how.resave else { return Ok(()) };
        reach("before-saving-again");
        let made = (resave.0)(path);
        let made = made.map_err(|e| {
            e.context(
                "what was written to it after the safety snapshot could not be saved; nothing was changed",
            )
        })?;
        if let Some(id) = made {
            let what = format!(
                "was written to after the safety snapshot was made; safety snapshot {} holds that, too",
                id.short()
            );
            self.tally.warning(path, what);
        }
        Ok(())
    }

    fn write_out(&self, entry: &Entry, file: &mut File) -> Result<()> {
        content::fill(self.reader, &entry.content, file, self.sparse, self.tally.progress)?;
        file.sync_all().context(|| "cannot write it out")?;
        storage::forget_cached(&*file);
        compare_open(self.reader, self.tally.progress, file, &entry.content)
            .map_err(|e| e.context("what was written beside it is not what was stored; nothing was changed"))
    }

    /// Nobody has the old one open, and what stands beside it goes before the new one comes.
    fn swap(
        &self,
        job: &Job,
        dir: &Handle,
        place: &Place,
        temp: &mut Temp<'_>,
        (staged, closed): (&File, &Closed),
    ) -> Result<()> {
        reach("database-closed");
        self.finish_file(job, staged)?;
        staged.sync_all().context(|| "cannot write it out")?;
        replace::remove_companions(place, closed)?;
        storage::sync_directory(dir).context(|| "cannot write out the directory")?;
        reach("companions-gone");
        self.move_in(job, dir, temp)?;
        reach("database-renamed");
        storage::sync_directory(dir).context(|| "cannot write out the directory")
    }
}

/// What SQLite says of the staged image; a database that is damaged in itself takes no sound one's place.
pub fn judge(entry: &Entry, staged: Staged, stop: Arc<AtomicBool>) -> Result<()> {
    let size = entry.content.size;
    if entry.flags.has(Flags::UNVERIFIED) || size == 0 {
        return Ok(());
    }
    let depth = if size <= FULL_CHECK_BYTES { Depth::Full } else { Depth::Quick };
    let findings = check::check(Box::new(staged), depth, stop)?;
    if findings.verdict != Verdict::Bad {
        return Ok(());
    }
    let what = format!(
        "the snapshot's database is damaged in itself ({}); nothing was changed. Choose an earlier snapshot, or restore this \
         one to another place with --target",
        findings.messages.join("; ")
    );
    Err(Error::new(ErrorKind::Refused, what))
}

/// Whether the database was written to between the safety snapshot and our own change, by its files as they were when nobody
/// else could write any more.
fn written_since(how: &InPlace, found: &[Option<Status>; 2]) -> bool {
    how.saved.is_some_and(|saved| found.iter().flatten().any(|status| status.mtime > saved))
}

/// For a file that is no state by itself: only while nobody has what stands there open.
fn raw(place: &Place) -> Result<Way> {
    match replace::ask(place)? {
        Use::Nobody(closed) => Ok(Way::Replace(closed)),
        Use::Somebody(who) => {
            let what =
                "the snapshot holds this database as plain files, which cannot take the place of one in use";
            Err(Error::new(ErrorKind::Refused, format!("{who}: {what}; stop it and try again")))
        }
    }
}
