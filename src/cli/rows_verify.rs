//! `verify DATABASE`: is the database in use what its newest snapshot holds, by schema and rows.

use super::context::Context;
use super::failure::{FAILED, Failure, Outcome, VALIDATION, usage};
use super::json::Message;
use super::names::{escape, shown};
use super::rows_diff::{schema_json, sign, table_json};
use super::terminal::Watch;
use crate::compare::rows::{Version, is_database, pair, scopes, with_live};
use crate::error::{Context as _, Result};
use crate::format::entry::Entry;
use crate::manifest::walk::find;
use crate::progress::Progress;
use crate::repository::reader::Reader;
use crate::repository::snapshots::{Listed, SnapshotFilter, list};
use crate::source::roots::Root;
use crate::sqlite::difference::{Presence, SchemaChange, TableChange, Telling};
use crate::sqlite::rows::Scope;
use crate::sqlite::schema::Table;
use crate::units;
use serde_json::{Value as Json, json};
use std::path::Path;
use std::sync::Arc;

/// What is not the same.
struct Differences {
    schema: Vec<SchemaChange>,
    tables: Vec<TableChange>,
    /// Tables that were compared.
    compared: usize,
}

/// Compares the database at `path` with the newest snapshot that holds it.
pub fn run(context: &Context, path: &Path, filter: &SnapshotFilter) -> Outcome {
    let root = Root::new(path).map_err(usage)?;
    if !root.path.is_file() {
        return Err(Failure::new(FAILED, format!("there is no file {}", shown(&root.stored))));
    }
    let repository = context.open()?;
    let listing = list(&repository)?;
    let reader = Arc::new(repository.reader()?.with_parity());
    let mut newest = None;
    for listed in listing.snapshots.iter().rev().filter(|listed| filter.matches(&listed.record)) {
        if let Some(entry) = find(&reader, &listed.root, &root.stored)?.filter(Entry::is_file) {
            newest = Some((listed, entry));
            break;
        }
    }
    let Some((listed, entry)) = newest else {
        return Err(Failure::new(FAILED, format!("no snapshot holds {}", shown(&root.stored))));
    };
    if !is_database(&reader, &entry)? {
        return Err(Failure::new(
            FAILED,
            format!("{} is no SQLite database in the snapshot", shown(&root.stored)),
        ));
    }
    let mut watch = Watch::beside_results(context);
    let scratch = context.cache().unwrap_or_else(std::env::temp_dir);
    let found = with_live(&root.path, &scratch, &context.clock, &watch.progress, &mut |pin| {
        look(&reader, Version::Stored(&entry), Version::Live(pin), &watch.progress)
    });
    watch.finish();
    context.warn_of_mended(&reader);
    let found = found.context(|| shown(&root.stored))?;
    let same = found.schema.is_empty() && found.tables.is_empty();
    let told = page(context, &root.stored, listed, &found, same);
    context.output.ends(told, if same { 0 } else { VALIDATION })
}

fn look(
    reader: &Arc<Reader>,
    before: Version<'_>,
    after: Version<'_>,
    progress: &Progress,
) -> Result<Differences> {
    let pair = pair(reader, before, after, progress)?;
    let scopes = scopes(reader, before, after, &pair, progress)?;
    let scope = |x: &Table, y: &Table| scopes.as_ref().map_or(Ok(Scope::All), |scopes| scopes.of(x, y));
    let (mut tables, mut compared) = (Vec::new(), 0);
    pair.rows(&scope, false, &mut |telling| {
        if let Telling::Table(change) = telling {
            compared += 1;
            if !change.counts.is_empty() || change.presence != Presence::Both {
                tables.push(change);
            }
        }
        progress.keep_going()
    })?;
    Ok(Differences { schema: pair.schema(), tables, compared })
}

fn page(
    context: &Context,
    path: &[u8],
    listed: &Listed,
    found: &Differences,
    same: bool,
) -> std::result::Result<(), Failure> {
    let mut paper = context.output.paper();
    if context.output.json {
        let schema: Vec<Json> = found.schema.iter().map(schema_json).collect();
        let tables: Vec<Json> = found.tables.iter().map(table_json).collect();
        paper.json(
            &Message::new("verify")
                .with_path("path", "path_b64", &[b"/", path].concat())
                .with("snapshot_id", listed.record.id.as_str())
                .with("same", same)
                .with(
                    "sqlite",
                    json!({ "tables_compared": found.compared, "schema": schema, "tables": tables }),
                ),
        )?;
        return paper.finish();
    }
    let (name, id) = (shown(path), listed.id.short());
    if same {
        let tables = units::counted(found.compared as u64, "table", "tables");
        paper.line(&format!("{name} is what snapshot {id} holds: schema and all rows of {tables}"))?;
        return paper.finish();
    }
    paper.line(&format!("{name} is not what snapshot {id} of {} holds:", listed.record.time))?;
    for change in &found.schema {
        paper.line(&format!("  {}  {} {}", sign(change), change.kind, escape(change.name.as_bytes())))?;
    }
    for table in &found.tables {
        let counts = &table.counts;
        paper.line(&format!(
            "  table {}: {} added, {} removed, {} changed since",
            escape(table.name.as_bytes()),
            units::count(counts.added),
            units::count(counts.removed),
            units::count(counts.changed)
        ))?;
    }
    paper.finish()
}
