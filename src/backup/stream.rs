//! Standard input or a command's output to one file of a snapshot.

use super::Options;
use super::documents::Tap;
use super::item::{FileReader, OldChunks, Trouble};
use super::perform::{Change, Row};
use super::pipeline::Shared;
use super::sink::{Sink, Stored};
use crate::clock::Timestamp;
use crate::crypto::ChunkSort;
use crate::error::{Context, Error, Result};
use crate::format::entry::{Content, Entry, Flags, Kind, Metadata, Owner, Stat};
use crate::manifest::walk::Groups;
use crate::repository::writer::DeltaPolicy;
use crate::source::LeftOut;
use crate::source::stream::StreamSource;
use std::sync::Arc;

/// Reads the stream to its end; a command that fails fails the backup, however much it had written.
pub fn store(
    shared: &Shared<'_>,
    source: &StreamSource,
    path: &[u8],
    parent: Groups,
    options: &Options,
    started: Timestamp,
) -> Result<Stored> {
    let mut stream = source.open()?;
    let reader = &shared.writer.reader;
    let old = old_entry(shared, &parent, path);
    let old_chunks = old.as_ref().map(|o| OldChunks::of(reader, o)).unwrap_or_default();
    let mut lane = shared.writer.lane(ChunkSort::Content)?;
    let mut file = FileReader {
        keyring: reader.keyring(),
        chunker: &shared.chunker,
        progress: shared.progress,
        short_read_is_end: false,
        stop_at_database: false,
        buffer: Vec::new(),
    };
    shared.progress.set_current(path);
    let mut tap = Tap::new(&mut stream, shared.documents.form(path), None);
    let read = file.read(&mut tap, u64::MAX, false, &old_chunks, &mut |id, plain, parents| {
        if lane.claim(&id)? { lane.store(id, plain, parents, DeltaPolicy::CONTENT) } else { Ok(()) }
    });
    let read = read.map_err(|trouble| match trouble {
        Trouble::Source(e) | Trouble::Repository(e) => e,
        Trouble::Database => Error::invalid("a stream is not read as a database"),
    })?;
    let (verdict, _) = tap.finish();
    let sound = matches!(verdict, Some(None));
    if let Some(fault) = verdict {
        shared.documents.note(path, fault);
    }
    lane.finish()?;
    let finished = stream.finish();
    // The signal that stops us has ended the command too.
    shared.progress.keep_going()?;
    finished.context(|| "nothing was saved")?;
    shared.progress.add_file(0);
    let mut flags = Flags::default();
    if read.is_sqlite {
        flags.set(Flags::UNVERIFIED);
    }
    let mut sink = Sink::new(shared.writer, &shared.documents, parent)?;
    let owner = Arc::new(Owner { user: options.user.clone(), ..Owner::default() });
    let meta = Metadata { mode: 0o600, owner, mtime: started, xattrs: None };
    // Directories above a stream exist nowhere; they are needed to restore it below one.
    for end in path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(i, _)| i) {
        let meta = Metadata { mode: 0o700, ..meta.clone() };
        let entry = plain_entry(&path[..end], Kind::Directory, meta, Content::default());
        sink.push(Row { entry, stat: Stat::default(), change: Change::New, before: Vec::new() })?;
    }
    let mut entry = plain_entry(path, Kind::File, meta, read.content);
    entry.flags = flags;
    let change = match &old {
        None => Change::New,
        Some(old) if old.content == entry.content => Change::Same,
        Some(_) => Change::Changed,
    };
    let before = old.map(|old| old.content.lists).unwrap_or_default();
    sink.push(Row { entry, stat: Stat { racy: true, sound, ..Stat::default() }, change, before })?;
    sink.finish(LeftOut::default())
}

fn plain_entry(path: &[u8], kind: Kind, meta: Metadata, content: Content) -> Entry {
    Entry { path: path.to_vec(), kind, meta, flags: Flags::default(), link: 0, content }
}

fn old_entry(shared: &Shared<'_>, parent: &Groups, path: &[u8]) -> Option<Entry> {
    let entries = parent.read(&shared.writer.reader, parent.covering(path).start).ok()?;
    entries.into_iter().find(|e| e.path == path && e.is_file())
}
