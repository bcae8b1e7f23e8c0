//! What a rule asks of a database: one statement that only reads, in a bounded time, and what it must answer.
//!
//! `Reading` keeps it from doing anything else: no writing, no `ATTACH`, no extensions.

use crate::error::{Error, ErrorKind, Result};
use crate::sqlite::COMPANIONS;
use crate::sqlite::query::{Reading, Value, quoted};
use std::time::Duration;

/// How long one question may take unless the rule says otherwise.
pub const TIME_MAX: Duration = Duration::from_secs(60);
/// Rows that are named where there should be none, and characters of one.
const ROWS_NAMED: usize = 5;
const ROW_LEN: usize = 200;

/// What is asked of databases.
#[derive(Debug)]
pub struct SqlCheck {
    pub select: String,
    pub wanted: Wanted,
    pub time: Duration,
}

/// What the answer must be.
#[derive(Debug)]
pub enum Wanted {
    /// One row with one value, this one.
    Equals(Value),
    /// At least one row.
    Some,
    /// No row.
    Nothing,
}

/// What came of one question.
pub enum Answer {
    Holds,
    Fails(String),
    /// It could not be asked.
    Unknown(String),
}

impl SqlCheck {
    /// Asks. An error means that nothing can be asked any more, or that the user wants to stop.
    pub fn ask(&self, reading: &Reading) -> Result<Answer> {
        reading.within(self.time);
        let (mut rows, mut count, mut columns) = (Vec::new(), 0u64, 0);
        let most = match self.wanted {
            Wanted::Some => 1,
            Wanted::Equals(_) => 2,
            Wanted::Nothing => ROWS_NAMED as u64 + 1,
        };
        let mut names = Vec::new();
        let asked = reading.ask(
            &self.select,
            &[],
            &mut |all| {
                columns = all.len();
                names = all.to_vec();
                Ok(())
            },
            &mut |row| {
                count += 1;
                if rows.len() < ROWS_NAMED {
                    rows.push(row.to_vec());
                }
                match count < most {
                    true => Ok(()),
                    // Enough is known.
                    false => Err(Error::new(ErrorKind::AlreadyExists, "enough")),
                }
            },
        );
        match asked {
            Ok(()) => {}
            Err(_) if count >= most => {}
            Err(e) if matches!(e.kind(), ErrorKind::Cancelled | ErrorKind::Locked) => return Err(e),
            Err(e) if e.kind() == ErrorKind::Corrupt => return Ok(Answer::Fails(e.message().to_owned())),
            Err(e) if e.kind() == ErrorKind::Refused => {
                let what = "the question of a rule may only read: one SELECT, VALUES or a PRAGMA that tells something";
                return Ok(Answer::Unknown(what.to_owned()));
            }
            Err(e) => return Ok(Answer::Unknown(e.message().to_owned())),
        }
        if columns == 0 {
            return Ok(Answer::Unknown("the question has no answer to look at: it is no SELECT".to_owned()));
        }
        Ok(self.judge(&names, &rows, count))
    }

    fn judge(&self, names: &[String], rows: &[Vec<Value>], count: u64) -> Answer {
        match (&self.wanted, rows) {
            (Wanted::Some, []) => {
                Answer::Fails("the question finds no row, and there should be some".to_owned())
            }
            (Wanted::Some, _) | (Wanted::Nothing, []) => Answer::Holds,
            (Wanted::Nothing, rows) => {
                let named: Vec<String> = rows.iter().map(|row| row_words(names, row)).collect();
                let more = if count > rows.len() as u64 { "; and more" } else { "" };
                Answer::Fails(format!("there should be no row, but there is {}{more}", named.join("; ")))
            }
            (Wanted::Equals(wanted), []) => {
                Answer::Fails(format!("the question finds no row, and should find {}", words(wanted)))
            }
            (Wanted::Equals(wanted), [row]) => match row.as_slice() {
                [value] if equal(value, wanted) => Answer::Holds,
                [value] => Answer::Fails(format!("it is {}, and should be {}", words(value), words(wanted))),
                _ => {
                    Answer::Unknown(format!("`equals` is for one value, and the question has {}", row.len()))
                }
            },
            (Wanted::Equals(wanted), _) => Answer::Fails(format!(
                "the question finds several rows, and should find one, {}",
                words(wanted)
            )),
        }
    }
}

/// As numbers compare in SQL; everything else only with its own kind.
fn equal(value: &Value, wanted: &Value) -> bool {
    match (value, wanted) {
        (Value::Integer(a), Value::Real(b)) | (Value::Real(b), Value::Integer(a)) => {
            // Beyond 2^53 not every integer is a real.
            *a as f64 == *b && a.unsigned_abs() <= 1 << 53
        }
        (Value::Real(a), Value::Real(b)) => a == b,
        _ => value.is(wanted),
    }
}

fn row_words(names: &[String], row: &[Value]) -> String {
    let cells = names.iter().zip(row).map(|(name, value)| format!("{name}={}", words(value)));
    let text = cells.collect::<Vec<_>>().join(", ");
    match text.chars().count() > ROW_LEN {
        true => format!("({}…)", text.chars().take(ROW_LEN).collect::<String>()),
        false => format!("({text})"),
    }
}

/// A value in few characters.
fn words(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Integer(n) => n.to_string(),
        Value::Real(n) => format!("{n:?}"),
        Value::Text(_) => {
            let text = value.lossy();
            match text.chars().count() > ROW_LEN {
                true => format!("'{}…'", text.chars().take(ROW_LEN).collect::<String>()),
                false => format!("'{text}'"),
            }
        }
        Value::Blob(bytes) => format!("a blob of {} bytes", bytes.len()),
    }
}

/// Whether a path is that of a log or journal, which is part of the database beside it.
pub fn is_companion(path: &[u8]) -> bool {
    COMPANIONS.iter().any(|suffix| path.ends_with(suffix.as_bytes()))
}

/// Tables that have rows, at most so many; or why no rules are made for this database.
pub fn filled_tables(reading: &Reading, most: usize) -> Result<std::result::Result<Vec<String>, String>> {
    reading.within(TIME_MAX);
    let told = |e: Error| match e.kind() {
        ErrorKind::Cancelled | ErrorKind::Locked => Err(e),
        _ => Ok(Err(e.message().to_owned())),
    };
    match reading.scalar("PRAGMA quick_check(1)") {
        Ok(value) if value.lossy() == "ok" => {}
        Ok(value) => return Ok(Err(format!("SQLite finds it damaged: {}", value.lossy()))),
        Err(e) => return told(e),
    }
    let names = "SELECT name FROM sqlite_schema WHERE type='table' AND rootpage>0 AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' \
                 ORDER BY name";
    let rows = match reading.all(names, &[]) {
        Ok(rows) => rows,
        Err(e) => return told(e),
    };
    let mut filled = Vec::new();
    for name in rows.iter().filter_map(|row| row.first()).map(Value::lossy) {
        match reading.scalar(&format!("SELECT 1 FROM {} LIMIT 1", quoted(&name))) {
            Ok(Value::Null) => {}
            Ok(_) if filled.len() < most => filled.push(name),
            Ok(_) => break,
            Err(e) => return told(e),
        }
    }
    Ok(Ok(filled))
}
