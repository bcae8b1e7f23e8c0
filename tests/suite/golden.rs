//! Repositories that earlier builds wrote: every later one reads them, to the byte, and can go on with them.

use crate::cli::text;
use crate::counters::note;
use crate::yard::place;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// Names of all golden repositories.
fn names() -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(golden()).expect("golden repositories") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|e| e == "tar") {
            names.push(path.file_stem().expect("a name").to_string_lossy().into_owned());
        }
    }
    names.sort();
    assert!(names.len() >= 2, "they are there");
    names
}

/// Makes the repository's folders, which the archive leaves out, and unpacks its files.
fn unpack(name: &str, into: &Path) {
    let folders =
        ["config", "keys", "index", "sessions", "snapshots", "evicted", "notes", "condemned", "copies"];
    let shards = (0..=255u8).map(|shard| format!("packs/{shard:02x}"));
    for folder in folders.into_iter().map(str::to_owned).chain(shards) {
        std::fs::create_dir_all(into.join(folder)).expect("a folder");
    }
    let file = std::fs::File::open(golden().join(format!("{name}.tar"))).expect("an archive");
    tar::Archive::new(file).unpack(into).expect("unpacked");
}

struct Old<'a> {
    dir: &'a Path,
    password: Option<&'static str>,
}

impl Old<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_snapkeep"));
        command.current_dir(self.dir).args(arguments).env_clear().stdin(Stdio::null());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("TZ", "UTC").env("HOME", self.dir).env("XDG_CACHE_HOME", self.dir.join("cache"));
        command.env("XDG_STATE_HOME", self.dir.join("state"));
        command.env("SNAPKEEP_REPOSITORY", self.dir.join("repository"));
        if let Some(password) = self.password {
            command.env("SNAPKEEP_PASSWORD", password);
        }
        command
    }

    fn good(&self, arguments: &[&str]) -> Output {
        let output = self.command(arguments).output().expect("runs");
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        output
    }
}

/// The files below the restored snapshots, each with its hash, as `sha256sum` tells them.
fn sums(dir: &Path, below: &Path, out: &mut Vec<String>) {
    for entry in std::fs::read_dir(below).expect("a directory") {
        let entry = entry.expect("an entry");
        let (path, kind) = (entry.path(), entry.file_type().expect("a kind"));
        if kind.is_dir() {
            sums(dir, &path, out);
        } else if kind.is_file() {
            let hash = ring::digest::digest(&ring::digest::SHA256, &std::fs::read(&path).expect("a file"));
            let shown = path.strip_prefix(dir).expect("below").as_os_str().as_encoded_bytes().to_vec();
            out.push(format!("{}  ./{}", snapkeep::id::hex(hash.as_ref()), shown.escape_ascii()));
        }
    }
}

#[test]
fn old_repositories_are_read_to_the_byte() {
    let mut snapshots = 0;
    for name in names() {
        let encrypted = name.contains("encrypted");
        let passwords: &[_] =
            if encrypted { &[Some("golden word"), Some("another golden word")] } else { &[None] };
        for password in passwords {
            let dir = place("golden");
            let old = Old { dir: dir.path(), password: *password };
            unpack(&name, &dir.path().join("repository"));
            old.good(&["check", "--read-data"]);
            let wanted = std::fs::read(golden().join(format!("{name}.sums"))).expect("sums");
            let mut wanted: Vec<String> =
                wanted.split(|b| *b == b'\n').filter(|l| !l.is_empty()).map(escaped).collect();
            wanted.sort();
            let ids: std::collections::BTreeSet<&str> = wanted.iter().map(|line| &line[68..100]).collect();
            for id in &ids {
                old.good(&["restore", id, "--target", &format!("restored/{id}")]);
                snapshots += 1;
            }
            let (restored, mut found) = (dir.path().join("restored"), Vec::new());
            sums(&restored, &restored, &mut found);
            found.sort();
            assert_eq!(found, wanted, "{name}");
            go_on(&old, &ids, &restored);
        }
    }
    note("T17 snapshots of golden repositories", snapshots, 0);
}

fn escaped(line: &[u8]) -> String {
    let (hash, path) = line.split_at(66);
    // Names that hold a backslash or a line break are marked by one before the hash; there are none here.
    format!("{}{}", String::from_utf8_lossy(hash), path.escape_ascii())
}

/// Links, special files and modes; and another backup on top.
fn go_on(old: &Old<'_>, ids: &std::collections::BTreeSet<&str>, restored: &Path) {
    let trees = ids.iter().map(|id| restored.join(id).join("tree")).filter(|tree| tree.exists());
    for tree in trees {
        assert_eq!(std::fs::read_link(tree.join("sub/link")).expect("a link"), Path::new("../small"));
        assert!(tree.join("sub/empty").is_dir());
        let kind = std::fs::symlink_metadata(tree.join("fifo")).expect("a fifo").file_type();
        assert!(std::os::unix::fs::FileTypeExt::is_fifo(&kind));
        let mode = |name: &str| tree.join(name).metadata().expect("there").permissions().mode();
        assert_eq!(mode("small"), mode("sub/same"));
    }
    old.good(&["backup", "restored", "--as-path", "/again"]);
    old.good(&["check", "--read-data"]);
}
