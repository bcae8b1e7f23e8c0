//! Manifest roots: what decodes encodes to the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use snapkeep::format::root::Root;

fuzz_target!(|data: &[u8]| {
    if let Ok(root) = Root::decode(data) {
        assert_eq!(root.encode(), data);
    }
});
