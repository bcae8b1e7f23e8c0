//! `man`: the manual pages.

use crate::cli::context::Context;
use crate::cli::failure::Outcome;
use crate::error::Context as _;
use std::path::PathBuf;

/// Write the manual pages into a directory
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The directory; made if it is missing
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

pub fn run(context: &Context, args: &Args) -> Outcome {
    let dir = args.dir.display();
    if context.global.dry_run {
        context.output.say(&format!("would write manual pages into {dir}"))?;
        return Ok(0);
    }
    let failed = || format!("cannot write manual pages into {dir}");
    std::fs::create_dir_all(&args.dir).context(failed)?;
    clap_mangen::generate_to(crate::cli::whole(), &args.dir).context(failed)?;
    context.output.say(&format!("wrote manual pages into {dir}"))?;
    Ok(0)
}
