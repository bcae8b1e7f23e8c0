//! A command inside the restored tree: without our secrets, without input, within a time.

use crate::error::{Context, Error, Result};
use crate::os::process::command;
use crate::progress::Progress;
use rustix::process::{Pid, Signal, kill_process_group};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// How often it is looked at.
const TICK: Duration = Duration::from_millis(20);
/// Bytes of its output that are kept.
const OUTPUT_MAX: u64 = 4096;

/// What to run, and for how long at most.
#[derive(Clone, Debug)]
pub struct Run {
    /// For `sh -c`.
    pub line: String,
    pub limit: Duration,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// `None` when a signal ended it.
    pub code: Option<i32>,
    pub signal: Option<i32>,
    /// It took too long and was stopped.
    pub late: bool,
    pub seconds: Duration,
    /// The last it wrote.
    pub output: String,
}

impl Ended {
    pub fn is_good(&self) -> bool {
        self.code == Some(0) && !self.late
    }
}

/// Stops the command and all it has started, also when we end early.
struct Group {
    child: Child,
    pid: Option<Pid>,
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.pid {
            let _ = kill_process_group(pid, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

/// Runs it in `dir`; what it writes goes to the new file `output`.
pub fn run(what: &Run, dir: &Path, snapshot: &str, output: &Path, progress: &Progress) -> Result<Ended> {
    let cannot = || "cannot run the command".to_owned();
    let mut file = File::options().create_new(true).read(true).append(true).open(output).context(cannot)?;
    let (out, err) = (file.try_clone().context(cannot)?, file.try_clone().context(cannot)?);
    let begun = Instant::now();
    let child = command(OsStr::new("/bin/sh"))
        .arg("-c")
        .arg(&what.line)
        .current_dir(dir)
        .env("SNAPKEEP_DRILL_DIR", dir)
        .env("SNAPKEEP_DRILL_SNAPSHOT", snapshot)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .process_group(0)
        .spawn()
        .context(cannot)?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let mut group = Group { child, pid };
    let (mut late, mut status) = (false, None);
    while status.is_none() && !late {
        progress.keep_going()?;
        status = group.child.try_wait().context(cannot)?;
        late = status.is_none() && begun.elapsed() >= what.limit;
        if status.is_none() && !late {
            std::thread::sleep(TICK);
        }
    }
    let seconds = begun.elapsed();
    // What it has left running would hold on to the tree.
    drop(group);
    let (code, signal) = (status.and_then(|s| s.code()), status.and_then(|s| s.signal()));
    Ok(Ended { code, signal, late, seconds, output: tail(&mut file).map_err(|e| Error::io(cannot(), &e))? })
}

fn tail(file: &mut File) -> std::io::Result<String> {
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(OUTPUT_MAX)))?;
    let mut bytes = Vec::new();
    file.take(OUTPUT_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
