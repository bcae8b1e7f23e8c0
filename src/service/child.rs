//! One command of ours in a process of its own: started, listened to, ended when it must.

use crate::job::Trigger;
use crate::os::child::find;
use crate::os::group::{self, Cut};
use crate::settings::plan::{IoClass, RunLimits};
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Between the wish that a command ends and its end by force: a backup leaves its session in order.
const GRACE: Duration = Duration::from_secs(60);

/// Messages of one command that are kept; more are counted.
const MESSAGES_MAX: usize = 100;

/// Results of one command that are kept.
const RESULTS_MAX: usize = 16;

/// How lines of these kinds begin.
const SUMMARY: &str = "{\"message_type\":\"summary\"";
const STATUS: &str = "{\"message_type\":\"status\"";

/// Longer lines are no words of ours.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// A command to run.
pub struct Call<'a> {
    pub program: &'a OsStr,
    pub words: Vec<OsString>,
    pub variables: Vec<(&'static str, String)>,
    pub limits: &'a RunLimits,
    pub trigger: Trigger,
    pub deadline: Option<Instant>,
    /// It writes for people, to where we write.
    pub aloud: bool,
    /// Set when somebody wants an end.
    pub stop: &'a AtomicBool,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// 1 for an end that no exit code tells.
    pub code: u8,
    /// The summaries and lists of JSON on standard output; without any, its last object.
    pub results: Vec<Value>,
    /// Warnings and errors in their order; the last one says why it failed.
    pub messages: Vec<String>,
    pub cut: Option<Cut>,
}

/// Runs the command to its end.
pub fn run(call: &Call<'_>) -> Heard {
    let mut command = command(call);
    let out = if call.aloud { Stdio::inherit() } else { Stdio::piped() };
    command.stdin(Stdio::null()).stdout(out).stderr(Stdio::piped());
    let mut child = match group::spawn(&mut command) {
        Ok(child) => child,
        Err(e) => return failed(format!("{} cannot be started: {e}", call.program.display())),
    };
    let (results, words) = listen(&mut child);
    let ended = group::wait(&mut child, call.deadline, GRACE, &|| call.stop.load(Ordering::Relaxed));
    let results = results.and_then(|thread| thread.join().ok()).unwrap_or_default();
    let mut messages = words.and_then(|thread| thread.join().ok()).unwrap_or_default();
    let ended = match ended {
        Ok(ended) => ended,
        Err(e) => return failed(format!("a command of ours cannot be waited for: {e}")),
    };
    let code = match (ended.cut, ended.code) {
        (Some(Cut::Stopped), _) => {
            messages.push("stopped before its end".to_owned());
            130
        }
        (Some(Cut::TookTooLong), _) => {
            messages.push("took longer than the profile allows and was ended".to_owned());
            1
        }
        (None, 130) => 130,
        (None, code @ 129..) => {
            messages.push(format!("was ended by signal {}", code - 128));
            1
        }
        (None, code) => code,
    };
    Heard { code, results, messages, cut: ended.cut }
}

fn failed(message: String) -> Heard {
    Heard { code: 1, messages: vec![message], ..Heard::default() }
}

/// The command; with a lower rank at processor and disk unless a person waits for it.
fn command(call: &Call<'_>) -> Command {
    let mut words: Vec<OsString> = Vec::new();
    if call.trigger != Trigger::Manual {
        if call.limits.nice > 0 && find(OsStr::new("nice")).is_ok() {
            words.extend(["nice".into(), "-n".into(), call.limits.nice.to_string().into()]);
        }
        let class = match call.limits.io {
            IoClass::Idle => &["-c", "3"][..],
            IoClass::BestEffort => &["-c", "2", "-n", "7"],
            IoClass::None => &[],
        };
        if !class.is_empty() && find(OsStr::new("ionice")).is_ok() {
            // -t: what the system does not grant is no reason not to run.
            words.extend(["ionice".into(), "-t".into()]);
            words.extend(class.iter().map(OsString::from));
        }
    }
    words.push(call.program.to_owned());
    words.extend(call.words.iter().cloned());
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).envs(call.variables.iter().map(|(name, value)| (*name, value)));
    command
}

type Listeners = (Option<JoinHandle<Vec<Value>>>, Option<JoinHandle<Vec<String>>>);

/// Both streams are read all the time, so that the command never waits for us.
fn listen(child: &mut Child) -> Listeners {
    let results = child.stdout.take().map(|out| std::thread::spawn(move || read_results(out)));
    let words = child.stderr.take().map(|err| std::thread::spawn(move || messages(err)));
    (results, words)
}

fn lines(stream: impl Read) -> impl Iterator<Item = String> {
    let mut stream = BufReader::new(stream);
    std::iter::from_fn(move || {
        let mut line = Vec::new();
        let n = stream.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line).ok()?;
        (n > 0).then(|| String::from_utf8_lossy(&line).trim_end().to_owned())
    })
}

/// Summaries and lists, without lines about progress and single items.
fn read_results(stream: impl Read) -> Vec<Value> {
    let (mut results, mut last) = (Vec::new(), String::new());
    for line in lines(stream) {
        if line.starts_with('[') || line.starts_with(SUMMARY) {
            results.extend(serde_json::from_str(&line).ok().filter(|_| results.len() < RESULTS_MAX));
        } else if line.starts_with('{') && !line.starts_with(STATUS) {
            last = line;
        }
    }
    if results.is_empty() {
        results.extend(serde_json::from_str(&last).ok());
    }
    results
}

fn messages(stream: impl Read) -> Vec<String> {
    let (mut kept, mut more, mut end) = (Vec::new(), 0u64, None);
    for line in lines(stream).filter(|line| !line.is_empty()) {
        let (message, is_end) = message(&line);
        if is_end {
            end = Some(message);
        } else if kept.len() < MESSAGES_MAX {
            kept.push(message);
        } else {
            more += 1;
        }
    }
    if more > 0 {
        kept.push(format!("and {more} messages more"));
    }
    kept.extend(end);
    kept
}

/// What a line on standard error says, and whether it is the last word of a command that failed.
fn message(line: &str) -> (String, bool) {
    let Ok(value) = serde_json::from_str::<Value>(line) else {
        let plain = line.strip_prefix("warning: ").or_else(|| line.strip_prefix("error: ")).unwrap_or(line);
        return (plain.to_owned(), false);
    };
    let text = value["message"].as_str().or_else(|| value["error"]["message"].as_str());
    let is_end = value["message_type"] == "exit_error";
    let code = value["code"].as_str().map(|code| format!(" [{code}]")).unwrap_or_default();
    (text.map_or_else(|| line.to_owned(), |text| format!("{text}{code}")), is_end)
}
