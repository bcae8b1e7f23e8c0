//! Units of systemd's: a service and a timer for each job that has a schedule.
//!
//! What is protected is little, with intent: hooks may need other users' programs, device nodes or kernel modules, and a
//! backup that a sandbox keeps from a file is a worse one.

use super::{Caller, must, plain};
use crate::error::{Context, Error, Result};
use crate::job::Job;
use crate::service::keeper::Duty;
use crate::settings::plan::{IoClass, Plan, RunLimits};
use std::path::{Path, PathBuf};

/// The first line of every file of ours; the profile's file follows it.
const MARK: &str =
    "# Made by `snapkeep schedule install`, taken away by `snapkeep schedule remove`. Profile: ";

/// Whose manager the units are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manager {
    User,
    System,
}

impl Manager {
    /// Where its units lie.
    pub fn dir(self, config_home: Option<&Path>) -> Result<PathBuf> {
        match (self, config_home) {
            (Manager::System, _) => Ok(PathBuf::from("/etc/systemd/system")),
            (Manager::User, Some(home)) => Ok(home.join("systemd/user")),
            (Manager::User, None) => {
                Err(Error::invalid("units of a user lie below XDG_CONFIG_HOME or HOME, and neither is set"))
            }
        }
    }

    fn control(self, words: &[&str]) -> Result<()> {
        let user: &[&str] = if self == Manager::User { &["--user"] } else { &[] };
        must("systemctl", &[user, words].concat(), None).map(drop)
    }
}

/// A unit's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    pub name: String,
    pub text: String,
}

/// The units of all jobs with a schedule; each timer stands after its service.
pub fn units(plan: &Plan, duties: &[Duty], caller: &Caller, manager: Manager) -> Result<Vec<Unit>> {
    let mut units = Vec::new();
    for duty in duties.iter().filter(|duty| !duty.schedule.is_empty()) {
        let name = unit_name(&plan.profile, &duty.job);
        units
            .push(Unit { text: service(plan, &duty.job, caller, manager)?, name: format!("{name}.service") });
        units.push(Unit { text: timer(plan, duty, caller)?, name: format!("{name}.timer") });
    }
    Ok(units)
}

fn mark(caller: &Caller) -> Result<String> {
    Ok(format!("{MARK}{}", plain("the profile's path", caller.profile.as_os_str())?))
}

/// `snapkeep-app-backup-db`, with what unit names may not hold escaped as systemd does it. No colon: `systemd-analyze` takes
/// what follows one for another name.
fn unit_name(profile: &str, job: &Job) -> String {
    let mut out = String::from("snapkeep-");
    for byte in format!("{profile}-{}", job.to_string().replacen(':', "-", 1)).bytes() {
        if byte.is_ascii_alphanumeric() || b"_.-".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

fn service(plan: &Plan, job: &Job, caller: &Caller, manager: Manager) -> Result<String> {
    let words = caller.words(&["schedule", "run", &job.to_string()]);
    let mut command = vec![program(caller)?];
    for word in words.iter().skip(1) {
        command.push(quoted(plain("the path", word)?));
    }
    let mut lines = vec![
        mark(caller)?,
        "[Unit]".to_owned(),
        format!("Description=snapkeep: {job} of the profile {}", escaped(&plan.profile)),
        String::new(),
        "[Service]".to_owned(),
        "Type=oneshot".to_owned(),
    ];
    for (name, value) in &caller.variables {
        lines.push(format!(
            "Environment={}",
            environment(&format!("{name}={}", plain("the variable", value)?))
        ));
    }
    lines.push(format!("ExecStart={}", command.join(" ")));
    lines.extend(rank(&plan.run));
    lines.push("# The job is asked to end first, and ends what it began.".to_owned());
    lines.extend(["KillMode=mixed".to_owned(), "TimeoutStopSec=90".to_owned(), "UMask=0077".to_owned()]);
    if manager == Manager::System {
        // For a user's manager each of these forbids `sudo` in hooks.
        lines.extend(
            ["LockPersonality=yes", "RestrictRealtime=yes", "ProtectHostname=yes"].map(str::to_owned),
        );
    }
    Ok(lines.join("\n") + "\n")
}

fn rank(limits: &RunLimits) -> Vec<String> {
    let mut lines = Vec::new();
    if limits.nice > 0 {
        lines.push(format!("Nice={}", limits.nice));
    }
    match limits.io {
        IoClass::Idle => lines.push("IOSchedulingClass=idle".to_owned()),
        IoClass::BestEffort => {
            lines.extend(["IOSchedulingClass=best-effort", "IOSchedulingPriority=7"].map(str::to_owned));
        }
        IoClass::None => {}
    }
    lines
}

fn timer(plan: &Plan, duty: &Duty, caller: &Caller) -> Result<String> {
    let mut lines = vec![
        mark(caller)?,
        "[Unit]".to_owned(),
        format!("Description=snapkeep: when {} of the profile {} runs", duty.job, escaped(&plan.profile)),
        String::new(),
        "[Timer]".to_owned(),
    ];
    for expression in &duty.schedule {
        if let Some(interval) = expression.interval() {
            lines.push("OnActiveSec=1min".to_owned());
            lines.push(format!("OnUnitActiveSec={}s", interval.as_secs()));
            continue;
        }
        let events = expression.on_calendar();
        if events.is_empty() {
            let what = format!(
                "systemd has no words for the schedule `{expression}` of {}; run `snapkeep daemon`, or install for cron",
                duty.job
            );
            return Err(Error::invalid(what));
        }
        let zone = plan.run.time_zone.as_deref().filter(|_| !expression.names_zone());
        let zone = zone.filter(|zone| *zone != "system").map(|zone| format!(" {zone}")).unwrap_or_default();
        lines.extend(events.into_iter().map(|event| format!("OnCalendar={}{zone}", escaped(&event))));
    }
    lines.push("# What was missed while the machine was off runs once when it is back.".to_owned());
    lines.push("Persistent=true".to_owned());
    if !plan.run.jitter.is_zero() {
        lines.push(format!("RandomizedDelaySec={}s", plan.run.jitter.as_secs()));
        lines.push("FixedRandomDelay=true".to_owned());
    }
    lines.push("AccuracySec=30s".to_owned());
    lines.extend([String::new(), "[Install]".to_owned(), "WantedBy=timers.target".to_owned()]);
    Ok(lines.join("\n") + "\n")
}

/// The program's path, in which systemd wants no such characters at all.
fn program(caller: &Caller) -> Result<String> {
    let path = plain("the program's path", caller.program.as_os_str())?;
    if path.contains(['"', '\'', '\\', '$']) {
        let what =
            format!("systemd starts no program whose path holds quotes, backslashes or dollars: {path}");
        return Err(Error::invalid(what));
    }
    Ok(format!("\"{}\"", escaped(path)))
}

/// A word of a command line: in quotes, and nothing in it means anything.
fn quoted(word: &str) -> String {
    format!("\"{}\"", escaped(word).replace('\\', "\\\\").replace('"', "\\\"").replace('$', "$$"))
}

/// A value of `Environment=`: as a word, but there a dollar is one.
fn environment(assignment: &str) -> String {
    format!("\"{}\"", escaped(assignment).replace('\\', "\\\\").replace('"', "\\\""))
}

/// Text in which systemd would look for specifiers.
fn escaped(text: &str) -> String {
    text.replace('%', "%%")
}

/// Units in this directory that were made for this profile.
pub fn installed(dir: &Path, caller: &Caller) -> Result<Vec<String>> {
    let mark = mark(caller)?;
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io(format!("cannot read {}", dir.display()), &e)),
    };
    let ours = |name: &String| {
        let is_unit =
            name.starts_with("snapkeep-") && (name.ends_with(".service") || name.ends_with(".timer"));
        let text = || std::fs::read_to_string(dir.join(name)).unwrap_or_default();
        is_unit && text().lines().next() == Some(mark.as_str())
    };
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).filter(ours).collect();
    names.sort();
    Ok(names)
}

/// Writes the units, takes away those of jobs that are no more, and starts the timers. Answers the timers' names.
pub fn install(dir: &Path, units: &[Unit], caller: &Caller, manager: Manager) -> Result<Vec<String>> {
    for unit in units {
        let path = dir.join(&unit.name);
        let is_foreign = path.exists() && !installed(dir, caller)?.contains(&unit.name);
        if is_foreign {
            let what =
                format!("{} is there and was not made for this profile; nothing was changed", path.display());
            return Err(Error::new(crate::error::ErrorKind::Refused, what));
        }
    }
    let old: Vec<String> = installed(dir, caller)?;
    let gone: Vec<String> =
        old.into_iter().filter(|name| !units.iter().any(|unit| unit.name == *name)).collect();
    take_away(dir, &gone, manager)?;
    std::fs::create_dir_all(dir).context(|| format!("cannot make {}", dir.display()))?;
    for unit in units {
        let path = dir.join(&unit.name);
        std::fs::write(&path, &unit.text).context(|| format!("cannot write {}", path.display()))?;
    }
    manager.control(&["daemon-reload"])?;
    let timers: Vec<String> =
        units.iter().map(|unit| unit.name.clone()).filter(|name| name.ends_with(".timer")).collect();
    if !timers.is_empty() {
        let names: Vec<&str> = timers.iter().map(String::as_str).collect();
        manager.control(&[&["enable", "--now"], names.as_slice()].concat())?;
    }
    Ok(timers)
}

/// Stops and removes all units of the profile; answers their names.
pub fn remove(dir: &Path, caller: &Caller, manager: Manager) -> Result<Vec<String>> {
    let names = installed(dir, caller)?;
    take_away(dir, &names, manager)?;
    if !names.is_empty() {
        manager.control(&["daemon-reload"])?;
    }
    Ok(names)
}

fn take_away(dir: &Path, names: &[String], manager: Manager) -> Result<()> {
    let timers: Vec<&str> =
        names.iter().map(String::as_str).filter(|name| name.ends_with(".timer")).collect();
    if !timers.is_empty() {
        manager.control(&[&["disable", "--now"], timers.as_slice()].concat())?;
    }
    for name in names {
        let path = dir.join(name);
        std::fs::remove_file(&path).context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}
