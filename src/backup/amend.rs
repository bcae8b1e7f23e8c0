//! A snapshot once more, with one database as it is now: everything else is as the parent has it, and is not looked at.
//!
//! For a database that was written to after a safety snapshot was made. Whoever asks for it keeps writers out meanwhile.

use super::capture::{Captured, Met, capture};
use super::perform::{Change, Row, all_present};
use super::pipeline::{Shared, store_run};
use super::sink::{Sink, Stored};
use crate::crypto::ChunkSort;
use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::{Entry, Stat, check_entry, path_order};
use crate::manifest::walk::{Groups, read_stats};
use crate::repository::writer::Lane;
use crate::source::{FileSource, Found, LeftOut, Step};
use std::cmp::Ordering;

/// Stores the one thing `source` has at `path`, and all rows of `parent`.
pub fn store(shared: &Shared<'_>, source: &FileSource, path: &[u8], parent: Groups) -> Result<Stored> {
    let mut lane = shared.writer.lane(ChunkSort::Content)?;
    let sink = Sink::new(shared.writer, &shared.documents, parent.clone())?;
    let mut amend = Amend { shared, sink, found: Some(find(shared, source, path)?) };
    let reader = &shared.writer.reader;
    for (number, item) in parent.items.iter().enumerate() {
        let entries = parent.read(reader, number)?;
        let stats = read_stats(reader, item, &entries);
        for (i, entry) in entries.into_iter().enumerate() {
            shared.progress.keep_going()?;
            let unknown = Stat { racy: true, ..Stat::default() };
            let stat = stats.as_ref().and_then(|stats| stats.get(i)).copied().unwrap_or(unknown);
            amend.entry(&mut lane, entry, stat)?;
        }
    }
    amend.now(&mut lane, None)?;
    lane.finish()?;
    amend.sink.finish(LeftOut::default())
}

fn find(shared: &Shared<'_>, source: &FileSource, path: &[u8]) -> Result<Box<Found>> {
    let mut there = None;
    source.walk(shared.progress, &mut |step| {
        match step {
            Step::Found(found) if found.entry.path == path && found.entry.is_file() => there = Some(found),
            _ => {}
        }
        Ok(())
    })?;
    there.ok_or_else(|| Error::new(ErrorKind::NotFound, "the database disappeared"))
}

struct Amend<'s, 'w> {
    shared: &'s Shared<'w>,
    sink: Sink<'s>,
    /// Until its turn has come.
    found: Option<Box<Found>>,
}

impl Amend<'_, '_> {
    fn entry(&mut self, lane: &mut Lane<'_>, entry: Entry, stat: Stat) -> Result<()> {
        let order = self.found.as_ref().map(|found| path_order(&found.entry.path, &entry.path));
        match order {
            Some(Ordering::Equal) => return self.now(lane, Some((entry, stat))),
            Some(Ordering::Less) => self.now(lane, None)?,
            _ => {}
        }
        self.carry(entry, stat)
    }

    /// As the parent has it, which must still be all there.
    fn carry(&mut self, entry: Entry, stat: Stat) -> Result<()> {
        if entry.is_file() && !all_present(self.shared, &entry)? {
            return Err(Error::corrupt("the snapshot to be brought up to date is not whole any more"));
        }
        self.shared.databases.carry(&entry.path);
        self.sink.push(Row { entry, stat, change: Change::Same, before: Vec::new() })
    }

    /// The database as it is now; its row stays what it was if its content is.
    fn now(&mut self, lane: &mut Lane<'_>, old: Option<(Entry, Stat)>) -> Result<()> {
        let Some(found) = self.found.take() else { return Ok(()) };
        let shared = self.shared;
        let known = old.as_ref().map(|(entry, _)| Box::new(entry.clone()));
        let captured = capture(shared, lane, Met { found, old: known, claim: None })?;
        // Nobody else is there to store what was handed over.
        while let Ok(run) = shared.runs.1.try_recv() {
            store_run(lane, run)?;
        }
        let Captured::Row(row) = captured else {
            return Err(Error::new(ErrorKind::Refused, "its present state could not be read"));
        };
        check_entry(&row.entry).map_err(Error::invalid)?;
        match old {
            Some((entry, stat)) if entry.content == row.entry.content => {
                self.sink.push(Row { entry, stat, change: Change::Same, before: Vec::new() })
            }
            _ => self.sink.push(*row),
        }
    }
}
