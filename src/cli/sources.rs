//! The words that say what to back up and what to leave out.

use super::failure::{Failure, usage};
use super::options::{size, stored};
use crate::backup::Input;
use crate::clock::Timestamp;
use crate::error::{Context, Result};
use crate::os::dir::status_at_path;
use crate::source::filter::{Filter, FilterOptions};
use crate::source::lists::{Form, paths};
use crate::source::roots::Root;
use crate::source::stream::StreamSource;
use crate::source::{FileSource, WalkOptions};
use clap::Args;
use std::ffi::OsString;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What is backed up.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Sources")]
pub struct SourceArgs {
    /// Files and directories; with --stdin-from-command the command
    #[arg(value_name = "PATH")]
    paths: Vec<OsString>,
    /// Patterns of paths to back up, one a line; `-` for standard input
    #[arg(long, value_name = "FILE")]
    files_from: Vec<PathBuf>,
    /// Paths to back up, one a line, taken as they are
    #[arg(long, value_name = "FILE")]
    files_from_verbatim: Vec<PathBuf>,
    /// Paths to back up, separated by NUL
    #[arg(long, value_name = "FILE")]
    files_from_raw: Vec<PathBuf>,
    /// Stay on the file systems of the sources
    #[arg(short = 'x', long)]
    one_file_system: bool,
    /// Store the one source under another path
    #[arg(long, value_name = "PATH")]
    as_path: Option<PathBuf>,
}

/// What is left out.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Excludes")]
pub struct ExcludeArgs {
    /// Leave out what matches this gitignore pattern
    #[arg(short, long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// The same, whatever the case of letters
    #[arg(long, value_name = "PATTERN")]
    iexclude: Vec<String>,
    /// Patterns, one a line
    #[arg(long, value_name = "FILE")]
    exclude_file: Vec<PathBuf>,
    /// Leave out directories marked as caches by a CACHEDIR.TAG
    #[arg(long)]
    exclude_caches: bool,
    /// Leave out what stands beside a file of this name, and beginning with HEADER
    #[arg(long, value_name = "NAME[:HEADER]")]
    exclude_if_present: Vec<String>,
    /// Leave out files larger than this
    #[arg(long, value_name = "SIZE", value_parser = size)]
    exclude_larger_than: Option<u64>,
    /// Honour .gitignore files
    #[arg(long)]
    git_ignore: bool,
}

/// A stream in place of files.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Streams")]
pub struct StreamArgs {
    /// Back up standard input
    #[arg(long)]
    stdin: bool,
    /// Back up what a command writes: --stdin-from-command -- COMMAND
    #[arg(long)]
    stdin_from_command: bool,
    /// The path of the stream in the snapshot
    #[arg(long, value_name = "PATH", default_value = "stdin")]
    stdin_filename: PathBuf,
}

impl ExcludeArgs {
    fn filter(&self) -> Result<Filter> {
        Filter::new(&self.options())
    }

    pub fn options(&self) -> FilterOptions {
        FilterOptions {
            excludes: self.exclude.clone(),
            iexcludes: self.iexclude.clone(),
            exclude_files: self.exclude_file.clone(),
            exclude_caches: self.exclude_caches,
            exclude_if_present: self.exclude_if_present.clone(),
            exclude_larger_than: self.exclude_larger_than,
            git_ignore: self.git_ignore,
            no_ignore_files: false,
        }
    }

    /// The patterns, for the record.
    pub fn patterns(&self) -> Vec<String> {
        [self.exclude.as_slice(), self.iexclude.as_slice()].concat()
    }
}

impl SourceArgs {
    fn lists(&self) -> impl Iterator<Item = (&PathBuf, Form)> {
        let patterns = self.files_from.iter().map(|f| (f, Form::Patterns));
        let verbatim = self.files_from_verbatim.iter().map(|f| (f, Form::Verbatim));
        patterns.chain(verbatim).chain(self.files_from_raw.iter().map(|f| (f, Form::Raw)))
    }

    /// Whether paths are named, by themselves or in lists.
    pub fn is_named(&self) -> bool {
        !self.paths.is_empty() || self.lists().next().is_some()
    }

    /// The same, but of these paths.
    pub fn of(&self, paths: &[PathBuf]) -> Self {
        SourceArgs { paths: paths.iter().map(|path| path.clone().into_os_string()).collect(), ..self.clone() }
    }

    fn all(&self) -> Result<Vec<PathBuf>> {
        let mut all: Vec<PathBuf> = self.paths.iter().map(PathBuf::from).collect();
        for (file, form) in self.lists() {
            let text = if file == Path::new("-") {
                let mut text = Vec::new();
                std::io::stdin().read_to_end(&mut text).context(|| "cannot read standard input")?;
                text
            } else {
                std::fs::read(file).context(|| format!("cannot read {}", file.display()))?
            };
            all.extend(paths(&text, form)?);
        }
        Ok(all)
    }

    /// The files to walk; our own directories (the repository, the cache) are passed over.
    pub fn files(
        &self,
        exclude: &ExcludeArgs,
        more: &[PathBuf],
        ours: &[PathBuf],
        started: Timestamp,
    ) -> std::result::Result<FileSource, Failure> {
        let mut typed = self.all()?;
        if self.as_path.is_none() {
            typed.extend_from_slice(more);
        }
        if typed.is_empty() {
            return Err(Failure::usage("nothing to back up; name at least one path"));
        }
        let roots = match (&self.as_path, typed.as_slice()) {
            (None, _) => typed.iter().map(|path| Root::new(path)).collect::<Result<Vec<_>>>()?,
            (Some(as_path), [one]) => vec![Root::stored_as(one, as_path).map_err(usage)?],
            (Some(_), _) => return Err(Failure::usage("--as-path needs exactly one source")),
        };
        let filter = exclude.filter().map_err(usage)?;
        let real = ours.iter().filter_map(|place| place.canonicalize().ok());
        let skip = real.filter_map(|place| status_at_path(&place).ok()).map(|s| s.id()).collect();
        let options = WalkOptions { started, one_file_system: self.one_file_system, skip };
        Ok(FileSource::new(roots, filter, options)?)
    }
}

impl StreamArgs {
    pub fn is_given(&self) -> bool {
        self.stdin || self.stdin_from_command
    }

    /// The stream asked for, if one is.
    pub fn input(&self, sources: &SourceArgs) -> std::result::Result<Option<Input>, Failure> {
        if !self.stdin && !self.stdin_from_command {
            return Ok(None);
        }
        if sources.lists().next().is_some() || sources.as_path.is_some() || sources.one_file_system {
            return Err(Failure::usage("a stream cannot be backed up together with files"));
        }
        let source = match (self.stdin_from_command, sources.paths.is_empty()) {
            _ if self.stdin && self.stdin_from_command => {
                return Err(Failure::usage("give either --stdin or --stdin-from-command"));
            }
            (true, true) => {
                return Err(Failure::usage("no command; use --stdin-from-command -- COMMAND ARGUMENT…"));
            }
            (true, false) => StreamSource::Command(sources.paths.clone()),
            (false, true) => StreamSource::Stdin,
            (false, false) => {
                return Err(Failure::usage("--stdin cannot be combined with paths"));
            }
        };
        let path = stored(self.stdin_filename.as_os_str().as_bytes())?;
        if path.is_empty() {
            return Err(Failure::usage("--stdin-filename needs a name"));
        }
        Ok(Some(Input::Stream { source, path }))
    }
}
