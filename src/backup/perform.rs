//! One task of a batch to one row of the manifest.

use super::capture::{Captured, Met, capture, remark_plain};
use super::databases::{Claim, Fate, Slot, await_fate};
use super::item::Trouble;
use super::pipeline::{Shared, store_run};
use super::read::{Hands, Subject, read_file};
use crate::error::{ErrorKind, Result};
use crate::format::entry::{Entry, Extent, Flags, Kind, Stat, check_entry};
use crate::id::ChunkId;
use crate::source::Found;
use crate::source::listed::Listed;
use std::sync::Arc;
use std::sync::atomic::Ordering;

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
    /// Files that the parent does not have, not yet looked at.
    New(Listed),
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

/// One task to its rows; nothing for an entry that cannot be read, which is reported.
pub fn perform(shared: &Shared<'_>, hands: &mut Hands<'_>, task: Task, rows: &mut Vec<Row>) -> Result<()> {
    match task {
        Task::New(listed) => {
            for number in 0..listed.len() {
                shared.progress.keep_going()?;
                rows.extend(perform_new(shared, hands, &listed, number)?);
            }
        }
        Task::Reuse { old, found } => rows.extend(reuse(shared, hands, old, found)?),
        Task::Read { found, old, sampled, encrypted } => {
            let how = How { sampled, unverified: encrypted, plain: false };
            rows.extend(read(shared, hands, found, old, how)?);
        }
        Task::Database { found, old, claim } => {
            rows.extend(database(shared, hands, Met { found, old, claim: Some(claim) })?);
        }
        Task::Companion { slot, otherwise } => {
            let mut help = || match shared.runs.1.try_recv() {
                Ok(run) => store_run(&mut hands.lane, run),
                Err(_) => Ok(()),
            };
            if await_fate(shared, &slot, &mut help)? == Fate::Plain {
                perform(shared, hands, *otherwise, rows)?;
            }
        }
    }
    Ok(())
}

/// How to read a file.
#[derive(Clone, Copy, Default)]
pub struct How {
    sampled: bool,
    /// To be marked so, whatever it holds.
    unverified: bool,
    /// As a file, even if it begins like a database.
    pub plain: bool,
}

fn reuse(
    shared: &Shared<'_>,
    hands: &mut Hands<'_>,
    old: Box<Entry>,
    found: Box<Found>,
) -> Result<Option<Row>> {
    if all_present(shared, &old)? {
        if old.is_file() {
            shared.progress.add_file(old.content.size);
        }
        let row = Row { entry: *old, stat: found.stat, change: Change::Same, before: Vec::new() };
        return Ok(Some(row));
    }
    // Something it needs is gone from the repository: read it again, which heals.
    read(shared, hands, found, Some(old), How::default())
}

fn database(shared: &Shared<'_>, hands: &mut Hands<'_>, met: Met) -> Result<Option<Row>> {
    match capture(shared, &mut hands.lane, met)? {
        Captured::Row(row) => Ok(checked(shared, *row)),
        Captured::Nothing => Ok(None),
        Captured::Plain(met, why) => {
            let path = met.found.entry.path.clone();
            let how = How { plain: true, ..How::default() };
            let row = read(shared, hands, met.found, met.old, how)?;
            if row.as_ref().is_some_and(|row| row.entry.flags.has(Flags::UNVERIFIED)) {
                remark_plain(shared, &path, &why);
            }
            Ok(row)
        }
    }
}

fn read(
    shared: &Shared<'_>,
    hands: &mut Hands<'_>,
    mut found: Box<Found>,
    old: Option<Box<Entry>>,
    how: How,
) -> Result<Option<Row>> {
    if found.entry.is_file() {
        let Found { entry, stat, size, opener, .. } = found.as_mut();
        let read = opener.open_and_look().map_err(Trouble::Source).and_then(|opened| {
            let subject = Subject { entry, stat, size: *size, old: old.as_deref(), how };
            read_file(shared, hands, subject, opened, &|| opener.open_and_look())
        });
        match told(shared, &found.entry.path, read)? {
            Told::Read => {}
            Told::Database => return database(shared, hands, Met { found, old, claim: None }),
            Told::Problem => return Ok(None),
        }
    } else if let Err(e) = read_other(&mut found) {
        shared.problem(&found.entry.path, e.message());
        return Ok(None);
    }
    Ok(finished(shared, found.entry, found.stat, old.as_deref(), how))
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
    let status = opened.1;
    let (mut entry, mut stat) = hands.looker.seen(listed.path(number), Kind::File, &status);
    let how = How::default();
    let subject = Subject { entry: &mut entry, stat: &mut stat, size: status.size, old: None, how };
    let read = read_file(shared, hands, subject, opened, &|| listed.open(number));
    match told(shared, &entry.path, read)? {
        Told::Read => Ok(finished(shared, entry, stat, None, how)),
        Told::Database => {
            let found = Box::new(listed.found(number, (entry, stat), &status)?);
            database(shared, hands, Met { found, old: None, claim: None })
        }
        Told::Problem => Ok(None),
    }
}

/// How reading went.
enum Told {
    Read,
    /// Nothing was taken of it.
    Database,
    /// Reported.
    Problem,
}

/// Reports what concerns only this file.
fn told(shared: &Shared<'_>, path: &[u8], read: std::result::Result<(), Trouble>) -> Result<Told> {
    match read {
        Ok(()) => Ok(Told::Read),
        Err(Trouble::Database) => Ok(Told::Database),
        Err(Trouble::Source(e)) => {
            shared.problem(path, e.message());
            Ok(Told::Problem)
        }
        Err(Trouble::Repository(e)) => Err(e),
    }
}

/// What was read to a row, if readers will accept it.
fn finished(shared: &Shared<'_>, mut entry: Entry, stat: Stat, old: Option<&Entry>, how: How) -> Option<Row> {
    if how.unverified {
        entry.flags.set(Flags::UNVERIFIED);
    }
    let change = match old {
        None => Change::New,
        Some(old) if *old == entry => Change::Same,
        Some(_) => Change::Changed,
    };
    let before = old.map(|old| old.content.lists.clone()).unwrap_or_default();
    let row = checked(shared, Row { entry, stat, change, before })?;
    remark(shared, &row.entry, how, change);
    Some(row)
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
