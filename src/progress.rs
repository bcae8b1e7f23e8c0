//! What is happening, what went wrong, and whether the user has asked us to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Something the user should know about one item; the operation goes on.
#[derive(Clone, Debug)]
pub struct Problem {
    /// What it concerns: a path or a repository file, raw bytes of a path.
    pub item: Vec<u8>,
    /// What was being done: `read`, `scan`, `restore`, …
    pub during: &'static str,
    /// One line for people.
    pub message: String,
}

/// Receives problems as they happen; counters are read from outside at leisure.
pub trait Report: Send + Sync {
    /// An item could not be handled. It has been counted already.
    fn problem(&self, problem: &Problem);
    /// Something worth a line that costs nothing: a file labelled unverified, a retry.
    fn warning(&self, problem: &Problem);
}

/// Counters shared by the threads of one operation, plus the stop flag.
#[derive(Default)]
pub struct Progress {
    pub files_done: AtomicU64,
    pub files_total: AtomicU64,
    pub bytes_done: AtomicU64,
    pub bytes_total: AtomicU64,
    /// Whether the totals are final.
    pub totals_known: AtomicBool,
    pub errors: AtomicU64,
    /// The item being worked on.
    pub current: std::sync::Mutex<Vec<u8>>,
    stop: Arc<AtomicBool>,
}

impl Progress {
    pub fn new() -> Self {
        Progress::default()
    }

    pub fn add_file(&self, bytes: u64) {
        self.files_done.fetch_add(1, Ordering::Relaxed);
        self.bytes_done.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn add_bytes(&self, bytes: u64) {
        self.bytes_done.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn set_current(&self, item: &[u8]) {
        // Only for display: a busy lock means another thread's item is shown instead.
        if let Ok(mut current) = self.current.try_lock() {
            current.clear();
            current.extend_from_slice(item);
        }
    }

    /// Asks every thread to stop at the next safe point.
    pub fn cancel(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// What `cancel` sets, for those who can do no more than set a flag.
    pub fn stop_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    pub fn cancelled(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// An error once the user has asked to stop.
    pub fn keep_going(&self) -> crate::error::Result<()> {
        if self.cancelled() {
            return Err(crate::error::Error::new(crate::error::ErrorKind::Cancelled, "interrupted"));
        }
        Ok(())
    }
}

/// Keeps nothing and says nothing.
pub struct Silent;

impl Report for Silent {
    fn problem(&self, _: &Problem) {}
    fn warning(&self, _: &Problem) {}
}
