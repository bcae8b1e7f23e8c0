//! Open sessions: who they are, and moving them out of the way.

use super::packer::may_be_of;
use super::{Repository, removal, snapshots, stalled};
use crate::backend::Backend;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::format::snapshot::SessionInfo;
use crate::format::{FileName, Folder};
use crate::id::Name;
use std::time::Duration;

/// One open session.
#[derive(Clone, Debug)]
pub struct Open {
    pub session: Name,
    /// `None` when its record cannot be read, as after a crash while it was made.
    pub info: Option<SessionInfo>,
    /// Whether somebody on this machine holds it; `None` where that cannot be known.
    pub alive: Option<bool>,
}

impl Open {
    /// `session 1a2b3c4d of HOST (process N, since TIME)`.
    pub fn describe(&self) -> String {
        match &self.info {
            Some(info) => format!(
                "session {} of {} (process {}, since {})",
                self.session.short(),
                info.host,
                info.pid,
                info.started
            ),
            None => format!("session {} (its record cannot be read)", self.session.short()),
        }
    }
}

/// Names of all open sessions.
pub fn open(backend: &dyn Backend) -> Result<Vec<Name>> {
    let mut names: Vec<Name> =
        backend.list(Folder::Sessions)?.iter().map(|stat| stat.name.header_name()).collect();
    names.sort_unstable();
    Ok(names)
}

/// All open sessions, by name.
pub fn list(repository: &Repository) -> Result<Vec<Open>> {
    let backend = repository.backend();
    let mut all = Vec::new();
    for session in open(backend.as_ref())? {
        let alive = backend.session_alive(session);
        match snapshots::read_session(repository, &FileName::Session(session)) {
            Ok(info) => all.push(Open { session, info: Some(info), alive }),
            // Ended meanwhile.
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) if e.kind().is_unreadable() => all.push(Open { session, info: None, alive }),
            Err(e) => return Err(e),
        }
    }
    Ok(all)
}

/// Evicts a session; false when it was not open any more. It costs its backup work, never data.
pub fn evict(repository: &Repository, session: Name) -> Result<bool> {
    match repository.backend().evict(session) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// Evicts sessions of this host whose process is gone. Locks of other hosts cannot be seen on every network file
/// system, so only our own dead are ours to judge.
pub fn evict_dead(repository: &Repository, host: &str) -> Result<u64> {
    let mut evicted = 0;
    for open in list(repository)? {
        let ours = open.info.as_ref().is_some_and(|info| info.host == host);
        if ours && open.alive == Some(false) && evict(repository, open.session)? {
            evicted += 1;
        }
    }
    Ok(evicted)
}

/// Evicts sessions of other machines of which nothing was seen for so long, and says which. A guess, which may cost a
/// backup its work. Whoever is seen to live is never evicted here.
pub fn evict_stalled(repository: &Repository, now: Timestamp, after: Duration) -> Result<Vec<Open>> {
    let Some(cache) = repository.cache_dir() else { return Ok(Vec::new()) };
    let mut doubtful = list(repository)?;
    doubtful.retain(|open| open.alive != Some(true));
    let packs = if doubtful.is_empty() { Vec::new() } else { repository.backend().list(Folder::Packs)? };
    let sign = |open: &Open| {
        let stored = packs.iter().filter(|stat| may_be_of(&stat.name.header_name(), &open.session)).count();
        (open.session, stored as u64)
    };
    let since = stalled::since(&cache, now, &doubtful.iter().map(sign).collect::<Vec<_>>());
    let mut evicted = Vec::new();
    for (open, still) in doubtful.into_iter().zip(since) {
        if still >= after && evict(repository, open.session)? {
            evicted.push(open);
        }
    }
    Ok(evicted)
}

/// What a backup is told whose session is not there any more.
pub fn evicted() -> Error {
    Error::new(
        ErrorKind::Locked,
        "this backup's session was evicted while it ran, so nothing was committed; run it again (what was stored is \
         reused)",
    )
}

/// Removes what evicted sessions left: none of them can commit any more.
pub fn clear_evicted(repository: &Repository) -> Result<u64> {
    let backend = repository.backend().as_ref();
    let stats = backend.list(Folder::Evicted)?;
    for stat in &stats {
        removal::evicted(backend, stat.name.header_name())?;
    }
    Ok(stats.len() as u64)
}
