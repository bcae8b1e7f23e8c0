//! What there is at one moment: packs and what they hold, sessions and snapshots, condemned lists, and how far
//! everybody has come.

use crate::collector::Collector;
use crate::writer::Writer;
use std::fmt;

pub const PACKS_MAX: usize = 16;
pub const SESSIONS_MAX: usize = 8;
pub const LISTS_MAX: usize = 6;
pub const WRITERS_MAX: usize = 2;
pub const COLLECTORS_MAX: usize = 2;

/// A set of chunks. There are two, 0 and 1.
pub type Chunks = u8;
/// A set of packs.
pub type Packs = u16;
/// A set of copies.
pub type Copies = u8;

/// Chunk 0 and chunk 1 whole, chunk 1 as its difference to chunk 0, and chunk 0 as its difference to chunk 1.
pub const WHOLE_0: Copies = 1;
pub const WHOLE_1: Copies = 2;
pub const DELTA_1: Copies = 4;
pub const DELTA_0: Copies = 8;

/// Chunks that can be decoded from these copies, worked out from the whole ones upward.
pub fn decodable(copies: Copies) -> Chunks {
    let whole = copies & (WHOLE_0 | WHOLE_1);
    match whole {
        0b01 if copies & DELTA_1 != 0 => 0b11,
        0b10 if copies & DELTA_0 != 0 => 0b11,
        _ => whole,
    }
}

/// Chunks that have a copy of any kind: what `decodable` must not be confused with.
pub fn copied(copies: Copies) -> Chunks {
    let chunk_1 = u8::from(copies & (WHOLE_1 | DELTA_1) != 0);
    let chunk_0 = u8::from(copies & (WHOLE_0 | DELTA_0) != 0);
    chunk_0 | chunk_1 << 1
}

/// Chunks whose copies have all their bases among the copies, worked out by striking off: two copies that lean on each
/// other survive it.
pub fn supported(copies: Copies) -> Chunks {
    let mut chunks = copied(copies);
    loop {
        let chunk_0 = copies & WHOLE_0 != 0 || copies & DELTA_0 != 0 && chunks & 2 != 0;
        let chunk_1 = copies & WHOLE_1 != 0 || copies & DELTA_1 != 0 && chunks & 1 != 0;
        let left = chunks & (u8::from(chunk_0) | u8::from(chunk_1) << 1);
        if left == chunks {
            return chunks;
        }
        chunks = left;
    }
}

/// The ways to write new copies, one pack full, after which `need` counts as kept by `judge`: no way holds more than
/// it must. Chunks in `readable` can be written whole, copies in `verbatim` as they are.
pub fn ways(
    kept: Copies,
    need: Chunks,
    judge: fn(Copies) -> Chunks,
    readable: Chunks,
    verbatim: Copies,
) -> Vec<Copies> {
    let allowed = readable | verbatim & (DELTA_0 | DELTA_1);
    let enough = |new: Copies| need & !judge(kept | new) == 0;
    let mut ways: Vec<Copies> = Vec::new();
    let mut sizes: Vec<Copies> = (1..16).filter(|new| new & !allowed == 0).collect();
    sizes.sort_by_key(|new| new.count_ones());
    for new in sizes {
        if enough(new) && !ways.iter().any(|way| way & !new == 0) {
            ways.push(new);
        }
    }
    ways
}

/// What became of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Standing {
    #[default]
    Unused,
    Open,
    Committed,
    /// Committed, and forgotten with a tombstone.
    Tombstoned,
    /// Its record was removed.
    Gone,
    Evicted,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    /// What each pack holds or held.
    pub content: [Copies; PACKS_MAX],
    /// Packs ever made, and those that are there.
    pub made: u8,
    pub present: Packs,
    pub standing: [Standing; SESSIONS_MAX],
    /// Chunks each snapshot needs.
    pub need: [Chunks; SESSIONS_MAX],
    pub sessions: u8,
    /// Snapshots whose tombstone somebody found old enough: their record will be removed.
    pub doomed: u8,
    pub lists: [Packs; LISTS_MAX],
    /// Lists ever published, and those that are there.
    pub published: u8,
    pub listed: u8,
    pub writers: [Writer; WRITERS_MAX],
    pub collectors: [Collector; COLLECTORS_MAX],
    pub forgets: u8,
    pub undeleted_lost: bool,
    pub overflow: bool,
}

pub fn members(set: u16) -> impl Iterator<Item = usize> {
    (0..16).filter(move |i| set >> i & 1 == 1)
}

impl State {
    /// Copies in these packs.
    pub fn held(&self, packs: Packs) -> Copies {
        members(packs).fold(0, |held, pack| held | self.content[pack])
    }

    /// Adds a pack under a name that was never used.
    pub fn new_pack(&mut self, copies: Copies) {
        let pack = usize::from(self.made);
        if pack == PACKS_MAX {
            self.overflow = true;
            return;
        }
        self.content[pack] = copies;
        self.present |= 1 << pack;
        self.made += 1;
    }

    /// Adds a pack named by what it holds: if there ever was such a pack, it is that one again.
    pub fn new_pack_by_content(&mut self, copies: Copies) {
        match (0..usize::from(self.made)).find(|pack| self.content[*pack] == copies) {
            Some(pack) => self.present |= 1 << pack,
            None => self.new_pack(copies),
        }
    }

    pub fn new_session(&mut self, standing: Standing) -> usize {
        let session = usize::from(self.sessions);
        if session == SESSIONS_MAX {
            self.overflow = true;
            return 0;
        }
        self.sessions += 1;
        self.standing[session] = standing;
        session
    }

    fn standing_in(&self, which: &[Standing]) -> u8 {
        let of = |session: &usize| which.contains(&self.standing[*session]);
        (0..usize::from(self.sessions)).filter(of).fold(0, |set, session| set | 1 << session)
    }

    pub fn open(&self) -> u8 {
        self.standing_in(&[Standing::Open])
    }

    fn need_of(&self, which: &[Standing]) -> Chunks {
        members(self.standing_in(which).into()).fold(0, |need, session| need | self.need[session])
    }

    /// What all snapshots need, those with a tombstone included.
    pub fn needed(&self) -> Chunks {
        self.need_of(&[Standing::Committed, Standing::Tombstoned])
    }

    pub fn needed_without_tombstoned(&self) -> Chunks {
        self.need_of(&[Standing::Committed])
    }

    /// Packs that a condemned list names.
    pub fn condemned(&self) -> Packs {
        members(self.listed.into()).fold(0, |packs, list| packs | self.lists[list])
    }
}

/// Kinds of steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Evict,
    Forget,
    ForgetAtOnce,
    Expire,
    Remove,
    Register,
    ReadLists,
    ListPacks,
    LoadIndex,
    LoadStaleIndex,
    FindAll,
    Upload,
    Commit,
    Refused,
    GiveUp,
    ReadRecord,
    Resume,
    Plan,
    PlanPacks,
    PlanSnapshots,
    Choose,
    ChooseAndCopy,
    Publish,
    NumberTaken,
    ListSessions,
    Waited,
    MarkLists,
    MarkSnapshots,
    MarkPacks,
    NothingToRescue,
    Rescue,
    SourceGone,
    Delete,
    RemoveList,
    Pardon,
}

/// One step: what, by whom, with which packs and copies.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub what: Act,
    pub who: u8,
    pub packs: Packs,
    pub copies: Copies,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Step { what, who, packs, copies } = self;
        let actor = match what {
            Act::Evict | Act::Forget | Act::ForgetAtOnce | Act::Expire | Act::Remove => "session ",
            _ if (*what as u8) < Act::Resume as u8 => "writer ",
            _ => "collector ",
        };
        write!(f, "{actor}{who} {what:?}")?;
        if *packs != 0 {
            write!(f, " packs {:?}", members(*packs).collect::<Vec<_>>())?;
        }
        let names = [(WHOLE_0, "0"), (WHOLE_1, "1"), (DELTA_1, "1 on 0"), (DELTA_0, "0 on 1")];
        let held: Vec<_> = names.iter().filter(|(bit, _)| copies & bit != 0).map(|(_, name)| *name).collect();
        if held.is_empty() { Ok(()) } else { write!(f, " holding {}", held.join(" + ")) }
    }
}
