//! What a database says of itself: its tables with their columns and keys, indexes, triggers and views.

use super::query::{Reading, Value};
use crate::error::{Error, ErrorKind, Result};

/// A line of the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// `table`, `index`, `trigger` or `view`.
    pub kind: String,
    pub name: String,
    /// The table it belongs to; for a table itself its own name.
    pub table: String,
    /// The first page of its tree; 0 where it has none.
    pub root: u32,
    /// `None` for what SQLite made by itself, such as the index of a primary key.
    pub sql: Option<String>,
}

impl Object {
    /// A table that holds rows of its own.
    pub fn holds_rows(&self) -> bool {
        self.kind == "table" && self.root > 0
    }

    pub fn is_virtual(&self) -> bool {
        self.kind == "table" && self.root == 0
    }

    /// One of SQLite's own.
    pub fn is_internal(&self) -> bool {
        self.name.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("sqlite_"))
    }
}

/// All lines of the schema, in its own order.
pub fn objects(reading: &Reading) -> Result<Vec<Object>> {
    let sql = "SELECT type, name, tbl_name, rootpage, sql FROM sqlite_schema ORDER BY rowid";
    let rows = reading.all(sql, &[])?;
    let object = |row: &Vec<Value>| {
        let text = |at: usize| row.get(at).map(Value::lossy).unwrap_or_default();
        Object {
            kind: text(0),
            name: text(1),
            table: text(2),
            root: row.get(3).and_then(Value::as_integer).and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
            sql: row.get(4).filter(|sql| **sql != Value::Null).map(Value::lossy),
        }
    };
    Ok(rows.iter().map(object).collect())
}

/// A column that is stored, in the order of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    /// The type as it was declared.
    pub declared: String,
    /// The default as SQL.
    pub default: Option<String>,
    /// Its place in the primary key, from 1; 0 when it is no part of it.
    pub key: u32,
}

/// How a table's rows are told apart and what they consist of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub name: String,
    pub root: u32,
    /// Generated columns are left out: what they hold follows from the others.
    pub columns: Vec<Column>,
    pub without_rowid: bool,
    /// A name by which the number of a row can be asked; `None` where columns hide all of them.
    pub rowid: Option<String>,
    /// The column that is the number of the row.
    pub alias: Option<usize>,
    /// Holds what belongs to a virtual table.
    pub shadow: bool,
    pub sql: Option<String>,
}

impl Table {
    /// The columns of the primary key, in its order; without one, none.
    pub fn key(&self) -> Vec<usize> {
        let mut key: Vec<usize> = (0..self.columns.len()).filter(|&i| self.columns[i].key > 0).collect();
        key.sort_by_key(|&i| self.columns[i].key);
        key
    }

    pub fn column_names(&self) -> Vec<String> {
        self.columns.iter().map(|column| column.name.clone()).collect()
    }
}

/// Looks closely at one table.
pub fn table(reading: &Reading, object: &Object) -> Result<Table> {
    let name = [Value::text(&object.name)];
    let mut columns = Vec::new();
    let mut all = Vec::new();
    for row in reading.all("SELECT name, type, dflt_value, pk, hidden FROM pragma_table_xinfo(?1)", &name)? {
        let [title, declared, default, key, hidden] = row.as_slice() else { continue };
        all.push(title.lossy());
        if hidden.as_integer() == Some(0) {
            columns.push(Column {
                name: title.lossy(),
                declared: declared.lossy(),
                default: (*default != Value::Null).then(|| default.lossy()),
                key: key.as_integer().and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
            });
        }
    }
    let kind = reading.all("SELECT type, wr FROM pragma_table_list(?1) WHERE schema='main'", &name)?;
    let kind = kind.first();
    let without_rowid = kind.and_then(|row| row.get(1)).and_then(Value::as_integer) == Some(1);
    let shadow = kind.and_then(|row| row.first()).is_some_and(|word| word.lossy() == "shadow");
    let free = |name: &&str| !all.iter().any(|column| column.eq_ignore_ascii_case(name));
    let mut rowid = ["rowid", "_rowid_", "oid"].iter().find(|name| free(name)).map(|name| (*name).to_owned());
    let mut alias = None;
    if without_rowid {
        rowid = None;
    } else {
        alias = alias_of(reading, object, &columns)?;
        rowid = alias.map(|at| columns[at].name.clone()).or(rowid);
    }
    let (name, root, sql) = (object.name.clone(), object.root, object.sql.clone());
    Ok(Table { name, root, columns, without_rowid, rowid, alias, shadow, sql })
}

/// The column that is the row's number: the only one of the primary key, an INTEGER, without an index of its own for that
/// (`INTEGER PRIMARY KEY DESC` has one).
fn alias_of(reading: &Reading, object: &Object, columns: &[Column]) -> Result<Option<usize>> {
    let mut keys = (0..columns.len()).filter(|&i| columns[i].key > 0);
    let (Some(only), None) = (keys.next(), keys.next()) else { return Ok(None) };
    if !columns[only].declared.eq_ignore_ascii_case("integer") {
        return Ok(None);
    }
    let sql = "SELECT count(*) FROM pragma_index_list(?1) WHERE origin='pk'";
    let own = reading.all(sql, &[Value::text(&object.name)])?;
    let own = own.first().and_then(|row| row.first()).and_then(Value::as_integer).unwrap_or(0);
    Ok((own == 0).then_some(only))
}

/// Whether SQL from a schema makes something, as all of it should.
pub fn defines(sql: &str) -> bool {
    sql.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("CREATE "))
}

/// The table of this name, or an error that names the nearest.
pub fn named<'o>(objects: &'o [Object], name: &str) -> Result<&'o Object> {
    let tables = || objects.iter().filter(|object| object.kind == "table");
    let found = tables().find(|object| object.name == name);
    if let Some(found) = found.or_else(|| tables().find(|object| object.name.eq_ignore_ascii_case(name))) {
        return Ok(found);
    }
    let what = match nearest(objects, name) {
        None => format!("the database has no table `{name}`; it has no tables at all"),
        Some(nearest) => format!("the database has no table `{name}`; did you mean `{nearest}`?"),
    };
    Err(Error::new(ErrorKind::NotFound, what))
}

/// The table or view whose name is most like this one.
pub fn nearest<'o>(objects: &'o [Object], name: &str) -> Option<&'o str> {
    let asked = |object: &&Object| object.kind == "table" || object.kind == "view";
    closest(objects.iter().filter(asked).map(|object| object.name.as_str()), name)
}

/// The name that is most like this one.
pub fn closest<'n>(names: impl Iterator<Item = &'n str>, name: &str) -> Option<&'n str> {
    names.min_by_key(|other| (distance(other, name), other.len()))
}

/// How many letters must be added, removed or replaced to get from one to the other, small and capital ones being the same.
fn distance(a: &str, b: &str) -> usize {
    let letters = |text: &str| text.chars().take(100).flat_map(char::to_lowercase).collect::<Vec<_>>();
    let (a, b) = (letters(a), letters(b));
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_told() {
        assert_eq!([distance("users", "user"), distance("Users", "users"), distance("a", "xyz")], [1, 0, 3]);
        let object = |name: &str| Object {
            kind: "table".into(),
            name: name.into(),
            table: name.into(),
            root: 2,
            sql: None,
        };
        let all = [object("accounts"), object("users"), object("log")];
        assert_eq!(named(&all, "USERS").expect("there").name, "users");
        assert!(named(&all, "user").expect_err("not there").message().contains("`users`"));
    }
}
