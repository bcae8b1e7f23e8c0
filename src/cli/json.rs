//! The shapes of JSON that several commands write.

use super::names::decode_path;
use crate::format::entry::{Entry, Kind};
use crate::format::snapshot::{
    DatabaseFacts, Databases, Expected, GitState, Guarded, JsonFacts, Repaired, RulesTried, Summary,
};
use crate::repository::drills::Drilled;
use crate::repository::notes::Pin;
use crate::repository::snapshots::Listed;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// `bytes` in base64 where text would lose something.
pub fn base64_if_needed(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).is_err().then(|| base64(bytes))
}

/// An object whose fields stand in the order they were given.
#[derive(Default)]
pub struct Message {
    fields: Vec<(&'static str, Field)>,
}

/// A value of ours, or JSON that must reach the reader as it is written: numbers of any length.
#[derive(Serialize)]
#[serde(untagged)]
enum Field {
    Ours(Value),
    Raw(Box<RawValue>),
}

impl Message {
    pub fn new(message_type: &'static str) -> Self {
        Message::default().with("message_type", message_type)
    }

    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.fields.push((name, Field::Ours(value.into())));
        self
    }

    /// A field that is JSON already; what is none becomes null.
    #[must_use]
    pub fn with_raw(mut self, name: &'static str, json: String) -> Self {
        let field = RawValue::from_string(json).map_or(Field::Ours(Value::Null), Field::Raw);
        self.fields.push((name, field));
        self
    }

    /// A path: lossy under `name`, exact under `exact` where that says more.
    #[must_use]
    pub fn with_path(self, name: &'static str, exact: &'static str, path: &[u8]) -> Self {
        let message = self.with(name, String::from_utf8_lossy(path));
        match base64_if_needed(path) {
            Some(raw) => message.with(exact, raw),
            None => message,
        }
    }

    /// The fields of something that is an object by itself.
    #[must_use]
    pub fn with_all<T: Serialize>(mut self, fields: &'static [&'static str], of: &T) -> Self {
        let value = serde_json::to_value(of).unwrap_or_default();
        for name in fields {
            self.fields.push((name, Field::Ours(value[*name].clone())));
        }
        self
    }
}

impl Message {
    /// As a part of another object.
    pub fn value(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

impl Serialize for Message {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.fields.len()))?;
        for (name, value) in &self.fields {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// A snapshot.
#[derive(Serialize)]
pub struct SnapshotJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    message_type: Option<&'static str>,
    id: &'a str,
    short_id: String,
    time: &'a str,
    parent: Option<&'a str>,
    tree: &'a str,
    hostname: &'a str,
    username: &'a str,
    paths: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    paths_b64: Option<Vec<String>>,
    tags: &'a [String],
    label: Option<&'a str>,
    excludes: &'a [String],
    program_version: &'a str,
    summary: SummaryJson<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    git: Option<&'a GitState>,
    #[serde(skip_serializing_if = "Option::is_none")]
    original: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pin: Option<PinJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trash: Option<TrashJson>,
    /// What a repair made it of, and what it lacks.
    #[serde(skip_serializing_if = "Option::is_none")]
    repaired: Option<&'a Repaired>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sqlite: Option<&'a Databases>,
    #[serde(skip_serializing_if = "Option::is_none")]
    json: Option<&'a JsonFacts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    guarded: Option<&'a Guarded>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<&'a Expected>,
    /// What came of rules.
    #[serde(skip_serializing_if = "Option::is_none")]
    rules: Option<&'a [RulesTried]>,
    /// When it was last proven restorable, and the last drill.
    #[serde(skip_serializing_if = "Option::is_none")]
    drills: Option<Value>,
}

/// There for a pinned snapshot.
#[derive(Serialize)]
struct PinJson<'a> {
    label: Option<&'a str>,
}

/// There for a snapshot in the trash; null where a clock was wrong.
#[derive(Serialize)]
pub struct TrashJson {
    pub forgotten: Option<String>,
    pub expires: Option<String>,
    pub days_left: Option<u64>,
}

#[derive(Serialize)]
struct SummaryJson<'a> {
    backup_start: &'a str,
    backup_end: &'a str,
    #[serde(flatten)]
    counts: &'a Summary,
}

impl<'a> SnapshotJson<'a> {
    pub fn new(listed: &'a Listed) -> Self {
        let record = &listed.record;
        let raw: Vec<Vec<u8>> = record.paths.iter().map(|p| decode_path(p)).collect();
        let lossy = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
        let odd = raw.iter().any(|p| std::str::from_utf8(p).is_err());
        SnapshotJson {
            message_type: None,
            id: &record.id,
            short_id: listed.id.short(),
            time: &record.time,
            parent: record.parent.as_deref(),
            tree: &record.root,
            hostname: &record.hostname,
            username: &record.username,
            paths: raw.iter().map(lossy).collect(),
            paths_b64: odd.then(|| raw.iter().map(|p| base64(p)).collect()),
            tags: &record.tags,
            label: record.label.as_deref(),
            excludes: &record.excludes,
            program_version: &record.program_version,
            summary: SummaryJson {
                backup_start: &record.backup_start,
                backup_end: &record.backup_end,
                counts: &record.summary,
            },
            git: record.git.as_ref(),
            original: record.origin.as_deref(),
            pin: None,
            trash: None,
            repaired: record.repaired.as_ref(),
            sqlite: record.sqlite.as_ref(),
            json: record.json.as_ref(),
            guarded: record.guarded.as_ref(),
            expected: record.expected.as_ref(),
            rules: None,
            drills: None,
        }
    }

    #[must_use]
    pub fn pinned(self, pin: Option<&'a Pin>) -> Self {
        SnapshotJson { pin: pin.map(|p| PinJson { label: p.label.as_deref() }), ..self }
    }

    #[must_use]
    pub fn ruled(self, rules: Option<&'a Vec<RulesTried>>) -> Self {
        SnapshotJson { rules: rules.map(Vec::as_slice), ..self }
    }

    #[must_use]
    pub fn drilled(self, drills: Option<&[Drilled]>) -> Self {
        SnapshotJson { drills: drills.map(super::drills::json), ..self }
    }

    #[must_use]
    pub fn in_trash(self, trash: TrashJson) -> Self {
        SnapshotJson { trash: Some(trash), ..self }
    }

    /// As a line among lines of other kinds.
    pub fn message(listed: &'a Listed) -> Self {
        SnapshotJson { message_type: Some("snapshot"), ..SnapshotJson::new(listed) }
    }
}

/// One thing in a snapshot.
#[derive(Serialize)]
pub struct NodeJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    message_type: Option<&'static str>,
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_b64: Option<String>,
    size: u64,
    mode: u32,
    permissions: String,
    mtime: String,
    uid: u32,
    gid: u32,
    user: String,
    group: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    linktarget: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    linktarget_b64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<[u32; 2]>,
    /// Names of one file share a number.
    #[serde(skip_serializing_if = "is_zero")]
    link_id: u64,
    /// What was found out about a database.
    #[serde(skip_serializing_if = "Option::is_none")]
    sqlite: Option<DatabaseFacts>,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl NodeJson {
    /// As a part of another object.
    pub fn found(entry: &Entry) -> Self {
        NodeJson { message_type: None, ..NodeJson::new(entry) }
    }

    pub fn new(entry: &Entry) -> Self {
        let mut path = vec![b'/'];
        path.extend_from_slice(&entry.path);
        let target = match &entry.kind {
            Kind::Symlink(target) => Some(target),
            _ => None,
        };
        let device = match entry.kind {
            Kind::CharDevice(major, minor) | Kind::BlockDevice(major, minor) => Some([major, minor]),
            _ => None,
        };
        NodeJson {
            message_type: Some("node"),
            name: String::from_utf8_lossy(entry.name()).into_owned(),
            kind: type_word(&entry.kind),
            path_b64: base64_if_needed(&path),
            path: String::from_utf8_lossy(&path).into_owned(),
            size: entry.content.size,
            mode: entry.meta.mode,
            permissions: permissions(entry),
            mtime: entry.meta.mtime.rfc3339(),
            uid: entry.meta.owner.uid,
            gid: entry.meta.owner.gid,
            user: entry.meta.owner.user.clone(),
            group: entry.meta.owner.group.clone(),
            linktarget: target.map(|t| String::from_utf8_lossy(t).into_owned()),
            linktarget_b64: target.and_then(|t| base64_if_needed(t)),
            device,
            link_id: entry.link,
            sqlite: None,
        }
    }

    /// With what the snapshot's record says of it as a database.
    #[must_use]
    pub fn with_facts(self, facts: Option<&DatabaseFacts>) -> Self {
        NodeJson { sqlite: facts.cloned(), ..self }
    }
}

pub fn type_word(kind: &Kind) -> &'static str {
    match kind {
        Kind::File => "file",
        Kind::Directory => "dir",
        Kind::Symlink(_) => "symlink",
        Kind::Fifo => "fifo",
        Kind::Socket => "socket",
        Kind::CharDevice(..) => "chardev",
        Kind::BlockDevice(..) => "dev",
    }
}

/// `drwxr-xr-x`, as `ls -l` writes it.
pub fn permissions(entry: &Entry) -> String {
    let mode = entry.meta.mode;
    let mut out = String::with_capacity(10);
    out.push(match entry.kind {
        Kind::File => '-',
        Kind::Directory => 'd',
        Kind::Symlink(_) => 'l',
        Kind::Fifo => 'p',
        Kind::Socket => 's',
        Kind::CharDevice(..) => 'c',
        Kind::BlockDevice(..) => 'b',
    });
    let special = [(0o4000, 's', 'S'), (0o2000, 's', 'S'), (0o1000, 't', 'T')];
    for (n, (bit, with, without)) in special.into_iter().enumerate() {
        let three = mode >> (6 - 3 * n);
        out.push(if three & 4 != 0 { 'r' } else { '-' });
        out.push(if three & 2 != 0 { 'w' } else { '-' });
        out.push(match (mode & bit != 0, three & 1 != 0) {
            (true, true) => with,
            (true, false) => without,
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    out
}
