//! What changed within a JSON file, for people and for programs.

use super::json::Message;
use super::names::{escape, plain_json, shorten, width};
use crate::compare::inside::Text;
use crate::json::differ::{Edit, Edits, What, edits};
use crate::json::doc::{Doc, Kind, Node};
use crate::json::patch::Patch;

/// Differences of one file that are listed, for people and for programs.
const LINES_MAX: usize = 40;
const LISTED_MAX: usize = 10_000;
/// Bytes of a value that is told whole to programs.
const VALUE_MAX: usize = 64 << 10;
/// Bytes of a value that is shown to people as it is written.
const SHOWN_MAX: usize = 160;
const INDENT: &str = "       ";

/// What a look into a file came to.
pub enum Seen {
    /// Lines for people.
    Lines(Vec<String>),
    /// A field for programs.
    Field(String),
}

/// How to tell it.
#[derive(Clone, Copy)]
pub struct Manner {
    pub json: bool,
    pub patch: bool,
    /// Columns.
    pub room: usize,
}

/// Looks into both texts.
pub fn look(before: &Text, after: &Text, manner: Manner) -> Seen {
    let sides = [("earlier", before), ("later", after)];
    let parsed = sides.map(|(side, text)| {
        let text = text.as_ref().map_err(Clone::clone);
        text.and_then(|t| Doc::parse(t).map_err(|f| f.to_string())).map_err(|why| (side, why))
    });
    let (a, b) = match parsed {
        [Ok(a), Ok(b)] => (a, b),
        [first, second] => {
            let why: Vec<_> = [first.err(), second.err()].into_iter().flatten().collect();
            return not_seen(&why, manner);
        }
    };
    let patch = manner.patch.then(|| Patch::between(&a, &b));
    if manner.json {
        let mut field = summary(&a, &b);
        if let Some(patch) = patch {
            field = field.with_raw("patch", patch.json(false));
        }
        return Seen::Field(text_of(&field));
    }
    Seen::Lines(match patch {
        Some(patch) => plain_json(&patch.json(true)).lines().map(str::to_owned).collect(),
        None => lines(&a, &b, manner.room),
    })
}

fn text_of(message: &Message) -> String {
    serde_json::to_string(message).unwrap_or_default()
}

/// JSON for a terminal: nothing in it may deceive.
fn shown_json(bytes: &[u8]) -> String {
    plain_json(&String::from_utf8_lossy(bytes))
}

fn not_seen(why: &[(&str, String)], manner: Manner) -> Seen {
    if manner.json {
        let message = why.iter().map(|(side, why)| format!("the {side} text: {why}"));
        let message = message.collect::<Vec<_>>().join("; ");
        return Seen::Field(text_of(&Message::default().with("error", message)));
    }
    let line = |(side, why): &(&str, String)| format!("{INDENT}not looked into; the {side} text: {why}");
    Seen::Lines(why.iter().map(line).collect())
}

fn word(what: What) -> (&'static str, &'static str) {
    match what {
        What::Added => ("+", "added"),
        What::Removed => ("-", "removed"),
        What::Changed => ("M", "changed"),
        What::Moved => (">", "moved"),
    }
}

fn summary(a: &Doc<'_>, b: &Doc<'_>) -> Message {
    let found = edits(a, b, LISTED_MAX);
    let Edits { added, removed, changed, moved, .. } = found;
    let changes: Vec<String> = found.list.iter().map(|edit| change(a, b, edit)).collect();
    let message = Message::default().with("added", added).with("removed", removed);
    let message = message.with("changed", changed).with("moved", moved);
    message.with_raw("changes", format!("[{}]", changes.join(","))).with("more", found.more())
}

fn change(a: &Doc<'_>, b: &Doc<'_>, edit: &Edit) -> String {
    let mut message = Message::default().with("change", word(edit.what).1).with("path", edit.path.as_str());
    if let Some(from) = &edit.from {
        message = message.with("from", from.as_str());
    }
    if edit.what == What::Moved {
        return text_of(&message);
    }
    for (doc, node, name, bytes) in [(a, edit.old, "old", "old_bytes"), (b, edit.new, "new", "new_bytes")] {
        let Some(node) = node else { continue };
        message = match doc.raw(node).len() {
            len if len > VALUE_MAX => message.with(bytes, len),
            _ => message.with_raw(name, String::from_utf8_lossy(&doc.compact(node)).into_owned()),
        };
    }
    text_of(&message)
}

fn lines(a: &Doc<'_>, b: &Doc<'_>, room: usize) -> Vec<String> {
    let found = edits(a, b, LINES_MAX);
    let room = room.saturating_sub(INDENT.len() + 2);
    let mut lines: Vec<String> = Vec::new();
    for edit in &found.list {
        let sign = word(edit.what).0;
        lines.push(format!("{INDENT}{sign} {}", line(a, b, edit, room)));
    }
    if lines.is_empty() {
        lines.push(format!("{INDENT}the same values; only their layout or the order of keys differs"));
    }
    if found.more() > 0 {
        lines.push(format!("{INDENT}… and {} more; --patch or --json tells all", found.more()));
    }
    lines
}

/// Path and values within `room` columns.
fn line(a: &Doc<'_>, b: &Doc<'_>, edit: &Edit, room: usize) -> String {
    let name = if edit.path.is_empty() { "(the whole)".to_owned() } else { escape(edit.path.as_bytes()) };
    if let Some(from) = &edit.from {
        let half = room.saturating_sub(7) / 2;
        return format!("{} from {}", shorten(&name, half), shorten(&escape(from.as_bytes()), half));
    }
    let name = shorten(&name, room / 2);
    let left = room.saturating_sub(width(&name) + 2);
    let value = |doc: &Doc<'_>, node: Option<Node>| node.map(|node| excerpt(doc, node)).unwrap_or_default();
    let (old, new) = (value(a, edit.old), value(b, edit.new));
    match edit.what {
        What::Added => format!("{name}: {}", beginning(&new, left)),
        What::Removed => format!("{name}: {}", beginning(&old, left)),
        _ => {
            let (old, new) = share(&old, &new, left.saturating_sub(4));
            format!("{name}: {old} -> {new}")
        }
    }
}

/// Two texts in `room` columns: what one does not need, the other may take.
fn share(old: &str, new: &str, room: usize) -> (String, String) {
    let half = room / 2;
    let (wide_old, wide_new) = (width(old), width(new));
    let (for_old, for_new) = match (wide_old <= half, wide_new <= half) {
        (true, _) => (wide_old, room - wide_old),
        (false, true) => (room - wide_new, wide_new),
        (false, false) => (half, half),
    };
    (beginning(old, for_old), beginning(new, for_new))
}

/// The beginning of a text, which says more than its end.
pub fn beginning(text: &str, room: usize) -> String {
    if width(text) <= room {
        return text.to_owned();
    }
    let mut out = String::new();
    for c in text.chars() {
        if width(&out) + super::names::char_width(c) >= room {
            break;
        }
        out.push(c);
    }
    out.push('…');
    out
}

/// A value on one line, what is large in a few words.
pub fn excerpt(doc: &Doc<'_>, node: Node) -> String {
    let raw = doc.raw(node);
    match doc.kind(node) {
        Kind::Object if raw.len() > SHOWN_MAX => format!("{{… {} keys}}", doc.members(node).len()),
        Kind::Array if raw.len() > SHOWN_MAX => format!("[… {} elements]", doc.items(node).count()),
        Kind::Object | Kind::Array => shown_json(&doc.compact(node)),
        _ => shown_json(&raw[..raw.len().min(4 * SHOWN_MAX)]),
    }
}
