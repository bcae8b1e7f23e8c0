//! `version`: which program this is.

use crate::cli::context::Context;
use crate::cli::failure::Outcome;
use crate::cli::json::Message;
use crate::format::FORMAT_VERSION;

/// Say which version this is
#[derive(clap::Args, Debug)]
pub struct Args {}

pub fn run(context: &Context) -> Outcome {
    let version = env!("CARGO_PKG_VERSION");
    let (os, machine) = (std::env::consts::OS, std::env::consts::ARCH);
    let mut paper = context.output.paper();
    if context.output.json {
        let message = Message::new("version").with("version", version).with("format", FORMAT_VERSION);
        paper.json(&message.with("os", os).with("arch", machine))?;
    } else {
        paper.line(&format!("snapkeep {version} (repository format {FORMAT_VERSION}, {os} {machine})"))?;
    }
    paper.finish()?;
    Ok(0)
}
