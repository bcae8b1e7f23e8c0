//! JSON files at the door of a backup: options for checking them, words about what was found.

use super::failure::Failure;
use super::names::{escape, shown};
use super::options::decoded;
use super::output::Output;
use super::rules::is_good;
use crate::backup::JsonOptions;
use crate::codes::Code;
use crate::format::snapshot::{JsonFacts, RulesTried, Snapshot};
use crate::source::roots::Root;
use crate::units;
use clap::Args;
use std::path::PathBuf;

/// How JSON files are looked at.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "JSON")]
pub struct JsonArgs {
    /// Back up DIR too, check all JSON files in it, and read it until it holds still
    #[arg(long, value_name = "DIR")]
    pub workspace: Vec<PathBuf>,
    /// Check the JSON files of all sources
    #[arg(long)]
    validate_json: bool,
    /// Try these rules on each workspace in place of its `.snapkeep/rules.toml`
    #[arg(long, value_name = "FILE")]
    pub rules: Option<PathBuf>,
    /// End with exit code 3 when a JSON file is not sound or a rule does not pass
    #[arg(long)]
    pub strict: bool,
}

impl JsonArgs {
    /// `ruled`: a source has rules of its own.
    pub fn options(&self, ruled: bool) -> Result<JsonOptions, Failure> {
        if self.rules.is_some() && self.workspace.is_empty() {
            return Err(Failure::usage("--rules are tried on a --workspace; name one"));
        }
        if self.strict && self.workspace.is_empty() && !self.validate_json && !ruled {
            return Err(Failure::usage(
                "--strict needs something to be strict about: --workspace, --validate-json, or a source with rules",
            ));
        }
        let mut workspaces = Vec::new();
        for dir in &self.workspace {
            let shown = escape(dir.as_os_str().as_encoded_bytes());
            let path = Root::new(dir).map_err(super::failure::usage)?.path;
            match std::fs::symlink_metadata(&path) {
                Ok(look) if look.is_symlink() => {
                    let what =
                        format!("the workspace {shown} is a symbolic link; name the directory it leads to");
                    return Err(Failure::usage(what));
                }
                Ok(look) if !look.is_dir() => {
                    return Err(Failure::usage(format!("the workspace {shown} is no directory")));
                }
                // What is missing is reported as any missing source is.
                _ => workspaces.push(path),
            }
        }
        Ok(JsonOptions { all: self.validate_json, workspaces })
    }

    /// Whether what was found makes the backup one to look at.
    pub fn objects(&self, facts: Option<&JsonFacts>, tried: &[RulesTried]) -> bool {
        let faulty = facts.is_some_and(|facts| facts.invalid > 0);
        self.strict && (faulty || !tried.iter().all(is_good))
    }
}

/// Names each faulty file on standard error.
pub fn warn(output: &Output, facts: Option<&JsonFacts>) {
    let Some(facts) = facts else { return };
    for fault in &facts.invalid_files {
        let place = match fault.line {
            0 => String::new(),
            line => format!("line {line}, column {}: ", fault.column),
        };
        output.warn(
            Code::JsonInvalid,
            &format!("{}: not sound JSON: {place}{}", shown(&decoded(&fault.path)), fault.what),
        );
    }
    if facts.not_listed > 0 {
        let more = units::counted(facts.not_listed, "further file is", "further files are");
        output.warn(Code::JsonInvalid, &format!("{more} not sound JSON"));
    }
}

/// A few words about all of it.
pub fn words(facts: &JsonFacts) -> String {
    let files = units::counted(facts.files, "file", "files");
    let moving = facts.workspaces.iter().filter(|w| !w.steady).count() as u64;
    let moving = match moving {
        0 => String::new(),
        n => format!(", {} never still", units::counted(n, "workspace", "workspaces")),
    };
    match facts.invalid {
        0 => format!("{files} checked, all sound{moving}"),
        n => format!("{files} checked, {} NOT SOUND{moving}", units::count(n)),
    }
}

/// What `snapshots -v` says below the table.
pub fn lines(record: &Snapshot) -> Vec<String> {
    let Some(facts) = &record.json else { return Vec::new() };
    let mut lines = vec![format!("json: {}", words(facts))];
    for fault in facts.invalid_files.iter().take(20) {
        let path = shown(&decoded(&fault.path));
        lines.push(format!(
            "  {path}: line {}, column {}: {}",
            fault.line,
            fault.column,
            escape(fault.what.as_bytes())
        ));
    }
    if facts.invalid > 20 {
        lines.push(format!("  … and {} more", units::count(facts.invalid - 20)));
    }
    for workspace in facts.workspaces.iter().filter(|w| !w.steady) {
        lines.push(format!("  {}: changed while it was read", shown(&decoded(&workspace.path))));
    }
    lines
}
