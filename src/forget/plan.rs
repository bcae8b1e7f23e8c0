//! What would be forgotten, and what stands against it. Looks at a listing and changes nothing.

use crate::clock::{Timestamp, Zone};
use crate::error::{Error, ErrorKind, Result};
use crate::id::SnapshotId;
use crate::repository::snapshots::{Listed, Listing};
use crate::retention::brake::{Anomaly, Vital, anomaly};
use crate::retention::{Point, Policy, decide};
use std::collections::{BTreeMap, BTreeSet};

/// What the user has said explicitly, against the rules that protect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// All snapshots of a series may go, and the last good one.
    pub remove_all: bool,
    /// More than nine of ten may go where the policy has not found what it asks for.
    pub remove_most: bool,
    /// Good snapshots may go although something is wrong with the newest one.
    pub anomalies: bool,
    /// Snapshots named may go although they are pinned.
    pub pinned: bool,
    /// Notes that cannot be read may be pins, and nobody minds.
    pub unread_notes: bool,
}

/// What is to happen to the snapshots of one group, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Part<'a> {
    /// With the reasons.
    pub keep: Vec<(&'a Listed, Vec<String>)>,
    pub remove: Vec<&'a Listed>,
}

/// What is to happen.
#[derive(Clone, Debug, Default)]
pub struct Plan<'a> {
    /// In the order of the groups that were handed in.
    pub parts: Vec<Part<'a>>,
    /// Series of which good snapshots are held back, one line each.
    pub held: Vec<String>,
    /// Why nothing of this may be done; one line each, with the option that overrules it.
    pub refused: Vec<String>,
}

/// The snapshots of one host and paths, as far as rules look at all of them.
struct Series<'a> {
    members: Vec<&'a Listed>,
}

impl Plan<'_> {
    pub fn removed(&self) -> impl Iterator<Item = &Listed> {
        self.parts.iter().flat_map(|part| part.remove.iter().copied())
    }

    /// An error when a rule stands against the plan.
    pub fn permitted(&self) -> Result<()> {
        match self.refused.as_slice() {
            [] => Ok(()),
            [first, rest @ ..] => {
                let more = if rest.is_empty() { String::new() } else { format!("; and {} more", rest.len()) };
                Err(Error::new(ErrorKind::Refused, format!("nothing was forgotten: {first}{more}")))
            }
        }
    }
}

/// How good a snapshot is, as far as its record says.
pub fn vital(listed: &Listed) -> Vital {
    let s = &listed.record.summary;
    Vital { problems: s.problems, files: s.total_files_processed, bytes: s.total_bytes_processed }
}

/// Retention must know all pins.
pub fn knows_enough(listing: &Listing, overrides: Overrides) -> Result<()> {
    match listing.unread_notes.first() {
        Some((name, why)) if !overrides.unread_notes => Err(Error::new(
            ErrorKind::Refused,
            format!(
                "nothing was forgotten: {name} cannot be read and may be a pin ({why}); to go on without it give \
                 --ignore-unreadable-notes"
            ),
        )),
        _ => Ok(()),
    }
}

/// Applies a policy to groups of the listing's snapshots, each oldest first.
pub fn by_policy<'a>(
    listing: &'a Listing,
    groups: &[Vec<&'a Listed>],
    policy: &Policy,
    overrides: Overrides,
    now: Timestamp,
    zone: &Zone,
) -> Plan<'a> {
    let mut plan = Plan::default();
    let mut reasons: BTreeMap<SnapshotId, Vec<String>> = BTreeMap::new();
    let mut filled = Vec::new();
    for group in groups {
        // A safety snapshot is a state that somebody wanted to get away from: it takes no real one's place.
        let (safety, usual): (Vec<&Listed>, Vec<&Listed>) =
            group.iter().copied().partition(|l| l.record.before_restore.is_some());
        for (members, counts) in [(usual, true), (safety, false)] {
            let point =
                |l: &&'a Listed| Point { time: l.time(), clocked: l.is_clocked(), tags: &l.record.tags };
            let points: Vec<Point<'_>> = members.iter().map(point).collect();
            let decision = decide(&points, policy, now, zone);
            if counts {
                filled.push(decision.filled);
            }
            for (listed, reasons_of) in members.iter().zip(decision.reasons) {
                reasons.insert(listed.id, reasons_of);
            }
        }
    }
    spare(listing, &mut reasons);
    for series in series(listing) {
        floor(&series, policy.floor, &mut reasons);
        if !overrides.anomalies {
            plan.held.extend(hold(&series, &mut reasons));
        }
    }
    for (group, filled) in groups.iter().zip(filled) {
        let mut part = Part::default();
        for listed in group {
            match reasons.remove(&listed.id).unwrap_or_default() {
                none if none.is_empty() => part.remove.push(listed),
                some => part.keep.push((listed, some)),
            }
        }
        plan.refused.extend(too_much(&part, group, filled, overrides));
        plan.parts.push(part);
    }
    if !overrides.remove_all {
        let last = last_ones(listing, &plan.removed().map(|l| l.id).collect(), true);
        plan.refused.extend(last);
    }
    plan
}

/// Why so much of a group may not go.
fn too_much(part: &Part<'_>, group: &[&Listed], filled: bool, overrides: Overrides) -> Option<String> {
    let (gone, all) = (part.remove.len(), group.len());
    if gone == all && all > 0 && !overrides.remove_all {
        return Some(format!(
            "every snapshot of {} would go; if that is meant, give --allow-remove-all",
            named(group)
        ));
    }
    // A policy that found what it asks for does what its words say. One that did not may have a slip in it, or look at
    // times that a clock got wrong.
    let refused = gone * 10 > all * 9 && gone < all && !filled && !overrides.remove_most;
    refused.then(|| {
        format!(
            "{gone} of the {all} snapshots of {} would go, and no rule has found as many as it asks for; if that is \
             meant, give --allow-remove-most",
            named(group)
        )
    })
}

/// Everything that is selected goes, except what is pinned.
pub fn everything<'a>(listing: &'a Listing, groups: &[Vec<&'a Listed>]) -> Plan<'a> {
    let mut plan = Plan::default();
    for group in groups {
        let mut part = Part::default();
        for listed in group {
            match standing(listing, listed.id) {
                Some(reason) => part.keep.push((listed, vec![reason])),
                None => part.remove.push(listed),
            }
        }
        plan.parts.push(part);
    }
    plan
}

/// These and no others go. `for_good`: they cannot be brought back.
pub fn named_ones<'a>(
    listing: &'a Listing,
    chosen: Vec<&'a Listed>,
    overrides: Overrides,
    for_good: bool,
) -> Plan<'a> {
    let mut plan = Plan::default();
    for listed in &chosen {
        if let Some(reason) = standing(listing, listed.id)
            && !overrides.pinned
        {
            plan.refused.push(format!(
                "snapshot {} stays: {reason}; if it is to go all the same, give --pinned",
                listed.id.short()
            ));
        }
    }
    if for_good && !overrides.remove_all {
        plan.refused.extend(last_ones(listing, &chosen.iter().map(|l| l.id).collect(), false));
    }
    plan.parts.push(Part { keep: Vec::new(), remove: chosen });
    plan
}

/// Why no policy may touch a snapshot.
fn standing(listing: &Listing, id: SnapshotId) -> Option<String> {
    if let Some(pin) = listing.pins.get(&id) {
        return Some(
            pin.label.as_ref().map_or_else(|| "pinned".to_owned(), |label| format!("pinned: {label}")),
        );
    }
    listing.unclear.contains(&id).then(|| "a note of a later version is about it".to_owned())
}

fn spare(listing: &Listing, reasons: &mut BTreeMap<SnapshotId, Vec<String>>) {
    for (id, reasons) in reasons {
        reasons.extend(standing(listing, *id));
    }
}

/// All series of the listing, whatever was selected; what lies in the trash and safety snapshots are no part of them.
fn series(listing: &Listing) -> Vec<Series<'_>> {
    let mut found: BTreeMap<(&str, &[String]), Vec<&Listed>> = BTreeMap::new();
    for listed in listing.snapshots.iter().filter(|l| l.record.before_restore.is_none()) {
        let key = (listed.record.hostname.as_str(), listed.record.paths.as_slice());
        found.entry(key).or_default().push(listed);
    }
    found.into_values().map(|members| Series { members }).collect()
}

fn goes(reasons: &BTreeMap<SnapshotId, Vec<String>>, listed: &Listed) -> bool {
    reasons.get(&listed.id).is_some_and(Vec::is_empty)
}

/// Keeps the newest of those that would go until enough of the series stay.
fn floor(series: &Series<'_>, floor: u32, reasons: &mut BTreeMap<SnapshotId, Vec<String>>) {
    let staying = series.members.iter().filter(|l| !goes(reasons, l)).count();
    let missing = (floor as usize).saturating_sub(staying);
    let going: Vec<SnapshotId> =
        series.members.iter().rev().filter(|l| goes(reasons, l)).take(missing).map(|l| l.id).collect();
    for id in going {
        reasons.entry(id).or_default().push(format!("at least {floor} of its series stay"));
    }
}

/// While something is wrong with the newest snapshot, the good ones before it stay.
fn hold(series: &Series<'_>, reasons: &mut BTreeMap<SnapshotId, Vec<String>>) -> Option<String> {
    let vitals: Vec<Vital> = series.members.iter().map(|l| vital(l)).collect();
    let found: Anomaly = anomaly(&vitals)?;
    let newest = series.members.last()?;
    let held: Vec<SnapshotId> = series
        .members
        .iter()
        .zip(&vitals)
        .filter(|(l, v)| v.is_good() && goes(reasons, l))
        .map(|(l, _)| l.id)
        .collect();
    if held.is_empty() {
        return None;
    }
    for id in &held {
        let reason = format!("held: newest {}", found.word());
        reasons.entry(*id).or_default().push(reason);
    }
    Some(format!(
        "{} of {} kept although the policy lets go of them: the newest snapshot, {}, {found}; if that is as it should \
         be, give --ignore-anomalies",
        crate::units::counted(held.len() as u64, "good snapshot", "good snapshots"),
        named(&series.members),
        newest.id.short(),
    ))
}

/// Refusals for series that would lose their last snapshot, or the last good one (of those that have one).
fn last_ones(listing: &Listing, removed: &BTreeSet<SnapshotId>, only_good: bool) -> Vec<String> {
    let mut refused = Vec::new();
    for Series { members } in series(listing) {
        let (going, staying): (Vec<&Listed>, Vec<&Listed>) =
            members.iter().partition(|l| removed.contains(&l.id));
        let good = |list: &[&Listed]| list.iter().rev().find(|l| vital(l).is_good()).map(|l| l.id);
        if let Some(id) = good(&going).filter(|_| good(&staying).is_none() && !staying.is_empty()) {
            refused.push(format!(
                "{} is the last good snapshot of {}; if it is to go all the same, give --allow-remove-all",
                id.short(),
                named(&members)
            ));
        } else if staying.is_empty() && !only_good {
            refused.push(format!(
                "this would delete every snapshot of {} for good; if that is meant, give --allow-remove-all",
                named(&members)
            ));
        }
    }
    refused
}

/// What the snapshots of one list are of, for people.
fn named(list: &[&Listed]) -> String {
    let Some(first) = list.first() else { return "nothing".to_owned() };
    let paths = first.record.paths.join(", ");
    match list.iter().all(|l| l.is_of_series(first)) {
        true => format!("{}:{paths}", first.record.hostname),
        false => "this group".to_owned(),
    }
}
