//! Who removes packs: plan, publish a condemned list, wait for the sessions there are then, mark again, delete.

use crate::state::{Act, Chunks, Copies, LISTS_MAX, Packs, State, Step};
use crate::state::{copied, decodable, members, supported, ways};
use crate::{Numbers, Setting};

/// What a collector does next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    #[default]
    Begin,
    /// Look at the packs, then at the snapshots; where that rule is left out, the other way round.
    PlanFirst,
    PlanSecond,
    Choose,
    EarlySessions,
    Publish,
    ListSessions,
    Wait,
    MarkLists,
    MarkSnapshots,
    MarkPacks,
    Rescue,
    Delete,
    Done,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Collector {
    pub stage: Stage,
    /// The number its list is to have.
    pub planned: u8,
    /// The number of its list once that is published or taken up.
    pub list: u8,
    pub condemned: Packs,
    pub packs: Packs,
    pub need: Chunks,
    /// What it removes.
    pub doomed: Packs,
    /// Sessions it waits for.
    pub sessions: u8,
    /// Collections it has completed.
    pub completed: u8,
}

impl Collector {
    /// Somewhere else, with nothing in mind but what is given next.
    fn at(&self, stage: Stage) -> Collector {
        Collector { stage, completed: self.completed, ..Collector::default() }
    }
}

type Emit<'a> = dyn FnMut(Act, Packs, Copies, &dyn Fn(&mut State, &mut Collector)) + 'a;

/// All next steps of collector `number`.
pub fn steps(setting: &Setting, state: &State, number: usize, next: &mut Vec<(Step, State)>) {
    let broken = &setting.broken;
    let collector = state.collectors[number];
    let mut emit = |what: Act, packs: Packs, copies: Copies, change: &dyn Fn(&mut State, &mut Collector)| {
        let mut after = *state;
        let mut collector = collector;
        change(&mut after, &mut collector);
        after.collectors[number] = collector;
        next.push((Step { what, who: number as u8, packs, copies }, after));
    };
    match collector.stage {
        Stage::Begin => begin(setting, state, &mut emit),
        Stage::PlanFirst | Stage::PlanSecond => {
            let first = collector.stage == Stage::PlanFirst;
            let then = if first { Stage::PlanSecond } else { Stage::Choose };
            if first != broken.snapshots_before_packs {
                emit(Act::PlanPacks, state.present, 0, &|s, c| (c.packs, c.stage) = (s.present, then));
            } else {
                let need = marked(setting, state);
                emit(Act::PlanSnapshots, 0, need, &|_, c| (c.need, c.stage) = (need, then));
            }
        }
        Stage::Choose => choose(setting, state, collector, &mut emit),
        Stage::EarlySessions => emit(Act::ListSessions, 0, 0, &|s, c| {
            (c.sessions, c.stage) = (s.open(), Stage::Publish);
        }),
        Stage::Publish => publish(setting, state, collector, &mut emit),
        Stage::ListSessions => emit(Act::ListSessions, 0, 0, &|s, c| {
            (c.sessions, c.stage) = (s.open(), Stage::Wait);
        }),
        Stage::Wait if collector.sessions & state.open() == 0 || broken.timer => {
            let then = if broken.no_second_mark { Stage::Delete } else { Stage::MarkLists };
            emit(Act::Waited, 0, 0, &|_, c| (c.sessions, c.stage) = (0, then));
        }
        Stage::Wait => {}
        Stage::MarkLists => emit(Act::MarkLists, state.condemned(), 0, &|s, c| {
            (c.condemned, c.stage) = (s.condemned(), Stage::MarkSnapshots);
        }),
        Stage::MarkSnapshots => {
            let need = marked(setting, state);
            emit(Act::MarkSnapshots, 0, need, &|_, c| (c.need, c.stage) = (need, Stage::MarkPacks));
        }
        Stage::MarkPacks => emit(Act::MarkPacks, state.present, 0, &|s, c| {
            (c.packs, c.stage) = (s.present, Stage::Rescue);
        }),
        Stage::Rescue => rescue(setting, state, collector, &mut emit),
        Stage::Delete if collector.doomed == 0 => emit(Act::RemoveList, 0, 0, &|s, c| {
            let highest = s.listed >> c.list == 1;
            if !(highest && setting.numbers == Numbers::HighestStays) {
                s.listed &= !(1 << c.list);
            }
            c.completed += 1;
            *c = c.at(if c.completed < setting.rounds.max(1) { Stage::Begin } else { Stage::Done });
        }),
        Stage::Delete => {
            for pack in members(collector.doomed) {
                emit(Act::Delete, 1 << pack, 0, &|s, c| {
                    s.present &= !(1 << pack);
                    c.doomed &= !(1 << pack);
                });
            }
        }
        Stage::Done => {}
    }
}

/// What the snapshots need.
fn marked(setting: &Setting, state: &State) -> Chunks {
    if setting.broken.tombstone_is_dead { state.needed_without_tombstoned() } else { state.needed() }
}

/// How a collector decides whether a chunk is kept.
fn judge(setting: &Setting) -> fn(Copies) -> Chunks {
    match setting.broken {
        broken if broken.collector_counts_copies => copied,
        broken if broken.leaning_copies => supported,
        _ => decodable,
    }
}

/// Takes up a list that is there, whoever published it, or plans anew.
fn begin(setting: &Setting, state: &State, emit: &mut Emit<'_>) {
    for list in members(state.listed.into()) {
        let doomed = state.lists[list];
        emit(Act::Resume, doomed, 0, &|_, c| {
            *c = Collector { list: list as u8, doomed, ..c.at(Stage::ListSessions) };
        });
        if setting.broken.pardon {
            emit(Act::Pardon, doomed, 0, &|s, _| s.listed &= !(1 << list));
        }
    }
    emit(Act::Plan, state.condemned(), 0, &|s, c| {
        let (planned, condemned) = (next_number(setting, s), s.condemned());
        *c = Collector { planned, condemned, ..c.at(Stage::PlanFirst) };
    });
}

/// Any set of packs may go; what is needed of them is copied first.
fn choose(setting: &Setting, state: &State, collector: Collector, emit: &mut Emit<'_>) {
    let broken = &setting.broken;
    let then = if broken.sessions_before_publish { Stage::EarlySessions } else { Stage::Publish };
    let may = collector.packs & !collector.condemned;
    let there = state.held(state.present);
    // All subsets of `may` but the empty one.
    let mut doomed = may;
    while doomed != 0 {
        let kept = state.held(may & !doomed);
        let lost = collector.need & !judge(setting)(kept);
        let plan = |c: &mut Collector| {
            *c = Collector { planned: c.planned, doomed, ..c.at(then) };
        };
        if lost == 0 {
            emit(Act::Choose, doomed, 0, &|_, c| plan(c));
        }
        let ways = if lost == 0 { Vec::new() } else { copies(setting, kept, collector.need, there) };
        for copies in ways {
            emit(Act::ChooseAndCopy, doomed, copies, &|s, c| {
                new_pack(setting, s, copies);
                plan(c);
            });
        }
        doomed = (doomed - 1) & may;
    }
}

/// The ways to copy so that everything needed counts as kept.
fn copies(setting: &Setting, kept: Copies, need: Chunks, there: Copies) -> Vec<Copies> {
    ways(kept, need, judge(setting), decodable(there), there)
}

fn new_pack(setting: &Setting, state: &mut State, copies: Copies) {
    if setting.broken.content_names { state.new_pack_by_content(copies) } else { state.new_pack(copies) }
}

/// Whether numbers are told from the lists that are there, without any other memory.
fn told_from_lists(setting: &Setting) -> bool {
    setting.numbers == Numbers::HighestStays || setting.broken.numbers_reused
}

fn next_number(setting: &Setting, state: &State) -> u8 {
    if told_from_lists(setting) { (8 - state.listed.leading_zeros()) as u8 } else { state.published }
}

/// Creates the list under the number after those that were known when it was planned.
fn publish(setting: &Setting, state: &State, collector: Collector, emit: &mut Emit<'_>) {
    let number = match setting.broken {
        broken if broken.numbers_shared => state.published,
        _ => collector.planned,
    };
    let taken =
        if told_from_lists(setting) { state.listed >> number & 1 == 1 } else { state.published != number };
    if taken {
        emit(Act::NumberTaken, 0, 0, &|_, c| *c = c.at(Stage::Begin));
        return;
    }
    let early = setting.broken.sessions_before_publish;
    emit(Act::Publish, collector.doomed, 0, &|s, c| {
        let list = usize::from(number);
        if list == LISTS_MAX {
            s.overflow = true;
            return;
        }
        s.lists[list] = c.doomed;
        s.listed |= 1 << list;
        s.published = s.published.max(number + 1);
        let stage = if early { Stage::Wait } else { Stage::ListSessions };
        *c = Collector { list: list as u8, doomed: c.doomed, sessions: c.sessions, ..c.at(stage) };
    });
}

/// Whatever is needed and cannot be decoded outside all condemned packs is copied before anything is deleted.
fn rescue(setting: &Setting, state: &State, collector: Collector, emit: &mut Emit<'_>) {
    let kept = state.held(collector.packs & !collector.condemned & !collector.doomed);
    let lost = collector.need & !judge(setting)(kept);
    let go = |c: &mut Collector, doomed: Packs| {
        *c = Collector { list: c.list, doomed, ..c.at(Stage::Delete) };
    };
    if lost == 0 {
        emit(Act::NothingToRescue, 0, 0, &|_, c| go(c, c.doomed));
        return;
    }
    if setting.broken.pardon {
        let needed = members(collector.doomed).filter(|pack| copied(state.content[*pack]) & lost != 0);
        let pardoned = needed.fold(0, |packs: Packs, pack| packs | 1 << pack);
        emit(Act::Pardon, pardoned, 0, &|_, c| go(c, c.doomed & !pardoned));
        return;
    }
    let there = state.held(state.present);
    let ways = copies(setting, kept, collector.need, there);
    if ways.is_empty() {
        // What it saw has been forgotten and collected by another since then.
        emit(Act::SourceGone, 0, 0, &|_, c| *c = c.at(Stage::Begin));
    }
    for copies in ways {
        emit(Act::Rescue, 0, copies, &|s, c| {
            new_pack(setting, s, copies);
            go(c, c.doomed);
        });
    }
}
