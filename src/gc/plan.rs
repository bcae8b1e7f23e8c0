//! Which packs go and which are rewritten: looks at numbers only, touches nothing.

use super::{MaxUnused, PruneOptions};
use crate::id::Name;
use crate::repository::packer::may_be_of;
use crate::repository::place::PackInfo;

/// More small packs than this are gathered into large ones: each file costs something at every listing.
const SMALL_PACKS_MAX: usize = 100;
/// A pack is small below this part of a full one.
const SMALL_PART: u64 = 32;

/// What is in a pack.
#[derive(Clone, Copy, Debug)]
pub struct PackUse {
    pub info: PackInfo,
    /// Plain bytes of needed chunks.
    pub live_raw: u64,
    pub live_chunks: u64,
    pub chunks: u64,
}

impl PackUse {
    pub fn new(info: PackInfo) -> Self {
        PackUse { info, live_raw: 0, live_chunks: 0, chunks: 0 }
    }

    /// Counts one chunk.
    pub fn add(&mut self, raw: u64, live: bool) {
        self.chunks += 1;
        if live {
            self.live_chunks += 1;
            self.live_raw += raw;
        }
    }

    /// Bytes of the file that nothing needs: exact for a pack without needed chunks, else in proportion to plain bytes.
    fn unused(&self) -> u64 {
        if self.live_chunks == 0 {
            return self.info.size;
        }
        let dead = self.info.raw.saturating_sub(self.live_raw);
        // Rounded up: what is dead is never nothing, and a full pack of it would stay for ever.
        (u128::from(self.info.size) * u128::from(dead)).div_ceil(u128::from(self.info.raw.max(1))) as u64
    }
}

/// What is to be done.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Deleted as they are.
    pub drop: Vec<PackInfo>,
    /// Deleted once their needed chunks are copied.
    pub repack: Vec<PackInfo>,
    pub packs_before: u64,
    pub bytes_before: u64,
    pub chunks_before: u64,
    pub chunks_used: u64,
    /// Packs that a running backup may just have written.
    pub packs_of_sessions: u64,
    /// Chunks in dropped packs; dead and live ones in packs to be rewritten.
    pub chunks_dropped: u64,
    pub chunks_repacked_dead: u64,
    pub chunks_repacked_live: u64,
    pub bytes_dropped: u64,
    pub bytes_repacked: u64,
    /// Of those, about so many go for good.
    pub bytes_repacked_dead: u64,
    /// Bytes that nothing needs before, and about so many that stay.
    pub unused_before: u64,
    pub unused_after: u64,
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.drop.is_empty() && self.repack.is_empty()
    }

    /// A plan that names no more packs than one condemned list holds; the next run takes the rest.
    #[must_use]
    pub fn at_most(mut self, packs: usize) -> Self {
        self.drop.truncate(packs);
        self.repack.truncate(packs - self.drop.len());
        self
    }
}

/// Decides. `open` are the sessions that were open after the packs were listed.
pub fn decide(uses: Vec<PackUse>, open: &[Name], pack_bytes: u64, options: &PruneOptions) -> Plan {
    let mut plan = Plan::default();
    let (mut partly, mut full, mut used_bytes) = (Vec::new(), Vec::new(), 0);
    for pack in uses {
        plan.packs_before += 1;
        plan.bytes_before += pack.info.size;
        plan.chunks_before += pack.chunks;
        plan.chunks_used += pack.live_chunks;
        let unused = pack.unused();
        if pack.live_chunks == 0 && open.iter().any(|s| may_be_of(&pack.info.id, s)) {
            // Not garbage yet: the backup that stored it has not committed.
            plan.packs_of_sessions += 1;
            continue;
        }
        plan.unused_before += unused;
        used_bytes += pack.info.size - unused;
        if pack.live_chunks == 0 {
            plan.chunks_dropped += pack.chunks;
            plan.bytes_dropped += pack.info.size;
            plan.drop.push(pack.info);
        } else if unused > 0 {
            partly.push(pack);
        } else {
            full.push(pack);
        }
    }
    let budget = options.max_repack.unwrap_or(u64::MAX);
    let stays = choose_partly(&mut plan, partly, used_bytes, budget, options);
    if options.max_unused != MaxUnused::Unlimited {
        gather_small(&mut plan, full.iter().chain(&stays), pack_bytes, budget);
    }
    plan.unused_after = plan.unused_before - plan.bytes_dropped - plan.bytes_repacked_dead;
    plan
}

/// Worst first, until what stays unused is within bounds; returns the packs that stay as they are.
fn choose_partly(
    plan: &mut Plan,
    mut partly: Vec<PackUse>,
    used_bytes: u64,
    budget: u64,
    options: &PruneOptions,
) -> Vec<PackUse> {
    let may_stay = match options.max_unused {
        MaxUnused::Unlimited => u64::MAX,
        MaxUnused::Bytes(bytes) => bytes,
        MaxUnused::Percent(p) if p >= 100.0 => u64::MAX,
        // A share of what is there afterwards, used and unused together.
        MaxUnused::Percent(p) => (used_bytes as f64 * p / (100.0 - p)) as u64,
    };
    let share = |p: &PackUse| p.unused() as f64 / p.info.size.max(1) as f64;
    partly.sort_by(|a, b| share(b).total_cmp(&share(a)).then(a.info.id.cmp(&b.info.id)));
    let mut unused: u64 = partly.iter().map(PackUse::unused).sum();
    let mut stays = Vec::new();
    for pack in partly {
        if unused <= may_stay || plan.bytes_repacked + pack.info.size > budget {
            stays.push(pack);
            continue;
        }
        unused -= pack.unused();
        rewrite(plan, &pack);
    }
    stays
}

fn rewrite(plan: &mut Plan, pack: &PackUse) {
    plan.bytes_repacked += pack.info.size;
    plan.bytes_repacked_dead += pack.unused();
    plan.chunks_repacked_live += pack.live_chunks;
    plan.chunks_repacked_dead += pack.chunks - pack.live_chunks;
    plan.repack.push(pack.info);
}

/// Hourly backups leave thousands of small packs; each of them costs something at every listing.
fn gather_small<'p>(plan: &mut Plan, stays: impl Iterator<Item = &'p PackUse>, pack_bytes: u64, budget: u64) {
    let small: Vec<&PackUse> = stays.filter(|p| p.info.size < pack_bytes / SMALL_PART).collect();
    if small.len() <= SMALL_PACKS_MAX {
        return;
    }
    for pack in small {
        if plan.bytes_repacked + pack.info.size <= budget {
            rewrite(plan, pack);
        }
    }
}
