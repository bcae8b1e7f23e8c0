//! Snapshots: list them, find the one that is meant.

use super::checks::Checked;
use super::drills::Drilled;
use super::notes::{self, Pin};
pub use super::notes::{read as read_note, set_tags};
use super::trash::Forgotten;
use super::{Repository, copies, schema};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::format::frame::{FrameKind, decode_frame_header};
use crate::format::snapshot::{self, RulesTried, SessionInfo, Snapshot};
use crate::format::{FileName, Folder, HEADER_LEN, decode_header, limit};
use crate::id::{CHUNK_ID_LEN, ChunkId, SnapshotId, unhex};
use rayon::prelude::{IntoParallelRefIterator, ParallelIterator};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// Narrows what `latest` and times look at; empty fields match everything.
#[derive(Clone, Debug, Default)]
pub struct SnapshotFilter {
    pub hosts: Vec<String>,
    /// Each entry is a set of tags that must all be there; one entry must match.
    pub tags: Vec<Vec<String>>,
    /// A snapshot matches when it has all of these paths.
    pub paths: Vec<String>,
    /// Names of sets of profiles, one of which it must belong to: `SET`, or `PROFILE/SET`.
    pub sets: Vec<String>,
    /// Sets that it must not belong to.
    pub except_sets: Vec<String>,
}

impl SnapshotFilter {
    pub fn matches(&self, s: &Snapshot) -> bool {
        let host = self.hosts.is_empty() || self.hosts.contains(&s.hostname);
        let has = |tag: &String| if tag.is_empty() { s.tags.is_empty() } else { s.tags.contains(tag) };
        let tags = self.tags.is_empty() || self.tags.iter().any(|set| set.iter().all(has));
        let paths = self.paths.iter().all(|p| s.paths.contains(p));
        let of = |name: &String| s.expected.as_ref().is_some_and(|expected| expected.is_set(name));
        let sets = self.sets.is_empty() || self.sets.iter().any(of);
        host && tags && paths && sets && !self.except_sets.iter().any(of)
    }
}

/// A committed snapshot and who made it.
#[derive(Clone, Debug)]
pub struct Listed {
    pub id: SnapshotId,
    pub root: ChunkId,
    pub record: Snapshot,
    pub session: SessionInfo,
}

/// What listing found.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Oldest first, without those in the trash. **Not** everything that must be kept: see `live`.
    pub snapshots: Vec<Listed>,
    /// In the trash: records that are still there and whose chunks are still needed. Oldest first.
    pub forgotten: Vec<Forgotten>,
    /// Snapshots that cannot be read, with the reason.
    pub damaged: Vec<(SnapshotId, String)>,
    /// Pinned snapshots, wherever they are listed.
    pub pins: BTreeMap<SnapshotId, Pin>,
    /// Snapshots with notes of a kind that this version does not know: who decides about them knows too little.
    pub unclear: BTreeSet<SnapshotId>,
    /// What came of rules tried on snapshots, the oldest first.
    pub rules: BTreeMap<SnapshotId, Vec<RulesTried>>,
    /// What came of drills, the oldest first.
    pub drills: BTreeMap<SnapshotId, Vec<Drilled>>,
    /// What came of checks of the repository, the oldest first.
    pub checks: Vec<Checked>,
    /// Safety snapshots whose restore left no mixture.
    pub settled: BTreeSet<SnapshotId>,
    /// Notes that cannot be read, with the reason. Any of them may be a pin.
    pub unread_notes: Vec<(FileName, String)>,
    /// Snapshots whose own file is damaged and whose second copy was read.
    pub from_copies: Vec<SnapshotId>,
}

impl Listing {
    /// Every record that could be read, those in the trash included: what must not lose a chunk.
    pub fn live(&self) -> impl Iterator<Item = &Listed> {
        self.snapshots.iter().chain(self.forgotten.iter().map(|f| &f.listed))
    }
}

impl Listed {
    /// When it was made, or the time that the user gave it; `None` when the record says something else.
    pub fn time(&self) -> Option<Timestamp> {
        Timestamp::parse(&self.record.time, Timestamp::default()).ok()
    }

    /// Whether its time is the clock's and not one that the user gave.
    pub fn is_clocked(&self) -> bool {
        self.record.time == self.record.backup_start
    }

    /// Snapshots of one series have the same host and paths.
    pub fn is_of_series(&self, other: &Listed) -> bool {
        self.record.hostname == other.record.hostname && self.record.paths == other.record.paths
    }
}

/// Reads a snapshot's file.
pub fn read(repository: &Repository, id: SnapshotId) -> Result<Listed> {
    let name = FileName::Snapshot(id);
    judge(repository, &repository.backend().read(&name, limit::RECORD_BYTES_MAX)?, &name)
}

/// A snapshot from the bytes of its file or of its second copy, if these are as they were written.
pub fn judge(repository: &Repository, bytes: &[u8], name: &FileName) -> Result<Listed> {
    let id = name.header_name();
    let keyring = repository.keyring();
    decode_header(bytes, name, Some(keyring.repository()))?;
    let (first, rest) = split_frame(&bytes[HEADER_LEN..]).map_err(|e| e.context(name))?;
    let session = keyring.unseal(FrameKind::Session, first).map_err(|e| e.context(name))?;
    let session: SessionInfo = snapshot::decode(&session, "a session record")?;
    let record = keyring.unseal(FrameKind::Snapshot, rest).map_err(|e| e.context(name))?;
    let record: Snapshot = snapshot::decode(&record, "a snapshot record")?;
    if record.id != id.to_string() {
        return Err(Error::corrupt(format!("{name} is the record of another snapshot")));
    }
    let root = unhex(&record.root).filter(|b| b.len() == CHUNK_ID_LEN).and_then(|b| ChunkId::from_slice(&b));
    let root = root.ok_or_else(|| Error::corrupt(format!("{name} names no root")))?;
    Ok(Listed { id, root, record, session })
}

/// Who opened a session that has not been committed.
pub fn read_session(repository: &Repository, name: &FileName) -> Result<SessionInfo> {
    let bytes = repository.backend().read(name, limit::RECORD_BYTES_MAX)?;
    let keyring = repository.keyring();
    decode_header(&bytes, name, Some(keyring.repository()))?;
    let (first, _) = split_frame(&bytes[HEADER_LEN..])?;
    snapshot::decode(&keyring.unseal(FrameKind::Session, first)?, "a session record")
}

fn split_frame(bytes: &[u8]) -> Result<(&[u8], &[u8])> {
    let (_, len) = decode_frame_header(bytes)?;
    if len > bytes.len() {
        return Err(Error::corrupt("a record is cut short"));
    }
    Ok(bytes.split_at(len))
}

/// The order of snapshots: in a series it is the order in which they were made, whatever the clocks said.
pub fn recorded_order(a: &Listed, b: &Listed) -> Ordering {
    // Two series may commit within one second; then the start of the backup, to the nanosecond, decides.
    let start = |l: &Listed| Timestamp::parse(&l.record.backup_start, Timestamp::default()).ok();
    let order = a.record.order_time.cmp(&b.record.order_time);
    let order = order.then_with(|| start(a).cmp(&start(b)));
    order.then(a.record.sequence.cmp(&b.record.sequence)).then(a.id.cmp(&b.id))
}

/// Every snapshot, oldest first, with what was noted since: tags, pins, and which are in the trash.
pub fn list(repository: &Repository) -> Result<Listing> {
    let stats = repository.backend().list(Folder::Snapshots)?;
    let read_one = |stat: &crate::backend::FileStat| {
        let id = stat.name.header_name();
        // That the file is there says that the snapshot is live; what it held, its second copy knows too.
        let judge = |bytes: &[u8], name: &FileName| judge(repository, bytes, name);
        (id, copies::either(repository.backend().as_ref(), &stat.name, &judge))
    };
    let results: Vec<_> = stats.par_iter().map(read_one).collect();
    let mut listing = Listing::default();
    for (id, result) in results {
        match result {
            Ok((listed, copied)) => {
                listing.from_copies.extend(copied.then_some(id));
                listing.snapshots.push(listed);
            }
            // Forgotten between listing and reading.
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) if e.kind().is_unreadable() => {
                listing.damaged.push((id, e.message().to_owned()));
            }
            Err(e) => return Err(e),
        }
    }
    listing.snapshots.sort_by(recorded_order);
    notes::apply(repository, &mut listing)?;
    listing.damaged.sort();
    Ok(listing)
}

/// The snapshot meant by an id prefix (4 or more hex digits), `latest`, `latest~N`, `@TIME` or `before-schema:N`. Safety snapshots are the state
/// that somebody wanted to get away from: they are only meant where they are named.
pub fn resolve(listing: &Listing, text: &str, filter: &SnapshotFilter, now: Timestamp) -> Result<Listed> {
    let usual = |l: &&Listed| l.record.before_restore.is_none() && filter.matches(&l.record);
    let matching = || listing.snapshots.iter().filter(usual);
    let nothing = |what: String| Error::new(ErrorKind::NotFound, what);
    if let [(id, _), ..] = listing.damaged.as_slice()
        && (text.starts_with("latest") || text.starts_with('@') || text.starts_with(schema::BEFORE))
    {
        // One of the unreadable ones may be the newest: an older state must not pass for the latest silently.
        return Err(Error::corrupt(format!(
            "`{text}` is not certain: snapshot {} cannot be read; name the one you want by its id, `snapshots` lists \
             them",
            id.short()
        )));
    }
    if let Some(version) = schema::parse_before(text) {
        return schema::before(listing, version?, None, filter);
    }
    if let Some(back) = text.strip_prefix("latest") {
        let back = match back {
            "" => 0,
            _ => back.strip_prefix('~').and_then(|n| n.parse::<usize>().ok()).ok_or_else(|| unclear(text))?,
        };
        return matching().nth_back(back).cloned().ok_or_else(|| match (back, listing.snapshots.len()) {
            (_, 0) if !listing.forgotten.is_empty() => {
                nothing("all snapshots are in the trash; `snapshots --trash` lists them".to_owned())
            }
            (_, 0) => nothing("the repository has no snapshots yet".to_owned()),
            (0, _) => nothing("no snapshot matches the host, tags and paths asked for".to_owned()),
            _ => nothing(match matching().count() {
                1 => "only one snapshot matches".to_owned(),
                matches => format!("only {matches} snapshots match"),
            }),
        });
    }
    if let Some(time) = text.strip_prefix('@') {
        let at = Timestamp::parse(time, now)?;
        let found = matching().rfind(|l| Timestamp::parse(&l.record.time, now).is_ok_and(|t| t <= at));
        return found.cloned().ok_or_else(|| nothing(format!("no snapshot is as old as {time}")));
    }
    if text.len() < 4 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(unclear(text));
    }
    let prefix = text.to_ascii_lowercase();
    let mut found = listing.snapshots.iter().filter(|l| l.record.id.starts_with(&prefix));
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one.clone()),
        (None, _) => {
            if let Some((id, why)) =
                listing.damaged.iter().find(|(id, _)| id.to_string().starts_with(&prefix))
            {
                return Err(Error::corrupt(format!("snapshot {} cannot be read: {why}", id.short())));
            }
            if let Some(gone) = listing.forgotten.iter().find(|f| f.listed.record.id.starts_with(&prefix)) {
                return Err(nothing(format!(
                    "snapshot {} is in the trash; `undelete` brings it back",
                    gone.listed.id.short()
                )));
            }
            Err(nothing(format!("no snapshot begins with `{text}`")))
        }
        (Some(a), Some(b)) => Err(Error::invalid(format!(
            "`{text}` could be {} or {}; use more digits",
            &a.record.id[..12],
            &b.record.id[..12]
        ))),
    }
}

fn unclear(text: &str) -> Error {
    Error::invalid(format!(
        "`{text}` names no snapshot; use an id (4 or more hex digits), latest, latest~N, @TIME or before-schema:N"
    ))
}

/// A path as snapshot records hold it: bytes that are not UTF-8 as `%XX`, `%` itself as `%25`.
pub fn encode_path(path: &[u8]) -> String {
    let mut out = String::with_capacity(path.len());
    for part in path.utf8_chunks() {
        for c in part.valid().chars() {
            if c == '%' {
                out.push_str("%25");
            } else {
                out.push(c);
            }
        }
        for byte in part.invalid() {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Raw bytes of a path in a snapshot's record, where `%XX` stands for what is not UTF-8 and for `%`.
pub fn decode_path(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = bytes.get(at + 1..at + 3).and_then(|d| std::str::from_utf8(d).ok());
        match code.and_then(|d| u8::from_str_radix(d, 16).ok()).filter(|_| bytes[at] == b'%') {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    out
}
