//! Names from a file system, shown to people: nothing in them may move the cursor or pretend to be something else.

pub use crate::repository::snapshots::decode_path;
use std::fmt::Write;

/// `bytes` with control characters and invisible ones escaped, invalid UTF-8 as `\xNN`, a backslash doubled.
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for part in bytes.utf8_chunks() {
        for c in part.valid().chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\t' => out.push_str("\\t"),
                '\r' => out.push_str("\\r"),
                _ if c.is_control() || deceives(c) => out.extend(c.escape_unicode()),
                _ => out.push(c),
            }
        }
        for byte in part.invalid() {
            // Writing to a string cannot fail.
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// A stored path as people write it: with the leading slash, escaped.
pub fn shown(stored: &[u8]) -> String {
    format!("/{}", escape(stored))
}

/// JSON text with the same characters written as its own escapes: it stays the same JSON.
pub fn plain_json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push('\n'),
            // All of them are below U+10000, so one escape is enough.
            _ if c.is_control() || deceives(c) => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => out.push(c),
        }
    }
    out
}

/// Characters that take no room, break lines, or turn the direction of what follows.
fn deceives(c: char) -> bool {
    matches!(
        c,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
    )
}

/// Columns a text takes on a terminal: wide characters of East Asian scripts and pictures count twice.
pub fn width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

pub fn char_width(c: char) -> usize {
    match u32::from(c) {
        0x300..=0x36f
        | 0x483..=0x489
        | 0x591..=0x5bd
        | 0x1ab0..=0x1aff
        | 0x20d0..=0x20ff
        | 0xfe00..=0xfe0f => 0,
        0x1100..=0x115f
        | 0x2e80..=0x303e
        | 0x3041..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1faff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// At most `room` columns of `text`, with `…` in place of what its middle lost; the end says more than the start.
pub fn shorten(text: &str, room: usize) -> String {
    if width(text) <= room {
        return text.to_owned();
    }
    let room = room.saturating_sub(1);
    let head = fitting(text.chars(), room / 3);
    let tail = fitting(text.chars().rev(), room - width(&head));
    format!("{head}…{}", tail.chars().rev().collect::<String>())
}

/// As many of the first characters as fit.
fn fitting(characters: impl Iterator<Item = char>, room: usize) -> String {
    let mut used = 0;
    let fits = |c: &char| {
        used += char_width(*c);
        used <= room
    };
    characters.take_while(fits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_gets_through() {
        assert_eq!(escape(b"plain \xc3\xa4"), "plain ä");
        assert_eq!(escape(b"a\x1b[2Jb\nc\\d\xff"), "a\\u{1b}[2Jb\\nc\\\\d\\xff");
        assert_eq!(escape("a\u{202e}b".as_bytes()), "a\\u{202e}b");
        assert_eq!(escape("\u{9b}2J".as_bytes()), "\\u{9b}2J");
    }

    #[test]
    fn record_paths_decode_to_what_was_encoded() {
        use crate::repository::snapshots::encode_path;
        for raw in [&b"/a/b"[..], b"/100%", b"/\xff\xfe/%41", "/ä".as_bytes()] {
            assert_eq!(decode_path(&encode_path(raw)), raw);
        }
    }

    #[test]
    fn long_names_lose_their_middle() {
        assert_eq!(shorten("short", 10), "short");
        let cut = shorten("/home/somebody/projects/one/file.txt", 20);
        assert_eq!(width(&cut), 20);
        assert!(cut.starts_with("/home/…") && cut.ends_with("one/file.txt"), "{cut}");
        assert!(width(&shorten("日本語日本語日本語", 9)) <= 9);
    }
}
