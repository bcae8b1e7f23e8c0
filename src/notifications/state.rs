//! What was told where and when, so that the same thing is not told over and over.

use super::Message;
use crate::clock::Timestamp;
use crate::error::{Context, Result};
use crate::os::aside;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is older is forgotten.
const KEPT_SECONDS: i64 = 30 * 86_400;

/// By place and key.
#[derive(Default, Serialize, Deserialize)]
#[serde(transparent)]
struct Entries(BTreeMap<String, Entry>);

#[derive(Serialize, Deserialize)]
struct Entry {
    title: String,
    /// Seconds since 1970.
    at: i64,
}

pub struct Told {
    file: Option<PathBuf>,
    entries: Entries,
    changed: bool,
}

impl Told {
    /// A file that cannot be read is as an empty one: rather tell twice than not at all.
    pub fn load(file: Option<&Path>) -> Self {
        let text = file.and_then(|file| std::fs::read(file).ok());
        let entries = text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        Told { file: file.map(Path::to_owned), entries, changed: false }
    }

    fn key(channel: &str, message: &Message) -> String {
        format!("{channel} {} {}", message.event.word(), message.key)
    }

    /// Whether this was told there so lately that it need not be told again. A clock that was set back does not silence anybody.
    pub fn is_fresh(&self, channel: &str, message: &Message, now: Timestamp, within: Duration) -> bool {
        let within = i64::try_from(within.as_secs()).unwrap_or(i64::MAX);
        let known = self.entries.0.get(&Told::key(channel, message));
        known.is_some_and(|e| e.title == message.title && (0..within).contains(&(now.secs - e.at)))
    }

    pub fn note(&mut self, channel: &str, message: &Message, now: Timestamp) {
        let entry = Entry { title: message.title.clone(), at: now.secs };
        self.entries.0.insert(Told::key(channel, message), entry);
        self.changed = true;
    }

    pub fn save(mut self, now: Timestamp) -> Result<()> {
        let Some(file) = self.file.filter(|_| self.changed) else { return Ok(()) };
        self.entries.0.retain(|_, e| now.secs - e.at < KEPT_SECONDS);
        let text = serde_json::to_vec(&self.entries).unwrap_or_default();
        aside::replace(&file, &text, 0o600).context(|| format!("cannot write {}", file.display()))
    }
}
