//! Telling people: of failures, of what came of them, of health that changed, of what a week brought.
//!
//! Whoever has something to tell makes a `Message` and calls `send`; around a job `ping` is called. Both answer what came of it at
//! each place, and neither ever fails: that somebody could not be told must not change how a job ended.
//!
//! Secrets are read when they are needed, travel in headers, bodies and URLs only, and never stand in an argument, a log or an
//! error: addresses are shown without path and query.

mod channels;
mod mail;
mod state;

use crate::clock::Timestamp;
use crate::error::Result;
use crate::settings::plan_notify::{Event, Notify, Ping};
use crate::web::{Address, Request};
use std::path::Path;
use std::time::Duration;

/// A dead man's switch must not hold a job up for long.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Most of a text that is sent along with a ping or to a phone, in bytes.
const TEXT_MAX: usize = 4000;

/// Something to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub event: Event,
    pub title: String,
    pub text: String,
    /// Somebody should look now.
    pub high: bool,
    /// Messages with one key are about one thing: they are not told again within `min-interval`, unless `title` differs.
    pub key: String,
    pub profile: String,
    pub job: String,
    pub target: String,
    pub host: String,
    /// `ok`, `failed`, `critical`, …
    pub outcome: String,
}

impl Message {
    /// For templates and JSON: the fields by the names in `plan_notify::FIELDS`.
    pub fn fields(&self) -> [(&'static str, &str); 9] {
        [
            ("event", self.event.word()),
            ("title", &self.title),
            ("text", &self.text),
            ("profile", &self.profile),
            ("job", &self.job),
            ("target", &self.target),
            ("host", &self.host),
            ("outcome", &self.outcome),
            ("priority", if self.high { "high" } else { "normal" }),
        ]
    }
}

/// What came of telling one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// `ntfy`, `mail`, `webhook 2`, …
    pub channel: String,
    pub result: Sent,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// And what came back.
    Yes(String),
    /// The same thing was told there a while ago.
    Held,
    No(String),
}

impl Delivery {
    /// A line for the log when it did not work.
    pub fn trouble(&self) -> Option<String> {
        match &self.result {
            Sent::No(why) => Some(format!("{} could not be told: {why}", self.channel)),
            _ => None,
        }
    }
}

/// Tells every place that wants to hear of such things. `state` is the file that remembers what was told when, so that the same is
/// not told over and over; without one everything is told.
pub fn send(notify: &Notify, message: &Message, state: Option<&Path>, now: Timestamp) -> Vec<Delivery> {
    deliver(notify, message, state, now, false)
}

/// Tells every place, whatever it wants to hear of and however often it was told: to see whether it can be.
pub fn send_to_all(notify: &Notify, message: &Message, now: Timestamp) -> Vec<Delivery> {
    deliver(notify, message, None, now, true)
}

fn deliver(
    notify: &Notify,
    message: &Message,
    state: Option<&Path>,
    now: Timestamp,
    all: bool,
) -> Vec<Delivery> {
    let mut told = state::Told::load(state);
    let mut out = Vec::new();
    for channel in channels::of(notify) {
        let wants = channel.on.unwrap_or(&notify.on).contains(&message.event);
        if !wants && !all {
            continue;
        }
        let name = channel.name.clone();
        let result = if told.is_fresh(&name, message, now, notify.min_interval) {
            Sent::Held
        } else {
            match channel.send(message) {
                Ok(answer) => {
                    told.note(&name, message, now);
                    Sent::Yes(answer)
                }
                Err(e) => Sent::No(e.message().to_owned()),
            }
        };
        out.push(Delivery { channel: name, result });
    }
    if let Err(e) = told.save(now) {
        let what = format!("what was told cannot be remembered, so it may be told again: {}", e.message());
        out.push(Delivery { channel: "the file of what was told".to_owned(), result: Sent::No(what) });
    }
    out
}

/// What a dead man's switch hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Start,
    Success,
    Failure,
}

/// Tells the dead man's switch of a job's begin or end, if it is to hear of this job. `text` goes with the end, for people.
pub fn ping(notify: &Notify, job: &str, signal: Signal, text: &str) -> Option<Delivery> {
    let ping = notify.ping.as_ref().filter(|ping| hears(ping, job))?;
    let result = match ping_one(ping, job, signal, text) {
        Ok(answer) => Sent::Yes(answer),
        Err(e) => Sent::No(e.message().to_owned()),
    };
    Some(Delivery { channel: "ping".to_owned(), result })
}

fn hears(ping: &Ping, job: &str) -> bool {
    match &ping.jobs {
        Some(jobs) => jobs.all().iter().any(|name| name == job),
        None => job == "backup" || job.starts_with("backup:"),
    }
}

fn ping_one(ping: &Ping, job: &str, signal: Signal, text: &str) -> Result<String> {
    let url = ping.url.read()?.replace("{job}", &job.replace(':', "-"));
    let address = Address::parse(&url)?;
    let address = match signal {
        Signal::Start => address.below(&["start"]),
        Signal::Success => address,
        Signal::Failure => address.below(&["fail"]),
    };
    let request =
        Request::post(&address).header("Content-Type", "text/plain; charset=utf-8").within(PING_TIMEOUT);
    request
        .send(shortened(text).as_bytes())
        .map(|answer| format!("{} {}", answer.code, first_line(&answer.body)))
}

/// The beginning of a text, cut between letters.
fn shortened(text: &str) -> &str {
    let mut end = text.len().min(TEXT_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn first_line(text: &str) -> &str {
    let line = text.lines().next().unwrap_or_default();
    line.get(..80).unwrap_or(line)
}
