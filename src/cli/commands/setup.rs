//! `setup`: from nothing to a first backup: a profile, a password, a repository, a snapshot, and what to do when all is lost.

use crate::cli::context::Context;
use crate::cli::failure::Outcome;
use crate::cli::setting_up;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  snapkeep setup                                  # asks
  snapkeep setup --source ~/work --repo /mnt/disk/backup --schedule hourly --yes
  snapkeep setup server --source /srv --source sqlite:////var/lib/app.db --repo /backup --second /mnt/nas/backup

The password is made by chance and kept in a file beside the profile, unless --password-file names one that is there or
SNAPKEEP_PASSWORD holds one. A copy of it must be kept somewhere else.";

/// Write a profile, make its repository and take the first backup
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The profile's name
    #[arg(value_name = "NAME", default_value = "default")]
    pub name: String,
    /// A file, a directory, or a database as sqlite:////absolute/file.db
    #[arg(long, value_name = "PATH")]
    pub source: Vec<String>,
    /// A second place for backups
    #[arg(long, value_name = "DIR")]
    pub second: Option<PathBuf>,
    /// When backups run: hourly, daily, `every 6h`, or any other schedule
    #[arg(long, value_name = "WHEN")]
    pub schedule: Option<String>,
    /// Also install the schedule (`snapkeep schedule install`)
    #[arg(long)]
    pub install: bool,
    /// Ask nothing
    #[arg(short, long)]
    pub yes: bool,
    /// Replace a profile of this name; it is kept beside the new one as NAME.toml.old
    #[arg(long)]
    pub force: bool,
}

pub fn run(context: &Context, args: &Args) -> Outcome {
    setting_up::run(context, args)
}
