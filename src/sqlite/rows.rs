//! Two versions of a table, row by row: what was added, removed and changed, exactly, in one pass over both.
//!
//! Both sides come in the order of their keys: the number of the row, or the primary key of a table without numbers. Where the
//! table does not show the number, it counts for nothing: `VACUUM` may deal out new ones, and a row that only got another
//! number is no change.

use super::dump::Encoding;
use super::order::{Collation, value_order};
use super::query::{Reading, Value, quoted};
use super::schema::Table;
use crate::crypto::hash;
use crate::error::{Error, ErrorKind, Result};
use std::cmp::Ordering;
use std::collections::HashMap;

/// A difference. Rows have the values of their own version's columns.
#[derive(Clone, Copy, Debug)]
pub enum RowChange<'r> {
    Added(&'r [Value]),
    Removed(&'r [Value]),
    Changed(&'r [Value], &'r [Value]),
}

/// How many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub added: u64,
    pub removed: u64,
    pub changed: u64,
}

impl Counts {
    pub fn is_empty(&self) -> bool {
        *self == Counts::default()
    }

    fn count(&mut self, change: &RowChange<'_>) {
        match change {
            RowChange::Added(_) => self.added += 1,
            RowChange::Removed(_) => self.removed += 1,
            RowChange::Changed(..) => self.changed += 1,
        }
    }
}

/// Which rows can differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    Nothing,
    All,
    /// Only rows with these numbers: first and last, in order, none touching the next.
    Numbers(Vec<(i64, i64)>),
}

/// One version of a table.
#[derive(Clone, Copy)]
pub struct Version<'a> {
    pub reading: &'a Reading,
    pub table: &'a Table,
}

type Each<'e> = dyn FnMut(RowChange<'_>) -> Result<()> + 'e;

/// Compares two versions; `each` hears the differences in the order of the keys.
pub fn compare(
    before: Version<'_>,
    after: Version<'_>,
    scope: &Scope,
    each: &mut Each<'_>,
) -> Result<Counts> {
    let mut counts = Counts::default();
    let mut counted = |change: RowChange<'_>| {
        counts.count(&change);
        each(change)
    };
    match (scope, Plan::new(before, after)?) {
        (Scope::Nothing, _) => {}
        (_, None) => {
            every(before, &mut |row| counted(RowChange::Removed(row)))?;
            every(after, &mut |row| counted(RowChange::Added(row)))?;
        }
        (_, Some(plan)) if plan.numbers_are_hidden() => plan.without_numbers(scope, &mut counted)?,
        (_, Some(plan)) => plan.run(scope, &mut counted)?,
    }
    Ok(counts)
}

/// Calls `each` with every row of a table.
pub fn every(version: Version<'_>, each: &mut dyn FnMut(&[Value]) -> Result<()>) -> Result<()> {
    let sql = format!("SELECT {} FROM {} NOT INDEXED", list(version.table), quoted(&version.table.name));
    version.reading.ask(&sql, &[], &mut |_| Ok(()), each)
}

fn list(table: &Table) -> String {
    match table.columns.is_empty() {
        true => "NULL".to_owned(),
        false => table.columns.iter().map(|column| quoted(&column.name)).collect::<Vec<_>>().join(","),
    }
}

/// One column of a key: its place on both sides.
struct KeyColumn {
    before: usize,
    after: usize,
    collation: Collation,
    descending: bool,
}

enum Order {
    /// By the number of the row, by this name on either side.
    Number(String, String),
    Key(Vec<KeyColumn>),
}

struct Plan<'a> {
    before: Version<'a>,
    after: Version<'a>,
    order: Order,
    /// Columns that both have.
    common: Vec<(usize, usize)>,
    /// Columns that only the later version has, and what adding them put into every row.
    new: Vec<(usize, Value)>,
    encoding: Encoding,
}

impl<'a> Plan<'a> {
    /// `None` where rows of one version have nothing by which to find them in the other.
    fn new(before: Version<'a>, after: Version<'a>) -> Result<Option<Self>> {
        let (a, b) = (before.table, after.table);
        let place = |name: &str| a.columns.iter().position(|column| column.name.eq_ignore_ascii_case(name));
        let (mut common, mut new) = (Vec::new(), Vec::new());
        for (at, column) in b.columns.iter().enumerate() {
            match place(&column.name) {
                Some(there) => common.push((there, at)),
                None => new.push((at, default(&column.declared, column.default.as_deref())?)),
            }
        }
        let encoding = Encoding::of(after.reading)?;
        let order = match (&a.rowid, &b.rowid) {
            (Some(x), Some(y)) if a.alias.is_some() == b.alias.is_some() => {
                let name = |table: &Table, name: &str| table.alias.map_or(name.to_owned(), |_| quoted(name));
                Order::Number(name(a, x), name(b, y))
            }
            (None, None) if a.without_rowid && b.without_rowid => {
                let same = |(i, j): (&usize, &usize)| common.contains(&(*i, *j));
                let (x, y) = (a.key(), b.key());
                if x.len() != y.len() || !x.iter().zip(&y).all(same) {
                    return Ok(None);
                }
                Order::Key(key_columns(after, x.into_iter().zip(y))?)
            }
            // Columns hide every name of the number: the whole row is the key.
            (None, None) if a.without_rowid == b.without_rowid && a.columns.len() == b.columns.len() => {
                let whole = |&(before, after): &(usize, usize)| KeyColumn {
                    before,
                    after,
                    collation: Collation::Binary,
                    descending: false,
                };
                if common.len() != b.columns.len() {
                    return Ok(None);
                }
                Order::Key(common.iter().map(whole).collect())
            }
            _ => return Ok(None),
        };
        if matches!(order, Order::Key(_)) && Encoding::of(before.reading)? != encoding {
            let what = format!(
                "the rows of `{}` cannot be compared: one version is in {}, the other is not",
                b.name,
                encoding.name()
            );
            return Err(Error::new(ErrorKind::Unsupported, what));
        }
        Ok(Some(Plan { before, after, order, common, new, encoding }))
    }

    fn numbers_are_hidden(&self) -> bool {
        let whole = self.new.is_empty() && self.common.len() == self.before.table.columns.len();
        matches!(self.order, Order::Number(..)) && self.after.table.alias.is_none() && whole
    }

    fn run(&self, scope: &Scope, each: &mut Each<'_>) -> Result<()> {
        let (mut a, mut b) = (self.side(self.before, true)?, self.side(self.after, false)?);
        match scope {
            Scope::Nothing => Ok(()),
            Scope::Numbers(ranges) if matches!(self.order, Order::Number(..)) => {
                ranges.iter().try_for_each(|range| self.merge(&mut a, &mut b, *range, each))
            }
            _ => self.merge(&mut a, &mut b, (i64::MIN, i64::MAX), each),
        }
    }

    fn side(&self, version: Version<'a>, is_before: bool) -> Result<Side<'a>> {
        let table = version.table;
        let (name, list) = (quoted(&table.name), list(table));
        let sql = match &self.order {
            Order::Number(x, y) => {
                let number = if is_before { x } else { y };
                format!(
                    "SELECT {number},{list} FROM {name} NOT INDEXED WHERE {number} BETWEEN ?1 AND ?2 ORDER BY {number}"
                )
            }
            Order::Key(key) => {
                let terms = key.iter().map(|column| {
                    let place = if is_before { column.before } else { column.after };
                    let title = table.columns.get(place).map(|c| quoted(&c.name)).unwrap_or_default();
                    let collation = match column.collation {
                        Collation::Binary => "BINARY",
                        Collation::NoCase => "NOCASE",
                        Collation::RTrim => "RTRIM",
                    };
                    format!("{title} COLLATE {collation}{}", if column.descending { " DESC" } else { "" })
                });
                format!("SELECT NULL,{list} FROM {name} ORDER BY {}", terms.collect::<Vec<_>>().join(","))
            }
        };
        let statement = version.reading.prepare(&sql)?;
        Ok(Side { reading: version.reading, statement, ranged: matches!(self.order, Order::Number(..)) })
    }

    fn merge(
        &self,
        a: &mut Side<'_>,
        b: &mut Side<'_>,
        range: (i64, i64),
        each: &mut Each<'_>,
    ) -> Result<()> {
        let (mut a, mut b) = (a.rows(range)?, b.rows(range)?);
        loop {
            let order = match (&a.row, &b.row) {
                (None, None) => return Ok(()),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(x), Some(y)) => self.order_of(x, y),
            };
            match (order, &a.row, &b.row) {
                (Ordering::Less, Some(x), _) => each(RowChange::Removed(&x.values))?,
                (Ordering::Greater, _, Some(y)) => each(RowChange::Added(&y.values))?,
                (Ordering::Equal, Some(x), Some(y)) if !self.same(&x.values, &y.values) => {
                    each(RowChange::Changed(&x.values, &y.values))?;
                }
                _ => {}
            }
            if order.is_le() {
                a.step()?;
            }
            if order.is_ge() {
                b.step()?;
            }
        }
    }

    fn order_of(&self, x: &Row, y: &Row) -> Ordering {
        match &self.order {
            Order::Number(..) => x.number.cmp(&y.number),
            Order::Key(key) => {
                for column in key {
                    let (Some(x), Some(y)) = (x.values.get(column.before), y.values.get(column.after)) else {
                        continue;
                    };
                    let order = value_order(x, y, column.collation, self.encoding);
                    if order != Ordering::Equal {
                        return if column.descending { order.reverse() } else { order };
                    }
                }
                Ordering::Equal
            }
        }
    }

    fn same(&self, x: &[Value], y: &[Value]) -> bool {
        let pair = |(i, j): &(usize, usize)| matches!((x.get(*i), y.get(*j)), (Some(x), Some(y)) if x.is(y));
        let new = |(j, default): &(usize, Value)| y.get(*j).is_some_and(|y| y.is(default));
        self.common.iter().all(pair) && self.new.iter().all(new)
    }

    /// A first pass counts how often each content is there more on one side; a second one tells only these rows.
    fn without_numbers(&self, scope: &Scope, each: &mut Each<'_>) -> Result<()> {
        let mut surplus: HashMap<[u8; 16], i64> = HashMap::new();
        let mut note = |row: &[Value], step: i64| {
            let slot = surplus.entry(fingerprint(row)).or_default();
            *slot += step;
            if *slot == 0 {
                surplus.remove(&fingerprint(row));
            }
        };
        let in_order: Vec<usize> = self.common.iter().map(|(before, _)| *before).collect();
        let aligned =
            |row: &[Value]| in_order.iter().filter_map(|&i| row.get(i).cloned()).collect::<Vec<_>>();
        self.run(scope, &mut |change| {
            match change {
                RowChange::Removed(x) => note(&aligned(x), 1),
                RowChange::Added(y) => note(y, -1),
                RowChange::Changed(x, y) => {
                    note(&aligned(x), 1);
                    note(y, -1);
                }
            }
            Ok(())
        })?;
        if surplus.is_empty() {
            return Ok(());
        }
        let mut take = |row: &[Value], step: i64| {
            let slot = surplus.get_mut(&fingerprint(row)).filter(|n| n.signum() == step);
            slot.map(|n| *n -= step).is_some()
        };
        self.run(scope, &mut |change| match change {
            RowChange::Removed(x) if take(&aligned(x), 1) => each(change),
            RowChange::Added(y) if take(y, -1) => each(change),
            RowChange::Changed(x, y) => match (take(&aligned(x), 1), take(y, -1)) {
                (true, true) => each(change),
                (true, false) => each(RowChange::Removed(x)),
                (false, true) => each(RowChange::Added(y)),
                (false, false) => Ok(()),
            },
            _ => Ok(()),
        })
    }
}

struct Side<'a> {
    reading: &'a Reading,
    statement: rusqlite::Statement<'a>,
    /// Takes the first and the last number.
    ranged: bool,
}

impl Side<'_> {
    fn rows(&mut self, (first, last): (i64, i64)) -> Result<Rows<'_>> {
        let width = self.statement.column_count();
        let rows = match self.ranged {
            true => self.statement.query([first, last]),
            false => self.statement.query([]),
        };
        let rows = rows.map_err(|e| self.reading.failed(e))?;
        let mut rows = Rows { reading: self.reading, rows, width, row: None };
        rows.step()?;
        Ok(rows)
    }
}

struct Row {
    number: i64,
    values: Vec<Value>,
}

struct Rows<'s> {
    reading: &'s Reading,
    rows: rusqlite::Rows<'s>,
    width: usize,
    /// The row at hand; `None` behind the last.
    row: Option<Row>,
}

impl Rows<'_> {
    fn step(&mut self) -> Result<()> {
        let mut values = self.row.take().map(|row| row.values).unwrap_or_default();
        values.clear();
        if let Some(found) = self.rows.next().map_err(|e| self.reading.failed(e))? {
            let get = |at: usize| found.get_ref(at).map(Value::of).map_err(|e| self.reading.failed(e));
            let number = get(0)?.as_integer().unwrap_or(0);
            for at in 1..self.width {
                values.push(get(at)?);
            }
            self.row = Some(Row { number, values });
        }
        Ok(())
    }
}

/// The order in which a table without numbers lies, so that nobody has to sort it.
fn key_columns(after: Version<'_>, places: impl Iterator<Item = (usize, usize)>) -> Result<Vec<KeyColumn>> {
    let sql = "SELECT x.name, x.coll, x.desc FROM pragma_index_list(?1) l, pragma_index_xinfo(l.name) x \
               WHERE l.origin='pk' AND x.key";
    let known = after.reading.all(sql, &[Value::text(&after.table.name)])?;
    let column = |(before, at): (usize, usize)| {
        let name = after.table.columns.get(at).map(|column| column.name.as_str()).unwrap_or_default();
        let about = known.iter().find(|row| row.first().is_some_and(|value| value.lossy() == name));
        let collation = about.and_then(|row| row.get(1)).map(Value::lossy).unwrap_or_default();
        let collation = match collation.to_ascii_uppercase().as_str() {
            "NOCASE" => Collation::NoCase,
            "RTRIM" => Collation::RTrim,
            // One that only the application knows: SQLite sorts by bytes then.
            _ => Collation::Binary,
        };
        let descending = about.and_then(|row| row.get(2)).and_then(Value::as_integer) == Some(1);
        KeyColumn { before, after: at, collation, descending }
    };
    Ok(places.map(column).collect())
}

/// What a new column holds in rows that were there before, as SQLite would store it.
fn default(declared: &str, default: Option<&str>) -> Result<Value> {
    let Some(default) = default else { return Ok(Value::Null) };
    let stored = rusqlite::Connection::open_in_memory().and_then(|db| {
        db.execute(&format!("CREATE TABLE t(c {declared} DEFAULT {default})"), [])?;
        db.execute("INSERT INTO t DEFAULT VALUES", [])?;
        db.query_row("SELECT c FROM t", [], |row| row.get_ref(0).map(Value::of))
    });
    // What cannot be had by itself cannot have been a default of rows that were there.
    Ok(stored.unwrap_or(Value::Null))
}

/// Stands for the content of a row.
fn fingerprint(row: &[Value]) -> [u8; 16] {
    let mut bytes = Vec::new();
    let mut put = |kind: u8, content: &[u8]| {
        bytes.push(kind);
        bytes.extend_from_slice(&(content.len() as u64).to_le_bytes());
        bytes.extend_from_slice(content);
    };
    for value in row {
        match value {
            Value::Null => put(0, b""),
            Value::Integer(n) => put(1, &n.to_le_bytes()),
            Value::Real(n) => put(2, &n.to_bits().to_le_bytes()),
            Value::Text(text) => put(3, text),
            Value::Blob(blob) => put(4, blob),
        }
    }
    let mut short = [0; 16];
    short.copy_from_slice(&hash::plain(&bytes)[..16]);
    short
}
