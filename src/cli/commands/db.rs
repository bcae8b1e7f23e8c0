//! `db`: care of live databases: look, tidy up, take rows out, save what is left of a broken one.

use crate::cli::context::Context;
use crate::cli::failure::Outcome;
use crate::cli::options::duration;
use crate::cli::{db_change, db_check, db_recover};
use std::path::PathBuf;
use std::time::Duration;

/// Look after databases in use: check, vacuum, orphans, archive, recover
#[derive(clap::Subcommand, Debug)]
pub enum Word {
    /// Check databases where they lie, in use or not: integrity, foreign keys, what is in them; exit code 24 if one is not well
    Check(CheckArgs),
    /// Build a database anew without gaps, after a snapshot of it; rows of tables without INTEGER PRIMARY KEY may get new numbers
    Vacuum(VacuumArgs),
    /// List rows whose foreign key leads nowhere, or delete them after a snapshot that provably holds them
    Orphans(OrphansArgs),
    /// Move rows into another database, after a snapshot that provably holds them
    Archive(ArchiveArgs),
    /// Save what can be read of a broken database into a new one; the broken one is never touched
    Recover(RecoverArgs),
}

#[derive(clap::Args, Debug)]
pub struct CheckArgs {
    /// The databases
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Do not compare indexes with their tables
    #[arg(long)]
    pub quick: bool,
}

#[derive(clap::Args, Debug)]
pub struct VacuumArgs {
    /// The database
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Make no snapshot first; then no repository is needed
    #[arg(long)]
    pub no_snapshot: bool,
    #[command(flatten)]
    pub wait: WaitArgs,
}

#[derive(clap::Args, Debug)]
pub struct OrphansArgs {
    /// The database
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Delete them, and what then refers to nothing, until there are none
    #[arg(long)]
    pub delete: bool,
    /// Do not ask
    #[arg(short, long, requires = "delete")]
    pub yes: bool,
    #[command(flatten)]
    pub wait: WaitArgs,
}

#[derive(clap::Args, Debug)]
pub struct ArchiveArgs {
    /// The database
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The table, which must have a primary key
    #[arg(long, value_name = "TABLE")]
    pub table: String,
    /// Which rows: a condition in SQL, such as "created < '2025-01-01'"
    #[arg(long = "where", value_name = "CONDITION")]
    pub choice: String,
    /// The database that gets them, made if it is not there
    #[arg(long, value_name = "FILE")]
    pub into: PathBuf,
    #[command(flatten)]
    pub wait: WaitArgs,
}

#[derive(clap::Args, Debug)]
pub struct RecoverArgs {
    /// The broken database
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The new database, which must not be there yet
    #[arg(long, value_name = "FILE")]
    pub into: PathBuf,
}

#[derive(clap::Args, Clone, Copy, Debug)]
pub struct WaitArgs {
    /// How long to wait for a database that somebody keeps locked
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub sqlite_wait: Duration,
}

pub fn run(context: &Context, word: &Word) -> Outcome {
    match word {
        Word::Check(args) => db_check::run(context, args),
        Word::Vacuum(args) => db_change::vacuum(context, args),
        Word::Orphans(args) => db_change::orphans(context, args),
        Word::Archive(args) => db_change::archive(context, args),
        Word::Recover(args) => db_recover::run(context, args),
    }
}
