//! Rows of a database on paper: a table for people, CSV or JSON for programs; each as it comes.

use super::failure::Failure;
use super::json::base64;
use super::names::{escape, shorten, width};
use crate::sqlite::query::Value;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Value as Json, json};
use std::io::Write;

/// Rows from which the widths of a table are taken, and at most so many bytes of them.
const HEAD_ROWS: usize = 500;
const HEAD_BYTES: usize = 1 << 20;
/// A shrunken column keeps at least this.
const LEAST: usize = 4;
/// Nobody reads more of one value in a table.
const CELL_MAX: usize = 4096;

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Aligned, cut to so many columns of a terminal.
    Table(usize),
    Csv,
    /// One object a line.
    Json,
}

/// Rows on their way out.
pub struct Sheet<'a> {
    out: &'a mut dyn Write,
    shape: Shape,
    names: Vec<String>,
    /// Rows that wait until the widths are known.
    head: Vec<Vec<Cell>>,
    head_bytes: usize,
    widths: Option<Vec<usize>>,
}

struct Cell {
    text: String,
    right: bool,
}

impl<'a> Sheet<'a> {
    pub fn new(out: &'a mut dyn Write, shape: Shape) -> Self {
        Sheet { out, shape, names: Vec::new(), head: Vec::new(), head_bytes: 0, widths: None }
    }

    fn line(&mut self, text: &str) -> Result<(), Failure> {
        let written = self.out.write_all(text.as_bytes()).and_then(|()| self.out.write_all(b"\n"));
        written.map_err(|e| Failure::output(&e))
    }

    /// The names of the columns, before any row.
    pub fn columns(&mut self, names: &[String]) -> Result<(), Failure> {
        self.names = match self.shape {
            Shape::Json => distinct(names),
            _ => names.to_vec(),
        };
        if self.shape == Shape::Csv {
            let fields: Vec<String> = names.iter().map(|name| csv_text(name)).collect();
            self.line(&fields.join(","))?;
        }
        Ok(())
    }

    pub fn row(&mut self, values: &[Value]) -> Result<(), Failure> {
        match self.shape {
            Shape::Json => {
                let text = serde_json::to_string(&Object { names: &self.names, values }).unwrap_or_default();
                self.line(&text)
            }
            Shape::Csv => {
                let mut line: Vec<u8> = Vec::new();
                for (at, value) in values.iter().enumerate() {
                    line.extend_from_slice(if at > 0 { b"," } else { b"" });
                    csv_field(&mut line, value);
                }
                line.push(b'\n');
                self.out.write_all(&line).map_err(|e| Failure::output(&e))
            }
            Shape::Table(room) => {
                let cells: Vec<Cell> = values.iter().map(cell).collect();
                if self.widths.is_some() {
                    return self.aligned(&cells);
                }
                self.head_bytes += cells.iter().map(|cell| cell.text.len()).sum::<usize>();
                self.head.push(cells);
                if self.head.len() >= HEAD_ROWS || self.head_bytes >= HEAD_BYTES {
                    self.begin(room)?;
                }
                Ok(())
            }
        }
    }

    /// After the last row.
    pub fn end(&mut self) -> Result<(), Failure> {
        if let (Shape::Table(room), None, false) = (self.shape, &self.widths, self.names.is_empty()) {
            self.begin(room)?;
        }
        self.out.flush().map_err(|e| Failure::output(&e))
    }

    fn begin(&mut self, room: usize) -> Result<(), Failure> {
        let titles: Vec<Cell> =
            self.names.iter().map(|name| Cell { text: escape(name.as_bytes()), right: false }).collect();
        let mut widths: Vec<usize> = titles.iter().map(|title| width(&title.text)).collect();
        for row in &self.head {
            for (widest, cell) in widths.iter_mut().zip(row) {
                *widest = width(&cell.text).max(*widest);
            }
        }
        let gaps = 2 * widths.len().saturating_sub(1);
        while widths.iter().sum::<usize>() + gaps > room {
            let widest = (0..widths.len()).filter(|&i| widths[i] > LEAST).max_by_key(|&i| widths[i]);
            let Some(widest) = widest else { break };
            widths[widest] -= 1;
        }
        let rule: Vec<String> = widths.iter().map(|&width| "-".repeat(width)).collect();
        self.widths = Some(widths);
        self.aligned(&titles)?;
        self.line(&rule.join("  "))?;
        for row in std::mem::take(&mut self.head) {
            self.aligned(&row)?;
        }
        Ok(())
    }

    fn aligned(&mut self, cells: &[Cell]) -> Result<(), Failure> {
        let widths = self.widths.clone().unwrap_or_default();
        let mut line = String::new();
        for (at, (cell, room)) in cells.iter().zip(&widths).enumerate() {
            let text = shorten(&cell.text, *room);
            let padding = " ".repeat(room.saturating_sub(width(&text)));
            line.push_str(if at > 0 { "  " } else { "" });
            line.push_str(if cell.right { &padding } else { "" });
            line.push_str(&text);
            line.push_str(if cell.right { "" } else { &padding });
        }
        line.truncate(line.trim_end_matches(' ').len());
        self.line(&line)
    }
}

/// A value as people read it; text that looks like something else stands in quotes.
pub fn shown_value(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Integer(n) => n.to_string(),
        Value::Real(n) => format!("{n:?}"),
        Value::Blob(bytes) => {
            let more = if bytes.len() > CELL_MAX { "…" } else { "" };
            format!("x'{}{more}'", crate::id::hex(&bytes[..bytes.len().min(CELL_MAX)]))
        }
        Value::Text(bytes) => {
            let text = escape(&bytes[..bytes.len().min(CELL_MAX)]);
            let more = if bytes.len() > CELL_MAX { "…" } else { "" };
            match text == "NULL" || text.starts_with("x'") {
                true => format!("'{text}{more}'"),
                false => format!("{text}{more}"),
            }
        }
    }
}

fn cell(value: &Value) -> Cell {
    Cell { text: shown_value(value), right: matches!(value, Value::Integer(_) | Value::Real(_)) }
}

fn csv_text(text: &str) -> String {
    let odd = text.is_empty()
        || text.contains(['"', ',', '\n', '\r'])
        || text.starts_with(' ')
        || text.ends_with(' ');
    if odd { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

/// NULL is an empty field and empty text a quoted one; text keeps its bytes, blobs are hex digits.
fn csv_field(line: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => {}
        Value::Integer(n) => line.extend_from_slice(n.to_string().as_bytes()),
        Value::Real(n) => line.extend_from_slice(format!("{n:?}").as_bytes()),
        Value::Blob(bytes) => line.extend_from_slice(crate::id::hex(bytes).as_bytes()),
        Value::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => line.extend_from_slice(csv_text(text).as_bytes()),
            Err(_) => {
                line.push(b'"');
                for &byte in bytes {
                    line.extend_from_slice(if byte == b'"' { b"\"" } else { b"" });
                    line.push(byte);
                }
                line.push(b'"');
            }
        },
    }
}

/// A value in JSON: what JSON has no word for is an object of one field.
pub fn json_value(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Integer(n) => json!(n),
        Value::Real(n) if n.is_finite() => json!(n),
        Value::Real(n) => json!({ "real": if *n > 0.0 { "Infinity" } else { "-Infinity" } }),
        Value::Blob(bytes) => json!({ "base64": base64(bytes) }),
        Value::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => json!(text),
            Err(_) => json!({ "text_b64": base64(bytes) }),
        },
    }
}

/// A row with the names of its columns.
pub struct Object<'a> {
    pub names: &'a [String],
    pub values: &'a [Value],
}

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.values.len()))?;
        for (name, value) in self.names.iter().zip(self.values) {
            map.serialize_entry(name, &json_value(value))?;
        }
        map.end()
    }
}

/// Names of which no two are the same: `id`, `id:1`.
fn distinct(names: &[String]) -> Vec<String> {
    let mut out: Vec<String> = Vec::with_capacity(names.len());
    for name in names {
        let mut own = name.clone();
        let mut number = 0;
        while out.contains(&own) {
            number += 1;
            own = format!("{name}:{number}");
        }
        out.push(own);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(shape: Shape, names: &[&str], rows: &[Vec<Value>]) -> String {
        let mut out = Vec::new();
        let mut sheet = Sheet::new(&mut out, shape);
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        sheet.columns(&names).expect("written");
        rows.iter().for_each(|row| sheet.row(row).expect("written"));
        sheet.end().expect("written");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn null_differs_from_empty_text_and_from_the_word_in_every_shape() {
        let rows = [
            vec![Value::Null, Value::text("")],
            vec![Value::text("NULL"), Value::Blob(vec![1, 255])],
            vec![Value::text("a,\"b\"\nc"), Value::Real(f64::INFINITY)],
            vec![Value::Integer(i64::MIN), Value::Text(vec![0xff])],
        ];
        assert_eq!(
            written(Shape::Csv, &["a", "b"], &rows[..3]),
            "a,b\n,\"\"\nNULL,01ff\n\"a,\"\"b\"\"\nc\",inf\n"
        );
        assert_eq!(
            written(Shape::Json, &["a", "a"], &rows),
            "{\"a\":null,\"a:1\":\"\"}\n{\"a\":\"NULL\",\"a:1\":{\"base64\":\"Af8=\"}}\n\
             {\"a\":\"a,\\\"b\\\"\\nc\",\"a:1\":{\"real\":\"Infinity\"}}\n\
             {\"a\":-9223372036854775808,\"a:1\":{\"text_b64\":\"/w==\"}}\n"
        );
        let table = written(Shape::Table(80), &["a", "b"], &rows);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 6, "{table}");
        assert_eq!(lines[2], "NULL");
        assert_eq!(lines[3], "'NULL'                x'01ff'");
    }

    #[test]
    fn a_wide_table_is_cut_to_the_terminal() {
        let rows =
            vec![vec![Value::text(&"x".repeat(300)), Value::Integer(7), Value::text(&"日".repeat(300))]; 3];
        let table = written(Shape::Table(80), &["long", "n", "wide"], &rows);
        assert!(table.lines().all(|line| width(line) <= 80), "{table}");
    }
}
