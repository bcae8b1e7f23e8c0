//! `forget`: take snapshots out of sight, those named or those that a policy does not keep.

use crate::cli::commands::prune;
use crate::cli::context::Context;
use crate::cli::failure::{DAMAGED, FAILED, Failure, INCOMPLETE, Outcome, REFUSED, usage};
use crate::cli::groups::{Group, GroupBy, group};
use crate::cli::json::{Message, SnapshotJson};
use crate::cli::names::{decode_path, escape};
use crate::cli::options::{TrashArgs, filter};
use crate::cli::output::Paper;
use crate::cli::policy::PolicyArgs;
use crate::cli::sets;
use crate::cli::table::{Column, Table};
use crate::cli::terminal::Watch;
use crate::clock::Zone;
use crate::codes::Code;
use crate::error::{Error, ErrorKind, Result};
use crate::forget::freed::{Freed, compute};
use crate::forget::plan::{self, Overrides, Part, Plan};
use crate::forget::{ForgetOptions, ForgetReport, run as forget};
use crate::repository::Repository;
use crate::repository::snapshots::{Listed, Listing, SnapshotFilter, list, resolve};
use crate::repository::trash::Forgotten;
use crate::units;
use std::path::PathBuf;
use std::sync::Arc;

/// What is freed is computed without being asked for where no more groups of manifests must be read.
const GROUPS_AT_ONCE: usize = 150;

const EXAMPLES: &str = "\
Examples:
  snapkeep forget --keep-daily 7 --keep-weekly 4 --keep-monthly 12 --prune
  snapkeep forget -H 24 -d 30 -w 12 -m 24 -y 10 --keep-min 5 --dry-run
  snapkeep forget --keep-within 30d --keep-tag release
  snapkeep forget 1a2b3c4d          # one snapshot; `undelete 1a2b3c4d` brings it back
  snapkeep forget --tag test --allow-remove-all --no-trash --prune

A bucket (an hour, a day, …) is represented by its newest snapshot. Rules work on each group for itself.
What is forgotten can be brought back by `undelete` until the trash is emptied: by `prune`, after 30 days.
Pinned snapshots stay. While the newest snapshot of a host and paths is incomplete or far smaller than
usual, older good ones stay too, and the exit code is 23.";

/// Forget snapshots: those named, or all that a policy does not keep
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Snapshots to forget; without any, a policy decides
    #[arg(value_name = "SNAP")]
    snapshots: Vec<String>,
    #[command(flatten)]
    policy: PolicyArgs,
    /// Apply the policy to each group of the same host, paths, tags
    #[arg(short, long, value_name = "WHAT[,WHAT…]", default_value = "host,paths", value_parser = GroupBy::parse, help_heading = "Which snapshots")]
    group_by: Option<GroupBy>,
    /// Only snapshots of this host
    #[arg(long, value_name = "HOST", help_heading = "Which snapshots")]
    host: Vec<String>,
    /// Only snapshots with all of these tags; `''` for those without any
    #[arg(long, value_name = "TAG[,TAG…]", help_heading = "Which snapshots")]
    tag: Vec<String>,
    /// Only snapshots of this path
    #[arg(long, value_name = "PATH", help_heading = "Which snapshots")]
    path: Vec<PathBuf>,
    /// Only snapshots of this set of the profile, by the rules that hold for it there
    #[arg(long, value_name = "SET", help_heading = "Which snapshots")]
    name: Vec<String>,
    /// Not snapshots of this set of the profile
    #[arg(long, value_name = "SET", help_heading = "Which snapshots")]
    except_set: Vec<String>,
    /// Run `prune` afterwards; what goes to the trash now is freed by a later one
    #[arg(long)]
    prune: bool,
    /// Do not, whatever the profile says
    #[arg(long)]
    no_prune: bool,
    /// Delete at once: nothing can be brought back
    #[arg(long)]
    no_trash: bool,
    #[command(flatten)]
    limits: prune::Limits,
    #[command(flatten)]
    trash: TrashArgs,
    /// Let all snapshots of a host and paths go, or the last good one
    #[arg(long, alias = "unsafe-allow-remove-all", help_heading = "Against the rules that protect")]
    allow_remove_all: bool,
    /// Let more than nine of ten go although the policy found less than it asks for
    #[arg(long, help_heading = "Against the rules that protect")]
    allow_remove_most: bool,
    /// Let good snapshots go although the newest one is incomplete or far smaller
    #[arg(long, help_heading = "Against the rules that protect")]
    ignore_anomalies: bool,
    /// Let snapshots go that are named here, although they are pinned
    #[arg(long, help_heading = "Against the rules that protect")]
    pinned: bool,
    /// Go on although notes cannot be read that may be pins
    #[arg(long, help_heading = "Against the rules that protect")]
    ignore_unreadable_notes: bool,
}

impl Args {
    fn prunes(&self) -> bool {
        self.prune && !self.no_prune
    }
}

/// Everything that is looked at before something is done.
struct Case<'a> {
    context: &'a Context,
    args: &'a Args,
    listing: &'a Listing,
    plan: &'a Plan<'a>,
    titles: Vec<Option<&'a Group<'a>>>,
    /// Named snapshots that lie in the trash and are to be deleted from it.
    emptied: Vec<&'a Forgotten>,
    zone: Zone,
}

pub fn run(context: &Context, args: &Args) -> Outcome {
    if args.snapshots.is_empty()
        && args.except_set.is_empty()
        && sets::forget_is_for_several(context, &args.name)?
    {
        return sets::forget(context, &args.name);
    }
    check_words(args)?;
    let mut filter = filter(&args.host, &args.tag, &args.path).map_err(usage)?;
    filter.sets = sets::full_names(context, &args.name)?;
    filter.except_sets = sets::full_names(context, &args.except_set)?;
    let repository = context.open()?;
    let listing = list(&repository)?;
    for (id, why) in &listing.damaged {
        context.output.warn(
            Code::SnapshotUnreadable,
            &format!("snapshot {} cannot be read and stays: {why}", id.short()),
        );
    }
    plan::knows_enough(&listing, overrides(args))?;
    let of_a_set = !filter.sets.is_empty() || !filter.except_sets.is_empty();
    if args.snapshots.is_empty() && of_a_set && !listing.snapshots.iter().any(|s| filter.matches(&s.record)) {
        // The set is known, only nothing of it is here yet.
        return nothing_yet(context, args, &repository);
    }
    let (chosen, emptied) = select(context, args, &listing, &filter)?;
    let by = args.group_by.unwrap_or(GroupBy::SERIES);
    let groups = if args.snapshots.is_empty() { group(&chosen, by) } else { Vec::new() };
    let members: Vec<Vec<&Listed>> = groups.iter().map(|g| g.snapshots.clone()).collect();
    let (policy, zone) = (args.policy.policy(), args.policy.zone());
    let plan = match (args.snapshots.is_empty(), policy.is_empty()) {
        (false, _) => plan::named_ones(&listing, chosen.iter().collect(), overrides(args), args.no_trash),
        (true, true) => plan::everything(&listing, &members),
        (true, false) => {
            known_tags(&listing, &policy.tags)?;
            plan::by_policy(&listing, &members, &policy, overrides(args), context.now(), &zone)
        }
    };
    let titles = if groups.is_empty() { vec![None] } else { groups.iter().map(Some).collect() };
    let case = Case { context, args, listing: &listing, plan: &plan, titles, emptied, zone };
    case.carry_out(&repository)
}

fn nothing_yet(context: &Context, args: &Args, repository: &Arc<Repository>) -> Outcome {
    let told = match context.output.json {
        true => context.output.result(&serde_json::json!([])),
        false => context.output.say("nothing to forget: there are no such snapshots yet"),
    };
    let code = context.output.told(told, 0);
    match args.prunes() && !context.global.dry_run {
        true => prune::after(context, repository, &args.limits, &args.trash),
        false => Ok(code),
    }
}

/// What can be said without a repository.
fn check_words(args: &Args) -> std::result::Result<(), Failure> {
    let narrowed = !args.host.is_empty() || !args.tag.is_empty() || !args.path.is_empty();
    if !args.snapshots.is_empty() {
        if args.policy.is_given() {
            return Err(Failure::usage("give the snapshots to forget or a policy, not both"));
        }
    } else if args.policy.policy().is_empty() && !(args.allow_remove_all && narrowed) {
        let what = "nothing was forgotten: there is no policy; name snapshots or give a rule such as --keep-daily 7 \
                    (all of a selection: --host, --tag or --path with --allow-remove-all)";
        return Err(Failure::new(REFUSED, what));
    }
    Ok(())
}

fn overrides(args: &Args) -> Overrides {
    Overrides {
        remove_all: args.allow_remove_all,
        remove_most: args.allow_remove_most || args.allow_remove_all,
        anomalies: args.ignore_anomalies,
        pinned: args.pinned,
        unread_notes: args.ignore_unreadable_notes,
    }
}

/// The snapshots meant, oldest first, and those of them that are in the trash already.
fn select<'a>(
    context: &Context,
    args: &Args,
    listing: &'a Listing,
    filter: &SnapshotFilter,
) -> Result<(Vec<Listed>, Vec<&'a Forgotten>)> {
    if args.snapshots.is_empty() {
        known_words(listing, filter)?;
        let chosen: Vec<Listed> =
            listing.snapshots.iter().filter(|s| filter.matches(&s.record)).cloned().collect();
        if chosen.is_empty() {
            let what = if listing.snapshots.is_empty() {
                "nothing was forgotten: there are no snapshots"
            } else {
                "nothing was forgotten: no snapshot matches the host, tags and paths asked for"
            };
            return Err(Error::new(ErrorKind::NotFound, what));
        }
        return Ok((chosen, Vec::new()));
    }
    let (mut named, mut emptied): (Vec<_>, Vec<&Forgotten>) = (Vec::new(), Vec::new());
    for text in &args.snapshots {
        match resolve(listing, text, filter, context.now()) {
            Ok(listed) => named.push(listed.id),
            Err(e) if args.no_trash && e.kind() == ErrorKind::NotFound => {
                let gone = crate::forget::undelete::resolve(listing, text, filter).map_err(|_| e)?;
                if emptied.iter().all(|f| f.listed.id != gone.listed.id) {
                    emptied.push(gone);
                }
            }
            Err(e) => return Err(e.context("nothing was forgotten")),
        }
    }
    Ok((listing.snapshots.iter().filter(|s| named.contains(&s.id)).cloned().collect(), emptied))
}

/// A word that fits nothing is a slip: it must not make a policy sharper or wider than it was meant.
fn known_words(listing: &Listing, filter: &SnapshotFilter) -> Result<()> {
    let unknown = |what: &str, word: &str| {
        Err(Error::new(
            ErrorKind::NotFound,
            format!("nothing was forgotten: no snapshot has the {what} `{word}`"),
        ))
    };
    let any = |fits: &dyn Fn(&Listed) -> bool| listing.snapshots.iter().any(fits);
    for host in &filter.hosts {
        if !any(&|l| l.record.hostname == *host) {
            return unknown("host", &escape(host.as_bytes()));
        }
    }
    for path in &filter.paths {
        if !any(&|l| l.record.paths.contains(path)) {
            return unknown("path", &escape(&decode_path(path)));
        }
    }
    known_tags(listing, &filter.tags)
}

fn known_tags(listing: &Listing, sets: &[Vec<String>]) -> Result<()> {
    for set in sets {
        let only = SnapshotFilter { tags: vec![set.clone()], ..SnapshotFilter::default() };
        if !listing.snapshots.iter().any(|l| only.matches(&l.record)) {
            let tags = escape(set.join(",").as_bytes());
            let what = match tags.as_str() {
                "" => "nothing was forgotten: every snapshot has tags".to_owned(),
                tags => format!("nothing was forgotten: no snapshot has the tags `{tags}`"),
            };
            return Err(Error::new(ErrorKind::NotFound, what));
        }
    }
    Ok(())
}

impl Case<'_> {
    fn carry_out(&self, repository: &Arc<Repository>) -> Outcome {
        let dry = self.context.global.dry_run;
        if !dry {
            self.plan.permitted()?;
        }
        let mut watch = Watch::beside_results(self.context);
        let freed = self.freed(repository, &watch);
        watch.finish();
        let freed = freed?;
        for line in &self.plan.held {
            self.context.output.warn(Code::ForgetHeld, line);
        }
        let told = self.tell(freed);
        if dry {
            told?;
            self.plan.permitted()?;
            return Ok(self.code(&ForgetReport::default()));
        }
        let mut ids: Vec<_> = self.plan.removed().map(|l| l.id).collect();
        ids.extend(self.emptied.iter().map(|f| f.listed.id));
        let options = ForgetOptions {
            for_good: self.args.no_trash,
            pinned: self.args.pinned,
            host: crate::os::process::host_name(),
        };
        let done = forget(repository, &ids, &options, self.context.now(), &watch.report)?;
        let said = told.and_then(|()| self.summary(&done, freed));
        let code = self.context.output.told(said, self.code(&done));
        match self.args.prunes() {
            true => prune::after(self.context, repository, &self.args.limits, &self.args.trash)
                .map(|pruned| if pruned == 0 { code } else { pruned }),
            false => Ok(code),
        }
    }

    fn code(&self, done: &ForgetReport) -> u8 {
        match (done.failed.is_empty(), done.forgotten.is_empty()) {
            (false, true) => FAILED,
            (false, false) => INCOMPLETE,
            _ if !self.plan.held.is_empty() || !done.pinned.is_empty() => REFUSED,
            _ if !self.listing.damaged.is_empty() => DAMAGED,
            _ => 0,
        }
    }

    /// What nothing outside the trash needs any more; when all is deleted at once, nothing at all.
    fn freed(&self, repository: &Repository, watch: &Watch) -> Result<Option<Freed>> {
        let mut leaving: Vec<&Listed> = self.plan.removed().collect();
        leaving.extend(self.emptied.iter().map(|f| &f.listed));
        if leaving.is_empty() {
            return Ok(Some(Freed::default()));
        }
        let goes = |l: &&Listed| leaving.iter().any(|gone| gone.id == l.id);
        let staying: Vec<&Listed> = match self.args.no_trash {
            true => self.listing.live().filter(|l| !goes(l)).collect(),
            false => self.listing.snapshots.iter().filter(|l| !goes(l)).collect(),
        };
        let asked = self.context.global.dry_run || self.context.output.verbose > 0 || self.args.prunes();
        let most = if asked { None } else { Some(GROUPS_AT_ONCE) };
        match compute(repository, &leaving, &staying, most, &watch.progress) {
            Err(e) if e.kind().is_unreadable() => {
                self.context
                    .output
                    .warn(Code::FreedUnknown, &format!("what this frees cannot be computed: {e}"));
                Ok(None)
            }
            other => other,
        }
    }

    fn tell(&self, freed: Option<Freed>) -> std::result::Result<(), Failure> {
        let mut paper = self.context.output.paper();
        if self.context.output.json {
            let parts = self.plan.parts.iter().zip(&self.titles);
            let groups: Vec<_> = parts.map(|(part, group)| self.json(part, *group, freed).value()).collect();
            paper.json(&groups)?;
        } else if !self.context.output.quiet {
            for (part, group) in self.plan.parts.iter().zip(&self.titles) {
                self.table(&mut paper, part, *group)?;
            }
            if let Some(freed) = freed.filter(|f| *f != Freed::default()) {
                let what = format!("needed by no other snapshot: {}", amount(freed));
                paper.line(&what)?;
            }
        }
        paper.finish()
    }

    fn json(&self, part: &Part<'_>, group: Option<&Group<'_>>, freed: Option<Freed>) -> Message {
        let value = |l: &Listed| {
            let json = SnapshotJson::new(l).pinned(self.listing.pins.get(&l.id));
            serde_json::to_value(json).unwrap_or_default()
        };
        let message = match group {
            Some(group) => group.key.fields(Message::default()),
            None => {
                Message::default().with("tags", None::<String>).with("host", "").with("paths", None::<String>)
            }
        };
        let reason = |(l, reasons): &(&Listed, Vec<String>)| {
            Message::default().with("snapshot", value(l)).with("matches", reasons.clone()).value()
        };
        let mut remove: Vec<_> = part.remove.iter().map(|l| value(l)).collect();
        remove.extend(self.emptied.iter().map(|f| value(&f.listed)));
        let message = message
            .with("keep", part.keep.iter().map(|(l, _)| value(l)).collect::<Vec<_>>())
            .with("remove", remove)
            .with("reasons", part.keep.iter().map(reason).collect::<Vec<_>>());
        match freed {
            Some(f) => {
                let all = Message::default().with("blobs", f.chunks).with("bytes", f.plain);
                message.with("freed_by_all", all.with("bytes_stored", f.stored).value())
            }
            None => message,
        }
    }

    fn table(
        &self,
        paper: &mut Paper,
        part: &Part<'_>,
        group: Option<&Group<'_>>,
    ) -> std::result::Result<(), Failure> {
        if let Some(group) = group {
            paper.line(&group.title())?;
        }
        let nothing = Vec::new();
        let keep: Vec<_> = part.keep.iter().map(|(l, reasons)| (*l, reasons)).collect();
        let remove = part.remove.iter().copied().chain(self.emptied.iter().map(|f| &f.listed));
        let remove: Vec<_> = remove.map(|l| (l, &nothing)).collect();
        for (word, rows) in [("keep", keep), ("forget", remove)] {
            if rows.is_empty() {
                continue;
            }
            paper.line(&format!("{word} {}:", units::counted(rows.len() as u64, "snapshot", "snapshots")))?;
            let mut columns = vec![Column::left("ID"), Column::left("Time"), Column::shrinking("Tags")];
            columns.push(if word == "keep" {
                Column::shrinking("Reasons")
            } else {
                Column::shrinking("Paths")
            });
            columns.push(Column::right("Size"));
            let mut table = Table::new(columns);
            for (listed, reasons) in rows {
                table.row(self.row(listed, reasons));
            }
            for line in table.lines(self.context.output.width(), self.context.output.colours()) {
                paper.line(&line)?;
            }
            paper.line("")?;
        }
        Ok(())
    }

    fn row(&self, listed: &Listed, reasons: &[String]) -> Vec<Vec<String>> {
        let record = &listed.record;
        let name = |text: &String| escape(text.as_bytes());
        let time = listed.time().map_or_else(|| name(&record.time), |t| t.in_zone(&self.zone));
        let paths = || record.paths.iter().map(|p| escape(&decode_path(p))).collect();
        vec![
            vec![listed.id.short()],
            vec![time],
            record.tags.iter().map(name).collect(),
            if reasons.is_empty() { paths() } else { reasons.iter().map(name).collect() },
            vec![units::bytes(record.summary.total_bytes_processed)],
        ]
    }

    fn summary(&self, done: &ForgetReport, freed: Option<Freed>) -> std::result::Result<(), Failure> {
        let output = &self.context.output;
        for id in &done.pinned {
            output.warn(
                Code::PinnedMeanwhile,
                &format!("snapshot {} was pinned meanwhile and stays in the trash", id.short()),
            );
        }
        let count = units::counted(done.forgotten.len() as u64, "snapshot", "snapshots");
        if done.forgotten.is_empty() {
            return output.say("nothing was forgotten: the policy keeps every snapshot");
        }
        let what = match freed {
            Some(freed) if freed == Freed::default() => {
                "frees nothing: all they hold is needed by others".to_owned()
            }
            Some(freed) => format!("frees {}", amount(freed)),
            None => "frees what no other snapshot needs (--verbose computes how much)".to_owned(),
        };
        if self.args.no_trash {
            return output.say(&format!("deleted {count}; `prune` now {what}"));
        }
        let end = self.context.now().secs.saturating_add(self.args.trash.keep().as_secs() as i64);
        let end = crate::clock::Timestamp { secs: end, nanos: 0 }.in_zone(&self.zone);
        output.say(&format!("moved {count} to the trash; `undelete` brings them back until {end}"))?;
        output.say(&format!("after that, `prune` {what}"))
    }
}

fn amount(freed: Freed) -> String {
    let chunks = units::counted(freed.chunks, "chunk", "chunks");
    format!("{} ({chunks}, {} before compression)", units::bytes(freed.stored), units::bytes(freed.plain))
}
