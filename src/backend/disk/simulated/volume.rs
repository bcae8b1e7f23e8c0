//! What a simulated disk holds: what programs see, what is durable, and what is on its way from the one to the other.
//!
//! Only two things make anything durable: syncing a file makes its content durable, syncing a directory the names in
//! it. Nothing else orders anything. A name may become durable before the content of its file or the directory it
//! stands in, a rename into another directory may happen by half, of two writes the second alone may survive.

use super::super::Kind;
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Result;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// A file or directory, whatever its names; never used again.
pub type Node = usize;

/// The directory all paths begin at.
const ROOT: Node = 0;

#[derive(Clone, Debug)]
enum Held {
    File(Vec<u8>),
    Directory(BTreeMap<OsString, Node>),
}

impl Held {
    fn empty(kind: Kind) -> Held {
        if kind == Kind::Directory { Held::Directory(BTreeMap::new()) } else { Held::File(Vec::new()) }
    }
}

/// One change that the disk may make durable, or not, whatever becomes of the others.
#[derive(Clone, Debug)]
pub enum Effect {
    /// A name in a directory leads to another node, or to nothing.
    Name { dir: Node, name: OsString, to: Option<Node> },
    /// Bytes of a file.
    Bytes { file: Node, at: usize, bytes: Arc<[u8]> },
}

impl Effect {
    fn of(&self) -> Node {
        match self {
            Effect::Name { dir, .. } => *dir,
            Effect::Bytes { file, .. } => *file,
        }
    }
}

/// What a crash makes of an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    Lost,
    Kept,
    /// Of bytes only so many, of a name as if it were kept.
    Torn(usize),
    /// The file has its length but zeros instead of the bytes.
    Zeros,
}

/// What a call does to a volume.
#[derive(Clone, Debug)]
pub enum Step {
    /// A new node, under the next number.
    Make(Kind),
    Change(Effect),
    /// What is pending of this node is durable from now on.
    Sync(Node),
    /// What is pending of this node will never be durable, though programs go on seeing it: a failed sync.
    Forsake(Node),
}

/// All nodes of a state by number.
#[derive(Clone, Debug)]
struct Nodes(Vec<Arc<Held>>);

impl Nodes {
    fn apply(&mut self, effect: &Effect, fate: Fate) {
        let Some(held) = self.0.get_mut(effect.of()).map(Arc::make_mut) else { return };
        match (effect, held) {
            (Effect::Name { name, to: Some(to), .. }, Held::Directory(names)) if fate != Fate::Lost => {
                names.insert(name.clone(), *to);
            }
            (Effect::Name { name, to: None, .. }, Held::Directory(names)) if fate != Fate::Lost => {
                names.remove(name);
            }
            (Effect::Bytes { at, bytes, .. }, Held::File(content)) if fate != Fate::Lost => {
                let len = if let Fate::Torn(len) = fate { len.min(bytes.len()) } else { bytes.len() };
                content.resize(content.len().max(at + len), 0);
                if fate != Fate::Zeros {
                    content[*at..at + len].copy_from_slice(&bytes[..len]);
                }
            }
            _ => {}
        }
    }

    fn names(&self, dir: Node) -> Result<&BTreeMap<OsString, Node>> {
        match self.0.get(dir).map(Arc::as_ref) {
            Some(Held::Directory(names)) => Ok(names),
            Some(Held::File(_)) => Err(Errno::NOTDIR.into()),
            None => Err(Errno::NOENT.into()),
        }
    }

    /// Every node with a name, parents first.
    fn reachable(&self) -> Vec<(PathBuf, Node)> {
        let (mut found, mut next) = (vec![(PathBuf::from("/"), ROOT)], 0);
        while let Some((path, node)) = found.get(next).cloned() {
            let inside = self.names(node).into_iter().flatten();
            found.extend(inside.map(|(name, to)| (path.join(name), *to)));
            next += 1;
        }
        found
    }
}

/// A whole disk. Clones are cheap and independent.
#[derive(Clone, Debug)]
pub struct Volume {
    seen: Nodes,
    durable: Nodes,
    pending: Vec<Effect>,
}

impl Default for Volume {
    fn default() -> Self {
        let root = Nodes(vec![Arc::new(Held::empty(Kind::Directory))]);
        Volume { seen: root.clone(), durable: root, pending: Vec::new() }
    }
}

impl Volume {
    pub fn step(&mut self, step: &Step) {
        match step {
            Step::Make(kind) => {
                let held = Arc::new(Held::empty(*kind));
                self.seen.0.push(Arc::clone(&held));
                self.durable.0.push(held);
            }
            Step::Change(effect) => {
                self.seen.apply(effect, Fate::Kept);
                self.pending.push(effect.clone());
            }
            Step::Sync(node) => {
                for effect in self.pending.extract_if(.., |effect| effect.of() == *node) {
                    self.durable.apply(&effect, Fate::Kept);
                }
            }
            Step::Forsake(node) => self.pending.retain(|effect| effect.of() != *node),
        }
    }

    /// What a crash at this moment may lose, in the order it was done.
    pub fn pending(&self) -> &[Effect] {
        &self.pending
    }

    /// The disk after a crash that did this to each pending effect; what has no fate is lost.
    #[must_use]
    pub fn crashed(&self, fates: &[Fate]) -> Volume {
        let mut left = self.durable.clone();
        for (effect, fate) in self.pending.iter().zip(fates) {
            left.apply(effect, *fate);
        }
        Volume { seen: left.clone(), durable: left, pending: Vec::new() }
    }

    /// Equal for disks that programs cannot tell apart after a crash.
    pub fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash_below(ROOT, &mut hasher, &mut BTreeMap::new());
        hasher.finish()
    }

    /// `met` numbers the files: two names of one file are not the same as two equal files.
    fn hash_below(&self, node: Node, hasher: &mut DefaultHasher, met: &mut BTreeMap<Node, usize>) {
        match self.seen.0[node].as_ref() {
            Held::File(bytes) => {
                let known = met.len();
                let number = *met.entry(node).or_insert(known);
                number.hash(hasher);
                if number == known {
                    bytes.hash(hasher);
                }
            }
            Held::Directory(names) => {
                names.len().hash(hasher);
                for (name, below) in names {
                    name.hash(hasher);
                    self.hash_below(*below, hasher, met);
                }
            }
        }
    }

    pub fn next_node(&self) -> Node {
        self.seen.0.len()
    }

    pub fn find(&self, path: &Path) -> Result<Node> {
        let mut node = ROOT;
        for part in path.components() {
            match part {
                Component::Normal(name) => {
                    node = *self.seen.names(node)?.get(name).ok_or(Errno::NOENT)?;
                }
                Component::ParentDir | Component::Prefix(_) => return Err(Errno::INVAL.into()),
                Component::RootDir | Component::CurDir => {}
            }
        }
        Ok(node)
    }

    /// The directory a path lies in, which must be there, its last name, and what has that name.
    pub fn place<'p>(&self, path: &'p Path) -> Result<(Node, &'p OsStr, Option<Node>)> {
        let name = path.file_name().ok_or(Errno::INVAL)?;
        let dir = self.find(path.parent().unwrap_or(Path::new("/")))?;
        Ok((dir, name, self.seen.names(dir)?.get(name).copied()))
    }

    pub fn names(&self, dir: Node) -> Result<&BTreeMap<OsString, Node>> {
        self.seen.names(dir)
    }

    pub fn kind(&self, node: Node) -> Kind {
        match self.seen.0[node].as_ref() {
            Held::File(_) => Kind::File,
            Held::Directory(_) => Kind::Directory,
        }
    }

    /// A file's content; none of a directory.
    pub fn bytes(&self, node: Node) -> &[u8] {
        match self.seen.0[node].as_ref() {
            Held::File(bytes) => bytes,
            Held::Directory(_) => &[],
        }
    }

    /// Paths of all files.
    pub fn files(&self) -> Vec<PathBuf> {
        let found = self.seen.reachable().into_iter();
        found.filter(|(_, node)| self.kind(*node) == Kind::File).map(|(path, _)| path).collect()
    }

    /// Blocks in use by everything that has a name, or stands in `open`: one for each node and those of its bytes.
    pub fn blocks(&self, open: impl Iterator<Item = Node>) -> u64 {
        let mut nodes: BTreeSet<Node> = self.seen.reachable().into_iter().map(|(_, node)| node).collect();
        nodes.extend(open);
        nodes.into_iter().map(|node| 1 + blocks_of(self.bytes(node).len())).sum()
    }
}

/// Bytes of one block.
pub const BLOCK: usize = 4096;

pub fn blocks_of(len: usize) -> u64 {
    len.div_ceil(BLOCK) as u64
}
