//! Which rule decides about one path, and where that rule was written.

use super::filter::{Levels, Place};
use super::roots::Root;
use super::{FileSource, Placed};
use crate::error::Result;
use crate::os::dir::{self, Names};
use crate::units;
use ignore::Match;
use ignore::gitignore::Glob;
use std::ffi::OsStr;
use std::fmt;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The answer to "why is this in the snapshot, or not".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    pub included: bool,
    /// What the rule matched: the path asked about, or a directory above it.
    pub path: PathBuf,
    /// `None`: included because no rule matches.
    pub rule: Option<Rule>,
}

/// One rule and where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The pattern as it was written, or a few words.
    pub text: String,
    /// An option, or a file and line.
    pub origin: String,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.included { "included" } else { "excluded" };
        match &self.rule {
            None => write!(f, "{verdict}: no rule matches"),
            Some(Rule { text, origin }) => {
                write!(f, "{verdict}: `{text}` ({origin}) decides about {}", self.path.display())
            }
        }
    }
}

impl FileSource {
    /// Says which rule decides about `path`, taking every directory above it into account.
    ///
    /// A path that does not exist is judged as if it were a file.
    pub fn explain(&self, path: &Path) -> Result<Explanation> {
        let asked = Root::new(path)?.path;
        let inside = |p: &&Placed| asked.starts_with(&p.root.path);
        let Some(placed) = self.roots.iter().find(inside) else {
            return Ok(verdict(false, &asked, "not below any source", "the command line"));
        };
        let mut at =
            Inquiry { source: self, levels: Levels::default(), path: placed.root.stored.clone(), base: 0 };
        let stored = &placed.root.stored;
        at.base = if stored.is_empty() { 0 } else { stored.len() + 1 };
        let mut here = placed.root.path.clone();
        let mut last = Explanation { included: true, path: asked.clone(), rule: None };
        if here == asked {
            last = verdict(true, &asked, &asked.to_string_lossy(), "named as a source");
        }
        let rest = asked.strip_prefix(&here).unwrap_or(Path::new("")).to_owned();
        for (depth, name) in rest.components().enumerate() {
            if let Some(out) = at.directory(&here, depth + 1, name.as_os_str()) {
                return Ok(out);
            }
            here.push(name);
            last = at.entry(&here, name.as_os_str());
            if !last.included {
                return Ok(last);
            }
        }
        let repository = dir::status_at_path(&here).is_ok_and(|s| self.options.skip.contains(&s.id()));
        Ok(if repository { own_repository(&here) } else { last })
    }
}

struct Inquiry<'a> {
    source: &'a FileSource,
    levels: Levels,
    path: Vec<u8>,
    base: usize,
}

impl Inquiry<'_> {
    /// Enters a directory as the walk would; an answer if it keeps `next` out.
    fn directory(&mut self, here: &Path, depth: usize, next: &OsStr) -> Option<Explanation> {
        let status = dir::status_at_path(here).ok()?;
        let options = &self.source.options;
        if options.skip.contains(&status.id()) {
            return Some(own_repository(here));
        }
        if options.one_file_system && !self.source.devices.contains(&status.dev) {
            return Some(verdict(false, here, "another filesystem", "--one-file-system"));
        }
        let fd = dir::open_path(here).and_then(|fd| dir::open_dir(&fd, c".")).ok()?;
        let mut names = Names::default();
        names.read(&fd, &mut Vec::new()).ok()?;
        if depth > 1
            && let Some(marker) = self.source.filter.marked(fd.as_fd(), &names)
            && marker.name.to_bytes() != next.as_bytes()
        {
            return Some(verdict(false, here, &marker.name.to_string_lossy(), marker.option));
        }
        let base = if self.path.is_empty() { 0 } else { self.path.len() + 1 };
        let place = Place { shown: here.as_os_str(), depth, base };
        self.source.filter.enter(&mut self.levels, &fd, &names, place);
        None
    }

    /// What the patterns and the size limit say about `name` in the directory entered last.
    fn entry(&mut self, here: &Path, name: &OsStr) -> Explanation {
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name.as_bytes());
        let status = dir::status_at_path(here).ok();
        let filter = &self.source.filter;
        let is_dir = status.is_some_and(|s| s.is_dir());
        let rule = |glob: &Glob| Rule {
            text: glob.original().to_owned(),
            origin: glob.from().map_or_else(String::new, |from| from.to_string_lossy().into_owned()),
        };
        let path = here.to_owned();
        let matched = filter.decide(&self.levels, &self.path, self.base, is_dir);
        if let Match::Ignore(glob) = matched {
            return Explanation { included: false, path, rule: Some(rule(glob)) };
        }
        if let (Some(limit), Some(status)) = (filter.size_limit(), status)
            && status.is_file()
            && filter.too_large(status.size)
        {
            return verdict(false, here, &units::bytes(limit), "--exclude-larger-than");
        }
        let rule = if let Match::Whitelist(glob) = matched { Some(rule(glob)) } else { None };
        Explanation { included: true, path, rule }
    }
}

fn own_repository(here: &Path) -> Explanation {
    verdict(false, here, "never into itself", "the repository")
}

fn verdict(included: bool, path: &Path, text: &str, origin: &str) -> Explanation {
    let rule = Rule { text: text.to_owned(), origin: origin.to_owned() };
    Explanation { included, path: path.to_owned(), rule: Some(rule) }
}
