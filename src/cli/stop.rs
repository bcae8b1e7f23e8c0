//! A failure of ours that must pass through a library function which knows only its own errors.

use super::failure::Failure;
use crate::error::{Error, ErrorKind, Result};

/// Keeps our failure while the library unwinds.
#[derive(Default)]
pub struct Stop {
    failure: Option<Failure>,
}

impl Stop {
    /// For the library: go on, or end.
    pub fn at(&mut self, told: std::result::Result<(), Failure>) -> Result<()> {
        told.map_err(|failure| {
            self.failure = Some(failure);
            Error::new(ErrorKind::Cancelled, "interrupted")
        })
    }

    /// What the library answered, unless it ended because of us.
    pub fn or<T>(self, answer: Result<T>) -> std::result::Result<T, Failure> {
        match self.failure {
            Some(failure) => Err(failure),
            None => Ok(answer?),
        }
    }
}
