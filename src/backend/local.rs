//! A directory: write-once files made durable before they are named, and a rename as the fence.

use super::{Backend, FileStat, Pending, SessionFile};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::format::{FileName, Folder};
use crate::id::Name;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, RenameFlags};
use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Open pack handles kept for reading.
const HANDLES_MAX: usize = 48;

/// A repository in a local directory.
pub struct LocalBackend {
    root: PathBuf,
    group_readable: bool,
    handles: Mutex<HashMap<FileName, Arc<File>>>,
}

fn sync_dir(path: &Path) -> Result<()> {
    let dir = File::open(path).context(|| format!("cannot open {}", path.display()))?;
    dir.sync_all().context(|| format!("cannot sync {}", path.display()))
}

impl LocalBackend {
    /// Makes the folders of a new repository, durably. The directory may exist if it is empty.
    pub fn create(root: &Path, group_readable: bool) -> Result<Self> {
        if is_occupied(root)? {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                format!("{} exists and is not empty", root.display()),
            ));
        }
        let backend = LocalBackend::at(root, group_readable);
        let mode = if group_readable { 0o750 } else { 0o700 };
        let make = |path: &Path| {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(mode)
                .create(path)
                .context(|| format!("cannot make {}", path.display()))
        };
        let mut made = Vec::new();
        let mut missing = Some(root);
        while let Some(path) = missing.filter(|p| !p.exists()) {
            made.push(path.to_path_buf());
            missing = path.parent();
        }
        make(root)?;
        for folder in Folder::ALL {
            make(&root.join(folder.dir()))?;
        }
        for shard in 0..=255u8 {
            make(&root.join(format!("packs/{shard:02x}")))?;
        }
        for folder in Folder::ALL {
            sync_dir(&root.join(folder.dir()))?;
        }
        sync_dir(root)?;
        for path in made {
            let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            sync_dir(parent)?;
        }
        Ok(backend)
    }

    /// A directory that should hold a repository.
    pub fn open(root: &Path) -> Result<Self> {
        match std::fs::metadata(root.join(Folder::Config.dir())) {
            Ok(meta) if meta.is_dir() => Ok(LocalBackend::at(root, false)),
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
                Err(Error::io(format!("cannot look into {}", root.display()), &e))
            }
            _ => {
                let why = if root.exists() { "holds no repository" } else { "does not exist" };
                Err(Error::new(ErrorKind::NotFound, format!("{} {why}", root.display())))
            }
        }
    }

    fn at(root: &Path, group_readable: bool) -> Self {
        LocalBackend { root: root.to_path_buf(), group_readable, handles: Mutex::default() }
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

    fn handle(&self, name: &FileName) -> Result<Arc<File>> {
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = handles.get(name) {
            return Ok(Arc::clone(file));
        }
        let file = File::open(self.path(name)).context(|| format!("cannot open {name}"))?;
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
        if !name.folder().is_optional() || dir.is_dir() {
            return Ok(dir);
        }
        let failed = || format!("cannot make {}", dir.display());
        let like = std::fs::metadata(self.root.join(Folder::Packs.dir())).context(failed)?;
        let mode = std::os::unix::fs::PermissionsExt::mode(&like.permissions()) & 0o777;
        std::fs::DirBuilder::new().recursive(true).mode(mode).create(&dir).context(failed)?;
        sync_dir(&self.root)?;
        Ok(dir)
    }

    fn list_dir(&self, folder: Folder, dir: &Path, found: &mut Vec<FileStat>) -> Result<()> {
        let failed = || format!("cannot list {}", dir.display());
        let entries = match std::fs::read_dir(dir) {
            // Made with the repository and never removed: without it nothing can be said about what it held.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && folder.is_optional() => return Ok(()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::corrupt(format!("the repository's folder {} is missing", dir.display())));
            }
            other => other.context(failed)?,
        };
        for entry in entries {
            let entry = entry.context(failed)?;
            let Some(name) = entry.file_name().to_str().and_then(|n| folder.parse(n)) else { continue };
            match entry.metadata() {
                Ok(meta) if meta.is_file() => found.push(FileStat { name, size: meta.len() }),
                Ok(_) => {}
                // Removed or renamed between the two calls: as if listed a moment later.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(Error::io(failed(), &e)),
            }
        }
        Ok(())
    }
}

impl Backend for LocalBackend {
    fn create(&self, name: &FileName) -> Result<Box<dyn Pending>> {
        let path = self.path(name);
        let dir = self.dir_of(name)?;
        let (file, temporary) =
            open_temporary(&dir, self.mode()).context(|| format!("cannot write {name}"))?;
        Ok(Box::new(LocalFile { name: *name, path, dir, file, temporary }))
    }

    fn read(&self, name: &FileName, max: u64) -> Result<Vec<u8>> {
        let file = File::open(self.path(name)).context(|| format!("cannot open {name}"))?;
        let size = file.metadata().context(|| format!("cannot read {name}"))?.len();
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
        match std::fs::remove_file(&path) {
            Ok(()) => sync_dir(path.parent().unwrap_or(&self.root)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(Error::io(format!("cannot remove {name}"), &e)),
        }
    }

    fn mend(&self, name: &FileName, bytes: &[u8]) -> Result<()> {
        let failed = || format!("cannot put {name} right");
        let path = self.path(name);
        let dir = self.dir_of(name)?;
        // A file under a name of its own takes the place of the damaged one in one step.
        let (file, temporary) = open_named(&dir, self.mode()).context(failed)?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(self.mode());
        let written = (&file).write_all(bytes).and_then(|()| file.set_permissions(mode));
        let written = written.and_then(|()| file.sync_all());
        if let Err(e) = written.and_then(|()| std::fs::rename(&temporary, &path)) {
            let _ = std::fs::remove_file(&temporary);
            return Err(Error::io(failed(), &e));
        }
        self.handles.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        sync_dir(&dir)
    }

    fn open_session(&self, session: Name, first: &[u8]) -> Result<Box<dyn SessionFile>> {
        let name = FileName::Session(session);
        let path = self.path(&name);
        let failed = || format!("cannot write {name}");
        let dir = self.root.join(Folder::Sessions.dir());
        let (file, temporary) = open_temporary(&dir, self.mode() | 0o200).context(failed)?;
        // The lock tells others on this machine that we live; it dies with us and survives a suspended laptop. It is
        // taken before the file has a name, so that nobody can find it unlocked. File systems without locks lose only
        // that hint.
        let _ = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
        let mut pending = LocalFile { name, path, dir: dir.clone(), file, temporary };
        pending.append(first)?;
        pending.file.sync_all().context(failed)?;
        pending.link().context(failed)?;
        sync_dir(&dir)?;
        let file = pending.file.try_clone().context(failed)?;
        Ok(Box::new(LocalSession { root: self.root.clone(), session, file, mode: self.mode() }))
    }

    fn evict(&self, session: Name) -> Result<()> {
        let from = self.path(&FileName::Session(session));
        let to = self.path(&FileName::Evicted(session));
        std::fs::rename(&from, &to).context(|| format!("cannot evict session {session}"))?;
        sync_dir(&self.root.join(Folder::Sessions.dir()))?;
        sync_dir(&self.root.join(Folder::Evicted.dir()))
    }

    fn session_alive(&self, session: Name) -> Option<bool> {
        let file = File::open(self.path(&FileName::Session(session))).ok()?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Some(false),
            Err(rustix::io::Errno::WOULDBLOCK) => Some(true),
            Err(_) => None,
        }
    }

    fn sync_seen(&self) -> Result<()> {
        for shard in 0..=255u8 {
            sync_dir(&self.root.join(format!("packs/{shard:02x}")))?;
        }
        Ok(())
    }

    fn location(&self) -> String {
        self.root.display().to_string()
    }
}

/// Whether a new repository must not be made here. What a creation left that was killed before it wrote the config
/// (our empty folders, a key record) is no obstacle.
fn is_occupied(root: &Path) -> Result<bool> {
    let failed = || format!("cannot use {}", root.display());
    let entries = match std::fs::read_dir(root) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(Error::io(failed(), &e)),
    };
    for entry in entries {
        let entry = entry.context(failed)?;
        let folder = Folder::ALL.into_iter().find(|f| entry.file_name() == f.dir());
        let Some(folder) = folder.filter(|_| entry.path().is_dir()) else { return Ok(true) };
        for inside in std::fs::read_dir(entry.path()).context(failed)? {
            let inside = inside.context(failed)?.path();
            let empty_shard = folder == Folder::Packs
                && inside.is_dir()
                && std::fs::read_dir(&inside).context(failed)?.next().is_none();
            if folder != Folder::Keys && !empty_shard {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// A nameless file where the file system has them, else one under a name that no listing takes for ours.
fn open_temporary(dir: &Path, mode: u32) -> std::io::Result<(File, Option<PathBuf>)> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    match rustix::fs::open(dir, flags, Mode::from_raw_mode(mode)) {
        Ok(fd) => return Ok((File::from(fd), None)),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR | rustix::io::Errno::INVAL) => {}
        Err(e) => return Err(e.into()),
    }
    open_named(dir, mode).map(|(file, path)| (file, Some(path)))
}

fn open_named(dir: &Path, mode: u32) -> std::io::Result<(File, PathBuf)> {
    let mut random = [0u8; 8];
    rustix::rand::getrandom(&mut random[..], rustix::rand::GetRandomFlags::empty())?;
    let path = dir.join(format!("tmp-{}", crate::id::hex(&random)));
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode | 0o200).open(&path)?;
    Ok((file, path))
}

struct LocalFile {
    name: FileName,
    path: PathBuf,
    dir: PathBuf,
    file: File,
    temporary: Option<PathBuf>,
}

impl LocalFile {
    fn link(&self) -> std::io::Result<()> {
        match &self.temporary {
            Some(temporary) => {
                std::fs::hard_link(temporary, &self.path)?;
                std::fs::remove_file(temporary)
            }
            None => {
                use std::os::fd::AsRawFd;
                let from = format!("/proc/self/fd/{}", self.file.as_fd().as_raw_fd());
                let here = rustix::fs::CWD;
                Ok(rustix::fs::linkat(here, from, here, &self.path, AtFlags::SYMLINK_FOLLOW)?)
            }
        }
    }
}

impl Pending for LocalFile {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).context(|| format!("cannot write {}", self.name))
    }

    fn publish(self: Box<Self>) -> Result<()> {
        // A failed fsync is final for this file: the kernel may have dropped the pages and call them clean.
        self.file.sync_all().context(|| format!("cannot write {} to disk", self.name))?;
        self.link().context(|| format!("cannot name {}", self.name))?;
        sync_dir(&self.dir)
    }
}

impl Drop for LocalFile {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            let _ = std::fs::remove_file(temporary);
        }
    }
}

struct LocalSession {
    root: PathBuf,
    session: Name,
    file: File,
    mode: u32,
}

impl LocalSession {
    fn from(&self) -> PathBuf {
        self.root.join(FileName::Session(self.session).path())
    }
}

impl SessionFile for LocalSession {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let failed = || format!("cannot write session {}", self.session);
        self.file.write_all(bytes).context(failed)?;
        self.file.sync_all().context(failed)
    }

    fn commit(self: Box<Self>) -> Result<()> {
        let failed = || format!("cannot commit snapshot {}", self.session);
        let mode = Mode::from_raw_mode(self.mode);
        rustix::fs::fchmod(&self.file, mode).map_err(std::io::Error::from).context(failed)?;
        self.file.sync_all().context(failed)?;
        let (from, to) = (self.from(), self.root.join(FileName::Snapshot(self.session).path()));
        let here = rustix::fs::CWD;
        let renamed = match rustix::fs::renameat_with(here, &from, here, &to, RenameFlags::NOREPLACE) {
            // The name is random and ours alone, so nothing can be replaced on file systems without the flag.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => rustix::fs::rename(&from, &to),
            other => other,
        };
        match renamed {
            Ok(()) => {}
            // A lost reply of a network file system looks alike: the rename may have happened.
            Err(rustix::io::Errno::NOENT) if to.exists() => {}
            Err(e) => return Err(Error::io(failed(), &e.into())),
        }
        sync_dir(&self.root.join(Folder::Snapshots.dir()))?;
        sync_dir(&self.root.join(Folder::Sessions.dir()))
    }

    fn abandon(self: Box<Self>) -> Result<()> {
        match std::fs::remove_file(self.from()) {
            Ok(()) => sync_dir(&self.root.join(Folder::Sessions.dir())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(Error::io(format!("cannot remove session {}", self.session), &e)),
        }
    }
}
