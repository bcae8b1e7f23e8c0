//! Clocks that jump: no time that a machine may show keeps a backup from being made, found and read again, or changes
//! which snapshot is the newest of its series.

use crate::backup::{assert_snapshot_is, new_repository, options, source};
use crate::counters::{note, size};
use crate::yard::seed;
use snapkeep::backend::memory::MemoryBackend;
use snapkeep::backup;
use snapkeep::clock::{FixedClock, Timestamp};
use snapkeep::progress::{Progress, Silent};
use snapkeep::repository::snapshots;
use std::sync::Arc;

const YEAR: i64 = 31_557_600;

#[test]
fn the_newest_stays_the_newest_whatever_clocks_say() {
    let mut random = seed("clocks", 13);
    let dir = tempfile::tempdir().expect("a directory");
    let repository = new_repository(Arc::new(MemoryBackend::new()), None);
    // The first and the last that RFC 3339 can say, both ends of 32 bits, 1970, leap seconds, changes of the hour.
    let moments = [
        -62_135_596_800,
        253_402_300_799,
        i64::from(i32::MIN),
        i64::from(i32::MAX),
        i64::from(u32::MAX),
        -1,
        0,
        1,
        -YEAR,
        915_148_799,
        1_483_228_800,
        1_711_846_800,
        1_729_994_400,
        4_102_444_800,
    ];
    let (mut now, mut made) = (1_700_000_000, Vec::new());
    let jumps = size(150, 5_000);
    for jump in 0..jumps {
        now = match random.below(6) {
            0 => now,
            1 => moments[random.below(moments.len())],
            2 => now.saturating_sub(random.below(50) as i64 * YEAR),
            3 => now.saturating_add(random.below(50) as i64 * YEAR),
            4 => now - random.below(7200) as i64,
            _ => now + random.below(86_400) as i64,
        }
        .clamp(moments[0], moments[1]);
        std::fs::write(dir.path().join("file"), format!("jump {jump}")).expect("written");
        let clock = FixedClock(Timestamp { secs: now, nanos: random.below(1_000_000_000) as u32 });
        let done =
            backup::run(&repository, &source(dir.path()), &options(), &clock, &Progress::new(), &Silent);
        let id = done.unwrap_or_else(|e| panic!("at {now}: {e}")).snapshot.expect("committed");
        made.push(id);
        let listing = snapshots::list(&repository).expect("listed");
        assert!(listing.damaged.is_empty(), "at {now}: {:?}", listing.damaged);
        assert_eq!(
            listing.snapshots.last().map(|l| l.id),
            Some(id),
            "at {now} the newest is not the last made"
        );
        assert_snapshot_is(&repository, id, dir.path());
    }
    let listing = snapshots::list(&repository).expect("listed");
    let order: Vec<_> = listing.snapshots.iter().map(|l| l.id).collect();
    assert_eq!(order, made, "in the order in which they were made");
    let sequences: Vec<u64> = listing.snapshots.iter().map(|l| l.record.sequence).collect();
    assert!(sequences.windows(2).all(|w| w[0] < w[1]), "{sequences:?}");
    note("T12 backups at clocks that jumped", jumps as u64, 0);
}
