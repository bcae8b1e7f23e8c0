//! A map bound to a database: one statement for each kind of record, and the certainty that every column is spoken for.

use super::map::{Children, Column, Field, From, Map, Table};
use super::paths::Paths;
use super::text::did_you_mean;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::sqlite::query::{Reading, quoted};
use crate::sqlite::schema::{Object, nearest, objects, table};
use std::collections::BTreeSet;

/// Records of one kind: of a table, or the rows in an array of its records.
pub struct Section<'m> {
    /// What reports call it.
    pub name: String,
    pub table: &'m Table,
    /// Its number among the tables of the map.
    pub table_number: usize,
    pub children: Option<&'m Children>,
    /// The section whose keys group it; a table's own.
    pub parent: usize,
    pub fields: &'m [Field],
    /// Answers the fields; of an array then the key of its record and what the order goes by.
    pub sql: String,
    pub paths: Paths,
}

impl Section<'_> {
    /// What is compared: fields, arrays that must be there, and that there is nothing more.
    pub fn slots(&self) -> usize {
        self.fields.len() + self.arrays() + 1
    }

    pub fn arrays(&self) -> usize {
        if self.children.is_some() { 0 } else { self.table.children.len() }
    }

    /// What people call a slot: the field and the column.
    pub fn slot(&self, number: usize) -> (String, String) {
        if let Some(field) = self.fields.get(number) {
            return (field.at.shown(), field.column.shown());
        }
        match self.table.children.get(number - self.fields.len()).filter(|_| self.children.is_none()) {
            Some(children) => (children.at.to_string(), String::new()),
            None => (String::new(), String::new()),
        }
    }
}

/// What a database is asked.
pub struct Plan<'m> {
    pub sections: Vec<Section<'m>>,
    /// Tables with rows that no rule reads from; with a `select` nobody can tell.
    pub left: Vec<String>,
}

/// Columns of what rows are read from.
struct Source {
    from: String,
    names: Vec<String>,
}

impl Source {
    fn has(&self, column: &str) -> Option<&String> {
        self.names.iter().find(|name| name.eq_ignore_ascii_case(column))
    }

    fn need(&self, column: &str) -> Result<()> {
        if self.has(column).is_some() {
            return Ok(());
        }
        let what = format!("{} has no column `{column}`", self.from);
        Err(did_you_mean(what, self.names.iter().map(String::as_str), column))
    }
}

struct Binder<'r> {
    reading: &'r Reading,
    objects: Vec<Object>,
}

impl<'m> Plan<'m> {
    pub fn new(reading: &Reading, map: &'m Map) -> Result<Self> {
        let binder = Binder { reading, objects: objects(reading)? };
        let mut sections: Vec<Section<'m>> = Vec::new();
        for (table_number, table) in map.tables.iter().enumerate() {
            let parent = sections.len();
            let source = binder.table(table).context(|| format!("table `{}`", table.name))?;
            sections.push(Section {
                name: table.name.clone(),
                table,
                table_number,
                children: None,
                parent,
                fields: &table.fields,
                sql: select(&table.fields, &[], &[], &format!("{} AS t", sql_of(&table.from))),
                paths: Paths::new(&table.fields, table.children.iter().map(|c| &c.at), &table.ignored_fields),
            });
            for children in &table.children {
                let name = children.name(&table.name);
                let sql =
                    binder.children(table, &source, children).context(|| format!("children `{name}`"))?;
                sections.push(Section {
                    name,
                    table,
                    table_number,
                    children: Some(children),
                    parent,
                    fields: &children.fields,
                    sql,
                    paths: Paths::new(&children.fields, [].iter(), &children.ignored_fields),
                });
            }
        }
        let left = binder.left(map);
        Ok(Plan { sections, left })
    }
}

impl Binder<'_> {
    fn left(&self, map: &Map) -> Vec<String> {
        let mut named: Vec<&From> = Vec::new();
        let mut looked: Vec<&str> = Vec::new();
        for table in &map.tables {
            named.push(&table.from);
            named.extend(table.children.iter().map(|c| &c.from));
            let fields = table.fields.iter().chain(table.children.iter().flat_map(|c| &c.fields));
            looked.extend(fields.filter_map(|f| match &f.column {
                Column::Looked { table, .. } => Some(table.as_str()),
                Column::Own(_) => None,
            }));
        }
        let is_named = |name: &str| {
            looked.iter().any(|l| l.eq_ignore_ascii_case(name))
                || named.iter().any(|from| match from {
                    From::Table(table) => table.eq_ignore_ascii_case(name),
                    From::Select(sql) => sql.to_ascii_lowercase().contains(&name.to_ascii_lowercase()),
                })
        };
        let all = self.objects.iter().filter(|o| o.kind == "table" && !o.is_internal());
        all.filter(|o| !is_named(&o.name)).map(|o| o.name.clone()).collect()
    }

    fn source(&self, from: &From) -> Result<Source> {
        let shown = match from {
            From::Select(_) => "the select".to_owned(),
            From::Table(name) => {
                let is_it = |o: &&Object| {
                    matches!(o.kind.as_str(), "table" | "view") && o.name.eq_ignore_ascii_case(name)
                };
                if !self.objects.iter().any(|o| is_it(&o)) {
                    let what = format!("the database has no table or view `{name}`");
                    let what = match nearest(&self.objects, name) {
                        Some(near) => format!("{what}; did you mean `{near}`?"),
                        None => format!("{what}; it has no tables at all"),
                    };
                    return Err(Error::invalid(what));
                }
                format!("`{name}`")
            }
        };
        let mut names = Vec::new();
        self.reading.ask(
            &format!("SELECT * FROM {} LIMIT 0", sql_of(from)),
            &[],
            &mut |columns| {
                names = columns.to_vec();
                Ok(())
            },
            &mut |_| Ok(()),
        )?;
        Ok(Source { from: shown, names })
    }

    /// Every column that a rule names is there, and every column that is there is named.
    fn table(&self, table: &Table) -> Result<Source> {
        let source = self.source(&table.from)?;
        let further = table.children.iter().flat_map(|c| c.by.iter().map(|(_, own)| own.as_str()));
        self.covered(&source, &table.fields, further, &table.ignored_columns)?;
        Ok(source)
    }

    fn covered<'a>(
        &self,
        source: &Source,
        fields: &'a [Field],
        further: impl Iterator<Item = &'a str>,
        ignored: &'a [String],
    ) -> Result<()> {
        let mut named: BTreeSet<String> = BTreeSet::new();
        let mut name = |column: &str| -> Result<()> {
            source.need(column)?;
            named.insert(column.to_ascii_lowercase());
            Ok(())
        };
        for field in fields {
            match &field.column {
                Column::Own(column) => name(column)?,
                Column::Looked { table, by, column } => {
                    let other = self.source(&From::Table(table.clone()))?;
                    other.need(column)?;
                    for (theirs, own) in by {
                        other.need(theirs)?;
                        name(own)?;
                    }
                }
            }
        }
        further.chain(ignored.iter().map(String::as_str)).try_for_each(&mut name)?;
        let missed: Vec<&str> = source
            .names
            .iter()
            .filter(|n| !named.contains(&n.to_ascii_lowercase()))
            .map(String::as_str)
            .collect();
        match missed.as_slice() {
            [] => Ok(()),
            all => {
                let (all, one) = (all.join("`, `"), all.len() == 1);
                let what = format!(
                    "{} has {} `{all}`, which no rule names; put {} into `fields` or `ignore_columns`",
                    source.from,
                    if one { "a column" } else { "columns" },
                    if one { "it" } else { "them" }
                );
                Err(Error::invalid(what))
            }
        }
    }

    /// The statement that answers the rows of an array with the keys of their records.
    fn children(&self, table: &Table, above: &Source, children: &Children) -> Result<String> {
        let source = self.source(&children.from)?;
        for (theirs, own) in &children.by {
            source.need(theirs)?;
            above.need(own)?;
        }
        let order = children.order.iter().map(|(column, _)| column.as_str());
        let further = order.chain(children.by.iter().map(|(theirs, _)| theirs.as_str()));
        self.covered(&source, &children.fields, further, &children.ignored_columns)?;
        let key: Vec<&str> = table
            .key
            .iter()
            .filter_map(|k| match &table.fields.get(*k)?.column {
                Column::Own(name) => Some(name.as_str()),
                Column::Looked { .. } => None,
            })
            .collect();
        let mut from = format!("{} AS t", sql_of(&children.from));
        let direct: Vec<Option<&str>> =
            key.iter().map(|column| self.direct(table, children, column)).collect();
        let keys: Vec<String> = match direct.iter().copied().collect::<Option<Vec<&str>>>() {
            Some(theirs) => theirs.iter().map(|column| format!("t.{}", quoted(column))).collect(),
            None => {
                let on = children.by.iter().map(|(a, b)| format!("p.{} = t.{}", quoted(b), quoted(a)));
                let on = on.collect::<Vec<_>>().join(" AND ");
                from = format!("{from} LEFT JOIN {} AS p ON {on}", sql_of(&table.from));
                key.iter().map(|column| format!("p.{}", quoted(column))).collect()
            }
        };
        let order: Vec<String> = children.order.iter().map(|(c, _)| format!("t.{}", quoted(c))).collect();
        Ok(select(&children.fields, &keys, &order, &from))
    }

    /// The column of a child row that holds a column of its record's key as it is: no join is needed.
    fn direct<'a>(&self, table: &Table, children: &'a Children, column: &str) -> Option<&'a str> {
        let theirs = children.by.iter().find(|(_, own)| own.eq_ignore_ascii_case(column)).map(|(t, _)| t)?;
        let declared = |from: &From, column: &str| {
            let From::Table(name) = from else { return None };
            let object =
                self.objects.iter().find(|o| o.kind == "table" && o.name.eq_ignore_ascii_case(name))?;
            let found = table_columns(self.reading, object).ok()?;
            found
                .into_iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(column))
                .map(|(_, declared)| declared)
        };
        let same = declared(&table.from, column)?.eq_ignore_ascii_case(&declared(&children.from, theirs)?);
        same.then_some(theirs.as_str())
    }
}

fn table_columns(reading: &Reading, object: &Object) -> Result<Vec<(String, String)>> {
    Ok(table(reading, object)?.columns.into_iter().map(|c| (c.name, c.declared)).collect())
}

fn sql_of(from: &From) -> String {
    match from {
        From::Table(name) => quoted(name),
        // A remark at its end would swallow the bracket.
        From::Select(sql) => format!("({sql}\n)"),
    }
}

fn select(fields: &[Field], keys: &[String], order: &[String], from: &str) -> String {
    let (mut wanted, mut from) = (Vec::new(), from.to_owned());
    for (number, field) in fields.iter().enumerate() {
        match &field.column {
            Column::Own(name) => wanted.push(format!("t.{}", quoted(name))),
            Column::Looked { table, by, column } => {
                let on = by.iter().map(|(a, b)| format!("l{number}.{} = t.{}", quoted(a), quoted(b)));
                let on = on.collect::<Vec<_>>().join(" AND ");
                from = format!("{from} LEFT JOIN {} AS l{number} ON {on}", quoted(table));
                wanted.push(format!("l{number}.{}", quoted(column)));
            }
        }
    }
    wanted.extend(keys.iter().chain(order).cloned());
    format!("SELECT {} FROM {from}", wanted.join(", "))
}

/// Whether an error of the plan is the asker's to mend.
pub fn is_askers(e: &Error) -> bool {
    matches!(e.kind(), ErrorKind::Invalid | ErrorKind::Refused)
}
