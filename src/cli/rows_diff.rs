//! `diff` on databases: what became of schema and rows, in words and JSON.

use super::context::Context;
use super::failure::Failure;
use super::json::Message;
use super::names::{decode_path, escape, shown};
use super::options::Target;
use super::output::Paper;
use super::rows::{Object, shown_value};
use super::stop::Stop;
use crate::compare::diff::same_content;
use crate::compare::rows::{Version, is_database, new_orphans, pair, scopes, with_live};
use crate::error::{Context as _, Result};
use crate::format::entry::Entry;
use crate::manifest::walk::{find, is_below};
use crate::progress::Progress;
use crate::repository::reader::Reader;
use crate::sqlite::difference::{Pair, Presence, SchemaChange, TableChange, Telling};
use crate::sqlite::query::Value;
use crate::sqlite::rows::{RowChange, Scope};
use crate::sqlite::schema::Table;
use crate::units;
use clap::Args;
use serde_json::{Value as Json, json};
use std::cell::RefCell;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

/// Databases by their rows.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Databases")]
pub struct RowsArgs {
    /// Look into all databases that changed; one that is named is looked into anyway
    #[arg(long)]
    databases: bool,
    /// Tell the rows that were added, removed and changed
    #[arg(long)]
    rows: bool,
    /// Tell the rows whose foreign key leads nowhere since then
    #[arg(long)]
    orphans: bool,
}

/// What is compared.
pub struct Sides<'a> {
    pub context: &'a Context,
    pub reader: &'a Arc<Reader>,
    pub progress: &'a Progress,
    pub before: &'a Target,
    /// `None` for what stands here now.
    pub after: Option<&'a Target>,
}

/// Tells of every database that was asked for.
pub fn run(sides: &Sides<'_>, args: &RowsArgs, paper: &mut Paper) -> std::result::Result<(), Failure> {
    let below = sides.before.path.clone().unwrap_or_default();
    let wanted = args.databases || args.rows || args.orphans;
    let entry = |target: &Target, path: &[u8]| find(sides.reader, &target.snapshot.root, path);
    if let Some(before) = if below.is_empty() { None } else { entry(sides.before, &below)? }
        && before.is_file()
    {
        // One file: it is looked into if it is a database.
        let after = match sides.after {
            Some(after) => entry(after, after.path.as_deref().unwrap_or_default())?,
            None => None,
        };
        return one(sides, args, &before, after.as_ref(), paper);
    }
    if !wanted {
        return Ok(());
    }
    let facts = sides.before.snapshot.record.sqlite.iter().flat_map(|all| all.databases.iter());
    for facts in facts {
        let path = decode_path(facts.path.trim_start_matches('/'));
        if !is_below(&path, &below) {
            continue;
        }
        sides.progress.keep_going()?;
        let Some(before) = entry(sides.before, &path)? else { continue };
        let mut after = None;
        if let Some(target) = sides.after {
            let rest = path.get(below.len()..).unwrap_or_default();
            let rest = rest.strip_prefix(b"/").unwrap_or(rest);
            let top = target.path.clone().unwrap_or_default();
            let there = if top.is_empty() { rest.to_vec() } else { [top.as_slice(), b"/", rest].concat() };
            match entry(target, &there)? {
                Some(found) if found.is_file() => after = Some(found),
                _ => continue,
            }
        }
        one(sides, args, &before, after.as_ref(), paper)?;
    }
    Ok(())
}

fn one(
    sides: &Sides<'_>,
    args: &RowsArgs,
    before: &Entry,
    after: Option<&Entry>,
    paper: &mut Paper,
) -> std::result::Result<(), Failure> {
    let mut told = Told {
        json: sides.context.output.json,
        path: before.path.clone(),
        paper,
        args,
        stop: Stop::default(),
    };
    let named = || shown(&before.path);
    let done = match (sides.after, after) {
        (Some(_), Some(after)) => {
            let same = same_content(sides.reader, &before.content, &after.content).context(named)?;
            if same || !is_database(sides.reader, before)? || !is_database(sides.reader, after)? {
                return Ok(());
            }
            look(sides, Version::Stored(before), Version::Stored(after), &mut told)
        }
        (Some(_), None) => return Ok(()),
        (None, _) => {
            let path = PathBuf::from(OsStr::from_bytes(&[b"/", before.path.as_slice()].concat()));
            if !is_database(sides.reader, before)? || !path.is_file() {
                return Ok(());
            }
            let scratch = sides.context.cache().unwrap_or_else(std::env::temp_dir);
            with_live(&path, &scratch, &sides.context.clock, sides.progress, &mut |pin| {
                look(sides, Version::Stored(before), Version::Live(pin), &mut told)
            })
        }
    };
    told.stop.or(done.context(named))
}

fn look(sides: &Sides<'_>, before: Version<'_>, after: Version<'_>, told: &mut Told<'_>) -> Result<()> {
    let pair = pair(sides.reader, before, after, sides.progress)?;
    let schema = pair.schema();
    told.heading(&schema)?;
    let tables = RefCell::new(Vec::new());
    let shared = RefCell::new(&mut *told);
    let with_rows = shared.borrow().args.rows;
    let scopes = scopes(sides.reader, before, after, &pair, sides.progress)?;
    let scope = |x: &Table, y: &Table| scopes.as_ref().map_or(Ok(Scope::All), |scopes| scopes.of(x, y));
    pair.rows(&scope, with_rows, &mut |telling| {
        match telling {
            Telling::Row { table, before, after, change } => {
                shared.borrow_mut().row(table, before, after, &change)?
            }
            Telling::Table(change) => tables.borrow_mut().push(change),
        }
        sides.progress.keep_going()
    })?;
    let orphans = match told.args.orphans {
        true => Some(new_orphans(&pair.before, &pair.after)?),
        false => None,
    };
    sides.context.output.detail(&format!("{}: {} read", shown(&told.path), units::bytes(read(&pair))));
    told.end(&schema, &tables.into_inner(), orphans.as_deref())
}

fn read(pair: &Pair) -> u64 {
    pair.before.bytes_read() + pair.after.bytes_read()
}

type Orphan = (String, Option<i64>, String);

/// What is said of one database.
struct Told<'a> {
    json: bool,
    path: Vec<u8>,
    paper: &'a mut Paper,
    args: &'a RowsArgs,
    stop: Stop,
}

impl Told<'_> {
    fn line(&mut self, text: &str) -> Result<()> {
        let written = self.paper.line(text);
        self.stop.at(written)
    }

    fn message(&mut self, message: &Message) -> Result<()> {
        let written = self.paper.json(message);
        self.stop.at(written)
    }

    fn heading(&mut self, schema: &[SchemaChange]) -> Result<()> {
        if self.json {
            return Ok(());
        }
        self.line("")?;
        self.line(&format!("{}:", shown(&self.path)))?;
        for change in schema {
            let what = match (&change.before, &change.after) {
                (Some(_), Some(after)) => {
                    format!("{}  now {}", escape(change.name.as_bytes()), escape(after.as_bytes()))
                }
                _ => escape(change.name.as_bytes()),
            };
            self.line(&format!("  {}  {} {what}", sign(change), change.kind))?;
        }
        Ok(())
    }

    fn row(&mut self, table: &str, old: &[String], new: &[String], change: &RowChange<'_>) -> Result<()> {
        if self.json {
            let object = |names: &[String], values: &[Value]| {
                serde_json::to_value(Object { names, values }).unwrap_or_default()
            };
            let message =
                Message::new("row").with_path("path", "path_b64", &[b"/", self.path.as_slice()].concat());
            let message = message.with("table", table);
            return self.message(&match change {
                RowChange::Added(y) => message.with("modifier", "+").with("after", object(new, y)),
                RowChange::Removed(x) => message.with("modifier", "-").with("before", object(old, x)),
                RowChange::Changed(x, y) => {
                    message.with("modifier", "M").with("before", object(old, x)).with("after", object(new, y))
                }
            });
        }
        let name = escape(table.as_bytes());
        let all = |names: &[String], values: &[Value]| {
            let one = |(name, value): (&String, &Value)| {
                format!("{}={}", escape(name.as_bytes()), shown_value(value))
            };
            names.iter().zip(values).map(one).collect::<Vec<_>>().join("  ")
        };
        match change {
            RowChange::Added(y) => self.line(&format!("  +  {name}  {}", all(new, y))),
            RowChange::Removed(x) => self.line(&format!("  -  {name}  {}", all(old, x))),
            RowChange::Changed(x, y) => {
                self.line(&format!("  M  {name}  {}", all(old, x)))?;
                let was = |name: &String| {
                    old.iter().position(|n| n.eq_ignore_ascii_case(name)).and_then(|i| x.get(i))
                };
                let differs = |(name, value): &(&String, &Value)| was(name).is_none_or(|was| !was.is(value));
                let (names, values): (Vec<String>, Vec<Value>) =
                    new.iter().zip(*y).filter(differs).map(|(n, v)| (n.clone(), v.clone())).unzip();
                self.line(&format!("     now  {}", all(&names, &values)))
            }
        }
    }

    fn end(
        &mut self,
        schema: &[SchemaChange],
        tables: &[TableChange],
        orphans: Option<&[Orphan]>,
    ) -> Result<()> {
        let changed: Vec<&TableChange> =
            tables.iter().filter(|t| !t.counts.is_empty() || t.presence != Presence::Both).collect();
        if self.json {
            let schema: Vec<Json> = schema.iter().map(schema_json).collect();
            let tables: Vec<Json> = changed.iter().map(|t| table_json(t)).collect();
            let mut sqlite = json!({ "schema": schema, "tables": tables });
            if let Some(orphans) = orphans {
                let one =
                    |(table, row, parent): &Orphan| json!({ "table": table, "rowid": row, "parent": parent });
                sqlite["new_orphans"] = orphans.iter().map(one).collect();
            }
            let message = Message::new("database").with_path(
                "path",
                "path_b64",
                &[b"/", self.path.as_slice()].concat(),
            );
            return self.message(&message.with("sqlite", sqlite));
        }
        for table in &changed {
            let counts = &table.counts;
            let name = escape(table.name.as_bytes());
            let of = if table.shadow { " (part of a virtual table)" } else { "" };
            let (added, removed, changed) =
                (units::count(counts.added), units::count(counts.removed), units::count(counts.changed));
            self.line(&format!("  table {name}{of}: {added} added, {removed} removed, {changed} changed"))?;
        }
        if changed.is_empty() {
            self.line("  the rows of all tables are the same")?;
        }
        for (table, row, parent) in orphans.unwrap_or_default() {
            let row = row.map(|n| format!(" (row {n})")).unwrap_or_default();
            self.line(&format!(
                "  orphan: a row of {}{row} leads to no row of {}",
                escape(table.as_bytes()),
                escape(parent.as_bytes())
            ))?;
        }
        if orphans.is_some_and(<[Orphan]>::is_empty) {
            self.line("  no new orphans")?;
        }
        Ok(())
    }
}

pub fn sign(change: &SchemaChange) -> &'static str {
    match (&change.before, &change.after) {
        (Some(_), Some(_)) => "M",
        (None, _) => "+",
        (_, None) => "-",
    }
}

pub fn schema_json(change: &SchemaChange) -> Json {
    json!({
        "type": change.kind, "name": change.name, "table": change.table, "modifier": sign(change),
        "before": change.before, "after": change.after,
    })
}

pub fn table_json(table: &TableChange) -> Json {
    let modifier = match table.presence {
        Presence::Before => "-",
        Presence::After => "+",
        Presence::Both => "M",
    };
    let counts = &table.counts;
    json!({
        "name": table.name, "modifier": modifier, "shadow": table.shadow,
        "added": counts.added, "removed": counts.removed, "changed": counts.changed,
    })
}
