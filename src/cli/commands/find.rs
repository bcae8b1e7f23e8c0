//! `find`: files by name in all snapshots, and what uses a chunk or a pack.

use super::ls::line;
use crate::cli::context::Context;
use crate::cli::failure::{DAMAGED, Failure, Outcome, usage};
use crate::cli::json::{Message, NodeJson};
use crate::cli::names::shown;
use crate::cli::options::{FilterArgs, snapshots_named, stored};
use crate::cli::terminal::Watch;
use crate::clock::Timestamp;
use crate::codes::Code;
use crate::compare::blobs::{BlobUses, Blobs, run as find_uses};
use crate::compare::find::{FindOptions, Finds, run as find_names};
use crate::compare::values::Wanted;
use crate::crypto::ChunkSort;
use crate::repository::snapshots::{Listed, list};
use crate::units;
use serde::Serialize;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// Find files by name in all snapshots
#[derive(clap::Args, Debug)]
pub struct Args {
    /// What to find: `*.txt`, `/home/*/notes`, `a/**/b`; with --blob or --pack: ids
    #[arg(value_name = "PATTERN", required_unless_present = "json_key")]
    patterns: Vec<String>,
    /// Only JSON files with this value at a JSON pointer: /agent_id=agent-7; without a value: with any [default
    /// PATTERN: *.json]
    #[arg(long, value_name = "POINTER[=VALUE]", conflicts_with_all = ["blob", "pack"])]
    json_key: Option<String>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Only in these snapshots
    #[arg(short, long, value_name = "SNAP")]
    snapshot: Vec<String>,
    /// Whatever the case of letters
    #[arg(short, long)]
    ignore_case: bool,
    /// Mode, owner, size and time too
    #[arg(short, long)]
    long: bool,
    /// Sizes in units that fit
    #[arg(long)]
    human_readable: bool,
    /// Not modified before TIME
    #[arg(short = 'O', long, value_name = "TIME")]
    oldest: Option<String>,
    /// Not modified after TIME
    #[arg(short = 'N', long, value_name = "TIME")]
    newest: Option<String>,
    /// file, dir, symlink, fifo, socket, chardev or dev
    #[arg(long = "type", value_name = "TYPE",
        value_parser = ["file", "dir", "symlink", "fifo", "socket", "chardev", "dev"])]
    kinds: Vec<String>,
    /// Only below this path
    #[arg(long, value_name = "PATH")]
    below: Option<OsString>,
    /// The patterns are chunks
    #[arg(long, conflicts_with = "pack")]
    blob: bool,
    /// The patterns are packs
    #[arg(long)]
    pack: bool,
}

pub fn run(context: &Context, args: &Args) -> Outcome {
    let filter = args.filter.filter().map_err(usage)?;
    let time = |text: &Option<String>| {
        text.as_deref().map(|t| Timestamp::parse(t, context.now())).transpose().map_err(usage)
    };
    let options = FindOptions {
        ignore_case: args.ignore_case,
        oldest: time(&args.oldest)?,
        newest: time(&args.newest)?,
        kinds: args.kinds.clone(),
        value: args.json_key.as_deref().map(Wanted::parse).transpose().map_err(usage)?,
        below: args.below.as_ref().map(|p| stored(p.as_bytes())).transpose()?.unwrap_or_default(),
    };
    let repository = context.open()?;
    let listing = list(&repository)?;
    let snapshots = snapshots_named(&listing, &args.snapshot, &filter, context.now())?;
    let reader = repository.reader()?;
    let mut watch = Watch::beside_results(context);
    if args.blob || args.pack {
        let blobs = match args.pack {
            true => Blobs::in_packs(&reader, &args.patterns)?,
            false => Blobs::by_prefix(&reader, &args.patterns)?,
        };
        let uses = find_uses(&reader, &snapshots, &blobs, &watch.progress);
        watch.finish();
        let uses = uses?;
        let told = print_uses(context, &snapshots, &uses);
        return context.output.ends(told, damaged(context, &uses.damaged));
    }
    let usual = ["*.json".to_owned()];
    let patterns = if args.patterns.is_empty() { &usual[..] } else { &args.patterns };
    let finds = find_names(&reader, &snapshots, patterns, &options, &watch.progress);
    watch.finish();
    let finds = finds?;
    if let Some((path, why)) = &finds.first_unseen {
        let files = units::counted(finds.unseen, "file", "files");
        context.output.warn(
            Code::FileUnsearched,
            &format!("{files} could not be looked into; the first is {}: {why}", shown(path)),
        );
    }
    let told = print(context, args, &snapshots, &finds);
    context.output.ends(told, damaged(context, &finds.damaged))
}

fn damaged(context: &Context, damaged: &[(crate::id::SnapshotId, String)]) -> u8 {
    for (id, why) in damaged {
        context.output.warn(
            Code::SnapshotUnsearched,
            &format!("snapshot {} could not be searched whole: {why}", id.short()),
        );
    }
    if damaged.is_empty() { 0 } else { DAMAGED }
}

#[derive(Serialize)]
struct MatchesJson {
    matches: Vec<NodeJson>,
    hits: usize,
    snapshot: String,
}

fn print(context: &Context, args: &Args, snapshots: &[Listed], finds: &Finds) -> Result<(), Failure> {
    let mut paper = context.output.paper();
    if context.output.json {
        let shape = |m: &crate::compare::find::Matches| MatchesJson {
            matches: m.entries.iter().map(|e| NodeJson::found(e)).collect(),
            hits: m.entries.len(),
            snapshot: m.snapshot.to_string(),
        };
        paper.json(&finds.snapshots.iter().map(shape).collect::<Vec<_>>())?;
        return paper.finish();
    }
    for matches in &finds.snapshots {
        let of = snapshots.iter().find(|s| s.id == matches.snapshot);
        let time = of.and_then(|s| Timestamp::parse(&s.record.time, context.now()).ok());
        let time = time.map(Timestamp::local).unwrap_or_default();
        let count = units::counted(matches.entries.len() as u64, "match", "matches");
        paper.line(&format!("snapshot {} of {time}: {count}", matches.snapshot.short()))?;
        for entry in &matches.entries {
            line(&mut paper, entry, None, (args.long, args.human_readable))?;
        }
    }
    paper.finish()
}

fn print_uses(context: &Context, snapshots: &[Listed], uses: &BlobUses) -> Result<(), Failure> {
    let mut paper = context.output.paper();
    let word = |sort: ChunkSort| if sort == ChunkSort::Content { "data" } else { "manifest" };
    let shape = |found: &crate::compare::blobs::BlobUse| {
        let of = snapshots.iter().find(|s| s.id == found.snapshot);
        let message = Message::default().with("object_type", "blob").with("id", found.id.to_string());
        let message =
            message.with("blob_type", word(found.sort)).with("snapshot", found.snapshot.to_string());
        let message = message.with("time", of.map(|s| s.record.time.as_str()));
        match &found.path {
            Some(path) => message.with_path("path", "path_b64", &[b"/", path.as_slice()].concat()),
            None => message,
        }
    };
    if context.output.json {
        paper.json(&uses.uses.iter().map(shape).collect::<Vec<_>>())?;
        return paper.finish();
    }
    for found in &uses.uses {
        let place = found.path.as_ref().map_or_else(|| "the manifest".to_owned(), |p| shown(p));
        paper.line(&format!("{} {} {place}", found.id, found.snapshot.short()))?;
    }
    paper.finish()
}
