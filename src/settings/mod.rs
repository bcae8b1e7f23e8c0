//! Values for options from the environment and from a profile file, each with where it came from.
//!
//! This room knows no option by itself: whoever asks says which ones exist. What stands in the environment
//! beats what stands in the file; what stands on the command line is not seen here and beats both.

mod checked;
pub mod document;
pub mod keys;
mod keys_told;
mod parse;
pub mod plan;
pub mod plan_health;
pub mod plan_notify;
pub mod profile;
pub mod schema;
pub mod secrets;
mod sources;

use crate::error::{Error, Result};
use document::Place;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;

/// What an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Nothing: it is there or not.
    Nothing,
    One,
    /// Any number of values; in the environment one a line.
    Many,
}

/// An option that may be set.
#[derive(Clone, Debug)]
pub struct Known {
    /// The option's long name.
    pub name: String,
    pub takes: Takes,
    /// Variables that set it, the strongest first.
    pub variables: Vec<String>,
    /// It names files: relative ones in a profile belong to the profile's directory.
    pub is_path: bool,
    /// What its help says.
    pub about: String,
}

/// The options of one command; the section `global` holds for all.
#[derive(Clone, Debug)]
pub struct Section {
    pub name: String,
    pub options: Vec<Known>,
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Variable(String),
    Profile(Place),
    /// The target that was chosen by name: stands before the environment.
    Target(Place),
}

impl Origin {
    /// The place in a profile, if it is one.
    pub fn place(&self) -> Option<&Place> {
        match self {
            Origin::Variable(_) => None,
            Origin::Profile(place) | Origin::Target(place) => Some(place),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Variable(name) => f.write_str(name),
            Origin::Profile(place) | Origin::Target(place) => place.fmt(f),
        }
    }
}

/// A value that holds unless the command line says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    pub values: Vec<OsString>,
    pub origin: Origin,
}

/// Settings by section and option.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    by_option: BTreeMap<(String, String), Setting>,
    /// Options that no weaker layer sets.
    closed: BTreeSet<(String, String)>,
}

impl Settings {
    /// What the environment sets; empty variables count as unset.
    pub fn from_environment(
        known: &[Section],
        variable: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Settings> {
        let mut settings = Settings::default();
        for section in known {
            for option in &section.options {
                let set = |name: &String| {
                    let value = variable(name).filter(|value| !value.is_empty())?;
                    Some((name.clone(), value))
                };
                let Some((name, value)) = option.variables.iter().find_map(set) else { continue };
                let values = from_variable(option.takes, &value).ok_or_else(|| no_flag(&name, &value))?;
                let setting = Setting { values, origin: Origin::Variable(name) };
                settings.by_option.insert((section.name.clone(), option.name.clone()), setting);
            }
        }
        Ok(settings)
    }

    pub fn get(&self, section: &str, option: &str) -> Option<&Setting> {
        self.by_option.get(&(section.to_owned(), option.to_owned()))
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, &Setting)> {
        self.by_option.iter().map(|((section, option), s)| (section.as_str(), option.as_str(), s))
    }

    /// Sets what is not set yet.
    fn add(&mut self, section: &str, option: &str, setting: Setting) {
        let name = (section.to_owned(), option.to_owned());
        if !self.closed.contains(&name) {
            self.by_option.entry(name).or_insert(setting);
        }
    }

    /// Sets it, whatever was there.
    fn set(&mut self, section: &str, option: &str, setting: Setting) {
        self.by_option.insert((section.to_owned(), option.to_owned()), setting);
    }

    /// What is added later sets it no more.
    fn close(&mut self, section: &str, option: &str) {
        self.closed.insert((section.to_owned(), option.to_owned()));
    }
}

fn from_variable(takes: Takes, value: &OsString) -> Option<Vec<OsString>> {
    Some(match takes {
        Takes::Nothing => vec![truth(value.to_str()?)?.to_string().into()],
        Takes::One => vec![value.clone()],
        Takes::Many => match value.to_str() {
            Some(text) => text.lines().filter(|line| !line.is_empty()).map(OsString::from).collect(),
            None => vec![value.clone()],
        },
    })
}

fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Some(true),
        "0" | "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

fn no_flag(name: &str, value: &OsString) -> Error {
    Error::invalid(format!("{name} is `{}`; it must be true or false", value.to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_become_values_of_the_option_they_name() {
        let option = |name: &str, takes, variable: &str| Known {
            name: name.to_owned(),
            takes,
            variables: vec![variable.to_owned()],
            is_path: false,
            about: String::new(),
        };
        let known = [Section {
            name: "global".to_owned(),
            options: vec![
                option("json", Takes::Nothing, "A_JSON"),
                option("exclude", Takes::Many, "A_EXCLUDE"),
                option("repo", Takes::One, "A_REPO"),
            ],
        }];
        let environment = |name: &str| match name {
            "A_JSON" => Some("yes".into()),
            "A_EXCLUDE" => Some("*.o\n\n*.tmp\n".into()),
            "A_REPO" => Some("".into()),
            _ => None,
        };
        let settings = Settings::from_environment(&known, &environment).expect("valid");
        assert_eq!(settings.get("global", "json").expect("set").values, ["true"]);
        assert_eq!(settings.get("global", "exclude").expect("set").values, ["*.o", "*.tmp"]);
        assert!(settings.get("global", "repo").is_none(), "empty is unset");
        let wrong = Settings::from_environment(&known, &|_| Some("perhaps".into()));
        assert!(wrong.expect_err("refused").message().contains("A_JSON"));
    }
}
