//! Rules at the door: results as text and JSON, and the trial that follows a backup.

use super::context::Context;
use super::failure::Failure;
use super::json::Message;
use super::names::{escape, shown};
use super::options::decoded;
use super::output::Paper;
use super::terminal::Watch;
use crate::backup::Outcome;
use crate::clock::Clock;
use crate::codes::Code;
use crate::error::{ErrorKind, Result};
use crate::format::snapshot::{NoteKind, RulesTried};
use crate::id::ChunkId;
use crate::progress::Progress;
use crate::repository::reader::Reader;
use crate::repository::snapshots::{encode_path, read};
use crate::repository::{Repository, notes};
use crate::rules::{Report, Rules, Verdict};
use crate::units;
use crate::verify;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Reasons shown for a rule, unless all are asked for, and kept in a note.
const SHOWN_MAX: usize = 10;
const NOTED_MAX: usize = 20;

/// Says what came of the rules for `place`; with `all`, every reason that is known.
pub fn tell(
    paper: &mut Paper,
    json: bool,
    place: &str,
    report: &Report,
    all: bool,
) -> std::result::Result<(), Failure> {
    for outcome in &report.outcomes {
        if json {
            let reason = |r: &crate::rules::Reason| {
                let message = Message::default();
                let message = match &r.path {
                    Some(path) => message.with_path("path", "path_b64", path),
                    None => message,
                };
                message.with("message", r.message.as_str()).value()
            };
            paper.json(
                &Message::new("rule")
                    .with("directory", place)
                    .with("name", outcome.name.as_str())
                    .with("result", outcome.verdict.word())
                    .with("looked_at", outcome.looked_at)
                    .with("reasons", outcome.reasons.iter().map(reason).collect::<Vec<_>>())
                    .with("more", outcome.more),
            )?;
            continue;
        }
        let word = outcome.verdict.word().to_uppercase();
        let things = units::counted(outcome.looked_at, "thing", "things");
        paper.line(&format!("{word:<5} {} ({things})", escape(outcome.name.as_bytes())))?;
        let shown_max = if all { usize::MAX } else { SHOWN_MAX };
        for reason in outcome.reasons.iter().take(shown_max) {
            paper.line(&format!("        {}", words(reason)))?;
        }
        let more = outcome.more + outcome.reasons.len().saturating_sub(shown_max) as u64;
        if more > 0 {
            paper.line(&format!("        … and {} more", units::count(more)))?;
        }
    }
    Ok(())
}

fn words(reason: &crate::rules::Reason) -> String {
    let message = escape(reason.message.as_bytes());
    match &reason.path {
        Some(path) => format!("{}: {message}", escape(path)),
        None => message,
    }
}

/// What a note keeps of a report.
fn tried(base: &[u8], report: &Report) -> RulesTried {
    let failing = report.outcomes.iter().filter(|o| o.verdict != Verdict::Pass);
    let said = failing.flat_map(|o| {
        let told = o.reasons.iter().map(move |r| format!("{}: {}", o.name, words(r)));
        told.map(|line| line.chars().take(300).collect::<String>())
    });
    RulesTried {
        directory: format!("/{}", encode_path(base)),
        passed: report.count(Verdict::Pass),
        failed: report.count(Verdict::Fail),
        errors: report.count(Verdict::Error),
        reasons: said.take(NOTED_MAX).collect(),
    }
}

/// A few words about rules that were tried.
pub fn summary(tried: &RulesTried) -> String {
    let place = shown(&decoded(&tried.directory));
    let (passed, failed, errors) =
        (units::count(tried.passed), units::count(tried.failed), units::count(tried.errors));
    match tried.failed + tried.errors {
        0 if tried.passed > 0 => format!("{place}: {passed} passed"),
        _ => format!("{place}: {passed} passed, {failed} FAILED, {errors} in ERROR"),
    }
}

pub fn is_good(tried: &RulesTried) -> bool {
    tried.passed > 0 && tried.failed + tried.errors == 0
}

/// After a backup: tries the rules of each workspace and of each source that has some on the snapshot as it is stored, and
/// notes what came of it.
pub fn after_backup(
    context: &Context,
    repository: &Repository,
    done: &Outcome,
    given: Option<&Path>,
) -> std::result::Result<Vec<RulesTried>, Failure> {
    let Some(id) = done.snapshot else { return Ok(Vec::new()) };
    let mut all = Vec::new();
    let workspaces: Vec<Vec<u8>> =
        done.json.iter().flat_map(|facts| facts.workspaces.iter()).map(|w| decoded(&w.path)).collect();
    let snapshot = read(repository, id)?;
    let mut bases: Vec<Vec<u8>> = snapshot.record.paths.iter().map(|path| decoded(path)).collect();
    bases.extend(workspaces.iter().cloned());
    bases.sort();
    bases.dedup();
    let reader = Arc::new(repository.reader()?);
    let progress = Progress::new();
    for base in bases {
        // Rules that were named are for the workspaces that were named.
        let given = given.filter(|_| workspaces.contains(&base));
        let rules = match given {
            Some(file) => verify::live_rules(file),
            None if verify::has_rules(&reader, &snapshot.root, &base)? => {
                verify::stored_rules(&reader, &snapshot.root, &base)
            }
            None => continue,
        };
        let tried = try_on(&reader, &snapshot.root, &base, rules, &progress);
        for reason in &tried.reasons {
            context.output.warn(Code::RuleFailed, &format!("rule {reason}"));
        }
        notes::write(repository, id, NoteKind::Rules(tried.clone()), context.clock.now())?;
        all.push(tried);
    }
    Ok(all)
}

/// Rules that cannot be used are an error of their own; the snapshot is made all the same.
fn try_on(
    reader: &Arc<Reader>,
    root: &ChunkId,
    base: &[u8],
    rules: Result<Rules>,
    progress: &Progress,
) -> RulesTried {
    let report = match rules.and_then(|rules| verify::stored(reader, root, base, &rules, progress)) {
        Ok(report) => report,
        Err(e) => {
            let directory = format!("/{}", encode_path(base));
            let reasons = vec![e.message().to_owned()];
            return RulesTried { directory, passed: 0, failed: 0, errors: 1, reasons };
        }
    };
    let mut tried = tried(base, &report);
    if report.outcomes.is_empty() {
        tried.errors = 1;
        tried.reasons = vec!["the rules file holds no rules, so nothing is proved".to_owned()];
    }
    tried
}

/// After a restore: tries the rules of the directories `bases`, each of which stands at `place`. Answers whether all hold.
pub fn after_restore(
    context: &Context,
    reader: &Reader,
    root: &ChunkId,
    bases: &[Vec<u8>],
    place: &dyn Fn(&[u8]) -> PathBuf,
) -> std::result::Result<bool, Failure> {
    let mut good = true;
    for base in bases {
        let mut watch = Watch::beside_results(context);
        let scratch = context.cache().unwrap_or_else(std::env::temp_dir);
        let report = verify::stored_rules(reader, root, base)
            .and_then(|rules| verify::live(&place(base), &rules, &scratch, &watch.progress));
        watch.finish();
        good &= conclusion(context, base, report)?;
    }
    Ok(good)
}

/// Tells what came of rules that follow another piece of work; those that hold only when more is asked for.
pub fn conclusion(
    context: &Context,
    base: &[u8],
    report: Result<Report>,
) -> std::result::Result<bool, Failure> {
    let output = &context.output;
    let report = match report {
        Ok(report) => report,
        Err(e) if e.kind() == ErrorKind::Cancelled => return Err(e.into()),
        Err(e) => {
            output.warn(
                Code::RulesUnusable,
                &format!("the rules of {} cannot be used: {}", shown(base), e.message()),
            );
            return Ok(false);
        }
    };
    let good = report.passed();
    if !output.json && good && output.verbose == 0 {
        let passed = units::counted(report.count(Verdict::Pass), "rule", "rules");
        output.say(&format!("rules of {}: {passed} passed", shown(base)))?;
        return Ok(true);
    }
    let mut paper = output.paper();
    if !output.json {
        paper.line(&format!("rules of {}:", shown(base)))?;
    }
    tell(&mut paper, output.json, &shown(base), &report, output.verbose > 0)?;
    paper.finish()?;
    if report.outcomes.is_empty() {
        output.warn(
            Code::RulesEmpty,
            &format!("the rules file of {} holds no rules, so nothing is proved", shown(base)),
        );
    }
    Ok(good)
}
