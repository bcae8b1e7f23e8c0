//! The second copies of config, key slots and snapshots: are they there, and what their originals are.

use super::damage::{DamageKind, REPAIR_RECORDS};
use super::findings::Findings;
use crate::error::{ErrorKind, Result};
use crate::format::{FileName, Folder};
use crate::repository::{Repository, copies};
use crate::units::counted;
use std::collections::BTreeSet;

/// Looks at every copy and at every file that should have one. What is wrong with the originals has been found
/// already; here it is added that a copy can put them right, and that one is lost of which there is a copy.
pub fn look(repository: &Repository, findings: &Findings<'_>) -> Result<()> {
    let backend = repository.backend().as_ref();
    let copies: BTreeSet<FileName> = backend.list(Folder::Copies)?.iter().map(|stat| stat.name).collect();
    let mut originals = BTreeSet::new();
    for folder in [Folder::Config, Folder::Keys, Folder::Snapshots, Folder::Condemned] {
        originals.extend(backend.list(folder)?.iter().map(|stat| stat.name));
    }
    let mut missing = 0u64;
    for original in &originals {
        missing += u64::from(original.second_copy().is_some_and(|copy| !copies.contains(&copy)));
    }
    if missing > 0 {
        let what = counted(missing, "record has", "records have");
        let text = format!("{what} no second copy; `{REPAIR_RECORDS}` makes it");
        findings.inform("copy-missing", text);
    }
    for copy in &copies {
        let Some(original) = copy.original() else { continue };
        match one(repository, copy) {
            Ok(true) if !originals.contains(&original) => lost(repository, findings, &original),
            Ok(true) => {
                if let Some(finding) = findings.about(&original.path()) {
                    findings.mendable(finding, REPAIR_RECORDS);
                }
            }
            Ok(false) => {
                findings.add(DamageKind::Copy, copy.path(), "it differs from the intact original");
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            // What an interrupted `init` left of keys, twice; the original has been told already.
            Err(_) if matches!(copy, FileName::CopyOfKeys(_)) && is_same(repository, copy, &original) => {}
            Err(e) => {
                findings.sort_out(DamageKind::Copy, &copy.path(), &e)?;
            }
        }
    }
    Ok(())
}

/// Whether copy and original hold the same bytes, whatever these are.
fn is_same(repository: &Repository, copy: &FileName, original: &FileName) -> bool {
    let read = |name: &FileName| repository.backend().read(name, copies::bytes_max(copy)).ok();
    read(copy).is_some_and(|bytes| read(original) == Some(bytes))
}

/// Whether an intact copy is what its original is, where that one is intact.
fn one(repository: &Repository, copy: &FileName) -> Result<bool> {
    let backend = repository.backend().as_ref();
    let bytes = backend.read(copy, copies::bytes_max(copy))?;
    copies::judge(repository, &bytes, copy)?;
    let Some(original) = copy.original() else { return Ok(true) };
    match backend.read(&original, copies::bytes_max(&original)) {
        Ok(other) => Ok(other == bytes || copies::judge(repository, &other, &original).is_err()),
        Err(_) => Ok(true),
    }
}

/// The original is gone although nobody removes it before its copy.
fn lost(repository: &Repository, findings: &Findings<'_>, original: &FileName) {
    let kind = match original {
        FileName::Config(_) => DamageKind::Config,
        FileName::Keys(_) => DamageKind::Keys,
        FileName::Condemned(_) => DamageKind::CondemnedList,
        _ => DamageKind::Snapshot,
    };
    // A change of keys or config that was interrupted leaves old copies; the newest record alone counts.
    let newer = |folder| {
        let listed = repository.backend().list(folder).unwrap_or_default();
        listed.iter().any(|stat| stat.name > *original)
    };
    // A list is removed once there is a higher one, and its copy may have been written a moment too late.
    if (kind == DamageKind::Config && newer(Folder::Config))
        || (kind == DamageKind::Keys && newer(Folder::Keys))
        || (kind == DamageKind::CondemnedList && newer(Folder::Condemned))
    {
        return;
    }
    let finding = match findings.about(original.folder().dir()) {
        Some(known) => known,
        None => findings.add(kind, original.path(), "it is lost; its second copy is intact"),
    };
    if let FileName::Snapshot(id) = original {
        findings.hurts_snapshot(finding, *id);
    }
    findings.mendable(finding, REPAIR_RECORDS);
}
