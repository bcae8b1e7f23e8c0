//! Questions to a database that nothing can change, from people and from programs: one statement at a time, rows as they come.
//!
//! What is asked may come from anywhere, and so may the database. Three walls keep it from doing anything but reading this one
//! database: the file system below it knows no other file and cannot write (`ffi`), the authorizer refuses what leads
//! elsewhere (`ATTACH`, extensions, most pragmas), and a statement that SQLite itself does not call read-only is not run.

use super::ffi::Opened;
use crate::error::{Error, ErrorKind, Result};
use rusqlite::config::DbConfig;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, Statement, ToSql};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// One value of a row, exactly as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Integer(i64),
    Real(f64),
    /// In UTF-8, unless the database holds what is none.
    Text(Vec<u8>),
    Blob(Vec<u8>),
}

impl Value {
    pub fn text(text: &str) -> Self {
        Value::Text(text.as_bytes().to_vec())
    }

    pub(super) fn of(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Null => Value::Null,
            ValueRef::Integer(n) => Value::Integer(n),
            ValueRef::Real(n) => Value::Real(n),
            ValueRef::Text(bytes) => Value::Text(bytes.to_vec()),
            ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
        }
    }

    /// Whether this is that value, of the same kind and bit for bit.
    pub fn is(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Real(a), Value::Real(b)) => a.to_bits() == b.to_bits(),
            _ => self == other,
        }
    }

    pub fn as_integer(&self) -> Option<i64> {
        match self {
            Value::Integer(n) => Some(*n),
            _ => None,
        }
    }

    /// Text as it can be shown; empty for what is none.
    pub fn lossy(&self) -> String {
        match self {
            Value::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            _ => String::new(),
        }
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Value::Null => ValueRef::Null,
            Value::Integer(n) => ValueRef::Integer(*n),
            Value::Real(n) => ValueRef::Real(*n),
            Value::Text(bytes) => ValueRef::Text(bytes),
            Value::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

/// Instructions of SQLite's machine between two looks at the stop flag.
const STEPS: i32 = 10_000;

/// Pragmas that only tell something.
const TELLING: &[&str] = &[
    "application_id",
    "auto_vacuum",
    "collation_list",
    "compile_options",
    "data_version",
    "database_list",
    "encoding",
    "foreign_key_check",
    "foreign_key_list",
    "freelist_count",
    "function_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "module_list",
    "page_count",
    "page_size",
    "pragma_list",
    "quick_check",
    "schema_version",
    "table_info",
    "table_list",
    "table_xinfo",
    "user_version",
];
/// Those among them whose argument names what to tell of; any other argument would change something.
const NAMING: &[&str] = &[
    "foreign_key_check",
    "foreign_key_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "quick_check",
    "table_info",
    "table_list",
    "table_xinfo",
];

fn may(action: &AuthAction<'_>) -> bool {
    match action {
        AuthAction::Select | AuthAction::Read { .. } | AuthAction::Recursive => true,
        AuthAction::Function { function_name } => !function_name.eq_ignore_ascii_case("load_extension"),
        AuthAction::Pragma { pragma_name, pragma_value } => {
            let has = |list: &[&str]| list.iter().any(|name| name.eq_ignore_ascii_case(pragma_name));
            has(TELLING) && (pragma_value.is_none() || has(NAMING))
        }
        // Modules of virtual tables prepare such statements whether or not they will be needed. A statement of the user's
        // that writes is refused as not being read-only, and nothing can write to this file.
        AuthAction::Insert { .. } | AuthAction::Update { .. } | AuthAction::Delete { .. } => true,
        _ => false,
    }
}

/// A database held open for questions.
pub struct Reading {
    opened: Opened,
    stop: Arc<AtomicBool>,
    begun: Instant,
    /// Milliseconds after `begun` at which a question ends with an error.
    until: Arc<AtomicU64>,
}

impl Reading {
    /// Questions end with an error once `stop` is set.
    pub fn new(mut opened: Opened, stop: Arc<AtomicBool>) -> Result<Self> {
        let (begun, until) = (Instant::now(), Arc::new(AtomicU64::new(u64::MAX)));
        let (flag, end) = (Arc::clone(&stop), Arc::clone(&until));
        let late = move || begun.elapsed().as_millis() > u128::from(end.load(Ordering::Relaxed));
        let db = &mut opened.connection;
        let ready = db
            .set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)
            .and_then(|_| {
                db.execute_batch(
                    "PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON; PRAGMA temp_store=MEMORY; PRAGMA cache_size=-8192;",
                )
            })
            .and_then(|()| db.progress_handler(STEPS, Some(move || flag.load(Ordering::Relaxed) || late())))
            .and_then(|()| {
                db.authorizer(Some(|context: AuthContext<'_>| match may(&context.action) {
                    true => Authorization::Allow,
                    false => Authorization::Deny,
                }))
            });
        let reading = Reading { opened, stop, begun, until };
        match ready {
            // Nothing has been read of the file so far.
            Ok(()) => reading.scalar("PRAGMA schema_version").map(|_| ()).and(Ok(reading)),
            Err(e) => Err(reading.failed(e)),
        }
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.opened.connection
    }

    /// What is asked from now on must be answered within `span`.
    pub fn within(&self, span: Duration) {
        let end = self.begun.elapsed().saturating_add(span).as_millis();
        self.until.store(u64::try_from(end).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Bytes that were read of the file so far.
    pub fn bytes_read(&self) -> u64 {
        self.opened.bytes_read()
    }

    /// What SQLite's complaint means here: damage of what is stored, the wish to stop, a wrong question.
    pub(super) fn failed(&self, e: rusqlite::Error) -> Error {
        if let Some(why) = self.opened.failure() {
            return why;
        }
        if self.stop.load(Ordering::Relaxed) {
            return Error::new(ErrorKind::Cancelled, "interrupted");
        }
        match e.sqlite_error_code() {
            Some(ErrorCode::OperationInterrupted) => {
                Error::new(ErrorKind::Unsupported, "the question took longer than it may")
            }
            Some(ErrorCode::NotADatabase) => {
                Error::new(ErrorKind::Unsupported, "this is no SQLite database, or an encrypted one")
            }
            Some(ErrorCode::DatabaseCorrupt) => {
                Error::corrupt(format!("the database is damaged in itself: {}", said(&e)))
            }
            Some(ErrorCode::AuthorizationForStatementDenied) => refused(),
            Some(ErrorCode::OutOfMemory) => Error::new(
                ErrorKind::Io,
                "the question needs more memory than it may have: sort or group less at a time, or give it more with --memory",
            ),
            Some(ErrorCode::ReadOnly) => refused(),
            Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => {
                Error::new(ErrorKind::Io, format!("SQLite says: {}", said(&e)))
            }
            _ => Error::invalid(format!("SQLite says: {}", said(&e))),
        }
    }

    /// A statement that only reads.
    pub(super) fn prepare(&self, sql: &str) -> Result<Statement<'_>> {
        let statement = match self.connection().prepare(sql) {
            Ok(statement) => statement,
            Err(rusqlite::Error::MultipleStatement) => {
                return Err(Error::invalid("there is more than one statement; ask them one at a time"));
            }
            Err(e) => return Err(self.failed(e)),
        };
        match statement.readonly() {
            true => Ok(statement),
            false => Err(refused()),
        }
    }

    /// Asks one statement: `columns` hears their names, `each` every row.
    pub fn ask(
        &self,
        sql: &str,
        values: &[Value],
        columns: &mut dyn FnMut(&[String]) -> Result<()>,
        each: &mut dyn FnMut(&[Value]) -> Result<()>,
    ) -> Result<()> {
        let mut statement = self.prepare(sql)?;
        let count = statement.column_count();
        if count == 0 && statement.expanded_sql().is_none_or(|sql| sql.trim().is_empty()) {
            return Err(Error::invalid("there is no statement to ask"));
        }
        columns(&statement.column_names().map(str::to_owned).collect::<Vec<_>>())?;
        let mut rows = statement.query(rusqlite::params_from_iter(values)).map_err(|e| self.failed(e))?;
        let mut row = Vec::with_capacity(count);
        while let Some(found) = rows.next().map_err(|e| self.failed(e))? {
            row.clear();
            for column in 0..count {
                row.push(Value::of(found.get_ref(column).map_err(|e| self.failed(e))?));
            }
            each(&row)?;
        }
        Ok(())
    }

    /// All rows of a short answer.
    pub fn all(&self, sql: &str, values: &[Value]) -> Result<Vec<Vec<Value>>> {
        let mut rows = Vec::new();
        self.ask(sql, values, &mut |_| Ok(()), &mut |row| {
            rows.push(row.to_vec());
            Ok(())
        })?;
        Ok(rows)
    }

    /// The first value of the first row.
    pub fn scalar(&self, sql: &str) -> Result<Value> {
        let mut rows = self.all(sql, &[])?;
        Ok(rows
            .first_mut()
            .and_then(|row| row.first_mut())
            .map_or(Value::Null, |v| std::mem::replace(v, Value::Null)))
    }
}

fn refused() -> Error {
    Error::new(
        ErrorKind::Refused,
        "a stored database can only be read: one SELECT, EXPLAIN, VALUES or a PRAGMA that tells something (to change it, \
         restore it first)",
    )
}

/// SQLite's own words.
fn said(e: &rusqlite::Error) -> String {
    match e {
        rusqlite::Error::SqliteFailure(_, Some(words)) => words.clone(),
        rusqlite::Error::SqlInputError { msg, sql, offset, .. } => {
            let at = usize::try_from(*offset).ok().and_then(|at| sql.get(at..)).unwrap_or_default();
            match at.split_whitespace().next() {
                Some(word) if !msg.contains(word) => format!("{msg}, at `{word}`"),
                _ => msg.clone(),
            }
        }
        other => other.to_string(),
    }
}

/// Bounds the memory of everything SQLite does in this program.
pub fn limit_memory(bytes: u64) -> Result<()> {
    let failed = |e: rusqlite::Error| Error::new(ErrorKind::Io, format!("SQLite cannot be set up: {e}"));
    let db = Connection::open_in_memory().map_err(failed)?;
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    db.query_row(&format!("PRAGMA hard_heap_limit={bytes}"), [], |_| Ok(())).map_err(failed)
}

/// An identifier as SQL writes it.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Reals written so that SQLite reads the same number again.
pub struct Reals {
    db: Connection,
}

impl Reals {
    pub fn new() -> Result<Self> {
        let db = Connection::open_in_memory()
            .map_err(|e| Error::new(ErrorKind::Io, format!("SQLite cannot be set up: {e}")))?;
        Ok(Reals { db })
    }

    pub fn write(&self, number: f64) -> Result<String> {
        if number.is_infinite() {
            return Ok(if number > 0.0 { "9e999" } else { "-9e999" }.to_owned());
        }
        for text in [format!("{number:?}"), format!("{number:.17e}"), format!("{number:.20e}")] {
            let read = self.db.query_row("SELECT CAST(?1 AS REAL)", [&text], |row| row.get::<_, f64>(0));
            if read.is_ok_and(|read| read.to_bits() == number.to_bits()) {
                return Ok(text);
            }
        }
        Err(Error::new(
            ErrorKind::Unsupported,
            format!("the number {number:?} cannot be written as text without a loss"),
        ))
    }
}
