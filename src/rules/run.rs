//! Rules tried on a tree: its things come one after another, each directory before what stands in it.

use super::check::{self, Memory};
use super::sql::Answer;
use super::{Check, JsonCheck, Outcome, Reason, Report, Rule, Rules, Verdict, sql};
use crate::error::Result;
use crate::json::doc::Doc;
use crate::sqlite::query::Reading;
use std::collections::BTreeMap;

/// Reasons listed for a rule.
const REASONS_MAX: usize = 100;
/// Directories that one rule may look at.
const DIRECTORIES_MAX: usize = 1 << 20;

/// What stands at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thing {
    Directory,
    File,
    Other,
}

/// Why a database could not be asked.
pub enum Unasked {
    /// It is none, or damaged: no rule about it holds.
    Bad(String),
    /// Nobody knows what it would have said.
    Cannot(String),
}

/// The file at hand, opened only when a rule wants to know what is in it.
pub trait Contents {
    /// All of it; the inner error says why it cannot be looked into.
    fn bytes(&mut self) -> Result<std::result::Result<Vec<u8>, String>>;

    /// Whether it begins as a database does; `false` where that cannot be seen.
    fn is_database(&mut self) -> bool;

    /// Holds one state of it as a database while `ask` looks at it. That may happen again when the state did not hold; then
    /// only the last time counts.
    fn database(
        &mut self,
        ask: &mut dyn FnMut(&Reading) -> Result<()>,
    ) -> Result<std::result::Result<(), Unasked>>;
}

/// A trial under way.
pub struct Run<'r> {
    rules: &'r Rules,
    states: Vec<State>,
    /// Parts of the tree that could not be looked at: no rule can pass.
    blind: Vec<Reason>,
}

#[derive(Default)]
struct State {
    looked_at: u64,
    reasons: Vec<Reason>,
    more: u64,
    /// It could not be tried on everything.
    broken: bool,
    /// For each directory, which of the required files it has.
    directories: BTreeMap<Vec<u8>, u64>,
    memory: Memory,
}

impl State {
    fn fail(&mut self, path: Option<&[u8]>, message: String) {
        if self.reasons.len() < REASONS_MAX {
            self.reasons.push(Reason { path: path.map(<[u8]>::to_vec), message });
        } else {
            self.more += 1;
        }
    }

    fn error(&mut self, message: impl Into<String>) {
        self.broken = true;
        self.reasons.insert(0, Reason { path: None, message: message.into() });
    }

    fn answered(&mut self, path: &[u8], answer: Answer) {
        match answer {
            Answer::Holds => {}
            Answer::Fails(why) => self.fail(Some(path), why),
            Answer::Unknown(why) => {
                self.broken = true;
                self.fail(Some(path), why);
            }
        }
    }
}

impl<'r> Run<'r> {
    pub fn new(rules: &'r Rules) -> Self {
        let state = |rule: &Rule| match &rule.check {
            Check::Json(check) => State { memory: Memory::new(check), ..State::default() },
            _ => State::default(),
        };
        Run { rules, states: rules.list.iter().map(state).collect(), blind: Vec::new() }
    }

    /// Something could not be looked at.
    pub fn blind(&mut self, path: &[u8], message: &str) {
        if self.blind.len() < REASONS_MAX {
            self.blind.push(Reason { path: Some(path.to_vec()), message: message.to_owned() });
        }
    }

    /// The next thing of the tree; `path` is relative to the directory that the rules are for.
    pub fn visit(&mut self, path: &[u8], thing: Thing, file: &mut dyn Contents) -> Result<()> {
        use std::os::unix::ffi::OsStrExt;
        let as_path = std::path::Path::new(std::ffi::OsStr::from_bytes(path));
        let (mut readers, mut askers) = (Vec::new(), Vec::new());
        for (number, (rule, state)) in self.rules.list.iter().zip(&mut self.states).enumerate() {
            let fits = || rule.glob.is_match(as_path);
            match (&rule.check, thing) {
                (Check::Directories { .. }, Thing::Directory) if fits() => state.meet(path),
                (Check::Directories { files }, Thing::File) => state.meet_file(path, files),
                (Check::Paths, Thing::File) if fits() => state.looked_at += 1,
                (Check::Json(check), Thing::File) => {
                    let (mine, theirs) = (fits(), check.refers.iter().any(|r| r.to.is_match(as_path)));
                    if mine {
                        state.looked_at += 1;
                    }
                    if mine || theirs {
                        readers.push((number, mine));
                    }
                }
                (Check::Sql(_), Thing::File) if fits() && !sql::is_companion(path) => {
                    state.looked_at += 1;
                    askers.push(number);
                }
                _ => {}
            }
        }
        if !askers.is_empty() {
            self.ask(path, &askers, file)?;
        }
        if readers.is_empty() {
            return Ok(());
        }
        let text = file.bytes()?;
        let doc = text.as_ref().map_err(Clone::clone);
        let doc = doc.and_then(|text| Doc::parse(text).map_err(|fault| fault.to_string()));
        for (number, mine) in readers {
            if let (Some(Rule { check: Check::Json(check), .. }), Some(state)) =
                (self.rules.list.get(number), self.states.get_mut(number))
            {
                state.look_into(check, path, as_path, &doc, mine);
            }
        }
        Ok(())
    }

    /// Asks the database at `path` what the rules with these numbers want to know.
    fn ask(&mut self, path: &[u8], numbers: &[usize], file: &mut dyn Contents) -> Result<()> {
        let mut answers = Vec::new();
        let asked = file.database(&mut |reading| {
            answers.clear();
            for number in numbers {
                if let Some(Rule { check: Check::Sql(check), .. }) = self.rules.list.get(*number) {
                    answers.push(check.ask(reading)?);
                }
            }
            Ok(())
        })?;
        for (at, number) in numbers.iter().enumerate() {
            let answer = match &asked {
                Ok(()) => answers.get_mut(at).map(|answer| std::mem::replace(answer, Answer::Holds)),
                Err(Unasked::Bad(why)) => Some(Answer::Fails(why.clone())),
                Err(Unasked::Cannot(why)) => Some(Answer::Unknown(why.clone())),
            };
            if let (Some(answer), Some(state)) = (answer, self.states.get_mut(*number)) {
                state.answered(path, answer);
            }
        }
        Ok(())
    }

    /// What came of it.
    pub fn finish(self) -> Report {
        let blind = self.blind;
        let rules = self.rules.list.iter().zip(self.states);
        Report { outcomes: rules.map(|(rule, state)| state.end(rule, &blind)).collect() }
    }
}

impl State {
    fn meet(&mut self, path: &[u8]) {
        self.looked_at += 1;
        if self.directories.len() < DIRECTORIES_MAX {
            self.directories.insert(path.to_vec(), 0);
        } else if !self.broken {
            self.error("more than a million directories match, the most that are looked at");
        }
    }

    fn meet_file(&mut self, path: &[u8], files: &[Vec<u8>]) {
        for (n, file) in files.iter().enumerate() {
            let above = path.strip_suffix(file.as_slice()).and_then(|above| above.strip_suffix(b"/"));
            if let Some(has) = above.and_then(|dir| self.directories.get_mut(dir)) {
                *has |= 1 << n;
            }
        }
    }

    fn look_into(
        &mut self,
        check: &JsonCheck,
        path: &[u8],
        as_path: &std::path::Path,
        doc: &std::result::Result<Doc<'_>, String>,
        mine: bool,
    ) {
        let doc = match doc {
            Ok(doc) => doc,
            Err(why) => return self.fail(Some(path), why.clone()),
        };
        if let Some(fault) = doc.duplicate.as_ref().filter(|_| mine) {
            self.fail(Some(path), fault.to_string());
        }
        for (n, refer) in check.refers.iter().enumerate() {
            if refer.to.is_match(as_path) {
                self.memory.learn(n, doc, &refer.key);
            }
        }
        if mine {
            for wrong in check::json(check, &mut self.memory, path, doc) {
                self.fail(Some(path), wrong);
            }
        }
    }

    fn end(mut self, rule: &Rule, blind: &[Reason]) -> Outcome {
        match &rule.check {
            Check::Directories { files } => {
                for (dir, has) in std::mem::take(&mut self.directories) {
                    let missing = files.iter().enumerate().filter(|(n, _)| has >> n & 1 == 0);
                    let missing: Vec<_> = missing.map(|(_, f)| String::from_utf8_lossy(f)).collect();
                    if !missing.is_empty() {
                        self.fail(Some(&dir), format!("without {}", missing.join(", ")));
                    }
                }
            }
            Check::Json(check) => self.end_json(check),
            Check::Paths | Check::Sql(_) => {}
        }
        let (n, pattern) = (self.looked_at, &rule.pattern);
        match (rule.at_least, rule.at_most) {
            (Some(0), _) if n == 0 => {}
            _ if n == 0 => self.error(format!("nothing matches `{pattern}`, so nothing is proved")),
            (Some(least), _) if n < least => {
                self.fail(None, format!("{n} match `{pattern}`, and at least {least} should"));
            }
            (_, Some(most)) if n > most => {
                self.fail(None, format!("{n} match `{pattern}`, and at most {most} should"));
            }
            _ => {}
        }
        if !blind.is_empty() {
            self.broken = true;
            self.reasons.splice(0..0, blind.iter().cloned());
            self.reasons.truncate(REASONS_MAX);
        }
        let verdict = match (self.broken, self.reasons.is_empty()) {
            (true, _) => Verdict::Error,
            (false, false) => Verdict::Fail,
            (false, true) => Verdict::Pass,
        };
        let State { looked_at, reasons, more, .. } = self;
        Outcome { name: rule.name.clone(), verdict, looked_at, reasons, more }
    }

    fn end_json(&mut self, check: &JsonCheck) {
        if let Some(Err(why)) = &check.schema {
            self.error(why.clone());
        }
        for (n, refer) in check.refers.iter().enumerate() {
            if self.memory.to.get(n).is_some_and(std::collections::HashSet::is_empty) {
                let what = format!(
                    "no file of `{}` has `{}`, so nothing can be referred to",
                    refer.pattern, refer.key
                );
                self.error(what);
                continue;
            }
            let dangling: Vec<Reason> = self.memory.dangling(n).take(REASONS_MAX * 10).collect();
            for Reason { path, message } in dangling {
                self.fail(path.as_deref(), message);
            }
        }
        if self.memory.full {
            self.error("it would have to remember more than a million values");
        }
    }
}
