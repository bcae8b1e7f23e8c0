//! Rows in the walk's order again, into the manifest.

use super::documents::{Counted, Documents};
use super::perform::{Change, Row};
use super::steady::Steady;
use crate::error::Result;
use crate::format::entry::Flags;
use crate::format::snapshot::{Databases, JsonFacts, Summary};
use crate::manifest::build::{Builder, Built};
use crate::manifest::walk::Groups;
use crate::repository::writer::Writer;
use crate::source::LeftOut;
use crossbeam_channel::Receiver;
use std::collections::BTreeMap;

/// Unverified files named in the outcome; all are counted.
const UNVERIFIED_MAX: usize = 1000;

/// A worked-off batch.
pub struct Done {
    pub number: u64,
    pub rows: Vec<Row>,
}

/// A finished manifest and what was counted on the way.
pub struct Stored {
    pub built: Built,
    pub summary: Summary,
    pub unverified: Vec<Vec<u8>>,
    pub left_out: LeftOut,
    pub databases: Option<Databases>,
    pub counted: Counted,
    pub json: Option<JsonFacts>,
}

/// Collects rows.
pub struct Sink<'w> {
    builder: Builder<'w>,
    summary: Summary,
    unverified: Vec<Vec<u8>>,
    documents: &'w Documents,
    counted: Counted,
    steady: Option<Steady<'w>>,
}

impl<'w> Sink<'w> {
    pub fn new(writer: &'w Writer, documents: &'w Documents, parent: Groups) -> Result<Self> {
        let builder = Builder::new(writer, parent)?;
        let (summary, unverified, counted, steady) = Default::default();
        Ok(Sink { builder, summary, unverified, documents, counted, steady })
    }

    /// Lets rows of workspaces wait until these hold still.
    pub fn hold(&mut self, steady: Steady<'w>) {
        self.steady = Some(steady);
    }

    /// Takes batches as they come, in order of their numbers; each gives back a token. Ends early, without an error of
    /// its own, when a worker raises the alarm.
    pub fn drain(&mut self, done: &Receiver<Done>, tokens: &Receiver<()>) -> Result<()> {
        let (mut waiting, mut next) = (BTreeMap::new(), 0);
        for batch in done {
            if batch.number == u64::MAX {
                break;
            }
            waiting.insert(batch.number, batch.rows);
            while let Some(rows) = waiting.remove(&next) {
                next += 1;
                for row in rows {
                    self.push(row)?;
                }
                let _ = tokens.try_recv();
            }
        }
        Ok(())
    }

    pub fn push(&mut self, row: Row) -> Result<()> {
        match &mut self.steady {
            Some(steady) => steady.take(row)?.into_iter().try_for_each(|row| self.store(row)),
            None => self.store(row),
        }
    }

    fn store(&mut self, row: Row) -> Result<()> {
        self.counted.count(self.documents, &row.entry, &row.stat);
        let s = &mut self.summary;
        let counter = match (row.entry.is_dir(), row.change) {
            (true, Change::New) => &mut s.dirs_new,
            (true, Change::Changed) => &mut s.dirs_changed,
            (true, Change::Same) => &mut s.dirs_unmodified,
            (false, Change::New) => &mut s.files_new,
            (false, Change::Changed) => &mut s.files_changed,
            (false, Change::Same) => &mut s.files_unmodified,
        };
        *counter += 1;
        if !row.entry.is_dir() {
            s.total_files_processed += 1;
            s.total_bytes_processed += row.entry.content.size;
        }
        if row.entry.flags.has(Flags::UNVERIFIED) && self.unverified.len() < UNVERIFIED_MAX {
            self.unverified.push(row.entry.path.clone());
        }
        self.builder.push_after(row.entry, row.stat, &row.before)
    }

    pub fn finish(mut self, left_out: LeftOut) -> Result<Stored> {
        if let Some(steady) = self.steady.take() {
            steady.finish()?.into_iter().try_for_each(|row| self.store(row))?;
        }
        let built = self.builder.finish()?;
        let Sink { summary, unverified, counted, .. } = self;
        Ok(Stored { built, summary, unverified, left_out, databases: None, counted, json: None })
    }
}
