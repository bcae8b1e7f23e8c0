//! `sql`: a question to a stored database, answered where it lies.

use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome, USAGE};
use crate::cli::options::{AtArgs, size};
use crate::cli::rows::{Shape, Sheet};
use crate::cli::stop::Stop;
use crate::cli::stored::Stored;
use crate::cli::terminal::Watch;
use crate::error::{Error, ErrorKind};
use crate::sqlite::query::limit_memory;
use crate::sqlite::schema::{nearest, objects};
use crate::units;
use std::ffi::OsString;
use std::io::{BufWriter, IsTerminal};

/// Ask a database in a snapshot; only what the answer needs is read, and nothing is written anywhere
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The database
    #[arg(value_name = "SNAP:PATH")]
    target: OsString,
    /// One statement that only reads
    #[arg(value_name = "SQL")]
    sql: String,
    #[command(flatten)]
    at: AtArgs,
    /// Write CSV: NULL is an empty field, empty text "", a blob its hex digits
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Memory that sorting and grouping may take
    #[arg(long, value_name = "SIZE", default_value = "512M", value_parser = size)]
    memory: u64,
}

pub fn run(context: &Context, args: &Args) -> Outcome {
    let repository = context.open()?;
    let mut watch = Watch::beside_results(context);
    let stored = Stored::find(context, &repository, &args.at, &args.target, None)?;
    limit_memory(args.memory)?;
    let reading = stored.open(&watch.progress)?;
    let mut out = BufWriter::with_capacity(64 << 10, std::io::stdout());
    let mut sheet = Sheet::new(&mut out, shape(context, args.csv));
    let mut stop = Stop::default();
    let asked = {
        // Both closures write on the same sheet, one after the other.
        let shared = std::cell::RefCell::new((&mut sheet, &mut stop));
        reading.ask(
            &args.sql,
            &[],
            &mut |names| {
                let (sheet, stop) = &mut *shared.borrow_mut();
                stop.at(sheet.columns(names))
            },
            &mut |row| {
                let (sheet, stop) = &mut *shared.borrow_mut();
                stop.at(sheet.row(row))
            },
        )
    };
    // What was found before anything went wrong is worth having.
    let told = sheet.end();
    watch.finish();
    context.warn_of_mended(&stored.reader);
    context.output.detail(&format!(
        "{} read of a database of {}",
        units::bytes(reading.bytes_read()),
        units::bytes(stored.entry.content.size)
    ));
    let wrong = matches!(&asked, Err(e) if e.kind() == ErrorKind::Invalid);
    // SQL that cannot be carried out is the asker's to mend.
    let asked = asked.map_err(|e| {
        match missing(e.message()).and_then(|name| Some((name, objects(&reading).ok()?))) {
            Some((name, all)) if wrong => match nearest(&all, name) {
                Some(other) => Error::invalid(format!("{}; did you mean `{other}`?", e.message())),
                None => e,
            },
            _ => e,
        }
    });
    stop.or(asked.map_err(|e| if e.kind() == ErrorKind::Corrupt { e.context(stored.shown()) } else { e }))
        .map_err(|failure| if wrong { Failure { code: USAGE, ..failure } } else { failure })?;
    told.map(|()| 0)
}

/// The table that SQLite did not find.
fn missing(message: &str) -> Option<&str> {
    message.split_once("no such table: ").map(|(_, name)| name.trim_start_matches("main."))
}

/// How rows are to be written to standard output.
pub fn shape(context: &Context, csv: bool) -> Shape {
    match (context.output.json, csv) {
        (true, _) => Shape::Json,
        (_, true) => Shape::Csv,
        // Nothing is cut off for a program that reads on.
        _ if !std::io::stdout().is_terminal() => Shape::Table(usize::MAX),
        _ => Shape::Table(context.output.width()),
    }
}
