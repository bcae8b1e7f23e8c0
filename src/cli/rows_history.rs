//! `history --table`: when a table, or one row of it, changed.

use super::context::Context;
use super::failure::{DAMAGED, FAILED, Failure, Outcome, usage};
use super::json::Message;
use super::names::{escape, shown};
use super::rows::{Object, shown_value};
use super::table::{Column, Table};
use super::terminal::Watch;
use crate::clock::Timestamp;
use crate::compare::rows_history::{Row, RowVersion, State, Wish, run as history};
use crate::error::ErrorKind;
use crate::repository::snapshots::{SnapshotFilter, list};
use crate::units;
use std::sync::Arc;

pub fn run(
    context: &Context,
    path: &[u8],
    filter: &SnapshotFilter,
    table: &str,
    key: Option<&str>,
) -> Outcome {
    let key: Option<Vec<String>> =
        key.map(|text| text.split(',').map(|part| part.trim().to_owned()).collect());
    let repository = context.open()?;
    let mut snapshots = list(&repository)?.snapshots;
    snapshots.retain(|s| filter.matches(&s.record));
    let reader = Arc::new(repository.reader()?.with_parity());
    let mut watch = Watch::beside_results(context);
    let versions = history(&reader, &snapshots, path, Wish { table, key: key.as_deref() }, &watch.progress);
    watch.finish();
    context.warn_of_mended(&reader);
    let versions = versions.map_err(|e| {
        let wrong = e.kind() == ErrorKind::Invalid;
        let e = e.context(shown(path));
        if wrong { usage(e) } else { e.into() }
    })?;
    if versions.is_empty() && !context.output.json {
        let what = if key.is_some() { "no snapshot has this row of" } else { "no snapshot holds" };
        return Err(Failure::new(FAILED, format!("{what} {}", shown(path))));
    }
    let unreadable = versions.iter().any(|v| matches!(v.state, State::Unreadable(_)));
    let told = page(context, &versions, table, key.is_some());
    context.output.ends(told, if unreadable { DAMAGED } else { 0 })
}

fn page(context: &Context, versions: &[RowVersion], table: &str, of_row: bool) -> Result<(), Failure> {
    let mut paper = context.output.paper();
    if context.output.json {
        let all: Vec<Message> = versions.iter().map(|version| json(version, table)).collect();
        paper.json(&all)?;
        return paper.finish();
    }
    let mut columns = vec![Column::left("Snapshot"), Column::left("Time"), Column::right("Snapshots")];
    match of_row {
        true => columns.push(Column::left("Row")),
        false => columns.extend(["Rows", "Added", "Removed", "Changed"].map(Column::right)),
    }
    let remarkable = |version: &RowVersion| {
        matches!(version.state, State::Unreadable(_) | State::Table { schema_changed: true, .. })
    };
    if versions.iter().any(remarkable) {
        columns.push(Column::shrinking(""));
    }
    let mut out = Table::new(columns);
    let mut before: Option<&Row> = None;
    for version in versions {
        out.row(line(context, version, of_row, before));
        before = match &version.state {
            State::Row(row) => Some(row),
            _ => None,
        };
    }
    for line in out.lines(context.output.width(), context.output.colours()) {
        paper.line(&line)?;
    }
    paper.finish()
}

fn line(context: &Context, version: &RowVersion, of_row: bool, before: Option<&Row>) -> Vec<Vec<String>> {
    let time = Timestamp::parse(&version.time, context.now()).map(Timestamp::local);
    let time = time.unwrap_or_else(|_| escape(version.time.as_bytes()));
    let mut cells = vec![vec![version.snapshot.short()], vec![time], vec![units::count(version.snapshots)]];
    let mut remark = String::new();
    let mut figures = vec![String::new(); 4];
    let mut row = Vec::new();
    match &version.state {
        State::Table { rows, since, schema_changed } => {
            figures[0] = units::count(*rows);
            if let Some(since) = since {
                figures.splice(1.., [since.added, since.removed, since.changed].map(units::count));
            }
            if *schema_changed {
                "another definition".clone_into(&mut remark);
            }
        }
        State::Row(now) => row = differing(now, before),
        State::Absent => {
            "not there".clone_into(&mut figures[0]);
            row.push("not there".to_owned());
        }
        State::Unreadable(why) => remark = format!("damaged: {}", escape(why.as_bytes())),
    }
    match of_row {
        true => cells.push(row),
        false => cells.extend(figures.into_iter().map(|figure| vec![figure])),
    }
    cells.push(vec![remark]);
    cells
}

/// All values of a row, or those that are not what they were, one a line.
fn differing(now: &Row, before: Option<&Row>) -> Vec<String> {
    let was = |name: &String| {
        let before = before?;
        let at = before.columns.iter().position(|column| column == name)?;
        before.values.get(at)
    };
    let changed =
        |(name, value): &(&String, &crate::sqlite::query::Value)| was(name).is_none_or(|was| !was.is(value));
    let lines = now.columns.iter().zip(&now.values).filter(changed);
    lines.map(|(name, value)| format!("{}={}", escape(name.as_bytes()), shown_value(value))).collect()
}

fn json(version: &RowVersion, table: &str) -> Message {
    let message = Message::default()
        .with("snapshot_id", version.snapshot.to_string())
        .with("short_id", version.snapshot.short())
        .with("time", version.time.as_str())
        .with("hostname", version.hostname.as_str())
        .with("last_snapshot_id", version.last_snapshot.to_string())
        .with("last_time", version.last_time.as_str())
        .with("snapshots", version.snapshots)
        .with("table", table);
    match &version.state {
        State::Table { rows, since, schema_changed } => {
            let message =
                message.with("state", "present").with("rows", *rows).with("schema_changed", *schema_changed);
            match since {
                Some(since) => message
                    .with("added", since.added)
                    .with("removed", since.removed)
                    .with("changed", since.changed),
                None => message,
            }
        }
        State::Row(row) => {
            let object = Object { names: &row.columns, values: &row.values };
            message.with("state", "present").with("row", serde_json::to_value(object).unwrap_or_default())
        }
        State::Absent => message.with("state", "absent"),
        State::Unreadable(why) => message.with("state", "unreadable").with("error", why.as_str()),
    }
}
