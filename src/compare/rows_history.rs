//! One table, or one row of it, over many snapshots of its database: a line for each time it changed.

use super::diff::same_content;
use super::rows::{Version, pair, scopes};
use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::Entry;
use crate::id::SnapshotId;
use crate::manifest::walk::find;
use crate::progress::Progress;
use crate::repository::reader::Reader;
use crate::repository::snapshots::Listed;
use crate::sqlite::query::{Reading, Value, quoted};
use crate::sqlite::rows::{Counts, Scope};
use crate::sqlite::schema::{Object, Table, named, objects, table};
use std::sync::Arc;

/// What to follow.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    pub table: &'a str,
    /// The values of the primary key of one row, or its number.
    pub key: Option<&'a [String]>,
}

/// A row with its columns.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub columns: Vec<String>,
    pub values: Vec<Value>,
}

/// What a snapshot says.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// How many rows there are, and what became of them since the version before.
    Table {
        rows: u64,
        since: Option<Counts>,
        schema_changed: bool,
    },
    Row(Row),
    /// The row, the table or the database is not there.
    Absent,
    Unreadable(String),
}

/// A state, and the snapshots in a row that have it.
#[derive(Clone, Debug, PartialEq)]
pub struct RowVersion {
    pub snapshot: SnapshotId,
    pub time: String,
    pub hostname: String,
    pub last_snapshot: SnapshotId,
    pub last_time: String,
    pub snapshots: u64,
    pub state: State,
}

/// What was looked at last.
struct Seen {
    entry: Entry,
    state: State,
}

/// Whether the table was ever there.
#[derive(Default)]
struct Search {
    found: bool,
    why_not: Option<Error>,
}

/// The versions in `snapshots`, which come oldest first; nothing is told before the table first appears.
pub fn run(
    reader: &Arc<Reader>,
    snapshots: &[Listed],
    path: &[u8],
    wish: Wish<'_>,
    progress: &Progress,
) -> Result<Vec<RowVersion>> {
    let mut versions: Vec<RowVersion> = Vec::new();
    let mut seen: Option<Seen> = None;
    let mut search = Search::default();
    for listed in snapshots {
        progress.keep_going()?;
        let looked = find(reader, &listed.root, path).and_then(|entry| {
            let Some(entry) = entry.filter(Entry::is_file) else { return Ok(None) };
            let state = look(reader, seen.as_ref(), &entry, wish, progress, &mut search)?;
            Ok(Some(Seen { entry, state }))
        });
        let (state, changed) = match looked {
            Ok(Some(now)) => {
                let changed = seen.as_ref().is_none_or(|before| is_new(&before.state, &now.state));
                let state = now.state.clone();
                // The base of the next comparison is what stands here, whether or not it is a new version.
                seen = Some(now);
                (state, changed)
            }
            Ok(None) => (State::Absent, true),
            Err(e) if e.kind().is_unreadable() => (State::Unreadable(e.message().to_owned()), true),
            Err(e) => return Err(e),
        };
        add(&mut versions, listed, state, changed);
    }
    match search.why_not {
        Some(why) if versions.is_empty() && !search.found => Err(why),
        _ => Ok(versions),
    }
}

fn is_new(before: &State, now: &State) -> bool {
    match (before, now) {
        (_, State::Table { since: Some(counts), schema_changed, .. }) => {
            !counts.is_empty() || *schema_changed
        }
        (State::Row(x), State::Row(y)) => {
            x.columns != y.columns || !x.values.iter().zip(&y.values).all(|(x, y)| x.is(y))
        }
        _ => before != now,
    }
}

fn add(versions: &mut Vec<RowVersion>, listed: &Listed, state: State, changed: bool) {
    let absent = state == State::Absent;
    if versions.is_empty() && absent {
        return;
    }
    if let Some(last) = versions.last_mut() {
        let told = matches!(last.state, State::Table { .. } | State::Row(_));
        if if absent { last.state == State::Absent } else { told && !changed } {
            (last.last_snapshot, last.last_time) = (listed.id, listed.record.time.clone());
            last.snapshots += 1;
            return;
        }
    }
    let (time, hostname) = (listed.record.time.clone(), listed.record.hostname.clone());
    let (snapshot, last_time) = (listed.id, time.clone());
    versions.push(RowVersion {
        snapshot,
        time,
        hostname,
        last_snapshot: snapshot,
        last_time,
        snapshots: 1,
        state,
    });
}

fn look(
    reader: &Arc<Reader>,
    before: Option<&Seen>,
    entry: &Entry,
    wish: Wish<'_>,
    progress: &Progress,
    search: &mut Search,
) -> Result<State> {
    if let Some(before) = before
        && same_content(reader, &before.entry.content, &entry.content)?
    {
        return Ok(match &before.state {
            State::Table { rows, .. } => {
                State::Table { rows: *rows, since: Some(Counts::default()), schema_changed: false }
            }
            other => other.clone(),
        });
    }
    let reading = Version::Stored(entry).open(reader, progress)?;
    let all = objects(&reading)?;
    let object = match named(&all, wish.table) {
        Ok(object) if object.holds_rows() => object,
        Ok(object) => {
            let what = format!("`{}` is a virtual table; ask for the tables that belong to it", object.name);
            return Err(Error::new(ErrorKind::Invalid, what));
        }
        Err(why) => {
            search.why_not = Some(why);
            return Ok(State::Absent);
        }
    };
    search.found = true;
    let about = table(&reading, object)?;
    if let Some(key) = wish.key {
        return Ok(row(&reading, &about, key)?.map_or(State::Absent, State::Row));
    }
    let count = reading.scalar(&format!("SELECT count(*) FROM {}", quoted(&object.name)))?;
    let rows = count.as_integer().unwrap_or(0).unsigned_abs();
    let base = before.filter(|before| matches!(before.state, State::Table { .. }));
    let (since, schema_changed) = match base {
        Some(base) => {
            let (old, new) = (Version::Stored(&base.entry), Version::Stored(entry));
            drop(reading);
            changes(reader, old, new, object, progress)?
        }
        None => (None, false),
    };
    Ok(State::Table { rows, since, schema_changed })
}

fn changes(
    reader: &Arc<Reader>,
    old: Version<'_>,
    new: Version<'_>,
    object: &Object,
    progress: &Progress,
) -> Result<(Option<Counts>, bool)> {
    let pair = pair(reader, old, new, progress)?;
    let scopes = scopes(reader, old, new, &pair, progress)?;
    let scope = |x: &Table, y: &Table| scopes.as_ref().map_or(Ok(Scope::All), |scopes| scopes.of(x, y));
    let change = pair.table(&object.name, &scope, false, &mut |_| Ok(()))?;
    let about =
        |line: &crate::sqlite::difference::SchemaChange| line.kind == "table" && line.name == object.name;
    Ok((Some(change.counts), pair.schema().iter().any(about)))
}

/// The row with this key.
fn row(reading: &Reading, table: &Table, key: &[String]) -> Result<Option<Row>> {
    let declared: Vec<String> =
        table.key().iter().filter_map(|&i| table.columns.get(i)).map(|column| quoted(&column.name)).collect();
    let by = match (declared.is_empty(), &table.rowid) {
        (false, _) => declared,
        (true, Some(rowid)) => vec![rowid.clone()],
        (true, None) => {
            let what = format!("the rows of `{}` have no key by which one could be found", table.name);
            return Err(Error::new(ErrorKind::Invalid, what));
        }
    };
    if by.len() != key.len() {
        let what = format!(
            "the key of `{}` has {} columns ({}); give as many values, with commas between them",
            table.name,
            by.len(),
            by.join(", ")
        );
        return Err(Error::new(ErrorKind::Invalid, what));
    }
    // A column without a type may hold the number or its digits.
    let mut values = Vec::new();
    let mut terms = Vec::new();
    for (column, text) in by.iter().zip(key) {
        values.push(Value::text(text));
        values.push(text.parse().map_or(Value::text(text), Value::Integer));
        terms.push(format!("{column} IN (?{}, ?{})", values.len() - 1, values.len()));
    }
    let columns = table.column_names();
    let list = columns.iter().map(|column| quoted(column)).collect::<Vec<_>>().join(",");
    let sql = format!("SELECT {list} FROM {} WHERE {} LIMIT 1", quoted(&table.name), terms.join(" AND "));
    let rows = reading.all(&sql, &values)?;
    Ok(rows.into_iter().next().map(|values| Row { columns, values }))
}
