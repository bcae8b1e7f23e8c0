//! Which of a snapshot's entries are meant: patterns to keep and patterns to leave out.

use super::RestoreOptions;
use crate::error::Result;
use crate::source::filter::Patterns;

/// Decides about stored paths. A pattern for keeping means what matches and all below it; one for leaving out
/// beats it.
pub struct Select {
    include: Patterns,
    exclude: Patterns,
}

impl Select {
    pub fn new(options: &RestoreOptions) -> Result<Self> {
        Ok(Select {
            include: Patterns::new("include", &options.includes, &options.iincludes)?,
            exclude: Patterns::new("exclude", &options.excludes, &options.iexcludes)?,
        })
    }

    pub fn is_everything(&self) -> bool {
        self.include.is_empty() && self.exclude.is_empty()
    }

    /// Whether the top of everything is wanted itself.
    pub fn start(&self) -> bool {
        self.include.is_empty()
    }

    /// `None` when `path` is left out with all below it, else whether it is wanted; `above` is the answer for the
    /// directory it stands in.
    pub fn choose(&self, path: &[u8], is_dir: bool, above: bool) -> Option<bool> {
        if !self.exclude.is_empty() && self.exclude.decide(path, is_dir) == Some(true) {
            return None;
        }
        Some(self.wanted(path, is_dir, above))
    }

    /// The answer for a directory that was asked for by name, or leads there: it is never left out.
    pub fn wanted(&self, path: &[u8], is_dir: bool, above: bool) -> bool {
        if self.include.is_empty() {
            return true;
        }
        self.include.decide(path, is_dir).unwrap_or(above)
    }

    /// Whether `path` would be meant, whatever it is: only then may it be deleted.
    pub fn meant(&self, path: &[u8], above: bool) -> bool {
        [true, false].iter().all(|&is_dir| self.choose(path, is_dir, above) == Some(true))
    }
}
