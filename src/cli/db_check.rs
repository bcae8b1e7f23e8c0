//! `db check`: live databases looked at where they lie.

use super::commands::db::CheckArgs;
use super::context::Context;
use super::failure::{FAILED, Failure, Outcome, VALIDATION};
use super::json::Message;
use super::names::escape;
use super::terminal::Watch;
use crate::compare::rows::with_live;
use crate::error::{ErrorKind, Result};
use crate::progress::Progress;
use crate::sqlite::check::{Depth, Findings, Verdict, check};
use crate::units;
use std::path::Path;

/// A database, looked at.
pub struct Looked {
    pub findings: Findings,
    log: bool,
    page_size: u32,
    pages: u32,
}

impl Looked {
    pub fn is_good(&self) -> bool {
        self.findings.verdict == Verdict::Good && self.findings.foreign_key_violations == Some(0)
    }

    fn result(&self) -> &'static str {
        match self.findings.verdict {
            Verdict::Good => "ok",
            Verdict::Bad => "failed",
            Verdict::Unknown => "unknown",
        }
    }
}

/// Checks one state of a database, in use or not.
pub fn look(context: &Context, path: &Path, depth: Depth, progress: &Progress) -> Result<Looked> {
    let scratch = context.cache().unwrap_or_else(std::env::temp_dir);
    with_live(path, &scratch, &context.clock, progress, &mut |pin| {
        let findings = check(Box::new(pin.image.clone()), depth, progress.stop_flag())?;
        Ok(Looked { findings, log: pin.log_mode, page_size: pin.image.page_size, pages: pin.image.pages })
    })
}

pub fn run(context: &Context, args: &CheckArgs) -> Outcome {
    let depth = if args.quick { Depth::Quick } else { Depth::Full };
    let (mut good, mut bad, mut failed) = (0u64, 0u64, 0u64);
    for file in &args.files {
        let mut watch = Watch::beside_results(context);
        let looked = look(context, file, depth, &watch.progress);
        watch.finish();
        match looked {
            Ok(looked) => {
                *if looked.is_good() { &mut good } else { &mut bad } += 1;
                told(context, file, &looked)?;
            }
            Err(e) if e.kind() == ErrorKind::Cancelled => return Err(e.into()),
            Err(e) => {
                // What SQLite cannot open at all is not well; what could not be looked at may be.
                let broken = e.kind() == ErrorKind::Unsupported || e.kind() == ErrorKind::Corrupt;
                *if broken { &mut bad } else { &mut failed } += 1;
                context.output.problem("check", file.as_os_str().as_encoded_bytes(), e.message());
            }
        }
    }
    if context.output.json {
        let all = Message::new("summary").with("databases", good + bad + failed);
        context.output.result(&all.with("ok", good).with("bad", bad).with("not_checked", failed))?;
    }
    Ok(match (bad, failed) {
        (0, 0) => 0,
        (0, _) => FAILED,
        _ => VALIDATION,
    })
}

fn told(context: &Context, file: &Path, looked: &Looked) -> std::result::Result<(), Failure> {
    let found = &looked.findings;
    let journal = if looked.log { "wal" } else { "rollback" };
    if context.output.json {
        return context.output.result(
            &Message::new("database")
                .with_path("path", "path_b64", file.as_os_str().as_encoded_bytes())
                .with("result", looked.result())
                .with("messages", found.messages.clone())
                .with("foreign_key_violations", found.foreign_key_violations)
                .with("schema", found.schema.as_str())
                .with("user_version", found.user_version)
                .with("application_id", found.application_id)
                .with("journal", journal)
                .with("page_size", looked.page_size)
                .with("pages", looked.pages)
                .with("tables", serde_json::to_value(&found.tables).unwrap_or_default()),
        );
    }
    let name = escape(file.as_os_str().as_encoded_bytes());
    let word = match found.verdict {
        Verdict::Good => "ok".to_owned(),
        Verdict::Bad => "DAMAGED".to_owned(),
        Verdict::Unknown => "could not be checked".to_owned(),
    };
    let mut parts = vec![word, units::counted(found.tables.len() as u64, "table", "tables")];
    parts.push(units::counted(found.tables.values().sum(), "row", "rows"));
    match found.foreign_key_violations {
        Some(0) => {}
        Some(n) => {
            parts.push(format!("{} (`db orphans` lists them)", units::counted(n, "ORPHAN", "ORPHANS")))
        }
        None => parts.push("foreign keys could not be checked".to_owned()),
    }
    parts.push(format!("user_version {}", found.user_version));
    parts.push(format!("{journal}, {}", units::bytes(u64::from(looked.page_size) * u64::from(looked.pages))));
    let mut lines = vec![format!("{name}: {}", parts.join(", "))];
    lines.extend(found.messages.iter().map(|message| format!("  {}", escape(message.as_bytes()))));
    if context.output.verbose > 0 {
        let row = |(table, rows): (&String, &u64)| {
            format!("  {}: {}", escape(table.as_bytes()), units::count(*rows))
        };
        lines.extend(found.tables.iter().map(row));
    }
    context.output.say(&lines.join("\n"))
}
