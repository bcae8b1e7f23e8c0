//! Handing schedules to systemd or cron, and taking them back.

use super::commands::schedule::{Install, Remove};
use super::context::Context;
use super::failure::{Failure, Outcome};
use super::json::Message;
use super::layers::{GLOBAL, base_directory};
use crate::calendar;
use crate::codes::Code;
use crate::error::Error;
use crate::os::process;
use crate::service::gate;
use crate::service::install::systemd::{self, Manager};
use crate::service::install::{Caller, cron, has_cron, has_systemd};
use crate::settings::Origin;
use crate::settings::plan::Plan;
use std::path::PathBuf;
use std::time::Duration;

/// Variables that say where a user's files are, and whose hours the machine's are.
const PLACES: [&str; 5] = ["HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME", "TZ"];

fn caller(context: &Context, plan: &Plan) -> Result<Caller, Failure> {
    let program = std::env::current_exe().map_err(|e| Error::io("cannot find this program itself", &e))?;
    let profile = plan.files.first().cloned().unwrap_or_default();
    let absolute = |path: PathBuf| {
        std::path::absolute(&path).map_err(|e| Failure::from(Error::io("cannot find this directory", &e)))
    };
    let given = context.global.state_dir.clone().map(absolute).transpose()?;
    let variables =
        PLACES.iter().filter_map(|name| Some((*name, std::env::var_os(name).filter(|v| !v.is_empty())?)));
    Ok(Caller { program, profile: absolute(profile)?, state_dir: given, variables: variables.collect() })
}

fn manager(user: bool, system: bool) -> Manager {
    if system || (process::is_root() && !user) { Manager::System } else { Manager::User }
}

fn config_home() -> Option<PathBuf> {
    base_directory("XDG_CONFIG_HOME", ".config")
}

pub fn install(context: &Context, plan: &Plan, args: &Install) -> Outcome {
    let duties = gate::duties(plan, &process::host_name());
    if duties.iter().all(|duty| duty.schedule.is_empty()) {
        let what = format!("the profile {} plans nothing: no job has a `schedule`", plan.profile);
        return Err(Failure::usage(what));
    }
    let caller = caller(context, plan)?;
    let by_systemd = args.systemd || args.user || args.system;
    let by_cron = args.cron || (!by_systemd && !has_systemd());
    if by_cron && !args.cron && !has_cron() {
        let what = "there is neither systemd nor cron here; run `snapkeep -P PROFILE daemon` instead";
        return Err(Failure::usage(what));
    }
    warn(context, plan);
    if by_cron {
        let zone = gate::zone(plan).map_err(super::failure::usage)?;
        let now = context.now();
        let shortest = |duty: &crate::service::keeper::Duty| {
            let interval = duty.schedule.iter().filter_map(calendar::Expression::interval).min();
            interval.into_iter().chain(calendar::gaps(&duty.schedule, now, &zone).map(|(_, gap)| gap)).min()
        };
        let shortest: Option<Duration> = duties.iter().filter_map(shortest).min();
        let block = cron::block(&caller, shortest).map_err(super::failure::usage)?;
        if context.global.dry_run {
            return show(context, "crontab", &block);
        }
        cron::install(&block, &caller)?;
        return told(context, "installed", "cron", &["crontab".to_owned()]);
    }
    let manager = manager(args.user, args.system);
    let units = systemd::units(plan, &duties, &caller, manager).map_err(super::failure::usage)?;
    let dir = manager.dir(config_home().as_deref())?;
    if context.global.dry_run {
        for unit in &units {
            show(context, &dir.join(&unit.name).display().to_string(), &unit.text)?;
        }
        return Ok(0);
    }
    let timers = systemd::install(&dir, &units, &caller, manager)?;
    if manager == Manager::User && !context.output.json {
        let hint =
            "timers of yours run while you are logged in; `loginctl enable-linger` lets them run always";
        context.output.say(hint)?;
    }
    told(context, "installed", "systemd", &timers)
}

/// What will go wrong when nobody is there.
fn warn(context: &Context, plan: &Plan) {
    let settings = &context.parsed.settings;
    let in_profile = |name: &str| {
        let from_variable = |origin: &Origin| matches!(origin, Origin::Variable(_));
        settings.get(GLOBAL, name).is_some_and(|setting| !from_variable(&setting.origin))
    };
    if !in_profile("password-file") && !in_profile("password-command") {
        let what = "nothing in the profile names the password, and a timer has nobody to ask; this is right only for a \
                    repository without encryption";
        context.output.warn(Code::NoPasswordUnattended, what);
    }
    let watching: Vec<&str> =
        plan.sets.iter().filter(|set| set.watch.is_some()).map(|set| set.name.as_str()).collect();
    if !watching.is_empty() {
        let what = format!(
            "timers see no files change; `snapkeep daemon` and `snapkeep watch` do, for {}",
            watching.join(", ")
        );
        context.output.warn(Code::WatchIncomplete, &what);
    }
}

fn show(context: &Context, name: &str, text: &str) -> Outcome {
    let mut paper = context.output.paper();
    if context.output.json {
        paper.json(&Message::new("file").with("path", name).with("text", text))?;
    } else {
        paper.line(&format!("--- {name}"))?;
        text.lines().try_for_each(|line| paper.line(line))?;
    }
    paper.finish()?;
    Ok(0)
}

fn told(context: &Context, what: &'static str, by: &str, names: &[String]) -> Outcome {
    let told = match context.output.json {
        true => context.output.result(&Message::new(what).with("by", by).with("units", names.to_vec())),
        false => names.iter().try_for_each(|name| context.output.say(&format!("{what}: {name}"))),
    };
    Ok(context.output.told(told, 0))
}

pub fn remove(context: &Context, plan: &Plan, args: &Remove) -> Outcome {
    let caller = caller(context, plan)?;
    let manager = manager(args.user, args.system);
    let dir = manager.dir(config_home().as_deref())?;
    let mut gone = Vec::new();
    if !systemd::installed(&dir, &caller)?.is_empty() {
        if context.global.dry_run {
            gone.extend(systemd::installed(&dir, &caller)?);
        } else {
            gone.extend(systemd::remove(&dir, &caller, manager)?);
        }
    }
    if has_cron() {
        let there = match context.global.dry_run {
            true => cron::is_installed(&cron::read()?, &caller)?,
            false => cron::remove(&caller)?,
        };
        gone.extend(there.then(|| "crontab".to_owned()));
    }
    if gone.is_empty() {
        context.output.say(&format!("nothing is installed for the profile {}", plan.profile))?;
        return Ok(0);
    }
    told(context, if context.global.dry_run { "would remove" } else { "removed" }, "schedule", &gone)
}
