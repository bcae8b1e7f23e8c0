//! Every file of a small repository cut to every length, grown, zeroed piece by piece, doubled, or as it was before:
//! check finds it, and reading gives what was stored or an error, never anything else.

use crate::check_stand::{everything, over, password, sample};
use crate::counters::{is_night, note};
use rayon::prelude::*;
use snapkeep::backend::memory::MemoryBackend;
use snapkeep::check::run;
use snapkeep::crypto::ChunkSort;
use snapkeep::error::Result;
use snapkeep::format::entry::Extent;
use snapkeep::format::{FileName, Folder};
use snapkeep::id::{Name, SnapshotId};
use snapkeep::manifest::content;
use snapkeep::manifest::walk::Walk;
use snapkeep::progress::{Progress, Silent};
use snapkeep::repository::reader::Reader;
use snapkeep::repository::{Repository, locate, snapshots};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

type Files = BTreeMap<FileName, Vec<u8>>;
/// What each snapshot holds at each path.
type Stored = BTreeMap<SnapshotId, BTreeMap<Vec<u8>, Vec<u8>>>;

fn read_file(reader: &Reader, entry: &snapkeep::format::entry::Entry) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for extent in content::extents(reader, &entry.content)? {
        if let Extent::Chunk { id, repeat, .. } = extent {
            let chunk = reader.get(ChunkSort::Content, &id)?;
            (0..repeat).for_each(|_| bytes.extend_from_slice(&chunk));
        }
    }
    Ok(bytes)
}

/// Everything that can be read, whatever else cannot.
fn read_all(repository: &Repository) -> Stored {
    let mut stored = Stored::new();
    let Ok(listing) = snapshots::list(repository) else { return stored };
    let Ok(reader) = repository.reader() else { return stored };
    for listed in listing.snapshots {
        let files = stored.entry(listed.id).or_default();
        let Ok(walk) = Walk::new(&reader, &listed.root, b"") else { continue };
        for entry in walk.flatten() {
            if let Ok(bytes) = read_file(&reader, &entry) {
                files.insert(entry.path, bytes);
            }
        }
    }
    stored
}

/// Nothing was read that was not stored.
fn is_true(read: &Stored, wanted: &Stored) -> bool {
    read.iter().all(|(id, files)| {
        let wanted = wanted.get(id);
        files.iter().all(|(path, bytes)| wanted.and_then(|files| files.get(path)) == Some(bytes))
    })
}

/// The ways to spoil one file; some of each at least, all at night.
fn mutations(name: &FileName, bytes: &[u8], step: usize) -> Vec<(String, Files)> {
    let mut all = Vec::new();
    let mut add = |what: String, bytes: Vec<u8>| all.push((what, BTreeMap::from([(*name, bytes)])));
    for len in (0..bytes.len()).step_by(step) {
        add(format!("cut to {len}"), bytes[..len].to_vec());
    }
    for more in [1, 2, 16, 512, 4096] {
        add(format!("{more} zeros more"), [bytes, &vec![0; more][..]].concat());
        add(format!("{more} of its own bytes more"), [bytes, &bytes[..more.min(bytes.len())]].concat());
    }
    for piece in [16, 512] {
        for at in (0..bytes.len()).step_by(piece) {
            let end = (at + piece).min(bytes.len());
            let mut zeroed = bytes.to_vec();
            zeroed[at..end].fill(0);
            if zeroed != bytes {
                add(format!("zeros from {at} to {end}"), zeroed);
            }
            let mut without = bytes.to_vec();
            without.drain(at..end);
            add(format!("without {at} to {end}"), without);
        }
    }
    all
}

/// The same bytes under names they do not belong to.
fn doubles(files: &Files) -> Vec<(String, Files)> {
    let fresh = Name([7; 16]);
    let mut all = Vec::new();
    for (name, bytes) in files {
        let others = [
            FileName::Pack(fresh),
            FileName::Session(fresh),
            FileName::Snapshot(fresh),
            FileName::Note(fresh),
            FileName::Condemned(9),
            FileName::Config(9),
            FileName::Keys(9),
        ];
        for other in others {
            all.push((format!("{name} as {other}, too"), BTreeMap::from([(other, bytes.clone())])));
        }
    }
    all
}

fn spoil(encrypted: bool) -> u64 {
    let (repository, files, _) = sample(encrypted);
    let wanted = read_all(&repository);
    assert_eq!(wanted.len(), 3);
    let step = if is_night() { 1 } else { 7 };
    let mut all: Vec<(String, Files)> = doubles(&files);
    for (name, bytes) in &files {
        let of_one = mutations(name, bytes, step);
        all.extend(of_one.into_iter().map(|(what, files)| (format!("{name} {what}"), files)));
    }
    let tried = AtomicU64::new(0);
    let wrong: Vec<String> = all
        .par_iter()
        .filter_map(|(what, changed)| {
            let mut spoiled = files.clone();
            spoiled.extend(changed.iter().map(|(name, bytes)| (*name, bytes.clone())));
            let (_, repository) = over(&repository, &spoiled);
            tried.fetch_add(1, Ordering::Relaxed);
            if !is_true(&read_all(&repository), &wanted) {
                return Some(format!("{what}: something else was read"));
            }
            let found = run(&repository, &everything(), &Progress::new(), &Silent);
            // A session's file is nobody's but the writer's until it commits.
            let sound = found.is_ok_and(|report| report.damage.is_empty()) && !what.contains("as sessions/");
            sound.then(|| format!("{what}: not found"))
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {}: {:#?}", wrong.len(), all.len(), &wrong[..wrong.len().min(20)]);
    tried.into_inner()
}

#[test]
fn no_spoiled_file_is_read_as_if_it_were_sound() {
    let tried = spoil(false) + spoil(true);
    note("T7 spoiled files", tried, 0);
}

#[test]
fn an_older_key_record_that_comes_back_opens_nothing_new() {
    let (mut repository, before, _) = sample(true);
    let words = snapkeep::crypto::password::Password::new(b"another".to_vec()).expect("a password");
    let now = crate::check_stand::NOW;
    let owner = snapkeep::repository::keys::SlotOwner::default();
    let first = repository.key_slots().expect("slots").slots[0].id.clone();
    Arc::get_mut(&mut repository).expect("ours alone").add_key(&words, &owner, now).expect("added");
    repository.remove_key(&first).expect("removed");
    let old: Vec<(FileName, Vec<u8>)> =
        before.into_iter().filter(|(name, _)| name.folder() == Folder::Keys).collect();
    let backend = MemoryBackend::new();
    for folder in Folder::ALL {
        for stat in repository.backend().list(folder).expect("listed") {
            let bytes = repository.backend().read(&stat.name, u64::MAX).expect("read");
            backend.overwrite(stat.name, bytes);
        }
    }
    for (name, bytes) in old {
        backend.overwrite(name, bytes);
    }
    let backend: Arc<MemoryBackend> = Arc::new(backend);
    let refused = locate(backend.clone()).and_then(|located| located.open(Some(&password()), None));
    assert!(refused.is_err(), "the removed password opens it again");
    locate(backend).and_then(|located| located.open(Some(&words), None)).expect("the new one does");
}
