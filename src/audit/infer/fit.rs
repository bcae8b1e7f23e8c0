//! The rule under which pairs of values are equal.

use crate::audit::form::{As, Form, Nulls, Seen, Writing, exported, stored};
use crate::json::doc::Kind;
use crate::sqlite::query::Value;

/// A stored value and what the export has in its place.
pub type Pair<'a> = (&'a Value, Seen<'a>);

/// A rule, and for how many pairs it does not hold.
pub struct Fit {
    pub form: Form,
    pub misses: usize,
    /// Pairs of different values that it holds for.
    pub proofs: usize,
}

/// The simplest rule that holds for most pairs; `None` where none holds for half of them.
pub fn best(pairs: &[Pair<'_>], declared: &str) -> Option<Fit> {
    let nulls = nulls(pairs);
    let filled: Vec<&Pair<'_>> = pairs.iter().filter(|(value, _)| **value != Value::Null).collect();
    if filled.is_empty() {
        let form = Form { nulls, ..Form::plain(usual(declared)) };
        let misses = pairs.iter().filter(|pair| !holds(&form, pair)).count();
        return (misses * 2 <= pairs.len()).then_some(Fit { form, misses, proofs: 0 });
    }
    let mut best: Option<Fit> = None;
    for form in candidates() {
        let form = Form { nulls, ..form };
        let misses = pairs.iter().filter(|pair| !holds(&form, pair)).count();
        if best.as_ref().is_some_and(|best| best.misses <= misses) {
            continue;
        }
        let mut proofs: Vec<Vec<u8>> =
            filled.iter().filter(|p| holds(&form, p)).map(|p| canonical(&form, p.0)).collect();
        proofs.sort();
        proofs.dedup();
        if proofs.is_empty() {
            continue;
        }
        best = Some(Fit { form, misses, proofs: proofs.len() });
    }
    best.filter(|fit| fit.misses * 2 <= pairs.len())
}

fn canonical(form: &Form, value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    stored(form, value, &mut out);
    out
}

fn holds(form: &Form, (value, seen): &Pair<'_>) -> bool {
    let mut out = Vec::new();
    exported(form, *seen, &mut out);
    out == canonical(form, value)
}

fn nulls(pairs: &[Pair<'_>]) -> Nulls {
    let seen = |wanted: fn(&Seen<'_>) -> bool| {
        pairs.iter().any(|(value, seen)| **value == Value::Null && wanted(seen))
    };
    let absent = seen(|seen| matches!(seen, Seen::Absent));
    let null = seen(|seen| matches!(seen, Seen::Node(doc, node) if doc.kind(*node) == Kind::Null));
    let empty = seen(|seen| matches!(seen, Seen::Node(doc, node) if doc.raw(*node) == b"\"\""));
    match (absent, null, empty) {
        (true, true, _) => Nulls::Either,
        (true, false, _) => Nulls::Absent,
        (false, false, true) => Nulls::Empty,
        _ => Nulls::Null,
    }
}

fn usual(declared: &str) -> As {
    let declared = declared.to_ascii_uppercase();
    let has = |words: &[&str]| words.iter().any(|word| declared.contains(word));
    match () {
        () if has(&["INT"]) => As::Integer,
        () if has(&["CHAR", "TEXT", "CLOB"]) => As::Text,
        () if has(&["REAL", "FLOA", "DOUB"]) => As::Real,
        () => As::Value,
    }
}

/// Rules to try, the plainest first.
fn candidates() -> Vec<Form> {
    let plain = [As::Integer, As::Real, As::Text, As::Boolean, As::Json].map(Form::plain);
    let mut all: Vec<Form> = plain.into();
    let written = |sort, stored, exported| Form { stored, exported, ..Form::plain(sort) };
    use Writing::{Civil, Epoch, Integer, Rfc3339, Text, Usual};
    let counts = [Epoch(1_000_000_000), Epoch(1_000_000), Epoch(1_000), Epoch(1)];
    for exported in [Rfc3339, Civil] {
        all.extend(counts.map(|stored| written(As::Time, stored, exported)));
    }
    for stored in [Rfc3339, Civil] {
        all.extend(counts.map(|exported| written(As::Time, stored, exported)));
        all.extend([Rfc3339, Civil].map(|exported| written(As::Time, stored, exported)));
    }
    for (a, b) in [(0, 1), (1, 0)] {
        all.push(written(As::Time, counts[a], counts[b]));
    }
    all.extend([As::Hex, As::Base64, As::Base64Url].map(Form::plain));
    for sort in [As::Integer, As::Real] {
        all.push(written(sort, Usual, Text));
        all.push(written(sort, Text, Usual));
    }
    all.push(written(As::Boolean, Usual, Text));
    all.push(written(As::Boolean, Text, Usual));
    all.push(written(As::Boolean, Text, Integer));
    all.push(Form::plain(As::Value));
    all
}
