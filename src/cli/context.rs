//! From flags to an open repository; the clock, the cache and the voice that every command uses.

use super::failure::{Failure, NO_REPOSITORY};
use super::layers::{Parsed, base_directory};
use super::options::Global;
use super::output::Output;
use super::password;
use super::recording::Facts;
use crate::backend::local;
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::codes::Code;
use crate::error::{Error, ErrorKind, Result};
use crate::format::FileName;
use crate::repository::reader::Reader;
use crate::repository::{Located, Repository, locate};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What every command is handed.
pub struct Context {
    pub global: Global,
    pub output: Arc<Output>,
    pub clock: SystemClock,
    pub parsed: Parsed,
    facts: Mutex<Facts>,
}

impl Context {
    pub fn new(global: Global, output: Output, parsed: Parsed) -> Self {
        Context { global, output: Arc::new(output), clock: SystemClock, parsed, facts: Mutex::default() }
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Hands over what the journal is to say about this command.
    pub fn facts(&self, tell: impl FnOnce(&mut Facts)) {
        tell(&mut self.facts.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The name of the profile in use, by which its jobs are known.
    pub fn profile_name(&self) -> Option<String> {
        self.parsed.profile.as_ref().map(|profile| profile.plan.profile.clone())
    }

    /// Directories of our own: the repository, the caches and the journal. They are never backed up into themselves, and
    /// nothing puts them back.
    pub fn own_places(&self) -> Vec<PathBuf> {
        let repository = self.global.repo.as_ref().and_then(|_| self.place().ok());
        let targets = self.parsed.profile.iter().flat_map(|profile| &profile.plan.targets);
        let targets = targets.filter_map(|target| directory(&target.repository).ok());
        repository.into_iter().chain(targets).chain(self.cache()).chain(self.state_dir()).collect()
    }

    /// The directory of the journal and of the states of jobs; `None` when the machine names no place for it.
    pub fn state_dir(&self) -> Option<PathBuf> {
        let usual = || base_directory("XDG_STATE_HOME", ".local/state").map(|home| home.join("snapkeep"));
        self.global.state_dir.clone().or_else(usual)
    }

    /// The directory named by `--repo`.
    pub fn place(&self) -> std::result::Result<PathBuf, Failure> {
        let Some(text) = self.global.repo.as_deref() else {
            let what = "no repository is named; give --repo or set SNAPKEEP_REPOSITORY";
            return Err(Failure::usage(what));
        };
        directory(text)
    }

    /// The repository named by `--repo`, not yet unlocked.
    pub fn located(&self) -> std::result::Result<Located, Failure> {
        located_at(&self.place()?)
    }

    /// The repository named by `--repo`, open.
    pub fn open(&self) -> std::result::Result<Arc<Repository>, Failure> {
        let located = self.located()?;
        self.unlock(located).map(Arc::new)
    }

    pub fn unlock(&self, located: Located) -> std::result::Result<Repository, Failure> {
        let password = if located.is_encrypted() { Some(password::existing(self)?) } else { None };
        let cache = self.cache();
        if let Some(place) = located.local_place() {
            super::seen::check(cache.as_deref(), &place, located.is_encrypted())?;
        }
        let mut repository = located.open(password.as_ref(), cache.as_deref())?;
        repository.set_segments(self.global.segments);
        repository.remarks().iter().for_each(|remark| self.output.warn(Code::RecordCopyUsed, remark));
        let protection = if repository.is_encrypted() { "encrypted" } else { "not encrypted" };
        self.output.detail(&format!("repository {} opened, {protection}", repository.id().short()));
        Ok(repository)
    }

    /// What was read all the same must not hide that it is damaged.
    pub fn warn_of_mended(&self, reader: &Reader) {
        for pack in reader.mended() {
            let what =
                "is damaged and was read by way of its parity; `snapkeep repair packs --apply` mends it";
            self.output.warn(Code::PackMendedInReading, &format!("{} {what}", FileName::Pack(pack)));
        }
    }

    /// The folder of all repositories' caches; `None` when there is to be none.
    pub fn cache(&self) -> Option<PathBuf> {
        if self.global.no_cache {
            return None;
        }
        let usual = || base_directory("XDG_CACHE_HOME", ".cache").map(|home| home.join("snapkeep"));
        let dir = self.global.cache_dir.clone().or_else(usual)?;
        // Without it everything works, only slower.
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).ok()?;
        Some(dir)
    }

    /// Tries again while somebody else holds what `work` needs, as long as `--retry-lock` says.
    pub fn patiently<T>(&self, work: impl Fn() -> Result<T>) -> Result<T> {
        let until = self.global.retry_lock.map(|span| Instant::now() + span);
        loop {
            match work() {
                Err(e) if e.kind() == ErrorKind::Locked && until.is_some_and(|t| Instant::now() < t) => {
                    std::thread::sleep(Duration::from_millis(500));
                }
                result => return result,
            }
        }
    }
}

/// A repository in a directory, not yet unlocked.
pub fn located_at(root: &Path) -> std::result::Result<Located, Failure> {
    let not_there = |e: Error| match e.kind() {
        ErrorKind::NotFound => Failure::new(NO_REPOSITORY, format!("no repository: {}", e.message())),
        _ => Failure::from(e),
    };
    let located = local::open(root, false).and_then(locate).map_err(not_there)?;
    if !located.config().group_readable {
        return Ok(located);
    }
    local::open(root, true).and_then(locate).map_err(not_there)
}

/// The directory meant by a repository's URL; other places are refused by name.
pub fn directory(text: &OsStr) -> std::result::Result<PathBuf, Failure> {
    let bytes = text.as_bytes();
    let local = bytes.strip_prefix(b"file://").or_else(|| bytes.strip_prefix(b"local:"));
    let path = local.unwrap_or(bytes);
    let head = path.split(|b| *b == b'/').next().unwrap_or_default();
    if let Some(colon) = head.iter().position(|b| *b == b':') {
        let what = format!(
            "`{}:` repositories are not supported by this version, only directories; a directory whose name \
             holds a colon is written ./NAME",
            super::names::escape(&head[..colon])
        );
        return Err(Failure::usage(what));
    }
    if path.is_empty() {
        return Err(Failure::usage("the repository's name is empty"));
    }
    Ok(PathBuf::from(OsStr::from_bytes(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_directories_are_repositories() {
        assert_eq!(directory(OsStr::new("/srv/a:b")).expect("a path"), Path::new("/srv/a:b"));
        assert_eq!(directory(OsStr::new("local:/srv")).expect("a path"), Path::new("/srv"));
        assert_eq!(directory(OsStr::new("./a:b")).expect("a path"), Path::new("./a:b"));
        for other in ["s3:host/bucket", "s3://bucket/x", "sftp:user:secret@host:/x", "host:/x"] {
            let failure = directory(OsStr::new(other)).expect_err("refused");
            assert!(!failure.message.expect("told").contains("secret"));
        }
    }
}
