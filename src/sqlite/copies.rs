//! Copies of a state: where a database cannot be held still for as long as reading it takes, or not at all.

use super::ffi::Database;
use super::image::Image;
use super::pin::{How, Missed, Pin, Rules, Tried, extent, missed, untouched};
use super::place::Place;
use super::scratch::{Plain, ScratchDir};
use crate::clock::Timestamp;
use crate::error::{Context, Result};
use crate::os::dir::Status;
use crate::os::metadata::touched_since;
use crate::os::spool::Spool;
use std::path::Path;

/// Pages are copied in pieces of this many bytes.
const PIECE: usize = 1 << 20;

/// Every page, in order.
pub(super) fn copy(image: &mut Image, rules: &Rules<'_>) -> Result<Spool> {
    let mut spool = Spool::new(rules.scratch, rules.memory);
    let mut piece = vec![0; PIECE];
    let per_piece = (PIECE as u32 / image.page_size).max(1);
    let mut next = 1;
    while next <= image.pages {
        (rules.keep_going)()?;
        let count = per_piece.min(image.pages - next + 1);
        let piece = &mut piece[..(count * image.page_size) as usize];
        image.read_pages(next, piece)?;
        spool.append(piece)?;
        next += count;
    }
    Ok(spool)
}

/// A database whose last writer died in the middle: opening it for writing would roll back the user's own file, so that is
/// done to a copy.
pub(super) fn recovered(place: &Place, rules: &Rules<'_>, main: Status) -> Tried<Pin> {
    let look = |suffix: &str| place.status(suffix).context(|| "cannot look at the database");
    let at = rules.clock.now();
    let mut files = Vec::new();
    for suffix in ["", "-journal", "-wal"] {
        files.extend(look(suffix)?.map(|status| (suffix, status)));
    }
    if files.len() < 2 || files[0].1.id() != main.id() {
        return Err(Missed::Moved);
    }
    // Whoever comes and recovers it himself must show in the files' times. (SQLite, run by root, gives a journal that it
    // only looks at to the owner of the database: that moves its ctime.)
    if files.iter().any(|(_, status)| touched_since(status.mtime, at)) {
        return Err(Missed::Busy("its files were changed a moment ago".to_owned()));
    }
    let scratch = ScratchDir::new(rules.scratch)?;
    let path = scratch.path().join("database");
    for (suffix, _) in &files {
        (rules.keep_going)()?;
        let mut from = place.open(suffix).context(|| "cannot open the database")?;
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        let mut to = std::fs::File::create_new(&name).context(|| "cannot copy the database")?;
        std::io::copy(&mut from, &mut to).context(|| "cannot copy the database")?;
    }
    for (suffix, then) in &files {
        if look(suffix)?.is_none_or(|now| !untouched(&now, then)) {
            return Err(Missed::Moved);
        }
    }
    let db = rusqlite::Connection::open(&path).map_err(|e| missed(&e))?;
    let _: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(|e| missed(&e))?;
    db.close().map_err(|(_, e)| missed(&e))?;
    whole_copy(place, &path, How::Recovered, at, main)
}

/// A copy made by SQLite in one step: in several it might never come to an end beside a writer.
pub(super) fn copied(place: &Place, rules: &Rules<'_>, db: &Database, main: Status) -> Tried<Pin> {
    let at = rules.clock.now();
    let scratch = ScratchDir::new(rules.scratch)?;
    let path = scratch.path().join("database");
    let mut to = rusqlite::Connection::open(&path).map_err(|e| missed(&e))?;
    let backup = rusqlite::backup::Backup::new(db.connection(), &mut to).map_err(|e| missed(&e))?;
    match backup.step(-1).map_err(|e| missed(&e))? {
        rusqlite::backup::StepResult::Done => {}
        _ => return Err(Missed::Busy("another program keeps it locked".to_owned())),
    }
    drop(backup);
    to.close().map_err(|(_, e)| missed(&e))?;
    whole_copy(place, &path, How::Copied, at, main)
}

/// The image in a file of our own, which keeps its bytes after its name is gone.
fn whole_copy(place: &Place, path: &Path, how: How, at: Timestamp, main: Status) -> Tried<Pin> {
    let file = Place::at(path)?.open("").context(|| "cannot open the copy of the database")?;
    let len = file.metadata().context(|| "cannot look at the copy of the database")?.len();
    let mut files = Plain { main: file, wal: None };
    let (page_size, pages) = match len {
        // Recovery may come to the conclusion that there was no database yet.
        0 => (4096, 0),
        len => extent(&mut files, len)?,
    };
    let image = Image::new(page_size, pages, Box::new(files), None);
    Ok(Pin::of_copy(image, how, at, main, place))
}
