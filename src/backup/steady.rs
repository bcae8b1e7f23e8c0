//! A workspace as one state: once all of it has been read it is looked at again, and what moved is read again, until a
//! look finds everything as it was read.
//!
//! The rows of a workspace come one after another; they are held until then. Everything else goes on meanwhile.

use super::perform::{Change, Row, Task, perform};
use super::pipeline::{Shared, store_run};
use super::read::Hands;
use crate::crypto::ChunkSort;
use crate::error::Result;
use crate::format::entry::{Entry, path_order};
use crate::manifest::walk::is_below;
use crate::source::listed::Looker;
use crate::source::{FileSource, Found, Step};
use std::collections::HashSet;
use std::time::Duration;

/// Looks at a workspace before it is given up as never still.
const LOOKS_MAX: u64 = 6;
/// Time for whoever writes to come to an end.
const PAUSE: Duration = Duration::from_millis(50);
/// Time stamps are that coarse, or finer: two writes so close to one another may bear the same.
const TICK_NANOS: i64 = 100_000_000;
/// Rows held at once; a larger workspace is not looked at again.
const HELD_MAX: usize = 100_000;

/// Holds back the rows of workspaces.
pub struct Steady<'a> {
    shared: &'a Shared<'a>,
    source: &'a FileSource,
    looker: Looker,
    hands: Option<Hands<'a>>,
    /// The workspace whose rows are held.
    current: Option<usize>,
    /// It has too many rows to hold.
    too_large: bool,
    held: Vec<Row>,
    /// Files that were written shortly before they were read, and read again when that was long enough ago for any later
    /// write to show.
    settled: HashSet<Vec<u8>>,
}

/// What one look came to.
#[derive(Default)]
struct Look {
    moved: u64,
    /// Something could not be looked at: nothing may be taken for gone.
    blind: bool,
}

impl<'a> Steady<'a> {
    pub fn new(shared: &'a Shared<'a>, source: &'a FileSource, looker: Looker) -> Self {
        let (hands, current, too_large, held, settled) = Default::default();
        Steady { shared, source, looker, hands, current, too_large, held, settled }
    }

    /// Takes a row; answers those that may go on now.
    pub fn take(&mut self, row: Row) -> Result<Vec<Row>> {
        let place = self.shared.documents.workspace(&row.entry.path);
        let mut free =
            if self.current.is_some() && place != self.current { self.settle()? } else { Vec::new() };
        if place.is_none() {
            free.push(row);
            return Ok(free);
        }
        self.current = place;
        self.held.push(row);
        if self.held.len() >= HELD_MAX || self.too_large {
            self.too_large = true;
            free.append(&mut self.held);
        }
        Ok(free)
    }

    /// The end: the rows still held.
    pub fn finish(mut self) -> Result<Vec<Row>> {
        let rows = self.settle()?;
        if let Some(hands) = self.hands.take() {
            hands.lane.finish()?;
        }
        for workspace in self.shared.documents.unmet() {
            self.shared.problem(workspace, "this workspace is not there, or is left out by a rule");
        }
        Ok(rows)
    }

    fn settle(&mut self) -> Result<Vec<Row>> {
        let Some(workspace) = self.current.take() else { return Ok(Vec::new()) };
        let documents = &self.shared.documents;
        let path = documents.stored(workspace).to_vec();
        if std::mem::take(&mut self.too_large) {
            documents.note_workspace(workspace, 0, false);
            let what = "this workspace has more than 100,000 entries and was not looked at again: what changed while \
                        it was read may be stored in part";
            self.shared.problem(&path, what);
            return Ok(std::mem::take(&mut self.held));
        }
        let mut looks = 0;
        let steady = loop {
            looks += 1;
            let look = self.look(&path)?;
            if look.moved == 0 && !look.blind {
                break true;
            }
            if looks == LOOKS_MAX || look.blind {
                break false;
            }
            std::thread::sleep(PAUSE);
        };
        documents.note_workspace(workspace, looks, steady);
        if !steady {
            let what = format!(
                "this workspace changed while it was read, at each of {looks} looks: its files may be of different moments"
            );
            self.shared.problem(&path, &what);
        }
        Ok(std::mem::take(&mut self.held))
    }

    /// Goes through the workspace beside the rows, and puts right what is not as it was read.
    fn look(&mut self, workspace: &[u8]) -> Result<Look> {
        let (shared, source, looker) = (self.shared, self.source, self.looker.clone());
        let mut before = std::mem::take(&mut self.held).into_iter().peekable();
        let mut look = Look::default();
        let mut rows: Vec<Row> = Vec::new();
        let mut gone: Vec<Row> = Vec::new();
        let walked = source.walk_below(&looker, workspace, shared.progress, &mut |step| {
            let found = match step {
                Step::Found(found) => found,
                Step::Problem(_) => {
                    look.blind = true;
                    return Ok(());
                }
            };
            let path = &found.entry.path;
            if !is_below(path, workspace) {
                return Ok(());
            }
            while let Some(row) = before.next_if(|row| path_order(&row.entry.path, path).is_lt()) {
                gone.push(row);
            }
            let old = before.next_if(|row| row.entry.path == *path);
            self.compare(found, old, &mut rows, &mut look)
        });
        walked?;
        gone.extend(before);
        if look.blind {
            // What was not seen may be there; it stays as it was read.
            rows.append(&mut gone);
            rows.sort_by(|a, b| path_order(&a.entry.path, &b.entry.path));
        }
        for row in gone {
            look.moved += 1;
            shared.documents.note(&row.entry.path, None);
        }
        self.held = rows;
        Ok(look)
    }

    /// One thing found again, or for the first time.
    fn compare(
        &mut self,
        found: Box<Found>,
        old: Option<Row>,
        rows: &mut Vec<Row>,
        look: &mut Look,
    ) -> Result<()> {
        let shared = self.shared;
        let Some(old) = old else {
            let path = &found.entry.path;
            if shared.documents.has_failed(path) || shared.databases.accounts_for(path) {
                return Ok(());
            }
            look.moved += 1;
            return self.read(found, None, Change::New, rows);
        };
        let same = is_same(&old, &found);
        let doubtful = old.stat.racy && old.entry.is_file() && !self.settled.contains(&old.entry.path);
        if shared.databases.accounts_for(&old.entry.path) || (same && !doubtful) {
            rows.push(old);
            return Ok(());
        }
        if same {
            return self.read_doubtful(found, old, rows, look);
        }
        // A directory's times follow from what happened in it, which is looked at by itself.
        let is_dir = old.entry.is_dir() && found.entry.is_dir();
        look.moved += u64::from(!is_dir);
        let change = if old.change == Change::New { Change::New } else { Change::Changed };
        self.read(found, Some(old.entry), change, rows)
    }

    /// A file whose time stamps cannot tell whether it was written after it was read.
    fn read_doubtful(
        &mut self,
        found: Box<Found>,
        old: Row,
        rows: &mut Vec<Row>,
        look: &mut Look,
    ) -> Result<()> {
        let now = self.shared.databases.now().nanoseconds();
        let waited = now.saturating_sub(found.stat.ctime.nanoseconds()) >= TICK_NANOS;
        let (path, before) = (old.entry.path.clone(), old.entry.content.clone());
        self.read(found, Some(old.entry), old.change, rows)?;
        let same = rows.last().is_some_and(|row| row.entry.path == path && row.entry.content == before);
        look.moved += u64::from(!same || !waited);
        if waited {
            self.settled.insert(path);
        }
        Ok(())
    }

    fn read(
        &mut self,
        found: Box<Found>,
        old: Option<Entry>,
        change: Change,
        rows: &mut Vec<Row>,
    ) -> Result<()> {
        let shared = self.shared;
        let mut hands = match self.hands.take() {
            Some(hands) => hands,
            None => Hands::new(shared.writer.lane(ChunkSort::Content)?, self.looker.clone()),
        };
        let path = found.entry.path.clone();
        let old = old.filter(|old| old.is_file() == found.entry.is_file()).map(Box::new);
        let mut read = Vec::new();
        perform(shared, &mut hands, Task::Read { found, old, sampled: false, encrypted: false }, &mut read)?;
        // Nobody else may be left to store what was handed over.
        while let Ok(run) = shared.runs.1.try_recv() {
            store_run(&mut hands.lane, run)?;
        }
        self.hands = Some(hands);
        if read.is_empty() {
            shared.documents.note(&path, None);
            shared.documents.note_failed(&path);
        }
        rows.extend(read.into_iter().map(|row| Row { change, ..row }));
        Ok(())
    }
}

/// Whether a thing is as it was when it was read.
fn is_same(old: &Row, found: &Found) -> bool {
    let (then, now) = (&old.entry, &found.entry);
    then.kind == now.kind
        && then.meta.mtime == now.meta.mtime
        && (old.stat.ctime, old.stat.inode) == (found.stat.ctime, found.stat.inode)
        && (!now.is_file() || then.content.size == found.size)
}
