//! Looks at a repository, and at what it was made of, without judging.

use super::series::{self, Series, made};
use super::{DrillFact, Facts, Space, live};
use crate::clock::{Clock, Timestamp};
use crate::error::Result;
use crate::format::{FileName, Folder};
use crate::id::Name;
use crate::os::process::host_name;
use crate::os::storage;
use crate::progress::Progress;
use crate::repository::drills::{self, Proof};
use crate::repository::snapshots::{Listed, Listing, decode_path, list};
use crate::repository::{Repository, restores};
use crate::sqlite::check::Depth;
use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Seconds by which the clocks of two machines may differ without a word.
const CLOCK_SLACK: i64 = 600;
/// Series of which nothing came for so many seconds are over: what they held may be gone from this machine.
const OVER_AFTER: i64 = 40 * 86_400;

/// How to look.
pub struct Options<'a> {
    /// The directory of the repository, for its disk.
    pub place: Option<&'a Path>,
    /// How databases in use are looked at; `None`: not at all.
    pub live: Option<Depth>,
    /// Databases to look at besides those that the newest snapshots of this machine name.
    pub databases: Vec<PathBuf>,
    pub scratch: &'a Path,
    pub clock: &'a dyn Clock,
}

/// What a repository can tell, and the databases in use.
pub fn gather(repository: &Repository, options: &Options<'_>, progress: &Progress) -> Result<Facts> {
    let listing = list(repository)?;
    let now = options.clock.now();
    let mut facts = of_listing(&listing, now);
    let place = options.place.and_then(|place| std::path::absolute(place).ok());
    facts.place = place.map_or_else(|| repository.backend().location(), |place| place.display().to_string());
    facts.host = host_name();
    (facts.copies_missing, facts.parity_missing) = missing(repository)?;
    facts.space = options.place.and_then(|place| {
        let (free, total) = storage::room(place).ok()?;
        Some(Space { free, total })
    });
    if let Some(depth) = options.live {
        for path in databases(&listing, &facts, options) {
            progress.keep_going()?;
            facts.live.push(live::look(&path, depth, options.scratch, options.clock, progress));
        }
    }
    Ok(facts)
}

/// What the list of snapshots and notes tells. `now` is the time of the judgement.
pub fn of_listing(listing: &Listing, now: Timestamp) -> Facts {
    let any = |_: &Listed| true;
    let fact =
        |proof: Proof<'_>| DrillFact { snapshot: proof.snapshot.id.short(), drilled: proof.drilled.clone() };
    let late = Timestamp { secs: now.secs.saturating_add(CLOCK_SLACK), nanos: 0 };
    let all = || listing.snapshots.iter();
    let added = |l: &Listed| Some((made(&l.record)?, l.record.summary.data_added_packed));
    let places = |paths: &[String]| {
        let shown = |p: &String| String::from_utf8_lossy(&decode_path(p)).into_owned();
        paths.iter().map(shown).collect::<Vec<_>>().join(", ")
    };
    Facts {
        now,
        series: series::of(listing),
        snapshots: listing.snapshots.len() as u64,
        oldest: all().filter_map(|l| made(&l.record)).min(),
        future: all()
            .filter(|l| made(&l.record).is_some_and(|t| t > late) || l.record.order_time > late.nanoseconds())
            .map(|l| l.id.short())
            .collect(),
        unreadable: listing.damaged.iter().map(|(id, why)| (id.short(), why.clone())).collect(),
        unread_notes: listing.unread_notes.len() as u64,
        from_copies: listing.from_copies.len() as u64,
        checks: listing.checks.clone(),
        drill_last: drills::last(listing, &any).map(fact),
        drill_proven: drills::last_proven(listing, true, &any).map(fact),
        unsettled: restores::unsettled(listing)
            .iter()
            .map(|(l, b)| (l.id.short(), places(&b.paths)))
            .collect(),
        // What was copied from elsewhere was added here as well, at a time that nobody wrote down.
        added: all().filter(|l| l.record.origin.is_none()).filter_map(added).collect(),
        ..Facts::default()
    }
}

/// Records without their second copy, and packs without the parity that they should have. While somebody writes, some may be
/// on their way.
fn missing(repository: &Repository) -> Result<(u64, u64)> {
    let backend = repository.backend().as_ref();
    if !backend.list(Folder::Sessions)?.is_empty() {
        return Ok((0, 0));
    }
    let names =
        |folder| -> Result<Vec<FileName>> { Ok(backend.list(folder)?.iter().map(|s| s.name).collect()) };
    let mut originals = Vec::new();
    for folder in [Folder::Config, Folder::Keys, Folder::Snapshots] {
        originals.extend(names(folder)?);
    }
    let copies: HashSet<FileName> = names(Folder::Copies)?.into_iter().collect();
    let lacks = |original: &&FileName| original.second_copy().is_some_and(|copy| !copies.contains(&copy));
    let copies_missing = originals.iter().filter(lacks).count() as u64;
    if repository.config().parity == 0 {
        return Ok((copies_missing, 0));
    }
    let parity: HashSet<Name> = names(Folder::Parity)?.iter().map(FileName::header_name).collect();
    let packs = names(Folder::Packs)?;
    let bare = packs.iter().filter(|pack| !parity.contains(&pack.header_name())).count() as u64;
    Ok((copies_missing, bare))
}

/// Databases in use on this machine: those that were asked for, and those in the newest snapshot of each series that goes on.
fn databases(listing: &Listing, facts: &Facts, options: &Options<'_>) -> BTreeSet<PathBuf> {
    let goes_on = |s: &&Series| {
        let newest = s.newest().and_then(|point| point.time);
        s.host == facts.host && newest.is_some_and(|t| facts.now.secs - t.secs < OVER_AFTER)
    };
    let newest: HashSet<&str> =
        facts.series.iter().filter(goes_on).filter_map(|s| Some(s.newest()?.id.as_str())).collect();
    let records = listing.snapshots.iter().filter(|l| newest.contains(l.id.short().as_str()));
    let stored = records.filter_map(|l| l.record.sqlite.as_ref()).flat_map(|all| &all.databases);
    let path = |text: &String| PathBuf::from(OsStr::from_bytes(&decode_path(text)));
    stored.map(|d| path(&d.path)).chain(options.databases.iter().cloned()).collect()
}
