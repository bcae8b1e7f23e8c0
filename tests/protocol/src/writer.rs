//! Who commits snapshots: backups, and undeleting, which commits an old record anew.

use crate::Setting;
use crate::state::{Act, Chunks, Copies, Packs, Standing, State, Step};
use crate::state::{DELTA_0, DELTA_1, copied, decodable, ways};

/// What a writer is for.
#[derive(Clone, Copy, Debug)]
pub enum Role {
    /// It has these chunks at hand and commits a snapshot of them.
    Backup(Chunks),
    /// It finds a snapshot with a tombstone and commits its record anew.
    Undelete,
}

/// What a writer does next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    #[default]
    Begin,
    /// Look at the condemned lists, then at the packs; or the other way round, where that rule is left out.
    LookFirst,
    LookSecond,
    LoadIndex,
    RegisterLate,
    Store,
    Commit,
    Done,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Writer {
    pub stage: Stage,
    pub session: Option<u8>,
    pub tries: u8,
    /// What was read and listed; afterwards only what the effective set holds is kept.
    pub condemned: Packs,
    pub listed: Packs,
    pub held: Copies,
    /// What the snapshot needs, once that is known.
    pub need: Chunks,
    /// For undeleting in place: the snapshot whose name is kept.
    pub target: Option<u8>,
}

fn place(session: Option<u8>) -> usize {
    usize::from(session.expect("a session"))
}

/// All next steps of writer `number`.
pub fn steps(setting: &Setting, state: &State, number: usize, next: &mut Vec<(Step, State)>) {
    let broken = &setting.broken;
    let writer = state.writers[number];
    let mut emit = |what: Act, packs: Packs, copies: Copies, change: &dyn Fn(&mut State, &mut Writer)| {
        let mut after = *state;
        let mut writer = writer;
        change(&mut after, &mut writer);
        after.writers[number] = writer;
        next.push((Step { what, who: number as u8, packs, copies }, after));
    };
    match writer.stage {
        Stage::Begin => match setting.writers[number] {
            Role::Backup(need) if broken.register_late => {
                emit(Act::ReadRecord, 0, 0, &|_, w| (w.need, w.stage) = (need, Stage::LookFirst));
            }
            Role::Backup(need) => emit(Act::Register, 0, 0, &|s, w| register(s, w, need)),
            Role::Undelete => {
                for target in 0..usize::from(state.sessions) {
                    if state.standing[target] != Standing::Tombstoned {
                        continue;
                    }
                    let need = state.need[target];
                    if broken.undelete_without_session {
                        emit(Act::ReadRecord, 0, 0, &|_, w| (w.need, w.stage) = (need, Stage::Commit));
                    } else {
                        emit(Act::Register, 0, 0, &|s, w| {
                            register(s, w, need);
                            w.target = broken.undelete_in_place.then_some(target as u8);
                        });
                    }
                }
            }
        },
        Stage::LookFirst | Stage::LookSecond => {
            let first = writer.stage == Stage::LookFirst;
            let then = if first { Stage::LookSecond } else { Stage::LoadIndex };
            if first != broken.packs_before_lists {
                let lists = state.condemned();
                emit(Act::ReadLists, lists, 0, &|_, w| (w.condemned, w.stage) = (lists, then));
            } else {
                emit(Act::ListPacks, state.present, 0, &|s, w| (w.listed, w.stage) = (s.present, then));
            }
        }
        Stage::LoadIndex => {
            let then = if broken.register_late { Stage::RegisterLate } else { Stage::Store };
            let mut load = |what: Act, effective: Packs| {
                let held = state.held(effective);
                emit(what, effective, held, &|_, w| {
                    (w.condemned, w.listed, w.held, w.stage) = (0, 0, held, then);
                });
                held
            };
            // A cache may know every pack that ever was; without one, footers are read of packs that are still there.
            let ever = ((1u32 << state.made) - 1) as Packs;
            let seen = if broken.no_listing { ever } else { writer.listed } & !writer.condemned;
            let known = load(Act::LoadStaleIndex, seen);
            if !broken.no_listing && state.held(seen & state.present) != known {
                load(Act::LoadIndex, seen & state.present);
            }
        }
        Stage::RegisterLate => emit(Act::Register, 0, 0, &|s, w| {
            let (need, held) = (w.need, w.held);
            register(s, w, need);
            (w.held, w.stage) = (held, Stage::Store);
        }),
        Stage::Store => store(setting, state, number, &mut emit),
        Stage::Commit => commit(setting, state, number, &mut emit),
        Stage::Done => {}
    }
}

fn register(state: &mut State, writer: &mut Writer, need: Chunks) {
    writer.session = Some(state.new_session(Standing::Open) as u8);
    (writer.need, writer.stage) = (need, Stage::LookFirst);
}

type Emit<'a> = dyn FnMut(Act, Packs, Copies, &dyn Fn(&mut State, &mut Writer)) + 'a;

/// Stores what the effective set lacks, in one new pack.
fn store(setting: &Setting, state: &State, number: usize, emit: &mut Emit<'_>) {
    let broken = &setting.broken;
    let writer = state.writers[number];
    let judge = if broken.writer_counts_copies { copied } else { decodable };
    let present = judge(writer.held);
    if writer.need & !present == 0 {
        emit(Act::FindAll, 0, 0, &|_, w| (w.held, w.stage) = (0, Stage::Commit));
        return;
    }
    let new = match setting.writers[number] {
        // A backup has the chunks it needs at hand, and as a base whatever it can decode.
        Role::Backup(need) => {
            let both = need | present;
            let deltas = if setting.deltas && both == 0b11 { DELTA_0 | DELTA_1 } else { 0 };
            let missing = need & !present;
            let of = |copies: Copies| copied(copies) & !missing == 0;
            let mut new = ways(writer.held, need, judge, need, deltas);
            new.retain(|copies| of(*copies));
            new
        }
        // Undeleting has only what can still be read.
        Role::Undelete => {
            let there = state.held(state.present);
            ways(writer.held, writer.need, judge, decodable(there), there)
        }
    };
    for copies in &new {
        emit(Act::Upload, 0, *copies, &|s, w| {
            if broken.content_names || broken.content_names_of_writers {
                s.new_pack_by_content(*copies);
            } else {
                s.new_pack(*copies);
            }
            (w.held, w.stage) = (0, Stage::Commit);
        });
    }
    if new.is_empty() {
        // It cannot be had any more: the session is given up.
        emit(Act::GiveUp, 0, 0, &|s, w| {
            s.standing[place(w.session)] = Standing::Evicted;
            *w = Writer { stage: Stage::Done, ..Writer::default() };
        });
    }
}

/// The fence: only an open session can commit.
fn commit(setting: &Setting, state: &State, number: usize, emit: &mut Emit<'_>) {
    let broken = &setting.broken;
    let writer = state.writers[number];
    let done = Writer { stage: Stage::Done, ..Writer::default() };
    if broken.undelete_without_session && matches!(setting.writers[number], Role::Undelete) {
        emit(Act::Commit, 0, 0, &|s, w| {
            let session = s.new_session(Standing::Committed);
            s.need[session] = w.need;
            *w = done;
        });
        return;
    }
    let session = place(writer.session);
    let open = state.standing[session] == Standing::Open;
    if open || broken.unfenced_commit && state.standing[session] == Standing::Evicted {
        emit(Act::Commit, 0, 0, &|s, w| {
            if broken.undelete_in_place && matches!(setting.writers[number], Role::Undelete) {
                s.standing[session] = Standing::Evicted;
                s.standing[place(w.target)] = Standing::Committed;
                s.need[place(w.target)] = w.need;
            } else {
                s.standing[session] = Standing::Committed;
                s.need[session] = w.need;
            }
            *w = done;
        });
    } else if writer.tries < setting.retries {
        emit(Act::Refused, 0, 0, &|_, w| *w = Writer { tries: w.tries + 1, ..Writer::default() });
    } else {
        emit(Act::GiveUp, 0, 0, &|_, w| *w = done);
    }
}
