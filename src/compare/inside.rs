//! Into files: their bytes, as far as they are few enough to look into.

use super::{After, Contents};
use crate::error::Result;
use crate::format::entry::Content;
use crate::json::{TEXT_MAX, TOO_LARGE};
use crate::manifest::content::for_each_piece;
use crate::repository::reader::Reader;

/// All bytes of a stored file; the inner error says why they are not looked into.
pub fn text(reader: &Reader, content: &Content) -> Result<std::result::Result<Vec<u8>, String>> {
    if content.size > TEXT_MAX {
        return Ok(Err(TOO_LARGE.to_owned()));
    }
    let bytes = std::cell::RefCell::new(Vec::with_capacity(usize::try_from(content.size).unwrap_or(0)));
    for_each_piece(
        reader,
        content,
        &mut |piece| {
            bytes.borrow_mut().extend_from_slice(piece);
            Ok(())
        },
        &mut |len| {
            let mut bytes = bytes.borrow_mut();
            let end = bytes.len().saturating_add(usize::try_from(len).unwrap_or(0));
            bytes.resize(end, 0);
            Ok(())
        },
    )?;
    Ok(Ok(bytes.into_inner()))
}

/// A text, or why there is none.
pub type Text = std::result::Result<Vec<u8>, String>;

/// The earlier and the later text of a changed file.
pub fn texts(reader: &Reader, contents: Contents) -> Result<(Text, Text)> {
    let before = text(reader, &contents.before)?;
    let after = match contents.after {
        After::Stored(content) => text(reader, &content)?,
        After::Live(read) => read,
    };
    Ok((before, after))
}
