//! The check of a whole profile before anything of it is used: no unknown key, nothing of the wrong kind.

use super::document::{Data, Document, Node, Place, Table};
use super::keys::{HOOK, Key, Kind, NOT_HERE, SECRET, SECTIONS};
use super::{Known, Section, Takes};
use crate::error::{Error, Result};
use crate::units::{parse_bytes, parse_duration};
use std::ffi::OsString;

/// The options that a profile may set, by command.
#[derive(Clone, Copy)]
pub struct Allowed<'a>(pub &'a [Section]);

impl<'a> Allowed<'a> {
    /// The options of a command that may stand in a profile.
    pub fn options(self, section: &str) -> impl Iterator<Item = &'a Known> + use<'a> {
        let hidden = NOT_HERE.iter().find(|(name, _)| *name == section).map_or(&[][..], |(_, names)| *names);
        let options = self.0.iter().find(|s| s.name == section).map_or(&[][..], |s| &s.options);
        options.iter().filter(move |option| !hidden.contains(&option.name.as_str()))
    }

    pub fn option(self, section: &str, name: &str) -> Option<&'a Known> {
        self.options(section).find(|option| option.name == name)
    }

    /// Everything in the document is known and of its kind.
    pub fn check(self, document: &Document) -> Result<()> {
        for (name, node) in &document.table {
            let title = name.as_str();
            let key = SECTIONS.iter().find(|key| key.name == name);
            match (key.map(|key| key.kind), &node.data) {
                (Some(Kind::Table(group)), Data::Table(table)) => {
                    self.table(table, group.keys, group.options_of, title)?;
                }
                (None, Data::Table(table)) if self.0.iter().any(|s| s.name == *name) => {
                    self.table(table, &[], Some(name), title)?;
                }
                (Some(Kind::Table(_)), _) => {
                    return Err(node.place.error(format!("`{name}` stands outside any section")));
                }
                (Some(kind), _) => self.value(node, kind, title)?,
                (None, _) => {
                    let names =
                        SECTIONS.iter().map(|key| key.name).chain(self.0.iter().map(|s| s.name.as_str()));
                    return Err(unknown(&node.place, "section", name, names));
                }
            }
        }
        Ok(())
    }

    fn table(self, table: &Table, keys: &[Key], section: Option<&str>, title: &str) -> Result<()> {
        for (name, node) in table {
            if let Some(key) = keys.iter().find(|key| key.name == name) {
                self.value(node, key.kind, &format!("{title}.{name}"))?;
                continue;
            }
            let section = section.unwrap_or_default();
            let Some(option) = self.option(section, name) else {
                let options = self.options(section).map(|option| option.name.as_str());
                let names = keys.iter().map(|key| key.name).chain(options);
                return Err(unknown(&node.place, &format!("key in [{title}]"), name, names));
            };
            if values_of(option.takes, node).is_none() {
                return Err(must_be(node, &format!("{title}.{name}"), wanted(option.takes)));
            }
        }
        Ok(())
    }

    fn value(self, node: &Node, kind: Kind, title: &str) -> Result<()> {
        match (kind, &node.data) {
            (Kind::Table(group), Data::Table(table)) => {
                self.table(table, group.keys, group.options_of, title)
            }
            (Kind::Tables(group), Data::List(list)) => list.iter().try_for_each(|item| match &item.data {
                Data::Table(table) => self.table(table, group.keys, group.options_of, title),
                _ => Err(must_be(item, title, &words(kind))),
            }),
            (Kind::Map(kind), Data::Table(table)) => {
                table.iter().try_for_each(|(name, node)| self.value(node, *kind, &format!("{title}.{name}")))
            }
            (Kind::Hooks, _) => node.several().into_iter().try_for_each(|item| match &item.data {
                Data::Text(_) => Ok(()),
                Data::Table(table) => self.table(table, HOOK, None, title),
                _ => Err(must_be(item, title, &words(kind))),
            }),
            (Kind::Secret, Data::Table(table)) => {
                self.table(table, SECRET, None, title)?;
                if table.len() == 1 { Ok(()) } else { Err(must_be(node, title, &words(kind))) }
            }
            (Kind::Either(kinds), _) => {
                // A table is meant by whoever writes one: its own complaint says more.
                let meant =
                    kinds.iter().find(|k| matches!((k, &node.data), (Kind::Table(_), Data::Table(_))));
                let fits = kinds.iter().any(|kind| self.value(node, *kind, title).is_ok());
                match meant {
                    _ if fits => Ok(()),
                    Some(meant) => self.value(node, *meant, title),
                    None => Err(must_be(node, title, &words(kind))),
                }
            }
            _ if plain(node, kind)? => Ok(()),
            _ => Err(must_be(node, title, &words(kind))),
        }
    }
}

/// Whether a value without any inside is of its kind.
fn plain(node: &Node, kind: Kind) -> Result<bool> {
    let all_texts = || node.several().into_iter().all(|item| item.text().is_some());
    Ok(match (kind, &node.data) {
        (Kind::Text, data) => matches!(data, Data::Text(_)),
        (Kind::Texts, _) => all_texts(),
        (Kind::Truth, data) => matches!(data, Data::Truth(_)),
        (Kind::Whole(least, most), Data::Whole(n)) => (least..=most).contains(n),
        (Kind::Number, Data::Whole(n)) => *n >= 0,
        (Kind::Number, Data::Float(n)) => *n >= 0.0,
        (Kind::Span, Data::Text(text)) => {
            parse_duration(text).map_err(|e| node.place.error(e)).map(|_| true)?
        }
        (Kind::Size, Data::Text(text)) => parse_bytes(text).map_err(|e| node.place.error(e)).map(|_| true)?,
        (Kind::Size, Data::Whole(n)) => *n >= 0,
        (Kind::Share, _) => share(node).is_some(),
        (Kind::Word(words), Data::Text(text)) => words.contains(&text.as_str()),
        (Kind::Schedule, _) => {
            for item in node.several() {
                let Some(text) = item.text() else { return Ok(false) };
                crate::calendar::Expression::parse(text).map_err(|e| item.place.error(e))?;
            }
            true
        }
        _ => false,
    })
}

/// A share of a whole in per cent: `15%`, `15`, 15.
pub fn share(node: &Node) -> Option<f64> {
    let number = match &node.data {
        Data::Text(text) => text.trim().trim_end_matches('%').trim_end().parse().ok()?,
        Data::Whole(n) => *n as f64,
        Data::Float(n) => *n,
        _ => return None,
    };
    (0.0..=100_000.0).contains(&number).then_some(number)
}

/// What a key takes, as the end of "must be …".
fn words(kind: Kind) -> String {
    match kind {
        Kind::Text => "a text".to_owned(),
        Kind::Texts | Kind::Schedule => "a text or a list of texts".to_owned(),
        Kind::Truth => "true or false".to_owned(),
        Kind::Whole(0, i64::MAX) => "a whole number, not below 0".to_owned(),
        Kind::Whole(least, most) => format!("a whole number from {least} to {most}"),
        Kind::Number => "a number, not below 0".to_owned(),
        Kind::Span => "a time such as \"90s\", \"10m\" or \"1d12h\"".to_owned(),
        Kind::Size => "a size such as \"500K\" or a number of bytes".to_owned(),
        Kind::Share => "a share such as \"15%\"".to_owned(),
        Kind::Word(all) => {
            let all: Vec<String> = all.iter().map(|word| format!("\"{word}\"")).collect();
            format!("one of {}", all.join(", "))
        }
        Kind::Hooks => "a command, a table with `command`, or a list of these".to_owned(),
        Kind::Secret => "a table with one of `file`, `command`, `env`, `credential`".to_owned(),
        Kind::Table(_) | Kind::Map(_) => "a table".to_owned(),
        Kind::Tables(_) => "a list of tables".to_owned(),
        Kind::Either(kinds) => kinds.iter().map(|kind| words(*kind)).collect::<Vec<_>>().join(" or "),
    }
}

/// The values that an option gets; `None` where the value is not of its kind.
pub fn values_of(takes: Takes, node: &Node) -> Option<Vec<OsString>> {
    let one = |node: &Node| match &node.data {
        Data::Text(text) => Some(OsString::from(text)),
        Data::Whole(n) => Some(n.to_string().into()),
        Data::Float(n) => Some(n.to_string().into()),
        _ => None,
    };
    match (takes, &node.data) {
        (Takes::Nothing, Data::Truth(yes)) => Some(vec![yes.to_string().into()]),
        (Takes::Many, Data::List(list)) => list.iter().map(one).collect(),
        (Takes::One | Takes::Many, _) => Some(vec![one(node)?]),
        _ => None,
    }
}

fn wanted(takes: Takes) -> &'static str {
    match takes {
        Takes::Nothing => "true or false",
        Takes::One => "a text or a number",
        Takes::Many => "a text or a list of texts",
    }
}

fn must_be(node: &Node, title: &str, wanted: &str) -> Error {
    let (table, key) = title.rsplit_once('.').unwrap_or(("", title));
    let table = if table.is_empty() { String::new() } else { format!("[{table}] ") };
    node.place.error(format!("{table}{key} must be {wanted}"))
}

/// The error about a word that nobody knows, with the nearest one that is known.
pub fn unknown<'a>(place: &Place, what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> Error {
    let nearest = known.min_by_key(|candidate| distance(name, candidate));
    let hint = nearest.map(|n| format!("; the nearest there is: `{n}`")).unwrap_or_default();
    place.error(format!("unknown {what}: `{name}`{hint}"))
}

/// How many letters must be changed, added or removed to get from one word to the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_nearest_word_is_named() {
        assert_eq!(distance("excludes", "exclude"), 1);
        assert_eq!(distance("", "abc"), 3);
        let names = ["exclude", "exclude-file", "tag"];
        let place = Place { file: Path::new("p.toml").into(), line: 3 };
        let e = unknown(&place, "key in [backup]", "exclud", names.into_iter());
        assert_eq!(
            e.message(),
            "p.toml:3: unknown key in [backup]: `exclud`; the nearest there is: `exclude`"
        );
    }
}
