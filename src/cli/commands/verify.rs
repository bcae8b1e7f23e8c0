//! `verify`: rules tried on a snapshot, without restoring it, or on a live directory; a database in use against its newest
//! snapshot.

use crate::cli::context::Context;
use crate::cli::failure::{FAILED, Failure, Outcome, VALIDATION, usage};
use crate::cli::json::Message;
use crate::cli::names::{decode_path, escape, shown};
use crate::cli::options::{AtArgs, Target};
use crate::cli::rows_verify;
use crate::cli::rules::tell;
use crate::cli::terminal::Watch;
use crate::progress::Progress;
use crate::repository::reader::Reader;
use crate::repository::snapshots::list;
use crate::rules::{DIRECTORY, FILE, Report, Verdict};
use crate::units;
use crate::verify;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Try the rules of JSON workspaces on a snapshot or a live directory; compare a database in use with its newest snapshot
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A snapshot, a part of one, or a directory: latest, latest:/srv/agents, ./agents, /srv/agents; or a database: ./app.db
    #[arg(value_name = "SNAP[:PATH]|DIR|DATABASE")]
    what: OsString,
    /// These rules in place of `.snapkeep/rules.toml`
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    #[command(flatten)]
    at: AtArgs,
}

/// A directory, and what came of the rules for it.
type Tried = (String, Report);

pub fn run(context: &Context, args: &Args) -> Outcome {
    let live_path = live_path(&args.what);
    if let Some(database) = live_path.as_ref().filter(|path| !path.is_dir()) {
        if args.rules.is_some() {
            return Err(Failure::usage("--rules are for snapshots and directories"));
        }
        return rows_verify::run(context, database, &args.at.filter().map_err(usage)?);
    }
    let (tried, snapshot) = match live_path {
        Some(dir) => (vec![live(context, &dir, args.rules.as_deref())?], None),
        None => {
            let repository = context.open()?;
            let target = args.at.target(&list(&repository)?, Some(&args.what), context.now())?;
            let reader = Arc::new(repository.reader()?.with_parity());
            let mut watch = Watch::beside_results(context);
            let tried = stored(&reader, &target, args.rules.as_deref(), &watch.progress);
            watch.finish();
            (tried?, Some(target.snapshot.record.id))
        }
    };
    let told = page(context, &tried, snapshot.as_deref());
    let good = tried.iter().all(|(_, report)| report.passed());
    context.output.ends(told, if good { 0 } else { VALIDATION })
}

/// A path is what begins with a slash or a dot, or has a slash before any colon.
fn live_path(what: &OsStr) -> Option<PathBuf> {
    let bytes = what.as_bytes();
    let head = bytes.split(|b| *b == b':').next().unwrap_or_default();
    let is_path = !bytes.starts_with(b"@") && (bytes.starts_with(b".") || head.contains(&b'/'));
    is_path.then(|| PathBuf::from(what))
}

fn live(context: &Context, dir: &Path, rules: Option<&Path>) -> Result<Tried, Failure> {
    let own = dir.join(DIRECTORY).join(FILE);
    let file = rules.unwrap_or(&own);
    if rules.is_none() && !own.exists() {
        return Err(no_rules(&escape(dir.as_os_str().as_bytes())));
    }
    let rules = verify::live_rules(file).map_err(|e| unusable(&e))?;
    let mut watch = Watch::beside_results(context);
    let scratch = context.cache().unwrap_or_else(std::env::temp_dir);
    let report = verify::live(dir, &rules, &scratch, &watch.progress);
    watch.finish();
    Ok((escape(dir.as_os_str().as_bytes()), report?))
}

fn stored(
    reader: &Arc<Reader>,
    target: &Target,
    rules: Option<&Path>,
    progress: &Progress,
) -> Result<Vec<Tried>, Failure> {
    let root = &target.snapshot.root;
    if let Some(file) = rules {
        let rules = verify::live_rules(file).map_err(|e| unusable(&e))?;
        let base = base(target)?;
        return Ok(vec![(shown(&base), verify::stored(reader, root, &base, &rules, progress)?)]);
    }
    let below = target.path.clone().unwrap_or_default();
    let bases = verify::ruled(reader, root, &below, progress)?;
    if bases.is_empty() {
        return Err(no_rules(&format!("the snapshot below {}", shown(&below))));
    }
    let mut tried = Vec::new();
    for base in bases {
        let rules = verify::stored_rules(reader, root, &base).map_err(|e| unusable(&e))?;
        tried.push((shown(&base), verify::stored(reader, root, &base, &rules, progress)?));
    }
    Ok(tried)
}

/// The directory that given rules are for: the one named, or the only source.
fn base(target: &Target) -> Result<Vec<u8>, Failure> {
    if let Some(path) = &target.path {
        return Ok(path.clone());
    }
    match target.snapshot.record.paths.as_slice() {
        [one] => {
            let path = decode_path(one);
            Ok(path.strip_prefix(b"/").map(<[u8]>::to_vec).unwrap_or(path))
        }
        _ => Err(Failure::usage("the snapshot has several sources; name the directory: SNAP:/path")),
    }
}

fn unusable(e: &crate::error::Error) -> Failure {
    Failure::new(VALIDATION, format!("the rules cannot be used: {}", e.message()))
}

/// Nothing to try is no success.
fn no_rules(place: &str) -> Failure {
    let what =
        format!("{place} has no {DIRECTORY}/{FILE}; write one with `snapkeep init-rules`, or give --rules");
    Failure::new(VALIDATION, what)
}

fn page(context: &Context, tried: &[Tried], snapshot: Option<&str>) -> Result<(), Failure> {
    let mut paper = context.output.paper();
    let json = context.output.json;
    for (place, report) in tried {
        if !json && tried.len() > 1 {
            paper.line(place)?;
        }
        tell(&mut paper, json, place, report, context.output.verbose > 0)?;
        if !json && report.outcomes.is_empty() {
            paper.line("ERROR the rules file holds no rules, so nothing is proved")?;
        }
    }
    let count = |verdict| tried.iter().map(|(_, report)| report.count(verdict)).sum::<u64>();
    let (passed, failed, errors) = (count(Verdict::Pass), count(Verdict::Fail), count(Verdict::Error));
    let rules = passed + failed + errors;
    if json {
        let message = Message::new("summary").with("snapshot_id", snapshot).with("rules", rules);
        paper.json(&message.with("passed", passed).with("failed", failed).with("errors", errors))?;
    } else {
        let rules = units::counted(rules, "rule", "rules");
        paper.line(&format!("{rules}: {passed} passed, {failed} failed, {errors} in error"))?;
    }
    paper.finish()
}

/// For commands that take a live directory only.
pub fn directory(path: &Path) -> Result<&Path, Failure> {
    match std::fs::symlink_metadata(path) {
        Ok(look) if look.is_symlink() => {
            let shown = escape(path.as_os_str().as_bytes());
            Err(Failure::usage(format!("{shown} is a symbolic link; name the directory it leads to")))
        }
        Ok(look) if look.is_dir() => Ok(path),
        Ok(_) => Err(Failure::usage(format!("{} is no directory", escape(path.as_os_str().as_bytes())))),
        Err(e) => {
            let what = crate::error::Error::io(format!("cannot look at {}", path.display()), &e);
            Err(Failure::new(FAILED, usage(what).message.unwrap_or_default()))
        }
    }
}
