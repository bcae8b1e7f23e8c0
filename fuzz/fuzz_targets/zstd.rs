//! Compressed streams, with and without a history.
#![no_main]

use libfuzzer_sys::fuzz_target;
use snapkeep::compress::{Decompressor, Search, compress_with_prefix, decompress_with_prefix};

fuzz_target!(|data: &[u8]| {
    if let Ok(mut decompressor) = Decompressor::new() {
        let _ = decompressor.decompress(data, 1 << 16);
    }
    let (prefix, rest) = data.split_at(data.len() / 2);
    let _ = decompress_with_prefix(rest, prefix, 1 << 16);
    let mut out = Vec::new();
    compress_with_prefix(rest, prefix, Search::Quick, &mut out).expect("compresses");
    assert_eq!(decompress_with_prefix(&out, prefix, rest.len()).expect("expands"), rest);
});
