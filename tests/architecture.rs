//! The house rules, held by a test: floors, homes of crates, sizes, first lines, unsafe code, forgotten files.
//!
//! `src/lib.rs` lists the rooms floor by floor; that list is the architecture and this test reads it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a file and of a function.
const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;

/// Rooms of one floor that may see each other, with the reason.
const NEIGHBOURS: &[(&str, &str, &str)] = &[
    ("crypto", "format", "frames are sealed as the format lays them out"),
    ("backend", "os", "a directory is made durable by the machine"),
    ("source", "os", "the walk goes by directory handles"),
    ("repair", "check", "repair starts from findings"),
    ("sqlite", "os", "a database is found by directory handles, and its descriptors are guarded"),
    ("verify", "compare", "the bytes of stored files come from one place"),
    ("clock", "units", "a time such as `2h ago` holds a duration"),
];

/// Each foreign crate has one home, or few.
const HOMES: &[(&str, &[&str])] = &[
    ("fastcdc", &["chunker"]),
    ("zstd", &["compress"]),
    ("blake3", &["crypto/hash.rs"]),
    ("ring", &["crypto/aead.rs"]),
    ("argon2", &["crypto/password.rs"]),
    ("chacha20poly1305", &["crypto/password.rs"]),
    ("reed_solomon_simd", &["erasure.rs"]),
    ("redb", &["repository/tier.rs"]),
    ("ignore", &["source", "restore", "cli"]),
    ("jiff", &["clock.rs"]),
    ("clap", &["cli"]),
    ("indicatif", &["cli/terminal.rs"]),
    ("dialoguer", &["cli/picker.rs"]),
    ("toml", &["settings", "rules/file.rs", "audit/text.rs"]),
    ("jsonschema", &["rules/schema.rs"]),
    ("simdutf8", &["json"]),
    ("rusqlite", &["sqlite"]),
    ("ureq", &["web.rs"]),
    ("lettre", &["notifications/mail.rs"]),
    ("tiny_http", &["metrics/serve.rs"]),
    ("notify", &["service/watch.rs"]),
];

/// Files that may hold unsafe code, with the reason.
const UNSAFE: &[(&str, &str)] = &[
    (
        "chunker/simd.rs",
        "vector instructions; each is checked for at run time and compared with the plain scan",
    ),
    (
        "sqlite/ffi.rs",
        "calls into SQLite that rusqlite does not wrap: its file handles, pinning a log, a file system of our own",
    ),
];

/// Names no room may have: they collect what belongs elsewhere.
const DRAWERS: &[&str] = &["util", "utils", "misc", "common", "helpers", "core", "types"];

fn source_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn files_below(dir: &Path, extension: &str, out: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> =
        fs::read_dir(dir).expect("readable").map(|e| e.expect("entry").path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            files_below(&path, extension, out);
        } else if path.extension().is_some_and(|e| e == extension) {
            out.push(path);
        }
    }
}

fn sources() -> Vec<(String, String)> {
    let mut files = Vec::new();
    files_below(&source_dir(), "rs", &mut files);
    let name = |p: &Path| p.strip_prefix(source_dir()).expect("below src").to_string_lossy().into_owned();
    files.iter().map(|p| (name(p), fs::read_to_string(p).expect("text"))).collect()
}

/// A file without the tests that stand at its end.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap_or(text)
}

/// Rooms and their floors, in the order of `lib.rs`.
fn floors() -> BTreeMap<String, usize> {
    let text = fs::read_to_string(source_dir().join("lib.rs")).expect("lib.rs");
    let (mut floor, mut rooms) = (None, BTreeMap::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("// Floor ") {
            floor = rest.split(':').next().and_then(|n| n.parse().ok());
        } else if let Some(room) = line.strip_prefix("pub mod ").and_then(|r| r.strip_suffix(';')) {
            rooms.insert(room.to_owned(), floor.expect("a room stands on a floor"));
        }
    }
    assert!(rooms.len() > 10, "lib.rs lists the rooms");
    rooms
}

fn room_of(file: &str) -> &str {
    file.split('/').next().unwrap_or(file).trim_end_matches(".rs")
}

#[test]
fn rooms_import_only_from_below() {
    let floors = floors();
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        let room = room_of(&file);
        if room == "lib" || room == "main" {
            continue;
        }
        let floor = *floors.get(room).unwrap_or_else(|| panic!("{file} is in no room of lib.rs"));
        let mut seen = BTreeSet::new();
        for part in without_tests(&text).split("crate::").skip(1) {
            let word: String = part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            seen.insert(word);
        }
        for other in seen {
            let Some(&below) = floors.get(&other) else { continue };
            let allowed = other == room
                || below < floor
                || other == "error"
                || NEIGHBOURS.iter().any(|(a, b, _)| *a == room && *b == other);
            if !allowed {
                wrong.push(format!("{file} (floor {floor}) imports {other} (floor {below})"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn narrower_walls_hold() {
    let walls: &[(&str, &str)] = &[("source", "repository"), ("format", "os"), ("repository", "source")];
    for (file, text) in sources() {
        for (room, other) in walls {
            if room_of(&file) == *room {
                assert!(!text.contains(&format!("crate::{other}")), "{file} must not know {other}");
            }
        }
    }
}

#[test]
fn foreign_crates_stay_at_home() {
    for (file, text) in sources() {
        for (name, homes) in HOMES {
            let code = without_tests(&text).lines().map(str::trim_start).filter(|l| !l.starts_with("//"));
            let used = code.into_iter().any(|line| {
                line.starts_with(&format!("use {name}::"))
                    || line.match_indices(&format!("{name}::")).any(|(at, _)| {
                        let before = line[..at].chars().next_back();
                        before.is_none_or(|c| !(c.is_alphanumeric() || c == '_' || c == ':' || c == '"'))
                    })
            });
            let at_home = homes.iter().any(|home| file == *home || file.starts_with(&format!("{home}/")));
            assert!(!used || at_home, "{file} uses {name}, which lives in {homes:?}");
        }
    }
}

#[test]
fn files_and_functions_stay_short_and_say_what_they_are() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        if !text.starts_with("//! ") {
            wrong.push(format!("{file} does not begin with a `//!` sentence"));
        }
        let lines = text.lines().count();
        if lines > FILE_LINES_MAX {
            wrong.push(format!("{file} has {lines} lines; {FILE_LINES_MAX} is the most"));
        }
        for (name, length) in functions(&text) {
            if length > FUNCTION_LINES_MAX {
                wrong.push(format!("{file}: {name} has {length} lines; {FUNCTION_LINES_MAX} is the most"));
            }
        }
        let stem = Path::new(&file).file_stem().expect("named").to_string_lossy().into_owned();
        if DRAWERS.contains(&stem.as_str()) {
            wrong.push(format!("{file}: `{stem}` is no name for a room"));
        }
        for banned in ["todo!(", "unimplemented!(", "dbg!("] {
            if text.contains(banned) {
                wrong.push(format!("{file} holds {banned}…)"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Functions and their lengths: from the line with `fn` to the brace that closes at the same indentation.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let trimmed = line.trim_start();
        let is_fn = trimmed.split_whitespace().take(5).any(|w| w == "fn") && !trimmed.starts_with("//");
        if !is_fn {
            continue;
        }
        let indent = line.len() - trimmed.len();
        let close = format!("{}}}", " ".repeat(indent));
        if let Some(length) = lines[i..].iter().position(|l| **l == close) {
            found.push((trimmed.to_owned(), length + 1));
        }
    }
    found
}

#[test]
fn unsafe_code_stands_only_where_the_reason_is_written() {
    for (file, text) in sources() {
        let allowed = UNSAFE.iter().any(|(name, _)| *name == file);
        let code = text.lines().map(str::trim_start).filter(|l| !l.starts_with("//"));
        for line in code {
            let has = line.contains("unsafe ") || line.contains("allow(unsafe_code)");
            assert!(!has || allowed, "{file}: unsafe code outside the list: {line}");
            assert!(!line.contains("allow(unsafe_code)") || allowed, "{file} allows unsafe code");
        }
    }
    for (file, reason) in UNSAFE {
        assert!(source_dir().join(file).exists() && !reason.is_empty(), "{file} is listed but gone");
    }
}

#[test]
fn the_wall_clock_is_read_in_one_place() {
    for (file, text) in sources() {
        let code: Vec<&str> = text.lines().filter(|l| !l.trim_start().starts_with("//")).collect();
        for call in ["SystemTime::now", "Timestamp::now()", "Zoned::now"] {
            let used = code.iter().any(|l| l.contains(call));
            assert!(!used || file == "clock.rs", "{file} reads the clock; take a `Clock`");
        }
    }
}

#[test]
fn stored_files_are_removed_in_few_places() {
    // Backends carry removal out; these rooms decide it.
    const MAY: &[&str] = &["backend", "repository/removal.rs"];
    for (file, text) in sources() {
        let removes = text.contains("backend.remove(") || text.contains("backend().remove(");
        let allowed = MAY.iter().any(|m| file.starts_with(m));
        assert!(!removes || allowed, "{file} removes stored files");
    }
}

#[test]
fn every_test_file_and_every_command_is_listed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let main = fs::read_to_string(root.join("tests/suite/main.rs")).expect("main.rs");
    for entry in fs::read_dir(root.join("tests/suite")).expect("suite") {
        let path = entry.expect("entry").path();
        let stem = path.file_stem().expect("named").to_string_lossy().into_owned();
        if stem != "main" {
            assert!(main.contains(&format!("mod {stem};")), "tests/suite/main.rs forgets {stem}");
        }
    }
    let readme = fs::read_to_string(root.join("README.md")).expect("README.md");
    for entry in fs::read_dir(root.join("src/cli/commands")).expect("commands") {
        let stem = entry.expect("entry").path().file_stem().expect("named").to_string_lossy().into_owned();
        if stem != "mod" {
            let command = stem.replace('_', "-");
            assert!(readme.contains(&format!("`{command}")), "README.md does not mention `{command}`");
        }
    }
}
