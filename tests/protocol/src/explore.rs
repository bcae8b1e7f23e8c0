//! Walks through every reachable state of a model, breadth first, so that the first harm found is a shortest one.
//!
//! States are remembered by 64-bit fingerprints. Two states that share one would hide each other; with n states that
//! happens with a chance of about n * n / 2^65, one in forty thousand for thirty million.

use std::collections::HashMap;
use std::fmt::Display;
use std::hash::{BuildHasherDefault, DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};

/// Parts of the set of known states, so that threads seldom wait for each other.
const SHARDS: usize = 64;

/// What can be walked through.
pub trait Model: Sync {
    type State: Clone + Eq + Hash + Send + Sync;
    type Step: Display;

    fn initial(&self) -> Self::State;

    /// Everything that can happen next.
    fn steps(&self, state: &Self::State, next: &mut Vec<(Self::Step, Self::State)>);

    /// The same state with everything numbered afresh: states that differ only in who is called first or second, or in
    /// what nobody can tell any more, become one.
    fn canonical(&self, state: &Self::State) -> Self::State;

    /// A bit for the kind of step, to show which kinds were ever taken.
    fn kind(&self, step: &Self::Step) -> u64;

    /// What must never be.
    fn harm(&self, state: &Self::State) -> Option<&'static str>;
}

/// What a walk found.
#[derive(Debug, Default)]
pub struct Outcome {
    pub states: u64,
    pub transitions: u64,
    /// Steps to the farthest state.
    pub depth: u32,
    /// Kinds of steps that were taken.
    pub kinds: u64,
    /// The walk ended at its limit and not because everything had been seen.
    pub cut: bool,
    pub harm: Option<Harm>,
}

/// A state that must never be, and the shortest way to it.
#[derive(Debug)]
pub struct Harm {
    pub what: &'static str,
    pub trace: Vec<String>,
}

/// Fingerprints are random already.
#[derive(Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, n: u64) {
        self.0 = n;
    }
}

/// Known states, each with the one it was first reached from.
type Shard = HashMap<u64, u64, BuildHasherDefault<Identity>>;

fn fingerprint<S: Hash>(state: &S) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

struct Known {
    shards: Vec<Mutex<Shard>>,
}

impl Known {
    fn new() -> Self {
        Known { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }

    fn shard(&self, print: u64) -> std::sync::MutexGuard<'_, Shard> {
        // The map uses the low bits and the top seven.
        self.shards[(print >> 40) as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True when the state is new.
    fn insert(&self, print: u64, from: u64) -> bool {
        match self.shard(print).entry(print) {
            std::collections::hash_map::Entry::Occupied(_) => false,
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(from);
                true
            }
        }
    }

    /// Fingerprints from the initial state to this one.
    fn way_to(&self, mut print: u64) -> Vec<u64> {
        let mut way = vec![print];
        loop {
            let from = self.shard(print).get(&print).copied().unwrap_or(print);
            if from == print {
                way.reverse();
                return way;
            }
            way.push(from);
            print = from;
        }
    }
}

/// What one thread found in its part of a level.
struct Part<S> {
    next: Vec<S>,
    transitions: u64,
    kinds: u64,
    harm: Option<(u64, &'static str)>,
}

/// All states within `limit`, by `threads` threads.
pub fn explore<M: Model>(model: &M, limit: u64, threads: usize) -> Outcome {
    let known = Known::new();
    let first = model.canonical(&model.initial());
    let print = fingerprint(&first);
    known.insert(print, print);
    let mut outcome = Outcome { states: 1, ..Outcome::default() };
    let mut harm = model.harm(&first).map(|what| (print, what));
    let mut level = vec![first];
    while harm.is_none() && !level.is_empty() {
        let share = level.len().div_ceil(threads.max(1)).max(1);
        let parts: Vec<Part<M::State>> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                level.chunks(share).map(|states| scope.spawn(|| walk(model, states, &known))).collect();
            threads.into_iter().map(|t| t.join().expect("the walk does not panic")).collect()
        });
        level = Vec::new();
        for part in parts {
            outcome.transitions += part.transitions;
            outcome.kinds |= part.kinds;
            outcome.states += part.next.len() as u64;
            harm = harm.into_iter().chain(part.harm).min();
            if level.is_empty() { level = part.next } else { level.extend(part.next) }
        }
        outcome.depth += u32::from(!level.is_empty());
        if outcome.states > limit {
            outcome.cut = true;
            break;
        }
    }
    outcome.harm = harm.map(|(print, what)| Harm { what, trace: tell(model, &known.way_to(print)) });
    outcome
}

fn walk<M: Model>(model: &M, states: &[M::State], known: &Known) -> Part<M::State> {
    let mut part = Part { next: Vec::new(), transitions: 0, kinds: 0, harm: None };
    let mut steps = Vec::new();
    for state in states {
        let from = fingerprint(state);
        model.steps(state, &mut steps);
        for (step, next) in steps.drain(..) {
            part.transitions += 1;
            part.kinds |= model.kind(&step);
            let next = model.canonical(&next);
            let print = fingerprint(&next);
            if !known.insert(print, from) {
                continue;
            }
            if let Some(what) = model.harm(&next) {
                part.harm = part.harm.into_iter().chain([(print, what)]).min();
            }
            part.next.push(next);
        }
    }
    part
}

/// The steps along a way, found by taking it again; in the words of one walk, without numbering afresh in between.
fn tell<M: Model>(model: &M, way: &[u64]) -> Vec<String> {
    let (mut state, mut steps, mut told) = (model.initial(), Vec::new(), Vec::new());
    for print in &way[1..] {
        model.steps(&state, &mut steps);
        let found = steps.drain(..).find(|(_, next)| fingerprint(&model.canonical(next)) == *print);
        let (step, next) = found.expect("the step that was taken before");
        told.push(step.to_string());
        state = next;
    }
    told
}
