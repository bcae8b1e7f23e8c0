//! Collects what all threads find, each thing once, and remembers which chunk is hurt by which finding.

use super::damage::{Damage, DamageKind, FILES_LISTED_MAX, HurtFile, Information, Unchecked};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{ChunkId, PackId, SnapshotId};
use crate::progress::{Problem, Progress, Report};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Files that could not be looked at are listed up to this many.
const UNCHECKED_MAX: usize = 1000;

/// The number of a finding.
pub type Finding = usize;

#[derive(Default)]
struct Inner {
    damage: Vec<Damage>,
    known: HashMap<(DamageKind, String), Finding>,
    /// Chunks that cannot be had, with the finding that says why.
    cause: HashMap<ChunkId, Finding>,
    information: Vec<Information>,
    unchecked: Vec<Unchecked>,
}

/// All findings of one check.
pub struct Findings<'a> {
    inner: Mutex<Inner>,
    any_cause: AtomicBool,
    report: &'a dyn Report,
    progress: &'a Progress,
}

impl<'a> Findings<'a> {
    pub fn new(report: &'a dyn Report, progress: &'a Progress) -> Self {
        Findings { inner: Mutex::default(), any_cause: AtomicBool::new(false), report, progress }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, what: &str, message: String) -> Problem {
        Problem { item: what.as_bytes().to_vec(), during: "check", message }
    }

    /// A finding; further ones of the same kind about the same thing are only counted.
    pub fn add(&self, kind: DamageKind, what: impl Into<String>, detail: impl Into<String>) -> Finding {
        let (what, detail) = (what.into(), detail.into());
        let number = {
            let mut inner = self.inner();
            if let Some(&number) = inner.known.get(&(kind, what.clone())) {
                inner.damage[number].more += 1;
                return number;
            }
            let number = inner.damage.len();
            inner.damage.push(Damage::new(kind, what.clone(), detail.clone()));
            inner.known.insert((kind, what.clone()), number);
            number
        };
        self.progress.errors.fetch_add(1, Ordering::Relaxed);
        // A chunk that is nowhere is not in any file that could be named in front.
        let item = if kind == DamageKind::ChunkMissing { "chunk" } else { &what };
        self.report.problem(&self.tell(item, detail));
        number
    }

    /// A finding about a pack.
    pub fn add_pack(&self, kind: DamageKind, pack: PackId, detail: impl Into<String>) -> Finding {
        let number = self.add(kind, crate::format::FileName::Pack(pack).path(), detail);
        self.concerns(number, pack);
        number
    }

    pub fn concerns(&self, finding: Finding, pack: PackId) {
        let mut inner = self.inner();
        let packs = &mut inner.damage[finding].packs;
        if !packs.contains(&pack) {
            packs.push(pack);
        }
    }

    /// A chunk that is lost or cannot be had because of a finding.
    pub fn blame(&self, finding: Finding, id: &ChunkId) {
        let mut inner = self.inner();
        if let std::collections::hash_map::Entry::Vacant(entry) = inner.cause.entry(*id) {
            entry.insert(finding);
            inner.damage[finding].chunks += 1;
        }
        self.any_cause.store(true, Ordering::Relaxed);
    }

    /// The finding that says why a chunk cannot be had.
    pub fn cause(&self, id: &ChunkId) -> Option<Finding> {
        if !self.any_cause.load(Ordering::Relaxed) {
            return None;
        }
        self.inner().cause.get(id).copied()
    }

    /// What an error while looking at `what` means: damage, something that could not be looked at, or the end.
    pub fn sort_out(&self, kind: DamageKind, what: &str, error: &Error) -> Result<Option<Finding>> {
        match error.kind() {
            ErrorKind::Corrupt | ErrorKind::Unsupported | ErrorKind::Invalid => {
                Ok(Some(self.add(kind, what, error.message())))
            }
            ErrorKind::Cancelled => Err(error.clone()),
            _ => {
                self.unchecked(what, error);
                Ok(None)
            }
        }
    }

    pub fn unchecked(&self, what: &str, error: &Error) {
        let mut inner = self.inner();
        if inner.unchecked.len() < UNCHECKED_MAX && !inner.unchecked.iter().any(|u| u.what == what) {
            let why = error.message().to_owned();
            inner.unchecked.push(Unchecked { what: what.to_owned(), why: why.clone() });
            drop(inner);
            self.report.problem(&self.tell(what, why));
        }
    }

    /// Something that goes into the report and nowhere else.
    pub fn inform(&self, code: &'static str, text: impl Into<String>) {
        self.inner().information.push(Information { code, text: text.into() });
    }

    /// Nothing of a snapshot can be restored.
    pub fn loses_snapshot(&self, finding: Finding, snapshot: SnapshotId) {
        self.hurts_snapshot(finding, snapshot);
        let lost = &mut self.inner().damage[finding].lost;
        if lost.contains(&snapshot) {
            return;
        }
        lost.push(snapshot);
        let message = "nothing of this snapshot can be restored: the root of its manifest is lost".to_owned();
        let name = crate::format::FileName::Snapshot(snapshot).path();
        self.report.problem(&self.tell(&name, message));
    }

    pub fn hurts_snapshot(&self, finding: Finding, snapshot: SnapshotId) {
        let mut inner = self.inner();
        let snapshots = &mut inner.damage[finding].snapshots;
        if !snapshots.contains(&snapshot) {
            snapshots.push(snapshot);
        }
    }

    /// `total` files of a snapshot are hurt, `paths` among them.
    pub fn hurts_files(&self, finding: Finding, snapshot: SnapshotId, paths: &[Vec<u8>], total: u64) {
        self.hurts_snapshot(finding, snapshot);
        let mut inner = self.inner();
        let damage = &mut inner.damage[finding];
        damage.files_total += total;
        let room = FILES_LISTED_MAX.saturating_sub(damage.files.len());
        let listed = paths.iter().take(room).map(|path| HurtFile { snapshot, path: path.clone() });
        damage.files.extend(listed);
    }

    /// The first finding about this thing.
    pub fn about(&self, what: &str) -> Option<Finding> {
        self.inner().damage.iter().position(|d| d.what == what)
    }

    /// What a finding is about can be put right bit for bit, by `next`.
    pub fn mendable(&self, finding: Finding, next: &str) {
        let mut inner = self.inner();
        inner.damage[finding].mendable = true;
        next.clone_into(&mut inner.damage[finding].next);
    }

    /// Findings about the insides or ends of packs, with the pack.
    pub fn of_packs(&self) -> Vec<(Finding, PackId)> {
        let inner = self.inner();
        let kinds = [DamageKind::PackDamaged, DamageKind::PackUnreadable];
        let of = |(i, d): (usize, &Damage)| d.packs.first().map(|pack| (i, *pack));
        inner.damage.iter().enumerate().filter(|(_, d)| kinds.contains(&d.kind)).filter_map(of).collect()
    }

    pub fn kind(&self, finding: Finding) -> DamageKind {
        self.inner().damage[finding].kind
    }

    /// Every chunk that cannot be had, with its finding; taken when nothing more is looked for.
    pub fn causes(&self) -> HashMap<ChunkId, Finding> {
        self.inner().cause.clone()
    }

    pub fn finish(self) -> (Vec<Damage>, Vec<Information>, Vec<Unchecked>) {
        let inner = self.inner.into_inner().unwrap_or_else(PoisonError::into_inner);
        (inner.damage, inner.information, inner.unchecked)
    }

    /// Packs that some finding is about.
    pub fn packs_hurt(&self) -> std::collections::HashSet<PackId> {
        self.inner().damage.iter().flat_map(|d| d.packs.iter().copied()).collect()
    }
}
