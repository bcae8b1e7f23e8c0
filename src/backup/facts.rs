//! What a record says of databases: from captures to facts, and from the last facts to "nothing has changed".

use crate::clock::Timestamp;
use crate::format::snapshot::{DatabaseCheck, DatabaseFacts, DatabaseLog, DatabaseSource, Databases};
use crate::id::hex;
use crate::progress::Problem;
use crate::repository::snapshots::{decode_path, encode_path};
use crate::sqlite::check::{Depth, Findings, Verdict};
use crate::sqlite::pin::Pin;

/// Bytes of all facts in a record; a record has room for half a mebibyte.
const FACTS_BYTES: usize = 256 << 10;
/// Tables listed for one database.
const TABLES_MAX: usize = 200;

pub fn depth_word(depth: Depth) -> &'static str {
    match depth {
        Depth::Full => "full",
        Depth::Quick => "quick",
        Depth::Off => "off",
    }
}

fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Good => "ok",
        Verdict::Bad => "failed",
        Verdict::Unknown => "unknown",
    }
}

/// Where the state came from, to know it again.
pub fn source(pin: &Pin) -> DatabaseSource {
    DatabaseSource {
        inode: pin.main.inode,
        size: pin.main.size,
        mtime: pin.main.mtime.nanoseconds(),
        ctime: pin.main.ctime.nanoseconds(),
        settled: pin.settled,
        log: pin.mark.map(|mark| DatabaseLog {
            salts: hex(&mark.salts),
            frames: mark.frames,
            checksum: mark.checksum,
        }),
    }
}

/// Whether the state pinned now is the one that `before` describes, without reading it.
///
/// Two states that end with the same frame of the same log are the same, whatever has been copied back into the main
/// file since. Without a log the file's times decide, if they were old enough then to show every write since.
pub fn is_same(before: &DatabaseFacts, pin: &Pin) -> bool {
    let (then, now) = (&before.source, source(pin));
    let extent = (before.page_size, before.pages) == (pin.image.page_size, pin.image.pages);
    let file = then.inode == now.inode;
    match (&then.log, &now.log) {
        (Some(a), Some(b)) => extent && file && a == b,
        (None, None) => {
            let times = (then.size, then.mtime, then.ctime) == (now.size, now.mtime, now.ctime);
            extent && file && times && then.settled
        }
        _ => false,
    }
}

/// Whether a database found good before need not be checked again when its content is the same.
pub fn is_checked(before: &DatabaseFacts, depth: Depth) -> bool {
    match depth {
        Depth::Off => true,
        Depth::Quick => before.check.result == "ok" && before.check.depth != "off",
        Depth::Full => before.check.result == "ok" && before.check.depth == "full",
    }
}

/// The facts of a database whose content is as it was.
pub fn unchanged(before: &DatabaseFacts, path: &[u8], pin: &Pin) -> DatabaseFacts {
    DatabaseFacts {
        path: format!("/{}", encode_path(path)),
        journal: journal(pin),
        capture: pin.how.word().to_owned(),
        pinned: pin.at.rfc3339(),
        source: source(pin),
        ..before.clone()
    }
}

fn journal(pin: &Pin) -> String {
    if pin.log_mode { "wal" } else { "rollback" }.to_owned()
}

/// The facts of a database that was read and checked.
pub fn captured(path: &[u8], pin: &Pin, findings: Findings, now: Timestamp) -> DatabaseFacts {
    let mut tables = findings.tables;
    let all = tables.len();
    while tables.len() > TABLES_MAX {
        tables.pop_last();
    }
    DatabaseFacts {
        path: format!("/{}", encode_path(path)),
        journal: journal(pin),
        capture: pin.how.word().to_owned(),
        pinned: pin.at.rfc3339(),
        page_size: pin.image.page_size,
        pages: pin.image.pages,
        check: DatabaseCheck {
            depth: depth_word(findings.depth).to_owned(),
            result: verdict_word(findings.verdict).to_owned(),
            messages: findings.messages,
            time: now.rfc3339(),
        },
        foreign_key_violations: findings.foreign_key_violations,
        schema: findings.schema,
        user_version: findings.user_version,
        application_id: findings.application_id,
        tables_not_listed: (all - tables.len()) as u64,
        tables,
        source: source(pin),
    }
}

/// A database that lost its ends: rows whose foreign key leads nowhere, and how many there were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewOrphans {
    /// The stored path.
    pub path: Vec<u8>,
    pub before: u64,
    pub now: u64,
}

impl NewOrphans {
    pub fn problem(&self) -> Problem {
        let new = crate::units::counted(self.now - self.before, "row", "rows");
        let message = format!(
            "{new} more than in the snapshot before have a foreign key that leads nowhere ({} now); \
             `snapkeep diff latest~1 latest --orphans` names them",
            crate::units::count(self.now)
        );
        Problem { item: self.path.clone(), during: "read", message }
    }
}

/// Databases that have more orphans than they had, by the counts of both records.
pub fn new_orphans(before: Option<&Databases>, now: Option<&Databases>) -> Vec<NewOrphans> {
    let known = before.map(|all| all.databases.as_slice()).unwrap_or_default();
    let mut new = Vec::new();
    for facts in now.iter().flat_map(|all| all.databases.iter()) {
        let before = known.iter().find(|known| known.path == facts.path);
        if let (Some(before), Some(now)) =
            (before.and_then(|before| before.foreign_key_violations), facts.foreign_key_violations)
            && now > before
        {
            let path = decode_path(facts.path.trim_start_matches('/'));
            new.push(NewOrphans { path, before, now });
        }
    }
    new
}

/// All facts of a snapshot, as many as its record has room for; those that are not well come first then.
pub fn fit(mut all: Vec<DatabaseFacts>, skew_ms: u64) -> Option<Databases> {
    if all.is_empty() {
        return None;
    }
    all.sort_by(|a, b| a.path.cmp(&b.path));
    let len = |facts: &DatabaseFacts| serde_json::to_vec(facts).map_or(0, |bytes| bytes.len());
    let mut lens: Vec<usize> = all.iter().map(len).collect();
    if lens.iter().sum::<usize>() > FACTS_BYTES {
        for (facts, len_now) in all.iter_mut().zip(&mut lens) {
            facts.tables_not_listed += facts.tables.len() as u64;
            facts.tables.clear();
            *len_now = len(facts);
        }
    }
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.sort_by_key(|&i| all[i].check.result == "ok");
    let (mut room, mut keep) = (FACTS_BYTES, vec![false; all.len()]);
    for i in order {
        if lens[i] <= room {
            room -= lens[i];
            keep[i] = true;
        }
    }
    let count = all.len();
    let mut kept = keep.into_iter();
    all.retain(|_| kept.next().unwrap_or(false));
    Some(Databases { not_listed: (count - all.len()) as u64, databases: all, skew_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_never_overflows_and_keeps_what_is_not_well() {
        let one = |n: usize| DatabaseFacts {
            path: format!("/srv/{n:06}/{}", "long-name/".repeat(20)),
            check: DatabaseCheck {
                result: if n == 4_321 { "failed" } else { "ok" }.into(),
                ..DatabaseCheck::default()
            },
            tables: (0..30).map(|t| (format!("table number {t}"), t)).collect(),
            ..DatabaseFacts::default()
        };
        let fitted = fit((0..5_000).map(one).collect(), 7).expect("some");
        assert!(serde_json::to_vec(&fitted).expect("json").len() < FACTS_BYTES + 1000);
        assert_eq!(fitted.databases.len() as u64 + fitted.not_listed, 5_000);
        assert!(fitted.databases.iter().any(|d| d.check.result == "failed"));
        assert!(fitted.databases.is_sorted_by(|a, b| a.path < b.path));
        let few = fit(vec![one(2), one(1)], 0).expect("some");
        assert_eq!((few.databases[0].tables.len(), few.not_listed), (30, 0));
    }
}
