//! `tag`: change the tags of snapshots.

use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome, usage};
use crate::cli::json::Message;
use crate::cli::options::FilterArgs;
use crate::repository::snapshots::{Listed, list, resolve, set_tags};
use crate::units;

/// Change the tags of snapshots: of those named, or of all that the filter lets through
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Snapshots
    #[arg(value_name = "SNAP")]
    snapshots: Vec<String>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Add these tags
    #[arg(long, value_name = "TAG[,TAG…]")]
    add: Vec<String>,
    /// Remove these tags
    #[arg(long, value_name = "TAG[,TAG…]")]
    remove: Vec<String>,
    /// Replace all tags by these; `''` for none
    #[arg(long, value_name = "TAG[,TAG…]")]
    set: Vec<String>,
}

pub fn run(context: &Context, args: &Args) -> Outcome {
    let differs = !args.add.is_empty() || !args.remove.is_empty();
    if !differs && args.set.is_empty() {
        return Err(Failure::usage("nothing to change; give --add, --remove or --set"));
    }
    if differs && !args.set.is_empty() {
        return Err(Failure::usage("--set cannot be combined with --add or --remove"));
    }
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
    if args.snapshots.is_empty() {
        chosen.extend(listing.snapshots.iter().filter(|s| filter.matches(&s.record)).cloned());
    }
    let mut changed = 0u64;
    for listed in &chosen {
        let tags = changed_tags(&listed.record.tags, args);
        if tags == listed.record.tags {
            continue;
        }
        changed += 1;
        if context.output.json {
            context.output.passing(
                &Message::new("changed")
                    .with("snapshot_id", listed.record.id.as_str())
                    .with("tags", tags.clone()),
            );
        } else {
            context.output.detail(&format!("{}: {}", listed.id.short(), tags.join(",")));
        }
        if !context.global.dry_run {
            set_tags(&repository, listed.id, tags, context.now())?;
        }
    }
    if context.output.json {
        let told = context.output.result(&Message::new("summary").with("changed_snapshots", changed));
        return Ok(context.output.told(told, 0));
    }
    let done = if context.global.dry_run { "would change" } else { "changed" };
    let count = units::counted(changed, "snapshot", "snapshots");
    Ok(context.output.told(context.output.say(&format!("{done} the tags of {count}")), 0))
}

pub fn words(list: &[String]) -> impl Iterator<Item = String> {
    list.iter().flat_map(|text| text.split(',')).map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned)
}

fn changed_tags(old: &[String], args: &Args) -> Vec<String> {
    let mut tags = if args.set.is_empty() { old.to_vec() } else { Vec::new() };
    for tag in words(&args.set).chain(words(&args.add)) {
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    let gone: Vec<String> = words(&args.remove).collect();
    tags.retain(|tag| !gone.contains(tag));
    tags
}
