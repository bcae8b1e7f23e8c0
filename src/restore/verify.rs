//! Reading restored files again, from the disk, and comparing them with the snapshot chunk by chunk.
//!
//! A chunk's name is a keyed hash of its bytes, so nothing but the manifest has to be fetched for this.

use super::tally::{Tally, add, is_fatal};
use super::{Plan, Summary};
use crate::crypto::ChunkSort;
use crate::error::{Context, Error, Result};
use crate::format::entry::{Content, Entry, Extent, Kind};
use crate::manifest::content::extents;
use crate::os::beneath::Beneath;
use crate::os::{dir, storage};
use crate::progress::{Progress, Report};
use crate::repository::reader::Reader;
use crate::sqlite::place::Place;
use rayon::prelude::{IntoParallelRefIterator, ParallelIterator};
use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::{Mutex, PoisonError};

/// Bytes read at once where a hole should be.
const HOLE_STEP: u64 = 256 << 10;

/// Which entries' content should be right now: one bit for each entry, by group.
pub struct Marks {
    bits: Option<Mutex<Vec<Vec<u64>>>>,
}

impl Marks {
    pub fn new(wanted: bool) -> Self {
        Marks { bits: wanted.then(Mutex::default) }
    }

    pub fn set(&self, entry: &Entry, (group, number): (usize, usize)) {
        let Some(bits) = &self.bits else { return };
        if !entry.is_file() {
            return;
        }
        let mut bits = bits.lock().unwrap_or_else(PoisonError::into_inner);
        if bits.len() <= group {
            bits.resize_with(group + 1, Vec::new);
        }
        let words = &mut bits[group];
        if words.len() <= number / 64 {
            words.resize(number / 64 + 1, 0);
        }
        words[number / 64] |= 1 << (number % 64);
    }

    fn take(&self, group: usize) -> Vec<u64> {
        let Some(bits) = &self.bits else { return Vec::new() };
        let mut bits = bits.lock().unwrap_or_else(PoisonError::into_inner);
        bits.get_mut(group).map(std::mem::take).unwrap_or_default()
    }
}

pub fn verify(
    reader: &Reader,
    plan: &Plan,
    beneath: &Beneath,
    tally: &Tally<'_>,
    marks: &Marks,
) -> Result<()> {
    // What is only in memory cannot be dropped from there, and would be compared with itself.
    storage::sync_filesystem(beneath.root()).context(|| "cannot write out the target's filesystem")?;
    for number in plan.range.clone() {
        let words = marks.take(number);
        if words.is_empty() {
            continue;
        }
        let entries = plan.groups.read(reader, number)?;
        let marked = |i: usize| words.get(i / 64).is_some_and(|word| word >> (i % 64) & 1 == 1);
        let todo: Vec<&Entry> =
            entries.iter().enumerate().filter(|(i, _)| marked(*i)).map(|(_, entry)| entry).collect();
        todo.par_iter().try_for_each(|entry| {
            tally.progress.keep_going()?;
            tally.progress.set_current(&entry.path);
            match compare(reader, plan, beneath, tally, entry) {
                Ok(()) => add(&tally.files_verified, 1),
                Err(e) if is_fatal(&e) => return Err(e),
                Err(e) => {
                    add(&tally.verify_failed, 1);
                    tally.problem(&entry.path, "verify", &e);
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Compares every entry that is meant, be it marked or not.
pub fn everything(
    reader: &Reader,
    plan: &Plan,
    progress: &Progress,
    report: &dyn Report,
    database: &mut dyn FnMut(&[u8]),
) -> Result<Summary> {
    let tally = Tally::new(progress, report);
    let beneath = Beneath::open(&plan.target).context(|| format!("cannot open {}", plan.target.display()))?;
    for number in plan.range.clone() {
        let entries: Vec<Entry> =
            plan.groups.read(reader, number)?.into_iter().filter(|entry| plan.is_meant(entry)).collect();
        let found = entries.par_iter().map(|entry| {
            progress.keep_going()?;
            progress.set_current(&entry.path);
            match compare_one(reader, plan, &beneath, &tally, entry) {
                Ok(is_database) => {
                    add(&tally.files_verified, u64::from(entry.is_file()));
                    add(&tally.total_bytes, if entry.is_file() { entry.content.size } else { 0 });
                    Ok(is_database)
                }
                Err(e) if is_fatal(&e) => Err(e),
                Err(e) => {
                    add(&tally.verify_failed, 1);
                    tally.problem(&entry.path, "verify", &e);
                    Ok(false)
                }
            }
        });
        let found = found.collect::<Result<Vec<bool>>>()?;
        entries.iter().zip(found).filter(|(_, is)| *is).for_each(|(entry, _)| database(&entry.path));
    }
    Ok(tally.summary())
}

/// Whether it is a database; an error when it is not as stored.
fn compare_one(
    reader: &Reader,
    plan: &Plan,
    beneath: &Beneath,
    tally: &Tally<'_>,
    entry: &Entry,
) -> Result<bool> {
    let cannot = || "cannot find it again";
    match &entry.kind {
        Kind::File => {
            compare(reader, plan, beneath, tally, entry)?;
            let (dir, name) = beneath.parent(plan.relative(&entry.path), false).context(cannot)?;
            let name = CString::new(name).map_err(|_| Error::invalid("a name with a NUL"))?;
            Ok(matches!(Place::new(dir, &name).header(), Ok(Some(_))))
        }
        Kind::Directory => beneath.dir(plan.relative(&entry.path)).context(cannot).map(|_| false),
        Kind::Symlink(target) => {
            let (dir, name) = beneath.parent(plan.relative(&entry.path), false).context(cannot)?;
            let found = rustix::fs::readlinkat(&dir, name, Vec::new());
            match found.map_err(std::io::Error::from).context(cannot)?.as_bytes() == target.as_slice() {
                true => Ok(false),
                false => Err(Error::corrupt("is a link to something else")),
            }
        }
        // Who is not root cannot make them all, and they hold nothing.
        _ => Ok(false),
    }
}

fn compare(reader: &Reader, plan: &Plan, beneath: &Beneath, tally: &Tally<'_>, entry: &Entry) -> Result<()> {
    let cannot = || "cannot read it back";
    let (dir, name) = beneath.parent(plan.relative(&entry.path), false).context(cannot)?;
    let name = CString::new(name).map_err(|_| Error::invalid("a name with a NUL"))?;
    let mut file = dir::open_file(dir, &name).context(cannot)?;
    storage::forget_cached(&file);
    compare_open(reader, tally.progress, &mut file, &entry.content)
}

/// Reads a file from its start and compares it with what is stored.
pub fn compare_open(reader: &Reader, progress: &Progress, file: &mut File, content: &Content) -> Result<()> {
    let cannot = || "cannot read it back";
    if dir::status_of(&*file).context(cannot)?.size != content.size {
        return Err(Error::corrupt("has another size on the disk than in the snapshot"));
    }
    file.seek(SeekFrom::Start(0)).context(cannot)?;
    let mut at = 0u64;
    let mut buffer = Vec::new();
    for extent in extents(reader, content)? {
        let differs =
            |at: u64| Error::corrupt(format!("differs from the snapshot in the bytes from {at} on"));
        match extent {
            Extent::Chunk { id, len, repeat } => {
                for _ in 0..repeat {
                    progress.keep_going()?;
                    fill(file, &mut buffer, u64::from(len)).context(cannot)?;
                    if reader.keyring().chunk_id(ChunkSort::Content, &buffer) != id {
                        return Err(differs(at));
                    }
                    at += u64::from(len);
                }
            }
            Extent::Hole { len } => {
                let end = at.saturating_add(len);
                while at < end {
                    progress.keep_going()?;
                    fill(file, &mut buffer, (end - at).min(HOLE_STEP)).context(cannot)?;
                    if buffer.iter().any(|&b| b != 0) {
                        return Err(differs(at));
                    }
                    at += buffer.len() as u64;
                }
            }
        }
    }
    Ok(())
}

fn fill(file: &mut File, buffer: &mut Vec<u8>, len: u64) -> std::io::Result<()> {
    buffer.resize(len as usize, 0);
    file.read_exact(buffer)
}
