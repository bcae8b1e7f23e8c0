//! What `repair snapshots` says.

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::json::Message;
use crate::cli::names::shown;
use crate::cli::output::{Paper, one_line};
use crate::repair::DamagedFile;
use crate::repair::snapshots::{SnapshotRepair, SnapshotsReport};
use crate::units;

/// Files named of one snapshot, in text; JSON has them all.
const FILES_SHOWN: usize = 20;
/// Holes named of one file, in text.
const HOLES_SHOWN: usize = 3;

pub fn page(context: &Context, report: &SnapshotsReport) -> Result<(), Failure> {
    if context.output.json { context.output.result(&json(report)) } else { text(context, report) }
}

fn json(report: &SnapshotsReport) -> Message {
    let record = |r: &crate::repair::records::RecordRepair| {
        let message = Message::default().with("file", r.file.path()).with("from", r.from.path());
        message.with("why", r.why.as_str()).value()
    };
    let hopeless =
        report.records.hopeless.iter().map(|(file, why)| {
            Message::default().with("file", file.path()).with("why", why.as_str()).value()
        });
    Message::new("summary")
        .with("applied", report.applied)
        .with("snapshots_checked", report.checked)
        .with("records", report.records.repairs.iter().map(record).collect::<Vec<_>>())
        .with("unreadable_records", hopeless.collect::<Vec<_>>())
        .with("damaged_snapshots", report.snapshots.iter().map(snapshot).collect::<Vec<_>>())
}

fn snapshot(repair: &SnapshotRepair) -> serde_json::Value {
    let file = |f: &DamagedFile| {
        let message = Message::default().with_path("path", "path_b64", &[b"/", f.path.as_slice()].concat());
        let holes: Vec<_> = f.holes.iter().flatten().map(|(at, len)| serde_json::json!([at, len])).collect();
        message.with("size", f.size).with("holes", holes).value()
    };
    let group = |g: &crate::repair::LostGroup| {
        let message = Message::default().with_path("from", "from_b64", &[b"/", g.first.as_slice()].concat());
        message.with("entries", g.entries).value()
    };
    let mut message = Message::default()
        .with("snapshot", repair.snapshot.to_string())
        .with("lost", repair.lost)
        .with("entries_lost", repair.entries_lost)
        .with("lost_groups", repair.lost_groups.iter().map(group).collect::<Vec<_>>())
        .with("files_damaged", repair.files_damaged)
        .with("files", repair.files.iter().map(file).collect::<Vec<_>>());
    for (name, id) in [("repaired_as", repair.made), ("repaired_before_as", repair.already)] {
        if let Some(id) = id {
            message = message.with(name, id.to_string());
        }
    }
    message.value()
}

fn text(context: &Context, report: &SnapshotsReport) -> Result<(), Failure> {
    let output = &context.output;
    let mut paper = output.paper();
    for r in &report.records.repairs {
        let verb = if report.applied { "written again" } else { "to be written again" };
        paper.line(&format!("{}: {}; {verb} from {}", r.file, one_line(&r.why), r.from))?;
    }
    for (file, why) in &report.records.hopeless {
        paper.line(&format!("CANNOT BE REPAIRED: {file}: {}; it has no intact copy", one_line(why)))?;
    }
    for repair in &report.snapshots {
        one(&mut paper, repair, report.applied)?;
    }
    paper.finish()?;
    let checked = units::counted(report.checked, "snapshot", "snapshots");
    let to_do = report.snapshots.iter().filter(|r| !r.lost && r.already.is_none()).count() as u64;
    let records = units::counted(report.records.repairs.len() as u64, "record", "records");
    if report.is_idle() {
        return output.say(&format!("{checked} looked at: nothing to repair"));
    }
    let snapshots = units::counted(to_do, "damaged snapshot", "damaged snapshots");
    if !report.applied {
        return output.say(&format!("{records} and {snapshots}; nothing was changed: --apply does it"));
    }
    output.say(&format!("{records} put right, {snapshots} made anew of what is left"))?;
    if to_do > 0 {
        output.say(
            "  the damaged ones stay: a backup of the same sources may still bring back what they lack",
        )?;
    }
    Ok(())
}

fn one(paper: &mut Paper, repair: &SnapshotRepair, applied: bool) -> Result<(), Failure> {
    let id = repair.snapshot.short();
    if repair.lost {
        return paper
            .line(&format!("snapshot {id}: NOTHING IS LEFT OF IT: the root of its manifest is lost"));
    }
    let files = units::counted(repair.files_damaged, "file is damaged", "files are damaged");
    let entries = match repair.entries_lost {
        0 => String::new(),
        n => format!(", {} lost with their names", units::counted(n, "entry is", "entries are")),
    };
    let then = match (repair.made, repair.already) {
        (Some(made), _) => format!("; what is left is snapshot {}", made.short()),
        (_, Some(before)) => format!("; what is left is snapshot {} already", before.short()),
        (None, None) if applied => String::new(),
        (None, None) => "; a snapshot of what is left would be made".to_owned(),
    };
    paper.line(&format!("snapshot {id}: {files}{entries}{then}"))?;
    for group in &repair.lost_groups {
        let entries = units::counted(group.entries, "entry", "entries");
        paper.line(&format!("    from {} on: {entries} lost", shown(&group.first)))?;
    }
    for file in repair.files.iter().take(FILES_SHOWN) {
        paper.line(&format!("    {}: {}", shown(&file.path), holes(file)))?;
    }
    let more = repair.files_damaged.saturating_sub(FILES_SHOWN as u64);
    if more > 0 {
        paper.line(&format!("    and {} more", units::count(more)))?;
    }
    Ok(())
}

fn holes(file: &DamagedFile) -> String {
    let Some(holes) = &file.holes else {
        return format!("{} of which nobody can say what is left", units::bytes(file.size));
    };
    let lost = holes.iter().fold(0u64, |n, (_, len)| n.saturating_add(*len));
    let named: Vec<String> =
        holes.iter().take(HOLES_SHOWN).map(|(at, len)| format!("{len} at {at}")).collect();
    let more = if holes.len() > HOLES_SHOWN { ", …" } else { "" };
    format!("{} of {} lost ({}{more})", units::bytes(lost), units::bytes(file.size), named.join(", "))
}
