//! `backup`: a snapshot of files and trees, or of a stream.

use super::init;
use crate::backup::{Input, Options, Outcome as Done, ParentChoice, run as back_up};
use crate::cli::context::Context;
use crate::cli::databases::{self, SqliteArgs};
use crate::cli::documents::{self, JsonArgs};
use crate::cli::failure::{FAILED, Failure, INCOMPLETE, NO_REPOSITORY, Outcome, usage};
use crate::cli::json::Message;
use crate::cli::names::shown;
use crate::cli::options::per_cent;
use crate::cli::rules;
use crate::cli::sets::{self, Chosen};
use crate::cli::sources::{ExcludeArgs, SourceArgs, StreamArgs};
use crate::cli::terminal::Watch;
use crate::clock::Timestamp;
use crate::codes::Code;
use crate::format::snapshot::RulesTried;
use crate::progress::Problem;
use crate::repository::Repository;
use crate::repository::snapshots::{SnapshotFilter, list, resolve};
use crate::rules::{DIRECTORY, FILE};
use crate::settings::plan::BackupSet;
use crate::source::FileSource;
use crate::units;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;

/// Back up files, directories, or what a command writes
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    source: SourceArgs,
    /// Back up this set of the profile [default, without any PATH: all sets, to all targets]
    #[arg(long, value_name = "SET", help_heading = "Sources")]
    name: Vec<String>,
    #[command(flatten)]
    exclude: ExcludeArgs,
    #[command(flatten)]
    stream: StreamArgs,
    #[command(flatten)]
    sqlite: SqliteArgs,
    #[command(flatten)]
    json: JsonArgs,
    /// Tags of the snapshot
    #[arg(long, value_name = "TAG[,TAG…]")]
    tag: Vec<String>,
    /// The host's name in the snapshot [default: this host's]
    #[arg(short = 'H', long, value_name = "HOST")]
    host: Option<String>,
    /// A few words to know the snapshot by
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
    /// The time in the snapshot [default: now]
    #[arg(long, value_name = "TIME")]
    time: Option<String>,
    /// Compare with this snapshot [default: the latest of the same host and paths]
    #[arg(long, value_name = "SNAP")]
    parent: Option<String>,
    /// Read every file, changed or not
    #[arg(short, long)]
    force: bool,
    /// Make no snapshot when nothing has changed
    #[arg(long)]
    skip_if_unchanged: bool,
    /// Read this share of the unchanged files too, to notice silent changes
    #[arg(long, value_name = "PERCENT", default_value = "1", value_parser = per_cent)]
    reread: f64,
    /// Do not count files and bytes first, for the progress bar
    #[arg(long)]
    no_scan: bool,
    /// Make the repository if there is none
    #[arg(long)]
    init: bool,
    /// Back up nothing; say which rule decides about PATH
    #[arg(long, value_name = "PATH")]
    explain: Vec<PathBuf>,
}

pub fn run(context: &Context, args: &Args) -> Outcome {
    let chosen = sets::chosen(context, &args.name, args.source.is_named() || args.stream.is_given())?;
    if let Chosen::Several(names) = &chosen
        && args.explain.is_empty()
    {
        return sets::back_up(context, names);
    }
    let set = if let Chosen::One(set) = chosen { Some(set) } else { None };
    let own = set.map(|set| args.source.of(&set.sources));
    let source = own.as_ref().unwrap_or(&args.source);
    if !args.explain.is_empty() {
        return explain(context, args, source);
    }
    one(context, args, source, set)
}

/// A snapshot of these sources, which may be those of a set.
fn one(context: &Context, args: &Args, sources: &SourceArgs, set: Option<&BackupSet>) -> Outcome {
    let started = context.now();
    let mut missing = Vec::new();
    set.into_iter().for_each(|set| sets::look_at_databases(context, set));
    let mut input = match args.stream.input(sources)? {
        Some(_) if !args.json.workspace.is_empty() => {
            return Err(Failure::usage("a stream has no workspaces; --validate-json checks it"));
        }
        Some(stream) => stream,
        None => {
            let source =
                sources.files(&args.exclude, &args.json.workspace, &context.own_places(), started)?;
            missing.extend_from_slice(source.missing_roots());
            Input::Files(Box::new(source))
        }
    };
    if let Input::Files(source) = &input
        && source.roots().next().is_none()
    {
        let why: Vec<_> = missing.iter().map(|p| p.message.as_str()).collect();
        return Err(Failure::new(FAILED, why.join("; ")));
    }
    if let Input::Files(source) = &input {
        outside_repository(context, source)?;
    }
    let repository = open(context, args)?;
    if (args.init || sets::target_makes(context)) && matches!(input, Input::Files(_)) {
        // The repository may only just have been made, inside the source.
        input = Input::Files(Box::new(sources.files(
            &args.exclude,
            &args.json.workspace,
            &context.own_places(),
            started,
        )?));
    }
    let mut options = options(context, args, (&repository, has_rules(&input)))?;
    options.expected = set.and_then(|set| sets::expected(context, set));
    let mut watch = Watch::start(context);
    let done = back_up(&repository, &input, &options, &context.clock, &watch.progress, &watch.report);
    watch.finish();
    let done = done?;
    let problems = done.summary.problems;
    context.facts(|facts| {
        facts.snapshot = done.snapshot.map(|id| id.to_string());
        facts.files = Some(done.summary.total_files_processed);
        facts.bytes = Some(done.summary.total_bytes_processed);
        facts.added = Some(done.summary.data_added_packed + done.parity_added);
    });
    documents::warn(&context.output, done.json.as_ref());
    warn_of_mixtures(context, &done);
    let tried = rules::after_backup(context, &repository, &done, args.json.rules.as_deref());
    let untried = tried.is_err();
    let tried = tried.unwrap_or_else(|failure| {
        let why = failure.message.unwrap_or_default();
        context.output.warn(
            Code::RulesUntried,
            &format!("the snapshot is saved, but its rules could not be tried: {why}"),
        );
        Vec::new()
    });
    let told = match context.output.json {
        true => context.output.result(&summary(&done, problems, &tried)),
        false => context.output.say(&story(&done, &missing, problems, &tried).join("\n")),
    };
    let incomplete = problems > 0 || untried || args.json.objects(done.json.as_ref(), &tried);
    Ok(context.output.told(told, if incomplete { INCOMPLETE } else { 0 }))
}

/// A restore over one of the sources that did not end well is no state to rely on.
fn warn_of_mixtures(context: &Context, done: &Done) {
    for id in &done.unsettled {
        let id = id.short();
        context.output.warn(Code::MixturePossible, &format!(
            "a restore over what was backed up did not end well or is under way, so this may be a mixture of two states: \
             `snapkeep undo {id}` takes it back, or do it again; `snapkeep undo --accept {id}` says that what is there is right"
        ));
    }
}

/// A source inside the repository would be backed up into itself.
pub fn outside_repository(context: &Context, source: &FileSource) -> Result<(), Failure> {
    let Some(place) = context.place().ok().and_then(|place| place.canonicalize().ok()) else { return Ok(()) };
    for root in source.roots() {
        let path = &root.path;
        // A link is stored as a link, wherever it leads.
        let real = match (path.is_symlink(), path.parent(), path.file_name()) {
            (true, Some(above), Some(name)) => above.canonicalize().map(|above| above.join(name)),
            _ => path.canonicalize(),
        };
        if real.is_ok_and(|real| real.starts_with(&place)) {
            let what = format!("{} lies inside the repository {}", path.display(), place.display());
            return Err(Failure::new(
                FAILED,
                format!("{what}; a repository cannot be backed up into itself"),
            ));
        }
    }
    Ok(())
}

fn open(context: &Context, args: &Args) -> Result<Arc<Repository>, Failure> {
    match context.located() {
        Err(failure) if failure.code == NO_REPOSITORY && sets::target_makes(context) && !args.init => {
            sets::may_make(context, failure)?;
            Ok(Arc::new(init::make(context, &init::Args::default())?))
        }
        Err(Failure { code: NO_REPOSITORY, .. }) if args.init && !context.global.dry_run => {
            let made = init::make(context, &init::Args::default())?;
            let told = context.output.say(&format!("made repository {}", made.id()));
            context.output.told(told, 0);
            Ok(Arc::new(made))
        }
        Err(failure) => Err(failure),
        Ok(located) => context.unlock(located).map(Arc::new),
    }
}

/// Whether a source has rules of its own.
fn has_rules(input: &Input) -> bool {
    let Input::Files(source) = input else { return false };
    source.roots().any(|root| root.path.join(DIRECTORY).join(FILE).is_file())
}

fn options(
    context: &Context,
    args: &Args,
    (repository, ruled): (&Repository, bool),
) -> Result<Options, Failure> {
    let now = context.now();
    let parent = match &args.parent {
        Some(_) if args.force => return Err(Failure::usage("give either --parent or --force")),
        None if args.force => ParentChoice::Nothing,
        Some(text) => {
            let listing = list(repository)?;
            ParentChoice::Given(resolve(&listing, text, &SnapshotFilter::default(), now)?.id)
        }
        None => ParentChoice::Auto,
    };
    let time = args.time.as_deref().map(|text| Timestamp::parse(text, now)).transpose().map_err(usage)?;
    let usual = Options::default();
    Ok(Options {
        level: context.global.compression,
        parent,
        host: args.host.clone().unwrap_or(usual.host),
        tags: super::tag::words(&args.tag).collect(),
        label: args.label.clone(),
        time,
        excludes: args.exclude.patterns(),
        reread_percent: args.reread,
        skip_if_unchanged: args.skip_if_unchanged,
        dry_run: context.global.dry_run,
        scan: !args.no_scan && Watch::shows(context),
        user: usual.user,
        workers: usual.workers,
        before_restore: usual.before_restore,
        guarded: usual.guarded,
        expected: usual.expected,
        sqlite: args.sqlite.options(context).map_err(usage)?,
        json: args.json.options(ruled)?,
    })
}

fn explain(context: &Context, args: &Args, sources: &SourceArgs) -> Outcome {
    let source = sources.files(&args.exclude, &args.json.workspace, &context.own_places(), context.now())?;
    let mut paper = context.output.paper();
    for path in &args.explain {
        let answer = source.explain(path)?;
        if context.output.json {
            let rule = answer.rule.as_ref();
            paper.json(
                &Message::new("explanation")
                    .with("path", path.to_string_lossy())
                    .with("included", answer.included)
                    .with("rule", rule.map(|r| r.text.as_str()))
                    .with("origin", rule.map(|r| r.origin.as_str()))
                    .with("decided_at", answer.path.to_string_lossy()),
            )?;
        } else {
            let name = crate::cli::names::escape(path.as_os_str().as_encoded_bytes());
            paper.line(&format!("{name}: {}", crate::cli::output::one_line(&answer.to_string())))?;
        }
    }
    paper.finish()?;
    Ok(0)
}

fn seconds(done: &Done) -> f64 {
    let nanos = f64::from(done.end.nanos) - f64::from(done.start.nanos);
    ((done.end.secs - done.start.secs) as f64 + nanos / 1e9).max(0.0)
}

const COUNTS: &[&str] = &[
    "files_new",
    "files_changed",
    "files_unmodified",
    "dirs_new",
    "dirs_changed",
    "dirs_unmodified",
    "data_blobs",
    "tree_blobs",
    "data_added",
    "data_added_packed",
    "total_files_processed",
    "total_bytes_processed",
];

fn summary(done: &Done, problems: u64, tried: &[RulesTried]) -> Message {
    let mut message = Message::new("summary");
    if done.dry_run {
        message = message.with("dry_run", true);
    }
    message = message
        .with_all(COUNTS, &done.summary)
        .with("parity_added", done.parity_added)
        .with("total_duration", seconds(done))
        .with("backup_start", done.start.rfc3339())
        .with("backup_end", done.end.rfc3339())
        .with("problems", problems);
    if let Some(id) = done.snapshot {
        message = message.with("snapshot_id", id.to_string());
    } else if !done.dry_run {
        message = message.with("unchanged", true);
    }
    message = message.with("sqlite", databases::summary(done));
    if !done.unsettled.is_empty() {
        let ids: Vec<String> = done.unsettled.iter().map(ToString::to_string).collect();
        message = message.with("unsettled_restores", ids);
    }
    if done.json.is_none() && tried.is_empty() {
        return message;
    }
    let mut json = done.json.as_ref().map_or_else(|| json!({}), |facts| json!(facts));
    if !tried.is_empty() {
        json["rules"] = json!(tried);
    }
    message.with("json", json)
}

/// The summary for people: what was saved, what of it was new, what it takes, what is missing.
fn story(done: &Done, missing: &[Problem], problems: u64, tried: &[RulesTried]) -> Vec<String> {
    let s = &done.summary;
    let files = units::counted(s.total_files_processed, "file", "files");
    let dirs = units::counted(s.dirs_new + s.dirs_changed + s.dirs_unmodified, "directory", "directories");
    let first = match (done.snapshot, done.dry_run) {
        (Some(id), _) => format!("snapshot {} saved", id.short()),
        (None, true) => "dry run, nothing was stored".to_owned(),
        (None, false) => "nothing has changed since the last snapshot; none was made".to_owned(),
    };
    let parity = match done.parity_added {
        0 => String::new(),
        bytes => format!(" and {} of parity", units::bytes(bytes)),
    };
    let mut lines = vec![
        format!("{first}: {files} in {dirs}, {}", units::bytes(s.total_bytes_processed)),
        format!(
            "  files: {} new, {} changed, {} unchanged",
            units::count(s.files_new),
            units::count(s.files_changed),
            units::count(s.files_unmodified)
        ),
        format!(
            "  added: {}, {}{parity} in the repository",
            units::bytes(s.data_added),
            units::bytes(s.data_added_packed)
        ),
        format!("  took:  {}", units::duration(std::time::Duration::from_secs_f64(seconds(done)))),
    ];
    if let Some(facts) = &done.json {
        lines.push(format!("  json:  {}", documents::words(facts)));
    }
    lines.extend(tried.iter().map(|tried| format!("  rules: {}", rules::summary(tried))));
    if let Some(all) = &done.databases {
        lines.push(format!("  sqlite: {}", databases::words(all)));
    }
    lines.extend(databases::orphans_line(done));
    if let [one] = done.unverified.as_slice() {
        lines.push(format!("  unverified database: {}", shown(one)));
    } else if !done.unverified.is_empty() {
        lines.push(format!("  unverified databases: {}", units::count(done.unverified.len() as u64)));
    }
    if problems > 0 {
        let what = units::counted(problems, "problem", "problems");
        let sources = match missing.len() as u64 {
            0 => String::new(),
            n => format!(", {} missing", units::counted(n, "source", "sources")),
        };
        lines.push(format!("  INCOMPLETE: {what}{sources}; each is named on standard error"));
    }
    lines
}
