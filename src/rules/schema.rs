//! JSON Schema: a schema made ready, and values tried against it. Nothing is fetched from anywhere.

use crate::json::doc::{Doc, Kind, Node};
use jsonschema::Validator;
use serde_json::{Map, Number, Value};

/// Faults told of one file.
const FAULTS_MAX: usize = 20;
/// Characters of one fault: they quote the value.
const WORDS_MAX: usize = 200;

/// A schema that can be tried.
#[derive(Debug)]
pub struct Schema(Validator);

impl Schema {
    /// From its text; an error says why it is none.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let doc = Doc::parse(text).map_err(|fault| fault.to_string())?;
        let value = value(&doc, doc.root());
        jsonschema::options().build(&value).map(Schema).map_err(|e| short(&e.to_string()))
    }

    /// What is wrong with a value: place and words.
    pub fn faults(&self, doc: &Doc<'_>) -> Vec<String> {
        let value = value(doc, doc.root());
        let told = |e: jsonschema::ValidationError<'_>| {
            let place = e.instance_path().to_string();
            let place = if place.is_empty() { "the whole".to_owned() } else { format!("`{place}`") };
            format!("{place}: {}", short(&e.to_string()))
        };
        self.0.iter_errors(&value).take(FAULTS_MAX).map(told).collect()
    }
}

fn short(text: &str) -> String {
    if text.chars().count() <= WORDS_MAX {
        return text.to_owned();
    }
    text.chars().take(WORDS_MAX).chain(['…']).collect()
}

/// As other people's value; numbers beyond 64 bits become floating point, what is no Unicode is replaced.
fn value(doc: &Doc<'_>, node: Node) -> Value {
    let text = |node| String::from_utf8_lossy(&doc.string(node)).into_owned();
    match doc.kind(node) {
        Kind::Null => Value::Null,
        Kind::True => Value::Bool(true),
        Kind::False => Value::Bool(false),
        Kind::Number => {
            let raw = std::str::from_utf8(doc.raw(node)).unwrap_or("0");
            let exact = serde_json::from_str::<Number>(raw).ok();
            exact.map_or(Value::Null, Value::Number)
        }
        Kind::Text => Value::String(text(node)),
        Kind::Array => doc.items(node).map(|item| value(doc, item)).collect(),
        Kind::Object => {
            let members = doc.members(node).into_iter();
            let pair = |(key, node): (std::borrow::Cow<'_, [u8]>, Node)| {
                (String::from_utf8_lossy(&key).into_owned(), value(doc, node))
            };
            Value::Object(members.map(pair).collect::<Map<_, _>>())
        }
    }
}
