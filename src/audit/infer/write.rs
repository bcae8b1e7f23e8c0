//! A proposed map as TOML, as somebody would write it.

use super::columns::{Line, Proposal};
use super::look::Location;
use crate::audit::describe::words;
use crate::audit::text::SHAPES;
use std::fmt::Write;

/// What was proposed, place by place.
pub fn map<'p>(proposals: impl Iterator<Item = (&'p Location, &'p Proposal)>) -> String {
    let mut out = String::from(
        "# Proposed from the records that were looked at: look through it before you rely on it.\n",
    );
    for (location, proposal) in proposals {
        table(location, proposal, &mut out);
    }
    out
}

fn table(location: &Location, proposal: &Proposal, out: &mut String) {
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    line("\n[[table]]".to_owned());
    line(format!("from = {}", text(&proposal.table)));
    if let Some(file) = &location.file {
        line(format!("file = {}", text(file)));
    }
    if !location.at.parts().is_empty() {
        line(format!("at = {}", text(&location.at.to_string())));
    }
    if let Some((word, _)) = SHAPES.iter().find(|(_, shape)| Some(*shape) == location.shape) {
        line(format!("shape = {}", text(word)));
    }
    line(format!("key = {}", list(&proposal.key)));
    left(&proposal.left_columns, &proposal.left_fields, &mut line);
    fields(&proposal.lines, &mut line);
    for rows in &proposal.rows {
        line("\n[[table.children]]".to_owned());
        line(format!("field = {}", text(&rows.field)));
        line(format!("from = {}", text(&rows.table)));
        line(format!("by = {{ {} = {} }}", text(&rows.by.0), text(&rows.by.1)));
        match &rows.order {
            Some(order) => line(format!("order = {}", list(std::slice::from_ref(order)))),
            None => {
                line("# no column gives the order of the elements, so that it is not compared".to_owned())
            }
        }
        if rows.may_be_absent {
            line("may_be_absent = true".to_owned());
        }
        left(&rows.left_columns, &rows.left_fields, &mut line);
        fields(&rows.lines, &mut line);
    }
}

fn left(columns: &[String], fields: &[String], line: &mut dyn FnMut(String)) {
    if !columns.is_empty() {
        line(format!("ignore_columns = {} # nothing like them was found in the export", list(columns)));
    }
    if !fields.is_empty() {
        line(format!("ignore_fields = {} # nothing like them was found in the database", list(fields)));
    }
}

fn fields(lines: &[Line], line: &mut dyn FnMut(String)) {
    line("fields = [".to_owned());
    for one in lines {
        let mut parts = match &one.lookup {
            None => format!("column = {}", text(&one.column)),
            Some((table, theirs, own)) => format!(
                "lookup = {{ table = {}, by = {{ {} = {} }}, column = {} }}",
                text(table),
                text(theirs),
                text(own),
                text(&one.column)
            ),
        };
        // Writing to a string cannot fail.
        let _ = write!(parts, ", field = {}", text(&one.field));
        for (name, word) in words(&one.form) {
            let _ = write!(parts, ", {name} = {}", text(word));
        }
        line(format!("  {{ {parts} }},"));
    }
    line("]".to_owned());
}

fn list(all: &[String]) -> String {
    format!("[{}]", all.iter().map(|one| text(one)).collect::<Vec<_>>().join(", "))
}

/// A string of JSON is one of TOML, but for one character.
fn text(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default().replace('\u{7f}', "\\u007f")
}
