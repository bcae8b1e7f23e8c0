//! The side of the export: records of JSON texts, wherever these are, as records that can be compared.

use super::canon::{Side, Tag, put, wrong};
use super::form::{Seen, exported};
use super::map::{Map, Place, Table};
use super::plan::{Plan, Section};
use super::reduced::{Item, KeyHash, Reduced, Sink, key_hash, key_shown};
use super::text::did_you_mean;
use crate::error::{Error, ErrorKind, Result};
use crate::json::doc::{Doc, Kind, Node};
use crate::json::pointer::Pointer;
use crate::json::records::{Fill, Halt, Record, Shape, Wanted, read as records};
use crate::progress::Progress;
use globset::{GlobBuilder, GlobMatcher};
use std::cell::RefCell;
use std::collections::BTreeSet;

/// Names of fields that no rule names, kept to say what is there.
const OTHERS_MAX: usize = 200;
/// Of what no rule names in one record, so much is told.
const MORE_MAX: usize = 1024;

/// Takes one text: where it stands below the export, or the name of an export of one file; its bytes.
pub type Each<'a> = dyn FnMut(&[u8], &mut Fill<'_>) -> Result<()> + 'a;

/// What was seen of the records of a section.
#[derive(Clone, Debug, Default)]
pub struct Looks {
    /// For each field: some record has it.
    present: Vec<bool>,
    records: u64,
    others: BTreeSet<String>,
}

/// Tables of a map where they are to be looked for.
struct Places<'m> {
    tables: Vec<(usize, &'m Table, Option<GlobMatcher>)>,
    found: Vec<bool>,
    /// What is there in place of what was looked for.
    others: BTreeSet<String>,
    files: u64,
}

/// Files and places that no rule reads, as many as are told.
const LEFT_MAX: usize = 20;

/// Hands every record that the map asks for to `sink`; answers files and places that no rule reads, the first of them. The inner
/// error is a text that is not sound.
pub fn read(
    export: &mut dyn Export,
    plan: &Plan<'_>,
    map: &Map,
    seed: Option<u64>,
    progress: &Progress,
    sink: &mut dyn Sink,
) -> Result<std::result::Result<Vec<String>, String>> {
    let mut places = Places::new(export, plan, map)?;
    let look = |s: &Section<'_>| Looks { present: vec![false; s.fields.len()], ..Looks::default() };
    let mut looks: Vec<Looks> = plan.sections.iter().map(look).collect();
    let mut fault = None;
    let globs: Vec<Option<GlobMatcher>> = places.tables.iter().map(|(_, _, glob)| glob.clone()).collect();
    let fits =
        |glob: &Option<GlobMatcher>, path: &[u8]| glob.as_ref().is_none_or(|g| g.is_match(as_path(path)));
    let left = RefCell::new(Vec::new());
    let wanted = |path: &[u8]| {
        let is_wanted = globs.iter().any(|glob| fits(glob, path));
        if !is_wanted && left.borrow().len() < LEFT_MAX {
            left.borrow_mut().push(String::from_utf8_lossy(path).into_owned());
        }
        is_wanted
    };
    let name = export.name();
    let done = export.texts(&wanted, &mut |path, fill| {
        progress.keep_going()?;
        places.files += 1;
        let here: Vec<usize> = (0..globs.len()).filter(|n| fits(&globs[*n], path)).collect();
        let wanted: Vec<Wanted> = here.iter().map(|n| wanted_of(places.tables[*n].1, path)).collect();
        let stem = stem(path);
        let done = records(fill, &wanted, &mut |record| {
            progress.keep_going()?;
            let Some((section, _, _)) = here.get(record.of).and_then(|n| places.tables.get(*n)) else {
                return Ok(());
            };
            let shape = wanted.get(record.of).map_or(Shape::Whole, |w| w.shape);
            let place = || place_of(&name, path, &record, wanted.get(record.of).map(|w| &w.at), shape);
            let own = record.name.unwrap_or(stem);
            Reading { plan, seed, looks: &mut looks, sink: &mut *sink }
                .record(*section, record.doc, own, &place)
        });
        let shown = if path.is_empty() { name.clone() } else { String::from_utf8_lossy(path).into_owned() };
        match done {
            Ok(found) => {
                places.note(&here, found);
                Ok(())
            }
            Err(Halt::Error(e)) => Err(e.context(shown)),
            Err(Halt::Fault(what)) => {
                fault = Some(format!("{shown} is not sound JSON: {what}"));
                Err(Error::new(ErrorKind::Corrupt, "not sound"))
            }
        }
    });
    if let Some(fault) = fault {
        return Ok(Err(fault));
    }
    done?;
    places.all_found(&name)?;
    let all = plan.sections.iter().zip(&looks).map(|(section, looks)| looks.fits(section));
    all.collect::<Result<()>>()?;
    let mut left = left.into_inner();
    left.extend(places.others);
    left.truncate(LEFT_MAX);
    Ok(Ok(left))
}

fn as_path(path: &[u8]) -> &std::path::Path {
    use std::os::unix::ffi::OsStrExt;
    std::path::Path::new(std::ffi::OsStr::from_bytes(path))
}

/// A file's name without its ending.
pub fn stem(path: &[u8]) -> &[u8] {
    let name = path.rsplit(|b| *b == b'/').next().unwrap_or_default();
    let dot = name.iter().rposition(|b| *b == b'.').filter(|at| *at > 0);
    &name[..dot.unwrap_or(name.len())]
}

fn wanted_of(table: &Table, path: &[u8]) -> Wanted {
    let is_lines = crate::json::Form::of(path) == Some(crate::json::Form::Lines);
    let usual = match (&table.file, is_lines) {
        (_, true) => Shape::Lines,
        (Some(_), false) => Shape::Whole,
        (None, false) => Shape::Elements,
    };
    Wanted { at: table.at.clone(), shape: table.shape.unwrap_or(usual) }
}

/// Where a record is, for people.
fn place_of(export: &str, path: &[u8], record: &Record<'_>, at: Option<&Pointer>, shape: Shape) -> String {
    let file = if path.is_empty() { export.to_owned() } else { String::from_utf8_lossy(path).into_owned() };
    let at = at.map(ToString::to_string).unwrap_or_default();
    match (shape, record.name) {
        (Shape::Lines, _) => format!("line {} of {file}", record.number),
        (Shape::Whole, _) if at.is_empty() => file,
        (Shape::Whole, _) => format!("{at} of {file}"),
        (_, Some(name)) => format!("{at}/{} of {file}", String::from_utf8_lossy(name)),
        (_, None) => format!("{at}/{} of {file}", record.number),
    }
}

impl<'m> Places<'m> {
    fn new(export: &dyn Export, plan: &Plan<'_>, map: &'m Map) -> Result<Self> {
        let mut tables = Vec::new();
        for (number, table) in map.tables.iter().enumerate() {
            let wrong = |what: &str| Error::invalid(format!("table `{}`: {what}", table.name));
            let glob = match (&table.file, export.is_directory()) {
                (None, false) => None,
                (Some(pattern), true) => {
                    let built =
                        GlobBuilder::new(pattern).literal_separator(true).backslash_escape(true).build();
                    Some(
                        built
                            .map_err(|e| wrong(&format!("`{pattern}` is no pattern: {}", e.kind())))?
                            .compile_matcher(),
                    )
                }
                (None, true) => {
                    return Err(wrong(
                        "the export is a directory; say with `file` which of its files hold the table",
                    ));
                }
                (Some(_), false) => {
                    return Err(wrong("`file` is for exports that are directories, and this is a file"));
                }
            };
            if table.shape == Some(Shape::Lines) && !table.at.parts().is_empty() {
                return Err(wrong("lines are records by themselves; leave `at` out"));
            }
            let section = plan.sections.iter().position(|s| s.table_number == number && s.children.is_none());
            tables.push((section.unwrap_or(0), table, glob));
        }
        let lines =
            tables.iter().filter(|(_, t, _)| wanted_of(t, export.name().as_bytes()).shape == Shape::Lines);
        let lines = lines.count();
        if !export.is_directory() && lines > 0 && lines < tables.len() {
            return Err(Error::invalid(
                "an export of lines holds one kind of record, and not all tables say `lines`",
            ));
        }
        let found = vec![false; tables.len()];
        Ok(Places { tables, found, others: BTreeSet::new(), files: 0 })
    }

    fn note(&mut self, here: &[usize], found: crate::json::records::Found) {
        for (n, is_there) in here.iter().zip(found.places) {
            self.found[*n] |= is_there;
        }
        let room = OTHERS_MAX.saturating_sub(self.others.len());
        self.others.extend(found.others.into_iter().take(room));
    }

    /// A place that nothing stands at is a mistake in the map: nothing was compared there.
    fn all_found(&self, export: &str) -> Result<()> {
        let missing = self.tables.iter().zip(&self.found).find(|(_, found)| !**found);
        let Some(((_, table, _), _)) = missing else { return Ok(()) };
        let what = match &table.file {
            Some(pattern) if table.at.parts().is_empty() => {
                return Err(Error::invalid(format!(
                    "table `{}`: no file of {} fits `{pattern}`",
                    table.name, export
                )));
            }
            _ => format!("table `{}`: {} has nothing at `{}`", table.name, export, table.at),
        };
        Err(did_you_mean(what, self.others.iter().map(String::as_str), &table.at.to_string()))
    }
}

/// The texts of an export, the same ones each time.
pub trait Export {
    /// What people call it.
    fn name(&self) -> String;
    fn is_directory(&self) -> bool;
    /// Hands over each text whose path is wanted, in order.
    fn texts(&mut self, wanted: &dyn Fn(&[u8]) -> bool, each: &mut Each<'_>) -> Result<()>;
    /// Whether nothing has changed since the first look.
    fn holds(&mut self) -> Result<bool>;
}

impl Looks {
    /// A field that no record has, with one there that is called much like it, is a mistake in the map.
    fn fits(&self, section: &Section<'_>) -> Result<()> {
        for (number, field) in section.fields.iter().enumerate() {
            if self.present[number] || self.records == 0 {
                continue;
            }
            let is_key = section.children.is_none() && section.table.key.contains(&number);
            if !is_key && self.others.is_empty() {
                continue;
            }
            let at = field.at.shown();
            let what = format!("table `{}`: no record of the export has `{at}`", section.name);
            return Err(did_you_mean(what, self.others.iter().map(String::as_str), &at));
        }
        Ok(())
    }

    fn other(&mut self, path: &str) {
        if self.others.len() < OTHERS_MAX && !self.others.contains(path) {
            self.others.insert(path.to_owned());
        }
    }
}

/// One record on its way.
struct Reading<'a, 'm> {
    plan: &'a Plan<'m>,
    seed: Option<u64>,
    looks: &'a mut [Looks],
    sink: &'a mut dyn Sink,
}

impl Reading<'_, '_> {
    fn record(
        &mut self,
        number: usize,
        doc: &Doc<'_>,
        name: &[u8],
        place: &dyn Fn() -> String,
    ) -> Result<()> {
        let section = &self.plan.sections[number];
        let count = section.fields.len();
        let mut found: Vec<Option<Node>> = vec![None; count + section.arrays()];
        let more = self.gather(number, doc, doc.root(), &mut found);
        let seen = |n: usize| match (&section.fields[n].at, found[n]) {
            (Place::Name, _) => Seen::Name(name),
            (Place::At(_), Some(node)) => Seen::Node(doc, node),
            (Place::At(_), None) => Seen::Absent,
        };
        let mut fields = Reduced::default();
        let keys = &section.table.key;
        let mut has_key = true;
        for key in keys {
            has_key &= !matches!(seen(*key), Seen::Absent);
            fields.add(|out| exported(&section.fields[*key].form, seen(*key), out));
        }
        if !has_key {
            self.sink.keyless(number, place());
            return Ok(());
        }
        let key = key_hash(self.seed, (0..keys.len()).map(|n| fields.field(n)));
        let is_wanted = self.sink.wants(number, &key);
        let own: Vec<Vec<u8>> = (0..keys.len()).map(|n| fields.field(n).to_vec()).collect();
        let shown = || (key_shown(own.iter().map(Vec::as_slice)), own.concat());
        let arrays: Vec<Option<Node>> = found[count..].to_vec();
        if is_wanted {
            fields.clear();
            for n in 0..count {
                fields.add(|out| exported(&section.fields[n].form, seen(n), out));
            }
            for (children, node) in section.table.children.iter().zip(&arrays) {
                fields.add(|out| array(doc, *node, children.may_be_absent, out));
            }
            fields.add(|out| put_more(&more, out));
            let fields = &mut fields;
            let item = Item { section: number, side: Side::Export, key, order: &[], fields, shown: &shown };
            self.sink.take(item)?;
        }
        for (n, node) in arrays.into_iter().enumerate() {
            if let Some(node) = node.filter(|node| doc.kind(*node) == Kind::Array) {
                self.array(number + 1 + n, doc, node, key, is_wanted, &shown)?;
            }
        }
        Ok(())
    }

    /// The elements of an array that are rows of another table.
    fn array(
        &mut self,
        number: usize,
        doc: &Doc<'_>,
        node: Node,
        key: KeyHash,
        is_wanted: bool,
        shown: &dyn Fn() -> (String, Vec<u8>),
    ) -> Result<()> {
        let section = &self.plan.sections[number];
        if !is_wanted {
            self.sink.passed(number, doc.items(node).count() as u64);
            return Ok(());
        }
        let has_order = section.children.is_some_and(|c| !c.order.is_empty());
        let mut fields = Reduced::default();
        for (position, element) in doc.items(node).enumerate() {
            let mut found: Vec<Option<Node>> = vec![None; section.fields.len()];
            let more = self.gather(number, doc, element, &mut found);
            fields.clear();
            for (field, node) in section.fields.iter().zip(&found) {
                let seen = node.map_or(Seen::Absent, |node| Seen::Node(doc, node));
                fields.add(|out| exported(&field.form, seen, out));
            }
            fields.add(|out| put_more(&more, out));
            let order = if has_order { (position as u64).to_be_bytes().to_vec() } else { Vec::new() };
            if self.sink.wants(number, &key) {
                let fields = &mut fields;
                self.sink.take(Item {
                    section: number,
                    side: Side::Export,
                    key,
                    order: &order,
                    fields,
                    shown,
                })?;
            }
        }
        Ok(())
    }

    /// Finds the fields; answers what no rule names.
    fn gather(&mut self, number: usize, doc: &Doc<'_>, node: Node, found: &mut [Option<Node>]) -> Vec<u8> {
        let section = &self.plan.sections[number];
        let looks = &mut self.looks[number];
        let mut more = Vec::new();
        section.paths.gather(doc, node, found, &mut |path, value| {
            looks.other(path);
            if more.len() < MORE_MAX {
                more.extend_from_slice(if more.is_empty() { b"" } else { b", " });
                more.extend_from_slice(path.as_bytes());
                more.extend_from_slice(b": ");
                let value = doc.compact(value);
                more.extend_from_slice(&value[..value.len().min(80)]);
            }
        });
        looks.records += 1;
        for (n, field) in section.fields.iter().enumerate() {
            looks.present[n] |= field.at == Place::Name || found.get(n).is_some_and(Option::is_some);
        }
        more
    }
}

fn array(doc: &Doc<'_>, node: Option<Node>, may_be_absent: bool, out: &mut Vec<u8>) {
    match node {
        Some(node) if doc.kind(node) == Kind::Array => put(Tag::Array, &[], out),
        None if may_be_absent => put(Tag::Array, &[], out),
        None => put(Tag::Absent, &[], out),
        Some(node) => wrong(Side::Export, &String::from_utf8_lossy(&doc.compact(node)), "is no array", out),
    }
}

fn put_more(more: &[u8], out: &mut Vec<u8>) {
    match more {
        [] => put(Tag::NoMore, &[], out),
        more => put(Tag::More, more, out),
    }
}
