//! The new database that takes what was saved: tables as they were defined, rows one by one, and a table for rows of which
//! nobody can say where they belong.

use super::super::live::told;
use super::super::query::{Value, quoted};
use super::super::schema::{Object, defines};
use crate::error::Result;
use rusqlite::{Connection, OptionalExtension, ToSql, params_from_iter};

/// A new database under construction.
pub struct Build {
    pub db: Connection,
    /// Name of the table for rows that belong nowhere, and how many columns it has; made when it is needed.
    shelf: Option<(String, usize)>,
    pub shelved: u64,
    /// What could not be made again, and why.
    pub not_made: Vec<String>,
}

/// A table that can take rows.
pub struct Target {
    pub name: String,
    pub without_rowid: bool,
    /// The columns of a record, in its order; `None` for those that are computed.
    columns: Vec<Option<String>>,
    /// Which of them is the number of the row.
    alias: Option<usize>,
    /// By which name the number can be given.
    number: Option<String>,
}

impl Build {
    pub fn begin(db: Connection, page_size: usize, encoding: &str) -> Result<Self> {
        let set = format!(
            "PRAGMA page_size={page_size}; PRAGMA encoding='{encoding}'; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;
             PRAGMA foreign_keys=OFF; PRAGMA ignore_check_constraints=ON; PRAGMA trusted_schema=OFF;
             PRAGMA writable_schema=ON; BEGIN;"
        );
        db.execute_batch(&set).map_err(|e| told(&e))?;
        Ok(Build { db, shelf: None, shelved: 0, not_made: Vec::new() })
    }

    /// Makes something again; what cannot be made is noted.
    pub fn make(&mut self, object: &Object) -> bool {
        let Some(sql) = &object.sql else { return false };
        let begins =
            |words: &str| sql.get(..words.len()).is_some_and(|start| start.eq_ignore_ascii_case(words));
        let made = match begins("CREATE VIRTUAL TABLE ") {
            // Its rows lie in tables of their own, which come by themselves.
            true => {
                let enter =
                    "INSERT INTO sqlite_schema(type,name,tbl_name,rootpage,sql) VALUES('table',?1,?1,0,?2)";
                self.db.execute(enter, [&object.name, sql]).map(|_| ())
            }
            // One statement, whatever stands behind it.
            false if defines(sql) => {
                self.db.prepare(sql).and_then(|mut statement| statement.execute([]).map(|_| ()))
            }
            false => return false,
        };
        if let Err(e) = &made {
            self.not_made.push(format!("{} {}: {e}", object.kind, object.name));
        }
        made.is_ok()
    }

    /// How a table that was made takes rows.
    pub fn target(&self, name: &str) -> Result<Option<Target>> {
        let kind = "SELECT wr FROM pragma_table_list WHERE schema='main' AND name=?1";
        let kind: Option<i64> =
            self.db.query_row(kind, [name], |row| row.get(0)).optional().map_err(|e| told(&e))?;
        let Some(bare) = kind else { return Ok(None) };
        let sql = "SELECT name, type, pk, hidden FROM pragma_table_xinfo(?1) ORDER BY cid";
        let mut statement = self.db.prepare(sql).map_err(|e| told(&e))?;
        type Column = (String, String, i64, i64);
        let column = |row: &rusqlite::Row<'_>| -> rusqlite::Result<Column> {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        };
        let all = statement.query_map([name], column).map_err(|e| told(&e))?;
        let all: Vec<Column> = all.collect::<rusqlite::Result<_>>().map_err(|e| told(&e))?;
        // Columns that are computed when they are asked for are not stored.
        let mut stored: Vec<&Column> = all.iter().filter(|column| column.3 != 2).collect();
        if bare == 1 {
            // The key comes first, in its own order.
            stored.sort_by_key(|column| if column.2 > 0 { column.2 } else { i64::MAX });
        }
        let keys: Vec<usize> = (0..stored.len()).filter(|&i| stored[i].2 > 0).collect();
        let mut alias = None;
        if let (0, [only]) = (bare, keys.as_slice())
            && stored[*only].1.eq_ignore_ascii_case("integer")
        {
            let sql = "SELECT count(*) FROM pragma_index_list(?1) WHERE origin='pk'";
            let own: i64 = self.db.query_row(sql, [name], |row| row.get(0)).map_err(|e| told(&e))?;
            alias = (own == 0).then_some(*only);
        }
        let free = |word: &&str| !all.iter().any(|column| column.0.eq_ignore_ascii_case(word));
        let number = match alias {
            Some(_) => None,
            None => {
                ["rowid", "_rowid_", "oid"].into_iter().find(free).filter(|_| bare == 0).map(str::to_owned)
            }
        };
        let columns = stored.iter().map(|column| (column.3 == 0).then(|| column.0.clone())).collect();
        Ok(Some(Target { name: name.to_owned(), without_rowid: bare == 1, columns, alias, number }))
    }

    /// Puts one row into its table; whether it fits there.
    pub fn put(&self, target: &Target, number: Option<i64>, values: &[Value]) -> Result<bool> {
        if values.len() > target.columns.len() {
            return Ok(false);
        }
        let number_value = number.map(Value::Integer);
        let (mut names, mut row): (Vec<String>, Vec<&dyn ToSql>) = (Vec::new(), Vec::new());
        if let (Some(name), Some(value)) = (&target.number, &number_value) {
            names.push(name.clone());
            row.push(value);
        }
        for (at, (name, value)) in target.columns.iter().zip(values).enumerate() {
            let Some(name) = name else { continue };
            names.push(quoted(name));
            match (&number_value, target.alias == Some(at)) {
                (Some(number), true) => row.push(number),
                _ => row.push(value),
            }
        }
        // Columns that came after the row was written have their defaults.
        let marks = vec!["?"; names.len()].join(",");
        let sql = format!("INSERT INTO {}({}) VALUES ({marks})", quoted(&target.name), names.join(","));
        let mut insert = self.db.prepare(&sql).map_err(|e| told(&e))?;
        match insert.execute(params_from_iter(row)) {
            Ok(_) => Ok(true),
            // It is there already, or breaks another rule of the table.
            Err(e) if e.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation) => Ok(false),
            Err(e) if e.sqlite_error_code() == Some(rusqlite::ErrorCode::TypeMismatch) => Ok(false),
            Err(e) => Err(told(&e)),
        }
    }

    /// Keeps a row that belongs nowhere.
    pub fn shelve(&mut self, root: u32, page: u32, number: Option<i64>, values: &[Value]) -> Result<()> {
        let run = |sql: &str| self.db.execute_batch(sql).map_err(|e| told(&e));
        let (name, width) = match self.shelf.take() {
            Some(shelf) => shelf,
            None => {
                let name = self.free_name()?;
                let columns = "rootpgno INTEGER, pgno INTEGER, nfield INTEGER, id INTEGER";
                run(&format!("CREATE TABLE {}({columns})", quoted(&name)))?;
                (name, 0)
            }
        };
        for column in width..values.len() {
            run(&format!("ALTER TABLE {} ADD COLUMN c{column}", quoted(&name)))?;
        }
        let marks = vec!["?"; values.len() + 4].join(",");
        let columns: String = (0..values.len()).map(|n| format!(",c{n}")).collect();
        let sql = format!("INSERT INTO {}(rootpgno,pgno,nfield,id{columns}) VALUES ({marks})", quoted(&name));
        let head = [
            Value::Integer(root.into()),
            Value::Integer(page.into()),
            Value::Integer(values.len() as i64),
            number.map_or(Value::Null, Value::Integer),
        ];
        let mut insert = self.db.prepare(&sql).map_err(|e| told(&e))?;
        insert.execute(params_from_iter(head.iter().chain(values))).map_err(|e| told(&e))?;
        drop(insert);
        self.shelf = Some((name, width.max(values.len())));
        self.shelved += 1;
        Ok(())
    }

    fn free_name(&self) -> Result<String> {
        for n in 0.. {
            let name = if n == 0 { "lost_and_found".to_owned() } else { format!("lost_and_found_{n}") };
            let sql = "SELECT count(*) FROM sqlite_schema WHERE name=?1 COLLATE NOCASE";
            let taken: i64 = self.db.query_row(sql, [&name], |row| row.get(0)).map_err(|e| told(&e))?;
            if taken == 0 {
                return Ok(name);
            }
        }
        Ok(String::new())
    }

    pub fn shelf_name(&self) -> Option<&str> {
        self.shelf.as_ref().map(|(name, _)| name.as_str())
    }

    /// Numbers once given are not given again.
    pub fn sequence(&self, name: &Value, last: &Value) -> Result<()> {
        let there = "SELECT count(*) FROM sqlite_schema WHERE name='sqlite_sequence'";
        let there: i64 = self.db.query_row(there, [], |row| row.get(0)).map_err(|e| told(&e))?;
        if there == 0 {
            return Ok(());
        }
        let update = "UPDATE sqlite_sequence SET seq=max(seq,?2) WHERE name=?1";
        let insert = "INSERT INTO sqlite_sequence(name, seq) VALUES (?1,?2)";
        if self.db.execute(update, [name, last]).map_err(|e| told(&e))? == 0 {
            self.db.execute(insert, [name, last]).map_err(|e| told(&e))?;
        }
        Ok(())
    }

    /// Ends the work.
    pub fn finish(&self, user_version: i32, application_id: i32) -> Result<()> {
        let set = format!(
            "PRAGMA user_version={user_version}; PRAGMA application_id={application_id}; COMMIT; PRAGMA writable_schema=OFF;"
        );
        self.db.execute_batch(&set).map_err(|e| told(&e))?;
        Ok(())
    }

    /// Takes virtual tables out again of which SQLite cannot make sense.
    pub fn without_virtual(&mut self) -> Result<()> {
        self.not_made.push("virtual tables: what the schema says of them is damaged".to_owned());
        let cut =
            "PRAGMA writable_schema=ON; DELETE FROM sqlite_schema WHERE sql LIKE 'CREATE VIRTUAL TABLE %';
                   PRAGMA writable_schema=OFF;";
        self.db.execute_batch(cut).map_err(|e| told(&e))
    }
}
