//! Snapshots by the schema version (`user_version`) of a database in them: which have it, and the last before it.

use super::snapshots::{Listed, Listing, SnapshotFilter};
use crate::error::{Error, ErrorKind, Result};
use crate::format::snapshot::{DatabaseFacts, Snapshot};
use std::collections::BTreeSet;

/// How a snapshot's name begins that means the last one before a version.
pub const BEFORE: &str = "before-schema:";
/// Databases named where one must be chosen.
const NAMED_MAX: usize = 5;

/// The version in `before-schema:42`; `None` when the text is no such name.
pub fn parse_before(text: &str) -> Option<Result<i32>> {
    let number = text.strip_prefix(BEFORE)?;
    let wrong = || Error::invalid(format!("`{text}` names no version; write for example {BEFORE}42"));
    Some(number.parse().map_err(|_| wrong()))
}

fn facts(record: &Snapshot) -> impl Iterator<Item = &DatabaseFacts> {
    record.sqlite.iter().flat_map(|all| all.databases.iter())
}

/// Whether a snapshot records a database at this path.
pub fn is_database(listing: &Listing, path: &str) -> bool {
    listing.snapshots.iter().flat_map(|l| facts(&l.record)).any(|f| f.path == path)
}

/// Of the paths of a filter, those of databases, which choose among the databases of a snapshot and not among its sources.
pub fn databases_of(listing: &Listing, filter: &mut SnapshotFilter) -> Vec<String> {
    let known: BTreeSet<&str> =
        listing.snapshots.iter().flat_map(|l| facts(&l.record)).map(|f| f.path.as_str()).collect();
    let (databases, sources) =
        std::mem::take(&mut filter.paths).into_iter().partition(|path| known.contains(path.as_str()));
    filter.paths = sources;
    databases
}

/// Whether the snapshot holds one of these databases (any, if none is named) at this version.
pub fn has_version(record: &Snapshot, databases: &[String], version: i32) -> bool {
    facts(record).any(|f| f.user_version == version && (databases.is_empty() || databases.contains(&f.path)))
}

/// The newest snapshot in which a database has a version below `version`. Which database: the one named, or the only one that
/// counts its versions.
pub fn before(
    listing: &Listing,
    version: i32,
    database: Option<&str>,
    filter: &SnapshotFilter,
) -> Result<Listed> {
    let mut filter = filter.clone();
    let mut named = databases_of(listing, &mut filter);
    named.extend(database.map(str::to_owned));
    let usual = |l: &&Listed| l.record.before_restore.is_none() && filter.matches(&l.record);
    let snapshots = || listing.snapshots.iter().filter(usual);
    let counting: BTreeSet<&str> = snapshots()
        .flat_map(|l| facts(&l.record))
        .filter(|f| if named.is_empty() { f.user_version != 0 } else { named.contains(&f.path) })
        .map(|f| f.path.as_str())
        .collect();
    let nothing = |what: String| Error::new(ErrorKind::NotFound, what);
    let path = match counting.iter().copied().collect::<Vec<_>>().as_slice() {
        [one] => *one,
        [] if named.is_empty() => {
            return Err(nothing("no snapshot holds a database that counts its schema versions".to_owned()));
        }
        [] => return Err(nothing(format!("no snapshot knows {} as a database", named.join(" or ")))),
        many => {
            let listed = many.iter().take(NAMED_MAX).copied().collect::<Vec<_>>().join(", ");
            let more = if many.len() > NAMED_MAX { ", …" } else { "" };
            return Err(Error::invalid(format!(
                "several databases count their schema versions ({listed}{more}); name one: --path DATABASE, or \
                 {BEFORE}{version}:DATABASE"
            )));
        }
    };
    let at = |l: &&Listed| facts(&l.record).any(|f| f.path == path && f.user_version < version);
    let found = snapshots().rfind(at).cloned();
    found.ok_or_else(|| nothing(format!("no snapshot holds {path} at a schema version below {version}")))
}
