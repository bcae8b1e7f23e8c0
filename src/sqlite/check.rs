//! Is an image sound, and what is in it: asked of SQLite, on exactly the pages that were captured.

use super::ffi::{Opened, open_bytes};
use super::image::Bytes;
use crate::crypto::hash;
use crate::error::{Error, Result};
use crate::id::hex;
use rusqlite::{Connection, ErrorCode};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How much to check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// `integrity_check`: every page, every index entry against its row.
    Full,
    /// `quick_check`: the same without comparing indexes with tables.
    Quick,
    /// Nothing but what the schema says.
    Off,
}

/// What a check came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Good,
    Bad,
    /// Not asked for, or SQLite could not carry it out (an extension is missing).
    Unknown,
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Findings {
    pub depth: Depth,
    pub verdict: Verdict,
    /// SQLite's words about what is wrong, or why there is no verdict; a few of them.
    pub messages: Vec<String>,
    /// Rows whose foreign key leads nowhere; `None` where that could not be asked.
    pub foreign_key_violations: Option<u64>,
    /// Of all `CREATE` statements, 32 hex digits; empty when they cannot be read.
    pub schema: String,
    pub user_version: i32,
    pub application_id: i32,
    /// Rows of each table.
    pub tables: BTreeMap<String, u64>,
}

/// Messages kept, and the length of each.
const MESSAGES_MAX: usize = 10;
const MESSAGE_LEN: usize = 300;
/// Instructions of SQLite's machine between two looks at the stop flag.
const STEPS: i32 = 50_000;

impl Findings {
    fn new(depth: Depth) -> Self {
        Findings {
            depth,
            verdict: Verdict::Unknown,
            messages: Vec::new(),
            foreign_key_violations: None,
            schema: String::new(),
            user_version: 0,
            application_id: 0,
            tables: BTreeMap::new(),
        }
    }

    fn note(&mut self, message: &str) {
        if self.messages.len() < MESSAGES_MAX {
            self.messages.push(message.chars().filter(|c| !c.is_control()).take(MESSAGE_LEN).collect());
        }
    }

    /// Something SQLite could not do: a sign of damage, or of something it lacks.
    fn trouble(&mut self, what: &str, e: &rusqlite::Error) {
        let damaged =
            matches!(e.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase));
        if damaged {
            self.verdict = Verdict::Bad;
        } else if self.verdict == Verdict::Good {
            self.verdict = Verdict::Unknown;
        }
        self.note(&format!("{what}: {e}"));
    }
}

/// Checks an image. An error means that it could not be read, or that `stop` was set; a bad image is a finding.
pub fn check(bytes: Box<dyn Bytes>, depth: Depth, stop: Arc<AtomicBool>) -> Result<Findings> {
    let mut findings = Findings::new(depth);
    if bytes.is_empty() {
        // A database without a page is one without tables.
        findings.verdict = if depth == Depth::Off { Verdict::Unknown } else { Verdict::Good };
        return Ok(findings);
    }
    let mut opened = open_bytes(bytes)?;
    let flag = Arc::clone(&stop);
    let handler = move || flag.load(Ordering::Relaxed);
    let prepared =
        prepare(&opened.connection).and_then(|()| opened.connection.progress_handler(STEPS, Some(handler)));
    match prepared {
        Ok(()) => ask(&opened, depth, &mut findings),
        Err(e) => {
            findings.verdict = Verdict::Bad;
            findings.trouble("it cannot be opened", &e);
        }
    }
    if stop.load(Ordering::Relaxed) {
        return Err(Error::new(crate::error::ErrorKind::Cancelled, "interrupted"));
    }
    match opened.failure() {
        Some(e) => Err(e),
        None => Ok(findings),
    }
}

fn prepare(db: &Connection) -> rusqlite::Result<()> {
    db.execute_batch(
        "PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON; PRAGMA temp_store=MEMORY; PRAGMA cache_size=-16384;",
    )
}

fn ask(opened: &Opened, depth: Depth, findings: &mut Findings) {
    let db = &opened.connection;
    let pragma = |name: &str| db.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i32>(0));
    match pragma("user_version").and_then(|user| Ok((user, pragma("application_id")?))) {
        Ok((user, application)) => {
            (findings.user_version, findings.application_id) = (user, application);
        }
        Err(e) => return findings.trouble("its first page cannot be read", &e),
    }
    if depth != Depth::Off {
        findings.verdict = Verdict::Good;
        integrity(db, depth, findings);
    }
    match schema(db) {
        Ok(schema) => findings.schema = schema,
        Err(e) => return findings.trouble("its schema cannot be read", &e),
    }
    if depth == Depth::Off {
        return;
    }
    match violations(db) {
        Ok(count) => findings.foreign_key_violations = Some(count),
        // Rows that break a key are the application's business, and so is a key that SQLite cannot follow.
        Err(e) if e.sqlite_error_code() == Some(ErrorCode::Unknown) => {
            findings.note(&format!("foreign_key_check: {e}"));
        }
        Err(e) => findings.trouble("foreign_key_check", &e),
    }
    match tables(db) {
        Ok(tables) => findings.tables = tables,
        Err(e) => findings.trouble("its rows cannot be counted", &e),
    }
}

fn integrity(db: &Connection, depth: Depth, findings: &mut Findings) {
    let name = if depth == Depth::Full { "integrity_check" } else { "quick_check" };
    let result = db.prepare(&format!("PRAGMA {name}({MESSAGES_MAX})")).and_then(|mut statement| {
        let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
        rows.collect::<rusqlite::Result<Vec<String>>>()
    });
    match result {
        Ok(rows) if rows == ["ok"] => {}
        Ok(rows) => {
            findings.verdict = Verdict::Bad;
            for row in rows.iter().flat_map(|row| row.lines()) {
                findings.note(row);
            }
        }
        Err(e) => findings.trouble(name, &e),
    }
}

/// A hash over all `CREATE` statements.
fn schema(db: &Connection) -> rusqlite::Result<String> {
    let mut statement =
        db.prepare("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name, sql")?;
    let mut rows = statement.query([])?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        for column in 0..4 {
            let text = row.get_ref(column)?.as_bytes_or_null().unwrap_or_default().unwrap_or_default();
            all.extend_from_slice(&(text.len() as u64).to_le_bytes());
            all.extend_from_slice(text);
        }
    }
    Ok(hex(&hash::plain(&all)[..16]))
}

fn violations(db: &Connection) -> rusqlite::Result<u64> {
    let mut statement = db.prepare("PRAGMA foreign_key_check")?;
    let mut rows = statement.query([])?;
    let mut count = 0;
    while rows.next()?.is_some() {
        count += 1;
    }
    Ok(count)
}

fn tables(db: &Connection) -> rusqlite::Result<BTreeMap<String, u64>> {
    let mut statement = db.prepare(
        "SELECT name FROM sqlite_schema WHERE type='table' AND rootpage>0 AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
    )?;
    let names =
        statement.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
    let mut counts = BTreeMap::new();
    for name in names {
        let sql = format!("SELECT count(*) FROM \"{}\"", name.replace('"', "\"\""));
        let count: i64 = db.query_row(&sql, [], |row| row.get(0))?;
        counts.insert(name, count.unsigned_abs());
    }
    Ok(counts)
}
