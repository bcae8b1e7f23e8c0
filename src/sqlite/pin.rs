//! One state of a database that stays what it is while we read it.
//!
//! | the database | how its state is held |
//! | --- | --- |
//! | has a write-ahead log that somebody may be using (`-wal` and `-shm` are there) | a read transaction that pins the log's frames |
//! | has a log, or is of the kind that would, and nobody has it open | its files are read as they are; that nobody wrote is proved by their times |
//! | has a rollback journal and is quiet | a lock proves that nobody is writing and is let go at once; that nobody wrote since is proved by the file's times |
//! | has a rollback journal and changed meanwhile | it is copied under a lock that makes writers wait for one reading |
//! | was left in the middle of a transaction | file and journal are copied and the copy is recovered |
//!
//! Connecting to a log-mode database that nobody uses would create `-wal` and `-shm` beside it, and connecting to an empty
//! file would even delete its log: in those cases SQLite is never asked.

use super::copies::{copied, copy, recovered};
use super::ffi::{Database, Which, can_pin};
use super::header::{self, Header, JOURNAL_MAGIC};
use super::image::{Files, Image, SharedImage};
use super::place::Place;
use super::scratch::Plain;
use super::wal::{self, Mark};
use crate::clock::{Clock, Timestamp};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::os::dir::Status;
use crate::os::metadata::touched_since;
use rusqlite::ErrorCode;
use std::path::Path;
use std::time::{Duration, Instant};

/// Files that were the same for this long are at rest, whatever their times say: no filesystem counts coarser.
const AT_REST: Duration = Duration::from_millis(2500);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(20);

/// How to go about it.
#[derive(Clone, Copy)]
pub struct Rules<'a> {
    /// How long to wait for somebody who keeps everybody else out.
    pub wait: Duration,
    /// Where copies go that are too large for memory.
    pub scratch: &'a Path,
    /// Copies of at most this many bytes stay in memory.
    pub memory: usize,
    pub clock: &'a dyn Clock,
    pub keep_going: &'a (dyn Fn() -> Result<()> + Sync),
    /// Hold no state that a writer could take away: the last try found that one had.
    pub firmly: bool,
    /// Whether this build of SQLite can pin a log; only tests say otherwise.
    pub can_pin: bool,
}

/// Why no state could be held.
#[derive(Debug)]
pub enum Refusal {
    /// SQLite cannot make a database of it; the reason.
    Unreadable(String),
    Failed(Error),
}

/// How a state was held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// By a read transaction on the write-ahead log.
    Log,
    /// Nobody wrote while it was read.
    Still,
    /// Copied while a lock kept writers out.
    Locked,
    /// Recovered from its journal, in a copy.
    Recovered,
    /// Copied by SQLite in one step, since this build cannot pin a log.
    Copied,
}

impl How {
    pub fn word(self) -> &'static str {
        match self {
            How::Log => "log",
            How::Still => "still",
            How::Locked => "locked",
            How::Recovered => "recovered",
            How::Copied => "copied",
        }
    }
}

/// A state held still.
pub struct Pin {
    pub image: SharedImage,
    pub how: How,
    /// Whether the database has a write-ahead log.
    pub log_mode: bool,
    /// When the state was held.
    pub at: Timestamp,
    /// The main file at that moment.
    pub main: Status,
    /// The log, where it has one.
    pub log: Option<Status>,
    /// What of the log belongs to the state.
    pub mark: Option<Mark>,
    /// Whether the main file's times were old enough to prove later that nobody wrote.
    pub settled: bool,
    place: Place,
    guard: Guard,
}

enum Guard {
    /// Nothing can happen to it.
    Firm,
    /// It is what it was as long as these are.
    Times { main: Status, log: Option<Status> },
}

impl Pin {
    /// Whether the state read so far is still that of the moment it was pinned.
    pub fn holds(&self) -> bool {
        match &self.guard {
            Guard::Firm => true,
            Guard::Times { main, log } => {
                let same = |suffix: &str, then: &Status| {
                    let now = self.place.status(suffix);
                    now.is_ok_and(|now| now.is_some_and(|now| untouched(&now, then)))
                };
                same("", main) && log.as_ref().is_none_or(|log| same("-wal", log))
            }
        }
    }

    /// Of a copy that nobody else can reach.
    pub(super) fn of_copy(image: Image, how: How, at: Timestamp, main: Status, place: &Place) -> Pin {
        let (log_mode, log, mark, settled) = (how == How::Copied, None, None, false);
        let (place, guard) = (place.clone(), Guard::Firm);
        Pin { image: image.share(), how, log_mode, at, main, log, mark, settled, place, guard }
    }

    /// The place still holds the file that was pinned.
    pub fn is_there(&self) -> bool {
        self.place.status("").is_ok_and(|now| now.is_some_and(|now| now.id() == self.main.id()))
    }

    /// When the database last changed, as far as its files tell.
    pub fn changed(&self) -> Timestamp {
        self.log.filter(|_| self.mark.is_some()).map_or(self.main.mtime, |log| log.mtime.max(self.main.mtime))
    }
}

pub(super) fn untouched(now: &Status, then: &Status) -> bool {
    (now.id(), now.size, now.mtime, now.ctime) == (then.id(), then.size, then.mtime, then.ctime)
}

/// Why one try came to nothing.
pub(super) enum Missed {
    Busy(String),
    /// A transaction was left half done: the journal must be played back first.
    Hot,
    /// Something moved under our hands.
    Moved,
    Refused(Refusal),
}

impl From<Error> for Missed {
    fn from(e: Error) -> Self {
        Missed::Refused(Refusal::Failed(e))
    }
}

pub(super) type Tried<T> = std::result::Result<T, Missed>;

fn unreadable<T>(why: &str) -> Tried<T> {
    Err(Missed::Refused(Refusal::Unreadable(why.to_owned())))
}

/// Holds the present state of the database at `place`.
pub fn pin(place: &Place, rules: &Rules<'_>) -> std::result::Result<Pin, Refusal> {
    let deadline = Instant::now() + rules.wait;
    let mut seen = None;
    loop {
        (rules.keep_going)().map_err(Refusal::Failed)?;
        let why = match attempt(place, rules, &mut seen) {
            Ok(pin) => return Ok(pin),
            Err(Missed::Refused(refusal)) => return Err(refusal),
            Err(Missed::Busy(why)) => why,
            Err(Missed::Moved | Missed::Hot) => {
                "it kept changing in ways that no database in use does".to_owned()
            }
        };
        if Instant::now() >= deadline {
            let waited = crate::units::duration(rules.wait);
            let what = format!("no consistent state of the database could be had within {waited}: {why}");
            return Err(Refusal::Failed(Error::new(ErrorKind::Locked, what)));
        }
        std::thread::sleep(PAUSE);
    }
}

/// The files as they were seen first, and when.
type Seen = Option<(Status, Option<Status>, Instant)>;

fn attempt(place: &Place, rules: &Rules<'_>, seen: &mut Seen) -> Tried<Pin> {
    let look = |suffix: &str| place.status(suffix).context(|| "cannot look at the database");
    let gone = || Error::new(ErrorKind::NotFound, "the database disappeared while it was backed up");
    let main = look("")?.ok_or_else(gone)?;
    let header = place.header().context(|| "cannot open the database")?;
    let (log, shared) = (look("-wal")?, look("-shm")?);
    if main.size == 0 {
        // Nothing is asked of SQLite here: it would take the log for a leftover and delete it.
        return at_rest(place, rules, main, log, seen);
    }
    let Some(header) = header else { return unreadable("its header is not one that SQLite reads") };
    let tried = match (header.wal || log.is_some(), log, shared) {
        (true, Some(log), Some(_)) => match live(place, rules, main, log) {
            // Its shared memory may be out of reach for us, while its files are not.
            Err(Missed::Refused(Refusal::Failed(e))) if e.kind() == ErrorKind::Refused => {
                at_rest(place, rules, main, Some(log), seen)
            }
            other => other,
        },
        (true, log, _) => at_rest(place, rules, main, log, seen),
        (false, ..) => rollback(place, rules, main),
    };
    match tried {
        Err(Missed::Hot) => recovered(place, rules, main),
        other => other,
    }
}

/// SQLite's reason to refuse, as something to do about it.
pub(super) fn missed(e: &rusqlite::Error) -> Missed {
    use rusqlite::ffi;
    let code = e.sqlite_error();
    match (e.sqlite_error_code(), code.map_or(0, |c| c.extended_code)) {
        (
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed),
            _,
        ) => Missed::Busy(
            "another program keeps it locked (in locking_mode=EXCLUSIVE, or in a long write)".to_owned(),
        ),
        (Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt), _) => {
            Missed::Refused(Refusal::Unreadable(format!("SQLite says: {e}")))
        }
        (_, ffi::SQLITE_READONLY_DBMOVED) => Missed::Moved,
        (_, ffi::SQLITE_READONLY_ROLLBACK) => Missed::Hot,
        (Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied), _) => {
            let what = format!("SQLite cannot open the database: {e}");
            Missed::Refused(Refusal::Failed(Error::new(ErrorKind::Refused, what)))
        }
        _ => Missed::Refused(Refusal::Failed(Error::new(ErrorKind::Io, format!("SQLite says: {e}")))),
    }
}

fn connect(place: &Place, main: &Status) -> Tried<Database> {
    let db = Database::open(&place.path()?, main.id()).map_err(|e| missed(&e))?;
    let set = "PRAGMA query_only=1; PRAGMA mmap_size=0; PRAGMA cache_size=-256; PRAGMA wal_autocheckpoint=0;";
    db.connection().execute_batch(set).map_err(|e| missed(&e))?;
    Ok(db)
}

/// What the connection is on must be what we looked at.
fn still_there(place: &Place, main: &Status) -> Tried<Status> {
    match place.status("").context(|| "cannot look at the database")? {
        Some(now) if now.id() == main.id() => Ok(now),
        _ => Err(Missed::Moved),
    }
}

fn ask(db: &Database, pragma: &str) -> Tried<String> {
    let text = |row: &rusqlite::Row<'_>| {
        row.get_ref(0).map(|v| match v {
            rusqlite::types::ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
            rusqlite::types::ValueRef::Integer(n) => n.to_string(),
            _ => String::new(),
        })
    };
    db.connection().query_row(&format!("PRAGMA {pragma}"), [], text).map_err(|e| missed(&e))
}

struct Live(Database);

impl Files for Live {
    fn read_main(&mut self, at: u64, out: &mut [u8]) -> Result<()> {
        self.0.read(Which::Main, at, out)
    }

    fn read_wal(&mut self, at: u64, out: &mut [u8]) -> Result<()> {
        self.0.read(Which::Wal, at, out)
    }
}

/// A database whose log others may be writing.
fn live(place: &Place, rules: &Rules<'_>, main: Status, log: Status) -> Tried<Pin> {
    let db = connect(place, &main)?;
    // A first reading opens the log; only then does pinning keep its frames (an ordinary reader may ignore a log that has
    // been copied back whole, and then nothing keeps it from being overwritten).
    if ask(&db, "journal_mode")? != "wal" {
        return Err(Missed::Moved);
    }
    still_there(place, &main)?;
    if place.status("-wal").context(|| "cannot look at the log")?.is_none_or(|now| now.id() != log.id()) {
        return tidy(place, db, log);
    }
    if !(rules.can_pin && can_pin()) {
        return copied(place, rules, &db, main);
    }
    db.connection().execute_batch("BEGIN").map_err(|e| missed(&e))?;
    let mark = db.pin().map_err(|e| missed(&e))?.filter(|mark| mark.frames > 0);
    ask(&db, "user_version")?;
    let at = rules.clock.now();
    let main = still_there(place, &main)?;
    let settled = !touched_since(main.mtime.max(main.ctime), at);
    let log_len = db.len(Which::Wal)?;
    let main_len = db.len(Which::Main)?;
    let mut files = Live(db);
    let wal = match &mark {
        Some(mark) => wal::read(&mut files, log_len, Some(mark))?,
        None => None,
    };
    let (page_size, pages) = match &mark {
        Some(mark) => (mark.page_size, mark.pages),
        None => extent(&mut files, main_len)?,
    };
    let image = Image::new(page_size, pages, Box::new(files), wal);
    let log = place.status("-wal").ok().flatten();
    let guard = Guard::Firm;
    Ok(Pin {
        image: image.share(),
        how: How::Log,
        log_mode: true,
        at,
        main,
        log,
        mark,
        settled,
        place: place.clone(),
        guard,
    })
}

/// Page size and number of pages by the main file alone.
pub(super) fn extent(files: &mut dyn Files, len: u64) -> Tried<(u32, u32)> {
    let mut bytes = [0; header::LEN];
    files.read_main(0, &mut bytes)?;
    let Some(header) = Header::parse(&bytes) else {
        return unreadable("its header is not one that SQLite reads");
    };
    match header.pages(len) {
        Some(pages) => Ok((header.page_size, pages)),
        None => unreadable("the file is shorter than its header says"),
    }
}

/// The last user left while we connected, and SQLite made a new, empty log for us: let SQLite itself take it away again,
/// which it does only if nobody else came.
fn tidy(place: &Place, db: Database, log: Status) -> Tried<Pin> {
    drop(db);
    if place.status("-wal").is_ok_and(|now| now.is_some_and(|now| now.size == 0 && now.id() != log.id())) {
        sweep(place)?;
    }
    Err(Missed::Moved)
}

/// Removes an empty log and its shared memory as the last connection does that leaves.
pub fn sweep(place: &Place) -> Result<()> {
    let failed = |e: rusqlite::Error| Error::new(ErrorKind::Io, format!("cannot close the database: {e}"));
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE
        | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX
        | rusqlite::OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let main = place.status("").context(|| "cannot look at the database")?;
    let Some(main) = main.filter(|main| main.size > 0) else { return Ok(()) };
    let hold = crate::os::held::hold(main.id());
    let db = rusqlite::Connection::open_with_flags(place.path()?, flags).map_err(failed)?;
    let _: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
    db.close().map_err(|(_, e)| failed(e))?;
    drop(hold);
    Ok(())
}

/// A database with a log that nobody uses: read as it lies, by our own reading of the log.
fn at_rest(
    place: &Place,
    rules: &Rules<'_>,
    main: Status,
    log: Option<Status>,
    seen: &mut Seen,
) -> Tried<Pin> {
    let at = rules.clock.now();
    let fresh = |status: &Status| touched_since(status.mtime.max(status.ctime), at);
    let (first_main, first_log, since) = *seen.get_or_insert((main, log, Instant::now()));
    let same = untouched(&main, &first_main)
        && match (&log, &first_log) {
            (Some(now), Some(then)) => untouched(now, then),
            (None, None) => true,
            _ => false,
        };
    if !same {
        *seen = None;
        return Err(Missed::Moved);
    }
    let settled = !fresh(&main);
    // What was written in this tick of the clock could be written again without a trace.
    if (!settled || log.as_ref().is_some_and(fresh)) && since.elapsed() < AT_REST {
        return Err(Missed::Busy("its files were changed a moment ago".to_owned()));
    }
    let open = |suffix: &str| place.open(suffix).context(|| "cannot open the database");
    if place.start("-journal", JOURNAL_MAGIC.len()).is_ok_and(|start| start == JOURNAL_MAGIC) {
        // Somebody died while he was changing the kind of journal.
        return Err(Missed::Hot);
    }
    let log = log.filter(|log| log.size > 0);
    let mut files = Plain { main: open("")?, wal: log.map(|_| open("-wal")).transpose()? };
    let wal = match log {
        Some(log) => wal::read(&mut files, log.size, None)?,
        None => None,
    };
    let mark = wal.as_ref().map(|wal| wal.mark);
    let (page_size, pages) = match &wal {
        Some(wal) if main.size == 0 && !wal.is_complete() => {
            return unreadable("the file is empty and its write-ahead log holds only a part");
        }
        Some(wal) => (wal.mark.page_size, wal.mark.pages),
        None if main.size == 0 => {
            return unreadable("the file is empty and its write-ahead log says nothing");
        }
        None => extent(&mut files, main.size)?,
    };
    let image = Image::new(page_size, pages, Box::new(files), wal);
    let guard = Guard::Times { main, log };
    let place = place.clone();
    let pin = Pin {
        image: image.share(),
        how: How::Still,
        log_mode: true,
        at,
        main,
        log,
        mark,
        settled,
        place,
        guard,
    };
    // What was opened must be what was looked at.
    if pin.holds() { Ok(pin) } else { Err(Missed::Moved) }
}

/// A database with a rollback journal.
fn rollback(place: &Place, rules: &Rules<'_>, main: Status) -> Tried<Pin> {
    let db = connect(place, &main)?;
    db.connection().execute_batch("BEGIN").map_err(|e| missed(&e))?;
    ask(&db, "user_version")?;
    // From here to the end of the transaction nobody writes to the file.
    let main = still_there(place, &main)?;
    if ask(&db, "journal_mode")? == "wal" {
        return Err(Missed::Moved);
    }
    let at = rules.clock.now();
    let settled = !touched_since(main.mtime.max(main.ctime), at);
    let len = db.len(Which::Main)?;
    let mut files = Live(db);
    let (page_size, pages) = extent(&mut files, len)?;
    let gentle = settled && !rules.firmly && !place.is_remote();
    let (image, how, guard) = if gentle {
        files.0.connection().execute_batch("COMMIT").map_err(|e| missed(&e))?;
        let image = Image::new(page_size, pages, Box::new(files), None);
        (image, How::Still, Guard::Times { main, log: None })
    } else {
        let mut locked = Image::new(page_size, pages, Box::new(files), None);
        let spool = copy(&mut locked, rules)?;
        drop(locked);
        (Image::new(page_size, pages, Box::new(spool), None), How::Locked, Guard::Firm)
    };
    let place = place.clone();
    Ok(Pin {
        image: image.share(),
        how,
        log_mode: false,
        at,
        main,
        log: None,
        mark: None,
        settled,
        place,
        guard,
    })
}
