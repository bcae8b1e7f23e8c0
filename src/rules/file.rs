//! A rules file: TOML to rules, every mistake in it named.

use super::schema::Schema;
use super::sql::{SqlCheck, TIME_MAX, Wanted};
use super::{Check, JsonCheck, Refer, Rule, Rules};
use crate::error::{Error, Result};
use crate::json::pointer::Pointer;
use crate::sqlite::query::Value;
use crate::units;
use globset::{GlobBuilder, GlobMatcher};
use serde::Deserialize;
use std::collections::BTreeMap;

const TYPES: [&str; 7] = ["string", "number", "integer", "boolean", "null", "array", "object"];
/// Rules of one file.
const RULES_MAX: usize = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    #[serde(default)]
    rule: Vec<RuleText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleText {
    name: String,
    directories: Option<String>,
    paths: Option<String>,
    json: Option<String>,
    at_least: Option<u64>,
    at_most: Option<u64>,
    #[serde(default)]
    files: Vec<String>,
    #[serde(default)]
    keys: Vec<String>,
    #[serde(default)]
    types: BTreeMap<String, String>,
    schema: Option<String>,
    #[serde(default)]
    unique: Vec<String>,
    #[serde(default)]
    refers: Vec<ReferText>,
    database: Option<String>,
    select: Option<String>,
    expect: Option<String>,
    equals: Option<toml::Value>,
    timeout: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReferText {
    from: String,
    to: String,
    key: String,
}

/// Gives the text of a schema file, named relative to the rules file.
pub type Load<'a> = dyn FnMut(&str) -> Result<Vec<u8>> + 'a;

/// Reads a rules file.
pub fn parse(text: &[u8], load: &mut Load<'_>) -> Result<Rules> {
    let text = std::str::from_utf8(text).map_err(|_| Error::invalid("it is not UTF-8"))?;
    let parsed: Text = toml::from_str(text).map_err(|e| {
        let line = e.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        let place = line.map(|line| format!("line {line}: ")).unwrap_or_default();
        Error::invalid(format!("{place}{}", e.message()))
    })?;
    if parsed.rule.len() > RULES_MAX {
        return Err(Error::invalid(format!("it has more than {RULES_MAX} rules")));
    }
    let mut rules = Rules::default();
    for one in parsed.rule {
        let name = one.name.clone();
        if name.trim().is_empty() || rules.list.iter().any(|r| r.name == name) {
            return Err(Error::invalid(format!("each rule needs a name of its own, and `{name}` is none")));
        }
        rules.list.push(rule(one, load).map_err(|e| e.context(format!("rule `{name}`")))?);
    }
    Ok(rules)
}

fn rule(text: RuleText, load: &mut Load<'_>) -> Result<Rule> {
    let for_json = !text.keys.is_empty()
        || !text.types.is_empty()
        || text.schema.is_some()
        || !text.unique.is_empty()
        || !text.refers.is_empty();
    let for_databases =
        text.select.is_some() || text.expect.is_some() || text.equals.is_some() || text.timeout.is_some();
    let (pattern, check) = match (&text.directories, &text.paths, &text.json) {
        _ if text.database.is_none() && for_databases => {
            let what = "select, expect, equals and timeout are asked of databases named with `database`";
            return Err(Error::invalid(what));
        }
        (Some(_), None, None) | (None, Some(_), None) if for_json => {
            let what = "keys, types, schema, unique and refers are asked of files named with `json`";
            return Err(Error::invalid(what));
        }
        (None, _, _) if !text.files.is_empty() => {
            return Err(Error::invalid("`files` are asked of directories named with `directories`"));
        }
        (Some(pattern), None, None) if text.database.is_none() => {
            let files = text.files.iter().map(|f| relative(f).map(|f| f.as_bytes().to_vec()));
            let files: Vec<_> = files.collect::<Result<_>>()?;
            if files.len() > 64 {
                return Err(Error::invalid("more than 64 files are asked for; make two rules of it"));
            }
            (pattern.clone(), Check::Directories { files })
        }
        (None, Some(pattern), None) if text.database.is_none() => (pattern.clone(), Check::Paths),
        (None, None, Some(pattern)) if text.database.is_none() => {
            (pattern.clone(), Check::Json(Box::new(json(&text, load)?)))
        }
        (None, None, None) if !for_json && text.database.is_some() => {
            (text.database.clone().unwrap_or_default(), Check::Sql(Box::new(sql(&text)?)))
        }
        _ => {
            let what = "it needs exactly one of `directories`, `paths`, `json` and `database`, and only what fits it";
            return Err(Error::invalid(what));
        }
    };
    if let (Some(least), Some(most)) = (text.at_least, text.at_most)
        && least > most
    {
        return Err(Error::invalid("`at_least` is more than `at_most`"));
    }
    let glob = glob(&pattern)?;
    Ok(Rule { name: text.name, glob, pattern, at_least: text.at_least, at_most: text.at_most, check })
}

fn json(text: &RuleText, load: &mut Load<'_>) -> Result<JsonCheck> {
    let pointers = |list: &[String]| list.iter().map(|p| Pointer::parse(p)).collect::<Result<Vec<_>>>();
    let mut types = Vec::new();
    for (pointer, words) in &text.types {
        let words: Vec<String> = words.split('|').map(|w| w.trim().to_owned()).collect();
        if let Some(wrong) = words.iter().find(|w| !TYPES.contains(&w.as_str())) {
            return Err(Error::invalid(format!("`{wrong}` is no type; use {}", TYPES.join(", "))));
        }
        types.push((Pointer::parse(pointer)?, words));
    }
    let mut refers = Vec::new();
    for refer in &text.refers {
        let (from, key) = (Pointer::parse(&refer.from)?, Pointer::parse(&refer.key)?);
        refers.push(Refer { from, to: glob(&refer.to)?, pattern: refer.to.clone(), key });
    }
    let schema = text.schema.as_ref().map(|path| {
        let named = |why: String| format!("the schema {path} cannot be used: {why}");
        let bytes = relative(path).and_then(&mut *load).map_err(|e| named(e.message().to_owned()))?;
        Schema::parse(&bytes).map_err(named)
    });
    Ok(JsonCheck { keys: pointers(&text.keys)?, types, schema, unique: pointers(&text.unique)?, refers })
}

fn sql(text: &RuleText) -> Result<SqlCheck> {
    let select = text.select.clone().filter(|select| !select.trim().is_empty());
    let select = select.ok_or_else(|| Error::invalid("it needs `select`, the question to the database"))?;
    let wanted = match (text.expect.as_deref(), &text.equals) {
        (Some("some"), None) => Wanted::Some,
        (Some("none"), None) => Wanted::Nothing,
        (None, Some(toml::Value::String(text))) => Wanted::Equals(Value::text(text)),
        (None, Some(toml::Value::Integer(n))) => Wanted::Equals(Value::Integer(*n)),
        (None, Some(toml::Value::Float(n))) => Wanted::Equals(Value::Real(*n)),
        (None, Some(toml::Value::Boolean(b))) => Wanted::Equals(Value::Integer(i64::from(*b))),
        (None, Some(_)) => return Err(Error::invalid("`equals` is a text, a number, true or false")),
        _ => {
            let what = "it needs one of `expect = \"some\"`, `expect = \"none\"` and `equals`";
            return Err(Error::invalid(what));
        }
    };
    let time = text.timeout.as_deref().map_or(Ok(TIME_MAX), units::parse_duration)?;
    Ok(SqlCheck { select, wanted, time })
}

/// A path that stays below where it starts.
fn relative(path: &str) -> Result<&str> {
    let odd = |part: &str| part.is_empty() || part == "." || part == "..";
    if path.split('/').any(odd) {
        return Err(Error::invalid(format!("`{path}` is no plain relative path")));
    }
    Ok(path)
}

fn glob(pattern: &str) -> Result<GlobMatcher> {
    let plain = pattern.trim_start_matches('/').trim_end_matches('/');
    let built = GlobBuilder::new(plain).literal_separator(true).backslash_escape(true).build();
    let bad = |e: globset::Error| Error::invalid(format!("`{pattern}` is not a pattern: {}", e.kind()));
    Ok(built.map_err(bad)?.compile_matcher())
}
