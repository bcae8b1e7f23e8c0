//! Rules tried on a snapshot, through the store, or on a live directory.

use crate::clock::SystemClock;
use crate::compare::inside::text;
use crate::compare::rows::{is_database, with_live};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::format::entry::{Entry, Flags, Kind};
use crate::id::ChunkId;
use crate::json::{TEXT_MAX, TOO_LARGE};
use crate::manifest::database::open;
use crate::manifest::walk::{Walk, find, is_below};
use crate::os::dir;
use crate::progress::Progress;
use crate::repository::reader::Reader;
use crate::rules::infer::Look;
use crate::rules::run::{Contents, Run, Thing, Unasked};
use crate::rules::{DIRECTORY, FILE, Report, Rules, file};
use crate::sqlite::ffi::open_bytes;
use crate::sqlite::place::Place;
use crate::sqlite::query::{Reading, limit_memory};
use std::collections::HashSet;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use walkdir::WalkDir;

/// The largest rules or schema file.
const RULES_BYTES: u64 = 1 << 20;
/// What SQLite may take for the questions of rules.
const MEMORY: u64 = 512 << 20;
/// How often a database in use is asked again when it was written to meanwhile.
const LOOKS: u32 = 3;

/// Stored paths of the directories at or below `below` that have rules of their own.
pub fn ruled(reader: &Reader, root: &ChunkId, below: &[u8], progress: &Progress) -> Result<Vec<Vec<u8>>> {
    let ending = format!("{DIRECTORY}/{FILE}").into_bytes();
    let mut found = Vec::new();
    for entry in Walk::new(reader, root, below)? {
        progress.keep_going()?;
        let entry = entry?;
        if entry.is_file()
            && let Some(dir) = entry.path.strip_suffix(ending.as_slice())
            && let Some(dir) = dir.strip_suffix(b"/").or_else(|| dir.is_empty().then_some(dir))
        {
            found.push(dir.to_vec());
        }
    }
    Ok(found)
}

/// Whether the snapshot has rules for the directory `base`.
pub fn has_rules(reader: &Reader, root: &ChunkId, base: &[u8]) -> Result<bool> {
    Ok(find(reader, root, &beside(base, FILE))?.is_some_and(|entry| entry.is_file()))
}

/// The stored path of a file that belongs to the rules for `base`.
fn beside(base: &[u8], name: &str) -> Vec<u8> {
    let below = format!("{DIRECTORY}/{name}");
    if base.is_empty() { below.into_bytes() } else { [base, b"/", below.as_bytes()].concat() }
}

/// The rules that the snapshot has for the directory `base`.
pub fn stored_rules(reader: &Reader, root: &ChunkId, base: &[u8]) -> Result<Rules> {
    let mut load = |name: &str| -> Result<Vec<u8>> {
        let path = beside(base, name);
        let entry = find(reader, root, &path)?.filter(Entry::is_file);
        let missing = || Error::new(ErrorKind::NotFound, "it is not in the snapshot");
        let entry = entry.ok_or_else(missing)?;
        if entry.content.size > RULES_BYTES {
            return Err(Error::invalid("it is larger than 1 MiB"));
        }
        text(reader, &entry.content)?.map_err(Error::invalid)
    };
    let shown = String::from_utf8_lossy(&beside(base, FILE)).into_owned();
    let rules = load(FILE).context(|| format!("/{shown}"))?;
    file::parse(&rules, &mut load).context(|| format!("/{shown}"))
}

/// The rules in a live file; schemas stand beside it.
pub fn live_rules(path: &Path) -> Result<Rules> {
    let read = |path: &Path| -> Result<Vec<u8>> {
        let cannot = || format!("cannot read {}", path.display());
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path).context(cannot)?;
        file.take(RULES_BYTES + 1).read_to_end(&mut bytes).context(cannot)?;
        if bytes.len() as u64 > RULES_BYTES {
            return Err(Error::invalid(format!("{} is larger than 1 MiB", path.display())));
        }
        Ok(bytes)
    };
    let above = path.parent().unwrap_or(Path::new("."));
    file::parse(&read(path)?, &mut |name| read(&above.join(name))).context(|| path.display())
}

/// Tries rules on what the snapshot has below `base`.
pub fn stored(
    reader: &Arc<Reader>,
    root: &ChunkId,
    base: &[u8],
    rules: &Rules,
    progress: &Progress,
) -> Result<Report> {
    let mut run = Run::new(rules);
    limit_memory(MEMORY)?;
    for entry in Walk::new(reader, root, base)? {
        progress.keep_going()?;
        let entry = entry?;
        let Some(path) = below(&entry.path, base) else { continue };
        let thing = thing(&entry);
        run.visit(path, thing, &mut Stored { reader, entry: &entry, progress })?;
    }
    Ok(run.finish())
}

fn thing(entry: &Entry) -> Thing {
    match entry.kind {
        Kind::File => Thing::File,
        Kind::Directory => Thing::Directory,
        _ => Thing::Other,
    }
}

/// A file in a snapshot.
struct Stored<'a> {
    reader: &'a Arc<Reader>,
    entry: &'a Entry,
    progress: &'a Progress,
}

impl Contents for Stored<'_> {
    fn bytes(&mut self) -> Result<std::result::Result<Vec<u8>, String>> {
        match text(self.reader, &self.entry.content) {
            Err(e) if e.kind().is_unreadable() => Ok(Err(e.message().to_owned())),
            other => other,
        }
    }

    fn is_database(&mut self) -> bool {
        is_database(self.reader, self.entry).unwrap_or(false)
    }

    fn database(
        &mut self,
        ask: &mut dyn FnMut(&Reading) -> Result<()>,
    ) -> Result<std::result::Result<(), Unasked>> {
        if self.entry.flags.has(Flags::UNVERIFIED) {
            let what = "it is stored as plain files, which may not be one state of it; try the rules on a restored copy";
            return Ok(Err(Unasked::Cannot(what.to_owned())));
        }
        if self.entry.content.size > 0 && !is_database(self.reader, self.entry).or_else(unreadable)? {
            return Ok(Err(Unasked::Bad("it is no SQLite database".to_owned())));
        }
        let opened = open(Arc::clone(self.reader), self.entry);
        let reading = opened.and_then(|opened| Reading::new(opened, self.progress.stop_flag()));
        unasked(reading.and_then(|reading| ask(&reading)))
    }
}

/// Whether it begins as a database cannot be seen; what is wrong comes out when it is opened.
fn unreadable(e: Error) -> Result<bool> {
    if e.kind().is_unreadable() { Ok(true) } else { Err(e) }
}

/// Troubles of one database are no reason to end.
fn unasked(asked: Result<()>) -> Result<std::result::Result<(), Unasked>> {
    match asked {
        Ok(()) => Ok(Ok(())),
        Err(e) => match e.kind() {
            ErrorKind::Corrupt => Ok(Err(Unasked::Bad(e.message().to_owned()))),
            ErrorKind::Locked | ErrorKind::Unsupported | ErrorKind::Invalid | ErrorKind::NotFound => {
                Ok(Err(Unasked::Cannot(e.message().to_owned())))
            }
            _ => Err(e),
        },
    }
}

/// The path as seen from `base`; `None` for `base` itself and for the rules.
fn below<'p>(path: &'p [u8], base: &[u8]) -> Option<&'p [u8]> {
    let rest = path.get(base.len()..)?;
    let rest = if base.is_empty() { rest } else { rest.strip_prefix(b"/")? };
    (!rest.is_empty() && !is_below(rest, DIRECTORY.as_bytes())).then_some(rest)
}

/// Tries rules on a live directory; copies of databases in use that must be made go to `scratch`.
pub fn live(dir: &Path, rules: &Rules, scratch: &Path, progress: &Progress) -> Result<Report> {
    let mut run = Run::new(rules);
    limit_memory(MEMORY)?;
    let mut troubles = Vec::new();
    let how = (scratch, progress);
    each_live(dir, how, &mut |path, thing, file| run.visit(path, thing, file), &mut troubles)?;
    for (path, why) in troubles {
        run.blind(&path, &why);
    }
    Ok(run.finish())
}

/// What a restore changes: stored paths that come, and those that go with all below them.
#[derive(Debug, Default)]
pub struct Changes {
    pub come: HashSet<Vec<u8>>,
    pub go: HashSet<Vec<u8>>,
}

impl Changes {
    fn takes(&self, path: &[u8]) -> bool {
        let ends = (0..path.len()).filter(|&i| path[i] == b'/').chain([path.len()]);
        self.come.contains(path)
            || (!self.go.is_empty() && ends.into_iter().any(|end| self.go.contains(&path[..end])))
    }
}

/// Tries rules on what will stand in the live directory `dir`, which is stored as `base`, after a restore: what comes as it is
/// stored, what stays as it is.
pub fn merged(
    reader: &Arc<Reader>,
    (root, base): (&ChunkId, &[u8]),
    dir: &Path,
    changes: &Changes,
    rules: &Rules,
    (scratch, progress): (&Path, &Progress),
) -> Result<Report> {
    let mut run = Run::new(rules);
    limit_memory(MEMORY)?;
    let mut troubles = Vec::new();
    let stays = |path: &[u8]| {
        let stored = if base.is_empty() { path.to_vec() } else { [base, b"/", path].concat() };
        !changes.takes(&stored)
    };
    if dir.is_dir() {
        let mut each = |path: &[u8], thing: Thing, file: &mut dyn Contents| match stays(path) {
            true => run.visit(path, thing, file),
            false => Ok(()),
        };
        each_live(dir, (scratch, progress), &mut each, &mut troubles)?;
    }
    for entry in Walk::new(reader, root, base)? {
        progress.keep_going()?;
        let entry = entry?;
        if let Some(path) = below(&entry.path, base).filter(|_| changes.come.contains(&entry.path)) {
            let thing = thing(&entry);
            run.visit(path, thing, &mut Stored { reader, entry: &entry, progress })?;
        }
    }
    for (path, why) in troubles {
        run.blind(&path, &why);
    }
    Ok(run.finish())
}

/// A first rules file for a live directory; and what could not be looked at.
pub fn infer(dir: &Path, scratch: &Path, progress: &Progress) -> Result<(String, Vec<String>)> {
    let mut look = Look::default();
    let mut troubles = Vec::new();
    let how = (scratch, progress);
    each_live(dir, how, &mut |path, thing, file| look.visit(path, thing, file), &mut troubles)?;
    let mut remarks: Vec<String> = troubles
        .into_iter()
        .map(|(path, why)| format!("{}: {why}", String::from_utf8_lossy(&path)))
        .collect();
    if let Some(first) = &look.first_left_out {
        remarks.push(format!("{} files were left out of account; the first is {first}", look.left_out));
    }
    Ok((look.finish(), remarks))
}

type Each<'a> = dyn FnMut(&[u8], Thing, &mut dyn Contents) -> Result<()> + 'a;

fn each_live(
    dir: &Path,
    (scratch, progress): (&Path, &Progress),
    each: &mut Each<'_>,
    troubles: &mut Vec<(Vec<u8>, String)>,
) -> Result<()> {
    let look = std::fs::metadata(dir).context(|| format!("cannot look at {}", dir.display()))?;
    if !look.is_dir() {
        return Err(Error::invalid(format!("{} is no directory", dir.display())));
    }
    // The directory itself may be reached through a link; below it links are not followed.
    let real = dir.canonicalize().context(|| format!("cannot look at {}", dir.display()))?;
    for found in WalkDir::new(&real).min_depth(1).sort_by_file_name() {
        progress.keep_going()?;
        let found = match found {
            Ok(found) => found,
            Err(e) => {
                let path = e.path().and_then(|p| p.strip_prefix(&real).ok()).unwrap_or(Path::new(""));
                troubles.push((path.as_os_str().as_bytes().to_vec(), format!("it cannot be looked at: {e}")));
                continue;
            }
        };
        let Ok(path) = found.path().strip_prefix(&real) else { continue };
        let path = path.as_os_str().as_bytes();
        if is_below(path, DIRECTORY.as_bytes()) {
            continue;
        }
        let kind = found.file_type();
        let thing = match (kind.is_file(), kind.is_dir()) {
            (true, _) => Thing::File,
            (_, true) => Thing::Directory,
            _ => Thing::Other,
        };
        each(path, thing, &mut Live { path: found.path(), scratch, progress })?;
    }
    Ok(())
}

/// A file on a disk.
struct Live<'a> {
    path: &'a Path,
    scratch: &'a Path,
    progress: &'a Progress,
}

impl Contents for Live<'_> {
    fn bytes(&mut self) -> Result<std::result::Result<Vec<u8>, String>> {
        Ok(read_live(self.path))
    }

    fn is_database(&mut self) -> bool {
        Place::at(self.path).is_ok_and(|place| matches!(place.header(), Ok(Some(_))))
    }

    fn database(
        &mut self,
        ask: &mut dyn FnMut(&Reading) -> Result<()>,
    ) -> Result<std::result::Result<(), Unasked>> {
        if !self.is_database() && std::fs::symlink_metadata(self.path).is_ok_and(|look| look.len() > 0) {
            return Ok(Err(Unasked::Bad("it is no SQLite database".to_owned())));
        }
        let mut look = 0;
        loop {
            look += 1;
            let asked = with_live(self.path, self.scratch, &SystemClock, self.progress, &mut |pin| {
                let opened = open_bytes(Box::new(pin.image.clone()))?;
                ask(&Reading::new(opened, self.progress.stop_flag())?)
            });
            match asked {
                Err(e) if e.kind() == ErrorKind::Locked && look < LOOKS => {}
                asked => return unasked(asked),
            }
        }
    }
}

fn read_live(path: &Path) -> std::result::Result<Vec<u8>, String> {
    let cannot = |e: std::io::Error| format!("it cannot be read: {e}");
    let above = dir::open_path(path.parent().unwrap_or(Path::new("/"))).map_err(cannot)?;
    let name = path.file_name().unwrap_or_default();
    let file = dir::open_file(&above, name.as_bytes()).map_err(cannot)?;
    let mut bytes = Vec::new();
    std::io::Read::take(&*file, TEXT_MAX + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > TEXT_MAX { Err(TOO_LARGE.to_owned()) } else { Ok(bytes) }
}
