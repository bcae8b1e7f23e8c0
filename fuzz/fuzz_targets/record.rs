//! Snapshot, session and note records.
#![no_main]

use libfuzzer_sys::fuzz_target;
use snapkeep::format::snapshot::{Note, SessionInfo, Snapshot, decode, encode};

fuzz_target!(|data: &[u8]| {
    if let Ok(record) = decode::<Snapshot>(data, "fuzz") {
        assert_eq!(decode::<Snapshot>(&encode(&record), "fuzz").expect("our own bytes"), record);
    }
    if let Ok(record) = decode::<SessionInfo>(data, "fuzz") {
        assert_eq!(decode::<SessionInfo>(&encode(&record), "fuzz").expect("our own bytes"), record);
    }
    let _ = decode::<Note>(data, "fuzz");
});
