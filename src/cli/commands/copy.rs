//! `copy`: snapshots from another repository into this one.

use crate::cli::context::{Context, directory, located_at};
use crate::cli::failure::{DAMAGED, Failure, Outcome, usage};
use crate::cli::json::Message;
use crate::cli::options::{FilterArgs, snapshots_named};
use crate::cli::password;
use crate::cli::sets;
use crate::cli::terminal::Watch;
use crate::codes::Code;
use crate::copy::{CopyOptions, CopyReport, run as copy};
use crate::crypto::password::Password;
use crate::repository::snapshots::list;
use crate::units;
use std::ffi::OsString;
use std::path::PathBuf;

/// Copy snapshots from another repository into this one
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Only these snapshots of the other repository
    #[arg(value_name = "SNAP")]
    snapshots: Vec<String>,
    #[command(flatten)]
    filter: FilterArgs,
    /// The repository to copy from
    #[arg(long, value_name = "URL")]
    from_repo: Option<OsString>,
    /// A file that holds its password
    #[arg(long, value_name = "FILE")]
    from_password_file: Option<PathBuf>,
    /// A command that writes its password
    #[arg(long, value_name = "COMMAND")]
    from_password_command: Option<String>,
}

/// The password of the other repository; of a profile's target without one of its own, that of the environment.
fn secret(context: &Context, args: &Args) -> Result<Password, Failure> {
    if args.from_password_file.is_none() && args.from_password_command.is_none() && sets::is_filled(context) {
        return password::of_profile(context);
    }
    password::other(context, args.from_password_file.clone(), args.from_password_command.clone())
}

pub fn run(context: &Context, args: &Args) -> Outcome {
    if args.from_repo.is_none() && sets::copies_are_jobs(context) {
        if !args.snapshots.is_empty() {
            return Err(Failure::usage("choose the target that these snapshots are for by --to"));
        }
        return sets::copy(context);
    }
    let filter = args.filter.filter().map_err(usage)?;
    let from = match &args.from_repo {
        Some(url) => located_at(&directory(url)?)?,
        None => {
            return Err(Failure::usage("no repository to copy from; give --from-repo"));
        }
    };
    sets::make_target(context)?;
    let to = context.open()?;
    let secret = match from.is_encrypted() {
        true => Some(secret(context, args)?),
        false => None,
    };
    let from = from.open(secret.as_ref(), context.cache().as_deref())?;
    let listing = list(&from)?;
    let chosen = snapshots_named(&listing, &args.snapshots, &filter, context.now())?;
    let options = CopyOptions {
        level: context.global.compression,
        dry_run: context.global.dry_run,
        ..CopyOptions::default()
    };
    let mut watch = Watch::start(context);
    let done = copy(&from, &chosen, &to, &options, &context.clock, &watch.progress, &watch.report);
    watch.finish();
    let done = done?;
    context.facts(|facts| facts.added = Some(done.data_added_packed));
    let told = if context.output.json { json(context, &done) } else { text(context, &done) };
    for (id, why) in &listing.damaged {
        context
            .output
            .warn(Code::SnapshotUnreadable, &format!("snapshot {} cannot be read: {why}", id.short()));
    }
    done.outcome()?;
    Ok(context.output.told(told, if listing.damaged.is_empty() { 0 } else { DAMAGED }))
}

fn json(context: &Context, done: &CopyReport) -> Result<(), Failure> {
    let mut paper = context.output.paper();
    for (from, to) in &done.copied {
        let message = Message::new("copied").with("source_snapshot", from.to_string());
        paper.json(&message.with("target_snapshot", to.map(|id| id.to_string())))?;
    }
    for (from, to) in &done.skipped {
        let message = Message::new("skipped").with("source_snapshot", from.to_string());
        paper.json(&message.with("target_snapshot", to.to_string()))?;
    }
    paper.json(
        &Message::new("summary")
            .with("copied", done.copied.len())
            .with("skipped", done.skipped.len())
            .with("damaged", done.damaged.len())
            .with("data_blobs", done.data_blobs)
            .with("data_added", done.data_added)
            .with("data_added_packed", done.data_added_packed),
    )?;
    paper.finish()
}

fn text(context: &Context, done: &CopyReport) -> Result<(), Failure> {
    let output = &context.output;
    for (from, to) in &done.copied {
        match to {
            Some(to) => {
                output.say(&format!("snapshot {} copied, here it is {}", from.short(), to.short()))?
            }
            None => output.say(&format!("snapshot {} would be copied", from.short()))?,
        }
    }
    let skipped = done.skipped.len() as u64;
    let copied = units::counted(done.copied.len() as u64, "snapshot", "snapshots");
    let packed = units::bytes(done.data_added_packed);
    output.say(&match context.global.dry_run {
        true => format!("would copy {copied}; {} there already", units::count(skipped)),
        false => format!("copied {copied}, {packed} added; {} there already", units::count(skipped)),
    })
}
