//! What is wrong with a repository, whom it hurts, and what to do next: data, not errors.

use crate::id::{PackId, SnapshotId};
use crate::units::counted;
use std::fmt;

/// Files listed with one finding; all are counted.
pub const FILES_LISTED_MAX: usize = 100;

/// What is damaged. The codes are for scripts and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DamageKind {
    Config,
    Keys,
    CondemnedList,
    Snapshot,
    Note,
    /// Header, footer or trailer of a pack: its chunks count as not there.
    PackUnreadable,
    /// Bytes inside a pack.
    PackDamaged,
    /// Wanted, and in no pack that can be read.
    ChunkMissing,
    /// There, but what it builds on leads nowhere.
    ChunkUndecodable,
    /// There, but not what its file says about it.
    ChunkMismatch,
    /// A root, group or content list that decodes to nonsense although its bytes are as they were written.
    Manifest,
    /// Costs time at the next backup, loses nothing.
    StatColumn,
    /// A file's chunks are intact but do not make up the file that was read.
    FileHash,
    /// What a pack could be mended with; the pack itself is another matter.
    Parity,
    /// The second copy of a record; the record itself is another matter.
    Copy,
    /// Copies of packs' footers that are not what the footers say: derived, and nobody's only copy.
    Segment,
}

impl DamageKind {
    pub fn code(self) -> &'static str {
        match self {
            DamageKind::Config => "config-damaged",
            DamageKind::Keys => "keys-damaged",
            DamageKind::CondemnedList => "condemned-list-damaged",
            DamageKind::Snapshot => "snapshot-unreadable",
            DamageKind::Note => "note-unreadable",
            DamageKind::PackUnreadable => "pack-unreadable",
            DamageKind::PackDamaged => "pack-damaged",
            DamageKind::ChunkMissing => "chunk-missing",
            DamageKind::ChunkUndecodable => "chunk-undecodable",
            DamageKind::ChunkMismatch => "chunk-mismatch",
            DamageKind::Manifest => "manifest-damaged",
            DamageKind::StatColumn => "stat-column-damaged",
            DamageKind::FileHash => "file-hash-mismatch",
            DamageKind::Parity => "parity-damaged",
            DamageKind::Copy => "copy-damaged",
            DamageKind::Segment => "segment-damaged",
        }
    }

    /// What to do next; `what` is the damaged thing. Only commands that exist, and only what they really do: a backup
    /// stores anew whatever it meets whose stored copy is not there.
    pub fn next(self) -> String {
        match self {
            DamageKind::Config => "snapkeep copy --from-repo THIS into a new repository".to_owned(),
            DamageKind::Keys => "snapkeep key passwd".to_owned(),
            DamageKind::Note => "snapkeep tag".to_owned(),
            DamageKind::CondemnedList => {
                "nothing can be written here until it can be read: bring the file back from a copy of the repository"
                    .to_owned()
            }
            DamageKind::PackDamaged | DamageKind::PackUnreadable => {
                "snapkeep repair packs --apply: saves what can be saved, and a backup stores the rest anew"
                    .to_owned()
            }
            DamageKind::ChunkMissing | DamageKind::ChunkUndecodable => {
                "snapkeep backup the same sources: what they still hold is stored anew; then snapkeep repair \
                 snapshots for what they do not"
                    .to_owned()
            }
            DamageKind::Parity => "snapkeep repair parity --apply".to_owned(),
            DamageKind::Copy => REPAIR_RECORDS.to_owned(),
            DamageKind::Segment => "snapkeep repair index".to_owned(),
            _ => "snapkeep backup --force the same sources".to_owned(),
        }
    }
}

/// What puts a config, a key record or a snapshot right whose other copy is intact.
pub const REPAIR_RECORDS: &str = "snapkeep repair snapshots --apply";

/// A file of a snapshot that cannot be restored as it was.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HurtFile {
    pub snapshot: SnapshotId,
    /// Raw bytes, no leading slash. Where a whole group of entries is lost, the first of them.
    pub path: Vec<u8>,
}

/// One finding.
#[derive(Clone, Debug)]
pub struct Damage {
    pub kind: DamageKind,
    /// The file of the repository, or the chunk or snapshot.
    pub what: String,
    /// The first thing found wrong with it.
    pub detail: String,
    /// How many more things were.
    pub more: u64,
    pub packs: Vec<PackId>,
    /// Chunks that are damaged or lost by it, where that is known.
    pub chunks: u64,
    pub snapshots: Vec<SnapshotId>,
    /// Those among them of which nothing is left.
    pub lost: Vec<SnapshotId>,
    /// The first hundred; `files_total` counts all, each once in each snapshot.
    pub files: Vec<HurtFile>,
    pub files_total: u64,
    /// Whether everything damaged here can be computed or copied again, bit for bit.
    pub mendable: bool,
    pub next: String,
}

impl Damage {
    pub fn new(kind: DamageKind, what: impl Into<String>, detail: impl Into<String>) -> Self {
        let what = what.into();
        let next = kind.next();
        Damage {
            kind,
            what,
            detail: detail.into(),
            more: 0,
            packs: Vec::new(),
            chunks: 0,
            snapshots: Vec::new(),
            lost: Vec::new(),
            files: Vec::new(),
            files_total: 0,
            mendable: false,
            next,
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind == DamageKind::ChunkMissing || self.detail.contains(&self.what) {
            f.write_str(&self.detail)?;
        } else {
            write!(f, "{}: {}", self.what, self.detail)?;
        }
        if self.more > 0 {
            write!(f, " (and {} more)", self.more)?;
        }
        if self.chunks > 0 {
            write!(f, "; {}", counted(self.chunks, "chunk", "chunks"))?;
        }
        if self.files_total > 0 {
            write!(f, "; hurts {}", counted(self.files_total, "file", "files"))?;
        }
        if !self.snapshots.is_empty() {
            write!(f, " in {}", counted(self.snapshots.len() as u64, "snapshot", "snapshots"))?;
        }
        if !self.lost.is_empty() {
            let names: Vec<String> = self.lost.iter().map(|id| id.short()).collect();
            let what = if names.len() == 1 { "snapshot" } else { "snapshots" };
            write!(f, "; nothing is left of {what} {}", names.join(", "))?;
        }
        if self.mendable {
            f.write_str("; all of it can be put right")?;
        }
        write!(f, " [{}; next: {}]", self.kind.code(), self.next)
    }
}

/// Worth knowing, but nothing is lost by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Information {
    /// For scripts.
    pub code: &'static str,
    pub text: String,
}

/// A file that could not be looked at: the machine refused, which says nothing about the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unchecked {
    pub what: String,
    pub why: String,
}
