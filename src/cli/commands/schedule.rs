//! `schedule`: what runs by itself, when, and by whom.

use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::{installing, jobs, scheduled};
use crate::job::Job;

/// See, install and run what a profile plans
#[derive(clap::Subcommand, Debug)]
pub enum Word {
    /// Hand the schedules of the profile to systemd or cron
    Install(Install),
    /// Take away what `install` made for the profile
    Remove(Remove),
    /// List the profile's jobs: when they ran, how it ended, when they run next
    List,
    /// Show the coming runs, earliest first
    Next(Next),
    /// Run one job as timers do: not beside itself, not on a low battery, and with further attempts
    Run(Run),
}

#[derive(clap::Args, Debug)]
pub struct Install {
    /// As timers of systemd's [default: where there is systemd]
    #[arg(long, conflicts_with = "cron")]
    pub systemd: bool,
    /// As a line in your crontab that asks every few minutes for what is overdue
    #[arg(long)]
    pub cron: bool,
    /// For your own manager of systemd's [default: unless you are root]
    #[arg(long, conflicts_with = "system")]
    pub user: bool,
    /// For the whole machine
    #[arg(long, conflicts_with = "cron")]
    pub system: bool,
}

#[derive(clap::Args, Debug)]
pub struct Remove {
    /// From your own manager of systemd's [default: unless you are root]
    #[arg(long, conflicts_with = "system")]
    pub user: bool,
    /// From the whole machine
    #[arg(long)]
    pub system: bool,
}

#[derive(clap::Args, Debug)]
pub struct Next {
    /// How many
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub limit: usize,
}

#[derive(clap::Args, Debug)]
pub struct Run {
    /// The job, for example backup:app, forget or check
    #[arg(value_name = "JOB", required_unless_present = "due", conflicts_with = "due")]
    job: Option<String>,
    /// Whatever is overdue by what is known of earlier runs
    #[arg(long)]
    due: bool,
}

pub fn run(context: &Context, word: &Word) -> Outcome {
    let Some(profile) = &context.parsed.profile else {
        return Err(Failure::usage("schedules are those of a profile; choose one by -P"));
    };
    let plan = &profile.plan;
    match word {
        Word::Install(args) => installing::install(context, plan, args),
        Word::Remove(args) => installing::remove(context, plan, args),
        Word::List => scheduled::list(context, plan),
        Word::Next(args) => scheduled::next(context, plan, args.limit),
        Word::Run(args) => match &args.job {
            Some(name) => {
                let job: Job = name.parse().map_err(crate::cli::failure::usage)?;
                plan.job_or_error(&job).map_err(crate::cli::failure::usage)?;
                scheduled::run(context, plan, job)
            }
            None => scheduled::run_due(context, plan, jobs::journal(context)),
        },
    }
}
