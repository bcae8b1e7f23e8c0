//! What a value means, whichever side it comes from: rules that bring a stored and an exported value to the same bytes,
//! exactly when they say the same.
//!
//! Each side is brought there without a look at the other, so that sides can be compared by hashes. What does not fit its
//! rule is marked with its side: it never equals anything.

use super::canon::{Side, Tag, push_json, push_number, put, wrong};
use crate::clock::Timestamp;
use crate::json::doc::{Doc, Kind, Node};
use crate::sqlite::query::Value;
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use std::collections::BTreeMap;

/// Padding may be left out.
const LOOSE: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LOOSE);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LOOSE);

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum As {
    /// Each kind is itself: NULL and null, numbers of the same value, text and strings.
    Value,
    Integer,
    Real,
    Text,
    Boolean,
    Json,
    Time,
    Hex,
    Base64,
    Base64Url,
}

/// The words for it in a map.
pub const SORTS: [(&str, As); 10] = [
    ("value", As::Value),
    ("integer", As::Integer),
    ("real", As::Real),
    ("text", As::Text),
    ("boolean", As::Boolean),
    ("json", As::Json),
    ("time", As::Time),
    ("hex", As::Hex),
    ("base64", As::Base64),
    ("base64url", As::Base64Url),
];

/// How one side writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writing {
    Usual,
    /// A number or a boolean as text.
    Text,
    /// A boolean as 0 or 1.
    Integer,
    /// So many nanoseconds are one of a number that counts from 1970.
    Epoch(i64),
    /// `2026-11-20T11:30:00Z`, with any offset.
    Rfc3339,
    /// `2026-11-20 11:30:00` in UTC, or a day alone.
    Civil,
}

/// The words for it in a map.
pub const WRITINGS: [(&str, Writing); 9] = [
    ("usual", Writing::Usual),
    ("string", Writing::Text),
    ("integer", Writing::Integer),
    ("epoch_seconds", Writing::Epoch(1_000_000_000)),
    ("epoch_millis", Writing::Epoch(1_000_000)),
    ("epoch_micros", Writing::Epoch(1_000)),
    ("epoch_nanos", Writing::Epoch(1)),
    ("rfc3339", Writing::Rfc3339),
    ("civil", Writing::Civil),
];

/// What NULL is in the export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nulls {
    /// null.
    Null,
    /// A field that is not there.
    Absent,
    Either,
    /// An empty string, which then stands for empty text as well.
    Empty,
}

/// The words for it in a map.
pub const NULLS: [(&str, Nulls); 4] =
    [("null", Nulls::Null), ("absent", Nulls::Absent), ("either", Nulls::Either), ("empty", Nulls::Empty)];

/// Nanoseconds that a time is cut to.
pub const PRECISIONS: [(&str, i64); 4] =
    [("seconds", 1_000_000_000), ("millis", 1_000_000), ("micros", 1_000), ("nanos", 1)];

/// A rule for one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    pub sort: As,
    pub stored: Writing,
    pub exported: Writing,
    pub nulls: Nulls,
    /// Nanoseconds.
    pub precision: i64,
    /// What stored values are called in the export.
    pub values: Option<BTreeMap<String, String>>,
}

impl Form {
    pub fn plain(sort: As) -> Self {
        let (stored, exported) = (Writing::Usual, Writing::Usual);
        Form { sort, stored, exported, nulls: Nulls::Null, precision: 1, values: None }
    }
}

/// A value of an export.
#[derive(Clone, Copy)]
pub enum Seen<'a> {
    Absent,
    Node(&'a Doc<'a>, Node),
    /// The name of a member or of a file: text that stands in no document.
    Name(&'a [u8]),
}

/// Brings a stored value to its form.
pub fn stored(form: &Form, value: &Value, out: &mut Vec<u8>) {
    let bad = |out: &mut Vec<u8>, what: &str| wrong(Side::Database, &shown(value), what, out);
    if *value == Value::Null {
        return put(Tag::Null, &[], out);
    }
    if let Some(values) = &form.values {
        let name = match value {
            Value::Integer(n) => values.get(&n.to_string()),
            Value::Text(text) => std::str::from_utf8(text).ok().and_then(|text| values.get(text)),
            _ => None,
        };
        return match name {
            Some(name) => put(Tag::Text, name.as_bytes(), out),
            None => bad(out, "is not among `values`"),
        };
    }
    match (form.sort, value) {
        (As::Value | As::Integer, Value::Integer(n)) if form.stored == Writing::Usual => integer(*n, out),
        (As::Value, Value::Real(r)) => number(*r, out),
        (As::Value | As::Text, Value::Text(text)) => text_or_null(form, text, out),
        (As::Integer, Value::Text(text)) if form.stored == Writing::Text => match whole(text) {
            Some(n) => integer(n, out),
            None => bad(out, "is no integer"),
        },
        (As::Real, Value::Real(r)) if form.stored == Writing::Usual => real(*r, out),
        (As::Real, Value::Integer(n))
            if form.stored == Writing::Usual && (*n as f64) as i128 == i128::from(*n) =>
        {
            real(*n as f64, out);
        }
        (As::Real, Value::Text(text)) if form.stored == Writing::Text => match decimal(text) {
            Some(r) => real(r, out),
            None => bad(out, "is no number"),
        },
        (As::Boolean, _) => match truth_stored(form, value) {
            Some(truth) => put(Tag::of_bool(truth), &[], out),
            None => bad(out, "is no boolean"),
        },
        (As::Json, Value::Text(text)) => match Doc::parse(text) {
            // A stored NULL and the text `null` are both null in the export.
            Ok(doc) if doc.kind(doc.root()) == Kind::Null => put(Tag::Null, &[], out),
            Ok(doc) if doc.duplicate.is_none() => push_json(&doc, doc.root(), out),
            _ => bad(out, "is no sound JSON"),
        },
        (As::Time, _) => match time_stored(form, value) {
            Some(nanos) => time(form, nanos, out),
            None => bad(out, "is no such time"),
        },
        (As::Hex | As::Base64 | As::Base64Url, Value::Blob(bytes)) => put(Tag::Bytes, bytes, out),
        (sort, _) => bad(out, not_a(sort)),
    }
}

/// Brings an exported value to its form.
pub fn exported(form: &Form, seen: Seen<'_>, out: &mut Vec<u8>) {
    let (doc, node) = match seen {
        Seen::Absent => {
            let tag =
                if matches!(form.nulls, Nulls::Absent | Nulls::Either) { Tag::Null } else { Tag::Absent };
            return put(tag, &[], out);
        }
        Seen::Name(name) => {
            return text_of_export(form, name, &|| String::from_utf8_lossy(name).into_owned(), out);
        }
        Seen::Node(doc, node) => (doc, node),
    };
    let raw = || String::from_utf8_lossy(&doc.compact(node)).into_owned();
    let bad = |out: &mut Vec<u8>, what: &str| wrong(Side::Export, &raw(), what, out);
    let is_usual = form.exported == Writing::Usual && form.values.is_none();
    match (form.sort, doc.kind(node)) {
        (_, Kind::Null) if form.sort != As::Json || form.nulls != Nulls::Null => match form.nulls {
            Nulls::Null | Nulls::Either => put(Tag::Null, &[], out),
            Nulls::Absent => bad(out, "should be absent"),
            Nulls::Empty => bad(out, "should be an empty string"),
        },
        (As::Json, Kind::Null) => put(Tag::Null, &[], out),
        (As::Json, _) => push_json(doc, node, out),
        (_, Kind::Text) => text_of_export(form, &doc.string(node), &raw, out),
        (As::Boolean, kind @ (Kind::True | Kind::False)) if is_usual => {
            put(Tag::of_bool(kind == Kind::True), &[], out);
        }
        (As::Boolean, Kind::Number) if form.exported == Writing::Integer => match doc.raw(node) {
            b"0" => put(Tag::False, &[], out),
            b"1" => put(Tag::True, &[], out),
            _ => bad(out, "is no boolean"),
        },
        (As::Value, kind @ (Kind::True | Kind::False)) if is_usual => {
            put(Tag::of_bool(kind == Kind::True), &[], out);
        }
        (As::Value, Kind::Number) if is_usual => push_number(doc.raw(node), out),
        (As::Integer, Kind::Number) if is_usual => match whole(doc.raw(node)) {
            Some(n) => integer(n, out),
            None => bad(out, "is no integer of 64 bits"),
        },
        (As::Real, Kind::Number) if is_usual => match decimal(doc.raw(node)) {
            Some(r) => real(r, out),
            None => bad(out, "is no number"),
        },
        (As::Time, Kind::Number) => match form.exported {
            Writing::Epoch(unit) => match epoch(doc.raw(node), unit) {
                Some(nanos) => time(form, nanos, out),
                None => bad(out, "is no such time"),
            },
            _ => bad(out, "is no such time"),
        },
        (sort, _) => bad(out, not_a(sort)),
    }
}

/// A string of the export.
fn text_of_export(form: &Form, text: &[u8], raw: &dyn Fn() -> String, out: &mut Vec<u8>) {
    let bad = |out: &mut Vec<u8>, what: &str| wrong(Side::Export, &raw(), what, out);
    if text.is_empty() && form.nulls == Nulls::Empty {
        return put(Tag::Null, &[], out);
    }
    if form.values.is_some() {
        return put(Tag::Text, text, out);
    }
    let bytes = |decoded: Option<Vec<u8>>, what: &str, out: &mut Vec<u8>| match decoded {
        Some(bytes) => put(Tag::Bytes, &bytes, out),
        None => bad(out, what),
    };
    match form.sort {
        As::Value | As::Text => put(Tag::Text, text, out),
        As::Integer if form.exported == Writing::Text => match whole(text) {
            Some(n) => integer(n, out),
            None => bad(out, "is no integer"),
        },
        As::Real if form.exported == Writing::Text => match decimal(text) {
            Some(r) => real(r, out),
            None => bad(out, "is no number"),
        },
        As::Boolean if form.exported == Writing::Text => match truth(text) {
            Some(truth) => put(Tag::of_bool(truth), &[], out),
            None => bad(out, "is no boolean"),
        },
        As::Time => match time_of(form.exported, text) {
            Some(nanos) => time(form, nanos, out),
            None => bad(out, "is no such time"),
        },
        As::Hex => bytes(unhex(text), "is not in hex", out),
        As::Base64 => bytes(STANDARD.decode(text).ok(), "is not in base64", out),
        As::Base64Url => bytes(URL_SAFE.decode(text).ok(), "is not in base64url", out),
        sort => bad(out, not_a(sort)),
    }
}

fn not_a(sort: As) -> &'static str {
    match sort {
        As::Value => "has nothing like it on the other side; say what it is with `as`",
        As::Integer => "is no integer",
        As::Real => "is no number",
        As::Text => "is no text",
        As::Boolean => "is no boolean",
        As::Json => "is no text",
        As::Time => "is no such time",
        As::Hex | As::Base64 | As::Base64Url => "is no such blob",
    }
}

fn text_or_null(form: &Form, text: &[u8], out: &mut Vec<u8>) {
    if text.is_empty() && form.nulls == Nulls::Empty {
        return put(Tag::Null, &[], out);
    }
    put(Tag::Text, text, out);
}

fn integer(n: i64, out: &mut Vec<u8>) {
    // Signs turned: the order of the bytes is the order of the numbers.
    put(Tag::Integer, &(n as u64 ^ 1 << 63).to_be_bytes(), out);
}

fn real(r: f64, out: &mut Vec<u8>) {
    put(Tag::Real, &r.to_bits().to_be_bytes(), out);
}

/// A real number as the integer that it is, where nobody can tell the two apart in JSON.
pub fn number(r: f64, out: &mut Vec<u8>) {
    let is_whole =
        r.fract() == 0.0 && r.abs() <= 9_007_199_254_740_992.0 && !(r == 0.0 && r.is_sign_negative());
    if is_whole { integer(r as i64, out) } else { real(r, out) }
}

fn time(form: &Form, nanos: i128, out: &mut Vec<u8>) {
    let cut = nanos.div_euclid(i128::from(form.precision)) * i128::from(form.precision);
    put(Tag::Time, &(cut as u128 ^ 1 << 127).to_be_bytes(), out);
}

/// An integer written as integers are, no fraction and no exponent.
pub fn whole(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| plain)?.parse().ok()
}

/// The nearest number of 64 bits; words such as `inf` are none.
pub fn decimal(text: &[u8]) -> Option<f64> {
    let plain = text.iter().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'+' | b'.' | b'e' | b'E'));
    std::str::from_utf8(text).ok().filter(|_| plain)?.parse().ok()
}

fn truth(text: &[u8]) -> Option<bool> {
    match text {
        b"true" => Some(true),
        b"false" => Some(false),
        _ => None,
    }
}

fn truth_stored(form: &Form, value: &Value) -> Option<bool> {
    match (form.stored, value) {
        (Writing::Text, Value::Text(text)) => truth(text),
        (Writing::Usual | Writing::Integer, Value::Integer(n @ (0 | 1))) => Some(*n == 1),
        _ => None,
    }
}

fn time_stored(form: &Form, value: &Value) -> Option<i128> {
    match (form.stored, value) {
        (Writing::Epoch(unit), Value::Integer(n)) => Some(i128::from(*n) * i128::from(unit)),
        (Writing::Epoch(unit), Value::Real(r)) if r.is_finite() => epoch(format!("{r}").as_bytes(), unit),
        (writing, Value::Text(text)) => time_of(writing, text),
        _ => None,
    }
}

fn time_of(writing: Writing, text: &[u8]) -> Option<i128> {
    let time = match writing {
        Writing::Epoch(unit) => return epoch(text, unit),
        Writing::Rfc3339 => Timestamp::parse_rfc3339(std::str::from_utf8(text).ok()?)?,
        Writing::Civil => Timestamp::parse_civil(std::str::from_utf8(text).ok()?)?,
        _ => return None,
    };
    Some(i128::from(time.secs) * 1_000_000_000 + i128::from(time.nanos))
}

/// Nanoseconds in a plain decimal number of units; `None` where digits would be lost.
fn epoch(text: &[u8], unit: i64) -> Option<i128> {
    let text = std::str::from_utf8(text).ok()?;
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let places = unit.ilog10() as usize;
    let fraction = fraction.trim_end_matches('0');
    let plain = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || whole.len() > 20 || fraction.len() > places || !plain(whole) || !plain(fraction) {
        return None;
    }
    let whole: i128 = whole.parse().ok()?;
    let part: i128 = format!("{fraction:0<places$}").parse().unwrap_or(0);
    Some(sign * (whole * i128::from(unit) + part))
}

pub fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |b: u8| char::from(b).to_digit(16);
    let (pairs, rest) = text.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[a, b]| Some((digit(*a)? << 4 | digit(*b)?) as u8)).collect()
}

/// A stored value for people.
pub fn shown(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Integer(n) => n.to_string(),
        Value::Real(r) => format!("{r:?}"),
        Value::Text(text) => super::canon::quoted(text),
        Value::Blob(bytes) => super::canon::blob(bytes),
    }
}
