//! What an audit has found.

use super::canon::{Tag, first_difference, shown};
use super::plan::{Plan, Section};
use super::reduced::{KeyHash, RecordHash};

/// How a record differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The export does not have it.
    NotInExport,
    /// The database does not have it.
    NotInDatabase,
    /// Both have it, and some fields say something else.
    Differs,
    /// So many records of the database and of the export have one key.
    Repeated { database: u64, export: u64 },
}

impl Kind {
    pub fn word(self) -> &'static str {
        match self {
            Kind::NotInExport => "missing_in_export",
            Kind::NotInDatabase => "missing_in_database",
            Kind::Differs => "differs",
            Kind::Repeated { .. } => "repeated_key",
        }
    }
}

/// A record that is not the same on both sides.
#[derive(Clone, Debug)]
pub struct Mismatch {
    pub section: usize,
    pub kind: Kind,
    /// The key for people; of a row in an array, that of its record.
    pub key: String,
    /// The key as bytes, in the order of keys.
    pub order: Vec<u8>,
    /// Of a row in an array: its position, where the order says something.
    pub position: Option<u64>,
    /// What to tell of it: slots of its section.
    pub fields: Vec<usize>,
    /// What these say, on the sides that have it.
    pub in_database: Vec<Vec<u8>>,
    pub in_export: Vec<Vec<u8>>,
    pub hash: KeyHash,
    pub database: Option<RecordHash>,
    pub export: Option<RecordHash>,
}

/// A field that says something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Pointer and column; both empty for what no rule names.
    pub field: String,
    pub column: String,
    pub database: String,
    pub export: String,
    /// Where in the value, or by which character.
    pub at: Option<String>,
}

/// What came of one section.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub name: String,
    /// Records on each side, and keys that were compared.
    pub database: u64,
    pub export: u64,
    pub compared: u64,
    pub equal: u64,
    pub not_in_export: u64,
    pub not_in_database: u64,
    pub differing: u64,
    pub repeated: u64,
    pub keyless: u64,
    pub keyless_at: Vec<String>,
    /// Pointer and column of each slot, and in how many records it says something else.
    pub fields: Vec<(String, String, u64)>,
    /// The canonical hash of all records of each side, in the order of their keys.
    pub hashes: Option<(String, String)>,
}

impl Tally {
    pub fn mismatches(&self) -> u64 {
        self.not_in_export + self.not_in_database + self.differing + self.repeated + self.keyless
    }

    pub fn is_equal(&self) -> bool {
        self.mismatches() == 0 && self.database == self.export
    }
}

/// What came of all.
#[derive(Clone, Debug)]
pub struct Report {
    pub tallies: Vec<Tally>,
    pub mismatches: Vec<Mismatch>,
    /// Mismatches that are counted and not told one by one.
    pub untold: u64,
    /// Tables of the database, places and files of the export (the first of them) that the map does not name.
    pub left_tables: Vec<String>,
    pub left_places: Vec<String>,
    /// Records of each table that were asked for, and the seed by which they were chosen.
    pub sample: Option<(u64, u64)>,
    /// Bytes that went to scratch files.
    pub spilled: u64,
}

impl Report {
    /// There was something to compare.
    pub fn has_records(&self) -> bool {
        self.tallies.iter().any(|t| t.database + t.export > 0)
    }

    pub fn is_equal(&self) -> bool {
        self.has_records() && self.tallies.iter().all(Tally::is_equal)
    }
}

impl Mismatch {
    /// Field by field, where both sides have the record.
    pub fn differences(&self, section: &Section<'_>) -> Vec<Difference> {
        let both = self.in_database.iter().zip(&self.in_export);
        let all = self.fields.iter().zip(both).map(|(slot, (a, b))| {
            let (field, column) = section.slot(*slot);
            let (database, export) = around(a, b);
            Difference {
                field,
                column,
                database,
                export,
                at: first_difference(a, b).or_else(|| character(a, b)),
            }
        });
        all.collect()
    }

    /// What the side says that alone has it, for rows in arrays: their key does not tell which one it is.
    pub fn lone(&self, section: &Section<'_>) -> String {
        let values = if self.in_database.is_empty() { &self.in_export } else { &self.in_database };
        let parts = self.fields.iter().zip(values).map(|(slot, value)| {
            let (field, _) = section.slot(*slot);
            format!("{}: {}", if field.is_empty() { "it" } else { &field }, shown(value))
        });
        parts.collect::<Vec<_>>().join(", ")
    }

    /// The record as people call it.
    pub fn record(&self, plan: &Plan<'_>) -> String {
        let Some(section) = plan.sections.get(self.section) else { return self.key.clone() };
        let names: Vec<String> =
            section.table.key.iter().map(|k| section.table.fields[*k].column.shown()).collect();
        let key = match names.as_slice() {
            [one] => format!("{one} {}", self.key),
            names => format!("({}) ({})", names.join(", "), self.key),
        };
        match (section.children, self.position) {
            (Some(children), Some(n)) => format!("{key}, {}/{n}", children.at),
            (Some(children), None) => format!("{key}, {}", children.at),
            (None, _) => key,
        }
    }
}

/// Both values for people; of long texts the part where they cease to be the same.
fn around(a: &[u8], b: &[u8]) -> (String, String) {
    let text = |bytes: &[u8]| matches!(Tag::of(bytes), Some(Tag::Text | Tag::Json | Tag::Bytes));
    let common = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    if common < 120 || !text(a) || !text(b) {
        return (shown(a), shown(b));
    }
    // Not in the middle of a character.
    let from = |bytes: &[u8]| (1..common - 40).rev().find(|at| bytes[*at] & 0xc0 != 0x80).unwrap_or(1);
    let part = |bytes: &[u8]| format!("…{}", shown(&[&bytes[..1], &bytes[from(bytes)..]].concat()));
    (part(a), part(b))
}

/// The first characters of two texts that are not the same, where one could take them for each other.
fn character(a: &[u8], b: &[u8]) -> Option<String> {
    let text = |bytes: &[u8]| Tag::of(bytes) == Some(Tag::Text);
    if !text(a) || !text(b) {
        return None;
    }
    let (a, b) = (String::from_utf8_lossy(a.get(1..)?), String::from_utf8_lossy(b.get(1..)?));
    let (mut x, mut y) = (a.chars(), b.chars());
    for n in 1.. {
        match (x.next(), y.next()) {
            (None, None) => return None,
            (p, q) if p == q => {}
            (p, q) if [p, q].iter().flatten().any(|c| !c.is_ascii() || c.is_control() || *c == ' ') => {
                let code =
                    |c: Option<char>| c.map_or("the end".to_owned(), |c| format!("U+{:04X}", u32::from(c)));
                return Some(format!("character {n}: {} against {}", code(p), code(q)));
            }
            _ => return None,
        }
    }
    None
}
