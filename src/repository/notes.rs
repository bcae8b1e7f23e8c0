//! Notes: write-once remarks about snapshots, and what they add up to.

use super::drills::Drilled;
use super::snapshots::{Listed, Listing};
use super::trash::{self, Forgotten};
use super::{Repository, checks, random, reserve};
use crate::backend::write_new;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::format::frame::FrameKind;
use crate::format::snapshot::{self, Note, NoteKind, RulesTried};
use crate::format::{FileName, Folder, HEADER_LEN, decode_header, encode_header, limit};
use crate::id::{Name, SnapshotId};
use rayon::prelude::{IntoParallelRefIterator, ParallelIterator};
use std::collections::HashMap;

/// What a pin says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pin {
    pub label: Option<String>,
}

/// One note and its own name.
#[derive(Clone, Debug)]
pub struct NamedNote {
    pub name: Name,
    pub note: Note,
}

/// All notes of a repository.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    /// By the snapshot's id; the notes of one in their order.
    by_snapshot: HashMap<String, Vec<NamedNote>>,
    /// Those that cannot be read, with the reason.
    pub unread: Vec<(FileName, String)>,
}

/// What the notes of one snapshot add up to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub tags: Option<Vec<String>>,
    pub pin: Option<Pin>,
    /// When tombstones were written, `None` for a time that cannot be read. Empty: it is not in the trash.
    pub tombstones: Vec<Option<Timestamp>>,
    /// What came of rules, the oldest first.
    pub rules: Vec<RulesTried>,
    /// What came of drills, the oldest first.
    pub drills: Vec<Drilled>,
    /// The restore that it was made before left no mixture.
    pub settled: bool,
    /// There are notes of a kind that this version does not know.
    pub unclear: bool,
}

/// Reads a note's file.
pub fn read(repository: &Repository, name: &FileName) -> Result<Note> {
    let bytes = repository.backend().read(name, limit::RECORD_BYTES_MAX)?;
    let keyring = repository.keyring();
    decode_header(&bytes, name, Some(keyring.repository()))?;
    let plain = keyring.unseal(FrameKind::Note, &bytes[HEADER_LEN..]).map_err(|e| e.context(name))?;
    snapshot::decode(&plain, "a note").map_err(|e| e.context(name))
}

impl Notes {
    /// All of them.
    pub fn load(repository: &Repository) -> Result<Self> {
        let names: Vec<FileName> =
            repository.backend().list(Folder::Notes)?.into_iter().map(|stat| stat.name).collect();
        let results: Vec<_> = names.par_iter().map(|name| (*name, read(repository, name))).collect();
        let mut notes = Notes::default();
        for (name, result) in results {
            match result {
                Ok(note) => {
                    let named = NamedNote { name: name.header_name(), note };
                    notes.by_snapshot.entry(named.note.snapshot.clone()).or_default().push(named);
                }
                // Removed after it was listed, because its snapshot was.
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) if e.kind().is_unreadable() => notes.unread.push((name, e.message().to_owned())),
                Err(e) => return Err(e),
            }
        }
        for list in notes.by_snapshot.values_mut() {
            list.sort_by_key(|n| (n.note.sequence, n.name));
        }
        notes.unread.sort();
        Ok(notes)
    }

    /// The notes of a snapshot, in order.
    pub fn of(&self, id: SnapshotId) -> &[NamedNote] {
        self.by_snapshot.get(&id.to_string()).map_or(&[], Vec::as_slice)
    }

    /// The notes about the repository itself, in order.
    pub fn of_repository(&self) -> &[NamedNote] {
        self.by_snapshot.get("").map_or(&[], Vec::as_slice)
    }

    /// Every note that could be read.
    pub fn iter(&self) -> impl Iterator<Item = &NamedNote> {
        self.by_snapshot.values().flatten()
    }

    pub fn state(&self, id: SnapshotId) -> State {
        let mut state = State::default();
        for NamedNote { note, .. } in self.of(id) {
            match &note.what {
                NoteKind::Tags { tags } => state.tags = Some(tags.clone()),
                NoteKind::Forgotten { .. } => {
                    state.tombstones.push(Timestamp::parse(&note.time, Timestamp::default()).ok());
                }
                NoteKind::Pin { pinned, label } => {
                    state.pin = pinned.then(|| Pin { label: label.clone() });
                }
                // About the repository, not about a snapshot.
                NoteKind::Repair { .. } | NoteKind::Check(_) => {}
                NoteKind::Rules(tried) => state.rules.push(tried.clone()),
                NoteKind::Drill(done) => {
                    state.drills.push(Drilled { time: note.time.clone(), done: done.clone() });
                }
                NoteKind::Settled { .. } => state.settled = true,
                NoteKind::Unknown => state.unclear = true,
            }
        }
        state
    }
}

/// Adds to a listing of records what was noted about them.
pub fn apply(repository: &Repository, listing: &mut Listing) -> Result<()> {
    let notes = Notes::load(repository)?;
    let mut visible = Vec::with_capacity(listing.snapshots.len());
    for mut listed in listing.snapshots.drain(..) {
        let state = notes.state(listed.id);
        if let Some(tags) = state.tags {
            listed.record.tags = tags;
        }
        if let Some(pin) = state.pin {
            listing.pins.insert(listed.id, pin);
        }
        if !state.rules.is_empty() {
            listing.rules.insert(listed.id, state.rules);
        }
        if !state.drills.is_empty() {
            listing.drills.insert(listed.id, state.drills);
        }
        if state.settled {
            listing.settled.insert(listed.id);
        }
        if state.unclear {
            listing.unclear.insert(listed.id);
        }
        if state.tombstones.is_empty() {
            visible.push(listed);
        } else {
            listing.forgotten.push(Forgotten::new(listed, &state.tombstones));
        }
    }
    listing.snapshots = visible;
    listing.checks = checks::of(&notes);
    listing.unread_notes = notes.unread;
    Ok(())
}

/// Writes a note about a snapshot, durably.
pub fn write(repository: &Repository, id: SnapshotId, what: NoteKind, now: Timestamp) -> Result<()> {
    let known = Notes::load(repository)?;
    write_after(repository, &known, id, what, now)
}

/// As `write`, where the notes there are have been read already.
pub fn write_after(
    repository: &Repository,
    known: &Notes,
    id: SnapshotId,
    what: NoteKind,
    now: Timestamp,
) -> Result<()> {
    let last = known.of(id).last().map_or(0, |n| n.note.sequence);
    let sequence = last.saturating_add(1);
    store(repository, &Note { snapshot: id.to_string(), sequence, time: now.rfc3339(), what })
}

/// Stores a note, durably.
pub fn store(repository: &Repository, note: &Note) -> Result<()> {
    let body = snapshot::encode(note);
    if body.len() as u64 > limit::RECORD_BYTES_MAX / 2 {
        return Err(Error::invalid("this is too long to be noted"));
    }
    let name = FileName::Note(random::name()?);
    let keyring = repository.keyring();
    let mut bytes = encode_header(&name, keyring.repository()).to_vec();
    let salt = random::bytes::<16>()?;
    bytes.extend_from_slice(&keyring.seal(FrameKind::Note, &body, &salt)?);
    // Forgetting is how a full disk gets room again.
    let backend = repository.backend().as_ref();
    reserve::spending(backend, || write_new(backend, &name, &bytes))
}

/// Notes the tags a snapshot has from now on.
pub fn set_tags(repository: &Repository, id: SnapshotId, tags: Vec<String>, now: Timestamp) -> Result<()> {
    write(repository, id, NoteKind::Tags { tags }, now)
}

/// Pins a snapshot, or takes its pin away. Fails when the snapshot was forgotten meanwhile: then a pin that came too
/// late must not pass for one that holds.
pub fn set_pin(repository: &Repository, listed: &Listed, pin: Option<Pin>, now: Timestamp) -> Result<()> {
    let pinned = pin.is_some();
    let what = NoteKind::Pin { pinned, label: pin.and_then(|p| p.label) };
    write(repository, listed.id, what, now)?;
    // Forgetting writes its tombstone first and looks for pins after: of two at the same time one sees the other.
    let gone = || Ok(!trash::has_record(repository, listed.id)?);
    if pinned && (!Notes::load(repository)?.state(listed.id).tombstones.is_empty() || gone()?) {
        let what =
            format!("snapshot {} was forgotten at the same time; see `snapshots --trash`", listed.id.short());
        return Err(Error::new(ErrorKind::NotFound, what));
    }
    Ok(())
}
