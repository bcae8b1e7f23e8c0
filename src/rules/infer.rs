//! A first rules file, from a look at a tree: what all of it has in common today.

use super::run::{Contents, Thing, Unasked};
use super::sql;
use crate::error::Result;
use crate::json::Form;
use crate::json::doc::{Doc, Kind};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// JSON files looked into, and keys of one.
const FILES_MAX: usize = 100_000;
const KEYS_MAX: usize = 200;
/// Databases asked, and tables of one that rules are made for.
const DATABASES_MAX: usize = 1000;
const TABLES_MAX: usize = 20;
/// Files of one directory that are taken for a kind.
const KIND_MIN: usize = 5;

/// What is known of files that are named alike.
#[derive(Default)]
struct Alike {
    files: u64,
    /// Keys that all of them have, and of which types.
    keys: BTreeMap<String, BTreeSet<&'static str>>,
    /// Of keys that have told all of them apart so far, the values.
    apart: BTreeMap<String, BTreeSet<Vec<u8>>>,
    directories: BTreeSet<String>,
}

/// A look at a tree.
#[derive(Default)]
pub struct Look {
    /// By the path; with `*` for the directory that a file stands in; with `*` for its own name.
    exact: BTreeMap<String, Alike>,
    by_directory: BTreeMap<String, Alike>,
    by_name: BTreeMap<String, Alike>,
    /// How many directories stand in each.
    children: BTreeMap<String, u64>,
    files: usize,
    /// Sound databases, and the tables in them that are not empty.
    databases: BTreeMap<String, Vec<String>>,
    /// Files that were not taken into account, and why the first was not.
    pub left_out: u64,
    pub first_left_out: Option<String>,
}

impl Look {
    pub fn visit(&mut self, path: &[u8], thing: Thing, file: &mut dyn Contents) -> Result<()> {
        let Ok(path) = std::str::from_utf8(path) else { return Ok(()) };
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        if thing == Thing::Directory {
            *self.children.entry(above.to_owned()).or_default() += 1;
            return Ok(());
        }
        if thing == Thing::File && !sql::is_companion(path.as_bytes()) && file.is_database() {
            return self.database(path, file);
        }
        if thing != Thing::File || Form::of(name.as_bytes()) != Some(Form::Document) {
            return Ok(());
        }
        self.files += 1;
        if self.files > FILES_MAX {
            self.leave_out(path, "there are more than 100,000 JSON files");
            return Ok(());
        }
        let text = file.bytes()?;
        let doc = text.as_ref().map_err(Clone::clone);
        match doc.and_then(|text| Doc::parse(text).map_err(|fault| fault.to_string())) {
            Ok(doc) => self.take(path, above, name, &doc),
            Err(why) => self.leave_out(path, &why),
        }
        Ok(())
    }

    fn database(&mut self, path: &str, file: &mut dyn Contents) -> Result<()> {
        if self.databases.len() >= DATABASES_MAX {
            self.leave_out(path, "there are more than 1,000 databases");
            return Ok(());
        }
        let mut found = Ok(Vec::new());
        let asked = file.database(&mut |reading| {
            found = sql::filled_tables(reading, TABLES_MAX)?;
            Ok(())
        })?;
        match (asked, found) {
            (Ok(()), Ok(tables)) => {
                self.databases.insert(path.to_owned(), tables);
            }
            (Ok(()), Err(why)) | (Err(Unasked::Bad(why) | Unasked::Cannot(why)), _) => {
                self.leave_out(path, &why);
            }
        }
        Ok(())
    }

    fn leave_out(&mut self, path: &str, why: &str) {
        self.left_out += 1;
        self.first_left_out.get_or_insert_with(|| format!("{path}: {why}"));
    }

    fn take(&mut self, path: &str, above: &str, name: &str, doc: &Doc<'_>) {
        let join = |dir: &str, name: &str| match dir {
            "" => name.to_owned(),
            dir => format!("{dir}/{name}"),
        };
        let name = globset::escape(name);
        let mut places = vec![(&mut self.exact, join(&globset::escape(above), &name))];
        if let Some((over, _)) = above.rsplit_once('/').or_else(|| (!above.is_empty()).then_some(("", above)))
        {
            places.push((&mut self.by_directory, join(&join(&globset::escape(over), "*"), &name)));
        }
        places.push((&mut self.by_name, join(&globset::escape(above), "*.json")));
        for (map, key) in places {
            map.entry(key).or_default().add(above, doc);
        }
        debug_assert!(!path.is_empty());
    }

    /// The rules file.
    pub fn finish(self) -> String {
        let mut out = String::from(
            "# Rules for what stands beside this directory; `snapkeep verify` tries them. Written from a look at what\n\
             # is there today: keep what must always hold, remove the rest.\n",
        );
        let mut told: Vec<String> = Vec::new();
        let mut whole: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (pattern, alike) in self.by_directory.iter().filter(|(_, a)| a.directories.len() > 1) {
            alike.rule(pattern, &mut out);
            told.extend(alike.directories.iter().map(|dir| format!("{dir}/")));
            if let Some((dirs, name)) = pattern.rsplit_once('/') {
                let above = dirs.strip_suffix("/*").unwrap_or("");
                // Escaped names are not those of the count; such a rule is left to people.
                if self.children.get(above).is_some_and(|n| *n == alike.directories.len() as u64) {
                    whole.entry(dirs.to_owned()).or_default().push(name.to_owned());
                }
            }
        }
        for (directories, files) in whole {
            let plain = files.iter().filter(|f| !f.contains(['[', ']', '\\']));
            let files: Vec<_> = plain.take(64).map(|f| quoted(f)).collect();
            let above = directories.strip_suffix("/*").unwrap_or("");
            let count = self.children.get(above).copied().unwrap_or(1);
            let name = quoted(&format!("{directories} is complete"));
            let _ = writeln!(
                out,
                "\n[[rule]]\nname = {name}\ndirectories = {}\nat_least = {count}\nfiles = [{}]",
                quoted(&directories),
                files.join(", ")
            );
        }
        let seen = |dir: &str| told.iter().any(|t| t.strip_suffix('/') == Some(dir));
        let mut kinds: BTreeSet<String> = BTreeSet::new();
        for (pattern, alike) in &self.by_name {
            let dir = alike.directories.first().map_or("", String::as_str);
            if alike.files as usize >= KIND_MIN && !alike.keys.is_empty() && !seen(dir) {
                alike.rule(pattern, &mut out);
                kinds.insert(dir.to_owned());
            }
        }
        for (pattern, alike) in &self.exact {
            let dir = alike.directories.first().map_or("", String::as_str);
            if !seen(dir) && !kinds.contains(dir) {
                alike.rule(pattern, &mut out);
            }
        }
        for (path, tables) in &self.databases {
            database_rules(path, tables, &mut out);
        }
        out
    }
}

/// What holds of a database today and should hold of any backup of it.
fn database_rules(path: &str, tables: &[String], out: &mut String) {
    let database = quoted(&globset::escape(path));
    let mut rule = |name: String, select: String, wanted: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "\n[[rule]]\nname = {}\ndatabase = {database}\nselect = {}\n{wanted}",
            quoted(&name),
            quoted(&select)
        );
    };
    rule(format!("{path} is sound"), "PRAGMA quick_check".to_owned(), "equals = \"ok\"");
    for table in tables {
        let select = format!("SELECT 1 FROM {} LIMIT 1", crate::sqlite::query::quoted(table));
        rule(format!("{path}: {table} is not empty"), select, "expect = \"some\"");
    }
}

fn quoted(text: &str) -> String {
    // What JSON escapes is what TOML's basic strings escape, but for one character.
    serde_json::to_string(text).unwrap_or_default().replace('\u{7f}', "\\u007f")
}

impl Alike {
    fn add(&mut self, above: &str, doc: &Doc<'_>) {
        let members = doc.members(doc.root());
        let mut keys = BTreeMap::new();
        for (key, node) in members.into_iter().take(KEYS_MAX) {
            if let Ok(key) = String::from_utf8(key.into_owned()) {
                keys.insert(key, node);
            }
        }
        let word = |node| match doc.kind(node) {
            Kind::Null => "null",
            Kind::True | Kind::False => "boolean",
            Kind::Number => "number",
            Kind::Text => "string",
            Kind::Array => "array",
            Kind::Object => "object",
        };
        let is_id =
            |key: &str| matches!(key, "id" | "uuid" | "key") || key.ends_with("_id") || key.ends_with("Id");
        if self.files == 0 {
            self.keys = keys.keys().map(|key| (key.clone(), BTreeSet::new())).collect();
            self.apart =
                keys.keys().filter(|key| is_id(key)).map(|key| (key.clone(), BTreeSet::new())).collect();
        }
        self.keys.retain(|key, types| {
            let node = keys.get(key);
            types.extend(node.map(|node| word(*node)));
            node.is_some()
        });
        self.apart.retain(|key, values| {
            let value = keys.get(key).filter(|node| matches!(doc.kind(**node), Kind::Text | Kind::Number));
            value.is_some_and(|node| values.insert(doc.compact(*node)))
        });
        self.files += 1;
        self.directories.insert(above.to_owned());
    }

    fn rule(&self, pattern: &str, out: &mut String) {
        let pointer = |key: &str| {
            let mut path = String::new();
            crate::json::pointer::push(&mut path, key.as_bytes());
            quoted(&path)
        };
        // A `*` in a pointer means all of them.
        let plain = |key: &&String| key.as_str() != "*";
        let keys: Vec<_> = self.keys.keys().filter(plain).map(|key| pointer(key)).collect();
        let types = self.keys.iter().filter(|(key, _)| plain(key)).map(|(key, types)| {
            let words: Vec<_> = types.iter().copied().collect();
            format!("{} = {}", pointer(key), quoted(&words.join("|")))
        });
        let types: Vec<_> = types.collect();
        // Writing to a string cannot fail.
        let _ = writeln!(out, "\n[[rule]]\nname = {}\njson = {}", quoted(pattern), quoted(pattern));
        if self.files > 1 {
            let _ = writeln!(out, "at_least = {}", self.files);
        }
        if !keys.is_empty() {
            let _ = writeln!(out, "keys = [{}]\ntypes = {{ {} }}", keys.join(", "), types.join(", "));
        }
        let unique: Vec<_> = self.apart.keys().filter(plain).map(|key| pointer(key)).collect();
        if self.files > 1 && !unique.is_empty() {
            let _ = writeln!(out, "unique = [{}]", unique.join(", "));
        }
    }
}
