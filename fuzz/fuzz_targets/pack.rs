//! Footers and trailers: what decodes encodes to the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use snapkeep::format::pack::{Footer, Trailer};

fuzz_target!(|data: &[u8]| {
    if let Ok(footer) = Footer::decode(data) {
        assert_eq!(footer.encode(), data);
    }
    if let Ok(trailer) = Trailer::decode(data, 1 << 20) {
        assert_eq!(trailer.encode().as_slice(), data);
    }
});
