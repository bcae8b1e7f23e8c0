//! `db recover`: what can be read of a broken database, in a new one.

use super::commands::db::RecoverArgs;
use super::context::Context;
use super::failure::{Failure, INCOMPLETE, Outcome, usage};
use super::json::Message;
use super::names::escape;
use super::terminal::Watch;
use crate::sqlite::pin::Rules;
use crate::sqlite::place::Place;
use crate::sqlite::salvage::{Report, Saved, remains, salvage};
use crate::units;
use serde_json::json;
use std::path::Path;
use std::time::Duration;

/// Copies of at most this many bytes stay in memory.
const MEMORY: usize = 16 << 20;

pub fn run(context: &Context, args: &RecoverArgs) -> Outcome {
    let place = Place::at(&args.file).map_err(usage)?;
    let name = escape(args.file.as_os_str().as_encoded_bytes());
    if !place.status("").is_ok_and(|status| status.is_some()) {
        return Err(Failure::new(super::failure::FAILED, format!("there is no file {name}")));
    }
    if context.global.dry_run {
        return Err(Failure::usage("recovering writes only the new database; there is nothing to try out"));
    }
    let mut watch = Watch::beside_results(context);
    let progress = &watch.progress;
    let keep_going = || progress.keep_going();
    let scratch = context.cache().unwrap_or_else(std::env::temp_dir);
    let (wait, memory, firmly) = (Duration::from_secs(30), MEMORY, false);
    let clock = &context.clock;
    let rules =
        Rules { wait, scratch: &scratch, memory, clock, keep_going: &keep_going, firmly, can_pin: true };
    let done = remains(&place, &rules, &mut |bytes, size| salvage(bytes, size, &args.into, &keep_going));
    watch.finish();
    let report = done.map_err(|e| e.context(&name))?;
    let told = match context.output.json {
        true => context.output.result(&message(&report, &args.into)),
        false => context.output.say(&story(&report, &args.into).join("\n")),
    };
    Ok(context.output.told(told, if report.is_whole() { 0 } else { INCOMPLETE }))
}

fn message(report: &Report, into: &Path) -> Message {
    let saved = |saved: &Saved| json!({ "rows": saved.rows, "pages_lost": saved.pages_lost, "rows_damaged": saved.rows_damaged });
    let tables: serde_json::Map<_, _> =
        report.tables.iter().map(|(name, table)| (name.clone(), saved(table))).collect();
    Message::new("summary")
        .with_path("into", "into_b64", into.as_os_str().as_encoded_bytes())
        .with("rows", report.rows())
        .with("tables", tables)
        .with("lost_and_found", report.shelf.as_deref())
        .with("lost_and_found_rows", report.shelved)
        .with("schema", saved(&report.schema))
        .with("pages", report.pages)
        .with("page_size", report.page_size as u64)
        .with("pages_unread", report.unread)
        .with("rows_doubtful", report.doubtful)
        .with("not_made", report.not_made.clone())
        .with("complete", report.is_whole())
}

fn story(report: &Report, into: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let lost = |saved: &Saved| {
        let mut parts = Vec::new();
        if saved.pages_lost > 0 {
            parts.push(format!("{} LOST", units::counted(saved.pages_lost, "page", "pages")));
        }
        if saved.rows_damaged > 0 {
            parts.push(format!("{} DAMAGED", units::counted(saved.rows_damaged, "row", "rows")));
        }
        if parts.is_empty() { String::new() } else { format!(", {}", parts.join(", ")) }
    };
    for (table, saved) in &report.tables {
        let rows = units::counted(saved.rows, "row", "rows");
        lines.push(format!("{}: {rows}{}", escape(table.as_bytes()), lost(saved)));
    }
    if !lost(&report.schema).is_empty() {
        lines.push(format!("the schema itself{}; tables may be missing", lost(&report.schema)));
    }
    if let Some(shelf) = &report.shelf {
        let rows = units::counted(report.shelved, "row", "rows");
        lines.push(format!("{shelf}: {rows} of which nobody can say where they belong"));
    }
    if report.unread > 0 {
        lines.push(format!(
            "{} could not be read from the disk",
            units::counted(report.unread, "page", "pages")
        ));
    }
    if report.doubtful > 0 {
        let rows = units::counted(report.doubtful, "row goes", "rows go");
        lines.push(format!("{rows} on in a page of zeros, which may be a lost one"));
    }
    lines.extend(report.not_made.iter().map(|what| format!("not made again: {}", escape(what.as_bytes()))));
    let name = escape(into.as_os_str().as_encoded_bytes());
    lines.push(match report.is_whole() {
        true => format!("{name} holds every row that the tables lead to; SQLite finds it sound"),
        false => format!("{name} holds what could be saved, NOT EVERYTHING; SQLite finds it sound"),
    });
    lines.push(
        "SQLite keeps no checksums: values in pages that can be read may still have been altered".to_owned(),
    );
    lines
}
