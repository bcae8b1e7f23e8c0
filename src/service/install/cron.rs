//! One line for cron, between two marks in the user's table; every other byte of it stays as it is.
//!
//! cron knows no missed runs, no seconds and few of the schedules that profiles can say. So the line only asks, every few
//! minutes, for what is overdue: `schedule run --due` knows the rest.

use super::{Caller, ask, must, plain};
use crate::error::{Error, ErrorKind, Result};
use std::time::Duration;

/// Jobs closer together than this are looked for every minute.
const OFTEN: Duration = Duration::from_secs(600);

/// The block for a profile. `shortest` is the time between runs of the job that runs most often.
pub fn block(caller: &Caller, shortest: Option<Duration>) -> Result<String> {
    let minutes = if shortest.is_some_and(|gap| gap < OFTEN) { "*" } else { "*/5" };
    let mut words = Vec::new();
    for (name, value) in &caller.variables {
        words.push(format!("{name}={}", quoted(plain("the variable", value)?)));
    }
    for word in caller.words(&["--quiet", "schedule", "run", "--due"]) {
        words.push(quoted(plain("the path", &word)?));
    }
    let (begin, end) = marks(caller)?;
    // A per cent sign ends the command there.
    let command = words.join(" ").replace('%', "\\%");
    Ok(format!("{begin}\n{minutes} * * * * {command}\n{end}\n"))
}

fn marks(caller: &Caller) -> Result<(String, String)> {
    let profile = plain("the profile's path", caller.profile.as_os_str())?;
    Ok((format!("# BEGIN snapkeep {profile}"), format!("# END snapkeep {profile}")))
}

fn quoted(word: &str) -> String {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-+:=@,".contains(&b);
    if !word.is_empty() && word.bytes().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// The table without the profile's block; an error where it begins and does not end.
pub fn without(table: &[u8], caller: &Caller) -> Result<Vec<u8>> {
    let (begin, end) = marks(caller)?;
    let mut kept = Vec::with_capacity(table.len());
    let mut inside = false;
    for line in table.split_inclusive(|b| *b == b'\n') {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        if text == begin.as_bytes() {
            inside = true;
        } else if inside && text == end.as_bytes() {
            inside = false;
        } else if !inside {
            kept.extend_from_slice(line);
        }
    }
    if inside {
        let what = format!(
            "the crontab has `{begin}` without `{end}`; put that right by `crontab -e`, nothing was changed"
        );
        return Err(Error::new(ErrorKind::Refused, what));
    }
    Ok(kept)
}

/// The user's table. That there is none is not the same as one that cannot be read.
pub fn read() -> Result<Vec<u8>> {
    let output = ask("crontab", &["-l"], None)?;
    let told = String::from_utf8_lossy(&output.stderr);
    match output.status.success() {
        true => Ok(output.stdout),
        false if told.contains("no crontab") => Ok(Vec::new()),
        false => {
            let why = told.lines().next().unwrap_or("it did not say why");
            Err(Error::new(ErrorKind::Io, format!("the crontab cannot be read: {why}; nothing was changed")))
        }
    }
}

/// Whether the profile has a block.
pub fn is_installed(table: &[u8], caller: &Caller) -> Result<bool> {
    Ok(without(table, caller)?.len() != table.len())
}

/// Puts the block at the end, in the place of an older one.
pub fn install(block: &str, caller: &Caller) -> Result<()> {
    let mut table = without(&read()?, caller)?;
    if !table.is_empty() && !table.ends_with(b"\n") {
        table.push(b'\n');
    }
    table.extend_from_slice(block.as_bytes());
    must("crontab", &["-"], Some(&table)).map(drop)
}

/// Takes the block away; whether there was one.
pub fn remove(caller: &Caller) -> Result<bool> {
    let table = read()?;
    let rest = without(&table, caller)?;
    if rest.len() == table.len() {
        return Ok(false);
    }
    must("crontab", &["-"], Some(&rest)).map(|_| true)
}
