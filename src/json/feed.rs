//! A JSON text as it comes in: byte by byte where it matters, whole values by their outline.

use super::records::{Fill, Halt, Outcome};
use super::scan::plain_end;
use super::{Fault, Sort};

/// Bytes asked for at a time.
const PIECE: usize = 256 << 10;

/// The text as it comes in.
pub struct Text<'a> {
    fill: &'a mut Fill<'a>,
    piece: Vec<u8>,
    pub at: usize,
    end: usize,
    /// Bytes before the piece.
    before: u64,
    /// How far in the piece lines are counted; the line there, from 1, and where it began.
    counted: usize,
    line: u64,
    line_start: u64,
}

impl<'a> Text<'a> {
    pub fn new(fill: &'a mut Fill<'a>) -> Self {
        Text { fill, piece: vec![0; PIECE], at: 0, end: 0, before: 0, counted: 0, line: 1, line_start: 0 }
    }

    pub fn peek(&mut self) -> Outcome<Option<u8>> {
        if self.at == self.end {
            self.count();
            self.counted = 0;
            self.before += self.end as u64;
            self.at = 0;
            self.end = 0;
            self.end = (self.fill)(&mut self.piece)?.min(PIECE);
        }
        Ok(self.piece[..self.end].get(self.at).copied())
    }

    /// The next byte that is no white space; it is not passed.
    pub fn solid(&mut self) -> Outcome<Option<u8>> {
        loop {
            match self.peek()? {
                Some(b' ' | b'\t' | b'\r' | b'\n') => self.at += 1,
                other => return Ok(other),
            }
        }
    }

    /// Line and column of the next byte, from 1.
    pub fn place(&mut self) -> (u64, u64) {
        self.count();
        (self.line, self.before + self.at as u64 - self.line_start + 1)
    }

    /// Lines up to the next byte, each byte once: texts of one long line ask often.
    fn count(&mut self) {
        let done = &self.piece[self.counted..self.at];
        self.line += done.iter().filter(|b| **b == b'\n').count() as u64;
        if let Some(last) = done.iter().rposition(|b| *b == b'\n') {
            self.line_start = self.before + (self.counted + last) as u64 + 1;
        }
        self.counted = self.at;
    }

    pub fn fault(&mut self, what: &'static str) -> Halt {
        let (line, column) = self.place();
        Halt::Fault(Fault { line, column, sort: Sort::Syntax, what })
    }

    /// The bytes of one value, by its outline alone: who gets them must look whether they are one.
    pub fn value(&mut self, take: &mut dyn FnMut(&[u8]) -> Outcome<()>) -> Outcome<()> {
        match self.solid()? {
            None => return Err(self.fault("it ends before it is complete")),
            Some(b'"' | b'{' | b'[') => {}
            Some(_) => return self.word(take),
        }
        let (mut depth, mut in_string, mut escaped) = (0u64, false, false);
        while self.peek()?.is_some() {
            let piece = &self.piece[self.at..self.end];
            let mut i = 0;
            while let Some(&byte) = piece.get(i) {
                if !in_string {
                    match byte {
                        b'"' => in_string = true,
                        b'{' | b'[' => depth += 1,
                        b'}' | b']' => depth = depth.saturating_sub(1),
                        _ => {}
                    }
                    i += 1;
                } else if escaped {
                    escaped = false;
                    i += 1;
                } else {
                    i = plain_end(piece, i);
                    match piece.get(i) {
                        Some(b'"') => in_string = false,
                        Some(b'\\') => escaped = true,
                        Some(_) => {}
                        None => break,
                    }
                    i += 1;
                }
                if depth == 0 && !in_string {
                    take(&piece[..i])?;
                    self.at += i;
                    return Ok(());
                }
            }
            take(piece)?;
            self.at = self.end;
        }
        let what = if in_string { "it ends within a string" } else { "it ends before it is complete" };
        Err(self.fault(what))
    }

    /// A number, `true`, `false`, `null`, or what stands where one should.
    fn word(&mut self, take: &mut dyn FnMut(&[u8]) -> Outcome<()>) -> Outcome<()> {
        let ends = |b: &u8| {
            matches!(b, b',' | b']' | b'}' | b':' | b'"' | b'[' | b'{' | b' ' | b'\t' | b'\r' | b'\n')
        };
        let mut is_first = true;
        while let Some(first) = self.peek()? {
            let piece = &self.piece[self.at..self.end];
            let len = piece.iter().position(ends).unwrap_or(piece.len());
            if len == 0 && is_first {
                return Err(self.fault(if first == b',' || first == b']' || first == b'}' {
                    "a value is missing here"
                } else {
                    "a comma or the closing bracket is missing here"
                }));
            }
            is_first = false;
            take(&piece[..len])?;
            self.at += len;
            if self.at < self.end {
                break;
            }
        }
        Ok(())
    }
}
