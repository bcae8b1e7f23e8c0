//! Which snapshots a policy keeps, and why. Pure: snapshots, a policy, a moment and a time zone in, decisions out.
//!
//! Snapshots come in the order the repository recorded, which no clock can turn round (`format-spec/8`, "Forgetting").
//! Their own times only say which hour, day, … they belong to. A **bucket** is an unbroken run of that order whose
//! times ascend and fall into the same hour (day, week, …); its newest snapshot stands for it. Where a clock stood
//! still or ran backwards a run ends, so that a clock that says the same for ever keeps as many snapshots as it would
//! have kept days, and not one.

pub mod brake;
pub mod span;

use crate::clock::{Calendar, Reach, Timestamp, Zone};
use crate::error::{Error, Result};
use std::fmt;

/// What buckets are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Period {
    /// Every snapshot is a bucket.
    Last,
    Minutely,
    Hourly,
    Daily,
    /// ISO weeks.
    Weekly,
    Monthly,
    QuarterYearly,
    HalfYearly,
    Yearly,
}

/// How many buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    Most(u32),
    Unlimited,
}

/// What to keep; a snapshot is kept when any rule keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The newest snapshot of each of the newest so many buckets.
    pub counts: Vec<(Period, Count)>,
    /// The newest snapshot of every bucket within this reach of the newest snapshot.
    pub within: Vec<(Period, Reach)>,
    /// Snapshots that have all tags of one of these sets.
    pub tags: Vec<Vec<String>>,
    /// So many stay of every series, whatever else holds. A floor is no policy by itself.
    pub floor: u32,
}

/// A snapshot as far as policies look at it.
#[derive(Clone, Copy, Debug)]
pub struct Point<'a> {
    /// `None` when the record's time cannot be read: then nothing can be decided by it and the snapshot is kept.
    pub time: Option<Timestamp>,
    /// Whether the time was read from a clock and not given by the user.
    pub clocked: bool,
    pub tags: &'a [String],
}

/// What was decided about some snapshots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// For each snapshot the reasons to keep it; none: it goes.
    pub reasons: Vec<Vec<String>>,
    /// Some rule with a number found as many buckets as it wanted: the policy keeps what its words promise.
    pub filled: bool,
}

impl Count {
    /// A number, or `unlimited` or `-1`.
    pub fn parse(text: &str) -> Result<Self> {
        match text.trim() {
            "unlimited" | "-1" => Ok(Count::Unlimited),
            number => number.parse().map(Count::Most).map_err(|_| {
                Error::invalid(format!("`{text}` is no number of snapshots; use 0, 1, 2, … or unlimited"))
            }),
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Period::Last => "last",
            Period::Minutely => "minutely",
            Period::Hourly => "hourly",
            Period::Daily => "daily",
            Period::Weekly => "weekly",
            Period::Monthly => "monthly",
            Period::QuarterYearly => "quarter-yearly",
            Period::HalfYearly => "half-yearly",
            Period::Yearly => "yearly",
        })
    }
}

impl Period {
    /// Equal for two moments of the same hour, day, …
    fn key(self, c: &Calendar) -> [i32; 6] {
        let (year, month, day) = (i32::from(c.year), i32::from(c.month), i32::from(c.day));
        let (hour, minute) = (i32::from(c.hour), i32::from(c.minute));
        match self {
            Period::Last => [0; 6],
            Period::Minutely => [year, month, day, hour, minute, c.offset],
            Period::Hourly => [year, month, day, hour, 0, c.offset],
            Period::Daily => [year, month, day, 0, 0, 0],
            Period::Weekly => [i32::from(c.week.0), i32::from(c.week.1), 0, 0, 0, 0],
            Period::Monthly => [year, month, 0, 0, 0, 0],
            Period::QuarterYearly => [year, (month - 1) / 3, 0, 0, 0, 0],
            Period::HalfYearly => [year, (month - 1) / 6, 0, 0, 0, 0],
            Period::Yearly => [year, 0, 0, 0, 0, 0],
        }
    }
}

impl Policy {
    /// Whether it has no rule that keeps anything.
    pub fn is_empty(&self) -> bool {
        self.counts.iter().all(|(_, count)| *count == Count::Most(0))
            && self.within.is_empty()
            && self.tags.is_empty()
    }
}

/// Decides over the snapshots of one group, oldest first in the order the repository recorded.
pub fn decide(points: &[Point<'_>], policy: &Policy, now: Timestamp, zone: &Zone) -> Decision {
    let calendars: Vec<Option<Calendar>> = points.iter().map(|p| p.time.map(|t| zone.calendar(t))).collect();
    let mut reasons: Vec<Vec<String>> = points.iter().map(|p| standing(p, policy)).collect();
    let begins = |period: Period, at: usize| {
        // Newest first: a bucket begins where the next newer snapshot belongs to another one.
        let Some(newer) = points.get(at + 1) else { return true };
        let key = |i: usize| calendars[i].as_ref().map(|c: &Calendar| period.key(c));
        period == Period::Last || is_broken(&points[at], newer) || key(at) != key(at + 1)
    };
    for (period, reach) in &policy.within {
        let Some(horizon) = horizon(points, reach, now, zone) else { continue };
        for at in (0..points.len()).rev() {
            if points[at].time.is_some_and(|t| t > horizon) && (begins(*period, at) || at == 0) {
                reasons[at].push(match period {
                    Period::Last => format!("within {reach}"),
                    _ => format!("{period} within {reach}"),
                });
            }
        }
    }
    let mut filled = false;
    for (period, count) in &policy.counts {
        let mut left = *count;
        for at in (0..points.len()).rev() {
            if left == Count::Most(0) {
                break;
            }
            let begins = begins(*period, at);
            // The oldest one stays while there is room: a young repository keeps its beginning.
            if begins || at == 0 {
                reasons[at].push(format!("{}{period} snapshot", if begins { "" } else { "oldest " }));
                if let Count::Most(n) = &mut left {
                    *n -= 1;
                    filled |= *n == 0 && begins;
                }
            }
        }
    }
    Decision { reasons, filled }
}

/// Reasons that lie in the snapshot itself.
fn standing(point: &Point<'_>, policy: &Policy) -> Vec<String> {
    let mut reasons = Vec::new();
    if point.time.is_none() {
        reasons.push("its time cannot be read".to_owned());
    }
    for set in &policy.tags {
        let has =
            |tag: &String| if tag.is_empty() { point.tags.is_empty() } else { point.tags.contains(tag) };
        if set.iter().all(has) {
            reasons.push(match set.join(",") {
                none if none.is_empty() => "has no tags".to_owned(),
                tags => format!("has tags {tags}"),
            });
        }
    }
    reasons
}

/// Whether the clock did not go on between two neighbours. A time that the user gave says nothing about clocks.
fn is_broken(older: &Point<'_>, newer: &Point<'_>) -> bool {
    match (older.time, newer.time) {
        (Some(a), Some(b)) => older.clocked && newer.clocked && b <= a,
        _ => true,
    }
}

/// What is later is within reach. Counted from the newest snapshot, as long as that is not of the future: a clock that
/// was wrong once must not move all others out of reach.
fn horizon(points: &[Point<'_>], reach: &Reach, now: Timestamp, zone: &Zone) -> Option<Timestamp> {
    let newest = points.iter().rev().find_map(|p| p.time)?;
    Some(zone.before(newest.min(now), reach))
}
