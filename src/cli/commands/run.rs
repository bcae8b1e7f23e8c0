//! `run`: a command between two snapshots; what it breaks is put back.

use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome, usage};
use crate::cli::guard::{Guard, Wish};
use crate::cli::in_place::Care;
use crate::cli::options::{duration, per_cent};
use crate::guard::{Limits, Step, Wanted};
use crate::os::child;
use crate::source::roots::Root;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  snapkeep run --source /srv/app --user-version-step 1 -- ./migrate up
  snapkeep run --source /srv/app --rules rules.toml --max-row-loss 5 -- python manage.py migrate
  snapkeep run --source app.db --expect-user-version 42 --may-lose old_users -- sqlite3 app.db '.read 42.sql'

All that stands in the sources is stored before, whatever excludes say elsewhere. The command has the terminal and the
standard streams; words of ours go to standard error. With --json its standard output goes there, too.
The exit code is the command's (127 not found, 126 not executable, 128 and the signal's number), or 24 when what it left
is not what it must be. Only the name of its program is recorded: its arguments may hold secrets.";

/// Run a command between two snapshots; put back what stood there before when it fails, or leaves what must not be
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A file or directory to guard; may be repeated [default: the current directory]
    #[arg(long, value_name = "PATH")]
    source: Vec<PathBuf>,
    /// Rules that must hold afterwards, in place of those in `.snapkeep/rules.toml` below the source
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    /// The user_version that the database, or the one named, must have afterwards
    #[arg(long, value_name = "[DB=]N", allow_hyphen_values = true)]
    expect_user_version: Vec<String>,
    /// By how much the user_version must have risen
    #[arg(long, value_name = "[DB=]N", allow_hyphen_values = true)]
    user_version_step: Vec<String>,
    /// Share of its rows that a table may lose
    #[arg(long, value_name = "PERCENT", default_value = "50", value_parser = per_cent)]
    max_row_loss: f64,
    /// A table that may lose all its rows or go, or the file name of a database that may go; may be repeated
    #[arg(long, value_name = "NAME")]
    may_lose: Vec<String>,
    /// More rows than before may refer to rows that are not there
    #[arg(long)]
    allow_orphans: bool,
    /// Leave everything as the command left it, and say how to put it back
    #[arg(long)]
    no_rollback: bool,
    /// Leave things that the command has added where they are when putting back
    #[arg(long)]
    keep_new: bool,
    /// Begin although something in the sources cannot be read or is damaged
    #[arg(long)]
    allow_incomplete: bool,
    /// What to do about the safety snapshot before putting back: it must hold everything, may lack what cannot be read, or is
    /// not made
    #[arg(long, value_name = "HOW", default_value = "whole")]
    safety: Care,
    /// How long to wait for a database that somebody keeps locked
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    sqlite_wait: Duration,
    /// Further tags of both snapshots
    #[arg(long, value_name = "TAG[,TAG…]")]
    tag: Vec<String>,
    /// A few words to know both snapshots by
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub fn run(context: &Context, args: &Args) -> Outcome {
    let Some(program) = args.command.first() else {
        return Err(Failure::usage("no command; write it after --"));
    };
    let shown = program.to_string_lossy().into_owned();
    if let Err(code) = child::find(program) {
        let what = match code {
            child::NOT_FOUND => "is not there",
            _ => "cannot be executed",
        };
        return Err(Failure::new(code, format!("the command `{shown}` {what}; nothing was done")));
    }
    let name = shown.rsplit('/').next().unwrap_or(&shown).to_owned();
    let sources = match args.source.is_empty() {
        true => vec![PathBuf::from(".")],
        false => args.source.clone(),
    };
    let mut versions = Vec::new();
    for (texts, exactly) in [(&args.expect_user_version, true), (&args.user_version_step, false)] {
        for text in texts {
            versions.push(wanted(text, exactly)?);
        }
    }
    let limits = Limits {
        max_row_loss: args.max_row_loss,
        may_lose: args.may_lose.clone(),
        orphans: args.allow_orphans,
        versions,
    };
    let wish = Wish {
        sources,
        command: &args.command,
        name,
        rules: args.rules.as_deref(),
        limits,
        no_rollback: args.no_rollback,
        keep_new: args.keep_new,
        allow_incomplete: args.allow_incomplete,
        safety: args.safety,
        wait: args.sqlite_wait,
        tags: super::tag::words(&args.tag).collect(),
        label: args.label.clone(),
    };
    context.output.step_aside();
    Guard::new(context, wish)?.run()
}

/// `N`, or `DB=N`.
fn wanted(text: &str, exactly: bool) -> Result<Wanted, Failure> {
    let (path, number) = match text.rsplit_once('=') {
        Some((path, number)) => (Some(Root::new(path.as_ref()).map_err(usage)?.stored), number),
        None => (None, text),
    };
    let number: i32 = number.trim().parse().map_err(|_| {
        Failure::usage(format!("`{text}` is no version; write a whole number, or DATABASE=NUMBER"))
    })?;
    Ok(Wanted { path, step: if exactly { Step::Is(number) } else { Step::By(number) } })
}
