//! Databases in the restored tree: opened as whatever uses them would, checked, compared with what was recorded.

use super::Database;
use crate::clock::SystemClock;
use crate::compare::rows::with_live;
use crate::error::{ErrorKind, Result};
use crate::format::snapshot::DatabaseFacts;
use crate::progress::Progress;
use crate::sqlite::check::{Depth, Findings, Verdict, check};
use std::path::Path;

/// Reasons told of one database.
const REASONS_MAX: usize = 20;

/// Opens the database at `place`, which is stored as `path`.
pub fn examine(
    place: &Path,
    path: &[u8],
    facts: Option<&DatabaseFacts>,
    depth: Depth,
    (scratch, progress): (&Path, &Progress),
) -> Result<Database> {
    progress.set_current(path);
    let found = with_live(place, scratch, &SystemClock, progress, &mut |pin| {
        check(Box::new(pin.image.clone()), depth, progress.stop_flag())
    });
    let mut database = Database { path: path.to_vec(), ..Database::default() };
    match found {
        Ok(found) => judge(&mut database, &found, facts),
        Err(e) if e.kind() == ErrorKind::Cancelled || e.is_disk_full() => return Err(e),
        Err(e) => {
            database.failed = true;
            database.reasons.push(format!("it cannot be opened: {e}"));
        }
    }
    database.reasons.truncate(REASONS_MAX);
    Ok(database)
}

fn judge(database: &mut Database, found: &Findings, facts: Option<&DatabaseFacts>) {
    database.tables = found.tables.len() as u64;
    database.rows = found.tables.values().fold(0u64, |sum, n| sum.saturating_add(*n));
    match found.verdict {
        Verdict::Good => {}
        Verdict::Bad => {
            database.failed = true;
            database.reasons.push(format!("SQLite finds it damaged: {}", found.messages.join("; ")));
        }
        Verdict::Unknown => {
            database.unknown = true;
            database.reasons.push(format!("SQLite could not judge it: {}", found.messages.join("; ")));
        }
    }
    let Some(facts) = facts else { return };
    database.compared = true;
    let mut differ = |what: String| {
        database.failed = true;
        database.reasons.push(what);
    };
    if !facts.schema.is_empty() && !found.schema.is_empty() && facts.schema != found.schema {
        differ("its schema is not the one that was recorded".to_owned());
    }
    for (name, here, recorded) in [
        ("user_version", found.user_version, facts.user_version),
        ("application_id", found.application_id, facts.application_id),
    ] {
        if here != recorded {
            differ(format!("{name} is {here}, and {recorded} was recorded"));
        }
    }
    for (table, recorded) in &facts.tables {
        match found.tables.get(table) {
            Some(here) if here == recorded => {}
            Some(here) => differ(format!("table {table} has {here} rows, and {recorded} were recorded")),
            // Where SQLite could not count, it has said so.
            None if found.verdict == Verdict::Good => differ(format!("there is no table {table}")),
            None => {}
        }
    }
}
