//! Standard input or a command's output, backed up as one file.

use crate::error::{Context, Error, ErrorKind, Result};
use crate::os::process;
use std::ffi::OsString;
use std::io::{self, Read, Stdin};
use std::process::{Child, ExitStatus, Stdio};

/// Where the bytes come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamSource {
    Stdin,
    /// A program and its arguments; what it says on standard error goes to ours.
    Command(Vec<OsString>),
}

/// A running stream. Read it to its end, then call `finish`: without that a failed command goes unnoticed.
pub struct Stream {
    from: From,
    bytes: u64,
}

enum From {
    Stdin(Stdin),
    Command { child: Child, shown: String },
}

impl StreamSource {
    pub fn open(&self) -> Result<Stream> {
        let from = match self {
            StreamSource::Stdin => From::Stdin(io::stdin()),
            StreamSource::Command(words) => start(words)?,
        };
        Ok(Stream { from, bytes: 0 })
    }
}

fn start(words: &[OsString]) -> Result<From> {
    let Some((program, arguments)) = words.split_first() else {
        return Err(Error::invalid("there is no command to read from"));
    };
    let shown = words.iter().map(|w| w.to_string_lossy()).collect::<Vec<_>>().join(" ");
    // Nothing to read on its own standard input: a command waiting for an answer there would wait for ever.
    let child = process::command(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context(|| format!("cannot run `{shown}`"))?;
    Ok(From::Command { child, shown })
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = match &mut self.from {
            From::Stdin(stdin) => stdin.read(buffer)?,
            From::Command { child, .. } => match &mut child.stdout {
                Some(out) => out.read(buffer)?,
                None => 0,
            },
        };
        self.bytes += len as u64;
        Ok(len)
    }
}

impl Stream {
    /// Waits for the command and fails unless it succeeded; answers how many bytes came.
    ///
    /// No bytes at all is not an error here: whether an empty file is worth a snapshot is for the caller to say.
    pub fn finish(mut self) -> Result<u64> {
        if let From::Command { child, shown } = &mut self.from {
            // A command still writing is told that nobody listens any more.
            drop(child.stdout.take());
            let status = child.wait().context(|| format!("cannot wait for `{shown}`"))?;
            if !status.success() {
                return Err(Error::new(ErrorKind::Io, format!("`{shown}` {}", ended(status))));
            }
        }
        Ok(self.bytes)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Given up half way: the command must not run on unseen. After `finish` there is nothing left to stop.
        if let From::Command { child, .. } = &mut self.from
            && matches!(child.try_wait(), Ok(None))
        {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn ended(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("failed with exit status {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended without an exit status".to_owned(),
    }
}
