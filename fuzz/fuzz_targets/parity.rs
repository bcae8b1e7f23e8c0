//! Parity tables and whole sidecars: what decodes encodes to the same bytes, and nothing that is left of a sidecar
//! makes a pack of another content.
#![no_main]

use libfuzzer_sys::fuzz_target;
use snapkeep::crypto::Keyring;
use snapkeep::error::Error;
use snapkeep::format::config::Encryption;
use snapkeep::format::parity::{Geometry, ParityTable};
use snapkeep::id::Name;
use snapkeep::repository::parity::{Mended, build, open};

fuzz_target!(|data: &[u8]| {
    if let Ok(table) = ParityTable::decode(data) {
        assert_eq!(table.encode(), data);
    }
    let (ring, name) = (Keyring::new(Name([3; 16]), Encryption::None, &[5; 32]), Name([7; 16]));
    let _ = open(&ring, name, data).map(|sidecar| sidecar.mend(&mut |_, _| Err(Error::corrupt("gone"))));
    // The input as a list of places to damage, first in the pack, then in its sidecar.
    let pack: Vec<u8> = (0..1000u32).map(|i| (i * i) as u8).collect();
    let geometry = Geometry { pack_len: 1000, shard: 64, data: 16, parity: 3 };
    let Ok(mut sidecar) = build(&ring, name, geometry, &mut |at, len| Ok(pack[at as usize..][..len].to_vec()))
    else {
        return;
    };
    let mut hurt = pack.clone();
    for place in data.chunks_exact(3).take(64) {
        let (at, value) = (usize::from(place[0]) << 8 | usize::from(place[1]), place[2]);
        match at < hurt.len() {
            true => hurt[at] ^= value,
            false => {
                let at = (at - hurt.len()) % sidecar.len();
                sidecar[at] ^= value;
            }
        }
    }
    if let Ok(sidecar) = open(&ring, name, &sidecar)
        && let Ok(Mended::Whole { bytes, .. }) = sidecar.mend(&mut |at, len| Ok(hurt[at as usize..][..len].to_vec()))
    {
        assert_eq!(bytes, pack);
    }
});
