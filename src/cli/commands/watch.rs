//! `watch`: backs up sets of a profile when their files change.

use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::unattended;

/// Back up the profile's sets with `watch` whenever their files have changed, until told to end
#[derive(clap::Args, Debug)]
pub struct Args {}

pub fn run(context: &Context, _: &Args) -> Outcome {
    let sets = context.parsed.profile.iter().flat_map(|profile| &profile.plan.sets);
    if context.parsed.profile.is_some() && sets.into_iter().all(|set| set.watch.is_none()) {
        return Err(Failure::usage("no set of the profile has `watch = true`"));
    }
    unattended::run(context, false, true)
}
