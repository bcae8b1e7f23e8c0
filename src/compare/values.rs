//! One value of a JSON file over many snapshots, and files that have a value.

use super::history::{State, Version};
use super::inside::text;
use crate::error::Result;
use crate::format::entry::{Content, Extent};
use crate::id::{ChunkId, SnapshotId};
use crate::json::doc::{Doc, Kind};
use crate::json::pointer::Pointer;
use crate::progress::Progress;
use crate::repository::reader::Reader;
use std::collections::HashMap;

/// What a version says at the pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// The value, compact.
    Value(Vec<u8>),
    /// The file is there and has no such value.
    Missing,
    /// There is no file.
    NoFile,
    /// Nobody can say, and why.
    Unknown(String),
}

/// A value and the snapshots in a row that have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueVersion {
    pub snapshot: SnapshotId,
    pub time: String,
    pub hostname: String,
    pub last_snapshot: SnapshotId,
    pub last_time: String,
    pub snapshots: u64,
    pub said: Said,
}

/// From the versions of a file to those of the value at `pointer`; versions that say the same become one.
pub fn of_versions(
    reader: &Reader,
    versions: &[Version],
    pointer: &Pointer,
    progress: &Progress,
) -> Result<Vec<ValueVersion>> {
    let mut found: Vec<ValueVersion> = Vec::new();
    for version in versions {
        progress.keep_going()?;
        let said = match (&version.state, &version.content, found.last()) {
            (State::Present { .. }, Some(_), Some(last))
                if !version.content_changed && last.said.is_of_file() =>
            {
                last.said.clone()
            }
            (State::Present { .. }, Some(content), _) => said(reader, content, pointer)?,
            (State::Present { .. } | State::Absent, _, _) => Said::NoFile,
            (State::Unreadable(why), _, _) => Said::Unknown(why.clone()),
        };
        match found.last_mut() {
            Some(last) if last.said == said => {
                last.last_snapshot = version.last_snapshot;
                last.last_time.clone_from(&version.last_time);
                last.snapshots += version.snapshots;
            }
            _ => found.push(ValueVersion {
                snapshot: version.snapshot,
                time: version.time.clone(),
                hostname: version.hostname.clone(),
                last_snapshot: version.last_snapshot,
                last_time: version.last_time.clone(),
                snapshots: version.snapshots,
                said,
            }),
        }
    }
    Ok(found)
}

impl Said {
    fn is_of_file(&self) -> bool {
        matches!(self, Said::Value(_) | Said::Missing)
    }
}

fn said(reader: &Reader, content: &Content, pointer: &Pointer) -> Result<Said> {
    let text = match text(reader, content) {
        Ok(Ok(text)) => text,
        Ok(Err(why)) => return Ok(Said::Unknown(why)),
        Err(e) if e.kind().is_unreadable() => return Ok(Said::Unknown(e.message().to_owned())),
        Err(e) => return Err(e),
    };
    Ok(match Doc::parse(&text) {
        Ok(doc) => pointer.find(&doc).map_or(Said::Missing, |node| Said::Value(doc.compact(node))),
        Err(fault) => Said::Unknown(fault.to_string()),
    })
}

/// A value that files are to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pointer: Pointer,
    /// The value as JSON; `None` when any will do.
    value: Option<Vec<u8>>,
}

impl Wanted {
    /// `/key=value`, where the value is JSON, or else a text as it stands; `/key` for any value.
    pub fn parse(text: &str) -> Result<Self> {
        let (pointer, value) = match text.split_once('=') {
            Some((pointer, value)) => (pointer, Some(value)),
            None => (text, None),
        };
        let as_json = |value: &str| match Doc::parse(value.as_bytes()) {
            Ok(_) => value.as_bytes().to_vec(),
            Err(_) => serde_json::to_vec(value).unwrap_or_default(),
        };
        Ok(Wanted { pointer: Pointer::parse(pointer)?, value: value.map(as_json) })
    }

    /// Whether a JSON text has it; an error says why nobody can say.
    pub fn fits(&self, text: &[u8]) -> std::result::Result<bool, String> {
        let doc = Doc::parse(text).map_err(|fault| fault.to_string())?;
        let Some(node) = self.pointer.find(&doc) else { return Ok(false) };
        let Some(value) = &self.value else { return Ok(true) };
        let wanted = Doc::parse(value).map_err(|fault| fault.to_string())?;
        let same = doc.same(node, &wanted, wanted.root());
        Ok(same || same_number(&doc, node, &wanted))
    }
}

/// Numbers that are written in two ways: 7 and 7.0.
fn same_number(doc: &Doc<'_>, node: u32, wanted: &Doc<'_>) -> bool {
    let number = |doc: &Doc<'_>, node: u32| match doc.kind(node) {
        Kind::Number => std::str::from_utf8(doc.raw(node)).ok()?.parse::<f64>().ok(),
        _ => None,
    };
    // Beyond this not every whole number has a float of its own.
    let exact = |n: &f64| n.abs() < 9e15;
    let pair = number(doc, node).filter(exact).zip(number(wanted, wanted.root()).filter(exact));
    pair.is_some_and(|(a, b)| a == b)
}

/// Looks into files for a value, into each content once.
pub struct Searcher<'a> {
    reader: &'a Reader,
    wanted: &'a Wanted,
    known: HashMap<Vec<(ChunkId, u32)>, bool>,
    /// Files that could not be looked into, and why the first of them could not.
    pub unseen: u64,
    pub first_unseen: Option<(Vec<u8>, String)>,
}

/// Contents whose answers are remembered, and chunks of one.
const KNOWN_MAX: usize = 200_000;
const CHUNKS_MAX: usize = 16;

impl<'a> Searcher<'a> {
    pub fn new(reader: &'a Reader, wanted: &'a Wanted) -> Self {
        Searcher { reader, wanted, known: HashMap::new(), unseen: 0, first_unseen: None }
    }

    pub fn fits(&mut self, path: &[u8], content: &Content) -> Result<bool> {
        let key: Vec<(ChunkId, u32)> = content
            .extents
            .iter()
            .filter_map(|extent| match extent {
                Extent::Chunk { id, len, repeat: 1 } => Some((*id, *len)),
                _ => None,
            })
            .collect();
        let whole = key.len() == content.extents.len() && !key.is_empty() && key.len() <= CHUNKS_MAX;
        if let Some(known) = self.known.get(&key).filter(|_| whole) {
            return Ok(*known);
        }
        let answer = match text(self.reader, content) {
            Ok(Ok(text)) => self.wanted.fits(&text),
            Ok(Err(why)) => Err(why),
            Err(e) if e.kind().is_unreadable() => Err(e.message().to_owned()),
            Err(e) => return Err(e),
        };
        let fits = answer.unwrap_or_else(|why| {
            self.unseen += 1;
            self.first_unseen.get_or_insert_with(|| (path.to_vec(), why));
            false
        });
        if whole && self.known.len() < KNOWN_MAX {
            self.known.insert(key, fits);
        }
        Ok(fits)
    }
}
