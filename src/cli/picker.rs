//! Lists on the terminal to choose from, narrowed down by typing. The only home of dialoguer.

use super::failure::{FAILED, Failure, INTERRUPTED};
use crate::error::Error;
use dialoguer::FuzzySelect;
use dialoguer::console::Term;
use dialoguer::theme::SimpleTheme;
use signal_hook::consts::SIGINT;
use signal_hook::{SigId, flag, low_level};
use std::io::{BufRead, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Lines of a list that are shown at once.
const LINES: usize = 15;

/// Whether there is somebody to choose.
pub fn can_ask() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Questions on the terminal. While it lives Ctrl-C ends the question at hand, and the terminal stays usable.
pub struct Picker {
    term: Term,
    heard: Option<SigId>,
}

impl Picker {
    pub fn new() -> Self {
        let heard = flag::register(SIGINT, Arc::new(AtomicBool::new(false))).ok();
        Picker { term: Term::stderr(), heard }
    }

    /// Which of the items; they are shown as they are, so that nothing in them may move the cursor.
    pub fn choose(&self, what: &str, items: &[String]) -> Result<usize, Failure> {
        let list = FuzzySelect::with_theme(&SimpleTheme).with_prompt(what).items(items).default(0);
        let list = list.max_length(LINES).highlight_matches(false);
        match list.interact_on_opt(&self.term) {
            Ok(Some(chosen)) => Ok(chosen),
            Ok(None) => Err(Failure::new(FAILED, "nothing was chosen, and nothing was changed")),
            Err(dialoguer::Error::IO(e)) => {
                let _ = self.term.show_cursor();
                match e.kind() {
                    std::io::ErrorKind::Interrupted => {
                        Err(Failure::new(INTERRUPTED, "interrupted; nothing was changed"))
                    }
                    _ => Err(Error::io("cannot ask on the terminal", &e).into()),
                }
            }
        }
    }
}

/// A line of text; empty for `None`.
pub fn line(what: &str) -> Result<Option<String>, Failure> {
    let cannot = |e: std::io::Error| Failure::from(Error::io("cannot ask on the terminal", &e));
    let mut err = std::io::stderr();
    write!(err, "{what} ").and_then(|()| err.flush()).map_err(cannot)?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(cannot)?;
    let answer = answer.trim();
    Ok((!answer.is_empty()).then(|| answer.to_owned()))
}

impl Drop for Picker {
    fn drop(&mut self) {
        self.heard.map(low_level::unregister);
    }
}
