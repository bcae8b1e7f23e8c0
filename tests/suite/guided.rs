//! A restore by questions, on a terminal of its own: chosen by typing and by arrows, back in place and elsewhere, and broken off.

use crate::cli::{Home, text};
use crate::in_place::{code, tree};
use crate::sqlite_live::create;
use rusqlite::Connection;
use std::fs;
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const ENTER: &str = "\r";
const DOWN: &str = "\x1b[B";
pub const CTRL_C: &str = "\x03";

/// The program on a terminal.
pub struct Terminal {
    child: Child,
    keys: ChildStdin,
    screen: Arc<Mutex<Vec<u8>>>,
    /// Up to here everything was seen.
    seen: usize,
}

impl Terminal {
    /// `None` where there is no program that gives others a terminal.
    pub fn start(home: &Home, words: &[&str]) -> Option<Self> {
        if !Command::new("script").arg("--version").output().is_ok_and(|out| out.status.success()) {
            println!("NOT TRIED: there is no `script` to give the program a terminal");
            return None;
        }
        let like = home.command(&[""; 0]);
        let line =
            format!("stty rows 40 cols 150; exec {} {}", env!("CARGO_BIN_EXE_snapkeep"), words.join(" "));
        let mut command = Command::new("script");
        command.args(["-qfec", &line, "/dev/null"]).current_dir(home.path("")).env_clear();
        for (name, value) in like.get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        command.env("TERM", "xterm").env("SHELL", "/bin/sh").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("runs");
        let keys = child.stdin.take().expect("piped");
        let mut out = child.stdout.take().expect("piped");
        let screen = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&screen);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = out.read(&mut bytes) {
                shared.lock().expect("shared").extend_from_slice(&bytes[..n]);
            }
        });
        Some(Terminal { child, keys, screen, seen: 0 })
    }

    fn shown(&self) -> String {
        text(&self.screen.lock().expect("shared")[self.seen..])
    }

    /// Waits until this is shown.
    pub fn expect(&mut self, wanted: &str) {
        let until = Instant::now() + Duration::from_secs(60);
        while !self.shown().contains(wanted) {
            assert!(Instant::now() < until, "`{wanted}` is not shown: {:?}", self.shown());
            std::thread::sleep(Duration::from_millis(20));
        }
        let all = self.screen.lock().expect("shared");
        let at = text(&all[self.seen..]).find(wanted).expect("shown") + wanted.len();
        self.seen = (self.seen + at).min(all.len());
    }

    pub fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("typed");
        self.keys.flush().expect("typed");
    }

    /// A list is drawn again after each key: the next is pressed when it is there.
    fn choose(&mut self, question: &str, keys: &str) {
        self.expect(question);
        self.settle();
        self.press(keys);
        self.settle();
        self.press(ENTER);
    }

    /// Nothing more is drawn.
    fn settle(&mut self) {
        let mut len = usize::MAX;
        while len != self.screen.lock().expect("shared").len() {
            len = self.screen.lock().expect("shared").len();
            std::thread::sleep(Duration::from_millis(150));
        }
    }

    pub fn end(mut self) -> i32 {
        let ended = self.child.wait().expect("ends").code().expect("a code");
        // The last words.
        std::thread::sleep(Duration::from_millis(100));
        ended
    }
}

fn yard() -> Home {
    let home = Home::new();
    home.good(&["init"]);
    create(&home.path("src/app.db"), "delete", 4096);
    home.good(&["backup", "src", "--tag", "first"]);
    fs::write(home.path("src/a.txt"), "second\n").expect("written");
    home.good(&["backup", "src", "--tag", "second"]);
    fs::write(home.path("src/a.txt"), "spoilt\n").expect("written");
    Connection::open(home.path("src/app.db"))
        .expect("opens")
        .execute_batch("DELETE FROM account")
        .expect("spoilt");
    home
}

#[test]
fn a_snapshot_is_found_by_typing_and_goes_back() {
    let home = yard();
    let Some(mut terminal) = Terminal::start(&home, &["restore"]) else { return };
    terminal.choose("Which snapshot?", "first");
    terminal.choose("What of it?", "");
    terminal.choose("Where to?", "");
    terminal.choose("How?", "");
    terminal.expect("without questions: snapkeep restore ");
    terminal.expect("--in-place --yes");
    terminal.expect("replace");
    terminal.expect("Go on? [y/N]");
    terminal.press("y\r");
    terminal.expect("to take this back: snapkeep undo");
    assert_eq!(terminal.end(), 0);
    assert_eq!(fs::read(home.path("src/a.txt")).expect("read"), b"hello\n");
    let count = "SELECT count(*) FROM account";
    let db = Connection::open(home.path("src/app.db")).expect("opens");
    assert_eq!(db.query_row(count, [], |row| row.get::<_, i64>(0)).expect("an answer"), 500);
}

#[test]
fn a_part_is_found_by_going_down_and_goes_elsewhere() {
    let home = yard();
    let before = tree(&home.path("src"));
    let Some(mut terminal) = Terminal::start(&home, &["-r", "repo", "restore"]) else { return };
    // The newest comes first.
    terminal.choose("Which snapshot?", "");
    terminal.choose("What of it?", "sub");
    terminal.choose("What of it?", "up");
    terminal.choose("What of it?", "a.txt");
    terminal.choose("Where to?", DOWN);
    terminal.expect("Which directory?");
    terminal.press("there\r");
    terminal.choose("How?", "");
    terminal.expect("would create 1");
    terminal.expect("Go on? [y/N]");
    terminal.press("y\r");
    assert_eq!(terminal.end(), 0);
    assert_eq!(fs::read(home.path("there/a.txt")).expect("read"), b"second\n");
    assert_eq!(tree(&home.path("src")).get("a.txt"), before.get("a.txt"));
    assert_eq!(fs::read_dir(home.path("there")).expect("listed").count(), 1);
}

#[test]
fn who_breaks_off_changes_nothing() {
    let home = yard();
    let before = tree(&home.path("src"));
    for (keys, wanted) in [(CTRL_C, 130), ("\x1b", 1)] {
        let Some(mut terminal) = Terminal::start(&home, &["restore"]) else { return };
        terminal.expect("Which snapshot?");
        terminal.settle();
        terminal.press(keys);
        terminal.expect("nothing was changed");
        assert_eq!(terminal.end(), wanted, "{keys:?}");
    }
    let Some(mut terminal) = Terminal::start(&home, &["restore"]) else { return };
    terminal.choose("Which snapshot?", "");
    terminal.choose("What of it?", "");
    terminal.choose("Where to?", "");
    terminal.choose("How?", "delete");
    terminal.expect("--in-place --delete --yes");
    terminal.expect("Go on? [y/N]");
    terminal.press("\r");
    terminal.expect("not confirmed");
    assert_eq!(terminal.end(), 1);
    assert!(tree(&home.path("src")) == before);
    // Without a terminal it is a mistake, as ever; so is a half of a request.
    let run = home.run(&["restore"]);
    assert_eq!(code(&run), 2, "{run:?}");
    let Some(terminal) = Terminal::start(&home, &["restore", "--delete"]) else { return };
    assert_eq!(terminal.end(), 2);
}
