//! The model every other backend must equal: a map in memory.

use super::{Backend, FileStat, Pending, SessionFile};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{FileName, Folder};
use crate::id::Name;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Files = Arc<Mutex<BTreeMap<FileName, Vec<u8>>>>;

/// Files in memory; clones share them.
#[derive(Clone, Default)]
pub struct MemoryBackend {
    files: Files,
}

fn lock(files: &Files) -> MutexGuard<'_, BTreeMap<FileName, Vec<u8>>> {
    files.lock().unwrap_or_else(PoisonError::into_inner)
}

fn missing(name: &FileName) -> Error {
    Error::new(ErrorKind::NotFound, format!("{name} is not in the repository"))
}

impl MemoryBackend {
    pub fn new() -> Self {
        MemoryBackend::default()
    }

    /// Everything stored, for tests that damage it.
    pub fn files(&self) -> BTreeMap<FileName, Vec<u8>> {
        lock(&self.files).clone()
    }

    /// Puts bytes in place without asking, for tests that damage them.
    pub fn overwrite(&self, name: FileName, bytes: Vec<u8>) {
        lock(&self.files).insert(name, bytes);
    }
}

impl Backend for MemoryBackend {
    fn create(&self, name: &FileName) -> Result<Box<dyn Pending>> {
        Ok(Box::new(MemoryFile { files: self.files.clone(), name: *name, bytes: Vec::new() }))
    }

    fn read(&self, name: &FileName, max: u64) -> Result<Vec<u8>> {
        let bytes = lock(&self.files).get(name).cloned().ok_or_else(|| missing(name))?;
        if bytes.len() as u64 > max {
            return Err(Error::corrupt(format!("{name} is larger than such a file can be")));
        }
        Ok(bytes)
    }

    fn read_range(&self, name: &FileName, offset: u64, len: usize) -> Result<Vec<u8>> {
        let files = lock(&self.files);
        let bytes = files.get(name).ok_or_else(|| missing(name))?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let range = start.checked_add(len).and_then(|end| bytes.get(start..end));
        range.map(<[u8]>::to_vec).ok_or_else(|| Error::corrupt(format!("{name} is cut short")))
    }

    fn list(&self, folder: Folder) -> Result<Vec<FileStat>> {
        let files = lock(&self.files);
        let listed = files.iter().filter(|(name, _)| name.folder() == folder);
        Ok(listed.map(|(name, bytes)| FileStat { name: *name, size: bytes.len() as u64 }).collect())
    }

    fn remove(&self, name: &FileName) -> Result<()> {
        lock(&self.files).remove(name);
        Ok(())
    }

    fn mend(&self, name: &FileName, bytes: &[u8]) -> Result<()> {
        lock(&self.files).insert(*name, bytes.to_vec());
        Ok(())
    }

    fn open_session(&self, session: Name, first: &[u8]) -> Result<Box<dyn SessionFile>> {
        let name = FileName::Session(session);
        super::write_new(self, &name, first)?;
        Ok(Box::new(MemorySession { files: self.files.clone(), session }))
    }

    fn evict(&self, session: Name) -> Result<()> {
        let mut files = lock(&self.files);
        let name = FileName::Session(session);
        let bytes = files.remove(&name).ok_or_else(|| missing(&name))?;
        files.insert(FileName::Evicted(session), bytes);
        Ok(())
    }

    fn session_alive(&self, _: Name) -> Option<bool> {
        None
    }

    fn sync_seen(&self) -> Result<()> {
        Ok(())
    }

    fn location(&self) -> String {
        "memory".to_owned()
    }
}

struct MemoryFile {
    files: Files,
    name: FileName,
    bytes: Vec<u8>,
}

impl Pending for MemoryFile {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn publish(self: Box<Self>) -> Result<()> {
        let mut files = lock(&self.files);
        if files.contains_key(&self.name) {
            return Err(Error::new(ErrorKind::AlreadyExists, format!("{} exists already", self.name)));
        }
        files.insert(self.name, self.bytes);
        Ok(())
    }
}

struct MemorySession {
    files: Files,
    session: Name,
}

impl SessionFile for MemorySession {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let name = FileName::Session(self.session);
        let mut files = lock(&self.files);
        files.get_mut(&name).ok_or_else(|| missing(&name))?.extend_from_slice(bytes);
        Ok(())
    }

    fn commit(self: Box<Self>) -> Result<()> {
        let name = FileName::Session(self.session);
        let mut files = lock(&self.files);
        let bytes = files.remove(&name).ok_or_else(|| missing(&name))?;
        files.insert(FileName::Snapshot(self.session), bytes);
        Ok(())
    }

    fn abandon(self: Box<Self>) -> Result<()> {
        lock(&self.files).remove(&FileName::Session(self.session));
        Ok(())
    }
}
