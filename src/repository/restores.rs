//! Restores over what was there, as the repository knows them: each has a safety snapshot, and a note when it has ended well.

use super::snapshots::{Listed, Listing};
use super::{Repository, notes};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::format::snapshot::{BeforeRestore, NoteKind};
use crate::id::SnapshotId;
use crate::os::process::host_name;

/// Safety snapshots of restores on this host that did not end well, or are under way: what stands at their places may be a
/// mixture of two states.
pub fn unsettled(listing: &Listing) -> Vec<(&Listed, &BeforeRestore)> {
    let host = host_name();
    let all = listing.snapshots.iter().filter_map(|l| Some((l, l.record.before_restore.as_ref()?)));
    let here = all.filter(|(l, _)| l.record.hostname == host);
    here.filter(|(l, before)| before.end_noted && !listing.settled.contains(&l.id)).collect()
}

/// Whether one of two places, as records write them, is the other or stands in it.
pub fn overlap(a: &str, b: &str) -> bool {
    covers(a, b) || covers(b, a)
}

/// Whether `inner` is `outer` or stands in it.
pub fn covers(outer: &str, inner: &str) -> bool {
    let rest = inner.strip_prefix(outer.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Notes that what stands at the places of a safety snapshot is no mixture.
pub fn settle(repository: &Repository, id: SnapshotId, now: Timestamp) -> Result<()> {
    notes::write(repository, id, NoteKind::Settled { host: host_name() }, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_overlap_by_whole_names() {
        assert!(covers("/srv/a", "/srv/a") && covers("/srv/a", "/srv/a/b") && covers("/", "/srv"));
        assert!(!covers("/srv/a", "/srv/ab") && !covers("/srv/a/b", "/srv/a"));
        assert!(overlap("/srv/a/b", "/srv/a") && !overlap("/srv/a", "/srv/b"));
    }
}
