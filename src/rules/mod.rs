//! Rules that a tree of JSON files must keep, and what came of trying them.
//!
//! A rule looks at directories, at files, into JSON files, or asks a database. One pass over a tree tries all of them: each file
//! is read at most once, each database opened at most once. Where the tree comes from (a snapshot, a disk) is the business of
//! whoever calls.

mod check;
pub mod file;
pub mod infer;
pub mod run;
mod schema;
mod sql;

use crate::json::pointer::Pointer;
use globset::GlobMatcher;

/// The directory that holds rules, and their file in it.
pub const DIRECTORY: &str = ".snapkeep";
pub const FILE: &str = "rules.toml";

/// All rules of a file.
#[derive(Debug, Default)]
pub struct Rules {
    pub list: Vec<Rule>,
}

/// One rule.
#[derive(Debug)]
pub struct Rule {
    pub name: String,
    /// What it looks at, and that as it is written.
    glob: GlobMatcher,
    pattern: String,
    at_least: Option<u64>,
    at_most: Option<u64>,
    check: Check,
}

/// What is asked of each thing that a rule looks at.
#[derive(Debug)]
enum Check {
    /// Of directories: files that must stand in them.
    Directories {
        files: Vec<Vec<u8>>,
    },
    /// Of files: that they are there.
    Paths,
    Json(Box<JsonCheck>),
    Sql(Box<sql::SqlCheck>),
}

/// What is asked of JSON files.
#[derive(Debug)]
struct JsonCheck {
    keys: Vec<Pointer>,
    types: Vec<(Pointer, Vec<String>)>,
    /// Or why it cannot be used.
    schema: Option<Result<schema::Schema, String>>,
    unique: Vec<Pointer>,
    refers: Vec<Refer>,
}

/// Values that must be values of other files.
#[derive(Debug)]
struct Refer {
    from: Pointer,
    to: GlobMatcher,
    pattern: String,
    key: Pointer,
}

/// How a rule ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    Fail,
    /// It could not be tried, or there was nothing to try it on.
    Error,
}

impl Verdict {
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Fail => "fail",
            Verdict::Error => "error",
        }
    }
}

/// Why a rule did not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// The file or directory, below the directory that the rules are for.
    pub path: Option<Vec<u8>>,
    pub message: String,
}

/// A rule and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub name: String,
    pub verdict: Verdict,
    /// Things that it looked at.
    pub looked_at: u64,
    pub reasons: Vec<Reason>,
    /// Reasons that are not listed.
    pub more: u64,
}

/// What came of all rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub outcomes: Vec<Outcome>,
}

impl Report {
    pub fn count(&self, verdict: Verdict) -> u64 {
        self.outcomes.iter().filter(|o| o.verdict == verdict).count() as u64
    }

    /// No rules prove nothing.
    pub fn passed(&self) -> bool {
        !self.outcomes.is_empty() && self.outcomes.iter().all(|o| o.verdict == Verdict::Pass)
    }
}
