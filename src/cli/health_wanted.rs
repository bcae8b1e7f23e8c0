//! What a profile and the journal have to say about health: which backups are wanted, how fresh, and which jobs ran.

use super::context::Context;
use super::failure::Failure;
use super::layers::base_directory;
use crate::calendar;
use crate::clock::{Timestamp, Zone};
use crate::codes::Code;
use crate::error::Error;
use crate::health::{Class, Finding, JobFact, Status, Verdict, Wanted};
use crate::job::Job;
use crate::journal::{Journal, job_key};
use crate::os::process::{host_name, is_root};
use crate::repository::snapshots::encode_path;
use crate::settings::plan::{BackupSet, JobPlan, Plan, Target};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

/// How far past two intervals a copy is overdue.
const MARGIN: Duration = Duration::from_secs(3600);

/// The sets that are to be at this target.
pub fn sets(plan: &Plan, target: &Target) -> Vec<Wanted> {
    let here = plan.sets.iter().filter(|set| set.targets.contains(&target.name));
    here.map(|set| wanted(plan, target, set)).collect()
}

fn wanted(plan: &Plan, target: &Target, set: &BackupSet) -> Wanted {
    let planned = plan.job(&Job::Backup(set.name.clone()));
    let scheduled = set.watch.is_some() || planned.is_some_and(|job| !job.schedule.is_empty());
    let paths = set.sources.iter().map(|path| encode_path(path.as_os_str().as_bytes()));
    Wanted {
        profile: plan.profile.clone(),
        set: set.name.clone(),
        class: Class::named(set.class.word()),
        max_age: set.max_age.map(|age| age.saturating_add(later(plan, target))),
        scheduled,
        paths: paths.collect(),
        min_files: set.minimum.files,
        min_bytes: set.minimum.bytes,
        min_rows: set.minimum.rows.clone(),
    }
}

/// How much older than at its source a copy may be: what is copied by a schedule of its own waits for that.
fn later(plan: &Plan, target: &Target) -> Duration {
    let copy = plan.job(&Job::Copy(target.name.clone())).filter(|_| target.from.is_some());
    let zone = plan.run.time_zone.as_deref().and_then(|name| Zone::parse(name).ok());
    let gaps = |job: &JobPlan| {
        calendar::gaps(&job.schedule, Timestamp::default(), &zone.clone().unwrap_or_else(Zone::system))
    };
    let longest = copy.filter(|job| !job.schedule.is_empty()).and_then(gaps).map(|(longest, _)| longest);
    longest.map_or(Duration::ZERO, |gap| gap.saturating_mul(2).saturating_add(MARGIN))
}

/// What this machine remembers of the jobs at this target; of whole jobs with the first one.
pub fn jobs(plan: &Plan, target: &Target, journal: &Journal) -> Vec<JobFact> {
    let Ok((states, _)) = journal.states(&plan.profile) else { return Vec::new() };
    let is_first = plan.targets.first().is_some_and(|first| first.name == target.name);
    let mut out = Vec::new();
    // Our own last verdict is no news, and neither is what nobody runs by itself.
    for job in plan.jobs.iter().filter(|job| job.job != Job::Health) {
        let name = job.job.to_string();
        let whole = states.get(&job_key(&name, None));
        let at = states.get(&job_key(&name, Some(&target.name)));
        let about_all = job.targets.is_empty() && is_first;
        if let Some(state) = at.or(whole.filter(|_| about_all)) {
            out.push(JobFact {
                name: if about_all { name.clone() } else { job_key(&name, Some(&target.name)) },
                last_success: state.last_success.as_deref().and_then(Timestamp::parse_rfc3339),
                consecutive_failures: u64::from(state.consecutive_failures),
                last_message: state.last_message.clone().unwrap_or_default(),
                ..JobFact::default()
            });
        }
        if let Some(state) = whole.filter(|_| is_first) {
            let next = state.planned();
            out.push(JobFact { name, next, scheduled: !job.schedule.is_empty(), ..JobFact::default() });
        }
    }
    out
}

/// The files of all profiles: what is no profile by itself, but included by others, has no repository.
pub fn profiles() -> Result<Vec<PathBuf>, Failure> {
    let own = base_directory("XDG_CONFIG_HOME", ".config");
    let homes = own.into_iter().chain(is_root().then(|| PathBuf::from("/etc")));
    let mut out = Vec::new();
    for dir in homes.map(|home| home.join("snapkeep")) {
        let entries = match std::fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => return Err(Error::io(format!("cannot read {}", dir.display()), &e).into()),
        };
        let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let mut files: Vec<PathBuf> = files.filter(|p| p.extension().is_some_and(|e| e == "toml")).collect();
        files.sort();
        let is_whole = |file: &PathBuf| {
            // One that cannot be read is told by whoever tries to use it.
            let text = std::fs::read_to_string(file).unwrap_or_else(|_| "[repository]".to_owned());
            text.lines().any(|line| line.trim_start().starts_with("[repository]") || line.contains("include"))
        };
        out.extend(files.into_iter().filter(is_whole));
    }
    Ok(out)
}

/// The judgement where a process of ours gave none.
pub fn silent(context: &Context, profile: &Path, target: Option<&str>, output: &Output) -> Status {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let last = stderr.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    let told = serde_json::from_str::<serde_json::Value>(last).ok();
    let message = told.and_then(|v| v["message"].as_str().map(str::to_owned));
    let cause = message.unwrap_or_else(|| format!("health ended with {}: {last}", output.status));
    let place = profile.display().to_string();
    let finding = Finding::new(Code::RepositoryUnreachable, Verdict::Critical, &place, cause);
    let name = profile.file_stem().map(|name| name.to_string_lossy().into_owned());
    Status {
        now: context.now(),
        host: host_name(),
        place,
        profile: name,
        target: target.map(str::to_owned),
        verdict: Verdict::Critical,
        findings: vec![finding],
        unknown: vec!["everything else about it".to_owned()],
        ..Status::default()
    }
}

/// `app.json` for the target `usb` is `app@usb.json`.
pub fn with_target(file: &Path, target: Option<&str>) -> PathBuf {
    let Some(target) = target else { return file.to_owned() };
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let ending = file.extension().map(|e| format!(".{}", e.to_string_lossy())).unwrap_or_default();
    file.with_file_name(format!("{stem}@{}{ending}", crate::journal::file_name(target)))
}
