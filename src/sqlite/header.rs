//! The first hundred bytes of a database.

/// Begins every database that is not encrypted.
pub const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Begins a rollback journal that is still needed.
pub const JOURNAL_MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];

/// Bytes of the header.
pub const LEN: usize = 100;

/// SQLite keeps its locks in the bytes from here on; the page that holds them is never used for anything else.
const LOCK_BYTE: u64 = 1 << 30;

/// What the header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// 512 to 65,536, a power of two.
    pub page_size: u32,
    /// Whoever opens it uses a write-ahead log.
    pub wal: bool,
    pages: u32,
    /// Whether `pages` was written by a version that keeps it.
    pages_valid: bool,
}

impl Header {
    /// `None` if this is no database that SQLite would open.
    pub fn parse(bytes: &[u8]) -> Option<Header> {
        if bytes.len() < LEN || !bytes.starts_with(MAGIC) {
            return None;
        }
        let page_size = match u16::from_be_bytes([bytes[16], bytes[17]]) {
            1 => 65_536,
            n => u32::from(n),
        };
        let sane = page_size.is_power_of_two() && (512..=65_536).contains(&page_size);
        // SQLite needs 480 usable bytes, and reads files of versions that it can only read not at all.
        let usable = page_size.saturating_sub(u32::from(bytes[20]));
        if !sane || usable < 480 || !(1..=2).contains(&bytes[19]) {
            return None;
        }
        let pages = u32::from_be_bytes([bytes[28], bytes[29], bytes[30], bytes[31]]);
        let pages_valid = pages > 0 && bytes[24..28] == bytes[92..96];
        Some(Header { page_size, wal: bytes[19] == 2, pages, pages_valid })
    }

    /// How many pages a main file of this length has, by SQLite's rule; `None` when it is shorter than it says.
    pub fn pages(&self, file_len: u64) -> Option<u32> {
        let there = u32::try_from(file_len.div_ceil(u64::from(self.page_size))).ok()?;
        match self.pages_valid {
            true => (self.pages <= there).then_some(self.pages),
            false => Some(there),
        }
    }
}

/// The page (the first is 1) that holds SQLite's lock bytes, whether or not a database is that large.
pub fn lock_page(page_size: u32) -> u32 {
    (LOCK_BYTE / u64::from(page_size)) as u32 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_sqlite_accepts() {
        let mut bytes = [0u8; LEN];
        bytes[..16].copy_from_slice(MAGIC);
        bytes[18..20].copy_from_slice(&[1, 1]);
        let mut with = |size: u16, reserved: u8| {
            bytes[16..18].copy_from_slice(&size.to_be_bytes());
            bytes[20] = reserved;
            Header::parse(&bytes).map(|h| h.page_size)
        };
        assert_eq!([with(512, 32), with(1, 0), with(4096, 255)], [Some(512), Some(65_536), Some(4096)]);
        assert_eq!([with(512, 33), with(256, 0), with(4095, 0), with(0, 0)], [None; 4]);
        assert_eq!(Header::parse(&bytes[..99]), None);
        assert_eq!([lock_page(4096), lock_page(65_536)], [262_145, 16_385]);
    }
}
