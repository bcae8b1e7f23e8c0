//! The same decisions as a restore makes, told instead of carried out.

use super::batch::{follow, rules, set_totals};
use super::clear::Clear;
use super::course::{Course, Job, Left, Step};
use super::decide::Verdict;
use super::tally::Tally;
use super::{Action, Counts, Plan, What};
use crate::error::{Context, Result};
use crate::os::beneath::Beneath;
use crate::os::dir;
use crate::os::owners::Owners;
use crate::progress::{Progress, Report};
use crate::repository::reader::Reader;
use std::io::ErrorKind::NotFound;

type Each<'e> = &'e mut dyn FnMut(&Action<'_>) -> Result<()>;

pub fn preview(
    reader: &Reader,
    plan: &Plan,
    progress: &Progress,
    report: &dyn Report,
    each: Each<'_>,
) -> Result<Counts> {
    set_totals(plan, progress);
    let owners = Owners::load();
    let rules = rules(plan, &owners);
    let tally = Tally::new(progress, report);
    let beneath = match Beneath::open(&plan.target) {
        Ok(beneath) => Some(beneath),
        Err(e) if e.kind() == NotFound => None,
        other => Some(other.context(|| format!("cannot open {}", plan.target.display()))?),
    };
    let mut course = Course::new(plan, &rules, &tally, (reader, beneath.as_ref()), (true, false))?;
    let mut counts = Counts::default();
    let mut take = |step: Step| {
        let tell = &mut |action: &Action<'_>| {
            count(&mut counts, action);
            each(action)
        };
        match step {
            Step::Dir(what, path) => tell(&Action { what, path: &path, is_dir: true, bytes: 0 }),
            Step::Job(job) => {
                progress.add_file(job.entry.content.size);
                tell(&Action {
                    what: what(&job),
                    path: &job.entry.path,
                    is_dir: false,
                    bytes: job.entry.content.size,
                })
            }
            Step::Left(left) => extras((plan, &tally), beneath.as_ref(), &left, tell),
        }
    };
    follow(reader, plan, &mut course, &tally, &mut take)?;
    let summary = tally.summary();
    counts.total_files = summary.total_files;
    counts.total_bytes = summary.total_bytes;
    Ok(counts)
}

fn what(job: &Job) -> What {
    match job.verdict {
        Verdict::Create => What::Create,
        // It gives way only with --delete, or when it is empty, which is not known before.
        Verdict::Replace => What::Replace,
        Verdict::Keep { mend: false } => What::Keep,
        Verdict::Keep { mend: true } => What::Mend,
        Verdict::Skip => What::Skip,
    }
}

fn extras(
    (plan, tally): (&Plan, &Tally<'_>),
    beneath: Option<&Beneath>,
    left: &Left,
    tell: Each<'_>,
) -> Result<()> {
    if left.extras.is_empty() {
        return Ok(());
    }
    // The course keeps only the last directories open.
    let again = || beneath.and_then(|b| b.dir(plan.relative(&left.path)).ok());
    let Some(handle) = left.handle.clone().or_else(again) else { return Ok(()) };
    for name in &left.extras {
        let path = left.path_of(name);
        let clear = Clear { select: &plan.select, tally, in_place: plan.options.in_place.as_ref() };
        if clear.means(&handle, name, &path, left.wanted) {
            let is_dir = dir::status(&handle, name).is_ok_and(|s| s.is_dir());
            tell(&Action { what: What::Delete, path: &path, is_dir, bytes: 0 })?;
        }
    }
    Ok(())
}

fn count(counts: &mut Counts, action: &Action<'_>) {
    let counter = match action.what {
        What::Create => &mut counts.create,
        What::Replace => &mut counts.replace,
        What::Keep => &mut counts.keep,
        What::Mend => &mut counts.mend,
        What::Skip => &mut counts.skip,
        What::Delete => &mut counts.delete,
        What::Conflict => &mut counts.conflict,
    };
    *counter += 1;
    if matches!(action.what, What::Create | What::Replace) {
        counts.bytes += action.bytes;
    }
}
