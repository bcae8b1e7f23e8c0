//! Putting right what can be put right without guessing.

pub mod index;
