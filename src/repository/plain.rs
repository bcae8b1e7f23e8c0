//! Plain bytes on loan: a chunk's, and those of the bases of a history.

use std::ops::{Deref, Range};
use std::sync::Arc;

/// Plain bytes of one chunk, sharing its body's memory.
#[derive(Clone)]
pub struct Chunk {
    pub(super) body: Arc<Vec<u8>>,
    pub(super) range: Range<usize>,
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.body[self.range.clone()]
    }
}

/// The plain bytes of bases, one after another; those of a single one are not copied.
pub enum Past {
    One(Chunk),
    Joined(Vec<u8>),
}

impl Deref for Past {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Past::One(chunk) => chunk,
            Past::Joined(bytes) => bytes,
        }
    }
}
