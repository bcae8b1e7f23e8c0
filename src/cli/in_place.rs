//! Restores over what is there, step by step: plan, question, safety snapshot, work, and how to take it back.

use super::commands::restore::{action_word, note, story, summary};
use super::context::Context;
use super::failure::{DAMAGED, FAILED, Failure, Outcome, REFUSED, VALIDATION};
use super::json::Message;
use super::names::shown;
use super::options::duration;
use super::rules;
use super::stop::Stop;
use super::terminal::Watch;
use crate::error::{Error, ErrorKind};
use crate::in_place::{Part, Safety, Saved, spare_ours};
use crate::repository::Repository;
use crate::repository::reader::Reader;
use crate::repository::snapshots::{Listed, Listing};
use crate::restore::{
    Action, Counts, Plan, RestoreOptions, Stage, Summary, What, added, execute, plan, present, preview,
    remove,
};
use crate::units;
use crate::verify::Changes;
use clap::ValueEnum;
use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Lines of the plan that are shown unless the user wants all of them.
const LINES: u64 = 20;

/// Whether to go on, and how carefully.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct SureArgs {
    /// Do not ask before things are replaced
    #[arg(short, long)]
    pub yes: bool,
    /// What to do about the safety snapshot: it must hold everything, or may lack what cannot be read, or is not made
    #[arg(long, value_name = "HOW", default_value = "whole")]
    pub safety: Care,
    /// How long to wait for a database that somebody keeps locked
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub sqlite_wait: Duration,
}

/// How much the safety snapshot must hold.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Care {
    Whole,
    Partial,
    Off,
}

/// A restore over what is there.
pub struct Job<'a> {
    pub context: &'a Context,
    pub repository: &'a Arc<Repository>,
    pub listing: &'a Listing,
    pub from: &'a Listed,
    pub parts: Vec<Part>,
    pub options: RestoreOptions,
    pub sure: SureArgs,
    /// The restore that is taken back: what it put there and was not there before goes.
    pub undone: Option<Option<&'a Listed>>,
    pub care: StageArgs,
}

/// What is done before anything is replaced.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
pub struct StageArgs {
    /// Put each file in place as soon as it is written, without writing all of them beside it first
    #[arg(long, conflicts_with_all = ["table", "key"])]
    pub no_stage: bool,
    /// Do not try the rules that the snapshot holds
    #[arg(long, conflicts_with_all = ["table", "key"])]
    pub no_rules: bool,
    /// For a way back that must not fail where it can be gone: what cannot be staged is put in place without.
    #[arg(skip)]
    pub or_without: bool,
}

/// One part, planned.
pub struct Planned {
    /// `None` where nothing stood before.
    pub put: Option<Plan>,
    /// What to remove, with the plan of the restore that put it there.
    gone: Option<(Plan, Vec<Vec<u8>>)>,
}

/// Without a terminal nobody can be asked, so that the answer must be there already.
pub fn may_ask(context: &Context, sure: SureArgs) -> Result<(), Failure> {
    let terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal() && !context.output.json;
    if sure.yes || context.global.dry_run || terminal {
        return Ok(());
    }
    let what = "this replaces what is there, and there is no terminal to ask on; say --yes, or look first with --dry-run";
    Err(Failure::new(REFUSED, what))
}

impl Job<'_> {
    pub fn run(&self) -> Outcome {
        let mut ours = self.ours();
        if self.options.delete {
            spare_ours(&self.parts, &ours)?;
        }
        let reader = Arc::new(self.repository.reader()?.with_parity());
        let bases = self.ruled(&reader)?;
        let plans = self.plans(&reader, None)?;
        let tallied = self.show(&reader, &plans, !bases.is_empty())?;
        let idle = tallied.create + tallied.replace + tallied.delete == 0 && tallied.mend == 0;
        if idle && self.context.global.dry_run {
            return self.told_dry(&tallied);
        }
        // One that was killed may have left files under temporary names, which the way through the tree takes away.
        if idle && self.earlier().next().is_none() {
            return self.nothing_to_do(&tallied);
        }
        self.validate(&reader, &bases, &tallied.changes)?;
        if self.context.global.dry_run {
            return self.told_dry(&tallied);
        }
        self.context.output.say(&format!("over {}: {}", self.places(), Self::totals(&tallied)))?;
        if !self.confirmed()? {
            return Err(Failure::new(FAILED, "not confirmed; nothing was changed"));
        }
        let stages = self.stage(&reader, &plans, &tallied.bytes)?;
        ours.extend(stages.iter().flatten().map(Stage::path));
        let saved = self.safety(&ours, true)?;
        // Planned again, with the moment after which changes are in no snapshot.
        let plans = self.plans(&reader, saved.as_ref())?;
        let mut watch = Watch::start(self.context);
        let done = self.carry_out(&reader, plans, stages, &watch);
        watch.finish();
        let done = done.map_err(|e| self.ended_early(e, saved.as_ref()))?;
        self.context.warn_of_mended(&reader);
        if done.problems == 0 {
            self.settle(saved.as_ref());
        }
        let place = |base: &[u8]| Part { below: base.to_vec(), base: Vec::new() }.place();
        let hold = rules::after_restore(self.context, &reader, &self.from.root, &bases, &place)?;
        self.told(&done, saved.as_ref(), hold)
    }

    /// For what is changed in another way: the question, then the safety snapshot.
    pub fn begin(&self) -> Result<Option<Saved>, Failure> {
        may_ask(self.context, self.sure)?;
        if !self.confirmed()? {
            return Err(Failure::new(FAILED, "not confirmed; nothing was changed"));
        }
        self.safety(&self.ours(), false)
    }

    /// Directories of our own.
    fn ours(&self) -> Vec<PathBuf> {
        self.context.own_places()
    }

    fn plans(&self, reader: &Reader, saved: Option<&Saved>) -> Result<Vec<Planned>, Failure> {
        let mut plans = Vec::new();
        for part in &self.parts {
            let target = part.target();
            let options = part.options(&self.options, saved, self.sure.sqlite_wait);
            let planned = |root| match plan(reader, root, &target, &options) {
                // What was not there before was not stored either.
                Err(e) if e.kind() == ErrorKind::NotFound && self.undone.is_some() => Ok(None),
                planned => planned.map(Some),
            };
            let gone = match self.undone.flatten() {
                None => None,
                Some(undone) => match planned(&undone.root)? {
                    None => None,
                    Some(plan) => {
                        let paths = added(reader, &plan, &self.from.root)?;
                        Some((plan, paths))
                    }
                },
            };
            plans.push(Planned { put: planned(&self.from.root)?, gone });
        }
        Ok(plans)
    }

    /// Prints what will be done.
    fn show(&self, reader: &Reader, plans: &[Planned], keeps: bool) -> Result<Tallied, Failure> {
        let context = self.context;
        let mut watch = Watch::beside_results(context);
        let mut paper = context.output.paper();
        let mut stop = Stop::default();
        let mut all = Tallied::default();
        let every = context.global.dry_run || context.output.verbose > 0;
        let quiet = context.output.quiet || (context.output.json && !context.global.dry_run);
        let mut changes = Changes::default();
        let mut line = |action: &Action<'_>| {
            match action.what {
                _ if !keeps => false,
                What::Create | What::Replace => changes.come.insert(action.path.to_vec()),
                What::Delete => changes.go.insert(action.path.to_vec()),
                _ => false,
            };
            let minor = matches!(action.what, What::Keep | What::Skip);
            if quiet || (minor && context.output.verbose == 0) {
                return Ok(());
            }
            all.lines += 1;
            if all.lines > LINES && !every {
                return Ok(());
            }
            stop.at(match context.output.json {
                true => {
                    let message = Message::new("verbose_status").with("action", action_word(action.what));
                    let message = message.with_path("item", "item_b64", &[b"/", action.path].concat());
                    paper.json(&message.with("size", action.bytes))
                }
                false => {
                    let slash = if action.is_dir { "/" } else { "" };
                    paper.line(&format!("{:<8} {}{slash}", action_word(action.what), shown(action.path)))
                }
            })
        };
        let (mut counted, mut bytes) = (Counts::default(), Vec::new());
        let mut done = Ok(());
        for planned in plans {
            if let Some((plan, paths)) = &planned.gone {
                for (path, is_dir) in present(plan, paths)? {
                    counted.delete += 1;
                    let action = Action { what: What::Delete, path: &path, is_dir, bytes: 0 };
                    done = done.and_then(|()| line(&action));
                }
            }
            if let Some(put) = &planned.put {
                let counts = preview(reader, put, &watch.progress, &watch.report, &mut line);
                bytes.push(counts.as_ref().map_or(0, |counts| counts.bytes));
                done = done.and(counts.map(|counts| counted.add(&counts)));
            } else {
                bytes.push(0);
            }
        }
        watch.finish();
        stop.or(done)?;
        (all.counts, all.bytes, all.changes) = (counted, bytes, changes);
        if all.lines > LINES && !every && !quiet {
            paper.line(&format!("… and {} more; -v shows all", units::count(all.lines - LINES)))?;
        }
        paper.finish()?;
        Ok(all)
    }

    fn places(&self) -> String {
        match self.parts.as_slice() {
            [one] => one.place().display().to_string(),
            many => format!("{} places", units::count(many.len() as u64)),
        }
    }

    fn totals(counts: &Counts) -> String {
        format!(
            "create {}, replace {}, mend {}, delete {}, keep {}, skip {}; {} to write",
            units::count(counts.create),
            units::count(counts.replace),
            units::count(counts.mend),
            units::count(counts.delete),
            units::count(counts.keep),
            units::count(counts.skip),
            units::bytes(counts.bytes)
        )
    }

    fn told_dry(&self, counts: &Counts) -> Outcome {
        if self.context.output.json {
            return super::commands::restore::told_dry(self.context, counts);
        }
        self.context.output.say(&format!("over {}: would {}", self.places(), Self::totals(counts)))?;
        Ok(0)
    }

    fn nothing_to_do(&self, counts: &Counts) -> Outcome {
        if self.context.output.json {
            let message = summary(&Summary { files_skipped: counts.keep, ..Summary::default() });
            self.context.output.result(&message.with("unchanged", true))?;
            return Ok(0);
        }
        let snapshot = self.from.id.short();
        self.context.output.say(&format!("{} is as in snapshot {snapshot}; nothing to do", self.places()))?;
        Ok(0)
    }

    fn confirmed(&self) -> Result<bool, Failure> {
        let context = self.context;
        if self.sure.yes {
            return Ok(true);
        }
        let cannot = |e: std::io::Error| Failure::from(Error::io("cannot ask on the terminal", &e));
        let mut err = std::io::stderr();
        let record = &self.from.record;
        let elsewhere = match record.hostname == crate::os::process::host_name() {
            true => String::new(),
            false => format!(" made on {}", record.hostname),
        };
        let (snapshot, time) = (self.from.id.short(), &record.time);
        write!(err, "Snapshot {snapshot} of {time}{elsewhere} goes over {}. Go on? [y/N] ", self.places())
            .and_then(|()| err.flush())
            .map_err(cannot)?;
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer).map_err(cannot)?;
        context.output.log("info", &format!("asked, and answered {:?}", answer.trim()));
        Ok(matches!(answer.trim(), "y" | "Y" | "yes" | "Yes"))
    }

    /// The safety snapshot, unless the user wants none.
    fn safety(&self, ours: &[PathBuf], end_noted: bool) -> Result<Option<Saved>, Failure> {
        let context = self.context;
        if self.sure.safety == Care::Off {
            return Ok(None);
        }
        let safety = Safety {
            repository: self.repository,
            listing: self.listing,
            from: Some(self.from),
            change: "",
            parts: &self.parts,
            options: &self.options,
            undo: self.undone.is_some(),
            end_noted,
            level: context.global.compression,
            ours,
            wait: self.sure.sqlite_wait,
            clock: &context.clock,
        };
        let mut watch = Watch::start(context);
        let saved = safety.save(&watch.progress, &watch.report);
        watch.finish();
        let saved = saved.map_err(|e| e.context("the safety snapshot failed, and nothing was changed"))?;
        if context.output.json {
            let message = Message::new("safety_snapshot").with("snapshot_id", saved.id().to_string());
            context.output.passing(&message.with("problems", saved.problems));
        } else {
            let told = context.output.say(&format!("safety snapshot {} made", saved.id().short()));
            context.output.told(told, 0);
        }
        if saved.problems > 0 && self.sure.safety == Care::Whole {
            let what = format!(
                "{} could not be read for the safety snapshot {}, so that they could not be put back; nothing was \
                 changed. `--safety partial` goes on all the same",
                units::counted(saved.problems, "thing", "things"),
                saved.id().short()
            );
            return Err(Failure::new(REFUSED, what));
        }
        Ok(Some(saved))
    }

    fn carry_out(
        &self,
        reader: &Reader,
        plans: Vec<Planned>,
        stages: Vec<Option<Stage>>,
        watch: &Watch,
    ) -> crate::error::Result<Summary> {
        let mut all = Summary::default();
        for (planned, stage) in plans.into_iter().zip(stages) {
            if let Some((plan, paths)) = &planned.gone {
                all.add(&remove(plan, paths, &watch.progress, &watch.report)?);
            }
            if let Some(put) = planned.put {
                all.add(&execute(reader, put.with_stage(stage), &watch.progress, &watch.report)?);
            }
        }
        Ok(all)
    }

    fn ended_early(&self, e: Error, saved: Option<&Saved>) -> Failure {
        let mut failure = Failure::from(e);
        if let (Some(message), Some(saved)) = (&mut failure.message, saved) {
            let id = saved.id().short();
            message.push_str(&format!(
                "; a part may have been put back. `snapkeep undo {id}` restores the state before, or do the restore again"
            ));
        }
        failure
    }

    fn told(&self, done: &Summary, saved: Option<&Saved>, rules_hold: bool) -> Outcome {
        let output = &self.context.output;
        note(self.context, done, self.from.id);
        let told = if output.json {
            let mut message = summary(done).with("databases_exchanged", done.databases_exchanged);
            if let Some(saved) = saved {
                message = message.with("safety_snapshot", saved.id().to_string());
            }
            output.result(&message)
        } else {
            let mut lines = story(&self.from.id.short(), done, done.files_deleted > 0, true);
            if done.databases_exchanged > 0 {
                let count = units::counted(done.databases_exchanged, "database", "databases");
                lines.push(format!("  changed page by page, as programs may be using them: {count}"));
            }
            lines.push(match saved {
                Some(saved) => format!("to take this back: snapkeep undo {}", saved.id().short()),
                None => "no safety snapshot was made; this cannot be taken back".to_owned(),
            });
            output.say(&lines.join("\n"))
        };
        let code = match (done.damaged, done.verify_failed, done.problems) {
            (0, 0, 0) if rules_hold => 0,
            (0, 0, 0) => VALIDATION,
            (0, 0, _) => FAILED,
            (0, _, _) => VALIDATION,
            _ => DAMAGED,
        };
        Ok(output.told(told, code))
    }
}

/// What the plan comes to.
#[derive(Default)]
struct Tallied {
    counts: Counts,
    lines: u64,
    /// To be written, of each part.
    bytes: Vec<u64>,
    changes: Changes,
}

impl std::ops::Deref for Tallied {
    type Target = Counts;

    fn deref(&self) -> &Counts {
        &self.counts
    }
}
