//! A command under guard, step by step: the state before, the command, judgement, the state after or the way back.

use super::commands::backup::outside_repository;
use super::context::Context;
use super::failure::{FAILED, Failure, INTERRUPTED, Outcome, REFUSED, VALIDATION};
use super::guard_told::{End, quoted, tried};
use super::in_place::{Care, Job, StageArgs, SureArgs};
use super::json::Message;
use super::layers::on_command_line;
use super::names::{escape, shown};
use super::terminal::Watch;
use crate::backup::{self, Input, Options, ParentChoice, SqliteOptions};
use crate::codes::Code;
use crate::error::{Error, ErrorKind, Result as Answer};
use crate::format::snapshot::{Guarded, Snapshot, UserVersions};
use crate::guard::{AFTER, BEFORE, Fault, Limits, Verdict, judge};
use crate::id::ChunkId;
use crate::in_place::{OVERWRITE, Part, parts, spare_ours};
use crate::os::child::{self, Signals};
use crate::os::dir::status_at_path;
use crate::os::process;
use crate::progress::Progress;
use crate::repository::Repository;
use crate::repository::snapshots::{Listed, list};
use crate::restore::RestoreOptions;
use crate::rules::Rules;
use crate::source::filter::{Filter, FilterOptions};
use crate::source::roots::Root;
use crate::source::{FileSource, WalkOptions};
use crate::units;
use crate::verify;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What is asked for.
pub struct Wish<'a> {
    pub sources: Vec<PathBuf>,
    pub command: &'a [OsString],
    /// The command's name, which is recorded.
    pub name: String,
    pub rules: Option<&'a Path>,
    pub limits: Limits,
    pub no_rollback: bool,
    pub keep_new: bool,
    pub allow_incomplete: bool,
    pub safety: Care,
    pub wait: Duration,
    pub tags: Vec<String>,
    pub label: Option<String>,
}

pub struct Guard<'a> {
    context: &'a Context,
    wish: Wish<'a>,
    repository: Arc<Repository>,
    /// Rules for the one source, read before anything is done.
    rules: Option<Rules>,
    roots: Vec<Root>,
}

/// The state before, stored.
struct Before {
    listed: Listed,
    outcome: backup::Outcome,
    parts: Vec<Part>,
}

impl<'a> Guard<'a> {
    pub fn new(context: &'a Context, wish: Wish<'a>) -> Result<Self, Failure> {
        let roots = wish.sources.iter().map(|path| Root::new(path)).collect::<Answer<Vec<_>>>();
        let roots = roots.map_err(super::failure::usage)?;
        if let Some(gone) = roots.iter().find(|root| status_at_path(&root.path).is_err()) {
            return Err(Failure::new(
                FAILED,
                format!("the source {} is not there; nothing was done", gone.path.display()),
            ));
        }
        if let Some(link) = roots.iter().find(|root| root.path.is_symlink()) {
            let link = escape(link.path.as_os_str().as_encoded_bytes());
            let what = format!(
                "the source {link} is a symbolic link, and what it leads to would not be guarded; name that"
            );
            return Err(Failure::usage(what));
        }
        if wish.rules.is_some() && roots.len() > 1 {
            return Err(Failure::usage(
                "--rules are for one --source; with several, each has its own .snapkeep/rules.toml",
            ));
        }
        let unusable = |e: Error| Failure::usage(format!("the rules cannot be used: {}", e.message()));
        let rules = wish.rules.map(verify::live_rules).transpose().map_err(unusable)?;
        let repository = context.open()?;
        Ok(Guard { context, wish, repository, rules, roots })
    }

    pub fn run(&self) -> Outcome {
        if self.context.global.dry_run {
            let places: Vec<_> =
                self.roots.iter().map(|root| escape(root.path.as_os_str().as_encoded_bytes())).collect();
            let what = format!(
                "would store {}, then run `{}` and look at what it leaves",
                places.join(", "),
                self.wish.name
            );
            self.context.output.say(&what)?;
            return Ok(0);
        }
        let (before, signals) = self.before()?;
        self.announce(&before)?;
        let mut end = End::default();
        let begun = Instant::now();
        let code = self.command(&signals)?;
        end.seconds = begun.elapsed().as_secs_f64();
        end.command_code = Some(code);
        self.context.output.log("info", &format!("the command ended with code {code}"));
        if code != 0 {
            let what = format!("`{}` ended with code {code}", self.wish.name);
            return self.failed(&before, end, code, &what);
        }
        let verdict = self.after(&before, &mut end).map_err(|failure| self.not_judged(failure, &before))?;
        self.tell_faults(&verdict);
        let count = verdict.faults.len() as u64;
        end.verdict = Some(verdict);
        if count > 0 {
            let what = format!(
                "{} with what `{}` left",
                units::counted(count, "thing is wrong", "things are wrong"),
                self.wish.name
            );
            return self.failed(&before, end, VALIDATION, &what);
        }
        self.succeeded(&before, &end)
    }

    fn source(&self) -> Result<FileSource, Failure> {
        let ours = self.ours();
        let real = ours.iter().filter_map(|place| place.canonicalize().ok());
        let skip = real.filter_map(|place| status_at_path(&place).ok()).map(|s| s.id()).collect();
        // What is put back must have been stored, whatever it is.
        let filter = Filter::new(&FilterOptions { no_ignore_files: true, ..FilterOptions::default() })?;
        let walk = WalkOptions { started: self.context.now(), one_file_system: false, skip };
        let source = FileSource::new(self.roots.clone(), filter, walk)?;
        outside_repository(self.context, &source)?;
        Ok(source)
    }

    fn ours(&self) -> Vec<PathBuf> {
        self.context.own_places()
    }

    fn options(&self, tag: &str, guarded: Guarded) -> Options {
        let mut tags = vec![tag.to_owned(), format!("run:{}", self.wish.name.replace(',', "_"))];
        tags.extend(self.wish.tags.iter().cloned());
        let usual = SqliteOptions::default();
        Options {
            level: self.context.global.compression,
            tags,
            label: self.wish.label.clone(),
            guarded: Some(guarded),
            scan: Watch::shows(self.context),
            sqlite: SqliteOptions {
                wait: self.wish.wait,
                scratch: self.context.cache().unwrap_or_else(|| usual.scratch.clone()),
                ..usual
            },
            ..Options::default()
        }
    }

    /// Stores the state before. From the moment it returns signals are the command's.
    fn before(&self) -> Result<(Before, Signals), Failure> {
        let input = Input::Files(Box::new(self.source()?));
        let guarded = Guarded { command: self.wish.name.clone(), ..Guarded::default() };
        let options = self.options(BEFORE, guarded);
        let mut watch = Watch::start(self.context);
        let done = backup::run(
            &self.repository,
            &input,
            &options,
            &self.context.clock,
            &watch.progress,
            &watch.report,
        );
        watch.finish();
        let outcome =
            done.map_err(|e| e.context("the state before could not be stored, and the command was not run"))?;
        let signals = Signals::keep().map_err(|e| Error::io("cannot listen for signals", &e))?;
        watch.let_go();
        if watch.progress.cancelled() {
            return Err(Failure::new(INTERRUPTED, "interrupted; the command was not run"));
        }
        let listing = list(&self.repository)?;
        let listed = listing.snapshots.into_iter().find(|l| Some(l.id) == outcome.snapshot);
        let listed = listed.ok_or_else(|| {
            Failure::new(FAILED, "the snapshot just made is not listed; the command was not run")
        })?;
        let parts = parts(&listed.record, b"")?;
        self.may_begin(&outcome, &parts)?;
        self.rules_are_usable(&listed)?;
        Ok((Before { listed, outcome, parts }, signals))
    }

    /// Nothing begins that could not be taken back, or not be judged.
    fn may_begin(&self, before: &backup::Outcome, parts: &[Part]) -> Result<(), Failure> {
        let problems = before.summary.problems;
        if problems > 0 && !self.wish.allow_incomplete {
            let what = format!(
                "{} could not be read or are damaged already, so that the state before could not be put back whole; the \
                 command was not run. --allow-incomplete runs it all the same",
                units::counted(problems, "thing", "things")
            );
            return Err(Failure::new(REFUSED, what));
        }
        if !self.wish.keep_new && !self.wish.no_rollback {
            spare_ours(parts, &self.ours()).map_err(|e| {
                let what = "the command was not run; name sources without these, or say --keep-new, so that putting back \
                            would delete nothing";
                Failure::new(REFUSED, format!("{}; {what}", e.message()))
            })?;
        }
        let count = before.databases.as_ref().map_or(0, |all| all.databases.len());
        if count > 1 && self.wish.limits.versions.iter().any(|wanted| wanted.path.is_none()) {
            let what = "there is more than one database in the sources; say which one must have that user_version: DB=N";
            return Err(Failure::usage(what));
        }
        Ok(())
    }

    /// Rules that nobody can try would throw away good work.
    fn rules_are_usable(&self, before: &Listed) -> Result<(), Failure> {
        if self.rules.is_some() {
            return Ok(());
        }
        let (reader, progress) = (self.repository.reader()?, Progress::new());
        for base in verify::ruled(&reader, &before.root, b"", &progress)? {
            verify::stored_rules(&reader, &before.root, &base).map_err(|e| {
                let what = format!("the rules cannot be used, and the command was not run: {}", e.message());
                Failure::new(VALIDATION, what)
            })?;
        }
        Ok(())
    }

    /// Whoever finds us killed knows what to do.
    fn announce(&self, before: &Before) -> Result<(), Failure> {
        let output = &self.context.output;
        output.log("info", &format!("to go back to the state before the command: {}", self.way_back(before)));
        if output.json {
            let message = Message::new("guard").with("snapshot_before", before.listed.record.id.as_str());
            return output.result(
                &message.with("command", self.wish.name.as_str()).with("rollback", self.way_back(before)),
            );
        }
        output.say(&format!(
            "snapshot {} holds the state before `{}`; to go back to it by hand: {}",
            before.listed.id.short(),
            escape(self.wish.name.as_bytes()),
            self.way_back(before)
        ))
    }

    fn way_back(&self, before: &Before) -> String {
        let place = match (on_command_line(&self.context.parsed.matches, "repo"), &self.context.global.repo) {
            (true, Some(repo)) => format!(" -r {}", quoted(&repo.to_string_lossy())),
            _ => String::new(),
        };
        let delete = if self.wish.keep_new { "" } else { " --delete" };
        format!("snapkeep{place} restore {} --in-place{delete} --yes", before.listed.id.short())
    }

    fn command(&self, signals: &Signals) -> Result<u8, Failure> {
        let (program, arguments) = match self.wish.command.split_first() {
            Some(all) => all,
            None => return Err(Failure::usage("no command; write it after --")),
        };
        if signals.stop_before() {
            return Err(Failure::new(INTERRUPTED, "interrupted; the command was not run"));
        }
        let mut command = process::command(program);
        command.args(arguments);
        if self.context.output.json {
            let to = std::io::stderr().as_fd().try_clone_to_owned();
            command.stdout(Stdio::from(to.map_err(|e| Error::io("cannot pass on standard error", &e))?));
        }
        match signals.run(&mut command) {
            Ok(status) => Ok(child::code(status)),
            Err(e) => {
                let code = if e.kind() == std::io::ErrorKind::NotFound {
                    child::NOT_FOUND
                } else {
                    child::NOT_EXECUTABLE
                };
                let e = Error::io(format!("the command `{}` could not be started", self.wish.name), &e);
                Err(Failure::new(code, format!("{}; nothing was changed", e.message())))
            }
        }
    }

    /// Stores the state after and judges it; only what is good becomes a snapshot.
    fn after(&self, before: &Before, end: &mut End) -> Result<Verdict, Failure> {
        let source = self.source()?;
        let missing: Vec<Fault> = source
            .missing_roots()
            .iter()
            .map(|gone| Fault {
                path: gone.item.strip_prefix(b"/").unwrap_or(&gone.item).to_vec(),
                message: "the source is gone".to_owned(),
            })
            .collect();
        let input = Input::Files(Box::new(source));
        let versions = |record: &Snapshot| {
            let all = record.sqlite.iter().flat_map(|all| all.databases.iter());
            all.map(|f| UserVersions { path: f.path.clone(), before: Some(f.user_version), after: None })
                .collect()
        };
        let guarded = Guarded {
            command: self.wish.name.clone(),
            before: Some(before.listed.record.id.clone()),
            user_versions: versions(&before.listed.record),
        };
        let options =
            Options { parent: ParentChoice::Given(before.listed.id), ..self.options(AFTER, guarded) };
        let mut watch = Watch::start(self.context);
        let found: RefCell<Option<Verdict>> = RefCell::new(None);
        let look = |outcome: &backup::Outcome, root: &ChunkId| {
            let known = before.outcome.databases.as_ref();
            let mut verdict = judge(known, outcome, before.outcome.summary.problems, &self.wish.limits);
            verdict.faults.splice(0..0, missing.iter().cloned());
            verdict.faults.extend(self.try_rules(before, root, &watch.progress)?);
            let good = verdict.faults.is_empty();
            *found.borrow_mut() = Some(verdict);
            if good {
                Ok(())
            } else {
                Err(Error::new(ErrorKind::Refused, "what the command left is not good"))
            }
        };
        let (repository, clock) = (&self.repository, &self.context.clock);
        let done =
            backup::run_judged(repository, &input, &options, clock, (&watch.progress, &watch.report), &look);
        watch.finish();
        let verdict = found.into_inner();
        match (done, verdict) {
            (_, Some(verdict)) if !verdict.faults.is_empty() => Ok(verdict),
            (Ok(done), Some(verdict)) => {
                end.after = done.snapshot;
                Ok(verdict)
            }
            (Err(e), _) => Err(e.into()),
            (Ok(_), None) => Err(Failure::new(FAILED, "nothing was judged")),
        }
    }

    /// Rules of the sources as they are now; where a file of rules is gone, those that stood there before.
    fn try_rules(&self, before: &Before, root: &ChunkId, progress: &Progress) -> Answer<Vec<Fault>> {
        let reader = Arc::new(self.repository.reader()?);
        if let (Some(rules), [one]) = (&self.rules, self.roots.as_slice()) {
            return Ok(tried(&verify::stored(&reader, root, &one.stored, rules, progress)?, &one.stored));
        }
        let old = verify::ruled(&reader, &before.listed.root, b"", progress)?;
        let new = verify::ruled(&reader, root, b"", progress)?;
        let all: BTreeSet<&Vec<u8>> = old.iter().chain(&new).collect();
        let mut faults = Vec::new();
        for base in all {
            let from = if new.contains(base) { root } else { &before.listed.root };
            match verify::stored_rules(&reader, from, base) {
                Ok(rules) => {
                    faults.extend(tried(&verify::stored(&reader, root, base, &rules, progress)?, base));
                }
                Err(e) => {
                    let message = format!("the rules cannot be used: {}", e.message());
                    faults.push(Fault { path: base.clone(), message });
                }
            }
        }
        Ok(faults)
    }

    fn tell_faults(&self, verdict: &Verdict) {
        for fault in &verdict.faults {
            let place =
                if fault.path.is_empty() { String::new() } else { format!("{}: ", shown(&fault.path)) };
            self.context.output.warn(Code::GuardFault, &format!("{place}{}", fault.message));
        }
        if verdict.not_compared > 0 {
            let what =
                units::counted(verdict.not_compared, "table or database was", "tables or databases were");
            self.context.output.warn(
                Code::GuardUncompared,
                &format!("{what} not compared with the state before: the record has no room for so many"),
            );
        }
    }

    /// The command did its work, but nobody can say how well.
    fn not_judged(&self, failure: Failure, before: &Before) -> Failure {
        let message = failure.message.map(|why| {
            format!(
                "{why}; what `{}` left was not judged and stays as it is. To go back: {}",
                self.wish.name,
                self.way_back(before)
            )
        });
        Failure { message, ..failure }
    }

    fn failed(&self, before: &Before, mut end: End, code: u8, what: &str) -> Outcome {
        let way = self.way_back(before);
        let output = &self.context.output;
        if self.wish.no_rollback {
            let told = self.tell_end(
                before,
                &end,
                code,
                &format!("{what}; everything stays as it is. To go back: {way}"),
            );
            return Ok(output.told(told, code));
        }
        let told = output.say(&format!("{what}; going back to snapshot {}", before.listed.id.short()));
        output.told(told, 0);
        let back = self.roll_back(before);
        match back {
            Ok(0) => {}
            Ok(_) | Err(_) => {
                let (other, why) = match back {
                    Ok(code) => {
                        (code, "not everything could be put back, and what was not is named".to_owned())
                    }
                    Err(failure) => (failure.code, failure.message.unwrap_or_default()),
                };
                let _ =
                    self.tell_end(before, &end, other, &format!("{what}, and the sources are NOT as before"));
                return Err(Failure::new(
                    other,
                    format!("{what}, and going back failed: {why}. Try again: {way}"),
                ));
            }
        }
        end.rolled_back = true;
        let last = format!(
            "{what}; the sources are as they were before it, in snapshot {}",
            before.listed.id.short()
        );
        Ok(output.told(self.tell_end(before, &end, code, &last), code))
    }

    fn roll_back(&self, before: &Before) -> Outcome {
        let listing = list(&self.repository)?;
        let options = RestoreOptions {
            overwrite: OVERWRITE,
            delete: !self.wish.keep_new,
            verify: true,
            ..RestoreOptions::default()
        };
        let sure = SureArgs { yes: true, safety: self.wish.safety, sqlite_wait: self.wish.wait };
        // What stood there before goes back whatever rules it keeps.
        let care = StageArgs { no_stage: false, no_rules: true, or_without: true };
        let (context, listing) = (self.context, &listing);
        let (repository, from, parts) = (&self.repository, &before.listed, before.parts.clone());
        Job { context, repository, listing, from, parts, options, sure, undone: None, care }.run()
    }

    fn succeeded(&self, before: &Before, end: &End) -> Outcome {
        let after = end.after.map(|id| id.short()).unwrap_or_default();
        let what = format!(
            "`{}` ended well, and what it left was found good: snapshot {after}; before it: {}",
            self.wish.name,
            before.listed.id.short()
        );
        Ok(self.context.output.told(self.tell_end(before, end, 0, &what), 0))
    }

    fn tell_end(&self, before: &Before, end: &End, code: u8, what: &str) -> Result<(), Failure> {
        let output = &self.context.output;
        if !output.json {
            return output.say(what);
        }
        let message = end.message(self.wish.name.as_str(), code, before.listed.record.id.as_str());
        output.result(&message.with("rollback", self.way_back(before)))
    }
}
