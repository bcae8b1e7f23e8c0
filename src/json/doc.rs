//! A JSON text as a flat list of its values: 16 bytes each, in the order of the text, with their places in it.

use super::scan::hash;
use super::stream::check;
use super::{Fault, Form, Sort, TEXT_MAX, TOO_LARGE};
use std::borrow::Cow;
use std::collections::HashMap;

/// Values and keys of one text; what has more is refused, so that memory stays bounded.
pub const NODES_MAX: usize = 4 << 20;

/// A value in a `Doc`.
pub type Node = u32;

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    Null,
    True,
    False,
    Number,
    Text,
    Array,
    Object,
}

#[derive(Clone, Copy)]
struct Place {
    start: u32,
    end: u32,
    /// The value behind this one and all it holds.
    next: Node,
    kind: Kind,
    /// A text with escapes: its bytes are not what it says.
    escaped: bool,
}

/// A text that parses, and its values. Keys are values of their own, each before the value it names.
pub struct Doc<'t> {
    text: &'t [u8],
    nodes: Vec<Place>,
    /// Where an object has a key twice; the later one holds.
    pub duplicate: Option<Fault>,
}

impl<'t> Doc<'t> {
    /// Reads one value; a byte order mark before it is passed over.
    pub fn parse(text: &'t [u8]) -> Result<Self, Fault> {
        let limit = |what| Fault { line: 1, column: 1, sort: Sort::Limit, what };
        if text.len() as u64 > TEXT_MAX {
            return Err(limit(TOO_LARGE));
        }
        let skip = if text.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        let duplicate = match check(&text[skip..], Form::Document) {
            Some(fault) if fault.sort != Sort::DuplicateKey => return Err(fault),
            duplicate => duplicate,
        };
        let mut doc = Doc { text, nodes: Vec::new(), duplicate };
        match doc.build(skip) {
            Some(()) => Ok(doc),
            None => Err(limit("it holds more than four million values, the most that is looked into")),
        }
    }

    /// Of a text that is known to follow the grammar; `None` when it holds too much.
    fn build(&mut self, skip: usize) -> Option<()> {
        let (text, mut at) = (self.text, skip);
        let mut open: Vec<Node> = Vec::new();
        while let Some(&byte) = text.get(at) {
            let start = at;
            at += 1;
            let (kind, mut escaped) = match byte {
                b'"' => (Kind::Text, false),
                b'{' => (Kind::Object, false),
                b'[' => (Kind::Array, false),
                b't' => (Kind::True, false),
                b'f' => (Kind::False, false),
                b'n' => (Kind::Null, false),
                b'-' | b'0'..=b'9' => (Kind::Number, false),
                b'}' | b']' => {
                    let next = self.nodes.len() as Node;
                    if let Some(place) = open.pop().and_then(|n| self.nodes.get_mut(n as usize)) {
                        place.end = at as u32;
                        place.next = next;
                    }
                    continue;
                }
                _ => continue,
            };
            if self.nodes.len() == NODES_MAX {
                return None;
            }
            let node = self.nodes.len() as Node;
            match kind {
                Kind::Text => (at, escaped) = text_end(text, at),
                Kind::Object | Kind::Array => open.push(node),
                _ => {
                    let more = |b: &&u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'+' | b'.');
                    at += text[at..].iter().take_while(more).count();
                }
            }
            let (start, end) = (start as u32, at as u32);
            self.nodes.push(Place { start, end, next: node + 1, kind, escaped });
        }
        Some(())
    }

    pub fn root(&self) -> Node {
        0
    }

    pub fn text(&self) -> &'t [u8] {
        self.text
    }

    fn place(&self, node: Node) -> Place {
        let nothing = Place { start: 0, end: 0, next: node + 1, kind: Kind::Null, escaped: false };
        self.nodes.get(node as usize).copied().unwrap_or(nothing)
    }

    pub fn kind(&self, node: Node) -> Kind {
        self.place(node).kind
    }

    /// Where the value stands in the text.
    pub fn span(&self, node: Node) -> std::ops::Range<usize> {
        let place = self.place(node);
        place.start as usize..place.end as usize
    }

    /// The value as it is written.
    pub fn raw(&self, node: Node) -> &'t [u8] {
        self.text.get(self.span(node)).unwrap_or_default()
    }

    /// The value and all it holds.
    pub fn range(&self, node: Node) -> std::ops::Range<Node> {
        node..self.place(node).next
    }

    /// Everything outside of `but`, in order: what it is, and the bytes of what holds nothing else.
    pub fn outline(&self, but: std::ops::Range<Node>) -> impl Iterator<Item = (Kind, &'t [u8])> + '_ {
        let all = 0..self.nodes.len() as Node;
        all.filter(move |node| !but.contains(node)).map(|node| match self.kind(node) {
            kind @ (Kind::Array | Kind::Object) => (kind, &b""[..]),
            kind => (kind, self.raw(node)),
        })
    }

    /// The values an array holds.
    pub fn items(&self, node: Node) -> impl Iterator<Item = Node> + '_ {
        let end = if self.kind(node) == Kind::Array { self.place(node).next } else { node };
        let mut at = node + 1;
        std::iter::from_fn(move || {
            let here = (at < end).then_some(at)?;
            at = self.place(here).next;
            Some(here)
        })
    }

    /// Keys and values of an object as they are written, a key that stands twice both times.
    pub fn pairs(&self, node: Node) -> impl Iterator<Item = (Node, Node)> + '_ {
        let end = if self.kind(node) == Kind::Object { self.place(node).next } else { node };
        let mut at = node + 1;
        std::iter::from_fn(move || {
            let key = (at < end).then_some(at)?;
            at = self.place(key + 1).next;
            Some((key, key + 1))
        })
    }

    /// Keys and values of an object in order; of a key that stands twice the later value, as most readers take it.
    pub fn members(&self, node: Node) -> Vec<(Cow<'t, [u8]>, Node)> {
        let mut members: Vec<(Cow<'t, [u8]>, Node)> =
            self.pairs(node).map(|(key, value)| (self.string(key), value)).collect();
        if self.duplicate.is_some() {
            let last: HashMap<Vec<u8>, Node> =
                members.iter().map(|(key, value)| (key.to_vec(), *value)).collect();
            members.retain(|(key, value)| last.get(key.as_ref()) == Some(value));
        }
        members
    }

    /// The value of a key.
    pub fn member(&self, node: Node, key: &[u8]) -> Option<Node> {
        self.pairs(node).filter(|(k, _)| self.string(*k).as_ref() == key).last().map(|(_, value)| value)
    }

    /// What a text says, as UTF-8; a half of a surrogate pair as its three bytes, so that nothing is lost.
    pub fn string(&self, node: Node) -> Cow<'t, [u8]> {
        let place = self.place(node);
        let inner = self.text.get(place.start as usize + 1..(place.end as usize).saturating_sub(1));
        let inner = inner.unwrap_or_default();
        if place.escaped { Cow::Owned(unescape(inner)) } else { Cow::Borrowed(inner) }
    }

    /// Whether two values say the same: objects whatever the order of their keys, numbers as they are written.
    pub fn same(&self, node: Node, other: &Doc<'_>, theirs: Node) -> bool {
        if self.kind(node) != other.kind(theirs) {
            return false;
        }
        if self.raw(node) == other.raw(theirs) {
            return true;
        }
        match self.kind(node) {
            Kind::Null | Kind::True | Kind::False => true,
            Kind::Number => false,
            Kind::Text => self.string(node) == other.string(theirs),
            Kind::Array => {
                let (mut a, mut b) = (self.items(node), other.items(theirs));
                loop {
                    match (a.next(), b.next()) {
                        (None, None) => return true,
                        (Some(x), Some(y)) if self.same(x, other, y) => {}
                        _ => return false,
                    }
                }
            }
            Kind::Object => {
                let (mut a, mut b) = (self.members(node), other.members(theirs));
                a.sort_unstable_by(|x, y| x.0.cmp(&y.0));
                b.sort_unstable_by(|x, y| x.0.cmp(&y.0));
                a.len() == b.len() && a.iter().zip(&b).all(|(x, y)| x.0 == y.0 && self.same(x.1, other, y.1))
            }
        }
    }

    /// A number that is the same for values that say the same, and hardly ever for others.
    pub fn fingerprint(&self, node: Node) -> u64 {
        let kind = self.kind(node);
        let salted = |n: u64| hash(&[&[kind as u8][..], &n.to_le_bytes()].concat());
        match kind {
            Kind::Null | Kind::True | Kind::False => salted(0),
            Kind::Number => salted(hash(self.raw(node))),
            Kind::Text => salted(hash(&self.string(node))),
            Kind::Array => {
                let mix = |sum: u64, item| salted(sum.rotate_left(7) ^ self.fingerprint(item));
                self.items(node).fold(salted(1), mix)
            }
            Kind::Object => {
                let pair = |(key, value): (Cow<'_, [u8]>, Node)| {
                    hash(&[hash(&key).to_le_bytes(), self.fingerprint(value).to_le_bytes()].concat())
                };
                // A sum: the order of keys says nothing.
                salted(self.members(node).into_iter().map(pair).fold(0, u64::wrapping_add))
            }
        }
    }

    /// The value on one line, without white space between its parts.
    pub fn compact(&self, node: Node) -> Vec<u8> {
        let mut out = Vec::new();
        self.compact_into(node, &mut out);
        out
    }

    pub fn compact_into(&self, node: Node, out: &mut Vec<u8>) {
        let raw = self.raw(node);
        let mut at = 0;
        while let Some(&byte) = raw.get(at) {
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' => at += 1,
                b'"' => {
                    let (end, _) = text_end(raw, at + 1);
                    out.extend_from_slice(&raw[at..end]);
                    at = end;
                }
                _ => {
                    out.push(byte);
                    at += 1;
                }
            }
        }
    }

    /// Line and column of a place in the text, both from 1.
    pub fn line_and_column(&self, at: usize) -> (u64, u64) {
        let before = &self.text[..at.min(self.text.len())];
        let line = before.iter().filter(|b| **b == b'\n').count() as u64 + 1;
        let start = before.iter().rposition(|b| *b == b'\n').map_or(0, |p| p + 1);
        (line, (before.len() - start) as u64 + 1)
    }
}

/// Behind the closing quote of a text whose first byte is at `at`, and whether it holds escapes.
fn text_end(text: &[u8], mut at: usize) -> (usize, bool) {
    let mut escaped = false;
    loop {
        match text.get(at) {
            None => return (text.len(), escaped),
            Some(b'"') => return (at + 1, escaped),
            Some(b'\\') => {
                escaped = true;
                at += 2;
            }
            Some(_) => at += 1,
        }
    }
}

fn unescape(inner: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(inner.len());
    let mut at = 0;
    while let Some(&byte) = inner.get(at) {
        at += 1;
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let escape = inner.get(at).copied().unwrap_or(b'\\');
        at += 1;
        match escape {
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'u' => {
                let mut code = unit(inner, at);
                at += 4;
                let low = if inner.get(at..at + 2) == Some(b"\\u") { unit(inner, at + 2) } else { 0 };
                if (0xd800..0xdc00).contains(&code) && (0xdc00..0xe000).contains(&low) {
                    code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                    at += 6;
                }
                push_code(code, &mut out);
            }
            other => out.push(other),
        }
    }
    out
}

/// The four hex digits at `at`.
fn unit(inner: &[u8], at: usize) -> u32 {
    let digits = inner.get(at..at + 4).and_then(|d| std::str::from_utf8(d).ok());
    digits.and_then(|d| u32::from_str_radix(d, 16).ok()).unwrap_or(0xfffd)
}

fn push_code(code: u32, out: &mut Vec<u8>) {
    match char::from_u32(code) {
        Some(c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        None => out.extend_from_slice(&[0xed, 0x80 | (code >> 6) as u8 & 0x3f, 0x80 | code as u8 & 0x3f]),
    }
}
