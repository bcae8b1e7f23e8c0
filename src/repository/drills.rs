//! Drills: when was a snapshot last proven restorable?

use super::snapshots::{Listed, Listing};
use crate::clock::Timestamp;
use crate::format::snapshot::DrillDone;
use serde::Serialize;

/// A drill, and when its result was written down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Drilled {
    /// RFC 3339.
    pub time: String,
    #[serde(flatten)]
    pub done: DrillDone,
}

impl Drilled {
    pub fn at(&self) -> Option<Timestamp> {
        Timestamp::parse(&self.time, Timestamp::default()).ok()
    }
}

/// A drill and the snapshot it was made with.
#[derive(Clone, Copy, Debug)]
pub struct Proof<'l> {
    pub snapshot: &'l Listed,
    pub drilled: &'l Drilled,
}

/// Drills with the listed snapshots that `wanted` lets through.
fn drills<'l>(listing: &'l Listing, wanted: &'l dyn Fn(&Listed) -> bool) -> impl Iterator<Item = Proof<'l>> {
    listing.snapshots.iter().filter(move |listed| wanted(listed)).flat_map(|snapshot| {
        let all = listing.drills.get(&snapshot.id).into_iter().flatten();
        all.map(move |drilled| Proof { snapshot, drilled })
    })
}

/// The last drill, however it ended.
pub fn last<'l>(listing: &'l Listing, wanted: &'l dyn Fn(&Listed) -> bool) -> Option<Proof<'l>> {
    drills(listing, wanted).max_by_key(|proof| proof.drilled.at())
}

/// The last drill that passed: what was proven restorable, and when. A drill of a part of a snapshot proves that part only
/// (`done.path`); with `whole` such do not count.
pub fn last_proven<'l>(
    listing: &'l Listing,
    whole: bool,
    wanted: &'l dyn Fn(&Listed) -> bool,
) -> Option<Proof<'l>> {
    let counts = |proof: &Proof<'_>| {
        let done = &proof.drilled.done;
        done.passed && (!whole || done.path.is_empty())
    };
    drills(listing, wanted).filter(counts).max_by_key(|proof| proof.drilled.at())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::snapshot::{SessionInfo, Snapshot};
    use crate::id::{CHUNK_ID_LEN, ChunkId, Name};

    fn listing(drills: &[(u8, &str, bool, &str)]) -> Listing {
        let mut listing = Listing::default();
        for n in 0..3 {
            let id = Name([n; 16]);
            let record = Snapshot { id: id.to_string(), ..Snapshot::default() };
            let (root, session) = (ChunkId([0; CHUNK_ID_LEN]), SessionInfo::default());
            listing.snapshots.push(Listed { id, root, record, session });
        }
        for (n, time, passed, path) in drills {
            let done = DrillDone { passed: *passed, path: (*path).to_owned(), ..DrillDone::default() };
            let drilled = Drilled { time: (*time).to_owned(), done };
            listing.drills.entry(Name([*n; 16])).or_default().push(drilled);
        }
        listing
    }

    #[test]
    fn only_what_passed_is_proven_and_the_last_counts() {
        let all = listing(&[
            (2, "2026-11-01T00:00:00Z", true, ""),
            (0, "2026-11-03T00:00:00Z", true, ""),
            (1, "2026-11-04T00:00:00Z", true, "/part"),
            (2, "2026-11-05T00:00:00Z", false, ""),
        ]);
        let any = |_: &Listed| true;
        let time =
            |proof: Option<Proof<'_>>| proof.map(|p| (p.snapshot.id.0[0], p.drilled.time[8..10].to_owned()));
        assert_eq!(time(last(&all, &any)), Some((2, "05".to_owned())));
        assert_eq!(time(last_proven(&all, true, &any)), Some((0, "03".to_owned())));
        assert_eq!(time(last_proven(&all, false, &any)), Some((1, "04".to_owned())));
        let newest = |l: &Listed| l.id.0[0] == 2;
        assert_eq!(time(last_proven(&all, true, &newest)), Some((2, "01".to_owned())));
        assert!(last(&listing(&[]), &any).is_none());
    }
}
