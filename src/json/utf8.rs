//! Whether strings that come in pieces are UTF-8: each piece is looked at whole first, at memory's speed, and string by
//! string only where it holds a fault or a character cut by its end.

use std::ops::Range;

/// What is known of the piece at hand, and what the one before it left over.
#[derive(Default)]
pub struct Utf8 {
    /// Bytes of a character cut by the end of the last piece, and how many.
    cut: ([u8; 4], usize),
    /// The part of the piece at hand that is sound.
    sound: Range<usize>,
}

impl Utf8 {
    /// A new piece.
    pub fn begin(&mut self, piece: &[u8]) {
        self.sound = sound_part(piece);
    }

    /// A part of the piece that belongs to a string; where it reaches the piece's end the string may go on in the next.
    ///
    /// # Errors
    /// Where the first character that is none begins, from the piece's beginning; it may lie before that.
    #[inline]
    pub fn check(&mut self, piece: &[u8], part: Range<usize>) -> Result<(), isize> {
        if self.cut.1 == 0 && self.sound.start <= part.start && part.end <= self.sound.end {
            return Ok(());
        }
        self.closely(piece, part)
    }

    #[cold]
    fn closely(&mut self, piece: &[u8], part: Range<usize>) -> Result<(), isize> {
        let goes_on = part.end == piece.len();
        let (mut at, mut part) = (part.start, &piece[part]);
        while self.cut.1 > 0 {
            let began = at as isize - self.cut.1 as isize;
            let Some((first, rest)) = part.split_first() else {
                return if goes_on { Ok(()) } else { Err(began) };
            };
            self.cut.0[self.cut.1.min(3)] = *first;
            self.cut.1 += 1;
            match std::str::from_utf8(&self.cut.0[..self.cut.1.min(4)]) {
                Ok(_) => self.cut.1 = 0,
                Err(e) if e.error_len().is_none() && self.cut.1 < 4 => {}
                Err(_) => return Err(began),
            }
            part = rest;
            at += 1;
        }
        match std::str::from_utf8(part) {
            Ok(_) => Ok(()),
            Err(e) if e.error_len().is_none() && goes_on => {
                let left = &part[e.valid_up_to()..];
                self.cut.0[..left.len()].copy_from_slice(left);
                self.cut.1 = left.len();
                Ok(())
            }
            Err(e) => Err((at + e.valid_up_to()) as isize),
        }
    }
}

/// The part of a piece that is UTF-8, without what belongs to a character cut at either end; nothing where it is not.
fn sound_part(piece: &[u8]) -> Range<usize> {
    let goes_on = |byte: &u8| byte & 0xc0 == 0x80;
    let start = piece.iter().take(3).take_while(|byte| goes_on(byte)).count();
    // The last character's bytes, if it has begun in the piece at all.
    let last = piece.iter().rev().take(4).position(|byte| !goes_on(byte)).map_or(0, |n| n + 1);
    let wanted = match piece.get(piece.len() - last) {
        Some(0xf0..) => 4,
        Some(0xe0..) => 3,
        Some(0xc0..) => 2,
        _ => last,
    };
    let end = if wanted > last { piece.len() - last } else { piece.len() };
    let is_sound = start <= end && simdutf8::basic::from_utf8(&piece[start..end]).is_ok();
    if is_sound { start..end } else { 0..0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_sound_but_for_what_is_cut() {
        let text = "aé€𝄞z".as_bytes();
        for from in 0..=text.len() {
            for upto in from..=text.len() {
                let piece = &text[from..upto];
                let part = sound_part(piece);
                assert!(std::str::from_utf8(&piece[part.clone()]).is_ok(), "{from}..{upto}");
                // What is left out is less than a character on each side, or the piece lies within one.
                assert!(part.start < 4 && (piece.len() - part.end < 4), "{from}..{upto}: {part:?}");
            }
        }
        assert_eq!(sound_part(b"a\xffb"), 0..0);
        assert_eq!(sound_part(b""), 0..0);
    }

    #[test]
    fn any_cut_of_any_text_gets_the_same_answer() {
        let texts: [&[u8]; 5] =
            ["aé€𝄞z".as_bytes(), b"a\xc3(b", b"\xe2\x82", b"ab\xf0\x9d\x84z", "é\u{10ffff}".as_bytes()];
        for text in texts {
            let whole = std::str::from_utf8(text).map_err(|e| e.valid_up_to() as isize);
            for cut in 0..=text.len() {
                let mut utf8 = Utf8::default();
                let (first, second) = text.split_at(cut);
                utf8.begin(first);
                let mut found = utf8.check(first, 0..first.len());
                if found.is_ok() {
                    utf8.begin(second);
                    // The string ends in the piece: a quote stands behind it.
                    let ended = [second, b"\""].concat();
                    utf8.begin(&ended);
                    found = utf8.check(&ended, 0..second.len()).map_err(|at| at + cut as isize);
                }
                assert_eq!(found, whole.map(|_| ()), "{text:?} cut at {cut}");
            }
        }
    }
}
