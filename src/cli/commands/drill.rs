//! `drill`: prove that snapshots can be restored, by doing it.

use crate::cli::context::Context;
use crate::cli::drills::{page, totals};
use crate::cli::failure::{FAILED, Failure, Outcome, VALIDATION, usage};
use crate::cli::json::Message;
use crate::cli::layers::on_command_line;
use crate::cli::options::{AtArgs, Target, duration};
use crate::cli::terminal::Watch;
use crate::codes::Code;
use crate::drill::{self, Drill, Options, Run, record, remove_leftovers, room, some_of};
use crate::repository::Repository;
use crate::repository::reader::Reader;
use crate::repository::snapshots::{Listed, Listing, list};
use crate::sqlite::check::Depth;
use crate::units;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  snapkeep drill
  snapkeep drill --random 3 --scratch /mnt/space
  snapkeep drill latest:/srv/app --command './selftest --offline'

The command runs in the restored source (of several sources: in the directory that stands for /), with its place in
SNAPKEEP_DRILL_DIR and the snapshot's id in SNAPKEEP_DRILL_SNAPSHOT.";

/// Restore to a scratch place, compare, open every database, try the rules, clean up, and record the result
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The snapshot, or a part of it [default: latest]
    #[arg(value_name = "SNAP[:PATH]")]
    snapshot: Option<OsString>,
    /// The newest snapshot
    #[arg(long, conflicts_with_all = ["snapshot", "random", "at"])]
    latest: bool,
    /// N snapshots by chance
    #[arg(long, value_name = "N", conflicts_with_all = ["snapshot", "at"])]
    random: Option<usize>,
    #[command(flatten)]
    at: AtArgs,
    /// Where the scratch place is made [default: the directory for temporary files]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// Run this inside the restored tree, with sh; it must end with 0
    #[arg(long, value_name = "COMMAND")]
    command: Option<String>,
    /// How long the command may take
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration)]
    command_timeout: Duration,
    /// Do not try the rules that the snapshot holds
    #[arg(long)]
    no_rules: bool,
    /// Check databases: every index against its table (full), or tables only (quick)
    #[arg(long, value_name = "full|quick", default_value = "full", value_parser = ["full", "quick"])]
    sqlite_check: String,
}

pub fn run(context: &Context, args: &Args) -> Outcome {
    let scratch = args.scratch.clone().unwrap_or_else(std::env::temp_dir);
    if !scratch.is_dir() {
        return Err(Failure::usage(format!(
            "{} is no directory to make a scratch place in",
            scratch.display()
        )));
    }
    let repository = context.open()?;
    let listing = list(&repository)?;
    let targets = targets(context, args, &listing)?;
    let reader = Arc::new(repository.reader()?.with_parity());
    let options = |target: &Target| Options {
        below: target.path.clone().unwrap_or_default(),
        scratch: scratch.clone(),
        rules: !args.no_rules,
        depth: if args.sqlite_check == "quick" { Depth::Quick } else { Depth::Full },
        command: args.command.clone().map(|line| Run { line, limit: args.command_timeout }),
    };
    if context.global.dry_run {
        return would(context, &reader, &targets, &options);
    }
    for left in remove_leftovers(&scratch) {
        context.output.warn(
            Code::DrillLeftOver,
            &format!("a drill that was killed had left {}; it is removed", left.display()),
        );
    }
    let (mut passed, mut unrecorded) = (0u64, false);
    for target in &targets {
        let drill = one(context, &reader, &target.snapshot, &options(target))?;
        passed += u64::from(drill.done.passed);
        unrecorded |= !write_down(context, &repository, &target.snapshot, &drill);
        page(context, &target.snapshot, &drill)?;
    }
    context.warn_of_mended(&reader);
    let drills = targets.len() as u64;
    totals(context, drills, passed)?;
    Ok(match (passed == drills, unrecorded) {
        (false, _) => VALIDATION,
        (true, true) => FAILED,
        (true, false) => 0,
    })
}

fn one(
    context: &Context,
    reader: &Arc<Reader>,
    snapshot: &Listed,
    options: &Options,
) -> Result<Drill, Failure> {
    let mut watch = Watch::beside_results(context);
    let drill = drill::run(reader, snapshot, options, &watch.progress, &watch.report);
    watch.finish();
    Ok(drill?)
}

/// What came of it is worth having even where the repository cannot be written to.
fn write_down(context: &Context, repository: &Repository, snapshot: &Listed, drill: &Drill) -> bool {
    match record(repository, snapshot, drill, context.now()) {
        Ok(()) => true,
        Err(e) => {
            context.output.warn(
                Code::ResultNotRecorded,
                &format!("the result could not be recorded in the repository: {e}"),
            );
            false
        }
    }
}

fn targets(context: &Context, args: &Args, listing: &Listing) -> Result<Vec<Target>, Failure> {
    // What the command line names comes before what a profile says.
    let given = |id: &str| {
        let words = context.parsed.matches.subcommand();
        words.is_some_and(|(_, given)| on_command_line(given, id))
    };
    let named = args.snapshot.is_some() || ((args.latest || args.at.has_time()) && !given("random"));
    let Some(count) = args.random.filter(|_| !named) else {
        let latest = Some(OsStr::new("latest")).filter(|_| !args.at.has_time());
        let text = args.snapshot.as_deref().or(latest);
        return Ok(vec![args.at.target(listing, text, context.now())?]);
    };
    if count == 0 {
        return Err(Failure::usage("--random 0 would prove nothing"));
    }
    let filter = args.at.filter().map_err(usage)?;
    let usual = |l: &&Listed| l.record.before_restore.is_none() && filter.matches(&l.record);
    let all: Vec<Listed> = listing.snapshots.iter().filter(usual).cloned().collect();
    if all.is_empty() {
        return Err(Failure::new(FAILED, "no snapshot matches the host, tags and paths asked for"));
    }
    let chosen = some_of(all, count)?.into_iter();
    Ok(chosen.map(|snapshot| Target { snapshot, path: None, by_latest: false }).collect())
}

fn would(
    context: &Context,
    reader: &Reader,
    targets: &[Target],
    options: &dyn Fn(&Target) -> Options,
) -> Outcome {
    let mut paper = context.output.paper();
    for target in targets {
        let options = options(target);
        let room = room(reader, &target.snapshot, &options)?;
        if context.output.json {
            let message = Message::new("drill").with("snapshot_id", target.snapshot.record.id.as_str());
            paper.json(&message.with("dry_run", true).with("needed", room.needed).with("free", room.free))?;
            continue;
        }
        let (needed, free) = (units::bytes(room.needed), units::bytes(room.free));
        let (id, scratch) = (target.snapshot.id.short(), options.scratch.display());
        paper.line(&format!("would restore snapshot {id}: up to {needed}; {scratch} has {free} free"))?;
    }
    paper.finish()?;
    Ok(0)
}
