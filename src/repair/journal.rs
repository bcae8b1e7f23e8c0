//! The record of what repairs did, kept in the repository: a note about no snapshot in particular.

use crate::clock::Timestamp;
use crate::error::Result;
use crate::format::snapshot::{Note, NoteKind, RepairAction};
use crate::repository::Repository;
use crate::repository::notes::store;

/// Actions in one note; more make several.
const ACTIONS_MAX: usize = 500;
/// Longest text of one action, in bytes.
const TEXT_MAX: usize = 500;

pub fn action(action: &str, what: impl Into<String>, detail: impl Into<String>) -> RepairAction {
    RepairAction { action: action.to_owned(), what: what.into(), detail: short(detail.into()) }
}

fn short(mut text: String) -> String {
    if let Some((at, _)) = text.char_indices().find(|(at, _)| *at >= TEXT_MAX) {
        text.truncate(at);
        text.push('…');
    }
    text
}

/// Writes down what is about to be done, before it is: what follows may be cut short, and is then done, and written
/// down, again.
pub fn write(repository: &Repository, actions: &[RepairAction], now: Timestamp) -> Result<()> {
    for (number, actions) in actions.chunks(ACTIONS_MAX).enumerate() {
        let what = NoteKind::Repair { actions: actions.to_vec() };
        let note = Note { snapshot: String::new(), sequence: number as u64 + 1, time: now.rfc3339(), what };
        store(repository, &note)?;
    }
    Ok(())
}
