//! `health`: one verdict over everything that can go wrong with backups.

use crate::cli::context::Context;
use crate::cli::failure::{INTERRUPTED, Outcome};
use crate::cli::health_told::{self as told, Format};
use crate::cli::healths;
use crate::cli::options::duration;
use crate::health::{LiveDepth, Verdict};
use std::path::PathBuf;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  snapkeep health
  snapkeep health --format nagios --fresh-within 26h
  snapkeep -P app health --status-file /run/snapkeep/app.json

The exit code is 0 when all is well, 21 for a warning, 22 when something is critical; with --format nagios 0, 1, 2, and 3
when nobody could look.";

/// Look at backups, databases in use, checks, drills and room, and say whether all is well
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// text, json, nagios or prometheus
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Of every profile in the directory for settings
    #[arg(long)]
    pub all: bool,
    /// How old backups may be about which neither profile nor snapshot says it
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub fresh_within: Option<Duration>,
    /// Databases in use: every index against its table (full), tables only (quick), or not at all (off)
    #[arg(long, value_name = "DEPTH", default_value = "quick", value_parser = LiveDepth::parse)]
    pub live: LiveDepth,
    /// Write the judgement there as JSON [default with a profile: health/PROFILE.json in the state directory]
    #[arg(long, value_name = "FILE")]
    pub status_file: Option<PathBuf>,
    /// Append what is new, worse, better or gone since the status file was last written [default with a profile:
    /// health/PROFILE.alerts.jsonl in the state directory]
    #[arg(long, value_name = "FILE")]
    pub alert_log: Option<PathBuf>,
}

pub fn run(context: &Context, args: &Args) -> Outcome {
    let format = if context.output.json { Format::Json } else { args.format };
    let looked = healths::look(context, args);
    let statuses = match looked {
        Ok(statuses) => statuses,
        Err(failure) if format == Format::Nagios && failure.code != INTERRUPTED => {
            told::unknown(context, failure.message.as_deref().unwrap_or_default())?;
            return Ok(3);
        }
        Err(failure) => return Err(failure),
    };
    let shown = told::tell(context, format, &statuses);
    let verdict = statuses.iter().map(|s| s.verdict).max().unwrap_or_default();
    context.output.ends(shown, code(format, verdict))
}

fn code(format: Format, verdict: Verdict) -> u8 {
    match (format, verdict) {
        (_, Verdict::Ok) => 0,
        (Format::Nagios, Verdict::Warning) => 1,
        (Format::Nagios, Verdict::Critical) => 2,
        (_, Verdict::Warning) => 21,
        (_, Verdict::Critical) => 22,
    }
}
