//! What a profile says of notifications: where they go, which, and how the secrets are found that they need.
//!
//! `settings::parse` reads `[notify]` into `Notify` (`serde`, from the section as JSON) and calls `check`.

use crate::error::{Context, Error, ErrorKind, Result};
use crate::os::process;
use crate::units::parse_duration;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use zeroize::Zeroizing;

/// Longer secrets are a mistake: another file was named.
const SECRET_MAX: usize = 64 << 10;

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Event {
    Success,
    Failure,
    /// Findings of health that are new, worse, better or gone.
    Health,
    Report,
}

impl Event {
    pub const ALL: [Event; 4] = [Event::Success, Event::Failure, Event::Health, Event::Report];

    pub fn word(self) -> &'static str {
        match self {
            Event::Success => "success",
            Event::Failure => "failure",
            Event::Health => "health",
            Event::Report => "report",
        }
    }
}

/// Where a secret is. It is read when it is needed and kept no longer.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Secret {
    File(PathBuf),
    /// For `/bin/sh -c`; the first line it writes counts.
    Command(String),
    Env(String),
    /// A file of this name in `$CREDENTIALS_DIRECTORY`, where systemd puts them.
    Credential(String),
    /// The text itself: for what is a secret with some and none with others.
    #[serde(untagged)]
    Given(String),
}

/// Only the place; a text that was given may be the secret.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Secret::File(_) => "Secret(file)",
            Secret::Command(_) => "Secret(command)",
            Secret::Env(_) => "Secret(env)",
            Secret::Credential(_) => "Secret(credential)",
            Secret::Given(_) => "Secret(given)",
        })
    }
}

impl Secret {
    /// The secret, without a line end. Errors name the place, never what it holds.
    pub fn read(&self) -> Result<Zeroizing<String>> {
        let bytes = match self {
            Secret::Given(text) => Zeroizing::new(text.clone().into_bytes()),
            Secret::File(path) => file(path.clone())?,
            Secret::Credential(name) => {
                let dir = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or_else(|| {
                    Error::invalid("$CREDENTIALS_DIRECTORY is not set, so there is no credential")
                })?;
                if name.is_empty() || name.contains('/') || name.starts_with('.') {
                    return Err(Error::invalid(format!("`{name}` is no name of a credential")));
                }
                file(PathBuf::from(dir).join(name))?
            }
            Secret::Env(name) => {
                let value = std::env::var(name).unwrap_or_default();
                if value.is_empty() {
                    return Err(Error::invalid(format!("the variable {name} is not set")));
                }
                Zeroizing::new(value.into_bytes())
            }
            Secret::Command(line) => command(line)?,
        };
        let text = std::str::from_utf8(&bytes).map_err(|_| Error::invalid("a secret is no text"))?;
        let line = text.lines().next().unwrap_or_default().trim_end();
        if line.is_empty() {
            return Err(Error::invalid("a secret is empty"));
        }
        Ok(Zeroizing::new(line.to_owned()))
    }
}

fn file(path: PathBuf) -> Result<Zeroizing<Vec<u8>>> {
    let bytes = std::fs::read(&path).context(|| format!("cannot read {}", path.display()))?;
    if bytes.len() > SECRET_MAX {
        return Err(Error::invalid(format!("{} is too long to hold a secret", path.display())));
    }
    Ok(Zeroizing::new(bytes))
}

fn command(line: &str) -> Result<Zeroizing<Vec<u8>>> {
    let mut command = process::command(OsStr::new("/bin/sh"));
    let output = command.arg("-c").arg(line).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.context(|| "cannot run the command for a secret")?;
    if !output.status.success() {
        let why = format!("the command for a secret failed: {}", output.status);
        return Err(Error::new(ErrorKind::Io, why));
    }
    Ok(Zeroizing::new(output.stdout))
}

/// `[notify]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Notify {
    #[serde(deserialize_with = "events")]
    pub on: Vec<Event>,
    /// The same thing is not told again within this time.
    #[serde(deserialize_with = "span")]
    pub min_interval: Duration,
    pub ntfy: Option<Ntfy>,
    pub mail: Option<Mail>,
    pub slack: Option<Slack>,
    pub webhook: Vec<Webhook>,
    pub ping: Option<Ping>,
    pub desktop: Option<Desktop>,
}

impl Default for Notify {
    fn default() -> Self {
        Notify {
            on: vec![Event::Failure, Event::Health],
            min_interval: Duration::from_secs(3600),
            ntfy: None,
            mail: None,
            slack: None,
            webhook: Vec::new(),
            ping: None,
            desktop: None,
        }
    }
}

/// A topic of <https://ntfy.sh> or of a server of one's own.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Ntfy {
    pub url: Option<Secret>,
    pub topic: Secret,
    pub token: Option<Secret>,
    /// 1 to 5; failures have 4 at least.
    pub priority: Option<u8>,
    #[serde(default, deserialize_with = "some_events")]
    pub on: Option<Vec<Event>>,
}

/// Mail by SMTP.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Mail {
    pub host: String,
    pub port: Option<u16>,
    #[serde(default)]
    pub tls: Tls,
    pub user: Option<String>,
    pub password: Option<Secret>,
    pub from: String,
    pub to: Several,
    #[serde(default, deserialize_with = "some_events")]
    pub on: Option<Vec<Event>>,
}

/// How the way to the mail server is kept secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tls {
    /// From the first byte.
    Tls,
    /// After the greeting, and not without.
    #[default]
    Starttls,
    None,
}

/// One text or several.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Several {
    One(String),
    Many(Vec<String>),
}

impl Several {
    pub fn all(&self) -> &[String] {
        match self {
            Several::One(text) => std::slice::from_ref(text),
            Several::Many(all) => all,
        }
    }
}

/// What takes Slack's messages: Slack, Mattermost, Rocket.Chat, Discord with `/slack`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Slack {
    pub url: Secret,
    #[serde(default, deserialize_with = "some_events")]
    pub on: Option<Vec<Event>>,
}

/// Anything that takes a POST.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Webhook {
    pub url: Secret,
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// The body, with `{title}` and its like in it; all fields as JSON without one.
    pub template: Option<String>,
    #[serde(default, deserialize_with = "some_events")]
    pub on: Option<Vec<Event>>,
}

/// A dead man's switch such as healthchecks.io: hears of begin, success and failure of jobs, and of their absence.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Ping {
    /// `{job}` in it stands for the job's name.
    pub url: Secret,
    /// Only these jobs; all backups without it.
    pub jobs: Option<Several>,
}

/// A command that shows something on the desktop; title and text are its last two arguments.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Desktop {
    /// The program; `notify-send` without it.
    pub command: Option<String>,
    #[serde(default, deserialize_with = "some_events")]
    pub on: Option<Vec<Event>>,
}

/// Fields that a template may name.
pub const FIELDS: [&str; 9] =
    ["event", "title", "text", "profile", "job", "target", "host", "outcome", "priority"];

impl Notify {
    /// Whether anything is told to anybody.
    pub fn is_empty(&self) -> bool {
        let none =
            self.ntfy.is_none() && self.mail.is_none() && self.slack.is_none() && self.desktop.is_none();
        none && self.webhook.is_empty() && self.ping.is_none()
    }

    /// What the types do not say: templates name fields that there are, files of secrets are found from anywhere.
    pub fn check(&self) -> Result<()> {
        for name in self.webhook.iter().filter_map(|hook| hook.template.as_deref()).flat_map(names_in) {
            if !FIELDS.contains(&name) {
                let what = format!(
                    "[notify.webhook] template: there is no field `{{{name}}}`; there are {}",
                    FIELDS.join(", ")
                );
                return Err(Error::invalid(what));
            }
        }
        if let Some(priority) = self.ntfy.as_ref().and_then(|n| n.priority).filter(|p| !(1..=5).contains(p)) {
            return Err(Error::invalid(format!("[notify.ntfy] priority is {priority}; it must be 1 to 5")));
        }
        if self.mail.as_ref().is_some_and(|m| m.user.is_some() != m.password.is_some()) {
            return Err(Error::invalid("[notify.mail] needs both user and password, or neither"));
        }
        if self.mail.as_ref().is_some_and(|m| m.to.all().is_empty()) {
            return Err(Error::invalid("[notify.mail] to names nobody"));
        }
        let relative = |s: &&Secret| matches!(s, Secret::File(path) if !path.is_absolute());
        match self.secrets().into_iter().find(relative) {
            Some(Secret::File(path)) => Err(Error::invalid(format!(
                "[notify] the file {} must be named by its whole path",
                path.display()
            ))),
            _ => Ok(()),
        }
    }

    fn secrets(&self) -> Vec<&Secret> {
        let mut all: Vec<&Secret> = Vec::new();
        if let Some(ntfy) = &self.ntfy {
            all.extend(ntfy.url.iter().chain([&ntfy.topic]).chain(&ntfy.token));
        }
        all.extend(self.mail.iter().filter_map(|m| m.password.as_ref()));
        all.extend(self.slack.iter().map(|s| &s.url));
        all.extend(self.webhook.iter().flat_map(|w| std::iter::once(&w.url).chain(w.headers.values())));
        all.extend(self.ping.iter().map(|p| &p.url));
        all
    }
}

/// The names in braces of a template. What is no name (JSON has braces of its own) is none.
pub fn names_in(template: &str) -> Vec<&str> {
    let mut out = Vec::new();
    for part in template.split('{').skip(1) {
        if let Some((name, _)) = part.split_once('}')
            && !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        {
            out.push(name);
        }
    }
    out
}

/// One word or a list of them.
fn events<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Vec<Event>, D::Error> {
    let words = Several::deserialize(from)?;
    let event = |word: &String| {
        Event::ALL.into_iter().find(|event| event.word() == word).ok_or_else(|| {
            let all = Event::ALL.map(Event::word).join(", ");
            serde::de::Error::custom(format!("on: there is no event `{word}`; there are {all}"))
        })
    };
    words.all().iter().map(event).collect()
}

fn some_events<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Option<Vec<Event>>, D::Error> {
    events(from).map(Some)
}

/// A span such as `90s` or `2h`.
pub(super) fn span<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    parse_duration(&text).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_section_becomes_values_and_shows_no_secret() {
        let notify: Notify = serde_json::from_value(json!({
            "on": ["failure", "report"], "min-interval": "2h",
            "ntfy": { "topic": "t", "token": { "env": "T" }, "priority": 3 },
            "slack": { "url": "https://hooks.example.com/very/secret" },
            "mail": { "host": "h", "from": "a@b", "to": "c@d" },
            "webhook": [{ "url": { "file": "/etc/url" }, "template": "{\"t\": \"{title}\"}", "on": ["success"] }],
        }))
        .expect("a section");
        notify.check().expect("good");
        assert_eq!(notify.on, [Event::Failure, Event::Report]);
        assert_eq!(notify.min_interval.as_secs(), 7200);
        assert!(!format!("{notify:?}").contains("secret"));
        let bad = |value| serde_json::from_value::<Notify>(value).expect("a section").check();
        let url = "https://x";
        assert!(bad(json!({ "webhook": [{ "url": url, "template": "{titel}" }] })).is_err());
        assert!(bad(json!({ "slack": { "url": { "file": "url" } } })).is_err(), "relative to what?");
        assert!(bad(json!({ "ntfy": { "topic": "t", "priority": 9 } })).is_err());
        assert!(serde_json::from_value::<Notify>(json!({ "on": "failures" })).is_err());
    }

    #[test]
    fn a_secret_is_read_from_where_it_is() {
        let told = |secret: Secret| secret.read().map(|s| s.to_string());
        assert_eq!(told(Secret::Command("printf 'one\\ntwo\\n'".to_owned())).expect("read"), "one");
        let failed = told(Secret::Command("echo hidden; exit 3".to_owned())).expect_err("failed");
        assert!(!failed.message().contains("hidden"));
        assert!(told(Secret::Credential("../x".to_owned())).is_err());
        assert!(told(Secret::File("/nowhere/at/all".into())).is_err());
    }
}
