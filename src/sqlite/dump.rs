//! A database as SQL text that makes it again: tables with their rows, then indexes, triggers and views.
//!
//! A virtual table is entered into the schema by its `CREATE` and its shadow tables are written like any other, as SQLite's
//! own shell does it: that gives back every virtual table exactly, also one whose module is not at hand here, and one whose
//! content nobody can ask for.

use super::query::{Reading, Reals, Value, quoted};
use super::schema::{Object, Table, objects, table};
use crate::error::{Context, Error, ErrorKind, Result};
use std::fmt::Write as _;
use std::io::Write;

/// Writes SQL statements.
pub struct Dump<'a> {
    reading: &'a Reading,
    out: &'a mut dyn Write,
    reals: Reals,
    encoding: Encoding,
    line: String,
}

/// How a database keeps text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Utf8,
    Utf16Little,
    Utf16Big,
}

impl Encoding {
    pub fn of(reading: &Reading) -> Result<Self> {
        Ok(match reading.scalar("PRAGMA encoding")?.lossy().as_str() {
            "UTF-16le" => Encoding::Utf16Little,
            "UTF-16be" => Encoding::Utf16Big,
            _ => Encoding::Utf8,
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            Encoding::Utf8 => "UTF-8",
            Encoding::Utf16Little => "UTF-16le",
            Encoding::Utf16Big => "UTF-16be",
        }
    }

    /// The bytes by which the database keeps this text.
    pub fn encode(self, text: &[u8]) -> Vec<u8> {
        let units = || String::from_utf8_lossy(text).encode_utf16().collect::<Vec<u16>>();
        match self {
            Encoding::Utf8 => text.to_vec(),
            Encoding::Utf16Little => units().iter().flat_map(|unit| unit.to_le_bytes()).collect(),
            Encoding::Utf16Big => units().iter().flat_map(|unit| unit.to_be_bytes()).collect(),
        }
    }
}

impl<'a> Dump<'a> {
    pub fn new(reading: &'a Reading, out: &'a mut dyn Write) -> Result<Self> {
        let encoding = Encoding::of(reading)?;
        Ok(Dump { reading, out, reals: Reals::new()?, encoding, line: String::new() })
    }

    fn say(&mut self, text: &str) -> Result<()> {
        self.out
            .write_all(text.as_bytes())
            .and_then(|()| self.out.write_all(b"\n"))
            .context(|| "cannot write the output")
    }

    /// Everything, or one table with what belongs to it.
    pub fn run(&mut self, only: Option<&Object>) -> Result<()> {
        let all = objects(self.reading)?;
        let wanted = |object: &&Object| only.is_none_or(|only| object.table.eq_ignore_ascii_case(&only.name));
        self.begin(only.is_none())?;
        if only.is_some() {
            // Whatever database it goes into: text there is UTF-8 as a rule.
            self.encoding = Encoding::Utf8;
        }
        let mut entered = false;
        for object in
            all.iter().filter(wanted).filter(|object| object.kind == "table" && !object.is_internal())
        {
            if object.is_virtual() {
                if !entered {
                    self.say("PRAGMA writable_schema=ON;")?;
                    entered = true;
                }
                self.enter(object)?;
                continue;
            }
            self.create(object)?;
            let table = table(self.reading, object)?;
            self.rows(&table, &quoted(&table.name))?;
        }
        if only.is_none() {
            self.internal(&all)?;
        }
        for kind in ["index", "trigger", "view"] {
            for object in all.iter().filter(wanted).filter(|object| object.kind == kind) {
                self.create(object)?;
            }
        }
        if entered {
            self.say("PRAGMA writable_schema=OFF;")?;
        }
        self.say("COMMIT;")
    }

    fn begin(&mut self, whole: bool) -> Result<()> {
        if whole && self.encoding != Encoding::Utf8 {
            self.say(&format!("PRAGMA encoding='{}';", self.encoding.name()))?;
        }
        self.say("PRAGMA foreign_keys=OFF;")?;
        self.say("BEGIN TRANSACTION;")?;
        for name in ["user_version", "application_id"].into_iter().filter(|_| whole) {
            if let Some(number) =
                self.reading.scalar(&format!("PRAGMA {name}"))?.as_integer().filter(|n| *n != 0)
            {
                self.say(&format!("PRAGMA {name}={number};"))?;
            }
        }
        Ok(())
    }

    fn create(&mut self, object: &Object) -> Result<()> {
        let Some(sql) = &object.sql else { return Ok(()) };
        // A comment at its end would swallow the semicolon.
        let gap = if sql.lines().last().is_some_and(|line| line.contains("--")) { "\n" } else { "" };
        self.say(&format!("{sql}{gap};"))
    }

    /// A virtual table, whose shadow tables stand for its rows.
    fn enter(&mut self, object: &Object) -> Result<()> {
        let text = |text: &str| self.literal(&Value::text(text));
        let sql = object.sql.as_deref().unwrap_or_default();
        let (name, sql) = (text(&object.name)?, text(sql)?);
        self.say(&format!(
            "INSERT INTO sqlite_schema(type,name,tbl_name,rootpage,sql) VALUES('table',{name},{name},0,{sql});"
        ))
    }

    /// What SQLite keeps for itself and makes anew, empty.
    fn internal(&mut self, all: &[Object]) -> Result<()> {
        for object in all.iter().filter(|object| object.holds_rows()) {
            match object.name.as_str() {
                "sqlite_sequence" => {}
                "sqlite_stat1" => self.say("ANALYZE sqlite_schema;")?,
                _ => continue,
            }
            self.say(&format!("DELETE FROM {};", object.name))?;
            let mut table = table(self.reading, object)?;
            table.rowid = None;
            self.rows(&table, &object.name)?;
        }
        Ok(())
    }

    fn rows(&mut self, table: &Table, into: &str) -> Result<()> {
        let mut names: Vec<String> = table.columns.iter().map(|column| quoted(&column.name)).collect();
        if let (None, Some(rowid)) = (table.alias, &table.rowid)
            && self.numbers_matter(table, rowid)?
        {
            names.insert(0, rowid.clone());
        }
        if names.is_empty() {
            let what =
                format!("the rows of `{}` cannot be written: all its columns are generated", table.name);
            return Err(Error::new(ErrorKind::Unsupported, what));
        }
        let list = names.join(",");
        // An index that holds all columns would give them in another order.
        let sql = format!("SELECT {list} FROM {} NOT INDEXED", quoted(&table.name));
        let head = format!("INSERT INTO {into}({list}) VALUES(");
        let reading = self.reading;
        reading.ask(&sql, &[], &mut |_| Ok(()), &mut |row| {
            let mut line = std::mem::take(&mut self.line);
            line.clear();
            line.push_str(&head);
            for (at, value) in row.iter().enumerate() {
                line.push_str(if at > 0 { "," } else { "" });
                self.put(&mut line, value)?;
            }
            line.push_str(");");
            let said = self.say(&line);
            self.line = line;
            said
        })
    }

    /// Whether rows put in one after another would get other numbers than they have.
    fn numbers_matter(&self, table: &Table, rowid: &str) -> Result<bool> {
        let sql = format!(
            "SELECT (SELECT count(*) FROM {0}), (SELECT min({1}) FROM {0}), (SELECT max({1}) FROM {0})",
            quoted(&table.name),
            rowid
        );
        let rows = self.reading.all(&sql, &[])?;
        let number = |at: usize| rows.first().and_then(|row| row.get(at)).and_then(Value::as_integer);
        let count = number(0).unwrap_or(0);
        Ok(count > 0 && (number(1), number(2)) != (Some(1), Some(count)))
    }

    fn literal(&self, value: &Value) -> Result<String> {
        let mut out = String::new();
        self.put(&mut out, value)?;
        Ok(out)
    }

    /// A value as a literal that means exactly it.
    fn put(&self, out: &mut String, value: &Value) -> Result<()> {
        match value {
            Value::Null => out.push_str("NULL"),
            Value::Integer(n) => {
                // Writing to a string cannot fail.
                let _ = write!(out, "{n}");
            }
            Value::Real(n) => out.push_str(&self.reals.write(*n)?),
            Value::Blob(bytes) => hexed(out, bytes),
            Value::Text(bytes) => match std::str::from_utf8(bytes) {
                // Literals end at a NUL, and SQLite's shell drops carriage returns at the ends of lines.
                Ok(text) if !text.contains(['\0', '\r']) => {
                    out.push('\'');
                    for (at, part) in text.split('\'').enumerate() {
                        out.push_str(if at > 0 { "''" } else { "" });
                        out.push_str(part);
                    }
                    out.push('\'');
                }
                _ => {
                    out.push_str("CAST(");
                    hexed(out, &self.encoding.encode(bytes));
                    out.push_str(" AS TEXT)");
                }
            },
        }
        Ok(())
    }
}

fn hexed(out: &mut String, bytes: &[u8]) {
    out.push_str("X'");
    out.push_str(&crate::id::hex(bytes));
    out.push('\'');
}
