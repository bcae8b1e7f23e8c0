//! Plain bytes of chunks, held without copying them.

use std::ops::{Deref, Range};
use std::sync::Arc;

/// Plain bytes of one chunk, sharing its body's memory.
#[derive(Clone)]
pub struct Chunk {
    body: Arc<Vec<u8>>,
    range: Range<usize>,
}

impl Chunk {
    pub fn new(body: Arc<Vec<u8>>, range: Range<usize>) -> Self {
        Chunk { body, range }
    }
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
