//! Changes to a database in use that its owner asks for, by SQLite's own transactions.

use super::place::Place;
use super::query::quoted;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::os::held::{Hold, hold};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Instructions of SQLite's machine between two looks at the stop flag.
const STEPS: i32 = 10_000;

/// A connection that may write, and the announcement of its locks.
pub struct Live {
    // Closed before the hold ends: fields are dropped in this order.
    pub(super) db: Connection,
    _hold: Hold,
    pub(super) id: (u64, u64),
}

impl Live {
    /// Opens what is there; whoever keeps it locked is waited for. Work ends with an error once `stop` is set.
    pub fn open(path: &Path, wait: Duration, stop: Arc<AtomicBool>) -> Result<Self> {
        let place = Place::at(path)?;
        let status = place.status("").context(|| format!("cannot look at {}", path.display()))?;
        let missing = || Error::new(ErrorKind::NotFound, format!("there is no file {}", path.display()));
        let id = status.ok_or_else(missing)?.id();
        let hold = hold(id);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW
            | OpenFlags::SQLITE_OPEN_EXRESCODE;
        let mut db = Connection::open_with_flags(place.path()?, flags).map_err(|e| told(&e))?;
        prepare(&mut db, wait, stop).map_err(|e| told(&e))?;
        Ok(Live { db, _hold: hold, id })
    }

    /// Begins a transaction that nobody else can write beside.
    pub fn begin(&self) -> Result<()> {
        self.run("BEGIN IMMEDIATE")
    }

    pub(super) fn run(&self, sql: &str) -> Result<()> {
        self.db.execute_batch(sql).map_err(|e| told(&e))
    }

    pub(super) fn number(&self, sql: &str) -> Result<i64> {
        self.db.query_row(sql, [], |row| row.get(0)).map_err(|e| told(&e))
    }

    /// Bytes of all pages.
    pub fn len(&self) -> Result<u64> {
        let bytes = self.number("PRAGMA page_count")?.saturating_mul(self.number("PRAGMA page_size")?);
        Ok(bytes.unsigned_abs())
    }

    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Builds the whole file anew without gaps.
    pub fn vacuum(&self) -> Result<()> {
        self.run("VACUUM")?;
        // With a log the file gets shorter when the log is copied back. Somebody who reads an older state may keep it from that.
        let _ = self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        Ok(())
    }
}

/// Keys of others are not followed here: what goes is what was shown, and nothing that hangs on it.
fn prepare(db: &mut Connection, wait: Duration, stop: Arc<AtomicBool>) -> rusqlite::Result<()> {
    db.busy_timeout(wait)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    db.execute_batch("PRAGMA synchronous=FULL; PRAGMA trusted_schema=OFF; PRAGMA foreign_keys=OFF;")?;
    db.progress_handler(STEPS, Some(move || stop.load(Ordering::Relaxed)))
}

/// Opens or makes a database of which nothing is lost once a transaction has ended.
pub(super) fn open_or_make(path: &Path, wait: Duration, stop: Arc<AtomicBool>) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW
        | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let mut db = Connection::open_with_flags(path, flags).map_err(|e| told(&e).context(path.display()))?;
    let set = prepare(&mut db, wait, stop).and_then(|()| db.execute_batch("PRAGMA synchronous=EXTRA;"));
    set.map_err(|e| told(&e).context(path.display()))?;
    Ok(db)
}

/// Rows whose foreign key leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    pub table: String,
    /// `None` where rows have no number.
    pub row: Option<i64>,
    /// The table it should lead to.
    pub parent: String,
    /// Which of the table's foreign keys.
    pub key: i64,
}

pub(super) fn orphans(db: &Connection) -> Result<Vec<Orphan>> {
    let mut statement = db.prepare("PRAGMA main.foreign_key_check").map_err(|e| told(&e))?;
    let orphan = |row: &rusqlite::Row<'_>| {
        Ok(Orphan { table: row.get(0)?, row: row.get(1)?, parent: row.get(2)?, key: row.get(3)? })
    };
    let rows = statement.query_map([], orphan).map_err(|e| told(&e))?;
    rows.collect::<rusqlite::Result<_>>().map_err(|e| told(&e))
}

/// Where SQLite puts what it needs for a moment.
pub fn scratch_place() -> PathBuf {
    let named = ["SQLITE_TMPDIR", "TMPDIR"].into_iter().filter_map(std::env::var_os).map(PathBuf::from);
    let usual = ["/var/tmp", "/usr/tmp", "/tmp"].into_iter().map(PathBuf::from);
    named.chain(usual).find(|dir| dir.is_dir()).unwrap_or_else(|| PathBuf::from("."))
}

/// A table of the database itself, whatever else is attached.
pub(super) fn main(name: &str) -> String {
    format!("main.{}", quoted(name))
}

pub(super) fn told(e: &rusqlite::Error) -> Error {
    match e.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            let what = "another program keeps the database locked; nothing was changed. Wait for it or stop it, then try again";
            Error::new(ErrorKind::Locked, what)
        }
        Some(ErrorCode::OperationInterrupted) => {
            Error::new(ErrorKind::Cancelled, "interrupted; nothing was changed")
        }
        Some(ErrorCode::DiskFull) => {
            let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
            Error::io("SQLite cannot write", &full)
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            let what = format!(
                "the database is damaged in itself ({e}); nothing was changed. `snapkeep db recover` saves what is left"
            );
            Error::corrupt(what)
        }
        Some(ErrorCode::ConstraintViolation) => Error::new(
            ErrorKind::Refused,
            format!("the database's own rules refuse that ({e}); nothing was changed"),
        ),
        _ => Error::new(ErrorKind::Io, format!("SQLite says: {e}; nothing was changed")),
    }
}
