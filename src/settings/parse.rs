//! From a checked document to a plan: typed values, and everything that names something else looked up.

use super::checked::unknown;
use super::document::{Data, Document, Node, Place, Table};
use super::plan::{
    BackupSet, Battery, Class, Hook, HookCommand, Hooks, IoClass, JobPlan, Minimum, OnFailure, PRIMARY, Plan,
    RunLimits, Target, Watch,
};
use super::plan_health::{HealthLimits, MetricsPlan};
use super::plan_notify::Notify;
use super::sources;
use crate::calendar::{self, Expression};
use crate::clock::{Timestamp, Zone};
use crate::error::{Error, Result};
use crate::job::Job;
use crate::units::{parse_bytes, parse_duration};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

/// How long a hook may take that says nothing about it.
const HOOK_TIMEOUT: Duration = Duration::from_secs(3600);

/// How far past two intervals a snapshot is overdue.
const AGE_MARGIN: Duration = Duration::from_secs(3600);

/// From which the gaps of schedules are counted: 2026-01-01.
const SOME_TIME: Timestamp = Timestamp { secs: 1_767_225_600, nanos: 0 };

/// How long the journal keeps what happened, where nothing is said about it.
const JOURNAL_KEEP: Duration = Duration::from_secs(400 * 86_400);

/// The plan of a document that has been checked.
pub fn plan(document: &Document, file: &Path) -> Result<Plan> {
    let targets = targets(document)?;
    let names: Vec<&str> = targets.iter().map(|t| t.name.as_str()).collect();
    let empty = Table::new();
    let section = |name: &str| document.section(name).unwrap_or(&empty);
    let mut sets = sets(section("backup"), &names)?;
    for name in ["backup", "copy"] {
        // Also where no job has them yet.
        hooks(section(name))?;
        chosen(section(name), &names)?;
    }
    let jobs = jobs(document, &targets, &sets, &names)?;
    let run = limits(section("jobs"))?;
    for (set, job) in sets.iter_mut().zip(&jobs) {
        set.max_age = set.max_age.or(overdue(&job.schedule, &run)?);
    }
    Ok(Plan {
        profile: super::profile::name_of(file),
        files: document.files.clone(),
        jobs,
        general_forget: section("forget").keys().any(|key| key.starts_with("keep-")),
        hooks: hooks(section("global"))?,
        run,
        journal_keep: span(section("journal"), "keep")?.unwrap_or(JOURNAL_KEEP),
        health: told(document, "health", HealthLimits::check)?,
        notify: told(document, "notify", Notify::check)?,
        metrics: told(document, "metrics", MetricsPlan::check)?,
        sets: in_order(sets),
        targets,
    })
}

/// A section that its type reads itself.
fn told<T: Default + DeserializeOwned>(
    document: &Document,
    name: &str,
    check: fn(&T) -> Result<()>,
) -> Result<T> {
    let Some(node) = document.table.get(name) else { return Ok(T::default()) };
    let value: T =
        serde_json::from_value(node.to_json()).map_err(|e| node.place.error(format!("[{name}] {e}")))?;
    check(&value).map_err(|e| node.place.error(e))?;
    Ok(value)
}

/// The age at which the newest snapshot shows that two runs were missed; unknown without a schedule.
fn overdue(schedule: &[Expression], run: &RunLimits) -> Result<Option<Duration>> {
    let zone = run.time_zone.as_deref().map_or_else(|| Ok(Zone::system()), Zone::parse)?;
    // Any moment will do; this one makes the answer the same each time.
    let longest = match calendar::gaps(schedule, SOME_TIME, &zone) {
        Some((longest, _)) => longest,
        None => return Ok(None),
    };
    Ok(Some(longest.saturating_mul(2).saturating_add(AGE_MARGIN)))
}

fn targets(document: &Document) -> Result<Vec<Target>> {
    let empty = Table::new();
    let start = document.start();
    let more = document.table.get("target").map(Node::tables).unwrap_or_default();
    let first = (document.section("repository").unwrap_or(&empty), &start);
    let mut targets: Vec<Target> = Vec::new();
    for (at, (table, place)) in std::iter::once(first).chain(more).enumerate() {
        let name = match text(table, "name") {
            Some(name) => named(table, &name)?,
            None if at == 0 => PRIMARY.to_owned(),
            None => return Err(place.error("a [[target]] needs a `name`")),
        };
        if targets.iter().any(|there| there.name == name) {
            let place = table.get("name").map_or(place, |node| &node.place);
            return Err(place.error(format!("there are two targets with the name `{name}`")));
        }
        if at > 0 && !table.contains_key("repo") {
            return Err(place.error(format!("the target `{name}` needs a `repository`")));
        }
        let repository = match (table.get("repo"), document.section("global").and_then(|g| g.get("repo"))) {
            (Some(node), _) | (None, Some(node)) if at == 0 || table.contains_key("repo") => place_of(node),
            _ => OsString::new(),
        };
        let from = text(table, "from");
        targets.push(Target {
            name,
            repository,
            init: truth(table, "init"),
            optional: truth(table, "optional"),
            from,
        });
    }
    let names: Vec<String> = targets.iter().map(|t| t.name.clone()).collect();
    for (target, (table, _)) in
        targets.iter().skip(1).zip(document.table.get("target").map(Node::tables).unwrap_or_default())
    {
        if let (Some(from), Some(node)) = (&target.from, table.get("from")) {
            let source = targets.iter().find(|t| t.name == *from);
            match source {
                None => return Err(unknown(&node.place, "target", from, names.iter().map(String::as_str))),
                Some(source) if source.from.is_some() || source.name == target.name => {
                    let what = format!(
                        "`{from}` is no target that is backed up to by itself; copy from one that is"
                    );
                    return Err(node.place.error(what));
                }
                Some(_) => {}
            }
        }
    }
    Ok(targets)
}

/// A repository as it is meant where it stands.
fn place_of(node: &Node) -> OsString {
    let text = node.text().unwrap_or_default();
    let head = text.split('/').next().unwrap_or_default();
    if text.is_empty() || head.contains(':') {
        return text.into();
    }
    node.place.resolve(Path::new(text)).into_os_string()
}

fn sets(backup: &Table, targets: &[&str]) -> Result<Vec<BackupSet>> {
    let mut sets: Vec<BackupSet> = Vec::new();
    let tables = backup.get("snapshots").map(Node::tables).unwrap_or_default();
    for (table, place) in &tables {
        let Some(name) = text(table, "name") else {
            return Err(place.error("a [[backup.snapshots]] needs a `name`"));
        };
        let name = named(table, &name)?;
        if sets.iter().any(|there| there.name == name) {
            return Err(place.error(format!("there are two sets with the name `{name}`")));
        }
        sets.push(set(name, table, place, backup, targets)?);
    }
    let names: Vec<String> = sets.iter().map(|set| set.name.clone()).collect();
    for (table, _) in &tables {
        for node in table.get("after").map(Node::several).unwrap_or_default() {
            let after = node.text().unwrap_or_default();
            if !names.iter().any(|name| name == after) {
                return Err(unknown(&node.place, "set", after, names.iter().map(String::as_str)));
            }
        }
    }
    circle(&sets, &tables)?;
    Ok(sets)
}

fn set(name: String, table: &Table, place: &Place, backup: &Table, targets: &[&str]) -> Result<BackupSet> {
    let sources = table.get("sources").map(Node::several).unwrap_or_default();
    let databases = sources.iter().filter(|node| sources::is_database(node.text().unwrap_or_default()));
    let databases = databases.map(|node| sources::resolve(node)).collect::<Result<Vec<_>>>()?;
    let sources = sources.into_iter().map(sources::resolve).collect::<Result<Vec<_>>>()?;
    if sources.is_empty() {
        return Err(place.error(format!("the set `{name}` needs `sources`")));
    }
    let own = if table.contains_key("targets") { table } else { backup };
    Ok(BackupSet {
        class: match text(table, "class").as_deref() {
            Some("critical") => Class::Critical,
            Some("medium") => Class::Medium,
            _ => Class::High,
        },
        sources,
        databases,
        watch: watch(table.get("watch"))?,
        after: texts(table, "after"),
        targets: chosen(own, targets)?,
        minimum: minimum(table)?,
        max_age: span(table, "max-age")?,
        hooks: hooks(table)?,
        own_forget: table
            .get("forget")
            .and_then(Node::table)
            .is_some_and(|t| t.keys().any(|k| k.starts_with("keep-"))),
        name,
    })
}

/// The targets that a table names, in the order in which they stand in the profile; all if it names none.
fn chosen(table: &Table, targets: &[&str]) -> Result<Vec<String>> {
    let Some(node) = table.get("targets") else {
        return Ok(targets.iter().map(|name| (*name).to_owned()).collect());
    };
    for item in node.several() {
        let name = item.text().unwrap_or_default();
        if !targets.contains(&name) {
            return Err(unknown(&item.place, "target", name, targets.iter().copied()));
        }
    }
    let named = texts(table, "targets");
    if named.is_empty() {
        return Err(node.place.error("`targets` names none; leave it out for all"));
    }
    Ok(targets
        .iter()
        .filter(|name| named.iter().any(|n| n == *name))
        .map(|name| (*name).to_owned())
        .collect())
}

fn minimum(table: &Table) -> Result<Minimum> {
    let bytes = match table.get("min-bytes") {
        Some(node) => match &node.data {
            Data::Text(text) => Some(parse_bytes(text).map_err(|e| node.place.error(e))?),
            _ => whole(table, "min-bytes"),
        },
        None => None,
    };
    let mut rows = BTreeMap::new();
    for (name, node) in table.get("min-rows").and_then(Node::table).into_iter().flatten() {
        if let Data::Whole(n) = node.data {
            rows.insert(name.clone(), n.unsigned_abs());
        }
    }
    Ok(Minimum { files: whole(table, "min-files"), bytes, rows })
}

fn watch(node: Option<&Node>) -> Result<Option<Watch>> {
    let usual = Watch::default();
    match node.map(|node| (&node.data, &node.place)) {
        Some((Data::Truth(true), _)) => Ok(Some(usual)),
        Some((Data::Table(table), place)) => {
            let watch = Watch {
                debounce: span(table, "debounce")?.unwrap_or(usual.debounce),
                max_delay: span(table, "max-delay")?.unwrap_or(usual.max_delay),
            };
            if watch.max_delay < watch.debounce {
                return Err(place.error("max-delay is shorter than debounce"));
            }
            Ok(Some(watch))
        }
        _ => Ok(None),
    }
}

/// A set that comes after itself can never begin.
fn circle(sets: &[BackupSet], tables: &[(&Table, &Place)]) -> Result<()> {
    for (set, (table, place)) in sets.iter().zip(tables) {
        let mut seen: Vec<&str> = Vec::new();
        let mut open: Vec<&str> = set.after.iter().map(String::as_str).collect();
        while let Some(name) = open.pop() {
            if name == set.name {
                let place = table.get("after").map_or(*place, |node| &node.place);
                return Err(place.error(format!("the set `{name}` comes after itself")));
            }
            if !seen.contains(&name) {
                seen.push(name);
                let after = sets.iter().find(|s| s.name == name).map(|s| &s.after);
                open.extend(after.into_iter().flatten().map(String::as_str));
            }
        }
    }
    Ok(())
}

/// The sets as they are written, but each after those it names.
fn in_order(sets: Vec<BackupSet>) -> Vec<BackupSet> {
    let mut waiting = sets;
    let mut ordered: Vec<BackupSet> = Vec::new();
    while !waiting.is_empty() {
        let free =
            |set: &BackupSet| set.after.iter().all(|name| ordered.iter().any(|done| done.name == *name));
        // There is one, as nothing comes after itself.
        let next = waiting.iter().position(free).unwrap_or(0);
        ordered.push(waiting.remove(next));
    }
    ordered
}

fn jobs(document: &Document, targets: &[Target], sets: &[BackupSet], names: &[&str]) -> Result<Vec<JobPlan>> {
    let empty = Table::new();
    let section = |name: &str| document.section(name).unwrap_or(&empty);
    let backup = section("backup");
    let tables = backup.get("snapshots").map(Node::tables).unwrap_or_default();
    let mut jobs = Vec::new();
    for (set, (table, _)) in sets.iter().zip(tables) {
        let own = if table.contains_key("schedule") { table } else { backup };
        jobs.push(JobPlan {
            job: Job::Backup(set.name.clone()),
            schedule: schedule(own)?,
            targets: set.targets.clone(),
            hooks: hooks(backup)?,
        });
    }
    let copied = chosen(section("copy"), names)?;
    for target in targets.iter().filter(|target| target.from.is_some() && copied.contains(&target.name)) {
        jobs.push(JobPlan {
            job: Job::Copy(target.name.clone()),
            schedule: schedule(section("copy"))?,
            targets: vec![target.name.clone()],
            hooks: hooks(section("copy"))?,
        });
    }
    for (name, job) in
        [("forget", Job::Forget), ("prune", Job::Prune), ("check", Job::Check), ("drill", Job::Drill)]
    {
        let table = section(name);
        jobs.push(JobPlan {
            job,
            schedule: schedule(table)?,
            targets: chosen(table, names)?,
            hooks: hooks(table)?,
        });
    }
    for (name, job) in [("health", Job::Health), ("report", Job::Report)] {
        let table = section(name);
        jobs.push(JobPlan { job, schedule: schedule(table)?, targets: Vec::new(), hooks: hooks(table)? });
    }
    Ok(jobs)
}

fn schedule(table: &Table) -> Result<Vec<Expression>> {
    let nodes = table.get("schedule").map(Node::several).unwrap_or_default();
    let one =
        |node: &Node| Expression::parse(node.text().unwrap_or_default()).map_err(|e| node.place.error(e));
    nodes.into_iter().map(one).collect()
}

/// What `hooks` in this table says.
fn hooks(table: &Table) -> Result<Hooks> {
    let Some(table) = table.get("hooks").and_then(Node::table) else { return Ok(Hooks::default()) };
    let of = |name: &str, usual: OnFailure| {
        let nodes = table.get(name).map(Node::several).unwrap_or_default();
        nodes.into_iter().map(|node| hook(node, usual)).collect::<Result<Vec<_>>>()
    };
    Ok(Hooks {
        before: of("run-before", OnFailure::Fail)?,
        after: of("run-after", OnFailure::Warn)?,
        failed: of("run-failed", OnFailure::Warn)?,
        finally: of("run-finally", OnFailure::Warn)?,
    })
}

fn hook(node: &Node, usual: OnFailure) -> Result<Hook> {
    let Some(table) = node.table() else {
        let command = HookCommand::Shell(node.text().unwrap_or_default().to_owned());
        return Ok(Hook { command, timeout: HOOK_TIMEOUT, on_failure: usual });
    };
    let Some(command) = text(table, "command").filter(|text| !text.trim().is_empty()) else {
        return Err(node.place.error("a hook needs a `command`"));
    };
    let on_failure = match text(table, "on-failure").as_deref() {
        Some("fail") if usual != OnFailure::Fail => {
            let what =
                "on-failure can be `fail` only in run-before: afterwards there is nothing left to stop";
            return Err(node.place.error(what));
        }
        Some("fail") => OnFailure::Fail,
        Some("warn") => OnFailure::Warn,
        Some("ignore") => OnFailure::Ignore,
        _ => usual,
    };
    let command = match table.contains_key("args") {
        true => HookCommand::Program(std::iter::once(command).chain(texts(table, "args")).collect()),
        false => HookCommand::Shell(command),
    };
    Ok(Hook { command, timeout: span(table, "timeout")?.unwrap_or(HOOK_TIMEOUT), on_failure })
}

fn limits(table: &Table) -> Result<RunLimits> {
    let usual = RunLimits::default();
    let small = |key: &str, usual: u8| whole(table, key).and_then(|n| u8::try_from(n).ok()).unwrap_or(usual);
    let load = table.get("max-load").and_then(|node| match node.data {
        Data::Whole(n) => Some(n as f64),
        Data::Float(n) => Some(n),
        _ => None,
    });
    Ok(RunLimits {
        jitter: span(table, "jitter")?.unwrap_or(usual.jitter),
        retries: u32::from(small("retries", usual.retries as u8)),
        retry_delay: span(table, "retry-delay")?.unwrap_or(usual.retry_delay),
        retry_max: span(table, "retry-max")?.unwrap_or(usual.retry_max),
        nice: small("nice", usual.nice),
        io: match text(table, "io").as_deref() {
            Some("idle") => IoClass::Idle,
            Some("none") => IoClass::None,
            _ => IoClass::BestEffort,
        },
        battery: if text(table, "battery").as_deref() == Some("skip") { Battery::Skip } else { Battery::Run },
        min_battery: small("min-battery", usual.min_battery),
        max_load: load,
        load_wait: span(table, "load-wait")?.unwrap_or(usual.load_wait),
        timeout: span(table, "timeout")?,
        time_zone: zone(table)?,
    })
}

fn zone(table: &Table) -> Result<Option<String>> {
    let Some(node) = table.get("time-zone") else { return Ok(None) };
    let name = node.text().unwrap_or_default();
    Zone::parse(name).map_err(|e| node.place.error(e))?;
    Ok(Some(name.to_owned()))
}

/// A name that can be part of a file's name and of a unit's.
fn named(table: &Table, name: &str) -> Result<String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    if name.is_empty() || name.starts_with('.') || !name.chars().all(fits) {
        let what = format!("`{name}` is no name; use a-z, 0-9, `_`, `-` and `.` (not first)");
        return Err(table.get("name").map_or_else(|| Error::invalid(&what), |node| node.place.error(&what)));
    }
    Ok(name.to_owned())
}

fn text(table: &Table, key: &str) -> Option<String> {
    table.get(key)?.text().map(str::to_owned)
}

fn texts(table: &Table, key: &str) -> Vec<String> {
    let nodes = table.get(key).map(Node::several).unwrap_or_default();
    nodes.into_iter().filter_map(|node| node.text().map(str::to_owned)).collect()
}

fn truth(table: &Table, key: &str) -> bool {
    matches!(table.get(key).map(|node| &node.data), Some(Data::Truth(true)))
}

fn whole(table: &Table, key: &str) -> Option<u64> {
    if let Data::Whole(n) = table.get(key)?.data { u64::try_from(n).ok() } else { None }
}

fn span(table: &Table, key: &str) -> Result<Option<Duration>> {
    let Some(node) = table.get(key) else { return Ok(None) };
    let text = node.text().unwrap_or_default();
    parse_duration(text).map(Some).map_err(|e| node.place.error(e))
}
