//! Single tables out of one database into another: definition, rows, indexes and triggers, in one transaction.

use crate::error::{Error, ErrorKind, Result};
use crate::os::held::hold;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension};
use std::path::Path;
use std::time::Duration;

/// A table to copy.
#[derive(Clone, Debug)]
pub struct Wish {
    pub table: String,
    /// Its name in the target.
    pub name: String,
}

/// How to copy.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Tables of these names in the target give way.
    pub replace: bool,
    /// Rows may come to refer to rows that are not there.
    pub orphans: bool,
    /// How long to wait for somebody who keeps the target locked.
    pub wait: Duration,
}

/// What was copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    pub name: String,
    pub rows: u64,
    pub indexes: u64,
    pub triggers: u64,
    pub replaced: bool,
}

/// The tables a database has, without SQLite's own.
pub fn names(path: &Path) -> Result<Vec<String>> {
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(|e| told(&e))?;
    let sql = "SELECT name FROM sqlite_schema WHERE type='table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name";
    let mut statement = db.prepare(sql).map_err(|e| told(&e))?;
    let rows = statement.query_map([], |row| row.get(0)).map_err(|e| told(&e))?;
    rows.collect::<rusqlite::Result<_>>().map_err(|e| told(&e))
}

/// Copies tables from the database in `source`, which is ours alone and may be changed, into `target`, which is made if it is
/// not there. All of it comes, or nothing.
///
/// `before` is called once nobody else can write to the target, and before anything is changed there.
pub fn copy(
    source: &Path,
    target: &Path,
    wishes: &[Wish],
    rules: Rules,
    before: &dyn Fn() -> Result<()>,
) -> Result<Vec<Copied>> {
    rename(source, wishes).map_err(|e| told(&e))?;
    let id = crate::os::dir::status_at_path(target).ok().map(|status| status.id());
    let hold = id.map(hold);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW
        | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let db = Connection::open_with_flags(target, flags).map_err(|e| told(&e))?;
    let begin = |db: &Connection| {
        db.busy_timeout(rules.wait)?;
        db.execute("ATTACH ?1 AS snapshot", [source.to_string_lossy()])?;
        db.execute_batch(
            "PRAGMA trusted_schema=OFF; PRAGMA foreign_keys=OFF; PRAGMA synchronous=FULL; BEGIN IMMEDIATE;",
        )
    };
    begin(&db).map_err(|e| told(&e))?;
    let copied = before().and_then(|()| Copy { db: &db, rules }.all(wishes));
    let ended = match &copied {
        Ok(_) => db.execute_batch("COMMIT").map_err(|e| told(&e)),
        Err(_) => db.execute_batch("ROLLBACK").map_err(|e| told(&e)),
    };
    drop(db);
    drop(hold);
    if id.is_none() && (copied.is_err() || ended.is_err()) {
        // Made by us, and nothing came of it.
        if std::fs::symlink_metadata(target).is_ok_and(|meta| meta.len() == 0) {
            let _ = std::fs::remove_file(target);
        }
    }
    let copied = copied?;
    ended.map(|()| copied)
}

/// SQLite itself puts the new name into all definitions.
fn rename(source: &Path, wishes: &[Wish]) -> rusqlite::Result<()> {
    let db = Connection::open(source)?;
    // Whatever a snapshot holds, nothing in it is run for its own sake.
    db.execute_batch("PRAGMA trusted_schema=OFF; PRAGMA journal_mode=DELETE;")?;
    for wish in wishes.iter().filter(|wish| wish.table != wish.name) {
        db.execute_batch(&format!("ALTER TABLE {} RENAME TO {}", quoted(&wish.table), quoted(&wish.name)))?;
    }
    Ok(())
}

struct Copy<'a> {
    db: &'a Connection,
    rules: Rules,
}

impl Copy<'_> {
    fn all(&self, wishes: &[Wish]) -> Result<Vec<Copied>> {
        let before = self.orphans();
        let copied = wishes.iter().map(|wish| self.one(wish)).collect::<Result<Vec<_>>>()?;
        if let (Some(before), Some(after), false) = (before, self.orphans(), self.rules.orphans)
            && after > before
        {
            let what = format!(
                "{} rows would refer to rows that are not there; nothing was changed. Restore the tables they refer to \
                 as well (--table may be repeated), or say --allow-orphans",
                after - before
            );
            return Err(Error::new(ErrorKind::Refused, what));
        }
        Ok(copied)
    }

    /// Rows whose foreign key leads nowhere; `None` where SQLite cannot tell.
    fn orphans(&self) -> Option<u64> {
        let mut statement = self.db.prepare("PRAGMA main.foreign_key_check").ok()?;
        let mut rows = statement.query([]).ok()?;
        let mut count = 0;
        loop {
            match rows.next() {
                Ok(Some(_)) => count += 1,
                Ok(None) => return Some(count),
                Err(_) => return None,
            }
        }
    }

    fn one(&self, wish: &Wish) -> Result<Copied> {
        let name = &wish.name;
        let definition =
            self.text("SELECT sql FROM snapshot.sqlite_schema WHERE type='table' AND name=?1", name)?;
        let definition = definition.ok_or_else(|| no_table(&wish.table))?;
        if definition.trim_start().get(..14).is_some_and(|start| start.eq_ignore_ascii_case("CREATE VIRTUAL"))
        {
            let what = format!(
                "`{}` is a virtual table, whose rows lie in others; restore the whole database",
                wish.table
            );
            return Err(Error::new(ErrorKind::Refused, what));
        }
        let replaced = self.make_way(name)?;
        self.run(&definition)?;
        let columns = self.columns(name)?;
        let rows = self.fill(name, &columns)?;
        let indexes = self.rest("index", wish)?;
        let triggers = self.rest("trigger", wish)?;
        let verdict = self.text(&format!("PRAGMA main.quick_check({})", quoted(name)), "")?;
        if verdict.as_deref() != Some("ok") {
            let why = verdict.unwrap_or_default();
            return Err(Error::corrupt(format!(
                "the copy of `{name}` is not sound ({why}); nothing was changed"
            )));
        }
        Ok(Copied { name: name.clone(), rows, indexes, triggers, replaced })
    }

    fn make_way(&self, name: &str) -> Result<bool> {
        let kind = self.text("SELECT type FROM main.sqlite_schema WHERE name=?1 COLLATE NOCASE", name)?;
        match kind.as_deref() {
            None => Ok(false),
            Some("table") if self.rules.replace => {
                self.run(&format!("DROP TABLE main.{}", quoted(name))).map(|()| true)
            }
            Some(kind) => {
                let what = match kind {
                    "table" => "say --replace to replace it, or --as NAME for another name",
                    _ => "say --as NAME for another name",
                };
                Err(Error::new(
                    ErrorKind::Refused,
                    format!("there is a {kind} `{name}` already; {what}. Nothing was changed"),
                ))
            }
        }
    }

    /// All that are not computed.
    fn columns(&self, name: &str) -> Result<Vec<String>> {
        let sql = "SELECT name FROM pragma_table_xinfo(?1, 'snapshot') WHERE hidden=0";
        let mut statement = self.db.prepare(sql).map_err(|e| told(&e))?;
        let rows = statement.query_map([name], |row| row.get(0)).map_err(|e| told(&e))?;
        rows.collect::<rusqlite::Result<_>>().map_err(|e| told(&e))
    }

    /// Rows keep their numbers, which others may refer to.
    fn fill(&self, name: &str, columns: &[String]) -> Result<u64> {
        let bare = "SELECT wr FROM pragma_table_list WHERE schema='snapshot' AND name=?1";
        let without: i64 = self.db.query_row(bare, [name], |row| row.get(0)).map_err(|e| told(&e))?;
        let free = |word: &&str| !columns.iter().any(|column| column.eq_ignore_ascii_case(word));
        let number = ["rowid", "_rowid_", "oid"].into_iter().find(free).filter(|_| without == 0);
        let all: Vec<String> =
            number.map(str::to_owned).into_iter().chain(columns.iter().map(|c| quoted(c))).collect();
        let (all, name) = (all.join(", "), quoted(name));
        self.run(&format!("INSERT INTO main.{name}({all}) SELECT {all} FROM snapshot.{name}"))?;
        let count = |schema: &str| {
            let sql = format!("SELECT count(*) FROM {schema}.{name}");
            self.db.query_row(&sql, [], |row| row.get::<_, i64>(0)).map_err(|e| told(&e))
        };
        let (there, here) = (count("snapshot")?, count("main")?);
        if there != here {
            return Err(Error::corrupt(format!("{here} of {there} rows arrived; nothing was changed")));
        }
        self.sequence(&name)?;
        Ok(here.unsigned_abs())
    }

    /// Numbers once given are not given again.
    fn sequence(&self, name: &str) -> Result<()> {
        let both = "SELECT count(*) FROM (SELECT 1 FROM main.sqlite_schema WHERE name='sqlite_sequence'
             UNION ALL SELECT 1 FROM snapshot.sqlite_schema WHERE name='sqlite_sequence')";
        let there: i64 = self.db.query_row(both, [], |row| row.get(0)).map_err(|e| told(&e))?;
        if there < 2 {
            return Ok(());
        }
        let plain = name.trim_matches('"').replace("\"\"", "\"");
        let sql = "UPDATE main.sqlite_sequence SET seq=max(seq,
             coalesce((SELECT seq FROM snapshot.sqlite_sequence WHERE name=?1), 0)) WHERE name=?1";
        self.db.execute(sql, [plain]).map(|_| ()).map_err(|e| told(&e))
    }

    /// Indexes and triggers, with names of their own where the table has another one.
    fn rest(&self, kind: &str, wish: &Wish) -> Result<u64> {
        let sql =
            "SELECT name, sql FROM snapshot.sqlite_schema WHERE type=?1 AND tbl_name=?2 AND sql IS NOT NULL";
        let mut statement = self.db.prepare(sql).map_err(|e| told(&e))?;
        let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?));
        let found = statement.query_map([kind, wish.name.as_str()], row).map_err(|e| told(&e))?;
        let found = found.collect::<rusqlite::Result<Vec<_>>>().map_err(|e| told(&e))?;
        for (name, definition) in &found {
            let other = format!("{}_{name}", wish.name);
            match wish.table == wish.name {
                true => self.run(definition)?,
                false => self.run(&named(definition, kind, &other).ok_or_else(|| {
                    Error::new(
                        ErrorKind::Unsupported,
                        format!("cannot give the {kind} `{name}` another name"),
                    )
                })?)?,
            }
        }
        Ok(found.len() as u64)
    }

    fn run(&self, sql: &str) -> Result<()> {
        self.db.execute_batch(sql).map_err(|e| told(&e))
    }

    fn text(&self, sql: &str, value: &str) -> Result<Option<String>> {
        let mut statement = self.db.prepare(sql).map_err(|e| told(&e))?;
        let first = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
        let answer = match statement.parameter_count() {
            0 => statement.query_row([], first).optional(),
            _ => statement.query_row([value], first).optional(),
        };
        answer.map_err(|e| told(&e))
    }
}

fn no_table(name: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("the snapshot's database has no table `{name}`"))
}

pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The definition of an index or trigger under another name. SQLite stores definitions from `CREATE` on, in normal form up to
/// there: `CREATE [UNIQUE] INDEX name …`, `CREATE TRIGGER name …`.
fn named(definition: &str, kind: &str, name: &str) -> Option<String> {
    let at = definition.to_ascii_lowercase().find(&format!("{kind} "))? + kind.len() + 1;
    let (head, rest) = definition.split_at(at);
    let rest = rest.trim_start();
    let close = match rest.chars().next()? {
        '[' => Some(']'),
        quote @ ('"' | '\'' | '`') => Some(quote),
        _ => None,
    };
    let end = match close {
        Some(close) => {
            let mut chars = rest.char_indices().skip(1).peekable();
            loop {
                let (at, c) = chars.next()?;
                if c == close && chars.peek().is_some_and(|(_, next)| *next == close && close != ']') {
                    chars.next();
                } else if c == close {
                    break at + c.len_utf8();
                }
            }
        }
        None => rest.find(|c: char| c.is_whitespace() || c == '(')?,
    };
    Some(format!("{head}{} {}", quoted(name), &rest[end..]))
}

fn told(e: &rusqlite::Error) -> Error {
    match e.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            let what = "another program keeps the database locked; nothing was changed. Wait for it or stop it, then try again";
            Error::new(ErrorKind::Locked, what)
        }
        Some(ErrorCode::DiskFull) => {
            let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
            Error::io("SQLite cannot write the table", &full)
        }
        _ => Error::new(ErrorKind::Io, format!("SQLite says: {e}; nothing was changed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_get_other_names() {
        let index = |sql: &str| named(sql, "index", "new");
        assert_eq!(index("CREATE INDEX a ON t(x)").as_deref(), Some("CREATE INDEX \"new\"  ON t(x)"));
        assert_eq!(
            index("CREATE UNIQUE INDEX \"a \"\"b\" ON t(x)").as_deref(),
            Some("CREATE UNIQUE INDEX \"new\"  ON t(x)")
        );
        assert_eq!(index("CREATE INDEX [a b] ON t(x)").as_deref(), Some("CREATE INDEX \"new\"  ON t(x)"));
        let trigger = "CREATE TRIGGER `a` AFTER INSERT ON t BEGIN SELECT 1; END";
        let wanted = "CREATE TRIGGER \"new\"  AFTER INSERT ON t BEGIN SELECT 1; END";
        assert_eq!(named(trigger, "trigger", "new").as_deref(), Some(wanted));
        assert_eq!(named("CREATE INDEX \"a", "index", "new"), None);
    }
}
