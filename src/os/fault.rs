//! Points at which a process kills itself. For tests alone: nothing happens unless `SNAPKEEP_KILL_IN` is set.
//!
//! The variable names a point and, after a colon, which of the times it is reached: `renamed`, `page-written:7`.

use rustix::process::{Signal, getpid, kill_process};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

const VARIABLE: &str = "SNAPKEEP_KILL_IN";

static PLAN: OnceLock<Option<(String, AtomicU64)>> = OnceLock::new();

fn plan() -> Option<(String, AtomicU64)> {
    let value = std::env::var(VARIABLE).ok()?;
    let (name, times) = value.split_once(':').unwrap_or((&value, "1"));
    Some((name.to_owned(), AtomicU64::new(times.parse().ok()?)))
}

/// The work has come to `point`.
pub fn reach(point: &str) {
    if let Some((name, left)) = PLAN.get_or_init(plan)
        && name == point
        && left.fetch_sub(1, Ordering::Relaxed) == 1
    {
        // Nothing is cleaned up and nobody is told, as in a crash.
        let _ = kill_process(getpid(), Signal::KILL);
    }
}
