//! One JSON file against what a rule asks of it.

use super::{JsonCheck, Reason};
use crate::json::doc::{Doc, Kind, Node};
use crate::json::pointer::{Pointer, push, step};
use std::collections::{HashMap, HashSet};

/// Values remembered for one rule.
const VALUES_MAX: usize = 1 << 20;
/// Places that one pointer with `*` may lead to in one file.
const PLACES_MAX: usize = 1 << 20;

/// A value, the file that it stands in, and where.
type Referring = (Vec<u8>, Vec<u8>, String);

/// What a rule remembers from file to file.
#[derive(Default)]
pub struct Memory {
    /// For each pointer that must be unique: values and where they were first.
    seen: Vec<HashMap<Vec<u8>, Vec<u8>>>,
    /// For each reference: values, their files and places.
    from: Vec<Vec<Referring>>,
    pub to: Vec<HashSet<Vec<u8>>>,
    /// There was more than is remembered.
    pub full: bool,
}

impl Memory {
    pub fn new(check: &JsonCheck) -> Self {
        let refers = check.refers.len();
        Memory {
            seen: check.unique.iter().map(|_| HashMap::new()).collect(),
            from: vec![Vec::new(); refers],
            to: vec![HashSet::new(); refers],
            full: false,
        }
    }

    /// Takes note of the values that others refer to.
    pub fn learn(&mut self, number: usize, doc: &Doc<'_>, key: &Pointer) {
        for (_, node) in places(doc, key, &mut self.full) {
            let room = self.to.get(number).is_some_and(|to| to.len() < VALUES_MAX);
            if let (Some(node), true, Some(to)) = (node, room, self.to.get_mut(number)) {
                to.insert(said(doc, node));
            }
            self.full |= !room;
        }
    }

    /// References that lead nowhere.
    pub fn dangling(&self, number: usize) -> impl Iterator<Item = Reason> + '_ {
        let to = self.to.get(number);
        let from = self.from.get(number).into_iter().flatten();
        from.filter(move |(value, _, _)| !to.is_some_and(|to| to.contains(value))).map(
            |(value, path, place)| {
                let shown = String::from_utf8_lossy(value).chars().take(100).collect::<String>();
                Reason {
                    path: Some(path.clone()),
                    message: format!("`{place}` is {shown}, which nothing has"),
                }
            },
        )
    }
}

/// What is wrong with one file.
pub fn json(check: &JsonCheck, memory: &mut Memory, path: &[u8], doc: &Doc<'_>) -> Vec<String> {
    let Memory { seen, from, full, .. } = memory;
    let mut wrong = Vec::new();
    for pointer in &check.keys {
        let missing = places(doc, pointer, full).into_iter().filter(|(_, node)| node.is_none());
        wrong.extend(missing.map(|(place, _)| format!("no `{place}`")));
    }
    for (pointer, types) in &check.types {
        for (place, node) in places(doc, pointer, full) {
            if let Some(node) = node.filter(|node| !types.iter().any(|t| is_type(doc, *node, t))) {
                let is = type_word(doc, node);
                wrong.push(format!("`{place}` is of type {is}, not {}", types.join(" or ")));
            }
        }
    }
    if let Some(Ok(schema)) = &check.schema {
        wrong.extend(schema.faults(doc));
    }
    for (pointer, seen) in check.unique.iter().zip(seen) {
        for (place, node) in places(doc, pointer, full) {
            let Some(node) = node else { continue };
            if seen.len() >= VALUES_MAX {
                *full = true;
                break;
            }
            if let Some(first) = seen.insert(said(doc, node), path.to_vec()) {
                let first = String::from_utf8_lossy(&first).into_owned();
                wrong.push(format!("the value of `{place}` is not unique; {first} has it, too"));
            }
        }
    }
    for (refer, from) in check.refers.iter().zip(from) {
        for (place, node) in places(doc, &refer.from, full) {
            if from.len() >= VALUES_MAX {
                *full = true;
                break;
            }
            from.extend(node.map(|node| (said(doc, node), path.to_vec(), place)));
        }
    }
    wrong
}

/// A value in one way of writing it.
fn said(doc: &Doc<'_>, node: Node) -> Vec<u8> {
    match doc.kind(node) {
        Kind::Text => serde_json::to_vec(&String::from_utf8_lossy(&doc.string(node))).unwrap_or_default(),
        _ => doc.compact(node),
    }
}

/// Where a pointer leads to; a part `*` stands for all elements or values. `None` where a part is missing.
fn places(doc: &Doc<'_>, pointer: &Pointer, full: &mut bool) -> Vec<(String, Option<Node>)> {
    let mut found = vec![(String::new(), Some(doc.root()))];
    for part in pointer.parts() {
        let mut next = Vec::new();
        for (here, node) in found {
            let below = |key: &[u8]| {
                let mut path = here.clone();
                push(&mut path, key);
                path
            };
            match node {
                Some(node) if part == "*" && doc.kind(node) == Kind::Array => {
                    let all = doc.items(node).enumerate();
                    next.extend(all.map(|(n, item)| (below(n.to_string().as_bytes()), Some(item))));
                }
                Some(node) if part == "*" && doc.kind(node) == Kind::Object => {
                    next.extend(doc.members(node).into_iter().map(|(key, value)| (below(&key), Some(value))));
                }
                Some(node) => next.push((below(part.as_bytes()), step(doc, node, part))),
                None => next.push((here, None)),
            }
        }
        *full |= next.len() > PLACES_MAX;
        next.truncate(PLACES_MAX);
        found = next;
    }
    found
}

fn type_word(doc: &Doc<'_>, node: Node) -> &'static str {
    match doc.kind(node) {
        Kind::Null => "null",
        Kind::True | Kind::False => "boolean",
        Kind::Number => "number",
        Kind::Text => "string",
        Kind::Array => "array",
        Kind::Object => "object",
    }
}

fn is_type(doc: &Doc<'_>, node: Node, wanted: &str) -> bool {
    let integer = || !doc.raw(node).iter().any(|b| matches!(b, b'.' | b'e' | b'E'));
    match wanted {
        "integer" => doc.kind(node) == Kind::Number && integer(),
        _ => type_word(doc, node) == wanted,
    }
}
