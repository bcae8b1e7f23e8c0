//! Manifest groups, stat columns, content lists.
#![no_main]

use libfuzzer_sys::fuzz_target;
use snapkeep::format::extents::{decode_list, encode_list};
use snapkeep::format::group::{GroupEncoder, decode_group, decode_stats, encode_stats};

fuzz_target!(|data: &[u8]| {
    if let Ok(entries) = decode_group(data) {
        let mut encoder = GroupEncoder::default();
        for entry in &entries {
            encoder.push(entry);
        }
        // Not always the same bytes (a table may hold what nobody uses), but always the same entries.
        assert_eq!(decode_group(&encoder.finish()).expect("our own bytes"), entries);
        if let Ok(stats) = decode_stats(&data[data.len() / 2..], &entries) {
            assert_eq!(decode_stats(&encode_stats(&entries, &stats), &entries).expect("our own bytes"), stats);
        }
    }
    if let Ok(extents) = decode_list(data) {
        assert_eq!(encode_list(&extents), data);
    }
});
