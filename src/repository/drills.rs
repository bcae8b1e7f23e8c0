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
