//! What the tests of the proof machinery counted: printed, and added to the file that `SNAPKEEP_COUNTERS` names, a line
//! `name<TAB>count<TAB>lost` each. `.ci/counters` makes a table of them.

use std::io::Write;

/// Whether the long counts are asked for.
pub fn night() -> bool {
    std::env::var_os("SNAPKEEP_NIGHT").is_some()
}

/// Notes that `count` cases of `name` were tried and `lost` of them lost something.
pub fn note(name: &str, count: u64, lost: u64) {
    let line = format!("{name}\t{count}\t{lost} lost\n");
    print!("{line}");
    let Some(path) = std::env::var_os("SNAPKEEP_COUNTERS") else { return };
    let file = std::fs::OpenOptions::new().append(true).create(true).open(&path);
    file.expect("the counters' file").write_all(line.as_bytes()).expect("a line in the counters' file");
}
