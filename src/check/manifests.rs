//! Every snapshot's roots, every group once, and every chunk they name.

use super::Check;
use super::damage::DamageKind;
use super::findings::Finding;
use super::packs::Standing;
use crate::crypto::{ChunkSort, hash};
use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::{Content, Entry, Extent, path_order};
use crate::format::extents::{decode_list, extents_len};
use crate::format::group::{decode_group, decode_stats};
use crate::format::limit;
use crate::format::root::{Root, RootItem};
use crate::id::{ChunkId, SnapshotId};
use crate::repository::snapshots::Listed;
use rayon::prelude::{IntoParallelIterator, ParallelIterator};
use std::collections::HashMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// One group with its stat column, however many snapshots share it.
pub struct Group {
    pub item: RootItem,
    /// The last path in it, once it was read.
    last: OnceLock<Vec<u8>>,
    /// Set when its bytes are as they were written and still no such group.
    pub wrong: OnceLock<Finding>,
}

/// What a root says about a group. Two roots that differ in it cannot both be right.
type GroupKey = (ChunkId, Option<ChunkId>, u64, u64, u64);

/// A snapshot as its groups, by number.
pub struct Outline {
    pub id: SnapshotId,
    pub groups: Vec<u32>,
    /// What keeps some of its groups from being known.
    pub broken: Vec<Finding>,
}

/// All snapshots' groups.
#[derive(Default)]
pub struct Manifests {
    pub groups: Vec<Group>,
    pub outlines: Vec<Outline>,
    numbers: HashMap<GroupKey, u32>,
}

/// A file whose whole hash is to be proved.
pub struct Sample {
    pub group: u32,
    pub path: Vec<u8>,
    pub content: Content,
}

/// References that were just found good: versions of one group, which follow one another, share nearly all.
struct Seen(Vec<Option<(ChunkId, u32)>>);

impl Seen {
    fn new() -> Self {
        Seen(vec![None; 1 << 13])
    }

    fn slot(&mut self, id: &ChunkId) -> &mut Option<(ChunkId, u32)> {
        let at = id.hash64() as usize & (self.0.len() - 1);
        &mut self.0[at]
    }
}

/// Counts of what was looked at.
#[derive(Default)]
pub struct Counts {
    pub entries: AtomicU64,
    pub references: AtomicU64,
}

/// Loads the roots of all snapshots.
pub fn outline(check: &Check<'_>, snapshots: &[Listed]) -> Result<Manifests> {
    let mut manifests = Manifests::default();
    for snapshot in snapshots {
        check.progress.keep_going()?;
        let mut outline = Outline { id: snapshot.id, groups: Vec::new(), broken: Vec::new() };
        load_roots(check, &snapshot.root, &mut manifests, &mut outline)?;
        for &finding in &outline.broken {
            if outline.groups.is_empty() {
                check.findings.loses_snapshot(finding, snapshot.id);
            } else {
                check.findings.hurts_snapshot(finding, snapshot.id);
            }
        }
        manifests.outlines.push(outline);
    }
    Ok(manifests)
}

/// Walks the levels of one snapshot's roots, left to right, without recursion.
fn load_roots(
    check: &Check<'_>,
    top: &ChunkId,
    manifests: &mut Manifests,
    outline: &mut Outline,
) -> Result<()> {
    let mut todo: Vec<(RootItem, Option<u8>)> =
        vec![(RootItem { first: Vec::new(), id: *top, stat: None, entries: 0, bytes: 0 }, None)];
    while let Some((item, level)) = todo.pop() {
        let (bytes, finding) = check.get(ChunkSort::Manifest, &item.id)?;
        let Some(bytes) = bytes else {
            outline.broken.extend(finding);
            continue;
        };
        let root = Root::decode(&bytes).and_then(|root| fits(&root, &item, level).map(|()| root));
        let root = match root {
            Ok(root) => root,
            Err(e) => {
                // Its bytes are as they were written, so whoever wrote it lied, and might go on without end.
                let finding = check.manifest_damage("manifest root", &item.id, e.message());
                outline.broken.push(finding);
                return Ok(());
            }
        };
        if root.level == 0 {
            root.items.into_iter().for_each(|item| manifests.add(item, outline));
        } else {
            let below = Some(root.level - 1);
            todo.extend(root.items.into_iter().rev().map(|item| (item, below)));
        }
    }
    Ok(())
}

/// Whether a root is what the level above says about it.
fn fits(root: &Root, item: &RootItem, level: Option<u8>) -> Result<()> {
    let Some(level) = level else { return Ok(()) };
    let first = root.items.first().map(|i| &i.first);
    if root.level != level || first != Some(&item.first) {
        return Err(Error::corrupt("a manifest's roots are nested wrongly"));
    }
    if root.entries() != item.entries || root.bytes() != item.bytes {
        return Err(Error::corrupt("a manifest's roots count differently"));
    }
    Ok(())
}

impl Manifests {
    fn add(&mut self, item: RootItem, outline: &mut Outline) {
        let next = self.groups.len() as u32;
        let key = (item.id, item.stat, item.entries, item.bytes, hash::short(&item.first));
        let number = *self.numbers.entry(key).or_insert(next);
        if number == next {
            self.groups.push(Group { item, last: OnceLock::new(), wrong: OnceLock::new() });
        }
        outline.groups.push(number);
    }

    /// Numbers of the groups such that versions of the same group follow one another, oldest first: each finds the
    /// one it was stored against still at hand.
    fn in_order(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.groups.len() as u32).collect();
        let first = |n: u32| &self.groups[n as usize].item.first;
        order.sort_by(|&a, &b| path_order(first(a), first(b)).then(a.cmp(&b)));
        order
    }
}

/// Reads every group and looks up every chunk it names; returns files to prove by their whole hash.
pub fn look(check: &Check<'_>, manifests: &Manifests, counts: &Counts) -> Result<Vec<Sample>> {
    let samples: Vec<Vec<Sample>> = manifests
        .in_order()
        .into_par_iter()
        .map_init(Seen::new, |seen, number| {
            check.progress.keep_going()?;
            let group = &manifests.groups[number as usize];
            let Some(entries) = read(check, group)? else { return Ok(Vec::new()) };
            let _ = group.last.set(entries.last().map(|e| e.path.clone()).unwrap_or_default());
            counts.entries.fetch_add(entries.len() as u64, Ordering::Relaxed);
            stats(check, &group.item, &entries)?;
            let mut samples = Vec::new();
            for entry in entries {
                references(check, &entry, counts, seen)?;
                if check.wants_sample(&entry) {
                    samples.push(Sample { group: number, path: entry.path, content: entry.content });
                }
            }
            Ok(samples)
        })
        .collect::<Result<_>>()?;
    neighbours(check, manifests);
    Ok(samples.into_iter().flatten().collect())
}

/// A group's entries, if it can be had and is what its root says.
pub fn read(check: &Check<'_>, group: &Group) -> Result<Option<Vec<Entry>>> {
    let item = &group.item;
    let (Some(bytes), _) = check.get(ChunkSort::Manifest, &item.id)? else { return Ok(None) };
    let decoded = decode_group(&bytes).and_then(|entries| {
        let bytes = entries.iter().fold(0u64, |n, e| n.saturating_add(e.content.size));
        let first = entries.first().map(|e| &e.path);
        if first != Some(&item.first) || entries.len() as u64 != item.entries || bytes != item.bytes {
            return Err(Error::corrupt("a manifest group is not the one its root names"));
        }
        Ok(entries)
    });
    match decoded {
        Ok(entries) => Ok(Some(entries)),
        Err(e) => {
            let what = format!("manifest group {}", item.id);
            let _ = group.wrong.set(check.findings.add(DamageKind::Manifest, what, e.message()));
            Ok(None)
        }
    }
}

fn stats(check: &Check<'_>, item: &RootItem, entries: &[Entry]) -> Result<()> {
    let Some(id) = &item.stat else { return Ok(()) };
    let (Some(bytes), _) = check.get(ChunkSort::Manifest, id)? else { return Ok(()) };
    if let Err(e) = decode_stats(&bytes, entries) {
        check.findings.add(DamageKind::StatColumn, format!("stat column {id}"), e.message());
    }
    Ok(())
}

/// Looks up every chunk of a file.
fn references(check: &Check<'_>, entry: &Entry, counts: &Counts, seen: &mut Seen) -> Result<()> {
    let mut extents = |extents: &[Extent]| -> Result<()> {
        for extent in extents {
            if let Extent::Chunk { id, len, .. } = extent {
                counts.references.fetch_add(1, Ordering::Relaxed);
                let slot = seen.slot(id);
                if *slot != Some((*id, *len)) && check.resolve(ChunkSort::Content, id, Some(*len))?.is_none()
                {
                    *slot = Some((*id, *len));
                }
            }
        }
        Ok(())
    };
    extents(&entry.content.extents)?;
    each_list(check, &entry.content, &mut extents)?;
    Ok(())
}

/// Goes through the content lists of a file, one in memory at a time; `false` when one cannot be had.
pub fn each_list(
    check: &Check<'_>,
    content: &Content,
    each: &mut dyn FnMut(&[Extent]) -> Result<()>,
) -> Result<bool> {
    let (mut total, mut whole) = (0u64, true);
    for id in &content.lists {
        let (Some(bytes), _) = check.get(ChunkSort::Manifest, id)? else {
            whole = false;
            continue;
        };
        let decoded = decode_list(&bytes).and_then(|list| {
            let len = extents_len(&list).and_then(|len| total.checked_add(len));
            total =
                len.filter(|t| *t <= content.size).ok_or_else(|| Error::corrupt("longer than its file"))?;
            Ok(list)
        });
        match decoded {
            Ok(list) => each(&list)?,
            Err(e) => {
                check.manifest_damage("content list", id, e.message());
                return Ok(false);
            }
        }
    }
    if whole && !content.lists.is_empty() && total != content.size {
        let id = &content.lists[0];
        check.manifest_damage("content list", id, "a file's pieces do not add up to its size");
        return Ok(false);
    }
    Ok(whole)
}

/// Whether the groups of each snapshot follow one another in the manifest's order.
fn neighbours(check: &Check<'_>, manifests: &Manifests) {
    for outline in &manifests.outlines {
        for pair in outline.groups.windows(2) {
            let [before, after] = [pair[0], pair[1]].map(|n| &manifests.groups[n as usize]);
            let in_order = before.last.get().is_none_or(|last| path_order(last, &after.item.first).is_lt());
            if !in_order {
                let what = format!("manifest group {}", after.item.id);
                let why = "begins before the one in front of it ends";
                let finding = check.findings.add(DamageKind::Manifest, what, why);
                check.findings.hurts_snapshot(finding, outline.id);
            }
        }
    }
}

impl Check<'_> {
    pub(super) fn manifest_damage(&self, what: &str, id: &ChunkId, why: &str) -> Finding {
        let finding = self.findings.add(DamageKind::Manifest, format!("{what} {id}"), why);
        self.findings.blame(finding, id);
        finding
    }

    /// Whether a chunk that something refers to is there, of this length, and leads to a whole copy.
    pub(super) fn resolve(&self, sort: ChunkSort, id: &ChunkId, len: Option<u32>) -> Result<Option<Finding>> {
        if let Some(finding) = self.findings.cause(id) {
            return Ok(Some(finding));
        }
        let Some(found) = self.reader.index().find(id)? else {
            return Ok(Some(self.missing(id, id)));
        };
        if found.pack.sort != sort || len.is_some_and(|len| len != found.place.len) {
            let why = match len {
                Some(len) if len != found.place.len => {
                    format!("chunk {id} has {} bytes where its file says {len}", found.place.len)
                }
                _ => format!("chunk {id} lies in a pack of another sort"),
            };
            let finding = self.findings.add_pack(DamageKind::ChunkMismatch, found.pack.id, why);
            self.findings.blame(finding, id);
            return Ok(Some(finding));
        }
        if let Some(kept) = &self.packs.kept
            && (kept.find(id)?.is_none() || !matches!(self.kept_depths.of(kept, id)?, Standing::Depth(_)))
        {
            self.only_condemned.fetch_add(1, Ordering::Relaxed);
        }
        if found.place.depth == 0 {
            return Ok(None);
        }
        match self.depths.of(self.reader.index(), id)? {
            Standing::Depth(_) => Ok(None),
            Standing::Missing(base) => Ok(Some(self.missing(id, &base))),
            Standing::Endless => {
                let max = limit::DEPTH_MAX;
                let why = format!("chunk {id} builds on itself or on more than {max} others in a row");
                let finding = self.findings.add_pack(DamageKind::ChunkUndecodable, found.pack.id, why);
                self.findings.blame(finding, id);
                Ok(Some(finding))
            }
        }
    }

    /// `id` cannot be had because `lost` (itself, or what it builds on) is in no pack that can be read.
    fn missing(&self, id: &ChunkId, lost: &ChunkId) -> Finding {
        let finding = match self.packs.unreachable.get(lost) {
            Some(&finding) => finding,
            None => {
                let why = match id == lost {
                    true => format!("chunk {id} is in no pack that can be read"),
                    false => format!("chunk {lost}, which {id} builds on, is in no pack that can be read"),
                };
                self.findings.add(DamageKind::ChunkMissing, "chunks", why)
            }
        };
        self.findings.blame(finding, lost);
        self.findings.blame(finding, id);
        finding
    }

    /// A chunk's bytes; `None` and the finding when it cannot be had.
    pub(super) fn get(
        &self,
        sort: ChunkSort,
        id: &ChunkId,
    ) -> Result<(Option<crate::repository::reader::Chunk>, Option<Finding>)> {
        if let Some(finding) = self.resolve(sort, id, None)? {
            return Ok((None, Some(finding)));
        }
        match self.reader.get(sort, id) {
            Ok(chunk) => Ok((Some(chunk), None)),
            Err(e) if e.kind().is_unreadable() => Ok((None, Some(self.culprit(sort, id, &e)?))),
            Err(e) if e.kind() == ErrorKind::Cancelled => Err(e),
            Err(e) => {
                self.findings.unchecked(&format!("chunk {id}"), &e);
                Ok((None, None))
            }
        }
    }

    /// The pack to blame when a chunk that should be there cannot be read: its own, or that of what it builds on.
    pub(super) fn culprit(&self, sort: ChunkSort, id: &ChunkId, error: &Error) -> Result<Finding> {
        let index = self.reader.index();
        let (mut id, first, mut error) = (*id, *id, error.clone());
        for _ in 0..limit::DEPTH_MAX {
            let Some(found) = index.find(&id)? else { break };
            let mut deeper = None;
            for base in index.bases(&id, &found)? {
                if let Err(e) = self.reader.get(sort, &base)
                    && e.kind().is_unreadable()
                {
                    deeper = Some((base, e));
                    break;
                }
            }
            match deeper {
                Some((base, e)) => (id, error) = (base, e),
                None => break,
            }
        }
        let finding = match (self.findings.cause(&id), index.find(&id)?) {
            (Some(known), _) => known,
            (None, Some(found)) => {
                self.findings.add_pack(DamageKind::PackDamaged, found.pack.id, error.message())
            }
            (None, None) => self.missing(&first, &id),
        };
        self.findings.blame(finding, &id);
        self.findings.blame(finding, &first);
        Ok(finding)
    }
}
