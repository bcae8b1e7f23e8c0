//! Rules tried on a snapshot, through the store, or on a live directory.

use crate::compare::inside::text;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::format::entry::{Entry, Kind};
use crate::id::ChunkId;
use crate::json::{TEXT_MAX, TOO_LARGE};
use crate::manifest::walk::{Walk, find, is_below};
use crate::os::dir;
use crate::progress::Progress;
use crate::repository::reader::Reader;
use crate::rules::infer::Look;
use crate::rules::run::{Read, Run, Thing};
use crate::rules::{DIRECTORY, FILE, Report, Rules, file};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use walkdir::WalkDir;

/// The largest rules or schema file.
const RULES_BYTES: u64 = 1 << 20;

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

/// The rules that the snapshot has for the directory `base`.
pub fn stored_rules(reader: &Reader, root: &ChunkId, base: &[u8]) -> Result<Rules> {
    let path = |name: &str| {
        let below = format!("{DIRECTORY}/{name}");
        if base.is_empty() { below.into_bytes() } else { [base, b"/", below.as_bytes()].concat() }
    };
    let mut load = |name: &str| -> Result<Vec<u8>> {
        let path = path(name);
        let entry = find(reader, root, &path)?.filter(Entry::is_file);
        let missing = || Error::new(ErrorKind::NotFound, "it is not in the snapshot");
        let entry = entry.ok_or_else(missing)?;
        if entry.content.size > RULES_BYTES {
            return Err(Error::invalid("it is larger than 1 MiB"));
        }
        text(reader, &entry.content)?.map_err(Error::invalid)
    };
    let shown = String::from_utf8_lossy(&path(FILE)).into_owned();
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
    reader: &Reader,
    root: &ChunkId,
    base: &[u8],
    rules: &Rules,
    progress: &Progress,
) -> Result<Report> {
    let mut run = Run::new(rules);
    for entry in Walk::new(reader, root, base)? {
        progress.keep_going()?;
        let entry = entry?;
        let Some(path) = below(&entry.path, base) else { continue };
        let thing = match entry.kind {
            Kind::File => Thing::File,
            Kind::Directory => Thing::Directory,
            _ => Thing::Other,
        };
        let mut read = || match text(reader, &entry.content) {
            Err(e) if e.kind().is_unreadable() => Ok(Err(e.message().to_owned())),
            other => other,
        };
        run.visit(path, thing, &mut read)?;
    }
    Ok(run.finish())
}

/// The path as seen from `base`; `None` for `base` itself and for the rules.
fn below<'p>(path: &'p [u8], base: &[u8]) -> Option<&'p [u8]> {
    let rest = path.get(base.len()..)?;
    let rest = if base.is_empty() { rest } else { rest.strip_prefix(b"/")? };
    (!rest.is_empty() && !is_below(rest, DIRECTORY.as_bytes())).then_some(rest)
}

/// Tries rules on a live directory.
pub fn live(dir: &Path, rules: &Rules, progress: &Progress) -> Result<Report> {
    let mut run = Run::new(rules);
    let mut troubles = Vec::new();
    each_live(dir, progress, &mut |path, thing, read| run.visit(path, thing, read), &mut troubles)?;
    for (path, why) in troubles {
        run.blind(&path, &why);
    }
    Ok(run.finish())
}

/// A first rules file for a live directory; and what could not be looked at.
pub fn infer(dir: &Path, progress: &Progress) -> Result<(String, Vec<String>)> {
    let mut look = Look::default();
    let mut troubles = Vec::new();
    each_live(dir, progress, &mut |path, thing, read| look.visit(path, thing, read), &mut troubles)?;
    let mut remarks: Vec<String> = troubles
        .into_iter()
        .map(|(path, why)| format!("{}: {why}", String::from_utf8_lossy(&path)))
        .collect();
    if let Some(first) = &look.first_left_out {
        remarks.push(format!("{} JSON files were left out of account; the first is {first}", look.left_out));
    }
    Ok((look.finish(), remarks))
}

type Each<'a> = dyn FnMut(&[u8], Thing, &mut Read<'_>) -> Result<()> + 'a;

fn each_live(
    dir: &Path,
    progress: &Progress,
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
        each(path, thing, &mut || Ok(read_live(found.path())))?;
    }
    Ok(())
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
