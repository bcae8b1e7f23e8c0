//! Records about snapshots: who opened a session, what it committed, what was noted later. JSON, sealed.
//!
//! Bytes: `format-spec/4-snapshots.md`.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Who holds a session open; the first frame of a session file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionInfo {
    pub host: String,
    pub pid: u32,
    pub boot_id: String,
    /// RFC 3339.
    pub started: String,
    pub program: String,
}

/// Counts of one backup, named as restic names them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Summary {
    pub files_new: u64,
    pub files_changed: u64,
    pub files_unmodified: u64,
    pub dirs_new: u64,
    pub dirs_changed: u64,
    pub dirs_unmodified: u64,
    /// Chunks of file content stored, and of the manifest.
    pub data_blobs: u64,
    pub tree_blobs: u64,
    /// Bytes stored before and after compression, manifest included.
    pub data_added: u64,
    pub data_added_packed: u64,
    pub total_files_processed: u64,
    pub total_bytes_processed: u64,
    /// Entries that could not be read.
    pub problems: u64,
    /// Databases stored as plain files, nobody having checked them.
    pub unverified: u64,
}

/// The state of the source when it is a git work tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitState {
    pub commit: String,
    pub dirty: bool,
}

/// What is known of the JSON files in a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct JsonFacts {
    /// Files that were checked, now or when they were last read.
    pub files: u64,
    /// Those that are not sound: they do not parse, have a key twice in one object, or are nested too deep.
    pub invalid: u64,
    /// The first of them, in the order of their paths.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub invalid_files: Vec<JsonFault>,
    #[serde(skip_serializing_if = "is_zero")]
    pub not_listed: u64,
    /// Directories that were to be stored as one state.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub workspaces: Vec<WorkspaceFacts>,
}

/// What is wrong with a JSON file; line and column count from 1, columns in bytes, 0 where nobody knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct JsonFault {
    /// As in `paths`.
    pub path: String,
    pub line: u64,
    pub column: u64,
    pub what: String,
}

/// A directory that was to be stored as one state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkspaceFacts {
    /// As in `paths`.
    pub path: String,
    /// How often it was looked at again after all of it had been read.
    pub looks: u64,
    /// The last look found everything as it had been read.
    pub steady: bool,
}

/// What is known of the databases in a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Databases {
    /// In the order of their paths; those beyond the room of a record are only counted.
    pub databases: Vec<DatabaseFacts>,
    #[serde(skip_serializing_if = "is_zero")]
    pub not_listed: u64,
    /// Between the first and the last moment at which a database of this snapshot was held still, in milliseconds.
    pub skew_ms: u64,
}

/// One database, as it was captured and checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DatabaseFacts {
    /// As in `paths`.
    pub path: String,
    /// `wal` or `rollback`: what its users keep beside it.
    pub journal: String,
    /// How one state of it was held: `log`, `still`, `locked`, `recovered`, `copied`.
    pub capture: String,
    /// RFC 3339: the moment of that state.
    pub pinned: String,
    pub page_size: u32,
    pub pages: u32,
    pub check: DatabaseCheck,
    /// Rows whose foreign key leads nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub foreign_key_violations: Option<u64>,
    /// A hash of all `CREATE` statements, 32 hex digits.
    pub schema: String,
    pub user_version: i32,
    pub application_id: i32,
    /// Rows of each table.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tables: BTreeMap<String, u64>,
    /// Tables whose counts did not fit into the record.
    #[serde(skip_serializing_if = "is_zero")]
    pub tables_not_listed: u64,
    pub source: DatabaseSource,
}

/// What a database was found to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DatabaseCheck {
    /// `full`, `quick` or `off`.
    pub depth: String,
    /// `ok`, `failed`, or `unknown`: not asked, or not possible.
    pub result: String,
    /// What SQLite said, where that is not `ok`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<String>,
    /// RFC 3339: an unchanged database is not checked again.
    pub time: String,
}

/// The files a database was read from, by which the next backup knows that nothing has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DatabaseSource {
    pub inode: u64,
    pub size: u64,
    /// Nanoseconds since 1970, of the main file.
    pub mtime: i64,
    pub ctime: i64,
    /// Those times were old enough at capture that any later write must show in them.
    pub settled: bool,
    /// The part of the write-ahead log that belongs to the state: salts as hex digits, frames, checksum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<DatabaseLog>,
}

/// A state of a write-ahead log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DatabaseLog {
    pub salts: String,
    pub frames: u32,
    pub checksum: [u32; 2],
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// What commits a session: the second frame of its file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The session's name, 32 hex digits.
    pub id: String,
    /// The manifest's root chunk, 48 hex digits.
    pub root: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// RFC 3339: the start of the backup, or what the user said.
    pub time: String,
    /// max(clock, last of the series + 1), in nanoseconds since 1970: never goes backwards in a series, whatever the
    /// clock does.
    pub order_time: i64,
    /// Counts up in a series (same host and paths).
    pub sequence: u64,
    pub hostname: String,
    pub username: String,
    /// Absolute source paths; bytes that are not UTF-8 as `%XX`, `%` as `%25`.
    pub paths: Vec<String>,
    #[serde(default)]
    pub tags: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    pub program_version: String,
    #[serde(default)]
    pub excludes: Vec<String>,
    pub summary: Summary,
    /// RFC 3339, by the clock, whatever `time` says.
    pub backup_start: String,
    pub backup_end: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<GitState>,
    /// For a snapshot copied from elsewhere: repository and snapshot it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// For a snapshot that a repair made of a damaged one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repaired: Option<Repaired>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sqlite: Option<Databases>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<JsonFacts>,
    /// For a safety snapshot: the restore it was made before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before_restore: Option<BeforeRestore>,
    /// The state before or after a command that was run under guard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guarded: Option<Guarded>,
    /// What a profile expects of the set that this is a state of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<Expected>,
}

/// What a profile expects of its sets, for whoever sees only the repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Expected {
    /// The name of the profile, and of the set in it.
    pub profile: String,
    pub set: String,
    /// `critical`, `high` or `medium`.
    pub class: String,
    /// The next snapshot of the set is overdue when this one is older, in seconds; none: nobody said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age_seconds: Option<u64>,
}

impl Expected {
    /// Whether `SET` or `PROFILE/SET` names it.
    pub fn is_set(&self, name: &str) -> bool {
        match name.split_once('/') {
            Some((profile, set)) => self.profile == profile && self.set == set,
            None => self.set == name,
        }
    }
}

/// A restore over what was there, as far as taking it back needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BeforeRestore {
    /// The snapshot that was put back, 32 hex digits.
    pub from: String,
    /// What was put back, as `paths` are written.
    pub paths: Vec<String>,
    /// The patterns by which it was chosen.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub includes: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub iincludes: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub excludes: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub iexcludes: Vec<String>,
    /// What the snapshot does not have was deleted.
    #[serde(skip_serializing_if = "is_false")]
    pub delete: bool,
    /// The restore was itself one that took another back.
    #[serde(skip_serializing_if = "is_false")]
    pub undo: bool,
    /// A note says when it has ended well.
    #[serde(skip_serializing_if = "is_false")]
    pub end_noted: bool,
}

/// A command that ran between two snapshots.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Guarded {
    /// The program's name, without its directory. Its arguments are written down nowhere: they may hold secrets.
    pub command: String,
    /// The snapshot of the state before, 32 hex digits; none in that snapshot itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// Of each database, `user_version` on both sides of the command.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub user_versions: Vec<UserVersions>,
}

/// A database's `user_version` before and after; none where the database was not there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UserVersions {
    /// As in `paths`.
    pub path: String,
    pub before: Option<i32>,
    pub after: Option<i32>,
}

fn is_false(is: &bool) -> bool {
    !*is
}

/// What a repaired snapshot lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repaired {
    /// The damaged snapshot, 32 hex digits.
    pub from: String,
    /// Damaged files are kept under other names, with holes; otherwise they are left out.
    #[serde(default)]
    pub salvaged: bool,
    /// Entries whose very names are lost, and all damaged files.
    #[serde(default)]
    pub entries_lost: u64,
    #[serde(default)]
    pub files_damaged: u64,
    /// The first of them.
    #[serde(default)]
    pub files: Vec<RepairedFile>,
}

/// A damaged file of the snapshot before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairedFile {
    /// As `paths` are written.
    pub path: String,
    /// Where it is kept, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_as: Option<String>,
    /// Offset and length of each stretch that is lost; none when nobody can say.
    #[serde(default)]
    pub holes: Vec<[u64; 2]>,
}

/// A write-once remark about a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The snapshot's id.
    pub snapshot: String,
    /// Counts up over the notes of one snapshot; ties are broken by the note's own name.
    pub sequence: u64,
    pub time: String,
    #[serde(flatten)]
    pub what: NoteKind,
}

/// What came of trying the rules of a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RulesTried {
    /// As in `paths`.
    pub directory: String,
    /// Rules that passed, failed, and could not be tried or had nothing to be tried on.
    pub passed: u64,
    pub failed: u64,
    pub errors: u64,
    /// The first reasons, for people.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
}

/// What came of restoring a snapshot to a scratch place, to see whether it can be restored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DrillDone {
    pub passed: bool,
    /// What was restored, as in `paths`; empty for all of the snapshot.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// The machine that did it.
    pub host: String,
    /// Files that came back as they were stored, and their bytes.
    pub files: u64,
    pub bytes: u64,
    /// Things that did not.
    pub wrong: u64,
    /// Databases that were opened; those of them that are not sound, and those SQLite could not judge.
    pub databases: u64,
    pub databases_failed: u64,
    pub databases_unknown: u64,
    pub rules_passed: u64,
    pub rules_failed: u64,
    /// Rules that could not be tried, or had nothing to be tried on.
    pub rules_errors: u64,
    /// How the command inside the restored tree ended: its exit code, -1 when it was stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<i32>,
    /// Until all was restored and durable, and until all was checked.
    pub restore_ms: u64,
    pub total_ms: u64,
    /// The first reasons why it did not pass, for people.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
}

/// What came of a check of the whole repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CheckDone {
    /// All that was looked at is as it should be, and all that was asked for could be looked at.
    pub passed: bool,
    /// The machine that did it.
    pub host: String,
    /// Findings, and files that could not be looked at.
    pub damage: u64,
    pub unchecked: u64,
    /// Stored bytes were read, not the outline alone.
    pub read_data: bool,
    /// Packs there are; read whole now; left out because they were read lately; left over when the time was up.
    pub packs: u64,
    pub packs_read: u64,
    pub packs_fresh: u64,
    pub packs_left: u64,
    pub bytes_read: u64,
    pub total_ms: u64,
    /// The first findings, for people.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
}

/// One thing that a repair did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairAction {
    /// `pack-rewritten`, `pack-condemned`, `record-restored`, `snapshot-made`, …
    pub action: String,
    /// The file it was done to, or the snapshot.
    pub what: String,
    /// For people.
    pub detail: String,
}

/// What a note says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "note", rename_all = "kebab-case")]
pub enum NoteKind {
    /// The tags from now on.
    Tags { tags: Vec<String> },
    /// A tombstone: the snapshot is in the trash from now on and never leaves it under this id.
    Forgotten {
        /// The machine that forgot it, for people.
        #[serde(default)]
        host: String,
    },
    /// Whether the snapshot is pinned from now on: then no policy forgets it, and nothing empties it from the trash.
    Pin {
        pinned: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        label: Option<String>,
    },
    /// What a repair did to the repository; `snapshot` is empty.
    Repair { actions: Vec<RepairAction> },
    /// What came of trying rules on the snapshot.
    Rules(RulesTried),
    /// What came of a drill.
    Drill(DrillDone),
    /// What came of a check; `snapshot` is empty.
    Check(CheckDone),
    /// For a safety snapshot: what stood at its places is no mixture any more. The restore ended well, or was done again or
    /// taken back since.
    Settled {
        /// The machine that knows, for people.
        #[serde(default)]
        host: String,
    },
    /// Written by a later version; kept, not understood.
    #[serde(other)]
    Unknown,
}

/// A record as JSON.
pub fn encode<T: Serialize>(record: &T) -> Vec<u8> {
    serde_json::to_vec(record).unwrap_or_default()
}

/// A record from JSON; `what` names it in the error.
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8], what: &str) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| Error::corrupt(format!("{what} is damaged: {e}")))
}
