//! The sidecars that packs can be mended with: is there one for each pack, is it whole, and can it mend what is hurt.

use super::damage::DamageKind;
use super::{Check, CheckReport};
use crate::error::{ErrorKind, Result};
use crate::format::{FileName, Folder};
use crate::id::PackId;
use crate::repository::parity::{self, Mended};
use crate::units::counted;
use rayon::prelude::{IntoParallelRefIterator, ParallelIterator};
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};

pub fn look(check: &Check<'_>, out: &mut CheckReport) -> Result<()> {
    let backend = check.repository.backend().as_ref();
    let packs: HashSet<PackId> = check.packs.listed.iter().copied().collect();
    let sidecars: Vec<PackId> =
        backend.list(Folder::Parity)?.iter().map(|stat| stat.name.header_name()).collect();
    let (of_packs, strays): (Vec<PackId>, Vec<PackId>) = sidecars.iter().partition(|id| packs.contains(id));
    out.parity = of_packs.len() as u64;
    let known: HashSet<PackId> = of_packs.iter().copied().collect();
    let without =
        check.packs.sound.iter().filter(|p| !known.contains(&p.id) && !check.packs.condemned.contains(&p.id));
    let without = without.count() as u64;
    if without > 0 && check.repository.config().parity > 0 {
        let what = counted(without, "pack has", "packs have");
        check.findings.inform(
            "parity-missing",
            format!("{what} no parity to be mended with; `snapkeep repair parity --apply` makes it"),
        );
    }
    if !strays.is_empty() {
        let what = counted(strays.len() as u64, "pack", "packs");
        check.findings.inform("parity-stray", format!("there is parity of {what} no longer there"));
    }
    if check.options.read_data.is_some() && !check.out_of_time() {
        out.parity_read = read(check, &of_packs)?;
    }
    mendable(check)
}

/// Reads sidecars whole. They are small, so a part of the packs still means all of these.
fn read(check: &Check<'_>, sidecars: &[PackId]) -> Result<u64> {
    let (backend, keyring) = (check.repository.backend().as_ref(), check.repository.keyring());
    let read = AtomicU64::new(0);
    sidecars.par_iter().try_for_each(|&pack| {
        check.progress.keep_going()?;
        let path = FileName::Parity(pack).path();
        match parity::read(backend, keyring, pack) {
            Ok(sidecar) => {
                read.fetch_add(1, Ordering::Relaxed);
                if !sidecar.sound {
                    check.findings.add(
                        DamageKind::Parity,
                        path,
                        "some of its bytes are not as they were written",
                    );
                } else if check
                    .packs
                    .sound
                    .iter()
                    .any(|p| p.id == pack && p.size != sidecar.geometry().pack_len)
                {
                    check.findings.add(DamageKind::Parity, path, "it was made for a pack of another size");
                }
            }
            // Gone with its pack.
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => {
                check.findings.sort_out(DamageKind::Parity, &path, &e)?;
            }
        }
        Ok(())
    })?;
    Ok(read.into_inner())
}

/// Says of each damaged pack whether its parity gives it back.
fn mendable(check: &Check<'_>) -> Result<()> {
    for (finding, pack) in check.findings.of_packs() {
        check.progress.keep_going()?;
        let (backend, keyring) = (check.repository.backend().as_ref(), check.repository.keyring());
        if let Ok(Mended::Whole { damaged, .. }) = parity::mend(backend, keyring, pack) {
            // What was stored like this from the first is not mended by what was stored with it.
            let size_is_wrong = !check.packs.sound.iter().any(|p| p.id == pack);
            if damaged > 0 || size_is_wrong {
                check.findings.mendable(finding, "snapkeep repair packs --apply");
            }
        }
    }
    Ok(())
}
