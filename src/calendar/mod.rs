//! Schedules: texts that say when something is to run, and the next moment at which it is.
//!
//! Three ways of saying it are understood: `every 6h`, systemd's calendar events (`Mon..Fri 18:00`, `*-*~1 03:00`, `daily`), and
//! cron's five fields. All of it is arithmetic: the clock and the zone are given.
//!
//! Clocks that are put forward or back: a time of day that does not come that day counts once, at the moment the gap ends; one
//! that comes twice counts the first time. What runs in every hour of the day runs in every hour that passes.

mod cron;
mod days;
mod event;
mod parts;

use crate::clock::{Timestamp, Zone};
use crate::error::{Error, Result};
use days::Civil;
use event::Event;
use std::fmt;
use std::time::Duration;

/// The shortest interval; a schedule is no loop.
const INTERVAL_MIN: Duration = Duration::from_secs(1);
/// How many coming moments are looked at to say how far apart they are.
const GAPS: usize = 100;

/// One text of a schedule, understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Expression {
    text: String,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    /// Seconds from one run to the next.
    Every(i64),
    At(Event, Option<(Zone, String)>),
}

impl Expression {
    /// `every DURATION`, a calendar event of systemd's, or five fields of cron's; the last two may end with a time zone.
    pub fn parse(text: &str) -> Result<Self> {
        let trimmed = text.trim();
        let told = |e: Error| e.context(format!("the schedule `{trimmed}` is not understood"));
        let kind = parse(trimmed).map_err(told)?;
        let expression = Expression { text: trimmed.to_owned(), kind };
        if let Kind::At(event, _) = &expression.kind
            && event.next(Civil::FIRST).is_none()
        {
            let what = format!("the schedule `{trimmed}` names a day that never comes");
            return Err(Error::invalid(what));
        }
        Ok(expression)
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The first moment after `after` at which it is to run, to the second; `None` when there is none any more. Times of day
    /// are those of `zone`, unless the expression names its own.
    pub fn next(&self, after: Timestamp, zone: &Zone) -> Option<Timestamp> {
        match &self.kind {
            Kind::Every(seconds) => {
                let secs = after.secs.checked_add(*seconds)?;
                Some(Timestamp { secs, nanos: after.nanos })
            }
            Kind::At(event, own) => {
                let zone = own.as_ref().map_or(zone, |(zone, _)| zone);
                let secs = next_of_event(event, after.secs.checked_add(1)?, zone)?;
                Some(Timestamp { secs, nanos: 0 })
            }
        }
    }

    /// Whether runs are a fixed span apart, so that each is counted from the one before and not from the calendar.
    pub fn interval(&self) -> Option<Duration> {
        match self.kind {
            Kind::Every(seconds) => Some(Duration::from_secs(seconds.unsigned_abs())),
            Kind::At(..) => None,
        }
    }

    /// Whether it says itself whose hours it means.
    pub fn names_zone(&self) -> bool {
        matches!(self.kind, Kind::At(_, Some(_)))
    }

    /// The same in systemd's words: one line or several for `OnCalendar=`; none for an interval, and for the few things that
    /// only cron can say.
    pub fn on_calendar(&self) -> Vec<String> {
        let Kind::At(event, own) = &self.kind else { return Vec::new() };
        let zone = own.as_ref().map(|(_, name)| format!(" {name}")).unwrap_or_default();
        event.on_calendar().into_iter().map(|line| line + &zone).collect()
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The first moment after `after` of any of these.
pub fn next(all: &[Expression], after: Timestamp, zone: &Zone) -> Option<Timestamp> {
    all.iter().filter_map(|expression| expression.next(after, zone)).min()
}

/// The longest and the shortest time between runs in the nearest future; `None` for fewer than two runs.
pub fn gaps(all: &[Expression], from: Timestamp, zone: &Zone) -> Option<(Duration, Duration)> {
    let mut at = next(all, from, zone)?;
    let mut found: Option<(i64, i64)> = None;
    for _ in 0..GAPS {
        let Some(then) = next(all, at, zone) else { break };
        let gap = then.secs - at.secs;
        found = Some(found.map_or((gap, gap), |(longest, shortest)| (longest.max(gap), shortest.min(gap))));
        at = then;
    }
    let span = |secs: i64| Duration::from_secs(secs.unsigned_abs());
    found.map(|(longest, shortest)| (span(longest), span(shortest)))
}

fn parse(text: &str) -> Result<Kind> {
    if text.is_empty() {
        return Err(Error::invalid("it is empty"));
    }
    if let Some(span) = text.strip_prefix("every ") {
        let span = crate::units::parse_duration(span)?;
        if span < INTERVAL_MIN {
            return Err(Error::invalid("an interval takes at least a second"));
        }
        let secs = i64::try_from(span.as_secs()).map_err(|_| Error::invalid("that is too long"))?;
        return Ok(Kind::Every(secs));
    }
    let mut words: Vec<&str> = text.split_whitespace().collect();
    let zone = own_zone(&words)?;
    if zone.is_some() {
        words.pop();
    }
    let event = match (words.as_slice(), words.first()) {
        ([nickname], _) if nickname.starts_with('@') => cron::parse_nickname(nickname)?,
        (_, Some(_)) if words.len() == 5 && !text.contains(':') => cron::parse(&words)?,
        _ => event::parse(&words)?,
    };
    Ok(Kind::At(event, zone))
}

/// The zone that is the last of several words.
fn own_zone(words: &[&str]) -> Result<Option<(Zone, String)>> {
    let (Some(last), true) = (words.last(), words.len() > 1) else { return Ok(None) };
    // Nothing else in a schedule has whole words on both sides of a slash.
    let (area, place) = last.split_once('/').unwrap_or_default();
    let letters = |text: &str, more: &str| {
        text.len() > 2 && text.chars().all(|c| c.is_ascii_alphabetic() || more.contains(c))
    };
    if *last != "UTC" && !(letters(area, "_") && letters(place, "_-/+")) {
        return Ok(None);
    }
    Ok(Some((Zone::parse(last)?, (*last).to_owned())))
}

/// The first second at or after `at` at which the event is due by the clocks of the zone.
///
/// Between two changes of the zone's offset clocks and seconds run side by side; each such stretch is searched in turn.
fn next_of_event(event: &Event, at: i64, zone: &Zone) -> Option<i64> {
    let mut at = at;
    loop {
        let now = Timestamp { secs: at, nanos: 0 };
        let offset = i64::from(zone.offset(now));
        let mut from = at.checked_add(offset)?;
        if !event.is_hourly()
            && let Some((when, before)) = zone.change_until(now)
        {
            let (when, before) = (when.secs, i64::from(before));
            // Put forward at this very second: what stood in the gap is due now.
            let skipped =
                || event.next(Civil::at(when + before)).is_some_and(|c| c.seconds() < when + offset);
            if when == at && before < offset && skipped() {
                return Some(at);
            }
            // Put back: what the clocks show for the second time was due the first time.
            from = from.max(when + before);
        }
        let found = event.next(Civil::at(from))?.seconds() - offset;
        match zone.change_after(now) {
            // The stretch ends before that.
            Some((end, _)) if found >= end.secs => at = end.secs,
            _ => return Some(found),
        }
    }
}
