//! The program as its users meet it: exit codes, JSON, tables, secrets, pipes, profiles.

use serde_json::Value;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory of its own with a source, a cache and settings; gone at the end.
pub struct Home {
    dir: PathBuf,
}

impl Home {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-{}-{number}", std::process::id()));
        std::fs::create_dir_all(dir.join("src/sub")).expect("directories");
        std::fs::write(dir.join("src/a.txt"), "hello\n").expect("a file");
        std::fs::write(dir.join("src/sub/b.bin"), noise(100_000)).expect("a file");
        Home { dir }
    }

    /// One with a repository and one snapshot.
    pub fn with_snapshot() -> Self {
        let home = Home::new();
        home.good(&["init"]);
        home.good(&["backup", "src"]);
        home
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub fn shown(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }

    pub fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_snapkeep"));
        command.current_dir(&self.dir).args(arguments).env_clear().stdin(Stdio::null());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("TZ", "UTC").env("HOME", &self.dir).env("SNAPKEEP_INSECURE_FAST_KDF", "1");
        command.env("XDG_CACHE_HOME", self.path("cache")).env("XDG_CONFIG_HOME", self.path("config"));
        command.env("XDG_STATE_HOME", self.path("state"));
        command.env("SNAPKEEP_REPOSITORY", self.path("repo")).env("SNAPKEEP_PASSWORD", "secret word");
        command
    }

    pub fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Output {
        self.command(arguments).output().expect("runs")
    }

    pub fn code<S: AsRef<OsStr>>(&self, arguments: &[S]) -> i32 {
        self.run(arguments).status.code().expect("a code")
    }

    /// Standard output of a command that must succeed.
    pub fn good<S: AsRef<OsStr>>(&self, arguments: &[S]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    }

    pub fn json<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Value {
        let mut all: Vec<&OsStr> = arguments.iter().map(AsRef::as_ref).collect();
        all.push(OsStr::new("--json"));
        serde_json::from_str(&self.good(&all)).expect("one JSON value")
    }

    pub fn json_lines<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Vec<Value> {
        let mut all: Vec<&OsStr> = arguments.iter().map(AsRef::as_ref).collect();
        all.push(OsStr::new("--json"));
        self.good(&all).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    pub fn profile(&self, name: &str, text: &str) {
        std::fs::create_dir_all(self.path("config/snapkeep")).expect("a directory");
        std::fs::write(self.path("config/snapkeep").join(format!("{name}.toml")), text).expect("a profile");
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Bytes that do not compress, always the same.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

fn has(value: &Value, wanted: &str) {
    for key in wanted.split_whitespace() {
        assert!(keys(value).contains(&key), "{key} is missing in {value}");
    }
}

#[test]
fn every_way_to_fail_has_its_exit_code() {
    let home = Home::new();
    assert_eq!(home.code(&["snapshots"]), 10, "no repository");
    assert_eq!(home.code(&["backup", "src"]), 10);
    assert_eq!(home.code(&["frobnicate"]), 2);
    assert_eq!(home.code(&["backup"]), 2, "no source");
    assert_eq!(home.code(&["init"]), 0);
    assert_eq!(home.code(&["init"]), 1, "there is one already");
    assert_eq!(home.code(&["backup", "nowhere"]), 1, "the only source is missing");
    assert_eq!(home.code(&["ls", "latest"]), 1, "no snapshot yet");
    let partly = home.run(&["backup", "src", "nowhere"]);
    assert_eq!(partly.status.code(), Some(3));
    assert!(text(&partly.stderr).contains("nowhere"), "the missing source is named");
    assert_eq!(
        home.command(&["snapshots"]).env("SNAPKEEP_PASSWORD", "x").output().expect("runs").status.code(),
        Some(12)
    );
    let no_password = home.command(&["snapshots"]).env_remove("SNAPKEEP_PASSWORD").output().expect("runs");
    assert_eq!(no_password.status.code(), Some(12));
    assert!(text(&no_password.stderr).contains("--password-file"));
    let key = home.json(&["key", "list"])[0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(home.code(&["key", "remove", &key]), 23, "the key in use");
    for url in ["s3:host/bucket", "sftp:host:/x", "rest:https://user:hunter2@host/"] {
        let refused = home.run(&["-r", url, "snapshots"]);
        assert_eq!(refused.status.code(), Some(2));
        let scheme = &url[..=url.find(':').expect("a scheme")];
        assert!(text(&refused.stderr).contains(scheme) && !text(&refused.stderr).contains("hunter2"));
    }
    let named = home.command(&["snapshots"]).env_remove("SNAPKEEP_REPOSITORY").output().expect("runs");
    assert_eq!(named.status.code(), Some(2));
    assert!(text(&named.stderr).contains("SNAPKEEP_REPOSITORY"));
}

#[test]
fn damage_is_exit_code_20_and_names_the_file() {
    let home = Home::with_snapshot();
    let mut packs = Vec::new();
    for shard in std::fs::read_dir(home.path("repo/packs")).expect("packs") {
        for pack in std::fs::read_dir(shard.expect("entry").path()).expect("a shard") {
            packs.push(pack.expect("entry").path());
        }
    }
    let pack = packs.iter().max_by_key(|p| p.metadata().expect("there").len()).expect("a pack");
    std::fs::set_permissions(pack, std::fs::Permissions::from_mode(0o600)).expect("writable");
    let mut bytes = std::fs::read(pack).expect("readable");
    bytes[200] ^= 1;
    std::fs::write(pack, bytes).expect("written");
    let checked = home.run(&["check", "--read-data", "--json"]);
    assert_eq!(checked.status.code(), Some(20));
    let summary: Value = serde_json::from_slice(&checked.stdout).expect("JSON");
    has(&summary, "message_type num_errors broken_packs damaged_snapshots damaged_files");
    assert!(summary["num_errors"].as_u64() > Some(0));
    assert!(!summary["damaged_files"].as_array().expect("files").is_empty());
    assert!(text(&home.run(&["check", "--read-data"]).stdout).contains("DAMAGE"));
}

#[test]
fn errors_are_one_json_object_on_standard_error() {
    let home = Home::new();
    for (arguments, code) in
        [(&["snapshots", "--json"][..], 10), (&["--json", "nonsense"], 2), (&["ls", "--json"], 10)]
    {
        let output = home.run(arguments);
        let error: Value = serde_json::from_slice(&output.stderr).expect("JSON");
        assert_eq!(error["message_type"], "exit_error");
        assert_eq!(error["code"], code);
        assert_eq!(output.status.code(), Some(code));
        assert!(output.stdout.is_empty() && !error["message"].as_str().expect("text").is_empty());
    }
}

#[test]
fn json_has_the_shapes_of_the_contract() {
    let home = Home::new();
    let made = home.json(&["init"]);
    assert_eq!(made["message_type"], "initialized");
    assert_eq!(made["id"].as_str().expect("an id").len(), 32);
    assert_eq!(made["repository"], home.shown("repo"));
    let lines = home.json_lines(&["backup", "src", "--tag", "x,y", "--label", "first"]);
    let summary = lines.last().expect("a summary");
    assert_eq!(summary["message_type"], "summary");
    has(
        summary,
        "files_new files_changed files_unmodified dirs_new dirs_changed dirs_unmodified data_blobs data_added \
         data_added_packed total_files_processed total_bytes_processed total_duration backup_start backup_end \
         snapshot_id sqlite",
    );
    assert_eq!(summary["files_new"], 2);
    let id = summary["snapshot_id"].as_str().expect("an id");
    assert_eq!(id.len(), 32);
    // Under a path of its own: directories above a source are part of the snapshot, and these are busy.
    let quiet = ["backup", "src", "--as-path", "/data", "--skip-if-unchanged"];
    home.good(&quiet);
    let skipped = home.json(&quiet);
    assert_eq!(skipped["unchanged"], true);
    assert!(skipped.get("snapshot_id").is_none());
    let snapshots = home.json(&["snapshots"]);
    let one = &snapshots[0];
    has(one, "id short_id time parent hostname username paths tags label summary");
    assert_eq!(one["id"], id);
    assert_eq!(one["short_id"], id[..8]);
    assert_eq!(one["tags"], serde_json::json!(["x", "y"]));
    assert_eq!(one["paths"], serde_json::json!([home.shown("src")]));
    let nodes = home.json_lines(&["ls", id]);
    assert_eq!(nodes[0]["message_type"], "snapshot");
    let file = nodes.iter().find(|n| n["name"] == "a.txt").expect("the file");
    has(file, "message_type path type size mode mtime uid gid");
    assert_eq!(
        (&file["message_type"], &file["type"], &file["size"]),
        (&"node".into(), &"file".into(), &6.into())
    );
    assert_eq!(file["path"], home.shown("src/a.txt"));
}

#[test]
fn json_of_the_looking_commands_has_its_shapes_too() {
    let home = Home::with_snapshot();
    std::fs::write(home.path("src/a.txt"), "changed now\n").expect("written");
    std::fs::write(home.path("src/new"), "new\n").expect("written");
    home.good(&["backup", "src"]);
    let diff = home.json_lines(&["diff", "latest~1", "latest"]);
    let of = |name: &str| diff.iter().find(|l| l["path"] == home.shown(name)).expect("a change");
    assert_eq!((&of("src/a.txt")["modifier"], &of("src/new")["modifier"]), (&"M".into(), &"+".into()));
    assert_eq!(diff.last().expect("a line")["message_type"], "statistics");
    let found = home.json(&["find", "*.txt"]);
    assert_eq!((found.as_array().expect("an array").len(), &found[0]["hits"]), (2, &1.into()));
    let versions = home.json(&["history", "src/a.txt"]);
    assert_eq!(versions.as_array().expect("an array").len(), 2);
    let stats = home.json(&["stats"]);
    has(
        &stats,
        "snapshots_count total_size total_file_count total_blob_count repository_bytes compression_ratio dedup_ratio",
    );
    let checked = home.json(&["check"]);
    assert_eq!((&checked["message_type"], &checked["num_errors"]), (&"summary".into(), &0.into()));
    let restored = home.json(&["restore", "latest", "--target", "out"]);
    has(&restored, "message_type files_restored files_skipped files_deleted bytes_restored total_bytes");
    assert_eq!(restored["files_restored"], 3);
    let key = &home.json(&["key", "list"])[0];
    has(key, "current id userName hostName created");
    assert_eq!(home.json(&["version"])["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn what_was_backed_up_comes_back() {
    let home = Home::with_snapshot();
    let below = format!("latest:{}", home.shown("src"));
    home.good(&["restore", &below, "--target", "straight", "--verify"]);
    assert_eq!(std::fs::read(home.path("straight/a.txt")).expect("restored"), b"hello\n");
    home.good(&["restore", "latest", "--target", "whole"]);
    let inside = home.path("whole").join(home.shown("src").trim_start_matches('/')).join("sub/b.bin");
    assert_eq!(std::fs::read(inside).expect("restored"), noise(100_000));
    assert_eq!(home.good(&["dump", &format!("{below}/a.txt")]), "hello\n");
    let at = home.good(&["dump", "--at", "now", &format!(":{}", home.shown("src/a.txt"))]);
    assert_eq!(at, "hello\n");
    let missing = home.run(&["dump", "latest:/not/there"]);
    assert_eq!(missing.status.code(), Some(1));
    let dry = home.good(&["restore", &below, "--target", "dry", "--dry-run"]);
    assert!(dry.contains("create") && !home.path("dry").exists());
}

#[test]
fn a_directory_is_dumped_as_a_tar_stream() {
    let home = Home::new();
    let long = "n".repeat(180);
    let odd = OsStr::from_bytes(b"odd\xff name");
    std::fs::write(home.path("src").join(&long), "long\n").expect("written");
    std::fs::write(home.path("src").join(odd), "odd\n").expect("written");
    std::os::unix::fs::symlink("a.txt", home.path("src/link")).expect("a link");
    std::fs::hard_link(home.path("src/a.txt"), home.path("src/twin")).expect("a twin");
    std::fs::set_permissions(home.path("src/a.txt"), std::fs::Permissions::from_mode(0o640)).expect("mode");
    home.good(&["init"]);
    home.good(&["backup", "src"]);
    let stream = home.run(&["dump", &format!("latest:{}", home.shown("src"))]).stdout;
    let mut archive = tar::Archive::new(stream.as_slice());
    let mut seen = Vec::new();
    for entry in archive.entries().expect("entries") {
        let mut entry = entry.expect("an entry");
        let path = entry.path_bytes().into_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("readable");
        let link = entry.link_name_bytes().map(|l| l.into_owned());
        let mode = entry.header().mode().expect("a mode");
        seen.push((path, entry.header().entry_type(), mode, link, content));
    }
    let find = |name: &[u8]| seen.iter().find(|(path, ..)| path == name).expect("in the archive");
    assert_eq!(find(b"a.txt").4, b"hello\n");
    assert_eq!(find(b"a.txt").2, 0o640);
    assert_eq!(find(long.as_bytes()).4, b"long\n");
    assert_eq!(find(odd.as_bytes()).4, b"odd\n");
    assert_eq!(find(b"link").3.as_deref(), Some(&b"a.txt"[..]));
    assert_eq!((find(b"twin").1, find(b"twin").3.as_deref()), (tar::EntryType::Link, Some(&b"a.txt"[..])));
    assert_eq!(find(b"sub/b.bin").4.len(), 100_000);
    assert!(find(b"sub/").1.is_dir());
}

#[test]
fn tables_fit_80_columns_and_hide_nothing_dangerous() {
    let home = Home::new();
    let deep = home.path("src").join("d".repeat(120));
    let evil = home.path("src").join(OsStr::from_bytes(b"evil\x1b[31m\xff"));
    std::fs::create_dir_all(&deep).expect("a directory");
    std::fs::create_dir_all(&evil).expect("a directory");
    home.good(&["init"]);
    home.good(&[OsStr::new("backup"), deep.as_os_str(), evil.as_os_str()]);
    for arguments in
        [&["snapshots"][..], &["snapshots", "-v"], &["snapshots", "-g", "host"], &["key", "list"]]
    {
        let table = home.good(arguments);
        assert!(
            table.lines().filter(|l| !l.starts_with("snapshots of")).all(|l| l.chars().count() <= 80),
            "{table}"
        );
        assert!(!table.contains('\x1b'), "{table}");
    }
    assert!(home.good(&["snapshots"]).contains('…'));
    assert!(home.good(&["snapshots"]).contains("\\xff"));
    let json = home.json(&["snapshots"]);
    assert_eq!(json[0]["paths"].as_array().map(Vec::len), json[0]["paths_b64"].as_array().map(Vec::len));
    let nodes = home.json_lines(&["ls", "latest"]);
    assert_eq!(nodes.iter().filter(|n| n.get("path_b64").is_some()).count(), 1);
    // A program gets the exact bytes.
    let plain = home.run(&["ls", "latest"]).stdout;
    assert!(plain.split(|b| *b == b'\n').any(|line| line == evil.as_os_str().as_bytes()));
}

#[test]
fn nobody_we_start_sees_a_password() {
    let home = Home::with_snapshot();
    let shell = "env; tr '\\0' '\\n' < /proc/$PPID/cmdline";
    let mut backup = home.command(&["backup", "--stdin-from-command", "--", "sh", "-c", shell]);
    backup.env("SNAPKEEP_NEW_PASSWORD", "another secret");
    assert!(backup.status().expect("runs").success());
    let seen = home.good(&["dump", "latest:/stdin"]);
    assert!(seen.contains("SNAPKEEP_REPOSITORY") && !seen.contains("secret"), "{seen}");
    let whole_help = home.good(&["key", "add", "--help"]);
    assert!(!whole_help.contains("--password <") && !whole_help.contains("--new-password <"));
    // An open password file is remarked upon and works.
    std::fs::write(home.path("pw"), "secret word\n").expect("written");
    std::fs::set_permissions(home.path("pw"), std::fs::Permissions::from_mode(0o644)).expect("mode");
    let run =
        |arguments: &[&str]| home.command(arguments).env_remove("SNAPKEEP_PASSWORD").output().expect("runs");
    let open = run(&["snapshots", "-p", "pw"]);
    assert!(open.status.success() && text(&open.stderr).contains("chmod 600"));
    let command = run(&["snapshots", "--password-command", "cat pw"]);
    assert!(command.status.success() && command.stderr.is_empty());
    // The command line beats the environment.
    let both = home
        .command(&["snapshots", "--password-command", "cat pw"])
        .env("SNAPKEEP_PASSWORD", "wrong")
        .status();
    assert!(both.expect("runs").success());
}

#[test]
fn passwords_are_added_replaced_and_removed() {
    let home = Home::with_snapshot();
    let with = |password: &str, arguments: &[&str]| {
        let mut command = home.command(arguments);
        command.env("SNAPKEEP_PASSWORD", password).env("SNAPKEEP_NEW_PASSWORD", "second");
        command.output().expect("runs").status.code()
    };
    assert_eq!(with("secret word", &["key", "add", "--label", "spare"]), Some(0));
    assert_eq!(with("second", &["snapshots"]), Some(0));
    let list = home.json(&["key", "list"]);
    let mine = list.as_array().expect("keys").iter().find(|k| k["current"] == true).expect("one");
    let mine = mine["id"].as_str().expect("an id").to_owned();
    assert_eq!(with("second", &["key", "remove", &mine]), Some(0));
    assert_eq!(with("secret word", &["snapshots"]), Some(12));
    std::fs::write(home.path("third"), "third").expect("written");
    assert_eq!(with("second", &["key", "passwd", "--new-password-file", "third"]), Some(0));
    assert_eq!((with("second", &["snapshots"]), with("third", &["snapshots"])), (Some(12), Some(0)));
}

#[test]
fn tags_change_by_name_and_by_filter() {
    let home = Home::with_snapshot();
    home.good(&["tag", "--add", "one,two", "latest"]);
    assert_eq!(home.json(&["snapshots", "--tag", "one,two"]).as_array().map(Vec::len), Some(1));
    assert_eq!(home.json(&["snapshots", "--tag", "one,three"]).as_array().map(Vec::len), Some(0));
    home.good(&["tag", "--remove", "one", "--tag", "one", "--dry-run"]);
    home.good(&["tag", "--remove", "two", "--tag", "one"]);
    assert_eq!(home.json(&["snapshots"])[0]["tags"], serde_json::json!(["one"]));
    assert_eq!(home.code(&["tag", "latest"]), 2);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let home = Home::new();
    for n in 0..3000 {
        std::fs::write(home.path("src").join(format!("a-file-with-a-name-that-is-not-short-{n:05}")), "")
            .expect("written");
    }
    home.good(&["init"]);
    home.good(&["backup", "src"]);
    for arguments in
        [&["ls", "latest"][..], &["ls", "latest", "--json"], &["dump", "latest:/"], &["find", "a-*"]]
    {
        let mut child =
            home.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
        let mut stdout = BufReader::with_capacity(16, child.stdout.take().expect("piped"));
        let mut first = Vec::new();
        stdout.read_until(b'\n', &mut first).expect("a line");
        drop(stdout);
        let output = child.wait_with_output().expect("ended");
        assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn profiles_set_options_and_unknown_keys_are_refused() {
    let home = Home::with_snapshot();
    home.profile("typo", "[backup]\nexcludes = [\"*.o\"]\n");
    let typo = home.run(&["-P", "typo", "snapshots"]);
    assert_eq!(typo.status.code(), Some(2));
    assert!(text(&typo.stderr).contains("`excludes`") && text(&typo.stderr).contains("`exclude`"));
    home.profile("section", "[backups]\n");
    assert!(text(&home.run(&["-P", "section", "snapshots"]).stderr).contains("`backup`"));
    home.profile("type", "[global]\njson = \"yes\"\n");
    assert_eq!(home.code(&["-P", "type", "snapshots"]), 2);
    assert_ne!(home.code(&["-P", "missing", "snapshots"]), 0);
    let repo = home.shown("repo");
    home.profile(
        "daily",
        &format!("[repository]\nrepo = \"{repo}\"\n[global]\ncompression = \"max\"\n[backup]\nexclude = [\"*.bin\"]\ntag = \"daily\"\n"),
    );
    let with = |arguments: &[&str]| {
        let mut command = home.command(arguments);
        command.env_remove("SNAPKEEP_REPOSITORY").env("SNAPKEEP_USE_PROFILE", "daily");
        command
    };
    assert!(with(&["backup", "src"]).status().expect("runs").success());
    let listed = home.good(&["ls", "latest"]);
    assert!(listed.contains("a.txt") && !listed.contains("b.bin"));
    assert_eq!(home.json(&["snapshots", "--latest", "1"])[0]["tags"], serde_json::json!(["daily"]));
    let mut shown = with(&["show-config", "--json", "--no-cache"]);
    shown.env("SNAPKEEP_COMPRESSION", "off");
    let config: Value = serde_json::from_slice(&shown.output().expect("runs").stdout).expect("JSON");
    assert_eq!(
        config["global"]["compression"],
        serde_json::json!({"value": "off", "source": "SNAPKEEP_COMPRESSION"})
    );
    assert_eq!(config["global"]["no-cache"]["source"], "command line");
    assert!(config["global"]["repo"]["source"].as_str().expect("text").ends_with("daily.toml"));
    assert!(config["backup"]["exclude"]["source"].as_str().expect("text").ends_with("daily.toml"));
}

#[test]
fn wrong_values_in_the_environment_are_errors_that_name_the_variable() {
    let home = Home::with_snapshot();
    for (variable, value) in
        [("SNAPKEEP_COMPRESSION", "huge"), ("SNAPKEEP_JSON", "perhaps"), ("SNAPKEEP_BACKUP_REREAD", "200")]
    {
        let output = home.command(&["backup", "src"]).env(variable, value).output().expect("runs");
        assert_eq!(output.status.code(), Some(2), "{variable}");
        assert!(text(&output.stderr).contains(variable), "{}", text(&output.stderr));
    }
    let json = home.command(&["snapshots"]).env("SNAPKEEP_JSON", "1").output().expect("runs");
    assert!(serde_json::from_slice::<Value>(&json.stdout).is_ok());
}

#[test]
fn without_a_terminal_there_is_neither_colour_nor_a_bar() {
    let home = Home::new();
    for variable in ["NO_COLOR", "UNUSED"] {
        for arguments in [&["init"][..], &["backup", "src", "nowhere"], &["snapshots"], &["nonsense"]] {
            let output = home.command(arguments).env(variable, "1").output().expect("runs");
            assert!(!output.stdout.contains(&0x1b) && !output.stderr.contains(&0x1b), "{arguments:?}");
        }
        let _ = std::fs::remove_dir_all(home.path("repo"));
    }
}

#[test]
fn the_second_signal_ends_at_once_and_nothing_is_committed() {
    let home = Home::with_snapshot();
    let mut child = home
        .command(&["backup", "--stdin"])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("started");
    while std::fs::read_dir(home.path("repo/sessions")).expect("sessions").next().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    // It must have begun to wait for bytes, or it has no need of a second signal.
    std::thread::sleep(std::time::Duration::from_millis(700));
    interrupt(&child);
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(child.try_wait().expect("asked").is_none(), "the first signal lets it end in order");
    interrupt(&child);
    assert_eq!(child.wait().expect("ended").code(), Some(130));
    assert_eq!(home.json(&["snapshots"]).as_array().map(Vec::len), Some(1));
}

fn interrupt(child: &Child) {
    let id = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(id, rustix::process::Signal::INT).expect("a signal");
}

#[test]
fn the_first_signal_ends_a_stream_between_two_reads() {
    use std::io::Write;
    let home = Home::with_snapshot();
    let mut child = home
        .command(&["backup", "--stdin"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(&vec![1; 1 << 20]).expect("written");
    interrupt(&child);
    // It looks whether it should stop as bytes come.
    while stdin.write_all(&vec![2; 1 << 20]).is_ok() {}
    let output = child.wait_with_output().expect("ended");
    assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
    assert_eq!(home.json(&["snapshots"]).as_array().map(Vec::len), Some(1));
}

#[test]
fn plain_repositories_and_small_commands_work() {
    let home = Home::new();
    let run = |arguments: &[&str]| {
        let output = home.command(arguments).env_remove("SNAPKEEP_PASSWORD").output().expect("runs");
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    run(&["init", "--no-encryption"]);
    run(&["backup", "src"]);
    assert_eq!(run(&["snapshots", "--json", "--no-cache"]).matches("short_id").count(), 1);
    let explained = run(&["backup", "src", "-e", "*.txt", "--explain", "src/a.txt"]);
    assert!(explained.contains("excluded") && explained.contains("*.txt"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(run(&["completions", shell]).contains("snapkeep"));
    }
    run(&["man", "pages"]);
    assert!(std::fs::read_dir(home.path("pages")).expect("pages").count() > 20);
    assert!(run(&["--version"]).contains(env!("CARGO_PKG_VERSION")));
    run(&["repair", "index"]);
    run(&["init", "--no-encryption", "-r", "second", "--copy-chunker-from", "repo"]);
    run(&["copy", "-r", "second", "--from-repo", "repo", "--log-file", "log"]);
    assert!(run(&["copy", "-r", "second", "--from-repo", "repo"]).contains("1 there already"));
    assert!(std::fs::read_to_string(home.path("log")).expect("a log").contains("exit code 0"));
}

#[test]
fn a_repository_made_inside_its_source_is_not_backed_up() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("a"), "text").expect("write");
    let snapkeep = |arguments: &[&str]| {
        std::process::Command::new(env!("CARGO_BIN_EXE_snapkeep"))
            .args(arguments)
            .current_dir(dir.path())
            .env("SNAPKEEP_INSECURE_FAST_KDF", "1")
            .env("SNAPKEEP_PASSWORD", "x")
            .env("SNAPKEEP_CACHE_DIR", dir.path().join("cache"))
            .env("SNAPKEEP_STATE_DIR", dir.path().join("state"))
            .output()
            .expect("runs")
    };
    for _ in 0..2 {
        let done = snapkeep(&["-r", "repo", "backup", "--init", "."]);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let listed = String::from_utf8(snapkeep(&["-r", "repo", "ls", "latest"]).stdout).expect("text");
        let inside = format!("{}/", dir.path().display());
        let names: Vec<_> = listed.lines().filter_map(|l| l.strip_prefix(&inside)).collect();
        assert_eq!(names, ["a"], "the repository and the cache are left out");
    }
}
