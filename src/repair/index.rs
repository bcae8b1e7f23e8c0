//! `run`: the local index thrown away and built anew from the packs, and index segments put in order.

use crate::check::scan::{Scan, scan_pack};
use crate::error::{Context, ErrorKind, Result};
use crate::format::{FileName, Folder};
use crate::id::PackId;
use crate::progress::{Problem, Progress, Report};
use crate::repository::Repository;
use crate::repository::segments::{self, Care, Tended};

/// A pack whose chunks cannot be found by an index.
#[derive(Clone, Debug)]
pub struct Unindexed {
    pub pack: PackId,
    pub why: String,
    /// What is still intact in it; `None` when it cannot be read at all.
    pub scan: Option<Scan>,
    pub next: String,
}

/// What the rebuild found.
#[derive(Clone, Debug, Default)]
pub struct IndexReport {
    /// Whether there was a local index to throw away.
    pub removed: bool,
    pub packs: u64,
    /// Chunks listed, copies counted.
    pub chunks: u64,
    pub unindexed: Vec<Unindexed>,
    /// What was done to the index segments.
    pub segments: Tended,
}

/// Deletes the local index cache, and what collections remember, and rebuilds the index. Packs without a usable footer
/// are read through, so that it is known what they still hold. In the repository only index segments are changed:
/// damaged and useless ones are removed, and where segments are wanted, those that are missing are written.
pub fn run(repository: &Repository, progress: &Progress, report: &dyn Report) -> Result<IndexReport> {
    let mut out = IndexReport::default();
    for dir in [repository.cache_dir(), repository.collected_dir()].into_iter().flatten() {
        match std::fs::remove_dir_all(&dir) {
            Ok(()) => out.removed = true,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(e).context(|| format!("cannot remove the local cache {}", dir.display())),
        }
    }
    progress.keep_going()?;
    let index = repository.load_index_of_packs()?;
    out.packs = index.packs().count() as u64;
    out.chunks = index.len();
    progress.keep_going()?;
    tend(repository, report, &mut out);
    if index.unreadable.is_empty() {
        return Ok(out);
    }
    let backend = repository.backend().as_ref();
    let sizes = backend.list(Folder::Packs)?;
    for (pack, why) in &index.unreadable {
        progress.keep_going()?;
        let name = FileName::Pack(*pack);
        let size = sizes.iter().find(|stat| stat.name == name).map_or(0, |stat| stat.size);
        let scan = match scan_pack(backend, repository.keyring(), *pack, size) {
            Ok(scan) => Some(scan),
            Err(e) if e.kind() == ErrorKind::Cancelled => return Err(e),
            Err(_) => None,
        };
        let kept = scan.as_ref().map_or_else(
            || "it cannot be read at all".to_owned(),
            |s| format!("{} intact frames with {} chunks can still be read", s.frames.len(), s.chunks()),
        );
        let message = format!("not in the index: {why}; {kept}");
        report.problem(&Problem { item: name.path().into_bytes(), during: "index", message });
        let next = "snapkeep repair packs --apply".to_owned();
        out.unindexed.push(Unindexed { pack: *pack, why: why.clone(), scan, next });
    }
    Ok(out)
}

/// Puts the index segments in order. Nobody needs them, so trouble with them is only told.
fn tend(repository: &Repository, report: &dyn Report, out: &mut IndexReport) {
    let tell = |item: String, message: String| {
        report.warning(&Problem { item: item.into_bytes(), during: "index", message });
    };
    match segments::tend(repository, Care::Repair) {
        Ok(tended) => out.segments = tended,
        Err(e) => {
            let why = format!("the index segments could not be put in order: {}", e.message());
            return tell(Folder::Index.dir().to_owned(), why);
        }
    }
    for (name, why) in &out.segments.damaged {
        let message = format!("removed, and the packs are read in its place: {why}");
        tell(FileName::Index(*name).path(), message);
    }
}
