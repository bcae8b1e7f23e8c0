//! Snapshots that belong together: of one host, of the same paths, with the same tags.

use super::json::{Message, SnapshotJson};
use super::names::{decode_path, escape};
use crate::error::{Error, Result};
use crate::id::SnapshotId;
use crate::repository::notes::Pin;
use crate::repository::snapshots::Listed;
use serde::Serialize;
use std::collections::BTreeMap;

/// What snapshots of one group have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupBy {
    pub host: bool,
    pub paths: bool,
    pub tags: bool,
}

impl GroupBy {
    /// Host and paths: what one job makes.
    pub const SERIES: GroupBy = GroupBy { host: true, paths: true, tags: false };

    /// `host`, `paths`, `tags`, separated by commas; nothing for a single group.
    pub fn parse(text: &str) -> Result<Self> {
        let mut by = GroupBy { host: false, paths: false, tags: false };
        for word in text.split(',').map(str::trim).filter(|w| !w.is_empty()) {
            match word {
                "host" | "hosts" => by.host = true,
                "path" | "paths" => by.paths = true,
                "tag" | "tags" => by.tags = true,
                _ => {
                    return Err(Error::invalid(format!("`{word}` is no grouping; use host, paths or tags")));
                }
            }
        }
        Ok(by)
    }
}

/// What the snapshots of a group share; empty fields were not asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct GroupKey {
    hostname: String,
    paths: Option<Vec<String>>,
    tags: Option<Vec<String>>,
}

/// Some snapshots, oldest first.
pub struct Group<'a> {
    pub key: GroupKey,
    pub snapshots: Vec<&'a Listed>,
}

#[derive(Serialize)]
pub struct GroupJson<'a> {
    group_key: &'a GroupKey,
    snapshots: Vec<SnapshotJson<'a>>,
}

/// Groups in the order of their first snapshots.
pub fn group(snapshots: &[Listed], by: GroupBy) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for listed in snapshots {
        let record = &listed.record;
        let sorted = |list: &[String]| {
            let mut list = list.to_vec();
            list.sort();
            list
        };
        let key = GroupKey {
            hostname: if by.host { record.hostname.clone() } else { String::new() },
            paths: by.paths.then(|| sorted(&record.paths)),
            tags: by.tags.then(|| sorted(&record.tags)),
        };
        match groups.iter_mut().find(|g| g.key == key) {
            Some(group) => group.snapshots.push(listed),
            None => groups.push(Group { key, snapshots: vec![listed] }),
        }
    }
    groups
}

impl GroupKey {
    /// As restic's `forget` names a group: `tags`, `host`, `paths`, each null where it was not asked for.
    pub fn fields(&self, message: Message) -> Message {
        let shown = |paths: &Vec<String>| {
            let lossy = |p: &String| String::from_utf8_lossy(&decode_path(p)).into_owned();
            paths.iter().map(lossy).collect::<Vec<String>>()
        };
        message
            .with("tags", self.tags.clone())
            .with("host", self.hostname.as_str())
            .with("paths", self.paths.as_ref().map(shown))
    }
}

impl<'a> Group<'a> {
    pub fn title(&self) -> String {
        let mut parts = Vec::new();
        if !self.key.hostname.is_empty() {
            parts.push(format!("host {}", escape(self.key.hostname.as_bytes())));
        }
        if let Some(paths) = &self.key.paths {
            let shown: Vec<_> = paths.iter().map(|p| escape(&decode_path(p))).collect();
            parts.push(format!("paths {}", shown.join(", ")));
        }
        if let Some(tags) = &self.key.tags {
            let shown: Vec<_> = tags.iter().map(|t| escape(t.as_bytes())).collect();
            parts.push(if shown.is_empty() {
                "no tags".to_owned()
            } else {
                format!("tags {}", shown.join(", "))
            });
        }
        format!("snapshots of {}:", if parts.is_empty() { "all".to_owned() } else { parts.join(", ") })
    }

    pub fn json<'g>(&'g self, pins: &'g BTreeMap<SnapshotId, Pin>) -> GroupJson<'g> {
        let json = |s: &&'g Listed| SnapshotJson::new(s).pinned(pins.get(&s.id));
        GroupJson { group_key: &self.key, snapshots: self.snapshots.iter().map(json).collect() }
    }
}
