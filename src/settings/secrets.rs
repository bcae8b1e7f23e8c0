//! Where a password comes from, other than from a person at a terminal.

use crate::crypto::password::Password;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::os::process;
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use zeroize::Zeroizing;

/// Longer passwords are a mistake: another file was named.
const MAX_BYTES: u64 = 64 << 10;

/// A place that holds a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A variable of our own environment; never handed on to programs we start.
    Variable(&'static str),
    File(PathBuf),
    /// Run by the shell; the first line it writes counts.
    Command(String),
}

/// Reads the password; `warn` hears what is unwise about the place.
pub fn read(source: &Source, warn: &mut dyn FnMut(String)) -> Result<Password> {
    match source {
        Source::Variable(name) => {
            let value = std::env::var_os(name).unwrap_or_default();
            Password::new(value.into_vec()).context(|| name)
        }
        Source::File(path) => read_file(path, warn),
        Source::Command(text) => run(text),
    }
}

fn read_file(path: &Path, warn: &mut dyn FnMut(String)) -> Result<Password> {
    let shown = path.display();
    let failed = || format!("cannot read the password file {shown}");
    let file = std::fs::File::open(path).context(failed)?;
    let meta = file.metadata().context(failed)?;
    if meta.is_file() && meta.mode() & 0o077 != 0 {
        warn(format!("other users can read the password file {shown}; `chmod 600` it"));
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).context(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::invalid(format!("{shown} is too long to be a password file")));
    }
    Password::new(std::mem::take(&mut *bytes)).context(|| shown.to_string())
}

fn run(text: &str) -> Result<Password> {
    let output = process::command(OsStr::new("/bin/sh"))
        .arg("-c")
        .arg(text)
        .stdin(Stdio::inherit())
        .stderr(Stdio::inherit())
        .output()
        .context(|| "cannot run the password command")?;
    let mut bytes = Zeroizing::new(output.stdout);
    if !output.status.success() {
        let why = format!("the password command failed: {}", output.status);
        return Err(Error::new(ErrorKind::Io, why));
    }
    if let Some(end) = bytes.iter().position(|b| *b == b'\n') {
        bytes.truncate(end);
    }
    Password::new(std::mem::take(&mut *bytes)).context(|| "the password command")
}
