//! Sources written down in a file: one a line, as patterns, as they are, or separated by NUL.

use crate::error::{Error, Result};
use globset::{GlobBuilder, GlobMatcher};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// How a list is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A pattern on each line; blank lines and those that begin with `#` say nothing.
    Patterns,
    /// A path on each line, taken as it is.
    Verbatim,
    /// Paths separated by NUL.
    Raw,
}

/// The paths a list names. A pattern that matches nothing stands for itself and will be missed.
pub fn paths(text: &[u8], form: Form) -> Result<Vec<PathBuf>> {
    let separator = if form == Form::Raw { 0 } else { b'\n' };
    let mut found = Vec::new();
    for item in text.split(|b| *b == separator) {
        let item = if form == Form::Raw { item } else { item.strip_suffix(b"\r").unwrap_or(item) };
        let item = if form == Form::Patterns { item.trim_ascii() } else { item };
        if item.is_empty() || (form == Form::Patterns && item.starts_with(b"#")) {
            continue;
        }
        let path = Path::new(OsStr::from_bytes(item));
        match form {
            Form::Patterns => expand(path, &mut found)?,
            Form::Verbatim | Form::Raw => found.push(path.to_owned()),
        }
    }
    Ok(found)
}

fn is_pattern(name: &OsStr) -> bool {
    name.as_bytes().iter().any(|b| b"*?[{".contains(b))
}

fn expand(pattern: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let mut at = vec![PathBuf::new()];
    for component in pattern.components() {
        let Component::Normal(name) = component else {
            at.iter_mut().for_each(|path| path.push(component));
            continue;
        };
        if !is_pattern(name) || at.iter().any(|path| path.join(name).symlink_metadata().is_ok()) {
            at.iter_mut().for_each(|path| path.push(name));
            continue;
        }
        let matcher = matcher(name)?;
        at = at.iter().flat_map(|dir| matches(dir, &matcher)).collect();
    }
    at.retain(|path| path.symlink_metadata().is_ok());
    match at.is_empty() {
        true => found.push(pattern.to_owned()),
        false => found.append(&mut at),
    }
    Ok(())
}

fn matcher(name: &OsStr) -> Result<GlobMatcher> {
    let text = name.to_string_lossy();
    let glob = GlobBuilder::new(&text).literal_separator(true).build();
    glob.map(|g| g.compile_matcher())
        .map_err(|e| Error::invalid(format!("`{text}` is no pattern: {}", e.kind())))
}

/// Names in `dir` that match, in order; names that begin with a dot are as good as any.
fn matches(dir: &Path, matcher: &GlobMatcher) -> Vec<PathBuf> {
    let here = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let entries = std::fs::read_dir(here).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|e| e.file_name()).filter(|name| matcher.is_match(name)).collect();
    names.sort();
    names.iter().map(|name| dir.join(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_reads_what_it_should() {
        let verbatim = paths(b" /a b \n#c\r\n\n/d*", Form::Verbatim).expect("valid");
        assert_eq!(verbatim, [Path::new(" /a b "), Path::new("#c"), Path::new("/d*")]);
        let raw = paths(b"/a\nb\0/c\r\0", Form::Raw).expect("valid");
        assert_eq!(raw, [Path::new("/a\nb"), Path::new("/c\r")]);
        let src = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
        let text = format!("# sources\n  {src}/li?.rs  \n{src}/nothing-*\n{src}/m*.rs\n");
        let patterns = paths(text.as_bytes(), Form::Patterns).expect("valid");
        let path = |name: &str| Path::new(src).join(name);
        assert_eq!(patterns, [path("lib.rs"), path("nothing-*"), path("main.rs")]);
    }
}
