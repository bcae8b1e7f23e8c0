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

#[cfg(test)]
mod tests {
    use super::*;

    fn found(rows: u64) -> Findings {
        Findings {
            depth: Depth::Full,
            verdict: Verdict::Good,
            messages: Vec::new(),
            foreign_key_violations: None,
            schema: "ab".to_owned(),
            user_version: 4,
            application_id: 0,
            tables: [("t".to_owned(), rows)].into(),
        }
    }

    fn judged(found: &Findings, facts: &DatabaseFacts) -> (bool, String) {
        let mut database = Database::default();
        judge(&mut database, found, Some(facts));
        assert!(database.compared);
        (database.failed, database.reasons.join("; "))
    }

    #[test]
    fn everything_that_was_recorded_counts() {
        let right = DatabaseFacts {
            schema: "ab".to_owned(),
            user_version: 4,
            tables: [("t".to_owned(), 7)].into(),
            ..DatabaseFacts::default()
        };
        assert_eq!(judged(&found(7), &right), (false, String::new()));
        assert_eq!(judged(&found(6), &right), (true, "table t has 6 rows, and 7 were recorded".to_owned()));
        let more = DatabaseFacts { tables: [("gone".to_owned(), 0)].into(), ..right.clone() };
        assert_eq!(judged(&found(7), &more).1, "there is no table gone");
        let other = DatabaseFacts { schema: "cd".to_owned(), user_version: 5, ..right };
        let told = judged(&found(7), &other).1;
        assert!(
            told.contains("schema is not the one") && told.contains("user_version is 4, and 5"),
            "{told}"
        );
    }
}
