//! Profiles: TOML files with a section for each command and the long names of options as keys.

use super::{Origin, Section, Setting, Settings, Takes};
use crate::error::{Context, Error, ErrorKind, Result};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use toml::Value;

/// Settings for every command stand in either of these.
const FOR_ALL: [&str; 2] = ["global", "repository"];

/// The file of the profile `name` below the directory for settings.
pub fn path(config_home: &Path, name: &str) -> Result<PathBuf> {
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return Err(Error::invalid(format!(
            "`{name}` is no profile; give the name of a file in {} without `.toml`",
            config_home.join("snapkeep").display()
        )));
    }
    Ok(config_home.join("snapkeep").join(format!("{name}.toml")))
}

impl Settings {
    /// Adds what the file sets and nothing else has set yet.
    pub fn add_profile(&mut self, file: &Path, known: &[Section]) -> Result<()> {
        let text = std::fs::read_to_string(file).context(|| format!("cannot read {}", file.display()))?;
        let table: toml::Table = text.parse().map_err(|e: toml::de::Error| {
            Error::invalid(format!("{}{}", file.display(), at_line(&e, &text)))
        })?;
        for (section, values) in &table {
            let name = if FOR_ALL.contains(&section.as_str()) { FOR_ALL[0] } else { section };
            let Some(options) = known.iter().find(|s| s.name == name) else {
                let names = known.iter().map(|s| s.name.as_str()).chain(FOR_ALL);
                return Err(unknown(file, "section", section, names));
            };
            let Value::Table(values) = values else {
                let what = format!("{}: `{section}` stands outside any section", file.display());
                return Err(Error::invalid(what));
            };
            for (key, value) in values {
                let Some(option) = options.options.iter().find(|o| o.name == *key) else {
                    let names = options.options.iter().map(|o| o.name.as_str());
                    return Err(unknown(file, &format!("key in [{section}]"), key, names));
                };
                let values = values_of(option.takes, value).ok_or_else(|| {
                    let wanted = wanted(option.takes);
                    let what = format!("{}: [{section}] {key} must be {wanted}", file.display());
                    Error::invalid(what)
                })?;
                let origin = Origin::Profile(file.to_owned());
                if self.get(name, key).is_some_and(|there| there.origin == origin) {
                    let what = format!("{}: `{key}` stands in [global] and [repository]", file.display());
                    return Err(Error::invalid(what));
                }
                self.add(name, key, Setting { values, origin });
            }
        }
        Ok(())
    }
}

/// `, line 3: what is wrong`.
fn at_line(e: &toml::de::Error, text: &str) -> String {
    let before = e.span().and_then(|span| text.get(..span.start));
    let line = before.map(|b| format!(", line {}", b.matches('\n').count() + 1)).unwrap_or_default();
    format!("{line}: {}", e.message())
}

fn values_of(takes: Takes, value: &Value) -> Option<Vec<OsString>> {
    let one = |value: &Value| match value {
        Value::String(text) => Some(OsString::from(text)),
        Value::Integer(n) => Some(n.to_string().into()),
        Value::Float(n) => Some(n.to_string().into()),
        _ => None,
    };
    match (takes, value) {
        (Takes::Nothing, Value::Boolean(yes)) => Some(vec![yes.to_string().into()]),
        (Takes::Many, Value::Array(list)) => list.iter().map(one).collect(),
        (Takes::One | Takes::Many, _) => Some(vec![one(value)?]),
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

fn unknown<'a>(file: &Path, what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> Error {
    let nearest = known.min_by_key(|candidate| distance(name, candidate));
    let hint = nearest.map(|n| format!("; the nearest there is: `{n}`")).unwrap_or_default();
    Error::new(ErrorKind::Invalid, format!("{}: unknown {what}: `{name}`{hint}", file.display()))
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

    #[test]
    fn the_nearest_word_is_named() {
        assert_eq!(distance("excludes", "exclude"), 1);
        assert_eq!(distance("", "abc"), 3);
        let names = ["exclude", "exclude-file", "tag"];
        let e = unknown(Path::new("p.toml"), "key in [backup]", "exclud", names.into_iter());
        assert_eq!(e.message(), "p.toml: unknown key in [backup]: `exclud`; the nearest there is: `exclude`");
    }

    #[test]
    fn a_profile_name_is_a_name() {
        let home = Path::new("/home/a/.config");
        assert_eq!(path(home, "daily").expect("a name"), Path::new("/home/a/.config/snapkeep/daily.toml"));
        assert!(path(home, "../daily").is_err());
    }
}
