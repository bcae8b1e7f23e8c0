//! A backend that reads like the one behind it and writes nowhere: what a dry run stores into.

use super::{Backend, FileStat, Pending, SessionFile};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{FileName, Folder};
use crate::id::Name;
use std::sync::{Arc, Mutex, PoisonError};

/// Reads pass through; writes are accepted and forgotten.
pub struct DryBackend {
    behind: Arc<dyn Backend>,
    /// Sessions that were to be opened: a writer looks whether its own is still there.
    opened: Mutex<Vec<Name>>,
}

impl DryBackend {
    pub fn new(behind: Arc<dyn Backend>) -> Self {
        DryBackend { behind, opened: Mutex::default() }
    }
}

struct Nowhere;

fn refused() -> Error {
    Error::new(ErrorKind::Refused, "a dry run changes nothing")
}

impl Backend for DryBackend {
    fn create(&self, _: &FileName) -> Result<Box<dyn Pending>> {
        Ok(Box::new(Nowhere))
    }

    fn read(&self, name: &FileName, max: u64) -> Result<Vec<u8>> {
        self.behind.read(name, max)
    }

    fn read_range(&self, name: &FileName, offset: u64, len: usize) -> Result<Vec<u8>> {
        self.behind.read_range(name, offset, len)
    }

    fn list(&self, folder: Folder) -> Result<Vec<FileStat>> {
        let mut found = self.behind.list(folder)?;
        if folder == Folder::Sessions {
            let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
            found.extend(opened.iter().map(|&name| FileStat { name: FileName::Session(name), size: 0 }));
        }
        Ok(found)
    }

    fn remove(&self, _: &FileName) -> Result<()> {
        Err(refused())
    }

    fn mend(&self, _: &FileName, _: &[u8]) -> Result<()> {
        Err(refused())
    }

    fn open_session(&self, session: Name, _: &[u8]) -> Result<Box<dyn SessionFile>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).push(session);
        Ok(Box::new(Nowhere))
    }

    fn evict(&self, _: Name) -> Result<()> {
        Err(refused())
    }

    fn session_alive(&self, session: Name) -> Option<bool> {
        self.behind.session_alive(session)
    }

    fn sync_seen(&self) -> Result<()> {
        Ok(())
    }

    fn requests_are_slow(&self) -> bool {
        self.behind.requests_are_slow()
    }

    fn location(&self) -> String {
        self.behind.location()
    }
}

impl Pending for Nowhere {
    fn append(&mut self, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn publish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

impl SessionFile for Nowhere {
    fn append(&mut self, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn commit(self: Box<Self>) -> Result<()> {
        Err(refused())
    }

    fn abandon(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
