//! The published schema of profiles (JSON Schema, draft 2020-12), for editors and for those who generate profiles.

use super::checked::Allowed;
use super::keys::{HOOK, Key, Kind, SECRET, SECTIONS};
use super::{Known, Section, Takes};
use serde_json::{Map, Value, json};

/// Where the schema says it can be found.
const ID: &str = "https://snapkeep.example/profile.schema.json";

/// The schema of everything that a profile may hold, given the options that the commands take.
pub fn schema(known: &[Section]) -> Value {
    let allowed = Allowed(known);
    let mut properties = Map::new();
    for key in SECTIONS {
        properties.insert(key.name.to_owned(), described(of_kind(key.kind, allowed), key.about));
    }
    for section in known.iter().filter(|section| !SECTIONS.iter().any(|key| key.name == section.name)) {
        let about = format!("Options of `{}`", section.name.replace('-', " "));
        let table = object(&[], Some(&section.name), allowed);
        properties.insert(section.name.clone(), described(table, &about));
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": ID,
        "title": "A profile of snapkeep",
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
        "$defs": {
            "hook": {"anyOf": [{"type": "string"}, required(object(HOOK, None, allowed), "command")]},
            "secret": one_of(object(SECRET, None, allowed)),
        },
    })
}

fn described(mut schema: Value, about: &str) -> Value {
    if !about.is_empty() {
        schema["description"] = about.into();
    }
    schema
}

fn required(mut schema: Value, key: &str) -> Value {
    schema["required"] = json!([key]);
    schema
}

fn one_of(mut schema: Value) -> Value {
    schema["minProperties"] = 1.into();
    schema["maxProperties"] = 1.into();
    schema
}

fn object(keys: &[Key], section: Option<&str>, allowed: Allowed<'_>) -> Value {
    let mut properties = Map::new();
    for option in section.into_iter().flat_map(|section| allowed.options(section)) {
        properties.insert(option.name.clone(), described(of_option(option), &option.about));
    }
    for key in keys {
        properties.insert(key.name.to_owned(), described(of_kind(key.kind, allowed), key.about));
    }
    json!({"type": "object", "additionalProperties": false, "properties": properties})
}

fn of_option(option: &Known) -> Value {
    match option.takes {
        Takes::Nothing => json!({"type": "boolean"}),
        Takes::One => json!({"type": ["string", "number"]}),
        Takes::Many => {
            json!({"type": ["string", "number", "array"], "items": {"type": ["string", "number"]}})
        }
    }
}

fn of_kind(kind: Kind, allowed: Allowed<'_>) -> Value {
    match kind {
        Kind::Text => json!({"type": "string"}),
        Kind::Texts | Kind::Schedule => json!({"type": ["string", "array"], "items": {"type": "string"}}),
        Kind::Truth => json!({"type": "boolean"}),
        Kind::Whole(least, i64::MAX) => json!({"type": "integer", "minimum": least}),
        Kind::Whole(least, most) => json!({"type": "integer", "minimum": least, "maximum": most}),
        Kind::Number => json!({"type": "number", "minimum": 0}),
        Kind::Span => json!({"type": "string", "pattern": "^\\s*([0-9]+\\s*[a-z]+\\s*)+$"}),
        Kind::Size => json!({"type": ["string", "integer"], "minimum": 0}),
        Kind::Share => json!({"type": ["string", "number"], "minimum": 0}),
        Kind::Word(words) => json!({"enum": words}),
        Kind::Hooks => {
            let hook = json!({"$ref": "#/$defs/hook"});
            json!({"anyOf": [hook, {"type": "array", "items": hook}]})
        }
        Kind::Secret => json!({"$ref": "#/$defs/secret"}),
        Kind::Table(group) => object(group.keys, group.options_of, allowed),
        Kind::Tables(group) => {
            let mut table = object(group.keys, group.options_of, allowed);
            if group.keys.iter().any(|key| key.name == "name") {
                table = required(table, "name");
            }
            json!({"type": "array", "items": table})
        }
        Kind::Map(kind) => json!({"type": "object", "additionalProperties": of_kind(*kind, allowed)}),
        Kind::Either(kinds) => {
            json!({"anyOf": kinds.iter().map(|kind| of_kind(*kind, allowed)).collect::<Vec<_>>()})
        }
    }
}
