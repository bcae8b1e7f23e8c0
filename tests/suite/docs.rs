//! The pages in `docs/`: every block of shell is run, in order, in an empty home.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn pages() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let entries = fs::read_dir(dir).expect("docs").map(|entry| entry.expect("an entry").path());
    let mut pages: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|e| e == "md")).collect();
    pages.sort();
    pages
}

/// The shell of a page.
fn script(text: &str) -> String {
    let (mut script, mut is_shell) = (String::new(), false);
    for line in text.lines() {
        match line {
            "```sh" => is_shell = true,
            "```" => is_shell = false,
            _ if is_shell => script.extend([line, "\n"]),
            _ => {}
        }
    }
    script
}

#[test]
fn every_block_of_shell_runs() {
    let mut run = 0;
    for page in pages() {
        let script = script(&fs::read_to_string(&page).expect("text"));
        if script.is_empty() {
            continue;
        }
        let home = tempfile::tempdir().expect("a home");
        let programs = home.path().join(".programs");
        fs::create_dir(&programs).expect("made");
        symlink(env!("CARGO_BIN_EXE_snapkeep"), programs.join("snapkeep")).expect("linked");
        let inherited = std::env::var("PATH").unwrap_or_default();
        let output = Command::new("sh")
            .args(["-eu", "-c", &script])
            .current_dir(home.path())
            .env_clear()
            .env("PATH", format!("{}:{inherited}", programs.display()))
            .env("HOME", home.path())
            .env("TZ", "UTC")
            .env("SNAPKEEP_INSECURE_FAST_KDF", "1")
            .stdin(Stdio::null())
            .output()
            .expect("a shell");
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let shown = page.display();
        assert!(output.status.success(), "{shown}: {}\n{}", said(&output.stdout), said(&output.stderr));
        run += 1;
    }
    assert!(run >= 4, "only {run} pages have shell to run");
}

/// What a page links to is there.
#[test]
fn links_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for page in pages().into_iter().chain([root.join("README.md")]) {
        let text = fs::read_to_string(&page).expect("text");
        let above = page.parent().expect("a directory");
        for part in text.split("](").skip(1) {
            let target = part.split([')', '#']).next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") {
                assert!(above.join(target).exists(), "{} links to {target}", page.display());
            }
        }
    }
}
