//! `run`: parity for packs that lack it, in place of damaged parity, more or less of it, or none at all.
//!
//! Parity is made of packs that are proved to be as they were written, and of no others: it would preserve the damage.

use super::journal;
use crate::clock::Timestamp;
use crate::crypto::hash;
use crate::error::{Error, ErrorKind, Result};
use crate::format::pack::{TRAILER_LEN, Trailer};
use crate::format::parity::Geometry;
use crate::format::{FileName, Folder, limit};
use crate::id::PackId;
use crate::progress::Progress;
use crate::repository::footer::read_footer;
use crate::repository::{Repository, condemned, parity, removal};
use std::collections::BTreeMap;

/// What is wanted.
#[derive(Clone, Debug, Default)]
pub struct ParityOptions {
    /// Parity from now on, in per cent of the packs, 0 for none; `None` leaves it as it is.
    pub percent: Option<u32>,
    /// Do it, and not only say what would be done.
    pub apply: bool,
    pub now: Timestamp,
}

/// What was found and done.
#[derive(Clone, Debug, Default)]
pub struct ParityReport {
    pub applied: bool,
    /// Parity of the repository before and after, in per cent.
    pub before: u32,
    pub after: u32,
    pub packs: u64,
    /// Packs whose parity is as it should be.
    pub sound: u64,
    /// Packs that got, or would get, parity: it was missing; damaged; of another measure.
    pub missing: u64,
    pub damaged: u64,
    pub other: u64,
    /// Sidecars taken away, or to be: of packs that are gone, or all of them.
    pub removed: u64,
    pub bytes_written: u64,
    /// Packs that are damaged themselves.
    pub hurt: Vec<(PackId, String)>,
}

impl ParityReport {
    /// Whether nothing was or is to be done.
    pub fn is_idle(&self) -> bool {
        self.before == self.after && self.missing + self.damaged + self.other + self.removed == 0
    }
}

pub fn run(repository: &Repository, options: &ParityOptions, progress: &Progress) -> Result<ParityReport> {
    let backend = repository.backend().as_ref();
    let before = repository.config().parity;
    let after = options.percent.unwrap_or(before);
    let mut out = ParityReport { applied: options.apply, before, after, ..ParityReport::default() };
    // Sidecars before packs: one whose pack is not listed then has lost it.
    let sidecars: Vec<PackId> =
        backend.list(Folder::Parity)?.iter().map(|stat| stat.name.header_name()).collect();
    let doomed = condemned::all(backend, repository.keyring())?;
    let listed = backend.list(Folder::Packs)?;
    let packs: BTreeMap<PackId, u64> = listed.iter().map(|s| (s.name.header_name(), s.size)).collect();
    out.packs = packs.len() as u64;
    if options.apply && before != after {
        let detail = format!("{before} per cent before, {after} from now on");
        journal::write(repository, &[journal::action("parity-set", "config", detail)], options.now)?;
        repository.set_parity(after)?;
    }
    if after == 0 {
        let all = if options.percent == Some(0) { sidecars } else { Vec::new() };
        return remove(repository, options, &all, out);
    }
    let strays: Vec<PackId> = sidecars
        .iter()
        .filter(|id| !packs.contains_key(id) && is_useless(repository, **id))
        .copied()
        .collect();
    for (&pack, &size) in packs.iter().filter(|(id, _)| !doomed.contains(id)) {
        progress.keep_going()?;
        progress.add_file(size);
        one(repository, options, (pack, size), &mut out)?;
    }
    remove(repository, options, &strays, out)
}

/// Takes sidecars away.
fn remove(
    repository: &Repository,
    options: &ParityOptions,
    sidecars: &[PackId],
    mut out: ParityReport,
) -> Result<ParityReport> {
    out.removed = sidecars.len() as u64;
    if options.apply {
        for pack in sidecars {
            removal::parity(repository.backend().as_ref(), *pack)?;
        }
    }
    Ok(out)
}

/// Whether the parity of a pack that is gone cannot give it back.
fn is_useless(repository: &Repository, pack: PackId) -> bool {
    match parity::read(repository.backend().as_ref(), repository.keyring(), pack) {
        Ok(sidecar) => sidecar.geometry().parity < sidecar.geometry().data,
        Err(e) => e.kind() == ErrorKind::Corrupt,
    }
}

/// Brings the parity of one pack into order.
fn one(
    repository: &Repository,
    options: &ParityOptions,
    (pack, size): (PackId, u64),
    out: &mut ParityReport,
) -> Result<()> {
    let (backend, keyring) = (repository.backend().as_ref(), repository.keyring());
    let wanted = Geometry::choose(size, out.after);
    let counter = match parity::read(backend, keyring, pack) {
        Ok(sidecar) if !sidecar.sound || sidecar.geometry().pack_len != size => &mut out.damaged,
        Ok(sidecar) if options.percent.is_some() && *sidecar.geometry() != wanted => &mut out.other,
        Ok(_) => {
            out.sound += 1;
            return Ok(());
        }
        Err(e) if e.kind() == ErrorKind::NotFound => &mut out.missing,
        Err(e) if e.kind().is_unreadable() => &mut out.damaged,
        Err(e) => return Err(e),
    };
    if let Err(e) = prove(repository, pack, size) {
        match e.kind() {
            ErrorKind::NotFound => {}
            ErrorKind::Cancelled => return Err(e),
            _ => out.hurt.push((pack, e.message().to_owned())),
        }
        return Ok(());
    }
    *counter += 1;
    if options.apply {
        let name = FileName::Pack(pack);
        let mut read = |offset, len| backend.read_range(&name, offset, len);
        let bytes = parity::build(keyring, pack, wanted, &mut read)?;
        super::records::put(backend, &FileName::Parity(pack), &bytes)?;
        out.bytes_written += bytes.len() as u64;
    }
    Ok(())
}

/// Whether a pack is as it was written: its ends are in order and its sum is the one it states.
fn prove(repository: &Repository, pack: PackId, size: u64) -> Result<()> {
    let (backend, keyring) = (repository.backend().as_ref(), repository.keyring());
    read_footer(backend, keyring, pack, size)?;
    let bytes = backend.read(&FileName::Pack(pack), limit::PACK_BYTES_MAX)?;
    let (before, trailer) = bytes.split_at(bytes.len().saturating_sub(TRAILER_LEN));
    if Trailer::decode(trailer, size)?.hash != hash::plain(before) {
        return Err(Error::corrupt("the pack's checksum does not fit"));
    }
    Ok(())
}
