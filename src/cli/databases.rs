//! Databases at the door: options for capturing them, words and JSON about what was captured.

use super::context::Context;
use super::names::{escape, shown};
use super::options::{Target, duration};
use crate::backup::{Outcome, SqliteOptions};
use crate::error::Result;
use crate::format::snapshot::{DatabaseFacts, Databases, Snapshot};
use crate::manifest::walk::is_below;
use crate::repository::snapshots::{Listed, Listing, decode_path, encode_path};
use crate::source::filter::Patterns;
use crate::sqlite::check::Depth;
use crate::units;
use clap::Args;
use serde_json::{Value, json};
use std::time::Duration;

/// How databases are backed up.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Databases")]
pub struct SqliteArgs {
    /// Capture one exact state of each SQLite database (auto), or treat them as files like any other (off)
    #[arg(long, value_name = "auto|off", default_value = "auto", value_parser = ["auto", "off"])]
    sqlite: String,
    /// Check captured databases: every index against its table (full), tables only (quick), not at all (off)
    /// [default: full up to 256 MiB, quick above]
    #[arg(long, value_name = "full|quick|off", value_parser = ["full", "quick", "off"])]
    sqlite_check: Option<String>,
    /// Treat databases that match this gitignore pattern as files like any other
    #[arg(long, value_name = "PATTERN")]
    sqlite_plain: Vec<String>,
    /// Wait this long for a database that another program keeps locked
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    sqlite_wait: Duration,
    /// Find and hold all databases before reading anything, so that they and the files are of one moment
    #[arg(long)]
    pin_first: bool,
}

impl SqliteArgs {
    pub fn options(&self, context: &Context) -> Result<SqliteOptions> {
        let plain = match self.sqlite_plain.is_empty() {
            true => None,
            false => Some(Patterns::new("sqlite-plain", &self.sqlite_plain, &[])?),
        };
        let usual = SqliteOptions::default();
        Ok(SqliteOptions {
            capture: self.sqlite == "auto",
            check: self.sqlite_check.as_deref().map(|word| match word {
                "full" => Depth::Full,
                "quick" => Depth::Quick,
                _ => Depth::Off,
            }),
            pin_first: self.pin_first,
            wait: self.sqlite_wait,
            plain,
            scratch: context.cache().unwrap_or(usual.scratch),
            can_pin: usual.can_pin,
        })
    }
}

fn count(all: &Databases, result: &str) -> u64 {
    all.databases.iter().filter(|d| d.check.result == result).count() as u64
}

/// The `sqlite` part of a backup's summary.
pub fn summary(done: &Outcome) -> Value {
    let unverified: Vec<_> =
        done.unverified.iter().map(|p| format!("/{}", String::from_utf8_lossy(p))).collect();
    let none = Databases::default();
    let all = done.databases.as_ref().unwrap_or(&none);
    json!({
        "databases": all.databases.len() as u64 + all.not_listed,
        "ok": count(all, "ok"),
        "failed": count(all, "failed"),
        "unknown": count(all, "unknown"),
        "not_listed": all.not_listed,
        "new_orphans": done.orphans.iter().map(|new| new.now - new.before).sum::<u64>(),
        "skew_ms": all.skew_ms,
        "unverified": unverified.len(),
        "unverified_files": unverified,
        "files": all.databases,
    })
}

/// What to say of rows whose foreign key leads nowhere since the snapshot before.
pub fn orphans_line(done: &Outcome) -> Option<String> {
    let new: u64 = done.orphans.iter().map(|new| new.now - new.before).sum();
    (new > 0).then(|| {
        format!("  orphans: {} since the snapshot before", units::counted(new, "new row", "new rows"))
    })
}

/// What to say of all databases of a snapshot: `3 databases, all checked`.
pub fn words(all: &Databases) -> String {
    let total = all.databases.len() as u64 + all.not_listed;
    let (failed, unknown) = (count(all, "failed"), count(all, "unknown"));
    let mut text = units::counted(total, "database", "databases");
    if failed > 0 {
        text.push_str(&format!(", {} DAMAGED", units::count(failed)));
    }
    match unknown {
        0 if failed == 0 => text.push_str(" checked"),
        0 => {}
        n => text.push_str(&format!(", {} not checked", units::count(n))),
    }
    text
}

/// What to say of one database: `sqlite ok (full), 12 tables, 34,000 rows`.
pub fn about(facts: &DatabaseFacts) -> String {
    let check = &facts.check;
    let mut text = match check.depth.as_str() {
        "off" => "sqlite not checked".to_owned(),
        depth => format!("sqlite {} ({depth})", check.result),
    };
    if !facts.tables.is_empty() {
        let tables = facts.tables.len() as u64 + facts.tables_not_listed;
        text.push_str(&format!(", {}", units::counted(tables, "table", "tables")));
        if facts.tables_not_listed == 0 {
            let rows = facts.tables.values().sum();
            text.push_str(&format!(", {}", units::counted(rows, "row", "rows")));
        }
    }
    if facts.user_version != 0 {
        text.push_str(&format!(", user_version {}", facts.user_version));
    }
    match facts.foreign_key_violations {
        Some(n) if n > 0 => text.push_str(&format!(", {}", units::counted(n, "orphan", "orphans"))),
        _ => {}
    }
    text
}

/// The facts of the database stored as `path`.
pub fn find<'s>(record: &'s Snapshot, path: &[u8]) -> Option<&'s DatabaseFacts> {
    // Records list them in order.
    let all = &record.sqlite.as_ref()?.databases;
    let wanted = format!("/{}", encode_path(path));
    let at = all.binary_search_by(|facts| facts.path.as_str().cmp(&wanted)).ok()?;
    all.get(at)
}

/// One line for each database that a list with details should name.
pub fn lines(record: &Snapshot) -> Vec<String> {
    let all = record.sqlite.iter().flat_map(|all| all.databases.iter());
    all.map(|facts| format!("{}: {}", escape(&decode_path(&facts.path)), about(facts))).collect()
}

/// The newest snapshot of the same series, older than `from`, in which the database at `path` was not found damaged.
fn sound_before<'l>(listing: &'l Listing, from: &Listed, path: &[u8]) -> Option<&'l Listed> {
    let series = |l: &&Listed| {
        l.record.hostname == from.record.hostname
            && l.record.paths == from.record.paths
            && l.record.order_time < from.record.order_time
    };
    let sound = |l: &&Listed| find(&l.record, path).is_some_and(|facts| facts.check.result != "failed");
    listing.snapshots.iter().filter(series).rfind(sound)
}

/// Who asks for the latest version of a database wants one that works: goes back to it where the newest is damaged, and
/// says so. Where more than one database is asked for, it is only said.
pub fn avoid_damaged(listing: &Listing, target: &mut Target, path: &[u8]) -> Vec<String> {
    let damaged = |facts: &&DatabaseFacts| facts.check.result == "failed";
    let from = target.snapshot.clone();
    if let Some(facts) = find(&from.record, path).filter(damaged) {
        let what = format!("{} is damaged in itself in snapshot {}", shown(path), from.id.short());
        return match sound_before(listing, &from, path) {
            Some(sound) if target.by_latest => {
                target.snapshot = sound.clone();
                vec![format!(
                    "{what}; taking the newest sound one, from snapshot {} of {} (name a snapshot by its id to get exactly \
                     that one)",
                    sound.id.short(),
                    sound.record.time
                )]
            }
            Some(sound) => vec![format!("{what}; the newest sound one before it is in {}", sound.id.short())],
            None => vec![format!(
                "{what}, and no earlier snapshot has a sound one: {}",
                facts.check.messages.join("; ")
            )],
        };
    }
    let all = from.record.sqlite.iter().flat_map(|all| all.databases.iter()).filter(damaged);
    let below =
        all.map(|facts| decode_path(facts.path.trim_start_matches('/'))).filter(|p| is_below(p, path));
    below
        .map(|path| {
            let what = format!("{} is damaged in itself in snapshot {}", shown(&path), from.id.short());
            match sound_before(listing, &from, &path) {
                Some(sound) => format!("{what}; the newest sound one before it is in {}", sound.id.short()),
                None => what,
            }
        })
        .collect()
}
