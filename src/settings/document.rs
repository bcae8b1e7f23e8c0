//! A profile's files as one tree in which every value knows its file and line: includes joined, variables put in.

use crate::error::{Context, Error, Result};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use toml::de::{DeTable, DeValue};

/// Files that include one another, at most this deep.
const DEPTH_MAX: usize = 16;

/// Longer files are no profiles: another file was named.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// What a shell will read is left as it is: it puts in the variables itself.
const FOR_SHELLS: [&str; 7] = [
    "password-command",
    "from-password-command",
    "run-before",
    "run-after",
    "run-failed",
    "run-finally",
    "command",
];

/// Where something stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub file: Arc<Path>,
    /// Counted from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

impl Place {
    /// The error of a value that stands here.
    pub fn error(&self, what: impl fmt::Display) -> Error {
        Error::invalid(format!("{self}: {what}"))
    }

    /// A path as it is meant here: relative ones belong to the directory of the file.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        let directory = self.file.parent().unwrap_or(Path::new("/"));
        if path == Path::new(".") { directory.to_owned() } else { directory.join(path) }
    }
}

/// A value, and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub data: Data,
    pub place: Place,
}

pub type Table = BTreeMap<String, Node>;

#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    Text(String),
    Whole(i64),
    Float(f64),
    Truth(bool),
    List(Vec<Node>),
    Table(Table),
}

impl Node {
    pub fn text(&self) -> Option<&str> {
        if let Data::Text(text) = &self.data { Some(text) } else { None }
    }

    pub fn table(&self) -> Option<&Table> {
        if let Data::Table(table) = &self.data { Some(table) } else { None }
    }

    /// A list; one value counts as a list of one.
    pub fn several(&self) -> Vec<&Node> {
        if let Data::List(list) = &self.data { list.iter().collect() } else { vec![self] }
    }

    /// The tables of a list of tables; nothing for anything else.
    pub fn tables(&self) -> Vec<(&Table, &Place)> {
        let Data::List(list) = &self.data else { return Vec::new() };
        list.iter().filter_map(|node| Some((node.table()?, &node.place))).collect()
    }

    /// The same without places, for types that read themselves.
    pub fn to_json(&self) -> serde_json::Value {
        match &self.data {
            Data::Text(text) => text.as_str().into(),
            Data::Whole(n) => (*n).into(),
            Data::Float(n) => (*n).into(),
            Data::Truth(yes) => (*yes).into(),
            Data::List(list) => list.iter().map(Node::to_json).collect::<Vec<_>>().into(),
            Data::Table(table) => {
                table.iter().map(|(k, v)| (k.clone(), v.to_json())).collect::<serde_json::Map<_, _>>().into()
            }
        }
    }
}

/// All files of a profile, read.
#[derive(Clone, Debug)]
pub struct Document {
    pub table: Table,
    /// The profile's own file first.
    pub files: Vec<PathBuf>,
}

impl Document {
    /// Reads `file` and all it includes.
    pub fn load(file: &Path, variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Self> {
        let mut loader = Loader { variable, files: Vec::new(), open: Vec::new() };
        let table = loader.load(file, None)?;
        Ok(Document { table, files: loader.files })
    }

    /// The table of this name, if there is one.
    pub fn section(&self, name: &str) -> Option<&Table> {
        self.table.get(name).and_then(Node::table)
    }

    /// Where the file itself begins.
    pub fn start(&self) -> Place {
        let file = self.files.first().map_or_else(PathBuf::new, Clone::clone);
        Place { file: file.into(), line: 1 }
    }
}

struct Loader<'a> {
    variable: &'a dyn Fn(&str) -> Option<OsString>,
    files: Vec<PathBuf>,
    /// Files that are being read, each included by the one before.
    open: Vec<PathBuf>,
}

impl Loader<'_> {
    fn load(&mut self, file: &Path, from: Option<&Place>) -> Result<Table> {
        let failed = || match from {
            Some(place) => format!("{place}: cannot read {}", file.display()),
            None => format!("cannot read {}", file.display()),
        };
        let real = file.canonicalize().context(failed)?;
        if let Some(at) = self.open.iter().position(|there| *there == real) {
            let mut round: Vec<String> = self.open[at..].iter().map(|f| f.display().to_string()).collect();
            round.push(real.display().to_string());
            let what = format!("profiles include each other in a circle: {}", round.join(" → "));
            return Err(from.map_or_else(|| Error::invalid(&what), |place| place.error(&what)));
        }
        if self.open.len() >= DEPTH_MAX {
            return Err(Error::invalid(format!("{}: included {DEPTH_MAX} deep", file.display())));
        }
        if std::fs::metadata(&real).context(failed)?.len() > FILE_BYTES_MAX {
            return Err(Error::invalid(format!("{} is too long to be a profile", file.display())));
        }
        let text = std::fs::read_to_string(&real).context(failed)?;
        if !self.files.iter().any(|there| there == file) {
            self.files.push(file.to_owned());
        }
        let mut own = Reading { text: &text, file: file.into(), variable: self.variable }.all()?;
        let Some(include) = own.remove("include") else { return Ok(own) };
        self.open.push(real);
        let mut whole = Table::new();
        for node in include.several() {
            let Some(name) = node.text() else {
                return Err(node.place.error("include must be a text or a list of texts"));
            };
            let more = self.load(&node.place.resolve(Path::new(name)), Some(&node.place))?;
            merge(&mut whole, more);
        }
        self.open.pop();
        merge(&mut whole, own);
        Ok(whole)
    }
}

/// Lays `over` upon `base`: tables key by key, lists of tables by their names, anything else replaces what was there.
fn merge(base: &mut Table, over: Table) {
    for (key, node) in over {
        match base.get_mut(&key) {
            Some(there) => lay(there, node),
            None => {
                base.insert(key, node);
            }
        }
    }
}

fn lay(there: &mut Node, node: Node) {
    let name = |node: &Node| Some(node.table()?.get("name")?.text()?.to_owned());
    match (&mut there.data, node.data) {
        (Data::Table(below), Data::Table(above)) => merge(below, above),
        (Data::List(below), Data::List(above))
            if !above.is_empty() && above.iter().chain(below.iter()).all(|n| name(n).is_some()) =>
        {
            for item in above {
                match below.iter_mut().find(|b| name(b) == name(&item)) {
                    Some(same) => lay(same, item),
                    None => below.push(item),
                }
            }
        }
        (_, data) => *there = Node { data, place: node.place },
    }
}

/// One file while it is read.
struct Reading<'a> {
    text: &'a str,
    file: Arc<Path>,
    variable: &'a dyn Fn(&str) -> Option<OsString>,
}

impl Reading<'_> {
    fn all(&self) -> Result<Table> {
        let parsed = DeTable::parse(self.text).map_err(|e| {
            let place = self.place(e.span().map_or(0, |span| span.start));
            place.error(e.message())
        })?;
        let mut table = self.table(parsed.get_ref())?;
        one_name(&mut table)?;
        Ok(table)
    }

    fn place(&self, at: usize) -> Place {
        let before = self.text.as_bytes().iter().take(at);
        Place { file: Arc::clone(&self.file), line: 1 + before.filter(|b| **b == b'\n').count() }
    }

    fn table(&self, from: &DeTable<'_>) -> Result<Table> {
        let words = from.iter().any(|(key, _)| key.get_ref() == "args");
        let mut table = Table::new();
        for (key, value) in from {
            let name = key.get_ref().to_string();
            let place = self.place(key.span().start);
            // Only a command that is given no arguments of its own is one for a shell.
            let raw = FOR_SHELLS.contains(&name.as_str()) && !(words && name == "command");
            let node = self.node(value.get_ref(), place, raw)?;
            table.insert(name, node);
        }
        Ok(table)
    }

    fn node(&self, value: &DeValue<'_>, place: Place, raw: bool) -> Result<Node> {
        let data = match value {
            DeValue::String(text) if raw => Data::Text(text.to_string()),
            DeValue::String(text) => {
                Data::Text(expand(text, self.variable).map_err(|e| place.error(e.message()))?)
            }
            DeValue::Integer(n) => Data::Whole(
                i64::from_str_radix(n.as_str(), n.radix())
                    .map_err(|_| place.error(format!("{n} is too large a number")))?,
            ),
            DeValue::Float(n) => {
                let number = n.as_str().parse().ok().filter(|n: &f64| n.is_finite());
                Data::Float(number.ok_or_else(|| place.error(format!("{n} is no number")))?)
            }
            DeValue::Boolean(yes) => Data::Truth(*yes),
            DeValue::Datetime(_) => return Err(place.error("a time is written as a text, in quotes")),
            DeValue::Array(list) => {
                let nodes =
                    list.iter().map(|item| self.node(item.get_ref(), self.place(item.span().start), raw));
                Data::List(nodes.collect::<Result<_>>()?)
            }
            DeValue::Table(table) => Data::Table(self.table(table)?),
        };
        Ok(Node { data, place })
    }
}

/// The key `repository` means the same as `repo`.
fn one_name(table: &mut Table) -> Result<()> {
    let rename = |table: &mut Table| match (table.remove("repository"), table.get("repo")) {
        (Some(node), Some(_)) => {
            Err(node.place.error("`repository` and `repo` mean the same; give one of them"))
        }
        (Some(node), None) => {
            table.insert("repo".to_owned(), node);
            Ok(())
        }
        (None, _) => Ok(()),
    };
    for section in ["repository", "global"] {
        if let Some(Node { data: Data::Table(table), .. }) = table.get_mut(section) {
            rename(table)?;
        }
    }
    if let Some(Node { data: Data::List(list), .. }) = table.get_mut("target") {
        for item in list {
            if let Data::Table(table) = &mut item.data {
                rename(table)?;
            }
        }
    }
    Ok(())
}

/// `${NAME}` becomes the variable's value, `${NAME:-words}` as well or else the words, `$$` a dollar.
fn expand(text: &str, variable: &dyn Fn(&str) -> Option<OsString>) -> Result<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
            continue;
        }
        let Some(inner) = after.strip_prefix('{') else {
            out.push('$');
            rest = after;
            continue;
        };
        let end = inner.find('}').ok_or_else(|| Error::invalid("`${` without a `}`; `$$` is a dollar"))?;
        let (name, default) = match inner[..end].split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (&inner[..end], None),
        };
        out.push_str(&value_of(name, default, variable)?);
        rest = &inner[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

fn value_of(
    name: &str,
    default: Option<&str>,
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Result<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(fits) {
        return Err(Error::invalid(format!("`${{{name}}}` names no variable; `$$` is a dollar")));
    }
    if crate::os::process::SECRET_VARIABLES.contains(&name) {
        let why = "a password has no place in a profile; use password-file or password-command";
        return Err(Error::invalid(format!("`${{{name}}}`: {why}")));
    }
    match (variable(name).filter(|value| !value.is_empty()), default) {
        (Some(value), _) => value.into_string().map_err(|_| {
            Error::invalid(format!("the variable {name} is not UTF-8 and cannot be put in here"))
        }),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => {
            let what =
                format!("the variable {name} is not set; `${{{name}:-words}}` would stand for words then");
            Err(Error::invalid(what))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_put_in_and_dollars_stay() {
        let set = |name: &str| match name {
            "HOME" => Some(OsString::from("/home/a")),
            "EMPTY" => Some(OsString::new()),
            _ => None,
        };
        let good = |text: &str| expand(text, &set).expect("valid");
        assert_eq!(good("${HOME}/x"), "/home/a/x");
        assert_eq!(good("${NONE:-/tmp}/${HOME}"), "/tmp//home/a");
        assert_eq!(good("${EMPTY:-}${EMPTY:-x}"), "x");
        assert_eq!(good("a$$b $c $"), "a$b $c $");
        assert_eq!(good("$${HOME}"), "${HOME}");
        for wrong in ["${NONE}", "${", "${}", "${A B}", "${SNAPKEEP_PASSWORD}"] {
            assert!(expand(wrong, &set).is_err(), "{wrong}");
        }
    }
}
