//! The process and the machine it runs on: limits, host and user names, the boot it belongs to.

use super::owners::Owners;
use rustix::process::{Resource, Rlimit, geteuid, getrlimit, setrlimit};
use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

/// Raises the number of files that may be open to what the administrator allows; answers the new limit.
pub fn raise_open_files() -> u64 {
    let now = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: now.maximum, maximum: now.maximum };
    let limit = if setrlimit(Resource::Nofile, wanted).is_ok() { now.maximum } else { now.current };
    limit.unwrap_or(u64::MAX)
}

/// Lets other programs go first from now on, where the processor is what both wait for: this thread, and those it
/// starts.
pub fn give_way() {
    const BY: i32 = 10;
    // Whoever runs us may have asked for more than that already; what cannot be had is no error.
    let _ = rustix::process::nice(BY);
}

/// The machine's name, as `uname -n` prints it.
pub fn host_name() -> String {
    String::from_utf8_lossy(rustix::system::uname().nodename().to_bytes()).into_owned()
}

/// The name of the user we act as, or the number where there is no name.
pub fn user_name() -> String {
    let uid = geteuid().as_raw();
    Owners::load().user_name(uid).map_or_else(|| uid.to_string(), str::to_owned)
}

pub fn is_root() -> bool {
    geteuid().is_root()
}

/// The number of the user we act as.
pub fn user_id() -> u32 {
    geteuid().as_raw()
}

/// A name for this run of the machine: a lock from another boot cannot belong to a living process here.
pub fn boot_id() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned())
}

/// Variables that hold passwords; programs we start never see them.
pub const SECRET_VARIABLES: [&str; 3] =
    ["SNAPKEEP_PASSWORD", "SNAPKEEP_NEW_PASSWORD", "SNAPKEEP_FROM_PASSWORD"];

/// A program to start, with our environment but without our secrets.
pub fn command(program: &OsStr) -> Command {
    let mut command = Command::new(program);
    for name in SECRET_VARIABLES {
        command.env_remove(name);
    }
    command
}

/// Other processes that have a file open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holders {
    /// Number and name.
    pub processes: Vec<(u32, String)>,
    /// Every process that this machine shows was looked at; without root those of others are not.
    pub complete: bool,
}

/// Who has the file with this device and inode open, as far as `/proc` tells.
pub fn holders(id: (u64, u64)) -> Holders {
    let mut found = Holders { processes: Vec::new(), complete: true };
    let Ok(all) = std::fs::read_dir("/proc") else { return Holders::default() };
    for pid in all.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
        if pid == std::process::id() {
            continue;
        }
        let files = match std::fs::read_dir(format!("/proc/{pid}/fd")) {
            Ok(files) => files,
            // It has ended meanwhile.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(_) => {
                found.complete = false;
                continue;
            }
        };
        let same = |entry: std::fs::DirEntry| {
            std::fs::metadata(entry.path()).is_ok_and(|meta| (meta.dev(), meta.ino()) == id)
        };
        if files.flatten().any(same) {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            found.processes.push((pid, name.trim_end().to_owned()));
        }
    }
    found
}
