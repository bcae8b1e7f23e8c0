//! `audit`: a database against its export as JSON.

use crate::audit::export::Export;
use crate::audit::map::Map;
use crate::audit::place::{Live, Stored as StoredExport};
use crate::audit::plan::Plan;
use crate::audit::run::{Options, run as compare};
use crate::audit::{describe, infer, text};
use crate::cli::audits::{self, Format};
use crate::cli::context::Context;
use crate::cli::failure::{FAILED, Failure, Outcome, USAGE, VALIDATION, usage};
use crate::cli::names::escape;
use crate::cli::options::{AtArgs, size};
use crate::cli::stored::Stored;
use crate::cli::terminal::Watch;
use crate::clock::Clock;
use crate::codes::Code;
use crate::compare::rows::with_live;
use crate::error::{Context as _, Error, ErrorKind, Result};
use crate::progress::Progress;
use crate::repository::Repository;
use crate::repository::snapshots::list;
use crate::sqlite::ffi::open_bytes;
use crate::sqlite::query::{Reading, limit_memory};
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const AFTER_HELP: &str = "\
Either side may be a file here or SNAP:PATH in a snapshot. The export is one JSON file (an array, or an object of
arrays), JSON Lines, or a directory of files. Exit code 0: equal; 24: not equal, or the export is not sound; 2: the map
does not fit; 20: the database or the snapshot is damaged.

  snapkeep audit app.db export.json --infer > map.toml     a first map; look through it
  snapkeep audit app.db export.json --map map.toml
  snapkeep audit --describe --map map.toml > mapping.md";

/// Compare a database with its export as JSON: counts, keys, and every field, by a map between the two
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// The database
    #[arg(value_name = "DB|SNAP:PATH", required_unless_present = "describe")]
    database: Option<OsString>,
    /// The export
    #[arg(value_name = "EXPORT|SNAP:PATH", required_unless_present = "describe")]
    export: Option<OsString>,
    /// Which table is where in the export, and which column is which field (TOML)
    #[arg(long, value_name = "FILE", required_unless_present = "infer")]
    map: Option<PathBuf>,
    /// Propose a map from what is in both, and write it to standard output
    #[arg(long, conflicts_with_all = ["map", "describe", "sample"])]
    infer: bool,
    /// Write the map as documentation (Markdown); with DB and EXPORT it must fit the database
    #[arg(long, conflicts_with = "sample")]
    describe: bool,
    /// Compare N records of each table, chosen at random from both sides; counts are those of all
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    sample: Option<u64>,
    /// Choose the sample by this number, as another audit printed it
    #[arg(long, value_name = "NUMBER", requires = "sample")]
    seed: Option<u64>,
    /// How to write the report
    #[arg(long, value_name = "text|json|markdown", value_parser = ["text", "json", "markdown"])]
    format: Option<String>,
    /// Write the report into FILE; without --format its ending (.json, .md) says how
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Mismatches of each table that are told one by one; all are counted
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Memory that sorting may take; what does not fit goes to temporary files
    #[arg(long, value_name = "SIZE", default_value = "128M", value_parser = size)]
    memory: u64,
    #[command(flatten)]
    at: AtArgs,
}

/// What is done with both sides once they are open. Nothing is told before it is certain that both held still.
type Work<'a> = dyn FnMut(&Reading, &mut dyn Export, &Progress) -> Result<Ending> + 'a;

/// How it ends.
enum Ending {
    /// What to write, and what to say beside it when that goes into a file; the exit code.
    Told { text: String, summary: String, code: u8 },
    /// The export is not sound.
    Fault(String),
}

pub fn run(context: &Context, args: &Args) -> Outcome {
    let map = args.map.as_deref().map(read_map).transpose()?;
    let (Some(database), Some(export)) = (&args.database, &args.export) else {
        return match (map, &args.database) {
            (Some(map), None) => audits::page(context, &describe::markdown(&map)).map(|()| 0),
            _ => Err(Failure::usage("name both the database and the export, or neither")),
        };
    };
    keep_apart(args, database, export)?;
    // SQLite needs some for its pages even where nothing is sorted.
    limit_memory(args.memory.saturating_add(64 << 20))?;
    let good = |text: String| Ending::Told { text, summary: String::new(), code: 0 };
    let mut work = |reading: &Reading, export: &mut dyn Export, progress: &Progress| -> Result<Ending> {
        let Some(map) = &map else {
            let (text, remarks) = infer::map(reading, export, progress)?;
            remarks.iter().for_each(|remark| context.output.warn(Code::MapGuessed, remark));
            return Ok(good(text));
        };
        let plan = Plan::new(reading, map)?;
        if args.describe {
            return Ok(good(describe::markdown(map)));
        }
        judge(context, args, map, &plan, reading, export, progress)
    };
    let (text, summary, code) = match both(context, args, database, export, &mut work)? {
        Ending::Told { text, summary, code } => (text, summary, code),
        Ending::Fault(fault) => return Err(Failure::new(VALIDATION, fault)),
    };
    let told = match args.report.as_ref().filter(|_| !context.global.dry_run) {
        None => audits::page(context, &text),
        Some(file) => {
            std::fs::write(file, text).context(|| format!("cannot write {}", file.display()))?;
            audits::page(context, &summary)
        }
    };
    context.output.ends(told, code)
}

/// Compares.
fn judge(
    context: &Context,
    args: &Args,
    map: &Map,
    plan: &Plan<'_>,
    reading: &Reading,
    export: &mut dyn Export,
    progress: &Progress,
) -> Result<Ending> {
    let scratch = context.cache().unwrap_or_else(std::env::temp_dir);
    let seed = args.seed.unwrap_or_else(|| fresh_seed(context));
    let options = Options {
        sample: args.sample.map(|n| (n, seed)),
        limit: args.limit as usize,
        memory: args.memory,
        scratch: &scratch,
    };
    let report = match compare(reading, export, map, plan, &options, progress)? {
        Ok(report) => report,
        Err(fault) => return Ok(Ending::Fault(fault)),
    };
    let (bytes, spilled) = (reading.bytes_read(), report.spilled);
    context.output.detail(&format!(
        "{} of the database read, {} sorted on disk",
        crate::units::bytes(bytes),
        crate::units::bytes(spilled)
    ));
    let names = [&args.database, &args.export]
        .map(|name| name.as_ref().map(|n| escape(n.as_bytes())).unwrap_or_default());
    let format = Format::chosen(args.format.as_deref(), args.report.as_deref(), context.output.json);
    let text = audits::written(&report, plan, &names, format);
    let code = if report.is_equal() { 0 } else { VALIDATION };
    let to_people = if context.output.json { Format::Json } else { Format::Text };
    Ok(Ending::Told { text, summary: audits::summary(&report, &names, to_people), code })
}

/// Small enough for every reader of JSON.
fn fresh_seed(context: &Context) -> u64 {
    crate::crypto::hash::short(&context.clock.now().nanoseconds().to_le_bytes()) >> 16
}

fn read_map(path: &Path) -> std::result::Result<Map, Failure> {
    let shown = escape(path.as_os_str().as_bytes());
    let cannot = || format!("cannot read {shown}");
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).context(cannot)?;
    file.take(text::BYTES_MAX as u64 + 1).read_to_end(&mut bytes).context(cannot)?;
    text::parse(&bytes).map_err(|e| usage(e.context(shown)))
}

/// A report must not take the place of what it is about.
fn keep_apart(args: &Args, database: &OsStr, export: &OsStr) -> std::result::Result<(), Failure> {
    let Some(report) = args.report.as_deref().and_then(|path| std::fs::metadata(path).ok()) else {
        return Ok(());
    };
    let others = [Some(database), Some(export), args.map.as_deref().map(Path::as_os_str)];
    let is_it = |other: &&OsStr| {
        std::fs::metadata(other).is_ok_and(|o| (o.dev(), o.ino()) == (report.dev(), report.ino()))
    };
    match others.into_iter().flatten().find(is_it) {
        Some(other) => {
            let what = format!(
                "the report would overwrite {}; give --report another name",
                escape(other.as_bytes())
            );
            Err(Failure::usage(what))
        }
        None => Ok(()),
    }
}

/// A path is what has no colon before its first slash, or begins with a dot.
fn is_stored(text: &OsStr) -> bool {
    let bytes = text.as_bytes();
    let head = bytes.split(|b| *b == b'/').next().unwrap_or_default();
    bytes.starts_with(b"@") || (head.contains(&b':') && !bytes.starts_with(b"."))
}

/// Opens both sides; a database in use is held in one state while `work` goes on.
fn both(
    context: &Context,
    args: &Args,
    database: &OsStr,
    export: &OsStr,
    work: &mut Work<'_>,
) -> std::result::Result<Ending, Failure> {
    let repository = match is_stored(database) || is_stored(export) {
        true => Some(context.open()?),
        false => None,
    };
    let mut watch = Watch::beside_results(context);
    let mut opened = match (&repository, is_stored(export)) {
        (Some(repository), true) => stored_export(context, args, repository, export)?,
        _ => Box::new(Live::at(Path::new(export)).map_err(missing)?),
    };
    let ended = match &repository {
        Some(repository) if is_stored(database) => {
            let stored = Stored::find(context, repository, &args.at, database, None)?;
            let reading = stored.open(&watch.progress)?;
            let done = work(&reading, opened.as_mut(), &watch.progress);
            context.warn_of_mended(&stored.reader);
            done.map_err(|e| if e.kind() == ErrorKind::Corrupt { e.context(stored.shown()) } else { e })
        }
        _ => live(context, database, opened.as_mut(), &watch.progress, work)?,
    };
    watch.finish();
    match ended {
        Ok(ending) => Ok(ending),
        // What does not fit is the asker's to mend.
        Err(e) if e.kind() == ErrorKind::Invalid => Err(Failure::new(USAGE, e.message())),
        Err(e) => Err(e.into()),
    }
}

fn missing(e: Error) -> Failure {
    Failure::new(FAILED, e.message())
}

fn stored_export(
    context: &Context,
    args: &Args,
    repository: &Arc<Repository>,
    export: &OsStr,
) -> std::result::Result<Box<dyn Export>, Failure> {
    let target = args.at.target(&list(repository)?, Some(export), context.now())?;
    let Some(path) = &target.path else { return Err(Failure::usage("name the export: SNAP:PATH")) };
    let reader = Arc::new(repository.reader()?.with_parity());
    Ok(Box::new(StoredExport::at(reader, target.snapshot.root, path)?))
}

fn live(
    context: &Context,
    database: &OsStr,
    export: &mut dyn Export,
    progress: &Progress,
    work: &mut Work<'_>,
) -> std::result::Result<Result<Ending>, Failure> {
    let shown = escape(database.as_bytes());
    let path =
        std::fs::canonicalize(database).context(|| format!("cannot look at {shown}")).map_err(missing)?;
    if !path.is_file() {
        return Err(Failure::new(FAILED, format!("{shown} is no file")));
    }
    let scratch = context.cache().unwrap_or_else(std::env::temp_dir);
    let mut opened = false;
    let done = with_live(&path, &scratch, &context.clock, progress, &mut |pin| {
        let reading = Reading::new(open_bytes(Box::new(pin.image.clone()))?, progress.stop_flag())?;
        opened = true;
        work(&reading, export, progress)
    });
    Ok(match opened {
        true => done,
        false => done.context(|| shown),
    })
}
