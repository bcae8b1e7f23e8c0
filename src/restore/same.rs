//! Whether what stands at an entry's place has the entry's content already, found out by reading it.

use super::InPlace;
use super::database;
use super::verify::compare_open;
use crate::error::{Context, Result};
use crate::format::entry::Entry;
use crate::os::dir::{self, Handle};
use crate::progress::Progress;
use crate::repository::reader::Reader;
use crate::sqlite::place::Place;
use std::ffi::CString;

/// Reads what is there.
pub struct Same<'a> {
    pub reader: &'a Reader,
    pub progress: &'a Progress,
}

impl Same<'_> {
    /// A regular file of the right size.
    pub fn file(&self, entry: &Entry, dir: &Handle) -> Result<bool> {
        self.progress.set_current(&entry.path);
        let Ok(name) = CString::new(entry.name()) else { return Ok(false) };
        let mut file = dir::open_file(dir, &name).context(|| "cannot read what stands there")?;
        Ok(compare_open(self.reader, self.progress, &mut file, &entry.content).is_ok())
    }

    /// A database, in whichever of its files the pages lie.
    pub fn database(&self, entry: &Entry, place: &Place, how: &InPlace) -> Result<bool> {
        self.progress.set_current(&entry.path);
        database::is_as_stored(self.reader, self.progress, entry, place, how)
    }
}
