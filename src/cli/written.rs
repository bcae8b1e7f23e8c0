//! What `setup` writes: the profile, and lines that keep git from what must not be shared.

use super::failure::{Failure, REFUSED};
use super::setting_up::Wish;
use crate::error::{Context, Error};
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A source as the profile holds it: by its whole path, and there.
pub fn source(text: &str) -> Result<String, Failure> {
    let (scheme, path) = match text.strip_prefix("sqlite:///") {
        Some(path) => ("sqlite:///", PathBuf::from(path)),
        None => ("", PathBuf::from(text)),
    };
    let whole = std::path::absolute(&path).map_err(|e| Error::io(format!("cannot find {text}"), &e))?;
    if whole.symlink_metadata().is_err() {
        return Err(Failure::usage(format!("there is nothing at {} to back up", whole.display())));
    }
    match whole.to_str() {
        Some(path) => Ok(format!("{scheme}{path}")),
        None => Err(Failure::usage(format!(
            "the name {} is not UTF-8 and cannot stand in a profile",
            whole.display()
        ))),
    }
}

/// Writes the profile; one of the same name is kept beside it.
pub fn profile(wish: &Wish, force: bool) -> Result<(), Failure> {
    let file = &wish.profile;
    let failed = || format!("cannot write {}", file.display());
    if let Some(dir) = file.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).context(failed)?;
    }
    if force && file.exists() {
        std::fs::rename(file, file.with_extension("toml.old")).context(failed)?;
    }
    let text = text(wish)?;
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    let mut out = match made {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(Failure::new(REFUSED, format!("{} has come to be meanwhile", file.display())));
        }
        other => other.context(failed)?,
    };
    out.write_all(text.as_bytes()).and_then(|()| out.sync_all()).context(failed)?;
    Ok(())
}

fn text(wish: &Wish) -> Result<String, Failure> {
    let path = |path: &Path| match path.to_str() {
        Some(text) => Ok(toml(text)),
        None => Err(Failure::usage(format!(
            "the name {} is not UTF-8 and cannot stand in a profile",
            path.display()
        ))),
    };
    let secret = path(&wish.password_file)?;
    let mut lines = vec![
        "# Made by `snapkeep setup`. docs/profiles.md says what else can stand here.".to_owned(),
        "[repository]".to_owned(),
        format!("repository = {}", path(&wish.repositories[0])?),
        format!("password-file = {secret}"),
    ];
    if let Some(second) = wish.repositories.get(1) {
        lines.push(format!("\n[[target]]\nname = \"second\"\nrepository = {}", path(second)?));
    }
    lines.push("\n[backup]".to_owned());
    if let Some(schedule) = &wish.schedule {
        lines.push(format!("schedule = {}", toml(schedule.text())));
    }
    let sources: Vec<String> = wish.sources.iter().map(|source| toml(source)).collect();
    lines.push(format!(
        "\n[[backup.snapshots]]\nname = {}\nsources = [{}]",
        toml(&wish.name),
        sources.join(", ")
    ));
    lines.push(
        "\n[forget]\nkeep-hourly = 24\nkeep-daily = 7\nkeep-weekly = 5\nkeep-monthly = 12\nprune = true"
            .to_owned(),
    );
    if wish.schedule.is_some() {
        lines.push(
            "schedule = \"daily\"\n\n[check]\nschedule = \"weekly\"\n\n[drill]\nschedule = \"monthly\"\n\n[health]\nschedule = \"*-*-* 00/6:00\""
                .to_owned(),
        );
    }
    Ok(lines.join("\n") + "\n")
}

/// A text as a profile holds it, with nothing in it that would be put in or end it.
fn toml(text: &str) -> String {
    let json = serde_json::Value::from(text.replace('$', "$$")).to_string();
    // The one control character that JSON may hold as it is and TOML may not.
    json.replace('\u{7f}', "\\u007f")
}

/// Lets git pass over `place` if it lies in a work tree; answers the file that says so now, if it did not before.
pub fn git_ignore(place: &Path) -> Result<Option<PathBuf>, Failure> {
    let place = place.canonicalize().unwrap_or_else(|_| place.to_path_buf());
    let Some(tree) = place.ancestors().skip(1).find(|dir| dir.join(".git").exists()) else { return Ok(None) };
    let Some(inside) = place.strip_prefix(tree).ok().and_then(Path::to_str) else { return Ok(None) };
    let file = tree.join(".gitignore");
    let failed = || format!("cannot write {}", file.display());
    let special = |c: char| if "\\*?[]!# ".contains(c) { format!("\\{c}") } else { c.to_string() };
    let line = format!("/{}", inside.chars().map(special).collect::<String>());
    let old = match std::fs::read_to_string(&file) {
        Ok(old) => old,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(Error::io(failed(), &e).into()),
    };
    let mut rules = GitignoreBuilder::new(tree);
    for line in old.lines() {
        // A line that git does not understand rules nothing out.
        let _ = rules.add_line(None, line);
    }
    let is_out = |rules: Gitignore| rules.matched_path_or_any_parents(inside, place.is_dir()).is_ignore();
    if rules.build().is_ok_and(is_out) {
        return Ok(None);
    }
    let gap = if old.is_empty() || old.ends_with('\n') { "" } else { "\n" };
    let mut out = OpenOptions::new().append(true).create(true).open(&file).context(failed)?;
    out.write_all(format!("{gap}{line}\n").as_bytes()).context(failed)?;
    Ok(Some(file))
}

/// A path for a shell.
pub fn quoted(path: &Path) -> String {
    super::guard_told::quoted(&path.to_string_lossy())
}
