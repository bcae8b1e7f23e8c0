//! `restore`: from a snapshot back to files.

use crate::cli::context::Context;
use crate::cli::databases;
use crate::cli::failure::{DAMAGED, FAILED, Failure, INCOMPLETE, Outcome, VALIDATION};
use crate::cli::guided;
use crate::cli::in_place::{Job, StageArgs, SureArgs, may_ask};
use crate::cli::json::Message;
use crate::cli::layers::on_command_line;
use crate::cli::names::shown;
use crate::cli::options::AtArgs;
use crate::cli::picker::{can_ask, line};
use crate::cli::restore_key;
use crate::cli::rules::after_restore;
use crate::cli::staging::ruled_below;
use crate::cli::stop::Stop;
use crate::cli::tables::{TableArgs, Tables};
use crate::cli::terminal::Watch;
use crate::codes::Code;
use crate::id::SnapshotId;
use crate::in_place::{OVERWRITE, parts};
use crate::repository::Repository;
use crate::repository::reader::Reader;
use crate::repository::snapshots::{Listed, list};
use crate::restore::{
    Action, Counts, Overwrite, Plan, RestoreOptions, Summary, What, execute, plan, preview,
};
use crate::units;
use clap::ValueEnum;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Restore a snapshot, or a part of it, below a directory; without arguments, on a terminal, by questions
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The snapshot; with a path the contents of that directory go straight into DIR
    #[arg(value_name = "SNAP[:PATH]")]
    snapshot: Option<OsString>,
    /// Where to
    #[arg(short, long, value_name = "DIR", conflicts_with = "in_place")]
    target: Option<PathBuf>,
    /// Only the value at this JSON pointer (/a/b) of a JSON file, back into the live file or --target's
    #[arg(long, value_name = "POINTER", conflicts_with_all = ["include", "iinclude", "exclude", "iexclude",
        "delete", "verify", "salvage", "in_place", "sparse", "numeric_id", "no_ownership", "no_xattrs"])]
    key: Option<String>,
    /// Back where it came from, over what is there, after a safety snapshot of that; `undo` takes it back
    #[arg(long, conflicts_with = "salvage")]
    in_place: bool,
    #[command(flatten)]
    sure: SureArgs,
    #[command(flatten)]
    tables: TableArgs,
    #[command(flatten)]
    at: AtArgs,
    /// Only what matches this gitignore pattern
    #[arg(short, long, value_name = "PATTERN")]
    include: Vec<String>,
    /// The same, whatever the case of letters
    #[arg(long, value_name = "PATTERN")]
    iinclude: Vec<String>,
    /// Not what matches this pattern
    #[arg(short, long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// The same, whatever the case of letters
    #[arg(long, value_name = "PATTERN")]
    iexclude: Vec<String>,
    /// What happens to files that are there already [default: always, with --in-place if-different]
    #[arg(long, value_name = "WHEN")]
    overwrite: Option<When>,
    /// Delete what is not in the snapshot
    #[arg(long)]
    delete: bool,
    /// Read everything again from the disk afterwards and compare
    #[arg(long)]
    verify: bool,
    /// Keep what is left of damaged files as NAME.damaged, with holes, and list these beside it
    #[arg(long)]
    salvage: bool,
    /// Make holes of zeros
    #[arg(long)]
    sparse: bool,
    /// Owners by number, not by name
    #[arg(long)]
    numeric_id: bool,
    /// Leave owners alone
    #[arg(long)]
    no_ownership: bool,
    /// Leave extended attributes and ACLs alone
    #[arg(long)]
    no_xattrs: bool,
    #[command(flatten)]
    care: StageArgs,
}

/// When a file that is there already is replaced.
#[derive(ValueEnum, Clone, Copy, Debug)]
enum When {
    Always,
    IfChanged,
    IfNewer,
    IfDifferent,
    Never,
}

pub fn run(context: &Context, args: &Args) -> Outcome {
    if is_guided(context) {
        return guided(context, args);
    }
    if !args.tables.table.is_empty() {
        return tables(context, args);
    }
    if let Some(key) = &args.key {
        let repository = context.open()?;
        let from = args.at.target(&list(&repository)?, args.snapshot.as_deref(), context.now())?;
        let reader = repository.reader()?.with_parity();
        return restore_key::run(context, &reader, &from, key, args.target.as_deref());
    }
    if args.in_place {
        may_ask(context, args.sure)?;
        return over_what_is_there(context, args, &context.open()?);
    }
    if let Some(word) = meant_for_over(context) {
        let what = format!("--{word} is for restores over what is there: --in-place, or --table");
        return Err(Failure::usage(what));
    }
    let Some(to) = &args.target else {
        return Err(Failure::usage("where to? give --target DIR, or --in-place"));
    };
    onto(context, args, to, &context.open()?, false)
}

/// Nothing at all was said of what to restore, and there is somebody to ask.
fn is_guided(context: &Context) -> bool {
    // Options that every command takes stand on both levels.
    let all = &context.parsed.matches;
    let global = |id: &str| matches!(all.try_contains_id(id), Ok(true));
    let said = |given: &clap::ArgMatches| {
        given.ids().any(|id| on_command_line(given, id.as_str()) && !global(id.as_str()))
    };
    let given = context.parsed.matches.subcommand().map(|(_, given)| given);
    !given.is_some_and(said) && !context.output.json && can_ask()
}

/// Asks for what options would say, then does as they say.
fn guided(context: &Context, args: &Args) -> Outcome {
    let repository = context.open()?;
    let choice = guided::ask(&list(&repository)?, &repository.reader()?.with_parity(), context.now())?;
    let overwrite = choice.overwrite.map(|word| When::from_str(word, true)).transpose();
    let overwrite = overwrite.map_err(Failure::usage)?;
    let chosen = Args {
        snapshot: Some(choice.what.clone()),
        target: choice.target.clone(),
        in_place: choice.target.is_none(),
        delete: choice.delete,
        overwrite,
        ..args.clone()
    };
    context.output.say(&format!("without questions: {}", choice.words()))?;
    match &choice.target {
        Some(to) => onto(context, &chosen, to, &repository, true),
        None => over_what_is_there(context, &chosen, &repository),
    }
}

/// Below a directory.
fn onto(context: &Context, args: &Args, to: &Path, repository: &Arc<Repository>, ask: bool) -> Outcome {
    let listing = list(repository)?;
    let mut from = args.at.target(&listing, args.snapshot.as_deref(), context.now())?;
    let asked = from.path.clone().unwrap_or_default();
    for warning in databases::avoid_damaged(&listing, &mut from, &asked) {
        context.output.warn(Code::SnapshotAvoided, &warning);
    }
    let reader = repository.reader()?.with_parity();
    let plan = plan(&reader, &from.snapshot.root, to, &options(args, from.path))?;
    let mut watch = Watch::start(context);
    if context.global.dry_run {
        let counts = would(context, &reader, &plan, &watch);
        watch.finish();
        return told_dry(context, &counts?);
    }
    if ask {
        let counts = would(context, &reader, &plan, &watch)?;
        told_dry(context, &counts)?;
        let answer = line(&format!("into {}. Go on? [y/N]", to.display()))?;
        if !matches!(answer.as_deref(), Some("y" | "Y" | "yes" | "Yes")) {
            return Err(Failure::new(FAILED, "not confirmed; nothing was changed"));
        }
    }
    let begun = Instant::now();
    let done = execute(&reader, plan, &watch.progress, &watch.report);
    watch.finish();
    let done = done?;
    let seconds = begun.elapsed();
    note(context, &done, from.snapshot.id);
    context.warn_of_mended(&reader);
    let hold = rules_hold(context, args, &reader, &from.snapshot, &asked)?;
    let told = if context.output.json {
        context.output.result(&summary(&done).with("seconds_elapsed", seconds.as_secs_f64()))
    } else {
        let mut lines = story(&from.snapshot.id.short(), &done, args.delete, args.verify);
        lines.push(format!("  took: {}", units::duration(seconds)));
        context.output.say(&lines.join("\n"))
    };
    let code = match (done.damaged, done.verify_failed, done.problems) {
        (0, 0, 0) if hold => 0,
        (0, 0, 0) => VALIDATION,
        (0, 0, _) => FAILED,
        (0, _, _) => VALIDATION,
        // As asked: everything else is there, and what is not is named.
        _ if args.salvage => INCOMPLETE,
        _ => DAMAGED,
    };
    Ok(context.output.told(told, code))
}

/// Tries the rules of what was restored where it stands now, unless only a choice of it was.
fn rules_hold(
    context: &Context,
    args: &Args,
    reader: &Reader,
    from: &Listed,
    asked: &[u8],
) -> Result<bool, Failure> {
    let chosen = [&args.include, &args.iinclude, &args.exclude, &args.iexclude];
    let Some(target) = args.target.as_ref().filter(|_| !args.care.no_rules) else { return Ok(true) };
    if chosen.iter().any(|list| !list.is_empty()) {
        return Ok(true);
    }
    let bases = ruled_below(context, reader, from, asked)?;
    let place = |base: &[u8]| {
        let rest = base.get(asked.len()..).unwrap_or_default();
        target.join(OsStr::from_bytes(rest.strip_prefix(b"/").unwrap_or(rest)))
    };
    after_restore(context, reader, &from.root, &bases, &place)
}

/// An option on the command line that a restore to a new place has no use for.
fn meant_for_over(context: &Context) -> Option<&'static str> {
    let (_, given) = context.parsed.matches.subcommand()?;
    let words =
        [("yes", "yes"), ("safety", "safety"), ("sqlite_wait", "sqlite-wait"), ("no_stage", "no-stage")];
    words.into_iter().find(|(id, _)| on_command_line(given, id)).map(|(_, word)| word)
}

fn tables(context: &Context, args: &Args) -> Outcome {
    let repository = context.open()?;
    let listing = list(&repository)?;
    let mut from = args.at.target(&listing, args.snapshot.as_deref(), context.now())?;
    let path = from.path.clone().unwrap_or_default();
    for warning in databases::avoid_damaged(&listing, &mut from, &path) {
        context.output.warn(Code::SnapshotAvoided, &warning);
    }
    let (tables, sure) = (&args.tables, args.sure);
    Tables { context, repository: &repository, listing: &listing, from, args: tables, sure }.run()
}

fn over_what_is_there(context: &Context, args: &Args, repository: &Arc<Repository>) -> Outcome {
    let listing = list(repository)?;
    let mut from = args.at.target(&listing, args.snapshot.as_deref(), context.now())?;
    let below = from.path.clone().unwrap_or_default();
    for warning in databases::avoid_damaged(&listing, &mut from, &below) {
        context.output.warn(Code::SnapshotAvoided, &warning);
    }
    let overwrite = args.overwrite.map_or(OVERWRITE, When::rule);
    let options = RestoreOptions { overwrite, verify: true, salvage: false, ..options(args, None) };
    let parts = parts(&from.snapshot.record, &below)?;
    let (from, sure, care) = (&from.snapshot, args.sure, args.care);
    let listing = &listing;
    Job { context, repository, listing, from, parts, options, sure, undone: None, care }.run()
}

impl When {
    fn rule(self) -> Overwrite {
        match self {
            When::Always => Overwrite::Always,
            When::IfChanged => Overwrite::IfChanged,
            When::IfNewer => Overwrite::IfNewer,
            When::IfDifferent => Overwrite::IfDifferent,
            When::Never => Overwrite::Never,
        }
    }
}

fn options(args: &Args, path: Option<Vec<u8>>) -> RestoreOptions {
    RestoreOptions {
        strip: path.is_some(),
        below: path.unwrap_or_default(),
        includes: args.include.clone(),
        iincludes: args.iinclude.clone(),
        excludes: args.exclude.clone(),
        iexcludes: args.iexclude.clone(),
        overwrite: args.overwrite.map_or(Overwrite::Always, When::rule),
        delete: args.delete,
        verify: args.verify,
        salvage: args.salvage,
        sparse: args.sparse,
        owner: args.no_ownership.then_some(false),
        numeric_ids: args.numeric_id,
        special_bits: None,
        no_xattrs: args.no_xattrs,
        in_place: None,
    }
}

/// As a plan names it.
pub fn action_word(what: What) -> &'static str {
    match what {
        What::Create => "create",
        What::Replace => "replace",
        What::Keep => "keep",
        What::Mend => "mend",
        What::Skip => "skip",
        What::Delete => "delete",
        What::Conflict => "conflict",
    }
}

fn would(context: &Context, reader: &Reader, plan: &Plan, watch: &Watch) -> Result<Counts, Failure> {
    let mut paper = context.output.paper();
    let mut stop = Stop::default();
    let done = preview(reader, plan, &watch.progress, &watch.report, &mut |action: &Action<'_>| {
        let word = action_word(action.what);
        stop.at(if context.output.json {
            let message = Message::new("verbose_status").with("action", word);
            let message = message.with_path("item", "item_b64", &[b"/", action.path].concat());
            paper.json(&message.with("size", action.bytes))
        } else if context.output.quiet || (action.what == What::Keep && context.output.verbose == 0) {
            Ok(())
        } else {
            let slash = if action.is_dir { "/" } else { "" };
            paper.line(&format!("{word:<8} {}{slash}", shown(action.path)))
        })
    });
    let counts = stop.or(done)?;
    paper.finish()?;
    Ok(counts)
}

pub fn told_dry(context: &Context, counts: &Counts) -> Outcome {
    if context.output.json {
        context.output.result(
            &Message::new("summary")
                .with("dry_run", true)
                .with("create", counts.create)
                .with("replace", counts.replace)
                .with("keep", counts.keep)
                .with("mend", counts.mend)
                .with("skip", counts.skip)
                .with("delete", counts.delete)
                .with("conflict", counts.conflict)
                .with("bytes", counts.bytes)
                .with("total_files", counts.total_files)
                .with("total_bytes", counts.total_bytes),
        )?;
        return Ok(0);
    }
    context.output.say(&format!(
        "would create {}, replace {}, delete {}, keep {}, skip {}; {} to write",
        units::count(counts.create),
        units::count(counts.replace),
        units::count(counts.delete),
        units::count(counts.keep),
        units::count(counts.skip),
        units::bytes(counts.bytes)
    ))?;
    Ok(0)
}

/// What the journal says of a restore.
pub fn note(context: &Context, done: &Summary, from: SnapshotId) {
    context.facts(|facts| {
        facts.snapshot = Some(from.to_string());
        facts.files = Some(done.files_restored);
        facts.bytes = Some(done.bytes_restored);
    });
}

pub fn summary(done: &Summary) -> Message {
    Message::new("summary")
        .with("files_restored", done.files_restored)
        .with("files_skipped", done.files_skipped)
        .with("files_deleted", done.files_deleted)
        .with("files_failed", done.files_failed)
        .with("files_salvaged", done.files_salvaged)
        .with("dirs_restored", done.dirs_restored)
        .with("others_restored", done.others_restored)
        .with("bytes_restored", done.bytes_restored)
        .with("bytes_skipped", done.bytes_skipped)
        .with("total_files", done.total_files)
        .with("total_bytes", done.total_bytes)
        .with("files_verified", done.files_verified)
        .with("verify_failed", done.verify_failed)
        .with("problems", done.problems)
        .with("damaged", done.damaged)
}

/// What was done, for people.
pub fn story(snapshot: &str, done: &Summary, deletes: bool, verifies: bool) -> Vec<String> {
    let files = units::counted(done.files_restored, "file", "files");
    let mut lines =
        vec![format!("snapshot {snapshot} restored: {files}, {}", units::bytes(done.bytes_restored))];
    if done.files_skipped > 0 {
        let count = units::counted(done.files_skipped, "file", "files");
        lines.push(format!("  left alone: {count}, {}", units::bytes(done.bytes_skipped)));
    }
    if deletes {
        lines.push(format!("  deleted: {}", units::counted(done.files_deleted, "thing", "things")));
    }
    if verifies {
        let good = units::counted(done.files_verified, "file", "files");
        lines.push(format!("  verified: {good} right, {} wrong", units::count(done.verify_failed)));
    }
    if done.problems > 0 {
        let count = units::counted(done.problems, "problem", "problems");
        lines.push(format!("  INCOMPLETE: {count}; each is named on standard error"));
    }
    lines
}
