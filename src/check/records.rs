//! The small files: config, key slots, condemned lists, sessions, snapshots, notes.

use super::damage::DamageKind;
use super::findings::Findings;
use crate::backend::Backend;
use crate::crypto::hash;
use crate::error::{Error, ErrorKind, Result};
use crate::format::config::{Config, decode_plain_record};
use crate::format::frame::{FrameKind, decode_frame_header};
use crate::format::key::{KeySlot, KeySlots};
use crate::format::snapshot::{self, SessionInfo};
use crate::format::{FileName, Folder, HEADER_LEN, decode_header, limit};
use crate::id::{Name, PackId, unhex};
use crate::repository::Repository;
use crate::repository::condemned;
use crate::repository::snapshots::{Listed, judge, read, read_note};
use crate::units::counted;
use rayon::prelude::{IntoParallelRefIterator, ParallelIterator};
use std::collections::{HashMap, HashSet};

fn names(backend: &dyn Backend, folder: Folder) -> Result<Vec<FileName>> {
    let mut names: Vec<FileName> = backend.list(folder)?.iter().map(|stat| stat.name).collect();
    names.sort_unstable();
    Ok(names)
}

/// A file that vanished after it was listed was removed by somebody who may.
fn vanished<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

pub fn config(repository: &Repository, findings: &Findings<'_>) -> Result<()> {
    let backend = repository.backend().as_ref();
    let names = names(backend, Folder::Config)?;
    if names.is_empty() {
        findings.add(DamageKind::Config, Folder::Config.dir(), "the repository's config is missing");
    }
    for name in names {
        let looked = backend.read(&name, limit::RECORD_BYTES_MAX).and_then(|bytes| {
            let record = decode_plain_record(&bytes, &name)?;
            let config = Config::decode(record.body)?;
            let ours = *repository.id();
            if record.repository != ours || Name::parse(&config.id).ok() != Some(ours) {
                return Err(Error::corrupt("it is the config of another repository"));
            }
            if hash::plain(record.hashed) != record.hash {
                return Err(Error::corrupt("its checksum does not fit"));
            }
            if repository.keyring().config_mac(record.body) != record.mac {
                return Err(Error::corrupt("it was not written with this repository's key"));
            }
            Ok(())
        });
        if let Err(e) = vanished(looked) {
            findings.sort_out(DamageKind::Config, &name.path(), &e)?;
        }
    }
    Ok(())
}

pub fn keys(repository: &Repository, findings: &Findings<'_>) -> Result<()> {
    let backend = repository.backend().as_ref();
    let names = names(backend, Folder::Keys)?;
    if names.is_empty() && repository.is_encrypted() {
        let detail = "the key slots are missing: once this program ends, no password opens the repository";
        findings.add(DamageKind::Keys, Folder::Keys.dir(), detail);
    }
    let (mut ours, mut foreign) = (0, Vec::new());
    for name in &names {
        let looked = backend.read(name, limit::RECORD_BYTES_MAX).and_then(|bytes| {
            let record = decode_plain_record(&bytes, name)?;
            if hash::plain(record.hashed) != record.hash || record.mac != [0; 32] {
                return Err(Error::corrupt("its checksum does not fit"));
            }
            KeySlots::decode(record.body)?.slots.iter().try_for_each(slot)?;
            Ok(record.repository == *repository.id())
        });
        match vanished(looked) {
            Ok(Some(true)) => ours += 1,
            Ok(Some(false)) => foreign.push(name.path()),
            Ok(None) => {}
            Err(e) => drop(findings.sort_out(DamageKind::Keys, &name.path(), &e)?),
        }
    }
    let side_by_side = names.len() - foreign.len();
    for path in foreign {
        if ours == 0 {
            findings.add(DamageKind::Keys, path, "it belongs to another repository");
        } else {
            // Made before the config and with it the repository's id were: the creation that came through has its own.
            let text =
                format!("{path} is left by an `init` that was interrupted before it was done; harmless");
            findings.inform("keys-of-init", text);
        }
    }
    if side_by_side > 1 {
        let text = format!(
            "{side_by_side} key records stand side by side: a change of keys is under way or was interrupted; the \
             highest one holds"
        );
        findings.inform("keys-changing", text);
    }
    Ok(())
}

fn slot(slot: &KeySlot) -> Result<()> {
    let len = |text: &str| unhex(text).map(|bytes| bytes.len());
    if len(&slot.salt) != Some(16) || len(&slot.nonce) != Some(24) || len(&slot.wrapped) != Some(48) {
        return Err(Error::corrupt(format!("key slot {} holds no key", slot.id)));
    }
    Ok(())
}

/// Packs that are about to be deleted.
pub fn condemned(repository: &Repository, findings: &Findings<'_>) -> Result<HashSet<PackId>> {
    let backend = repository.backend().as_ref();
    let mut packs = HashSet::new();
    for name in names(backend, Folder::Condemned)? {
        let read = |name: &FileName| {
            let bytes = backend.read(name, limit::SEGMENT_BYTES_MAX)?;
            condemned::judge(&bytes, name, repository.keyring())
        };
        match vanished(read(&name)) {
            Ok(list) => packs.extend(list.into_iter().flatten()),
            Err(e) => {
                findings.sort_out(DamageKind::CondemnedList, &name.path(), &e)?;
                // Its second copy knows them, too.
                packs.extend(name.second_copy().and_then(|copy| read(&copy).ok()).into_iter().flatten());
            }
        }
    }
    Ok(packs)
}

/// Open sessions: backups that run now, or ran until the machine died.
pub fn sessions(repository: &Repository, findings: &Findings<'_>) -> Result<u64> {
    let backend = repository.backend().as_ref();
    let names = names(backend, Folder::Sessions)?;
    for name in &names {
        let path = name.path();
        let state = match backend.session_alive(name.header_name()) {
            Some(true) => "a backup is running",
            Some(false) => "left by a backup that was killed; harmless",
            None => "whether that backup still runs cannot be seen from here",
        };
        match vanished(session(repository, name)) {
            Ok(None) => {}
            Ok(Some(info)) => {
                let SessionInfo { host, pid, started, .. } = info;
                let text = format!("{path}: session of {host}, process {pid}, since {started}: {state}");
                findings.inform("session-open", text);
            }
            // Torn by a crash while it was made: nothing can rest on it.
            Err(e) if e.kind().is_unreadable() => {
                let text = format!("{path}: a session that cannot be read ({}): {state}", e.message());
                findings.inform("session-unreadable", text);
            }
            Err(e) => findings.unchecked(&path, &e),
        }
    }
    Ok(names.len() as u64)
}

fn session(repository: &Repository, name: &FileName) -> Result<SessionInfo> {
    let bytes = repository.backend().read(name, limit::RECORD_BYTES_MAX)?;
    decode_header(&bytes, name, Some(repository.id()))?;
    let rest = &bytes[HEADER_LEN..];
    let (_, len) = decode_frame_header(rest)?;
    let first = rest.get(..len).ok_or_else(|| Error::corrupt("a record is cut short"))?;
    snapshot::decode(&repository.keyring().unseal(FrameKind::Session, first)?, "a session record")
}

/// All snapshots that can be read, oldest first.
pub fn snapshots(repository: &Repository, findings: &Findings<'_>) -> Result<Vec<Listed>> {
    let names = names(repository.backend().as_ref(), Folder::Snapshots)?;
    let results: Vec<_> =
        names.par_iter().map(|name| vanished(read(repository, name.header_name()))).collect();
    let mut snapshots = Vec::new();
    for (name, result) in names.iter().zip(results) {
        match result {
            Ok(listed) => snapshots.extend(listed),
            Err(e) => {
                if let Some(finding) = findings.sort_out(DamageKind::Snapshot, &name.path(), &e)? {
                    findings.hurts_snapshot(finding, name.header_name());
                }
                // Its second copy knows what it needs.
                let copy = FileName::CopyOfSnapshot(name.header_name());
                let bytes = repository.backend().read(&copy, limit::RECORD_BYTES_MAX);
                snapshots.extend(bytes.and_then(|bytes| judge(repository, &bytes, &copy)));
            }
        }
    }
    snapshots.sort_by(|a, b| {
        let key = |l: &Listed| (l.record.order_time, l.record.sequence);
        key(a).cmp(&key(b)).then(a.id.cmp(&b.id))
    });
    series(&snapshots, &names, findings);
    Ok(snapshots)
}

/// Parents that are gone and numbers that are missing: what `forget` leaves behind, and what theft would.
fn series(snapshots: &[Listed], names: &[FileName], findings: &Findings<'_>) {
    let ids: HashSet<String> = names.iter().map(|n| n.header_name().to_string()).collect();
    let orphans =
        snapshots.iter().filter(|s| s.record.parent.as_ref().is_some_and(|p| !ids.contains(p))).count()
            as u64;
    if orphans > 0 {
        let what = counted(orphans, "snapshot was", "snapshots were");
        let text =
            format!("{what} compared with a parent that is no longer there; harmless if it was forgotten");
        findings.inform("parent-missing", text);
    }
    let mut last: HashMap<(&str, &[String]), u64> = HashMap::new();
    let (mut gaps, mut repeats) = (0u64, 0u64);
    for s in snapshots {
        let number = s.record.sequence;
        match last.insert((s.record.hostname.as_str(), s.record.paths.as_slice()), number) {
            Some(before) if number <= before => repeats += 1,
            Some(before) => gaps = gaps.saturating_add(number - before - 1),
            None => {}
        }
    }
    if gaps > 0 {
        let what = counted(gaps, "snapshot is missing", "snapshots are missing");
        let text = format!("{what} between others of the same host and paths; harmless if forgotten");
        findings.inform("sequence-gap", text);
    }
    if repeats > 0 {
        let what = counted(repeats, "snapshot was", "snapshots were");
        let text = format!("{what} made while another of the same host and paths was being made; harmless");
        findings.inform("sequence-repeated", text);
    }
}

pub fn notes(repository: &Repository, snapshots: &[Listed], findings: &Findings<'_>) -> Result<u64> {
    let names = names(repository.backend().as_ref(), Folder::Notes)?;
    let ids: HashSet<&str> = snapshots.iter().map(|s| s.record.id.as_str()).collect();
    let results: Vec<_> = names.par_iter().map(|name| vanished(read_note(repository, name))).collect();
    let mut strays = 0;
    for (name, result) in names.iter().zip(results) {
        match result {
            Ok(Some(note)) => {
                let of_all = note.snapshot.is_empty();
                strays += u64::from(!of_all && !ids.contains(note.snapshot.as_str()));
            }
            Ok(None) => {}
            Err(e) => {
                findings.sort_out(DamageKind::Note, &name.path(), &e)?;
            }
        }
    }
    if strays > 0 {
        let what = counted(strays, "note is about a snapshot", "notes are about snapshots");
        findings.inform("note-stray", format!("{what} no longer there; harmless if forgotten"));
    }
    Ok(names.len() as u64)
}
