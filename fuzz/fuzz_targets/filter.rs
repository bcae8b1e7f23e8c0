//! Exclude patterns of any text build or are refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use snapkeep::source::filter::{Filter, FilterOptions};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if text.len() > 200 {
        return;
    }
    let options = FilterOptions { excludes: vec![text.to_owned()], ..FilterOptions::default() };
    let _ = Filter::new(&options);
});
