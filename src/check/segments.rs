//! The index segments: is each as it was written, and does it say of its packs what their own footers say.

use super::Check;
use super::damage::DamageKind;
use super::packs::{PackFacts, digest};
use crate::error::{ErrorKind, Result};
use crate::format::FileName;
use crate::format::segment::{PackFooter, Segment};
use crate::id::{Name, PackId};
use crate::repository::segment::{read, sort_of};
use crate::units::counted;
use rayon::prelude::{IntoParallelRefIterator, ParallelIterator};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};

/// Compares the segments, listed before the packs, with what was read from these; returns how many there are.
pub fn look(check: &Check<'_>, segments: &[Name]) -> Result<u64> {
    let (backend, keyring) = (check.repository.backend().as_ref(), check.repository.keyring());
    let sound: HashMap<PackId, &PackFacts> = check.packs.sound.iter().map(|pack| (pack.id, pack)).collect();
    let listed: HashSet<PackId> = check.packs.listed.iter().copied().collect();
    let (seen, stale) = (AtomicU64::new(0), AtomicU64::new(0));
    segments.par_iter().try_for_each(|&name| {
        check.progress.keep_going()?;
        let path = FileName::Index(name).path();
        match read(backend, keyring, name) {
            Ok(segment) => {
                seen.fetch_add(1, Ordering::Relaxed);
                if let Some(wrong) = segment.packs.iter().find(|entry| differs(entry, &sound)) {
                    let what =
                        format!("what it says of pack {} is not what the pack says itself", wrong.pack);
                    check.findings.add(DamageKind::Segment, path, what);
                }
                stale.fetch_add(u64::from(is_stale(&segment, &listed)), Ordering::Relaxed);
            }
            // Merged with others.
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => {
                check.findings.sort_out(DamageKind::Segment, &path, &e)?;
            }
        }
        Ok(())
    })?;
    let stale = stale.into_inner();
    if stale > 0 {
        let what = counted(stale, "index segment speaks", "index segments speak");
        check.findings.inform(
            "segment-stale",
            format!("{what} only of packs no longer there; `snapkeep prune` removes them"),
        );
    }
    Ok(seen.into_inner())
}

/// Of a pack whose own ends cannot be read nothing can be said.
fn differs(entry: &PackFooter, sound: &HashMap<PackId, &PackFacts>) -> bool {
    sound.get(&entry.pack).is_some_and(|pack| {
        pack.size != entry.pack_size() || pack.digest != digest(sort_of(entry), &entry.footer)
    })
}

fn is_stale(segment: &Segment, listed: &HashSet<PackId>) -> bool {
    !segment.packs.iter().any(|entry| listed.contains(&entry.pack))
}
