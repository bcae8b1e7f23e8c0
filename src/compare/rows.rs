//! Two versions of a database, stored or in use, by their schema and rows.

use crate::clock::Clock;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::format::entry::{Entry, Extent};
use crate::manifest::content::extents;
use crate::manifest::database::StoredBytes;
use crate::progress::Progress;
use crate::repository::reader::Reader;
use crate::sqlite::difference::Pair;
use crate::sqlite::ffi::open_bytes;
use crate::sqlite::image::Bytes;
use crate::sqlite::pin::{Pin, Refusal, Rules, pin};
use crate::sqlite::place::Place;
use crate::sqlite::query::{Reading, Value};
use crate::sqlite::scope::Scopes;
use crate::sqlite::tree::PageSet;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Copies of a database in use stay in memory up to this many bytes.
const MEMORY: usize = 16 << 20;

/// Where a version of a database is.
#[derive(Clone, Copy)]
pub enum Version<'a> {
    Stored(&'a Entry),
    Live(&'a Pin),
}

impl Version<'_> {
    fn bytes(&self, reader: &Arc<Reader>) -> Result<Box<dyn Bytes>> {
        Ok(match self {
            Version::Stored(entry) => Box::new(StoredBytes::new(Arc::clone(reader), entry)?),
            Version::Live(pin) => Box::new(pin.image.clone()),
        })
    }

    /// Opens it for questions.
    pub fn open(&self, reader: &Arc<Reader>, progress: &Progress) -> Result<Reading> {
        Reading::new(open_bytes(self.bytes(reader)?)?, progress.stop_flag())
    }
}

/// Opens both.
pub fn pair(
    reader: &Arc<Reader>,
    before: Version<'_>,
    after: Version<'_>,
    progress: &Progress,
) -> Result<Pair> {
    let open = |version: Version<'_>, which: &str| {
        version.open(reader, progress).context(|| format!("the {which} version"))
    };
    Pair::new(open(before, "earlier")?, open(after, "later")?)
}

/// Whether a stored file begins as a database does.
pub fn is_database(reader: &Arc<Reader>, entry: &Entry) -> Result<bool> {
    let mut start = [0; 16];
    if !entry.is_file() || entry.content.size < 512 {
        return Ok(false);
    }
    StoredBytes::new(Arc::clone(reader), entry)?.read_at(0, &mut start)?;
    Ok(&start == crate::sqlite::MAGIC)
}

/// Which rows can differ, by pages; `None` when the pages do not tell.
pub fn scopes(
    reader: &Arc<Reader>,
    before: Version<'_>,
    after: Version<'_>,
    pair: &Pair,
    progress: &Progress,
) -> Result<Option<Scopes>> {
    let differ = |page_size: u32, pages: u32| match (before, after) {
        (Version::Stored(a), Version::Stored(b)) => {
            Ok(by_chunks(&extents(reader, &a.content)?, &extents(reader, &b.content)?, page_size, pages))
        }
        _ => by_bytes(before.bytes(reader)?, after.bytes(reader)?, page_size, pages, progress),
    };
    let objects = (pair.before_objects.as_slice(), pair.after_objects.as_slice());
    Scopes::new(before.bytes(reader)?, after.bytes(reader)?, objects, &differ)
}

/// Pages that do not lie at the same place of the same chunk in both.
fn by_chunks(a: &[Extent], b: &[Extent], page_size: u32, pages: u32) -> PageSet {
    let len = |extent: &Extent| match extent {
        Extent::Hole { len } => *len,
        Extent::Chunk { len, repeat, .. } => u64::from(*len) * repeat,
    };
    let mut differ = PageSet::new(pages);
    let (mut a, mut b) = (a.iter(), b.iter());
    let (mut x, mut y) = (a.next(), b.next());
    let (mut x_at, mut y_at, mut at) = (0, 0, 0u64);
    let end = u64::from(page_size) * u64::from(pages);
    while at < end {
        let left = |extent: Option<&Extent>, inside: u64| extent.map(|e| len(e) - inside);
        let (x_left, y_left) = (left(x, x_at), left(y, y_at));
        let step = x_left.into_iter().chain(y_left).min().unwrap_or(end - at).min(end - at);
        let same = match (x, y) {
            (Some(Extent::Hole { .. }), Some(Extent::Hole { .. })) => true,
            (Some(Extent::Chunk { id, len, .. }), Some(Extent::Chunk { id: other, len: other_len, .. })) => {
                (id, len) == (other, other_len) && x_at % u64::from(*len) == y_at % u64::from(*len)
            }
            _ => false,
        };
        if !same && step > 0 {
            let size = u64::from(page_size);
            (at / size..(at + step).div_ceil(size)).for_each(|page| {
                differ.insert(page as u32 + 1);
            });
        }
        at += step;
        (x_at, y_at) = (x_at + step, y_at + step);
        if x.is_some_and(|extent| x_at >= len(extent)) {
            (x, x_at) = (a.next(), 0);
        }
        if y.is_some_and(|extent| y_at >= len(extent)) {
            (y, y_at) = (b.next(), 0);
        }
    }
    differ
}

/// Pages that are not the same, by reading both.
fn by_bytes(
    mut a: Box<dyn Bytes>,
    mut b: Box<dyn Bytes>,
    page_size: u32,
    pages: u32,
    progress: &Progress,
) -> Result<PageSet> {
    let size = page_size as usize;
    let mut differ = PageSet::new(pages);
    let common = (a.len().min(b.len()) / u64::from(page_size)) as u32;
    let run = ((1 << 18) / size).max(1) as u32;
    let (mut x, mut y) = (vec![0; run as usize * size], vec![0; run as usize * size]);
    let mut page = 0;
    while page < common {
        progress.keep_going()?;
        let count = run.min(common - page);
        let (x, y) = (&mut x[..count as usize * size], &mut y[..count as usize * size]);
        let at = u64::from(page) * u64::from(page_size);
        a.read_at(at, x)?;
        b.read_at(at, y)?;
        for (n, (x, y)) in x.chunks(size).zip(y.chunks(size)).enumerate() {
            if x != y {
                differ.insert(page + n as u32 + 1);
            }
        }
        page += count;
    }
    (common..pages).for_each(|page| {
        differ.insert(page + 1);
    });
    Ok(differ)
}

/// Holds the present state of a database in use still while `work` looks at it.
pub fn with_live<T>(
    path: &Path,
    scratch: &Path,
    clock: &dyn Clock,
    progress: &Progress,
    work: &mut dyn FnMut(&Pin) -> Result<T>,
) -> Result<T> {
    let place = Place::at(path)?;
    let keep_going = || progress.keep_going();
    let (wait, memory, firmly) = (Duration::from_secs(30), MEMORY, false);
    let rules = Rules { wait, scratch, memory, clock, keep_going: &keep_going, firmly, can_pin: true };
    let pin = pin(&place, &rules).map_err(|refusal| match refusal {
        Refusal::Failed(e) => e,
        Refusal::Unreadable(why) => Error::new(ErrorKind::Unsupported, why),
    })?;
    let done = work(&pin);
    match pin.holds() {
        true => done,
        // Nothing that was found counts, not even an error.
        false => Err(Error::new(ErrorKind::Locked, "it was written to while it was compared; ask again")),
    }
}

/// Rows whose foreign key leads nowhere, in the later version and not in the earlier: table, number of the row, table it
/// should lead to.
pub fn new_orphans(before: &Reading, after: &Reading) -> Result<Vec<(String, Option<i64>, String)>> {
    type Orphan = (String, Option<i64>, String, i64);
    let orphan = |row: &[Value]| -> Orphan {
        let text = |at: usize| row.get(at).map(Value::lossy).unwrap_or_default();
        let number = |at: usize| row.get(at).and_then(Value::as_integer);
        (text(0), number(1), text(2), number(3).unwrap_or(0))
    };
    let mut known: HashMap<Orphan, u64> = HashMap::new();
    before.ask("PRAGMA foreign_key_check", &[], &mut |_| Ok(()), &mut |row| {
        *known.entry(orphan(row)).or_default() += 1;
        Ok(())
    })?;
    let mut new = Vec::new();
    after.ask("PRAGMA foreign_key_check", &[], &mut |_| Ok(()), &mut |row| {
        let orphan = orphan(row);
        match known.get_mut(&orphan).filter(|count| **count > 0) {
            Some(count) => *count -= 1,
            None => new.push((orphan.0, orphan.1, orphan.2)),
        }
        Ok(())
    })?;
    Ok(new)
}
