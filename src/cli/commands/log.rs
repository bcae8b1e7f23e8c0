//! `log`: what was done on this machine, and how it ended.

use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome, usage};
use crate::cli::names::escape;
use crate::cli::table::{Column, Table};
use crate::clock::Timestamp;
use crate::codes::Code;
use crate::job;
use crate::journal::{Filter, Journal, Record};
use crate::units;
use std::time::Duration;

/// Show what was done on this machine, when, and how it ended
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Only this job or command, for example backup:app, backup or check
    #[arg(long, value_name = "JOB")]
    job: Option<String>,
    /// Only what ended so: ok, incomplete, failed, skipped, refused or interrupted
    #[arg(long, value_name = "OUTCOME", value_parser = outcome)]
    outcome: Option<job::Outcome>,
    /// Only what began at or after TIME, for example "2d ago"
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only the newest so many; 0 for all
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
}

fn outcome(text: &str) -> crate::error::Result<job::Outcome> {
    text.parse()
}

pub fn run(context: &Context, args: &Args) -> Outcome {
    let Some(dir) = context.state_dir() else {
        return Err(Failure::usage("there is no journal: --state-dir names its place where HOME is not set"));
    };
    let since = args.since.as_deref().map(|text| Timestamp::parse(text, context.now())).transpose();
    let filter = Filter {
        profile: context.profile_name(),
        job: args.job.clone(),
        outcome: args.outcome,
        since: since.map_err(usage)?,
        limit: (args.limit > 0).then_some(args.limit),
    };
    let reading = Journal::at(&dir).read(&filter)?;
    if reading.skipped > 0 {
        let lines = units::counted(reading.skipped, "line", "lines");
        let what =
            format!("{lines} of the journal in {} cannot be read; a crash may have torn them", dir.display());
        context.output.warn(Code::JournalTorn, &what);
    }
    let mut paper = context.output.paper();
    if context.output.json {
        for record in &reading.records {
            paper.json(record)?;
        }
        paper.finish()?;
        return Ok(0);
    }
    if reading.records.is_empty() {
        context.output.say(&format!("nothing like that is written in the journal in {}", dir.display()))?;
        return Ok(0);
    }
    for line in table(&reading.records).lines(context.output.width(), context.output.colours()) {
        paper.line(&line)?;
    }
    for record in reading.records.iter().filter(|_| context.output.verbose > 0) {
        for hook in &record.hooks {
            let words =
                format!("{} hook {}: {}, exit code {}", record.time, hook.when, hook.command, hook.code);
            paper.line(&crate::cli::output::one_line(&words))?;
        }
    }
    paper.finish()?;
    Ok(0)
}

fn table(records: &[Record]) -> Table {
    let mut table = Table::new(vec![
        Column::left("Time"),
        Column::shrinking("Job"),
        Column::left("Outcome"),
        Column::right("Took"),
        Column::right("Added"),
        Column::shrinking("Told"),
    ]);
    for record in records {
        let time = Timestamp::parse_rfc3339(&record.time);
        let time = time.map_or_else(|| escape(record.time.as_bytes()), |time| time.local());
        let name = record.job.as_deref().unwrap_or(&record.command);
        let name = match &record.target {
            Some(target) => format!("{name}@{target}"),
            None => name.to_owned(),
        };
        let outcome = match record.code {
            0 => record.outcome.word().to_owned(),
            code => format!("{} {code}", record.outcome.word()),
        };
        let took = Duration::try_from_secs_f64(record.seconds).unwrap_or_default();
        let told = record.message.as_deref().or(record.snapshot.as_deref().and_then(|id| id.get(..8)));
        let cells = [
            time,
            escape(name.as_bytes()),
            outcome,
            units::duration(took),
            record.added.map(units::bytes).unwrap_or_default(),
            escape(told.unwrap_or_default().as_bytes()),
        ];
        table.row(cells.into_iter().map(|cell| vec![cell]).collect());
    }
    table
}
