//! One table and its place in the export: the key, which column is which field, what came by way of foreign keys.

use super::fit::{Fit, Pair, best};
use super::look::{Location, fields};
use super::{last, plain};
use crate::audit::form::{Form, Seen};
use crate::error::Result;
use crate::json::doc::{Doc, Kind, Node};
use crate::json::pointer::Pointer;
use crate::sqlite::query::{Reading, Value, quoted};
use crate::sqlite::schema::Table;

/// Records whose arrays are looked into: without an index each asks for the whole table.
const PARENTS: usize = 8;
/// Rows of one array.
const ROWS: usize = 1000;

/// A field of the map.
pub struct Line {
    /// A column of its own; or one of another table: that table, its column that fits, ours.
    pub column: String,
    pub lookup: Option<(String, String, String)>,
    pub field: String,
    pub form: Form,
}

/// Rows of another table in an array.
pub struct Rows {
    pub field: String,
    pub table: String,
    pub by: (String, String),
    pub order: Option<String>,
    pub may_be_absent: bool,
    pub lines: Vec<Line>,
    pub left_columns: Vec<String>,
    pub left_fields: Vec<String>,
}

/// What a map may say of one table.
pub struct Proposal {
    pub table: String,
    pub key: Vec<String>,
    pub lines: Vec<Line>,
    pub rows: Vec<Rows>,
    pub left_columns: Vec<String>,
    pub left_fields: Vec<String>,
}

/// The database, one table of it, and all.
#[derive(Clone, Copy)]
struct Base<'a> {
    reading: &'a Reading,
    table: &'a Table,
    all: &'a [Table],
}

/// A row and the value that stands for it in the export.
struct Sample<'d> {
    row: Vec<Value>,
    doc: &'d Doc<'d>,
    node: Node,
    name: &'d [u8],
}

impl<'d> Sample<'d> {
    fn seen(&self, path: &str) -> Seen<'d> {
        if path == crate::audit::map::NAME {
            return Seen::Name(self.name);
        }
        let found = Pointer::parse(path).ok().and_then(|p| p.find_below(self.doc, self.node));
        found.map_or(Seen::Absent, |node| Seen::Node(self.doc, node))
    }
}

impl Proposal {
    /// `None` where no key is found that both sides have.
    pub fn new(
        reading: &Reading,
        table: &Table,
        all: &[Table],
        location: &Location,
        remarks: &mut Vec<String>,
    ) -> Result<Option<Self>> {
        let docs = location.docs();
        let paths = location.fields();
        let mut keys = vec![table.key()];
        keys.extend(unique(reading, table)?);
        for key in keys.iter().filter(|key| !key.is_empty()) {
            let key: Vec<&str> = key.iter().map(|c| table.columns[*c].name.as_str()).collect();
            let samples = samples(reading, table, &key, location, &docs, &paths)?;
            if samples.is_empty() {
                continue;
            }
            let mut proposal = Proposal {
                table: table.name.clone(),
                key: key.iter().map(|name| (*name).to_owned()).collect(),
                lines: Vec::new(),
                rows: Vec::new(),
                left_columns: Vec::new(),
                left_fields: Vec::new(),
            };
            let used = proposal.columns(table, &samples, &paths, remarks);
            if key.iter().all(|name| proposal.lines.iter().any(|line| line.column == *name)) {
                proposal.rest(Base { reading, table, all }, &samples, &paths, used, remarks)?;
                return Ok(Some(proposal));
            }
        }
        Ok(None)
    }

    /// Whether rows of this table are a part of it.
    pub fn uses(&self, table: &str) -> bool {
        self.rows.iter().any(|rows| rows.table == table)
            || self.lines.iter().filter_map(|line| line.lookup.as_ref()).any(|(other, _, _)| other == table)
    }

    /// Columns and fields of one name; then of one content. Answers the fields that are taken.
    fn columns(
        &mut self,
        table: &Table,
        samples: &[Sample<'_>],
        paths: &[(String, bool)],
        remarks: &mut Vec<String>,
    ) -> Vec<String> {
        let (lines, used, left) =
            match_columns(&table.name, &columns_of(table), samples, paths, true, remarks);
        self.lines = lines;
        self.left_columns = left;
        used
    }

    /// Foreign keys, arrays, and what is left.
    fn rest(
        &mut self,
        base: Base<'_>,
        samples: &[Sample<'_>],
        paths: &[(String, bool)],
        mut used: Vec<String>,
        remarks: &mut Vec<String>,
    ) -> Result<()> {
        for (path, _) in paths {
            if is_used(path, &used) {
                continue;
            }
            let is_array =
                samples.iter().any(|s| matches!(s.seen(path), Seen::Node(d, n) if d.kind(n) == Kind::Array));
            if is_array {
                if let Some(rows) = Rows::new(base, samples, path, remarks)? {
                    used.push(path.clone());
                    self.rows.push(rows);
                }
            } else if let Some(line) = looked_up(base, samples, path)? {
                used.push(path.clone());
                self.lines.push(line);
            }
        }
        let through: Vec<&String> =
            self.lines.iter().filter_map(|l| l.lookup.as_ref()).map(|(_, _, own)| own).collect();
        self.left_columns.retain(|column| !through.contains(&column));
        self.left_columns.retain(|column| !self.rows.iter().any(|rows| rows.by.1 == *column));
        self.left_fields = left_fields(paths, &used);
        Ok(())
    }
}

fn columns_of(table: &Table) -> Vec<(String, String)> {
    table.columns.iter().map(|c| (c.name.clone(), c.declared.clone())).collect()
}

/// A field is taken with all that is in it, and what it is in.
fn is_used(path: &str, used: &[String]) -> bool {
    let inside = |a: &str, b: &str| a == b || a.strip_prefix(b).is_some_and(|rest| rest.starts_with('/'));
    used.iter().any(|other| inside(path, other) || inside(other, path))
}

/// The outermost fields that no rule names.
fn left_fields(paths: &[(String, bool)], used: &[String]) -> Vec<String> {
    let mut left: Vec<String> = Vec::new();
    for (path, _) in paths {
        if !is_used(path, used) && !is_used(path, &left) {
            left.push(path.clone());
        }
    }
    left
}

/// Indexes that tell rows apart, by their columns.
fn unique(reading: &Reading, table: &Table) -> Result<Vec<Vec<usize>>> {
    let mut all = Vec::new();
    let name = [Value::text(&table.name)];
    let sql = "SELECT name FROM pragma_index_list(?1) WHERE \"unique\"=1 AND partial=0 AND origin<>'pk'";
    for row in reading.all(sql, &name)? {
        let index = row.first().cloned().unwrap_or(Value::Null);
        let columns = reading.all("SELECT name FROM pragma_index_info(?1) ORDER BY seqno", &[index])?;
        let numbers: Option<Vec<usize>> = columns
            .iter()
            .map(|row| {
                table.columns.iter().position(|c| Some(&c.name) == row.first().map(Value::lossy).as_ref())
            })
            .collect();
        all.extend(numbers);
    }
    Ok(all)
}

/// Rows that the looked-at records stand for: found by the fields that are called like the key.
fn samples<'d>(
    reading: &Reading,
    table: &Table,
    key: &[&str],
    location: &'d Location,
    docs: &'d [Doc<'d>],
    paths: &[(String, bool)],
) -> Result<Vec<Sample<'d>>> {
    let like = |column: &&str| {
        let is_like =
            |path: &&(String, bool)| plain(&path.0) == plain(column) || plain(last(&path.0)) == plain(column);
        paths.iter().find(is_like).map(|(path, _)| path.clone())
    };
    let has_names = location.records.iter().any(|(_, name)| !name.is_empty());
    let fields: Option<Vec<String>> = key
        .iter()
        .map(|column| like(column).or_else(|| has_names.then(|| crate::audit::map::NAME.to_owned())))
        .collect();
    let Some(fields) = fields else { return Ok(Vec::new()) };
    let list = table.columns.iter().map(|c| quoted(&c.name)).collect::<Vec<_>>().join(",");
    let on: Vec<String> = key.iter().enumerate().map(|(n, c)| format!("{}=?{}", quoted(c), n + 1)).collect();
    let sql = format!("SELECT {list} FROM {} WHERE {} LIMIT 2", quoted(&table.name), on.join(" AND "));
    let mut best: Vec<Sample<'d>> = Vec::new();
    // One way of writing holds for all records; each is tried, all columns of the key alike.
    for way in 0..4 {
        let mut found = Vec::new();
        for (doc, (_, name)) in docs.iter().zip(&location.records) {
            let mut sample = Sample { row: Vec::new(), doc, node: doc.root(), name };
            let values: Option<Vec<Value>> =
                fields.iter().map(|field| key_value(sample.seen(field), way)).collect();
            let Some(values) = values else { continue };
            let mut rows = reading.all(&sql, &values)?;
            if let (Some(row), true) = (rows.pop(), rows.is_empty()) {
                sample.row = row;
                found.push(sample);
            }
        }
        if found.len() > best.len() {
            best = found;
        }
    }
    Ok(best)
}

/// What a key may be in the database.
fn key_value(seen: Seen<'_>, way: usize) -> Option<Value> {
    let text = match seen {
        Seen::Absent => return None,
        Seen::Name(name) => name.to_vec(),
        Seen::Node(doc, node) => match doc.kind(node) {
            Kind::Number => {
                let raw = std::str::from_utf8(doc.raw(node)).ok()?;
                return raw.parse().map(Value::Integer).or_else(|_| raw.parse().map(Value::Real)).ok();
            }
            Kind::Text => doc.string(node).into_owned(),
            _ => return None,
        },
    };
    let written = std::str::from_utf8(&text).ok()?.to_owned();
    match way {
        0 => Some(Value::Text(text)),
        1 => written.parse().ok().map(Value::Integer),
        2 => crate::audit::form::unhex(&text).map(Value::Blob),
        _ => base64::Engine::decode(&base64::engine::general_purpose::STANDARD, &text).ok().map(Value::Blob),
    }
}

type Matched = (Vec<Line>, Vec<String>, Vec<String>);

/// Answers lines, the fields they take, and the columns that are left.
fn match_columns(
    table: &str,
    columns: &[(String, String)],
    samples: &[Sample<'_>],
    paths: &[(String, bool)],
    may_be_name: bool,
    remarks: &mut Vec<String>,
) -> Matched {
    let (mut lines, mut used, mut left): Matched = Default::default();
    let pairs_of = |column: usize, path: &str| -> Vec<Pair<'_>> {
        samples.iter().filter_map(|s| Some((s.row.get(column)?, s.seen(path)))).collect()
    };
    let mut take = |lines: &mut Vec<Line>, used: &mut Vec<String>, column: &str, path: &str, fit: Fit| {
        if fit.misses > 0 {
            let (misses, all) = (fit.misses, samples.len());
            remarks.push(format!(
                "`{table}`: {misses} of {all} values looked at in `{column}` and {path} are not the same"
            ));
        }
        used.push(path.to_owned());
        let (column, field) = (column.to_owned(), path.to_owned());
        lines.push(Line { column, lookup: None, field, form: fit.form });
    };
    let name = [(crate::audit::map::NAME.to_owned(), false)];
    for (number, (column, declared)) in columns.iter().enumerate() {
        let own = plain(column);
        let alike = |path: &&(String, bool)| plain(&path.0) == own || plain(last(&path.0)) == own;
        let further = name.iter().filter(|_| may_be_name && samples.iter().any(|s| !s.name.is_empty()));
        let found = paths.iter().filter(alike).chain(further).filter(|(path, _)| !is_used(path, &used));
        let fits =
            found.filter_map(|(path, _)| Some((path.clone(), best(&pairs_of(number, path), declared)?)));
        // The name of a member only where no field says it.
        let best = fits.min_by_key(|(path, fit)| (fit.misses, !path.starts_with('/'), path.len()));
        match best.filter(|(path, fit)| path.starts_with('/') || (fit.misses == 0 && fit.proofs > 0)) {
            Some((path, fit)) => take(&mut lines, &mut used, column, &path, fit),
            None => left.push(column.clone()),
        }
    }
    // What is called otherwise is known by what it holds.
    let numbered: Vec<(usize, &(String, String))> = columns.iter().enumerate().collect();
    left.retain(|column| {
        let Some((number, (_, declared))) = numbered.iter().find(|(_, (name, _))| name == column) else {
            return true;
        };
        let free = paths.iter().filter(|(path, is_object)| !is_object && !is_used(path, &used));
        let sure = free.filter_map(|(path, _)| {
            let fit = best(&pairs_of(*number, path), declared)?;
            (fit.misses == 0 && fit.proofs >= 3).then_some((path.clone(), fit))
        });
        let Some((path, fit)) = sure.max_by_key(|(_, fit)| fit.proofs) else { return true };
        take(&mut lines, &mut used, column, &path, fit);
        false
    });
    (lines, used, left)
}

/// Foreign keys of one column each: the other table, its column, ours.
fn foreign_keys(reading: &Reading, table: &Table, all: &[Table]) -> Result<Vec<(usize, String, String)>> {
    let sql = "SELECT id, \"table\", \"from\", \"to\" FROM pragma_foreign_key_list(?1) ORDER BY id, seq";
    let rows = reading.all(sql, &[Value::text(&table.name)])?;
    let mut keys = Vec::new();
    for row in &rows {
        let [id, other, from, to] = row.as_slice() else { continue };
        let is_single = rows.iter().filter(|row| row.first() == Some(id)).count() == 1;
        let other = all.iter().position(|t| t.name.eq_ignore_ascii_case(&other.lossy()));
        let Some(other) = other.filter(|_| is_single) else { continue };
        let to = match to {
            Value::Null => all[other].key().first().map(|c| all[other].columns[*c].name.clone()),
            to => Some(to.lossy()),
        };
        keys.extend(to.map(|to| (other, to, from.lossy())));
    }
    Ok(keys)
}

/// A field that is a column of a row that a foreign key leads to.
fn looked_up(
    Base { reading, table, all }: Base<'_>,
    samples: &[Sample<'_>],
    path: &str,
) -> Result<Option<Line>> {
    let mut found: Option<(bool, usize, Line)> = None;
    for (other, to, own) in foreign_keys(reading, table, all)? {
        let Some(at) = table.columns.iter().position(|c| c.name.eq_ignore_ascii_case(&own)) else { continue };
        let other = &all[other];
        let list = other.columns.iter().map(|c| quoted(&c.name)).collect::<Vec<_>>().join(",");
        let sql = format!("SELECT {list} FROM {} WHERE {}=?1 LIMIT 1", quoted(&other.name), quoted(&to));
        let mut rows = Vec::new();
        for sample in samples {
            let value = sample.row.get(at).cloned().unwrap_or(Value::Null);
            let row = reading.all(&sql, &[value])?.pop();
            rows.push(row.unwrap_or_else(|| vec![Value::Null; other.columns.len()]));
        }
        for (number, column) in other.columns.iter().enumerate() {
            let pairs: Vec<Pair<'_>> = rows
                .iter()
                .zip(samples)
                .filter_map(|(row, s)| Some((row.get(number)?, s.seen(path))))
                .collect();
            let Some(fit) = best(&pairs, &column.declared).filter(|fit| fit.misses == 0 && fit.proofs > 0)
            else {
                continue;
            };
            let joined = format!("{}{}", plain(&other.name).trim_end_matches('s'), plain(&column.name));
            let is_alike =
                [plain(path), plain(last(path))].iter().any(|p| *p == plain(&column.name) || *p == joined);
            // One value proves nothing by itself, unless the names agree.
            let is_better =
                found.as_ref().is_none_or(|(alike, proofs, _)| (*alike, *proofs) < (is_alike, fit.proofs));
            if (is_alike || fit.proofs > 1) && is_better {
                let lookup = Some((other.name.clone(), to.clone(), own.clone()));
                let line =
                    Line { column: column.name.clone(), lookup, field: path.to_owned(), form: fit.form };
                found = Some((is_alike, fit.proofs, line));
            }
        }
    }
    Ok(found.map(|(_, _, line)| line))
}

impl Rows {
    /// The table whose rows an array holds: one with a foreign key to ours, and as many rows as there are elements.
    fn new(
        Base { reading, table, all }: Base<'_>,
        samples: &[Sample<'_>],
        path: &str,
        remarks: &mut Vec<String>,
    ) -> Result<Option<Self>> {
        let mut best: Option<(usize, Self)> = None;
        for child in all {
            let keys = foreign_keys(reading, child, all)?;
            for (_, own, theirs) in keys.into_iter().filter(|(other, _, _)| all[*other].name == table.name) {
                let mut notes = Vec::new();
                if let Some(rows) =
                    rows_of(reading, (table, child), (&theirs, &own), samples, path, &mut notes)?
                    && best.as_ref().is_none_or(|(lines, _)| rows.lines.len() > *lines)
                {
                    best = Some((rows.lines.len(), rows));
                    remarks.append(&mut notes);
                }
            }
        }
        Ok(best.map(|(_, rows)| rows))
    }
}

fn rows_of(
    reading: &Reading,
    (table, child): (&Table, &Table),
    by: (&str, &str),
    samples: &[Sample<'_>],
    path: &str,
    remarks: &mut Vec<String>,
) -> Result<Option<Rows>> {
    let Some(at) = table.columns.iter().position(|c| c.name.eq_ignore_ascii_case(by.1)) else {
        return Ok(None);
    };
    let list = child.columns.iter().map(|c| quoted(&c.name)).collect::<Vec<_>>().join(",");
    let elements = |s: &Sample<'_>| match s.seen(path) {
        Seen::Node(doc, node) if doc.kind(node) == Kind::Array => doc.items(node).collect::<Vec<Node>>(),
        _ => Vec::new(),
    };
    let full: Vec<&Sample<'_>> = samples.iter().filter(|s| !elements(s).is_empty()).take(PARENTS).collect();
    let nodes = full.iter().flat_map(|s| elements(s).into_iter().map(|node| (s.doc, node)));
    let paths = match fields(nodes) {
        none if none.is_empty() => vec![(String::new(), false)],
        some => some,
    };
    let columns: Vec<(String, String)> = columns_of(child);
    let mut found: Option<(usize, Rows)> = None;
    for order in orders(child, by.0) {
        let sql_order = order.as_ref().map(|o| format!(" ORDER BY {}", quoted(o))).unwrap_or_default();
        let name = quoted(&child.name);
        let sql = format!("SELECT {list} FROM {name} WHERE {}=?1{sql_order} LIMIT {ROWS}", quoted(by.0));
        let mut pairs = Vec::new();
        for sample in &full {
            let value = sample.row.get(at).cloned().unwrap_or(Value::Null);
            let rows = reading.all(&sql, &[value])?;
            let own = elements(sample);
            if rows.len() != own.len().min(ROWS) {
                return Ok(None);
            }
            pairs.extend(rows.into_iter().zip(own).map(|(row, node)| Sample {
                row,
                doc: sample.doc,
                node,
                name: b"",
            }));
        }
        let mut notes = Vec::new();
        let (lines, used, mut left) = match_columns(&child.name, &columns, &pairs, &paths, false, &mut notes);
        left.retain(|column| !column.eq_ignore_ascii_case(by.0) && Some(column) != order.as_ref());
        let misses = notes.len();
        let may_be_absent = samples.iter().any(|s| matches!(s.seen(path), Seen::Absent));
        if lines.is_empty()
            || found.as_ref().is_some_and(|(least, r)| *least <= misses && r.lines.len() >= lines.len())
        {
            continue;
        }
        let (field, table) = (path.to_owned(), child.name.clone());
        let (by, left_fields) = ((by.0.to_owned(), by.1.to_owned()), left_fields(&paths, &used));
        let rows = Rows { field, table, by, order, may_be_absent, lines, left_columns: left, left_fields };
        *remarks = notes;
        found = Some((misses, rows));
    }
    Ok(found.map(|(_, rows)| rows))
}

/// What rows in an array may be ordered by, the likeliest first.
fn orders(child: &Table, by: &str) -> Vec<Option<String>> {
    const HINTS: [&str; 12] =
        ["position", "pos", "idx", "index", "seq", "sequence", "ord", "order", "rank", "sort", "line", "no"];
    let is_number = |declared: &str| declared.to_ascii_uppercase().contains("INT");
    let names = || child.columns.iter().filter(|c| !c.name.eq_ignore_ascii_case(by));
    let hinted =
        names().filter(|c| HINTS.iter().any(|hint| plain(&c.name).ends_with(hint)) && is_number(&c.declared));
    let key =
        child.key().into_iter().map(|at| &child.columns[at]).filter(|c| !c.name.eq_ignore_ascii_case(by));
    let mut all: Vec<String> = hinted.chain(key).chain(names()).map(|c| c.name.clone()).collect();
    let mut seen = std::collections::BTreeSet::new();
    all.retain(|name| seen.insert(name.clone()));
    all.truncate(10);
    all.into_iter().map(Some).chain([None]).collect()
}
