//! What is in an export: places of records, the first records of each, their fields.

use crate::audit::export::{Export, stem};
use crate::error::{Error, Result};
use crate::json::Form;
use crate::json::doc::{Doc, Kind, Node};
use crate::json::pointer::{Pointer, push};
use crate::json::records::{Halt, Record, Shape, Wanted, look, read};
use crate::progress::Progress;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Records of each place that are looked at, and their bytes.
const RECORDS: usize = 100;
const RECORD_BYTES: usize = 256 << 10;
/// Places, files, levels within a record, fields.
const PLACES: usize = 100;
const FILES: usize = 200_000;
const LEVELS: usize = 6;
const FIELDS: usize = 1000;

/// Where records of one kind are.
pub struct Location {
    pub at: Pointer,
    pub file: Option<String>,
    pub shape: Option<Shape>,
    /// What it is called, to find a table that is called alike.
    pub name: String,
    /// Texts of records, and the names of the members or files that they are.
    pub records: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Location {
    pub fn shown(&self) -> String {
        match (&self.file, self.at.parts().is_empty()) {
            (None, true) => "the export".to_owned(),
            (None, false) => format!("`{}`", self.at),
            (Some(file), _) => format!("`{file}`"),
        }
    }

    pub fn docs(&self) -> Vec<Doc<'_>> {
        self.records.iter().filter_map(|(text, _)| Doc::parse(text).ok()).collect()
    }

    /// Pointers to everything in the records, in the order in which they were met, and whether it is an object.
    pub fn fields(&self) -> Vec<(String, bool)> {
        let docs = self.docs();
        fields(docs.iter().map(|doc| (doc, doc.root())))
    }
}

/// Pointers to everything in some objects.
pub fn fields<'d, 't: 'd>(objects: impl Iterator<Item = (&'d Doc<'t>, Node)>) -> Vec<(String, bool)> {
    let (mut order, mut known): (Vec<String>, BTreeMap<String, bool>) = (Vec::new(), BTreeMap::new());
    for (doc, node) in objects {
        below(doc, node, &mut String::new(), 0, &mut |path, is_object| {
            if known.len() < FIELDS && !known.contains_key(path) {
                order.push(path.to_owned());
            }
            if known.len() < FIELDS || known.contains_key(path) {
                *known.entry(path.to_owned()).or_default() |= is_object;
            }
        });
    }
    order.into_iter().map(|path| (path.clone(), known.get(&path).copied().unwrap_or(false))).collect()
}

fn below(doc: &Doc<'_>, node: Node, path: &mut String, depth: usize, each: &mut dyn FnMut(&str, bool)) {
    for (key, value) in doc.pairs(node) {
        let len = path.len();
        push(path, &doc.string(key));
        let is_object = doc.kind(value) == Kind::Object;
        each(path, is_object);
        if is_object && depth < LEVELS {
            below(doc, value, path, depth + 1, each);
        }
        path.truncate(len);
    }
}

/// All places of records.
pub fn locations(export: &mut dyn Export, progress: &Progress) -> Result<Vec<Location>> {
    let mut all = match export.is_directory() {
        false => {
            let name = export.name();
            in_text(export, None, &name)?
        }
        true => in_directory(export, progress)?,
    };
    let has_objects = |l: &Location| l.docs().iter().any(|doc| doc.kind(doc.root()) == Kind::Object);
    all.retain(has_objects);
    Ok(all)
}

fn in_directory(export: &mut dyn Export, progress: &Progress) -> Result<Vec<Location>> {
    let paths = RefCell::new(Vec::new());
    export.texts(
        &|path| {
            if Form::of(path).is_some() && paths.borrow().len() < FILES {
                paths.borrow_mut().push(String::from_utf8_lossy(path).into_owned());
            }
            false
        },
        &mut |_, _| Ok(()),
    )?;
    // Files of one name in directories beside each other belong together; otherwise those of one directory.
    let paths = paths.into_inner();
    let split = |path: &str| -> (String, String) {
        let (dir, file) = path.rsplit_once('/').unwrap_or(("", path));
        (dir.to_owned(), file.to_owned())
    };
    let mut beside: BTreeMap<(String, String), usize> = BTreeMap::new();
    for (dir, file) in paths.iter().map(|path| split(path)).filter(|(dir, _)| !dir.is_empty()) {
        *beside.entry((split(&dir).0, file)).or_default() += 1;
    }
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in &paths {
        let (dir, file) = split(path);
        let above = split(&dir).0;
        let join = |a: &str, b: &str| {
            if a.is_empty() { b.to_owned() } else { format!("{}/{b}", globset::escape(a)) }
        };
        let shared = !dir.is_empty() && beside.get(&(above.clone(), file.clone())).is_some_and(|n| *n > 1);
        let pattern = match (shared, Form::of(path.as_bytes())) {
            (true, _) => join(&above, &format!("*/{}", globset::escape(&file))),
            (false, Some(Form::Document)) => join(&dir, "*.json"),
            _ => globset::escape(path),
        };
        groups.entry(pattern).or_default().push(path.clone());
    }
    let mut all = Vec::new();
    for (pattern, files) in groups {
        progress.keep_going()?;
        let Some(first) = files.first().filter(|_| all.len() < PLACES) else { break };
        let inside = in_text(export, Some(first.as_bytes()), first)?;
        // Objects in several files are records, whatever arrays are in them.
        let is_object = files.len() > 1 && !inside.iter().any(|l| l.at.parts().is_empty());
        let is_record =
            Form::of(first.as_bytes()) == Some(Form::Document) && (is_object || inside.is_empty());
        if is_record {
            all.push(records_of_files(export, pattern, &files)?);
            continue;
        }
        for file in files.iter().take(PLACES) {
            let found =
                if file == first { Vec::new() } else { in_text(export, Some(file.as_bytes()), file)? };
            all.extend(found);
        }
        all.extend(inside);
    }
    Ok(all)
}

/// Each file a record.
fn records_of_files(export: &mut dyn Export, pattern: String, files: &[String]) -> Result<Location> {
    let few: Vec<&[u8]> = files.iter().take(RECORDS).map(String::as_bytes).collect();
    let mut records = Vec::new();
    let wanted = [Wanted { at: Pointer::default(), shape: Shape::Whole }];
    export.texts(&|path| few.contains(&path), &mut |path, fill| {
        let name = stem(path).to_vec();
        // What does not parse is the audit's to tell.
        let _ = read(fill, &wanted, &mut |record| {
            keep(&mut records, &record, name.clone());
            Ok(())
        });
        Ok(())
    })?;
    let dir = pattern.rsplit_once('/').map_or("", |(dir, _)| dir);
    let name = dir.rsplit('/').find(|part| *part != "*").unwrap_or(dir).to_owned();
    Ok(Location { at: Pointer::default(), file: Some(pattern), shape: None, name, records })
}

fn keep(records: &mut Vec<(Vec<u8>, Vec<u8>)>, record: &Record<'_>, name: Vec<u8>) {
    if records.len() < RECORDS && record.doc.text().len() <= RECORD_BYTES {
        records.push((record.doc.text().to_vec(), name));
    }
}

/// Places in one text: the whole of it, members of it, members of these.
fn in_text(export: &mut dyn Export, path: Option<&[u8]>, shown: &str) -> Result<Vec<Location>> {
    let file = path.map(|path| globset::escape(&String::from_utf8_lossy(path)));
    let stem = String::from_utf8_lossy(stem(shown.as_bytes())).into_owned();
    let is_lines = Form::of(shown.as_bytes()) == Some(Form::Lines);
    let shape = if is_lines { Shape::Lines } else { Shape::Elements };
    let make = |at: Pointer, shape: Shape, records| {
        let name = at.parts().last().cloned().unwrap_or_else(|| stem.clone());
        let told =
            matches!(shape, Shape::Members | Shape::Lines) || (file.is_some() && shape == Shape::Elements);
        Location { at, file: file.clone(), shape: told.then_some(shape), name, records }
    };
    let (records, mut others) = at_places(export, path, shown, &[Pointer::default()], shape)?;
    if let Some(records) = records.into_iter().next().filter(|r| !r.is_empty()) {
        return Ok(vec![make(Pointer::default(), shape, records)]);
    }
    let (mut all, mut objects) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let places: Vec<Pointer> =
            others.iter().take(PLACES).filter_map(|o| Pointer::parse(o).ok()).collect();
        if places.is_empty() {
            break;
        }
        let (found, next) = at_places(export, path, shown, &places, Shape::Elements)?;
        let arrays_below = |place: &Pointer| next.iter().any(|o| o.starts_with(&format!("{place}/")));
        for (place, records) in places.into_iter().zip(found) {
            match records.is_empty() {
                false => all.push(make(place, Shape::Elements, records)),
                true if arrays_below(&place) => objects.push(place),
                true => {}
            }
        }
        others = next;
    }
    // Objects that hold nothing but objects, and no place that was found, hold records by their names. A file of its own
    // that holds no array at all is a record.
    let free =
        |place: &Pointer| !all.iter().any(|l: &Location| l.at.to_string().starts_with(&format!("{place}/")));
    objects.retain(free);
    for depth in 1..=2 {
        // Outer ones first: what is in a record is no place of records.
        let inside = |place: &Pointer| {
            all.iter().any(|l: &Location| place.to_string().starts_with(&format!("{}/", l.at)))
        };
        let fits = |place: &&Pointer| path.is_none() && place.parts().len() == depth && !inside(place);
        let places: Vec<Pointer> = objects.iter().filter(fits).cloned().collect();
        if places.is_empty() {
            continue;
        }
        let (found, _) = at_places(export, path, shown, &places, Shape::Members)?;
        for (place, records) in places.into_iter().zip(found) {
            if are_alike(&records) {
                all.push(make(place, Shape::Members, records));
            }
        }
    }
    let is_table = |l: &Location| l.records.iter().any(|(text, _)| text.first() == Some(&b'{'));
    if path.is_some() && !all.iter().any(is_table) {
        all.clear();
    }
    Ok(all)
}

type Records = Vec<(Vec<u8>, Vec<u8>)>;

/// Several objects that have keys in common.
fn are_alike(records: &Records) -> bool {
    let mut common: Option<Vec<Vec<u8>>> = None;
    for (text, _) in records {
        let Ok(doc) = Doc::parse(text) else { return false };
        let keys: Vec<Vec<u8>> = doc.pairs(doc.root()).map(|(key, _)| doc.string(key).into_owned()).collect();
        common = Some(match common {
            None => keys,
            Some(common) => common.into_iter().filter(|key| keys.contains(key)).collect(),
        });
    }
    records.len() > 1 && common.is_some_and(|common| !common.is_empty())
}

/// The first records at each of some places, and the names met on the way.
fn at_places(
    export: &mut dyn Export,
    path: Option<&[u8]>,
    shown: &str,
    places: &[Pointer],
    shape: Shape,
) -> Result<(Vec<Records>, Vec<String>)> {
    let wanted: Vec<Wanted> = places.iter().map(|at| Wanted { at: at.clone(), shape }).collect();
    let (mut records, mut others): (Vec<Records>, _) = (vec![Vec::new(); places.len()], Vec::new());
    let wants = |p: &[u8]| path.is_none_or(|path| path == p);
    export.texts(&wants, &mut |_, fill| {
        let done = look(fill, &wanted, &mut |record| {
            let name = record.name.unwrap_or_default().to_vec();
            keep(&mut records[record.of], &record, name);
            Ok(())
        });
        match done {
            Ok(found) => others = found.others,
            Err(Halt::Error(e)) => return Err(e.context(shown)),
            Err(Halt::Fault(fault)) => {
                return Err(Error::invalid(format!("{shown} is not sound JSON: {fault}")));
            }
        }
        Ok(())
    })?;
    Ok((records, others))
}
