//! Unsealed frames: tables and bodies of any bytes expand or fail, within bounds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use snapkeep::repository::frames::Frame;
use snapkeep::repository::reader::Past;

fuzz_target!(|data: &[u8]| {
    if let Ok(frame) = Frame::parse(data.to_vec()) {
        for number in 0..frame.table().bodies.len().min(8) {
            let _ = frame.expand(number, &mut |_, len| Ok(Past::Joined(vec![7; (len as usize).min(1 << 20)])));
        }
    }
});
