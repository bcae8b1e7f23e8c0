//! Drills at the door: results as text and JSON, and what lists of snapshots say about them.

use super::context::Context;
use super::failure::Failure;
use super::json::Message;
use super::names::{escape, shown};
use super::options::decoded;
use super::rules;
use crate::clock::Timestamp;
use crate::drill::{Database, Drill, Ended};
use crate::format::snapshot::DrillDone;
use crate::repository::drills::Drilled;
use crate::repository::snapshots::Listed;
use crate::units;
use serde_json::{Value, json};
use std::time::Duration;

/// Reasons shown, unless all are asked for.
const SHOWN_MAX: usize = 20;

/// Says what came of one drill.
pub fn page(context: &Context, snapshot: &Listed, drill: &Drill) -> Result<(), Failure> {
    let mut paper = context.output.paper();
    if context.output.json {
        for (base, report) in &drill.rules {
            rules::tell(&mut paper, true, &shown(base), report, true)?;
        }
        paper.json(&message(snapshot, drill))?;
        return paper.finish();
    }
    let done = &drill.done;
    if context.output.quiet && done.passed {
        return paper.finish();
    }
    let word = if done.passed { "PASSED" } else { "FAILED" };
    let part = match done.path.as_str() {
        "" => String::new(),
        path => format!(" of {}", shown(&decoded(path))),
    };
    let (id, time) = (snapshot.id.short(), &snapshot.record.time);
    paper.line(&format!("{word}: drill{part} with snapshot {id} of {time}"))?;
    let (files, bytes) = (units::counted(done.files, "file", "files"), units::bytes(done.bytes));
    let took = units::duration(drill.restore);
    paper.line(&format!(
        "  restored in {took}: {files} as stored, {bytes} ({}/s)",
        units::bytes(rate(drill))
    ))?;
    if !drill.databases.is_empty() {
        paper.line(&format!("  databases: {}", databases(done)))?;
    }
    for (base, report) in &drill.rules {
        paper.line(&format!("  rules of {}:", shown(base)))?;
        rules::tell(&mut paper, false, &shown(base), report, context.output.verbose > 0)?;
    }
    if let Some(ended) = &drill.command {
        paper.line(&format!("  command: {} after {}", ending(ended), units::duration(ended.seconds)))?;
        if !ended.is_good() || context.output.verbose > 0 {
            for line in ended.output.lines() {
                paper.line(&format!("    | {}", escape(line.as_bytes())))?;
            }
        }
    }
    for database in drill.databases.iter().filter(|d| d.unknown && !d.failed) {
        let why = escape(database.reasons.join("; ").as_bytes());
        paper.line(&format!("  NOT JUDGED: {}: {why}", shown(&database.path)))?;
    }
    let most = if context.output.verbose > 0 { usize::MAX } else { SHOWN_MAX };
    for reason in drill.reasons.iter().take(most) {
        paper.line(&format!("  WRONG: {}", escape(reason.as_bytes())))?;
    }
    if drill.reasons.len() > most {
        paper.line(&format!("  … and {} more; -v shows them", drill.reasons.len() - most))?;
    }
    paper.line(&format!(
        "  took {} with all checks; the scratch place is gone",
        units::duration(drill.total)
    ))?;
    paper.finish()
}

/// Says what came of all of them.
pub fn totals(context: &Context, drills: u64, passed: u64) -> Result<(), Failure> {
    if context.output.json {
        let message = Message::new("summary").with("drills", drills).with("passed", passed);
        return context.output.result(&message.with("failed", drills - passed));
    }
    if drills > 1 {
        let all = units::counted(drills, "drill", "drills");
        context.output.say(&format!("{all}: {} passed, {} failed", passed, drills - passed))?;
    }
    Ok(())
}

/// Bytes that came back in a second.
fn rate(drill: &Drill) -> u64 {
    (drill.done.bytes as f64 / drill.restore.as_secs_f64().max(1e-3)) as u64
}

fn databases(done: &DrillDone) -> String {
    let sound = done.databases - done.databases_failed - done.databases_unknown;
    let mut text = format!("{} opened, {} sound", units::count(done.databases), units::count(sound));
    if done.databases_failed > 0 {
        text.push_str(&format!(", {} WRONG", units::count(done.databases_failed)));
    }
    if done.databases_unknown > 0 {
        text.push_str(&format!(", {} not judged", units::count(done.databases_unknown)));
    }
    text
}

fn ending(ended: &Ended) -> String {
    match (ended.late, ended.code) {
        (true, _) => "stopped, as it took too long,".to_owned(),
        (_, Some(code)) => format!("exit code {code}"),
        (_, None) => format!("signal {}", ended.signal.unwrap_or(0)),
    }
}

fn message(snapshot: &Listed, drill: &Drill) -> Message {
    let seconds = |span: Duration| span.as_secs_f64();
    let database = |d: &Database| {
        let result = match (d.failed, d.unknown) {
            (true, _) => "failed",
            (_, true) => "unknown",
            _ => "ok",
        };
        let path = format!("/{}", String::from_utf8_lossy(&d.path));
        json!({ "path": path, "result": result, "compared": d.compared, "tables": d.tables, "rows": d.rows,
            "reasons": d.reasons })
    };
    let command = |ended: &Ended| {
        json!({ "exit_code": ended.code, "signal": ended.signal, "timed_out": ended.late,
            "seconds": seconds(ended.seconds), "output": ended.output })
    };
    let done = &drill.done;
    let message = Message::new("drill")
        .with("snapshot_id", snapshot.record.id.as_str())
        .with("time", snapshot.record.time.as_str())
        .with("passed", done.passed);
    let message = match done.path.as_str() {
        "" => message,
        path => message.with_path("path", "path_b64", &[b"/", &decoded(path)[..]].concat()),
    };
    message
        .with("files", done.files)
        .with("bytes", done.bytes)
        .with("wrong", done.wrong)
        .with("databases", drill.databases.iter().map(database).collect::<Vec<Value>>())
        .with("rules_passed", done.rules_passed)
        .with("rules_failed", done.rules_failed)
        .with("rules_errors", done.rules_errors)
        .with("command", drill.command.as_ref().map_or(Value::Null, command))
        .with("restore_seconds", seconds(drill.restore))
        .with("bytes_per_second", rate(drill))
        .with("total_seconds", seconds(drill.total))
        .with("reasons", drill.reasons.clone())
}

/// One line about the drills with a snapshot: when it was last proven restorable, and the last that did not prove it.
pub fn line(drills: &[Drilled], now: Timestamp) -> Option<String> {
    let local = |drilled: &Drilled| {
        Timestamp::parse(&drilled.time, now).map_or_else(|_| drilled.time.clone(), Timestamp::local)
    };
    let last = drills.last()?;
    let proven = match drills.iter().rfind(|drilled| drilled.done.passed) {
        Some(good) => {
            let done = &good.done;
            let what = match done.path.as_str() {
                "" => String::new(),
                path => format!(" in part ({})", shown(&decoded(path))),
            };
            let (files, took) = (units::counted(done.files, "file", "files"), done.restore_ms);
            let took = units::duration(Duration::from_millis(took));
            format!("proven restorable{what} {}: {files} in {took}", local(good))
        }
        None => "never proven restorable".to_owned(),
    };
    if last.done.passed {
        return Some(proven);
    }
    let why = last.done.reasons.first().map(|reason| format!(": {}", escape(reason.as_bytes())));
    Some(format!("{proven}; drill FAILED {}{}", local(last), why.unwrap_or_default()))
}

/// The drills with a snapshot for programs: the last that passed, and the last.
pub fn json(drills: &[Drilled]) -> Value {
    json!({ "last_proven": drills.iter().rfind(|drilled| drilled.done.passed), "last": drills.last() })
}
