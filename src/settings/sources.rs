//! What a set names as its sources: paths, and databases in the form that database libraries use.

use super::document::Node;
use crate::error::Result;
use std::path::{Path, PathBuf};

const DATABASE: &str = "sqlite:";

/// Whether the text names a database rather than a path.
pub fn is_database(text: &str) -> bool {
    text.starts_with(DATABASE)
}

/// The absolute path meant. `sqlite:////x` is `/x`; `sqlite:///x` is `x` beside the profile, or, when only that is there, `/x`.
pub fn resolve(node: &Node) -> Result<PathBuf> {
    let text = node.text().unwrap_or_default();
    if text.is_empty() {
        return Err(node.place.error("a source is empty"));
    }
    if text.starts_with("~/") || text == "~" {
        return Err(node.place.error(format!("`{text}`: `~` means nothing here; write ${{HOME}}")));
    }
    if let Some(rest) = text.strip_prefix(DATABASE) {
        let Some(path) = rest.strip_prefix("///").filter(|path| !path.is_empty()) else {
            let what = format!(
                "`{text}` names no database file; write sqlite:///file.db or sqlite:////absolute/file.db"
            );
            return Err(node.place.error(what));
        };
        if path.contains('?') {
            return Err(node.place.error(format!("`{text}`: parameters after `?` are not understood")));
        }
        let beside = node.place.resolve(Path::new(path));
        let from_the_top = Path::new("/").join(path);
        return Ok(if !beside.exists() && from_the_top.exists() { from_the_top } else { beside });
    }
    if let Some((scheme, _)) = text.split_once("://") {
        let what = format!("`{scheme}://` sources are not supported, only paths and sqlite:///file.db");
        return Err(node.place.error(what));
    }
    Ok(node.place.resolve(Path::new(text)))
}
