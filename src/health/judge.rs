//! The judgement: facts and limits in, findings and one verdict out. Reads nothing, asks no clock.

use super::series::Series;
use super::{Class, Facts, Figures, Finding, Limits, LiveState, Status, Verdict, Wanted, trend};
use crate::clock::Timestamp;
use crate::codes::Code;
use crate::repository::checks;
use crate::units::{self, counted};
use std::time::Duration;

/// A class's backups may be so many times older than they should be before that is critical.
const HIGH_TIMES: u64 = 2;
const MEDIUM_TIMES: u64 = 3;
/// Failures of a job in a row that are critical.
const FAILURES_MAX: u64 = 3;
/// How late a planned run may be: timers are spread over minutes, machines sleep.
const LATE_BY: i64 = 3 * 3600;

/// Judges.
pub fn judge(facts: &Facts, limits: &Limits) -> Status {
    let mut judge = Judge { facts, limits, found: Vec::new(), unknown: Vec::new() };
    let mut series = Vec::new();
    for one in &facts.series {
        series.push(judge.series(one));
    }
    judge.missing();
    judge.nobody_said();
    judge.records();
    judge.check();
    judge.drill();
    judge.live();
    judge.minimum();
    judge.jobs();
    let days_left = judge.space();
    let Judge { mut found, unknown, .. } = judge;
    found.sort_by(|a, b| (b.severity, a.code, &a.subject).cmp(&(a.severity, b.code, &b.subject)));
    let since = |t: Option<Timestamp>| t.map(|t| age(facts.now, t));
    Status {
        now: facts.now,
        host: facts.host.clone(),
        place: facts.place.clone(),
        profile: facts.profile.clone(),
        target: facts.target.clone(),
        verdict: found.iter().map(|f| f.severity).max().unwrap_or_default(),
        seen: true,
        findings: found,
        series,
        snapshots: facts.snapshots,
        space: facts.space,
        days_left,
        check_age_seconds: since(checks::last(&facts.checks, false).and_then(|c| c.at())),
        read_age_seconds: since(checks::last(&facts.checks, true).and_then(|c| c.at())),
        drill_age_seconds: since(facts.drill_proven.as_ref().and_then(|d| d.drilled.at())),
        live: facts.live.iter().filter(|l| !matches!(l.state, LiveState::Unseen(_))).count() as u64,
        unknown,
    }
}

/// Seconds from `then` to `now`; none where the clock says that it is still to come.
fn age(now: Timestamp, then: Timestamp) -> u64 {
    u64::try_from(now.secs.saturating_sub(then.secs)).unwrap_or(0)
}

/// `4 days`, `26 h`, `12 min`: as much as an age needs.
fn span(seconds: u64) -> String {
    match seconds {
        0..120 => counted(seconds, "second", "seconds"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

struct Judge<'a> {
    facts: &'a Facts,
    limits: &'a Limits,
    found: Vec<Finding>,
    unknown: Vec<String>,
}

impl Judge<'_> {
    fn find(&mut self, code: Code, severity: Verdict, subject: impl Into<String>, cause: impl Into<String>) {
        self.found.push(Finding::new(code, severity, subject, cause));
    }

    /// What the profile says of a series.
    fn wanted(&self, series: &Series) -> Option<&Wanted> {
        let by_name = |w: &&Wanted| {
            series.set.as_deref() == Some(&w.set) && series.profile.as_deref().is_none_or(|p| p == w.profile)
        };
        // What is of a set says so; what was made before there were sets is known by its paths.
        let nameless = series.set.is_none() && series.host == self.facts.host;
        let by_paths = |w: &&Wanted| nameless && same_paths(&series.paths, &w.paths);
        let wanted = &self.facts.wanted;
        wanted.iter().find(by_name).or_else(|| wanted.iter().find(by_paths))
    }

    /// How old its newest good snapshot may be, and how much hangs on it; `None` where nobody expects any.
    fn expected(&self, series: &Series) -> Option<(Duration, Class)> {
        if let Some(wanted) = self.wanted(series) {
            let age = wanted.max_age.or(wanted.scheduled.then(|| self.limits.age(wanted.class)));
            return age.or(self.facts.max_age).map(|age| (age, wanted.class));
        }
        // Of the profile at hand, but no longer in it: nobody expects any more.
        if series.profile.is_some() && series.profile == self.facts.profile && series.host == self.facts.host
        {
            return None;
        }
        let class = series.class.unwrap_or_default();
        series.max_age.or(self.facts.max_age).map(|age| (age, class))
    }

    fn series(&mut self, series: &Series) -> Figures {
        let expected = self.expected(series);
        let now = self.facts.now;
        let since = |t: Option<Timestamp>| t.map(|t| age(now, t));
        let good = series.newest_good();
        let newest = series.newest();
        let figures = Figures {
            name: series.name(),
            host: series.host.clone(),
            set: series.set.clone(),
            snapshots: series.snapshots,
            age_seconds: since(newest.and_then(|p| p.time)),
            good_age_seconds: since(good.and_then(|p| p.time)),
            max_age_seconds: expected.map(|(age, _)| age.as_secs()),
            files: newest.map_or(0, |p| p.files),
            bytes: newest.map_or(0, |p| p.bytes),
            added: newest.map_or(0, |p| p.added),
        };
        let name = self.subject(series);
        let current = match expected {
            Some((max_age, class)) => {
                self.fresh(&name, &figures, max_age.as_secs(), class);
                true
            }
            None => figures.age_seconds.is_some_and(|age| age <= self.limits.age_medium.as_secs()),
        };
        if current {
            self.newest(&name, series, expected.map_or(Class::High, |(_, class)| class));
            let before = self.found.len();
            trend::changes(series, self.limits, &mut self.found);
            self.found[before..].iter_mut().for_each(|f| f.subject.clone_from(&name));
        }
        figures
    }

    /// Sets of several machines have one name.
    fn subject(&self, series: &Series) -> String {
        match series.set.is_some() && series.host != self.facts.host {
            true => format!("{} of {}", series.name(), series.host),
            false => series.name(),
        }
    }

    fn fresh(&mut self, name: &str, figures: &Figures, max_age: u64, class: Class) {
        let good = figures.good_age_seconds;
        if good.is_some_and(|age| age <= max_age) {
            return;
        }
        // A newer one that lacks something is told by itself; it is worth more than nothing.
        let partly = figures.age_seconds.is_some_and(|age| age <= max_age);
        let beyond = |times: u64| good.is_none_or(|age| age > max_age.saturating_mul(times));
        let severity = match class {
            _ if partly => Verdict::Warning,
            Class::Critical => Verdict::Critical,
            Class::High if beyond(HIGH_TIMES) => Verdict::Critical,
            Class::Medium if beyond(MEDIUM_TIMES) => Verdict::Critical,
            _ => Verdict::Warning,
        };
        let cause = match good {
            Some(age) => {
                format!("the newest good snapshot is {} old; {} are allowed", span(age), span(max_age))
            }
            None => "none of the newest snapshots is good".to_owned(),
        };
        self.find(Code::BackupOverdue, severity, name, cause);
    }

    fn newest(&mut self, name: &str, series: &Series, class: Class) {
        let Some(newest) = series.newest() else { return };
        if newest.problems > 0 {
            let what = counted(newest.problems, "entry", "entries");
            let cause = format!("the newest snapshot, {}, lacks {what} that could not be read", newest.id);
            self.find(Code::NewestIncomplete, Verdict::Warning, name, cause);
        }
        if newest.repaired {
            let cause = format!("the newest snapshot, {}, is what a repair left of a damaged one", newest.id);
            self.find(Code::NewestIncomplete, Verdict::Warning, name, cause);
        }
        if let Some(first) = newest.databases_failed.first() {
            let what = counted(newest.databases_failed.len() as u64, "database", "databases");
            let cause = format!("in the newest snapshot, {}, {what} did not pass: {first}", newest.id);
            self.find(Code::NewestUnsound, Verdict::Critical, name, cause);
        }
        if newest.rules_failed > 0 {
            let what = counted(newest.rules_failed, "rule does", "rules do");
            let severity = if class == Class::Critical { Verdict::Critical } else { Verdict::Warning };
            let cause = format!("in the newest snapshot, {}, {what} not hold", newest.id);
            self.find(Code::NewestUnsound, severity, name, cause);
        }
    }

    /// Sets of the profile that have no snapshot at all.
    fn missing(&mut self) {
        for wanted in &self.facts.wanted {
            let has = |s: &Series| {
                let named = s.set.as_deref() == Some(&wanted.set)
                    && s.profile.as_deref().is_none_or(|p| p == wanted.profile);
                named || (s.set.is_none() && s.host == self.facts.host && same_paths(&s.paths, &wanted.paths))
            };
            if !self.facts.series.iter().any(has) {
                let severity =
                    if wanted.class == Class::Medium { Verdict::Warning } else { Verdict::Critical };
                let next = format!("snapkeep -P {} backup --name {}", wanted.profile, wanted.set);
                let cause = "there is no snapshot of it";
                let finding = Finding::new(Code::BackupMissing, severity, &wanted.set, cause).then(next);
                self.found.push(finding);
            }
        }
    }

    /// Where nobody has said how fresh backups have to be, the newest of all must not be too old.
    fn nobody_said(&mut self) {
        let facts = self.facts;
        if !facts.wanted.is_empty() || facts.series.iter().any(|s| self.expected(s).is_some()) {
            return;
        }
        if facts.snapshots == 0 {
            return self.find(Code::BackupMissing, Verdict::Critical, &facts.place, "there is no snapshot");
        }
        let newest = facts.series.iter().filter_map(|s| s.newest_good()?.time).max();
        let (max_age, class) = (self.limits.age_high.as_secs(), Class::High);
        let good_age_seconds = newest.map(|t| age(facts.now, t));
        let figures = Figures { good_age_seconds, ..Figures::default() };
        self.fresh("all backups", &figures, max_age, class);
        self.unknown
            .push("how fresh backups have to be: neither a profile nor --fresh-within says it".to_owned());
    }

    fn records(&mut self) {
        let facts = self.facts;
        for (id, why) in &facts.unreadable {
            self.find(Code::SnapshotUnreadable, Verdict::Critical, id, why);
        }
        let mut some = |count: u64, code, one: &str, many: &str| {
            if count > 0 {
                self.find(code, Verdict::Warning, &facts.place, counted(count, one, many));
            }
        };
        some(facts.unread_notes, Code::NoteUnreadable, "note cannot be read", "notes cannot be read");
        some(facts.from_copies, Code::RecordCopyUsed, "record is damaged", "records are damaged");
        some(
            facts.copies_missing,
            Code::CopiesMissing,
            "record has no second copy",
            "records have no second copy",
        );
        some(facts.parity_missing, Code::ParityMissing, "pack has no parity", "packs have no parity");
        if let Some(first) = facts.future.first() {
            let what = counted(facts.future.len() as u64, "snapshot is", "snapshots are");
            let cause = format!("{what} from the future by this machine's clock: {first}");
            self.find(Code::ClockWrong, Verdict::Warning, &facts.place, cause);
        }
        for (id, places) in &facts.unsettled {
            let cause =
                format!("a restore over {places} has not ended well, or is under way (snapshot {id})");
            let next = format!("snapkeep undo {id}, or undo --accept {id} if what is there is right");
            self.found.push(Finding::new(Code::MixturePossible, Verdict::Warning, places, cause).then(next));
        }
    }

    /// Whether something that should be done every so often has not been for too long, or never since the first snapshot.
    fn overdue(&self, last: Option<Timestamp>, max: Duration) -> Option<String> {
        let since = last.or(self.facts.oldest)?;
        let seconds = age(self.facts.now, since);
        (seconds > max.as_secs()).then(|| match last {
            Some(_) => format!("the last one was {} ago; {} are allowed", span(seconds), span(max.as_secs())),
            None => format!("there has been none since the first snapshot, {} ago", span(seconds)),
        })
    }

    fn check(&mut self) {
        let checks = &self.facts.checks;
        let last = checks::last(checks, false).and_then(|c| c.at());
        if let Some(bad) = checks::standing_damage(checks) {
            let why = bad.done.reasons.first().map(|r| format!(": {r}")).unwrap_or_default();
            let (found, unseen) = (bad.done.damage, bad.done.unchecked);
            let severity = if found > 0 { Verdict::Critical } else { Verdict::Warning };
            let what = match found {
                0 => counted(unseen, "file could not be looked at", "files could not be looked at"),
                _ => counted(found, "finding", "findings"),
            };
            let cause = format!("the check of {}: {what}{why}", bad.time);
            self.find(Code::CheckFound, severity, &self.facts.place, cause);
        }
        if let Some(cause) = self.overdue(last, self.limits.check_age) {
            self.find(Code::CheckOverdue, Verdict::Warning, &self.facts.place, cause);
        }
    }

    fn drill(&mut self) {
        let proven = self.facts.drill_proven.as_ref().and_then(|d| d.drilled.at());
        if let Some(last) = self.facts.drill_last.as_ref().filter(|d| !d.drilled.done.passed) {
            let why = last.drilled.done.reasons.first().map(|r| format!(": {r}")).unwrap_or_default();
            let cause =
                format!("the drill of {} with snapshot {} failed{why}", last.drilled.time, last.snapshot);
            self.find(Code::DrillFailed, Verdict::Critical, &self.facts.place, cause);
        }
        if let Some(cause) = self.overdue(proven, self.limits.drill_age) {
            self.find(Code::DrillOverdue, Verdict::Warning, &self.facts.place, cause);
        }
    }

    fn live(&mut self) {
        for one in &self.facts.live {
            let path = &one.path;
            match &one.state {
                LiveState::Sound => {}
                LiveState::Orphans(n) => {
                    let cause = counted(*n, "row refers", "rows refer") + " to rows that are not there";
                    self.find(Code::LiveOrphans, Verdict::Warning, path, cause);
                }
                LiveState::Damaged(why) => self.find(Code::LiveDamaged, Verdict::Critical, path, why),
                LiveState::Gone => {
                    let cause = "it was in the newest backup and is not there now";
                    self.find(Code::LiveGone, Verdict::Warning, path, cause);
                }
                LiveState::Unseen(why) => {
                    self.find(Code::LiveUnseen, Verdict::Warning, path, why);
                    self.unknown.push(format!("{path}: {why}"));
                }
            }
        }
    }

    /// What a profile says that a good backup holds at least.
    fn minimum(&mut self) {
        for wanted in &self.facts.wanted {
            let newest =
                self.facts.series.iter().find(|s| self.wanted(s) == Some(wanted)).and_then(|s| s.newest());
            let Some(newest) = newest else { continue };
            let mut too_few = Vec::new();
            let mut least = |what: &str, is: u64, min: Option<u64>, shown: &dyn Fn(u64) -> String| {
                if let Some(min) = min.filter(|min| is < *min) {
                    too_few.push(format!("{} {what}, at least {} are wanted", shown(is), shown(min)));
                }
            };
            least("files", newest.files, wanted.min_files, &units::count);
            least("of content", newest.bytes, wanted.min_bytes, &units::bytes);
            for (table, min) in &wanted.min_rows {
                let named = |name: &String| {
                    name == table
                        || name.rsplit_once(':').is_some_and(|(_, t)| t == table)
                        || name
                            .strip_suffix(table.as_str())
                            .is_some_and(|head| head.ends_with('/') && table.contains(':'))
                };
                let rows =
                    newest.rows.iter().filter(|(name, _)| named(name)).map(|(_, n)| *n).max().unwrap_or(0);
                least(&format!("rows in {table}"), rows, Some(*min), &units::count);
            }
            for cause in too_few {
                self.find(
                    Code::TooLittle,
                    Verdict::Critical,
                    &wanted.set,
                    format!("{cause} (snapshot {})", newest.id),
                );
            }
        }
    }

    fn jobs(&mut self) {
        let now = self.facts.now;
        for job in &self.facts.jobs {
            if job.consecutive_failures > 0 {
                let severity = if job.consecutive_failures >= FAILURES_MAX {
                    Verdict::Critical
                } else {
                    Verdict::Warning
                };
                let times = counted(job.consecutive_failures, "time", "times");
                let cause = format!("it failed {times} in a row: {}", job.last_message);
                self.find(Code::JobFailing, severity, &job.name, cause.trim_end_matches([':', ' ']));
            }
            let late = job.next.filter(|next| job.scheduled && now.secs - next.secs > LATE_BY);
            if let Some(next) = late {
                let cause = format!("it was to run {} ago", span(age(now, next)));
                self.find(Code::SchedulerSilent, Verdict::Warning, &job.name, cause);
            }
        }
    }

    fn space(&mut self) -> Option<f64> {
        let Some(space) = self.facts.space.filter(|s| s.total > 0) else {
            self.unknown.push("how much room the repository's disk has".to_owned());
            return None;
        };
        let free = space.free as f64 / space.total as f64;
        let severity = match free {
            f if f < self.limits.free_critical => Verdict::Critical,
            f if f < self.limits.free_warn => Verdict::Warning,
            _ => Verdict::Ok,
        };
        let place = &self.facts.place;
        if severity > Verdict::Ok {
            let cause = format!("{} free, {:.1} %", units::bytes(space.free), free * 100.0);
            self.find(Code::SpaceLow, severity, place, cause);
        }
        let days = trend::days_left(self.facts.now, space, &self.facts.added);
        let limit = self.limits.full_within.as_secs_f64() / 86_400.0;
        if let Some(days) = days.filter(|days| *days < limit) {
            let cause = format!("at the pace of the last weeks the disk is full in {days:.0} days");
            self.find(Code::SpaceEnding, Verdict::Warning, place, cause);
        }
        days
    }
}

fn same_paths(a: &[String], b: &[String]) -> bool {
    let sorted = |paths: &[String]| {
        let mut paths = paths.to_vec();
        paths.sort();
        paths
    };
    !a.is_empty() && sorted(a) == sorted(b)
}
