//! The order in which SQLite keeps values.

use super::dump::Encoding;
use super::query::Value;
use std::cmp::Ordering;

/// The collations that SQLite brings along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collation {
    Binary,
    NoCase,
    RTrim,
}

/// SQLite's order of values.
pub fn value_order(x: &Value, y: &Value, collation: Collation, encoding: Encoding) -> Ordering {
    let rank = |value: &Value| match value {
        Value::Null => 0,
        Value::Integer(_) | Value::Real(_) => 1,
        Value::Text(_) => 2,
        Value::Blob(_) => 3,
    };
    match (x, y) {
        (Value::Integer(x), Value::Integer(y)) => x.cmp(y),
        (Value::Real(x), Value::Real(y)) => x.partial_cmp(y).unwrap_or(Ordering::Equal),
        (Value::Integer(x), Value::Real(y)) => number_order(*x, *y),
        (Value::Real(x), Value::Integer(y)) => number_order(*y, *x).reverse(),
        (Value::Text(x), Value::Text(y)) => match collation {
            Collation::Binary if encoding == Encoding::Utf8 => x.cmp(y),
            Collation::Binary => encoding.encode(x).cmp(&encoding.encode(y)),
            Collation::NoCase => x.to_ascii_lowercase().cmp(&y.to_ascii_lowercase()),
            Collation::RTrim => trimmed(x).cmp(trimmed(y)),
        },
        (Value::Blob(x), Value::Blob(y)) => x.cmp(y),
        _ => rank(x).cmp(&rank(y)),
    }
}

fn trimmed(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|byte| *byte != b' ').map_or(0, |at| at + 1);
    &text[..end]
}

/// Whole numbers beyond 2^53 against others, without rounding.
fn number_order(x: i64, y: f64) -> Ordering {
    if y >= 9_223_372_036_854_775_808.0 {
        return Ordering::Less;
    }
    if y < -9_223_372_036_854_775_808.0 {
        return Ordering::Greater;
    }
    let whole = y.trunc() as i64;
    x.cmp(&whole).then_with(|| 0.0.partial_cmp(&y.fract()).unwrap_or(Ordering::Equal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_ordered_as_sqlite_orders_them() {
        let db = rusqlite::Connection::open_in_memory().expect("opens");
        let all = [
            Value::Null,
            Value::Integer(i64::MIN),
            Value::Integer(-1),
            Value::Real(-0.5),
            Value::Integer(0),
            Value::Real(0.25),
            Value::Integer(9_007_199_254_740_993),
            Value::Real(9_007_199_254_740_992.0),
            Value::Integer(i64::MAX),
            Value::Real(9.3e18),
            Value::Real(f64::NEG_INFINITY),
            Value::text(""),
            Value::text("a  "),
            Value::text("A"),
            Value::text("b"),
            Value::text("ä"),
            Value::text("\u{ffee}"),
            Value::text("\u{1f600}"),
            Value::Blob(vec![]),
            Value::Blob(vec![0]),
        ];
        for (collation, name) in
            [(Collation::Binary, "BINARY"), (Collation::NoCase, "NOCASE"), (Collation::RTrim, "RTRIM")]
        {
            for x in &all {
                for y in &all {
                    if *x == Value::Null || *y == Value::Null {
                        continue;
                    }
                    let sql = format!("SELECT (?1 > ?2 COLLATE {name}) - (?1 < ?2 COLLATE {name})");
                    let told: i64 = db.query_row(&sql, [x, y], |row| row.get(0)).expect("compared");
                    let ours = value_order(x, y, collation, Encoding::Utf8) as i64;
                    assert_eq!(ours, told, "{x:?} {y:?} {name}");
                }
            }
        }
    }
}
