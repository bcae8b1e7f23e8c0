//! What `repair packs` says.

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::json::Message;
use crate::cli::output::one_line;
use crate::repair::packs::{PackRepair, PacksReport};
use crate::repair::salvage::Way;
use crate::units;

pub fn page(context: &Context, report: &PacksReport) -> Result<(), Failure> {
    if context.output.json { json(context, report) } else { text(context, report) }
}

fn way(repair: &PackRepair) -> &'static str {
    match (repair.way, repair.saved + repair.elsewhere) {
        (Way::Parity { .. }, _) => "parity",
        (Way::Salvage, 0) => "nothing",
        (Way::Salvage, _) => "salvage",
    }
}

fn json(context: &Context, report: &PacksReport) -> Result<(), Failure> {
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

fn text(context: &Context, report: &PacksReport) -> Result<(), Failure> {
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
