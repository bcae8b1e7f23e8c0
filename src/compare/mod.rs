//! Looking at snapshots side by side: two of them, one and the live files, one path in all, a name in all.

pub mod blobs;
pub mod diff;
pub mod find;
pub mod history;
pub mod inside;
pub mod live;
pub mod rows;
pub mod rows_history;
pub mod values;

use crate::format::entry::{Content, Entry, Kind};
use crate::json::Form;

/// What happened at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Modifier {
    Added,
    Removed,
    /// Another content: a file's bytes, a link's target, a device's numbers.
    Content,
    /// Another kind of thing.
    Type,
    /// The same content under other times, owners, permissions or attributes.
    Metadata,
}

impl Modifier {
    /// The sign restic prints: `+`, `-`, `M`, `T` or `U`.
    pub fn sign(self) -> &'static str {
        match self {
            Modifier::Added => "+",
            Modifier::Removed => "-",
            Modifier::Content => "M",
            Modifier::Type => "T",
            Modifier::Metadata => "U",
        }
    }
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Without a leading slash. Between two snapshots: below the directories that are compared.
    pub path: Vec<u8>,
    pub modifier: Modifier,
    /// Whether a directory stands there; for what was removed: stood.
    pub is_dir: bool,
    /// Bytes of the file before and after, 0 for what is no file; `None` where nothing stands.
    pub before: Option<u64>,
    pub after: Option<u64>,
    /// The content differs although size and all metadata are equal: no program that writes files does that, a
    /// failing disk does.
    pub silent: bool,
    /// What to look into: there for a JSON file whose content changed.
    pub contents: Option<Box<Contents>>,
}

/// The two contents of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    pub before: Content,
    pub after: After,
}

/// The later content of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum After {
    Stored(Content),
    /// Of a live file, or why it was not read.
    Live(Result<Vec<u8>, String>),
}

impl Contents {
    /// Of a file that holds JSON by its name.
    fn of(path: &[u8], before: &Content, after: impl FnOnce() -> After) -> Option<Box<Self>> {
        let is_json = Form::of(path) == Some(Form::Document);
        is_json.then(|| Box::new(Contents { before: before.clone(), after: after() }))
    }
}

/// Things on one side only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub files: u64,
    pub dirs: u64,
    pub others: u64,
    /// Chunks of content, and of the manifest.
    pub data_blobs: u64,
    pub tree_blobs: u64,
    /// Plain bytes of these chunks of content; against live files: of the files.
    pub bytes: u64,
}

impl Tally {
    fn count(&mut self, kind: &Kind) {
        match kind {
            Kind::File => self.files += 1,
            Kind::Directory => self.dirs += 1,
            _ => self.others += 1,
        }
    }
}

/// What a comparison amounts to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Files whose content changed.
    pub changed_files: u64,
    pub added: Tally,
    pub removed: Tally,
    /// Groups that were read, and pairs that were equal by name and were not.
    pub groups_read: u64,
    pub groups_skipped: u64,
    /// Live files that could not be looked at.
    pub problems: u64,
}

/// The word for a kind of entry in all output.
pub fn kind_name(kind: &Kind) -> &'static str {
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

fn same_type(a: &Kind, b: &Kind) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b)
}

fn size(entry: &Entry) -> u64 {
    entry.content.size
}
