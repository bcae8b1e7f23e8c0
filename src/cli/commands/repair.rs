//! `repair`: put right what can be put right without guessing.

use crate::cli::context::Context;
use crate::cli::failure::{DAMAGED, FAILED, Failure, Outcome, usage};
use crate::cli::json::Message;
use crate::cli::output::one_line;
use crate::cli::terminal::Watch;
use crate::error::{Error, Result as Found};
use crate::format::Folder;
use crate::id::PackId;
use crate::repair::packs::{self, PackRepair, PacksOptions, PacksReport};
use crate::repair::{index, salvage::Way};
use crate::repository::Repository;
use crate::units;

/// Put right what can be put right without guessing
#[derive(clap::Subcommand, Debug)]
pub enum Word {
    /// Throw the local index away and build it anew from the packs
    Index,
    /// Save what is good in damaged packs, from parity where there is enough, and set them aside
    Packs(PacksArgs),
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

pub fn run(context: &Context, word: &Word) -> Outcome {
    match word {
        Word::Index => rebuild(context),
        Word::Packs(args) => mend_packs(context, args),
    }
}

fn rebuild(context: &Context) -> Outcome {
    let repository = context.open()?;
    if context.global.dry_run {
        context.output.say("would throw the local index away and build it anew from the packs")?;
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
                .with("broken_packs", broken.collect::<Vec<_>>()),
        )?;
    } else {
        let packs = units::counted(report.packs, "pack", "packs");
        let chunks = units::counted(report.chunks, "chunk", "chunks");
        context.output.say(&format!("index built: {packs}, {chunks}"))?;
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
    let told = match context.output.json {
        true => packs_json(context, &report),
        false => packs_text(context, &report),
    };
    let code = match (report.repairs.is_empty(), report.unchecked.is_empty()) {
        // What is still to be done, or what could not be saved.
        (false, _) if !report.applied || report.lost() > 0 || report.repairs.iter().any(|r| !r.done()) => {
            DAMAGED
        }
        (_, false) => FAILED,
        _ if report.missing > 0 => DAMAGED,
        _ => 0,
    };
    Ok(context.output.told(told, code))
}

fn way(repair: &PackRepair) -> &'static str {
    match (repair.way, repair.saved + repair.elsewhere) {
        (Way::Parity { .. }, _) => "parity",
        (Way::Salvage, 0) => "nothing",
        (Way::Salvage, _) => "salvage",
    }
}

fn packs_json(context: &Context, report: &PacksReport) -> Result<(), Failure> {
    let repair = |r: &PackRepair| {
        let message = Message::default()
            .with("pack", r.pack.to_string())
            .with("why", r.why.as_str())
            .with("way", way(r))
            .with("gone", r.gone)
            .with("chunks_saved", r.saved)
            .with("chunks_elsewhere", r.elsewhere)
            .with("chunks_lost", r.lost)
            .with("bytes_unreadable", r.unreadable_bytes);
        message.with("left", r.left && !r.gone).value()
    };
    let unchecked = report.unchecked.iter().map(|(pack, why)| {
        Message::default().with("pack", pack.to_string()).with("why", why.as_str()).value()
    });
    let mut message = Message::new("summary")
        .with("applied", report.applied)
        .with("packs_checked", report.checked)
        .with("repairs", report.repairs.iter().map(repair).collect::<Vec<_>>())
        .with("unchecked", unchecked.collect::<Vec<_>>())
        .with("packs_written", report.packs_written)
        .with("bytes_written", report.bytes_written)
        .with("chunks_lost", report.lost())
        .with("chunks_missing", report.missing);
    if let Some(number) = report.condemned {
        message = message.with("condemned_list", number);
    }
    context.output.result(&message)
}

fn packs_text(context: &Context, report: &PacksReport) -> Result<(), Failure> {
    let output = &context.output;
    let mut paper = output.paper();
    for r in &report.repairs {
        let saved = units::counted(r.saved, "chunk", "chunks");
        let from = match (r.way, r.gone) {
            (_, true) => "from parity, the file being gone".to_owned(),
            (Way::Parity { shards }, _) => {
                format!("from parity, {}", units::counted(shards.into(), "damaged shard", "damaged shards"))
            }
            (Way::Salvage, _) => "from its intact frames".to_owned(),
        };
        let verb = if report.applied { "saved" } else { "to save" };
        let lost = if r.lost > 0 { format!(", {} LOST", units::count(r.lost)) } else { String::new() };
        let elsewhere = match r.elsewhere {
            0 => String::new(),
            n => format!(", {} intact elsewhere", units::count(n)),
        };
        paper.line(&format!("pack {}: {}", r.pack, one_line(&r.why)))?;
        paper.line(&format!("  {saved} {verb} {from}{elsewhere}{lost}"))?;
        if r.left && !r.gone {
            paper.line("  left alone: it may be of a later version of snapkeep; update this program")?;
        }
    }
    for (pack, why) in &report.unchecked {
        paper.line(&format!("NOT LOOKED AT: pack {pack}: {}", one_line(why)))?;
    }
    paper.finish()?;
    let packs = units::counted(report.checked, "pack", "packs");
    let damaged = units::counted(report.repairs.len() as u64, "damaged pack", "damaged packs");
    match (report.repairs.is_empty(), report.applied) {
        (true, _) => output.say(&format!("{packs} looked at: no damaged pack, nothing to repair"))?,
        (false, false) => output.say(&format!("{damaged}; nothing was changed: --apply does it"))?,
        (false, true) => {
            let written = units::counted(report.packs_written, "new pack", "new packs");
            let bytes = units::bytes(report.bytes_written);
            output.say(&format!(
                "{damaged} repaired: {written} with {bytes}; `prune` removes the damaged ones"
            ))?;
        }
    }
    if report.lost() > 0 || report.missing > 0 {
        let next = "  next: snapkeep backup the same sources: what they still hold of the lost chunks is stored anew; then \
                    snapkeep repair snapshots for what they do not";
        output.say(next)?;
    }
    Ok(())
}
