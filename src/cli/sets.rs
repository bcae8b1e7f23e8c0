//! The sets and targets of a profile, as commands see them: one of them in this process, several in processes of their own.

use super::context::{Context, located_at};
use super::failure::{Failure, NO_REPOSITORY, Outcome, usage};
use super::jobs;
use super::layers::on_command_line;
use super::seen;
use crate::cli::commands::init;
use crate::codes::Code;
use crate::format::snapshot::Expected;
use crate::job::Job;
use crate::settings::plan::{BackupSet, Plan, Target};
use crate::settings::profile::Profile;
use std::io::Read;

/// How every file of SQLite's begins that is not empty.
const DATABASE_START: &[u8] = b"SQLite format 3\0";

/// What a backup is to be of.
pub enum Chosen<'a> {
    /// The paths on the command line.
    Paths,
    /// One set, at the target at hand.
    One(&'a BackupSet),
    /// Sets by name, at all their targets.
    Several(Vec<String>),
}

/// What is meant by the names on the command line, or by none; `paths` says that paths are given.
pub fn chosen<'a>(context: &'a Context, names: &[String], paths: bool) -> Result<Chosen<'a>, Failure> {
    let Some(profile) = profile(context, names)? else { return Ok(Chosen::Paths) };
    let sets = names.iter().map(|name| set(profile, name)).collect::<Result<Vec<_>, _>>()?;
    match (paths, sets.as_slice()) {
        (true, []) => return Ok(Chosen::Paths),
        (true, _) => return Err(Failure::usage("give either paths or the --name of a set")),
        (false, []) if profile.plan.sets.is_empty() => return Ok(Chosen::Paths),
        (false, _) => {}
    }
    let target = target(context);
    match sets.as_slice() {
        [one] if context.global.to.is_some() => {
            if let Some((target, from)) = target.and_then(|t| Some((t, t.from.as_ref()?))) {
                let what = format!("the target {} is filled by copies from {from}", target.name);
                let how = format!("`snapkeep -P {} --to {} copy`", profile.plan.profile, target.name);
                return Err(Failure::usage(format!("{what}: {how}")));
            }
            Ok(Chosen::One(one))
        }
        [] => Ok(Chosen::Several(profile.plan.sets.iter().map(|set| set.name.clone()).collect())),
        some => {
            let is_meant = |set: &&BackupSet| some.iter().any(|meant| meant.name == set.name);
            Ok(Chosen::Several(
                profile.plan.sets.iter().filter(is_meant).map(|set| set.name.clone()).collect(),
            ))
        }
    }
}

/// The profile; names of sets need one.
fn profile<'a>(context: &'a Context, names: &[String]) -> Result<Option<&'a Profile>, Failure> {
    match &context.parsed.profile {
        None if !names.is_empty() => Err(Failure::usage("sets are named in a profile; choose one by -P")),
        profile => Ok(profile.as_ref()),
    }
}

fn set<'a>(profile: &'a Profile, name: &str) -> Result<&'a BackupSet, Failure> {
    profile.plan.set(name).ok_or_else(|| usage(profile.no_set(name)))
}

/// The target at hand: the one that is chosen, or the first.
fn target(context: &Context) -> Option<&Target> {
    let plan: &Plan = &context.parsed.profile.as_ref()?.plan;
    match &context.global.to {
        Some(name) => plan.target(name),
        None => plan.targets.first(),
    }
}

/// All of these sets at all their targets.
pub fn back_up(context: &Context, names: &[String]) -> Outcome {
    let all: Vec<Job> = names.iter().map(|name| Job::Backup(name.clone())).collect();
    jobs::run(context, &all)
}

/// What the record of a set's snapshot says about it.
pub fn expected(context: &Context, set: &BackupSet) -> Option<Expected> {
    let profile = context.parsed.profile.as_ref()?;
    Some(Expected {
        profile: profile.plan.profile.clone(),
        set: set.name.clone(),
        class: set.class.word().to_owned(),
        max_age_seconds: set.max_age.map(|span| span.as_secs()),
    })
}

/// What is called a database should be one; whether it can be read at all is the backup's to say.
pub fn look_at_databases(context: &Context, set: &BackupSet) {
    for path in &set.databases {
        let mut start = Vec::new();
        let read = std::fs::File::open(path).and_then(|file| file.take(16).read_to_end(&mut start));
        if read.is_ok() && !start.is_empty() && start != DATABASE_START {
            let what = "is named as a database of SQLite's and does not begin like one; it is backed up as a plain file";
            context.output.warn(Code::SourceNotDatabase, &format!("{} {what}", path.display()));
        }
    }
}

/// Whether the target at hand is to be made when it is not there.
pub fn target_makes(context: &Context) -> bool {
    target(context).is_some_and(|target| target.init) && !context.global.dry_run
}

/// Whether the target at hand gets its snapshots by copies.
pub fn is_filled(context: &Context) -> bool {
    context.global.to.is_some() && target(context).is_some_and(|target| target.from.is_some())
}

/// Whether a repository may be made where the target at hand should be. A disk that is not mounted looks like a place where
/// nothing was made yet, and a backup into its mount point would fill the wrong disk unseen.
pub fn may_make(context: &Context, failure: Failure) -> Result<(), Failure> {
    let place = context.place()?;
    let (why, hint) = match place.parent() {
        _ if seen::is_known(context.cache().as_deref(), &place) => {
            ("there was a repository before", "if it is gone for good, make a new one by `init`")
        }
        Some(above) if !above.is_dir() => ("the directory it should be in is not there", "make that first"),
        _ => return Ok(()),
    };
    let first = failure.message.unwrap_or_default();
    Err(Failure::new(NO_REPOSITORY, format!("{first}; it is not made: {why}; is the disk mounted? {hint}")))
}

/// Makes the target at hand if it is to be made and is not there; what it is filled from decides how it cuts.
pub fn make_target(context: &Context) -> Result<(), Failure> {
    if !target_makes(context) || !is_filled(context) {
        return Ok(());
    }
    match located_at(&context.place()?) {
        Err(failure) if failure.code == NO_REPOSITORY => {
            may_make(context, failure)?;
            let from =
                context.parsed.settings.get("copy", "from-repo").and_then(|s| s.values.first().cloned());
            let args = from.map_or_else(init::Args::default, init::Args::like);
            init::make(context, &args).map(|_| ())
        }
        Err(failure) => Err(failure),
        Ok(_) => Ok(()),
    }
}

/// Whether a `forget` without snapshots is one of several targets, or of sets with rules of their own.
pub fn forget_is_for_several(context: &Context, names: &[String]) -> Result<bool, Failure> {
    let Some(profile) = profile(context, names)? else { return Ok(false) };
    for name in names {
        set(profile, name)?;
    }
    let here = context.global.to.is_some();
    Ok(match names {
        [] => !profile.plan.sets.is_empty() && (!here || profile.plan.sets.iter().any(|set| set.own_forget)),
        [_] => !here,
        _ => true,
    })
}

/// Thins out every target, by general rules and by those of sets.
pub fn forget(context: &Context, names: &[String]) -> Outcome {
    if let [first, ..] = names {
        let what =
            format!("choose the target as well: `--to TARGET forget --name {first}`, one set at a time");
        return Err(Failure::usage(what));
    }
    jobs::run(context, &[Job::Forget])
}

/// Whether the profile has targets that are filled by copies and none of its targets is chosen.
pub fn copies_are_jobs(context: &Context) -> bool {
    let targets = context.parsed.profile.iter().flat_map(|profile| &profile.plan.targets);
    context.global.to.is_none() && targets.into_iter().any(|target| target.from.is_some())
}

/// Fills every target that is filled by copies.
pub fn copy(context: &Context) -> Outcome {
    let jobs = context.parsed.profile.iter().flat_map(|profile| &profile.plan.jobs);
    let copies: Vec<Job> =
        jobs.map(|plan| plan.job.clone()).filter(|job| matches!(job, Job::Copy(_))).collect();
    jobs::run(context, &copies)
}

/// Sets by their full names.
pub fn full_names(context: &Context, names: &[String]) -> Result<Vec<String>, Failure> {
    let Some(profile) = profile(context, names)? else { return Ok(Vec::new()) };
    names.iter().map(|name| Ok(format!("{}/{}", profile.plan.profile, set(profile, name)?.name))).collect()
}

/// Targets are chosen by `--to`; a repository on the command line would not say which set's or target's it is.
pub fn no_other_repository(context: &Context) -> Result<(), Failure> {
    let named = target(context).is_some_and(|target| !target.repository.is_empty());
    if named && on_command_line(&context.parsed.matches, "repo") {
        let what = "the profile names its repositories; choose one by --to TARGET instead of --repo";
        return Err(Failure::usage(what));
    }
    Ok(())
}
