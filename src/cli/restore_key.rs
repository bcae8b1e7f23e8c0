//! `restore --key`: one value of a JSON file back into the live file.

use super::context::Context;
use super::failure::{FAILED, Failure, Outcome, VALIDATION};
use super::json::Message;
use super::names::{escape, plain_json, shown};
use super::options::Target;
use crate::codes::Code;
use crate::compare::inside::text;
use crate::error::Context as _;
use crate::format::entry::Entry;
use crate::json::doc::{Doc, Node};
use crate::json::patch::Patch;
use crate::json::pointer::Pointer;
use crate::json::splice::{Way, put};
use crate::manifest::walk::find;
use crate::repository::reader::Reader;
use crate::restore::value::Live;
use crate::units;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The text of a stored file that is to hold JSON.
pub fn stored_text(reader: &Reader, entry: &Entry) -> Result<Vec<u8>, Failure> {
    let cannot = |why: String| Failure::new(FAILED, format!("{} in the snapshot: {why}", shown(&entry.path)));
    text(reader, &entry.content)?.map_err(cannot)
}

/// A text that must be JSON; `where_` names it in the failure.
pub fn parsed<'t>(text: &'t [u8], where_: &str) -> Result<Doc<'t>, Failure> {
    let failure = |fault| Failure::new(VALIDATION, format!("{where_} is not JSON that can be used: {fault}"));
    Doc::parse(text).map_err(failure)
}

/// The value that must be there.
pub fn value(doc: &Doc<'_>, pointer: &Pointer, where_: &str) -> Result<Node, Failure> {
    let none =
        || Failure::new(FAILED, format!("{where_} has no `{}`", escape(pointer.to_string().as_bytes())));
    pointer.find(doc).ok_or_else(none)
}

/// The file named by SNAP:PATH.
pub fn stored_file(reader: &Reader, from: &Target) -> Result<Entry, Failure> {
    let Some(path) = from.path.as_ref().filter(|p| !p.is_empty()) else {
        return Err(Failure::usage("--key needs a file; name it with SNAP:PATH"));
    };
    match find(reader, &from.snapshot.root, path)? {
        Some(entry) if entry.is_file() => Ok(entry),
        Some(_) => Err(Failure::new(FAILED, format!("{} is no file in the snapshot", shown(path)))),
        None => Err(Failure::new(FAILED, format!("{} is not in the snapshot", shown(path)))),
    }
}

/// Puts the value at `key` of the stored file into the live one, or into what `to` names.
pub fn run(context: &Context, reader: &Reader, from: &Target, key: &str, to: Option<&Path>) -> Outcome {
    let pointer = Pointer::parse(key).map_err(super::failure::usage)?;
    let entry = stored_file(reader, from)?;
    let stored = stored_text(reader, &entry)?;
    let source = format!("{} in snapshot {}", shown(&entry.path), from.snapshot.id.short());
    let source_doc = parsed(&stored, &source)?;
    let wanted = value(&source_doc, &pointer, &source)?;
    let path = place(&entry, to);
    let name = escape(path.as_os_str().as_bytes());
    let live = Live::open(&path)?;
    let live_doc = parsed(&live.text, &name)?;
    let spliced = put(&live_doc, &pointer, source_doc.raw(wanted)).context(|| &name)?;
    let new_doc = parsed(&spliced.text, &name)?;
    let patch = Patch::between(&live_doc, &new_doc);
    if spliced.way != Way::Same && !context.global.dry_run {
        if live.other_names() > 0 {
            let names = units::counted(live.other_names().into(), "other name", "other names");
            context.output.warn(
                Code::HardLinksKeepOld,
                &format!("{name} has {names} (hard links); they keep the old text"),
            );
        }
        live.replace(&spliced.text)?;
    }
    let told = tell(
        context,
        &Told { name: &name, path: &path, key: &pointer.to_string(), way: spliced.way },
        &patch,
    );
    Ok(context.output.told(told, 0))
}

/// The live file: where it came from, or what `--target` names; in a directory, under its own name.
fn place(entry: &Entry, to: Option<&Path>) -> PathBuf {
    match to {
        None => Path::new("/").join(OsStr::from_bytes(&entry.path)),
        Some(dir) if dir.is_dir() => dir.join(OsStr::from_bytes(entry.name())),
        Some(file) => file.to_owned(),
    }
}

struct Told<'a> {
    name: &'a str,
    path: &'a Path,
    key: &'a str,
    way: Way,
}

fn tell(context: &Context, what: &Told<'_>, patch: &Patch) -> Result<(), Failure> {
    let dry = context.global.dry_run;
    let (action, word) = match what.way {
        Way::Same => ("unchanged", "has this value already; nothing to do"),
        Way::Replaced if dry => ("replace", "would be changed"),
        Way::Replaced => ("replace", "changed"),
        Way::Inserted if dry => ("add", "would get the key"),
        Way::Inserted => ("add", "got the key back"),
    };
    if context.output.json {
        let json = Message::default()
            .with_path("path", "path_b64", what.path.as_os_str().as_bytes())
            .with("key", what.key)
            .with("action", action)
            .with_raw("patch", patch.json(false));
        let restored = u64::from(!dry && what.way != Way::Same);
        let mut message = Message::new("summary");
        if dry {
            message = message.with("dry_run", true);
        }
        let text = serde_json::to_string(&json).unwrap_or_default();
        return context.output.result(&message.with("files_restored", restored).with_raw("json", text));
    }
    let line = format!("{}: `{}` {word}", what.name, escape(what.key.as_bytes()));
    let lines = match dry && what.way != Way::Same {
        true => format!("{line}\n{}", plain_json(&patch.json(true))),
        false => line,
    };
    context.output.say(&lines)
}
