//! Index segments, as lists and as whole files: what decodes encodes to the same bytes and keeps every limit.
#![no_main]

use libfuzzer_sys::fuzz_target;
use snapkeep::crypto::Keyring;
use snapkeep::format::config::Encryption;
use snapkeep::format::segment::{SEGMENT_BASE, Segment};
use snapkeep::format::{FileName, limit};
use snapkeep::id::Name;
use snapkeep::repository::segment::judge;

fuzz_target!(|data: &[u8]| {
    if let Ok(segment) = Segment::decode(data) {
        assert_eq!(segment.encode(), data);
        assert!(!segment.packs.is_empty());
        assert!(segment.packs.is_sorted_by(|a, b| a.pack < b.pack));
        assert!(segment.packs.iter().all(|entry| entry.pack_size() <= limit::PACK_BYTES_MAX));
        let entries: usize = segment.packs.iter().map(|entry| entry.encoded_len()).sum();
        assert!(SEGMENT_BASE + 16 * segment.supersedes.len() + entries >= data.len());
    }
    let ring = Keyring::new(Name([3; 16]), Encryption::None, &[5; 32]);
    let _ = judge(data, &FileName::Index(Name([7; 16])), &ring);
});
