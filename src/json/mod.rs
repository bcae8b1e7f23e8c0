//! JSON as bytes: a grammar check for streams, a flat tree over a text, pointers, differences, patches, splices.
//!
//! Nothing here reads files. Texts are RFC 8259; a text is never held twice, and no depth of nesting grows a stack.

pub mod differ;
pub mod doc;
mod feed;
mod matching;
pub mod patch;
pub mod pointer;
pub mod records;
mod scan;
pub mod splice;
pub mod stream;
mod utf8;

pub use scan::hash as quick_hash;
use std::fmt;

/// Levels of arrays and objects within one another; what is deeper is refused by name.
pub const DEPTH_MAX: usize = 256;

/// The largest text that is looked into; larger ones are only checked.
pub const TEXT_MAX: u64 = 64 << 20;

/// What is said of them.
pub const TOO_LARGE: &str = "it is larger than 64 MiB, the most that is looked into";

/// What kind of JSON a file holds, to judge by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One value.
    Document,
    /// A value on each line.
    Lines,
}

impl Form {
    /// By the name's ending, whatever the case of its letters; `None` for what is no JSON.
    pub fn of(path: &[u8]) -> Option<Form> {
        let ends = |ending: &[u8]| {
            path.len().checked_sub(ending.len()).is_some_and(|at| path[at..].eq_ignore_ascii_case(ending))
        };
        if ends(b".json") {
            return Some(Form::Document);
        }
        (ends(b".jsonl") || ends(b".ndjson")).then_some(Form::Lines)
    }
}

/// What is the matter with a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// It does not parse.
    Syntax,
    /// It parses, but an object names a key twice: programs differ in which value they take.
    DuplicateKey,
    /// It may be fine; it is beyond what we look at.
    Limit,
}

/// A fault and its place. Lines and columns count from 1, columns in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub line: u64,
    pub column: u64,
    pub sort: Sort,
    pub what: &'static str,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_go_by_the_end_of_the_name() {
        assert_eq!(Form::of(b"a/b.json"), Some(Form::Document));
        assert_eq!(Form::of(b"A.JSON"), Some(Form::Document));
        assert_eq!(Form::of(b"log.jsonl"), Some(Form::Lines));
        assert_eq!(Form::of(b"log.ndjson"), Some(Form::Lines));
        assert_eq!(Form::of(b"json"), None);
        assert_eq!(Form::of(b"a.json.gz"), None);
    }
}
