//! What is left out of a walk, and whether `explain` gives the same answer.

use crate::source::{Walked, source, temp, walk};
use snapkeep::source::WalkOptions;
use snapkeep::source::filter::{Filter, FilterOptions};
use std::fs;
use std::path::Path;

fn plant(root: &Path, files: &[&str]) {
    for file in files {
        let path = root.join(file);
        fs::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
        fs::write(path, *file).expect("write");
    }
}

/// Walks with these rules; `explain` must agree about every file that was planted.
fn filtered(root: &Path, options: &FilterOptions, planted: &[&str]) -> (Walked, Vec<String>) {
    let source = source(&[root], options, WalkOptions::default());
    let walked = walk(&source);
    let kept = walked.below(root);
    for file in planted {
        let why = source.explain(&root.join(file)).expect("explained");
        assert_eq!(why.included, kept.iter().any(|k| k == file), "{file}: {why}");
    }
    let files = kept.into_iter().filter(|k| root.join(k).is_file()).collect();
    (walked, files)
}

fn patterns(excludes: &[&str]) -> FilterOptions {
    FilterOptions { excludes: excludes.iter().map(ToString::to_string).collect(), ..FilterOptions::default() }
}

#[test]
fn patterns_anchor_negate_and_stop_at_directories() {
    let (_keep, root) = temp();
    let all = ["build/x", "src/build/x", "a.log", "keep.log", "src/b.log", "tmp/x", "src/tmp", "LOUD.TXT"];
    plant(&root, &all);
    let check = |excludes: &[&str], left: &[&str]| {
        let (_, files) = filtered(&root, &patterns(excludes), &all);
        let mut expected: Vec<_> =
            all.iter().filter(|f| !left.contains(f)).map(ToString::to_string).collect();
        expected.sort();
        let mut files = files;
        files.sort();
        assert_eq!(files, expected, "{excludes:?}");
    };
    check(&[], &[]);
    check(&["/build"], &["build/x"]);
    check(&["build"], &["build/x", "src/build/x"]);
    check(&["*.log", "!keep.log"], &["a.log", "src/b.log"]);
    check(&["!keep.log", "*.log"], &["a.log", "keep.log", "src/b.log"]);
    check(&["tmp/"], &["tmp/x"]);
    check(&["src/*.log"], &["src/b.log"]);
    // What stands in a directory that is left out cannot be brought back.
    check(&["src", "!src/b.log"], &["src/build/x", "src/b.log", "src/tmp"]);
    check(&["loud.txt"], &[]);
    let loud = FilterOptions { iexcludes: vec!["loud.txt".into()], ..patterns(&[]) };
    assert!(!filtered(&root, &loud, &all).1.contains(&"LOUD.TXT".to_owned()));
    // A directory left out whole counts once.
    assert_eq!(filtered(&root, &patterns(&["src"]), &all).0.left_out.by_rules, 1);
    // The root was asked for by name.
    let name = root.file_name().expect("a name").to_string_lossy().into_owned();
    check(&[&name], &[]);
}

#[test]
fn a_bad_pattern_is_named_with_its_place() {
    let (_keep, root) = temp();
    let error = |options: &FilterOptions| match Filter::new(options) {
        Ok(_) => panic!("accepted"),
        Err(e) => e.to_string(),
    };
    assert!(error(&patterns(&["ok", "a{b"])).starts_with("--exclude: `a{b` is not a pattern: "));
    assert!(error(&patterns(&["[ab"])).contains("`[ab`"));
    fs::write(root.join("list"), "# a comment\n\nfine\n[z-a]\n").expect("write");
    let from_file = FilterOptions { exclude_files: vec![root.join("list")], ..FilterOptions::default() };
    let text = error(&from_file);
    assert!(text.contains("list:4: `[z-a]`"), "{text}");
    let missing = FilterOptions { exclude_files: vec![root.join("none")], ..FilterOptions::default() };
    assert!(error(&missing).contains("none"));
    let marker = FilterOptions { exclude_if_present: vec!["a/b".into()], ..FilterOptions::default() };
    assert!(error(&marker).contains("a/b"));
}

#[test]
fn exclude_files_and_sizes() {
    let (_keep, root) = temp();
    plant(&root, &["a.o", "b.o", "c"]);
    fs::write(root.join("big"), [0; 1001]).expect("write");
    fs::write(root.join("list"), "\u{feff}*.o\r\n!b.o\nlist\n").expect("write");
    let options = FilterOptions {
        exclude_files: vec![root.join("list")],
        exclude_larger_than: Some(1000),
        ..FilterOptions::default()
    };
    let (walked, files) = filtered(&root, &options, &["a.o", "b.o", "c", "big", "list"]);
    assert_eq!(files, ["b.o", "c"]);
    assert_eq!(walked.left_out.by_rules, 3);
    let source = source(&[&root], &options, WalkOptions::default());
    let why = source.explain(&root.join("big")).expect("explained").rule.expect("a rule");
    assert_eq!((why.text.as_str(), why.origin.as_str()), ("1000 B", "--exclude-larger-than"));
}

#[test]
fn caches_and_marked_directories_keep_only_their_mark() {
    const TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n# more\n";
    let (_keep, root) = temp();
    let all = ["cache/x", "cache/sub/y", "fake/x", "marked/x", "marked/.nobackup", "head/x", "other/x"];
    plant(&root, &all);
    fs::write(root.join("cache/CACHEDIR.TAG"), TAG).expect("write");
    fs::write(root.join("fake/CACHEDIR.TAG"), "Signature: something else, long enough to be one")
        .expect("write");
    fs::write(root.join("head/.mark"), "yes\n").expect("write");
    fs::write(root.join("other/.mark"), "no\n").expect("write");
    let everything = filtered(&root, &FilterOptions::default(), &all);
    assert_eq!(everything.1.len(), 11);
    let options = FilterOptions {
        exclude_caches: true,
        exclude_if_present: vec![".nobackup".into(), ".mark:yes".into()],
        ..FilterOptions::default()
    };
    let (walked, files) = filtered(&root, &options, &all);
    let expected = [
        "cache/CACHEDIR.TAG",
        "fake/CACHEDIR.TAG",
        "fake/x",
        "head/.mark",
        "marked/.nobackup",
        "other/.mark",
        "other/x",
    ];
    assert_eq!(files, expected);
    let kept = walked.below(&root);
    assert!(kept.contains(&"cache".to_owned()) && !kept.contains(&"cache/sub".to_owned()));
    // Named as a source, a cache is wanted.
    let (_, files) = filtered(&root.join("cache"), &options, &["x", "sub/y"]);
    assert_eq!(files, ["CACHEDIR.TAG", "sub/y", "x"]);
}

#[test]
fn ignore_files_hold_from_where_they_stand_downward() {
    let (_keep, root) = temp();
    let all =
        ["a.tmp", "p/a.tmp", "p/q/a.tmp", "p/q/keep.tmp", "p/out/x", "p/q/out/x", "z/out/x", "z/git.only"];
    plant(&root, &all);
    fs::write(root.join(".snapkeepignore"), "*.tmp\n").expect("write");
    fs::write(root.join("p/.snapkeepignore"), "# only here\n/out\n").expect("write");
    fs::write(root.join("p/q/.snapkeepignore"), "!keep.tmp\n").expect("write");
    fs::write(root.join("z/.gitignore"), "git.only\n").expect("write");
    let (_, files) = filtered(&root, &FilterOptions::default(), &all);
    let ours = |f: &String| all.contains(&f.as_str());
    let kept: Vec<_> = files.into_iter().filter(ours).collect();
    assert_eq!(kept, ["p/q/keep.tmp", "p/q/out/x", "z/git.only", "z/out/x"]);
    // Options beat files, and .gitignore counts only when asked for.
    let options = FilterOptions { git_ignore: true, ..patterns(&["keep.tmp", "!/a.tmp"]) };
    let kept: Vec<_> = filtered(&root, &options, &all).1.into_iter().filter(ours).collect();
    assert_eq!(kept, ["a.tmp", "p/q/out/x", "z/out/x"]);

    let source = source(&[&root], &FilterOptions::default(), WalkOptions::default());
    let why = source.explain(&root.join("p/out/x")).expect("explained");
    assert_eq!(why.path, root.join("p/out"));
    let rule = why.rule.expect("a rule");
    assert_eq!(rule.text, "/out");
    assert_eq!(rule.origin, format!("{}:2", root.join("p/.snapkeepignore").display()));
    assert_eq!(source.explain(&root.join("z/new")).expect("explained").rule, None);
    assert!(!source.explain(Path::new("/elsewhere")).expect("explained").included);
}

#[test]
fn a_broken_line_in_an_ignore_file_is_a_problem_and_costs_only_itself() {
    let (_keep, root) = temp();
    plant(&root, &["d/a", "d/b"]);
    fs::write(root.join("d/.snapkeepignore"), b"a\n[z-a]\n\xff\n").expect("write");
    let (walked, files) = filtered(&root, &FilterOptions::default(), &["d/a", "d/b"]);
    assert_eq!(files, ["d/.snapkeepignore", "d/b"]);
    let lines: Vec<_> = walked.problems.iter().map(|p| p.message.as_str()).collect();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].contains("d/.snapkeepignore:2: ") && lines[1].contains("d/.snapkeepignore:3: "));
}
