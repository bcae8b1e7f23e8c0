//! What repairs say.

pub mod packs;
pub mod snapshots;
