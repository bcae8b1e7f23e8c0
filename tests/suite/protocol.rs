//! The protocol of collection beside backups, in every state its model can reach; and each of its rules left out.
//!
//! The model and the walk are in `tests/protocol`. States that differ only in numbering count once.

use crate::counters::{is_night, note};
use snapkeep_protocol::explore::Outcome;
use snapkeep_protocol::state::{Act, DELTA_0, DELTA_1, WHOLE_0, WHOLE_1};
use snapkeep_protocol::writer::Role::{Backup, Undelete};
use snapkeep_protocol::{Broken, Numbers, Setting};
use std::time::Instant;

const LIMIT: u64 = 60_000_000;
const THREADS: usize = 2;

/// One writer, one collector, one chunk in one pack that one snapshot needs; a retry and a snapshot to forget.
fn one_by_one() -> Setting {
    Setting {
        packs: &[WHOLE_0],
        need: 0b01,
        writers: &[Backup(0b01)],
        collectors: 1,
        retries: 1,
        forgets: 1,
        ..Setting::default()
    }
}

fn two_writers() -> Setting {
    Setting { writers: &[Backup(0b01), Backup(0b01)], ..one_by_one() }
}

fn two_collectors() -> Setting {
    Setting { collectors: 2, ..one_by_one() }
}

/// Chunk 1 is stored as its difference to chunk 0, which no snapshot names itself.
fn bases() -> Setting {
    Setting {
        packs: &[WHOLE_0, DELTA_1],
        need: 0b10,
        writers: &[Backup(0b10)],
        retries: 0,
        deltas: true,
        ..one_by_one()
    }
}

/// Both chunks whole, and both as their difference to the other: one in each pack, or the differences in one.
fn leaning() -> Setting {
    Setting { packs: &[WHOLE_0, WHOLE_1, DELTA_1 | DELTA_0], need: 0b11, ..bases() }
}

fn trash() -> Setting {
    Setting { trash: true, writers: &[Undelete], ..one_by_one() }
}

/// Packs that nobody needs, and collectors that come back for more.
fn rounds() -> Setting {
    Setting { packs: &[WHOLE_0, WHOLE_0], need: 0, forgets: 0, retries: 0, rounds: 2, ..two_collectors() }
}

fn sound() -> Vec<(&'static str, Setting)> {
    let both = &[Backup(0b10), Backup(0b11)];
    vec![
        ("1 writer, 1 collector", one_by_one()),
        ("2 writers, 1 collector", two_writers()),
        ("1 writer, 2 collectors", two_collectors()),
        ("1x2, two copies", Setting { packs: &[WHOLE_0, WHOLE_0], retries: 0, ..two_collectors() }),
        (
            "1x2, two chunks",
            Setting {
                packs: &[WHOLE_0 | WHOLE_1, WHOLE_0],
                need: 0b10,
                writers: &[Backup(0b11)],
                retries: 0,
                ..two_collectors()
            },
        ),
        (
            "2x1, two chunks",
            Setting {
                packs: &[WHOLE_0 | WHOLE_1, WHOLE_0],
                need: 0b10,
                writers: &[Backup(0b11), Backup(0b01)],
                retries: 0,
                ..two_writers()
            },
        ),
        ("1x1, bases", bases()),
        ("2x1, bases", Setting { writers: both, retries: 1, ..bases() }),
        (
            "1x2, base and delta in one pack",
            Setting { packs: &[WHOLE_0 | DELTA_1], collectors: 2, ..bases() },
        ),
        ("1x2, bases, nothing forgotten", Setting { forgets: 0, collectors: 2, ..bases() }),
        ("2x1, leaning copies", Setting { writers: &[Backup(0b11), Backup(0b01)], ..leaning() }),
        ("undelete x1", trash()),
        ("undelete x2", Setting { collectors: 2, ..trash() }),
        ("undelete and backup x1", Setting { writers: &[Undelete, Backup(0b01)], ..trash() }),
        (
            "undelete and backup x1, bases",
            Setting { trash: true, writers: &[Undelete, Backup(0b10)], ..bases() },
        ),
        ("1x2, the highest list stays", Setting { numbers: Numbers::HighestStays, ..two_collectors() }),
        ("1x2, twice, the highest list stays", Setting { numbers: Numbers::HighestStays, ..rounds() }),
    ]
}

/// Hours of states: for the night.
fn sound_at_night() -> Vec<(&'static str, Setting)> {
    let both = &[Backup(0b10), Backup(0b11)];
    vec![
        ("2 writers, 2 collectors", Setting { collectors: 2, ..two_writers() }),
        ("1x2, bases", Setting { collectors: 2, ..bases() }),
        ("2x2, bases, nothing forgotten", Setting { forgets: 0, collectors: 2, writers: both, ..bases() }),
        ("1x2, leaning copies", Setting { collectors: 2, ..leaning() }),
        ("undelete and backup x2", Setting { collectors: 2, writers: &[Undelete, Backup(0b01)], ..trash() }),
    ]
}

fn explore(name: &str, setting: &Setting) -> Outcome {
    let begun = Instant::now();
    let outcome = setting.explore(LIMIT, THREADS);
    let Outcome { states, transitions, depth, .. } = outcome;
    println!("{name}: {states} states, {transitions} steps, depth {depth}, {:.1?}", begun.elapsed());
    outcome
}

#[test]
fn no_state_of_the_protocol_loses_a_chunk() {
    let (mut states, mut kinds) = (0, 0);
    let at_night = if is_night() { sound_at_night() } else { Vec::new() };
    for (name, setting) in sound().into_iter().chain(at_night) {
        let outcome = explore(name, &setting);
        assert!(outcome.harm.is_none(), "{name}: {:?}", outcome.harm);
        assert!(!outcome.cut || is_night(), "{name}: more states than {LIMIT}");
        states += outcome.states;
        kinds |= outcome.kinds;
    }
    // A model in which something never happens says nothing about it.
    let all = (1u64 << (Act::Pardon as u32 + 1)) - 1;
    let only_broken = 1 << Act::Pardon as u32 | 1 << Act::ReadRecord as u32;
    assert_eq!(kinds, all & !only_broken, "every kind of step is taken somewhere");
    note("T10a states of the collection protocol", states, 0);
}

/// Each rule, and a setting in which leaving it out shows.
fn broken() -> Vec<(&'static str, Setting, Broken)> {
    let none = Broken::default();
    vec![
        (
            "packs listed before the condemned lists are read",
            two_writers(),
            Broken { packs_before_lists: true, ..none },
        ),
        ("packs named by content", two_writers(), Broken { content_names: true, ..none }),
        (
            "packs of writers named by content",
            two_writers(),
            Broken { content_names_of_writers: true, ..none },
        ),
        ("commit not fenced", two_writers(), Broken { unfenced_commit: true, ..none }),
        (
            "sessions listed before the list is published",
            two_writers(),
            Broken { sessions_before_publish: true, ..none },
        ),
        ("index believed without a listing", two_writers(), Broken { no_listing: true, ..none }),
        ("no second mark", two_writers(), Broken { no_second_mark: true, ..none }),
        ("packs pardoned in place", two_collectors(), Broken { pardon: true, ..none }),
        ("registered after looking", two_writers(), Broken { register_late: true, ..none }),
        ("a timer in place of waiting", two_writers(), Broken { timer: true, ..none }),
        ("numbers of lists come back", rounds(), Broken { numbers_reused: true, ..none }),
        ("writer: present without being decodable", bases(), Broken { writer_counts_copies: true, ..none }),
        (
            "collector: a delta counts while its base is condemned",
            bases(),
            Broken { collector_counts_copies: true, ..none },
        ),
        ("collector: two copies lean on each other", leaning(), Broken { leaning_copies: true, ..none }),
        ("undelete without a session", trash(), Broken { undelete_without_session: true, ..none }),
        (
            "undelete under the old name, record deleted by tombstone",
            trash(),
            Broken { undelete_in_place: true, ..none },
        ),
        ("tombstoned snapshots need nothing", trash(), Broken { tombstone_is_dead: true, ..none }),
    ]
}

#[test]
fn every_rule_of_the_protocol_left_out_loses_data() {
    let mut caught = 0;
    for (name, setting, broken) in broken() {
        let outcome = explore(name, &Setting { broken, ..setting });
        let harm = outcome.harm.unwrap_or_else(|| panic!("{name}: not caught"));
        assert!(!harm.what.contains("arrays"), "{name}: {}", harm.what);
        println!("  {} after {} steps: {}", harm.what, harm.trace.len(), harm.trace.join("; "));
        caught += 1;
    }
    note("T10a weakened protocols, all of them caught", caught, 0);
}

#[test]
fn some_rules_of_the_protocol_only_save_work() {
    let none = Broken::default();
    let shared = Broken { numbers_shared: true, ..none };
    let two_copies = Setting { packs: &[WHOLE_0, WHOLE_0], retries: 0, ..two_collectors() };
    for (name, setting, broken) in [
        ("lists published on plans that knew nothing of each other", two_collectors(), shared),
        ("the same with two copies", two_copies, shared),
        ("the same with undeleting", Setting { collectors: 2, ..trash() }, shared),
        (
            "snapshots listed before packs when planning",
            two_writers(),
            Broken { snapshots_before_packs: true, ..none },
        ),
    ] {
        let outcome = explore(name, &Setting { broken, ..setting });
        assert!(outcome.harm.is_none() && !outcome.cut, "{name}: {:?}", outcome.harm);
    }
}
