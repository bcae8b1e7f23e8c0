//! `check`: is everything there, and is it what it was.

use crate::check::damage::Damage;
use crate::check::subset::Subset;
use crate::check::{CheckOptions, CheckReport, run as check};
use crate::cli::context::Context;
use crate::cli::failure::{DAMAGED, FAILED, Failure, Outcome};
use crate::cli::json::Message;
use crate::cli::names::shown;
use crate::cli::options::{duration, per_cent};
use crate::cli::output::one_line;
use crate::cli::terminal::Watch;
use crate::codes::Code;
use crate::format::snapshot::CheckDone;
use crate::os::process::host_name;
use crate::repository::{Repository, checks};
use crate::units;
use std::time::{Duration, Instant};

/// Findings written down in the repository.
const REASONS_KEPT: usize = 5;
/// Files listed with one finding.
const FILES_SHOWN: usize = 10;

/// Check that everything is there and fits together
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Read every byte too
    #[arg(long)]
    read_data: bool,
    /// Read a part: n/t for the n-th of t, x% or SIZE at random
    #[arg(long, value_name = "PART", value_parser = Subset::parse)]
    read_data_subset: Option<Subset>,
    /// Begin no further reading after this long
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    max_duration: Option<Duration>,
    /// Do not read again what this machine found good within this time
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    max_age: Option<Duration>,
    /// When reading data: put this share of the large files together and compare their hashes
    #[arg(long, value_name = "PERCENT", default_value = "1", value_parser = per_cent)]
    verify_files: f64,
}

pub fn run(context: &Context, args: &Args) -> Outcome {
    let read_data = match (args.read_data, args.read_data_subset) {
        (true, Some(_)) => return Err(Failure::usage("give either --read-data or --read-data-subset")),
        (true, None) => Some(Subset::All),
        (false, subset) => subset,
    };
    let limited = args.max_duration.is_some() || args.max_age.is_some();
    if limited && read_data.is_none() {
        return Err(Failure::usage("--max-duration and --max-age need --read-data or --read-data-subset"));
    }
    let options = CheckOptions {
        read_data,
        verify_files_percent: args.verify_files,
        max_duration: args.max_duration,
        max_age: args.max_age,
        now: context.now(),
        ..CheckOptions::default()
    };
    let repository = context.open()?;
    let begun = Instant::now();
    let mut watch = Watch::start(context);
    let report = check(&repository, &options, &watch.progress, &watch.report);
    watch.finish();
    let report = report?;
    for note in &report.information {
        context.output.log("info", &note.text);
    }
    write_down(context, &repository, &report, begun.elapsed());
    let told = match context.output.json {
        true => context.output.result(&summary(&report)),
        false => text(context, &report),
    };
    let code = match (report.damage.is_empty(), report.unchecked.is_empty()) {
        (false, _) => DAMAGED,
        (true, false) => FAILED,
        (true, true) => 0,
    };
    Ok(context.output.told(told, code))
}

/// What came of it is for `health`, on whatever machine; a check of what cannot be written to is worth having all the same.
fn write_down(context: &Context, repository: &Repository, report: &CheckReport, took: Duration) {
    if context.global.dry_run {
        return;
    }
    let found = report.damage.iter().map(|damage| one_line(&damage.to_string()));
    let unseen = report.unchecked.iter().map(|file| format!("{}: {}", file.what, one_line(&file.why)));
    let done = CheckDone {
        passed: report.num_errors() == 0,
        host: host_name(),
        damage: report.damage.len() as u64,
        unchecked: report.unchecked.len() as u64,
        read_data: report.packs_read + report.packs_fresh > 0,
        // What was repaired elsewhere and waits for a collector is nothing to be read.
        packs: report.packs - report.packs_condemned,
        packs_read: report.packs_read,
        packs_fresh: report.packs_fresh,
        packs_left: report.packs_left,
        bytes_read: report.bytes_read,
        total_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        reasons: found.chain(unseen).take(REASONS_KEPT).collect(),
    };
    if let Err(e) = checks::record(repository, &done, context.now()) {
        let what = format!("the result could not be recorded in the repository: {e}");
        context.output.warn(Code::ResultNotRecorded, &what);
    }
}

fn text(context: &Context, report: &CheckReport) -> Result<(), Failure> {
    let output = &context.output;
    let snapshots = units::counted(report.snapshots, "snapshot", "snapshots");
    let packs = units::counted(report.packs, "pack", "packs");
    output.say(&format!(
        "checked {snapshots}, {} entries, {packs} with {}",
        units::count(report.entries),
        units::bytes(report.pack_bytes)
    ))?;
    if report.packs_read > 0 {
        let read = units::counted(report.packs_read, "pack", "packs");
        output.say(&format!("  read: {read}, {}", units::bytes(report.bytes_read)))?;
    }
    for (count, what) in [(report.packs_fresh, "read lately"), (report.packs_left, "left for the next time")]
    {
        if count > 0 {
            output.say(&format!("  {what}: {}", units::counted(count, "pack", "packs")))?;
        }
    }
    for note in &report.information {
        output.say(&format!("  note: {}", one_line(&note.text)))?;
    }
    let mut paper = output.paper();
    for damage in &report.damage {
        paper.line(&format!("DAMAGE: {}", one_line(&damage.to_string())))?;
        for file in damage.files.iter().take(FILES_SHOWN) {
            paper.line(&format!("    {} {}", file.snapshot.short(), shown(&file.path)))?;
        }
        let more = damage.files_total.saturating_sub(FILES_SHOWN as u64);
        if more > 0 {
            paper.line(&format!("    and {} more", units::count(more)))?;
        }
    }
    for file in &report.unchecked {
        paper.line(&format!("NOT CHECKED: {}: {}", file.what, one_line(&file.why)))?;
    }
    paper.finish()?;
    if report.num_errors() == 0 {
        output.say("no damage found")?;
    }
    Ok(())
}

fn finding(damage: &Damage) -> Message {
    Message::default()
        .with("code", damage.kind.code())
        .with("what", damage.what.as_str())
        .with("detail", damage.detail.as_str())
        .with("more", damage.more)
        .with("chunks", damage.chunks)
        .with("files_total", damage.files_total)
        .with("mendable", damage.mendable)
        .with("snapshots_lost", damage.lost.iter().map(ToString::to_string).collect::<Vec<_>>())
        .with("next", damage.next.as_str())
}

fn summary(report: &CheckReport) -> Message {
    let names = |ids: Vec<crate::id::Name>| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    let files: Vec<_> = report.damaged_files();
    let files = files.iter().map(|f| {
        let message = Message::default().with("snapshot", f.snapshot.to_string());
        message.with_path("path", "path_b64", &[b"/", f.path.as_slice()].concat()).value()
    });
    let unchecked = report
        .unchecked
        .iter()
        .map(|u| Message::default().with("what", u.what.as_str()).with("why", u.why.as_str()).value());
    let notes = report
        .information
        .iter()
        .map(|i| Message::default().with("code", i.code).with("message", i.text.as_str()).value());
    Message::new("summary")
        .with("num_errors", report.num_errors())
        .with("broken_packs", names(report.broken_packs()))
        .with("damaged_snapshots", names(report.damaged_snapshots()))
        .with("damaged_files", files.collect::<Vec<_>>())
        .with("damage", report.damage.iter().map(|d| finding(d).value()).collect::<Vec<_>>())
        .with("unchecked", unchecked.collect::<Vec<_>>())
        .with("notes", notes.collect::<Vec<_>>())
        .with("snapshots", report.snapshots)
        .with("packs", report.packs)
        .with("packs_read", report.packs_read)
        .with("packs_fresh", report.packs_fresh)
        .with("packs_left", report.packs_left)
        .with("bytes_read", report.bytes_read)
        .with("chunks_read", report.chunks_read)
        .with("parity", report.parity)
        .with("parity_read", report.parity_read)
        .with("segments", report.segments)
        .with("files_verified", report.files_verified)
}
