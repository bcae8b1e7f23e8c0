//! What came of an audit, on paper: text for people, JSON for programs, Markdown for those who keep it.

use super::context::Context;
use super::failure::Failure;
use super::json::Message;
use super::output::one_line;
use crate::audit::plan::Plan;
use crate::audit::report::{Kind, Mismatch, Report, Tally};
use crate::units::{count, counted};
use serde_json::{Value as Json, json};
use std::path::Path;

/// How a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    Json,
    Markdown,
}

impl Format {
    /// What was asked for, or what the name of the file says.
    pub fn chosen(word: Option<&str>, file: Option<&Path>, json: bool) -> Self {
        let ending = file.and_then(Path::extension).and_then(|e| e.to_str());
        match (word, ending) {
            (Some("json"), _) | (None, Some("json")) => Format::Json,
            (Some("markdown"), _) | (None, Some("md" | "markdown")) => Format::Markdown,
            (None, _) if file.is_none() && json => Format::Json,
            _ => Format::Text,
        }
    }
}

/// Writes a whole text to standard output.
pub fn page(context: &Context, text: &str) -> Result<(), Failure> {
    let mut paper = context.output.paper();
    paper.bytes(text.as_bytes())?;
    paper.finish()
}

/// The whole report.
pub fn written(report: &Report, plan: &Plan<'_>, names: &[String; 2], format: Format) -> String {
    match format {
        Format::Json => json_text(report, plan, names),
        Format::Text => text(report, plan, names),
        Format::Markdown => markdown(report, plan, names),
    }
}

/// The last word alone.
pub fn summary(report: &Report, names: &[String; 2], format: Format) -> String {
    match format {
        Format::Json => {
            let message = head(report, names);
            serde_json::to_string(&message).unwrap_or_default() + "\n"
        }
        _ => verdict(report, names) + "\n",
    }
}

/// What holds, and nothing more than was looked at.
fn verdict(report: &Report, names: &[String; 2]) -> String {
    let sum = |of: fn(&Tally) -> u64| report.tallies.iter().map(of).sum::<u64>();
    let looked = match report.sample {
        None => String::new(),
        Some((n, seed)) => {
            format!(" in a sample of {} a table (--seed {seed})", counted(n, "record", "records"))
        }
    };
    let [database, export] = names;
    if !report.has_records() {
        return format!(
            "{database} and {export} have no records at the places of the map, so nothing is proved"
        );
    }
    if report.is_equal() {
        let compared = counted(sum(|t| t.compared), "record", "records");
        return format!("{database} and {export} say the same{looked}: {compared} compared");
    }
    let mismatches = counted(sum(Tally::mismatches), "mismatch", "mismatches");
    let counts = if sum(Tally::mismatches) == 0 { ": they have not as many records" } else { "" };
    format!("{database} and {export} DO NOT say the same{looked}: {mismatches}{counts}")
}

/// What is the matter with one table.
fn matter(tally: &Tally) -> String {
    let parts = [
        (tally.not_in_export, "missing in the export"),
        (tally.not_in_database, "missing in the database"),
        (tally.differing, "not the same"),
        (tally.repeated, "with a key that stands more than once"),
        (tally.keyless, "without a key in the export"),
    ];
    let parts: Vec<String> =
        parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", count(*n))).collect();
    match parts.is_empty() {
        true if tally.is_equal() => "equal".to_owned(),
        true => "another number of records".to_owned(),
        false => parts.join(", "),
    }
}

fn text(report: &Report, plan: &Plan<'_>, names: &[String; 2]) -> String {
    let mut lines = Vec::new();
    for (number, tally) in report.tallies.iter().enumerate() {
        let counts = match tally.database == tally.export {
            true => counted(tally.database, "record", "records"),
            false => format!(
                "{} records in the database, {} in the export",
                count(tally.database),
                count(tally.export)
            ),
        };
        let compared = match tally.compared == tally.database.max(tally.export) {
            true => String::new(),
            false => format!(" ({} compared)", count(tally.compared)),
        };
        lines.push(format!("{}: {counts}{compared}: {}", tally.name, matter(tally)));
        for (field, column, n) in tally.fields.iter().filter(|(_, _, n)| *n > 0) {
            lines.push(format!("  {}: in {}", field_shown(field, column), counted(*n, "record", "records")));
        }
        for place in &tally.keyless_at {
            lines.push(format!("  - without a key: {place}"));
        }
        for mismatch in report.mismatches.iter().filter(|m| m.section == number) {
            lines.extend(told(mismatch, plan));
        }
    }
    if report.untold > 0 {
        lines.push(format!("… and {} that are not listed (--limit)", count(report.untold)));
    }
    lines.extend(left(report));
    lines.push(verdict(report, names));
    lines.iter().map(|line| one_line(line) + "\n").collect()
}

/// What the map does not name: nobody has looked at it.
fn left(report: &Report) -> Vec<String> {
    let line = |what: &str, all: &[String]| {
        (!all.is_empty()).then(|| format!("not in the map, so not compared: {what} {}", all.join(", ")))
    };
    let tables = line("tables of the database", &report.left_tables);
    tables.into_iter().chain(line("in the export", &report.left_places)).collect()
}

/// The pointer, and the column where it has another name.
fn field_shown(field: &str, column: &str) -> String {
    match (field, column) {
        ("", "") => "fields that no rule names".to_owned(),
        (field, column) if column.is_empty() || field.strip_prefix('/') == Some(column) => field.to_owned(),
        (field, column) => format!("{} ({column})", if field.is_empty() { "the element" } else { field }),
    }
}

fn told(mismatch: &Mismatch, plan: &Plan<'_>) -> Vec<String> {
    let record = mismatch.record(plan);
    let Some(section) = plan.sections.get(mismatch.section) else { return Vec::new() };
    let lone = match section.children {
        Some(_) => format!(": {}", mismatch.lone(section)),
        None => String::new(),
    };
    match mismatch.kind {
        Kind::NotInExport => vec![format!("  - {record}: missing in the export{lone}")],
        Kind::NotInDatabase => vec![format!("  + {record}: missing in the database{lone}")],
        Kind::Repeated { database, export } => {
            vec![format!("  ! {record}: {database} times in the database, {export} times in the export")]
        }
        Kind::Differs => {
            let mut lines = vec![format!("  M {record}")];
            for d in mismatch.differences(section) {
                let at = d.at.map(|at| format!(" (at {at})")).unwrap_or_default();
                let field = field_shown(&d.field, &d.column);
                lines.push(format!(
                    "      {field}: {} in the database, {} in the export{at}",
                    d.database, d.export
                ));
            }
            lines
        }
    }
}

fn head(report: &Report, names: &[String; 2]) -> Message {
    let sum = |of: fn(&Tally) -> u64| report.tallies.iter().map(of).sum::<u64>();
    let sample = report.sample.map(|(records, seed)| json!({ "records": records, "seed": seed }));
    Message::new("audit")
        .with("database", names[0].as_str())
        .with("export", names[1].as_str())
        .with("equal", report.is_equal())
        .with("sample", sample)
        .with("records_compared", sum(|t| t.compared))
        .with("num_mismatches", sum(Tally::mismatches))
        .with("not_listed", report.untold)
        .with("tables_not_in_map", report.left_tables.clone())
        .with("places_not_in_map", report.left_places.clone())
}

fn json_text(report: &Report, plan: &Plan<'_>, names: &[String; 2]) -> String {
    let table = |t: &Tally| {
        let fields = t.fields.iter().filter(|(_, _, n)| *n > 0);
        let fields: Vec<Json> = fields
            .map(|(field, column, n)| json!({ "field": field, "column": column, "differing": n }))
            .collect();
        let hash = t.hashes.as_ref().map(|(a, b)| json!({ "database": a, "export": b }));
        json!({
            "name": t.name, "equal": t.is_equal(), "records_in_database": t.database, "records_in_export": t.export,
            "compared": t.compared, "same": t.equal, "missing_in_export": t.not_in_export,
            "missing_in_database": t.not_in_database, "differing": t.differing, "repeated_keys": t.repeated,
            "without_key": t.keyless, "without_key_at": t.keyless_at, "fields": fields, "hash": hash,
        })
    };
    let mismatch = |m: &Mismatch| {
        let section = plan.sections.get(m.section);
        let differences =
            section.filter(|_| m.kind == Kind::Differs).map(|s| m.differences(s)).unwrap_or_default();
        let difference = |d: crate::audit::report::Difference| json!({ "field": d.field, "column": d.column, "database": d.database, "export": d.export, "at": d.at });
        let differences: Vec<Json> = differences.into_iter().map(difference).collect();
        let times = match m.kind {
            Kind::Repeated { database, export } => json!({ "database": database, "export": export }),
            _ => Json::Null,
        };
        json!({
            "table": section.map(|s| s.name.as_str()), "kind": m.kind.word(), "record": m.record(plan), "key": m.key,
            "position": m.position, "times": times, "differences": differences,
        })
    };
    let message = head(report, names)
        .with("tables", report.tallies.iter().map(table).collect::<Vec<_>>())
        .with("mismatches", report.mismatches.iter().map(mismatch).collect::<Vec<_>>());
    serde_json::to_string(&message).unwrap_or_default() + "\n"
}

/// Text that means nothing to Markdown, on one line.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in one_line(text).chars() {
        if matches!(c, '\\' | '|' | '`' | '*' | '_' | '<' | '>' | '[' | ']' | '#' | '~' | '&') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

fn markdown(report: &Report, plan: &Plan<'_>, names: &[String; 2]) -> String {
    let mut out = format!("# Audit of {} against {}\n\n", plain(&names[0]), plain(&names[1]));
    out.push_str(&format!("**{}**\n\n", plain(&verdict(report, names))));
    out.push_str(
        "| table | in the database | in the export | compared | result |\n| --- | --: | --: | --: | --- |\n",
    );
    for t in &report.tallies {
        let numbers = [t.database, t.export, t.compared].map(count).join(" | ");
        out.push_str(&format!("| {} | {numbers} | {} |\n", plain(&t.name), matter(t)));
    }
    left(report).iter().for_each(|line| out.push_str(&format!("\n{}.\n", plain(line))));
    for (number, tally) in report.tallies.iter().enumerate() {
        let of = || report.mismatches.iter().filter(move |m| m.section == number);
        if tally.is_equal() && of().next().is_none() {
            continue;
        }
        out.push_str(&format!("\n## {}\n", plain(&tally.name)));
        let fields: Vec<_> = tally.fields.iter().filter(|(_, _, n)| *n > 0).collect();
        if !fields.is_empty() {
            out.push_str("\n| field | records in which it is not the same |\n| --- | --: |\n");
            for (field, column, n) in fields {
                out.push_str(&format!("| {} | {} |\n", plain(&field_shown(field, column)), count(*n)));
            }
        }
        if of().next().is_some() || !tally.keyless_at.is_empty() {
            out.push_str(
                "\n| record | what | in the database | in the export |\n| --- | --- | --- | --- |\n",
            );
        }
        for place in &tally.keyless_at {
            out.push_str(&format!("| {} | has no key | | |\n", plain(place)));
        }
        for mismatch in of() {
            out.push_str(&rows(mismatch, plan));
        }
    }
    if report.untold > 0 {
        out.push_str(&format!("\n{} mismatches are counted and not listed.\n", count(report.untold)));
    }
    if let Some((a, b)) =
        report.tallies.iter().find_map(|t| t.hashes.as_ref()).map(|_| ("database", "export"))
    {
        out.push_str(&format!(
            "\n| table | canonical hash, {a} | canonical hash, {b} |\n| --- | --- | --- |\n"
        ));
        for t in &report.tallies {
            let (x, y) = t.hashes.clone().unwrap_or_default();
            out.push_str(&format!("| {} | {x} | {y} |\n", plain(&t.name)));
        }
    }
    out
}

fn rows(mismatch: &Mismatch, plan: &Plan<'_>) -> String {
    let record = plain(&mismatch.record(plan));
    let Some(section) = plan.sections.get(mismatch.section) else { return String::new() };
    let lone = if section.children.is_some() { plain(&mismatch.lone(section)) } else { "there".to_owned() };
    match mismatch.kind {
        Kind::NotInExport => format!("| {record} | missing in the export | {lone} | |\n"),
        Kind::NotInDatabase => format!("| {record} | missing in the database | | {lone} |\n"),
        Kind::Repeated { database, export } => {
            format!("| {record} | key stands more than once | {database} times | {export} times |\n")
        }
        Kind::Differs => {
            let row = |d: crate::audit::report::Difference| {
                let at = d.at.map(|at| format!(" (at {at})")).unwrap_or_default();
                let field = plain(&format!("{}{at}", field_shown(&d.field, &d.column)));
                format!("| {record} | {field} | {} | {} |\n", plain(&d.database), plain(&d.export))
            };
            mismatch.differences(section).into_iter().map(row).collect()
        }
    }
}
