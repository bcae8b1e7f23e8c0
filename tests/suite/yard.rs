//! The real program against a repository that is made to suffer: what was reported must be there afterwards, all that
//! is there must be whole, and the next command must work without anybody's help.

use crate::cli::text;
use crate::shelf::Random;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Paths below the source, and what the files hold.
pub type Tree = BTreeMap<String, Vec<u8>>;

pub const PASSWORD: &str = "secret word";

/// A generator with a seed that is printed.
pub fn seed(name: &str, usual: u64) -> Random {
    let seed = crate::counters::seed(usual);
    println!("{name}: seed {seed} (SNAPKEEP_SEED)");
    Random(seed)
}

/// A directory for a repository: in memory where there is room for that.
pub fn place(name: &str) -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let above = if memory.is_dir() { memory } else { Path::new(env!("CARGO_TARGET_TMPDIR")) };
    tempfile::Builder::new().prefix(&format!("snapkeep-{name}-")).tempdir_in(above).expect("a directory")
}

/// Whether this build has the command.
pub fn has_command(name: &str) -> bool {
    let mut command = Command::new(env!("CARGO_BIN_EXE_snapkeep"));
    let output = command.args([name, "--help"]).env_clear().output().expect("runs");
    if !output.status.success() {
        println!("NOT TRIED: this build has no command `{name}`");
    }
    output.status.success()
}

/// A source, a cache, a repository, and what is known about it.
pub struct Yard {
    /// Source, cache and restored files, away from the repository.
    pub home: PathBuf,
    pub repository: PathBuf,
    pub tree: Tree,
    /// Snapshots that were reported.
    pub sure: BTreeMap<String, Arc<Tree>>,
    /// Snapshots that may have been forgotten.
    pub doubtful: BTreeMap<String, Arc<Tree>>,
    /// Snapshots that were reported to be forgotten.
    pub forgotten: BTreeSet<String>,
    /// What snapshots held that went to the trash: it may come back under another id.
    pub trash: BTreeMap<String, Arc<Tree>>,
    /// What must be there since an undelete was reported.
    pub undeleted: Option<Arc<Tree>>,
    /// Tags that were reported to be set.
    pub tags: BTreeMap<String, Vec<String>>,
    /// Passwords that were reported to open.
    pub passwords: Vec<String>,
    /// Another repository, to copy into, and how many snapshots it had when a copy was reported.
    pub second: PathBuf,
    pub copied: usize,
    /// Who backs up here: several yards may share a repository.
    pub host: String,
    files: u32,
}

/// Something that is done to the repository.
#[derive(Clone, Debug)]
pub enum Deed {
    Init,
    Backup,
    Tag(String, String),
    AddKey(String),
    Copy,
    /// With the trash, or for good.
    Forget(String, bool),
    Undelete(String),
    Prune,
}

impl Yard {
    /// A source, and no repository yet.
    pub fn new(repository: &Path, random: &mut Random) -> Yard {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("yard-{}-{number}", std::process::id());
        let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(home.join("src/sub")).expect("directories");
        let mut yard = Yard {
            home,
            repository: repository.to_path_buf(),
            tree: Tree::new(),
            sure: BTreeMap::new(),
            doubtful: BTreeMap::new(),
            forgotten: BTreeSet::new(),
            trash: BTreeMap::new(),
            undeleted: None,
            tags: BTreeMap::new(),
            passwords: vec![PASSWORD.to_owned()],
            second: repository.with_extension("second"),
            copied: 0,
            host: "yard".to_owned(),
            files: 0,
        };
        for len in [0, 10, 3000, 70_000, 600_000] {
            let bytes = random.bytes(len);
            yard.add(bytes);
        }
        yard
    }

    fn add(&mut self, bytes: Vec<u8>) {
        let below = if self.files.is_multiple_of(2) { "" } else { "sub/" };
        let path = format!("{below}file-{}", self.files);
        self.files += 1;
        std::fs::write(self.home.join("src").join(&path), &bytes).expect("a file of the source");
        self.tree.insert(path, bytes);
    }

    /// Another state of the source: parts rewritten, a file more, sometimes one less.
    pub fn change(&mut self, random: &mut Random) {
        let paths: Vec<String> = self.tree.keys().cloned().collect();
        for path in &paths {
            let bytes = self.tree.get_mut(path).expect("a file");
            match random.below(4) {
                0 if !bytes.is_empty() => {
                    let at = random.below(bytes.len());
                    let new = random.bytes(100);
                    for (old, new) in bytes[at..].iter_mut().zip(new) {
                        *old = new;
                    }
                }
                1 if bytes.len() < 1_000_000 => bytes.extend(random.bytes(200)),
                _ => continue,
            }
            std::fs::write(self.home.join("src").join(path), &*bytes).expect("a file of the source");
        }
        if paths.len() > 6 {
            let gone = &paths[random.below(paths.len())];
            std::fs::remove_file(self.home.join("src").join(gone)).expect("removed");
            self.tree.remove(gone);
        }
        let len = random.below(40_000);
        let bytes = random.bytes(len);
        self.add(bytes);
    }

    /// The program, told where everything is.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_snapkeep"));
        command.current_dir(&self.home).args(arguments).env_clear().stdin(Stdio::null());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("TZ", "UTC").env("HOME", &self.home).env("SNAPKEEP_INSECURE_FAST_KDF", "1");
        command.env("XDG_CACHE_HOME", self.home.join("cache")).env("XDG_STATE_HOME", self.home.join("state"));
        command.env("SNAPKEEP_REPOSITORY", &self.repository).env("SNAPKEEP_PASSWORD", PASSWORD);
        command.env("SNAPKEEP_FROM_PASSWORD", PASSWORD);
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("runs")
    }

    /// Standard output of a command that must succeed.
    pub fn good(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(
            output.status.success(),
            "{arguments:?} ended with {}: {}",
            output.status,
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    pub fn backing_up(&self) -> Command {
        self.command(&["backup", "src", "--as-path", "/tree", "--json", "--host", &self.host])
    }

    /// Takes notice of a backup that ended well.
    pub fn backed_up(&mut self, output: &Output) -> String {
        let told = text(&output.stdout);
        let last = told.lines().last().unwrap_or_default();
        let summary: Value = serde_json::from_str(last).expect("a summary");
        let id = summary["snapshot_id"].as_str().expect("a snapshot").to_owned();
        self.sure.insert(id.clone(), Arc::new(self.tree.clone()));
        id
    }

    /// A backup that must succeed.
    pub fn back_up(&mut self) -> String {
        let output = self.backing_up().output().expect("runs");
        assert!(output.status.success(), "backup: {}", text(&output.stderr));
        self.backed_up(&output)
    }

    /// Ids and tags of all snapshots of ours.
    pub fn listed(&self) -> BTreeMap<String, Vec<String>> {
        let told = self.good(&["snapshots", "--json"]);
        let all: Value = serde_json::from_str(&told).expect("an array");
        let one = |snapshot: &Value| {
            let tags = snapshot["tags"].as_array().into_iter().flatten();
            let tags = tags.map(|tag| tag.as_str().expect("a tag").to_owned()).collect();
            (snapshot["id"].as_str().expect("an id").to_owned(), tags)
        };
        let ours = |snapshot: &&Value| snapshot["hostname"] == self.host.as_str();
        all.as_array().expect("an array").iter().filter(ours).map(one).collect()
    }

    /// Everything that must hold after whatever has happened. Restores the newest snapshot and `more` others.
    pub fn verify(&mut self, random: &mut Random, more: usize) {
        let listed = self.listed();
        for id in self.sure.keys() {
            assert!(listed.contains_key(id), "snapshot {id} was reported and is gone");
        }
        for id in &self.forgotten {
            assert!(!listed.contains_key(id), "snapshot {id} was forgotten and is back");
        }
        let doubtful = std::mem::take(&mut self.doubtful);
        for (id, tree) in doubtful {
            if listed.contains_key(&id) {
                self.sure.insert(id, tree);
            } else {
                self.forgotten.insert(id);
            }
        }
        for (id, tags) in &self.tags {
            assert_eq!(listed.get(id), Some(tags), "tags of {id}");
        }
        self.good(&["check", "--read-data"]);
        // A backup that was cut short may have committed all the same: then it holds the source as it is now. What was
        // undeleted has an id of its own.
        for id in listed.keys().filter(|id| !self.sure.contains_key(*id)).cloned().collect::<Vec<_>>() {
            let found = self.restored(&id);
            let old = self.trash.values().chain(&self.undeleted).map(|tree| &**tree);
            let known = [&self.tree].into_iter().chain(old);
            assert!(
                known.into_iter().any(|tree| *tree == found),
                "snapshot {id} is of nothing that was known"
            );
            self.sure.insert(id, Arc::new(found));
        }
        if let Some(tree) = self.undeleted.take() {
            assert!(self.sure.values().any(|there| *there == tree), "what was undeleted is not there");
        }
        let all: Vec<String> = self.sure.keys().cloned().collect();
        for _ in 0..more.min(all.len()) {
            self.restore(&all[random.below(all.len())]);
        }
    }

    /// Restores every snapshot.
    pub fn verify_all(&mut self, random: &mut Random) {
        self.verify(random, 0);
        for id in self.sure.keys() {
            self.restore(id);
        }
        for password in &self.passwords {
            let output =
                self.command(&["snapshots"]).env("SNAPKEEP_PASSWORD", password).output().expect("runs");
            assert!(output.status.success(), "{password}: {}", text(&output.stderr));
        }
    }

    /// The command that does it.
    pub fn doing(&self, deed: &Deed) -> Command {
        let shown = |path: &Path| path.to_string_lossy().into_owned();
        match deed {
            Deed::Init => self.command(&["init"]),
            Deed::Backup => self.backing_up(),
            Deed::Tag(id, tag) => self.command(&["tag", "--set", tag, id]),
            Deed::AddKey(word) => {
                let mut command = self.command(&["key", "add"]);
                command.env("SNAPKEEP_NEW_PASSWORD", word);
                command
            }
            Deed::Copy => {
                let (from, to) = (shown(&self.repository), shown(&self.second));
                self.command(&["-r", &to, "copy", "--from-repo", &from])
            }
            Deed::Forget(id, true) => self.command(&["forget", id]),
            Deed::Forget(id, false) => self.command(&["forget", "--no-trash", id]),
            Deed::Undelete(id) => self.command(&["undelete", id]),
            Deed::Prune => self.command(&["prune", "--max-unused", "0"]),
        }
    }

    /// Something to do next, of these kinds.
    pub fn choose(&mut self, kinds: &[&str], random: &mut Random) -> Deed {
        let ids: Vec<&String> = self.sure.keys().collect();
        let some = |random: &mut Random| ids[random.below(ids.len())].clone();
        match kinds[random.below(kinds.len())] {
            "backup" => {}
            _ if ids.len() < 2 => {}
            "tag" => return Deed::Tag(some(random), format!("t{}", random.below(1000))),
            "key" if self.passwords.len() < 8 => return Deed::AddKey(format!("word {}", random.next())),
            "copy" => return Deed::Copy,
            "forget" if ids.len() > 5 => return Deed::Forget(some(random), random.below(2) == 0),
            "prune" => return Deed::Prune,
            _ => {}
        }
        self.change(random);
        Deed::Backup
    }

    /// Takes notice of how it ended.
    pub fn learn(&mut self, deed: &Deed, output: &Output) {
        let good = output.status.success();
        match deed {
            Deed::Backup if good => drop(self.backed_up(output)),
            Deed::Tag(id, tag) => {
                self.tags.remove(id);
                if good {
                    self.tags.insert(id.clone(), vec![tag.clone()]);
                }
            }
            Deed::AddKey(word) if good => self.passwords.push(word.clone()),
            Deed::Copy if good => self.copied = self.sure.len(),
            Deed::Undelete(id) if good => self.undeleted = self.trash.remove(id),
            Deed::Forget(id, trash) => {
                self.tags.remove(id);
                let tree = self.sure.remove(id).expect("a known snapshot");
                if *trash && good {
                    self.trash.insert(id.clone(), Arc::clone(&tree));
                }
                if good {
                    self.forgotten.insert(id.clone());
                } else {
                    self.doubtful.insert(id.clone(), tree);
                }
            }
            _ => {}
        }
    }

    /// What `verify` does, after this was done or cut short.
    pub fn verify_after(&mut self, deed: &Deed, good: bool, random: &mut Random) {
        if matches!(deed, Deed::Init) && !good {
            // Cut short: then it can be made again, unless it had come into being already.
            let again = self.run(&["init"]);
            let there = self.run(&["snapshots"]);
            assert!(there.status.success(), "{} {}", text(&again.stderr), text(&there.stderr));
        }
        self.verify(random, 1);
        if self.copied == 0 && !matches!(deed, Deed::Copy) {
            return;
        }
        let second = self.second.to_string_lossy().into_owned();
        let told = self.good(&["-r", &second, "snapshots", "--json"]);
        let there = serde_json::from_str::<Value>(&told).expect("an array");
        let there = there.as_array().expect("an array").len();
        assert!(there >= self.copied, "{there} snapshots of {} that were reported copied", self.copied);
        self.good(&["-r", &second, "check", "--read-data"]);
    }

    pub fn restore(&self, id: &str) {
        let (found, wanted) = (self.restored(id), &self.sure[id]);
        assert!(found == **wanted, "snapshot {id}: {}", difference(&found, wanted));
    }

    /// What a snapshot holds.
    fn restored(&self, id: &str) -> Tree {
        let target = self.home.join(format!("restored-{id}"));
        let output = self.restoring(id, &target).output().expect("runs");
        assert!(output.status.success(), "restoring {id}: {}", text(&output.stderr));
        let found = read_tree(&target);
        std::fs::remove_dir_all(target).expect("removed");
        found
    }

    pub fn restoring(&self, id: &str, target: &Path) -> Command {
        self.command(&["restore", &format!("{id}:/tree"), "--target", &target.to_string_lossy()])
    }
}

impl Drop for Yard {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.home);
        }
    }
}

fn difference(found: &Tree, wanted: &Tree) -> String {
    let paths: BTreeSet<&String> = found.keys().chain(wanted.keys()).collect();
    let differs = |path: &&&String| found.get(**path) != wanted.get(**path);
    format!("these differ: {:?}", paths.iter().filter(differs).collect::<Vec<_>>())
}

pub fn read_tree(dir: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut todo = vec![dir.to_path_buf()];
    while let Some(now) = todo.pop() {
        for entry in std::fs::read_dir(&now).expect("a directory") {
            let entry = entry.expect("an entry");
            let (path, kind) = (entry.path(), entry.file_type().expect("a kind"));
            if kind.is_dir() {
                todo.push(path);
                continue;
            }
            assert!(kind.is_file(), "{} is no file", path.display());
            let name = path.strip_prefix(dir).expect("below").to_string_lossy().into_owned();
            tree.insert(name, std::fs::read(&path).expect("a file"));
        }
    }
    tree
}
