//! Snapshots made from a map in memory, without files, chunker or backup: what comparing and copying are tested on.

use snapkeep::backend::Backend;
use snapkeep::backend::memory::MemoryBackend;
use snapkeep::clock::Timestamp;
use snapkeep::compress::Level;
use snapkeep::crypto::ChunkSort;
use snapkeep::crypto::hash;
use snapkeep::crypto::password::Password;
use snapkeep::error::Result;
use snapkeep::format::entry::{Content, Entry, Extent, Flags, Kind, Metadata, Owner, Stat, path_order};
use snapkeep::format::snapshot::{SessionInfo, Snapshot};
use snapkeep::id::{ChunkId, SnapshotId, hex};
use snapkeep::manifest::build::Builder;
use snapkeep::manifest::content;
use snapkeep::manifest::walk::{Groups, Walk};
use snapkeep::repository::keys::SlotOwner;
use snapkeep::repository::reader::Reader;
use snapkeep::repository::snapshots::{self, Listed};
use snapkeep::repository::writer::{DeltaPolicy, Writer};
use snapkeep::repository::{NewRepository, Repository, create};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes of one chunk; a longer file has several, cut at fixed places.
pub const CUT: usize = 3000;

/// What stands at a path.
#[derive(Clone, Debug, PartialEq)]
pub struct Thing {
    pub kind: Kind,
    pub bytes: Vec<u8>,
    pub mtime: i64,
    pub mode: u32,
}

pub type Tree = BTreeMap<String, Thing>;

pub fn file(bytes: impl Into<Vec<u8>>, mtime: i64) -> Thing {
    Thing { kind: Kind::File, bytes: bytes.into(), mtime, mode: 0o644 }
}

pub fn dir(mtime: i64) -> Thing {
    Thing { kind: Kind::Directory, bytes: Vec::new(), mtime, mode: 0o755 }
}

pub fn link(target: &str, mtime: i64) -> Thing {
    Thing { kind: Kind::Symlink(target.into()), bytes: Vec::new(), mtime, mode: 0o777 }
}

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// Bytes that do not compress.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

pub fn repository(backend: &MemoryBackend, password: Option<&str>) -> Arc<Repository> {
    Arc::new(try_repository(Arc::new(backend.clone()), password).expect("a repository"))
}

/// A new repository in any place.
pub fn try_repository(backend: Arc<dyn Backend>, password: Option<&str>) -> Result<Repository> {
    let password = password.map(|p| Password::new(p.as_bytes().to_vec()).expect("a password"));
    let owner = SlotOwner { host: "h".into(), user: "u".into(), label: String::new() };
    let now = Timestamp { secs: 1_000_000, nanos: 0 };
    let new = NewRepository { password: password.as_ref(), owner, group_readable: false, like: None, now };
    create(backend, &new)
}

pub fn empty() -> (MemoryBackend, Arc<Repository>) {
    let backend = MemoryBackend::new();
    let repository = repository(&backend, None);
    (backend, repository)
}

/// Commits `tree`; changed chunks are stored against the same place of `parent`.
pub fn commit(repository: &Arc<Repository>, tree: &Tree, time: i64, parent: Option<&Listed>) -> Listed {
    commit_changed(repository, tree, time, parent, &|_| {})
}

/// The same with a last change to each entry, for manifests that no backup would make.
pub fn commit_changed(
    repository: &Arc<Repository>,
    tree: &Tree,
    time: i64,
    parent: Option<&Listed>,
    change: &dyn Fn(&mut Entry),
) -> Listed {
    let id = try_commit(repository, tree, time, parent, change).expect("committed");
    snapshots::read(repository, id).expect("the snapshot")
}

/// The same where stores may fail: an error unless the commit was reported.
pub fn try_commit(
    repository: &Arc<Repository>,
    tree: &Tree,
    time: i64,
    parent: Option<&Listed>,
    change: &dyn Fn(&mut Entry),
) -> Result<SnapshotId> {
    commit_in(session(repository)?, tree, time, parent, change)
}

pub fn session(repository: &Arc<Repository>) -> Result<Writer> {
    Writer::open(repository, Level::FASTEST, &SessionInfo::default())
}

/// The same in a session that is open already.
pub fn commit_in(
    mut writer: Writer,
    tree: &Tree,
    time: i64,
    parent: Option<&Listed>,
    change: &dyn Fn(&mut Entry),
) -> Result<SnapshotId> {
    let root = match store(&writer, tree, parent, change) {
        Ok(root) => root,
        // If not even what is under way can be stored, that is the cause of the rest.
        Err(e) => return Err(writer.flush().err().unwrap_or(e)),
    };
    let packed = writer.flush()?;
    let record = Snapshot {
        id: writer.session.to_string(),
        root: hex(&root.0),
        parent: parent.map(|p| p.id.to_string()),
        time: Timestamp { secs: time, nanos: 0 }.rfc3339(),
        order_time: time,
        sequence: parent.map_or(1, |p| p.record.sequence + 1),
        hostname: "host".into(),
        username: "ann".into(),
        paths: vec!["/home".into()],
        tags: vec!["nightly".into()],
        program_version: "test".into(),
        ..Snapshot::default()
    };
    writer.commit(&record, packed)
}

fn store(
    writer: &Writer,
    tree: &Tree,
    parent: Option<&Listed>,
    change: &dyn Fn(&mut Entry),
) -> Result<ChunkId> {
    let mut old: BTreeMap<Vec<u8>, Vec<Extent>> = BTreeMap::new();
    let mut groups = Groups::default();
    if let Some(parent) = parent {
        groups = Groups::load(&writer.reader, &parent.root)?;
        for entry in Walk::new(&writer.reader, &parent.root, b"")? {
            let entry = entry?;
            let extents = content::extents(&writer.reader, &entry.content)?;
            old.insert(entry.path, extents);
        }
    }
    let mut builder = Builder::new(writer, groups)?;
    let mut lane = writer.lane(ChunkSort::Content)?;
    let mut paths: Vec<&String> = tree.keys().collect();
    paths.sort_by(|a, b| path_order(a.as_bytes(), b.as_bytes()));
    let owner = Arc::new(Owner { uid: 7, gid: 8, user: "ann".into(), group: "ann".into() });
    for path in paths {
        let thing = &tree[path];
        let before = old.get(path.as_bytes()).map_or(&[][..], Vec::as_slice);
        let mut extents = Vec::new();
        for (i, chunk) in thing.bytes.chunks(CUT).enumerate() {
            let parents: Vec<ChunkId> = match before.get(i) {
                Some(Extent::Chunk { id, .. }) => vec![*id],
                _ => Vec::new(),
            };
            let id = lane.put(chunk, &parents, DeltaPolicy::CONTENT)?;
            extents.push(Extent::Chunk { id, len: chunk.len() as u32, repeat: 1 });
        }
        let hash = (extents.len() > 1).then(|| hash::plain(&thing.bytes));
        let content = Content { size: thing.bytes.len() as u64, extents, lists: Vec::new(), hash };
        let mtime = Timestamp { secs: thing.mtime, nanos: 5 };
        let meta = Metadata { mode: thing.mode, owner: Arc::clone(&owner), mtime, xattrs: None };
        let (path, kind) = (path.as_bytes().to_vec(), thing.kind.clone());
        let mut entry = Entry { path, kind, meta, flags: Flags::default(), link: 0, content };
        change(&mut entry);
        let racy = thing.mtime % 2 == 0;
        let stat = Stat { inode: thing.mtime as u64, ctime: mtime, racy, sound: thing.mtime % 3 == 0 };
        builder.push(entry, stat)?;
    }
    lane.finish()?;
    Ok(builder.finish()?.root)
}

/// Everything a snapshot holds, as a map again.
pub fn tree(reader: &Reader, root: &ChunkId) -> Tree {
    try_tree(reader, root).expect("a whole snapshot")
}

/// The same where stores may fail.
pub fn try_tree(reader: &Reader, root: &ChunkId) -> Result<Tree> {
    let mut tree = Tree::new();
    for entry in Walk::new(reader, root, b"")? {
        let entry = entry?;
        let mut bytes = Vec::new();
        let mut take = |data: &[u8]| {
            bytes.extend_from_slice(data);
            Ok(())
        };
        content::for_each_piece(reader, &entry.content, &mut take, &mut |_| panic!("no holes here"))?;
        if entry.content.hash.is_some() {
            assert_eq!(entry.content.hash, Some(hash::plain(&bytes)));
        }
        let path = String::from_utf8(entry.path).expect("utf-8");
        let (mtime, mode) = (entry.meta.mtime.secs, entry.meta.mode);
        tree.insert(path, Thing { kind: entry.kind, bytes, mtime, mode });
    }
    Ok(tree)
}

/// `files` files in directories below `home`, of 0 to 4 chunks each.
pub fn random_tree(random: &mut Random, files: usize) -> Tree {
    let mut tree = Tree::from([("home".to_owned(), dir(1))]);
    for i in 0..files {
        let (a, b) = (random.below(9), random.below(7));
        for path in [format!("home/d{a}"), format!("home/d{a}/e.{b}")] {
            tree.entry(path).or_insert_with(|| dir(2));
        }
        let len = if i % 50 == 0 { random.below(4 * CUT) } else { random.below(40) };
        tree.insert(format!("home/d{a}/e.{b}/f{i:05}"), file(random.bytes(len), 100 + i as i64));
    }
    tree
}

/// Changes about `changes` things: content, times, kinds, names.
pub fn edit(random: &mut Random, tree: &mut Tree, changes: usize, now: i64) {
    for n in 0..changes {
        let files: Vec<String> =
            tree.iter().filter(|(_, t)| t.kind == Kind::File).map(|(p, _)| p.clone()).collect();
        let path = files[random.below(files.len())].clone();
        let other = files[random.below(files.len())].clone();
        match n % 8 {
            0 => drop(tree.remove(&path)),
            1 => drop(tree.insert(format!("{path}.new"), file(random.bytes(50), now))),
            // A copy of a file that is there already.
            2 => {
                let copy = tree[&other].clone();
                tree.insert(format!("{path}.copy"), copy);
            }
            3 => tree.get_mut(&path).expect("there").mtime = now,
            4 => drop(tree.insert(path, link("elsewhere", now))),
            5 => {
                // Rot: the same size and time.
                let thing = tree.get_mut(&path).expect("there");
                if let Some(byte) = thing.bytes.first_mut() {
                    *byte ^= 1;
                }
            }
            6 => {
                // The same size at another time.
                let thing = tree.get_mut(&path).expect("there");
                thing.bytes.reverse();
                thing.mtime = now;
            }
            _ => {
                let thing = tree.get_mut(&path).expect("there");
                let at = random.below(thing.bytes.len() + 1);
                thing.bytes.insert(at, 7);
                thing.mtime = now;
            }
        }
    }
}
