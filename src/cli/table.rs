//! Tables of text: aligned, and no wider than the terminal.

use super::names::{shorten, width};
use super::output::Paint;

/// A shrunken column keeps at least this.
const LEAST: usize = 12;
const GAP: &str = "  ";

/// One column.
#[derive(Clone, Copy)]
pub struct Column {
    pub title: &'static str,
    /// Numbers stand on the right.
    pub right: bool,
    /// May be cut when the table is too wide.
    pub shrinks: bool,
}

impl Column {
    pub const fn left(title: &'static str) -> Self {
        Column { title, right: false, shrinks: false }
    }

    pub const fn right(title: &'static str) -> Self {
        Column { title, right: true, shrinks: false }
    }

    pub const fn shrinking(title: &'static str) -> Self {
        Column { title, right: false, shrinks: true }
    }
}

/// Rows of cells; a cell may have several lines.
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Vec<String>>>,
}

impl Table {
    pub fn new(columns: Vec<Column>) -> Self {
        Table { columns, rows: Vec::new() }
    }

    /// Adds a row; a cell's text may not hold anything a terminal obeys.
    pub fn row(&mut self, cells: Vec<Vec<String>>) {
        self.rows.push(cells);
    }

    /// The table's lines, title first, within `room` columns if the shrinking columns allow it.
    pub fn lines(&self, room: usize, colours: bool) -> Vec<String> {
        let widths = self.widths(room);
        let titles: Vec<String> = self.columns.iter().map(|c| c.title.to_owned()).collect();
        let title = self.line(&widths, &titles);
        let total = widths.iter().sum::<usize>() + GAP.len() * widths.len().saturating_sub(1);
        let mut out = vec![if colours { Paint::Bold.on(&title) } else { title }, "-".repeat(total)];
        for row in &self.rows {
            let height = row.iter().map(Vec::len).max().unwrap_or(0).max(1);
            for n in 0..height {
                let cells: Vec<String> =
                    row.iter().map(|lines| lines.get(n).cloned().unwrap_or_default()).collect();
                out.push(self.line(&widths, &cells));
            }
        }
        out
    }

    fn widths(&self, room: usize) -> Vec<usize> {
        let mut widths: Vec<usize> = self.columns.iter().map(|c| width(c.title)).collect();
        for row in &self.rows {
            for (at, cell) in widths.iter_mut().zip(row) {
                *at = cell.iter().map(|line| width(line)).max().unwrap_or(0).max(*at);
            }
        }
        let gaps = GAP.len() * widths.len().saturating_sub(1);
        while widths.iter().sum::<usize>() + gaps > room {
            let shrinking = (0..widths.len()).filter(|i| self.columns[*i].shrinks && widths[*i] > LEAST);
            let Some(widest) = shrinking.max_by_key(|i| widths[*i]) else { break };
            widths[widest] -= 1;
        }
        widths
    }

    fn line(&self, widths: &[usize], cells: &[String]) -> String {
        let mut out = String::new();
        for ((column, room), cell) in self.columns.iter().zip(widths).zip(cells) {
            let text = if column.shrinks { shorten(cell, *room) } else { cell.clone() };
            let padding = " ".repeat(room.saturating_sub(width(&text)));
            if !out.is_empty() || column.right {
                out.push_str(if out.is_empty() { "" } else { GAP });
            }
            if column.right {
                out.push_str(&padding);
                out.push_str(&text);
            } else {
                out.push_str(&text);
                out.push_str(&padding);
            }
        }
        out.truncate(out.trim_end().len());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wide_table_shrinks_its_paths_and_stays_aligned() {
        let mut table =
            Table::new(vec![Column::left("ID"), Column::shrinking("Paths"), Column::right("Size")]);
        let long = format!("/home/{}/end", "x".repeat(200));
        table.row(vec![vec!["0123".into()], vec![long, "/b".into()], vec!["1.0 KiB".into()]]);
        table.row(vec![vec!["4567".into()], vec!["/日本".into()], vec!["12 B".into()]]);
        let lines = table.lines(80, false);
        assert_eq!(lines.len(), 5);
        assert!(lines.iter().all(|line| width(line) <= 80));
        assert_eq!(width(&lines[2]), 80);
        assert_eq!(width(&lines[4]), 80, "the size ends where the others end");
        assert!(lines[2].contains('…') && lines[2].contains("/end"));
        assert_eq!(lines[3], "      /b");
    }
}
