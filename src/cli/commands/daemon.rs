//! `daemon`: carries out what a profile plans, for as long as it runs.

use crate::cli::context::Context;
use crate::cli::failure::Outcome;
use crate::cli::unattended;

/// Run the profile's jobs when they are due and when files change, until told to end
///
/// SIGHUP reads the profile again; SIGTERM and Ctrl-C end what is running, and then the daemon. What was missed while it did not
/// run is done once.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Only what is due now, then end
    #[arg(long)]
    once: bool,
}

pub fn run(context: &Context, args: &Args) -> Outcome {
    unattended::run(context, args.once, false)
}
