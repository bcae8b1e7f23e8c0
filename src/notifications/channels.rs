//! The places that a profile names, each with its own way of being told.

use super::{Message, first_line, mail, shortened};
use crate::error::{Error, ErrorKind, Result};
use crate::os::process;
use crate::settings::plan_notify::{Desktop, Event, Mail, Notify, Ntfy, Secret, Slack, Webhook};
use crate::web::{Address, Answer, Request};
use serde_json::{Map, Value, json};
use std::ffi::OsStr;
use std::process::Stdio;
use std::time::{Duration, Instant};

const NTFY: &str = "https://ntfy.sh";
const JSON: &str = "application/json";
/// How long a desktop's program may take.
const DESKTOP_TIMEOUT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);

/// A place, its name in results, and what it wants to hear of.
pub struct Channel<'a> {
    pub name: String,
    pub on: Option<&'a Vec<Event>>,
    way: Way<'a>,
}

enum Way<'a> {
    Ntfy(&'a Ntfy),
    Mail(&'a Mail),
    Slack(&'a Slack),
    Webhook(&'a Webhook),
    Desktop(&'a Desktop),
}

/// All there are, in a fixed order.
pub fn of(notify: &Notify) -> Vec<Channel<'_>> {
    let mut all = Vec::new();
    let mut add = |name: &str, on, way| all.push(Channel { name: name.to_owned(), on, way });
    if let Some(ntfy) = &notify.ntfy {
        add("ntfy", ntfy.on.as_ref(), Way::Ntfy(ntfy));
    }
    if let Some(mail) = &notify.mail {
        add("mail", mail.on.as_ref(), Way::Mail(mail));
    }
    if let Some(slack) = &notify.slack {
        add("slack", slack.on.as_ref(), Way::Slack(slack));
    }
    for (at, hook) in notify.webhook.iter().enumerate() {
        add(&format!("webhook {}", at + 1), hook.on.as_ref(), Way::Webhook(hook));
    }
    if let Some(desktop) = &notify.desktop {
        add("desktop", desktop.on.as_ref(), Way::Desktop(desktop));
    }
    all
}

impl Channel<'_> {
    /// Tells it; answers what came back.
    pub fn send(&self, message: &Message) -> Result<String> {
        match &self.way {
            Way::Ntfy(ntfy) => send_ntfy(ntfy, message),
            Way::Mail(mail) => mail::send(mail, message),
            Way::Slack(slack) => {
                let text = format!("*{}*\n{}", message.title, shortened(&message.text));
                post(&slack.url, &json!({ "text": text }).to_string(), Vec::new())
            }
            Way::Webhook(hook) => send_webhook(hook, message),
            Way::Desktop(desktop) => send_desktop(desktop, message),
        }
    }
}

fn told(answer: &Answer) -> String {
    format!("{} {}", answer.code, first_line(&answer.body)).trim_end().to_owned()
}

fn post(url: &Secret, body: &str, headers: Vec<(String, String)>) -> Result<String> {
    let address = Address::parse(&url.read()?)?;
    let mut request = Request::post(&address);
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
        request = request.header("Content-Type", JSON);
    }
    for (name, value) in headers {
        request = request.header(name, value);
    }
    request.send(body.as_bytes()).map(|answer| told(&answer))
}

fn send_ntfy(ntfy: &Ntfy, message: &Message) -> Result<String> {
    let usual = Secret::Given(NTFY.to_owned());
    let usual_priority = ntfy.priority.unwrap_or(3);
    let body = json!({
        "topic": ntfy.topic.read()?.as_str(),
        "title": message.title,
        "message": shortened(&message.text),
        "priority": if message.high { usual_priority.max(4) } else { usual_priority },
        "tags": [if message.high { "warning" } else { "floppy_disk" }],
    });
    let mut headers = Vec::new();
    if let Some(token) = &ntfy.token {
        headers.push(("Authorization".to_owned(), format!("Bearer {}", token.read()?.as_str())));
    }
    // The answer repeats the topic, which may be all the secret there is.
    post(ntfy.url.as_ref().unwrap_or(&usual), &body.to_string(), headers)
        .map(|answer| answer.split(' ').next().unwrap_or_default().to_owned())
}

fn send_webhook(hook: &Webhook, message: &Message) -> Result<String> {
    let mut headers = Vec::new();
    for (name, value) in &hook.headers {
        headers.push((name.clone(), value.read()?.to_string()));
    }
    let is_json = headers
        .iter()
        .all(|(name, value)| !name.eq_ignore_ascii_case("content-type") || value.contains("json"));
    let body = match &hook.template {
        Some(template) => filled(template, message, is_json),
        None => {
            let fields = message.fields().into_iter().map(|(name, value)| (name.to_owned(), value.into()));
            Value::Object(fields.collect::<Map<_, _>>()).to_string()
        }
    };
    post(&hook.url, &body, headers)
}

/// The template with the fields in place of their names; inside JSON as JSON writes text.
pub fn filled(template: &str, message: &Message, is_json: bool) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some(at) = rest.find('{') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let fields = message.fields();
        let field =
            fields.iter().find(|(name, _)| rest[1..].strip_prefix(name).is_some_and(|r| r.starts_with('}')));
        let Some((name, value)) = field else {
            out.push('{');
            rest = &rest[1..];
            continue;
        };
        rest = &rest[name.len() + 2..];
        if is_json {
            let quoted = Value::from(*value).to_string();
            out.push_str(&quoted[1..quoted.len() - 1]);
        } else {
            out.push_str(value);
        }
    }
    out + rest
}

/// Title and text as arguments: they hold no secrets.
fn send_desktop(desktop: &Desktop, message: &Message) -> Result<String> {
    let program = desktop.command.as_deref().unwrap_or("notify-send");
    let mut command = process::command(OsStr::new(program));
    if desktop.command.is_none() {
        command.args([
            "--app-name=snapkeep",
            if message.high { "--urgency=critical" } else { "--urgency=normal" },
            "--",
        ]);
    }
    command.arg(&message.title).arg(shortened(&message.text));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let trouble = |why: String| Error::new(ErrorKind::Io, format!("`{program}`: {why}"));
    let mut child = command.spawn().map_err(|e| Error::io(format!("cannot run `{program}`"), &e))?;
    let until = Instant::now() + DESKTOP_TIMEOUT;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok("shown".to_owned()),
            Ok(Some(status)) => return Err(trouble(status.to_string())),
            Ok(None) if Instant::now() < until => std::thread::sleep(PAUSE),
            Ok(None) => {
                // Whether it could be ended or not: nobody waits for it any more.
                let _ = child.kill();
                let _ = child.wait();
                return Err(trouble("no end in time".to_owned()));
            }
            Err(e) => return Err(trouble(e.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_stays_json_whatever_the_text_holds() {
        let message = Message {
            event: Event::Failure,
            title: "a \"b\"".to_owned(),
            text: "line\nline {title}".to_owned(),
            high: true,
            key: String::new(),
            profile: "app".to_owned(),
            job: String::new(),
            target: String::new(),
            host: String::new(),
            outcome: String::new(),
        };
        let body =
            filled("{\"t\": \"{title}\", \"x\": {\"m\": \"{text}\"}, \"p\": \"{priority}\"}", &message, true);
        let value: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!((&value["t"], &value["x"]["m"]), (&"a \"b\"".into(), &"line\nline {title}".into()));
        assert_eq!(filled("{title}|{nothing}", &message, false), "a \"b\"|{nothing}");
    }
}
