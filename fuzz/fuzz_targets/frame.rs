//! Frame headers and tables: what decodes encodes to the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use snapkeep::format::codec::Reader;
use snapkeep::format::frame::{FrameTable, decode_frame_header};

fuzz_target!(|data: &[u8]| {
    let _ = decode_frame_header(data);
    let mut r = Reader::new(data, "fuzz");
    if let Ok(table) = FrameTable::decode(&mut r) {
        let mut out = Vec::new();
        table.encode(&mut out);
        assert_eq!(out, data[..data.len() - r.remaining()]);
    }
});
