//! The map of the format: versions, limits, file kinds and file names. Bytes: `format-spec/`.

pub mod codec;
pub mod config;
pub mod entry;
pub mod extents;
pub mod frame;
pub mod group;
pub mod key;
pub mod pack;
pub mod parity;
pub mod root;
pub mod segment;
pub mod snapshot;

use crate::error::{Error, ErrorKind, Result};
use crate::id::{NAME_LEN, Name, hex};

/// The one format version this program writes, and the highest it reads.
pub const FORMAT_VERSION: u8 = 1;
/// First bytes of every stored file.
pub const MAGIC: &[u8; 8] = b"snapkeep";
/// Length of the header of every stored file, in bytes.
pub const HEADER_LEN: usize = 48;
/// Required feature bits this version understands; a file with any other must not be read.
pub const FEATURES_REQUIRED: u16 = 0;

/// Limits every reader enforces before it allocates (chapter 9).
pub mod limit {
    /// A pack file, in bytes.
    pub const PACK_BYTES_MAX: u64 = 80 << 20;
    /// A chunk's plain bytes.
    pub const CHUNK_BYTES_MAX: usize = 16 << 20;
    /// The sealed part of one frame.
    pub const FRAME_BYTES_MAX: usize = 20 << 20;
    /// The plain bytes of one body.
    pub const BODY_BYTES_MAX: usize = 16 << 20;
    /// The plain bytes of all bodies of one frame.
    pub const FRAME_PLAIN_BYTES_MAX: usize = 64 << 20;
    /// Bodies of one frame, and chunks of one body: indexes number them with 16 bits.
    pub const FRAME_COUNT_MAX: usize = 65_535;
    /// The history given to one body.
    pub const PREFIX_BYTES_MAX: usize = 8 << 20;
    /// The longest chain of histories a reader follows.
    pub const DEPTH_MAX: u8 = 32;
    /// All bytes that must be decoded to get one body.
    pub const CLOSURE_BYTES_MAX: u64 = 512 << 20;
    /// A session, snapshot, note, config or key file.
    pub const RECORD_BYTES_MAX: u64 = 1 << 20;
    /// A pack's parity: at most as much as the pack, and its sums twice.
    pub const PARITY_BYTES_MAX: u64 = 128 << 20;
    /// Parity a config may ask for, in per cent of the packs.
    pub const PARITY_PERCENT_MAX: u32 = 100;
    /// An index segment or a condemned list.
    pub const SEGMENT_BYTES_MAX: u64 = 64 << 20;
    /// Packs that a segment lists, and segments that it supersedes.
    pub const SEGMENT_COUNT_MAX: usize = 65_536;
    /// A stored path.
    pub const PATH_BYTES_MAX: usize = 1 << 20;
    /// Components of a stored path.
    pub const PATH_DEPTH_MAX: usize = 4200;
    /// One component of a path.
    pub const NAME_BYTES_MAX: usize = 4096;
    /// A symlink's target.
    pub const TARGET_BYTES_MAX: usize = 1 << 16;
    /// One extended attribute's value, and all of one file's.
    pub const XATTR_BYTES_MAX: usize = 1 << 16;
    pub const XATTRS_BYTES_MAX: usize = 1 << 20;
    /// One column of a manifest group.
    pub const GROUP_BYTES_MAX: usize = 8 << 20;
    /// All paths of one group, written out: each may repeat nearly all of the one before.
    pub const GROUP_PATHS_BYTES_MAX: usize = 32 << 20;
    /// Key slots in one key file.
    pub const KEY_SLOTS_MAX: usize = 16;
    /// Levels of manifest roots and of content lists.
    pub const LEVELS_MAX: u8 = 4;
}

/// What a stored file is; the byte at offset 9 of its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum FileKind {
    Config = 1,
    Keys = 2,
    Pack = 3,
    Index = 4,
    /// A session and, once committed, a snapshot: the same file under another name.
    Session = 5,
    Note = 6,
    Condemned = 7,
    Parity = 8,
    Reserve = 9,
}

/// A stored file's place, relative to the repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FileName {
    Config(u32),
    Keys(u32),
    Pack(Name),
    Index(Name),
    Session(Name),
    Snapshot(Name),
    Evicted(Name),
    Note(Name),
    Condemned(u32),
    /// What a pack can be mended with; it has the pack's name.
    Parity(Name),
    /// Second copies: byte for byte what the original holds.
    CopyOfConfig(u32),
    CopyOfKeys(u32),
    CopyOfSnapshot(Name),
    /// Room to spend when the disk is full.
    Reserve(u32),
    CopyOfCondemned(u32),
}

/// A folder of the repository, for listings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Folder {
    Config,
    Keys,
    Packs,
    Index,
    Sessions,
    Snapshots,
    Evicted,
    Notes,
    Condemned,
    Parity,
    Copies,
    Reserve,
}

impl Folder {
    pub const ALL: [Folder; 12] = [
        Folder::Config,
        Folder::Keys,
        Folder::Packs,
        Folder::Index,
        Folder::Sessions,
        Folder::Snapshots,
        Folder::Evicted,
        Folder::Notes,
        Folder::Condemned,
        Folder::Parity,
        Folder::Copies,
        Folder::Reserve,
    ];

    /// Whether a missing folder is an empty one: what it holds decides nothing that can lose data, and repositories
    /// made before there was such a folder lack it.
    pub fn is_optional(self) -> bool {
        matches!(self, Folder::Index | Folder::Parity | Folder::Copies | Folder::Reserve)
    }

    pub fn dir(self) -> &'static str {
        match self {
            Folder::Config => "config",
            Folder::Keys => "keys",
            Folder::Packs => "packs",
            Folder::Index => "index",
            Folder::Sessions => "sessions",
            Folder::Snapshots => "snapshots",
            Folder::Evicted => "evicted",
            Folder::Notes => "notes",
            Folder::Condemned => "condemned",
            Folder::Parity => "parity",
            Folder::Copies => "copies",
            Folder::Reserve => "reserve",
        }
    }

    /// The name of a file in this folder; `None` for names that are none of ours (temporaries, strangers).
    pub fn parse(self, name: &str) -> Option<FileName> {
        let number = || parse_number(name);
        let random = || parse_random(name);
        match self {
            Folder::Config => number().map(FileName::Config),
            Folder::Keys => number().map(FileName::Keys),
            Folder::Condemned => number().map(FileName::Condemned),
            Folder::Packs => random().map(FileName::Pack),
            Folder::Index => random().map(FileName::Index),
            Folder::Sessions => random().map(FileName::Session),
            Folder::Snapshots => random().map(FileName::Snapshot),
            Folder::Evicted => random().map(FileName::Evicted),
            Folder::Notes => random().map(FileName::Note),
            Folder::Parity => random().map(FileName::Parity),
            Folder::Reserve => number().map(FileName::Reserve),
            Folder::Copies => match name.split_once('-')? {
                ("config", n) => parse_number(n).map(FileName::CopyOfConfig),
                ("keys", n) => parse_number(n).map(FileName::CopyOfKeys),
                ("snapshot", n) => parse_random(n).map(FileName::CopyOfSnapshot),
                ("condemned", n) => parse_number(n).map(FileName::CopyOfCondemned),
                _ => None,
            },
        }
    }
}

fn parse_number(name: &str) -> Option<u32> {
    (name.len() == 8 && name.bytes().all(|b| b.is_ascii_digit())).then(|| name.parse().ok()).flatten()
}

fn parse_random(name: &str) -> Option<Name> {
    (name.len() == 2 * NAME_LEN).then(|| Name::parse(name).ok()).flatten()
}

impl FileName {
    pub fn folder(&self) -> Folder {
        match self {
            FileName::Config(_) => Folder::Config,
            FileName::Keys(_) => Folder::Keys,
            FileName::Pack(_) => Folder::Packs,
            FileName::Index(_) => Folder::Index,
            FileName::Session(_) => Folder::Sessions,
            FileName::Snapshot(_) => Folder::Snapshots,
            FileName::Evicted(_) => Folder::Evicted,
            FileName::Note(_) => Folder::Notes,
            FileName::Condemned(_) => Folder::Condemned,
            FileName::Parity(_) => Folder::Parity,
            FileName::Reserve(_) => Folder::Reserve,
            FileName::CopyOfConfig(_)
            | FileName::CopyOfKeys(_)
            | FileName::CopyOfSnapshot(_)
            | FileName::CopyOfCondemned(_) => Folder::Copies,
        }
    }

    /// Where the second copy of this file lies, for the files that have one.
    pub fn second_copy(&self) -> Option<FileName> {
        match self {
            FileName::Config(n) => Some(FileName::CopyOfConfig(*n)),
            FileName::Keys(n) => Some(FileName::CopyOfKeys(*n)),
            FileName::Snapshot(n) => Some(FileName::CopyOfSnapshot(*n)),
            FileName::Condemned(n) => Some(FileName::CopyOfCondemned(*n)),
            _ => None,
        }
    }

    /// What this file is the second copy of.
    pub fn original(&self) -> Option<FileName> {
        match self {
            FileName::CopyOfConfig(n) => Some(FileName::Config(*n)),
            FileName::CopyOfKeys(n) => Some(FileName::Keys(*n)),
            FileName::CopyOfSnapshot(n) => Some(FileName::Snapshot(*n)),
            FileName::CopyOfCondemned(n) => Some(FileName::Condemned(*n)),
            _ => None,
        }
    }

    pub fn kind(&self) -> FileKind {
        match self {
            FileName::Config(_) | FileName::CopyOfConfig(_) => FileKind::Config,
            FileName::Keys(_) | FileName::CopyOfKeys(_) => FileKind::Keys,
            FileName::Pack(_) => FileKind::Pack,
            FileName::Index(_) => FileKind::Index,
            FileName::Session(_)
            | FileName::Snapshot(_)
            | FileName::Evicted(_)
            | FileName::CopyOfSnapshot(_) => FileKind::Session,
            FileName::Note(_) => FileKind::Note,
            FileName::Condemned(_) | FileName::CopyOfCondemned(_) => FileKind::Condemned,
            FileName::Parity(_) => FileKind::Parity,
            FileName::Reserve(_) => FileKind::Reserve,
        }
    }

    /// The 16 bytes that stand for this name in the file's own header: the random name, or the number.
    pub fn header_name(&self) -> Name {
        match self {
            FileName::Config(n)
            | FileName::Keys(n)
            | FileName::Condemned(n)
            | FileName::Reserve(n)
            | FileName::CopyOfConfig(n)
            | FileName::CopyOfKeys(n)
            | FileName::CopyOfCondemned(n) => {
                let mut bytes = [0; NAME_LEN];
                bytes[..4].copy_from_slice(&n.to_le_bytes());
                Name(bytes)
            }
            FileName::Pack(n)
            | FileName::Index(n)
            | FileName::Session(n)
            | FileName::Snapshot(n)
            | FileName::Evicted(n)
            | FileName::Note(n)
            | FileName::Parity(n)
            | FileName::CopyOfSnapshot(n) => *n,
        }
    }

    /// The path below the repository: `packs/3f/3f…`, `config/00000001`, `snapshots/…`.
    pub fn path(&self) -> String {
        let dir = self.folder().dir();
        match self {
            FileName::Config(n) | FileName::Keys(n) | FileName::Condemned(n) | FileName::Reserve(n) => {
                format!("{dir}/{n:08}")
            }
            FileName::Pack(n) => format!("{dir}/{}/{n}", hex(&n.0[..1])),
            FileName::CopyOfConfig(n) => format!("{dir}/config-{n:08}"),
            FileName::CopyOfKeys(n) => format!("{dir}/keys-{n:08}"),
            FileName::CopyOfSnapshot(n) => format!("{dir}/snapshot-{n}"),
            FileName::CopyOfCondemned(n) => format!("{dir}/condemned-{n:08}"),
            _ => format!("{dir}/{}", self.header_name()),
        }
    }
}

impl std::fmt::Display for FileName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.path())
    }
}

/// The header of a stored file (chapter 1).
pub fn encode_header(name: &FileName, repository: &Name) -> [u8; HEADER_LEN] {
    let mut out = [0; HEADER_LEN];
    out[..8].copy_from_slice(MAGIC);
    out[8] = FORMAT_VERSION;
    out[9] = name.kind() as u8;
    out[10..12].copy_from_slice(&FEATURES_REQUIRED.to_le_bytes());
    out[16..32].copy_from_slice(&repository.0);
    out[32..48].copy_from_slice(&name.header_name().0);
    out
}

/// Checks every byte of a stored file's header; `repository` is `None` while it is not known yet (config).
pub fn decode_header(bytes: &[u8], name: &FileName, repository: Option<&Name>) -> Result<Name> {
    let header = bytes.get(..HEADER_LEN).ok_or_else(|| Error::corrupt(format!("{name} is too short")))?;
    if &header[..8] != MAGIC {
        return Err(Error::corrupt(format!("{name} does not begin as a snapkeep file does")));
    }
    let version = header[8];
    let required = u16::from_le_bytes([header[10], header[11]]);
    if version > FORMAT_VERSION || (version == FORMAT_VERSION && required & !FEATURES_REQUIRED != 0) {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("{name} was written by a newer snapkeep (format {version}); update this program"),
        ));
    }
    if version == 0 || header[9] != name.kind() as u8 || header[12..16] != [0; 4] {
        return Err(Error::corrupt(format!("{name} has a damaged header")));
    }
    let owner = Name::from_slice(&header[16..32]).unwrap_or(Name([0; NAME_LEN]));
    if repository.is_some_and(|r| *r != owner) {
        return Err(Error::corrupt(format!("{name} belongs to another repository")));
    }
    if header[32..48] != name.header_name().0 {
        return Err(Error::corrupt(format!("{name} carries another file's name")));
    }
    Ok(owner)
}
