//! What is said about a command under guard: how it ended, what is wrong, one line in lists.

use super::json::Message;
use super::names::{escape, shown};
use super::options::decoded;
use crate::format::snapshot::Snapshot;
use crate::guard::{Fault, Verdict};
use crate::id::SnapshotId;
use crate::rules::{Report, Verdict as Ended};
use crate::units;

/// How it ended, for the last line.
#[derive(Default)]
pub struct End {
    pub command_code: Option<u8>,
    pub seconds: f64,
    pub after: Option<SnapshotId>,
    pub verdict: Option<Verdict>,
    pub rolled_back: bool,
}

impl End {
    /// The last line of JSON.
    pub fn message(&self, command: &str, code: u8, before: &str) -> Message {
        let fault = |fault: &Fault| {
            let path = [b"/", fault.path.as_slice()].concat();
            let message = Message::default().with_path("path", "path_b64", &path);
            message.with("message", fault.message.as_str()).value()
        };
        let faults = |verdict: &Verdict| verdict.faults.iter().map(fault).collect::<Vec<_>>();
        Message::new("summary")
            .with("command", command)
            .with("command_exit_code", self.command_code)
            .with("exit_code", code)
            .with("seconds_elapsed", self.seconds)
            .with("snapshot_before", before)
            .with("snapshot_after", self.after.map(|id| id.to_string()))
            .with("validated", self.verdict.as_ref().is_some_and(|verdict| verdict.faults.is_empty()))
            .with("not_compared", self.verdict.as_ref().map(|verdict| verdict.not_compared))
            .with("faults", self.verdict.as_ref().map(faults).unwrap_or_default())
            .with("rolled_back", self.rolled_back)
    }
}

/// What rules of the directory `base` found wrong, one fault for each that did not pass.
pub fn tried(report: &Report, base: &[u8]) -> Vec<Fault> {
    let fault = |path: &[u8], message: String| Fault { path: path.to_vec(), message };
    if report.outcomes.is_empty() {
        return vec![fault(base, "the rules file holds no rules, so nothing is proved".to_owned())];
    }
    let mut faults = Vec::new();
    for outcome in report.outcomes.iter().filter(|outcome| outcome.verdict != Ended::Pass) {
        let reason = outcome.reasons.first();
        let below = reason.and_then(|reason| reason.path.as_deref());
        let path = below.map_or_else(|| base.to_vec(), |below| [base, b"/", below].concat());
        let why = reason.map_or("", |reason| reason.message.as_str());
        let more = (outcome.reasons.len() as u64).saturating_sub(1) + outcome.more;
        let more = if more > 0 { format!(", and {} more", units::count(more)) } else { String::new() };
        faults.push(fault(&path, format!("rule {}: {why}{more}", outcome.name)));
    }
    faults
}

/// One line about a guarded command, for lists with details.
pub fn line(record: &Snapshot) -> Option<String> {
    let guarded = record.guarded.as_ref()?;
    let when = if guarded.before.is_some() { "after" } else { "before" };
    let mut text = format!("{when} `{}`", escape(guarded.command.as_bytes()));
    for known in &guarded.user_versions {
        if known.before != known.after {
            let number = |n: Option<i32>| n.map_or_else(|| "none".to_owned(), |n| n.to_string());
            let path = shown(&decoded(&known.path));
            text.push_str(&format!(
                ", user_version of {path} {} → {}",
                number(known.before),
                number(known.after)
            ));
        }
    }
    Some(text)
}

/// As a shell takes it for one word.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:@%+=,".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}
