//! `pin`: keep snapshots whatever policies say.

use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome, usage};
use crate::cli::json::Message;
use crate::cli::options::FilterArgs;
use crate::repository::notes::{Pin, set_pin};
use crate::repository::snapshots::{Listed, list, resolve};
use crate::units;

const EXAMPLES: &str = "\
Examples:
  snapkeep pin latest --label 'before the move'
  snapkeep pin 1a2b3c4d 5e6f7a8b
  snapkeep pin --remove 1a2b3c4d

No policy forgets a pinned snapshot; `forget ID` does with --pinned. `snapshots` shows pins.";

/// Pin snapshots: no policy forgets them
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Snapshots
    #[arg(value_name = "SNAP", required = true)]
    snapshots: Vec<String>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Why they are kept
    #[arg(long, value_name = "TEXT", conflicts_with = "remove")]
    label: Option<String>,
    /// Take the pins away
    #[arg(long)]
    remove: bool,
}

pub fn run(context: &Context, args: &Args) -> Outcome {
    let filter = args.filter.filter().map_err(usage)?;
    let repository = context.open()?;
    let listing = list(&repository)?;
    let mut chosen: Vec<Listed> = Vec::new();
    for text in &args.snapshots {
        let listed = resolve(&listing, text, &filter, context.now())?;
        if !chosen.iter().any(|c| c.id == listed.id) {
            chosen.push(listed);
        }
    }
    let mut changed = 0u64;
    for listed in &chosen {
        let wanted = (!args.remove).then(|| Pin { label: args.label.clone() });
        if listing.pins.get(&listed.id) == wanted.as_ref() {
            continue;
        }
        if !context.global.dry_run {
            set_pin(&repository, listed, wanted, context.now())?;
        }
        changed += 1;
        if context.output.json {
            let message = Message::new("changed").with("snapshot_id", listed.record.id.as_str());
            context.output.passing(&message.with("pinned", !args.remove));
        }
    }
    context.output.ends(tell(context, args, changed), 0)
}

fn tell(context: &Context, args: &Args, changed: u64) -> Result<(), Failure> {
    if context.output.json {
        return context.output.result(&Message::new("summary").with("changed_snapshots", changed));
    }
    let count = units::counted(changed, "snapshot", "snapshots");
    context.output.say(&match (context.global.dry_run, args.remove) {
        (true, true) => format!("would take the pin from {count}"),
        (true, false) => format!("would pin {count}"),
        (false, true) => format!("took the pin from {count}"),
        (false, false) => format!("pinned {count}"),
    })
}
