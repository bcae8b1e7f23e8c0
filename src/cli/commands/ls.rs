//! `ls`: what is in a snapshot.

use crate::cli::context::Context;
use crate::cli::databases;
use crate::cli::failure::{FAILED, Failure, Outcome};
use crate::cli::json::{NodeJson, SnapshotJson, permissions};
use crate::cli::names::{escape, shown};
use crate::cli::options::{AtArgs, stored};
use crate::cli::output::Paper;
use crate::format::entry::{Entry, Kind};
use crate::manifest::walk::{Walk, is_below};
use crate::repository::snapshots::list;
use crate::units;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::unix::ffi::OsStrExt;

/// List what is in a snapshot
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The snapshot; with a path, everything below that path
    #[arg(value_name = "SNAP[:PATH]")]
    target: Option<OsString>,
    /// Only these directories and what stands directly in them
    #[arg(value_name = "PATH")]
    paths: Vec<OsString>,
    #[command(flatten)]
    at: AtArgs,
    /// Type, mode, owner, size and time too
    #[arg(short, long)]
    long: bool,
    /// With PATH…: everything below
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Sizes in units that fit
    #[arg(long)]
    human_readable: bool,
}

pub fn run(context: &Context, args: &Args) -> Outcome {
    let mut dirs = Vec::new();
    for path in &args.paths {
        dirs.push(stored(path.as_bytes())?);
    }
    let repository = context.open()?;
    let target = args.at.target(&list(&repository)?, args.target.as_deref(), context.now())?;
    let reader = repository.reader()?;
    let mut paper = context.output.paper();
    if context.output.json {
        paper.json(&SnapshotJson::message(&target.snapshot))?;
    }
    let mut found = 0u64;
    let below = target.path.unwrap_or_default();
    for entry in Walk::new(&reader, &target.snapshot.root, &below)? {
        let entry = entry?;
        let wanted =
            |dir: &Vec<u8>| is_below(&entry.path, dir) && (args.recursive || in_sight(&entry.path, dir));
        if !dirs.is_empty() && !dirs.iter().any(wanted) {
            continue;
        }
        found += 1;
        if context.output.json {
            let facts = databases::find(&target.snapshot.record, &entry.path);
            paper.json(&NodeJson::new(&entry).with_facts(facts))?;
        } else {
            let facts = databases::find(&target.snapshot.record, &entry.path).filter(|_| args.long);
            let remark = facts.map(databases::about);
            line(&mut paper, &entry, remark.as_deref(), (args.long, args.human_readable))?;
        }
    }
    paper.finish()?;
    if found == 0 && !(below.is_empty() && dirs.is_empty()) {
        let asked: Vec<_> = if dirs.is_empty() { vec![below] } else { dirs };
        let names: Vec<_> = asked.iter().map(|p| shown(p)).collect();
        let what = format!("the snapshot {} holds no {}", target.snapshot.id.short(), names.join(", "));
        return Err(Failure::new(FAILED, what));
    }
    Ok(0)
}

/// The directory itself or something directly in it.
fn in_sight(path: &[u8], dir: &[u8]) -> bool {
    let rest = path.get(dir.len()..).unwrap_or_default();
    let rest = rest.strip_prefix(b"/").unwrap_or(rest);
    !rest.contains(&b'/')
}

/// One line for one thing.
pub fn line(
    paper: &mut Paper,
    entry: &Entry,
    remark: Option<&str>,
    (long, human): (bool, bool),
) -> Result<(), Failure> {
    if long {
        let size = match human {
            true => format!("{:>10}", units::bytes(entry.content.size)),
            false => format!("{:>12}", entry.content.size),
        };
        let owner = &entry.meta.owner;
        let time = entry.meta.mtime.local();
        paper.bytes(
            format!("{} {:>5} {:>5} {size} {time} ", permissions(entry), owner.uid, owner.gid).as_bytes(),
        )?;
    }
    name(paper, b"/", &entry.path)?;
    if let (true, Kind::Symlink(target)) = (long, &entry.kind) {
        name(paper, b" -> ", target)?;
    }
    if let Some(remark) = remark {
        paper.bytes(format!("  [{remark}]").as_bytes())?;
    }
    paper.bytes(b"\n")
}

/// Exact bytes for programs; for a terminal nothing that it would obey.
fn name(paper: &mut Paper, before: &[u8], name: &[u8]) -> Result<(), Failure> {
    paper.bytes(before)?;
    if std::io::stdout().is_terminal() { paper.bytes(escape(name).as_bytes()) } else { paper.bytes(name) }
}
