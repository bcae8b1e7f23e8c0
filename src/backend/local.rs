//! A directory: write-once files made durable before they are named, and a rename as the fence.

use super::disk::killing::KillingDisk;
use super::disk::real::RealDisk;
use super::disk::{Disk, DiskFile, Kind};
use super::temporary::{self, Temporary, is_one_of};
use super::{Backend, FileStat, Pending, SessionFile};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::format::{FileName, Folder};
use crate::id::Name;
use rustix::io::Errno;
use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Open pack handles kept for reading.
const HANDLES_MAX: usize = 48;

/// A repository in a local directory.
pub struct LocalBackend<D: Disk = RealDisk> {
    disk: D,
    root: PathBuf,
    group_readable: bool,
    handles: Mutex<HashMap<FileName, Arc<D::File>>>,
}

fn sync_dir(disk: &impl Disk, path: &Path) -> Result<()> {
    disk.sync_dir(path).context(|| format!("cannot sync {}", path.display()))
}

impl LocalBackend {
    /// Makes the folders of a new repository, durably. The directory may exist if it is empty.
    pub fn create(root: &Path, group_readable: bool) -> Result<Self> {
        LocalBackend::create_on(RealDisk, root, group_readable)
    }

    /// A directory that should hold a repository.
    pub fn open(root: &Path) -> Result<Self> {
        LocalBackend::open_on(RealDisk, root)
    }
}

/// Makes the folders of a new repository in `root`, for a program that may have to die (`disk::killing`).
pub fn create(root: &Path, group_readable: bool) -> Result<Arc<dyn Backend>> {
    Ok(match KillingDisk::asked_for(root) {
        None => Arc::new(LocalBackend::create(root, group_readable)?),
        Some(disk) => Arc::new(LocalBackend::create_on(disk, root, group_readable)?),
    })
}

/// The repository in `root`, for a program that may have to die.
pub fn open(root: &Path, group_readable: bool) -> Result<Arc<dyn Backend>> {
    fn with<D: Disk>(backend: Result<LocalBackend<D>>, group_readable: bool) -> Result<Arc<dyn Backend>> {
        let mut backend = backend?;
        backend.set_group_readable(group_readable);
        Ok(Arc::new(backend))
    }
    match KillingDisk::asked_for(root) {
        None => with(LocalBackend::open(root), group_readable),
        Some(disk) => with(LocalBackend::open_on(disk, root), group_readable),
    }
}

impl<D: Disk> LocalBackend<D> {
    /// `create` on any disk.
    pub fn create_on(disk: D, root: &Path, group_readable: bool) -> Result<Self> {
        if is_occupied(&disk, root)? {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                format!("{} exists and is not empty", root.display()),
            ));
        }
        let mode = if group_readable { 0o750 } else { 0o700 };
        let make = |path: &Path| match disk.make_dir(path, mode) {
            // Left by a creation that was killed, or made by somebody else at this moment.
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            other => other.context(|| format!("cannot make {}", path.display())),
        };
        let mut missing = Vec::new();
        for path in root.ancestors().filter(|p| !p.as_os_str().is_empty()) {
            if disk.stat(path).is_ok() {
                break;
            }
            missing.push(path);
        }
        missing.iter().rev().try_for_each(|path| make(path))?;
        // The config's folder comes last, when all others are durable: where it is, nothing of a repository is missing.
        let config = root.join(Folder::Config.dir());
        for folder in Folder::ALL.into_iter().filter(|f| *f != Folder::Config) {
            make(&root.join(folder.dir()))?;
        }
        for shard in 0..=255u8 {
            make(&root.join(format!("packs/{shard:02x}")))?;
        }
        sync_dir(&disk, &root.join(Folder::Packs.dir()))?;
        sync_dir(&disk, root)?;
        make(&config)?;
        sync_dir(&disk, root)?;
        for path in missing {
            let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            sync_dir(&disk, parent)?;
        }
        Ok(LocalBackend::at(disk, root, group_readable))
    }

    /// `open` on any disk.
    pub fn open_on(disk: D, root: &Path) -> Result<Self> {
        match disk.stat(&root.join(Folder::Config.dir())) {
            Ok(stat) if stat.kind == Kind::Directory => Ok(LocalBackend::at(disk, root, false)),
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
                Err(Error::io(format!("cannot look into {}", root.display()), &e))
            }
            _ => {
                let why = if disk.stat(root).is_ok() { "holds no repository" } else { "does not exist" };
                Err(Error::new(ErrorKind::NotFound, format!("{} {why}", root.display())))
            }
        }
    }

    fn at(disk: D, root: &Path, group_readable: bool) -> Self {
        LocalBackend { disk, root: root.to_path_buf(), group_readable, handles: Mutex::default() }
    }

    /// New files become readable by the group, as the config asks.
    pub fn set_group_readable(&mut self, yes: bool) {
        self.group_readable = yes;
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, name: &FileName) -> PathBuf {
        self.root.join(name.path())
    }

    fn mode(&self) -> u32 {
        if self.group_readable { 0o440 } else { 0o400 }
    }

    fn handle(&self, name: &FileName) -> Result<Arc<D::File>> {
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = handles.get(name) {
            return Ok(Arc::clone(file));
        }
        let file = self.disk.open(&self.path(name)).context(|| format!("cannot open {name}"))?;
        let file = Arc::new(file);
        if handles.len() >= HANDLES_MAX {
            handles.clear();
        }
        handles.insert(*name, Arc::clone(&file));
        Ok(file)
    }

    /// The directory of a file that is to be written; one that old repositories lack is made, durably.
    fn dir_of(&self, name: &FileName) -> Result<PathBuf> {
        let dir = self.path(name).parent().map(Path::to_path_buf).unwrap_or_default();
        if !name.folder().is_optional() || self.disk.stat(&dir).is_ok() {
            return Ok(dir);
        }
        let mode = if self.group_readable { 0o750 } else { 0o700 };
        match self.disk.make_dir(&dir, mode) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            other => other.context(|| format!("cannot make {}", dir.display()))?,
        }
        sync_dir(&self.disk, &self.root)?;
        Ok(dir)
    }

    fn list_dir(&self, folder: Folder, dir: &Path, found: &mut Vec<FileStat>) -> Result<()> {
        let failed = || format!("cannot list {}", dir.display());
        let lines = match self.disk.list(dir) {
            // Made with the repository and never removed: without it nothing can be said about what it held.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && folder.is_optional() => return Ok(()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::corrupt(format!("the repository's folder {} is missing", dir.display())));
            }
            other => other.context(failed)?,
        };
        for line in lines {
            let (name, stat) = line.context(failed)?;
            let Some(name) = name.to_str().and_then(|n| folder.parse(n)) else { continue };
            match stat {
                Ok(stat) if stat.kind == Kind::File => found.push(FileStat { name, size: stat.size }),
                Ok(_) => {}
                // Removed or renamed between the two calls: as if listed a moment later.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(Error::io(failed(), &e)),
            }
        }
        Ok(())
    }
}

impl<D: Disk> Backend for LocalBackend<D> {
    fn create(&self, name: &FileName) -> Result<Box<dyn Pending>> {
        let path = self.path(name);
        let dir = self.dir_of(name)?;
        let (mut file, temporary) =
            temporary::open(&self.disk, &dir, self.mode()).context(|| format!("cannot write {name}"))?;
        if name.folder() == Folder::Packs {
            file.expect_much();
        }
        Ok(Box::new(LocalFile { name: *name, path, dir, file, temporary }))
    }

    fn read(&self, name: &FileName, max: u64) -> Result<Vec<u8>> {
        let file = self.disk.open(&self.path(name)).context(|| format!("cannot open {name}"))?;
        let size = file.size().context(|| format!("cannot read {name}"))?;
        if size > max {
            return Err(Error::corrupt(format!("{name} is larger than such a file can be")));
        }
        let mut bytes = vec![0; size as usize];
        file.read_exact_at(&mut bytes, 0).context(|| format!("cannot read {name}"))?;
        Ok(bytes)
    }

    fn read_range(&self, name: &FileName, offset: u64, len: usize) -> Result<Vec<u8>> {
        let file = self.handle(name)?;
        let mut bytes = vec![0; len];
        match file.read_exact_at(&mut bytes, offset) {
            Ok(()) => Ok(bytes),
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
                Err(Error::corrupt(format!("{name} is cut short")))
            }
            Err(e) => Err(Error::io(format!("cannot read {name}"), &e)),
        }
    }

    fn list(&self, folder: Folder) -> Result<Vec<FileStat>> {
        let dir = self.root.join(folder.dir());
        let mut found = Vec::new();
        if folder == Folder::Packs {
            for shard in 0..=255u8 {
                self.list_dir(folder, &dir.join(format!("{shard:02x}")), &mut found)?;
            }
        } else {
            self.list_dir(folder, &dir, &mut found)?;
        }
        Ok(found)
    }

    fn remove(&self, name: &FileName) -> Result<()> {
        let path = self.path(name);
        match self.disk.remove(&path) {
            Ok(()) => sync_dir(&self.disk, path.parent().unwrap_or(&self.root)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(Error::io(format!("cannot remove {name}"), &e)),
        }
    }

    fn mend(&self, name: &FileName, bytes: &[u8]) -> Result<()> {
        let failed = || format!("cannot put {name} right");
        let path = self.path(name);
        let dir = self.dir_of(name)?;
        // A file under a name of its own takes the place of the damaged one in one step.
        let (mut file, temporary) = temporary::open_named(&self.disk, &dir, self.mode()).context(failed)?;
        file.write_all(bytes).and_then(|()| file.set_mode(self.mode())).context(failed)?;
        file.sync().context(failed)?;
        temporary.rename(&path).context(failed)?;
        self.handles.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        sync_dir(&self.disk, &dir)
    }

    fn open_session(&self, session: Name, first: &[u8]) -> Result<Box<dyn SessionFile>> {
        let name = FileName::Session(session);
        let path = self.path(&name);
        let failed = || format!("cannot write {name}");
        let dir = self.root.join(Folder::Sessions.dir());
        let (file, temporary) = temporary::open(&self.disk, &dir, self.mode() | 0o200).context(failed)?;
        // The lock tells others on this machine that we live; it dies with us and survives a suspended laptop. It is
        // taken before the file has a name, so that nobody can find it unlocked. File systems without locks lose only
        // that hint.
        let _ = file.try_lock();
        let mut pending = LocalFile { name, path, dir: dir.clone(), file, temporary };
        pending.append(first)?;
        pending.file.sync().context(failed)?;
        pending.link().context(failed)?;
        sync_dir(&self.disk, &dir)?;
        let (disk, root) = (self.disk.clone(), self.root.clone());
        Ok(Box::new(LocalSession { disk, root, session, file: pending.file, mode: self.mode() }))
    }

    fn evict(&self, session: Name) -> Result<()> {
        let from = self.path(&FileName::Session(session));
        let to = self.path(&FileName::Evicted(session));
        let renamed = match rename_new(&self.disk, &from, &to) {
            // A crash left both names of an eviction: only the old one remains to be taken away.
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => self.disk.remove(&from),
            other => other,
        };
        renamed.context(|| format!("cannot evict session {session}"))?;
        sync_dir(&self.disk, &self.root.join(Folder::Sessions.dir()))?;
        sync_dir(&self.disk, &self.root.join(Folder::Evicted.dir()))
    }

    fn session_alive(&self, session: Name) -> Option<bool> {
        let file = self.disk.open(&self.path(&FileName::Session(session))).ok()?;
        file.try_lock().ok().map(|free| !free)
    }

    fn sync_seen(&self) -> Result<()> {
        for shard in 0..=255u8 {
            sync_dir(&self.disk, &self.root.join(format!("packs/{shard:02x}")))?;
        }
        for folder in [Folder::Snapshots, Folder::Sessions, Folder::Evicted, Folder::Condemned] {
            sync_dir(&self.disk, &self.root.join(folder.dir()))?;
        }
        Ok(())
    }

    fn unfinished(&self) -> Result<Vec<PathBuf>> {
        temporary::list(&self.disk, &self.root)
    }

    fn remove_unfinished(&self, path: &Path) -> bool {
        temporary::remove_if_nobodys(&self.disk, path)
    }

    fn requests_are_slow(&self) -> bool {
        self.disk.is_remote(&self.root)
    }

    fn location(&self) -> String {
        self.root.display().to_string()
    }
}

/// Whether a new repository must not be made here. What a creation left that was killed before it wrote the config
/// (our empty folders, unfinished files, a key record and its copy) is no obstacle.
fn is_occupied(disk: &impl Disk, root: &Path) -> Result<bool> {
    let failed = || format!("cannot use {}", root.display());
    let lines = match disk.list(root) {
        Ok(lines) => lines,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(Error::io(failed(), &e)),
    };
    for line in lines {
        let (name, stat) = line.context(failed)?;
        let folder = Folder::ALL.into_iter().find(|f| name == f.dir());
        let is_dir = stat.context(failed)?.kind == Kind::Directory;
        let Some(folder) = folder.filter(|_| is_dir) else { return Ok(true) };
        for inside in disk.list(&root.join(&name)).context(failed)? {
            let (inside, stat) = inside.context(failed)?;
            if temporary::is_temporary(&inside) {
                continue;
            }
            let empty_shard = folder == Folder::Packs
                && stat.context(failed)?.kind == Kind::Directory
                && disk.list(&root.join(&name).join(&inside)).context(failed)?.next().is_none();
            let key = match folder {
                Folder::Keys => true,
                Folder::Copies => inside.as_encoded_bytes().starts_with(b"keys-"),
                _ => false,
            };
            if !key && !empty_shard {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Renames where nothing has the new name. All our names are random and one owner's alone, so where the file system
/// cannot promise that, looking first is enough.
fn rename_new(disk: &impl Disk, from: &Path, to: &Path) -> std::io::Result<()> {
    match disk.rename_new(from, to) {
        Err(e) if is_one_of(&e, &[Errno::INVAL, Errno::NOSYS]) => match disk.stat(to) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => disk.rename(from, to),
            Ok(_) => Err(std::io::ErrorKind::AlreadyExists.into()),
            Err(e) => Err(e),
        },
        other => other,
    }
}

struct LocalFile<D: Disk> {
    name: FileName,
    path: PathBuf,
    dir: PathBuf,
    file: D::File,
    temporary: Temporary<D>,
}

impl<D: Disk> LocalFile<D> {
    fn link(&mut self) -> std::io::Result<()> {
        let Temporary { disk, path } = &mut self.temporary;
        match path {
            Some(temporary) => {
                disk.link_again(temporary, &self.path)?;
                disk.remove(temporary)?;
                *path = None;
                Ok(())
            }
            None => disk.link(&self.file, &self.path),
        }
    }
}

impl<D: Disk> Pending for LocalFile<D> {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).context(|| format!("cannot write {}", self.name))
    }

    fn publish(mut self: Box<Self>) -> Result<()> {
        // A failed fsync is final for this file: the kernel may have dropped the pages and call them clean.
        let written = self.file.flush().and_then(|()| self.file.sync());
        written.context(|| format!("cannot write {} to disk", self.name))?;
        self.link().context(|| format!("cannot name {}", self.name))?;
        sync_dir(&self.temporary.disk, &self.dir)
    }
}

struct LocalSession<D: Disk> {
    disk: D,
    root: PathBuf,
    session: Name,
    file: D::File,
    mode: u32,
}

impl<D: Disk> LocalSession<D> {
    fn from(&self) -> PathBuf {
        self.root.join(FileName::Session(self.session).path())
    }
}

impl<D: Disk> SessionFile for LocalSession<D> {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let failed = || format!("cannot write session {}", self.session);
        self.file.write_all(bytes).context(failed)?;
        self.file.sync().context(failed)
    }

    fn commit(self: Box<Self>) -> Result<()> {
        let failed = || format!("cannot commit snapshot {}", self.session);
        self.file.set_mode(self.mode).context(failed)?;
        self.file.sync().context(failed)?;
        let (from, to) = (self.from(), self.root.join(FileName::Snapshot(self.session).path()));
        match rename_new(&self.disk, &from, &to) {
            Ok(()) => {}
            // A lost reply of a network file system looks alike: the rename may have happened.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && self.disk.stat(&to).is_ok() => {}
            Err(e) => return Err(Error::io(failed(), &e)),
        }
        sync_dir(&self.disk, &self.root.join(Folder::Snapshots.dir()))?;
        sync_dir(&self.disk, &self.root.join(Folder::Sessions.dir()))
    }

    fn abandon(self: Box<Self>) -> Result<()> {
        match self.disk.remove(&self.from()) {
            Ok(()) => sync_dir(&self.disk, &self.root.join(Folder::Sessions.dir())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(Error::io(format!("cannot remove session {}", self.session), &e)),
        }
    }
}
