//! Putting right what can be put right without guessing. Repair adds and sets aside, it never deletes.

pub mod index;
mod journal;
pub mod packs;
pub mod salvage;
