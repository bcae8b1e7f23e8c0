//! What to leave out: patterns, ignore files in the tree, marker files, a size limit.
//!
//! Patterns are those of `.gitignore`, matched against the path below the root. Options beat ignore files, and
//! an ignore file beats those further up; within one list the last match counts. What stands in a directory
//! that is left out is left out with it. A root itself is never left out: it was asked for by name.

use crate::error::{Context, Error, ErrorKind, Result};
use crate::os::dir::{self, Names};
use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder, Glob};
use std::ffi::{CStr, CString, OsStr};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What a backup was told to leave out.
#[derive(Clone, Debug, Default)]
pub struct FilterOptions {
    pub excludes: Vec<String>,
    /// The same without regard to upper and lower case.
    pub iexcludes: Vec<String>,
    /// Files with a pattern on each line.
    pub exclude_files: Vec<PathBuf>,
    /// Leave out what stands beside a valid `CACHEDIR.TAG`.
    pub exclude_caches: bool,
    /// Leave out what stands beside a file `NAME`, or `NAME:HEADER` if it begins with HEADER.
    pub exclude_if_present: Vec<String>,
    pub exclude_larger_than: Option<u64>,
    /// Honour `.gitignore` files too.
    pub git_ignore: bool,
    /// Honour no files in the tree at all, not even our own.
    pub no_ignore_files: bool,
}

const CACHE_TAG: &CStr = c"CACHEDIR.TAG";
const CACHE_SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";
/// Longer ignore files are a mistake or an attack.
const MAX_IGNORE_FILE: u64 = 4 << 20;

/// Decides what is left out.
pub struct Filter {
    globs: Gitignore,
    /// Lowest precedence first.
    ignore_files: Vec<&'static CStr>,
    markers: Vec<Marker>,
    larger_than: Option<u64>,
}

/// A file that keeps its directory's other contents out.
pub(super) struct Marker {
    pub name: CString,
    header: Vec<u8>,
    pub option: &'static str,
}

/// A list of patterns by itself; the last one that matches decides.
#[derive(Clone, Debug)]
pub struct Patterns {
    globs: Gitignore,
}

impl Patterns {
    /// `patterns` and then, without regard to upper and lower case, `insensitive`; `option` names the first list's
    /// origin in messages, `--i…` the second's.
    pub fn new(option: &str, patterns: &[String], insensitive: &[String]) -> Result<Self> {
        let mut rules = Rules::new();
        rules.builder.allow_unclosed_class(false);
        for pattern in patterns {
            rules.add(&format!("--{option}"), pattern)?;
        }
        rules.case_insensitive(true)?;
        for pattern in insensitive {
            rules.add(&format!("--i{option}"), pattern)?;
        }
        Ok(Patterns { globs: rules.build()? })
    }

    pub fn is_empty(&self) -> bool {
        self.globs.is_empty()
    }

    /// Whether `path` itself matches; `Some(false)` when a pattern that begins with `!` has the last word.
    pub fn decide(&self, path: &[u8], is_dir: bool) -> Option<bool> {
        match self.globs.matched(Path::new(OsStr::from_bytes(path)), is_dir) {
            Match::None => None,
            Match::Ignore(_) => Some(true),
            Match::Whitelist(_) => Some(false),
        }
    }
}

/// The ignore files in force at one point of a descent.
#[derive(Default)]
pub(super) struct Levels {
    levels: Vec<Level>,
}

struct Level {
    depth: usize,
    /// Where in the path being matched the part below this directory begins.
    base: usize,
    globs: Gitignore,
}

impl Filter {
    pub fn new(options: &FilterOptions) -> Result<Self> {
        let mut rules = Rules::new();
        rules.builder.allow_unclosed_class(false);
        for path in &options.exclude_files {
            let cannot = || format!("cannot read the exclude file {}", path.display());
            let text = std::fs::read(path).context(cannot)?;
            rules.add_lines(&path.to_string_lossy(), &text)?;
        }
        for pattern in &options.excludes {
            rules.add("--exclude", pattern)?;
        }
        rules.case_insensitive(true)?;
        for pattern in &options.iexcludes {
            rules.add("--iexclude", pattern)?;
        }
        let mut markers = Vec::new();
        if options.exclude_caches {
            markers.push(Marker {
                name: CACHE_TAG.to_owned(),
                header: CACHE_SIGNATURE.to_vec(),
                option: "--exclude-caches",
            });
        }
        for text in &options.exclude_if_present {
            markers.push(marker(text)?);
        }
        let mut ignore_files = Vec::new();
        if options.git_ignore {
            ignore_files.push(c".gitignore");
        }
        if !options.no_ignore_files {
            ignore_files.push(c".snapkeepignore");
        }
        Ok(Filter { globs: rules.build()?, ignore_files, markers, larger_than: options.exclude_larger_than })
    }

    /// The rule that decides about the last component of `path`; its part below the root begins at `base`.
    pub(super) fn decide<'a>(
        &'a self,
        levels: &'a Levels,
        path: &[u8],
        base: usize,
        is_dir: bool,
    ) -> Match<&'a Glob> {
        let part = |from: usize| Path::new(OsStr::from_bytes(&path[from..]));
        if !self.globs.is_empty() {
            let decided = self.globs.matched(part(base), is_dir);
            if !decided.is_none() {
                return decided;
            }
        }
        for level in levels.levels.iter().rev() {
            let decided = level.globs.matched(part(level.base), is_dir);
            if !decided.is_none() {
                return decided;
            }
        }
        Match::None
    }

    pub(super) fn too_large(&self, size: u64) -> bool {
        self.larger_than.is_some_and(|limit| size > limit)
    }

    pub(super) fn size_limit(&self) -> Option<u64> {
        self.larger_than
    }

    pub(super) fn has_ignore_file(&self, names: &Names) -> bool {
        self.ignore_files.iter().any(|name| names.contains(name.to_bytes()))
    }

    /// Reads the ignore files of a directory just entered. Answers what is wrong with them: name and reason.
    pub(super) fn enter(
        &self,
        levels: &mut Levels,
        dir: impl AsFd,
        names: &Names,
        place: Place,
    ) -> Vec<(&'static CStr, Error)> {
        let mut problems = Vec::new();
        let mut rules = Rules::new();
        for name in self.ignore_files.iter().filter(|name| names.contains(name.to_bytes())) {
            let shown = Path::new(place.shown).join(OsStr::from_bytes(name.to_bytes()));
            match read_small(&dir, name) {
                Ok(text) => {
                    let broken = rules.add_good_lines(&shown.to_string_lossy(), &text);
                    problems.extend(broken.into_iter().map(|e| (*name, e)));
                }
                Err(e) => problems.push((*name, e)),
            }
        }
        match rules.build() {
            Ok(globs) if globs.is_empty() => {}
            Ok(globs) => levels.levels.push(Level { depth: place.depth, base: place.base, globs }),
            Err(e) => problems.push((c".", e)),
        }
        problems
    }

    /// The marker that keeps the contents of a directory out, if there is one.
    pub(super) fn marked(&self, dir: impl AsFd, names: &Names) -> Option<&Marker> {
        self.markers.iter().find(|m| names.contains(m.name.to_bytes()) && m.holds(&dir))
    }
}

/// Where a directory being entered stands.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub shown: &'a OsStr,
    pub depth: usize,
    pub base: usize,
}

impl Levels {
    /// Forgets the ignore files of directories at `depth` or deeper.
    pub(super) fn leave(&mut self, depth: usize) {
        while self.levels.last().is_some_and(|level| level.depth >= depth) {
            self.levels.pop();
        }
    }
}

impl Marker {
    /// Whether it begins as it should. One that cannot be read does not count: better too much than too little.
    fn holds(&self, dir: impl AsFd) -> bool {
        if self.header.is_empty() {
            return true;
        }
        let mut start = vec![0; self.header.len()];
        dir::open_file(dir, &self.name).is_ok_and(|mut f| f.read_exact(&mut start).is_ok())
            && start == self.header
    }
}

fn marker(text: &str) -> Result<Marker> {
    let (name, header) = text.split_once(':').unwrap_or((text, ""));
    let bad = || Error::invalid(format!("--exclude-if-present: `{text}` is not NAME or NAME:HEADER"));
    if name.is_empty() || name.contains('/') {
        return Err(bad());
    }
    let name = CString::new(name).map_err(|_| bad())?;
    Ok(Marker { name, header: header.as_bytes().to_vec(), option: "--exclude-if-present" })
}

fn read_small(dir: impl AsFd, name: &CStr) -> Result<Vec<u8>> {
    let file = dir::open_file(dir, name).context(|| "cannot read the ignore file")?;
    let mut text = Vec::new();
    file.take(MAX_IGNORE_FILE + 1).read_to_end(&mut text).context(|| "cannot read the ignore file")?;
    if text.len() as u64 > MAX_IGNORE_FILE {
        return Err(Error::new(ErrorKind::Refused, "too long for an ignore file; its patterns are not used"));
    }
    Ok(text)
}

/// Collects patterns, each with the place it came from.
struct Rules {
    builder: GitignoreBuilder,
}

impl Rules {
    fn new() -> Self {
        // Paths are handed over relative already; `.` keeps the matcher from cutting anything off them.
        Rules { builder: GitignoreBuilder::new(".") }
    }

    fn case_insensitive(&mut self, yes: bool) -> Result<()> {
        self.builder.case_insensitive(yes).map_err(|e| Error::invalid(e.to_string()))?;
        Ok(())
    }

    fn add(&mut self, origin: &str, pattern: &str) -> Result<()> {
        // The matcher keeps a path for each pattern; here it carries whatever names the origin.
        let added = self.builder.add_line(Some(PathBuf::from(origin)), pattern);
        added.map(|_| ()).map_err(|e| {
            let why = match e {
                ignore::Error::Glob { err, .. } => err,
                other => other.to_string(),
            };
            Error::invalid(format!("{origin}: `{pattern}` is not a pattern: {why}"))
        })
    }

    /// All lines or the first error.
    fn add_lines(&mut self, file: &str, text: &[u8]) -> Result<()> {
        match self.add_good_lines(file, text).into_iter().next() {
            Some(e) => Err(e),
            None => Ok(()),
        }
    }

    /// All lines that can be understood; answers the errors for the others.
    fn add_good_lines(&mut self, file: &str, text: &[u8]) -> Vec<Error> {
        let mut errors = Vec::new();
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        for (number, line) in (1u64..).zip(text.split(|&b| b == b'\n')) {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let origin = format!("{file}:{number}");
            let outcome = match std::str::from_utf8(line) {
                Ok(line) => self.add(&origin, line),
                Err(_) => Err(Error::invalid(format!("{origin}: the pattern is not UTF-8"))),
            };
            errors.extend(outcome.err());
        }
        errors
    }

    fn build(&self) -> Result<Gitignore> {
        self.builder.build().map_err(|e| Error::invalid(format!("the patterns do not work together: {e}")))
    }
}
