//! What becomes of an entry, given what stands at its place already.

use super::Overwrite;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::format::entry::{Entry, Kind};
use crate::os::apply::{self, wanted_mode, wanted_owner};
use crate::os::dir::Status;
use std::io;

/// What to do with one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing stands there.
    Create,
    /// What stands there goes.
    Replace,
    /// The right thing stands there; `mend` when its owner or permissions are still to be set.
    Keep { mend: bool },
    /// Something stands there and the rule lets it stand.
    Skip,
}

/// The rule for things that stand there already, and what metadata will be given.
pub struct Rules<'a> {
    pub overwrite: Overwrite,
    pub apply: apply::Options<'a>,
}

impl Rules<'_> {
    /// For anything but directories. `kind` and `same` read what stands there, when that is needed.
    pub fn decide(
        &self,
        entry: &Entry,
        old: Option<&Status>,
        kind: &dyn Fn(&Status) -> io::Result<Kind>,
        same: &mut dyn FnMut() -> Result<bool>,
    ) -> Verdict {
        let Some(old) = old else { return Verdict::Create };
        match self.overwrite {
            Overwrite::IfChanged => self.compare(entry, old, kind),
            Overwrite::IfDifferent => self.read(entry, old, kind, same),
            _ if self.gives_way(entry.meta.mtime, old) => Verdict::Replace,
            _ => Verdict::Skip,
        }
    }

    /// For what is restored as a database: its files' sizes and times say nothing about the content.
    pub fn decide_database(
        &self,
        entry: &Entry,
        old: Option<&Status>,
        same: &mut dyn FnMut() -> Result<bool>,
    ) -> Verdict {
        match old {
            None => Verdict::Create,
            Some(old) if !self.gives_way(entry.meta.mtime, old) => Verdict::Skip,
            Some(_) if self.overwrite != Overwrite::Always && same().unwrap_or(false) => {
                Verdict::Keep { mend: false }
            }
            Some(_) => Verdict::Replace,
        }
    }

    /// Whether something that stands there may be replaced by what was modified at `mtime`.
    pub fn gives_way(&self, mtime: Timestamp, old: &Status) -> bool {
        match self.overwrite {
            Overwrite::Always | Overwrite::IfChanged | Overwrite::IfDifferent => true,
            Overwrite::IfNewer => mtime > old.mtime,
            Overwrite::Never => false,
        }
    }

    fn compare(&self, entry: &Entry, old: &Status, kind: &dyn Fn(&Status) -> io::Result<Kind>) -> Verdict {
        if old.mtime != entry.meta.mtime || !kind(old).is_ok_and(|k| k == entry.kind) {
            return Verdict::Replace;
        }
        if entry.is_file() && old.size != entry.content.size {
            return Verdict::Replace;
        }
        self.attributes(entry, old, true)
    }

    fn read(
        &self,
        entry: &Entry,
        old: &Status,
        kind: &dyn Fn(&Status) -> io::Result<Kind>,
        same: &mut dyn FnMut() -> Result<bool>,
    ) -> Verdict {
        let other = entry.is_file() && (old.size != entry.content.size || !same().unwrap_or(false));
        if other || !kind(old).is_ok_and(|k| k == entry.kind) {
            return Verdict::Replace;
        }
        self.attributes(entry, old, old.mtime == entry.meta.mtime)
    }

    /// The content is right; what else has to be?
    fn attributes(&self, entry: &Entry, old: &Status, same_time: bool) -> Verdict {
        let mode = wanted_mode(&entry.meta, false, &self.apply);
        let same_mode = old.is_symlink() || old.mode & 0o7777 == mode;
        let same_owner = !self.apply.owner || wanted_owner(&entry.meta, &self.apply) == (old.uid, old.gid);
        match (same_mode && same_owner && same_time, entry.is_file() && old.links == 1) {
            (true, _) => Verdict::Keep { mend: false },
            // With another name, which may stand anywhere, the same file must not be touched.
            (false, false) => Verdict::Replace,
            (false, true) => Verdict::Keep { mend: true },
        }
    }
}
