//! The journal's line about a command: written at its end, whatever the end is.

use super::context::Context;
use crate::clock::Timestamp;
use crate::codes::Code;
use crate::job::Outcome;
use crate::journal::{Journal, Record};
use crate::os::process;
use std::time::Instant;

/// Commands that store, change, verify or give back something. Those that only look are not written down.
const RECORDED: &[&str] = &[
    "init", "backup", "restore", "run", "undo", "forget", "undelete", "prune", "session", "check", "verify",
    "drill", "repair", "copy", "key", "pin", "tag", "db", "audit", "health",
];
/// Words of these that only look.
const LOOKING: &[&str] = &["session list", "key list", "db check"];

/// What a command knows about itself that the journal is to say.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub snapshot: Option<String>,
    pub files: Option<u64>,
    /// Bytes of what was read or written back.
    pub bytes: Option<u64>,
    /// Bytes that the repository grew by.
    pub added: Option<u64>,
    /// Why it failed.
    pub message: Option<String>,
    /// It was done by jobs, each of which is written down by itself.
    pub by_jobs: bool,
}

/// A command under way.
pub struct Recording {
    start: Timestamp,
    begun: Instant,
}

impl Recording {
    pub fn begin(context: &Context) -> Self {
        Recording { start: context.now(), begun: Instant::now() }
    }

    /// Writes the command down. That it could not be written is told, and changes nothing about how it ended.
    pub fn end(self, context: &Context, code: u8) {
        let command = words(context);
        let head = command.split(' ').next().unwrap_or_default();
        let is_recorded = RECORDED.contains(&head) && !LOOKING.contains(&command.as_str());
        if !is_recorded || context.global.no_journal || context.global.dry_run {
            return;
        }
        let Some(dir) = context.state_dir() else {
            context
                .output
                .detail("no journal: neither --state-dir, XDG_STATE_HOME nor HOME names a place for it");
            return;
        };
        let mut by_jobs = false;
        context.facts(|known| by_jobs = known.by_jobs);
        if by_jobs {
            return;
        }
        let record = self.record(context, command, code);
        if let Err(e) = Journal::at(&dir).append(&record) {
            let what = format!(
                "the journal could not be written: {}; nothing else is amiss with this command",
                e.message()
            );
            context.output.warn(Code::JournalUnwritable, &what);
        }
    }

    fn record(self, context: &Context, command: String, code: u8) -> Record {
        let mut facts = Facts::default();
        context.facts(|known| facts = known.clone());
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let place = context.global.repo.as_ref().and_then(|_| context.place().ok());
        let profile = context.parsed.profile.as_ref();
        let first =
            profile.and_then(|profile| profile.plan.targets.first()).map(|target| target.name.clone());
        let target = profile.and_then(|_| context.global.to.clone()).or(first);
        let place = place.map(|place| std::path::absolute(&place).unwrap_or(place));
        Record {
            time: self.start.rfc3339(),
            command,
            profile: profile.map(|profile| profile.plan.profile.clone()),
            job: variable("SNAPKEEP_JOB"),
            target,
            trigger: variable("SNAPKEEP_TRIGGER"),
            attempt: variable("SNAPKEEP_ATTEMPT").and_then(|n| n.parse().ok()),
            repository: place.map(|place| place.to_string_lossy().into_owned()),
            outcome: Outcome::of_code(code),
            code,
            seconds: self.begun.elapsed().as_secs_f64(),
            snapshot: facts.snapshot,
            files: facts.files,
            bytes: facts.bytes,
            added: facts.added,
            message: facts.message,
            warnings: context.output.codes_told(),
            hooks: Vec::new(),
            host: process::host_name(),
        }
    }
}

/// The words of the command: `backup`, `repair packs`.
fn words(context: &Context) -> String {
    let mut words = Vec::new();
    let mut at = &context.parsed.matches;
    while let Some((word, below)) = at.subcommand() {
        words.push(word);
        at = below;
    }
    words.join(" ")
}
