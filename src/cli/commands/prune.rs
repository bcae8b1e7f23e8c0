//! `prune`: free what no snapshot needs.

use crate::cli::context::Context;
use crate::cli::failure::{DAMAGED, Failure, LOCKED, Outcome};
use crate::cli::json::Message;
use crate::cli::options::{TrashArgs, duration, size};
use crate::cli::output::segments_line;
use crate::cli::terminal::Watch;
use crate::error::Result;
use crate::gc::{MaxUnused, PruneOptions, PruneReport, run as collect};
use crate::repository::Repository;
use crate::units::{bytes, count, counted};
use std::sync::Arc;
use std::time::Duration;

const EXAMPLES: &str = "\
Backups, restores, checks and other prunes may run at the same time. It may be interrupted at any moment: the next
prune goes on where this one stopped.

  snapkeep prune --dry-run            what would be deleted and rewritten
  snapkeep prune --max-unused 0       free every byte, however much has to be rewritten
  snapkeep prune --max-unused unlimited   only delete, rewrite nothing";

/// Free the space of what no snapshot needs
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    limits: Limits,
    #[command(flatten)]
    trash: TrashArgs,
    /// Go on although far fewer packs or snapshots are there than when this machine last looked
    #[arg(long)]
    accept_shrunk: bool,
    /// Store changed chunks anew that rest on versions no snapshot needs any more, and free those
    #[arg(long)]
    drop_bases: bool,
}

/// How much a collection rewrites and how long it waits.
#[derive(clap::Args, Clone, Debug)]
pub struct Limits {
    /// How much unused space may stay: x% of the repository, SIZE, or unlimited
    #[arg(long, value_name = "LIMIT", default_value = "5%", value_parser = max_unused, help_heading = "Pruning")]
    max_unused: MaxUnused,
    /// Rewrite packs of at most SIZE in all
    #[arg(long, value_name = "SIZE", value_parser = size, help_heading = "Pruning")]
    max_repack_size: Option<u64>,
    /// How long to wait for backups that run now before leaving the deletion to the next prune
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration, help_heading = "Pruning")]
    wait: Duration,
    /// Stop a backup of another machine when prunes saw nothing of it for so long; `never` leaves that to `session evict`
    #[arg(long, value_name = "DURATION", default_value = "7d", value_parser = evict_after, help_heading = "Pruning")]
    evict_after: EvictAfter,
}

/// A duration, or never.
#[derive(Clone, Copy, Debug)]
struct EvictAfter(Option<Duration>);

fn evict_after(text: &str) -> Result<EvictAfter> {
    match text.trim() {
        "never" => Ok(EvictAfter(None)),
        text => duration(text).map(|after| EvictAfter(Some(after))),
    }
}

impl Limits {
    fn options(&self, context: &Context, trash: &TrashArgs) -> PruneOptions {
        PruneOptions {
            max_unused: self.max_unused,
            max_repack: self.max_repack_size,
            level: context.global.compression,
            wait: self.wait,
            evict_after: self.evict_after.0,
            dry_run: context.global.dry_run,
            keep_reserve: true,
            trash: trash.keep(),
            now: context.now(),
            ..PruneOptions::default()
        }
    }
}

fn max_unused(text: &str) -> Result<MaxUnused> {
    let text = text.trim();
    if text == "unlimited" {
        return Ok(MaxUnused::Unlimited);
    }
    if text.ends_with('%') {
        return crate::cli::options::per_cent(text).map(MaxUnused::Percent);
    }
    size(text).map(MaxUnused::Bytes)
}

pub fn run(context: &Context, args: &Args) -> Outcome {
    let repository = context.open()?;
    let options = PruneOptions {
        accept_shrunk: args.accept_shrunk,
        drop_bases: args.drop_bases,
        ..args.limits.options(context, &args.trash)
    };
    collected(context, &repository, &options)
}

/// Prunes an open repository after `forget`, which has just made its listing shorter.
pub fn after(context: &Context, repository: &Arc<Repository>, limits: &Limits, trash: &TrashArgs) -> Outcome {
    collected(context, repository, &limits.options(context, trash))
}

fn collected(context: &Context, repository: &Arc<Repository>, options: &PruneOptions) -> Outcome {
    // Backups may run beside it, and somebody waits for those.
    crate::os::process::give_way();
    let mut watch = Watch::start(context);
    let done = collect(repository, options, &watch.progress, &watch.report);
    watch.finish();
    let done = done?;
    let told = match context.output.json {
        true => context.output.result(&summary(&done, options.dry_run)),
        false => text(context, &done),
    };
    let code = match (done.waiting_packs > 0, done.unreadable.is_empty()) {
        (_, false) => DAMAGED,
        (true, true) => LOCKED,
        (false, true) => 0,
    };
    Ok(context.output.told(told, code))
}

fn text(context: &Context, done: &PruneReport) -> std::result::Result<(), Failure> {
    let output = &context.output;
    let plan = &done.plan;
    let packs = |n: usize| counted(n as u64, "pack", "packs");
    let dry = context.global.dry_run;
    if plan.packs_before > 0 {
        let unused = bytes(plan.unused_before);
        output.say(&format!(
            "{} in {}, {unused} of it unused; {} of {} chunks used",
            bytes(plan.bytes_before),
            counted(plan.packs_before, "pack", "packs"),
            count(plan.chunks_used),
            count(plan.chunks_before)
        ))?;
    }
    if !plan.drop.is_empty() {
        let word = if dry { "would delete" } else { "to delete" };
        output.say(&format!("{word}: {}, {}", packs(plan.drop.len()), bytes(plan.bytes_dropped)))?;
    }
    if !plan.repack.is_empty() {
        let word = if dry { "would rewrite" } else { "to rewrite" };
        let freed = bytes(plan.bytes_repacked_dead);
        let size = bytes(plan.bytes_repacked);
        output.say(&format!("{word}: {}, {size}, which frees about {freed}", packs(plan.repack.len())))?;
    }
    if plan.packs_of_sessions > 0 {
        let left = counted(plan.packs_of_sessions, "pack", "packs");
        output.say(&format!("left alone: {left} of backups that are running"))?;
    }
    for (pack, why) in &done.unreadable {
        output.say(&format!("left alone: pack {pack} cannot be read: {why}; run `check`"))?;
    }
    if dry {
        return output.say("nothing was changed");
    }
    finished(context, done)
}

fn finished(context: &Context, done: &PruneReport) -> std::result::Result<(), Failure> {
    let output = &context.output;
    if done.expired > 0 {
        let snapshots = counted(done.expired, "snapshot", "snapshots");
        output.say(&format!("emptied the trash of {snapshots}"))?;
    }
    for session in &done.evicted {
        output
            .say(&format!("evicted {session}: nothing was seen of it for too long, so it commits nothing"))?;
    }
    if done.short_of_space {
        output.say("the disk was full: whole packs were deleted first")?;
    }
    if done.rescued > 0 {
        let chunks = counted(done.rescued, "chunk", "chunks");
        output.say(&format!("{chunks} kept that a backup came to need meanwhile"))?;
    }
    if done.rebased > 0 {
        let chunks = counted(done.rebased, "changed chunk", "changed chunks");
        output.say(&format!("{chunks} stored whole, so that older versions can go"))?;
    }
    if done.unfinished_removed > 0 {
        let files = counted(done.unfinished_removed, "unfinished file", "unfinished files");
        output.say(&format!("removed {files} of runs that were cut short"))?;
    }
    if done.unfinished_left > 0 {
        let files = counted(done.unfinished_left, "unfinished file", "unfinished files");
        output.say(&format!("left alone: {files} (`tmp-…`) that somebody may be writing"))?;
    }
    if let Some(line) = segments_line(&done.segments) {
        output.say(&line)?;
    }
    if done.deleted_packs == 0 && done.waiting_packs == 0 {
        return output.say("nothing to free");
    }
    if done.deleted_packs > 0 {
        let freed = bytes(done.deleted_bytes.saturating_sub(done.written_bytes));
        let written = match done.written_bytes {
            0 => String::new(),
            n => format!(", {} written anew", bytes(n)),
        };
        let deleted = counted(done.deleted_packs, "pack", "packs");
        output.say(&format!("freed {freed}: {deleted} deleted{written}"))?;
    }
    if done.waiting_packs > 0 {
        let packs = counted(done.waiting_packs, "pack", "packs");
        let size = bytes(done.waiting_bytes);
        output.say(&format!("{packs} ({size}) wait to be deleted until these have ended:"))?;
        for session in &done.waiting_for {
            output.say(&format!("  {session}"))?;
        }
        output.say("run prune again later; `session evict ID` stops a backup that is dead, and a prune does so by itself")?;
        output.say("for one of another machine of which nothing was seen for days (--evict-after)")?;
    }
    Ok(())
}

fn summary(done: &PruneReport, dry_run: bool) -> Message {
    let plan = &done.plan;
    let blobs = Message::default()
        .with("total", plan.chunks_before)
        .with("used", plan.chunks_used)
        .with("unused", plan.chunks_before - plan.chunks_used)
        .with("remove", plan.chunks_dropped)
        .with("repack", plan.chunks_repacked_live + plan.chunks_repacked_dead)
        .with("repackrm", plan.chunks_repacked_dead)
        .with("rescued", done.rescued)
        .with("rebased", done.rebased);
    let sizes = Message::default()
        .with("total", plan.bytes_before)
        .with("unused", plan.unused_before)
        .with("remove", plan.bytes_dropped)
        .with("repack", plan.bytes_repacked)
        .with("repackrm", plan.bytes_repacked_dead)
        .with("unused_after", plan.unused_after)
        .with("deleted", done.deleted_bytes)
        .with("written", done.written_bytes)
        .with("waiting", done.waiting_bytes);
    let unreadable = done
        .unreadable
        .iter()
        .map(|(id, why)| Message::default().with("pack", id.to_string()).with("why", why.as_str()).value());
    let packs = Message::default()
        .with("total", plan.packs_before)
        .with("remove", plan.drop.len())
        .with("repack", plan.repack.len())
        .with("of_sessions", plan.packs_of_sessions)
        .with("deleted", done.deleted_packs)
        .with("resumed", done.resumed)
        .with("waiting", done.waiting_packs);
    Message::new("summary")
        .with("dry_run", dry_run)
        .with("blobs", blobs.value())
        .with("bytes", sizes.value())
        .with("packfiles", packs.value())
        .with("unreadable_packs", unreadable.collect::<Vec<_>>())
        .with("expired_snapshots", done.expired)
        .with("segments_written", done.segments.filed.segments)
        .with("segments_removed", done.segments.removed)
        .with("waiting_for", done.waiting_for.clone())
        .with("evicted_sessions", done.evicted.clone())
        .with("short_of_space", done.short_of_space)
}
