//! `history`: one path through all snapshots.

use crate::cli::changes::beginning;
use crate::cli::context::Context;
use crate::cli::failure::{DAMAGED, FAILED, Failure, Outcome, usage};
use crate::cli::json::{Message, type_word};
use crate::cli::names::{escape, plain_json, shown};
use crate::cli::options::FilterArgs;
use crate::cli::rows_history;
use crate::cli::table::{Column, Table};
use crate::cli::terminal::Watch;
use crate::clock::Timestamp;
use crate::compare::history::{State, Version, run as history};
use crate::compare::values::{Said, ValueVersion, of_versions};
use crate::json::pointer::Pointer;
use crate::repository::snapshots::list;
use crate::source::roots::Root;
use crate::units;
use std::path::PathBuf;

/// Show every version of a path
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The path, as it was backed up
    #[arg(id = "of", value_name = "PATH")]
    path: PathBuf,
    /// Show when this table of a database changed
    #[arg(long, value_name = "TABLE")]
    table: Option<String>,
    /// Show the versions of the value at this JSON pointer (/a/b) in it; with --table of the row with this primary key or
    /// number, the values of several columns with commas between them
    #[arg(long, value_name = "POINTER|KEY")]
    key: Option<String>,
    #[command(flatten)]
    filter: FilterArgs,
}

pub fn run(context: &Context, args: &Args) -> Outcome {
    let filter = args.filter.filter().map_err(usage)?;
    let path = Root::new(&args.path).map_err(usage)?.stored;
    if let Some(table) = &args.table {
        return rows_history::run(context, &path, &filter, table, args.key.as_deref());
    }
    let key = args.key.as_deref().map(Pointer::parse).transpose().map_err(usage)?;
    let repository = context.open()?;
    let mut snapshots = list(&repository)?.snapshots;
    snapshots.retain(|s| filter.matches(&s.record));
    let reader = repository.reader()?;
    let mut watch = Watch::beside_results(context);
    let versions = history(&reader, &snapshots, &path, &watch.progress);
    if let Some(key) = &key {
        let unreadable = |v: &Version| matches!(v.state, State::Unreadable(_));
        let damaged = versions.as_ref().is_ok_and(|all| all.iter().any(unreadable));
        let values = versions.and_then(|v| of_versions(&reader, &v, key, &watch.progress));
        watch.finish();
        return told_values(context, &values?, &path, key).map(|code| if damaged { DAMAGED } else { code });
    }
    watch.finish();
    let versions = versions?;
    let unreadable = versions.iter().any(|v| matches!(v.state, State::Unreadable(_)));
    if versions.is_empty() && !context.output.json {
        return Err(Failure::new(FAILED, format!("no snapshot holds {}", shown(&path))));
    }
    context.output.ends(page(context, &versions), if unreadable { DAMAGED } else { 0 })
}

fn told_values(context: &Context, values: &[ValueVersion], path: &[u8], key: &Pointer) -> Outcome {
    let is_value = |v: &ValueVersion| matches!(v.said, Said::Value(_));
    if !values.iter().any(is_value) && !context.output.json {
        let why = values.iter().find_map(|v| match &v.said {
            Said::Unknown(why) => Some(format!(" ({why})")),
            _ => None,
        });
        let key = escape(key.to_string().as_bytes());
        let what = format!("no snapshot has `{key}` in {}{}", shown(path), why.unwrap_or_default());
        return Err(Failure::new(FAILED, what));
    }
    context.output.ends(value_page(context, values), 0)
}

fn value_page(context: &Context, values: &[ValueVersion]) -> Result<(), Failure> {
    let mut paper = context.output.paper();
    if context.output.json {
        paper.json(&values.iter().map(value_json).collect::<Vec<_>>())?;
        return paper.finish();
    }
    let mut table = Table::new(vec![
        Column::left("Snapshot"),
        Column::left("Time"),
        Column::right("Snapshots"),
        Column::shrinking("Value"),
    ]);
    for version in values {
        let time = Timestamp::parse(&version.time, context.now()).map(Timestamp::local);
        let value = match &version.said {
            Said::Value(value) => beginning(&plain_json(&String::from_utf8_lossy(value)), 400),
            Said::Missing => "(no such key)".to_owned(),
            Said::NoFile => "(no file)".to_owned(),
            Said::Unknown(why) => format!("(unknown: {})", escape(why.as_bytes())),
        };
        let time = time.unwrap_or_else(|_| escape(version.time.as_bytes()));
        let row = [version.snapshot.short(), time, units::count(version.snapshots), value];
        table.row(row.map(|cell| vec![cell]).to_vec());
    }
    for line in table.lines(context.output.width(), context.output.colours()) {
        paper.line(&line)?;
    }
    paper.finish()
}

fn value_json(version: &ValueVersion) -> Message {
    let message = Message::default()
        .with("snapshot_id", version.snapshot.to_string())
        .with("short_id", version.snapshot.short())
        .with("time", version.time.as_str())
        .with("hostname", version.hostname.as_str())
        .with("last_snapshot_id", version.last_snapshot.to_string())
        .with("last_time", version.last_time.as_str())
        .with("snapshots", version.snapshots);
    match &version.said {
        Said::Value(value) => {
            message.with("state", "present").with_raw("value", String::from_utf8_lossy(value).into_owned())
        }
        Said::Missing => message.with("state", "missing"),
        Said::NoFile => message.with("state", "absent"),
        Said::Unknown(why) => message.with("state", "unknown").with("error", why.as_str()),
    }
}

fn page(context: &Context, versions: &[Version]) -> Result<(), Failure> {
    let mut paper = context.output.paper();
    if context.output.json {
        let all: Vec<_> = versions.iter().map(json).collect();
        paper.json(&all)?;
    } else {
        let mut table = Table::new(vec![
            Column::left("Snapshot"),
            Column::left("Time"),
            Column::right("Snapshots"),
            Column::shrinking("Host"),
            Column::shrinking("What"),
            Column::right("Size"),
            Column::right("New"),
        ]);
        for version in versions {
            table.row(row(context, version));
        }
        for line in table.lines(context.output.width(), context.output.colours()) {
            paper.line(&line)?;
        }
    }
    paper.finish()
}

fn row(context: &Context, version: &Version) -> Vec<Vec<String>> {
    let time = Timestamp::parse(&version.time, context.now()).map(Timestamp::local);
    let (what, size) = match &version.state {
        State::Present { kind, size, .. } => {
            let changed = if version.content_changed { "" } else { ", only metadata changed" };
            (format!("{}{changed}", type_word(kind)), units::bytes(*size))
        }
        State::Absent => ("not there".to_owned(), String::new()),
        State::Unreadable(why) => (format!("damaged: {}", escape(why.as_bytes())), String::new()),
    };
    let new = if version.new_bytes > 0 { units::bytes(version.new_bytes) } else { String::new() };
    [
        version.snapshot.short(),
        time.unwrap_or_else(|_| escape(version.time.as_bytes())),
        units::count(version.snapshots),
        escape(version.hostname.as_bytes()),
        what,
        size,
        new,
    ]
    .map(|cell| vec![cell])
    .to_vec()
}

fn json(version: &Version) -> Message {
    let message = Message::default()
        .with("snapshot_id", version.snapshot.to_string())
        .with("short_id", version.snapshot.short())
        .with("time", version.time.as_str())
        .with("hostname", version.hostname.as_str())
        .with("last_snapshot_id", version.last_snapshot.to_string())
        .with("last_time", version.last_time.as_str())
        .with("snapshots", version.snapshots);
    let message = match &version.state {
        State::Present { kind, size, mtime, mode } => message
            .with("state", "present")
            .with("type", type_word(kind))
            .with("size", *size)
            .with("mtime", mtime.rfc3339())
            .with("mode", *mode),
        State::Absent => message.with("state", "absent"),
        State::Unreadable(why) => message.with("state", "unreadable").with("error", why.as_str()),
    };
    message.with("content_changed", version.content_changed).with("new_bytes", version.new_bytes)
}
