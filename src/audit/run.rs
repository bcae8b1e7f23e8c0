//! The audit itself: both sides once, and once more when there is something to tell.

use super::export::{self, Export};
use super::map::Map;
use super::passes::{Fetch, Gather};
use super::plan::Plan;
use super::reduced::KeyHash;
use super::report::Report;
use super::sorter::Sorter;
use super::{database, matching};
use crate::error::{Error, ErrorKind, Result};
use crate::progress::Progress;
use crate::sqlite::query::Reading;
use std::path::Path;

/// How to go about it.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// So many records of each table, chosen by this seed; otherwise all.
    pub sample: Option<(u64, u64)>,
    /// Mismatches of each table that are told one by one.
    pub limit: usize,
    /// Memory for sorting; what does not fit goes to files in `scratch`.
    pub memory: u64,
    pub scratch: &'a Path,
}

/// Compares; the inner error is an export that is not sound.
pub fn run(
    reading: &Reading,
    export: &mut dyn Export,
    map: &Map,
    plan: &Plan<'_>,
    options: &Options<'_>,
    progress: &Progress,
) -> Result<std::result::Result<Report, String>> {
    if plan.sections.len() > usize::from(u16::MAX) {
        return Err(Error::invalid("the map has more than 65,535 tables and arrays"));
    }
    let room = usize::try_from(options.memory / 2).unwrap_or(usize::MAX).max(1 << 20);
    let (count, seed) = (options.sample.map(|(n, _)| n), options.sample.map(|(_, seed)| seed));
    let gather = || Gather::new(plan, Sorter::new(options.scratch, room), count);
    let (mut a, mut b) = (gather(), gather());
    database::read(reading, plan, seed, progress, &mut a)?;
    let left = match export::read(export, plan, map, seed, progress, &mut b)? {
        Ok(left) => left,
        Err(fault) => return still(export).map(|()| Err(fault)),
    };
    let bounds = bounds(&a.bounds(), &b.bounds());
    let (counts_a, counts_b) = (a.counts, b.counts);
    let spilled = a.sorter.spilled + b.sorter.spilled;
    let sorted = (a.sorter.finish()?, b.sorter.finish()?);
    let mut matched = matching::compare(plan, sorted.0, sorted.1, &bounds, options.limit, progress)?;
    for ((tally, a), b) in matched.tallies.iter_mut().zip(counts_a).zip(counts_b) {
        (tally.database, tally.export) = (a.records, b.records);
        (tally.keyless, tally.keyless_at) = (b.keyless, b.keyless_at);
    }
    if !matched.mismatches.is_empty() {
        let mut fetch = Fetch::new(plan, &mut matched.mismatches);
        database::read(reading, plan, seed, progress, &mut fetch)?;
        if let Err(fault) = export::read(export, plan, map, seed, progress, &mut fetch)? {
            return still(export).map(|()| Err(fault));
        }
    }
    still(export)?;
    let mut mismatches = matched.mismatches;
    mismatches.sort_by(|x, y| (x.section, &x.order, x.position).cmp(&(y.section, &y.order, y.position)));
    let (tallies, untold) = (matched.tallies, matched.untold);
    let left_tables = plan.left.clone();
    Ok(Ok(Report {
        tallies,
        mismatches,
        untold,
        left_tables,
        left_places: left,
        sample: options.sample,
        spilled,
    }))
}

/// What was found counts only if the export is what it was; a text that was read half written is not to blame either.
fn still(export: &mut dyn Export) -> Result<()> {
    if export.holds()? {
        return Ok(());
    }
    let what = format!("{} was written to while it was compared; ask again", export.name());
    Err(Error::new(ErrorKind::Locked, what))
}

/// Within which both sides are known.
fn bounds(a: &[Option<KeyHash>], b: &[Option<KeyHash>]) -> Vec<Option<KeyHash>> {
    let least = |(x, y): (&Option<KeyHash>, &Option<KeyHash>)| x.iter().chain(y).min().copied();
    a.iter().zip(b).map(least).collect()
}
