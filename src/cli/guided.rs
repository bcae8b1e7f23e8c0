//! A restore without arguments, on a terminal: which snapshot, what of it, where to, and how; then as if the answers had been
//! options.

use super::failure::{FAILED, Failure};
use super::names::{decode_path, escape, shown};
use super::picker::{Picker, line};
use crate::clock::Timestamp;
use crate::format::entry::Kind;
use crate::manifest::walk::Walk;
use crate::repository::reader::Reader;
use crate::repository::snapshots::{Listed, Listing};
use crate::units;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// What was chosen, as the options that say the same.
pub struct Choice {
    /// `ID:/path`.
    pub what: OsString,
    /// `None` for back where it came from.
    pub target: Option<PathBuf>,
    pub delete: bool,
    /// Words of `--overwrite`; none for the usual way.
    pub overwrite: Option<&'static str>,
}

impl Choice {
    /// The command line that does the same without questions.
    pub fn words(&self) -> String {
        let what = super::guard_told::quoted(&self.what.to_string_lossy());
        let mut text = format!("snapkeep restore {what}");
        match &self.target {
            None => text.push_str(" --in-place"),
            Some(dir) => {
                text.push_str(&format!(" --target {}", super::guard_told::quoted(&dir.to_string_lossy())))
            }
        }
        if self.delete {
            text.push_str(" --delete");
        }
        if let Some(word) = self.overwrite {
            text.push_str(&format!(" --overwrite {word}"));
        }
        if self.target.is_none() {
            text.push_str(" --yes");
        }
        text
    }
}

/// Asks for everything.
pub fn ask(listing: &Listing, reader: &Reader, now: Timestamp) -> Result<Choice, Failure> {
    let mut newest: Vec<&Listed> = listing.snapshots.iter().collect();
    newest.sort_by_key(|l| std::cmp::Reverse((l.record.order_time, l.record.sequence)));
    if newest.is_empty() {
        return Err(Failure::new(FAILED, "there is no snapshot to restore"));
    }
    let picker = Picker::new();
    let items: Vec<String> = newest.iter().map(|l| about(l, now)).collect();
    let listed = newest[picker.choose("Which snapshot? (type to narrow down)", &items)?];
    let path = browse(&picker, reader, listed)?;
    let mut what = format!("{}:/", listed.id.short()).into_bytes();
    what.extend_from_slice(&path);
    let what = OsString::from_vec(what);
    let places = [
        "back where it came from, over what is there; a safety snapshot comes first, and `undo` takes it back",
        "into another directory",
    ];
    let (mut delete, mut overwrite) = (false, None);
    let target = match picker.choose("Where to?", &places.map(str::to_owned))? {
        0 => {
            let ways = [
                "replace what differs, and leave what is only there",
                "replace what differs, and delete what the snapshot does not have",
                "only bring back what is missing",
            ];
            match picker.choose("How?", &ways.map(str::to_owned))? {
                1 => delete = true,
                2 => overwrite = Some("never"),
                _ => {}
            }
            None
        }
        _ => {
            let Some(dir) = line("Which directory?")? else {
                return Err(Failure::new(FAILED, "no directory was named, and nothing was changed"));
            };
            let ways = [
                ("replace files that are there", None),
                ("leave files of the same size and time, replace others", Some("if-changed")),
                ("replace only older files", Some("if-newer")),
                ("leave every file that is there", Some("never")),
            ];
            overwrite = ways[picker.choose("How?", &ways.map(|(text, _)| text.to_owned()))?].1;
            Some(PathBuf::from(dir))
        }
    };
    Ok(Choice { what, target, delete, overwrite })
}

fn about(listed: &Listed, now: Timestamp) -> String {
    let record = &listed.record;
    let name = |text: &str| escape(text.as_bytes());
    let time = Timestamp::parse(&record.time, now).map_or_else(|_| name(&record.time), Timestamp::local);
    let paths: Vec<String> = record.paths.iter().map(|path| escape(&decode_path(path))).collect();
    let mut text = format!("{}  {time}  {}  {}", listed.id.short(), name(&record.hostname), paths.join(" "));
    for tag in &record.tags {
        text.push_str(&format!("  {}", name(tag)));
    }
    if let Some(label) = &record.label {
        text.push_str(&format!("  \"{}\"", name(label)));
    }
    text.push_str(&format!("  {}", units::bytes(record.summary.total_bytes_processed)));
    text
}

/// Goes down the tree until something is chosen; the stored path.
fn browse(picker: &Picker, reader: &Reader, listed: &Listed) -> Result<Vec<u8>, Failure> {
    let sources: Vec<Vec<u8>> =
        listed.record.paths.iter().map(|p| decode_path(p.trim_start_matches('/'))).collect();
    // One source: begin there.
    let mut here = match sources.as_slice() {
        [one] => one.clone(),
        _ => Vec::new(),
    };
    loop {
        let (children, is_dir) = children(reader, listed, &here)?;
        if !is_dir {
            return Ok(here);
        }
        let mut items = vec![format!("[everything in {}]", shown(&here))];
        let up = !here.is_empty();
        if up {
            items.push("[up]".to_owned());
        }
        items.extend(
            children
                .iter()
                .map(|(name, is_dir)| format!("{}{}", escape(name), if *is_dir { "/" } else { "" })),
        );
        match picker.choose("What of it?", &items)? {
            0 => return Ok(here),
            1 if up => here.truncate(here.iter().rposition(|&b| b == b'/').unwrap_or(0)),
            n => {
                let Some((name, is_dir)) = children.iter().nth(n - 1 - usize::from(up)) else { continue };
                if !here.is_empty() {
                    here.push(b'/');
                }
                here.extend_from_slice(name);
                if !is_dir {
                    return Ok(here);
                }
            }
        }
    }
}

/// What stands directly in a directory, and which of it are directories; and whether it is one.
fn children(
    reader: &Reader,
    listed: &Listed,
    dir: &[u8],
) -> Result<(BTreeMap<Vec<u8>, bool>, bool), Failure> {
    let mut found = BTreeMap::new();
    let mut is_dir = true;
    for entry in Walk::new(reader, &listed.root, dir)? {
        let entry = entry?;
        let rest = entry.path.get(dir.len()..).unwrap_or_default();
        let rest = rest.strip_prefix(b"/").unwrap_or(rest);
        if rest.is_empty() {
            is_dir = matches!(entry.kind, Kind::Directory);
            continue;
        }
        match rest.iter().position(|&b| b == b'/') {
            Some(cut) => found.insert(rest[..cut].to_vec(), true),
            None => found.insert(rest.to_vec(), matches!(entry.kind, Kind::Directory)),
        };
    }
    Ok((found, is_dir))
}
