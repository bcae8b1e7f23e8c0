//! `repair`: put right what can be put right without guessing.

use crate::cli::context::Context;
use crate::cli::failure::{DAMAGED, Failure, Outcome};
use crate::cli::json::Message;
use crate::cli::terminal::Watch;
use crate::repair::index;
use crate::units;

/// Put right what can be put right without guessing
#[derive(clap::Subcommand, Debug)]
pub enum Word {
    /// Throw the local index away and build it anew from the packs
    Index,
}

pub fn run(context: &Context, word: &Word) -> Outcome {
    match word {
        Word::Index => rebuild(context),
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
