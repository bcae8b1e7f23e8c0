//! How the newest snapshot of a series compares with those before it, and when a disk is going to be full.

use super::series::{Point, Series};
use super::{Finding, Limits, Space, Verdict};
use crate::clock::Timestamp;
use crate::codes::Code;
use crate::units;
use std::collections::BTreeSet;

/// Snapshots before the newest whose median counts, and how few are too few to tell.
const BEFORE_MAX: usize = 10;
const BEFORE_MIN: usize = 3;
/// Differences that are too small to speak of, whatever share of the whole they are.
const FILES_MIN: u64 = 5;
const BYTES_MIN: u64 = 64 << 10;
const ROWS_MIN: u64 = 10;
/// Growth is measured over this many days, and not at all over less than one.
const WINDOW_DAYS: i64 = 30;
const DAY: i64 = 86_400;

/// What shrank or grew beyond the limits.
pub fn changes(series: &Series, limits: &Limits, out: &mut Vec<Finding>) {
    let Some((newest, before)) = series.points.split_last() else { return };
    let before: Vec<&Point> = before.iter().rev().filter(|p| p.is_good()).take(BEFORE_MAX).collect();
    if before.len() < BEFORE_MIN {
        return;
    }
    let name = series.name();
    let mut tell = |what: &str, new: u64, usual: u64, least: u64, shown: &dyn Fn(u64) -> String| {
        let words = || format!("{what}: {} now, usually {}", shown(new), shown(usual));
        if new.abs_diff(usual) < least {
            return;
        }
        if (new as f64) < usual as f64 * (1.0 - limits.shrink) {
            out.push(Finding::new(Code::SourceShrunk, Verdict::Warning, &name, words()));
        } else if (new as f64) > usual as f64 * (1.0 + limits.grow) {
            out.push(Finding::new(Code::SourceGrown, Verdict::Warning, &name, words()));
        }
    };
    let usual = |of: &dyn Fn(&Point) -> u64| median(before.iter().map(|p| of(p)).collect());
    tell("files", newest.files, usual(&|p| p.files), FILES_MIN, &units::count);
    tell("bytes", newest.bytes, usual(&|p| p.bytes), BYTES_MIN, &units::bytes);
    let tables: BTreeSet<&String> = before.iter().flat_map(|p| p.rows.keys()).collect();
    for table in tables {
        let counts: Vec<u64> = before.iter().filter_map(|p| p.rows.get(table).copied()).collect();
        // A database that is missing altogether is no shrunken table.
        let there = newest.rows.keys().any(|t| database(t) == database(table));
        if counts.len() >= BEFORE_MIN && there {
            let now = newest.rows.get(table).copied().unwrap_or(0);
            tell(&format!("rows of {table}"), now, median(counts), ROWS_MIN, &units::count);
        }
    }
}

fn database(table: &str) -> &str {
    table.rsplit_once(':').map_or(table, |(database, _)| database)
}

/// The middle one; of two the smaller.
fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(0)
}

/// Days until `space` is used up at the pace of the last weeks, without what prunes give back; `None` where it does not grow, or
/// nobody can say yet.
pub fn days_left(now: Timestamp, space: Space, added: &[(Timestamp, u64)]) -> Option<f64> {
    let from = now.secs - WINDOW_DAYS * DAY;
    let mut recent: Vec<_> = added.iter().filter(|(t, _)| t.secs >= from && *t <= now).collect();
    recent.sort();
    let first = recent.first()?.0.secs;
    let span = now.secs - first;
    if recent.len() < BEFORE_MIN || span < DAY {
        return None;
    }
    // What the first one added came before the span that is measured.
    let bytes: u64 = recent[1..].iter().map(|(_, bytes)| *bytes).sum();
    let rate = bytes as f64 / (span as f64 / DAY as f64);
    (rate >= 1.0).then(|| space.free as f64 / rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(sizes: &[(u64, u64, u64)]) -> Series {
        let point = |(files, bytes, rows): &(u64, u64, u64)| {
            let rows = [("/a.db:users".to_owned(), *rows), ("/a.db:x".to_owned(), 1)].into();
            Point { files: *files, bytes: *bytes, rows, ..Point::default() }
        };
        Series { points: sizes.iter().map(point).collect(), ..Series::default() }
    }

    fn told(sizes: &[(u64, u64, u64)]) -> Vec<String> {
        let mut out = Vec::new();
        changes(&series(sizes), &Limits::default(), &mut out);
        out.iter().map(|f| format!("{} {}", f.code, f.cause)).collect()
    }

    #[test]
    fn what_shrinks_or_grows_beyond_the_usual_is_told() {
        let usual = (100, 10 << 20, 1000);
        assert!(told(&[usual, usual, (50, 0, 0)]).is_empty(), "two are too few to tell");
        assert!(told(&[usual, usual, usual, (71, 8 << 20, 701)]).is_empty());
        let less = told(&[usual, usual, usual, (69, 6 << 20, 699)]);
        assert_eq!(less[0], "source-shrunk files: 69 now, usually 100");
        assert_eq!(less[2], "source-shrunk rows of /a.db:users: 699 now, usually 1 000");
        assert_eq!(told(&[usual, usual, usual, (100, 31 << 20, 1000)]).len(), 1);
        let small = (3, 100, 3);
        assert!(told(&[small, small, small, (1, 1, 0)]).is_empty(), "too little to speak of");
    }

    #[test]
    fn the_end_of_the_room_is_seen_from_the_pace() {
        let day = |n: i64| Timestamp { secs: n * DAY, nanos: 0 };
        let space = Space { free: 1000, total: 10_000 };
        let each: Vec<_> = (0..=10).map(|n| (day(n), 100)).collect();
        assert_eq!(days_left(day(10), space, &each), Some(10.0));
        assert_eq!(days_left(day(10), space, &each[..2]), None, "too few");
        assert_eq!(days_left(day(100), space, &each), None, "nothing lately");
    }
}
