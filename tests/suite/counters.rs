//! Counts for the table of what was tried: printed, and appended to the file that `SNAPKEEP_COUNTERS` names, one line
//! each: what was counted, how many, what came of it, with tabs between.

use std::io::Write;

/// More of everything: for runs that may take hours.
pub fn is_night() -> bool {
    std::env::var_os("SNAPKEEP_NIGHT").is_some()
}

/// `night` in night runs, else `ci`.
pub fn size<T>(ci: T, night: T) -> T {
    if is_night() { night } else { ci }
}

pub fn count(what: &str, how_many: u64, outcome: &str) {
    let line = format!("{what}\t{how_many}\t{outcome}\n");
    print!("{line}");
    if let Some(path) = std::env::var_os("SNAPKEEP_COUNTERS") {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
        file.and_then(|mut file| file.write_all(line.as_bytes())).expect("the file of counters");
    }
}

/// `count`, where what came of it is how many of them lost something.
pub fn note(what: &str, how_many: u64, lost: u64) {
    count(what, how_many, &format!("{lost} lost"));
}

/// The seed of a random run: from `SNAPKEEP_SEED`, or always the same.
pub fn seed(otherwise: u64) -> u64 {
    let seed = std::env::var("SNAPKEEP_SEED").map(|s| s.parse().expect("SNAPKEEP_SEED is a number"));
    seed.unwrap_or(otherwise)
}
