//! The bytes that a value is brought to: a tag, then what it says. Equal bytes, equal values.

use crate::json::doc::{Doc, Kind, Node};
use crate::sqlite::query::Value;

/// What people are shown of one value.
const SHOWN_MAX: usize = 200;

/// What kind of value follows. The numbers order keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Tag {
    /// The field is not there.
    Absent = 1,
    Null,
    False,
    True,
    Integer,
    Real,
    Time,
    Text,
    Bytes,
    Json,
    /// An array whose elements are compared by themselves.
    Array,
    /// No field that nobody asked for; or all of them.
    NoMore,
    More,
    WrongInDatabase,
    WrongInExport,
}

const TAGS: [Tag; 15] = [
    Tag::Absent,
    Tag::Null,
    Tag::False,
    Tag::True,
    Tag::Integer,
    Tag::Real,
    Tag::Time,
    Tag::Text,
    Tag::Bytes,
    Tag::Json,
    Tag::Array,
    Tag::NoMore,
    Tag::More,
    Tag::WrongInDatabase,
    Tag::WrongInExport,
];

impl Tag {
    pub fn of_bool(truth: bool) -> Self {
        if truth { Tag::True } else { Tag::False }
    }

    /// The tag that some bytes begin with.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        TAGS.into_iter().find(|tag| bytes.first() == Some(&(*tag as u8)))
    }
}

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Database,
    Export,
}

pub fn put(tag: Tag, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(tag as u8);
    out.extend_from_slice(bytes);
}

/// A value that does not fit its rule, and why.
pub fn wrong(side: Side, value: &str, what: &str, out: &mut Vec<u8>) {
    let tag = if side == Side::Database { Tag::WrongInDatabase } else { Tag::WrongInExport };
    let value: String = value.chars().take(SHOWN_MAX).collect();
    put(tag, format!("{value} ({what})").as_bytes(), out);
}

/// A number of JSON: an integer, or the nearest real, which is an integer where nobody can tell.
pub fn push_number(raw: &[u8], out: &mut Vec<u8>) {
    match (super::form::whole(raw).filter(|_| raw != b"-0"), super::form::decimal(raw)) {
        (Some(n), _) => {
            super::form::stored(&super::form::Form::plain(super::form::As::Integer), &Value::Integer(n), out)
        }
        (None, Some(r)) => super::form::number(r, out),
        (None, None) => wrong(Side::Export, &String::from_utf8_lossy(raw), "is no number", out),
    }
}

/// A JSON value: members in the order of their keys, strings by what they say, numbers by their exact value.
pub fn push_json(doc: &Doc<'_>, node: Node, out: &mut Vec<u8>) {
    out.push(Tag::Json as u8);
    json(doc, node, out);
}

/// No deeper than `json::DEPTH_MAX`, which the parser holds.
fn json(doc: &Doc<'_>, node: Node, out: &mut Vec<u8>) {
    match doc.kind(node) {
        Kind::Null => out.extend_from_slice(b"null"),
        Kind::True => out.extend_from_slice(b"true"),
        Kind::False => out.extend_from_slice(b"false"),
        Kind::Number => exact(doc.raw(node), out),
        Kind::Text => string(&doc.string(node), out),
        Kind::Array => {
            out.push(b'[');
            for (n, item) in doc.items(node).enumerate() {
                out.extend_from_slice(if n > 0 { b"," } else { b"" });
                json(doc, item, out);
            }
            out.push(b']');
        }
        Kind::Object => {
            let mut members = doc.members(node);
            members.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            out.push(b'{');
            for (n, (key, value)) in members.into_iter().enumerate() {
                out.extend_from_slice(if n > 0 { b"," } else { b"" });
                string(&key, out);
                out.push(b':');
                json(doc, value, out);
            }
            out.push(b'}');
        }
    }
}

fn string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            0..=0x1f => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(*byte),
        }
    }
    out.push(b'"');
}

/// The digits that count, without a point, and the power of ten they are to be taken by.
fn exact(raw: &[u8], out: &mut Vec<u8>) {
    let text = String::from_utf8_lossy(raw);
    let (mantissa, power) = text.split_once(['e', 'E']).unwrap_or((&text, "0"));
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    let plain = digits.trim_end_matches('0');
    if plain.is_empty() {
        return out.extend_from_slice(format!("{sign}0").as_bytes());
    }
    // A power that no 64 bits hold is beyond all use; such numbers are compared as they are written.
    let Ok(power) = power.parse::<i64>() else { return out.extend_from_slice(raw) };
    let power =
        power.saturating_sub(fraction.len() as i64).saturating_add((digits.len() - plain.len()) as i64);
    let written = match power {
        0..=20 => format!("{sign}{plain}{}", "0".repeat(power as usize)),
        _ if power < 0 && plain.len() as i64 > -power => {
            let (whole, fraction) = plain.split_at((plain.len() as i64 + power) as usize);
            format!("{sign}{whole}.{fraction}")
        }
        _ => format!("{sign}{plain}e{power}"),
    };
    out.extend_from_slice(written.as_bytes());
}

/// Text in quotes, cut to what people read.
pub fn quoted(text: &[u8]) -> String {
    let mut out = Vec::new();
    string(text, &mut out);
    cut(&String::from_utf8_lossy(&out))
}

/// A blob as SQL writes it, cut to what people read.
pub fn blob(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().take(SHOWN_MAX / 2).map(|b| format!("{b:02x}")).collect();
    match bytes.len() > SHOWN_MAX / 2 {
        true => format!("x'{digits}… ({} bytes)", bytes.len()),
        false => format!("x'{digits}'"),
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((at, _)) => format!("{}… ({} bytes)", &text[..at], text.len()),
        None => text.to_owned(),
    }
}

/// What bytes say, for people.
pub fn shown(bytes: &[u8]) -> String {
    let Some((tag, rest)) = Tag::of(bytes).zip(bytes.get(1..)) else { return "nothing".to_owned() };
    let eight = || rest.first_chunk::<8>().map_or(0, |b| u64::from_be_bytes(*b));
    match tag {
        Tag::Absent => "nothing".to_owned(),
        Tag::Null => "null".to_owned(),
        Tag::False => "false".to_owned(),
        Tag::True => "true".to_owned(),
        Tag::Integer => ((eight() ^ 1 << 63) as i64).to_string(),
        Tag::Real => format!("{:?}", f64::from_bits(eight())),
        Tag::Time => time(rest),
        Tag::Text => quoted(rest),
        Tag::Bytes => blob(rest),
        Tag::Array => "an array".to_owned(),
        Tag::NoMore => "nothing more".to_owned(),
        Tag::Json | Tag::More | Tag::WrongInDatabase | Tag::WrongInExport => {
            cut(&String::from_utf8_lossy(rest))
        }
    }
}

fn time(rest: &[u8]) -> String {
    let nanos = rest.first_chunk::<16>().map_or(0, |b| (u128::from_be_bytes(*b) ^ 1 << 127) as i128);
    let secs = i64::try_from(nanos.div_euclid(1_000_000_000)).unwrap_or(i64::MAX);
    crate::clock::Timestamp { secs, nanos: nanos.rem_euclid(1_000_000_000) as u32 }.rfc3339()
}

/// Where two JSON values, both as `push_json` writes them, first cease to be the same.
pub fn first_difference(a: &[u8], b: &[u8]) -> Option<String> {
    let json = |bytes: &[u8]| Tag::of(bytes) == Some(Tag::Json);
    if !json(a) || !json(b) {
        return None;
    }
    let (x, y) = (Doc::parse(&a[1..]).ok()?, Doc::parse(&b[1..]).ok()?);
    let (mut path, mut m, mut n) = (String::new(), x.root(), y.root());
    loop {
        let next = match (x.kind(m), y.kind(n)) {
            (Kind::Array, Kind::Array) => {
                let mut pairs = x.items(m).zip(y.items(n)).enumerate();
                let found = pairs.find(|(_, (p, q))| !x.same(*p, &y, *q));
                found.map(|(at, pair)| (at.to_string().into_bytes(), pair))
            }
            (Kind::Object, Kind::Object) => {
                let mut pairs = x.members(m).into_iter().filter_map(|(key, p)| {
                    let q = y.member(n, &key)?;
                    Some((key.into_owned(), (p, q)))
                });
                pairs.find(|(_, (p, q))| !x.same(*p, &y, *q))
            }
            _ => None,
        };
        let Some((part, (p, q))) = next else { return Some(path).filter(|path| !path.is_empty()) };
        crate::json::pointer::push(&mut path, &part);
        (m, n) = (p, q);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_json_are_exact_and_of_one_form() {
        let form = |text: &str| {
            let mut out = Vec::new();
            exact(text.as_bytes(), &mut out);
            String::from_utf8(out).expect("text")
        };
        for (text, exact) in [
            ("0", "0"),
            ("-0.00e5", "-0"),
            ("1", "1"),
            ("1.0", "1"),
            ("10e-1", "1"),
            ("1e2", "100"),
            ("1.250", "1.25"),
            ("125E-2", "1.25"),
            ("0.001", "1e-3"),
            ("12345678901234567890", "12345678901234567890"),
            ("1e400", "1e400"),
            ("1e99999999999999999999", "1e99999999999999999999"),
        ] {
            assert_eq!(form(text), exact, "{text}");
        }
    }

    #[test]
    fn a_difference_inside_of_json_is_found() {
        let canon = |text: &str| {
            let (doc, mut out) = (Doc::parse(text.as_bytes()).expect("sound"), Vec::new());
            push_json(&doc, 0, &mut out);
            out
        };
        let at = |a: &str, b: &str| first_difference(&canon(a), &canon(b));
        assert_eq!(at("{\"a\":[1,{\"b\":2}]}", "{\"a\":[1,{\"b\":3}]}"), Some("/a/1/b".to_owned()));
        assert_eq!(at("{\"a\":[1]}", "{\"a\":[1,2]}"), Some("/a".to_owned()));
        assert_eq!(at("1", "2"), None);
    }
}
