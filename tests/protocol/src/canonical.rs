//! One state for all that differ only in numbering, or in what nobody can see any more.
//!
//! Packs and sessions have random names, so their order means nothing; two collectors follow the same program. Any
//! renumbering is sound here: states that stay apart though they are alike only cost time.

use crate::Setting;
use crate::state::{Packs, SESSIONS_MAX, Standing, State, members};
use crate::writer::Role;

/// `keep_old`: packs that are gone and that nobody remembers still matter.
pub fn canonical(setting: &Setting, state: &State, keep_old: bool) -> State {
    let mut state = *state;
    order_actors(setting, &mut state);
    // A session that has ended never opens again.
    let open = state.open();
    for collector in &mut state.collectors {
        collector.sessions &= open;
    }
    for list in 0..state.lists.len() {
        if state.listed >> list & 1 == 0 {
            state.lists[list] = 0;
        }
    }
    number_packs(&mut state, keep_old);
    number_sessions(&mut state);
    state
}

fn order_actors(setting: &Setting, state: &mut State) {
    let [a, b] = &state.collectors;
    let key = |c: &crate::collector::Collector| {
        (
            c.stage,
            c.planned,
            c.list,
            c.need,
            c.doomed.count_ones(),
            state.held(c.doomed),
            c.packs,
            c.condemned,
        )
    };
    if setting.collectors == 2 && key(a) > key(b) {
        state.collectors.swap(0, 1);
    }
    let [a, b] = &state.writers;
    let alike = match setting.writers {
        [Role::Backup(one), Role::Backup(other)] => one == other,
        [Role::Undelete, Role::Undelete] => true,
        _ => false,
    };
    let key =
        |w: &crate::writer::Writer| (w.stage, w.tries, w.held, w.need, w.listed, w.condemned, w.session);
    if alike && key(a) > key(b) {
        state.writers.swap(0, 1);
    }
}

/// Every set of packs in a state.
fn pack_sets(state: &mut State) -> Vec<&mut Packs> {
    let mut sets = vec![&mut state.present];
    sets.extend(&mut state.lists);
    for writer in &mut state.writers {
        sets.extend([&mut writer.condemned, &mut writer.listed]);
    }
    for collector in &mut state.collectors {
        sets.extend([&mut collector.condemned, &mut collector.packs, &mut collector.doomed]);
    }
    sets
}

fn number_packs(state: &mut State, keep_old: bool) {
    let content = state.content;
    let made = usize::from(state.made);
    // Which sets hold the pack, and what it holds: packs alike in this are one as good as the other.
    let mut keys = [0u32; 16];
    for set in pack_sets(state) {
        for (pack, key) in keys.iter_mut().enumerate() {
            *key = *key << 1 | u32::from(*set >> pack & 1);
        }
    }
    let mut order = [(0u32, 0u8); 16];
    let mut kept = 0;
    for pack in 0..made {
        if keys[pack] != 0 || keep_old {
            order[kept] = (!(keys[pack] << 4 | u32::from(content[pack])), pack as u8);
            kept += 1;
        }
    }
    let order = &mut order[..kept];
    order.sort_unstable();
    for set in pack_sets(state) {
        let old = *set;
        *set = 0;
        for (new, (_, pack)) in order.iter().enumerate() {
            *set |= (old >> pack & 1) << new;
        }
    }
    state.content = Default::default();
    for (new, (_, pack)) in order.iter().enumerate() {
        state.content[new] = content[usize::from(*pack)];
    }
    state.made = kept as u8;
}

fn number_sessions(state: &mut State) {
    let mut order = [(0u32, 0u8); SESSIONS_MAX];
    let mut kept = 0;
    for session in 0..state.sessions {
        let place = usize::from(session);
        let mut key = (state.standing[place] as u32) << 2 | u32::from(state.need[place]);
        key = key << 1 | u32::from(state.doomed >> session & 1);
        let mut held = false;
        for writer in &state.writers {
            for link in [writer.session, writer.target] {
                held |= link == Some(session);
                key = key << 1 | u32::from(link == Some(session));
            }
        }
        for collector in &state.collectors {
            key = key << 1 | u32::from(collector.sessions >> session & 1);
        }
        let over = matches!(state.standing[place], Standing::Gone | Standing::Evicted | Standing::Unused);
        if held || !over || state.doomed >> session & 1 == 1 {
            order[kept] = (!key, session);
            kept += 1;
        }
    }
    let order = &mut order[..kept];
    order.sort_unstable();
    let new_set = |old: u8| {
        let places = order.iter().enumerate();
        places.fold(0, |set, (new, (_, session))| set | (old >> session & 1) << new)
    };
    let old = *state;
    state.doomed = new_set(old.doomed);
    for collector in &mut state.collectors {
        collector.sessions = new_set(collector.sessions);
    }
    for writer in &mut state.writers {
        for link in [&mut writer.session, &mut writer.target] {
            *link = link.and_then(|was| order.iter().position(|(_, s)| *s == was).map(|new| new as u8));
        }
    }
    state.standing = Default::default();
    state.need = Default::default();
    for (new, (_, session)) in order.iter().enumerate() {
        state.standing[new] = old.standing[usize::from(*session)];
        state.need[new] = old.need[usize::from(*session)];
    }
    state.sessions = kept as u8;
    debug_assert!(members(old.open().into()).count() == members(state.open().into()).count());
}
