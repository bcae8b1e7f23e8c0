//! The grammar of JSON, checked while a text goes by in pieces of any size.
//!
//! Bounded whatever the text: a bit and a number for each open level, the keys of open objects as hashes.

use super::scan::{Digits, behind_digits, behind_spaces, hash, plain_end};
use super::utf8::Utf8;
use super::{DEPTH_MAX, Fault, Form, Sort};

/// Keys of open objects that are remembered; where there are more, nobody looks for one that stands twice.
const KEYS_MAX: usize = 1 << 18;
/// Longer keys are not compared with others.
const KEY_BYTES_MAX: usize = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing has come yet: a byte order mark may.
    Start,
    /// A value must come; the flag: or the end of an empty array.
    Value(bool),
    /// A key must come; the flag: or the end of an empty object.
    Key(bool),
    Colon,
    /// Behind a value: a comma, or the end of what holds it.
    After,
    /// Behind the outermost value.
    Done,
    /// In a string; the flag: it is a key.
    Text(bool),
    Escape(bool),
    /// How many hex digits of `\u` are still to come.
    Hex(bool, u8),
    Number(Digits),
    /// In `true`, `false` or `null`; how many bytes have come.
    Word(&'static [u8], u8),
    /// There is a fault; nothing behind it counts.
    Failed,
}

impl State {
    /// White space may come.
    fn is_between(self) -> bool {
        matches!(self, State::Value(_) | State::Key(_) | State::Colon | State::After | State::Done)
    }
}

/// An array or object that is open.
#[derive(Clone, Copy)]
struct Level {
    is_object: bool,
    /// Where its keys begin among `keys`.
    keys: u32,
}

/// Checks one text; may be used again after `reset`.
pub struct Validator {
    form: Form,
    state: State,
    levels: Vec<Level>,
    /// Hashes of the keys of open objects, and where each stands.
    keys: Vec<u64>,
    places: Vec<(u64, u64)>,
    /// The decoded beginning of a key, as far as it came in an earlier piece or behind an escape.
    key: Vec<u8>,
    /// The key is in `key`, not in the piece at hand.
    key_kept: bool,
    /// The unit of `\u` that is being read.
    unit: u16,
    utf8: Utf8,
    /// Bytes before this piece, and where the line began.
    offset: u64,
    line: u64,
    line_start: u64,
    /// Where the string at hand began.
    text_start: (u64, u64),
    fault: Option<Fault>,
    duplicate: Option<Fault>,
}

impl Validator {
    pub fn new(form: Form) -> Self {
        Validator {
            form,
            state: State::Start,
            levels: Vec::new(),
            keys: Vec::new(),
            places: Vec::new(),
            key: Vec::new(),
            key_kept: false,
            unit: 0,
            utf8: Utf8::default(),
            offset: 0,
            line: 1,
            line_start: 0,
            text_start: (1, 1),
            fault: None,
            duplicate: None,
        }
    }

    /// Forgets the text, keeps the memory.
    pub fn reset(&mut self, form: Form) {
        let mut levels = std::mem::take(&mut self.levels);
        let (mut keys, mut places) = (std::mem::take(&mut self.keys), std::mem::take(&mut self.places));
        let mut key = std::mem::take(&mut self.key);
        levels.clear();
        keys.clear();
        places.clear();
        key.clear();
        *self = Validator { levels, keys, places, key, ..Validator::new(form) };
    }

    /// The next piece of the text.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.utf8.begin(bytes);
        let mut at = 0;
        while at < bytes.len() && self.state != State::Failed {
            at = self.step(bytes, at);
        }
        self.offset += bytes.len() as u64;
    }

    /// The text has ended: its fault, if it has one. A syntax error counts for more than a key that stands twice.
    pub fn finish(&mut self) -> Option<Fault> {
        if self.state != State::Failed {
            let what = match self.state {
                State::Done => None,
                State::Start if self.form == Form::Lines => None,
                State::Start => Some("it is empty"),
                State::Value(_) if self.form == Form::Lines && self.levels.is_empty() => None,
                State::Number(digits) if digits.may_end() && self.levels.is_empty() => None,
                State::Value(_) if self.levels.is_empty() => Some("it holds no value"),
                State::Text(_) | State::Escape(_) | State::Hex(..) => Some("it ends within a string"),
                _ => Some("it ends before it is complete"),
            };
            if let Some(what) = what {
                self.fail_at(self.offset, Sort::Syntax, what);
            }
        }
        self.fault.take().or_else(|| self.duplicate.take())
    }

    fn place(&self, offset: u64) -> (u64, u64) {
        (self.line, offset.saturating_sub(self.line_start) + 1)
    }

    fn fail_at(&mut self, offset: u64, sort: Sort, what: &'static str) {
        let (line, column) = self.place(offset);
        self.fault = Some(Fault { line, column, sort, what });
        self.state = State::Failed;
    }

    /// A fault at a byte of the piece; nothing behind it is looked at.
    fn fail(&mut self, bytes: &[u8], at: usize, what: &'static str) -> usize {
        self.fail_at(self.offset + at as u64, Sort::Syntax, what);
        bytes.len()
    }

    /// As far as one state reaches; answers where the next begins.
    fn step(&mut self, bytes: &[u8], at: usize) -> usize {
        match self.state {
            State::Text(is_key) => self.text(bytes, at, is_key),
            State::Number(digits) => self.number(bytes, at, digits),
            State::Word(word, done) => self.word(bytes, at, word, done),
            State::Escape(is_key) => self.escape(bytes, at, is_key),
            State::Hex(is_key, left) => self.hex(bytes, at, is_key, left),
            State::Start => self.start(bytes, at),
            State::Failed => bytes.len(),
            _ => self.between(bytes, at),
        }
    }

    fn start(&mut self, bytes: &[u8], at: usize) -> usize {
        if bytes[at] == 0xef {
            return self.fail(bytes, at, "it begins with a byte order mark, which most JSON readers refuse");
        }
        if matches!(bytes[at], 0xfe | 0xff) {
            return self.fail(bytes, at, "it is not UTF-8 (UTF-16, by its beginning)");
        }
        self.state = State::Value(false);
        at
    }

    /// White space and what stands between values.
    fn between(&mut self, bytes: &[u8], mut at: usize) -> usize {
        while let Some(&byte) = bytes.get(at) {
            match byte {
                b' ' => at = behind_spaces(bytes, at + 1),
                b'\t' | b'\r' => at += 1,
                b'\n' => {
                    at += 1;
                    if self.form == Form::Lines && !self.new_line() {
                        return self.fail(bytes, at - 1, "the line ends before its value does");
                    }
                    self.line += 1;
                    self.line_start = self.offset + at as u64;
                }
                _ => {
                    at = self.mark(bytes, at, byte);
                    if !self.state.is_between() {
                        return at;
                    }
                }
            }
        }
        at
    }

    /// Where each line is a value of its own: whether one may end here.
    fn new_line(&mut self) -> bool {
        if self.state == State::Done {
            self.state = State::Value(false);
        }
        self.levels.is_empty()
    }

    fn mark(&mut self, bytes: &[u8], at: usize, byte: u8) -> usize {
        match (self.state, byte) {
            (State::Value(_), b'"') => return self.begin_text(bytes, at, false),
            (State::Key(_), b'"') => return self.begin_text(bytes, at, true),
            (State::Value(_), b'{') => return self.open(bytes, at, true),
            (State::Value(_), b'[') => return self.open(bytes, at, false),
            (State::Value(true), b']') => self.close(),
            (State::Key(true), b'}') => self.close(),
            (State::Value(_), b'-') => return self.number(bytes, at + 1, Digits::Minus),
            (State::Value(_), b'0') => return self.number(bytes, at + 1, Digits::Zero),
            (State::Value(_), b'1'..=b'9') => return self.number(bytes, at + 1, Digits::Whole),
            (State::Value(_), b't') => self.state = State::Word(b"true", 1),
            (State::Value(_), b'f') => self.state = State::Word(b"false", 1),
            (State::Value(_), b'n') => self.state = State::Word(b"null", 1),
            (State::Colon, b':') => self.state = State::Value(false),
            (State::After, b',') => {
                let in_object = self.levels.last().is_some_and(|l| l.is_object);
                self.state = if in_object { State::Key(false) } else { State::Value(false) };
                let next = self.gap(bytes, at + 1);
                return match bytes.get(next) {
                    Some(b'"') => self.begin_text(bytes, next, in_object),
                    _ => next,
                };
            }
            (State::After, b'}') if self.levels.last().is_some_and(|l| l.is_object) => self.close(),
            (State::After, b']') if self.levels.last().is_some_and(|l| !l.is_object) => self.close(),
            (state, _) => return self.fail(bytes, at, unexpected(state, byte)),
        }
        at + 1
    }

    fn open(&mut self, bytes: &[u8], at: usize, is_object: bool) -> usize {
        if self.levels.len() == DEPTH_MAX {
            let what = "it is nested more than 256 levels deep";
            self.fail_at(self.offset + at as u64, Sort::Limit, what);
            return bytes.len();
        }
        self.levels.push(Level { is_object, keys: self.keys.len() as u32 });
        self.state = if is_object { State::Key(true) } else { State::Value(true) };
        let next = self.gap(bytes, at + 1);
        match bytes.get(next) {
            Some(b'"') => self.begin_text(bytes, next, is_object),
            _ => next,
        }
    }

    /// Behind the space, or the end of the line and the indentation, with which most programs part what follows.
    #[inline]
    fn gap(&mut self, bytes: &[u8], at: usize) -> usize {
        match bytes.get(at) {
            Some(b' ') => at + 1,
            Some(b'\n') if self.form == Form::Document => {
                self.line += 1;
                self.line_start = self.offset + at as u64 + 1;
                behind_spaces(bytes, at + 1)
            }
            _ => at,
        }
    }

    fn close(&mut self) {
        if let Some(level) = self.levels.pop()
            && level.is_object
        {
            let start = (level.keys as usize).min(self.keys.len());
            if self.duplicate.is_none() && self.keys.len() - start > 1 {
                self.find_duplicate(start);
            }
            self.keys.truncate(start);
            self.places.truncate(start);
        }
        self.value_done();
    }

    fn find_duplicate(&mut self, start: usize) {
        let (keys, places) = (&self.keys[start..], &self.places[start..]);
        let later = if keys.len() <= 12 {
            (1..keys.len()).find(|n| keys[..*n].contains(&keys[*n])).map(|n| places[n])
        } else {
            let mut all: Vec<(u64, (u64, u64))> = keys.iter().copied().zip(places.iter().copied()).collect();
            all.sort_unstable();
            all.windows(2).filter(|pair| pair[0].0 == pair[1].0).map(|pair| pair[1].1).min()
        };
        if let Some((line, column)) = later {
            let what = "an object has this key twice";
            self.duplicate = Some(Fault { line, column, sort: Sort::DuplicateKey, what });
        }
    }

    fn value_done(&mut self) {
        self.state = if self.levels.is_empty() { State::Done } else { State::After };
    }

    fn begin_text(&mut self, bytes: &[u8], at: usize, is_key: bool) -> usize {
        if is_key {
            self.text_start = self.place(self.offset + at as u64);
            self.key.clear();
            self.key_kept = false;
        }
        self.state = State::Text(is_key);
        self.text(bytes, at + 1, is_key)
    }

    /// The plain part of a string, up to its end, an escape, or the end of the piece.
    fn text(&mut self, bytes: &[u8], at: usize, is_key: bool) -> usize {
        let end = plain_end(bytes, at);
        if let Err(bad) = self.utf8.check(bytes, at..end) {
            let bad = self.offset.saturating_add_signed(bad as i64);
            self.fail_at(bad, Sort::Syntax, "it is not UTF-8");
            return bytes.len();
        }
        match bytes.get(end) {
            Some(b'"') => {
                if is_key {
                    self.key_done(&bytes[at..end]);
                    // What mostly follows, without a way round.
                    if bytes.get(end + 1) == Some(&b':') {
                        self.state = State::Value(false);
                        let next = self.gap(bytes, end + 2);
                        return match bytes.get(next) {
                            Some(b'"') => self.begin_text(bytes, next, false),
                            Some(b'1'..=b'9') => self.number(bytes, next + 1, Digits::Whole),
                            _ => next,
                        };
                    }
                    self.state = State::Colon;
                } else {
                    self.value_done();
                }
                end + 1
            }
            Some(b'\\') => {
                self.keep(is_key, &bytes[at..end]);
                self.state = State::Escape(is_key);
                end + 1
            }
            Some(b'\n') => self.fail(bytes, end, "a string is not closed at the end of its line"),
            Some(_) => self.fail(bytes, end, "a control character stands in a string"),
            None => {
                self.keep(is_key, &bytes[at..end]);
                end
            }
        }
    }

    fn escape(&mut self, bytes: &[u8], at: usize, is_key: bool) -> usize {
        let plain = match bytes[at] {
            b'u' => {
                self.unit = 0;
                self.state = State::Hex(is_key, 4);
                return at + 1;
            }
            byte @ (b'"' | b'\\' | b'/') => byte,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            _ => return self.fail(bytes, at, "a string holds an escape that does not exist"),
        };
        self.keep(is_key, &[plain]);
        self.state = State::Text(is_key);
        at + 1
    }

    fn hex(&mut self, bytes: &[u8], at: usize, is_key: bool, left: u8) -> usize {
        let Some(digit) = char::from(bytes[at]).to_digit(16) else {
            return self.fail(bytes, at, "`\\u` needs four hex digits");
        };
        self.unit = self.unit << 4 | digit as u16;
        self.state = if left == 1 { State::Text(is_key) } else { State::Hex(is_key, left - 1) };
        if left == 1 && is_key {
            // Pairs of surrogates stay two; that tells keys apart as well.
            let mut buffer = [0; 4];
            match char::from_u32(u32::from(self.unit)) {
                Some(c) => self.keep(true, c.encode_utf8(&mut buffer).as_bytes()),
                None => self.keep(true, &[0xff, (self.unit >> 8) as u8, self.unit as u8]),
            }
        }
        at + 1
    }

    fn keep(&mut self, is_key: bool, part: &[u8]) {
        if is_key {
            self.key_kept = true;
            let room = KEY_BYTES_MAX.saturating_sub(self.key.len()).min(part.len());
            self.key.extend_from_slice(&part[..room]);
        }
    }

    fn key_done(&mut self, rest: &[u8]) {
        if self.key_kept {
            self.keep(true, rest);
        }
        let key = if self.key_kept { &self.key } else { rest };
        if self.keys.len() >= KEYS_MAX || key.len() >= KEY_BYTES_MAX {
            return;
        }
        let hash = hash(key);
        self.keys.push(hash);
        self.places.push(self.text_start);
    }

    fn number(&mut self, bytes: &[u8], mut at: usize, mut digits: Digits) -> usize {
        loop {
            if digits.repeats() {
                at = behind_digits(bytes, at);
            }
            let Some(&byte) = bytes.get(at) else { break };
            match digits.next(byte) {
                Some(next) => digits = next,
                None if digits.may_end() => {
                    self.value_done();
                    return match (digits, byte) {
                        (Digits::Zero, b'0'..=b'9') => self.fail(bytes, at, "a number begins with a zero"),
                        _ => at,
                    };
                }
                None => return self.fail(bytes, at, "a digit is missing in a number"),
            }
            at += 1;
        }
        self.state = State::Number(digits);
        at
    }

    fn word(&mut self, bytes: &[u8], mut at: usize, word: &'static [u8], mut done: u8) -> usize {
        while let (Some(&byte), Some(&wanted)) = (bytes.get(at), word.get(usize::from(done))) {
            if byte != wanted {
                return self.fail(bytes, at, "a word that is not `true`, `false` or `null`");
            }
            at += 1;
            done += 1;
        }
        if usize::from(done) == word.len() {
            self.value_done();
        } else {
            self.state = State::Word(word, done);
        }
        at
    }
}

fn unexpected(state: State, byte: u8) -> &'static str {
    match (state, byte) {
        (_, 0) => "a NUL byte stands here: it is UTF-16, or damaged",
        (_, b'/') => "comments are not JSON",
        (State::Value(_) | State::Key(_), b'\'') => "strings stand in double quotes",
        (State::Value(_), b'N' | b'I') => "NaN and Infinity are not JSON",
        (State::Value(false), b']') | (State::Key(false), b'}') => "a comma with nothing behind it",
        (State::Value(_), _) => "a value is missing here",
        (State::Key(_), _) => "a key in double quotes is missing here",
        (State::Colon, _) => "a colon is missing behind the key",
        (State::Done, _) => "something stands behind the value",
        (_, _) => "a comma or the closing bracket is missing here",
    }
}

/// Checks a whole text.
pub fn check(text: &[u8], form: Form) -> Option<Fault> {
    let mut validator = Validator::new(form);
    validator.feed(text);
    validator.finish()
}
