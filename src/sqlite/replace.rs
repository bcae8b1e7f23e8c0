//! Putting another state into the place of a database: by exchanging pages under the feet of those who have it open, or by
//! proving that nobody has.
//!
//! Exchanging pages is one transaction of SQLite's own, so that readers go from the old state to the new one in one step and
//! a crash leaves one of the two. It needs both states to be laid out alike (`Layout`), since connections keep what they know
//! of that for as long as they are open.

use super::COMPANIONS;
use super::ffi::can_write_pages;
use super::header::{self, JOURNAL_MAGIC, lock_page};
use super::image::Bytes;
use super::layout::{Layout, PASSING, same_content};
use super::place::Place;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::os::dir::Status;
use crate::os::fault::reach;
use crate::os::held::{Hold, hold};
use crate::os::process::{Holders, holders};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// A whole database in an ordinary file that nobody else uses.
pub struct Staged(pub File);

impl Bytes for Staged {
    fn len(&self) -> u64 {
        self.0.metadata().map_or(0, |meta| meta.len())
    }

    fn read_at(&mut self, at: u64, out: &mut [u8]) -> Result<()> {
        self.0.read_exact_at(out, at).context(|| "cannot read the database just written")
    }
}

/// Why pages cannot be exchanged.
enum Hindrance {
    /// SQLite cannot work with what stands there.
    Unreadable,
    Failed(Error),
}

impl From<Error> for Hindrance {
    fn from(e: Error) -> Self {
        Hindrance::Failed(e)
    }
}

fn hindrance(e: &rusqlite::Error) -> Hindrance {
    match e.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => Hindrance::Unreadable,
        _ => Hindrance::Failed(sqlite_error(e)),
    }
}

fn sqlite_error(e: &rusqlite::Error) -> Error {
    match e.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed) => {
            let what = "another program keeps it locked; nothing was changed. Wait for it or stop it, then try again";
            Error::new(ErrorKind::Locked, what)
        }
        Some(ErrorCode::DiskFull) => {
            let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
            Error::io("SQLite cannot write to it", &full)
        }
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            Error::new(ErrorKind::Io, format!("SQLite cannot write to it: {e}; nothing was changed"))
        }
        _ => Error::new(ErrorKind::Io, format!("SQLite says: {e}")),
    }
}

/// Whether a failed call may work a moment later.
fn is_busy(e: &rusqlite::Error) -> bool {
    matches!(e.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// A connection that may write, and the announcement of its locks.
struct Writable {
    // Closed before the hold ends: fields are dropped in this order.
    db: Connection,
    hold: Hold,
}

impl Writable {
    fn open(place: &Place, wait: Duration) -> std::result::Result<Self, Hindrance> {
        let status = place.status("").context(|| "cannot look at the database")?;
        let missing = || Error::new(ErrorKind::NotFound, "the database disappeared");
        let hold = hold(status.ok_or_else(missing)?.id());
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW
            | OpenFlags::SQLITE_OPEN_EXRESCODE;
        let db = Connection::open_with_flags(place.path()?, flags).map_err(|e| hindrance(&e))?;
        let set = |db: &Connection| {
            db.busy_timeout(wait)?;
            db.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false)?;
            db.execute_batch("PRAGMA synchronous=FULL; PRAGMA trusted_schema=OFF; PRAGMA cache_size=-65536;")
        };
        set(&db).map_err(|e| hindrance(&e))?;
        Ok(Writable { db, hold })
    }
}

/// The main file and its log as a look found them.
pub type Found = Box<[Option<Status>; 2]>;

/// The proof that nobody has a database open; holds as long as it lives.
pub struct Closed {
    db: Option<Writable>,
    /// It had a write-ahead log.
    logged: bool,
    /// The main file and its log as they were when nobody else could write any more and we had not yet.
    pub found: Found,
}

impl Closed {
    /// Nothing stands there.
    fn nothing() -> Self {
        Closed { db: None, logged: false, found: Box::new([None; 2]) }
    }

    /// The database stays after all: it gets its kind of journal back.
    pub fn give_back(self) {
        if let Some(Writable { db, .. }) = self.db.filter(|_| self.logged) {
            // Whoever uses it next sets the mode that he wants; nothing of the content depends on it.
            let _ = db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false);
            let _ = db.query_row("PRAGMA journal_mode=WAL", [], |row| row.get::<_, String>(0));
        }
    }
}

/// How to go about it.
#[derive(Clone, Copy)]
pub struct Manner<'a> {
    /// How long to wait for somebody who keeps it locked.
    pub wait: Duration,
    pub keep_going: &'a (dyn Fn() -> Result<()> + Sync),
    /// Called once before the first page is changed, while nobody else can write; if it fails, nothing is changed.
    pub before: &'a (dyn Fn() -> Result<()> + Sync),
}

/// The answer to a look at who uses a database.
pub enum Use {
    Nobody(Closed),
    /// Somebody may have it open; where this machine tells, who.
    Somebody(String),
}

/// Asks whether anybody has the database at `place` open, and keeps others out if nobody has.
///
/// With a write-ahead log, whoever has it open holds a lock. Without one an idle connection holds none: there the answer is
/// as good as what this machine tells about open files, and a busy lock is the proof of the contrary. The log becomes part of
/// the main file, and the file one of the other kind: who comes late, having opened the file that is about to be replaced, then
/// finds that it was moved, instead of taking the log of its successor for its own.
pub fn ask(place: &Place) -> Result<Use> {
    let status = place.status("").context(|| "cannot look at the database")?;
    let Some(status) = status else { return Ok(Use::Nobody(Closed::nothing())) };
    let has_log = place.status("-wal").context(|| "cannot look at the database")?.is_some();
    let logged = has_log || place.header().context(|| "cannot open the database")?.is_some_and(|h| h.wal);
    let others = || holders(status.id());
    match exclusive(place) {
        Ok((db, found)) if logged => Ok(Use::Nobody(Closed { db: Some(db), logged, found })),
        // What SQLite cannot open nobody can be using by it.
        Ok((db, found)) => Ok(judge(&others(), Some(db), found)),
        Err(Hindrance::Unreadable) => {
            let found = files(place)?;
            Ok(judge(&Holders { complete: true, ..others() }, None, found))
        }
        Err(Hindrance::Failed(e)) if e.kind() == ErrorKind::Locked => Ok(Use::Somebody(told(&others()))),
        Err(Hindrance::Failed(e)) => Err(e),
    }
}

fn judge(others: &Holders, db: Option<Writable>, found: Found) -> Use {
    match others.complete && others.processes.is_empty() {
        true => Use::Nobody(Closed { db, logged: false, found }),
        false => Use::Somebody(told(others)),
    }
}

fn told(others: &Holders) -> String {
    match others.processes.first() {
        Some((pid, name)) => format!("process {pid} ({name}) has it open"),
        None => "another program may have it open".to_owned(),
    }
}

/// The main file and its log.
fn files(place: &Place) -> Result<Found> {
    let look = |suffix| place.status(suffix).context(|| "cannot look at the database");
    // An empty log may be one that was just made for us.
    Ok(Box::new([look("")?, look("-wal")?.filter(|log| log.size > 0)]))
}

fn exclusive(place: &Place) -> Step<(Writable, Found)> {
    // Taking the lock plays a hot journal back; that is no change, as nobody lives who could make one.
    let hot = place.start("-journal", JOURNAL_MAGIC.len()).is_ok_and(|start| start == JOURNAL_MAGIC);
    let early = files(place)?;
    let alone = early[0].map(|main| holders(main.id())).is_some_and(|h| h.complete && h.processes.is_empty());
    let writable = Writable::open(place, Duration::from_millis(50))?;
    let lock = |db: &Connection| {
        // Closing must not touch a log or journal by name: by then they may belong to the successor.
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        db.execute_batch("PRAGMA locking_mode=EXCLUSIVE; BEGIN EXCLUSIVE; COMMIT;")
    };
    lock(&writable.db).map_err(|e| hindrance(&e))?;
    // From here on nobody else can write; the next step puts the log into the main file.
    let found = if hot && alone { early } else { files(place)? };
    let fold = |db: &Connection| {
        let mode: String = db.query_row("PRAGMA journal_mode=DELETE", [], |row| row.get(0))?;
        db.execute_batch("BEGIN EXCLUSIVE; COMMIT;")?;
        Ok(mode)
    };
    match fold(&writable.db) {
        Ok(mode) if mode == "delete" => Ok((writable, found)),
        Ok(_) => Err(Hindrance::Failed(Error::new(ErrorKind::Locked, "its journal mode cannot be changed"))),
        Err(e) => Err(hindrance(&e)),
    }
}

/// Removes what stands beside a database; only while nobody has it open.
pub fn remove_companions(place: &Place, _proof: &Closed) -> Result<()> {
    for suffix in COMPANIONS {
        place.remove(suffix).context(|| format!("cannot remove the old database's {suffix} file"))?;
    }
    Ok(())
}

/// Whether the database at `place` has a write-ahead log: then its locks tell who has it open.
fn locks_tell(place: &Place) -> bool {
    place.status("-wal").is_ok_and(|log| log.is_some()) || matches!(place.header(), Ok(Some(h)) if h.wal)
}

/// What to do to bring `staged` into the place of a database.
pub enum Way {
    /// It is done: this many pages were exchanged.
    Exchanged(u32),
    /// Nobody has it open: the file can be replaced.
    Replace(Closed),
}

/// Exchanges pages where somebody has the database open, or may have; proves that nobody has otherwise.
pub fn prepare(place: &Place, staged: &mut Staged, manner: &Manner<'_>) -> Result<Way> {
    if place.status("").context(|| "cannot look at the database")?.is_none() {
        return Ok(Way::Replace(Closed::nothing()));
    }
    if locks_tell(place)
        && let Use::Nobody(closed) = ask(place)?
    {
        return Ok(Way::Replace(closed));
    }
    let why = match exchange(place, staged, manner) {
        Ok(Some(pages)) => return Ok(Way::Exchanged(pages)),
        Ok(None) => refused("it cannot be read by SQLite, so that only the whole file could be replaced"),
        Err(e) if e.kind() == ErrorKind::Refused => e,
        Err(e) => return Err(e),
    };
    match ask(place)? {
        Use::Nobody(closed) => Ok(Way::Replace(closed)),
        Use::Somebody(who) => Err(why.context(who)),
    }
}

/// Exchanges what differs from `staged`, in one transaction; `None` when what stands there is none of SQLite's, so that it
/// can only be replaced as a file.
fn exchange(place: &Place, staged: &mut Staged, manner: &Manner<'_>) -> Result<Option<u32>> {
    let start = place.start("", header::LEN).context(|| "cannot open the database")?;
    let mut wanted = vec![0; header::LEN];
    staged.read_at(0, &mut wanted)?;
    let layouts = (Layout::of(&start), Layout::of(&wanted));
    let (here, wanted) = match layouts {
        (Some(here), Some(wanted)) => (here, wanted),
        (None, _) => return Ok(None),
        (_, None) => return Err(refused("what the snapshot holds is not a database that SQLite opens")),
    };
    if here != wanted {
        let what = format!(
            "the snapshot's database {}, which cannot be changed while programs have it open; stop them and \
             try again, or restore to another place with --target",
            wanted.unlike(&here)
        );
        return Err(refused(&what));
    }
    if !can_write_pages() {
        let what = "a program has it open, and this build of SQLite cannot write single pages (ENABLE_DBPAGE_VTAB); \
                    stop the program and try again, or restore to another place with --target";
        return Err(refused(what));
    }
    let done = Writable::open(place, manner.wait).and_then(|writable| {
        let Writable { db, hold } = writable;
        let done = Exchange { place, db: &db, staged, page_size: wanted.page_size, manner }.run();
        drop(db);
        drop(hold);
        done
    });
    match done {
        Ok(pages) => Ok(Some(pages)),
        Err(Hindrance::Unreadable) => Ok(None),
        Err(Hindrance::Failed(e)) => Err(e),
    }
}

fn refused(what: &str) -> Error {
    Error::new(ErrorKind::Refused, what)
}

struct Exchange<'a> {
    place: &'a Place,
    db: &'a Connection,
    staged: &'a mut Staged,
    page_size: u32,
    manner: &'a Manner<'a>,
}

type Step<T> = std::result::Result<T, Hindrance>;

impl Exchange<'_> {
    /// Answers how many pages were written.
    fn run(&mut self) -> Step<u32> {
        self.retry("BEGIN IMMEDIATE")?;
        let before = self.version()?;
        let done = self.differing(None).and_then(|(differing, there)| {
            let wanted = self.pages();
            if differing.is_empty() && there == wanted {
                return Ok(0);
            }
            (self.manner.before)()?;
            self.write(&differing, there).map(|()| differing.len() as u32)
        });
        let count = match done {
            Ok(0) => return self.retry("ROLLBACK").map(|()| 0),
            Ok(count) => count,
            Err(e) => {
                // If this fails too, closing the connection rolls back.
                let _ = self.db.execute_batch("ROLLBACK");
                return Err(e);
            }
        };
        reach("pages-written");
        if let Err(e) = self.retry("COMMIT") {
            let _ = self.db.execute_batch("ROLLBACK");
            return Err(e);
        }
        reach("committed");
        self.verify(before)?;
        Ok(count)
    }

    fn pages(&self) -> u32 {
        (self.staged.len() / u64::from(self.page_size)) as u32
    }

    /// Somebody who reads or writes is waited for.
    fn retry(&self, statement: &str) -> Step<()> {
        let until = Instant::now() + self.manner.wait;
        loop {
            (self.manner.keep_going)()?;
            match self.db.execute_batch(statement) {
                Err(e) if is_busy(&e) && Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                done => return done.map_err(|e| hindrance(&e)),
            }
        }
    }

    /// Changes whenever another connection commits.
    fn version(&self) -> Step<i64> {
        self.db.query_row("PRAGMA data_version", [], |row| row.get(0)).map_err(|e| hindrance(&e))
    }

    /// Pages, in order, that are not what they are to become, and how many pages there are; no more than `most`.
    fn differing(&mut self, most: Option<usize>) -> Step<(Vec<u32>, u32)> {
        let size = self.page_size as usize;
        let (pages, lock) = (self.pages(), lock_page(self.page_size));
        let (mut differing, mut there) = (Vec::new(), 0);
        let mut wanted = vec![0; size];
        let mut statement =
            self.db.prepare("SELECT pgno, data FROM sqlite_dbpage").map_err(|e| hindrance(&e))?;
        let mut rows = statement.query([]).map_err(|e| hindrance(&e))?;
        while let Some(row) = rows.next().map_err(|e| hindrance(&e))? {
            let number: u32 = row.get(0).map_err(|e| hindrance(&e))?;
            there = number;
            if number.is_multiple_of(1024) {
                (self.manner.keep_going)()?;
            }
            if number > pages || number == lock {
                continue;
            }
            let at = u64::from(number - 1) * size as u64;
            self.staged.read_at(at, &mut wanted)?;
            let data = row.get_ref(1).map_err(|e| hindrance(&e))?.as_blob().unwrap_or_default();
            if !same_content(at, data, &wanted) {
                differing.push(number);
                if most.is_some_and(|most| differing.len() >= most) {
                    break;
                }
            }
        }
        differing.extend((there + 1..=pages).filter(|n| *n != lock && most.is_none()));
        Ok((differing, there))
    }

    /// The last page first, the first page last: with it SQLite sees the new schema, whose pages must be there by then. No
    /// statement that SQLite would have to prepare again, reading that schema, may come after: this connection keeps what
    /// it once understood of pages that are written under it. So the schema gets its new number at the very end.
    fn write(&mut self, differing: &[u32], there: u32) -> Step<()> {
        let size = self.page_size as usize;
        let pages = self.pages();
        let first = |row: &rusqlite::Row<'_>| row.get::<_, Vec<u8>>(0);
        let old = self.db.query_row("SELECT data FROM sqlite_dbpage WHERE pgno=1", [], first);
        let old = old.map_err(|e| hindrance(&e))?;
        let mut page = vec![0; size];
        let prepare = |sql| self.db.prepare(sql).map_err(|e| hindrance(&e));
        let mut insert = prepare("INSERT INTO sqlite_dbpage(pgno, data) VALUES (?1, ?2)")?;
        let mut cut = prepare("INSERT INTO sqlite_dbpage(pgno, data) VALUES (?1, NULL)")?;
        let others = differing.iter().rev().copied().filter(|number| *number > 1);
        for (count, number) in others.chain([1]).enumerate() {
            if count.is_multiple_of(1024) {
                (self.manner.keep_going)()?;
            }
            self.staged.read_at(u64::from(number - 1) * size as u64, &mut page)?;
            if number == 1 {
                go_on(&mut page, &old);
            }
            insert.execute(rusqlite::params![number, page]).map_err(|e| hindrance(&e))?;
            reach("page-written");
        }
        if there > pages {
            // Any page written after this would take it back.
            cut.execute([pages + 1]).map_err(|e| hindrance(&e))?;
        }
        // No connection may take the new schema for one that it knows.
        let number = i32::from_be_bytes([old[40], old[41], old[42], old[43]]).wrapping_add(1);
        self.db.execute_batch(&format!("PRAGMA schema_version={number}")).map_err(|e| hindrance(&e))
    }

    /// What stands there now is what was written, unless somebody has written again already; SQLite finds it sound. Asked
    /// by a new connection, see `write`.
    fn verify(&mut self, before: i64) -> Step<()> {
        let wrong = |why: String| {
            let what = format!("after the restore {why}; `undo` puts the state before back");
            Hindrance::Failed(Error::corrupt(what))
        };
        let writable = Writable::open(self.place, self.manner.wait)?;
        let (place, manner, page_size) = (self.place, self.manner, self.page_size);
        let mut fresh = Exchange { place, db: &writable.db, staged: self.staged, page_size, manner };
        let looked = fresh.look();
        let same = match looked {
            Ok((_, verdict)) if verdict != "ok" => return Err(wrong(format!("SQLite says: {verdict}"))),
            Ok((same, _)) => same,
            Err(Hindrance::Unreadable) => return Err(wrong("SQLite cannot read it".to_owned())),
            Err(e) => return Err(e),
        };
        // Nobody had written up to now, so not up to that look either.
        match same || self.version()? != before {
            true => Ok(()),
            false => Err(wrong("the database is not what was written".to_owned())),
        }
    }

    /// Whether one state is that which is staged, and what SQLite says of it.
    fn look(&mut self) -> Step<(bool, String)> {
        self.retry("BEGIN")?;
        let (differing, there) = self.differing(Some(1))?;
        let same = differing.is_empty() && there == self.pages();
        let verdict = self.db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0));
        let verdict = verdict.map_err(|e| hindrance(&e))?;
        self.retry("COMMIT")?;
        Ok((same, verdict))
    }
}

/// The new first page goes on where the old one was: the journal mode and all counters stay.
fn go_on(page: &mut [u8], old: &[u8]) {
    for range in PASSING {
        page[range.clone()].copy_from_slice(&old[range]);
    }
}
