//! `stats`: how much there is.

use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome, usage};
use crate::cli::json::Message;
use crate::cli::options::{FilterArgs, snapshots_named};
use crate::cli::terminal::Watch;
use crate::format::Folder;
use crate::repository::snapshots::list;
use crate::stats::{Mode, Stats, run as count};
use crate::units;

/// Count what snapshots hold and what the repository takes
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Only these snapshots
    #[arg(value_name = "SNAP")]
    snapshots: Vec<String>,
    #[command(flatten)]
    filter: FilterArgs,
    /// restore-size, raw-data or blobs-per-file
    #[arg(long, value_name = "WHAT", default_value = "raw-data", value_parser = Mode::parse)]
    mode: Mode,
}

pub fn run(context: &Context, args: &Args) -> Outcome {
    let filter = args.filter.filter().map_err(usage)?;
    let repository = context.open()?;
    let chosen = snapshots_named(&list(&repository)?, &args.snapshots, &filter, context.now())?;
    let mut watch = Watch::beside_results(context);
    let stats = count(&repository, &chosen, args.mode, &watch.progress);
    watch.finish();
    let stats = stats?;
    if context.output.json {
        context.output.result(&json(&stats))?;
    } else {
        text(context, &stats)?;
    }
    Ok(0)
}

fn json(stats: &Stats) -> Message {
    Message::default()
        .with("snapshots_count", stats.snapshots_count)
        .with("total_size", stats.total_size)
        .with("total_file_count", stats.total_file_count)
        .with("total_blob_count", stats.total_blob_count)
        .with("blob_references", stats.blob_references)
        .with("total_uncompressed_size", stats.unique_size)
        .with("total_stored_size", stats.unique_stored)
        .with("repository_bytes", stats.repository_bytes)
        .with("packs", stats.packs)
        .with("segment_bytes", stats.bytes_in(Folder::Index))
        .with("compression_ratio", stats.compression_ratio)
        .with("dedup_ratio", stats.dedup_ratio)
        .with("overhead_bytes", stats.overhead)
        .with("unused_bytes", stats.unused)
}

fn text(context: &Context, stats: &Stats) -> Result<(), Failure> {
    let mut paper = context.output.paper();
    let mut line = |what: &str, value: String| paper.line(&format!("{what:<22} {value}"));
    line("Snapshots:", units::count(stats.snapshots_count))?;
    line("Files and directories:", units::count(stats.total_file_count))?;
    line("Size when restored:", units::bytes(stats.total_size))?;
    if stats.total_blob_count > 0 {
        line("Unique chunks:", units::count(stats.total_blob_count))?;
        line("  before compression:", units::bytes(stats.unique_size))?;
        line("  as stored:", units::bytes(stats.unique_stored))?;
    }
    for (what, ratio) in [("Compression:", stats.compression_ratio), ("Deduplication:", stats.dedup_ratio)] {
        if let Some(ratio) = ratio {
            line(what, format!("{ratio:.2} to 1"))?;
        }
    }
    line("Repository:", format!("{} in {}", units::bytes(stats.repository_bytes), packs(stats)))?;
    if stats.bytes_in(Folder::Index) > 0 {
        line("  index segments:", units::bytes(stats.bytes_in(Folder::Index)))?;
    }
    if stats.unused > 0 {
        line("  not in use:", units::bytes(stats.unused))?;
    }
    paper.finish()
}

fn packs(stats: &Stats) -> String {
    units::counted(stats.packs, "pack", "packs")
}
