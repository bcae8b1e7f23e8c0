//! Cuts: in bounds, complete, and the same by the vector scan as by the crate.
#![no_main]

use libfuzzer_sys::fuzz_target;
use snapkeep::chunker::{ChunkClass, Chunker, Gear};

fuzz_target!(|data: &[u8]| {
    let class = ChunkClass { min: 64, avg: 1024, max: 4096 };
    let mut random = [0u8; 768];
    for (i, b) in random.iter_mut().enumerate() {
        *b = (i as u32).wrapping_mul(2_654_435_761).to_le_bytes()[2];
    }
    let chunker = Chunker::new(&Gear::new(&random), class);
    // Long enough for the vector part whatever the fuzzer gives.
    let data: Vec<u8> = data.iter().copied().cycle().take(data.len() * 16).collect();
    let mut rest = data.as_slice();
    while !rest.is_empty() {
        let cut = chunker.cut(rest);
        assert!(cut > 0 && cut <= rest.len() && cut <= 4096);
        assert!(cut >= 64 || cut == rest.len());
        rest = &rest[cut..];
    }
});
