//! Bounded reader and writer of the few primitive encodings: fixed little-endian numbers, varints, byte strings.
//!
//! Bytes: `format-spec/1-repository.md`, "Primitives".

use crate::error::{Error, Result};
use crate::id::{CHUNK_ID_LEN, ChunkId, NAME_LEN, Name};

/// Reads primitives from a byte string; every failure names the structure being read.
pub struct Reader<'a> {
    bytes: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Reader { bytes, what }
    }

    pub fn fail(&self, why: &str) -> Error {
        Error::corrupt(format!("{}: {why}", self.what))
    }

    pub fn remaining(&self) -> usize {
        self.bytes.len()
    }

    pub fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        if n > self.bytes.len() {
            return Err(self.fail("ends too early"));
        }
        let (head, tail) = self.bytes.split_at(n);
        self.bytes = tail;
        Ok(head)
    }

    pub fn u8(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    pub fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub fn bytes32(&mut self) -> Result<[u8; 32]> {
        self.array()
    }

    pub fn chunk_id(&mut self) -> Result<ChunkId> {
        Ok(ChunkId(self.array::<CHUNK_ID_LEN>()?))
    }

    pub fn name(&mut self) -> Result<Name> {
        Ok(Name(self.array::<NAME_LEN>()?))
    }

    /// LEB128, at most ten bytes, shortest form only.
    #[inline]
    pub fn varint(&mut self) -> Result<u64> {
        if let [byte @ 0..=127, rest @ ..] = self.bytes {
            self.bytes = rest;
            return Ok(u64::from(*byte));
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = self.u8()?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                return Err(self.fail("a number is too large"));
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                if byte == 0 && shift > 0 {
                    return Err(self.fail("a number is not in its shortest form"));
                }
                return Ok(value);
            }
        }
        Err(self.fail("a number is too long"))
    }

    /// A varint that counts things which each take at least `each` bytes of what follows.
    pub fn count(&mut self, each: usize) -> Result<usize> {
        let n = self.varint()?;
        if each > 0 && n > (self.remaining() / each) as u64 {
            return Err(self.fail("a count is larger than what follows"));
        }
        usize::try_from(n).map_err(|_| self.fail("a count is too large"))
    }

    /// A varint of at most `max`.
    pub fn bounded(&mut self, max: u64) -> Result<u64> {
        let n = self.varint()?;
        if n > max {
            return Err(self.fail("a number exceeds its limit"));
        }
        Ok(n)
    }

    /// Zigzag: 0, -1, 1, -2, … as 0, 1, 2, 3, …
    pub fn signed(&mut self) -> Result<i64> {
        let n = self.varint()?;
        Ok((n >> 1) as i64 ^ -((n & 1) as i64))
    }

    /// A varint length of at most `max`, then that many bytes.
    pub fn string(&mut self, max: usize) -> Result<&'a [u8]> {
        let n = self.bounded(max as u64)?;
        self.take(n as usize)
    }

    /// Nothing may follow.
    pub fn end(&self) -> Result<()> {
        if self.bytes.is_empty() { Ok(()) } else { Err(self.fail("has bytes after its end")) }
    }
}

pub fn put_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

pub fn put_signed(out: &mut Vec<u8>, n: i64) {
    put_varint(out, ((n << 1) ^ (n >> 63)) as u64);
}

pub fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_round_trip_and_only_the_shortest_form_is_read() {
        for n in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, n);
            let mut r = Reader::new(&out, "test");
            assert_eq!(r.varint().expect("valid"), n);
            r.end().expect("all read");
        }
        for n in [0, 1, -1, i64::MIN, i64::MAX] {
            let mut out = Vec::new();
            put_signed(&mut out, n);
            assert_eq!(Reader::new(&out, "test").signed().expect("valid"), n);
        }
        assert!(Reader::new(&[0x80, 0x00], "test").varint().is_err());
        assert!(Reader::new(&[0xff; 10], "test").varint().is_err());
        assert!(Reader::new(&[0xff; 3], "test").varint().is_err());
    }
}
