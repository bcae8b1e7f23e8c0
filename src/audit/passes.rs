//! What becomes of records: in the first pass hashes to be sorted, in the second the values that will be told.

use super::canon::Side;
use super::plan::Plan;
use super::reduced::{Item, KeyHash, RecordHash, Sink};
use super::report::Mismatch;
use super::sorter::Sorter;
use crate::error::Result;
use std::collections::{BinaryHeap, HashMap};

/// Records without a key that are told one by one.
const KEYLESS_MAX: usize = 100;
/// Bytes of values kept to be told, of one value and of all.
const VALUE_MAX: usize = 1 << 20;
const VALUES_MAX: usize = 64 << 20;
/// What is kept of a value when there is no room for more.
const VALUE_LEAST: usize = 300;

/// Counts of one section.
#[derive(Clone, Debug, Default)]
pub struct Count {
    pub records: u64,
    pub keyless: u64,
    /// Where the first of them are.
    pub keyless_at: Vec<String>,
}

/// The smallest keys of a section, as many as the sample shall have.
struct Smallest {
    room: usize,
    keys: BinaryHeap<KeyHash>,
}

impl Smallest {
    fn takes(&mut self, key: &KeyHash) -> bool {
        if self.keys.len() < self.room {
            self.keys.push(*key);
            return true;
        }
        match self.keys.peek() {
            Some(largest) if key < largest => {
                self.keys.pop();
                self.keys.push(*key);
                true
            }
            Some(largest) => key == largest,
            None => false,
        }
    }
}

/// Entries of a sorter: section, key, order, the record's hash, a quick hash for each field.
pub const ENTRY_HEAD: usize = 2 + size_of::<KeyHash>();

/// The first pass over one side.
pub struct Gather<'p> {
    plan: &'p Plan<'p>,
    pub sorter: Sorter,
    pub counts: Vec<Count>,
    samples: Option<Vec<Smallest>>,
    entry: Vec<u8>,
}

impl<'p> Gather<'p> {
    pub fn new(plan: &'p Plan<'p>, sorter: Sorter, sample: Option<u64>) -> Self {
        let count = plan.sections.len();
        let room = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let smallest = |n| (0..count).map(|_| Smallest { room: room(n), keys: BinaryHeap::new() }).collect();
        let counts = vec![Count::default(); count];
        Gather { plan, sorter, counts, samples: sample.map(smallest), entry: Vec::new() }
    }

    /// The largest key of each section up to which every record of this side is known; `None` where all are.
    pub fn bounds(&self) -> Vec<Option<KeyHash>> {
        let Some(samples) = &self.samples else { return vec![None; self.counts.len()] };
        let bound = |s: &Smallest| s.keys.peek().filter(|_| s.keys.len() >= s.room).copied();
        self.plan.sections.iter().map(|section| bound(&samples[section.parent])).collect()
    }
}

impl Sink for Gather<'_> {
    fn wants(&mut self, section: usize, key: &KeyHash) -> bool {
        self.counts[section].records += 1;
        let Some(samples) = &mut self.samples else { return true };
        let parent = self.plan.sections[section].parent;
        match parent == section {
            true => samples[section].takes(key),
            // Rows of arrays go with their records; those of records that are on one side only, too.
            false => {
                samples[parent].keys.len() < samples[parent].room || samples[parent].keys.peek() >= Some(key)
            }
        }
    }

    fn take(&mut self, item: Item<'_>) -> Result<()> {
        let entry = &mut self.entry;
        entry.clear();
        entry.extend_from_slice(&(item.section as u16).to_be_bytes());
        entry.extend_from_slice(&item.key);
        entry.extend_from_slice(item.order);
        entry.extend_from_slice(&item.fields.hash());
        for number in 0..item.fields.len() {
            entry.extend_from_slice(&item.fields.quick(number).to_le_bytes());
        }
        self.sorter.push(entry)
    }

    fn passed(&mut self, section: usize, count: u64) {
        self.counts[section].records += count;
    }

    fn keyless(&mut self, section: usize, place: String) {
        let count = &mut self.counts[section];
        count.records += 1;
        count.keyless += 1;
        if count.keyless_at.len() < KEYLESS_MAX {
            count.keyless_at.push(place);
        }
    }
}

/// The second pass: fills in what the mismatches say.
pub struct Fetch<'a> {
    wanted: HashMap<(usize, KeyHash), Vec<usize>>,
    mismatches: &'a mut [Mismatch],
    kept: usize,
}

impl<'a> Fetch<'a> {
    pub fn new(plan: &Plan<'_>, mismatches: &'a mut [Mismatch]) -> Self {
        let mut wanted: HashMap<(usize, KeyHash), Vec<usize>> = HashMap::new();
        for (number, mismatch) in mismatches.iter().enumerate() {
            wanted.entry((mismatch.section, mismatch.hash)).or_default().push(number);
            // The way to the rows of an array leads through their record.
            let parent = plan.sections.get(mismatch.section).map_or(mismatch.section, |s| s.parent);
            wanted.entry((parent, mismatch.hash)).or_default();
        }
        Fetch { wanted, mismatches, kept: 0 }
    }
}

impl Sink for Fetch<'_> {
    fn wants(&mut self, section: usize, key: &KeyHash) -> bool {
        self.wanted.contains_key(&(section, *key))
    }

    fn take(&mut self, item: Item<'_>) -> Result<()> {
        let Some(numbers) = self.wanted.get(&(item.section, item.key)) else { return Ok(()) };
        let hash: RecordHash = item.fields.hash();
        for number in numbers {
            let mismatch = &mut self.mismatches[*number];
            if mismatch.key.is_empty() {
                (mismatch.key, mismatch.order) = (item.shown)();
            }
            let (wanted, values) = match item.side {
                Side::Database => (mismatch.database, &mut mismatch.in_database),
                Side::Export => (mismatch.export, &mut mismatch.in_export),
            };
            if wanted != Some(hash) || !values.is_empty() {
                continue;
            }
            for field in &mismatch.fields {
                let value = item.fields.field(*field);
                let room = if self.kept < VALUES_MAX { VALUE_MAX } else { VALUE_LEAST };
                let value = &value[..value.len().min(room)];
                self.kept += value.len();
                values.push(value.to_vec());
            }
        }
        Ok(())
    }

    fn passed(&mut self, _: usize, _: u64) {}

    fn keyless(&mut self, _: usize, _: String) {}
}
