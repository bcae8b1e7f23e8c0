//! What differs between two JSON values, in an order in which it can be applied.

use super::doc::{Doc, Kind, Node};
use super::matching::{ascending, match_items};
use super::pointer::push;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// What happened at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Added,
    Removed,
    Changed,
    /// An element with a key of its own stands at another position.
    Moved,
}

/// One difference, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    pub what: What,
    /// A JSON pointer into the later value; for what was removed, into the earlier.
    pub path: String,
    /// Where a moved element stood.
    pub from: Option<String>,
    /// The values in the earlier and in the later text.
    pub old: Option<Node>,
    pub new: Option<Node>,
}

/// One step of turning the earlier value into the later; the steps before it have been taken.
pub struct Step<'p> {
    pub what: What,
    /// It is news; otherwise it is one half of a move.
    pub told: bool,
    /// The operation of RFC 6902, if it is part of the patch.
    pub operation: Option<&'static str>,
    pub old_path: &'p str,
    pub new_path: &'p str,
    /// Where to apply it.
    pub live_path: &'p str,
    pub old: Option<Node>,
    pub new: Option<Node>,
}

/// The differences, as far as they are listed, and how many there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    pub list: Vec<Edit>,
    pub added: u64,
    pub removed: u64,
    pub changed: u64,
    pub moved: u64,
}

impl Edits {
    /// Those that are not in the list.
    pub fn more(&self) -> u64 {
        (self.added + self.removed + self.changed + self.moved).saturating_sub(self.list.len() as u64)
    }
}

/// Differences in order; lists the first `max` of them.
pub fn edits(a: &Doc<'_>, b: &Doc<'_>, max: usize) -> Edits {
    let mut all = Edits::default();
    steps(a, b, &mut |step| {
        if !step.told {
            return;
        }
        *match step.what {
            What::Added => &mut all.added,
            What::Removed => &mut all.removed,
            What::Changed => &mut all.changed,
            What::Moved => &mut all.moved,
        } += 1;
        if all.list.len() == max {
            return;
        }
        let path = if step.what == What::Removed { step.old_path } else { step.new_path };
        let from = (step.what == What::Moved).then(|| step.old_path.to_owned());
        all.list.push(Edit { what: step.what, path: path.to_owned(), from, old: step.old, new: step.new });
    });
    all
}

/// Calls `take` for each step from `a` to `b`.
pub fn steps(a: &Doc<'_>, b: &Doc<'_>, take: &mut dyn FnMut(&Step<'_>)) {
    let [old, new, live] = Default::default();
    Walk { a, b, old, new, live, within_move: false, take }.both(a.root(), b.root());
}

struct Walk<'w, 't> {
    a: &'w Doc<'t>,
    b: &'w Doc<'t>,
    /// The way to where we are: in the earlier, in the later, and in the earlier with all steps so far.
    old: String,
    new: String,
    live: String,
    /// The patch has the whole of what is looked at already.
    within_move: bool,
    take: &'w mut dyn FnMut(&Step<'_>),
}

/// Lengths of the three ways, to go back to.
type Mark = (usize, usize, usize);

impl Walk<'_, '_> {
    fn mark(&self) -> Mark {
        (self.old.len(), self.new.len(), self.live.len())
    }

    fn back(&mut self, mark: Mark) {
        self.old.truncate(mark.0);
        self.new.truncate(mark.1);
        self.live.truncate(mark.2);
    }

    fn enter(&mut self, key: &[u8]) {
        for path in [&mut self.old, &mut self.new, &mut self.live] {
            push(path, key);
        }
    }

    fn tell(
        &mut self,
        what: What,
        told: bool,
        operation: &'static str,
        old: Option<Node>,
        new: Option<Node>,
    ) {
        (self.take)(&Step {
            what,
            told,
            operation: Some(operation).filter(|_| !self.within_move),
            old_path: &self.old,
            new_path: &self.new,
            live_path: &self.live,
            old,
            new,
        });
    }

    fn both(&mut self, old: Node, new: Node) {
        let (a, b) = (self.a, self.b);
        let kind = a.kind(old);
        if kind == b.kind(new) {
            if a.raw(old) == b.raw(new) {
                return;
            }
            match kind {
                Kind::Object if self.object(old, new) => return,
                Kind::Array => return self.array(old, new),
                Kind::Object => {}
                _ if a.same(old, b, new) => return,
                _ => {}
            }
        }
        self.tell(What::Changed, true, "replace", Some(old), Some(new));
    }

    /// Key by key; `false` if a key cannot be written in a pointer, so that only the whole can be replaced.
    fn object(&mut self, old: Node, new: Node) -> bool {
        let (before, after) = (self.a.members(old), self.b.members(new));
        let writable = |key: &Cow<'_, [u8]>| std::str::from_utf8(key).is_ok();
        if !before.iter().chain(&after).all(|(key, _)| writable(key)) {
            return self.a.same(old, self.b, new);
        }
        let later: HashMap<&[u8], Node> = after.iter().map(|(key, value)| (key.as_ref(), *value)).collect();
        let mark = self.mark();
        for (key, value) in &before {
            self.enter(key);
            match later.get(key.as_ref()) {
                Some(now) => self.both(*value, *now),
                None => self.tell(What::Removed, true, "remove", Some(*value), None),
            }
            self.back(mark);
        }
        let earlier: HashSet<&[u8]> = before.iter().map(|(key, _)| key.as_ref()).collect();
        for (key, value) in after.iter().filter(|(key, _)| !earlier.contains(key.as_ref())) {
            self.enter(key);
            self.tell(What::Added, true, "add", None, Some(*value));
            self.back(mark);
        }
        true
    }

    fn array(&mut self, old: Node, new: Node) {
        let (before, after): (Vec<Node>, Vec<Node>) =
            (self.a.items(old).collect(), self.b.items(new).collect());
        let pairs = match_items(self.a, &before, self.b, &after);
        let order: Vec<usize> = pairs.iter().map(|(i, _)| *i).collect();
        let (mut partner, mut lives) = (vec![None; after.len()], vec![false; before.len()]);
        for (i, j) in &pairs {
            (partner[*j], lives[*i]) = (Some((*i, false)), true);
        }
        for n in ascending(&order) {
            partner[pairs[n].1] = Some((pairs[n].0, true));
        }
        let (mut i, mut at) = (0, 0);
        for (j, item) in after.iter().enumerate() {
            match partner[j] {
                Some((from, true)) => {
                    self.leave(&before, i..from, at, &lives);
                    i = from + 1;
                    self.element((from, j, at), |walk| walk.both(before[from], *item));
                }
                Some((from, false)) => self.element((from, j, at), |walk| {
                    walk.tell(What::Moved, true, "add", Some(before[from]), Some(*item));
                    let outer = std::mem::replace(&mut walk.within_move, true);
                    walk.both(before[from], *item);
                    walk.within_move = outer;
                }),
                None => self.element((j, j, at), |walk| {
                    walk.tell(What::Added, true, "add", None, Some(*item));
                }),
            }
            at += 1;
        }
        self.leave(&before, i..before.len(), at, &lives);
    }

    /// Elements that go from position `at`: for good, or to stand elsewhere.
    fn leave(&mut self, before: &[Node], range: std::ops::Range<usize>, at: usize, lives: &[bool]) {
        for i in range {
            let gone = !lives[i];
            let what = if gone { What::Removed } else { What::Moved };
            self.element((i, at, at), |walk| walk.tell(what, gone, "remove", Some(before[i]), None));
        }
    }

    fn element(&mut self, (old, new, live): (usize, usize, usize), what: impl FnOnce(&mut Self)) {
        use std::fmt::Write;
        let mark = self.mark();
        for (path, position) in [(&mut self.old, old), (&mut self.new, new), (&mut self.live, live)] {
            // Writing to a string cannot fail.
            let _ = write!(path, "/{position}");
        }
        what(self);
        self.back(mark);
    }
}
