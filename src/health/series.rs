//! Snapshots by series: the newest of each, in figures.

use super::Class;
use crate::clock::Timestamp;
use crate::format::snapshot::{RulesTried, Snapshot};
use crate::repository::snapshots::{Listed, Listing, decode_path};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// Snapshots of a series that are looked at, the newest ones.
pub const POINTS_MAX: usize = 30;

/// Snapshots that follow one another: of one host and one set, or the same paths.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    pub host: String,
    /// As records hold them.
    pub paths: Vec<String>,
    /// What the newest snapshot says it is.
    pub profile: Option<String>,
    pub set: Option<String>,
    pub class: Option<Class>,
    pub max_age: Option<Duration>,
    /// All of them, those included that are not among `points`.
    pub snapshots: u64,
    /// Oldest first.
    pub points: Vec<Point>,
}

/// One snapshot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Point {
    /// The short id.
    pub id: String,
    /// When its backup ended, by the clock of the machine that made it.
    pub time: Option<Timestamp>,
    pub files: u64,
    pub bytes: u64,
    /// Bytes that it added to the disk.
    pub added: u64,
    /// Entries that could not be read.
    pub problems: u64,
    /// Databases that SQLite found damaged.
    pub databases_failed: Vec<String>,
    /// Rules that did not hold.
    pub rules_failed: u64,
    /// Rows by `DATABASE:TABLE`, of databases whose counts are all in the record.
    pub rows: BTreeMap<String, u64>,
    /// A repair made it of a damaged one.
    pub repaired: bool,
}

impl Point {
    /// Everything is in it, and what was looked into is sound.
    pub fn is_good(&self) -> bool {
        self.problems == 0 && self.databases_failed.is_empty() && self.rules_failed == 0 && !self.repaired
    }
}

impl Series {
    /// The set's name, or host and paths.
    pub fn name(&self) -> String {
        match &self.set {
            Some(set) => set.clone(),
            None => {
                let shown = |p: &String| String::from_utf8_lossy(&decode_path(p)).into_owned();
                let paths: Vec<String> = self.paths.iter().take(3).map(shown).collect();
                let more = if self.paths.len() > 3 { ", …" } else { "" };
                format!("{}:{}{more}", self.host, paths.join(", "))
            }
        }
    }

    pub fn newest(&self) -> Option<&Point> {
        self.points.last()
    }

    pub fn newest_good(&self) -> Option<&Point> {
        self.points.iter().rfind(|point| point.is_good())
    }
}

/// The series of a listing. Safety snapshots and states after a guarded command that were judged elsewhere are of none.
pub fn of(listing: &Listing) -> Vec<Series> {
    let mut places: HashMap<(&str, String), usize> = HashMap::new();
    let mut all: Vec<Series> = Vec::new();
    // From the newest back: what is older than the last few is only counted.
    for listed in listing.snapshots.iter().rev() {
        let record = &listed.record;
        if record.before_restore.is_some() {
            continue;
        }
        let key = (record.hostname.as_str(), key(record));
        let at = *places.entry(key).or_insert_with(|| {
            all.push(begun(record));
            all.len() - 1
        });
        let series = &mut all[at];
        series.snapshots += 1;
        if series.points.len() < POINTS_MAX {
            series.points.push(point(listed, listing.rules.get(&listed.id).map_or(&[], Vec::as_slice)));
        }
    }
    all.iter_mut().for_each(|series| series.points.reverse());
    all.sort_by(|a, b| (a.name(), &a.host).cmp(&(b.name(), &b.host)));
    all
}

/// A set keeps its history when its sources change; what is of no set is known by its paths.
fn key(record: &Snapshot) -> String {
    match &record.expected {
        Some(expected) => format!("{}\n{}\n", expected.profile, expected.set),
        None => record.paths.join("\n"),
    }
}

fn begun(record: &Snapshot) -> Series {
    let expected = record.expected.as_ref();
    Series {
        host: record.hostname.clone(),
        paths: record.paths.clone(),
        profile: expected.map(|e| e.profile.clone()),
        set: expected.map(|e| e.set.clone()),
        class: expected.map(|e| Class::named(&e.class)),
        max_age: expected.and_then(|e| e.max_age_seconds).map(Duration::from_secs),
        ..Series::default()
    }
}

fn point(listed: &Listed, rules: &[RulesTried]) -> Point {
    let record = &listed.record;
    let databases = record.sqlite.iter().flat_map(|all| &all.databases);
    let mut rows = BTreeMap::new();
    let mut failed = Vec::new();
    for database in databases {
        if database.check.result == "failed" {
            failed.push(database.path.clone());
        }
        if database.tables_not_listed == 0 {
            let name = |table: &String| format!("{}:{table}", database.path);
            rows.extend(database.tables.iter().map(|(table, count)| (name(table), *count)));
        }
    }
    // Rules may have been tried more than once; of each directory the last result counts.
    let last: BTreeMap<&str, u64> = rules.iter().map(|r| (r.directory.as_str(), r.failed)).collect();
    Point {
        id: listed.id.short(),
        time: made(record),
        files: record.summary.total_files_processed,
        bytes: record.summary.total_bytes_processed,
        added: record.summary.data_added_packed,
        problems: record.summary.problems,
        databases_failed: failed,
        rules_failed: last.values().sum(),
        rows,
        repaired: record.repaired.is_some(),
    }
}

/// When it was made, by the clock, whatever time it was given.
pub fn made(record: &Snapshot) -> Option<Timestamp> {
    let time = |text: &str| Timestamp::parse_rfc3339(text);
    time(&record.backup_end).or_else(|| time(&record.backup_start)).or_else(|| time(&record.time))
}
