//! The daemon at the door: signals in, words about jobs out.

use super::context::Context;
use super::failure::{Failure, Outcome};
use super::jobs;
use super::json::Message;
use super::layers;
use super::output::Output;
use crate::clock::{Clock, SystemClock};
use crate::codes::Code;
use crate::error::Error;
use crate::journal::Journal;
use crate::metrics::Server;
use crate::os::{process, signals};
use crate::service::daemon::{Daemon, Event, Loaded, Surroundings, Told};
use crate::service::guards::Machine;
use crate::service::voices;
use crate::settings::plan::Plan;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

/// Runs the profile's jobs until it is told to end; with `once` only what is due, with `only_watch` only what changes ask for.
pub fn run(context: &Context, once: bool, only_watch: bool) -> Outcome {
    let Some(name) = &context.global.use_profile else {
        return Err(Failure::usage("what runs by itself stands in a profile; choose one by -P"));
    };
    super::sets::no_other_repository(context)?;
    let stop = Arc::new(AtomicBool::new(false));
    let known: Arc<Mutex<Arc<Plan>>> = Arc::default();
    let load = || {
        let profile = layers::profile(name, &layers::known(&super::command()))?;
        let made = jobs::cycle(context, Arc::clone(&stop));
        let mut cycle = made.map_err(|failure| Error::invalid(failure.message.unwrap_or_default()))?;
        let plan = Arc::new(profile.plan);
        cycle.plan = Arc::clone(&plan);
        *known.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&plan);
        // Our own options are none of theirs.
        cycle.own.clear();
        Ok(Loaded { plan, runner: Arc::new(cycle) })
    };
    let output = Arc::clone(&context.output);
    let tell = move |told: Told<'_>| say(&output, &told);
    let targets = context.parsed.profile.iter().flat_map(|profile| &profile.plan.targets);
    let repositories = targets.filter_map(|target| super::context::directory(&target.repository).ok());
    let around = Surroundings {
        clock: Arc::new(SystemClock),
        machine: Machine::default(),
        journal: jobs::journal(context),
        host: process::host_name(),
        own_places: context.own_places().into_iter().chain(repositories).collect(),
        stop: Arc::clone(&stop),
        load: &load,
        tell: &tell,
        only_watch,
    };
    let journal = around.journal.clone();
    let mut daemon = Daemon::new(around)?;
    let _server = if once { None } else { served(context, journal, Arc::clone(&known))? };
    let sender = daemon.sender();
    let heard = move |signal: i32| {
        // Nobody listens any more only when the program ends.
        let _ = sender.send(if signal == SIGHUP { Event::Reload } else { Event::Stop });
    };
    signals::listen(&[SIGHUP, SIGINT, SIGTERM], heard)
        .map_err(|e| Failure::from(Error::io("cannot listen for signals", &e)))?;
    if !once {
        context.output.detail("waiting for what is due");
    }
    daemon.run(once)?;
    Ok(0)
}

/// Answers Prometheus where the profile wants that. The place is that of the profile as it was at the beginning; the figures are those
/// of the profile as it is.
fn served(
    context: &Context,
    journal: Option<Journal>,
    known: Arc<Mutex<Arc<Plan>>>,
) -> Result<Option<Server>, Failure> {
    let plan = move || Arc::clone(&known.lock().unwrap_or_else(PoisonError::into_inner));
    let Some(listen) = plan().metrics.listen.clone() else { return Ok(None) };
    let Some(journal) = journal else {
        let what = "[metrics] listen needs the journal, which holds the figures; leave out --no-journal";
        return Err(Failure::usage(what));
    };
    let page = move || voices::page(&plan(), &journal, SystemClock.now()).text();
    let server = Server::start(&listen, Box::new(page))?;
    context.output.detail(&format!("figures at http://{}/metrics", server.address()));
    Ok(Some(server))
}

fn say(output: &Output, told: &Told<'_>) {
    match told {
        Told::Begins(start) if output.json => {
            let message = Message::new("begins").with("job", start.job.to_string());
            output.passing(
                &message.with("trigger", start.trigger.word()).with("planned", start.planned.rfc3339()),
            );
        }
        Told::Begins(start) => output.detail(&format!("{} begins ({})", start.job, start.trigger.word())),
        Told::Ended(report) => jobs::tell(output, report),
        Told::Held(job, why) => output.warn(Code::JobHeld, &format!("{job} is not begun now: {why}")),
        Told::Problem(problem) => output.warn(Code::WatchIncomplete, problem),
        Told::Lost(text) => output.warn(Code::JobStatesLost, text),
        Told::NotWritten(text) => output.warn(Code::JournalUnwritable, text),
        Told::NotReloaded(text) => output.warn(Code::ProfileNotReloaded, text),
        Told::Note(text) => {
            let _ = output.say(text);
        }
    }
}
