//! `verify`: a database in use against its newest snapshot.

use crate::cli::context::Context;
use crate::cli::failure::{Outcome, usage};
use crate::cli::options::FilterArgs;
use crate::cli::rows_verify;
use std::path::PathBuf;

/// Compare a database in use with its newest snapshot: schema and all rows
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The database
    #[arg(id = "of", value_name = "DATABASE")]
    path: PathBuf,
    #[command(flatten)]
    filter: FilterArgs,
}

pub fn run(context: &Context, args: &Args) -> Outcome {
    rows_verify::run(context, &args.path, &args.filter.filter().map_err(usage)?)
}
