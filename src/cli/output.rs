//! What the program says: results on standard output, everything else on standard error, as text or JSON.

use super::failure::Failure;
use super::json::Message;
use super::names::escape;
use super::options::Global;
use crate::clock::{Clock, SystemClock};
use crate::codes::Code;
use crate::error::{Context, Result};
use crate::repository::segments::Tended;
use crate::units::{bytes, counted};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Columns of a terminal nobody can ask for its width.
const USUAL_WIDTH: usize = 80;

/// Runs a piece of writing while the progress bar is out of its way.
pub type Above = Box<dyn Fn(&dyn Fn()) + Send>;

/// How to speak, and to whom.
pub struct Output {
    pub json: bool,
    pub quiet: bool,
    pub verbose: u8,
    colour: bool,
    log: Option<Mutex<File>>,
    above: Mutex<Option<Above>>,
    aside: AtomicBool,
    /// How often each code was told.
    codes: Mutex<BTreeMap<Code, u64>>,
}

/// Results on their way to standard output.
pub struct Paper {
    out: BufWriter<Box<dyn Write>>,
}

impl Paper {
    pub fn line(&mut self, text: &str) -> std::result::Result<(), Failure> {
        self.bytes(text.as_bytes())?;
        self.bytes(b"\n")
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> std::result::Result<(), Failure> {
        self.out.write_all(bytes).map_err(|e| Failure::output(&e))
    }

    pub fn json<T: Serialize>(&mut self, value: &T) -> std::result::Result<(), Failure> {
        self.line(&to_json(value))
    }

    /// Everything must have left before a command has succeeded.
    pub fn finish(mut self) -> std::result::Result<(), Failure> {
        self.out.flush().map_err(|e| Failure::output(&e))
    }
}

fn to_json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

impl Output {
    pub fn new(global: &Global) -> Result<Self> {
        let log = match &global.log_file {
            None => None,
            Some(path) => {
                let file = File::options().append(true).create(true).mode(0o600).open(path);
                Some(Mutex::new(file.context(|| format!("cannot write the log file {}", path.display()))?))
            }
        };
        let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
            || std::env::var_os("TERM").is_some_and(|t| t == "dumb");
        Ok(Output {
            json: global.json,
            quiet: global.quiet,
            verbose: global.verbose,
            colour: !plain,
            log,
            above: Mutex::default(),
            aside: AtomicBool::new(false),
            codes: Mutex::default(),
        })
    }

    pub fn paper(&self) -> Paper {
        let out: Box<dyn Write> = match self.aside.load(Ordering::Relaxed) {
            true => Box::new(std::io::stderr()),
            false => Box::new(std::io::stdout()),
        };
        Paper { out: BufWriter::with_capacity(64 << 10, out) }
    }

    /// Standard output belongs to another program from now on, so that words for people go to standard error.
    pub fn step_aside(&self) {
        self.aside.store(!self.json, Ordering::Relaxed);
    }

    /// One finished JSON object or line of a result, at once.
    pub fn result<T: Serialize>(&self, value: &T) -> std::result::Result<(), Failure> {
        let mut paper = self.paper();
        paper.json(value)?;
        paper.finish()
    }

    /// As `result`, from an operation that goes on whether or not somebody listens.
    pub fn passing<T: Serialize>(&self, value: &T) {
        let _ = self.result(value);
    }

    /// A line for people about what was done; not with `--quiet` and not among JSON.
    pub fn say(&self, text: &str) -> std::result::Result<(), Failure> {
        if self.quiet || self.json {
            return Ok(());
        }
        let mut paper = self.paper();
        paper.line(text)?;
        paper.finish()
    }

    /// The end of a command whose words are all its work: a reader who has had enough changes nothing about how
    /// it ends.
    pub fn ends(&self, told: std::result::Result<(), Failure>, code: u8) -> std::result::Result<u8, Failure> {
        match told {
            Ok(()) | Err(Failure { message: None, .. }) => Ok(code),
            Err(failure) => Err(failure),
        }
    }

    /// The end of work that is done whether or not its story could be told.
    pub fn told(&self, told: std::result::Result<(), Failure>, code: u8) -> u8 {
        if let Err(Failure { message: Some(message), .. }) = told {
            self.warn(Code::OutputUnwritable, &message);
        }
        code
    }

    /// A line on standard error for those who asked for more.
    pub fn detail(&self, text: &str) {
        self.log("info", text);
        if self.verbose > 0 && !self.json {
            self.stderr(&one_line(text));
        }
    }

    /// Something to look at that stops nothing.
    pub fn warn(&self, code: Code, text: &str) {
        self.count(code);
        self.log("warning", &format!("{text} [{code}]"));
        if self.json {
            self.stderr(&to_json(&Message::new("warning").with("message", text).with("code", code.word())));
        } else {
            let warning = self.painted(Paint::Yellow, "warning:");
            self.stderr(&format!("{warning} {} [{code}]", one_line(text)));
        }
    }

    /// One item that could not be handled; the operation goes on.
    pub fn problem(&self, during: &str, item: &[u8], text: &str) {
        let code = Code::during(during, true);
        self.count(code);
        let text = &naming(item, text);
        self.log("error", &format!("{text} [{code}]"));
        if !self.json {
            self.stderr(&format!("{} {} [{code}]", self.painted(Paint::Red, "error:"), one_line(text)));
            return;
        }
        let error = Message::default().with("message", text.as_str());
        let error = serde_json::to_value(error).unwrap_or_default();
        let message =
            Message::new("error").with("error", error).with("during", during).with("code", code.word());
        self.stderr(&to_json(&message.with_path("item", "item_b64", item)));
    }

    /// As `warn`, for the log alone.
    pub fn hush(&self, code: Code, text: &str) {
        self.count(code);
        self.log("warning", &format!("{text} [{code}]"));
    }

    fn count(&self, code: Code) {
        *self.codes.lock().unwrap_or_else(PoisonError::into_inner).entry(code).or_default() += 1;
    }

    /// How often each code was told so far, by its word.
    pub fn codes_told(&self) -> BTreeMap<String, u64> {
        let codes = self.codes.lock().unwrap_or_else(PoisonError::into_inner);
        codes.iter().map(|(code, count)| (code.word().to_owned(), *count)).collect()
    }

    /// The last word of a command that failed.
    pub fn exit_error(&self, code: u8, message: &str) {
        self.log("error", message);
        if self.json || !self.colour {
            exit_error_bare(self.json, code, message);
        } else {
            self.stderr(&format!("{} {}", self.painted(Paint::Red, "error:"), one_line(message)));
        }
    }

    fn stderr(&self, text: &str) {
        let write = || {
            // Nobody is left to tell when this fails.
            let _ = writeln!(std::io::stderr(), "{text}");
        };
        match self.above.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            Some(above) => above(&write),
            None => write(),
        }
    }

    /// From now on lines are written by way of this; there is a progress bar.
    pub fn write_above(&self, above: Option<Above>) {
        *self.above.lock().unwrap_or_else(PoisonError::into_inner) = above;
    }

    pub fn log(&self, level: &str, text: &str) {
        if let Some(log) = &self.log {
            let line = format!("{} {level}: {}\n", SystemClock.now().rfc3339(), one_line(text));
            let mut file = log.lock().unwrap_or_else(PoisonError::into_inner);
            // A log that cannot be written must not stop a backup.
            let _ = file.write_all(line.as_bytes());
        }
    }

    pub fn has_log(&self) -> bool {
        self.log.is_some()
    }

    fn painted(&self, paint: Paint, text: &str) -> String {
        if self.colour && std::io::stderr().is_terminal() { paint.on(text) } else { text.to_owned() }
    }

    /// Whether results may be coloured.
    pub fn colours(&self) -> bool {
        self.colour && std::io::stdout().is_terminal()
    }

    /// Columns for tables.
    pub fn width(&self) -> usize {
        let stdout = std::io::stdout();
        let size = if stdout.is_terminal() { rustix::termios::tcgetwinsize(stdout).ok() } else { None };
        size.map(|s| usize::from(s.ws_col)).filter(|w| *w >= 40).unwrap_or(USUAL_WIDTH)
    }
}

/// A few colours.
#[derive(Clone, Copy)]
pub enum Paint {
    Bold,
    Red,
    Yellow,
}

impl Paint {
    pub fn on(self, text: &str) -> String {
        let code = match self {
            Paint::Bold => "1",
            Paint::Red => "31;1",
            Paint::Yellow => "33;1",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// The last word where there is no `Output` yet.
pub fn exit_error_bare(json: bool, code: u8, message: &str) {
    let text = if json {
        to_json(&Message::new("exit_error").with("code", code).with("message", message))
    } else {
        format!("error: {}", one_line(message))
    };
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// `text`, with the item in front unless it is in it already.
pub fn naming(item: &[u8], text: &str) -> String {
    let item = String::from_utf8_lossy(item);
    if text.contains(item.as_ref()) { text.to_owned() } else { format!("{item}: {text}") }
}

/// Text that may hold names from anywhere, fit for a terminal and a log: no name in it can begin a line of its own.
pub fn one_line(text: &str) -> String {
    escape(text.as_bytes()).replace("\\\\", "\\")
}

/// What was done to the index segments, if anything.
pub fn segments_line(tended: &Tended) -> Option<String> {
    let of = |n: u64| counted(n, "index segment", "index segments");
    match (tended.filed.segments, tended.removed) {
        (0, 0) => None,
        (0, gone) => Some(format!("removed {} of no more use", of(gone))),
        (new, 0) => Some(format!("wrote {}, {}", of(new), bytes(tended.filed.bytes))),
        (new, gone) => Some(format!("wrote {}, {}; removed {gone}", of(new), bytes(tended.filed.bytes))),
    }
}
