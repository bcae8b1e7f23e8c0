//! `snapshots`: what there is.

use crate::cli::context::Context;
use crate::cli::databases;
use crate::cli::documents;
use crate::cli::drills;
use crate::cli::failure::{DAMAGED, Failure, Outcome, usage};
use crate::cli::groups::{GroupBy, group};
use crate::cli::guard_told;
use crate::cli::json::{SnapshotJson, TrashJson};
use crate::cli::names::{decode_path, escape};
use crate::cli::options::{FilterArgs, TrashArgs, snapshots_named};
use crate::cli::output::Paper;
use crate::cli::rules;
use crate::cli::table::{Column, Table};
use crate::clock::Timestamp;
use crate::codes::Code;
use crate::format::FileName;
use crate::repository::copies;
use crate::repository::notes::Pin;
use crate::repository::schema;
use crate::repository::snapshots::{Listed, Listing, list};
use crate::repository::trash::Forgotten;
use crate::units;

const COLUMNS: [Column; 6] = [
    Column::left("ID"),
    Column::left("Time"),
    Column::shrinking("Host"),
    Column::shrinking("Tags"),
    Column::shrinking("Paths"),
    Column::right("Size"),
];

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
    /// Only those that hold a database of this schema version (user_version); --path can name the database
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    schema_version: Option<i32>,
    /// Group by host, paths, tags
    #[arg(short, long, value_name = "WHAT[,WHAT…]", value_parser = GroupBy::parse)]
    group_by: Option<GroupBy>,
    /// List what is in the trash instead, and how long `undelete` can bring it back
    #[arg(long, visible_alias = "forgotten", conflicts_with_all = ["snapshots", "latest", "group_by"])]
    trash: bool,
    #[command(flatten)]
    keep: TrashArgs,
}

pub fn run(context: &Context, args: &Args) -> Outcome {
    let mut filter = args.filter.filter().map_err(usage)?;
    let repository = context.open()?;
    let mut listing = list(&repository)?;
    for (id, why) in &listing.damaged {
        context
            .output
            .warn(Code::SnapshotUnreadable, &format!("snapshot {} cannot be read: {why}", id.short()));
    }
    for (name, why) in &listing.unread_notes {
        context
            .output
            .warn(Code::NoteUnreadable, &format!("{name} cannot be read; it may hold tags or a pin: {why}"));
    }
    for id in &listing.from_copies {
        context.output.warn(Code::RecordCopyUsed, &copies::remark(&FileName::Snapshot(*id)));
    }
    let code = if listing.damaged.is_empty() { 0 } else { DAMAGED };
    let databases = match args.schema_version {
        Some(_) => schema::databases_of(&listing, &mut filter),
        None => Vec::new(),
    };
    let has = |l: &Listed| args.schema_version.is_none_or(|n| schema::has_version(&l.record, &databases, n));
    listing.forgotten.retain(|f| has(&f.listed));
    if args.trash {
        listing.forgotten.retain(|f| filter.matches(&f.listed.record));
        return context.output.ends(trash(context, args, &listing), code);
    }
    listing.snapshots = snapshots_named(&listing, &args.snapshots, &filter, context.now())?;
    listing.snapshots.retain(|l| has(l));
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
            let all: Vec<_> = listing.snapshots.iter().map(|l| whole(listing, l)).collect();
            paper.json(&all)?;
        }
        (true, Some(by)) => {
            let groups = group(&listing.snapshots, by);
            let all: Vec<_> = groups.iter().map(|g| g.json(&listing.pins)).collect();
            paper.json(&all)?;
        }
        (false, None) => {
            let all: Vec<&Listed> = listing.snapshots.iter().collect();
            print(context, &mut paper, listing, &all)?;
        }
        (false, Some(by)) => {
            for group in group(&listing.snapshots, by) {
                paper.line(&group.title())?;
                print(context, &mut paper, listing, &group.snapshots)?;
                paper.line("")?;
            }
        }
    }
    paper.finish()
}

/// All that is known of a snapshot.
fn whole<'a>(listing: &'a Listing, listed: &'a Listed) -> SnapshotJson<'a> {
    let drills = listing.drills.get(&listed.id).map(Vec::as_slice);
    let json = SnapshotJson::new(listed).pinned(listing.pins.get(&listed.id));
    json.ruled(listing.rules.get(&listed.id)).drilled(drills)
}

fn print(
    context: &Context,
    paper: &mut Paper,
    listing: &Listing,
    snapshots: &[&Listed],
) -> Result<(), Failure> {
    let mut table = Table::new(COLUMNS.to_vec());
    for listed in snapshots {
        table.row(row(context, listed, listing.pins.get(&listed.id)).to_vec());
    }
    for line in table.lines(context.output.width(), context.output.colours()) {
        paper.line(&line)?;
    }
    if context.output.verbose > 0 {
        for listed in snapshots {
            let tried = listing.rules.get(&listed.id).into_iter().flatten();
            let tried = tried.map(|tried| format!("rules: {}", rules::summary(tried)));
            let json = documents::lines(&listed.record)
                .into_iter()
                .chain(tried)
                .chain(guard_told::line(&listed.record));
            let drilled = listing.drills.get(&listed.id).and_then(|all| drills::line(all, context.now()));
            for line in databases::lines(&listed.record).into_iter().chain(json).chain(drilled) {
                paper.line(&format!("{}  {line}", listed.id.short()))?;
            }
        }
    }
    paper.line(&units::counted(snapshots.len() as u64, "snapshot", "snapshots"))
}

/// What `undelete` can bring back.
fn trash(context: &Context, args: &Args, listing: &Listing) -> Result<(), Failure> {
    let (now, keep) = (context.now(), args.keep.keep());
    let days = |f: &Forgotten| {
        let left = f.expires(keep)?.secs.saturating_sub(now.secs).max(0);
        u64::try_from(left).ok().map(|secs| secs.div_ceil(86_400))
    };
    let mut paper = context.output.paper();
    if context.output.json {
        let json = |f: &'_ Forgotten| TrashJson {
            forgotten: f.since.map(Timestamp::rfc3339),
            expires: f.expires(keep).map(Timestamp::rfc3339),
            days_left: days(f),
        };
        let all = listing.forgotten.iter().map(|f| {
            let pin = listing.pins.get(&f.listed.id);
            SnapshotJson::new(&f.listed).pinned(pin).in_trash(json(f))
        });
        paper.json(&all.collect::<Vec<_>>())?;
        return paper.finish();
    }
    let mut table = Table::new(vec![
        Column::left("ID"),
        Column::left("Time"),
        Column::left("Forgotten"),
        Column::right("Days left"),
        Column::shrinking("Host"),
        Column::shrinking("Paths"),
    ]);
    for gone in &listing.forgotten {
        let row = row(context, &gone.listed, None);
        let [id, time, host, _, paths, _] = row;
        let since = gone.since.map_or_else(|| "unknown".to_owned(), |t| t.local().chars().take(10).collect());
        let left = match (listing.pins.contains_key(&gone.listed.id), days(gone)) {
            (true, _) => "pinned".to_owned(),
            (false, Some(days)) => days.to_string(),
            (false, None) => "stays".to_owned(),
        };
        table.row(vec![id, time, vec![since], vec![left], host, paths]);
    }
    for line in table.lines(context.output.width(), context.output.colours()) {
        paper.line(&line)?;
    }
    paper.line(&units::counted(
        listing.forgotten.len() as u64,
        "snapshot in the trash",
        "snapshots in the trash",
    ))?;
    paper.finish()
}

fn row(context: &Context, listed: &Listed, pin: Option<&Pin>) -> [Vec<String>; 6] {
    let record = &listed.record;
    let name = |text: &str| escape(text.as_bytes());
    let local = Timestamp::parse(&record.time, context.now()).map(Timestamp::local);
    let mut host = vec![name(&record.hostname)];
    let mut tags: Vec<String> = record.tags.iter().map(|tag| name(tag)).collect();
    if let Some(pin) = pin {
        tags.push("pinned".to_owned());
        tags.extend(pin.label.as_deref().map(|label| format!("\"{}\"", name(label))));
    }
    let mut size = vec![units::bytes(record.summary.total_bytes_processed)];
    if context.output.verbose > 0 {
        host.push(name(&record.username));
        tags.extend(record.label.as_deref().map(|label| format!("\"{}\"", name(label))));
        size.push(units::counted(record.summary.total_files_processed, "file", "files"));
        size.push(format!("+{}", units::bytes(record.summary.data_added_packed)));
        size.extend(record.sqlite.as_ref().map(databases::words));
    }
    [
        vec![listed.id.short()],
        vec![local.unwrap_or_else(|_| name(&record.time))],
        host,
        tags,
        record.paths.iter().map(|path| escape(&decode_path(path))).collect(),
        size,
    ]
}
