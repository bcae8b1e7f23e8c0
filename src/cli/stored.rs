//! A database in a snapshot, as commands that ask it name it.

use super::context::Context;
use super::databases;
use super::failure::{FAILED, Failure};
use super::names::shown;
use super::options::{AtArgs, Target};
use crate::codes::Code;
use crate::error::ErrorKind;
use crate::format::entry::{Entry, Kind};
use crate::manifest::database::open;
use crate::manifest::walk::find;
use crate::progress::Progress;
use crate::repository::Repository;
use crate::repository::reader::Reader;
use crate::repository::snapshots::{Listing, list};
use crate::sqlite::query::Reading;
use std::ffi::OsStr;
use std::sync::Arc;

/// A database, found.
pub struct Stored {
    pub reader: Arc<Reader>,
    pub entry: Entry,
}

impl Stored {
    /// What `SNAP:PATH` names, or a path beside it.
    pub fn find(
        context: &Context,
        repository: &Arc<Repository>,
        at: &AtArgs,
        text: &OsStr,
        second: Option<&[u8]>,
    ) -> Result<Self, Failure> {
        let listing = list(repository)?;
        let target = at.target(&listing, Some(text), context.now())?;
        let reader = Arc::new(repository.reader()?.with_parity());
        Stored::at(context, &listing, reader, target, second)
    }

    /// The database of a snapshot that has been found already.
    pub fn at(
        context: &Context,
        listing: &Listing,
        reader: Arc<Reader>,
        mut target: Target,
        second: Option<&[u8]>,
    ) -> Result<Self, Failure> {
        let path = match (&target.path, second) {
            (Some(_), Some(_)) => return Err(Failure::usage("a path is named twice")),
            (Some(path), None) if !path.is_empty() => path.clone(),
            (None, Some(path)) if !path.is_empty() => path.to_vec(),
            _ => return Err(Failure::usage("name the database: SNAP:PATH")),
        };
        for warning in databases::avoid_damaged(listing, &mut target, &path) {
            context.output.warn(Code::SnapshotAvoided, &warning);
        }
        let entry = find(&reader, &target.snapshot.root, &path)?;
        let why = match entry {
            Some(entry) if entry.is_file() => return Ok(Stored { reader, entry }),
            Some(Entry { kind: Kind::Directory, .. }) => "is a directory, not a database",
            Some(_) => "is not a file",
            None => "is not in the snapshot",
        };
        Err(Failure::new(FAILED, format!("{} {why}", shown(&path))))
    }

    pub fn shown(&self) -> String {
        shown(&self.entry.path)
    }

    /// Opens it where it lies.
    pub fn open(&self, progress: &Progress) -> Result<Reading, Failure> {
        open_entry(&self.reader, &self.entry, progress)
    }
}

/// Opens a stored database for questions that end when the user asks to stop.
pub fn open_entry(reader: &Arc<Reader>, entry: &Entry, progress: &Progress) -> Result<Reading, Failure> {
    let reading =
        open(Arc::clone(reader), entry).and_then(|opened| Reading::new(opened, progress.stop_flag()));
    reading.map_err(|e| {
        let kind = e.kind();
        let failure = Failure::from(e.context(shown(&entry.path)));
        if kind == ErrorKind::Unsupported { Failure { code: FAILED, ..failure } } else { failure }
    })
}
