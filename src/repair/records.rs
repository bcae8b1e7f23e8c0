//! Config, key slots, snapshots and condemned lists from their second copies, and lost second copies from the originals.

use super::journal;
use crate::backend::{Backend, write_new};
use crate::compress::Level;
use crate::error::{Error, ErrorKind, Result};
use crate::format::snapshot::{RepairAction, SessionInfo};
use crate::format::{FileName, Folder};
use crate::repository::writer::Writer;
use crate::repository::{Repository, copies};
use std::collections::BTreeSet;
use std::sync::Arc;

/// One file that is written from its twin.
#[derive(Clone, Debug)]
pub struct RecordRepair {
    /// What is put right, and from what.
    pub file: FileName,
    pub from: FileName,
    /// What is wrong with it.
    pub why: String,
}

/// What can be done about the small files.
#[derive(Clone, Debug, Default)]
pub struct RecordPlan {
    pub repairs: Vec<RecordRepair>,
    /// Damaged, and no intact copy.
    pub hopeless: Vec<(FileName, String)>,
}

/// How a file stands.
enum State {
    Good(Vec<u8>),
    Bad(Error),
    Missing,
}

fn look(repository: &Repository, name: &FileName) -> Result<State> {
    let bytes = match repository.backend().read(name, copies::bytes_max(name)) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(State::Missing),
        Err(e) if e.kind().is_unreadable() => return Ok(State::Bad(e)),
        Err(e) => return Err(e),
    };
    match copies::judge(repository, &bytes, name) {
        Ok(()) => Ok(State::Good(bytes)),
        Err(e) if e.kind().is_unreadable() => Ok(State::Bad(e)),
        Err(e) => Err(e),
    }
}

/// Every file that has, or should have, a second copy; of numbered ones the highest that is of any use, and those above.
fn originals(repository: &Repository) -> Result<Vec<FileName>> {
    let backend = repository.backend().as_ref();
    let mut names = BTreeSet::new();
    // Copies first: what is committed meanwhile is found whole, and what is removed meanwhile is judged below.
    for folder in [Folder::Copies, Folder::Config, Folder::Keys, Folder::Snapshots, Folder::Condemned] {
        for stat in backend.list(folder)? {
            names.insert(stat.name.original().unwrap_or(stat.name));
        }
    }
    let mut out = Vec::new();
    let (mut config, mut keys) = (false, false);
    for name in names.into_iter().rev() {
        let done = match name {
            FileName::Config(_) => &mut config,
            FileName::Keys(_) => &mut keys,
            _ => {
                out.push(name);
                continue;
            }
        };
        if !*done {
            out.push(name);
            let copy = name.second_copy().unwrap_or(name);
            let is_good = |name| Ok::<bool, Error>(matches!(look(repository, name)?, State::Good(_)));
            *done = is_good(&name)? || is_good(&copy)?;
        }
    }
    Ok(out)
}

/// Looks at everything and writes nothing.
pub fn plan(repository: &Repository) -> Result<RecordPlan> {
    let mut plan = RecordPlan::default();
    for name in originals(repository)? {
        match one(repository, &name)? {
            Judged::Fine => {}
            Judged::Repair(repair, _) => plan.repairs.push(repair),
            Judged::Hopeless(why) => plan.hopeless.push((name, why)),
        }
    }
    Ok(plan)
}

enum Judged {
    Fine,
    /// With the right bytes.
    Repair(RecordRepair, Vec<u8>),
    Hopeless(String),
}

/// The original is read before its copy, since the copy is removed first: a copy that is still there when the original
/// was not means that the original was lost.
fn one(repository: &Repository, name: &FileName) -> Result<Judged> {
    let Some(copy) = name.second_copy() else { return Ok(Judged::Fine) };
    let original = look(repository, name)?;
    let repair = |file: FileName, from: FileName, why: &str, bytes: Vec<u8>| {
        Judged::Repair(RecordRepair { file, from, why: why.to_owned() }, bytes)
    };
    Ok(match (original, look(repository, &copy)?) {
        (State::Good(bytes), State::Good(other)) if bytes == other => Judged::Fine,
        (State::Good(bytes), State::Good(_)) => repair(copy, *name, "it differs from the original", bytes),
        (State::Good(bytes), State::Bad(e)) => repair(copy, *name, e.message(), bytes),
        (State::Good(bytes), State::Missing) => repair(copy, *name, "it is missing", bytes),
        (State::Bad(e), State::Good(bytes)) => repair(*name, copy, e.message(), bytes),
        (State::Missing, State::Good(bytes)) => repair(*name, copy, "it is lost", bytes),
        (State::Bad(e), _) => Judged::Hopeless(e.message().to_owned()),
        // A copy that is damaged, of something that may have been removed on purpose, says nothing.
        (State::Missing, _) => Judged::Fine,
    })
}

/// Does what a plan says, after looking at each file again. `info` is for the session that is open meanwhile.
pub fn apply(repository: &Arc<Repository>, plan: &RecordPlan, info: &SessionInfo) -> Result<()> {
    // While it is open no collector that does not know of a lost snapshot deletes what that needs.
    let lost = |r: &RecordRepair| matches!(r.file, FileName::Snapshot(_));
    let session = match plan.repairs.iter().any(lost) {
        true => Some(Writer::open(repository, Level::AUTO, info)?),
        false => None,
    };
    let backend = repository.backend().as_ref();
    for planned in &plan.repairs {
        let name = planned.file.original().unwrap_or(planned.file);
        if let Judged::Repair(repair, bytes) = one(repository, &name)? {
            put(backend, &repair.file, &bytes)?;
        }
    }
    drop(session);
    Ok(())
}

/// Writes a file, or puts it right where a damaged one has its name.
pub fn put(backend: &dyn Backend, name: &FileName, bytes: &[u8]) -> Result<()> {
    match write_new(backend, name, bytes) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => backend.mend(name, bytes),
        other => other,
    }
}

pub fn actions(plan: &RecordPlan) -> Vec<RepairAction> {
    let action = |r: &RecordRepair| {
        let detail = format!("{}; written again from {}", r.why, r.from);
        journal::action("record-restored", r.file.path(), detail)
    };
    plan.repairs.iter().map(action).collect()
}
