//! The side of the database: rows, as records that can be compared.

use super::canon::{Side, Tag, put};
use super::form::stored;
use super::plan::{Plan, Section};
use super::reduced::{Item, Reduced, Sink, key_hash, key_shown};
use crate::error::{Context, Result};
use crate::progress::Progress;
use crate::sqlite::query::{Reading, Value};

/// Order goes by so many bytes of a text.
const ORDER_MAX: usize = 1024;

/// Hands every row that the plan asks for to `sink`.
pub fn read(
    reading: &Reading,
    plan: &Plan<'_>,
    seed: Option<u64>,
    progress: &Progress,
    sink: &mut dyn Sink,
) -> Result<()> {
    let (mut own, mut fields) = (Reduced::default(), Reduced::default());
    for (number, section) in plan.sections.iter().enumerate() {
        let asked = reading.ask(&section.sql, &[], &mut |_| Ok(()), &mut |row| {
            progress.keep_going()?;
            match section.children {
                None => of_table((number, section), row, seed, (&mut own, &mut fields), sink),
                Some(_) => of_array(plan, (number, section), row, seed, (&mut own, &mut fields), sink),
            }
        });
        asked.context(|| format!("table `{}`", section.name))?;
    }
    Ok(())
}

/// A section and its number.
type Of<'a, 'm> = (usize, &'a Section<'m>);
/// Room for the key of a record and for its fields.
type Room<'a> = (&'a mut Reduced, &'a mut Reduced);

fn of_table(
    (number, section): Of<'_, '_>,
    row: &[Value],
    seed: Option<u64>,
    (own, fields): Room<'_>,
    sink: &mut dyn Sink,
) -> Result<()> {
    own.clear();
    for key in &section.table.key {
        let (field, value) = (&section.fields[*key], row.get(*key).unwrap_or(&Value::Null));
        own.add(|out| stored(&field.form, value, out));
    }
    let key = key_hash(seed, own.all());
    if !sink.wants(number, &key) {
        return Ok(());
    }
    fields.clear();
    for (field, value) in section.fields.iter().zip(row) {
        fields.add(|out| stored(&field.form, value, out));
    }
    for _ in 0..section.arrays() {
        fields.add(|out| put(Tag::Array, &[], out));
    }
    fields.add(|out| put(Tag::NoMore, &[], out));
    let shown = || (key_shown(own.all()), own.all().collect::<Vec<_>>().concat());
    sink.take(Item { section: number, side: Side::Database, key, order: &[], fields, shown: &shown })
}

fn of_array(
    plan: &Plan<'_>,
    (number, section): Of<'_, '_>,
    row: &[Value],
    seed: Option<u64>,
    (own, fields): Room<'_>,
    sink: &mut dyn Sink,
) -> Result<()> {
    let count = section.fields.len();
    let above = &plan.sections[section.parent];
    let keys = &above.table.key;
    own.clear();
    for (at, key) in keys.iter().enumerate() {
        let (field, value) = (&above.fields[*key], row.get(count + at).unwrap_or(&Value::Null));
        own.add(|out| stored(&field.form, value, out));
    }
    let key = key_hash(seed, own.all());
    if !sink.wants(number, &key) {
        return Ok(());
    }
    let mut order = Vec::new();
    let rules = section.children.map(|c| c.order.as_slice()).unwrap_or_default();
    for ((_, downwards), value) in rules.iter().zip(row.iter().skip(count + keys.len())) {
        push_order(value, *downwards, &mut order);
    }
    fields.clear();
    for (field, value) in section.fields.iter().zip(row) {
        fields.add(|out| stored(&field.form, value, out));
    }
    fields.add(|out| put(Tag::NoMore, &[], out));
    let shown = || (key_shown(own.all()), own.all().collect::<Vec<_>>().concat());
    sink.take(Item { section: number, side: Side::Database, key, order: &order, fields, shown: &shown })
}

/// Bytes in the order in which SQLite has the values: NULL, numbers, text, blobs.
fn push_order(value: &Value, downwards: bool, out: &mut Vec<u8>) {
    let start = out.len();
    let mut bytes = |kind: u8, bytes: &[u8]| {
        out.push(kind);
        for byte in bytes.iter().take(ORDER_MAX) {
            // What is shorter comes first: an end stands below every byte.
            out.extend_from_slice(if *byte == 0 { &[0, 1] } else { std::slice::from_ref(byte) });
        }
        out.extend_from_slice(&[0, 0]);
    };
    match value {
        Value::Null => bytes(0, &[]),
        Value::Text(text) => bytes(2, text),
        Value::Blob(blob) => bytes(3, blob),
        Value::Integer(n) => {
            // Rounding keeps the order; among equals what was rounded off decides.
            let near = *n as f64;
            let rest = (i128::from(*n) - near as i128) as i16;
            number(near, rest, out);
        }
        Value::Real(r) => number(*r, 0, out),
    }
    if downwards {
        out[start..].iter_mut().for_each(|byte| *byte = !*byte);
    }
}

fn number(near: f64, rest: i16, out: &mut Vec<u8>) {
    let bits = (near + 0.0).to_bits();
    let ordered = if bits >> 63 == 1 { !bits } else { bits | 1 << 63 };
    out.push(1);
    out.extend_from_slice(&ordered.to_be_bytes());
    out.extend_from_slice(&(rest as u16 ^ 1 << 15).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_those_of_sqlite() {
        let in_order = [
            Value::Null,
            Value::Real(f64::NEG_INFINITY),
            Value::Integer(i64::MIN),
            Value::Integer(-2),
            Value::Real(-1.5),
            Value::Integer(0),
            Value::Real(5e-324),
            Value::Integer(9_007_199_254_740_992),
            Value::Integer(9_007_199_254_740_993),
            Value::Integer(i64::MAX - 1),
            Value::Integer(i64::MAX),
            Value::Real(1e300),
            Value::text(""),
            Value::text("\u{0}"),
            Value::text("\u{0}a"),
            Value::text("a"),
            Value::text("aa"),
            Value::text("b"),
            Value::Blob(vec![]),
            Value::Blob(vec![0]),
            Value::Blob(vec![0, 0]),
            Value::Blob(vec![1]),
        ];
        let bytes = |value: &Value, downwards| {
            let mut out = Vec::new();
            push_order(value, downwards, &mut out);
            out
        };
        for pair in in_order.windows(2) {
            assert!(bytes(&pair[0], false) < bytes(&pair[1], false), "{pair:?}");
            assert!(bytes(&pair[0], true) > bytes(&pair[1], true), "{pair:?}");
        }
    }
}
