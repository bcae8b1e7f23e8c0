//! One database to one row: pin, read, cut, store what is new, check, and make sure that it was one state.

use super::databases::{Claim, Fate};
use super::facts;
use super::item::Trouble;
use super::pages;
use super::perform::{Change, Row, all_present};
use super::pipeline::Shared;
use crate::error::{ErrorKind, Result};
use crate::format::entry::{Content, Entry, Flags, Stat};
use crate::format::snapshot::DatabaseFacts;
use crate::repository::writer::Lane;
use crate::source::Found;
use crate::sqlite::check;
use crate::sqlite::image::Bytes;
use crate::sqlite::pin::{How, Pin, Refusal};

/// Tries at a database whose state does not last as long as reading it takes.
const TRIES: usize = 4;

/// A database as the walk met it.
pub struct Met {
    pub found: Box<Found>,
    pub old: Option<Box<Entry>>,
    /// `None` when a worker came across it: nothing stands beside it.
    pub claim: Option<Claim>,
}

/// What became of it.
pub enum Captured {
    Row(Box<Row>),
    /// Reported.
    Nothing,
    /// Not a database for SQLite; to be stored as the file it is.
    Plain(Met, String),
}

/// Captures one database.
pub fn capture(shared: &Shared<'_>, lane: &mut Lane<'_>, met: Met) -> Result<Captured> {
    let path = met.found.entry.path.clone();
    shared.progress.set_current(&path);
    let link = shared.databases.link(&met.found);
    let mut linked = link.as_ref().map(|cell| cell.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    for attempt in 0..TRIES {
        let pin = match shared.databases.pin(&met.found, met.claim.as_ref(), attempt > 0) {
            Ok(pin) => pin,
            Err(Refusal::Unreadable(why)) => {
                decide(&met, Fate::Plain);
                return Ok(Captured::Plain(met, why));
            }
            Err(Refusal::Failed(e)) if e.kind() == ErrorKind::Cancelled => return Err(e),
            Err(Refusal::Failed(e)) => {
                shared.problem(&path, e.message());
                return Ok(Captured::Nothing);
            }
        };
        decide(&met, Fate::Database);
        if let Some((content, facts)) = linked.as_deref().and_then(Option::as_ref) {
            let facts = facts::unchanged(facts, &path, &pin);
            return finish(shared, met, &pin, content.clone(), facts);
        }
        match read(shared, lane, &met, &pin) {
            Ok((content, facts)) if pin.holds() => {
                if let Some(cell) = linked.as_deref_mut() {
                    *cell = Some((content.clone(), facts.clone()));
                }
                return finish(shared, met, &pin, content, facts);
            }
            // Somebody wrote meanwhile: whatever was read is worth nothing, nor is what went wrong reading it.
            Ok(_) => {}
            Err(Trouble::Source(_)) if !pin.holds() => {}
            Err(Trouble::Source(e)) => {
                shared.problem(&path, e.message());
                return Ok(Captured::Nothing);
            }
            Err(Trouble::Repository(e)) => return Err(e),
            Err(Trouble::Database) => break,
        }
    }
    shared.problem(
        &path,
        "the database was changed or replaced at each of several tries; it is not in this snapshot",
    );
    Ok(Captured::Nothing)
}

fn decide(met: &Met, fate: Fate) {
    if let Some(claim) = &met.claim {
        claim.decide(fate);
    }
}

/// Content and facts: the old ones if the state is the old one.
fn read(
    shared: &Shared<'_>,
    lane: &mut Lane<'_>,
    met: &Met,
    pin: &Pin,
) -> std::result::Result<(Content, DatabaseFacts), Trouble> {
    let path = &met.found.entry.path;
    let old = met.old.as_deref().filter(|old| old.is_file());
    let before = old.and_then(|_| shared.databases.known(path));
    let depth = shared.databases.depth(pin.image.len());
    let checked = before.filter(|before| facts::is_checked(before, depth));
    if let (Some(old), Some(before)) = (old, checked)
        && facts::is_same(before, pin)
        && all_present(shared, old).map_err(Trouble::Repository)?
    {
        shared.progress.add_bytes(old.content.size);
        return Ok((old.content.clone(), facts::unchanged(before, path, pin)));
    }
    let content = pages::store(shared, lane, &pin.image, old)?;
    if let (Some(old), Some(before)) = (old, checked)
        && old.content.hash == content.hash
        && old.content.size == content.size
        && (content.hash.is_some() || old.content == content)
    {
        let facts = DatabaseFacts {
            page_size: pin.image.page_size,
            pages: pin.image.pages,
            ..facts::unchanged(before, path, pin)
        };
        return Ok((content, facts));
    }
    let stop = shared.progress.stop_flag();
    let findings = check::check(Box::new(pin.image.clone()), depth, stop).map_err(|e| match e.kind() {
        ErrorKind::Cancelled => Trouble::Repository(e),
        _ => Trouble::Source(e),
    })?;
    Ok((content, facts::captured(path, pin, findings, shared.databases.now())))
}

/// The row, and what the user should hear about it.
fn finish(
    shared: &Shared<'_>,
    met: Met,
    pin: &Pin,
    content: Content,
    facts: DatabaseFacts,
) -> Result<Captured> {
    let Met { found, old, .. } = met;
    let Found { mut entry, opener, .. } = *found;
    let path = entry.path.clone();
    match opener.xattrs() {
        Ok(xattrs) => entry.meta.xattrs = xattrs,
        Err(e) => {
            shared.problem(&path, e.message());
            return Ok(Captured::Nothing);
        }
    }
    entry.meta.mtime = pin.changed();
    entry.meta.mode = pin.main.mode & 0o7777;
    entry.content = content;
    if facts.check.result == "failed" {
        entry.flags.set(Flags::UNVERIFIED);
        let first = facts.check.messages.first().map_or("no reason given", String::as_str);
        shared.problem(
            &path,
            &format!(
                "the database is damaged in itself; stored as it is, marked unverified. SQLite says: {first}"
            ),
        );
    } else if facts.check.result == "unknown" && facts.check.depth != "off" {
        let first = facts.check.messages.first().map_or("no reason given", String::as_str);
        shared.warning(&path, &format!("captured exactly, but SQLite could not check it: {first}"));
    }
    if entry.link != 0 && pin.how != How::Log {
        entry.flags.set(Flags::UNVERIFIED);
        shared.warning(
            &path,
            "this database has several names (hard links); a program that uses it by another name keeps its newest \
             changes beside that name, so it is marked unverified",
        );
    }
    if pin.how == How::Copied {
        shared.warning(
            &path,
            "this build of SQLite cannot pin a log, so the database was copied to a temporary file",
        );
    }
    let stat = Stat { inode: pin.main.inode, ctime: pin.main.ctime, racy: true, sound: false };
    let change = match &old {
        None => Change::New,
        Some(old) if **old == entry => Change::Same,
        Some(_) => Change::Changed,
    };
    shared.databases.note(facts, pin.at);
    shared.progress.files_done.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let before = old.map(|old| old.content.lists).unwrap_or_default();
    Ok(Captured::Row(Box::new(Row { entry, stat, change, before })))
}

/// What to say of a database that is stored as a plain file, because SQLite cannot read it.
pub fn remark_plain(shared: &Shared<'_>, path: &[u8], why: &str) {
    shared.warning(
        path,
        &format!("stored as a plain file, unverified, since SQLite cannot read it as a database: {why}"),
    );
}
