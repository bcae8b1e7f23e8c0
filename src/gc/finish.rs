//! From a published list to deleted packs: wait, mark again, rescue, delete. Whoever finds a list goes on with it.

use super::look::look;
use super::repack::{self, History, Rescued};
use super::{PruneOptions, PruneReport, refuse_damage};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Folder;
use crate::id::{Name, PackId};
use crate::progress::{Problem, Progress, Report};
use crate::repository::{Repository, condemned, removal, sessions, sighting};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(250);
/// Another collector may delete the same packs while we rescue from them; then everything is looked at anew.
const ATTEMPTS: u32 = 5;

/// Finishes every list there is. False when backups that may still rely on its packs went on for too long: then the
/// list stays, and the next run goes on.
pub fn lists(
    repository: &Arc<Repository>,
    options: &PruneOptions,
    progress: &Progress,
    report: &dyn Report,
    done: &mut PruneReport,
) -> Result<bool> {
    let (backend, keyring) = (repository.backend().as_ref(), repository.keyring().as_ref());
    let lists = condemned::lists(backend, keyring)?;
    let sizes: HashMap<PackId, u64> =
        backend.list(Folder::Packs)?.iter().map(|stat| (stat.name.header_name(), stat.size)).collect();
    let doomed: Vec<PackId> =
        lists.iter().flat_map(|(_, packs)| packs).filter(|p| sizes.contains_key(p)).copied().collect();
    if !doomed.is_empty() {
        // Listed only now, when every list seen above is durable: any session that begins later reads it.
        let waiting_for = wait(repository, options, progress, report)?;
        if !waiting_for.is_empty() {
            done.waiting_packs = doomed.len() as u64;
            done.waiting_bytes = doomed.iter().filter_map(|p| sizes.get(p)).sum();
            done.waiting_for = waiting_for;
            return Ok(false);
        }
        rescue(repository, options, progress, done)?;
        if let Some(cache) = repository.cache_dir() {
            sighting::lessen(&cache, doomed.len() as u64, 0);
        }
        for pack in &doomed {
            removal::pack(backend, *pack)?;
            done.deleted_packs += 1;
            done.deleted_bytes += sizes.get(pack).copied().unwrap_or_default();
        }
    }
    // The highest list stays until there is a higher one: a number that came back could be taken for the old list by
    // a collector that slept.
    let highest = lists.last().map_or(0, |(number, _)| *number);
    for (number, _) in lists.iter().filter(|(number, _)| *number != highest) {
        removal::condemned(backend, *number)?;
    }
    Ok(true)
}

/// Waits until the sessions open now have ended one way or another; returns those that have not when time is up.
fn wait(
    repository: &Arc<Repository>,
    options: &PruneOptions,
    progress: &Progress,
    report: &dyn Report,
) -> Result<Vec<String>> {
    let backend = repository.backend().as_ref();
    // What was seen of the lists must not be undone by a crash that a session begun after it survives.
    backend.sync_seen()?;
    let mut left: Vec<Name> = sessions::open(backend)?;
    let until = Instant::now() + options.wait;
    let mut told = false;
    while !left.is_empty() {
        progress.keep_going()?;
        sessions::evict_dead(repository, &options.host)?;
        let now = sessions::open(backend)?;
        left.retain(|session| now.contains(session));
        if left.is_empty() || Instant::now() >= until {
            break;
        }
        if !told {
            told = true;
            for open in sessions::list(repository)?.iter().filter(|o| left.contains(&o.session)) {
                let message = "waiting for this backup to end; it is safe to interrupt".to_owned();
                report.warning(&Problem { item: open.describe().into_bytes(), during: "prune", message });
            }
        }
        std::thread::sleep(POLL);
    }
    let still = sessions::list(repository)?;
    let unreadable = |s: &Name| format!("session {}", s.short());
    let text =
        |s: &Name| still.iter().find(|o| o.session == *s).map_or_else(|| unreadable(s), |o| o.describe());
    Ok(left.iter().map(text).collect())
}

/// Marks again, now that nobody can come to rely on the condemned packs any more, and stores anew what only they hold.
fn rescue(
    repository: &Arc<Repository>,
    options: &PruneOptions,
    progress: &Progress,
    done: &mut PruneReport,
) -> Result<()> {
    let backend = repository.backend();
    for _ in 0..ATTEMPTS {
        let look = look(repository, progress)?;
        let lost = look.live.lost();
        if lost.is_empty() {
            if !look.is_vouched_for(repository)? {
                continue;
            }
            // Snapshots that were seen gone must stay gone, and packs that were seen must stay, whatever crashes now.
            return backend.sync_seen();
        }
        match repack::rescue(repository, &look, &lost, History::Staying, options, progress)? {
            Rescued::All(bytes) => {
                done.rescued += lost.len() as u64;
                done.written_bytes += bytes;
            }
            // Gone under our hands: the next look tells. Else damaged.
            Rescued::Unreadable(why) => {
                if !look.is_overtaken(repository)? {
                    refuse_damage(&look)?;
                    return Err(unreadable(&why));
                }
            }
        }
    }
    Err(Error::new(
        ErrorKind::Locked,
        "other collections keep changing what this one looks at; run it again later",
    ))
}

/// What a snapshot needs lies in condemned packs only, and cannot be read there.
fn unreadable(why: &Error) -> Error {
    Error::corrupt(format!(
        "what snapshots need lies only in packs that are about to go, and cannot be read there, so nothing is deleted \
         ({}); run `check`",
        why.message()
    ))
}
