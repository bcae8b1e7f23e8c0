//! The words behind warnings: the document and the program say the same, every word is in use, and text and JSON carry them.

use crate::cli::Home;
use serde_json::Value;
use snapkeep::codes::Code;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const HEAD: &str = "\
# Codes

Every warning, every problem with an item and every finding of `snapkeep health` ends with a word in brackets, such as
`[source-unreadable]`; with `--json` it stands under `code`. The words do not change from version to version. Look yours up here.

This page is made from the program's own list (`SNAPKEEP_WRITE_DOCS=1 cargo test --test suite codes::`).
";

fn page() -> String {
    let mut text = HEAD.to_owned();
    for code in Code::ALL {
        text.push_str(&format!(
            "\n## `{code}`\n\n- Cause: {}\n- Consequence: {}\n- Next step: {}\n",
            code.cause(),
            code.consequence(),
            code.next()
        ));
    }
    text
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("readable") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.file_name().is_some_and(|n| n != "codes.rs") {
            out.push(path);
        }
    }
}

#[test]
fn the_document_and_the_program_say_the_same() {
    let path = root().join("docs/codes.md");
    if std::env::var_os("SNAPKEEP_WRITE_DOCS").is_some() {
        std::fs::write(&path, page()).expect("written");
    }
    let document = std::fs::read_to_string(&path).expect("docs/codes.md");
    let headings: BTreeSet<&str> =
        document.lines().filter_map(|l| l.strip_prefix("## `")?.strip_suffix('`')).collect();
    let words: BTreeSet<&str> = Code::ALL.iter().map(|c| c.word()).collect();
    assert_eq!(words.len(), Code::ALL.len(), "a word stands for two things");
    let only =
        |a: &BTreeSet<&str>, b: &BTreeSet<&str>| a.difference(b).copied().collect::<Vec<_>>().join(" ");
    assert_eq!(only(&words, &headings), "", "the document lacks these");
    assert_eq!(only(&headings, &words), "", "the program does not know these");
    assert_eq!(document, page());
}

#[test]
fn every_word_is_kebab_case_and_in_use() {
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    let mut text: String = files.iter().map(|f| std::fs::read_to_string(f).expect("text")).collect();
    // Problems get theirs from what was being done.
    let own = std::fs::read_to_string(root().join("src/codes.rs")).expect("text");
    text.push_str(own.split("pub fn during").nth(1).expect("the function"));
    for code in Code::ALL {
        assert!(code.word().bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{code}");
        let name = format!("Code::{code:?}");
        let used = text.match_indices(&name).any(|(at, _)| {
            let after = text[at + name.len()..].chars().next();
            !after.is_some_and(char::is_alphanumeric)
        });
        assert!(used, "nothing says {code}");
    }
}

#[test]
fn text_ends_with_the_word_and_json_has_it() {
    let home = Home::new();
    home.run(&["init"]);
    let told = home.run(&["backup", "nowhere", "."]);
    let stderr = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(
        stderr.lines().any(|l| l.starts_with("error: ") && l.ends_with(" [source-unreadable]")),
        "{stderr}"
    );
    let told = home.run(&["--json", "backup", "nowhere", "."]);
    let stderr = String::from_utf8_lossy(&told.stderr).into_owned();
    let lines = stderr.lines().map(|l| serde_json::from_str::<Value>(l).expect("JSON"));
    let error = lines.into_iter().find(|v| v["message_type"] == "error").expect("told");
    assert_eq!((&error["code"], &error["during"]), (&Value::from("source-unreadable"), &Value::from("read")));
    assert!(!error["error"]["message"].as_str().expect("text").contains("[source"));
}
