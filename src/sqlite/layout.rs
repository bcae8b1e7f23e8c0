//! What two states of a database must have in common, and what of a state is no content.

use super::header;

/// What all connections to a database take for granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub page_size: u32,
    reserved: u8,
    auto_vacuum: bool,
    incremental: bool,
    encoding: u32,
}

impl Layout {
    /// From a database's first bytes.
    pub fn of(start: &[u8]) -> Option<Layout> {
        let page_size = header::Header::parse(start)?.page_size;
        let number = |at: usize| u32::from_be_bytes([start[at], start[at + 1], start[at + 2], start[at + 3]]);
        Some(Layout {
            page_size,
            reserved: start[20],
            auto_vacuum: number(52) != 0,
            incremental: number(64) != 0,
            encoding: number(56),
        })
    }

    /// What differs, in the user's words.
    pub fn unlike(&self, other: &Layout) -> &'static str {
        if self.page_size != other.page_size {
            "has another page size"
        } else if self.reserved != other.reserved {
            "reserves another number of bytes on each page"
        } else if self.encoding != other.encoding {
            "has another text encoding"
        } else {
            "has another auto_vacuum mode"
        }
    }
}

/// Bytes of the first page that say nothing about the content: the journal mode of those who use it, counters of changes, and
/// the version of SQLite that wrote last.
pub const PASSING: [std::ops::Range<usize>; 4] = [18..20, 24..28, 40..44, 92..100];

/// Whether two pieces are the same as content of a database; `at` is where both begin in it.
pub fn same_content(at: u64, a: &[u8], b: &[u8]) -> bool {
    if at >= header::LEN as u64 || a.len() != b.len() {
        return a == b;
    }
    a.iter().zip(b).enumerate().all(|(i, (x, y))| x == y || is_passing(at as usize + i))
}

fn is_passing(at: usize) -> bool {
    PASSING.iter().any(|range| range.contains(&at))
}
