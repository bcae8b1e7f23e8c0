//! Two sorted sides, key by key: what only one has, what both have and does not say the same.

use super::passes::ENTRY_HEAD;
use super::plan::{Plan, Section};
use super::reduced::{KeyHash, RecordHash};
use super::report::{Kind, Mismatch, Tally};
use super::sorter::Sorted;
use crate::crypto::hash::FileHash;
use crate::error::Result;
use crate::progress::Progress;

/// Entries of one key that are looked at together; rows of longer arrays are taken in parts of this size.
const GROUP_MAX: usize = 1 << 16;
const HASH: usize = size_of::<RecordHash>();

/// One side, with the entry that comes next.
struct Cursor {
    sorted: Sorted,
    head: Vec<u8>,
    is_over: bool,
}

type Head = [u8; ENTRY_HEAD];

impl Cursor {
    fn new(sorted: Sorted) -> Result<Self> {
        let mut cursor = Cursor { sorted, head: Vec::new(), is_over: false };
        cursor.advance()?;
        Ok(cursor)
    }

    fn advance(&mut self) -> Result<()> {
        self.head.clear();
        match self.sorted.read()? {
            Some(entry) => self.head.extend_from_slice(entry),
            None => self.is_over = true,
        }
        Ok(())
    }

    fn key(&self) -> Option<Head> {
        if self.is_over { None } else { self.head.first_chunk().copied() }
    }

    /// The next entries of this key, as many as are looked at together; answers whether there are more of them.
    fn group(&mut self, head: &Head, slots: usize, out: &mut Vec<Entry>) -> Result<bool> {
        out.clear();
        while self.key().as_ref() == Some(head) {
            if out.len() == GROUP_MAX {
                return Ok(true);
            }
            let payload = self.head.len().saturating_sub(HASH + 8 * slots);
            let hash = self.head[payload..].first_chunk().copied().unwrap_or_default();
            out.push(Entry { hash, quick: self.head[(payload + HASH).min(self.head.len())..].to_vec() });
            self.advance()?;
        }
        Ok(false)
    }
}

/// The hash of a record, and the quick ones of its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    hash: RecordHash,
    quick: Vec<u8>,
}

/// What the comparison comes to.
pub struct Matched {
    pub tallies: Vec<Tally>,
    pub mismatches: Vec<Mismatch>,
    pub untold: u64,
}

/// Compares both sides up to the bounds within which each is known.
pub fn compare(
    plan: &Plan<'_>,
    database: Sorted,
    export: Sorted,
    bounds: &[Option<KeyHash>],
    limit: usize,
    progress: &Progress,
) -> Result<Matched> {
    let (mut a, mut b) = (Cursor::new(database)?, Cursor::new(export)?);
    let mut matcher = Matcher {
        plan,
        limit,
        told: vec![0; plan.sections.len()],
        hashes: plan.sections.iter().map(|_| (FileHash::new(), FileHash::new())).collect(),
        out: Matched {
            tallies: plan.sections.iter().map(empty).collect(),
            mismatches: Vec::new(),
            untold: 0,
        },
    };
    let (mut x, mut y) = (Vec::new(), Vec::new());
    while let Some(head) = a.key().into_iter().chain(b.key()).min() {
        progress.keep_going()?;
        let number = usize::from(u16::from_be_bytes([head[0], head[1]]));
        let Some(section) = plan.sections.get(number) else { break };
        let key: KeyHash = *head.last_chunk().unwrap_or(&[0; 16]);
        let (mut at, mut repeats) = (0, (0, 0));
        loop {
            let more = (a.group(&head, section.slots(), &mut x)?, b.group(&head, section.slots(), &mut y)?);
            if bounds[number].is_some_and(|bound| key > bound) {
                // Beyond the sample.
            } else if section.children.is_some() {
                matcher.digest(number, &key, &x, &y);
                matcher.array(number, &key, &x, &y, at, more == (false, false));
            } else {
                matcher.digest(number, &key, &x, &y);
                repeats.0 += x.len() as u64;
                repeats.1 += y.len() as u64;
                if more == (false, false) {
                    matcher.record(number, &key, &x, &y, repeats);
                }
            }
            at += GROUP_MAX as u64;
            if more == (false, false) {
                break;
            }
        }
    }
    if bounds.iter().all(Option::is_none) {
        for (tally, (x, y)) in matcher.out.tallies.iter_mut().zip(&matcher.hashes) {
            tally.hashes = Some((hex(&x.finish()), hex(&y.finish())));
        }
    }
    Ok(matcher.out)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn empty(section: &Section<'_>) -> Tally {
    let slots = (0..section.slots()).map(|n| section.slot(n)).map(|(field, column)| (field, column, 0));
    Tally { name: section.name.clone(), fields: slots.collect(), ..Tally::default() }
}

struct Matcher<'p> {
    plan: &'p Plan<'p>,
    /// Mismatches of one section that are told.
    limit: usize,
    told: Vec<usize>,
    hashes: Vec<(FileHash, FileHash)>,
    out: Matched,
}

impl Matcher<'_> {
    fn digest(&mut self, number: usize, key: &KeyHash, x: &[Entry], y: &[Entry]) {
        let (a, b) = &mut self.hashes[number];
        for (hash, entries) in [(a, x), (b, y)] {
            for entry in entries {
                hash.update(key);
                hash.update(&entry.hash);
            }
        }
    }

    /// The records of one key.
    fn record(&mut self, number: usize, key: &KeyHash, x: &[Entry], y: &[Entry], repeats: (u64, u64)) {
        self.out.tallies[number].compared += 1;
        match (repeats, x, y) {
            ((1, 1), [a], [b]) => self.pair(number, key, a, b, None),
            ((1, 0), [a], _) => self.lone(number, key, Some(a), None, None),
            ((0, 1), _, [b]) => self.lone(number, key, None, Some(b), None),
            ((database, export), _, _) => {
                self.out.tallies[number].repeated += 1;
                self.tell(number, key, Kind::Repeated { database, export }, None, (None, None), Vec::new());
            }
        }
    }

    /// The rows of one array. What both begin and end with stays out of account, so that one row more or less is one.
    fn array(&mut self, number: usize, key: &KeyHash, x: &[Entry], y: &[Entry], at: u64, is_whole: bool) {
        self.out.tallies[number].compared += x.len().max(y.len()) as u64;
        let has_order = self.plan.sections[number].children.is_some_and(|c| !c.order.is_empty());
        if !has_order {
            return self.bag(number, key, x, y);
        }
        let start = x.iter().zip(y).take_while(|(a, b)| a.hash == b.hash).count();
        let (x, y) = (&x[start..], &y[start..]);
        let same = x.iter().rev().zip(y.iter().rev()).take_while(|(a, b)| a.hash == b.hash).count();
        // Ends that are cut off say nothing about the real ones.
        let same = if is_whole { same } else { 0 };
        self.out.tallies[number].equal += (start + same) as u64;
        let (x, y) = (&x[..x.len() - same], &y[..y.len() - same]);
        for n in 0..x.len().max(y.len()) {
            let position = Some(at + (start + n) as u64);
            match (x.get(n), y.get(n)) {
                (Some(a), Some(b)) => self.pair(number, key, a, b, position),
                (a, b) => self.lone(number, key, a, b, position),
            }
        }
    }

    /// Rows of an array whose order says nothing; they come in the order of their hashes.
    fn bag(&mut self, number: usize, key: &KeyHash, x: &[Entry], y: &[Entry]) {
        let (mut only_x, mut only_y) = (Vec::new(), Vec::new());
        let (mut i, mut j) = (0, 0);
        loop {
            match (x.get(i), y.get(j)) {
                (None, None) => break,
                (Some(a), Some(b)) if a.hash == b.hash => {
                    self.out.tallies[number].equal += 1;
                    (i, j) = (i + 1, j + 1);
                }
                (Some(a), b) if b.is_none_or(|b| a.hash < b.hash) => {
                    only_x.push(a);
                    i += 1;
                }
                (_, Some(b)) => {
                    only_y.push(b);
                    j += 1;
                }
                (Some(_), None) => break,
            }
        }
        if let ([a], [b]) = (only_x.as_slice(), only_y.as_slice()) {
            return self.pair(number, key, a, b, None);
        }
        only_x.into_iter().for_each(|a| self.lone(number, key, Some(a), None, None));
        only_y.into_iter().for_each(|b| self.lone(number, key, None, Some(b), None));
    }

    fn pair(&mut self, number: usize, key: &KeyHash, a: &Entry, b: &Entry, position: Option<u64>) {
        let tally = &mut self.out.tallies[number];
        if a.hash == b.hash {
            tally.equal += 1;
            return;
        }
        tally.differing += 1;
        let slots = a.quick.chunks(8).zip(b.quick.chunks(8)).enumerate();
        let mut fields: Vec<usize> = slots.filter(|(_, (p, q))| p != q).map(|(n, _)| n).collect();
        for field in &fields {
            if let Some((_, _, count)) = tally.fields.get_mut(*field) {
                *count += 1;
            }
        }
        if fields.is_empty() {
            // Two quick hashes that happen to be the same: all fields are told.
            fields = (0..tally.fields.len()).collect();
        }
        self.tell(number, key, Kind::Differs, position, (Some(a.hash), Some(b.hash)), fields);
    }

    fn lone(
        &mut self,
        number: usize,
        key: &KeyHash,
        a: Option<&Entry>,
        b: Option<&Entry>,
        position: Option<u64>,
    ) {
        let tally = &mut self.out.tallies[number];
        let kind = match a {
            Some(_) => {
                tally.not_in_export += 1;
                Kind::NotInExport
            }
            None => {
                tally.not_in_database += 1;
                Kind::NotInDatabase
            }
        };
        let section = &self.plan.sections[number];
        let fields =
            if section.children.is_some() { (0..section.fields.len()).collect() } else { Vec::new() };
        self.tell(number, key, kind, position, (a.map(|a| a.hash), b.map(|b| b.hash)), fields);
    }

    fn tell(
        &mut self,
        section: usize,
        key: &KeyHash,
        kind: Kind,
        position: Option<u64>,
        (database, export): (Option<RecordHash>, Option<RecordHash>),
        fields: Vec<usize>,
    ) {
        if self.told[section] >= self.limit {
            self.out.untold += 1;
            return;
        }
        self.told[section] += 1;
        self.out.mismatches.push(Mismatch {
            section,
            kind,
            key: String::new(),
            order: Vec::new(),
            position,
            fields,
            in_database: Vec::new(),
            in_export: Vec::new(),
            hash: *key,
            database,
            export,
        });
    }
}
