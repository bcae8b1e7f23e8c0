//! `completions`: what a shell needs to complete our words.

use crate::cli::failure::{Failure, Outcome};
use clap_complete::Shell;
use std::io::Write;

/// Write a completion script for a shell
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

pub fn run(args: &Args) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::cli::whole(), "snapkeep", &mut script);
    let mut stdout = std::io::stdout();
    stdout.write_all(&script).and_then(|()| stdout.flush()).map_err(|e| Failure::output(&e))?;
    Ok(0)
}
