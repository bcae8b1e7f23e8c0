//! Pages of a broken database, read without trusting anything in them: cells, chains of pages, records, values.
//!
//! A record counts only if its header and its values make up exactly its length: what is no record hardly ever does. SQLite
//! keeps no checksums, so a value in a page that can be read may still be another one than was written.

use super::super::dump::Encoding;
use super::super::header::LEN;
use super::super::image::Bytes;
use super::super::query::Value;
use super::super::tree::{PageSet, varint};
use crate::error::{ErrorKind, Result};

pub const INNER_INDEX: u8 = 2;
pub const INNER_TABLE: u8 = 5;
pub const LEAF_INDEX: u8 = 10;
pub const LEAF_TABLE: u8 = 13;

/// The pages of a broken database.
pub struct Raw {
    bytes: Box<dyn Bytes>,
    pub size: usize,
    /// Bytes of a page that SQLite uses.
    pub usable: usize,
    pub count: u32,
    pub encoding: Encoding,
    /// Pages that the disk does not give.
    pub unread: u64,
    /// Pages that have been understood as part of something.
    pub known: PageSet,
    /// Those among them that the cells read last go on in.
    latest: Vec<u32>,
    /// The content read last goes on in a page of zeros, and so do so many rows that count all the same.
    zeros: bool,
    pub doubtful: u64,
}

/// A row, or an entry of an index, as it stands in a page.
pub struct Cell {
    /// The number of the row, in leaves of tables.
    pub number: Option<i64>,
    /// `None` when a part of it is lost.
    pub values: Option<Vec<Value>>,
}

impl Raw {
    pub fn new(mut bytes: Box<dyn Bytes>, size: u32) -> Result<Self> {
        let mut header = [0; LEN];
        if bytes.len() >= LEN as u64 {
            bytes.read_at(0, &mut header)?;
        }
        let whole = header.starts_with(super::super::MAGIC);
        let reserved =
            if whole && size as usize - usize::from(header[20]) >= 480 { usize::from(header[20]) } else { 0 };
        let encoding = match (whole, header[59]) {
            (true, 2) => Encoding::Utf16Little,
            (true, 3) => Encoding::Utf16Big,
            _ => Encoding::Utf8,
        };
        let count = u32::try_from(bytes.len().div_ceil(u64::from(size))).unwrap_or(u32::MAX);
        let (size, known) = (size as usize, PageSet::new(count));
        Ok(Raw {
            bytes,
            size,
            usable: size - reserved,
            count,
            encoding,
            unread: 0,
            known,
            latest: Vec::new(),
            zeros: false,
            doubtful: 0,
        })
    }

    /// One page; empty where the disk does not give it, or there is none.
    pub fn page(&mut self, number: u32) -> Result<Vec<u8>> {
        let mut page = vec![0; self.size];
        if number == 0 || number > self.count {
            return Ok(page);
        }
        let at = u64::from(number - 1) * self.size as u64;
        let there = (self.bytes.len() - at).min(self.size as u64) as usize;
        match self.bytes.read_at(at, &mut page[..there]) {
            Err(e) if e.kind() == ErrorKind::Io => {
                self.unread += 1;
                page.fill(0);
            }
            other => other?,
        }
        Ok(page)
    }

    /// A number of the file's header.
    pub fn header_number(&mut self, at: usize) -> Result<u32> {
        let page = self.page(1)?;
        Ok(word(&page, at).filter(|_| page.starts_with(super::super::MAGIC)).unwrap_or(0))
    }

    /// All cells of a page that make sense, and how many do not.
    pub fn cells(&mut self, page: &[u8], number: u32) -> Result<(Vec<Cell>, u64)> {
        let (mut cells, mut damaged) = (Vec::new(), 0);
        self.latest.clear();
        let kind = kind(page, number);
        for at in pointers(page, number, self.usable) {
            match at.map(|at| self.cell(page, at, kind)).transpose()?.flatten() {
                Some(cell) => cells.push(cell),
                None => damaged += 1,
            }
        }
        Ok((cells, damaged))
    }

    fn cell(&mut self, page: &[u8], at: usize, kind: u8) -> Result<Option<Cell>> {
        let at = if kind == INNER_INDEX { at + 4 } else { at };
        let Some((len, rest)) = page.get(at..self.usable).and_then(varint) else { return Ok(None) };
        let Some(len) =
            usize::try_from(len).ok().filter(|len| *len <= self.size.saturating_mul(self.count as usize))
        else {
            return Ok(None);
        };
        let (number, rest) = match kind {
            LEAF_TABLE => match varint(rest) {
                Some((number, rest)) => (Some(number), rest),
                None => return Ok(None),
            },
            _ => (None, rest),
        };
        let local = self.local(len, kind == LEAF_TABLE);
        let begun = self.latest.len();
        self.zeros = false;
        let Some(start) = rest.get(..local) else { return Ok(None) };
        let payload = match local == len {
            true => Some(start.to_vec()),
            false => match word(rest, local) {
                Some(first) => self.chain(start, len, first)?,
                None => return Ok(None),
            },
        };
        let whole = payload.is_some();
        let mut values = payload.and_then(|payload| values(&payload, self.encoding));
        if self.zeros && values.as_ref().is_some_and(|values| values.iter().any(has_nul)) {
            // Text does not go on in zeros: the page was lost.
            self.take_back(begun);
            values = None;
            return Ok(Some(Cell { number, values }));
        }
        self.doubtful += u64::from(self.zeros && values.is_some());
        // What stands here in full and is no record never was one.
        Ok((values.is_some() || !whole).then_some(Cell { number, values }))
    }

    /// How much of so long a content stands in its page.
    fn local(&self, len: usize, in_table: bool) -> usize {
        let most = if in_table { self.usable - 35 } else { (self.usable - 12) * 64 / 255 - 23 };
        if len <= most {
            return len;
        }
        let least = (self.usable - 12) * 32 / 255 - 23;
        let local = least + (len - least) % (self.usable - 4);
        if local <= most { local } else { least }
    }

    /// Content that goes on in further pages; `None` when one of them is not what it should be.
    fn chain(&mut self, start: &[u8], len: usize, mut next: u32) -> Result<Option<Vec<u8>>> {
        let mut payload = start.to_vec();
        let begun = self.latest.len();
        let mut whole = true;
        while payload.len() < len {
            if next < 2 || next > self.count || !self.known.insert(next) {
                whole = false;
                break;
            }
            self.latest.push(next);
            let page = self.page(next)?;
            self.zeros |= page.iter().all(|byte| *byte == 0);
            let part = (len - payload.len()).min(self.usable - 4);
            payload.extend_from_slice(&page[4..4 + part]);
            next = word(&page, 0).unwrap_or(0);
        }
        // A chain ends where its content does; one that has lost a page is hardly ever that long by chance.
        if whole && next == 0 {
            return Ok(Some(payload));
        }
        self.take_back(begun);
        Ok(None)
    }

    /// The cells read last belong to nobody after all.
    pub fn forget_latest(&mut self) {
        self.take_back(0);
    }

    fn take_back(&mut self, from: usize) {
        for page in self.latest.drain(from..) {
            self.known.remove(page);
        }
    }

    /// Takes the pages on the list of free ones out of the question, as far as the list can be followed.
    pub fn leave_out_free(&mut self) -> Result<()> {
        let mut trunk = self.header_number(32)?;
        while trunk > 1 && trunk <= self.count && self.known.insert(trunk) {
            let page = self.page(trunk)?;
            let count = word(&page, 4).unwrap_or(0) as usize;
            if count > self.usable / 4 {
                break;
            }
            for n in 0..count {
                let leaf = word(&page, 8 + 4 * n).filter(|leaf| *leaf > 1 && *leaf <= self.count);
                leaf.map(|leaf| self.known.insert(leaf));
            }
            trunk = word(&page, 0).unwrap_or(0);
        }
        Ok(())
    }
}

fn has_nul(value: &Value) -> bool {
    matches!(value, Value::Text(text) if text.contains(&0))
}

pub fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
}

fn start(number: u32) -> usize {
    if number == 1 { LEN } else { 0 }
}

pub fn kind(page: &[u8], number: u32) -> u8 {
    page.get(start(number)).copied().unwrap_or(0)
}

/// Where the cells of a page begin; `None` for one that cannot begin there.
fn pointers(page: &[u8], number: u32, usable: usize) -> Vec<Option<usize>> {
    let start = start(number);
    let head = if matches!(kind(page, number), INNER_INDEX | INNER_TABLE) { 12 } else { 8 };
    let short = |at: usize| page.get(at..at + 2).map(|b| usize::from(u16::from_be_bytes([b[0], b[1]])));
    let count = short(start + 3).unwrap_or(0);
    // More than fit is damage; those that fit may be right.
    let most = usable.saturating_sub(start + head) / 2;
    let first = start + head + 2 * count.min(most);
    let pointer =
        |n: usize| short(start + head + 2 * n).filter(|at| *at >= first.min(usable) && *at < usable);
    (0..count.min(most)).map(pointer).collect()
}

/// A child of an inner page of a table, and the last number it may hold; pages of indexes have no such number.
pub struct Child {
    pub page: u32,
    pub last: i64,
}

/// The children of an inner page, those that can be read.
pub fn children(page: &[u8], number: u32, usable: usize) -> Vec<Child> {
    let in_table = kind(page, number) == INNER_TABLE;
    let mut all = Vec::new();
    for at in pointers(page, number, usable).into_iter().flatten() {
        let last = match in_table {
            true => page.get(at + 4..usable).and_then(varint).map(|(last, _)| last),
            false => Some(i64::MAX),
        };
        if let (Some(page), Some(last)) = (word(page, at), last) {
            all.push(Child { page, last });
        }
    }
    all.extend(word(page, start(number) + 8).map(|page| Child { page, last: i64::MAX }));
    all
}

/// Whether a page looks like part of a tree: its kind is one, and all its cells begin inside it.
pub fn looks_like_one(page: &[u8], number: u32) -> bool {
    let cells = pointers(page, number, page.len());
    matches!(kind(page, number), INNER_INDEX | INNER_TABLE | LEAF_INDEX | LEAF_TABLE)
        && !cells.is_empty()
        && cells.iter().all(Option::is_some)
}

/// The values of a record; `None` when the bytes are none.
fn values(payload: &[u8], encoding: Encoding) -> Option<Vec<Value>> {
    let (head, rest) = varint(payload)?;
    let head = usize::try_from(head).ok().filter(|head| *head <= payload.len())?;
    let mut types = payload.get(payload.len() - rest.len()..head)?;
    let mut body = payload.get(head..)?;
    let mut values = Vec::new();
    while !types.is_empty() {
        let (kind, rest) = varint(types)?;
        types = rest;
        let len = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind as usize,
            5 => 6,
            6 | 7 => 8,
            12.. => usize::try_from((kind - 12) / 2).ok()?,
            _ => return None,
        };
        let part = body.get(..len)?;
        body = &body[len..];
        values.push(match kind {
            0 => Value::Null,
            7 => Value::Real(f64::from_be_bytes(part.try_into().ok()?)),
            8 => Value::Integer(0),
            9 => Value::Integer(1),
            1..=6 => {
                let sign = if part.first()? & 0x80 != 0 { -1 } else { 0 };
                Value::Integer(part.iter().fold(sign, |number: i64, byte| number << 8 | i64::from(*byte)))
            }
            _ if kind % 2 == 0 => Value::Blob(part.to_vec()),
            _ => Value::Text(text(part, encoding)),
        });
    }
    (body.is_empty() && !values.is_empty()).then_some(values)
}

fn text(bytes: &[u8], encoding: Encoding) -> Vec<u8> {
    let pairs = || bytes.chunks_exact(2).map(|pair| [pair[0], pair[1]]);
    let units: Vec<u16> = match encoding {
        Encoding::Utf8 => return bytes.to_vec(),
        Encoding::Utf16Little => pairs().map(u16::from_le_bytes).collect(),
        Encoding::Utf16Big => pairs().map(u16::from_be_bytes).collect(),
    };
    String::from_utf16_lossy(&units).into_bytes()
}
