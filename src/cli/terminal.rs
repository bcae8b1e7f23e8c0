//! Progress while an operation runs, and the wish to stop it.

use super::context::Context;
use super::json::{Message, base64_if_needed};
use super::names::{escape, shorten};
use super::output::{Output, naming};
use crate::codes::Code;
use crate::os::child::is_ignored;
use crate::progress::{Problem, Progress, Report};
use crate::units;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::{SigId, flag, low_level};
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often the counters are looked at.
const TICK: Duration = Duration::from_millis(150);
/// How often a status object is written.
const STATUS: Duration = Duration::from_secs(1);
/// Warnings shown one by one; the log has them all.
const SHOWN_MAX: u64 = 20;

/// Watches an operation from a thread of its own: draws its progress; signals ask it to stop.
pub struct Watch {
    pub progress: Arc<Progress>,
    pub report: Reporter,
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    heard: Vec<SigId>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Show {
    Nothing,
    Bar,
    Status,
}

impl Show {
    fn chosen(context: &Context) -> Self {
        if context.global.no_progress || context.output.quiet {
            Show::Nothing
        } else if context.output.json {
            Show::Status
        } else if std::io::stderr().is_terminal() {
            Show::Bar
        } else {
            Show::Nothing
        }
    }
}

impl Watch {
    /// Whether anybody will see how far an operation has come.
    pub fn shows(context: &Context) -> bool {
        Show::chosen(context) != Show::Nothing
    }

    /// For an operation whose only JSON is a last line: status objects come before it.
    pub fn start(context: &Context) -> Self {
        Watch::showing(context, Show::chosen(context))
    }

    /// For an operation whose results are on standard output already.
    pub fn beside_results(context: &Context) -> Self {
        let show = Show::chosen(context);
        Watch::showing(context, if show == Show::Status { Show::Nothing } else { show })
    }

    fn showing(context: &Context, show: Show) -> Self {
        let progress = Arc::new(Progress::new());
        let done = Arc::new(AtomicBool::new(false));
        let output = Arc::clone(&context.output);
        let heard = listen(&progress.stop_flag());
        let watched = (Arc::clone(&progress), Arc::clone(&done), Arc::clone(&output));
        let thread = std::thread::Builder::new().name("progress".to_owned()).spawn(move || {
            let (progress, done, output) = watched;
            watch(&progress, &done, &output, show);
        });
        let report = Reporter { output, warned: AtomicU64::new(0) };
        // Without the thread nothing is drawn; the work itself does not need it.
        Watch { progress, report, done, thread: thread.ok(), heard }
    }

    /// Takes the bar away and says how many warnings were not shown.
    pub fn finish(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A thread that only draws has nothing to tell us, not even how it died.
            let _ = thread.join();
        }
        self.report.rest();
    }

    /// Signals from here on mean somebody else.
    pub fn let_go(&mut self) {
        self.finish();
        self.heard.drain(..).for_each(|id| {
            low_level::unregister(id);
        });
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.finish();
    }
}

/// The first signal asks to stop; the second ends the program at once. Whoever started us so that we outlive the terminal, as
/// `nohup` does, is obeyed.
fn listen(flag: &Arc<AtomicBool>) -> Vec<SigId> {
    let mut ids = Vec::new();
    let heard = [SIGINT, SIGTERM].into_iter().chain((!is_ignored(SIGHUP)).then_some(SIGHUP));
    for signal in heard {
        // Where signals cannot be caught they end the program as they always did.
        ids.extend(flag::register_conditional_shutdown(signal, 130, Arc::clone(flag)));
        ids.extend(flag::register(signal, Arc::clone(flag)));
    }
    ids
}

fn watch(progress: &Progress, done: &AtomicBool, output: &Output, show: Show) {
    let started = Instant::now();
    let bar = (show == Show::Bar).then(bar);
    if let Some(bar) = bar.clone() {
        output.write_above(Some(Box::new(move |write: &dyn Fn()| bar.suspend(write))));
    }
    let mut last_status = started;
    while !done.load(Ordering::Relaxed) {
        // Short work is done before there is anything to draw.
        std::thread::park_timeout(TICK);
        let elapsed = started.elapsed();
        if let Some(bar) = &bar {
            bar.set_message(line(progress, elapsed, output.width()));
            bar.tick();
        }
        if show == Show::Status && last_status.elapsed() >= STATUS {
            last_status = Instant::now();
            output.passing(&status(progress, elapsed));
        }
    }
    output.write_above(None);
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
    if let Ok(style) = ProgressStyle::with_template("{msg}") {
        bar.set_style(style);
    }
    bar
}

/// One look at the counters.
struct Look {
    files: (u64, u64),
    bytes: (u64, u64),
    known: bool,
}

impl Look {
    fn at(progress: &Progress) -> Self {
        let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let files = (get(&progress.files_done), get(&progress.files_total));
        let bytes = (get(&progress.bytes_done), get(&progress.bytes_total));
        Look { files, bytes, known: progress.totals_known.load(Ordering::Relaxed) }
    }

    /// Between 0 and 1; by files where there are no bytes.
    fn done(&self) -> f64 {
        let (done, total) = if self.bytes.1 > 0 { self.bytes } else { self.files };
        if total == 0 { 0.0 } else { (done as f64 / total as f64).min(1.0) }
    }

    fn left(&self, elapsed: Duration) -> Option<Duration> {
        let done = self.done();
        (self.known && done > 0.01 && elapsed.as_secs() >= 1)
            .then(|| Duration::from_secs_f64(elapsed.as_secs_f64() * (1.0 - done) / done))
    }
}

/// The path being worked on, as people write it.
fn current(progress: &Progress) -> Vec<u8> {
    let stored = progress.current.lock().unwrap_or_else(PoisonError::into_inner);
    if stored.is_empty() { Vec::new() } else { [b"/", stored.as_slice()].concat() }
}

fn line(progress: &Progress, elapsed: Duration, width: usize) -> String {
    let look = Look::at(progress);
    let mut parts = Vec::new();
    if look.known {
        parts.push(format!("{:3.0} %", look.done() * 100.0));
    }
    let (files, bytes) = (units::count(look.files.0), units::bytes(look.bytes.0));
    if look.files.1 > 0 {
        parts.push(format!("{files}/{} files", units::count(look.files.1)));
    } else {
        parts.push(format!("{files} files"));
    }
    parts.push(if look.bytes.1 > 0 { format!("{bytes}/{}", units::bytes(look.bytes.1)) } else { bytes });
    let speed = look.bytes.0 as f64 / elapsed.as_secs_f64().max(0.1);
    parts.push(format!("{}/s", units::bytes(speed as u64)));
    match look.left(elapsed) {
        Some(left) if left.is_zero() => parts.push("finishing".to_owned()),
        Some(left) => parts.push(format!("{} left", units::duration(left))),
        None => {}
    }
    if progress.cancelled() {
        parts.push("stopping".to_owned());
    }
    let mut text = parts.join("  ");
    let room = width.saturating_sub(text.len() + 3);
    if room > 10 {
        text.push_str("  ");
        text.push_str(&shorten(&escape(&current(progress)), room));
    }
    text
}

fn status(progress: &Progress, elapsed: Duration) -> Message {
    let look = Look::at(progress);
    let current = current(progress);
    let message = Message::new("status")
        .with("seconds_elapsed", elapsed.as_secs())
        .with("percent_done", look.done())
        .with("total_files", look.files.1)
        .with("files_done", look.files.0)
        .with("total_bytes", look.bytes.1)
        .with("bytes_done", look.bytes.0)
        .with("error_count", progress.errors.load(Ordering::Relaxed))
        .with("current_files", vec![String::from_utf8_lossy(&current).into_owned()]);
    let message = match look.left(elapsed) {
        Some(left) => message.with("seconds_remaining", left.as_secs()),
        None => message,
    };
    match base64_if_needed(&current) {
        Some(raw) => message.with("current_files_b64", vec![raw]),
        None => message,
    }
}

/// Tells problems as they happen, every one by name, and warnings: the first ones, then only how many there are.
pub struct Reporter {
    output: Arc<Output>,
    warned: AtomicU64,
}

impl Reporter {
    fn rest(&self) {
        let all = if self.output.has_log() { "; the log file names them" } else { "" };
        let hidden = self.warned.swap(0, Ordering::Relaxed).saturating_sub(SHOWN_MAX);
        if hidden > 0 && !self.output.json {
            self.output.warn(
                Code::MoreLikeThese,
                &format!("{} like these{all}", units::counted(hidden, "more warning", "more warnings")),
            );
        }
    }
}

impl Reporter {
    /// Sources are told by their absolute path, as people know them.
    fn item(problem: &Problem) -> Vec<u8> {
        let of_source = matches!(problem.during, "read" | "scan" | "restore" | "dump");
        let slash: &[u8] = if of_source && !problem.item.starts_with(b"/") { b"/" } else { b"" };
        [slash, &problem.item].concat()
    }
}

impl Report for Reporter {
    fn problem(&self, problem: &Problem) {
        self.output.problem(problem.during, &Reporter::item(problem), &problem.message);
    }

    fn warning(&self, problem: &Problem) {
        let before = self.warned.fetch_add(1, Ordering::Relaxed);
        let text = naming(&Reporter::item(problem), &problem.message);
        let code = Code::during(problem.during, false);
        if before < SHOWN_MAX || self.output.json {
            self.output.warn(code, &text);
        } else {
            self.output.hush(code, &text);
        }
    }
}
