//! From a snapshot back to files: look at snapshot and target, then do it.
//!
//! Nothing here keeps a list of everything. The manifest is followed group by group; what is to be done with each
//! entry is decided where it stands, and `preview` shows the same decisions that `execute` carries out. In memory
//! are two batches of entries, the directories from the target down to where the walk stands, the first name of
//! each hard-linked file, and the reader's cache.

mod added;
mod batch;
mod clear;
mod content;
mod course;
mod database;
mod decide;
mod same;
mod links;
mod place;
mod plan;
mod preview;
mod salvage;
mod select;
mod stage;
mod tally;
pub mod value;
mod verify;

use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::Metadata;
use crate::id::{ChunkId, SnapshotId};
use crate::manifest::walk::Groups;
use crate::os::dir::Status;
use crate::os::storage;
use crate::progress::{Progress, Report};
use crate::repository::decoded::Decoded;
use crate::repository::reader::Reader;
use select::Select;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use stage::{Stage, is_stage};

/// Bytes of a disk that nothing temporary is put into.
const SPARE_BYTES: u64 = 1 << 30;

/// What happens to something that stands in the target already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overwrite {
    /// It is replaced.
    #[default]
    Always,
    /// It is replaced unless type, size and modification time are those of the snapshot: goes on where an
    /// interrupted restore ended.
    IfChanged,
    /// It is replaced if it was modified before what the snapshot holds.
    IfNewer,
    /// It is replaced unless type and content are those of the snapshot, which is found out by reading it.
    IfDifferent,
    /// It stays.
    Never,
}

/// How to restore.
#[derive(Clone, Debug, Default)]
pub struct RestoreOptions {
    /// Stored path of what is wanted, without the leading slash; empty for everything.
    pub below: Vec<u8>,
    /// The contents of the directory `below` go straight into the target; a single file goes there by its name.
    /// The directory's own metadata is applied to a target that has to be made, or with `delete`.
    pub strip: bool,
    /// Patterns as in `.gitignore`, on the stored path: only what matches, all below it and what leads there.
    pub includes: Vec<String>,
    /// The same without regard to upper and lower case.
    pub iincludes: Vec<String>,
    pub excludes: Vec<String>,
    pub iexcludes: Vec<String>,
    pub overwrite: Overwrite,
    /// Remove what stands in restored directories and is not in the snapshot, unless patterns leave it out.
    pub delete: bool,
    /// Read everything again from the disk afterwards and compare.
    pub verify: bool,
    /// Keep what is left of damaged files as `NAME.damaged`, with holes, and a list of these beside it.
    pub salvage: bool,
    /// Make holes of zeros that were stored as data, too.
    pub sparse: bool,
    /// Give things their recorded owner; by default when we are root.
    pub owner: Option<bool>,
    /// Owners by number; otherwise by name where this machine knows the name, and by number where it does not.
    pub numeric_ids: bool,
    /// Setuid and setgid of files; by default when owners are restored.
    pub special_bits: Option<bool>,
    /// Leave extended attributes and ACLs alone.
    pub no_xattrs: bool,
    /// The target is where the snapshot's things came from and are in use.
    pub in_place: Option<InPlace>,
}

/// What a restore must know that goes over things in use: databases are replaced as databases, files are durable before they
/// get their names.
#[derive(Clone, Debug)]
pub struct InPlace {
    /// Stored path of the directory that the target stands for; what is wanted lies below it.
    pub base: Vec<u8>,
    /// What was changed after this is in no safety snapshot, and is left alone.
    pub saved: Option<Timestamp>,
    /// How to bring the safety snapshot up to date with a database that is in use.
    pub resave: Option<Resave>,
    /// Where copies of databases go while they are compared.
    pub scratch: PathBuf,
    /// How long to wait for somebody who keeps a database locked.
    pub wait: Duration,
}

/// Makes the safety snapshot once more if the database at a stored path is not as it holds it, and says by which name. To be
/// called under a lock that keeps writers out until the restore has changed the database.
#[derive(Clone)]
pub struct Resave(pub Arc<Resaving>);

type Resaving = dyn Fn(&[u8]) -> Result<Option<SnapshotId>> + Send + Sync;

impl std::fmt::Debug for Resave {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Resave")
    }
}

impl InPlace {
    /// Fails when a thing was touched after the safety snapshot, which then does not hold it as it is.
    fn unchanged(&self, now: &Status) -> Result<()> {
        match self.saved {
            // A directory goes when it is empty, and each thing in it was looked at.
            Some(_) if now.is_dir() => Ok(()),
            Some(saved) if now.mtime > saved || (now.links == 1 && now.ctime > saved) => {
                let what = "was changed after the safety snapshot was made, and is left alone; do it again";
                Err(Error::new(ErrorKind::Refused, what))
            }
            _ => Ok(()),
        }
    }
}

/// What would be restored, and where to: checked, but nothing has been touched.
pub struct Plan {
    groups: Groups,
    /// The groups that hold what is wanted.
    range: Range<usize>,
    target: PathBuf,
    options: RestoreOptions,
    select: Select,
    /// Stored path of the directory that the target stands for.
    base: Vec<u8>,
    /// Metadata for the target itself, for the cases in which it is given any.
    base_meta: Option<Metadata>,
    /// The directories that lead to `below`, for those that have to be made.
    above: Vec<(Vec<u8>, Metadata)>,
    /// Entries and bytes at or below `below`, whatever the patterns say.
    pub entries: u64,
    pub bytes: u64,
    /// Where files are ready that only need their names.
    stage: Option<Stage>,
}

impl Plan {
    /// With files that were written beside the target before.
    #[must_use]
    pub fn with_stage(self, stage: Option<Stage>) -> Self {
        Plan { stage, ..self }
    }

    /// Room for what is decoded once and needed often, beside the target, of which it must take nothing away.
    fn room_for_decoded(&self) -> Option<Decoded> {
        let target = std::path::absolute(&self.target).ok()?;
        let scratch = self.options.in_place.as_ref().map(|in_place| in_place.scratch.as_path());
        let dir = scratch.or_else(|| target.ancestors().find(|path| path.is_dir()))?;
        let room = storage::free_bytes(dir).ok()?.saturating_sub(2 * self.bytes + SPARE_BYTES);
        (room > 0).then(|| Decoded::new(dir, room))
    }
}

/// What is done with one thing; the answer to "what would happen".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Nothing stands there.
    Create,
    /// What stands there is replaced.
    Replace,
    /// The right thing stands there already.
    Keep,
    /// The same, but its permissions, owner or time are others.
    Mend,
    /// Something else stands there and the rule lets it stand.
    Skip,
    /// Not in the snapshot: deleted, with all below it.
    Delete,
    /// It cannot be restored: a part of its path is something that must stay.
    Conflict,
}

/// One line of a preview.
#[derive(Clone, Copy, Debug)]
pub struct Action<'a> {
    pub what: What,
    /// As stored, also for things that are only in the target.
    pub path: &'a [u8],
    pub is_dir: bool,
    /// Bytes of a file.
    pub bytes: u64,
}

/// How often each action would be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub create: u64,
    pub replace: u64,
    pub keep: u64,
    pub mend: u64,
    pub skip: u64,
    pub delete: u64,
    pub conflict: u64,
    /// Bytes of files that would be written.
    pub bytes: u64,
    /// Regular files meant, and their bytes.
    pub total_files: u64,
    pub total_bytes: u64,
}

impl Counts {
    /// Those of another part.
    pub fn add(&mut self, other: &Counts) {
        self.create += other.create;
        self.replace += other.replace;
        self.keep += other.keep;
        self.mend += other.mend;
        self.skip += other.skip;
        self.delete += other.delete;
        self.conflict += other.conflict;
        self.bytes += other.bytes;
        self.total_files += other.total_files;
        self.total_bytes += other.total_bytes;
    }
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Regular files written or linked.
    pub files_restored: u64,
    /// Regular files that stood there already and were left alone.
    pub files_skipped: u64,
    /// Things removed because the snapshot does not have them.
    pub files_deleted: u64,
    /// Regular files and others that could not be restored.
    pub files_failed: u64,
    /// Those among them of which something was kept under another name.
    pub files_salvaged: u64,
    pub dirs_restored: u64,
    /// Symlinks, pipes, sockets and devices.
    pub others_restored: u64,
    pub bytes_restored: u64,
    pub bytes_skipped: u64,
    /// Regular files meant, and their bytes.
    pub total_files: u64,
    pub total_bytes: u64,
    /// Databases changed while they may be in use, by exchanging pages.
    pub databases_exchanged: u64,
    /// Files read again and found right, and found wrong.
    pub files_verified: u64,
    pub verify_failed: u64,
    /// Problems reported, of every sort.
    pub problems: u64,
    /// Those among them that come from damage in the repository.
    pub damaged: u64,
}

impl Summary {
    /// That of another part.
    pub fn add(&mut self, other: &Summary) {
        self.files_restored += other.files_restored;
        self.files_skipped += other.files_skipped;
        self.files_deleted += other.files_deleted;
        self.files_failed += other.files_failed;
        self.files_salvaged += other.files_salvaged;
        self.dirs_restored += other.dirs_restored;
        self.others_restored += other.others_restored;
        self.bytes_restored += other.bytes_restored;
        self.bytes_skipped += other.bytes_skipped;
        self.total_files += other.total_files;
        self.total_bytes += other.total_bytes;
        self.databases_exchanged += other.databases_exchanged;
        self.files_verified += other.files_verified;
        self.verify_failed += other.verify_failed;
        self.problems += other.problems;
        self.damaged += other.damaged;
    }
}

/// Looks at the request and the snapshot and refuses what is dangerous. Touches nothing.
pub fn plan(reader: &Reader, root: &ChunkId, target: &Path, options: &RestoreOptions) -> Result<Plan> {
    plan::plan(reader, root, target, options)
}

/// Stored paths that `plan` would put there and that the snapshot with the root `before` does not hold.
pub fn added(reader: &Reader, plan: &Plan, before: &ChunkId) -> Result<Vec<Vec<u8>>> {
    added::added(reader, plan, before)
}

/// What stands there of such paths now, and whether each is a directory.
pub fn present(plan: &Plan, paths: &[Vec<u8>]) -> Result<Vec<(Vec<u8>, bool)>> {
    added::present(plan, paths)
}

/// Removes such paths, directories only when they are empty by then. What fails is reported and counted.
pub fn remove(plan: &Plan, paths: &[Vec<u8>], progress: &Progress, report: &dyn Report) -> Result<Summary> {
    added::remove(plan, paths, progress, report)
}

/// Looks at every entry and at the target, and hands over what `execute` would do now. Touches nothing.
pub fn preview(
    reader: &Reader,
    plan: &Plan,
    progress: &Progress,
    report: &dyn Report,
    each: &mut dyn FnMut(&Action<'_>) -> Result<()>,
) -> Result<Counts> {
    preview::preview(reader, plan, progress, report, each)
}

/// Compares everything that the plan means with what stands in the target, whoever put it there. What is missing or differs is
/// reported and counted (`verify_failed`; what is right as `files_verified` and `total_bytes`). `database` hears the stored path
/// of each file that begins as a database does.
pub fn compare(
    reader: &Reader,
    plan: &Plan,
    progress: &Progress,
    report: &dyn Report,
    database: &mut dyn FnMut(&[u8]),
) -> Result<Summary> {
    verify::everything(reader, plan, progress, report, database)
}

/// Restores. What fails is reported and counted, and the rest goes on; only a full disk, a target that cannot be
/// used and the user's wish end it early.
pub fn execute(reader: &Reader, plan: Plan, progress: &Progress, report: &dyn Report) -> Result<Summary> {
    reader.keep_decoded(plan.room_for_decoded());
    let done = batch::execute(reader, &plan, progress, report);
    reader.keep_decoded(None);
    done
}
