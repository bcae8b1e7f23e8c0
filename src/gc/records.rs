//! A file of records in the local cache, each authenticated with the repository's key: what was damaged, what another
//! repository or another key wrote, and what stands behind a place that cannot be read is as if it were not there.

use crate::crypto::Keyring;
use crate::repository::{Repository, random};
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, Write};
use std::path::PathBuf;

const MAC_LEN: usize = 32;
/// No record is longer: a longer one states a damaged length.
const RECORD_MAX: u64 = 1 << 28;
/// Records read at once, and about so many bytes of them.
const BATCH: usize = 4096;
const BATCH_BYTES: usize = 8 << 20;

/// A kind of records and where they lie.
pub struct Kind {
    /// Bound into every record's authentication.
    pub purpose: &'static [u8; 8],
    pub file: &'static str,
}

impl Kind {
    fn place(&self, repository: &Repository) -> Option<PathBuf> {
        repository.collected_dir().map(|dir| dir.join(self.file))
    }

    /// A record's body, if it is as it was written.
    pub fn verified<'r>(&self, keyring: &Keyring, record: &'r [u8]) -> Option<&'r [u8]> {
        let (body, mac) = record.split_at_checked(record.len().checked_sub(MAC_LEN)?)?;
        (keyring.cache_mac(self.purpose, &[body])[..] == *mac).then_some(body)
    }
}

/// A file that is there, read from its beginning to its end. Others may replace it meanwhile.
pub struct Source(BufReader<File>);

impl Source {
    pub fn open(repository: &Repository, kind: &Kind) -> Option<Self> {
        let file = File::open(kind.place(repository)?).ok()?;
        Some(Source(BufReader::with_capacity(1 << 20, file)))
    }

    /// The next records, not verified yet; none at the end and where the file cannot be read on.
    pub fn batch(&mut self) -> Vec<Vec<u8>> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while batch.len() < BATCH && bytes < BATCH_BYTES {
            let Some(record) = self.record() else { break };
            bytes += record.len();
            batch.push(record);
        }
        batch
    }

    fn record(&mut self) -> Option<Vec<u8>> {
        let mut len = [0; 4];
        self.0.read_exact(&mut len).ok()?;
        let len = u64::from(u32::from_le_bytes(len));
        let mut record = Vec::new();
        let read = self.0.by_ref().take(len.min(RECORD_MAX)).read_to_end(&mut record).ok()?;
        (read as u64 == len).then_some(record)
    }

    /// From the beginning again.
    pub fn rewind(&mut self) -> bool {
        self.0.rewind().is_ok()
    }
}

/// A file that is written aside and takes the place of the one there is when it is complete, however many do so at a
/// time.
pub struct Sink<'r> {
    keyring: &'r Keyring,
    kind: &'r Kind,
    aside: PathBuf,
    place: PathBuf,
    out: Option<BufWriter<File>>,
}

impl<'r> Sink<'r> {
    pub fn create(repository: &'r Repository, kind: &'r Kind) -> Option<Self> {
        let place = kind.place(repository)?;
        // Beside the files of the index, among which what a killed run left is cleared away.
        let dir: PathBuf = repository.cache_dir()?;
        std::fs::create_dir_all(&dir).ok()?;
        std::fs::create_dir_all(place.parent()?).ok()?;
        let aside = dir.join(format!("{}.building", random::name().ok()?));
        let out = File::create_new(&aside).ok().map(BufWriter::new);
        Some(Sink { keyring: repository.keyring(), kind, aside, place, out })
    }

    /// Appends a record. After a failure the file comes to nothing.
    pub fn put(&mut self, body: &[u8]) {
        let Some(out) = &mut self.out else { return };
        let Ok(len) = u32::try_from(body.len() + MAC_LEN) else { return };
        let mac = self.keyring.cache_mac(self.kind.purpose, &[body]);
        let parts: [&[u8]; 3] = [&len.to_le_bytes(), body, &mac];
        if parts.into_iter().any(|part| out.write_all(part).is_err()) {
            self.out = None;
        }
    }

    /// Takes its place. Not synced: what a crash spoils does not verify.
    pub fn finish(mut self) {
        if self.out.take().is_some_and(|out| out.into_inner().is_ok()) {
            let _ = std::fs::rename(&self.aside, &self.place);
        }
    }
}

impl Drop for Sink<'_> {
    fn drop(&mut self) {
        // There only when something failed.
        let _ = std::fs::remove_file(&self.aside);
    }
}
