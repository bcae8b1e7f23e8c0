//! What was done, when, and how it ended: a journal of every operation, and the state of each job.
//!
//! Both lie in the state directory, for this user on this machine, and hold no secrets. Nothing that is stored depends on
//! them: where they cannot be written the operation goes on, and says so once.
//!
//! | name | what it holds |
//! | --- | --- |
//! | `journal/YYYY-MM.jsonl` | one record a line, by the month (UTC) in which the operation began |
//! | `jobs/PROFILE.json` | how each job of a profile ended last, and when it is to run next |
//! | `jobs/PROFILE.JOB.lock` | held while that job runs |
//!
//! A job is named as `backup:app`; what it did to one target as `backup:app@usb`.

mod files;
mod lines;
pub mod record;
pub mod states;

pub use lines::{Filter, Reading};
pub use record::Record;
pub use states::{End, JobLock, JobState, JobStates, job_key};

use std::path::{Path, PathBuf};

/// The state directory; made with the first thing that is written.
#[derive(Clone, Debug)]
pub struct Journal {
    dir: PathBuf,
}

impl Journal {
    /// Touches nothing yet.
    pub fn at(dir: &Path) -> Self {
        Journal { dir: dir.to_owned() }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A folder of it, for what belongs beside journal and jobs (`health`); made if it is missing, for us alone.
    pub fn folder(&self, name: &str) -> crate::error::Result<PathBuf> {
        files::folder(&self.dir.join(name))
    }
}

/// A profile's or a job's name as part of a file's name: everything but letters, digits and `._:@-` becomes `%` and its
/// bytes in hex, so that two names never share a file.
pub fn file_name(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"._:@-".contains(&byte);
        // A name that begins with a dot would hide, or lead out.
        if plain && !(out.is_empty() && byte == b'.') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02x}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_names_of_files_and_stay_apart() {
        assert_eq!(file_name("app-1.b"), "app-1.b");
        assert_eq!(file_name("../x"), "%2e.%2fx");
        assert_eq!(file_name("a%2fb"), "a%252fb");
        assert_ne!(file_name("a/b"), file_name("a%2fb"));
        assert_eq!(file_name("ä"), "%c3%a4");
    }
}
