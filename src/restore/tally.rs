//! Counting and telling, shared by all threads of one restore.

use super::Summary;
use crate::error::{Error, ErrorKind};
use crate::format::entry::Entry;
use crate::progress::{Problem, Progress, Report};
use std::sync::atomic::{AtomicU64, Ordering};

/// What has happened so far.
pub struct Tally<'a> {
    pub progress: &'a Progress,
    report: &'a dyn Report,
    pub files_restored: AtomicU64,
    pub files_skipped: AtomicU64,
    pub files_deleted: AtomicU64,
    pub files_failed: AtomicU64,
    pub files_salvaged: AtomicU64,
    pub dirs_restored: AtomicU64,
    pub others_restored: AtomicU64,
    pub bytes_restored: AtomicU64,
    pub bytes_skipped: AtomicU64,
    pub total_files: AtomicU64,
    pub total_bytes: AtomicU64,
    pub databases_exchanged: AtomicU64,
    pub files_verified: AtomicU64,
    pub verify_failed: AtomicU64,
    problems: AtomicU64,
    damaged: AtomicU64,
}

pub fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

/// Whether an error ends the whole restore rather than one entry.
pub fn is_fatal(e: &Error) -> bool {
    e.is_disk_full() || e.kind() == ErrorKind::Cancelled
}

impl<'a> Tally<'a> {
    pub fn new(progress: &'a Progress, report: &'a dyn Report) -> Self {
        Tally {
            progress,
            report,
            files_restored: AtomicU64::new(0),
            files_skipped: AtomicU64::new(0),
            files_deleted: AtomicU64::new(0),
            files_failed: AtomicU64::new(0),
            files_salvaged: AtomicU64::new(0),
            dirs_restored: AtomicU64::new(0),
            others_restored: AtomicU64::new(0),
            bytes_restored: AtomicU64::new(0),
            bytes_skipped: AtomicU64::new(0),
            total_files: AtomicU64::new(0),
            total_bytes: AtomicU64::new(0),
            databases_exchanged: AtomicU64::new(0),
            files_verified: AtomicU64::new(0),
            verify_failed: AtomicU64::new(0),
            problems: AtomicU64::new(0),
            damaged: AtomicU64::new(0),
        }
    }

    pub fn problem(&self, path: &[u8], during: &'static str, e: &Error) {
        add(&self.problems, 1);
        // What was found wrong on the disk is counted as that.
        add(&self.damaged, u64::from(e.kind() == ErrorKind::Corrupt && during != "verify"));
        add(&self.progress.errors, 1);
        self.report.problem(&Problem { item: path.to_vec(), during, message: e.message().to_owned() });
    }

    pub fn warning(&self, path: &[u8], message: impl Into<String>) {
        self.report.warning(&Problem { item: path.to_vec(), during: "restore", message: message.into() });
    }

    /// An entry that is meant; directories are counted where they end.
    pub fn meant(&self, entry: &Entry) {
        if entry.is_file() {
            add(&self.total_files, 1);
            add(&self.total_bytes, entry.content.size);
        }
    }

    /// An entry that stays as it stands in the target.
    pub fn skipped(&self, entry: &Entry) {
        if entry.is_file() {
            add(&self.files_skipped, 1);
            add(&self.bytes_skipped, entry.content.size);
        }
        self.progress.add_file(entry.content.size);
    }

    /// A file that is ready to get its name.
    pub fn count_staged(&self, entry: &Entry) {
        add(&self.files_verified, 1);
        add(&self.bytes_restored, entry.content.size);
        self.progress.add_file(0);
    }

    /// An entry that could not be restored.
    pub fn failed(&self, entry: &Entry) {
        add(&self.files_failed, u64::from(!entry.is_dir()));
        self.progress.add_file(0);
    }

    pub fn summary(&self) -> Summary {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Summary {
            files_restored: get(&self.files_restored),
            files_skipped: get(&self.files_skipped),
            files_deleted: get(&self.files_deleted),
            files_failed: get(&self.files_failed),
            files_salvaged: get(&self.files_salvaged),
            dirs_restored: get(&self.dirs_restored),
            others_restored: get(&self.others_restored),
            bytes_restored: get(&self.bytes_restored),
            bytes_skipped: get(&self.bytes_skipped),
            total_files: get(&self.total_files),
            total_bytes: get(&self.total_bytes),
            databases_exchanged: get(&self.databases_exchanged),
            files_verified: get(&self.files_verified),
            verify_failed: get(&self.verify_failed),
            problems: get(&self.problems),
            damaged: get(&self.damaged),
        }
    }
}
