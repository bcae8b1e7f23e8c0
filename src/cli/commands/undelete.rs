//! `undelete`: snapshots back from the trash.

use crate::cli::context::Context;
use crate::cli::failure::{Outcome, usage};
use crate::cli::json::Message;
use crate::cli::options::FilterArgs;
use crate::cli::terminal::Watch;
use crate::codes::Code;
use crate::forget::undelete::{Undeleted, look, resolve, run as undelete};
use crate::repository::snapshots::list;
use crate::repository::trash::Forgotten;

const EXAMPLES: &str = "\
Examples:
  snapkeep snapshots --trash
  snapkeep undelete 1a2b3c4d
  snapkeep undelete latest --path ~/app

A snapshot comes back under a new id, with its time, tags, label and pin. It is committed only after everything
it needs has been found present.";

/// Bring forgotten snapshots back from the trash
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Snapshots in the trash: ids (4 or more digits), or `latest` where there is only one series
    #[arg(value_name = "ID", required = true)]
    snapshots: Vec<String>,
    #[command(flatten)]
    filter: FilterArgs,
}

pub fn run(context: &Context, args: &Args) -> Outcome {
    let filter = args.filter.filter().map_err(usage)?;
    let repository = context.open()?;
    let listing = list(&repository)?;
    let mut chosen: Vec<&Forgotten> = Vec::new();
    for text in &args.snapshots {
        let gone = resolve(&listing, text, &filter)?;
        if !chosen.iter().any(|c| c.listed.id == gone.listed.id) {
            chosen.push(gone);
        }
    }
    let host = crate::os::process::host_name();
    let mut code = 0;
    for gone in chosen {
        let mut watch = Watch::beside_results(context);
        if context.global.dry_run {
            let looked = look(&repository, gone, &watch.progress);
            watch.finish();
            looked?;
            context.output.say(&format!("would bring back snapshot {}", gone.listed.id.short()))?;
            continue;
        }
        let back = context.patiently(|| undelete(&repository, gone, &host, &context.clock, &watch.progress));
        watch.finish();
        code = context.output.told(tell(context, &back?), code);
    }
    Ok(code)
}

fn tell(context: &Context, back: &Undeleted) -> Result<(), crate::cli::failure::Failure> {
    if let Some(e) = &back.left {
        let old = back.old.short();
        context
            .output
            .warn(Code::OldSnapshotKept, &format!("{old} is still in the trash, which does no harm: {e}"));
    }
    if context.output.json {
        return context.output.result(
            &Message::new("undeleted")
                .with("source_snapshot", back.old.to_string())
                .with("snapshot_id", back.new.to_string())
                .with("before", back.before),
        );
    }
    let (old, new) = (back.old.short(), back.new.short());
    context.output.say(&match back.before {
        true => format!("snapshot {old} had come back before: it is {new}"),
        false => format!("snapshot {old} is back; it is {new} now"),
    })
}
