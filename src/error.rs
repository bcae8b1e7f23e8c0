//! The one error type: what the caller can do about it, and a sentence saying what was being done.

use std::fmt;

/// What a caller can do about an error; never where it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The thing asked for is not there.
    NotFound,
    /// Something is already where new data should go.
    AlreadyExists,
    /// Stored bytes are not what they should be.
    Corrupt,
    /// No key slot opens with this password, or a key does not fit.
    WrongKey,
    /// Somebody else holds what we need.
    Locked,
    /// Written by a newer version, or not possible on this machine.
    Unsupported,
    /// The request itself is wrong; asking again will not help.
    Invalid,
    /// Refused by a rule that protects data; can be overruled explicitly.
    Refused,
    /// The user asked to stop.
    Cancelled,
    /// The machine said no: disk full, permission, I/O error.
    Io,
}

impl ErrorKind {
    /// The stored thing cannot be used: damaged, or (which one flipped byte can claim as well) of a later version.
    pub fn is_unreadable(self) -> bool {
        matches!(self, ErrorKind::Corrupt | ErrorKind::Unsupported)
    }
}

/// An error with a sentence for the user; sources are folded into the sentence.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    what: String,
    disk_full: bool,
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub fn new(kind: ErrorKind, what: impl Into<String>) -> Self {
        Error { kind, what: what.into(), disk_full: false }
    }

    pub fn corrupt(what: impl Into<String>) -> Self {
        Error::new(ErrorKind::Corrupt, what)
    }

    pub fn invalid(what: impl Into<String>) -> Self {
        Error::new(ErrorKind::Invalid, what)
    }

    /// An operating system error while doing `what` ("cannot read /a/b").
    pub fn io(what: impl fmt::Display, source: &std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        let disk_full = matches!(source.kind(), Io::StorageFull | Io::QuotaExceeded);
        let kind = match source.kind() {
            Io::NotFound => ErrorKind::NotFound,
            Io::AlreadyExists => ErrorKind::AlreadyExists,
            _ => ErrorKind::Io,
        };
        let why = if disk_full { "the disk is full".to_owned() } else { plain(source) };
        Error { kind, what: format!("{what}: {why}"), disk_full }
    }

    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    pub fn message(&self) -> &str {
        &self.what
    }

    /// Whether the cause was a full disk or an exhausted quota.
    pub fn is_disk_full(&self) -> bool {
        self.disk_full
    }

    /// The same error with `what` in front: "what: why".
    #[must_use]
    pub fn context(mut self, what: impl fmt::Display) -> Self {
        self.what = format!("{what}: {}", self.what);
        self
    }
}

/// The system's own words without the "(os error 2)" tail.
fn plain(e: &std::io::Error) -> String {
    let text = e.to_string();
    match text.find(" (os error") {
        Some(at) => {
            let mut words = text[..at].to_owned();
            if let Some(first) = words.get_mut(..1) {
                first.make_ascii_lowercase();
            }
            words
        }
        None => text,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Error {}

/// Adds a sentence to results: `.context(|| format!(..))`.
pub trait Context<T> {
    fn context<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T>;
}

impl<T> Context<T> for Result<T> {
    fn context<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|e| e.context(what()))
    }
}

impl<T> Context<T> for std::io::Result<T> {
    fn context<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|e| Error::io(what(), &e))
    }
}
