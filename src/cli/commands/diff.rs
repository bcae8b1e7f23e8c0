//! `diff`: what differs between two snapshots, or between a snapshot and what stands here now.

use crate::cli::changes::{Manner, Seen, look};
use crate::cli::context::Context;
use crate::cli::failure::{DAMAGED, FAILED, Failure, Outcome, usage};
use crate::cli::json::{Message, base64_if_needed};
use crate::cli::names::{decode_path, shown};
use crate::cli::options::{AtArgs, Target};
use crate::cli::output::Paper;
use crate::cli::rows_diff;
use crate::cli::sources::ExcludeArgs;
use crate::cli::stop::Stop;
use crate::cli::terminal::Watch;
use crate::codes::Code;
use crate::compare::diff::{DiffOptions, Side, run as compare};
use crate::compare::inside::texts;
use crate::compare::live::{Finding, LiveOptions, run as compare_live};
use crate::compare::{Change, Statistics, Tally};
use crate::progress::Report;
use crate::repository::reader::Reader;
use crate::repository::snapshots::list;
use crate::source::WalkOptions;
use crate::source::roots::Root;
use crate::units;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

/// Show what differs between two snapshots: + added, - removed, M content, T kind, U metadata
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The earlier snapshot
    #[arg(value_name = "SNAP[:PATH]")]
    before: OsString,
    /// The later one
    #[arg(value_name = "SNAP[:PATH]")]
    after: Option<OsString>,
    /// Compare with what stands on this machine now
    #[arg(long)]
    live: bool,
    /// With --live: read every file of unchanged size
    #[arg(long)]
    content: bool,
    /// Tell what differs in nothing but metadata too
    #[arg(long)]
    metadata: bool,
    /// Count exactly which chunks only one side has, which takes longer
    #[arg(long)]
    thorough: bool,
    /// Do not look into JSON files that changed
    #[arg(long, conflicts_with = "patch")]
    no_json: bool,
    /// Write what changed in JSON files as patches (RFC 6902)
    #[arg(long)]
    patch: bool,
    #[command(flatten)]
    exclude: ExcludeArgs,
    #[command(flatten)]
    databases: rows_diff::RowsArgs,
}

pub fn run(context: &Context, args: &Args) -> Outcome {
    match (args.live, &args.after) {
        (true, Some(_)) => return Err(Failure::usage("--live compares one snapshot; two are named")),
        (false, None) => return Err(Failure::usage("name two snapshots, or one and --live")),
        (false, Some(_)) if args.content => return Err(Failure::usage("--content needs --live")),
        (true, None) if args.thorough => return Err(Failure::usage("--thorough compares two snapshots")),
        _ => {}
    }
    let repository = context.open()?;
    let listing = list(&repository)?;
    let target = |text: &OsStr| AtArgs::default().target(&listing, Some(text), context.now());
    let before = target(&args.before)?;
    let after = args.after.as_deref().map(target).transpose()?;
    let reader = Arc::new(repository.reader()?);
    let (json, room) = (context.output.json, context.output.width());
    let manner = (!args.no_json).then_some(Manner { json, patch: args.patch, room });
    let mut told = Told { paper: context.output.paper(), json, silent: 0, reader: &reader, manner };
    let mut watch = Watch::beside_results(context);
    let stats = match &after {
        Some(after) => two(&reader, &before, after, args, &watch, &mut told),
        None => live(context, &reader, &before, args, &watch, &mut told),
    };
    let sides = rows_diff::Sides {
        context,
        reader: &reader,
        progress: &watch.progress,
        before: &before,
        after: after.as_ref(),
    };
    let rows = if stats.is_ok() { rows_diff::run(&sides, &args.databases, &mut told.paper) } else { Ok(()) };
    watch.finish();
    let stats = stats?;
    rows?;
    let names = (before.snapshot.record.id, after.map(|a| a.snapshot.record.id));
    told.end(&names.0, names.1.as_deref(), &stats)?;
    let silent = told.silent;
    told.paper.finish()?;
    if silent > 0 {
        let what = units::counted(silent, "file differs", "files differ");
        context
            .output
            .warn(Code::SilentChange, &format!("{what} although size and times are equal: look at the disk"));
        return Ok(DAMAGED);
    }
    Ok(if stats.problems > 0 { FAILED } else { 0 })
}

fn two(
    reader: &Reader,
    before: &Target,
    after: &Target,
    args: &Args,
    watch: &Watch,
    told: &mut Told<'_>,
) -> Result<Statistics, Failure> {
    let path = |target: &Target| target.path.clone().unwrap_or_default();
    let (a, b) = (path(before), path(after));
    let options = DiffOptions { metadata: args.metadata, thorough: args.thorough };
    let (a, b) =
        (Side { root: &before.snapshot.root, below: &a }, Side { root: &after.snapshot.root, below: &b });
    let mut stop = Stop::default();
    let done = compare(reader, a, b, &options, &watch.progress, &mut |change| stop.at(told.change(change)));
    stop.or(done)
}

fn live(
    context: &Context,
    reader: &Reader,
    before: &Target,
    args: &Args,
    watch: &Watch,
    told: &mut Told<'_>,
) -> Result<Statistics, Failure> {
    let record = &before.snapshot.record;
    let mut filter = args.exclude.options();
    filter.excludes.splice(0..0, record.excludes.iter().cloned());
    let walk = WalkOptions { started: context.now(), ..WalkOptions::default() };
    let (content, metadata, json) = (args.content, args.metadata, !args.no_json);
    let options = LiveOptions { content, metadata, json, filter, walk };
    let place = |path: &[u8]| Root::new(Path::new(OsStr::from_bytes(path)));
    let places = match &before.path {
        Some(path) => vec![place(&[b"/", path.as_slice()].concat()).map_err(usage)?],
        None => record.paths.iter().map(|p| place(&decode_path(p))).collect::<Result<Vec<_>, _>>()?,
    };
    let root = &before.snapshot.root;
    let mut stop = Stop::default();
    let done = compare_live(reader, root, places, &options, &watch.progress, &mut |finding| match finding {
        Finding::Change(change) => stop.at(told.change(change)),
        Finding::Problem(problem) => {
            watch.report.problem(&problem);
            Ok(())
        }
    });
    stop.or(done)
}

/// What has been said so far.
struct Told<'r> {
    paper: Paper,
    json: bool,
    silent: u64,
    reader: &'r Reader,
    /// How to tell what is in JSON files; `None` to leave them closed.
    manner: Option<Manner>,
}

impl Told<'_> {
    fn change(&mut self, mut change: Change) -> Result<(), Failure> {
        let seen = match (change.contents.take(), self.manner) {
            (Some(contents), Some(manner)) => {
                let (before, after) = texts(self.reader, *contents)?;
                Some(look(&before, &after, manner))
            }
            _ => None,
        };
        self.silent += u64::from(change.silent);
        let slash: &[u8] = if change.is_dir { b"/" } else { b"" };
        let path = [b"/", change.path.as_slice(), slash].concat();
        if !self.json {
            let mark = if change.silent { "?" } else { " " };
            self.paper.line(&format!("{}{mark}   {}", change.modifier.sign(), shown(&path[1..])))?;
            if let Some(Seen::Lines(lines)) = seen {
                lines.iter().try_for_each(|line| self.paper.line(line))?;
            }
            return Ok(());
        }
        let mut message = Message::new("change").with("path", String::from_utf8_lossy(&path));
        if let Some(raw) = base64_if_needed(&path) {
            message = message.with("path_b64", raw);
        }
        message = message.with("modifier", change.modifier.sign());
        if change.silent {
            message = message.with("silent", true);
        }
        if let Some(Seen::Field(json)) = seen {
            message = message.with_raw("json", json);
        }
        self.paper.json(&message)
    }

    fn end(&mut self, before: &str, after: Option<&str>, stats: &Statistics) -> Result<(), Failure> {
        let (added, removed) = (&stats.added, &stats.removed);
        if self.json {
            let tally = |t: &Tally| {
                let message = Message::default().with("files", t.files).with("dirs", t.dirs);
                let message = message.with("others", t.others).with("data_blobs", t.data_blobs);
                message.with("tree_blobs", t.tree_blobs).with("bytes", t.bytes).value()
            };
            return self.paper.json(
                &Message::new("statistics")
                    .with("source_snapshot", before)
                    .with("target_snapshot", after)
                    .with("changed_files", stats.changed_files)
                    .with("added", tally(added))
                    .with("removed", tally(removed))
                    .with("problems", stats.problems),
            );
        }
        self.paper.line("")?;
        for (what, new, gone) in [
            ("Files:      ", added.files, removed.files),
            ("Directories:", added.dirs, removed.dirs),
            ("Others:     ", added.others, removed.others),
        ] {
            let changed = if what.starts_with("Files") {
                format!(", {} changed", units::count(stats.changed_files))
            } else {
                String::new()
            };
            self.paper.line(&format!(
                "{what} {} new, {} removed{changed}",
                units::count(new),
                units::count(gone)
            ))?;
        }
        let (new, gone) = (units::bytes(added.bytes), units::bytes(removed.bytes));
        self.paper.line(&format!("Content:     {new} only in the later, {gone} only in the earlier"))
    }
}
