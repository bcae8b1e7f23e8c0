//! `repair`: put right what can be put right without guessing.

use crate::cli::context::Context;
use crate::cli::failure::{DAMAGED, FAILED, Failure, Outcome, usage};
use crate::cli::json::Message;
use crate::cli::options::{FilterArgs, parity as share};
use crate::cli::output::{one_line, segments_line};
use crate::cli::repairs::{packs as packs_page, snapshots as snapshots_page};
use crate::cli::terminal::Watch;
use crate::error::{Error, Result as Found};
use crate::format::Folder;
use crate::format::snapshot::SessionInfo;
use crate::id::{PackId, SnapshotId};
use crate::os::process;
use crate::repair::index;
use crate::repair::packs::{self, PacksOptions};
use crate::repair::parity::{self, ParityOptions, ParityReport};
use crate::repair::snapshots::{self, SnapshotsOptions};
use crate::repository::Repository;
use crate::repository::snapshots::{list, resolve};
use crate::units;

/// Put right what can be put right without guessing
#[derive(clap::Subcommand, Debug)]
pub enum Word {
    /// Throw the local index away and build it anew from the packs; remove damaged index segments
    Index,
    /// Save what is good in damaged packs, from parity where there is enough, and set them aside
    Packs(PacksArgs),
    /// Put records right from their second copies, and make new snapshots of what is left of damaged ones
    Snapshots(SnapshotsArgs),
    /// Make, replace or remove the parity that damaged packs are mended with
    Parity(ParityArgs),
}

/// Save what is good in damaged packs
#[derive(clap::Args, Debug)]
pub struct PacksArgs {
    /// Packs, by their names or what these begin with; without any, every byte is read to find the damaged ones
    #[arg(value_name = "PACK")]
    packs: Vec<String>,
    /// Do it; without this, only say what would be done
    #[arg(long)]
    apply: bool,
}

/// Make new snapshots of what is left of damaged ones
#[derive(clap::Args, Debug)]
pub struct SnapshotsArgs {
    /// Snapshots; all when none is named
    #[arg(value_name = "SNAP")]
    snapshots: Vec<String>,
    /// Keep damaged files as NAME.damaged, with holes for what is lost; otherwise they are left out
    #[arg(long)]
    salvage: bool,
    /// Read every chunk too, and not only look it up
    #[arg(long)]
    read_data: bool,
    /// Do it; without this, only say what would be done
    #[arg(long)]
    apply: bool,
}

/// Make, replace or remove parity
#[derive(clap::Args, Debug)]
pub struct ParityArgs {
    /// Parity from now on, for old packs too: per cent, or off
    #[arg(long, value_name = "PERCENT", value_parser = share)]
    percent: Option<u32>,
    /// Do it; without this, only say what would be done
    #[arg(long)]
    apply: bool,
}

pub fn run(context: &Context, word: &Word) -> Outcome {
    match word {
        Word::Index => rebuild(context),
        Word::Packs(args) => mend_packs(context, args),
        Word::Snapshots(args) => mend_snapshots(context, args),
        Word::Parity(args) => mend_parity(context, args),
    }
}

fn rebuild(context: &Context) -> Outcome {
    let repository = context.open()?;
    if context.global.dry_run {
        context.output.say(
            "would throw the local index away, build it anew from the packs, and put index segments in order",
        )?;
        return Ok(0);
    }
    let mut watch = Watch::start(context);
    let report = index::run(&repository, &watch.progress, &watch.report);
    watch.finish();
    let report = report?;
    let told = page(context, &report);
    Ok(context.output.told(told, if report.unindexed.is_empty() { 0 } else { DAMAGED }))
}

fn page(context: &Context, report: &index::IndexReport) -> Result<(), Failure> {
    if context.output.json {
        let broken = report.unindexed.iter().map(|u| {
            let message = Message::default().with("pack", u.pack.to_string()).with("why", u.why.as_str());
            message.with("next", u.next.as_str()).value()
        });
        context.output.result(
            &Message::new("summary")
                .with("removed", report.removed)
                .with("packs", report.packs)
                .with("chunks", report.chunks)
                .with("segments_written", report.segments.filed.segments)
                .with("segments_removed", report.segments.removed)
                .with("broken_packs", broken.collect::<Vec<_>>()),
        )?;
    } else {
        let packs = units::counted(report.packs, "pack", "packs");
        let chunks = units::counted(report.chunks, "chunk", "chunks");
        context.output.say(&format!("index built: {packs}, {chunks}"))?;
        if let Some(line) = segments_line(&report.segments) {
            context.output.say(&line)?;
        }
        for unindexed in &report.unindexed {
            context.output.say(&format!("  next: {}", unindexed.next))?;
        }
    }
    Ok(())
}

/// The packs meant by names or their beginnings, with or without the folders in front.
fn named(repository: &Repository, texts: &[String]) -> Found<Vec<PackId>> {
    let listed = repository.backend().list(Folder::Packs)?;
    let mut packs = Vec::new();
    for text in texts {
        let prefix = text.rsplit('/').next().unwrap_or(text);
        let mut found = listed.iter().filter(|stat| stat.name.header_name().to_string().starts_with(prefix));
        let one = match (found.next(), found.next()) {
            (Some(one), None) if prefix.len() >= 4 => one.name.header_name(),
            (None, _) => return Err(Error::invalid(format!("no pack begins with `{text}`"))),
            _ => {
                let what = format!("`{text}` does not name exactly one pack; use more digits");
                return Err(Error::invalid(what));
            }
        };
        if !packs.contains(&one) {
            packs.push(one);
        }
    }
    Ok(packs)
}

fn mend_packs(context: &Context, args: &PacksArgs) -> Outcome {
    let repository = context.open()?;
    let options = PacksOptions {
        packs: named(&repository, &args.packs).map_err(usage)?,
        apply: args.apply && !context.global.dry_run,
        now: context.now(),
    };
    let mut watch = Watch::start(context);
    let report = packs::run(&repository, &options, &watch.progress, &watch.report);
    watch.finish();
    let report = report?;
    let told = packs_page::page(context, &report);
    let open = |r: &packs::PackRepair| !report.applied || !r.done();
    let code = match report.unchecked.is_empty() {
        // What is still to be done, or what could not be saved.
        _ if report.missing > 0 || report.repairs.iter().any(open) => DAMAGED,
        false => FAILED,
        true => 0,
    };
    Ok(context.output.told(told, code))
}

fn mend_snapshots(context: &Context, args: &SnapshotsArgs) -> Outcome {
    let repository = context.open()?;
    let now = context.now();
    let info = SessionInfo {
        host: process::host_name(),
        pid: std::process::id(),
        boot_id: process::boot_id().unwrap_or_default(),
        started: now.rfc3339(),
        program: concat!("snapkeep ", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    let options = SnapshotsOptions {
        snapshots: chosen(context, &repository, &args.snapshots)?,
        salvage: args.salvage,
        read_data: args.read_data,
        apply: args.apply && !context.global.dry_run,
        now,
        info,
    };
    let mut watch = Watch::start(context);
    let report = snapshots::run(&repository, &options, &watch.progress, &watch.report);
    watch.finish();
    let report = report?;
    let told = snapshots_page::page(context, &report);
    let code = match (report.is_hopeless(), report.applied || report.is_idle()) {
        (true, _) | (_, false) => DAMAGED,
        (false, true) => 0,
    };
    Ok(context.output.told(told, code))
}

fn chosen(context: &Context, repository: &Repository, texts: &[String]) -> Result<Vec<SnapshotId>, Failure> {
    let mut ids = Vec::new();
    if !texts.is_empty() {
        let listing = list(repository)?;
        let filter = FilterArgs::default().filter().map_err(usage)?;
        for text in texts {
            let id = resolve(&listing, text, &filter, context.now())?.id;
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
    }
    Ok(ids)
}

fn mend_parity(context: &Context, args: &ParityArgs) -> Outcome {
    let repository = context.open()?;
    let options = ParityOptions {
        percent: args.percent,
        apply: args.apply && !context.global.dry_run,
        now: context.now(),
    };
    let mut watch = Watch::start(context);
    let report = parity::run(&repository, &options, &watch.progress);
    watch.finish();
    let report = report?;
    let told = parity_page(context, &report);
    Ok(context.output.told(told, if report.hurt.is_empty() { 0 } else { DAMAGED }))
}

fn parity_page(context: &Context, report: &ParityReport) -> Result<(), Failure> {
    if context.output.json {
        let hurt = report.hurt.iter().map(|(pack, why)| {
            Message::default().with("pack", pack.to_string()).with("why", why.as_str()).value()
        });
        return context.output.result(
            &Message::new("summary")
                .with("applied", report.applied)
                .with("percent_before", report.before)
                .with("percent", report.after)
                .with("packs", report.packs)
                .with("sound", report.sound)
                .with("missing", report.missing)
                .with("damaged", report.damaged)
                .with("other", report.other)
                .with("removed", report.removed)
                .with("bytes_written", report.bytes_written)
                .with("broken_packs", hurt.collect::<Vec<_>>()),
        );
    }
    let output = &context.output;
    for (pack, why) in &report.hurt {
        output.say(&format!("pack {pack} is damaged itself: {}", one_line(why)))?;
        output.say("  next: snapkeep repair packs --apply")?;
    }
    let packs = units::counted(report.packs, "pack", "packs");
    if report.is_idle() {
        let what = match report.after {
            0 => "no parity is wanted here: --percent 3 asks for it".to_owned(),
            _ => format!("{} with sound parity, nothing to do", units::count(report.sound)),
        };
        return output.say(&format!("{packs}: {what}"));
    }
    if report.before != report.after {
        output.say(&format!("parity: {} % before, {} % from now on", report.before, report.after))?;
    }
    let made = report.missing + report.damaged + report.other;
    output.say(&format!(
        "{packs}: {} without parity, {} with damaged parity, {} with more or less than wanted",
        units::count(report.missing),
        units::count(report.damaged),
        units::count(report.other)
    ))?;
    match report.applied {
        true => output.say(&format!(
            "made parity for {}, {}; removed {}",
            units::counted(made, "pack", "packs"),
            units::bytes(report.bytes_written),
            units::count(report.removed)
        )),
        false => output.say(&format!(
            "would make parity for {} and remove {}; nothing was changed: --apply does it",
            units::counted(made, "pack", "packs"),
            units::count(report.removed)
        )),
    }
}
