//! `db vacuum`, `db orphans`, `db archive`: changes of live databases, after a snapshot.

use super::commands::db::{ArchiveArgs, OrphansArgs, VacuumArgs};
use super::context::Context;
use super::db_check::look;
use super::failure::{FAILED, Failure, Outcome, REFUSED, VALIDATION, usage};
use super::json::Message;
use super::names::{escape, shown};
use super::stop::Stop;
use super::stored::open_entry;
use super::terminal::Watch;
use crate::compare::rows::with_live;
use crate::error::{Error, ErrorKind, Result as Answer};
use crate::in_place::{Part, Safety};
use crate::manifest::walk::find;
use crate::os::storage::free_bytes;
use crate::repository::snapshots::list;
use crate::restore::RestoreOptions;
use crate::source::roots::Root;
use crate::sqlite::check::{Depth, Verdict};
use crate::sqlite::ffi::open_bytes;
use crate::sqlite::live::{Live, scratch_place};
use crate::sqlite::query::{Reading, Value, quoted};
use crate::sqlite::taking::{Archive, archive as move_rows, delete_orphans};
use crate::units;
use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The state before, to be asked.
struct Saved {
    id: String,
    reading: Reading,
}

/// A safety snapshot of one database; `undo` puts it back.
fn safety(
    context: &Context,
    root: &Root,
    change: &str,
    wait: Duration,
    watch: &Watch,
) -> Result<Saved, Failure> {
    let repository = context.open()?;
    let listing = list(&repository)?;
    let cut = root.stored.iter().rposition(|&b| b == b'/').unwrap_or(0);
    let parts = [Part { below: root.stored.clone(), base: root.stored[..cut].to_vec() }];
    let ours = context.own_places();
    let safety = Safety {
        repository: &repository,
        listing: &listing,
        from: None,
        change,
        parts: &parts,
        options: &RestoreOptions::default(),
        undo: false,
        end_noted: false,
        level: context.global.compression,
        ours: &ours,
        wait,
        clock: &context.clock,
    };
    let saved = safety.save(&watch.progress, &watch.report);
    let saved = saved.map_err(|e| e.context("the safety snapshot failed, and nothing was changed"))?;
    if saved.problems > 0 {
        let what =
            format!("{} could not be read for the safety snapshot; nothing was changed", shown(&root.stored));
        return Err(Failure::new(REFUSED, what));
    }
    let listing = list(&repository)?;
    let missing = || Failure::new(FAILED, "the safety snapshot is not listed; nothing was changed");
    let listed = listing.snapshots.iter().find(|l| l.id == saved.id()).ok_or_else(missing)?;
    let reader = Arc::new(repository.reader()?.with_parity());
    let entry =
        find(&reader, &listed.root, &root.stored)?.filter(|entry| entry.is_file()).ok_or_else(missing)?;
    let reading = open_entry(&reader, &entry, &watch.progress)?;
    Ok(Saved { id: saved.id().short(), reading })
}

fn there(path: &Path) -> Result<Root, Failure> {
    let root = Root::new(path).map_err(usage)?;
    match root.path.symlink_metadata() {
        Ok(look) if look.is_file() => Ok(root),
        Ok(_) => Err(Failure::usage(format!("{} is no file", escape(path.as_os_str().as_encoded_bytes())))),
        Err(_) => Err(Failure::new(FAILED, format!("there is no file {}", shown(&root.stored)))),
    }
}

fn way_back(saved: Option<&str>) -> String {
    match saved {
        Some(id) => format!("to take this back (the whole database, as it was): snapkeep undo {id}"),
        None => "no snapshot was made; this cannot be taken back".to_owned(),
    }
}

pub fn vacuum(context: &Context, args: &VacuumArgs) -> Outcome {
    let root = there(&args.file)?;
    let mut watch = Watch::beside_results(context);
    let looked = look(context, &root.path, Depth::Full, &watch.progress)
        .map_err(|e| e.context(shown(&root.stored)))?;
    if looked.findings.verdict != Verdict::Good {
        let what = format!(
            "{} is not sound ({}); nothing was changed. `snapkeep db recover` saves what is left",
            shown(&root.stored),
            looked.findings.messages.join("; ")
        );
        return Err(Failure::new(VALIDATION, what));
    }
    let live = Live::open(&root.path, args.wait.sqlite_wait, watch.progress.stop_flag())?;
    let need = live.len()?;
    room(&root.path, need)?;
    if context.global.dry_run {
        watch.finish();
        let what = format!("would build {} anew, {}", shown(&root.stored), units::bytes(need));
        context.output.say(&what)?;
        return Ok(0);
    }
    // A lock of ours would be in the way of the snapshot.
    drop(live);
    let saved = match args.no_snapshot {
        true => None,
        false => Some(safety(context, &root, "vacuum of", args.wait.sqlite_wait, &watch)?.id),
    };
    let live = Live::open(&root.path, args.wait.sqlite_wait, watch.progress.stop_flag())?;
    let before = live.len()?;
    let done = live.vacuum();
    let after = live.len();
    drop(live);
    done?;
    let after = after?;
    let looked = look(context, &root.path, Depth::Full, &watch.progress);
    watch.finish();
    let sound = looked.as_ref().is_ok_and(|looked| looked.findings.verdict == Verdict::Good);
    let told = if context.output.json {
        let message =
            Message::new("summary").with_path("path", "path_b64", &[b"/", root.stored.as_slice()].concat());
        let message = message.with("bytes_before", before).with("bytes_after", after).with("sound", sound);
        context.output.result(&message.with("safety_snapshot", saved.as_deref()))
    } else {
        let (name, was, is) = (shown(&root.stored), units::bytes(before), units::bytes(after));
        context.output.say(&format!("{name}: {was} before, {is} now\n{}", way_back(saved.as_deref())))
    };
    if !sound {
        let why = match looked {
            Ok(looked) => looked.findings.messages.join("; "),
            Err(e) => e.message().to_owned(),
        };
        return Err(Failure::new(
            VALIDATION,
            format!("{} could not be found sound afterwards: {why}", shown(&root.stored)),
        ));
    }
    Ok(context.output.told(told, 0))
}

/// Building anew takes a copy beside SQLite's other temporary files, and a journal or log beside the database.
fn room(path: &Path, need: u64) -> Result<(), Failure> {
    let above = path.parent().unwrap_or(Path::new("/"));
    let scratch = scratch_place();
    let same = match (std::fs::metadata(above), std::fs::metadata(&scratch)) {
        (Ok(a), Ok(b)) => std::os::unix::fs::MetadataExt::dev(&a) == std::os::unix::fs::MetadataExt::dev(&b),
        _ => false,
    };
    let wanted: &[(&Path, u64)] =
        if same { &[(above, need.saturating_mul(2))] } else { &[(above, need), (&scratch, need)] };
    for (place, need) in wanted {
        let free =
            free_bytes(place).map_err(|e| Error::io(format!("cannot look at {}", place.display()), &e))?;
        if free < *need {
            let what = format!(
                "building anew may take {} in {}, and {} are free; nothing was changed",
                units::bytes(*need),
                place.display(),
                units::bytes(free)
            );
            return Err(Failure::new(REFUSED, what));
        }
    }
    Ok(())
}

pub fn orphans(context: &Context, args: &OrphansArgs) -> Outcome {
    let root = there(&args.file)?;
    let mut watch = Watch::beside_results(context);
    let count = list_orphans(context, &root, &watch)?;
    if count == 0 || !args.delete || context.global.dry_run {
        watch.finish();
        let told = match (context.output.json, count) {
            (true, _) => {
                context.output.result(&Message::new("summary").with("orphans", count).with("deleted", 0))
            }
            (false, 0) => context.output.say(&format!("{} has no orphans", shown(&root.stored))),
            (false, _) => context.output.say(&units::counted(count, "orphan", "orphans")),
        };
        return context.output.ends(told, 0);
    }
    if !args.yes && !confirmed(context, &root, count)? {
        return Err(Failure::new(FAILED, "not confirmed; nothing was changed"));
    }
    let saved = safety(context, &root, "deletion of orphans in", args.wait.sqlite_wait, &watch)?;
    let live = Live::open(&root.path, args.wait.sqlite_wait, watch.progress.stop_flag())?;
    let gone = delete_orphans(&live, &saved.reading);
    drop(live);
    watch.finish();
    let gone = gone.map_err(|e| e.context(shown(&root.stored)))?;
    let total: u64 = gone.values().sum();
    let told = if context.output.json {
        let message = Message::new("summary").with("orphans", count).with("deleted", total);
        let tables = serde_json::to_value(&gone).unwrap_or_default();
        context.output.result(&message.with("tables", tables).with("safety_snapshot", saved.id.as_str()))
    } else {
        let each = |(table, rows): (&String, &u64)| {
            format!("deleted from {}: {}", escape(table.as_bytes()), units::counted(*rows, "row", "rows"))
        };
        let mut lines: Vec<String> = gone.iter().map(each).collect();
        lines.push(way_back(Some(&saved.id)));
        context.output.say(&lines.join("\n"))
    };
    Ok(context.output.told(told, 0))
}

fn confirmed(context: &Context, root: &Root, count: u64) -> Result<bool, Failure> {
    if context.output.json || !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        let what = "this deletes rows, and there is no terminal to ask on; say --yes, or look first without --delete";
        return Err(Failure::new(REFUSED, what));
    }
    let cannot = |e: std::io::Error| Failure::from(Error::io("cannot ask on the terminal", &e));
    let rows = units::counted(count, "row", "rows");
    let mut err = std::io::stderr();
    write!(err, "Delete {rows} of {}, and what hangs on them? [y/N] ", shown(&root.stored))
        .and_then(|()| err.flush())
        .map_err(cannot)?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(cannot)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes" | "Yes"))
}

/// Asks one state of a live database.
fn ask_live<T>(
    context: &Context,
    root: &Root,
    watch: &Watch,
    ask: &mut dyn FnMut(&Reading) -> Answer<T>,
) -> Answer<T> {
    let scratch = context.cache().unwrap_or_else(std::env::temp_dir);
    let asked = with_live(&root.path, &scratch, &context.clock, &watch.progress, &mut |pin| {
        let reading = Reading::new(open_bytes(Box::new(pin.image.clone()))?, watch.progress.stop_flag())?;
        ask(&reading)
    });
    asked.map_err(|e| e.context(shown(&root.stored)))
}

/// Names every orphan of one state; answers how many there are.
fn list_orphans(context: &Context, root: &Root, watch: &Watch) -> Result<u64, Failure> {
    let mut paper = context.output.paper();
    let mut count = 0;
    let mut stop = Stop::default();
    let asked = ask_live(context, root, watch, &mut |reading| {
        reading.ask("PRAGMA foreign_key_check", &[], &mut |_| Ok(()), &mut |row| {
            count += 1;
            let text = |at: usize| row.get(at).map(Value::lossy).unwrap_or_default();
            let number = row.get(1).and_then(Value::as_integer);
            stop.at(if context.output.json {
                let message = Message::new("orphan").with("table", text(0)).with("rowid", number);
                let key = row.get(3).and_then(Value::as_integer);
                paper.json(&message.with("parent", text(2)).with("fkid", key))
            } else if context.output.quiet {
                Ok(())
            } else {
                let (table, parent) = (escape(text(0).as_bytes()), escape(text(2).as_bytes()));
                let row = number.map_or_else(|| "a row".to_owned(), |n| format!("row {n}"));
                paper.line(&format!("{table}  {row}  leads to no row of {parent}"))
            })
        })
    });
    stop.or(asked)?;
    paper.finish()?;
    Ok(count)
}

pub fn archive(context: &Context, args: &ArchiveArgs) -> Outcome {
    let root = there(&args.file)?;
    let mut watch = Watch::beside_results(context);
    if context.global.dry_run {
        let sql = format!("SELECT count(*) FROM {} WHERE (\n{}\n)", quoted(&args.table), args.choice);
        let count = ask_live(context, &root, &watch, &mut |reading| reading.scalar(&sql));
        watch.finish();
        let rows = count.map_err(mistaken)?.as_integer().unwrap_or(0).unsigned_abs();
        context.output.say(&format!(
            "would move {} into {}",
            units::counted(rows, "row", "rows"),
            args.into.display()
        ))?;
        return Ok(0);
    }
    let saved = safety(context, &root, "archiving rows of", args.wait.sqlite_wait, &watch)?;
    let live = Live::open(&root.path, args.wait.sqlite_wait, watch.progress.stop_flag())?;
    let what = Archive {
        table: &args.table,
        choice: &args.choice,
        into: &args.into,
        wait: args.wait.sqlite_wait,
        stop: watch.progress.stop_flag(),
    };
    let done = move_rows(&live, &saved.reading, &what);
    drop(live);
    watch.finish();
    let done = done.map_err(mistaken)?;
    let told = if context.output.json {
        let message =
            Message::new("summary").with("rows_moved", done.rows).with("rows_already_there", done.already);
        context
            .output
            .result(&message.with("table", args.table.as_str()).with("safety_snapshot", saved.id.as_str()))
    } else {
        let rows = units::counted(done.rows, "row", "rows");
        let already = match done.already {
            0 => String::new(),
            n => format!(" ({} of them had been brought there before)", units::count(n)),
        };
        let first = format!(
            "{rows} of {} moved into {}{already}",
            escape(args.table.as_bytes()),
            args.into.display()
        );
        context.output.say(&format!("{first}\n{}", way_back(Some(&saved.id))))
    };
    Ok(context.output.told(told, 0))
}

/// SQL that cannot be carried out is the asker's to mend.
fn mistaken(e: Error) -> Failure {
    match e.kind() {
        ErrorKind::Invalid | ErrorKind::NotFound => usage(e),
        _ => e.into(),
    }
}
