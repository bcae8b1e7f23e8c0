//! A profile: its files, the options they set, and the plan they make.

use super::checked::{Allowed, values_of};
use super::document::{Document, Node, Place, Table};
use super::plan::{PRIMARY, Plan};
use super::{Known, Origin, Section, Setting, Settings};
use crate::error::{Error, Result};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The section of options that every command takes, and the other one that holds them.
const GLOBAL: &str = "global";
const REPOSITORY: &str = "repository";

/// Ways to the password; a target that has one of them does without those of `[repository]`.
pub const PASSWORD_PLACES: [&str; 2] = ["password-file", "password-command"];

/// Options that name a repository.
const REPOSITORIES: [&str; 3] = ["repo", "from-repo", "copy-chunker-from"];

/// The list of sets in `[backup]`.
const SETS: &str = "snapshots";

/// What a command line chooses in a profile.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// The target, where one is chosen.
    pub to: Option<String>,
    /// The set whose options hold, where exactly one is chosen.
    pub set: Option<String>,
    /// The environment holds a password, which goes before that of `[repository]`.
    pub password_in_environment: bool,
}

/// A profile, read and checked.
#[derive(Clone, Debug)]
pub struct Profile {
    pub document: Document,
    pub plan: Plan,
}

/// The file of the profile `name`: itself where it is a path, else a file in one of the directories for settings.
pub fn path(homes: &[PathBuf], name: &str) -> Result<PathBuf> {
    if name.contains('/') || name.ends_with(".toml") {
        return std::path::absolute(name).map_err(|e| Error::io(format!("cannot find {name}"), &e));
    }
    if name.is_empty() || name.starts_with('.') {
        return Err(Error::invalid(format!("`{name}` is no profile; give a name or the path of a file")));
    }
    let files: Vec<PathBuf> = homes.iter().map(|home| home.join(format!("snapkeep/{name}.toml"))).collect();
    match (files.iter().find(|file| file.exists()), files.first()) {
        (Some(file), _) | (None, Some(file)) => Ok(file.clone()),
        (None, None) => Err(Error::invalid(
            "profiles are looked for below XDG_CONFIG_HOME or HOME, and neither is set; give the path of a file",
        )),
    }
}

impl Profile {
    /// Reads and checks all of a profile; nothing of a profile with a mistake is used.
    pub fn load(file: &Path, known: &[Section], variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Self> {
        let document = Document::load(file, variable)?;
        Allowed(known).check(&document)?;
        let plan = super::parse::plan(&document, file)?;
        Ok(Profile { document, plan })
    }

    /// The table of a target.
    fn target(&self, name: &str) -> Result<Option<&Table>> {
        let Some(at) = self.plan.targets.iter().position(|target| target.name == name) else {
            let names: Vec<&str> = self.plan.targets.iter().map(|target| target.name.as_str()).collect();
            let what = format!(
                "the profile `{}` has no target `{name}`; it has: {}",
                self.plan.profile,
                names.join(", ")
            );
            return Err(Error::invalid(what));
        };
        if at == 0 {
            return Ok(self.document.section(REPOSITORY));
        }
        Ok(self
            .document
            .table
            .get("target")
            .and_then(|node| node.tables().get(at - 1).map(|(table, _)| *table)))
    }

    /// The table of a set.
    fn set(&self, name: &str) -> Result<&Table> {
        let sets = self.document.section("backup").and_then(|backup| backup.get(SETS));
        let tables = sets.map(Node::tables).unwrap_or_default();
        let is_it = |table: &&Table| table.get("name").and_then(Node::text) == Some(name);
        tables.into_iter().map(|(table, _)| table).find(is_it).ok_or_else(|| self.no_set(name))
    }

    /// The error about a set that is not there.
    pub fn no_set(&self, name: &str) -> Error {
        let names: Vec<&str> = self.plan.sets.iter().map(|set| set.name.as_str()).collect();
        let have = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        Error::invalid(format!("the profile `{}` has no set `{name}`; it has: {have}", self.plan.profile))
    }
}

impl Settings {
    /// Adds what the profile sets and nothing else has set yet. The chosen target's repository, and its own way to the
    /// password, stand before the environment: who names a target wants no other.
    pub fn add_profile(&mut self, profile: &Profile, known: &[Section], choice: &Choice) -> Result<()> {
        let mut adding = Adding { settings: self, allowed: Allowed(known) };
        let own = match choice.to.as_deref() {
            Some(name) => adding.target(profile, name, choice)?,
            None => false,
        };
        if let Some(name) = &choice.set {
            let table = profile.set(name)?;
            adding.section("backup", table, &[]);
            if let Some(forget) = table.get("forget").and_then(Node::table) {
                adding.set_forget(profile, forget);
            }
        }
        let skip = if own { &PASSWORD_PLACES[..] } else { &[] };
        for (name, node) in &profile.document.table {
            let (Some(table), "repository" | "global") = (node.table(), name.as_str()) else { continue };
            adding.both(profile, table)?;
            adding.section(GLOBAL, table, skip);
        }
        for (name, node) in &profile.document.table {
            if let (Some(table), false) = (node.table(), [GLOBAL, REPOSITORY].contains(&name.as_str())) {
                adding.section(name, table, &[]);
            }
        }
        Ok(())
    }
}

/// Settings while a profile is laid beneath them.
struct Adding<'a> {
    settings: &'a mut Settings,
    allowed: Allowed<'a>,
}

impl Adding<'_> {
    /// Adds what the table says about options of the section and nobody has said before.
    fn section(&mut self, section: &str, table: &Table, skip: &[&str]) {
        for (name, node) in table {
            let Some(option) = self.allowed.option(section, name) else { continue };
            if let (Some(setting), false) = (setting(option, node), skip.contains(&name.as_str())) {
                self.settings.add(section, name, setting);
            }
        }
    }

    /// A value that stands in both sections for all commands would be ambiguous.
    fn both(&self, profile: &Profile, table: &Table) -> Result<()> {
        let other = profile.document.section(GLOBAL);
        for (name, node) in table {
            let twice = other.and_then(|other| other.get(name)).filter(|there| there.place != node.place);
            if twice.is_some() && self.allowed.option(GLOBAL, name).is_some() {
                return Err(node.place.error(format!("`{name}` stands in [global] and [repository]")));
            }
        }
        Ok(())
    }

    /// The chosen target; answers whether it has a way to the password of its own.
    fn target(&mut self, profile: &Profile, name: &str, choice: &Choice) -> Result<bool> {
        let table = profile.target(name)?;
        let first = profile.plan.targets.first().is_some_and(|target| target.name == name);
        let own =
            !first && table.is_some_and(|table| PASSWORD_PLACES.iter().any(|key| table.contains_key(*key)));
        for (key, node) in table.into_iter().flatten() {
            let Some(option) = self.allowed.option(GLOBAL, key) else { continue };
            let strong = key == "repo" || (own && PASSWORD_PLACES.contains(&key.as_str()));
            let Some(mut setting) = setting(option, node) else { continue };
            if strong {
                setting.origin = Origin::Target(node.place.clone());
                self.settings.set(GLOBAL, key, setting);
            } else {
                self.settings.add(GLOBAL, key, setting);
            }
        }
        let from = profile.plan.target(name).and_then(|target| target.from.as_deref());
        if let Some(from) = from {
            self.copy_from(profile, from, choice)?;
        }
        Ok(own)
    }

    /// Where a target that is filled by copies gets them from.
    fn copy_from(&mut self, profile: &Profile, from: &str, choice: &Choice) -> Result<()> {
        let tables =
            [profile.target(from)?, profile.document.section(REPOSITORY), profile.document.section(GLOBAL)];
        let first = profile.plan.targets.first().is_some_and(|target| target.name == from);
        let has = |table: &&Table| PASSWORD_PLACES.iter().any(|key| table.contains_key(*key));
        let own = !first && tables[0].as_ref().is_some_and(has);
        let repository = tables[0].and_then(|table| table.get("repo"));
        let mut keys = vec![(repository, "repo", "from-repo")];
        // A password in the environment is that of every target without a way of its own.
        let secret =
            tables.into_iter().flatten().find(has).filter(|_| own || !choice.password_in_environment);
        for (key, name) in
            [("password-file", "from-password-file"), ("password-command", "from-password-command")]
        {
            keys.push((secret.and_then(|table| table.get(key)), key, name));
        }
        for (node, key, name) in keys {
            let option = self.allowed.option(GLOBAL, key).zip(self.allowed.option("copy", name));
            if let (Some(node), Some((as_written, _))) = (node, option)
                && let Some(mut setting) = setting(as_written, node)
            {
                setting.origin = Origin::Target(node.place.clone());
                self.settings.set("copy", name, setting);
            }
        }
        Ok(())
    }

    /// A set's own rules for what to keep take the place of all rules of `[forget]`.
    fn set_forget(&mut self, profile: &Profile, own: &Table) {
        self.section("forget", own, &[]);
        let general = profile.document.section("forget");
        for (name, _) in general.into_iter().flatten().filter(|(name, _)| name.starts_with("keep-")) {
            if !own.contains_key(name) {
                self.settings.close("forget", name);
            }
        }
    }
}

fn setting(option: &Known, node: &Node) -> Option<Setting> {
    let mut values = values_of(option.takes, node)?;
    if option.is_path || REPOSITORIES.contains(&option.name.as_str()) {
        values = values.iter().map(|value| resolved(value, &node.place, option.is_path)).collect();
    }
    Some(Setting { values, origin: Origin::Profile(node.place.clone()) })
}

/// A relative path belongs to the directory of the file that names it; `-` and other places than directories stay.
fn resolved(value: &OsString, place: &Place, is_path: bool) -> OsString {
    let bytes = value.as_bytes();
    let head = bytes.split(|b| *b == b'/').next().unwrap_or_default();
    if bytes.is_empty() || bytes == b"-" || (!is_path && head.contains(&b':')) {
        return value.clone();
    }
    place.resolve(Path::new(OsStr::from_bytes(bytes))).into_os_string()
}

/// The name of a profile: that of its file.
pub fn name_of(file: &Path) -> String {
    file.file_stem().map_or_else(|| PRIMARY.to_owned(), |stem| stem.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_a_name_or_a_path() {
        let homes = [PathBuf::from("/home/a/.config"), PathBuf::from("/etc")];
        let named = |name: &str| path(&homes, name);
        assert_eq!(named("daily").expect("a name"), Path::new("/home/a/.config/snapkeep/daily.toml"));
        assert_eq!(named("/x/y.toml").expect("a path"), Path::new("/x/y.toml"));
        assert!(named("y.toml").expect("a path").is_absolute());
        assert!(named(".daily").is_err() && named("").is_err());
    }
}
