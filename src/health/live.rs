//! Databases in use, looked at where they lie and never written to.

use super::{LiveFound, LiveState};
use crate::clock::Clock;
use crate::compare::rows::with_live;
use crate::error::ErrorKind;
use crate::progress::Progress;
use crate::sqlite::check::{Depth, Verdict, check};
use std::path::Path;

/// What the database at `path` is. Whoever keeps it locked for long leaves nobody the wiser, and that is what is said.
pub fn look(path: &Path, depth: Depth, scratch: &Path, clock: &dyn Clock, progress: &Progress) -> LiveFound {
    let shown = path.display().to_string();
    if !path.exists() {
        return LiveFound { path: shown, state: LiveState::Gone };
    }
    let found = with_live(path, scratch, clock, progress, &mut |pin| {
        check(Box::new(pin.image.clone()), depth, progress.stop_flag())
    });
    let state = match found {
        Ok(found) => match (found.verdict, found.foreign_key_violations) {
            (Verdict::Bad, _) => LiveState::Damaged(found.messages.first().cloned().unwrap_or_default()),
            (Verdict::Unknown, _) => LiveState::Unseen(found.messages.first().cloned().unwrap_or_default()),
            (Verdict::Good, Some(n)) if n > 0 => LiveState::Orphans(n),
            (Verdict::Good, _) => LiveState::Sound,
        },
        Err(e) if matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported) => {
            LiveState::Damaged(e.message().to_owned())
        }
        Err(e) => LiveState::Unseen(e.message().to_owned()),
    };
    LiveFound { path: shown, state }
}
