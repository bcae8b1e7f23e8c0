//! Open sessions that cannot be seen to live, and since when this machine has seen them as they are now.
//!
//! Whether a process on another machine is alive cannot be known. A session that had stored so many packs at one visit and
//! has not stored another at a visit days later is taken for dead. Eviction costs a backup its work and never data (the
//! fence sees to that), so this is a guess that may be wrong, and neither the clock nor this note is part of what makes
//! deletion safe. The note is kept beside the local index cache; deleting it only forgets.

use crate::clock::Timestamp;
use crate::id::Name;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A session as it was seen: its name, how many packs it had stored, and since when it has been so.
type Sight = (Name, u64, i64);

/// `cache` is the repository's index cache; the note stands beside it.
fn place(cache: &Path) -> Option<PathBuf> {
    cache.parent().map(|dir| dir.join("stalled"))
}

fn read(cache: &Path) -> Vec<Sight> {
    let text = place(cache).and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
    let sight = |line: &str| {
        let mut words = line.split(' ');
        let session = Name::parse(words.next()?).ok()?;
        Some((session, words.next()?.parse().ok()?, words.next()?.parse().ok()?))
    };
    text.lines().filter_map(sight).collect()
}

/// For how long each of these sessions has stood still, as far as this machine has seen; notes what it sees now. With
/// each session comes the number of packs it has stored.
pub fn since(cache: &Path, now: Timestamp, sessions: &[(Name, u64)]) -> Vec<Duration> {
    let before = read(cache);
    let sight = |(session, packs): &(Name, u64)| {
        let same = before.iter().find(|(s, p, _)| s == session && p == packs);
        // A clock that was set back has to begin anew.
        let begun = same.map_or(now.secs, |(_, _, begun)| (*begun).min(now.secs));
        (*session, *packs, begun)
    };
    let seen: Vec<Sight> = sessions.iter().map(sight).collect();
    if seen != before {
        note(cache, &seen);
    }
    let still = |begun: i64| u64::try_from(now.secs.saturating_sub(begun)).unwrap_or(0);
    seen.into_iter().map(|(_, _, begun)| Duration::from_secs(still(begun))).collect()
}

/// Only a hint: failing to note it is no error.
fn note(cache: &Path, seen: &[Sight]) {
    let Some(path) = place(cache) else { return };
    let text: String =
        seen.iter().map(|(session, packs, begun)| format!("{session} {packs} {begun}\n")).collect();
    let aside = path.with_extension("new");
    let written = std::fs::create_dir_all(path.parent().unwrap_or(cache));
    if written.and_then(|()| std::fs::write(&aside, text)).is_ok() {
        let _ = std::fs::rename(&aside, &path);
    }
}
