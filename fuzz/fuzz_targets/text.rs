//! What people type: sizes, spans, times, levels, and how names are shown.
#![no_main]

use libfuzzer_sys::fuzz_target;
use snapkeep::clock::Timestamp;
use snapkeep::compress::Level;
use snapkeep::units;

fuzz_target!(|data: &[u8]| {
    let _ = snapkeep::repository::snapshots::encode_path(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = units::parse_bytes(text);
    let _ = units::parse_duration(text);
    let _ = Level::parse(text);
    if let Ok(t) = Timestamp::parse(text, Timestamp { secs: 1_700_000_000, nanos: 0 }) {
        let _ = (t.rfc3339(), t.local());
    }
});
