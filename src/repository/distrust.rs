//! Packs that a check on this machine found damaged: what lies in them does not count as present, so that the next
//! backup stores it anew.
//!
//! A hint kept beside the local index cache. It can only make a backup store more than it must, never less.

use crate::error::{Context, Result};
use crate::id::{Name, PackId};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// `cache` is the repository's index cache; the list stands beside it.
fn place(cache: &Path) -> Option<PathBuf> {
    cache.parent().map(|dir| dir.join("damaged"))
}

/// The packs not to be trusted.
pub fn read(cache: &Path) -> BTreeSet<PackId> {
    let text = place(cache).and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
    text.lines().filter_map(|line| Name::parse(line).ok()).collect()
}

/// Adds packs found damaged and drops those found good.
pub fn note(cache: &Path, damaged: &[PackId], good: &[PackId]) -> Result<()> {
    let Some(path) = place(cache) else { return Ok(()) };
    let before = read(cache);
    let mut packs = before.clone();
    packs.extend(damaged);
    packs.retain(|id| !good.contains(id));
    if packs == before {
        return Ok(());
    }
    let failed = || "cannot note the damaged packs";
    let lines: String = packs.iter().map(|id| format!("{id}\n")).collect();
    let aside = path.with_extension("new");
    path.parent().map_or(Ok(()), std::fs::create_dir_all).context(failed)?;
    std::fs::write(&aside, lines).context(failed)?;
    std::fs::rename(&aside, &path).context(failed)
}
