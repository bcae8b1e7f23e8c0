//! `dump`: one file, or a directory as an archive, to standard output or into a file.

use crate::archive::{write_content, write_tar};
use crate::cli::context::Context;
use crate::cli::databases;
use crate::cli::dumped;
use crate::cli::failure::{FAILED, Failure, Outcome, usage};
use crate::cli::names::shown;
use crate::cli::options::{AtArgs, Target, stored};
use crate::cli::restore_key;
use crate::cli::terminal::Watch;
use crate::codes::Code;
use crate::error::{Context as _, Result};
use crate::format::entry::Kind;
use crate::json::pointer::Pointer;
use crate::manifest::walk::find;
use crate::repository::reader::Reader;
use crate::repository::snapshots::list;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufWriter, ErrorKind, IsTerminal, Result as IoResult, Stdout, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// Write a file, or a directory as a tar archive, to standard output
#[derive(clap::Args, Debug)]
pub struct Args {
    /// What to write; names in the archive begin below PATH
    #[arg(value_name = "SNAP[:PATH]")]
    target: Option<OsString>,
    /// The same in a second word; names in the archive begin at the top
    #[arg(id = "second", value_name = "PATH")]
    path: Option<OsString>,
    #[command(flatten)]
    at: AtArgs,
    /// Only the value at this JSON pointer (/a/b) of a JSON file
    #[arg(long, value_name = "POINTER")]
    key: Option<String>,
    /// The archive's format
    #[arg(short, long, value_name = "FORMAT", value_parser = ["tar"], default_value = "tar")]
    archive: String,
    /// Write into FILE
    #[arg(short, long = "target", value_name = "FILE")]
    target_file: Option<PathBuf>,
    #[command(flatten)]
    rows: dumped::RowArgs,
}

pub fn run(context: &Context, args: &Args) -> Outcome {
    let second = args.path.as_ref().map(|p| stored(p.as_bytes())).transpose()?;
    if args.rows.wanted() {
        let (at, target, file) = (&args.at, args.target.as_deref(), args.target_file.as_ref());
        return dumped::run(
            context,
            &args.rows,
            &dumped::Wish { at, target, second: second.as_deref(), file },
        );
    }
    let repository = context.open()?;
    let listing = list(&repository)?;
    let mut target = args.at.target(&listing, args.target.as_deref(), context.now())?;
    let (path, relative) = match (target.path.clone(), second) {
        (Some(_), Some(_)) => return Err(Failure::usage("a path is named twice")),
        (Some(path), None) => (path, true),
        (None, Some(path)) => (path, false),
        (None, None) => {
            return Err(Failure::usage("no path is named; use SNAP:PATH, or SNAP:/ for everything"));
        }
    };
    for warning in databases::avoid_damaged(&listing, &mut target, &path) {
        context.output.warn(Code::SnapshotAvoided, &warning);
    }
    let reader = repository.reader()?.with_parity();
    if let Some(key) = &args.key {
        let target = Target { path: Some(path), ..target };
        return value(context, &reader, &target, key, args.target_file.as_ref());
    }
    let entry = if path.is_empty() { None } else { find(&reader, &target.snapshot.root, &path)? };
    let file = match &entry {
        Some(entry) if entry.is_file() => Some(entry),
        Some(entry) if entry.is_dir() => None,
        None if path.is_empty() => None,
        other => {
            let why = match other {
                Some(entry) if matches!(entry.kind, Kind::Symlink(_)) => "is a link",
                Some(_) => "is neither a file nor a directory",
                None => "is not in the snapshot",
            };
            return Err(Failure::new(FAILED, format!("{} {why}", shown(&path))));
        }
    };
    let mut out = Sink::open(args.target_file.as_ref(), file.is_none())?;
    let mut watch = Watch::beside_results(context);
    let root = &target.snapshot.root;
    let written = match file {
        Some(entry) => write_content(&reader, entry, &mut out),
        None => write_tar(&reader, root, &path, relative, &mut out, &watch.progress, &watch.report),
    };
    let written = written.and_then(|()| out.flush().context(|| "cannot write the output"));
    watch.finish();
    context.warn_of_mended(&reader);
    match written {
        Ok(()) => Ok(0),
        Err(_) if out.closed => Err(Failure { code: 0, message: None }),
        Err(e) => Err(e.into()),
    }
}

/// One value, as it is written in the file, and a line feed.
fn value(context: &Context, reader: &Reader, from: &Target, key: &str, to: Option<&PathBuf>) -> Outcome {
    let pointer = Pointer::parse(key).map_err(usage)?;
    let entry = restore_key::stored_file(reader, from)?;
    let text = restore_key::stored_text(reader, &entry)?;
    context.warn_of_mended(reader);
    let name = shown(&entry.path);
    let doc = restore_key::parsed(&text, &name)?;
    let found = restore_key::value(&doc, &pointer, &name)?;
    let mut out = Sink::open(to, false)?;
    let written = out.write_all(doc.raw(found)).and_then(|()| out.write_all(b"\n"));
    match written.and_then(|()| out.flush()) {
        Err(_) if out.closed => Err(Failure { code: 0, message: None }),
        other => other.context(|| "cannot write the output").map(|()| 0).map_err(Failure::from),
    }
}

/// Where the bytes go; remembers whether the reader went away.
pub struct Sink {
    to: To,
    closed: bool,
}

enum To {
    File(BufWriter<File>),
    Stdout(BufWriter<Stdout>),
}

impl Sink {
    pub fn open(path: Option<&PathBuf>, archive: bool) -> std::result::Result<Self, Failure> {
        let to = match path {
            Some(path) => To::File(BufWriter::new(create(path)?)),
            None if archive && std::io::stdout().is_terminal() => {
                return Err(Failure::usage("an archive is not for a terminal; redirect it or give --target"));
            }
            None => To::Stdout(BufWriter::with_capacity(256 << 10, std::io::stdout())),
        };
        Ok(Sink { to, closed: false })
    }

    /// Whether the reader went away.
    pub fn closed(&self) -> bool {
        self.closed
    }

    fn noted<T>(&mut self, result: IoResult<T>) -> IoResult<T> {
        self.closed |= result.as_ref().is_err_and(|e| e.kind() == ErrorKind::BrokenPipe);
        result
    }
}

fn create(path: &PathBuf) -> Result<File> {
    let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path);
    file.context(|| format!("cannot write {}", path.display()))
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> IoResult<usize> {
        let result = match &mut self.to {
            To::File(file) => file.write(bytes),
            To::Stdout(stdout) => stdout.write(bytes),
        };
        self.noted(result)
    }

    fn flush(&mut self) -> IoResult<()> {
        let result = match &mut self.to {
            To::File(file) => file.flush(),
            To::Stdout(stdout) => stdout.flush(),
        };
        self.noted(result)
    }
}
