//! The JSON files of one backup: which are checked while they are read, what came of it, which directories are to be
//! one state.

use crate::error::{Error, Result};
use crate::format::entry::{Entry, Stat};
use crate::format::snapshot::{JsonFacts, JsonFault, WorkspaceFacts};
use crate::json::stream::Validator;
use crate::json::{Fault, Form};
use crate::manifest::walk::is_below;
use crate::progress::Problem;
use crate::repository::snapshots::{decode_path, encode_path};
use crate::source::FileSource;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// Faults kept while the backup runs; those with the greatest paths go first.
const FOUND_MAX: usize = 10_000;
/// Faults in a record, and the bytes of their paths.
const LISTED_MAX: usize = 500;
const LISTED_BYTES: usize = 64 << 10;
/// Things that could not be read, remembered so that a second look does not try them again.
const FAILED_MAX: usize = 100_000;

/// What to do about JSON files.
#[derive(Clone, Debug, Default)]
pub struct JsonOptions {
    /// Check those of all sources.
    pub all: bool,
    /// Directories whose JSON files are checked, and which are read until they hold still.
    pub workspaces: Vec<PathBuf>,
}

/// The JSON files of a backup under way.
pub struct Documents {
    all: bool,
    /// Stored paths of the workspaces, none below another.
    workspaces: Vec<Vec<u8>>,
    /// What the parent's record says of faulty files.
    known: HashMap<Vec<u8>, JsonFault>,
    found: Mutex<BTreeMap<Vec<u8>, Fault>>,
    failed: Mutex<HashSet<Vec<u8>>>,
    held: Mutex<Vec<WorkspaceFacts>>,
}

impl Documents {
    /// `source` is `None` for a stream.
    pub fn new(
        options: &JsonOptions,
        source: Option<&FileSource>,
        parent: Option<&JsonFacts>,
    ) -> Result<Self> {
        let mut workspaces = Vec::new();
        for dir in &options.workspaces {
            let stored = source.and_then(|source| source.stored_path(dir));
            let missing = |problem: &Problem| problem.item == dir.as_os_str().as_bytes();
            if stored.is_none() && source.is_some_and(|source| source.missing_roots().iter().any(missing)) {
                continue;
            }
            workspaces.push(stored.ok_or_else(|| {
                Error::invalid(format!("the workspace {} is not below any source", dir.display()))
            })?);
        }
        workspaces.sort_by(|a, b| crate::format::entry::path_order(a, b));
        workspaces.dedup_by(|inner, outer| is_below(inner, outer));
        let known = parent.map(|facts| facts.invalid_files.as_slice()).unwrap_or_default();
        let stored = |f: &JsonFault| decode_path(&f.path).strip_prefix(b"/").map(<[u8]>::to_vec);
        let known = known.iter().filter_map(|f| Some((stored(f)?, f.clone()))).collect();
        let (found, failed, held) = Default::default();
        Ok(Documents { all: options.all, workspaces, known, found, failed, held })
    }

    /// How to check the file at this path, if it is to be checked.
    pub fn form(&self, path: &[u8]) -> Option<Form> {
        let wanted = self.all || self.workspace(path).is_some();
        if wanted { Form::of(path) } else { None }
    }

    /// The workspace that the path lies in, by its number.
    pub fn workspace(&self, path: &[u8]) -> Option<usize> {
        self.workspaces.iter().position(|dir| is_below(path, dir))
    }

    pub fn stored(&self, workspace: usize) -> &[u8] {
        self.workspaces.get(workspace).map_or(&[], Vec::as_slice)
    }

    pub fn has_workspaces(&self) -> bool {
        !self.workspaces.is_empty()
    }

    /// Whether nothing is known of a file that looks as it did in the parent.
    pub fn must_read(&self, path: &[u8], stat: &Stat) -> bool {
        !stat.sound && self.form(path).is_some() && !self.known.contains_key(path)
    }

    /// What reading a file found.
    pub fn note(&self, path: &[u8], fault: Option<Fault>) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        match fault {
            None => drop(found.remove(path)),
            Some(fault) => {
                found.insert(path.to_vec(), fault);
                if found.len() > FOUND_MAX {
                    found.pop_last();
                }
            }
        }
    }

    /// Something in a workspace could not be read, which has been reported.
    pub fn note_failed(&self, path: &[u8]) {
        if self.workspace(path).is_some() {
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            if failed.len() < FAILED_MAX {
                failed.insert(path.to_vec());
            }
        }
    }

    pub fn has_failed(&self, path: &[u8]) -> bool {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).contains(path)
    }

    /// What came of looking at a workspace again.
    pub fn note_workspace(&self, workspace: usize, looks: u64, steady: bool) {
        let path = format!("/{}", encode_path(self.stored(workspace)));
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.push(WorkspaceFacts { path, looks, steady });
    }

    /// Workspaces of which nothing was met.
    pub fn unmet(&self) -> Vec<&[u8]> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let met = |dir: &&Vec<u8>| held.iter().any(|w| w.path == format!("/{}", encode_path(dir)));
        self.workspaces.iter().filter(|dir| !met(dir)).map(Vec::as_slice).collect()
    }

    /// What to record, with what was counted in the order of the manifest.
    pub fn finish(self, counted: Counted) -> Option<JsonFacts> {
        if !self.all && self.workspaces.is_empty() {
            return None;
        }
        let mut found = self.found.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut facts = JsonFacts { files: counted.files, invalid: counted.invalid, ..JsonFacts::default() };
        facts.workspaces = self.held.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = 0;
        for path in counted.first_invalid {
            let shown = format!("/{}", encode_path(&path));
            bytes += shown.len();
            if facts.invalid_files.len() == LISTED_MAX || bytes > LISTED_BYTES {
                break;
            }
            let fault = match (found.remove(&path), self.known.get(&path)) {
                (Some(f), _) => {
                    JsonFault { path: shown, line: f.line, column: f.column, what: f.what.to_owned() }
                }
                (None, Some(known)) => known.clone(),
                (None, None) => {
                    JsonFault { path: shown, what: "it is no JSON".to_owned(), ..JsonFault::default() }
                }
            };
            facts.invalid_files.push(fault);
        }
        facts.not_listed = facts.invalid - facts.invalid_files.len() as u64;
        Some(facts)
    }
}

/// Counts of checked files, taken as rows go into the manifest.
#[derive(Debug, Default)]
pub struct Counted {
    files: u64,
    invalid: u64,
    first_invalid: Vec<Vec<u8>>,
}

impl Counted {
    pub fn count(&mut self, documents: &Documents, entry: &Entry, stat: &Stat) {
        if !entry.is_file() || documents.form(&entry.path).is_none() {
            return;
        }
        self.files += 1;
        if !stat.sound {
            self.invalid += 1;
            if self.first_invalid.len() < LISTED_MAX {
                self.first_invalid.push(entry.path.clone());
            }
        }
    }
}

/// A file on its way into the store, checked as it goes by.
pub struct Tap<'r, R: Read + ?Sized> {
    inner: &'r mut R,
    validator: Option<Validator>,
}

impl<'r, R: Read + ?Sized> Tap<'r, R> {
    /// `spare` is a validator that may be used again.
    pub fn new(inner: &'r mut R, form: Option<Form>, spare: Option<Validator>) -> Self {
        let validator = form.map(|form| {
            let mut validator = spare.unwrap_or_else(|| Validator::new(form));
            validator.reset(form);
            validator
        });
        Tap { inner, validator }
    }

    /// After the end: whether it was checked, and the fault; and the validator for the next file.
    pub fn finish(self) -> (Option<Option<Fault>>, Option<Validator>) {
        let mut validator = self.validator;
        (validator.as_mut().map(Validator::finish), validator)
    }
}

impl<R: Read + ?Sized> Read for Tap<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        if let Some(validator) = &mut self.validator {
            validator.feed(&buffer[..n]);
        }
        Ok(n)
    }
}
