//! A program in a process group of its own: it and all it starts can be ended together, and none of them outlives us
//! by accident of who was asked to stop.

use super::child;
use rustix::process::{Pid, Signal, kill_process_group};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// Between two looks at the program, at most.
const PAUSE_MAX: Duration = Duration::from_millis(20);

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// As shells number it.
    pub code: u8,
    /// We ended it, and why.
    pub cut: Option<Cut>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    TookTooLong,
    Stopped,
}

/// Starts the program as the head of a group of its own.
pub fn spawn(command: &mut Command) -> io::Result<Child> {
    command.process_group(0).spawn()
}

/// Waits for the program. Once `deadline` is over or `stop` says yes, its group is asked to end, and `grace` later made to.
pub fn wait(
    child: &mut Child,
    deadline: Option<Instant>,
    grace: Duration,
    stop: &dyn Fn() -> bool,
) -> io::Result<Ended> {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    // One that has ended needs no signal.
    let end = |signal| group.map(|group| kill_process_group(group, signal));
    let mut pause = Duration::from_micros(500);
    let mut asked: Option<(Instant, Cut)> = None;
    let mut forced = false;
    let status = loop {
        // Not waited for by anybody else, so that its number is its own until then.
        if let Some(status) = child.try_wait()? {
            break status;
        }
        match asked {
            None => {
                let late = deadline.is_some_and(|at| Instant::now() >= at);
                let why = if stop() { Some(Cut::Stopped) } else { late.then_some(Cut::TookTooLong) };
                asked = why.map(|why| (Instant::now(), why));
                if asked.is_some() {
                    end(Signal::TERM);
                }
            }
            Some((since, _)) if !forced && since.elapsed() >= grace => {
                forced = true;
                end(Signal::KILL);
            }
            Some(_) => {}
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(PAUSE_MAX);
    };
    if asked.is_some() {
        // What it started and left behind goes as well.
        end(Signal::KILL);
    }
    Ok(Ended { code: child::code(status), cut: asked.map(|(_, why)| why) })
}
