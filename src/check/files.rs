//! Whole files put together and compared with the hash of what was read: proof against a wrong assembly of right
//! chunks, for a sample.

use super::Check;
use super::damage::DamageKind;
use super::manifests::{Manifests, Sample, each_list};
use crate::crypto::ChunkSort;
use crate::crypto::hash::{self, FileHash};
use crate::error::Result;
use crate::format::entry::{Content, Entry, Extent};
use crate::format::extents::encode_list;
use crate::id::hex;
use std::collections::HashMap;
use std::sync::PoisonError;

impl Check<'_> {
    /// Whether a file is in the sample: by its content, so that a run looks at each content once and at the same ones
    /// whatever snapshots hold it.
    pub(super) fn wants_sample(&self, entry: &Entry) -> bool {
        let Some(whole) = &entry.content.hash else { return false };
        if self.options.read_data.is_none() || entry.content.size > self.options.verify_files_bytes_max {
            return false;
        }
        let salted = [whole.as_slice(), &self.options.now.secs.to_le_bytes()].concat();
        let share = self.options.verify_files_percent.clamp(0.0, 100.0) / 100.0;
        let chosen = (hash::short(&salted) as f64) < share * u64::MAX as f64 || share >= 1.0;
        chosen
            && self
                .sampled
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(assembly(&entry.content, whole))
    }
}

/// What is to be proved, by value: this hash for these pieces in this order.
fn assembly(content: &Content, whole: &[u8; 32]) -> [u8; 32] {
    let mut hash = FileHash::new();
    hash.update(whole);
    content.lists.iter().for_each(|id| hash.update(&id.0));
    hash.update(&encode_list(&content.extents));
    hash.finish()
}

/// Proves the sample; returns files and bytes.
pub fn look(check: &Check<'_>, manifests: &Manifests, samples: &[Sample]) -> Result<(u64, u64)> {
    let (mut files, mut bytes) = (0, 0u64);
    for sample in samples {
        check.progress.keep_going()?;
        let size = sample.content.size;
        if bytes.saturating_add(size) > check.options.verify_files_bytes_max || check.out_of_time() {
            continue;
        }
        check.progress.set_current(&sample.path);
        let Some(found) = whole(check, &sample.content)? else { continue };
        (files, bytes) = (files + 1, bytes + size);
        if let Some(stated) = sample.content.hash.filter(|h| *h != found) {
            mismatch(check, manifests, sample, &stated, &found);
        }
    }
    Ok((files, bytes))
}

fn mismatch(check: &Check<'_>, manifests: &Manifests, sample: &Sample, stated: &[u8; 32], found: &[u8; 32]) {
    let path = String::from_utf8_lossy(&sample.path);
    let (stated, found) = (hex(stated), hex(found));
    let why = format!("its chunks are intact but hash to {found}, the file that was read to {stated}");
    let finding = check.findings.add(DamageKind::FileHash, format!("/{path}"), why);
    let mut hurt: HashMap<_, u64> = HashMap::new();
    for outline in &manifests.outlines {
        if outline.groups.contains(&sample.group) {
            *hurt.entry(outline.id).or_default() += 1;
        }
    }
    for (snapshot, total) in hurt {
        check.findings.hurts_files(finding, snapshot, std::slice::from_ref(&sample.path), total);
    }
}

/// The hash of a file's bytes; `None` when some cannot be had, which is a finding of its own.
fn whole(check: &Check<'_>, content: &Content) -> Result<Option<[u8; 32]>> {
    let mut hash = FileHash::new();
    let mut complete = true;
    let mut feed = |extents: &[Extent]| -> Result<()> {
        for extent in extents {
            check.progress.keep_going()?;
            match extent {
                Extent::Hole { len } => hash.update_zeros(*len),
                Extent::Chunk { id, len, repeat } => {
                    let (Some(chunk), _) = check.get(ChunkSort::Content, id)? else {
                        complete = false;
                        return Ok(());
                    };
                    complete &= chunk.len() == *len as usize;
                    (0..*repeat).for_each(|_| hash.update(&chunk));
                }
            }
        }
        Ok(())
    };
    feed(&content.extents)?;
    let listed = each_list(check, content, &mut feed)?;
    Ok((complete && listed).then(|| hash.finish()))
}
