//! A program that runs in our place: with our standard streams, and with the signals that are meant for it.

use rustix::process::{Pid, Signal, getpgrp, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::{SigId, flag, low_level};
use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Between two looks at the program, at most.
const PAUSE_MAX: Duration = Duration::from_millis(20);

/// The ends of a program that never began, as shells number them.
pub const NOT_FOUND: u8 = 127;
pub const NOT_EXECUTABLE: u8 = 126;

/// Whether a program of this name can be started; otherwise the code that shells end with.
pub fn find(program: &OsStr) -> Result<PathBuf, u8> {
    let usable =
        |path: &Path| path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    let judged = |path: PathBuf| match (usable(&path), path.exists()) {
        (true, _) => Ok(path),
        (false, true) => Err(NOT_EXECUTABLE),
        (false, false) => Err(NOT_FOUND),
    };
    if program.as_encoded_bytes().contains(&b'/') {
        return judged(PathBuf::from(program));
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    let mut worst = NOT_FOUND;
    for dir in std::env::split_paths(&path) {
        match judged(dir.join(program)) {
            Ok(found) => return Ok(found),
            Err(code) => worst = worst.min(code),
        }
    }
    Err(worst)
}

/// Signals are kept for the program from here on; none of them ends us.
pub struct Signals {
    caught: Vec<(i32, Arc<AtomicBool>, SigId)>,
}

impl Signals {
    pub fn keep() -> io::Result<Self> {
        let mut caught = Vec::new();
        // Whoever starts us so that a signal does nothing (`nohup`) wants that for the program, too.
        let all = [SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2];
        for signal in all.into_iter().filter(|signal| !is_ignored(*signal)) {
            let heard = Arc::new(AtomicBool::new(false));
            let id = flag::register(signal, Arc::clone(&heard))?;
            caught.push((signal, heard, id));
        }
        Ok(Signals { caught })
    }

    /// Whether one came that is for nobody yet: the wish to stop before anything began.
    pub fn stop_before(&self) -> bool {
        let stops = |signal: i32| [SIGINT, SIGQUIT, SIGTERM, SIGHUP].contains(&signal);
        self.caught.iter().any(|(signal, heard, _)| stops(*signal) && heard.load(Ordering::Relaxed))
    }

    /// Runs the program to its end.
    pub fn run(&self, command: &mut Command) -> io::Result<ExitStatus> {
        let mut child = command.spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let mut pause = Duration::from_micros(200);
        loop {
            // Not waited for by anybody else, so that its number is its own until then.
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            for (signal, heard, _) in &self.caught {
                if heard.swap(false, Ordering::Relaxed) && !sent_to_all(*signal) {
                    let named = pid.zip(Signal::from_named_raw(*signal));
                    // One that has ended needs no signal.
                    let _ = named.map(|(pid, signal)| kill_process(pid, signal));
                }
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for (_, _, id) in &self.caught {
            low_level::unregister(*id);
        }
    }
}

/// Whether the signal does nothing to this process.
pub fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|m| u64::from_str_radix(m.trim(), 16).ok()).is_some_and(|m| m >> (signal - 1) & 1 == 1)
}

/// Keys such as Ctrl-C reach all programs in the foreground of a terminal; a second one might mean something else to them.
fn sent_to_all(signal: i32) -> bool {
    if signal != SIGINT && signal != SIGQUIT {
        return false;
    }
    let terminal = std::fs::File::open("/dev/tty");
    terminal.is_ok_and(|tty| rustix::termios::tcgetpgrp(&tty).is_ok_and(|front| front == getpgrp()))
}

/// The exit code by which shells tell how a program ended.
pub fn code(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(1)
}
