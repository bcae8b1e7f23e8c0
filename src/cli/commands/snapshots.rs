//! `snapshots`: what there is.

use crate::cli::context::Context;
use crate::cli::databases;
use crate::cli::failure::{DAMAGED, Failure, Outcome, usage};
use crate::cli::groups::{Group, GroupBy, group};
use crate::cli::json::SnapshotJson;
use crate::cli::names::{decode_path, escape};
use crate::cli::options::{FilterArgs, snapshots_named};
use crate::cli::output::Paper;
use crate::cli::table::{Column, Table};
use crate::clock::Timestamp;
use crate::repository::snapshots::{Listed, Listing, list};
use crate::units;

/// List snapshots, oldest first
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Only these snapshots
    #[arg(value_name = "SNAP")]
    snapshots: Vec<String>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Only the last N of each host and paths, or of each group
    #[arg(long, value_name = "N")]
    latest: Option<usize>,
    /// Group by host, paths, tags
    #[arg(short, long, value_name = "WHAT[,WHAT…]", value_parser = GroupBy::parse)]
    group_by: Option<GroupBy>,
}

pub fn run(context: &Context, args: &Args) -> Outcome {
    let filter = args.filter.filter().map_err(usage)?;
    let repository = context.open()?;
    let mut listing = list(&repository)?;
    for (id, why) in &listing.damaged {
        context.output.warn(&format!("snapshot {} cannot be read: {why}", id.short()));
    }
    let code = if listing.damaged.is_empty() { 0 } else { DAMAGED };
    listing.snapshots = snapshots_named(&listing, &args.snapshots, &filter, context.now())?;
    if let Some(latest) = args.latest {
        let by = args.group_by.unwrap_or(GroupBy::SERIES);
        let kept: Vec<_> = group(&listing.snapshots, by)
            .into_iter()
            .flat_map(|g| g.snapshots.into_iter().rev().take(latest).map(|s| s.id).collect::<Vec<_>>())
            .collect();
        listing.snapshots.retain(|s| kept.contains(&s.id));
    }
    context.output.ends(page(context, args, &listing), code)
}

fn page(context: &Context, args: &Args, listing: &Listing) -> Result<(), Failure> {
    let mut paper = context.output.paper();
    match (context.output.json, args.group_by) {
        (true, None) => {
            let all: Vec<_> = listing.snapshots.iter().map(SnapshotJson::new).collect();
            paper.json(&all)?;
        }
        (true, Some(by)) => {
            let groups = group(&listing.snapshots, by);
            let all: Vec<_> = groups.iter().map(Group::json).collect();
            paper.json(&all)?;
        }
        (false, None) => print(context, &mut paper, &listing.snapshots.iter().collect::<Vec<_>>())?,
        (false, Some(by)) => {
            for group in group(&listing.snapshots, by) {
                paper.line(&group.title())?;
                print(context, &mut paper, &group.snapshots)?;
                paper.line("")?;
            }
        }
    }
    paper.finish()
}

fn print(context: &Context, paper: &mut Paper, snapshots: &[&Listed]) -> Result<(), Failure> {
    let columns = vec![
        Column::left("ID"),
        Column::left("Time"),
        Column::shrinking("Host"),
        Column::shrinking("Tags"),
        Column::shrinking("Paths"),
        Column::right("Size"),
    ];
    let mut table = Table::new(columns);
    for listed in snapshots {
        table.row(row(context, listed));
    }
    for line in table.lines(context.output.width(), context.output.colours()) {
        paper.line(&line)?;
    }
    if context.output.verbose > 0 {
        for listed in snapshots {
            for line in databases::lines(&listed.record) {
                paper.line(&format!("{}  {line}", listed.id.short()))?;
            }
        }
    }
    paper.line(&units::counted(snapshots.len() as u64, "snapshot", "snapshots"))
}

fn row(context: &Context, listed: &Listed) -> Vec<Vec<String>> {
    let record = &listed.record;
    let name = |text: &str| escape(text.as_bytes());
    let local = Timestamp::parse(&record.time, context.now()).map(Timestamp::local);
    let mut host = vec![name(&record.hostname)];
    let mut tags: Vec<String> = record.tags.iter().map(|tag| name(tag)).collect();
    let mut size = vec![units::bytes(record.summary.total_bytes_processed)];
    let paths = record.paths.iter().map(|path| escape(&decode_path(path))).collect();
    if context.output.verbose > 0 {
        host.push(name(&record.username));
        tags.extend(record.label.as_deref().map(|label| format!("\"{}\"", name(label))));
        size.push(units::counted(record.summary.total_files_processed, "file", "files"));
        size.push(format!("+{}", units::bytes(record.summary.data_added_packed)));
        size.extend(record.sqlite.as_ref().map(databases::words));
    }
    vec![vec![listed.id.short()], vec![local.unwrap_or_else(|_| name(&record.time))], host, tags, paths, size]
}
