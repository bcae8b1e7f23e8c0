//! `run`: damaged packs. What is good in them is stored again in new packs, and they are condemned.
//!
//! Nothing is deleted here. A condemned pack stays until a collector has found everything that is needed of it
//! elsewhere; from now on it does not count as present, so that the next backup stores what was lost with it anew.
//! Beside running backups this is safe as it is beside collectors: whatever a session relies on in a pack was copied
//! before the pack is condemned, and nobody deletes the pack before that session has ended.

use super::journal;
use super::salvage::{self, Beside, Salvage, Way};
use crate::check::damage::DamageKind;
use crate::check::subset::Subset;
use crate::check::{CheckOptions, CheckReport, run as check};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::format::snapshot::RepairAction;
use crate::format::{FileName, Folder};
use crate::id::{ChunkId, PackId};
use crate::progress::{Progress, Report};
use crate::repository::footer::read_footer;
use crate::repository::index::Index;
use crate::repository::packer::{Packed, Packer};
use crate::repository::{Repository, condemned};
use crate::units::counted;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// Times a condemned list is tried under the next number when others publish lists, too.
const ATTEMPTS: u32 = 16;

/// What to repair.
#[derive(Clone, Debug, Default)]
pub struct PacksOptions {
    /// These packs; empty for all that a check of every byte finds damaged.
    pub packs: Vec<PackId>,
    /// Do it, and not only say what would be done.
    pub apply: bool,
    pub now: Timestamp,
}

/// One damaged pack.
#[derive(Clone, Debug)]
pub struct PackRepair {
    pub pack: PackId,
    /// The first thing found wrong with it.
    pub why: String,
    pub way: Way,
    /// The file itself is gone, and parity alone gives it back.
    pub gone: bool,
    /// Chunks copied into new packs; intact in sound packs as well; lost.
    pub saved: u64,
    pub elsewhere: u64,
    pub lost: u64,
    pub unreadable_bytes: u64,
    /// It may be a pack of a later version, and is left alone.
    pub left: bool,
}

impl PackRepair {
    /// Whether an applied repair leaves nothing to do about this pack.
    pub fn done(&self) -> bool {
        self.lost == 0 && (self.gone || !self.left)
    }
}

/// What was found and done.
#[derive(Clone, Debug, Default)]
pub struct PacksReport {
    pub applied: bool,
    /// Packs that were looked at.
    pub checked: u64,
    pub repairs: Vec<PackRepair>,
    /// Packs that the machine would not give us.
    pub unchecked: Vec<(PackId, String)>,
    pub packs_written: u64,
    pub bytes_written: u64,
    /// The list that names the damaged packs.
    pub condemned: Option<u32>,
    /// Chunks in use that are in no pack any more.
    pub missing: u64,
}

impl PacksReport {
    pub fn lost(&self) -> u64 {
        self.repairs.iter().map(|r| r.lost).sum()
    }
}

/// A pack to look at.
struct Suspect {
    pack: PackId,
    why: String,
    /// A check has read it and found it damaged.
    proved: bool,
}

pub fn run(
    repository: &Arc<Repository>,
    options: &PacksOptions,
    progress: &Progress,
    report: &dyn Report,
) -> Result<PacksReport> {
    let (backend, keyring) = (repository.backend().as_ref(), repository.keyring());
    let mut out = PacksReport { applied: options.apply, ..PacksReport::default() };
    let doomed = condemned::all(backend, keyring)?;
    let before: HashSet<PackId> =
        backend.list(Folder::Packs)?.iter().map(|stat| stat.name.header_name()).collect();
    let (damaged, incomplete) = match options.packs.as_slice() {
        [] => {
            let look =
                CheckOptions { read_data: Some(Subset::All), now: options.now, ..CheckOptions::default() };
            let found = check(repository, &look, progress, report)?;
            out.checked = found.packs;
            out.missing = missing(&found);
            let damaged = damaged(&found);
            // Where a manifest is damaged, or a snapshot lost, nobody knows yet what else is missing.
            let harmless = [DamageKind::Parity, DamageKind::Copy, DamageKind::Note];
            let incomplete = found.damage.iter().any(|d| !harmless.contains(&d.kind));
            (damaged, incomplete)
        }
        packs => {
            out.checked = packs.len() as u64;
            let asked = packs.iter().filter(|id| !doomed.contains(id));
            let suspect =
                |id: &PackId| Suspect { pack: *id, why: "asked for by name".to_owned(), proved: false };
            (asked.map(suspect).collect(), false)
        }
    };
    let sizes: HashMap<PackId, u64> =
        backend.list(Folder::Packs)?.iter().map(|stat| (stat.name.header_name(), stat.size)).collect();
    let hurt: HashSet<PackId> = damaged.iter().map(|suspect| suspect.pack).collect();
    let listed = |keep: &dyn Fn(&PackId) -> bool| -> Vec<(PackId, u64)> {
        sizes.iter().filter(|(id, _)| keep(id)).map(|(id, size)| (*id, *size)).collect()
    };
    let sound = listed(&|id| !hurt.contains(id) && !doomed.contains(id));
    // Only what this run has read whole is relied on: nothing, where packs were asked for by name.
    let read = |(id, _): &(PackId, u64)| options.packs.is_empty() && before.contains(id);
    let relied: Vec<(PackId, u64)> = sound.iter().copied().filter(read).collect();
    let sound_index = Index::of_packs(backend, keyring, &relied)?;
    let mut readable = Index::of_packs(backend, keyring, &sound)?;
    readable.add_lesser(backend, keyring, &listed(&|id| hurt.contains(id) || doomed.contains(id)))?;
    let reader = repository.reader_with(readable);
    let mut work =
        Work { repository, beside: Beside { sound: &sound_index, reader: &reader }, packer: None, out };
    if options.apply {
        work.start();
    }
    for suspect in damaged {
        progress.keep_going()?;
        if let Some(size) = sizes.get(&suspect.pack) {
            work.pack(suspect, *size)?;
        }
    }
    if incomplete {
        work.gone(&sizes)?;
    }
    let (out, packed) = work.finish()?;
    finish(repository, options, out, packed)
}

/// The packs that a check calls damaged in themselves.
fn damaged(found: &CheckReport) -> Vec<Suspect> {
    let mut seen = BTreeSet::new();
    let mut damaged = Vec::new();
    for damage in &found.damage {
        if matches!(damage.kind, DamageKind::PackDamaged | DamageKind::PackUnreadable) {
            let fresh = damage.packs.iter().filter(|id| seen.insert(**id));
            let suspect = |id: &PackId| Suspect { pack: *id, why: damage.detail.clone(), proved: true };
            damaged.extend(fresh.map(suspect));
        }
    }
    // What the machine refuses to read may be a bad sector: some of it can perhaps be had.
    for file in &found.unchecked {
        let name = file.what.strip_prefix("packs/").and_then(|rest| rest.get(3..));
        if let Some(FileName::Pack(id)) = name.and_then(|name| Folder::Packs.parse(name))
            && seen.insert(id)
        {
            damaged.push(Suspect { pack: id, why: file.why.clone(), proved: false });
        }
    }
    damaged
}

fn missing(found: &CheckReport) -> u64 {
    let kinds = [DamageKind::ChunkMissing, DamageKind::ChunkUndecodable];
    found.damage.iter().filter(|d| kinds.contains(&d.kind)).map(|d| d.chunks).sum()
}

struct Work<'a> {
    repository: &'a Arc<Repository>,
    beside: Beside<'a>,
    /// Only when something is to be done.
    packer: Option<Packer>,
    out: PacksReport,
}

impl Work<'_> {
    fn start(&mut self) {
        self.packer = Some(Packer::start(self.repository, None));
    }

    fn pack(&mut self, suspect: Suspect, size: u64) -> Result<()> {
        let Suspect { pack, why, proved } = suspect;
        let (backend, keyring) = (self.repository.backend().as_ref(), self.repository.keyring());
        let found = match salvage::find(self.repository, pack, size) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(()),
            Err(e) if e.kind() == ErrorKind::Cancelled => return Err(e),
            Err(e) => {
                self.out.unchecked.push((pack, e.message().to_owned()));
                return Ok(());
            }
        };
        let footer = read_footer(backend, keyring, pack, size);
        let listed = footer.as_ref().map(|(footer, _)| footer.frames.as_slice()).unwrap_or_default();
        let salvage = salvage::judge(self.repository, &found, listed, &self.beside)?;
        let nothing_wrong = !proved
            && found.fits
            && found.bytes.len() as u64 == size
            && footer.is_ok()
            && !salvage.bad
            && matches!(found.way, Way::Salvage | Way::Parity { shards: 0 });
        if nothing_wrong {
            return Ok(());
        }
        let mut repair = PackRepair {
            pack,
            why,
            way: found.way,
            gone: false,
            saved: 0,
            elsewhere: salvage.elsewhere,
            lost: salvage.lost.len() as u64,
            unreadable_bytes: found.unreadable,
            left: salvage.may_be_newer,
        };
        self.store(salvage, &mut repair)?;
        self.out.repairs.push(repair);
        Ok(())
    }

    fn store(&mut self, salvage: Salvage, repair: &mut PackRepair) -> Result<()> {
        repair.saved = salvage.saved.len() as u64;
        if let Some(packer) = &self.packer {
            for frame in salvage.frames {
                packer.push(frame)?;
            }
        }
        Ok(())
    }

    /// Packs of which nothing but parity is left, and that give something back that is nowhere else.
    fn gone(&mut self, sizes: &HashMap<PackId, u64>) -> Result<()> {
        let sidecars = self.repository.backend().list(Folder::Parity)?;
        for pack in sidecars.iter().map(|stat| stat.name.header_name()).filter(|id| !sizes.contains_key(id)) {
            let Some(bytes) = salvage::find_lost(self.repository, pack) else { continue };
            let found = salvage::Found { bytes, way: Way::Parity { shards: 0 }, unreadable: 0, fits: true };
            let salvage = salvage::judge(self.repository, &found, &[], &self.beside)?;
            let news = |id: &ChunkId| Ok::<bool, Error>(self.beside.reader.index().find(id)?.is_none());
            if !salvage.saved.iter().map(news).collect::<Result<Vec<bool>>>()?.contains(&true) {
                continue;
            }
            let mut repair = PackRepair {
                pack,
                why: "the file is gone".to_owned(),
                way: Way::Parity { shards: 0 },
                gone: true,
                saved: 0,
                elsewhere: salvage.elsewhere,
                lost: 0,
                unreadable_bytes: 0,
                left: true,
            };
            self.store(salvage, &mut repair)?;
            self.out.repairs.push(repair);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(PacksReport, Packed)> {
        let packed = match &mut self.packer {
            Some(packer) => packer.finish()?,
            None => Packed::default(),
        };
        Ok((self.out, packed))
    }
}

/// New packs are proved and made durable before anything is taken out of what counts.
fn finish(
    repository: &Arc<Repository>,
    options: &PacksOptions,
    mut out: PacksReport,
    packed: Packed,
) -> Result<PacksReport> {
    if !options.apply || out.repairs.is_empty() {
        return Ok(out);
    }
    let backend = repository.backend().as_ref();
    out.packs_written = packed.packs.len() as u64;
    out.bytes_written = packed.bytes;
    for pack in &packed.packs {
        prove(repository, pack.id, pack.size)?;
    }
    backend.sync_seen()?;
    let doomed = condemned::all(backend, repository.keyring())?;
    let condemn: Vec<PackId> =
        out.repairs.iter().filter(|r| !r.left && !doomed.contains(&r.pack)).map(|r| r.pack).collect();
    if condemn.is_empty() && packed.packs.is_empty() {
        return Ok(out);
    }
    journal::write(repository, &actions(&out, &packed), options.now)?;
    if !condemn.is_empty() {
        out.condemned = Some(publish(repository, &condemn)?);
    }
    Ok(out)
}

/// Reads a new pack back from where it lies.
fn prove(repository: &Repository, pack: PackId, size: u64) -> Result<()> {
    let (backend, keyring) = (repository.backend().as_ref(), repository.keyring());
    let wrong =
        || Error::corrupt(format!("{} was stored wrongly; nothing was condemned", FileName::Pack(pack)));
    let (footer, _) = read_footer(backend, keyring, pack, size)?;
    let bytes = backend.read(&FileName::Pack(pack), size)?;
    let scan = crate::check::scan::scan_bytes(keyring, &bytes);
    let same = scan.frames.iter().map(|(_, entry)| entry).eq(&footer.frames);
    if scan.gaps.is_empty() && scan.footer && same { Ok(()) } else { Err(wrong()) }
}

fn publish(repository: &Repository, packs: &[PackId]) -> Result<u32> {
    let (backend, keyring) = (repository.backend().as_ref(), repository.keyring());
    for _ in 0..ATTEMPTS {
        let highest = backend.list(Folder::Condemned)?.iter().map(|stat| stat.name).max();
        let seen = if let Some(FileName::Condemned(n)) = highest { n } else { 0 };
        match condemned::publish(backend, keyring, seen, packs) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            other => return other,
        }
    }
    Err(Error::new(ErrorKind::Locked, "others keep condemning packs; run it again"))
}

fn actions(out: &PacksReport, packed: &Packed) -> Vec<RepairAction> {
    let mut actions = Vec::new();
    let written: Vec<String> = packed.packs.iter().map(|p| p.id.to_string()).collect();
    for repair in &out.repairs {
        let what = FileName::Pack(repair.pack).path();
        let way = match repair.way {
            Way::Parity { .. } => "from parity",
            Way::Salvage => "from its intact frames",
        };
        let saved = counted(repair.saved, "chunk", "chunks");
        let detail = format!("{}: {saved} saved {way}, {} lost", repair.why, repair.lost);
        let word = if repair.left { "pack-salvaged" } else { "pack-condemned" };
        actions.push(journal::action(word, what, detail));
    }
    for name in written {
        actions.push(journal::action("pack-written", name, "holds what was saved"));
    }
    actions
}
