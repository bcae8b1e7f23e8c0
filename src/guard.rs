//! What a command did to the databases of a tree, judged by what is recorded of the state before it and of the state after.

use crate::backup::Outcome;
use crate::format::snapshot::{DatabaseFacts, Databases};
use crate::repository::snapshots::decode_path;
use crate::units;
use std::collections::BTreeMap;

/// The tag of snapshots made before a command, and of those made after it.
pub const BEFORE: &str = "before-run";
pub const AFTER: &str = "after-run";

/// What a command may do, and what it must.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Share of its rows that a table may lose, in per cent.
    pub max_row_loss: f64,
    /// Tables and databases that may lose all, and go.
    pub may_lose: Vec<String>,
    /// More rows than before may refer to rows that are not there.
    pub orphans: bool,
    pub versions: Vec<Wanted>,
}

/// What `user_version` must come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The database's stored path; without one it is the only one there is.
    pub path: Option<Vec<u8>>,
    pub step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// This number.
    Is(i32),
    /// So much more than before.
    By(i32),
}

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The stored path of what it is about; empty for everything.
    pub path: Vec<u8>,
    pub message: String,
}

/// What came of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub faults: Vec<Fault>,
    /// Tables of which the record had no room for the number of rows, and databases of which it had none at all.
    pub not_compared: u64,
}

/// Compares what was found before a command with what was found after it. `tolerated` things could not be read before.
pub fn judge(before: Option<&Databases>, after: &Outcome, tolerated: u64, limits: &Limits) -> Verdict {
    let mut verdict = Verdict::default();
    let by_path = |all: Option<&Databases>| -> BTreeMap<String, DatabaseFacts> {
        all.iter().flat_map(|all| all.databases.iter()).map(|f| (f.path.clone(), f.clone())).collect()
    };
    let now = after.databases.as_ref();
    let (old, new) = (by_path(before), by_path(now));
    verdict.not_compared += before.map_or(0, |all| all.not_listed).max(now.map_or(0, |all| all.not_listed));
    let damaged = new.values().filter(|facts| facts.check.result == "failed").count() as u64;
    let unread = after.summary.problems.saturating_sub(damaged);
    if unread > tolerated {
        let what = units::counted(unread, "thing", "things");
        verdict.fault("", format!("{what} could not be read after the command, and each was named"));
    }
    for (path, facts) in &new {
        sound(path, old.get(path), facts, &mut verdict);
    }
    for (path, then) in &old {
        match new.get(path) {
            Some(now) => tables(then, now, limits, &mut verdict),
            None if now.is_some_and(|all| all.not_listed > 0) => {}
            None if limits.lets_go(path.rsplit('/').next().unwrap_or(path)) => {}
            None => {
                let what =
                    "the database is gone, or SQLite can read it no more (--may-lose NAME allows that)";
                verdict.fault(path, what.to_owned());
            }
        }
    }
    if !limits.orphans {
        for new in &after.orphans {
            let more = units::counted(new.now - new.before, "row", "rows");
            let message = format!(
                "{more} more than before refer to rows that are not there (--allow-orphans allows that)"
            );
            verdict.faults.push(Fault { path: new.path.clone(), message });
        }
    }
    for wanted in &limits.versions {
        version(wanted, &old, &new, &mut verdict);
    }
    verdict
}

impl Limits {
    fn lets_go(&self, name: &str) -> bool {
        self.may_lose.iter().any(|other| other.eq_ignore_ascii_case(name))
    }
}

impl Verdict {
    fn fault(&mut self, path: &str, message: String) {
        self.faults.push(Fault { path: decode_path(path.trim_start_matches('/')), message });
    }
}

/// What was sound must have stayed so.
fn sound(path: &str, then: Option<&DatabaseFacts>, now: &DatabaseFacts, verdict: &mut Verdict) {
    let before = then.map_or("ok", |facts| facts.check.result.as_str());
    let result = now.check.result.as_str();
    if result == "ok" || result == before {
        return;
    }
    let said = now.check.messages.join("; ");
    verdict.fault(
        path,
        match result {
            "failed" => format!("the database is damaged: {said}"),
            _ => format!("the database could not be checked: {said}"),
        },
    );
}

fn tables(then: &DatabaseFacts, now: &DatabaseFacts, limits: &Limits, verdict: &mut Verdict) {
    verdict.not_compared += then.tables_not_listed.max(now.tables_not_listed);
    if now.check.result == "failed" {
        // Nothing that was counted in it can be relied on, and it is a fault already.
        return;
    }
    for (table, &before) in &then.tables {
        if before == 0 || limits.lets_go(table) || is_bookkeeping(table, then) {
            continue;
        }
        let rows = units::counted(before, "row", "rows");
        match now.tables.get(table) {
            None if now.tables_not_listed > 0 => {}
            None => {
                let what = format!("the table {table} with {rows} is gone (--may-lose {table} allows that)");
                verdict.fault(&then.path, what);
            }
            Some(&left) => {
                let lost = before.saturating_sub(left) as f64 * 100.0 / before as f64;
                if lost > limits.max_row_loss {
                    let what = format!(
                        "the table {table} has {} of {rows} left, a loss of {lost:.0} % (--max-row-loss {} is the most; \
                         --may-lose {table} allows it)",
                        units::count(left),
                        limits.max_row_loss
                    );
                    verdict.fault(&then.path, what);
                }
            }
        }
    }
}

/// Tables in which full-text and spatial indexes keep pages of their own: how many says nothing about what is indexed.
fn is_bookkeeping(table: &str, facts: &DatabaseFacts) -> bool {
    const SETS: [(&[&str], &[&str]); 3] = [
        (&["_data", "_idx"], &["_data", "_idx", "_config"]),
        (&["_segments", "_segdir"], &["_segments", "_segdir"]),
        (&["_node", "_parent"], &["_node", "_parent", "_rowid"]),
    ];
    SETS.iter().any(|(pages, all)| {
        let owner = pages.iter().find_map(|suffix| table.strip_suffix(suffix));
        owner.is_some_and(|owner| {
            all.iter().all(|suffix| facts.tables.contains_key(&format!("{owner}{suffix}")))
        })
    })
}

fn version(
    wanted: &Wanted,
    old: &BTreeMap<String, DatabaseFacts>,
    new: &BTreeMap<String, DatabaseFacts>,
    verdict: &mut Verdict,
) {
    let is_it = |path: &&String| match &wanted.path {
        Some(wanted) => decode_path(path.trim_start_matches('/')) == *wanted,
        None => true,
    };
    let mut found = new.keys().filter(is_it);
    let Some(path) = found.next() else {
        let path = wanted.path.clone().unwrap_or_default();
        let message = "no such database is there whose user_version could be what it must be".to_owned();
        verdict.faults.push(Fault { path, message });
        return;
    };
    if found.next().is_some() {
        let what = "there is more than one database now; say which one must have that user_version: DB=N";
        return verdict.fault("", what.to_owned());
    }
    let (then, now) = (old.get(path).map_or(0, |facts| facts.user_version), new[path].user_version);
    let must = match wanted.step {
        Step::Is(must) => must,
        Step::By(step) => then.saturating_add(step),
    };
    if now != must {
        verdict.fault(path, format!("user_version is {now} and must be {must}; it was {then} before"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::snapshot::DatabaseCheck;

    fn facts(version: i32, result: &str, tables: &[(&str, u64)]) -> DatabaseFacts {
        DatabaseFacts {
            path: "/srv/app.db".to_owned(),
            user_version: version,
            check: DatabaseCheck { result: result.to_owned(), ..DatabaseCheck::default() },
            tables: tables.iter().map(|(name, rows)| ((*name).to_owned(), *rows)).collect(),
            ..DatabaseFacts::default()
        }
    }

    fn limits() -> Limits {
        Limits { max_row_loss: 50.0, may_lose: Vec::new(), orphans: false, versions: Vec::new() }
    }

    fn told(then: &DatabaseFacts, now: &DatabaseFacts, limits: &Limits) -> Vec<String> {
        let mut verdict = Verdict::default();
        sound(&now.path, Some(then), now, &mut verdict);
        tables(then, now, limits, &mut verdict);
        let map = |facts: &DatabaseFacts| BTreeMap::from([(facts.path.clone(), facts.clone())]);
        for wanted in &limits.versions {
            version(wanted, &map(then), &map(now), &mut verdict);
        }
        verdict.faults.into_iter().map(|fault| fault.message).collect()
    }

    #[test]
    fn losses_are_told_and_what_is_allowed_is_not() {
        let then = facts(
            3,
            "ok",
            &[("a", 100), ("b", 10), ("empty", 0), ("x_data", 9), ("x_idx", 9), ("x_config", 1)],
        );
        let same = facts(3, "ok", &[("a", 50), ("b", 10), ("x_data", 1), ("x_idx", 1), ("x_config", 1)]);
        assert_eq!(told(&then, &same, &limits()), Vec::<String>::new());
        let less = facts(3, "ok", &[("a", 49), ("x_config", 1), ("x_data", 9), ("x_idx", 9)]);
        let all = told(&then, &less, &limits());
        assert!(
            all.len() == 2
                && all[0].contains("a has 49 of 100 rows left")
                && all[1].contains("b with 10 rows is gone")
        );
        let lax = Limits { max_row_loss: 100.0, may_lose: vec!["B".to_owned()], ..limits() };
        assert_eq!(told(&then, &less, &lax), Vec::<String>::new());
        let bad = facts(3, "failed", &[]);
        assert_eq!(told(&then, &bad, &limits()).len(), 1);
        assert_eq!(told(&bad, &bad, &limits()).len(), 0, "it was damaged before");
    }

    #[test]
    fn versions_must_be_what_was_declared() {
        let (then, now) = (facts(3, "ok", &[]), facts(4, "ok", &[]));
        let with = |path: Option<&str>, step| Limits {
            versions: vec![Wanted { path: path.map(|p| p.as_bytes().to_vec()), step }],
            ..limits()
        };
        for (path, step, good) in [
            (None, Step::Is(4), true),
            (None, Step::Is(3), false),
            (Some("srv/app.db"), Step::By(1), true),
            (Some("srv/app.db"), Step::By(0), false),
            (Some("srv/other.db"), Step::By(1), false),
        ] {
            assert_eq!(told(&then, &now, &with(path, step)).is_empty(), good, "{path:?} {step:?}");
        }
    }
}
