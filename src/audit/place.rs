//! Where exports are: a file, or the files of a directory, on this machine or in a snapshot.

use super::export::{Each, Export};
use crate::crypto::hash::FileHash;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::format::entry::{Entry, Kind};
use crate::id::ChunkId;
use crate::manifest::database::StoredBytes;
use crate::manifest::walk::{Walk, find};
use crate::os::dir;
use crate::repository::reader::Reader;
use crate::sqlite::image::Bytes;
use std::fs::Metadata;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use walkdir::WalkDir;

/// An export on this machine.
pub struct Live {
    path: PathBuf,
    is_directory: bool,
    /// Of what all files were at the first look: names, sizes, times.
    first: Option<[u8; 32]>,
}

impl Live {
    pub fn at(path: &Path) -> Result<Self> {
        let look = std::fs::metadata(path).context(|| format!("cannot look at {}", path.display()))?;
        if !look.is_file() && !look.is_dir() {
            let what = format!("{} is neither a file nor a directory", path.display());
            return Err(Error::invalid(what));
        }
        // The export itself may be reached through a link; below it links are not followed.
        let path = path.canonicalize().context(|| format!("cannot look at {}", path.display()))?;
        let mut live = Live { path, is_directory: look.is_dir(), first: None };
        live.first = Some(live.state()?);
        Ok(live)
    }

    /// Files below the directory, in order, or the one file.
    fn files(&self) -> impl Iterator<Item = Result<(Vec<u8>, PathBuf, Metadata)>> + '_ {
        let walk = WalkDir::new(&self.path).sort_by_file_name().into_iter();
        walk.filter_map(|found| {
            let told = found.map_err(|e| {
                let path = e.path().unwrap_or(&self.path).display().to_string();
                Error::new(ErrorKind::Io, format!("{path} cannot be looked at: {e}"))
            });
            let found = match told {
                Ok(found) if found.file_type().is_file() => found,
                Ok(_) => return None,
                Err(e) => return Some(Err(e)),
            };
            let below = found.path().strip_prefix(&self.path).unwrap_or(Path::new(""));
            let below = below.as_os_str().as_bytes().to_vec();
            let look = found.metadata().map_err(|e| {
                Error::new(ErrorKind::Io, format!("{} cannot be looked at: {e}", found.path().display()))
            });
            Some(look.map(|look| (below, found.into_path(), look)))
        })
    }

    fn state(&self) -> Result<[u8; 32]> {
        let mut hash = FileHash::new();
        for file in self.files() {
            let (below, _, look) = file?;
            hash.update(&(below.len() as u64).to_le_bytes());
            hash.update(&below);
            let (mtime, ctime) = ((look.mtime(), look.mtime_nsec()), (look.ctime(), look.ctime_nsec()));
            for number in [look.len() as i64, look.ino() as i64, mtime.0, mtime.1, ctime.0, ctime.1] {
                hash.update(&number.to_le_bytes());
            }
        }
        Ok(hash.finish())
    }
}

impl Export for Live {
    fn name(&self) -> String {
        self.path.file_name().unwrap_or(self.path.as_os_str()).to_string_lossy().into_owned()
    }

    fn is_directory(&self) -> bool {
        self.is_directory
    }

    fn texts(&mut self, wanted: &dyn Fn(&[u8]) -> bool, each: &mut Each<'_>) -> Result<()> {
        let name = self.name();
        for file in self.files() {
            let (below, path, _) = file?;
            if self.is_directory && !wanted(&below) {
                continue;
            }
            let cannot = || format!("cannot read {}", path.display());
            let above = dir::open_path(path.parent().unwrap_or(Path::new("/"))).context(cannot)?;
            let own = path.file_name().unwrap_or_default();
            let file = dir::open_file(&above, own.as_bytes()).context(cannot)?;
            let mut fill = |out: &mut [u8]| loop {
                match (&*file).read(out) {
                    Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                    done => return done.context(cannot),
                }
            };
            // A single file is known by its own name: its ending says whether it holds lines.
            each(if self.is_directory { &below } else { name.as_bytes() }, &mut fill)?;
        }
        Ok(())
    }

    fn holds(&mut self) -> Result<bool> {
        Ok(self.first == Some(self.state()?))
    }
}

/// An export in a snapshot.
pub struct Stored {
    reader: Arc<Reader>,
    root: ChunkId,
    path: Vec<u8>,
    /// The file, where it is one.
    file: Option<Entry>,
}

impl Stored {
    pub fn at(reader: Arc<Reader>, root: ChunkId, path: &[u8]) -> Result<Self> {
        let shown = || format!("/{}", String::from_utf8_lossy(path));
        let missing = |why: &str| Error::new(ErrorKind::NotFound, format!("{} {why}", shown()));
        let file = match find(&reader, &root, path)? {
            Some(entry) if entry.is_file() => Some(entry),
            Some(Entry { kind: Kind::Directory, .. }) => None,
            Some(_) => return Err(missing("is neither a file nor a directory")),
            None if path.is_empty() => None,
            None => return Err(missing("is not in the snapshot")),
        };
        Ok(Stored { reader, root, path: path.to_vec(), file })
    }
}

fn text(reader: &Arc<Reader>, entry: &Entry, path: &[u8], each: &mut Each<'_>) -> Result<()> {
    let shown = || format!("/{}", String::from_utf8_lossy(&entry.path));
    let mut bytes = StoredBytes::new(Arc::clone(reader), entry).context(shown)?;
    let mut at = 0;
    let mut fill = |out: &mut [u8]| {
        let count = (bytes.len() - at).min(out.len() as u64) as usize;
        bytes.read_at(at, &mut out[..count]).context(shown)?;
        at += count as u64;
        Ok(count)
    };
    each(path, &mut fill)
}

impl Export for Stored {
    fn name(&self) -> String {
        let name = self.path.rsplit(|b| *b == b'/').next().unwrap_or_default();
        String::from_utf8_lossy(name).into_owned()
    }

    fn is_directory(&self) -> bool {
        self.file.is_none()
    }

    fn texts(&mut self, wanted: &dyn Fn(&[u8]) -> bool, each: &mut Each<'_>) -> Result<()> {
        if let Some(file) = &self.file {
            return text(&self.reader, file, self.name().as_bytes(), each);
        }
        for entry in Walk::new(&self.reader, &self.root, &self.path)? {
            let entry = entry?;
            let below = entry.path.get(self.path.len()..).unwrap_or_default();
            let below = below.strip_prefix(b"/").unwrap_or(below).to_vec();
            if entry.is_file() && wanted(&below) {
                text(&self.reader, &entry, &below, each)?;
            }
        }
        Ok(())
    }

    /// What is stored does not change.
    fn holds(&mut self) -> Result<bool> {
        Ok(true)
    }
}
