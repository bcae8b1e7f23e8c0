//! One value put into a JSON text without touching any other byte of it.

use super::doc::{Doc, Kind, Node};
use super::pointer::{Pointer, index, step};
use crate::error::{Error, ErrorKind, Result};
use std::ops::Range;

/// What putting the value in came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The value is there already, as it is to be.
    Same,
    Replaced,
    /// It was missing; it stands behind the last one beside it now.
    Inserted,
}

/// A text with the value in it.
#[derive(Debug)]
pub struct Spliced {
    pub text: Vec<u8>,
    pub way: Way,
}

/// Puts `value` (a JSON text) at `pointer` into `doc`. What comes out is parsed and compared: it has this value there,
/// and nothing else in it differs.
pub fn put(doc: &Doc<'_>, pointer: &Pointer, value: &[u8]) -> Result<Spliced> {
    let wanted = Doc::parse(value).map_err(|f| Error::invalid(format!("the value is not JSON: {f}")))?;
    unambiguous(doc, pointer)?;
    let value = wanted.raw(wanted.root());
    let Some(found) = pointer.find(doc) else {
        let text = insert(doc, pointer, value)?;
        proven(doc, pointer, &wanted, &text)?;
        return Ok(Spliced { text, way: Way::Inserted });
    };
    if doc.same(found, &wanted, wanted.root()) {
        return Ok(Spliced { text: doc.text().to_vec(), way: Way::Same });
    }
    let text = replaced(doc.text(), doc.span(found), value);
    proven(doc, pointer, &wanted, &text)?;
    Ok(Spliced { text, way: Way::Replaced })
}

/// Refuses a way that leads through a key that stands twice: readers differ in which one they follow.
fn unambiguous(doc: &Doc<'_>, pointer: &Pointer) -> Result<()> {
    let mut node = doc.root();
    for part in pointer.parts() {
        let twice =
            |n: Node| doc.pairs(n).filter(|(k, _)| doc.string(*k).as_ref() == part.as_bytes()).count() > 1;
        if doc.duplicate.is_some() && twice(node) {
            let what = format!("the file has the key `{part}` twice in one object; remove one of them first");
            return Err(Error::new(ErrorKind::Refused, what));
        }
        let Some(next) = step(doc, node, part) else { return Ok(()) };
        node = next;
    }
    Ok(())
}

fn replaced(text: &[u8], span: Range<usize>, by: &[u8]) -> Vec<u8> {
    [&text[..span.start], by, &text[span.end..]].concat()
}

/// The text with a new value behind the last one in the array or object that is to hold it.
fn insert(doc: &Doc<'_>, pointer: &Pointer, value: &[u8]) -> Result<Vec<u8>> {
    let nothing = || Error::invalid("the file holds no value to put this into");
    let (above, last) = pointer.split_last().ok_or_else(nothing)?;
    let holder = above.find(doc).ok_or_else(|| {
        let what = format!("the file has no `{above}` to put it into; restore that key instead");
        Error::new(ErrorKind::NotFound, what)
    })?;
    let head = match doc.kind(holder) {
        Kind::Object => serde_json::to_vec(last).unwrap_or_default(),
        Kind::Array if last == "-" || index(last) == Some(doc.items(holder).count()) => Vec::new(),
        Kind::Array => {
            let what = format!(
                "the array `{above}` of the file has {} elements, so nothing can stand at position {last}; restore \
                 the array instead",
                doc.items(holder).count()
            );
            return Err(Error::invalid(what));
        }
        _ => {
            let what =
                format!("`{above}` of the file is neither an object nor an array; restore that key instead");
            return Err(Error::invalid(what));
        }
    };
    let text = doc.text();
    let (at, piece) = match (doc.pairs(holder).last(), doc.items(holder).last()) {
        (Some((key, old)), _) => {
            let colon = &text[doc.span(key).end..doc.span(old).start];
            let lead = space_before(text, doc.span(key).start);
            (doc.span(old).end, [b",", lead, &head, colon, value].concat())
        }
        (None, Some(old)) => {
            let lead = space_before(text, doc.span(old).start);
            (doc.span(old).end, [b",", lead, value].concat())
        }
        (None, None) => return Ok(into_empty(doc, holder, &head, value)),
    };
    Ok(replaced(text, at..at, &piece))
}

fn space_before(text: &[u8], at: usize) -> &[u8] {
    let len = text[..at].iter().rev().take_while(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n')).count();
    &text[at - len..at]
}

/// The first value of an empty array or object, laid out as the rest of the text is.
fn into_empty(doc: &Doc<'_>, holder: Node, head: &[u8], value: &[u8]) -> Vec<u8> {
    let (text, span) = (doc.text(), doc.span(holder));
    let (open, close) = (&text[span.start..=span.start], &text[span.end - 1..span.end]);
    let first = doc.pairs(doc.root()).next();
    let colon: &[u8] = match (head.is_empty(), first) {
        (true, _) => b"",
        (false, Some((key, value))) => &text[doc.span(key).end..doc.span(value).start],
        (false, None) => b": ",
    };
    let beginning = first.map(|(key, _)| key).or_else(|| doc.items(doc.root()).next());
    let lead = beginning.map_or(&b""[..], |node| space_before(text, doc.span(node).start));
    let piece = match lead.iter().rposition(|b| *b == b'\n') {
        None => [open, head, colon, value, close].concat(),
        Some(at) => {
            let end: &[u8] = if lead[..at].ends_with(b"\r") { b"\r\n" } else { b"\n" };
            let line = text[..span.start].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
            let indent = text[line..span.start].iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
            let (indent, unit) = (&text[line..line + indent], &lead[at + 1..]);
            [open, end, indent, unit, head, colon, value, end, indent, close].concat()
        }
    };
    replaced(text, span, &piece)
}

/// Nothing leaves here that does not say exactly what it should.
fn proven(before: &Doc<'_>, pointer: &Pointer, wanted: &Doc<'_>, text: &[u8]) -> Result<()> {
    let bug =
        |what: &str| Error::invalid(format!("{what}; nothing was changed, and this is a bug in snapkeep"));
    let after = Doc::parse(text).map_err(|f| match f.sort {
        super::Sort::Limit => Error::invalid(format!("with the value the file would not be readable: {f}")),
        _ => bug("the new text does not parse"),
    })?;
    let old = pointer.find(before);
    let appended = pointer.split_last().filter(|(_, last)| *last == "-" && old.is_none());
    let new = match &appended {
        Some((above, _)) => above.find(&after).and_then(|holder| match after.kind(holder) {
            Kind::Array => after.items(holder).last(),
            _ => after.member(holder, b"-"),
        }),
        None => pointer.find(&after),
    };
    let Some(new) = new.filter(|node| after.same(*node, wanted, wanted.root())) else {
        return Err(bug("the new text does not have the value"));
    };
    let (gone, come) = match old {
        Some(old) => (before.range(old), after.range(new)),
        // A key came with it, unless it stands in an array.
        None => {
            let in_object = after.kind(new.saturating_sub(1)) == Kind::Text
                && after.text()[after.span(new - 1).end..after.span(new).start].contains(&b':');
            let first = if in_object { new - 1 } else { new };
            (first..first, first..after.range(new).end)
        }
    };
    if !before.outline(gone).eq(after.outline(come)) {
        return Err(bug("the new text differs elsewhere"));
    }
    Ok(())
}
