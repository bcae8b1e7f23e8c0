//! Checks of the whole repository: when was it last looked at, how deep, and what came of it?

use super::notes::{self, Notes};
use super::{Repository, removal};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::format::snapshot::{CheckDone, Note, NoteKind};
use crate::id::Name;
use serde::Serialize;
use std::time::Duration;

/// Results that are kept when a collector tidies up, besides those that still count.
const KEPT: usize = 50;
/// A check that says what one said within this time is not written down again.
const SAME_WITHIN: Duration = Duration::from_secs(600);

/// A check, and when its result was written down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// RFC 3339.
    pub time: String,
    #[serde(flatten)]
    pub done: CheckDone,
}

impl Checked {
    pub fn at(&self) -> Option<Timestamp> {
        Timestamp::parse_rfc3339(&self.time)
    }

    /// Whether it looked at all that is stored, or knew of what it left out that it was read lately.
    pub fn is_whole(&self) -> bool {
        self.done.read_data && self.done.packs_read + self.done.packs_fresh >= self.done.packs
    }
}

/// All that are written down, the oldest first.
pub fn of(notes: &Notes) -> Vec<Checked> {
    named(notes).into_iter().map(|(_, checked)| checked).collect()
}

fn named(notes: &Notes) -> Vec<(Name, Checked)> {
    let one = |n: &notes::NamedNote| match &n.note.what {
        NoteKind::Check(done) => Some((n.name, Checked { time: n.note.time.clone(), done: done.clone() })),
        _ => None,
    };
    let mut all: Vec<(Name, Checked)> = notes.of_repository().iter().filter_map(one).collect();
    all.sort_by_key(|(name, checked)| (checked.at(), *name));
    all
}

/// The last check of at least this depth, however it ended.
pub fn last(checks: &[Checked], whole: bool) -> Option<&Checked> {
    checks.iter().rfind(|checked| !whole || checked.is_whole())
}

/// The last check that found something, unless a later one that looked as deep found nothing.
pub fn standing_damage(checks: &[Checked]) -> Option<&Checked> {
    let at = checks.iter().rposition(|checked| !checked.done.passed)?;
    let bad = &checks[at];
    let cleared = |later: &Checked| later.done.passed && (later.is_whole() || !bad.done.read_data);
    (!checks[at + 1..].iter().any(cleared)).then_some(bad)
}

/// Writes down what came of a check, durably. Returns whether it had to: one that says the same was written a moment ago.
pub fn record(repository: &Repository, done: &CheckDone, now: Timestamp) -> Result<bool> {
    let known = Notes::load(repository)?;
    let since = i64::try_from(SAME_WITHIN.as_secs()).unwrap_or(i64::MAX);
    let same = |checked: &&Checked| {
        let d = &checked.done;
        let alike = (d.passed, d.read_data, d.packs_read, &d.host)
            == (done.passed, done.read_data, done.packs_read, &done.host);
        alike && checked.at().is_some_and(|t| (0..since).contains(&(now.secs - t.secs)))
    };
    if of(&known).last().filter(same).is_some() {
        return Ok(false);
    }
    let sequence = known.of_repository().last().map_or(0, |n| n.note.sequence).saturating_add(1);
    let what = NoteKind::Check(done.clone());
    notes::store(repository, &Note { snapshot: String::new(), sequence, time: now.rfc3339(), what })?;
    Ok(true)
}

/// Removes results that nobody needs any more; returns how many. For collectors.
pub fn sweep(repository: &Repository, notes: &Notes) -> Result<u64> {
    let all = named(notes);
    let old = all.len().saturating_sub(KEPT);
    let checks: Vec<Checked> = all.iter().map(|(_, checked)| checked.clone()).collect();
    let counts = [last(&checks, true), standing_damage(&checks)];
    let mut removed = 0;
    for (name, checked) in &all[..old] {
        if !counts.contains(&Some(checked)) {
            removal::note(repository.backend().as_ref(), *name)?;
            removed += 1;
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(day: u32, passed: bool, read: u64) -> Checked {
        let done =
            CheckDone { passed, read_data: read > 0, packs: 10, packs_read: read, ..CheckDone::default() };
        Checked { time: format!("2026-11-{day:02}T00:00:00Z"), done }
    }

    #[test]
    fn damage_stands_until_a_check_as_deep_finds_none() {
        let bad = check(2, false, 10);
        assert!(standing_damage(&[check(1, true, 10)]).is_none());
        assert_eq!(
            standing_damage(&[bad.clone(), check(3, true, 0)]),
            Some(&bad),
            "the outline alone says nothing"
        );
        assert_eq!(standing_damage(&[bad.clone(), check(3, true, 9)]), Some(&bad), "nor does a part");
        assert!(standing_damage(&[bad, check(3, true, 10)]).is_none());
        assert!(standing_damage(&[check(2, false, 0), check(3, true, 0)]).is_none());
        let both = [check(1, true, 10), check(2, true, 0)];
        assert_eq!((last(&both, true), last(&both, false)), (Some(&both[0]), Some(&both[1])));
    }
}
