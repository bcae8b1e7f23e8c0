//! `undo`: take a restore over what was there back.

use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome, usage};
use crate::cli::in_place::{Job, StageArgs, SureArgs, may_ask};
use crate::cli::json::Message;
use crate::clock::Timestamp;
use crate::codes::Code;
use crate::format::snapshot::BeforeRestore;
use crate::in_place::{OVERWRITE, Part, parts};
use crate::os::process::host_name;
use crate::repository::Repository;
use crate::repository::restores::settle;
use crate::repository::snapshots::{Listed, Listing, SnapshotFilter, decode_path, list, resolve};
use crate::restore::RestoreOptions;

const EXAMPLES: &str = "\
Examples:
  snapkeep undo --list
  snapkeep undo
  snapkeep undo 1a2b3c4d --dry-run

An undo makes a safety snapshot of its own first, so that it can be taken back in the same way.";

/// Put back what stood there before a `restore --in-place`
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The safety snapshot [default: the newest of this host]
    #[arg(value_name = "ID")]
    id: Option<String>,
    /// List what can be taken back, and do nothing
    #[arg(long)]
    list: bool,
    /// Take nothing back: what is there now is right, though the restore did not end well
    #[arg(long, conflicts_with_all = ["list", "no_stage"])]
    accept: bool,
    #[command(flatten)]
    sure: SureArgs,
    /// Put each file in place as soon as it is written, without writing all of them beside it first
    #[arg(long)]
    no_stage: bool,
}

pub fn run(context: &Context, args: &Args) -> Outcome {
    if !args.list && !args.accept {
        may_ask(context, args.sure)?;
    }
    let repository = context.open()?;
    let listing = list(&repository)?;
    if args.list {
        return tell(context, &listing);
    }
    let safety = chosen(&listing, args.id.as_deref(), context.now())?;
    let Some(before) = &safety.record.before_restore else {
        let what = format!(
            "snapshot {} was not made before a restore; `undo --list` shows those that were, and `restore {} --in-place` \
             puts this one back",
            safety.id.short(),
            safety.id.short()
        );
        return Err(Failure::usage(what));
    };
    if args.accept {
        return accept(context, &repository, safety);
    }
    let restored = listing.snapshots.iter().find(|l| l.record.id == before.from);
    if restored.is_none() && !before.from.is_empty() {
        let what = format!(
            "the snapshot {} that was put back is gone: what it added cannot be told from what came later, and stays",
            before.from.get(..8).unwrap_or(&before.from)
        );
        context.output.warn(Code::RestoredGone, &what);
    }
    let options = RestoreOptions {
        includes: before.includes.clone(),
        iincludes: before.iincludes.clone(),
        excludes: before.excludes.clone(),
        iexcludes: before.iexcludes.clone(),
        overwrite: OVERWRITE,
        verify: true,
        ..RestoreOptions::default()
    };
    let parts = before.paths.iter().map(|path| part(path, restored)).collect();
    let (sure, undone) = (args.sure, Some(restored));
    let from = safety;
    let (repository, listing) = (&repository, &listing);
    let care = StageArgs { no_stage: args.no_stage, no_rules: true, or_without: false };
    Job { context, repository, listing, from, parts, options, sure, undone, care }.run()
}

/// From now on nothing warns of what that restore left.
fn accept(context: &Context, repository: &Repository, safety: &Listed) -> Outcome {
    if !context.global.dry_run {
        settle(repository, safety.id, context.now())?;
    }
    if context.output.json {
        let message = Message::new("accepted").with("snapshot_id", safety.record.id.as_str());
        context.output.result(&message)?;
        return Ok(0);
    }
    let id = safety.id.short();
    context.output.say(&format!("what is there is accepted; `snapkeep undo {id}` can still take it back"))?;
    Ok(0)
}

/// Where a path goes: by the sources of the snapshot that was put back, as far as they tell.
fn part(path: &str, restored: Option<&Listed>) -> Part {
    let below = decode_path(path.trim_start_matches('/'));
    let known =
        restored.and_then(|l| parts(&l.record, &below).ok()).and_then(|parts| parts.into_iter().next());
    match known {
        Some(part) if part.below == below => part,
        _ => {
            let cut = below.iter().rposition(|&b| b == b'/').unwrap_or(0);
            Part { base: below[..cut].to_vec(), below }
        }
    }
}

fn chosen<'l>(listing: &'l Listing, id: Option<&str>, now: Timestamp) -> Result<&'l Listed, Failure> {
    let nothing = || Failure::usage("there is nothing to undo: no restore --in-place was made on this host");
    match id {
        Some(id) => {
            let found = resolve(listing, id, &SnapshotFilter::default(), now).map_err(usage)?;
            listing.snapshots.iter().find(|l| l.id == found.id).ok_or_else(nothing)
        }
        None => {
            let host = host_name();
            let made = |l: &&Listed| l.record.before_restore.is_some() && l.record.hostname == host;
            listing.snapshots.iter().filter(made).max_by_key(|l| order(l)).ok_or_else(nothing)
        }
    }
}

/// Of different series, only the clock tells which came later.
fn order(listed: &Listed) -> (i64, u64) {
    (listed.record.order_time, listed.record.sequence)
}

fn tell(context: &Context, listing: &Listing) -> Outcome {
    let mut made: Vec<(&Listed, &BeforeRestore)> =
        listing.snapshots.iter().filter_map(|l| Some((l, l.record.before_restore.as_ref()?))).collect();
    made.sort_by_key(|(l, _)| order(l));
    if context.output.json {
        let mut paper = context.output.paper();
        for (listed, before) in &made {
            paper.json(
                &Message::new("undoable")
                    .with("snapshot_id", listed.record.id.as_str())
                    .with("time", listed.record.time.as_str())
                    .with("hostname", listed.record.hostname.as_str())
                    .with("label", listed.record.label.as_deref())
                    .with("snapshot_restored", before.from.as_str())
                    .with("paths", before.paths.clone())
                    .with("undo", before.undo)
                    .with("settled", settled(listing, listed, before)),
            )?;
        }
        paper.finish()?;
        return Ok(0);
    }
    if made.is_empty() {
        context.output.say("there is nothing to undo")?;
        return Ok(0);
    }
    let mut paper = context.output.paper();
    for (listed, before) in &made {
        let label = listed.record.label.as_deref().unwrap_or_default();
        let (time, host) = (&listed.record.time, &listed.record.hostname);
        let end = if settled(listing, listed, before) { "" } else { "  NOT COMPLETED, or under way" };
        paper.line(&format!("{}  {time}  {host}  {label}{end}", listed.id.short()))?;
    }
    paper.finish()?;
    Ok(0)
}

/// Whether what the restore left is no mixture, as far as notes say; older ones say nothing.
fn settled(listing: &Listing, listed: &Listed, before: &BeforeRestore) -> bool {
    !before.end_noted || listing.settled.contains(&listed.id)
}
