//! Single tables of a stored database back into a database.

use super::context::Context;
use super::failure::{Failure, Outcome};
use super::in_place::{Job, StageArgs, SureArgs};
use super::json::Message;
use super::names::shown;
use crate::codes::Code;
use crate::error::Error;
use crate::in_place::{Part, Saved};
use crate::manifest::database::materialise;
use crate::manifest::walk::find;
use crate::repository::Repository;
use crate::repository::snapshots::Listing;
use crate::restore::RestoreOptions;
use crate::source::roots::Root;
use crate::sqlite::tables::{Copied, Rules, Wish, copy, names};
use crate::units;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

/// Which tables, and where to.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Tables of a database")]
pub struct TableArgs {
    /// Only this table of the database SNAP:PATH, with its indexes and triggers; may be repeated
    #[arg(long, value_name = "TABLE", conflicts_with_all = ["target", "in_place", "delete", "salvage"])]
    pub table: Vec<String>,
    /// The database that gets it, made if it is not there [default: the one it came from]
    #[arg(long, value_name = "FILE", requires = "table")]
    into: Option<PathBuf>,
    /// Another name for the one table
    #[arg(long = "as", value_name = "NAME", requires = "table")]
    name: Option<String>,
    /// A table of that name gives way
    #[arg(long, requires = "table")]
    replace: bool,
    /// Let rows refer to rows that are not there
    #[arg(long, requires = "table")]
    allow_orphans: bool,
}

/// What is asked for, and of what.
pub struct Tables<'a> {
    pub context: &'a Context,
    pub repository: &'a Arc<Repository>,
    pub listing: &'a Listing,
    pub from: super::options::Target,
    pub args: &'a TableArgs,
    pub sure: SureArgs,
}

impl Tables<'_> {
    pub fn run(&self) -> Outcome {
        let wishes = self.wishes()?;
        let path = self.from.path.clone().filter(|path| !path.is_empty());
        let path = path.ok_or_else(|| Failure::usage("--table needs the database: SNAP:/path/to/FILE"))?;
        let reader = self.repository.reader()?.with_parity();
        let entry = find(&reader, &self.from.snapshot.root, &path)?.filter(|entry| entry.is_file());
        let entry =
            entry.ok_or_else(|| Failure::usage(format!("the snapshot holds no file {}", shown(&path))))?;
        let scratch = self.context.cache().unwrap_or_else(std::env::temp_dir);
        let stored = materialise(&reader, &entry, &scratch)?;
        let all = names(&stored.path).map_err(|e| e.context(shown(&path)))?;
        if let Some(missing) = wishes.iter().find(|wish| !all.contains(&wish.table)) {
            let what =
                format!("{} has no table `{}`; it has: {}", shown(&path), missing.table, all.join(", "));
            return Err(Failure::usage(what));
        }
        let target = self.target(&path)?;
        let there = target.path.symlink_metadata().is_ok();
        if self.context.global.dry_run {
            let list: Vec<&str> = wishes.iter().map(|wish| wish.name.as_str()).collect();
            self.context.output.say(&format!(
                "would put {} into {}",
                list.join(", "),
                target.path.display()
            ))?;
            return Ok(0);
        }
        let saved = if there { self.safety(&target)? } else { None };
        let rules = Rules {
            replace: self.args.replace,
            orphans: self.args.allow_orphans,
            wait: self.sure.sqlite_wait,
        };
        let before = || self.save_again(&target, saved.as_ref());
        let copied = copy(&stored.path, &target.path, &wishes, rules, &before);
        let copied = copied.map_err(|e| e.context(target.path.display()))?;
        let saved = saved.map(|saved| saved.id().short());
        self.context.warn_of_mended(&reader);
        self.tell(&copied, &target, (there, saved))
    }

    fn wishes(&self) -> Result<Vec<Wish>, Failure> {
        let tables = &self.args.table;
        match (&self.args.name, tables.as_slice()) {
            (Some(name), [table]) => Ok(vec![Wish { table: table.clone(), name: name.clone() }]),
            (Some(_), _) => Err(Failure::usage("--as names one table; give --table once")),
            (None, _) => {
                Ok(tables.iter().map(|table| Wish { table: table.clone(), name: table.clone() }).collect())
            }
        }
    }

    fn target(&self, stored: &[u8]) -> Result<Root, Failure> {
        let path = match &self.args.into {
            Some(path) => path.clone(),
            None => PathBuf::from(std::ffi::OsStr::from_bytes(&[b"/", stored].concat())),
        };
        Ok(Root::new(&path)?)
    }

    /// What was committed to the target since its safety snapshot goes into another one, while nobody else can write.
    fn save_again(&self, target: &Root, saved: Option<&Saved>) -> Result<(), Error> {
        let Some(saved) = saved else { return Ok(()) };
        let made = (saved.resave().0)(&target.stored);
        let made = made.map_err(|e| {
            e.context(
                "what was written to it after the safety snapshot could not be saved; nothing was changed",
            )
        })?;
        if let Some(id) = made {
            let what = "was written to after the safety snapshot was made; safety snapshot";
            self.context.output.warn(
                Code::WrittenSince,
                &format!("{} {what} {} holds that, too", target.path.display(), id.short()),
            );
        }
        Ok(())
    }

    /// The question and the snapshot that every change of what is there begins with.
    fn safety(&self, target: &Root) -> Result<Option<Saved>, Failure> {
        let cut = target.stored.iter().rposition(|&b| b == b'/').unwrap_or(0);
        let part = Part { below: target.stored.clone(), base: target.stored[..cut].to_vec() };
        let job = Job {
            context: self.context,
            repository: self.repository,
            listing: self.listing,
            from: &self.from.snapshot,
            parts: vec![part],
            options: RestoreOptions::default(),
            sure: self.sure,
            undone: None,
            care: StageArgs::default(),
        };
        job.begin()
    }

    fn tell(&self, copied: &[Copied], target: &Root, (there, saved): (bool, Option<String>)) -> Outcome {
        let output = &self.context.output;
        if output.json {
            for one in copied {
                output.passing(
                    &Message::new("table")
                        .with("name", one.name.as_str())
                        .with("rows", one.rows)
                        .with("indexes", one.indexes)
                        .with("triggers", one.triggers)
                        .with("replaced", one.replaced),
                );
            }
            let message = Message::new("summary").with("tables_restored", copied.len() as u64);
            return output.ends(output.result(&message.with("safety_snapshot", saved)), 0);
        }
        let mut lines: Vec<String> = Vec::new();
        for one in copied {
            lines.push(format!(
                "table {} restored into {}: {}, {}, {}{}",
                one.name,
                target.path.display(),
                units::counted(one.rows, "row", "rows"),
                units::counted(one.indexes, "index", "indexes"),
                units::counted(one.triggers, "trigger", "triggers"),
                if one.replaced { "; the old table was replaced" } else { "" }
            ));
        }
        lines.push(match (there, saved) {
            (true, Some(id)) => {
                format!("to take this back (the whole database, as it was): snapkeep undo {id}")
            }
            (true, None) => "no safety snapshot was made; this cannot be taken back".to_owned(),
            (false, _) => "the database is a new one".to_owned(),
        });
        output.ends(output.say(&lines.join("\n")), 0)
    }
}
