//! `run`: free what no snapshot needs, beside running backups, restores and other collectors, without locks or clocks.
//!
//! The order of steps is the protocol of `format-spec/8-sessions-and-removal.md`; every deletion waits for it. A run
//! may be killed or suspended between any two steps: the next one goes on with the list it finds.

mod cluster;
mod finish;
pub mod live;
mod look;
mod marks;
pub mod plan;
mod records;
mod repack;
mod settled;

use crate::clock::Timestamp;
use crate::compress::Level;
use crate::error::{Error, ErrorKind, Result};
use crate::id::PackId;
use crate::progress::{Problem, Progress, Report};
use crate::repository::segments::{self, Care, Tended};
use crate::repository::{Repository, condemned, removal, reserve, sessions, sighting, trash};
use look::{Look, look};
use plan::{PackUse, Plan};
use repack::{History, Rescued};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A plan that somebody else overtook is made anew so often.
const ATTEMPTS: u32 = 5;

/// How much unused space may stay, so that little has to be rewritten.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MaxUnused {
    /// Per cent of what the repository holds afterwards.
    Percent(f64),
    Bytes(u64),
    Unlimited,
}

/// What a collection may do.
#[derive(Clone, Debug)]
pub struct PruneOptions {
    pub max_unused: MaxUnused,
    /// Most bytes of packs to rewrite.
    pub max_repack: Option<u64>,
    /// For chunks that have to be compressed anew.
    pub level: Level,
    /// This machine's name: sessions of its dead processes are evicted.
    pub host: String,
    /// How long to wait for backups that began before the packs were condemned.
    pub wait: Duration,
    /// A session that cannot be seen to live is evicted when nothing changed about it for so long, between two visits of
    /// this machine; `None` leaves that to people.
    pub evict_after: Option<Duration>,
    /// Look and plan, change nothing.
    pub dry_run: bool,
    /// How long forgotten snapshots stay in the trash, and what time it is for that.
    pub trash: Duration,
    pub now: Timestamp,
    /// Go on although far fewer packs or snapshots are listed than this machine saw last.
    pub accept_shrunk: bool,
    /// Keep some room for the day the disk is full.
    pub keep_reserve: bool,
    /// Store chunks anew that rest on others which nothing else needs, so that those can go.
    pub drop_bases: bool,
}

impl Default for PruneOptions {
    fn default() -> Self {
        PruneOptions {
            max_unused: MaxUnused::Percent(5.0),
            max_repack: None,
            level: Level::AUTO,
            host: crate::os::process::host_name(),
            wait: Duration::from_secs(300),
            evict_after: Some(Duration::from_secs(7 * 86_400)),
            dry_run: false,
            trash: trash::span(trash::DAYS),
            now: Timestamp::default(),
            accept_shrunk: false,
            keep_reserve: false,
            drop_bases: false,
        }
    }
}

/// What a collection did, or with `dry_run` would do.
#[derive(Clone, Debug, Default)]
pub struct PruneReport {
    /// What was decided; of the last plan when there were several.
    pub plan: Plan,
    /// Snapshots that were in the trash for long enough; in a dry run they would be deleted, and still count as needed.
    pub expired: u64,
    /// Packs of an earlier collection that were deleted first.
    pub resumed: u64,
    pub deleted_packs: u64,
    pub deleted_bytes: u64,
    /// Bytes of new packs: copies out of packs that went.
    pub written_bytes: u64,
    /// Chunks copied at the last moment because a backup had come to need them.
    pub rescued: u64,
    /// Chunks stored whole so that what they rested on can go.
    pub rebased: u64,
    /// Packs condemned but not deleted yet, and the backups they wait for.
    pub waiting_packs: u64,
    pub waiting_bytes: u64,
    pub waiting_for: Vec<String>,
    /// Sessions that were evicted because nothing was seen of them for too long.
    pub evicted: Vec<String>,
    /// Packs left alone because they cannot be read, with the reason.
    pub unreadable: Vec<(PackId, String)>,
    /// Stopped sessions' files that were cleared away.
    pub cleared_sessions: u64,
    /// Files that crashes cut short: removed, and left because somebody may still be writing them.
    pub unfinished_removed: u64,
    pub unfinished_left: u64,
    /// The disk was full, so rewriting was put off.
    pub short_of_space: bool,
    /// Index segments that were written and removed.
    pub segments: Tended,
}

/// Collects.
pub fn run(
    repository: &Arc<Repository>,
    options: &PruneOptions,
    progress: &Progress,
    report: &dyn Report,
) -> Result<PruneReport> {
    let mut done = PruneReport::default();
    let cache = repository.cache_dir();
    if let Some(cache) = &cache
        && !options.accept_shrunk
    {
        sighting::refuse_shrunk(cache, sighting::look(repository.backend().as_ref())?)?;
    }
    let result = collect(repository, options, progress, report, &mut done);
    if result.is_ok() && !options.dry_run {
        // Copies of footers: what keeps us from tidying them up takes nothing from what was done.
        match segments::tend(repository, Care::Tidy) {
            Ok(tended) => done.segments = tended,
            Err(e) => {
                let message = format!("the index segments could not be tidied up: {}", e.message());
                report.warning(&Problem { item: b"index".to_vec(), during: "prune", message });
            }
        }
    }
    if options.keep_reserve && !options.dry_run {
        reserve::fill(repository.backend().as_ref(), repository.id());
    }
    if let Some(cache) = &cache
        && !options.dry_run
        && result.is_ok()
    {
        sighting::note(cache, sighting::look(repository.backend().as_ref())?);
    }
    result.map(|()| done)
}

fn collect(
    repository: &Arc<Repository>,
    options: &PruneOptions,
    progress: &Progress,
    report: &dyn Report,
    done: &mut PruneReport,
) -> Result<()> {
    let expired = trash::expired(repository, options.now, options.trash)?;
    done.expired = expired.len() as u64;
    if !options.dry_run {
        trash::delete(repository, &expired)?;
        trash::sweep(repository)?;
        sessions::evict_dead(repository, &options.host)?;
        if let Some(after) = options.evict_after {
            let evicted = sessions::evict_stalled(repository, options.now, after)?;
            done.evicted = evicted.iter().map(sessions::Open::describe).collect();
        }
        let before = done.deleted_packs;
        if !finish::lists(repository, options, progress, report, done)? {
            return Ok(());
        }
        done.resumed = done.deleted_packs - before;
        done.cleared_sessions = sessions::clear_evicted(repository)?;
        // Only tidying up: what stands in its way stands in the way of all the rest, too, or does no harm.
        if let Ok((removed, left)) = removal::unfinished(repository.backend().as_ref()) {
            (done.unfinished_removed, done.unfinished_left) = (removed, left);
        }
    }
    for _ in 0..ATTEMPTS {
        progress.keep_going()?;
        if let Round::Done = round(repository, options, progress, report, done)? {
            return Ok(());
        }
    }
    Err(Error::new(ErrorKind::Locked, "other collections keep overtaking this one; run it again later"))
}

enum Round {
    Done,
    Again,
}

/// One plan carried out.
fn round(
    repository: &Arc<Repository>,
    options: &PruneOptions,
    progress: &Progress,
    report: &dyn Report,
    done: &mut PruneReport,
) -> Result<Round> {
    if let Some(plan) = settled::recall(repository, options)? {
        done.plan = plan;
        return Ok(Round::Done);
    }
    let look = look(repository, progress)?;
    done.unreadable.clone_from(&look.index.unreadable);
    // Never two lists at work at once: a chunk that one collector is about to rescue from its packs may rest on others
    // that look dead from here.
    if look.unfinished && !options.dry_run {
        let finished = finish::lists(repository, options, progress, report, done)?;
        return Ok(if finished { Round::Again } else { Round::Done });
    }
    match prepare(repository, &look, options, progress, report, done) {
        Ok(Prepared::Nothing) => Ok(Round::Done),
        Ok(Prepared::Again) => Ok(Round::Again),
        Ok(Prepared::Condemn { packs, again }) => {
            let backend = repository.backend().as_ref();
            match condemned::publish(backend, repository.keyring(), look.highest(), &packs) {
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::AlreadyExists => return Ok(Round::Again),
                Err(e) => return Err(e),
            }
            drop(look);
            if !finish::lists(repository, options, progress, report, done)? {
                return Ok(Round::Done);
            }
            Ok(if again { Round::Again } else { Round::Done })
        }
        // Another collection took away what this one was about to copy.
        Err(e) if e.kind() != ErrorKind::Cancelled && look.is_overtaken(repository)? => Ok(Round::Again),
        Err(e) => Err(e),
    }
}

/// What a plan comes to once everything in its packs that is needed lies in others, durably.
enum Prepared {
    Nothing,
    Again,
    Condemn { packs: Vec<PackId>, again: bool },
}

fn prepare(
    repository: &Arc<Repository>,
    look: &Look,
    options: &PruneOptions,
    progress: &Progress,
    report: &dyn Report,
    done: &mut PruneReport,
) -> Result<Prepared> {
    if !options.dry_run && rescue_lost(repository, look, options, progress, done)? {
        return Ok(Prepared::Again);
    }
    refuse_damage(look)?;
    let may_rebase = options.drop_bases && !options.dry_run && done.rebased == 0;
    if may_rebase && rebase(repository, look, options, progress, done)? {
        return Ok(Prepared::Again);
    }
    let mut plan = decide(repository, options, look)?;
    done.plan = plan.clone();
    // What a dry run does not try cannot be known to be nothing.
    if done.rebased == 0 && !(options.drop_bases && options.dry_run) {
        settled::note(repository, options, look, &plan);
    }
    if options.dry_run || plan.is_empty() {
        return Ok(Prepared::Nothing);
    }
    let mut again = false;
    match repack::copy(repository, look, &plan.repack, options, progress) {
        Ok(copied) => {
            done.written_bytes += copied.bytes;
            for (pack, why) in copied.unreadable {
                let message = format!("left as it is: {why}");
                report.problem(&Problem { item: pack.to_string().into_bytes(), during: "prune", message });
                plan.repack.retain(|p| p.id != pack);
                done.unreadable.push((pack, why));
            }
        }
        // Deleting whole packs needs no room: what can be freed that way is freed first.
        Err(e) if e.is_disk_full() && !plan.drop.is_empty() => {
            plan.repack.clear();
            again = !done.short_of_space;
            done.short_of_space = true;
        }
        Err(e) => return Err(e),
    }
    let packs: Vec<PackId> = plan.drop.iter().chain(&plan.repack).map(|p| p.id).collect();
    Ok(if packs.is_empty() { Prepared::Nothing } else { Prepared::Condemn { packs, again } })
}

/// Chunks whose shallow copy has vanished may still be readable by a way that is longer than was stated when they were
/// written. They are stored anew, so that everything that stays is grounded. True when that was done.
fn rescue_lost(
    repository: &Arc<Repository>,
    look: &Look,
    options: &PruneOptions,
    progress: &Progress,
    done: &mut PruneReport,
) -> Result<bool> {
    let lost = look.live.lost();
    if lost.is_empty() {
        return Ok(false);
    }
    let rescued = repack::rescue(repository, look, &lost, History::Staying, options, progress)?;
    let Rescued::All(bytes) = rescued else { return Ok(false) };
    done.rescued += lost.len() as u64;
    done.written_bytes += bytes;
    Ok(true)
}

/// Stores whole what rests on chunks that no snapshot names. True when there was any.
fn rebase(
    repository: &Arc<Repository>,
    look: &Look,
    options: &PruneOptions,
    progress: &Progress,
    done: &mut PruneReport,
) -> Result<bool> {
    let leaning = look.live.leaning()?;
    if leaning.is_empty() {
        return Ok(false);
    }
    let rescued = repack::rescue(repository, look, &leaning, History::Nothing, options, progress)?;
    let Rescued::All(bytes) = rescued else { return Ok(false) };
    done.rebased = leaning.len() as u64;
    done.written_bytes += bytes;
    Ok(true)
}

/// Deleting in a repository that lacks something could take what a repair would need.
fn refuse_damage(look: &Look) -> Result<()> {
    let mut lost = look.live.lost();
    if look.unfinished {
        // What only condemned packs hold is rescued, not lost.
        lost.retain(|(id, _)| !matches!(look.index.find(id), Ok(Some(_))));
    }
    let Some((id, _)) = lost.first() else { return Ok(()) };
    Err(Error::corrupt(format!(
        "{} that snapshots need cannot be found (the first is {id}), so nothing is deleted; run `check`",
        crate::units::counted(lost.len() as u64, "chunk", "chunks")
    )))
}

/// What the packs hold, and what to do with each.
fn decide(repository: &Repository, options: &PruneOptions, look: &Look) -> Result<Plan> {
    let mut uses: BTreeMap<PackId, PackUse> = BTreeMap::new();
    for info in look.index.staying_packs() {
        uses.insert(info.id, PackUse::new(*info));
    }
    look.index.for_each_staying(&mut |slot, listed, pack| {
        if let Some(pack_use) = uses.get_mut(&pack.id) {
            pack_use.add(u64::from(listed.place.len), look.live.has(slot));
        }
        Ok(())
    })?;
    let open = sessions::open(repository.backend().as_ref())?;
    let condemnable = PACKS_AT_ONCE;
    let uses: Vec<PackUse> = uses.into_values().collect();
    Ok(plan::decide(uses, &open, repository.config().pack_bytes, options).at_most(condemnable))
}

/// Packs one list names at most.
const PACKS_AT_ONCE: usize = condemned::PACKS_MAX;
