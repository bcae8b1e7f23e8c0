//! A disk in memory that crashes, fails, fills up and waits when it is told to: what the local backend is tried on.

mod volume;

pub use volume::{BLOCK, Effect, Fate, Node, Step, Volume};

use super::{Disk, DiskFile, Kind, Line, Stat};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{Result, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use volume::blocks_of;

/// One of the calls of the seam.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Act {
    Stat,
    List,
    MakeDir,
    SyncDir,
    Open,
    CreateNameless,
    CreateNew,
    Link,
    LinkAgain,
    RenameNew,
    Rename,
    Remove,
    Size,
    ReadAt,
    Write,
    Sync,
    SetMode,
    TryLock,
}

/// A call that is about to happen.
#[derive(Clone, Debug)]
pub struct Call {
    /// Who calls: the number given to `SimulatedDisk::actor`.
    pub actor: usize,
    pub act: Act,
    /// The path of the call, or the one its file was opened by.
    pub path: PathBuf,
}

/// How a call is to go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing happens but this error.
    Refused(Errno),
    /// It happens, and yet this error is returned.
    Unheard(Errno),
    /// Only so much: bytes of a read or write, which is no error; lines of a list, and then an error.
    Short(usize),
    /// A list cannot tell what this line of it is.
    Unseen(usize),
    /// A read returns this bit of its bytes wrong.
    Flipped(usize),
    /// A sync fails, and what it should have written is taken for written from now on.
    Forsaken,
}

/// Decides what becomes of each call. It may wait before it answers: that is how calls are put in an order.
pub trait Conductor: Send + Sync {
    fn before(&self, call: &Call) -> Option<Fault>;
}

/// What this disk's file system can do.
#[derive(Clone, Copy, Debug)]
pub struct Features {
    pub nameless_files: bool,
    pub rename_new: bool,
    pub locks: bool,
    /// It lies on another machine.
    pub remote: bool,
}

impl Features {
    pub const ALL: Features = Features { nameless_files: true, rename_new: true, locks: true, remote: false };
    /// All, on another machine.
    pub const REMOTE: Features = Features { remote: true, ..Features::ALL };
    /// Locks, but neither files without names nor renames that replace nothing.
    pub const LOCKS: Features = Features { nameless_files: false, rename_new: false, ..Features::ALL };
    pub const NONE: Features = Features { locks: false, ..Features::LOCKS };
}

/// A call that was made, and what it did.
#[derive(Clone, Debug)]
pub struct Event {
    pub call: Call,
    pub steps: Vec<Step>,
}

struct Inner {
    volume: Volume,
    features: Features,
    /// Most blocks in use.
    blocks_max: Option<u64>,
    /// Open handles by node.
    open: BTreeMap<Node, usize>,
    /// The handle that has a node's lock.
    locks: BTreeMap<Node, u64>,
    handles: u64,
    events: Option<Vec<Event>>,
}

/// The disk; clones are the same one.
#[derive(Clone)]
pub struct SimulatedDisk {
    inner: Arc<Mutex<Inner>>,
    conductor: Option<Arc<dyn Conductor>>,
    actor: usize,
}

impl SimulatedDisk {
    pub fn new(volume: Volume, features: Features) -> Self {
        let inner = Inner {
            volume,
            features,
            blocks_max: None,
            open: BTreeMap::new(),
            locks: BTreeMap::new(),
            handles: 0,
            events: None,
        };
        SimulatedDisk { inner: Arc::new(Mutex::new(inner)), conductor: None, actor: 0 }
    }

    /// The same disk, on which every call is decided by `conductor`.
    #[must_use]
    pub fn conducted(&self, conductor: Arc<dyn Conductor>) -> Self {
        SimulatedDisk { conductor: Some(conductor), ..self.clone() }
    }

    /// The same disk as another one who calls.
    #[must_use]
    pub fn actor(&self, actor: usize) -> Self {
        SimulatedDisk { actor, ..self.clone() }
    }

    /// What it holds now.
    pub fn volume(&self) -> Volume {
        self.lock().volume.clone()
    }

    pub fn features(&self) -> Features {
        self.lock().features
    }

    pub fn set_blocks_max(&self, max: Option<u64>) {
        self.lock().blocks_max = max;
    }

    pub fn blocks(&self) -> u64 {
        self.lock().blocks()
    }

    /// From now on every call is kept.
    pub fn record(&self) {
        self.lock().events = Some(Vec::new());
    }

    /// Calls kept so far.
    pub fn recorded(&self) -> usize {
        self.lock().events.as_ref().map_or(0, Vec::len)
    }

    /// The calls kept; none is kept from now on.
    pub fn take_events(&self) -> Vec<Event> {
        self.lock().events.take().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a call: asks the conductor, then does it or lets it fail.
    fn call<T>(
        &self,
        act: Act,
        path: &Path,
        work: impl FnOnce(&mut Inner, Option<Fault>) -> Result<(T, Vec<Step>)>,
    ) -> Result<T> {
        let call = Call { actor: self.actor, act, path: path.to_path_buf() };
        let fault = self.conductor.as_ref().and_then(|conductor| conductor.before(&call));
        let mut inner = self.lock();
        let done = match fault {
            Some(Fault::Refused(errno)) => Err(errno.into()),
            _ => work(&mut inner, fault),
        };
        let (answer, steps) = match done {
            Ok((answer, steps)) => (Ok(answer), steps),
            Err(e) => (Err(e), Vec::new()),
        };
        for step in &steps {
            inner.volume.step(step);
        }
        if let Some(events) = &mut inner.events {
            events.push(Event { call, steps });
        }
        // An answer that nobody hears is closed, which locks again.
        drop(inner);
        match fault {
            Some(Fault::Unheard(errno)) => answer.and(Err(errno.into())),
            _ => answer,
        }
    }

    fn handle(&self, inner: &mut Inner, node: Node, path: &Path) -> SimulatedFile {
        *inner.open.entry(node).or_insert(0) += 1;
        inner.handles += 1;
        let (disk, id) = (self.clone(), inner.handles);
        SimulatedFile { disk, path: path.to_path_buf(), node, id, end: 0 }
    }
}

impl Inner {
    fn blocks(&self) -> u64 {
        self.volume.blocks(self.open.keys().copied())
    }

    /// Whether so many more blocks may be used.
    fn room(&self, more: u64) -> Result<()> {
        match self.blocks_max {
            Some(max) if self.blocks() + more > max => Err(Errno::NOSPC.into()),
            _ => Ok(()),
        }
    }

    /// The step that gives a node a name nothing has.
    fn name_new(&self, path: &Path, node: Node) -> Result<Step> {
        match self.volume.place(path)? {
            (_, _, Some(_)) => Err(Errno::EXIST.into()),
            (dir, name, None) => Ok(name_step(dir, name, Some(node))),
        }
    }

    /// The steps of a rename of what has a name already.
    fn moved(&self, from: &Path, to: &Path) -> Result<Vec<Step>> {
        let (from_dir, from_name, node) = self.volume.place(from)?;
        let node = node.ok_or(Errno::NOENT)?;
        let (to_dir, to_name, replaced) = self.volume.place(to)?;
        if replaced == Some(node) {
            return Ok(Vec::new());
        }
        Ok(vec![name_step(to_dir, to_name, Some(node)), name_step(from_dir, from_name, None)])
    }

    fn needs(&self, feature: bool, otherwise: Errno) -> Result<()> {
        if feature { Ok(()) } else { Err(otherwise.into()) }
    }

    fn stat(&self, node: Node) -> Stat {
        Stat { kind: self.volume.kind(node), size: self.volume.bytes(node).len() as u64 }
    }
}

fn name_step(dir: Node, name: &OsStr, to: Option<Node>) -> Step {
    Step::Change(Effect::Name { dir, name: name.to_os_string(), to })
}

fn sync_step(node: Node, fault: Option<Fault>) -> Vec<Step> {
    vec![if fault == Some(Fault::Forsaken) { Step::Forsake(node) } else { Step::Sync(node) }]
}

/// A sync that forsakes has done its work and says so.
fn heard(done: Result<()>, fault: Option<Fault>) -> Result<()> {
    if fault == Some(Fault::Forsaken) { done.and(Err(Errno::IO.into())) } else { done }
}

impl Disk for SimulatedDisk {
    type File = SimulatedFile;
    type Lines = std::vec::IntoIter<Result<Line>>;

    fn stat(&self, path: &Path) -> Result<Stat> {
        self.call(Act::Stat, path, |inner, _| Ok((inner.stat(inner.volume.find(path)?), Vec::new())))
    }

    fn list(&self, dir: &Path) -> Result<Self::Lines> {
        self.call(Act::List, dir, |inner, fault| {
            let names = inner.volume.names(inner.volume.find(dir)?)?;
            let line = |(name, node): (&std::ffi::OsString, &Node)| Ok((name.clone(), Ok(inner.stat(*node))));
            let mut lines: Vec<Result<Line>> = names.iter().map(line).collect();
            match fault {
                Some(Fault::Short(len)) => {
                    lines.truncate(len);
                    lines.push(Err(Errno::IO.into()));
                }
                Some(Fault::Unseen(n)) => {
                    if let Some(Ok((_, stat))) = lines.get_mut(n) {
                        *stat = Err(Errno::IO.into());
                    }
                }
                _ => {}
            }
            Ok((lines.into_iter(), Vec::new()))
        })
    }

    fn make_dir(&self, path: &Path, _: u32) -> Result<()> {
        self.call(Act::MakeDir, path, |inner, _| {
            let name = inner.name_new(path, inner.volume.next_node())?;
            inner.room(1)?;
            Ok(((), vec![Step::Make(Kind::Directory), name]))
        })
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        let mut met = None;
        let done = self.call(Act::SyncDir, dir, |inner, fault| {
            met = fault;
            let node = inner.volume.find(dir)?;
            inner.volume.names(node)?;
            Ok(((), sync_step(node, fault)))
        });
        heard(done, met)
    }

    fn open(&self, path: &Path) -> Result<SimulatedFile> {
        self.call(Act::Open, path, |inner, _| {
            let node = inner.volume.find(path)?;
            Ok((self.handle(inner, node, path), Vec::new()))
        })
    }

    fn create_nameless(&self, dir: &Path, _: u32) -> Result<SimulatedFile> {
        self.call(Act::CreateNameless, dir, |inner, _| {
            inner.needs(inner.features.nameless_files, Errno::OPNOTSUPP)?;
            inner.volume.names(inner.volume.find(dir)?)?;
            inner.room(1)?;
            let node = inner.volume.next_node();
            Ok((self.handle(inner, node, dir), vec![Step::Make(Kind::File)]))
        })
    }

    fn create_new(&self, path: &Path, _: u32) -> Result<SimulatedFile> {
        self.call(Act::CreateNew, path, |inner, _| {
            let node = inner.volume.next_node();
            let name = inner.name_new(path, node)?;
            inner.room(1)?;
            Ok((self.handle(inner, node, path), vec![Step::Make(Kind::File), name]))
        })
    }

    fn link(&self, file: &SimulatedFile, to: &Path) -> Result<()> {
        self.call(Act::Link, to, |inner, _| {
            let name = inner.name_new(to, file.node)?;
            inner.room(1)?;
            Ok(((), vec![name]))
        })
    }

    fn link_again(&self, from: &Path, to: &Path) -> Result<()> {
        self.call(Act::LinkAgain, to, |inner, _| {
            let name = inner.name_new(to, inner.volume.find(from)?)?;
            inner.room(1)?;
            Ok(((), vec![name]))
        })
    }

    fn rename_new(&self, from: &Path, to: &Path) -> Result<()> {
        self.call(Act::RenameNew, to, |inner, _| {
            inner.needs(inner.features.rename_new, Errno::INVAL)?;
            let steps = inner.moved(from, to)?;
            if inner.volume.place(to)?.2.is_some() {
                return Err(Errno::EXIST.into());
            }
            inner.room(1)?;
            Ok(((), steps))
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.call(Act::Rename, to, |inner, _| {
            let steps = inner.moved(from, to)?;
            inner.room(1)?;
            Ok(((), steps))
        })
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.call(Act::Remove, path, |inner, _| {
            let (dir, name, node) = inner.volume.place(path)?;
            let node = node.ok_or(Errno::NOENT)?;
            if inner.volume.kind(node) == Kind::Directory {
                return Err(Errno::ISDIR.into());
            }
            Ok(((), vec![name_step(dir, name, None)]))
        })
    }

    fn is_remote(&self, _: &Path) -> bool {
        self.features().remote
    }
}

/// An open file of a simulated disk.
pub struct SimulatedFile {
    disk: SimulatedDisk,
    path: PathBuf,
    node: Node,
    id: u64,
    /// Where this handle writes next.
    end: usize,
}

impl Drop for SimulatedFile {
    fn drop(&mut self) {
        let mut inner = self.disk.lock();
        if inner.locks.get(&self.node) == Some(&self.id) {
            inner.locks.remove(&self.node);
        }
        if let Some(n) = inner.open.get_mut(&self.node) {
            *n -= 1;
            if *n == 0 {
                inner.open.remove(&self.node);
            }
        }
    }
}

impl Write for SimulatedFile {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let (node, at) = (self.node, self.end);
        let written = self.disk.call(Act::Write, &self.path, |inner, fault| {
            let len = if let Some(Fault::Short(len)) = fault { len.min(bytes.len()) } else { bytes.len() };
            let old = inner.volume.bytes(node).len();
            inner.room(blocks_of(old.max(at + len)) - blocks_of(old))?;
            let bytes = bytes[..len].into();
            Ok((len, vec![Step::Change(Effect::Bytes { file: node, at, bytes })]))
        })?;
        self.end += written;
        Ok(written)
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

impl DiskFile for SimulatedFile {
    fn size(&self) -> Result<u64> {
        let size = |inner: &mut Inner| inner.volume.bytes(self.node).len() as u64;
        self.disk.call(Act::Size, &self.path, |inner, _| Ok((size(inner), Vec::new())))
    }

    fn read_at(&self, out: &mut [u8], offset: u64) -> Result<usize> {
        self.disk.call(Act::ReadAt, &self.path, |inner, fault| {
            let bytes = inner.volume.bytes(self.node);
            let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
            let mut len = out.len().min(bytes.len() - start);
            if let Some(Fault::Short(max)) = fault {
                len = len.min(max);
            }
            out[..len].copy_from_slice(&bytes[start..start + len]);
            if let Some(Fault::Flipped(bit)) = fault
                && len > 0
            {
                out[bit / 8 % len] ^= 1 << (bit % 8);
            }
            Ok((len, Vec::new()))
        })
    }

    fn sync(&self) -> Result<()> {
        let mut met = None;
        let done = self.disk.call(Act::Sync, &self.path, |_, fault| {
            met = fault;
            Ok(((), sync_step(self.node, fault)))
        });
        heard(done, met)
    }

    fn set_mode(&self, _: u32) -> Result<()> {
        self.disk.call(Act::SetMode, &self.path, |_, _| Ok(((), Vec::new())))
    }

    fn try_lock(&self) -> Result<bool> {
        self.disk.call(Act::TryLock, &self.path, |inner, _| {
            inner.needs(inner.features.locks, Errno::OPNOTSUPP)?;
            let holder = *inner.locks.entry(self.node).or_insert(self.id);
            Ok((holder == self.id, Vec::new()))
        })
    }
}
