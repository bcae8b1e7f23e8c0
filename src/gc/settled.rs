//! What a collection remembers that found nothing to do: by what it saw. As long as the same is listed and asked for, there
//! still is nothing to do.
//!
//! Everything listed is write-once, so listings decide the plan. The note only ever says that nothing is to be deleted,
//! and one that was damaged, or that another key wrote, says nothing at all.

use super::look::{Look, distrusted, without_original};
use super::plan::Plan;
use super::{MaxUnused, PruneOptions};
use crate::error::Result;
use crate::format::{FileName, Folder};
use crate::id::{PackId, SnapshotId};
use crate::repository::{Repository, random};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

const PURPOSE: &[u8; 8] = b"settled1";
/// The numbers of a plan that does nothing.
const NUMBERS: usize = 6;

/// What was listed, and what else decides which packs a plan names.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Numbers of condemned lists, ascending.
    pub condemned: Vec<u32>,
    pub packs: BTreeMap<PackId, u64>,
    /// Ascending.
    pub snapshots: Vec<SnapshotId>,
    pub distrusted: BTreeSet<PackId>,
}

impl Seen {
    /// What is listed now; `None` when a snapshot's record is lost, which stops every collection.
    fn list(repository: &Repository) -> Result<Option<Seen>> {
        let backend = repository.backend();
        let mut seen = Seen { distrusted: distrusted(repository), ..Seen::default() };
        for stat in backend.list(Folder::Condemned)? {
            seen.condemned.extend(if let FileName::Condemned(n) = stat.name { Some(n) } else { None });
        }
        seen.condemned.sort_unstable();
        let packs = backend.list(Folder::Packs)?;
        seen.packs = packs.iter().map(|stat| (stat.name.header_name(), stat.size)).collect();
        let copies = backend.list(Folder::Copies)?;
        for stat in backend.list(Folder::Snapshots)? {
            seen.snapshots.extend(if let FileName::Snapshot(id) = stat.name { Some(id) } else { None });
        }
        seen.snapshots.sort_unstable();
        let whole = without_original(&copies, &seen.snapshots).next().is_none();
        Ok(whole.then_some(seen))
    }

    /// Every byte that decides, in one order.
    fn encode(&self, repository: &Repository, options: &PruneOptions) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + 24 * self.packs.len() + 16 * self.snapshots.len());
        let number = |out: &mut Vec<u8>, n: u64| out.extend_from_slice(&n.to_le_bytes());
        // Another version may plan otherwise.
        out.extend_from_slice(env!("CARGO_PKG_VERSION").as_bytes());
        let (kind, value) = match options.max_unused {
            MaxUnused::Percent(p) => (0, p.to_bits()),
            MaxUnused::Bytes(bytes) => (1, bytes),
            MaxUnused::Unlimited => (2, 0),
        };
        let limits = [kind, value, u64::from(options.max_repack.is_some()), options.max_repack.unwrap_or(0)];
        let lens = [self.condemned.len(), self.packs.len(), self.snapshots.len(), self.distrusted.len()];
        limits.into_iter().for_each(|n| number(&mut out, n));
        number(&mut out, u64::from(options.drop_bases));
        number(&mut out, repository.config().pack_bytes);
        lens.into_iter().for_each(|n| number(&mut out, n as u64));
        self.condemned.iter().for_each(|n| number(&mut out, u64::from(*n)));
        for (id, size) in &self.packs {
            out.extend_from_slice(&id.0);
            number(&mut out, *size);
        }
        self.snapshots.iter().chain(&self.distrusted).for_each(|id| out.extend_from_slice(&id.0));
        out
    }
}

fn place(repository: &Repository) -> Option<PathBuf> {
    repository.collected_dir().map(|dir| dir.join("settled"))
}

fn numbers(plan: &Plan) -> [u64; NUMBERS] {
    let Plan { packs_before, bytes_before, chunks_before, chunks_used, unused_before, unused_after, .. } =
        *plan;
    [packs_before, bytes_before, chunks_before, chunks_used, unused_before, unused_after]
}

/// The plan that does nothing, if a collection came to it that saw just what there is now.
pub fn recall(repository: &Repository, options: &PruneOptions) -> Result<Option<Plan>> {
    let Some(noted) = place(repository).and_then(|path| std::fs::read(path).ok()) else { return Ok(None) };
    let Some((numbers, mac)) = noted.split_at_checked(8 * NUMBERS) else { return Ok(None) };
    let Some(seen) = Seen::list(repository)? else { return Ok(None) };
    let seen = seen.encode(repository, options);
    if repository.keyring().cache_mac(PURPOSE, &[numbers, &seen])[..] != *mac {
        return Ok(None);
    }
    let number = |i: usize| numbers[8 * i..].first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
    Ok(Some(Plan {
        packs_before: number(0),
        bytes_before: number(1),
        chunks_before: number(2),
        chunks_used: number(3),
        unused_before: number(4),
        unused_after: number(5),
        ..Plan::default()
    }))
}

/// Notes that this look came to a plan that does nothing, unless a further look at the same might find more. Only a
/// hint: failing to note it is no error.
pub fn note(repository: &Repository, options: &PruneOptions, look: &Look, plan: &Plan) {
    // Packs of open sessions become garbage without anything being listed differently, and what could not be read may
    // be readable again.
    let open_ends = plan.packs_of_sessions > 0 || !look.index.unreadable.is_empty() || look.unfinished;
    let Some(path) = place(repository) else { return };
    if !plan.is_empty() || open_ends || !look.live.lost().is_empty() {
        return;
    }
    let numbers: Vec<u8> = numbers(plan).iter().flat_map(|n| n.to_le_bytes()).collect();
    let seen = look.seen.encode(repository, options);
    let mac = repository.keyring().cache_mac(PURPOSE, &[&numbers, &seen]);
    let Ok(name) = random::name() else { return };
    let aside = path.with_extension(format!("{name}.new"));
    let written = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    let written = written.and_then(|()| std::fs::write(&aside, [&numbers[..], &mac[..]].concat()));
    if written.and_then(|()| std::fs::rename(&aside, &path)).is_err() {
        let _ = std::fs::remove_file(&aside);
    }
}
