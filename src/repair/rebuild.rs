//! A new snapshot of what is left of a damaged one.

use super::assess::{Assessment, Hole, Lens};
use crate::compress::Level;
use crate::crypto::ChunkSort;
use crate::crypto::hash::FileHash;
use crate::error::Result;
use crate::format::entry::{Content, Entry, Extent, Stat, check_entry, path_order};
use crate::format::snapshot::{Repaired, RepairedFile, SessionInfo, Snapshot};
use crate::id::{ChunkId, SnapshotId, hex};
use crate::manifest::build::Builder;
use crate::manifest::walk::{read_group_before, read_stats};
use crate::progress::Progress;
use crate::repository::Repository;
use crate::repository::snapshots::{Listed, encode_path};
use crate::repository::writer::{DeltaPolicy, Lane, Writer};
use std::cmp::Ordering;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering as Memory;

/// What is put behind the name of a damaged file that is kept.
const SUFFIX: &[u8] = b".damaged";
/// Text about damaged files in a record, in bytes: a record is half a mebibyte at most.
const LISTED_BYTES: usize = 200 << 10;
/// Holes listed of one file.
const HOLES_MAX: usize = 100;

/// What is to be made.
pub struct Wish<'a> {
    pub repository: &'a Arc<Repository>,
    pub listed: &'a Listed,
    pub assessment: &'a Assessment,
    pub lens: &'a Lens<'a>,
    /// Keep damaged files under other names.
    pub salvage: bool,
    pub info: &'a SessionInfo,
    pub now: String,
}

/// Makes it; `before` is called with its name when all of it is stored and before it exists.
pub fn make(
    wish: &Wish<'_>,
    progress: &Progress,
    before: &mut dyn FnMut(SnapshotId) -> Result<()>,
) -> Result<SnapshotId> {
    let mut writer = Writer::open(wish.repository, Level::AUTO, wish.info)?;
    let databases = wish.listed.record.sqlite.iter().flat_map(|sqlite| &sqlite.databases);
    let databases_unmet = databases.map(|facts| facts.path.clone()).collect();
    let (root, kept) = {
        let mut rebuild = Rebuild {
            wish,
            builder: Builder::new(&writer, wish.assessment.groups.clone())?,
            content: writer.lane(ChunkSort::Content)?,
            lists: writer.lane(ChunkSort::Manifest)?,
            writer: &writer,
            moved: VecDeque::new(),
            kept: Kept { databases_unmet, ..Kept::default() },
        };
        rebuild.groups(progress)?;
        rebuild.content.finish()?;
        rebuild.lists.finish()?;
        (rebuild.builder.finish()?.root, rebuild.kept)
    };
    let packed = writer.flush()?;
    let record = record(wish, &writer, root, kept, packed.bytes);
    before(writer.session)?;
    progress.keep_going()?;
    writer.commit(&record, packed)
}

/// What went into the new snapshot.
#[derive(Default)]
struct Kept {
    files: u64,
    dirs: u64,
    bytes: u64,
    damaged: Vec<RepairedFile>,
    damaged_bytes: usize,
    /// Those of the record's databases that have not been met whole, by paths as records hold them.
    databases_unmet: BTreeSet<String>,
}

struct Rebuild<'a> {
    wish: &'a Wish<'a>,
    builder: Builder<'a>,
    content: Lane<'a>,
    lists: Lane<'a>,
    writer: &'a Writer,
    /// Damaged files under their new names, in order, waiting for their place.
    moved: VecDeque<(Entry, Stat)>,
    kept: Kept,
}

impl Rebuild<'_> {
    fn groups(&mut self, progress: &Progress) -> Result<()> {
        let (wish, reader) = (self.wish, self.wish.lens.reader);
        let items = &wish.assessment.groups.items;
        for (number, item) in items.iter().enumerate() {
            if wish.assessment.unreadable.contains(&number) {
                continue;
            }
            let entries = read_group_before(reader, item, items.get(number + 1))?;
            let stats = read_stats(reader, item, &entries);
            for (i, entry) in entries.into_iter().enumerate() {
                progress.keep_going()?;
                // Without its column a file is read anew by the next backup.
                let unknown = Stat { racy: true, ..Stat::default() };
                let stat = stats.as_ref().and_then(|stats| stats.get(i)).copied().unwrap_or(unknown);
                self.entry(entry, stat)?;
            }
        }
        while let Some((entry, stat)) = self.moved.pop_front() {
            self.push(entry, stat)?;
        }
        Ok(())
    }

    fn entry(&mut self, entry: Entry, stat: Stat) -> Result<()> {
        while let Some((first, _)) = self.moved.front() {
            match path_order(&first.path, &entry.path) {
                Ordering::Greater => break,
                Ordering::Less => {
                    if let Some((entry, stat)) = self.moved.pop_front() {
                        self.push(entry, stat)?;
                    }
                }
                // Something has that name already.
                Ordering::Equal => {
                    if let Some((entry, stat)) = self.moved.pop_front() {
                        self.move_aside(entry, stat);
                    }
                }
            }
        }
        if !entry.is_file() {
            return self.push(entry, stat);
        }
        match self.wish.lens.rest(&entry.content)? {
            Some(rest) if rest.holes.is_empty() => {
                if !self.kept.databases_unmet.is_empty() {
                    self.kept.databases_unmet.remove(&format!("/{}", encode_path(&entry.path)));
                }
                self.push(entry, stat)
            }
            Some(rest)
                if self.wish.salvage && rest.extents.iter().any(|e| matches!(e, Extent::Chunk { .. })) =>
            {
                let (path, holes) = (entry.path.clone(), rest.holes);
                let content = self.content_of(rest.extents, entry.content.size)?;
                let kept = self.move_aside(Entry { content, ..entry }, Stat { racy: true, ..stat });
                self.note(&path, kept.as_deref(), &holes);
                Ok(())
            }
            rest => {
                let holes = rest.map(|rest| rest.holes).unwrap_or_default();
                self.note(&entry.path, None, &holes);
                Ok(())
            }
        }
    }

    /// Gives a damaged file another name and its place in the order; returns the name, or nothing if it would be too
    /// long.
    fn move_aside(&mut self, mut entry: Entry, stat: Stat) -> Option<Vec<u8>> {
        loop {
            entry.path.extend_from_slice(SUFFIX);
            if check_entry(&entry).is_err() {
                return None;
            }
            let order = |(e, _): &(Entry, Stat)| path_order(&e.path, &entry.path);
            match self.moved.binary_search_by(order) {
                Ok(_) => {}
                Err(at) => {
                    // One name for each: links would need their other names beside them.
                    entry.link = 0;
                    let path = entry.path.clone();
                    self.moved.insert(at, (entry, stat));
                    return Some(path);
                }
            }
        }
    }

    /// A content with holes, and the hash of what it is now.
    fn content_of(&self, extents: Vec<Extent>, size: u64) -> Result<Content> {
        let mut hash = FileHash::new();
        for extent in &extents {
            match extent {
                Extent::Hole { len } => hash.update_zeros(*len),
                Extent::Chunk { id, repeat, .. } => {
                    let chunk = self.wish.lens.reader.get(ChunkSort::Content, id)?;
                    (0..*repeat).for_each(|_| hash.update(&chunk));
                }
            }
        }
        Ok(Content { size, extents, lists: Vec::new(), hash: Some(hash.finish()) })
    }

    fn note(&mut self, path: &[u8], kept: Option<&[u8]>, holes: &[Hole]) {
        let text = |path: &[u8]| format!("/{}", encode_path(path));
        let file = RepairedFile {
            path: text(path),
            kept_as: kept.map(text),
            holes: holes.iter().take(HOLES_MAX).map(|(at, len)| [*at, *len]).collect(),
        };
        self.kept.damaged_bytes += 2 * file.path.len() + 64 + 44 * file.holes.len();
        if self.kept.damaged_bytes <= LISTED_BYTES {
            self.kept.damaged.push(file);
        }
    }

    /// An entry goes in; what it needs must be where the writer may rely on it.
    fn push(&mut self, entry: Entry, stat: Stat) -> Result<()> {
        for id in &entry.content.lists {
            bring(self.writer, self.wish.lens, &mut self.lists, ChunkSort::Manifest, id)?;
        }
        let extents = match entry.content.lists.is_empty() {
            true => entry.content.extents.clone(),
            false => crate::manifest::content::extents(self.wish.lens.reader, &entry.content)?,
        };
        for extent in extents {
            if let Extent::Chunk { id, .. } = extent {
                bring(self.writer, self.wish.lens, &mut self.content, ChunkSort::Content, &id)?;
            }
        }
        self.kept.files += u64::from(entry.is_file());
        self.kept.dirs += u64::from(entry.is_dir());
        self.kept.bytes = self.kept.bytes.saturating_add(entry.content.size);
        self.builder.push(entry, stat)
    }
}

/// Stores a chunk that so far only packs hold that are about to be deleted.
fn bring(writer: &Writer, lens: &Lens<'_>, lane: &mut Lane<'_>, sort: ChunkSort, id: &ChunkId) -> Result<()> {
    if writer.known(id)? || !lane.claim(id)? {
        return Ok(());
    }
    let plain = lens.reader.get(sort, id)?;
    lane.store(*id, &plain, &[], DeltaPolicy::CONTENT)
}

fn record(wish: &Wish<'_>, writer: &Writer, root: ChunkId, kept: Kept, packed: u64) -> Snapshot {
    let old = &wish.listed.record;
    let lost = wish.assessment.entries_lost();
    let mut summary = old.summary;
    summary.files_new = 0;
    summary.files_changed = 0;
    summary.files_unmodified = kept.files;
    summary.dirs_new = 0;
    summary.dirs_changed = 0;
    summary.dirs_unmodified = kept.dirs;
    summary.total_files_processed = kept.files;
    summary.total_bytes_processed = kept.bytes;
    summary.data_blobs = writer.counters.content_chunks.load(Memory::Relaxed);
    summary.tree_blobs = writer.counters.manifest_chunks.load(Memory::Relaxed);
    summary.data_added = writer.counters.raw_bytes.load(Memory::Relaxed);
    summary.data_added_packed = packed;
    summary.problems =
        old.summary.problems.saturating_add(wish.assessment.files_damaged).saturating_add(lost);
    // What was found of a database holds for as long as it is whole.
    let mut sqlite = old.sqlite.clone();
    if let Some(sqlite) = &mut sqlite {
        sqlite.databases.retain(|facts| !kept.databases_unmet.contains(&facts.path));
    }
    Snapshot {
        id: writer.session.to_string(),
        root: hex(&root.0),
        parent: Some(wish.listed.id.to_string()),
        // Directly behind the one that it stands for, and so never newer than what came after that.
        order_time: old.order_time.saturating_add(1),
        program_version: wish.info.program.clone(),
        summary,
        backup_start: wish.now.clone(),
        backup_end: wish.now.clone(),
        origin: None,
        repaired: Some(Repaired {
            from: wish.listed.id.to_string(),
            salvaged: wish.salvage,
            entries_lost: lost,
            files_damaged: wish.assessment.files_damaged,
            files: kept.damaged,
        }),
        sqlite,
        ..old.clone()
    }
}
