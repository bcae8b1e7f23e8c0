//! What comes before anything is replaced, and what is known after: rules on what will stand there, all files ready beside it, and
//! the note that nothing was left half done.

use super::failure::{DAMAGED, FAILED, Failure, INTERRUPTED, REFUSED, VALIDATION};
use super::in_place::{Job, Planned};
use super::rules::conclusion;
use super::terminal::Watch;
use crate::codes::Code;
use crate::format::snapshot::BeforeRestore;
use crate::id::SnapshotId;
use crate::in_place::{Part, Saved};
use crate::manifest::walk::is_below;
use crate::repository::reader::Reader;
use crate::repository::restores::{covers, settle, unsettled};
use crate::repository::snapshots::{Listed, encode_path, recorded_order};
use crate::restore::{Stage, Summary};
use crate::units;
use crate::verify::{self, Changes};
use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

impl Job<'_> {
    /// Directories with rules that a restore touches: in what is put back, and around it. None for an undo: what was there before
    /// can always be had again.
    pub fn ruled(&self, reader: &Reader) -> Result<Vec<Vec<u8>>, Failure> {
        let mut bases = Vec::new();
        if self.care.no_rules || self.undone.is_some() {
            return Ok(bases);
        }
        let root = &self.from.root;
        let mut watch = Watch::beside_results(self.context);
        for part in &self.parts {
            let ends = (0..part.below.len()).filter(|&i| part.below[i] == b'/').chain([0]);
            for end in ends {
                let above = &part.below[..end];
                if !part.below.is_empty() && verify::has_rules(reader, root, above)? {
                    bases.push(above.to_vec());
                }
            }
            bases.extend(verify::ruled(reader, root, &part.below, &watch.progress)?);
        }
        watch.finish();
        bases.sort();
        bases.dedup();
        Ok(bases)
    }

    /// Tries rules on what will stand there, and refuses where they would not hold.
    pub fn validate(
        &self,
        reader: &Arc<Reader>,
        bases: &[Vec<u8>],
        changes: &Changes,
    ) -> Result<(), Failure> {
        let root = &self.from.root;
        let scratch = self.context.cache().unwrap_or_else(std::env::temp_dir);
        let mut good = true;
        for base in bases {
            let mut watch = Watch::beside_results(self.context);
            let dir = Part { below: base.clone(), base: Vec::new() }.place();
            let report = verify::stored_rules(reader, root, base).and_then(|rules| {
                let how = (scratch.as_path(), &*watch.progress);
                verify::merged(reader, (root, base.as_slice()), &dir, changes, &rules, how)
            });
            watch.finish();
            let holds = report.as_ref().is_ok_and(|report| report.passed());
            if !holds || self.context.output.verbose > 0 {
                good &= conclusion(self.context, base, report)?;
            }
        }
        if good {
            return Ok(());
        }
        let what = "the snapshot's rules would not hold after this restore; nothing was changed. Choose another snapshot, or \
                    restore all the same with --no-rules";
        Err(Failure::new(VALIDATION, what))
    }

    /// Writes all that will be put there beside its place: what cannot be read, does not fit on the disk or is damaged in itself
    /// comes out before anything is changed.
    pub fn stage(
        &self,
        reader: &Reader,
        plans: &[Planned],
        bytes: &[u64],
    ) -> Result<Vec<Option<Stage>>, Failure> {
        let without = || Ok(plans.iter().map(|_| None).collect());
        if self.care.no_stage {
            return without();
        }
        match self.staged(reader, plans, bytes) {
            Err(failure) if self.care.or_without && failure.code != INTERRUPTED => {
                let why = failure.message.unwrap_or_default();
                self.context.output.warn(
                    Code::RestoreUnstaged,
                    &format!("going on without a copy beside it, as this must go back: {why}"),
                );
                without()
            }
            staged => staged,
        }
    }

    fn staged(
        &self,
        reader: &Reader,
        plans: &[Planned],
        bytes: &[u64],
    ) -> Result<Vec<Option<Stage>>, Failure> {
        let mut stages = Vec::new();
        let mut needed: HashMap<u64, u64> = HashMap::new();
        for ((part, planned), bytes) in self.parts.iter().zip(plans).zip(bytes) {
            if planned.put.is_none() || *bytes == 0 {
                stages.push(None);
                continue;
            }
            let unchanged = "nothing was changed; --no-stage does without a copy beside it";
            let stage = Stage::beside(&part.place()).map_err(|e| e.context(unchanged))?;
            let (device, free) = stage.room()?;
            let all = needed.entry(device).or_default();
            *all = all.saturating_add(*bytes);
            if *all > free {
                let what = format!(
                    "there is no room to write {} beside {} before it is replaced, only {}; nothing was changed. Make room, or \
                     use --no-stage, which needs room for the largest file and may end half way",
                    units::bytes(*all),
                    part.place().display(),
                    units::bytes(free)
                );
                return Err(Failure::new(REFUSED, what));
            }
            stages.push(Some(stage));
        }
        let mut watch = Watch::start(self.context);
        let mut done = Summary::default();
        for (planned, stage) in plans.iter().zip(&stages) {
            if let (Some(plan), Some(stage)) = (&planned.put, stage) {
                let filled = stage.fill(reader, plan, &watch.progress, &watch.report);
                done.add(&filled.map_err(|e| e.context("nothing was changed"))?);
            }
        }
        watch.finish();
        if done.problems == 0 {
            return Ok(stages);
        }
        let what = format!(
            "{} cannot be put back, each named on standard error; nothing was changed. Choose another snapshot, or put back \
             what can be with --no-stage",
            units::counted(done.problems, "thing", "things")
        );
        Err(Failure::new(if done.damaged > 0 { DAMAGED } else { FAILED }, what))
    }

    /// Notes that this restore ended well, and with it earlier ones that had left a mixture at its places.
    pub fn settle(&self, saved: Option<&Saved>) {
        for id in saved.map(Saved::ids).unwrap_or_default().into_iter().chain(self.earlier()) {
            if let Err(e) = settle(self.repository, id, self.context.now()) {
                let what = format!("that the restore is complete could not be noted in the repository: {e}");
                self.context.output.warn(Code::RestoreNotNoted, &what);
            }
        }
    }

    /// Restores that did not end well, and whose places are all settled by this one. What was stored after one of them, be it by a
    /// backup or as a safety snapshot, may hold the mixture itself and settles nothing.
    pub fn earlier(&self) -> impl Iterator<Item = SnapshotId> {
        let from = self.from;
        let older = |listed: &Listed| listed.id == from.id || recorded_order(from, listed) == Ordering::Less;
        let all = unsettled(self.listing).into_iter();
        let settled = all.filter(|(listed, before)| older(listed) && self.makes_good(before));
        settled.map(|(listed, _)| listed.id).collect::<Vec<_>>().into_iter()
    }

    /// Whether this restore decides about everything that another was to change.
    fn makes_good(&self, before: &BeforeRestore) -> bool {
        let o = &self.options;
        let patterns = [&o.includes, &o.iincludes, &o.excludes, &o.iexcludes];
        let theirs = [&before.includes, &before.iincludes, &before.excludes, &before.iexcludes];
        let chooses = patterns == theirs || patterns.iter().all(|list| list.is_empty());
        let ours: Vec<String> =
            self.parts.iter().map(|part| format!("/{}", encode_path(&part.below))).collect();
        let reaches = before.paths.iter().all(|path| ours.iter().any(|own| covers(own, path)));
        let deletes = o.delete || !before.delete || self.undone.is_some();
        chooses && reaches && deletes
    }
}

/// Directories with rules in what a restore to another place puts there; none where only a choice of it is restored.
pub fn ruled_below(
    context: &super::context::Context,
    reader: &Reader,
    from: &Listed,
    below: &[u8],
) -> Result<Vec<Vec<u8>>, Failure> {
    let mut watch = Watch::beside_results(context);
    let bases = verify::ruled(reader, &from.root, below, &watch.progress);
    watch.finish();
    Ok(bases?.into_iter().filter(|base| is_below(base, below)).collect())
}
