//! What can be read of a broken database, brought into a new one. The broken one is only read.
//!
//! Every table's tree is followed as far as it goes; leaves that nothing leads to any more are found by looking at every page, and
//! their rows are kept apart, since nobody can say which table they belong to. Free pages hold rows that were deleted: they are
//! left out, as far as the list of free pages can be read.

mod build;
mod cells;

use super::header::Header;
use super::image::{Bytes, Files, Image};
use super::pin::{Pin, Refusal, Rules, pin};
use super::place::Place;
use super::query::Value;
use super::schema::Object;
use super::scratch::{Plain, ScratchDir};
use super::wal;
use crate::error::{Context, Error, ErrorKind, Result};
use build::{Build, Target};
use cells::{Cell, INNER_INDEX, INNER_TABLE, LEAF_INDEX, LEAF_TABLE, Raw, children, kind, looks_like_one};
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::path::Path;

/// Depths that no tree has.
const DEPTH_MAX: usize = 40;
/// Pages looked at to find out how long they are.
const SAMPLE: u64 = 4000;

/// What was saved of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    pub rows: u64,
    /// Pages of its tree that cannot be read; what they held, or led to, is not in the table.
    pub pages_lost: u64,
    /// Rows of which a part is lost.
    pub rows_damaged: u64,
}

impl Saved {
    fn is_whole(&self) -> bool {
        self.pages_lost == 0 && self.rows_damaged == 0
    }
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub page_size: usize,
    pub pages: u32,
    pub tables: BTreeMap<String, Saved>,
    /// Rows of which nobody can say where they belong, and the table that has them.
    pub shelved: u64,
    pub shelf: Option<String>,
    /// Of the schema itself.
    pub schema: Saved,
    /// Pages that the disk did not give.
    pub unread: u64,
    /// Rows that go on in a page of zeros, which may be a lost one.
    pub doubtful: u64,
    /// What could not be made again, and why.
    pub not_made: Vec<String>,
}

impl Report {
    /// Nothing was found to be missing.
    pub fn is_whole(&self) -> bool {
        let tables = self.tables.values().all(Saved::is_whole);
        tables
            && self.schema.is_whole()
            && self.shelved == 0
            && self.unread + self.doubtful == 0
            && self.not_made.is_empty()
    }

    pub fn rows(&self) -> u64 {
        self.tables.values().map(|saved| saved.rows).sum::<u64>() + self.shelved
    }
}

/// Hands over the pages of whatever stands at `place`, held still where SQLite still understands it, and their size.
pub fn remains<T>(
    place: &Place,
    rules: &Rules<'_>,
    work: &mut dyn FnMut(Box<dyn Bytes>, u32) -> Result<T>,
) -> Result<T> {
    let held: Pin = match pin(place, rules) {
        Ok(pin) => pin,
        Err(Refusal::Failed(e)) => return Err(e),
        Err(Refusal::Unreadable(_)) => {
            let (image, size) = plain(place)?;
            return work(image, size);
        }
    };
    let done = work(Box::new(held.image.clone()), held.image.page_size);
    match held.holds() {
        true => done,
        false => Err(Error::new(
            ErrorKind::Locked,
            "it was written to while it was read; stop who writes and try again",
        )),
    }
}

/// The files as they are, the log's closed transactions above the main file's pages.
fn plain(place: &Place) -> Result<(Box<dyn Bytes>, u32)> {
    let cannot = || "cannot read the database";
    let len = |suffix: &str| {
        Ok::<u64, Error>(place.status(suffix).context(cannot)?.map_or(0, |status| status.size))
    };
    let (main, log) = (len("")?, len("-wal")?);
    let wal_file = if log > 0 { Some(place.open("-wal").context(cannot)?) } else { None };
    let mut files = Plain { main: place.open("").context(cannot)?, wal: wal_file };
    let wal = if log > 0 { wal::read(&mut files, log, None)? } else { None };
    let header = Header::parse(&place.start("", super::header::LEN).context(cannot)?);
    let size = match (&wal, header) {
        (Some(wal), _) => wal.mark.page_size,
        (None, Some(header)) => header.page_size,
        (None, None) => guess(&mut files, main)?,
    };
    let there = u32::try_from(main.div_ceil(u64::from(size))).unwrap_or(u32::MAX);
    let pages = wal.as_ref().map_or(0, |wal| wal.mark.pages).max(there);
    Ok((Box::new(Image::new(size, pages, Box::new(files), wal)), size))
}

/// The size of which most pages look like pages.
fn guess(files: &mut Plain, len: u64) -> Result<u32> {
    let mut best = (0, 4096);
    for size in [4096, 1024, 512, 2048, 8192, 16_384, 32_768, 65_536] {
        let mut page = vec![0; size as usize];
        let mut good = 0;
        for number in 0..(len / u64::from(size)).min(SAMPLE * 4096 / u64::from(size)) {
            files.read_main(number * u64::from(size), &mut page)?;
            good += u64::from(looks_like_one(&page, number as u32 + 1));
        }
        best = best.max((good, size));
    }
    match best {
        (0, _) => {
            Err(Error::corrupt("no page of it looks like one of a SQLite database; nothing can be saved"))
        }
        (_, size) => Ok(size),
    }
}

/// Saves what can be read into a new database, which must not be there.
pub fn salvage(
    bytes: Box<dyn Bytes>,
    page_size: u32,
    into: &Path,
    keep_going: &dyn Fn() -> Result<()>,
) -> Result<Report> {
    let taken = || {
        Error::new(ErrorKind::AlreadyExists, format!("{} is there already and is left alone", into.display()))
    };
    if into.symlink_metadata().is_ok() {
        return Err(taken());
    }
    let above = into.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let scratch = ScratchDir::new(above)?;
    let path = scratch.path().join("database");
    let db = Connection::open(&path).map_err(|e| super::live::told(&e))?;
    let raw = Raw::new(bytes, page_size)?;
    let build = Build::begin(db, raw.size, raw.encoding.name())?;
    let mut work = Work { raw, build, report: Report::default(), keep_going };
    let report = work.run(&path)?;
    work.build.db.close().map_err(|(_, e)| super::live::told(&e))?;
    let cannot = || format!("cannot write {}", into.display());
    std::fs::File::open(&path).and_then(|file| file.sync_all()).context(cannot)?;
    // A name that is taken meanwhile is an error, not something to overwrite.
    match std::fs::hard_link(&path, into) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => return Err(taken()),
        other => other.context(cannot)?,
    }
    std::fs::File::open(above).and_then(|dir| dir.sync_all()).context(cannot)?;
    Ok(report)
}

struct Work<'a> {
    raw: Raw,
    build: Build,
    report: Report,
    keep_going: &'a dyn Fn() -> Result<()>,
}

/// Hears a page and its rows; whether they are what the tree is said to hold.
type Leaf<'l> = dyn FnMut(&mut Build, u32, Vec<Cell>) -> Result<()> + 'l;

impl Work<'_> {
    fn run(&mut self, path: &Path) -> Result<Report> {
        let (user_version, application_id) = (self.raw.header_number(60)?, self.raw.header_number(68)?);
        self.raw.leave_out_free()?;
        let schema = self.schema()?;
        // A table that nobody knows of may be one, too.
        let (mut bare_lost, mut sequence) = (self.report.schema.pages_lost > 0, Vec::new());
        for object in schema.iter().filter(|object| object.kind == "table") {
            if object.is_internal() {
                self.internal(object, &mut sequence)?;
            } else if self.build.make(object) && !object.is_virtual() {
                bare_lost |= self.table(object)?;
            }
        }
        for object in schema.iter().filter(|object| object.kind == "index" && object.root > 0) {
            self.follow(object.root, false, &mut |_, _, _| Ok(()))?;
        }
        self.unclaimed(bare_lost)?;
        for (name, last) in sequence {
            self.build.sequence(&name, &last)?;
        }
        for kind in ["index", "trigger", "view"] {
            for object in schema.iter().filter(|object| object.kind == kind && object.sql.is_some()) {
                (self.keep_going)()?;
                self.build.make(object);
            }
        }
        self.build.finish(user_version as i32, application_id as i32)?;
        if verdict(path).is_err() {
            self.build.without_virtual()?;
        }
        let verdict = verdict(path).map_err(|e| super::live::told(&e))?;
        if verdict != "ok" {
            return Err(Error::corrupt(format!(
                "the new database is not sound ({verdict}); it was not kept"
            )));
        }
        let mut report = std::mem::take(&mut self.report);
        (report.page_size, report.pages, report.unread) = (self.raw.size, self.raw.count, self.raw.unread);
        report.doubtful = self.raw.doubtful;
        (report.shelved, report.shelf) = (self.build.shelved, self.build.shelf_name().map(str::to_owned));
        report.not_made = std::mem::take(&mut self.build.not_made);
        if report.rows() == 0 && report.tables.is_empty() {
            return Err(Error::corrupt("not one row or table of it can be read; nothing can be saved"));
        }
        Ok(report)
    }

    /// What the database says of its tables, as far as it can be read.
    fn schema(&mut self) -> Result<Vec<Object>> {
        let mut rows: Vec<(Option<i64>, Vec<Value>)> = Vec::new();
        let mut saved = self.follow(1, true, &mut |_, _, cells| {
            rows.extend(cells.into_iter().filter_map(|cell| Some((cell.number, cell.values?))));
            Ok(())
        })?;
        if saved.pages_lost > 0 {
            // Pages of the schema that nothing leads to any more.
            for number in 2..=self.raw.count {
                (self.keep_going)()?;
                let page = self.raw.page(number)?;
                if self.raw.known.has(number) || kind(&page, number) != LEAF_TABLE {
                    continue;
                }
                let (cells, _) = self.raw.cells(&page, number)?;
                let of_schema =
                    |cell: &Cell| cell.values.as_ref().is_some_and(|values| object(values).is_some());
                if !cells.is_empty() && cells.iter().all(of_schema) {
                    self.raw.known.insert(number);
                    rows.extend(cells.into_iter().filter_map(|cell| Some((cell.number, cell.values?))));
                } else {
                    self.raw.forget_latest();
                }
            }
        }
        rows.sort_by_key(|(number, _)| *number);
        saved.rows = rows.len() as u64;
        self.report.schema = saved;
        Ok(rows.iter().filter_map(|(_, values)| object(values)).collect())
    }

    /// Whether pages of a table without row numbers are lost.
    fn table(&mut self, about: &Object) -> Result<bool> {
        let Some(target) = self.build.target(&about.name)? else { return Ok(false) };
        let mut rows = 0;
        let mut saved = self.follow(about.root, !target.without_rowid, &mut |build, page, cells| {
            rows += put(build, &target, about.root, page, cells)?;
            Ok(())
        })?;
        saved.rows = rows;
        let lost = target.without_rowid && saved.pages_lost > 0;
        self.report.tables.insert(about.name.clone(), saved);
        Ok(lost)
    }

    /// SQLite's own tables: the last numbers given are worth saving, statistics are not.
    fn internal(&mut self, about: &Object, sequence: &mut Vec<(Value, Value)>) -> Result<()> {
        let wanted = about.name.eq_ignore_ascii_case("sqlite_sequence");
        self.follow(about.root, true, &mut |_, _, cells| {
            for values in cells.into_iter().filter_map(|cell| cell.values).filter(|_| wanted) {
                if let [name @ Value::Text(_), last @ Value::Integer(_)] = values.as_slice() {
                    sequence.push((name.clone(), last.clone()));
                }
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Follows one tree and hands over its leaves; a page that cannot be one of it is left for whoever it belongs to.
    fn follow(&mut self, root: u32, in_table: bool, leaf: &mut Leaf<'_>) -> Result<Saved> {
        let (inner_kind, leaf_kind) =
            if in_table { (INNER_TABLE, LEAF_TABLE) } else { (INNER_INDEX, LEAF_INDEX) };
        let mut saved = Saved::default();
        let mut todo = vec![(root, i64::MIN, i64::MAX, 0)];
        while let Some((number, first, last, depth)) = todo.pop() {
            (self.keep_going)()?;
            let page = self.raw.page(number)?;
            let found = kind(&page, number);
            let fits =
                number > 0 && number <= self.raw.count && !self.raw.known.has(number) && depth < DEPTH_MAX;
            if !fits || (found != inner_kind && found != leaf_kind) {
                saved.pages_lost += 1;
                continue;
            }
            let (cells, damaged) = match found == inner_kind && in_table {
                true => (Vec::new(), 0),
                false => self.raw.cells(&page, number)?,
            };
            let inside = |cell: &Cell| cell.number.is_none_or(|n| first <= n && n <= last);
            if !cells.iter().all(inside) {
                // A leaf of another tree, or one whose way here is damaged.
                self.raw.forget_latest();
                saved.pages_lost += 1;
                continue;
            }
            self.raw.known.insert(number);
            saved.rows_damaged += damaged + cells.iter().filter(|cell| cell.values.is_none()).count() as u64;
            leaf(&mut self.build, number, cells)?;
            if found == inner_kind {
                let mut from = first;
                let mut below = Vec::new();
                for child in children(&page, number, self.raw.usable) {
                    let to = child.last.min(last);
                    below.push((child.page, from, to, depth + 1));
                    from = if in_table { to.saturating_add(1) } else { from };
                }
                // The first comes first.
                todo.extend(below.into_iter().rev());
            }
        }
        Ok(saved)
    }

    /// Leaves that nothing leads to.
    fn unclaimed(&mut self, bare: bool) -> Result<()> {
        for number in 2..=self.raw.count {
            (self.keep_going)()?;
            if self.raw.known.has(number) {
                continue;
            }
            let page = self.raw.page(number)?;
            let found = kind(&page, number);
            // Entries of indexes say nothing that tables do not say, unless a table is an index itself.
            if found != LEAF_TABLE && !(bare && (found == LEAF_INDEX || found == INNER_INDEX)) {
                continue;
            }
            let (cells, _) = self.raw.cells(&page, number)?;
            for cell in cells {
                if let Some(values) = &cell.values {
                    self.build.shelve(number, number, cell.number, values)?;
                }
            }
        }
        Ok(())
    }
}

/// What SQLite says of the new database, opened anew.
fn verdict(path: &Path) -> rusqlite::Result<String> {
    let db = Connection::open(path)?;
    db.execute_batch("PRAGMA trusted_schema=OFF;")?;
    db.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
}

/// Puts rows into their table; those that do not fit there are kept apart.
fn put(build: &mut Build, target: &Target, root: u32, page: u32, cells: Vec<Cell>) -> Result<u64> {
    let mut rows = 0;
    for cell in cells {
        let Some(values) = cell.values else { continue };
        match build.put(target, cell.number, &values)? {
            true => rows += 1,
            false => build.shelve(root, page, cell.number, &values)?,
        }
    }
    Ok(rows)
}

/// A row of the schema; `None` when it cannot be one.
fn object(values: &[Value]) -> Option<Object> {
    let [kind @ Value::Text(_), name @ Value::Text(_), table @ Value::Text(_), root, sql] = values else {
        return None;
    };
    let kind = kind.lossy();
    if !matches!(kind.as_str(), "table" | "index" | "view" | "trigger") {
        return None;
    }
    let root = match root {
        Value::Null => 0,
        Value::Integer(n) => u32::try_from(*n).ok()?,
        _ => return None,
    };
    let sql = match sql {
        Value::Null => None,
        Value::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
        _ => return None,
    };
    Some(Object { kind, name: name.lossy(), table: table.lossy(), root, sql })
}
