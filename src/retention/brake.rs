//! When something is wrong with the newest snapshot, the older ones are worth more than the policy knows.

use std::fmt;

/// A size is unusual only if a usual one is known: from so many good snapshots at least, and so many at most.
const KNOWN_MIN: usize = 3;
const KNOWN_MAX: usize = 7;

/// What a series' snapshots tell about their health.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vital {
    /// Entries that could not be read; none makes it good.
    pub problems: u64,
    pub files: u64,
    pub bytes: u64,
}

/// What is wrong with the newest snapshot of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anomaly {
    Incomplete { problems: u64 },
    FewFiles { now: u64, usual: u64 },
    FewBytes { now: u64, usual: u64 },
}

impl Vital {
    pub fn is_good(&self) -> bool {
        self.problems == 0
    }
}

impl Anomaly {
    /// In two words.
    pub fn word(&self) -> &'static str {
        match self {
            Anomaly::Incomplete { .. } => "incomplete",
            Anomaly::FewFiles { .. } => "few files",
            Anomaly::FewBytes { .. } => "few bytes",
        }
    }
}

/// Looks at a series, oldest first: incomplete, or less than half of the median of the last good ones before it.
pub fn anomaly(series: &[Vital]) -> Option<Anomaly> {
    let (newest, before) = series.split_last()?;
    if !newest.is_good() {
        return Some(Anomaly::Incomplete { problems: newest.problems });
    }
    let good: Vec<&Vital> = before.iter().rev().filter(|v| v.is_good()).take(KNOWN_MAX).collect();
    if good.len() < KNOWN_MIN {
        return None;
    }
    let median = |of: fn(&Vital) -> u64| {
        let mut values: Vec<u64> = good.iter().map(|v| of(v)).collect();
        values.sort_unstable();
        values[(values.len() - 1) / 2]
    };
    let far_less = |now: u64, usual: u64| now < usual.div_ceil(2);
    let (files, bytes) = (median(|v| v.files), median(|v| v.bytes));
    if far_less(newest.files, files) {
        return Some(Anomaly::FewFiles { now: newest.files, usual: files });
    }
    far_less(newest.bytes, bytes).then_some(Anomaly::FewBytes { now: newest.bytes, usual: bytes })
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use crate::units::{bytes, count, counted};
        match self {
            Anomaly::Incomplete { problems } => {
                write!(f, "is incomplete ({})", counted(*problems, "problem", "problems"))
            }
            Anomaly::FewFiles { now, usual } => {
                write!(f, "has {} where {} are usual", counted(*now, "file", "files"), count(*usual))
            }
            Anomaly::FewBytes { now, usual } => {
                write!(f, "holds {} where {} are usual", bytes(*now), bytes(*usual))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_what_is_usual_is_an_anomaly_once_something_is_usual() {
        let of = |files| Vital { problems: 0, files, bytes: 1000 };
        let series = |last: Vital, before: &[u64]| {
            let mut all: Vec<Vital> = before.iter().map(|n| of(*n)).collect();
            all.push(last);
            anomaly(&all)
        };
        assert_eq!(series(of(10), &[100, 100]), None, "nothing is usual yet");
        assert_eq!(series(of(49), &[100, 100, 1]), Some(Anomaly::FewFiles { now: 49, usual: 100 }));
        assert_eq!(series(of(50), &[100, 100, 100]), None);
        assert_eq!(series(of(1), &[9, 9, 9, 1, 1, 1, 1]), None, "small is usual by now");
        let lean = Vital { bytes: 499, ..of(100) };
        assert_eq!(series(lean, &[100; 3]), Some(Anomaly::FewBytes { now: 499, usual: 1000 }));
        let torn = Vital { problems: 2, ..of(100) };
        assert_eq!(series(torn, &[]), Some(Anomaly::Incomplete { problems: 2 }));
        assert_eq!(anomaly(&[]), None);
    }
}
