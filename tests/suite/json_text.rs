//! JSON as bytes, against other people's readers and patchers: the grammar, differences, patches, splices.

use crate::shelf::Random;
use crate::yard::seed;
use serde::de::IgnoredAny;
use serde_json::Value;
use snapkeep::json::differ::{What, edits};
use snapkeep::json::doc::Doc;
use snapkeep::json::patch::Patch;
use snapkeep::json::pointer::Pointer;
use snapkeep::json::splice::{Way, put};
use snapkeep::json::stream::{Validator, check};
use snapkeep::json::{DEPTH_MAX, Form, Sort};

/// How often to try: seconds by day, hours by night.
fn night(day: usize, night: usize) -> usize {
    if std::env::var_os("SNAPKEEP_NIGHT").is_some_and(|v| v == "1") { night } else { day }
}

/// A value of any kind; numbers are such that any reader gives them back.
pub fn value(random: &mut Random, depth: usize) -> Value {
    match random.below(if depth == 0 { 5 } else { 8 }) {
        0 => Value::Null,
        1 => Value::Bool(random.below(2) == 0),
        2 => Value::from(random.below(2000) as i64 - 1000),
        3 => Value::from(random.below(1000) as f64 / 8.0),
        4 => Value::from(word(random)),
        5 | 6 => {
            let object = (0..random.below(6)).map(|_| (word(random), value(random, depth - 1)));
            Value::Object(object.collect())
        }
        _ => array(random, depth),
    }
}

fn array(random: &mut Random, depth: usize) -> Value {
    let len = random.below(7);
    if random.below(2) == 0 {
        return (0..len).map(|_| value(random, depth - 1)).collect();
    }
    let element = |n: usize| serde_json::json!({"id": n * 3 % 17, "state": n % 2, "more": [n]});
    (0..len).map(element).collect()
}

fn word(random: &mut Random) -> String {
    const WORDS: [&str; 12] =
        ["a", "b", "id", "state", "", "a/b", "m~n", "ä", "\u{1f600}", "tab\there", "q\"q", "back\\slash"];
    WORDS[random.below(WORDS.len())].to_owned()
}

/// Something like `value`, with changes here and there.
pub fn changed(random: &mut Random, old: &Value) -> Value {
    if random.below(8) == 0 {
        return value(random, 2);
    }
    match old {
        Value::Object(members) => {
            let mut new = serde_json::Map::new();
            for (key, value) in members {
                if random.below(8) > 0 {
                    new.insert(key.clone(), changed(random, value));
                }
            }
            if random.below(4) == 0 {
                new.insert(word(random), value(random, 1));
            }
            Value::Object(new)
        }
        Value::Array(items) => {
            let mut new: Vec<Value> = Vec::new();
            for item in items {
                if random.below(8) > 0 {
                    let again = random.below(3) > 0;
                    new.push(if again { item.clone() } else { changed(random, item) });
                }
                if random.below(8) == 0 {
                    new.push(value(random, 1));
                }
            }
            if new.len() > 1 && random.below(3) == 0 {
                let (i, j) = (random.below(new.len()), random.below(new.len()));
                new.swap(i, j);
            }
            Value::Array(new)
        }
        other => other.clone(),
    }
}

/// The text of a value, laid out in one of several ways.
pub fn text(random: &mut Random, value: &Value) -> String {
    match random.below(3) {
        0 => value.to_string(),
        1 => serde_json::to_string_pretty(value).expect("JSON"),
        _ => {
            let tabs = serde_json::ser::PrettyFormatter::with_indent(b"\t");
            let mut out = b" \r\n".to_vec();
            let mut to = serde_json::Serializer::with_formatter(&mut out, tabs);
            serde::Serialize::serialize(value, &mut to).expect("JSON");
            String::from_utf8(out).expect("text").replace('\n', "\r\n")
        }
    }
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

/// What another reader says, duplicate keys and depth aside.
fn is_json(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

#[test]
fn the_grammar_is_that_of_another_reader_whatever_the_pieces() {
    let mut random = seed("the_grammar", 51);
    let (mut good, mut bad) = (0, 0);
    let mut validator = Validator::new(Form::Document);
    for _ in 0..night(4_000, 2_000_000) {
        let value = value(&mut random, 3);
        let mut bytes = text(&mut random, &value).into_bytes();
        for _ in 0..random.below(4) {
            const ODD: &[u8] = b"{}[]\",:\\ntf0-+.eEu \n\t/\x00\x1f\x7f\x80\xc3\xe2\xed\xf0\xff9ad";
            let at = random.below(bytes.len() + 1);
            match random.below(3) {
                0 => bytes.insert(at, ODD[random.below(ODD.len())]),
                1 if at < bytes.len() => bytes[at] = ODD[random.below(ODD.len())],
                _ if at < bytes.len() => drop(bytes.remove(at)),
                _ => {}
            }
        }
        let whole = check(&bytes, Form::Document);
        let fine = whole.as_ref().is_none_or(|f| f.sort == Sort::DuplicateKey);
        assert_eq!(fine, is_json(&bytes), "{:?} {whole:?}", String::from_utf8_lossy(&bytes));
        if fine {
            good += 1
        } else {
            bad += 1
        }
        validator.reset(Form::Document);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at((1 + random.below(9)).min(rest.len()));
            validator.feed(piece);
            rest = behind;
        }
        assert_eq!(validator.finish(), whole, "{:?}", String::from_utf8_lossy(&bytes));
        let doc = Doc::parse(&bytes);
        assert_eq!(doc.is_ok(), fine);
        if let Ok(doc) = doc {
            let compact = String::from_utf8(doc.compact(doc.root())).expect("text");
            if let Ok(theirs) = serde_json::from_slice::<Value>(&bytes) {
                assert_eq!(parse(&compact), theirs);
            }
        }
    }
    assert!(good > 100 && bad > 100, "{good} {bad}");
}

#[test]
fn faults_name_their_place_and_cause() {
    let deep = |n: usize| [vec![b'['; n], vec![b']'; n]].concat();
    let cases: Vec<(&[u8], &str)> = vec![
        (b"", "line 1, column 1: it is empty"),
        (b" \n ", "line 2, column 2: it holds no value"),
        (b"{\"a\": 1,\n \"b\": }", "line 2, column 7: a value is missing here"),
        (b"{\"a\": [1, 2", "line 1, column 12: it ends before it is complete"),
        (b"[\"abc", "line 1, column 6: it ends within a string"),
        (
            b"\xef\xbb\xbf{}",
            "line 1, column 1: it begins with a byte order mark, which most JSON readers refuse",
        ),
        (b"[NaN]", "line 1, column 2: NaN and Infinity are not JSON"),
        (b"[1,]", "line 1, column 4: a comma with nothing behind it"),
        (b"{\"a\":1,}", "line 1, column 8: a comma with nothing behind it"),
        (b"// x\n{}", "line 1, column 1: comments are not JSON"),
        (b"[\"a\xff\"]", "line 1, column 4: it is not UTF-8"),
        (b"\xff\xfe{\x00", "line 1, column 1: it is not UTF-8 (UTF-16, by its beginning)"),
        (b"{\"a\":1,\n\"b\":2,\n \"a\":3}", "line 3, column 2: an object has this key twice"),
        (b"{\"a\":1,\"\\u0061\":3}", "line 1, column 8: an object has this key twice"),
        (b"[01]", "line 1, column 3: a number begins with a zero"),
        (b"{} {}", "line 1, column 4: something stands behind the value"),
        (b"\0\0\0", "line 1, column 1: a NUL byte stands here: it is UTF-16, or damaged"),
    ];
    for (text, wanted) in cases {
        let fault = check(text, Form::Document).expect(wanted);
        assert_eq!(fault.to_string(), wanted, "{:?}", String::from_utf8_lossy(text));
    }
    assert_eq!(check(&deep(DEPTH_MAX), Form::Document), None);
    let fault = check(&deep(DEPTH_MAX + 1), Form::Document).expect("too deep");
    assert_eq!(fault.sort, Sort::Limit);
    assert!(Doc::parse(&deep(3_000_000)).is_err());
    let many: String = (0..100).map(|n| format!("\"key{n}\":{n},")).collect();
    let twice = format!("{{{many}\n\"key7\":0}}");
    let fault = check(twice.as_bytes(), Form::Document).expect("a key twice");
    assert_eq!((fault.line, fault.sort), (2, Sort::DuplicateKey));
    assert_eq!(check(format!("[{{{}\"x\":1}},{{\"key7\":0}}]", many).as_bytes(), Form::Document), None);
}

#[test]
fn lines_are_values_of_their_own() {
    assert_eq!(check(b"", Form::Lines), None);
    assert_eq!(check(b"{\"a\":1}\n\n[2]\r\n3\n\"x\"", Form::Lines), None);
    let fault = |text: &[u8]| check(text, Form::Lines).expect("a fault").to_string();
    assert_eq!(fault(b"1\n{\"a\":\n1}"), "line 2, column 6: the line ends before its value does");
    assert_eq!(fault(b"1\n2 3"), "line 2, column 3: something stands behind the value");
    assert_eq!(fault(b"1\n{\"a\""), "line 2, column 5: it ends before it is complete");
}

#[test]
fn a_patch_gives_exactly_the_later_value() {
    let mut random = seed("a_patch", 52);
    let mut operations = 0;
    for _ in 0..night(3_000, 1_000_000) {
        let old = value(&mut random, 4);
        let new = changed(&mut random, &old);
        let (a, b) = (text(&mut random, &old), text(&mut random, &new));
        let (a, b) = (Doc::parse(a.as_bytes()).expect("JSON"), Doc::parse(b.as_bytes()).expect("JSON"));
        let patch = Patch::between(&a, &b);
        let theirs: json_patch::Patch = serde_json::from_str(&patch.json(true)).expect("a patch");
        assert_eq!(
            serde_json::from_str::<Value>(&patch.json(false)).expect("JSON"),
            serde_json::to_value(&theirs).expect("JSON")
        );
        operations += theirs.0.len();
        let mut patched = old.clone();
        json_patch::patch(&mut patched, &theirs).unwrap_or_else(|e| panic!("{e}\n{old}\n{new}\n{theirs}"));
        assert_eq!(patched, new, "{old} by {theirs}");
        let told = edits(&a, &b, usize::MAX);
        assert_eq!((told.list.is_empty(), told.more()), (old == new, 0), "{old} {new}");
        assert_eq!(patch.is_empty(), old == new);
        for edit in &told.list {
            let side = if edit.what == What::Removed { &a } else { &b };
            let node = Pointer::parse(&edit.path).expect("a pointer").find(side);
            assert_eq!(node, edit.new.or(edit.old), "{}", edit.path);
        }
    }
    assert!(operations > 1000);
}

fn story(a: &str, b: &str) -> Vec<String> {
    let (a, b) = (Doc::parse(a.as_bytes()).expect("JSON"), Doc::parse(b.as_bytes()).expect("JSON"));
    let show = |e: snapkeep::json::differ::Edit| {
        let from = e.from.map(|f| format!(" from {f}")).unwrap_or_default();
        format!("{:?} {}{from}", e.what, e.path)
    };
    edits(&a, &b, 100).list.into_iter().map(show).collect()
}

#[test]
fn arrays_are_matched_by_what_their_elements_are() {
    let a = r#"{"agents":[{"agent_id":"x","n":1},{"agent_id":"y","n":2},{"agent_id":"z","n":3}]}"#;
    let b = r#"{"agents":[{"agent_id":"z","n":3},{"agent_id":"x","n":1},{"agent_id":"w","n":0},{"agent_id":"y","n":5}]}"#;
    let told = story(a, b);
    assert_eq!(told, ["Moved /agents/0 from /agents/2", "Added /agents/2", "Changed /agents/3/n"]);
    assert_eq!(story("[1,2,3,4,5]", "[1,2,9,3,4,5]"), ["Added /2"]);
    assert_eq!(story("[1,2,3,4,5]", "[2,3,4,5]"), ["Removed /0"]);
    assert_eq!(story(r#"["a","b","c"]"#, r#"["a","x","c"]"#), ["Changed /1"]);
    // An identity that is not unique is none.
    let a = r#"[{"id":1,"v":1},{"id":1,"v":2}]"#;
    assert_eq!(story(a, r#"[{"id":1,"v":1},{"id":1,"v":3}]"#), ["Changed /1/v"]);
    // Order of keys, white space and escapes say nothing.
    assert_eq!(story(r#"{"a":1,"b":"é"}"#, "{ \"b\" : \"\\u00e9\",\n\"a\":1}"), [""; 0]);
    assert_eq!(story("1.0", "1.00"), ["Changed "]);
    // Halves of surrogate pairs cannot be written in a pointer: what holds them is replaced.
    assert_eq!(story(r#"{"x":{"\ud800":1}}"#, r#"{"x":{"\ud801":1}}"#), ["Changed /x"]);
}

#[test]
fn a_long_array_without_identities_does_not_take_for_ever() {
    let list = |from: usize| -> String {
        let all: Vec<String> = (from..from + 60_000).map(|n| (n % 700).to_string()).collect();
        format!("[{}]", all.join(","))
    };
    let (a, b) = (list(0), list(350));
    let (a, b) = (Doc::parse(a.as_bytes()).expect("JSON"), Doc::parse(b.as_bytes()).expect("JSON"));
    let told = edits(&a, &b, 10);
    assert_eq!(told.list.len(), 10);
    assert!(told.more() > 0);
}

/// All pointers into a value.
fn places(value: &Value, here: &str, all: &mut Vec<String>) {
    all.push(here.to_owned());
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                places(value, &format!("{here}/{}", key.replace('~', "~0").replace('/', "~1")), all);
            }
        }
        Value::Array(items) => {
            for (n, value) in items.iter().enumerate() {
                places(value, &format!("{here}/{n}"), all);
            }
        }
        _ => {}
    }
}

#[test]
fn a_spliced_value_is_the_only_thing_that_changes() {
    let mut random = seed("a_splice", 53);
    let mut ways = [0; 3];
    for _ in 0..night(4_000, 1_000_000) {
        let old = value(&mut random, 4);
        let live = text(&mut random, &old);
        let doc = Doc::parse(live.as_bytes()).expect("JSON");
        let mut all = Vec::new();
        places(&old, "", &mut all);
        let mut at = all[random.below(all.len())].clone();
        if random.below(3) == 0 {
            at = match old.pointer(&at) {
                Some(Value::Array(items)) if random.below(2) == 0 => format!("{at}/{}", items.len()),
                Some(Value::Array(_)) => format!("{at}/-"),
                Some(Value::Object(_)) => format!("{at}/new key"),
                _ => at,
            };
        }
        let piece = value(&mut random, 2);
        let wanted = text(&mut random, &piece);
        let pointer = Pointer::parse(&at).expect("a pointer");
        let spliced = put(&doc, &pointer, wanted.as_bytes()).unwrap_or_else(|e| panic!("{e}: {live} {at}"));
        let after: Value = serde_json::from_slice(&spliced.text).expect("JSON");
        let mut expected = old.clone();
        let wanted = parse(&wanted);
        match (old.pointer(&at), at.rsplit_once('/')) {
            (Some(_), _) => *expected.pointer_mut(&at).expect("there") = wanted,
            (None, Some((above, last))) => match expected.pointer_mut(above).expect("there") {
                Value::Array(items) => items.push(wanted),
                Value::Object(members) => drop(members.insert(last.to_owned(), wanted)),
                _ => unreachable!("nothing to put it into"),
            },
            _ => unreachable!("the whole value is always there"),
        }
        assert_eq!(after, expected, "{live} at {at}");
        ways[spliced.way as usize] += 1;
        if spliced.way == Way::Same {
            assert_eq!(spliced.text, live.as_bytes());
        }
        // Outside the value not a byte differs.
        let span = pointer.find(&doc).map(|node| doc.span(node));
        if let Some(span) = span {
            assert!(spliced.text.starts_with(&live.as_bytes()[..span.start]));
            assert!(spliced.text.ends_with(&live.as_bytes()[span.end..]));
        }
    }
    assert!(ways.iter().all(|n| *n > 50), "{ways:?}");
}

#[test]
fn what_is_put_in_is_laid_out_as_its_neighbours_are() {
    let put = |live: &str, at: &str, value: &str| {
        let doc = Doc::parse(live.as_bytes()).expect("JSON");
        let text = put(&doc, &Pointer::parse(at).expect("a pointer"), value.as_bytes());
        text.map(|s| String::from_utf8(s.text).expect("text")).map_err(|e| e.to_string())
    };
    assert_eq!(put("{\n  \"a\": 1\n}\n", "/b", "2").expect("put"), "{\n  \"a\": 1,\n  \"b\": 2\n}\n");
    assert_eq!(put("{\"a\":1}", "/b", "2").expect("put"), "{\"a\":1,\"b\":2}");
    assert_eq!(put("[1, 2]", "/2", "3").expect("put"), "[1, 2, 3]");
    assert_eq!(put("[1, 2]", "/0", "[ ]").expect("put"), "[[ ], 2]");
    let nested = "{\r\n\t\"a\": {},\r\n\t\"b\" : []\r\n}";
    assert_eq!(
        put(nested, "/a/x", "1").expect("put"),
        "{\r\n\t\"a\": {\r\n\t\t\"x\": 1\r\n\t},\r\n\t\"b\" : []\r\n}"
    );
    assert!(put("{\"a\":1}", "/b/c", "2").expect_err("no").contains("has no `/b`"));
    assert!(put("{\"a\":[1]}", "/a/7", "2").expect_err("no").contains("has 1 elements"));
    assert!(put("{\"a\":1}", "/a/c", "2").expect_err("no").contains("neither"));
    assert!(put("{\"a\":1,\"a\":2}", "/a", "3").expect_err("no").contains("twice"));
    assert!(put("{\"a\":1}", "/a", "nonsense").expect_err("no").contains("not JSON"));
}
