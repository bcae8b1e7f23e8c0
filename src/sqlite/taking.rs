//! Taking rows out of a database in use: each of them is in a snapshot as it is now, which is proved row by row inside the
//! transaction that deletes it.
//!
//! What is moved to another database is there, durable and read again, before the transaction ends that deletes it here. Two
//! databases cannot change at one moment (only rollback journals would allow it), so a crash between the two leaves rows in
//! both; the next run finds by their keys that they are there already, and only deletes.

use super::live::{Live, main, open_or_make, orphans, told};
use super::query::{Reading, Value, quoted};
use super::schema::{Table, defines, named, objects, table};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::os::fault::reach;
use rusqlite::{Connection, OptionalExtension, params_from_iter};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// The temporary table with the keys of rows.
const CHOSEN: &str = "temp.snapkeep_chosen";
/// Orphans whose parents were orphans themselves, and so on; nobody has that many generations.
const ROUNDS_MAX: usize = 1000;

/// Hears a row's key and its values.
type EachRow<'e> = dyn FnMut(&[Value], &[Value]) -> Result<()> + 'e;

/// Rows chosen in the open transaction, by their keys.
struct Taking<'a> {
    db: &'a Connection,
    stored: &'a Reading,
    table: Table,
    definition: String,
    /// Names of what tells rows apart.
    key: Vec<String>,
    count: u64,
}

impl<'a> Taking<'a> {
    /// `choice` follows `FROM table`.
    fn choose(
        live: &'a Live,
        stored: &'a Reading,
        name: &str,
        choice: &str,
        values: &[i64],
        numbered: bool,
    ) -> Result<Self> {
        let all = objects(stored)?;
        let object = named(&all, name)?;
        if object.is_virtual() || object.is_internal() {
            let what = format!("`{name}` is no table with rows of its own; only those can lose rows here");
            return Err(Error::new(ErrorKind::Refused, what));
        }
        let table = table(stored, object)?;
        let definition = object.sql.clone().unwrap_or_default();
        let sql = "SELECT sql FROM main.sqlite_schema WHERE type='table' AND name=?1";
        let now: Option<String> =
            live.db.query_row(sql, [&table.name], |row| row.get(0)).optional().map_err(|e| told(&e))?;
        if now.as_deref() != Some(definition.as_str()) {
            return Err(moved());
        }
        let declared: Vec<String> = table.key().into_iter().map(|i| quoted(&table.columns[i].name)).collect();
        let key = match (&table.rowid, table.alias, declared.is_empty()) {
            (Some(rowid), alias, _) if numbered => {
                vec![if alias.is_some() { quoted(rowid) } else { rowid.clone() }]
            }
            (_, _, false) => declared,
            _ => {
                let what = format!(
                    "`{name}` has no primary key, by which rows could be told apart in two databases; nothing was changed"
                );
                return Err(Error::new(ErrorKind::Refused, what));
            }
        };
        let (db, count) = (&live.db, 0);
        let mut taking = Taking { db, stored, table, definition, key, count };
        taking.note(choice, values)?;
        Ok(taking)
    }

    fn note(&mut self, choice: &str, values: &[i64]) -> Result<()> {
        let run = |sql: &str| self.db.execute_batch(sql).map_err(|e| told(&e));
        run(&format!("DROP TABLE IF EXISTS {CHOSEN}"))?;
        let names = self.key.iter().enumerate().map(|(n, key)| format!("{key} AS k{n}"));
        let list = names.collect::<Vec<_>>().join(",");
        let from = main(&self.table.name);
        let wrong = |e: rusqlite::Error| match e.sqlite_error_code() {
            None | Some(rusqlite::ErrorCode::Unknown) => {
                Error::invalid(format!("SQLite says: {e}; nothing was changed"))
            }
            _ => told(&e),
        };
        if values.is_empty() {
            self.db
                .execute(&format!("CREATE TABLE {CHOSEN} AS SELECT {list} FROM {from} {choice}"), [])
                .map_err(wrong)?;
        } else {
            run(&format!("CREATE TABLE {CHOSEN}(k0 INTEGER)"))?;
            let mut insert =
                self.db.prepare(&format!("INSERT INTO {CHOSEN} VALUES (?1)")).map_err(|e| told(&e))?;
            for value in values {
                insert.execute([value]).map_err(|e| told(&e))?;
            }
        }
        let sql = format!("SELECT count(*) FROM {CHOSEN}");
        let count: i64 = self.db.query_row(&sql, [], |row| row.get(0)).map_err(|e| told(&e))?;
        self.count = count.unsigned_abs();
        Ok(())
    }

    fn columns(&self) -> String {
        self.table.columns.iter().map(|c| quoted(&c.name)).collect::<Vec<_>>().join(",")
    }

    /// `t.key IS x.k…` for each part of the key.
    fn is_chosen(&self) -> String {
        let parts = self.key.iter().enumerate().map(|(n, key)| format!("t.{key} IS x.k{n}"));
        parts.collect::<Vec<_>>().join(" AND ")
    }

    /// One row by its key, out of this table in any database.
    fn by_key(&self) -> String {
        let parts = self.key.iter().enumerate().map(|(n, key)| format!("{key} IS ?{}", n + 1));
        let from = main(&self.table.name);
        format!("SELECT {} FROM {from} WHERE {}", self.columns(), parts.collect::<Vec<_>>().join(" AND "))
    }

    /// Every chosen row: its key and its values, in the order in which they lie.
    fn each(&self, each: &mut EachRow<'_>) -> Result<()> {
        let keys = (0..self.key.len()).map(|n| format!("x.k{n}")).collect::<Vec<_>>().join(",");
        let columns = self.table.columns.iter().map(|c| format!("t.{}", quoted(&c.name)));
        let columns = columns.collect::<Vec<_>>().join(",");
        // The keys were noted as the rows lie.
        let sql = format!(
            "SELECT {keys},{columns} FROM {CHOSEN} x CROSS JOIN {} t ON {}",
            main(&self.table.name),
            self.is_chosen()
        );
        let mut statement = self.db.prepare(&sql).map_err(|e| told(&e))?;
        let width = self.key.len() + self.table.columns.len();
        let mut rows = statement.query([]).map_err(|e| told(&e))?;
        let mut met = 0;
        while let Some(row) = rows.next().map_err(|e| told(&e))? {
            let get = |at: usize| row.get_ref(at).map(Value::of).map_err(|e| told(&e));
            let values = (0..width).map(get).collect::<Result<Vec<_>>>()?;
            let (key, values) = values.split_at(self.key.len());
            each(key, values)?;
            met += 1;
        }
        match met == self.count {
            true => Ok(()),
            false => Err(Error::new(
                ErrorKind::Refused,
                format!(
                    "rows of `{}` are not told apart by their keys; nothing was changed",
                    self.table.name
                ),
            )),
        }
    }

    /// Proves that the snapshot holds every chosen row, exactly as it is now.
    fn prove(&self) -> Result<()> {
        let mut stored = self.stored.prepare(&self.by_key())?;
        self.each(&mut |key, values| {
            let found = first(&mut stored, key).map_err(|e| self.stored.failed(e))?;
            if found.is_some_and(|found| same(&found, values)) { Ok(()) } else { Err(moved()) }
        })
    }

    /// Deletes the chosen rows; the database's triggers run for them, as for any deletion.
    fn delete(&self) -> Result<()> {
        let sql = format!(
            "DELETE FROM {} AS t WHERE EXISTS (SELECT 1 FROM {CHOSEN} x WHERE {})",
            main(&self.table.name),
            self.is_chosen()
        );
        let gone = self.db.execute(&sql, []).map_err(|e| told(&e))? as u64;
        match gone == self.count {
            true => Ok(()),
            false => {
                let what =
                    format!("{gone} rows would go where {} were chosen; nothing was changed", self.count);
                Err(Error::new(ErrorKind::Refused, what))
            }
        }
    }

    /// Fails when other rows would refer to what goes.
    fn is_free(&self, live: &Live) -> Result<()> {
        let before = orphans(self.db)?.len();
        live.run("SAVEPOINT trial")?;
        let after = self.delete().and_then(|()| orphans(self.db));
        live.run("ROLLBACK TO trial; RELEASE trial")?;
        let more = after?.len().saturating_sub(before);
        if more > 0 {
            let what = format!(
                "{more} rows refer to rows of `{}` that would go; archive those first, or choose others. Nothing was changed",
                self.table.name
            );
            return Err(Error::new(ErrorKind::Refused, what));
        }
        Ok(())
    }

    /// Brings the chosen rows into another database; answers how many were there already.
    fn copy_into(&self, other: &Connection) -> Result<u64> {
        let failed = |e: rusqlite::Error| told(&e);
        other.execute_batch("BEGIN IMMEDIATE").map_err(failed)?;
        let there = "SELECT count(*) FROM main.sqlite_schema WHERE name=?1 COLLATE NOCASE";
        let there: i64 = other.query_row(there, [&self.table.name], |row| row.get(0)).map_err(failed)?;
        if there == 0 {
            if !defines(&self.definition) {
                return Err(Error::corrupt(
                    "the schema holds something that is no definition; nothing was changed",
                ));
            }
            let mut create = other.prepare(&self.definition).map_err(failed)?;
            create.execute([]).map_err(failed)?;
        }
        let unlike = |e: rusqlite::Error| {
            let what = format!("its table `{}` is another one ({e}); nothing was changed", self.table.name);
            Error::new(ErrorKind::Refused, what)
        };
        let mut known = other.prepare(&self.by_key()).map_err(unlike)?;
        let marks = (1..=self.table.columns.len()).map(|n| format!("?{n}")).collect::<Vec<_>>().join(",");
        let sql = format!("INSERT INTO {}({}) VALUES ({marks})", main(&self.table.name), self.columns());
        let mut insert = other.prepare(&sql).map_err(unlike)?;
        let mut already = 0;
        self.each(&mut |key, values| {
            if key.contains(&Value::Null) {
                let what = "a row whose key is NULL cannot be told from others in two databases; nothing was changed";
                return Err(Error::new(ErrorKind::Refused, what));
            }
            match first(&mut known, key).map_err(failed)? {
                Some(found) if same(&found, values) => already += 1,
                Some(_) => {
                    let what = format!(
                        "it has another row of `{}` under the key {}; nothing was changed",
                        self.table.name,
                        key.iter().map(shown).collect::<Vec<_>>().join(", ")
                    );
                    return Err(Error::new(ErrorKind::Refused, what));
                }
                None => {
                    insert.execute(params_from_iter(values)).map_err(failed)?;
                }
            }
            Ok(())
        })?;
        // A table that was there may keep values in another way than this one.
        self.each(&mut |key, values| match first(&mut known, key).map_err(failed)? {
            Some(found) if same(&found, values) => Ok(()),
            _ => {
                let what = format!(
                    "its table `{}` does not keep rows as they are here; nothing was changed",
                    self.table.name
                );
                Err(Error::new(ErrorKind::Refused, what))
            }
        })?;
        drop((known, insert));
        other.execute_batch("COMMIT").map_err(failed)?;
        Ok(already)
    }
}

fn first(statement: &mut rusqlite::Statement<'_>, key: &[Value]) -> rusqlite::Result<Option<Vec<Value>>> {
    let width = statement.column_count();
    let mut rows = statement.query(params_from_iter(key))?;
    match rows.next()? {
        Some(row) => {
            (0..width).map(|at| row.get_ref(at).map(Value::of)).collect::<rusqlite::Result<_>>().map(Some)
        }
        None => Ok(None),
    }
}

fn same(a: &[Value], b: &[Value]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.is(b))
}

fn shown(value: &Value) -> String {
    match value {
        Value::Integer(n) => n.to_string(),
        Value::Real(n) => n.to_string(),
        Value::Text(text) => String::from_utf8_lossy(text).into_owned(),
        Value::Null => "NULL".to_owned(),
        Value::Blob(bytes) => crate::id::hex(bytes),
    }
}

fn moved() -> Error {
    let what = "the database was written to after the snapshot was made, so that it does not hold these rows as they are now; \
                nothing was changed. Try again";
    Error::new(ErrorKind::Refused, what)
}

/// Ends the transaction by the outcome of its work.
fn ended<T>(live: &Live, done: Result<T>, keep: bool) -> Result<T> {
    match done {
        Ok(done) if keep => live.run("COMMIT").map(|()| done),
        done => {
            // If this fails, closing the connection rolls back.
            let _ = live.db.execute_batch("ROLLBACK");
            done
        }
    }
}

/// What was moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Archived {
    pub rows: u64,
    /// Those among them that an earlier run had brought there already.
    pub already: u64,
}

/// What to move, and where to.
pub struct Archive<'a> {
    pub table: &'a str,
    /// A condition in SQL.
    pub choice: &'a str,
    pub into: &'a Path,
    pub wait: Duration,
    pub stop: Arc<AtomicBool>,
}

/// Moves rows of a database into another one. `stored` is a snapshot of the database, made just before.
pub fn archive(live: &Live, stored: &Reading, what: &Archive<'_>) -> Result<Archived> {
    live.begin()?;
    let work = || {
        // A comment at its end must not swallow the bracket.
        let choice = format!("WHERE (\n{}\n)", what.choice);
        let taking = Taking::choose(live, stored, what.table, &choice, &[], false)?;
        if taking.count == 0 {
            return Ok(Archived { rows: 0, already: 0 });
        }
        taking.prove()?;
        taking.is_free(live)?;
        reach("archive-proved");
        let already = bring(live, &taking, what).context(|| what.into.display())?;
        reach("archive-copied");
        taking.delete()?;
        reach("archive-deleted");
        Ok(Archived { rows: taking.count, already })
    };
    let done = ended(live, work(), true);
    reach("archive-committed");
    done
}

fn bring(live: &Live, taking: &Taking<'_>, what: &Archive<'_>) -> Result<u64> {
    let new = what.into.symlink_metadata().is_err();
    if crate::os::dir::status_at_path(what.into).is_ok_and(|status| status.id() == live.id) {
        return Err(Error::invalid("that is the database itself; nothing was changed"));
    }
    let other = open_or_make(what.into, what.wait, Arc::clone(&what.stop))?;
    let already = taking.copy_into(&other);
    if already.is_err() {
        let _ = other.execute_batch("ROLLBACK");
    }
    other.close().map_err(|(_, e)| told(&e))?;
    if already.is_err() && new {
        // Made by us, and nothing came of it.
        if std::fs::symlink_metadata(what.into).is_ok_and(|meta| meta.len() == 0) {
            let _ = std::fs::remove_file(what.into);
        }
    }
    let already = already?;
    let synced = std::fs::File::open(what.into).and_then(|file| file.sync_all());
    synced.context(|| "cannot make it durable")?;
    let above = what.into.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(above)
        .and_then(|dir| dir.sync_all())
        .context(|| "cannot make its directory durable")?;
    Ok(already)
}

/// Deletes rows whose foreign key leads nowhere, and those that then refer to nothing, until there are none; answers how many
/// of each table. `stored` is a snapshot of the database, made just before.
pub fn delete_orphans(live: &Live, stored: &Reading) -> Result<BTreeMap<String, u64>> {
    live.begin()?;
    let work = || {
        let mut gone = BTreeMap::new();
        for _ in 0..ROUNDS_MAX {
            let mut tables: BTreeMap<String, (Vec<i64>, bool)> = BTreeMap::new();
            for orphan in orphans(&live.db)? {
                let parent =
                    "SELECT count(*) FROM main.sqlite_schema WHERE type='table' AND name=?1 COLLATE NOCASE";
                let there: i64 =
                    live.db.query_row(parent, [&orphan.parent], |row| row.get(0)).map_err(|e| told(&e))?;
                if there == 0 {
                    let what = format!(
                        "`{}` refers to a table `{}` that is not there at all, so that every row of it would go; nothing \
                         was changed",
                        orphan.table, orphan.parent
                    );
                    return Err(Error::new(ErrorKind::Refused, what));
                }
                let entry = tables.entry(orphan.table).or_default();
                match orphan.row {
                    Some(row) => entry.0.push(row),
                    None => entry.1 = true,
                }
            }
            if tables.is_empty() {
                return Ok(gone);
            }
            for (table, (mut rows, bare)) in tables {
                rows.sort_unstable();
                rows.dedup();
                let choice = if bare { leads_nowhere(&live.db, &table)? } else { String::new() };
                let taking = Taking::choose(live, stored, &table, &choice, &rows, !bare)?;
                taking.prove()?;
                taking.delete()?;
                *gone.entry(table).or_default() += taking.count;
            }
            reach("orphans-deleted");
        }
        Err(Error::new(
            ErrorKind::Refused,
            "there are still orphans after a thousand rounds; nothing was changed",
        ))
    };
    ended(live, work(), true)
}

/// The condition by which rows of a table without row numbers have a foreign key that leads nowhere.
fn leads_nowhere(db: &Connection, table: &str) -> Result<String> {
    type Part = (i64, String, String, Option<String>, i64);
    let sql = "SELECT id, \"table\", \"from\", \"to\", seq FROM pragma_foreign_key_list(?1) ORDER BY id, seq";
    let mut statement = db.prepare(sql).map_err(|e| told(&e))?;
    let part = |row: &rusqlite::Row<'_>| -> rusqlite::Result<Part> {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
    };
    let parts = statement.query_map([table], part).map_err(|e| told(&e))?;
    let parts: Vec<Part> = parts.collect::<rusqlite::Result<_>>().map_err(|e| told(&e))?;
    let mut keys: BTreeMap<i64, (String, Vec<String>, Vec<String>)> = BTreeMap::new();
    for (id, parent, from, to, seq) in parts {
        let to = match to {
            Some(to) => to,
            // The parent's primary key.
            None => {
                let sql = "SELECT name FROM pragma_table_info(?1) WHERE pk=?2";
                db.query_row(sql, rusqlite::params![parent, seq + 1], |row| row.get(0))
                    .map_err(|e| told(&e))?
            }
        };
        let from = format!("{}.{}", quoted(table), quoted(&from));
        let key = keys.entry(id).or_insert_with(|| (parent, Vec::new(), Vec::new()));
        key.1.push(format!("{from} IS NOT NULL"));
        key.2.push(format!("p.{} = {from}", quoted(&to)));
    }
    let key = |(parent, there, same): &(String, Vec<String>, Vec<String>)| {
        let (there, same) = (there.join(" AND "), same.join(" AND "));
        format!("({there} AND NOT EXISTS (SELECT 1 FROM {} p WHERE {same}))", main(parent))
    };
    Ok(format!("WHERE {}", keys.values().map(key).collect::<Vec<_>>().join(" OR ")))
}
