//! Which packs to read: all, a part that a series of runs completes, a random share. And when each was last read.

use super::packs::PackFacts;
use crate::clock::Timestamp;
use crate::crypto::hash;
use crate::error::{Error, Result};
use crate::id::{Name, PackId};
use crate::repository::random;
use crate::units::parse_bytes;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Which packs are read whole.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Subset {
    All,
    /// Part n of t: runs with n = 1 to t read every pack once.
    Part {
        n: u64,
        t: u64,
    },
    /// This share of the packs, chosen at random.
    Percent(f64),
    /// Random packs of this many bytes together, at least one.
    Bytes(u64),
}

impl Subset {
    /// `n/t`, `x%` or a size such as `500M`.
    pub fn parse(text: &str) -> Result<Self> {
        let bad =
            || Error::invalid(format!("`{text}` is no part of the data; use for example 1/5, 10% or 500M"));
        if let Some((n, t)) = text.split_once('/') {
            let (n, t) = (n.trim().parse().map_err(|_| bad())?, t.trim().parse().map_err(|_| bad())?);
            return if n >= 1 && n <= t { Ok(Subset::Part { n, t }) } else { Err(bad()) };
        }
        if let Some(percent) = text.strip_suffix('%') {
            let percent: f64 = percent.trim().parse().map_err(|_| bad())?;
            return if percent > 0.0 && percent <= 100.0 { Ok(Subset::Percent(percent)) } else { Err(bad()) };
        }
        match parse_bytes(text).map_err(|_| bad())? {
            0 => Err(bad()),
            bytes => Ok(Subset::Bytes(bytes)),
        }
    }

    /// The packs to read, in order of their names.
    pub fn choose(self, packs: &[PackFacts]) -> Result<Vec<PackFacts>> {
        let mut chosen: Vec<PackFacts> = match self {
            Subset::All => packs.to_vec(),
            Subset::Part { n, t } => {
                packs.iter().filter(|p| hash::short(&p.id.0) % t == n - 1).copied().collect()
            }
            Subset::Percent(percent) => {
                let count = (packs.len() as f64 * percent / 100.0).ceil() as usize;
                shuffled(packs)?.into_iter().take(count).collect()
            }
            Subset::Bytes(max) => {
                let mut total = 0;
                let within = |pack: &PackFacts| {
                    let first = total == 0;
                    total += pack.size;
                    first || total <= max
                };
                shuffled(packs)?.into_iter().take_while(within).collect()
            }
        };
        chosen.sort_by_key(|pack| pack.id);
        Ok(chosen)
    }
}

fn shuffled(packs: &[PackFacts]) -> Result<Vec<PackFacts>> {
    let salt = random::bytes::<16>()?;
    let mut packs = packs.to_vec();
    packs.sort_by_cached_key(|pack| hash::short(&[pack.id.0, salt].concat()));
    Ok(packs)
}

/// When each pack was last read whole and found good, in seconds since 1970: a hint kept with the local cache, which
/// decides only what `--max-age` may skip.
#[derive(Default)]
pub struct Ages {
    path: Option<PathBuf>,
    read: HashMap<PackId, i64>,
}

impl Ages {
    /// `cache` is this repository's index cache; the record stands beside it.
    pub fn load(cache: Option<&Path>) -> Self {
        let path = cache.and_then(Path::parent).map(|dir| dir.join("checked"));
        let text = path.as_ref().and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
        let line = |line: &str| {
            let (id, secs) = line.split_once(' ')?;
            Some((Name::parse(id).ok()?, secs.parse().ok()?))
        };
        Ages { path, read: text.lines().filter_map(line).collect() }
    }

    /// Whether the pack was found good at most `age` before `now`.
    pub fn is_fresh(&self, pack: &PackId, now: Timestamp, age: Duration) -> bool {
        let age = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
        self.read.get(pack).is_some_and(|&secs| secs <= now.secs && now.secs.saturating_sub(secs) <= age)
    }

    /// Notes packs that were found good now and others that were not; forgets those that are gone.
    pub fn save(mut self, now: Timestamp, good: &[PackId], hurt: &[PackId], all: &[PackId]) {
        let Some(path) = self.path.take() else { return };
        self.read.extend(good.iter().map(|id| (*id, now.secs)));
        hurt.iter().for_each(|id| {
            self.read.remove(id);
        });
        let mut lines: Vec<String> =
            all.iter().filter_map(|id| self.read.get(id).map(|secs| format!("{id} {secs}\n"))).collect();
        lines.sort_unstable();
        // A hint: where it cannot be written, the next check reads more.
        let aside = path.with_extension("new");
        let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        let _ = made
            .and_then(|()| std::fs::write(&aside, lines.concat()))
            .and_then(|()| std::fs::rename(&aside, &path));
    }
}
