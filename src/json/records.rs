//! Records out of a JSON text of any length, one at a time: the elements of an array, the members of an object, lines.
//!
//! Memory is bounded by the largest record. Every byte is held against the grammar: records by `Doc`, what lies between
//! them here, what is passed over by the `Validator`.

use super::doc::Doc;
use super::feed::Text;
use super::pointer::{Pointer, index};
use super::stream::Validator;
use super::{Fault, Form, Sort, TEXT_MAX};
use crate::error::{Error, Result};

/// The longest name of a member on the way to records.
const NAME_MAX: usize = 64 << 10;
/// Names that are remembered, to say what is there in place of what was looked for.
const SEEN_MAX: usize = 200;

/// How records stand at their place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// An array of records.
    Elements,
    /// An object whose members are records.
    Members,
    /// One record.
    Whole,
    /// The text is a record on each line.
    Lines,
}

/// What to look for.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub at: Pointer,
    pub shape: Shape,
}

/// A record that was found.
pub struct Record<'a> {
    /// Which of the wanted places it is of.
    pub of: usize,
    /// The name of the member that it is.
    pub name: Option<&'a [u8]>,
    /// Its position among those of its place, from 0; of lines the number of the line, from 1.
    pub number: u64,
    pub doc: &'a Doc<'a>,
}

/// Why reading ended.
#[derive(Clone, Debug)]
pub enum Halt {
    /// The text is not sound.
    Fault(Fault),
    Error(Error),
}

impl From<Error> for Halt {
    fn from(e: Error) -> Self {
        Halt::Error(e)
    }
}

pub type Outcome<T> = std::result::Result<T, Halt>;

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// For each wanted place: it is there.
    pub places: Vec<bool>,
    /// Pointers to members that were seen on the way and not looked for, the first of them.
    pub others: Vec<String>,
}

/// Gives the next bytes of the text; none at its end.
pub type Fill<'a> = dyn FnMut(&mut [u8]) -> Result<usize> + 'a;
/// Takes a record.
pub type Each<'a> = dyn FnMut(Record<'_>) -> Result<()> + 'a;

/// Reads a text to its end and hands over each record at the wanted places.
pub fn read<'a>(fill: &'a mut Fill<'a>, wanted: &'a [Wanted], each: &'a mut Each<'a>) -> Outcome<Found> {
    walk(fill, wanted, each, false)
}

/// As `read`, by somebody who does not know what is there: where no array or object of the wanted shape stands, the names in
/// an object are noted.
pub fn look<'a>(fill: &'a mut Fill<'a>, wanted: &'a [Wanted], each: &'a mut Each<'a>) -> Outcome<Found> {
    walk(fill, wanted, each, true)
}

fn walk<'a>(
    fill: &'a mut Fill<'a>,
    wanted: &'a [Wanted],
    each: &'a mut Each<'a>,
    is_look: bool,
) -> Outcome<Found> {
    let found = Found { places: vec![false; wanted.len()], others: Vec::new() };
    let (text, record, path) = (Text::new(fill), Vec::new(), String::new());
    let mut reader = Reader { text, wanted, each, found, is_look, record, path };
    reader.beginning()?;
    if wanted.iter().any(|w| w.shape == Shape::Lines) {
        reader.lines()?;
    } else {
        let all: Vec<usize> = (0..wanted.len()).collect();
        reader.descend(&all, 0)?;
        if reader.text.solid()?.is_some() {
            return Err(reader.text.fault("something stands behind the value"));
        }
    }
    Ok(reader.found)
}

/// A walk to the wanted places.
struct Reader<'a> {
    text: Text<'a>,
    wanted: &'a [Wanted],
    each: &'a mut Each<'a>,
    found: Found,
    /// Another shape than the wanted one is no error.
    is_look: bool,
    /// The bytes of the record at hand.
    record: Vec<u8>,
    /// The pointer to where we are.
    path: String,
}

impl Reader<'_> {
    /// What begins a text that nobody should read on.
    fn beginning(&mut self) -> Outcome<()> {
        match self.text.peek()? {
            None if self.wanted.iter().any(|w| w.shape == Shape::Lines) => Ok(()),
            None => Err(self.text.fault("it is empty")),
            Some(0xef) => {
                Err(self.text.fault("it begins with a byte order mark, which most JSON readers refuse"))
            }
            Some(0xfe | 0xff) => Err(self.text.fault("it is not UTF-8 (UTF-16, by its beginning)")),
            Some(_) => Ok(()),
        }
    }

    /// At a value to which the first `depth` parts of the `active` places lead.
    fn descend(&mut self, active: &[usize], depth: usize) -> Outcome<()> {
        let ends = |of: &usize| self.wanted[*of].at.parts().len() == depth;
        let here: Vec<usize> = active.iter().copied().filter(ends).collect();
        if !here.is_empty() {
            for of in &here {
                if std::mem::replace(&mut self.found.places[*of], true) {
                    return Err(self.text.fault("an object has the key that leads here twice"));
                }
            }
            if here.len() < active.len() {
                let what = format!("records are looked for at `{}` and inside of them as well", self.path);
                return Err(Error::invalid(what).into());
            }
            return self.records(&here);
        }
        match self.text.solid()? {
            Some(b'{') => self.object(active, depth),
            Some(b'[') => self.array(active, depth),
            _ => self.pass_over(),
        }
    }

    fn object(&mut self, active: &[usize], depth: usize) -> Outcome<()> {
        let wanted = self.wanted;
        self.members(&mut |reader, name| {
            let fits = |of: &usize| wanted[*of].at.parts().get(depth).is_some_and(|p| p.as_bytes() == name);
            let fitting: Vec<usize> = active.iter().copied().filter(fits).collect();
            let len = reader.path.len();
            super::pointer::push(&mut reader.path, name);
            let done = if fitting.is_empty() {
                if reader.found.others.len() < SEEN_MAX {
                    let seen = reader.path.chars().take(200).collect();
                    reader.found.others.push(seen);
                }
                reader.pass_over()
            } else {
                reader.descend(&fitting, depth + 1)
            };
            reader.path.truncate(len);
            done
        })
    }

    fn array(&mut self, active: &[usize], depth: usize) -> Outcome<()> {
        let wanted = self.wanted;
        let mut number = 0;
        self.elements(&mut |reader| {
            let at =
                |of: &usize| wanted[*of].at.parts().get(depth).and_then(|part| index(part)) == Some(number);
            let fitting: Vec<usize> = active.iter().copied().filter(at).collect();
            number += 1;
            if fitting.is_empty() { reader.pass_over() } else { reader.descend(&fitting, depth + 1) }
        })
    }

    /// The records of a place that was found.
    fn records(&mut self, of: &[usize]) -> Outcome<()> {
        let Some(shape) = of.first().and_then(|of| self.wanted.get(*of)).map(|w| w.shape) else {
            return Ok(());
        };
        let first = self.text.solid()?;
        let mut number = 0;
        match (shape, first) {
            (Shape::Whole, _) => self.record(of, None, 0),
            (Shape::Elements, Some(b'[')) => self.elements(&mut |reader| {
                number += 1;
                reader.record(of, None, number - 1)
            }),
            (Shape::Members, Some(b'{')) => self.members(&mut |reader, name| {
                number += 1;
                reader.record(of, Some(name), number - 1)
            }),
            (_, Some(b'{')) if self.is_look => self.object(&[], 0),
            _ if self.is_look => self.pass_over(),
            (Shape::Elements, _) => Err(self.misshapen("an array", first)),
            (Shape::Members, _) => Err(self.misshapen("an object", first)),
            (Shape::Lines, _) => Ok(()),
        }
    }

    fn misshapen(&self, what: &str, first: Option<u8>) -> Halt {
        let place = match self.path.as_str() {
            "" => "the whole text".to_owned(),
            path => format!("`{path}`"),
        };
        let there = match first {
            Some(b'{') => {
                "an object: its members are records with `shape = \"members\"`, or `at` names the member"
            }
            Some(b'[') => "an array: its elements are records with `shape = \"array\"`",
            _ => "something else",
        };
        Error::invalid(format!("records should be in {what}, and {place} is {there}")).into()
    }

    /// A record on each line.
    fn lines(&mut self) -> Outcome<()> {
        self.found.places.fill(true);
        let all: Vec<usize> = (0..self.wanted.len()).collect();
        while self.text.solid()?.is_some() {
            let line = self.text.place().0;
            self.record(&all, None, line)?;
            if self.record.contains(&b'\n') {
                let what = "the line ends before its value does";
                return Err(Halt::Fault(Fault { line, column: 1, sort: Sort::Syntax, what }));
            }
            while let Some(b' ' | b'\t' | b'\r') = self.text.peek()? {
                self.text.at += 1;
            }
            if self.text.peek()?.is_some_and(|byte| byte != b'\n') {
                return Err(self.text.fault("something stands behind the value"));
            }
        }
        Ok(())
    }

    fn record(&mut self, of: &[usize], name: Option<&[u8]>, number: u64) -> Outcome<()> {
        self.text.solid()?;
        let (line, column) = self.text.place();
        let absolute = |fault: Fault| {
            let column = if fault.line == 1 { column + fault.column - 1 } else { fault.column };
            Halt::Fault(Fault { line: line + fault.line - 1, column, ..fault })
        };
        let mut bytes = std::mem::take(&mut self.record);
        bytes.clear();
        self.text.value(&mut |part| {
            if (bytes.len() + part.len()) as u64 > TEXT_MAX {
                let what = "a record begins here that is larger than 64 MiB";
                return Err(Halt::Fault(Fault { line, column, sort: Sort::Limit, what }));
            }
            bytes.extend_from_slice(part);
            Ok(())
        })?;
        let doc = Doc::parse(&bytes).map_err(absolute)?;
        if let Some(fault) = doc.duplicate.clone() {
            return Err(absolute(fault));
        }
        for of in of {
            (self.each)(Record { of: *of, name, number, doc: &doc })?;
        }
        drop(doc);
        self.record = bytes;
        Ok(())
    }

    /// A value that nobody asked for; it must be one all the same.
    fn pass_over(&mut self) -> Outcome<()> {
        self.text.solid()?;
        let (line, column) = self.text.place();
        let mut validator = Validator::new(Form::Document);
        self.text.value(&mut |part| {
            validator.feed(part);
            Ok(())
        })?;
        match validator.finish() {
            None => Ok(()),
            Some(fault) => {
                let column = if fault.line == 1 { column + fault.column - 1 } else { fault.column };
                Err(Halt::Fault(Fault { line: line + fault.line - 1, column, ..fault }))
            }
        }
    }

    /// Goes through an array; `each` stands before an element and goes behind it.
    fn elements(&mut self, each: &mut dyn FnMut(&mut Self) -> Outcome<()>) -> Outcome<()> {
        self.text.at += 1;
        let mut is_first = true;
        loop {
            match (self.text.solid()?, is_first) {
                (None, _) => return Err(self.text.fault("it ends before it is complete")),
                (Some(b']'), true) => break,
                _ => each(self)?,
            }
            is_first = false;
            match self.text.solid()? {
                Some(b',') => self.text.at += 1,
                Some(b']') => break,
                None => return Err(self.text.fault("it ends before it is complete")),
                Some(_) => return Err(self.text.fault("a comma or the closing bracket is missing here")),
            }
            if self.text.solid()? == Some(b']') {
                return Err(self.text.fault("a comma with nothing behind it"));
            }
        }
        self.text.at += 1;
        Ok(())
    }

    /// Goes through an object; `each` hears a name, stands before the value and goes behind it.
    fn members(&mut self, each: &mut dyn FnMut(&mut Self, &[u8]) -> Outcome<()>) -> Outcome<()> {
        self.text.at += 1;
        let mut is_first = true;
        loop {
            match (self.text.solid()?, is_first) {
                (None, _) => return Err(self.text.fault("it ends before it is complete")),
                (Some(b'}'), true) => break,
                (Some(b'"'), _) => {}
                (Some(b'}'), false) => return Err(self.text.fault("a comma with nothing behind it")),
                _ => return Err(self.text.fault("a key in double quotes is missing here")),
            }
            is_first = false;
            let name = self.name()?;
            if self.text.solid()? != Some(b':') {
                return Err(self.text.fault("a colon is missing behind the key"));
            }
            self.text.at += 1;
            each(self, &name)?;
            match self.text.solid()? {
                Some(b',') => self.text.at += 1,
                Some(b'}') => break,
                None => return Err(self.text.fault("it ends before it is complete")),
                Some(_) => return Err(self.text.fault("a comma or the closing bracket is missing here")),
            }
        }
        self.text.at += 1;
        Ok(())
    }

    fn name(&mut self) -> Outcome<Vec<u8>> {
        let (line, column) = self.text.place();
        let mut raw = Vec::new();
        let mut too_long = false;
        self.text.value(&mut |part| {
            too_long |= raw.len() + part.len() > NAME_MAX;
            if !too_long {
                raw.extend_from_slice(part);
            }
            Ok(())
        })?;
        if too_long {
            let what = "a key is longer than 64 KiB";
            return Err(Halt::Fault(Fault { line, column, sort: Sort::Limit, what }));
        }
        let doc = Doc::parse(&raw)
            .map_err(|fault| Halt::Fault(Fault { line, column: column + fault.column - 1, ..fault }))?;
        Ok(doc.string(doc.root()).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records as text, with the text given in pieces of `size`.
    fn records(
        text: &[u8],
        wanted: &[(&str, Shape)],
        size: usize,
    ) -> std::result::Result<Vec<String>, String> {
        let wanted: Vec<Wanted> = wanted
            .iter()
            .map(|(at, shape)| Wanted { at: Pointer::parse(at).expect("a pointer"), shape: *shape })
            .collect();
        let (mut all, mut rest) = (Vec::new(), text);
        let mut fill = |out: &mut [u8]| {
            let count = size.min(out.len()).min(rest.len());
            out[..count].copy_from_slice(&rest[..count]);
            rest = &rest[count..];
            Ok(count)
        };
        let done = read(&mut fill, &wanted, &mut |record| {
            let name = record.name.map(|n| String::from_utf8_lossy(n).into_owned()).unwrap_or_default();
            let raw = String::from_utf8_lossy(record.doc.text()).into_owned();
            all.push(format!("{}{name}#{} {raw}", record.of, record.number));
            Ok(())
        });
        match done {
            Ok(found) => {
                all.extend(found.others.iter().map(|o| format!("other {o}")));
                all.extend(
                    found.places.iter().enumerate().filter(|p| !p.1).map(|p| format!("missing {}", p.0)),
                );
                Ok(all)
            }
            Err(Halt::Fault(fault)) => Err(fault.to_string()),
            Err(Halt::Error(e)) => Err(e.message().to_owned()),
        }
    }

    #[test]
    fn records_are_found_at_their_places() {
        use Shape::{Elements as E, Lines as L, Members as M, Whole as W};
        let text = br#" {"a": [{"x":"}]\""}, 2 ,[ ]], "skip": {"q":[1,{}]}, "m": {"one":{"k":1},"t\"wo":{}}, "d":{"e":[7]}} "#;
        for size in [1, 2, 3, 7, 1000] {
            let found =
                records(text, &[("/a", E), ("/m", M), ("/d/e", E), ("/none", E)], size).expect("sound");
            assert_eq!(
                found,
                [
                    r#"0#0 {"x":"}]\""}"#,
                    "0#1 2",
                    "0#2 [ ]",
                    r#"1one#0 {"k":1}"#,
                    r#"1t"wo#1 {}"#,
                    "2#0 7",
                    "other /skip",
                    "missing 3"
                ],
                "{size}"
            );
            assert_eq!(records(b"[1,2]", &[("", E)], size).expect("sound"), ["0#0 1", "0#1 2"]);
            assert_eq!(records(b"{\"a\":1}", &[("", W)], size).expect("sound"), ["0#0 {\"a\":1}"]);
            assert_eq!(
                records(b"{\"a\":1}\n\n 2\n", &[("", L)], size).expect("sound"),
                ["0#1 {\"a\":1}", "0#3 2"]
            );
            assert_eq!(records(b"[[1],[2,3]]", &[("/1", E)], size).expect("sound"), ["0#0 2", "0#1 3"]);
        }
    }

    #[test]
    fn what_is_not_sound_is_named_with_its_place() {
        use Shape::{Elements as E, Lines as L};
        for (text, place, what) in [
            (&b""[..], "", "line 1, column 1: it is empty"),
            (
                b"\xef\xbb\xbf[]",
                "",
                "line 1, column 1: it begins with a byte order mark, which most JSON readers refuse",
            ),
            (b"\xff\xfe[\0", "", "line 1, column 1: it is not UTF-8 (UTF-16, by its beginning)"),
            (b"[1,\n 2", "", "line 2, column 3: it ends before it is complete"),
            (b"[1,\n {\"a\":", "", "line 2, column 7: it ends before it is complete"),
            (b"[1,\n {\"a\":\"", "", "line 2, column 8: it ends within a string"),
            (b"[1,\n {\"a\":1,\"a\":2}]", "", "line 2, column 9: an object has this key twice"),
            (b"[{\"a\":\"\xff\"}]", "", "line 1, column 8: it is not UTF-8"),
            (b"[1 2]", "", "line 1, column 4: a comma or the closing bracket is missing here"),
            (b"[1,]", "", "line 1, column 4: a comma with nothing behind it"),
            (b"[] x", "", "line 1, column 4: something stands behind the value"),
            (b"{\"a\":[],\n\"b\":[}]}", "/a", "line 2, column 6: a value is missing here"),
            (b"{\"a\":[],\"a\":[]}", "/a", "line 1, column 13: an object has the key that leads here twice"),
            (b"[NaN]", "", "line 1, column 2: NaN and Infinity are not JSON"),
        ] {
            for size in [1, 3, 1000] {
                let told = records(text, &[(place, E)], size).expect_err("not sound");
                assert_eq!(told, what, "{} {size}", String::from_utf8_lossy(text));
            }
        }
        for (text, what) in [
            (&b"1\n{\n}\n"[..], "line 2, column 1: the line ends before its value does"),
            (b"1\n2 3\n", "line 2, column 3: something stands behind the value"),
        ] {
            assert_eq!(records(text, &[("", L)], 2).expect_err("not sound"), what);
        }
        let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
        assert!(records(&deep, &[("", E)], 1000).expect_err("too deep").contains("256 levels"));
        assert!(records(b"{}", &[("", E)], 9).expect_err("no array").contains("the whole text is an object"));
    }
}
