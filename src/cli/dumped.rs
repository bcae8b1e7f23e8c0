//! `dump --sql` and `dump --table`: a stored database, or one table of it, as SQL, CSV or JSON.

use super::commands::dump::Sink;
use super::context::Context;
use super::failure::{Failure, Outcome};
use super::options::AtArgs;
use super::rows::{Shape, Sheet};
use super::stop::Stop;
use super::stored::Stored;
use super::terminal::Watch;
use crate::error::{Context as _, Result};
use crate::sqlite::dump::Dump;
use crate::sqlite::query::{Reading, quoted};
use crate::sqlite::schema::{Object, named, objects, table};
use clap::Args;
use std::cell::RefCell;
use std::ffi::OsStr;
use std::io::Write;
use std::path::PathBuf;

/// Databases by their rows.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Databases")]
pub struct RowArgs {
    /// Write a database as SQL that makes it again: `dump SNAP:app.db --sql | sqlite3 new.db`
    #[arg(long)]
    sql: bool,
    /// Write the rows of one table: as SQL, or with --csv or --json
    #[arg(long, value_name = "TABLE")]
    table: Option<String>,
    /// With --table: write CSV; NULL is an empty field, empty text "", a blob its hex digits
    #[arg(long, conflicts_with_all = ["sql", "json"], requires = "table")]
    csv: bool,
}

impl RowArgs {
    pub fn wanted(&self) -> bool {
        self.sql || self.table.is_some()
    }
}

/// Where to find it, and where to write it.
pub struct Wish<'a> {
    pub at: &'a AtArgs,
    pub target: Option<&'a OsStr>,
    pub second: Option<&'a [u8]>,
    pub file: Option<&'a PathBuf>,
}

pub fn run(context: &Context, args: &RowArgs, wish: &Wish<'_>) -> Outcome {
    if args.sql && context.output.json {
        return Err(Failure::usage("--sql writes SQL; use --table TABLE with --json"));
    }
    let repository = context.open()?;
    let mut watch = Watch::beside_results(context);
    let text = wish.target.unwrap_or_default();
    let stored = Stored::find(context, &repository, wish.at, text, wish.second)?;
    let reading = stored.open(&watch.progress)?;
    let all = objects(&reading).context(|| stored.shown())?;
    let only = args.table.as_ref().map(|name| named(&all, name)).transpose().context(|| stored.shown())?;
    let mut out = Sink::open(wish.file, false)?;
    let shape = match (context.output.json, args.csv) {
        (true, _) => Some(Shape::Json),
        (_, true) => Some(Shape::Csv),
        _ => None,
    };
    let mut stop = Stop::default();
    let written = match (shape, only) {
        (Some(shape), Some(only)) => rows(&reading, only, Sheet::new(&mut out, shape), &mut stop),
        _ => Dump::new(&reading, &mut out).and_then(|mut dump| dump.run(only)),
    };
    let written = written.and_then(|()| out.flush().context(|| "cannot write the output"));
    watch.finish();
    context.warn_of_mended(&stored.reader);
    match stop.or(written.context(|| stored.shown())) {
        Err(_) if out.closed() => Err(Failure { code: 0, message: None }),
        done => done.map(|()| 0),
    }
}

/// All rows in the order of the table.
fn rows(reading: &Reading, object: &Object, sheet: Sheet<'_>, stop: &mut Stop) -> Result<()> {
    let name = quoted(&object.name);
    let sql = match object.is_virtual() {
        true => format!("SELECT * FROM {name}"),
        // Generated columns are left out, as everywhere; an index would give the rows in another order.
        false => {
            let columns = table(reading, object)?.column_names();
            let list = columns.iter().map(|column| quoted(column)).collect::<Vec<_>>().join(",");
            format!("SELECT {list} FROM {name} NOT INDEXED")
        }
    };
    let shared = RefCell::new((sheet, stop));
    reading.ask(
        &sql,
        &[],
        &mut |names| {
            let (sheet, stop) = &mut *shared.borrow_mut();
            stop.at(sheet.columns(names))
        },
        &mut |row| {
            let (sheet, stop) = &mut *shared.borrow_mut();
            stop.at(sheet.row(row))
        },
    )?;
    let (mut sheet, stop) = shared.into_inner();
    stop.at(sheet.end())
}
