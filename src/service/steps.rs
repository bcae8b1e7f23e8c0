//! Which commands of ours a job consists of at one of its targets.

use crate::job::{Job, Trigger};
use crate::settings::plan::{JobPlan, Plan, Target};
use std::ffi::OsString;

/// Commands, each a word and what follows it, carried out one after the other as long as they go well.
pub type Steps = Vec<Vec<OsString>>;

/// A place at which a job does something.
pub struct Stop {
    /// Empty for jobs that are about the whole profile.
    pub target: String,
    pub optional: bool,
    pub steps: Steps,
    /// Only when the job went well at that target: there is nothing to copy otherwise.
    pub needs: Option<String>,
}

/// Everything that the job does, in order. Its own words follow the command's word.
pub fn of(plan: &Plan, job: &JobPlan, trigger: Trigger, own: &[OsString]) -> Vec<Stop> {
    let targets = job.targets.iter().filter_map(|name| plan.target(name));
    match &job.job {
        Job::Backup(set) => targets.filter_map(|target| backup(plan, set, target, trigger, own)).collect(),
        Job::Copy(_) => targets.map(|target| copy(plan, target, None, own)).collect(),
        Job::Forget => targets.map(|target| stop(target, forget(plan, own))).collect(),
        Job::Prune | Job::Check | Job::Drill => {
            targets.map(|target| stop(target, vec![step(job.job.word(), &[], own)])).collect()
        }
        Job::Health | Job::Report => {
            let words: &[&str] = if job.job == Job::Report { &["--send"] } else { &[] };
            vec![Stop {
                target: String::new(),
                optional: false,
                steps: vec![step(job.job.word(), words, own)],
                needs: None,
            }]
        }
    }
}

fn stop(target: &Target, steps: Steps) -> Stop {
    Stop { target: target.name.clone(), optional: target.optional, steps, needs: None }
}

fn step(word: &str, words: &[&str], own: &[OsString]) -> Vec<OsString> {
    std::iter::once(word)
        .chain(words.iter().copied())
        .map(OsString::from)
        .chain(own.iter().cloned())
        .collect()
}

fn backup(plan: &Plan, set: &str, target: &Target, trigger: Trigger, own: &[OsString]) -> Option<Stop> {
    if target.from.is_none() {
        let unchanged: &[&str] = if trigger == Trigger::Watch { &["--skip-if-unchanged"] } else { &[] };
        let words = [&["--name", set][..], unchanged].concat();
        return Some(stop(target, vec![step("backup", &words, own)]));
    }
    // Copies with a schedule of their own wait for it.
    let planned = plan.job(&Job::Copy(target.name.clone()))?;
    planned.schedule.is_empty().then(|| copy(plan, target, Some(set), &[]))
}

/// Copies of one set, or of all that belong at the target.
fn copy(plan: &Plan, target: &Target, set: Option<&str>, own: &[OsString]) -> Stop {
    let belongs = |name: &String| *name == target.name;
    let all = plan.sets.iter().all(|set| set.targets.iter().any(belongs));
    let mut words = Vec::new();
    let chosen = plan.sets.iter().filter(|s| match set {
        Some(name) => s.name == name,
        None => !all && s.targets.iter().any(belongs),
    });
    for set in chosen {
        words.push("--of-set".to_owned());
        words.push(format!("{}/{}", plan.profile, set.name));
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let needs = set.and_then(|_| target.from.clone());
    Stop { needs, ..stop(target, vec![step("copy", &words, own)]) }
}

/// Sets with rules of their own first, each by itself; the general rules then for all others. Only the last one prunes.
fn forget(plan: &Plan, own: &[OsString]) -> Steps {
    let own_rules: Vec<&str> =
        plan.sets.iter().filter(|set| set.own_forget).map(|set| set.name.as_str()).collect();
    let mut steps = Steps::new();
    for (at, set) in own_rules.iter().enumerate() {
        let last = at + 1 == own_rules.len() && !plan.general_forget;
        let words = if last { vec!["--name", set] } else { vec!["--name", set, "--no-prune"] };
        steps.push(step("forget", &words, own));
    }
    if plan.general_forget || own_rules.is_empty() {
        let words: Vec<&str> = own_rules.iter().flat_map(|set| ["--except-set", set]).collect();
        steps.push(step("forget", &words, own));
    }
    steps
}
