//! The places a user names: their stored paths, which of them stand inside another, which are missing.
//!
//! A root is stored under the path as it was typed, made absolute, and links in it are not resolved: people
//! look for what they typed, and a link such as `/data/current` that points elsewhere tomorrow must not make
//! tomorrow's snapshot a different source. Only where a path goes through `..` is it resolved first, since
//! cutting `link/..` out of a path by its letters leads to another place than the one meant.

use crate::error::{Context, Error, Result};
use crate::format::entry::path_order;
use crate::os::dir::{self, Status};
use crate::progress::Problem;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// One place named by the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// Absolute, where it stands.
    pub path: PathBuf,
    /// Absolute without the leading slash, how it is stored; empty for the top of everything.
    pub stored: Vec<u8>,
}

impl Root {
    /// A root stored under its own absolute path.
    pub fn new(typed: &Path) -> Result<Self> {
        let path = absolute(typed)?;
        let stored = stored_form(&path);
        Ok(Root { path, stored })
    }

    /// A root stored under another path.
    pub fn stored_as(typed: &Path, as_path: &Path) -> Result<Self> {
        if as_path.components().any(|c| c == Component::ParentDir) {
            let shown = as_path.display();
            return Err(Error::invalid(format!("`{shown}` cannot be stored under: it goes through `..`")));
        }
        Ok(Root { path: absolute(typed)?, stored: stored_form(as_path) })
    }

    /// Whether the stored path is where it really stands, so that its parents are real too.
    pub(super) fn in_place(&self) -> bool {
        stored_form(&self.path) == self.stored
    }

    fn shown(&self) -> std::path::Display<'_> {
        self.path.display()
    }
}

/// `typed` as an absolute path without `.`, `..` and doubled slashes.
fn absolute(typed: &Path) -> Result<PathBuf> {
    if typed.as_os_str().is_empty() {
        return Err(Error::invalid("an empty path cannot be backed up"));
    }
    let cannot = || format!("cannot find {}", typed.display());
    let whole = std::path::absolute(typed).context(cannot)?;
    // A trailing slash asks for the directory behind a link.
    let bytes = typed.as_os_str().as_bytes();
    let behind = (bytes.ends_with(b"/") || bytes.ends_with(b"/.")) && whole.is_symlink();
    if behind || whole.components().any(|c| c == Component::ParentDir) {
        return whole.canonicalize().context(cannot);
    }
    Ok(whole.components().collect())
}

fn stored_form(path: &Path) -> Vec<u8> {
    let mut out = Vec::new();
    for component in path.components() {
        if let Component::Normal(name) = component {
            if !out.is_empty() {
                out.push(b'/');
            }
            out.extend_from_slice(name.as_bytes());
        }
    }
    out
}

/// The part of `path` after `above` and a slash; `None` unless it is the same or inside.
pub(super) fn below<'p>(path: &'p [u8], above: &[u8]) -> Option<&'p [u8]> {
    if above.is_empty() {
        return Some(path);
    }
    let rest = path.strip_prefix(above)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix(b"/") }
}

/// A root and what stood there at the first look.
pub(super) struct Placed {
    pub root: Root,
    pub status: Status,
}

/// Roots in stored order, none inside another.
pub(super) struct Arranged {
    pub roots: Vec<Placed>,
    pub missing: Vec<Problem>,
    pub devices: Vec<u64>,
}

pub(super) fn arrange(roots: Vec<Root>) -> Result<Arranged> {
    let mut out = Arranged { roots: Vec::new(), missing: Vec::new(), devices: Vec::new() };
    let mut present = Vec::new();
    for root in roots {
        match dir::status_at_path(&root.path) {
            Ok(status) => {
                out.devices.push(status.dev);
                present.push(Placed { root, status });
            }
            Err(e) => out.missing.push(Problem {
                item: root.path.as_os_str().as_bytes().to_vec(),
                during: "scan",
                message: Error::io(format!("cannot back up {}", root.shown()), &e).to_string(),
            }),
        }
    }
    out.devices.sort_unstable();
    out.devices.dedup();
    present.sort_by(|a, b| path_order(&a.root.stored, &b.root.stored));
    for placed in present {
        match out.roots.last() {
            Some(outer) if below(&placed.root.stored, &outer.root.stored).is_some() => {
                absorb(outer, &placed)?;
            }
            _ => out.roots.push(placed),
        }
    }
    for placed in &out.roots {
        if placed.root.stored.is_empty() && !placed.status.is_dir() {
            let shown = placed.root.shown();
            return Err(Error::invalid(format!(
                "{shown} is not a directory and needs a name to be stored under"
            )));
        }
    }
    Ok(out)
}

/// Makes sure that walking `outer` meets `inner` on its way.
fn absorb(outer: &Placed, inner: &Placed) -> Result<()> {
    let Ok(rest) = inner.root.path.strip_prefix(&outer.root.path) else {
        return Err(clash(outer, inner));
    };
    if stored_form(rest) != below(&inner.root.stored, &outer.root.stored).unwrap_or_default() {
        return Err(clash(outer, inner));
    }
    let mut at = outer.root.path.clone();
    for name in rest.components() {
        let status = dir::status_at_path(&at).context(|| format!("cannot look at {}", at.display()))?;
        if !status.is_dir() {
            return Err(Error::invalid(format!(
                "{} and {} cannot both be backed up: {} is a link; name the directory it points to instead",
                outer.root.shown(),
                inner.root.shown(),
                at.display()
            )));
        }
        at.push(name);
    }
    Ok(())
}

fn clash(a: &Placed, b: &Placed) -> Error {
    let stored = String::from_utf8_lossy(&b.root.stored).into_owned();
    Error::invalid(format!("{} and {} would both be stored as /{stored}", a.root.shown(), b.root.shown()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_stored_as_typed_but_without_detours() {
        let root = Root::new(Path::new("//usr/./bin//")).expect("absolute");
        assert_eq!((root.path.as_path(), root.stored.as_slice()), (Path::new("/usr/bin"), &b"usr/bin"[..]));
        assert!(Root::new(Path::new("/")).expect("the top").stored.is_empty());
        assert!(Root::new(Path::new("")).is_err());
        assert!(Root::stored_as(Path::new("/usr"), Path::new("/a/../b")).is_err());
        assert_eq!(below(b"a/b", b"a"), Some(&b"b"[..]));
        assert_eq!(below(b"a.b", b"a"), None);
        assert_eq!(below(b"a", b""), Some(&b"a"[..]));
    }
}
