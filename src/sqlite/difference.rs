//! Two versions of a database: what became of the schema, and of the rows of each table.

use super::query::Reading;
use super::rows::{Counts, RowChange, Scope, Version, compare, every};
use super::schema::{Object, Table, objects, table};
use crate::error::{Context, Result};

/// A line of the schema that is not the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaChange {
    /// `table`, `index`, `trigger` or `view`.
    pub kind: String,
    pub name: String,
    pub table: String,
    /// The statements; `None` where it was not there.
    pub before: Option<String>,
    pub after: Option<String>,
}

/// Where a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    Before,
    After,
    Both,
}

/// What became of the rows of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableChange {
    pub name: String,
    pub presence: Presence,
    /// Belongs to a virtual table.
    pub shadow: bool,
    pub counts: Counts,
}

/// A database in two versions, ready to be compared.
pub struct Pair {
    pub before: Reading,
    pub after: Reading,
    pub before_objects: Vec<Object>,
    pub after_objects: Vec<Object>,
}

/// Says which rows of a table can differ.
pub type Scopes<'a> = dyn Fn(&Table, &Table) -> Result<Scope> + 'a;

/// One thing a comparison tells; rows come before the sum of their table.
pub enum Telling<'t> {
    /// The columns of the rows to come, of both versions.
    Row {
        table: &'t str,
        before: &'t [String],
        after: &'t [String],
        change: RowChange<'t>,
    },
    Table(TableChange),
}

impl Pair {
    pub fn new(before: Reading, after: Reading) -> Result<Self> {
        let (before_objects, after_objects) = (objects(&before)?, objects(&after)?);
        Ok(Pair { before, after, before_objects, after_objects })
    }

    /// What changed in the schema, in its order; what SQLite makes by itself is left out.
    pub fn schema(&self) -> Vec<SchemaChange> {
        let same = |a: &Object, b: &Object| (&a.kind, &a.name) == (&b.kind, &b.name);
        let told = |object: &&Object| object.sql.is_some() && !object.is_internal();
        let change = |at: &Object, before: Option<&Object>, after: Option<&Object>| SchemaChange {
            kind: at.kind.clone(),
            name: at.name.clone(),
            table: at.table.clone(),
            before: before.and_then(|object| object.sql.clone()),
            after: after.and_then(|object| object.sql.clone()),
        };
        let mut all = Vec::new();
        for old in self.before_objects.iter().filter(told) {
            match self.after_objects.iter().find(|new| same(old, new)) {
                Some(new) if new.sql == old.sql => {}
                new => all.push(change(old, Some(old), new)),
            }
        }
        for new in self.after_objects.iter().filter(told) {
            if !self.before_objects.iter().any(|old| same(old, new)) {
                all.push(change(new, None, Some(new)));
            }
        }
        all
    }

    /// The names of all tables that hold rows, in the order of the later version's schema, then those that are gone.
    pub fn tables(&self) -> Vec<String> {
        let names = |objects: &[Object]| -> Vec<String> {
            // What ANALYZE found says nothing that the rows do not.
            let told = |object: &&Object| object.holds_rows() && !object.name.starts_with("sqlite_stat");
            objects.iter().filter(told).map(|object| object.name.clone()).collect()
        };
        let mut all = names(&self.after_objects);
        let gone = names(&self.before_objects).into_iter().filter(|name| !all.contains(name));
        let gone: Vec<String> = gone.collect();
        all.extend(gone);
        all
    }

    /// Compares the rows of one table. `with_rows` also for tables that only one version has, whose rows are otherwise
    /// only counted.
    pub fn table(
        &self,
        name: &str,
        scopes: &Scopes<'_>,
        with_rows: bool,
        each: &mut dyn FnMut(Telling<'_>) -> Result<()>,
    ) -> Result<TableChange> {
        let look = |reading: &Reading, objects: &[Object]| {
            let object = objects.iter().find(|object| object.holds_rows() && object.name == name);
            object.map(|object| table(reading, object)).transpose()
        };
        let before = look(&self.before, &self.before_objects)?;
        let after = look(&self.after, &self.after_objects)?;
        let titles = |table: &Option<Table>| table.as_ref().map(Table::column_names).unwrap_or_default();
        let (old, new) = (titles(&before), titles(&after));
        let mut told = |change: RowChange<'_>| match with_rows {
            true => each(Telling::Row { table: name, before: &old, after: &new, change }),
            false => Ok(()),
        };
        let mut counts = Counts::default();
        let presence = match (&before, &after) {
            (Some(x), Some(y)) => {
                let scope = scopes(x, y)?;
                let x = Version { reading: &self.before, table: x };
                let y = Version { reading: &self.after, table: y };
                counts = compare(x, y, &scope, &mut told)?;
                Presence::Both
            }
            (Some(x), None) => {
                every(Version { reading: &self.before, table: x }, &mut |row| {
                    counts.removed += 1;
                    told(RowChange::Removed(row))
                })?;
                Presence::Before
            }
            (None, Some(y)) => {
                every(Version { reading: &self.after, table: y }, &mut |row| {
                    counts.added += 1;
                    told(RowChange::Added(row))
                })?;
                Presence::After
            }
            (None, None) => Presence::Both,
        };
        let shadow = after.as_ref().or(before.as_ref()).is_some_and(|table| table.shadow);
        Ok(TableChange { name: name.to_owned(), presence, shadow, counts })
    }

    /// Compares all tables; those that are the same are told, too.
    pub fn rows(
        &self,
        scopes: &Scopes<'_>,
        with_rows: bool,
        each: &mut dyn FnMut(Telling<'_>) -> Result<()>,
    ) -> Result<()> {
        for name in self.tables() {
            let change = self.table(&name, scopes, with_rows, each).context(|| format!("table {name}"))?;
            each(Telling::Table(change))?;
        }
        Ok(())
    }
}
