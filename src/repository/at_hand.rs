//! Frames that a reader keeps at hand, within bounds.

use super::frames::Frame;
use crate::id::PackId;
use std::collections::HashMap;
use std::sync::Arc;

/// Pack and offset.
pub type FrameKey = (PackId, u32);

/// The frames, the bytes of all of them, and how often one was asked for.
#[derive(Default)]
pub struct Cache {
    pub frames: HashMap<FrameKey, Kept>,
    pub weight: usize,
    pub clock: u64,
}

/// A frame at hand.
pub struct Kept {
    pub frame: Arc<Frame>,
    /// When it was asked for last.
    pub used: u64,
    /// Its bytes and those of the bodies expanded so far: a frame of changed chunks stands for many plain bytes, of
    /// which few are ever asked for.
    pub weight: usize,
}

/// Drops the frames used least recently, never the one just added.
pub fn evict(cache: &mut Cache, max: usize, keep: FrameKey) {
    while cache.weight > max && cache.frames.len() > 1 {
        let oldest = cache.frames.iter().filter(|(key, _)| **key != keep).min_by_key(|(_, kept)| kept.used);
        let Some(key) = oldest.map(|(key, _)| *key) else { return };
        if let Some(kept) = cache.frames.remove(&key) {
            cache.weight -= kept.weight;
        }
    }
}
