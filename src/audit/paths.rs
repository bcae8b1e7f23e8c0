//! Fields by their pointers, all of a record found in one walk through it; what no rule names is found as well.

use super::map::{Field, Place};
use crate::json::doc::{Doc, Kind, Node};
use crate::json::pointer::{Pointer, push};

/// Pointers as a tree of their parts.
#[derive(Default)]
pub struct Paths {
    nodes: Vec<Part>,
}

#[derive(Default)]
struct Part {
    /// What is wanted of the value here.
    wanted: Vec<usize>,
    ignored: bool,
    /// Parts that go on from here.
    next: Vec<(String, usize)>,
}

/// Calls for what no rule names: its pointer, the value.
pub type Other<'a> = dyn FnMut(&str, Node) + 'a;

impl Paths {
    /// Fields by their numbers, then the arrays in `further`, numbered after them.
    pub fn new<'p>(
        fields: &[Field],
        further: impl Iterator<Item = &'p Pointer>,
        ignored: &[Pointer],
    ) -> Self {
        let mut paths = Paths { nodes: vec![Part::default()] };
        for (number, field) in fields.iter().enumerate() {
            if let Place::At(pointer) = &field.at {
                let at = paths.part(pointer);
                paths.nodes[at].wanted.push(number);
            }
        }
        for (number, pointer) in further.enumerate() {
            let at = paths.part(pointer);
            paths.nodes[at].wanted.push(fields.len() + number);
        }
        for pointer in ignored {
            let at = paths.part(pointer);
            paths.nodes[at].ignored = true;
        }
        paths
    }

    fn part(&mut self, pointer: &Pointer) -> usize {
        pointer.parts().iter().fold(0, |at, part| {
            if let Some((_, next)) = self.nodes[at].next.iter().find(|(name, _)| name == part) {
                return *next;
            }
            let next = self.nodes.len();
            self.nodes.push(Part::default());
            self.nodes[at].next.push((part.clone(), next));
            next
        })
    }

    /// Finds what is wanted of the value `node` and hands over what nobody names.
    pub fn gather(&self, doc: &Doc<'_>, node: Node, out: &mut [Option<Node>], other: &mut Other<'_>) {
        self.walk(doc, node, 0, &mut String::new(), out, other);
    }

    /// As deep as the pointers are long.
    fn walk(
        &self,
        doc: &Doc<'_>,
        node: Node,
        at: usize,
        path: &mut String,
        out: &mut [Option<Node>],
        other: &mut Other<'_>,
    ) {
        let part = &self.nodes[at];
        for number in &part.wanted {
            if let Some(slot) = out.get_mut(*number) {
                *slot = Some(node);
            }
        }
        if part.ignored || (!part.wanted.is_empty() && part.next.is_empty()) {
            return;
        }
        // Fields come in the same order as a rule: the next one is tried first.
        let mut likely = 0;
        let mut find = |name: &[u8]| {
            let count = part.next.len();
            let found =
                (0..count).map(|n| (likely + n) % count).find(|n| part.next[*n].0.as_bytes() == name)?;
            likely = found + 1;
            Some(part.next[found].1)
        };
        let mut go = |name: &[u8], next: Option<usize>, value: Node| {
            let len = path.len();
            match next {
                Some(next) if self.nodes[next].next.is_empty() => {
                    self.walk(doc, value, next, path, out, other);
                }
                Some(next) => {
                    push(path, name);
                    self.walk(doc, value, next, path, out, other);
                }
                None => {
                    push(path, name);
                    other(path, value);
                }
            }
            path.truncate(len);
        };
        match doc.kind(node) {
            Kind::Object => doc.pairs(node).for_each(|(key, value)| {
                let name = doc.string(key);
                go(&name, find(&name), value);
            }),
            Kind::Array if !part.next.is_empty() => doc.items(node).enumerate().for_each(|(n, value)| {
                let name = n.to_string();
                go(name.as_bytes(), find(name.as_bytes()), value);
            }),
            // All that should be in it is absent.
            Kind::Null if at > 0 => {}
            _ if part.wanted.is_empty() => other(path, node),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::form::{As, Form};
    use crate::audit::map::Column;

    #[test]
    fn all_fields_are_found_in_one_walk() {
        let pointer = |text: &str| Pointer::parse(text).expect("a pointer");
        let field = |at: &str| Field {
            column: Column::Own(at.to_owned()),
            at: Place::At(pointer(at)),
            form: Form::plain(As::Value),
        };
        let fields: Vec<Field> = ["/a", "/b/c", "/b/d/0", "/none", "/b/d"].map(field).into();
        let items = [pointer("/items")];
        let paths = Paths::new(&fields, items.iter(), &[pointer("/x"), pointer("/b/y")]);
        let gather = |text: &str| {
            let doc = Doc::parse(text.as_bytes()).expect("sound");
            let (mut out, mut others) = ([None; 6], Vec::new());
            paths.gather(&doc, 0, &mut out, &mut |path, _| others.push(path.to_owned()));
            let found = out.map(|node| node.map(|n| String::from_utf8_lossy(doc.raw(n)).into_owned()));
            (found.map(|f| f.unwrap_or_default()), others)
        };
        let (found, others) =
            gather(r#"{"z":0,"items":[],"b":{"y":[],"d":[5,6],"e":{"f":1},"c":"x"},"x":{"any":1},"a":1}"#);
        assert_eq!(found, ["1", "\"x\"", "5", "", "[5,6]", "[]"]);
        assert_eq!(others, ["/z", "/b/d/1", "/b/e"]);
        assert_eq!(gather(r#"{"b":null}"#).1, [""; 0]);
        assert_eq!(gather(r#"{"b":3}"#).1, ["/b"]);
        assert_eq!(gather("7").1, [""]);
    }
}
