//! Headers, plain records, config and key slots: any bytes give a value or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use snapkeep::format::config::{Config, decode_plain_record};
use snapkeep::format::key::KeySlots;
use snapkeep::format::{FileName, decode_header};

fuzz_target!(|data: &[u8]| {
    for name in [FileName::Config(1), FileName::Keys(1)] {
        let _ = decode_header(data, &name, None);
        if let Ok(record) = decode_plain_record(data, &name) {
            let _ = Config::decode(record.body);
            let _ = KeySlots::decode(record.body);
        }
    }
    if let Ok(config) = Config::decode(data) {
        assert_eq!(Config::decode(&config.encode()).expect("our own bytes"), config);
    }
    if let Ok(slots) = KeySlots::decode(data) {
        assert_eq!(KeySlots::decode(&slots.encode()).expect("our own bytes"), slots);
    }
});
