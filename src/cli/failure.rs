//! How a command can end other than well, and the exit code of each way.

use crate::error::{Error, ErrorKind};

pub const FAILED: u8 = 1;
pub const USAGE: u8 = 2;
/// A snapshot was made, but not of everything.
pub const INCOMPLETE: u8 = 3;
pub const NO_REPOSITORY: u8 = 10;
pub const LOCKED: u8 = 11;
pub const WRONG_KEY: u8 = 12;
pub const DAMAGED: u8 = 20;
pub const REFUSED: u8 = 23;
/// A verification failed.
pub const VALIDATION: u8 = 24;
pub const INTERRUPTED: u8 = 130;

/// What a command ends with: an exit code, or a failure to be told.
pub type Outcome = Result<u8, Failure>;

/// The end of a command that could not do what it was asked.
#[derive(Debug)]
pub struct Failure {
    pub code: u8,
    /// `None` when there is nobody to tell: who read our output has gone.
    pub message: Option<String>,
}

impl Failure {
    pub fn new(code: u8, message: impl Into<String>) -> Self {
        Failure { code, message: Some(message.into()) }
    }

    /// The request cannot be carried out as it was written.
    pub fn usage(message: impl Into<String>) -> Self {
        Failure::new(USAGE, message)
    }

    /// Writing our output failed. A reader who has had enough is no error.
    pub fn output(e: &std::io::Error) -> Self {
        if e.kind() == std::io::ErrorKind::BrokenPipe {
            return Failure { code: 0, message: None };
        }
        Failure::from(Error::io("cannot write the output", e))
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        let code = match e.kind() {
            ErrorKind::WrongKey => WRONG_KEY,
            ErrorKind::Corrupt => DAMAGED,
            ErrorKind::Refused => REFUSED,
            ErrorKind::Cancelled => INTERRUPTED,
            ErrorKind::Locked => LOCKED,
            ErrorKind::NotFound
            | ErrorKind::AlreadyExists
            | ErrorKind::Unsupported
            | ErrorKind::Invalid
            | ErrorKind::Io => FAILED,
        };
        Failure::new(code, e.message())
    }
}

/// As a usage error: for requests whose words were wrong.
pub fn usage(e: Error) -> Failure {
    Failure::usage(e.message())
}
