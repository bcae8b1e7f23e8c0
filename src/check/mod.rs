//! `run`: is everything there, does it fit together and, on demand, is every byte what it was.
//!
//! Trusts no cache and writes nothing into the repository. What is wrong comes back as `Damage`; errors are only for
//! what kept the check from looking.

pub mod damage;
mod data;
mod files;
mod findings;
mod forest;
mod hurt;
mod copies;
mod manifests;
mod packs;
mod parity;
mod records;
pub mod scan;
mod segments;
pub mod subset;

use crate::clock::Timestamp;
use crate::error::Result;
use crate::format::Folder;
use crate::id::{Name, PackId, SnapshotId};
use crate::progress::{Problem, Progress, Report};
use crate::repository::reader::Reader;
use crate::repository::{Repository, distrust};
use crate::units::counted;
use damage::{Damage, HurtFile, Information, Unchecked};
use findings::Findings;
use packs::{Depths, Packs};
use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use subset::{Ages, Subset};

/// When a collector takes packs away under the check, it begins again, this often at most.
const ATTEMPTS: u32 = 3;

/// How much to look at.
#[derive(Clone, Debug)]
pub struct CheckOptions {
    /// Packs to read whole; `None` for the structure alone.
    pub read_data: Option<Subset>,
    /// Of the files that have a whole hash, the share that is put together and compared, when data is read.
    pub verify_files_percent: f64,
    /// Most bytes of such files.
    pub verify_files_bytes_max: u64,
    /// Begin no further pack after this long.
    pub max_duration: Option<Duration>,
    /// Leave out packs that were found good at most this long ago, as far as this machine remembers.
    pub max_age: Option<Duration>,
    pub now: Timestamp,
}

impl Default for CheckOptions {
    fn default() -> Self {
        CheckOptions {
            read_data: None,
            verify_files_percent: 1.0,
            verify_files_bytes_max: 256 << 20,
            max_duration: None,
            max_age: None,
            now: Timestamp::default(),
        }
    }
}

/// What was looked at and what was found.
#[derive(Clone, Debug, Default)]
pub struct CheckReport {
    pub damage: Vec<Damage>,
    pub information: Vec<Information>,
    /// Files the machine would not give us: about them nothing is known.
    pub unchecked: Vec<Unchecked>,
    pub snapshots: u64,
    pub notes: u64,
    pub sessions: u64,
    pub packs: u64,
    /// Those among them that nothing rests on any more and that a collector will take away.
    pub packs_condemned: u64,
    /// Bytes of all packs.
    pub pack_bytes: u64,
    /// Chunks stored, copies counted.
    pub chunks: u64,
    /// Manifest groups, each once, the entries in them, and the chunks these name.
    pub groups: u64,
    pub entries: u64,
    pub references: u64,
    /// Packs read whole; left out because they were read lately; left over when the time was up.
    pub packs_read: u64,
    pub packs_fresh: u64,
    pub packs_left: u64,
    pub bytes_read: u64,
    /// Chunks proved against their names, and their plain bytes.
    pub chunks_read: u64,
    pub raw_bytes_read: u64,
    /// Packs with parity, and sidecars read whole.
    pub parity: u64,
    pub parity_read: u64,
    /// Index segments that are as they were written.
    pub segments: u64,
    /// Files proved against their whole hash.
    pub files_verified: u64,
    pub file_bytes_verified: u64,
}

impl CheckReport {
    /// Findings, and files that could not be looked at.
    pub fn num_errors(&self) -> u64 {
        (self.damage.len() + self.unchecked.len()) as u64
    }

    pub fn broken_packs(&self) -> Vec<PackId> {
        let packs: BTreeSet<PackId> = self.damage.iter().flat_map(|d| d.packs.iter().copied()).collect();
        packs.into_iter().collect()
    }

    pub fn damaged_snapshots(&self) -> Vec<SnapshotId> {
        let ids: BTreeSet<SnapshotId> =
            self.damage.iter().flat_map(|d| d.snapshots.iter().copied()).collect();
        ids.into_iter().collect()
    }

    /// Those listed with the findings: at most a hundred for each.
    pub fn damaged_files(&self) -> Vec<HurtFile> {
        let files: BTreeSet<HurtFile> = self.damage.iter().flat_map(|d| d.files.iter().cloned()).collect();
        files.into_iter().collect()
    }
}

/// One check under way.
struct Check<'a> {
    repository: &'a Repository,
    options: &'a CheckOptions,
    progress: &'a Progress,
    findings: Findings<'a>,
    reader: Reader,
    packs: Packs,
    depths: Depths,
    kept_depths: Depths,
    until: Option<Instant>,
    /// The assemblies already chosen for the sample.
    sampled: Mutex<HashSet<[u8; 32]>>,
    /// References to chunks that only packs about to be deleted hold.
    only_condemned: AtomicU64,
    /// Stored chunks that nothing refers to and that build on what is gone.
    strays: AtomicU64,
}

/// Checks a repository.
pub fn run(
    repository: &Repository,
    options: &CheckOptions,
    progress: &Progress,
    report: &dyn Report,
) -> Result<CheckReport> {
    let until = options.max_duration.and_then(|span| Instant::now().checked_add(span));
    let mut attempt = 1;
    loop {
        let (found, moved) = once(repository, options, progress, report, until)?;
        // Packs that a collector replaced while we looked make intact snapshots look broken.
        if attempt == ATTEMPTS || found.num_errors() == 0 || !moved {
            return Ok(found);
        }
        attempt += 1;
        let message = "packs were replaced while they were looked at; beginning again".to_owned();
        report.warning(&Problem { item: b"packs".to_vec(), during: "check", message });
        progress.errors.store(0, Ordering::Relaxed);
        progress.bytes_done.store(0, Ordering::Relaxed);
    }
}

/// One pass, and whether packs were taken away meanwhile.
fn once(
    repository: &Repository,
    options: &CheckOptions,
    progress: &Progress,
    report: &dyn Report,
    until: Option<Instant>,
) -> Result<(CheckReport, bool)> {
    let findings = Findings::new(report, progress);
    records::config(repository, &findings)?;
    records::keys(repository, &findings)?;
    let sessions = records::sessions(repository, &findings)?;
    // Snapshots before packs: what a listed snapshot needs was durable before it.
    let snapshots = records::snapshots(repository, &findings)?;
    let notes = records::notes(repository, &snapshots, &findings)?;
    let condemned = records::condemned(repository, &findings)?;
    copies::look(repository, &findings)?;
    // Segments before packs: those that a listed one speaks of were durable before it.
    let listed = repository.backend().list(Folder::Index)?;
    let segments: Vec<Name> = listed.iter().map(|stat| stat.name.header_name()).collect();
    let mut packs = packs::look(repository, &condemned, &findings, progress)?;
    let reader = repository.reader_with(std::mem::take(&mut packs.index));
    let check = Check {
        repository,
        options,
        progress,
        findings,
        reader,
        packs,
        depths: Depths::default(),
        kept_depths: Depths::default(),
        until,
        sampled: Mutex::default(),
        only_condemned: AtomicU64::new(0),
        strays: AtomicU64::new(0),
    };
    let mut out =
        CheckReport { sessions, notes, snapshots: snapshots.len() as u64, ..CheckReport::default() };
    out.packs = check.packs.listed.len() as u64;
    let condemned = |id: &&PackId| check.packs.condemned.contains(id);
    out.packs_condemned = check.packs.listed.iter().filter(condemned).count() as u64;
    out.pack_bytes = check.packs.sound.iter().map(|p| p.size).sum();
    out.chunks = check.packs.sound.iter().map(|p| p.chunks).sum();
    let manifests = manifests::outline(&check, &snapshots)?;
    let counts = manifests::Counts::default();
    let samples = manifests::look(&check, &manifests, &counts)?;
    out.groups = manifests.groups.len() as u64;
    out.entries = counts.entries.load(Ordering::Relaxed);
    out.references = counts.references.load(Ordering::Relaxed);
    if options.read_data.is_some() {
        check.read_data(&mut out)?;
        (out.files_verified, out.file_bytes_verified) = files::look(&check, &manifests, &samples)?;
    }
    hurt::look(&check, &manifests, &snapshots)?;
    parity::look(&check, &mut out)?;
    out.segments = segments::look(&check, &segments)?;
    check.remarks(&mut out);
    let now: BTreeSet<PackId> =
        repository.backend().list(Folder::Packs)?.iter().map(|stat| stat.name.header_name()).collect();
    let moved = check.packs.listed.iter().any(|id| !now.contains(id));
    (out.damage, out.information, out.unchecked) = check.findings.finish();
    out.damage.sort_by(|a, b| (a.kind, &a.what).cmp(&(b.kind, &b.what)));
    Ok((out, moved))
}

impl Check<'_> {
    fn out_of_time(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until)
    }

    fn read_data(&self, out: &mut CheckReport) -> Result<()> {
        let cache = self.repository.cache_dir();
        let ages = Ages::load(cache.as_deref());
        let subset = self.options.read_data.unwrap_or(Subset::All);
        let mut chosen = subset.choose(&self.packs.sound)?;
        chosen.retain(|pack| !self.packs.condemned.contains(&pack.id));
        let before = chosen.len();
        if let Some(age) = self.options.max_age {
            chosen.retain(|pack| !ages.is_fresh(&pack.id, self.options.now, age));
        }
        out.packs_fresh = (before - chosen.len()) as u64;
        let counts = data::DataCounts::default();
        data::look(self, &chosen, &counts)?;
        let read = counts.read.into_inner().unwrap_or_else(PoisonError::into_inner);
        out.packs_read = read.len() as u64;
        out.packs_left = counts.left.load(Ordering::Relaxed);
        out.bytes_read = counts.bytes.load(Ordering::Relaxed);
        out.raw_bytes_read = counts.raw.load(Ordering::Relaxed);
        out.chunks_read = counts.chunks.load(Ordering::Relaxed);
        let hurt = self.findings.packs_hurt();
        let (hurt, good): (Vec<PackId>, Vec<PackId>) = read.into_iter().partition(|id| hurt.contains(id));
        if let Some(cache) = &cache {
            // Where it cannot be noted, the advice given with the finding still holds.
            let _ = distrust::note(cache, &hurt, &good);
        }
        ages.save(self.options.now, &good, &hurt, &self.packs.listed);
        Ok(())
    }

    fn remarks(&self, out: &mut CheckReport) {
        let condemned = self.only_condemned.load(Ordering::Relaxed);
        if condemned > 0 {
            let what = counted(condemned, "chunk in use lies", "chunks in use lie");
            let text = format!("{what} only in packs that a collection has yet to replace");
            self.findings.inform("collection-unfinished", text);
        }
        let strays = self.strays.load(Ordering::Relaxed);
        if strays > 0 {
            let what = counted(strays, "stored chunk builds", "stored chunks build");
            let text = format!("{what} on others that are gone; nothing uses any of them");
            self.findings.inform("chunk-stray", text);
        }
        if out.packs_left > 0 {
            let what = counted(out.packs_left, "pack was", "packs were");
            self.findings.inform("time-up", format!("{what} left unread when the time was up"));
        }
    }
}
