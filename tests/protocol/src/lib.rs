//! The protocol of `format-spec/8-sessions-and-removal.md` as a model, and a walk through all its states: writers,
//! collectors and whoever forgets, evicts and undeletes, in every order, each stopping anywhere.
//!
//! The model says nothing about crashes of the machine, nor about what a file system does to a rename; other tests do.
//! It says that the *order* of the steps is right, and for each rule that leaving it out loses data.

pub mod canonical;
pub mod collector;
pub mod explore;
pub mod state;
pub mod writer;

use explore::Model;
use state::{Standing, State, Step};

/// A model: who takes part, and by which rules.
#[derive(Clone, Debug, Default)]
pub struct Setting {
    /// What the first packs hold, and what the first snapshot needs.
    pub packs: &'static [state::Copies],
    pub need: state::Chunks,
    pub writers: &'static [writer::Role],
    pub collectors: usize,
    /// Collections each of them makes, at least one.
    pub rounds: u8,
    /// How often a writer tries again after an eviction.
    pub retries: u8,
    /// How many snapshots are forgotten.
    pub forgets: u8,
    /// Forgetting leaves a tombstone first; without, it removes the record at once.
    pub trash: bool,
    /// Chunks may be stored as differences.
    pub deltas: bool,
    pub numbers: Numbers,
    pub broken: Broken,
}

/// How condemned lists get their numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Numbers {
    /// Never the same twice, however that is done.
    #[default]
    Unique,
    /// The number after the highest that is there; the highest list stays until there is a higher one.
    HighestStays,
}

/// Rules that are left out. All false is the protocol.
#[derive(Clone, Copy, Debug, Default)]
pub struct Broken {
    /// A writer lists packs before it reads the condemned lists.
    pub packs_before_lists: bool,
    /// Packs are named by what they hold, whoever writes them.
    pub content_names: bool,
    /// The same for the packs of writers only.
    pub content_names_of_writers: bool,
    /// A commit does not ask whether the session was evicted.
    pub unfenced_commit: bool,
    /// A collector lists the sessions before its list is published.
    pub sessions_before_publish: bool,
    /// A writer believes its cache without listing packs.
    pub no_listing: bool,
    /// A collector does not mark again before it deletes.
    pub no_second_mark: bool,
    /// A collector takes needed packs off its list instead of copying what is needed.
    pub pardon: bool,
    /// A writer looks first and registers after.
    pub register_late: bool,
    /// A collector waits for a time, not for the sessions.
    pub timer: bool,
    /// A writer takes a chunk for present when a copy is, whether it can be decoded or not.
    pub writer_counts_copies: bool,
    /// A collector takes a chunk for kept when a copy is, though the copy's base is condemned.
    pub collector_counts_copies: bool,
    /// A collector takes a chunk for kept when its base has a kept copy, though that leans on the chunk itself.
    pub leaning_copies: bool,
    /// Undeleting writes the record anew without a session.
    pub undelete_without_session: bool,
    /// Undeleting takes the tombstone away and keeps the name of the snapshot.
    pub undelete_in_place: bool,
    /// A snapshot with a tombstone needs nothing.
    pub tombstone_is_dead: bool,
    /// Two lists may be published on plans that knew nothing of each other.
    pub numbers_shared: bool,
    /// A list gets the number after the highest that is there, and any list may be removed: numbers come back.
    pub numbers_reused: bool,
    /// A collector lists the snapshots before the packs when it plans.
    pub snapshots_before_packs: bool,
}

impl Setting {
    /// Walks through all states. Here, so that it is compiled with this crate's optimisation.
    pub fn explore(&self, limit: u64, threads: usize) -> explore::Outcome {
        explore::explore(self, limit, threads)
    }
}

impl Model for Setting {
    type State = State;
    type Step = Step;

    fn initial(&self) -> State {
        let mut state = State::default();
        for copies in self.packs {
            state.new_pack(*copies);
        }
        state.forgets = self.forgets;
        let session = state.new_session(Standing::Committed);
        state.need[session] = self.need;
        state
    }

    fn steps(&self, state: &State, next: &mut Vec<(Step, State)>) {
        world(self, state, next);
        for number in 0..self.writers.len() {
            writer::steps(self, state, number, next);
        }
        for number in 0..self.collectors {
            collector::steps(self, state, number, next);
        }
    }

    fn canonical(&self, state: &State) -> State {
        // Where names come back, or caches are believed, packs of old still count.
        let b = &self.broken;
        canonical::canonical(self, state, b.content_names || b.content_names_of_writers || b.no_listing)
    }

    fn kind(&self, step: &Step) -> u64 {
        1 << step.what as u64
    }

    fn harm(&self, state: &State) -> Option<&'static str> {
        if state.overflow {
            Some("the model's arrays are too small")
        } else if state.undeleted_lost {
            Some("a snapshot that was undeleted is gone")
        } else if state.needed() & !state::decodable(state.held(state.present)) != 0 {
            Some("a snapshot needs a chunk that cannot be decoded any more")
        } else {
            None
        }
    }
}

/// What users and administrators do at any time: evict, forget, remove the record of an old tombstone.
fn world(setting: &Setting, state: &State, next: &mut Vec<(Step, State)>) {
    use state::Act;
    for session in 0..usize::from(state.sessions) {
        let mut emit = |what: Act, change: &dyn Fn(&mut State)| {
            let mut after = *state;
            change(&mut after);
            if after.standing[session] == Standing::Gone {
                after.need[session] = 0;
            }
            next.push((Step { what, who: session as u8, packs: 0, copies: 0 }, after));
        };
        let doomed = 1 << session;
        match state.standing[session] {
            Standing::Open => emit(Act::Evict, &|s| s.standing[session] = Standing::Evicted),
            Standing::Committed if state.forgets > 0 => {
                emit(Act::ForgetAtOnce, &|s| {
                    s.forgets -= 1;
                    s.standing[session] = Standing::Gone;
                    s.doomed &= !doomed;
                });
                if setting.trash {
                    emit(Act::Forget, &|s| {
                        s.forgets -= 1;
                        s.standing[session] = Standing::Tombstoned;
                    });
                }
            }
            Standing::Tombstoned if state.doomed & doomed == 0 => {
                emit(Act::Expire, &|s| s.doomed |= doomed);
            }
            _ => {}
        }
        // Whoever found the tombstone old enough removes the record by its name, whatever has happened since.
        if state.doomed & doomed != 0 {
            emit(Act::Remove, &|s| {
                s.undeleted_lost |= s.standing[session] == Standing::Committed;
                s.standing[session] = Standing::Gone;
                s.doomed &= !doomed;
            });
        }
    }
}
