//! `notify`: can those be told who want to hear of failures?

use crate::cli::context::Context;
use crate::cli::failure::Outcome;
use crate::cli::notices;
use crate::notifications::{self, Message, Signal};
use crate::os::process::host_name;
use crate::settings::plan_notify::Event;

/// Tell those whom a profile names
#[derive(clap::Subcommand, Debug)]
pub enum Word {
    /// Send a test to every place the profile names and say what came back; exit code 1 if one could not be told
    Test(TestArgs),
}

#[derive(clap::Args, Debug)]
pub struct TestArgs {
    /// What the test says
    #[arg(value_name = "TEXT", default_value = "This is a test. Nothing is wrong.")]
    text: String,
}

pub fn run(context: &Context, word: &Word) -> Outcome {
    let Word::Test(args) = word;
    let plan = notices::plan(context)?;
    if plan.notify.is_empty() {
        return Err(notices::nobody(plan));
    }
    let host = host_name();
    let message = Message {
        event: Event::Success,
        title: format!("test of {} on {host}", plan.profile),
        text: args.text.clone(),
        high: false,
        key: "test".to_owned(),
        profile: plan.profile.clone(),
        job: "test".to_owned(),
        target: String::new(),
        host,
        outcome: "ok".to_owned(),
    };
    let mut sent = notifications::send_to_all(&plan.notify, &message, context.now());
    // A switch that is told of a start waits for an end, so it hears of both.
    let job = plan.notify.ping.as_ref().and_then(|p| p.jobs.as_ref()?.all().first().cloned());
    let job = job.unwrap_or_else(|| "backup".to_owned());
    for signal in [Signal::Start, Signal::Success] {
        sent.extend(notifications::ping(&plan.notify, &job, signal, &args.text));
    }
    notices::tell(context, &sent)
}
