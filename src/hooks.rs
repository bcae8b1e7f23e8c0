//! Commands of the user's around a job: run with a time limit, with what they wrote kept, and told how the job went.

use crate::job::HookRun;
use crate::os::group::{self, Ended};
use crate::os::process;
use crate::settings::plan::{Hook, HookCommand};
use std::ffi::OsStr;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What is kept of what a hook writes.
const OUTPUT_BYTES_MAX: usize = 4 << 10;

/// Between the wish that a hook ends and its end by force.
const GRACE: Duration = Duration::from_secs(5);

/// How long the streams of a hook that has ended are read on.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// Ends as shells number them.
const TOO_LONG: u8 = 124;
const NOT_STARTED: u8 = 127;

/// Runs one hook to its end; `facts` become its variables. Passwords of ours are not among its variables.
/// `stop` is asked again and again: once it says yes, the hook is ended.
pub fn run(hook: &Hook, when: &str, facts: &[(&str, String)], stop: &dyn Fn() -> bool) -> HookRun {
    let begun = Instant::now();
    let mut done = HookRun { when: when.to_owned(), command: shown(&hook.command), ..HookRun::default() };
    let mut command = command(&hook.command);
    command.envs(facts.iter().map(|(name, value)| (*name, value.as_str()))).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    match group::spawn(&mut command) {
        Ok(child) => {
            let (code, output) = watch(child, hook.timeout, stop);
            done.code = code;
            done.output = output;
        }
        Err(e) => {
            done.code = NOT_STARTED;
            done.output = format!("cannot be started: {e}");
        }
    }
    done.seconds = begun.elapsed().as_secs_f64();
    done
}

/// The command as people write it.
pub fn shown(command: &HookCommand) -> String {
    match command {
        HookCommand::Shell(text) => text.clone(),
        HookCommand::Program(words) => words.join(" "),
    }
}

fn command(what: &HookCommand) -> Command {
    match what {
        HookCommand::Shell(text) => {
            let mut command = process::command(OsStr::new("/bin/sh"));
            command.arg("-c").arg(text);
            command
        }
        HookCommand::Program(words) => {
            let mut command = process::command(OsStr::new(words.first().map_or("", String::as_str)));
            command.args(words.iter().skip(1));
            command
        }
    }
}

fn watch(mut child: Child, timeout: Duration, stop: &dyn Fn() -> bool) -> (u8, String) {
    let tail = Tail::of(&mut child);
    let ended = group::wait(&mut child, Instant::now().checked_add(timeout), GRACE, stop);
    let code = match ended {
        Ok(Ended { cut: Some(_), .. }) => TOO_LONG,
        Ok(ended) => ended.code,
        Err(_) => NOT_STARTED,
    };
    (code, tail.text())
}

/// The end of what a program writes; its streams are read all the time, so that it never waits for us.
struct Tail {
    kept: Arc<Mutex<Vec<u8>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Tail {
    fn of(child: &mut Child) -> Self {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let streams: [Option<Box<dyn Read + Send>>; 2] =
            [child.stdout.take().map(|s| Box::new(s) as _), child.stderr.take().map(|s| Box::new(s) as _)];
        let read = |mut stream: Box<dyn Read + Send>| {
            let kept = Arc::clone(&kept);
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(n @ 1..) = stream.read(&mut buffer) {
                    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                    kept.extend_from_slice(&buffer[..n]);
                    let over = kept.len().saturating_sub(OUTPUT_BYTES_MAX);
                    kept.drain(..over);
                }
            })
        };
        let readers = streams.into_iter().flatten().map(read).collect();
        Tail { kept, readers }
    }

    /// A program in the background that holds the streams open is not waited for.
    fn text(self) -> String {
        let begun = Instant::now();
        while begun.elapsed() < LAST_WORDS && !self.readers.iter().all(JoinHandle::is_finished) {
            std::thread::sleep(Duration::from_millis(2));
        }
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&kept).trim_end().to_owned()
    }
}
