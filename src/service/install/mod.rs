//! Schedules handed to the machine: timers of systemd's, or a line for cron. Secrets stand in neither.

pub mod cron;
pub mod systemd;

use crate::error::{Context, Error, ErrorKind, Result};
use crate::os::child::find;
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// How our own program is called for a profile, from a place where nothing is as in a terminal.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Absolute.
    pub program: PathBuf,
    /// The profile's file, absolute.
    pub profile: PathBuf,
    pub state_dir: Option<PathBuf>,
    /// Variables that say where this user's files are: `HOME` and XDG's.
    pub variables: Vec<(&'static str, OsString)>,
}

impl Caller {
    /// The program and its words, the ones given last.
    pub fn words(&self, last: &[&str]) -> Vec<OsString> {
        let mut words: Vec<OsString> =
            vec![self.program.clone().into(), "--use-profile".into(), self.profile.clone().into()];
        if let Some(dir) = &self.state_dir {
            words.extend(["--state-dir".into(), dir.clone().into()]);
        }
        words.extend(last.iter().map(OsString::from));
        words
    }
}

/// Text for a file that others parse: UTF-8, and no character that ends a line.
fn plain<'a>(what: &str, text: &'a OsStr) -> Result<&'a str> {
    text.to_str().filter(|text| !text.chars().any(char::is_control)).ok_or_else(|| {
        Error::invalid(format!(
            "{what} `{}` holds what no unit and no crontab can say; rename it",
            text.display()
        ))
    })
}

/// Runs a program of the system's and answers what it said; `input` goes to its standard input.
fn ask(program: &str, words: &[&str], input: Option<&[u8]>) -> Result<Output> {
    let failed = || format!("cannot run {program}");
    if find(OsStr::new(program)).is_err() {
        return Err(Error::new(ErrorKind::Unsupported, format!("there is no {program} on this machine")));
    }
    let mut command = Command::new(program);
    command.args(words).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child = command.spawn().context(failed)?;
    if let (Some(input), Some(mut pipe)) = (input, child.stdin.take()) {
        // A program that has had enough says why by its exit code.
        let _ = pipe.write_all(input);
    }
    child.wait_with_output().context(failed)
}

/// As `ask`, for what has to go well.
fn must(program: &str, words: &[&str], input: Option<&[u8]>) -> Result<Output> {
    let output = ask(program, words, input)?;
    if output.status.success() {
        return Ok(output);
    }
    let told = String::from_utf8_lossy(&output.stderr);
    let why = told.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it did not say why");
    let what = format!("`{program} {}` failed: {why}", words.join(" "));
    Err(Error::new(ErrorKind::Io, what))
}

/// Whether the machine is run by systemd and its tool is there.
pub fn has_systemd() -> bool {
    Path::new("/run/systemd/system").is_dir() && find(OsStr::new("systemctl")).is_ok()
}

pub fn has_cron() -> bool {
    find(OsStr::new("crontab")).is_ok()
}
