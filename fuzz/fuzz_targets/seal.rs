//! Sealed frames of any bytes are refused; sealed ones open.
#![no_main]

use libfuzzer_sys::fuzz_target;
use snapkeep::crypto::Keyring;
use snapkeep::format::config::Encryption;
use snapkeep::format::frame::FrameKind;
use snapkeep::id::Name;

fuzz_target!(|data: &[u8]| {
    for encryption in [Encryption::Aes256Gcm, Encryption::None] {
        let ring = Keyring::new(Name([1; 16]), encryption, &[2; 32]);
        assert!(ring.unseal(FrameKind::Data, data).is_err());
        let frame = ring.seal(FrameKind::Data, data, &[3; 16]).expect("seals");
        assert_eq!(ring.unseal(FrameKind::Data, &frame).expect("opens"), data);
    }
});
