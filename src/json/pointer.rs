//! JSON Pointer (RFC 6901): `/agents/3/id`.

use super::doc::{Doc, Kind, Node};
use crate::error::{Error, Result};

/// A place in a JSON value: the keys and positions on the way to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pointer {
    parts: Vec<String>,
}

impl Pointer {
    /// Reads a pointer: empty for the whole value, otherwise parts that each begin with a slash.
    pub fn parse(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Ok(Pointer::default());
        }
        let Some(rest) = text.strip_prefix('/') else {
            return Err(Error::invalid(format!(
                "`{text}` is no JSON pointer; it begins with a slash: /{text}"
            )));
        };
        let mut parts = Vec::new();
        for part in rest.split('/') {
            if part.split('~').skip(1).any(|after| !after.starts_with(['0', '1'])) {
                let what = format!("`{text}` is no JSON pointer; ~ is written ~0, and / in a key ~1");
                return Err(Error::invalid(what));
            }
            parts.push(part.replace("~1", "/").replace("~0", "~"));
        }
        Ok(Pointer { parts })
    }

    pub fn parts(&self) -> &[String] {
        &self.parts
    }

    /// The pointer to what holds this place, and the last part; `None` for the whole value.
    pub fn split_last(&self) -> Option<(Pointer, &str)> {
        let (last, above) = self.parts.split_last()?;
        Some((Pointer { parts: above.to_vec() }, last))
    }

    /// The value at this place.
    pub fn find(&self, doc: &Doc<'_>) -> Option<Node> {
        self.find_below(doc, doc.root())
    }

    /// The value at this place, seen from `node`.
    pub fn find_below(&self, doc: &Doc<'_>, node: Node) -> Option<Node> {
        self.parts.iter().try_fold(node, |node, part| step(doc, node, part))
    }
}

impl std::fmt::Display for Pointer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for part in &self.parts {
            write!(f, "/{}", part.replace('~', "~0").replace('/', "~1"))?;
        }
        Ok(())
    }
}

/// The value that one part leads to from `node`.
pub fn step(doc: &Doc<'_>, node: Node, part: &str) -> Option<Node> {
    match doc.kind(node) {
        Kind::Object => doc.member(node, part.as_bytes()),
        Kind::Array => doc.items(node).nth(index(part)?),
        _ => None,
    }
}

/// A position in an array as pointers write it: without a sign and without zeros in front.
pub fn index(part: &str) -> Option<usize> {
    let plain = part == "0" || (!part.starts_with('0') && part.bytes().all(|b| b.is_ascii_digit()));
    if plain { part.parse().ok() } else { None }
}

/// Appends a part; bytes that are not UTF-8 (half surrogate pairs) become replacement characters.
pub fn push(path: &mut String, part: &[u8]) {
    path.push('/');
    for c in String::from_utf8_lossy(part).chars() {
        match c {
            '~' => path.push_str("~0"),
            '/' => path.push_str("~1"),
            c => path.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_rfc_6901_hold() {
        let text =
            br#"{"foo":["bar","baz"],"":0,"a/b":1,"c%d":2,"e^f":3,"g|h":4,"i\\j":5,"k\"l":6," ":7,"m~n":8}"#;
        let doc = Doc::parse(text).expect("it parses");
        for (pointer, value) in [
            ("/foo", r#"["bar","baz"]"#),
            ("/foo/0", r#""bar""#),
            ("/", "0"),
            ("/a~1b", "1"),
            ("/c%d", "2"),
            ("/e^f", "3"),
            ("/g|h", "4"),
            ("/i\\j", "5"),
            ("/k\"l", "6"),
            ("/ ", "7"),
            ("/m~0n", "8"),
        ] {
            let parsed = Pointer::parse(pointer).expect("a pointer");
            let node = parsed.find(&doc).expect(pointer);
            assert_eq!(doc.raw(node), value.as_bytes(), "{pointer}");
            assert_eq!(parsed.to_string(), pointer);
        }
        assert_eq!(Pointer::parse("").expect("whole").find(&doc), Some(0));
        for none in ["/foo/2", "/foo/01", "/foo/-", "/foo/+1", "/nothing", "/foo/0/x"] {
            assert_eq!(Pointer::parse(none).expect("a pointer").find(&doc), None, "{none}");
        }
        for wrong in ["foo", "/a~2", "/a~"] {
            assert!(Pointer::parse(wrong).is_err(), "{wrong}");
        }
    }
}
